// SPDX-License-Identifier: GPL-2.0-only
/* Bios of the page cache on their way, and what is done when they arrive. */

#include <linux/blkdev.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "address_space.h"

static struct bio_set io_bios;

int vexfs_io_error(const struct vexfs_io *io)
{
	return blk_status_to_errno(io->bio.bi_status);
}

/* A bio for up to so many blocks from `device_block` on. */
struct vexfs_io *vexfs_io_new(struct inode *inode, blk_opf_t operation, u64 device_block,
			      unsigned int blocks)
{
	unsigned int nofs = memalloc_nofs_save();
	struct bio *bio = bio_alloc_bioset(inode->i_sb->s_bdev, bio_max_segs(blocks), operation,
					   GFP_NOFS, &io_bios);
	struct vexfs_io *io = container_of(bio, struct vexfs_io, bio);

	bio->bi_iter.bi_sector = device_block << (inode->i_blkbits - SECTOR_SHIFT);
	io->inode = inode;
	io->verified = false;
	io->room = blocks;
	io->growing = 0;
	io->copied = NULL;
	io->copied_count = 0;
	/* The kernel does not refuse so little. */
	io->sums = kmalloc_array(blocks, sizeof(u32), GFP_NOFS | __GFP_NOFAIL);
	memalloc_nofs_restore(nofs);
	return io;
}

void vexfs_io_free(struct vexfs_io *io)
{
	kfree(io->sums);
	bio_put(&io->bio);
}

/* Lets a thread finish it. */
void vexfs_io_defer(struct vexfs_io *io)
{
	struct vexfs_super *super = VEXFS_SB(io->inode->i_sb);
	unsigned long flags;

	/* Once another finishes this one with those before it, nobody waits for it, and `super` may be gone. */
	spin_lock_irqsave(&super->io_lock, flags);
	if (list_empty(&super->io_done))
		queue_work(super->io_queue, &super->io_work);
	list_add_tail(&io->list, &super->io_done);
	spin_unlock_irqrestore(&super->io_lock, flags);
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

/* The checksum of the block at `offset` in a folio. */
u32 vexfs_sum_block(struct folio *folio, size_t offset, unsigned int log2)
{
	const u8 *data = kmap_local_folio(folio, offset);
	u32 sum = vexfs_host_crc32c(0, data, 1U << log2);

	kunmap_local(data);
	return sum;
}

int vexfs_io_init(void)
{
	return bioset_init(&io_bios, BIO_POOL_SIZE, offsetof(struct vexfs_io, bio), BIOSET_NEED_BVECS);
}

void vexfs_io_exit(void)
{
	bioset_exit(&io_bios);
}
