// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The inodes that a host holds open, which live on when their last name goes.

use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::inode::Inode;
use vexfs_memory::Table;

/// How often each inode is held open.
#[derive(Default)]
pub(crate) struct OpenFiles {
    counts: Table<u32>,
}

impl OpenFiles {
    pub fn hold(&mut self, number: u64) -> Result<()> {
        let count = self.counts.get(number).copied().unwrap_or(0);
        self.counts.try_insert(number, count.checked_add(1).ok_or(Error::Busy)?)?;
        Ok(())
    }

    /// Lets go once; whether that was the last hold.
    pub fn release(&mut self, number: u64) -> bool {
        match self.counts.get_mut(number) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) => self.counts.remove(number).is_some(),
            None => false,
        }
    }

    pub fn is_held(&self, number: u64) -> bool {
        self.counts.contains(number)
    }
}

impl FileSystem {
    /// Whether an inode is there to stay. One without names that nobody holds open is being taken
    /// apart: what is added to it, or a name, would be lost or left behind. `Stale` then. Within an
    /// operation the answer holds until its end.
    pub(crate) fn check_alive(&self, number: u64, inode: &Inode) -> Result<()> {
        if inode.links == 0 && !self.open_files.read().is_held(number) {
            return Err(Error::Stale);
        }
        Ok(())
    }

    /// Does `work` while orphans among `objects` are left to it.
    pub(crate) fn holding<R>(
        &self,
        objects: &[u64],
        work: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        let mut held = 0;
        let mut result = Ok(());
        {
            let mut files = self.open_files.write();
            for object in objects {
                result = files.hold(*object);
                if result.is_err() {
                    break;
                }
                held += 1;
            }
        }
        let result = result.and_then(|()| work());
        let mut files = self.open_files.write();
        for object in objects.iter().take(held) {
            files.release(*object);
        }
        result
    }

    /// Holds an inode open: when its last name goes, it stays until the last
    /// [`FileSystem::close_inode`]. `Stale` when it is gone already.
    pub fn open_inode(&self, number: u64) -> Result<Inode> {
        let tree = self.reader();
        let inode = Inode::load(&tree, number)?;
        let mut files = self.open_files.write();
        if inode.links == 0 && !files.is_held(number) {
            return Err(Error::Stale);
        }
        files.hold(number)?;
        Ok(inode)
    }

    /// Lets go of an inode. With the last hold of an inode without names the inode goes.
    pub fn close_inode(&self, number: u64) -> Result<()> {
        let last = self.open_files.write().release(number);
        if !last || self.is_read_only() {
            return Ok(());
        }
        let inode = Inode::load(&self.reader(), number);
        match inode {
            Ok(inode) => self.reap_after((inode.links == 0).then_some(number)),
            Err(Error::Stale) => {}
            // The hold is gone all the same, and the inode noted if it has no name.
            Err(_) => self.reap_later(),
        }
        Ok(())
    }
}
