// SPDX-License-Identifier: GPL-2.0-only
//! A run through every container of `vexfs-memory`, which a module may make when it is loaded:
//! they hold up, or loading fails with a negative errno. It also puts each of their functions
//! under the rules of `kernel/check`, whether or not the core calls it.

use vexfs_memory::{OutOfMemory, Shared, Table, TryVec, sort_by, try_box, zeroed_bytes};

const EIO: i32 = -5;
const ENOMEM: i32 = -12;

/// Runs the containers over `count` keys. Returns 0, `-ENOMEM`, or `-EIO` if one of them has lost
/// or disordered something.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_containers_check(count: u32) -> i32 {
    match keys_survive(u64::from(count)) {
        Ok(true) => 0,
        Ok(false) => EIO,
        Err(OutOfMemory) => ENOMEM,
    }
}

fn keys_survive(count: u64) -> Result<bool, OutOfMemory> {
    let mut keys = alloc::vec::Vec::new();
    let mut table = Table::new();
    table.try_reserve(8)?;
    for key in 0..count {
        // Odd multipliers permute the keys, so that sorting and probing have work.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        keys.try_push(mixed)?;
        table.try_insert(mixed, Shared::try_new(key)?)?;
    }
    let last =
        zeroed_bytes(8)?.first_chunk().map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes));
    keys.try_insert(0, last)?;
    keys.try_extend(&[last])?;
    keys.try_resize(keys.len() + 1, last)?;
    sort_by(&mut keys, |a, b| a < b);
    let sorted = keys.windows(2).all(|pair| pair.first() <= pair.last());
    let mut found = 0;
    for value in table.iter_mut().map(|(_, value)| value) {
        found += u64::from(**value < count && Shared::references(value) == 1);
    }
    let shared = match table.get(0) {
        Some(value) => {
            let clone = value.clone();
            core::ptr::eq(&raw const **value, &raw const *clone)
        }
        None => count == 0,
    };
    let every = table.iter().all(|(key, _)| table.contains(key));
    let replaced = match table.get_mut(0) {
        Some(value) => {
            *value = Shared::try_new(count)?;
            table.remove(0).is_some_and(|value| *value == count)
        }
        None => count == 0,
    };
    let left = table.len() as u64;
    table.clear();
    let boxed = try_box(left + u64::from(count > 0))?;
    Ok(sorted
        && shared
        && every
        && replaced
        && found == count
        && *boxed == count
        && table.is_empty()
        && table.len() == 0)
}
