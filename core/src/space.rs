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

use crate::bytes::{copy, u64_at};
use crate::error::{Error, Result, corrupt};
use crate::layout::{GROUP_BITMAP_BYTES, GROUP_BLOCKS};
use crate::superblock::{is_allocatable, reserved_runs};
use alloc::boxed::Box;
use alloc::vec::Vec;
use vexfs_memory::{Table, TryVec, zeroed_bytes};

/// Where the search for data blocks begins in a file system just opened.
const DATA_GOAL: u64 = GROUP_BLOCKS / 8;

/// A run of this length is taken even when more was wanted.
const RUN_BLOCKS_ENOUGH: u64 = 32;
/// Groups that an allocation looks at when their runs are small.
const ALLOCATE_GROUPS_MAX: usize = 8;

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

/// One bit for each block of a group.
pub(crate) struct Bitmap(Box<[u8]>);

impl Bitmap {
    pub fn new() -> Result<Self> {
        Ok(Self(zeroed_bytes(GROUP_BITMAP_BYTES)?))
    }

    pub fn get(&self, bit: u64) -> bool {
        self.0.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Gives the bits this value. Returns how many had the other.
    pub fn set(&mut self, from: u64, length: u64, value: bool) -> u64 {
        let (mut bit, end) = (from, (from + length).min(GROUP_BLOCKS));
        let mut changed = 0;
        while bit < end {
            let Some(byte) = self.0.get_mut((bit / 8) as usize) else { break };
            let (mask, bits) =
                if bit % 8 == 0 && end - bit >= 8 { (0xff, 8) } else { (1u8 << (bit % 8), 1) };
            let after = if value { *byte | mask } else { *byte & !mask };
            changed += u64::from((*byte ^ after).count_ones());
            *byte = after;
            bit += bits;
        }
        changed
    }

    /// The first bit at or after `from` that has this value.
    pub fn next(&self, from: u64, value: bool) -> Option<u64> {
        let mut bit = from;
        while bit < GROUP_BLOCKS {
            let word = u64_at(&self.0, (bit / 64 * 8) as usize);
            let word = if value { word } else { !word } >> (bit % 64);
            if word != 0 {
                let found = bit + u64::from(word.trailing_zeros());
                return (found < GROUP_BLOCKS).then_some(found);
            }
            bit = (bit / 64 + 1) * 64;
        }
        None
    }

    pub fn count(&self) -> u64 {
        self.0.chunks_exact(8).map(|word| u64::from(u64_at(word, 0).count_ones())).sum()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A loaded group.
struct Group {
    used: Bitmap,
    used_count: u64,
    available: Bitmap,
    available_count: u64,
    /// `used` differs from the group's item in the tree.
    changed: bool,
    /// The last transaction whose closing wrote the item.
    written: u64,
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
    /// Numbers of the loaded groups, in the order of their loading.
    loaded: Vec<u64>,
    /// The group to load next; groups are loaded in order from where the first search began.
    next_load: u64,
    first_load: Option<u64>,
    /// Available blocks of all loaded groups.
    available: u64,
    changed_groups: u64,
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
    node_goal: u64,
    data_goal: u64,
}

impl Space {
    /// The space of a file system of this size, of which no group is loaded.
    pub fn new(blocks: u64, block_log2: u32) -> Self {
        Self {
            blocks,
            block_log2,
            groups: Table::new(),
            loaded: Vec::new(),
            next_load: 0,
            first_load: None,
            available: 0,
            changed_groups: 0,
            allocated: Vec::new(),
            detached: Vec::new(),
            adopted: Vec::new(),
            freed: Vec::new(),
            in_flight: 0,
            promised: 0,
            retiring: Vec::new(),
            retired: Vec::new(),
            releasing: false,
            node_goal: 0,
            // Data starts behind some blocks for nodes, so that files come out in one piece.
            data_goal: DATA_GOAL.min(blocks / 8),
        }
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
        self.available
    }

    /// Groups whose item in the tree has to be written.
    pub fn changed_groups(&self) -> u64 {
        self.changed_groups
    }

    /// Whether committing would make more blocks available.
    pub fn has_retired(&self) -> bool {
        !self.retiring.is_empty() || !self.retired.is_empty() || self.releasing
    }

    /// Whether the group is in memory.
    pub fn is_loaded(&self, number: u64) -> bool {
        self.groups.contains(number)
    }

    /// The next group that `Tree::ensure` should load, if any is left.
    pub fn next_unloaded(&mut self) -> Option<u64> {
        let count = self.group_count();
        let mut steps = 0;
        while steps <= count {
            let number = self.next_load;
            if self.first_load == Some(number) {
                return None;
            }
            self.first_load.get_or_insert(number);
            self.next_load = if number + 1 < count { number + 1 } else { 0 };
            if !self.is_loaded(number) {
                return Some(number);
            }
            steps += 1;
        }
        None
    }

    /// The group that [`Space::next_unloaded`] named could not be loaded: it is named again, or its
    /// blocks would count as used for as long as the file system is open.
    pub fn load_again(&mut self, number: u64) {
        self.next_load = number;
        if self.first_load == Some(number) {
            self.first_load = None;
        }
    }

    /// Takes a group's item in: `None` when the tree has none, else its used count and bitmap.
    pub fn load(&mut self, number: u64, item: Option<(u64, Option<&[u8]>)>) -> Result<()> {
        if self.is_loaded(number) {
            return Ok(());
        }
        let blocks = self.group_blocks(number);
        let (mut used, mut available) = (Bitmap::new()?, Bitmap::new()?);
        let used_count = match item {
            None => 0,
            Some((count, None)) => {
                if count != blocks {
                    return Err(corrupt(number, "full group that is not full"));
                }
                used.set(0, blocks, true);
                count
            }
            Some((count, Some(bitmap))) => {
                copy(&mut used.0, bitmap);
                if used.count() != count || used.next(blocks, true).is_some() {
                    return Err(corrupt(number, "group whose count and bitmap disagree"));
                }
                count
            }
        };
        for (to, from) in available.0.iter_mut().zip(used.0.iter()) {
            *to = !*from;
        }
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
        let group =
            Group { used, used_count, available, available_count, changed: false, written: 0 };
        self.groups.try_insert(number, group)?;
        self.loaded.try_push(number)?;
        self.available += available_count;
        Ok(())
    }

    /// Marks blocks as used without an operation: those that a new file system never gives out.
    pub fn reserve(&mut self, run: Run) -> Result<()> {
        for_groups(run, |number, from, length| {
            let group = self.groups.get_mut(number).ok_or(Error::NoSpace)?;
            group.used_count += group.used.set(from, length, true);
            let taken = group.available.set(from, length, false);
            group.available_count -= taken;
            self.available -= taken;
            if !group.changed {
                group.changed = true;
                self.changed_groups += 1;
            }
            Ok(())
        })
    }

    /// A block for a tree node.
    pub fn allocate_node(&mut self) -> Result<u64> {
        self.allocated.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let run = self.allocate(1, self.node_goal)?;
        self.allocated.try_push(run)?;
        self.node_goal = run.end();
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

    /// One run of 1 to `wanted` blocks, looking from the goal's group on: the first that is not
    /// small, or the longest of the first groups with any.
    fn allocate(&mut self, wanted: u64, goal: u64) -> Result<Run> {
        let enough = wanted.min(RUN_BLOCKS_ENOUGH);
        let mut best: Option<Run> = None;
        let mut number = goal / GROUP_BLOCKS;
        let mut from = goal % GROUP_BLOCKS;
        for attempt in 0..ALLOCATE_GROUPS_MAX {
            let here = self.groups.get(number).filter(|group| group.available_count > 0);
            if let Some((start, length)) =
                here.and_then(|group| longest_run(&group.available, from, wanted))
                && best.is_none_or(|best| length > best.length)
            {
                best = Some(Run { start: number * GROUP_BLOCKS + start, length });
            }
            if best.is_some_and(|best| best.length >= enough) || attempt > self.loaded.len() {
                break;
            }
            match self.group_after(number) {
                Some(next) => (number, from) = (next, 0),
                None => break,
            }
        }
        let run = best.ok_or(Error::NoSpace)?;
        for_groups(run, |number, start, length| {
            if let Some(group) = self.groups.get_mut(number) {
                let taken = group.available.set(start, length, false);
                group.available_count -= taken;
                self.available -= taken;
            }
            Ok(())
        })?;
        Ok(run)
    }

    /// The next loaded group with available blocks, in order of their numbers and once around.
    fn group_after(&self, number: u64) -> Option<u64> {
        let mut after: Option<u64> = None;
        let mut lowest: Option<u64> = None;
        for &candidate in &self.loaded {
            if self.groups.get(candidate).is_none_or(|group| group.available_count == 0) {
                continue;
            }
            if candidate > number && after.is_none_or(|best| candidate < best) {
                after = Some(candidate);
                if candidate == number + 1 {
                    break;
                }
            }
            if lowest.is_none_or(|best| candidate < best) {
                lowest = Some(candidate);
            }
        }
        after.or(lowest)
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
        let (mut newly_changed, mut newly_available, mut marked) = (0, 0, 0);
        let _ = for_groups(run, |number, from, length| {
            let Some(group) = self.groups.get_mut(number) else { return Ok(()) };
            let changed = group.used.set(from, length, used);
            group.used_count =
                if used { group.used_count + changed } else { group.used_count - changed };
            marked += changed;
            if available {
                let newly = group.available.set(from, length, true);
                group.available_count += newly;
                newly_available += newly;
            }
            if !group.changed {
                group.changed = true;
                newly_changed += 1;
            }
            Ok(())
        });
        self.changed_groups += newly_changed;
        self.available += newly_available;
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
        let mut newly = 0;
        let _ = for_groups(run, |number, from, length| {
            if let Some(group) = self.groups.get_mut(number) {
                let given = group.available.set(from, length, true);
                group.available_count += given;
                newly += given;
            }
            Ok(())
        });
        self.available += newly;
    }

    /// Numbers of all groups whose items have to be written, in order.
    pub fn changed_list(&self) -> Result<Vec<u64>> {
        let mut list = Vec::new();
        list.try_reserve(self.changed_groups as usize).map_err(|_| Error::OutOfMemory)?;
        for (number, group) in self.groups.iter() {
            if group.changed {
                list.try_push(number)?;
            }
        }
        vexfs_memory::sort_by(&mut list, |a, b| a < b);
        Ok(list)
    }

    /// The used count and bitmap of a loaded group, and the last transaction whose closing wrote
    /// its item.
    pub fn group(&self, number: u64) -> Option<(u64, &[u8], u64)> {
        self.groups.get(number).map(|group| (group.used_count, &*group.used.0, group.written))
    }

    /// The item of group `number` has been written, in closing transaction `generation`.
    pub fn written(&mut self, number: u64, generation: u64) {
        if let Some(group) = self.groups.get_mut(number)
            && group.changed
        {
            group.written = generation;
            group.changed = false;
            self.changed_groups -= 1;
        }
    }

    /// Marks the item of group `number` as to be written again (its writing was undone).
    pub fn unwritten(&mut self, number: u64) {
        if let Some(group) = self.groups.get_mut(number)
            && !group.changed
        {
            group.changed = true;
            self.changed_groups += 1;
        }
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

/// The first run of `wanted` set bits at or after `from`, else the longest of the whole bitmap.
fn longest_run(bitmap: &Bitmap, from: u64, wanted: u64) -> Option<(u64, u64)> {
    let mut best: Option<(u64, u64)> = None;
    for origin in [from, 0] {
        let mut bit = origin;
        while let Some(start) = bitmap.next(bit, true) {
            let limit = start.saturating_add(wanted);
            let end = bitmap.next(start, false).unwrap_or(GROUP_BLOCKS);
            if end >= limit {
                return Some((start, wanted));
            }
            if best.is_none_or(|(_, length)| end - start > length) {
                best = Some((start, end - start));
            }
            bit = end;
        }
        if from == 0 {
            break;
        }
    }
    best
}

#[cfg(test)]
impl Space {
    /// The group that the next node comes from, and how many blocks are available in it.
    pub fn node_group(&self) -> (u64, u64) {
        let number = self.node_goal / GROUP_BLOCKS;
        (number, self.groups.get(number).map_or(0, |group| group.available_count))
    }

    /// Whether `block` is used, when its group is loaded.
    pub fn is_used(&self, block: u64) -> Option<bool> {
        self.groups.get(block / GROUP_BLOCKS).map(|group| group.used.get(block % GROUP_BLOCKS))
    }
}
