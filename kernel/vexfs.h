/* SPDX-License-Identifier: GPL-2.0-only */
/* What the C files of the module share. */
#ifndef VEXFS_H
#define VEXFS_H

#include <linux/completion.h>
#include <linux/errseq.h>
#include <linux/fs.h>
#include <linux/iomap.h>
#include <linux/kobject.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/shrinker.h>
#include <linux/siphash.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "boundary.h"
#include "compat.h"
#include "uapi/vexfs.h"

#define VEXFS_ROOT_INODE 1
#define VEXFS_NAME_BYTES_MAX 255
/* What the format allows. */
#define VEXFS_FILE_BYTES_MAX (16LL << 40)
#define VEXFS_GROUP_BLOCKS 8192

enum vexfs_on_error {
	VEXFS_ERRORS_CONTINUE,
	VEXFS_ERRORS_REMOUNT_RO,
	VEXFS_ERRORS_PANIC,
};

struct vexfs_options {
	enum vexfs_on_error on_error;
	unsigned int commit_seconds;
	bool acl;
	bool discard;
	bool preload;
	u64 index_memory; /* bytes; 0: half of the memory */
};

/* The block device, as the Rust half has it. */
struct vexfs_device {
	struct block_device *bdev;
	u64 bytes;
};

struct vexfs_super {
	struct super_block *sb;
	struct vexfs_core *core;
	struct vexfs_device device;
	struct vexfs_options options;
	u32 inline_bytes_max;
	hsiphash_key_t row_key; /* of what is told in place of rows' numbers */
	bool labelled; /* security modules judge files by labels */
	struct delayed_work commit;
	/* Bios whose data arrived, or were written, and what is to be done with them. */
	struct workqueue_struct *io_queue;
	struct work_struct io_work;
	struct list_head io_done;
	spinlock_t io_lock;
	struct delayed_work index_work;
	struct work_struct shut_down;
#if VEXFS_KERNEL(6, 7)
	struct shrinker *shrinker;
#else
	struct shrinker shrinker;
#endif
	atomic64_t index_wanted; /* pages of memory that were wanted back since the last search */
	bool index_unloaded; /* no search since collections were let go of, or since mounting */
	bool index_paused;
	bool index_at_work; /* a round is under way */
	bool preloaded;
	u32 index_after; /* the collection whose turn was last, of a round that is under way */
	u64 index_left_yet; /* vectors that this round has left for the next */
	u64 index_left; /* vectors that the last whole round left */
	u32 index_step_rows; /* vectors that one step adds to a graph */
	bool stopped;
	bool giving_up; /* writing, after damage or a failure; until it is mounted for writing again */
	bool gave_up; /* and it is done */
	bool write_failed; /* and it is told of */
	struct ratelimit_state told; /* how often damage is told of */
	struct kobject kobject;
	struct completion kobject_released;
	bool kobject_added;
	atomic64_t errors;
	atomic64_t searches;
	atomic64_t search_latency[32]; /* by the binary logarithm of the nanoseconds */
};

struct vexfs_inode {
	struct inode vfs;
	struct timespec64 born;
	u64 content_version;
	u64 flags; /* FS_IOC_GETFLAGS in the lower half, those of the format in the upper */
	u64 blocks;
	/* One after another takes over what the core says now, so that the latest stays. */
	struct mutex fields_lock;
	/* The core holds the inode open. */
	bool held;
	/*
	 * The content version has moved since anybody was told of it. Noted under the inode's lock or, of a
	 * page that is mapped, the mapping's invalidate_lock; anew under both.
	 */
	bool version_noted;
	/* Some of the file's blocks may be unwritten. */
	bool perhaps_unwritten;
	/* The blocks that have space to be written to, and by how many they make the file larger (claims.c). */
	struct xarray claims;
	u64 claimed;
	struct mutex claims_lock;
	/* One writeback at a time, as it allocates ahead of what it writes; nothing is cut meanwhile. */
	struct mutex writeback_lock;
};

static inline struct vexfs_super *VEXFS_SB(const struct super_block *sb)
{
	return sb->s_fs_info;
}

static inline struct vexfs_inode *VEXFS_I(const struct inode *inode)
{
	return container_of(inode, struct vexfs_inode, vfs);
}

static inline struct vexfs_core *vexfs_core_of(const struct inode *inode)
{
	return VEXFS_SB(inode->i_sb)->core;
}

static inline struct timespec64 vexfs_to_timespec(const struct vexfs_time *time)
{
	return (struct timespec64){ .tv_sec = time->seconds, .tv_nsec = time->nanoseconds };
}

/*
 * Whether nothing may be written: it is mounted so, or gave up. The VFS is not told of the latter: it changes
 * SB_RDONLY under s_umount, and a file system that has the flag all of a sudden while it is frozen never thaws.
 */
static inline bool vexfs_is_read_only(const struct super_block *sb)
{
	return sb_rdonly(sb) || unlikely(READ_ONCE(VEXFS_SB(sb)->giving_up));
}

/* Why nothing may be changed, also by who has opened a file for writing before, or 0. */
static inline int vexfs_refuses(const struct super_block *sb)
{
	if (unlikely(VEXFS_SB(sb)->stopped))
		return -EIO;
	return unlikely(vexfs_is_read_only(sb)) ? -EROFS : 0;
}

static inline struct vexfs_time vexfs_from_timespec(struct timespec64 time)
{
	return (struct vexfs_time){ .seconds = time.tv_sec, .nanoseconds = time.tv_nsec };
}

__printf(3, 4) void vexfs_log(struct super_block *sb, const char *level, const char *format, ...);

#define vexfs_error(sb, format, ...) vexfs_log(sb, KERN_ERR, format, ##__VA_ARGS__)
#define vexfs_warning(sb, format, ...) vexfs_log(sb, KERN_WARNING, format, ##__VA_ARGS__)
#define vexfs_notice(sb, format, ...) vexfs_log(sb, KERN_NOTICE, format, ##__VA_ARGS__)

/* super.c */
int vexfs_register(void);
void vexfs_unregister(void);
int vexfs_check(struct super_block *sb, int error, const char *what, u64 place);
int vexfs_check_bytes(struct inode *inode, int error);
int vexfs_check_vectors(struct inode *inode, int error);
int vexfs_check_read(struct inode *inode, int error, loff_t pos);
int vexfs_commit(struct super_block *sb);
bool vexfs_make_room(struct super_block *sb);

/* How often what is short of space is tried again at most: others take what was made room for, too. */
#define VEXFS_ROOM_TRIES 3

/*
 * The outcome of an operation, done again with room made for it when it finds no space. The caller holds no
 * lock that writing back takes: those of inodes, of mappings and of the VFS are none.
 */
#define vexfs_with_room(sb, operation)                                                             \
	({                                                                                         \
		typeof(operation) _outcome;                                                        \
		unsigned int _tries = 0;                                                           \
                                                                                                   \
		do                                                                                 \
			_outcome = (operation);                                                    \
		while (_outcome == -ENOSPC && _tries++ < VEXFS_ROOM_TRIES && vexfs_make_room(sb)); \
		_outcome;                                                                          \
	})

/* inode.c */
extern struct kmem_cache *vexfs_inode_cache;
struct inode *vexfs_iget(struct super_block *sb, u64 number);
struct inode *vexfs_inode_apart(struct super_block *sb, u64 number);
void vexfs_refresh_blocks(struct inode *inode);
int vexfs_refresh(struct inode *inode);
void vexfs_zero_behind_end(struct inode *inode, loff_t size);
int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr);
int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		  unsigned int flags);
int vexfs_fileattr_get(struct dentry *dentry, struct file_kattr *attributes);
int vexfs_fileattr_set(struct mnt_idmap *idmap, struct dentry *dentry,
		       struct file_kattr *attributes);
int vexfs_sync_marked(struct inode *inode);
int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc);
void vexfs_evict_inode(struct inode *inode);
extern const struct inode_operations vexfs_special_inode_operations;
extern const struct inode_operations vexfs_symlink_inode_operations;

/* dir.c */
extern const struct inode_operations vexfs_dir_inode_operations;
extern const struct file_operations vexfs_dir_operations;

/* file.c */
extern const struct inode_operations vexfs_file_inode_operations;
extern const struct file_operations vexfs_file_operations;
int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync);
int vexfs_note_bytes_change(struct inode *inode);
int vexfs_tell_version(struct inode *inode, bool write_back);
void vexfs_version_told(struct inode *inode);

/* claims.c */
u64 vexfs_claims_count(struct inode *inode);
void vexfs_claims_drop(struct inode *inode, u64 first, u64 end);

/* page_io.c */
int vexfs_io_init(void);
void vexfs_io_exit(void);
void vexfs_io_work(struct work_struct *work);

/* page_write.c */
ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from);
vm_fault_t vexfs_mkwrite(struct vm_fault *vmf);
int vexfs_settle(struct inode *inode);
int vexfs_settle_range(struct inode *inode, loff_t start, loff_t end);
void vexfs_settled(struct inode *inode);

/* direct.c */
ssize_t vexfs_direct_read(struct kiocb *iocb, struct iov_iter *to);
ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from);

/* address_space.c */
extern const struct address_space_operations vexfs_address_space_operations;
extern const struct iomap_ops vexfs_report_iomap_ops;

/* xattr.c */
const void *vexfs_xattr_handlers(void);
int vexfs_store_mode(struct inode *inode);
ssize_t vexfs_listxattr(struct dentry *dentry, char *buffer, size_t bytes);
struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu);
#ifdef VEXFS_SET_ACL_TAKES_DENTRY
int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry, struct posix_acl *acl, int type);
#else
int vexfs_set_acl(struct mnt_idmap *idmap, struct inode *inode, struct posix_acl *acl, int type);
#endif
int vexfs_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry);

#define VEXFS_NEW_LISTS 2

/* What something new has from the start. */
struct vexfs_inherited {
	/* Access control lists, by type; their attributes come first. */
	struct posix_acl *lists[VEXFS_NEW_LISTS];
	struct vexfs_new_attribute attributes[VEXFS_NEW_ATTRIBUTES];
	/* All labels are among them. */
	bool labelled;
};

int vexfs_inherit(struct mnt_idmap *idmap, struct inode *dir, const struct qstr *name, umode_t *mode,
		  struct vexfs_inherited *inherited);
int vexfs_inherited_by(struct inode *inode, struct inode *dir, const struct qstr *name,
		       const struct vexfs_inherited *inherited);
void vexfs_inherited_free(struct vexfs_inherited *inherited);

/* export.c */
extern const struct export_operations vexfs_export_operations;

/* ioctl.c */
int vexfs_want_write(struct file *file);
long vexfs_ioctl(struct file *file, unsigned int command, unsigned long argument);
long vexfs_compat_ioctl(struct file *file, unsigned int command, unsigned long argument);
int vexfs_uring_cmd(struct io_uring_cmd *command, unsigned int issue_flags);

/* index.c */
struct vexfs_index_sums {
	u64 collections;
	u64 vectors;
	u64 indexed;
	u64 unindexed;
	u64 bytes; /* of memory */
	u64 damaged;
};

int vexfs_index_sum(struct vexfs_super *super, struct vexfs_index_sums *sums);
void vexfs_index_work(struct work_struct *work);
void vexfs_index_kick(struct vexfs_super *super);

/* sysfs.c */
int vexfs_sysfs_init(void);
void vexfs_sysfs_exit(void);
int vexfs_sysfs_add(struct vexfs_super *super);
void vexfs_sysfs_remove(struct vexfs_super *super);

/* host.c */
int vexfs_host_init(void);

/* monitor.c */
bool vexfs_is_labelled(void);
int vexfs_monitor_open(struct file *file, struct vexfs_query *query);
void vexfs_monitor_close(struct vexfs_query *query);

#endif
