// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A host for the unit tests: a device in memory, a clock that ticks, locks of the standard library.

use crate::error::DeviceError;
use crate::host::*;
use std::boxed::Box;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::vec::Vec;
use vexfs_memory::OutOfMemory;

/// A device in memory; clones share it.
#[derive(Clone)]
pub struct Memory {
    pub bytes: Arc<Mutex<Vec<u8>>>,
    pub written: Arc<AtomicU64>,
    /// How often was read.
    pub reads: Arc<AtomicU64>,
    pub broken: Arc<AtomicBool>,
    /// Something was written since the last flush.
    pub unflushed: Arc<AtomicBool>,
    /// Writes that still succeed; without end when `u64::MAX`.
    writes_left: Arc<AtomicU64>,
    /// Reads that touch this byte fail.
    pub unreadable: Arc<AtomicU64>,
}

impl Memory {
    pub fn new(bytes: usize) -> Self {
        Self {
            bytes: Arc::new(Mutex::new(std::vec![0; bytes])),
            written: Arc::default(),
            reads: Arc::default(),
            broken: Arc::default(),
            unflushed: Arc::default(),
            writes_left: Arc::new(AtomicU64::new(u64::MAX)),
            unreadable: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }

    /// Lets so many writes succeed and then none; `None` lets all succeed.
    pub fn fail_after(&self, writes: Option<u64>) {
        self.writes_left.store(writes.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub fn host(&self) -> Host {
        Host {
            device: Box::new(self.clone()),
            clock: Box::new(Ticks::default()),
            random: Box::new(Sequence(AtomicU64::new(1))),
            checksum: Box::new(Crc),
            locks: Box::new(StandardLocks),
            kernels: Box::new(vexfs_simd::detect()),
            observer: Box::new(Unobserved),
        }
    }

    fn check(&self, offset: u64) -> Result<(), DeviceError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(DeviceError { errno: 5, offset });
        }
        Ok(())
    }
}

impl BlockDevice for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.check(offset)?;
        self.reads.fetch_add(1, Ordering::SeqCst);
        assert!(offset.is_multiple_of(4096) && buffer.len().is_multiple_of(4096), "unaligned read");
        let unreadable = self.unreadable.load(Ordering::SeqCst);
        if (offset..offset + buffer.len() as u64).contains(&unreadable) {
            return Err(DeviceError { errno: 5, offset });
        }
        let bytes = self.bytes.lock().unwrap();
        buffer.copy_from_slice(&bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.check(offset)?;
        assert!(offset.is_multiple_of(4096) && data.len().is_multiple_of(4096), "unaligned write");
        let left = self.writes_left.load(Ordering::SeqCst);
        if left == 0 {
            return Err(DeviceError { errno: 5, offset });
        }
        if left != u64::MAX {
            self.writes_left.store(left - 1, Ordering::SeqCst);
        }
        self.written.fetch_add(data.len() as u64, Ordering::SeqCst);
        self.unflushed.store(true, Ordering::SeqCst);
        self.bytes.lock().unwrap()[offset as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.check(0)?;
        self.unflushed.store(false, Ordering::SeqCst);
        Ok(())
    }
    fn discard(&self, offset: u64, length: u64) -> Result<(), DeviceError> {
        self.check(offset)?;
        self.bytes.lock().unwrap()[offset as usize..][..length as usize].fill(0xdd);
        Ok(())
    }
}

#[derive(Default)]
struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn now(&self) -> Timestamp {
        let tick = self.0.fetch_add(1, Ordering::SeqCst);
        Timestamp { seconds: 1_700_000_000 + tick as i64, nanoseconds: 7 }
    }
    fn monotonic_ns(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst).saturating_mul(1_000_000_000)
    }
}

struct Sequence(AtomicU64);

impl Random for Sequence {
    fn fill(&self, buffer: &mut [u8]) {
        for byte in buffer {
            *byte = self.0.fetch_add(0x9d, Ordering::SeqCst) as u8 ^ 0x5a;
        }
    }
}

struct Crc;

impl Checksum for Crc {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c::crc32c_append(seed, data)
    }
}

struct StandardLocks;

struct StandardLock {
    class: LockClass,
    holders: Mutex<isize>,
    changed: Condvar,
}

std::thread_local! {
    /// How many locks of each class this thread holds.
    static HELD: Cell<[u32; 9]> = const { Cell::new([0; 9]) };
}

impl StandardLock {
    /// Panics where a thread takes locks against the order of [`LockClass`], or one twice: on
    /// another day that is a deadlock.
    fn enter(&self) {
        let mut held = HELD.get();
        let later = held.iter().skip(self.class as usize).any(|count| *count > 0);
        assert!(!later || std::thread::panicking(), "{:?} is taken too late", self.class);
        held[self.class as usize] += 1;
        HELD.set(held);
    }

    fn leave(&self) {
        let mut held = HELD.get();
        held[self.class as usize] -= 1;
        HELD.set(held);
    }
}

// SAFETY: `holders` is -1 for an exclusive holder and the number of shares otherwise; both are
// taken only when no conflicting holder is counted, under the mutex, which orders memory.
unsafe impl RawLock for StandardLock {
    fn lock_shared(&self) {
        self.enter();
        let mut holders = self.holders.lock().unwrap();
        while *holders < 0 {
            holders = self.changed.wait(holders).unwrap();
        }
        *holders += 1;
    }
    fn try_lock_shared(&self) -> bool {
        let mut holders = self.holders.lock().unwrap();
        let free = *holders >= 0;
        if free {
            self.enter();
            *holders += 1;
        }
        free
    }
    fn unlock_shared(&self) {
        self.leave();
        *self.holders.lock().unwrap() -= 1;
        self.changed.notify_all();
    }
    fn lock_exclusive(&self) {
        self.enter();
        let mut holders = self.holders.lock().unwrap();
        while *holders != 0 {
            holders = self.changed.wait(holders).unwrap();
        }
        *holders = -1;
    }
    fn try_lock_exclusive(&self) -> bool {
        let mut holders = self.holders.lock().unwrap();
        let free = *holders == 0;
        if free {
            self.enter();
            *holders = -1;
        }
        free
    }
    fn unlock_exclusive(&self) {
        self.leave();
        *self.holders.lock().unwrap() = 0;
        self.changed.notify_all();
    }
}

impl Locks for StandardLocks {
    fn new_lock(&self, class: LockClass) -> Result<Box<dyn RawLock>, OutOfMemory> {
        Ok(Box::new(StandardLock { class, holders: Mutex::default(), changed: Condvar::new() }))
    }
}
