// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! From an inode back to its names, and the targets of symbolic links.

use crate::bytes::owned;
use crate::collection_memory::go_on;
use crate::directory::decode_entry;
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::{Inode, MODE_SYMLINK};
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::names::{self, Place};
use crate::rights::{Caller, Reach};
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_index::Executor;
use vexfs_memory::TryVec;
use zerocopy::{FromBytes, IntoBytes};

/// Names of a path, at most.
pub const PATH_DEPTH_MAX: usize = 4096;
/// Names of an inode that are gone through before others may change the tree.
const NAMES_AT_ONCE: usize = 1024;
/// How many directories a walk from one to another passes at most, so that every walk ends soon, in a
/// damaged tree too. Directories may be deeper: none is moved into one, and below a scope what lies
/// deeper than this is not found, and what lies deeper than half of it need not be.
pub const DIRECTORY_DEPTH_MAX: usize = 1 << 16;

fn layout(parent: u64, cookie: u64) -> LinkLayout {
    LinkLayout { parent: parent.into(), cookie: cookie.into() }
}

fn place(tree: &Tree, inode: u64, parent: u64, cookie: u64) -> Result<Place> {
    let link = layout(parent, cookie);
    let base = names::cookie_base(tree, link.as_bytes());
    names::find(tree, inode, Kind::Link, base, |item| item == link.as_bytes())
}

/// Notes that the entry `cookie` of `parent` names `inode`.
pub(crate) fn add(tree: &mut Tree, inode: u64, parent: u64, cookie: u64) -> Result<()> {
    match place(tree, inode, parent, cookie)? {
        Place::Free(key) => tree.put(key, &[layout(parent, cookie).as_bytes()]),
        Place::Found(_) => Err(corrupt(inode, "link that was there before its entry")),
    }
}

/// Forgets that the entry `cookie` of `parent` names `inode`.
pub(crate) fn remove(tree: &mut Tree, inode: u64, parent: u64, cookie: u64) -> Result<()> {
    match place(tree, inode, parent, cookie)? {
        Place::Found(key) => tree.remove(key),
        Place::Free(_) => Err(corrupt(inode, "entry without a link back to it")),
    }
}

fn decode(object: u64, item: &[u8]) -> Result<(u64, u64)> {
    let link = LinkLayout::ref_from_bytes(item)
        .map_err(|_| corrupt(object, "link item of a wrong length"))?;
    Ok((link.parent.get(), link.cookie.get()))
}

/// The first link of an inode: parent and cookie. A directory has no other.
pub(crate) fn first(tree: &Tree, inode: u64) -> Result<Option<(u64, u64)>> {
    match tree.next(Key::new(inode, Kind::Link, 0))? {
        Some(item) if item.key().is(inode, Kind::Link) => Ok(Some(decode(inode, &item)?)),
        _ => Ok(None),
    }
}

/// Calls `each` with the parent and cookie of every link, until it returns false.
pub(crate) fn each(
    tree: &Tree,
    inode: u64,
    mut each: impl FnMut(u64, u64) -> Result<bool>,
) -> Result<()> {
    let (from, to) = (Key::new(inode, Kind::Link, 0), Key::new(inode, Kind::Link, OFFSET_MAX));
    tree.scan(from, to, |_, item| {
        let (parent, cookie) = decode(inode, item)?;
        each(parent, cookie)
    })
}

/// Whether directory `inode` is `ancestor`, or below it. `NameTooLong` when it is too deep to tell.
pub(crate) fn is_below(tree: &Tree, inode: u64, ancestor: u64) -> Result<bool> {
    // Who walks in a circle comes by a directory noted on the way (Brent's algorithm).
    let (mut at, mut noted) = (inode, None);
    for step in 1..=DIRECTORY_DEPTH_MAX {
        if at == ancestor {
            return Ok(true);
        }
        if noted == Some(at) {
            return Err(corrupt(at, "directory that is its own ancestor"));
        }
        if step.is_power_of_two() {
            noted = Some(at);
        }
        match first(tree, at)? {
            Some((parent, _)) if at != ROOT_INODE => at = parent,
            _ => return Ok(false),
        }
    }
    Err(Error::NameTooLong)
}

/// Stores the target of a new symbolic link.
pub(crate) fn store_target(
    tree: &mut Tree,
    number: u64,
    inode: &mut Inode,
    target: &[u8],
) -> Result<()> {
    // Long targets are cut into several items: each has to fit a leaf.
    let piece = tree.item_bytes_max() / 2;
    for (at, part) in target.chunks(piece.max(1)).enumerate() {
        tree.put(Key::new(number, Kind::Inline, at as u64), &[part])?;
    }
    inode.size = target.len() as u64;
    inode.flags |= INODE_INLINE;
    Ok(())
}

impl FileSystem {
    /// The target of a symbolic link.
    pub fn read_link(&self, number: u64) -> Result<Vec<u8>> {
        let tree = self.reader();
        let inode = Inode::load(&tree, number)?;
        if inode.file_type() != MODE_SYMLINK {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let mut target = Vec::new();
        let (from, to) =
            (Key::new(number, Kind::Inline, 0), Key::new(number, Kind::Inline, OFFSET_MAX));
        tree.scan(from, to, |_, item| {
            target.try_extend(item)?;
            Ok(target.len() <= TARGET_BYTES_MAX)
        })?;
        if target.len() as u64 != inode.size || target.len() > TARGET_BYTES_MAX {
            return Err(corrupt(number, "target of a link with a wrong length"));
        }
        Ok(target)
    }

    /// Calls `each` with (directory, name) for every name of an inode, until it returns false. It
    /// runs under the tree's lock and must not call the file system.
    pub fn parents(&self, number: u64, each: &mut dyn FnMut(u64, &[u8]) -> bool) -> Result<()> {
        let tree = self.reader();
        Inode::load(&tree, number)?;
        self::each(&tree, number, |parent, cookie| {
            let name = entry_name(&tree, number, parent, cookie)?;
            Ok(each(parent, &name))
        })
    }

    /// Calls `each` with every path of an inode that leads through directory `scope` and that the
    /// caller may walk from there down, until it returns false. It is absolute as seen from the scope,
    /// and what a search below it returns has one. `each` runs under the tree's lock and must not call
    /// the file system. An inode without names has no path.
    ///
    /// Errors: `NameTooLong` for one of more than [`PATH_DEPTH_MAX`] names; `Interrupted`.
    pub fn paths(
        &self,
        number: u64,
        scope: u64,
        caller: Caller<'_>,
        executor: &dyn Executor,
        each: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<()> {
        let mut reach = Reach::default();
        let mut names: Vec<(u64, u64)> = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            // Whoever changes the tree has a turn between some and some.
            go_on(executor)?;
            let tree = self.reader();
            Inode::load(&tree, number)?;
            if number == ROOT_INODE {
                if scope == ROOT_INODE {
                    each(b"/");
                }
                return Ok(());
            }
            names.clear();
            from = None;
            let (mut passed, to) = (0, Key::new(number, Kind::Link, OFFSET_MAX));
            tree.scan(Key::new(number, Kind::Link, first), to, |key, item| {
                if passed == NAMES_AT_ONCE {
                    from = Some(key.offset());
                    return Ok(false);
                }
                passed += 1;
                let (parent, cookie) = decode(number, item)?;
                if reach.reaches(&tree, caller, scope, parent)? == Some(true) {
                    names.try_push((parent, cookie))?;
                }
                Ok(true)
            })?;
            if reach.has_questions() {
                drop(tree);
                reach.ask(caller)?;
                from = Some(first);
                continue;
            }
            for (parent, cookie) in names.iter().copied() {
                if !path(&tree, number, scope, parent, cookie)?.is_none_or(|path| each(&path)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The path from directory `scope` down that ends with the entry `cookie` of `parent`, which names inode
/// `number`; nothing when it does not lead through the scope.
fn path(tree: &Tree, number: u64, scope: u64, parent: u64, cookie: u64) -> Result<Option<Vec<u8>>> {
    // Components from the last to the first.
    let mut reversed: Vec<Vec<u8>> = Vec::new();
    reversed.try_push(entry_name(tree, number, parent, cookie)?)?;
    let mut at = parent;
    while at != scope {
        if at == ROOT_INODE {
            return Ok(None);
        }
        let Some((above, cookie)) = first(tree, at)? else { return Ok(None) };
        reversed.try_push(entry_name(tree, at, above, cookie)?)?;
        if reversed.len() > PATH_DEPTH_MAX {
            return Err(Error::NameTooLong);
        }
        at = above;
    }
    let mut path = Vec::new();
    for name in reversed.iter().rev() {
        path.try_push(b'/')?;
        path.try_extend(name)?;
    }
    Ok(Some(path))
}

/// The name of the entry `cookie` of `parent`, which must name `inode`.
pub(crate) fn entry_name(tree: &Tree, inode: u64, parent: u64, cookie: u64) -> Result<Vec<u8>> {
    let key = Key::new(parent, Kind::Entry, cookie);
    let item = tree.get(key)?.ok_or(corrupt(inode, "link to an entry that is not there"))?;
    let (target, name) = decode_entry(key, &item)?;
    if target.inode != inode {
        return Err(corrupt(inode, "link to an entry of another inode"));
    }
    names::check_stored_name(inode, name)?;
    owned(name)
}
