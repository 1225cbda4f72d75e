// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The vectors that the tests give their files, and the ioctls for them.

use crate::support::Numbers;
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use vexfs_uapi as uapi;
use vexfs_uapi::Command;

/// Components of a vector.
pub const DIMENSION: usize = 16;
/// Its bytes.
pub const VECTOR_BYTES: usize = DIMENSION * 4;
/// The collection's name.
const NAME: &[u8] = b"stress";

const BLANK: uapi::Vector = uapi::Vector {
    offset: 0,
    length: 0,
    content_version: 0,
    tag: 0,
    digest: [0; 16],
    sequence: 0,
    collection: 0,
    chunk: 0,
    fresh: 0,
    reserved: 0,
};

fn give<C: Command>(file: &File, command: &mut C) -> Result<()> {
    // SAFETY: the command is of the structure that its number stands for, and the addresses in it are
    // those of as many bytes as it says, by those who call this below.
    let result =
        unsafe { libc::ioctl(file.as_raw_fd(), C::NUMBER as _, std::ptr::from_mut(command)) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

/// The vector of a version's chunk.
pub fn vector(version: u64, chunk: u32) -> Vec<u8> {
    let mut numbers = Numbers((version * 64 + u64::from(chunk)).wrapping_mul(0x9e37_79b9) | 1);
    let component = |_| ((numbers.below(2_000_001) as f32) / 1e6 - 1.0).to_le_bytes();
    (0..DIMENSION).flat_map(component).collect()
}

/// How many vectors a file has.
pub const CHUNKS: u32 = 3;

/// The number of the collection, which is made if it is not there.
pub fn collection(directory: &File) -> Result<u32> {
    let mut show = uapi::CollectionShow::new();
    show.collection.name[..NAME.len()].copy_from_slice(NAME);
    let wanted = uapi::Collection {
        dimension: DIMENSION as u32,
        element: uapi::ELEMENT_F32,
        metric: uapi::METRIC_L2,
        ..show.collection
    };
    match give(directory, &mut show) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            let mut create =
                uapi::CollectionCreate { collection: wanted, ..uapi::CollectionCreate::new() };
            give(directory, &mut create)?;
            Ok(create.collection.number)
        }
        result => result.map(|()| show.collection.number),
    }
}

/// What the kernel tells of the collection.
pub fn show(directory: &File, number: u32) -> Result<uapi::Collection> {
    let mut show = uapi::CollectionShow::new();
    show.collection.number = number;
    give(directory, &mut show)?;
    Ok(show.collection)
}

/// Has the graph brought up to the vectors.
pub fn maintain(directory: &File, number: u32) -> Result<()> {
    give(directory, &mut uapi::CollectionMaintain { number, ..uapi::CollectionMaintain::new() })
}

/// Stores the vectors of a version, tagged with it.
pub fn put(file: &File, collection: u32, version: u64) -> Result<()> {
    let (mut vectors, mut data) = (Vec::new(), Vec::new());
    for chunk in 0..CHUNKS {
        data.extend(vector(version, chunk));
        vectors.push(uapi::Vector { tag: version, chunk, ..BLANK });
    }
    let mut command = uapi::Put {
        collection,
        count: vectors.len() as u32,
        vectors: vectors.as_ptr() as u64,
        data: data.as_ptr() as u64,
        data_bytes: data.len() as u64,
        ..uapi::Put::new()
    };
    give(file, &mut command)
}

/// The vectors of a file.
pub fn list(file: &File) -> Result<Vec<uapi::Vector>> {
    let mut room = Vec::new();
    loop {
        let mut command = uapi::List {
            vectors: room.as_mut_ptr() as u64,
            count: room.len() as u32,
            ..uapi::List::new()
        };
        give(file, &mut command)?;
        if command.total as usize <= room.len() {
            room.truncate(command.total as usize);
            return Ok(room);
        }
        room.resize(command.total as usize, BLANK);
    }
}

/// The components of a file's vector.
pub fn get(file: &File, collection: u32, chunk: u32) -> Result<Vec<u8>> {
    let mut data = vec![0; VECTOR_BYTES];
    let mut command = uapi::Get {
        collection,
        chunk,
        data: data.as_mut_ptr() as u64,
        data_bytes: data.len() as u64,
        ..uapi::Get::new()
    };
    give(file, &mut command)?;
    data.truncate(command.data_bytes as usize);
    Ok(data)
}

/// An answer: the command as it came back, and the hits.
pub type Answer = (uapi::Search, Vec<uapi::Hit>);

/// Finds the `k` nearest below a directory; `flags` as `VEXFS_SEARCH_`.
pub fn search(
    directory: &File,
    collection: u32,
    query: &[u8],
    k: u32,
    flags: u32,
) -> Result<Answer> {
    let blank = uapi::Hit {
        inode: 0,
        generation: 0,
        offset: 0,
        length: 0,
        content_version: 0,
        tag: 0,
        query: 0,
        distance: 0,
        chunk: 0,
        fresh: 0,
    };
    let mut hits = vec![blank; k as usize];
    let mut command = uapi::Search {
        flags,
        collection,
        k,
        queries: query.as_ptr() as u64,
        queries_bytes: query.len() as u64,
        hits: hits.as_mut_ptr() as u64,
        hits_max: k,
        ..uapi::Search::new()
    };
    give(directory, &mut command)?;
    hits.truncate(command.hits_count as usize);
    Ok((command, hits))
}
