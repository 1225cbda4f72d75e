// SPDX-License-Identifier: GPL-2.0-only
/* Extended attributes and access control lists; the core knows both under their whole names. */

#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/xattr.h>

#include "vexfs.h"

/* The whole name: prefix and rest. Freed by the caller. */
static char *whole_name(const struct xattr_handler *handler, const char *name)
{
	return kasprintf(GFP_KERNEL, "%s%s", xattr_prefix(handler), name);
}

static int set_value(struct inode *inode, const char *name, const void *value, size_t bytes,
		     int flags)
{
	struct vexfs_core *core = vexfs_core_of(inode);
	int error;

	if (unlikely(VEXFS_SB(inode->i_sb)->stopped))
		return -EIO;
	if (value)
		error = vexfs_with_room(inode->i_sb,
					vexfs_core_set_xattr(core, inode->i_ino, name, strlen(name),
							     value, bytes, flags));
	else
		error = vexfs_core_remove_xattr(core, inode->i_ino, name, strlen(name));
	if (error)
		return vexfs_check(inode->i_sb, error, "attributes of inode", inode->i_ino);
	return vexfs_refresh(inode);
}

static int get(const struct xattr_handler *handler, struct dentry *dentry, struct inode *inode,
	       const char *name, void *buffer, size_t bytes)
{
	char *whole = whole_name(handler, name);
	s64 length;

	if (!whole)
		return -ENOMEM;
	length = vexfs_core_get_xattr(vexfs_core_of(inode), inode->i_ino, whole, strlen(whole), buffer,
				      buffer ? bytes : 0);
	kfree(whole);
	/* An empty buffer that was given is too small for a value. */
	if (length > 0 && buffer && !bytes)
		return -ERANGE;
	return vexfs_check(inode->i_sb, length, "attributes of inode", inode->i_ino);
}

static int set(const struct xattr_handler *handler, struct mnt_idmap *idmap, struct dentry *dentry,
	       struct inode *inode, const char *name, const void *value, size_t bytes, int flags)
{
	int error = vexfs_refuses(inode->i_sb);
	char *whole;

	if (error)
		return error;
	whole = whole_name(handler, name);
	if (!whole)
		return -ENOMEM;
	error = set_value(inode, whole, value, bytes, flags);
	kfree(whole);
	return error ?: vexfs_sync_marked(inode);
}

static bool list_trusted(struct dentry *dentry)
{
	return capable(CAP_SYS_ADMIN);
}

static const struct xattr_handler user_handler = {
	.prefix = XATTR_USER_PREFIX,
	.get = get,
	.set = set,
};

static const struct xattr_handler trusted_handler = {
	.prefix = XATTR_TRUSTED_PREFIX,
	.list = list_trusted,
	.get = get,
	.set = set,
};

static const struct xattr_handler security_handler = {
	.prefix = XATTR_SECURITY_PREFIX,
	.get = get,
	.set = set,
};

VEXFS_XATTR_HANDLERS handlers[] = {
	&user_handler,
	&trusted_handler,
	&security_handler,
#if !VEXFS_KERNEL(6, 4) && defined(CONFIG_FS_POSIX_ACL)
	&posix_acl_access_xattr_handler,
	&posix_acl_default_xattr_handler,
#endif
	NULL,
};
const void *vexfs_xattr_handlers(void)
{
	return handlers;
}

struct name_list {
	char *buffer;
	size_t bytes;
	size_t used;
	bool trusted;
	bool lists;
	bool full;
};

static bool is_name(const u8 *name, size_t name_bytes, const char *what)
{
	return name_bytes == strlen(what) && !memcmp(name, what, name_bytes);
}

static bool note_name(void *context, u64 parent, const u8 *name, size_t name_bytes)
{
	struct name_list *list = context;

	if (!list->trusted && name_bytes >= XATTR_TRUSTED_PREFIX_LEN &&
	    !memcmp(name, XATTR_TRUSTED_PREFIX, XATTR_TRUSTED_PREFIX_LEN))
		return true;
	if (!list->lists && (is_name(name, name_bytes, XATTR_NAME_POSIX_ACL_ACCESS) ||
			     is_name(name, name_bytes, XATTR_NAME_POSIX_ACL_DEFAULT)))
		return true;
	if (list->buffer) {
		if (name_bytes + 1 > list->bytes - list->used) {
			list->full = true;
			return false;
		}
		memcpy(list->buffer + list->used, name, name_bytes);
		list->buffer[list->used + name_bytes] = 0;
	}
	list->used += name_bytes + 1;
	return true;
}

ssize_t vexfs_listxattr(struct dentry *dentry, char *buffer, size_t bytes)
{
	struct inode *inode = d_inode(dentry);
	struct name_list list = {
		.buffer = buffer,
		.bytes = bytes,
		.trusted = capable(CAP_SYS_ADMIN),
		.lists = IS_POSIXACL(inode),
	};
	int error = vexfs_core_list_xattrs(vexfs_core_of(inode), inode->i_ino, note_name, &list);

	if (error)
		return vexfs_check(inode->i_sb, error, "attributes", inode->i_ino);
	return list.full ? -ERANGE : list.used;
}

/* ---- access control lists ---- */

static const char *acl_name(int type)
{
	return type == ACL_TYPE_ACCESS ? XATTR_NAME_POSIX_ACL_ACCESS : XATTR_NAME_POSIX_ACL_DEFAULT;
}

struct posix_acl *vexfs_get_acl(struct inode *inode, int type, bool rcu)
{
	const char *name = acl_name(type);
	struct vexfs_core *core = vexfs_core_of(inode);
	struct posix_acl *acl = NULL;
	char *value = NULL;
	s64 length;

	if (rcu)
		return ERR_PTR(-ECHILD);
	/* It may be changed in between, to a longer one, or taken away. */
	do {
		size_t room;

		length = vexfs_core_get_xattr(core, inode->i_ino, name, strlen(name), NULL, 0);
		if (length < 0)
			break;
		room = max_t(s64, length, 1);
		kvfree(value);
		value = kvmalloc(room, GFP_NOFS);
		if (!value)
			return ERR_PTR(-ENOMEM);
		length = vexfs_core_get_xattr(core, inode->i_ino, name, strlen(name), value, room);
	} while (length == -ERANGE);
	if (length >= 0)
		acl = posix_acl_from_xattr(&init_user_ns, value, length);
	else if (length != -ENODATA)
		acl = ERR_PTR(vexfs_check(inode->i_sb, length, "attributes of inode", inode->i_ino));
	kvfree(value);
	return acl;
}

/* Stores a list, or takes it away. */
static int store_acl(struct inode *inode, struct posix_acl *acl, int type)
{
	void *value = NULL;
	size_t bytes = 0;
	int error;

	if (acl) {
		value = vexfs_acl_to_xattr(acl, &bytes);
		if (!value)
			return -ENOMEM;
	}
	error = set_value(inode, acl_name(type), value, bytes, 0);
	if (!acl && error == -ENODATA)
		error = 0;
	if (!error)
		set_cached_acl(inode, type, acl);
	kfree(value);
	return error;
}

static int set_acl(struct mnt_idmap *idmap, struct inode *inode, struct dentry *dentry,
		   struct posix_acl *acl, int type)
{
	umode_t mode = inode->i_mode;
	int error = vexfs_refuses(inode->i_sb);

	if (error)
		return error;
	if (type == ACL_TYPE_DEFAULT && !S_ISDIR(inode->i_mode))
		return acl ? -EACCES : 0;
	if (type == ACL_TYPE_ACCESS && acl) {
		error = posix_acl_update_mode(idmap, inode, &mode, &acl);
		if (error)
			return error;
	}
	error = store_acl(inode, acl, type);
	if (!error && mode != inode->i_mode) {
		inode->i_mode = mode;
		inode_set_ctime_current(inode);
		error = vexfs_store_mode(inode);
	}
	return error ?: vexfs_sync_marked(inode);
}

#ifdef VEXFS_SET_ACL_TAKES_DENTRY
int vexfs_set_acl(struct mnt_idmap *idmap, struct dentry *dentry, struct posix_acl *acl, int type)
{
	return set_acl(idmap, d_inode(dentry), dentry, acl, type);
}

int vexfs_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry)
{
	return posix_acl_chmod(idmap, dentry, d_inode(dentry)->i_mode);
}
#else
int vexfs_set_acl(struct mnt_idmap *idmap, struct inode *inode, struct posix_acl *acl, int type)
{
	return set_acl(idmap, inode, NULL, acl, type);
}

int vexfs_acl_chmod(struct mnt_idmap *idmap, struct dentry *dentry)
{
	return posix_acl_chmod(idmap, d_inode(dentry), d_inode(dentry)->i_mode);
}
#endif

static const int list_types[VEXFS_NEW_LISTS] = { ACL_TYPE_ACCESS, ACL_TYPE_DEFAULT };

/* Notes labels for what is to be made; `data` knows what else it inherits. */
static int note_labels(struct inode *inode, const struct xattr *labels, void *data)
{
	size_t most = vexfs_core_attribute_inline_bytes_max(vexfs_core_of(inode));
	struct vexfs_inherited *inherited = data;
	struct vexfs_new_attribute *next = &inherited->attributes[VEXFS_NEW_LISTS];
	bool all = true;

	for (; labels->name; labels++) {
		/* It sums up the inode's number too, which is not known yet. */
		if (!strcmp(labels->name, XATTR_EVM_SUFFIX)) {
			all = false;
			continue;
		}
		if (next == &inherited->attributes[VEXFS_NEW_ATTRIBUTES] || labels->value_len > most ||
		    !labels->value_len)
			return 0;
		next->name = kasprintf(GFP_NOFS, XATTR_SECURITY_PREFIX "%s", labels->name);
		next->value = kmemdup(labels->value, labels->value_len, GFP_NOFS);
		if (!next->name || !next->value)
			return -ENOMEM;
		next->name_bytes = strlen(next->name);
		next->value_bytes = labels->value_len;
		next++;
	}
	inherited->labelled = all && vexfs_labels_are_all(inode);
	return 0;
}

/* Asks security modules for the labels of what is to be made, by an inode that nobody else sees. */
static int inherit_labels(struct mnt_idmap *idmap, struct inode *dir, const struct qstr *name,
			  umode_t mode, struct vexfs_inherited *inherited)
{
	struct inode *inode;
	int error;

	if (!VEXFS_SB(dir->i_sb)->labelled)
		return 0;
	inode = new_inode(dir->i_sb);
	if (!inode)
		return -ENOMEM;
	inode_init_owner(idmap, inode, dir, mode);
	error = security_inode_init_security(inode, dir, name, note_labels, inherited);
	iput(inode);
	return error == -EOPNOTSUPP ? 0 : error;
}

/*
 * What is made in `dir` inherits, and what that leaves of its mode. Lists and labels go with the inode to
 * the core, so that no crash leaves it with more rights than they give; but for those too long to lie in
 * the tree with it, which come right after.
 */
int vexfs_inherit(struct mnt_idmap *idmap, struct inode *dir, const struct qstr *name, umode_t *mode,
		  struct vexfs_inherited *inherited)
{
	size_t most = vexfs_core_attribute_inline_bytes_max(vexfs_core_of(dir));
	struct posix_acl **lists = inherited->lists;
	int i, error = posix_acl_create(dir, mode, &lists[1], &lists[0]);

	for (i = 0; i < VEXFS_NEW_LISTS && !error; i++) {
		struct vexfs_new_attribute *attribute = &inherited->attributes[i];

		if (!lists[i] || posix_acl_xattr_size(lists[i]->a_count) > most)
			continue;
		attribute->name = acl_name(list_types[i]);
		attribute->name_bytes = strlen(attribute->name);
		attribute->value = vexfs_acl_to_xattr(lists[i], &attribute->value_bytes);
		if (!attribute->value)
			error = -ENOMEM;
	}
	if (!error)
		error = inherit_labels(idmap, dir, name, *mode, inherited);
	if (error)
		vexfs_inherited_free(inherited);
	return error;
}

void vexfs_inherited_free(struct vexfs_inherited *inherited)
{
	int i;

	for (i = 0; i < VEXFS_NEW_LISTS; i++)
		posix_acl_release(inherited->lists[i]);
	for (i = 0; i < VEXFS_NEW_ATTRIBUTES; i++) {
		if (i >= VEXFS_NEW_LISTS)
			kfree(inherited->attributes[i].name);
		kfree(inherited->attributes[i].value);
	}
}

static int store_labels(struct inode *inode, const struct xattr *labels, void *data)
{
	const struct xattr *label;
	int error = 0;

	for (label = labels; label->name && !error; label++) {
		char *name = kasprintf(GFP_NOFS, XATTR_SECURITY_PREFIX "%s", label->name);

		if (!name)
			return -ENOMEM;
		error = set_value(inode, name, label->value, label->value_len, 0);
		kfree(name);
	}
	return error;
}

/* Takes over what a new inode has inherited, and stores what it was not made with. */
int vexfs_inherited_by(struct inode *inode, struct inode *dir, const struct qstr *name,
		       const struct vexfs_inherited *inherited)
{
	int i, error = 0;

	cache_no_acl(inode);
	for (i = 0; i < VEXFS_NEW_LISTS && !error; i++) {
		struct posix_acl *list = inherited->lists[i];

		if (inherited->attributes[i].value)
			set_cached_acl(inode, list_types[i], list);
		else if (list)
			error = store_acl(inode, list, list_types[i]);
	}
	if (error || inherited->labelled)
		return error;
	error = security_inode_init_security(inode, dir, name, store_labels, NULL);
	return error == -EOPNOTSUPP ? 0 : error;
}
