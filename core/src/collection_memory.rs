// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A collection in memory: its rows, what each describes, its graph, and how it is kept in step with
//! the tree.
//!
//! The tree is the truth. An operation that changed vectors notes what it did in [`Pending`], and
//! the next search takes the notes in before it looks: so a put is visible at once, and an
//! operation never waits for a search.

use crate::codes::{encode, memory_row_bytes};
use crate::collection::{Collection, Counts, IndexMemory, Schema};
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::host::{Clock, Loaded};
use crate::key::{Key, Kind};
use crate::layout::*;
use crate::row_set::RowSet;
use crate::stream::Verify;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use vexfs_index::{Executor, Graph, ROWS_MAX, Rows, Serial, Space};
use vexfs_memory::{Shared, TryVec, try_box};
use vexfs_simd::{Codec, Kernels, RowTerm, Shape};
use zerocopy::FromBytes;

/// Notes are taken in by the operation itself when their vectors exceed this, unless that means waiting.
const PENDING_BYTES: usize = 16 << 20;
/// Likewise for this many notes; few in tests, so that it happens there.
const PENDING_CHANGES: usize = if cfg!(test) { 64 } else { 1 << 15 };
/// With so many times as much an operation does wait.
const PENDING_MAX: usize = 2;
/// Rows whose items are read at once while loading, the tree being locked.
pub(crate) const LOAD_ROWS: usize = 1024;
/// Bytes of vectors that are read at once while loading.
pub(crate) const LOAD_BYTES: usize = 1 << 20;
/// How long searches read the device when there was no memory for a collection.
const RETRY_NS: u64 = 10_000_000_000;
/// How long who is at work on a collection may take to give up.
const GIVE_UP_NS: u64 = 1_000_000_000;
/// Rows of a chunk of [`RowInfos`].
const INFOS: usize = 1024;

/// What a row describes, as far as searches need it in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowInfo {
    pub inode: u64,
    pub sequence: u64,
    pub offset: u64,
    pub length: u64,
    pub content_version: u64,
    pub tag: u64,
    pub chunk: u32,
}

impl RowInfo {
    pub fn new(layout: &RowLayout) -> Self {
        Self {
            inode: layout.inode.get(),
            sequence: layout.sequence.get(),
            offset: layout.offset.get(),
            length: layout.length.get(),
            content_version: layout.content_version.get(),
            tag: layout.tag.get(),
            chunk: layout.chunk.get(),
        }
    }
}

/// A [`RowInfo`] for each row, in chunks, so that growth copies little.
#[derive(Default)]
struct RowInfos(Vec<Vec<RowInfo>>);

impl RowInfos {
    fn get(&self, row: u32) -> Option<&RowInfo> {
        self.0.get(row as usize / INFOS)?.get(row as usize % INFOS)
    }

    fn set(&mut self, row: u32, info: RowInfo) -> Result<()> {
        let (number, slot) = (row as usize / INFOS, row as usize % INFOS);
        while self.0.len() <= number {
            self.0.try_push(Vec::new())?;
        }
        let chunk = self.0.get_mut(number).ok_or(Error::OutOfMemory)?;
        if chunk.len() <= slot {
            // A small collection takes little.
            chunk
                .try_resize((slot + 1).next_power_of_two().clamp(16, INFOS), RowInfo::default())?;
        }
        if let Some(place) = chunk.get_mut(slot) {
            *place = info;
        }
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.0.iter().map(|chunk| chunk.capacity() * size_of::<RowInfo>()).sum::<usize>()
    }
}

/// What an operation did to a row.
enum Change {
    /// It now holds the next vector of [`Pending::bytes`].
    Set { row: u32, info: RowInfo, term: RowTerm },
    /// It is free.
    Clear { row: u32 },
}

/// Changes that are in the tree and not in [`Memory`] yet, in their order.
pub(crate) struct Pending {
    /// Whether anybody wants to know.
    tracking: bool,
    changes: Vec<Change>,
    /// Their vectors, one after another.
    bytes: Vec<u8>,
    /// There was no memory for a note: what is in memory is out of date.
    lost: bool,
    /// What all this counts for in `index_memory`.
    memory_bytes: u64,
    index_memory: Shared<IndexMemory>,
}

impl Pending {
    pub fn new(index_memory: Shared<IndexMemory>) -> Self {
        Self {
            tracking: false,
            changes: Vec::new(),
            bytes: Vec::new(),
            lost: false,
            memory_bytes: 0,
            index_memory,
        }
    }

    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && !self.lost
    }

    fn count_memory(&mut self) {
        let bytes = self.changes.capacity() * size_of::<Change>() + self.bytes.capacity();
        self.index_memory.count(self.memory_bytes, bytes as u64);
        self.memory_bytes = bytes as u64;
    }

    /// Hands out the changes and their vectors; notes are taken as before.
    fn take(&mut self) -> (Vec<Change>, Vec<u8>) {
        let taken = (core::mem::take(&mut self.changes), core::mem::take(&mut self.bytes));
        self.lost = false;
        self.count_memory();
        taken
    }

    /// Whether there are more notes than `times` as many as are waited for.
    fn is_large(&self, times: usize) -> bool {
        self.changes.len() > PENDING_CHANGES * times || self.bytes.len() > PENDING_BYTES * times
    }

    /// Notes are taken from now on.
    fn start(&mut self) {
        self.stop();
        self.tracking = true;
    }

    /// Nobody wants to know any more.
    pub fn stop(&mut self) {
        self.take();
        self.tracking = false;
    }

    fn note(&mut self, change: Change, bytes: &[u8]) {
        if !self.tracking || self.lost {
            return;
        }
        let length = self.bytes.len();
        if self.bytes.try_extend(bytes).is_err() || self.changes.try_push(change).is_err() {
            self.bytes.truncate(length);
            self.lost = true;
        }
        self.count_memory();
    }

    pub fn set(&mut self, row: u32, info: RowInfo, term: RowTerm, bytes: &[u8]) {
        self.note(Change::Set { row, info, term }, bytes);
    }

    pub fn clear(&mut self, rows: &[u32]) {
        for row in rows {
            self.note(Change::Clear { row: *row }, &[]);
        }
    }
}

/// How a collection is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not at all.
    Away,
    /// Rows and graph.
    Loaded,
    /// Not at all, because it is over the limit or there was no memory for it: searches read the vectors
    /// from the device.
    TooLarge,
}

/// Rows and graph of a collection.
pub(crate) struct Memory {
    stage: Stage,
    /// When to try again what there was no room for, by the monotonic clock.
    retry_ns: u64,
    /// The vectors, or their codes.
    pub rows: Rows,
    /// How they are coded, when they are.
    pub codec: Option<Codec>,
    /// The host has no codes for them.
    pub uncoded: bool,
    /// Shape of the vectors.
    shape: Shape,
    /// For the code of a row on its way in.
    code: Vec<u8>,
    infos: RowInfos,
    /// Rows that are in use. `rows` may hold more: nodes of the graph that wait to be removed.
    pub live: RowSet,
    /// Rows in use that are no nodes of the graph.
    pub unindexed: RowSet,
    /// Nodes of the graph whose row is free or holds another vector now.
    pub removed: RowSet,
    /// Rows in use whose vector could not be read.
    damaged: RowSet,
    pub graph: Graph,
    /// The stored graph was found damaged.
    pub graph_damaged: bool,
    /// Every change of a sequence number below this is in memory.
    pub sequence_end: u64,
    /// Moves whenever changes are taken in.
    pub version: u64,
    /// Rows that went into, or out of, the graph since it was last stored.
    pub graph_changes: AtomicU64,
}

impl Memory {
    pub fn new(schema: &Schema) -> Result<Self> {
        Ok(Self {
            stage: Stage::Away,
            retry_ns: 0,
            rows: Rows::new(schema.shape),
            codec: None,
            uncoded: false,
            shape: schema.shape,
            code: Vec::new(),
            infos: RowInfos::default(),
            live: RowSet::default(),
            unindexed: RowSet::default(),
            removed: RowSet::default(),
            damaged: RowSet::default(),
            graph: Graph::new(schema.parameters).map_err(index_error)?,
            graph_damaged: false,
            sequence_end: 0,
            version: 0,
            graph_changes: AtomicU64::new(0),
        })
    }

    pub fn is_loaded(&self) -> bool {
        self.stage == Stage::Loaded
    }

    pub fn is_too_large(&self) -> bool {
        self.stage == Stage::TooLarge
    }

    pub fn unindexed(&self) -> u64 {
        self.unindexed.len()
    }

    pub fn damaged(&self) -> u64 {
        self.damaged.len()
    }

    pub fn memory_bytes(&self) -> usize {
        let sets = [&self.live, &self.unindexed, &self.removed, &self.damaged];
        self.rows.memory_bytes()
            + self.infos.memory_bytes()
            + sets.iter().map(|set| set.memory_bytes()).sum::<usize>()
            + self.graph.memory_bytes()
    }

    /// What row `row` describes, when it is in use.
    pub fn info(&self, row: u32) -> Option<&RowInfo> {
        if self.live.contains(row) { self.infos.get(row) } else { None }
    }

    /// The rows, for what changes the graph and so is not cancelled.
    pub fn space<'a>(&'a self, kernels: &'a dyn Kernels) -> Space<'a> {
        self.space_to_search(kernels, &Serial)
    }

    /// The rows, for a search that `executor` may cancel.
    pub fn space_to_search<'a>(
        &'a self,
        kernels: &'a dyn Kernels,
        executor: &'a dyn Executor,
    ) -> Space<'a> {
        Space { rows: &self.rows, kernels, executor }
    }

    /// An empty one, in which a collection is loaded.
    #[inline(never)] // its frame must not add to its caller's
    fn boxed(schema: &Schema) -> Result<Box<Self>> {
        Ok(try_box(Self::new(schema)?)?)
    }

    /// There is no room for it for a while, whatever is estimated.
    fn put_off(&mut self, clock: &dyn Clock) {
        self.stage = Stage::TooLarge;
        self.retry_ns = clock.monotonic_ns().saturating_add(RETRY_NS);
    }

    /// Lets a collection that there was no room for be tried again.
    pub fn retry(&mut self) {
        if self.stage == Stage::TooLarge {
            (self.stage, self.retry_ns) = (Stage::Away, 0);
        }
    }

    /// Lets go of everything.
    #[inline(never)] // its frame must not add to its caller's
    pub fn forget(&mut self, schema: &Schema) {
        // Cannot fail: the parameters were good before.
        if let Ok(new) = Self::new(schema) {
            let version = self.version + 1;
            *self = Self { version, ..new };
        }
    }

    /// Drops the graph; every row is unindexed then.
    pub fn drop_graph(&mut self, schema: &Schema) -> Result<()> {
        self.graph = Graph::new(schema.parameters).map_err(index_error)?;
        for row in self.removed.iter() {
            if !self.live.contains(row) {
                self.rows.clear(row);
            }
        }
        self.removed.clear();
        self.unindexed.clear();
        for row in self.live.iter() {
            if !self.damaged.contains(row) {
                self.unindexed.insert(row);
            }
        }
        self.graph_changes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a stored graph that covers puts below `watermark`. Nodes of rows that are free, or were
    /// put later, are not returned by searches and wait to be removed.
    pub fn adopt_graph(&mut self, graph: Graph, watermark: u64) -> Result<()> {
        self.removed.reserve(graph.capacity())?;
        self.graph = graph;
        let mut from = self.graph.next(0);
        while let Some(row) = from {
            let current = self.unindexed.contains(row)
                && self.info(row).is_some_and(|info| info.sequence < watermark);
            if current && self.graph.contains(row) {
                self.unindexed.remove(row);
            } else {
                self.graph.tombstone(row);
                self.removed.insert(row);
            }
            from = self.graph.next(row + 1);
        }
        Ok(())
    }

    fn reserve(&mut self, row: u32) -> Result<()> {
        if row >= ROWS_MAX {
            return Err(Error::TooBig("row number"));
        }
        for set in [&mut self.live, &mut self.unindexed, &mut self.removed, &mut self.damaged] {
            set.reserve(row + 1)?;
        }
        Ok(())
    }

    /// Row `row` holds this vector now; `None` is one that could not be read.
    fn set(
        &mut self,
        kernels: &dyn Kernels,
        row: u32,
        info: RowInfo,
        vector: Option<(&[u8], RowTerm)>,
    ) -> Result<()> {
        self.reserve(row)?;
        self.clear(row);
        self.infos.set(row, info)?;
        match vector {
            Some((bytes, term)) => {
                match &self.codec {
                    None => self.rows.set(row, bytes, term).map_err(index_error)?,
                    Some(codec) => {
                        let code = &mut self.code;
                        let term = encode(kernels, &self.shape, codec, (bytes, term), code)?;
                        self.rows.set(row, code, term).map_err(index_error)?;
                    }
                }
                self.unindexed.insert(row);
            }
            None => {
                self.damaged.insert(row);
            }
        }
        self.live.insert(row);
        Ok(())
    }

    /// Row `row` is free now.
    fn clear(&mut self, row: u32) {
        self.live.remove(row);
        self.unindexed.remove(row);
        self.damaged.remove(row);
        if self.graph.tombstone(row) {
            self.removed.insert(row);
        } else if !self.removed.contains(row) {
            // The bytes of a node that waits to be removed stay: the graph leads through it.
            self.rows.clear(row);
        }
    }
}

/// Lets the host reschedule. `Interrupted` when whoever asked wants no more.
pub(crate) fn go_on(executor: &dyn Executor) -> Result<()> {
    executor.relax();
    if executor.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// The error of the file system for an error of the index.
pub(crate) fn index_error(error: vexfs_index::Error) -> Error {
    match error {
        vexfs_index::Error::OutOfMemory => Error::OutOfMemory,
        vexfs_index::Error::RowRange => Error::TooBig("row number"),
        vexfs_index::Error::RowLength => Error::InvalidVector(vexfs_simd::InvalidRow::Length),
        vexfs_index::Error::Parameter => Error::Invalid("parameter of the search graph"),
        vexfs_index::Error::Damaged => corrupt(0, "stored graph"),
        vexfs_index::Error::Cancelled => Error::Interrupted,
    }
}

/// Reads a row's item and checks it.
pub(crate) fn decode_row(object: u64, item: &[u8]) -> Result<RowLayout> {
    let layout = RowLayout::read_from_bytes(item)
        .map_err(|_| corrupt(object, "row item of a wrong length"))?;
    if layout.inode.get() == 0 || layout.inode.get() > OBJECT_MAX {
        return Err(corrupt(object, "row of an impossible inode"));
    }
    if !(1..SEQUENCE_MAX).contains(&layout.sequence.get()) {
        return Err(corrupt(object, "row of an impossible sequence number"));
    }
    Ok(layout)
}

/// Items of rows, read from the tree in one go.
#[derive(Default)]
pub(crate) struct RowItems {
    pub rows: Vec<(u32, RowLayout)>,
}

impl RowItems {
    /// Reads items from row `from` on, up to `max` of them or `span` rows. Returns where to go on.
    pub fn read(
        &mut self,
        fs: &FileSystem,
        object: u64,
        from: u32,
        (max, span): (usize, u32),
    ) -> Result<Option<u32>> {
        self.rows.clear();
        let mut next = None;
        let last = Key::new(object, Kind::Row, u64::from(ROWS_MAX));
        let tree = fs.reader();
        let end = Counts::load(&tree, object)?.row_end;
        tree.scan(Key::new(object, Kind::Row, u64::from(from)), last, |key, item| {
            let row = u32::try_from(key.offset()).ok().filter(|row| *row < end);
            let row = row.ok_or(corrupt(object, "row behind the end of its collection"))?;
            let first = self.rows.first().map_or(row, |(first, _)| *first);
            if self.rows.len() >= max || row - first >= span.max(1) {
                next = Some(row);
                return Ok(false);
            }
            self.rows.try_push((row, decode_row(object, item)?))?;
            Ok(true)
        })?;
        Ok(next)
    }
}

/// What is called with a row, its item, and its vector and term unless that is damaged.
pub(crate) type EachVector<'a> =
    dyn FnMut(u32, &RowLayout, Option<(&[u8], RowTerm)>) -> Result<()> + 'a;

/// The vectors of the rows `items` (as [`RowItems::read`] gave them), handed to `each` with their
/// item and term; without bytes when they are damaged. `buffer` is reused.
pub(crate) fn read_vectors(
    fs: &FileSystem,
    collection: &Collection,
    items: &RowItems,
    buffer: &mut Vec<u8>,
    each: &mut EachVector<'_>,
) -> Result<()> {
    let schema = &collection.schema;
    let row_bytes = schema.shape.row_bytes();
    let (Some((first, _)), Some((last, _))) = (items.rows.first(), items.rows.last()) else {
        return Ok(());
    };
    let offset = |row: u32| u64::from(row) * row_bytes as u64;
    let length = offset(*last - *first) as usize + row_bytes;
    buffer.try_resize(length, 0)?;
    let window = buffer.get_mut(..length).unwrap_or_default();
    fs.stream_read_as(schema.rows_object, offset(*first), window, Verify::Nothing)?;
    for (row, layout) in &items.rows {
        let from = offset(*row - *first) as usize;
        let bytes = buffer.get_mut(from..from + row_bytes).unwrap_or_default();
        let sound = fs.is_row(collection, *row, layout.checksum.get(), bytes)?;
        let bytes = &*bytes;
        let term = fs.host.kernels.check(&schema.shape, bytes).ok().filter(|_| sound);
        each(*row, layout, term.map(|term| (bytes, term)))?;
    }
    Ok(())
}

/// How many rows a window of `bytes` has.
pub(crate) fn window_rows(bytes: usize, row_bytes: usize) -> u32 {
    bytes.checked_div(row_bytes).unwrap_or(1).clamp(1, 1 << 20) as u32
}

/// What [`FileSystem::release_index_memory`] comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nothing could be let go of.
    Nothing,
    /// So many bytes were.
    Bytes(u64),
    /// Whoever is at work gives up, and lets go.
    Soon,
}

impl Collection {
    /// Whether these notes are too many, or take more memory than there may be, to be left to the next
    /// search.
    fn is_much(&self, pending: &Pending) -> bool {
        pending.is_large(1) || !pending.is_empty() && !self.fits(self.counted_memory())
    }

    /// Lets go of rows and graph, unless somebody is at work on them.
    fn try_unload(&self) -> bool {
        let Some(_build) = self.build.try_write() else { return false };
        let Some(mut memory) = self.memory.try_write() else { return false };
        {
            let Some(mut pending) = self.pending.try_write() else { return false };
            pending.stop();
        }
        memory.forget(&self.schema);
        self.count_memory(0);
        if let Some(mut scratches) = self.scratches.try_write() {
            scratches.clear();
        }
        true
    }
}

impl FileSystem {
    /// Brings the collection into memory if it is not, and takes in what has changed. Afterwards
    /// `memory` is loaded, or too large.
    #[inline(never)] // its frame must not add to its caller's
    pub(crate) fn refresh(&self, collection: &Collection, executor: &dyn Executor) -> Result<()> {
        collection.check_alive()?;
        {
            let memory = collection.memory.read_for(executor)?;
            if memory.is_too_large()
                && self.host.clock.monotonic_ns() >= memory.retry_ns
                && collection.fits(self.estimate(collection)?.0)
            {
                drop(memory);
                collection.memory.write().retry();
            } else if memory.stage != Stage::Away && collection.pending.read().is_empty() {
                return Ok(());
            }
        }
        self.put_away_if_lost(collection);
        if collection.memory.read_for(executor)?.stage == Stage::Away {
            // Held by who loads it, for as long as that takes; the stored graph must not change then.
            let _build = collection.build.write_for(executor)?;
            return self.load(collection, executor);
        }
        self.take_in(collection)
    }

    /// As [`FileSystem::refresh`], for who holds the lock of the graph's writer.
    pub(crate) fn refresh_building(
        &self,
        collection: &Collection,
        executor: &dyn Executor,
    ) -> Result<()> {
        collection.check_alive()?;
        self.put_away_if_lost(collection);
        self.load(collection, executor)
    }

    /// Notes that could not be made for want of memory are no reason to fail now: what is in memory
    /// is let go of, to be read from the tree again.
    fn put_away_if_lost(&self, collection: &Collection) {
        let lost = collection.pending.read().lost;
        if lost {
            let _ = self.take_in(collection);
        }
    }

    /// Takes the notes in, if there are any. What fails lets go of what is in memory, to be read from the
    /// tree again.
    pub(crate) fn take_in_notes(&self, collection: &Collection) {
        let noted = !collection.pending.read().is_empty();
        if noted {
            let _ = self.take_in(collection);
        }
    }

    /// Takes the notes in.
    fn take_in(&self, collection: &Collection) -> Result<()> {
        self.take_in_to(collection, &mut collection.memory.write())
    }

    fn take_in_to(&self, collection: &Collection, memory: &mut Memory) -> Result<()> {
        if memory.stage != Stage::Loaded {
            // Whoever is loading it takes them in.
            return Ok(());
        }
        let result = self.apply_pending(collection, memory);
        if result.is_err() {
            // What is in memory is half old and half new: it is read again from the tree.
            memory.forget(&collection.schema);
            collection.pending.write().stop();
        } else if !collection.fits(memory.memory_bytes() as u64) {
            memory.forget(&collection.schema);
            memory.put_off(&*self.host.clock);
            collection.pending.write().stop();
        }
        let bytes = if memory.is_loaded() { memory.memory_bytes() as u64 } else { 0 };
        collection.count_memory(bytes);
        result
    }

    /// Makes the changes that are noted, in their order.
    fn apply_pending(&self, collection: &Collection, memory: &mut Memory) -> Result<()> {
        let (changes, bytes) = {
            let mut pending = collection.pending.write();
            if pending.is_empty() {
                return Ok(());
            }
            let lost = pending.lost;
            let taken = pending.take();
            if lost {
                return Err(Error::OutOfMemory);
            }
            taken
        };
        memory.version += 1;
        let row_bytes = collection.row_bytes();
        let mut vectors = bytes.chunks_exact(row_bytes.max(1));
        for change in &changes {
            match change {
                Change::Set { row, info, term } => {
                    let bytes = vectors.next().ok_or(Error::OutOfMemory)?;
                    memory.set(&*self.host.kernels, *row, *info, Some((bytes, *term)))?;
                    memory.sequence_end = memory.sequence_end.max(info.sequence.saturating_add(1));
                }
                Change::Clear { row } => memory.clear(*row),
            }
        }
        Ok(())
    }

    /// For an operation that has noted much, or more than there may be in memory: does the work of the next
    /// search. It waits for searches only when that has become too much, and for nobody who loads the
    /// collection, as that takes notes in.
    pub(crate) fn take_in_if_large(&self, collection: &Collection) -> Result<()> {
        let wait = {
            let pending = collection.pending.read();
            if !collection.is_much(&pending) {
                return Ok(());
            }
            pending.is_large(PENDING_MAX)
        };
        if wait {
            return self.take_in(collection);
        }
        match collection.memory.try_write() {
            Some(mut memory) => self.take_in_to(collection, &mut memory),
            None => Ok(()),
        }
    }

    /// Loads rows and graph, unless that was done. Called with the lock of the graph's writer, and with
    /// no other until all is read: whoever asks about the collection meanwhile is told that it is not in
    /// memory. One that is cancelled leaves nothing in memory.
    fn load(&self, collection: &Collection, executor: &dyn Executor) -> Result<()> {
        if collection.memory.read().stage != Stage::Away {
            return self.take_in(collection);
        }
        if self.is_memory_short() {
            return self.load_later(collection);
        }
        let mut loaded = Memory::boxed(&collection.schema)?;
        // From here on operations note what they do, and what they did before is read.
        collection.pending.write().start();
        let start_ns = self.host.clock.monotonic_ns();
        if let Err(error) = self.load_rows(collection, &mut loaded, executor) {
            collection.pending.write().stop();
            // What was taken is given back first.
            drop(loaded);
            collection.count_memory(0);
            return match error {
                // Others may want memory just now.
                Error::OutOfMemory => self.load_later(collection),
                _ => Err(error),
            };
        }
        self.host.observer.loaded(&Loaded {
            collection: collection.schema.number,
            rows: loaded.live.len(),
            nodes: u64::from(loaded.graph.nodes()),
            nanoseconds: self.host.clock.monotonic_ns().saturating_sub(start_ns),
        });
        let mut memory = collection.memory.write();
        // Who drops it marks it first and lets go of what is in memory then.
        collection.check_alive()?;
        loaded.version += memory.version + 1;
        core::mem::swap(&mut *memory, &mut *loaded);
        // With the lock still held: rows alone may lack one that has moved while they were read.
        self.take_in_to(collection, &mut memory)
    }

    /// Searches read the vectors from the device for a while.
    fn load_later(&self, collection: &Collection) -> Result<()> {
        collection.memory.write().put_off(&*self.host.clock);
        Ok(())
    }

    /// How many bytes rows and graph will take in memory, about.
    fn estimate(&self, collection: &Collection) -> Result<(u64, Counts)> {
        let schema = &collection.schema;
        let counts = Counts::load(&self.reader(), schema.object)?;
        let slots = usize::from(schema.parameters.degree) * 3 / 2;
        let held = memory_row_bytes(schema, counts.rows);
        let each = (held + size_of::<RowInfo>() + slots * 4 + 8) as u64;
        Ok((each.saturating_mul(u64::from(counts.row_end)), counts))
    }

    #[inline(never)] // its frame must not add to its caller's
    fn load_rows(
        &self,
        collection: &Collection,
        memory: &mut Memory,
        executor: &dyn Executor,
    ) -> Result<()> {
        let schema = &collection.schema;
        let row_bytes = schema.shape.row_bytes();
        let (estimate, counts) = self.estimate(collection)?;
        if !collection.fits(estimate) {
            memory.stage = Stage::TooLarge;
            collection.pending.write().stop();
            return Ok(());
        }
        if let Some(codec) = self.train_codec(collection, counts.rows, counts.row_end)?
            && let Some(shape) = codec.shape(&schema.shape)
        {
            (memory.rows, memory.codec) = (Rows::new(shape), Some(codec));
        }
        let (mut items, mut buffer) = (RowItems::default(), Vec::new());
        let mut from = Some(0);
        let window = (LOAD_ROWS, window_rows(LOAD_BYTES, row_bytes));
        while let Some(row) = from {
            from = items.read(self, schema.object, row, window)?;
            read_vectors(self, collection, &items, &mut buffer, &mut |row, layout, vector| {
                memory.set(&*self.host.kernels, row, RowInfo::new(layout), vector)
            })?;
            self.between_reads(collection, memory, executor)?;
        }
        memory.sequence_end = counts.next_sequence;
        self.load_graph(collection, memory, &counts, executor)?;
        memory.stage = Stage::Loaded;
        Ok(())
    }

    /// Between two reads of what is loaded. Much that was noted is taken in, so that notes stay few: a row
    /// that is read later is as they left it, or newer, with a note that comes later as well.
    pub(crate) fn between_reads(
        &self,
        collection: &Collection,
        memory: &mut Memory,
        executor: &dyn Executor,
    ) -> Result<()> {
        collection.check_alive()?;
        collection.count_memory(memory.memory_bytes() as u64);
        if self.is_memory_short() {
            return Err(Error::OutOfMemory);
        }
        let much = collection.is_much(&collection.pending.read());
        if much {
            self.apply_pending(collection, memory)?;
        }
        go_on(executor)
    }

    /// Bytes of memory that rows and graphs of collections take. Like
    /// [`FileSystem::release_index_memory`] it waits for no lock; 0 then.
    pub fn index_memory_bytes(&self) -> u64 {
        let collections = self.collections.try_read();
        collections.map_or(0, |collections| collections.index_memory_bytes())
    }

    /// Lets go of the rows and the graph in memory of the largest collection of at most `bytes_max` that
    /// nobody is at work on; the next search loads them. It waits for no lock, as whoever is short of memory
    /// must not: who has the lock may be waiting for memory. If it is `pressing`, as somebody cannot go on
    /// without, whoever is at work on such a collection gives up soon, and none is loaded for a while.
    pub fn release_index_memory(&self, bytes_max: u64, pressing: bool) -> Released {
        let Some(collections) = self.collections.try_read() else { return Released::Nothing };
        let rank =
            |collection: &Collection| (collection.counted_memory(), collection.schema.number);
        let (mut below, mut at_work) = ((bytes_max, u32::MAX), false);
        loop {
            let loaded = collections.list.iter().map(|collection| (rank(collection), collection));
            let smaller = loaded.filter(|(rank, _)| rank.0 > 0 && *rank < below);
            let Some((rank, collection)) = smaller.max_by_key(|(rank, _)| *rank) else { break };
            if collection.try_unload() {
                if pressing {
                    self.note_short_memory();
                }
                return Released::Bytes(rank.0);
            }
            (below, at_work) = (rank, true);
        }
        if !pressing || !at_work {
            return Released::Nothing;
        }
        // Who is at work may be the one who asks, and is not to be told so for ever.
        let short_ns = self.short_memory_ns();
        if short_ns.is_none() {
            self.note_short_memory();
        }
        if short_ns.unwrap_or(0) < GIVE_UP_NS { Released::Soon } else { Released::Nothing }
    }

    fn note_short_memory(&self) {
        let now_ns = self.host.clock.monotonic_ns();
        self.memory_short_ns.store(now_ns.max(1), Ordering::Release);
    }

    /// How long ago somebody had to wait for memory, if that was not long ago.
    fn short_memory_ns(&self) -> Option<u64> {
        let short_ns = self.memory_short_ns.load(Ordering::Acquire);
        let ago_ns = self.host.clock.monotonic_ns().saturating_sub(short_ns);
        (short_ns != 0 && ago_ns < RETRY_NS).then_some(ago_ns)
    }

    /// Whether memory is left to others for a while.
    pub(crate) fn is_memory_short(&self) -> bool {
        self.short_memory_ns().is_some()
    }

    /// Lets go of the rows and the graph of a collection in memory; the next search loads them.
    #[cfg(test)]
    pub(crate) fn unload_collection(&self, collection: u32) -> Result<()> {
        let collection = self.find_collection(collection)?;
        let _build = collection.build.write();
        collection.memory.write().forget(&collection.schema);
        collection.count_memory(0);
        collection.pending.write().stop();
        collection.scratches.write().clear();
        Ok(())
    }
}
