// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Extents: which blocks of the device hold an object's logical blocks, and what they sum to.
//!
//! An object here is whatever has [`Kind::Extent`] items: a file, or a stream without an inode.
//! Everything below works on one object number within one operation; files and streams differ only
//! in what else the operation changes.

use crate::error::{Error, Result, corrupt};
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::{
    EXTENT_BLOCKS_MAX, EXTENT_SHARED, EXTENT_UNWRITTEN, ExtentLayout, GROUP_BLOCKS,
    UNWRITTEN_BLOCKS_MAX,
};
use crate::shared;
use crate::space::Run;
use crate::tree::Tree;
use alloc::vec::Vec;
use core::ops::Range;
use vexfs_memory::TryVec;
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of a checksum in an extent's item.
pub(crate) const CHECKSUM_BYTES: usize = 4;
/// What an extent's item takes in a leaf, without checksums.
pub(crate) const ITEM_BYTES_MIN: u64 = 48;
const HEAD_BYTES: usize = size_of::<ExtentLayout>();
/// Blocks that one operation frees at most; a larger extent is freed in parts.
const FREE_BLOCKS_MAX: u64 = 8 * GROUP_BLOCKS;
/// Most blocks of an unwritten extent made here.
const UNWRITTEN_MERGE_MAX: u64 = GROUP_BLOCKS;

/// One extent, without its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First logical block.
    pub logical: u64,
    /// First block on the device.
    pub block: u64,
    pub length: u64,
    /// The transaction that allocated the blocks, or an earlier one.
    pub generation: u64,
    pub flags: u32,
}

impl Extent {
    /// Reads an extent's item and checks it. Returns it with the bytes of its checksums.
    pub fn decode<'a>(tree: &Tree, key: Key, item: &'a [u8]) -> Result<(Self, &'a [u8])> {
        let bad = |what| corrupt(key.object, what);
        let (head, sums) = ExtentLayout::ref_from_prefix(item)
            .map_err(|_| bad("extent item of a wrong length"))?;
        let extent = Self {
            logical: key.offset(),
            block: head.block.get(),
            length: u64::from(head.length.get()),
            generation: head.generation.get(),
            flags: head.flags.get(),
        };
        if extent.flags & !(EXTENT_UNWRITTEN | EXTENT_SHARED) != 0 {
            return Err(bad("extent with unknown flags"));
        }
        let (most, sums_wanted) = if extent.is_written() {
            (EXTENT_BLOCKS_MAX, extent.length as usize * CHECKSUM_BYTES)
        } else {
            (UNWRITTEN_BLOCKS_MAX, 0)
        };
        if extent.length == 0 || extent.length > u64::from(most) || sums.len() != sums_wanted {
            return Err(bad("extent of an impossible length"));
        }
        if !tree.state.is_allocatable(extent.run()) {
            return Err(bad("extent of blocks that are never given out"));
        }
        if extent.end() > OFFSET_MAX {
            return Err(bad("extent beyond the last block of an object"));
        }
        if extent.generation > tree.generation() {
            return Err(bad("extent of a transaction to come"));
        }
        Ok((extent, sums))
    }

    /// The logical block after the last.
    pub fn end(&self) -> u64 {
        self.logical.saturating_add(self.length)
    }

    pub fn is_written(&self) -> bool {
        self.flags & EXTENT_UNWRITTEN == 0
    }

    /// Whether other extents may name its blocks.
    pub fn may_be_shared(&self) -> bool {
        self.flags & EXTENT_SHARED != 0
    }

    /// Its part within logical blocks `from..to`; `None` when they do not meet.
    pub fn part(&self, from: u64, to: u64) -> Option<Self> {
        let (first, last) = (self.logical.max(from), self.end().min(to));
        (first < last).then(|| Self {
            logical: first,
            block: self.block + (first - self.logical),
            length: last - first,
            ..*self
        })
    }

    pub fn run(&self) -> Run {
        Run { start: self.block, length: self.length }
    }

    fn head(&self) -> ExtentLayout {
        ExtentLayout {
            block: self.block.into(),
            generation: self.generation.into(),
            length: (self.length as u32).into(),
            flags: self.flags.into(),
        }
    }

    /// Writes the extent, new or known, with the bytes of its checksums.
    fn store(&self, tree: &mut Tree, object: u64, sums: &[&[u8]]) -> Result<()> {
        let head = self.head();
        let (first, second) = (sums.first().copied(), sums.get(1).copied());
        let parts = [head.as_bytes(), first.unwrap_or(&[]), second.unwrap_or(&[])];
        tree.put(Key::new(object, Kind::Extent, self.logical), &parts)
    }
}

/// The part of an extent's checksums for `length` blocks from its `skip`th on.
fn sums_part(sums: &[u8], skip: u64, length: u64) -> &[u8] {
    let from = skip as usize * CHECKSUM_BYTES;
    sums.get(from..from + length as usize * CHECKSUM_BYTES).unwrap_or(&[])
}

/// Calls `each` with the extents of `object` that meet the logical blocks `from..to`, in order, and
/// the bytes of their checksums, until it returns false.
pub(crate) fn each(
    tree: &Tree,
    object: u64,
    from: u64,
    to: u64,
    mut each: impl FnMut(&Extent, &[u8]) -> Result<bool>,
) -> Result<()> {
    let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else { return Ok(()) };
    let mut first = Key::new(object, Kind::Extent, from);
    // Ends of extents rise: a hostile tree must not lead readers astray or back.
    let mut end = 0;
    if let Some(item) = tree.previous(first)? {
        let key = item.key();
        if key.is(object, Kind::Extent) {
            let (extent, sums) = Extent::decode(tree, key, &item)?;
            end = extent.end();
            if end > from && (!each(&extent, sums)? || end >= to) {
                return Ok(());
            }
            match key.successor() {
                Some(next) => first = next,
                None => return Ok(()),
            }
        }
    }
    tree.scan(first, Key::new(object, Kind::Extent, last), |key, item| {
        let (extent, sums) = Extent::decode(tree, key, item)?;
        if extent.logical < end {
            return Err(corrupt(object, "extents of an object overlap"));
        }
        end = extent.end();
        each(&extent, sums)
    })
}

/// The extent that holds logical block `block`, or the first one after it.
pub(crate) fn find(tree: &Tree, object: u64, block: u64) -> Result<Option<Extent>> {
    let mut found = None;
    each(tree, object, block, OFFSET_MAX, |extent, _| {
        found = Some(*extent);
        Ok(false)
    })?;
    Ok(found)
}

/// The block on the device after the one that holds the logical block before `logical`: the best
/// place for more of the object.
pub(crate) fn goal(tree: &Tree, object: u64, logical: u64) -> Result<Option<u64>> {
    let Some(before) = logical.checked_sub(1) else { return Ok(None) };
    let Some(item) = tree.previous(Key::new(object, Kind::Extent, before))? else {
        return Ok(None);
    };
    let key = item.key();
    if !key.is(object, Kind::Extent) {
        return Ok(None);
    }
    let (extent, _) = Extent::decode(tree, key, &item)?;
    Ok(Some(extent.block.saturating_add(logical.min(extent.end()) - extent.logical)))
}

/// A part of an object in one piece: a hole, unwritten, or blocks in a row on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub logical: u64,
    pub length: u64,
    /// First block on the device; `None` for what reads as zeros.
    pub block: Option<u64>,
}

/// Where the blocks of a range are, copied out of the tree.
#[derive(Default)]
pub(crate) struct Mapping {
    /// In order, without gaps.
    pub segments: Vec<Segment>,
    /// Of all blocks that have a place on the device, in order.
    pub checksums: Vec<u32>,
}

impl Mapping {
    /// Maps the logical blocks `from..to`.
    pub fn read(tree: &Tree, object: u64, from: u64, to: u64) -> Result<Self> {
        let mut map = Self::default();
        let mut at = from;
        each(tree, object, from, to, |extent, sums| {
            let Some(part) = extent.part(at, to) else { return Ok(true) };
            map.push(Segment { logical: at, length: part.logical - at, block: None })?;
            let block = part.is_written().then_some(part.block);
            map.push(Segment { logical: part.logical, length: part.length, block })?;
            for sum in sums_part(sums, part.logical - extent.logical, part.length).as_chunks().0 {
                map.checksums.try_push(u32::from_le_bytes(*sum))?;
            }
            at = part.end();
            Ok(true)
        })?;
        map.push(Segment { logical: at, length: to.saturating_sub(at), block: None })?;
        Ok(map)
    }

    /// Appends a segment, or lengthens the last by it.
    fn push(&mut self, segment: Segment) -> Result<()> {
        if segment.length == 0 {
            return Ok(());
        }
        if let Some(last) = self.segments.last_mut() {
            let joins = match (last.block, segment.block) {
                (None, None) => true,
                (Some(before), Some(after)) => before + last.length == after,
                _ => false,
            };
            if joins {
                last.length += segment.length;
                return Ok(());
            }
        }
        Ok(self.segments.try_push(segment)?)
    }
}

/// What the extents of a range would cost to replace.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// Extents that meet the range.
    pub extents: u64,
    item_bytes: u64,
    /// Of these, those that may be shared.
    shared: u64,
    /// Groups that their blocks are in, counted again when they alternate.
    groups: u64,
    /// Blocks of the range that have no block on the device.
    pub holes: u64,
    /// Blocks of the range that are unwritten, and may be written where they are.
    pub unwritten: u64,
}

impl Survey {
    /// Looks at the extents of the logical blocks `from..to`, at most `extents_max` of them.
    pub fn read(tree: &Tree, object: u64, from: u64, to: u64, extents_max: u64) -> Result<Self> {
        let mut survey = Self { holes: to.saturating_sub(from), ..Default::default() };
        let mut group = u64::MAX;
        each(tree, object, from, to, |extent, sums| {
            let Some(part) = extent.part(from, to) else { return Ok(true) };
            survey.extents += 1;
            survey.item_bytes += sums.len() as u64 + ITEM_BYTES_MIN;
            survey.shared += u64::from(extent.may_be_shared());
            survey.holes = survey.holes.saturating_sub(part.length);
            if is_writable_in_place(extent) {
                survey.unwritten += part.length;
            }
            let last = (part.block + part.length - 1) / GROUP_BLOCKS;
            let first = part.block / GROUP_BLOCKS;
            let blocks_max = FREE_BLOCKS_MAX / GROUP_BLOCKS + 1;
            survey.groups += (last - first).min(blocks_max) + u64::from(first != group);
            group = last;
            Ok(survey.extents < extents_max)
        })?;
        Ok(survey)
    }

    /// What so many blocks cost to replace at most.
    pub fn most(tree: &Tree, blocks: u64) -> Self {
        Self {
            extents: blocks,
            item_bytes: blocks.saturating_mul(tree.item_bytes_max() as u64),
            shared: blocks,
            groups: blocks.saturating_mul(2),
            ..Default::default()
        }
    }

    /// Bytes of the extents' items.
    pub fn item_bytes(&self) -> u64 {
        self.item_bytes
    }

    pub fn add(&mut self, other: &Self) {
        self.extents += other.extents;
        self.item_bytes += other.item_bytes;
        self.shared += other.shared;
        self.groups += other.groups;
        self.holes += other.holes;
        self.unwritten += other.unwritten;
    }

    /// Places of the tree that removing the extents changes: their leaves, which are at least a
    /// third full but for the last, reference counts, and the groups' items.
    pub fn items(&self, tree: &Tree) -> u64 {
        let leaves = (self.item_bytes * 3).div_ceil(tree.block_bytes().max(1) as u64) + 2;
        leaves + self.shared * 3 + self.groups.min(tree.space.group_count())
    }
}

/// Places of the tree that inserting extents of so many blocks, in so many runs, changes at most.
pub(crate) fn items_for_new(tree: &Tree, blocks: u64, runs: u64) -> u64 {
    let bytes = blocks * CHECKSUM_BYTES as u64
        + (runs + blocks / u64::from(EXTENT_BLOCKS_MAX)) * (HEAD_BYTES as u64 + 20);
    let leaves = (bytes * 2).div_ceil(tree.block_bytes().max(1) as u64) + 2;
    leaves + (runs + blocks / GROUP_BLOCKS).min(tree.space.group_count())
}

/// The last extent of the object.
pub(crate) fn last(tree: &Tree, object: u64) -> Result<Option<Extent>> {
    last_before(tree, object, 0, OFFSET_MAX)
}

/// Moves the extents from logical block `from` on to the logical blocks from `to` on. Where they come
/// to lie there is none but of those that move; one that begins before `from` is divided there.
pub(crate) fn shift(tree: &mut Tree, object: u64, from: u64, to: u64) -> Result<()> {
    if let Some(extent) = find(tree, object, from)?.filter(|extent| extent.logical < from)
        && let (Some(left), Some(right)) =
            (extent.part(extent.logical, from), extent.part(from, extent.end()))
    {
        let sums = sums_of(tree, object, &extent)?;
        left.store(tree, object, &[sums_part(&sums, 0, left.length)])?;
        right.store(tree, object, &[sums_part(&sums, left.length, right.length)])?;
    }
    // The order is such that each goes where the one before it has been.
    let (mut first, mut end) = (from, OFFSET_MAX);
    loop {
        let next = match to < from {
            true => find(tree, object, first)?,
            false => last_before(tree, object, from, end)?,
        };
        let Some(extent) = next else { return Ok(()) };
        let sums = sums_of(tree, object, &extent)?;
        tree.remove(Key::new(object, Kind::Extent, extent.logical))?;
        let moved = Extent { logical: to + (extent.logical - from), ..extent };
        moved.store(tree, object, &[&sums])?;
        (first, end) = (extent.end(), extent.logical);
    }
}

/// A copy of an extent's checksums.
fn sums_of(tree: &Tree, object: u64, extent: &Extent) -> Result<Vec<u8>> {
    let key = Key::new(object, Kind::Extent, extent.logical);
    let item = tree.get(key)?.ok_or(Error::NotFound)?;
    let mut sums = Vec::new();
    sums.try_extend(Extent::decode(tree, key, &item)?.1)?;
    Ok(sums)
}

/// Whether data may be written to the extent's own blocks: no state names them as written.
pub(crate) fn is_writable_in_place(extent: &Extent) -> bool {
    !extent.is_written() && !extent.may_be_shared()
}

/// What [`remove`] has done.
pub(crate) struct Removed {
    /// Blocks that the object does not have any more.
    pub blocks: u64,
    /// From here to the end of the range no extent is left.
    pub reached: u64,
}

/// Takes the logical blocks `from..to` out of the object, from the end backwards, at most
/// `extents_max` extents and [`FREE_BLOCKS_MAX`] blocks of them. The blocks are freed, or lose a
/// reference when shared.
pub(crate) fn remove(
    tree: &mut Tree,
    object: u64,
    from: u64,
    to: u64,
    extents_max: u64,
) -> Result<Removed> {
    let mut removed = Removed { blocks: 0, reached: to };
    let (mut whole, mut left) = (Vec::new(), extents_max);
    while left > 0 && removed.blocks < FREE_BLOCKS_MAX {
        let blocks_max = FREE_BLOCKS_MAX - removed.blocks;
        last_whole(tree, object, from..removed.reached, left, blocks_max, &mut whole)?;
        if let (Some(last), Some(first)) = (whole.first(), whole.last()) {
            let key = |extent: &Extent| Key::new(object, Kind::Extent, extent.logical);
            tree.remove_run(key(first), key(last))?;
            for extent in &whole {
                free(tree, extent)?;
                removed.blocks += extent.length;
            }
            removed.reached = first.logical;
            left -= whole.len() as u64;
            continue;
        }
        let Some(extent) = last_before(tree, object, from, removed.reached)? else {
            removed.reached = from;
            return Ok(removed);
        };
        let end = removed.reached.min(extent.end());
        let Some(part) = extent.part(from.max(end.saturating_sub(FREE_BLOCKS_MAX)), end) else {
            return Err(corrupt(object, "extents of an object overlap"));
        };
        cut(tree, object, &extent, &part)?;
        free(tree, &part)?;
        removed.blocks += part.length;
        removed.reached = part.logical;
        left -= 1;
    }
    if removed.reached > from && last_before(tree, object, from, removed.reached)?.is_none() {
        removed.reached = from;
    }
    Ok(removed)
}

/// Sets `whole` to the last extents of `range` that are in one leaf and in the range as a whole, the
/// last one first, at most `extents_max` of at most `blocks_max` blocks.
fn last_whole(
    tree: &Tree,
    object: u64,
    range: Range<u64>,
    extents_max: u64,
    blocks_max: u64,
    whole: &mut Vec<Extent>,
) -> Result<()> {
    whole.clear();
    let Some(last) = range.end.checked_sub(1).filter(|last| *last >= range.start) else {
        return Ok(());
    };
    let Some(mut item) = tree.previous(Key::new(object, Kind::Extent, last))? else {
        return Ok(());
    };
    let (mut end, mut blocks_left) = (range.end, blocks_max);
    while (whole.len() as u64) < extents_max && item.key().is(object, Kind::Extent) {
        let (extent, _) = Extent::decode(tree, item.key(), &item)?;
        if extent.logical < range.start || extent.end() > end || extent.length > blocks_left {
            break;
        }
        whole.try_push(extent)?;
        (end, blocks_left) = (extent.logical, blocks_left - extent.length);
        if !item.retreat() {
            break;
        }
    }
    Ok(())
}

/// The last extent that meets `from..to`.
fn last_before(tree: &Tree, object: u64, from: u64, to: u64) -> Result<Option<Extent>> {
    let Some(last) = to.checked_sub(1).filter(|last| *last >= from) else { return Ok(None) };
    let Some(item) = tree.previous(Key::new(object, Kind::Extent, last))? else {
        return Ok(None);
    };
    let key = item.key();
    if !key.is(object, Kind::Extent) {
        return Ok(None);
    }
    let (extent, _) = Extent::decode(tree, key, &item)?;
    Ok((extent.end() > from).then_some(extent))
}

/// Frees the blocks of an extent that was cut out, or takes a reference off them.
fn free(tree: &mut Tree, part: &Extent) -> Result<()> {
    let fresh = part.generation == tree.generation();
    if part.may_be_shared() {
        shared::release(tree, part.run(), fresh)
    } else {
        tree.space.free(part.run(), fresh)
    }
}

/// Takes `part` out of `extent`, leaving what lies before and after it. The blocks stay in use.
fn cut(tree: &mut Tree, object: u64, extent: &Extent, part: &Extent) -> Result<()> {
    let key = Key::new(object, Kind::Extent, extent.logical);
    if part.length == extent.length {
        return tree.remove(key);
    }
    let sums = sums_of(tree, object, extent)?;
    match extent.part(extent.logical, part.logical) {
        Some(left) => left.store(tree, object, &[sums_part(&sums, 0, left.length)])?,
        None => tree.remove(key)?,
    }
    if let Some(right) = extent.part(part.end(), extent.end()) {
        let skip = right.logical - extent.logical;
        right.store(tree, object, &[sums_part(&sums, skip, right.length)])?;
    }
    Ok(())
}

/// Notes that other extents may name the blocks of `extent`.
pub(crate) fn mark_shared(tree: &mut Tree, object: u64, extent: &Extent) -> Result<()> {
    if extent.may_be_shared() {
        return Ok(());
    }
    let head = Extent { flags: extent.flags | EXTENT_SHARED, ..*extent }.head();
    let item = tree.get_mut(Key::new(object, Kind::Extent, extent.logical))?;
    crate::bytes::copy(item, head.as_bytes());
    Ok(())
}

/// Adds blocks to the object: `new.length` logical blocks that no extent covers yet, with a
/// checksum each unless unwritten. Joins the extent before when that goes on in the same way.
pub(crate) fn insert(tree: &mut Tree, object: u64, new: &Extent, checksums: &[u32]) -> Result<()> {
    let most = if new.is_written() {
        if checksums.len() as u64 != new.length {
            return Err(Error::Invalid("a written extent needs a checksum for each block"));
        }
        u64::from(EXTENT_BLOCKS_MAX)
    } else {
        UNWRITTEN_MERGE_MAX
    };
    let mut bytes: Vec<u8> = Vec::new();
    bytes.try_reserve(checksums.len() * CHECKSUM_BYTES).map_err(|_| Error::OutOfMemory)?;
    for sum in checksums {
        bytes.try_extend(&sum.to_le_bytes())?;
    }
    let mut done = 0;
    if let Some(before) = last_before(tree, object, new.logical.saturating_sub(1), new.logical)? {
        let joins = before.flags == new.flags
            && !new.may_be_shared()
            && before.end() == new.logical
            && before.block + before.length == new.block;
        let room = most.saturating_sub(before.length);
        if before.end() > new.logical {
            return Err(corrupt(object, "extents of an object overlap"));
        }
        if joins && room > 0 {
            done = room.min(new.length);
            let joined = Extent {
                length: before.length + done,
                // The older one: blocks of an earlier transaction must not pass for fresh ones.
                generation: before.generation.min(new.generation),
                ..before
            };
            let mut sums: Vec<u8> = Vec::new();
            let key = Key::new(object, Kind::Extent, before.logical);
            if let Some(item) = tree.get(key)? {
                sums.try_extend(Extent::decode(tree, key, &item)?.1)?;
            }
            let added = if new.is_written() { sums_part(&bytes, 0, done) } else { &[] };
            joined.store(tree, object, &[&sums, added])?;
        }
    }
    while done < new.length {
        let length = most.min(new.length - done);
        let piece = Extent { logical: new.logical + done, block: new.block + done, length, ..*new };
        let sums = if new.is_written() { sums_part(&bytes, done, length) } else { &[] };
        let head = piece.head();
        let key = Key::new(object, Kind::Extent, piece.logical);
        let item = tree.insert(key, HEAD_BYTES + sums.len()).map_err(|error| match error {
            Error::Exists => corrupt(object, "extents of an object overlap"),
            error => error,
        })?;
        let (start, rest) = item.split_at_mut_checked(HEAD_BYTES).unwrap_or((&mut [], &mut []));
        crate::bytes::copy(start, head.as_bytes());
        crate::bytes::copy(rest, sums);
        done += length;
    }
    Ok(())
}

/// Puts `new`, which is written, in the place of one written extent of the very same logical blocks and
/// frees that one's. False, and nothing is done, where it is not as simple as that.
pub(crate) fn replace(
    tree: &mut Tree,
    object: u64,
    new: &Extent,
    checksums: &[u32],
) -> Result<bool> {
    let key = Key::new(object, Kind::Extent, new.logical);
    let Some(mut item) = tree.previous(key)? else { return Ok(false) };
    if item.key() != key {
        return Ok(false);
    }
    let (old, _) = Extent::decode(tree, key, &item)?;
    let alike = old.is_written() && !old.may_be_shared() && old.length == new.length;
    // What lies before may be joined.
    if !alike || checksums.len() as u64 != new.length || !item.retreat() {
        return Ok(false);
    }
    if item.key().is(object, Kind::Extent) {
        let (before, _) = Extent::decode(tree, item.key(), &item)?;
        if before.end() > new.logical || before.block + before.length == new.block {
            return Ok(false);
        }
    }
    let item = tree.get_mut(key)?;
    let (start, rest) = item.split_at_mut_checked(HEAD_BYTES).unwrap_or((&mut [], &mut []));
    crate::bytes::copy(start, new.head().as_bytes());
    for (place, sum) in rest.as_chunks_mut().0.iter_mut().zip(checksums) {
        *place = sum.to_le_bytes();
    }
    free(tree, &old)?;
    Ok(true)
}

/// Turns the logical blocks of `piece`, unwritten in exactly the blocks it names, into nothing, so
/// that [`insert`] can put them back as written. Returns their generation.
pub(crate) fn take_unwritten(tree: &mut Tree, object: u64, logical: u64, run: Run) -> Result<u64> {
    let end = logical.saturating_add(run.length);
    let (mut at, mut generation) = (logical, u64::MAX);
    while at < end {
        let extent = find(tree, object, at)?.ok_or(Error::Busy)?;
        let Some(part) = extent.part(at, end).filter(|part| part.logical == at) else {
            return Err(Error::Busy);
        };
        let expected = run.start + (at - logical);
        if !is_writable_in_place(&extent) || part.block != expected {
            return Err(Error::Busy);
        }
        cut(tree, object, &extent, &part)?;
        generation = generation.min(extent.generation);
        at = part.end();
    }
    Ok(generation)
}
