// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The rest of the simulated host: time that ticks with every look at it, randomness from a seed,
//! locks that know the order in which they must be taken.

use crate::SeededRandom;
use crate::allocation::exempt;
use crate::device::SimulatedDevice;
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use vexfs_core::{
    Checksum, Clock, FileSystem, FormatOptions, Host, LockClass, Locks, Random, RawLock, Timestamp,
    Unobserved,
};
use vexfs_memory::{OutOfMemory, try_box};

/// A clock that moves on by a second and a bit each time somebody looks.
pub struct SimulatedClock(AtomicU64);

impl SimulatedClock {
    /// A clock that shows `seconds` since 1970.
    pub fn new(seconds: u64) -> Self {
        Self(AtomicU64::new(seconds * 1_000_000_000))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        let ns = self.monotonic_ns();
        Timestamp { seconds: (ns / 1_000_000_000) as i64, nanoseconds: (ns % 1_000_000_000) as u32 }
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.fetch_add(1_000_000_007, Ordering::SeqCst)
    }
}

struct Seeded(Mutex<SeededRandom>);

impl Random for Seeded {
    fn fill(&self, buffer: &mut [u8]) {
        exempt(|| {
            let mut random = self.0.lock().expect("no panic while it is held");
            buffer.copy_from_slice(&random.bytes(buffer.len()));
        });
    }
}

struct Crc32c;

impl Checksum for Crc32c {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c::crc32c_append(seed, data)
    }
}

thread_local! {
    /// Locks of every class that this thread holds.
    static HELD: Cell<[u8; 16]> = const { Cell::new([0; 16]) };
}

/// Counts holders under a mutex, and panics where locks are taken against the order of
/// [`LockClass`] or twice by one thread: on another day that would be a deadlock.
struct OrderedLock {
    class: LockClass,
    /// -1 for an exclusive holder, else the number of shares.
    holders: Mutex<isize>,
    changed: Condvar,
}

impl OrderedLock {
    fn holders(&self) -> MutexGuard<'_, isize> {
        self.holders.lock().expect("no panic while it is held")
    }

    fn enter(&self) {
        let class = self.class as usize;
        let mut held = HELD.get();
        if let Some(later) = (class..held.len()).find(|later| held[*later] > 0) {
            exempt(|| {
                panic!(
                    "a lock of class {:?} is taken while one of rank {later} is held",
                    self.class
                )
            });
        }
        held[class] += 1;
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
unsafe impl RawLock for OrderedLock {
    fn lock_shared(&self) {
        self.enter();
        let mut holders = self.holders();
        while *holders < 0 {
            holders = self.changed.wait(holders).expect("no panic while it is held");
        }
        *holders += 1;
    }

    fn try_lock_shared(&self) -> bool {
        let mut holders = self.holders();
        let free = *holders >= 0;
        if free {
            self.enter();
            *holders += 1;
        }
        free
    }

    fn unlock_shared(&self) {
        self.leave();
        *self.holders() -= 1;
        self.changed.notify_all();
    }

    fn lock_exclusive(&self) {
        self.enter();
        let mut holders = self.holders();
        while *holders != 0 {
            holders = self.changed.wait(holders).expect("no panic while it is held");
        }
        *holders = -1;
    }

    fn try_lock_exclusive(&self) -> bool {
        let mut holders = self.holders();
        let free = *holders == 0;
        if free {
            self.enter();
            *holders = -1;
        }
        free
    }

    fn unlock_exclusive(&self) {
        self.leave();
        *self.holders() = 0;
        self.changed.notify_all();
    }
}

struct OrderedLocks;

impl Locks for OrderedLocks {
    fn new_lock(&self, class: LockClass) -> Result<Box<dyn RawLock>, OutOfMemory> {
        let lock = OrderedLock { class, holders: Mutex::new(0), changed: Condvar::new() };
        let lock: Box<dyn RawLock> = try_box(lock)?;
        Ok(lock)
    }
}

/// A host with this device, whose clock and randomness follow from `seed`.
pub fn host(device: &SimulatedDevice, seed: u64) -> Host {
    // Their answers are the same on every machine.
    let kernels = vexfs_simd::set("portable").expect("the portable kernels run everywhere");
    Host {
        device: Box::new(device.clone()),
        clock: Box::new(SimulatedClock::new(1_800_000_000 + seed % 1_000_000)),
        random: Box::new(Seeded(Mutex::new(SeededRandom::new(seed)))),
        checksum: Box::new(Crc32c),
        locks: Box::new(OrderedLocks),
        kernels: Box::new(kernels),
        observer: Box::new(Unobserved),
    }
}

/// Options of a file system whose identity is always the same.
pub fn format_options() -> FormatOptions {
    let mut label = [0; 64];
    label[..10].copy_from_slice(b"simulation");
    FormatOptions { uuid: *b"vexfs simulation", label, ..FormatOptions::default() }
}

/// A new file system on a new device of so many bytes.
pub fn format(bytes: u64, seed: u64) -> SimulatedDevice {
    let device = SimulatedDevice::new(bytes);
    FileSystem::format(host(&device, seed), &format_options()).expect("formatting");
    device
}
