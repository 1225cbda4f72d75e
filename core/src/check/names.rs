// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a user calls the objects that findings are about: paths and names of collections.

use super::finding::Finding;
use crate::collection::decode;
use crate::directory::decode_entry;
use crate::error::Result;
use crate::filesystem::{FileSystem, OpenOptions};
use crate::host::Host;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::{CollectionNameLayout, ROOT_INODE};
use crate::rights::Caller;
use alloc::vec::Vec;
use vexfs_index::Serial;
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// A collection with the objects that belong to it.
struct Named {
    number: u32,
    object: u64,
    rows_object: u64,
    graph_object: u64,
    name: Vec<u8>,
}

/// Finds names, as far as the tree can be read.
pub struct Names {
    fs: FileSystem,
    collections: Vec<Named>,
}

/// What the object of a finding is called. What cannot be found out is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ObjectName {
    /// The first path of the file or directory, or of the file that a row belongs to.
    pub path: Option<Vec<u8>>,
    /// The collection that a vector, a row or a stream of bytes belongs to.
    pub collection: Option<Vec<u8>>,
}

impl Names {
    /// Looks at the newest state on the device. Nothing is written.
    ///
    /// Errors: as for [`FileSystem::open`]; `OutOfMemory`. A list of collections that cannot be
    /// read is no error.
    #[inline(never)]
    pub fn open(host: Host) -> Result<Self> {
        let options =
            OpenOptions { read_only: true, cache_bytes: 1 << 20, ..OpenOptions::default() };
        let fs = FileSystem::open(host, &options)?;
        let mut objects: Vec<u64> = Vec::new();
        let (from, to) =
            (Key::new(0, Kind::CollectionName, 0), Key::new(0, Kind::CollectionName, OFFSET_MAX));
        let listed = fs.reader().scan(from, to, |_, item| {
            if let Ok((head, _)) = CollectionNameLayout::ref_from_prefix(item) {
                objects.try_push(head.object.get())?;
            }
            Ok(true)
        });
        if let Err(error @ crate::error::Error::OutOfMemory) = listed {
            return Err(error);
        }
        let mut collections: Vec<Named> = Vec::new();
        for object in objects {
            let named = {
                let tree = fs.reader();
                let item = tree.get(Key::new(object, Kind::Collection, 0));
                item.ok().flatten().and_then(|item| decode(object, &item).ok())
            };
            let Some((schema, counts)) = named else { continue };
            let mut name: Vec<u8> = Vec::new();
            name.try_extend(&schema.name)?;
            collections.try_push(Named {
                number: schema.number,
                object,
                rows_object: schema.rows_object,
                graph_object: counts.graph_object,
                name,
            })?;
        }
        Ok(Self { fs, collections })
    }

    /// What the object of `finding` is called.
    ///
    /// Errors: `OutOfMemory`.
    pub fn of(&self, finding: &Finding) -> Result<ObjectName> {
        let place = &finding.place;
        let mut name = ObjectName::default();
        if place.object == 0 {
            return Ok(name);
        }
        let kind = Kind::from_number(place.kind);
        let number = (place.offset >> 32) as u32;
        let collection = self.collections.iter().find(|named| match kind {
            Some(Kind::Vector) => named.number == number,
            _ => [named.object, named.rows_object, named.graph_object].contains(&place.object),
        });
        if let Some(named) = collection {
            let mut copied: Vec<u8> = Vec::new();
            copied.try_extend(&named.name)?;
            name.collection = Some(copied);
        }
        let inode = if kind == Some(Kind::Row) { place.found } else { place.object };
        name.path = self.path(inode)?;
        if kind == Some(Kind::Entry)
            && let Some(path) = &mut name.path
        {
            self.add_entry(path, Key::new(place.object, Kind::Entry, place.offset))?;
        }
        Ok(name)
    }

    fn path(&self, inode: u64) -> Result<Option<Vec<u8>>> {
        let found = self.path_by_inode(inode)?;
        if found.is_some() {
            return Ok(found);
        }
        // The inode cannot be read, but perhaps a link to its entry can.
        let link = crate::link::first(&self.fs.reader(), inode);
        let Ok(Some((parent, cookie))) = link else { return Ok(None) };
        let mut path = self.path_by_inode(parent)?;
        if let Some(path) = &mut path {
            self.add_entry(path, Key::new(parent, Kind::Entry, cookie))?;
        }
        Ok(path)
    }

    fn path_by_inode(&self, inode: u64) -> Result<Option<Vec<u8>>> {
        let mut found: Option<Vec<u8>> = None;
        let mut failed = Ok(());
        // Links or directories on the way that cannot be read leave it without a path.
        let _ = self.fs.paths(inode, ROOT_INODE, Caller::default(), &Serial, &mut |path| {
            let mut copied: Vec<u8> = Vec::new();
            failed = copied.try_extend(path);
            found = Some(copied);
            false
        });
        failed?;
        Ok(found)
    }

    /// Appends the name of the entry under `key` to the path of its directory.
    fn add_entry(&self, path: &mut Vec<u8>, key: Key) -> Result<()> {
        let tree = self.fs.reader();
        let Ok(Some(item)) = tree.get(key) else { return Ok(()) };
        if let Ok((_, name)) = decode_entry(key, &item) {
            if path.last() != Some(&b'/') {
                path.try_push(b'/')?;
            }
            path.try_extend(name)?;
        }
        Ok(())
    }
}
