// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Space within files: preallocating it, making holes, and finding either.

use crate::error::{Error, Result};
use crate::extent::{self, Extent, Survey};
use crate::file::{STEP_EXTENTS, add_blocks, end_of, is_written, load_file};
use crate::filesystem::FileSystem;
use crate::inline;
use crate::key::OFFSET_MAX;
use crate::layout::{EXTENT_UNWRITTEN, FILE_BYTES_MAX, GROUP_BLOCKS};
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// Blocks that one operation preallocates at most.
const STEP_BLOCKS: u64 = 2 * GROUP_BLOCKS;
/// Preallocated blocks to one block of the tree that names them, in runs of a dozen or more.
const NAMING_SHARE: u64 = 512;
/// Runs of blocks that one operation preallocates at most.
const STEP_RUNS: u64 = 64;

impl FileSystem {
    /// Gives the holes within `length` bytes at `offset` blocks that later writes use, so that
    /// those find space. The file grows to the end of the range unless `keep_size`. Happens in
    /// steps: space given before an error stays given.
    ///
    /// Errors: `Invalid` for no bytes; as [`FileSystem::write`].
    pub fn preallocate(
        &self,
        number: u64,
        offset: u64,
        length: u64,
        keep_size: bool,
    ) -> Result<()> {
        if length == 0 {
            return Err(Error::Invalid("no bytes to allocate"));
        }
        let end = end_of(offset, length)?;
        let now = self.host.clock.now();
        let (inode, in_tree) = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            (inode, inline::is_inline(&inode) && inline::fits(&tree, &inode, end))
        };
        if in_tree {
            if !keep_size && end > inode.size {
                return self.truncate(number, end);
            }
            return Ok(());
        }
        self.outline(number, false)?;
        let log2 = self.block_log2();
        let (mut at, to) = (offset >> log2, ((end - 1) >> log2) + 1);
        let mut holes = Survey::read(&self.reader(), number, at, to, u64::MAX)?.holes;
        let items = step_items(&self.reader());
        // Refused before any change if it cannot fit. To name the blocks takes little, because
        // unwritten extents have no checksums, unless free space is in very short runs: then the
        // steps take what there is.
        let naming = holes / NAMING_SHARE;
        self.operation_with_blocks(items, holes.saturating_add(naming), false, |_| Ok(()))?;
        loop {
            let blocks = holes.clamp(1, STEP_BLOCKS);
            let (next, added) = self.operation_with_blocks(items, blocks, false, |tree| {
                let (next, added) = allocate_unwritten(tree, number, at, to, blocks)?;
                let mut inode = load_file(tree, number)?;
                add_blocks(&mut inode, number, added as i64)?;
                if next >= to {
                    if !keep_size && end > inode.size {
                        inode.size = end;
                        inode.touch_content(now);
                    } else {
                        // The bytes stay, so the content version does; the time moves as it does
                        // in other file systems.
                        inode.modified = now;
                        inode.touch(now);
                    }
                }
                inode.store(tree, number)?;
                Ok((next, added))
            })?;
            if next >= to {
                return Ok(());
            }
            at = next;
            holes = holes.saturating_sub(added);
        }
    }

    /// Makes `length` bytes at `offset` read as zeros and frees the blocks that lie wholly within.
    /// The size stays. Freeing many extents happens in steps.
    ///
    /// Errors: `Invalid` for no bytes; as [`FileSystem::write`].
    pub fn punch(&self, number: u64, offset: u64, length: u64) -> Result<()> {
        if length == 0 {
            return Err(Error::Invalid("no bytes to free"));
        }
        let end = offset.saturating_add(length).min(FILE_BYTES_MAX);
        let now = self.host.clock.now();
        let log2 = self.block_log2();
        let block_bytes = 1u64 << log2;
        let mut edges: Vec<(u64, u64)> = Vec::new();
        let (from, mut to) = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            if offset >= end {
                return Ok(());
            }
            if inline::is_inline(&inode) {
                drop(tree);
                return self.change_file(number, 4, true, |tree, inode| {
                    let mut bytes = inline::load(tree, number, inode)?;
                    let end = end.min(inode.size);
                    if let Some(range) = bytes.get_mut(offset as usize..end as usize) {
                        range.fill(0);
                        inline::store(tree, number, inode, &bytes)?;
                        inode.touch_content(now);
                    }
                    Ok(())
                });
            }
            let from = offset.div_ceil(block_bytes);
            // What lies behind the end of the file needs no zeros written for it.
            let to = if end >= inode.size { end.div_ceil(block_bytes) } else { end >> log2 };
            let edge = |from: u64, to: u64| -> Result<Option<(u64, u64)>> {
                let is_edge = from < to && is_written(&tree, number, from >> log2)?;
                Ok(is_edge.then_some((from, to)))
            };
            let head_end = end.min(from << log2);
            if let Some(edge) = edge(offset, head_end)? {
                edges.try_push(edge)?;
            }
            if let Some(edge) = edge((to << log2).max(head_end), end)? {
                edges.try_push(edge)?;
            }
            (from, to)
        };
        if !edges.is_empty() {
            self.write_zeros(number, &edges, |inode| inode.touch_content(now))?;
        }
        let mut first = edges.is_empty();
        while from < to || first {
            let (blocks, reached) =
                self.remove_step(number, from, to, STEP_EXTENTS, |tree, removed| {
                    let mut inode = load_file(tree, number)?;
                    add_blocks(&mut inode, number, -(removed.blocks as i64))?;
                    if removed.blocks > 0 || first {
                        inode.touch_content(now);
                    }
                    inode.store(tree, number)?;
                    Ok((removed.blocks, removed.reached))
                })?;
            first = false;
            if blocks == 0 || reached <= from {
                break;
            }
            to = reached;
        }
        Ok(())
    }

    /// Makes `length` bytes at `offset` read as zeros, and backs them with preallocated space. The
    /// file grows to the end of the range unless `keep_size`.
    ///
    /// Errors: as [`FileSystem::preallocate`]; after `NoSpace` the bytes are zeros, in a hole.
    pub fn zero_range(&self, number: u64, offset: u64, length: u64, keep_size: bool) -> Result<()> {
        end_of(offset, length)?;
        self.punch(number, offset, length)?;
        self.preallocate(number, offset, length, keep_size)
    }

    /// The first byte at or after `offset` that may have been written. `NoSuchOffset` when there is
    /// none before the end of the file.
    pub fn seek_data(&self, number: u64, offset: u64) -> Result<u64> {
        let (size, log2) = match self.seek_start(number, offset)? {
            Seek::Inline(_) => return Ok(offset),
            Seek::Extents(size, log2) => (size, log2),
        };
        let mut at = offset >> log2;
        loop {
            let mut found = None;
            at = self.walk(number, at, |extent, from| {
                if extent.is_written() {
                    found = Some(extent.logical.max(from));
                }
                found.is_none()
            })?;
            if found.is_some() || at == OFFSET_MAX {
                let data = found.map(|block| (block << log2).max(offset));
                return data.filter(|data| *data < size).ok_or(Error::NoSuchOffset);
            }
        }
    }

    /// The first byte at or after `offset` that was never written; the end of the file counts as a
    /// hole. `NoSuchOffset` when `offset` is not below it.
    pub fn seek_hole(&self, number: u64, offset: u64) -> Result<u64> {
        let (size, log2) = match self.seek_start(number, offset)? {
            Seek::Inline(size) => return Ok(size),
            Seek::Extents(size, log2) => (size, log2),
        };
        let mut hole = offset >> log2;
        loop {
            let from = hole;
            let mut ended = false;
            let at = self.walk(number, from, |extent, _| {
                ended = extent.logical > hole || !extent.is_written();
                if !ended {
                    hole = extent.end();
                }
                !ended
            })?;
            if ended || at == OFFSET_MAX || hole == from {
                return Ok((hole << log2).max(offset).min(size));
            }
        }
    }

    fn seek_start(&self, number: u64, offset: u64) -> Result<Seek> {
        let tree = self.reader();
        let inode = load_file(&tree, number)?;
        if offset >= inode.size {
            return Err(Error::NoSuchOffset);
        }
        Ok(match inline::is_inline(&inode) {
            true => Seek::Inline(inode.size),
            false => Seek::Extents(inode.size, tree.state.block_log2),
        })
    }

    /// Calls `each` with the extents from block `from` on until it returns false or a bounded
    /// number was looked at under one lock. Returns where to go on, or [`OFFSET_MAX`] at the end.
    fn walk(
        &self,
        number: u64,
        from: u64,
        mut each: impl FnMut(&Extent, u64) -> bool,
    ) -> Result<u64> {
        let mut next = OFFSET_MAX;
        let mut steps = STEP_EXTENTS;
        let tree = self.reader();
        let to = FILE_BYTES_MAX >> tree.state.block_log2;
        extent::each(&tree, number, from, to, |extent, _| {
            steps -= 1;
            if !each(extent, from) || steps == 0 {
                next = extent.end();
                return Ok(false);
            }
            Ok(true)
        })?;
        Ok(next)
    }
}

/// How a seek goes on: the file's size, and the block size as a power of two.
enum Seek {
    Inline(u64),
    Extents(u64, u32),
}

/// Items of the tree that one operation changes which preallocates.
fn step_items(tree: &Tree) -> u64 {
    STEP_RUNS.min(tree.space.group_count() + 1) + 8
}

/// Of `free` blocks, those that can be preallocated at once: the tree takes some to name the rest.
pub(crate) fn most_to_preallocate(tree: &Tree, free: u64) -> u64 {
    let tree_blocks = tree.blocks_for_items(step_items(tree)) + tree.blocks_to_close();
    let left = free.saturating_sub(tree_blocks);
    left - left.div_ceil(NAMING_SHARE + 1)
}

/// Fills holes of `from..to` with unwritten extents of `blocks_max` blocks in all at most. Returns
/// where to go on, and how many blocks were added.
fn allocate_unwritten(
    tree: &mut Tree,
    object: u64,
    from: u64,
    to: u64,
    blocks_max: u64,
) -> Result<(u64, u64)> {
    let (mut at, mut added, mut runs) = (from, 0, 0);
    let mut looked = 0;
    while at < to && runs < STEP_RUNS && looked < STEP_EXTENTS {
        looked += 1;
        let next = extent::find(tree, object, at)?;
        if let Some(extent) = next.filter(|extent| extent.logical <= at) {
            at = extent.end();
            continue;
        }
        let gap = next.map_or(to, |extent| extent.logical.min(to)) - at;
        let gap = gap.min(blocks_max.saturating_sub(added));
        if gap == 0 {
            break;
        }
        let goal = extent::goal(tree, object, at)?;
        let run = tree.space.allocate_data(gap, goal)?;
        let new = Extent {
            logical: at,
            block: run.start,
            length: run.length,
            generation: tree.generation(),
            flags: EXTENT_UNWRITTEN,
        };
        extent::insert(tree, object, &new, &[])?;
        at += run.length;
        added += run.length;
        runs += 1;
    }
    Ok((at.min(to), added))
}
