// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Changing what an inode says of itself: mode, owner, times, flags.

use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::host::Timestamp;
use crate::inode::{Inode, MODE_TYPE};

/// What to change; `None` leaves a field as it is. For the size see `truncate`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits, 0 to 0o7777; the type does not change.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub accessed: Option<Timestamp>,
    /// Last change of the bytes.
    pub modified: Option<Timestamp>,
    /// Last change of the inode. Without it, it becomes the present time, unless nothing but the
    /// last access is set.
    pub changed: Option<Timestamp>,
    /// When it was made.
    pub born: Option<Timestamp>,
    /// The lower 32 bits of the inode's flags, as `FS_IOC_SETFLAGS`.
    pub flags: Option<u32>,
    /// `changed` is set only if it is later than the present one: for what a host noted a while ago.
    pub changed_later: bool,
    /// Changes of the inode at least, in all its life: for a host that counts some of them itself.
    pub change: u64,
}

impl FileSystem {
    /// Changes an inode and returns what it is then. Rights are for the host to check.
    pub fn set_attributes(&self, number: u64, set: &SetAttributes) -> Result<Inode> {
        for time in [set.accessed, set.modified, set.changed, set.born].into_iter().flatten() {
            if time.nanoseconds >= 1_000_000_000 {
                return Err(Error::Invalid("nanoseconds must be below 1,000,000,000"));
            }
        }
        if set.mode.is_some_and(|mode| mode & !(MODE_TYPE | 0o7777) != 0) {
            return Err(Error::Invalid("permissions must be at most 0o7777"));
        }
        let SetAttributes { mode, uid, gid, modified, born, flags, .. } = set;
        // Reading a file is no change of it.
        let only_accessed = mode.is_none()
            && (uid.is_none() && gid.is_none() && flags.is_none())
            && [modified, born].iter().all(|time| time.is_none());
        let now = self.host.clock.now();
        self.operation_in_place(2, |tree| {
            let before = Inode::load(tree, number)?;
            let mut inode = before;
            if let Some(mode) = set.mode {
                inode.mode = inode.file_type() | (mode & 0o7777);
            }
            inode.uid = set.uid.unwrap_or(inode.uid);
            inode.gid = set.gid.unwrap_or(inode.gid);
            inode.accessed = set.accessed.unwrap_or(inode.accessed);
            inode.modified = set.modified.unwrap_or(inode.modified);
            inode.born = set.born.unwrap_or(inode.born);
            if let Some(flags) = set.flags {
                inode.flags = (inode.flags & !0xffff_ffff) | u64::from(flags);
            }
            match set.changed {
                None if only_accessed => {}
                None => inode.touch(now),
                Some(changed) => {
                    if !set.changed_later || changed > before.changed {
                        inode.changed = changed;
                    }
                    // A host that tells when tells it again with all that it stores.
                    if inode != (Inode { accessed: inode.accessed, ..before }) {
                        inode.touch(inode.changed);
                    }
                }
            }
            inode.change = inode.change.max(set.change);
            inode.store(tree, number)?;
            Ok(inode)
        })
    }
}
