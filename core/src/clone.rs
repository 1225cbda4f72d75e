// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Sharing ranges of files: two extents name the same blocks, and a write to either goes elsewhere.

use crate::error::{Error, Result};
use crate::extent::{self, Extent, Survey};
use crate::file::{STEP_EXTENTS, add_blocks, end_of, load_file};
use crate::filesystem::FileSystem;
use crate::host::Timestamp;
use crate::inline;
use crate::inode::Inode;
use crate::layout::{BLOCK_LOG2_RANGE, EXTENT_BLOCKS_MAX, EXTENT_SHARED, FILE_BYTES_MAX};
use crate::shared;
use crate::stream;
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// Extents that one operation clones at most.
const STEP_CLONED: u64 = 32;
/// Extents that [`FileSystem::replace_content`] clones, and removes, at most.
const REPLACED_EXTENTS_MAX: u64 = 1024;

/// No block of a file has this number.
const BLOCKS_MAX: u64 = FILE_BYTES_MAX >> *BLOCK_LOG2_RANGE.start();

/// What is cloned, in blocks.
#[derive(Clone, Copy)]
struct Range {
    from: u64,
    to: u64,
    /// Next source block.
    at: u64,
    end: u64,
    /// The target block of source block `at`.
    target: u64,
    /// The end of the target range, in bytes.
    target_end: u64,
}

impl Range {
    /// The size that the target has at least, with what has been cloned so far.
    fn size(&self, log2: u32) -> u64 {
        (self.target << log2).min(self.target_end)
    }
}

impl FileSystem {
    /// Makes `length` bytes of file `to` at `to_offset` those of file `from` at `from_offset`
    /// without copying them, as `FICLONERANGE` of Linux does; a `length` of 0 goes to the end of
    /// `from`. Happens in steps, from the start.
    ///
    /// Errors: `Invalid` for offsets or a length that are not whole blocks (a range that ends where
    /// `from` does may end in a part of one, if it reaches the end of `to`), for a range behind the
    /// end of `from`, and for ranges of one file that overlap; otherwise as [`FileSystem::write`].
    pub fn clone_range(
        &self,
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    ) -> Result<()> {
        self.share_range(from, from_offset, to, to_offset, length, Some(self.host.clock.now()))
    }

    /// Lets `length` bytes of file `to` at `to_offset`, which are those of file `from` at `from_offset`
    /// already, share blocks with these, as `FIDEDUPERANGE` of Linux does. That they are the same is
    /// the caller's word. `to` keeps its times and content version. Bytes of a small file in the
    /// tree are left there.
    ///
    /// Errors: as [`FileSystem::clone_range`], and `Invalid` for a range behind the end of `to`.
    pub fn dedupe_range(
        &self,
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
    ) -> Result<()> {
        let size = load_file(&self.reader(), to)?.size;
        if length == 0 {
            return Ok(());
        }
        if end_of(to_offset, length)? > size {
            return Err(Error::Invalid("range behind the end of the file to deduplicate"));
        }
        self.share_range(from, from_offset, to, to_offset, length, None)
    }

    /// As [`FileSystem::clone_range`] at the time `now`; without one the bytes stay the same.
    fn share_range(
        &self,
        from: u64,
        from_offset: u64,
        to: u64,
        to_offset: u64,
        length: u64,
        now: Option<Timestamp>,
    ) -> Result<()> {
        let (source, target, log2) = {
            let tree = self.reader();
            (load_file(&tree, from)?, load_file(&tree, to)?, tree.state.block_log2)
        };
        let rest = source
            .size
            .checked_sub(from_offset)
            .ok_or(Error::Invalid("range behind the end of the file to clone"))?;
        let length = if length == 0 { rest } else { length };
        if length > rest {
            return Err(Error::Invalid("range behind the end of the file to clone"));
        }
        let to_end = end_of(to_offset, length)?;
        let part = (1 << log2) - 1;
        let aligned = length & part == 0 || (length == rest && to_end >= target.size);
        if from_offset & part != 0 || to_offset & part != 0 || !aligned {
            return Err(Error::Invalid("range to clone is not in whole blocks"));
        }
        if from == to && from_offset.abs_diff(to_offset) < length {
            return Err(Error::Invalid("ranges of one file overlap"));
        }
        if length == 0 {
            return Ok(());
        }
        if inline::is_inline(&source) {
            if now.is_none() {
                return Ok(());
            }
            let bytes = inline::load(&self.reader(), from, &source)?;
            let bytes = bytes.get(from_offset as usize..).unwrap_or(&[]);
            return self.write(to, to_offset, bytes.get(..length as usize).unwrap_or(bytes));
        }
        self.outline(to, false)?;
        let mut range = Range {
            from,
            to,
            at: from_offset >> log2,
            end: (from_offset + length).div_ceil(1 << log2),
            target: to_offset >> log2,
            target_end: to_end,
        };
        while range.at < range.end {
            let next = next_written(&self.reader(), &range)?;
            if next > range.at {
                self.clear_range(to, range.target, range.target + (next - range.at), now)?;
                range.target += next - range.at;
                range.at = next;
            } else {
                self.clone_step(&mut range, now)?;
            }
        }
        if load_file(&self.reader(), to)?.size >= to_end {
            return Ok(());
        }
        self.change_file(to, 1, false, |_, inode| {
            inode.size = inode.size.max(to_end);
            touch(inode, now);
            Ok(())
        })
    }

    /// Makes the content of file `to` that of file `from`, sharing its blocks, all at once: no
    /// state of the file system has a part of it. All else of `to` stays; its vectors become stale.
    ///
    /// Errors: `TooBig` when one of the files has more than 1024 extents, each of at most 128 blocks;
    /// otherwise as [`FileSystem::write`].
    pub fn replace_content(&self, from: u64, to: u64) -> Result<()> {
        if from == to {
            return Ok(());
        }
        let now = self.host.clock.now();
        let items = items_to_replace(&self.reader(), from, to)?;
        self.operation_in_place(items, |tree| {
            if items_to_replace(tree, from, to)? > items {
                return Err(Error::Busy);
            }
            let source = load_file(tree, from)?;
            let mut target = load_file(tree, to)?;
            inline::drop_item(tree, to, &mut target)?;
            let freed = stream::clear(tree, to, 0, BLOCKS_MAX)?;
            add_blocks(&mut target, to, -freed)?;
            target.size = 0;
            if inline::is_inline(&source) {
                let bytes = inline::load(tree, from, &source)?;
                inline::store(tree, to, &mut target, &bytes)?;
            } else {
                let mut range =
                    Range { from, to, at: 0, end: BLOCKS_MAX, target: 0, target_end: source.size };
                loop {
                    range.at = next_written(tree, &range)?;
                    range.target = range.at;
                    match clone_extent(tree, &mut range, BLOCKS_MAX)? {
                        Some(growth) => add_blocks(&mut target, to, growth)?,
                        None => break,
                    }
                }
                target.size = source.size;
            }
            target.touch_content(now);
            target.store(tree, to)
        })
    }

    /// Makes blocks `from..to` of a file a hole, stepwise.
    fn clear_range(&self, number: u64, from: u64, to: u64, now: Option<Timestamp>) -> Result<()> {
        let mut to = to;
        loop {
            let reached = self.remove_step(number, from, to, STEP_EXTENTS, |tree, removed| {
                let mut inode = load_file(tree, number)?;
                add_blocks(&mut inode, number, -(removed.blocks as i64))?;
                touch(&mut inode, now);
                inode.store(tree, number)?;
                Ok(removed.reached)
            })?;
            if reached <= from {
                return Ok(());
            }
            to = reached;
        }
    }

    /// Clones some extents from `range.at` on, where there is one, as one operation.
    fn clone_step(&self, range: &mut Range, now: Option<Timestamp>) -> Result<()> {
        let blocks = (range.end - range.at).min(STEP_CLONED * u64::from(EXTENT_BLOCKS_MAX));
        let items = {
            let tree = self.reader();
            let end = range.at + blocks;
            let source = Survey::read(&tree, range.from, range.at, end, STEP_CLONED)?;
            let to = range.target;
            let target = Survey::read(&tree, range.to, to, to + blocks, u64::MAX)?;
            let new = extent::items_for_new(&tree, blocks, source.extents);
            source.items(&tree) + target.items(&tree) + new + source.extents * 3 + 2
        };
        let from = *range;
        *range = self.operation(items, false, |tree| {
            let mut range = from;
            let end = from.at + blocks;
            let mut growth = 0;
            for _ in 0..STEP_CLONED {
                match clone_extent(tree, &mut range, end)? {
                    Some(grown) => growth += grown,
                    None => break,
                }
            }
            let mut inode = load_file(tree, range.to)?;
            add_blocks(&mut inode, range.to, growth)?;
            // With the blocks, so that none lies behind the end of the file.
            inode.size = inode.size.max(range.size(tree.state.block_log2));
            touch(&mut inode, now);
            inode.store(tree, range.to)?;
            Ok(range)
        })?;
        if range.at == from.at { Err(Error::Busy) } else { Ok(()) }
    }
}

/// Notes that the bytes have changed, if they have.
fn touch(inode: &mut Inode, now: Option<Timestamp>) {
    if let Some(now) = now {
        inode.touch_content(now);
    }
}

/// Places of the tree that [`FileSystem::replace_content`] changes.
fn items_to_replace(tree: &Tree, from: u64, to: u64) -> Result<u64> {
    let survey = |number: u64| {
        load_file(tree, number)?;
        let survey = Survey::read(tree, number, 0, BLOCKS_MAX, REPLACED_EXTENTS_MAX + 1)?;
        match survey.extents {
            0..=REPLACED_EXTENTS_MAX => Ok(survey),
            _ => Err(Error::TooBig("extents to replace at once")),
        }
    };
    let (source, target) = (survey(from)?, survey(to)?);
    let new = extent::items_for_new(tree, BLOCKS_MAX - source.holes, source.extents);
    Ok(source.items(tree) + target.items(tree) + new + source.extents * 3 + 4)
}

/// The first written source block.
fn next_written(tree: &Tree, range: &Range) -> Result<u64> {
    let mut next = range.end;
    extent::each(tree, range.from, range.at, range.end, |extent, _| {
        if extent.is_written() {
            next = extent.logical.max(range.at);
        }
        Ok(!extent.is_written())
    })?;
    Ok(next)
}

/// Clones the part of the extent at `range.at` before `end`, and moves on. Returns by how many
/// blocks the target grew; `None` when nothing is written there.
fn clone_extent(tree: &mut Tree, range: &mut Range, end: u64) -> Result<Option<i64>> {
    let mut found = None;
    let mut checksums: Vec<u32> = Vec::new();
    extent::each(tree, range.from, range.at, end, |extent, sums| {
        let part = extent.part(range.at, end).filter(|part| part.logical == range.at);
        if let Some(part) = part.filter(|part| part.is_written()) {
            found = Some((*extent, part));
            let skip = (part.logical - extent.logical) as usize;
            for sum in sums.as_chunks().0.iter().skip(skip).take(part.length as usize) {
                checksums.try_push(u32::from_le_bytes(*sum))?;
            }
        }
        Ok(false)
    })?;
    let Some((extent, part)) = found else { return Ok(None) };
    extent::mark_shared(tree, range.from, &extent)?;
    shared::add(tree, part.run())?;
    let freed = stream::clear(tree, range.to, range.target, range.target + part.length)?;
    let new = Extent { logical: range.target, flags: EXTENT_SHARED, ..part };
    extent::insert(tree, range.to, &new, &checksums)?;
    range.at += part.length;
    range.target += part.length;
    Ok(Some(part.length as i64 - freed))
}
