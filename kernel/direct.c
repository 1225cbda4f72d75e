// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading and writing around the page cache.
 *
 * Bytes pass through pages of our own: a checksum has to be that of what is written, and a caller may
 * change its buffer at any time.
 */

#include <linux/blkdev.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "trace.h"
#include "vexfs.h"

/* What goes through at once. */
#define DIRECT_BYTES SZ_1M
/* A part of that, which is copied and summed up while the device is at another. */
#define STAGE_BYTES SZ_256K

/* Bios under way together. */
struct direct_io {
	atomic_t pending;
	int error;
	struct completion done;
};

struct vexfs_direct {
	/* Also the memory that the other two are in. */
	struct vexfs_piece *pieces;
	struct page **pages;
	unsigned int count;
	u32 *sums;
};

static void direct_free(struct vexfs_direct *direct)
{
	while (direct->count)
		__free_page(direct->pages[--direct->count]);
	kvfree(direct->pieces);
}

static int direct_allocate(struct vexfs_direct *direct, struct inode *inode, size_t bytes)
{
	unsigned int pages = DIV_ROUND_UP(bytes, PAGE_SIZE);
	unsigned int blocks = bytes >> inode->i_blkbits;

	direct->count = 0;
	/* Small: at most DIRECT_BYTES go through at once. */
	direct->pieces = kvmalloc(blocks * (sizeof(*direct->pieces) + sizeof(*direct->sums)) +
				  pages * sizeof(*direct->pages), GFP_KERNEL);
	if (!direct->pieces)
		return -ENOMEM;
	direct->pages = (struct page **)(direct->pieces + blocks);
	direct->sums = (u32 *)(direct->pages + pages);
	while (direct->count < pages) {
		struct page *page = alloc_page(GFP_KERNEL);

		if (!page) {
			direct_free(direct);
			return -ENOMEM;
		}
		direct->pages[direct->count++] = page;
	}
	return 0;
}

static void direct_begin(struct direct_io *io)
{
	atomic_set(&io->pending, 1);
	io->error = 0;
	init_completion(&io->done);
}

static void direct_end(struct direct_io *io)
{
	if (atomic_dec_and_test(&io->pending))
		complete(&io->done);
}

static void direct_end_bio(struct bio *bio)
{
	struct direct_io *io = bio->bi_private;

	if (bio->bi_status)
		WRITE_ONCE(io->error, blk_status_to_errno(bio->bi_status));
	bio_put(bio);
	direct_end(io);
}

/* Waits for all bios. */
static int direct_wait(struct direct_io *io)
{
	direct_end(io);
	wait_for_completion_io(&io->done);
	return io->error;
}

/* Has `bytes` bytes moved between the device and the pages from `offset` on. */
static void direct_transfer(struct inode *inode, struct vexfs_direct *direct, struct direct_io *io,
			    blk_opf_t operation, u64 device_block, size_t offset, size_t bytes)
{
	while (bytes) {
		struct bio *bio = bio_alloc(inode->i_sb->s_bdev,
					    bio_max_segs(bytes / PAGE_SIZE + 1), operation,
					    GFP_KERNEL);
		size_t done = 0;

		bio->bi_iter.bi_sector = device_block << (inode->i_blkbits - SECTOR_SHIFT);
		bio->bi_end_io = direct_end_bio;
		bio->bi_private = io;
		while (done < bytes) {
			size_t at = offset + done;
			size_t part = min_t(size_t, bytes - done, PAGE_SIZE - offset_in_page(at));

			if (bio_add_page(bio, direct->pages[at >> PAGE_SHIFT], part,
					 offset_in_page(at)) != part)
				break;
			done += part;
		}
		atomic_inc(&io->pending);
		submit_bio(bio);
		device_block += done >> inode->i_blkbits;
		offset += done;
		bytes -= done;
	}
}

static u32 direct_sum(struct vexfs_direct *direct, size_t offset, unsigned int log2)
{
	const u8 *data = page_address(direct->pages[offset >> PAGE_SHIFT]) + offset_in_page(offset);

	return vexfs_host_crc32c(0, data, 1U << log2);
}

/* Fills the pages' bytes from `offset` on with those of the file from `pos` on, by way of the core. */
static int direct_fill_by_core(struct inode *inode, struct vexfs_direct *direct, loff_t pos,
			       size_t offset, size_t bytes)
{
	size_t block = i_blocksize(inode);

	for (; bytes; bytes -= block, pos += block, offset += block) {
		u8 *data = page_address(direct->pages[offset >> PAGE_SHIFT]) + offset_in_page(offset);
		s64 got = vexfs_core_read(vexfs_core_of(inode), inode->i_ino, pos, data, block);

		if (got < 0)
			return vexfs_check_read(inode, got, pos);
		memset(data + got, 0, block - got);
	}
	return 0;
}

/* A part of a read. */
struct direct_stage {
	struct direct_io io;
	/* Of the pages, and of the pieces that lie on the device. */
	size_t offset, bytes;
	unsigned int first_piece, pieces_end;
	/* Why not all of it was begun. */
	int error;
};

/* Has a stage's part of the file read into the pages, which begin with that at `pos`. */
static void direct_fill(struct inode *inode, struct vexfs_direct *direct, loff_t pos,
		       struct direct_stage *stage)
{
	unsigned int log2 = inode->i_blkbits;
	size_t at = stage->offset, end = at + stage->bytes;

	direct_begin(&stage->io);
	while (at < end && !stage->error) {
		struct vexfs_mapping mapping;
		size_t part;
		int error = vexfs_core_map(vexfs_core_of(inode), inode->i_ino, (pos + at) >> log2,
					   (end - at) >> log2, &mapping, direct->sums + (at >> log2));

		if (error) {
			stage->error = vexfs_check(inode->i_sb, error, "data of inode", inode->i_ino);
			return;
		}
		part = min_t(u64, end - at, mapping.blocks << log2);
		if (mapping.state == VEXFS_STATE_WRITTEN) {
			direct_transfer(inode, direct, &stage->io, REQ_OP_READ, mapping.device_block, at,
					part);
			direct->pieces[stage->pieces_end++] = (struct vexfs_piece){
				.block = at >> log2,
				.blocks = part >> log2,
			};
		} else {
			/* A hole, or bytes in the tree. */
			stage->error = direct_fill_by_core(inode, direct, pos + at, at, part);
		}
		at += part;
	}
}

/* Waits for a stage, and compares what came from the device with its checksums. */
static int direct_verify(struct inode *inode, struct vexfs_direct *direct, loff_t pos,
			 struct direct_stage *stage)
{
	unsigned int log2 = inode->i_blkbits, piece;
	int error = vexfs_check_bytes(inode, direct_wait(&stage->io)) ?: stage->error;

	for (piece = stage->first_piece; piece < stage->pieces_end && !error; piece++) {
		u64 block = direct->pieces[piece].block, end = block + direct->pieces[piece].blocks;

		for (; block < end && !error; block++) {
			size_t at = block << log2;

			/* Blocks that have moved, or are damaged. */
			if (direct_sum(direct, at, log2) != direct->sums[block])
				error = direct_fill_by_core(inode, direct, pos + at, at, 1U << log2);
		}
	}
	return error;
}

/* Copies between the pages from `offset` on and the caller. Returns how many bytes. */
static size_t direct_copy(struct vexfs_direct *direct, size_t offset, size_t bytes,
			  struct iov_iter *iter)
{
	size_t done = 0;

	while (done < bytes) {
		size_t at = offset + done;
		size_t part = min_t(size_t, bytes - done, PAGE_SIZE - offset_in_page(at)), copied;
		struct page *page = direct->pages[at >> PAGE_SHIFT];

		if (iov_iter_rw(iter) == READ)
			copied = copy_page_to_iter(page, offset_in_page(at), part, iter);
		else
			copied = copy_page_from_iter(page, offset_in_page(at), part, iter);
		done += copied;
		if (copied < part)
			break;
	}
	return done;
}

/* Reads some bytes, none of them behind the end. Returns how many. */
static ssize_t direct_read_some(struct inode *inode, loff_t pos, struct iov_iter *to)
{
	loff_t block = i_blocksize(inode), size = i_size_read(inode);
	size_t skip = pos & (block - 1), copied = 0;
	size_t wanted = min_t(u64, iov_iter_count(to), max(size - pos, 0LL));
	size_t bytes = min_t(u64, round_up(skip + wanted, block), DIRECT_BYTES), begun = 0;
	struct direct_stage stages[DIRECT_BYTES / STAGE_BYTES], *stage, *end = stages;
	struct vexfs_direct direct;
	int error;

	if (!wanted)
		return 0;
	wanted = min_t(size_t, wanted, bytes - skip);
	pos -= skip;
	error = filemap_write_and_wait_range(inode->i_mapping, pos, pos + bytes - 1) ?:
		direct_allocate(&direct, inode, bytes);
	if (error)
		return error;
	do {
		unsigned int pieces = end > stages ? end[-1].pieces_end : 0;

		*end = (struct direct_stage){
			.offset = begun,
			.bytes = min_t(size_t, bytes - begun, STAGE_BYTES),
			.first_piece = pieces,
			.pieces_end = pieces,
		};
		direct_fill(inode, &direct, pos, end);
		begun += end->bytes;
	} while (!end++->error && begun < bytes);
	/* All that have begun are waited for. */
	for (stage = stages; stage < end; stage++) {
		int failure = direct_verify(inode, &direct, pos, stage);
		size_t from = max(stage->offset, skip), part, some;

		error = error ?: failure;
		if (error)
			continue;
		part = min(stage->offset + stage->bytes, skip + wanted) - from;
		some = direct_copy(&direct, from, part, to);
		copied += some;
		if (some < part)
			error = -EFAULT;
	}
	direct_free(&direct);
	return copied ?: error;
}

ssize_t vexfs_direct_read(struct kiocb *iocb, struct iov_iter *to)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t total = 0, some;

	inode_lock_shared(inode);
	while ((some = direct_read_some(inode, iocb->ki_pos, to)) > 0) {
		iocb->ki_pos += some;
		total += some;
	}
	inode_unlock_shared(inode);
	file_accessed(iocb->ki_filp);
	return total ?: some;
}

/*
 * Copies what is to be written into the pages. Faults take locks that are held by now, so one ends it; the
 * caller's pages are mostly there.
 */
static size_t direct_take(struct vexfs_direct *direct, size_t offset, size_t bytes, struct iov_iter *from)
{
	size_t copied;

	pagefault_disable();
	copied = direct_copy(direct, offset, bytes, from);
	pagefault_enable();
	return copied;
}

/* Has blocks written at `device_block`: while one part is, the next is copied. Returns how many bytes are. */
static size_t direct_send(struct inode *inode, struct vexfs_direct *direct, struct direct_io *io,
			  u64 device_block, size_t offset, size_t bytes, struct iov_iter *from)
{
	unsigned int log2 = inode->i_blkbits;
	size_t sent = 0;

	while (sent < bytes) {
		size_t wanted = min_t(size_t, bytes - sent, STAGE_BYTES);
		size_t copied = direct_take(direct, offset + sent, wanted, from);
		size_t end = sent + round_down(copied, 1U << log2);

		iov_iter_revert(from, sent + copied - end);
		if (end > sent)
			direct_transfer(inode, direct, io, REQ_OP_WRITE | REQ_SYNC | REQ_IDLE,
					device_block + (sent >> log2), offset + sent, end - sent);
		/* The pages stay as they are: they are summed up while the device writes. */
		for (; sent < end; sent += 1U << log2)
			direct->sums[(offset + sent) >> log2] = direct_sum(direct, offset + sent, log2);
		if (copied < wanted)
			break;
	}
	return sent;
}

/* Gives back what pieces have behind so many blocks. Returns how many pieces are left. */
static s64 direct_keep(struct vexfs_core *core, struct vexfs_piece *pieces, s64 count, u64 blocks)
{
	s64 piece, kept = 0;

	for (piece = 0; piece < count; piece++) {
		struct vexfs_piece rest = pieces[piece];

		pieces[piece].blocks = min(rest.blocks, blocks);
		blocks -= pieces[piece].blocks;
		rest.block += pieces[piece].blocks;
		rest.device_block += pieces[piece].blocks;
		rest.blocks -= pieces[piece].blocks;
		kept += pieces[piece].blocks > 0;
		if (rest.blocks)
			vexfs_core_cancel(core, &rest, 0);
	}
	return kept;
}

/*
 * Writes whole blocks, as far as what is to be written is there. Returns how many bytes; `from` is behind
 * those.
 */
static ssize_t direct_store(struct inode *inode, struct vexfs_direct *direct, loff_t pos, size_t bytes,
			    struct iov_iter *from)
{
	unsigned int log2 = inode->i_blkbits;
	struct vexfs_core *core = vexfs_core_of(inode);
	s64 count = vexfs_core_allocate(core, inode->i_ino, pos >> log2, bytes >> log2, 0,
					direct->pieces);
	size_t sent = 0, end = 0;
	struct direct_io io;
	s64 piece;
	int error;

	if (count < 0)
		return vexfs_check(inode->i_sb, count, "data of inode", inode->i_ino);
	trace_vexfs_allocate(inode, pos >> log2, bytes >> log2, count, direct->pieces);
	direct_begin(&io);
	for (piece = 0; piece < count && sent == end; piece++) {
		end += direct->pieces[piece].blocks << log2;
		sent += direct_send(inode, direct, &io, direct->pieces[piece].device_block, sent, end - sent,
				    from);
	}
	error = vexfs_check_bytes(inode, direct_wait(&io));
	count = direct_keep(core, direct->pieces, count, error ? 0 : sent >> log2);
	if (count)
		error = vexfs_check(inode->i_sb,
				    vexfs_core_complete(core, inode->i_ino, direct->pieces, count,
							direct->sums, pos + sent),
				    "data of inode", inode->i_ino);
	if (!error)
		return sent;
	direct_keep(core, direct->pieces, count, 0);
	iov_iter_revert(from, sent);
	return error;
}

/* Puts whole blocks in place of what the file and the cache have. Returns how many bytes. */
static ssize_t direct_replace(struct inode *inode, struct vexfs_direct *direct, loff_t pos, size_t bytes,
			      struct iov_iter *from)
{
	struct address_space *mapping = inode->i_mapping;
	ssize_t stored;

	filemap_invalidate_lock(mapping);
	stored = filemap_write_and_wait_range(mapping, pos, pos + bytes - 1);
	if (!stored && !xa_empty(&VEXFS_I(inode)->claims)) {
		/* Those of blocks that did not become dirty. */
		mutex_lock(&VEXFS_I(inode)->writeback_lock);
		vexfs_claims_drop(inode, pos >> inode->i_blkbits, (pos + bytes) >> inode->i_blkbits);
		mutex_unlock(&VEXFS_I(inode)->writeback_lock);
	}
	if (!stored)
		stored = direct_store(inode, direct, pos, bytes, from);
	/* Whatever the cache holds of it is old now; of what has to stay there, fsync(2) tells. */
	if (invalidate_inode_pages2_range(mapping, pos >> PAGE_SHIFT, (pos + bytes - 1) >> PAGE_SHIFT))
		errseq_set(&mapping->wb_err, -EIO);
	if (stored > 0 && pos + stored > i_size_read(inode))
		i_size_write(inode, pos + stored);
	filemap_invalidate_unlock(mapping);
	return stored;
}

/* Writes some whole blocks. Returns how many bytes. */
static ssize_t direct_write_some(struct inode *inode, loff_t pos, struct iov_iter *from)
{
	size_t block = i_blocksize(inode);
	size_t bytes = min_t(size_t, iov_iter_count(from), DIRECT_BYTES);
	struct vexfs_direct direct;
	ssize_t written;

	if (!bytes)
		return 0;
	written = direct_allocate(&direct, inode, bytes);
	if (written)
		return written;
	/* Of what is not in memory a block at least has to be brought in. */
	while (!(written = direct_replace(inode, &direct, pos, bytes, from)))
		if (bytes - fault_in_iov_iter_readable(from, bytes) < block || fatal_signal_pending(current)) {
			written = -EFAULT;
			break;
		}
	direct_free(&direct);
	return written;
}

/* Under the inode's lock; position and length are whole blocks. */
ssize_t vexfs_direct_write(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	ssize_t total = 0, some;

	while ((some = vexfs_with_room(inode->i_sb,
				       direct_write_some(inode, iocb->ki_pos, from))) > 0) {
		iocb->ki_pos += some;
		total += some;
	}
	return total ?: some;
}
