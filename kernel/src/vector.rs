// SPDX-License-Identifier: GPL-2.0-only
//! The vectors of files: putting, getting, removing and listing them.

use crate::boundary::{bytes, bytes_mut, copy_out, deliver, status};
use crate::executor::InterruptibleExecutor;
use alloc::vec::Vec;
use core::ffi::c_void;
use vexfs_core::{Error, FileSystem, PutReport, Result, VectorInfo, VectorPut};
use vexfs_memory::TryVec;

/// A vector to put, with a layout that C can declare.
#[repr(C)]
pub struct Put {
    /// The vector, as long as the collection's shape says.
    pub vector: *const u8,
    /// Bytes of the vector.
    pub vector_bytes: usize,
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The file's content version that it was made from, or 0 for the present one.
    pub content_version: u64,
    /// The user's tag.
    pub tag: u64,
    /// The user's digest of the passage; zeros when there is none.
    pub digest: [u8; 16],
    /// Chunk of the file.
    pub chunk: u32,
    /// Zero.
    pub reserved: u32,
}

impl Put {
    /// # Safety
    /// `vector` points to `vector_bytes` bytes.
    unsafe fn vector(&self) -> VectorPut<'_> {
        VectorPut {
            chunk: self.chunk,
            offset: self.offset,
            length: self.length,
            content_version: (self.content_version != 0).then_some(self.content_version),
            tag: self.tag,
            digest: self.digest,
            // SAFETY: the caller's word.
            bytes: unsafe { bytes(self.vector, self.vector_bytes) },
        }
    }
}

/// What a put did, with a layout that C can declare.
#[repr(C)]
pub struct PutOutcome {
    /// Vectors stored.
    pub stored: u64,
    /// Of these, vectors that replaced one.
    pub replaced: u64,
    /// Of these, vectors made from bytes that the file no longer has.
    pub stale: u64,
    /// The file's content version.
    pub content_version: u64,
}

impl From<PutReport> for PutOutcome {
    fn from(report: PutReport) -> Self {
        let PutReport { stored, replaced, stale, content_version } = report;
        Self { stored, replaced, stale, content_version }
    }
}

/// Puts vectors of a file into a collection.
///
/// # Safety
/// `puts` points to `count` puts, each of whose vectors is as long as it says; `outcome` may be
/// written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_vectors_put(
    file_system: &FileSystem,
    collection: u32,
    inode: u64,
    puts: *const Put,
    count: usize,
    outcome: *mut PutOutcome,
) -> i32 {
    // SAFETY: the caller's word.
    let puts = if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(puts, count) } };
    // SAFETY: the caller's word.
    let result = unsafe { put(file_system, collection, inode, puts) };
    // SAFETY: the caller's word.
    unsafe { deliver(result.map(PutOutcome::from), outcome) }
}

/// # Safety
/// Each vector of `puts` is as long as it says.
unsafe fn put(
    file_system: &FileSystem,
    collection: u32,
    inode: u64,
    puts: &[Put],
) -> Result<PutReport> {
    let mut vectors = Vec::new();
    for put in puts {
        // SAFETY: the caller's word.
        vectors.try_push(unsafe { put.vector() })?;
    }
    file_system.put_vectors(collection, inode, &vectors)
}

/// What is known of a stored vector, with a layout that C can declare.
#[repr(C)]
pub struct Vector {
    /// The file.
    pub inode: u64,
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The file's content version that it was made from.
    pub content_version: u64,
    /// The user's tag.
    pub tag: u64,
    /// Place of its put in the order of the collection's puts.
    pub sequence: u64,
    /// The user's digest.
    pub digest: [u8; 16],
    /// The collection.
    pub collection: u32,
    /// Chunk of the file.
    pub chunk: u32,
    /// Row of the collection.
    pub row: u32,
    /// 1 if the file still has that content, else 0.
    pub fresh: u32,
}

impl From<&VectorInfo> for Vector {
    fn from(info: &VectorInfo) -> Self {
        Self {
            inode: info.inode,
            offset: info.offset,
            length: info.length,
            content_version: info.content_version,
            tag: info.tag,
            sequence: info.sequence,
            digest: info.digest,
            collection: info.collection,
            chunk: info.chunk,
            row: info.row,
            fresh: u32::from(info.fresh),
        }
    }
}

/// Leaves `-EBADMSG` to a vector that is damaged, which is nobody else's matter: damage in what leads to it
/// is `-EUCLEAN`.
fn tell_apart(error: Error) -> Error {
    match error {
        Error::Checksum { block } => Error::Corrupt { place: block, what: "checksum" },
        error => error,
    }
}

/// Copies the bytes of a found vector out and tells what is known of it.
fn hand_out(found: Result<(VectorInfo, Vec<u8>)>, buffer: &mut [u8]) -> Result<Vector> {
    let (info, vector) = found.map_err(tell_apart)?;
    copy_out(&vector, buffer)?;
    Ok(Vector::from(&info))
}

/// Copies the vector of a chunk to `buffer` and tells what is known of it; `-ERANGE` if it does not
/// fit.
///
/// # Safety
/// `buffer` has `buffer_bytes` writable bytes; `vector` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_vector_get(
    file_system: &FileSystem,
    collection: u32,
    inode: u64,
    chunk: u32,
    buffer: *mut u8,
    buffer_bytes: usize,
    vector: *mut Vector,
) -> i32 {
    let found = file_system.get_vector(collection, inode, chunk);
    // SAFETY: the caller's word.
    unsafe { deliver(hand_out(found, bytes_mut(buffer, buffer_bytes)), vector) }
}

/// Finds a vector that was put with this digest. Whether the caller may read its file is to be
/// asked before it is told.
///
/// # Safety
/// `buffer` has `buffer_bytes` writable bytes; `vector` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_vector_by_digest(
    file_system: &FileSystem,
    collection: u32,
    digest: &[u8; 16],
    buffer: *mut u8,
    buffer_bytes: usize,
    vector: *mut Vector,
) -> i32 {
    let found = file_system.find_by_digest(collection, digest);
    // SAFETY: the caller's word.
    unsafe { deliver(hand_out(found, bytes_mut(buffer, buffer_bytes)), vector) }
}

/// Removes the vectors of chunks `first` to `last` and writes how many there were.
///
/// # Safety
/// `removed` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_vectors_remove(
    file_system: &FileSystem,
    collection: u32,
    inode: u64,
    first: u32,
    last: u32,
    removed: *mut u64,
) -> i32 {
    let executor = InterruptibleExecutor::default();
    let result = file_system.remove_vectors(collection, inode, first..=last, &executor);
    // SAFETY: the caller's word.
    unsafe { deliver(result, removed) }
}

/// Takes a vector from the core; a false answer ends the listing.
pub type EachVector = extern "C" fn(context: *mut c_void, vector: &Vector) -> bool;

/// Calls `each` with the vectors of a file. It must not call the file system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_vectors_of(
    file_system: &FileSystem,
    inode: u64,
    each: EachVector,
    context: *mut c_void,
) -> i32 {
    let executor = InterruptibleExecutor::default();
    status(file_system.vectors_of(inode, &executor, &mut |info| each(context, &Vector::from(info))))
}

/// Calls `each` with the vectors of a collection from row `from` on. It must not call the file
/// system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_rows_of(
    file_system: &FileSystem,
    collection: u32,
    from: u32,
    each: EachVector,
    context: *mut c_void,
) -> i32 {
    status(file_system.rows_of(collection, from, &mut |info| each(context, &Vector::from(info))))
}

/// Gives file `to` the vectors of file `from` and writes how many there are.
///
/// # Safety
/// `cloned` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_vectors_clone(
    file_system: &FileSystem,
    from: u64,
    to: u64,
    cloned: *mut u64,
) -> i32 {
    // SAFETY: the caller's word.
    unsafe { deliver(file_system.clone_vectors(from, to).map_err(tell_apart), cloned) }
}
