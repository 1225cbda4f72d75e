// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The four copies of the superblock: whether each is whole, and whether they agree.

use super::finding::{Code, Place};
use super::{Sink, Stage};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::{SUPERBLOCK_COPIES, SUPERBLOCK_OFFSETS};
use crate::superblock::{Copies, Superblock, newest};

/// States by which a copy near the end may lag behind its twin near the front: its last write may
/// have been lost in a crash, and the one before was of two states earlier.
const MIRROR_LAG_MAX: u64 = 2;

fn place(copy: usize, state: Option<&Superblock>, device_bytes: u64) -> Place {
    let offset = match state {
        Some(state) => state.offset(copy),
        None => crate::superblock::copy_offset(copy, device_bytes),
    };
    let block = offset >> state.map_or(12, |state| state.block_log2);
    Place { block, offset: copy as u64, ..Place::default() }
}

/// Looks at the copies, and picks the newest state. `None` when there is none to go on with.
pub(crate) fn examine<'a>(
    host: &Host,
    copies: &'a Copies,
    sink: &mut Sink<'_>,
) -> Result<Option<&'a Superblock>> {
    sink.progress(Stage::Superblocks, 0, SUPERBLOCK_COPIES as u64)?;
    let device_bytes = host.device.size_bytes();
    let state = match newest(copies) {
        Ok(state) => state,
        // Not ours, or of a later version: nothing that a check could say more about.
        Err(error @ (Error::NotVexfs(_) | Error::UnknownFeatures(_) | Error::NotSupported(_))) => {
            return Err(error);
        }
        Err(error) => {
            let [first, _] = SUPERBLOCK_OFFSETS;
            sink.find_error(Code::SuperblockNone, Place::block(first >> 12), error)?;
            return Ok(None);
        }
    };
    if state.blocks << state.block_log2 > device_bytes {
        // The copies near the end are missing with the rest, which is one finding and not three.
        let place = Place::default().with(device_bytes, state.blocks << state.block_log2);
        sink.find(Code::DeviceTooSmall, place)?;
        return Ok(None);
    }
    for (copy, found) in copies.iter().enumerate() {
        let place = place(copy, Some(state), device_bytes);
        match found {
            Err(error) => sink.find_error(Code::SuperblockDamaged, place, *error)?,
            Ok(found) => {
                sink.report.superblocks += 1;
                compare(copy, found, state, place, sink)?;
            }
        }
    }
    for twin in 0..SUPERBLOCK_COPIES / 2 {
        let pair = (copies.get(twin), copies.get(twin + SUPERBLOCK_COPIES / 2));
        // A crash tears at most the copy that is being written, and its twin, which is durable by
        // then, names the state two before. Of a new file system state 2 may never have come, but
        // it would be the same as state 1.
        if let (Some(Err(_)), Some(Err(_))) = pair
            && state.generation > 1
        {
            sink.find(Code::StateLost, place(twin, Some(state), device_bytes))?;
        }
        if let (Some(Ok(front)), Some(Ok(back))) = pair
            && front.generation == back.generation
            && front != back
        {
            let copy = twin + SUPERBLOCK_COPIES / 2;
            sink.find(Code::SuperblockMirror, place(copy, Some(state), device_bytes))?;
        }
    }
    sink.progress(Stage::Superblocks, SUPERBLOCK_COPIES as u64, SUPERBLOCK_COPIES as u64)?;
    Ok(Some(state))
}

fn compare(
    copy: usize,
    found: &Superblock,
    newest: &Superblock,
    place: Place,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let same = found.uuid == newest.uuid
        && found.block_log2 == newest.block_log2
        && found.blocks == newest.blocks
        && found.hash_key == newest.hash_key
        && found.created_seconds == newest.created_seconds;
    if !same {
        return sink.find(Code::SuperblockDiffers, place);
    }
    // Copies of even states and of odd ones alternate.
    let expected = newest.generation.saturating_sub((newest.generation ^ copy as u64) & 1);
    let lag = if copy < SUPERBLOCK_COPIES / 2 { 0 } else { MIRROR_LAG_MAX };
    if found.generation.saturating_add(lag) < expected {
        return sink.find(Code::SuperblockBehind, place.with(found.generation, expected));
    }
    Ok(())
}
