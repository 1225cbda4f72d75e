// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The items of the tree, one object after another.

use super::finding::{Code, Place};
use super::inodes::InodeRecord;
use super::{Checker, streams::Stream};
use crate::error::Result;
use crate::inode::Inode;
use crate::key::{Key, Kind};
use crate::layout::{FIRST_OBJECT, OBJECT_MAX, OrphanLayout, ROOT_INODE};
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// What the first pass has seen of one object.
#[derive(Default)]
pub(crate) struct Object {
    pub number: u64,
    /// Its inode, if it has one that makes sense.
    pub inode: Option<Inode>,
    /// It has an inode item, sensible or not.
    pub has_inode: bool,
    pub inline_items: u64,
    pub inline_bytes: u64,
    pub extents: u64,
    /// The logical block after the last extent.
    pub extent_end: u64,
    /// The logical block after the last written extent.
    pub written_end: u64,
    /// Blocks of all extents.
    pub blocks: u64,
    pub links: u32,
    /// Sum of the hashes of its links.
    pub link_sum: u64,
    pub entries: u64,
    pub attributes: u64,
    pub vectors: u64,
    /// Number of the collection it is.
    pub collection: Option<u32>,
    pub has_collection: bool,
    pub rows: u64,
}

impl Checker<'_> {
    /// An item in the first pass.
    #[inline(never)] // the frames of the three would add up in the walk
    pub(crate) fn first_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.items += 1;
        if key.object != self.object.number {
            self.finish_object()?;
            self.object.number = key.object;
        }
        let Some(kind) = Kind::from_number(key.kind_number()) else {
            return self.find(Code::ItemUnknown, Place::key(key));
        };
        if key.object == 0 {
            return self.first_system_item(kind, key, item);
        }
        let reserved = key.object < FIRST_OBJECT && key.object != ROOT_INODE;
        if (kind as u8) < Kind::Inode as u8 || reserved || key.object > OBJECT_MAX {
            return self.find(Code::ItemMisplaced, Place::key(key));
        }
        self.object_highest = self.object_highest.max(key.object);
        // Links and vectors follow from entries and rows.
        if !matches!(kind, Kind::Link | Kind::Vector) {
            self.kept.items = self.kept.items.saturating_add(1);
        }
        match kind {
            Kind::Inode => self.inode_item(key, item),
            Kind::Link => self.link_item(key, item),
            Kind::Attribute => self.attribute_item(key, item),
            Kind::Entry => self.entry_item(key, item),
            Kind::Inline => self.inline_item(key, item),
            Kind::Extent => self.extent_item(key, item),
            Kind::Vector => self.vector_item(key, item),
            Kind::Collection => self.collection_item(key, item),
            Kind::Row => self.row_item(key, item),
            _ => self.find(Code::ItemMisplaced, Place::key(key)),
        }
    }

    fn first_system_item(&mut self, kind: Kind, key: Key, item: &[u8]) -> Result<()> {
        match kind {
            // Compared in the second pass, when it is known which blocks are in use.
            Kind::Group => Ok(()),
            Kind::Shared => self.shared_item(key, item),
            Kind::Orphan => {
                let known = (FIRST_OBJECT..self.state.next_object).contains(&key.offset());
                if OrphanLayout::ref_from_bytes(item).is_err() {
                    return self.find(Code::ItemMalformed, Place::key(key));
                }
                if !known {
                    return self.find(Code::OrphanWrong, Place::key(key));
                }
                self.sink.report.orphans += 1;
                Ok(self.orphans.try_push(key.offset())?)
            }
            Kind::CollectionName => self.collection_name_item(key, item),
            // Kept states: no feature bit that this version knows says there are any.
            Kind::Snapshot | Kind::Dead => self.find(Code::ItemUnknown, Place::key(key)),
            _ => self.find(Code::ItemMisplaced, Place::key(key)),
        }
    }

    /// Whether the object is listed to be taken apart.
    pub(crate) fn is_orphan(&self, object: u64) -> bool {
        self.orphans.binary_search(&object).is_ok()
    }

    /// The end of an object's items: judges them together.
    pub(crate) fn finish_object(&mut self) -> Result<()> {
        let object = core::mem::take(&mut *self.object);
        if object.number == 0 {
            return Ok(());
        }
        if object.has_collection {
            self.kept.vectors = self.kept.vectors.saturating_add(object.rows);
        } else {
            // Without their collection nobody can tell what they are.
            self.kept.items = self.kept.items.saturating_sub(object.rows);
            self.kept.vectors_of = self.kept.vectors_of.saturating_add(object.rows);
        }
        if object.has_inode {
            self.kept.inodes = self.kept.inodes.saturating_add(1);
            self.finish_inode(&object)?;
        } else if object.has_collection {
            let stray = object.links > 0
                || object.attributes > 0
                || object.entries > 0
                || object.inline_items > 0
                || object.extents > 0
                || object.vectors > 0;
            if stray {
                self.find(Code::ItemStray, Place::object(object.number))?;
            }
        } else {
            let stray = object.links > 0
                || object.attributes > 0
                || object.entries > 0
                || object.inline_items > 0
                || object.vectors > 0
                || object.rows > 0;
            if stray {
                self.find(Code::ItemStray, Place::object(object.number))?;
            } else if object.extents > 0 {
                let (object, end) = (object.number, object.extent_end);
                self.streams.found.try_push(Stream { object, end })?;
            }
        }
        Ok(())
    }

    /// Judges what the first pass has gathered.
    pub(crate) fn finish_first_pass(&mut self) -> Result<()> {
        let next = self.state.next_object;
        if self.object_highest >= next {
            let expected = self.object_highest.saturating_add(1);
            self.find(Code::NextObject, Place::default().with(next, expected))?;
        }
        let inodes = self.inodes.len() as u64;
        if self.complete && inodes != self.state.inodes {
            self.find(Code::InodeCount, Place::default().with(self.state.inodes, inodes))?;
        }
        let root = self.inode_record(ROOT_INODE).map(InodeRecord::is_directory);
        if root != Some(true) {
            self.find(Code::RootMissing, Place::object(ROOT_INODE))?;
        }
        self.finish_streams()?;
        self.judge_collections()
    }

    /// An item in the second pass.
    #[inline(never)] // the frames of the three would add up in the walk
    pub(crate) fn second_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        if key.object == 0 {
            return match Kind::from_number(key.kind_number()) {
                Some(Kind::Group) => self.group_item(key, item),
                _ => Ok(()),
            };
        }
        match Kind::from_number(key.kind_number()) {
            Some(Kind::Entry) => self.entry_reference(key, item),
            Some(Kind::Extent) => self.extent_data(key, item),
            Some(Kind::Row) => self.row_reference(key, item),
            _ => Ok(()),
        }
    }

    /// An item in the third pass.
    #[inline(never)] // the frames of the three would add up in the walk
    pub(crate) fn third_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        match Kind::from_number(key.kind_number()) {
            Some(Kind::Entry) => self.suspect_entry(key, item),
            Some(Kind::Link) => self.suspect_link(key, item),
            Some(Kind::Vector) => self.suspect_vector(key, item),
            Some(Kind::Row) => self.suspect_row(key, item),
            _ => Ok(()),
        }
    }
}
