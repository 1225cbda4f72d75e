// SPDX-License-Identifier: GPL-2.0-only
/*
 * What looks below a directory on behalf of its caller, as uapi/vexfs.h has it: searches, the rows of a
 * collection, the paths of an inode.
 */

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "commands.h"
#include "trace.h"

#define GROUPS_MAX_ASKED 65536

static_assert(sizeof(struct vexfs_ioc_hit) == 64);
static_assert(sizeof(struct vexfs_ioc_search) == 192);

/* Nobody is called to account for what is only looked at. */
static bool reads_everything(struct user_namespace *namespace)
{
	return ns_capable_noaudit(namespace, CAP_DAC_READ_SEARCH) ||
	       ns_capable_noaudit(namespace, CAP_DAC_OVERRIDE);
}

/* Whether the caller is above the permissions of some files, those whose owners a namespace knows. */
static bool is_above_others_elsewhere(const struct super_block *sb)
{
	return current_user_ns() != sb->s_user_ns && reads_everything(current_user_ns());
}

/*
 * Whether the caller may read every file, or else the device itself, and so may know how many vectors there
 * are of whatever file.
 */
bool vexfs_may_count(const struct file *file)
{
	const struct super_block *sb = file_inode(file)->i_sb;

	if (ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN))
		return true;
	return !VEXFS_SB(sb)->labelled && !is_idmapped_mnt(file->f_path.mnt) &&
	       reads_everything(sb->s_user_ns);
}

/*
 * Fills in who asks, unless that is somebody above permissions, and who is to be asked besides. drop_query()
 * frees it.
 */
static int set_caller(struct vexfs_query *query, struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;
	bool maps = is_idmapped_mnt(file->f_path.mnt) || is_above_others_elsewhere(sb);
	const struct cred *cred = current_cred();
	const struct group_info *groups = cred->group_info;
	u32 *numbers;
	int error, i;

	if (unlikely(VEXFS_SB(sb)->labelled || maps)) {
		error = vexfs_monitor_open(file, query);
		/* What anybody may do who is mapped, the kernel alone knows. */
		if (error || maps)
			return error;
	}
	if (reads_everything(sb->s_user_ns))
		return 0;
	query->fields |= VEXFS_QUERY_CREDENTIALS;
	if (IS_ENABLED(CONFIG_FS_POSIX_ACL) && sb->s_flags & SB_POSIXACL)
		query->fields |= VEXFS_QUERY_LISTS;
	query->uid = from_kuid(sb->s_user_ns, cred->fsuid);
	query->gid = from_kgid(sb->s_user_ns, cred->fsgid);
	if (!groups->ngroups)
		return 0;
	numbers = kvmalloc_array(min(groups->ngroups, GROUPS_MAX_ASKED), sizeof(u32), GFP_KERNEL);
	if (!numbers)
		return -ENOMEM;
	for (i = 0; i < min(groups->ngroups, GROUPS_MAX_ASKED); i++)
		numbers[i] = from_kgid(sb->s_user_ns, groups->gid[i]);
	query->groups = numbers;
	query->groups_count = i;
	return 0;
}

/* Frees what a query points to. */
static void drop_query(struct vexfs_query *query)
{
	vexfs_monitor_close(query);
	kvfree(query->queries);
	kvfree(query->suffix);
	kvfree(query->groups);
}

/* ---- the rows of a collection ---- */

/* Rows that are read at a time. */
#define ROWS_AT_ONCE 1024

struct row_list {
	struct vexfs_ioc_vector *vectors;
	u64 *inodes;
	u32 *rows;
	u32 count;
	u32 most;
	bool counted;
};

/*
 * A row's number tells how many are before it, which may be of files that the caller may not read. So what is
 * told in its place is another, which follows from a key of the mount: four rounds of Feistel's. 0 is the
 * beginning, and no row's.
 */
static u32 scrambled(const struct vexfs_super *super, u32 row)
{
	u16 left = row >> 16, right = row;
	u32 round;

	for (round = 0; round < 4; round++) {
		u16 next = left ^ hsiphash_2u32(round, right, &super->row_key);

		left = right;
		right = next;
	}
	return (u32)left << 16 | right;
}

static u32 unscrambled(const struct vexfs_super *super, u32 told)
{
	u16 left = told >> 16, right = told;
	u32 round;

	for (round = 4; round-- > 0;) {
		u16 before = right ^ hsiphash_2u32(round, left, &super->row_key);

		right = left;
		left = before;
	}
	return (u32)left << 16 | right;
}

static u32 told_row(const struct vexfs_super *super, u32 row)
{
	return scrambled(super, row) ?: scrambled(super, 0);
}

static u32 row_of(const struct vexfs_super *super, u32 told)
{
	return !told ? 0 : unscrambled(super, told == scrambled(super, 0) ? 0 : told);
}

static int make_row_list(struct row_list *list, u32 most)
{
	list->most = most;
	list->vectors = kvcalloc(most, sizeof(*list->vectors), GFP_KERNEL_ACCOUNT);
	list->inodes = kvcalloc(most, sizeof(*list->inodes), GFP_KERNEL_ACCOUNT);
	list->rows = kvcalloc(most, sizeof(*list->rows), GFP_KERNEL_ACCOUNT);
	return list->vectors && list->inodes && list->rows ? 0 : -ENOMEM;
}

static void drop_row_list(struct row_list *list)
{
	kvfree(list->rows);
	kvfree(list->inodes);
	kvfree(list->vectors);
}

static bool note_row(void *context, const struct vexfs_vector *vector)
{
	struct row_list *list = context;

	if (list->count == list->most)
		return false;
	list->rows[list->count] = vector->row;
	list->inodes[list->count] = vector->inode;
	vexfs_describe_vector(&list->vectors[list->count++], vector, list->counted);
	return true;
}

/*
 * Moves rows of files that the caller may read from one list to another. 1 if there is such a row for
 * which there is no room.
 */
static int keep_readable(struct vexfs_core *core, const struct vexfs_query *query,
			 const struct row_list *all, struct row_list *kept)
{
	u64 inode = 0;
	int may = 0;
	u32 i;

	for (i = 0; i < all->count; i++) {
		/* Rows of one file mostly follow each other. */
		if (all->inodes[i] != inode)
			may = vexfs_core_may_read(core, query, all->inodes[i]);
		if (may < 0 && may != -ESTALE)
			return may;
		inode = all->inodes[i];
		if (may > 0) {
			if (kept->count == kept->most)
				return 1;
			kept->vectors[kept->count] = all->vectors[i];
			kept->inodes[kept->count] = inode;
			kept->rows[kept->count++] = all->rows[i];
		}
		if (vexfs_host_interrupted())
			return -ERESTARTSYS;
		cond_resched();
	}
	return 0;
}

/* Fills a list. What the caller may not read is passed over, so that no page tells of it. */
static int list_rows(struct vexfs_core *core, const struct vexfs_query *query, u32 from,
		     struct row_list *kept)
{
	struct row_list all = { .counted = kept->counted };
	int error = make_row_list(&all, min(kept->most + 1, ROWS_AT_ONCE));

	while (!error) {
		all.count = 0;
		error = vexfs_core_rows_of(core, query->collection, from, note_row, &all) ?:
			keep_readable(core, query, &all, kept);
		if (all.count < all.most)
			break;
		from = all.rows[all.count - 1] + 1;
	}
	drop_row_list(&all);
	return error;
}

int vexfs_command_rows(struct file *file, void __user *argument)
{
	struct inode *dir = file_inode(file);
	struct super_block *sb = dir->i_sb;
	struct vexfs_super *super = VEXFS_SB(sb);
	struct vexfs_query query = { .scope = dir->i_ino };
	struct row_list list = { .counted = vexfs_may_count(file) };
	struct vexfs_ioc_rows args;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.more || !args.count)
		return -EINVAL;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	query.collection = args.collection;
	error = make_row_list(&list, min_t(u32, args.count, VEXFS_COUNT_MAX)) ?:
		set_caller(&query, file);
	if (!error)
		error = list_rows(super->core, &query, row_of(super, args.from), &list);
	if (error >= 0) {
		args.more = error;
		error = 0;
	}
	vexfs_check(sb, error, "collection", args.collection);
	args.count = list.count;
	if (list.count)
		args.from = told_row(super, list.rows[list.count - 1] + 1);
	if (!error && (copy_to_user(u64_to_user_ptr(args.vectors), list.vectors,
				    list.count * sizeof(*list.vectors)) ||
		       copy_to_user(u64_to_user_ptr(args.inodes), list.inodes,
				    list.count * sizeof(*list.inodes))))
		error = -EFAULT;
	drop_query(&query);
	drop_row_list(&list);
	return error ?: GIVE(args, argument);
}

/* ---- searching ---- */

struct answer {
	struct vexfs_ioc_hit *hits;
	u8 *vectors;
	size_t vector_bytes;
	u32 count;
	u32 most;
	bool overflow;
};

static bool note_hit(void *context, const struct vexfs_hit *hit)
{
	struct answer *answer = context;

	if (answer->count == answer->most) {
		answer->overflow = true;
		return false;
	}
	answer->hits[answer->count] = (struct vexfs_ioc_hit){
		.inode = hit->inode,
		.generation = hit->generation,
		.offset = hit->offset,
		.length = hit->length,
		.content_version = hit->content_version,
		.tag = hit->tag,
		.query = hit->query,
		.distance = hit->distance_bits,
		.chunk = hit->chunk,
		.fresh = hit->fresh,
	};
	if (answer->vectors && hit->vector) {
		if (hit->vector_bytes != answer->vector_bytes) {
			answer->overflow = true;
			return false;
		}
		memcpy(answer->vectors + answer->count * answer->vector_bytes, hit->vector,
		       hit->vector_bytes);
	}
	answer->count++;
	return true;
}

static const struct {
	u32 asked;
	u32 passed_on;
} search_flags[] = {
	{ VEXFS_SEARCH_EXACT, VEXFS_QUERY_EXACT },
	{ VEXFS_SEARCH_RADIUS, VEXFS_QUERY_RADIUS },
	{ VEXFS_SEARCH_SUFFIX, VEXFS_QUERY_SUFFIX },
	{ VEXFS_SEARCH_SIZE, VEXFS_QUERY_SIZE },
	{ VEXFS_SEARCH_MODIFIED, VEXFS_QUERY_MODIFIED },
	{ VEXFS_SEARCH_UID, VEXFS_QUERY_UID },
	{ VEXFS_SEARCH_TAG, VEXFS_QUERY_TAG },
	{ VEXFS_SEARCH_FRESH, VEXFS_QUERY_FRESH },
	{ VEXFS_SEARCH_EXCLUDE, VEXFS_QUERY_EXCLUDE },
};

static void set_time(struct vexfs_time *out, const struct vexfs_ioc_time *in)
{
	out->seconds = in->seconds;
	out->nanoseconds = in->nanoseconds;
}

/* The owner as it is stored, of one as the caller knows it; nobody's if it is none that can be stored. */
static u32 stored_owner(struct file *file, u32 uid)
{
	struct user_namespace *stored = file_inode(file)->i_sb->s_user_ns;
	vfsuid_t seen = VFSUIDT_INIT(make_kuid(current_user_ns(), uid));

	return from_kuid(stored, from_vfsuid(file_mnt_idmap(file), stored, seen));
}

/* Fills in what a search asks for; take_pointed() what it points to. */
static int set_query(struct vexfs_query *query, const struct vexfs_ioc_search *args, struct file *file)
{
	u32 known = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(search_flags); i++) {
		known |= search_flags[i].asked;
		if (args->flags & search_flags[i].asked)
			query->fields |= search_flags[i].passed_on;
	}
	if (args->flags & ~known || args->plan || args->completeness || args->hits_count ||
	    args->examined || args->unindexed || args->nanoseconds)
		return -EINVAL;
	for (i = 0; i < 2; i++) {
		if (args->modified_range[i].reserved ||
		    args->modified_range[i].nanoseconds >= NSEC_PER_SEC)
			return -EINVAL;
		query->size[i] = args->size_range[i];
		query->tag[i] = args->tag_range[i];
		set_time(&query->modified[i], &args->modified_range[i]);
	}
	if (args->flags & VEXFS_SEARCH_SUFFIX)
		query->suffix_bytes = args->suffix_bytes;
	query->queries_bytes = args->queries_bytes;
	query->collection = args->collection;
	query->k = args->k;
	query->hits_max = args->hits_max;
	query->effort = args->effort;
	query->radius_bits = args->radius;
	query->examined_max = args->examined_max;
	query->exclude = args->exclude;
	query->owner = stored_owner(file, args->uid);
	if (args->vectors)
		query->fields |= VEXFS_QUERY_VECTORS;
	return 0;
}

static void count_search(struct vexfs_super *super, u64 nanoseconds)
{
	unsigned int bucket = min_t(unsigned int, fls64(nanoseconds),
				    ARRAY_SIZE(super->search_latency) - 1);

	atomic64_inc(&super->searches);
	atomic64_inc(&super->search_latency[bucket]);
}

/* Reads what a query points to. */
static int take_pointed(struct vexfs_query *query, const struct vexfs_ioc_search *args)
{
	void *bytes = vexfs_take_bytes(args->queries, query->queries_bytes);

	if (IS_ERR(bytes))
		return PTR_ERR(bytes);
	query->queries = bytes;
	if (!query->suffix_bytes)
		return 0;
	bytes = vexfs_take_bytes(args->suffix, query->suffix_bytes);
	if (IS_ERR(bytes))
		return PTR_ERR(bytes);
	query->suffix = bytes;
	return 0;
}

/* Makes room for the hits, and for their vectors if they are asked for. */
static int make_room(struct super_block *sb, struct answer *answer,
		     const struct vexfs_ioc_search *args)
{
	int error;

	answer->most = args->hits_max;
	answer->hits = kvmalloc_array(answer->most, sizeof(*answer->hits),
				      vexfs_memory_for(array_size(answer->most, sizeof(*answer->hits))));
	if (!answer->hits)
		return -ENOMEM;
	if (!args->vectors)
		return 0;
	error = vexfs_vector_bytes(sb, args->collection, &answer->vector_bytes);
	if (error)
		return error;
	if (array_size(answer->most, answer->vector_bytes) > VEXFS_BYTES_MAX)
		return -E2BIG;
	answer->vectors = kvcalloc(answer->most, answer->vector_bytes, GFP_KERNEL_ACCOUNT);
	return answer->vectors ? 0 : -ENOMEM;
}

/* Searches, and fills in the answer and what is told of it. The command began at `start`. */
static int answer_query(struct super_block *sb, const struct vexfs_query *query,
			struct answer *answer, struct vexfs_ioc_search *args, u64 start)
{
	struct vexfs_super *super = VEXFS_SB(sb);
	struct vexfs_report report;
	int error = vexfs_core_search(super->core, query, note_hit, answer, &report);

	if (error == -EINTR)
		return -ERESTARTSYS;
	if (error)
		return vexfs_check(sb, error, "collection", args->collection);
	if (answer->overflow)
		return -EINVAL;
	if (unlikely(atomic64_read(&super->index_wanted)))
		atomic64_set(&super->index_wanted, 0);
	trace_vexfs_search(sb->s_dev, args->collection, args->k, &report, start);
	/* What it loaded may have no graph yet. */
	if (unlikely(READ_ONCE(super->index_unloaded))) {
		WRITE_ONCE(super->index_unloaded, false);
		vexfs_index_kick(super);
	}
	args->hits_count = answer->count;
	args->plan = report.plan;
	args->completeness = report.completeness;
	args->examined = report.examined;
	args->unindexed = report.unindexed;
	return 0;
}

static int give_answer(const struct answer *answer, const struct vexfs_ioc_search *args)
{
	if (copy_to_user(u64_to_user_ptr(args->hits), answer->hits,
			 answer->count * sizeof(*answer->hits)))
		return -EFAULT;
	if (answer->vectors && copy_to_user(u64_to_user_ptr(args->vectors), answer->vectors,
					    answer->count * answer->vector_bytes))
		return -EFAULT;
	return 0;
}

int vexfs_command_search(struct file *file, void __user *argument)
{
	struct inode *dir = file_inode(file);
	struct super_block *sb = dir->i_sb;
	struct vexfs_ioc_search args;
	struct vexfs_query query = { .scope = dir->i_ino };
	struct answer answer = {};
	u64 start = ktime_get_ns();
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	if (args.queries_bytes > VEXFS_BYTES_MAX || args.hits_max > VEXFS_HITS_MAX ||
	    args.suffix_bytes > VEXFS_NAME_BYTES_MAX)
		return -E2BIG;
	if (!args.queries_bytes || !args.hits_max || args.k > args.hits_max)
		return -EINVAL;
	error = set_query(&query, &args, file) ?: set_caller(&query, file) ?: take_pointed(&query, &args) ?:
		make_room(sb, &answer, &args) ?: answer_query(sb, &query, &answer, &args, start) ?:
		give_answer(&answer, &args);
	kvfree(answer.vectors);
	kvfree(answer.hits);
	drop_query(&query);
	if (error)
		return error;
	args.nanoseconds = ktime_get_ns() - start;
	count_search(VEXFS_SB(sb), args.nanoseconds);
	return GIVE(args, argument);
}

/* ---- paths ---- */

struct path_list {
	char *buffer;
	u32 bytes;
	u32 used;
	u32 count;
	u32 skip;
	bool more;
};

static bool note_path(void *context, u64 parent, const u8 *path, size_t path_bytes)
{
	struct path_list *list = context;

	/* The root itself has no path below it. */
	if (path_bytes <= 1)
		return true;
	if (list->skip) {
		list->skip--;
		return true;
	}
	path++;
	path_bytes--;
	if (path_bytes + 1 > list->bytes - list->used) {
		list->more = true;
		return false;
	}
	memcpy(list->buffer + list->used, path, path_bytes);
	list->buffer[list->used + path_bytes] = 0;
	list->used += path_bytes + 1;
	list->count++;
	return true;
}

int vexfs_command_paths(struct file *file, void __user *argument)
{
	struct inode *dir = file_inode(file);
	struct super_block *sb = dir->i_sb;
	struct vexfs_core *core = VEXFS_SB(sb)->core;
	struct vexfs_query query = { .scope = dir->i_ino };
	struct vexfs_inode_fields fields;
	struct path_list list = {};
	struct vexfs_ioc_paths args;
	int error = TAKE(args, argument), may;

	if (error)
		return error;
	if (args.flags || args.count || args.more)
		return -EINVAL;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	error = set_caller(&query, file);
	if (error)
		return error;
	list.bytes = min_t(u32, args.bytes, SZ_1M);
	list.skip = args.skip;
	list.buffer = kvmalloc(max(list.bytes, 1U), GFP_KERNEL_ACCOUNT);
	if (!list.buffer) {
		error = -ENOMEM;
		goto out;
	}
	/* Whatever the caller may not read is not there. */
	may = vexfs_core_may_read(core, &query, args.inode);
	error = may < 0 ? may : may ? 0 : -ENOENT;
	if (error == -ESTALE)
		error = -ENOENT;
	if (!error)
		error = vexfs_core_inode(core, args.inode, &fields);
	if (!error && args.generation && args.generation != fields.generation)
		error = -ESTALE;
	if (!error)
		error = vexfs_core_hit_paths(core, &query, args.inode, note_path, &list);
	if (error == -EINTR)
		error = -ERESTARTSYS;
	vexfs_check(sb, error, "inode", args.inode);
	if (!error && !list.count)
		error = list.more ? -ERANGE : args.skip ? 0 : -ENOENT;
	if (!error && copy_to_user(u64_to_user_ptr(args.paths), list.buffer, list.used))
		error = -EFAULT;
	args.bytes = list.used;
	args.count = list.count;
	args.more = list.more;
out:
	kvfree(list.buffer);
	drop_query(&query);
	return error ?: GIVE(args, argument);
}
