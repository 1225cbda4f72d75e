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

    /// The first bit of the run of set bits that ends before `end`; `end` if there is none.
    fn run_start(&self, end: u64) -> u64 {
        let mut start = end;
        while start > 0 {
            let (word, below) = ((start - 1) / 64, (start - 1) % 64 + 1);
            let word = u64_at(&self.0, (word * 8) as usize) << (64 - below);
            let set = u64::from(word.leading_ones()).min(below);
            start -= set;
            if set < below {
                break;
            }
        }
        start
    }

    /// How long the run of set bits is that `from..end`, which are set, belong to.
    pub fn run_around(&self, from: u64, end: u64) -> u64 {
        self.next(end, false).unwrap_or(GROUP_BLOCKS) - self.run_start(from)
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
        // What is before `from` is looked at last, with the run that goes across.
        for (origin, last) in [(from, GROUP_BLOCKS), (0, from)] {
            let mut bit = origin;
            while let Some(start) = self.next(bit, true).filter(|start| *start < last) {
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
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree_tests::Rng;
    use alloc::vec;
    use alloc::vec::Vec;

    /// The runs of set bits.
    fn runs(bits: &[bool]) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for at in (0..bits.len() as u64).filter(|at| bits[*at as usize]) {
            match runs.last_mut() {
                Some((start, length)) if *start + *length == at => *length += 1,
                _ => runs.push((at, 1)),
            }
        }
        runs
    }

    #[test]
    fn runs_are_those_of_a_model() {
        let mut random = Rng(78);
        for _ in 0..300 {
            let (mut bitmap, mut model) = (Bitmap::new().unwrap(), vec![false; 8192]);
            let most = 1 << random.below(12);
            for _ in 0..random.below(400) {
                let (from, length) = (random.below(8192), 1 + random.below(most));
                let (value, end) = (random.below(10) < 7, (from + length).min(GROUP_BLOCKS));
                bitmap.set(from, length, value);
                model[from as usize..end as usize].fill(value);
                if value {
                    let around = runs(&model).into_iter().find(|(s, l)| s + l > from).unwrap().1;
                    assert_eq!(bitmap.run_around(from, end), around);
                }
            }
            let (from, wanted) = (random.below(8192), 1 + random.below(2 * most));
            let runs = runs(&model);
            let found = bitmap.longest_run(from, wanted);
            let longest = runs.iter().map(|(_, length)| *length).max();
            assert_eq!(found.map(|(_, length)| length), longest.map(|length| length.min(wanted)));
            let Some((start, length)) = found else { continue };
            assert!(model[start as usize..(start + length) as usize].iter().all(|bit| *bit));
            // The first one from there on, if any there is long enough.
            let ahead = runs.iter().map(|(s, l)| (*s.max(&from), s + l));
            let mut enough = ahead.filter(|(s, end)| end.saturating_sub(*s) >= wanted);
            assert!(enough.next().is_none_or(|(first, _)| first == start));
        }
    }
}
