// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Items that make no sense are removed; extents that name blocks they must not, too.

use crate::bytes::copy;
use crate::check::{Code, Place};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::{EXTENT_SHARED, ExtentLayout};
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use zerocopy::{FromBytes, IntoBytes};

/// Items that one operation removes.
const STEP_ITEMS: usize = 64;

/// The key of an item that a finding was made for.
pub(crate) fn key_of(place: &Place) -> Key {
    Key { object: place.object, kind_offset: u64::from(place.kind) << 56 | place.offset }
}

pub(crate) fn fix(fs: &FileSystem, code: Code, place: &Place) -> Option<Result<()>> {
    Some(match code {
        Code::ItemUnknown
        | Code::ItemMisplaced
        | Code::ItemMalformed
        | Code::BlockOutside
        | Code::ExtentOverlap
        | Code::AttributeMalformed => remove(fs, key_of(place)),
        Code::SharedFlag => set_shared(fs, key_of(place)),
        Code::BlockTwice => remove_extents_over(fs, place.block),
        Code::StreamUnowned => fs.operation(1, true, |tree| crate::orphan::add(tree, place.object)),
        _ => return None,
    })
}

/// Removes one item.
pub(crate) fn remove(fs: &FileSystem, key: Key) -> Result<()> {
    fs.operation(2, true, |tree| tree.remove(key))
}

/// Removes every item from `from` to `to` that `unwanted` picks.
pub(crate) fn remove_range(
    fs: &FileSystem,
    from: Key,
    to: Key,
    mut unwanted: impl FnMut(Key, &[u8]) -> bool,
) -> Result<()> {
    let mut from = from;
    loop {
        let mut keys: Vec<Key> = Vec::new();
        fs.reader().scan(from, to, |key, item| {
            if unwanted(key, item) {
                keys.try_push(key)?;
            }
            Ok(keys.len() < STEP_ITEMS)
        })?;
        let Some(last) = keys.last().copied() else { return Ok(()) };
        fs.operation(STEP_ITEMS as u64, true, |tree| {
            for key in &keys {
                tree.remove(*key)?;
            }
            Ok(())
        })?;
        from = last;
    }
}

/// Removes all items of one kind of an object.
pub(crate) fn remove_kind(fs: &FileSystem, object: u64, kind: Kind) -> Result<()> {
    let (from, to) = (Key::new(object, kind, 0), Key::new(object, kind, OFFSET_MAX));
    remove_range(fs, from, to, |_, _| true)
}

fn set_shared(fs: &FileSystem, key: Key) -> Result<()> {
    fs.operation(1, true, |tree| {
        let item = tree.get_mut(key)?;
        let (head, _) = ExtentLayout::mut_from_prefix(item).map_err(|_| Error::NotFound)?;
        head.flags = (head.flags.get() | EXTENT_SHARED).into();
        Ok(())
    })
}

/// Removes the extents that name a block which is a tree node, too.
fn remove_extents_over(fs: &FileSystem, block: u64) -> Result<()> {
    remove_range(fs, Key::MIN, Key::MAX, |key, item| {
        key.kind_number() == Kind::Extent as u8
            && ExtentLayout::ref_from_prefix(item).is_ok_and(|(head, _)| {
                let (start, length) = (head.block.get(), u64::from(head.length.get()));
                start <= block && block - start < length
            })
    })
}

/// Puts `parts` in the place of the item under `key`, under `new`.
pub(crate) fn rename(fs: &FileSystem, key: Key, new: Key, bytes: &[u8]) -> Result<()> {
    fs.operation(4, true, |tree| {
        tree.remove(key)?;
        let item = tree.insert(new, bytes.len())?;
        copy(item, bytes.as_bytes());
        Ok(())
    })
}
