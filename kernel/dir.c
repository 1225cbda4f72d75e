// SPDX-License-Identifier: GPL-2.0-only
/* Directories: names, and what is made, moved and removed under them. */

#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/mm.h>
#include <linux/posix_acl.h>
#include <linux/slab.h>

#include "vexfs.h"

#define NAME_OF(dentry) (dentry)->d_name.name, (dentry)->d_name.len

/* ---- finding ---- */

static struct dentry *vexfs_lookup(struct inode *dir, struct dentry *dentry, unsigned int flags)
{
	struct inode *inode = NULL;
	u64 number;
	int error;

	if (dentry->d_name.len > VEXFS_NAME_BYTES_MAX)
		return ERR_PTR(-ENAMETOOLONG);
	error = vexfs_core_lookup(vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry), &number);
	if (!error) {
		inode = vexfs_iget(dir->i_sb, number);
		/* Removed between the two. */
		if (inode == ERR_PTR(-ESTALE))
			inode = NULL;
	} else if (error != -ENOENT) {
		inode = ERR_PTR(vexfs_check(dir->i_sb, error, "directory", dir->i_ino));
	}
	return d_splice_alias(inode, dentry);
}

/* ---- making ---- */

/* Owner, group and mode of what is made in `dir`, as inode_init_owner() would give them. */
static void init_fields(struct vexfs_new_fields *fields, struct mnt_idmap *idmap, struct inode *dir,
			umode_t mode)
{
	struct user_namespace *owner = dir->i_sb->s_user_ns;

	fields->uid = from_kuid(owner, mapped_fsuid(idmap, owner));
	if (dir->i_mode & S_ISGID) {
		fields->gid = from_kgid(owner, dir->i_gid);
		if (S_ISDIR(mode))
			mode |= S_ISGID;
	} else {
		fields->gid = from_kgid(owner, mapped_fsgid(idmap, owner));
	}
	fields->mode = mode;
}

/*
 * After a change of a directory's entries. The names are as they were asked for whatever goes wrong now, so
 * only what has to be durable and is not is an error.
 */
static int done(struct inode *dir)
{
	vexfs_refresh(dir);
	return IS_DIRSYNC(dir) ? vexfs_commit(dir->i_sb) : 0;
}

/* The inode of a file just made, with what it inherits. */
static struct inode *made(struct inode *dir, u64 number, const struct qstr *name,
			  const struct vexfs_inherited *inherited)
{
	struct inode *inode = vexfs_iget(dir->i_sb, number);
	int error;

	if (IS_ERR(inode))
		return inode;
	error = vexfs_inherited_by(inode, dir, name, inherited);
	if (!error)
		return inode;
	iput(inode);
	return ERR_PTR(error);
}

static int make(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry, umode_t mode,
		dev_t device, const char *target)
{
	struct super_block *sb = dir->i_sb;
	struct vexfs_new_fields fields = { .device = (u64)MAJOR(device) << 32 | MINOR(device) };
	struct vexfs_inherited inherited = {};
	struct inode *inode;
	u64 number;
	int error;

	error = vexfs_refuses(sb);
	if (error)
		return error;
	if (target) {
		init_fields(&fields, idmap, dir, S_IFLNK | 0777);
		error = vexfs_with_room(sb, vexfs_core_create_symlink(
						    vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry),
						    target, strlen(target), &fields, &number));
	} else {
		error = vexfs_inherit(idmap, dir, &dentry->d_name, &mode, &inherited);
		if (error)
			return error;
		init_fields(&fields, idmap, dir, mode);
		error = vexfs_with_room(sb, vexfs_core_create(vexfs_core_of(dir), dir->i_ino,
							      NAME_OF(dentry), &fields,
							      inherited.attributes, &number));
	}
	if (error) {
		vexfs_check(sb, error, "directory", dir->i_ino);
		goto out;
	}
	inode = made(dir, number, &dentry->d_name, &inherited);
	if (IS_ERR(inode)) {
		error = PTR_ERR(inode);
		/* It is there without what it should have inherited: rather not at all. */
		if (S_ISDIR(mode))
			vexfs_core_remove_directory(vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry));
		else
			vexfs_core_unlink(vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry));
		vexfs_refresh(dir);
		goto out;
	}
	d_instantiate(dentry, inode);
	error = done(dir);
out:
	vexfs_inherited_free(&inherited);
	return error;
}

static int vexfs_create(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
			umode_t mode
#if !VEXFS_KERNEL(7, 0)
			, bool exclusive
#endif
)
{
	return make(idmap, dir, dentry, mode, 0, NULL);
}

static int vexfs_mknod(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
		       umode_t mode, dev_t device)
{
	return make(idmap, dir, dentry, mode, device, NULL);
}

static VEXFS_MKDIR_RESULT vexfs_mkdir(struct mnt_idmap *idmap, struct inode *dir,
				      struct dentry *dentry, umode_t mode)
{
	return vexfs_mkdir_result(make(idmap, dir, dentry, mode | S_IFDIR, 0, NULL));
}

static int vexfs_symlink(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
			 const char *target)
{
	return make(idmap, dir, dentry, S_IFLNK | 0777, 0, target);
}

static int vexfs_tmpfile(struct mnt_idmap *idmap, struct inode *dir, struct file *file,
			 umode_t mode)
{
	struct super_block *sb = dir->i_sb;
	struct vexfs_new_fields fields = {};
	struct vexfs_inherited inherited = {};
	struct inode *inode;
	u64 number;
	int error;

	error = vexfs_refuses(sb) ?:
		vexfs_inherit(idmap, dir, &file->f_path.dentry->d_name, &mode, &inherited);
	if (error)
		return finish_open_simple(file, error);
	init_fields(&fields, idmap, dir, mode);
	error = vexfs_with_room(sb, vexfs_core_create_unnamed(vexfs_core_of(dir), &fields,
							      inherited.attributes, &number));
	if (error) {
		vexfs_check(sb, error, "unnamed file in directory", dir->i_ino);
		goto out;
	}
	inode = made(dir, number, &file->f_path.dentry->d_name, &inherited);
	/* The core made it held open; the inode in memory holds it now, or nobody does. */
	vexfs_core_inode_close(vexfs_core_of(dir), number);
	if (IS_ERR(inode)) {
		error = PTR_ERR(inode);
		goto out;
	}
	/* d_tmpfile() takes the last link itself. */
	set_nlink(inode, 1);
	d_tmpfile(file, inode);
out:
	vexfs_inherited_free(&inherited);
	return finish_open_simple(file, error);
}

static int vexfs_link(struct dentry *old, struct inode *dir, struct dentry *dentry)
{
	struct inode *inode = d_inode(old);
	int error;

	error = vexfs_refuses(dir->i_sb);
	if (error)
		return error;
	error = vexfs_with_room(dir->i_sb, vexfs_core_link(vexfs_core_of(dir), inode->i_ino,
							   dir->i_ino, NAME_OF(dentry)));
	if (error)
		return vexfs_check(dir->i_sb, error, "directory", dir->i_ino);
	vexfs_refresh(inode);
	ihold(inode);
	d_instantiate(dentry, inode);
	return done(dir);
}

/* ---- removing and moving ---- */

static int remove(struct inode *dir, struct dentry *dentry,
		  int (*operation)(const struct vexfs_core *core, u64 parent, const u8 *name,
				   size_t name_bytes))
{
	struct inode *inode = d_inode(dentry);
	int error;

	error = vexfs_refuses(dir->i_sb);
	if (error)
		return error;
	error = operation(vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry));
	if (error)
		return vexfs_check(dir->i_sb, error, "directory", dir->i_ino);
	vexfs_refresh(inode);
	return done(dir);
}

static int vexfs_unlink(struct inode *dir, struct dentry *dentry)
{
	return remove(dir, dentry, vexfs_core_unlink);
}

static int vexfs_rmdir(struct inode *dir, struct dentry *dentry)
{
	return remove(dir, dentry, vexfs_core_remove_directory);
}

/*
 * Gives a whiteout what it inherits and was not made with. The names are as they were asked for, whatever
 * becomes of that.
 */
static void complete_whiteout(struct inode *dir, const struct qstr *name, const struct inode *moved,
			      const struct vexfs_inherited *inherited)
{
	struct inode *inode;
	u64 number;

	if (vexfs_core_lookup(vexfs_core_of(dir), dir->i_ino, name->name, name->len, &number) ||
	    number == moved->i_ino)
		return;
	inode = made(dir, number, name, inherited);
	if (!IS_ERR(inode))
		iput(inode);
}

static int vexfs_rename(struct mnt_idmap *idmap, struct inode *dir, struct dentry *dentry,
			struct inode *new_dir, struct dentry *new_dentry, unsigned int flags)
{
	struct inode *inode = d_inode(dentry), *target = d_inode(new_dentry);
	struct vexfs_new_fields whiteout = {};
	struct vexfs_inherited inherited = {};
	umode_t mode = S_IFCHR;
	int error;

	error = vexfs_refuses(dir->i_sb);
	if (error)
		return error;
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	if (flags & RENAME_WHITEOUT) {
		error = vexfs_inherit(idmap, dir, &dentry->d_name, &mode, &inherited);
		if (error)
			return error;
		init_fields(&whiteout, idmap, dir, mode);
	}
	error = vexfs_with_room(dir->i_sb,
				vexfs_core_rename(vexfs_core_of(dir), dir->i_ino, NAME_OF(dentry),
						  new_dir->i_ino, NAME_OF(new_dentry), flags,
						  &whiteout, inherited.attributes));
	if (error) {
		vexfs_check(dir->i_sb, error, "directory", dir->i_ino);
		goto out;
	}
	if (flags & RENAME_WHITEOUT)
		complete_whiteout(dir, &dentry->d_name, inode, &inherited);
	vexfs_refresh(inode);
	if (target)
		vexfs_refresh(target);
	error = done(dir);
	if (new_dir != dir)
		error = done(new_dir) ?: error;
out:
	vexfs_inherited_free(&inherited);
	return error;
}

/* ---- listing ---- */

/*
 * Entries go from the core into a buffer, and from there to who asked: what takes them may fault
 * on user memory, which may be a mapped file of ours, and the core's locks are held meanwhile.
 */
#define LIST_BYTES 16384

struct listed {
	u64 inode;
	u64 next;
	u16 name_bytes;
	u8 type;
	char name[];
};

struct listing {
	char *buffer;
	size_t used;
};

static bool note_entry(void *context, const u8 *name, size_t name_bytes, u64 inode, u8 file_type,
		       u64 next)
{
	struct listing *listing = context;
	struct listed *entry = (void *)listing->buffer + listing->used;
	size_t bytes = ALIGN(offsetof(struct listed, name) + name_bytes, 8);

	if (bytes > LIST_BYTES - listing->used)
		return false;
	entry->inode = inode;
	entry->next = next;
	entry->name_bytes = name_bytes;
	entry->type = file_type;
	memcpy(entry->name, name, name_bytes);
	listing->used += bytes;
	return true;
}

/*
 * A position of the core's has 56 bits: 0 and 1 for the two entries that every directory has, and from
 * FIRST_POSITION on a hash. A 32-bit program may have a signed long for it, and its C library takes what
 * does not fit for an error; so it is told the hash's upper bits. Entries that have those in common have
 * one position: who comes back to it is given all of them. Who just reads on is not, as the open file
 * has the whole position in `private_data`.
 */
#define FIRST_POSITION 256
#define NARROW_SHIFT 25
#define NARROW_FIRST 2
#define NARROW_END S32_MAX

static bool has_narrow_positions(const struct file *file)
{
	if (file->f_mode & FMODE_32BITHASH)
		return true;
	return IS_ENABLED(CONFIG_COMPAT) && !(file->f_mode & FMODE_64BITHASH) &&
	       in_compat_syscall();
}

static loff_t narrow(u64 position)
{
	if (position < FIRST_POSITION)
		return position;
	return clamp_t(u64, position >> NARROW_SHIFT, NARROW_FIRST, NARROW_END - 1);
}

static u64 widen(loff_t position)
{
	if (position < NARROW_FIRST)
		return position;
	return position == NARROW_FIRST ? FIRST_POSITION : (u64)position << NARROW_SHIFT;
}

/* Where an entry is, by what it says comes next. */
static u64 position_of(const struct listed *entry)
{
	if (entry->next > FIRST_POSITION)
		return entry->next - 1;
	return entry->next == FIRST_POSITION ? 1 : 0;
}

static u64 start_position(const struct file *file, loff_t told, bool narrowed)
{
	u64 whole = (unsigned long)file->private_data;

	if (!narrowed)
		return told;
	return whole && narrow(whole) == told ? whole : widen(told);
}

static int vexfs_iterate(struct file *file, struct dir_context *ctx)
{
	struct inode *dir = file_inode(file);
	bool narrowed = has_narrow_positions(file);
	u64 position = start_position(file, ctx->pos, narrowed);
	struct listing listing;
	int error = 0;

	if (narrowed && ctx->pos >= NARROW_END)
		return 0;
	listing.buffer = kmalloc(LIST_BYTES, GFP_KERNEL);
	if (!listing.buffer)
		return -ENOMEM;
	for (;;) {
		size_t at = 0;

		listing.used = 0;
		error = vexfs_core_read_directory(vexfs_core_of(dir), dir->i_ino, position,
						  note_entry, &listing);
		if (!listing.used) {
			if (narrowed && !error)
				ctx->pos = NARROW_END;
			break;
		}
		/* What lies before damage is told first. */
		error = 0;
		while (at < listing.used) {
			struct listed *entry = (void *)listing.buffer + at;

			/* The entry before is told to be followed by this position. */
			if (narrowed) {
				position = position_of(entry);
				ctx->pos = narrow(position);
			}
			if (!dir_emit(ctx, entry->name, entry->name_bytes, entry->inode, entry->type))
				goto out;
			position = entry->next;
			if (!narrowed)
				ctx->pos = position;
			at += ALIGN(offsetof(struct listed, name) + entry->name_bytes, 8);
		}
		if (fatal_signal_pending(current)) {
			error = -EINTR;
			break;
		}
		cond_resched();
	}
out:
	if (narrowed)
		file->private_data = (void *)(unsigned long)position;
	kfree(listing.buffer);
	return vexfs_check(dir->i_sb, error, "directory", dir->i_ino);
}

/* Positions are what the entries said, in no relation to the size. */
static loff_t vexfs_dir_llseek(struct file *file, loff_t offset, int whence)
{
	loff_t before = file->f_pos;
	loff_t after = generic_file_llseek_size(file, offset, whence, LLONG_MAX, LLONG_MAX);

	if (after != before)
		file->private_data = NULL;
	return after;
}

const struct inode_operations vexfs_dir_inode_operations = {
	.lookup = vexfs_lookup,
	.create = vexfs_create,
	.link = vexfs_link,
	.unlink = vexfs_unlink,
	.symlink = vexfs_symlink,
	.mkdir = vexfs_mkdir,
	.rmdir = vexfs_rmdir,
	.mknod = vexfs_mknod,
	.rename = vexfs_rename,
	.tmpfile = vexfs_tmpfile,
	.setattr = vexfs_setattr,
	.getattr = vexfs_getattr,
	.listxattr = vexfs_listxattr,
	VEXFS_GET_INODE_ACL = vexfs_get_acl,
	.set_acl = vexfs_set_acl,
	.fileattr_get = vexfs_fileattr_get,
	.fileattr_set = vexfs_fileattr_set,
};

const struct file_operations vexfs_dir_operations = {
	.llseek = vexfs_dir_llseek,
	.read = generic_read_dir,
	.iterate_shared = vexfs_iterate,
	.fsync = vexfs_fsync,
	.unlocked_ioctl = vexfs_ioctl,
	.compat_ioctl = vexfs_compat_ioctl,
	.uring_cmd = vexfs_uring_cmd,
	.setlease = generic_setlease,
};
