// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The rows of the files below a directory, found by walking down from it, when they are few.

use crate::collection::Collection;
use crate::directory::decode_entry;
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::filter::Judge;
use crate::inode::{Inode, MODE_DIRECTORY, MODE_FILE};
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::rights::Want;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, sort_by};

/// Entries that the walk looks at.
pub(crate) const SCOPE_ENTRIES_MAX: usize = 4096;
/// Rows that it collects.
const SCOPE_ROWS_MAX: usize = 1 << 16;

/// What a walk needs; its memory is used again.
#[derive(Default)]
pub(crate) struct Walk {
    directories: Vec<u64>,
    files: Vec<u64>,
    /// The rows that were found, ascending.
    pub rows: Vec<u32>,
}

impl Walk {
    /// Collects the rows of the files below `scope` into `rows`. False when there are too many
    /// entries or rows to go on.
    pub fn run(
        &mut self,
        fs: &FileSystem,
        collection: &Collection,
        judge: &mut Judge<'_>,
        scope: u64,
    ) -> Result<bool> {
        let Self { directories, files, rows } = self;
        directories.clear();
        files.clear();
        rows.clear();
        directories.try_push(scope)?;
        let mut entries = 0;
        while let Some(directory) = directories.pop() {
            let tree = fs.reader();
            let inode = match Inode::load(&tree, directory) {
                Ok(inode) => inode,
                // Removed meanwhile.
                Err(Error::Stale) if directory != scope => continue,
                Err(error) => return Err(error),
            };
            let open = match judge.credentials() {
                Some(credentials) => credentials.may(&tree, directory, &inode, Want::Search)?,
                None => true,
            };
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
        for file in files.iter() {
            let tree = fs.reader();
            let (from, to) =
                (collection.vector_key(*file, 0), collection.vector_key(*file, u32::MAX));
            tree.scan(from, to, |key, item| {
                rows.try_push(crate::vector::decode_vector(key, item)?)?;
                Ok(rows.len() <= SCOPE_ROWS_MAX)
            })?;
            if rows.len() > SCOPE_ROWS_MAX {
                return Ok(false);
            }
        }
        sort_by(rows, |a, b| a < b);
        Ok(true)
    }
}
