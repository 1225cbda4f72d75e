// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The loop over the rows of a batch, shared by all instruction sets: how rows are grouped,
//! prefetched and cut into registers, and how a sum becomes an ordered distance. What a register
//! is and what is summed comes from the sets through [`Load`] and [`Measure`].

use crate::prefetch::prefetch_line;
use crate::{Distance, MAX_DIMENSION, Metric, RowTerm, Shape};

/// Rows whose sums run together, so that their latencies overlap.
const GROUP: usize = 4;

/// Rows at the beginning of a batch whose first lines are asked for at once.
const PREFETCH_ROWS: usize = 32;

/// Thirty-two clear bytes before as many set ones: read at an offset of `n`, a mask of the last `n`
/// bytes of a register of up to 32.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) static LAST_BYTES: [u8; 64] = {
    let mut mask = [0; 64];
    let mut at = 32;
    while at < 64 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            mask[at] = 0xff;
        }
        at += 1;
    }
    mask
};

/// How the components of a row come into a register.
pub(crate) trait Load {
    /// Bytes of a row that fill a register.
    const STEP: usize;
    /// Whether rows are taken [`GROUP`] at once and in several chains, which takes several times the
    /// code of one after another.
    const GROUPS: bool = true;
    /// One register (or a few) full of components.
    type Register: Copy;

    /// Reads [`Self::STEP`] bytes.
    ///
    /// # Safety
    /// The bytes at `at` are readable, and this processor has the set's instructions.
    unsafe fn load(at: *const u8) -> Self::Register;

    /// Reads the last `bytes` (1 to [`Self::STEP`] - 1) bytes of a row; the components that fill
    /// the rest of the register are zero. `whole` tells that the row has [`Self::STEP`] bytes or
    /// more, so that as many are readable before its end.
    ///
    /// # Safety
    /// As for [`Self::load`], for `bytes` bytes (and those before them if `whole`).
    unsafe fn load_last(at: *const u8, bytes: usize, whole: bool) -> Self::Register;
}

/// What is summed over the components of two rows. Two zero components add nothing.
///
/// # Safety of its methods
/// This processor has the set's instructions.
pub(crate) trait Measure<R: Copy> {
    /// Partial sums.
    type Sum: Copy;
    /// Whether [`Self::start`] does anything.
    const STARTS: bool = false;

    /// No sums.
    unsafe fn zero() -> Self::Sum;

    /// Folds a register of the query into the sums that every row begins with, for a measure that
    /// adds up something other than its result and corrects that by a function of the query.
    #[inline(always)]
    unsafe fn start(sum: Self::Sum, query: R) -> Self::Sum {
        let _ = query;
        sum
    }

    /// Adds what the components of `query` and `row` contribute.
    unsafe fn add(sum: Self::Sum, query: R, row: R) -> Self::Sum;

    /// Adds two partial sums.
    unsafe fn join(one: Self::Sum, other: Self::Sum) -> Self::Sum;

    /// The whole sum, rounded to binary32.
    unsafe fn total(sum: Self::Sum) -> f32;
}

/// One call of [`crate::Kernels::distances`], checked: the query has `bytes` bytes and the three
/// slices have one length.
pub(crate) struct Batch<'a> {
    metric: Metric,
    bytes: usize,
    query: *const u8,
    query_term: f32,
    rows: &'a [&'a [u8]],
    terms: &'a [RowTerm],
    distances: &'a mut [Distance],
}

impl<'a> Batch<'a> {
    /// The batch of these arguments, or nothing (and all distances at the maximum) if the query is
    /// not of the shape.
    pub(crate) fn new(
        shape: &Shape,
        query: (&'a [u8], RowTerm),
        rows: &'a [&'a [u8]],
        terms: &'a [RowTerm],
        distances: &'a mut [Distance],
    ) -> Option<Self> {
        let count = rows.len().min(terms.len()).min(distances.len());
        let distances = distances.get_mut(..count)?;
        let bytes = shape.row_bytes();
        if shape.dimension == 0 || shape.dimension > MAX_DIMENSION || query.0.len() != bytes {
            distances.fill(Distance::MAX);
            return None;
        }
        Some(Self {
            metric: shape.metric,
            bytes,
            query: query.0.as_ptr(),
            query_term: f32::from_bits(query.1.0),
            rows: rows.get(..count)?,
            terms: terms.get(..count)?,
            distances,
        })
    }
}

/// The distance that a sum and two row terms make under `metric`.
#[inline(always)]
fn distance(metric: Metric, sum: f32, query_term: f32, row_term: RowTerm) -> Distance {
    let value = match metric {
        Metric::L2 | Metric::Manhattan | Metric::Hamming => sum,
        Metric::InnerProduct => -sum,
        Metric::Cosine => {
            let cosine = sum * query_term * f32::from_bits(row_term.0);
            // Rounding may leave the range of one less a cosine. NaN stays NaN.
            (1.0 - cosine).clamp(0.0, 2.0)
        }
    };
    if value.is_nan() {
        return Distance::MAX;
    }
    // The sum turns -0.0 into +0.0, which compares equal but has other bits.
    Distance::from_f32_bits((value + 0.0).to_bits())
}

/// The distances of a batch.
///
/// # Safety
/// This processor has the instructions of `L` and `M`.
#[inline(always)]
pub(crate) unsafe fn scan<L: Load, M: Measure<L::Register>>(batch: Batch<'_>) {
    let Batch { metric, bytes, query, query_term, mut rows, mut terms, distances } = batch;
    // SAFETY: the query has `bytes` bytes (`Batch::new`); the instructions are the caller's word.
    let start = unsafe { start::<L, M>(query, bytes) };
    // Memory answers all rows at once, where the loops below would ask for one group at a time.
    for row in rows.iter().take(PREFETCH_ROWS) {
        prefetch_line(row.as_ptr());
        prefetch_line(row.as_ptr().wrapping_add(64));
    }
    let mut distances = distances.iter_mut();
    loop {
        if L::GROUPS
            && let Some((group, rest)) = rows.split_first_chunk::<GROUP>()
            && let Some((group_terms, rest_terms)) = terms.split_first_chunk::<GROUP>()
            && group.iter().all(|row| row.len() == bytes)
        {
            let here = group.map(<[u8]>::as_ptr);
            let mut ahead = here;
            for (ahead, row) in ahead.iter_mut().zip(rest) {
                *ahead = row.as_ptr();
            }
            // SAFETY: the query and the rows of the group have `bytes` bytes, as just checked.
            let sums = unsafe { sums::<L, M, GROUP, 2>(query, &here, &ahead, bytes, start) };
            for ((sum, term), out) in sums.iter().zip(group_terms).zip(&mut distances) {
                *out = distance(metric, *sum, query_term, *term);
            }
            (rows, terms) = (rest, rest_terms);
        } else if let Some((row, rest)) = rows.split_first()
            && let Some((term, rest_terms)) = terms.split_first()
            && let Some(out) = distances.next()
        {
            *out = if row.len() == bytes {
                let here = [row.as_ptr()];
                let ahead = rest.first().map_or(here, |next| [next.as_ptr()]);
                // SAFETY: the query and the row have `bytes` bytes, as just checked.
                let [sum] = unsafe {
                    if L::GROUPS {
                        sums::<L, M, 1, 4>(query, &here, &ahead, bytes, start)
                    } else {
                        sums::<L, M, 1, 1>(query, &here, &ahead, bytes, start)
                    }
                };
                distance(metric, sum, query_term, *term)
            } else {
                Distance::MAX
            };
            (rows, terms) = (rest, rest_terms);
        } else {
            return;
        }
    }
}

/// The sums that every row begins with.
///
/// # Safety
/// `query` has `bytes` bytes, and this processor has the instructions of `L` and `M`.
#[inline(always)]
unsafe fn start<L: Load, M: Measure<L::Register>>(query: *const u8, bytes: usize) -> M::Sum {
    // SAFETY: all reads lie in the `bytes` bytes of the query: `at + STEP <= bytes` in the loop,
    // and `at < bytes` with `bytes - at < STEP` after it.
    unsafe {
        let mut sum = M::zero();
        if M::STARTS {
            let mut at = 0;
            while at + L::STEP <= bytes {
                sum = M::start(sum, L::load(query.add(at)));
                at += L::STEP;
            }
            if at < bytes {
                sum = M::start(sum, L::load_last(query.add(at), bytes - at, bytes >= L::STEP));
            }
        }
        sum
    }
}

/// The sums of `ROWS` rows against the query, each in `CHAINS` independent chains of additions,
/// while the lines at the same places of the rows `ahead` are prefetched.
///
/// # Safety
/// `query` and each of `rows` have `bytes` bytes, and this processor has the instructions of `L`
/// and `M`. The addresses in `ahead` may be any.
#[inline(always)]
unsafe fn sums<L: Load, M: Measure<L::Register>, const ROWS: usize, const CHAINS: usize>(
    query: *const u8,
    rows: &[*const u8; ROWS],
    ahead: &[*const u8; ROWS],
    bytes: usize,
    start: M::Sum,
) -> [f32; ROWS] {
    let stride = L::STEP * CHAINS;
    // SAFETY: all reads lie in the `bytes` bytes of the query and of each row: `at + stride` and
    // `at + STEP` are at most `bytes` in the loops, and `bytes - at < STEP` after them.
    unsafe {
        let mut sums = [[M::zero(); CHAINS]; ROWS];
        let mut at = 0;
        while at + stride <= bytes {
            for ahead in ahead {
                let mut line = 0;
                while line < stride {
                    prefetch_line(ahead.wrapping_add(at + line));
                    line += 64;
                }
            }
            for chain in 0..CHAINS {
                let offset = at + chain * L::STEP;
                let query = L::load(query.add(offset));
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let row = L::load(row.add(offset));
                    if let Some(sum) = sums.get_mut(chain) {
                        *sum = M::add(*sum, query, row);
                    }
                }
            }
            at += stride;
        }
        let mut joined = [start; ROWS];
        for (joined, sums) in joined.iter_mut().zip(&sums) {
            for sum in sums {
                *joined = M::join(*joined, *sum);
            }
        }
        while CHAINS > 1 && at + L::STEP <= bytes {
            let query = L::load(query.add(at));
            for (row, sum) in rows.iter().zip(&mut joined) {
                *sum = M::add(*sum, query, L::load(row.add(at)));
            }
            at += L::STEP;
        }
        if at < bytes {
            let whole = bytes >= L::STEP;
            let query = L::load_last(query.add(at), bytes - at, whole);
            for (row, sum) in rows.iter().zip(&mut joined) {
                *sum = M::add(*sum, query, L::load_last(row.add(at), bytes - at, whole));
            }
        }
        joined.map(|sum| M::total(sum))
    }
}
