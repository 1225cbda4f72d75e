// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! From paths to inodes.

use crate::error::{Reason, Result};
use crate::image::Image;
use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use vexfs_core::layout::{NAME_BYTES_MAX, ROOT_INODE};
use vexfs_core::{Error as CoreError, Inode, MODE_SYMLINK, PATH_DEPTH_MAX};

/// How many symbolic links a path may lead through, as in Linux.
pub const SYMLINKS_MAX: usize = 40;

/// Whether a symbolic link at a path's end is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    /// What the link leads to is meant.
    Follow,
    /// The link itself is meant.
    Keep,
}

/// The names of a path, in order. `None` unless it is absolute and free of NUL.
fn names(path: &Path) -> Option<impl Iterator<Item = &[u8]>> {
    let bytes = path.as_os_str().as_bytes();
    let usable = bytes.first() == Some(&b'/') && !bytes.contains(&0);
    usable.then(|| split(bytes))
}

fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

impl Image {
    /// The inode at an absolute path; symbolic links on the way are followed, and the one at its
    /// end too.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<u64> {
        self.resolve_with(path, LastLink::Follow)
    }

    /// The inode at an absolute path; a symbolic link at its end is followed or not.
    ///
    /// A path that ends in `/` is that of a directory, or of a link to one, and of nothing else.
    ///
    /// Errors: `NotFound`, `NotDirectory`, [`Reason::SymlinkLoop`], [`Reason::BadPath`].
    pub fn resolve_with(&self, path: impl AsRef<Path>, last: LastLink) -> Result<u64> {
        let path = path.as_ref();
        let names_directory = path.as_os_str().as_bytes().ends_with(b"/");
        let last = if names_directory { LastLink::Follow } else { last };
        let result = match names(path) {
            Some(names) => self.walk_names(ROOT_INODE, names, last),
            None => Err(Reason::BadPath),
        };
        let number = self.about(path, result)?;
        if names_directory && !self.about(path, self.core.inode(number))?.is_directory() {
            return self.about(path, Err(CoreError::NotDirectory));
        }
        Ok(number)
    }

    /// The inode at an absolute path, if there is one.
    pub fn find(&self, path: impl AsRef<Path>, last: LastLink) -> Result<Option<u64>> {
        match self.resolve_with(path, last) {
            Ok(inode) => Ok(Some(inode)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The attributes of what is at a path; a symbolic link is followed.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Inode> {
        let path = path.as_ref();
        let number = self.resolve(path)?;
        self.about(path, self.core.inode(number))
    }

    /// The attributes of what is at a path, of the link itself for a symbolic link.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Inode> {
        let path = path.as_ref();
        let number = self.resolve_with(path, LastLink::Keep)?;
        self.about(path, self.core.inode(number))
    }

    /// The directory that holds, or would hold, the path's last name, and that name.
    pub(crate) fn resolve_parent<'a>(&self, path: &'a Path) -> Result<(u64, &'a [u8])> {
        let result = (|| {
            let bytes = path.as_os_str().as_bytes();
            let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
            let start = bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let name = &bytes[start..end];
            if name.is_empty() {
                return Err(if bytes.is_empty() {
                    Reason::BadPath
                } else {
                    CoreError::Invalid("the root directory has no name that could be changed")
                        .into()
                });
            }
            if names(path).is_none() {
                return Err(Reason::BadPath);
            }
            let parent = self.walk_names(ROOT_INODE, split(&bytes[..start]), LastLink::Follow)?;
            Ok((parent, name))
        })();
        self.about(path, result)
    }

    /// Follows names from a directory.
    fn walk_names<'a>(
        &self,
        from: u64,
        names: impl Iterator<Item = &'a [u8]>,
        last: LastLink,
    ) -> Result<u64, Reason> {
        let mut at = from;
        let mut links = 0;
        let mut rest: VecDeque<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
        while let Some(name) = rest.pop_front() {
            let next = self.core.lookup(at, &name)?;
            let followed = !rest.is_empty() || last == LastLink::Follow;
            if !followed || self.core.inode(next)?.file_type() != MODE_SYMLINK {
                at = next;
                continue;
            }
            links += 1;
            if links > SYMLINKS_MAX {
                return Err(Reason::SymlinkLoop);
            }
            let target = self.core.read_link(next)?;
            if target.first() == Some(&b'/') {
                at = ROOT_INODE;
            }
            for name in split(&target).collect::<Vec<_>>().into_iter().rev() {
                rest.push_front(name.to_vec());
            }
            if rest.len() > PATH_DEPTH_MAX + NAME_BYTES_MAX {
                return Err(CoreError::NameTooLong.into());
            }
        }
        Ok(at)
    }
}
