// SPDX-License-Identifier: GPL-2.0-only
/* Inodes: between the core's and the VFS's, their attributes and flags, and their end. */

#include <linux/fs.h>
#include <linux/fileattr.h>
#include <linux/iversion.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/posix_acl.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/writeback.h>

#include "vexfs.h"

struct kmem_cache *vexfs_inode_cache;

/* Flags of FS_IOC_GETFLAGS that the format stores, and those that change what the VFS does. */
#define FLAGS_STORED                                                                               \
	(FS_SYNC_FL | FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL)

/* The longest target of a symbolic link. */
#define TARGET_BYTES_MAX 4095

static dev_t device_of(u64 number)
{
	return MKDEV(number >> 32, number & U32_MAX);
}

static void take_flags(struct inode *inode, u32 flags)
{
	unsigned int vfs = 0;

	if (flags & FS_SYNC_FL)
		vfs |= S_SYNC;
	if (flags & FS_IMMUTABLE_FL)
		vfs |= S_IMMUTABLE;
	if (flags & FS_APPEND_FL)
		vfs |= S_APPEND;
	if (flags & FS_NOATIME_FL)
		vfs |= S_NOATIME;
	if (flags & FS_DIRSYNC_FL)
		vfs |= S_DIRSYNC;
	inode_set_flags(inode, vfs, S_SYNC | S_IMMUTABLE | S_APPEND | S_NOATIME | S_DIRSYNC);
}

static u32 told_flags(const struct inode *inode)
{
	return READ_ONCE(VEXFS_I(inode)->flags) & FLAGS_STORED;
}

/* Takes over where the bytes are. */
static void take_blocks(struct inode *inode, const struct vexfs_inode_fields *fields)
{
	struct vexfs_inode *vi = VEXFS_I(inode);

	WRITE_ONCE(vi->flags, fields->flags);
	WRITE_ONCE(vi->blocks, fields->blocks);
}

/*
 * Takes over what an operation of the core has changed. The VFS has the newer times of last access, of a
 * change of the bytes (not of a directory's entries), and a regular file's size, until it writes them back.
 */
static void take_fields(struct inode *inode, const struct vexfs_inode_fields *fields)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	struct timespec64 changed = vexfs_to_timespec(&fields->changed);
	struct timespec64 modified = vexfs_to_timespec(&fields->modified);
	struct timespec64 known = inode_get_ctime(inode);
	struct timespec64 known_modified = inode_get_mtime(inode);

	set_nlink(inode, fields->links);
	if (timespec64_compare(&known, &changed) < 0)
		inode_set_ctime_to_ts(inode, changed);
	if (!S_ISREG(inode->i_mode))
		i_size_write(inode, fields->size);
	if (S_ISDIR(inode->i_mode)) {
		inode_set_mtime_to_ts(inode, modified);
	} else if (!timespec64_equal(&known_modified, &modified)) {
		/* The core's clock may have ticked between the VFS's look at it and its own. */
		mark_inode_dirty_sync(inode);
	}
	WRITE_ONCE(vi->content_version, fields->content_version);
	take_blocks(inode, fields);
	inode_set_max_iversion_raw(inode, fields->change << I_VERSION_QUERIED_SHIFT);
}

/* Takes over what the core says now. */
static int take_present(struct inode *inode, bool *counted)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	struct vexfs_inode_fields fields;
	int error;

	mutex_lock(&vi->fields_lock);
	error = vexfs_core_inode(vexfs_core_of(inode), inode->i_ino, &fields);
	if (!error) {
		*counted = fields.change > inode_peek_iversion(inode);
		take_fields(inode, &fields);
	}
	mutex_unlock(&vi->fields_lock);
	return vexfs_check(inode->i_sb, error, "inode", inode->i_ino);
}

/*
 * After an operation of the core on the inode. The count of its changes may not show it, if the VFS has
 * counted changes that the core does not know yet.
 */
int vexfs_refresh(struct inode *inode)
{
	bool counted;
	int error = take_present(inode, &counted);

	if (!error && !counted && inode_maybe_inc_iversion(inode, false))
		mark_inode_dirty_sync(inode);
	return error;
}

/* After an operation of the core on nothing but where the bytes are. */
void vexfs_refresh_blocks(struct inode *inode)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	struct vexfs_inode_fields fields;

	mutex_lock(&vi->fields_lock);
	if (!vexfs_core_inode(vexfs_core_of(inode), inode->i_ino, &fields))
		take_blocks(inode, &fields);
	mutex_unlock(&vi->fields_lock);
}

static int read_target(struct inode *inode)
{
	char *target = kmalloc(TARGET_BYTES_MAX + 1, GFP_KERNEL);
	s64 length;

	if (!target)
		return -ENOMEM;
	length = vexfs_core_inode_target(vexfs_core_of(inode), inode->i_ino, target,
					 TARGET_BYTES_MAX);
	if (length < 0) {
		kfree(target);
		return length;
	}
	target[length] = 0;
	inode->i_link = krealloc(target, length + 1, GFP_KERNEL) ?: target;
	return 0;
}

static int fill(struct inode *inode, const struct vexfs_inode_fields *fields)
{
	struct vexfs_inode *vi = VEXFS_I(inode);

	inode->i_mode = fields->mode;
	i_uid_write(inode, fields->uid);
	i_gid_write(inode, fields->gid);
	inode->i_generation = fields->generation;
	i_size_write(inode, fields->size);
	inode_set_atime_to_ts(inode, vexfs_to_timespec(&fields->accessed));
	inode_set_mtime_to_ts(inode, vexfs_to_timespec(&fields->modified));
	inode_set_ctime_to_ts(inode, vexfs_to_timespec(&fields->changed));
	vi->born = vexfs_to_timespec(&fields->born);
	take_fields(inode, fields);
	/* Whoever asked before is told another number by the next change. */
	inode_set_iversion_queried(inode, fields->change);
	take_flags(inode, fields->flags);

	switch (fields->mode & S_IFMT) {
	case S_IFREG:
		vi->perhaps_unwritten = fields->blocks;
		inode->i_op = &vexfs_file_inode_operations;
		inode->i_fop = &vexfs_file_operations;
		inode->i_mapping->a_ops = &vexfs_address_space_operations;
#ifdef VEXFS_IOMAP_HOOKS
		mapping_set_large_folios(inode->i_mapping);
#endif
		return 0;
	case S_IFDIR:
		inode->i_op = &vexfs_dir_inode_operations;
		inode->i_fop = &vexfs_dir_operations;
		return 0;
	case S_IFLNK:
		inode->i_op = &vexfs_symlink_inode_operations;
		return read_target(inode);
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		inode->i_op = &vexfs_special_inode_operations;
		init_special_inode(inode, fields->mode, device_of(fields->device));
		return 0;
	default:
		return -EUCLEAN;
	}
}

/* The inode of this number. It is held open in the core until it is evicted. */
struct inode *vexfs_iget(struct super_block *sb, u64 number)
{
	struct vexfs_inode_fields fields;
	struct inode *inode = iget_locked(sb, number);
	int error;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	if (!vexfs_inode_is_new(inode))
		return inode;
	error = vexfs_core_inode_open(VEXFS_SB(sb)->core, number, &fields);
	if (!error) {
		VEXFS_I(inode)->held = true;
		error = fill(inode, &fields);
	}
	if (error) {
		iget_failed(inode);
		return ERR_PTR(vexfs_check(sb, error, "inode", number));
	}
	unlock_new_inode(inode);
	return inode;
}

/*
 * An inode of this number apart from the one that others get: nobody finds it, and the core does not hold
 * it open, so that making and freeing it takes no lock of the core but that of the tree.
 */
struct inode *vexfs_inode_apart(struct super_block *sb, u64 number)
{
	struct vexfs_inode_fields fields;
	struct inode *inode = new_inode(sb);
	int error;

	if (!inode)
		return ERR_PTR(-ENOMEM);
	inode->i_ino = number;
	error = vexfs_core_inode(VEXFS_SB(sb)->core, number, &fields) ?: fill(inode, &fields);
	if (!error)
		return inode;
	iput(inode);
	return ERR_PTR(error);
}

void vexfs_evict_inode(struct inode *inode)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	bool goes = !inode->i_nlink;
	unsigned int nofs;
	int error;

	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	if (S_ISREG(inode->i_mode))
		vexfs_claims_drop(inode, 0, U64_MAX);
	if (!vi->held)
		return;
	vi->held = false;
	/*
	 * With the last hold, one without names goes: in a transaction, so without reclaim, and not while
	 * the file system is frozen.
	 */
	if (goes)
		sb_start_intwrite(inode->i_sb);
	nofs = memalloc_nofs_save();
	error = vexfs_core_inode_close(vexfs_core_of(inode), inode->i_ino);
	memalloc_nofs_restore(nofs);
	if (goes)
		sb_end_intwrite(inode->i_sb);
	vexfs_check(inode->i_sb, error, "inode", inode->i_ino);
}

/* ---- attributes ---- */

#define CHANGE_TIMES (VEXFS_CHANGE_ACCESSED | VEXFS_CHANGE_MODIFIED | VEXFS_CHANGE_CHANGED)

/* Stores times, as the VFS has them, and what `fields` names besides. */
static int store(struct inode *inode, u32 fields, u32 flags)
{
	struct vexfs_change change = {
		.fields = fields,
		.accessed = vexfs_from_timespec(inode_get_atime(inode)),
		.modified = vexfs_from_timespec(inode_get_mtime(inode)),
		.changed = vexfs_from_timespec(inode_get_ctime(inode)),
		.mode = inode->i_mode & 07777,
		.uid = i_uid_read(inode),
		.gid = i_gid_read(inode),
		.flags = flags,
		.change = inode_peek_iversion(inode),
	};
	int error = vexfs_core_inode_change(vexfs_core_of(inode), inode->i_ino, &change);

	return vexfs_check(inode->i_sb, error, "inode", inode->i_ino);
}

/* Stores what a caller has set, with all times; the inode is locked. */
static int store_attributes(struct inode *inode, u32 fields, u32 flags)
{
	return store(inode, fields | CHANGE_TIMES, flags) ?: vexfs_refresh(inode);
}

/* As `attr` has it, too. */
static int copy_attributes(struct mnt_idmap *idmap, struct inode *inode, const struct iattr *attr,
			   u32 fields)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	int error;

	/* What the core says of a directory's time, which is the old one yet, is not taken over in between. */
	mutex_lock(&vi->fields_lock);
	setattr_copy(idmap, inode, attr);
	error = store(inode, fields | CHANGE_TIMES, 0);
	mutex_unlock(&vi->fields_lock);
	return error ?: vexfs_refresh(inode);
}

/* Makes what was done to an inode durable, if it is marked for that or all are (chattr +S, mount -o sync). */
int vexfs_sync_marked(struct inode *inode)
{
	if (!IS_SYNC(inode))
		return 0;
	return sync_inode_metadata(inode, 1) ?: vexfs_commit(inode->i_sb);
}

int vexfs_store_mode(struct inode *inode)
{
	return store_attributes(inode, VEXFS_CHANGE_MODE, 0);
}

/*
 * What the VFS alone has noted: when it was read last and, unless it is a directory, written to. The
 * inode is not locked, so an operation of the core may be under way; a later change that it notes stays.
 */
int vexfs_write_inode(struct inode *inode, struct writeback_control *wbc)
{
	u32 fields = VEXFS_CHANGE_ACCESSED;
	unsigned int nofs;
	bool counted;
	int error;

	if (!inode->i_nlink && !S_ISREG(inode->i_mode))
		return 0;
	if (!S_ISDIR(inode->i_mode))
		fields |= VEXFS_CHANGE_MODIFIED | VEXFS_CHANGE_CHANGED | VEXFS_CHANGE_LATER;
	nofs = memalloc_nofs_save();
	error = store(inode, fields, 0) ?: take_present(inode, &counted);
	memalloc_nofs_restore(nofs);
	/* One that was removed for good has nothing to store. */
	return error == -ESTALE ? 0 : error;
}

/* Bytes that lie in the cache's page of the old end, behind it, were never the file's. */
void vexfs_zero_behind_end(struct inode *inode, loff_t size)
{
	struct folio *folio;

	if (!(size & (i_blocksize(inode) - 1)))
		return;
	folio = vexfs_cached_folio(filemap_lock_folio(inode->i_mapping, size >> PAGE_SHIFT));
	if (!folio)
		return;
	if (folio_test_uptodate(folio)) {
		size_t from = offset_in_folio(folio, size);

		folio_wait_stable(folio);
		folio_zero_segment(folio, from, round_up(from + 1, i_blocksize(inode)));
	}
	folio_unlock(folio);
	folio_put(folio);
}

static int set_size(struct inode *inode, loff_t size)
{
	struct address_space *mapping = inode->i_mapping;
	loff_t old = i_size_read(inode);
	int error = inode_newsize_ok(inode, size);

	if (error)
		return error;
	/* What was written and is to stay goes first, so that no state lacks it. */
	error = filemap_write_and_wait_range(mapping, 0, min(size, old) ? min(size, old) - 1 : 0);
	if (error)
		return error;
	filemap_invalidate_lock(mapping);
	/*
	 * The core puts zeros behind the end in the block that is cut, next to what it has of that block: what
	 * was stored there since goes first, too. From here on nobody stores anything.
	 */
	if (size < old && size & (i_blocksize(inode) - 1)) {
		error = filemap_write_and_wait_range(mapping, size - 1, size - 1);
		if (error)
			goto unlock;
	}
	error = vexfs_note_bytes_change(inode);
	if (error)
		goto unlock;
	if (size > old)
		vexfs_zero_behind_end(inode, old);
	truncate_setsize(inode, size);
	/* No writeback has allocated blocks for what is cut off. */
	mutex_lock(&VEXFS_I(inode)->writeback_lock);
	vexfs_claims_drop(inode, DIV_ROUND_UP_ULL(size, i_blocksize(inode)), U64_MAX);
	error = vexfs_core_truncate(vexfs_core_of(inode), inode->i_ino, size);
	mutex_unlock(&VEXFS_I(inode)->writeback_lock);
	filemap_invalidate_unlock(mapping);
	if (error) {
		/* Cutting many extents happens in steps: the size is what the core says now. */
		struct vexfs_inode_fields fields;

		if (!vexfs_core_inode(vexfs_core_of(inode), inode->i_ino, &fields))
			i_size_write(inode, fields.size);
		return vexfs_check(inode->i_sb, error, "size", inode->i_ino);
	}
	return vexfs_refresh(inode);
unlock:
	filemap_invalidate_unlock(mapping);
	return error;
}

int vexfs_setattr(struct mnt_idmap *idmap, struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	u32 fields = 0;
	int error;

	error = vexfs_refuses(inode->i_sb) ?: setattr_prepare(idmap, dentry, attr);
	if (error)
		return error;
	/* Of who opened it before, too. */
	if (attr->ia_valid & ATTR_SIZE && IS_IMMUTABLE(inode))
		return -EPERM;
	if (attr->ia_valid & ATTR_MODE)
		fields |= VEXFS_CHANGE_MODE;
	if (attr->ia_valid & ATTR_UID)
		fields |= VEXFS_CHANGE_UID;
	if (attr->ia_valid & ATTR_GID)
		fields |= VEXFS_CHANGE_GID;
	if (attr->ia_valid & ATTR_SIZE) {
		if (attr->ia_size != i_size_read(inode))
			attr->ia_valid |= ATTR_MTIME | ATTR_CTIME;
		if (fields) {
			/* First: no crash leaves other bytes with rights that were given to these. */
			error = copy_attributes(idmap, inode, attr, fields);
			if (error)
				return error;
		}
		error = set_size(inode, attr->ia_size);
		if (error)
			return error;
	}
	error = copy_attributes(idmap, inode, attr, fields);
	if (!error && attr->ia_valid & ATTR_MODE)
		error = vexfs_acl_chmod(idmap, dentry);
	return error ?: vexfs_sync_marked(inode);
}

int vexfs_getattr(struct mnt_idmap *idmap, const struct path *path, struct kstat *stat, u32 mask,
		  unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct vexfs_inode *vi = VEXFS_I(inode);
	u32 told = told_flags(inode);
	u64 claimed;

	stat->btime = vi->born;
	stat->result_mask |= STATX_BTIME;
	if (told & FS_IMMUTABLE_FL)
		stat->attributes |= STATX_ATTR_IMMUTABLE;
	if (told & FS_APPEND_FL)
		stat->attributes |= STATX_ATTR_APPEND;
	if (told & FS_NODUMP_FL)
		stat->attributes |= STATX_ATTR_NODUMP;
	stat->attributes_mask |= STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
	vexfs_fillattr(idmap, mask, inode, stat);
	stat->blksize = i_blocksize(inode);
	if (mask & STATX_DIOALIGN && S_ISREG(inode->i_mode)) {
		/* The bytes are copied, wherever they lie; what is not whole blocks goes by the cache. */
		stat->result_mask |= STATX_DIOALIGN;
		stat->dio_mem_align = 1;
		stat->dio_offset_align = i_blocksize(inode);
	}
	/* Space that is promised counts, so that a full file never looks empty. */
	claimed = vexfs_claims_count(inode);
	/* Blocks become the file's own first, and are no longer promised afterwards. */
	smp_rmb();
	stat->blocks = (READ_ONCE(vi->blocks) + claimed) << (inode->i_blkbits - SECTOR_SHIFT);
	if (S_ISREG(inode->i_mode)) {
		if (!stat->blocks && READ_ONCE(vi->flags) & VEXFS_INODE_INLINE)
			stat->blocks = DIV_ROUND_UP_ULL(stat->size, 1 << SECTOR_SHIFT);
	} else if (S_ISLNK(inode->i_mode)) {
		stat->blocks = 0;
	}
	return 0;
}

/* ---- flags ---- */

int vexfs_fileattr_get(struct dentry *dentry, struct file_kattr *attributes)
{
	fileattr_fill_flags(attributes, told_flags(d_inode(dentry)));
	return 0;
}

int vexfs_fileattr_set(struct mnt_idmap *idmap, struct dentry *dentry,
		       struct file_kattr *attributes)
{
	struct inode *inode = d_inode(dentry);
	u32 flags = attributes->flags;
	int error = vexfs_refuses(inode->i_sb);

	if (error)
		return error;
	if (fileattr_has_fsx(attributes))
		return -EOPNOTSUPP;
	if (flags & ~FLAGS_STORED)
		return -EOPNOTSUPP;
	if (!S_ISDIR(inode->i_mode))
		flags &= ~FS_DIRSYNC_FL;
	inode_set_ctime_current(inode);
	error = store_attributes(inode, VEXFS_CHANGE_FLAGS, flags);
	if (error)
		return error;
	take_flags(inode, flags);
	return vexfs_sync_marked(inode);
}

const struct inode_operations vexfs_special_inode_operations = {
	.setattr = vexfs_setattr,
	.getattr = vexfs_getattr,
	.listxattr = vexfs_listxattr,
	VEXFS_GET_INODE_ACL = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
};

const struct inode_operations vexfs_symlink_inode_operations = {
	.get_link = simple_get_link,
	.setattr = vexfs_setattr,
	.getattr = vexfs_getattr,
	.listxattr = vexfs_listxattr,
};
