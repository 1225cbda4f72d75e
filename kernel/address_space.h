/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the page cache share. */
#ifndef VEXFS_ADDRESS_SPACE_H
#define VEXFS_ADDRESS_SPACE_H

#include <linux/bio.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>

#include "vexfs.h"

/* Blocks that one bio reads or writes at most. */
#define VEXFS_PIECE_BLOCKS 256

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
	u32 *sums; /* of its blocks */
	unsigned int room; /* for so many of them */
	struct vexfs_piece piece; /* what is written */
	unsigned int growing; /* by how many blocks the file becomes larger by it */
	/* What is written is a copy; these are the ranges that it is of. */
	struct vexfs_range *copied;
	unsigned int copied_count;
	bool verified; /* what was read */
	struct bio bio;
};

/* claims.c */
int vexfs_claims_add(struct inode *inode, u64 first, u64 end);
void vexfs_claims_use(struct inode *inode, const struct vexfs_piece *piece, u64 blocks,
		      unsigned int *growing);
void vexfs_claims_used(struct inode *inode, const struct vexfs_piece *piece, unsigned int growing);
u64 vexfs_claims_reserved(struct inode *inode, u64 first, u64 end);
u64 vexfs_claims_run(struct inode *inode, u64 block, u64 limit);
u64 vexfs_claims_next(struct inode *inode, u64 *block, u64 end);

/* page_io.c */
struct vexfs_io *vexfs_io_new(struct inode *inode, blk_opf_t operation, u64 device_block,
			      unsigned int blocks);
void vexfs_io_defer(struct vexfs_io *io);
void vexfs_io_free(struct vexfs_io *io);
int vexfs_io_error(const struct vexfs_io *io);
u32 vexfs_sum_block(struct folio *folio, size_t offset, unsigned int log2);

/* page_read.c */
int vexfs_read_by_core(struct inode *inode, struct folio *folio, size_t offset, size_t bytes);
int vexfs_read_folio(struct file *file, struct folio *folio);
void vexfs_readahead(struct readahead_control *rac);

/* page_write.c */
int vexfs_writepages(struct address_space *mapping, struct writeback_control *wbc);
#ifndef VEXFS_IOMAP_HOOKS
int vexfs_write_begin(struct file *file, struct address_space *mapping, loff_t pos,
		      unsigned int bytes, vexfs_cached **folio, void **context);
int vexfs_write_end(struct file *file, struct address_space *mapping, loff_t pos, unsigned int bytes,
		    unsigned int copied, vexfs_cached *folio, void *context);
#endif

#endif
