/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the module is built for (6.1 and later). The rest of the code
 * is written for the newest one.
 */
#ifndef VEXFS_COMPAT_H
#define VEXFS_COMPAT_H

#include <linux/bio.h>
#include <linux/fs.h>
#include <linux/pagemap.h>
#include <linux/version.h>
#include <linux/writeback.h>

#define VEXFS_KERNEL(major, minor) (LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0))

/* 6.3: mounts map identities by a type of its own. */
#if !VEXFS_KERNEL(6, 3)
#define mnt_idmap user_namespace
#define nop_mnt_idmap init_user_ns
#define file_mnt_idmap file_mnt_user_ns
#define mnt_idmap_of(mnt) mnt_user_ns(mnt)
#else
#define mnt_idmap_of(mnt) mnt_idmap(mnt)
#endif

/* 6.2: access control lists by dentry, the cached ones by inode. */
#if VEXFS_KERNEL(6, 2)
#define VEXFS_GET_INODE_ACL .get_inode_acl
#define VEXFS_SET_ACL_TAKES_DENTRY 1
#else
#define VEXFS_GET_INODE_ACL .get_acl
#endif

/* 6.3: locks and leases have a header of their own. */
#if VEXFS_KERNEL(6, 3)
#include <linux/filelock.h>
#endif

/* 6.3; folios are single pages before that here. */
#if !VEXFS_KERNEL(6, 3)
#define bio_add_folio(bio, folio, bytes, offset)                                                   \
	(bio_add_page(bio, folio_page(folio, 0), bytes, offset) == (bytes))
#endif

/* 6.4: a look-up in the page cache that finds nothing gives an error pointer. */
static inline struct folio *vexfs_cached_folio(struct folio *folio)
{
	return IS_ERR(folio) ? NULL : folio;
}

/* 6.5 */
#if !VEXFS_KERNEL(6, 5)
#define filemap_splice_read generic_file_splice_read
#endif

/* 6.6, 6.7, and later ones of 6.1 in part: times of inodes by accessors. */
#ifndef VEXFS_HAVE_INODE_GET_CTIME
static inline struct timespec64 inode_get_ctime(const struct inode *inode)
{
	return inode->i_ctime;
}

static inline struct timespec64 inode_set_ctime_to_ts(struct inode *inode, struct timespec64 time)
{
	inode->i_ctime = time;
	return time;
}

static inline struct timespec64 inode_set_ctime_current(struct inode *inode)
{
	inode->i_ctime = current_time(inode);
	return inode->i_ctime;
}
#endif
#if !VEXFS_KERNEL(6, 7)
static inline struct timespec64 inode_get_atime(const struct inode *inode)
{
	return inode->i_atime;
}

static inline struct timespec64 inode_get_mtime(const struct inode *inode)
{
	return inode->i_mtime;
}

static inline void inode_set_atime_to_ts(struct inode *inode, struct timespec64 time)
{
	inode->i_atime = time;
}

static inline void inode_set_mtime_to_ts(struct inode *inode, struct timespec64 time)
{
	inode->i_mtime = time;
}
#endif

/* 6.6: which attributes are asked for. */
static inline void vexfs_fillattr(struct mnt_idmap *idmap, u32 mask, struct inode *inode,
				  struct kstat *stat)
{
#if VEXFS_KERNEL(6, 6)
	generic_fillattr(idmap, mask, inode, stat);
#else
	generic_fillattr(idmap, inode, stat);
#endif
}

/* 6.7 */
#if VEXFS_KERNEL(6, 7)
#define VEXFS_XATTR_HANDLERS static const struct xattr_handler *const
#else
#define VEXFS_XATTR_HANDLERS static const struct xattr_handler *
#endif

/*
 * 6.7: whether the labels of something new are all that is to be known of it. Before, Smack notes of a directory
 * in memory that it transmutes, and stores it when the inode that was asked with gets its name.
 */
static inline bool vexfs_labels_are_all(const struct inode *inode)
{
	return VEXFS_KERNEL(6, 7) || !S_ISDIR(inode->i_mode);
}

/* 6.9 */
static inline void vexfs_set_uuid(struct super_block *sb, const u8 *uuid)
{
#if VEXFS_KERNEL(6, 9)
	super_set_uuid(sb, uuid, 16);
#else
	memcpy(&sb->s_uuid, uuid, 16);
#endif
}

static inline void vexfs_set_sysfs_name(struct super_block *sb, const char *name)
{
#if VEXFS_KERNEL(6, 9)
	super_set_sysfs_name_generic(sb, "%s", name);
#endif
}

/* 7.0: lists become attributes in memory of their own. */
#include <linux/posix_acl_xattr.h>
#include <linux/slab.h>
static inline void *vexfs_acl_to_xattr(struct posix_acl *acl, size_t *bytes)
{
#if VEXFS_KERNEL(7, 0)
	return posix_acl_to_xattr(&init_user_ns, acl, bytes, GFP_NOFS);
#else
	void *value;
	int error;

	*bytes = posix_acl_xattr_size(acl->a_count);
	value = kmalloc(*bytes, GFP_NOFS);
	if (!value)
		return NULL;
	error = posix_acl_to_xattr(&init_user_ns, acl, value, *bytes);
	if (error < 0) {
		kfree(value);
		return NULL;
	}
	return value;
#endif
}

/* Begins to write of the file system's own accord, unless it is frozen; sb_end_intwrite() ends it. */
static inline bool vexfs_start_write(struct super_block *sb)
{
	return sb_start_intwrite_trylock(sb);
}

/* 6.14, and later ones of 6.12: whose control group bytes are written for is told by folio. */
#define vexfs_account_cgroup(wbc, folio, bytes)                                                    \
	wbc_account_cgroup_owner(                                                                  \
		wbc,                                                                               \
		_Generic(&wbc_account_cgroup_owner,                                                \
			void (*)(struct writeback_control *, struct page *, size_t) :              \
				folio_page(folio, 0),                                              \
			default : (folio)),                                                        \
		bytes)

/* 6.15: mkdir gives the dentry back. */
#if VEXFS_KERNEL(6, 15)
#define VEXFS_MKDIR_RESULT struct dentry *
#define vexfs_mkdir_result(error) ERR_PTR(error)
#else
#define VEXFS_MKDIR_RESULT int
#define vexfs_mkdir_result(error) (error)
#endif

/* 6.17: the queues have names that say what they are. */
#if VEXFS_KERNEL(6, 17)
#define vexfs_unbound_queue system_dfl_wq
#else
#define vexfs_unbound_queue system_unbound_wq
#endif

/* 6.17 */
#if !VEXFS_KERNEL(6, 17)
#define file_kattr fileattr
#endif

/* 6.6: a part of a large folio may be dirty. */
#if VEXFS_KERNEL(6, 6)
#define vexfs_dirty_folio iomap_dirty_folio
#else
#define vexfs_dirty_folio filemap_dirty_folio
#endif

/* 7.0: iomap hands reading and writing back to the file system, so folios can be large. */
#if VEXFS_KERNEL(7, 0)
#define VEXFS_IOMAP_HOOKS 1
#endif

/* 6.12: what is written to is a folio. */
#if VEXFS_KERNEL(6, 12)
typedef struct folio vexfs_cached;
#define vexfs_cached_of(folio) (folio)
#define vexfs_folio_of(cached) (cached)
#else
typedef struct page vexfs_cached;
#define vexfs_cached_of(folio) folio_page(folio, 0)
#define vexfs_folio_of(cached) page_folio(cached)
#endif

/* 6.19: flags of an inode's state by accessors. */
static inline bool vexfs_inode_is_new(struct inode *inode)
{
#if VEXFS_KERNEL(6, 19)
	return inode_state_read_once(inode) & I_NEW;
#else
	return inode->i_state & I_NEW;
#endif
}

#endif
