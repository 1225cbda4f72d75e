// SPDX-License-Identifier: GPL-2.0-only
/* Reading into the page cache. What comes from the device is compared with its checksums. */

#include <linux/iomap.h>
#include <linux/slab.h>

#include "address_space.h"
#include "crc32c.h"

/* Blocks that one request for a mapping asks for, with a checksum each. */
#define MAP_BLOCKS 512
/*
 * What was read is summed up where the interrupt came in up to this size, some 10 us by instruction, and
 * by a thread above.
 */
#define VERIFY_AT_ONCE_BYTES 262144
/* The same, by table. */
#define VERIFY_SLOWLY_AT_ONCE_BYTES 16384

/* A run of readahead, or of one folio: the mapping in force and the bio being filled. */
struct vexfs_read {
	struct inode *inode;
	/* The block behind the last of a readahead, 0 for one folio. */
	u64 ahead_end;
	struct vexfs_mapping mapping;
	u32 *sums;
	struct vexfs_io *io;
	u64 io_blocks;
};

static void finish_read_range(struct folio *folio, size_t offset, size_t bytes, int error)
{
#ifdef VEXFS_IOMAP_HOOKS
	iomap_finish_folio_read(folio, offset, bytes, error);
#else
	if (!error)
		folio_mark_uptodate(folio);
	folio_unlock(folio);
#endif
}

/* Whether the blocks of a folio's range are what was written. */
static bool range_is_sound(struct folio *folio, size_t offset, size_t bytes, unsigned int log2,
			   const u32 *sums)
{
	size_t done;

	for (done = 0; done < bytes; done += 1U << log2)
		if (vexfs_sum_block(folio, offset + done, log2) != *sums++)
			return false;
	return true;
}

/* Reads blocks by way of the core, which tells moved ones from damaged ones. */
int vexfs_read_by_core(struct inode *inode, struct folio *folio, size_t offset, size_t bytes)
{
	loff_t at = folio_pos(folio) + offset;

	while (bytes) {
		size_t part = min_t(size_t, bytes, PAGE_SIZE - offset_in_page(offset));
		u8 *data = kmap_local_folio(folio, offset);
		s64 got = vexfs_core_read(vexfs_core_of(inode), inode->i_ino, at, data, part);

		if (got >= 0 && got < part)
			memset(data + got, 0, part - got);
		kunmap_local(data);
		if (got < 0)
			return vexfs_check_read(inode, got, at);
		at += part;
		offset += part;
		bytes -= part;
	}
	flush_dcache_folio(folio);
	return 0;
}

static void finish_read(struct vexfs_io *io)
{
	struct inode *inode = io->inode;
	unsigned int log2 = inode->i_blkbits;
	int error = vexfs_io_error(io);
	const u32 *sums = io->sums;
	struct folio_iter range;

	/* What was read ahead in vain is read again by who wants it. */
	if (error && !(io->bio.bi_opf & REQ_RAHEAD))
		vexfs_check_bytes(inode, -EIO);
	bio_for_each_folio_all(range, &io->bio) {
		int this = error;

		if (!this && !io->verified &&
		    !range_is_sound(range.folio, range.offset, range.length, log2, sums))
			this = vexfs_read_by_core(inode, range.folio, range.offset, range.length);
		sums += range.length >> log2;
		finish_read_range(range.folio, range.offset, range.length, this);
	}
	vexfs_io_free(io);
}

static void read_end_io(struct bio *bio)
{
	struct vexfs_io *io = container_of(bio, struct vexfs_io, bio);
	const u32 *sums = io->sums;
	struct folio_iter range;
	size_t bytes = 0;

	if (vexfs_io_error(io))
		goto defer;
	bio_for_each_folio_all(range, bio)
		bytes += range.length;
	if (bytes > (vexfs_crc32c_is_fast() ? VERIFY_AT_ONCE_BYTES : VERIFY_SLOWLY_AT_ONCE_BYTES))
		goto defer;
	bio_for_each_folio_all(range, bio) {
		if (!range_is_sound(range.folio, range.offset, range.length, io->inode->i_blkbits,
				    sums))
			goto defer;
		sums += range.length >> io->inode->i_blkbits;
	}
	io->verified = true;
	finish_read(io);
	return;
defer:
	vexfs_io_defer(io);
}

static void read_submit(struct vexfs_read *read)
{
	struct vexfs_io *io = read->io;

	if (!io)
		return;
	read->io = NULL;
	submit_bio(&io->bio);
}

static void read_end(struct vexfs_read *read)
{
	read_submit(read);
	kfree(read->sums);
}

/* Makes the mapping in force that of block `block`. */
static int read_map(struct vexfs_read *read, u64 block, u64 blocks)
{
	struct inode *inode = read->inode;
	struct vexfs_mapping *mapping = &read->mapping;

	if (mapping->blocks && block >= mapping->block && block - mapping->block < mapping->blocks)
		return 0;
	if (!read->sums) {
		read->sums = kmalloc_array(MAP_BLOCKS, sizeof(u32), GFP_NOFS);
		if (!read->sums)
			return -ENOMEM;
	}
	mapping->blocks = 0;
	if (read->ahead_end > block)
		blocks = read->ahead_end - block;
	return vexfs_core_map(vexfs_core_of(inode), inode->i_ino, block,
			      min_t(u64, blocks, MAP_BLOCKS), mapping, read->sums);
}

/* Whether the bio goes on with blocks from `device_block` on. */
static bool goes_on(const struct vexfs_read *read, u64 device_block, u64 blocks)
{
	unsigned int shift = read->inode->i_blkbits - SECTOR_SHIFT;

	return read->io && read->io_blocks + blocks <= read->io->room &&
	       bio_end_sector(&read->io->bio) == device_block << shift;
}

static void read_begin(struct vexfs_read *read, u64 block, u64 device_block, u64 blocks)
{
	struct vexfs_io *io;

	if (read->ahead_end > block + blocks)
		blocks = min_t(u64, read->ahead_end - block, VEXFS_PIECE_BLOCKS);
	io = vexfs_io_new(read->inode, REQ_OP_READ | (read->ahead_end ? REQ_RAHEAD : REQ_SYNC),
			  device_block, blocks);
	io->finish = finish_read;
	io->bio.bi_end_io = read_end_io;
	read->io = io;
	read->io_blocks = 0;
}

static struct vexfs_read read_ahead(struct readahead_control *rac)
{
	struct inode *inode = rac->mapping->host;
	u64 end = readahead_pos(rac) + readahead_length(rac);

	return (struct vexfs_read){ .inode = inode, .ahead_end = end >> inode->i_blkbits };
}

/* Has whole blocks of a folio read that lie on the device from block `skip` of the mapping on. */
static void read_from_device(struct vexfs_read *read, struct folio *folio, size_t offset, u64 skip,
			     u64 blocks)
{
	u64 at = read->mapping.device_block + skip;
	size_t bytes = blocks << read->inode->i_blkbits;

	if (!goes_on(read, at, blocks) || !bio_add_folio(&read->io->bio, folio, bytes, offset)) {
		read_submit(read);
		read_begin(read, read->mapping.block + skip, at, blocks);
		/* The first part of an empty bio always goes in. */
		WARN_ON_ONCE(!bio_add_folio(&read->io->bio, folio, bytes, offset));
	}
	memcpy(read->io->sums + read->io_blocks, read->sums + skip, blocks * sizeof(u32));
	read->io_blocks += blocks;
}

/*
 * Reads whole blocks of a locked folio, or has them read: finish_read_range() is called for each
 * part, now or later.
 */
static void read_range(struct vexfs_read *read, struct folio *folio, size_t offset, size_t bytes)
{
	struct inode *inode = read->inode;
	struct vexfs_mapping *mapping = &read->mapping;
	unsigned int log2 = inode->i_blkbits;
	size_t end = offset + round_up(bytes, 1U << log2);

	while (offset < end) {
		u64 block = (folio_pos(folio) + offset) >> log2, skip, blocks;
		int error = read_map(read, block, (end - offset) >> log2);

		if (error) {
			finish_read_range(folio, offset, end - offset,
					  vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino));
			return;
		}
		skip = block - mapping->block;
		blocks = min_t(u64, (end - offset) >> log2, mapping->blocks - skip);
		blocks = min_t(u64, blocks, VEXFS_PIECE_BLOCKS);
		if (mapping->state == VEXFS_STATE_WRITTEN) {
			read_from_device(read, folio, offset, skip, blocks);
		} else {
			if (mapping->state == VEXFS_STATE_INLINE)
				error = vexfs_read_by_core(inode, folio, offset, blocks << log2);
			else
				folio_zero_range(folio, offset, blocks << log2);
			finish_read_range(folio, offset, blocks << log2, error);
		}
		offset += blocks << log2;
	}
}

#ifdef VEXFS_IOMAP_HOOKS

/* iomap tells which ranges are to be read; what is behind them it need not know. */
static int read_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			    struct iomap *iomap, struct iomap *srcmap)
{
	iomap->type = IOMAP_MAPPED;
	iomap->addr = 0;
	iomap->offset = pos;
	iomap->length = length;
	iomap->bdev = inode->i_sb->s_bdev;
	return 0;
}

static const struct iomap_ops read_iomap_ops = {
	.iomap_begin = read_iomap_begin,
};

static int read_folio_range(const struct iomap_iter *iter, struct iomap_read_folio_ctx *ctx,
			    size_t bytes)
{
	struct folio *folio = ctx->cur_folio;

	read_range(ctx->read_ctx, folio, offset_in_folio(folio, iter->pos), bytes);
	return 0;
}

static const struct iomap_read_ops read_ops = {
	.read_folio_range = read_folio_range,
};

/* Has iomap keep account of the parts of a folio. */
static void read_in_parts(struct vexfs_read *read, struct folio *folio)
{
	struct iomap_read_folio_ctx ctx = {
		.ops = &read_ops,
		.cur_folio = folio,
		.read_ctx = read,
	};

	iomap_read_folio(&read_iomap_ops, &ctx, NULL);
}

/* Whether a folio is read by one call of finish_read_range(). */
static bool is_in_one_piece(struct vexfs_read *read, struct folio *folio)
{
	u64 block = folio_pos(folio) >> read->inode->i_blkbits;
	u64 blocks = folio_size(folio) >> read->inode->i_blkbits;

	if (blocks == 1)
		return true;
	return !folio_test_private(folio) && blocks <= VEXFS_PIECE_BLOCKS &&
	       !read_map(read, block, blocks) &&
	       block - read->mapping.block + blocks <= read->mapping.blocks;
}

#else

static void read_in_parts(struct vexfs_read *read, struct folio *folio)
{
}

/* Folios are of one page, and so are blocks. */
static bool is_in_one_piece(struct vexfs_read *read, struct folio *folio)
{
	return true;
}

#endif

static void read_folio(struct vexfs_read *read, struct folio *folio)
{
	if (is_in_one_piece(read, folio))
		read_range(read, folio, 0, folio_size(folio));
	else
		read_in_parts(read, folio);
}

int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct vexfs_read read = { .inode = folio->mapping->host };

	read_folio(&read, folio);
	read_end(&read);
	return 0;
}

void vexfs_readahead(struct readahead_control *rac)
{
	struct vexfs_read read = read_ahead(rac);
	struct folio *folio;

	while ((folio = readahead_folio(rac)))
		read_folio(&read, folio);
	read_end(&read);
}
