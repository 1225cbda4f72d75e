// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files by their paths, in an image or on the machine. A mounted VexFS is among the machine's; what
//! works on either is written once, for [`Files`].

use crate::error::{Error, Reason, Result};
use crate::host_files::{self, HostFile};
use crate::image::Image;
use crate::listing::{Entry, Walk};
use crate::open_file::OpenFile;
use crate::path::LastLink;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use vexfs_core::{
    DIRECTORY_DEPTH_MAX, Error as CoreError, Inode, NewInode, RenameMode, SetAttributes, XattrMode,
};

/// Where paths lead.
#[derive(Clone, Copy)]
pub enum Files<'a> {
    /// Into an image: a path is absolute in it.
    Image(&'a Image),
    /// To the files of the machine, as the process sees them. Who makes one owns it, and the
    /// process's mask takes permissions away from it.
    Host,
}

/// What is at a path.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// The machine's number of the file system that holds it; 0 in an image.
    pub device: u64,
    /// Its inode number.
    pub number: u64,
    /// Its attributes. On the machine without what no call tells of every file: generation, content
    /// version, count of changes and flags are 0.
    pub inode: Inode,
}

impl Attributes {
    /// What tells it from everything else there is.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.number)
    }
}

/// The name and the value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

impl<'a> Files<'a> {
    /// How errors call a path.
    pub fn object(&self, path: &Path) -> OsString {
        match self {
            Self::Image(image) => image.object(path),
            Self::Host => path.as_os_str().to_owned(),
        }
    }

    /// An error about a path.
    pub(crate) fn error(&self, path: &Path, reason: impl Into<Reason>) -> Error {
        Error::new(self.object(path), reason)
    }

    /// Whether both lead to the same places.
    pub(crate) fn is_same(&self, other: &Files<'_>) -> bool {
        match (self, other) {
            (Self::Image(image), Files::Image(other)) => std::ptr::eq(*image, *other),
            (Self::Host, Files::Host) => true,
            _ => false,
        }
    }

    /// Whether nothing can be changed, whatever the path.
    pub(crate) fn is_read_only(&self) -> bool {
        matches!(self, Self::Image(image) if image.is_read_only())
    }

    /// What is at a path; a symbolic link at its end is followed or not.
    pub fn attributes(&self, path: &Path, last: LastLink) -> Result<Attributes> {
        match self {
            Self::Image(image) => {
                let number = image.resolve_with(path, last)?;
                let inode = image.about(path, image.core.inode(number))?;
                Ok(Attributes { device: 0, number, inode })
            }
            Self::Host => host_files::attributes(path, last),
        }
    }

    /// What is at a path, if anything.
    pub fn find(&self, path: &Path, last: LastLink) -> Result<Option<Attributes>> {
        match self.attributes(path, last) {
            Ok(attributes) => Ok(Some(attributes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a directory at a path, or a link to one.
    pub fn is_directory(&self, path: &Path) -> Result<bool> {
        Ok(self.find(path, LastLink::Follow)?.is_some_and(|found| found.inode.is_directory()))
    }

    /// The entries of a directory but `.` and `..`, in the order of their names' bytes.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let mut entries = match self {
            Self::Image(image) => image.read_dir(path)?.collect::<Result<Vec<_>>>()?,
            Self::Host => host_files::list(path)?,
        };
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Walks the tree at `path`, which may also be a single file; a symbolic link there is followed.
    /// What is mounted below it is left out.
    pub fn walk(&self, path: &Path) -> Result<Walk<'a>> {
        Walk::new(*self, path)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: &Path) -> Result<PathBuf> {
        match self {
            Self::Image(image) => image.read_link(path),
            Self::Host => std::fs::read_link(path).map_err(host_files::failed(path)),
        }
    }

    /// The names of the extended attributes of what is at a path.
    pub fn xattr_names(&self, path: &Path, last: LastLink) -> Result<Vec<Vec<u8>>> {
        match self {
            Self::Image(image) => {
                let number = image.resolve_with(path, last)?;
                image.about(path, image.xattr_names(number))
            }
            Self::Host => host_files::xattr_names(path, last),
        }
    }

    /// The extended attributes of what is at a path, with their whole values.
    pub fn xattrs(&self, path: &Path, last: LastLink) -> Result<Vec<Xattr>> {
        match self {
            Self::Image(image) => {
                let number = image.resolve_with(path, last)?;
                image.about(path, image.all_xattrs(number))
            }
            Self::Host => host_files::xattrs(path, last),
        }
    }

    /// Sets an extended attribute of what is at a path.
    pub fn set_xattr(&self, path: &Path, last: LastLink, name: &[u8], value: &[u8]) -> Result<()> {
        match self {
            Self::Image(image) => {
                let number = image.resolve_with(path, last)?;
                let _changing = image.changes.lock([number]);
                image.about(path, image.core.set_xattr(number, name, value, XattrMode::Set))
            }
            Self::Host => host_files::set_xattr(path, last, name, value),
        }
    }

    /// Changes mode, owner or times of what is at a path; the machine's links have no mode.
    pub fn set_attributes(&self, path: &Path, last: LastLink, set: &SetAttributes) -> Result<()> {
        match self {
            Self::Image(image) => {
                let number = image.resolve_with(path, last)?;
                let _changing = image.changes.lock([number]);
                image.about(path, image.core.set_attributes(number, set)).map(drop)
            }
            Self::Host => host_files::set_attributes(path, last, set),
        }
    }

    /// Makes a directory, a fifo, a socket, a device node or an empty file.
    pub fn create(&self, path: &Path, new: &NewInode) -> Result<()> {
        match self {
            Self::Image(image) => image.create_node(path, new).map(drop),
            Self::Host => host_files::create(path, new),
        }
    }

    /// Makes a directory like `new` and those above it that are missing. That it is there already is
    /// no error.
    pub fn create_all(&self, path: &Path, new: &NewInode) -> Result<()> {
        match self {
            Self::Image(image) => image.create_dir_all_with(path, new).map(drop),
            Self::Host => host_files::create_all(path, new),
        }
    }

    /// Makes a symbolic link at `path` that leads to `target`.
    pub fn symlink(&self, target: &OsStr, path: &Path, owner: (u32, u32)) -> Result<()> {
        match self {
            Self::Image(image) => image.symlink_with(target, path, owner).map(drop),
            Self::Host => {
                std::os::unix::fs::symlink(target, path).map_err(host_files::failed(path))
            }
        }
    }

    /// Gives what is at `existing` (a symbolic link itself, not what it leads to) the further name
    /// `path`.
    pub fn hard_link(&self, existing: &Path, path: &Path) -> Result<()> {
        match self {
            Self::Image(image) => image.hard_link(existing, path),
            Self::Host => host_files::hard_link(existing, path),
        }
    }

    /// Renames, as rename(2) does; vectors stay with their file.
    pub fn rename(&self, from: &Path, to: &Path, mode: RenameMode) -> Result<()> {
        match self {
            Self::Image(image) => image.rename(from, to, mode),
            Self::Host => host_files::rename(from, to, mode),
        }
    }

    /// Removes a name of anything but a directory.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        match self {
            Self::Image(image) => image.remove_file(path),
            Self::Host => std::fs::remove_file(path).map_err(host_files::failed(path)),
        }
    }

    /// Removes whatever is at `path`, a directory with all below it; see [`Image::remove_tree`].
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        match self {
            Self::Image(image) => image.remove_tree(path).map(drop),
            Self::Host => host_files::remove_tree(path),
        }
    }

    /// Opens a regular file for reading; symbolic links are followed.
    pub fn open(&self, path: &Path) -> Result<OpenFile<'a>> {
        match self {
            Self::Image(image) => image.open_file(path).map(OpenFile::Image),
            Self::Host => HostFile::open(path, false).map(OpenFile::Host),
        }
    }

    /// Opens a regular file for reading and changing it; symbolic links are followed.
    pub fn open_for_change(&self, path: &Path) -> Result<OpenFile<'a>> {
        match self {
            Self::Image(image) => image.open_file(path).map(OpenFile::Image),
            Self::Host => HostFile::open(path, true).map(OpenFile::Host),
        }
    }

    /// Makes a file with these permissions, user and group, or empties the one that is there, and
    /// opens it.
    pub fn create_file(
        &self,
        path: &Path,
        permissions: u32,
        owner: (u32, u32),
    ) -> Result<OpenFile<'a>> {
        match self {
            Self::Image(image) => {
                image.create_file_with(path, permissions, owner).map(OpenFile::Image)
            }
            Self::Host => HostFile::create(path, permissions).map(OpenFile::Host),
        }
    }

    /// Makes a file that becomes `to` by [`OpenFile::publish`], and until then leaves `to` as it is;
    /// see [`Image::stage_file`]. On the machine that holds for a mounted VexFS, in a directory where
    /// the process may make files; elsewhere it is `to` from the start.
    pub fn stage(&self, to: &Path, permissions: u32, owner: (u32, u32)) -> Result<OpenFile<'a>> {
        match self {
            Self::Image(image) => image.stage_file(to, permissions, owner).map(OpenFile::Image),
            Self::Host => HostFile::stage(to, permissions).map(OpenFile::Host),
        }
    }

    /// Whether `path`, which need not be there, is below a directory, or the directory itself.
    pub(crate) fn is_below(&self, path: &Path, directory: &Attributes) -> Result<bool> {
        let image = match self {
            Self::Image(image) => image,
            Self::Host => return host_files::is_below(path, directory.identity()),
        };
        let (mut at, _) = image.resolve_parent(path)?;
        for _ in 0..=DIRECTORY_DEPTH_MAX {
            if at == directory.number {
                return Ok(true);
            }
            let above = image.about(path, image.core.lookup(at, b".."))?;
            if above == at {
                return Ok(false);
            }
            at = above;
        }
        image.about(path, Err(CoreError::NameTooLong))
    }
}
