// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Lists of vectors: those of a file, and those of a collection.

use crate::collection::Collection;
use crate::collection_memory::{decode_row, go_on};
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::Inode;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::vector::{VectorInfo, decode_vector, row_layout};
use vexfs_index::{Executor, ROWS_MAX};
use vexfs_memory::Shared;

/// Vectors of a file that are listed before others may change the tree.
const LIST_VECTORS: usize = 1024;

impl FileSystem {
    /// Calls `each` with the file's vectors, in the order of (collection, chunk), until it returns
    /// false. It runs under the tree's lock and must not call the file system. Those that are put or
    /// removed meanwhile may be missed.
    ///
    /// Errors: `Interrupted`, which is looked at between some and some of them.
    pub fn vectors_of(
        &self,
        inode: u64,
        executor: &dyn Executor,
        each: &mut dyn FnMut(&VectorInfo) -> bool,
    ) -> Result<()> {
        let all = self.all_collections()?;
        let mut from = Some(0);
        while let Some(first) = from {
            go_on(executor)?;
            from = self.some_vectors_of(inode, first, &all, each)?;
        }
        Ok(())
    }

    /// Calls `each` with some of the file's vectors, from this place on. Returns where to go on.
    fn some_vectors_of(
        &self,
        inode: u64,
        first: u64,
        all: &[Shared<Collection>],
        each: &mut dyn FnMut(&VectorInfo) -> bool,
    ) -> Result<Option<u64>> {
        let tree = self.reader();
        let version = Inode::load(&tree, inode)?.content_version;
        let (from, to) =
            (Key::new(inode, Kind::Vector, first), Key::new(inode, Kind::Vector, OFFSET_MAX));
        let mut current: Option<&Shared<Collection>> = None;
        let (mut passed, mut next) = (0, None);
        tree.scan(from, to, |key, item| {
            if passed == LIST_VECTORS {
                next = Some(key.offset());
                return Ok(false);
            }
            passed += 1;
            let number = (key.offset() >> 32) as u32;
            if current.is_none_or(|collection| collection.schema.number != number) {
                current = all.iter().find(|collection| collection.schema.number == number);
            }
            // One that is being dropped is gone already.
            let Some(collection) = current else { return Ok(true) };
            let row = decode_vector(key, item)?;
            let layout = row_layout(&tree, collection, row)?;
            Ok(each(&VectorInfo::new(number, row, &layout, version)))
        })?;
        Ok(next)
    }

    /// Calls `each` with the collection's vectors from row `from` on, in the order of rows, until
    /// it returns false. It runs under the tree's lock and must not call the file system.
    pub fn rows_of(
        &self,
        collection: u32,
        from: u32,
        each: &mut dyn FnMut(&VectorInfo) -> bool,
    ) -> Result<()> {
        let collection = self.find_collection(collection)?;
        let object = collection.schema.object;
        let tree = self.reader();
        let last = Key::new(object, Kind::Row, u64::from(ROWS_MAX) - 1);
        tree.scan(collection.row_key(from), last, |key, item| {
            let layout = decode_row(object, item)?;
            let version = match Inode::load(&tree, layout.inode.get()) {
                Ok(inode) => inode.content_version,
                Err(Error::Stale) => return Err(corrupt(object, "row of a file that is gone")),
                Err(error) => return Err(error),
            };
            let row = key.offset() as u32;
            Ok(each(&VectorInfo::new(collection.schema.number, row, &layout, version)))
        })
    }
}
