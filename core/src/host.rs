// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The host, as the core sees it: a handful of small traits.
//!
//! A kernel, a daemon, a command-line tool and a simulation each implement these. The core calls
//! nothing else outside itself, so a test host that answers the same way replays the same run.

use crate::error::DeviceError;
use alloc::boxed::Box;
use vexfs_memory::OutOfMemory;
use vexfs_simd::Kernels;

/// A block device or an image file, addressed in bytes. Requests are aligned to, and multiples of,
/// 4096 bytes and lie within [`BlockDevice::size_bytes`].
pub trait BlockDevice: Send + Sync {
    /// Size in bytes.
    fn size_bytes(&self) -> u64;
    /// Fills `buffer` from `offset`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError>;
    /// Writes `data` at `offset`. It is durable only after the next [`BlockDevice::flush`].
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError>;
    /// Writes all of these, in any order, as [`BlockDevice::write`] does each.
    fn write_batch(&self, writes: &[(u64, &[u8])]) -> Result<(), DeviceError> {
        writes.iter().try_for_each(|(offset, data)| self.write(*offset, data))
    }
    /// Makes every write that has returned durable, and then writes `data` at `offset`, durable too
    /// when this returns.
    fn publish(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.flush()?;
        self.write(offset, data)?;
        self.flush()
    }
    /// Makes every write that has returned durable.
    fn flush(&self) -> Result<(), DeviceError>;
    /// Tells the device that a range is unused; what it reads as afterwards is undefined.
    fn discard(&self, offset: u64, length: u64) -> Result<(), DeviceError>;
}

/// A point in time: seconds since 1970 (negative before), and nanoseconds below 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

/// The host's time.
pub trait Clock: Send + Sync {
    /// The time of day, for inode times.
    fn now(&self) -> Timestamp;
    /// A steady counter of nanoseconds, for durations.
    fn monotonic_ns(&self) -> u64;
}

/// The host's source of randomness: UUIDs, hash seeds, writer numbers.
pub trait Random: Send + Sync {
    /// Fills `buffer`.
    fn fill(&self, buffer: &mut [u8]);
}

/// CRC32C (Castagnoli, reflected, as in iSCSI); hosts have it in hardware.
pub trait Checksum: Send + Sync {
    /// The checksum of `data` continued from `seed`, the checksum of what precedes it (0 at first).
    fn crc32c(&self, seed: u32, data: &[u8]) -> u32;
}

/// What a lock guards, for a host that checks lock order. In this order locks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockClass {
    /// The collections in use.
    Collections,
    /// Changing the vectors of one collection.
    CollectionWriter,
    /// Changing, loading or storing the graph of one collection.
    CollectionBuild,
    /// One collection's rows and graph in memory.
    Collection,
    /// What is still to be taken into memory, and the memory of searches, of one collection.
    CollectionPending,
    /// Publishing: one commit at a time.
    Commit,
    /// The tree, the allocator and the open transaction.
    Tree,
    /// The files held open.
    OpenFiles,
    /// The cache of clean tree nodes.
    NodeCache,
}

/// A lock that many may share or one may own. Not reentrant; the holder may sleep.
///
/// # Safety
/// Between a return from `lock_exclusive`, or of true from `try_lock_exclusive`, and the matching
/// `unlock_exclusive` no other holder exists; between `lock_shared`, or true from `try_lock_shared`,
/// and `unlock_shared` no exclusive holder exists; and lock and unlock order memory as `acquire` and
/// `release`.
pub unsafe trait RawLock: Send + Sync {
    /// Waits for, and takes, a share.
    fn lock_shared(&self);
    /// As [`RawLock::lock_shared`], but gives up with false when the calling thread is interrupted, on a
    /// host that can end a wait.
    fn lock_shared_interruptible(&self) -> bool {
        self.lock_shared();
        true
    }
    /// Takes a share if that needs no waiting.
    fn try_lock_shared(&self) -> bool;
    /// Gives a share back.
    fn unlock_shared(&self);
    /// Waits for, and takes, the whole.
    fn lock_exclusive(&self);
    /// Takes the whole if that needs no waiting.
    fn try_lock_exclusive(&self) -> bool;
    /// Gives the whole back.
    fn unlock_exclusive(&self);
}

/// Makes locks.
pub trait Locks: Send + Sync {
    /// A new lock, free.
    fn new_lock(&self, class: LockClass) -> Result<Box<dyn RawLock>, OutOfMemory>;
}

/// A transaction that was published.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// The state's number.
    pub generation: u64,
    /// Nodes written, each a block.
    pub nodes: u64,
    /// From its closing until it was durable.
    pub nanoseconds: u64,
}

/// A collection that was read into memory.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    /// Number of the collection.
    pub collection: u32,
    /// Its vectors.
    pub rows: u64,
    /// Those of them in the graph.
    pub nodes: u64,
    /// How long it took.
    pub nanoseconds: u64,
}

/// Told of what happens, for a host that records it. Locks may be held during a call.
pub trait Observer: Send + Sync {
    /// A transaction is durable.
    fn committed(&self, _committed: &Committed) {}
    /// A collection is in memory.
    fn loaded(&self, _loaded: &Loaded) {}
}

/// The observer that records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// Everything the core needs from outside.
pub struct Host {
    /// Where the file system lives.
    pub device: Box<dyn BlockDevice>,
    /// The time.
    pub clock: Box<dyn Clock>,
    /// Randomness.
    pub random: Box<dyn Random>,
    /// CRC32C.
    pub checksum: Box<dyn Checksum>,
    /// Locks.
    pub locks: Box<dyn Locks>,
    /// Distance kernels.
    pub kernels: Box<dyn Kernels>,
    /// Told of what happens.
    pub observer: Box<dyn Observer>,
}
