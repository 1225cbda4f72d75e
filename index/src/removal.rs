// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Taking nodes out: who links to a removed node gets links to its neighbours instead.
//!
//! Many at once are found by reading every record, as FreshDiskANN's consolidation does (Singh et
//! al., arXiv 2105.09613, section 4.2); few by looking two links around each, as IP-DiskANN does
//! with a search (Xu et al., arXiv 2502.13826, section 3). In-neighbours that the latter misses keep
//! a link to a row that is no node, which searches skip; when the slot is used again the link leads
//! to another row, at its true distance, until the record is next rewritten. The bytes of removed
//! rows are never needed.

use crate::adjacency::State;
use crate::build::{Builder, Worker};
use crate::executor::share_out;
use crate::graph::{Graph, NO_ROW};
use crate::queue::Candidate;
use crate::{Error, Executor, Space};
use core::sync::atomic::Ordering;
use vexfs_memory::{TryVec, sort_by};

/// All records are read when at least one node in this many goes.
const SCAN_SHARE: usize = 32;

/// How many of a removed neighbour's neighbours take its place in a list (c of IP-DiskANN), and
/// between backbone nodes how many more of that kind.
const HEIRS: usize = 3;

impl Graph {
    /// Takes the nodes `removed` out and repairs the links of their neighbours.
    ///
    /// Afterwards they are no nodes, and their numbers may be inserted again. Their bytes may be
    /// gone from `space.rows` already; rows that are no nodes are passed over. The result does not
    /// depend on the threads. On [`Error::OutOfMemory`] those not taken out are tombstones, and
    /// the call can be made again.
    pub fn remove_batch(
        &self,
        space: Space<'_>,
        removed: &[u32],
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<(), Error> {
        for row in removed {
            self.tombstone(*row);
        }
        let effort = usize::from(self.parameters.effort);
        let slots = self.adjacency.slots();
        builder.prepare(executor, self.capacity(), effort, slots * (2 * HEIRS + 1))?;
        let Builder { workers, order, targets, .. } = builder;
        let Some(finder) = workers.first_mut() else { return Ok(()) };
        order.clear();
        for row in removed {
            if self.is_tombstone(*row) && finder.scratch.meet(*row) {
                order.try_push(*row)?;
            }
        }
        targets.clear();
        finder.scratch.forget(self.capacity())?;
        let scan = order.len() >= self.nodes.load(Ordering::Relaxed) as usize / SCAN_SHARE;
        if scan {
            let mut from = self.next(0);
            while let Some(row) = from {
                if self.contains(row)
                    && self.adjacency.neighbours(row).any(|n| self.is_tombstone(n))
                {
                    targets.try_push(row)?;
                }
                if row % 4096 == 4095 {
                    executor.relax();
                }
                from = self.next(row + 1);
            }
        } else {
            for gone in order.iter() {
                for near in self.adjacency.neighbours(*gone) {
                    let around = core::iter::once(near).chain(self.adjacency.neighbours(near));
                    for row in around {
                        let links = || self.adjacency.neighbours(row).any(|n| n == *gone);
                        if self.contains(row) && links() && finder.scratch.meet(row) {
                            targets.try_push(row)?;
                        }
                    }
                }
                executor.relax();
            }
        }
        share_out(executor, workers, targets.len(), &|worker, index| {
            if let Some(row) = targets.get(index) {
                self.mend(space, *row, worker);
            }
        })?;
        let mut entry_gone = false;
        for row in order.iter() {
            entry_gone |= self.entry_rows().any(|entry| entry == *row);
            self.adjacency.set_neighbours(*row, core::iter::empty());
            self.adjacency.set_state(*row, State::Absent);
            self.nodes.fetch_sub(1, Ordering::Relaxed);
            self.tombstones.fetch_sub(1, Ordering::Relaxed);
        }
        if entry_gone {
            self.choose_entries(space);
            if self.entry_rows().next().is_none()
                && let (Some(row), [entry, ..]) = (self.next(0), &self.entries)
            {
                // Only tombstones are left, or rows whose bytes are gone.
                entry.store(row, Ordering::Release);
            }
        }
        let count = order.len() as u32;
        self.changed(count, space, executor, builder)
    }

    /// Replaces the tombstones among the neighbours of `row` by the nearest of their neighbours.
    fn mend(&self, space: Space<'_>, row: u32, worker: &mut Worker) {
        let Worker { prune, .. } = worker;
        prune.salt = self.mix(row);
        let salt = prune.salt;
        let Some(node) = space.rows.get(row) else {
            // The row is about to be removed itself.
            return;
        };
        prune.pool.clear();
        prune.chosen.clear();
        for kept in self.adjacency.neighbours(row).filter(|n| self.contains(*n)) {
            let _ = prune.chosen.try_push(Candidate::new(vexfs_simd::Distance(0), kept ^ salt));
        }
        for gone in self.adjacency.neighbours(row).filter(|n| self.is_tombstone(*n)) {
            prune.pool.clear();
            for heir in self.adjacency.neighbours(gone) {
                let candidate = Candidate::new(vexfs_simd::Distance(0), heir ^ salt);
                let known = |c: &Candidate| c.row() == candidate.row();
                if heir != row && self.contains(heir) && !prune.chosen.iter().any(known) {
                    let _ = prune.pool.try_push(candidate);
                }
            }
            space.sift(node, &mut prune.pool, (0, salt), &mut |candidate, distance| {
                Some(Candidate::new(distance, candidate.row()))
            });
            sort_by(&mut prune.pool, |a, b| a < b);
            let backbone = self.is_backbone(row) && self.is_backbone(gone);
            let mut heirs = [HEIRS, if backbone { HEIRS } else { 0 }];
            for heir in &prune.pool {
                let kind = usize::from(heirs.first() == Some(&0));
                let fits = kind == 0 || self.is_backbone(heir.row() ^ salt);
                if let (true, Some(left @ 1..)) = (fits, heirs.get_mut(kind)) {
                    *left -= 1;
                    let _ = prune.chosen.try_push(*heir);
                }
            }
        }
        if prune.chosen.len() <= self.adjacency.slots() {
            self.adjacency.set_neighbours(row, prune.chosen.iter().map(|c| c.row() ^ salt));
        } else {
            core::mem::swap(&mut prune.pool, &mut prune.chosen);
            self.prune_pool(space, row, prune);
        }
    }
}

impl Graph {
    /// Whether `row` can be entered: neither absent nor unset.
    pub(crate) fn is_node(&self, row: u32) -> bool {
        row != NO_ROW && self.adjacency.state(row) != State::Absent
    }
}
