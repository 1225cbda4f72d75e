// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! An image in use: making, opening, syncing and closing it.

use crate::committer::Committer;
use crate::device::{Access, Device};
use crate::error::{Error, Reason, Result};
use crate::host::host;
use crate::inode_locks::InodeLocks;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vexfs_core::{BlockDevice, Error as CoreError, FileSystem, FileSystemStatus, FormatOptions};

/// How to make a file system.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Identity; `None` draws a random one.
    pub uuid: Option<[u8; 16]>,
    /// Name: at most 64 bytes without NUL.
    pub label: String,
    /// Bytes of a block: a power of two from 4096 to 65536.
    pub block_bytes: u32,
    /// User and group of the root directory.
    pub owner: (u32, u32),
    /// Permissions of the root directory.
    pub mode: u32,
    /// Whether [`Image::create`] may overwrite a file or device that exists.
    pub overwrite: bool,
}

impl Default for CreateOptions {
    /// A random identity, no label, blocks of 4096 bytes, a root directory of user 0 with
    /// permissions 0755, nothing overwritten.
    fn default() -> Self {
        Self {
            uuid: None,
            label: String::new(),
            block_bytes: 4096,
            owner: (0, 0),
            mode: 0o755,
            overwrite: false,
        }
    }
}

impl CreateOptions {
    /// The core's form; `bytes` of the device are used, 0 for all.
    fn format_options(&self, bytes: u64) -> Result<FormatOptions, CoreError> {
        let mut label = [0; 64];
        let bytes_of_label = self.label.as_bytes();
        match label.get_mut(..bytes_of_label.len()) {
            Some(start) if !bytes_of_label.contains(&0) => start.copy_from_slice(bytes_of_label),
            _ => return Err(CoreError::Invalid("a label has at most 64 bytes and no NUL")),
        }
        if !self.block_bytes.is_power_of_two() {
            return Err(CoreError::Invalid("block size must be a power of two"));
        }
        Ok(FormatOptions {
            uuid: self.uuid.unwrap_or_default(),
            label,
            block_log2: self.block_bytes.trailing_zeros(),
            bytes,
            owner: self.owner,
            mode: self.mode,
        })
    }
}

/// How to open a file system.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Never write to the image; it may be a file that cannot be written.
    pub read_only: bool,
    /// Tell the device (or the file system that holds the image file) of space that is free again.
    pub discard: bool,
    /// Bytes of metadata to keep in memory.
    pub cache_bytes: usize,
    /// Make changes durable this often, and bring search graphs nearer to their vectors, from a
    /// thread of its own; `None` leaves it to [`Image::sync`] and [`Image::close`], and to the file
    /// system when much has changed.
    pub commit_interval: Option<Duration>,
}

impl Default for OpenOptions {
    /// For reading and writing, without discards, 64 MiB of metadata, a commit every five seconds.
    fn default() -> Self {
        Self {
            read_only: false,
            discard: false,
            cache_bytes: 64 << 20,
            commit_interval: Some(Duration::from_secs(5)),
        }
    }
}

impl OpenOptions {
    /// The default, but for reading only.
    pub fn read_only() -> Self {
        Self { read_only: true, commit_interval: None, ..Self::default() }
    }
}

/// A file system on an image file or a block device, in use.
///
/// All methods take `&self`; an image may be shared by threads, many of which read while one or
/// more write. Changes are atomic one by one and durable after [`Image::sync`]. Dropping an image
/// commits what it can; [`Image::close`] tells whether that worked.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("notes.vexfs");
/// use vexfs_engine::{CreateOptions, Image, OpenOptions};
///
/// let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
/// image.create_dir_all("/notes/2024", 0o755)?;
/// image.symlink("2024", "/notes/latest")?;
/// image.close()?;
///
/// let image = Image::open(&path, &OpenOptions::read_only())?;
/// assert!(image.metadata("/notes/latest")?.is_directory());
/// # Ok(())
/// # }
/// ```
pub struct Image {
    pub(crate) core: Arc<FileSystem>,
    pub(crate) changes: InodeLocks,
    committer: Option<Committer>,
    device: Device,
}

impl Image {
    /// Makes a file system at `path` and opens it with the default options.
    ///
    /// With a size, an image file is made, or grown, to that many bytes; without one, what is there
    /// is used whole. What exists is only overwritten if the options allow it.
    ///
    /// Errors: `Exists`, [`Reason::InUse`], [`Reason::Size`], options out of range.
    pub fn create(
        path: impl AsRef<Path>,
        size_bytes: Option<u64>,
        options: &CreateOptions,
    ) -> Result<Self> {
        let path = path.as_ref();
        if size_bytes.is_some() && !path.exists() {
            let device = Device::create(path)?;
            return Self::create_on(device, size_bytes, options).inspect_err(|_| {
                // Made by this call, so nothing is lost; that it stays would be the lesser evil.
                let _ = std::fs::remove_file(path);
            });
        }
        let device = Device::open(path, Access::Write)?;
        if !options.overwrite {
            return Err(Error::new(path, CoreError::Exists));
        }
        Self::create_on(device, size_bytes, options)
    }

    /// Makes a file system on a device opened for writing, whatever it holds, and opens it.
    pub fn create_on(
        device: Device,
        size_bytes: Option<u64>,
        options: &CreateOptions,
    ) -> Result<Self> {
        let failed = |error| Error::new(device.path(), Reason::Core(error));
        // Refused before an existing file is made larger.
        let bytes = match size_bytes {
            Some(bytes) if device.is_block_device() => bytes,
            _ => 0,
        };
        let format_options = options.format_options(bytes).map_err(failed)?;
        if let Some(size_bytes) = size_bytes.filter(|_| !device.is_block_device()) {
            device.grow(size_bytes)?;
        }
        FileSystem::format(host(device.clone()), &format_options).map_err(failed)?;
        Self::open_on(device, &OpenOptions::default())
    }

    /// Opens the file system at `path`. Nothing is written before the first change, and nothing
    /// ever if opened for reading only.
    ///
    /// Errors: [`Reason::InUse`] while another process has it open and one of the two writes;
    /// `NotVexfs`, `UnknownFeatures`, and damage.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self> {
        let access = if options.read_only { Access::Read } else { Access::Write };
        Self::open_on(Device::open(path.as_ref(), access)?, options)
    }

    /// Opens the file system on a device, which must be open for writing unless the options say
    /// reading only.
    pub fn open_on(device: Device, options: &OpenOptions) -> Result<Self> {
        let failed = |error| Error::new(device.path(), Reason::Core(error));
        let core_options = vexfs_core::OpenOptions {
            read_only: options.read_only,
            discard: options.discard,
            cache_bytes: options.cache_bytes,
        };
        let core = FileSystem::open(host(device.clone()), &core_options).map_err(failed)?;
        if !options.read_only {
            match core.reap_orphans() {
                // They stay noted: damage is for a repair, and space may be made.
                Err(error) if error.is_damage() || error == CoreError::NoSpace => {}
                result => drop(result.map_err(failed)?),
            }
        }
        let core = Arc::new(core);
        let committer = match options.commit_interval {
            Some(interval) if !options.read_only => Some(
                Committer::start(core.clone(), interval)
                    .map_err(|error| Error::new(device.path(), Reason::Host(error)))?,
            ),
            _ => None,
        };
        Ok(Self { core, changes: InodeLocks::new(), committer, device })
    }

    /// The device or file it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes of the device or file, which may be more than the file system uses.
    pub fn device_bytes(&self) -> u64 {
        self.device.size_bytes()
    }

    /// The core, for what this crate has no words for. Whoever changes inodes through it has to see
    /// to it that no two threads change one inode's bytes or entries at a time.
    pub fn core(&self) -> &FileSystem {
        &self.core
    }

    /// Space, counts and identity.
    pub fn status(&self) -> FileSystemStatus {
        self.core.status()
    }

    /// Whether nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.core.is_read_only()
    }

    /// Sets the label: at most 64 bytes without NUL.
    pub fn set_label(&self, label: &str) -> Result<()> {
        self.about_image(self.core.set_label(label))
    }

    /// Makes all changes so far durable.
    pub fn sync(&self) -> Result<()> {
        self.about_image(self.core.commit())
    }

    /// Makes all changes durable and lets go of the image. Search graphs that have changed are
    /// stored too if there is space, so that the next to open it need not build them again. Files
    /// that were removed while open are taken apart at the next writable open.
    pub fn close(mut self) -> Result<()> {
        self.committer = None;
        // First what was changed: graphs can be built again, and are not worth its loss.
        let closed = self.core.commit().and_then(|()| {
            match self.core.store_graphs() {
                Err(error) if error.errno() == CoreError::NoSpace.errno() => {}
                result => result?,
            }
            self.core.commit()?;
            self.core.settle()
        });
        self.about_image(closed)
    }

    /// Names the image in an error.
    pub(crate) fn about_image<T>(&self, result: Result<T, CoreError>) -> Result<T> {
        result.map_err(|error| Error::new(self.device.path(), self.reason(error)))
    }

    /// The reason for an error, which for the refusals after a failure of the device is that failure.
    pub(crate) fn reason(&self, reason: impl Into<Reason>) -> Reason {
        match (reason.into(), self.core.device_failure()) {
            (Reason::Core(CoreError::Poisoned), Some(failure)) => Reason::Stopped(failure),
            (reason, _) => reason,
        }
    }

    /// Names a place in the image in an error.
    pub(crate) fn about<T, E: Into<Reason>>(&self, path: &Path, result: Result<T, E>) -> Result<T> {
        result.map_err(|reason| Error::new(self.object(path), self.reason(reason)))
    }

    /// How errors call a place: `IMAGE:/path`.
    pub(crate) fn object(&self, path: &Path) -> OsString {
        let mut object = self.device.path().as_os_str().to_owned();
        object.push(OsStr::from_bytes(b":"));
        object.push(path);
        object
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.committer = None;
        // Whoever wants to know calls `close`.
        let _ = self.core.commit().and_then(|()| self.core.settle());
    }
}
