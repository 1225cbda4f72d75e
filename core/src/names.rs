// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Items found by a name: directory entries, attributes, links and collection names.
//!
//! The offset of such an item's key is its *cookie*: 48 bits of a keyed hash of the name, and 8 bits
//! that tell names with the same hash apart. A cookie does not change while its item lives, so it
//! serves as a position for listing, and the key makes collisions a matter of luck, not of will.

use crate::error::{Error, Result, corrupt};
use crate::key::{Key, Kind};
use crate::layout::NAME_BYTES_MAX;
use crate::tree::Tree;
use core::hash::Hasher;
use siphasher::sip::SipHasher24;

/// Cookies of names are not below this; lower positions are for `.` and `..`.
pub(crate) const COOKIE_MIN: u64 = 256;

/// The first of the 256 cookies that a name may have.
pub(crate) fn cookie_base(tree: &Tree, name: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(&tree.state.hash_key);
    hasher.write(name);
    // Hash 0 is left to the positions below `COOKIE_MIN`.
    (hasher.finish() >> 16).max(1) << 8
}

/// Where an item is, or would be.
pub(crate) enum Place {
    Found(Key),
    Free(Key),
}

/// Looks for the item of this object and kind whose bytes `matches`, among those with the cookies of
/// `base`.
pub(crate) fn find(
    tree: &Tree,
    object: u64,
    kind: Kind,
    base: u64,
    mut matches: impl FnMut(&[u8]) -> bool,
) -> Result<Place> {
    let mut free = base;
    let mut found = None;
    let last = base | 0xff;
    tree.scan(Key::new(object, kind, base), Key::new(object, kind, last), |key, item| {
        if matches(item) {
            found = Some(key);
            return Ok(false);
        }
        if key.offset() == free {
            free += 1;
        }
        Ok(true)
    })?;
    match found {
        Some(key) => Ok(Place::Found(key)),
        None if free > last => Err(Error::NoSpace),
        None => Ok(Place::Free(Key::new(object, kind, free))),
    }
}

/// Checks a name that an entry of `object` has in the tree: one who takes it for what it says must not be led
/// elsewhere, nor be told half of it.
pub(crate) fn check_stored_name(object: u64, name: &[u8]) -> Result<()> {
    check_entry_name(name).map_err(|_| corrupt(object, "entry with an impossible name"))
}

/// Whether `name` may name an entry: 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`.
pub(crate) fn check_entry_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() {
        return Err(Error::NotFound);
    }
    if name == b"." || name == b".." {
        return Err(Error::Invalid("`.` and `..` cannot be made, removed or renamed"));
    }
    if name.iter().any(|byte| *byte == 0 || *byte == b'/') {
        return Err(Error::Invalid("a name holds neither `/` nor NUL"));
    }
    Ok(())
}
