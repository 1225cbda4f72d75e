// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Nodes from memory or from the device.

use super::*;
use vexfs_memory::zeroed_bytes;

/// Leaves that are read at once when they are read in order.
const LEAVES_AHEAD: usize = 8;

impl Tree {
    /// The node that `pointer` names, if it is of the open transaction.
    pub(super) fn dirty_node(&self, pointer: &BlockPointer) -> Option<&Node> {
        if pointer.generation != self.state.generation {
            return None;
        }
        self.dirty.get(pointer.block).map(|dirty| &*dirty.node)
    }

    /// The node that `pointer` names, read and checked if it is not in memory.
    pub fn node(&self, pointer: &BlockPointer) -> Result<NodeRef<'_>> {
        if let Some(node) = self.dirty_node(pointer) {
            return Ok(NodeRef::Dirty(node));
        }
        if let Some(node) = self.cache.read().get(pointer.block, pointer.generation) {
            return Ok(NodeRef::Clean(node.clone()));
        }
        let node = Shared::try_new(self.read_node(pointer)?)?;
        self.cache.write().insert(pointer.block, node.clone())?;
        Ok(NodeRef::Clean(node))
    }

    /// Reads a node from the device, past the cache.
    pub fn read_node(&self, pointer: &BlockPointer) -> Result<Node> {
        if !self.state.is_allocatable(Run { start: pointer.block, length: 1 }) {
            return Err(corrupt(pointer.block, "pointer to a block that is never given out"));
        }
        let mut bytes = zeroed_bytes(self.block_bytes())?;
        self.host.device.read(pointer.block << self.state.block_log2, &mut bytes)?;
        self.checked(pointer, bytes)
    }

    /// The node that `pointer` names, of these bytes.
    fn checked(&self, pointer: &BlockPointer, bytes: Box<[u8]>) -> Result<Node> {
        if self.host.checksum.crc32c(0, &bytes) != pointer.checksum {
            return Err(Error::Checksum { block: pointer.block });
        }
        let node = Node::unchecked(bytes);
        node.check(pointer, self.state.filesystem())?;
        Ok(node)
    }

    /// Child `at`, which must lie one level below `level`: so every descent ends.
    pub(super) fn child(&self, node: &Node, at: usize, level: u8) -> Result<BlockPointer> {
        let child = node.child(at);
        if child.level.checked_add(1) == Some(level) && at < node.count() {
            Ok(child)
        } else {
            Err(corrupt(child.block, "child of a wrong level"))
        }
    }

    fn is_in_memory(&self, cache: &NodeCache, pointer: &BlockPointer) -> bool {
        self.dirty_node(pointer).is_some() || cache.get(pointer.block, pointer.generation).is_some()
    }

    /// Before leaf `at` of `parent` is read, after the one before it was: reads it along with those
    /// that follow it, in the tree and on the device. What goes wrong here, the reading of each tells.
    pub(super) fn read_ahead(&self, parent: &Node, at: usize) {
        let Some(before) = at.checked_sub(1).filter(|_| parent.level() == 1) else { return };
        let first = parent.child(at);
        let mut count = 0;
        {
            let cache = self.cache.read();
            if self.is_in_memory(&cache, &first)
                || !self.is_in_memory(&cache, &parent.child(before))
            {
                return;
            }
            while count < LEAVES_AHEAD.min(parent.count() - at) {
                let leaf = parent.child(at + count);
                if leaf.block != first.block.saturating_add(count as u64)
                    || self.is_in_memory(&cache, &leaf)
                {
                    break;
                }
                count += 1;
            }
        }
        if count > 1 {
            // Each is read on its own when it is asked for.
            let _ = self.read_leaves(parent, at, count);
        }
    }

    /// Reads `count` leaves of `parent` from its child `at` on, which are in a row on the device.
    fn read_leaves(&self, parent: &Node, at: usize, count: usize) -> Result<()> {
        let (first, block_bytes) = (parent.child(at).block, self.block_bytes());
        if !self.state.is_allocatable(Run { start: first, length: count as u64 }) {
            return Err(corrupt(first, "pointer to a block that is never given out"));
        }
        let mut all = zeroed_bytes(count * block_bytes)?;
        self.host.device.read(first << self.state.block_log2, &mut all)?;
        for (place, block) in all.chunks_exact(block_bytes).enumerate() {
            let leaf = parent.child(at + place);
            let mut bytes = zeroed_bytes(block_bytes)?;
            crate::bytes::copy(&mut bytes, block);
            let node = Shared::try_new(self.checked(&leaf, bytes)?)?;
            self.cache.write().insert(leaf.block, node)?;
        }
        Ok(())
    }
}
