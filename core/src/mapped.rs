// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! File data for a host that keeps a page cache and moves the bytes itself.
//!
//! Such a host reads by [`FileSystem::map`], and writes in the steps that [`FileSystem::write`] takes
//! too: it allocates blocks, writes data and sums it up, and completes the blocks into the file. For
//! delayed allocation it reserves blocks when a page becomes dirty. The moment when a file's bytes
//! change is when a page does, so the host says so by [`FileSystem::touch_data`]; completing blocks
//! later moves neither times nor the content version.

use crate::error::{Error, Result};
use crate::extent::{self, Extent, Survey};
use crate::file::{add_blocks, end_of, load_file};
use crate::filesystem::FileSystem;
use crate::host::Timestamp;
use crate::inline;
use crate::inode::Inode;
use crate::key::OFFSET_MAX;
use crate::layout::FILE_BYTES_MAX;
use crate::shared;
use crate::space::Run;
use crate::stream::{Placed, WRITE_BYTES_MAX, install, items_for_new};
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// Blocks that one call maps at most.
const MAP_BLOCKS_MAX: u64 = 1024;
/// Blocks that are put in the place of others without a look at those before.
const BLOCKS_UNSEEN_MAX: u64 = 16;
/// Extents that are listed under one lock.
const LIST_STEP: usize = 64;

/// What a part of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappedState {
    /// Reads as zeros; takes no space.
    Hole,
    /// Reads as zeros; writes find space there.
    Unwritten,
    /// In blocks of the device.
    Written,
    /// The whole file is in the tree: [`FileSystem::read`] has the bytes.
    Inline,
}

/// A part of a file in one piece.
#[derive(Debug)]
pub struct MappedExtent {
    /// First logical block.
    pub block: u64,
    /// Blocks, at least 1.
    pub blocks: u64,
    /// What it is.
    pub state: MappedState,
    /// First block on the device; 0 for holes and inline files.
    pub device_block: u64,
    /// CRC32C of each written block. A block that sums to another value may have moved since: it is
    /// then to be read by [`FileSystem::read`], which tells that from damage.
    pub checksums: Vec<u32>,
}

/// Blocks to write data to, on their way into a file. A plain value, so that it can pass through a
/// host's own structures; it may be split, and each block is to be completed or cancelled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// First logical block.
    pub block: u64,
    /// First block on the device.
    pub device_block: u64,
    /// Blocks.
    pub blocks: u64,
    /// They belong to the file already, unwritten.
    pub in_place: bool,
}

/// Blocks that have been written.
#[derive(Clone, Copy, Debug)]
pub struct Completion<'a> {
    /// The blocks.
    pub blocks: InFlight,
    /// CRC32C of each.
    pub checksums: &'a [u32],
}

/// An extent of a file, as `FIEMAP` lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtentInfo {
    /// First byte in the file.
    pub offset: u64,
    /// Bytes: whole blocks, but for an inline file.
    pub length: u64,
    /// First byte on the device; 0 for an inline file.
    pub device_offset: u64,
    /// `Unwritten`, `Written` or `Inline`.
    pub state: MappedState,
    /// Other extents name each of its blocks.
    pub shared: bool,
    /// Nothing follows.
    pub last: bool,
}

impl FileSystem {
    /// Tells what the file is from logical block `block` on, for up to `blocks` blocks, as far as
    /// that is one piece: at least one block.
    pub fn map(&self, number: u64, block: u64, blocks: u64) -> Result<MappedExtent> {
        let tree = self.reader();
        let inode = load_file(&tree, number)?;
        let to = block.saturating_add(blocks.clamp(1, MAP_BLOCKS_MAX)).min(OFFSET_MAX);
        let state = if inline::is_inline(&inode) { MappedState::Inline } else { MappedState::Hole };
        let mut map = MappedExtent {
            block,
            blocks: to.saturating_sub(block).max(1),
            state,
            device_block: 0,
            checksums: Vec::new(),
        };
        if state == MappedState::Inline {
            return Ok(map);
        }
        let mut at = block;
        extent::each(&tree, number, block, to, |extent, sums| {
            let Some(part) = extent.part(at, to) else { return Ok(true) };
            let state = state_of(extent);
            if at == block && part.logical == block {
                map.state = state;
                map.device_block = part.block;
            }
            let goes_on = part.logical == at
                && map.state == state
                && map.device_block + (at - block) == part.block;
            if !goes_on {
                if at == block {
                    at = part.logical;
                }
                map.blocks = at - block;
                return Ok(false);
            }
            let skip = (part.logical - extent.logical) as usize;
            for sum in sums.as_chunks().0.iter().skip(skip).take(part.length as usize) {
                map.checksums.try_push(u32::from_le_bytes(*sum))?;
            }
            at = part.end();
            map.blocks = at - block;
            Ok(at < to)
        })?;
        Ok(map)
    }

    /// The first blocks of logical blocks `block` to `end` that are unwritten and the file's alone, and
    /// how many they are: [`FileSystem::allocate`] gives them out without taking other space.
    pub fn unwritten(&self, number: u64, block: u64, end: u64) -> Result<Option<(u64, u64)>> {
        self.first_blocks(number, block, end, extent::is_writable_in_place)
    }

    /// The first blocks of logical blocks `block` to `end` that the file has, written or not, and how
    /// many they are: what is written in their place does not make it larger.
    pub fn occupied(&self, number: u64, block: u64, end: u64) -> Result<Option<(u64, u64)>> {
        self.first_blocks(number, block, end, |_| true)
    }

    fn first_blocks(
        &self,
        number: u64,
        block: u64,
        end: u64,
        wanted: impl Fn(&Extent) -> bool,
    ) -> Result<Option<(u64, u64)>> {
        let tree = self.reader();
        load_file(&tree, number)?;
        let mut found = None;
        extent::each(&tree, number, block, end, |extent, _| {
            if wanted(extent) {
                found = extent.part(block, end).map(|part| (part.logical, part.length));
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    /// Reserves space for `blocks` blocks to be written later. They are then counted as taken, and
    /// [`FileSystem::allocate`] gets them even when the file system is full otherwise.
    ///
    /// Errors: `NoSpace`, `ReadOnly`.
    pub fn reserve(&self, blocks: u64) -> Result<()> {
        self.operation_with_blocks(0, blocks.saturating_add(blocks / 16), false, |tree| {
            tree.space.promise(blocks);
            Ok(())
        })
    }

    /// Whether blocks of any file are reserved. Writing those takes less space in the end, mostly.
    pub fn has_reserved(&self) -> bool {
        self.reader().space.promised() > 0
    }

    /// Lets reserved blocks go.
    pub fn unreserve(&self, blocks: u64) {
        self.tree.write().space.unpromise(blocks);
    }

    /// Allocates blocks for logical blocks `block` to `block + blocks` of the file, at most
    /// [`WRITE_BYTES_MAX`] bytes, and uses up `reserved` of the reserved ones, which stay reserved on
    /// error. Nothing of the file changes; a crash leaves the blocks free. Until they are completed
    /// or cancelled the host neither cuts nor frees this part of the file.
    ///
    /// Errors: `NoSpace`, `FileTooBig`, `TooBig`, and those of [`FileSystem::read`].
    pub fn allocate(
        &self,
        number: u64,
        block: u64,
        blocks: u64,
        reserved: u64,
    ) -> Result<Vec<InFlight>> {
        let (log2, inode) = {
            let tree = self.reader();
            (tree.state.block_log2, load_file(&tree, number)?)
        };
        let end = block.checked_add(blocks).filter(|end| *end <= FILE_BYTES_MAX >> log2);
        let end = end.ok_or(Error::FileTooBig)?;
        if blocks > (WRITE_BYTES_MAX as u64) >> log2 {
            return Err(Error::TooBig("allocation"));
        }
        let privileged = reserved > 0;
        if inline::is_inline(&inode) && block > 0 {
            self.outline(number, privileged)?;
        }
        let mut pieces = Vec::new();
        if blocks == 0 {
            return Ok(pieces);
        }
        let placed = self.place_range(number, block, end, reserved, privileged)?;
        for piece in &placed {
            let blocks = InFlight {
                block: piece.logical,
                device_block: piece.run.start,
                blocks: piece.run.length,
                in_place: piece.in_place,
            };
            if let Err(error) = pieces.try_push(blocks) {
                // In this order, so that nobody else gets them.
                self.tree.write().space.promise(reserved);
                self.give_back(&placed);
                return Err(error.into());
            }
        }
        Ok(pieces)
    }

    /// Makes written blocks part of the file, in the place of what was there, as one operation. The
    /// file grows to `size` if it is smaller. On error nothing has changed and the blocks are
    /// allocated still: they are to be cancelled, or completed when there is memory.
    ///
    /// Errors: `Invalid` for a wrong number of checksums; `Busy` when blocks that were unwritten are
    /// the file's no longer; `FileTooBig`; and those of operations.
    pub fn complete(
        &self,
        number: u64,
        pieces: &[Completion<'_>],
        size: Option<u64>,
    ) -> Result<()> {
        end_of(size.unwrap_or(0), 0)?;
        let mut placed: Vec<Placed> = Vec::new();
        let (mut total, log2) = (0, self.block_log2());
        for Completion { blocks, checksums } in pieces {
            if checksums.len() as u64 != blocks.blocks {
                return Err(Error::Invalid("one checksum for each block"));
            }
            if blocks.block.saturating_add(blocks.blocks) > FILE_BYTES_MAX >> log2 {
                return Err(Error::FileTooBig);
            }
            total += blocks.blocks;
            let mut sums = Vec::new();
            sums.try_extend(checksums)?;
            placed.try_push(Placed {
                object: number,
                logical: blocks.block,
                run: Run { start: blocks.device_block, length: blocks.blocks },
                in_place: blocks.in_place,
                checksums: sums,
            })?;
        }
        let stays_inline = |inode: &Inode| {
            inline::is_inline(inode) && placed.iter().all(|piece| piece.logical > 0)
        };
        let mut unseen = total <= BLOCKS_UNSEEN_MAX;
        loop {
            let items = self.items_to_complete(&placed, total, &mut unseen)?;
            let done = self.change_file(number, items, true, |tree, inode| {
                if stays_inline(inode) {
                    return Ok(false);
                }
                let growth = install(tree, &placed)?;
                inline::drop_item(tree, number, inode)?;
                add_blocks(inode, number, growth)?;
                inode.size = inode.size.max(size.unwrap_or(0));
                Ok(true)
            });
            match done {
                Ok(true) => return Ok(()),
                Ok(false) => self.outline(number, true)?,
                // Others have taken space since. What it takes, and no more, may be there.
                Err(Error::NoSpace) if unseen => unseen = false,
                Err(error) => return Err(error),
            }
        }
    }

    /// Places of the tree that completing these blocks changes at most. What they replace is looked at
    /// unless it is `unseen`, which it is no more where space is short.
    fn items_to_complete(&self, placed: &[Placed], total: u64, unseen: &mut bool) -> Result<u64> {
        let tree = self.reader();
        let new = items_for_new(&tree, placed) + 2;
        let most = Survey::most(&tree, total).items(&tree) + new;
        *unseen &= tree.has_room(tree.blocks_for_items(most));
        if *unseen {
            return Ok(most);
        }
        let mut survey = Survey::default();
        for piece in placed {
            let to = piece.logical + piece.run.length;
            survey.add(&Survey::read(&tree, piece.object, piece.logical, to, u64::MAX)?);
        }
        Ok(survey.items(&tree) + new)
    }

    /// Makes `bytes` the whole of a small file that has no extents. As with [`FileSystem::complete`]
    /// neither times nor the content version move.
    ///
    /// Errors: `Busy` when the file is not, or would not be, in the tree.
    pub fn complete_inline(&self, number: u64, bytes: &[u8]) -> Result<()> {
        self.change_file(number, 4, true, |tree, inode| {
            if !inline::fits(tree, inode, bytes.len() as u64) {
                return Err(Error::Busy);
            }
            inline::store(tree, number, inode, bytes)
        })
    }

    /// Gives blocks back that were allocated and will not be completed.
    pub fn cancel(&self, blocks: &InFlight) {
        self.put_off(blocks, 0);
    }

    /// Gives blocks back that were allocated, and reserves `reserved` of them again.
    pub fn put_off(&self, blocks: &InFlight, reserved: u64) {
        let mut tree = self.tree.write();
        if !blocks.in_place {
            let run = Run { start: blocks.device_block, length: blocks.blocks };
            tree.space.give_back(run);
        }
        tree.space.promise(reserved);
    }

    /// Notes that the file's bytes are changing, at the time that the host has given the file:
    /// times and the content version. Returns the latter.
    pub fn touch_data(&self, number: u64, modified: Timestamp) -> Result<u64> {
        // What is about to be written may have been promised its space.
        self.change_file(number, 1, true, |_, inode| {
            let changed = inode.changed.max(modified);
            inode.touch_content(modified);
            inode.changed = changed;
            Ok(inode.content_version)
        })
    }

    /// Calls `each` with the extents that meet the bytes from `offset` on, in order, until it
    /// returns false; of one that is shared in part, with the parts that do. What changes meanwhile may be seen in part.
    pub fn extents(
        &self,
        number: u64,
        offset: u64,
        each: &mut dyn FnMut(&ExtentInfo) -> bool,
    ) -> Result<()> {
        let mut at = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            if inline::is_inline(&inode) {
                drop(tree);
                let info = ExtentInfo {
                    offset: 0,
                    length: inode.size,
                    device_offset: 0,
                    state: MappedState::Inline,
                    shared: false,
                    last: true,
                };
                if offset < inode.size {
                    each(&info);
                }
                return Ok(());
            }
            offset >> tree.state.block_log2
        };
        // The last one of a batch is held back: it may go on in the next, or be the last of all.
        let mut held: Option<ExtentInfo> = None;
        loop {
            let mut batch: Vec<ExtentInfo> = Vec::new();
            let mut more = false;
            {
                let tree = self.reader();
                let log2 = tree.state.block_log2;
                extent::each(&tree, number, at, FILE_BYTES_MAX >> log2, |extent, _| {
                    if batch.len() == LIST_STEP {
                        more = true;
                        return Ok(false);
                    }
                    let mut rest = Some(*extent);
                    while let Some(part) = rest {
                        let (shared, blocks) = match part.may_be_shared() {
                            true => shared::first_part(&tree, part.run())?,
                            false => (false, part.length),
                        };
                        let end = part.logical + blocks.max(1);
                        rest = part.part(end, part.end());
                        if end > at {
                            batch.try_push(ExtentInfo {
                                offset: part.logical << log2,
                                length: blocks << log2,
                                device_offset: part.block << log2,
                                state: state_of(extent),
                                shared,
                                last: false,
                            })?;
                        }
                    }
                    at = extent.end();
                    Ok(true)
                })?;
            }
            for info in batch {
                match &mut held {
                    Some(before) if joins(before, &info) => before.length += info.length,
                    _ => {
                        if held.replace(info).is_some_and(|before| !each(&before)) {
                            return Ok(());
                        }
                    }
                }
            }
            if !more {
                if let Some(mut last) = held {
                    last.last = true;
                    each(&last);
                }
                return Ok(());
            }
        }
    }
}

fn state_of(extent: &Extent) -> MappedState {
    if extent.is_written() { MappedState::Written } else { MappedState::Unwritten }
}

/// Whether one extent goes on where the other ends, in the file and on the device.
fn joins(before: &ExtentInfo, after: &ExtentInfo) -> bool {
    before.offset + before.length == after.offset
        && before.device_offset + before.length == after.device_offset
        && before.state == after.state
        && before.shared == after.shared
}
