// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Exact search: every row is compared.

use crate::executor::share_out;
use crate::queue::Candidate;
use crate::search::{Request, Scratch, Stats};
use crate::{Batch, Error, Executor, Space};
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use vexfs_simd::{Distance, RowTerm};

/// Rows that a thread takes at once.
const SHARE_ROWS: usize = 4096;
/// Rows that are compared between two questions to the host.
const PAUSE_ROWS: u64 = 2048;

/// Finds the rows among `candidates` that are nearest to `query`: the same hits, in the same order,
/// as a sort of all would give. Numbers without a row are passed over.
///
/// `accept` is asked only of rows that are near enough to be hits. Candidates that ascend are read
/// as memory lies. Leaves the hits in `scratch`; `Stats::cut` says that `examined_max` was met.
pub fn exact(
    space: Space<'_>,
    candidates: &mut dyn Iterator<Item = u32>,
    query: (&[u8], RowTerm),
    request: &Request,
    accept: &mut dyn FnMut(u32) -> bool,
    scratch: &mut Scratch,
) -> Result<Stats, Error> {
    request.check()?;
    let k = request.k as usize;
    scratch.results.reset(k, k)?;
    let stats = scan(space, candidates, query, request, accept, scratch);
    if stats.cancelled {
        return Err(Error::Cancelled);
    }
    scratch.publish()?;
    Ok(stats)
}

/// Offers `candidates` to the results of `scratch`, which were reset.
fn scan(
    space: Space<'_>,
    candidates: &mut dyn Iterator<Item = u32>,
    query: (&[u8], RowTerm),
    request: &Request,
    accept: &mut dyn FnMut(u32) -> bool,
    scratch: &mut Scratch,
) -> Stats {
    let radius = request.radius.unwrap_or(Distance::MAX);
    let mut stats = Stats::default();
    let results = &mut scratch.results;
    let mut batch = Batch::new();
    let mut pause_at = 0;
    let mut offer = |batch: &mut Batch<'_>, stats: &mut Stats| {
        batch.measure(&space, query, &mut |row, distance| {
            stats.examined += 1;
            let candidate = Candidate::new(distance, row);
            if distance <= radius && candidate < results.bound() {
                if accept(row) {
                    stats.accepted += 1;
                    results.insert(candidate);
                } else {
                    stats.rejected += 1;
                }
            }
        });
    };
    for row in candidates {
        let Some((bytes, term)) = space.rows.get(row) else { continue };
        if batch.add(row, bytes, term) {
            offer(&mut batch, &mut stats);
            if stats.examined >= request.examined_max {
                stats.cut = true;
                return stats;
            }
            if stats.examined >= pause_at {
                pause_at = stats.examined + PAUSE_ROWS;
                if space.pause() {
                    stats.cancelled = true;
                    return stats;
                }
            }
        }
    }
    offer(&mut batch, &mut stats);
    stats
}

/// [`exact`] over all rows, on the threads of `executor`. Needs a scratch for each thread (fewer are
/// fine), and leaves the hits in the first. Its hits are those of [`exact`]; `examined_max` counts
/// for each share of the rows on its own.
pub fn exact_parallel(
    space: Space<'_>,
    query: (&[u8], RowTerm),
    request: &Request,
    accept: &(dyn Fn(u32) -> bool + Sync),
    executor: &dyn Executor,
    scratches: &mut [Scratch],
) -> Result<Stats, Error> {
    request.check()?;
    let k = request.k as usize;
    let mut states = Vec::new();
    for scratch in scratches.iter_mut() {
        scratch.results.reset(k, k)?;
        states.try_push((scratch, Stats::default()))?;
    }
    let count = space.rows.bound() as usize;
    share_out(executor, &mut states, count.div_ceil(SHARE_ROWS), &|(scratch, total), index| {
        if total.cancelled {
            return;
        }
        let from = index * SHARE_ROWS;
        let to = (from + SHARE_ROWS).min(count);
        let mut accept = |row| accept(row);
        let stats =
            scan(space, &mut (from as u32..to as u32), query, request, &mut accept, scratch);
        total.examined += stats.examined;
        total.accepted += stats.accepted;
        total.rejected += stats.rejected;
        total.cut |= stats.cut;
        total.cancelled |= stats.cancelled;
    })?;
    let mut states = states.into_iter();
    let Some((first, mut stats)) = states.next() else { return Err(Error::Parameter) };
    for (scratch, part) in states {
        for candidate in scratch.results.entries() {
            first.results.insert(*candidate);
        }
        stats.examined += part.examined;
        stats.accepted += part.accepted;
        stats.rejected += part.rejected;
        stats.cut |= part.cut;
        stats.cancelled |= part.cancelled;
    }
    if stats.cancelled {
        return Err(Error::Cancelled);
    }
    first.publish()?;
    Ok(stats)
}
