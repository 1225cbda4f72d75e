/* SPDX-License-Identifier: GPL-2.0-only */
/* The commands of uapi/vexfs.h: what they share, and where each is. */
#ifndef VEXFS_COMMANDS_H
#define VEXFS_COMMANDS_H

#include <linux/slab.h>
#include <linux/uaccess.h>

#include "vexfs.h"

/* Limits of one command. The core has others, of what it is asked. */
#define VEXFS_BYTES_MAX (64UL << 20) /* of vectors that go in or out */
#define VEXFS_COUNT_MAX 65536
#define VEXFS_HITS_MAX (1U << 17)

/*
 * Reads a structure that begins with its size, as copy_struct_from_user() has it. All are of the first
 * version, so none may be shorter than it is known here.
 */
int vexfs_take(void *place, size_t known, const void __user *argument);
int vexfs_give(void __user *argument, const void *place, size_t known);

#define TAKE(structure, argument) vexfs_take(&(structure), sizeof(structure), argument)
#define GIVE(structure, argument) vexfs_give(argument, &(structure), sizeof(structure))

/* For so many bytes, while a command lasts: more than a page is the matter of the caller's control group. */
static inline gfp_t vexfs_memory_for(size_t bytes)
{
	return bytes > PAGE_SIZE ? GFP_KERNEL_ACCOUNT : GFP_KERNEL;
}

/* Bytes of the caller's, to be freed with kvfree(), or an error pointer. */
static inline void *vexfs_take_bytes(u64 pointer, size_t bytes)
{
	void *taken = kvmalloc(bytes, vexfs_memory_for(bytes));

	if (!taken)
		return ERR_PTR(-ENOMEM);
	if (!copy_from_user(taken, u64_to_user_ptr(pointer), bytes))
		return taken;
	kvfree(taken);
	return ERR_PTR(-EFAULT);
}

/* info.c */
int vexfs_command_info(struct file *file, void __user *argument);

/* collections.c */
int vexfs_vector_bytes(struct super_block *sb, u32 collection, size_t *bytes);
int vexfs_command_collection_create(struct file *file, void __user *argument);
int vexfs_command_collection_list(struct file *file, void __user *argument);
int vexfs_command_collection_show(struct file *file, void __user *argument);
int vexfs_command_collection_maintain(struct file *file, void __user *argument);
int vexfs_command_collection_drop(struct file *file, void __user *argument);

/* vectors.c */
void vexfs_describe_vector(struct vexfs_ioc_vector *out, const struct vexfs_vector *in, bool counted);
int vexfs_command_put(struct file *file, void __user *argument);
int vexfs_command_get(struct file *file, void __user *argument);
int vexfs_command_remove(struct file *file, void __user *argument);
int vexfs_command_list(struct file *file, void __user *argument);

/* search.c */
bool vexfs_may_count(const struct file *file);
int vexfs_command_rows(struct file *file, void __user *argument);
int vexfs_command_search(struct file *file, void __user *argument);
int vexfs_command_paths(struct file *file, void __user *argument);

#endif
