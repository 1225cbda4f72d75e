// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Directories: looking names up, listing, and making and removing entries.
//!
//! An entry is an item of the directory under the cookie of its name; the inode it names has a
//! `Link` item that leads back to it. Both are written and removed together.

use crate::error::{Error, Result, corrupt};
use crate::filesystem::{FileSystem, INODES_MAX};
use crate::host::Timestamp;
use crate::inode::*;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::link;
use crate::names::{self, Place};
use crate::tree::Tree;
use crate::xattr::add_attributes;
use zerocopy::{FromBytes, IntoBytes};

/// What a new inode is.
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Number of a device node: major << 32 | minor; 0 for anything else.
    pub device: u64,
}

/// An extended attribute that a new inode has from the start. Its value fits the tree
/// ([`FileSystem::attribute_inline_bytes_max`]).
#[derive(Clone, Copy, Debug)]
pub struct NewAttribute<'a> {
    /// The whole name, with its namespace.
    pub name: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// An entry of a directory, as [`FileSystem::read_directory`] lists it.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryEntry<'a> {
    /// The name: bytes without `/` and NUL.
    pub name: &'a [u8],
    /// The inode it names.
    pub inode: u64,
    /// Its type: `mode >> 12`, which is the `DT_` number of `readdir`.
    pub file_type: u8,
    /// The position from which listing goes on after this entry. It stays valid whatever entries
    /// come and go.
    pub next: u64,
}

/// What an entry names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub inode: u64,
    pub file_type: u8,
}

/// Reads the head of an entry's item, and the name.
pub(crate) fn decode_entry(key: Key, item: &[u8]) -> Result<(Target, &[u8])> {
    let bad = corrupt(key.object, "directory entry with an impossible item");
    let (head, name) = EntryLayout::ref_from_prefix(item).map_err(|_| bad)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || head.inode.get() == 0 {
        return Err(bad);
    }
    Ok((Target { inode: head.inode.get(), file_type: head.file_type }, name))
}

/// Where the entry `name` of `parent` is, or would be.
pub(crate) fn place(tree: &Tree, parent: u64, name: &[u8]) -> Result<Place> {
    let base = names::cookie_base(tree, name);
    names::find(tree, parent, Kind::Entry, base, |item| {
        item.get(size_of::<EntryLayout>()..) == Some(name)
    })
}

/// The entry `name` of `parent`: its key and what it names.
pub(crate) fn find(tree: &Tree, parent: u64, name: &[u8]) -> Result<Option<(Key, Target)>> {
    match place(tree, parent, name)? {
        Place::Free(_) => Ok(None),
        Place::Found(key) => match tree.get(key)? {
            Some(item) => Ok(Some((key, decode_entry(key, &item)?.0))),
            None => Ok(None),
        },
    }
}

/// Adds an entry and the link that leads back to it. `Exists` if the name is taken.
pub(crate) fn add_entry(tree: &mut Tree, parent: u64, name: &[u8], target: Target) -> Result<()> {
    let Place::Free(key) = place(tree, parent, name)? else { return Err(Error::Exists) };
    let head = EntryLayout { inode: target.inode.into(), file_type: target.file_type };
    tree.put(key, &[head.as_bytes(), name])?;
    link::add(tree, target.inode, parent, key.offset())
}

/// Removes an entry and the link that leads back to it.
pub(crate) fn remove_entry(tree: &mut Tree, key: Key, target: u64) -> Result<()> {
    tree.remove(key)?;
    link::remove(tree, target, key.object, key.offset())
}

/// Whether the directory has no entries.
pub(crate) fn is_empty(tree: &Tree, directory: u64) -> Result<bool> {
    let next = tree.next(Key::new(directory, Kind::Entry, 0))?;
    Ok(!next.is_some_and(|item| item.key().is(directory, Kind::Entry)))
}

/// Reads a directory, changes it, and writes it back with the change noted.
// Out of line: an operation works on two inodes or more, and their copies on one stack frame would
// add up to more than a kernel allows.
#[inline(never)]
pub(crate) fn update(
    tree: &mut Tree,
    directory: u64,
    now: Timestamp,
    change: impl FnOnce(&mut Inode) -> Result<()>,
) -> Result<()> {
    let mut inode = Inode::load_directory(tree, directory)?;
    change(&mut inode)?;
    inode.touch_content(now);
    inode.store(tree, directory)
}

/// Counts a new entry in directory `parent`; `NotFound` if the directory itself was removed.
fn count_new(tree: &mut Tree, parent: u64, is_directory: bool, now: Timestamp) -> Result<()> {
    update(tree, parent, now, |parent| {
        if parent.links == 0 {
            return Err(Error::NotFound);
        }
        count_entry(parent, true, is_directory)
    })
}

/// Counts one entry more or less in `parent`, of a directory or not.
pub(crate) fn count_entry(parent: &mut Inode, added: bool, is_directory: bool) -> Result<()> {
    if added {
        parent.size = parent.size.saturating_add(1);
        if is_directory {
            if parent.links >= LINKS_MAX {
                return Err(Error::TooManyLinks);
            }
            parent.links += 1;
        }
    } else {
        parent.size = parent.size.saturating_sub(1);
        if is_directory {
            parent.links = parent.links.saturating_sub(1);
        }
    }
    Ok(())
}

/// Makes an inode and an entry that names it.
pub(crate) fn make_entry(
    tree: &mut Tree,
    parent: u64,
    name: &[u8],
    new: &NewInode,
    target: Option<&[u8]>,
    now: Timestamp,
) -> Result<u64> {
    count_new(tree, parent, new.mode & MODE_TYPE == MODE_DIRECTORY, now)?;
    let (number, mut inode) = make_inode(tree, new, now)?;
    if let Some(target) = target {
        link::store_target(tree, number, &mut inode, target)?;
    }
    let entry = Target { inode: number, file_type: (new.mode >> 12) as u8 };
    add_entry(tree, parent, name, entry)?;
    inode.store(tree, number)?;
    Ok(number)
}

impl FileSystem {
    /// The inode that `name` names in directory `parent`; `.` and `..` work.
    pub fn lookup(&self, parent: u64, name: &[u8]) -> Result<u64> {
        let tree = self.reader();
        let directory = Inode::load_directory(&tree, parent)?;
        match name {
            b"." => return Ok(parent),
            b".." if parent == ROOT_INODE => return Ok(parent),
            b".." => {
                return match link::first(&tree, parent)? {
                    Some((parent, _)) => Ok(parent),
                    None if directory.links == 0 => Err(Error::NotFound),
                    None => Err(corrupt(parent, "directory without a parent")),
                };
            }
            _ => {}
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(Error::NameTooLong);
        }
        find(&tree, parent, name)?.map(|(_, target)| target.inode).ok_or(Error::NotFound)
    }

    /// Reads an inode. `Stale` when there is none of this number.
    pub fn inode(&self, number: u64) -> Result<Inode> {
        Inode::load(&self.reader(), number)
    }

    /// Makes a file, directory, device node, fifo or socket, and returns its inode number.
    ///
    /// Errors: `Exists`, `NameTooLong`, `Invalid` for a bad name or mode, `NoSpace`.
    pub fn create(&self, parent: u64, name: &[u8], new: &NewInode) -> Result<u64> {
        self.create_with(parent, name, new, None, &[])
    }

    /// As [`FileSystem::create`], with extended attributes: no state lacks them that has the inode.
    pub fn create_with_attributes(
        &self,
        parent: u64,
        name: &[u8],
        new: &NewInode,
        attributes: &[NewAttribute<'_>],
    ) -> Result<u64> {
        self.check_new_attributes(attributes)?;
        self.create_with(parent, name, new, None, attributes)
    }

    /// Makes a symbolic link to `target`, 1 to 4095 bytes.
    pub fn create_symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
        owner: (u32, u32),
    ) -> Result<u64> {
        if target.is_empty() {
            return Err(Error::NotFound);
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(Error::NameTooLong);
        }
        if target.contains(&0) {
            return Err(Error::Invalid("the target of a link holds no NUL"));
        }
        let new = NewInode { mode: MODE_SYMLINK | 0o777, owner, device: 0 };
        self.create_with(parent, name, &new, Some(target), &[])
    }

    fn create_with(
        &self,
        parent: u64,
        name: &[u8],
        new: &NewInode,
        target: Option<&[u8]>,
        attributes: &[NewAttribute<'_>],
    ) -> Result<u64> {
        names::check_entry_name(name)?;
        check_new(new, target.is_some())?;
        let now = self.host.clock.now();
        self.operation(8 + attributes.len() as u64 * 2, false, |tree| {
            let number = make_entry(tree, parent, name, new, target, now)?;
            add_attributes(tree, number, attributes)?;
            Ok(number)
        })
    }

    /// Makes a regular file that has no name yet, as `O_TMPFILE` does. It is held open: it lives
    /// until [`FileSystem::close_inode`], unless [`FileSystem::link`] names it before.
    pub fn create_unnamed(&self, new: &NewInode, attributes: &[NewAttribute<'_>]) -> Result<u64> {
        check_new(new, false)?;
        self.check_new_attributes(attributes)?;
        if new.mode & MODE_TYPE != MODE_FILE {
            return Err(Error::Invalid("only a regular file can be without a name"));
        }
        let now = self.host.clock.now();
        let files = &self.open_files;
        self.operation(4 + attributes.len() as u64 * 2, false, |tree| {
            let (number, mut inode) = make_inode(tree, new, now)?;
            inode.links = 0;
            inode.store(tree, number)?;
            add_attributes(tree, number, attributes)?;
            crate::orphan::add(tree, number)?;
            files.write().hold(number)?;
            Ok(number)
        })
    }

    /// Adds a name to an inode that is not a directory. `Stale` when its last name is gone and
    /// nobody holds it open.
    pub fn link(&self, number: u64, parent: u64, name: &[u8]) -> Result<()> {
        names::check_entry_name(name)?;
        let now = self.host.clock.now();
        self.operation(7, false, |tree| {
            count_new(tree, parent, false, now)?;
            let mut inode = Inode::load(tree, number)?;
            if inode.is_directory() {
                return Err(Error::NotPermitted);
            }
            if inode.links >= LINKS_MAX {
                return Err(Error::TooManyLinks);
            }
            self.check_alive(number, &inode)?;
            if inode.links == 0 {
                crate::orphan::remove(tree, number)?;
            }
            let file_type = (inode.mode >> 12) as u8;
            add_entry(tree, parent, name, Target { inode: number, file_type })?;
            inode.links += 1;
            inode.touch(now);
            inode.store(tree, number)
        })
    }

    /// Removes a name of anything but a directory. With its last name an inode goes, once nobody
    /// holds it open, and its vectors with it.
    pub fn unlink(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove_name(parent, name, false)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, parent: u64, name: &[u8]) -> Result<()> {
        self.remove_name(parent, name, true)
    }

    fn remove_name(&self, parent: u64, name: &[u8], directory: bool) -> Result<()> {
        names::check_entry_name(name)?;
        let now = self.host.clock.now();
        let orphan = self.operation(10, true, |tree| {
            update(tree, parent, now, |parent| count_entry(parent, false, directory))?;
            let (key, target) = find(tree, parent, name)?.ok_or(Error::NotFound)?;
            let inode = Inode::load(tree, target.inode).map_err(|error| match error {
                Error::Stale => corrupt(parent, "entry that names no inode"),
                error => error,
            })?;
            match (inode.is_directory(), directory) {
                (true, false) => return Err(Error::IsDirectory),
                (false, true) => return Err(Error::NotDirectory),
                (true, true) if !is_empty(tree, target.inode)? => return Err(Error::NotEmpty),
                _ => {}
            }
            remove_entry(tree, key, target.inode)?;
            self.drop_link(tree, target.inode, inode, now)
        })?;
        self.reap_after(orphan);
        Ok(())
    }

    /// Lists directory `number` from `position` on, until `each` returns false. Position 0 is the
    /// start; later ones come from [`DirectoryEntry::next`]. `each` runs under the tree's lock and
    /// must not call the file system. Before an error it gets the entries up to what is damaged.
    pub fn read_directory(
        &self,
        number: u64,
        position: u64,
        each: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let tree = self.reader();
        let directory = Inode::load_directory(&tree, number)?;
        const DIRECTORY: u8 = (MODE_DIRECTORY >> 12) as u8;
        if position == 0 {
            let dot = DirectoryEntry { name: b".", inode: number, file_type: DIRECTORY, next: 1 };
            if !each(&dot) {
                return Ok(());
            }
        }
        if position <= 1 {
            let parent = match link::first(&tree, number)? {
                Some((parent, _)) => parent,
                None => number,
            };
            let dots = DirectoryEntry {
                name: b"..",
                inode: parent,
                file_type: DIRECTORY,
                next: names::COOKIE_MIN,
            };
            if !each(&dots) {
                return Ok(());
            }
        }
        if directory.size == 0 || position > OFFSET_MAX {
            return Ok(());
        }
        let from = Key::new(number, Kind::Entry, position.max(names::COOKIE_MIN));
        tree.scan(from, Key::new(number, Kind::Entry, OFFSET_MAX), |key, item| {
            let (target, name) = decode_entry(key, item)?;
            names::check_stored_name(number, name)?;
            Ok(each(&DirectoryEntry {
                name,
                inode: target.inode,
                file_type: target.file_type,
                next: key.offset() + 1,
            }))
        })
    }

    /// Takes one link of `inode` away within an operation. What is left to do afterwards is for
    /// [`FileSystem::reap_after`].
    pub(crate) fn drop_link(
        &self,
        tree: &mut Tree,
        number: u64,
        mut inode: Inode,
        now: Timestamp,
    ) -> Result<Option<u64>> {
        inode.links = if inode.is_directory() { 0 } else { inode.links.saturating_sub(1) };
        inode.touch(now);
        if inode.links > 0 {
            inode.store(tree, number)?;
            return Ok(None);
        }
        let light = inode.blocks == 0 && inode.flags & (INODE_ATTRIBUTES | INODE_VECTORS) == 0;
        let held = self.open_files.read().is_held(number);
        if light
            && !held
            && (!inode.is_file() || inode.flags & INODE_INLINE != 0 || inode.size == 0)
        {
            // Nothing but the inode and its inline bytes: gone at once, unless extents that are
            // not counted (unwritten ones beyond the end) say otherwise.
            if crate::orphan::remove_light(tree, number, &inode)? {
                return Ok(None);
            }
        }
        inode.store(tree, number)?;
        crate::orphan::add(tree, number)?;
        Ok((!held).then_some(number))
    }
}

pub(crate) fn check_new(new: &NewInode, symlink: bool) -> Result<()> {
    let device = match new.mode & MODE_TYPE {
        MODE_FILE | MODE_DIRECTORY | MODE_FIFO | MODE_SOCKET => false,
        MODE_BLOCK | MODE_CHARACTER => true,
        MODE_SYMLINK if symlink => false,
        _ => return Err(Error::Invalid("mode of no known file type")),
    };
    if new.mode > 0o177777 || (new.device != 0 && !device) {
        return Err(Error::Invalid("mode or device number"));
    }
    Ok(())
}

/// Gives a new inode its number and counts it. The caller stores it.
fn make_inode(tree: &mut Tree, new: &NewInode, now: Timestamp) -> Result<(u64, Inode)> {
    if tree.state.inodes >= INODES_MAX {
        return Err(Error::NoSpace);
    }
    let number = new_object(tree)?;
    let mut inode = Inode::new(new.mode, new.owner, tree.generation(), now);
    inode.device = new.device;
    tree.state.inodes += 1;
    Ok((number, inode))
}
