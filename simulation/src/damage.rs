// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Damage to images: bytes that changed on the device, which checksums show, and structures that lie
//! and whose checksums are right, as only a broken or hostile writer makes them.

use crate::random::SeededRandom;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use vexfs_core::layout::{
    BlockPointerLayout, CHILD_BYTES, ChildLayout, EXTENT_UNWRITTEN, ExtentLayout,
    ITEM_HEADER_BYTES, ItemLayout, NODE_HEADER_BYTES, NODE_MAGIC, NodeLayout, SUPERBLOCK_BYTES,
    SUPERBLOCK_COPIES, SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSETS, SuperblockLayout,
};
use zerocopy::{FromBytes, IntoBytes};

/// Kind of an [`ExtentLayout`] item.
const KIND_EXTENT: u8 = 21;
/// Where the checksum of a superblock copy is.
const SUPERBLOCK_CHECKSUM_AT: usize = 8;
/// Where the fields of a superblock end.
const SUPERBLOCK_LAST: usize = 264;
/// Items that hold much begin with what matters.
const ITEM_LAST: usize = 148;

fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(0, bytes)
}

/// A node of the tree, and the way to it.
#[derive(Clone, Debug)]
struct NodePlace {
    block: usize,
    level: u8,
    /// The parent's place in the list, and which of its children this is.
    parent: Option<(usize, usize)>,
}

/// An image in memory, that of a sound file system until it is damaged.
struct Damage<'a> {
    bytes: &'a mut [u8],
    random: &'a mut SeededRandom,
    block_bytes: usize,
    nodes: Vec<NodePlace>,
    /// Offsets of the superblock copies that name the newest state.
    copies: Vec<usize>,
    said: Vec<String>,
}

/// Damages the image of a sound file system, all of it, in one way or several, and says how.
pub fn damage(bytes: &mut [u8], random: &mut SeededRandom) -> Vec<String> {
    let times = if random.percent(60) { 1 } else { 1 + random.below(6) };
    let mut damage = Damage::new(bytes, random).expect("a sound image");
    for _ in 0..times {
        damage.once();
    }
    damage.said
}

impl<'a> Damage<'a> {
    /// `None` if the image has no superblock, or a tree that cannot be walked.
    fn new(bytes: &'a mut [u8], random: &'a mut SeededRandom) -> Option<Self> {
        let newest = copies(bytes).map(|(_, copy)| *copy);
        let newest = newest.max_by_key(|copy| copy.generation.get())?;
        let generation = newest.generation;
        let copies = copies(bytes)
            .filter(|(_, copy)| copy.generation == generation)
            .map(|(offset, _)| offset)
            .collect();
        let block_bytes = 1 << newest.block_log2.get();
        let mut damage =
            Self { bytes, random, block_bytes, nodes: Vec::new(), copies, said: Vec::new() };
        damage.walk(&newest.root)?;
        Some(damage)
    }

    fn walk(&mut self, root: &BlockPointerLayout) -> Option<()> {
        let block = usize::try_from(root.block.get()).ok()?;
        self.nodes.push(NodePlace { block, level: root.level, parent: None });
        let mut at = 0;
        while let Some(NodePlace { block, level, .. }) = self.nodes.get(at).cloned() {
            let node = self.bytes.get(block * self.block_bytes..)?.get(..self.block_bytes)?;
            let head = NodeLayout::ref_from_prefix(node).ok()?.0;
            if head.magic.get() != NODE_MAGIC || head.level != level {
                return None;
            }
            if level > 0 {
                for child in 0..usize::from(head.count.get()) {
                    let from = NODE_HEADER_BYTES + child * CHILD_BYTES;
                    let pointer = ChildLayout::ref_from_prefix(node.get(from..)?).ok()?.0.pointer;
                    let block = usize::try_from(pointer.block.get()).ok()?;
                    self.nodes.push(NodePlace {
                        block,
                        level: pointer.level,
                        parent: Some((at, child)),
                    });
                }
            }
            at += 1;
        }
        Some(())
    }

    fn once(&mut self) {
        match self.random.below(20) {
            0 => self.flip_bits(),
            1 => self.zero_blocks(),
            2 => self.swap_blocks(),
            3 => self.cut_short(),
            4 => self.superblock(),
            5 | 6 => self.node_head(),
            7 => self.item_head(),
            8 => self.child(),
            9 => self.exchange_items(),
            10 => self.data_that_lies(),
            _ => self.item(),
        }
    }

    /// A value that is wrong in a way that matters, for a field that holds `now`.
    fn value(&mut self, now: u64) -> u64 {
        let blocks = (self.bytes.len() / self.block_bytes) as u64;
        match self.random.below(16) {
            0 => 0,
            1 => 1,
            2 => now.wrapping_add(1),
            3 => now.wrapping_sub(1),
            4 => now ^ 1 << self.random.below(64),
            5 => now ^ 1 << self.random.below(16),
            6 => u64::MAX,
            7 => i64::MAX as u64,
            8 => u64::from(u32::MAX),
            9 => blocks - 1 + self.random.below(3),
            10 => self.random.below(blocks),
            11 => 256 + self.random.below(400),
            12 => self.random.below(256),
            13 => 1 << self.random.below(64),
            14 => now.rotate_left(32),
            _ => self.random.number(),
        }
    }

    /// Changes a field of 1, 2, 4 or 8 bytes within `from..to`, and says which.
    fn field(&mut self, from: usize, to: usize, what: &str) {
        let wide = [1, 2, 4, 4, 8, 8][self.random.below(6) as usize];
        let wide = wide.min(to.saturating_sub(from));
        if wide == 0 {
            return;
        }
        // Mostly where fields of this size lie.
        let mut at = from + self.random.below((to - from - wide + 1) as u64) as usize;
        if self.random.percent(80) {
            at = from + (at - from) / wide * wide;
        }
        let mut word = [0; 8];
        word[..wide].copy_from_slice(&self.bytes[at..at + wide]);
        let now = u64::from_le_bytes(word);
        let value = self.value(now);
        self.bytes[at..at + wide].copy_from_slice(&value.to_le_bytes()[..wide]);
        self.said.push(format!("{what}: {wide} bytes at {}: {now:#x} to {value:#x}", at - from));
    }

    fn flip_bits(&mut self) {
        for _ in 0..1 + self.random.below(20) {
            // Half of them where something is.
            let at = if self.random.percent(50) {
                let node = self.random.pick(&self.nodes).expect("a root").block;
                node * self.block_bytes + self.random.below(self.block_bytes as u64) as usize
            } else {
                self.random.below(self.bytes.len() as u64) as usize
            };
            self.bytes[at] ^= 1 << self.random.below(8);
            self.said.push(format!("a bit of byte {at}"));
        }
    }

    /// A block: one of a node, or any.
    fn block(&mut self) -> usize {
        match self.random.percent(60) {
            true => self.random.pick(&self.nodes).expect("a root").block,
            false => self.random.below((self.bytes.len() / self.block_bytes) as u64) as usize,
        }
    }

    fn zero_blocks(&mut self) {
        let (block, count) = (self.block(), 1 + self.random.below(3) as usize);
        let from = block * self.block_bytes;
        let to = (from + count * self.block_bytes).min(self.bytes.len());
        match self.random.percent(50) {
            true => self.bytes[from..to].fill(0),
            false => {
                let noise = self.random.bytes(to - from);
                self.bytes[from..to].copy_from_slice(&noise);
            }
        }
        self.said.push(format!("{count} blocks from {block} lost"));
    }

    fn swap_blocks(&mut self) {
        let (a, b) = (self.block(), self.block());
        let (low, high) = (a.min(b) * self.block_bytes, a.max(b) * self.block_bytes);
        if low < high {
            let (front, back) = self.bytes.split_at_mut(high);
            front[low..low + self.block_bytes].swap_with_slice(&mut back[..self.block_bytes]);
        }
        self.said.push(format!("blocks {a} and {b} exchanged"));
    }

    /// As if the rest of the device were gone.
    fn cut_short(&mut self) {
        let from = self.random.below(self.bytes.len() as u64) as usize / self.block_bytes;
        self.bytes[from * self.block_bytes..].fill(0);
        self.said.push(format!("nothing from block {from} on"));
    }

    fn superblock(&mut self) {
        // A changed identity makes a foreign file system; that is tried, but rarely.
        let from = if self.random.percent(10) { 12 } else { 96 };
        let end = if self.random.percent(10) { SUPERBLOCK_BYTES } else { SUPERBLOCK_LAST };
        let first = self.copies[0];
        self.field(first + from, first + end, "superblock");
        self.spread_superblock();
    }

    /// Makes all copies of the state as the first is, each of which has its own number.
    fn spread_superblock(&mut self) {
        let first = self.copies[0];
        let bytes = self.bytes[first..first + SUPERBLOCK_BYTES].to_vec();
        for copy in self.copies.clone() {
            let number = superblock_mut(self.bytes, copy).copy;
            self.bytes[copy..copy + SUPERBLOCK_BYTES].copy_from_slice(&bytes);
            superblock_mut(self.bytes, copy).copy = number;
            seal_superblock(self.bytes, copy);
        }
    }

    fn node_range(&self, at: usize) -> (usize, usize) {
        let from = self.nodes[at].block * self.block_bytes;
        (from, from + self.block_bytes)
    }

    fn head(&self, at: usize) -> &NodeLayout {
        let (from, to) = self.node_range(at);
        NodeLayout::ref_from_prefix(&self.bytes[from..to]).expect("a whole node").0
    }

    /// A node: of the leaves, or of those above.
    fn pick_node(&mut self, inner: bool) -> Option<usize> {
        let fits: Vec<usize> =
            (0..self.nodes.len()).filter(|at| (self.nodes[*at].level > 0) == inner).collect();
        self.random.pick(&fits).copied()
    }

    fn node_head(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let (from, _) = self.node_range(at);
        self.field(from, from + 32, "head of a node");
        self.seal(at);
    }

    /// The items of a leaf: where each one's head is, its kind, and its bytes.
    fn items(&self, at: usize) -> Vec<(usize, u8, Range<usize>)> {
        let (from, to) = self.node_range(at);
        let count = usize::from(self.head(at).count.get());
        let heads = (0..count).map(|item| from + NODE_HEADER_BYTES + item * ITEM_HEADER_BYTES);
        heads
            .filter_map(|head| {
                let bytes = self.bytes.get(head..to)?;
                let item = ItemLayout::ref_from_prefix(bytes).ok()?.0;
                let start = from + usize::from(item.start.get());
                let end = start + usize::from(item.length.get());
                let kind = (item.kind_offset.get() >> 56) as u8;
                (end <= to).then_some((head, kind, start..end))
            })
            .collect()
    }

    /// An item of any kind there is, each kind as often as the others.
    fn pick_item(&mut self, of: Option<u8>) -> Option<(usize, usize, u8, Range<usize>)> {
        let leaves: Vec<usize> =
            (0..self.nodes.len()).filter(|at| self.nodes[*at].level == 0).collect();
        let mut all: Vec<_> = leaves
            .iter()
            .flat_map(|at| self.items(*at).into_iter().map(move |(h, k, r)| (*at, h, k, r)))
            .collect();
        let mut kinds: Vec<u8> = all.iter().map(|(_, _, kind, _)| *kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let wanted = match of {
            Some(kind) => kind,
            None => *self.random.pick(&kinds)?,
        };
        all.retain(|(_, _, kind, _)| *kind == wanted);
        self.random.pick(&all).cloned()
    }

    fn item(&mut self) {
        let Some((at, _, kind, range)) = self.pick_item(None) else { return };
        let end = match self.random.percent(70) {
            true => range.end.min(range.start + ITEM_LAST),
            false => range.end,
        };
        self.field(range.start, end, &format!("item of kind {kind}"));
        self.seal(at);
    }

    fn item_head(&mut self) {
        let Some((at, head, kind, _)) = self.pick_item(None) else { return };
        self.field(head, head + ITEM_HEADER_BYTES, &format!("head of an item of kind {kind}"));
        self.seal(at);
    }

    fn child(&mut self) {
        let Some(at) = self.pick_node(true) else { return };
        let (from, _) = self.node_range(at);
        let count = u64::from(self.head(at).count.get());
        if count == 0 {
            return;
        }
        let child = from + NODE_HEADER_BYTES + self.random.below(count) as usize * CHILD_BYTES;
        if self.random.percent(30) {
            // Two lead to one node, or a node to one above it.
            let other = self.random.pick(&self.nodes).expect("a root").block;
            let (low, high) = (other * self.block_bytes, (other + 1) * self.block_bytes);
            let head = NodeLayout::ref_from_prefix(&self.bytes[low..high]).expect("a node").0;
            let pointer = BlockPointerLayout {
                block: (other as u64).into(),
                generation: head.generation,
                checksum: crc32c(&self.bytes[low..high]).into(),
                level: head.level,
                reserved: [0; 3],
            };
            self.bytes[child + 16..child + CHILD_BYTES].copy_from_slice(pointer.as_bytes());
            self.said.push(format!("a child is node {other}"));
        } else {
            self.field(child, child + CHILD_BYTES, "child");
        }
        self.seal(at);
    }

    /// Gives an item the bytes of another of its kind.
    fn exchange_items(&mut self) {
        let Some((at, _, kind, to)) = self.pick_item(None) else { return };
        let Some((_, _, _, from)) = self.pick_item(Some(kind)) else { return };
        let length = to.len().min(from.len());
        let bytes = self.bytes[from.start..from.start + length].to_vec();
        self.bytes[to.start..to.start + length].copy_from_slice(&bytes);
        self.said.push(format!("an item of kind {kind} is another"));
        self.seal(at);
    }

    /// Changes a block that an extent names: bytes of files, vectors, graphs, long values.
    fn data_that_lies(&mut self) {
        let Some((at, _, _, range)) = self.pick_item(Some(KIND_EXTENT)) else { return };
        let Ok((extent, _)) = ExtentLayout::ref_from_prefix(&self.bytes[range.clone()]) else {
            return;
        };
        let (start, length) = (extent.block.get(), u64::from(extent.length.get()));
        if extent.flags.get() & EXTENT_UNWRITTEN != 0 || length == 0 {
            return;
        }
        let number = self.random.below(length);
        let block = (start.wrapping_add(number)) as usize;
        let Some(from) = block.checked_mul(self.block_bytes) else { return };
        let sum = range.start + size_of::<ExtentLayout>() + number as usize * 4;
        if from + self.block_bytes > self.bytes.len() || sum + 4 > range.end {
            return;
        }
        let end = from + if self.random.percent(50) { 128 } else { self.block_bytes };
        for _ in 0..1 + self.random.below(4) {
            self.field(from, end, "data");
        }
        let checksum = crc32c(&self.bytes[from..from + self.block_bytes]);
        self.bytes[sum..sum + 4].copy_from_slice(&checksum.to_le_bytes());
        self.seal(at);
    }

    /// Makes the checksums right on the way from a node to the superblock.
    fn seal(&mut self, node: usize) {
        let mut at = node;
        while let Some((parent, child)) = self.nodes[at].parent {
            let (from, to) = self.node_range(at);
            let checksum = crc32c(&self.bytes[from..to]);
            let (above, _) = self.node_range(parent);
            let place = above + NODE_HEADER_BYTES + child * CHILD_BYTES + 32;
            self.bytes[place..place + 4].copy_from_slice(&checksum.to_le_bytes());
            at = parent;
        }
        let (from, to) = self.node_range(at);
        let checksum = crc32c(&self.bytes[from..to]);
        for copy in self.copies.clone() {
            superblock_mut(self.bytes, copy).root.checksum = checksum.into();
            seal_superblock(self.bytes, copy);
        }
    }
}

/// A field that says what is wrong, under right checksums.
#[derive(Clone, Debug)]
pub struct Lie {
    what: String,
    /// The node that it is in, or none for the superblock.
    node: Option<usize>,
    at: usize,
    wide: usize,
    value: u64,
}

impl Lie {
    /// Writes it into the image that it was made for.
    pub fn tell(&self, bytes: &mut [u8]) {
        let mut random = SeededRandom::new(0);
        let mut damage = Damage::new(bytes, &mut random).expect("a sound image");
        let place = self.at..self.at + self.wide;
        damage.bytes[place].copy_from_slice(&self.value.to_le_bytes()[..self.wide]);
        match self.node {
            Some(node) => damage.seal(node),
            None => damage.spread_superblock(),
        }
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes: {:#x}", self.what, self.wide, self.value)
    }
}

/// What can be said that is wrong in each place where a field may be: of the superblock, of the heads of
/// the root and of a leaf, of a pointer to a node, and of an item of each kind and its head.
pub fn lies(image: &[u8]) -> Vec<Lie> {
    let (mut bytes, mut random) = (image.to_vec(), SeededRandom::new(0));
    let damage = Damage::new(&mut bytes, &mut random).expect("a sound image");
    let leaf = (0..damage.nodes.len()).find(|at| damage.nodes[*at].level == 0).expect("a leaf");
    let mut places: Vec<(Option<usize>, Range<usize>, String)> = Vec::new();
    let first = damage.copies[0];
    places.push((None, first + 12..first + SUPERBLOCK_LAST, "superblock".into()));
    for (node, name) in [(0, "root"), (leaf, "leaf")] {
        let (from, _) = damage.node_range(node);
        places.push((Some(node), from..from + NODE_HEADER_BYTES, format!("head of a {name}")));
    }
    if leaf != 0 {
        let from = damage.node_range(0).0 + NODE_HEADER_BYTES;
        places.push((Some(0), from..from + CHILD_BYTES, "child of the root".into()));
    }
    // Of each kind the one that says most, the first of those.
    let mut largest = BTreeMap::new();
    for at in (0..damage.nodes.len()).filter(|at| damage.nodes[*at].level == 0) {
        for (head, kind, range) in damage.items(at) {
            let known = largest.entry(kind).or_insert((at, head, range.clone()));
            if known.2.len() < range.len() {
                *known = (at, head, range);
            }
        }
    }
    for (kind, (at, head, range)) in largest {
        let name = format!("item of kind {kind}");
        places.push((Some(at), head..head + ITEM_HEADER_BYTES, format!("head of an {name}")));
        places.push((Some(at), range.start..range.end.min(range.start + ITEM_LAST), name));
    }
    let blocks = (image.len() / damage.block_bytes) as u64;
    let mut lies = Vec::new();
    for (node, range, name) in places {
        for wide in [8, 4, 2, 1] {
            for at in range.clone().step_by(wide).take_while(|at| at + wide <= range.end) {
                let mut word = [0; 8];
                word[..wide].copy_from_slice(&image[at..at + wide]);
                let (now, all) = (u64::from_le_bytes(word), u64::MAX >> (64 - 8 * wide));
                let mut values = vec![now.wrapping_add(1) & all, all];
                if wide >= 4 {
                    values.extend([0, now.wrapping_sub(1) & all, all >> 1, blocks - 1]);
                }
                values.sort_unstable();
                values.dedup();
                values.retain(|value| *value != now);
                let what = format!("{name} at {}", at - range.start);
                lies.extend(values.into_iter().map(|value| Lie {
                    what: what.clone(),
                    node,
                    at,
                    wide,
                    value,
                }));
            }
        }
    }
    lies
}

fn superblock_mut(bytes: &mut [u8], at: usize) -> &mut SuperblockLayout {
    SuperblockLayout::mut_from_prefix(&mut bytes[at..]).expect("a whole superblock").0
}

fn seal_superblock(bytes: &mut [u8], at: usize) {
    let copy = &mut bytes[at..at + SUPERBLOCK_BYTES];
    copy[SUPERBLOCK_CHECKSUM_AT..SUPERBLOCK_CHECKSUM_AT + 4].fill(0);
    let checksum = crc32c(copy);
    copy[SUPERBLOCK_CHECKSUM_AT..SUPERBLOCK_CHECKSUM_AT + 4]
        .copy_from_slice(&checksum.to_le_bytes());
}

/// The superblock copies of an image that fills `bytes`, and where they are.
fn copies(bytes: &[u8]) -> impl Iterator<Item = (usize, &SuperblockLayout)> {
    let end = bytes.len() as u64 & !0xffff;
    let offsets = SUPERBLOCK_OFFSETS.into_iter().chain(SUPERBLOCK_OFFSETS.map(|at| end - at));
    debug_assert_eq!(offsets.clone().count(), SUPERBLOCK_COPIES);
    offsets.filter_map(|offset| {
        let at = offset as usize;
        let copy = SuperblockLayout::ref_from_prefix(bytes.get(at..)?).ok()?.0;
        (copy.magic == SUPERBLOCK_MAGIC).then_some((at, copy))
    })
}
