// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A bounded queue of the nearest rows, as a sorted array: inserts are a binary search and a move
//! within a few cache lines, which for the widths of a search beats a heap.

use crate::Error;
use alloc::vec::Vec;
use vexfs_simd::Distance;

/// A row at a distance, as one integer in the order of distance, then row. The lowest bit is free:
/// a [`Queue`] marks taken entries with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Candidate(u64);

const TAKEN: u64 = 1;

impl Candidate {
    /// Behind every candidate there is.
    pub(crate) const LAST: Self = Self(u64::MAX);

    /// Before every candidate there is.
    pub(crate) const FIRST: Self = Self(0);

    /// `row` is below `ROWS_MAX`; its top bit is lost otherwise.
    #[inline]
    pub(crate) fn new(distance: Distance, row: u32) -> Self {
        Self(u64::from(distance.0) << 32 | u64::from(row << 1))
    }

    #[inline]
    pub(crate) fn row(self) -> u32 {
        self.0 as u32 >> 1
    }

    /// Without the mark of a queue.
    #[inline]
    pub(crate) fn untaken(self) -> Self {
        Self(self.0 & !TAKEN)
    }

    #[inline]
    pub(crate) fn distance(self) -> Distance {
        Distance((self.0 >> 32) as u32)
    }
}

/// The nearest candidates offered, at most `width`, nearest first.
#[derive(Default)]
pub(crate) struct Queue {
    entries: Vec<Candidate>,
    width: usize,
    /// Only so many of the nearest are taken.
    depth: usize,
    /// No entry below this index is untaken.
    cursor: usize,
}

impl Queue {
    /// Empties the queue and sets its width, for at most `width_max` later on. Allocates only when
    /// it was never so wide before.
    pub(crate) fn reset(&mut self, width: usize, width_max: usize) -> Result<(), Error> {
        self.entries.clear();
        self.entries.try_reserve(width_max).map_err(|_| Error::OutOfMemory)?;
        self.width = width;
        self.depth = width;
        self.cursor = 0;
        Ok(())
    }

    /// Lets the queue hold this many, of which no more are taken than before.
    pub(crate) fn hold(&mut self, width: usize) {
        self.width = self.width.max(width.min(self.entries.capacity()));
    }

    /// Lets the queue hold, and take, more; says whether it takes more now.
    pub(crate) fn widen(&mut self, width: usize) -> bool {
        self.hold(width);
        let before = self.depth;
        self.depth = before.max(width.min(self.width));
        self.depth > before
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// The last of the entries that are taken, when there may be more behind it.
    pub(crate) fn edge(&self) -> Option<Candidate> {
        self.entries.get(self.depth.checked_sub(1)?).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn entries(&self) -> &[Candidate] {
        &self.entries
    }

    /// A candidate at this bound or behind it would be turned away.
    #[inline]
    pub(crate) fn bound(&self) -> Candidate {
        match self.entries.last() {
            Some(last) if self.entries.len() >= self.width => *last,
            None if self.width == 0 => Candidate::FIRST,
            _ => Candidate::LAST,
        }
    }

    /// Takes the candidate in if it is within the bound; says whether.
    #[inline]
    pub(crate) fn insert(&mut self, candidate: Candidate) -> bool {
        candidate < self.bound() && self.insert_at(self.place(candidate), candidate)
    }

    /// Where the candidate belongs.
    #[inline]
    pub(crate) fn place(&self, candidate: Candidate) -> usize {
        self.entries.partition_point(|entry| *entry < candidate)
    }

    /// The entries next to `at` that are as far as `candidate`, at most so many on either side.
    #[inline]
    pub(crate) fn ties(
        &self,
        at: usize,
        candidate: Candidate,
        most: usize,
    ) -> impl Iterator<Item = Candidate> {
        let (before, after) = self.entries.split_at_checked(at).unwrap_or_default();
        let tied = move |entry: &&Candidate| entry.distance() == candidate.distance();
        let before = before.iter().rev().take(most).take_while(tied);
        before.chain(after.iter().take(most).take_while(tied)).copied()
    }

    /// Takes an entry out. Says whether it was taken before.
    pub(crate) fn remove(&mut self, entry: Candidate) -> bool {
        let at = self.place(entry.untaken());
        if at >= self.entries.len() {
            return false;
        }
        if self.cursor > at {
            self.cursor -= 1;
        }
        self.entries.remove(at).0 & TAKEN != 0
    }

    /// Takes in the candidate, which is within the bound and belongs at `at`; says whether.
    #[inline]
    pub(crate) fn insert_at(&mut self, at: usize, candidate: Candidate) -> bool {
        if self.entries.len() >= self.width {
            self.entries.pop();
        }
        if self.entries.len() == self.entries.capacity() {
            return false;
        }
        // The capacity was reserved by `reset`; this cannot fail.
        if vexfs_memory::TryVec::try_insert(&mut self.entries, at, candidate).is_err() {
            return false;
        }
        self.cursor = self.cursor.min(at);
        true
    }

    /// The nearest candidate that was not taken yet, if it is among the first `within` and not
    /// deeper than the queue takes; it stays in the queue.
    #[inline]
    pub(crate) fn take(&mut self, within: usize) -> Option<Candidate> {
        loop {
            if self.cursor >= within.min(self.depth) {
                return None;
            }
            let entry = self.entries.get_mut(self.cursor)?;
            self.cursor += 1;
            if entry.0 & TAKEN == 0 {
                let found = *entry;
                entry.0 |= TAKEN;
                return Some(found);
            }
        }
    }

    /// Lets every entry be taken again.
    pub(crate) fn give_back(&mut self) {
        for entry in &mut self.entries {
            entry.0 &= !TAKEN;
        }
        self.cursor = 0;
    }

    /// The candidate that `take` would give now.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Candidate> {
        self.entries.iter().skip(self.cursor).find(|entry| entry.0 & TAKEN == 0).copied()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Candidate>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_nearest_in_order_and_takes_each_once() {
        let mut state = 9u64;
        let mut queue = Queue::default();
        for width in [1usize, 2, 7, 100] {
            queue.reset(width, width).unwrap();
            let mut all = std::vec::Vec::new();
            let mut taken = std::vec::Vec::new();
            for step in 0..500u32 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let candidate = Candidate::new(Distance((state >> 59) as u32), step);
                all.push(candidate);
                queue.insert(candidate);
                if state >> 40 & 7 == 0 {
                    let peeked = queue.peek();
                    let next = queue.take(usize::MAX);
                    assert_eq!(peeked, next);
                    taken.extend(next.map(|c| c.row()));
                }
            }
            while let Some(next) = queue.take(usize::MAX) {
                taken.push(next.row());
            }
            all.sort_unstable();
            all.truncate(width);
            let rows: std::vec::Vec<_> = queue.entries().iter().map(|c| c.row()).collect();
            assert_eq!(rows, all.iter().map(|c| c.row()).collect::<std::vec::Vec<_>>());
            assert!(rows.iter().all(|row| taken.contains(row)));
            assert_eq!(queue.edge().map(|edge| edge.untaken()), all.last().copied());
            let count = taken.len();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len(), count);
        }
    }
}
