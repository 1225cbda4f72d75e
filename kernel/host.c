// SPDX-License-Identifier: GPL-2.0-only
/* What the Rust half asks of the kernel: memory, the block device, clocks, locks, threads. */

#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/fpu/api.h>

#include "crc32c.h"
#include "trace.h"
#include "vexfs.h"

/* ---- memory ---- */

/*
 * Never enters a file system: the core allocates under its locks, and a reclaim that evicts one of
 * our inodes would wait for them. Nobody is killed for such memory, so without a flag that lets it fail the
 * kernel would try for ever, even when what could be given back is the core's own.
 */
u8 *vexfs_host_allocate(size_t bytes, size_t align, bool zeroed)
{
	gfp_t flags = GFP_NOFS | __GFP_NOWARN | (zeroed ? __GFP_ZERO : 0);
	u8 *memory;

	/* A block of a power of two lies at a multiple of its size; others at least at 8 bytes. */
	if (align > ARCH_KMALLOC_MINALIGN)
		bytes = roundup_pow_of_two(max(bytes, align));
	if (bytes > INT_MAX || align > PAGE_SIZE)
		return NULL;
	if (bytes <= PAGE_SIZE)
		return kmalloc(bytes, flags | __GFP_RETRY_MAYFAIL);
	memory = kmalloc(bytes, flags | __GFP_NORETRY);
	return memory ?: __vmalloc(bytes, flags | __GFP_RETRY_MAYFAIL);
}

void vexfs_host_free(u8 *pointer, size_t bytes)
{
	kvfree(pointer);
}

/* ---- the block device ---- */

static dev_t device_number(const struct vexfs_device *device)
{
	return device->bdev->bd_dev;
}

u64 vexfs_host_device_bytes(void *device)
{
	return ((struct vexfs_device *)device)->bytes;
}

/* Adds up to what the bio takes of memory that kvmalloc gave out. Returns how many bytes. */
static size_t fill_bio(struct bio *bio, const u8 *memory, size_t bytes)
{
	size_t added = 0;

	while (added < bytes) {
		const u8 *at = memory + added;
		size_t part = min_t(size_t, bytes - added, PAGE_SIZE - offset_in_page(at));
		struct page *page = is_vmalloc_addr(at) ? vmalloc_to_page(at) : virt_to_page(at);

		if (bio_add_page(bio, page, part, offset_in_page(at)) != part)
			break;
		added += part;
	}
	return added;
}

static int transfer_in_place(struct vexfs_device *device, blk_opf_t operation, u64 offset,
			     u8 *memory, size_t bytes)
{
	size_t pages = DIV_ROUND_UP(bytes, PAGE_SIZE) + 1;
	unsigned int nofs = memalloc_nofs_save();
	int error = 0;

	while (bytes && !error) {
		struct bio *bio = bio_alloc(device->bdev, bio_max_segs(pages), operation, GFP_NOFS);
		size_t added;

		bio->bi_iter.bi_sector = offset >> SECTOR_SHIFT;
		added = fill_bio(bio, memory, bytes);
		error = added ? submit_bio_wait(bio) : -EIO;
		bio_put(bio);
		if (unlikely(error))
			trace_vexfs_device_error(device_number(device), op_is_write(operation),
						 offset, added, error);
		offset += added;
		memory += added;
		bytes -= added;
	}
	memalloc_nofs_restore(nofs);
	return error;
}

/* Whether each piece of memory, as pages divide it, is one that the device can take. */
static bool is_taken(const struct vexfs_device *device, const u8 *memory)
{
	unsigned int align = max_t(unsigned int, bdev_logical_block_size(device->bdev),
				   bdev_dma_alignment(device->bdev) + 1);

	return IS_ALIGNED((unsigned long)memory, min_t(unsigned int, align, PAGE_SIZE));
}

/* Bytes that go through a buffer of our own at a time. */
#define BOUNCE_BYTES SZ_16K

/* The same for memory at any address: blocks in the middle of what a caller wants lie anywhere. */
static int transfer(struct vexfs_device *device, blk_opf_t operation, u64 offset, u8 *memory,
		    size_t bytes)
{
	u8 *bounce;
	int error = 0;

	if (likely(is_taken(device, memory)))
		return transfer_in_place(device, operation, offset, memory, bytes);
	/* Of a power of two, so aligned to it. */
	bounce = kmalloc(BOUNCE_BYTES, GFP_NOFS);
	if (!bounce)
		return -ENOMEM;
	while (bytes && !error) {
		size_t part = min_t(size_t, bytes, BOUNCE_BYTES);

		if (op_is_write(operation))
			memcpy(bounce, memory, part);
		error = transfer_in_place(device, operation, offset, bounce, part);
		if (!error && !op_is_write(operation))
			memcpy(memory, bounce, part);
		offset += part;
		memory += part;
		bytes -= part;
	}
	kfree(bounce);
	return error;
}

int vexfs_host_device_read(void *device, u64 offset, u8 *buffer, size_t bytes)
{
	int error = transfer(device, REQ_OP_READ | REQ_META, offset, buffer, bytes);

	if (is_vmalloc_addr(buffer))
		invalidate_kernel_vmap_range(buffer, bytes);
	return error;
}

int vexfs_host_device_write(void *device, u64 offset, const u8 *data, size_t bytes)
{
	if (is_vmalloc_addr(data))
		flush_kernel_vmap_range((void *)data, bytes);
	return transfer(device, REQ_OP_WRITE | REQ_META | REQ_SYNC, offset, (u8 *)data, bytes);
}

/* Bios on their way together. */
struct vexfs_batch {
	atomic_t left;
	int error;
	u64 failed;
	struct completion done;
};

static void batch_end_io(struct bio *bio)
{
	struct vexfs_batch *batch = bio->bi_private;
	int error = blk_status_to_errno(bio->bi_status);

	/* Any one of those that failed is as good as another. */
	if (error) {
		WRITE_ONCE(batch->failed, (u64)bio->bi_iter.bi_sector << SECTOR_SHIFT);
		WRITE_ONCE(batch->error, error);
	}
	bio_put(bio);
	if (atomic_dec_and_test(&batch->left))
		complete(&batch->done);
}

static void batch_submit(struct vexfs_batch *batch, struct bio *bio)
{
	bio->bi_private = batch;
	bio->bi_end_io = batch_end_io;
	atomic_inc(&batch->left);
	submit_bio(bio);
}

int vexfs_host_device_write_batch(void *device, const struct vexfs_write *writes, size_t count,
				  u64 *failed)
{
	struct vexfs_device *on = device;
	struct vexfs_batch batch = { .left = ATOMIC_INIT(1) };
	unsigned int nofs = memalloc_nofs_save();
	struct bio *bio = NULL;
	struct blk_plug plug;
	size_t i;

	init_completion(&batch.done);
	blk_start_plug(&plug);
	for (i = 0; i < count; i++) {
		const struct vexfs_write *write = &writes[i];
		size_t done = 0;

		while (done < write->bytes) {
			sector_t sector = (write->offset + done) >> SECTOR_SHIFT;
			size_t added = 0;

			/* Neighbours go together. */
			if (bio && bio_end_sector(bio) == sector)
				added = fill_bio(bio, write->data + done, write->bytes - done);
			if (!added) {
				if (bio)
					batch_submit(&batch, bio);
				bio = bio_alloc(on->bdev, BIO_MAX_VECS,
						REQ_OP_WRITE | REQ_META | REQ_SYNC, GFP_NOFS);
				bio->bi_iter.bi_sector = sector;
				added = fill_bio(bio, write->data + done, write->bytes - done);
				if (WARN_ON_ONCE(!added))
					break;
			}
			done += added;
		}
	}
	if (bio)
		batch_submit(&batch, bio);
	blk_finish_plug(&plug);
	if (!atomic_dec_and_test(&batch.left))
		wait_for_completion_io(&batch.done);
	if (unlikely(batch.error))
		trace_vexfs_device_error(device_number(device), true, batch.failed, 0, batch.error);
	memalloc_nofs_restore(nofs);
	*failed = batch.failed;
	return batch.error;
}

/* The device makes durable what came before, and this. */
int vexfs_host_device_publish(void *device, u64 offset, const u8 *data, size_t bytes)
{
	return transfer(device, REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_PREFLUSH | REQ_FUA, offset,
			(u8 *)data, bytes);
}

int vexfs_host_device_flush(void *device)
{
	return blkdev_issue_flush(((struct vexfs_device *)device)->bdev);
}

int vexfs_host_device_discard(void *device, u64 offset, u64 bytes)
{
	return blkdev_issue_discard(((struct vexfs_device *)device)->bdev, offset >> SECTOR_SHIFT,
				    bytes >> SECTOR_SHIFT, GFP_NOFS);
}

/* ---- clocks, randomness, checksums ---- */

/* The time that the VFS gives inodes too, so that the two compare. */
s64 vexfs_host_now(u32 *nanoseconds)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	*nanoseconds = now.tv_nsec;
	return now.tv_sec;
}

u64 vexfs_host_monotonic_ns(void)
{
	return ktime_get_ns();
}

void vexfs_host_random(u8 *buffer, size_t bytes)
{
	get_random_bytes(buffer, bytes);
}

u32 vexfs_host_crc32c(u32 seed, const u8 *data, size_t bytes)
{
	return ~vexfs_crc32c(~seed, data, bytes);
}

/* ---- locks ---- */

/* As LockClass of the core counts. Lockdep tells locks apart by where they were made. */
#define LOCK_KINDS 9

static struct lock_class_key lock_keys[LOCK_KINDS];
static const char *const lock_names[LOCK_KINDS] = {
	"vexfs_collections", "vexfs_collection_writer", "vexfs_collection_build",
	"vexfs_collection", "vexfs_collection_pending", "vexfs_commit",
	"vexfs_tree", "vexfs_open_files", "vexfs_node_cache",
};

void *vexfs_host_lock_new(u32 kind)
{
	struct rw_semaphore *lock;

	if (kind >= LOCK_KINDS)
		return NULL;
	lock = kmalloc(sizeof(*lock), GFP_NOFS);
	if (lock)
		__init_rwsem(lock, lock_names[kind], &lock_keys[kind]);
	return lock;
}

void vexfs_host_lock_free(void *lock)
{
	kfree(lock);
}

void vexfs_host_lock_shared(void *lock)
{
	down_read(lock);
}

/* False when the thread has a signal, or other work, to see to. */
bool vexfs_host_lock_shared_interruptible(void *lock)
{
	return !down_read_interruptible(lock);
}

bool vexfs_host_try_lock_shared(void *lock)
{
	return down_read_trylock(lock);
}

void vexfs_host_unlock_shared(void *lock)
{
	up_read(lock);
}

void vexfs_host_lock_exclusive(void *lock)
{
	down_write(lock);
}

bool vexfs_host_try_lock_exclusive(void *lock)
{
	return down_write_trylock(lock);
}

void vexfs_host_unlock_exclusive(void *lock)
{
	up_write(lock);
}

/* ---- threads ---- */

struct vexfs_tasks {
	struct work_struct work;
	void (*run)(void *tasks, size_t number);
	void *tasks;
	size_t count;
	atomic_long_t next;
};

static void run_tasks(struct vexfs_tasks *batch)
{
	size_t number;

	while ((number = atomic_long_fetch_inc(&batch->next)) < batch->count)
		batch->run(batch->tasks, number);
}

static void run_tasks_work(struct work_struct *work)
{
	run_tasks(container_of(work, struct vexfs_tasks, work));
}

size_t vexfs_host_workers(void)
{
	return min_t(size_t, num_online_cpus(), 8);
}

/* One helper besides the caller: searches and builds of others want processors too. */
void vexfs_host_run_tasks(void (*run)(void *tasks, size_t number), void *tasks, size_t count)
{
	struct vexfs_tasks batch = { .run = run, .tasks = tasks, .count = count };

	INIT_WORK_ONSTACK(&batch.work, run_tasks_work);
	if (count > 1)
		queue_work(vexfs_unbound_queue, &batch.work);
	run_tasks(&batch);
	if (count > 1)
		cancel_work_sync(&batch.work);
	destroy_work_on_stack(&batch.work);
}

void vexfs_host_relax(void)
{
	cond_resched();
}

/*
 * A thread that runs things for io_uring is told by task work that they are to end. For others that is no
 * signal.
 */
bool vexfs_host_interrupted(void)
{
	return task_sigpending(current) ||
	       (current->flags & PF_IO_WORKER && signal_pending(current));
}

/* ---- what happens ---- */

void vexfs_host_committed(void *device, u64 generation, u64 nodes, u64 nanoseconds)
{
	trace_vexfs_commit(device_number(device), generation, nodes, nanoseconds);
}

void vexfs_host_loaded(void *device, u32 collection, u64 rows, u64 nodes, u64 nanoseconds)
{
	trace_vexfs_index_load(device_number(device), collection, rows, nodes, nanoseconds);
}

void vexfs_host_simd_run(void *request)
{
	kernel_fpu_begin();
	vexfs_simd_run(request);
	kernel_fpu_end();
}

#ifdef CONFIG_KASAN
/* Instrumented code keeps checks that the other has not; none of them fails. */
void __noreturn vexfs_panic(void);
void __noreturn vexfs_panic(void)
{
	panic("VexFS: a check failed that cannot\n");
}
#endif

int __init vexfs_host_init(void)
{
	struct vexfs_instructions instructions;

	if (!vexfs_crc32c_init()) {
		pr_err("VexFS: checksums come out wrong\n");
		return -EIO;
	}

	kernel_fpu_begin();
	vexfs_simd_detect(&instructions);
	kernel_fpu_end();
	pr_info("VexFS: distances by %.*s\n", (int)instructions.name_bytes, instructions.name);
	return 0;
}
