// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The bytes of files against a model, with an audit of every block after each run.

use crate::extent::Extent;
use crate::inode::Inode;
use crate::key::{Key, Kind};
use crate::node::BlockPointer;
use crate::shared::Counted;
use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::vec::Vec;

const ROOT: u64 = layout::ROOT_INODE;

pub(crate) fn create(fs: &FileSystem, name: &str) -> u64 {
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    fs.create(ROOT, name.as_bytes(), &new).unwrap()
}

fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    let salt = rng.next();
    (0..length as u64).map(|i| (i.wrapping_mul(salt | 1) >> 29) as u8).collect()
}

fn read(fs: &FileSystem, number: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut buffer = std::vec![0xee; length];
    let got = fs.read(number, offset, &mut buffer).unwrap();
    buffer.truncate(got);
    buffer
}

/// Checks that every block is named exactly as often as its reference count says, that exactly
/// the named ones are in use, and that inodes count their blocks.
pub(crate) fn audit(fs: &FileSystem) {
    let mut tree = fs.tree.write();
    assert_eq!(tree.space.in_flight(), 0, "blocks left in flight");
    assert_eq!(tree.space.promised(), 0, "blocks left promised");
    for number in 0..tree.space.group_count() {
        tree.load_group(number).unwrap();
    }
    let mut names: BTreeMap<u64, u32> = BTreeMap::new();
    let mut unshared: BTreeMap<u64, bool> = BTreeMap::new();
    let mut blocks_of: BTreeMap<u64, u64> = BTreeMap::new();
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    let mut inodes: BTreeMap<u64, Inode> = BTreeMap::new();
    let mut last: Option<(u64, u64)> = None;
    tree.scan(Key::MIN, Key::MAX, |key, item| {
        if key.is(0, Kind::Shared) {
            let counted = Counted::decode(&tree, key, item).unwrap();
            for block in counted.run.start..counted.run.end() {
                assert!(counts.insert(block, counted.references).is_none(), "counts overlap");
            }
        } else if key.is(key.object, Kind::Inode) {
            inodes.insert(key.object, Inode::decode(key.object, item).unwrap());
        } else if key.is(key.object, Kind::Inline) {
            assert_eq!(item.len() as u64, inodes[&key.object].size);
        } else if key.is(key.object, Kind::Extent) {
            let (extent, _) = Extent::decode(&tree, key, item).unwrap();
            assert!(last.is_none_or(|last| last <= (key.object, extent.logical)), "overlap");
            last = Some((key.object, extent.end()));
            *blocks_of.entry(key.object).or_default() += extent.length;
            for block in extent.block..extent.block + extent.length {
                *names.entry(block).or_default() += 1;
                *unshared.entry(block).or_default() |= !extent.may_be_shared();
            }
        }
        Ok(true)
    })
    .unwrap();
    for (block, references) in &names {
        assert_eq!(counts.get(block).copied().unwrap_or(1), *references, "block {block}");
        assert!(*references == 1 || !unshared[block], "block {block} shared without a flag");
    }
    assert!(counts.keys().all(|block| names.contains_key(block)), "count of a free block");
    for (number, inode) in &inodes {
        let blocks = blocks_of.get(number).copied().unwrap_or(0);
        assert_eq!(inode.blocks, blocks, "inode {number}");
        assert!(blocks == 0 || !crate::inline::is_inline(inode));
    }
    let mut nodes: Vec<BlockPointer> = std::vec![tree.root()];
    while let Some(pointer) = nodes.pop() {
        assert!(names.insert(pointer.block, 1).is_none(), "node {} is also data", pointer.block);
        let node = tree.node(&pointer).unwrap();
        if node.level() > 0 {
            nodes.extend((0..node.count()).map(|at| node.child(at)));
        }
    }
    for run in tree.state.reserved_runs() {
        names.extend((run.start..run.end()).map(|block| (block, 1)));
    }
    for block in 0..tree.state.blocks {
        let used = tree.space.is_used(block).unwrap();
        assert_eq!(used, names.contains_key(&block), "use of block {block}");
    }
    assert_eq!(tree.state.blocks_free, tree.state.blocks - names.len() as u64);
}

/// The checker finds nothing in what was committed, data included.
pub(crate) fn check_committed(memory: &Memory) {
    let options = check::CheckOptions::default();
    let report = check::check(memory.host(), &options, &mut (), &mut |finding| {
        panic!("{finding:?}");
    });
    report.unwrap();
}

struct Model {
    files: Vec<(u64, Vec<u8>)>,
    largest: u64,
    block_bytes: u64,
}

impl Model {
    fn range(&self, rng: &mut Rng) -> (u64, u64) {
        let offset = match rng.below(3) {
            0 => rng.below(self.block_bytes),
            1 => rng.below(self.largest / self.block_bytes) * self.block_bytes,
            _ => rng.below(self.largest),
        };
        let most = match rng.below(4) {
            0 => self.block_bytes / 4,
            1 | 2 => self.block_bytes * 3,
            _ => self.largest / 2,
        };
        let length = (1 + rng.below(most)).min(self.largest - offset);
        (offset, length)
    }

    fn step(&mut self, fs: &FileSystem, rng: &mut Rng) {
        let which = rng.below(self.files.len() as u64) as usize;
        let (offset, length) = self.range(rng);
        let (from, to) = (offset as usize, (offset + length) as usize);
        let number = self.files[which].0;
        let version = fs.inode(number).unwrap().content_version;
        let model = &mut self.files[which].1;
        let mut changes = true;
        match rng.below(16) {
            0..6 => {
                let bytes = bytes(rng, length as usize);
                fs.write(number, offset, &bytes).unwrap();
                model.resize(model.len().max(to), 0);
                model[from..to].copy_from_slice(&bytes);
            }
            6 => {
                let size = if rng.below(3) == 0 { rng.below(200) } else { offset };
                fs.truncate(number, size).unwrap();
                changes = size != model.len() as u64;
                model.resize(size as usize, 0);
            }
            7 => {
                let keep = rng.below(2) == 0;
                fs.preallocate(number, offset, length, keep).unwrap();
                changes = !keep && to > model.len();
                if changes {
                    model.resize(to, 0);
                }
            }
            8 => {
                fs.punch(number, offset, length).unwrap();
                let (from, to) = (from.min(model.len()), to.min(model.len()));
                changes = from < to;
                model[from..to].fill(0);
            }
            9 => {
                fs.zero_range(number, offset, length, false).unwrap();
                model.resize(model.len().max(to), 0);
                model[from..to].fill(0);
            }
            10 => changes = self.clone_range(fs, rng, which),
            11 => {
                let other = rng.below(self.files.len() as u64) as usize;
                fs.replace_content(self.files[other].0, number).unwrap();
                self.files[which].1 = self.files[other].1.clone();
                changes = other != which;
            }
            12 => {
                changes = false;
                seeks(fs, number, offset, &self.files[which].1, self.block_bytes);
            }
            13 => {
                fs.commit().unwrap();
                changes = false;
            }
            _ => {
                changes = false;
                let got = read(fs, number, offset, length as usize);
                let end = to.min(model.len());
                assert!(got == model[from.min(end)..end], "read of {offset}+{length}");
            }
        }
        let inode = fs.inode(number).unwrap();
        assert_eq!(inode.size, self.files[which].1.len() as u64);
        assert!(inode.content_version != version || !changes, "content version stood still");
    }

    fn clone_range(&mut self, fs: &FileSystem, rng: &mut Rng, which: usize) -> bool {
        let other = rng.below(self.files.len() as u64) as usize;
        let source = self.files[other].1.clone();
        let blocks = source.len() as u64 / self.block_bytes;
        let from = rng.below(blocks + 1) * self.block_bytes;
        let to = rng.below(self.largest / self.block_bytes / 2) * self.block_bytes;
        let mut length = source.len() as u64 - from;
        let to_end_of_target = to + length >= self.files[which].1.len() as u64;
        if rng.below(2) == 0 || !to_end_of_target {
            length = rng.below(length / self.block_bytes + 1) * self.block_bytes;
        }
        let overlaps = which == other && from.abs_diff(to) < length;
        let result = fs.clone_range(self.files[other].0, from, self.files[which].0, to, length);
        if length == 0 {
            // Goes to the end, which may not fit the target.
            let tail = source.len() as u64 - from;
            let fits = to_end_of_target || tail.is_multiple_of(self.block_bytes);
            let overlaps = which == other && from.abs_diff(to) < tail;
            assert_eq!(result.is_ok(), fits && !overlaps, "{result:?}");
            if result.is_err() || tail == 0 {
                return false;
            }
            length = tail;
        } else if overlaps {
            assert!(matches!(result, Err(Error::Invalid(_))), "{result:?}");
            return false;
        } else {
            result.unwrap();
        }
        let model = &mut self.files[which].1;
        let (to, length) = (to as usize, length as usize);
        model.resize(model.len().max(to + length), 0);
        model[to..to + length].copy_from_slice(&source[from as usize..][..length]);
        true
    }

    fn compare(&self, fs: &FileSystem) {
        for (number, model) in &self.files {
            let got = read(fs, *number, 0, model.len() + 100);
            assert!(got == *model, "file {number} differs");
        }
    }
}

/// Data that is found must be all there is: what lies between is zeros.
fn seeks(fs: &FileSystem, number: u64, offset: u64, model: &[u8], block_bytes: u64) {
    let mut at = offset;
    if at >= model.len() as u64 {
        assert_eq!(fs.seek_data(number, at), Err(Error::NoSuchOffset));
        assert_eq!(fs.seek_hole(number, at), Err(Error::NoSuchOffset));
        return;
    }
    while at < model.len() as u64 {
        let data = fs.seek_data(number, at).unwrap_or(model.len() as u64);
        assert!(model[at as usize..data as usize].iter().all(|b| *b == 0), "data in a hole");
        if data == model.len() as u64 {
            return;
        }
        assert!(data == at || data.is_multiple_of(block_bytes));
        at = fs.seek_hole(number, data).unwrap();
        assert!(at > data);
    }
}

#[test]
fn files_agree_with_a_model_and_every_block_is_accounted_for() {
    for (seed, block_log2, steps) in
        [(1, 12, 900), (2, 12, 900), (3, 13, 600), (4, 14, 400), (5, 16, 300)]
    {
        let memory = Memory::new(96 << 20);
        let mut fs = format(&memory, block_log2);
        fs.commit().unwrap();
        let free = fs.status().blocks_free;
        let mut rng = Rng(0x51_7cc1_b727 + seed);
        let block_bytes = 1u64 << block_log2;
        let files = ["a", "b", "c", "d"].map(|name| (create(&fs, name), Vec::new()));
        let largest = (block_bytes * 160).min(2 << 20);
        let mut model = Model { files: files.to_vec(), largest, block_bytes };
        for step in 0..steps {
            model.step(&fs, &mut rng);
            if step % 100 == 99 {
                audit(&fs);
                model.compare(&fs);
                fs.commit().unwrap();
                check_committed(&memory);
            }
            if rng.below(60) == 0 {
                fs.commit().unwrap();
                drop(fs);
                fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
                model.compare(&fs);
            }
        }
        audit(&fs);
        for name in ["a", "b", "c", "d"] {
            fs.unlink(ROOT, name.as_bytes()).unwrap();
        }
        audit(&fs);
        fs.commit().unwrap();
        assert_eq!(fs.status().blocks_free, free, "space does not come back, seed {seed}");
    }
}

#[test]
fn a_small_file_lives_in_the_tree_until_it_grows() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "small");
    fs.write(number, 3, b"hello").unwrap();
    assert_eq!(fs.map(number, 0, 1).unwrap().state, MappedState::Inline);
    assert_eq!(read(&fs, number, 0, 100), b"\0\0\0hello");
    let mut listed = Vec::new();
    fs.extents(number, 0, &mut |info| {
        listed.push(*info);
        true
    })
    .unwrap();
    assert_eq!((listed.len(), listed[0].length, listed[0].last), (1, 8, true));
    // Growing behind the first block moves the bytes into an extent of their own.
    fs.write(number, 50_000, b"far").unwrap();
    assert_eq!(fs.map(number, 0, 1).unwrap().state, MappedState::Written);
    assert_eq!(fs.map(number, 1, 99).unwrap().state, MappedState::Hole);
    assert_eq!(fs.map(number, 1, 99).unwrap().blocks, 11);
    assert_eq!(read(&fs, number, 0, 10), b"\0\0\0hello\0\0");
    assert_eq!(fs.inode(number).unwrap().blocks, 2);
    audit(&fs);
}

#[test]
fn what_is_shared_is_told_by_the_block() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let (whole, copy) = (create(&fs, "whole"), create(&fs, "copy"));
    fs.write(whole, 0, &std::vec![1; 20 * 4096]).unwrap();
    let listed = |number, offset| {
        let mut listed = Vec::new();
        fs.extents(number, offset, &mut |info| {
            listed.push((info.offset / 4096, info.length / 4096, info.shared, info.last));
            true
        })
        .unwrap();
        listed
    };
    assert_eq!(listed(whole, 0), [(0, 20, false, true)]);
    assert_eq!(listed(whole, 9 * 4096), [(0, 20, false, true)]);
    // The same blocks twice more within a longer run: two counts, both of them shared.
    fs.clone_range(whole, 4 * 4096, copy, 0, 6 * 4096).unwrap();
    fs.clone_range(whole, 6 * 4096, copy, 10 * 4096, 2 * 4096).unwrap();
    let parts = [(0, 4, false, false), (4, 6, true, false), (10, 10, false, true)];
    assert_eq!(listed(whole, 0), parts);
    assert_eq!(listed(whole, 5 * 4096), parts[1..]);
    assert_eq!(listed(whole, 10 * 4096), parts[2..]);
    assert_eq!(listed(copy, 0), [(0, 6, true, false), (10, 2, true, true)]);
    // With the last other name for them they are nobody else's any more.
    fs.truncate(copy, 0).unwrap();
    assert_eq!(listed(whole, 0), [(0, 20, false, true)]);
    audit(&fs);
}

#[test]
fn the_same_bytes_share_blocks_and_stay_the_same() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i / 5) as u8).collect();
    let (a, b) = (create(&fs, "a"), create(&fs, "b"));
    fs.write(a, 0, &bytes).unwrap();
    fs.write(b, 0, &bytes).unwrap();
    fs.commit().unwrap();
    fs.commit().unwrap();
    let (before, free) = (fs.inode(b).unwrap(), fs.status().blocks_free);
    assert!(matches!(fs.dedupe_range(a, 0, b, 4096, 300_000), Err(Error::Invalid(_))));
    fs.dedupe_range(a, 0, b, 0, 300_000).unwrap();
    assert_eq!(fs.inode(b).unwrap(), before);
    fs.commit().unwrap();
    fs.commit().unwrap();
    assert!(fs.status().blocks_free >= free + 70, "{} free", fs.status().blocks_free);
    fs.write(a, 100, b"changed").unwrap();
    assert!(read(&fs, b, 0, 300_000) == bytes);
    audit(&fs);
}

#[test]
fn a_huge_sparse_file_is_cheap() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "sparse");
    let size = layout::FILE_BYTES_MAX;
    fs.truncate(number, size).unwrap();
    fs.write(number, size - 5, b"tail!").unwrap();
    assert_eq!(fs.write(number, size - 4, b"tail!"), Err(Error::FileTooBig));
    assert_eq!(fs.truncate(number, size + 1), Err(Error::FileTooBig));
    assert_eq!(fs.preallocate(number, size, 1, true), Err(Error::FileTooBig));
    assert_eq!(fs.inode(number).unwrap().blocks, 1);
    assert_eq!(fs.seek_data(number, 0), Ok(size - 4096));
    assert_eq!(fs.seek_hole(number, 0), Ok(0));
    assert_eq!(read(&fs, number, size - 10, 100), b"\0\0\0\0\0tail!");
    assert_eq!(read(&fs, number, 1 << 40, 10), [0; 10]);
    let copy = create(&fs, "copy");
    fs.clone_range(number, 0, copy, 0, 0).unwrap();
    assert_eq!(read(&fs, copy, size - 5, 100), b"tail!");
    fs.punch(copy, 0, size).unwrap();
    assert_eq!(fs.inode(copy).unwrap().blocks, 0);
    fs.punch(number, 1, size - 3).unwrap();
    assert_eq!(read(&fs, number, size - 10, 100), b"\0\0\0\0\0\0\0\0l!"[..].to_vec());
    assert_eq!(fs.preallocate(number, 0, size, true), Err(Error::NoSpace));
    assert_eq!(fs.inode(number).unwrap().blocks, 1);
    audit(&fs);
}

#[test]
fn a_flipped_bit_is_an_error_and_never_wrong_bytes() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "file");
    let mut rng = Rng(77);
    let model = bytes(&mut rng, 40 * 4096);
    fs.write(number, 0, &model).unwrap();
    let map = fs.map(number, 0, 64).unwrap();
    assert_eq!((map.blocks, map.checksums.len()), (40, 40));
    for block in 0..40u64 {
        let at = ((map.device_block + block) * 4096 + rng.below(4096)) as usize;
        memory.bytes.lock().unwrap()[at] ^= 1 << rng.below(8);
        let mut buffer = std::vec![0; model.len()];
        let damaged = Error::Checksum { block: map.device_block + block };
        assert_eq!(fs.read(number, 0, &mut buffer), Err(damaged));
        assert_eq!(fs.read(number, block * 4096 + 7, &mut buffer[..9]), Err(damaged));
        // A part of the block cannot be written either, but all of it can.
        assert_eq!(fs.write(number, block * 4096 + 1, b"x"), Err(damaged));
        let from = block as usize * 4096;
        fs.write(number, block * 4096, &model[from..from + 4096]).unwrap();
        assert!(read(&fs, number, 0, model.len()) == model);
    }
    audit(&fs);
}

#[test]
fn all_that_is_available_can_be_preallocated_at_once() {
    // Untouched memory of the device takes none.
    for megabytes in [64, 1024] {
        let memory = Memory::new(megabytes << 20);
        let fs = format(&memory, 12);
        let number = create(&fs, "most of it");
        let available = fs.status().blocks_available;
        assert_eq!(fs.preallocate(number, 0, (available + 64) << 12, false), Err(Error::NoSpace));
        assert_eq!(fs.inode(number).unwrap().blocks, 0);
        fs.preallocate(number, 0, available << 12, false).unwrap();
        fs.commit().unwrap();
        assert_eq!(fs.inode(number).unwrap().blocks, available);
        // It can be deleted, and all comes back.
        fs.unlink(ROOT, b"most of it").unwrap();
        fs.commit().unwrap();
        create(&fs, "another");
        fs.commit().unwrap();
        check_committed(&memory);
        assert!(fs.status().blocks_available > available - 8);
    }
}

#[test]
fn space_given_behind_the_end_stays_when_a_file_grows() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "grows");
    fs.write(number, 0, &std::vec![7; 100_000]).unwrap();
    fs.preallocate(number, 0, 1 << 20, true).unwrap();
    let given = fs.inode(number).unwrap().blocks;
    fs.truncate(number, 300_001).unwrap();
    assert_eq!(
        (fs.inode(number).unwrap().blocks, fs.inode(number).unwrap().size),
        (given, 300_001)
    );
    assert!(read(&fs, number, 100_000, 300_000).iter().all(|byte| *byte == 0));
    fs.truncate(number, 300_001).unwrap();
    assert_eq!(fs.inode(number).unwrap().blocks, 300_001_u64.div_ceil(4096));
    audit(&fs);
}

#[test]
fn preallocated_space_takes_writes_when_the_file_system_is_full() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let kept = create(&fs, "kept");
    fs.preallocate(kept, 0, 2 << 20, false).unwrap();
    assert_eq!(fs.seek_data(kept, 0), Err(Error::NoSuchOffset));
    let filler = create(&fs, "filler");
    let chunk = std::vec![5u8; 64 << 10];
    let mut at = 0;
    let error = loop {
        match fs.write(filler, at, &chunk) {
            Ok(()) => at += chunk.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoSpace);
    assert_eq!(fs.inode(filler).unwrap().size, at, "a refused write changed the file");
    assert!(at > 3 << 20, "only {at} bytes fit");
    for n in 0..32u64 {
        fs.write(kept, (n * 37 % 32) * chunk.len() as u64, &chunk).unwrap();
    }
    assert!(read(&fs, kept, 0, 2 << 20).iter().all(|b| *b == 5));
    audit(&fs);
    // Deleting works on a full file system, and gives everything back.
    fs.truncate(filler, 100_001).unwrap();
    fs.unlink(ROOT, b"kept").unwrap();
    fs.write(filler, 0, &std::vec![6; 4 << 20]).unwrap();
    audit(&fs);
}

#[test]
fn a_large_write_that_does_not_fit_changes_nothing() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "file");
    let old = std::vec![1u8; 1 << 20];
    fs.write(number, 0, &old).unwrap();
    let before = fs.inode(number).unwrap();
    for length in [7 << 20, 20 << 20] {
        assert_eq!(fs.write(number, 4096, &std::vec![2; length]), Err(Error::NoSpace));
        assert_eq!(fs.inode(number).unwrap(), before);
        assert!(read(&fs, number, 0, 2 << 20) == old);
        audit(&fs);
    }
    assert_eq!(fs.preallocate(number, 0, 9 << 20, false), Err(Error::NoSpace));
    assert_eq!(fs.inode(number).unwrap(), before);
    audit(&fs);
}

#[test]
fn reserved_blocks_are_there_when_they_are_wanted() {
    let memory = Memory::new(4 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "mapped");
    fs.reserve(64).unwrap();
    let filler = create(&fs, "filler");
    let chunk = std::vec![5u8; 16 << 10];
    let mut at = 0;
    while fs.write(filler, at, &chunk).is_ok() {
        at += chunk.len() as u64;
    }
    assert_eq!(fs.reserve(64), Err(Error::NoSpace));
    assert_eq!(fs.allocate(number, 0, 64, 0), Err(Error::NoSpace));
    let pieces = fs.allocate(number, 0, 64, 64).unwrap();
    assert_eq!(fs.inode(number).unwrap().blocks, 0);
    let crc = |bytes: &[u8]| fs.host.checksum.crc32c(0, bytes);
    let page = std::vec![9u8; 4096];
    let mut done = 0;
    for piece in &pieces {
        assert_eq!(piece.block, done);
        for block in 0..piece.blocks {
            fs.host.device.write((piece.device_block + block) * 4096, &page).unwrap();
        }
        done += piece.blocks;
        // Completed in two halves, as writeback may.
        let half = piece.blocks / 2;
        let first = InFlight { blocks: half, ..*piece };
        let second = InFlight {
            block: piece.block + half,
            device_block: piece.device_block + half,
            blocks: piece.blocks - half,
            ..*piece
        };
        let sums = std::vec![crc(&page); piece.blocks as usize];
        for part in [second, first].iter().filter(|part| part.blocks > 0) {
            let completion = Completion { blocks: *part, checksums: &sums[..part.blocks as usize] };
            fs.complete(number, &[completion], Some(done * 4096 - 10)).unwrap();
        }
    }
    assert_eq!(done, 64);
    assert!(read(&fs, number, 0, 1 << 20) == std::vec![9u8; 64 * 4096 - 10]);
    audit(&fs);
    fs.truncate(filler, 0).unwrap();
    let pieces = fs.allocate(number, 10, 5, 0).unwrap();
    let bad = Completion { blocks: pieces[0], checksums: &[] };
    assert!(matches!(fs.complete(number, &[bad], None), Err(Error::Invalid(_))));
    // A refusal leaves them to be cancelled.
    pieces.iter().for_each(|piece| fs.cancel(piece));
    audit(&fs);
    let version = fs.inode(number).unwrap().content_version;
    let modified = Timestamp { seconds: 77, nanoseconds: 7 };
    assert_eq!(fs.touch_data(number, modified), Ok(version + 1));
    assert_eq!(fs.inode(number).unwrap().modified, modified);
}

/// Blocks of the superblocks, named by a damaged or hostile image as a file's, as a tree node's or
/// as free, are neither written to nor given out.
#[test]
fn nothing_that_an_image_says_makes_a_write_reach_the_superblocks() {
    use zerocopy::IntoBytes;
    for copy in 0..layout::SUPERBLOCK_COPIES {
        let memory = Memory::new(16 << 20);
        let fs = format(&memory, 12);
        let number = create(&fs, "file");
        let (block, generation) = {
            let tree = fs.reader();
            (tree.state.copy_block(copy), tree.published.generation)
        };
        let head = layout::ExtentLayout {
            block: (block - 1).into(),
            generation: generation.into(),
            length: 3.into(),
            flags: layout::EXTENT_UNWRITTEN.into(),
        };
        fs.operation(4, true, |tree| {
            tree.put(Key::new(number, Kind::Extent, 0), &[head.as_bytes()])?;
            let mut inode = Inode::load(tree, number)?;
            (inode.size, inode.blocks) = (3 << 12, 3);
            inode.store(tree, number)
        })
        .unwrap();
        fs.commit().unwrap();
        let before = memory.bytes.lock().unwrap()[(block << 12) as usize..][..4096].to_vec();
        let written = fs.write(number, 4096, &[0x55; 4096]);
        assert!(matches!(written, Err(Error::Corrupt { .. })), "{written:?}");
        assert!(matches!(fs.truncate(number, 0), Err(Error::Corrupt { .. })));
        let freed = fs.operation(4, true, |tree| {
            tree.space.free(crate::space::Run { start: block, length: 1 }, false)
        });
        assert!(matches!(freed, Err(Error::Corrupt { .. })), "{freed:?}");
        let pointer = BlockPointer { block, generation, checksum: 0, level: 0 };
        assert!(matches!(fs.reader().read_node(&pointer), Err(Error::Corrupt { .. })));
        assert!(memory.bytes.lock().unwrap()[(block << 12) as usize..][..4096] == before);
    }

    // A group that calls them free.
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let state = *fs.reader().state;
    let mut space = crate::space::Space::new(state.blocks, state.block_log2).unwrap();
    space.load(0, None).unwrap();
    let reserved = state.reserved_runs();
    while let Ok(run) = space.allocate_data(1, None) {
        assert!(!reserved.iter().any(|taken| (taken.start..taken.end()).contains(&run.start)));
    }
}

#[test]
fn small_files_are_completed_in_the_tree_and_blocks_put_off() {
    let memory = Memory::new(4 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "small");
    let version = fs.touch_data(number, Timestamp::default()).unwrap();
    fs.complete_inline(number, b"a few bytes").unwrap();
    let inode = fs.inode(number).unwrap();
    assert_eq!((inode.size, inode.blocks, inode.content_version), (11, 0, version));
    assert!(read(&fs, number, 0, 99) == b"a few bytes");
    fs.complete_inline(number, b"fewer").unwrap();
    assert!(read(&fs, number, 0, 99) == b"fewer");
    assert_eq!(fs.complete_inline(number, &[1; 2000]), Err(Error::Busy));
    let large = create(&fs, "large");
    fs.write(large, 0, &[2; 9000]).unwrap();
    assert_eq!(fs.complete_inline(large, b"x"), Err(Error::Busy));
    // What is allocated and put off is reserved as before.
    fs.reserve(20).unwrap();
    let before = fs.status().blocks_available;
    for piece in fs.allocate(large, 100, 20, 20).unwrap() {
        fs.put_off(&piece, piece.blocks);
    }
    assert_eq!(fs.status().blocks_available, before);
    fs.unreserve(20);
    audit(&fs);
}

#[test]
fn a_host_can_forbid_writing_and_stop_it() {
    let memory = Memory::new(4 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "f");
    fs.commit().unwrap();
    fs.set_read_only(true).unwrap();
    assert_eq!(fs.write(number, 0, b"x"), Err(Error::ReadOnly));
    assert!(fs.is_read_only() && fs.inode(number).is_ok());
    fs.set_read_only(false).unwrap();
    fs.write(number, 0, b"x").unwrap();
    let cached = fs.cached_nodes();
    assert!(cached > 0 && fs.drop_cached_nodes(cached) <= cached);
    assert!(read(&fs, number, 0, 9) == b"x");
    fs.stop();
    assert_eq!(fs.write(number, 0, b"y"), Err(Error::Poisoned));
    assert_eq!(fs.commit(), Err(Error::Poisoned));
    drop(fs);
    // What was not committed is lost, as if the power had gone.
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    assert_eq!(fs.inode(number).unwrap().size, 0);
}

#[test]
fn leaves_in_a_row_are_read_at_once() {
    let memory = Memory::new(32 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "f");
    const EXTENTS: u64 = 3000;
    for n in 0..EXTENTS {
        fs.write(number, 8192 * n, &[1; 4096]).unwrap();
    }
    fs.commit().unwrap();
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    let walk = || {
        let mut seen = 0;
        let result = fs.extents(number, 0, &mut |_| {
            seen += 1;
            true
        });
        (seen, result)
    };
    let (reads, cached) = (memory.reads.load(Ordering::SeqCst), fs.cached_nodes());
    assert_eq!(walk(), (EXTENTS, Ok(())));
    let (reads, nodes) = (memory.reads.load(Ordering::SeqCst) - reads, fs.cached_nodes() - cached);
    assert!(nodes > 30 && reads < nodes / 3, "{nodes} nodes in {reads} reads");
    // Next to one that cannot be read, each is read on its own.
    let leaf = {
        let tree = fs.reader();
        let mut pointer = tree.root();
        while pointer.level > 0 {
            let node = tree.node(&pointer).unwrap();
            pointer = node.child(node.child_for(Key::new(number, Kind::Extent, EXTENTS)));
        }
        pointer.block
    };
    memory.unreadable.store(leaf << 12, Ordering::SeqCst);
    while fs.cached_nodes() > 0 {
        fs.drop_cached_nodes(u64::MAX);
    }
    let (seen, result) = walk();
    assert!(result.is_err() && (EXTENTS / 2).abs_diff(seen) < 200, "{seen}, then {result:?}");
    memory.unreadable.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(walk(), (EXTENTS, Ok(())));
}
