// SPDX-License-Identifier: GPL-2.0-only
//! Extended attributes, under whole names such as `user.colour`.

use crate::boundary::{bytes, bytes_mut, copy_out, count, status};
use crate::inode::EachName;
use core::ffi::c_void;
use vexfs_core::{Error, FileSystem, XattrMode};

/// Copies the value of an attribute to `buffer`. Returns its length, which is all that is asked for
/// when `buffer_bytes` is 0; `-ERANGE` if it does not fit; or another negative errno.
///
/// # Safety
/// `name` points to `name_bytes` bytes, `buffer` has `buffer_bytes` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_get_xattr(
    file_system: &FileSystem,
    number: u64,
    name: *const u8,
    name_bytes: usize,
    buffer: *mut u8,
    buffer_bytes: usize,
) -> i64 {
    // SAFETY: the caller's word.
    let (name, buffer) = unsafe { (bytes(name, name_bytes), bytes_mut(buffer, buffer_bytes)) };
    count(file_system.get_xattr(number, name).and_then(|value| {
        if buffer.is_empty() { Ok(value.len()) } else { copy_out(&value, buffer) }
    }))
}

const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

/// Sets an attribute; `flags` are those of setxattr(2).
///
/// # Safety
/// `name` and `value` point to as many bytes as is said of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_set_xattr(
    file_system: &FileSystem,
    number: u64,
    name: *const u8,
    name_bytes: usize,
    value: *const u8,
    value_bytes: usize,
    flags: u32,
) -> i32 {
    let mode = match flags {
        0 => XattrMode::Set,
        XATTR_CREATE => XattrMode::Create,
        XATTR_REPLACE => XattrMode::Replace,
        _ => return status(Err(Error::Invalid("flags of an attribute"))),
    };
    // SAFETY: the caller's word.
    let (name, value) = unsafe { (bytes(name, name_bytes), bytes(value, value_bytes)) };
    status(file_system.set_xattr(number, name, value, mode))
}

/// Removes an attribute.
///
/// # Safety
/// `name` points to `name_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_remove_xattr(
    file_system: &FileSystem,
    number: u64,
    name: *const u8,
    name_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.remove_xattr(number, unsafe { bytes(name, name_bytes) }))
}

/// Calls `each` with the name of every attribute. It must not call the file system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_list_xattrs(
    file_system: &FileSystem,
    number: u64,
    each: EachName,
    context: *mut c_void,
) -> i32 {
    status(
        file_system
            .list_xattrs(number, &mut |name| each(context, number, name.as_ptr(), name.len())),
    )
}
