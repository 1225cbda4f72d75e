// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A regular file of an image, held open.

use crate::error::{Error, Reason, Result};
use crate::image::Image;
use crate::path::LastLink;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use vexfs_core::{Error as CoreError, Inode, MODE_FILE, NewInode};

/// A regular file, held open: it lives on when its last name goes, until this is dropped.
///
/// Reads and writes are not buffered; for many small ones use [`std::io::BufReader`] and
/// [`std::io::BufWriter`]. A write of up to 8 MiB is whole or not at all; it is durable after
/// [`Image::sync`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("i.vexfs");
/// # use vexfs_engine::{CreateOptions, Image};
/// use std::io::{Read, Seek, SeekFrom, Write};
///
/// # let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
/// let mut file = image.create_file("/log", 0o644)?;
/// write!(file, "one line\n")?;
/// file.seek(SeekFrom::Start(4))?;
/// let mut rest = String::new();
/// file.read_to_string(&mut rest)?;
/// assert_eq!(rest, "line\n");
/// # Ok(())
/// # }
/// ```
pub struct File<'a> {
    image: &'a Image,
    number: u64,
    path: PathBuf,
    position: u64,
}

impl<'a> File<'a> {
    /// Holds inode `number` open; `path` is what errors call it.
    fn hold(image: &'a Image, number: u64, path: &Path) -> Result<Self> {
        let inode = image.about(path, image.core.open_inode(number))?;
        let file = Self { image, number, path: path.to_owned(), position: 0 };
        if inode.is_file() {
            return Ok(file);
        }
        let error = match inode.is_directory() {
            true => CoreError::IsDirectory,
            false => CoreError::Invalid("not a regular file"),
        };
        image.about(path, Err(error))
    }

    /// Its inode number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its attributes.
    pub fn inode(&self) -> Result<Inode> {
        self.about(self.image.core.inode(self.number))
    }

    /// Reads from `offset` on; less than the buffer only at the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.about(self.image.core.read(self.number, offset, buffer))
    }

    /// Writes at `offset`; the file grows as needed.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let _changing = self.image.changes.lock([self.number]);
        self.about(self.image.core.write(self.number, offset, bytes))
    }

    /// Cuts the file, or lets it grow by zeros that take no space.
    pub fn set_len(&self, size: u64) -> Result<()> {
        let _changing = self.image.changes.lock([self.number]);
        self.about(self.image.core.truncate(self.number, size))
    }

    /// Takes space for a range, so that writes to it do not fail for want of space. The file grows
    /// to the range's end unless `keep_size`.
    pub fn preallocate(&self, offset: u64, length: u64, keep_size: bool) -> Result<()> {
        let _changing = self.image.changes.lock([self.number]);
        self.about(self.image.core.preallocate(self.number, offset, length, keep_size))
    }

    /// Frees a range, which reads as zeros afterwards.
    pub fn punch(&self, offset: u64, length: u64) -> Result<()> {
        let _changing = self.image.changes.lock([self.number]);
        self.about(self.image.core.punch(self.number, offset, length))
    }

    /// The next range that may have been written, from `offset` on: where it begins and ends.
    pub fn next_data(&self, offset: u64) -> Result<Option<(u64, u64)>> {
        match self.image.core.seek_data(self.number, offset) {
            Ok(start) => {
                Ok(Some((start, self.about(self.image.core.seek_hole(self.number, start))?)))
            }
            Err(CoreError::NoSuchOffset) => Ok(None),
            Err(error) => self.about(Err(error)),
        }
    }

    /// Puts a file of [`Image::stage_file`] at its place; see [`Image::publish_file`].
    pub fn publish(&self, to: &Path) -> Result<()> {
        self.image.publish_file(self, to).map(drop)
    }

    /// Makes bytes and vectors of this empty file those of `source` without copying them. False if
    /// the two are in different images.
    pub(crate) fn clone_from(&self, source: &File<'_>) -> Result<bool> {
        if !std::ptr::eq(self.image, source.image) {
            return Ok(false);
        }
        let _changing = self.image.changes.lock([source.number, self.number]);
        let core = &self.image.core;
        self.about(core.clone_range(source.number, 0, self.number, 0, 0))?;
        self.about(core.clone_vectors(source.number, self.number))?;
        Ok(true)
    }

    pub(crate) fn image(&self) -> &'a Image {
        self.image
    }

    pub(crate) fn about<T>(&self, result: Result<T, CoreError>) -> Result<T> {
        self.image.about(&self.path, result)
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        // What a failure leaves is noted on the device and done at the next writable open.
        let _ = self.image.core.close_inode(self.number);
    }
}

impl Read for File<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read_at(self.position, buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for File<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_at(self.position, bytes)?;
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Does nothing: writes are not buffered, and [`Image::sync`] makes them durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.inode()?.size.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Image {
    /// Opens a regular file; symbolic links are followed.
    pub fn open_file(&self, path: impl AsRef<Path>) -> Result<File<'_>> {
        let path = path.as_ref();
        File::hold(self, self.resolve(path)?, path)
    }

    /// Opens the regular file of this inode number; `path` is what errors call it.
    pub fn open_inode(&self, number: u64, path: impl AsRef<Path>) -> Result<File<'_>> {
        File::hold(self, number, path.as_ref())
    }

    /// Makes a file of user and group 0 with these permissions, or empties the one that is there,
    /// and opens it.
    pub fn create_file(&self, path: impl AsRef<Path>, permissions: u32) -> Result<File<'_>> {
        self.create_file_with(path.as_ref(), permissions, (0, 0))
    }

    /// Makes a file with these permissions, user and group, or empties the one that is there, and
    /// opens it. A file that is there keeps its permissions and owner.
    pub fn create_file_with(
        &self,
        path: &Path,
        permissions: u32,
        owner: (u32, u32),
    ) -> Result<File<'_>> {
        if let Some(number) = self.find(path, LastLink::Follow)? {
            let file = File::hold(self, number, path)?;
            file.set_len(0)?;
            return Ok(file);
        }
        let mode = MODE_FILE | (permissions & 0o7777);
        let number = match self.create_node(path, &NewInode { mode, owner, device: 0 }) {
            // Another thread was faster. (A link that leads nowhere stays an error.)
            Err(Error { reason: Reason::Core(CoreError::Exists), .. }) => self.resolve(path)?,
            other => other?,
        };
        File::hold(self, number, path)
    }

    /// All bytes of a file.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("i.vexfs");
    /// # use vexfs_engine::{CreateOptions, Image};
    /// let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
    /// image.write_file("/greeting", b"hello")?;
    /// assert_eq!(image.read_file("/greeting")?, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<Vec<u8>> {
        const READ_BYTES: usize = 1 << 20;
        let file = self.open_file(path)?;
        let mut bytes = Vec::new();
        loop {
            // Grown as it is read: the size that an inode claims is not asked for beforehand.
            let length = bytes.len();
            bytes.resize(length + READ_BYTES, 0);
            let read = file.read_at(length as u64, &mut bytes[length..])?;
            bytes.truncate(length + read);
            if read < READ_BYTES {
                return Ok(bytes);
            }
        }
    }

    /// Makes a file with these bytes, or gives them to the one that is there, with permissions 0644.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
        self.create_file(path, 0o644)?.write_at(0, bytes)
    }
}
