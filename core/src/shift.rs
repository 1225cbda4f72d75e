// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Taking whole blocks out of a file, and putting a hole into it, so that what lies behind moves.
//!
//! What moves are the extents' items, not data, all of them in one operation: after a crash a file is
//! as it was before or as it is after. That bounds how much may lie behind.

use crate::error::{Error, Result};
use crate::extent::{self, Survey, items_for_new};
use crate::file::{STEP_EXTENTS, add_blocks, end_of, load_file};
use crate::filesystem::FileSystem;
use crate::inline;
use crate::key::OFFSET_MAX;
use crate::layout::FILE_BYTES_MAX;
use crate::stream::clear;
use crate::tree::Tree;

/// Bytes of extents' items that one operation moves at most: those of 2 GiB without gaps.
const SHIFT_BYTES_MAX: u64 = 2 << 20;

impl FileSystem {
    /// Takes `length` bytes at `offset`, whole blocks both, out of the file: what lies behind moves
    /// there.
    ///
    /// Errors: `Invalid` for other ranges, and for one that reaches the end of the file;
    /// `NotSupported` when more lies behind than one operation moves, and nothing is changed then;
    /// as [`FileSystem::write`]. After `NoSpace` the range may be a hole.
    pub fn collapse_range(&self, number: u64, offset: u64, length: u64) -> Result<()> {
        let (from, to) = self.whole_blocks(offset, length)?;
        let now = self.host.clock.now();
        let (mut gone, items) = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            if offset.saturating_add(length) >= inode.size {
                return Err(Error::Invalid("nothing lies behind the range"));
            }
            let gone = Survey::read(&tree, number, from, to, u64::MAX)?;
            (gone, items_to_shift(&tree, number, to)?)
        };
        if gone.extents > STEP_EXTENTS {
            self.punch(number, offset, length)?;
            gone = Survey::default();
        }
        let gone = gone.items(&self.reader());
        self.change_file(number, gone + items, true, |tree, inode| {
            let freed = clear(tree, number, from, to)?;
            add_blocks(inode, number, -freed)?;
            extent::shift(tree, number, to, from)?;
            inode.size = inode.size.saturating_sub(length);
            inode.touch_content(now);
            Ok(())
        })
    }

    /// Puts a hole of `length` bytes into the file at `offset`, whole blocks both: what lies there and
    /// behind moves on.
    ///
    /// Errors: `Invalid` for other ranges, and for one that does not begin within the file;
    /// `NotSupported` when more lies behind than one operation moves; as [`FileSystem::write`].
    pub fn insert_range(&self, number: u64, offset: u64, length: u64) -> Result<()> {
        let (from, to) = self.whole_blocks(offset, length)?;
        let now = self.host.clock.now();
        {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            if offset >= inode.size {
                return Err(Error::Invalid("the range does not begin within the file"));
            }
            end_of(inode.size, length)?;
            let last = extent::last(&tree, number)?.map_or(0, |last| last.end());
            if last.saturating_add(to - from) > FILE_BYTES_MAX >> tree.state.block_log2 {
                return Err(Error::FileTooBig);
            }
            if inline::is_inline(&inode) {
                drop(tree);
                self.outline(number, false)?;
            }
        }
        let items = items_to_shift(&self.reader(), number, from)?;
        self.change_file(number, items, false, |tree, inode| {
            extent::shift(tree, number, from, to)?;
            inode.size = end_of(inode.size, length)?;
            inode.touch_content(now);
            Ok(())
        })
    }

    /// The first block of a range and the one behind it.
    fn whole_blocks(&self, offset: u64, length: u64) -> Result<(u64, u64)> {
        let (end, log2) = (end_of(offset, length)?, self.block_log2());
        if length == 0 || (offset | length) & ((1 << log2) - 1) != 0 {
            return Err(Error::Invalid("range is not of whole blocks"));
        }
        Ok((offset >> log2, end >> log2))
    }
}

/// Places of the tree that moving the extents from block `from` on changes.
fn items_to_shift(tree: &Tree, number: u64, from: u64) -> Result<u64> {
    let most = SHIFT_BYTES_MAX / extent::ITEM_BYTES_MIN;
    let survey = Survey::read(tree, number, from, OFFSET_MAX, most + 1)?;
    if survey.item_bytes() > SHIFT_BYTES_MAX {
        return Err(Error::NotSupported("more lies behind than moves at once"));
    }
    let blocks = survey.item_bytes() / extent::CHECKSUM_BYTES as u64;
    Ok(survey.items(tree) + items_for_new(tree, blocks, survey.extents + 1))
}
