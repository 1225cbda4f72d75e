// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The tree's nodes, visited from the left to the right. What cannot be trusted is left out, with
//! everything below it.

use super::blocks::BlockSet;
use super::finding::{Code, Place};
use super::{Checker, Pass};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::layout::{NODE_HEADER_BYTES, TREE_LEVELS_MAX};
use crate::node::{BlockPointer, Node};
use crate::space::Run;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// An inner node on the way to the present one.
struct Frame {
    node: Node,
    /// The child to visit next.
    at: usize,
    /// The keys that its parent gives it: from here,
    low: Key,
    /// to before here; `None` is without end.
    high: Option<Key>,
}

/// A node that cannot be trusted: where its pointer is, for a repair that cuts it off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LostNode {
    /// The level of the lost node.
    pub level: u8,
    pub block: u64,
    /// The lowest key it may hold.
    pub low: Key,
}

/// A walk over the tree. It visits no block twice, so it ends whatever the tree says.
pub(crate) struct Walk {
    root: Option<BlockPointer>,
    frames: Vec<Frame>,
    seen: BlockSet,
}

impl Walk {
    pub fn new(root: BlockPointer) -> Result<Self> {
        let mut frames = Vec::new();
        frames.try_reserve(TREE_LEVELS_MAX).map_err(|_| super::MEMORY)?;
        Ok(Self { root: Some(root), frames, seen: BlockSet::default() })
    }

    /// How far the walk is, of 1000, judged by the upper two levels.
    pub fn done(&self) -> u64 {
        let part = |frame: Option<&Frame>| match frame {
            Some(frame) => {
                ((frame.at as u64).saturating_sub(1) * 1000, (frame.node.count() as u64).max(1))
            }
            None => (0, 1),
        };
        let (outer, count) = part(self.frames.first());
        let (inner, inner_count) = part(self.frames.get(1));
        let inner = inner.checked_div(inner_count).unwrap_or(0);
        (outer + inner).checked_div(count).unwrap_or(0)
    }

    /// The next leaf that can be trusted.
    pub fn next_leaf(&mut self, checker: &mut Checker<'_>) -> Result<Option<Node>> {
        loop {
            let (pointer, low, high) = match self.root.take() {
                Some(root) => (root, Key::MIN, None),
                None => {
                    let Some(frame) = self.frames.last_mut() else { return Ok(None) };
                    let at = frame.at;
                    if at >= frame.node.count() {
                        self.frames.pop();
                        continue;
                    }
                    frame.at = at + 1;
                    let low = if at == 0 { frame.low } else { frame.node.key(at) };
                    let after = at + 1 < frame.node.count();
                    let high = if after { Some(frame.node.key(at + 1)) } else { frame.high };
                    (frame.node.child(at), low, high)
                }
            };
            let Some(node) = self.load(checker, &pointer, low, high)? else { continue };
            if node.level() == 0 {
                return Ok(Some(node));
            }
            self.frames.try_push(Frame { node, at: 0, low, high })?;
        }
    }

    /// Reads a node and judges it. `None`, and a finding in the first pass, when it is bad.
    fn load(
        &mut self,
        checker: &mut Checker<'_>,
        pointer: &BlockPointer,
        low: Key,
        high: Option<Key>,
    ) -> Result<Option<Node>> {
        let place = Place::block(pointer.block);
        let lost = LostNode { level: pointer.level, block: pointer.block, low };
        if !checker.is_allocatable(Run { start: pointer.block, length: 1 }) {
            checker.lose(lost, Code::NodeMalformed, place)?;
            return Ok(None);
        }
        if !self.seen.insert(pointer.block)? {
            checker.lose(lost, Code::NodeUsedTwice, place)?;
            return Ok(None);
        }
        if checker.pass == Pass::First {
            checker.mark_node(pointer.block)?;
        }
        let node = match checker.tree.read_node(pointer) {
            Ok(node) => node,
            Err(error @ (Error::OutOfMemory | Error::Interrupted)) => return Err(error),
            Err(error) => {
                let code = match error {
                    Error::Checksum { .. } => Code::NodeChecksum,
                    Error::Corrupt { .. } => Code::NodeMalformed,
                    _ => Code::NodeUnreadable,
                };
                if checker.pass == Pass::First {
                    checker.sink.find_error(code, place, error)?;
                }
                checker.lost(lost)?;
                return Ok(None);
            }
        };
        if !node.lies_within(low, high) {
            checker.lose(lost, Code::NodeKeyRange, place)?;
            return Ok(None);
        }
        if checker.pass == Pass::First {
            checker.sink.report.nodes += 1;
            let reserved = node.bytes().get(5) != Some(&0)
                || node.bytes().get(32..NODE_HEADER_BYTES).is_none_or(is_not_zero)
                || is_not_zero(node.free_space());
            if reserved {
                checker.find(Code::NodeReserved, place)?;
            }
        }
        Ok(Some(node))
    }
}

fn is_not_zero(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

impl Checker<'_> {
    fn lose(&mut self, lost: LostNode, code: Code, place: Place) -> Result<()> {
        if self.pass == Pass::First {
            self.find(code, place)?;
        }
        self.lost(lost)
    }

    fn lost(&mut self, lost: LostNode) -> Result<()> {
        if self.pass == Pass::First {
            self.complete = false;
            self.lost_nodes.try_push(lost)?;
        }
        Ok(())
    }
}
