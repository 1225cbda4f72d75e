// SPDX-License-Identifier: GPL-2.0-only
/* The vectors of a file, as uapi/vexfs.h has them: put, got, removed, listed. */

#include <linux/mm.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "commands.h"

static_assert(sizeof(struct vexfs_ioc_vector) == 72);
static_assert(sizeof(struct vexfs_ioc_put) == 72);
static_assert(sizeof(struct vexfs_ioc_get) == 104);

static int check_file(struct file *file, fmode_t mode)
{
	if (!S_ISREG(file_inode(file)->i_mode))
		return S_ISDIR(file_inode(file)->i_mode) ? -EISDIR : -EINVAL;
	return file->f_mode & mode ? 0 : -EBADF;
}

int vexfs_command_put(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_put args;
	struct vexfs_ioc_vector *vectors = NULL;
	struct vexfs_put *puts = NULL;
	struct vexfs_put_outcome outcome;
	u8 *data = NULL;
	size_t bytes;
	u32 i;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || !args.count || args.stored || args.replaced || args.stale ||
	    args.content_version)
		return -EINVAL;
	if (args.count > VEXFS_COUNT_MAX || args.data_bytes > VEXFS_BYTES_MAX)
		return -E2BIG;
	if (!args.data_bytes || args.data_bytes % args.count)
		return -EINVAL;
	error = check_file(file, FMODE_WRITE) ?:
		vexfs_vector_bytes(inode->i_sb, args.collection, &bytes);
	if (error)
		return error;
	if (args.data_bytes / args.count != bytes)
		return -EINVAL;
	vectors = vexfs_take_bytes(args.vectors, array_size(args.count, sizeof(*vectors)));
	if (IS_ERR(vectors))
		return PTR_ERR(vectors);
	data = vexfs_take_bytes(args.data, args.data_bytes);
	if (IS_ERR(data)) {
		kvfree(vectors);
		return PTR_ERR(data);
	}
	puts = kvcalloc(args.count, sizeof(*puts), GFP_KERNEL_ACCOUNT);
	error = puts ? 0 : -ENOMEM;
	for (i = 0; i < args.count && !error; i++) {
		const struct vexfs_ioc_vector *vector = &vectors[i];

		if (vector->sequence || vector->collection || vector->fresh || vector->reserved)
			error = -EINVAL;
		puts[i] = (struct vexfs_put){
			.vector = data + i * bytes,
			.vector_bytes = bytes,
			.offset = vector->offset,
			.length = vector->length,
			.content_version = vector->content_version,
			.tag = vector->tag,
			.chunk = vector->chunk,
		};
		memcpy(puts[i].digest, vector->digest, sizeof(puts[i].digest));
	}
	if (!error)
		error = vexfs_want_write(file);
	if (error)
		goto out;
	inode_lock(inode);
	/* No state may hold the vector and other bytes than it was made from. */
	error = IS_IMMUTABLE(inode) ? -EPERM : vexfs_tell_version(inode, true);
	if (!error) {
		error = vexfs_with_room(inode->i_sb,
					vexfs_core_vectors_put(vexfs_core_of(inode), args.collection,
							       inode->i_ino, puts, args.count,
							       &outcome));
		vexfs_version_told(inode);
		vexfs_check(inode->i_sb, error, "vectors of inode", inode->i_ino);
	}
	inode_unlock(inode);
	mnt_drop_write_file(file);
	if (error)
		goto out;
	vexfs_index_kick(VEXFS_SB(inode->i_sb));
	args.stored = outcome.stored;
	args.replaced = outcome.replaced;
	args.stale = outcome.stale;
	args.content_version = outcome.content_version;
	error = GIVE(args, argument);
out:
	kvfree(puts);
	kvfree(data);
	kvfree(vectors);
	return error;
}

/* Its place among all that were put is for who is told how many there are (`counted`). */
void vexfs_describe_vector(struct vexfs_ioc_vector *out, const struct vexfs_vector *in, bool counted)
{
	*out = (struct vexfs_ioc_vector){
		.offset = in->offset,
		.length = in->length,
		.content_version = in->content_version,
		.tag = in->tag,
		.sequence = counted ? in->sequence : 0,
		.collection = in->collection,
		.chunk = in->chunk,
		.fresh = in->fresh,
	};
	memcpy(out->digest, in->digest, sizeof(out->digest));
}

int vexfs_command_get(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_get args;
	struct vexfs_vector vector;
	size_t room, bytes;
	u8 *data;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || memchr_inv(&args.vector, 0, sizeof(args.vector)))
		return -EINVAL;
	error = check_file(file, FMODE_READ) ?:
		vexfs_vector_bytes(inode->i_sb, args.collection, &bytes);
	if (error)
		return error;
	room = min_t(u64, args.data_bytes, SZ_1M);
	data = kvmalloc(max_t(size_t, room, 1), GFP_KERNEL_ACCOUNT);
	if (!data)
		return -ENOMEM;
	error = vexfs_core_vector_get(vexfs_core_of(inode), args.collection, inode->i_ino, args.chunk,
				      data, room, &vector);
	vexfs_check_vectors(inode, error);
	if (!error && copy_to_user(u64_to_user_ptr(args.data), data, min(room, bytes)))
		error = -EFAULT;
	kvfree(data);
	if (error)
		return error;
	args.data_bytes = bytes;
	vexfs_describe_vector(&args.vector, &vector, vexfs_may_count(file));
	return GIVE(args, argument);
}

int vexfs_command_remove(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_ioc_remove args;
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved || args.removed || args.first > args.last)
		return -EINVAL;
	error = check_file(file, FMODE_WRITE) ?: vexfs_want_write(file);
	if (error)
		return error;
	inode_lock(inode);
	error = IS_IMMUTABLE(inode) ? -EPERM :
		vexfs_core_vectors_remove(vexfs_core_of(inode), args.collection, inode->i_ino,
					  args.first, args.last, &args.removed);
	inode_unlock(inode);
	mnt_drop_write_file(file);
	if (error == -EINTR)
		error = -ERESTARTSYS;
	vexfs_check(inode->i_sb, error, "vectors of inode", inode->i_ino);
	return error ?: GIVE(args, argument);
}

struct vector_list {
	struct vexfs_ioc_vector *out;
	u32 count;
	u32 most;
	u64 skip;
	u64 total;
	bool counted;
};

static bool note_vector(void *context, const struct vexfs_vector *vector)
{
	struct vector_list *list = context;

	if (list->total++ >= list->skip && list->count < list->most)
		vexfs_describe_vector(&list->out[list->count++], vector, list->counted);
	return true;
}

int vexfs_command_list(struct file *file, void __user *argument)
{
	struct inode *inode = file_inode(file);
	struct vexfs_inode_fields fields;
	struct vexfs_ioc_list args;
	struct vector_list list = { .counted = vexfs_may_count(file) };
	int error = TAKE(args, argument);

	if (error)
		return error;
	if (args.flags || args.reserved || args.total || args.content_version || args.generation)
		return -EINVAL;
	error = check_file(file, FMODE_READ);
	if (error)
		return error;
	list.most = min_t(u32, args.count, VEXFS_COUNT_MAX);
	list.skip = args.skip;
	list.out = kvcalloc(max(list.most, 1U), sizeof(*list.out), GFP_KERNEL_ACCOUNT);
	if (!list.out)
		return -ENOMEM;
	inode_lock(inode);
	error = vexfs_tell_version(inode, false);
	if (!error) {
		error = vexfs_core_vectors_of(vexfs_core_of(inode), inode->i_ino, note_vector, &list) ?:
			vexfs_core_inode(vexfs_core_of(inode), inode->i_ino, &fields);
		vexfs_version_told(inode);
	}
	inode_unlock(inode);
	if (error == -EINTR)
		error = -ERESTARTSYS;
	vexfs_check(inode->i_sb, error, "vectors of inode", inode->i_ino);
	if (!error && copy_to_user(u64_to_user_ptr(args.vectors), list.out,
				   list.count * sizeof(*list.out)))
		error = -EFAULT;
	kvfree(list.out);
	if (error)
		return error;
	args.count = list.count;
	args.total = list.total;
	args.content_version = fields.content_version;
	args.generation = fields.generation;
	return GIVE(args, argument);
}
