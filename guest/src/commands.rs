// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The commands of uapi/vexfs.h as the tests give them, by ioctl.

use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};
use vexfs_uapi::{
    Collection, CollectionCreate, CollectionMaintain, Command, Hit, Paths, Put, Rows, Search,
    Vector,
};
use zerocopy::FromZeros;

/// Gives a command as it is, with the number given.
///
/// # Safety
/// `pointer` may be anything that the kernel can take; what it writes there, or where the structure
/// there leads to, must be nothing that Rust knows of.
pub unsafe fn give_raw(file: impl AsFd, number: u32, pointer: u64) -> Result<(), Errno> {
    // SAFETY: the caller's word.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), number as _, pointer) };
    if result == -1 {
        return Err(Errno::from_raw_os_error(
            std::io::Error::last_os_error().raw_os_error().expect("an errno"),
        ));
    }
    assert_eq!(result, 0, "what command {number:#x} returns");
    Ok(())
}

/// Gives a command.
///
/// # Safety
/// Each address in it is that of as much room as it says.
pub unsafe fn give<C: Command>(file: impl AsFd, command: &mut C) -> Result<(), Errno> {
    // SAFETY: the command is borrowed for writing; the caller's word on where it leads to.
    unsafe { give_raw(file, C::NUMBER, std::ptr::from_mut(command) as u64) }
}

/// A string in a field of 256 bytes.
pub fn padded(text: &str) -> [u8; 256] {
    let mut field = [0; 256];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

/// Makes a collection of this shape and returns its number.
pub fn create_collection(file: impl AsFd, name: &str, shape: (u8, u8, u32)) -> u32 {
    let mut command = CollectionCreate::new();
    command.collection.name = padded(name);
    command.collection.element = shape.0;
    command.collection.metric = shape.1;
    command.collection.dimension = shape.2;
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command) }.expect("a new collection");
    let Collection { number, .. } = command.collection;
    assert!(number > 0);
    number
}

/// Brings a collection's graph up to date.
pub fn maintain(file: impl AsFd, number: u32) {
    let mut command = CollectionMaintain { number, ..CollectionMaintain::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command) }.expect("maintenance");
    assert_eq!(command.left, 0, "vectors that are not in the graph");
}

/// Stores vectors whose components are in `data`.
pub fn put(
    file: impl AsFd,
    collection: u32,
    vectors: &[Vector],
    data: &[u8],
) -> Result<Put, Errno> {
    let mut command = Put {
        collection,
        count: vectors.len() as u32,
        vectors: vectors.as_ptr() as u64,
        data: data.as_ptr() as u64,
        data_bytes: data.len() as u64,
        ..Put::new()
    };
    // SAFETY: the addresses are those of `count` vectors and `data_bytes` bytes, which are read.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

/// What a search found.
#[derive(Debug)]
pub struct Answer {
    pub told: Search,
    pub hits: Vec<Hit>,
    /// The vectors of the hits, one after another, if they were asked for.
    pub vectors: Vec<u8>,
}

/// Room and place for a search, as it goes to the kernel.
pub struct Question {
    pub command: Search,
    hits: Vec<Hit>,
    vectors: Vec<u8>,
}

impl Question {
    /// `wanted` with the places of the queries, of the suffix and of room for the hits, and for their
    /// vectors of `vector_bytes` each unless that is 0. It must not outlive the queries and the suffix.
    pub fn new(wanted: Search, queries: &[u8], suffix: &[u8], vector_bytes: usize) -> Self {
        let room = wanted.hits_max as usize;
        let mut hits = vec![Hit::new_zeroed(); room];
        let mut vectors = vec![0u8; room * vector_bytes];
        let command = Search {
            queries: queries.as_ptr() as u64,
            queries_bytes: queries.len() as u64,
            suffix: suffix.as_ptr() as u64,
            suffix_bytes: suffix.len() as u32,
            hits: hits.as_mut_ptr() as u64,
            vectors: if vector_bytes == 0 { 0 } else { vectors.as_mut_ptr() as u64 },
            ..wanted
        };
        Self { command, hits, vectors }
    }

    /// The answer, once the kernel has filled it in.
    pub fn answer(self, vector_bytes: usize) -> Answer {
        let Self { command, mut hits, mut vectors } = self;
        hits.truncate(command.hits_count as usize);
        vectors.truncate(hits.len() * vector_bytes);
        Answer { told: command, hits, vectors }
    }
}

/// Answers `wanted`, which holds all but places; `hits_max` says how many hits there is room for.
pub fn search(
    directory: impl AsFd,
    wanted: Search,
    queries: &[u8],
    suffix: &[u8],
    vector_bytes: usize,
) -> Result<Answer, Errno> {
    let mut question = Question::new(wanted, queries, suffix, vector_bytes);
    // SAFETY: the question leads to room of its own, and to queries and suffix, which are read.
    unsafe { give(directory, &mut question.command)? };
    Ok(question.answer(vector_bytes))
}

/// The rows of a collection from `from` on, at most `most`: what is told, and each vector and file.
pub fn rows(
    directory: impl AsFd,
    collection: u32,
    from: u32,
    most: usize,
) -> Result<(Rows, Vec<(Vector, u64)>), Errno> {
    let mut vectors = vec![Vector::new_zeroed(); most];
    let mut inodes = vec![0u64; most];
    let mut command = Rows {
        collection,
        from,
        vectors: vectors.as_mut_ptr() as u64,
        inodes: inodes.as_mut_ptr() as u64,
        count: most as u32,
        ..Rows::new()
    };
    // SAFETY: the addresses are those of `count` vectors and numbers, borrowed for writing.
    unsafe { give(directory, &mut command)? };
    let count = command.count as usize;
    Ok((command, vectors.into_iter().zip(inodes).take(count).collect()))
}

/// The paths of an inode below a directory.
pub fn paths(directory: impl AsFd, inode: u64, generation: u64) -> Result<Vec<String>, Errno> {
    let (told, more) = some_paths(directory, inode, generation, 0, 65_536)?;
    assert!(!more, "more than {} paths", told.len());
    Ok(told)
}

/// The paths of an inode below a directory but for the first ones, as many as fit in so many bytes, and
/// whether there are others.
pub fn some_paths(
    directory: impl AsFd,
    inode: u64,
    generation: u64,
    skip: u32,
    bytes: usize,
) -> Result<(Vec<String>, bool), Errno> {
    let mut room = vec![0u8; bytes];
    let mut command = Paths {
        inode,
        generation,
        skip,
        paths: room.as_mut_ptr() as u64,
        bytes: room.len() as u32,
        ..Paths::new()
    };
    // SAFETY: the address is that of `bytes` bytes, borrowed for writing.
    unsafe { give(directory, &mut command)? };
    let told = &room[..command.bytes as usize];
    let paths: Vec<String> = told
        .split_inclusive(|byte| *byte == 0)
        .map(|path| CStr::from_bytes_with_nul(path).expect("a path that is ended"))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    assert_eq!(paths.len(), command.count as usize);
    Ok((paths, command.more != 0))
}
