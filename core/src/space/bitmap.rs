// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The blocks of a group, a bit for each.

use crate::bytes::{copy, u64_at};
use crate::error::Result;
use crate::layout::{GROUP_BITMAP_BYTES, GROUP_BLOCKS};
use alloc::boxed::Box;
use vexfs_memory::zeroed_bytes;

/// One bit for each block of a group.
pub(crate) struct Bitmap(Box<[u8]>);

impl Bitmap {
    pub fn new() -> Result<Self> {
        Ok(Self(zeroed_bytes(GROUP_BITMAP_BYTES)?))
    }

    /// One with these bytes; those that it lacks are 0.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut bitmap = Self::new()?;
        copy(&mut bitmap.0, bytes);
        Ok(bitmap)
    }

    /// The other blocks.
    pub fn complement(&self) -> Result<Self> {
        let mut bitmap = Self::new()?;
        for (to, from) in bitmap.0.iter_mut().zip(self.0.iter()) {
            *to = !*from;
        }
        Ok(bitmap)
    }

    pub fn get(&self, bit: u64) -> bool {
        self.0.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    }

    /// Gives the bits this value. Returns how many had the other.
    pub fn set(&mut self, from: u64, length: u64, value: bool) -> u64 {
        let (mut bit, end) = (from, (from + length).min(GROUP_BLOCKS));
        let mut changed = 0;
        while bit < end {
            let Some(byte) = self.0.get_mut((bit / 8) as usize) else { break };
            let (mask, bits) =
                if bit % 8 == 0 && end - bit >= 8 { (0xff, 8) } else { (1u8 << (bit % 8), 1) };
            let after = if value { *byte | mask } else { *byte & !mask };
            changed += u64::from((*byte ^ after).count_ones());
            *byte = after;
            bit += bits;
        }
        changed
    }

    /// The first bit at or after `from` that has this value.
    pub fn next(&self, from: u64, value: bool) -> Option<u64> {
        let mut bit = from;
        while bit < GROUP_BLOCKS {
            let word = u64_at(&self.0, (bit / 64 * 8) as usize);
            let word = if value { word } else { !word } >> (bit % 64);
            if word != 0 {
                let found = bit + u64::from(word.trailing_zeros());
                return (found < GROUP_BLOCKS).then_some(found);
            }
            bit = (bit / 64 + 1) * 64;
        }
        None
    }

    pub fn count(&self) -> u64 {
        self.0.chunks_exact(8).map(|word| u64::from(u64_at(word, 0).count_ones())).sum()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first run of `wanted` set bits at or after `from`, else the longest of all.
    pub fn longest_run(&self, from: u64, wanted: u64) -> Option<(u64, u64)> {
        let mut best: Option<(u64, u64)> = None;
        for origin in [from, 0] {
            let mut bit = origin;
            while let Some(start) = self.next(bit, true) {
                let limit = start.saturating_add(wanted);
                let end = self.next(start, false).unwrap_or(GROUP_BLOCKS);
                if end >= limit {
                    return Some((start, wanted));
                }
                if best.is_none_or(|(_, length)| end - start > length) {
                    best = Some((start, end - start));
                }
                bit = end;
            }
            if from == 0 {
                break;
            }
        }
        best
    }
}
