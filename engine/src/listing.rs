// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Listing directories, one or a whole tree.

use crate::error::{Error, Result};
use crate::files::Files;
use crate::image::Image;
use crate::path::LastLink;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_core::{DIRECTORY_DEPTH_MAX, Error as CoreError, Inode};

/// Entries read at a time.
const BATCH: usize = 512;

/// An entry of a directory; `.` and `..` are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name: any bytes but `/` and NUL.
    pub name: OsString,
    /// The inode it names.
    pub inode: u64,
    /// The file type bits of that inode's mode.
    pub file_type: u32,
}

/// Lists a directory. It reads some entries at a time; those that come or go meanwhile may be seen
/// or not, all others are seen once.
pub struct ReadDir<'a> {
    image: &'a Image,
    path: PathBuf,
    directory: u64,
    batch: VecDeque<Entry>,
    /// Where to go on; `None` at the end.
    position: Option<u64>,
}

impl ReadDir<'_> {
    fn fill(&mut self, position: u64) -> Result<()> {
        let mut position = position;
        let batch = &mut self.batch;
        let result = self.image.core.read_directory(self.directory, position, &mut |entry| {
            if batch.len() == BATCH {
                return false;
            }
            position = entry.next;
            if entry.name != b"." && entry.name != b".." {
                batch.push_back(Entry {
                    name: OsStr::from_bytes(entry.name).to_owned(),
                    inode: entry.inode,
                    file_type: u32::from(entry.file_type) << 12,
                });
            }
            true
        });
        self.position = if self.batch.len() == BATCH { Some(position) } else { None };
        self.image.about(&self.path, result)
    }
}

impl Iterator for ReadDir<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty() {
            let position = self.position.take()?;
            if let Err(error) = self.fill(position) {
                return Some(Err(error));
            }
        }
        self.batch.pop_front().map(Ok)
    }
}

/// A place that a walk came to.
#[derive(Clone, Debug)]
pub struct WalkEntry {
    /// The place, below the path that the walk was asked for.
    pub path: PathBuf,
    /// Its inode number.
    pub number: u64,
    /// Its attributes.
    pub inode: Inode,
    /// How far below the start: 0 for the start itself.
    pub depth: usize,
}

/// The directories from the start of a walk down to the one it is in, by device and number. In a
/// damaged image a directory may be its own ancestor, and a walk that went into it again would never
/// end.
#[derive(Default)]
pub(crate) struct Ancestors(Vec<(u64, u64)>);

impl Ancestors {
    /// Goes into a directory so many levels below the start.
    pub fn enter(&mut self, directory: (u64, u64), depth: usize) -> Result<(), CoreError> {
        self.0.truncate(depth);
        if self.0.contains(&directory) {
            return Err(own_ancestor(directory.1));
        }
        if depth > DIRECTORY_DEPTH_MAX {
            return Err(CoreError::NameTooLong);
        }
        self.0.push(directory);
        Ok(())
    }
}

/// The error for a directory that is found below itself.
pub(crate) fn own_ancestor(directory: u64) -> CoreError {
    CoreError::Corrupt { place: directory, what: "directory that is its own ancestor" }
}

/// Walks a tree: each directory before what is in it, names in the order of their bytes. Symbolic
/// links are not followed. What vanishes while the walk is on its way is left out.
pub struct Walk<'a> {
    files: Files<'a>,
    /// The device that the walk began on, where it stays.
    device: u64,
    /// What is still to be visited, last first.
    stack: Vec<(PathBuf, usize)>,
    ancestors: Ancestors,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(files: Files<'a>, path: &Path) -> Result<Self> {
        let start = files.attributes(path, LastLink::Follow)?;
        let stack = vec![(path.to_owned(), 0)];
        Ok(Self { files, device: start.device, stack, ancestors: Ancestors::default() })
    }

    fn visit(&mut self, path: PathBuf, depth: usize) -> Result<Option<WalkEntry>> {
        let last = if depth == 0 { LastLink::Follow } else { LastLink::Keep };
        let Some(found) = unless_gone(self.files.attributes(&path, last))? else {
            return Ok(None);
        };
        if found.device != self.device {
            return Ok(None);
        }
        if found.inode.is_directory() {
            let entered = self.ancestors.enter(found.identity(), depth);
            entered.map_err(|error| self.files.error(&path, error))?;
            let Some(entries) = unless_gone(self.files.list(&path))? else { return Ok(None) };
            let entries = entries.into_iter().rev();
            self.stack.extend(entries.map(|entry| (path.join(&entry.name), depth + 1)));
        }
        Ok(Some(WalkEntry { path, number: found.number, inode: found.inode, depth }))
    }
}

/// Nothing for what has vanished: its name is gone, or was so between the look at the name and that
/// at the inode.
fn unless_gone<T>(result: Result<T>) -> Result<Option<T>> {
    let is_gone = |error: &Error| error.is_not_found() || error.core() == Some(&CoreError::Stale);
    match result {
        Err(error) if is_gone(&error) => Ok(None),
        result => result.map(Some),
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<WalkEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (path, depth) = self.stack.pop()?;
            if let Some(entry) = self.visit(path, depth).transpose() {
                return Some(entry);
            }
        }
    }
}

impl Image {
    /// Lists the directory at `path`, in the order it is stored in.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> Result<ReadDir<'_>> {
        let path = path.as_ref();
        let number = self.resolve(path)?;
        if !self.about(path, self.core.inode(number))?.is_directory() {
            return self.about(path, Err(CoreError::NotDirectory));
        }
        Ok(self.list(number, path))
    }

    fn list(&self, directory: u64, path: &Path) -> ReadDir<'_> {
        ReadDir {
            image: self,
            path: path.to_owned(),
            directory,
            batch: VecDeque::new(),
            position: Some(0),
        }
    }

    /// Walks the tree at `path`, which may also be a single file; a symbolic link there is
    /// followed.
    pub fn walk(&self, path: impl AsRef<Path>) -> Result<Walk<'_>> {
        Walk::new(Files::Image(self), path.as_ref())
    }
}
