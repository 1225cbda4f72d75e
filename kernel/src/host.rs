// SPDX-License-Identifier: GPL-2.0-only
//! The core's host, made of functions that the C half gives: the block device under a super block,
//! the kernel's clocks, randomness, CRC32C and sleeping locks.

use crate::kernels::HostKernels;
use crate::observer::Tracepoints;
use alloc::boxed::Box;
use core::ffi::c_void;
use vexfs_core::{
    BlockDevice, Checksum, Clock, DeviceError, Host, LockClass, Locks, Random, RawLock, Timestamp,
};
use vexfs_memory::{OutOfMemory, try_box};

unsafe extern "C" {
    /// Size of the device in bytes.
    fn vexfs_host_device_bytes(device: *mut c_void) -> u64;
    /// Fills `bytes` bytes at `buffer` from `offset`. Returns 0 or a negative errno.
    fn vexfs_host_device_read(
        device: *mut c_void,
        offset: u64,
        buffer: *mut u8,
        bytes: usize,
    ) -> i32;
    /// Writes `bytes` bytes at `data` to `offset`. Returns 0 or a negative errno.
    fn vexfs_host_device_write(
        device: *mut c_void,
        offset: u64,
        data: *const u8,
        bytes: usize,
    ) -> i32;
    /// Writes `count` pieces, in any order. Returns 0 or a negative errno, and then in `failed` the
    /// offset of a piece that was not written.
    fn vexfs_host_device_write_batch(
        device: *mut c_void,
        writes: *const Write,
        count: usize,
        failed: *mut u64,
    ) -> i32;
    /// Makes what was written durable, then writes, durably too. Returns 0 or a negative errno.
    fn vexfs_host_device_publish(
        device: *mut c_void,
        offset: u64,
        data: *const u8,
        bytes: usize,
    ) -> i32;
    /// Makes what was written durable. Returns 0 or a negative errno.
    fn vexfs_host_device_flush(device: *mut c_void) -> i32;
    /// Tells the device that a range is unused. Returns 0 or a negative errno.
    fn vexfs_host_device_discard(device: *mut c_void, offset: u64, bytes: u64) -> i32;
    /// The time of day; returns the seconds and writes the nanoseconds.
    fn vexfs_host_now(nanoseconds: *mut u32) -> i64;
    /// Nanoseconds of a steady clock.
    fn vexfs_host_monotonic_ns() -> u64;
    /// Fills `bytes` bytes at `buffer` with random ones.
    fn vexfs_host_random(buffer: *mut u8, bytes: usize);
    /// The CRC32C of `bytes` bytes at `data`, continued from `seed`, both in the form of iSCSI.
    fn vexfs_host_crc32c(seed: u32, data: *const u8, bytes: usize) -> u32;
    /// A new reader-writer semaphore, with a lockdep class of its own for each `class`. Null when
    /// there is no memory.
    fn vexfs_host_lock_new(class: u32) -> *mut c_void;
    /// Frees a semaphore that nobody holds.
    fn vexfs_host_lock_free(lock: *mut c_void);
    fn vexfs_host_lock_shared(lock: *mut c_void);
    fn vexfs_host_lock_shared_interruptible(lock: *mut c_void) -> bool;
    fn vexfs_host_try_lock_shared(lock: *mut c_void) -> bool;
    fn vexfs_host_unlock_shared(lock: *mut c_void);
    fn vexfs_host_lock_exclusive(lock: *mut c_void);
    fn vexfs_host_try_lock_exclusive(lock: *mut c_void) -> bool;
    fn vexfs_host_unlock_exclusive(lock: *mut c_void);
}

/// A piece of a batch, with a layout that C can declare.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Write {
    /// Byte offset on the device.
    pub offset: u64,
    /// The data.
    pub data: *const u8,
    /// Bytes of the data.
    pub bytes: usize,
}

/// Pieces that are handed over at once.
const WRITES_MAX: usize = 24;

/// The block device of one super block.
struct KernelDevice(*mut c_void);

// SAFETY: the C half keeps the device for as long as the file system and lets any thread use it.
unsafe impl Send for KernelDevice {}
// SAFETY: as above; its functions may run at the same time.
unsafe impl Sync for KernelDevice {}

/// What a negative errno of a request at `offset` says.
fn outcome(errno: i32, offset: u64) -> Result<(), DeviceError> {
    if errno == 0 { Ok(()) } else { Err(DeviceError { errno: errno.wrapping_neg(), offset }) }
}

impl BlockDevice for KernelDevice {
    fn size_bytes(&self) -> u64 {
        // SAFETY: the device is the one that the C half handed over.
        unsafe { vexfs_host_device_bytes(self.0) }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: the device is the C half's, the buffer outlives the call.
        let errno =
            unsafe { vexfs_host_device_read(self.0, offset, buffer.as_mut_ptr(), buffer.len()) };
        outcome(errno, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: the device is the C half's, the data outlive the call.
        let errno = unsafe { vexfs_host_device_write(self.0, offset, data.as_ptr(), data.len()) };
        outcome(errno, offset)
    }

    fn write_batch(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        for some in writes.chunks(WRITES_MAX) {
            let none = Write { offset: 0, data: core::ptr::null(), bytes: 0 };
            let mut pieces = [none; WRITES_MAX];
            for (piece, (offset, data)) in pieces.iter_mut().zip(some) {
                *piece = Write { offset: *offset, data: data.as_ptr(), bytes: data.len() };
            }
            let mut failed = 0;
            // SAFETY: the device is the C half's; the data and the pieces, of which there are as many
            // as in `some`, outlive the call.
            let errno = unsafe {
                let count = some.len();
                vexfs_host_device_write_batch(self.0, pieces.as_ptr(), count, &raw mut failed)
            };
            outcome(errno, failed)?;
        }
        Ok(())
    }

    fn publish(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        // SAFETY: the device is the C half's, the data outlive the call.
        let errno = unsafe { vexfs_host_device_publish(self.0, offset, data.as_ptr(), data.len()) };
        outcome(errno, offset)
    }

    fn flush(&self) -> Result<(), DeviceError> {
        // SAFETY: the device is the one that the C half handed over.
        outcome(unsafe { vexfs_host_device_flush(self.0) }, 0)
    }

    fn discard(&self, offset: u64, length: u64) -> Result<(), DeviceError> {
        // SAFETY: the device is the one that the C half handed over.
        outcome(unsafe { vexfs_host_device_discard(self.0, offset, length) }, offset)
    }
}

struct KernelClock;

impl Clock for KernelClock {
    fn now(&self) -> Timestamp {
        let mut nanoseconds = 0;
        // SAFETY: the nanoseconds are written to a local of the right type.
        let seconds = unsafe { vexfs_host_now(&raw mut nanoseconds) };
        Timestamp { seconds, nanoseconds }
    }

    fn monotonic_ns(&self) -> u64 {
        // SAFETY: it takes nothing.
        unsafe { vexfs_host_monotonic_ns() }
    }
}

struct KernelRandom;

impl Random for KernelRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // SAFETY: the buffer outlives the call.
        unsafe { vexfs_host_random(buffer.as_mut_ptr(), buffer.len()) }
    }
}

struct KernelChecksum;

impl Checksum for KernelChecksum {
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32 {
        // SAFETY: the data outlive the call.
        unsafe { vexfs_host_crc32c(seed, data.as_ptr(), data.len()) }
    }
}

/// A reader-writer semaphore of the C half.
struct KernelLock(*mut c_void);

// SAFETY: a semaphore is made to be used by any thread.
unsafe impl Send for KernelLock {}
// SAFETY: as above.
unsafe impl Sync for KernelLock {}

// SAFETY: a reader-writer semaphore excludes and orders memory as `RawLock` asks.
unsafe impl RawLock for KernelLock {
    fn lock_shared(&self) {
        // SAFETY: the semaphore lives as long as `self`.
        unsafe { vexfs_host_lock_shared(self.0) }
    }

    fn lock_shared_interruptible(&self) -> bool {
        // SAFETY: as above.
        unsafe { vexfs_host_lock_shared_interruptible(self.0) }
    }

    fn try_lock_shared(&self) -> bool {
        // SAFETY: as above.
        unsafe { vexfs_host_try_lock_shared(self.0) }
    }

    fn unlock_shared(&self) {
        // SAFETY: as above; the caller holds a share.
        unsafe { vexfs_host_unlock_shared(self.0) }
    }

    fn lock_exclusive(&self) {
        // SAFETY: the semaphore lives as long as `self`.
        unsafe { vexfs_host_lock_exclusive(self.0) }
    }

    fn try_lock_exclusive(&self) -> bool {
        // SAFETY: as above.
        unsafe { vexfs_host_try_lock_exclusive(self.0) }
    }

    fn unlock_exclusive(&self) {
        // SAFETY: as above; the caller holds the whole.
        unsafe { vexfs_host_unlock_exclusive(self.0) }
    }
}

impl Drop for KernelLock {
    fn drop(&mut self) {
        // SAFETY: the semaphore is this value's own and not held, since holders borrow it.
        unsafe { vexfs_host_lock_free(self.0) }
    }
}

struct KernelLocks;

impl Locks for KernelLocks {
    fn new_lock(&self, class: LockClass) -> Result<Box<dyn RawLock>, OutOfMemory> {
        // SAFETY: it takes a number.
        let lock = unsafe { vexfs_host_lock_new(class as u32) };
        if lock.is_null() {
            return Err(OutOfMemory);
        }
        Ok(try_box(KernelLock(lock))?)
    }
}

/// The host of the file system on `device`, an object of the C half that outlives it.
pub fn host(device: *mut c_void) -> Result<Host, OutOfMemory> {
    Ok(Host {
        device: try_box(KernelDevice(device))?,
        clock: try_box(KernelClock)?,
        random: try_box(KernelRandom)?,
        checksum: try_box(KernelChecksum)?,
        locks: try_box(KernelLocks)?,
        kernels: try_box(HostKernels)?,
        observer: try_box(Tracepoints(device))?,
    })
}
