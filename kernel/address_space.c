// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page cache of files: reading with verified checksums, delayed allocation, writing back, and
 * what goes around the cache.
 *
 * A block that becomes dirty has space reserved for it in the core (a claim). Writeback turns claims
 * into blocks, writes them, and hands them to the core with their checksums (complete), from which
 * moment they are the file's. Nothing is ever written in place, so a state that was published before
 * keeps the old bytes.
 */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/writeback.h>

#include "vexfs.h"

/* Blocks that one request for a mapping asks for: as many checksums fit a page. */
#define MAP_BLOCKS 512
/* Blocks of one written piece, and of one allocation ahead of writeback. */
#define PIECE_BLOCKS 256
#define AHEAD_BLOCKS 2048
/* What was read is summed up where the interrupt came in up to this size, and by a thread above. */
#define VERIFY_AT_ONCE_BYTES 16384

/* ---- claims: which blocks have space reserved ---- */

#define CLAIM_BITS 32

/* The bits of word `word` that lie within blocks `first` to `end`. */
static u32 claim_mask(u64 word, u64 first, u64 end)
{
	u64 base = word * CLAIM_BITS;
	u32 mask = ~0U;

	if (first > base)
		mask &= ~0U << (first - base);
	if (end < base + CLAIM_BITS)
		mask &= ~(~0U << (end - base));
	return mask;
}

static u32 claim_word(struct vexfs_inode *vi, u64 word)
{
	void *entry = xa_load(&vi->claims, word);

	return entry ? xa_to_value(entry) : 0;
}

static int claim_set(struct vexfs_inode *vi, u64 word, u32 value)
{
	u32 old = claim_word(vi, word);
	void *entry = value ? xa_mk_value(value) : NULL;
	int error = xa_err(xa_store(&vi->claims, word, entry, GFP_NOFS));

	if (!error)
		vi->claimed += (u64)hweight32(value) - hweight32(old);
	return error;
}

u64 vexfs_claims_count(struct inode *inode)
{
	return READ_ONCE(VEXFS_I(inode)->claimed);
}

/* Reserves space for those of the blocks that have none. */
static int claims_add(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 last_word = (end - 1) / CLAIM_BITS;
	u64 word, missing = 0;
	int error = 0;

	mutex_lock(&vi->claims_lock);
	for (word = first / CLAIM_BITS; word <= last_word; word++)
		missing += hweight32(claim_mask(word, first, end) & ~claim_word(vi, word));
	if (missing)
		error = vexfs_core_reserve(vexfs_core_of(inode), missing);
	for (word = first / CLAIM_BITS; missing && !error && word <= last_word; word++) {
		u32 old = claim_word(vi, word);
		u32 new = old | claim_mask(word, first, end);

		if (new == old)
			continue;
		error = claim_set(vi, word, new);
		if (!error)
			missing -= hweight32(new & ~old);
		else
			vexfs_core_unreserve(vexfs_core_of(inode), missing);
	}
	mutex_unlock(&vi->claims_lock);
	return error;
}

/* Takes the claims of blocks away that were written. */
static void claims_clear(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 word;

	for (word = first / CLAIM_BITS; word <= (end - 1) / CLAIM_BITS; word++) {
		u32 old = claim_word(vi, word);
		u32 new = old & ~claim_mask(word, first, end);

		/* Storing less where something is stored needs no memory. */
		if (new != old)
			claim_set(vi, word, new);
	}
}

/*
 * Lets the claims of blocks go that will not be written: they were cut off. Those of blocks that
 * writeback has allocated ahead have no reservation any more; it sees that the claim is gone.
 */
void vexfs_claims_drop(struct inode *inode, u64 first, u64 end)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	unsigned long word;
	void *entry;
	u64 dropped = 0, cut;

	mutex_lock(&vi->claims_lock);
	cut = vi->ahead_to;
	if (end == U64_MAX && first < vi->ahead_to)
		cut = max(first, vi->ahead_from);
	xa_for_each_start(&vi->claims, word, entry, first / CLAIM_BITS) {
		u32 gone = xa_to_value(entry) & claim_mask(word, first, end);
		u32 ahead = 0;

		if (word * CLAIM_BITS >= end)
			break;
		if (!gone)
			continue;
		if (vi->ahead_from < (word + 1) * CLAIM_BITS && vi->ahead_to > word * CLAIM_BITS)
			ahead = claim_mask(word, vi->ahead_from, vi->ahead_to);
		dropped += hweight32(gone & ~ahead);
		claim_set(vi, word, xa_to_value(entry) & ~gone);
	}
	vi->ahead_to = cut;
	mutex_unlock(&vi->claims_lock);
	if (dropped)
		vexfs_core_unreserve(vexfs_core_of(inode), dropped);
}

/* How many of the blocks are claimed. */
static u64 claims_within(struct vexfs_inode *vi, u64 first, u64 end)
{
	u64 word, count = 0;

	for (word = first / CLAIM_BITS; first < end && word <= (end - 1) / CLAIM_BITS; word++)
		count += hweight32(claim_word(vi, word) & claim_mask(word, first, end));
	return count;
}

/* How many blocks from `block` on are claimed, without a gap and at most `limit`. */
static u64 claims_run(struct vexfs_inode *vi, u64 block, u64 limit)
{
	u64 at = block, end = block + limit;

	while (at < end) {
		u64 word = at / CLAIM_BITS;
		u32 free = ~claim_word(vi, word) & claim_mask(word, at, end);

		if (free)
			return word * CLAIM_BITS + __ffs(free) - block;
		at = (word + 1) * CLAIM_BITS;
	}
	return limit;
}

/* The first claimed block from `block` on, or `end`. */
static u64 claims_next(struct vexfs_inode *vi, u64 block, u64 end)
{
	unsigned long word;
	void *entry;

	xa_for_each_start(&vi->claims, word, entry, block / CLAIM_BITS) {
		u32 found = xa_to_value(entry) & claim_mask(word, block, end);

		if (found)
			return (u64)word * CLAIM_BITS + __ffs(found);
		if ((u64)word * CLAIM_BITS >= end)
			break;
	}
	return end;
}

/* ---- what was read or written, and what then ---- */

/* A part of a folio. */
struct vexfs_range {
	struct folio *folio;
	size_t bytes;
};

/* A bio on its way, with what is to be done when it arrives. */
struct vexfs_io {
	struct list_head list;
	struct inode *inode;
	void (*finish)(struct vexfs_io *io);
	u64 block; /* the first logical block */
	struct vexfs_piece piece; /* for a write */
	u32 *sums;
	unsigned int room; /* for so many of them */
	/* What is written is a copy; these are the ranges that it is of. */
	struct vexfs_range *copied;
	unsigned int copied_count;
	bool verified;
	struct bio bio;
};

static struct bio_set io_bios;

static int io_error(struct vexfs_io *io)
{
	return blk_status_to_errno(io->bio.bi_status);
}

/* Lets a thread finish it. */
static void io_defer(struct vexfs_io *io)
{
	struct vexfs_super *super = VEXFS_SB(io->inode->i_sb);
	unsigned long flags;
	bool first;

	spin_lock_irqsave(&super->io_lock, flags);
	first = list_empty(&super->io_done);
	list_add_tail(&io->list, &super->io_done);
	spin_unlock_irqrestore(&super->io_lock, flags);
	if (first)
		queue_work(super->io_queue, &super->io_work);
}

static struct vexfs_io *io_new(struct inode *inode, blk_opf_t operation, u64 block,
			       u64 device_block, unsigned int sums, unsigned int segments)
{
	unsigned int nofs = memalloc_nofs_save();
	struct bio *bio = bio_alloc_bioset(inode->i_sb->s_bdev, bio_max_segs(segments), operation,
					   GFP_NOFS, &io_bios);
	struct vexfs_io *io = container_of(bio, struct vexfs_io, bio);

	bio->bi_iter.bi_sector = device_block << (inode->i_blkbits - SECTOR_SHIFT);
	io->inode = inode;
	io->block = block;
	io->verified = false;
	io->room = sums;
	io->copied = NULL;
	io->copied_count = 0;
	/* A piece of the usual size: the kernel does not refuse so little. */
	io->sums = kmalloc_array(sums, sizeof(u32), GFP_NOFS | __GFP_NOFAIL);
	memalloc_nofs_restore(nofs);
	return io;
}

/* The first part of an empty bio always goes in. */
static void io_begin(struct vexfs_io *io, struct folio *folio, size_t bytes, size_t offset)
{
	WARN_ON_ONCE(!bio_add_folio(&io->bio, folio, bytes, offset));
}

static void io_free(struct vexfs_io *io)
{
	kfree(io->sums);
	bio_put(&io->bio);
}

/* ---- reading ---- */

/* A run of readahead, or of one folio: the mapping in force and the bio being filled. */
struct vexfs_read {
	struct inode *inode;
	bool ahead;
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
static bool range_is_sound(struct folio *folio, size_t offset, size_t bytes, unsigned int block_log2,
			   const u32 *sums)
{
	while (bytes) {
		const u8 *data = kmap_local_folio(folio, offset);
		u32 sum = vexfs_host_crc32c(0, data, 1U << block_log2);

		kunmap_local(data);
		if (sum != *sums++)
			return false;
		offset += 1U << block_log2;
		bytes -= 1U << block_log2;
	}
	return true;
}

/* Reads blocks by way of the core, which tells moved ones from damaged ones. */
static int read_by_core(struct inode *inode, struct folio *folio, size_t offset, size_t bytes)
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
			return vexfs_check(inode->i_sb, got, "data", inode->i_ino);
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
	int error = io_error(io);
	const u32 *sums = io->sums;
	struct folio_iter range;

	if (error)
		vexfs_check(inode->i_sb, -EIO, "data", inode->i_ino);
	bio_for_each_folio_all(range, &io->bio) {
		int this = error;

		if (!this && !io->verified &&
		    !range_is_sound(range.folio, range.offset, range.length, log2, sums))
			this = read_by_core(inode, range.folio, range.offset, range.length);
		sums += range.length >> log2;
		finish_read_range(range.folio, range.offset, range.length, this);
	}
	io_free(io);
}

static void read_end_io(struct bio *bio)
{
	struct vexfs_io *io = container_of(bio, struct vexfs_io, bio);
	const u32 *sums = io->sums;
	struct folio_iter range;
	size_t bytes = 0;

	if (io_error(io))
		goto defer;
	bio_for_each_folio_all(range, bio)
		bytes += range.length;
	if (bytes > VERIFY_AT_ONCE_BYTES)
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
	io_defer(io);
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
	if (read->ahead)
		blocks = MAP_BLOCKS;
	return vexfs_core_map(vexfs_core_of(inode), inode->i_ino, block,
			      min_t(u64, blocks, MAP_BLOCKS), mapping, read->sums);
}

/*
 * Reads whole blocks of a locked folio, or has them read: finish_read_range() is then called for
 * each part. Returns an error when it is called for none.
 */
static int read_range(struct vexfs_read *read, struct folio *folio, size_t offset, size_t bytes)
{
	struct inode *inode = read->inode;
	unsigned int log2 = inode->i_blkbits;
	int error;

	bytes = round_up(bytes, 1U << log2);
	while (bytes) {
		u64 block = (folio_pos(folio) + offset) >> log2;
		struct vexfs_mapping *mapping = &read->mapping;
		struct vexfs_io *io;
		u64 skip, part, at;

		error = read_map(read, block, bytes >> log2);
		if (error) {
			finish_read_range(folio, offset, bytes,
					  vexfs_check(inode->i_sb, error, "data", inode->i_ino));
			return 0;
		}
		skip = block - mapping->block;
		part = min_t(u64, bytes, (mapping->blocks - skip) << log2);
		if (mapping->state != VEXFS_STATE_WRITTEN) {
			error = 0;
			if (mapping->state == VEXFS_STATE_INLINE)
				error = read_by_core(inode, folio, offset, part);
			else
				folio_zero_range(folio, offset, part);
			finish_read_range(folio, offset, part, error);
			offset += part;
			bytes -= part;
			continue;
		}
		io = read->io;
		at = mapping->device_block + skip;
		part = min_t(u64, part, PIECE_BLOCKS << log2);
		if (io && (read->io_blocks + (part >> log2) > io->room ||
			   bio_end_sector(&io->bio) != at << (log2 - SECTOR_SHIFT) ||
			   !bio_add_folio(&io->bio, folio, part, offset))) {
			read_submit(read);
			io = NULL;
		} else if (io) {
			goto added;
		}
		io = io_new(inode, REQ_OP_READ | (read->ahead ? REQ_RAHEAD : 0), block, at,
			    read->ahead ? PIECE_BLOCKS : part >> log2,
			    read->ahead ? PIECE_BLOCKS : 1);
		io->finish = finish_read;
		io->bio.bi_end_io = read_end_io;
		read->io = io;
		read->io_blocks = 0;
		if (!read->ahead)
			io->bio.bi_opf |= REQ_SYNC;
		io_begin(io, folio, part, offset);
added:
		memcpy(io->sums + read->io_blocks, read->sums + skip, (part >> log2) * sizeof(u32));
		read->io_blocks += part >> log2;
		offset += part;
		bytes -= part;
	}
	return 0;
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

	return read_range(ctx->read_ctx, folio, offset_in_folio(folio, iter->pos), bytes);
}

static const struct iomap_read_ops read_ops = {
	.read_folio_range = read_folio_range,
};

static int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct vexfs_read read = { .inode = folio->mapping->host };
	struct iomap_read_folio_ctx ctx = {
		.ops = &read_ops,
		.cur_folio = folio,
		.read_ctx = &read,
	};

	iomap_read_folio(&read_iomap_ops, &ctx, NULL);
	read_end(&read);
	return 0;
}

static void vexfs_readahead(struct readahead_control *rac)
{
	struct vexfs_read read = { .inode = rac->mapping->host, .ahead = true };
	struct iomap_read_folio_ctx ctx = {
		.ops = &read_ops,
		.rac = rac,
		.read_ctx = &read,
	};

	iomap_readahead(&read_iomap_ops, &ctx, NULL);
	read_end(&read);
}

#else

static int vexfs_read_folio(struct file *file, struct folio *folio)
{
	struct vexfs_read read = { .inode = folio->mapping->host };

	read_range(&read, folio, 0, folio_size(folio));
	read_end(&read);
	return 0;
}

static void vexfs_readahead(struct readahead_control *rac)
{
	struct vexfs_read read = { .inode = rac->mapping->host, .ahead = true };
	struct folio *folio;

	while ((folio = readahead_folio(rac)))
		read_range(&read, folio, 0, folio_size(folio));
	read_end(&read);
}

#endif

/* ---- writing into the cache ---- */

/* Space for all that is about to become dirty; the bytes lie in the cache, whatever is behind. */
static int write_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			     struct iomap *iomap, struct iomap *srcmap)
{
	unsigned int log2 = inode->i_blkbits;
	/* Not more at once than a full disk can refuse without refusing a small rest. */
	loff_t end = min_t(loff_t, pos + length, round_down(pos, SZ_1M) + SZ_1M);
	u64 first = pos >> log2, last = ((end - 1) >> log2) + 1;
	int error = claims_add(inode, first, last);

	while (error == -ENOSPC && last - first > 1) {
		last = first + (last - first) / 2;
		error = claims_add(inode, first, last);
	}
	if (error)
		return vexfs_check(inode->i_sb, error, "data", inode->i_ino);
	iomap->type = IOMAP_MAPPED;
	iomap->addr = 0;
	iomap->offset = pos;
	iomap->length = min_t(loff_t, end, last << log2) - pos;
	iomap->bdev = inode->i_sb->s_bdev;
	return 0;
}

#ifdef VEXFS_IOMAP_HOOKS

/* The rest of a block that is written in part, at once. */
static int write_read_folio_range(const struct iomap_iter *iter, struct folio *folio, loff_t pos,
				  size_t bytes)
{
	struct inode *inode = iter->inode;

	return read_by_core(inode, folio, offset_in_folio(folio, pos), bytes);
}

static const struct iomap_write_ops write_ops = {
	.read_folio_range = write_read_folio_range,
};

static const struct iomap_ops write_iomap_ops = {
	.iomap_begin = write_iomap_begin,
};

#define buffered_write(iocb, from)                                                                 \
	iomap_file_buffered_write(iocb, from, &write_iomap_ops, &write_ops, NULL)
#define page_mkwrite(vmf) iomap_page_mkwrite(vmf, &write_iomap_ops, NULL)

#else

/*
 * This iomap reads the rest of a block by itself, unverified. So the folio is read first, and held
 * until iomap is done with it, which keeps it in the cache.
 */
static int pin_folio(struct inode *inode, loff_t pos, struct folio **pinned)
{
	struct folio *folio;

	if (!(pos & (PAGE_SIZE - 1)) || round_down(pos, PAGE_SIZE) >= i_size_read(inode))
		return 0;
	folio = read_mapping_folio(inode->i_mapping, pos >> PAGE_SHIFT, NULL);
	if (IS_ERR(folio))
		return PTR_ERR(folio);
	*pinned = folio;
	return 0;
}

struct vexfs_pins {
	struct folio *folios[2];
};

static void unpin(struct vexfs_pins *pins)
{
	int i;

	for (i = 0; pins && i < ARRAY_SIZE(pins->folios); i++)
		if (pins->folios[i])
			folio_put(pins->folios[i]);
	kfree(pins);
}

static int pinned_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			      struct iomap *iomap, struct iomap *srcmap)
{
	struct vexfs_pins *pins = NULL;
	int error = write_iomap_begin(inode, pos, length, flags, iomap, srcmap);

	/* On a fault the folio is there, and locked. */
	if (error || flags & IOMAP_FAULT)
		return error;
	if ((pos | (pos + iomap->length)) & (PAGE_SIZE - 1)) {
		pins = kzalloc(sizeof(*pins), GFP_KERNEL);
		if (!pins)
			return -ENOMEM;
		error = pin_folio(inode, pos, &pins->folios[0]);
		if (!error)
			error = pin_folio(inode, pos + iomap->length, &pins->folios[1]);
		if (error) {
			unpin(pins);
			return error;
		}
	}
	iomap->private = pins;
	return 0;
}

static int pinned_iomap_end(struct inode *inode, loff_t pos, loff_t length, ssize_t written,
			    unsigned int flags, struct iomap *iomap)
{
	unpin(iomap->private);
	return 0;
}

static const struct iomap_ops write_iomap_ops = {
	.iomap_begin = pinned_iomap_begin,
	.iomap_end = pinned_iomap_end,
};

#if VEXFS_KERNEL(6, 12)
#define buffered_write(iocb, from) iomap_file_buffered_write(iocb, from, &write_iomap_ops, NULL)
#else
#define buffered_write(iocb, from) iomap_file_buffered_write(iocb, from, &write_iomap_ops)
#endif
#define page_mkwrite(vmf) iomap_page_mkwrite(vmf, &write_iomap_ops)

#endif

ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from)
{
	ssize_t written = buffered_write(iocb, from);

#if !VEXFS_KERNEL(6, 5)
	if (written > 0)
		iocb->ki_pos += written;
#endif
	return written;
}

vm_fault_t vexfs_mkwrite(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	vm_fault_t result;
	int error;

	sb_start_pagefault(inode->i_sb);
	file_update_time(vmf->vma->vm_file);
	error = vexfs_note_bytes_change(inode);
	if (error) {
		result = error == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	} else {
		filemap_invalidate_lock_shared(inode->i_mapping);
		result = page_mkwrite(vmf);
		filemap_invalidate_unlock_shared(inode->i_mapping);
	}
	sb_end_pagefault(inode->i_sb);
	return result;
}

/* ---- writing back ---- */

/* A round of writeback: blocks allocated ahead, and the piece being written. */
struct vexfs_writeback {
	struct inode *inode;
	struct writeback_control *wbc;
	struct vexfs_piece *pieces;
	unsigned int count;
	unsigned int next; /* the piece to take blocks of, whose front is used up */
	struct vexfs_io *io;
};

static void finish_written_range(struct inode *inode, struct folio *folio, size_t bytes)
{
#ifdef VEXFS_IOMAP_HOOKS
	iomap_finish_folio_write(inode, folio, bytes);
#else
	folio_end_writeback(folio);
#endif
}

static void write_end_io(struct bio *bio)
{
	io_defer(container_of(bio, struct vexfs_io, bio));
}

/* Wakes those who wait for the pages of a written piece. */
static void release_written(struct vexfs_io *io, int error)
{
	struct folio_iter range;
	unsigned int i;

	if (error)
		mapping_set_error(io->inode->i_mapping, error);
	if (!io->copied) {
		bio_for_each_folio_all(range, &io->bio)
			finish_written_range(io->inode, range.folio, range.length);
	}
	for (i = 0; i < io->copied_count; i++)
		finish_written_range(io->inode, io->copied[i].folio, io->copied[i].bytes);
	if (io->copied)
		bio_free_pages(&io->bio);
	kfree(io->copied);
	io_free(io);
}

static void finish_write(struct vexfs_io *io)
{
	struct inode *inode = io->inode;
	struct vexfs_core *core = vexfs_core_of(inode);
	struct vexfs_inode_fields fields;
	int error = io_error(io);
	u64 size;

	if (error) {
		vexfs_check(inode->i_sb, -EIO, "data", inode->i_ino);
		vexfs_core_cancel(core, &io->piece, 0);
		release_written(io, error);
		return;
	}
	/* Cutting the file waits for the pages, so the size is not less than what is to stay. */
	size = min_t(u64, i_size_read(inode), (io->piece.block + io->piece.blocks) << inode->i_blkbits);
	error = vexfs_core_complete(core, inode->i_ino, &io->piece, 1, io->sums, size);
	vexfs_check(inode->i_sb, error, "data", inode->i_ino);
	if (!vexfs_core_inode(core, inode->i_ino, &fields))
		vexfs_take_blocks(inode, &fields);
	release_written(io, error);
}

/* Finishes everything that has arrived. */
void vexfs_io_work(struct work_struct *work)
{
	struct vexfs_super *super = container_of(work, struct vexfs_super, io_work);
	unsigned int nofs = memalloc_nofs_save();
	struct vexfs_io *io, *next;
	LIST_HEAD(done);

	spin_lock_irq(&super->io_lock);
	list_splice_init(&super->io_done, &done);
	spin_unlock_irq(&super->io_lock);
	list_for_each_entry_safe(io, next, &done, list)
		io->finish(io);
	memalloc_nofs_restore(nofs);
}

static void write_submit(struct vexfs_writeback *writeback)
{
	struct vexfs_io *io = writeback->io;

	if (!io)
		return;
	writeback->io = NULL;
	submit_bio(&io->bio);
}

/* Gives back what was allocated ahead and not used. */
static void drop_ahead(struct vexfs_writeback *writeback)
{
	struct vexfs_inode *vi = VEXFS_I(writeback->inode);

	mutex_lock(&vi->claims_lock);
	for (; writeback->next < writeback->count; writeback->next++) {
		struct vexfs_piece *piece = &writeback->pieces[writeback->next];
		/* What was cut off meanwhile needs no reservation any more. */
		u64 still = claims_within(vi, piece->block,
					  min(piece->block + piece->blocks, vi->ahead_to));

		vexfs_core_cancel(vexfs_core_of(writeback->inode), piece, still);
	}
	vi->ahead_from = vi->ahead_to = 0;
	mutex_unlock(&vi->claims_lock);
	writeback->count = writeback->next = 0;
}

/* Allocates blocks for `block` and those that are dirty behind it. */
static int allocate_ahead(struct vexfs_writeback *writeback, u64 block)
{
	struct inode *inode = writeback->inode;
	struct vexfs_inode *vi = VEXFS_I(inode);
	u64 blocks, limit = AHEAD_BLOCKS;
	s64 count;

	drop_ahead(writeback);
	if (!writeback->pieces)
		writeback->pieces = kvmalloc_array(AHEAD_BLOCKS, sizeof(struct vexfs_piece),
						   GFP_NOFS | __GFP_NOFAIL);
	mutex_lock(&vi->claims_lock);
	for (;;) {
		blocks = claims_run(vi, block, limit);
		count = vexfs_core_allocate(vexfs_core_of(inode), inode->i_ino, block,
					    max_t(u64, blocks, 1), blocks, writeback->pieces);
		if (count >= 0 || blocks <= 1)
			break;
		/* Perhaps less goes. */
		limit = blocks / 2;
	}
	if (count > 0) {
		writeback->count = count;
		vi->ahead_from = block;
		vi->ahead_to = block + max_t(u64, blocks, 1);
	}
	mutex_unlock(&vi->claims_lock);
	if (!count)
		return -EIO;
	return min_t(s64, count, 0);
}

/*
 * Whether a page may change while it is summed up and written. Those that are not mapped for writing
 * stay as they are (SB_I_STABLE_WRITES); of the others, a device may be the one that changes them, or a
 * processor that has not heard yet (user-mode Linux does not tell).
 */
static bool may_change(struct inode *inode, struct folio *folio)
{
	return mapping_writably_mapped(inode->i_mapping) || folio_maybe_dma_pinned(folio);
}

static u32 sum_up(struct folio *folio, size_t offset, unsigned int log2)
{
	const u8 *data = kmap_local_folio(folio, offset);
	u32 sum = vexfs_host_crc32c(0, data, 1U << log2);

	kunmap_local(data);
	return sum;
}

/* Adds blocks of a folio to a bio, or false if it takes no more. */
static bool add_blocks(struct vexfs_io *io, struct folio *folio, size_t offset, size_t bytes,
		      unsigned int log2)
{
	u32 *sums = io->sums + io->piece.blocks;
	size_t done;

	if (!io->copied) {
		if (!bio_add_folio(&io->bio, folio, bytes, offset))
			return false;
		for (done = 0; done < bytes; done += 1U << log2)
			*sums++ = sum_up(folio, offset + done, log2);
		return true;
	}
	for (done = 0; done < bytes; done += 1U << log2) {
		struct page *page = alloc_page(GFP_NOFS | __GFP_NOFAIL);
		struct folio *copy = page_folio(page);
		const u8 *data = kmap_local_folio(folio, offset + done);

		memcpy_to_page(page, 0, data, 1U << log2);
		kunmap_local(data);
		*sums++ = sum_up(copy, 0, log2);
		/* There is a segment for each block of a piece. */
		WARN_ON_ONCE(bio_add_page(&io->bio, page, 1U << log2, 0) != 1U << log2);
	}
	io->copied[io->copied_count++] = (struct vexfs_range){ .folio = folio, .bytes = bytes };
	return true;
}

/* A bio for blocks from `block` on, which go to `piece`. */
static struct vexfs_io *write_begin_piece(struct vexfs_writeback *writeback, u64 block,
					  const struct vexfs_piece *piece, bool copy)
{
	struct vexfs_io *io = io_new(writeback->inode,
				     REQ_OP_WRITE | wbc_to_write_flags(writeback->wbc), block,
				     piece->device_block, PIECE_BLOCKS, PIECE_BLOCKS);

	wbc_init_bio(writeback->wbc, &io->bio);
	io->finish = finish_write;
	io->bio.bi_end_io = write_end_io;
	io->piece = (struct vexfs_piece){ .block = block, .device_block = piece->device_block,
					  .in_place = piece->in_place };
	if (copy)
		io->copied = kmalloc_array(PIECE_BLOCKS, sizeof(*io->copied),
					   GFP_NOFS | __GFP_NOFAIL);
	return io;
}

/* Whether the bio goes on with these blocks. */
static bool goes_on(const struct vexfs_io *io, u64 block, const struct vexfs_piece *piece,
		    u64 blocks, bool copy)
{
	return io && io->piece.block + io->piece.blocks == block &&
	       io->piece.device_block + io->piece.blocks == piece->device_block &&
	       io->piece.in_place == piece->in_place && !io->copied == !copy &&
	       io->piece.blocks + blocks <= PIECE_BLOCKS;
}

/*
 * Writes whole blocks of a folio under writeback, at most `bytes` bytes. Returns how many, or an
 * error when there are none; finish_written_range() is called for those later.
 */
static ssize_t write_range(struct vexfs_writeback *writeback, struct folio *folio, size_t offset,
			   size_t bytes)
{
	struct inode *inode = writeback->inode;
	struct vexfs_inode *vi = VEXFS_I(inode);
	unsigned int log2 = inode->i_blkbits;
	bool copy = may_change(inode, folio);
	size_t done = 0;

	bytes = round_up(bytes, 1U << log2);
	while (done < bytes) {
		u64 block = (folio_pos(folio) + offset + done) >> log2, ahead = READ_ONCE(vi->ahead_to);
		struct vexfs_piece *piece = &writeback->pieces[writeback->next];
		u64 blocks;
		int error;

		if (writeback->next >= writeback->count || piece->block != block || block >= ahead) {
			error = allocate_ahead(writeback, block);
			if (error) {
				u64 end = (folio_pos(folio) + offset + bytes) >> log2;

				/* These bytes are lost, and whoever waits for them is told. */
				vexfs_check(inode->i_sb, error, "data", inode->i_ino);
				vexfs_claims_drop(inode, block, end);
				mapping_set_error(inode->i_mapping, error);
				return done ?: error;
			}
			piece = &writeback->pieces[writeback->next];
			ahead = READ_ONCE(vi->ahead_to);
		}
		blocks = min((u64)(bytes - done) >> log2, piece->blocks);
		blocks = min3(blocks, (u64)PIECE_BLOCKS, max(ahead, block + 1) - block);
		if (!goes_on(writeback->io, block, piece, blocks, copy) ||
		    !add_blocks(writeback->io, folio, offset + done, blocks << log2, log2)) {
			write_submit(writeback);
			writeback->io = write_begin_piece(writeback, block, piece, copy);
			/* The first part of an empty bio always goes in. */
			WARN_ON_ONCE(!add_blocks(writeback->io, folio, offset + done, blocks << log2,
						log2));
		}
		writeback->io->piece.blocks += blocks;
		piece->block += blocks;
		piece->device_block += blocks;
		piece->blocks -= blocks;
		mutex_lock(&vi->claims_lock);
		claims_clear(inode, block, block + blocks);
		vi->ahead_from = block + blocks;
		mutex_unlock(&vi->claims_lock);
		if (!piece->blocks)
			writeback->next++;
		done += blocks << log2;
	}
	return done;
}

/*
 * A small file's bytes go into the tree, with no block of their own. Returns whether that was done;
 * if not, the page is dirty still.
 */
static bool write_inline(struct inode *inode, struct writeback_control *wbc)
{
	u32 most = VEXFS_SB(inode->i_sb)->inline_bytes_max;
	struct folio *folio;
	u8 *bytes = NULL;
	size_t size = i_size_read(inode);
	bool done = false;

	if (!size || size > most || READ_ONCE(VEXFS_I(inode)->blocks))
		return false;
	folio = vexfs_cached_folio(filemap_lock_folio(inode->i_mapping, 0));
	if (!folio)
		return false;
	folio_wait_writeback(folio);
	bytes = kmalloc(most, GFP_NOFS);
	size = i_size_read(inode);
	if (!bytes || folio->mapping != inode->i_mapping || folio_size(folio) > PAGE_SIZE || !size ||
	    size > most || !folio_clear_dirty_for_io(folio))
		goto out;
	memcpy_from_page(bytes, folio_page(folio, 0), 0, size);
	done = !vexfs_core_complete_inline(vexfs_core_of(inode), inode->i_ino, bytes, size);
	if (!done) {
		folio_redirty_for_writepage(wbc, folio);
		goto out;
	}
	/* Whoever writes to the page from now on claims a block anew. */
	vexfs_claims_drop(inode, 0, 1);
	folio_start_writeback(folio);
	folio_end_writeback(folio);
out:
	folio_unlock(folio);
	folio_put(folio);
	kfree(bytes);
	return done;
}

#ifdef VEXFS_IOMAP_HOOKS

static ssize_t writeback_range(struct iomap_writepage_ctx *wpc, struct folio *folio, u64 pos,
			       unsigned int bytes, u64 end)
{
	return write_range(wpc->wb_ctx, folio, offset_in_folio(folio, pos), bytes);
}

static int writeback_submit(struct iomap_writepage_ctx *wpc, int error)
{
	write_submit(wpc->wb_ctx);
	return error;
}

static const struct iomap_writeback_ops writeback_ops = {
	.writeback_range = writeback_range,
	.writeback_submit = writeback_submit,
};

static int write_pages(struct vexfs_writeback *writeback)
{
	struct iomap_writepage_ctx wpc = {
		.inode = writeback->inode,
		.wbc = writeback->wbc,
		.ops = &writeback_ops,
		.wb_ctx = writeback,
		/* What is not a hole was written, and iomap waits for it. */
		.iomap.type = IOMAP_MAPPED,
	};

	return iomap_writepages(&wpc);
}

#else

static int write_one(
#if VEXFS_KERNEL(6, 3)
	struct folio *folio, struct writeback_control *wbc, void *context)
{
#else
	struct page *page, struct writeback_control *wbc, void *context)
{
	struct folio *folio = page_folio(page);
#endif
	struct vexfs_writeback *writeback = context;
	struct inode *inode = writeback->inode;
	loff_t size = i_size_read(inode), pos = folio_pos(folio);
	ssize_t written;

	if (pos >= size) {
		/* Being cut off. */
		folio_unlock(folio);
		return 0;
	}
	if (pos + folio_size(folio) > size)
		folio_zero_segment(folio, offset_in_folio(folio, size), folio_size(folio));
	folio_start_writeback(folio);
	written = write_range(writeback, folio, 0, folio_size(folio));
	folio_unlock(folio);
	if (written < 0)
		folio_end_writeback(folio);
	return min_t(ssize_t, written, 0);
}

static int write_pages(struct vexfs_writeback *writeback)
{
	return write_cache_pages(writeback->inode->i_mapping, writeback->wbc, write_one, writeback);
}

#endif

static int vexfs_writepages(struct address_space *mapping, struct writeback_control *wbc)
{
	struct inode *inode = mapping->host;
	struct vexfs_inode *vi = VEXFS_I(inode);
	struct vexfs_writeback writeback = { .inode = inode, .wbc = wbc };
	struct blk_plug plug;
	unsigned int nofs;
	int error = 0;

	if (unlikely(VEXFS_SB(inode->i_sb)->stopped))
		return -EIO;
	nofs = memalloc_nofs_save();
	mutex_lock(&vi->writeback_lock);
	if (!write_inline(inode, wbc)) {
		blk_start_plug(&plug);
		error = write_pages(&writeback);
		write_submit(&writeback);
		drop_ahead(&writeback);
		blk_finish_plug(&plug);
	}
	mutex_unlock(&vi->writeback_lock);
	kvfree(writeback.pieces);
	memalloc_nofs_restore(nofs);
	return error;
}

/*
 * Writes a range of the cache back and takes it out, for who changes what is behind it. On success no
 * writeback holds blocks allocated ahead until vexfs_settled(): what was unwritten space of the file
 * might be another's after the change.
 */
int vexfs_settle_range(struct inode *inode, loff_t start, loff_t end)
{
	int error;

	inode_dio_wait(inode);
	error = filemap_write_and_wait_range(inode->i_mapping, start, end);
	if (error)
		return error;
	truncate_pagecache_range(inode, round_down(start, PAGE_SIZE),
				 end == LLONG_MAX ? end : round_up(end + 1, PAGE_SIZE) - 1);
	mutex_lock(&VEXFS_I(inode)->writeback_lock);
	return 0;
}

void vexfs_settled(struct inode *inode)
{
	mutex_unlock(&VEXFS_I(inode)->writeback_lock);
}

/* ---- around the cache ---- */

/*
 * Bytes pass through pages of our own: a checksum has to be that of what is written, and a caller may
 * change its buffer at any time.
 */
#define DIRECT_BYTES SZ_1M

struct vexfs_direct {
	struct page **pages;
	unsigned int count;
	u32 *sums;
	struct vexfs_piece *pieces;
};

static void direct_free(struct vexfs_direct *direct)
{
	while (direct->count)
		__free_page(direct->pages[--direct->count]);
	kvfree(direct->pages);
	kvfree(direct->sums);
	kvfree(direct->pieces);
}

static int direct_allocate(struct vexfs_direct *direct, struct inode *inode, size_t bytes)
{
	unsigned int pages = DIV_ROUND_UP(bytes, PAGE_SIZE);
	unsigned int blocks = bytes >> inode->i_blkbits;

	direct->count = 0;
	direct->pages = kvcalloc(pages, sizeof(struct page *), GFP_KERNEL);
	direct->sums = kvcalloc(blocks, sizeof(u32), GFP_KERNEL);
	direct->pieces = kvcalloc(blocks, sizeof(struct vexfs_piece), GFP_KERNEL);
	if (!direct->pages || !direct->sums || !direct->pieces)
		goto no_memory;
	while (direct->count < pages) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page)
			goto no_memory;
		direct->pages[direct->count++] = page;
	}
	return 0;
no_memory:
	direct_free(direct);
	return -ENOMEM;
}

/* Moves `bytes` bytes between the device and the pages from `offset` on. */
static int direct_transfer(struct inode *inode, struct vexfs_direct *direct, blk_opf_t operation,
			   u64 device_block, size_t offset, size_t bytes)
{
	struct bio *bio;
	int error = 0;

	while (bytes && !error) {
		sector_t sector = device_block << (inode->i_blkbits - SECTOR_SHIFT);
		size_t done = 0;

		bio = bio_alloc(inode->i_sb->s_bdev, bio_max_segs(bytes / PAGE_SIZE + 1), operation,
				GFP_KERNEL);
		bio->bi_iter.bi_sector = sector;
		while (done < bytes) {
			size_t at = offset + done;
			size_t part = min_t(size_t, bytes - done, PAGE_SIZE - offset_in_page(at));

			if (bio_add_page(bio, direct->pages[at >> PAGE_SHIFT], part,
					 offset_in_page(at)) != part)
				break;
			done += part;
		}
		error = submit_bio_wait(bio);
		bio_put(bio);
		device_block += done >> inode->i_blkbits;
		offset += done;
		bytes -= done;
	}
	return error;
}

static u32 direct_sum(struct vexfs_direct *direct, size_t offset, unsigned int log2)
{
	const u8 *data = page_address(direct->pages[offset >> PAGE_SHIFT]) + offset_in_page(offset);

	return vexfs_host_crc32c(0, data, 1U << log2);
}

/* Fills the pages with `bytes` bytes of the file from `pos` on, whole blocks both. */
static int direct_fill(struct inode *inode, struct vexfs_direct *direct, loff_t pos, size_t bytes)
{
	unsigned int log2 = inode->i_blkbits;
	struct vexfs_core *core = vexfs_core_of(inode);
	size_t done = 0;

	while (done < bytes) {
		struct vexfs_mapping mapping;
		size_t part, i;
		bool sound;
		int error = vexfs_core_map(core, inode->i_ino, (pos + done) >> log2,
					   (bytes - done) >> log2, &mapping, direct->sums);

		if (error)
			return error;
		part = min_t(u64, bytes - done, mapping.blocks << log2);
		sound = mapping.state == VEXFS_STATE_WRITTEN;
		if (sound) {
			error = direct_transfer(inode, direct, REQ_OP_READ, mapping.device_block, done,
						part);
			if (error)
				return error;
			for (i = 0; i < part >> log2 && sound; i++)
				sound = direct_sum(direct, done + (i << log2), log2) ==
					direct->sums[i];
		}
		/* Holes, bytes in the tree, and blocks that have moved or are damaged. */
		for (i = 0; i < part && !sound; i += 1U << log2) {
			size_t at = done + i;
			u8 *data = page_address(direct->pages[at >> PAGE_SHIFT]) + offset_in_page(at);
			s64 got = vexfs_core_read(core, inode->i_ino, pos + at, data, 1U << log2);

			if (got < 0)
				return got;
			memset(data + got, 0, (1U << log2) - got);
		}
		done += part;
	}
	return 0;
}

ssize_t vexfs_direct_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t block = i_blocksize(inode);
	struct vexfs_direct direct;
	ssize_t total = 0;
	int error = 0;

	inode_lock_shared(inode);
	while (iov_iter_count(to) && iocb->ki_pos < i_size_read(inode)) {
		loff_t pos = iocb->ki_pos, size = i_size_read(inode);
		size_t skip = pos & (block - 1), copied;
		size_t bytes = min_t(u64, round_up(skip + min_t(u64, iov_iter_count(to), size - pos),
						   block), DIRECT_BYTES);
		size_t wanted = min_t(u64, min_t(u64, bytes - skip, iov_iter_count(to)), size - pos);

		error = filemap_write_and_wait_range(inode->i_mapping, pos - skip,
						     pos - skip + bytes - 1);
		if (!error)
			error = direct_allocate(&direct, inode, bytes);
		if (error)
			break;
		error = direct_fill(inode, &direct, pos - skip, bytes);
		for (copied = 0; !error && copied < wanted;) {
			size_t at = skip + copied;
			size_t part = min_t(size_t, wanted - copied, PAGE_SIZE - offset_in_page(at));
			size_t done = copy_page_to_iter(direct.pages[at >> PAGE_SHIFT],
							offset_in_page(at), part, to);

			copied += done;
			if (done < part)
				error = -EFAULT;
		}
		direct_free(&direct);
		iocb->ki_pos += copied;
		total += copied;
		if (error)
			break;
	}
	inode_unlock_shared(inode);
	file_accessed(iocb->ki_filp);
	return total ?: vexfs_check(inode->i_sb, error, "data", inode->i_ino);
}

/* Writes one bounced stretch of whole blocks. */
static int direct_store(struct inode *inode, struct vexfs_direct *direct, loff_t pos, size_t bytes)
{
	unsigned int log2 = inode->i_blkbits;
	struct vexfs_core *core = vexfs_core_of(inode);
	s64 count = vexfs_core_allocate(core, inode->i_ino, pos >> log2, bytes >> log2, 0,
					direct->pieces);
	size_t done = 0, i;
	s64 piece;
	int error = 0;

	if (count < 0)
		return count;
	for (i = 0; i < bytes >> log2; i++)
		direct->sums[i] = direct_sum(direct, i << log2, log2);
	for (piece = 0; piece < count && !error; piece++) {
		error = direct_transfer(inode, direct, REQ_OP_WRITE | REQ_SYNC | REQ_IDLE,
					direct->pieces[piece].device_block, done,
					direct->pieces[piece].blocks << log2);
		done += direct->pieces[piece].blocks << log2;
	}
	if (error) {
		for (piece = 0; piece < count; piece++)
			vexfs_core_cancel(core, &direct->pieces[piece], 0);
		return error;
	}
	return vexfs_core_complete(core, inode->i_ino, direct->pieces, count, direct->sums,
				   max_t(u64, pos + bytes, 0));
}

/* Under the inode's lock; position and length are whole blocks. */
ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	struct address_space *mapping = inode->i_mapping;
	struct vexfs_direct direct;
	ssize_t total = 0;
	int error = 0;

	inode_dio_begin(inode);
	while (iov_iter_count(from) && !error) {
		loff_t pos = iocb->ki_pos;
		size_t bytes = min_t(size_t, iov_iter_count(from), DIRECT_BYTES), copied = 0;

		error = direct_allocate(&direct, inode, bytes);
		if (error)
			break;
		while (copied < bytes) {
			size_t part = min_t(size_t, bytes - copied, PAGE_SIZE);
			size_t done = copy_page_from_iter(direct.pages[copied >> PAGE_SHIFT], 0, part,
							  from);

			copied += done;
			if (done < part)
				break;
		}
		if (copied < bytes) {
			error = -EFAULT;
			bytes = round_down(copied, i_blocksize(inode));
			iov_iter_revert(from, copied - bytes);
		}
		if (bytes) {
			int failed;

			filemap_invalidate_lock(mapping);
			failed = filemap_write_and_wait_range(mapping, pos, pos + bytes - 1);
			if (!failed)
				failed = direct_store(inode, &direct, pos, bytes);
			/* Whatever the cache holds of it is old now. */
			invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT,
						      (pos + bytes - 1) >> PAGE_SHIFT);
			if (!failed && pos + bytes > i_size_read(inode))
				i_size_write(inode, pos + bytes);
			filemap_invalidate_unlock(mapping);
			if (failed) {
				iov_iter_revert(from, bytes);
				error = failed;
			} else {
				iocb->ki_pos += bytes;
				total += bytes;
			}
		}
		direct_free(&direct);
	}
	inode_dio_end(inode);
	return total ?: vexfs_check(inode->i_sb, error, "data", inode->i_ino);
}

/* ---- what is where, for SEEK_DATA, SEEK_HOLE and FIEMAP ---- */

static bool note_extent(void *context, const struct vexfs_extent *extent)
{
	struct vexfs_extent *first = context;

	*first = *extent;
	return false;
}

static int report_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			      struct iomap *iomap, struct iomap *srcmap)
{
	struct vexfs_inode *vi = VEXFS_I(inode);
	unsigned int log2 = inode->i_blkbits;
	struct vexfs_extent extent = {};
	u64 block = pos >> log2, end, found;
	int error = vexfs_core_extents(vexfs_core_of(inode), inode->i_ino, pos, note_extent, &extent);

	if (error)
		return vexfs_check(inode->i_sb, error, "data", inode->i_ino);
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
	/* A hole, but for what is dirty in the cache. */
	end = ((pos + length - 1) >> log2) + 1;
	if (extent.length)
		end = min(end, extent.offset >> log2);
	mutex_lock(&vi->claims_lock);
	found = claims_next(vi, block, end);
	iomap->type = found == block ? IOMAP_DELALLOC : IOMAP_HOLE;
	if (found == block)
		found += claims_run(vi, block, end - block);
	mutex_unlock(&vi->claims_lock);
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

int vexfs_io_init(void)
{
	return bioset_init(&io_bios, 64, offsetof(struct vexfs_io, bio), BIOSET_NEED_BVECS);
}

void vexfs_io_exit(void)
{
	bioset_exit(&io_bios);
}
