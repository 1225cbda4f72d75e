// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections: named sets of vectors of one shape. What a collection is on disk, the list of those
//! there are, and making, listing and dropping them. Its rows in memory are in `collection_memory`,
//! its vectors in `vector`.

use crate::bytes::owned;
use crate::collection_memory::{Memory, Pending, go_on};
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::host::{LockClass, Locks, Timestamp};
use crate::inode::new_object;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::lock::{Lock, ReadGuard};
use crate::names::{self, Place};
pub(crate) use crate::orphan::{add as add_orphan, remove as remove_orphan};
use crate::row_set::RowSet;
use crate::search::SearchScratch;
use crate::tree::Tree;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vexfs_index::{Builder, Executor, Parameters, ROWS_MAX};
use vexfs_memory::{Shared, Table, TryVec};
use vexfs_simd::{ElementType, MAX_DIMENSION, Metric, Shape};
use zerocopy::{FromBytes, IntoBytes};

/// Most collections of a file system.
pub const COLLECTIONS_MAX: usize = 4096;
/// Longest model tag, in bytes.
pub const MODEL_BYTES_MAX: usize = 255;
/// Neighbours of a graph node when the options say 0.
pub const DEGREE_DEFAULT: u16 = 32;
/// Effort of an insertion into the graph when the options say 0.
pub const BUILD_EFFORT_DEFAULT: u32 = 100;
/// Most effort of an insertion into the graph.
pub const BUILD_EFFORT_MAX: u32 = 4096;

/// Rows whose items one operation of a drop removes.
const DROP_ROWS: usize = 128;
/// Extents that are looked at before others have a turn at the tree.
const EXTENTS_AT_ONCE: usize = if cfg!(test) { 4 } else { 1024 };

/// In which form vectors are kept in memory, for the graph. The numbers are on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Quantization {
    /// As they are stored.
    #[default]
    None = 0,
    /// A byte for each component, of vectors of floats.
    I8 = 1,
    /// Half the bytes of [`ElementType::F32`].
    F16 = 2,
    /// A bit for each component, of vectors of floats and bytes.
    Bit = 3,
}

/// How to make a collection.
#[derive(Clone, Copy, Debug)]
pub struct CollectionOptions<'a> {
    /// 1 to 255 bytes of UTF-8 without `/` and NUL.
    pub name: &'a str,
    /// What its vectors look like and how they are compared.
    pub shape: Shape,
    /// Free text that names the model, at most 255 bytes.
    pub model: &'a str,
    /// How vectors are kept in memory.
    pub quantization: Quantization,
    /// Neighbours of a graph node, 4 to 128; 0 takes [`DEGREE_DEFAULT`].
    pub degree: u16,
    /// Width of the beam when a vector goes into the graph, the degree to 4096; 0 takes
    /// [`BUILD_EFFORT_DEFAULT`], or the degree when that is more.
    pub build_effort: u32,
}

/// What a collection is and holds.
#[derive(Debug, PartialEq, Eq)]
pub struct CollectionInfo {
    /// Its number, by which all other calls name it.
    pub number: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// The model tag.
    pub model: Vec<u8>,
    /// What its vectors look like.
    pub shape: Shape,
    /// How vectors are kept in memory.
    pub quantization: Quantization,
    /// Neighbours of a graph node at most.
    pub degree: u16,
    /// Effort of an insertion into the graph.
    pub build_effort: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Whether the following is told; zeros otherwise. A kernel does not tell those who may not read all.
    pub counted: bool,
    /// Vectors stored.
    pub rows: u64,
    /// Of these, vectors in the graph. Zero while the collection is not in memory and has no
    /// stored graph.
    pub indexed: u64,
    /// Vectors that every search compares one by one, because they are not in the graph yet.
    pub unindexed: u64,
    /// Bytes of memory held for it.
    pub memory_bytes: u64,
    /// Whether rows and graph are in memory.
    pub loaded: bool,
    /// Vectors in memory could not be read, because they are damaged on the device.
    pub damaged: u64,
    /// The stored graph was damaged and is being built anew.
    pub graph_damaged: bool,
}

/// The part of a collection that never changes.
pub(crate) struct Schema {
    pub number: u32,
    /// Holds the collection's item and its rows' items.
    pub object: u64,
    /// Holds the vectors.
    pub rows_object: u64,
    pub shape: Shape,
    pub quantization: Quantization,
    pub parameters: Parameters,
    pub name: Vec<u8>,
    pub model: Vec<u8>,
    pub created: Timestamp,
}

/// The part of a collection's item that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub rows: u64,
    pub row_end: u32,
    pub next_sequence: u64,
    pub graph_object: u64,
    pub graph_watermark: u64,
    pub graph_bytes: u64,
    pub graph_lacks: u64,
}

/// What the one who changes a collection's vectors needs to know.
#[derive(Default)]
pub(crate) struct Writer {
    /// The rows in use, once they are known.
    pub live: Option<RowSet>,
    /// Rows below this are in use, as far as is known.
    pub free_from: u32,
    /// Digest to row, on demand; entries may be out of date and are checked when used.
    pub digests: Option<Table<u32>>,
    pub dropped: bool,
}

/// The one writer of a collection's graph.
#[derive(Default)]
pub(crate) struct Build {
    pub builder: Builder,
}

/// The memory that all collections share. Without locks, so that anybody may look.
pub(crate) struct IndexMemory {
    bytes_max: AtomicU64,
    bytes: AtomicU64,
}

impl IndexMemory {
    /// What took `before` bytes takes `now`.
    pub fn count(&self, before: u64, now: u64) {
        if now != before {
            self.bytes.fetch_add(now.wrapping_sub(before), Ordering::AcqRel);
        }
    }
}

/// A collection in use. Locks are taken in the order of the fields.
pub(crate) struct Collection {
    pub schema: Schema,
    pub dropped: AtomicBool,
    /// What this collection counts for in `index_memory`.
    memory_bytes: AtomicU64,
    index_memory: Shared<IndexMemory>,
    /// Held by who changes vectors.
    pub writer: Lock<Writer>,
    /// The tree may have a change of vectors that is not in `pending` yet.
    changing: AtomicBool,
    /// Held by who changes the graph or stores it.
    pub build: Lock<Build>,
    /// Rows and graph, as searches see them.
    pub memory: Lock<Memory>,
    /// Changes of vectors that are not in `memory` yet.
    pub pending: Lock<Pending>,
    /// Memory of searches, for the next ones.
    pub scratches: Lock<Vec<SearchScratch>>,
}

impl Collection {
    fn try_new(
        locks: &dyn Locks,
        schema: Schema,
        index_memory: Shared<IndexMemory>,
    ) -> Result<Self> {
        let memory = empty_memory(locks, &schema)?;
        Ok(Self {
            schema,
            dropped: AtomicBool::new(false),
            memory_bytes: AtomicU64::new(0),
            index_memory: index_memory.clone(),
            writer: Lock::try_new(locks, LockClass::CollectionWriter, Writer::default())?,
            changing: AtomicBool::new(false),
            build: Lock::try_new(locks, LockClass::CollectionBuild, Build::default())?,
            memory,
            pending: Lock::try_new(
                locks,
                LockClass::CollectionPending,
                Pending::new(index_memory),
            )?,
            scratches: Lock::try_new(locks, LockClass::CollectionPending, Vec::new())?,
        })
    }

    /// The keys of a file's vectors in this collection.
    pub fn vector_key(&self, inode: u64, chunk: u32) -> Key {
        Key::new(inode, Kind::Vector, u64::from(self.schema.number) << 32 | u64::from(chunk))
    }

    pub fn row_key(&self, row: u32) -> Key {
        Key::new(self.schema.object, Kind::Row, u64::from(row))
    }

    pub fn row_bytes(&self) -> usize {
        self.schema.shape.row_bytes()
    }

    /// Whether rows and graph of so many bytes may be in memory, beside the notes.
    pub fn fits(&self, bytes: u64) -> bool {
        let own = self.memory_bytes.load(Ordering::Acquire);
        let others = self.index_memory.bytes.load(Ordering::Acquire).saturating_sub(own);
        others.saturating_add(bytes) <= self.index_memory.bytes_max.load(Ordering::Acquire)
    }

    /// Counts the bytes that rows and graph take. Under the lock of `memory`.
    pub fn count_memory(&self, bytes: u64) {
        let before = self.memory_bytes.swap(bytes, Ordering::AcqRel);
        self.index_memory.count(before, bytes);
    }

    /// The bytes that were counted last.
    pub fn counted_memory(&self) -> u64 {
        self.memory_bytes.load(Ordering::Acquire)
    }

    /// Says that vectors are about to change in the tree, until what it returns is dropped, after
    /// they have been noted. For the holder of the writer's lock.
    pub fn begin_changes(&self) -> Changes<'_> {
        self.changing.store(true, Ordering::Release);
        Changes(&self.changing)
    }

    /// Whether all changes of vectors that the tree has are in `memory`, of which the caller holds
    /// the lock. So it stays while the tree that is returned is held.
    pub fn tree_as_in_memory<'a>(&self, fs: &'a FileSystem) -> Option<ReadGuard<'a, Tree>> {
        let pending = self.pending.read();
        let tree = fs.reader();
        (!self.changing.load(Ordering::Acquire) && pending.is_empty()).then_some(tree)
    }

    pub fn check_alive(&self) -> Result<()> {
        if self.dropped.load(Ordering::Acquire) { Err(Error::NotFound) } else { Ok(()) }
    }
}

/// Vectors are changing, until this is dropped.
pub(crate) struct Changes<'a>(&'a AtomicBool);

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The collections of a file system.
#[derive(Default)]
pub(crate) struct Collections {
    /// Whether the list was read.
    known: bool,
    pub(crate) list: Vec<Shared<Collection>>,
    index_memory: Option<Shared<IndexMemory>>,
}

impl Collections {
    fn index_memory(&mut self) -> Result<Shared<IndexMemory>> {
        if let Some(shared) = &self.index_memory {
            return Ok(shared.clone());
        }
        let (bytes_max, bytes) = (AtomicU64::new(u64::MAX), AtomicU64::new(0));
        let shared = Shared::try_new(IndexMemory { bytes_max, bytes })?;
        Ok(self.index_memory.insert(shared).clone())
    }

    pub fn index_memory_bytes(&self) -> u64 {
        self.index_memory.as_ref().map_or(0, |memory| memory.bytes.load(Ordering::Acquire))
    }
}

impl Counts {
    pub fn load(tree: &Tree, object: u64) -> Result<Self> {
        let item = tree.get(Key::new(object, Kind::Collection, 0))?.ok_or(Error::NotFound)?;
        let counts = decode(object, &item)?.1;
        // There was room for all of them at once, and memory is taken for as many.
        let rows_max = (tree.state.blocks << tree.state.block_log2) / size_of::<RowLayout>() as u64;
        if u64::from(counts.row_end) > rows_max {
            return Err(corrupt(object, "collection of more rows than there is room for"));
        }
        Ok(counts)
    }

    /// Changes the counts of a collection within an operation.
    pub fn change(
        tree: &mut Tree,
        object: u64,
        change: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut counts = Self::load(tree, object)?;
        change(&mut counts)?;
        let item = tree.get_mut(Key::new(object, Kind::Collection, 0))?;
        let (layout, _) = CollectionLayout::mut_from_prefix(item)
            .map_err(|_| corrupt(object, "collection item of a wrong length"))?;
        layout.rows = counts.rows.into();
        layout.row_end = u64::from(counts.row_end).into();
        layout.next_sequence = counts.next_sequence.into();
        layout.graph_object = counts.graph_object.into();
        layout.graph_watermark = counts.graph_watermark.into();
        layout.graph_bytes = counts.graph_bytes.into();
        layout.graph_lacks = counts.graph_lacks.into();
        Ok(())
    }
}

/// The memory of a collection of which nothing is in memory.
#[inline(never)] // its frame must not add to its caller's
fn empty_memory(locks: &dyn Locks, schema: &Schema) -> Result<Lock<Memory>> {
    Lock::try_new(locks, LockClass::Collection, Memory::new(schema)?)
}

/// Reads a collection's item and checks it.
#[inline(never)] // its frame must not add to its caller's
pub(crate) fn decode(object: u64, item: &[u8]) -> Result<(Schema, Counts)> {
    let bad = |what| corrupt(object, what);
    let (head, tail) = CollectionLayout::ref_from_prefix(item)
        .map_err(|_| bad("collection item of a wrong length"))?;
    let lengths = (usize::from(head.name_length), usize::from(head.model_length.get()));
    let (name, model) =
        tail.split_at_checked(lengths.0).ok_or(bad("collection item of a wrong length"))?;
    if model.len() != lengths.1 || model.len() > MODEL_BYTES_MAX || !is_name(name) {
        return Err(bad("collection with an impossible name or model tag"));
    }
    let shape = Shape {
        element: ElementType::from_number(head.element)
            .ok_or(bad("collection of an unknown element type"))?,
        metric: Metric::from_number(head.metric).ok_or(bad("collection of an unknown metric"))?,
        dimension: head.dimension.get(),
    };
    let quantization = Quantization::from_number(head.quantization)
        .ok_or(bad("collection of an unknown quantization"))?;
    let parameters = parameters(head.degree.get(), head.build_effort.get(), head.number.get())
        .map_err(|_| bad("collection with impossible graph parameters"))?;
    let number = head.number.get();
    let counts = Counts {
        rows: head.rows.get(),
        row_end: head.row_end.get().min(u64::from(u32::MAX)) as u32,
        next_sequence: head.next_sequence.get(),
        graph_object: head.graph_object.get(),
        graph_watermark: head.graph_watermark.get(),
        graph_bytes: head.graph_bytes.get(),
        graph_lacks: head.graph_lacks.get(),
    };
    let objects = [object, head.rows_object.get(), counts.graph_object.max(FIRST_OBJECT)];
    if number == 0
        || number > COLLECTION_MAX
        || shape.dimension == 0
        || shape.dimension > MAX_DIMENSION
        || head.row_end.get() > u64::from(ROWS_MAX)
        || counts.rows > u64::from(counts.row_end)
        || counts.next_sequence > SEQUENCE_MAX
        || counts.graph_watermark > counts.next_sequence
        || !quantization.suits(&shape)
        || objects.iter().any(|object| !(FIRST_OBJECT..=OBJECT_MAX).contains(object))
    {
        return Err(bad("collection with impossible fields"));
    }
    let schema = Schema {
        number,
        object,
        rows_object: head.rows_object.get(),
        shape,
        quantization,
        parameters,
        name: owned(name)?,
        model: owned(model)?,
        created: head.created.decode(object)?,
    };
    Ok((schema, counts))
}

/// The graph's parameters, or `Invalid` when they are out of range.
fn parameters(degree: u16, effort: u32, number: u32) -> Result<Parameters> {
    if !(4..=vexfs_index::DEGREE_MAX).contains(&degree) {
        return Err(Error::Invalid("degree must be 4 to 128"));
    }
    if !(u32::from(degree)..=BUILD_EFFORT_MAX).contains(&effort) {
        return Err(Error::Invalid("build effort must be the degree to 4096"));
    }
    let effort = effort as u16;
    Ok(Parameters { degree, effort, seed: u64::from(number), ..Parameters::default() })
}

fn is_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && core::str::from_utf8(name).is_ok()
        && !name.iter().any(|byte| *byte == 0 || *byte == b'/')
}

/// Where the name of a collection is in the tree, or would be.
fn find_name(tree: &Tree, name: &[u8]) -> Result<Place> {
    let base = names::cookie_base(tree, name);
    names::find(tree, 0, Kind::CollectionName, base, |item| {
        item.get(size_of::<CollectionNameLayout>()..) == Some(name)
    })
}

impl FileSystem {
    /// Makes a collection and returns its number.
    ///
    /// Errors: `Invalid` for a name, dimension or parameter out of range, `NameTooLong`, `TooBig`
    /// for a model tag that is too long, `Exists` when the name is taken, `NoSpace`.
    pub fn create_collection(&self, options: &CollectionOptions<'_>) -> Result<u32> {
        let name = options.name.as_bytes();
        if name.len() > NAME_BYTES_MAX {
            return Err(Error::NameTooLong);
        }
        if !is_name(name) {
            return Err(Error::Invalid(
                "the name of a collection is 1 to 255 bytes without `/` and NUL",
            ));
        }
        if options.model.len() > MODEL_BYTES_MAX {
            return Err(Error::TooBig("model tag"));
        }
        let shape = options.shape;
        if shape.dimension == 0 || shape.dimension > MAX_DIMENSION {
            return Err(Error::Invalid("dimension must be 1 to 16384"));
        }
        let degree = if options.degree == 0 { DEGREE_DEFAULT } else { options.degree };
        let effort = match options.build_effort {
            0 => BUILD_EFFORT_DEFAULT.max(u32::from(degree)),
            effort => effort,
        };
        parameters(degree, effort, 1)?;
        if !options.quantization.suits(&shape) {
            return Err(Error::Invalid("no such codes for vectors of this type and metric"));
        }
        let created = self.host.clock.now();
        let mut collections = self.collections.write();
        self.read_collections(&mut collections)?;
        if collections.list.len() >= COLLECTIONS_MAX {
            return Err(Error::TooBig("number of collections"));
        }
        let place = find_name(&self.reader(), name)?;
        let Place::Free(name_key) = place else { return Err(Error::Exists) };
        collections.list.try_reserve(1).map_err(|_| Error::OutOfMemory)?;
        let (number, object) = self.operation(3, false, |tree| {
            let number = tree.state.next_collection;
            if number == 0 || number > COLLECTION_MAX {
                return Err(Error::NoSpace);
            }
            tree.state.next_collection += 1;
            let object = new_object(tree)?;
            let layout = CollectionLayout {
                number: number.into(),
                dimension: shape.dimension.into(),
                element: shape.element as u8,
                metric: shape.metric as u8,
                quantization: options.quantization as u8,
                name_length: name.len() as u8,
                model_length: (options.model.len() as u16).into(),
                degree: degree.into(),
                build_effort: effort.into(),
                reserved_a: 0.into(),
                rows_object: new_object(tree)?.into(),
                graph_object: 0.into(),
                rows: 0.into(),
                row_end: 0.into(),
                next_sequence: 1.into(),
                graph_watermark: 0.into(),
                graph_bytes: 0.into(),
                created: TimeLayout::encode(created),
                graph_lacks: 0.into(),
                reserved: [0; 44],
            };
            let key = Key::new(object, Kind::Collection, 0);
            tree.put(key, &[layout.as_bytes(), name, options.model.as_bytes()])?;
            let link = CollectionNameLayout { object: object.into() };
            tree.put(name_key, &[link.as_bytes(), name])?;
            Ok((number, object))
        })?;
        // The collection is made; should memory run out here, the list is read again by the next call
        // that needs it.
        collections.known = self.read_collection(&mut collections, object).is_ok();
        Ok(number)
    }

    /// Reads the list of collections if that was not done yet.
    fn read_collections(&self, collections: &mut Collections) -> Result<()> {
        if collections.known {
            return Ok(());
        }
        let mut objects: Vec<u64> = Vec::new();
        let (from, to) =
            (Key::new(0, Kind::CollectionName, 0), Key::new(0, Kind::CollectionName, OFFSET_MAX));
        self.reader().scan(from, to, |_, item| {
            let (head, _) = CollectionNameLayout::ref_from_prefix(item)
                .map_err(|_| corrupt(0, "collection name of a wrong length"))?;
            objects.try_push(head.object.get())?;
            Ok(objects.len() <= COLLECTIONS_MAX)
        })?;
        for object in objects {
            self.read_collection(collections, object)?;
        }
        collections.known = true;
        Ok(())
    }

    fn read_collection(&self, collections: &mut Collections, object: u64) -> Result<()> {
        let schema = {
            let tree = self.reader();
            let key = Key::new(object, Kind::Collection, 0);
            let item = tree.get(key)?.ok_or(corrupt(object, "name of a collection that is not"))?;
            decode(object, &item)?.0
        };
        let same = |other: &Shared<Collection>| other.schema.object == object;
        if collections.list.iter().any(same) {
            return Ok(());
        }
        if collections.list.iter().any(|other| other.schema.number == schema.number) {
            return Err(corrupt(object, "two collections of one number"));
        }
        let index_memory = collections.index_memory()?;
        let collection = Collection::try_new(&*self.host.locks, schema, index_memory)?;
        collections.list.try_push(Shared::try_new(collection)?)?;
        Ok(())
    }

    /// Calls `pick` with the list of collections.
    fn with_collections<R>(&self, pick: impl FnOnce(&[Shared<Collection>]) -> R) -> Result<R> {
        {
            let collections = self.collections.read();
            if collections.known {
                return Ok(pick(&collections.list));
            }
        }
        let mut collections = self.collections.write();
        self.read_collections(&mut collections)?;
        Ok(pick(&collections.list))
    }

    /// The collection of this number; `NotFound` when there is none.
    pub(crate) fn find_collection(&self, number: u32) -> Result<Shared<Collection>> {
        self.with_collections(|list| {
            let mut list = list.iter();
            list.find(|collection| collection.schema.number == number).cloned()
        })?
        .ok_or(Error::NotFound)
    }

    /// All collections there are now.
    pub(crate) fn all_collections(&self) -> Result<Vec<Shared<Collection>>> {
        self.with_collections(|list| {
            let mut all = Vec::new();
            for collection in list {
                all.try_push(collection.clone())?;
            }
            Ok(all)
        })?
    }

    /// The collections that were used since opening; reads nothing.
    pub(crate) fn known_collections(&self) -> Result<Vec<Shared<Collection>>> {
        let collections = self.collections.read();
        let mut all = Vec::new();
        for collection in &collections.list {
            all.try_push(collection.clone())?;
        }
        Ok(all)
    }

    /// Limits the bytes that vectors and graphs of all collections take in memory; without a call
    /// there is no limit. A collection that does not fit is searched on the device: exactly, and
    /// slowly, until it fits.
    pub fn set_index_memory(&self, bytes: u64) -> Result<()> {
        let shared = self.collections.write().index_memory()?;
        shared.bytes_max.store(bytes, Ordering::Release);
        for collection in self.known_collections()? {
            collection.memory.write().retry();
        }
        Ok(())
    }

    /// The number of the collection of this name; `NotFound` when there is none.
    pub fn collection_number(&self, name: &str) -> Result<u32> {
        self.with_collections(|list| {
            let mut list = list.iter();
            let found = list.find(|collection| collection.schema.name == name.as_bytes());
            found.map(|collection| collection.schema.number)
        })?
        .ok_or(Error::NotFound)
    }

    /// What the collection of this name is and holds.
    pub fn collection(&self, name: &str) -> Result<CollectionInfo> {
        self.collection_info(self.collection_number(name)?)
    }

    /// What the collection of this number is and holds.
    pub fn collection_info(&self, number: u32) -> Result<CollectionInfo> {
        self.describe(&*self.find_collection(number)?)
    }

    /// Calls `each` with every collection, in the order of their numbers, until it returns false.
    pub fn collections(&self, each: &mut dyn FnMut(&CollectionInfo) -> bool) -> Result<()> {
        let mut all = self.all_collections()?;
        vexfs_memory::sort_by(&mut all, |a, b| a.schema.number < b.schema.number);
        for collection in &all {
            match self.describe(collection) {
                Ok(info) if !each(&info) => break,
                // Dropped since the list was made.
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn describe(&self, collection: &Collection) -> Result<CollectionInfo> {
        collection.check_alive()?;
        // A row that was removed counts until its note is taken in.
        self.take_in_notes(collection);
        let schema = &collection.schema;
        let counts = Counts::load(&self.reader(), schema.object)?;
        let memory = collection.memory.read();
        // Rows may have come or gone since they were counted.
        let unindexed = match memory.is_loaded() {
            true => memory.unindexed().min(counts.rows),
            false => counts.unindexed_at_most(),
        };
        let pending = collection.pending.read().memory_bytes();
        Ok(CollectionInfo {
            number: schema.number,
            name: owned(&schema.name)?,
            model: owned(&schema.model)?,
            shape: schema.shape,
            quantization: schema.quantization,
            degree: schema.parameters.degree,
            build_effort: u32::from(schema.parameters.effort),
            created: schema.created,
            counted: true,
            rows: counts.rows,
            indexed: counts.rows.saturating_sub(unindexed),
            unindexed,
            memory_bytes: memory.memory_bytes() as u64 + pending,
            loaded: memory.is_loaded(),
            damaged: memory.damaged(),
            graph_damaged: memory.graph_damaged,
        })
    }

    /// Bytes that a collection's vectors and its graph take on the device, without the items of the
    /// tree. `Interrupted` when `executor` says so, which is asked now and then.
    pub fn stored_bytes(&self, number: u32, executor: &dyn Executor) -> Result<u64> {
        let collection = self.find_collection(number)?;
        let rows = collection.schema.rows_object;
        let graph = Counts::load(&self.reader(), collection.schema.object)?.graph_object;
        let graph_bytes = if graph == 0 { 0 } else { self.object_bytes(graph, executor)? };
        Ok(self.object_bytes(rows, executor)?.saturating_add(graph_bytes))
    }

    /// Bytes of an object's blocks, of which there may be very many: others get a turn between some
    /// and some.
    pub(crate) fn object_bytes(&self, object: u64, executor: &dyn Executor) -> Result<u64> {
        let (mut blocks, mut from) = (0u64, 0);
        loop {
            let tree = self.reader();
            let (some, rest) = next_extents(&tree, object, from)?;
            blocks = blocks.saturating_add(some);
            let Some(rest) = rest else {
                return Ok(blocks.saturating_mul(tree.block_bytes() as u64));
            };
            drop(tree);
            from = rest;
            go_on(executor)?;
        }
    }

    /// Bytes of a vector of a collection.
    pub fn vector_bytes(&self, collection: u32) -> Result<usize> {
        Ok(self.find_collection(collection)?.row_bytes())
    }

    /// Drops the collection of this number with all its vectors. It is gone for everybody at once;
    /// its space comes back step by step before the call returns, or after a crash with
    /// [`FileSystem::reap_orphans`].
    pub fn drop_collection(&self, number: u32) -> Result<()> {
        let object = self.hide_collection(number)?;
        // It is gone; what cannot be freed now is freed with other orphans.
        if self.holding(&[object], || self.reap_collection(object).map(|_| ())).is_err() {
            self.reap_later();
        }
        Ok(())
    }

    /// The first operation of a drop, after which nobody finds the collection any more. Returns its
    /// object, noted as an orphan.
    fn hide_collection(&self, number: u32) -> Result<u64> {
        {
            let mut collections = self.collections.write();
            self.read_collections(&mut collections)?;
            let at = collections
                .list
                .iter()
                .position(|collection| collection.schema.number == number)
                .ok_or(Error::NotFound)?;
            let Some(collection) = collections.list.get(at).cloned() else {
                return Err(Error::NotFound);
            };
            let place = find_name(&self.reader(), &collection.schema.name)?;
            let Place::Found(key) = place else {
                return Err(corrupt(0, "collection without a name"));
            };
            let mut writer = collection.writer.write();
            let object = collection.schema.object;
            self.operation(2, true, |tree| {
                tree.remove(key)?;
                add_orphan(tree, object)
            })?;
            writer.dropped = true;
            collection.dropped.store(true, Ordering::Release);
            swap_remove(&mut collections.list, at);
            drop((writer, collections)); // a search may be long
            collection.memory.write().forget(&collection.schema);
            collection.count_memory(0);
            collection.pending.write().stop();
            Ok(object)
        }
    }

    /// Does the first operations of a drop and no more, as a crash would leave it.
    #[cfg(test)]
    pub(crate) fn break_drop(&self, name: &str, steps: usize) -> Result<()> {
        let object = self.hide_collection(self.collection_number(name)?)?;
        let schema = {
            let tree = self.reader();
            let item = tree.get(Key::new(object, Kind::Collection, 0))?.ok_or(Error::NotFound)?;
            decode(object, &item)?.0
        };
        for _ in 0..steps {
            self.drop_rows(&schema)?;
        }
        Ok(())
    }

    /// Takes a dropped collection apart; false, and nothing is done, when `object` is none. Every
    /// step is an operation of its own. The note of the object as an orphan goes with the last step.
    pub(crate) fn reap_collection(&self, object: u64) -> Result<bool> {
        let key = Key::new(object, Kind::Collection, 0);
        let (schema, counts) = {
            let tree = self.reader();
            match tree.get(key)? {
                Some(item) => decode(object, &item)?,
                None => return Ok(false),
            }
        };
        while !self.drop_rows(&schema)? {}
        let streams = [schema.rows_object, counts.graph_object];
        self.holding(&streams, || {
            self.operation(4, true, |tree| {
                tree.remove(key)?;
                for stream in streams {
                    if stream != 0 {
                        add_orphan(tree, stream)?;
                    }
                }
                remove_orphan(tree, object)
            })?;
            for stream in streams {
                if stream != 0 {
                    self.free_stream(stream)?;
                }
            }
            Ok(true)
        })
    }

    /// Removes the items of some rows of a dropped collection, and those of the files' vectors that
    /// lead to them. Says whether none is left.
    fn drop_rows(&self, schema: &Schema) -> Result<bool> {
        let object = schema.object;
        let mut rows: Vec<(u64, u64, u32)> = Vec::new();
        let (from, to) = (Key::new(object, Kind::Row, 0), Key::new(object, Kind::Row, OFFSET_MAX));
        self.reader().scan(from, to, |key, item| {
            let row = RowLayout::ref_from_bytes(item)
                .map_err(|_| corrupt(object, "row item of a wrong length"))?;
            rows.try_push((key.offset(), row.inode.get(), row.chunk.get()))?;
            Ok(rows.len() < DROP_ROWS)
        })?;
        if rows.is_empty() {
            return Ok(true);
        }
        // Freeing takes space itself; with little left, free less at a time.
        loop {
            let result = self.drop_some_rows(schema, &rows);
            if result != Err(Error::NoSpace) || rows.len() == 1 {
                return result.map(|()| false);
            }
            rows.truncate(rows.len().div_ceil(8));
        }
    }

    fn drop_some_rows(&self, schema: &Schema, rows: &[(u64, u64, u32)]) -> Result<()> {
        let object = schema.object;
        self.operation(2 * rows.len() as u64, true, |tree| {
            for (row, inode, chunk) in rows {
                let offset = u64::from(schema.number) << 32 | u64::from(*chunk);
                let key = Key::new(*inode, Kind::Vector, offset);
                if crate::vector::row_of(tree, key)?.is_some_and(|found| u64::from(found) == *row) {
                    tree.remove(key)?;
                    crate::vector::clear_flag(tree, *inode)?;
                }
                tree.remove(Key::new(object, Kind::Row, *row))?;
            }
            Ok(())
        })
    }
}

impl Counts {
    /// How many rows may not be in the stored graph, as far as the item tells.
    fn unindexed_at_most(&self) -> u64 {
        if self.graph_object == 0 {
            return self.rows;
        }
        let later = self.next_sequence.saturating_sub(self.graph_watermark);
        later.saturating_add(self.graph_lacks).min(self.rows)
    }
}

/// Blocks of an object's extents.
pub(crate) fn extent_blocks(tree: &Tree, object: u64) -> Result<u64> {
    let (mut blocks, mut from) = (0u64, Some(0));
    while let Some(next) = from {
        let (some, rest) = next_extents(tree, object, next)?;
        blocks = blocks.saturating_add(some);
        from = rest;
    }
    Ok(blocks)
}

/// Blocks of an object's next extents from an offset on, and the offset the rest is to be sought from.
fn next_extents(tree: &Tree, object: u64, from: u64) -> Result<(u64, Option<u64>)> {
    let (mut blocks, mut count, mut rest) = (0u64, 0, None);
    let (from, to) =
        (Key::new(object, Kind::Extent, from), Key::new(object, Kind::Extent, OFFSET_MAX));
    tree.scan(from, to, |key, item| {
        if count == EXTENTS_AT_ONCE {
            rest = Some(key.offset());
            return Ok(false);
        }
        let (head, _) = ExtentLayout::ref_from_prefix(item)
            .map_err(|_| corrupt(object, "extent item of a wrong length"))?;
        blocks = blocks.saturating_add(u64::from(head.length.get()));
        count += 1;
        Ok(true)
    })?;
    Ok((blocks, rest))
}

/// Takes the value at `at` out, in whose place the last one comes.
fn swap_remove<T>(values: &mut Vec<T>, at: usize) {
    if let Some(last) = values.pop()
        && let Some(place) = values.get_mut(at)
    {
        *place = last;
    }
}
