// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The vectors of files: putting, reading, listing and removing them, and what becomes of them when
//! files are cloned and removed.
//!
//! A vector is two items and a row: the file's [`Kind::Vector`] item leads to the row, the
//! collection's [`Kind::Row`] item leads back, and the bytes lie in the collection's stream. Every
//! operation changes all of them together. A replaced vector goes to another row, so that nothing
//! live is overwritten; freed rows are used again, the lowest first, and blocks of the stream
//! without any row in use are given back at once.

use crate::collection::{self, Collection, Counts, Writer};
use crate::collection_memory::{RowInfo, RowItems, decode_row, go_on};
use crate::error::{Error, Result, corrupt};
use crate::file::load_file;
use crate::filesystem::FileSystem;
use crate::inode::Inode;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::row_set::RowSet;
use crate::stream::{Before, StreamWrite, Verify, punch_stream, read_held};
use crate::tree::Tree;
use alloc::vec::Vec;
use core::hash::Hasher;
use core::ops::RangeInclusive;
use siphasher::sip::SipHasher24;
use vexfs_index::{Executor, ROWS_MAX};
use vexfs_memory::{Table, TryVec, sort_by, zeroed_bytes};
use vexfs_simd::RowTerm;
use zerocopy::{FromBytes, IntoBytes};

/// Most vectors of one call of [`FileSystem::put_vectors`].
pub const PUT_VECTORS_MAX: usize = 1 << 16;
/// Most vectors that are put as a whole.
pub const PUT_BATCH_VECTORS_MAX: usize = 256;
/// Most bytes of blocks that putting vectors as a whole writes.
const PUT_BATCH_BYTES_MAX: usize = 6 << 20;
/// Vectors that one operation removes.
const REMOVE_VECTORS: usize = 128;
/// How often a read is tried again because its vector was replaced meanwhile.
const READ_TRIES: usize = 16;

/// A vector to store.
#[derive(Clone, Copy, Debug)]
pub struct VectorPut<'a> {
    /// Chunk of the file. A vector that is there already is replaced.
    pub chunk: u32,
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The file's content version that it was made from; `None` takes the present one.
    pub content_version: Option<u64>,
    /// The user's tag.
    pub tag: u64,
    /// The user's digest of the passage, to find the vector by; zeros when there is none.
    pub digest: [u8; 16],
    /// The vector, as long as the collection's shape says.
    pub bytes: &'a [u8],
}

/// What a put did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutReport {
    /// Vectors stored.
    pub stored: u64,
    /// Of these, vectors that replaced one.
    pub replaced: u64,
    /// Of these, vectors that were made from bytes that the file no longer has.
    pub stale: u64,
    /// The file's content version.
    pub content_version: u64,
}

/// What is known of a stored vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorInfo {
    /// The collection.
    pub collection: u32,
    /// The file.
    pub inode: u64,
    /// Chunk of the file.
    pub chunk: u32,
    /// Row of the collection.
    pub row: u32,
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The file's content version that it was made from.
    pub content_version: u64,
    /// Whether the file still has that content.
    pub fresh: bool,
    /// The user's tag.
    pub tag: u64,
    /// The user's digest.
    pub digest: [u8; 16],
    /// Place of its put in the order of the collection's puts.
    pub sequence: u64,
}

impl VectorInfo {
    pub(crate) fn new(collection: u32, row: u32, layout: &RowLayout, now: u64) -> Self {
        Self {
            collection,
            inode: layout.inode.get(),
            chunk: layout.chunk.get(),
            row,
            offset: layout.offset.get(),
            length: layout.length.get(),
            content_version: layout.content_version.get(),
            fresh: layout.content_version.get() == now,
            tag: layout.tag.get(),
            digest: layout.digest,
            sequence: layout.sequence.get(),
        }
    }
}

/// The row that a vector's item leads to.
pub(crate) fn row_of(tree: &Tree, key: Key) -> Result<Option<u32>> {
    let Some(item) = tree.get(key)? else { return Ok(None) };
    decode_vector(key, &item).map(Some)
}

pub(crate) fn decode_vector(key: Key, item: &[u8]) -> Result<u32> {
    let layout = VectorLayout::ref_from_bytes(item)
        .map_err(|_| corrupt(key.object, "vector item of a wrong length"))?;
    match u32::try_from(layout.row.get()) {
        Ok(row) if row < ROWS_MAX => Ok(row),
        _ => Err(corrupt(key.object, "vector in an impossible row")),
    }
}

/// The item of row `row`, which a vector's item leads to.
pub(crate) fn row_layout(tree: &Tree, collection: &Collection, row: u32) -> Result<RowLayout> {
    let object = collection.schema.object;
    let item = tree
        .get(collection.row_key(row))?
        .ok_or(corrupt(object, "vector in a row that is not in use"))?;
    decode_row(object, &item)
}

/// Whether the file has any vector.
fn has_vectors(tree: &Tree, inode: u64) -> Result<bool> {
    let item = tree.next(Key::new(inode, Kind::Vector, 0))?;
    Ok(item.is_some_and(|item| item.key().is(inode, Kind::Vector)))
}

/// Clears the inode's flag within an operation, if its last vector is gone.
pub(crate) fn clear_flag(tree: &mut Tree, number: u64) -> Result<()> {
    if has_vectors(tree, number)? {
        return Ok(());
    }
    match Inode::load(tree, number) {
        Ok(mut inode) if inode.flags & INODE_VECTORS != 0 => {
            inode.flags &= !INODE_VECTORS;
            inode.store(tree, number)
        }
        // Without an inode there is no flag.
        Ok(_) | Err(Error::Stale) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether a row in use has a byte in this block of the stream of the collection that `object` holds.
fn has_rows(tree: &Tree, object: u64, row_bytes: u64, block: u64) -> Result<bool> {
    let log2 = tree.state.block_log2;
    let from = (block << log2).checked_div(row_bytes).unwrap_or(0);
    let to = (((block + 1) << log2) - 1).checked_div(row_bytes).unwrap_or(0);
    let next = tree.next(Key::new(object, Kind::Row, from))?;
    Ok(next.is_some_and(|item| item.key().is(object, Kind::Row) && item.key().offset() <= to))
}

/// Writes a damaged block of the `stream` with the vectors of the collection that `object` holds anew, as
/// it can be read; those that are not what was put are known by their own checksums. Without a row in use
/// it is given back.
pub(crate) fn write_rows_anew(fs: &FileSystem, object: u64, stream: u64, block: u64) -> Result<()> {
    let used = {
        let tree = fs.reader();
        let item = tree.get(Key::new(object, Kind::Collection, 0))?.ok_or(Error::NotFound)?;
        let row_bytes = collection::decode(object, &item)?.0.shape.row_bytes() as u64;
        has_rows(&tree, object, row_bytes, block)?
    };
    if !used {
        return fs.operation(4, true, |tree| punch_stream(tree, stream, block, 1).map(|_| ()));
    }
    let mut bytes = zeroed_bytes(1 << fs.block_log2())?;
    let offset = block << fs.block_log2();
    fs.stream_read_as(stream, offset, &mut bytes, Verify::Nothing)?;
    let write = StreamWrite { object: stream, offset, bytes: &bytes };
    let before = Before { size: u64::MAX, inline: None, verify: Verify::Nothing };
    fs.write_blocks(&[write], before, 0, true, |_, _| Ok(()))
}

/// Gives back, within an operation, the blocks of the stream that held `freed` rows and hold no row
/// in use any more. `freed` ascends.
fn punch_free_blocks(tree: &mut Tree, collection: &Collection, freed: &[u32]) -> Result<()> {
    let (row_bytes, log2) = (collection.row_bytes() as u64, tree.state.block_log2);
    let mut next = 0;
    for row in freed {
        let start = u64::from(*row) * row_bytes;
        let (first, last) = (start >> log2, (start + row_bytes - 1) >> log2);
        let mut run = None;
        for block in first.max(next)..=last {
            let used = has_rows(tree, collection.schema.object, row_bytes, block)?;
            match (&mut run, used) {
                (Some((_, blocks)), false) => *blocks += 1,
                (None, false) => run = Some((block, 1)),
                (_, true) => punch(tree, collection, run.take())?,
            }
        }
        punch(tree, collection, run)?;
        next = next.max(last + 1);
    }
    Ok(())
}

fn punch(tree: &mut Tree, collection: &Collection, run: Option<(u64, u64)>) -> Result<()> {
    if let Some((first, blocks)) = run {
        punch_stream(tree, collection.schema.rows_object, first, blocks)?;
    }
    Ok(())
}

/// Items that [`punch_free_blocks`] changes at most.
fn punch_items(collection: &Collection, rows: usize) -> u64 {
    // Extents are at least a block; a row that spans many may have been written as many extents.
    let blocks = collection.row_bytes() as u64 / 4096 + 2;
    (rows as u64).saturating_mul(blocks.min(8) + 1)
}

/// One more than the highest row in use.
fn row_end(tree: &Tree, object: u64) -> Result<u32> {
    let last = tree.previous(Key::new(object, Kind::Row, OFFSET_MAX))?;
    let last = last.map(|item| item.key()).filter(|key| key.is(object, Kind::Row));
    Ok(last.map_or(0, |key| (key.offset().min(u64::from(ROWS_MAX) - 1) + 1) as u32))
}

/// Removes items of vectors within an operation: of each its chunk and row. `rows` ascends.
fn remove_items(
    tree: &mut Tree,
    collection: &Collection,
    inode: u64,
    chunks: &[(u32, u32)],
    rows: &[u32],
) -> Result<()> {
    for (chunk, _) in chunks {
        tree.remove(collection.vector_key(inode, *chunk))?;
    }
    remove_rows(tree, collection, rows)
}

fn remove_rows(tree: &mut Tree, collection: &Collection, rows: &[u32]) -> Result<()> {
    let object = collection.schema.object;
    for row in rows {
        tree.remove(collection.row_key(*row)).map_err(|error| match error {
            Error::NotFound => corrupt(object, "vector in a row that is not in use"),
            error => error,
        })?;
    }
    punch_free_blocks(tree, collection, rows)
}

/// A key for a table of digests; users choose digests, so the table must not depend on them alone.
fn digest_key(tree: &Tree, digest: &[u8; 16]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&tree.state.hash_key);
    hasher.write(digest);
    hasher.finish()
}

impl FileSystem {
    /// Stores vectors of a regular file in a collection.
    ///
    /// All of them are checked before the first is stored. They are stored in order of their
    /// chunks, at most [`PUT_BATCH_VECTORS_MAX`] (fewer when they are large) as one operation that
    /// happens as a whole. When a later one of several such operations fails, those before it
    /// stay.
    ///
    /// A vector that was made from a content version that the file has moved on from is stored
    /// and reported as stale.
    ///
    /// Errors: `NotFound` for the collection, `Stale` for a file that is gone, `IsDirectory` or `Invalid`
    /// when it is not a regular file, `InvalidChunk` naming the first vector that cannot be
    /// stored, `Invalid` for a content version that the file has not reached, a range beyond the
    /// largest file, or a chunk that is there twice, `TooBig` over [`PUT_VECTORS_MAX`], `NoSpace`.
    pub fn put_vectors(
        &self,
        collection: u32,
        inode: u64,
        vectors: &[VectorPut<'_>],
    ) -> Result<PutReport> {
        let collection = self.find_collection(collection)?;
        if vectors.len() > PUT_VECTORS_MAX {
            return Err(Error::TooBig("vectors of one put"));
        }
        let mut order: Vec<(&VectorPut<'_>, RowTerm)> = Vec::new();
        for vector in vectors {
            let end = vector.offset.checked_add(vector.length);
            if end.is_none_or(|end| end > FILE_BYTES_MAX) {
                return Err(Error::Invalid("range of a vector beyond the largest file"));
            }
            let shape = &collection.schema.shape;
            let term = self
                .host
                .kernels
                .check(shape, vector.bytes)
                .map_err(|reason| Error::InvalidChunk { chunk: vector.chunk, reason })?;
            order.try_push((vector, term))?;
        }
        sort_by(&mut order, |a, b| a.0.chunk < b.0.chunk);
        let twice = |pair: &[(&VectorPut<'_>, RowTerm)]| match pair {
            [a, b] => a.0.chunk == b.0.chunk,
            _ => false,
        };
        if order.windows(2).any(twice) {
            return Err(Error::Invalid("the same chunk twice in one put"));
        }
        let per_row = collection.row_bytes() + (2 << self.block_log2());
        let batch = PUT_BATCH_BYTES_MAX.checked_div(per_row).unwrap_or(1);
        let batch = batch.clamp(1, PUT_BATCH_VECTORS_MAX);

        let mut writer = collection.writer.write();
        if writer.dropped {
            return Err(Error::NotFound);
        }
        let mut report = PutReport { content_version: 0, ..PutReport::default() };
        // An empty put still says what it would have been put to.
        report.content_version = self.check_put(inode, &order)?;
        for part in order.chunks(batch) {
            self.put_batch(&collection, &mut writer, inode, part, &mut report)?;
        }
        drop(writer);
        // What the next search would otherwise do; a failure is that search's to meet.
        let _ = self.take_in_if_large(&collection);
        Ok(report)
    }

    /// Whether these vectors can be put to the inode, and its content version.
    fn check_put(&self, number: u64, order: &[(&VectorPut<'_>, RowTerm)]) -> Result<u64> {
        let inode = load_file(&self.reader(), number)?;
        self.check_alive(number, &inode)?;
        let ahead = |version: u64| version > inode.content_version;
        if order.iter().any(|(vector, _)| vector.content_version.is_some_and(ahead)) {
            return Err(Error::Invalid("content version that the file has not reached"));
        }
        Ok(inode.content_version)
    }

    /// Stores vectors, their chunks ascending, as one operation.
    fn put_batch(
        &self,
        collection: &Collection,
        writer: &mut Writer,
        number: u64,
        vectors: &[(&VectorPut<'_>, RowTerm)],
        report: &mut PutReport,
    ) -> Result<()> {
        let object = collection.schema.object;
        let row_bytes = collection.row_bytes();
        let _changes = collection.begin_changes();
        // Only holders of the writer's lock change these items, so they stay as they are seen here.
        let mut replaced: Vec<u32> = Vec::new();
        {
            let tree = self.reader();
            for (vector, _) in vectors {
                let key = collection.vector_key(number, vector.chunk);
                if let Some(row) = row_of(&tree, key)? {
                    replaced.try_push(row)?;
                }
            }
        }
        sort_by(&mut replaced, |a, b| a < b);
        let rows = self.find_free_rows(collection, writer, vectors.len())?;

        // Rows that follow each other are one write.
        let mut bytes: Vec<u8> = Vec::new();
        bytes.try_reserve_exact(vectors.len() * row_bytes).map_err(|_| Error::OutOfMemory)?;
        for (vector, _) in vectors {
            bytes.try_extend(vector.bytes)?;
        }
        let mut writes: Vec<StreamWrite<'_>> = Vec::new();
        let mut first = 0;
        for at in 1..=rows.len() {
            let follows = matches!((rows.get(at - 1), rows.get(at)),
                (Some(before), Some(row)) if before + 1 == *row);
            if follows {
                continue;
            }
            let part = bytes.get(first * row_bytes..at * row_bytes).unwrap_or(&[]);
            let offset = rows.get(first).map_or(0, |row| u64::from(*row) * row_bytes as u64);
            let stream = collection.schema.rows_object;
            writes.try_push(StreamWrite { object: stream, offset, bytes: part })?;
            first = at;
        }
        // Items with keys that follow each other lie together, a few dozen to a node.
        let count = vectors.len() as u64;
        let items = 4
            + writes.len() as u64
            + count.div_ceil(8)
            + count.min(count.div_ceil(8) + chunk_gaps(vectors))
            + replaced.len() as u64
            + punch_items(collection, replaced.len());
        let (sequence, version, stale) = self.write_streams_with(&writes, items, |tree| {
            let mut inode = load_file(tree, number)?;
            self.check_alive(number, &inode)?;
            let mut stale = 0;
            let first = Counts::load(tree, object)?.next_sequence;
            for ((sequence, row), (vector, _)) in (first..).zip(&rows).zip(vectors) {
                let version = vector.content_version.unwrap_or(inode.content_version);
                stale += u64::from(version != inode.content_version);
                let layout = RowLayout {
                    inode: number.into(),
                    chunk: vector.chunk.into(),
                    checksum: self.host.checksum.crc32c(0, vector.bytes).into(),
                    sequence: sequence.into(),
                    offset: vector.offset.into(),
                    length: vector.length.into(),
                    content_version: version.into(),
                    tag: vector.tag.into(),
                    digest: vector.digest,
                };
                if tree.get(collection.row_key(*row))?.is_some() {
                    return Err(corrupt(object, "free row that is in use"));
                }
                tree.put(collection.row_key(*row), &[layout.as_bytes()])?;
                let link = VectorLayout { row: u64::from(*row).into() };
                tree.put(collection.vector_key(number, vector.chunk), &[link.as_bytes()])?;
            }
            remove_rows(tree, collection, &replaced)?;
            let end = row_end(tree, object)?;
            Counts::change(tree, object, |counts| {
                counts.next_sequence = first.saturating_add(count);
                let rows = counts.rows.checked_sub(replaced.len() as u64);
                counts.rows = rows.ok_or(corrupt(object, "count of rows"))? + count;
                counts.row_end = end;
                Ok(())
            })?;
            if inode.flags & INODE_VECTORS == 0 {
                inode.flags |= INODE_VECTORS;
                inode.store(tree, number)?;
            }
            Ok((first, inode.content_version, stale))
        })?;

        // Done; nothing from here on may fail.
        if let Some(live) = &writer.live {
            rows.iter().for_each(|row| {
                live.insert(*row);
            });
            replaced.iter().for_each(|row| {
                live.remove(*row);
            });
        }
        let after = rows.last().map_or(0, |row| row + 1);
        writer.free_from = replaced.first().map_or(after, |row| after.min(*row));
        if writer.digests.is_some() {
            self.note_digests(writer, vectors, &rows);
        }
        let mut pending = collection.pending.write();
        for ((at, row), (vector, term)) in (0..).zip(&rows).zip(vectors) {
            let info = RowInfo {
                inode: number,
                sequence: sequence + at,
                offset: vector.offset,
                length: vector.length,
                content_version: vector.content_version.unwrap_or(version),
                tag: vector.tag,
                chunk: vector.chunk,
            };
            pending.set(*row, info, *term, vector.bytes);
        }
        pending.clear(&replaced);
        report.stored += count;
        report.replaced += replaced.len() as u64;
        report.stale += stale;
        report.content_version = version;
        Ok(())
    }

    /// The lowest rows that are free, in order.
    fn find_free_rows(
        &self,
        collection: &Collection,
        writer: &mut Writer,
        count: usize,
    ) -> Result<Vec<u32>> {
        if writer.live.is_none() {
            writer.live = Some(self.read_live(collection)?);
            writer.free_from = 0;
        }
        let mut rows = Vec::new();
        let Some(live) = &mut writer.live else { return Ok(rows) };
        let mut row = writer.free_from;
        while rows.len() < count {
            row = live.free_run(row, 1);
            if row >= ROWS_MAX {
                return Err(Error::NoSpace);
            }
            rows.try_push(row)?;
            row += 1;
        }
        live.reserve(row)?;
        Ok(rows)
    }

    /// Reads which rows are in use.
    fn read_live(&self, collection: &Collection) -> Result<RowSet> {
        let counts = Counts::load(&self.reader(), collection.schema.object)?;
        let mut live = RowSet::default();
        live.reserve(counts.row_end)?;
        if counts.rows == u64::from(counts.row_end) {
            for row in 0..counts.row_end {
                live.insert(row);
            }
            return Ok(live);
        }
        let mut items = RowItems::default();
        let mut from = Some(0);
        while let Some(row) = from {
            from = items.read(self, collection.schema.object, row, (1024, u32::MAX))?;
            for (row, _) in &items.rows {
                live.reserve(*row + 1)?;
                live.insert(*row);
            }
        }
        Ok(live)
    }

    /// The vector of a chunk and what is known of it.
    ///
    /// Errors: `NotFound` when there is none, `Stale` for the file, `DamagedVector`.
    pub fn get_vector(
        &self,
        collection: u32,
        inode: u64,
        chunk: u32,
    ) -> Result<(VectorInfo, Vec<u8>)> {
        let collection = self.find_collection(collection)?;
        let mut tries = 0;
        loop {
            let (row, layout, version) = {
                let tree = self.reader();
                let version = Inode::load(&tree, inode)?.content_version;
                let key = collection.vector_key(inode, chunk);
                let row = row_of(&tree, key)?.ok_or(Error::NotFound)?;
                (row, row_layout(&tree, &collection, row)?, version)
            };
            if layout.inode.get() != inode || layout.chunk.get() != chunk {
                return Err(corrupt(inode, "vector in a row of another file"));
            }
            if let Some(bytes) = self.read_row(&collection, row, layout.checksum.get())? {
                let number = collection.schema.number;
                return Ok((VectorInfo::new(number, row, &layout, version), bytes));
            }
            // Damaged, or replaced while it was read.
            let now = match row_of(&self.reader(), collection.vector_key(inode, chunk))? {
                Some(now) => now,
                None => return Err(Error::NotFound),
            };
            let same = now == row
                && row_layout(&self.reader(), &collection, now)?.sequence == layout.sequence;
            tries += 1;
            if same || tries > READ_TRIES {
                return Err(Error::DamagedVector);
            }
        }
    }

    /// The vector of a row; nothing when it is not the one with this checksum. Blocks are not verified, so
    /// that damage in one costs no vector that is whole.
    pub(crate) fn read_row(
        &self,
        collection: &Collection,
        row: u32,
        checksum: u32,
    ) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        bytes.try_resize(collection.row_bytes(), 0)?;
        let offset = u64::from(row) * bytes.len() as u64;
        self.stream_read_as(collection.schema.rows_object, offset, &mut bytes, Verify::Nothing)?;
        let whole = self.is_row(collection, row, checksum, &mut bytes)?;
        Ok(whole.then_some(bytes))
    }

    /// Whether `bytes`, read without a lock from a row, are the ones with this checksum, or those that are
    /// there now, after another row of the same block was written.
    pub(crate) fn is_row(
        &self,
        collection: &Collection,
        row: u32,
        checksum: u32,
        bytes: &mut [u8],
    ) -> Result<bool> {
        if self.host.checksum.crc32c(0, bytes) == checksum {
            return Ok(true);
        }
        let offset = u64::from(row) * bytes.len() as u64;
        let stream = collection.schema.rows_object;
        read_held(&self.reader(), stream, offset, bytes, Verify::Nothing)?;
        Ok(self.host.checksum.crc32c(0, bytes) == checksum)
    }

    /// Removes the file's vectors of these chunks, in several operations when there are many.
    /// Returns how many there were.
    ///
    /// Errors: `Interrupted`, when some may have been removed.
    pub fn remove_vectors(
        &self,
        collection: u32,
        inode: u64,
        chunks: RangeInclusive<u32>,
        executor: &dyn Executor,
    ) -> Result<u64> {
        let collection = self.find_collection(collection)?;
        let mut writer = collection.writer.write();
        if writer.dropped {
            return Err(Error::NotFound);
        }
        Inode::load(&self.reader(), inode)?;
        let mut count = 0;
        loop {
            let (removed, done) = self.remove_step_of(&collection, &mut writer, inode, &chunks)?;
            count += removed;
            if done {
                return Ok(count);
            }
            go_on(executor)?;
        }
    }

    /// Removes some of the file's vectors of these chunks as one operation. Returns how many, and
    /// whether that were all.
    fn remove_step_of(
        &self,
        collection: &Collection,
        writer: &mut Writer,
        inode: u64,
        chunks: &RangeInclusive<u32>,
    ) -> Result<(u64, bool)> {
        if chunks.is_empty() {
            return Ok((0, true));
        }
        let _changes = collection.begin_changes();
        let mut found: Vec<(u32, u32)> = Vec::new();
        let (from, to) = (
            collection.vector_key(inode, *chunks.start()),
            collection.vector_key(inode, *chunks.end()),
        );
        self.reader().scan(from, to, |key, item| {
            found.try_push((key.offset() as u32, decode_vector(key, item)?))?;
            Ok(found.len() < REMOVE_VECTORS)
        })?;
        if found.is_empty() {
            return Ok((0, true));
        }
        let mut done = found.len() < REMOVE_VECTORS;
        let mut rows: Vec<u32> = Vec::new();
        let (count, left) = loop {
            rows.clear();
            for (_, row) in &found {
                rows.try_push(*row)?;
            }
            sort_by(&mut rows, |a, b| a < b);
            // Freeing takes space itself; with little left, free less at a time.
            match self.remove_some(collection, inode, &found, &rows) {
                Err(Error::NoSpace) if found.len() > 1 => {
                    found.truncate(found.len().div_ceil(8));
                    done = false;
                }
                result => break (rows.len() as u64, result?),
            }
        };
        if let Some(live) = &writer.live {
            rows.iter().for_each(|row| {
                live.remove(*row);
            });
        }
        if let Some(first) = rows.first() {
            writer.free_from = writer.free_from.min(*first);
        }
        collection.pending.write().clear(&rows);
        if left == 0 {
            writer.live = None;
            writer.digests = None;
            // The vectors are removed. A graph that stays is replaced when one is stored again.
            let _ = self.drop_stored_graph(collection);
        }
        let _ = self.take_in_if_large(collection);
        Ok((count, done))
    }

    /// Removes these vectors, of each its chunk and row, as one operation. `rows` are the same rows,
    /// ascending. Returns how many vectors the collection has left.
    fn remove_some(
        &self,
        collection: &Collection,
        inode: u64,
        found: &[(u32, u32)],
        rows: &[u32],
    ) -> Result<u64> {
        let object = collection.schema.object;
        let count = rows.len() as u64;
        let items = 4 + count.div_ceil(8) + count + punch_items(collection, rows.len());
        self.operation(items, true, |tree| {
            remove_items(tree, collection, inode, found, rows)?;
            let end = row_end(tree, object)?;
            let mut left = 0;
            Counts::change(tree, object, |counts| {
                let rows = counts.rows.checked_sub(count);
                counts.rows = rows.ok_or(corrupt(object, "count of rows"))?;
                counts.row_end = end;
                left = counts.rows;
                Ok(())
            })?;
            clear_flag(tree, inode)?;
            Ok(left)
        })
    }

    /// Removes some vectors of a file, of whatever collection, as one operation. Says whether none
    /// is left.
    pub(crate) fn remove_all_vectors_step(&self, inode: u64) -> Result<bool> {
        let first = {
            let tree = self.reader();
            let item = tree.next(Key::new(inode, Kind::Vector, 0))?;
            item.map(|item| item.key()).filter(|key| key.is(inode, Kind::Vector))
        };
        let Some(first) = first else {
            // The flag goes with the last vector; here it was set without one.
            self.operation(1, true, |tree| clear_flag(tree, inode))?;
            return Ok(true);
        };
        match self.find_collection((first.offset() >> 32) as u32) {
            Ok(collection) => {
                let mut writer = collection.writer.write();
                if !writer.dropped {
                    self.remove_step_of(&collection, &mut writer, inode, &(0..=u32::MAX))?;
                    return Ok(!has_vectors(&self.reader(), inode)?);
                }
            }
            Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        // Its collection is being dropped, which needs this item no more.
        self.operation(2, true, |tree| {
            match tree.remove(first) {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
            clear_flag(tree, inode)
        })?;
        Ok(!has_vectors(&self.reader(), inode)?)
    }

    /// A vector of the collection that was put with this digest, so that the vector of a passage
    /// seen before need not be made again. One that exists may be missed after another with the
    /// same digest was removed. A host that serves several users asks first whether the caller may
    /// read the file that the vector belongs to.
    ///
    /// Errors: `NotFound`; `Invalid` for the digest of zeros.
    pub fn find_by_digest(
        &self,
        collection: u32,
        digest: &[u8; 16],
    ) -> Result<(VectorInfo, Vec<u8>)> {
        if *digest == [0; 16] {
            return Err(Error::Invalid("a digest of zeros is none"));
        }
        let number = collection;
        let collection = self.find_collection(collection)?;
        let key = digest_key(&self.reader(), digest);
        let row = {
            let mut writer = collection.writer.write();
            if writer.digests.is_none() {
                writer.digests = Some(self.read_digests(&collection)?);
            }
            let row = writer.digests.as_ref().and_then(|digests| digests.get(key)).copied();
            row.ok_or(Error::NotFound)?
        };
        let layout = match self.reader().get(collection.row_key(row))? {
            Some(item) => decode_row(collection.schema.object, &item)?,
            None => return Err(Error::NotFound),
        };
        if layout.digest != *digest {
            return Err(Error::NotFound);
        }
        match self.get_vector(number, layout.inode.get(), layout.chunk.get()) {
            Ok((info, bytes)) if info.digest == *digest => Ok((info, bytes)),
            Ok(_) | Err(Error::Stale) => Err(Error::NotFound),
            Err(error) => Err(error),
        }
    }

    fn read_digests(&self, collection: &Collection) -> Result<Table<u32>> {
        let mut digests = Table::new();
        let mut items = RowItems::default();
        let mut from = Some(0);
        while let Some(row) = from {
            from = items.read(self, collection.schema.object, row, (1024, u32::MAX))?;
            let tree = self.reader();
            for (row, layout) in &items.rows {
                if layout.digest != [0; 16] {
                    digests.try_insert(digest_key(&tree, &layout.digest), *row)?;
                }
            }
        }
        Ok(digests)
    }

    /// Takes the digests of a put in; without memory for that, all are read again when needed.
    fn note_digests(
        &self,
        writer: &mut Writer,
        vectors: &[(&VectorPut<'_>, RowTerm)],
        rows: &[u32],
    ) {
        let tree = self.reader();
        for (row, (vector, _)) in rows.iter().zip(vectors) {
            if vector.digest == [0; 16] {
                continue;
            }
            let key = digest_key(&tree, &vector.digest);
            let noted = writer.digests.as_mut().map(|digests| digests.try_insert(key, *row));
            if !matches!(noted, Some(Ok(_))) {
                writer.digests = None;
                return;
            }
        }
    }

    /// Gives `to` the vectors of `from`, in all collections, each in place of the one with its
    /// chunk. A vector that is fresh for `from` is fresh for `to`, and a stale one stale. For a
    /// host whose user has made `to` a copy of `from`. Returns how many there are.
    pub fn clone_vectors(&self, from: u64, to: u64) -> Result<u64> {
        if from == to {
            return Ok(0);
        }
        let mut listed: Vec<(u32, u32)> = Vec::new();
        self.list_vectors(from, &mut listed)?;
        let mut count = 0;
        let mut at = 0;
        while let Some((number, _)) = listed.get(at) {
            let number = *number;
            let mut taken: Vec<(VectorInfo, Vec<u8>)> = Vec::new();
            while let Some((collection, chunk)) = listed.get(at) {
                if *collection != number || taken.len() >= 64 {
                    break;
                }
                at += 1;
                match self.get_vector(number, from, *chunk) {
                    Ok(vector) => taken.try_push(vector)?,
                    // Removed, or its collection dropped, meanwhile.
                    Err(Error::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            let version = Inode::load(&self.reader(), to)?.content_version;
            let mut puts = Vec::new();
            for (info, bytes) in &taken {
                puts.try_push(VectorPut {
                    chunk: info.chunk,
                    offset: info.offset,
                    length: info.length,
                    // No file ever has version 0.
                    content_version: Some(if info.fresh { version } else { 0 }),
                    tag: info.tag,
                    digest: info.digest,
                    bytes,
                })?;
            }
            match self.put_vectors(number, to, &puts) {
                Ok(report) => count += report.stored,
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    fn list_vectors(&self, inode: u64, listed: &mut Vec<(u32, u32)>) -> Result<()> {
        let tree = self.reader();
        Inode::load(&tree, inode)?;
        let (from, to) =
            (Key::new(inode, Kind::Vector, 0), Key::new(inode, Kind::Vector, OFFSET_MAX));
        tree.scan(from, to, |key, _| {
            listed.try_push(((key.offset() >> 32) as u32, key.offset() as u32))?;
            Ok(true)
        })
    }
}

/// How many chunks do not follow the one before.
fn chunk_gaps(vectors: &[(&VectorPut<'_>, RowTerm)]) -> u64 {
    let gap = |pair: &&[(&VectorPut<'_>, RowTerm)]| match pair {
        [a, b] => a.0.chunk.checked_add(1) != Some(b.0.chunk),
        _ => false,
    };
    vectors.windows(2).filter(gap).count() as u64
}
