// SPDX-License-Identifier: GPL-2.0-only
/* File handles, for NFS and open_by_handle_at(2): inode number and generation, and the parent's. */

#include <linux/exportfs.h>
#include <linux/fs.h>

#include "vexfs.h"

#define HANDLE_FILE 0x81 /* FILEID_INO64_GEN */
#define HANDLE_FILE_AND_PARENT 0x82 /* FILEID_INO64_GEN_PARENT */
#define WORDS_OF_ONE 3

static void put_words(u32 *words, const struct inode *inode)
{
	words[0] = lower_32_bits(inode->i_ino);
	words[1] = upper_32_bits(inode->i_ino);
	words[2] = inode->i_generation;
}

static int vexfs_encode_handle(struct inode *inode, u32 *words, int *length, struct inode *parent)
{
	int wanted = parent ? 2 * WORDS_OF_ONE : WORDS_OF_ONE;

	if (*length < wanted) {
		*length = wanted;
		return FILEID_INVALID;
	}
	*length = wanted;
	put_words(words, inode);
	if (!parent)
		return HANDLE_FILE;
	put_words(words + WORDS_OF_ONE, parent);
	return HANDLE_FILE_AND_PARENT;
}

static struct dentry *decode(struct super_block *sb, const u32 *words)
{
	u64 number = (u64)words[1] << 32 | words[0];
	struct inode *inode = vexfs_iget(sb, number);

	/* One without names is there while somebody has it open. */
	if (!IS_ERR(inode) && inode->i_generation != words[2]) {
		iput(inode);
		return ERR_PTR(-ESTALE);
	}
	return d_obtain_alias(inode);
}

static struct dentry *vexfs_handle_to_dentry(struct super_block *sb, struct fid *fid, int length,
					     int type)
{
	if ((type != HANDLE_FILE && type != HANDLE_FILE_AND_PARENT) || length < WORDS_OF_ONE)
		return NULL;
	return decode(sb, fid->raw);
}

static struct dentry *vexfs_handle_to_parent(struct super_block *sb, struct fid *fid, int length,
					     int type)
{
	if (type != HANDLE_FILE_AND_PARENT || length < 2 * WORDS_OF_ONE)
		return NULL;
	return decode(sb, fid->raw + WORDS_OF_ONE);
}

static struct dentry *vexfs_get_parent(struct dentry *child)
{
	struct inode *dir = d_inode(child);
	u64 number;
	int error = vexfs_core_lookup(vexfs_core_of(dir), dir->i_ino, "..", 2, &number);

	if (error)
		return ERR_PTR(vexfs_check(dir->i_sb, error, "directory", dir->i_ino));
	return d_obtain_alias(vexfs_iget(dir->i_sb, number));
}

struct name_found {
	u64 parent;
	char *name;
	int error;
};

static bool take_name(void *context, u64 parent, const u8 *name, size_t name_bytes)
{
	struct name_found *found = context;

	if (parent != found->parent)
		return true;
	memcpy(found->name, name, name_bytes);
	found->name[name_bytes] = 0;
	found->error = 0;
	return false;
}

static int vexfs_get_name(struct dentry *parent, char *name, struct dentry *child)
{
	struct inode *inode = d_inode(child);
	struct name_found found = { .parent = d_inode(parent)->i_ino, .name = name, .error = -ENOENT };
	int error = vexfs_core_inode_parents(vexfs_core_of(inode), inode->i_ino, take_name, &found);

	return error ? vexfs_check(inode->i_sb, error, "inode", inode->i_ino) : found.error;
}

/* A server answers when it is durable. */
static int vexfs_commit_metadata(struct inode *inode)
{
	return sync_inode_metadata(inode, 1) ?: vexfs_commit(inode->i_sb);
}

const struct export_operations vexfs_export_operations = {
	.encode_fh = vexfs_encode_handle,
	.fh_to_dentry = vexfs_handle_to_dentry,
	.fh_to_parent = vexfs_handle_to_parent,
	.get_parent = vexfs_get_parent,
	.get_name = vexfs_get_name,
	.commit_metadata = vexfs_commit_metadata,
};
