// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The core's host in a process of Linux: time, randomness, checksums, locks and kernels.

use crate::device::Device;
use lock_api::{GuardSend, RawRwLock as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use vexfs_core::{Checksum, Clock, Host, LockClass, Locks, Random, RawLock, Timestamp, Unobserved};
use vexfs_memory::{OutOfMemory, try_box};

/// A host that keeps the file system on `device`.
pub fn host(device: Device) -> Host {
    Host {
        device: Box::new(device),
        clock: Box::new(SystemClock { started: Instant::now() }),
        random: Box::new(SystemRandom),
        checksum: Box::new(Crc32c),
        locks: Box::new(ThreadLocks),
        kernels: Box::new(vexfs_simd::detect()),
        observer: Box::new(Unobserved),
    }
}

/// The time of day.
pub fn now() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => {
            Timestamp { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
        }
        // A clock before 1970 counts down; the nanoseconds always count up.
        Err(before) => {
            let before = before.duration();
            let seconds = -(before.as_secs() as i64);
            match before.subsec_nanos() {
                0 => Timestamp { seconds, nanoseconds: 0 },
                part => Timestamp { seconds: seconds - 1, nanoseconds: 1_000_000_000 - part },
            }
        }
    }
}

struct SystemClock {
    started: Instant,
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        now()
    }

    fn monotonic_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // Linux has `getrandom(2)` since 3.17, and it fails only for requests that it never gets
        // here. Going on with predictable numbers would be worse than stopping.
        if let Err(error) = getrandom::fill(buffer) {
            panic!("the system gives no random numbers: {error}");
        }
    }
}

struct Crc32c;

impl Checksum for Crc32c {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        crc32c::crc32c_append(seed, data)
    }
}

struct ThreadLocks;

struct ThreadLock(parking_lot::RawRwLock);

// SAFETY: `parking_lot::RawRwLock` is a readers-writer lock by the contract of its own unsafe trait
// `lock_api::RawRwLock`: exclusion as asked for here, acquire and release ordering included. The
// core calls each unlock once, after the lock that matches it (`vexfs_core`'s guards), which is
// what `unlock_shared` and `unlock_exclusive` of that trait ask of their callers.
unsafe impl RawLock for ThreadLock {
    fn lock_shared(&self) {
        let _: GuardSend = self.0.lock_shared();
    }

    fn try_lock_shared(&self) -> bool {
        self.0.try_lock_shared().is_some()
    }

    fn unlock_shared(&self) {
        // SAFETY: the caller holds a share, by the contract of `RawLock`; the state of an
        // acquisition is empty.
        unsafe { self.0.unlock_shared(GuardSend::new()) }
    }

    fn lock_exclusive(&self) {
        let _: GuardSend = self.0.lock_exclusive();
    }

    fn try_lock_exclusive(&self) -> bool {
        self.0.try_lock_exclusive().is_some()
    }

    fn unlock_exclusive(&self) {
        // SAFETY: the caller holds the lock exclusively, by the contract of `RawLock`; the state of
        // an acquisition is empty.
        unsafe { self.0.unlock_exclusive(GuardSend::new()) }
    }
}

impl Locks for ThreadLocks {
    fn new_lock(&self, _class: LockClass) -> Result<Box<dyn RawLock>, OutOfMemory> {
        let lock: Box<dyn RawLock> = try_box(ThreadLock(parking_lot::RawRwLock::INIT))?;
        Ok(lock)
    }
}
