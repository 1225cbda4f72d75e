// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The links of the graph: for each row a record of fixed size with its state and its neighbours'
//! numbers, the pages those records fill when they are stored, and which pages have changed.
//!
//! Records are atomics, so that searches may read while the one writer writes: a reader can see a
//! list half old and half new, and every number in it is then still one that was checked when it
//! was written. Nothing outside this file knows how a record lies in memory or on a page.
//!
//! How records and pages are stored is told in `docs/format.md`.

use crate::{Error, ROWS_MAX};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use vexfs_memory::TryVec;

/// Bytes of a stored page of records.
pub const PAGE_BYTES: usize = 4096;

/// Records of a full chunk are `1 << CHUNK_SHIFT`.
const CHUNK_SHIFT: u32 = 10;
const CHUNK_ROWS: usize = 1 << CHUNK_SHIFT;
/// Records of the smallest first chunk.
const FIRST_ROWS: usize = 16;
/// Words of a cache line.
const LINE_WORDS: usize = 16;
const COUNT_MASK: u32 = 0xffff;

/// What a row is to the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// No node.
    Absent = 0,
    /// A node that searches may return.
    Live = 1,
    /// A node that searches pass through and never return.
    Tombstone = 2,
}

impl State {
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Absent,
            1 => Self::Live,
            2 => Self::Tombstone,
            _ => return None,
        })
    }
}

/// A run of records that never moves once it is full size.
struct Chunk {
    words: Vec<AtomicU32>,
    /// Where the first record starts in `words`, so that it is aligned to a cache line.
    start: usize,
    rows: usize,
}

/// The records of all rows.
pub(crate) struct Adjacency {
    /// Neighbours that a record has room for.
    slots: usize,
    chunks: Vec<Chunk>,
    states: Vec<AtomicU8>,
    /// One bit for each stored page: whether it differs from what was stored.
    dirty: Vec<AtomicU32>,
    records_per_page: u32,
}

impl Adjacency {
    /// No records; `slots` is 1 to 1022, so that a record fits a page.
    pub(crate) fn new(slots: usize) -> Result<Self, Error> {
        let per_page = (PAGE_BYTES / 4).checked_div(slots + 1).unwrap_or(0) as u32;
        if slots == 0 || per_page == 0 {
            return Err(Error::Parameter);
        }
        let (chunks, states, dirty) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { slots, chunks, states, dirty, records_per_page: per_page })
    }

    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Rows that have a record.
    pub(crate) fn capacity(&self) -> u32 {
        self.states.len() as u32
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.words.capacity() * 4).sum::<usize>()
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.states.capacity()
            + self.dirty.capacity() * 4
    }

    /// Makes room for rows below `rows`.
    pub(crate) fn reserve(&mut self, rows: u32) -> Result<(), Error> {
        if rows > ROWS_MAX {
            return Err(Error::RowRange);
        }
        let rows = rows as usize;
        if rows <= self.states.len() {
            return Ok(());
        }
        // Whole chunks, or while there is one chunk a power of two.
        let wanted = if rows <= CHUNK_ROWS {
            rows.next_power_of_two().max(FIRST_ROWS)
        } else {
            rows.next_multiple_of(CHUNK_ROWS)
        };
        let mut number = 0;
        while number * CHUNK_ROWS < wanted {
            let records = (wanted - number * CHUNK_ROWS).min(CHUNK_ROWS);
            match self.chunks.get_mut(number) {
                Some(chunk) if chunk.rows >= records => {}
                Some(chunk) => {
                    let grown = Chunk::try_new(records, self.slots + 1)?;
                    grown.copy_from(chunk);
                    *chunk = grown;
                }
                None => self.chunks.try_push(Chunk::try_new(records, self.slots + 1)?)?,
            }
            number += 1;
        }
        let pages = wanted.div_ceil((self.records_per_page as usize).max(1));
        let words = pages.div_ceil(32).saturating_sub(self.dirty.len());
        self.dirty.try_reserve(words).map_err(|_| Error::OutOfMemory)?;
        let added = wanted - self.states.len();
        self.states.try_reserve(added).map_err(|_| Error::OutOfMemory)?;
        for _ in 0..words {
            self.dirty.try_push(AtomicU32::new(0))?;
        }
        for _ in 0..added {
            self.states.try_push(AtomicU8::new(State::Absent as u8))?;
        }
        Ok(())
    }

    #[inline]
    fn record(&self, row: u32) -> Option<&[AtomicU32]> {
        let chunk = self.chunks.get(row as usize >> CHUNK_SHIFT)?;
        let stride = self.slots + 1;
        let from = chunk.start + (row as usize & (CHUNK_ROWS - 1)) * stride;
        chunk.words.get(from..from + stride)
    }

    /// The neighbours of `row`, none when it has no record.
    #[inline]
    pub(crate) fn neighbours(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let (head, slots) = self.record(row).and_then(|r| r.split_first()).unzip();
        let count = head.map_or(0, |head| head.load(Ordering::Acquire) & COUNT_MASK);
        slots.unwrap_or_default().iter().take(count as usize).map(|id| id.load(Ordering::Relaxed))
    }

    /// How many neighbours `row` has.
    pub(crate) fn degree(&self, row: u32) -> usize {
        let head = self.record(row).and_then(|r| r.first());
        let count = head.map_or(0, |head| head.load(Ordering::Acquire) & COUNT_MASK);
        (count as usize).min(self.slots)
    }

    /// Brings the record of `row` towards the processor.
    #[inline]
    pub(crate) fn prefetch(&self, row: u32) {
        if let Some(record) = self.record(row) {
            for line in record.chunks(LINE_WORDS) {
                vexfs_simd::prefetch_line(line.as_ptr());
            }
        }
    }

    #[inline]
    pub(crate) fn state(&self, row: u32) -> State {
        let number = self.states.get(row as usize).map_or(0, |s| s.load(Ordering::Acquire));
        State::from_number(number).unwrap_or(State::Absent)
    }

    /// Sets the state of `row`; the writer's alone. Rows without a record stay absent.
    pub(crate) fn set_state(&self, row: u32, state: State) {
        if let Some(place) = self.states.get(row as usize) {
            place.store(state as u8, Ordering::Release);
            self.mark_dirty(row);
        }
    }

    /// The lowest row at or above `from` in any state but absent.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        let tail = self.states.get(from as usize..)?;
        let at = tail.iter().position(|s| s.load(Ordering::Acquire) != State::Absent as u8)?;
        Some(from + at as u32)
    }

    /// Replaces the neighbours of `row` (the first `slots` of `links`); the writer's alone.
    pub(crate) fn set_neighbours(&self, row: u32, links: impl Iterator<Item = u32>) {
        let Some((head, slots)) = self.record(row).and_then(|r| r.split_first()) else { return };
        let mut count = 0;
        for (slot, link) in slots.iter().zip(links) {
            slot.store(link, Ordering::Relaxed);
            count += 1;
        }
        head.store(count, Ordering::Release);
        self.mark_dirty(row);
    }

    /// Adds one neighbour; false when there is no room. The writer's alone.
    pub(crate) fn push_neighbour(&self, row: u32, link: u32) -> bool {
        let degree = self.degree(row);
        let Some((head, slots)) = self.record(row).and_then(|r| r.split_first()) else {
            return false;
        };
        let Some(slot) = slots.get(degree) else { return false };
        slot.store(link, Ordering::Relaxed);
        head.store(degree as u32 + 1, Ordering::Release);
        self.mark_dirty(row);
        true
    }

    #[inline]
    fn mark_dirty(&self, row: u32) {
        let page = row.checked_div(self.records_per_page).unwrap_or(0);
        if let Some(word) = self.dirty.get(page as usize / 32) {
            let bit = 1 << (page % 32);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Release);
            }
        }
    }

    /// Pages that all records fill when stored.
    pub(crate) fn page_count(&self) -> u32 {
        self.capacity().div_ceil(self.records_per_page.max(1))
    }

    /// The lowest changed page at or above `from`.
    pub(crate) fn next_dirty(&self, from: u32) -> Option<u32> {
        let mut mask = u32::MAX << (from % 32);
        for (at, word) in self.dirty.iter().enumerate().skip(from as usize / 32) {
            let word = word.load(Ordering::Acquire) & mask;
            if word != 0 {
                return Some(at as u32 * 32 + word.trailing_zeros());
            }
            mask = u32::MAX;
        }
        None
    }

    /// Declares `page` stored; says whether it had changed.
    pub(crate) fn take_dirty(&self, page: u32) -> bool {
        let bit = 1 << (page % 32);
        self.dirty
            .get(page as usize / 32)
            .is_some_and(|word| word.fetch_and(!bit, Ordering::AcqRel) & bit != 0)
    }

    /// Declares `page` changed.
    pub(crate) fn set_dirty(&self, page: u32) {
        self.mark_dirty(page.saturating_mul(self.records_per_page));
    }

    /// The rows whose records lie on `page`.
    fn rows_of(&self, page: u32) -> core::ops::Range<u32> {
        let first = page.saturating_mul(self.records_per_page).min(self.capacity());
        first..first.saturating_add(self.records_per_page).min(self.capacity())
    }

    /// Writes the bytes of `page`.
    pub(crate) fn store_page(&self, page: u32, bytes: &mut [u8; PAGE_BYTES]) {
        bytes.fill(0);
        let stride_bytes = (self.slots + 1) * 4;
        for (row, record) in self.rows_of(page).zip(bytes.chunks_exact_mut(stride_bytes.max(4))) {
            let (words, _) = record.as_chunks_mut::<4>();
            let Some((head, slots)) = words.split_first_mut() else { continue };
            let state = self.state(row);
            if state == State::Absent {
                continue;
            }
            let mut count = 0u32;
            for (slot, id) in slots.iter_mut().zip(self.neighbours(row)) {
                *slot = id.to_le_bytes();
                count += 1;
            }
            *head = (count | (state as u32) << 24).to_le_bytes();
        }
    }

    /// Takes the records of `page` from bytes that may be anything, for rows below `capacity`.
    /// Checks every field; on [`Error::Damaged`] the records of the page are unspecified and safe.
    pub(crate) fn load_page(&self, page: u32, bytes: &[u8; PAGE_BYTES]) -> Result<(), Error> {
        if page >= self.page_count() {
            return Err(Error::RowRange);
        }
        let stride_bytes = (self.slots + 1) * 4;
        let mut records = bytes.chunks_exact(stride_bytes.max(4));
        let rows = self.rows_of(page);
        for (row, record) in rows.clone().zip(&mut records) {
            self.load_record(row, record)?;
        }
        let used = rows.len() * stride_bytes;
        if bytes.iter().skip(used).any(|byte| *byte != 0) {
            return Err(Error::Damaged);
        }
        Ok(())
    }

    fn load_record(&self, row: u32, bytes: &[u8]) -> Result<(), Error> {
        let (words, _) = bytes.as_chunks::<4>();
        let (head, ids) = words.split_first().ok_or(Error::Damaged)?;
        let head = u32::from_le_bytes(*head);
        let state = State::from_number((head >> 24) as u8).ok_or(Error::Damaged)?;
        let count = head & 0x00ff_ffff;
        if count as usize > self.slots || (state == State::Absent && head != 0) {
            return Err(Error::Damaged);
        }
        let ids = || ids.iter().map(|id| u32::from_le_bytes(*id));
        if ids().skip(count as usize).any(|id| id != 0) {
            return Err(Error::Damaged);
        }
        let links = || ids().take(count as usize);
        if links().any(|id| id >= self.capacity() || id == row) {
            return Err(Error::Damaged);
        }
        // At most a few dozen entries, so the square is cheap and needs no memory.
        if links().enumerate().any(|(at, id)| links().take(at).any(|other| other == id)) {
            return Err(Error::Damaged);
        }
        self.set_neighbours(row, links());
        self.set_state(row, state);
        Ok(())
    }
}

impl Chunk {
    fn try_new(rows: usize, stride: usize) -> Result<Self, Error> {
        let mut words = Vec::new();
        let length = rows * stride + LINE_WORDS;
        words.try_reserve_exact(length).map_err(|_| Error::OutOfMemory)?;
        for _ in 0..length {
            words.try_push(AtomicU32::new(0))?;
        }
        let start = words.as_ptr().align_offset(64).min(LINE_WORDS);
        Ok(Self { words, start, rows })
    }

    fn copy_from(&self, old: &Self) {
        let source = old.words.iter().skip(old.start);
        for (target, source) in self.words.iter().skip(self.start).zip(source) {
            target.store(source.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
