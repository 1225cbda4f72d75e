// SPDX-License-Identifier: GPL-2.0-only
/* What a file system is, by ioctl. */

#include "commands.h"

static_assert(sizeof(struct vexfs_ioc_info) == 264);

int vexfs_command_info(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_super *super = VEXFS_SB(sb);
	struct vexfs_ioc_info out;
	struct vexfs_status status;
	struct vexfs_index_sums sums;
	int error = TAKE(out, argument);

	if (error)
		return error;
	if (out.reserved)
		return -EINVAL;
	error = vexfs_core_status(super->core, &status) ?:
		vexfs_index_sum(super, &sums);
	if (error)
		return vexfs_check(sb, error, "collections", 0);
	out = (struct vexfs_ioc_info){
		.size = out.size,
		.version = 1,
		.features = { status.features[0], status.features[1], status.features[2] },
		.blocks = status.blocks,
		.blocks_free = status.blocks_free,
		.blocks_available = status.blocks_available,
		.inodes = status.inodes,
		.inodes_free = status.inodes_free,
		.generation = status.generation,
		.writer_generation = status.writer_generation,
		.created_seconds = status.created_seconds,
		.published_seconds = status.published_seconds,
		.cache_bytes = status.cache_bytes,
		.index_bytes = vexfs_may_count(file) ? sums.bytes : 0,
		.searches = vexfs_may_count(file) ? atomic64_read(&super->searches) : 0,
		.errors = atomic64_read(&super->errors),
		.block_bytes = status.block_bytes,
		.tree_levels = status.tree_levels,
		.collections = sums.collections,
		.collections_max = 4096,
		.dimension_max = 16384,
		.queries_max = 1024,
		.k_max = 4096,
		.effort_max = 16384,
		.hits_max = VEXFS_HITS_MAX,
		.put_vectors_max = VEXFS_COUNT_MAX,
		.read_only = status.read_only || vexfs_is_read_only(sb),
	};
	memcpy(out.uuid, status.uuid, sizeof(out.uuid));
	memcpy(out.label, status.label, sizeof(out.label));
	return GIVE(out, argument);
}
