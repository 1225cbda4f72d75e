// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A set of row numbers, one bit for each. Rows may be added and taken out through a shared
//! reference, so that a search can read the set while the graph's writer changes it.

use crate::error::Result;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use vexfs_memory::TryVec;

const WORD_BITS: u32 = 64;

/// Rows below a bound that [`RowSet::reserve`] raises.
#[derive(Default)]
pub(crate) struct RowSet {
    words: Vec<AtomicU64>,
    count: AtomicU64,
}

impl RowSet {
    /// Makes room for rows below `bound`.
    pub fn reserve(&mut self, bound: u32) -> Result<()> {
        let words = (bound as usize).div_ceil(WORD_BITS as usize);
        while self.words.len() < words {
            self.words.try_push(AtomicU64::new(0))?;
        }
        Ok(())
    }

    /// How many rows it holds.
    pub fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Rows at or above this are not held.
    pub fn bound(&self) -> u32 {
        (self.words.len() as u64 * u64::from(WORD_BITS)).min(u64::from(u32::MAX)) as u32
    }

    pub fn memory_bytes(&self) -> usize {
        self.words.capacity() * size_of::<AtomicU64>()
    }

    fn word(&self, row: u32) -> Option<&AtomicU64> {
        self.words.get((row / WORD_BITS) as usize)
    }

    pub fn contains(&self, row: u32) -> bool {
        self.word(row)
            .is_some_and(|word| word.load(Ordering::Acquire) >> (row % WORD_BITS) & 1 == 1)
    }

    /// Adds a row below the bound; says whether it is new.
    pub fn insert(&self, row: u32) -> bool {
        let bit = 1 << (row % WORD_BITS);
        let new = self.word(row).is_some_and(|w| w.fetch_or(bit, Ordering::AcqRel) & bit == 0);
        if new {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    /// Takes a row out; says whether it was there.
    pub fn remove(&self, row: u32) -> bool {
        let bit = 1 << (row % WORD_BITS);
        let was = self.word(row).is_some_and(|w| w.fetch_and(!bit, Ordering::AcqRel) & bit != 0);
        if was {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        was
    }

    /// The first row at or after `from` that is held, or is not.
    fn find(&self, from: u32, held: bool) -> Option<u32> {
        let mut mask = u64::MAX << (from % WORD_BITS);
        let first = (from / WORD_BITS) as usize;
        for (at, word) in self.words.iter().enumerate().skip(first) {
            let word = word.load(Ordering::Acquire);
            let word = mask & if held { word } else { !word };
            if word != 0 {
                return Some((at as u32) * WORD_BITS + word.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// The first row at or after `from`.
    pub fn next(&self, from: u32) -> Option<u32> {
        self.find(from, true)
    }

    /// Every row, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = Some(0u32);
        core::iter::from_fn(move || {
            let row = self.next(from?)?;
            from = row.checked_add(1);
            Some(row)
        })
    }

    /// The start of the first run of `length` rows at or after `from` that are not held; the run
    /// may reach beyond the bound.
    pub fn free_run(&self, from: u32, length: u32) -> u32 {
        let mut from = from;
        loop {
            let Some(start) = self.find(from, false) else { return from.max(self.bound()) };
            match self.find(start, true) {
                Some(end) if end - start < length => from = end,
                _ => return start,
            }
        }
    }

    pub fn clear(&self) {
        for word in &self.words {
            word.store(0, Ordering::Release);
        }
        self.count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree_tests::Rng;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    #[test]
    fn it_agrees_with_a_set_over_random_changes() {
        let (mut rows, mut model) = (RowSet::default(), BTreeSet::new());
        rows.reserve(1000).unwrap();
        let bound = rows.bound();
        let mut rng = Rng(77);
        for _ in 0..30_000 {
            let row = rng.below(1000) as u32;
            if rng.below(2) == 0 {
                assert_eq!(rows.insert(row), model.insert(row));
            } else {
                assert_eq!(rows.remove(row), model.remove(&row));
            }
            assert_eq!(rows.len(), model.len() as u64);
            let probe = rng.below(1100) as u32;
            assert_eq!(rows.contains(probe), model.contains(&probe));
            assert_eq!(rows.next(probe), model.range(probe..).next().copied());
            let length = rng.below(9) as u32 + 1;
            let free = |start: u32| (start..start + length).all(|row| !model.contains(&row));
            let expected = (probe..).find(|start| free(*start)).unwrap();
            if expected < bound {
                assert_eq!(rows.free_run(probe, length), expected);
            }
        }
        assert_eq!(rows.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        assert!(!rows.insert(bound) && !rows.contains(u32::MAX));
    }
}
