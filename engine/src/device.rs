// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! An image file or a block device, opened and locked against other processes.

use crate::error::{Error, Reason, Result};
use crate::mounts::find_mount;
use rustix::fs::{Advice, FallocateFlags, FlockOperation, Mode, OFlags, fadvise};
use rustix::ioctl::{Getter, Opcode, ioctl, opcode};
use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vexfs_core::{BlockDevice, DeviceError, Error as CoreError};

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; others may read too.
    Read,
    /// Reading and writing, alone.
    Write,
    /// As `Write`, but also if a block device is mounted or an image file is attached to a loop
    /// device, for a user who insists. It destroys what the kernel has mounted.
    WriteClaimed,
}

/// An image file or a block device. Clones share one open file and its lock, which is held until
/// the last of them is dropped.
///
/// The lock is `flock(2)` on the image itself: shared by readers, exclusive for a writer. A block
/// device is opened with `O_EXCL` for writing as well, which the kernel refuses while it is mounted
/// or otherwise claimed.
#[derive(Clone, Debug)]
pub struct Device {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    path: PathBuf,
    size_bytes: AtomicU64,
    is_block_device: bool,
}

impl Drop for Inner {
    /// A child process that another thread is starting holds a copy of the descriptor until it
    /// runs its program, and with it the lock, which only this ends at once.
    fn drop(&mut self) {
        // It fails where there was no lock to begin with.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

impl Device {
    /// Opens what is at `path` and locks it.
    ///
    /// Errors: those of `open(2)`; [`Reason::InUse`] while another process has it open, or this one
    /// does, or a loop device is attached to it, and [`Reason::Mounted`] while it is mounted;
    /// `ReadOnly` for writing to a block device that takes none; [`Reason::NotImage`] when it is
    /// neither a regular file nor a block device.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let failed = |error: io::Error| Error::new(path, Reason::Host(error));
        // A fifo or a terminal would block or react to being opened: looked at before.
        let file_type = std::fs::metadata(path).map_err(failed)?.file_type();
        let is_block_device = file_type.is_block_device();
        if !file_type.is_file() && !is_block_device {
            return Err(Error::new(path, Reason::NotImage));
        }
        let mut flags = match access {
            Access::Read => OFlags::RDONLY,
            Access::Write | Access::WriteClaimed => OFlags::RDWR,
        };
        flags |= OFlags::CLOEXEC | OFlags::NONBLOCK;
        if is_block_device && access == Access::Write {
            flags |= OFlags::EXCL;
        }
        if access == Access::Write && loop_device(path).is_some() {
            return Err(Error::new(path, in_use(path)));
        }
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::BUSY) => return Err(Error::new(path, in_use(path))),
            Err(errno) => return Err(failed(errno.into())),
        };
        if is_block_device && access != Access::Read && is_read_only(&file) {
            return Err(Error::new(path, CoreError::ReadOnly));
        }
        if is_block_device && access == Access::Read {
            // A file system that is mounted writes past what the kernel remembers of its device.
            let _ = fadvise(&file, 0, None, Advice::DontNeed);
        }
        Self::locked(file, path, access, is_block_device)
    }

    /// Makes a new, empty image file for writing; nothing may be at `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| Error::new(path, Reason::Host(error)))?;
        Self::locked(file, path, Access::Write, false)
    }

    fn locked(file: File, path: &Path, access: Access, is_block_device: bool) -> Result<Self> {
        let operation = match access {
            Access::Read => FlockOperation::NonBlockingLockShared,
            Access::Write | Access::WriteClaimed => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::new(path, Reason::InUse)),
            // A reader of a file system without locks cannot be hurt by a writer that could not
            // have locked it either.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOLCK)
                if access == Access::Read => {}
            Err(errno) => return Err(Error::new(path, Reason::Host(errno.into()))),
        }
        // A block device tells its size only by where it ends.
        let size_bytes = (&file)
            .seek(SeekFrom::End(0))
            .map_err(|error| Error::new(path, Reason::Host(error)))?;
        let inner = Inner {
            file,
            path: path.to_owned(),
            size_bytes: AtomicU64::new(size_bytes),
            is_block_device,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.inner.is_block_device
    }

    /// Makes an image file larger (never smaller); the new bytes are zeros and take no space.
    ///
    /// Errors: a size below the present one, or other than that of a block device.
    pub fn grow(&self, size_bytes: u64) -> Result<()> {
        let present = self.size_bytes();
        if size_bytes < present || (self.is_block_device() && size_bytes != present) {
            return Err(Error::new(self.path(), Reason::Size { present, asked: size_bytes }));
        }
        if size_bytes > present {
            let grown = self.inner.file.set_len(size_bytes);
            grown.map_err(|error| Error::new(self.path(), Reason::Host(error)))?;
            self.inner.size_bytes.store(size_bytes, Ordering::Release);
        }
        Ok(())
    }

    /// Writes zeros, whatever the alignment.
    pub fn write_zeros(&self, offset: u64, length: u64) -> Result<()> {
        const ZEROS: &[u8] = &[0; 64 << 10];
        let mut at = offset;
        let end = offset.saturating_add(length);
        while at < end {
            let part = (end - at).min(ZEROS.len() as u64);
            let written = self.inner.file.write_all_at(&ZEROS[..part as usize], at);
            written.map_err(|error| Error::new(self.path(), Reason::Host(error)))?;
            at += part;
        }
        Ok(())
    }

    /// Reads up to a buffer from `offset`, whatever the alignment; less at the end.
    pub fn read_some(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let read = self.inner.file.read_at(buffer, offset);
        read.map_err(|error| Error::new(self.path(), Reason::Host(error)))
    }
}

/// Whether nobody may write to a block device, which the kernel opens for writing all the same.
fn is_read_only(device: &File) -> bool {
    /// Of `linux/fs.h`.
    const BLKROGET: Opcode = opcode::none(0x12, 94);
    // SAFETY: the command of this number fills in an `int`.
    let command = unsafe { Getter::<BLKROGET, c_int>::new() };
    // SAFETY: it has no other effect, and what is no block device refuses it.
    unsafe { ioctl(device, command) }.is_ok_and(|flag| flag != 0)
}

/// Why the kernel keeps a device for itself.
fn in_use(path: &Path) -> Reason {
    find_mount(path).map_or(Reason::InUse, |mounted| Reason::Mounted(mounted.at))
}

/// The loop device that an image file is attached to, which takes no `flock(2)`, as a directory of
/// `/sys`.
pub(crate) fn loop_device(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    let backing = |device: &Path| std::fs::read(device.join("loop/backing_file"));
    let mut devices =
        std::fs::read_dir("/sys/block").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    devices.find(|device| {
        backing(device).is_ok_and(|name| name.trim_ascii_end() == path.as_os_str().as_bytes())
    })
}

/// The core's form of a host error at `offset`.
fn device_error(offset: u64) -> impl Fn(io::Error) -> DeviceError {
    // An error without a number is a read beyond the end: the image was cut while it was open.
    move |error| DeviceError {
        errno: error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()),
        offset,
    }
}

impl BlockDevice for Device {
    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes.load(Ordering::Acquire)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.file.read_exact_at(buffer, offset).map_err(device_error(offset))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        self.inner.file.write_all_at(data, offset).map_err(device_error(offset))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.inner.file.sync_data().map_err(device_error(0))
    }

    /// Punches a hole, which a block device takes for a discard whose blocks read as zeros.
    fn discard(&self, offset: u64, length: u64) -> Result<(), DeviceError> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.inner.file, flags, offset, length)
            .map_err(|errno| device_error(offset)(errno.into()))
    }
}
