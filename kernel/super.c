// SPDX-License-Identifier: GPL-2.0-only
/* The mounted file system: options, mounting and unmounting, making it durable, its numbers. */

#include <linux/blkdev.h>
#include <linux/ctype.h>
#include <linux/delay.h>
#include <linux/exportfs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/statfs.h>
#include <linux/swap.h>

#include "trace.h"
#include "vexfs.h"

#define COMMIT_SECONDS_DEFAULT 5
#define COMMIT_SECONDS_MAX 3600
/* Clean tree nodes kept in memory, at most; the kernel takes them back when it is short. */
#define CACHE_BYTES_MAX (64UL << 20)
#define LAST_COMMIT_TRIES 20
#define LAST_COMMIT_PAUSE_MS 100

void vexfs_log(struct super_block *sb, const char *level, const char *format, ...)
{
	struct va_format message;
	va_list arguments;

	va_start(arguments, format);
	message.fmt = format;
	message.va = &arguments;
	printk("%sVexFS (%s): %pV\n", level, sb->s_id, &message);
	va_end(arguments);
}

/* ---- damage and failures ---- */

/*
 * Nothing is changed from now on, by who has files open for writing either. What was done before is whole,
 * and is made durable.
 */
static void shut_down(struct work_struct *work)
{
	struct vexfs_super *super = container_of(work, struct vexfs_super, shut_down);
	struct super_block *sb = super->sb;
	int error = 0;

	if (READ_ONCE(super->giving_up) || (sb_rdonly(sb) && vexfs_core_is_read_only(super->core)))
		return;
	WRITE_ONCE(super->giving_up, true);
	errseq_set(&sb->s_wb_err, -EIO);
	/* Before it was frozen, everything was made durable. */
	if (vexfs_start_write(sb)) {
		error = vexfs_commit(sb);
		sb_end_intwrite(sb);
	}
	WRITE_ONCE(super->gave_up, true);
	vexfs_core_set_read_only(super->core, true);
	vexfs_error(sb, "nothing is written from now on%s", error ? "; what was changed last is lost" : "");
}

static bool is_damage(int error)
{
	return error == -EUCLEAN || error == -EBADMSG;
}

/* Counts damage or a failure of the device, and tells of it. */
static void tell(struct super_block *sb, int error, const char *what, u64 place)
{
	struct vexfs_super *super = VEXFS_SB(sb);

	atomic64_inc(&super->errors);
	trace_vexfs_error(sb->s_dev, what, place, error);
	if (super->stopped || !__ratelimit(&super->told))
		return;
	if (is_damage(error))
		vexfs_error(sb, "%s %llu: damaged (%d), not used; run fsck.vexfs", what, place, error);
	else
		vexfs_error(sb, "%s %llu: the device failed (%d), not read or not written", what,
			    place, error);
}

/*
 * Passes an error of the core on. Damage and failures of the device are told of in the log, and
 * what errors= says is done.
 */
int vexfs_check(struct super_block *sb, int error, const char *what, u64 place)
{
	struct vexfs_super *super = VEXFS_SB(sb);

	if (likely(error >= 0) || (!is_damage(error) && error != -EIO))
		return error;
	tell(sb, error, what, place);
	if (super->stopped)
		return error;
	if (super->options.on_error == VEXFS_ERRORS_PANIC)
		panic("VexFS (%s): panic forced after error\n", sb->s_id);
	if (super->options.on_error == VEXFS_ERRORS_REMOUNT_RO || vexfs_core_is_read_only(super->core))
		queue_work(vexfs_unbound_queue, &super->shut_down);
	return error;
}

/*
 * Passes an error on that says that bytes of a file are damaged, or that the device did not take or give
 * them. It is told of, and is the matter of who reads or writes them: errors= is about what others
 * depend on.
 */
int vexfs_check_bytes(struct inode *inode, int error)
{
	if (is_damage(error) || error == -EIO)
		tell(inode->i_sb, error, "data of inode", inode->i_ino);
	return error;
}

/* Passes an error on of reading vectors of a file, of which the core tells damaged ones apart. */
int vexfs_check_vectors(struct inode *inode, int error)
{
	if (error != -EBADMSG)
		return vexfs_check(inode->i_sb, error, "vectors of inode", inode->i_ino);
	tell(inode->i_sb, error, "a vector of inode", inode->i_ino);
	return error;
}

/* Passes an error on of reading at a place in a file: its bytes, or what tells where they are. */
int vexfs_check_read(struct inode *inode, int error, loff_t pos)
{
	struct vexfs_mapping mapping;
	u32 sum;

	if (error >= 0 || vexfs_core_map(vexfs_core_of(inode), inode->i_ino, pos >> inode->i_blkbits,
					 1, &mapping, &sum))
		return vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
	return vexfs_check_bytes(inode, error);
}

/* ---- making it durable ---- */

int vexfs_commit(struct super_block *sb)
{
	struct vexfs_super *super = VEXFS_SB(sb);
	int error = vexfs_core_commit(super->core);

	/* The core has not looked at what was changed since. */
	if (!error && unlikely(READ_ONCE(super->gave_up)))
		return -EROFS;
	/* For want of memory, or of a node that can be read, nothing was begun: the next may succeed. */
	if (error && !vexfs_core_is_read_only(super->core))
		return vexfs_check(sb, error, "commit", 0);
	if (error && !super->stopped && !xchg(&super->write_failed, true)) {
		u64 offset = 0;
		int failure = vexfs_core_device_failure(super->core, &offset);

		vexfs_error(sb, "commit failed (%d, device %d at byte %llu); nothing is written any more",
			    error, failure, offset);
		atomic64_inc(&super->errors);
		if (super->options.on_error == VEXFS_ERRORS_PANIC)
			panic("VexFS (%s): panic forced after error\n", sb->s_id);
		queue_work(vexfs_unbound_queue, &super->shut_down);
	}
	return error;
}

/*
 * Space is short: writes back what space is reserved for, which takes less in the end, mostly. Small files
 * end in the tree, and what a write overwrites is free again. Tells whether that was done. Whoever mounts
 * anew, unmounts or freezes is not waited for, but does the same.
 */
bool vexfs_make_room(struct super_block *sb)
{
	if (vexfs_refuses(sb) || fatal_signal_pending(current) ||
	    !vexfs_core_has_reserved(VEXFS_SB(sb)->core) || !down_read_trylock(&sb->s_umount))
		return false;
	sync_inodes_sb(sb);
	up_read(&sb->s_umount);
	return true;
}

static void schedule_commit(struct vexfs_super *super)
{
	queue_delayed_work(vexfs_unbound_queue, &super->commit,
			   super->options.commit_seconds * HZ);
}

static void commit_work(struct work_struct *work)
{
	struct vexfs_super *super = container_of(work, struct vexfs_super, commit.work);
	struct super_block *sb = super->sb;

	/* While the file system is frozen or read-only there is nothing to publish. */
	if (!vexfs_is_read_only(sb) && vexfs_start_write(sb)) {
		vexfs_commit(sb);
		sb_end_intwrite(sb);
	}
	schedule_commit(super);
}

static int vexfs_sync_fs(struct super_block *sb, int wait)
{
	if (!wait || sb_rdonly(sb))
		return 0;
	/* Changes may be lost. */
	if (unlikely(READ_ONCE(VEXFS_SB(sb)->giving_up)))
		return -EIO;
	return vexfs_commit(sb);
}

static int vexfs_freeze_fs(struct super_block *sb)
{
	if (sb_rdonly(sb))
		return 0;
	return vexfs_commit(sb);
}

/* ---- inodes in memory ---- */

static struct inode *vexfs_alloc_inode(struct super_block *sb)
{
	struct vexfs_inode *vi = alloc_inode_sb(sb, vexfs_inode_cache, GFP_KERNEL);

	if (!vi)
		return NULL;
	vi->held = false;
	vi->version_noted = false;
	vi->perhaps_unwritten = false;
	vi->content_version = 0;
	return &vi->vfs;
}

static void vexfs_free_inode(struct inode *inode)
{
	if (S_ISLNK(inode->i_mode))
		kfree(inode->i_link);
	kmem_cache_free(vexfs_inode_cache, VEXFS_I(inode));
}

static void init_once(void *memory)
{
	struct vexfs_inode *vi = memory;

	inode_init_once(&vi->vfs);
	mutex_init(&vi->fields_lock);
	xa_init(&vi->claims);
	vi->claimed = 0;
	mutex_init(&vi->claims_lock);
	mutex_init(&vi->writeback_lock);
}

/* ---- numbers and options, told ---- */

static int vexfs_statfs(struct dentry *dentry, struct kstatfs *stat)
{
	struct super_block *sb = dentry->d_sb;
	struct vexfs_status status;
	int error = vexfs_core_status(VEXFS_SB(sb)->core, &status);

	if (error)
		return error;
	stat->f_type = VEXFS_SUPER_MAGIC;
	stat->f_bsize = status.block_bytes;
	stat->f_blocks = status.blocks;
	stat->f_bfree = status.blocks_free;
	stat->f_bavail = status.blocks_available;
	stat->f_files = status.inodes + status.inodes_free;
	stat->f_ffree = status.inodes_free;
	stat->f_fsid = uuid_to_fsid(status.uuid);
	stat->f_namelen = VEXFS_NAME_BYTES_MAX;
	return 0;
}

static const char *const error_names[] = {
	[VEXFS_ERRORS_CONTINUE] = "continue",
	[VEXFS_ERRORS_REMOUNT_RO] = "remount-ro",
	[VEXFS_ERRORS_PANIC] = "panic",
};

static int vexfs_show_options(struct seq_file *out, struct dentry *root)
{
	const struct vexfs_options *options = &VEXFS_SB(root->d_sb)->options;

	seq_printf(out, ",errors=%s", error_names[options->on_error]);
	if (READ_ONCE(VEXFS_SB(root->d_sb)->giving_up))
		seq_puts(out, ",emergency_ro");
	if (!options->acl)
		seq_puts(out, ",noacl");
	if (options->discard)
		seq_puts(out, ",discard");
	if (options->preload)
		seq_puts(out, ",index=preload");
	if (options->commit_seconds != COMMIT_SECONDS_DEFAULT)
		seq_printf(out, ",commit=%u", options->commit_seconds);
	if (options->index_memory)
		seq_printf(out, ",index_memory=%llu", options->index_memory);
	return 0;
}

/* ---- giving memory back ---- */

/*
 * A shrinker of its own, as those of superblocks are passed over where no file system may be entered: this
 * one waits for no lock, and such an allocation may be tried again until the index has given way.
 */
static struct vexfs_super *shrinkers_super(struct shrinker *shrinker)
{
#if VEXFS_KERNEL(6, 7)
	return shrinker->private_data;
#else
	return container_of(shrinker, struct vexfs_super, shrinker);
#endif
}

static unsigned long count_cached(struct shrinker *shrinker, struct shrink_control *control)
{
	struct vexfs_super *super = shrinkers_super(shrinker);

	return vexfs_core_cached_nodes(super->core) +
	       (vexfs_core_index_memory_bytes(super->core) >> PAGE_SHIFT);
}

static unsigned long free_cached(struct shrinker *shrinker, struct shrink_control *control)
{
	struct vexfs_super *super = shrinkers_super(shrinker);
	u64 freed = vexfs_core_drop_cached_nodes(super->core, control->nr_to_scan);

	/*
	 * Vectors and graphs go as wholes, so they do when as much was wanted since the last search. Whoever is
	 * at work on them, and gives up, takes a moment, for which it is worth to try again.
	 */
	if (freed < control->nr_to_scan) {
		u64 wanted = atomic64_add_return(control->nr_to_scan - freed, &super->index_wanted);
		bool pressing = current->flags & PF_MEMALLOC && !current_is_kswapd();
		s64 released = vexfs_core_release_index_memory(super->core, wanted << PAGE_SHIFT, pressing);

		if (released < 0)
			return control->nr_to_scan;
		if (released) {
			WRITE_ONCE(super->index_unloaded, true);
			atomic64_set(&super->index_wanted, 0);
		}
		freed += released >> PAGE_SHIFT;
	}
	return freed;
}

static int add_shrinker(struct vexfs_super *super)
{
#if VEXFS_KERNEL(6, 7)
	super->shrinker = shrinker_alloc(0, "vexfs-%s", super->sb->s_id);
	if (!super->shrinker)
		return -ENOMEM;
	super->shrinker->count_objects = count_cached;
	super->shrinker->scan_objects = free_cached;
	super->shrinker->private_data = super;
	shrinker_register(super->shrinker);
	return 0;
#else
	super->shrinker.count_objects = count_cached;
	super->shrinker.scan_objects = free_cached;
	super->shrinker.seeks = DEFAULT_SEEKS;
	return register_shrinker(&super->shrinker, "vexfs-%s", super->sb->s_id);
#endif
}

/* Also when it was not added. */
static void remove_shrinker(struct vexfs_super *super)
{
#if VEXFS_KERNEL(6, 7)
	shrinker_free(super->shrinker);
#else
	unregister_shrinker(&super->shrinker);
#endif
}

/* The last commit: nobody is left to try again, so want of memory is waited out for a while. */
static void commit_last(struct super_block *sb)
{
	unsigned int tries = 0;
	int error;

	while ((error = vexfs_commit(sb)) == -ENOMEM && tries++ < LAST_COMMIT_TRIES)
		msleep(LAST_COMMIT_PAUSE_MS);
	if (error)
		vexfs_error(sb, "what was changed last is lost (%d)", error);
}

/* Graphs follow from the vectors: for want of space or memory they are built anew later. */
static void store_graphs(struct super_block *sb)
{
	int error = vexfs_core_store_graphs(VEXFS_SB(sb)->core);

	if (error)
		vexfs_warning(sb, "search graphs are not stored (%d), and built anew later", error);
}

static void vexfs_put_super(struct super_block *sb)
{
	struct vexfs_super *super = VEXFS_SB(sb);

	vexfs_sysfs_remove(super);
	cancel_delayed_work_sync(&super->index_work);
	cancel_delayed_work_sync(&super->commit);
	/* Bios of reads that nobody waited for may still be on their way to it. */
	flush_workqueue(super->io_queue);
	remove_shrinker(super);
	if (!vexfs_is_read_only(sb) && !super->stopped) {
		store_graphs(sb);
		commit_last(sb);
	}
	cancel_work_sync(&super->shut_down);
	vexfs_core_unmount(super->core);
	super->core = NULL;
}

static const struct super_operations vexfs_super_operations = {
	.alloc_inode = vexfs_alloc_inode,
	.free_inode = vexfs_free_inode,
	.write_inode = vexfs_write_inode,
	.evict_inode = vexfs_evict_inode,
	.put_super = vexfs_put_super,
	.sync_fs = vexfs_sync_fs,
	.freeze_fs = vexfs_freeze_fs,
	.statfs = vexfs_statfs,
	.show_options = vexfs_show_options,
};

/* ---- options, taken ---- */

enum {
	OPTION_ERRORS,
	OPTION_ACL,
	OPTION_DISCARD,
	OPTION_COMMIT,
	OPTION_INDEX,
	OPTION_INDEX_MEMORY,
	OPTION_NORECOVERY,
	OPTION_EMERGENCY_RO,
};

static const struct constant_table error_values[] = {
	{ "continue", VEXFS_ERRORS_CONTINUE },
	{ "remount-ro", VEXFS_ERRORS_REMOUNT_RO },
	{ "panic", VEXFS_ERRORS_PANIC },
	{}
};

static const struct constant_table index_values[] = {
	{ "lazy", false },
	{ "preload", true },
	{}
};

static const struct fs_parameter_spec vexfs_parameters[] = {
	fsparam_enum("errors", OPTION_ERRORS, error_values),
	fsparam_flag_no("acl", OPTION_ACL),
	fsparam_flag_no("discard", OPTION_DISCARD),
	fsparam_u32("commit", OPTION_COMMIT),
	fsparam_enum("index", OPTION_INDEX, index_values),
	fsparam_string("index_memory", OPTION_INDEX_MEMORY),
	fsparam_flag("norecovery", OPTION_NORECOVERY),
	fsparam_flag("emergency_ro", OPTION_EMERGENCY_RO),
	{}
};

/* Bytes, with K, M or G behind; memparse() takes more than fits for what is left of it. */
static int parse_bytes(const char *text, u64 *bytes)
{
	size_t digits = strspn(text, "0123456789");
	char number[24];
	unsigned int shift;

	if (digits >= sizeof(number))
		return -ERANGE;
	strscpy(number, text, digits + 1);
	switch (toupper(text[digits])) {
	case '\0':
		return kstrtou64(number, 10, bytes);
	case 'K':
		shift = 10;
		break;
	case 'M':
		shift = 20;
		break;
	case 'G':
		shift = 30;
		break;
	default:
		return -EINVAL;
	}
	if (text[digits + 1] || kstrtou64(number, 10, bytes))
		return -EINVAL;
	return check_shl_overflow(*bytes, shift, bytes) ? -ERANGE : 0;
}

static int vexfs_parse_param(struct fs_context *fc, struct fs_parameter *parameter)
{
	struct vexfs_options *options = fc->fs_private;
	struct fs_parse_result result;
	int option = fs_parse(fc, vexfs_parameters, parameter, &result);

	switch (option) {
	case OPTION_ERRORS:
		options->on_error = result.uint_32;
		return 0;
	case OPTION_ACL:
		if (!IS_ENABLED(CONFIG_FS_POSIX_ACL) && !result.negated)
			return invalfc(fc, "this kernel has no access control lists");
		options->acl = !result.negated;
		return 0;
	case OPTION_DISCARD:
		options->discard = !result.negated;
		return 0;
	case OPTION_COMMIT:
		if (result.uint_32 < 1 || result.uint_32 > COMMIT_SECONDS_MAX)
			return invalfc(fc, "commit= takes 1 to %u seconds", COMMIT_SECONDS_MAX);
		options->commit_seconds = result.uint_32;
		return 0;
	case OPTION_INDEX:
		options->preload = result.uint_32;
		return 0;
	case OPTION_INDEX_MEMORY:
		if (parse_bytes(parameter->string, &options->index_memory) ||
		    options->index_memory < 1 << 20)
			return invalfc(fc, "index_memory= takes bytes with K, M or G, at least 1M");
		return 0;
	case OPTION_NORECOVERY:
		/* There is none, and where nothing may be written nothing is. */
		return 0;
	case OPTION_EMERGENCY_RO:
		/* It is shown, and mount(8) gives back what is. */
		return 0;
	default:
		return option;
	}
}

/* ---- mounting ---- */

static u64 index_memory(const struct vexfs_options *options)
{
	return options->index_memory ?: (u64)totalram_pages() << PAGE_SHIFT >> 1;
}

static void apply_options(struct vexfs_super *super, const struct vexfs_options *options)
{
	struct super_block *sb = super->sb;

	super->options = *options;
	if (options->acl)
		sb->s_flags |= SB_POSIXACL;
	else
		sb->s_flags &= ~SB_POSIXACL;
	vexfs_core_set_index_memory(super->core, index_memory(options));
}

static void reap_orphans(struct super_block *sb)
{
	u64 orphans = 0;
	int error = vexfs_core_reap_orphans(VEXFS_SB(sb)->core, &orphans);

	if (error)
		vexfs_check(sb, error, "orphans", 0);
	else if (orphans)
		vexfs_notice(sb, "removed %llu files that were open when it was last in use", orphans);
}

/* Tells whoever mounts, or the log, why not. */
#define vexfs_refuse(fc, sb, format, ...)                                                          \
	errorfc(fc, "%s: " format, (sb)->s_id, ##__VA_ARGS__)

/* What an error means that keeps a file system from being mounted. */
static const char *meaning_of(int error)
{
	if (is_damage(error))
		return "damaged, to be repaired by fsck.vexfs";
	if (error == -EIO)
		return "the device failed";
	if (error == -EOPNOTSUPP)
		return "made by a newer version, with features that this one does not know";
	return error == -ENOMEM ? "no memory" : "cannot be read";
}

static int vexfs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	const struct vexfs_options *options = fc->fs_private;
	struct vexfs_super *super;
	struct vexfs_status status;
	struct inode *root;
	int error;

	super = kzalloc(sizeof(*super), GFP_KERNEL);
	if (!super)
		return -ENOMEM;
	sb->s_fs_info = super;
	super->sb = sb;
	super->index_step_rows = 512;
	super->device.bdev = sb->s_bdev;
	super->device.bytes = bdev_nr_bytes(sb->s_bdev);
	INIT_DELAYED_WORK(&super->commit, commit_work);
	INIT_DELAYED_WORK(&super->index_work, vexfs_index_work);
	super->index_unloaded = true;
	get_random_bytes(&super->row_key, sizeof(super->row_key));
	ratelimit_state_init(&super->told, DEFAULT_RATELIMIT_INTERVAL, DEFAULT_RATELIMIT_BURST);
	INIT_WORK(&super->shut_down, shut_down);
	INIT_WORK(&super->io_work, vexfs_io_work);
	INIT_LIST_HEAD(&super->io_done);
	spin_lock_init(&super->io_lock);
	super->io_queue = alloc_workqueue("vexfs/%s", WQ_MEM_RECLAIM | WQ_UNBOUND, 0, sb->s_id);
	if (!super->io_queue)
		return -ENOMEM;

	error = vexfs_core_mount(&super->device, sb_rdonly(sb), options->discard,
				 min_t(u64, CACHE_BYTES_MAX, (u64)totalram_pages() << PAGE_SHIFT >> 4),
				 &super->core);
	if (error) {
		if (error != -EINVAL)
			vexfs_refuse(fc, sb, "not mounted: %s (%d)", meaning_of(error), error);
		else if (!(fc->sb_flags & SB_SILENT))
			vexfs_refuse(fc, sb, "not mounted: no VexFS found");
		return error;
	}
	error = vexfs_core_status(super->core, &status);
	if (error)
		return error;
	if (status.block_bytes > PAGE_SIZE) {
		vexfs_refuse(fc, sb, "not mounted: blocks of %u bytes are larger than pages",
			     status.block_bytes);
		return -EINVAL;
	}
	if (!sb_set_blocksize(sb, status.block_bytes)) {
		vexfs_refuse(fc, sb, "not mounted: the device does not do blocks of %u bytes",
			     status.block_bytes);
		return -EINVAL;
	}
	super->inline_bytes_max = status.inline_bytes_max;
	super->labelled = vexfs_is_labelled();
	vexfs_set_uuid(sb, status.uuid);
	sb->s_magic = VEXFS_SUPER_MAGIC;
	sb->s_op = &vexfs_super_operations;
	sb->s_xattr = (void *)vexfs_xattr_handlers();
	sb->s_export_op = &vexfs_export_operations;
	sb->s_maxbytes = VEXFS_FILE_BYTES_MAX;
	sb->s_time_gran = 1;
	sb->s_time_min = S64_MIN;
	sb->s_time_max = S64_MAX;
	/* Bytes must stay as they are while they are summed up and written. */
	sb->s_iflags |= SB_I_STABLE_WRITES | SB_I_CGROUPWB;
	sb->s_flags |= SB_I_VERSION;
	apply_options(super, options);

	root = vexfs_iget(sb, VEXFS_ROOT_INODE);
	if (IS_ERR(root)) {
		error = PTR_ERR(root);
		vexfs_refuse(fc, sb, "not mounted: its root directory: %s (%d)", meaning_of(error), error);
		return error;
	}
	sb->s_root = d_make_root(root);
	if (!sb->s_root)
		return -ENOMEM;
	error = vexfs_sysfs_add(super) ?: add_shrinker(super);
	if (error)
		return error;
	if (!sb_rdonly(sb))
		reap_orphans(sb);
	schedule_commit(super);
	if (options->preload)
		vexfs_index_kick(super);
	return 0;
}

static int vexfs_get_tree(struct fs_context *fc)
{
	return get_tree_bdev(fc, vexfs_fill_super);
}

static int vexfs_reconfigure(struct fs_context *fc)
{
	struct super_block *sb = fc->root->d_sb;
	struct vexfs_super *super = VEXFS_SB(sb);
	const struct vexfs_options *options = fc->fs_private;
	bool was_read_only, read_only;
	int error;

	sync_filesystem(sb);
	/* Writing may be about to end for damage or a failure: that comes first. */
	flush_work(&super->shut_down);
	was_read_only = vexfs_is_read_only(sb);
	read_only = fc->sb_flags_mask & SB_RDONLY ? fc->sb_flags & SB_RDONLY : was_read_only;
	if (options->discard != super->options.discard) {
		vexfs_refuse(fc, sb, "discard can only be chosen when mounting");
		return -EINVAL;
	}
	if (read_only != was_read_only) {
		if (!read_only && super->stopped) {
			vexfs_refuse(fc, sb, "stays read-only: it was shut down; unmount it first");
			return -EROFS;
		}
		if (!read_only && bdev_read_only(sb->s_bdev))
			return -EROFS;
		if (read_only) {
			/* It would change what is in memory after the last commit. */
			cancel_delayed_work_sync(&super->index_work);
			store_graphs(sb);
			error = vexfs_commit(sb);
			if (error) {
				vexfs_index_kick(super);
				return error;
			}
		}
		error = vexfs_core_set_read_only(super->core, read_only);
		if (error) {
			vexfs_refuse(fc, sb, "stays read-only: it has features of a newer version");
			return error;
		}
		if (!read_only && vexfs_core_is_read_only(super->core)) {
			vexfs_refuse(fc, sb, "stays read-only: the device failed; unmount it first");
			return -EROFS;
		}
		if (!read_only) {
			WRITE_ONCE(super->gave_up, false);
			WRITE_ONCE(super->giving_up, false);
			reap_orphans(sb);
		}
	}
	apply_options(super, options);
	if (options->preload || !read_only)
		vexfs_index_kick(super);
	fc->sb_flags = (fc->sb_flags & ~SB_POSIXACL) | (options->acl ? SB_POSIXACL : 0) | SB_I_VERSION;
	fc->sb_flags_mask |= SB_POSIXACL | SB_I_VERSION;
	return 0;
}

static void vexfs_free_context(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations vexfs_context_operations = {
	.parse_param = vexfs_parse_param,
	.get_tree = vexfs_get_tree,
	.reconfigure = vexfs_reconfigure,
	.free = vexfs_free_context,
};

static int vexfs_init_fs_context(struct fs_context *fc)
{
	struct vexfs_options *options = kzalloc(sizeof(*options), GFP_KERNEL);

	if (!options)
		return -ENOMEM;
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE) {
		*options = VEXFS_SB(fc->root->d_sb)->options;
	} else {
		options->on_error = VEXFS_ERRORS_REMOUNT_RO;
		options->commit_seconds = COMMIT_SECONDS_DEFAULT;
		options->acl = IS_ENABLED(CONFIG_FS_POSIX_ACL);
	}
	fc->fs_private = options;
	fc->ops = &vexfs_context_operations;
	return 0;
}

static void vexfs_kill_sb(struct super_block *sb)
{
	struct vexfs_super *super = VEXFS_SB(sb);

	kill_block_super(sb);
	if (!super)
		return;
	/* Here when mounting failed halfway; put_super has done it otherwise. */
	cancel_work_sync(&super->shut_down);
	if (super->core)
		vexfs_core_unmount(super->core);
	if (super->io_queue)
		destroy_workqueue(super->io_queue);
	kfree(super);
}

static struct file_system_type vexfs_type = {
	.owner = THIS_MODULE,
	.name = "vexfs",
	.fs_flags = FS_REQUIRES_DEV | FS_ALLOW_IDMAP,
	.init_fs_context = vexfs_init_fs_context,
	.parameters = vexfs_parameters,
	.kill_sb = vexfs_kill_sb,
};

int vexfs_register(void)
{
	int error;

	vexfs_inode_cache = kmem_cache_create("vexfs_inode", sizeof(struct vexfs_inode), 0,
					      SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT, init_once);
	if (!vexfs_inode_cache)
		return -ENOMEM;
	error = register_filesystem(&vexfs_type);
	if (error)
		kmem_cache_destroy(vexfs_inode_cache);
	return error;
}

void vexfs_unregister(void)
{
	unregister_filesystem(&vexfs_type);
	/* Inodes are freed after a grace period. */
	rcu_barrier();
	kmem_cache_destroy(vexfs_inode_cache);
}
