// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Vectors for tests: a collection, files with vectors in it, and searches.

use crate::support::{Numbers, create};
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::path::Path;
use vexfs_uapi as uapi;
use vexfs_uapi::Command;

/// Gives a command on an open file or directory.
pub fn command<T: Command>(file: &File, command: &mut T) -> Result<()> {
    // SAFETY: the command's structure, which begins with its size, lives through the call; what it
    // points to is the caller's word.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), T::NUMBER as _, std::ptr::from_mut(command).cast::<u8>())
    };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// Components of each vector, bytes.
pub const DIMENSION: usize = 1024;

/// Makes a collection of small vectors.
pub fn create_collection(top: &File, name: &str) -> u32 {
    let mut create = uapi::CollectionCreate::new();
    create.collection.dimension = DIMENSION as u32;
    create.collection.element = uapi::ELEMENT_I8;
    create.collection.metric = uapi::METRIC_L2;
    create.collection.name[..name.len()].copy_from_slice(name.as_bytes());
    command(top, &mut create).expect("a collection");
    create.collection.number
}

/// So many vectors that look random, one after another.
pub fn vectors(seed: u64, count: usize) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    (0..count * DIMENSION).map(|_| numbers.below(256) as u8).collect()
}

/// Makes a file with these vectors.
pub fn put(path: &Path, collection: u32, data: &[u8]) {
    let file = create(path);
    let count = data.len() / DIMENSION;
    for (lot, bytes) in data.chunks(4096 * DIMENSION).enumerate() {
        let mut described: Vec<uapi::Vector> = Vec::new();
        for chunk in 0..bytes.len() / DIMENSION {
            let mut vector: uapi::Vector = zerocopy::FromZeros::new_zeroed();
            vector.chunk = (lot * 4096 + chunk) as u32;
            described.push(vector);
        }
        let mut put = uapi::Put::new();
        put.collection = collection;
        put.count = described.len() as u32;
        put.vectors = described.as_ptr() as u64;
        put.data = bytes.as_ptr() as u64;
        put.data_bytes = bytes.len() as u64;
        command(&file, &mut put).expect("vectors are put");
        assert_eq!(put.stored, described.len() as u64);
    }
    assert_eq!(count * DIMENSION, data.len());
}

/// The nearest of each query, and what the search says of itself.
pub fn search(
    top: &File,
    collection: u32,
    queries: &[u8],
    flags: u32,
) -> Result<(Vec<uapi::Hit>, uapi::Search)> {
    let count = queries.len() / DIMENSION;
    let mut hits = vec![<uapi::Hit as zerocopy::FromZeros>::new_zeroed(); count];
    let mut search = uapi::Search::new();
    search.collection = collection;
    search.flags = flags;
    search.k = 1;
    search.queries = queries.as_ptr() as u64;
    search.queries_bytes = queries.len() as u64;
    search.hits = hits.as_mut_ptr() as u64;
    search.hits_max = count as u32;
    command(top, &mut search)?;
    hits.truncate(search.hits_count as usize);
    Ok((hits, search))
}
