// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A regular file in an image or on the machine, held open: its bytes, and on a VexFS its vectors.

use crate::error::Result;
use crate::file::File;
use crate::host_files::HostFile;
use crate::vectors::{FileVectors, FileVersion, Vector};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use vexfs_core::{CollectionInfo, PutReport, VectorPut};

/// A regular file of [`Files`](crate::Files), held open.
pub enum OpenFile<'a> {
    /// In an image.
    Image(File<'a>),
    /// On the machine.
    Host(HostFile),
}

impl OpenFile<'_> {
    /// Its inode number.
    pub fn number(&self) -> Result<u64> {
        match self {
            Self::Image(file) => Ok(file.number()),
            Self::Host(file) => file.number(),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> Result<u64> {
        match self {
            Self::Image(file) => Ok(file.inode()?.size),
            Self::Host(file) => file.len(),
        }
    }

    /// Reads from `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Image(file) => file.read_at(offset, buffer),
            Self::Host(file) => file.read_at(offset, buffer),
        }
    }

    /// Writes at `offset`; the file grows as needed.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Image(file) => file.write_at(offset, bytes),
            Self::Host(file) => file.write_at(offset, bytes),
        }
    }

    /// Cuts the file, or lets it grow by zeros that take no space.
    pub fn set_len(&self, size: u64) -> Result<()> {
        match self {
            Self::Image(file) => file.set_len(size),
            Self::Host(file) => file.set_len(size),
        }
    }

    /// The next range that may have been written, from `offset` on: where it begins and ends. On the
    /// machine it may go on behind the end of the file.
    pub fn next_data(&self, offset: u64) -> Result<Option<(u64, u64)>> {
        match self {
            Self::Image(file) => file.next_data(offset),
            Self::Host(file) => Ok(file.next_data(offset)),
        }
    }

    /// Puts a file of [`Files::stage`](crate::Files::stage) at its place. A file that is there keeps
    /// its inode, its names, owner and permissions, and gets the new bytes; its vectors become stale.
    ///
    /// Errors: those of space; `to` is then what it was.
    pub fn publish(&self, to: &Path) -> Result<()> {
        match self {
            Self::Image(file) => file.publish(to),
            Self::Host(file) => file.publish(to),
        }
    }

    /// Makes bytes and vectors of this empty file those of `source` without copying them, where that
    /// is possible; otherwise it says so.
    pub(crate) fn clone_from(&self, source: &OpenFile<'_>) -> Result<bool> {
        match (self, source) {
            (Self::Image(file), OpenFile::Image(source)) => file.clone_from(source),
            (Self::Host(file), OpenFile::Host(source)) => Ok(file.clone_from(source)),
            _ => Ok(false),
        }
    }

    /// Which of its contents it has, on a VexFS.
    pub fn version(&self) -> Result<FileVersion> {
        match self {
            Self::Image(file) => file.version(),
            Self::Host(file) => file.version(),
        }
    }

    /// What is known of its vectors, in all collections, and its version.
    pub fn vectors(&self) -> Result<FileVectors> {
        match self {
            Self::Image(file) => file.vectors(),
            Self::Host(file) => file.vectors(),
        }
    }

    /// The vector of a chunk.
    pub fn vector(&self, collection: &CollectionInfo, chunk: u32) -> Result<Vector> {
        match self {
            Self::Image(file) => file.vector(collection, chunk),
            Self::Host(file) => file.vector(collection, chunk),
        }
    }

    /// Stores vectors; the file has to be open for change.
    pub fn put_vectors(
        &self,
        collection: &CollectionInfo,
        vectors: &[VectorPut<'_>],
    ) -> Result<PutReport> {
        match self {
            Self::Image(file) => file.put_vectors(collection, vectors),
            Self::Host(file) => file.put_vectors(collection, vectors),
        }
    }

    /// Removes the vectors of these chunks and returns how many there were; the file has to be open
    /// for change.
    pub fn remove_vectors(
        &self,
        collection: &CollectionInfo,
        chunks: RangeInclusive<u32>,
    ) -> Result<u64> {
        match self {
            Self::Image(file) => file.remove_vectors(collection, chunks),
            Self::Host(file) => file.remove_vectors(collection, chunks),
        }
    }
}

impl Read for OpenFile<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Image(file) => file.read(buffer),
            Self::Host(file) => file.file.read(buffer),
        }
    }
}
