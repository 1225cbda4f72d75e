// SPDX-License-Identifier: GPL-2.0-only
/* The operations of the page cache, and what is where in a file. */

#include <linux/iomap.h>
#include <linux/writeback.h>

#include "address_space.h"

static bool note_extent(void *context, const struct vexfs_extent *extent)
{
	struct vexfs_extent *first = context;

	*first = *extent;
	return false;
}

/* For SEEK_DATA, SEEK_HOLE and FIEMAP. */
static int report_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			      struct iomap *iomap, struct iomap *srcmap)
{
	unsigned int log2 = inode->i_blkbits;
	struct vexfs_extent extent = {};
	u64 block = pos >> log2, end = ((pos + length - 1) >> log2) + 1, found = block;
	/* Before the core is asked: what was written back until then it has. */
	u64 blocks = vexfs_claims_next(inode, &found, end);
	int error = vexfs_core_extents(vexfs_core_of(inode), inode->i_ino, pos, note_extent, &extent);

	if (error)
		return vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
	iomap->bdev = inode->i_sb->s_bdev;
	iomap->addr = IOMAP_NULL_ADDR;
	if (extent.length && extent.offset <= pos) {
		iomap->offset = extent.offset;
		iomap->length = extent.length;
		iomap->addr = extent.device_offset;
		iomap->flags = extent.shared ? IOMAP_F_SHARED : 0;
		iomap->type = extent.state == VEXFS_STATE_WRITTEN ? IOMAP_MAPPED :
			      extent.state == VEXFS_STATE_INLINE ? IOMAP_INLINE : IOMAP_UNWRITTEN;
		return 0;
	}
	/* A hole, but for what is dirty in the cache or on its way to the device. */
	iomap->type = found == block ? IOMAP_DELALLOC : IOMAP_HOLE;
	if (found == block)
		found += blocks;
	if (extent.length)
		found = min_t(u64, found, extent.offset >> log2);
	iomap->offset = (loff_t)block << log2;
	iomap->length = (loff_t)(found - block) << log2;
	return 0;
}

const struct iomap_ops vexfs_report_iomap_ops = {
	.iomap_begin = report_iomap_begin,
};

const struct address_space_operations vexfs_address_space_operations = {
	.read_folio = vexfs_read_folio,
	.readahead = vexfs_readahead,
	.writepages = vexfs_writepages,
	.dirty_folio = vexfs_dirty_folio,
#ifndef VEXFS_IOMAP_HOOKS
	.write_begin = vexfs_write_begin,
	.write_end = vexfs_write_end,
#endif
	.release_folio = iomap_release_folio,
	.invalidate_folio = iomap_invalidate_folio,
	.migrate_folio = filemap_migrate_folio,
	.is_partially_uptodate = iomap_is_partially_uptodate,
#if VEXFS_KERNEL(6, 8)
	.error_remove_folio = generic_error_remove_folio,
#else
	.error_remove_page = generic_error_remove_page,
#endif
};
