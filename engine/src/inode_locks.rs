// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Locks by inode: the core wants the changes of one inode one after the other.

use parking_lot::{Mutex, MutexGuard};

/// Inodes share this many locks.
const LOCKS: usize = 64;

/// A lock for each inode; unrelated inodes may share one.
pub(crate) struct InodeLocks {
    locks: [Mutex<()>; LOCKS],
}

/// Locks held until dropped.
pub(crate) struct InodeGuards<'a> {
    _guards: [Option<MutexGuard<'a, ()>>; INODES_MAX],
}

/// The most inodes that one change is about: two directories and what moves between them.
const INODES_MAX: usize = 4;

impl InodeLocks {
    pub fn new() -> Self {
        Self { locks: [const { Mutex::new(()) }; LOCKS] }
    }

    /// Locks up to four inodes, in an order in which threads cannot wait for each other.
    pub fn lock<const N: usize>(&self, inodes: [u64; N]) -> InodeGuards<'_> {
        const { assert!(N <= INODES_MAX) };
        let mut places = inodes.map(|inode| (inode % LOCKS as u64) as usize);
        places.sort_unstable();
        let mut guards = [const { None }; INODES_MAX];
        let mut last = None;
        for (guard, place) in guards.iter_mut().zip(places) {
            if last != Some(place) {
                *guard = Some(self.locks[place].lock());
            }
            last = Some(place);
        }
        InodeGuards { _guards: guards }
    }
}
