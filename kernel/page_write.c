// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writing into the page cache, and back from it.
 *
 * A block that becomes dirty has its space (a claim, see claims.c). Writeback turns claims into blocks,
 * writes them, and hands them to the core with their checksums (complete), from which moment they are
 * the file's. Only blocks that were given to the file and never written are written where they are; all
 * others go elsewhere, so a state that was published before keeps the old bytes.
 */

#include <linux/backing-dev.h>
#include <linux/blkdev.h>
#include <linux/iomap.h>
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/writeback.h>

#include "address_space.h"
#include "trace.h"

/* Blocks that are allocated ahead of their writing at most. */
#define AHEAD_BLOCKS 2048
/* How often memory is waited for, a clock tick to a fiftieth of a second each time. */
#define MEMORY_TRIES 250

/* ---- writing into the cache ---- */

/*
 * Claims space for bytes up to `*end` that are about to become dirty, or for the first of them, and tells
 * where these end.
 */
static int claim_ahead(struct inode *inode, loff_t pos, loff_t *end)
{
	unsigned int log2 = inode->i_blkbits;
	/* Not more at once than a full disk can refuse without refusing a small rest. */
	loff_t most = min_t(loff_t, *end, round_down(pos, SZ_1M) + SZ_1M);
	u64 first = pos >> log2, last = ((most - 1) >> log2) + 1;
	int error = vexfs_claims_add(inode, first, last);

	while (error == -ENOSPC && last - first > 1) {
		last = first + (last - first) / 2;
		error = vexfs_claims_add(inode, first, last);
	}
	*end = min_t(loff_t, most, last << log2);
	return vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
}

/* Lets the claims of blocks go that are not dirty. No page becomes dirty and none is written back. */
static void drop_clean(struct inode *inode, u64 first, u64 end);

/* Of a write some bytes from `pos` on became dirty: what was claimed for others is let go. */
static void claimed_in_vain(struct inode *inode, loff_t pos, loff_t end, loff_t written)
{
	unsigned int log2 = inode->i_blkbits;
	u64 first = written ? ((pos + written - 1) >> log2) + 1 : pos >> log2;
	u64 last = ((end - 1) >> log2) + 1;

	if (first >= last)
		return;
	filemap_invalidate_lock(inode->i_mapping);
	mutex_lock(&VEXFS_I(inode)->writeback_lock);
	drop_clean(inode, first, last);
	mutex_unlock(&VEXFS_I(inode)->writeback_lock);
	filemap_invalidate_unlock(inode->i_mapping);
}

/*
 * Claims the blocks of a folio that is stored into. It becomes dirty as a whole, behind the end of the file
 * too, or not at all.
 */
static int claim_stored(struct inode *inode, loff_t pos, loff_t end, const struct iomap *iomap)
{
	unsigned int log2 = inode->i_blkbits;
#ifdef VEXFS_IOMAP_HOOKS
	struct vm_fault *fault = container_of(iomap, struct iomap_iter, iomap)->private;
	struct folio *folio = page_folio(fault->page);

	end = folio_pos(folio) + folio_size(folio);
#endif
	return vexfs_check(inode->i_sb,
			   vexfs_claims_add(inode, pos >> log2, ((end - 1) >> log2) + 1), "data of inode",
			   inode->i_ino);
}

/* The bytes lie in the cache, whatever is behind. */
static int write_iomap_begin(struct inode *inode, loff_t pos, loff_t length, unsigned int flags,
			     struct iomap *iomap, struct iomap *srcmap)
{
	loff_t end = pos + length;
	int error;

	if (flags & IOMAP_FAULT)
		error = claim_stored(inode, pos, end, iomap);
	else
		error = claim_ahead(inode, pos, &end);
	if (error)
		return error;
	iomap->type = IOMAP_MAPPED;
	iomap->addr = 0;
	iomap->offset = pos;
	iomap->length = end - pos;
	iomap->bdev = inode->i_sb->s_bdev;
	return 0;
}

#ifdef VEXFS_IOMAP_HOOKS

static void drop_clean_bytes(struct inode *inode, loff_t pos, loff_t bytes, struct iomap *iomap)
{
	unsigned int log2 = inode->i_blkbits;

	/* The end of the file may be within a block. */
	vexfs_claims_drop(inode, DIV_ROUND_UP_ULL(pos, i_blocksize(inode)), (pos + bytes) >> log2);
}

static void drop_clean(struct inode *inode, u64 first, u64 end)
{
	unsigned int log2 = inode->i_blkbits;

	iomap_write_delalloc_release(inode, first << log2, end << log2, 0, NULL, drop_clean_bytes);
}

static int write_iomap_end(struct inode *inode, loff_t pos, loff_t length, ssize_t written,
			   unsigned int flags, struct iomap *iomap)
{
	/* A page that is stored into becomes dirty as a whole. */
	if (written < length && !(flags & IOMAP_FAULT))
		claimed_in_vain(inode, pos, pos + length, max_t(ssize_t, written, 0));
	return 0;
}

static const struct iomap_ops write_iomap_ops = {
	.iomap_begin = write_iomap_begin,
	.iomap_end = write_iomap_end,
};

/*
 * A locked folio with space for the part of it that is written: what was dirty when that was claimed may
 * have been written back since, which used the claim up.
 */
static struct folio *write_get_folio(struct iomap_iter *iter, loff_t pos, unsigned int bytes)
{
	struct inode *inode = iter->inode;
	unsigned int log2 = inode->i_blkbits;
	struct folio *folio = iomap_get_folio(iter, pos, bytes);
	loff_t end;
	int error;

	if (IS_ERR(folio))
		return folio;
	end = min_t(loff_t, pos + bytes, folio_pos(folio) + folio_size(folio));
	error = vexfs_claims_add(inode, pos >> log2, ((end - 1) >> log2) + 1);
	if (!error)
		return folio;
	folio_unlock(folio);
	folio_put(folio);
	return ERR_PTR(vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino));
}

/* The rest of a block that is written in part, at once. */
static int write_read_folio_range(const struct iomap_iter *iter, struct folio *folio, loff_t pos,
				  size_t bytes)
{
	struct inode *inode = iter->inode;

	return vexfs_read_by_core(inode, folio, offset_in_folio(folio, pos), bytes);
}

static const struct iomap_write_ops write_ops = {
	.get_folio = write_get_folio,
	.read_folio_range = write_read_folio_range,
};

#define page_mkwrite(vmf) iomap_page_mkwrite(vmf, &write_iomap_ops, vmf)

ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from)
{
	return iomap_file_buffered_write(iocb, from, &write_iomap_ops, &write_ops, NULL);
}

#else

static const struct iomap_ops write_iomap_ops = {
	.iomap_begin = write_iomap_begin,
};

#define page_mkwrite(vmf) iomap_page_mkwrite(vmf, &write_iomap_ops)

static void drop_clean(struct inode *inode, u64 first, u64 end)
{
	unsigned int log2 = inode->i_blkbits;
	struct folio *folio;

	for (; first < end; first++) {
		pgoff_t index = first >> (PAGE_SHIFT - log2);

		folio = vexfs_cached_folio(filemap_lock_folio(inode->i_mapping, index));
		if (!folio || !folio_test_dirty(folio))
			vexfs_claims_drop(inode, first, first + 1);
		if (folio) {
			folio_unlock(folio);
			folio_put(folio);
		}
	}
}

/*
 * This iomap reads the rest of a block that is written in part by itself, unverified, and is told so late
 * which part that is. So it has nothing to do with writing. Folios are of one page, and so are blocks.
 */
static int begin_write(struct inode *inode, loff_t pos, unsigned int bytes, struct folio **result)
{
	struct address_space *mapping = inode->i_mapping;
	u64 block = pos >> inode->i_blkbits;
	struct folio *folio;
	int error;

	folio = vexfs_cached_folio(__filemap_get_folio(
		mapping, pos >> PAGE_SHIFT, FGP_LOCK | FGP_WRITE | FGP_CREAT | FGP_STABLE | FGP_NOFS,
		mapping_gfp_mask(mapping)));
	if (!folio)
		return -ENOMEM;
	/* It may have been dirty and written back since space was claimed, which used the claim up. */
	error = vexfs_check(inode->i_sb, vexfs_claims_add(inode, block, block + 1), "data of inode",
			    inode->i_ino);
	if (!error && bytes < folio_size(folio) && !folio_test_uptodate(folio)) {
		if (folio_pos(folio) < i_size_read(inode))
			error = vexfs_read_by_core(inode, folio, 0, folio_size(folio));
		else
			folio_zero_range(folio, 0, folio_size(folio));
		if (!error)
			folio_mark_uptodate(folio);
	}
	if (error) {
		folio_unlock(folio);
		folio_put(folio);
		return error;
	}
	*result = folio;
	return 0;
}

static int end_write(struct inode *inode, loff_t pos, unsigned int bytes, unsigned int copied,
		     struct folio *folio)
{
	loff_t size = i_size_read(inode);

	flush_dcache_folio(folio);
	/* What is behind the copied bytes was not read, so they are to be copied anew. */
	if (copied < bytes && !folio_test_uptodate(folio))
		copied = 0;
	if (copied) {
		folio_mark_uptodate(folio);
		folio_mark_dirty(folio);
	}
	if (pos + copied > size)
		i_size_write(inode, pos + copied);
	folio_unlock(folio);
	folio_put(folio);
	if (copied && size < pos)
		pagecache_isize_extended(inode, size, pos);
	return copied;
}

int vexfs_write_begin(struct file *file, struct address_space *mapping, loff_t pos,
		      unsigned int bytes, vexfs_cached **cached, void **context)
{
	struct folio *folio;
	int error = begin_write(mapping->host, pos, bytes, &folio);

	if (!error)
		*cached = vexfs_cached_of(folio);
	return error;
}

int vexfs_write_end(struct file *file, struct address_space *mapping, loff_t pos, unsigned int bytes,
		    unsigned int copied, vexfs_cached *cached, void *context)
{
	return end_write(mapping->host, pos, bytes, copied, vexfs_folio_of(cached));
}

ssize_t vexfs_buffered_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t total = 0, written = 0;
	size_t all, part;

	/* Space for many pages at once, as each request for some takes its time. */
	while ((all = iov_iter_count(from))) {
		loff_t pos = iocb->ki_pos, end = pos + all;

		written = claim_ahead(inode, pos, &end);
		if (written)
			break;
		part = end - pos;
		iov_iter_truncate(from, part);
		written = generic_perform_write(iocb, from);
		iov_iter_reexpand(from, all - max_t(ssize_t, written, 0));
		if (written > 0) {
			total += written;
			/* Some kernels have done that, and some have not. */
			iocb->ki_pos = pos + written;
		}
		if (written < (ssize_t)part) {
			claimed_in_vain(inode, pos, end, max_t(ssize_t, written, 0));
			break;
		}
	}
	return total ?: written;
}

#endif

vm_fault_t vexfs_mkwrite(struct vm_fault *vmf)
{
	struct inode *inode = file_inode(vmf->vma->vm_file);
	vm_fault_t result;
	int error;

	sb_start_pagefault(inode->i_sb);
	filemap_invalidate_lock_shared(inode->i_mapping);
	error = vexfs_refuses(inode->i_sb) ?: IS_IMMUTABLE(inode) ? -EPERM : 0;
	if (!error) {
		file_update_time(vmf->vma->vm_file);
		error = vexfs_note_bytes_change(inode);
	}
	if (error)
		result = error == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	else
		result = page_mkwrite(vmf);
	/* It does not tell why; for want of space perhaps. */
	if (result == VM_FAULT_SIGBUS && !error && vexfs_make_room(inode->i_sb))
		result = page_mkwrite(vmf);
	filemap_invalidate_unlock_shared(inode->i_mapping);
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

/*
 * Whether to try again after a pause. What is written back has left its writer, so for want of memory
 * that passes it must not be lost.
 */
static bool waits_for_memory(int error, unsigned int *tries)
{
	if (error != -ENOMEM || ++*tries > MEMORY_TRIES)
		return false;
	memalloc_retry_wait(GFP_NOFS);
	return true;
}

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
	vexfs_io_defer(container_of(bio, struct vexfs_io, bio));
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
	vexfs_io_free(io);
}

static void finish_write(struct vexfs_io *io)
{
	struct inode *inode = io->inode;
	struct vexfs_core *core = vexfs_core_of(inode);
	int error = vexfs_io_error(io);
	unsigned int tries = 0;
	u64 size;

	if (error) {
		vexfs_check_bytes(inode, -EIO);
		vexfs_core_cancel(core, &io->piece, 0);
		vexfs_claims_used(inode, &io->piece, io->growing);
		release_written(io, error);
		return;
	}
	/* Cutting the file waits for the pages, so the size is not less than what is to stay. */
	size = min_t(u64, i_size_read(inode), (io->piece.block + io->piece.blocks) << inode->i_blkbits);
	do {
		error = vexfs_core_complete(core, inode->i_ino, &io->piece, 1, io->sums, size);
	} while (waits_for_memory(error, &tries));
	if (error)
		vexfs_core_cancel(core, &io->piece, 0);
	vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
	vexfs_refresh_blocks(inode);
	vexfs_claims_used(inode, &io->piece, io->growing);
	release_written(io, error);
}

static void write_submit(struct vexfs_writeback *writeback)
{
	struct vexfs_io *io = writeback->io;

	if (!io)
		return;
	writeback->io = NULL;
	submit_bio(&io->bio);
}

/*
 * Gives back what was allocated ahead and not used, and reserves it again: the blocks are dirty still.
 */
static void drop_ahead(struct vexfs_writeback *writeback)
{
	struct inode *inode = writeback->inode;

	for (; writeback->next < writeback->count; writeback->next++) {
		struct vexfs_piece *piece = &writeback->pieces[writeback->next];

		vexfs_core_cancel(vexfs_core_of(inode), piece,
				  vexfs_claims_reserved(inode, piece->block,
							piece->block + piece->blocks));
	}
	writeback->count = writeback->next = 0;
}

/* Allocates blocks for `block` and those that are dirty behind it. */
static int allocate_ahead(struct vexfs_writeback *writeback, u64 block)
{
	struct inode *inode = writeback->inode;
	u64 blocks, limit = AHEAD_BLOCKS;
	unsigned int tries = 0;
	s64 count;

	drop_ahead(writeback);
	if (!writeback->pieces)
		writeback->pieces = kvmalloc_array(AHEAD_BLOCKS, sizeof(struct vexfs_piece),
						   GFP_NOFS | __GFP_NOFAIL);
	for (;;) {
		blocks = vexfs_claims_run(inode, block, limit);
		count = vexfs_core_allocate(vexfs_core_of(inode), inode->i_ino, block,
					    max_t(u64, blocks, 1),
					    vexfs_claims_reserved(inode, block, block + blocks),
					    writeback->pieces);
		if (count >= 0 || (blocks <= 1 && !waits_for_memory(count, &tries)))
			break;
		/* Perhaps less goes. */
		limit = max_t(u64, blocks / 2, 1);
	}
	if (count <= 0)
		return count ?: -EIO;
	writeback->count = count;
	trace_vexfs_allocate(inode, block, max_t(u64, blocks, 1), count, writeback->pieces);
	return 0;
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
			*sums++ = vexfs_sum_block(folio, offset + done, log2);
		return true;
	}
	for (done = 0; done < bytes; done += 1U << log2) {
		struct page *page = alloc_page(GFP_NOFS | __GFP_NOFAIL);
		struct folio *copy = page_folio(page);
		const u8 *data = kmap_local_folio(folio, offset + done);

		memcpy_to_page(page, 0, data, 1U << log2);
		kunmap_local(data);
		*sums++ = vexfs_sum_block(copy, 0, log2);
		/* There is a segment for each block of a piece. */
		WARN_ON_ONCE(bio_add_page(&io->bio, page, 1U << log2, 0) != 1U << log2);
	}
	io->copied[io->copied_count++] = (struct vexfs_range){ .folio = folio, .bytes = bytes };
	return true;
}

/* A bio for blocks that go to the front of `piece`. */
static struct vexfs_io *begin_piece(struct vexfs_writeback *writeback,
				    const struct vexfs_piece *piece, bool copy)
{
	struct vexfs_io *io = vexfs_io_new(writeback->inode,
					   REQ_OP_WRITE | wbc_to_write_flags(writeback->wbc),
					   piece->device_block, VEXFS_PIECE_BLOCKS);

	wbc_init_bio(writeback->wbc, &io->bio);
	io->finish = finish_write;
	io->bio.bi_end_io = write_end_io;
	io->piece = *piece;
	io->piece.blocks = 0;
	if (copy)
		io->copied = kmalloc_array(VEXFS_PIECE_BLOCKS, sizeof(*io->copied),
					   GFP_NOFS | __GFP_NOFAIL);
	return io;
}

/* Whether the bio goes on with blocks from the front of `piece`. */
static bool goes_on(const struct vexfs_io *io, const struct vexfs_piece *piece, u64 blocks, bool copy)
{
	return io && io->piece.block + io->piece.blocks == piece->block &&
	       io->piece.device_block + io->piece.blocks == piece->device_block &&
	       io->piece.in_place == piece->in_place && !io->copied == !copy &&
	       io->piece.blocks + blocks <= VEXFS_PIECE_BLOCKS;
}

/* Adds the front of the next piece, blocks of a folio, to the bio or to a new one. */
static void write_blocks(struct vexfs_writeback *writeback, struct folio *folio, size_t offset,
			 u64 blocks)
{
	struct inode *inode = writeback->inode;
	struct vexfs_piece *piece = &writeback->pieces[writeback->next];
	unsigned int log2 = inode->i_blkbits;
	bool copy = may_change(inode, folio);

	if (!goes_on(writeback->io, piece, blocks, copy) ||
	    !add_blocks(writeback->io, folio, offset, blocks << log2, log2)) {
		write_submit(writeback);
		writeback->io = begin_piece(writeback, piece, copy);
		/* The first part of an empty bio always goes in. */
		WARN_ON_ONCE(!add_blocks(writeback->io, folio, offset, blocks << log2, log2));
	}
	vexfs_account_cgroup(writeback->wbc, folio, blocks << log2);
	writeback->io->piece.blocks += blocks;
	vexfs_claims_use(inode, piece, blocks, &writeback->io->growing);
	piece->block += blocks;
	piece->device_block += blocks;
	piece->blocks -= blocks;
	if (!piece->blocks)
		writeback->next++;
}

/*
 * Writes whole blocks of a folio under writeback, at most `bytes` bytes. Returns how many, or an
 * error when there are none; finish_written_range() is called for those later.
 */
static ssize_t write_range(struct vexfs_writeback *writeback, struct folio *folio, size_t offset,
			   size_t bytes)
{
	struct inode *inode = writeback->inode;
	unsigned int log2 = inode->i_blkbits;
	u64 first = (folio_pos(folio) + offset) >> log2, block = first;
	u64 end = first + DIV_ROUND_UP(bytes, 1U << log2);

	while (block < end) {
		u64 blocks;
		int error = 0;

		if (writeback->next >= writeback->count ||
		    writeback->pieces[writeback->next].block != block)
			error = allocate_ahead(writeback, block);
		if (error) {
			/* These bytes are lost, and whoever waits for them is told. */
			vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
			vexfs_claims_drop(inode, block, end);
			mapping_set_error(inode->i_mapping, error);
			if (block > first)
				return (block - first) << log2;
			/* So is what else of the folio was dirty. */
			vexfs_claims_drop(inode, block, (folio_pos(folio) + folio_size(folio)) >> log2);
			return error;
		}
		blocks = min3(end - block, writeback->pieces[writeback->next].blocks,
			      (u64)VEXFS_PIECE_BLOCKS);
		write_blocks(writeback, folio, offset + ((block - first) << log2), blocks);
		block += blocks;
	}
	return (block - first) << log2;
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

/* What a folio has behind the end of the file is not written, though it may be dirty. */
static void drop_behind_end(struct vexfs_writeback *writeback, struct folio *folio, u64 end)
{
	struct inode *inode = writeback->inode;
	u64 first = DIV_ROUND_UP_ULL(end, i_blocksize(inode)), found = first;
	u64 last = (folio_pos(folio) + folio_size(folio)) >> inode->i_blkbits;

	if (first >= last || !vexfs_claims_next(inode, &found, last))
		return;
	drop_ahead(writeback);
	vexfs_claims_drop(inode, first, last);
}

static ssize_t writeback_range(struct iomap_writepage_ctx *wpc, struct folio *folio, u64 pos,
			       unsigned int bytes, u64 end)
{
	drop_behind_end(wpc->wb_ctx, folio, end);
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

int vexfs_writepages(struct address_space *mapping, struct writeback_control *wbc)
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
 * From here on until vexfs_settled() no writeback holds blocks allocated ahead: what was unwritten space
 * of the file might be another's after a change. Claims of blocks that did not become dirty are gone.
 */
static void hold_writeback(struct inode *inode, u64 first, u64 end)
{
	mutex_lock(&VEXFS_I(inode)->writeback_lock);
	vexfs_claims_drop(inode, first, end);
}

/* Writes the cache back and leaves it, for who changes what is behind it to no other bytes. */
int vexfs_settle(struct inode *inode)
{
	int error = filemap_write_and_wait(inode->i_mapping);

	if (!error)
		hold_writeback(inode, 0, U64_MAX);
	return error;
}

/* Writes a range of the cache back and takes it out, for who changes the bytes that are behind it. */
int vexfs_settle_range(struct inode *inode, loff_t start, loff_t end)
{
	int error;

	error = filemap_write_and_wait_range(inode->i_mapping, start, end);
	if (error)
		return error;
	truncate_pagecache_range(inode, round_down(start, PAGE_SIZE),
				 end == LLONG_MAX ? end : round_up(end + 1, PAGE_SIZE) - 1);
	hold_writeback(inode, start >> inode->i_blkbits,
		       end == LLONG_MAX ? U64_MAX : (u64)(end >> inode->i_blkbits) + 1);
	return 0;
}

void vexfs_settled(struct inode *inode)
{
	mutex_unlock(&VEXFS_I(inode)->writeback_lock);
}
