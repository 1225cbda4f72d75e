// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The ioctls of a mounted VexFS as safe functions. `uapi/vexfs.h` says what each does and how it
//! fails. They are for regular files and directories: on those of other file systems they are
//! `ENOTTY`.

use rustix::io::Result;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use std::ffi::c_void;
use std::os::fd::AsFd;
use vexfs_uapi::{
    Collection, CollectionCreate, CollectionDrop, CollectionList, CollectionMaintain,
    CollectionShow, Command, Get, Hit, Info, List, Paths, Put, Remove, Rows, Search, Vector,
};

struct Call<'a, C>(&'a mut C);

// SAFETY: the number is that of the command, which reads and writes a `C` at the pointer; any bytes
// are a `C`.
unsafe impl<C: Command> Ioctl for Call<'_, C> {
    type Output = ();

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        C::NUMBER as Opcode
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> Result<()> {
        Ok(())
    }
}

/// Gives a command.
///
/// # Safety
/// Each address in it is that of as many bytes as it says, which may be read, and written where the
/// command fills them in.
unsafe fn give<C: Command>(file: impl AsFd, command: &mut C) -> Result<()> {
    // SAFETY: the caller's word on the addresses; `Call` has its own.
    unsafe { rustix::ioctl::ioctl(file, Call(command)) }
}

fn address<T>(room: &[T]) -> u64 {
    room.as_ptr() as u64
}

fn address_mut<T>(room: &mut [T]) -> u64 {
    room.as_mut_ptr() as u64
}

/// A length; the kernel takes no more than fits.
fn count<T>(room: &[T]) -> u32 {
    u32::try_from(room.len()).unwrap_or(u32::MAX)
}

pub fn info(file: impl AsFd) -> Result<Info> {
    let mut command = Info::new();
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

pub fn create_collection(file: impl AsFd, collection: Collection) -> Result<Collection> {
    let mut command = CollectionCreate { collection, ..CollectionCreate::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command)? };
    Ok(command.collection)
}

/// Fills `room` from its beginning with collections of numbers above `after`.
pub fn list_collections(
    file: impl AsFd,
    after: u32,
    room: &mut [Collection],
) -> Result<CollectionList> {
    let mut command = CollectionList {
        collections: address_mut(room),
        count: count(room),
        after,
        ..CollectionList::new()
    };
    // SAFETY: the address is that of `count` collections, borrowed for writing.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

/// Tells of the collection of `wanted`'s number, or if that is 0 of its name.
pub fn show_collection(file: impl AsFd, wanted: Collection) -> Result<Collection> {
    let mut command = CollectionShow { collection: wanted, ..CollectionShow::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command)? };
    Ok(command.collection)
}

pub fn maintain_collection(file: impl AsFd, number: u32, flags: u32) -> Result<CollectionMaintain> {
    let mut command = CollectionMaintain { flags, number, ..CollectionMaintain::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

pub fn drop_collection(file: impl AsFd, number: u32) -> Result<()> {
    let mut command = CollectionDrop { number, ..CollectionDrop::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command) }
}

/// Stores vectors, whose components are in `data`, one after another.
pub fn put(file: impl AsFd, collection: u32, vectors: &[Vector], data: &[u8]) -> Result<Put> {
    let mut command = Put {
        collection,
        count: count(vectors),
        vectors: address(vectors),
        data: address(data),
        data_bytes: data.len() as u64,
        ..Put::new()
    };
    // SAFETY: the addresses are those of `count` vectors and of `data_bytes` bytes, which are read.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

pub fn get(file: impl AsFd, collection: u32, chunk: u32, data: &mut [u8]) -> Result<Get> {
    let mut command = Get {
        collection,
        chunk,
        data: address_mut(data),
        data_bytes: data.len() as u64,
        ..Get::new()
    };
    // SAFETY: the address is that of `data_bytes` bytes, borrowed for writing.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

/// Removes the vectors of chunks `first` to `last`, and returns how many there were.
pub fn remove(file: impl AsFd, collection: u32, first: u32, last: u32) -> Result<u64> {
    let mut command = Remove { collection, first, last, ..Remove::new() };
    // SAFETY: it holds no address.
    unsafe { give(file, &mut command)? };
    Ok(command.removed)
}

/// Fills `room` from its beginning with the vectors of a file, `skip` of them left out.
pub fn list(file: impl AsFd, skip: u64, room: &mut [Vector]) -> Result<List> {
    let mut command = List { vectors: address_mut(room), count: count(room), skip, ..List::new() };
    // SAFETY: the address is that of `count` vectors, borrowed for writing.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

/// Fills `vectors` and `inodes`, which are of one length, from their beginning with what is in a
/// collection from row `from` on.
pub fn rows(
    file: impl AsFd,
    collection: u32,
    from: u32,
    vectors: &mut [Vector],
    inodes: &mut [u64],
) -> Result<Rows> {
    let mut command = Rows {
        collection,
        from,
        vectors: address_mut(vectors),
        inodes: address_mut(inodes),
        count: count(vectors).min(count(inodes)),
        ..Rows::new()
    };
    // SAFETY: the addresses are those of at least `count` vectors and numbers, borrowed for writing.
    unsafe { give(file, &mut command)? };
    Ok(command)
}

/// Answers `wanted`, which holds all that is asked but the queries and the suffix. `hits` is filled
/// from its beginning, and tells how many are wanted at most.
pub fn search(
    directory: impl AsFd,
    wanted: Search,
    queries: &[u8],
    suffix: &[u8],
    hits: &mut [Hit],
) -> Result<Search> {
    let mut command = Search {
        queries: address(queries),
        queries_bytes: queries.len() as u64,
        suffix: address(suffix),
        suffix_bytes: count(suffix),
        hits: address_mut(hits),
        hits_max: count(hits),
        vectors: 0,
        ..wanted
    };
    // SAFETY: the addresses are those of `queries_bytes` and `suffix_bytes` bytes, which are read,
    // and of `hits_max` hits, borrowed for writing; without an address no vectors are written.
    unsafe { give(directory, &mut command)? };
    Ok(command)
}

/// Fills `room` from its beginning with the paths of an inode below a directory.
pub fn paths(directory: impl AsFd, inode: u64, skip: u32, room: &mut [u8]) -> Result<Paths> {
    let mut command =
        Paths { inode, skip, paths: address_mut(room), bytes: count(room), ..Paths::new() };
    // SAFETY: the address is that of `bytes` bytes, borrowed for writing.
    unsafe { give(directory, &mut command)? };
    Ok(command)
}
