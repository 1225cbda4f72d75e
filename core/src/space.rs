// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Free space in memory: which blocks may be given out, and which the open transaction uses.
//!
//! Blocks are handled in groups of [`GROUP_BLOCKS`], loaded from the tree when needed. A block is
//! *used* when the open transaction's state names it, and *available* when it may be given out:
//! not used, not named by any state that a superblock copy names, and not on its way into the
//! state. Freed blocks are *retired* until no copy names a state that used them.
//!
//! Blocks for data are *in flight* from their allocation until an operation adopts them: neither
//! used, so that a commit in between does not persist them and a crash leaks nothing, nor
//! available. Blocks may also be *promised*: counted for writes to come, and not chosen yet.
//!
//! Nodes and data keep apart as far as there is room, because each change of a node frees a block
//! and so changes the group that the block is in: the fewer groups have nodes, the fewer items of
//! groups does a commit write. The first groups are for the nodes that lead to the groups' own
//! items, which every commit copies, the next ones for all other nodes, the rest for data; when
//! one part is full, the others serve.
//!
//! A group is *settled* when each of its blocks is used or available and the tree has its item as
//! it is. Then memory knows nothing of it that the item does not tell, and it may be unloaded.

mod bitmap;
mod group_set;

use crate::error::{Error, Result, corrupt};
use crate::layout::GROUP_BLOCKS;
use crate::superblock::{is_allocatable, reserved_runs};
use alloc::boxed::Box;
use alloc::vec::Vec;
pub(crate) use bitmap::Bitmap;
use group_set::GroupSet;
use vexfs_memory::{Table, TryVec, try_box};

/// Where the search for data blocks begins in a file system just opened.
const DATA_GOAL: u64 = GROUP_BLOCKS / 8;

/// A run of this length is taken even when more was wanted.
const RUN_BLOCKS_ENOUGH: u64 = 256;
/// Groups near its goal that an allocation looks at when their runs are small.
const GROUPS_NEAR: usize = 8;
/// Groups that it looks at elsewhere then. What was found of most is remembered.
const GROUPS_FAR: usize = 64;

/// Loaded groups above which settled ones are unloaded: about 9 MiB.
const LOADED_GROUPS_MAX: usize = 4096;
/// Loaded groups that one operation considers for that at most.
const UNLOAD_STEPS_MAX: usize = 256;

/// A file system of fewer groups has none for nodes only.
const NODE_GROUPS_FROM: u64 = 8;
/// One in so many groups is for nodes, those of the groups' items included.
const NODE_GROUPS_SHARE: u64 = 32;
/// A file system of fewer groups has none only for the nodes of the groups' items.
const ITEM_GROUPS_FROM: u64 = 64;
/// Groups whose items fill at most one group with nodes: two in a leaf.
const ITEM_GROUPS_SHARE: u64 = 2 * GROUP_BLOCKS;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub start: u64,
    pub length: u64,
}

impl Run {
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// A loaded group.
struct Group {
    used: Bitmap,
    used_count: u64,
    available: Bitmap,
    available_count: u64,
    /// No run of available blocks is longer.
    longest: u64,
    /// The last transaction whose closing wrote the item.
    written: u64,
}

/// What groups are for, as long as there is room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nodes that lead to the groups' items.
    Items,
    /// Other nodes.
    Nodes,
    Data,
}

impl Part {
    const COUNT: usize = 3;
}

/// What an operation frees.
#[derive(Clone, Copy)]
struct Freed {
    run: Run,
    /// Allocated by the open transaction, so no published state names it.
    fresh: bool,
}

/// Blocks freed by a transaction that has been, or is being, published.
struct Retired {
    generation: u64,
    runs: Vec<Run>,
}

/// The allocator.
pub(crate) struct Space {
    blocks: u64,
    block_log2: u32,
    groups: Table<Group>,
    /// Numbers of the loaded groups, in no order.
    loaded: Vec<u64>,
    /// How many groups may stay loaded.
    loaded_max: usize,
    /// The one of `loaded` to consider next for unloading.
    unload_next: usize,
    /// Loaded groups with available blocks.
    open: GroupSet,
    /// Groups that need not be loaded to find available blocks: they are, or were full when they
    /// were unloaded, and are loaded before a block of them is freed.
    known: GroupSet,
    /// Groups whose `used` differs from their item in the tree.
    changed: GroupSet,
    /// The group for data to load next, if it is not known yet.
    data_load: u64,
    /// The last allocation got less than it wanted: other groups may have more in a row.
    scattered: bool,
    /// Below are the groups for nodes that lead to the groups' items.
    item_groups: u64,
    /// Below are these and the groups for other nodes; from here on are those for data.
    node_groups: u64,
    /// Available blocks of the loaded groups, by what the groups are for.
    available: [u64; Part::COUNT],
    /// The open operation's.
    allocated: Vec<Run>,
    detached: Vec<Run>,
    adopted: Vec<Run>,
    freed: Vec<Freed>,
    /// Blocks in flight.
    in_flight: u64,
    promised: u64,
    /// The open transaction's.
    retiring: Vec<Run>,
    retired: Vec<Retired>,
    /// Blocks are on their way from `retired` to being available.
    releasing: bool,
    /// Blocks of `retiring` and `retired`.
    retired_blocks: u64,
    /// The groups' items are being written: nodes are for them.
    writing_items: bool,
    item_goal: u64,
    node_goal: u64,
    data_goal: u64,
}

impl Space {
    /// The space of a file system of this size, of which no group is loaded.
    #[inline(never)] // its frame must not add to that of who opens a file system
    pub fn new(blocks: u64, block_log2: u32) -> Result<Box<Self>> {
        let groups = blocks.div_ceil(GROUP_BLOCKS);
        let node_groups = match groups {
            0..NODE_GROUPS_FROM => 0,
            _ => groups.div_ceil(NODE_GROUPS_SHARE),
        };
        let item_groups = match groups {
            0..ITEM_GROUPS_FROM => 0,
            _ => groups.div_ceil(ITEM_GROUPS_SHARE),
        };
        Ok(try_box(Self {
            blocks,
            block_log2,
            groups: Table::new(),
            loaded: Vec::new(),
            loaded_max: LOADED_GROUPS_MAX,
            unload_next: 0,
            open: GroupSet::new(),
            known: GroupSet::new(),
            changed: GroupSet::new(),
            data_load: node_groups,
            scattered: false,
            item_groups,
            node_groups,
            available: [0; Part::COUNT],
            allocated: Vec::new(),
            detached: Vec::new(),
            adopted: Vec::new(),
            freed: Vec::new(),
            in_flight: 0,
            promised: 0,
            retiring: Vec::new(),
            retired: Vec::new(),
            releasing: false,
            retired_blocks: 0,
            writing_items: false,
            item_goal: 0,
            node_goal: item_groups * GROUP_BLOCKS,
            // Data starts behind some blocks for nodes, so that files come out in one piece.
            data_goal: match node_groups {
                0 => DATA_GOAL.min(blocks / 8),
                _ => node_groups * GROUP_BLOCKS,
            },
        })?)
    }

    pub fn group_count(&self) -> u64 {
        self.blocks.div_ceil(GROUP_BLOCKS)
    }

    /// Blocks of group `number`, all but the last have [`GROUP_BLOCKS`].
    pub fn group_blocks(&self, number: u64) -> u64 {
        self.blocks.saturating_sub(number.saturating_mul(GROUP_BLOCKS)).min(GROUP_BLOCKS)
    }

    /// Available blocks of the loaded groups.
    pub fn available(&self) -> u64 {
        self.available.iter().sum()
    }

    fn available_for(&self, part: Part) -> u64 {
        self.available.get(part as usize).copied().unwrap_or(0)
    }

    /// The group that the nodes of a new file system come from.
    pub fn first_node_group(&self) -> u64 {
        self.item_groups
    }

    fn part(&self, number: u64) -> Part {
        match number {
            _ if number < self.item_groups => Part::Items,
            _ if number < self.node_groups => Part::Nodes,
            _ => Part::Data,
        }
    }

    /// The groups of a part: from the first to the one below the second.
    fn part_range(&self, part: Part) -> (u64, u64) {
        match part {
            Part::Items => (0, self.item_groups),
            Part::Nodes => (self.item_groups, self.node_groups),
            Part::Data => (self.node_groups, self.group_count()),
        }
    }

    /// The first loaded group of a part that has available blocks.
    fn first_open(&self, part: Part) -> Option<u64> {
        let (from, to) = self.part_range(part);
        self.open.next(from, to, true)
    }

    /// Groups whose item in the tree has to be written.
    pub fn changed_groups(&self) -> u64 {
        self.changed.len()
    }

    /// Blocks that are freed and may not be given out yet.
    pub fn retired_blocks(&self) -> u64 {
        self.retired_blocks
    }

    /// Whether committing would make more blocks available.
    pub fn has_retired(&self) -> bool {
        !self.retiring.is_empty() || !self.retired.is_empty() || self.releasing
    }

    /// Whether the group is in memory.
    pub fn is_loaded(&self, number: u64) -> bool {
        self.groups.contains(number)
    }

    /// The next group to load so that `wanted` blocks are available, if there is any left: groups
    /// for data until they have so many, and some for nodes.
    pub fn next_to_load(&self, wanted: u64) -> Option<u64> {
        let unknown = |part: Part| {
            let (from, to) = self.part_range(part);
            self.known.next(from, to, false)
        };
        let mut found = None;
        // Groups for nodes come one by one, so that nodes stay together.
        if self.first_open(Part::Items).is_none() {
            found = unknown(Part::Items);
        }
        if found.is_none() && self.available_for(Part::Nodes) < wanted.min(GROUP_BLOCKS / 2) {
            found = unknown(Part::Nodes);
        }
        if found.is_none() && self.available_for(Part::Data) < wanted {
            found = self.unknown_for_data();
        }
        if found.is_none() && self.available() < wanted {
            found = unknown(Part::Nodes).or_else(|| unknown(Part::Items));
        }
        found
    }

    fn unknown_for_data(&self) -> Option<u64> {
        let (from, to) = self.part_range(Part::Data);
        let after = self.known.next(self.data_load, to, false);
        after.or_else(|| self.known.next(from, self.data_load, false))
    }

    /// A group to load because those that are had no long run for the last who wanted one. The next
    /// blocks for data come from it.
    pub fn next_to_widen(&mut self) -> Option<u64> {
        if !core::mem::take(&mut self.scattered) {
            return None;
        }
        let number = self.unknown_for_data()?;
        self.data_load = number + 1;
        self.data_goal = number * GROUP_BLOCKS;
        Some(number)
    }

    /// Unloads settled groups when many are loaded, as long as `wanted` blocks for data stay
    /// available. Outside of an operation.
    pub fn unload(&mut self, wanted: u64) {
        for _ in 0..UNLOAD_STEPS_MAX {
            if self.loaded.len() <= self.loaded_max {
                return;
            }
            let Some(&number) = self.loaded.get(self.unload_next) else {
                self.unload_next = 0;
                continue;
            };
            let available = self.groups.get(number).map_or(0, |group| group.available_count);
            // Groups for nodes are few, and are wanted again soon.
            let needed = match self.part(number) {
                _ if available == 0 => false,
                Part::Data => self.available_for(Part::Data) < wanted.saturating_add(available),
                _ => true,
            };
            if needed || !self.is_settled(number) {
                self.unload_next += 1;
                continue;
            }
            self.groups.remove(number);
            self.loaded.swap_remove(self.unload_next);
            self.known.set(number, available == 0);
            self.count_available(number, -(available as i64));
        }
    }

    /// Whether the group's item tells all there is to know about it.
    fn is_settled(&self, number: u64) -> bool {
        !self.changed.contains(number)
            && self.groups.get(number).is_some_and(|group| {
                group.used_count + group.available_count == self.group_blocks(number)
            })
    }

    /// Takes a group's item in: `None` when the tree has none, else its used count and bitmap.
    pub fn load(&mut self, number: u64, item: Option<(u64, Option<&[u8]>)>) -> Result<()> {
        if self.is_loaded(number) {
            return Ok(());
        }
        let blocks = self.group_blocks(number);
        let mut used = match item {
            Some((_, Some(bitmap))) => Bitmap::from_bytes(bitmap)?,
            _ => Bitmap::new()?,
        };
        let used_count = match item {
            None => 0,
            Some((count, None)) => {
                if count != blocks {
                    return Err(corrupt(number, "full group that is not full"));
                }
                used.set(0, blocks, true);
                count
            }
            Some((count, Some(_))) => {
                if used.count() != count || used.next(blocks, true).is_some() {
                    return Err(corrupt(number, "group whose count and bitmap disagree"));
                }
                count
            }
        };
        let mut available = used.complement()?;
        available.set(blocks, GROUP_BLOCKS - blocks, false);
        // Whatever the group says: what is written to these blocks destroys the superblocks.
        for reserved in reserved_runs(self.blocks, self.block_log2) {
            for_groups(reserved, |group, from, length| {
                if group == number {
                    available.set(from, length, false);
                }
                Ok(())
            })?;
        }
        let available_count = available.count();
        self.loaded.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        for set in [&mut self.open, &mut self.known, &mut self.changed] {
            set.try_reserve(number)?;
        }
        let longest = GROUP_BLOCKS;
        let group = Group { used, used_count, available, available_count, longest, written: 0 };
        self.groups.try_insert(number, group)?;
        self.loaded.try_push(number)?;
        self.known.set(number, true);
        self.count_available(number, available_count as i64);
        if number == self.data_load {
            self.data_load += 1;
        }
        Ok(())
    }

    /// Counts by how many blocks more, or fewer, are available in group `number`, whose own count
    /// is right already.
    fn count_available(&mut self, number: u64, growth: i64) {
        let part = self.part(number) as usize;
        if let Some(available) = self.available.get_mut(part) {
            *available = available.saturating_add_signed(growth);
        }
        let any = self.groups.get(number).is_some_and(|group| group.available_count > 0);
        self.open.set(number, any);
    }

    /// Makes blocks of one loaded group available or not. Blocks that are so already do not count.
    fn set_available(&mut self, number: u64, from: u64, length: u64, value: bool) {
        let Some(group) = self.groups.get_mut(number) else { return };
        let changed = group.available.set(from, length, value);
        if value {
            let end = (from + length).min(GROUP_BLOCKS);
            group.longest = group.longest.max(group.available.run_around(from, end));
        }
        let growth = if value { changed as i64 } else { -(changed as i64) };
        group.available_count = group.available_count.saturating_add_signed(growth);
        self.count_available(number, growth);
    }

    /// Marks blocks as used without an operation: those that a new file system never gives out.
    pub fn reserve(&mut self, run: Run) -> Result<()> {
        for_groups(run, |number, from, length| {
            let group = self.groups.get_mut(number).ok_or(Error::NoSpace)?;
            group.used_count += group.used.set(from, length, true);
            self.set_available(number, from, length, false);
            self.changed.set(number, true);
            Ok(())
        })
    }

    /// Whether the nodes to come lead to the groups' items.
    pub fn writing_items(&mut self, value: bool) {
        self.writing_items = value;
    }

    /// Where to look for the block of a node: a group is used up before the next one is begun, and
    /// that is the first with any, so that nodes stay in few groups.
    fn node_place(&self) -> u64 {
        let (goal, part, other) = match self.writing_items {
            true => (self.item_goal, Part::Items, Part::Nodes),
            false => (self.node_goal, Part::Nodes, Part::Data),
        };
        // Of the block before the goal, because the goal may be the next group's first.
        let number = goal.saturating_sub(1) / GROUP_BLOCKS;
        let own = self.first_open(part);
        if self.open.contains(number) && (own.is_none() || self.part(number) == part) {
            return goal.min(number * GROUP_BLOCKS + GROUP_BLOCKS - 1);
        }
        let found = own.or_else(|| self.first_open(other));
        let found = found.or_else(|| self.open.next(0, self.group_count(), true));
        found.map_or(goal, |number| number * GROUP_BLOCKS)
    }

    /// A block for a tree node.
    pub fn allocate_node(&mut self) -> Result<u64> {
        self.allocated.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let run = self.allocate(1, self.node_place())?;
        self.allocated.try_push(run)?;
        match self.writing_items {
            true => self.item_goal = run.end(),
            false => self.node_goal = run.end(),
        }
        Ok(run.start)
    }

    /// Up to `length` blocks for data, near `goal` when one is given; used when the operation ends.
    pub fn allocate_data(&mut self, length: u64, goal: Option<u64>) -> Result<Run> {
        self.allocated.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let run = self.allocate(length, goal.unwrap_or(self.data_goal))?;
        self.allocated.try_push(run)?;
        self.data_goal = run.end();
        Ok(run)
    }

    /// As [`Space::allocate_data`], but the blocks are in flight when the operation has ended, for
    /// [`Space::adopt`] or [`Space::give_back`].
    pub fn allocate_in_flight(&mut self, length: u64, goal: Option<u64>) -> Result<Run> {
        self.detached.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let run = self.allocate(length, goal.unwrap_or(self.data_goal))?;
        self.detached.try_push(run)?;
        self.data_goal = run.end();
        Ok(run)
    }

    /// Makes blocks in flight part of the state, as of the end of the operation. If it is undone,
    /// they are in flight as before.
    pub fn adopt(&mut self, run: Run) -> Result<()> {
        Ok(self.adopted.try_push(run)?)
    }

    /// Makes blocks in flight available again. Outside of an operation.
    pub fn give_back(&mut self, run: Run) {
        self.in_flight = self.in_flight.saturating_sub(run.length);
        self.make_available(run);
    }

    /// Takes the first `least` available blocks or more of a loaded group that are in a row within
    /// `range`, or their first `most`, and has them in flight. Outside of an operation.
    pub fn hold_available(&mut self, range: Run, least: u64, most: u64) -> Option<Run> {
        let number = range.start / GROUP_BLOCKS;
        let base = number * GROUP_BLOCKS;
        let available = &self.groups.get(number)?.available;
        let (mut bit, end) = (range.start - base, range.end().min(base + GROUP_BLOCKS) - base);
        let length = loop {
            bit = available.next(bit, true).filter(|bit| *bit < end)?;
            let run_end = available.next(bit, false).unwrap_or(GROUP_BLOCKS).min(end);
            if run_end - bit >= least.max(1) {
                break (run_end - bit).min(most);
            }
            bit = run_end;
        };
        self.set_available(number, bit, length, false);
        self.in_flight += length;
        Some(Run { start: base + bit, length })
    }

    /// Whether a block may be given out, as far as is known without loading its group.
    pub fn is_available(&self, block: u64) -> bool {
        let group = self.groups.get(block / GROUP_BLOCKS);
        group.is_some_and(|group| group.available.get(block % GROUP_BLOCKS))
    }

    /// Blocks in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Blocks promised to writes to come, with what the tree may need to name them: one in 16.
    pub fn promised(&self) -> u64 {
        self.promised.saturating_add(self.promised / 16)
    }

    /// Promises blocks.
    pub fn promise(&mut self, blocks: u64) {
        self.promised = self.promised.saturating_add(blocks);
    }

    /// Takes a promise back.
    pub fn unpromise(&mut self, blocks: u64) {
        self.promised = self.promised.saturating_sub(blocks);
    }

    /// One run of 1 to `wanted` blocks: the first that is not small, looking from the goal's group on
    /// and then from where data was last put, or the longest of the groups looked at.
    fn allocate(&mut self, wanted: u64, goal: u64) -> Result<Run> {
        let enough = wanted.min(RUN_BLOCKS_ENOUGH);
        let mut best = Run { start: 0, length: 0 };
        for (goal, groups) in [(goal, GROUPS_NEAR), (self.data_goal, GROUPS_FAR)] {
            self.find_run(wanted, enough, goal, groups, &mut best);
            if best.length >= enough {
                break;
            }
        }
        // Until the next operation loads more: that the rest of what was wanted fits says nothing.
        self.scattered |= wanted > 1 && best.length < enough;
        if best.length == 0 {
            return Err(Error::NoSpace);
        }
        for_groups(best, |number, start, length| {
            self.set_available(number, start, length, false);
            Ok(())
        })?;
        Ok(best)
    }

    /// Looks at so many groups for a run that is longer than `best`, until it is enough.
    fn find_run(&mut self, wanted: u64, enough: u64, goal: u64, groups: usize, best: &mut Run) {
        let (mut number, mut from) = (goal / GROUP_BLOCKS, goal % GROUP_BLOCKS);
        for attempt in 0..groups {
            if let Some(group) = self.groups.get_mut(number)
                && group.available_count > 0
                && group.longest > best.length
                && let Some((start, length)) = group.available.longest_run(from, wanted)
            {
                if length < wanted {
                    group.longest = length;
                }
                if length > best.length {
                    *best = Run { start: number * GROUP_BLOCKS + start, length };
                }
            }
            if best.length >= enough || attempt as u64 > self.open.len() {
                return;
            }
            match self.group_after(number) {
                Some(next) => (number, from) = (next, 0),
                None => return,
            }
        }
    }

    /// The next loaded group with available blocks, in order of their numbers and once around, so
    /// that those for nodes come last.
    fn group_after(&self, number: u64) -> Option<u64> {
        // Within its part of the groups first, and then the parts from that for data down.
        let (_, end) = self.part_range(self.part(number));
        self.open
            .next(number + 1, end, true)
            .or_else(|| self.first_open(Part::Data))
            .or_else(|| self.first_open(Part::Nodes))
            .or_else(|| self.first_open(Part::Items))
    }

    /// Frees blocks, as of the end of the operation. `fresh` when the open transaction allocated
    /// them.
    pub fn free(&mut self, run: Run, fresh: bool) -> Result<()> {
        if !is_allocatable(self.blocks, self.block_log2, run) {
            return Err(corrupt(run.start, "freeing blocks that are never given out"));
        }
        if let Some(last) = self.freed.last_mut()
            && last.fresh == fresh
            && last.run.end() == run.start
        {
            last.run.length += run.length;
            return Ok(());
        }
        Ok(self.freed.try_push(Freed { run, fresh })?)
    }

    /// A group that has to be loaded before [`Space::finish`].
    pub fn unloaded_for_finish(&self) -> Option<u64> {
        let mut missing = None;
        for freed in &self.freed {
            let _ = for_groups(freed.run, |number, _, _| {
                if !self.is_loaded(number) {
                    missing = Some(number);
                }
                Ok(())
            });
        }
        missing
    }

    /// Ends the operation: what it allocated is used, what it freed is not. Returns by how many
    /// blocks the number of used ones grew. On error nothing has changed.
    pub fn finish(&mut self) -> Result<i64> {
        // In order, so that runs which name one block twice are neighbours.
        vexfs_memory::sort_by(&mut self.freed, |a, b| a.run.start < b.run.start);
        let mut end = 0;
        for freed in &self.freed {
            if freed.run.start < end {
                return Err(corrupt(freed.run.start, "freeing a block twice"));
            }
            end = freed.run.end();
            for_groups(freed.run, |number, from, length| {
                let group = self.groups.get(number).ok_or(Error::NoSpace)?;
                let end = from + length;
                if group.used.next(from, false).is_some_and(|bit| bit < end) {
                    // A block allocated by this very operation is not used yet.
                    let mut bit = from;
                    while let Some(unused) = group.used.next(bit, false).filter(|bit| *bit < end) {
                        let block = number * GROUP_BLOCKS + unused;
                        let mut own = self.allocated.iter().chain(&self.adopted);
                        let own = own.any(|run| run.start <= block && block < run.end());
                        if !own {
                            return Err(corrupt(block, "freeing a block that is not in use"));
                        }
                        bit = unused + 1;
                    }
                }
                Ok(())
            })?;
        }
        self.retiring.try_reserve(self.freed.len()).map_err(|_| Error::OutOfMemory)?;
        let mut growth = 0i64;
        let allocated = core::mem::take(&mut self.allocated);
        let adopted = core::mem::take(&mut self.adopted);
        for run in allocated.iter().chain(&adopted) {
            growth += self.mark(*run, true, false) as i64;
        }
        for run in &adopted {
            self.in_flight = self.in_flight.saturating_sub(run.length);
        }
        for run in &self.detached {
            self.in_flight += run.length;
        }
        let freed = core::mem::take(&mut self.freed);
        for freed in &freed {
            growth -= self.mark(freed.run, false, freed.fresh) as i64;
            if !freed.fresh {
                self.retired_blocks += freed.run.length;
                match self.retiring.last_mut() {
                    Some(last) if last.end() == freed.run.start => last.length += freed.run.length,
                    _ => self.retiring.try_push(freed.run)?,
                }
            }
        }
        // The vectors go back for the next operation.
        self.allocated = allocated;
        self.adopted = adopted;
        self.freed = freed;
        self.allocated.clear();
        self.adopted.clear();
        self.detached.clear();
        self.freed.clear();
        Ok(growth)
    }

    /// Marks blocks as used or not, and as available. Returns of how many the use changed: counts
    /// follow the bitmap, whatever was asked for.
    fn mark(&mut self, run: Run, used: bool, available: bool) -> u64 {
        let mut marked = 0;
        let _ = for_groups(run, |number, from, length| {
            let Some(group) = self.groups.get_mut(number) else { return Ok(()) };
            let changed = group.used.set(from, length, used);
            group.used_count =
                if used { group.used_count + changed } else { group.used_count - changed };
            marked += changed;
            if available {
                self.set_available(number, from, length, true);
            }
            self.changed.set(number, true);
            Ok(())
        });
        marked
    }

    /// Undoes the operation.
    pub fn abort(&mut self) {
        let allocated = core::mem::take(&mut self.allocated);
        let detached = core::mem::take(&mut self.detached);
        for run in allocated.iter().chain(&detached) {
            self.make_available(*run);
        }
        self.allocated = allocated;
        self.detached = detached;
        self.allocated.clear();
        self.detached.clear();
        self.adopted.clear();
        self.freed.clear();
    }

    fn make_available(&mut self, run: Run) {
        let _ = for_groups(run, |number, from, length| {
            self.set_available(number, from, length, true);
            Ok(())
        });
    }

    /// Numbers of all groups whose items have to be written, in order.
    pub fn changed_list(&self) -> Result<Vec<u64>> {
        let mut list = Vec::new();
        list.try_reserve(self.changed.len() as usize).map_err(|_| Error::OutOfMemory)?;
        let (mut from, count) = (0, self.group_count());
        while let Some(number) = self.changed.next(from, count, true) {
            list.try_push(number)?;
            from = number + 1;
        }
        Ok(list)
    }

    /// The used count and bitmap of a loaded group, and the last transaction whose closing wrote
    /// its item.
    pub fn group(&self, number: u64) -> Option<(u64, &[u8], u64)> {
        self.groups.get(number).map(|group| (group.used_count, group.used.bytes(), group.written))
    }

    /// The item of group `number` has been written, in closing transaction `generation`.
    pub fn written(&mut self, number: u64, generation: u64) {
        if let Some(group) = self.groups.get_mut(number) {
            group.written = generation;
            self.changed.set(number, false);
        }
    }

    /// Marks the item of group `number` as to be written again (its writing was undone).
    pub fn unwritten(&mut self, number: u64) {
        self.changed.set(number, true);
    }

    /// The open transaction, `generation`, is closed; what it freed is retired. Cannot fail after
    /// [`Space::prepare_freeze`].
    pub fn freeze(&mut self, generation: u64) {
        let runs = core::mem::take(&mut self.retiring);
        if !runs.is_empty() {
            let _ = self.retired.try_push(Retired { generation, runs });
        }
    }

    pub fn prepare_freeze(&mut self) -> Result<()> {
        self.retired.try_reserve(1).map_err(|_| Error::OutOfMemory)
    }

    /// No superblock copy names a state before `generation` any more: takes out what that transaction
    /// or an earlier one freed, if anything is left, for [`Space::release`]. In between, others may
    /// use the file system, and the blocks are neither used nor available.
    pub fn take_retired(&mut self, generation: u64) -> Option<Vec<Run>> {
        let due = |retired: &Retired| retired.generation <= generation;
        let at = self.retired.iter().position(due)?;
        // The order of the list does not matter.
        let last = self.retired.len() - 1;
        self.retired.swap(at, last);
        let retired = self.retired.pop()?;
        self.releasing = true;
        Some(retired.runs)
    }

    /// Makes the blocks of [`Space::take_retired`] available.
    pub fn release(&mut self, runs: Vec<Run>) {
        for run in runs {
            // Not settled until now, its groups are loaded.
            self.retired_blocks = self.retired_blocks.saturating_sub(run.length);
            self.make_available(run);
        }
        self.releasing = false;
    }
}

/// Calls `each` with (group, first bit, bits) for the parts of `run`.
pub(crate) fn for_groups(
    run: Run,
    mut each: impl FnMut(u64, u64, u64) -> Result<()>,
) -> Result<()> {
    let mut block = run.start;
    while block < run.end() {
        let from = block % GROUP_BLOCKS;
        let length = (GROUP_BLOCKS - from).min(run.end() - block);
        each(block / GROUP_BLOCKS, from, length)?;
        block += length;
    }
    Ok(())
}

#[cfg(test)]
impl Space {
    /// Sets how many groups may stay loaded.
    pub fn set_loaded_max(&mut self, groups: usize) {
        self.loaded_max = groups;
    }

    /// How many groups are loaded.
    pub fn loaded(&self) -> usize {
        self.loaded.len()
    }

    /// The group that the next node comes from, and how many blocks are available in it.
    pub fn node_group(&self) -> (u64, u64) {
        let number = self.node_place() / GROUP_BLOCKS;
        (number, self.groups.get(number).map_or(0, |group| group.available_count))
    }

    /// Whether `block` is used, when its group is loaded.
    pub fn is_used(&self, block: u64) -> Option<bool> {
        self.groups.get(block / GROUP_BLOCKS).map(|group| group.used.get(block % GROUP_BLOCKS))
    }
}
