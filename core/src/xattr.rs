// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Extended attributes: small values in the tree, large ones in extents of their own.
//!
//! Names are whole, with their namespace (`user.colour`); which namespaces a caller may use is for
//! the host to say.

use crate::bytes::owned;
use crate::directory::NewAttribute;
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::{Inode, new_object};
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::names::{self, Place};
use crate::stream::{Verify, read_held};
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use zerocopy::{FromBytes, IntoBytes};

/// What setting an attribute does when it is, or is not, there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Makes or replaces it.
    Set,
    /// `Exists` if it is there.
    Create,
    /// `NoAttribute` if it is not there.
    Replace,
}

/// An attribute's item, taken apart.
pub(crate) struct Attribute<'a> {
    object: u64,
    length: usize,
    name: &'a [u8],
    inline: &'a [u8],
}

impl Attribute<'_> {
    /// The value, for who has the tree in hand.
    pub(crate) fn value(&self, tree: &Tree) -> Result<Vec<u8>> {
        if self.object == 0 {
            return owned(self.inline);
        }
        let mut value = Vec::new();
        value.try_resize(self.length, 0)?;
        read_held(tree, self.object, 0, &mut value, Verify::Blocks)?;
        Ok(value)
    }
}

pub(crate) fn decode(number: u64, item: &[u8]) -> Result<Attribute<'_>> {
    let bad = corrupt(number, "attribute with an impossible item");
    let (head, rest) = AttributeLayout::ref_from_prefix(item).map_err(|_| bad)?;
    let (name, inline) = rest.split_at_checked(usize::from(head.name_length)).ok_or(bad)?;
    let (object, length) = (head.object.get(), head.value_length.get() as usize);
    let inline_length = if object == 0 { length } else { 0 };
    if name.is_empty() || length > ATTRIBUTE_BYTES_MAX || inline.len() != inline_length {
        return Err(bad);
    }
    Ok(Attribute { object, length, name, inline })
}

pub(crate) fn place(tree: &Tree, number: u64, name: &[u8]) -> Result<Place> {
    let base = names::cookie_base(tree, name);
    names::find(tree, number, Kind::Attribute, base, |item| {
        decode(number, item).is_ok_and(|attribute| attribute.name == name)
    })
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.contains(&0) {
        return Err(Error::Invalid("the name of an attribute is not empty and holds no NUL"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Error::Range);
    }
    Ok(())
}

/// What held the value before a change.
struct Before {
    key: Key,
    present: bool,
    /// The object that holds the old value, or 0.
    object: u64,
}

fn before(tree: &Tree, number: u64, name: &[u8], mode: XattrMode) -> Result<Before> {
    match place(tree, number, name)? {
        Place::Found(_) if mode == XattrMode::Create => Err(Error::Exists),
        Place::Free(_) if mode == XattrMode::Replace => Err(Error::NoAttribute),
        Place::Free(key) => Ok(Before { key, present: false, object: 0 }),
        Place::Found(key) => {
            let item = tree.get(key)?.ok_or(Error::NoAttribute)?;
            Ok(Before { key, present: true, object: decode(number, &item)?.object })
        }
    }
}

/// Gives a new inode its first attributes, which are known to fit.
pub(crate) fn add_attributes(
    tree: &mut Tree,
    number: u64,
    attributes: &[NewAttribute<'_>],
) -> Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    for NewAttribute { name, value } in attributes {
        let before = before(tree, number, name, XattrMode::Create)?;
        put_item(tree, before.key, name, value.len(), 0, value)?;
    }
    let mut inode = Inode::load(tree, number)?;
    inode.flags |= INODE_ATTRIBUTES;
    inode.store(tree, number)
}

/// Writes an attribute's item: the value itself, or the object that holds it.
fn put_item(
    tree: &mut Tree,
    key: Key,
    name: &[u8],
    length: usize,
    object: u64,
    inline: &[u8],
) -> Result<()> {
    let head = AttributeLayout {
        object: object.into(),
        value_length: (length as u32).into(),
        name_length: name.len() as u8,
        reserved: [0; 3],
    };
    tree.put(key, &[head.as_bytes(), name, inline])
}

impl FileSystem {
    /// The longest value of an attribute that lies in the tree itself.
    pub fn attribute_inline_bytes_max(&self) -> usize {
        self.reader().block_bytes() / 4
    }

    pub(crate) fn check_new_attributes(&self, attributes: &[NewAttribute<'_>]) -> Result<()> {
        if attributes.is_empty() {
            return Ok(());
        }
        let most = self.attribute_inline_bytes_max();
        for NewAttribute { name, value } in attributes {
            check_name(name)?;
            if value.len() > most {
                return Err(Error::TooBig("attribute of a new inode"));
            }
        }
        Ok(())
    }

    /// The value of an attribute.
    pub fn get_xattr(&self, number: u64, name: &[u8]) -> Result<Vec<u8>> {
        check_name(name)?;
        loop {
            let (key, object, length) = {
                let tree = self.reader();
                Inode::load(&tree, number)?;
                let Place::Found(key) = place(&tree, number, name)? else {
                    return Err(Error::NoAttribute);
                };
                let item = tree.get(key)?.ok_or(Error::NoAttribute)?;
                let attribute = decode(number, &item)?;
                if attribute.object == 0 {
                    return owned(attribute.inline);
                }
                (key, attribute.object, attribute.length)
            };
            let mut value = Vec::new();
            value.try_resize(length, 0)?;
            let read = self.stream_read(object, 0, &mut value);
            // The value may have been replaced, and its blocks given to others, meanwhile.
            let tree = self.reader();
            let same = match tree.get(key)? {
                Some(item) => decode(number, &item)?.object == object,
                None => false,
            };
            if same {
                read?;
                return Ok(value);
            }
        }
    }

    /// Sets an attribute: a name of 1 to 255 bytes, a value of at most 65,536.
    pub fn set_xattr(&self, number: u64, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        check_name(name)?;
        if value.len() > ATTRIBUTE_BYTES_MAX {
            return Err(Error::TooBig("value of an attribute"));
        }
        let now = self.host.clock.now();
        // Refused before any block is written for it.
        before(&self.reader(), number, name, mode)?;
        let inline_max = self.attribute_inline_bytes_max();
        let change = |tree: &mut Tree, object: u64| {
            let mut inode = Inode::load(tree, number)?;
            let before = before(tree, number, name, mode)?;
            let inline = if object == 0 { value } else { &[] };
            put_item(tree, before.key, name, value.len(), object, inline)?;
            if before.object != 0 {
                // Taken apart after this operation; the note keeps a crash from leaking it.
                crate::orphan::add(tree, before.object)?;
            }
            inode.flags |= INODE_ATTRIBUTES;
            inode.touch(now);
            inode.store(tree, number)?;
            Ok(before.object)
        };
        let old = if value.len() <= inline_max {
            self.operation_in_place(8, |tree| change(tree, 0))?
        } else {
            let object = self.operation(0, false, new_object)?;
            self.write_stream_with(object, 0, value, 8, |tree| change(tree, object))?
        };
        self.free_old_value(old);
        Ok(())
    }

    /// Removes an attribute.
    pub fn remove_xattr(&self, number: u64, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let now = self.host.clock.now();
        let old = self.operation(6, true, |tree| {
            let mut inode = Inode::load(tree, number)?;
            let before = before(tree, number, name, XattrMode::Replace)?;
            let object = remove_item(tree, before)?;
            if crate::orphan::first(tree, number, Kind::Attribute)?.is_none() {
                inode.flags &= !INODE_ATTRIBUTES;
            }
            inode.touch(now);
            inode.store(tree, number)?;
            Ok(object)
        })?;
        self.free_old_value(old);
        Ok(())
    }

    /// Calls `each` with the name of every attribute, until it returns false. It runs under the
    /// tree's lock and must not call the file system.
    pub fn list_xattrs(&self, number: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<()> {
        let tree = self.reader();
        if Inode::load(&tree, number)?.flags & INODE_ATTRIBUTES == 0 {
            return Ok(());
        }
        let from = Key::new(number, Kind::Attribute, 0);
        let to = Key::new(number, Kind::Attribute, OFFSET_MAX);
        tree.scan(from, to, |_, item| Ok(each(decode(number, item)?.name)))
    }

    /// Removes every attribute of an inode without names.
    pub(crate) fn remove_all_xattrs(&self, number: u64) -> Result<()> {
        loop {
            let old = self.operation(4, true, |tree| {
                let Some(key) = crate::orphan::first(tree, number, Kind::Attribute)? else {
                    return Ok(None);
                };
                let item = tree.get(key)?.ok_or(Error::NoAttribute)?;
                let object = decode(number, &item)?.object;
                drop(item);
                remove_item(tree, Before { key, present: true, object }).map(Some)
            })?;
            match old {
                Some(0) => {}
                Some(object) => self.free_stream(object)?,
                None => return Ok(()),
            }
        }
    }

    /// Frees an old value after its change is done, which stands even if that fails.
    fn free_old_value(&self, object: u64) {
        if object != 0 && self.free_stream(object).is_err() {
            self.reap_later();
        }
    }
}

/// Removes an attribute's item, and notes the object of its value for freeing.
fn remove_item(tree: &mut Tree, before: Before) -> Result<u64> {
    if !before.present {
        return Err(Error::NoAttribute);
    }
    tree.remove(before.key)?;
    if before.object != 0 {
        crate::orphan::add(tree, before.object)?;
    }
    Ok(before.object)
}
