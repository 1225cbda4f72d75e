// SPDX-License-Identifier: GPL-2.0-only
/* ioctl and io_uring: what every file system has, and which command of uapi/vexfs.h is asked for. */

#include <linux/blkdev.h>
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/mount.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
#include <linux/io_uring/cmd.h>
#else
#include <linux/io_uring.h>
#endif

#include "commands.h"

/* As other file systems have it, in no header of the kernel yet. */
#define IOC_SHUTDOWN _IOR('X', 125, __u32)
#define SHUTDOWN_FREEZE 0
#define SHUTDOWN_COMMIT 1
#define SHUTDOWN_AT_ONCE 2

/* As mnt_want_write_file(), where nothing may be written by the file system's own word too. */
int vexfs_want_write(struct file *file)
{
	int error = mnt_want_write_file(file);

	if (error)
		return error;
	error = vexfs_refuses(file_inode(file)->i_sb);
	if (error)
		mnt_drop_write_file(file);
	return error;
}

static int shut_down(struct super_block *sb, u32 __user *argument)
{
	struct vexfs_super *super = VEXFS_SB(sb);
	u32 how;
	int error = 0;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (get_user(how, argument))
		return -EFAULT;
	if (how > SHUTDOWN_AT_ONCE)
		return -EINVAL;
	if (super->stopped)
		return 0;
	switch (how) {
	case SHUTDOWN_FREEZE:
		down_read(&sb->s_umount);
		sync_filesystem(sb);
		up_read(&sb->s_umount);
		break;
	case SHUTDOWN_COMMIT:
		error = vexfs_commit(sb);
		break;
	default:
		break;
	}
	super->stopped = true;
	vexfs_core_stop(super->core);
	vexfs_notice(sb, "shut down");
	return error;
}

static int set_label(struct file *file, const char __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	char label[FSLABEL_MAX];
	long bytes;
	int error;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	bytes = strncpy_from_user(label, argument, sizeof(label));
	if (bytes < 0)
		return bytes;
	if (bytes == sizeof(label))
		return -EINVAL;
	error = vexfs_want_write(file);
	if (error)
		return error;
	error = vexfs_core_set_label(VEXFS_SB(sb)->core, label, bytes) ?: vexfs_commit(sb);
	mnt_drop_write_file(file);
	return error;
}

static int get_label(struct super_block *sb, char __user *argument)
{
	struct vexfs_status status;
	char label[FSLABEL_MAX] = {};
	int error = vexfs_core_status(VEXFS_SB(sb)->core, &status);

	if (error)
		return error;
	memcpy(label, status.label, sizeof(status.label));
	return copy_to_user(argument, label, sizeof(label)) ? -EFAULT : 0;
}

#if !VEXFS_KERNEL(6, 9)
/* As later kernels answer for every file system. */
struct fsuuid2 {
	__u8 len;
	__u8 uuid[16];
};
#define FS_IOC_GETFSUUID _IOR(0x15, 0, struct fsuuid2)

static int get_uuid(struct super_block *sb, struct fsuuid2 __user *argument)
{
	struct fsuuid2 told = { .len = sizeof(told.uuid) };

	memcpy(told.uuid, &sb->s_uuid, sizeof(told.uuid));
	return copy_to_user(argument, &told, sizeof(told)) ? -EFAULT : 0;
}
#endif

/* ---- free space, for the device to know ---- */

/* Stops at a signal and tells what was trimmed until then, as ext4 does. */
static int trim(struct file *file, struct fstrim_range __user *argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	unsigned int log2 = sb->s_blocksize_bits;
	struct fstrim_range range;
	u64 least, trimmed = 0;
	int error;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (!bdev_max_discard_sectors(sb->s_bdev))
		return -EOPNOTSUPP;
	if (copy_from_user(&range, argument, sizeof(range)))
		return -EFAULT;
	if (range.start >= bdev_nr_bytes(sb->s_bdev) || range.len < sb->s_blocksize ||
	    range.minlen > (u64)VEXFS_GROUP_BLOCKS << log2)
		return -EINVAL;
	/* What is shorter than a unit of the device is in vain. */
	least = max_t(u64, range.minlen, bdev_discard_granularity(sb->s_bdev));
	error = vexfs_want_write(file);
	if (error)
		return error;
	error = vexfs_core_trim(VEXFS_SB(sb)->core, range.start >> log2, range.len >> log2,
				least >> log2, &trimmed);
	mnt_drop_write_file(file);
	if (error)
		return error;
	range.len = trimmed << log2;
	return copy_to_user(argument, &range, sizeof(range)) ? -EFAULT : 0;
}

/* ---- the commands of uapi/vexfs.h ---- */

int vexfs_take(void *place, size_t known, const void __user *argument)
{
	u32 given;

	if (get_user(given, (const u32 __user *)argument))
		return -EFAULT;
	if (given < known)
		return -EINVAL;
	if (given > PAGE_SIZE)
		return -E2BIG;
	return copy_struct_from_user(place, known, argument, given);
}

int vexfs_give(void __user *argument, const void *place, size_t known)
{
	return copy_to_user(argument, place, known) ? -EFAULT : 0;
}

static int (*const commands[])(struct file *file, void __user *argument) = {
	[_IOC_NR(VEXFS_IOC_INFO)] = vexfs_command_info,
	[_IOC_NR(VEXFS_IOC_COLLECTION_CREATE)] = vexfs_command_collection_create,
	[_IOC_NR(VEXFS_IOC_COLLECTION_LIST)] = vexfs_command_collection_list,
	[_IOC_NR(VEXFS_IOC_COLLECTION_SHOW)] = vexfs_command_collection_show,
	[_IOC_NR(VEXFS_IOC_COLLECTION_MAINTAIN)] = vexfs_command_collection_maintain,
	[_IOC_NR(VEXFS_IOC_COLLECTION_DROP)] = vexfs_command_collection_drop,
	[_IOC_NR(VEXFS_IOC_PUT)] = vexfs_command_put,
	[_IOC_NR(VEXFS_IOC_GET)] = vexfs_command_get,
	[_IOC_NR(VEXFS_IOC_REMOVE)] = vexfs_command_remove,
	[_IOC_NR(VEXFS_IOC_LIST)] = vexfs_command_list,
	[_IOC_NR(VEXFS_IOC_ROWS)] = vexfs_command_rows,
	[_IOC_NR(VEXFS_IOC_SEARCH)] = vexfs_command_search,
	[_IOC_NR(VEXFS_IOC_PATHS)] = vexfs_command_paths,
};

/*
 * Whatever size the command's number has: a caller with a newer header has a larger one. One that is
 * interrupted has written nothing to its caller's structure, so it can be begun again (-ERESTARTSYS):
 * not every interruption is a signal that the caller asked for.
 */
static long run_command(struct file *file, unsigned int command, void __user *argument)
{
	unsigned int number = _IOC_NR(command);

	if (_IOC_TYPE(command) != VEXFS_IOC_TYPE || _IOC_DIR(command) != (_IOC_READ | _IOC_WRITE) ||
	    number >= ARRAY_SIZE(commands))
		return -ENOTTY;
	if (unlikely(VEXFS_SB(file_inode(file)->i_sb)->stopped))
		return -EIO;
	return commands[array_index_nospec(number, ARRAY_SIZE(commands))](file, argument);
}

/* ---- which is asked ---- */

long vexfs_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct super_block *sb = file_inode(file)->i_sb;
	void __user *pointer = (void __user *)argument;

	if (unlikely(VEXFS_SB(sb)->stopped) && command != IOC_SHUTDOWN)
		return -EIO;
	switch (command) {
	case IOC_SHUTDOWN:
		return shut_down(sb, pointer);
	case FS_IOC_GETFSLABEL:
		return get_label(sb, pointer);
	case FS_IOC_SETFSLABEL:
		return set_label(file, pointer);
	case FS_IOC_GETVERSION:
		return put_user(file_inode(file)->i_generation, (u32 __user *)pointer);
#if !VEXFS_KERNEL(6, 9)
	case FS_IOC_GETFSUUID:
		return get_uuid(sb, pointer);
#endif
	case FITRIM:
		return trim(file, pointer);
	default:
		return run_command(file, command, pointer);
	}
}

/* Every structure is the same for 32-bit callers. */
long vexfs_compat_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	if (command == FS_IOC32_GETVERSION)
		command = FS_IOC_GETVERSION;
	return vexfs_ioctl(file, command, (unsigned long)compat_ptr(argument));
}

static u64 uring_pointer(struct io_uring_cmd *command)
{
#if VEXFS_KERNEL(7, 0)
	return READ_ONCE(*io_uring_sqe_cmd(command->sqe, u64));
#elif VEXFS_KERNEL(6, 6)
	return READ_ONCE(*(const u64 *)io_uring_sqe_cmd(command->sqe));
#else
	return READ_ONCE(*(const u64 *)command->cmd);
#endif
}

/* The same by io_uring: a pointer to the structure in the command's first bytes. */
int vexfs_uring_cmd(struct io_uring_cmd *command, unsigned int issue_flags)
{
	u64 pointer = uring_pointer(command);
	long result;

	/* All of them may sleep: a worker runs them, on behalf of who asked. */
	if (issue_flags & IO_URING_F_NONBLOCK)
		return -EAGAIN;
	result = run_command(command->file, command->cmd_op, u64_to_user_ptr(pointer));
	/* A worker is interrupted to give up. */
	return result == -ERESTARTSYS ? -EINTR : result;
}
