// SPDX-License-Identifier: GPL-2.0-only
/* The search graphs, brought nearer to the vectors by a thread in the background. */

#include "trace.h"
#include "vexfs.h"

/* The pause after a step when there is more to do. */
#define STEP_PAUSE (HZ / 100 ?: 1)
/* That when there was no space or no memory for it. */
#define LACK_PAUSE (10 * HZ)
/* How long after a put the work begins: vectors seldom come alone. */
#define KICK_DELAY (HZ / 2)
#define COLLECTIONS_AT_ONCE 64

static bool add_collection(void *context, const struct vexfs_collection *collection)
{
	struct vexfs_index_sums *sums = context;

	sums->collections++;
	sums->vectors += collection->rows;
	sums->indexed += collection->indexed;
	sums->unindexed += collection->unindexed;
	sums->bytes += collection->memory_bytes;
	sums->damaged += collection->damaged + collection->graph_damaged;
	return true;
}

/* Sums all collections up. */
int vexfs_index_sum(struct vexfs_super *super, struct vexfs_index_sums *sums)
{
	memset(sums, 0, sizeof(*sums));
	return vexfs_core_collections(super->core, add_collection, sums);
}

struct numbers {
	bool all; /* not only those with work to do */
	u32 after; /* none up to this number */
	u32 count;
	u32 list[COLLECTIONS_AT_ONCE];
};

static bool note_number(void *context, const struct vexfs_collection *collection)
{
	struct numbers *numbers = context;

	if (collection->number <= numbers->after)
		return true;
	if (!numbers->all && !collection->unindexed && !collection->graph_damaged)
		return true;
	if (numbers->count < COLLECTIONS_AT_ONCE)
		numbers->list[numbers->count++] = collection->number;
	return true;
}

/* Loads every collection, as index=preload asks. */
static void preload(struct vexfs_super *super)
{
	struct numbers numbers = { .all = true };
	struct vexfs_graph_work done;
	u32 i;

	do {
		numbers.count = 0;
		if (vexfs_core_collections(super->core, note_number, &numbers))
			return;
		/* Those that do not fit, or went meanwhile, are the search's to meet. */
		for (i = 0; i < numbers.count; i++) {
			numbers.after = numbers.list[i];
			vexfs_core_collection_maintain(super->core, numbers.after, 0, &done);
		}
	} while (numbers.count == COLLECTIONS_AT_ONCE);
}

/* A round over all collections, some at a time, gives each with something to do a step. */
void vexfs_index_work(struct work_struct *work)
{
	struct vexfs_super *super = container_of(work, struct vexfs_super, index_work.work);
	struct super_block *sb = super->sb;
	struct numbers numbers = { .after = super->index_after };
	bool more, lacks = false;
	u32 i;

	if (super->options.preload && !super->preloaded) {
		super->preloaded = true;
		preload(super);
	}
	if (super->stopped || vexfs_core_collections(super->core, note_number, &numbers))
		return;
	if (super->index_paused || vexfs_is_read_only(sb))
		return;
	/* A frozen file system is not changed, not even to store a graph. */
	if (!vexfs_start_write(sb)) {
		queue_delayed_work(vexfs_unbound_queue, &super->index_work, HZ);
		return;
	}
	WRITE_ONCE(super->index_at_work, numbers.count > 0);
	for (i = 0; i < numbers.count; i++) {
		struct vexfs_graph_work done = {};
		int error = vexfs_with_room(
			sb, vexfs_core_collection_maintain(super->core, numbers.list[i],
							   READ_ONCE(super->index_step_rows),
							   &done));

		if (!error) {
			trace_vexfs_index_build(sb->s_dev, numbers.list[i], &done);
			super->index_left_yet += done.left;
		} else if (error != -ENOENT) {
			lacks |= error == -ENOSPC || error == -ENOMEM;
			vexfs_check(sb, error, "graph of collection", numbers.list[i]);
		}
	}
	sb_end_intwrite(sb);
	more = numbers.count == COLLECTIONS_AT_ONCE;
	WRITE_ONCE(super->index_after, more ? numbers.list[numbers.count - 1] : 0);
	if (!more) {
		WRITE_ONCE(super->index_left, super->index_left_yet);
		super->index_left_yet = 0;
	}
	/* Whoever sees this sees what is left. */
	smp_store_release(&super->index_at_work, false);
	if (more || super->index_left)
		queue_delayed_work(vexfs_unbound_queue, &super->index_work, STEP_PAUSE);
	else if (lacks)
		queue_delayed_work(vexfs_unbound_queue, &super->index_work, LACK_PAUSE);
}

void vexfs_index_kick(struct vexfs_super *super)
{
	if (!super->index_paused)
		queue_delayed_work(vexfs_unbound_queue, &super->index_work, KICK_DELAY);
}
