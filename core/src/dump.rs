// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The metadata as it is, for developers: superblock copies, tree nodes and items, in order.
//! Nothing is judged here beyond what reading checks; that is the checker's work.

use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::host::Host;
use crate::layout::{SUPERBLOCK_BYTES, SUPERBLOCK_COPIES, SuperblockLayout, TREE_LEVELS_MAX};
use crate::node::BlockPointer;
use crate::superblock;
use vexfs_memory::zeroed_bytes;
use zerocopy::FromBytes;

/// A part of the metadata.
#[derive(Clone, Copy, Debug)]
pub enum DumpRecord<'a> {
    /// A node of the tree; parents come before their children.
    Node {
        /// Where it is.
        block: u64,
        /// The transaction that wrote it.
        generation: u64,
        /// CRC32C of the block; 0 while its transaction is open.
        checksum: u32,
        /// 0 for a leaf.
        level: u8,
        /// Items or children.
        count: usize,
        /// Bytes of the block that hold something.
        used_bytes: usize,
    },
    /// A node that cannot be read, with all that it holds.
    Damaged {
        /// Where it is.
        block: u64,
        /// Its level.
        level: u8,
        /// Why not.
        error: Error,
    },
    /// An item of the leaf before it.
    Item {
        /// Object of the key.
        object: u64,
        /// Number of the kind of the key.
        kind: u8,
        /// Offset of the key.
        offset: u64,
        /// The item.
        bytes: &'a [u8],
    },
}

/// A copy of the superblock.
#[derive(Clone, Copy, Debug)]
pub struct SuperblockCopy<'a> {
    /// Which, from 0.
    pub number: usize,
    /// Where it is, in bytes.
    pub offset: u64,
    /// Its bytes, if they can be read at all.
    pub layout: Option<&'a SuperblockLayout>,
    /// What is wrong with it.
    pub fault: Option<Error>,
}

/// Tells of each copy of the superblock. Copies at the end are looked for as an open does.
///
/// Errors: `OutOfMemory`; what is wrong with a copy is told, not returned.
pub fn dump_superblocks(host: &Host, each: &mut dyn FnMut(&SuperblockCopy<'_>)) -> Result<()> {
    let copies = superblock::read_copies(host)?;
    let size = copies.iter().flatten().next().map(|found| found.blocks << found.block_log2);
    let size = size.unwrap_or(host.device.size_bytes());
    for (number, copy) in copies.iter().enumerate().take(SUPERBLOCK_COPIES) {
        let offset = superblock::copy_offset(number, size);
        let mut bytes = zeroed_bytes(SUPERBLOCK_BYTES)?;
        let is_inside = offset
            .checked_add(SUPERBLOCK_BYTES as u64)
            .is_some_and(|end| end <= host.device.size_bytes());
        let read = is_inside && host.device.read(offset, &mut bytes).is_ok();
        let layout = SuperblockLayout::ref_from_bytes(&bytes).ok().filter(|_| read);
        each(&SuperblockCopy { number, offset, layout, fault: copy.as_ref().err().copied() });
    }
    Ok(())
}

impl FileSystem {
    /// Calls `each` with every node and item of the tree, in the order of their keys, until it
    /// returns false. It runs under the tree's lock and must not call the file system. Damaged
    /// nodes are told of and passed over.
    pub fn dump(&self, each: &mut dyn FnMut(&DumpRecord<'_>) -> bool) -> Result<()> {
        let tree = self.reader();
        // The nodes from the root down that are being visited, each with its next child.
        let mut path = [(BlockPointer::default(), 0_usize); TREE_LEVELS_MAX];
        let mut depth = 1_usize;
        if let Some(top) = path.first_mut() {
            *top = (tree.root(), 0);
        }
        while let Some((pointer, next)) = depth.checked_sub(1).and_then(|at| path.get_mut(at)) {
            let here = *pointer;
            let node = match tree.node(&here) {
                Ok(node) => node,
                Err(error @ (Error::OutOfMemory | Error::Interrupted)) => return Err(error),
                Err(error) => {
                    let (block, level) = (here.block, here.level);
                    if !each(&DumpRecord::Damaged { block, level, error }) {
                        return Ok(());
                    }
                    depth -= 1;
                    continue;
                }
            };
            let at = *next;
            *next += 1;
            if at == 0 {
                let record = DumpRecord::Node {
                    block: here.block,
                    generation: node.generation(),
                    checksum: here.checksum,
                    level: node.level(),
                    count: node.count(),
                    used_bytes: node.used_bytes(),
                };
                if !each(&record) {
                    return Ok(());
                }
            }
            if node.level() == 0 {
                for at in 0..node.count() {
                    let key = node.key(at);
                    let record = DumpRecord::Item {
                        object: key.object,
                        kind: key.kind_number(),
                        offset: key.offset(),
                        bytes: node.item(at),
                    };
                    if !each(&record) {
                        return Ok(());
                    }
                }
                depth -= 1;
                continue;
            }
            if at >= node.count() {
                depth -= 1;
                continue;
            }
            let child = node.child(at);
            // A child of a wrong level could lead round in circles.
            let is_below = child.level.checked_add(1) == Some(node.level());
            match path.get_mut(depth) {
                Some(slot) if is_below => {
                    *slot = (child, 0);
                    depth += 1;
                }
                _ => {
                    let error = crate::error::corrupt(child.block, "child of a wrong level");
                    let (block, level) = (child.block, child.level);
                    if !each(&DumpRecord::Damaged { block, level, error }) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The word for a kind of items, by its number on disk.
pub fn kind_name(kind: u8) -> &'static str {
    use crate::key::Kind;
    match Kind::from_number(kind) {
        Some(Kind::Group) => "group",
        Some(Kind::Shared) => "shared",
        Some(Kind::Orphan) => "orphan",
        Some(Kind::CollectionName) => "collection-name",
        Some(Kind::Snapshot) => "snapshot",
        Some(Kind::Dead) => "dead",
        Some(Kind::Inode) => "inode",
        Some(Kind::Link) => "link",
        Some(Kind::Attribute) => "attribute",
        Some(Kind::Entry) => "entry",
        Some(Kind::Inline) => "inline",
        Some(Kind::Extent) => "extent",
        Some(Kind::Vector) => "vector",
        Some(Kind::Collection) => "collection",
        Some(Kind::Row) => "row",
        None => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::NewInode;
    use crate::filesystem::{FormatOptions, OpenOptions};
    use crate::inode::MODE_FILE;
    use crate::testing::Memory;
    use std::format;
    use std::vec::Vec;

    #[test]
    fn every_item_is_told_once_in_order_and_damage_is_passed_over() {
        let memory = Memory::new(16 << 20);
        FileSystem::format(memory.host(), &FormatOptions::default()).unwrap();
        let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
        for number in 0..500 {
            let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
            fs.create(1, format!("file {number}").as_bytes(), &new).unwrap();
        }
        fs.commit().unwrap();
        let mut keys = Vec::new();
        let mut leaves = Vec::new();
        fs.dump(&mut |record| {
            match *record {
                DumpRecord::Item { object, kind, offset, .. } => keys.push((object, kind, offset)),
                DumpRecord::Node { level: 0, block, .. } => leaves.push(block),
                _ => {}
            }
            true
        })
        .unwrap();
        assert!(keys.is_sorted_by(|a, b| a < b));
        assert_eq!(keys.iter().filter(|key| kind_name(key.1) == "inode").count(), 501);
        assert_eq!(keys.iter().filter(|key| kind_name(key.1) == "entry").count(), 500);
        assert!(leaves.len() > 3);
        drop(fs);
        let damaged = leaves[1];
        memory.bytes.lock().unwrap()[(damaged << 12) as usize + 100] ^= 1;
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let fs = FileSystem::open(memory.host(), &options).unwrap();
        let (mut found, mut seen) = (Vec::new(), 0);
        fs.dump(&mut |record| {
            match *record {
                DumpRecord::Damaged { block, error, .. } => found.push((block, error)),
                DumpRecord::Node { level: 0, .. } => seen += 1,
                _ => {}
            }
            true
        })
        .unwrap();
        assert_eq!(found, [(damaged, Error::Checksum { block: damaged })]);
        assert_eq!(seen, leaves.len() - 1);
    }

    #[test]
    fn all_superblock_copies_are_told_whole_or_not() {
        let memory = Memory::new(4 << 20);
        FileSystem::format(memory.host(), &FormatOptions::default()).unwrap();
        memory.bytes.lock().unwrap()[(128 << 10) + 50] ^= 1;
        let mut told = Vec::new();
        dump_superblocks(&memory.host(), &mut |copy| {
            assert_eq!(copy.layout.unwrap().copy.get() as usize, copy.number);
            told.push((copy.offset, copy.fault.is_none()));
        })
        .unwrap();
        let end = 4 << 20;
        let expected = [
            (64 << 10, true),
            (128 << 10, false),
            (end - (64 << 10), true),
            (end - (128 << 10), true),
        ];
        assert_eq!(told, expected);
    }
}
