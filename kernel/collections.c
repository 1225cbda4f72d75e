// SPDX-License-Identifier: GPL-2.0-only
/* Collections, as uapi/vexfs.h has them: made, listed, shown, brought up to date, dropped. */

#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/slab.h>

#include "commands.h"
#include "trace.h"

static_assert(sizeof(struct vexfs_ioc_collection) == 592);

/* Collections are everybody's to see, and to make the owner's of the root. */
static bool may_manage(struct file *file)
{
	const struct vfsmount *mount = file->f_path.mnt;
	struct super_block *sb = file_inode(file)->i_sb;
	struct inode *root = d_inode(sb->s_root);

	if (capable(CAP_SYS_ADMIN))
		return true;
	/* Of the root, which it does not show, a part that is mapped for a container says nothing. */
	if (is_idmapped_mnt(mount) && mount->mnt_root != sb->s_root)
		return false;
	return vfsuid_eq_kuid(i_uid_into_vfsuid(file_mnt_idmap(file), root), current_fsuid());
}

static void describe(struct vexfs_ioc_collection *out, const struct vexfs_collection *in)
{
	*out = (struct vexfs_ioc_collection){
		.rows = in->rows,
		.indexed = in->indexed,
		.unindexed = in->unindexed,
		.damaged = in->damaged,
		.memory_bytes = in->memory_bytes,
		.created_seconds = in->created_seconds,
		.number = in->number,
		.dimension = in->dimension,
		.build_effort = in->build_effort,
		.degree = in->degree,
		.element = in->element,
		.metric = in->metric,
		.quantization = in->quantization,
		.loaded = in->loaded,
		.graph_damaged = in->graph_damaged,
		.name_bytes = min_t(size_t, in->name_bytes, VEXFS_COLLECTION_NAME_BYTES),
		.model_bytes = min_t(size_t, in->model_bytes, VEXFS_MODEL_BYTES),
	};
	memcpy(out->name, in->name, out->name_bytes);
	memcpy(out->model, in->model, out->model_bytes);
}

/*
 * The room that a collection takes, for who may know it; for others zeros, also in place of the other numbers
 * that tell of files that they may not read.
 */
static int count_or_hide(struct vexfs_ioc_collection *collection, const struct file *file)
{
	struct super_block *sb = file_inode(file)->i_sb;

	collection->counted = vexfs_may_count(file);
	if (collection->counted) {
		int error = vexfs_core_collection_stored_bytes(VEXFS_SB(sb)->core,
							       collection->number,
							       &collection->stored_bytes);

		return error == -EINTR ? -ERESTARTSYS : error;
	}
	collection->rows = collection->indexed = collection->unindexed = collection->damaged = 0;
	collection->memory_bytes = collection->stored_bytes = 0;
	collection->loaded = 0;
	return 0;
}

static bool describe_one(void *context, const struct vexfs_collection *collection)
{
	describe(context, collection);
	return false;
}

static int describe_by_number(struct super_block *sb, u32 number, struct vexfs_ioc_collection *out)
{
	return vexfs_check(sb, vexfs_core_collection_by_number(VEXFS_SB(sb)->core, number, describe_one,
							       out),
			   "collection", number);
}

/* Whether a name is ended and the rest of its room is zeros. */
static bool is_padded(const char *name, size_t room)
{
	size_t length = strnlen(name, room);

	return length < room && !memchr_inv(name + length, 0, room - length);
}

int vexfs_command_collection_create(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_create *args = kmalloc(sizeof(*args), GFP_KERNEL);
	struct vexfs_ioc_collection *wanted;
	struct vexfs_new_collection new;
	u32 number;
	int error;

	if (!args)
		return -ENOMEM;
	wanted = &args->collection;
	error = vexfs_take(args, sizeof(*args), argument);
	if (error)
		goto out;
	error = -EINVAL;
	if (args->flags || wanted->rows || wanted->indexed || wanted->unindexed || wanted->damaged ||
	    wanted->memory_bytes || wanted->stored_bytes || wanted->created_seconds ||
	    wanted->number || wanted->loaded || wanted->graph_damaged || wanted->name_bytes ||
	    wanted->model_bytes || wanted->counted ||
	    memchr_inv(wanted->reserved, 0, sizeof(wanted->reserved)) ||
	    !is_padded(wanted->name, sizeof(wanted->name)) ||
	    !is_padded(wanted->model, sizeof(wanted->model)))
		goto out;
	error = -EPERM;
	if (!may_manage(file))
		goto out;
	new = (struct vexfs_new_collection){
		.name = wanted->name,
		.name_bytes = strlen(wanted->name),
		.model = wanted->model,
		.model_bytes = strlen(wanted->model),
		.dimension = wanted->dimension,
		.build_effort = wanted->build_effort,
		.degree = wanted->degree,
		.element = wanted->element,
		.metric = wanted->metric,
		.quantization = wanted->quantization,
	};
	error = vexfs_want_write(file);
	if (error)
		goto out;
	error = vexfs_with_room(sb, vexfs_core_collection_create(VEXFS_SB(sb)->core, &new, &number));
	vexfs_check(sb, error, "collections", 0);
	mnt_drop_write_file(file);
	if (error)
		goto out;
	/* It is made, even if by now another dropped it or memory is short: its number is told at least. */
	wanted->number = number;
	describe_by_number(sb, number, wanted);
	count_or_hide(wanted, file);
	error = vexfs_give(argument, args, sizeof(*args));
out:
	kfree(args);
	return error;
}

struct collection_list {
	struct vexfs_ioc_collection *out;
	u32 after;
	u32 count;
	u32 most;
};

static bool note_collection(void *context, const struct vexfs_collection *collection)
{
	struct collection_list *list = context;

	if (collection->number <= list->after)
		return true;
	if (list->count == list->most)
		return false;
	describe(&list->out[list->count], collection);
	list->count++;
	return true;
}

int vexfs_command_collection_list(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_list args;
	struct collection_list list = {};
	int error = TAKE(args, argument);
	u32 i;

	if (error)
		return error;
	if (args.flags || !args.count)
		return -EINVAL;
	list.most = min(args.count, 4096U);
	list.after = args.after;
	list.out = kvcalloc(list.most, sizeof(*list.out), GFP_KERNEL_ACCOUNT);
	if (!list.out)
		return -ENOMEM;
	error = vexfs_core_collections(VEXFS_SB(sb)->core, note_collection, &list);
	for (i = 0; !error && i < list.count; i++) {
		error = count_or_hide(&list.out[i], file);
		/* Dropped since it was described. */
		error = error == -ENOENT ? 0 : error;
	}
	vexfs_check(sb, error, "collections", 0);
	if (!error && copy_to_user(u64_to_user_ptr(args.collections), list.out,
				   list.count * sizeof(*list.out)))
		error = -EFAULT;
	args.count = list.count;
	if (list.count)
		args.after = list.out[list.count - 1].number;
	kvfree(list.out);
	return error ?: GIVE(args, argument);
}

int vexfs_command_collection_show(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_show *args = kmalloc(sizeof(*args), GFP_KERNEL);
	struct vexfs_ioc_collection *wanted;
	u32 number;
	int error;

	if (!args)
		return -ENOMEM;
	wanted = &args->collection;
	error = vexfs_take(args, sizeof(*args), argument);
	if (error)
		goto out;
	error = -EINVAL;
	if (args->flags || memchr_inv(wanted->reserved, 0, sizeof(wanted->reserved)) ||
	    !is_padded(wanted->name, sizeof(wanted->name)) || (!wanted->number == !wanted->name[0]))
		goto out;
	number = wanted->number;
	error = 0;
	if (!number)
		error = vexfs_core_collection_number(VEXFS_SB(sb)->core, wanted->name,
						     strlen(wanted->name), &number);
	error = error ?: describe_by_number(sb, number, wanted);
	error = error ?: vexfs_check(sb, count_or_hide(wanted, file), "collection", number);
	error = error ?: vexfs_give(argument, args, sizeof(*args));
out:
	kfree(args);
	return error;
}

/* A step of bringing a graph up to date, after which others get a turn and signals count. */
#define MAINTAIN_ROWS 4096

/* Brings a graph up to date. Others may change the file system, or freeze it, between steps. */
static int bring_up(struct file *file, struct vexfs_ioc_collection_maintain *args)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_graph_work done;
	int error;

	do {
		error = vexfs_want_write(file);
		if (error)
			break;
		error = vexfs_with_room(sb, vexfs_core_collection_maintain(VEXFS_SB(sb)->core,
									   args->number,
									   MAINTAIN_ROWS, &done));
		mnt_drop_write_file(file);
		if (error)
			break;
		args->inserted += done.inserted;
		args->removed += done.removed;
		args->left = done.left;
		trace_vexfs_index_build(sb->s_dev, args->number, &done);
		if (vexfs_host_interrupted())
			error = -EINTR;
		cond_resched();
	} while (!error && done.left && done.inserted);
	return error;
}

/* Builds a graph anew, which changes memory only and which freezing does not wait for, and stores it. */
static int rebuild(struct file *file, struct vexfs_ioc_collection_maintain *args)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_core *core = VEXFS_SB(sb)->core;
	struct vexfs_graph_work done;
	int error = vexfs_core_collection_rebuild(core, args->number, &done);

	if (error)
		return error;
	trace_vexfs_index_build(sb->s_dev, args->number, &done);
	args->inserted = done.inserted;
	args->left = done.left;
	error = vexfs_want_write(file);
	if (error)
		return error;
	error = vexfs_with_room(sb, vexfs_core_collection_store(core, args->number));
	mnt_drop_write_file(file);
	return error;
}

int vexfs_command_collection_maintain(struct file *file, void __user *argument)
{
	struct vexfs_ioc_collection_maintain args;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags & ~VEXFS_MAINTAIN_REBUILD || args.reserved || args.inserted || args.removed ||
	    args.left)
		return -EINVAL;
	if (!may_manage(file))
		return -EPERM;
	/* Nothing is built that could not be stored. */
	error = vexfs_want_write(file);
	if (error)
		return error;
	mnt_drop_write_file(file);
	error = args.flags & VEXFS_MAINTAIN_REBUILD ? rebuild(file, &args) : bring_up(file, &args);
	if (error == -EINTR)
		error = -ERESTARTSYS;
	vexfs_check(file_inode(file)->i_sb, error, "graph of collection", args.number);
	return error ?: GIVE(args, argument);
}

int vexfs_command_collection_drop(struct file *file, void __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	struct vexfs_ioc_collection_drop args;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved)
		return -EINVAL;
	if (!may_manage(file))
		return -EPERM;
	error = vexfs_want_write(file);
	if (error)
		return error;
	error = vexfs_core_collection_drop(VEXFS_SB(sb)->core, args.number);
	vexfs_check(sb, error, "collection", args.number);
	mnt_drop_write_file(file);
	return error;
}

/* Bytes of a vector of the collection of this number. */
int vexfs_vector_bytes(struct super_block *sb, u32 collection, size_t *bytes)
{
	int told = vexfs_core_collection_vector_bytes(VEXFS_SB(sb)->core, collection);

	if (told < 0)
		return vexfs_check(sb, told, "collection", collection);
	*bytes = told;
	return 0;
}
