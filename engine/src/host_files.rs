// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The files of the machine, by the calls of the operating system. Those of a mounted VexFS are among
//! them; what only these have is in `mount`.

use crate::error::{Error, Reason, Result};
use crate::files::{Attributes, Xattr};
use crate::listing::Entry;
use crate::mount;
use crate::path::LastLink;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, StatxAttributes, StatxFlags, Timespec,
    Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use vexfs_core::layout::ATTRIBUTE_BYTES_MAX;
use vexfs_core::{
    Error as CoreError, Inode, MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_SOCKET,
    MODE_TYPE, NewInode, RenameMode, SetAttributes, Timestamp,
};

/// Bytes of a sector, in which the machine counts the space of a file.
const SECTOR_BYTES: u64 = 512;

/// An error of the machine about one of its files.
pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(path, Reason::Host(error))
}

pub(crate) fn errno(path: &Path) -> impl Fn(Errno) -> Error {
    move |errno| failed(path)(errno.into())
}

/// The directory above a path, as it is written; none above the root and `.`.
pub(crate) fn above(path: &Path) -> Option<&Path> {
    let above = path.parent()?;
    if !above.as_os_str().is_empty() {
        return Some(above);
    }
    (path != Path::new(".")).then_some(Path::new("."))
}

fn at_flags(last: LastLink) -> AtFlags {
    match last {
        LastLink::Follow => AtFlags::empty(),
        LastLink::Keep => AtFlags::SYMLINK_NOFOLLOW,
    }
}

pub(crate) fn attributes(path: &Path, last: LastLink) -> Result<Attributes> {
    let metadata = match last {
        LastLink::Follow => path.metadata(),
        LastLink::Keep => path.symlink_metadata(),
    };
    Ok(to_attributes(&metadata.map_err(failed(path))?))
}

fn to_attributes(metadata: &Metadata) -> Attributes {
    let time = |seconds: i64, nanoseconds: i64| Timestamp {
        seconds,
        nanoseconds: nanoseconds.clamp(0, 999_999_999) as u32,
    };
    let device = metadata.rdev();
    let block_bytes = metadata.blksize().max(SECTOR_BYTES);
    Attributes {
        device: metadata.dev(),
        number: metadata.ino(),
        inode: Inode {
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            links: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
            size: metadata.size(),
            blocks: metadata.blocks().saturating_mul(SECTOR_BYTES) / block_bytes,
            generation: 0,
            content_version: 0,
            change: 0,
            device: u64::from(rustix::fs::major(device)) << 32
                | u64::from(rustix::fs::minor(device)),
            flags: 0,
            accessed: time(metadata.atime(), metadata.atime_nsec()),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
            born: born(metadata),
        },
    }
}

/// When a file was made; 1970 where the machine does not know.
fn born(metadata: &Metadata) -> Timestamp {
    let since = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanoseconds: since.subsec_nanos(),
    }
}

pub(crate) fn list(path: &Path) -> Result<Vec<Entry>> {
    use std::os::unix::fs::{DirEntryExt, FileTypeExt};
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed(path))? {
        let entry = entry.map_err(failed(path))?;
        let file_type = match entry.file_type() {
            Ok(kind) if kind.is_dir() => MODE_DIRECTORY,
            Ok(kind) if kind.is_symlink() => vexfs_core::MODE_SYMLINK,
            Ok(kind) if kind.is_fifo() => MODE_FIFO,
            Ok(kind) if kind.is_socket() => MODE_SOCKET,
            Ok(kind) if kind.is_block_device() => MODE_BLOCK,
            Ok(kind) if kind.is_char_device() => MODE_CHARACTER,
            Ok(_) => vexfs_core::MODE_FILE,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(&path.join(entry.file_name()))(error)),
        };
        entries.push(Entry { name: entry.file_name(), inode: entry.ino(), file_type });
    }
    Ok(entries)
}

/// The names of a file's extended attributes; none where the file system has no such thing.
pub(crate) fn xattr_names(path: &Path, last: LastLink) -> Result<Vec<Vec<u8>>> {
    let mut list = vec![0; ATTRIBUTE_BYTES_MAX];
    let listed = match last {
        LastLink::Follow => rustix::fs::listxattr(path, &mut list[..]),
        LastLink::Keep => rustix::fs::llistxattr(path, &mut list[..]),
    };
    let length = match listed {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok(Vec::new()),
        Err(error) => return Err(errno(path)(error)),
    };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(<[u8]>::to_vec).collect())
}

/// The extended attributes of a file, with their whole values.
pub(crate) fn xattrs(path: &Path, last: LastLink) -> Result<Vec<Xattr>> {
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    let mut attributes = Vec::new();
    for name in xattr_names(path, last)? {
        let os_name = OsStr::from_bytes(&name);
        let read = match last {
            LastLink::Follow => rustix::fs::getxattr(path, os_name, &mut value[..]),
            LastLink::Keep => rustix::fs::lgetxattr(path, os_name, &mut value[..]),
        };
        match read {
            Ok(length) => attributes.push((name, value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(error) => return Err(errno(path)(error)),
        }
    }
    Ok(attributes)
}

pub(crate) fn set_xattr(path: &Path, last: LastLink, name: &[u8], value: &[u8]) -> Result<()> {
    let (name, flags) = (OsStr::from_bytes(name), XattrFlags::empty());
    let set = match last {
        LastLink::Follow => rustix::fs::setxattr(path, name, value, flags),
        LastLink::Keep => rustix::fs::lsetxattr(path, name, value, flags),
    };
    set.map_err(errno(path))
}

pub(crate) fn set_attributes(path: &Path, last: LastLink, set: &SetAttributes) -> Result<()> {
    let flags = at_flags(last);
    if set.uid.is_some() || set.gid.is_some() {
        let owner = (set.uid.map(Uid::from_raw), set.gid.map(Gid::from_raw));
        rustix::fs::chownat(CWD, path, owner.0, owner.1, flags).map_err(errno(path))?;
    }
    if let (Some(mode), LastLink::Follow) = (set.mode, last) {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(errno(path))?;
    }
    if set.accessed.is_none() && set.modified.is_none() {
        return Ok(());
    }
    let time = |time: Option<Timestamp>| match time {
        Some(time) => Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds) },
        None => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
    };
    let times =
        Timestamps { last_access: time(set.accessed), last_modification: time(set.modified) };
    rustix::fs::utimensat(CWD, path, &times, flags).map_err(errno(path))
}

pub(crate) fn create(path: &Path, new: &NewInode) -> Result<()> {
    let mode = Mode::from_raw_mode(new.mode & 0o7777);
    let device = rustix::fs::makedev((new.device >> 32) as u32, new.device as u32);
    let file_type = match new.mode & MODE_TYPE {
        MODE_DIRECTORY => return create_directory(path, mode),
        MODE_FIFO => FileType::Fifo,
        MODE_SOCKET => FileType::Socket,
        MODE_BLOCK => FileType::BlockDevice,
        MODE_CHARACTER => FileType::CharacterDevice,
        _ => FileType::RegularFile,
    };
    rustix::fs::mknodat(CWD, path, file_type, mode, device).map_err(errno(path))
}

fn create_directory(path: &Path, mode: Mode) -> Result<()> {
    rustix::fs::mkdir(path, mode).map_err(errno(path))?;
    match mode.intersects(Mode::SUID | Mode::SGID) {
        // The call above takes them for nothing.
        true => rustix::fs::chmod(path, mode).map_err(errno(path)),
        false => Ok(()),
    }
}

pub(crate) fn create_all(path: &Path, new: &NewInode) -> Result<()> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
    for path in missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty()) {
        match create(path, new) {
            // Another process was faster.
            Err(error) if error.errno() == Errno::EXIST.raw_os_error() && path.is_dir() => {}
            result => result?,
        }
    }
    match path.metadata().map_err(failed(path))?.is_dir() {
        true => Ok(()),
        false => Err(Error::new(path, CoreError::NotDirectory)),
    }
}

pub(crate) fn hard_link(existing: &Path, path: &Path) -> Result<()> {
    let linked = rustix::fs::linkat(CWD, existing, CWD, path, AtFlags::empty());
    linked.map_err(|error| errno(at_fault(existing, path))(error))
}

pub(crate) fn rename(from: &Path, to: &Path, mode: RenameMode) -> Result<()> {
    let flags = match mode {
        RenameMode::Replace => RenameFlags::empty(),
        RenameMode::NoReplace => RenameFlags::NOREPLACE,
        RenameMode::Exchange => RenameFlags::EXCHANGE,
    };
    let renamed = rustix::fs::renameat_with(CWD, from, CWD, to, flags);
    renamed.map_err(|error| match error {
        Errno::INVAL => Error::new(to, Reason::IntoItself),
        error => errno(at_fault(from, to))(error),
    })
}

/// Which of two paths an error is about: the second, unless the first is missing.
fn at_fault<'a>(first: &'a Path, second: &'a Path) -> &'a Path {
    if first.symlink_metadata().is_err() { first } else { second }
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let length = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    // Without its slashes, a link to a directory is the link.
    let name = Path::new(OsStr::from_bytes(&bytes[..length]));
    let refused = |what| Err(Error::new(path, CoreError::Invalid(what)));
    if length == 0 || is_mount_top(name).unwrap_or(false) {
        return refused("the root directory has no name that could be changed");
    }
    // Whose name cannot be removed is not emptied either, as in rm(1).
    if matches!(bytes[..length].rsplit(|byte| *byte == b'/').next(), Some(b"." | b"..")) {
        return refused("`.` and `..` cannot be removed");
    }
    let removed = name.symlink_metadata().and_then(|metadata| match metadata.is_dir() {
        true => std::fs::remove_dir_all(name),
        false => std::fs::remove_file(name),
    });
    removed.map_err(failed(path))
}

/// Whether something is mounted at a path.
pub(crate) fn is_mount_top(path: &Path) -> rustix::io::Result<bool> {
    let status = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether `path`, which need not be there, is below the directory with this device and number, or
/// is the directory itself.
pub(crate) fn is_below(path: &Path, directory: (u64, u64)) -> Result<bool> {
    let holder = above(path).unwrap_or(Path::new(".")).canonicalize().map_err(failed(path))?;
    for above in holder.ancestors() {
        let metadata = above.symlink_metadata().map_err(failed(path))?;
        if (metadata.dev(), metadata.ino()) == directory {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A regular file of the machine, open.
#[derive(Debug)]
pub struct HostFile {
    pub(crate) file: File,
    /// What errors call it.
    pub(crate) path: PathBuf,
    /// It has no name yet, and is to get one.
    staged: bool,
}

impl HostFile {
    pub(crate) fn open(path: &Path, for_change: bool) -> Result<Self> {
        Self::open_with(path, File::options().read(true).write(for_change))
    }

    fn open_with(path: &Path, options: &mut OpenOptions) -> Result<Self> {
        // What is no regular file could keep the call waiting; it is told by its type.
        let nonblocking = OFlags::NONBLOCK.bits() as i32;
        let file = match options.custom_flags(nonblocking).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                return Err(Error::new(path, CoreError::IsDirectory));
            }
            Err(error) => return Err(failed(path)(error)),
        };
        let file_type = file.metadata().map_err(failed(path))?.file_type();
        if file_type.is_dir() {
            return Err(Error::new(path, CoreError::IsDirectory));
        }
        if !file_type.is_file() {
            return Err(Error::new(path, CoreError::Invalid("not a regular file")));
        }
        Ok(Self { file, path: path.to_owned(), staged: false })
    }

    pub(crate) fn create(path: &Path, permissions: u32) -> Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(permissions & 0o7777);
        match Self::open_with(path, &mut options) {
            // One that may be written and not read.
            Err(error) if error.errno() == Errno::ACCESS.raw_os_error() => {
                Self::open_with(path, options.read(false))
            }
            result => result,
        }
    }

    /// A file that becomes `to`: on a mounted VexFS one without a name, elsewhere `to` itself.
    pub(crate) fn stage(to: &Path, permissions: u32) -> Result<Self> {
        // Of a file that is there its own directory, through links.
        let there = to.canonicalize().ok();
        if there.is_some() {
            // What cannot become `to` is refused before anything is written.
            drop(Self::open_with(to, File::options().write(true))?);
        }
        let directory = above(there.as_deref().unwrap_or(to)).unwrap_or(Path::new("."));
        if to.file_name().is_none() || !mount::is_on_vexfs(directory) {
            return Self::create(to, permissions);
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(permissions & 0o7777);
        match rustix::fs::open(directory, flags, mode) {
            Ok(file) => Ok(Self { file: File::from(file), path: to.to_owned(), staged: true }),
            // A file may be written to in a directory where none may be made.
            Err(Errno::ACCESS) if there.is_some() => Self::create(to, permissions),
            Err(error) => Err(errno(to)(error)),
        }
    }

    /// Puts a file of [`HostFile::stage`] at its place. One that is there keeps its inode, its names,
    /// owner and permissions, and gets the bytes.
    pub(crate) fn publish(&self, to: &Path) -> Result<()> {
        if !self.staged {
            return Ok(());
        }
        match self.link(to) {
            Err(Errno::EXIST) => self.replace(to),
            result => result.map_err(errno(to)),
        }
    }

    fn link(&self, to: &Path) -> rustix::io::Result<()> {
        use std::os::fd::AsRawFd;
        match rustix::fs::linkat(&self.file, "", CWD, to, AtFlags::EMPTY_PATH) {
            // Older kernels let only the superuser do so.
            Err(Errno::NOENT) => {
                let name = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                rustix::fs::linkat(CWD, name, CWD, to, AtFlags::SYMLINK_FOLLOW)
            }
            result => result,
        }
    }

    /// Makes bytes and vectors of the file at `to` those of this one, by sharing its blocks.
    fn replace(&self, to: &Path) -> Result<()> {
        let target = Self::open_with(to, File::options().write(true))?;
        let length = self.len()?;
        if target.len()? > length {
            // A part of a block can only become the last of a file.
            target.set_len(length)?;
        }
        rustix::fs::ioctl_ficlone(&target.file, &self.file).map_err(errno(to))
    }

    pub(crate) fn number(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(failed(&self.path))?.ino())
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.file.metadata().map_err(failed(&self.path))?.len())
    }

    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        self.file.read_at(buffer, offset).map_err(failed(&self.path))
    }

    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(failed(&self.path))
    }

    pub(crate) fn set_len(&self, size: u64) -> Result<()> {
        self.file.set_len(size).map_err(failed(&self.path))
    }

    /// The next range that may have been written, from `offset` on.
    pub(crate) fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        use rustix::fs::{SeekFrom, seek};
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(start) => Some((start, seek(&self.file, SeekFrom::Hole(start)).unwrap_or(u64::MAX))),
            Err(Errno::NXIO) => None,
            // A file system that cannot tell holes.
            Err(_) => Some((offset, u64::MAX)),
        }
    }

    /// Makes the bytes, and on a VexFS the vectors, those of `source` by sharing blocks. False when
    /// that is not possible.
    pub(crate) fn clone_from(&self, source: &Self) -> bool {
        rustix::fs::ioctl_ficlone(self.file.as_fd(), source.file.as_fd()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_up_from_a_path_ends() {
        let up = |path| std::iter::successors(Some(Path::new(path)), |path| above(path));
        assert_eq!(up("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", "/"].map(Path::new));
        assert_eq!(up("a/b").collect::<Vec<_>>(), ["a/b", "a", "."].map(Path::new));
        assert_eq!(up("./a").collect::<Vec<_>>(), ["./a", "."].map(Path::new));
        assert_eq!(up("").count(), 1);
    }
}
