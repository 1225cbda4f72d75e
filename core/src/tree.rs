// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The copy-on-write B+tree that holds all metadata, and the open transaction on it.
//!
//! Readers look items up with a shared borrow. A change happens within an *operation*
//! ([`Tree::begin`] to [`Tree::finish`] or [`Tree::abort`]): an operation that fails leaves no
//! trace, whatever it had done. Many operations make a transaction; [`Tree::freeze`] closes it and
//! hands its nodes to the commit, and the next transaction opens at once: nodes of a closed
//! transaction are never changed again, only copied.

mod closing;
mod reading;

use crate::cache::NodeCache;
use crate::error::{Error, Result, corrupt};
use crate::host::{Host, LockClass};
use crate::key::{Key, Kind};
use crate::layout::{GROUP_BITMAP_BYTES, GROUP_BLOCKS, GroupLayout, TREE_LEVELS_MAX};
use crate::lock::{Lock, ReadGuard};
use crate::node::{BlockPointer, Node, item_bytes_max};
use crate::space::{Run, Space};
use crate::superblock::Superblock;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::ops::Deref;
use vexfs_memory::{Shared, Table, TryVec, copied_bytes, try_box};
use zerocopy::{FromBytes, IntoBytes};

/// A node to read: one of the open transaction, or a clean one.
pub(crate) enum NodeRef<'a, Clean = Shared<Node>> {
    Dirty(&'a Node),
    Clean(Clean),
}

/// A node that is in memory, for as long as the cache is locked.
type Found<'tree, 'cache> = NodeRef<'tree, &'cache Shared<Node>>;

impl<Clean: Borrow<Shared<Node>>> Deref for NodeRef<'_, Clean> {
    type Target = Node;
    fn deref(&self) -> &Node {
        match self {
            Self::Dirty(node) => node,
            Self::Clean(node) => node.borrow(),
        }
    }
}

/// Many items looked up one after another, with the cache of nodes locked once.
pub(crate) struct Lookup<'a> {
    tree: &'a Tree,
    cache: ReadGuard<'a, NodeCache>,
}

impl Lookup<'_> {
    /// What `read` makes of the item under `key`, while that is in memory; nothing when it is not,
    /// or there is none, which [`Tree::get`] tells apart.
    pub fn get<R>(&self, key: Key, read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>> {
        let Some(leaf) = self.tree.leaf_in_memory(&self.cache, key)? else { return Ok(None) };
        Ok(leaf.search(key).ok().map(|at| read(leaf.item(at))))
    }
}

/// An item of the tree, to read.
pub(crate) struct Item<'a> {
    node: NodeRef<'a>,
    at: usize,
}

impl<'a> Item<'a> {
    /// The one under `key`, if the leaf has it.
    fn under(node: NodeRef<'a>, key: Key) -> Option<Self> {
        node.search(key).ok().map(|at| Self { node, at })
    }

    pub fn key(&self) -> Key {
        self.node.key(self.at)
    }

    /// Moves on to the next item of the same leaf; false at its end.
    pub fn advance(&mut self) -> bool {
        self.at += 1;
        self.at < self.node.count()
    }

    /// Moves back to the item before in the same leaf; false, and nothing moves, at its start.
    pub fn retreat(&mut self) -> bool {
        self.at.checked_sub(1).map(|before| self.at = before).is_some()
    }
}

impl Deref for Item<'_> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.node.item(self.at)
    }
}

struct DirtyNode {
    node: Shared<Node>,
    /// The last operation that saved, or made, it.
    saved: u64,
}

/// How to take a step of the open operation back.
enum Undo {
    /// The operation made this node.
    Made(u64),
    /// The operation changed this node; it was so.
    Changed(u64, Node),
    /// The operation changed bytes of this node from a place on; they were so.
    Bytes(u64, usize, Box<[u8]>),
    /// The operation freed this node of the open transaction.
    Dropped(u64, Shared<Node>),
}

/// What a closed transaction has to write.
pub(crate) struct Frozen {
    pub superblock: Box<Superblock>,
    pub nodes: Vec<(u64, Shared<Node>)>,
}

/// The tree, its transaction and its free space.
pub(crate) struct Tree {
    pub host: Shared<Host>,
    /// The state that the open transaction will publish; `generation` is that transaction's.
    pub state: Box<Superblock>,
    /// The last state that was published.
    pub published: Box<Superblock>,
    /// `state` as it was when the operation began.
    saved_state: Box<Superblock>,
    /// Whether `state` was changed since the last freeze.
    state_changed: bool,
    dirty: Table<DirtyNode>,
    cache: Lock<NodeCache>,
    pub space: Box<Space>,
    undo: Vec<Undo>,
    operation: u64,
}

/// Blocks that are made available for one operation at most; none takes more.
const ENSURE_BLOCKS_MAX: u64 = 16 * GROUP_BLOCKS;

/// The way down to a leaf.
struct Path {
    /// Block, and the child taken; of the leaf, block only.
    steps: [(u64, usize); TREE_LEVELS_MAX],
    /// Where the leaf is among them.
    depth: usize,
}

impl Path {
    fn leaf(&self) -> u64 {
        self.steps.get(self.depth).map_or(0, |step| step.0)
    }

    /// The node above the one at `depth`, and the place of that among its children.
    fn above(&self, depth: usize) -> Option<(u64, usize)> {
        self.steps.get(depth.checked_sub(1)?).copied()
    }
}

impl Tree {
    /// A tree in the state `published`. Changes go to the transaction after it.
    pub fn open(host: Shared<Host>, published: &Superblock, cache_bytes: usize) -> Result<Self> {
        let mut state = try_box(*published)?;
        state.generation += 1;
        let cache = NodeCache::new(cache_bytes / published.block_bytes().max(1));
        let cache = Lock::try_new(&*host.locks, LockClass::NodeCache, cache)?;
        Ok(Self {
            host,
            published: try_box(*published)?,
            saved_state: try_box(*state)?,
            state,
            state_changed: false,
            dirty: Table::new(),
            cache,
            space: Space::new(published.blocks, published.block_log2)?,
            undo: Vec::new(),
            operation: 0,
        })
    }

    /// How many clean nodes are in memory, 0 when somebody changes that.
    pub fn cached_nodes(&self) -> u64 {
        self.cache.try_read().map_or(0, |cache| cache.len() as u64)
    }

    /// Drops up to `count` clean nodes, unless somebody uses the cache.
    pub fn drop_cached_nodes(&self, count: u64) -> u64 {
        let Some(mut cache) = self.cache.try_write() else { return 0 };
        let before = cache.len();
        cache.evict(before.saturating_sub(count.min(before as u64) as usize));
        (before - cache.len()) as u64
    }

    /// The open transaction's number.
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    pub fn block_bytes(&self) -> usize {
        self.state.block_bytes()
    }

    /// Largest item.
    pub fn item_bytes_max(&self) -> usize {
        item_bytes_max(self.block_bytes())
    }

    /// Nodes of the open transaction, with a guess at those that writing its groups' items adds.
    pub fn dirty_nodes(&self) -> usize {
        self.dirty.len().saturating_add(self.space.changed_groups() as usize)
    }

    /// Bytes that cached and dirty nodes take.
    pub fn memory_bytes(&self) -> usize {
        (self.dirty.len() + self.cache.read().len()) * self.block_bytes()
    }

    // Reading.

    pub fn root(&self) -> BlockPointer {
        self.state.root
    }

    /// The item under `key`.
    pub fn get(&self, key: Key) -> Result<Option<Item<'_>>> {
        // With the nodes that are in memory, the cache is locked once, and only the leaf is held.
        {
            let cache = self.cache.read();
            match self.leaf_in_memory(&cache, key)? {
                Some(Found::Dirty(node)) => {
                    return Ok(Item::under(NodeRef::Dirty(node), key));
                }
                Some(Found::Clean(node)) => {
                    return Ok(Item::under(NodeRef::Clean(node.clone()), key));
                }
                None => {}
            }
        }
        let mut pointer = self.state.root;
        loop {
            let node = self.node(&pointer)?;
            if node.level() == 0 {
                return Ok(Item::under(node, key));
            }
            pointer = self.child(&node, node.child_for(key), pointer.level)?;
        }
    }

    /// To look many items up: the cache stays locked in between.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { tree: self, cache: self.cache.read() }
    }

    /// The leaf that has `key`, if it has to be anywhere; nothing when a node on the way is not in
    /// memory.
    fn leaf_in_memory<'cache>(
        &self,
        cache: &'cache NodeCache,
        key: Key,
    ) -> Result<Option<Found<'_, 'cache>>> {
        let mut pointer = self.state.root;
        loop {
            let found = if let Some(node) = self.dirty_node(&pointer) {
                Found::Dirty(node)
            } else if let Some(node) = cache.get(pointer.block, pointer.generation) {
                Found::Clean(node)
            } else {
                return Ok(None);
            };
            if found.level() == 0 {
                return Ok(Some(found));
            }
            pointer = self.child(&found, found.child_for(key), pointer.level)?;
        }
    }

    /// The first item at or after `from`.
    pub fn next(&self, from: Key) -> Result<Option<Item<'_>>> {
        let mut from = from;
        loop {
            let mut pointer = self.state.root;
            let mut above = None;
            loop {
                let node = self.node(&pointer)?;
                if node.level() == 0 {
                    let at = node.search(from).unwrap_or_else(|at| at);
                    if at < node.count() {
                        return Ok(Some(Item { node, at }));
                    }
                    break;
                }
                let at = node.child_for(from);
                if at + 1 < node.count() {
                    above = Some(node.key(at + 1));
                }
                pointer = self.child(&node, at, pointer.level)?;
                self.read_ahead(&node, at);
            }
            // The leaf ends before `from`: go on with the leaf to its right.
            match above {
                Some(key) if key > from => from = key,
                _ => return Ok(None),
            }
        }
    }

    /// The last item at or before `upto`.
    pub fn previous(&self, upto: Key) -> Result<Option<Item<'_>>> {
        let mut upto = upto;
        loop {
            let mut pointer = self.state.root;
            let mut below = None;
            loop {
                let node = self.node(&pointer)?;
                if node.level() == 0 {
                    let at = match node.search(upto) {
                        Ok(at) => Some(at),
                        Err(at) => at.checked_sub(1),
                    };
                    if let Some(at) = at {
                        return Ok(Some(Item { node, at }));
                    }
                    break;
                }
                let at = node.child_for(upto);
                if at > 0 {
                    below = Some(node.key(at));
                }
                pointer = self.child(&node, at, pointer.level)?;
                self.read_ahead(&node, at);
            }
            match below.and_then(|key| key.predecessor()) {
                Some(key) if key < upto => upto = key,
                _ => return Ok(None),
            }
        }
    }

    /// Calls `each` with every item from `from` to `to`, both included, in order, until it returns
    /// false.
    pub fn scan(
        &self,
        from: Key,
        to: Key,
        mut each: impl FnMut(Key, &[u8]) -> Result<bool>,
    ) -> Result<()> {
        let mut from = from;
        while let Some(mut item) = self.next(from)? {
            loop {
                let key = item.key();
                if key > to || !each(key, &item)? {
                    return Ok(());
                }
                let Some(next) = key.successor() else { return Ok(()) };
                from = next;
                if !item.advance() {
                    break;
                }
            }
        }
        Ok(())
    }

    // Operations.

    /// Opens an operation.
    pub fn begin(&mut self) {
        self.operation += 1;
        *self.saved_state = *self.state;
        self.undo.clear();
    }

    /// Closes the operation; what it did is part of the transaction. On error it has been undone.
    pub fn finish(&mut self) -> Result<()> {
        match self.try_finish() {
            Ok(()) => {
                self.undo.clear();
                Ok(())
            }
            Err(error) => {
                self.abort();
                Err(error)
            }
        }
    }

    fn try_finish(&mut self) -> Result<()> {
        while let Some(number) = self.space.unloaded_for_finish() {
            self.load_group(number)?;
        }
        let growth = self.space.finish()?;
        let free = self.state.blocks_free.saturating_add_signed(-growth);
        self.state.blocks_free = free.min(self.state.blocks);
        if self.state != self.saved_state {
            self.state_changed = true;
        }
        Ok(())
    }

    /// Takes back everything since [`Tree::begin`].
    pub fn abort(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Made(block) => {
                    self.dirty.remove(block);
                }
                Undo::Changed(block, before) => {
                    if let Ok(node) = self.dirty_mut(block) {
                        node.restore_bytes(0, before.bytes());
                    }
                }
                Undo::Bytes(block, at, before) => {
                    if let Ok(node) = self.dirty_mut(block) {
                        node.restore_bytes(at, &before);
                    }
                }
                Undo::Dropped(block, node) => {
                    // The slot it left is still there, so this insert does not grow the table.
                    let _ = self.dirty.try_insert(block, DirtyNode { node, saved: 0 });
                }
            }
        }
        self.space.abort();
        *self.state = *self.saved_state;
    }

    /// Loads the bitmap of a group of blocks.
    pub fn load_group(&mut self, number: u64) -> Result<()> {
        let key = Key::new(0, Kind::Group, number);
        // Copied, because the item borrows the tree that takes it in.
        let mut bitmap = None;
        let mut count = None;
        if let Some(item) = self.get(key)? {
            let bad = corrupt(number, "group item of a wrong length");
            let (head, tail) = GroupLayout::read_from_prefix(&item).map_err(|_| bad)?;
            count = Some(u64::from(head.used.get()));
            match tail.len() {
                0 => {}
                GROUP_BITMAP_BYTES => {
                    bitmap = Some(copied_bytes(tail)?);
                }
                _ => return Err(bad),
            }
        }
        self.space.load(number, count.map(|count| (count, bitmap.as_deref())))
    }

    /// Makes `blocks` blocks available for the operation to come, besides what closing the
    /// transaction may take and, unless `privileged`, a reserve that keeps deleting possible.
    /// `Ok(false)` when a commit would help.
    pub fn ensure(&mut self, blocks: u64, privileged: bool) -> Result<bool> {
        let wanted = self.wanted(blocks, privileged);
        self.space.unload(wanted.min(ENSURE_BLOCKS_MAX));
        if self.has_free(wanted) {
            // The rest is found when it is taken: a promise of a terabyte loads no groups.
            let wanted = wanted.min(ENSURE_BLOCKS_MAX);
            while let Some(number) = self.space.next_to_load(wanted) {
                self.load_group(number)?;
            }
            if let Some(number) = self.space.next_to_widen() {
                // There is enough without it: one that is damaged is somebody else's to meet.
                let _ = self.load_group(number);
            }
            if self.space.available() >= wanted {
                return Ok(true);
            }
        }
        if self.space.has_retired() { Ok(false) } else { Err(Error::NoSpace) }
    }

    /// Whether so many blocks are free for an operation that is not privileged. They may have to be
    /// loaded yet.
    pub fn has_room(&self, blocks: u64) -> bool {
        self.has_free(self.wanted(blocks, false))
    }

    fn wanted(&self, blocks: u64, privileged: bool) -> u64 {
        let reserve = if privileged { 0 } else { self.reserve_blocks() };
        blocks.saturating_add(self.blocks_to_close()).saturating_add(reserve)
    }

    fn has_free(&self, wanted: u64) -> bool {
        let taken = self.space.in_flight().saturating_add(self.space.retired_blocks());
        let free = self.state.blocks_free.saturating_sub(taken);
        free >= wanted.saturating_add(self.space.promised())
    }

    /// Blocks that closing the transaction may take.
    pub fn blocks_to_close(&self) -> u64 {
        let levels = u64::from(self.state.root.level) + 2;
        self.space.changed_groups() * 2 + levels * 2 + 4
    }

    /// Blocks that only deleting and committing may take: 1/64 of all, 48 to 4096.
    pub fn reserve_blocks(&self) -> u64 {
        (self.state.blocks / 64).clamp(48, 4096)
    }

    /// Blocks that changing `items` items in different places may take at most.
    pub fn blocks_for_items(&self, items: u64) -> u64 {
        items.saturating_mul(u64::from(self.state.root.level) + 3)
    }

    // Changing.

    /// A node of the open transaction.
    fn open_node(&self, block: u64) -> Result<&Node> {
        match self.dirty.get(block) {
            Some(dirty) => Ok(&dirty.node),
            None => Err(missing(block)),
        }
    }

    /// The same, to be changed with no operation open.
    fn dirty_mut(&mut self, block: u64) -> Result<&mut Node> {
        self.dirty
            .get_mut(block)
            .and_then(|dirty| Shared::get_mut(&mut dirty.node))
            .ok_or(missing(block))
    }

    /// The same, to be changed by the open operation, which saves its bytes the first time.
    fn change(&mut self, block: u64) -> Result<&mut Node> {
        let dirty = self.dirty.get_mut(block).ok_or(missing(block))?;
        if dirty.saved != self.operation {
            self.undo.try_push(Undo::Changed(block, dirty.node.duplicate()?))?;
            dirty.saved = self.operation;
        }
        Shared::get_mut(&mut dirty.node).ok_or(missing(block))
    }

    /// The bytes of item `at` of such a node, to be changed by the open operation. No more than they are
    /// saved.
    fn change_item(&mut self, block: u64, at: usize) -> Result<&mut [u8]> {
        let dirty = self.dirty.get_mut(block).ok_or(missing(block))?;
        let node = Shared::get_mut(&mut dirty.node).ok_or(missing(block))?;
        if dirty.saved != self.operation {
            let before = copied_bytes(node.item(at))?;
            self.undo.try_push(Undo::Bytes(block, node.item_range(at).start, before))?;
        }
        Ok(node.item_mut(at))
    }

    /// Makes the node that `pointer` names one of the open transaction, by a copy in a new block if it is
    /// not. Returns where it is.
    fn make_dirty(&mut self, pointer: &BlockPointer) -> Result<BlockPointer> {
        if pointer.generation == self.state.generation {
            return match self.dirty.get(pointer.block) {
                Some(_) => Ok(*pointer),
                None => Err(corrupt(pointer.block, "pointer into a transaction to come")),
            };
        }
        let node = self.node(pointer)?.duplicate()?;
        let copy = self.add_node(node)?;
        self.space.free(Run { start: pointer.block, length: 1 }, false)?;
        Ok(copy)
    }

    /// Gives a new node a block.
    fn add_node(&mut self, mut node: Node) -> Result<BlockPointer> {
        self.undo.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        self.dirty.try_reserve(1)?;
        let block = self.space.allocate_node()?;
        let generation = self.state.generation;
        node.place(block, generation);
        let level = node.level();
        let dirty = DirtyNode { node: Shared::try_new(node)?, saved: self.operation };
        self.dirty.try_insert(block, dirty)?;
        self.undo.try_push(Undo::Made(block))?;
        Ok(BlockPointer { block, generation, checksum: 0, level })
    }

    /// Frees a node that has been made dirty.
    fn drop_node(&mut self, block: u64) -> Result<()> {
        self.undo.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        self.space.free(Run { start: block, length: 1 }, true)?;
        if let Some(dirty) = self.dirty.remove(block) {
            self.undo.try_push(Undo::Dropped(block, dirty.node))?;
        }
        Ok(())
    }

    fn new_node(&self, level: u8) -> Result<Node> {
        Node::new(self.block_bytes(), level, self.state.filesystem())
    }

    /// Makes an empty tree.
    pub fn plant(&mut self) -> Result<()> {
        let leaf = self.new_node(0)?;
        self.state.root = self.add_node(leaf)?;
        Ok(())
    }

    /// Puts an empty subtree in the place of the node of `level` that holds keys from `low` on: how a
    /// repair parts with a damaged node. Its block, and what it named, are not freed here.
    pub fn cut_off(&mut self, low: Key, level: u8) -> Result<()> {
        if level >= self.state.root.level {
            return Err(corrupt(self.state.root.block, "the root of the tree cannot be cut off"));
        }
        let mut pointer = self.make_dirty(&self.state.root.clone())?;
        self.state.root = pointer;
        while pointer.level > level.saturating_add(1) {
            let node = self.open_node(pointer.block)?;
            let at = node.child_for(low);
            let child = node.child(at);
            if child.level.checked_add(1) != Some(pointer.level) {
                return Err(corrupt(child.block, "child of a wrong level"));
            }
            let child = self.make_dirty(&child)?;
            self.change(pointer.block)?.set_child(at, &child);
            pointer = child;
        }
        let leaf = self.new_node(0)?;
        let mut empty = self.add_node(leaf)?;
        while empty.level < level {
            let mut node = self.new_node(empty.level + 1)?;
            node.insert_child(0, low, &empty);
            empty = self.add_node(node)?;
        }
        let node = self.change(pointer.block)?;
        let at = node.child_for(low);
        node.set_child(at, &empty);
        Ok(())
    }

    /// Puts a new root above the present one.
    fn grow(&mut self) -> Result<()> {
        let old = self.state.root;
        if usize::from(old.level) + 1 >= TREE_LEVELS_MAX {
            return Err(Error::NoSpace);
        }
        let mut root = self.new_node(old.level + 1)?;
        root.insert_child(0, Key::MIN, &old);
        self.state.root = self.add_node(root)?;
        Ok(())
    }

    /// Splits the dirty inner node at `at` of the dirty node `parent`, which has room.
    fn split_inner(&mut self, parent: u64, at: usize, block: u64) -> Result<()> {
        let (level, half) = {
            let node = self.open_node(block)?;
            (node.level(), node.count() / 2)
        };
        let mut right = self.new_node(level)?;
        let node = self.change(block)?;
        let separator = node.key(half);
        node.move_tail(half, &mut right);
        let pointer = self.add_node(right)?;
        self.change(parent)?.insert_child(at + 1, separator, &pointer);
        Ok(())
    }

    /// Descends to the leaf for `key`, making every node on the way dirty. With `room`, inner
    /// nodes on the way are left with room for one more child, and there is a parent above the
    /// leaf if the leaf cannot take `room` bytes.
    fn descend(&mut self, key: Key, room: Option<usize>) -> Result<Path> {
        let mut pointer = self.make_dirty(&self.state.root.clone())?;
        self.state.root = pointer;
        if let Some(bytes) = room {
            let root = self.open_node(pointer.block)?;
            let full = if root.level() > 0 {
                root.count() >= root.children_max()
            } else {
                root.free_bytes() < bytes
            };
            if full {
                self.grow()?;
                let inner = pointer.level > 0;
                let child = pointer.block;
                pointer = self.state.root;
                if inner {
                    self.split_inner(pointer.block, 0, child)?;
                }
            }
        }
        let mut path = Path { steps: [(0, 0); TREE_LEVELS_MAX], depth: 0 };
        // The keys that are left to the node.
        let (mut low, mut high) = (Key::MIN, None);
        loop {
            let block = pointer.block;
            let node = self.open_node(block)?;
            if !node.lies_within(low, high) {
                return Err(out_of_place(block));
            }
            if pointer.level == 0 {
                if let Some(step) = path.steps.get_mut(path.depth) {
                    *step = (block, 0);
                }
                return Ok(path);
            }
            let mut at = node.child_for(key);
            let named = node.child(at);
            if named.level.checked_add(1) != Some(pointer.level) {
                return Err(corrupt(named.block, "child of a wrong level"));
            }
            let mut child = self.make_dirty(&named)?;
            if child != named {
                self.change(block)?.set_child(at, &child);
            }
            if room.is_some() && child.level > 0 {
                let below = self.open_node(child.block)?;
                if below.count() >= below.children_max() {
                    self.split_inner(block, at, child.block)?;
                    let node = self.open_node(block)?;
                    at = node.child_for(key);
                    child = node.child(at);
                }
            }
            let node = self.open_node(block)?;
            low = node.key(at);
            high = if at + 1 < node.count() { Some(node.key(at + 1)) } else { high };
            match path.steps.get_mut(path.depth) {
                Some(step) => *step = (block, at),
                None => return Err(corrupt(block, "tree too deep")),
            }
            path.depth += 1;
            pointer = child;
        }
    }

    /// Adds an item of `length` bytes, zeroed, and returns it to be filled. `Exists` if the key is
    /// taken, `TooBig` over [`Tree::item_bytes_max`].
    pub fn insert(&mut self, key: Key, length: usize) -> Result<&mut [u8]> {
        if length == 0 || length > self.item_bytes_max() {
            return Err(Error::TooBig("tree item"));
        }
        let bytes = length + crate::layout::ITEM_HEADER_BYTES;
        let path = self.descend(key, Some(bytes))?;
        let leaf = path.leaf();
        let node = self.open_node(leaf)?;
        let at = match node.search(key) {
            Ok(_) => return Err(Error::Exists),
            Err(at) => at,
        };
        if node.free_bytes() >= bytes {
            let node = self.change(leaf)?;
            node.insert_item(at, key, length);
            return Ok(node.item_mut(at));
        }
        // Not enough room: split, so that the halves with the new item come out alike in size, or
        // with the new item alone on the right when it comes last (a run of rising keys then fills
        // its leaves).
        let Some((parent, slot)) = path.above(path.depth) else {
            return Err(corrupt(leaf, "full leaf without a parent"));
        };
        let split = node.split_point(at, bytes);
        let mut right = self.new_node(0)?;
        let node = self.change(leaf)?;
        let leads = split.new_goes_right && split.first_right == at;
        let separator = if leads { key } else { node.key(split.first_right) };
        node.move_tail(split.first_right, &mut right);
        let pointer = self.add_node(right)?;
        self.change(parent)?.insert_child(slot + 1, separator, &pointer);
        let (block, at) =
            if split.new_goes_right { (pointer.block, at - split.first_right) } else { (leaf, at) };
        let node = self.change(block)?;
        if node.free_bytes() < bytes {
            return Err(corrupt(block, "split made no room"));
        }
        node.insert_item(at, key, length);
        Ok(node.item_mut(at))
    }

    /// The item under `key`, to change in place. `NotFound` when there is none.
    pub fn get_mut(&mut self, key: Key) -> Result<&mut [u8]> {
        let leaf = self.descend(key, None)?.leaf();
        match self.open_node(leaf)?.search(key) {
            Ok(at) => self.change_item(leaf, at),
            Err(_) => Err(Error::NotFound),
        }
    }

    /// Inserts the item, or replaces it, with the bytes of `parts` one after another.
    pub fn put(&mut self, key: Key, parts: &[&[u8]]) -> Result<()> {
        let length = parts.iter().map(|part| part.len()).sum();
        let leaf = self.descend(key, None)?.leaf();
        let node = self.open_node(leaf)?;
        let target = match node.search(key) {
            Ok(at) if node.item(at).len() == length => self.change_item(leaf, at)?,
            Ok(_) => {
                self.remove(key)?;
                self.insert(key, length)?
            }
            Err(_) => self.insert(key, length)?,
        };
        let mut rest = target;
        for part in parts {
            let Some((head, tail)) = rest.split_at_mut_checked(part.len()) else { break };
            crate::bytes::copy(head, part);
            rest = tail;
        }
        Ok(())
    }

    /// Removes the item under `key`. `NotFound` when there is none.
    pub fn remove(&mut self, key: Key) -> Result<()> {
        self.remove_run(key, key)
    }

    /// Removes the items from that under `first` to that under `last`, which are in one leaf.
    /// `NotFound` when they are not.
    pub fn remove_run(&mut self, first: Key, last: Key) -> Result<()> {
        let path = self.descend(last, None)?;
        let leaf = path.leaf();
        let node = self.open_node(leaf)?;
        match (node.search(first), node.search(last)) {
            (Ok(first), Ok(last)) => self.change(leaf)?.remove_items(first..last + 1),
            _ => return Err(Error::NotFound),
        }
        // Merge what has become small with a neighbour, from the leaf upwards.
        let mut depth = path.depth;
        while let Some((parent, slot)) = path.above(depth)
            && self.merge(parent, slot)?
        {
            depth -= 1;
        }
        // A root with a single child makes way for it.
        loop {
            let root = self.state.root;
            if root.level == 0 {
                return Ok(());
            }
            let node = self.open_node(root.block)?;
            if node.count() != 1 {
                return Ok(());
            }
            let child = node.child(0);
            self.drop_node(root.block)?;
            self.state.root = child;
        }
    }

    /// Merges child `slot` of `parent` with a neighbour if it is less than a third full and they
    /// fit into one node with room to spare. Returns whether it did.
    fn merge(&mut self, parent: u64, slot: usize) -> Result<bool> {
        let room = self.block_bytes() - crate::layout::NODE_HEADER_BYTES;
        let node = self.open_node(parent)?;
        let (count, child) = (node.count(), node.child(slot));
        let left = slot.checked_sub(1).map(|at| node.child(at));
        let right = (slot + 1 < count).then(|| node.child(slot + 1));
        let used = self.node(&child)?.used_bytes();
        if used > room / 3 {
            return Ok(false);
        }
        for (first, neighbour) in [(slot.wrapping_sub(1), left), (slot, right)] {
            let Some(neighbour) = neighbour else { continue };
            if used > 0 && self.node(&neighbour)?.used_bytes() + used > room / 5 * 4 {
                continue;
            }
            let (low, high) = if first == slot { (child, neighbour) } else { (neighbour, child) };
            let node = self.open_node(parent)?;
            let (from, between) = (node.key(first), node.key(first + 1));
            let low = self.make_dirty(&low)?;
            let high = self.make_dirty(&high)?;
            // The right node is emptied into the left one. It is taken out of the table for that,
            // so that both can be borrowed.
            let mut source = self.open_node(high.block)?.duplicate()?;
            if !self.open_node(low.block)?.lies_within(from, Some(between))
                || !source.lies_within(between, None)
            {
                return Err(out_of_place(high.block));
            }
            source.move_tail(0, self.change(low.block)?);
            let node = self.change(parent)?;
            node.set_child(first, &low);
            node.remove_child(first + 1);
            self.drop_node(high.block)?;
            return Ok(true);
        }
        Ok(false)
    }
}

fn missing(block: u64) -> Error {
    corrupt(block, "node of the open transaction is missing")
}

fn out_of_place(block: u64) -> Error {
    corrupt(block, "keys of a node outside of those that its parent leaves to it")
}
