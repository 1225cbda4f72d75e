// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Nearest-neighbour search over the rows of a collection, in memory.
//!
//! A *row* is a number below [`ROWS_MAX`] and the bytes of one vector. Rows live in [`Rows`]; the
//! `Graph` holds links between their numbers and nothing else; `exact` needs no graph at all. The
//! caller owns what a row means, persistence, and the choice between graph and exact search.
//! Nothing here panics, allocates infallibly or uses floating point: distances come from
//! [`vexfs_simd::Kernels`] as ordered integers, threads from the host's [`Executor`].
//!
//! | to | use |
//! | --- | --- |
//! | keep vectors | [`Rows::set`], [`Rows::get`], [`Rows::clear`] |
//! | build and change the graph | [`Graph::reserve`], then [`Graph::insert_batch`] and [`Graph::remove_batch`] with the one [`Builder`]; [`Graph::tombstone`] hides a row at once |
//! | search | [`Graph::search`] with a [`Scratch`] for each thread, then [`Scratch::hits`] |
//! | search without a graph | [`exact()`], [`exact_parallel`] |
//! | search codes, then rows | a graph over a [`Rows`] of codes; the caller orders the hits by the rows themselves |
//! | store | [`Graph::header`], [`Graph::next_dirty`], [`Graph::take_dirty`], [`Graph::page`] |
//! | load | [`Graph::from_header`], [`Graph::load_page`], [`Graph::loaded`]; then [`Graph::remove_batch`] for nodes whose rows are gone or changed, and [`Graph::insert_batch`] for rows that are no nodes |
//!
//! One writer at a time (who holds the `Builder`); any number of searches run beside it. Only
//! `reserve`, loading and changes of the `Rows` need the searches kept away. When memory is short
//! a call says so and leaves the graph whole: rows that are not [`Graph::contains`]ed yet are given
//! again, tombstones are removed again.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod adjacency;
mod build;
mod connectivity;
mod exact;
mod executor;
mod graph;
mod prune;
mod queue;
mod removal;
mod rows;
mod search;
mod space;
mod stored;

pub use adjacency::PAGE_BYTES;
pub use build::Builder;
pub use exact::{exact, exact_parallel};
pub use executor::{Executor, Serial};
pub use graph::{DEGREE_MAX, ENTRIES_MAX, Graph, Parameters};
pub use rows::{Rows, SEGMENT_BYTES_MAX};
pub use search::{EFFORT_MAX, Hit, K_MAX, Request, Scratch, Stats};
pub(crate) use space::Batch;
pub use space::Space;
pub use stored::{HEADER_BYTES, Header};
use vexfs_memory::OutOfMemory;

/// Rows are numbered below this.
pub const ROWS_MAX: u32 = 1 << 31;

/// Why a call did nothing, or not all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The allocator had no memory.
    OutOfMemory,
    /// A row number at or above [`ROWS_MAX`] or above what was reserved.
    RowRange,
    /// A row has another length than the shape says.
    RowLength,
    /// A parameter is out of its range.
    Parameter,
    /// Bytes that were stored are not a graph.
    Damaged,
    /// [`Executor::is_cancelled`] said so.
    Cancelled,
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}
