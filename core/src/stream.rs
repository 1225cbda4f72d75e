// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Reading and writing the bytes of an object's extents.
//!
//! A write never changes a block that a state names as written. It goes in three steps: blocks are
//! allocated *in flight*; data and checksums are made and written with no lock held; and one
//! operation puts the blocks in the place of those before, together with whatever else belongs to
//! the change. Blocks that are allocated but unwritten are written where they are, so that
//! preallocated space can be relied on.
//!
//! A read copies the map out of the tree and reads the device with no lock held. In the meantime
//! the blocks may have been freed and given to another, which their checksums show; the block in
//! question is then read again with the tree's lock held, when nobody can take it away.

use crate::error::{Error, Result};
use crate::extent::{self, Extent, Mapping, Survey};
use crate::filesystem::FileSystem;
use crate::space::Run;
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, zeroed_bytes};

/// Most bytes of one write that happens as a whole: 8 MiB, counting whole blocks.
pub const WRITE_BYTES_MAX: usize = 8 << 20;
/// Blocks that a read maps at a time.
const READ_BLOCKS_MAX: u64 = 1024;
/// Streams end here, so that sums of offsets stay in range.
const STREAM_BYTES_MAX: u64 = 1 << 60;

/// Bytes to write to an object without an inode.
#[derive(Clone, Copy)]
pub(crate) struct StreamWrite<'a> {
    pub object: u64,
    pub offset: u64,
    pub bytes: &'a [u8],
}

impl StreamWrite<'_> {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes.len() as u64)
    }
}

/// Whether blocks are compared with their checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    Blocks,
    /// The bytes have checksums of their own. Without a lock, those of a block may be read that was given to
    /// another meanwhile.
    Nothing,
}

/// What a block that is written only in part held before.
#[derive(Clone, Copy)]
pub(crate) struct Before<'a> {
    /// Bytes of the object; those after are zeros.
    pub size: u64,
    /// The bytes of an object that has no extents.
    pub inline: Option<&'a [u8]>,
    /// With [`Verify::Nothing`], what is kept of a damaged block is kept as it is.
    pub verify: Verify,
}

/// Logical blocks of one object to write.
#[derive(Clone, Copy)]
struct Span {
    object: u64,
    from: u64,
    to: u64,
}

/// Blocks on their way into an object.
pub(crate) struct Placed {
    pub object: u64,
    pub logical: u64,
    pub run: Run,
    /// The object's own unwritten blocks, rather than blocks in flight.
    pub in_place: bool,
    /// One for each block that has been written.
    pub checksums: Vec<u32>,
}

/// Fills `buffer` with some bytes of an object, as [`FileSystem::stream_read`], for who has the tree in
/// hand.
pub(crate) fn read_held(
    tree: &Tree,
    object: u64,
    offset: u64,
    buffer: &mut [u8],
    verify: Verify,
) -> Result<()> {
    let log2 = tree.state.block_log2;
    let mut bounce = zeroed_bytes(1 << log2)?;
    let (mut rest, mut at) = (buffer, offset);
    while !rest.is_empty() {
        let skip = (at & ((1 << log2) - 1)) as usize;
        let bytes = bounce.len().saturating_sub(skip).min(rest.len());
        let Some((part, tail)) = core::mem::take(&mut rest).split_at_mut_checked(bytes) else {
            break;
        };
        read_block_of(tree, object, at >> log2, &mut bounce, verify)?;
        crate::bytes::copy(part, bounce.get(skip..).unwrap_or(&[]));
        rest = tail;
        at += bytes as u64;
    }
    Ok(())
}

/// Reads one block, which the tree's lock, held by the caller, keeps where it is.
fn read_block_of(
    tree: &Tree,
    object: u64,
    logical: u64,
    buffer: &mut [u8],
    verify: Verify,
) -> Result<()> {
    let map = Mapping::read(tree, object, logical, logical + 1)?;
    let block = map.segments.first().and_then(|segment| segment.block);
    let (Some(block), Some(sum)) = (block, map.checksums.first()) else {
        buffer.fill(0);
        return Ok(());
    };
    tree.host.device.read(block << tree.state.block_log2, buffer)?;
    if verify == Verify::Blocks && tree.host.checksum.crc32c(0, buffer) != *sum {
        return Err(Error::Checksum { block });
    }
    Ok(())
}

impl FileSystem {
    /// Fills `buffer` with the bytes of `object` from `offset` on; where nothing was written they
    /// are zeros.
    ///
    /// Errors: `Checksum` for a block that is not what was written, `Device`, `OutOfMemory`.
    pub(crate) fn stream_read(&self, object: u64, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.stream_read_as(object, offset, buffer, Verify::Blocks)
    }

    /// As [`FileSystem::stream_read`], verified or not.
    pub(crate) fn stream_read_as(
        &self,
        object: u64,
        offset: u64,
        buffer: &mut [u8],
        verify: Verify,
    ) -> Result<()> {
        let log2 = self.reader().state.block_log2;
        let block_bytes = 1usize << log2;
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let from = at >> log2;
            let last = at.saturating_add(rest.len() as u64 - 1) >> log2;
            let to = (last + 1).min(from + READ_BLOCKS_MAX);
            let map = Mapping::read(&self.reader(), object, from, to)?;
            let mut sums = &*map.checksums;
            for segment in &map.segments {
                let (mut logical, end) = (segment.logical, segment.logical + segment.length);
                while logical < end && !rest.is_empty() {
                    let skip = (at - (logical << log2)) as usize;
                    let whole = (end - logical).min((rest.len() >> log2) as u64);
                    let blocks = if skip == 0 { whole.max(1) } else { 1 };
                    let bytes = ((blocks as usize) << log2).saturating_sub(skip).min(rest.len());
                    let whole_rest = core::mem::take(&mut rest);
                    let Some((part, tail)) = whole_rest.split_at_mut_checked(bytes) else {
                        break;
                    };
                    match segment.block {
                        None => part.fill(0),
                        Some(start) => {
                            let run =
                                Run { start: start + (logical - segment.logical), length: blocks };
                            let (mine, others) =
                                sums.split_at_checked(blocks as usize).unwrap_or((sums, &[]));
                            sums = others;
                            if skip == 0 && bytes == (blocks as usize) << log2 {
                                self.read_run(object, logical, run, mine, part, verify)?;
                            } else {
                                let mut bounce = zeroed_bytes(block_bytes)?;
                                self.read_run(object, logical, run, mine, &mut bounce, verify)?;
                                crate::bytes::copy(part, bounce.get(skip..).unwrap_or(&[]));
                            }
                        }
                    }
                    rest = tail;
                    at += bytes as u64;
                    logical += blocks;
                }
            }
        }
        Ok(())
    }

    /// Reads whole blocks and compares their checksums, if they are to be verified.
    fn read_run(
        &self,
        object: u64,
        logical: u64,
        run: Run,
        sums: &[u32],
        buffer: &mut [u8],
        verify: Verify,
    ) -> Result<()> {
        let log2 = self.block_log2();
        self.host.device.read(run.start << log2, buffer)?;
        if verify == Verify::Nothing {
            return Ok(());
        }
        let blocks = buffer.chunks_exact_mut(1 << log2).zip(sums);
        for (at, (bytes, sum)) in blocks.enumerate() {
            if self.host.checksum.crc32c(0, bytes) != *sum {
                self.read_block_locked(object, logical + at as u64, bytes)?;
            }
        }
        Ok(())
    }

    /// Reads one block while the tree's lock keeps it where it is.
    fn read_block_locked(&self, object: u64, logical: u64, buffer: &mut [u8]) -> Result<()> {
        read_block_of(&self.reader(), object, logical, buffer, Verify::Blocks)
    }

    /// Block size as a power of two.
    pub(crate) fn block_log2(&self) -> u32 {
        self.reader().state.block_log2
    }

    /// Writes `bytes` to `object`, which has no inode, at `offset` and runs `commit`, which may change
    /// `extra_items` items of the tree, as one operation: either all is done or nothing. The caller keeps
    /// other writers off the object meanwhile.
    ///
    /// Errors: those of `commit`; `TooBig`; `NoSpace`; `Device`.
    pub(crate) fn write_stream_with<R>(
        &self,
        object: u64,
        offset: u64,
        bytes: &[u8],
        extra_items: u64,
        commit: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        let before = Before { size: u64::MAX, inline: None, verify: Verify::Blocks };
        let writes = [StreamWrite { object, offset, bytes }];
        self.write_blocks(&writes, before, extra_items, false, |tree, _| commit(tree))
    }

    /// As [`FileSystem::write_stream_with`], for several writes to objects whose bytes have checksums of
    /// their own. `writes` are in the order of (object, offset), do not overlap, and touch
    /// [`WRITE_BYTES_MAX`] bytes of blocks at most.
    ///
    /// Errors: `Invalid` for writes out of order, too.
    pub(crate) fn write_streams_with<R>(
        &self,
        writes: &[StreamWrite<'_>],
        extra_items: u64,
        commit: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        let before = Before { size: u64::MAX, inline: None, verify: Verify::Nothing };
        self.write_blocks(writes, before, extra_items, false, |tree, _| commit(tree))
    }

    /// The three steps of every write. `commit` is told by how many blocks the objects have grown.
    /// A `privileged` write makes space free in the end and may dip into the reserve.
    pub(crate) fn write_blocks<R>(
        &self,
        writes: &[StreamWrite<'_>],
        before: Before<'_>,
        extra_items: u64,
        privileged: bool,
        commit: impl FnOnce(&mut Tree, i64) -> Result<R>,
    ) -> Result<R> {
        let spans = self.spans(writes)?;
        let mut survey = Survey::default();
        let mut items = extra_items;
        {
            let tree = self.reader();
            for span in &spans {
                let own = Survey::read(&tree, span.object, span.from, span.to, u64::MAX)?;
                survey.add(&own);
            }
            items += survey.items(&tree);
        }
        let mut placed = match spans.is_empty() {
            true => Vec::new(),
            false => self.place(&spans, &survey, items, 0, privileged)?,
        };
        let result = self.fill(&mut placed, writes, before).and_then(|()| {
            let new = items_for_new(&self.reader(), &placed);
            let in_place = placed.iter().all(|piece| piece.in_place);
            self.operation(items + new, privileged || in_place, |tree| {
                let growth = install(tree, &placed)?;
                commit(tree, growth)
            })
        });
        if result.is_err() {
            self.give_back(&placed);
        }
        result
    }

    /// The blocks that `writes` touch.
    fn spans(&self, writes: &[StreamWrite<'_>]) -> Result<Vec<Span>> {
        let log2 = self.block_log2();
        let mut spans: Vec<Span> = Vec::new();
        let mut blocks = 0u64;
        let mut before: Option<(u64, u64)> = None;
        for write in writes.iter().filter(|write| !write.bytes.is_empty()) {
            let end = write.end();
            if end > STREAM_BYTES_MAX {
                return Err(Error::FileTooBig);
            }
            if before > Some((write.object, write.offset)) {
                return Err(Error::Invalid("writes out of order or overlapping"));
            }
            before = Some((write.object, end));
            let (from, to) = (write.offset >> log2, ((end - 1) >> log2) + 1);
            match spans.last_mut() {
                Some(last) if last.object == write.object && last.to >= from => {
                    blocks += to.saturating_sub(last.to);
                    last.to = last.to.max(to);
                }
                _ => {
                    blocks += to - from;
                    spans.try_push(Span { object: write.object, from, to })?;
                }
            }
        }
        if blocks << log2 > (WRITE_BYTES_MAX + (2 << log2)) as u64 {
            return Err(Error::TooBig("write"));
        }
        Ok(spans)
    }

    /// Allocates blocks for all spans: their own unwritten ones, others in flight. What `items`
    /// and the new extents will take must be free too. Of the blocks that are promised `promised` are for
    /// them, and stay promised on error.
    fn place(
        &self,
        spans: &[Span],
        survey: &Survey,
        items: u64,
        promised: u64,
        privileged: bool,
    ) -> Result<Vec<Placed>> {
        let blocks: u64 = spans.iter().map(|span| span.to - span.from).sum();
        let needed = blocks.saturating_sub(survey.unwritten);
        let new = extent::items_for_new(&self.reader(), blocks, spans.len() as u64 + 2);
        let privileged = privileged || needed == 0;
        self.operation_as_promised(items + new, needed, promised, privileged, |tree| {
            let mut placed = Vec::new();
            for span in spans {
                place_span(tree, span, survey.unwritten > 0, &mut placed)?;
            }
            Ok(placed)
        })
    }

    /// Allocates blocks for `from..to` of `object`, as the first step of a write: `promised` of those that
    /// are promised, which they stay on error, and others.
    pub(crate) fn place_range(
        &self,
        object: u64,
        from: u64,
        to: u64,
        promised: u64,
        privileged: bool,
    ) -> Result<Vec<Placed>> {
        let span = Span { object, from, to };
        let (survey, items) = {
            let tree = self.reader();
            let survey = Survey::read(&tree, object, from, to, u64::MAX)?;
            (survey, survey.items(&tree))
        };
        self.place(&[span], &survey, items, promised, privileged)
    }

    /// Gives back the blocks of a write that did not come to be.
    pub(crate) fn give_back(&self, placed: &[Placed]) {
        if placed.iter().all(|piece| piece.in_place) {
            return;
        }
        let mut tree = self.tree.write();
        for piece in placed.iter().filter(|piece| !piece.in_place) {
            tree.space.give_back(piece.run);
        }
    }

    /// Writes the data to the blocks and sums it up.
    fn fill(
        &self,
        placed: &mut [Placed],
        writes: &[StreamWrite<'_>],
        before: Before<'_>,
    ) -> Result<()> {
        let log2 = self.block_log2();
        let block_bytes = 1usize << log2;
        let mut writes = writes;
        let mut bounce = None;
        for piece in placed {
            let sums = &mut piece.checksums;
            sums.try_reserve_exact(piece.run.length as usize).map_err(|_| Error::OutOfMemory)?;
            let mut done = 0;
            while done < piece.run.length {
                let start = (piece.logical + done) << log2;
                let device_offset = (piece.run.start + done) << log2;
                // Writes that end before this block are behind us.
                while let Some((first, others)) = writes.split_first() {
                    if first.object == piece.object && first.end() > start {
                        break;
                    }
                    writes = others;
                }
                let whole = writes.first().and_then(|write| {
                    let rest = write.bytes.get(start.checked_sub(write.offset)? as usize..)?;
                    let blocks = (rest.len() >> log2).min((piece.run.length - done) as usize);
                    rest.get(..blocks << log2).filter(|bytes| !bytes.is_empty())
                });
                if let Some(bytes) = whole {
                    self.host.device.write(device_offset, bytes)?;
                    for block in bytes.chunks_exact(block_bytes) {
                        sums.try_push(self.host.checksum.crc32c(0, block))?;
                    }
                    done += (bytes.len() >> log2) as u64;
                    continue;
                }
                let mut block = match bounce.take() {
                    Some(block) => block,
                    None => zeroed_bytes(block_bytes)?,
                };
                self.compose(piece.object, start, writes, before, &mut block)?;
                self.host.device.write(device_offset, &block)?;
                sums.try_push(self.host.checksum.crc32c(0, &block))?;
                bounce = Some(block);
                done += 1;
            }
        }
        Ok(())
    }

    /// Fills `block` with the block of `object` at byte `start` as it is after `writes`.
    fn compose(
        &self,
        object: u64,
        start: u64,
        writes: &[StreamWrite<'_>],
        before: Before<'_>,
        block: &mut [u8],
    ) -> Result<()> {
        let end = start + block.len() as u64;
        let old = before.size.saturating_sub(start).min(block.len() as u64) as usize;
        match before.inline {
            Some(bytes) => {
                block.fill(0);
                crate::bytes::copy(block, bytes.get(start as usize..).unwrap_or(&[]));
            }
            None if old > 0 => self.stream_read_as(object, start, block, before.verify)?,
            None => {}
        }
        if let Some(tail) = block.get_mut(old..) {
            tail.fill(0);
        }
        for write in writes {
            if write.object != object || write.offset >= end {
                break;
            }
            let skip = start.saturating_sub(write.offset) as usize;
            let to = write.offset.saturating_sub(start) as usize;
            let bytes = write.bytes.get(skip..).unwrap_or(&[]);
            crate::bytes::copy(block.get_mut(to..).unwrap_or(&mut []), bytes);
        }
        Ok(())
    }

    /// Frees extents of `object` from logical block `from` on, the last ones first, at most
    /// `extents_max` of them. Returns whether none is left. If the object is an inode, its count of
    /// blocks follows. An operation of its own.
    pub(crate) fn free_object_extents(
        &self,
        object: u64,
        from: u64,
        extents_max: usize,
    ) -> Result<bool> {
        self.remove_step(object, from, u64::MAX, extents_max as u64, |tree, removed| {
            if removed.blocks > 0 {
                crate::file::count_blocks(tree, object, -(removed.blocks as i64))?;
            }
            Ok(removed.reached <= from)
        })
    }

    /// Removes extents of `from..to`, from the end backwards, at most `extents_max` of them or as
    /// many as there is space for, and runs `commit`, as one operation.
    pub(crate) fn remove_step<R>(
        &self,
        object: u64,
        from: u64,
        to: u64,
        extents_max: u64,
        mut commit: impl FnMut(&mut Tree, &extent::Removed) -> Result<R>,
    ) -> Result<R> {
        let to = to.min(crate::key::OFFSET_MAX);
        let mut extents_max = extents_max.max(1);
        loop {
            let items = {
                let tree = self.reader();
                Survey::read(&tree, object, from, to, extents_max)?.items(&tree) + 2
            };
            let result = self.operation(items, true, |tree| {
                let removed = extent::remove(tree, object, from, to, extents_max)?;
                commit(tree, &removed)
            });
            // Freeing takes space itself, for copies of the nodes. With little left, free less at
            // a time.
            match result {
                Err(Error::NoSpace) if extents_max > 1 => extents_max = extents_max.div_ceil(16),
                result => return result,
            }
        }
    }
}

/// Places of the tree that naming these blocks changes at most.
pub(crate) fn items_for_new(tree: &Tree, placed: &[Placed]) -> u64 {
    let blocks = placed.iter().map(|piece| piece.run.length).sum();
    extent::items_for_new(tree, blocks, placed.len() as u64)
}

/// Finds blocks for a span: with `in_place`, its unwritten ones where there are such.
fn place_span(
    tree: &mut Tree,
    span: &Span,
    in_place: bool,
    placed: &mut Vec<Placed>,
) -> Result<()> {
    let Span { object, from, to } = *span;
    let mut unwritten: Vec<Extent> = Vec::new();
    if in_place {
        extent::each(tree, object, from, to, |extent, _| {
            if extent::is_writable_in_place(extent)
                && let Some(part) = extent.part(from, to)
            {
                unwritten.try_push(part)?;
            }
            Ok(true)
        })?;
    }
    let mut goal = extent::goal(tree, object, from)?;
    let mut at = from;
    let mut next = unwritten.iter();
    while at < to {
        let own = next.next();
        let gap_end = own.map_or(to, |own| own.logical);
        while at < gap_end {
            let run = tree.space.allocate_in_flight(gap_end - at, goal)?;
            let piece = Placed { object, logical: at, run, in_place: false, checksums: Vec::new() };
            placed.try_push(piece)?;
            at += run.length;
            goal = Some(run.end());
        }
        if let Some(own) = own {
            let piece = Placed {
                object,
                logical: own.logical,
                run: own.run(),
                in_place: true,
                checksums: Vec::new(),
            };
            placed.try_push(piece)?;
            at = own.end();
            goal = Some(own.run().end());
        }
    }
    Ok(())
}

/// Puts written blocks in the place of what the objects have there. Returns by how many blocks the
/// objects have grown.
pub(crate) fn install(tree: &mut Tree, placed: &[Placed]) -> Result<i64> {
    let mut growth = 0;
    for piece in placed {
        let end = piece.logical.saturating_add(piece.run.length);
        let mut new = Extent {
            logical: piece.logical,
            block: piece.run.start,
            length: piece.run.length,
            generation: tree.generation(),
            flags: 0,
        };
        if piece.in_place {
            new.generation = extent::take_unwritten(tree, piece.object, piece.logical, piece.run)?;
        } else {
            tree.space.adopt(piece.run)?;
            if extent::replace(tree, piece.object, &new, &piece.checksums)? {
                continue;
            }
            growth += piece.run.length as i64 - clear(tree, piece.object, piece.logical, end)?;
        }
        extent::insert(tree, piece.object, &new, &piece.checksums)?;
    }
    Ok(growth)
}

/// Removes all extents of `from..to`, a range of bounded length. Returns how many blocks that were.
pub(crate) fn clear(tree: &mut Tree, object: u64, from: u64, to: u64) -> Result<i64> {
    let (mut blocks, mut end) = (0, to);
    while end > from {
        let removed = extent::remove(tree, object, from, end, u64::MAX)?;
        blocks += removed.blocks as i64;
        end = removed.reached;
    }
    Ok(blocks)
}

/// Makes `blocks` logical blocks of a stream a hole, within an operation of the caller's, who
/// counts one item of the tree for each extent there. Returns how many blocks were freed.
pub(crate) fn punch_stream(
    tree: &mut Tree,
    object: u64,
    first_block: u64,
    blocks: u64,
) -> Result<u64> {
    Ok(clear(tree, object, first_block, first_block.saturating_add(blocks))? as u64)
}
