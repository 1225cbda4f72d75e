// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! File data on a failing device, under several threads, and over a crash.

use crate::data_tests::{audit, check_committed, create};
use crate::error::DeviceError;
use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::*;
use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::vec::Vec;

/// A device that fails the write, or the read, which a countdown reaches. At -1 none fails.
#[derive(Clone)]
struct Failing {
    memory: Memory,
    writes: Arc<AtomicI64>,
    reads: Arc<AtomicI64>,
}

impl Failing {
    fn new(memory: &Memory) -> Self {
        let never = || Arc::new(AtomicI64::new(-1));
        Self { memory: memory.clone(), writes: never(), reads: never() }
    }

    fn open(&self) -> FileSystem {
        let host = Host { device: Box::new(self.clone()), ..self.memory.host() };
        FileSystem::open(host, &OpenOptions::default()).unwrap()
    }
}

fn count_down(counter: &AtomicI64, offset: u64) -> core::result::Result<(), DeviceError> {
    match counter.load(Ordering::SeqCst) {
        -1 => Ok(()),
        0 => Err(DeviceError { errno: 5, offset }),
        more => {
            counter.store(more - 1, Ordering::SeqCst);
            Ok(())
        }
    }
}

impl BlockDevice for Failing {
    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), DeviceError> {
        count_down(&self.reads, offset)?;
        self.memory.read(offset, buffer)
    }
    fn write(&self, offset: u64, data: &[u8]) -> core::result::Result<(), DeviceError> {
        count_down(&self.writes, offset)?;
        self.memory.write(offset, data)
    }
    fn flush(&self) -> core::result::Result<(), DeviceError> {
        self.memory.flush()
    }
    fn discard(&self, offset: u64, length: u64) -> core::result::Result<(), DeviceError> {
        self.memory.discard(offset, length)
    }
}

fn whole(fs: &FileSystem, number: u64) -> Vec<u8> {
    let mut bytes = std::vec![0; fs.inode(number).unwrap().size as usize];
    assert_eq!(fs.read(number, 0, &mut bytes), Ok(bytes.len()));
    bytes
}

#[test]
fn a_device_error_at_any_point_of_a_write_changes_and_leaks_nothing() {
    let memory = Memory::new(16 << 20);
    drop(format(&memory, 12));
    let device = Failing::new(&memory);
    let fs = device.open();
    let number = create(&fs, "file");
    // Every other block is a hole, so that new blocks come in many runs.
    for n in 0..40u64 {
        fs.write(number, n * 8192, &[n as u8 + 1; 4096]).unwrap();
    }
    fs.truncate(number, 79 * 4096 - 9).unwrap();
    fs.preallocate(number, 20 * 4096, 4096 * 9, true).unwrap();
    let mut rng = Rng(41);
    let (mut failed, mut done) = (0, 0);
    for round in 0..60 {
        let (before, inode) = (whole(&fs, number), fs.inode(number).unwrap());
        let (offset, length) = (rng.below(300_000), 1 + rng.below(100_000) as usize);
        let counter = if round % 3 == 0 { &device.reads } else { &device.writes };
        for countdown in 0.. {
            counter.store(countdown, Ordering::SeqCst);
            let result = match rng.below(8) {
                0 => fs.punch(number, offset | 1, length as u64 % 4000 + 1),
                _ => fs.write(number, offset, &std::vec![round as u8; length]),
            };
            counter.store(-1, Ordering::SeqCst);
            match result {
                Ok(()) => {
                    done += 1;
                    break;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Device(_)), "{error:?}");
                    assert!(whole(&fs, number) == before, "a failed write changed bytes");
                    assert_eq!(fs.inode(number).unwrap(), inode);
                    failed += 1;
                }
            }
        }
        audit(&fs);
    }
    assert!(failed >= 20 && done == 60, "{failed} failures");
    // A commit in the middle of a write persists nothing of it, and a crash then leaks nothing.
    let pieces = fs.allocate(number, 500, 64, 0).unwrap();
    fs.commit().unwrap();
    let blocks = pieces.iter().map(|piece| piece.blocks).sum::<u64>();
    let before = fs.status();
    let after = device.open();
    audit(&after);
    assert_eq!(after.status().blocks_free, before.blocks_free);
    assert_eq!(after.status().blocks_available, before.blocks_available + blocks);
    assert!(whole(&after, number) == whole(&fs, number));
}

#[test]
fn a_crash_keeps_what_was_committed_whatever_was_written_since() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let (a, b) = (create(&fs, "a"), create(&fs, "b"));
    let old: Vec<u8> = (0..500_000u32).map(|i| (i / 7) as u8).collect();
    fs.write(a, 0, &old).unwrap();
    fs.preallocate(a, 500_000, 100_000, false).unwrap();
    fs.clone_range(a, 0, b, 0, 0).unwrap();
    fs.commit().unwrap();
    let mut rng = Rng(5);
    for n in 0..300u64 {
        let number = if n % 2 == 0 { a } else { b };
        let length = 1 + rng.below(50_000);
        fs.write(number, rng.below(550_000), &std::vec![n as u8; length as usize]).unwrap();
        if n % 10 == 0 {
            fs.truncate(number, rng.below(600_000)).unwrap();
        }
    }
    let mut expected = old;
    expected.resize(600_000, 0);
    let after = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    audit(&after);
    assert!(whole(&after, a) == expected && whole(&after, b) == expected);
    audit(&fs);
}

#[test]
fn blocks_of_the_published_state_are_not_reused_when_an_extent_has_grown_since() {
    let memory = Memory::new(2 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "file");
    let old: Vec<u8> = (0..40_960u32).map(|i| (i / 3) as u8).collect();
    fs.write(number, 0, &old).unwrap();
    fs.commit().unwrap();
    fs.write(number, 40_960, &old).unwrap();
    let map = fs.map(number, 0, 100).unwrap();
    assert_eq!(map.blocks, 20, "the file goes on in other blocks: {map:?}");
    fs.truncate(number, 0).unwrap();
    // Goes over every block that may be had without a commit.
    let other = create(&fs, "other");
    let before = fs.status().generation;
    for n in 0..600u64 {
        fs.truncate(other, 0).unwrap();
        fs.write(other, 0, &[0xaa; 4096]).unwrap();
        assert_eq!(fs.status().generation, before, "a commit was not asked for");
        let after = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
        assert!(whole(&after, number) == old, "a published block was reused at write {n}");
    }
}

/// A device that calls back before it reads a block, or before it discards any when `offset` is
/// [`DISCARD`].
struct Interrupted {
    memory: Memory,
    offset: Arc<AtomicU64>,
    callback: Arc<Mutex<Option<Callback>>>,
}

const DISCARD: u64 = u64::MAX - 1;

type Callback = Box<dyn FnOnce() + Send>;

impl BlockDevice for Interrupted {
    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), DeviceError> {
        if offset == self.offset.load(Ordering::SeqCst) {
            let callback = self.callback.lock().unwrap().take();
            if let Some(callback) = callback {
                callback();
            }
        }
        self.memory.read(offset, buffer)
    }
    fn write(&self, offset: u64, data: &[u8]) -> core::result::Result<(), DeviceError> {
        self.memory.write(offset, data)
    }
    fn flush(&self) -> core::result::Result<(), DeviceError> {
        Ok(())
    }
    fn discard(&self, offset: u64, length: u64) -> core::result::Result<(), DeviceError> {
        if self.offset.load(Ordering::SeqCst) == DISCARD {
            let callback = self.callback.lock().unwrap().take();
            if let Some(callback) = callback {
                callback();
            }
        }
        self.memory.discard(offset, length)
    }
}

#[test]
fn others_go_on_while_a_device_discards_and_get_none_of_the_blocks() {
    let memory = Memory::new(2 << 20);
    drop(format(&memory, 12));
    let (offset, callback) = (Arc::new(AtomicU64::new(DISCARD)), Arc::new(Mutex::new(None)));
    let device =
        Interrupted { memory: memory.clone(), offset: offset.clone(), callback: callback.clone() };
    let host = Host { device: Box::new(device), ..memory.host() };
    let options = OpenOptions { discard: true, ..OpenOptions::default() };
    let fs = Arc::new(FileSystem::open(host, &options).unwrap());
    let old = create(&fs, "old");
    fs.write(old, 0, &[1; 400 << 10]).unwrap();
    fs.commit().unwrap();
    fs.unlink(layout::ROOT_INODE, b"old").unwrap();
    let (writer, (done, finished)) = (fs.clone(), std::sync::mpsc::channel());
    *callback.lock().unwrap() = Some(Box::new(move || {
        std::thread::spawn(move || {
            let new = create(&writer, "new");
            for block in 0..100 {
                writer.write(new, block << 12, &[2; 4096]).unwrap();
            }
            done.send(new)
        });
        // Not for ever: a failure is better to read than a test that hangs.
        let waited = std::time::Duration::from_secs(10);
        let number = finished.recv_timeout(waited).expect("had to wait for the discard");
        assert!(number > old);
    }));
    for n in 0..3u8 {
        fs.set_label(std::str::from_utf8(&[b'a' + n]).unwrap()).unwrap();
        fs.commit().unwrap();
    }
    assert!(callback.lock().unwrap().is_none(), "nothing was discarded");
    let new = fs.lookup(layout::ROOT_INODE, b"new").unwrap();
    assert!(whole(&fs, new) == [2; 100 << 12]);
    fs.commit().unwrap();
    audit(&fs);
}

#[test]
fn a_block_that_changes_hands_between_lookup_and_read_is_looked_up_again() {
    let memory = Memory::new(2 << 20);
    drop(format(&memory, 12));
    let (offset, callback) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(Mutex::new(None)));
    let device =
        Interrupted { memory: memory.clone(), offset: offset.clone(), callback: callback.clone() };
    let host = Host { device: Box::new(device), ..memory.host() };
    let fs = Arc::new(FileSystem::open(host, &OpenOptions::default()).unwrap());
    let number = create(&fs, "file");
    let other = create(&fs, "other");
    fs.write(number, 0, &[1; 8192]).unwrap();
    let place = fs.map(number, 0, 2).unwrap().device_block * 4096;
    let (writer, bytes) = (fs.clone(), memory.bytes.clone());
    *callback.lock().unwrap() = Some(Box::new(move || {
        // The file goes elsewhere, and its old blocks to another file.
        writer.write(number, 0, &[2; 8192]).unwrap();
        let first = || bytes.lock().unwrap()[place as usize];
        for _ in 0..1000 {
            if first() == 3 {
                return;
            }
            // Each time in the next free block of the device.
            writer.truncate(other, 0).unwrap();
            writer.write(other, 0, &[3; 4096]).unwrap();
        }
        panic!("the old block was never used again");
    }));
    offset.store(place, Ordering::SeqCst);
    let mut buffer = [0; 8192];
    assert_eq!(fs.read(number, 0, &mut buffer), Ok(8192));
    assert!(callback.lock().unwrap().is_none(), "the read went elsewhere");
    assert!(buffer[..4096] == [2; 4096]);
    assert!(buffer[4096..] == [1; 4096] || buffer[4096..] == [2; 4096]);
}

type Once = Box<dyn FnOnce() + Send>;

/// A device that does something once, with the next write, before it.
#[derive(Clone)]
struct Interposed {
    memory: Memory,
    next: Arc<Mutex<Option<Once>>>,
}

impl BlockDevice for Interposed {
    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> core::result::Result<(), DeviceError> {
        self.memory.read(offset, buffer)
    }
    fn write(&self, offset: u64, data: &[u8]) -> core::result::Result<(), DeviceError> {
        let next = self.next.lock().unwrap().take();
        if let Some(next) = next {
            next();
        }
        self.memory.write(offset, data)
    }
    fn flush(&self) -> core::result::Result<(), DeviceError> {
        self.memory.flush()
    }
    fn discard(&self, offset: u64, length: u64) -> core::result::Result<(), DeviceError> {
        self.memory.discard(offset, length)
    }
}

#[test]
fn a_small_file_that_moves_into_a_block_loses_nothing_written_meanwhile() {
    let memory = Memory::new(8 << 20);
    drop(format(&memory, 12));
    let device = Interposed { memory: memory.clone(), next: Arc::default() };
    let host = Host { device: Box::new(device.clone()), ..memory.host() };
    let fs = Arc::new(FileSystem::open(host, &OpenOptions::default()).unwrap());
    for (name, in_block) in [("a", true), ("b", false)] {
        let number = create(&fs, name);
        fs.write(number, 0, &[1; 500]).unwrap();
        let wanted = std::vec![2; if in_block { 3000 } else { 600 }];
        let first = fs.allocate(number, 0, u64::from(in_block), 0).unwrap();
        let (other, disk, bytes) = (fs.clone(), memory.clone(), wanted.clone());
        *device.next.lock().unwrap() = Some(Box::new(move || {
            if !in_block {
                return other.complete_inline(number, &bytes).unwrap();
            }
            let mut block = bytes.clone();
            block.resize(4096, 0);
            disk.write(first[0].device_block << 12, &block).unwrap();
            let checksums = [other.host.checksum.crc32c(0, &block)];
            let done = Completion { blocks: first[0], checksums: &checksums };
            other.complete(number, &[done], Some(bytes.len() as u64)).unwrap();
        }));
        let blocks = fs.allocate(number, 5, 1, 0).unwrap();
        assert!(device.next.lock().unwrap().is_none());
        blocks.iter().for_each(|piece| fs.cancel(piece));
        assert!(whole(&fs, number) == wanted, "{name}");
    }
    audit(&fs);
}

/// Lets the other threads end when one has failed.
struct StopAtPanic<'a>(&'a AtomicBool);

impl Drop for StopAtPanic<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Block `n` of version `v` is filled by this.
fn stamp(n: u64, version: u64) -> u8 {
    (n * 31 + version * 7) as u8
}

#[test]
fn readers_see_each_block_before_or_after_a_write_and_never_fail() {
    const BLOCKS: u64 = 32;
    let memory = Memory::new(4 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "file");
    let content = |v: u64| (0..BLOCKS).flat_map(|n| [stamp(n, v); 4096]).collect::<Vec<u8>>();
    fs.write(number, 0, &content(0)).unwrap();
    // The version that is surely there, and the one that may be there.
    let (settled, started) = (AtomicU64::new(0), AtomicU64::new(0));
    let (stop, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (fs, settled, started, stop, reads) = (&fs, &settled, &started, &stop, &reads);
            scope.spawn(move || {
                let _stop = StopAtPanic(stop);
                let mut rng = Rng(1 + reader);
                let mut buffer = std::vec![0; BLOCKS as usize * 4096];
                while !stop.load(Ordering::SeqCst) {
                    let offset = rng.below(BLOCKS * 4096);
                    let oldest = settled.load(Ordering::SeqCst);
                    let got = fs.read(number, offset, &mut buffer).unwrap();
                    let newest = started.load(Ordering::SeqCst);
                    assert_eq!(got as u64, BLOCKS * 4096 - offset);
                    for block in offset / 4096..BLOCKS {
                        let from = (block * 4096).max(offset) - offset;
                        let to = (block + 1) * 4096 - offset;
                        let bytes = &buffer[from as usize..to as usize];
                        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "torn block");
                        let known = (oldest..=newest).any(|v| stamp(block, v) == bytes[0]);
                        assert!(known, "block {block} of no version {oldest}..={newest}");
                    }
                    reads.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Other files take the freed blocks up at once.
        let (fs_ref, stop_ref) = (&fs, &stop);
        scope.spawn(move || {
            let _stop = StopAtPanic(stop_ref);
            let other = create(fs_ref, "other");
            let mut n = 0u64;
            while !stop_ref.load(Ordering::SeqCst) {
                fs_ref.write(other, n % 8 * 8192, &[n as u8; 20_000]).unwrap();
                n += 1;
            }
        });
        let _stop = StopAtPanic(&stop);
        for version in 1..400 {
            started.store(version, Ordering::SeqCst);
            fs.write(number, 0, &content(version)).unwrap();
            settled.store(version, Ordering::SeqCst);
            if version % 50 == 0 {
                fs.commit().unwrap();
            }
        }
        while reads.load(Ordering::SeqCst) < 50 && !stop.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(whole(&fs, number) == content(399));
    audit(&fs);
}

#[test]
fn blocks_of_many_clones_are_freed_by_the_last_one() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    fs.commit().unwrap();
    let free = fs.status().blocks_free;
    let first = create(&fs, "0");
    fs.write(first, 0, &std::vec![1; 1 << 20]).unwrap();
    let mut names = std::vec!["0"];
    for name in ["1", "2", "3", "4", "5", "6", "7"] {
        let number = create(&fs, name);
        // Parts that overlap in many ways, so that counts split and join.
        for n in 0..8u64 {
            let from = n * 97 % 16 * 16 * 4096;
            fs.clone_range(first, from, number, n * 40 * 4096, (n + 1) * 4 * 4096).unwrap();
        }
        names.push(name);
        audit(&fs);
    }
    let used = free - fs.status().blocks_free;
    assert!(used < 256 + 64, "clones took {used} blocks");
    let mut shared = 0;
    fs.extents(first, 0, &mut |info| {
        shared += u64::from(info.shared);
        true
    })
    .unwrap();
    assert!(shared > 0);
    fs.commit().unwrap();
    check_committed(&memory);
    for name in names {
        fs.unlink(layout::ROOT_INODE, name.as_bytes()).unwrap();
        audit(&fs);
    }
    fs.commit().unwrap();
    assert_eq!(fs.status().blocks_free, free);
}

#[test]
fn a_fragmented_file_system_that_is_full_to_the_last_block_can_be_emptied() {
    for (block_log2, bytes) in [(12, 3 << 20), (12, 24 << 20), (16, 40 << 20)] {
        let memory = Memory::new(bytes);
        let fs = format(&memory, block_log2);
        fs.commit().unwrap();
        let free = fs.status().blocks_free;
        let block = 1u64 << block_log2;
        let chunk = std::vec![7u8; block as usize];
        let (a, b) = (create(&fs, "a"), create(&fs, "b"));
        // Two files by turns, each with holes, so that no extent has a second block.
        let mut n = 0;
        while fs.write(a, n * 2 * block, &chunk).is_ok()
            && fs.write(b, n * 2 * block, &chunk).is_ok()
        {
            n += 1;
        }
        assert!(n > 100, "{n} blocks fit");
        // References and small files until nothing is taken any more.
        let c = create(&fs, "c");
        for m in 0..n {
            if fs.clone_range(a, m * 2 * block, c, m * 4 * block, block) == Err(Error::NoSpace) {
                break;
            }
        }
        let mut names = std::vec!["a".into(), "b".into(), "c".into()];
        for m in 0..3000 {
            let name = std::format!("small {m}");
            let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
            match fs.create(layout::ROOT_INODE, name.as_bytes(), &new) {
                Ok(number) => {
                    names.push(name);
                    let _ = fs.write(number, 0, &[1; 1000]);
                }
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    break;
                }
            }
        }
        audit(&fs);
        fs.punch(b, block / 2, n * block).unwrap();
        fs.truncate(c, n * block + 5).unwrap();
        for name in names {
            fs.unlink(layout::ROOT_INODE, name.as_bytes()).unwrap();
        }
        audit(&fs);
        fs.commit().unwrap();
        check_committed(&memory);
        assert_eq!(fs.status().blocks_free, free);
    }
}
