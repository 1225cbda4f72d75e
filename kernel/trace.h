/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints: commits, allocations, searches, indices, failures. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vexfs

#if !defined(VEXFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VEXFS_TRACE_H

#include <linux/ktime.h>
#include <linux/tracepoint.h>

#include "vexfs.h"

/* Newer kernels know the source of a string from its field. */
#if VEXFS_KERNEL(6, 10)
#define VEXFS_ASSIGN_STRING(field, source) __assign_str(field)
#else
#define VEXFS_ASSIGN_STRING(field, source) __assign_str(field, source)
#endif

#define VEXFS_SHOW_PLAN(plan)                                                                      \
	__print_symbolic(plan, { 0, "exact-scope" }, { 1, "graph" }, { 2, "exact" },               \
			 { 3, "graph-then-exact" }, { 4, "exact-streamed" })

/* A transaction is durable. */
TRACE_EVENT(vexfs_commit,
	TP_PROTO(dev_t dev, u64 generation, u64 blocks, u64 nanoseconds),
	TP_ARGS(dev, generation, blocks, nanoseconds),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, generation)
		__field(u64, blocks)
		__field(u64, nanoseconds)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->generation = generation;
		__entry->blocks = blocks;
		__entry->nanoseconds = nanoseconds;
	),
	TP_printk("dev %d,%d generation %llu blocks %llu ns %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->generation, __entry->blocks, __entry->nanoseconds)
);

/* Blocks of a file are on their way to new places, or to those that it had unwritten. */
TRACE_EVENT(vexfs_allocate,
	TP_PROTO(const struct inode *inode, u64 block, u64 blocks, u32 pieces,
		 const struct vexfs_piece *first),
	TP_ARGS(inode, block, blocks, pieces, first),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, inode)
		__field(u64, block)
		__field(u64, blocks)
		__field(u64, device_block)
		__field(u32, pieces)
		__field(bool, in_place)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->inode = inode->i_ino;
		__entry->block = block;
		__entry->blocks = blocks;
		__entry->device_block = first->device_block;
		__entry->pieces = pieces;
		__entry->in_place = first->in_place;
	),
	TP_printk("dev %d,%d inode %llu block %llu blocks %llu pieces %u device_block %llu in_place %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->inode, __entry->block,
		  __entry->blocks, __entry->pieces, __entry->device_block, __entry->in_place)
);

/* Space is given to a file before anything is written there. */
TRACE_EVENT(vexfs_preallocate,
	TP_PROTO(const struct inode *inode, u64 offset, u64 length),
	TP_ARGS(inode, offset, length),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, inode)
		__field(u64, offset)
		__field(u64, length)
	),
	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->inode = inode->i_ino;
		__entry->offset = offset;
		__entry->length = length;
	),
	TP_printk("dev %d,%d inode %llu offset %llu length %llu",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->inode, __entry->offset,
		  __entry->length)
);

/* A search has its answer. */
TRACE_EVENT(vexfs_search,
	TP_PROTO(dev_t dev, u32 collection, u32 k, const struct vexfs_report *report, u64 start),
	TP_ARGS(dev, collection, k, report, start),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u32, collection)
		__field(u32, k)
		__field(u32, plan)
		__field(u64, examined)
		__field(u64, unindexed)
		__field(u64, hits)
		__field(u64, nanoseconds)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->collection = collection;
		__entry->k = k;
		__entry->plan = report->plan;
		__entry->examined = report->examined;
		__entry->unindexed = report->unindexed;
		__entry->hits = report->hits;
		__entry->nanoseconds = ktime_get_ns() - start;
	),
	TP_printk("dev %d,%d collection %u k %u plan %s examined %llu unindexed %llu hits %llu ns %llu",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->collection, __entry->k,
		  VEXFS_SHOW_PLAN(__entry->plan), __entry->examined, __entry->unindexed,
		  __entry->hits, __entry->nanoseconds)
);

/* A step of bringing a graph nearer to its vectors. */
TRACE_EVENT(vexfs_index_build,
	TP_PROTO(dev_t dev, u32 collection, const struct vexfs_graph_work *done),
	TP_ARGS(dev, collection, done),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u32, collection)
		__field(u64, inserted)
		__field(u64, removed)
		__field(u64, left)
		__field(bool, stored)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->collection = collection;
		__entry->inserted = done->inserted;
		__entry->removed = done->removed;
		__entry->left = done->left;
		__entry->stored = done->stored;
	),
	TP_printk("dev %d,%d collection %u inserted %llu removed %llu left %llu stored %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->collection, __entry->inserted,
		  __entry->removed, __entry->left, __entry->stored)
);

/* A collection was read into memory. */
TRACE_EVENT(vexfs_index_load,
	TP_PROTO(dev_t dev, u32 collection, u64 vectors, u64 indexed, u64 nanoseconds),
	TP_ARGS(dev, collection, vectors, indexed, nanoseconds),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u32, collection)
		__field(u64, vectors)
		__field(u64, indexed)
		__field(u64, nanoseconds)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->collection = collection;
		__entry->vectors = vectors;
		__entry->indexed = indexed;
		__entry->nanoseconds = nanoseconds;
	),
	TP_printk("dev %d,%d collection %u vectors %llu indexed %llu ns %llu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->collection, __entry->vectors, __entry->indexed,
		  __entry->nanoseconds)
);

/* A request of the core's has failed; bytes may be 0 where they are not known. */
TRACE_EVENT(vexfs_device_error,
	TP_PROTO(dev_t dev, bool write, u64 offset, u64 bytes, int error),
	TP_ARGS(dev, write, offset, bytes, error),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(bool, write)
		__field(u64, offset)
		__field(u64, bytes)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->dev = dev;
		__entry->write = write;
		__entry->offset = offset;
		__entry->bytes = bytes;
		__entry->error = error;
	),
	TP_printk("dev %d,%d %s offset %llu bytes %llu error %d", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->write ? "write" : "read", __entry->offset,
		  __entry->bytes, __entry->error)
);

/* Something is damaged (EBADMSG: a checksum, EUCLEAN: what is checked), or the device failed (EIO). */
TRACE_EVENT(vexfs_error,
	TP_PROTO(dev_t dev, const char *what, u64 place, int error),
	TP_ARGS(dev, what, place, error),
	TP_STRUCT__entry(
		__field(dev_t, dev)
		__string(what, what)
		__field(u64, place)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->dev = dev;
		VEXFS_ASSIGN_STRING(what, what);
		__entry->place = place;
		__entry->error = error;
	),
	TP_printk("dev %d,%d %s of %llu error %d", MAJOR(__entry->dev), MINOR(__entry->dev),
		  __get_str(what), __entry->place, __entry->error)
);

#endif

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
