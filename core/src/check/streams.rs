// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Streams: objects that have extents and no inode, and the items that refer to them.

use super::Checker;
use super::extents::decode;
use super::finding::{Code, Place};
use crate::error::Result;
use crate::key::{Key, Kind};
use crate::layout::EXTENT_UNWRITTEN;
use crate::space::Run;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, sort_by};

/// An object with nothing but extents.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    pub object: u64,
    /// The logical block after the last.
    pub end: u64,
}

/// An item that refers to a stream.
#[derive(Clone, Copy)]
pub(crate) struct Owner {
    pub stream: u64,
    pub key: Key,
    /// Bytes that must be there.
    pub bytes: u64,
}

/// All streams and their owners, and the extent read last.
#[derive(Default)]
pub(crate) struct Streams {
    /// In the order of their numbers.
    pub found: Vec<Stream>,
    pub owners: Vec<Owner>,
    last: Option<Piece>,
}

/// A run of a stream's blocks; `block` is `None` for a hole.
#[derive(Clone, Copy)]
struct Piece {
    object: u64,
    logical: u64,
    length: u64,
    block: Option<u64>,
}

impl Checker<'_> {
    /// Matches streams and owners.
    pub(crate) fn finish_streams(&mut self) -> Result<()> {
        let mut owners = core::mem::take(&mut self.streams.owners);
        sort_by(&mut owners, |a, b| (a.stream, a.key) < (b.stream, b.key));
        let block_bytes = self.state.block_bytes().max(1) as u64;
        let mut before = 0;
        for owner in &owners {
            let place = Place::key(owner.key).with(owner.stream, 0);
            if owner.stream == before {
                self.find(Code::StreamShared, place)?;
                continue;
            }
            before = owner.stream;
            let at = self.streams.found.binary_search_by(|found| found.object.cmp(&owner.stream));
            let end =
                at.ok().and_then(|at| self.streams.found.get(at)).map_or(0, |found| found.end);
            let claimed = self.inode_record(owner.stream).is_some()
                || self.is_orphan(owner.stream)
                || self.collections.is_object(owner.stream);
            if claimed || end < owner.bytes.div_ceil(block_bytes) {
                self.find(Code::StreamMissing, place)?;
            }
        }
        let found = core::mem::take(&mut self.streams.found);
        for stream in &found {
            let owned = owners.binary_search_by(|owner| owner.stream.cmp(&stream.object)).is_ok();
            if !owned && !self.is_orphan(stream.object) && self.complete {
                self.find(Code::StreamUnowned, Place::object(stream.object))?;
            }
        }
        Ok(())
    }

    /// Fills `buffer` with a stream's bytes from `offset` on, without regard to their checksums.
    pub(crate) fn read_stream(
        &mut self,
        object: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let log2 = self.state.block_log2;
        let block_bytes = self.state.block_bytes();
        let mut rest = buffer;
        let mut at = offset;
        let mut bounce: Vec<u8> = Vec::new();
        while !rest.is_empty() {
            let logical = at >> log2;
            let piece = self.piece(object, logical)?;
            let skip = (at - (logical << log2)) as usize;
            let blocks = (skip.saturating_add(rest.len())).div_ceil(block_bytes.max(1)) as u64;
            let left = piece.logical.saturating_add(piece.length).saturating_sub(logical);
            let bytes = (blocks.min(left).max(1) as usize) << log2;
            let take = bytes.saturating_sub(skip).min(rest.len()).max(1);
            let Some((part, others)) = core::mem::take(&mut rest).split_at_mut_checked(take) else {
                break;
            };
            match piece.block {
                None => part.fill(0),
                Some(block) => {
                    bounce.try_resize(bytes, 0)?;
                    let block = block.saturating_add(logical.saturating_sub(piece.logical));
                    self.host.device.read(block << log2, &mut bounce)?;
                    crate::bytes::copy(part, bounce.get(skip..).unwrap_or(&[]));
                }
            }
            rest = others;
            at = at.saturating_add(take as u64);
        }
        Ok(())
    }

    /// Where the logical block of a stream is.
    fn piece(&mut self, object: u64, logical: u64) -> Result<Piece> {
        if let Some(last) = self.streams.last {
            let inside = last.object == object
                && logical >= last.logical
                && logical - last.logical < last.length;
            if inside {
                return Ok(last);
            }
        }
        let mut piece = Piece { object, logical, length: 1, block: None };
        if let Some(item) = self.tree.previous(Key::new(object, Kind::Extent, logical))? {
            let key = item.key();
            if key.is(object, Kind::Extent)
                && let Some((head, _)) = decode(key, &item, self.state.generation)
            {
                let run = Run { start: head.block.get(), length: head.length.get().into() };
                let written = head.flags.get() & EXTENT_UNWRITTEN == 0;
                let covers = logical - key.offset() < run.length;
                if covers && self.is_allocatable(run) {
                    let block = written.then_some(run.start);
                    piece = Piece { object, logical: key.offset(), length: run.length, block };
                }
            }
        }
        self.streams.last = Some(piece);
        Ok(piece)
    }
}
