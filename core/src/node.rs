// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A tree node: the bytes of one block, edited in place.
//!
//! A node in memory is its block on disk. [`Node::check`] is the only way in for bytes from a
//! device; after it, every item lies within the block and the items' bytes are packed without
//! gaps from the end backwards, which the editing here keeps so.

use crate::bytes::{copy, put, shift, u16_at, u32_at, u64_at};
use crate::error::{Result, corrupt};
use crate::key::Key;
use crate::layout::{
    CHILD_BYTES, ITEM_HEADER_BYTES, NODE_HEADER_BYTES, NODE_MAGIC, TREE_LEVELS_MAX,
};
use alloc::boxed::Box;
use vexfs_memory::{copied_bytes, zeroed_bytes};

const LEVEL_AT: usize = 4;
const COUNT_AT: usize = 6;
const BLOCK_AT: usize = 8;
const GENERATION_AT: usize = 16;
const FILESYSTEM_AT: usize = 24;

#[inline]
fn key_at(bytes: &[u8], at: usize) -> Key {
    Key { object: u64_at(bytes, at), kind_offset: u64_at(bytes, at + 8) }
}

/// Where a node is and what it sums to; [`crate::layout::BlockPointerLayout`] in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockPointer {
    pub block: u64,
    pub generation: u64,
    pub checksum: u32,
    pub level: u8,
}

/// How a full leaf is split for a new item.
pub(crate) struct Split {
    /// The first of the present items that goes right.
    pub first_right: usize,
    pub new_goes_right: bool,
}

/// The bytes of one node.
pub(crate) struct Node {
    bytes: Box<[u8]>,
}

impl Node {
    /// An empty node.
    pub fn new(block_bytes: usize, level: u8, filesystem: u64) -> Result<Self> {
        let mut bytes = zeroed_bytes(block_bytes)?;
        put(&mut bytes, 0, NODE_MAGIC.to_le_bytes());
        put(&mut bytes, LEVEL_AT, [level]);
        put(&mut bytes, FILESYSTEM_AT, filesystem.to_le_bytes());
        Ok(Self { bytes })
    }

    /// Takes bytes of a device without trusting them; see [`Node::check`].
    pub fn unchecked(bytes: Box<[u8]>) -> Self {
        Self { bytes }
    }

    /// A copy.
    pub fn duplicate(&self) -> Result<Self> {
        Ok(Self { bytes: copied_bytes(&self.bytes)? })
    }

    /// The block's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Puts back bytes that were the node's from `at` on.
    pub fn restore_bytes(&mut self, at: usize, bytes: &[u8]) {
        copy(self.bytes.get_mut(at..).unwrap_or_default(), bytes);
    }

    /// Checks everything that the other methods rely on, and that this is the node that `pointer`
    /// names. The checksum has been compared before.
    pub fn check(&self, pointer: &BlockPointer, filesystem: u64) -> Result<()> {
        let bad = |what| Err(corrupt(pointer.block, what));
        if u32_at(&self.bytes, 0) != NODE_MAGIC {
            return bad("not a tree node");
        }
        if self.level() != pointer.level || usize::from(pointer.level) >= TREE_LEVELS_MAX {
            return bad("node of another level than its pointer says");
        }
        if u64_at(&self.bytes, BLOCK_AT) != pointer.block {
            return bad("node that belongs to another block");
        }
        if self.generation() != pointer.generation {
            return bad("node of another generation than its pointer says");
        }
        if u64_at(&self.bytes, FILESYSTEM_AT) != filesystem {
            return bad("node of another file system");
        }
        let count = self.count();
        if self.level() > 0 {
            if count == 0 || count > self.children_max() {
                return bad("inner node with an impossible number of children");
            }
            for at in 0..count {
                let child = self.child(at);
                if child.level.checked_add(1) != Some(self.level()) || child.block == 0 {
                    return bad("pointer to a child of a wrong level or to no block");
                }
                if child.generation > pointer.generation {
                    return bad("child younger than its parent");
                }
            }
        } else {
            let headers_end = NODE_HEADER_BYTES + count * ITEM_HEADER_BYTES;
            if headers_end > self.bytes.len() {
                return bad("leaf with more items than fit");
            }
            let mut end = self.bytes.len();
            for at in 0..count {
                let header = self.header_at(at);
                let start = usize::from(u16_at(&self.bytes, header + 16));
                let length = usize::from(u16_at(&self.bytes, header + 18));
                if length == 0 || start + length != end || start < headers_end {
                    return bad("leaf item outside the leaf or out of place");
                }
                end = start;
            }
        }
        let mut before = None;
        for at in 0..count {
            let key = self.key(at);
            if before >= Some(key) {
                return bad("keys of a node out of order");
            }
            before = Some(key);
        }
        Ok(())
    }

    pub fn level(&self) -> u8 {
        self.bytes.get(LEVEL_AT).copied().unwrap_or(0)
    }

    pub fn count(&self) -> usize {
        usize::from(u16_at(&self.bytes, COUNT_AT))
    }

    fn set_count(&mut self, count: usize) {
        put(&mut self.bytes, COUNT_AT, (count as u16).to_le_bytes());
    }

    pub fn generation(&self) -> u64 {
        u64_at(&self.bytes, GENERATION_AT)
    }

    /// Says where the node will be written, and by which transaction.
    pub fn place(&mut self, block: u64, generation: u64) {
        put(&mut self.bytes, BLOCK_AT, block.to_le_bytes());
        put(&mut self.bytes, GENERATION_AT, generation.to_le_bytes());
    }

    fn entry_bytes(&self) -> usize {
        if self.level() == 0 { ITEM_HEADER_BYTES } else { CHILD_BYTES }
    }

    fn header_at(&self, at: usize) -> usize {
        NODE_HEADER_BYTES + at * self.entry_bytes()
    }

    /// The key of item or child `at`.
    pub fn key(&self, at: usize) -> Key {
        key_at(&self.bytes, self.header_at(at))
    }

    /// Whether its keys are from `low` on and below `high`, as its parent says. The first key of an inner
    /// node is the lowest that it may hold, even when nothing with that key is left below it.
    pub fn lies_within(&self, low: Key, high: Option<Key>) -> bool {
        let Some(last) = self.count().checked_sub(1) else { return true };
        let first = self.key(0);
        let starts = if self.level() > 0 { first == low } else { first >= low };
        starts && high.is_none_or(|high| self.key(last) < high)
    }

    /// `Ok` with the place of `key`, or `Err` with the place where it would be.
    pub fn search(&self, key: Key) -> core::result::Result<usize, usize> {
        let entry_bytes = self.entry_bytes();
        let entries = self.bytes.get(NODE_HEADER_BYTES..).unwrap_or_default();
        // No branch that depends on what is compared: which way it goes cannot be foretold.
        let (mut low, mut length) = (0, self.count());
        while length > 0 {
            let half = length.div_ceil(2);
            let last = low + half - 1;
            let below = key_at(entries, last * entry_bytes).as_number() < key.as_number();
            low = if below { low + half } else { low };
            length -= half;
        }
        if low < self.count() && key_at(entries, low * entry_bytes) == key {
            Ok(low)
        } else {
            Err(low)
        }
    }

    // Inner nodes.

    /// Most children of an inner node.
    pub fn children_max(&self) -> usize {
        (self.bytes.len().saturating_sub(NODE_HEADER_BYTES) / CHILD_BYTES)
            .min(usize::from(u16::MAX))
    }

    /// The child whose range holds `key`: the last one whose key is not above it (the first child's
    /// range is open below).
    pub fn child_for(&self, key: Key) -> usize {
        match self.search(key) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    pub fn child(&self, at: usize) -> BlockPointer {
        let header = self.header_at(at);
        BlockPointer {
            block: u64_at(&self.bytes, header + 16),
            generation: u64_at(&self.bytes, header + 24),
            checksum: u32_at(&self.bytes, header + 32),
            level: self.bytes.get(header + 36).copied().unwrap_or(0),
        }
    }

    pub fn set_child(&mut self, at: usize, pointer: &BlockPointer) {
        let header = self.header_at(at);
        put(&mut self.bytes, header + 16, pointer.block.to_le_bytes());
        put(&mut self.bytes, header + 24, pointer.generation.to_le_bytes());
        put(&mut self.bytes, header + 32, pointer.checksum.to_le_bytes());
        put(&mut self.bytes, header + 36, [pointer.level, 0, 0, 0]);
    }

    pub fn set_key(&mut self, at: usize, key: Key) {
        let header = self.header_at(at);
        put(&mut self.bytes, header, key.object.to_le_bytes());
        put(&mut self.bytes, header + 8, key.kind_offset.to_le_bytes());
    }

    /// Inserts a child before `at`; there must be room (`count() < children_max()`).
    pub fn insert_child(&mut self, at: usize, key: Key, pointer: &BlockPointer) {
        let count = self.count();
        let (from, end) = (self.header_at(at), self.header_at(count));
        shift(&mut self.bytes, from..end, from + CHILD_BYTES);
        self.set_count(count + 1);
        self.set_key(at, key);
        self.set_child(at, pointer);
    }

    pub fn remove_child(&mut self, at: usize) {
        let count = self.count();
        let (from, end) = (self.header_at(at + 1), self.header_at(count));
        shift(&mut self.bytes, from..end, from - CHILD_BYTES);
        self.set_count(count.saturating_sub(1));
    }

    // Leaves.

    /// The first byte of the items' data.
    fn data_start(&self) -> usize {
        match self.count().checked_sub(1) {
            Some(last) => usize::from(u16_at(&self.bytes, self.header_at(last) + 16)),
            None => self.bytes.len(),
        }
    }

    /// Bytes that further items, heads included, can take.
    pub fn free_bytes(&self) -> usize {
        if self.level() > 0 {
            return (self.children_max() - self.count().min(self.children_max())) * CHILD_BYTES;
        }
        self.data_start().saturating_sub(self.header_at(self.count()))
    }

    /// Bytes that items, heads included, take now.
    pub fn used_bytes(&self) -> usize {
        self.bytes.len().saturating_sub(NODE_HEADER_BYTES).saturating_sub(self.free_bytes())
    }

    /// Where item `at` lies in the block.
    pub fn item_range(&self, at: usize) -> core::ops::Range<usize> {
        let header = self.header_at(at);
        let start = usize::from(u16_at(&self.bytes, header + 16));
        start..start + usize::from(u16_at(&self.bytes, header + 18))
    }

    pub fn item(&self, at: usize) -> &[u8] {
        self.bytes.get(self.item_range(at)).unwrap_or(&[])
    }

    pub fn item_mut(&mut self, at: usize) -> &mut [u8] {
        let range = self.item_range(at);
        self.bytes.get_mut(range).unwrap_or(&mut [])
    }

    fn set_item(&mut self, at: usize, start: usize, length: usize) {
        let header = self.header_at(at);
        put(&mut self.bytes, header + 16, (start as u16).to_le_bytes());
        put(&mut self.bytes, header + 18, (length as u16).to_le_bytes());
    }

    /// Moves the data of the items from `first` on by `bytes` (down when `grow`, up otherwise).
    fn move_data(&mut self, first: usize, bytes: usize, grow: bool) {
        let count = self.count();
        if first >= count {
            return;
        }
        let (start, end) = (self.data_start(), self.item_range(first).end);
        let to = if grow { start.saturating_sub(bytes) } else { start + bytes };
        shift(&mut self.bytes, start..end, to);
        for at in first..count {
            let range = self.item_range(at);
            let start = if grow { range.start.saturating_sub(bytes) } else { range.start + bytes };
            self.set_item(at, start, range.end - range.start);
        }
    }

    /// Inserts an item of `length` bytes, zeroed, before `at`; `free_bytes()` must hold it and its
    /// head.
    pub fn insert_item(&mut self, at: usize, key: Key, length: usize) {
        let count = self.count();
        let end = match at.checked_sub(1) {
            Some(previous) => self.item_range(previous).start,
            None => self.bytes.len(),
        };
        self.move_data(at, length, true);
        let (from, headers_end) = (self.header_at(at), self.header_at(count));
        shift(&mut self.bytes, from..headers_end, from + ITEM_HEADER_BYTES);
        self.set_count(count + 1);
        self.set_key(at, key);
        self.set_item(at, end.saturating_sub(length), length);
        self.item_mut(at).fill(0);
    }

    /// Removes the items of a range, which are there.
    pub fn remove_items(&mut self, range: core::ops::Range<usize>) {
        let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
            return;
        };
        let count = self.count();
        let bytes = self.item_range(range.start).end.saturating_sub(self.item_range(last).start);
        self.move_data(range.end, bytes, false);
        let headers = self.header_at(range.end)..self.header_at(count);
        let to = self.header_at(range.start);
        shift(&mut self.bytes, headers, to);
        self.set_count(count.saturating_sub(range.len()));
    }

    /// The split that leaves both halves, the new item of `bytes` (with its head) before item `at`
    /// among them, most alike; or the new item alone on the right when it comes last. Both halves fit:
    /// no item takes more than half of a leaf (see [`item_bytes_max`]).
    pub fn split_point(&self, at: usize, bytes: usize) -> Split {
        let count = self.count();
        let mut best = Split { first_right: count, new_goes_right: true };
        if at == count {
            return best;
        }
        let total = self.used_bytes() + bytes;
        let capacity = self.used_bytes() + self.free_bytes();
        let (mut left, mut best_off) = (0, usize::MAX);
        for taken in 1..=count {
            // The left half is the first `taken` items, counting the new one.
            let new_goes_right = taken <= at;
            left += match taken.cmp(&(at + 1)) {
                core::cmp::Ordering::Less => self.item_bytes(taken - 1),
                core::cmp::Ordering::Equal => bytes,
                core::cmp::Ordering::Greater => self.item_bytes(taken - 2),
            };
            let off = (2 * left).abs_diff(total);
            if left <= capacity && total - left <= capacity && off < best_off {
                let first_right = if new_goes_right { taken } else { taken - 1 };
                (best, best_off) = (Split { first_right, new_goes_right }, off);
            }
        }
        best
    }

    /// What item `at` takes of the node.
    fn item_bytes(&self, at: usize) -> usize {
        self.item(at).len() + ITEM_HEADER_BYTES
    }

    /// Moves the items or children from `first` on to the end of `other`, which has room.
    pub fn move_tail(&mut self, first: usize, other: &mut Node) {
        let count = self.count();
        if self.level() > 0 {
            let to = other.header_at(other.count());
            if let Some(tail) = self.bytes.get(self.header_at(first)..self.header_at(count))
                && let Some(target) = other.bytes.get_mut(to..)
            {
                copy(target, tail);
            }
            other.set_count(other.count() + count - first);
        } else {
            for at in first..count {
                let (key, length) = (self.key(at), self.item(at).len());
                let to = other.count();
                other.insert_item(to, key, length);
                copy(other.item_mut(to), self.item(at));
            }
        }
        // The tail's data lies lowest, so cutting the count frees it.
        self.set_count(first);
    }

    fn free_range(&self) -> core::ops::Range<usize> {
        let end = if self.level() > 0 { self.bytes.len() } else { self.data_start() };
        self.header_at(self.count())..end
    }

    /// The bytes that are not in use.
    pub fn free_space(&self) -> &[u8] {
        self.bytes.get(self.free_range()).unwrap_or(&[])
    }

    /// Damages a byte, for tests.
    #[cfg(test)]
    pub fn edit(&mut self, at: usize, value: u8) {
        self.bytes[at] ^= value;
    }

    /// Zeroes what is not in use, so that a block on disk tells nothing of what it held before.
    pub fn wipe_free(&mut self) {
        let range = self.free_range();
        if let Some(free) = self.bytes.get_mut(range) {
            free.fill(0);
        }
    }
}

/// The largest item of a leaf: two of them fit, so that any split makes room for one more.
pub(crate) const fn item_bytes_max(block_bytes: usize) -> usize {
    (block_bytes - NODE_HEADER_BYTES) / 2 - ITEM_HEADER_BYTES
}
