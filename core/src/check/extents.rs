// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Extents: their items, the blocks they name, and the bytes there.

use super::Checker;
use super::finding::{Code, Place};
use crate::bytes::u32_at;
use crate::error::{Error, Result};
use crate::key::{Key, OFFSET_MAX};
use crate::layout::{
    EXTENT_BLOCKS_MAX, EXTENT_SHARED, EXTENT_UNWRITTEN, ExtentLayout, UNWRITTEN_BLOCKS_MAX,
};
use crate::space::Run;
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// Bytes of data that are read at a time at least, if an extent has as many.
const READ_BYTES: usize = 256 << 10;

/// Takes an extent's item apart. `None` when its bytes make no sense.
pub(crate) fn decode(key: Key, item: &[u8], generation: u64) -> Option<(&ExtentLayout, &[u8])> {
    let (head, sums) = ExtentLayout::ref_from_prefix(item).ok()?;
    let (length, flags) = (head.length.get(), head.flags.get());
    let unwritten = flags & EXTENT_UNWRITTEN != 0;
    let most = if unwritten { UNWRITTEN_BLOCKS_MAX } else { EXTENT_BLOCKS_MAX };
    let wanted = if unwritten { 0 } else { u64::from(length) * 4 };
    let sensible = flags & !(EXTENT_UNWRITTEN | EXTENT_SHARED) == 0
        && (1..=most).contains(&length)
        && sums.len() as u64 == wanted
        && key.offset().saturating_add(u64::from(length)) <= OFFSET_MAX
        && head.generation.get() <= generation;
    sensible.then_some((head, sums))
}

impl Checker<'_> {
    /// An extent in the first pass.
    pub(crate) fn extent_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.extents += 1;
        self.object.extents += 1;
        let place = Place::key(key);
        let Some((head, _)) = decode(key, item, self.state.generation) else {
            return self.find(Code::ItemMalformed, place);
        };
        let run = Run { start: head.block.get(), length: u64::from(head.length.get()) };
        let end = key.offset().saturating_add(run.length);
        if key.offset() < self.object.extent_end {
            self.find(Code::ExtentOverlap, place.with(key.offset(), self.object.extent_end))?;
        }
        self.object.extent_end = self.object.extent_end.max(end);
        if head.flags.get() & EXTENT_UNWRITTEN == 0 {
            self.object.written_end = self.object.written_end.max(end);
        }
        self.object.blocks = self.object.blocks.saturating_add(run.length);
        if !self.is_allocatable(run) {
            return self.find(Code::BlockOutside, place.at_block(run.start));
        }
        self.mark_extent(run)
    }

    /// An extent in the second pass.
    pub(crate) fn extent_data(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Some((head, sums)) = decode(key, item, self.state.generation) else { return Ok(()) };
        self.extent_sharing(key, head)?;
        let (start, length) = (head.block.get(), u64::from(head.length.get()));
        if !self.options.data
            || head.flags.get() & EXTENT_UNWRITTEN != 0
            || !self.is_allocatable(Run { start, length })
        {
            return Ok(());
        }
        let block_bytes = self.state.block_bytes();
        let at_once = READ_BYTES.checked_div(block_bytes).unwrap_or(1).max(1) as u64;
        let mut buffer = core::mem::take(&mut self.buffer);
        let mut done = 0u64;
        while done < length {
            let blocks = (length - done).min(at_once);
            let bytes = blocks as usize * block_bytes;
            if buffer.len() < bytes {
                buffer.try_resize(bytes, 0)?;
            }
            let block = start.saturating_add(done);
            let part = buffer.get_mut(..bytes).unwrap_or(&mut []);
            let sums = sums.get(done as usize * 4..).unwrap_or(&[]);
            self.compare_data(key, done, block, part, sums)?;
            done += blocks;
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Reads the blocks from `block` on that fill `buffer` and compares their checksums. When they
    /// cannot be read together, one at a time.
    fn compare_data(
        &mut self,
        key: Key,
        done: u64,
        block: u64,
        buffer: &mut [u8],
        sums: &[u8],
    ) -> Result<()> {
        let (log2, block_bytes) = (self.state.block_log2, self.state.block_bytes());
        let together = self.host.device.read(block << log2, buffer).is_ok();
        // Vectors have checksums of their own, and are judged by them.
        let rows_of = self.collections.of_stream(key.object);
        let (unreadable, changed) = match rows_of {
            Some(_) => (Code::RowsBlock, Code::RowsBlock),
            None => (Code::DataUnreadable, Code::DataChecksum),
        };
        for (at, bytes) in buffer.chunks_exact_mut(block_bytes).enumerate() {
            let block = block.saturating_add(at as u64);
            #[cfg(test)]
            self.blocks.written.insert(block)?;
            let logical = key.offset().saturating_add(done).saturating_add(at as u64);
            let place = Place::key(key).at_block(block).with(logical, rows_of.unwrap_or(0));
            if !together && let Err(error) = self.host.device.read(block << log2, bytes) {
                self.sink.find_error(unreadable, place, Error::Device(error))?;
                continue;
            }
            self.sink.report.blocks_read += 1;
            if self.host.checksum.crc32c(0, bytes) != u32_at(sums, at * 4) {
                let error = Error::Checksum { block };
                self.sink.find_error(changed, place, error)?;
            }
        }
        Ok(())
    }
}
