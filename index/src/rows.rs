// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The vectors of a collection in memory, by row number.
//!
//! Rows live in segments of at most [`SEGMENT_BYTES_MAX`] that never move once they are full size,
//! so that growth never copies more than one segment and never asks for a large contiguous area.
//! The first segment starts small and doubles, so that an empty collection costs nothing. A store of
//! codes (rows in a cheaper shape, see [`vexfs_simd::Codec`]) is a `Rows` of its own.

use crate::{Error, ROWS_MAX};
use alloc::boxed::Box;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, zeroed_bytes};
use vexfs_simd::{RowTerm, Shape};

/// The most bytes of vectors in one segment, save where a single row is larger.
pub const SEGMENT_BYTES_MAX: usize = 1 << 20;

/// Rows start on cache lines where that costs little.
const LINE_BYTES: usize = 64;

/// Rows of the smallest first segment.
const FIRST_ROWS: usize = 8;

/// A run of rows whose count is a power of two (in the first segment, up to it).
struct Segment {
    bytes: Box<[u8]>,
    /// Where the first row starts in `bytes`, so that it is aligned to a line.
    start: usize,
    terms: Vec<RowTerm>,
    /// One bit for each row: whether it is there.
    present: Vec<u64>,
    live: usize,
}

impl Segment {
    fn try_new(rows: usize, stride: usize) -> Result<Self, Error> {
        let length = rows
            .checked_mul(stride)
            .and_then(|bytes| bytes.checked_add(LINE_BYTES))
            .ok_or(Error::OutOfMemory)?;
        let bytes = zeroed_bytes(length)?;
        let start = bytes.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES);
        let (mut terms, mut present) = (Vec::new(), Vec::new());
        terms.try_resize(rows, RowTerm::default())?;
        present.try_resize(rows.div_ceil(64), 0u64)?;
        Ok(Self { bytes, start, terms, present, live: 0 })
    }

    #[inline]
    fn holds(&self, slot: usize) -> bool {
        self.present.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn mark(&mut self, slot: usize, present: bool) {
        if let Some(word) = self.present.get_mut(slot / 64) {
            let bit = 1u64 << (slot % 64);
            *word = if present { *word | bit } else { *word & !bit };
        }
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.terms.capacity() * 4 + self.present.capacity() * 8
    }
}

/// The rows of a collection in memory, each with its term.
pub struct Rows {
    shape: Shape,
    row_bytes: usize,
    /// Bytes from one row to the next.
    stride: usize,
    /// Rows of a full segment are `1 << shift`.
    shift: u32,
    segments: Vec<Option<Segment>>,
    live: usize,
}

impl Rows {
    /// No rows yet; allocates nothing.
    pub fn new(shape: Shape) -> Self {
        let row_bytes = shape.row_bytes();
        let aligned = row_bytes.next_multiple_of(LINE_BYTES);
        // Aligned rows load faster; more than a sixteenth of the memory is not worth it.
        let stride = if (aligned - row_bytes) * 16 <= row_bytes { aligned } else { row_bytes };
        let fitting = SEGMENT_BYTES_MAX.checked_div(stride).unwrap_or(1).max(1);
        Self { shape, row_bytes, stride, shift: fitting.ilog2(), segments: Vec::new(), live: 0 }
    }

    /// What the rows look like.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many rows are there.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether no row is there.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// No row has this number or a higher one.
    pub fn bound(&self) -> u32 {
        let rows = match self.segments.last() {
            Some(Some(last)) => ((self.segments.len() - 1) << self.shift) + last.terms.len(),
            _ => self.segments.len() << self.shift,
        };
        rows.min(ROWS_MAX as usize) as u32
    }

    /// Bytes of memory held.
    pub fn memory_bytes(&self) -> usize {
        let segments = self.segments.iter().flatten().map(Segment::memory_bytes).sum::<usize>();
        segments + self.segments.capacity() * size_of::<Option<Segment>>()
    }

    #[inline]
    fn slot(&self, row: u32) -> (usize, usize) {
        (row as usize >> self.shift, row as usize & ((1 << self.shift) - 1))
    }

    /// The bytes and the term of `row`, if it is there.
    #[inline]
    pub fn get(&self, row: u32) -> Option<(&[u8], RowTerm)> {
        let (number, slot) = self.slot(row);
        let segment = self.segments.get(number)?.as_ref()?;
        if !segment.holds(slot) {
            return None;
        }
        let from = segment.start + slot * self.stride;
        Some((segment.bytes.get(from..from + self.row_bytes)?, *segment.terms.get(slot)?))
    }

    /// The lowest row at or above `from` that is there.
    pub fn next(&self, from: u32) -> Option<u32> {
        let (mut number, mut slot) = self.slot(from);
        while let Some(segment) = self.segments.get(number) {
            let words = segment.as_ref().map_or(&[][..], |segment| &segment.present);
            let mut at = slot / 64;
            let mut mask = u64::MAX << (slot % 64);
            while let Some(word) = words.get(at) {
                let word = word & mask;
                if word != 0 {
                    let slot = at * 64 + word.trailing_zeros() as usize;
                    return u32::try_from((number << self.shift) + slot).ok();
                }
                (at, mask) = (at + 1, u64::MAX);
            }
            (number, slot) = (number + 1, 0);
        }
        None
    }

    /// Every row that is there, in order of number.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let mut from = Some(0u32);
        core::iter::from_fn(move || {
            let row = self.next(from?)?;
            from = row.checked_add(1);
            Some(row)
        })
    }

    /// Stores `bytes` as `row`, in the place of what was there.
    ///
    /// Fails with [`Error::RowRange`] at or above [`ROWS_MAX`], [`Error::RowLength`] when `bytes`
    /// has another length than the shape says, or [`Error::OutOfMemory`]; nothing is changed then.
    pub fn set(&mut self, row: u32, bytes: &[u8], term: RowTerm) -> Result<(), Error> {
        if row >= ROWS_MAX {
            return Err(Error::RowRange);
        }
        if bytes.len() != self.row_bytes {
            return Err(Error::RowLength);
        }
        let (number, slot) = self.slot(row);
        let (stride, row_bytes, full) = (self.stride, self.row_bytes, 1usize << self.shift);
        while self.segments.len() <= number {
            self.segments.try_push(None)?;
        }
        let segment = self.segments.get_mut(number).ok_or(Error::OutOfMemory)?;
        let wanted = if number > 0 {
            full
        } else {
            (slot + 1).next_power_of_two().max(FIRST_ROWS).min(full)
        };
        let segment = match segment {
            Some(held) if held.terms.len() >= wanted => held,
            place => {
                let mut grown = Segment::try_new(wanted, stride)?;
                if let Some(old) = place {
                    move_rows(old, &mut grown, stride);
                }
                place.insert(grown)
            }
        };
        let from = segment.start + slot * stride;
        let target = segment.bytes.get_mut(from..from + row_bytes).ok_or(Error::RowRange)?;
        for (target, source) in target.iter_mut().zip(bytes) {
            *target = *source;
        }
        if let Some(place) = segment.terms.get_mut(slot) {
            *place = term;
        }
        if !segment.holds(slot) {
            segment.mark(slot, true);
            segment.live += 1;
            self.live += 1;
        }
        Ok(())
    }

    /// Takes `row` out; says whether it was there. A segment that is empty gives its memory back.
    pub fn clear(&mut self, row: u32) -> bool {
        let (number, slot) = self.slot(row);
        let Some(place) = self.segments.get_mut(number) else { return false };
        let Some(segment) = place else { return false };
        if !segment.holds(slot) {
            return false;
        }
        segment.mark(slot, false);
        segment.live -= 1;
        self.live -= 1;
        if segment.live == 0 {
            *place = None;
            while let Some(None) = self.segments.last() {
                self.segments.pop();
            }
        }
        true
    }
}

/// Copies every row of `old` to the same slot of the larger `new`.
fn move_rows(old: &Segment, new: &mut Segment, stride: usize) {
    let length = old.terms.len() * stride;
    let source = old.bytes.get(old.start..).unwrap_or_default().iter().take(length);
    for (target, source) in new.bytes.iter_mut().skip(new.start).zip(source) {
        *target = *source;
    }
    for (target, source) in new.terms.iter_mut().zip(&old.terms) {
        *target = *source;
    }
    for (target, source) in new.present.iter_mut().zip(&old.present) {
        *target = *source;
    }
    new.live = old.live;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use vexfs_simd::{ElementType, Metric};

    #[test]
    fn rows_agree_with_a_map_over_random_sets_and_clears() {
        for dimension in [1, 60, 784, 16_384] {
            let shape = Shape { element: ElementType::U8, metric: Metric::L2, dimension };
            let (mut rows, mut model) = (Rows::new(shape), BTreeMap::new());
            assert_eq!(rows.memory_bytes(), 0);
            let mut state = 5u64;
            for step in 0..6000u32 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let row = (state >> 33) as u32 % 3000;
                if (state >> 20).is_multiple_of(3) {
                    assert_eq!(rows.clear(row), model.remove(&row).is_some());
                } else {
                    let bytes = std::vec![step as u8; dimension as usize];
                    rows.set(row, &bytes, RowTerm(step)).unwrap();
                    model.insert(row, (bytes, RowTerm(step)));
                }
                assert_eq!(rows.len(), model.len());
                let probe = (state >> 45) as u32 % 3000;
                assert_eq!(rows.get(probe), model.get(&probe).map(|(b, t)| (&b[..], *t)));
            }
            assert!(rows.iter().eq(model.keys().copied()));
            for row in model.keys() {
                assert!(rows.clear(*row) && *row < rows.bound().max(*row + 1));
            }
            assert!(rows.is_empty() && rows.bound() == 0 && rows.iter().next().is_none());
        }
    }

    #[test]
    fn rows_of_another_length_or_number_are_refused() {
        let shape = Shape { element: ElementType::F16, metric: Metric::L2, dimension: 3 };
        let mut rows = Rows::new(shape);
        assert_eq!(rows.set(0, &[0; 5], RowTerm(0)), Err(Error::RowLength));
        assert_eq!(rows.set(ROWS_MAX, &[0; 6], RowTerm(0)), Err(Error::RowRange));
        assert_eq!(rows.get(u32::MAX), None);
        assert_eq!(rows.next(u32::MAX), None);
        assert!(!rows.clear(u32::MAX));
    }
}
