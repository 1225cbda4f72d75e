// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The search graph of a collection: building it in the background, storing it, and loading it.
//!
//! The graph is a cache of the vectors. Its stored form is a stream of an object of its own: a page
//! with the header, then the pages of its records. Storing writes a new object and switches to it
//! with one operation, so the stored graph is always whole. It covers the puts whose sequence
//! number is below its watermark: rows put later are not in it, or are in it as another vector.

use crate::collection::{Build, Collection, Counts, Quantization, add_orphan, remove_orphan};
use crate::collection_memory::{Memory, index_error};
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::new_object;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vexfs_index::{Builder, Executor, Graph, HEADER_BYTES, Header, PAGE_BYTES, Parameters, Serial};
use vexfs_memory::{TryVec, zeroed_bytes};

/// Collections with fewer vectors than this have no graph: comparing all of them is faster.
pub const GRAPH_ROWS_MIN: u64 = 1024;
/// Rows that go into the graph, or out of it, at once. Meanwhile searches that have changes to take
/// in wait.
const STEP_ROWS: usize = 512;
/// Pages of the graph that are written, or read, at once.
const PAGES: usize = 64;
/// The graph is stored once the share of its nodes that changed is one in this.
const STORE_SHARE: u64 = 8;
/// How often storing looks for pages that have changed meanwhile before it gives up.
const STORE_PASSES: usize = 64;

/// What [`FileSystem::maintain_collection`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintenance {
    /// Rows that went into the graph.
    pub inserted: u64,
    /// Rows that were taken out of the graph.
    pub removed: u64,
    /// Rows that are not in the graph yet and belong there.
    pub left: u64,
    /// Whether the graph was stored.
    pub stored: bool,
}

impl FileSystem {
    /// Brings the graph of a collection nearer to its vectors: takes out what was removed, puts at
    /// most `rows_max` new rows in, and stores the graph when it has changed enough. Hosts call it
    /// from a thread in the background, and before they close. Searches run beside it. It ends with an
    /// error when `executor` is cancelled while it waits for others, or reads the collection into memory.
    pub fn maintain_collection(
        &self,
        collection: u32,
        rows_max: u64,
        executor: &dyn Executor,
    ) -> Result<Maintenance> {
        let collection = self.find_collection(collection)?;
        let mut build = collection.build.write_for(executor)?;
        let result = self.maintain_building(&collection, &mut build, rows_max, executor);
        // Its memory is only needed while there is work.
        build.builder = Builder::new();
        let mut done = result?;
        let due = {
            let memory = collection.memory.read();
            let changes = memory.graph_changes.load(Ordering::Relaxed);
            let nodes = u64::from(memory.graph.nodes());
            memory.is_loaded()
                && changes > 0
                && changes >= (nodes / STORE_SHARE).max(GRAPH_ROWS_MIN)
        };
        if due && !self.is_read_only() {
            self.store(&collection)?;
            done.stored = true;
        }
        Ok(done)
    }

    /// Stores the graphs in memory that have changed since they were stored. For hosts before they
    /// close: what is not stored is built again after the next opening.
    pub fn store_graphs(&self) -> Result<()> {
        if self.is_read_only() {
            return Ok(());
        }
        for collection in self.known_collections()? {
            let _build = collection.build.write();
            let changed = {
                let memory = collection.memory.read();
                memory.is_loaded() && memory.graph_changes.load(Ordering::Relaxed) > 0
            };
            if changed && collection.check_alive().is_ok() {
                self.store(&collection)?;
            }
        }
        Ok(())
    }

    /// Builds the graph of a collection, and the codes of a quantized one, anew from its vectors, in
    /// memory; [`FileSystem::store_graph`] is to follow. Searches are exact meanwhile.
    pub fn rebuild_collection(
        &self,
        collection: u32,
        executor: &dyn Executor,
    ) -> Result<Maintenance> {
        let collection = self.find_collection(collection)?;
        let mut build = collection.build.write_for(executor)?;
        if collection.schema.quantization != Quantization::None {
            // How vectors are coded is found when they are loaded.
            collection.memory.write().forget(&collection.schema);
            collection.pending.write().stop();
        }
        self.refresh_building(&collection, executor)?;
        collection.memory.write().drop_graph(&collection.schema)?;
        let result = self.maintain_building(&collection, &mut build, u64::MAX, executor);
        build.builder = Builder::new();
        result
    }

    /// Stores the graph of a collection that is in memory, however little it has changed.
    pub fn store_graph(&self, collection: u32, executor: &dyn Executor) -> Result<()> {
        let collection = self.find_collection(collection)?;
        let _build = collection.build.write_for(executor)?;
        if collection.memory.read().is_loaded() { self.store(&collection) } else { Ok(()) }
    }

    fn maintain_building(
        &self,
        collection: &Collection,
        build: &mut Build,
        rows_max: u64,
        executor: &dyn Executor,
    ) -> Result<Maintenance> {
        let mut done = Maintenance::default();
        let mut rows: Vec<u32> = Vec::new();
        rows.try_reserve_exact(STEP_ROWS).map_err(|_| Error::OutOfMemory)?;
        loop {
            self.refresh_building(collection, executor)?;
            done.removed += self.remove_nodes(collection, build, &mut rows, executor)?;
            if done.inserted >= rows_max || self.is_memory_short() {
                break;
            }
            let most = (rows_max - done.inserted).min(STEP_ROWS as u64) as usize;
            let inserted = self.insert_nodes(collection, build, &mut rows, most, executor)?;
            if inserted == 0 {
                break;
            }
            done.inserted += inserted;
            executor.relax();
        }
        let mut memory = collection.memory.write();
        if memory.is_loaded() {
            collection.count_memory(memory.memory_bytes() as u64);
        }
        if wants_graph(&memory) {
            done.left = memory.unindexed();
        }
        if done.left == 0 {
            memory.graph_damaged = false;
        }
        Ok(done)
    }

    /// Takes all nodes out that wait for it.
    fn remove_nodes(
        &self,
        collection: &Collection,
        build: &mut Build,
        rows: &mut Vec<u32>,
        executor: &dyn Executor,
    ) -> Result<u64> {
        let mut count = 0;
        loop {
            rows.clear();
            {
                let memory = collection.memory.read();
                for row in memory.removed.iter().take(STEP_ROWS) {
                    rows.try_push(row)?;
                }
                if rows.is_empty() {
                    return Ok(count);
                }
                let space = memory.space(&*self.host.kernels);
                memory
                    .graph
                    .remove_batch(space, rows, executor, &mut build.builder)
                    .map_err(index_error)?;
            }
            let mut memory = collection.memory.write();
            for row in rows.iter() {
                memory.removed.remove(*row);
                if !memory.live.contains(*row) {
                    memory.rows.clear(*row);
                }
            }
            count += rows.len() as u64;
            memory.graph_changes.fetch_add(rows.len() as u64, Ordering::Relaxed);
        }
    }

    /// Puts some rows into the graph. Returns how many.
    fn insert_nodes(
        &self,
        collection: &Collection,
        build: &mut Build,
        rows: &mut Vec<u32>,
        most: usize,
        executor: &dyn Executor,
    ) -> Result<u64> {
        {
            let memory = collection.memory.read();
            if !wants_graph(&memory) || memory.unindexed() == 0 {
                return Ok(0);
            }
            let (bound, capacity) = (memory.rows.bound(), memory.graph.capacity());
            drop(memory);
            if capacity == 0 {
                let mut memory = collection.memory.write();
                memory.code_rows(&*self.host.kernels, &collection.schema)?;
            }
            if capacity < bound {
                collection.memory.write().graph.reserve(bound).map_err(index_error)?;
            }
        }
        let memory = collection.memory.read();
        rows.clear();
        for row in memory.unindexed.iter().take(most) {
            // Changes that came in since may have brought rows beyond what was reserved, and rows
            // whose old node has to go first: they are for the next step.
            if row < memory.graph.capacity() && !memory.removed.contains(row) {
                rows.try_push(row)?;
            }
        }
        let space = memory.space(&*self.host.kernels);
        memory
            .graph
            .insert_batch(space, rows, executor, &mut build.builder)
            .map_err(index_error)?;
        let mut count = 0;
        for row in rows.iter() {
            if memory.graph.contains(*row) && memory.unindexed.remove(*row) {
                count += 1;
            }
        }
        memory.graph_changes.fetch_add(count, Ordering::Relaxed);
        Ok(count)
    }

    /// Writes the graph to a new object and switches to it. The caller is the graph's writer.
    fn store(&self, collection: &Collection) -> Result<()> {
        // Numbers are given out once, so this one is still free when it is used.
        let object = self.operation(0, false, new_object)?;
        self.holding(&[object], || self.store_graph_to(collection, object))
    }

    fn store_graph_to(&self, collection: &Collection, object: u64) -> Result<()> {
        self.operation(2, false, |tree| add_orphan(tree, object))?;
        let old = match self.write_graph(collection, object) {
            Ok(old) => old,
            Err(error) => {
                // What was written is let go of; should that fail too, the orphan's note remains.
                let _ = self.free_stream(object);
                return Err(error);
            }
        };
        if old != 0 { self.free_stream(old) } else { Ok(()) }
    }

    /// Returns the object that held the graph before, noted as an orphan; 0 when there was none.
    fn write_graph(&self, collection: &Collection, object: u64) -> Result<u64> {
        let mut buffer = zeroed_bytes(PAGES * PAGE_BYTES)?;
        let pages = collection.memory.read().graph.page_count();
        let mut page = 0;
        while page < pages {
            let count = (pages - page).min(PAGES as u32);
            {
                let memory = collection.memory.read();
                for (number, bytes) in (page..page + count).zip(buffer.chunks_exact_mut(PAGE_BYTES))
                {
                    copy_page(&memory.graph, number, bytes);
                }
            }
            let length = count as usize * PAGE_BYTES;
            self.write_page(object, page, buffer.get(..length).unwrap_or(&[]))?;
            page += count;
        }
        // Searches take removals in while this goes on, which changes pages that were written.
        for _ in 0..STORE_PASSES {
            let found = {
                let memory = collection.memory.read();
                let dirty = memory.graph.next_dirty(0);
                let first = buffer.get_mut(..PAGE_BYTES).unwrap_or(&mut []);
                match dirty {
                    Some(page) => copy_page(&memory.graph, page, first),
                    None => {
                        first.fill(0);
                        crate::bytes::copy(first, &memory.graph.header().to_bytes());
                    }
                }
                if dirty.is_none() {
                    memory.graph_changes.store(0, Ordering::Relaxed);
                }
                dirty.ok_or((memory.sequence_end, memory.unindexed()))
            };
            let first = buffer.get(..PAGE_BYTES).unwrap_or(&[]);
            match found {
                Ok(page) => self.write_page(object, page, first)?,
                Err((watermark, lacks)) => {
                    let bytes = (u64::from(pages) + 1) * PAGE_BYTES as u64;
                    let holder = collection.schema.object;
                    return self.write_stream_with(object, 0, first, 4, |tree| {
                        // Who drops it looks for its streams after marking it so.
                        collection.check_alive()?;
                        let mut old = 0;
                        Counts::change(tree, holder, |counts| {
                            old = core::mem::replace(&mut counts.graph_object, object);
                            counts.graph_watermark = watermark.min(counts.next_sequence);
                            (counts.graph_bytes, counts.graph_lacks) = (bytes, lacks);
                            Ok(())
                        })?;
                        remove_orphan(tree, object)?;
                        if old != 0 {
                            add_orphan(tree, old)?;
                        }
                        Ok(old)
                    });
                }
            }
        }
        Err(Error::Busy)
    }

    fn write_page(&self, object: u64, page: u32, bytes: &[u8]) -> Result<()> {
        let offset = (u64::from(page) + 1) * PAGE_BYTES as u64;
        self.write_stream_with(object, offset, bytes, 0, |_| Ok(()))
    }

    /// Frees the stored graph of a collection without vectors.
    pub(crate) fn drop_stored_graph(&self, collection: &Collection) -> Result<()> {
        let _build = collection.build.write();
        let object = collection.schema.object;
        if Counts::load(&self.reader(), object)?.graph_object == 0 {
            return Ok(());
        }
        let old = self.operation(2, true, |tree| {
            let mut old = 0;
            Counts::change(tree, object, |counts| {
                old = core::mem::take(&mut counts.graph_object);
                (counts.graph_watermark, counts.graph_bytes, counts.graph_lacks) = (0, 0, 0);
                Ok(())
            })?;
            if old != 0 {
                add_orphan(tree, old)?;
            }
            Ok(old)
        })?;
        if old != 0 { self.free_stream(old) } else { Ok(()) }
    }

    /// Loads the stored graph into `memory`, whose rows are loaded. A damaged graph is left out and
    /// said so; only a host's failure is an error. The caller is the graph's writer.
    #[inline(never)] // its frame must not add to its caller's
    pub(crate) fn load_graph(
        &self,
        collection: &Collection,
        memory: &mut Memory,
        counts: &Counts,
        executor: &dyn Executor,
    ) -> Result<()> {
        memory.graph_damaged = false;
        if counts.graph_object == 0 {
            return Ok(());
        }
        let between = || self.between_reads(collection, &mut *memory, executor);
        match self.read_graph(collection, counts, executor, between) {
            Ok(graph) => {
                memory.adopt_graph(graph, counts.graph_watermark)?;
                self.remove_lost_nodes(memory)
            }
            Err(error) if error.is_damage() => {
                memory.graph_damaged = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the nodes out whose rows are gone or changed since the graph was stored: their vectors
    /// are not there for a search to pass through them.
    fn remove_lost_nodes(&self, memory: &mut Memory) -> Result<()> {
        let mut rows: Vec<u32> = Vec::new();
        for row in memory.removed.iter() {
            rows.try_push(row)?;
        }
        if rows.is_empty() {
            return Ok(());
        }
        let space = memory.space(&*self.host.kernels);
        let mut builder = Builder::new();
        memory.graph.remove_batch(space, &rows, &Serial, &mut builder).map_err(index_error)?;
        memory.removed.clear();
        memory.graph_changes.fetch_add(rows.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Reads the stored graph; `between` is called before each read.
    fn read_graph(
        &self,
        collection: &Collection,
        counts: &Counts,
        executor: &dyn Executor,
        mut between: impl FnMut() -> Result<()>,
    ) -> Result<Graph> {
        let object = counts.graph_object;
        let stored = self.object_bytes(object, executor)?;
        let parameters = &collection.schema.parameters;
        read_stored_graph(object, parameters, counts.graph_bytes, stored, &mut |offset, buffer| {
            between()?;
            self.stream_read(object, offset, buffer)
        })
    }
}

/// Reads the graph of `bytes` bytes that `object`, which has blocks of `stored` bytes, holds. `read`
/// fills a buffer from an offset of the stream.
pub(crate) fn read_stored_graph(
    object: u64,
    parameters: &Parameters,
    bytes: u64,
    stored: u64,
    read: &mut dyn FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Graph> {
    let damaged = corrupt(object, "stored graph");
    let mut buffer = zeroed_bytes(PAGES * PAGE_BYTES)?;
    let first = buffer.get_mut(..PAGE_BYTES).unwrap_or(&mut []);
    read(0, first)?;
    let head = first.first_chunk::<HEADER_BYTES>().ok_or(damaged)?;
    let header = Header::from_bytes(head).map_err(index_error)?;
    // Memory is taken for no more than what is stored.
    let record_bytes = u64::from(header.parameters.degree) * 3 / 2 * 4;
    if header.parameters != *parameters
        || bytes > stored
        || u64::from(header.capacity).saturating_mul(record_bytes) > bytes
    {
        return Err(damaged);
    }
    let mut graph = Graph::from_header(&header).map_err(index_error)?;
    let pages = graph.page_count();
    if bytes != (u64::from(pages) + 1) * PAGE_BYTES as u64 {
        return Err(damaged);
    }
    let mut page = 0;
    while page < pages {
        let count = (pages - page).min(PAGES as u32);
        let window = buffer.get_mut(..count as usize * PAGE_BYTES).unwrap_or(&mut []);
        read((u64::from(page) + 1) * PAGE_BYTES as u64, window)?;
        for (number, bytes) in (page..).zip(window.as_chunks::<PAGE_BYTES>().0) {
            graph.load_page(number, bytes).map_err(index_error)?;
        }
        page += count;
    }
    graph.loaded(&header).map_err(index_error)?;
    Ok(graph)
}

/// Copies a page of the graph, which counts as stored from now on.
fn copy_page(graph: &Graph, page: u32, bytes: &mut [u8]) {
    if let Some(bytes) = bytes.first_chunk_mut::<PAGE_BYTES>() {
        graph.take_dirty(page);
        graph.page(page, bytes);
    }
}

/// Whether there are vectors enough for a graph, or there is one.
fn wants_graph(memory: &Memory) -> bool {
    memory.is_loaded()
        && (memory.live.len() >= GRAPH_ROWS_MIN
            || u64::from(memory.graph.nodes()) >= GRAPH_ROWS_MIN / 2)
}
