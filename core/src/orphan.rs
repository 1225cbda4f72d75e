// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Inodes without names: noted in the tree until they are taken apart, step by step, so that a
//! crash in between leaves a note and not a leak.

use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::Inode;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::*;
use crate::tree::Tree;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use vexfs_memory::TryVec;
use zerocopy::IntoBytes;

/// Extents that one step frees at most.
const STEP_EXTENTS: usize = 64;

fn key(number: u64) -> Key {
    Key::new(0, Kind::Orphan, number)
}

/// Notes that inode `number` has no name any more, or that what an object without an inode holds is
/// to be freed.
pub(crate) fn add(tree: &mut Tree, number: u64) -> Result<()> {
    let layout = OrphanLayout { generation: tree.generation().into() };
    tree.put(key(number), &[layout.as_bytes()])
}

/// Takes the note back. Two threads may have worked on one orphan: that it is gone is no error.
pub(crate) fn remove(tree: &mut Tree, number: u64) -> Result<()> {
    match tree.remove(key(number)) {
        Err(Error::NotFound) => Ok(()),
        result => result,
    }
}

/// Removes an inode that has nothing but inline bytes. False, and nothing is done, if it turns out
/// to have extents.
pub(crate) fn remove_light(tree: &mut Tree, number: u64, inode: &Inode) -> Result<bool> {
    if has(tree, number, Kind::Extent)? {
        return Ok(false);
    }
    if inode.flags & INODE_INLINE != 0 {
        while let Some(key) = first(tree, number, Kind::Inline)? {
            tree.remove(key)?;
        }
    }
    remove_inode(tree, number)?;
    Ok(true)
}

fn remove_inode(tree: &mut Tree, number: u64) -> Result<()> {
    tree.remove(Key::new(number, Kind::Inode, 0))?;
    tree.state.inodes = tree.state.inodes.saturating_sub(1);
    Ok(())
}

/// The first item of this kind of an object.
pub(crate) fn first(tree: &Tree, object: u64, kind: Kind) -> Result<Option<Key>> {
    let item = tree.next(Key::new(object, kind, 0))?;
    Ok(item.map(|item| item.key()).filter(|key| key.is(object, kind)))
}

fn has(tree: &Tree, object: u64, kind: Kind) -> Result<bool> {
    Ok(first(tree, object, kind)?.is_some())
}

impl FileSystem {
    /// Takes an inode apart whose last name has just gone, if there is one. That its name is gone
    /// stands whatever comes of it: what cannot be done now (there may be no memory for it) is done
    /// with the next such inode, or by [`FileSystem::reap_orphans`] when the file system is opened
    /// again.
    pub(crate) fn reap_after(&self, orphan: Option<u64>) {
        let Some(number) = orphan else { return };
        let failed_before = self.unreaped.swap(false, Ordering::AcqRel);
        let mut result = self.reap(number);
        if failed_before && result.is_ok() {
            result = self.reap_orphans().map(|_| ());
        }
        if failed_before || result.is_err() {
            self.unreaped.store(result.is_err(), Ordering::Release);
        }
    }

    /// Notes that an orphan waits for the next call of [`FileSystem::reap_after`].
    pub(crate) fn reap_later(&self) {
        self.unreaped.store(true, Ordering::Release);
    }

    /// Takes apart what an earlier run of a host left: inodes without names that nobody holds
    /// open. Hosts call it once after opening for writing. Returns how many there were. Those that
    /// damage is in the way of are passed over, and wait for a repair.
    pub fn reap_orphans(&self) -> Result<u64> {
        let mut count = 0;
        let mut from = 0;
        loop {
            let next = {
                let tree = self.reader();
                match tree.next(key(from))? {
                    Some(item) if item.key().is(0, Kind::Orphan) => item.key().offset(),
                    _ => return Ok(count),
                }
            };
            let held = self.open_files.read().is_held(next);
            match if held { Err(Error::Busy) } else { self.reap(next) } {
                Ok(()) => count += 1,
                Err(Error::Busy) => {}
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
            if next == OFFSET_MAX {
                return Ok(count);
            }
            from = next + 1;
        }
    }

    /// Takes an inode without names apart. Every step is an operation of its own.
    fn reap(&self, number: u64) -> Result<()> {
        // A statement of its own, so that the tree is not locked any more in the arms below.
        let inode = Inode::load(&self.reader(), number);
        let inode = match inode {
            Ok(inode) => inode,
            // An object without an inode: the old value of an attribute, a dropped collection, or
            // one of its streams.
            Err(Error::Stale) => {
                if self.reap_collection(number)? {
                    return Ok(());
                }
                return self.free_stream(number);
            }
            Err(error) => return Err(error),
        };
        if inode.links > 0 {
            return Err(corrupt(number, "orphan with links"));
        }
        loop {
            while has(&self.reader(), number, Kind::Vector)? {
                self.check_orphan(&self.reader(), number)?;
                self.remove_all_vectors_step(number)?;
            }
            loop {
                self.check_orphan(&self.reader(), number)?;
                if self.free_object_extents(number, 0, STEP_EXTENTS)? {
                    break;
                }
            }
            if has(&self.reader(), number, Kind::Attribute)? {
                self.check_orphan(&self.reader(), number)?;
                self.remove_all_xattrs(number)?;
            }
            // In steps that a full file system has space for.
            while self.operation(1, true, |tree| {
                self.check_orphan(tree, number)?;
                match first(tree, number, Kind::Inline)? {
                    Some(key) => tree.remove(key).map(|()| true),
                    None => Ok(false),
                }
            })? {}
            // Whoever looked the inode up before it lost its name may have added to it meanwhile.
            let done = self.operation(2, true, |tree| {
                self.check_orphan(tree, number)?;
                for kind in [Kind::Vector, Kind::Extent, Kind::Attribute, Kind::Inline] {
                    if has(tree, number, kind)? {
                        return Ok(false);
                    }
                }
                remove_inode(tree, number)?;
                remove(tree, number)?;
                Ok(true)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Frees the blocks of a stream that was noted as an orphan, and the note.
    pub(crate) fn free_stream(&self, object: u64) -> Result<()> {
        self.holding(&[object], || {
            while !self.free_object_extents(object, 0, STEP_EXTENTS)? {}
            self.operation(1, true, |tree| remove(tree, object))
        })
    }

    /// Before each step: nothing of an inode that has a name, or is held, is taken away.
    fn check_orphan(&self, tree: &Tree, number: u64) -> Result<()> {
        let inode = Inode::load(tree, number)?;
        if inode.links > 0 || self.open_files.read().is_held(number) {
            return Err(Error::Busy);
        }
        Ok(())
    }

    /// Inode numbers of the orphans, for tests and tools.
    pub fn orphans(&self) -> Result<Vec<u64>> {
        let tree = self.reader();
        let mut numbers = Vec::new();
        tree.scan(key(0), key(OFFSET_MAX), |key, _| {
            numbers.try_push(key.offset())?;
            Ok(true)
        })?;
        Ok(numbers)
    }
}
