// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files below /sys/fs/vexfs, one value each: features/NAME says that this module has a feature,
 * UUID/NAME is a number of a mounted file system (UUID-DEVICE/NAME, where a copy of it is mounted before).
 */

#include <linux/kobject.h>
#include <linux/slab.h>
#include <linux/mutex.h>
#include <linux/sysfs.h>
#include <linux/uuid.h>

#include "vexfs.h"

struct vexfs_attribute {
	struct attribute attribute;
	ssize_t (*show)(struct vexfs_super *super, char *out);
	ssize_t (*store)(struct vexfs_super *super, const char *in, size_t bytes);
};

/* ---- numbers of the core ---- */

#define SHOW_STATUS(name, field)                                                                   \
	static ssize_t name##_show(struct vexfs_super *super, char *out)                           \
	{                                                                                          \
		struct vexfs_status status;                                                        \
		int error = vexfs_core_status(super->core, &status);                               \
                                                                                                   \
		return error ?: sysfs_emit(out, "%llu\n", (u64)status.field);                      \
	}

SHOW_STATUS(generation, generation)
SHOW_STATUS(writer_generation, writer_generation)
SHOW_STATUS(blocks, blocks)
SHOW_STATUS(blocks_free, blocks_free)
SHOW_STATUS(blocks_available, blocks_available)
SHOW_STATUS(block_bytes, block_bytes)
SHOW_STATUS(inodes, inodes)
SHOW_STATUS(cache_bytes, cache_bytes)

/* ---- collections ---- */

#define SHOW_INDEX(name, field)                                                                    \
	static ssize_t name##_show(struct vexfs_super *super, char *out)                           \
	{                                                                                          \
		struct vexfs_index_sums sums;                                                      \
		int error = vexfs_index_sum(super, &sums);                                         \
                                                                                                   \
		return error ?: sysfs_emit(out, "%llu\n", sums.field);                             \
	}

SHOW_INDEX(collections, collections)
SHOW_INDEX(vectors, vectors)
SHOW_INDEX(vectors_indexed, indexed)
SHOW_INDEX(vectors_unindexed, unindexed)
SHOW_INDEX(index_bytes, bytes)
SHOW_INDEX(index_damage, damaged)

static ssize_t index_state_show(struct vexfs_super *super, char *out)
{
	bool building = smp_load_acquire(&super->index_at_work) || READ_ONCE(super->index_left) ||
			READ_ONCE(super->index_after);

	return sysfs_emit(out, "%s\n", READ_ONCE(super->index_paused) ? "paused" :
				       building ? "building" : "idle");
}

static ssize_t index_paused_show(struct vexfs_super *super, char *out)
{
	return sysfs_emit(out, "%d\n", super->index_paused);
}

static ssize_t index_paused_store(struct vexfs_super *super, const char *in, size_t bytes)
{
	bool paused;
	int error = kstrtobool(in, &paused);

	if (error)
		return error;
	WRITE_ONCE(super->index_paused, paused);
	if (!paused)
		vexfs_index_kick(super);
	return bytes;
}

static ssize_t index_step_rows_show(struct vexfs_super *super, char *out)
{
	return sysfs_emit(out, "%u\n", super->index_step_rows);
}

static ssize_t index_step_rows_store(struct vexfs_super *super, const char *in, size_t bytes)
{
	unsigned int rows;
	int error = kstrtouint(in, 0, &rows);

	if (error)
		return error;
	if (rows < 1 || rows > 1 << 20)
		return -EINVAL;
	WRITE_ONCE(super->index_step_rows, rows);
	return bytes;
}

/* ---- counts of the module ---- */

static ssize_t searches_show(struct vexfs_super *super, char *out)
{
	return sysfs_emit(out, "%lld\n", atomic64_read(&super->searches));
}

/*
 * For each power of two that is the least number of nanoseconds not reached: how many searches. The last one
 * has all that took longer, too.
 */
static ssize_t search_latency_show(struct vexfs_super *super, char *out)
{
	ssize_t length = 0;
	int bucket;

	for (bucket = 0; bucket < ARRAY_SIZE(super->search_latency); bucket++) {
		s64 count = atomic64_read(&super->search_latency[bucket]);

		if (count)
			length += sysfs_emit_at(out, length, "%llu %lld\n", 1ULL << bucket, count);
	}
	return length;
}

static ssize_t errors_show(struct vexfs_super *super, char *out)
{
	return sysfs_emit(out, "%lld\n", atomic64_read(&super->errors));
}

#define READ_ONLY(what)                                                                            \
	static struct vexfs_attribute what##_attribute = {                                         \
		.attribute = { .name = #what, .mode = 0444 },                                      \
		.show = what##_show,                                                               \
	}
/* Of vectors of all files, and of what others ask: not for everybody. */
#define ROOT_ONLY(what)                                                                            \
	static struct vexfs_attribute what##_attribute = {                                         \
		.attribute = { .name = #what, .mode = 0400 },                                      \
		.show = what##_show,                                                               \
	}
#define READ_WRITE(what)                                                                           \
	static struct vexfs_attribute what##_attribute = {                                         \
		.attribute = { .name = #what, .mode = 0644 },                                      \
		.show = what##_show,                                                               \
		.store = what##_store,                                                             \
	}

READ_ONLY(generation);
READ_ONLY(writer_generation);
READ_ONLY(blocks);
READ_ONLY(blocks_free);
READ_ONLY(blocks_available);
READ_ONLY(block_bytes);
READ_ONLY(inodes);
READ_ONLY(cache_bytes);
READ_ONLY(collections);
ROOT_ONLY(vectors);
ROOT_ONLY(vectors_indexed);
ROOT_ONLY(vectors_unindexed);
ROOT_ONLY(index_bytes);
ROOT_ONLY(index_damage);
ROOT_ONLY(index_state);
READ_WRITE(index_paused);
READ_WRITE(index_step_rows);
ROOT_ONLY(searches);
ROOT_ONLY(search_latency);
READ_ONLY(errors);

static struct attribute *super_attrs[] = {
	&generation_attribute.attribute,
	&writer_generation_attribute.attribute,
	&blocks_attribute.attribute,
	&blocks_free_attribute.attribute,
	&blocks_available_attribute.attribute,
	&block_bytes_attribute.attribute,
	&inodes_attribute.attribute,
	&cache_bytes_attribute.attribute,
	&collections_attribute.attribute,
	&vectors_attribute.attribute,
	&vectors_indexed_attribute.attribute,
	&vectors_unindexed_attribute.attribute,
	&index_bytes_attribute.attribute,
	&index_damage_attribute.attribute,
	&index_state_attribute.attribute,
	&index_paused_attribute.attribute,
	&index_step_rows_attribute.attribute,
	&searches_attribute.attribute,
	&search_latency_attribute.attribute,
	&errors_attribute.attribute,
	NULL,
};
ATTRIBUTE_GROUPS(super);

static ssize_t super_show(struct kobject *kobject, struct attribute *attribute, char *out)
{
	struct vexfs_super *super = container_of(kobject, struct vexfs_super, kobject);

	return container_of(attribute, struct vexfs_attribute, attribute)->show(super, out);
}

static ssize_t super_store(struct kobject *kobject, struct attribute *attribute, const char *in,
			   size_t bytes)
{
	struct vexfs_super *super = container_of(kobject, struct vexfs_super, kobject);

	return container_of(attribute, struct vexfs_attribute, attribute)->store(super, in, bytes);
}

static void super_release(struct kobject *kobject)
{
	complete(&container_of(kobject, struct vexfs_super, kobject)->kobject_released);
}

static const struct sysfs_ops super_operations = {
	.show = super_show,
	.store = super_store,
};

static const struct kobj_type super_type = {
	.default_groups = super_groups,
	.sysfs_ops = &super_operations,
	.release = super_release,
};

/* ---- features ---- */

static ssize_t supported_show(struct kobject *kobject, struct kobj_attribute *attribute, char *out)
{
	return sysfs_emit(out, "supported\n");
}

#define FEATURE(name)                                                                              \
	static struct kobj_attribute name##_feature = __ATTR(name, 0444, supported_show, NULL)

FEATURE(reflink);
FEATURE(data_checksums);
FEATURE(vector_search);
FEATURE(io_uring);

static struct attribute *feature_attrs[] = {
	&reflink_feature.attr,
	&data_checksums_feature.attr,
	&vector_search_feature.attr,
	&io_uring_feature.attr,
	NULL,
};

static const struct attribute_group feature_group = {
	.attrs = feature_attrs,
};

/* ---- there and gone ---- */

static struct kset *root;
static struct kobject *features;

int __init vexfs_sysfs_init(void)
{
	int error = -ENOMEM;

	root = kset_create_and_add("vexfs", NULL, fs_kobj);
	if (!root)
		return -ENOMEM;
	features = kobject_create_and_add("features", &root->kobj);
	if (features)
		error = sysfs_create_group(features, &feature_group);
	if (error) {
		kobject_put(features);
		kset_unregister(root);
	}
	return error;
}

void vexfs_sysfs_exit(void)
{
	kobject_put(features);
	kset_unregister(root);
}

static bool is_taken(const char *name)
{
	struct kobject *other = kset_find_obj(root, name);

	kobject_put(other);
	return other;
}

/* A copy of a file system that is mounted goes by its device, too. */
int vexfs_sysfs_add(struct vexfs_super *super)
{
	static DEFINE_MUTEX(adding);
	struct super_block *sb = super->sb;
	char name[UUID_STRING_LEN + 1 + sizeof(sb->s_id)];
	int error;

	init_completion(&super->kobject_released);
	super->kobject.kset = root;
	mutex_lock(&adding);
	snprintf(name, sizeof(name), "%pU", &sb->s_uuid);
	if (is_taken(name))
		snprintf(name, sizeof(name), "%pU-%s", &sb->s_uuid, sb->s_id);
	if (is_taken(name)) {
		mutex_unlock(&adding);
		return -EBUSY;
	}
	error = kobject_init_and_add(&super->kobject, &super_type, NULL, "%s", name);
	mutex_unlock(&adding);
	if (error) {
		kobject_put(&super->kobject);
		wait_for_completion(&super->kobject_released);
		return error;
	}
	super->kobject_added = true;
	vexfs_set_sysfs_name(sb, name);
	return 0;
}

void vexfs_sysfs_remove(struct vexfs_super *super)
{
	if (!super->kobject_added)
		return;
	super->kobject_added = false;
	kobject_del(&super->kobject);
	kobject_put(&super->kobject);
	wait_for_completion(&super->kobject_released);
}
