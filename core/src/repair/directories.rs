// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Entries and links, and the directory that takes in what no entry names.

use super::inodes::load;
use super::items::{key_of, remove, remove_kind, rename};
use super::state::item;
use crate::check::{Code, Place};
use crate::directory::{self, NewInode, Target};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::inode::MODE_DIRECTORY;
use crate::key::{Key, Kind};
use crate::layout::{AttributeLayout, EntryLayout, NAME_BYTES_MAX, ROOT_INODE};
use crate::link;
use crate::names::{self, Place as NamePlace};
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// The directory, below the root, for inodes that no entry names.
const LOST_AND_FOUND: &[u8] = b"lost+found";

pub(crate) fn fix(fs: &FileSystem, code: Code, place: &Place) -> Option<Result<()>> {
    let key = key_of(place);
    Some(match code {
        Code::EntryDangling | Code::EntryExtra | Code::LinkDangling => remove(fs, key),
        Code::LinkMissing => add_link(fs, key, place.found),
        Code::EntryType => set_type(fs, key, place.expected as u8),
        Code::EntryCookie => fix_cookie(fs, key),
        Code::EntryName | Code::EntryTwice => rename_entry(fs, key),
        Code::DirectoryLoop => cut_loop(fs, place.object),
        Code::InodeUnreached => adopt(fs, place.object),
        _ => return None,
    })
}

fn add_link(fs: &FileSystem, entry: Key, target: u64) -> Result<()> {
    fs.operation(2, true, |tree| {
        let known = match tree.get(entry)? {
            Some(item) => directory::decode_entry(entry, &item)?.0.inode,
            None => return Err(Error::NotFound),
        };
        if known != target {
            return Err(Error::NotFound);
        }
        link::add(tree, target, entry.object, entry.offset())
    })
}

fn set_type(fs: &FileSystem, key: Key, file_type: u8) -> Result<()> {
    fs.operation(1, true, |tree| {
        let (head, _) =
            EntryLayout::mut_from_prefix(tree.get_mut(key)?).map_err(|_| Error::NotFound)?;
        head.file_type = file_type;
        Ok(())
    })
}

/// Moves an item to a key that follows from its name. A link or a collection's name is removed: the
/// next round sees that it is missing.
fn fix_cookie(fs: &FileSystem, key: Key) -> Result<()> {
    let bytes = item(fs, key)?;
    let (kind, name) = match Kind::from_number(key.kind_number()) {
        Some(Kind::Entry) => (Kind::Entry, bytes.get(size_of::<EntryLayout>()..).unwrap_or(&[])),
        Some(Kind::Attribute) => (Kind::Attribute, attribute_name(&bytes).unwrap_or(&[])),
        _ => return remove(fs, key),
    };
    let place = {
        let tree = fs.reader();
        let base = names::cookie_base(&tree, name);
        names::find(&tree, key.object, kind, base, |other| match kind {
            Kind::Entry => other.get(size_of::<EntryLayout>()..) == Some(name),
            _ => attribute_name(other) == Some(name),
        })?
    };
    match place {
        NamePlace::Free(new) => rename(fs, key, new, &bytes),
        // There is another of this name, which is the one that has been found so far.
        NamePlace::Found(_) if kind == Kind::Entry => rename_entry(fs, key),
        NamePlace::Found(_) => remove(fs, key),
    }
}

fn attribute_name(item: &[u8]) -> Option<&[u8]> {
    let (head, rest) = AttributeLayout::ref_from_prefix(item).ok()?;
    rest.get(..usize::from(head.name_length))
}

/// Gives an entry whose name is not allowed, or taken, another that is like it.
fn rename_entry(fs: &FileSystem, key: Key) -> Result<()> {
    let bytes = item(fs, key)?;
    let (_, old) = directory::decode_entry(key, &bytes)?;
    let mut name: Vec<u8> = Vec::new();
    for byte in old {
        name.try_push(if matches!(byte, 0 | b'/') { b'_' } else { *byte })?;
    }
    if &*name == b"." || &*name == b".." {
        name.fill(b'_');
    }
    name.truncate(NAME_BYTES_MAX - 5);
    let length = name.len();
    for attempt in 1..1000u32 {
        let new = match directory::place(&fs.reader(), key.object, &name)? {
            NamePlace::Free(new) if new.offset() != key.offset() => Some(new),
            _ => None,
        };
        if let Some(new) = new {
            let head = bytes.get(..size_of::<EntryLayout>()).unwrap_or(&[]);
            let mut renamed: Vec<u8> = Vec::new();
            renamed.try_extend(head)?;
            renamed.try_extend(&name)?;
            return rename(fs, key, new, &renamed);
        }
        name.truncate(length);
        name.try_push(b'~')?;
        push_number(&mut name, u64::from(attempt))?;
    }
    Err(Error::Exists)
}

fn push_number(name: &mut Vec<u8>, number: u64) -> Result<()> {
    let start = name.len();
    let mut rest = number;
    loop {
        name.try_push(b'0' + (rest % 10) as u8)?;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if let Some(digits) = name.get_mut(start..) {
        digits.reverse();
    }
    Ok(())
}

/// Removes the entry that closes a loop of directories; the next round takes the directory in.
fn cut_loop(fs: &FileSystem, object: u64) -> Result<()> {
    let entry = {
        let tree = fs.reader();
        let (parent, cookie) = link::first(&tree, object)?.ok_or(Error::NotFound)?;
        Key::new(parent, Kind::Entry, cookie)
    };
    remove(fs, entry)
}

/// Gives an inode that no entry names an entry in the directory for that, called after its number.
fn adopt(fs: &FileSystem, object: u64) -> Result<()> {
    let mode = load(&fs.reader(), object)?.mode;
    let lost = lost_and_found(fs)?;
    remove_kind(fs, object, Kind::Link)?;
    let mut name: Vec<u8> = Vec::new();
    name.try_push(b'#')?;
    push_number(&mut name, object)?;
    let target = Target { inode: object, file_type: (mode >> 12) as u8 };
    fs.operation(6, true, |tree| {
        directory::add_entry(tree, lost, &name, target)?;
        let mut holder = load(tree, lost)?;
        directory::count_entry(
            &mut holder,
            true,
            mode & crate::inode::MODE_TYPE == MODE_DIRECTORY,
        )?;
        holder.store(tree, lost)?;
        let mut inode = load(tree, object)?;
        if !inode.is_directory() {
            inode.links = 1;
        }
        inode.store(tree, object)
    })
}

fn lost_and_found(fs: &FileSystem) -> Result<u64> {
    match fs.lookup(ROOT_INODE, LOST_AND_FOUND) {
        Ok(number) if fs.inode(number).is_ok_and(|inode| inode.is_directory()) => Ok(number),
        // Something else has the name: its own name will do no harm beside it.
        Ok(_) => match fs.lookup(ROOT_INODE, b"lost+found.vexfs") {
            Ok(number) => Ok(number),
            Err(_) => make_directory(fs, b"lost+found.vexfs"),
        },
        Err(_) => make_directory(fs, LOST_AND_FOUND),
    }
}

fn make_directory(fs: &FileSystem, name: &[u8]) -> Result<u64> {
    let new = NewInode { mode: MODE_DIRECTORY | 0o700, owner: (0, 0), device: 0 };
    fs.create(ROOT_INODE, name, &new)
}
