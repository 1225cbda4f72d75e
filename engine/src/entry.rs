// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Making, renaming and removing what paths name.

use crate::error::{Error, Reason, Result};
use crate::files::Xattr;
use crate::image::Image;
use crate::listing::own_ancestor;
use crate::path::LastLink;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{
    Caller, Error as CoreError, Inode, MODE_DIRECTORY, NewInode, RenameMode, Serial, SetAttributes,
    XattrMode,
};

/// What [`Image::remove_tree`] removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Directories.
    pub directories: u64,
    /// Names of anything else.
    pub files: u64,
}

/// Entries that a removal reads at a time.
const BATCH: usize = 256;

impl Image {
    /// Makes a directory, a fifo, a socket, a device node or an empty file, and returns its inode
    /// number.
    pub fn create_node(&self, path: impl AsRef<Path>, new: &NewInode) -> Result<u64> {
        let path = path.as_ref();
        let (parent, name) = self.resolve_parent(path)?;
        let _changing = self.changes.lock([parent]);
        self.about(path, self.core.create(parent, name, new))
    }

    /// Makes a directory with these permissions, of user and group 0.
    pub fn create_dir(&self, path: impl AsRef<Path>, permissions: u32) -> Result<u64> {
        let mode = MODE_DIRECTORY | (permissions & 0o7777);
        self.create_node(path, &NewInode { mode, owner: (0, 0), device: 0 })
    }

    /// Makes a directory and those above it that are missing. That it is there already is no error.
    pub fn create_dir_all(&self, path: impl AsRef<Path>, permissions: u32) -> Result<u64> {
        let mode = MODE_DIRECTORY | (permissions & 0o7777);
        self.create_dir_all_with(path.as_ref(), &NewInode { mode, owner: (0, 0), device: 0 })
    }

    /// Makes a directory like `new` and those above it that are missing.
    pub fn create_dir_all_with(&self, path: &Path, new: &NewInode) -> Result<u64> {
        let mut at = ROOT_INODE;
        let mut part = PathBuf::from("/");
        if !path.has_root() {
            return Err(Error::new(self.object(path), Reason::BadPath));
        }
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
                Component::ParentDir => part.push(".."),
                Component::Normal(name) => part.push(name),
            }
            at = match self.find(&part, LastLink::Follow)? {
                Some(inode) => inode,
                None => match self.create_node(&part, new) {
                    Ok(inode) => inode,
                    // Another thread was faster, or a symbolic link leads to nothing.
                    Err(error) if matches!(error.core(), Some(CoreError::Exists)) => {
                        self.resolve(&part)?
                    }
                    Err(error) => return Err(error),
                },
            };
        }
        match self.about(path, self.core.inode(at))?.is_directory() {
            true => Ok(at),
            false => Err(Error::new(self.object(path), CoreError::NotDirectory)),
        }
    }

    /// Makes a symbolic link at `path` that leads to `target`.
    pub fn symlink(&self, target: impl AsRef<OsStr>, path: impl AsRef<Path>) -> Result<u64> {
        self.symlink_with(target.as_ref(), path.as_ref(), (0, 0))
    }

    /// Makes a symbolic link with this user and group.
    pub fn symlink_with(&self, target: &OsStr, path: &Path, owner: (u32, u32)) -> Result<u64> {
        let (parent, name) = self.resolve_parent(path)?;
        let _changing = self.changes.lock([parent]);
        self.about(path, self.core.create_symlink(parent, name, target.as_bytes(), owner))
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> Result<PathBuf> {
        let path = path.as_ref();
        let number = self.resolve_with(path, LastLink::Keep)?;
        let target = self.about(path, self.core.read_link(number))?;
        Ok(PathBuf::from(OsStr::from_bytes(&target)))
    }

    /// Gives what is at `existing` (a symbolic link itself, not what it leads to) the further name
    /// `path`.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let inode = self.resolve_with(existing, LastLink::Keep)?;
        self.link_inode(inode, path)
    }

    /// Gives an inode the further name `path`.
    pub fn link_inode(&self, inode: u64, path: &Path) -> Result<()> {
        let (parent, name) = self.resolve_parent(path)?;
        let _changing = self.changes.lock([inode, parent]);
        self.about(path, self.core.link(inode, parent, name))
    }

    /// Renames, as rename(2) does; vectors stay with their file.
    pub fn rename(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        mode: RenameMode,
    ) -> Result<()> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let (parent, name) = self.resolve_parent(from)?;
        let (new_parent, new_name) = self.resolve_parent(to)?;
        loop {
            // The object at fault is the new place, unless the old one is missing.
            let moved = self.about(from, self.core.lookup(parent, name))?;
            let replaced = self.core.lookup(new_parent, new_name);
            let last = replaced.unwrap_or(moved);
            let _changing = self.changes.lock([parent, new_parent, moved, last]);
            // What names mean changes under their directories' locks: so it stays from here on.
            if self.core.lookup(parent, name) == Ok(moved)
                && self.core.lookup(new_parent, new_name) == replaced
            {
                let renamed = self.core.rename(parent, name, new_parent, new_name, mode);
                return self.about(to, renamed);
            }
        }
    }

    /// Removes a name of anything but a directory. With its last name a file goes, and its vectors
    /// with it.
    pub fn remove_file(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.resolve_parent(path)?;
        self.about(path, self.unlink(parent, name))
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = self.resolve_parent(path)?;
        self.about(path, self.remove_directory(parent, name))
    }

    /// Removes whatever is at `path`, a directory with all below it. What was removed before an
    /// error stays removed. `Invalid` for a path that ends in `.` or `..`, as in rm(1): the name of
    /// such a directory cannot be removed, so neither is what is in it.
    pub fn remove_tree(&self, path: impl AsRef<Path>) -> Result<Removed> {
        let path = path.as_ref();
        let (parent, name) = self.resolve_parent(path)?;
        let mut removed = Removed::default();
        self.about(path, self.remove_tree_of(parent, name, &mut removed))?;
        Ok(removed)
    }

    fn remove_tree_of(
        &self,
        parent: u64,
        name: &[u8],
        removed: &mut Removed,
    ) -> Result<(), CoreError> {
        if name == b"." || name == b".." {
            return Err(CoreError::Invalid("`.` and `..` cannot be removed"));
        }
        let top = self.core.lookup(parent, name)?;
        if !self.core.inode(top)?.is_directory() {
            self.unlink(parent, name)?;
            removed.files += 1;
            return Ok(());
        }
        // The directories from the top to the one being emptied, with their names.
        let mut stack = vec![(parent, name.to_vec(), top)];
        while let Some((holder, name, directory)) = stack.last().cloned() {
            let mut entries = Vec::new();
            self.core.read_directory(directory, 0, &mut |entry| {
                if entry.name != b"." && entry.name != b".." {
                    entries.push((entry.name.to_vec(), entry.inode, entry.file_type));
                }
                entries.len() < BATCH
            })?;
            if entries.is_empty() {
                self.remove_directory(holder, &name)?;
                removed.directories += 1;
                stack.pop();
                continue;
            }
            for (name, inode, file_type) in entries {
                if u32::from(file_type) << 12 == MODE_DIRECTORY {
                    // In a damaged image a directory may be its own ancestor.
                    if stack.iter().any(|(_, _, above)| *above == inode) {
                        return Err(own_ancestor(inode));
                    }
                    stack.push((directory, name, inode));
                    break;
                }
                self.unlink(directory, &name)?;
                removed.files += 1;
            }
        }
        Ok(())
    }

    fn unlink(&self, parent: u64, name: &[u8]) -> Result<(), CoreError> {
        self.changing(parent, name, || self.core.unlink(parent, name))
    }

    fn remove_directory(&self, parent: u64, name: &[u8]) -> Result<(), CoreError> {
        self.changing(parent, name, || self.core.remove_directory(parent, name))
    }

    /// Does `change` while a directory and what `name` means there are locked.
    fn changing(
        &self,
        parent: u64,
        name: &[u8],
        change: impl FnOnce() -> Result<(), CoreError>,
    ) -> Result<(), CoreError> {
        loop {
            let inode = self.core.lookup(parent, name)?;
            let _changing = self.changes.lock([parent, inode]);
            // Renames take the parent's lock: what the name means stays from here on.
            if self.core.lookup(parent, name)? == inode {
                return change();
            }
        }
    }

    /// Changes mode, owner, times or flags of an inode.
    pub fn set_attributes(&self, inode: u64, set: &SetAttributes) -> Result<Inode> {
        let _changing = self.changes.lock([inode]);
        self.about_image(self.core.set_attributes(inode, set))
    }

    /// The value of an extended attribute of an inode.
    pub fn xattr(&self, inode: u64, name: impl AsRef<OsStr>) -> Result<Vec<u8>> {
        self.about_image(self.core.get_xattr(inode, name.as_ref().as_bytes()))
    }

    /// Sets an extended attribute of an inode: a name of at most 255 bytes, a value of at most
    /// 65,536.
    pub fn set_xattr(
        &self,
        inode: u64,
        name: impl AsRef<OsStr>,
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        let _changing = self.changes.lock([inode]);
        self.about_image(self.core.set_xattr(inode, name.as_ref().as_bytes(), value, mode))
    }

    /// Removes an extended attribute of an inode.
    pub fn remove_xattr(&self, inode: u64, name: impl AsRef<OsStr>) -> Result<()> {
        let _changing = self.changes.lock([inode]);
        self.about_image(self.core.remove_xattr(inode, name.as_ref().as_bytes()))
    }

    /// The names of an inode's extended attributes.
    pub fn xattrs(&self, inode: u64) -> Result<Vec<Vec<u8>>> {
        self.about_image(self.xattr_names(inode))
    }

    pub(crate) fn xattr_names(&self, inode: u64) -> Result<Vec<Vec<u8>>, CoreError> {
        let mut names = Vec::new();
        self.core.list_xattrs(inode, &mut |name| {
            names.push(name.to_vec());
            true
        })?;
        Ok(names)
    }

    /// Reads the whole value of each extended attribute of an inode.
    pub(crate) fn all_xattrs(&self, number: u64) -> Result<Vec<Xattr>, CoreError> {
        let with_value = |name: Vec<u8>| {
            let value = self.core.get_xattr(number, &name)?;
            Ok((name, value))
        };
        self.xattr_names(number)?.into_iter().map(with_value).collect()
    }

    /// All absolute paths of an inode; none when it has no name any more.
    pub fn paths(&self, inode: u64) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        self.about_image(self.core.paths(
            inode,
            ROOT_INODE,
            Caller::default(),
            &Serial,
            &mut |path| {
                paths.push(PathBuf::from(OsStr::from_bytes(path)));
                true
            },
        ))?;
        Ok(paths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::CreateOptions;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// A change waits for the lock of a directory while a name in it gets another meaning: it must
    /// then wait for the lock of what the name means now.
    #[test]
    fn a_name_that_changes_its_meaning_before_the_locks_are_held_is_looked_up_again() {
        type Change = fn(&Image) -> Result<()>;
        let changes: [Change; 3] = [
            |image| image.remove_dir("/holder/name"),
            |image| image.rename("/holder/name", "/elsewhere", RenameMode::Replace),
            |image| image.rename("/moved", "/holder/name", RenameMode::Replace),
        ];
        for change in changes {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("image.vexfs");
            let image = Image::create(path, Some(16 << 20), &CreateOptions::default()).unwrap();
            let holder = image.create_dir("/holder", 0o755).unwrap();
            image.create_dir("/holder/name", 0o755).unwrap();
            image.create_dir("/moved", 0o755).unwrap();
            let other = image.create_dir("/holder/other", 0o755).unwrap();
            let (first, second) = (image.changes.lock([holder]), image.changes.lock([other]));
            std::thread::scope(|scope| {
                let (done, finished) = channel();
                let image = &image;
                scope.spawn(move || done.send(change(image)));
                // Until it has looked the name up and waits; should that take longer, the test
                // proves less, and passes.
                std::thread::sleep(Duration::from_millis(50));
                let exchanged =
                    image.core.rename(holder, b"name", holder, b"other", RenameMode::Exchange);
                exchanged.unwrap();
                drop(first);
                let early = finished.recv_timeout(Duration::from_millis(50));
                assert!(early.is_err(), "changed an inode without its lock: {early:?}");
                drop(second);
                finished.recv().unwrap().unwrap();
            });
        }
    }
}
