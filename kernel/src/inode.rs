// SPDX-License-Identifier: GPL-2.0-only
//! Inodes: what they say of themselves, changing it, and holding them open.

use crate::boundary::{bytes_mut, copy_out, count, deliver, status};
use core::ffi::c_void;
use vexfs_core::{FileSystem, Inode, SetAttributes, Timestamp};

/// A point in time with a layout that C can declare.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
    /// Zero.
    pub reserved: u32,
}

impl From<Timestamp> for Time {
    fn from(time: Timestamp) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds, reserved: 0 }
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}

/// An [`Inode`] with a layout that C can declare.
#[repr(C)]
pub struct InodeFields {
    /// Bytes of a file or of a link's target; entries of a directory.
    pub size: u64,
    /// File-system blocks of its extents.
    pub blocks: u64,
    /// Generation of the transaction that made it.
    pub generation: u64,
    /// Moves with every change of the file's bytes.
    pub content_version: u64,
    /// Moves with every change of the inode.
    pub change: u64,
    /// Device number of a device node: major << 32 | minor.
    pub device: u64,
    /// `FS_IOC_GETFLAGS` bits in the lower half, those of the format in the upper.
    pub flags: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of the bytes.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// When it was made.
    pub born: Time,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub links: u32,
}

impl From<Inode> for InodeFields {
    fn from(inode: Inode) -> Self {
        Self {
            size: inode.size,
            blocks: inode.blocks,
            generation: inode.generation,
            content_version: inode.content_version,
            change: inode.change,
            device: inode.device,
            flags: inode.flags,
            accessed: inode.accessed.into(),
            modified: inode.modified.into(),
            changed: inode.changed.into(),
            born: inode.born.into(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            links: inode.links,
        }
    }
}

/// Reads inode `number`; `-ESTALE` when there is none.
///
/// # Safety
/// `fields` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_inode(
    file_system: &FileSystem,
    number: u64,
    fields: *mut InodeFields,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.inode(number).map(InodeFields::from), fields) }
}

/// Reads inode `number` and holds it open until `vexfs_core_inode_close`.
///
/// # Safety
/// `fields` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_inode_open(
    file_system: &FileSystem,
    number: u64,
    fields: *mut InodeFields,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.open_inode(number).map(InodeFields::from), fields) }
}

/// Lets go of an inode. With the last hold of an inode without names the inode goes.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_inode_close(file_system: &FileSystem, number: u64) -> i32 {
    status(file_system.close_inode(number))
}

/// Bits of [`Change::fields`], for what to change.
pub const CHANGE_MODE: u32 = 1;
/// Owner.
pub const CHANGE_UID: u32 = 2;
/// Group.
pub const CHANGE_GID: u32 = 4;
/// Last access.
pub const CHANGE_ACCESSED: u32 = 8;
/// Last change of the bytes.
pub const CHANGE_MODIFIED: u32 = 16;
/// When it was made.
pub const CHANGE_BORN: u32 = 32;
/// Flags.
pub const CHANGE_FLAGS: u32 = 64;
/// The last change of the inode counts.
pub const CHANGE_CHANGED: u32 = 128;
/// It counts if it is later than the present one.
pub const CHANGE_LATER: u32 = 256;

/// [`SetAttributes`] with a layout that C can declare.
#[repr(C)]
pub struct Change {
    /// Last access.
    pub accessed: Time,
    /// Last change of the bytes.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// When it was made.
    pub born: Time,
    /// Which of the others count, of the `CHANGE_` bits.
    pub fields: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `FS_IOC_SETFLAGS`.
    pub flags: u32,
    /// Zero.
    pub reserved: u32,
    /// Changes of the inode at least, in all its life.
    pub change: u64,
}

impl Change {
    fn attributes(&self) -> SetAttributes {
        let given = |bit: u32| self.fields & bit != 0;
        SetAttributes {
            mode: given(CHANGE_MODE).then_some(self.mode),
            uid: given(CHANGE_UID).then_some(self.uid),
            gid: given(CHANGE_GID).then_some(self.gid),
            accessed: given(CHANGE_ACCESSED).then_some(self.accessed.into()),
            modified: given(CHANGE_MODIFIED).then_some(self.modified.into()),
            changed: given(CHANGE_CHANGED).then_some(self.changed.into()),
            born: given(CHANGE_BORN).then_some(self.born.into()),
            flags: given(CHANGE_FLAGS).then_some(self.flags),
            changed_later: given(CHANGE_LATER),
            change: self.change,
        }
    }
}

/// Changes an inode. Rights are for the caller to check.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_inode_change(
    file_system: &FileSystem,
    number: u64,
    change: &Change,
) -> i32 {
    status(file_system.set_attributes(number, &change.attributes()).map(drop))
}

/// Copies the target of a symbolic link to `buffer`. Returns its length, `-ERANGE` if it does not
/// fit, or another negative errno.
///
/// # Safety
/// `buffer` has `buffer_bytes` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_inode_target(
    file_system: &FileSystem,
    number: u64,
    buffer: *mut u8,
    buffer_bytes: usize,
) -> i64 {
    // SAFETY: the caller's word.
    let buffer = unsafe { bytes_mut(buffer, buffer_bytes) };
    count(file_system.read_link(number).and_then(|target| copy_out(&target, buffer)))
}

/// Takes names from the core; a false answer ends the listing.
pub type EachName =
    extern "C" fn(context: *mut c_void, parent: u64, name: *const u8, name_bytes: usize) -> bool;

/// Calls `each` with every (directory, name) of an inode, for `exportfs`. It must not call the file
/// system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_inode_parents(
    file_system: &FileSystem,
    number: u64,
    each: EachName,
    context: *mut c_void,
) -> i32 {
    status(
        file_system
            .parents(number, &mut |parent, name| each(context, parent, name.as_ptr(), name.len())),
    )
}

/// Takes apart the inodes without names that nobody holds; to be called once after mounting for
/// writing. Writes how many there were.
///
/// # Safety
/// `number` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_reap_orphans(
    file_system: &FileSystem,
    number: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.reap_orphans(), number) }
}
