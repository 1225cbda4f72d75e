// SPDX-License-Identifier: GPL-2.0-only
//! Collections: making, listing and dropping them, and the work on their graphs.

use crate::boundary::{bytes, deliver, status};
use crate::executor::InterruptibleExecutor;
use core::ffi::c_void;
use vexfs_core::{
    CollectionInfo, CollectionOptions, Error, FileSystem, Maintenance, Quantization, Released,
    Result,
};
use vexfs_simd::{ElementType, Metric, Shape};

/// Text from C, which must be UTF-8.
///
/// # Safety
/// `start` points to `length` bytes that nobody changes during `'a`.
unsafe fn text<'a>(start: *const u8, length: usize) -> Result<&'a str> {
    // SAFETY: the caller's word.
    let bytes = unsafe { bytes(start, length) };
    core::str::from_utf8(bytes).map_err(|_| Error::Invalid("text is not UTF-8"))
}

/// How to make a collection, with a layout that C can declare.
#[repr(C)]
pub struct NewCollection {
    /// The name.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_bytes: usize,
    /// The model tag.
    pub model: *const u8,
    /// Bytes of the model tag.
    pub model_bytes: usize,
    /// Components of a vector.
    pub dimension: u32,
    /// Effort of an insertion into the graph; 0 takes the default.
    pub build_effort: u32,
    /// Neighbours of a graph node; 0 takes the default.
    pub degree: u16,
    /// Number of the element type.
    pub element: u8,
    /// Number of the metric.
    pub metric: u8,
    /// Number of the quantization.
    pub quantization: u8,
    /// Zeros.
    pub reserved: [u8; 3],
}

/// Makes a collection and writes its number.
///
/// # Safety
/// The name and model of `new` point to as many bytes as is said of them; `number` may be written
/// to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_create(
    file_system: &FileSystem,
    new: &NewCollection,
    number: *mut u32,
) -> i32 {
    // SAFETY: the caller's word.
    let made = unsafe { create(file_system, new) };
    // SAFETY: the caller's word.
    unsafe { deliver(made, number) }
}

/// # Safety
/// As for `vexfs_core_collection_create`.
unsafe fn create(file_system: &FileSystem, new: &NewCollection) -> Result<u32> {
    // SAFETY: the caller's word.
    let (name, model) =
        unsafe { (text(new.name, new.name_bytes)?, text(new.model, new.model_bytes)?) };
    let element =
        ElementType::from_number(new.element).ok_or(Error::Invalid("unknown element type"))?;
    let metric = Metric::from_number(new.metric).ok_or(Error::Invalid("unknown metric"))?;
    let quantization = Quantization::from_number(new.quantization)
        .ok_or(Error::Invalid("unknown quantization"))?;
    file_system.create_collection(&CollectionOptions {
        name,
        shape: Shape { element, metric, dimension: new.dimension },
        model,
        quantization,
        degree: new.degree,
        build_effort: new.build_effort,
    })
}

/// A [`CollectionInfo`] with a layout that C can declare. The name and model live as long as the
/// call that hands it out.
#[repr(C)]
pub struct Collection {
    /// The name.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_bytes: usize,
    /// The model tag.
    pub model: *const u8,
    /// Bytes of the model tag.
    pub model_bytes: usize,
    /// Vectors stored.
    pub rows: u64,
    /// Of these, vectors in the graph.
    pub indexed: u64,
    /// Vectors that every search compares one by one.
    pub unindexed: u64,
    /// Bytes of memory held for it.
    pub memory_bytes: u64,
    /// Bytes on the device.
    /// Vectors that could not be read because they are damaged.
    pub damaged: u64,
    /// When it was made.
    pub created_seconds: i64,
    /// Its number.
    pub number: u32,
    /// Components of a vector.
    pub dimension: u32,
    /// Effort of an insertion into the graph.
    pub build_effort: u32,
    /// Neighbours of a graph node at most.
    pub degree: u16,
    /// Number of the element type.
    pub element: u8,
    /// Number of the metric.
    pub metric: u8,
    /// Number of the quantization.
    pub quantization: u8,
    /// 1 if rows and graph are in memory, else 0.
    pub loaded: u8,
    /// 1 if the stored graph was damaged and is being built anew, else 0.
    pub graph_damaged: u8,
    /// Zeros.
    pub reserved: [u8; 5],
}

impl From<&CollectionInfo> for Collection {
    fn from(info: &CollectionInfo) -> Self {
        Self {
            name: info.name.as_ptr(),
            name_bytes: info.name.len(),
            model: info.model.as_ptr(),
            model_bytes: info.model.len(),
            rows: info.rows,
            indexed: info.indexed,
            unindexed: info.unindexed,
            memory_bytes: info.memory_bytes,
            damaged: info.damaged,
            created_seconds: info.created.seconds,
            number: info.number,
            dimension: info.shape.dimension,
            build_effort: info.build_effort,
            degree: info.degree,
            element: info.shape.element as u8,
            metric: info.shape.metric as u8,
            quantization: info.quantization as u8,
            loaded: u8::from(info.loaded),
            graph_damaged: u8::from(info.graph_damaged),
            reserved: [0; 5],
        }
    }
}

/// Takes a collection from the core; a false answer ends the listing.
pub type EachCollection = extern "C" fn(context: *mut c_void, collection: &Collection) -> bool;

/// Calls `each` with every collection. It must not call the file system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collections(
    file_system: &FileSystem,
    each: EachCollection,
    context: *mut c_void,
) -> i32 {
    status(file_system.collections(&mut |info| each(context, &Collection::from(info))))
}

/// Calls `each` with the collection of this number.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collection_by_number(
    file_system: &FileSystem,
    number: u32,
    each: EachCollection,
    context: *mut c_void,
) -> i32 {
    status(file_system.collection_info(number).map(|info| {
        each(context, &Collection::from(&info));
    }))
}

/// Calls `each` with the collection of this name.
///
/// # Safety
/// `name` points to `name_bytes` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_by_name(
    file_system: &FileSystem,
    name: *const u8,
    name_bytes: usize,
    each: EachCollection,
    context: *mut c_void,
) -> i32 {
    // SAFETY: the caller's word.
    let name = unsafe { text(name, name_bytes) };
    status(name.and_then(|name| file_system.collection(name)).map(|info| {
        each(context, &Collection::from(&info));
    }))
}

/// Writes how many bytes a collection takes on the device. `-EINTR` when the caller has a signal to see
/// to.
///
/// # Safety
/// `bytes` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_stored_bytes(
    file_system: &FileSystem,
    number: u32,
    bytes: *mut u64,
) -> i32 {
    let result = file_system.stored_bytes(number, &InterruptibleExecutor::default());
    // SAFETY: the caller's word.
    unsafe { deliver(result, bytes) }
}

/// Writes the number of the collection of this name.
///
/// # Safety
/// `name` points to `name_bytes` bytes; `number` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_number(
    file_system: &FileSystem,
    name: *const u8,
    name_bytes: usize,
    number: *mut u32,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe {
        let name = text(name, name_bytes);
        deliver(name.and_then(|name| file_system.collection_number(name)), number)
    }
}

/// Drops a collection with all its vectors.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collection_drop(file_system: &FileSystem, number: u32) -> i32 {
    status(file_system.drop_collection(number))
}

/// What was done for a graph, with a layout that C can declare.
#[repr(C)]
pub struct GraphWork {
    /// Rows that went in.
    pub inserted: u64,
    /// Rows that were taken out.
    pub removed: u64,
    /// Rows that are not in yet and belong there.
    pub left: u64,
    /// 1 if the graph was stored, else 0.
    pub stored: u64,
}

impl From<Maintenance> for GraphWork {
    fn from(done: Maintenance) -> Self {
        let Maintenance { inserted, removed, left, stored } = done;
        Self { inserted, removed, left, stored: u64::from(stored) }
    }
}

/// Brings a collection's graph nearer to its vectors, by at most `rows_max` new ones; for a thread
/// in the background. `-EINTR` when the thread has a signal to see to before the work has begun.
///
/// # Safety
/// `done` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_maintain(
    file_system: &FileSystem,
    number: u32,
    rows_max: u64,
    done: *mut GraphWork,
) -> i32 {
    let executor = InterruptibleExecutor::default();
    let result = file_system.maintain_collection(number, rows_max, &executor);
    // SAFETY: the caller's word.
    unsafe { deliver(result.map(GraphWork::from), done) }
}

/// Builds a collection's graph anew, in memory. `-EINTR` as above.
///
/// # Safety
/// `done` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_collection_rebuild(
    file_system: &FileSystem,
    number: u32,
    done: *mut GraphWork,
) -> i32 {
    let result = file_system.rebuild_collection(number, &InterruptibleExecutor::default());
    // SAFETY: the caller's word.
    unsafe { deliver(result.map(GraphWork::from), done) }
}

/// Stores a collection's graph. `-EINTR` as above.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collection_store(file_system: &FileSystem, number: u32) -> i32 {
    status(file_system.store_graph(number, &InterruptibleExecutor::default()))
}

/// Bytes of a vector of a collection, or a negative errno.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_collection_vector_bytes(file_system: &FileSystem, number: u32) -> i32 {
    // A vector is shorter than 2^17 bytes.
    file_system.vector_bytes(number).map_or_else(|error| status(Err(error)), |bytes| bytes as i32)
}

/// Stores the graphs that have changed; for unmounting.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_store_graphs(file_system: &FileSystem) -> i32 {
    status(file_system.store_graphs())
}

/// Limits the bytes that vectors and graphs take in memory.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_set_index_memory(file_system: &FileSystem, bytes: u64) -> i32 {
    status(file_system.set_index_memory(bytes))
}

/// How many bytes of memory rows and graphs take. It waits for no lock; 0 then.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_index_memory_bytes(file_system: &FileSystem) -> u64 {
    file_system.index_memory_bytes()
}

/// Lets go of the rows and the graph of the largest collection in memory of at most `bytes_max` that nobody
/// is at work on, when the kernel is short of it. It waits for no lock. Returns how many bytes that was, or
/// -1 if whoever is at work on such a collection gives up soon, which is when it is `pressing`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_release_index_memory(
    file_system: &FileSystem,
    bytes_max: u64,
    pressing: bool,
) -> i64 {
    match file_system.release_index_memory(bytes_max, pressing) {
        Released::Nothing => 0,
        Released::Bytes(bytes) => bytes as i64,
        Released::Soon => -1,
    }
}
