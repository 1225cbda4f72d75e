// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The search graph: one layer of links between rows, its parameters, where searches enter it, and
//! its counts. Building is in `build`, taking out in `removal`, storing in `stored`.

use crate::adjacency::{Adjacency, State};
use crate::prune::Relaxation;
use crate::search::{self, Walk};
use crate::{Error, Request, Scratch, Space, Stats};
use core::sync::atomic::{AtomicU32, Ordering};
use vexfs_simd::RowTerm;

/// The most neighbours that [`Parameters::degree`] may ask for.
pub const DEGREE_MAX: u16 = 128;

/// How many entry points a graph can have.
pub const ENTRIES_MAX: usize = 8;

/// No row; marks an entry point that is not set.
pub(crate) const NO_ROW: u32 = u32::MAX;

/// How a graph is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Neighbours that a node is pruned to, 4 to [`DEGREE_MAX`]. A new node chooses half as many, the
    /// rest are links back; records have room for half as many again, so that a node is not pruned
    /// at each link that comes in.
    pub degree: u16,
    /// Width of the beam when a row is inserted, `degree` to 4096.
    pub effort: u16,
    /// How much farther, in percent, a neighbour must be than a detour for the detour to replace it
    /// (alpha of the DiskANN paper, applied to the metric's distance: squared under l2), 100 to 199.
    pub alpha_percent: u16,
    /// Orders inserts and breaks ties. The same seed and calls give the same graph.
    pub seed: u64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { degree: 32, effort: 64, alpha_percent: 120, seed: 0x5eed }
    }
}

impl Parameters {
    pub(crate) fn check(&self) -> Result<(), Error> {
        let sound = (4..=DEGREE_MAX).contains(&self.degree)
            && (self.degree..=4096).contains(&self.effort)
            && (100..=199).contains(&self.alpha_percent);
        if sound { Ok(()) } else { Err(Error::Parameter) }
    }

    /// Links that a backbone node keeps to others of its kind.
    pub(crate) fn backbone_degree(&self) -> usize {
        (usize::from(self.degree) * 3 / 8).max(1)
    }

    /// Neighbours that a record has room for: `degree` and `backbone_degree` fit.
    pub(crate) fn slots(&self) -> usize {
        usize::from(self.degree) * 3 / 2 - 1
    }
}

/// The search graph over the rows of one collection.
///
/// Row numbers index its records, so it has room for rows, which [`Graph::reserve`] makes, and of
/// those the ones that were inserted are its *nodes*. All calls but `reserve` and loading take
/// `&self`: searches may run beside the one writer, and see a row once its links are complete.
pub struct Graph {
    pub(crate) parameters: Parameters,
    pub(crate) adjacency: Adjacency,
    pub(crate) entries: [AtomicU32; ENTRIES_MAX],
    /// Nodes, tombstones among them.
    pub(crate) nodes: AtomicU32,
    pub(crate) tombstones: AtomicU32,
    /// Nodes when the entries were last chosen.
    pub(crate) entries_nodes: AtomicU32,
    /// Rows inserted and removed since all nodes were last known to be reachable.
    pub(crate) unproven: AtomicU32,
}

impl Graph {
    /// A graph without nodes; allocates nothing. [`Error::Parameter`] says one is out of range.
    pub fn new(parameters: Parameters) -> Result<Self, Error> {
        parameters.check()?;
        Ok(Self {
            parameters,
            adjacency: Adjacency::new(parameters.slots())?,
            entries: [const { AtomicU32::new(NO_ROW) }; ENTRIES_MAX],
            nodes: AtomicU32::new(0),
            tombstones: AtomicU32::new(0),
            entries_nodes: AtomicU32::new(0),
            unproven: AtomicU32::new(0),
        })
    }

    /// How the graph is built.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Makes room for rows below `rows`; never shrinks. On an error nothing is lost.
    pub fn reserve(&mut self, rows: u32) -> Result<(), Error> {
        self.adjacency.reserve(rows)
    }

    /// Rows below this have a record.
    pub fn capacity(&self) -> u32 {
        self.adjacency.capacity()
    }

    /// Nodes that searches may return.
    pub fn nodes(&self) -> u32 {
        self.nodes.load(Ordering::Relaxed).saturating_sub(self.tombstones())
    }

    /// Nodes that wait for [`Graph::remove_batch`].
    pub fn tombstones(&self) -> u32 {
        self.tombstones.load(Ordering::Relaxed)
    }

    /// Whether `row` is a node that searches may return.
    pub fn contains(&self, row: u32) -> bool {
        self.adjacency.state(row) == State::Live
    }

    /// The lowest node at or above `from`, tombstones among them.
    pub fn next(&self, from: u32) -> Option<u32> {
        self.adjacency.next(from)
    }

    /// Whether `row` is a node that waits for [`Graph::remove_batch`].
    pub fn is_tombstone(&self, row: u32) -> bool {
        self.adjacency.state(row) == State::Tombstone
    }

    /// The neighbours of `row`: numbers below the capacity, not all of which need be nodes.
    pub fn neighbours(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        self.adjacency.neighbours(row)
    }

    /// Neighbours a node has on average, in hundredths.
    pub fn average_degree_percent(&self) -> u32 {
        let (mut nodes, mut links) = (0u64, 0u64);
        let mut from = Some(0);
        while let Some(row) = from.and_then(|from| self.next(from)) {
            nodes += 1;
            links += self.adjacency.degree(row) as u64;
            from = row.checked_add(1);
        }
        (links * 100).checked_div(nodes).unwrap_or(0) as u32
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.adjacency.memory_bytes()
    }

    /// Where searches start.
    pub fn entry_rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().map(|entry| entry.load(Ordering::Acquire)).filter(|row| *row != NO_ROW)
    }

    /// Stops searches from returning `row`, at once; it is still passed through until
    /// [`Graph::remove_batch`]. Says whether it was a node.
    pub fn tombstone(&self, row: u32) -> bool {
        let live = self.contains(row);
        if live {
            self.adjacency.set_state(row, State::Tombstone);
            self.tombstones.fetch_add(1, Ordering::Relaxed);
        }
        live
    }

    /// Finds the rows nearest to `query`, which has the shape of `space.rows` and its own term.
    ///
    /// `accept` is asked at most once for each row, in the order in which rows are met. Leaves the
    /// hits in `scratch`, nearest first, ties by row number. Allocates nothing once `scratch` has
    /// served a search of this size. The same graph, query and answers of `accept` give the same
    /// hits. Fails with [`Error::Parameter`] or [`Error::OutOfMemory`].
    pub fn search(
        &self,
        space: Space<'_>,
        query: (&[u8], RowTerm),
        request: &Request,
        accept: &mut dyn FnMut(u32) -> bool,
        scratch: &mut Scratch,
    ) -> Result<Stats, Error> {
        let walk = Walk {
            adjacency: &self.adjacency,
            space,
            query,
            seed: self.parameters.seed,
            backbone_width: BACKBONE_WIDTH,
            salt: 0,
            examined_max: request.examined_max,
            expanded_max: 0,
        };
        let request = &Request { filtered: request.filtered || self.tombstones() > 0, ..*request };
        search::search(&walk, self.entry_rows(), request, accept, scratch)
    }

    pub(crate) fn relaxation(&self) -> Relaxation {
        Relaxation::new(self.parameters.alpha_percent)
    }

    /// Whether `row` is of the backbone.
    pub(crate) fn is_backbone(&self, row: u32) -> bool {
        is_backbone(self.parameters.seed, row)
    }

    /// A number for `row` that looks random, below `ROWS_MAX`.
    pub(crate) fn mix(&self, row: u32) -> u32 {
        mix(self.parameters.seed ^ u64::from(row)) as u32 >> 1
    }
}

/// One row in this many is of the backbone.
const BACKBONE_SHARE: u64 = 32;

/// How many of the nearest backbone nodes a search follows.
pub(crate) const BACKBONE_WIDTH: usize = 4;

/// Whether `row` is of the backbone: a random share of the rows that keep links to each other, near
/// and far, besides their other links. It does what the upper layer does in HNSW (Malkov and
/// Yashunin, arXiv 1603.09320), that is, leads across clusters that have no links between them,
/// without a layer's own records.
#[inline]
pub(crate) fn is_backbone(seed: u64, row: u32) -> bool {
    mix(seed ^ u64::from(row)) >> 32 & (BACKBONE_SHARE - 1) == 0
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
pub(crate) fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
