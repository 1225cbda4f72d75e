// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Which blocks the state names: once, or more often.
//!
//! Memory: one bit for each block of every group of 8192 blocks with a block in use, and another
//! for groups with shared blocks: 1 KiB for 32 MiB of data at 4 KiB blocks.

use super::Checker;
use super::finding::{Code, Place};
use crate::error::Result;
use crate::key::Key;
use crate::layout::{
    EXTENT_SHARED, ExtentLayout, GROUP_BITMAP_BYTES, GROUP_BLOCKS, GroupLayout, SharedLayout,
};
use crate::space::{Bitmap, Run, for_groups};
use alloc::vec::Vec;
use vexfs_memory::{Table, TryVec, sort_by};
use zerocopy::FromBytes;

/// A set of blocks.
#[derive(Default)]
pub(crate) struct BlockSet {
    groups: Table<Bitmap>,
}

impl BlockSet {
    fn group(&mut self, number: u64) -> Result<Option<&mut Bitmap>> {
        if !self.groups.contains(number) {
            self.groups.try_insert(number, Bitmap::new()?)?;
        }
        Ok(self.groups.get_mut(number))
    }

    /// Adds a block. Returns whether it was not there.
    pub fn insert(&mut self, block: u64) -> Result<bool> {
        let Some(group) = self.group(block / GROUP_BLOCKS)? else { return Ok(false) };
        let bit = block % GROUP_BLOCKS;
        let new = !group.get(bit);
        group.set(bit, 1, true);
        Ok(new)
    }

    #[cfg(test)]
    pub fn contains(&self, block: u64) -> bool {
        self.groups.get(block / GROUP_BLOCKS).is_some_and(|group| group.get(block % GROUP_BLOCKS))
    }

    /// The bitmap of a group, if it holds any block.
    pub fn bitmap(&self, group: u64) -> Option<&Bitmap> {
        self.groups.get(group)
    }
}

/// A run of blocks with the number of extents that name each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SharedRun {
    pub start: u64,
    pub length: u64,
    pub references: u32,
}

/// Everything about blocks that the passes gather.
#[derive(Default)]
pub(crate) struct BlockUse {
    /// Named at least once, or reserved.
    pub used: BlockSet,
    /// Named at least twice.
    many: BlockSet,
    /// Blocks of tree nodes.
    pub nodes: BlockSet,
    /// Blocks of data that were read, for tests.
    #[cfg(test)]
    pub written: BlockSet,
    /// What the Shared items say, in order.
    recorded: Vec<SharedRun>,
    /// The extents that name blocks of `many`.
    sharers: Vec<Run>,
    /// Groups whose item has been compared.
    compared: Table<()>,
    /// Groups whose item is wrong.
    pub wrong_groups: Vec<u64>,
    /// What the Shared items ought to say.
    pub counted: Vec<SharedRun>,
    pub shared_wrong: bool,
}

impl BlockUse {
    fn mark(&mut self, run: Run) -> Result<()> {
        let Self { used, many, .. } = self;
        for_groups(run, |number, from, length| {
            let end = from.saturating_add(length);
            let Some(group) = used.group(number)? else { return Ok(()) };
            let mut bit = from;
            while let Some(start) = group.next(bit, true).filter(|start| *start < end) {
                let stop = group.next(start, false).unwrap_or(GROUP_BLOCKS).min(end);
                if let Some(twice) = many.group(number)? {
                    twice.set(start, stop.saturating_sub(start), true);
                }
                bit = stop;
            }
            group.set(from, length, true);
            Ok(())
        })
    }

    /// Whether any block of the run is named more than once.
    fn is_shared(&self, run: Run) -> bool {
        let mut found = false;
        let _ = for_groups(run, |number, from, length| {
            if let Some(group) = self.many.bitmap(number) {
                found |= group.next(from, true).is_some_and(|bit| bit < from + length);
            }
            Ok(())
        });
        found
    }
}

impl Checker<'_> {
    /// Whether the run lies within the file system and on none of its superblocks.
    pub(crate) fn is_allocatable(&self, run: Run) -> bool {
        self.state.is_allocatable(run)
    }

    pub(crate) fn mark_reserved(&mut self) -> Result<()> {
        for run in self.state.reserved_runs() {
            // Blocks of 64 KiB may hold a copy each or overlap with the front: marked singly, so
            // that none counts as shared.
            for block in run.start..run.end().min(self.state.blocks) {
                self.blocks.used.insert(block)?;
            }
        }
        Ok(())
    }

    pub(crate) fn mark_node(&mut self, block: u64) -> Result<()> {
        self.blocks.nodes.insert(block)?;
        self.blocks.mark(Run { start: block, length: 1 })
    }

    pub(crate) fn mark_extent(&mut self, run: Run) -> Result<()> {
        self.blocks.mark(run)
    }

    /// An item that says how often blocks are shared.
    pub(crate) fn shared_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Ok(layout) = SharedLayout::ref_from_bytes(item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        let run = Run { start: key.offset(), length: layout.length.get() };
        let references = layout.references.get();
        let after = self.blocks.recorded.last().map_or(0, |last| last.start + last.length);
        if references < 2 || !self.is_allocatable(run) || run.start < after {
            self.blocks.shared_wrong = true;
            return self.find(Code::ItemMalformed, Place::key(key));
        }
        let (start, length) = (run.start, run.length);
        Ok(self.blocks.recorded.try_push(SharedRun { start, length, references })?)
    }

    /// In the second pass: whether an extent shares blocks, and says so.
    pub(crate) fn extent_sharing(&mut self, key: Key, extent: &ExtentLayout) -> Result<()> {
        let run = Run { start: extent.block.get(), length: u64::from(extent.length.get()) };
        if !self.is_allocatable(run) || !self.blocks.is_shared(run) {
            return Ok(());
        }
        self.blocks.sharers.try_push(run)?;
        if extent.flags.get() & EXTENT_SHARED == 0 {
            self.find(Code::SharedFlag, Place::key(key).at_block(run.start))?;
        }
        Ok(())
    }

    /// In the second pass: compares a group's item with the blocks that are in use.
    pub(crate) fn group_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let number = key.offset();
        let place = Place::key(key);
        let count = self.state.blocks.div_ceil(GROUP_BLOCKS);
        if number >= count {
            return self.find(Code::ItemMisplaced, place);
        }
        self.blocks.compared.try_insert(number, ())?;
        let blocks =
            self.state.blocks.saturating_sub(number.saturating_mul(GROUP_BLOCKS)).min(GROUP_BLOCKS);
        let Ok((head, bitmap)) = GroupLayout::read_from_prefix(item) else {
            return self.wrong_group(Code::GroupMalformed, number, place);
        };
        let recorded = u64::from(head.used.get());
        let full = bitmap.is_empty();
        if (full && recorded != blocks)
            || (!full && bitmap.len() != GROUP_BITMAP_BYTES)
            || head.reserved.get() != 0
        {
            return self.wrong_group(Code::GroupMalformed, number, place);
        }
        let none = Bitmap::new()?;
        let used = self.blocks.used.bitmap(number).unwrap_or(&none);
        let actual = used.count();
        let (mut marked_free, mut marked_used, mut marked, mut first) = (0u64, 0u64, 0u64, None);
        for (at, byte) in used.bytes().iter().enumerate() {
            let from = (at as u64).saturating_mul(8);
            let recorded = if full {
                let inside = blocks.saturating_sub(from).min(8) as u32;
                (0xffu16 >> 8u32.saturating_sub(inside)) as u8
            } else {
                bitmap.get(at).copied().unwrap_or(0)
            };
            marked += u64::from(recorded.count_ones());
            marked_free += u64::from((byte & !recorded).count_ones());
            marked_used += u64::from((recorded & !byte).count_ones());
            let differing = byte ^ recorded;
            if differing != 0 && first.is_none() {
                first = Some(from + u64::from(differing.trailing_zeros()));
            }
        }
        let place =
            place.at_block(number.saturating_mul(GROUP_BLOCKS).saturating_add(first.unwrap_or(0)));
        if marked_free > 0 {
            self.wrong_group(Code::GroupMarkedFree, number, place.with(marked_free, 0))?;
        }
        // What damaged nodes name is not known to be unused.
        if marked_used > 0 && self.complete {
            self.wrong_group(Code::GroupMarkedUsed, number, place.with(marked_used, 0))?;
        }
        if marked != recorded {
            self.wrong_group(Code::GroupCount, number, place.with(recorded, actual))?;
        }
        Ok(())
    }

    fn wrong_group(&mut self, code: Code, number: u64, place: Place) -> Result<()> {
        if self.blocks.wrong_groups.last() != Some(&number) {
            self.blocks.wrong_groups.try_push(number)?;
        }
        self.find(code, place)
    }

    /// After the second pass: groups without an item, free blocks in all, and shared blocks.
    pub(crate) fn finish_blocks(&mut self) -> Result<()> {
        let groups = self.state.blocks.div_ceil(GROUP_BLOCKS);
        let mut used = 0u64;
        for number in 0..groups {
            let in_group = self.blocks.used.bitmap(number).map_or(0, Bitmap::count);
            used = used.saturating_add(in_group);
            if in_group > 0 && !self.blocks.compared.contains(number) {
                let key = Key::new(0, crate::key::Kind::Group, number);
                let place = Place::key(key).with(0, in_group);
                self.wrong_group(Code::GroupMissing, number, place)?;
            }
        }
        self.sink.report.blocks_used = used;
        let free = self.state.blocks.saturating_sub(used);
        if self.complete && free != self.state.blocks_free {
            self.find(Code::FreeCount, Place::default().with(self.state.blocks_free, free))?;
        }
        self.nodes_named_by_extents()?;
        self.count_shared()
    }

    /// Blocks that are tree nodes and data at once.
    fn nodes_named_by_extents(&mut self) -> Result<()> {
        let groups = self.state.blocks.div_ceil(GROUP_BLOCKS);
        for number in 0..groups {
            let mut bit = 0;
            while let (Some(nodes), Some(many)) =
                (self.blocks.nodes.bitmap(number), self.blocks.many.bitmap(number))
            {
                let Some(found) = nodes.next(bit, true) else { break };
                bit = found + 1;
                if many.get(found) {
                    let block = number.saturating_mul(GROUP_BLOCKS).saturating_add(found);
                    self.find(Code::BlockTwice, Place::block(block))?;
                }
            }
        }
        Ok(())
    }

    /// Counts how many extents name each shared block, and compares that with the items.
    fn count_shared(&mut self) -> Result<()> {
        let mut edges: Vec<(u64, bool)> = Vec::new();
        edges
            .try_reserve(self.blocks.sharers.len().saturating_mul(2))
            .map_err(|_| super::MEMORY)?;
        for run in &self.blocks.sharers {
            edges.try_push((run.start, true))?;
            edges.try_push((run.end(), false))?;
        }
        sort_by(&mut edges, |a, b| a < b);
        let mut counted: Vec<SharedRun> = Vec::new();
        let (mut references, mut from) = (0u32, 0u64);
        for &(block, begins) in &edges {
            if references > 1 && block > from {
                push_run(
                    &mut counted,
                    SharedRun { start: from, length: block - from, references },
                )?;
            }
            references =
                if begins { references.saturating_add(1) } else { references.saturating_sub(1) };
            from = block;
        }
        let mut recorded: Vec<SharedRun> = Vec::new();
        for run in &self.blocks.recorded {
            push_run(&mut recorded, *run)?;
        }
        self.sink.report.blocks_shared =
            counted.iter().fold(0, |sum: u64, run| sum.saturating_add(run.length));
        let same = self.complete || recorded.len() == counted.len();
        if same && recorded != counted {
            let first = recorded.iter().zip(counted.iter()).find(|(a, b)| a != b);
            let place = match first {
                Some((found, expected)) => Place::block(found.start.min(expected.start))
                    .with(u64::from(found.references), u64::from(expected.references)),
                None => {
                    let shorter = recorded.len().min(counted.len());
                    let (found, expected) = (recorded.get(shorter), counted.get(shorter));
                    let block = found.or(expected).map_or(0, |run| run.start);
                    Place::block(block).with(
                        found.map_or(1, |run| u64::from(run.references)),
                        expected.map_or(1, |run| u64::from(run.references)),
                    )
                }
            };
            self.blocks.shared_wrong = true;
            self.find(Code::SharedCount, place)?;
        }
        self.blocks.counted = counted;
        Ok(())
    }
}

/// Appends a run, joined with the one before where they meet and agree: items may be cut anywhere.
fn push_run(runs: &mut Vec<SharedRun>, run: SharedRun) -> Result<()> {
    match runs.last_mut() {
        Some(last)
            if last.start.saturating_add(last.length) == run.start
                && last.references == run.references =>
        {
            last.length = last.length.saturating_add(run.length);
        }
        _ => runs.try_push(run)?,
    }
    Ok(())
}
