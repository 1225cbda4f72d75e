// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Inserting rows in batches, on several threads, with a result that does not depend on how many.
//!
//! As in ParlayANN (Manohar et al., arXiv 2305.04359, section 3.1): a batch searches the graph as it
//! was before the batch, each row on its own; then the links back are grouped by their target and
//! each target is relinked on its own. Batches grow from one row, so that the rows of one call,
//! which may all lie close together, find each other.

use crate::adjacency::State;
use crate::executor::share_out;
use crate::graph::{BACKBONE_WIDTH, Graph, NO_ROW, mix};
use crate::prune::Prune;
use crate::queue::{Candidate, Queue};
use crate::search::{COPIES_MAX, Scratch, Walk};
use crate::{Error, Executor, Space, Stats};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vexfs_memory::{TryVec, sort_by};
use vexfs_simd::RowTerm;

/// The most rows that are inserted against one state of the graph.
const BATCH_MAX: usize = 1024;

/// The graph is at least this many times a batch.
const BATCH_SHARE: usize = 8;

/// A link back, from a new row to the target it is filed under.
#[derive(Clone, Copy)]
struct BackLink {
    source: u32,
    /// Number of the next link of the same target, plus one; zero ends the list.
    next: u32,
}

/// The memory of one building thread.
#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) scratch: Scratch,
    pub(crate) prune: Prune,
}

/// The memory that changing a graph takes. There is one for a graph, and who holds it is the
/// writer; dropping it between bursts of changes frees the memory.
#[derive(Default)]
pub struct Builder {
    pub(crate) workers: Vec<Worker>,
    /// The rows of the call at work.
    pub(crate) order: Vec<u32>,
    /// For each row the number of its first link back plus one, or zero.
    heads: Vec<u32>,
    links: Vec<BackLink>,
    pub(crate) targets: Vec<u32>,
}

impl Builder {
    /// Holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let workers = self.workers.iter();
        workers.map(|w| w.scratch.memory_bytes() + w.prune.memory_bytes()).sum::<usize>()
            + self.workers.capacity() * size_of::<Worker>()
            + (self.order.capacity() + self.heads.capacity() + self.targets.capacity()) * 4
            + self.links.capacity() * size_of::<BackLink>()
    }

    /// Readies as many workers as the executor runs, with memory for rows below `capacity`.
    pub(crate) fn prepare(
        &mut self,
        executor: &dyn Executor,
        capacity: u32,
        effort: usize,
        pool: usize,
    ) -> Result<(), Error> {
        while self.workers.len() < executor.workers().clamp(1, 1024) {
            self.workers.try_push(Worker::default())?;
        }
        for worker in &mut self.workers {
            worker.scratch.forget(capacity)?;
            worker.scratch.beam.reset(effort, effort)?;
            worker.scratch.results.reset(0, 0)?;
            worker.scratch.expanded.clear();
            worker.scratch.expanded.try_reserve(effort * 2).map_err(|_| Error::OutOfMemory)?;
            worker.prune.reserve(pool.max(effort * 3))?;
        }
        Ok(())
    }
}

impl Graph {
    /// Makes nodes of the rows `new`, whose bytes are in `space.rows`.
    ///
    /// Rows that are nodes already, and rows that are not there, are passed over; a row whose bytes
    /// change is removed first and inserted again. The result depends on the seed, on the graph and
    /// on `new`, not on the threads. On [`Error::OutOfMemory`] some rows may not have become nodes
    /// (see [`Graph::contains`]): the graph is whole, and the call can be made again.
    /// [`Error::RowRange`]: a row was not reserved.
    pub fn insert_batch(
        &self,
        space: Space<'_>,
        new: &[u32],
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<(), Error> {
        if new.iter().any(|row| *row >= self.capacity()) {
            return Err(Error::RowRange);
        }
        let effort = usize::from(self.parameters.effort);
        builder.prepare(executor, self.capacity(), effort, 0)?;
        builder.heads.try_resize(self.capacity() as usize, 0)?;
        builder.order.clear();
        builder.order.try_reserve(new.len()).map_err(|_| Error::OutOfMemory)?;
        let Builder { workers, order, .. } = builder;
        let Some(worker) = workers.first_mut() else { return Ok(()) };
        for row in new {
            if self.adjacency.state(*row) == State::Absent
                && space.rows.get(*row).is_some()
                && worker.scratch.meet(*row)
            {
                order.try_push(*row)?;
            }
        }
        shuffle(order, self.parameters.seed);
        let mut done = 0;
        while done < builder.order.len() {
            let nodes = self.nodes.load(Ordering::Relaxed) as usize;
            let size = (nodes / BATCH_SHARE).min(done + 1).clamp(1, BATCH_MAX);
            let end = (done + size).min(builder.order.len());
            self.insert_some(space, done..end, executor, builder)?;
            done = end;
            let nodes = self.nodes.load(Ordering::Relaxed);
            if nodes / 2 >= self.entries_nodes.load(Ordering::Relaxed) {
                self.choose_entries(space);
            }
        }
        self.changed(done as u32, space, executor, builder)
    }

    /// Inserts one batch, the part `range` of the builder's order.
    fn insert_some(
        &self,
        space: Space<'_>,
        range: core::ops::Range<usize>,
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<(), Error> {
        let Builder { workers, order, heads, links, targets } = builder;
        let batch = order.get(range).unwrap_or_default();
        // All memory first: once links are made, nothing may fail.
        let links_max = batch.len() * usize::from(self.parameters.degree);
        links.clear();
        links.try_reserve(links_max).map_err(|_| Error::OutOfMemory)?;
        targets.clear();
        targets.try_reserve(links_max).map_err(|_| Error::OutOfMemory)?;
        for worker in workers.iter_mut() {
            worker.prune.reserve(self.adjacency.slots() + batch.len())?;
        }
        share_out(executor, workers, batch.len(), &|worker, index| {
            if let Some(row) = batch.get(index) {
                self.find_neighbours(space, *row, worker);
            }
        })?;
        // Filed in reverse, so that each target's list runs forward.
        for row in batch.iter().rev() {
            for target in self.adjacency.neighbours(*row) {
                let Some(head) = heads.get_mut(target as usize) else { continue };
                if *head == 0 {
                    targets.try_push(target)?;
                }
                links.try_push(BackLink { source: *row, next: *head })?;
                *head = links.len() as u32;
            }
        }
        let (filed, groups) = (&*links, &*heads);
        let linked = share_out(executor, workers, targets.len(), &|worker, index| {
            let Some(target) = targets.get(index).copied() else { return };
            let mut next = groups.get(target as usize).copied().unwrap_or(0);
            let sources = core::iter::from_fn(|| {
                let link = filed.get((next as usize).checked_sub(1)?)?;
                next = link.next;
                Some(link.source)
            });
            self.link_back(space, target, sources, worker);
        });
        for target in targets.iter() {
            if let Some(head) = heads.get_mut(*target as usize) {
                *head = 0;
            }
        }
        linked?;
        let first = self.nodes.load(Ordering::Relaxed) == 0;
        for row in batch {
            self.adjacency.set_state(*row, State::Live);
            self.nodes.fetch_add(1, Ordering::Relaxed);
            self.link_if_missed(*row);
        }
        if let (true, [row, ..], [entry, ..]) = (first, batch, &self.entries) {
            entry.store(*row, Ordering::Release);
        }
        Ok(())
    }

    /// Searches for the neighbours of `row`, which is not a node yet, and sets them.
    fn find_neighbours(&self, space: Space<'_>, row: u32, worker: &mut Worker) {
        let Some((bytes, term)) = space.rows.get(row) else { return };
        let Worker { scratch, prune } = worker;
        prune.salt = self.mix(row);
        let near = if self.is_backbone(row) { Some(&mut prune.backbone) } else { None };
        if self.explore(space, (bytes, term), prune.salt, scratch, near).is_err() {
            return;
        }
        // Everything in the beam was expanded; what was expanded and pushed out lies behind it.
        prune.pool.clear();
        let salt = prune.salt;
        let live = |candidate: &Candidate| self.contains(candidate.row() ^ salt);
        for candidate in scratch.beam.entries() {
            let candidate = candidate.untaken();
            if live(&candidate) {
                let _ = prune.pool.try_push(candidate);
            }
        }
        let last = scratch.beam.entries().last().map(|last| last.untaken());
        let near = prune.pool.len();
        for candidate in &scratch.expanded {
            if Some(*candidate) > last && live(candidate) {
                let _ = prune.pool.try_push(*candidate);
            }
        }
        if let Some(far) = prune.pool.get_mut(near..) {
            sort_by(far, |a, b| a < b);
        }
        // One more copy of a row that is there leads to where that leads.
        let first = prune.pool.first().and_then(|first| space.rows.get(first.row() ^ salt));
        let share = if first.is_some_and(|(first, _)| first == bytes) { 4 } else { 2 };
        let degree = usize::from(self.parameters.degree) / share;
        self.choose_neighbours(space, row, bytes, prune, degree.max(2 * COPIES_MAX));
    }

    /// Prunes the pool to `degree` for `row` and, when that is of the backbone, what
    /// `prune.backbone` holds for its links there; sets both as its neighbours.
    fn choose_neighbours(
        &self,
        space: Space<'_>,
        row: u32,
        bytes: &[u8],
        prune: &mut Prune,
        degree: usize,
    ) {
        let fill = usize::from(self.parameters.degree) / 4;
        let salt = prune.salt;
        if !self.is_backbone(row) {
            prune.choose(&space, bytes, degree, fill, self.relaxation());
            self.adjacency.set_neighbours(row, prune.chosen.iter().map(|c| c.row() ^ salt));
            return;
        }
        let backbone = self.parameters.backbone_degree();
        core::mem::swap(&mut prune.pool, &mut prune.backbone);
        prune.choose(&space, bytes, backbone, backbone, self.relaxation());
        core::mem::swap(&mut prune.pool, &mut prune.backbone);
        core::mem::swap(&mut prune.chosen, &mut prune.backbone);
        prune.choose(&space, bytes, degree, fill, self.relaxation());
        let Prune { chosen, backbone, .. } = prune;
        let others = chosen.iter().filter(|c| !backbone.contains(c));
        self.adjacency.set_neighbours(row, backbone.iter().chain(others).map(|c| c.row() ^ salt));
    }

    /// Runs a beam search of the build's width; `scratch` was prepared, so it allocates nothing.
    /// With `backbone`, the backbone is searched as widely, and its nearest nodes are left there.
    pub(crate) fn explore(
        &self,
        space: Space<'_>,
        query: (&[u8], RowTerm),
        salt: u32,
        scratch: &mut Scratch,
        backbone: Option<&mut Vec<Candidate>>,
    ) -> Result<(), Error> {
        let effort = usize::from(self.parameters.effort);
        scratch.forget(self.capacity())?;
        scratch.beam.reset(effort, effort)?;
        scratch.results.reset(0, 0)?;
        scratch.expanded.clear();
        let walk = Walk {
            adjacency: &self.adjacency,
            space,
            query,
            seed: self.parameters.seed,
            backbone_width: if backbone.is_some() { effort / 2 } else { BACKBONE_WIDTH },
            salt,
            examined_max: u64::MAX,
            expanded_max: effort * 2,
        };
        let mut stats = Stats::default();
        let mut offer = |_: &mut Queue, _: &mut Queue, _: &mut Stats, _, _| ();
        walk.approach(self.entry_rows(), scratch, &mut stats, &mut offer);
        if let Some(near) = backbone {
            near.clear();
            for candidate in scratch.beam.entries() {
                let row = candidate.row() ^ salt;
                if self.is_backbone(row) && self.contains(row) {
                    near.try_push(*candidate)?;
                }
            }
        }
        walk.run(scratch, &mut stats, &mut offer);
        Ok(())
    }

    /// Gives `target` links to `sources`.
    fn link_back(
        &self,
        space: Space<'_>,
        target: u32,
        sources: impl Iterator<Item = u32>,
        worker: &mut Worker,
    ) {
        let prune = &mut worker.prune;
        prune.salt = self.mix(target);
        let salt = prune.salt;
        prune.pool.clear();
        let held = self.adjacency.degree(target);
        for source in self.adjacency.neighbours(target).chain(sources) {
            let candidate = Candidate::new(vexfs_simd::Distance(0), source ^ salt);
            // A link can be there already only when its row was removed and is back.
            let known = prune.pool.iter().take(held).any(|known| *known == candidate);
            if !known && source != target {
                let _ = prune.pool.try_push(candidate);
            }
        }
        if prune.pool.len() <= self.adjacency.slots() {
            self.adjacency.set_neighbours(target, prune.pool.iter().map(|c| c.row() ^ salt));
        } else {
            self.prune_pool(space, target, prune);
        }
    }

    /// Measures the pool from `node`, prunes it, and sets the node's neighbours.
    pub(crate) fn prune_pool(&self, space: Space<'_>, node: u32, prune: &mut Prune) {
        let Some((bytes, term)) = space.rows.get(node) else { return };
        let salt = prune.salt;
        space.sift((bytes, term), &mut prune.pool, (0, salt), &mut |candidate, distance| {
            Some(Candidate::new(distance, candidate.row()))
        });
        sort_by(&mut prune.pool, |a, b| a < b);
        if self.is_backbone(node) {
            prune.backbone.clear();
            for candidate in &prune.pool {
                if self.is_backbone(candidate.row() ^ salt) {
                    let _ = prune.backbone.try_push(*candidate);
                }
            }
        }
        let degree = usize::from(self.parameters.degree);
        self.choose_neighbours(space, node, bytes, prune, degree);
    }

    /// Makes sure that some neighbour of the new node `row` links back to it, where there is room.
    fn link_if_missed(&self, row: u32) {
        let linked = |of: u32| self.adjacency.neighbours(of).any(|neighbour| neighbour == row);
        if !self.adjacency.neighbours(row).any(linked) {
            let mut neighbours = self.adjacency.neighbours(row);
            let _ = neighbours.any(|neighbour| self.adjacency.push_neighbour(neighbour, row));
        }
    }

    /// Notes that `rows` were inserted or removed, and proves once in a while that every node can
    /// be reached. Short memory for that proof is no failure: it is tried again at the next change.
    pub(crate) fn changed(
        &self,
        rows: u32,
        space: Space<'_>,
        executor: &dyn Executor,
        builder: &mut Builder,
    ) -> Result<(), Error> {
        let unproven = self.unproven.load(Ordering::Relaxed).saturating_add(rows);
        self.unproven.store(unproven, Ordering::Relaxed);
        if unproven >= self.nodes.load(Ordering::Relaxed) / 8 {
            match self.connect(space, executor, builder) {
                Ok(()) | Err(Error::OutOfMemory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Chooses where searches start: of a sample of nodes the one that is nearest to a sample on
    /// the whole, a stand-in for the medoid.
    pub(crate) fn choose_entries(&self, space: Space<'_>) {
        let mut nearest: Option<(u64, u32)> = None;
        let mut probes = [NO_ROW; ENTRY_PROBES];
        for (number, probe) in probes.iter_mut().enumerate() {
            *probe = self.sample(ENTRY_CANDIDATES + number).unwrap_or(NO_ROW);
        }
        for number in 0..ENTRY_CANDIDATES {
            let Some(row) = self.sample(number) else { break };
            let Some(query) = space.rows.get(row) else { continue };
            let sum = distance_sum(space, query, &probes);
            if nearest.is_none_or(|best| (sum, row) < best) {
                nearest = Some((sum, row));
            }
        }
        let row = nearest.map_or(NO_ROW, |(_, row)| row);
        let [entry, ..] = &self.entries;
        entry.store(row, Ordering::Release);
        self.entries_nodes.store(self.nodes.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// A live node that `number` picks at random; the next one where it falls between nodes.
    fn sample(&self, number: usize) -> Option<u32> {
        let random = mix(self.parameters.seed.wrapping_add((number as u64) << 32)) >> 32;
        let mut row = ((random * u64::from(self.capacity())) >> 32) as u32;
        let mut wrapped = false;
        loop {
            match self.next(row) {
                Some(found) if self.contains(found) => return Some(found),
                Some(found) => row = found + 1,
                None if wrapped => return None,
                None => (row, wrapped) = (0, true),
            }
        }
    }
}

/// The sum of the distances, as ordered integers, from `query` to the rows of `probes`.
// Out of line: a batch and the probes in one stack frame are more than a kernel allows.
#[inline(never)]
fn distance_sum(space: Space<'_>, query: (&[u8], RowTerm), probes: &[u32]) -> u64 {
    let mut sum = 0;
    space.measure(query, probes.iter().copied(), &mut |_, distance| {
        sum += u64::from(distance.0);
    });
    sum
}

/// Nodes among which the entry is chosen.
const ENTRY_CANDIDATES: usize = 32;
/// Nodes to which it is to be near.
const ENTRY_PROBES: usize = 32;

/// Puts `rows` into an order that depends on `seed` alone (Fisher and Yates).
fn shuffle(rows: &mut [u32], seed: u64) {
    for last in (1..rows.len()).rev() {
        let random = mix(seed.wrapping_add(last as u64)) >> 32;
        let other = ((random * (last as u64 + 1)) >> 32) as usize;
        if let Some((front, back)) = rows.split_at_mut_checked(last)
            && let (Some(a), Some(b)) = (front.get_mut(other), back.first_mut())
        {
            core::mem::swap(a, b);
        }
    }
}
