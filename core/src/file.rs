// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The bytes of files: reading, writing and cutting them.
//!
//! Bytes of a file's last block behind its end are zeros on the device, so that a file which grows
//! shows nothing old.

use crate::error::{Error, Result, corrupt};
use crate::extent::{self, Survey};
use crate::filesystem::FileSystem;
use crate::inline;
use crate::inode::Inode;
use crate::key::{Key, Kind};
use crate::layout::FILE_BYTES_MAX;
use crate::stream::{Before, StreamWrite, Verify, WRITE_BYTES_MAX};
use crate::tree::Tree;
use vexfs_memory::{TryVec, zeroed_bytes};

/// Extents that one operation frees at most.
pub(crate) const STEP_EXTENTS: u64 = 256;

/// Reads inode `number`, which must be a regular file.
pub(crate) fn load_file(tree: &Tree, number: u64) -> Result<Inode> {
    let inode = Inode::load(tree, number)?;
    if inode.is_file() {
        Ok(inode)
    } else if inode.is_directory() {
        Err(Error::IsDirectory)
    } else {
        Err(Error::Invalid("not a regular file"))
    }
}

/// The end of `length` bytes at `offset`, which must lie within what a file can be.
pub(crate) fn end_of(offset: u64, length: u64) -> Result<u64> {
    offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(Error::FileTooBig)
}

/// Adds `growth` to the count of blocks of inode `number`, if there is such an inode.
pub(crate) fn count_blocks(tree: &mut Tree, number: u64, growth: i64) -> Result<()> {
    if tree.get(Key::new(number, Kind::Inode, 0))?.is_none() {
        return Ok(());
    }
    let mut inode = Inode::load(tree, number)?;
    add_blocks(&mut inode, number, growth)?;
    inode.store(tree, number)
}

/// Adds `growth` to an inode's count of blocks.
pub(crate) fn add_blocks(inode: &mut Inode, number: u64, growth: i64) -> Result<()> {
    inode.blocks = inode
        .blocks
        .checked_add_signed(growth)
        .ok_or(corrupt(number, "inode with more blocks than it counts"))?;
    Ok(())
}

impl FileSystem {
    /// Changes a file's inode, and what belongs to it, in one operation.
    pub(crate) fn change_file<R>(
        &self,
        number: u64,
        items: u64,
        privileged: bool,
        change: impl FnOnce(&mut Tree, &mut Inode) -> Result<R>,
    ) -> Result<R> {
        self.operation(items + 1, privileged, |tree| {
            let mut inode = load_file(tree, number)?;
            let result = change(tree, &mut inode)?;
            inode.store(tree, number)?;
            Ok(result)
        })
    }

    /// Reads bytes of file `number` from `offset` on into `buffer`. Returns how many: fewer than
    /// asked for at the end of the file, 0 behind it. Where nothing was written they are zeros.
    ///
    /// Errors: `Stale`, `IsDirectory`, `Invalid` for what is no file; `Checksum` when a block is
    /// not what was written; `Device`, `OutOfMemory`.
    pub fn read(&self, number: u64, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let length = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            let length = inode.size.saturating_sub(offset).min(buffer.len() as u64) as usize;
            if length == 0 {
                return Ok(0);
            }
            if inline::is_inline(&inode) {
                let bytes = inline::load(&tree, number, &inode)?;
                crate::bytes::copy(buffer, bytes.get(offset as usize..).unwrap_or(&[]));
                return Ok(length);
            }
            length
        };
        self.stream_read(number, offset, buffer.get_mut(..length).unwrap_or(&mut []))?;
        Ok(length)
    }

    /// Writes `bytes` to file `number` at `offset`; the file grows as needed. Up to
    /// [`WRITE_BYTES_MAX`] bytes are written as a whole or, on error, not at all. More are written
    /// in parts of that size, and those before an error stay written.
    ///
    /// Errors: as [`FileSystem::read`]; `FileTooBig`, `NoSpace`, `ReadOnly`.
    pub fn write(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        let end = end_of(offset, bytes.len() as u64)?;
        let (log2, inode) = {
            let tree = self.reader();
            (tree.state.block_log2, load_file(&tree, number)?)
        };
        if bytes.len() > WRITE_BYTES_MAX {
            // A write that cannot fit is refused before its first part.
            let (from, to) = (offset >> log2, ((end - 1) >> log2) + 1);
            let holes = Survey::read(&self.reader(), number, from, to, u64::MAX)?.holes;
            self.reserve(holes)?;
            self.unreserve(holes);
        }
        let (mut at, mut rest, mut inode) = (offset, bytes, inode);
        while !rest.is_empty() {
            let skip = (at & ((1 << log2) - 1)) as usize;
            let take = rest.len().min(WRITE_BYTES_MAX - skip);
            let Some((part, tail)) = rest.split_at_checked(take) else { break };
            inode = self.write_part(number, &inode, at, part)?;
            at += take as u64;
            rest = tail;
        }
        Ok(())
    }

    /// Writes up to [`WRITE_BYTES_MAX`] bytes. Returns the inode as it is then.
    fn write_part(&self, number: u64, inode: &Inode, offset: u64, bytes: &[u8]) -> Result<Inode> {
        let now = self.host.clock.now();
        let end = end_of(offset, bytes.len() as u64)?;
        let mut old = None;
        {
            let tree = self.reader();
            if inline::fits(&tree, inode, end) {
                drop(tree);
                return self.change_file(number, 4, false, |tree, inode| {
                    let mut whole = inline::load(tree, number, inode)?;
                    whole.try_resize(whole.len().max(end as usize), 0)?;
                    crate::bytes::copy(whole.get_mut(offset as usize..).unwrap_or(&mut []), bytes);
                    inline::store(tree, number, inode, &whole)?;
                    inode.touch_content(now);
                    Ok(*inode)
                });
            }
            if inline::is_inline(inode) && offset < tree.block_bytes() as u64 {
                old = Some(inline::load(&tree, number, inode)?);
            }
        }
        if old.is_none() && inline::is_inline(inode) {
            self.outline(number, false)?;
        }
        let write = StreamWrite { object: number, offset, bytes };
        let before = Before { size: inode.size, inline: old.as_deref(), verify: Verify::Blocks };
        self.write_blocks(&[write], before, 4, false, |tree, growth| {
            let mut inode = load_file(tree, number)?;
            inline::drop_item(tree, number, &mut inode)?;
            add_blocks(&mut inode, number, growth)?;
            inode.size = inode.size.max(end);
            inode.touch_content(now);
            inode.store(tree, number)?;
            Ok(inode)
        })
    }

    /// Sets the size of file `number`. What is cut off is freed, space given behind it included; what
    /// is added reads as zeros and takes no space, but such as was given there before. Cutting off many extents happens in steps, each of which leaves a file that
    /// was cut less.
    ///
    /// Errors: as [`FileSystem::write`].
    pub fn truncate(&self, number: u64, size: u64) -> Result<()> {
        end_of(size, 0)?;
        let now = self.host.clock.now();
        let (log2, zero_tail) = {
            let tree = self.reader();
            let inode = load_file(&tree, number)?;
            if inline::is_inline(&inode) {
                let fits = size <= inline::bytes_max(&tree);
                drop(tree);
                if fits {
                    return self.change_file(number, 4, size <= inode.size, |tree, inode| {
                        let mut bytes = inline::load(tree, number, inode)?;
                        bytes.try_resize(size as usize, 0)?;
                        inline::store(tree, number, inode, &bytes)?;
                        touch_resized(inode, size == inode.size, now);
                        Ok(())
                    });
                }
                self.outline(number, false)?;
                (self.block_log2(), false)
            } else {
                if size > inode.size {
                    drop(tree);
                    return self.change_file(number, 1, true, |_, inode| {
                        touch_resized(inode, size == inode.size, now);
                        inode.size = size;
                        Ok(())
                    });
                }
                let log2 = tree.state.block_log2;
                let cuts_block = size < inode.size && size & ((1 << log2) - 1) != 0;
                (log2, cuts_block && is_written(&tree, number, size >> log2)?)
            }
        };
        let keep = size.div_ceil(1 << log2);
        let mut done = false;
        while !done {
            done = self.remove_step(number, keep, u64::MAX, STEP_EXTENTS, |tree, removed| {
                let mut inode = load_file(tree, number)?;
                add_blocks(&mut inode, number, -(removed.blocks as i64))?;
                let done = removed.reached <= keep;
                let reached = removed.reached.min(FILE_BYTES_MAX >> log2) << log2;
                let next = if done && !zero_tail { size } else { inode.size.min(reached) };
                let same = next == inode.size;
                touch_resized(&mut inode, same, now);
                inode.size = next;
                inode.store(tree, number)?;
                Ok(done)
            })?;
        }
        if zero_tail {
            self.write_zeros(number, &[(size, keep << log2)], |inode| {
                inode.size = size;
                inode.touch_content(now);
            })?;
        }
        Ok(())
    }

    /// Writes zeros to ranges (from, to) of a file, none longer than a block, in the same way as
    /// other data, and changes its inode with that.
    pub(crate) fn write_zeros(
        &self,
        number: u64,
        ranges: &[(u64, u64)],
        change: impl FnOnce(&mut Inode),
    ) -> Result<()> {
        let zeros = zeroed_bytes(1 << self.block_log2())?;
        let mut writes = alloc::vec::Vec::new();
        for &(from, to) in ranges {
            let bytes = zeros.get(..to.saturating_sub(from) as usize).unwrap_or(&zeros);
            writes.try_push(StreamWrite { object: number, offset: from, bytes })?;
        }
        let before = Before { size: u64::MAX, inline: None, verify: Verify::Blocks };
        self.write_blocks(&writes, before, 4, true, |tree, growth| {
            let mut inode = load_file(tree, number)?;
            add_blocks(&mut inode, number, growth)?;
            change(&mut inode);
            inode.store(tree, number)
        })
    }
}

/// Notes a change of size; setting the present size changes no bytes.
fn touch_resized(inode: &mut Inode, same: bool, now: crate::host::Timestamp) {
    if same {
        inode.modified = now;
        inode.touch(now);
    } else {
        inode.touch_content(now);
    }
}

/// Whether logical block `block` of the file is written.
pub(crate) fn is_written(tree: &Tree, number: u64, block: u64) -> Result<bool> {
    let extent = extent::find(tree, number, block)?;
    Ok(extent.is_some_and(|extent| extent.logical <= block && extent.is_written()))
}
