// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Proving that every node can be reached from the entries, and linking those that cannot.

use crate::build::{Builder, Worker};
use crate::graph::{Graph, NO_ROW};
use crate::queue::Candidate;
use crate::{Error, Executor, Space};
use core::sync::atomic::Ordering;
use vexfs_memory::TryVec;

/// How often the proof is begun again because a link had to be replaced.
const ROUNDS_MAX: usize = 4;

impl Graph {
    /// Walks all links from the entries; a node that the walk misses is linked from the nearest
    /// node that has room. Inserts and removals call this when enough has changed; a caller may do so
    /// before it stores the graph. Takes about a microsecond for three nodes.
    pub fn connect(
        &self,
        space: Space<'_>,
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<(), Error> {
        let effort = usize::from(self.parameters.effort);
        builder.prepare(executor, self.capacity(), effort, 0)?;
        for _ in 0..ROUNDS_MAX {
            if self.connect_once(space, executor, builder)? {
                break;
            }
        }
        self.unproven.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// One walk; false when a link was replaced, which may have cut off another node.
    fn connect_once(
        &self,
        space: Space<'_>,
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<bool, Error> {
        let Builder { workers, targets: reached, order: marks, .. } = builder;
        let Some(worker) = workers.first_mut() else { return Ok(true) };
        // The walk's own marks: the scratch's are used by the searches below.
        marks.clear();
        marks.try_resize((self.capacity() as usize).div_ceil(32), 0)?;
        reached.clear();
        reached
            .try_reserve(self.nodes.load(Ordering::Relaxed) as usize)
            .map_err(|_| Error::OutOfMemory)?;
        for entry in self.entry_rows() {
            if mark(marks, entry) {
                reached.try_push(entry)?;
            }
        }
        let (mut walked, mut whole) = (0, true);
        let mut from = self.next(0);
        loop {
            while let Some(row) = reached.get(walked).copied() {
                walked += 1;
                for neighbour in self.adjacency.neighbours(row) {
                    if self.is_node(neighbour) && mark(marks, neighbour) {
                        reached.try_push(neighbour)?;
                    }
                }
                if walked % 4096 == 0 {
                    executor.relax();
                }
            }
            let Some(row) = from else { break };
            from = self.next(row + 1);
            if mark(marks, row) {
                whole &= self.link_from_near(space, row, worker, reached.last().copied());
                reached.try_push(row)?;
            }
        }
        Ok(whole)
    }

    /// Links the unreached node `row` from a reached one: the nearest with room that a search
    /// finds, else `last`. False when that took the place of another link.
    fn link_from_near(
        &self,
        space: Space<'_>,
        row: u32,
        worker: &mut Worker,
        last: Option<u32>,
    ) -> bool {
        let salt = self.mix(row);
        let mut nearest = None;
        if let Some(query) = space.rows.get(row)
            && self.explore(space, query, salt, &mut worker.scratch, None).is_ok()
        {
            let number = |candidate: &Candidate| candidate.row() ^ salt;
            let mut near = worker.scratch.beam.entries().iter().map(number);
            nearest = near.clone().next();
            if near.any(|near| near != row && self.adjacency.push_neighbour(near, row)) {
                return true;
            }
        }
        if let Some(last) = last
            && self.adjacency.push_neighbour(last, row)
        {
            return true;
        }
        let Some(from) = nearest.or(last).filter(|from| *from != NO_ROW && *from != row) else {
            return true;
        };
        let kept = self.adjacency.degree(from).saturating_sub(1);
        let prune = &mut worker.prune;
        prune.pool.clear();
        for neighbour in self.adjacency.neighbours(from).take(kept).chain([row]) {
            let _ = prune.pool.try_push(Candidate::new(vexfs_simd::Distance(0), neighbour));
        }
        self.adjacency.set_neighbours(from, prune.pool.iter().map(|c| c.row()));
        false
    }
}

/// Marks `row`; whether it was not marked yet. Rows out of range count as marked.
fn mark(marks: &mut [u32], row: u32) -> bool {
    let bit = 1 << (row % 32);
    match marks.get_mut(row as usize / 32) {
        Some(word) if *word & bit == 0 => {
            *word |= bit;
            true
        }
        _ => false,
    }
}
