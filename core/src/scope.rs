// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The files below a directory, found by walking down from it, and their rows, when they are few.

use crate::collection::Collection;
use crate::collection_memory::{Memory, RowInfo, go_on};
use crate::directory::decode_entry;
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::filter::Judge;
use crate::inode::{Inode, MODE_DIRECTORY, MODE_FILE};
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::rights::Want;
use alloc::vec::Vec;
use vexfs_index::Executor;
use vexfs_memory::{TryVec, sort_by};

/// Entries that the walk looks at.
pub(crate) const SCOPE_ENTRIES_MAX: usize = 4096;
/// A row of a file below the scope.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListedRow {
    pub row: u32,
    pub inode: u64,
    pub chunk: u32,
}

/// What a walk needs; its memory is used again.
#[derive(Default)]
pub(crate) struct Walk {
    directories: Vec<u64>,
    files: Vec<u64>,
    /// The rows that were found, ascending.
    pub rows: Vec<ListedRow>,
}

impl Walk {
    /// Bytes that are allocated.
    pub fn memory_bytes(&self) -> usize {
        (self.directories.capacity() + self.files.capacity()) * size_of::<u64>()
            + self.rows.capacity() * size_of::<ListedRow>()
    }

    /// Finds the files below `scope`. False when there are too many entries to go on.
    pub fn run(
        &mut self,
        fs: &FileSystem,
        judge: &mut Judge<'_>,
        scope: u64,
        executor: &dyn Executor,
    ) -> Result<bool> {
        let Self { directories, files, .. } = self;
        directories.clear();
        files.clear();
        directories.try_push(scope)?;
        let mut entries = 0;
        while let Some(directory) = directories.pop() {
            go_on(executor)?;
            let mut tree = fs.reader();
            let inode = match Inode::load(&tree, directory) {
                Ok(inode) => inode,
                // Removed meanwhile.
                Err(Error::Stale) if directory != scope => continue,
                Err(error) => return Err(error),
            };
            let caller = judge.caller();
            let mut open = caller.may(&tree, directory, &inode, Want::Search)?;
            if open && caller.monitor.is_some() {
                drop(tree);
                open = caller.is_let(directory, Want::Search)?;
                tree = fs.reader();
            }
            judge.findings.reach.note(directory, open)?;
            if !open {
                continue;
            }
            let (from, to) =
                (Key::new(directory, Kind::Entry, 0), Key::new(directory, Kind::Entry, OFFSET_MAX));
            tree.scan(from, to, |key, item| {
                entries += 1;
                let (target, _) = decode_entry(key, item)?;
                match u32::from(target.file_type) << 12 {
                    MODE_DIRECTORY => directories.try_push(target.inode)?,
                    MODE_FILE => files.try_push(target.inode)?,
                    _ => {}
                }
                Ok(entries <= SCOPE_ENTRIES_MAX)
            })?;
            if entries > SCOPE_ENTRIES_MAX {
                return Ok(false);
            }
        }
        // A file with several names is there several times.
        sort_by(files, |a, b| a < b);
        files.dedup();
        Ok(true)
    }

    /// Collects the rows that the files have now. False when they are more than `most`.
    #[inline(never)] // its frame must not add to its caller's
    pub fn list(
        &mut self,
        fs: &FileSystem,
        collection: &Collection,
        most: usize,
        executor: &dyn Executor,
    ) -> Result<bool> {
        let Self { files, rows, .. } = self;
        rows.clear();
        for inode in files.iter().copied() {
            go_on(executor)?;
            let tree = fs.reader();
            let (from, to) =
                (collection.vector_key(inode, 0), collection.vector_key(inode, u32::MAX));
            tree.scan(from, to, |key, item| {
                let row = crate::vector::decode_vector(key, item)?;
                rows.try_push(ListedRow { row, inode, chunk: key.offset() as u32 })?;
                Ok(rows.len() <= most)
            })?;
            if rows.len() > most {
                return Ok(false);
            }
        }
        sort_by(rows, |a, b| a < b);
        Ok(true)
    }
}

/// Which of `listed` are not in memory, or there as rows of other files.
pub(crate) fn rows_behind(memory: &Memory, listed: &[ListedRow]) -> Result<Vec<ListedRow>> {
    let mut behind = Vec::new();
    for listed in listed {
        let same = |info: &RowInfo| (info.inode, info.chunk) == (listed.inode, listed.chunk);
        if !memory.info(listed.row).is_some_and(same) {
            behind.try_push(*listed)?;
        }
    }
    Ok(behind)
}
