// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Rows together with the kernels that measure them, and rows gathered for one call of a kernel.

use crate::queue::Candidate;
use crate::{Executor, Rows};
use alloc::vec::Vec;
use vexfs_simd::{Distance, Kernels, RowTerm};

/// Rows of one kernel call: enough that a host can enter its floating-point section for them, few
/// enough that their references fit the stack.
pub(crate) const BATCH_ROWS: usize = 16;

/// Rows and how to measure them.
#[derive(Clone, Copy)]
pub struct Space<'a> {
    /// The vectors, or codes of them in another shape.
    pub rows: &'a Rows,
    /// The host's distance kernels.
    pub kernels: &'a dyn Kernels,
    /// Asked by searches whether to go on.
    pub executor: &'a dyn Executor,
}

/// Up to [`BATCH_ROWS`] rows on their way to a kernel.
pub(crate) struct Batch<'a> {
    numbers: [u32; BATCH_ROWS],
    bytes: [&'a [u8]; BATCH_ROWS],
    terms: [RowTerm; BATCH_ROWS],
    length: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new() -> Self {
        Self {
            numbers: [0; BATCH_ROWS],
            bytes: [&[]; BATCH_ROWS],
            terms: [RowTerm(0); BATCH_ROWS],
            length: 0,
        }
    }

    /// Adds a row; says whether the batch is now full and must be measured.
    #[inline]
    pub(crate) fn add(&mut self, row: u32, bytes: &'a [u8], term: RowTerm) -> bool {
        let at = self.length;
        if let (Some(a), Some(b), Some(c)) =
            (self.numbers.get_mut(at), self.bytes.get_mut(at), self.terms.get_mut(at))
        {
            (*a, *b, *c) = (row, bytes, term);
            self.length += 1;
        }
        self.length >= BATCH_ROWS
    }

    /// Measures what was gathered from `query`, hands each row with its distance to `each` in the
    /// order of adding, and empties the batch.
    #[inline]
    pub(crate) fn measure(
        &mut self,
        space: &Space<'_>,
        query: (&[u8], RowTerm),
        each: &mut impl FnMut(u32, Distance),
    ) {
        let length = core::mem::take(&mut self.length);
        if length == 0 {
            return;
        }
        let mut distances = [Distance::MAX; BATCH_ROWS];
        if let (Some(bytes), Some(terms), Some(distances)) =
            (self.bytes.get(..length), self.terms.get(..length), distances.get_mut(..length))
        {
            space.kernels.distances(space.rows.shape(), query, bytes, terms, distances);
        }
        for (row, distance) in self.numbers.iter().zip(&distances).take(length) {
            each(*row, *distance);
        }
    }
}

impl Space<'_> {
    /// Lets the host reschedule, and tells whether the search is to end.
    pub(crate) fn pause(&self) -> bool {
        self.executor.relax();
        self.executor.is_cancelled()
    }

    /// Measures `rows` from `query`; those that are not there are passed over.
    pub(crate) fn measure(
        &self,
        query: (&[u8], RowTerm),
        rows: impl Iterator<Item = u32>,
        each: &mut impl FnMut(u32, Distance),
    ) {
        let mut batch = Batch::new();
        for row in rows {
            if let Some((bytes, term)) = self.rows.get(row)
                && batch.add(row, bytes, term)
            {
                batch.measure(self, query, each);
            }
        }
        batch.measure(self, query, each);
    }

    /// Drops the first `skip` of `candidates` and replaces each other one by what `sift` makes of it
    /// and its distance from `query`, or drops it on `None`; the order stays. The row of a
    /// candidate is its number mixed with `salt`; candidates whose row is gone are dropped.
    pub(crate) fn sift(
        &self,
        query: (&[u8], RowTerm),
        candidates: &mut Vec<Candidate>,
        (skip, salt): (usize, u32),
        sift: &mut impl FnMut(Candidate, Distance) -> Option<Candidate>,
    ) {
        let length = candidates.len();
        let (mut kept, mut from) = (0, skip);
        let mut batch = Batch::new();
        while from < length {
            let mut taken = [Candidate::LAST; BATCH_ROWS];
            let mut places = taken.iter_mut();
            for candidate in candidates.iter().skip(from).take(BATCH_ROWS) {
                from += 1;
                if let Some((bytes, term)) = self.rows.get(candidate.row() ^ salt) {
                    batch.add(candidate.row(), bytes, term);
                    if let Some(place) = places.next() {
                        *place = *candidate;
                    }
                }
            }
            let mut taken = taken.iter();
            batch.measure(self, query, &mut |_, distance| {
                let candidate = taken.next().and_then(|candidate| sift(*candidate, distance));
                if let (Some(candidate), Some(place)) = (candidate, candidates.get_mut(kept)) {
                    *place = candidate;
                    kept += 1;
                }
            });
        }
        candidates.truncate(kept);
    }
}
