// SPDX-License-Identifier: GPL-2.0-only
/* Regular files: reading, writing, space, sharing of blocks, making durable. */

#include <linux/backing-dev.h>
#include <linux/falloc.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/splice.h>
#include <linux/uio.h>
#include <linux/writeback.h>

#include "trace.h"
#include "vexfs.h"

/*
 * Notes in the core that the file's bytes are changing, once for all changes since anybody was told
 * of the content version. Under the inode's lock or, for a page that is mapped, the mapping's
 * invalidate_lock.
 */
int vexfs_note_bytes_change(struct inode *inode)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 version;
	int error;

	if (READ_ONCE(vi->version_noted))
		return 0;
	error = vexfs_core_touch_data(vexfs_core_of(inode), inode->i_ino,
				      vexfs_from_timespec(inode_get_mtime(inode)), &version);
	if (error)
		return vexfs_check(inode->i_sb, error, "inode", inode->i_ino);
	WRITE_ONCE(vi->content_version, version);
	WRITE_ONCE(vi->version_noted, true);
	return 0;
}

static ssize_t vexfs_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	if (unlikely(VEXFS_SB(file_inode(iocb->ki_filp)->i_sb)->stopped))
		return -EIO;
	if (!iov_iter_count(to))
		return 0;
	if (iocb->ki_flags & IOCB_DIRECT)
		return iocb->ki_flags & IOCB_NOWAIT ? -EAGAIN : vexfs_direct_read(iocb, to);
	return generic_file_read_iter(iocb, to);
}

/* Writes into the cache, up to where space ends in spite of room made for it. */
static ssize_t write_cached(struct kiocb *iocb, struct iov_iter *from)
{
	struct super_block *sb = file_inode(iocb->ki_filp)->i_sb;
	ssize_t total = 0, some;

	do {
		some = vexfs_with_room(sb, vexfs_buffered_write(iocb, from));
		total += max_t(ssize_t, some, 0);
	} while (some > 0 && iov_iter_count(from));
	return total ?: some;
}

/* Writes through the cache what cannot go around it, and leaves nothing of it there. */
static ssize_t write_unaligned(struct kiocb *iocb, struct iov_iter *from)
{
	struct address_space *mapping = iocb->ki_filp->f_mapping;
	loff_t start = iocb->ki_pos;
	ssize_t written;
	int error;

	iocb->ki_flags &= ~IOCB_DIRECT;
	written = write_cached(iocb, from);
	if (written <= 0)
		return written;
	error = filemap_write_and_wait_range(mapping, start, start + written - 1);
	if (error)
		return error;
	invalidate_mapping_pages(mapping, start >> PAGE_SHIFT,
				 (start + written - 1) >> PAGE_SHIFT);
	return written;
}

static ssize_t vexfs_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	bool direct = iocb->ki_flags & IOCB_DIRECT;
	ssize_t written;
	int error;

	/* Only reading from the cache needs not to wait. */
	if (iocb->ki_flags & IOCB_NOWAIT)
		return direct ? -EAGAIN : -EOPNOTSUPP;
	inode_lock(inode);
	written = generic_write_checks(iocb, from);
	if (written <= 0)
		goto out;
	error = vexfs_refuses(inode->i_sb) ?: IS_IMMUTABLE(inode) ? -EPERM : 0;
	error = error ?: file_modified(iocb->ki_filp) ?: vexfs_note_bytes_change(inode);
	if (error) {
		written = error;
		goto out;
	}
	if (iocb->ki_pos > i_size_read(inode))
		vexfs_zero_behind_end(inode, i_size_read(inode));
	if (direct && !((iocb->ki_pos | iov_iter_count(from)) & (i_blocksize(inode) - 1)))
		written = vexfs_direct_write(iocb, from);
	else if (direct)
		written = write_unaligned(iocb, from);
	else
		written = write_cached(iocb, from);
out:
	inode_unlock(inode);
	if (written > 0)
		written = generic_write_sync(iocb, written);
	return written;
}

static const struct vm_operations_struct vexfs_vm_operations = {
	.fault = filemap_fault,
	.map_pages = filemap_map_pages,
	.page_mkwrite = vexfs_mkwrite,
};

static int vexfs_mmap(struct file *file, struct vm_area_struct *area)
{
	if (unlikely(VEXFS_SB(file_inode(file)->i_sb)->stopped))
		return -EIO;
	file_accessed(file);
	area->vm_ops = &vexfs_vm_operations;
	return 0;
}

static int vexfs_open(struct inode *inode, struct file *file)
{
	int error = 0;

	if (unlikely(VEXFS_SB(inode->i_sb)->stopped))
		error = -EIO;
	else if (file->f_mode & FMODE_WRITE)
		error = vexfs_refuses(inode->i_sb);
	if (error)
		return error;
	file->f_mode |= FMODE_CAN_ODIRECT | FMODE_NOWAIT;
	return generic_file_open(inode, file);
}

int vexfs_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	struct inode *inode = file_inode(file);
	int error;

	if (unlikely(VEXFS_SB(inode->i_sb)->stopped))
		return -EIO;
	error = file_write_and_wait_range(file, start, end);
	if (error)
		return error;
	error = sync_inode_metadata(inode, 1);
	if (error)
		return error;
	return vexfs_commit(inode->i_sb);
}

static loff_t vexfs_llseek(struct file *file, loff_t offset, int whence)
{
	struct inode *inode = file_inode(file);

	switch (whence) {
	case SEEK_DATA:
	case SEEK_HOLE:
		inode_lock_shared(inode);
		if (whence == SEEK_DATA)
			offset = iomap_seek_data(inode, offset, &vexfs_report_iomap_ops);
		else
			offset = iomap_seek_hole(inode, offset, &vexfs_report_iomap_ops);
		inode_unlock_shared(inode);
		if (offset < 0)
			return offset;
		return vfs_setpos(file, offset, inode->i_sb->s_maxbytes);
	default:
		return generic_file_llseek(file, offset, whence);
	}
}

static int vexfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 length)
{
	int error;

	inode_lock_shared(inode);
	error = iomap_fiemap(inode, info, start, length, &vexfs_report_iomap_ops);
	inode_unlock_shared(inode);
	return error;
}

/*
 * Begins to tell somebody of the content version: whatever changes the bytes from here on moves it again.
 * So no page may be left that is written to without a fault. vexfs_version_told() ends it. The inode is
 * locked.
 */
int vexfs_tell_version(struct inode *inode, bool write_back)
{
	struct address_space *mapping = inode->i_mapping;
	int error = 0;

	filemap_invalidate_lock(mapping);
	if (write_back || mapping_writably_mapped(mapping))
		error = filemap_write_and_wait(mapping);
	if (error)
		filemap_invalidate_unlock(mapping);
	else
		WRITE_ONCE(VEXFS_I(inode)->version_noted, false);
	return error;
}

void vexfs_version_told(struct inode *inode)
{
	filemap_invalidate_unlock(inode->i_mapping);
}

/* Makes what was done to `file` durable, if it is open, or marked, for that (O_DSYNC, chattr +S). */
static int sync_changes(struct file *file)
{
	struct inode *inode = file_inode(file);

	if (!(file->f_flags & O_DSYNC) && !IS_SYNC(inode))
		return 0;
	return sync_inode_metadata(inode, 1) ?: vexfs_commit(inode->i_sb);
}

/* ---- space ---- */

/*
 * What lies behind a range moves. The core refuses what is not of whole blocks, or not within the file.
 * The inode is locked.
 */
static int shift(struct file *file, bool insert, loff_t offset, loff_t length)
{
	struct inode *inode = file_inode(file);
	loff_t size = i_size_read(inode);
	int error = 0;

	if (insert && length > inode->i_sb->s_maxbytes - size)
		return -EFBIG;
	if (insert)
		error = inode_newsize_ok(inode, size + length);
	if (!error)
		error = file_modified(file);
	if (error)
		return error;
	filemap_invalidate_lock(inode->i_mapping);
	error = vexfs_settle_range(inode, offset, LLONG_MAX);
	if (error)
		goto unlock;
	if (insert)
		error = vexfs_core_insert(vexfs_core_of(inode), inode->i_ino, offset, length);
	else
		error = vexfs_core_collapse(vexfs_core_of(inode), inode->i_ino, offset, length);
	vexfs_settled(inode);
	if (!error)
		i_size_write(inode, insert ? size + length : size - length);
	WRITE_ONCE(VEXFS_I(inode)->version_noted, false);
	vexfs_refresh(inode);
	vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
unlock:
	filemap_invalidate_unlock(inode->i_mapping);
	return error;
}

static int change_space(struct file *file, int mode, loff_t offset, loff_t length)
{
	struct inode *inode = file_inode(file);
	struct vexfs_core *core = vexfs_core_of(inode);
	bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
	loff_t size, end = offset + length;
	int error;

	error = vexfs_refuses(inode->i_sb);
	if (error)
		return error;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE |
		     FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		return -EOPNOTSUPP;
	inode_lock(inode);
	if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) {
		error = shift(file, mode & FALLOC_FL_INSERT_RANGE, offset, length);
		goto out;
	}
	size = i_size_read(inode);
	if (!keep_size && end > size) {
		error = inode_newsize_ok(inode, end);
		if (error)
			goto out;
	}
	error = file_modified(file);
	if (error)
		goto out;
	filemap_invalidate_lock(inode->i_mapping);
	/* The core decides by the blocks that it has, and its size. */
	if (!(mode & ~FALLOC_FL_KEEP_SIZE)) {
		error = vexfs_settle(inode);
	} else {
		if (size > 0)
			error = filemap_write_and_wait_range(inode->i_mapping, size - 1, size - 1);
		if (!error)
			error = vexfs_settle_range(inode, offset, end - 1);
	}
	if (error)
		goto unlock;
	WRITE_ONCE(VEXFS_I(inode)->perhaps_unwritten, true);
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		error = vexfs_core_punch(core, inode->i_ino, offset, length);
	} else if (mode & FALLOC_FL_ZERO_RANGE) {
		error = vexfs_core_zero_range(core, inode->i_ino, offset, length, keep_size);
	} else {
		error = vexfs_core_preallocate(core, inode->i_ino, offset, length, keep_size);
		if (!error)
			trace_vexfs_preallocate(inode, offset, length);
	}
	vexfs_settled(inode);
	if (!error && !keep_size && end > size) {
		vexfs_zero_behind_end(inode, size);
		i_size_write(inode, end);
	}
	WRITE_ONCE(VEXFS_I(inode)->version_noted, false);
	vexfs_refresh(inode);
	vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
unlock:
	filemap_invalidate_unlock(inode->i_mapping);
out:
	inode_unlock(inode);
	return error;
}

static long vexfs_fallocate(struct file *file, int mode, loff_t offset, loff_t length)
{
	int error = vexfs_with_room(file_inode(file)->i_sb,
				    change_space(file, mode, offset, length));

	return error ?: sync_changes(file);
}

/*
 * Shares a range of blocks, whose bytes are the same to `dedupe`; the inodes are locked, and their sizes
 * those that the core knows.
 */
static int share(struct inode *source, loff_t from, struct inode *target, loff_t to, loff_t length,
		 bool dedupe)
{
	struct vexfs_core *core = vexfs_core_of(source);
	loff_t end = to + length;
	int error = vexfs_settle_range(target, to, end - 1);

	if (error)
		return error;
	WRITE_ONCE(VEXFS_I(target)->perhaps_unwritten, true);
	if (dedupe)
		error = vexfs_core_dedupe_range(core, source->i_ino, from, target->i_ino, to, length);
	else
		error = vexfs_core_clone_range(core, source->i_ino, from, target->i_ino, to, length);
	vexfs_settled(target);
	if (!error && end > i_size_read(target)) {
		vexfs_zero_behind_end(target, i_size_read(target));
		i_size_write(target, end);
	}
	return error;
}

static loff_t remap(struct file *from_file, loff_t from, struct file *to_file, loff_t to,
		    loff_t length, unsigned int flags)
{
	struct inode *source = file_inode(from_file), *target = file_inode(to_file);
	bool whole, dedupe = flags & REMAP_FILE_DEDUP;
	int error;

	error = vexfs_refuses(source->i_sb);
	if (error)
		return error;
	if (flags & ~(REMAP_FILE_DEDUP | REMAP_FILE_ADVISORY))
		return -EINVAL;
	lock_two_nondirectories(source, target);
	filemap_invalidate_lock_two(source->i_mapping, target->i_mapping);
	error = generic_remap_file_range_prep(from_file, from, to_file, to, &length, flags);
	if (error)
		goto out;
	whole = !from && !to && length == i_size_read(source) && length >= i_size_read(target) &&
		!dedupe;
	if (!length && !whole)
		goto out;
	/* The core's sizes have to be those of the page cache. */
	error = filemap_write_and_wait(source->i_mapping) ?: filemap_write_and_wait(target->i_mapping);
	if (!error && length)
		error = share(source, from, target, to, length, dedupe);
	vexfs_check(source->i_sb, error, "data of inode", target->i_ino);
	/* A file cloned as a whole carries its vectors. */
	if (!error && whole) {
		u64 cloned;

		error = vexfs_core_vectors_clone(vexfs_core_of(source), source->i_ino,
						 target->i_ino, &cloned);
		vexfs_check_vectors(source, error);
	}
	WRITE_ONCE(VEXFS_I(source)->version_noted, false);
	WRITE_ONCE(VEXFS_I(target)->version_noted, false);
	vexfs_refresh(target);
	if (!error && !dedupe)
		error = file_modified(to_file);
out:
	filemap_invalidate_unlock_two(source->i_mapping, target->i_mapping);
	unlock_two_nondirectories(source, target);
	return error ?: length;
}

static loff_t vexfs_remap(struct file *from_file, loff_t from, struct file *to_file, loff_t to,
			  loff_t length, unsigned int flags)
{
	loff_t done = vexfs_with_room(file_inode(to_file)->i_sb,
				      remap(from_file, from, to_file, to, length, flags));

	return done < 0 ? done : sync_changes(to_file) ?: done;
}

const struct inode_operations vexfs_file_inode_operations = {
	.setattr = vexfs_setattr,
	.getattr = vexfs_getattr,
	.listxattr = vexfs_listxattr,
	.fiemap = vexfs_fiemap,
	VEXFS_GET_INODE_ACL = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
	.fileattr_get = vexfs_fileattr_get,
	.fileattr_set = vexfs_fileattr_set,
};

const struct file_operations vexfs_file_operations = {
	.llseek = vexfs_llseek,
	.read_iter = vexfs_read_iter,
	.write_iter = vexfs_write_iter,
	.mmap = vexfs_mmap,
	.open = vexfs_open,
	.fsync = vexfs_fsync,
	.splice_read = filemap_splice_read,
	.splice_write = iter_file_splice_write,
	.fallocate = vexfs_fallocate,
	.remap_file_range = vexfs_remap,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = vexfs_compat_ioctl,
	.uring_cmd = vexfs_uring_cmd,
	.setlease = generic_setlease, /* 7.0 has no leases without it */
};
