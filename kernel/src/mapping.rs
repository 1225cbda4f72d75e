// SPDX-License-Identifier: GPL-2.0-only
//! File data for a host that owns the page cache: reserve at write, allocate and complete at
//! writeback, map at read. The C half moves the bytes.

use crate::boundary::{bytes, deliver, failure, status};
use crate::file::state_number;
use crate::inode::Time;
use alloc::vec::Vec;
use vexfs_core::{Completion, Error, FileSystem, InFlight, MappedExtent};
use vexfs_memory::TryVec;

/// [`MappedExtent`] with a layout that C can declare.
#[repr(C)]
pub struct Mapping {
    /// First logical block.
    pub block: u64,
    /// Blocks, at least 1.
    pub blocks: u64,
    /// First block on the device; 0 for holes and inline files.
    pub device_block: u64,
    /// As [`state_number`] says.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

/// Tells what the file is from logical block `block` on, as far as that is one piece and at most
/// `blocks` blocks, and writes the checksums of written blocks to `checksums`.
///
/// # Safety
/// `mapping` may be written to, `checksums` has room for `blocks` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_map(
    file_system: &FileSystem,
    number: u64,
    block: u64,
    blocks: u64,
    mapping: *mut Mapping,
    checksums: *mut u32,
) -> i32 {
    let found = file_system.map(number, block, blocks).and_then(|found| {
        let MappedExtent { block, blocks: mapped, state, device_block, checksums: sums } = found;
        if mapped > blocks.max(1) || sums.len() as u64 > blocks {
            return Err(Error::Range);
        }
        // SAFETY: there is room for `blocks` numbers, by the caller's word, and no more are
        // written, as just checked.
        unsafe { core::ptr::copy_nonoverlapping(sums.as_ptr(), checksums, sums.len()) };
        let state = state_number(state);
        Ok(Mapping { block, blocks: mapped, device_block, state, reserved: 0 })
    });
    // SAFETY: the caller's word.
    unsafe { deliver(found, mapping) }
}

/// Finds the first unwritten blocks of the file from `block` on, before `end`, that writes take no other
/// space for. Moves `block` there and writes how many they are; 0 if there are none.
///
/// # Safety
/// `block` may be read and written to, `blocks` be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_unwritten(
    file_system: &FileSystem,
    number: u64,
    block: *mut u64,
    end: u64,
    blocks: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { find_blocks(block, end, blocks, |from| file_system.unwritten(number, from, end)) }
}

/// Finds the first blocks that the file has from `block` on, before `end`, written or not; as
/// [`vexfs_core_unwritten`].
///
/// # Safety
/// `block` may be read and written to, `blocks` be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_occupied(
    file_system: &FileSystem,
    number: u64,
    block: *mut u64,
    end: u64,
    blocks: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { find_blocks(block, end, blocks, |from| file_system.occupied(number, from, end)) }
}

/// Moves `block` to the first of the blocks that `find` finds from there on, or to `end`, and writes how
/// many they are.
///
/// # Safety
/// `block` may be read and written to, `blocks` be written to.
unsafe fn find_blocks(
    block: *mut u64,
    end: u64,
    blocks: *mut u64,
    find: impl Fn(u64) -> vexfs_core::Result<Option<(u64, u64)>>,
) -> i32 {
    // SAFETY: the caller's word.
    let from = unsafe { block.read() };
    let found = find(from).map(|found| {
        let (first, count) = found.unwrap_or((end, 0));
        // SAFETY: the caller's word.
        unsafe { block.write(first) };
        count
    });
    // SAFETY: the caller's word.
    unsafe { deliver(found, blocks) }
}

/// Reserves space for blocks that will be written later.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_reserve(file_system: &FileSystem, blocks: u64) -> i32 {
    status(file_system.reserve(blocks))
}

/// Whether blocks of any file are reserved.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_has_reserved(file_system: &FileSystem) -> bool {
    file_system.has_reserved()
}

/// Lets reserved blocks go.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_unreserve(file_system: &FileSystem, blocks: u64) {
    file_system.unreserve(blocks);
}

/// [`InFlight`] with a layout that C can declare.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Piece {
    /// First logical block.
    pub block: u64,
    /// First block on the device.
    pub device_block: u64,
    /// Blocks.
    pub blocks: u64,
    /// 1 if they belong to the file already, unwritten; else 0.
    pub in_place: u64,
}

impl From<&InFlight> for Piece {
    fn from(blocks: &InFlight) -> Self {
        let InFlight { block, device_block, blocks, in_place } = *blocks;
        Self { block, device_block, blocks, in_place: u64::from(in_place) }
    }
}

impl From<&Piece> for InFlight {
    fn from(piece: &Piece) -> Self {
        let Piece { block, device_block, blocks, in_place } = *piece;
        Self { block, device_block, blocks, in_place: in_place != 0 }
    }
}

/// Allocates blocks for `blocks` logical blocks from `block` on, using up `reserved` of the reserved
/// ones, and writes them as pieces. Returns how many pieces, or a negative errno.
///
/// # Safety
/// `pieces` has room for `blocks` pieces.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_allocate(
    file_system: &FileSystem,
    number: u64,
    block: u64,
    blocks: u64,
    reserved: u64,
    pieces: *mut Piece,
) -> i64 {
    let allocated = match file_system.allocate(number, block, blocks, reserved) {
        Ok(allocated) => allocated,
        Err(error) => return i64::from(failure(&error)),
    };
    for (at, piece) in allocated.iter().enumerate() {
        // SAFETY: every piece has a block at least, so there are at most `blocks` of them, which
        // have room by the caller's word.
        unsafe { pieces.add(at).write(Piece::from(piece)) };
    }
    allocated.len() as i64
}

/// Makes written blocks part of the file, which grows to `size` if it is smaller. On error nothing
/// has changed and the blocks are allocated still.
///
/// # Safety
/// `pieces` points to `count` pieces, `checksums` to a number for each of their blocks.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_complete(
    file_system: &FileSystem,
    number: u64,
    pieces: *const Piece,
    count: usize,
    checksums: *const u32,
    size: u64,
) -> i32 {
    // SAFETY: the caller's word.
    let pieces = unsafe { core::slice::from_raw_parts(pieces, count) };
    let mut completions = Vec::new();
    let mut at = checksums;
    for piece in pieces {
        let blocks = InFlight::from(piece);
        // SAFETY: there is a checksum for each block of each piece, by the caller's word; `at`
        // moves by the blocks of a piece at a time and so stays within them or at their end.
        let checksums = unsafe {
            let these = core::slice::from_raw_parts(at, piece.blocks as usize);
            at = at.add(these.len());
            these
        };
        if completions.try_push(Completion { blocks, checksums }).is_err() {
            return failure(&Error::OutOfMemory);
        }
    }
    status(file_system.complete(number, &completions, Some(size)))
}

/// Makes `data_bytes` bytes the whole of a small file; `-EBUSY` when it does not lie in the tree.
///
/// # Safety
/// `data` points to `data_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_complete_inline(
    file_system: &FileSystem,
    number: u64,
    data: *const u8,
    data_bytes: usize,
) -> i32 {
    // SAFETY: the caller's word.
    status(file_system.complete_inline(number, unsafe { bytes(data, data_bytes) }))
}

/// Gives allocated blocks back that will not be completed, and reserves `reserved` of them again.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_cancel(file_system: &FileSystem, piece: &Piece, reserved: u64) {
    let blocks = InFlight::from(piece);
    if reserved == 0 {
        file_system.cancel(&blocks);
    } else {
        file_system.put_off(&blocks, reserved);
    }
}

/// Notes that the file's bytes are changing, with the time that the VFS has given it, and writes its
/// content version then.
///
/// # Safety
/// `content_version` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_touch_data(
    file_system: &FileSystem,
    number: u64,
    modified: Time,
    content_version: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.touch_data(number, modified.into()), content_version) }
}
