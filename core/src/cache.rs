// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The cache of clean tree nodes, bounded in bytes, with second-chance eviction.

use crate::error::Result;
use crate::node::Node;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use vexfs_memory::{Shared, Table, TryVec};

struct Entry {
    node: Shared<Node>,
    /// Asked for since the clock's hand passed.
    referenced: AtomicBool,
}

/// Clean nodes by block number.
pub(crate) struct NodeCache {
    nodes: Table<Entry>,
    /// Every cached block once, and maybe blocks that are gone, for the clock's hand.
    clock: Vec<u64>,
    hand: usize,
    nodes_max: usize,
}

impl NodeCache {
    pub fn new(nodes_max: usize) -> Self {
        Self { nodes: Table::new(), clock: Vec::new(), hand: 0, nodes_max: nodes_max.max(16) }
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node of `block` that was written by `generation`.
    pub fn get(&self, block: u64, generation: u64) -> Option<&Shared<Node>> {
        let entry = self.nodes.get(block)?;
        if entry.node.generation() != generation {
            return None;
        }
        // Written to only when it has to be: other processors read it too.
        if !entry.referenced.load(Ordering::Relaxed) {
            entry.referenced.store(true, Ordering::Relaxed);
        }
        Some(&entry.node)
    }

    /// Makes room so that `additional` further inserts cannot fail.
    pub fn try_reserve(&mut self, additional: usize) -> Result<()> {
        self.nodes.try_reserve(additional)?;
        self.clock.try_reserve(additional).map_err(|_| crate::Error::OutOfMemory)
    }

    pub fn insert(&mut self, block: u64, node: Shared<Node>) -> Result<()> {
        let entry = Entry { node, referenced: AtomicBool::new(true) };
        if let Some(old) = self.nodes.get_mut(block) {
            *old = entry;
            return Ok(());
        }
        self.try_reserve(1)?;
        self.clock.try_push(block)?;
        self.nodes.try_insert(block, entry)?;
        self.evict(self.nodes_max);
        Ok(())
    }

    /// Drops nodes until `limit` are left or all others are in use. Nodes that others hold (an
    /// unwritten one is held by its commit) stay.
    pub fn evict(&mut self, limit: usize) {
        let mut steps = self.clock.len().saturating_mul(2);
        while self.nodes.len() > limit && steps > 0 {
            steps -= 1;
            if self.hand >= self.clock.len() {
                self.hand = 0;
            }
            let Some(&block) = self.clock.get(self.hand) else { return };
            let keep = self.nodes.get(block).is_some_and(|entry| {
                Shared::references(&entry.node) > 1
                    || entry.referenced.swap(false, Ordering::Relaxed)
            });
            if keep {
                self.hand += 1;
            } else {
                self.nodes.remove(block);
                if let Some(last) = self.clock.pop()
                    && let Some(place) = self.clock.get_mut(self.hand)
                {
                    *place = last;
                }
            }
        }
    }
}
