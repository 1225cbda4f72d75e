// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Little-endian fields within a block, read and written without a way to panic: a field that
//! does not lie within the bytes reads as zero and is not written.

use crate::error::Result;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// The `N` bytes at `at`.
#[inline(always)]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>()
}

#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    chunk(bytes, at).map_or(0, |c| u16::from_le_bytes(*c))
}

#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    chunk(bytes, at).map_or(0, |c| u32::from_le_bytes(*c))
}

#[inline(always)]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    chunk(bytes, at).map_or(0, |c| u64::from_le_bytes(*c))
}

/// Writes `value` at `at`.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(slot) = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut::<N>()) {
        *slot = value;
    }
}

/// Copies `source` to the front of `target`; what does not fit is not copied.
#[inline]
pub(crate) fn copy(target: &mut [u8], source: &[u8]) {
    let length = target.len().min(source.len());
    if let (Some(to), Some(from)) = (target.get_mut(..length), source.get(..length)) {
        to.copy_from_slice(from);
    }
}

/// A copy of bytes that came with an item.
pub(crate) fn owned(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_extend(bytes)?;
    Ok(copy)
}

/// Moves the bytes of `from` to `to` within one buffer, as `memmove`; a range that does not lie
/// within the buffer moves nothing.
#[inline]
pub(crate) fn shift(bytes: &mut [u8], from: core::ops::Range<usize>, to: usize) {
    let Some(length) = from.end.checked_sub(from.start) else { return };
    if from.end > bytes.len() || to > bytes.len() - length {
        return;
    }
    // `copy_within` asks for the same in a form from which the compiler does not drop its panics.
    let start = bytes.as_mut_ptr();
    // SAFETY: `from` and the `length` bytes at `to` lie within `bytes` (just checked: `length` is
    // at most `from.end`, so the subtraction does not wrap), which is borrowed for this call alone.
    unsafe { core::ptr::copy(start.add(from.start), start.add(to), length) }
}
