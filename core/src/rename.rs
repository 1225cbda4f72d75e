// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Renaming: moving one entry, or exchanging two.

use crate::directory::{
    NewAttribute, NewInode, Target, add_entry, check_new, count_entry, find, is_empty, make_entry,
    remove_entry, update,
};
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::host::Timestamp;
use crate::inode::{Inode, MODE_DIRECTORY, MODE_TYPE};
use crate::key::Key;
use crate::link::is_below;
use crate::names;
use crate::tree::Tree;
use crate::xattr::add_attributes;

/// What to do with an entry that has the new name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace it.
    Replace,
    /// Fail with `Exists`.
    NoReplace,
    /// Give it the old name.
    Exchange,
}

/// One end of a rename.
#[derive(Clone, Copy)]
struct End<'a> {
    parent: u64,
    name: &'a [u8],
}

/// An entry and the inode it names.
struct Entry {
    key: Key,
    target: Target,
    inode: Inode,
}

fn load(tree: &Tree, end: End<'_>) -> Result<Option<Entry>> {
    let Some((key, target)) = find(tree, end.parent, end.name)? else { return Ok(None) };
    let inode = Inode::load(tree, target.inode)?;
    Ok(Some(Entry { key, target, inode }))
}

impl FileSystem {
    /// Renames the entry `name` of `parent` to `new_name` of `new_parent`.
    ///
    /// Errors: `NotFound`, `Exists`, `NotEmpty`, `IsDirectory` and `NotDirectory` as in rename(2),
    /// `Invalid` for moving a directory below itself.
    pub fn rename(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = (End { parent, name }, End { parent: new_parent, name: new_name });
        self.rename_end(from, to, mode, None)
    }

    /// As [`FileSystem::rename`], and makes `left`, which is no directory, with these attributes under
    /// the old name.
    ///
    /// Errors: also `Invalid` together with an exchange; `NoSpace`.
    pub fn rename_leaving(
        &self,
        parent: u64,
        name: &[u8],
        new_parent: u64,
        new_name: &[u8],
        mode: RenameMode,
        left: (&NewInode, &[NewAttribute<'_>]),
    ) -> Result<()> {
        check_new(left.0, false)?;
        self.check_new_attributes(left.1)?;
        if mode == RenameMode::Exchange || left.0.mode & MODE_TYPE == MODE_DIRECTORY {
            return Err(Error::Invalid("what a rename leaves behind"));
        }
        let (from, to) = (End { parent, name }, End { parent: new_parent, name: new_name });
        self.rename_end(from, to, mode, Some(left))
    }

    fn rename_end(
        &self,
        from: End<'_>,
        to: End<'_>,
        mode: RenameMode,
        left: Option<(&NewInode, &[NewAttribute<'_>])>,
    ) -> Result<()> {
        let End { parent, name } = from;
        names::check_entry_name(name)?;
        names::check_entry_name(to.name)?;
        let now = self.host.clock.now();
        // Two entries, four links, four inodes and a note, at most.
        let rename = |tree: &mut Tree| -> Result<Option<u64>> {
            Inode::load_directory(tree, parent)?;
            if Inode::load_directory(tree, to.parent)?.links == 0 {
                return Err(Error::NotFound);
            }
            let source = load(tree, from)?.ok_or(Error::NotFound)?;
            let present = load(tree, to)?;
            match (mode, &present) {
                (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists),
                (RenameMode::Exchange, None) => return Err(Error::NotFound),
                _ => {}
            }
            if source.inode.is_directory() && is_below(tree, to.parent, source.target.inode)? {
                return Err(Error::Invalid("a directory cannot be moved below itself"));
            }
            match (mode, present) {
                (RenameMode::Exchange, Some(other)) => {
                    if other.inode.is_directory() && is_below(tree, parent, other.target.inode)? {
                        return Err(Error::Invalid("a directory cannot be moved below itself"));
                    }
                    exchange(tree, from, to, source, other, now)?;
                    Ok(None)
                }
                (_, Some(other)) if other.target.inode == source.target.inode => Ok(None),
                (_, Some(other)) => {
                    match (source.inode.is_directory(), other.inode.is_directory()) {
                        (true, false) => return Err(Error::NotDirectory),
                        (false, true) => return Err(Error::IsDirectory),
                        (true, true) if !is_empty(tree, other.target.inode)? => {
                            return Err(Error::NotEmpty);
                        }
                        _ => {}
                    }
                    let replaced = other.target.inode;
                    remove_entry(tree, other.key, replaced)?;
                    update(tree, to.parent, now, |parent| {
                        count_entry(parent, false, other.inode.is_directory())
                    })?;
                    let orphan = self.drop_link(tree, replaced, other.inode, now)?;
                    move_entry(tree, from, to, source, now)?;
                    Ok(orphan)
                }
                (_, None) => {
                    move_entry(tree, from, to, source, now)?;
                    Ok(None)
                }
            }
        };
        let orphan = match left {
            None => self.operation_in_place(11, rename)?,
            Some((new, attributes)) => {
                self.operation(19 + attributes.len() as u64 * 2, false, |tree| {
                    let orphan = rename(tree)?;
                    if find(tree, parent, name)?.is_none() {
                        let number = make_entry(tree, parent, name, new, None, now)?;
                        add_attributes(tree, number, attributes)?;
                    }
                    Ok(orphan)
                })?
            }
        };
        self.reap_after(orphan);
        Ok(())
    }
}

/// Moves an entry to a name that is free.
fn move_entry(
    tree: &mut Tree,
    from: End<'_>,
    to: End<'_>,
    source: Entry,
    now: Timestamp,
) -> Result<()> {
    let is_directory = source.inode.is_directory();
    remove_entry(tree, source.key, source.target.inode)?;
    update(tree, from.parent, now, |parent| count_entry(parent, false, is_directory))?;
    add_entry(tree, to.parent, to.name, source.target)?;
    update(tree, to.parent, now, |parent| count_entry(parent, true, is_directory))?;
    note_change(tree, source.target.inode, now)
}

/// Exchanges two entries.
fn exchange(
    tree: &mut Tree,
    from: End<'_>,
    to: End<'_>,
    source: Entry,
    other: Entry,
    now: Timestamp,
) -> Result<()> {
    if source.key == other.key {
        return Ok(());
    }
    remove_entry(tree, source.key, source.target.inode)?;
    remove_entry(tree, other.key, other.target.inode)?;
    add_entry(tree, to.parent, to.name, source.target)?;
    add_entry(tree, from.parent, from.name, other.target)?;
    let (a, b) = (source.inode.is_directory(), other.inode.is_directory());
    for (parent, gone, come) in [(from.parent, a, b), (to.parent, b, a)] {
        update(tree, parent, now, |inode| {
            count_entry(inode, false, gone)?;
            count_entry(inode, true, come)
        })?;
    }
    note_change(tree, source.target.inode, now)?;
    note_change(tree, other.target.inode, now)
}

fn note_change(tree: &mut Tree, number: u64, now: Timestamp) -> Result<()> {
    let mut inode = Inode::load(tree, number)?;
    if inode.links == 0 {
        return Err(corrupt(number, "renamed inode without links"));
    }
    inode.touch(now);
    inode.store(tree, number)
}
