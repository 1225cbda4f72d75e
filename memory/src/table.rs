// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A hash table from `u64` to values: open addressing, linear probing, backward-shift deletion.
//!
//! Keys are block addresses, object numbers and the like. They are mixed with a fixed
//! multiplication, so a table must not be keyed by numbers that a stranger chooses freely.

use crate::{OutOfMemory, TryVec};
use alloc::vec::Vec;

/// A map from `u64` keys to `V`. It holds no memory while it is empty and new.
pub struct Table<V> {
    /// A power of two of slots, at most three quarters of them taken; or none.
    slots: Vec<Option<(u64, V)>>,
    length: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Table<V> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), length: 0 }
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn home(&self, key: u64) -> usize {
        let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed >> 32) as usize) & self.slots.len().wrapping_sub(1)
    }

    /// The slot that holds `key`.
    fn find(&self, key: u64) -> Option<usize> {
        if self.length == 0 {
            return None;
        }
        let mut at = self.home(key);
        loop {
            match self.slots.get(at) {
                Some(Some((found, _))) if *found == key => return Some(at),
                Some(Some(_)) => at = (at + 1) & self.slots.len().wrapping_sub(1),
                _ => return None,
            }
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: u64) -> Option<&V> {
        self.slots.get(self.find(key)?)?.as_ref().map(|(_, value)| value)
    }

    /// The value under `key`, to change.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let at = self.find(key)?;
        self.slots.get_mut(at)?.as_mut().map(|(_, value)| value)
    }

    /// Whether `key` is held.
    pub fn contains(&self, key: u64) -> bool {
        self.find(key).is_some()
    }

    /// Makes room so that the next `additional` inserts of new keys cannot fail.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), OutOfMemory> {
        let wanted = self.length.checked_add(additional).ok_or(OutOfMemory)?;
        if wanted <= self.slots.len() / 4 * 3 {
            return Ok(());
        }
        let capacity = wanted
            .checked_mul(2)
            .and_then(usize::checked_next_power_of_two)
            .ok_or(OutOfMemory)?
            .max(8);
        let mut slots = Vec::new();
        slots.try_reserve_exact(capacity).map_err(|_| OutOfMemory)?;
        for _ in 0..capacity {
            slots.try_push(None)?;
        }
        let old = core::mem::replace(&mut self.slots, slots);
        for (key, value) in old.into_iter().flatten() {
            self.place(key, value);
        }
        Ok(())
    }

    /// Puts a key that is not held into the first free slot of its run.
    fn place(&mut self, key: u64, value: V) {
        let mut at = self.home(key);
        while let Some(Some(_)) = self.slots.get(at) {
            at = (at + 1) & self.slots.len().wrapping_sub(1);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = Some((key, value));
        }
    }

    /// Sets the value under `key` and returns the one it replaces.
    pub fn try_insert(&mut self, key: u64, value: V) -> Result<Option<V>, OutOfMemory> {
        if let Some(old) = self.get_mut(key) {
            return Ok(Some(core::mem::replace(old, value)));
        }
        self.try_reserve(1)?;
        self.place(key, value);
        self.length += 1;
        Ok(None)
    }

    /// Takes `key` and its value out.
    pub fn remove(&mut self, key: u64) -> Option<V> {
        let mut hole = self.find(key)?;
        let (_, value) = self.slots.get_mut(hole)?.take()?;
        self.length -= 1;
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hole;
        // Moves back every later entry of the run whose home does not lie behind the hole.
        loop {
            at = (at + 1) & mask;
            let Some(Some((later, _))) = self.slots.get(at) else { break };
            let home = self.home(*later);
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(hole) & mask) {
                let moved = self.slots.get_mut(at).and_then(Option::take);
                if let Some(slot) = self.slots.get_mut(hole) {
                    *slot = moved;
                }
                hole = at;
            }
        }
        Some(value)
    }

    /// Every key with its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.slots.iter().flatten().map(|(key, value)| (*key, value))
    }

    /// Every key with its value to change, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut V)> {
        self.slots.iter_mut().flatten().map(|(key, value)| (*key, value))
    }

    /// Drops every entry and keeps the memory.
    pub fn clear(&mut self) {
        for slot in &mut self.slots {
            *slot = None;
        }
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn it_agrees_with_a_hash_map_over_random_operations() {
        let (mut table, mut model) = (Table::new(), HashMap::new());
        let mut state = 42u64;
        for step in 0..200_000u64 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Few distinct keys, some of them close together, so that runs form and break.
            let key = (state >> 33) % 700;
            match (state >> 20) % 3 {
                0 => assert_eq!(table.remove(key), model.remove(&key)),
                1 => assert_eq!(table.try_insert(key, step).unwrap(), model.insert(key, step)),
                _ => assert_eq!(table.get(key), model.get(&key)),
            }
            assert_eq!(table.len(), model.len());
        }
        let mut left: std::vec::Vec<_> = table.iter().map(|(k, v)| (k, *v)).collect();
        left.sort_unstable();
        let mut expected: std::vec::Vec<_> = model.into_iter().collect();
        expected.sort_unstable();
        assert_eq!(left, expected);
        table.clear();
        assert!(table.is_empty() && table.get(1).is_none());
    }
}
