// SPDX-License-Identifier: GPL-2.0-only
//! The bytes of files: read and written whole, for files within the tree and internal use; and the
//! space behind them.

use crate::boundary::{bytes, bytes_mut, count, deliver, status};
use core::ffi::c_void;
use vexfs_core::{ExtentInfo, FileSystem, MappedState};

/// Reads up to `buffer_bytes` bytes from `offset` on. Returns how many, or a negative errno.
///
/// # Safety
/// `buffer` has `buffer_bytes` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_read(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    buffer: *mut u8,
    buffer_bytes: usize,
) -> i64 {
    // SAFETY: the caller's word.
    count(file_system.read(number, offset, unsafe { bytes_mut(buffer, buffer_bytes) }))
}

/// Writes `data_bytes` bytes at `offset`.
///
/// # Safety
/// `data` points to `data_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_write(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    data: *const u8,
    data_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.write(number, offset, unsafe { bytes(data, data_bytes) }))
}

/// Sets the size.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_truncate(file_system: &FileSystem, number: u64, size: u64) -> i32 {
    status(file_system.truncate(number, size))
}

/// Allocates space that later writes use; the file grows to its end unless `keep_size`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_preallocate(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    length: u64,
    keep_size: bool,
) -> i32 {
    status(file_system.preallocate(number, offset, length, keep_size))
}

/// Makes a hole.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_punch(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    length: u64,
) -> i32 {
    status(file_system.punch(number, offset, length))
}

/// Takes whole blocks out of a file, so that what lies behind moves there.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collapse(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    length: u64,
) -> i32 {
    status(file_system.collapse_range(number, offset, length))
}

/// Puts a hole of whole blocks into a file, so that what lies behind moves on.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_insert(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    length: u64,
) -> i32 {
    status(file_system.insert_range(number, offset, length))
}

/// Makes a range read as zeros, with space behind it; the file grows to its end unless `keep_size`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_zero_range(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    length: u64,
    keep_size: bool,
) -> i32 {
    status(file_system.zero_range(number, offset, length, keep_size))
}

/// Finds the first data at or after `offset`, as `SEEK_DATA`; `-ENXIO` when there is none.
///
/// # Safety
/// `found` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_seek_data(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    found: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.seek_data(number, offset), found) }
}

/// Finds the first hole at or after `offset`, as `SEEK_HOLE`; `-ENXIO` behind the end.
///
/// # Safety
/// `found` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_seek_hole(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    found: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.seek_hole(number, offset), found) }
}

/// Shares `length` bytes of one file with another, as `FICLONERANGE`; a length of 0 goes to the end.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_clone_range(
    file_system: &FileSystem,
    from: u64,
    from_offset: u64,
    to: u64,
    to_offset: u64,
    length: u64,
) -> i32 {
    status(file_system.clone_range(from, from_offset, to, to_offset, length))
}

/// Lets `length` bytes of one file that are the same in another share its blocks.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_dedupe_range(
    file_system: &FileSystem,
    from: u64,
    from_offset: u64,
    to: u64,
    to_offset: u64,
    length: u64,
) -> i32 {
    status(file_system.dedupe_range(from, from_offset, to, to_offset, length))
}

/// Makes the content of one file that of another, all at once.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_replace_content(file_system: &FileSystem, from: u64, to: u64) -> i32 {
    status(file_system.replace_content(from, to))
}

/// The numbers of [`MappedState`] at the boundary.
pub fn state_number(state: MappedState) -> u32 {
    match state {
        MappedState::Hole => 0,
        MappedState::Unwritten => 1,
        MappedState::Written => 2,
        MappedState::Inline => 3,
    }
}

/// [`ExtentInfo`] with a layout that C can declare.
#[repr(C)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// First byte on the device; 0 for an inline file.
    pub device_offset: u64,
    /// As [`state_number`] says.
    pub state: u32,
    /// 1 if other extents name blocks of it, else 0.
    pub shared: u32,
    /// 1 if nothing follows, else 0.
    pub last: u32,
    /// Zero.
    pub reserved: u32,
}

impl From<&ExtentInfo> for Extent {
    fn from(info: &ExtentInfo) -> Self {
        Self {
            offset: info.offset,
            length: info.length,
            device_offset: info.device_offset,
            state: state_number(info.state),
            shared: u32::from(info.shared),
            last: u32::from(info.last),
            reserved: 0,
        }
    }
}

/// Takes an extent from the core; a false answer ends the listing.
pub type EachExtent = extern "C" fn(context: *mut c_void, extent: &Extent) -> bool;

/// Calls `each` with the extents from byte `offset` on, for `FIEMAP`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_extents(
    file_system: &FileSystem,
    number: u64,
    offset: u64,
    each: EachExtent,
    context: *mut c_void,
) -> i32 {
    status(file_system.extents(number, offset, &mut |info| each(context, &Extent::from(info))))
}
