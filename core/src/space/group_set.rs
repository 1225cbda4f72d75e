// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A set of groups of blocks, by their numbers, that is walked in order.

use super::Bitmap;
use crate::error::Result;
use crate::layout::GROUP_BLOCKS;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// Numbers that one part of a set covers: the bits of a [`Bitmap`].
const PART_NUMBERS: u64 = GROUP_BLOCKS;

/// A set of numbers of groups. It takes a bit for each number of the parts that it ever had any of:
/// 64 KiB for all groups of 16 TiB.
pub(super) struct GroupSet {
    parts: Vec<Option<Part>>,
    count: u64,
}

struct Part {
    bits: Bitmap,
    count: u64,
}

impl GroupSet {
    pub const fn new() -> Self {
        Self { parts: Vec::new(), count: 0 }
    }

    /// How many numbers it has.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Makes room for `number`, so that inserting it cannot fail.
    pub fn try_reserve(&mut self, number: u64) -> Result<()> {
        let at = (number / PART_NUMBERS) as usize;
        while self.parts.len() <= at {
            self.parts.try_push(None)?;
        }
        if let Some(part @ None) = self.parts.get_mut(at) {
            *part = Some(Part { bits: Bitmap::new()?, count: 0 });
        }
        Ok(())
    }

    fn part(&self, number: u64) -> Option<&Part> {
        self.parts.get((number / PART_NUMBERS) as usize)?.as_ref()
    }

    pub fn contains(&self, number: u64) -> bool {
        self.part(number).is_some_and(|part| part.bits.get(number % PART_NUMBERS))
    }

    /// Puts `number`, for which there is room, in or out.
    pub fn set(&mut self, number: u64, value: bool) {
        let part = self.parts.get_mut((number / PART_NUMBERS) as usize);
        let Some(part) = part.and_then(Option::as_mut) else { return };
        let changed = part.bits.set(number % PART_NUMBERS, 1, value);
        if value {
            part.count += changed;
            self.count += changed;
        } else {
            part.count -= changed;
            self.count -= changed;
        }
    }

    /// The first number of `from..to` that is in the set, or, when `value` is false, that is not.
    pub fn next(&self, from: u64, to: u64, value: bool) -> Option<u64> {
        let mut number = from;
        while number < to {
            let start = number - number % PART_NUMBERS;
            match self.part(number) {
                None if !value => return Some(number),
                Some(part) if part.count != if value { 0 } else { PART_NUMBERS } => {
                    if let Some(bit) = part.bits.next(number % PART_NUMBERS, value) {
                        return Some(start + bit).filter(|found| *found < to);
                    }
                }
                _ => {}
            }
            number = start + PART_NUMBERS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree_tests::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn a_set_of_groups_agrees_with_a_model() {
        let (mut set, mut model) = (GroupSet::new(), BTreeSet::new());
        let mut rng = Rng(77);
        let limit = 5 * PART_NUMBERS;
        for step in 0..40_000 {
            // Some parts are never touched, and one is filled.
            let number = match step {
                0..8192 => PART_NUMBERS + step,
                _ => rng.below(2) * 3 * PART_NUMBERS + rng.below(3000),
            };
            let value = step < 8192 || rng.below(3) > 0;
            if value {
                set.try_reserve(number).unwrap();
                model.insert(number);
            } else {
                model.remove(&number);
            }
            set.set(number, value);
            assert_eq!(set.contains(number), value);
            assert_eq!(set.len(), model.len() as u64);
            if step % 16 == 0 {
                let from = rng.below(limit);
                let to = from + rng.below(limit - from + 1);
                assert_eq!(set.next(from, to, true), model.range(from..to).next().copied());
                let missing = (from..to).find(|number| !model.contains(number));
                assert_eq!(set.next(from, to, false), missing);
            }
        }
    }
}
