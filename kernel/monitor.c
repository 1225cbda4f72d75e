// SPDX-License-Identifier: GPL-2.0-only
/*
 * What security modules say of what a search finds: whether the caller, coming by a path, could pass
 * through a directory and read a file. Modes and access control lists have let the caller through then.
 *
 * Only modules that judge files by labels of theirs can be asked without opening a file, so nobody is
 * asked where none of them runs. By a mount that maps owners, the kernel itself is asked, for modes and
 * lists too: the core knows owners as they are stored.
 */

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/sched/mm.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "vexfs.h"

/* Which modules run is settled when the kernel starts. */
bool vexfs_is_labelled(void)
{
	return security_ismaclabel(XATTR_SELINUX_SUFFIX) || security_ismaclabel(XATTR_SMACK_SUFFIX);
}

struct vexfs_monitor {
	struct mnt_idmap *idmap;
	/*
	 * Labels are read when an inode gets a name. This is a name for that, which never becomes an
	 * inode's. It is below the root, as Smack takes what is in no directory for a root itself.
	 */
	struct dentry *dentry;
};

int vexfs_monitor_open(struct file *file, struct vexfs_query *query)
{
	static const struct qstr name = QSTR_INIT("found", 5);
	struct vexfs_monitor *monitor = kmalloc(sizeof(*monitor), GFP_KERNEL);

	if (!monitor)
		return -ENOMEM;
	monitor->idmap = file_mnt_idmap(file);
	monitor->dentry = d_alloc(file_inode(file)->i_sb->s_root, &name);
	if (!monitor->dentry) {
		kfree(monitor);
		return -ENOMEM;
	}
	query->monitor = monitor;
	return 0;
}

void vexfs_monitor_close(struct vexfs_query *query)
{
	struct vexfs_monitor *monitor = query->monitor;

	if (monitor)
		dput(monitor->dentry);
	kfree(monitor);
}

/*
 * The root's label may be an option of the mount, and its inode is always there. For others an inode apart
 * gets the label that is stored: the one that others use may just be about to get it from whoever makes
 * the file, and to look it up may mean to wait for a thread that frees it.
 */
static struct inode *labelled_inode(struct dentry *dentry, u64 number)
{
	struct super_block *sb = dentry->d_sb;
	struct inode *inode;

	if (number == VEXFS_ROOT_INODE)
		return igrab(d_inode(sb->s_root));
	inode = vexfs_inode_apart(sb, number);
	if (!IS_ERR(inode))
		security_d_instantiate(dentry, inode);
	return inode;
}

/*
 * Called with the lock of a collection's rows held. Locks that come before that one are taken when an inode
 * without names is freed, so none that others had is freed here, and none by reclaim.
 */
int vexfs_host_allows(void *context, u64 number, bool directory)
{
	struct vexfs_monitor *monitor = context;
	unsigned int nofs = memalloc_nofs_save();
	struct inode *inode = labelled_inode(monitor->dentry, number);
	int error = PTR_ERR_OR_ZERO(inode);

	if (!error) {
		/* Nothing is done to the file yet, as with access(2). */
		error = inode_permission(monitor->idmap, inode,
					 (directory ? MAY_EXEC : MAY_READ) | MAY_ACCESS);
		iput(inode);
	}
	memalloc_nofs_restore(nofs);
	return error == -ENOMEM ? error : !error;
}
