// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Inodes: what they say about their items, and inodes made anew from what is left.

use super::items::{key_of, remove, remove_kind, remove_range};
use crate::check::{Code, Place};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::inode::*;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::tree::Tree;
use crate::{directory, orphan};

pub(crate) fn fix(fs: &FileSystem, code: Code, place: &Place) -> Option<Result<()>> {
    let (object, expected) = (place.object, place.expected);
    let flag = |flag: u64| {
        change(fs, object, |inode| {
            inode.flags = if expected > 0 { inode.flags | flag } else { inode.flags & !flag };
        })
    };
    Some(match code {
        Code::BlocksCount => change(fs, object, |inode| inode.blocks = expected),
        Code::LinkCount => {
            let links = expected.min(u64::from(LINKS_MAX)) as u32;
            change(fs, object, |inode| inode.links = links)
        }
        Code::DirectorySize | Code::InlineSize => change(fs, object, |inode| inode.size = expected),
        Code::InlineFlag => flag(INODE_INLINE),
        Code::AttributesFlag => flag(INODE_ATTRIBUTES),
        Code::VectorsFlag => flag(INODE_VECTORS),
        Code::TargetSize => fix_target(fs, object, expected),
        Code::InlineAndExtents => keep_one_form(fs, object),
        Code::WrongContent => remove_wrong_content(fs, object),
        Code::ExtentBeyondEnd => cut_extents(fs, object, expected),
        Code::InodeMalformed | Code::ItemStray => rebuild(fs, object),
        Code::RootMissing => make_root(fs),
        Code::OrphanMissing => fs.operation(1, true, |tree| orphan::add(tree, object)),
        Code::OrphanWrong if place.kind == Kind::Orphan as u8 => remove(fs, key_of(place)),
        Code::OrphanWrong => remove(fs, Key::new(0, Kind::Orphan, object)),
        _ => return None,
    })
}

fn change(fs: &FileSystem, number: u64, change: impl FnOnce(&mut Inode)) -> Result<()> {
    fs.operation(1, true, |tree| {
        let mut inode = load(tree, number)?;
        change(&mut inode);
        inode.store(tree, number)
    })
}

/// Reads an inode; `NotFound` when it is gone with another repair.
pub(crate) fn load(tree: &Tree, number: u64) -> Result<Inode> {
    Inode::load(tree, number).map_err(|error| match error {
        Error::Stale => Error::NotFound,
        error => error,
    })
}

/// A symbolic link whose size is wrong gets that of its target; one without a target becomes an
/// empty file.
fn fix_target(fs: &FileSystem, object: u64, bytes: u64) -> Result<()> {
    if (1..=TARGET_BYTES_MAX as u64).contains(&bytes) {
        return change(fs, object, |inode| inode.size = bytes);
    }
    remove_kind(fs, object, Kind::Inline)?;
    change(fs, object, |inode| {
        inode.mode = MODE_FILE | 0o600;
        inode.size = 0;
        inode.flags &= !INODE_INLINE;
    })
}

/// Of bytes in the tree and extents, keeps what the inode says it has, which is what reads gave.
fn keep_one_form(fs: &FileSystem, object: u64) -> Result<()> {
    let inode = load(&fs.reader(), object)?;
    let kind = if inode.flags & INODE_INLINE != 0 { Kind::Extent } else { Kind::Inline };
    remove_kind(fs, object, kind)
}

fn remove_wrong_content(fs: &FileSystem, object: u64) -> Result<()> {
    let inode = load(&fs.reader(), object)?;
    let symlink = inode.file_type() == MODE_SYMLINK;
    if !inode.is_directory() {
        remove_kind(fs, object, Kind::Entry)?;
    }
    if !inode.is_file() {
        remove_kind(fs, object, Kind::Extent)?;
        if !symlink {
            remove_kind(fs, object, Kind::Inline)?;
        }
    } else {
        let from = Key::new(object, Kind::Inline, 1);
        remove_range(fs, from, Key::new(object, Kind::Inline, OFFSET_MAX), |_, _| true)?;
    }
    Ok(())
}

/// Removes what lies at logical block `end` and after it.
fn cut_extents(fs: &FileSystem, object: u64, end: u64) -> Result<()> {
    loop {
        let result = fs.free_object_extents(object, end, 64);
        match result {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error @ (Error::Device(_) | Error::OutOfMemory | Error::Poisoned)) => {
                return Err(error);
            }
            // The extents cannot be freed as they should: their items are removed, and the next
            // round sees to the blocks.
            Err(_) => {
                let (from, to) = (
                    Key::new(object, Kind::Extent, end),
                    Key::new(object, Kind::Extent, OFFSET_MAX),
                );
                return remove_range(fs, from, to, |_, _| true);
            }
        }
    }
}

/// What is left of an object.
struct Remains {
    file_type: u32,
    size: u64,
    inline: bool,
    collection: bool,
}

/// Looks at an object's items. `None` for its type when nothing is worth an inode.
fn remains(tree: &Tree, object: u64) -> Result<Option<Remains>> {
    let log2 = tree.state.block_log2;
    let (mut entries, mut inline_items, mut inline_bytes, mut end) = (false, 0u64, 0u64, 0u64);
    let (mut collection, mut links) = (false, 0u64);
    let mut first_link = None;
    let to = Key { object, kind_offset: u64::MAX };
    tree.scan(Key { object, kind_offset: 0 }, to, |key, item| {
        match Kind::from_number(key.kind_number()) {
            Some(Kind::Entry) => entries = true,
            Some(Kind::Inline) => {
                inline_items += 1;
                inline_bytes = inline_bytes.saturating_add(item.len() as u64);
            }
            Some(Kind::Extent) => {
                if let Ok((extent, _)) = crate::extent::Extent::decode(tree, key, item)
                    && extent.is_written()
                {
                    end = extent.end();
                }
            }
            Some(Kind::Collection) => collection = true,
            Some(Kind::Link) => {
                links += 1;
                if let Ok(link) = <LinkLayout as zerocopy::FromBytes>::ref_from_bytes(item) {
                    first_link.get_or_insert(*link);
                }
            }
            _ => {}
        }
        Ok(true)
    })?;
    let mut named = None;
    if let Some(link) = first_link {
        let key = Key::new(link.parent.get(), Kind::Entry, link.cookie.get());
        if let Some(item) = tree.get(key)?
            && let Ok((target, _)) = directory::decode_entry(key, &item)
        {
            named = (target.inode == object).then_some(u32::from(target.file_type) << 12);
        }
    }
    let inline = inline_items > 0;
    let file_type = match named {
        Some(MODE_SYMLINK) if inline && end == 0 => MODE_SYMLINK,
        Some(MODE_DIRECTORY) if !inline && end == 0 => MODE_DIRECTORY,
        _ if entries && !inline && end == 0 => MODE_DIRECTORY,
        _ if inline_items > 1 && end == 0 => MODE_SYMLINK,
        _ if inline || end > 0 || named == Some(MODE_FILE) => MODE_FILE,
        _ => {
            return Ok((collection || object == ROOT_INODE).then_some(Remains {
                file_type: 0,
                size: 0,
                inline: false,
                collection,
            }));
        }
    };
    let size = if inline && end == 0 { inline_bytes } else { (end << log2).min(FILE_BYTES_MAX) };
    Ok(Some(Remains { file_type, size, inline: inline && end == 0, collection }))
}

/// Makes an inode anew whose own item is lost or makes no sense, as far as its items tell what it
/// was: owner root, permissions for the owner. When they tell nothing they are removed.
fn rebuild(fs: &FileSystem, object: u64) -> Result<()> {
    let generation = Inode::load(&fs.reader(), object).map(|inode| inode.generation);
    let (sound, latest) = (generation.is_ok(), fs.reader().generation());
    if generation.is_ok_and(|generation| generation > latest) {
        // Of a transaction to come: the only finding for an inode that can be read.
        change(fs, object, |inode| inode.generation = latest)?;
        if object < FIRST_OBJECT {
            return Ok(());
        }
    }
    if object < FIRST_OBJECT {
        return make_root(fs);
    }
    let remains = remains(&fs.reader(), object)?;
    let collection = remains.as_ref().is_some_and(|remains| remains.collection);
    let (from, to) = (Key { object, kind_offset: 0 }, Key { object, kind_offset: u64::MAX });
    if sound || collection {
        // An inode with a collection's items, or the other way round.
        let keep_inode = sound;
        return remove_range(fs, from, to, |key, _| {
            (key.kind_number() < Kind::Collection as u8) != keep_inode
        });
    }
    let Some(remains) = remains else {
        let present = fs.reader().get(Key::new(object, Kind::Inode, 0))?.is_some();
        remove_range(fs, from, to, |_, _| true)?;
        return if present { count_inodes(fs, -1) } else { Ok(()) };
    };
    remove_range(fs, Key::new(object, Kind::Collection, 0), to, |_, _| true)?;
    let now = fs.host.clock.now();
    fs.operation(2, true, |tree| {
        let directory = remains.file_type == MODE_DIRECTORY;
        let mode = remains.file_type | if directory { 0o700 } else { 0o600 };
        let mut inode = Inode::new(mode, (0, 0), tree.generation(), now);
        inode.size = if directory { 0 } else { remains.size };
        inode.flags = if remains.inline { INODE_INLINE } else { 0 };
        if tree.get(Key::new(object, Kind::Inode, 0))?.is_none() {
            tree.state.inodes = tree.state.inodes.saturating_add(1);
        }
        // Counts and other flags are for the next round.
        inode.store(tree, object)
    })
}

fn count_inodes(fs: &FileSystem, growth: i64) -> Result<()> {
    fs.operation(0, true, |tree| {
        tree.state.inodes = tree.state.inodes.saturating_add_signed(growth);
        Ok(())
    })
}

/// Makes the root directory, or makes what stands in its place a directory.
fn make_root(fs: &FileSystem) -> Result<()> {
    let present = Inode::load(&fs.reader(), ROOT_INODE);
    if present.is_ok_and(|inode| inode.is_directory()) {
        return Err(Error::NotFound);
    }
    for kind in [Kind::Inline, Kind::Extent, Kind::Vector, Kind::Collection, Kind::Row] {
        remove_kind(fs, ROOT_INODE, kind)?;
    }
    let now = fs.host.clock.now();
    fs.operation(2, true, |tree| {
        if tree.get(Key::new(ROOT_INODE, Kind::Inode, 0))?.is_none() {
            return crate::inode::make_root(tree, (0, 0), 0o755, now);
        }
        let mode = MODE_DIRECTORY | 0o755;
        Inode::new(mode, (0, 0), tree.generation(), now).store(tree, ROOT_INODE)
    })
}
