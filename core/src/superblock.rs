// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The superblock: its copies, how one is chosen, and how a state is published.
//!
//! State `g` is published by one write to copy `g % 2` near the front of the device, and mirrored
//! after that to copy `2 + g % 2` near its end. So the copies always name the states `g` and
//! `g - 1`, and blocks that either names are not written to.

use crate::error::{Error, Result, corrupt};
use crate::filesystem::INODES_MAX;
use crate::host::{BlockDevice, Checksum, Host};
use crate::layout::*;
use crate::node::BlockPointer;
use crate::space::Run;
use alloc::boxed::Box;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, zeroed_bytes};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Features this version knows, by class.
pub(crate) const KNOWN_READ_ONLY: u64 = 0;
pub(crate) const KNOWN_INCOMPATIBLE: u64 = 0;

/// The highest generation that is believed, of a state or a writer.
const GENERATION_MAX: u64 = 1 << 62;

/// A published state, and what never changes about the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    pub uuid: [u8; 16],
    pub label: [u8; 64],
    pub features_compatible: u64,
    pub features_read_only: u64,
    pub features_incompatible: u64,
    pub block_log2: u32,
    pub blocks: u64,
    pub generation: u64,
    pub writer_generation: u64,
    pub writer: u64,
    pub root: BlockPointer,
    pub blocks_free: u64,
    pub next_object: u64,
    pub next_collection: u32,
    pub inodes: u64,
    pub created_seconds: i64,
    pub published_seconds: i64,
    pub hash_key: [u8; 16],
}

impl Superblock {
    /// Bytes of a block.
    pub fn block_bytes(&self) -> usize {
        1 << self.block_log2
    }

    /// The number that tree nodes carry of this file system.
    pub fn filesystem(&self) -> u64 {
        self.uuid.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Where copy `copy` lies, in bytes.
    pub fn offset(&self, copy: usize) -> u64 {
        copy_offset(copy, self.blocks << self.block_log2)
    }

    /// See [`reserved_runs`].
    pub fn reserved_runs(&self) -> [Run; 1 + SUPERBLOCK_COPIES] {
        reserved_runs(self.blocks, self.block_log2)
    }

    /// See [`is_allocatable`].
    pub fn is_allocatable(&self, run: Run) -> bool {
        is_allocatable(self.blocks, self.block_log2, run)
    }

    /// The block that holds copy `copy`.
    pub fn copy_block(&self, copy: usize) -> u64 {
        self.offset(copy) >> self.block_log2
    }

    fn encode(&self, copy: usize, checksum: &dyn Checksum, bytes: &mut [u8]) -> Result<()> {
        bytes.fill(0);
        let Ok(layout) = SuperblockLayout::mut_from_bytes(bytes) else {
            return Err(Error::Invalid("superblock size"));
        };
        layout.magic = SUPERBLOCK_MAGIC;
        layout.version = FORMAT_VERSION.into();
        layout.uuid = self.uuid;
        layout.label = self.label;
        layout.features_compatible = self.features_compatible.into();
        layout.features_read_only = self.features_read_only.into();
        layout.features_incompatible = self.features_incompatible.into();
        layout.block_log2 = self.block_log2.into();
        layout.copy = (copy as u32).into();
        layout.blocks = self.blocks.into();
        layout.generation = self.generation.into();
        layout.writer_generation = self.writer_generation.into();
        layout.writer = self.writer.into();
        layout.root = self.root.to_layout();
        layout.blocks_free = self.blocks_free.into();
        layout.next_object = self.next_object.into();
        layout.next_collection = self.next_collection.into();
        layout.inodes = self.inodes.into();
        layout.created_seconds = self.created_seconds.into();
        layout.published_seconds = self.published_seconds.into();
        layout.hash_key = self.hash_key;
        let sum = checksum.crc32c(0, bytes);
        crate::bytes::put(bytes, 8, sum.to_le_bytes());
        Ok(())
    }

    /// Reads a copy's bytes. Errors: not a superblock, wrong checksum, impossible values, unknown
    /// incompatible features.
    fn decode(bytes: &mut [u8], copy: usize, offset: u64, checksum: &dyn Checksum) -> Result<Self> {
        let Ok(layout) = SuperblockLayout::mut_from_bytes(bytes) else {
            return Err(Error::NotVexfs("superblock cut short"));
        };
        if layout.magic != SUPERBLOCK_MAGIC {
            return Err(Error::NotVexfs("no VexFS superblock"));
        }
        let place = offset >> 12;
        let stored = layout.checksum.get();
        layout.checksum.zero();
        if checksum.crc32c(0, layout.as_bytes()) != stored {
            return Err(Error::Checksum { block: place });
        }
        let bad = |what| Err(corrupt(place, what));
        if layout.version.get() != FORMAT_VERSION {
            return Err(Error::NotSupported("format version other than 1"));
        }
        let unknown = layout.features_incompatible.get() & !KNOWN_INCOMPATIBLE;
        if unknown != 0 {
            return Err(Error::UnknownFeatures(unknown));
        }
        if layout.copy.get() as usize != copy {
            return bad("superblock copy in another copy's place");
        }
        let block_log2 = layout.block_log2.get();
        if !BLOCK_LOG2_RANGE.contains(&block_log2) {
            return bad("block size outside 4 KiB to 64 KiB");
        }
        let blocks = layout.blocks.get();
        if blocks > FILESYSTEM_BLOCKS_MAX || blocks << block_log2 < FILESYSTEM_BYTES_MIN {
            return bad("impossible number of blocks");
        }
        let root = BlockPointer::from_layout(&layout.root);
        let allocatable = is_allocatable(blocks, block_log2, Run { start: root.block, length: 1 });
        if !allocatable || usize::from(root.level) >= TREE_LEVELS_MAX {
            return bad("impossible root");
        }
        if layout.blocks_free.get() > blocks {
            return bad("more free blocks than blocks");
        }
        let generation = layout.generation.get();
        if generation == 0 || generation % 2 != copy as u64 % 2 || root.generation > generation {
            return bad("impossible generation");
        }
        // Counted up by one at a time: so large a number would only be there to overflow.
        let writer_generation = layout.writer_generation.get();
        if generation > GENERATION_MAX || writer_generation > GENERATION_MAX {
            return bad("impossible generation");
        }
        if layout.inodes.get() > INODES_MAX {
            return bad("impossible number of inodes");
        }
        let next_object = layout.next_object.get();
        if !(FIRST_OBJECT..=OBJECT_MAX).contains(&next_object) {
            return bad("impossible object number");
        }
        Ok(Self {
            uuid: layout.uuid,
            label: layout.label,
            features_compatible: layout.features_compatible.get(),
            features_read_only: layout.features_read_only.get(),
            features_incompatible: layout.features_incompatible.get(),
            block_log2,
            blocks,
            generation,
            writer_generation,
            writer: layout.writer.get(),
            root,
            blocks_free: layout.blocks_free.get(),
            next_object,
            next_collection: layout.next_collection.get(),
            inodes: layout.inodes.get(),
            created_seconds: layout.created_seconds.get(),
            published_seconds: layout.published_seconds.get(),
            hash_key: layout.hash_key,
        })
    }

    /// Publishes this state: one write, made durable after everything that was written before.
    /// `buffer` is a [`buffer`] of the caller's: once nodes are on their way, publishing must not
    /// fail for want of memory.
    // Out of line, as are the other functions here that hold a superblock: inlined into one
    // caller, their frames add up to more than a kernel allows.
    #[inline(never)]
    pub fn publish(&self, host: &Host, buffer: &mut [u8]) -> Result<()> {
        let copy = (self.generation % 2) as usize;
        self.encode(copy, &*host.checksum, buffer)?;
        host.device.publish(self.offset(copy), buffer)?;
        Ok(())
    }

    /// Writes the copy near the device's end; it becomes durable with the next flush.
    #[inline(never)]
    pub fn mirror(&self, host: &Host, buffer: &mut [u8]) -> Result<()> {
        let copy = 2 + (self.generation % 2) as usize;
        self.encode(copy, &*host.checksum, buffer)?;
        host.device.write(self.offset(copy), buffer)?;
        Ok(())
    }
}

/// Blocks that are never given out: those before the first superblock copy, and the copies'.
pub(crate) fn reserved_runs(blocks: u64, block_log2: u32) -> [Run; 1 + SUPERBLOCK_COPIES] {
    let [first, _] = SUPERBLOCK_OFFSETS;
    let bytes = blocks << block_log2;
    let copy = |copy| Run { start: copy_offset(copy, bytes) >> block_log2, length: 1 };
    let front = Run { start: 0, length: first >> block_log2 };
    [front, copy(0), copy(1), copy(2), copy(3)]
}

/// Whether a run may be in use by the tree or by data: it lies within the file system and holds
/// none of [`reserved_runs`]. What names any other block is damaged, and must neither be followed
/// nor written to nor freed: it would reach the superblocks.
pub(crate) fn is_allocatable(blocks: u64, block_log2: u32, run: Run) -> bool {
    let inside = run.start.checked_add(run.length).is_some_and(|end| end <= blocks);
    inside
        && run.length > 0
        && !reserved_runs(blocks, block_log2)
            .iter()
            .any(|taken| taken.start < run.end() && run.start < taken.end())
}

/// Where copy `copy` of a file system of `bytes` bytes lies. The copies at the end lie in the last
/// whole blocks of the largest block size.
pub(crate) fn copy_offset(copy: usize, bytes: u64) -> u64 {
    let [first, second] = SUPERBLOCK_OFFSETS;
    let end = bytes & !0xffff;
    match copy {
        0 => first,
        1 => second,
        2 => end.saturating_sub(first),
        _ => end.saturating_sub(second),
    }
}

impl BlockPointer {
    pub(crate) fn to_layout(self) -> BlockPointerLayout {
        BlockPointerLayout {
            block: self.block.into(),
            generation: self.generation.into(),
            checksum: self.checksum.into(),
            level: self.level,
            reserved: [0; 3],
        }
    }

    pub(crate) fn from_layout(layout: &BlockPointerLayout) -> Self {
        Self {
            block: layout.block.get(),
            generation: layout.generation.get(),
            checksum: layout.checksum.get(),
            level: layout.level,
        }
    }
}

/// What each copy holds: a state, or why not.
pub(crate) type Copies = Vec<Result<Superblock>>;

/// Room for one copy's bytes.
pub(crate) fn buffer() -> Result<Box<[u8]>> {
    Ok(zeroed_bytes(SUPERBLOCK_BYTES)?)
}

#[inline(never)]
fn read_copy(host: &Host, copy: usize, offset: u64, buffer: &mut [u8]) -> Result<Superblock> {
    let device: &dyn BlockDevice = &*host.device;
    if offset.checked_add(SUPERBLOCK_BYTES as u64).is_none_or(|end| end > device.size_bytes()) {
        return Err(Error::NotVexfs("device too small for this superblock copy"));
    }
    device.read(offset, buffer)?;
    Superblock::decode(buffer, copy, offset, &*host.checksum)
}

/// Reads all copies. The ones at the end are looked for where a copy at the front says the file
/// system ends, and at the end of the device when none does.
#[inline(never)]
pub(crate) fn read_copies(host: &Host) -> Result<Copies> {
    let mut copies = Copies::new();
    // Taken first: a copy that is passed over for want of memory would let an older one win.
    let mut buffer = buffer()?;
    for copy in 0..SUPERBLOCK_COPIES {
        let found = copies.iter().flatten().next();
        let bytes = found.map_or(host.device.size_bytes(), |found: &Superblock| {
            found.blocks << found.block_log2
        });
        copies.try_push(read_copy(host, copy, copy_offset(copy, bytes), &mut buffer))?;
    }
    Ok(copies)
}

/// The newest state that any copy names. When none names one, the error of the first copy that
/// holds anything of ours, so that damage is not taken for an empty device.
#[inline(never)]
pub(crate) fn newest(copies: &Copies) -> Result<&Superblock> {
    let mut best: Option<&Superblock> = None;
    let mut worst = None;
    for copy in copies {
        match copy {
            Ok(found) if best.is_none_or(|best| found.generation > best.generation) => {
                best = Some(found);
            }
            Ok(_) => {}
            // A newer version wrote here: an older copy must not be taken for the present state.
            Err(error @ (Error::UnknownFeatures(_) | Error::NotSupported(_))) => {
                return Err(*error);
            }
            Err(error) if worst.is_none() || matches!(worst, Some(Error::NotVexfs(_))) => {
                worst = Some(*error);
            }
            Err(_) => {}
        }
    }
    match (best, worst) {
        (Some(found), _) => Ok(found),
        (None, Some(error)) => Err(error),
        (None, None) => Err(Error::NotVexfs("no VexFS superblock")),
    }
}

/// Whether this writer, whose last published state is `mine`, still owns the device. Another
/// writer's newer or different state there, or no VexFS at all, means that it does not.
#[inline(never)]
pub(crate) fn check_writer(host: &Host, mine: &Superblock, buffer: &mut [u8]) -> Result<()> {
    let mut readable = false;
    for copy in 0..2 {
        match read_copy(host, copy, copy_offset(copy, 0), buffer) {
            Ok(found) => {
                readable = true;
                let newer = found.generation > mine.generation;
                let differs = found.generation == mine.generation && found.writer != mine.writer;
                if newer || differs || found.uuid != mine.uuid {
                    return Err(Error::OtherWriter);
                }
            }
            Err(Error::Device(error)) => return Err(Error::Device(error)),
            Err(Error::UnknownFeatures(_) | Error::NotSupported(_)) => {
                return Err(Error::OtherWriter);
            }
            Err(_) => {}
        }
    }
    if readable { Ok(()) } else { Err(Error::OtherWriter) }
}
