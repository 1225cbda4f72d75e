// SPDX-License-Identifier: GPL-2.0-only
//! A mounted file system: opening and closing it, its numbers, its label, making changes durable.
//!
//! The handle is a [`FileSystem`]; every entry point but `vexfs_core_unmount` may be called with it from
//! many threads at once.

use crate::boundary::{bytes, deliver, failure, hand_over, status};
use crate::executor::InterruptibleExecutor;
use crate::host::host;
use alloc::boxed::Box;
use core::ffi::c_void;
use vexfs_core::{Error, FileSystem, FileSystemStatus, OpenOptions};

/// Opens the file system on `device`, an object of the C half that must outlive the handle, and
/// writes the handle to `file_system`. `cache_bytes` bounds the clean tree nodes kept in memory.
///
/// # Safety
/// `device` is what the `vexfs_host_device_*` functions take; `file_system` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_mount(
    device: *mut c_void,
    read_only: bool,
    discard: bool,
    cache_bytes: usize,
    file_system: *mut *mut FileSystem,
) -> i32 {
    let options = OpenOptions { read_only, discard, cache_bytes };
    let opened =
        host(device).map_err(Error::from).and_then(|host| FileSystem::open(host, &options));
    // SAFETY: the caller's word.
    unsafe { hand_over(opened, file_system) }
}

/// Closes the file system. What was not committed is lost.
///
/// # Safety
/// `file_system` came from `vexfs_core_mount` and is used by nobody, now or later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_unmount(file_system: *mut FileSystem) {
    // SAFETY: the caller's word; the handle was made of a box.
    let file_system = unsafe { Box::from_raw(file_system) };
    // What was committed is safe without; it only brings the superblock's mirror up to date.
    let _ = file_system.settle();
}

/// Whether nothing may be written, by choice or after a failure.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_is_read_only(file_system: &FileSystem) -> bool {
    file_system.is_read_only()
}

/// Forbids or allows writing, when the file system is mounted again with other options. Everything is
/// committed, and no operation under way.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_set_read_only(file_system: &FileSystem, read_only: bool) -> i32 {
    status(file_system.set_read_only(read_only))
}

/// Writes nothing any more, and fails every operation from now on.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_stop(file_system: &FileSystem) {
    file_system.stop();
}

/// The failure of the device since which nothing is written any more, for the log: its negative errno,
/// and in `offset` the byte where the request began that failed. 0, and nothing is stored, when there
/// was none.
///
/// # Safety
/// `offset` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_device_failure(
    file_system: &FileSystem,
    offset: *mut u64,
) -> i32 {
    match file_system.device_failure() {
        Some(failed) => {
            // SAFETY: the caller's word.
            unsafe { offset.write(failed.offset) };
            failure(&Error::Device(failed))
        }
        None => 0,
    }
}

/// What `statfs` and the module's files below `/sys` tell.
///
/// # Safety
/// `place` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_status(file_system: &FileSystem, place: *mut Status) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(Ok(Status::from(&file_system.status())), place) }
}

/// Sets the label, at most 64 bytes of UTF-8.
///
/// # Safety
/// `label` points to `label_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_set_label(
    file_system: &FileSystem,
    label: *const u8,
    label_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    let label = unsafe { bytes(label, label_bytes) };
    status(match core::str::from_utf8(label) {
        Ok(label) => file_system.set_label(label),
        Err(_) => Err(Error::Invalid("label is not UTF-8")),
    })
}

/// Tells the device of the free blocks among `blocks` blocks from `first` on, in runs of `least` or more,
/// until the calling thread has a signal to see to. Writes how many it was told of.
///
/// # Safety
/// `trimmed` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_trim(
    file_system: &FileSystem,
    first: u64,
    blocks: u64,
    least: u64,
    trimmed: *mut u64,
) -> i32 {
    let executor = InterruptibleExecutor::default();
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.trim(first, blocks, least, &executor), trimmed) }
}

/// Makes everything done so far durable.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_commit(file_system: &FileSystem) -> i32 {
    status(file_system.commit())
}

/// How many clean tree nodes are in memory; 0 when that cannot be told without waiting.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_cached_nodes(file_system: &FileSystem) -> u64 {
    file_system.cached_nodes()
}

/// Drops up to `count` clean tree nodes, when the kernel is short of memory, and tells how many. It
/// waits for no lock.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_drop_cached_nodes(file_system: &FileSystem, count: u64) -> u64 {
    file_system.drop_cached_nodes(count)
}

/// [`FileSystemStatus`] with a layout that C can declare.
#[repr(C)]
pub struct Status {
    /// Blocks of the file system.
    pub blocks: u64,
    /// Blocks not in use.
    pub blocks_free: u64,
    /// Of these, blocks that ordinary operations may use.
    pub blocks_available: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Inodes that may still be made.
    pub inodes_free: u64,
    /// Number of the last published state.
    pub generation: u64,
    /// How often a writer has taken the file system over.
    pub writer_generation: u64,
    /// Feature bits: compatible, read-only compatible, incompatible.
    pub features: [u64; 3],
    /// When it was made, seconds since 1970.
    pub created_seconds: i64,
    /// When the last state was published, seconds since 1970.
    pub published_seconds: i64,
    /// Bytes that tree nodes take in memory.
    pub cache_bytes: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Levels of the tree.
    pub tree_levels: u32,
    /// Identity.
    pub uuid: [u8; 16],
    /// Name, padded with zeros.
    pub label: [u8; 64],
    /// 1 if nothing may be written, else 0.
    pub read_only: u32,
    /// Most bytes of a file that lies in the tree.
    pub inline_bytes_max: u32,
}

impl From<&FileSystemStatus> for Status {
    fn from(status: &FileSystemStatus) -> Self {
        Self {
            blocks: status.blocks,
            blocks_free: status.blocks_free,
            blocks_available: status.blocks_available,
            inodes: status.inodes,
            inodes_free: status.inodes_free,
            generation: status.generation,
            writer_generation: status.writer_generation,
            features: status.features,
            created_seconds: status.created_seconds,
            published_seconds: status.published_seconds,
            cache_bytes: status.cache_bytes,
            block_bytes: status.block_bytes,
            tree_levels: status.tree_levels,
            uuid: status.uuid,
            label: status.label,
            read_only: u32::from(status.read_only),
            inline_bytes_max: status.inline_bytes_max,
        }
    }
}
