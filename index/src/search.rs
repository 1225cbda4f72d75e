// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Beam search through the links, with a filter that works during the traversal.
//!
//! Greedy best-first search as in DiskANN (Subramanya et al., NeurIPS 2019, algorithm 1): the beam
//! holds the nearest rows met, whatever the filter says of them, and the nearest of it that was not
//! expanded yet is expanded next. Rows that the filter accepts go to a queue of their own; as rows
//! are rejected, the beam grows by the inverse of the accepted share, so that about as many
//! acceptable rows are explored as without a filter.

use crate::adjacency::{Adjacency, State};
use crate::graph::is_backbone;
use crate::queue::{Candidate, Queue};
use crate::{Batch, Error, Space};
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use vexfs_simd::{Distance, RowTerm};

/// The widest beam that can be asked for.
pub const EFFORT_MAX: u32 = 1 << 16;

/// The most results that can be asked for.
pub const K_MAX: u32 = 1 << 16;

/// How far a filter may widen the beam, as a multiple of what was asked for.
const WIDENING_MAX: usize = 16;

/// How many decisions of the filter the accepted share starts from, so that the first few
/// rejections do not widen the beam.
const SHARE_PRIOR: usize = 8;

/// What a search is to find, and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many rows, 1 to [`K_MAX`].
    pub k: u32,
    /// Width of the beam (`ef`), at most [`EFFORT_MAX`]; raised to `k` when it is less. Exact
    /// search has no use for it.
    pub effort: u32,
    /// No row farther than this.
    pub radius: Option<Distance>,
    /// The search stops once it has computed this many distances.
    pub examined_max: u64,
    /// Rows may be rejected: what is met is kept in wider memory, since the beam may have to grow.
    pub filtered: bool,
}

impl Request {
    /// The `k` nearest rows at this effort, without other limits.
    pub const fn nearest(k: u32, effort: u32) -> Self {
        Self { k, effort, radius: None, examined_max: u64::MAX, filtered: false }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let sound = self.k >= 1 && self.k <= K_MAX && self.effort <= EFFORT_MAX;
        if sound { Ok(()) } else { Err(Error::Parameter) }
    }
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Its distance from the query.
    pub distance: Distance,
    /// Its number.
    pub row: u32,
}

/// What a search did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Distances computed.
    pub examined: u64,
    /// Rows that the filter accepted.
    pub accepted: u64,
    /// Rows that the filter rejected, and tombstones that were met.
    pub rejected: u64,
    /// Nodes whose neighbours were looked at.
    pub hops: u64,
    /// The search ended at a limit: `examined_max`, or the widest beam, with results beyond what the
    /// beam explored. Nearer rows may exist; an exact search finds them.
    pub cut: bool,
    /// The host wants no more of it.
    pub(crate) cancelled: bool,
}

/// The memory of a searching thread. Grows to what its largest search needed and is used again.
#[derive(Default)]
pub struct Scratch {
    /// For each row the number of the last search that met it.
    stamps: Vec<u8>,
    epoch: u8,
    pub(crate) beam: Queue,
    pub(crate) results: Queue,
    /// What was expanded, in order, when the graph build asks for it.
    pub(crate) expanded: Vec<Candidate>,
    /// Copies that the beam has no place for and the results have.
    copies: Vec<Candidate>,
    pub(crate) hits: Vec<Hit>,
}

impl Scratch {
    /// Holds no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the last search found, nearest first, ties by row number.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        self.stamps.capacity()
            + self.beam.memory_bytes()
            + self.results.memory_bytes()
            + (self.expanded.capacity() + self.copies.capacity()) * size_of::<Candidate>()
            + self.hits.capacity() * size_of::<Hit>()
    }

    /// Forgets which rows were met, for row numbers below `capacity`.
    pub(crate) fn forget(&mut self, capacity: u32) -> Result<(), Error> {
        let capacity = capacity as usize;
        if self.stamps.len() < capacity {
            self.stamps.try_resize(capacity, 0)?;
        }
        if self.epoch == u8::MAX {
            self.stamps.fill(0);
            self.epoch = 0;
        }
        self.epoch += 1;
        Ok(())
    }

    /// Whether `row` is met for the first time since `forget`. Rows out of range never are.
    #[inline]
    pub(crate) fn meet(&mut self, row: u32) -> bool {
        match self.stamps.get_mut(row as usize) {
            Some(stamp) if *stamp != self.epoch => {
                *stamp = self.epoch;
                true
            }
            _ => false,
        }
    }

    /// Moves the results to the hits.
    pub(crate) fn publish(&mut self) -> Result<(), Error> {
        self.hits.clear();
        for result in self.results.entries() {
            self.hits.try_push(Hit { distance: result.distance(), row: result.row() })?;
        }
        Ok(())
    }
}

/// Where a traversal starts and how it orders and bounds its work.
pub(crate) struct Walk<'a> {
    pub(crate) adjacency: &'a Adjacency,
    pub(crate) space: Space<'a>,
    pub(crate) query: (&'a [u8], RowTerm),
    pub(crate) seed: u64,
    /// How many of the nearest backbone nodes are expanded before the rest.
    pub(crate) backbone_width: usize,
    /// Mixed into row numbers where distances tie, so that builds among equal rows spread out.
    pub(crate) salt: u32,
    pub(crate) examined_max: u64,
    /// How many of the expanded nodes to note; that much was reserved for them.
    pub(crate) expanded_max: usize,
}

impl Walk<'_> {
    /// Measures the entries and follows the backbone from them, which leaves in the beam the
    /// nearest backbone nodes. `scratch` has been reset by the caller. `offer` sees each row that is
    /// measured and near enough for the beam or the results, with its state, before the beam does.
    pub(crate) fn approach(
        &self,
        entries: impl Iterator<Item = u32>,
        scratch: &mut Scratch,
        stats: &mut Stats,
        offer: &mut impl FnMut(&mut Queue, &mut Queue, &mut Stats, Candidate, State),
    ) {
        let mut batch = Batch::new();
        for entry in entries {
            if scratch.meet(entry) && self.gather(&mut batch, entry) {
                self.measure(&mut batch, scratch, stats, offer);
            }
        }
        self.measure(&mut batch, scratch, stats, offer);
        if scratch.beam.len() == 0 {
            // The rows of the entries are gone, and their removal from the graph is yet to come.
            let mut from = self.adjacency.next(0);
            for _ in 0..ENTRY_ATTEMPTS {
                let Some(row) = from else { break };
                if scratch.meet(row) && self.gather(&mut batch, row) {
                    break;
                }
                from = self.adjacency.next(row + 1);
            }
            self.measure(&mut batch, scratch, stats, offer);
        }
        while let Some(nearest) = scratch.beam.take(self.backbone_width) {
            stats.hops += 1;
            for row in self.adjacency.neighbours(nearest.row() ^ self.salt) {
                if is_backbone(self.seed, row) && scratch.meet(row) && self.gather(&mut batch, row)
                {
                    self.measure(&mut batch, scratch, stats, offer);
                }
            }
            self.measure(&mut batch, scratch, stats, offer);
        }
        scratch.beam.give_back();
    }

    /// Expands the beam, in which [`Walk::approach`] left something, until nothing in it is
    /// unexpanded.
    pub(crate) fn run(
        &self,
        scratch: &mut Scratch,
        stats: &mut Stats,
        offer: &mut impl FnMut(&mut Queue, &mut Queue, &mut Stats, Candidate, State),
    ) {
        let mut batch = Batch::new();
        while let Some(nearest) = scratch.beam.take(usize::MAX) {
            if stats.hops.is_multiple_of(PAUSE_HOPS) && self.space.pause() {
                stats.cancelled = true;
            }
            if stats.cancelled || stats.examined >= self.examined_max {
                stats.cut = true;
                break;
            }
            if scratch.expanded.len() < self.expanded_max {
                let _ = scratch.expanded.try_push(nearest);
            }
            if let Some(next) = scratch.beam.peek() {
                self.adjacency.prefetch(next.row() ^ self.salt);
            }
            self.expand(nearest, &mut batch, scratch, stats, offer);
        }
    }

    /// Measures the neighbours of a node.
    #[inline]
    fn expand<'a>(
        &'a self,
        node: Candidate,
        batch: &mut Batch<'a>,
        scratch: &mut Scratch,
        stats: &mut Stats,
        offer: &mut impl FnMut(&mut Queue, &mut Queue, &mut Stats, Candidate, State),
    ) {
        stats.hops += 1;
        for row in self.adjacency.neighbours(node.row() ^ self.salt) {
            if scratch.meet(row) && self.gather(batch, row) {
                self.measure(batch, scratch, stats, offer);
            }
        }
        self.measure(batch, scratch, stats, offer);
    }

    /// Expands the copies that are still among the results, or could be, and what they lead to.
    fn run_copies(
        &self,
        scratch: &mut Scratch,
        stats: &mut Stats,
        offer: &mut impl FnMut(&mut Queue, &mut Queue, &mut Stats, Candidate, State),
    ) {
        let mut batch = Batch::new();
        while let Some(copy) = scratch.copies.pop() {
            if stats.cancelled || stats.examined >= self.examined_max {
                stats.cut = true;
                break;
            }
            if copy <= scratch.results.bound() {
                self.expand(copy, &mut batch, scratch, stats, offer);
                self.run(scratch, stats, offer);
            }
        }
    }

    /// Adds `row` to the batch, if it is there; says whether the batch is full.
    #[inline]
    fn gather<'a>(&'a self, batch: &mut Batch<'a>, row: u32) -> bool {
        match self.space.rows.get(row) {
            Some((bytes, term)) => {
                vexfs_simd::prefetch(bytes, PREFETCH_LINES);
                batch.add(row, bytes, term)
            }
            None => false,
        }
    }

    /// Measures the rows of the batch and offers them.
    #[inline]
    fn measure(
        &self,
        batch: &mut Batch<'_>,
        scratch: &mut Scratch,
        stats: &mut Stats,
        offer: &mut impl FnMut(&mut Queue, &mut Queue, &mut Stats, Candidate, State),
    ) {
        let Scratch { beam, results, copies, .. } = scratch;
        batch.measure(&self.space, self.query, &mut |row, distance| {
            stats.examined += 1;
            let candidate = Candidate::new(distance, row ^ self.salt);
            let wanted = candidate < results.bound();
            if !wanted && candidate >= beam.bound() {
                return;
            }
            let state = self.adjacency.state(row);
            if state == State::Absent {
                return;
            }
            offer(beam, results, stats, candidate, state);
            if candidate < beam.bound() {
                let at = beam.place(candidate);
                let mut spare = Some(candidate);
                match self.last_of_crowd(beam, at, candidate) {
                    None => {
                        beam.insert_at(at, candidate);
                        return;
                    }
                    Some(last) if self.copy_order(candidate) < self.copy_order(last) => {
                        spare = Some(last.untaken()).filter(|_| !beam.remove(last));
                        beam.insert(candidate);
                    }
                    Some(_) => {}
                }
                if let Some(spare) = spare.filter(|_| wanted && copies.len() < copies.capacity()) {
                    let _ = copies.try_push(spare);
                }
            }
        });
    }

    /// When the beam has enough rows equal to this one, the last of them. Each of a crowd of copies
    /// leads to the same places; a beam full of them leads nowhere else.
    #[inline]
    fn last_of_crowd(&self, beam: &Queue, at: usize, candidate: Candidate) -> Option<Candidate> {
        let row = |candidate: Candidate| self.space.rows.get(candidate.row() ^ self.salt);
        let mut ties = beam.ties(at, candidate, TIES_MAX).peekable();
        ties.peek()?;
        let (bytes, _) = row(candidate)?;
        let equal = |tie: &Candidate| row(*tie).is_some_and(|(other, _)| other == bytes);
        let (mut count, mut last) = (0, None);
        for copy in ties.filter(equal) {
            count += 1;
            if last.is_none_or(|last| self.copy_order(copy) > self.copy_order(last)) {
                last = Some(copy);
            }
        }
        last.filter(|_| count >= COPIES_MAX)
    }

    /// The order in which copies of one row are preferred. That of row numbers leads everybody to the
    /// same few copies of a crowd, which so come to know what lies around it; a row that joins the
    /// crowd goes by its own order, to spread the links within.
    #[inline]
    fn copy_order(&self, copy: Candidate) -> u32 {
        let row = copy.row() ^ self.salt;
        let joins = self.salt != 0
            && self.space.rows.get(row).is_some_and(|(bytes, _)| bytes == self.query.0);
        if joins { copy.row() } else { row }
    }
}

/// Nodes that are expanded between two questions to the host.
const PAUSE_HOPS: u64 = 64;

/// Equal rows that a beam has place for.
pub(crate) const COPIES_MAX: usize = 2;

/// How many entries of a beam that are as far as a row, on either side of it, are compared with it.
const TIES_MAX: usize = 8;

/// How many nodes are tried in the place of entries whose rows are gone.
const ENTRY_ATTEMPTS: usize = 1024;

/// Lines of a row that are asked for ahead; the processor's own prefetcher follows on.
const PREFETCH_LINES: usize = 4;

/// Searches for rows that `accept` takes; see [`crate::Graph::search`].
pub(crate) fn search(
    walk: &Walk<'_>,
    entries: impl Iterator<Item = u32>,
    request: &Request,
    accept: &mut dyn FnMut(u32) -> bool,
    scratch: &mut Scratch,
) -> Result<Stats, Error> {
    request.check()?;
    let k = request.k as usize;
    let effort = (request.effort as usize).max(k);
    let width_max = effort.saturating_mul(WIDENING_MAX).min(effort.max(EFFORT_MAX as usize));
    scratch.forget(walk.adjacency.capacity())?;
    scratch.beam.reset(effort, width_max)?;
    if request.filtered {
        // What a narrow beam turned away would be missing from it once it has grown.
        scratch.beam.hold(width_max);
    }
    scratch.copies.clear();
    scratch.copies.try_reserve(effort.saturating_mul(2)).map_err(|_| Error::OutOfMemory)?;
    scratch.results.reset(k, k)?;
    scratch.hits.clear();
    scratch.hits.try_reserve(k).map_err(|_| Error::OutOfMemory)?;
    let mut stats = Stats::default();
    let radius = request.radius.unwrap_or(Distance::MAX);
    let mut offer = |beam: &mut Queue,
                     results: &mut Queue,
                     stats: &mut Stats,
                     candidate: Candidate,
                     state: State| {
        if candidate.distance() > radius || candidate >= results.bound() {
            return;
        }
        if state == State::Live && accept(candidate.row()) {
            stats.accepted += 1;
            results.insert(candidate);
            return;
        }
        stats.rejected += 1;
        let (accepted, rejected) = (stats.accepted as usize, stats.rejected as usize);
        let all = accepted.saturating_add(rejected).saturating_add(SHARE_PRIOR);
        let share = effort.saturating_mul(all).checked_div(accepted + SHARE_PRIOR);
        let _ = beam.widen(share.unwrap_or(width_max).min(width_max));
    };
    walk.approach(entries, scratch, &mut stats, &mut offer);
    loop {
        walk.run(scratch, &mut stats, &mut offer);
        walk.run_copies(scratch, &mut stats, &mut offer);
        let Scratch { beam, results, .. } = &mut *scratch;
        let farthest = match results.entries().last() {
            Some(last) if results.len() >= k => last.distance(),
            _ => radius,
        };
        if stats.cut || beam.edge().is_none_or(|edge| edge.distance() >= farthest) {
            break;
        }
        if !beam.widen(beam.depth().saturating_mul(2).min(width_max)) {
            stats.cut = true;
            break;
        }
    }
    if stats.cancelled {
        return Err(Error::Cancelled);
    }
    scratch.publish()?;
    Ok(stats)
}
