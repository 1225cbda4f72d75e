// SPDX-License-Identifier: GPL-2.0-only
/* Collections, vectors and searches, as uapi/vexfs.h has them. */

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "uapi/vexfs.h"
#include "vexfs.h"

/* Limits of one command. The core has others, of what it is asked. */
#define BYTES_MAX (64UL << 20) /* of vectors that go in or out */
#define COUNT_MAX 65536
#define HITS_MAX (1U << 17)
#define GROUPS_MAX_ASKED 65536

/* What the kernel is built to say of itself has to be what the header says. */
static_assert(sizeof(struct vexfs_ioc_info) == 264);
static_assert(sizeof(struct vexfs_ioc_collection) == 592);
static_assert(sizeof(struct vexfs_ioc_vector) == 72);
static_assert(sizeof(struct vexfs_ioc_put) == 72);
static_assert(sizeof(struct vexfs_ioc_get) == 104);
static_assert(sizeof(struct vexfs_ioc_hit) == 64);
static_assert(sizeof(struct vexfs_ioc_search) == 192);

/* ---- structures in and out ---- */

/* Reads a structure that begins with its size, as copy_struct_from_user() has it. */
static int take(void *place, size_t known, const void __user *argument, u32 *given)
{
	int error;

	if (get_user(*given, (const u32 __user *)argument))
		return -EFAULT;
	/* All of them are of the first version. */
	if (*given < known)
		return -EINVAL;
	if (*given > PAGE_SIZE)
		return -E2BIG;
	error = copy_struct_from_user(place, known, argument, *given);
	return error;
}

static int give(void __user *argument, const void *place, size_t known)
{
	return copy_to_user(argument, place, known) ? -EFAULT : 0;
}

#define TAKE(structure, argument)                                                                  \
	({                                                                                         \
		u32 given;                                                                         \
		take(&(structure), sizeof(structure), argument, &given);                           \
	})
#define GIVE(structure, argument) give(argument, &(structure), sizeof(structure))

static void *take_bytes(u64 pointer, size_t bytes)
{
	return vmemdup_user(u64_to_user_ptr(pointer), bytes);
}

/* ---- on whose behalf ---- */

/* Fills in who asks, unless that is somebody above permissions. Freed by drop_caller(). */
static int set_caller(struct vexfs_query *query, struct super_block *sb)
{
	const struct cred *cred = current_cred();
	const struct group_info *groups = cred->group_info;
	u32 *numbers;
	int i;

	if (capable(CAP_DAC_READ_SEARCH) || capable(CAP_DAC_OVERRIDE))
		return 0;
	query->fields |= VEXFS_QUERY_CREDENTIALS;
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

static void drop_caller(struct vexfs_query *query)
{
	kvfree(query->groups);
}

/* Collections are everybody's to see, and the owner's to make. */
static bool may_manage(struct super_block *sb)
{
	return capable(CAP_SYS_ADMIN) ||
	       uid_eq(current_fsuid(), d_inode(sb->s_root)->i_uid);
}

/* ---- the file system ---- */

struct sums {
	u32 count;
	u64 bytes;
};

static bool sum_up(void *context, const struct vexfs_collection *collection)
{
	struct sums *sums = context;

	sums->count++;
	sums->bytes += collection->memory_bytes;
	return true;
}

static int info(struct super_block *sb, void __user *argument)
{
	struct vexfs_super *super = VEXFS_SB(sb);
	struct vexfs_ioc_info out;
	struct vexfs_status status;
	struct sums sums = {};
	int error = TAKE(out, argument);

	if (error)
		return error;
	if (out.reserved)
		return -EINVAL;
	error = vexfs_core_status(super->core, &status) ?:
		vexfs_core_collections(super->core, sum_up, &sums);
	if (error)
		return vexfs_check(sb, error, "collections", 0);
	out = (struct vexfs_ioc_info){
		.size = out.size,
		.version = 1,
		.features = { status.features[0], status.features[1], status.features[2] },
		.blocks = status.blocks,
		.blocks_free = status.blocks_free,
		.blocks_available = status.blocks_available,
		.inodes = status.inodes,
		.inodes_free = status.inodes_free,
		.generation = status.generation,
		.writer_generation = status.writer_generation,
		.created_seconds = status.created_seconds,
		.published_seconds = status.published_seconds,
		.cache_bytes = status.cache_bytes,
		.index_bytes = sums.bytes,
		.searches = atomic64_read(&super->searches),
		.errors = atomic64_read(&super->errors),
		.block_bytes = status.block_bytes,
		.tree_levels = status.tree_levels,
		.collections = sums.count,
		.collections_max = 4096,
		.dimension_max = 16384,
		.queries_max = 1024,
		.k_max = 4096,
		.effort_max = 16384,
		.hits_max = HITS_MAX,
		.put_vectors_max = COUNT_MAX,
		.read_only = status.read_only || sb_rdonly(sb),
	};
	memcpy(out.uuid, status.uuid, sizeof(out.uuid));
	memcpy(out.label, status.label, sizeof(out.label));
	return GIVE(out, argument);
}

/* ---- collections ---- */

static void describe(struct vexfs_ioc_collection *out, const struct vexfs_collection *in)
{
	*out = (struct vexfs_ioc_collection){
		.rows = in->rows,
		.indexed = in->indexed,
		.unindexed = in->unindexed,
		.damaged = in->damaged,
		.memory_bytes = in->memory_bytes,
		.stored_bytes = in->stored_bytes,
		.created_seconds = in->created_seconds,
		.number = in->number,
		.dimension = in->dimension,
		.build_effort = in->build_effort,
		.degree = in->degree,
		.element = in->element,
		.metric = in->metric,
		.quantization = in->quantization,
		.loaded = in->loaded,
		.graph_damaged = in->graph_damaged,
		.name_bytes = min_t(size_t, in->name_bytes, VEXFS_COLLECTION_NAME_BYTES),
		.model_bytes = min_t(size_t, in->model_bytes, VEXFS_MODEL_BYTES),
	};
	memcpy(out->name, in->name, out->name_bytes);
	memcpy(out->model, in->model, out->model_bytes);
}

static bool describe_one(void *context, const struct vexfs_collection *collection)
{
	describe(context, collection);
	return false;
}

static int show_by_number(struct super_block *sb, u32 number, struct vexfs_ioc_collection *out)
{
	return vexfs_check(sb, vexfs_core_collection_by_number(VEXFS_SB(sb)->core, number, describe_one,
							       out),
			   "collection", number);
}

/* Whether a name is ended and the rest of its room is zeros. */
static bool is_padded(const char *name, size_t room)
{
	size_t length = strnlen(name, room);

	return length < room && !memchr_inv(name + length, 0, room - length);
}

static int create_collection(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_create *args = kmalloc(sizeof(*args), GFP_KERNEL);
	struct vexfs_ioc_collection *wanted;
	struct vexfs_new_collection new;
	u32 number, given;
	int error;

	if (!args)
		return -ENOMEM;
	wanted = &args->collection;
	error = take(args, sizeof(*args), argument, &given);
	if (error)
		goto out;
	error = -EINVAL;
	if (args->flags || wanted->rows || wanted->indexed || wanted->unindexed || wanted->damaged ||
	    wanted->memory_bytes || wanted->stored_bytes || wanted->created_seconds ||
	    wanted->number || wanted->loaded || wanted->graph_damaged || wanted->name_bytes ||
	    wanted->model_bytes || memchr_inv(wanted->reserved, 0, sizeof(wanted->reserved)) ||
	    !is_padded(wanted->name, sizeof(wanted->name)) ||
	    !is_padded(wanted->model, sizeof(wanted->model)))
		goto out;
	error = -EPERM;
	if (!may_manage(sb))
		goto out;
	new = (struct vexfs_new_collection){
		.name = wanted->name,
		.name_bytes = strlen(wanted->name),
		.model = wanted->model,
		.model_bytes = strlen(wanted->model),
		.dimension = wanted->dimension,
		.build_effort = wanted->build_effort,
		.degree = wanted->degree,
		.element = wanted->element,
		.metric = wanted->metric,
		.quantization = wanted->quantization,
	};
	error = mnt_want_write_file(file);
	if (error)
		goto out;
	error = vexfs_core_collection_create(VEXFS_SB(sb)->core, &new, &number);
	vexfs_check(sb, error, "collections", 0);
	mnt_drop_write_file(file);
	if (error)
		goto out;
	error = show_by_number(sb, number, wanted) ?: give(argument, args, sizeof(*args));
out:
	kfree(args);
	return error;
}

struct collection_list {
	struct vexfs_ioc_collection *out;
	u32 after;
	u32 count;
	u32 most;
};

static bool note_collection(void *context, const struct vexfs_collection *collection)
{
	struct collection_list *list = context;

	if (collection->number <= list->after)
		return true;
	if (list->count == list->most)
		return false;
	describe(&list->out[list->count++], collection);
	return true;
}

static int list_collections(struct super_block *sb, void __user *argument)
{
	struct vexfs_ioc_collection_list args;
	struct collection_list list = {};
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || !args.count)
		return -EINVAL;
	list.most = min(args.count, 4096U);
	list.after = args.after;
	list.out = kvcalloc(list.most, sizeof(*list.out), GFP_KERNEL);
	if (!list.out)
		return -ENOMEM;
	error = vexfs_core_collections(VEXFS_SB(sb)->core, note_collection, &list);
	vexfs_check(sb, error, "collections", 0);
	if (!error && copy_to_user(u64_to_user_ptr(args.collections), list.out,
				   list.count * sizeof(*list.out)))
		error = -EFAULT;
	args.count = list.count;
	if (list.count)
		args.after = list.out[list.count - 1].number;
	kvfree(list.out);
	return error ?: GIVE(args, argument);
}

static int show_collection(struct super_block *sb, void __user *argument)
{
	struct vexfs_ioc_collection_show *args = kmalloc(sizeof(*args), GFP_KERNEL);
	struct vexfs_ioc_collection *wanted;
	u32 number, given;
	int error;

	if (!args)
		return -ENOMEM;
	wanted = &args->collection;
	error = take(args, sizeof(*args), argument, &given);
	if (error)
		goto out;
	error = -EINVAL;
	if (args->flags || !is_padded(wanted->name, sizeof(wanted->name)) ||
	    (!wanted->number == !wanted->name[0]))
		goto out;
	number = wanted->number;
	error = 0;
	if (!number)
		error = vexfs_core_collection_number(VEXFS_SB(sb)->core, wanted->name,
						     strlen(wanted->name), &number);
	error = error ?: show_by_number(sb, number, wanted) ?: give(argument, args, sizeof(*args));
out:
	kfree(args);
	return error;
}

struct name {
	char text[256];
	u32 bytes;
};

static bool note_collection_name(void *context, const struct vexfs_collection *collection)
{
	struct name *name = context;

	name->bytes = min_t(size_t, collection->name_bytes, sizeof(name->text));
	memcpy(name->text, collection->name, name->bytes);
	return false;
}

static int name_of(struct super_block *sb, u32 number, struct name *name)
{
	return vexfs_core_collection_by_number(VEXFS_SB(sb)->core, number, note_collection_name, name);
}

/* A step of bringing a graph up to date, after which others get a turn and signals count. */
#define MAINTAIN_ROWS 4096

static int maintain_collection(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_core *core = VEXFS_SB(sb)->core;
	struct vexfs_ioc_collection_maintain args;
	struct vexfs_graph_work done;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags & ~VEXFS_MAINTAIN_REBUILD || args.reserved || args.inserted || args.removed ||
	    args.left)
		return -EINVAL;
	if (!may_manage(sb))
		return -EPERM;
	error = mnt_want_write_file(file);
	if (error)
		return error;
	if (args.flags & VEXFS_MAINTAIN_REBUILD) {
		struct name *name = kmalloc(sizeof(*name), GFP_KERNEL);

		error = name ? name_of(sb, args.number, name) : -ENOMEM;
		if (!error)
			error = vexfs_core_collection_rebuild(core, name->text, name->bytes, &done);
		kfree(name);
		if (!error) {
			args.inserted = done.inserted;
			args.left = done.left;
		}
	} else {
		do {
			error = vexfs_core_collection_maintain(core, args.number, MAINTAIN_ROWS, &done);
			if (error)
				break;
			args.inserted += done.inserted;
			args.removed += done.removed;
			args.left = done.left;
			if (signal_pending(current))
				error = -EINTR;
			cond_resched();
		} while (!error && done.left && done.inserted);
	}
	vexfs_check(sb, error, "graph of collection", args.number);
	mnt_drop_write_file(file);
	return error ?: GIVE(args, argument);
}

static int drop_collection(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_drop args;
	struct name *name;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved)
		return -EINVAL;
	if (!may_manage(sb))
		return -EPERM;
	name = kmalloc(sizeof(*name), GFP_KERNEL);
	if (!name)
		return -ENOMEM;
	error = mnt_want_write_file(file);
	if (!error) {
		error = name_of(sb, args.number, name);
		if (!error)
			error = vexfs_core_collection_drop(VEXFS_SB(sb)->core, name->text, name->bytes);
		vexfs_check(sb, error, "collection", args.number);
		mnt_drop_write_file(file);
	}
	kfree(name);
	return error;
}

/* ---- vectors of a file ---- */

/* Bytes of a vector. */
static size_t row_bytes(const struct vexfs_ioc_collection *collection)
{
	switch (collection->element) {
	case VEXFS_ELEMENT_F32:
		return (size_t)collection->dimension * 4;
	case VEXFS_ELEMENT_F16:
	case VEXFS_ELEMENT_BF16:
		return (size_t)collection->dimension * 2;
	case VEXFS_ELEMENT_BIT:
		return DIV_ROUND_UP(collection->dimension, 8);
	default:
		return collection->dimension;
	}
}

static int check_file(struct file *file, fmode_t mode)
{
	if (!S_ISREG(file_inode(file)->i_mode))
		return S_ISDIR(file_inode(file)->i_mode) ? -EISDIR : -EINVAL;
	return file->f_mode & mode ? 0 : -EBADF;
}

static int put(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_put args;
	struct vexfs_ioc_vector *vectors = NULL;
	struct vexfs_put *puts = NULL;
	struct vexfs_put_outcome outcome;
	u8 *data = NULL;
	size_t bytes;
	u32 i;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || !args.count || args.stored || args.replaced || args.stale ||
	    args.content_version)
		return -EINVAL;
	if (args.count > COUNT_MAX || args.data_bytes > BYTES_MAX)
		return -E2BIG;
	if (!args.data_bytes || args.data_bytes % args.count)
		return -EINVAL;
	error = check_file(file, FMODE_WRITE);
	if (error)
		return error;
	bytes = args.data_bytes / args.count;
	vectors = take_bytes(args.vectors, array_size(args.count, sizeof(*vectors)));
	if (IS_ERR(vectors))
		return PTR_ERR(vectors);
	data = take_bytes(args.data, args.data_bytes);
	if (IS_ERR(data)) {
		kvfree(vectors);
		return PTR_ERR(data);
	}
	puts = kvcalloc(args.count, sizeof(*puts), GFP_KERNEL);
	error = puts ? 0 : -ENOMEM;
	for (i = 0; i < args.count && !error; i++) {
		const struct vexfs_ioc_vector *vector = &vectors[i];

		if (vector->sequence || vector->collection || vector->fresh || vector->reserved)
			error = -EINVAL;
		puts[i] = (struct vexfs_put){
			.vector = data + i * bytes,
			.vector_bytes = bytes,
			.offset = vector->offset,
			.length = vector->length,
			.content_version = vector->content_version,
			.tag = vector->tag,
			.chunk = vector->chunk,
		};
		memcpy(puts[i].digest, vector->digest, sizeof(puts[i].digest));
	}
	if (!error)
		error = mnt_want_write_file(file);
	if (error)
		goto out;
	inode_lock(inode);
	/* No state may hold the vector and other bytes than it was made from. */
	error = IS_IMMUTABLE(inode) ? -EPERM : filemap_write_and_wait(inode->i_mapping);
	if (!error) {
		WRITE_ONCE(VEXFS_I(inode)->version_noted, false);
		error = vexfs_core_vectors_put(vexfs_core_of(inode), args.collection, inode->i_ino, puts,
					       args.count, &outcome);
		vexfs_check(inode->i_sb, error, "vectors", inode->i_ino);
	}
	inode_unlock(inode);
	mnt_drop_write_file(file);
	if (error)
		goto out;
	vexfs_index_kick(VEXFS_SB(inode->i_sb));
	args.stored = outcome.stored;
	args.replaced = outcome.replaced;
	args.stale = outcome.stale;
	args.content_version = outcome.content_version;
	error = GIVE(args, argument);
out:
	kvfree(puts);
	kvfree(data);
	kvfree(vectors);
	return error;
}

static void describe_vector(struct vexfs_ioc_vector *out, const struct vexfs_vector *in)
{
	*out = (struct vexfs_ioc_vector){
		.offset = in->offset,
		.length = in->length,
		.content_version = in->content_version,
		.tag = in->tag,
		.sequence = in->sequence,
		.collection = in->collection,
		.chunk = in->chunk,
		.fresh = in->fresh,
	};
	memcpy(out->digest, in->digest, sizeof(out->digest));
}

static int get(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_get args;
	struct vexfs_vector vector;
	struct vexfs_ioc_collection *collection;
	u8 *data;
	size_t bytes;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || memchr_inv(&args.vector, 0, sizeof(args.vector)))
		return -EINVAL;
	error = check_file(file, FMODE_READ);
	if (error)
		return error;
	bytes = min_t(u64, args.data_bytes, SZ_1M);
	data = kvmalloc(max_t(size_t, bytes, 1), GFP_KERNEL);
	collection = kmalloc(sizeof(*collection), GFP_KERNEL);
	error = data && collection ? 0 : -ENOMEM;
	if (!error)
		error = show_by_number(inode->i_sb, args.collection, collection);
	if (!error)
		error = vexfs_core_vector_get(vexfs_core_of(inode), args.collection, inode->i_ino,
					      args.chunk, data, bytes, &vector);
	vexfs_check(inode->i_sb, error, "vectors", inode->i_ino);
	if (!error) {
		args.data_bytes = row_bytes(collection);
		describe_vector(&args.vector, &vector);
		if (copy_to_user(u64_to_user_ptr(args.data), data, min_t(u64, bytes, args.data_bytes)))
			error = -EFAULT;
	}
	kfree(collection);
	kvfree(data);
	return error ?: GIVE(args, argument);
}

static int remove(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_remove args;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved || args.removed || args.first > args.last)
		return -EINVAL;
	error = check_file(file, FMODE_WRITE) ?: mnt_want_write_file(file);
	if (error)
		return error;
	inode_lock(inode);
	error = IS_IMMUTABLE(inode) ? -EPERM :
		vexfs_core_vectors_remove(vexfs_core_of(inode), args.collection, inode->i_ino,
					  args.first, args.last, &args.removed);
	inode_unlock(inode);
	mnt_drop_write_file(file);
	vexfs_check(inode->i_sb, error, "vectors", inode->i_ino);
	return error ?: GIVE(args, argument);
}

struct vector_list {
	struct vexfs_ioc_vector *out;
	u64 *inodes;
	u32 *rows;
	u32 count;
	u32 most;
	u64 skip;
	u64 total;
};

static bool note_vector(void *context, const struct vexfs_vector *vector)
{
	struct vector_list *list = context;

	if (list->total++ >= list->skip && list->count < list->most)
		describe_vector(&list->out[list->count++], vector);
	return true;
}

static int list_vectors(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_inode_fields fields;
	struct vexfs_ioc_list args;
	struct vector_list list = {};
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved || args.total || args.content_version || args.generation)
		return -EINVAL;
	error = check_file(file, FMODE_READ);
	if (error)
		return error;
	list.most = min_t(u32, args.count, COUNT_MAX);
	list.skip = args.skip;
	list.out = kvcalloc(max(list.most, 1U), sizeof(*list.out), GFP_KERNEL);
	if (!list.out)
		return -ENOMEM;
	/* Whoever is told the version is told of the next change by another. */
	inode_lock(inode);
	WRITE_ONCE(VEXFS_I(inode)->version_noted, false);
	error = vexfs_core_vectors_of(vexfs_core_of(inode), inode->i_ino, note_vector, &list) ?:
		vexfs_core_inode(vexfs_core_of(inode), inode->i_ino, &fields);
	inode_unlock(inode);
	vexfs_check(inode->i_sb, error, "vectors", inode->i_ino);
	if (!error && copy_to_user(u64_to_user_ptr(args.vectors), list.out,
				   list.count * sizeof(*list.out)))
		error = -EFAULT;
	kvfree(list.out);
	if (error)
		return error;
	args.count = list.count;
	args.total = list.total;
	args.content_version = fields.content_version;
	args.generation = fields.generation;
	return GIVE(args, argument);
}

/* ---- searching ---- */

static bool note_row(void *context, const struct vexfs_vector *vector)
{
	struct vector_list *list = context;

	if (list->count == list->most)
		return false;
	list->rows[list->count] = vector->row;
	list->inodes[list->count] = vector->inode;
	describe_vector(&list->out[list->count++], vector);
	return true;
}

static int rows(struct file *file, void __user *argument)
{
	struct inode *dir = file_inode(file);
	struct super_block *sb = dir->i_sb;
	struct vexfs_query query = { .scope = dir->i_ino };
	struct vector_list list = {};
	struct vexfs_ioc_rows args;
	u32 i, kept = 0;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.more || !args.count)
		return -EINVAL;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	list.most = min_t(u32, args.count, COUNT_MAX);
	list.out = kvcalloc(list.most, sizeof(*list.out), GFP_KERNEL);
	list.inodes = kvcalloc(list.most, sizeof(*list.inodes), GFP_KERNEL);
	list.rows = kvcalloc(list.most, sizeof(*list.rows), GFP_KERNEL);
	error = list.out && list.inodes && list.rows ? set_caller(&query, sb) : -ENOMEM;
	if (!error)
		error = vexfs_core_rows_of(VEXFS_SB(sb)->core, args.collection, args.from, note_row,
					   &list);
	for (i = 0; i < list.count && !error; i++) {
		int may = vexfs_core_may_read(VEXFS_SB(sb)->core, &query, list.inodes[i]);

		if (may < 0 && may != -ESTALE)
			error = may;
		if (may > 0) {
			list.out[kept] = list.out[i];
			list.inodes[kept++] = list.inodes[i];
		}
		if (signal_pending(current))
			error = -EINTR;
		cond_resched();
	}
	vexfs_check(sb, error, "collection", args.collection);
	args.more = list.count == list.most;
	if (list.count)
		args.from = list.rows[list.count - 1] + 1;
	args.count = kept;
	if (!error && (copy_to_user(u64_to_user_ptr(args.vectors), list.out, kept * sizeof(*list.out)) ||
		       copy_to_user(u64_to_user_ptr(args.inodes), list.inodes,
				    kept * sizeof(*list.inodes))))
		error = -EFAULT;
	drop_caller(&query);
	kvfree(list.rows);
	kvfree(list.inodes);
	kvfree(list.out);
	return error ?: GIVE(args, argument);
}

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

/* Fills in what a search asks for; the pointers are the caller's to set. */
static int set_query(struct vexfs_query *query, const struct vexfs_ioc_search *args)
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
	query->collection = args->collection;
	query->k = args->k;
	query->effort = args->effort;
	query->radius_bits = args->radius;
	query->examined_max = args->examined_max;
	query->exclude = args->exclude;
	query->owner = args->uid;
	if (args->vectors)
		query->fields |= VEXFS_QUERY_VECTORS;
	return 0;
}

static void count_search(struct vexfs_super *super, u64 nanoseconds, u64 queries)
{
	unsigned int bucket = min_t(unsigned int, fls64(nanoseconds),
				    ARRAY_SIZE(super->search_latency) - 1);

	atomic64_add(queries, &super->searches);
	atomic64_inc(&super->search_latency[bucket]);
}

static int search(struct file *file, void __user *argument)
{
	struct inode *dir = file_inode(file);
	struct super_block *sb = dir->i_sb;
	struct vexfs_super *super = VEXFS_SB(sb);
	struct vexfs_ioc_search args;
	struct vexfs_query query = { .scope = dir->i_ino };
	struct vexfs_report report;
	struct answer answer = {};
	u8 *queries = NULL, *suffix = NULL;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	if (args.queries_bytes > BYTES_MAX || args.hits_max > HITS_MAX ||
	    args.suffix_bytes > VEXFS_NAME_BYTES_MAX)
		return -E2BIG;
	if (!args.queries_bytes || args.k > args.hits_max)
		return -EINVAL;
	error = set_query(&query, &args) ?: set_caller(&query, sb);
	if (error)
		return error;
	queries = take_bytes(args.queries, args.queries_bytes);
	if (IS_ERR(queries)) {
		error = PTR_ERR(queries);
		queries = NULL;
		goto out;
	}
	query.queries = queries;
	query.queries_bytes = args.queries_bytes;
	if (args.flags & VEXFS_SEARCH_SUFFIX && args.suffix_bytes) {
		suffix = take_bytes(args.suffix, args.suffix_bytes);
		if (IS_ERR(suffix)) {
			error = PTR_ERR(suffix);
			suffix = NULL;
			goto out;
		}
		query.suffix = suffix;
		query.suffix_bytes = args.suffix_bytes;
	}
	answer.most = args.hits_max;
	answer.hits = kvmalloc_array(max(answer.most, 1U), sizeof(*answer.hits), GFP_KERNEL);
	if (args.vectors) {
		struct vexfs_ioc_collection *collection = kmalloc(sizeof(*collection), GFP_KERNEL);

		error = collection ? show_by_number(sb, args.collection, collection) : -ENOMEM;
		if (!error) {
			answer.vector_bytes = row_bytes(collection);
			if (array_size(answer.most, answer.vector_bytes) > BYTES_MAX)
				error = -E2BIG;
			else
				answer.vectors = kvmalloc_array(answer.most, answer.vector_bytes,
								GFP_KERNEL);
		}
		kfree(collection);
	}
	if (!error && (!answer.hits || (args.vectors && !answer.vectors)))
		error = -ENOMEM;
	if (error)
		goto out;
	error = vexfs_core_search(super->core, &query, note_hit, &answer, &report);
	if (error) {
		vexfs_check(sb, error, "collection", args.collection);
		goto out;
	}
	if (answer.overflow) {
		error = -EINVAL;
		goto out;
	}
	count_search(super, report.nanoseconds, 1);
	/* What it loaded can be given back. */
	if (unlikely(!READ_ONCE(super->index_bytes)))
		vexfs_index_kick(super);
	args.hits_count = answer.count;
	args.plan = report.plan;
	args.completeness = report.completeness;
	args.examined = report.examined;
	args.unindexed = report.unindexed;
	args.nanoseconds = report.nanoseconds;
	if (copy_to_user(u64_to_user_ptr(args.hits), answer.hits, answer.count * sizeof(*answer.hits)) ||
	    (answer.vectors && copy_to_user(u64_to_user_ptr(args.vectors), answer.vectors,
					    answer.count * answer.vector_bytes)))
		error = -EFAULT;
out:
	kvfree(answer.vectors);
	kvfree(answer.hits);
	kvfree(suffix);
	kvfree(queries);
	drop_caller(&query);
	return error ?: GIVE(args, argument);
}

/* ---- paths ---- */

struct path_list {
	char *buffer;
	u32 bytes;
	u32 used;
	u32 count;
	/* The path of the directory that is asked on, which is no part of the answer. */
	char *prefix;
	size_t prefix_bytes;
	bool overflow;
};

static bool note_prefix(void *context, u64 parent, const u8 *path, size_t path_bytes)
{
	struct path_list *list = context;

	list->prefix = kvmalloc(path_bytes + 1, GFP_NOFS);
	if (list->prefix) {
		memcpy(list->prefix, path, path_bytes);
		list->prefix_bytes = path_bytes;
	}
	return false;
}

static bool note_path(void *context, u64 parent, const u8 *path, size_t path_bytes)
{
	struct path_list *list = context;
	size_t skip = list->prefix_bytes;

	/* One that was moved meanwhile is not below it any more. */
	if (path_bytes <= skip + 1 || memcmp(path, list->prefix, skip) || path[skip] != '/')
		return true;
	path += skip + 1;
	path_bytes -= skip + 1;
	if (path_bytes + 1 > list->bytes - list->used) {
		list->overflow = true;
		return false;
	}
	memcpy(list->buffer + list->used, path, path_bytes);
	list->buffer[list->used + path_bytes] = 0;
	list->used += path_bytes + 1;
	list->count++;
	return true;
}

static int paths(struct file *file, void __user *argument)
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
	if (args.flags || args.count)
		return -EINVAL;
	if (!S_ISDIR(dir->i_mode))
		return -ENOTDIR;
	error = set_caller(&query, sb);
	if (error)
		return error;
	list.bytes = min_t(u32, args.bytes, SZ_1M);
	list.buffer = kvmalloc(max(list.bytes, 1U), GFP_KERNEL);
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
	if (!error && dir->i_ino != VEXFS_ROOT_INODE) {
		error = vexfs_core_inode_paths(core, dir->i_ino, note_prefix, &list);
		if (!error && !list.prefix)
			error = -ENOENT;
	}
	if (!error)
		error = vexfs_core_hit_paths(core, &query, args.inode, note_path, &list);
	vexfs_check(sb, error, "inode", args.inode);
	if (!error && list.overflow)
		error = -ERANGE;
	if (!error && !list.count)
		error = -ENOENT;
	if (!error && copy_to_user(u64_to_user_ptr(args.paths), list.buffer, list.used))
		error = -EFAULT;
	args.bytes = list.used;
	args.count = list.count;
out:
	kvfree(list.prefix);
	kvfree(list.buffer);
	drop_caller(&query);
	return error ?: GIVE(args, argument);
}

/* ---- which is asked ---- */

/* The number without the size, which a caller with a newer header has larger. */
#define COMMAND(number) ((number) & ~IOCSIZE_MASK)

long vexfs_vector_command(struct file *file, unsigned int command, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;

	if (unlikely(VEXFS_SB(sb)->stopped) && _IOC_TYPE(command) == VEXFS_IOC_TYPE)
		return -EIO;
	switch (COMMAND(command)) {
	case COMMAND(VEXFS_IOC_INFO):
		return info(sb, argument);
	case COMMAND(VEXFS_IOC_COLLECTION_CREATE):
		return create_collection(file, argument);
	case COMMAND(VEXFS_IOC_COLLECTION_LIST):
		return list_collections(sb, argument);
	case COMMAND(VEXFS_IOC_COLLECTION_SHOW):
		return show_collection(sb, argument);
	case COMMAND(VEXFS_IOC_COLLECTION_MAINTAIN):
		return maintain_collection(file, argument);
	case COMMAND(VEXFS_IOC_COLLECTION_DROP):
		return drop_collection(file, argument);
	case COMMAND(VEXFS_IOC_PUT):
		return put(file, argument);
	case COMMAND(VEXFS_IOC_GET):
		return get(file, argument);
	case COMMAND(VEXFS_IOC_REMOVE):
		return remove(file, argument);
	case COMMAND(VEXFS_IOC_LIST):
		return list_vectors(file, argument);
	case COMMAND(VEXFS_IOC_ROWS):
		return rows(file, argument);
	case COMMAND(VEXFS_IOC_SEARCH):
		return search(file, argument);
	case COMMAND(VEXFS_IOC_PATHS):
		return paths(file, argument);
	default:
		return -ENOTTY;
	}
}
