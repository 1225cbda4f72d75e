// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The tree against a model, over random operations, failures, commits and reopenings.

use crate::data_tests::check_committed;
use crate::key::{Key, Kind};
use crate::layout::GROUP_BLOCKS;
use crate::space::Run;
use crate::testing::Memory;
use crate::tree::Tree;
use crate::{
    Error, FileSystem, FormatOptions, MODE_DIRECTORY, MODE_FILE, NewInode, OpenOptions,
    SetAttributes,
};
use std::collections::BTreeMap;
use std::vec::Vec;

pub(crate) struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

pub(crate) fn format(memory: &Memory, block_log2: u32) -> FileSystem {
    FileSystem::format(memory.host(), &FormatOptions { block_log2, ..Default::default() }).unwrap();
    FileSystem::open(memory.host(), &OpenOptions::default()).unwrap()
}

fn compare(fs: &FileSystem, model: &BTreeMap<Key, Vec<u8>>) {
    let tree = fs.reader();
    let mut expected = model.iter();
    tree.scan(Key::new(1000, Kind::Inode, 0), Key::MAX, |key, item| {
        let (k, v) = expected.next().expect("more items than the model has");
        assert_eq!((key, item), (*k, &v[..]));
        Ok(true)
    })
    .unwrap();
    assert!(expected.next().is_none(), "items are missing");
}

#[test]
fn the_tree_agrees_with_a_model_over_commits_failures_and_reopenings() {
    for (seed, block_log2) in [(1, 12), (2, 12), (3, 13), (4, 16)] {
        let memory = Memory::new(48 << 20);
        let mut fs = format(&memory, block_log2);
        let free = fs.status().blocks_free;
        let mut rng = Rng(0x9e37_79b9 + seed);
        let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
        let largest = fs.reader().item_bytes_max() as u64;
        for step in 0..30_000u64 {
            let dense = step / 5000 % 2 == 0;
            let key = Key::new(
                1000 + rng.below(20),
                if rng.below(2) == 0 { Kind::Extent } else { Kind::Entry },
                if dense { rng.below(300) } else { rng.next() >> 8 },
            );
            let length = if rng.below(10) == 0 { rng.below(largest) } else { rng.below(90) } + 1;
            let value: Vec<u8> = (0..length).map(|i| (i ^ step) as u8).collect();
            let fail = rng.below(20) == 0;
            match rng.below(10) {
                0..5 => {
                    // Items are changed in place before and after: nodes change in part and as a whole.
                    let keys: Vec<Key> = model.range(key..).take(2).map(|(k, _)| *k).collect();
                    let edited = step % 3 == 0;
                    let edit = |tree: &mut Tree| -> Result<(), Error> {
                        for key in keys.iter().filter(|_| edited) {
                            tree.get_mut(*key)?.iter_mut().for_each(|byte| *byte ^= 0x55);
                        }
                        Ok(())
                    };
                    let result = fs.operation(8, false, |tree| {
                        edit(tree)?;
                        tree.put(key, &[&value])?;
                        edit(tree)?;
                        edit(tree)?;
                        if fail { Err(Error::Busy) } else { Ok(()) }
                    });
                    if fail {
                        assert_eq!(result, Err(Error::Busy));
                    } else {
                        result.unwrap();
                        for key in keys.iter().filter(|_| edited) {
                            model.get_mut(key).unwrap().iter_mut().for_each(|byte| *byte ^= 0x55);
                        }
                        model.insert(key, value);
                    }
                }
                5..9 => {
                    // Remove what is there at or after the key, several at once.
                    let keys: Vec<Key> = model.range(key..).take(3).map(|(k, _)| *k).collect();
                    let result = fs.operation(12, true, |tree| {
                        for key in &keys {
                            tree.get_mut(*key)?.iter_mut().for_each(|byte| *byte ^= 0x55);
                        }
                        for key in &keys {
                            tree.remove(*key)?;
                        }
                        assert_eq!(tree.remove(Key::new(7, Kind::Row, 1)), Err(Error::NotFound));
                        if fail { Err(Error::Busy) } else { Ok(()) }
                    });
                    if !fail {
                        result.unwrap();
                        keys.iter().for_each(|key| {
                            model.remove(key);
                        });
                    }
                }
                _ => {
                    let tree = fs.reader();
                    let next = tree.next(key).unwrap().map(|item| item.key());
                    assert_eq!(next, model.range(key..).next().map(|(k, _)| *k));
                    let before = tree.previous(key).unwrap().map(|item| item.key());
                    let expected = model.range(..=key).next_back().map(|(k, _)| *k);
                    if expected.is_some() {
                        assert_eq!(before, expected);
                    }
                    let got = tree.get(key).unwrap().map(|item| item.to_vec());
                    assert_eq!(got.as_ref(), model.get(&key));
                }
            }
            if rng.below(700) == 0 {
                fs.commit().unwrap();
            }
            if rng.below(4000) == 0 {
                fs.commit().unwrap();
                compare(&fs, &model);
                drop(fs);
                fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
                compare(&fs, &model);
            }
        }
        compare(&fs, &model);
        for key in model.keys() {
            fs.operation(3, true, |tree| tree.remove(*key)).unwrap();
        }
        model.clear();
        fs.commit().unwrap();
        compare(&fs, &model);
        assert_eq!(fs.status().blocks_free, free, "space does not come back, seed {seed}");
    }
}

#[test]
fn a_small_commit_writes_little_and_a_second_writer_stops_the_first() {
    let memory = Memory::new(16 << 20);
    let first = format(&memory, 12);
    let put = |fs: &FileSystem, n| {
        fs.operation(2, false, |tree| tree.put(Key::new(n, Kind::Inline, 0), &[b"x"]))
    };
    put(&first, 2000).unwrap();
    first.commit().unwrap();
    let before = memory.written.load(std::sync::atomic::Ordering::SeqCst);
    put(&first, 2001).unwrap();
    first.commit().unwrap();
    let written = memory.written.load(std::sync::atomic::Ordering::SeqCst) - before;
    assert!(written <= 32 << 10, "a small commit wrote {written} bytes");

    let second = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    put(&second, 2002).unwrap();
    put(&first, 2003).unwrap();
    assert_eq!(first.commit(), Err(Error::OtherWriter));
    assert_eq!(put(&first, 2004), Err(Error::Poisoned));
    second.commit().unwrap();
    let third = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    assert!(third.reader().get(Key::new(2002, Kind::Inline, 0)).unwrap().is_some());
    assert!(third.reader().get(Key::new(2003, Kind::Inline, 0)).unwrap().is_none());
}

#[test]
fn a_full_file_system_refuses_and_still_deletes() {
    let memory = Memory::new(2 << 20);
    let fs = format(&memory, 12);
    let free = fs.status().blocks_free;
    let value = std::vec![7; 1500];
    let mut stored = 0;
    let error = loop {
        let key = Key::new(5000 + stored, Kind::Inline, 0);
        match fs.operation(2, false, |tree| tree.put(key, &[&value])) {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::NoSpace);
    assert!(stored > 400, "only {stored} items of 1500 bytes fit 2 MiB");
    for n in 0..stored {
        fs.operation(2, true, |tree| tree.remove(Key::new(5000 + n, Kind::Inline, 0))).unwrap();
    }
    fs.commit().unwrap();
    assert_eq!(fs.status().blocks_free, free);
}

/// A group that nodes come from is filled to within a few blocks, over and over: whether all of it
/// is in use decides how long its own item is, and so how many nodes there are.
#[test]
fn a_commit_ends_whatever_writing_the_groups_does_to_the_groups() {
    for seed in 1..=16 {
        // Untouched memory of the device takes none.
        let memory = Memory::new(24 * ((GROUP_BLOCKS as usize) << 12));
        let fs = format(&memory, 12);
        let mut rng = Rng(0x51_7cc1 + seed);
        let mut held: Vec<Run> = Vec::new();
        for _ in 0..400 {
            // Room for the next round, here and there.
            fs.operation(8, true, |tree| {
                while held.iter().map(|run| run.length).sum::<u64>() > 16 * GROUP_BLOCKS {
                    let run = held.swap_remove(rng.below(held.len() as u64) as usize);
                    tree.space.free(run, false)?;
                }
                Ok(())
            })
            .unwrap();
            fs.commit().unwrap();
            fs.operation_with_blocks(8, GROUP_BLOCKS, false, |tree| {
                let (number, available) = tree.space.node_group();
                let left = rng.below(6);
                let mut wanted = available.saturating_sub(left);
                while wanted > 0 {
                    let run = tree.space.allocate_data(wanted, Some(number * GROUP_BLOCKS))?;
                    wanted -= run.length.min(wanted);
                    held.push(run);
                }
                Ok(())
            })
            .unwrap();
            fs.commit().unwrap();
        }
    }
}

/// Who wants many blocks gets them in a row, although the groups that were loaded first are full of
/// holes that are enough in sum.
#[test]
fn long_runs_are_found_behind_scattered_space() {
    let memory = Memory::new(24 * ((GROUP_BLOCKS as usize) << 12));
    let fs = format(&memory, 12);
    let mut held = Vec::new();
    while held.iter().map(|run: &Run| run.length).sum::<u64>() < 3 * GROUP_BLOCKS {
        let run =
            fs.operation_with_blocks(4, 256, false, |tree| tree.space.allocate_data(256, None));
        held.push(run.unwrap());
    }
    for run in &held {
        fs.operation(64, true, |tree| {
            for at in (run.start..run.end()).step_by(8) {
                tree.space.free(Run { start: at, length: 4 }, false)?;
            }
            Ok(())
        })
        .unwrap();
    }
    fs.commit().unwrap();
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    let pieces = || {
        fs.operation_with_blocks(4, 256, false, |tree| {
            let (mut left, mut pieces) = (256, 0);
            while left > 0 {
                left -= tree.space.allocate_data(left, Some(held[0].start))?.length;
                pieces += 1;
            }
            Ok(pieces)
        })
        .unwrap()
    };
    let pieces: Vec<u64> = (0..40).map(|_| pieces()).collect();
    assert!(pieces.iter().filter(|pieces| **pieces > 1).count() < 8, "{pieces:?}");
    fs.commit().unwrap();
}

/// Two extents of a damaged image may name one block, and one operation may free both.
#[test]
fn runs_that_overlap_are_not_freed_in_one_operation() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let run = fs.operation_with_blocks(4, 10, false, |tree| tree.space.allocate_data(10, None));
    let run = run.unwrap();
    assert_eq!(run.length, 10);
    fs.commit().unwrap();
    let free = fs.status().blocks_free;
    let part = |from: u64, length: u64| Run { start: run.start + from, length };
    let overlapping: [&[Run]; 4] = [
        &[part(0, 6), part(4, 4)],
        &[part(4, 4), part(0, 6)],
        &[part(2, 3), part(2, 3)],
        &[part(0, 10), part(8, 1), part(3, 1)],
    ];
    for runs in overlapping {
        let result = fs.operation(4, true, |tree| {
            for run in runs {
                tree.space.free(*run, false)?;
            }
            Ok(())
        });
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{runs:?}: {result:?}");
        assert_eq!(fs.status().blocks_free, free);
    }
    // Nothing has changed: the blocks can be freed still, and the group's count is right.
    fs.operation(4, true, |tree| {
        tree.space.free(part(5, 5), false)?;
        tree.space.free(part(0, 5), false)
    })
    .unwrap();
    fs.commit().unwrap();
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    assert!(fs.status().blocks_free >= free + 9);
    fs.operation(2, false, |tree| tree.put(Key::new(2000, Kind::Inline, 0), &[b"x"])).unwrap();
}

#[test]
fn the_last_write_of_a_commit_is_durable_once_the_file_system_is_settled() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let unflushed = || memory.unflushed.load(std::sync::atomic::Ordering::SeqCst);
    fs.settle().unwrap();
    for number in 2000..2003 {
        fs.operation(2, false, |tree| tree.put(Key::new(number, Kind::Inline, 0), &[b"x"]))
            .unwrap();
        fs.commit().unwrap();
        // A commit does not wait for its mirror.
        assert!(unflushed());
        fs.settle().unwrap();
        assert!(!unflushed());
    }
    fs.operation(2, false, |tree| tree.put(Key::new(3000, Kind::Inline, 0), &[b"x"])).unwrap();
    fs.commit().unwrap();
    memory.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(matches!(fs.settle(), Err(Error::Device(_))));
    memory.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!((fs.settle(), fs.commit()), (Err(Error::Poisoned), Err(Error::Poisoned)));
}

/// Files come and go in a file system that is nearly full, until free blocks and nodes would be all
/// over it, while most of its groups are not in memory.
#[test]
fn a_small_commit_writes_little_in_an_aged_file_system_of_which_few_groups_are_loaded() {
    // Untouched memory of the device takes none.
    let memory = Memory::new(256 * ((GROUP_BLOCKS as usize) << 12));
    let fs = format(&memory, 12);
    fs.commit().unwrap();
    let (blocks, free) = (fs.status().blocks, fs.status().blocks_free);
    let (mut loaded_most, mut written_most) = (0, 0);
    fs.tree.write().space.set_loaded_max(24);
    let mut rng = Rng(0xa6ed);
    let new = |mode| NewInode { mode, owner: (0, 0), device: 0 };
    let directories: Vec<u64> = (0..32)
        .map(|n| fs.create(1, std::format!("d{n}").as_bytes(), &new(MODE_DIRECTORY | 0o755)))
        .map(|directory| directory.unwrap())
        .collect();
    let mut files: Vec<(u64, std::string::String, u64)> = Vec::new();
    let mut made = 0;
    for round in 0..6_000 {
        while fs.status().blocks_free > blocks / 100 * 7 {
            made += 1;
            let directory = directories[rng.below(32) as usize];
            let name = std::format!("a file of the number {made}");
            let file = fs.create(directory, name.as_bytes(), &new(MODE_FILE | 0o644)).unwrap();
            fs.preallocate(file, 0, (1 + rng.below(600)) << 12, false).unwrap();
            files.push((directory, name, file));
        }
        let (directory, name, _) = files.swap_remove(rng.below(files.len() as u64) as usize);
        fs.unlink(directory, name.as_bytes()).unwrap();
        if round % 20 == 0 {
            fs.commit().unwrap();
        }
        if round % 100 == 0 {
            fs.commit().unwrap();
            let before = memory.written.load(std::sync::atomic::Ordering::SeqCst);
            let (_, _, file) = files[rng.below(files.len() as u64) as usize];
            let owner = SetAttributes { uid: Some(round), ..Default::default() };
            fs.set_attributes(file, &owner).unwrap();
            loaded_most = loaded_most.max(fs.reader().space.loaded());
            fs.commit().unwrap();
            let written = memory.written.load(std::sync::atomic::Ordering::SeqCst) - before;
            written_most = written_most.max(written);
        }
    }
    assert!(written_most <= 40 << 10, "a small commit wrote {written_most} bytes");
    assert!(loaded_most < 100, "{loaded_most} groups are loaded of 256");
    fs.commit().unwrap();
    check_committed(&memory);
    for (directory, name, _) in files {
        fs.unlink(directory, name.as_bytes()).unwrap();
    }
    for n in 0..32 {
        fs.remove_directory(1, std::format!("d{n}").as_bytes()).unwrap();
    }
    fs.commit().unwrap();
    check_committed(&memory);
    // Nodes of groups' items that are not quite small enough to be merged may stay.
    assert!(fs.status().blocks_free >= free - 8);
}

/// As a hostile image may say it.
#[test]
fn an_object_number_in_use_is_not_given_out() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let precious = fs.create(1, b"precious", &new).unwrap();
    fs.write(precious, 0, &[7; 20_000]).unwrap();
    fs.tree.write().state.next_object = precious;
    let made = fs.create(1, b"new", &new);
    assert!(matches!(made, Err(Error::Corrupt { .. })), "{made:?}");
    assert_eq!(fs.inode(precious).unwrap().size, 20_000);
    assert_eq!(fs.lookup(1, b"new"), Err(Error::NotFound));
}
