// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections, their rows, and the vectors that files have in them.

use super::Checker;
use super::finding::{Code, Place};
use super::streams::Owner;
use crate::collection::{Schema, decode, extent_blocks};
use crate::collection_graph::read_stored_graph;
use crate::collection_memory::decode_row;
use crate::error::{Error, Result};
use crate::inode::MODE_FILE;
use crate::key::{Key, Kind};
use crate::layout::{
    CollectionLayout, CollectionNameLayout, RowLayout, SEQUENCE_MAX, VectorLayout,
};
use alloc::vec::Vec;
use vexfs_index::Parameters;
use vexfs_memory::{Table, TryVec, sort_by};
use vexfs_simd::Shape;
use zerocopy::{FromBytes, IntoBytes};

/// What is remembered of a collection, or of vectors of a collection that there is none of.
#[derive(Clone, Copy, Default)]
pub(crate) struct CollectionRecord {
    /// The object that holds it; 0 when there is none.
    object: u64,
    shape: Option<Shape>,
    rows_object: u64,
    /// What the collection says.
    rows: u64,
    row_end: u64,
    next_sequence: u64,
    /// Rows there are.
    found: u64,
    found_end: u64,
    sequence_end: u64,
    /// Vectors of files.
    vectors: u64,
    /// Sum of the hashes of the rows less those of the vectors.
    balance: u64,
    name_hash: u64,
    graph_object: u64,
    graph_bytes: u64,
    graph_watermark: u64,
    parameters: Option<Parameters>,
}

/// A name of the list of names.
#[derive(Clone, Copy)]
struct ListedName {
    object: u64,
    cookie: u64,
    name_hash: u64,
}

/// A vector of a file whose row does not name it.
#[derive(Clone, Copy)]
struct LoneVector {
    key: Key,
    /// The collection's; 0 when there is none.
    object: u64,
    row: u64,
    /// Whether a finding says what becomes of it.
    settled: bool,
}

/// A row whose file's vector does not name it.
#[derive(Clone, Copy)]
struct LoneRow {
    key: Key,
    /// The key of the vector that it names.
    vector: Key,
    settled: bool,
}

/// All collections.
#[derive(Default)]
pub(crate) struct Collections {
    by_number: Table<CollectionRecord>,
    /// Number of the collection that an object holds.
    numbers: Table<u32>,
    /// The object that holds the collection whose vectors are in a stream.
    of_stream: Table<u64>,
    names: Vec<ListedName>,
    number_highest: u32,
    lone_vectors: Vec<LoneVector>,
    lone_rows: Vec<LoneRow>,
}

impl Collections {
    /// Whether the object holds a collection.
    pub fn is_object(&self, object: u64) -> bool {
        self.numbers.contains(object)
    }

    /// The object that holds the collection whose vectors are in the stream.
    pub fn of_stream(&self, stream: u64) -> Option<u64> {
        self.of_stream.get(stream).copied()
    }

    fn record(&mut self, number: u32) -> Result<Option<&mut CollectionRecord>> {
        let number = u64::from(number);
        if !self.by_number.contains(number) {
            self.by_number.try_insert(number, CollectionRecord::default())?;
        }
        Ok(self.by_number.get_mut(number))
    }
}

/// What never changes about a collection, from its item; `None` when that makes no sense. The counts
/// are judged by themselves, so that one of them wrong does not cost the collection.
fn schema(object: u64, head: &CollectionLayout, tail: &[u8]) -> Result<Option<Schema>> {
    let mut head = *head;
    (head.rows, head.row_end) = (0.into(), 0.into());
    (head.next_sequence, head.graph_watermark) = (0.into(), 0.into());
    let mut item: Vec<u8> = Vec::new();
    item.try_extend(head.as_bytes())?;
    item.try_extend(tail)?;
    match decode(object, &item) {
        Ok((schema, _)) => Ok(Some(schema)),
        Err(Error::OutOfMemory) => Err(Error::OutOfMemory),
        Err(_) => Ok(None),
    }
}

impl Checker<'_> {
    fn name_hash(&self, name: &[u8]) -> u64 {
        use core::hash::Hasher;
        let mut hasher = siphasher::sip::SipHasher24::new_with_key(&self.hash_key);
        hasher.write(name);
        hasher.finish()
    }

    pub(crate) fn collection_name_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Ok((head, name)) = CollectionNameLayout::ref_from_prefix(item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        if name.is_empty() || name.len() > crate::layout::NAME_BYTES_MAX {
            return self.find(Code::ItemMalformed, Place::key(key));
        }
        let (object, cookie) = (head.object.get(), key.offset());
        let name_hash = self.name_hash(name);
        self.collections.names.try_push(ListedName { object, cookie, name_hash })?;
        self.check_cookie(key, name)
    }

    pub(crate) fn collection_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.collections += 1;
        self.object.has_collection = true;
        let place = Place::key(key);
        let Ok((head, tail)) = CollectionLayout::ref_from_prefix(item) else {
            return self.find(Code::CollectionMalformed, place);
        };
        let schema = match schema(key.object, head, tail)? {
            Some(schema) if key.offset() == 0 => schema,
            _ => return self.find(Code::CollectionMalformed, place),
        };
        self.kept.vectors_of = self.kept.vectors_of.saturating_add(head.rows.get());
        let number = schema.number;
        let (rows_object, graph_object) = (schema.rows_object, head.graph_object.get());
        let record = CollectionRecord {
            object: key.object,
            shape: Some(schema.shape),
            rows_object,
            rows: head.rows.get(),
            row_end: head.row_end.get(),
            next_sequence: head.next_sequence.get(),
            name_hash: self.name_hash(&schema.name),
            graph_object,
            graph_bytes: head.graph_bytes.get(),
            graph_watermark: head.graph_watermark.get(),
            parameters: Some(schema.parameters),
            ..CollectionRecord::default()
        };
        let Some(known) = self.collections.record(number)? else { return Ok(()) };
        let other = known.object;
        if other != 0 {
            return self.find(Code::CollectionTwice, place.with(other, 0));
        }
        // Vectors of it may have been seen.
        *known = CollectionRecord { vectors: known.vectors, balance: known.balance, ..record };
        self.collections.numbers.try_insert(key.object, number)?;
        self.collections.of_stream.try_insert(rows_object, key.object)?;
        self.collections.number_highest = self.collections.number_highest.max(number);
        self.object.collection = Some(number);
        for stream in [rows_object, graph_object] {
            if stream != 0 {
                // What rows and graph need to be there is seen when they are read.
                self.streams.owners.try_push(Owner { stream, key, bytes: 0 })?;
            }
        }
        Ok(())
    }

    pub(crate) fn row_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.rows += 1;
        self.object.rows += 1;
        let Some(number) = self.object.collection else {
            if !self.object.has_collection {
                return Ok(());
            }
            // Rows of a collection that makes no sense.
            return self.find(Code::ItemStray, Place::key(key));
        };
        let Ok(row) = decode_row(key.object, item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        let vector = u64::from(number) << 32 | u64::from(row.chunk.get());
        let hash = self.mix([row.inode.get(), vector, key.offset()]);
        let sequence_end = row.sequence.get().saturating_add(1);
        if let Some(record) = self.collections.record(number)? {
            record.found += 1;
            record.found_end = key.offset().saturating_add(1);
            record.sequence_end = record.sequence_end.max(sequence_end);
            record.balance = record.balance.wrapping_add(hash);
        }
        Ok(())
    }

    pub(crate) fn vector_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.vectors += 1;
        self.object.vectors += 1;
        let Ok(vector) = VectorLayout::ref_from_bytes(item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        let number = (key.offset() >> 32) as u32;
        let hash = self.mix([key.object, key.offset(), vector.row.get()]);
        if let Some(record) = self.collections.record(number)? {
            record.vectors += 1;
            record.balance = record.balance.wrapping_sub(hash);
        }
        Ok(())
    }

    /// After the first pass: collections against the list of their names.
    pub(crate) fn judge_collections(&mut self) -> Result<()> {
        let mut names = core::mem::take(&mut self.collections.names);
        sort_by(&mut names, |a, b| (a.object, a.cookie) < (b.object, b.cookie));
        let mut before = 0;
        for name in &names {
            let key = Key::new(0, Kind::CollectionName, name.cookie);
            let number = self.collections.numbers.get(name.object).copied();
            let record = number.and_then(|number| self.collections.by_number.get(number.into()));
            let agrees = record.is_some_and(|record| record.name_hash == name.name_hash);
            if !agrees || name.object == before || self.is_orphan(name.object) {
                self.find(Code::CollectionName, Place::key(key).with(name.object, 0))?;
            }
            before = name.object;
        }
        let mut objects: Vec<u64> = Vec::new();
        for (object, _) in self.collections.numbers.iter() {
            objects.try_push(object)?;
        }
        sort_by(&mut objects, |a, b| a < b);
        for object in &objects {
            let named = names.binary_search_by(|name| name.object.cmp(object)).is_ok();
            if !named && !self.is_orphan(*object) {
                self.find(Code::CollectionName, Place::object(*object))?;
            }
        }
        let expected = u64::from(self.collections.number_highest).saturating_add(1);
        let next = u64::from(self.state.next_collection);
        if next < expected {
            self.find(Code::NextCollection, Place::default().with(next, expected))?;
        }
        Ok(())
    }

    /// After the second pass: the counts of every collection.
    pub(crate) fn finish_collections(&mut self) -> Result<()> {
        let mut numbers: Vec<u64> = Vec::new();
        for (number, _) in self.collections.by_number.iter() {
            numbers.try_push(number)?;
        }
        sort_by(&mut numbers, |a, b| a < b);
        for number in numbers {
            let Some(record) = self.collections.by_number.get(number).copied() else { continue };
            if record.balance != 0 || record.found != record.vectors || record.object == 0 {
                self.row_suspects.try_insert(number, ())?;
            }
            // A dropped collection may be half taken apart.
            if record.object == 0 || self.is_orphan(record.object) {
                continue;
            }
            let place = Place::object(record.object);
            if record.rows != record.found {
                self.find(Code::RowCount, place.with(record.rows, record.found))?;
            }
            if record.row_end != record.found_end {
                self.find(Code::RowEnd, place.with(record.row_end, record.found_end))?;
            }
            if !(record.sequence_end..=SEQUENCE_MAX).contains(&record.next_sequence) {
                let place = place.with(record.next_sequence, record.sequence_end);
                self.find(Code::RowSequence, place)?;
            }
            self.judge_graph(&record)?;
        }
        Ok(())
    }

    /// Reads a stored graph as a search would, which takes as much memory as the graph.
    fn judge_graph(&mut self, record: &CollectionRecord) -> Result<()> {
        let place = Place::object(record.object).with(record.graph_object, 0);
        let Some(parameters) = &record.parameters else { return Ok(()) };
        if record.graph_object == 0 {
            let nothing = record.graph_bytes == 0 && record.graph_watermark == 0;
            return if nothing { Ok(()) } else { self.find(Code::GraphDamaged, place) };
        }
        if record.graph_watermark > record.next_sequence.max(record.sequence_end) {
            return self.find(Code::GraphDamaged, place);
        }
        let (object, bytes) = (record.graph_object, record.graph_bytes);
        let stored = match extent_blocks(&self.tree, object) {
            Ok(blocks) => blocks.saturating_mul(self.state.block_bytes() as u64),
            Err(error) => return self.sink.find_error(Code::GraphDamaged, place, error),
        };
        let result = read_stored_graph(object, parameters, bytes, stored, &mut |offset, buffer| {
            self.read_stream(object, offset, buffer)
        });
        match result {
            Ok(_) => {
                self.sink.report.graphs += 1;
                Ok(())
            }
            Err(error) => self.sink.find_error(Code::GraphDamaged, place, error),
        }
    }

    /// A row in the second pass: a vector whose file or bytes are lost is lost with them.
    pub(crate) fn row_reference(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Ok(row) = RowLayout::ref_from_bytes(item) else { return Ok(()) };
        let whole = self.row_data(key, item)?;
        let known = self.collections.is_object(key.object);
        if known && (!whole || self.inode_record(row.inode.get()).is_none()) {
            self.kept.vectors = self.kept.vectors.saturating_sub(1);
            self.kept.items = self.kept.items.saturating_sub(1);
        }
        Ok(())
    }

    /// Compares the bytes of a row's vector. Returns whether nothing is wrong with them.
    fn row_data(&mut self, key: Key, item: &[u8]) -> Result<bool> {
        if !self.options.data || self.is_orphan(key.object) {
            return Ok(true);
        }
        let Ok(row) = RowLayout::ref_from_bytes(item) else { return Ok(true) };
        let Some(record) = self
            .collections
            .numbers
            .get(key.object)
            .and_then(|number| self.collections.by_number.get(u64::from(*number)))
            .copied()
        else {
            return Ok(true);
        };
        let Some(shape) = record.shape else { return Ok(true) };
        let row_bytes = shape.row_bytes();
        let mut buffer = core::mem::take(&mut self.buffer);
        if buffer.len() < row_bytes {
            buffer.try_resize(row_bytes, 0)?;
        }
        let offset = key.offset().saturating_mul(row_bytes as u64);
        let bytes = buffer.get_mut(..row_bytes).unwrap_or(&mut []);
        let place = Place::key(key).with(row.inode.get(), row.chunk.get().into());
        let before = self.sink.report.damage;
        match self.read_stream(record.rows_object, offset, bytes) {
            Err(error) => self.sink.find_error(Code::RowChecksum, place, error)?,
            Ok(()) => {
                self.sink.report.rows_read += 1;
                if self.host.checksum.crc32c(0, bytes) != row.checksum.get() {
                    self.find(Code::RowChecksum, place)?;
                } else if let Err(invalid) = self.host.kernels.check(&shape, bytes) {
                    let error = Error::InvalidVector(invalid);
                    self.sink.find_error(Code::RowInvalid, place, error)?;
                }
            }
        }
        self.buffer = buffer;
        Ok(self.sink.report.damage == before)
    }

    /// In the third pass: a vector of a collection whose rows do not match its vectors.
    pub(crate) fn suspect_vector(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let number = key.offset() >> 32;
        if !self.row_suspects.contains(number) {
            return Ok(());
        }
        let Ok(vector) = VectorLayout::ref_from_bytes(item) else { return Ok(()) };
        let object = self.collections.by_number.get(number).map_or(0, |record| record.object);
        let row = vector.row.get();
        let owner = match self.tree.get(Key::new(object, Kind::Row, row)) {
            Ok(item) => item.and_then(|item| owner_of(number, &item)),
            Err(_) => return Ok(()),
        };
        if object != 0 && owner == Some(key) {
            return Ok(());
        }
        let lone = LoneVector { key, object, row, settled: false };
        Ok(self.collections.lone_vectors.try_push(lone)?)
    }

    /// In the third pass: a row of such a collection.
    pub(crate) fn suspect_row(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Some(number) = self.collections.numbers.get(key.object).copied() else { return Ok(()) };
        let number = u64::from(number);
        // Of a dropped collection, files forget their vectors before its rows go.
        if !self.row_suspects.contains(number) || self.is_orphan(key.object) {
            return Ok(());
        }
        let Some(vector) = owner_of(number, item) else { return Ok(()) };
        let found = match self.tree.get(vector) {
            Ok(Some(item)) => VectorLayout::ref_from_bytes(&item)
                .is_ok_and(|vector| vector.row.get() == key.offset()),
            Ok(None) => false,
            Err(_) => return Ok(()),
        };
        if found {
            return Ok(());
        }
        let lone = LoneRow { key, vector, settled: false };
        Ok(self.collections.lone_rows.try_push(lone)?)
    }

    /// After the third pass: which of the rows and vectors without each other belong together. A
    /// vector and its row name each other, so when one of the two is damaged the other still tells.
    pub(crate) fn judge_mismatches(&mut self) -> Result<()> {
        let mut vectors = core::mem::take(&mut self.collections.lone_vectors);
        let mut rows = core::mem::take(&mut self.collections.lone_rows);
        // The row is there, but names somebody else, who does not name it: the vector is right,
        // because otherwise both would have to be wrong.
        sort_by(&mut rows, |a, b| a.key < b.key);
        for vector in vectors.iter_mut() {
            let key = Key::new(vector.object, Kind::Row, vector.row);
            let at = rows.binary_search_by(|row| row.key.cmp(&key));
            let Some(row) = at.ok().and_then(|at| rows.get_mut(at)) else { continue };
            if row.settled || !self.is_file(vector.key.object) {
                continue;
            }
            (row.settled, vector.settled) = (true, true);
            let place = Place::key(vector.key).with(vector.row, vector.object);
            self.find(Code::RowOwner, place)?;
        }
        // The row names a file that has no such vector, or one that names another's row.
        sort_by(&mut vectors, |a, b| a.key < b.key);
        sort_by(&mut rows, |a, b| (a.vector, a.key) < (b.vector, b.key));
        let mut before = Key::MIN;
        for row in rows.iter().filter(|row| !row.settled) {
            let at = vectors.binary_search_by(|vector| vector.key.cmp(&row.vector));
            let lone = at.ok().and_then(|at| vectors.get_mut(at));
            let free = match &lone {
                Some(vector) => !vector.settled,
                None => matches!(self.tree.get(row.vector), Ok(None)) && row.vector != before,
            };
            let (inode, chunk) = (row.vector.object, row.vector.offset() & u64::from(u32::MAX));
            let place = Place::key(row.key).with(inode, chunk);
            if !free || !self.is_file(inode) {
                self.find(Code::RowWithoutVector, place)?;
                continue;
            }
            before = row.vector;
            if let Some(vector) = lone {
                vector.settled = true;
            }
            self.find(Code::VectorRow, place)?;
        }
        for vector in vectors.iter().filter(|vector| !vector.settled) {
            self.find(Code::VectorWithoutRow, Place::key(vector.key).with(vector.row, 0))?;
        }
        Ok(())
    }

    fn is_file(&self, number: u64) -> bool {
        let file_type = (MODE_FILE >> 12) as u8;
        self.inode_record(number).is_some_and(|record| record.file_type == file_type)
    }
}

/// The key of the vector that a row of collection `number` belongs to.
fn owner_of(number: u64, item: &[u8]) -> Option<Key> {
    let row = RowLayout::ref_from_bytes(item).ok()?;
    let chunk = u64::from(row.chunk.get());
    Some(Key::new(row.inode.get(), Kind::Vector, number << 32 | chunk))
}
