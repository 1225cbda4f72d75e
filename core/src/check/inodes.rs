// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Inodes, and the items that only they have: bytes in the tree and extended attributes.

use super::finding::{Code, Place};
use super::objects::Object;
use super::streams::Owner;
use super::{Checker, directories::Reach};
use crate::error::Result;
use crate::inode::{Inode, MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK, MODE_TYPE};
use crate::key::Key;
use crate::layout::{
    ATTRIBUTE_BYTES_MAX, AttributeLayout, INODE_ATTRIBUTES, INODE_INLINE, INODE_VECTORS,
    ROOT_INODE, TARGET_BYTES_MAX,
};
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// What is remembered of an inode.
#[derive(Clone, Copy)]
pub(crate) struct InodeRecord {
    pub number: u64,
    /// Sum of the hashes of its links less those of the entries that name it.
    pub link_balance: u64,
    /// The directory that has the entry of this directory.
    pub parent: u64,
    /// What the inode says.
    pub links: u32,
    /// Entries that name it.
    pub entries: u32,
    /// Link items.
    pub link_items: u32,
    /// Entries of this directory that name directories.
    pub subdirectories: u32,
    /// `mode >> 12`; 0 when the inode makes no sense.
    pub file_type: u8,
    pub reach: Reach,
}

impl InodeRecord {
    pub fn is_directory(&self) -> bool {
        self.file_type == (MODE_DIRECTORY >> 12) as u8
    }
}

impl Checker<'_> {
    pub(crate) fn inode_record(&self, number: u64) -> Option<&InodeRecord> {
        let at = self.inodes.binary_search_by(|record| record.number.cmp(&number)).ok()?;
        self.inodes.get(at)
    }

    pub(crate) fn inode_record_mut(&mut self, number: u64) -> Option<&mut InodeRecord> {
        let at = self.inodes.binary_search_by(|record| record.number.cmp(&number)).ok()?;
        self.inodes.get_mut(at)
    }

    pub(crate) fn inode_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.object.has_inode = true;
        if key.offset() != 0 {
            return self.find(Code::ItemMisplaced, Place::key(key));
        }
        match Inode::decode(key.object, item) {
            Ok(inode) => self.object.inode = Some(inode),
            Err(error) => self.sink.find_error(Code::InodeMalformed, Place::key(key), error)?,
        }
        Ok(())
    }

    pub(crate) fn inline_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        // Long targets of symbolic links are cut into items numbered from 0.
        if key.offset() != self.object.inline_items {
            return self.find(Code::ItemMisplaced, Place::key(key));
        }
        self.object.inline_items += 1;
        self.object.inline_bytes = self.object.inline_bytes.saturating_add(item.len() as u64);
        Ok(())
    }

    pub(crate) fn attribute_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.attributes += 1;
        self.object.attributes += 1;
        let place = Place::key(key);
        let bad = Code::AttributeMalformed;
        let Ok((head, rest)) = AttributeLayout::ref_from_prefix(item) else {
            return self.find(bad, place);
        };
        let Some((name, value)) = rest.split_at_checked(usize::from(head.name_length)) else {
            return self.find(bad, place);
        };
        let (object, length) = (head.object.get(), head.value_length.get());
        let inline = if object == 0 { length as usize } else { 0 };
        let impossible = name.is_empty()
            || name.contains(&0)
            || length as usize > ATTRIBUTE_BYTES_MAX
            || value.len() != inline
            || head.reserved != [0; 3];
        if impossible {
            return self.find(bad, place);
        }
        if object != 0 {
            let owner = Owner { stream: object, key, bytes: u64::from(length) };
            self.streams.owners.try_push(owner)?;
        }
        self.check_cookie(key, name)
    }

    /// Judges an inode by its items.
    pub(crate) fn finish_inode(&mut self, object: &Object) -> Result<()> {
        let place = Place::object(object.number);
        let mut record = InodeRecord {
            number: object.number,
            link_balance: object.link_sum,
            parent: 0,
            links: 0,
            entries: 0,
            link_items: object.links,
            subdirectories: 0,
            file_type: 0,
            reach: Reach::Unknown,
        };
        self.sink.report.inodes += 1;
        if let Some(inode) = &object.inode {
            record.links = inode.links;
            record.file_type = (inode.mode >> 12) as u8;
            match inode.mode & MODE_TYPE {
                MODE_FILE => self.sink.report.files += 1,
                MODE_DIRECTORY => self.sink.report.directories += 1,
                MODE_SYMLINK => self.sink.report.symlinks += 1,
                _ => {}
            }
            // An orphan may be half taken apart. A root that is no directory is a finding of its own.
            let root = object.number == ROOT_INODE && !inode.is_directory();
            if !root && !self.is_orphan(object.number) {
                self.judge_content(object, inode)?;
            }
            if inode.generation > self.state.generation {
                self.find(Code::InodeMalformed, place.with(inode.generation, 0))?;
            }
        }
        if object.has_collection || object.rows > 0 {
            self.find(Code::ItemStray, place)?;
        }
        Ok(self.inodes.try_push(record)?)
    }

    fn judge_content(&mut self, object: &Object, inode: &Inode) -> Result<()> {
        let place = Place::object(object.number);
        let file = inode.is_file();
        let symlink = inode.file_type() == MODE_SYMLINK;
        let wrong = (object.entries > 0 && !inode.is_directory())
            || (object.extents > 0 && !file)
            || (object.inline_items > 0 && !file && !symlink)
            || (object.inline_items > 1 && file);
        if wrong {
            self.find(Code::WrongContent, place)?;
        }
        let flagged = inode.flags & INODE_INLINE != 0;
        if object.inline_items > 0 && object.extents > 0 && file {
            self.find(Code::InlineAndExtents, place)?;
        } else if (file || symlink) && flagged != (object.inline_items > 0) {
            let place = place.with(u64::from(flagged), object.inline_items);
            self.find(Code::InlineFlag, place)?;
        }
        let only_inline = object.inline_items > 0 && object.extents == 0;
        if file && only_inline && object.inline_bytes != inode.size {
            self.find(Code::InlineSize, place.with(inode.size, object.inline_bytes))?;
        }
        let target_fits = inode.size == object.inline_bytes
            && (1..=TARGET_BYTES_MAX as u64).contains(&inode.size);
        if symlink && !target_fits {
            self.find(Code::TargetSize, place.with(inode.size, object.inline_bytes))?;
        }
        if object.blocks != inode.blocks {
            self.find(Code::BlocksCount, place.with(inode.blocks, object.blocks))?;
        }
        let end = inode.size.div_ceil(self.state.block_bytes().max(1) as u64);
        if file && object.written_end > end {
            self.find(Code::ExtentBeyondEnd, place.with(object.written_end, end))?;
        }
        for (flag, count, code) in [
            (INODE_ATTRIBUTES, object.attributes, Code::AttributesFlag),
            (INODE_VECTORS, object.vectors, Code::VectorsFlag),
        ] {
            if (inode.flags & flag != 0) != (count > 0) {
                self.find(code, place.with(u64::from(inode.flags & flag != 0), count))?;
            }
        }
        if inode.is_directory() && inode.size != object.entries {
            self.find(Code::DirectorySize, place.with(inode.size, object.entries))?;
        }
        Ok(())
    }
}
