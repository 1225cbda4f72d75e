// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The checker on images that are whole, and on images damaged in one way each.

use super::*;
use crate::error::Result;
use crate::inode::*;
use crate::key::Kind;
use crate::layout::*;
use crate::testing::Memory;
use crate::tree::Tree;
use crate::tree_tests::Rng;
use crate::{FileSystem, FormatOptions, NewInode, OpenOptions, XattrMode};
use std::string::String;
use std::vec::Vec;
use zerocopy::{FromZeros, IntoBytes};

pub(crate) fn findings_of(memory: &Memory) -> (CheckReport, Vec<Finding>) {
    let before = memory.bytes.lock().unwrap().clone();
    let mut findings = Vec::new();
    let report = check(memory.host(), &CheckOptions::default(), &mut (), &mut |finding| {
        findings.push(*finding)
    })
    .unwrap();
    assert!(before == *memory.bytes.lock().unwrap(), "a check wrote");
    assert_eq!(report.findings(), findings.len() as u64);
    (report, findings)
}

pub(crate) fn codes_of(memory: &Memory) -> Vec<&'static str> {
    let mut codes: Vec<_> = findings_of(memory).1.iter().map(|f| f.code.name()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[track_caller]
pub(crate) fn assert_clean(memory: &Memory) -> CheckReport {
    let (report, findings) = findings_of(memory);
    assert!(findings.is_empty(), "{findings:#?}");
    report
}

pub(crate) fn open(memory: &Memory) -> FileSystem {
    FileSystem::open(memory.host(), &OpenOptions::default()).unwrap()
}

/// A small file system with directories, links, symbolic links, attributes and orphans.
pub(crate) fn populated(block_log2: u32) -> Memory {
    let memory = Memory::new((8 << 20).max(400 << block_log2));
    FileSystem::format(memory.host(), &FormatOptions { block_log2, ..Default::default() }).unwrap();
    let fs = open(&memory);
    let new = |mode| NewInode { mode, owner: (1000, 1000), device: 0 };
    let mut directory = ROOT_INODE;
    for level in 0..5 {
        for file in 0..40 {
            let name = std::format!("file {level} {file}");
            let number = fs.create(directory, name.as_bytes(), &new(MODE_FILE | 0o644)).unwrap();
            if file % 3 == 0 {
                fs.link(number, ROOT_INODE, std::format!("link {level} {file}").as_bytes())
                    .unwrap();
            }
            if file % 5 == 0 {
                fs.set_xattr(number, b"user.kind", b"test", XattrMode::Set).unwrap();
            }
        }
        fs.create_symlink(directory, b"short", b"target", (0, 0)).unwrap();
        let long: String = (0..4000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        fs.create_symlink(directory, b"long", long.as_bytes(), (0, 0)).unwrap();
        fs.create(directory, b"fifo", &new(MODE_FIFO | 0o600)).unwrap();
        fs.create(directory, b"empty", &new(MODE_DIRECTORY | 0o700)).unwrap();
        directory = fs.create(directory, b"below", &new(MODE_DIRECTORY | 0o755)).unwrap();
        fs.commit().unwrap();
    }
    let bytes: Vec<u8> = (0..600_000u32).map(|at| (at % 251) as u8).collect();
    let names: [&[u8]; 3] = [b"data", b"clone", b"holes"];
    let [data, clone, holes] =
        names.map(|name| fs.create(ROOT_INODE, name, &new(MODE_FILE | 0o644)).unwrap());
    let inline = fs.create(ROOT_INODE, b"inline", &new(MODE_FILE | 0o644)).unwrap();
    fs.write(data, 0, &bytes).unwrap();
    fs.write(holes, 300_000, &bytes[..100_000]).unwrap();
    fs.write(inline, 0, &bytes[..300]).unwrap();
    fs.clone_range(data, 0, clone, 0, 600_000).unwrap();
    fs.write(clone, 100_000, b"different").unwrap();
    fs.preallocate(holes, 1 << 20, 1 << 20, true).unwrap();
    fs.punch(holes, 340_000, 20_000).unwrap();
    fs.set_xattr(data, b"user.large", &bytes[..40_000], XattrMode::Set).unwrap();
    add_collection(&fs, data, inline);
    fs.create_unnamed(&new(MODE_FILE | 0o600), &[]).unwrap();
    fs.commit().unwrap();
    memory
}

const DIMENSION: u32 = 24;

/// A collection of ten vectors of two files, row 3 free, written item by item.
fn add_collection(fs: &FileSystem, first: u64, second: u64) {
    let bytes: Vec<u8> = (0..11 * DIMENSION).map(|at| (at * 7) as u8).collect();
    let name = b"pictures";
    let (object, rows_object) = fs
        .operation(2, false, |tree| {
            Ok((crate::inode::new_object(tree)?, crate::inode::new_object(tree)?))
        })
        .unwrap();
    fs.write_stream_with(rows_object, 0, &bytes, 40, |tree| {
        let number = tree.state.next_collection;
        tree.state.next_collection += 1;
        let mut head = CollectionLayout::new_zeroed();
        head.number = number.into();
        head.dimension = DIMENSION.into();
        (head.element, head.metric, head.name_length) = (5, 1, name.len() as u8);
        head.model_length = 5.into();
        (head.degree, head.build_effort) = (32.into(), 100.into());
        head.rows_object = rows_object.into();
        (head.rows, head.row_end, head.next_sequence) = (10.into(), 11.into(), 12.into());
        let key = Key::new(object, Kind::Collection, 0);
        tree.put(key, &[head.as_bytes(), name, b"model"])?;
        let base = crate::names::cookie_base(tree, name);
        let link = CollectionNameLayout { object: object.into() };
        tree.put(Key::new(0, Kind::CollectionName, base), &[link.as_bytes(), name])?;
        for row in (0..11u64).filter(|row| *row != 3) {
            let (inode, chunk) = if row % 2 == 0 { (first, row) } else { (second, row / 2) };
            let mut layout = RowLayout::new_zeroed();
            (layout.inode, layout.chunk) = (inode.into(), (chunk as u32).into());
            let part = &bytes[row as usize * DIMENSION as usize..][..DIMENSION as usize];
            layout.checksum = tree.host.checksum.crc32c(0, part).into();
            layout.sequence = (row + 1).into();
            tree.put(Key::new(object, Kind::Row, row), &[layout.as_bytes()])?;
            let vector = Key::new(inode, Kind::Vector, u64::from(number) << 32 | chunk);
            tree.put(vector, &[VectorLayout { row: row.into() }.as_bytes()])?;
        }
        for number in [first, second] {
            let mut inode = Inode::load(tree, number)?;
            inode.flags |= INODE_VECTORS;
            inode.store(tree, number)?;
        }
        Ok(())
    })
    .unwrap();
}

/// Changes the tree as no operation would, and publishes that.
pub(crate) fn damage<R>(memory: &Memory, change: impl FnOnce(&mut Tree) -> Result<R>) -> R {
    let fs = open(memory);
    let result = fs.operation(64, true, change).unwrap();
    fs.commit().unwrap();
    result
}

/// The key of the first item of this kind at or after the object, and its bytes.
pub(crate) fn first(tree: &Tree, object: u64, kind: Kind) -> (Key, Vec<u8>) {
    let mut found = None;
    tree.scan(Key::new(object, Kind::Group, 0), Key::MAX, |key, item| {
        if key.kind_number() == kind as u8 {
            found = Some((key, item.to_vec()));
        }
        Ok(found.is_none())
    })
    .unwrap();
    found.expect("no such item")
}

fn block_of_root(memory: &Memory) -> u64 {
    open(memory).reader().root().block
}

/// What a check passes can be used.
#[test]
fn a_small_file_may_be_longer_than_a_writer_would_make_it() {
    let memory = populated(12);
    let bytes: Vec<u8> = (0..1500_u32).map(|at| at as u8).collect();
    let number = open(&memory).lookup(ROOT_INODE, b"file 0 0").unwrap();
    damage(&memory, |tree| {
        tree.put(Key::new(number, Kind::Inline, 0), &[&bytes])?;
        let mut inode = Inode::load(tree, number)?;
        inode.size = bytes.len() as u64;
        inode.flags |= INODE_INLINE;
        inode.store(tree, number)
    });
    assert_clean(&memory);
    let fs = open(&memory);
    let read = |length: usize| {
        let mut buffer = std::vec![0; length + 1];
        assert_eq!(fs.read(number, 0, &mut buffer).unwrap(), length);
        buffer.truncate(length);
        buffer
    };
    assert_eq!(read(1500), bytes);
    fs.write(number, 1500, b"more").unwrap();
    assert_eq!(read(1504)[..1500], bytes);
    fs.truncate(number, 1200).unwrap();
    assert_eq!(read(1200), bytes[..1200]);
    fs.commit().unwrap();
    assert_clean(&memory);
}

#[test]
fn new_and_populated_images_are_clean() {
    for block_log2 in [12, 13, 16] {
        let memory = Memory::new(17 << 20);
        FileSystem::format(memory.host(), &FormatOptions { block_log2, ..Default::default() })
            .unwrap();
        let report = assert_clean(&memory);
        assert_eq!((report.superblocks, report.inodes, report.directories), (4, 1, 1));
        let report = assert_clean(&populated(block_log2));
        assert!(report.complete && report.nodes > 2);
        assert_eq!((report.directories, report.symlinks, report.orphans), (11, 10, 1));
        assert_eq!(report.inodes, 1 + 5 * 45 + 4 + 1);
    }
}

#[test]
fn a_device_without_a_file_system_is_refused_and_one_with_damaged_superblocks_reported() {
    let memory = Memory::new(4 << 20);
    let result = check(memory.host(), &CheckOptions::default(), &mut (), &mut |_| {});
    assert!(matches!(result, Err(Error::NotVexfs(_))));
    let memory = populated(12);
    let end = memory.bytes.lock().unwrap().len() as u64 & !0xffff;
    let offsets = [64 << 10, 128 << 10, end - (64 << 10), end - (128 << 10)];
    for damaged in offsets {
        let memory = populated(12);
        memory.bytes.lock().unwrap()[damaged as usize + 300] ^= 4;
        assert_eq!(codes_of(&memory), ["superblock-damaged"]);
    }
    for damaged in offsets {
        memory.bytes.lock().unwrap()[damaged as usize + 300] ^= 4;
    }
    let (report, findings) = findings_of(&memory);
    assert_eq!(findings[0].code, Code::SuperblockNone);
    assert_eq!((report.generation, report.irreparable), (0, 1));
}

#[test]
fn a_device_cut_short_is_reported() {
    let memory = populated(12);
    memory.bytes.lock().unwrap().truncate(7 << 20);
    assert_eq!(codes_of(&memory), ["device-too-small"]);
    let (report, findings) = findings_of(&memory);
    assert_eq!((findings[0].place.found, findings[0].place.expected), (7 << 20, 8 << 20));
    assert_eq!((report.damage, report.irreparable), (1, 1));
}

#[test]
fn damaged_nodes_are_found_and_the_rest_is_still_checked() {
    let memory = populated(12);
    let root = block_of_root(&memory);
    memory.bytes.lock().unwrap()[(root as usize) << 12 | 2000] ^= 1;
    let (report, findings) = findings_of(&memory);
    assert!(!report.complete && report.irreparable > 0);
    assert!(findings.iter().any(|f| f.code == Code::NodeChecksum && f.place.block == root));

    // A leaf in the middle: the others still tell of their inodes.
    let memory = populated(12);
    let leaf = {
        let fs = open(&memory);
        let tree = fs.reader();
        let root = tree.node(&tree.root()).unwrap();
        root.child(root.count() / 2).block
    };
    memory.bytes.lock().unwrap()[(leaf as usize) << 12] ^= 1;
    let (report, findings) = findings_of(&memory);
    assert!(report.inodes > 50);
    assert!(findings.iter().any(|f| f.code == Code::NodeChecksum && f.place.block == leaf));
}

#[test]
fn an_interrupted_check_ends_and_says_so() {
    struct Stop(u32);
    impl Progress for Stop {
        fn advance(&mut self, _: Stage, done: u64, total: u64) -> bool {
            assert!(done <= total);
            self.0 = self.0.saturating_sub(1);
            self.0 > 0
        }
    }
    let memory = populated(12);
    for steps in [1, 2, 5, 12] {
        let options = CheckOptions::default();
        let result = check(memory.host(), &options, &mut Stop(steps), &mut |_| {});
        assert_eq!(result, Err(Error::Interrupted));
    }
}

#[test]
fn every_flipped_bit_of_a_node_data_block_or_superblock_is_found() {
    let memory = populated(12);
    let mut used = Vec::new();
    {
        let host = Shared::try_new(memory.host()).unwrap();
        let copies = read_copies(&host).unwrap();
        let state = crate::superblock::newest(&copies).unwrap();
        let (mut each, mut progress) = (|_: &Finding| (), ());
        let sink = Sink::new(&mut each, &mut progress).unwrap();
        let mut checker = Checker::new(host, state, CheckOptions::default(), sink).unwrap();
        checker.run().unwrap();
        let in_use = |block: &u64| {
            checker.blocks.nodes.contains(*block) || checker.blocks.written.contains(*block)
        };
        used.extend((0..state.blocks).filter(in_use));
        used.extend((0..4).map(|copy| state.copy_block(copy)));
    }
    let mut rng = Rng(0x1234_5678_9abc);
    for round in 0..400 {
        let block = used[rng.below(used.len() as u64) as usize];
        let at = (block << 12 | rng.below(4096)) as usize;
        let bit = 1 << rng.below(8);
        memory.bytes.lock().unwrap()[at] ^= bit;
        let (report, _) = findings_of(&memory);
        assert!(!report.is_clean(), "round {round}: byte {at} bit {bit}");
        memory.bytes.lock().unwrap()[at] ^= bit;
    }
    assert_clean(&memory);
}
