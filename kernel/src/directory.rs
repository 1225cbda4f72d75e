// SPDX-License-Identifier: GPL-2.0-only
//! Directories: names, and making and removing them.

use crate::boundary::{bytes, deliver, status};
use core::ffi::c_void;
use vexfs_core::{Error, FileSystem, NewAttribute, NewInode, RenameMode};

/// Finds the inode that a name of directory `parent` names.
///
/// # Safety
/// `name` points to `name_bytes` bytes; `number` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_lookup(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
    number: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.lookup(parent, bytes(name, name_bytes)), number) }
}

/// [`NewInode`] with a layout that C can declare.
#[repr(C)]
pub struct NewFields {
    /// Number of a device node: major << 32 | minor; 0 for anything else.
    pub device: u64,
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Zero.
    pub reserved: u32,
}

impl NewFields {
    fn inode(&self) -> NewInode {
        NewInode { mode: self.mode, owner: (self.uid, self.gid), device: self.device }
    }
}

/// [`NewAttribute`] with a layout that C can declare.
#[repr(C)]
pub struct NewAttributeFields {
    /// The whole name.
    pub name: *const u8,
    /// Its length.
    pub name_bytes: usize,
    /// The value; a null pointer takes the attribute out of the list.
    pub value: *const u8,
    /// Its length.
    pub value_bytes: usize,
}

/// A new inode has at most both access control lists and some labels from the start.
const ATTRIBUTES_MAX: usize = 6;

/// Those of the attributes that have a value.
///
/// # Safety
/// The pointers of each point to as many bytes as it says, or are null, during `'a`.
unsafe fn new_attributes<'a>(
    fields: &'a [NewAttributeFields; ATTRIBUTES_MAX],
    room: &'a mut [NewAttribute<'a>; ATTRIBUTES_MAX],
) -> &'a [NewAttribute<'a>] {
    let mut count = 0;
    let given = fields.iter().filter(|field| !field.value.is_null());
    for (field, place) in given.zip(room.iter_mut()) {
        // SAFETY: the caller's word.
        let (name, value) =
            unsafe { (bytes(field.name, field.name_bytes), bytes(field.value, field.value_bytes)) };
        *place = NewAttribute { name, value };
        count += 1;
    }
    room.get(..count).unwrap_or_default()
}

/// Makes a file, directory, device node, fifo or socket with these attributes and writes its inode
/// number.
///
/// # Safety
/// `name` points to `name_bytes` bytes, and likewise names and values of the attributes; `number` may
/// be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_create(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
    new: &NewFields,
    attributes: &[NewAttributeFields; ATTRIBUTES_MAX],
    number: *mut u64,
) -> i32 {
    let mut room = [NewAttribute { name: &[], value: &[] }; ATTRIBUTES_MAX];
    // SAFETY: the caller's word.
    unsafe {
        let attributes = new_attributes(attributes, &mut room);
        let name = bytes(name, name_bytes);
        let made = if attributes.is_empty() {
            file_system.create(parent, name, &new.inode())
        } else {
            file_system.create_with_attributes(parent, name, &new.inode(), attributes)
        };
        deliver(made, number)
    }
}

/// Makes a regular file without a name, held open, with these attributes and writes its inode number.
///
/// # Safety
/// Names and values of the attributes point to as many bytes as is said of them; `number` may be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_create_unnamed(
    file_system: &FileSystem,
    new: &NewFields,
    attributes: &[NewAttributeFields; ATTRIBUTES_MAX],
    number: *mut u64,
) -> i32 {
    let mut room = [NewAttribute { name: &[], value: &[] }; ATTRIBUTES_MAX];
    // SAFETY: the caller's word.
    unsafe {
        let attributes = new_attributes(attributes, &mut room);
        deliver(file_system.create_unnamed(&new.inode(), attributes), number)
    }
}

/// The longest value of an attribute that a new inode can have from the start.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_attribute_inline_bytes_max(file_system: &FileSystem) -> usize {
    file_system.attribute_inline_bytes_max()
}

/// Makes a symbolic link and writes its inode number.
///
/// # Safety
/// `name` and `target` point to as many bytes as is said of them; `number` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_create_symlink(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
    target: *const u8,
    target_bytes: usize,
    owner: &NewFields,
    number: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    let (name, target) = unsafe { (bytes(name, name_bytes), bytes(target, target_bytes)) };
    let made = file_system.create_symlink(parent, name, target, (owner.uid, owner.gid));
    // SAFETY: the caller's word.
    unsafe { deliver(made, number) }
}

/// Gives an inode that is no directory one more name.
///
/// # Safety
/// `name` points to `name_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_link(
    file_system: &FileSystem,
    number: u64,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.link(number, parent, unsafe { bytes(name, name_bytes) }))
}

/// Removes a name of anything but a directory.
///
/// # Safety
/// `name` points to `name_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_unlink(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.unlink(parent, unsafe { bytes(name, name_bytes) }))
}

/// Removes an empty directory.
///
/// # Safety
/// `name` points to `name_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_remove_directory(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.remove_directory(parent, unsafe { bytes(name, name_bytes) }))
}

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const RENAME_WHITEOUT: u32 = 4;

/// Renames as renameat2(2) does with these flags; `whiteout` is what `RENAME_WHITEOUT` leaves, with these
/// attributes.
///
/// # Safety
/// `name` and `new_name` point to as many bytes as is said of them, and likewise names and values of the
/// attributes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_rename(
    file_system: &FileSystem,
    parent: u64,
    name: *const u8,
    name_bytes: usize,
    new_parent: u64,
    new_name: *const u8,
    new_name_bytes: usize,
    flags: u32,
    whiteout: &NewFields,
    attributes: &[NewAttributeFields; ATTRIBUTES_MAX],
) -> i32 {
    let mode = match flags & !RENAME_WHITEOUT {
        0 => RenameMode::Replace,
        RENAME_NOREPLACE => RenameMode::NoReplace,
        RENAME_EXCHANGE => RenameMode::Exchange,
        _ => return status(Err(Error::Invalid("flags of a rename"))),
    };
    // SAFETY: the caller's word.
    let (name, new_name) = unsafe { (bytes(name, name_bytes), bytes(new_name, new_name_bytes)) };
    status(if flags & RENAME_WHITEOUT == 0 {
        file_system.rename(parent, name, new_parent, new_name, mode)
    } else {
        let mut room = [NewAttribute { name: &[], value: &[] }; ATTRIBUTES_MAX];
        // SAFETY: the caller's word.
        let attributes = unsafe { new_attributes(attributes, &mut room) };
        let left = (&whiteout.inode(), attributes);
        file_system.rename_leaving(parent, name, new_parent, new_name, mode, left)
    })
}

/// Takes an entry from the core; a false answer ends the listing. `next` is the position from which
/// to go on after it, `file_type` a `DT_` number.
pub type EachEntry = extern "C" fn(
    context: *mut c_void,
    name: *const u8,
    name_bytes: usize,
    inode: u64,
    file_type: u8,
    next: u64,
) -> bool;

/// Lists a directory from `position` on, `.` and `..` first. `each` must not call the file system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_read_directory(
    file_system: &FileSystem,
    number: u64,
    position: u64,
    each: EachEntry,
    context: *mut c_void,
) -> i32 {
    status(file_system.read_directory(number, position, &mut |entry| {
        let (name, bytes) = (entry.name.as_ptr(), entry.name.len());
        each(context, name, bytes, entry.inode, entry.file_type, entry.next)
    }))
}
