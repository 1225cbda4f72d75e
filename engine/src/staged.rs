// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files of an image that get their bytes before their name, so that no failure leaves a part of them
//! under it.

use crate::error::Result;
use crate::file::File;
use crate::image::Image;
use crate::path::LastLink;
use std::path::Path;
use vexfs_core::{Error as CoreError, MODE_FILE, NewInode};

impl Image {
    /// Makes a file without a name that is to become `to`, and opens it. It takes the place by
    /// [`Image::publish_file`]; if it is dropped before, it is gone, and `to` is what it was.
    ///
    /// Errors: as for making or writing to `to`, but for those of space.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("i.vexfs");
    /// # use vexfs_engine::{CreateOptions, Image};
    /// # use std::path::Path;
    /// let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
    /// image.write_file("/report", b"old")?;
    /// let file = image.stage_file(Path::new("/report"), 0o644, (0, 0))?;
    /// file.write_at(0, b"new")?;
    /// assert_eq!(image.read_file("/report")?, b"old");
    /// image.publish_file(&file, Path::new("/report"))?;
    /// assert_eq!(image.read_file("/report")?, b"new");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stage_file(&self, to: &Path, permissions: u32, owner: (u32, u32)) -> Result<File<'_>> {
        // What cannot become `to` is refused before anything is written.
        match self.find(to, LastLink::Follow)? {
            Some(number) => drop(self.open_inode(number, to)?),
            None => drop(self.resolve_parent(to)?),
        }
        self.unnamed_file(to, permissions, owner)
    }

    fn unnamed_file(&self, to: &Path, permissions: u32, owner: (u32, u32)) -> Result<File<'_>> {
        let mode = MODE_FILE | (permissions & 0o7777);
        let made = self.core.create_unnamed(&NewInode { mode, owner, device: 0 }, &[]);
        let number = self.about(to, made)?;
        let file = self.open_inode(number, to);
        // From here on the open file alone holds it.
        self.about(to, self.core.close_inode(number))?;
        file
    }

    /// Puts a file of [`Image::stage_file`] at its place. A file that is there keeps its inode, its
    /// names, owner and permissions, and gets the new bytes, and the new file's vectors; its own
    /// become stale. Returns the inode number of what is at `to` now.
    ///
    /// Errors: those of space; `to` is then what it was.
    pub fn publish_file(&self, file: &File<'_>, to: &Path) -> Result<u64> {
        let number = match self.find(to, LastLink::Follow)? {
            Some(number) => number,
            None => match self.link_inode(file.number(), to) {
                Ok(()) => return Ok(file.number()),
                // Another thread was faster. (A link that leads nowhere stays an error.)
                Err(error) if matches!(error.core(), Some(CoreError::Exists)) => {
                    self.resolve(to)?
                }
                Err(error) => return Err(error),
            },
        };
        self.replace_content(file.number(), number, to)?;
        let _changing = self.changes.lock([file.number(), number]);
        self.about(to, self.core.clone_vectors(file.number(), number))?;
        Ok(number)
    }

    /// Makes the bytes of file `number`, which is at `to`, those of `from`, by sharing its blocks.
    fn replace_content(&self, from: u64, number: u64, to: &Path) -> Result<()> {
        let target = self.open_inode(number, to)?;
        {
            let _changing = self.changes.lock([from, number]);
            match self.core.replace_content(from, number) {
                Err(CoreError::TooBig(_)) => {}
                result => return self.about(to, result),
            }
        }
        // Cloning in steps takes space for metadata, which may run out halfway: the old bytes are
        // kept at hand, at the price of metadata again.
        let old = self.unnamed_file(to, 0o600, (0, 0))?;
        let _changing = self.changes.lock([from, number, old.number()]);
        let clone = |from: u64, to: u64| self.core.clone_range(from, 0, to, 0, 0);
        self.about(to, clone(number, old.number()))?;
        let replace = |from: u64| {
            self.core.truncate(target.number(), 0).and_then(|()| clone(from, target.number()))
        };
        self.about(
            to,
            replace(from).inspect_err(|_| {
                // The error that is told is the first; a second would have the same reason.
                let _ = replace(old.number());
            }),
        )
    }
}
