// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Copying between an image and the host's files, and within an image.

use crate::error::{Error, Reason, Result};
use crate::file::File;
use crate::image::Image;
use crate::listing::Ancestors;
use crate::path::LastLink;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vexfs_core::layout::ATTRIBUTE_BYTES_MAX;
use vexfs_core::{
    Error as CoreError, Inode, MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE,
    MODE_SOCKET, MODE_SYMLINK, NewInode, SetAttributes, Timestamp, XattrMode,
};

/// Bytes moved at a time.
pub(crate) const COPY_BYTES: usize = 1 << 20;

/// How to copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Copy directories with all below them; symbolic links are then copied as links. Otherwise
    /// links are followed and directories refused.
    pub recursive: bool,
    /// Keep mode, owner, times, extended attributes and hard links. Otherwise copies have the
    /// permissions of their originals but belong to [`CopyOptions::owner`] and are new.
    pub preserve: bool,
    /// User and group of copies in an image that are not told by `preserve`.
    pub owner: (u32, u32),
}

/// What was copied.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, device nodes and the like.
    pub others: u64,
    /// Bytes of files, holes not counted.
    pub bytes: u64,
    /// What could not be copied, or not with all its attributes. The rest was.
    pub failures: Vec<Error>,
}

/// The name and the value of an extended attribute.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// Told now and then while copying: the source that is being copied, and the bytes moved since the
/// last call.
pub type Progress<'a> = &'a mut dyn FnMut(&Path, u64);

/// An error of the host about one of its files.
fn host_error(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::new(path, Reason::Host(error))
}

fn errno_error(path: &Path) -> impl Fn(rustix::io::Errno) -> Error {
    move |errno| host_error(path)(errno.into())
}

impl Image {
    /// Copies a file or tree of the host to `to`, which names the copy itself. A directory that is
    /// there already is merged with, a file that is there gets the new bytes, and keeps its inode,
    /// names, owner and permissions. Directories and files that cannot be read are reported and
    /// passed over.
    ///
    /// Each file is copied whole or not at all: until all its bytes are there, `to` is what it was.
    /// (Unless power fails at the very end, when the old file or the new one has more than 1024
    /// extents: some 500 MiB in one piece, with blocks of 4 KiB. `to` may then be cut short.)
    ///
    /// Without [`CopyOptions::recursive`] what a fifo or a device gives is copied until it ends, as
    /// cp(1) does it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("i.vexfs");
    /// # use vexfs_engine::{CopyOptions, CreateOptions, Image};
    /// # let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
    /// # let letters = directory.path().join("letters");
    /// # std::fs::create_dir(&letters)?;
    /// # std::fs::write(letters.join("a.txt"), "Dear A")?;
    /// let options = CopyOptions { recursive: true, ..CopyOptions::default() };
    /// let report = image.copy_in(&letters, "/letters", &options, &mut |_, _| ())?;
    /// assert!(report.failures.is_empty());
    /// assert_eq!(image.read_file("/letters/a.txt")?, b"Dear A");
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_in(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        let mut copy = CopyIn::new(self, options, progress);
        copy.run(from.as_ref(), to.as_ref())?;
        Ok(copy.report)
    }

    /// Copies what `source` gives until it ends to the file `to`, as [`Image::copy_in`] does with a
    /// file; `name` is what errors and progress call it.
    pub fn copy_stream_in(
        &self,
        source: &mut dyn Read,
        name: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        let mut copy = CopyIn::new(self, options, progress);
        copy.copy_stream(source, name.as_ref(), to.as_ref(), 0o644, options.owner)?;
        Ok(copy.report)
    }

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
        let made = self.core.create_unnamed(&NewInode { mode, owner, device: 0 });
        let number = self.about(to, made)?;
        let file = self.open_inode(number, to);
        // From here on the open file alone holds it.
        self.about(to, self.core.close_inode(number))?;
        file
    }

    /// Puts a file of [`Image::stage_file`] at its place. A file that is there keeps its inode, its
    /// names, owner and permissions, and gets the new bytes; its vectors become stale. Returns the
    /// inode number of what is at `to` now.
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

    /// Copies a file or tree of the image to `to` on the host, as [`Image::copy_in`] does the other
    /// way. Device nodes need the right to make them.
    pub fn copy_out(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        let mut copy = CopyOut {
            image: self,
            options,
            progress,
            report: CopyReport::default(),
            copied: HashMap::new(),
            ancestors: Ancestors::default(),
            buffer: vec![0; COPY_BYTES],
        };
        copy.run(from.as_ref(), to.as_ref())?;
        Ok(copy.report)
    }

    /// Reads the whole value of each extended attribute of an inode.
    pub(crate) fn all_xattrs(&self, number: u64) -> Result<Vec<Xattr>, CoreError> {
        let mut names = Vec::new();
        self.core.list_xattrs(number, &mut |name| {
            names.push(name.to_vec());
            true
        })?;
        names
            .into_iter()
            .map(|name| Ok((name.clone(), self.core.get_xattr(number, &name)?)))
            .collect()
    }
}

struct CopyIn<'a> {
    image: &'a Image,
    options: &'a CopyOptions,
    progress: Progress<'a>,
    report: CopyReport,
    /// Inodes of the host with several names, and their copies.
    copied: HashMap<(u64, u64), u64>,
    buffer: Vec<u8>,
}

impl<'a> CopyIn<'a> {
    fn new(image: &'a Image, options: &'a CopyOptions, progress: Progress<'a>) -> Self {
        Self {
            image,
            options,
            progress,
            report: CopyReport::default(),
            copied: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    fn run(&mut self, from: &Path, to: &Path) -> Result<()> {
        // Directories get their attributes after what is in them, last first.
        let mut finished = Vec::new();
        let mut stack = vec![(from.to_owned(), to.to_owned())];
        let mut first = true;
        while let Some((from, to)) = stack.pop() {
            match self.copy_one(&from, &to, &mut stack) {
                Ok(Some(directory)) => finished.push(directory),
                Ok(None) => {}
                // No place for one is no place for the others.
                Err(error) if first || self.is_fatal(&error) => return Err(error),
                Err(error) => self.report.failures.push(error),
            }
            first = false;
        }
        for (number, from, metadata) in finished.into_iter().rev() {
            if let Err(error) = self.preserve(number, &from, &metadata) {
                self.report.failures.push(error);
            }
        }
        Ok(())
    }

    fn is_fatal(&self, error: &Error) -> bool {
        self.image.is_read_only()
            || matches!(error.core(), Some(CoreError::NoSpace | CoreError::Device(_)))
    }

    /// Copies one thing; a directory's entries go to `stack`. Returns a directory whose attributes
    /// are still to be set.
    fn copy_one(
        &mut self,
        from: &Path,
        to: &Path,
        stack: &mut Vec<(PathBuf, PathBuf)>,
    ) -> Result<Option<(u64, PathBuf, std::fs::Metadata)>> {
        let failed = host_error(from);
        let metadata = match self.options.recursive {
            true => from.symlink_metadata(),
            false => from.metadata(),
        }
        .map_err(&failed)?;
        let identity = (metadata.dev(), metadata.ino());
        let shared = self.options.preserve && metadata.nlink() > 1 && !metadata.is_dir();
        if let Some(number) = self.copied.get(&identity).filter(|_| shared) {
            self.make_room(to)?;
            self.image.link_inode(*number, to)?;
            self.report.others += 1;
            return Ok(None);
        }
        (self.progress)(from, 0);
        let file_type = metadata.mode() & vexfs_core::MODE_TYPE;
        let owner = match self.options.preserve {
            true => (metadata.uid(), metadata.gid()),
            false => self.options.owner,
        };
        let new = NewInode { mode: file_type | (metadata.mode() & 0o777), owner, device: 0 };
        let number = match file_type {
            MODE_DIRECTORY if !self.options.recursive => {
                return Err(Error::new(from, CoreError::IsDirectory));
            }
            MODE_DIRECTORY => {
                let number = match self.image.find(to, LastLink::Follow)? {
                    Some(number) => number,
                    None => self.image.create_node(to, &new)?,
                };
                if !self.image.about(to, self.image.core.inode(number))?.is_directory() {
                    return Err(Error::new(self.image.object(to), CoreError::NotDirectory));
                }
                let mut entries = Vec::new();
                for entry in std::fs::read_dir(from).map_err(&failed)? {
                    entries.push(entry.map_err(&failed)?.file_name());
                }
                entries.sort_unstable_by(|a, b| b.cmp(a));
                stack.extend(entries.iter().map(|name| (from.join(name), to.join(name))));
                self.report.directories += 1;
                return Ok(self.options.preserve.then(|| (number, from.to_owned(), metadata)));
            }
            MODE_FILE => {
                let source = std::fs::File::options()
                    .read(true)
                    .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                    .open(from)
                    .map_err(&failed)?;
                let file = self.image.stage_file(to, metadata.mode() & 0o777, owner)?;
                self.copy_bytes(&source, from, &file)?;
                self.report.files += 1;
                self.image.publish_file(&file, to)?
            }
            MODE_FIFO | MODE_BLOCK | MODE_CHARACTER if !self.options.recursive => {
                let mut source = std::fs::File::open(from).map_err(&failed)?;
                self.copy_stream(&mut source, from, to, metadata.mode() & 0o777, owner)?
            }
            MODE_SYMLINK => {
                let target = std::fs::read_link(from).map_err(&failed)?;
                self.make_room(to)?;
                self.report.others += 1;
                self.image.symlink_with(target.as_os_str(), to, owner)?
            }
            MODE_FIFO | MODE_SOCKET => {
                self.make_room(to)?;
                self.report.others += 1;
                self.image.create_node(to, &new)?
            }
            MODE_BLOCK | MODE_CHARACTER => {
                self.make_room(to)?;
                let device = metadata.rdev();
                let device = u64::from(rustix::fs::major(device)) << 32
                    | u64::from(rustix::fs::minor(device));
                self.report.others += 1;
                self.image.create_node(to, &NewInode { device, ..new })?
            }
            _ => return Err(Error::new(from, CoreError::NotSupported("a file of unknown type"))),
        };
        if shared {
            self.copied.insert(identity, number);
        }
        if self.options.preserve {
            self.preserve(number, from, &metadata)?;
        }
        Ok(None)
    }

    /// Removes what is at the place of a copy, unless it is a directory.
    fn make_room(&self, to: &Path) -> Result<()> {
        match self.image.remove_file(to) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Copies what the source has written; holes stay holes.
    fn copy_bytes(&mut self, source: &std::fs::File, from: &Path, to: &File<'_>) -> Result<()> {
        let failed = host_error(from);
        self.buffer.resize(COPY_BYTES, 0);
        let mut offset = 0;
        let mut sparse = true;
        loop {
            if sparse {
                match rustix::fs::seek(source, rustix::fs::SeekFrom::Data(offset)) {
                    Ok(data) => offset = data,
                    Err(rustix::io::Errno::NXIO) => break,
                    // The host cannot tell holes.
                    Err(_) => sparse = false,
                }
            }
            let read = source.read_at(&mut self.buffer, offset).map_err(&failed)?;
            if read == 0 {
                break;
            }
            to.write_at(offset, &self.buffer[..read])?;
            offset += read as u64;
            self.report.bytes += read as u64;
            (self.progress)(from, read as u64);
        }
        let size = source.metadata().map_err(&failed)?.len();
        if size > to.inode()?.size {
            to.set_len(size)?;
        }
        Ok(())
    }

    /// Copies what a source gives until it ends, and returns the inode number of the copy.
    fn copy_stream(
        &mut self,
        source: &mut dyn Read,
        from: &Path,
        to: &Path,
        permissions: u32,
        owner: (u32, u32),
    ) -> Result<u64> {
        let failed = host_error(from);
        let file = self.image.stage_file(to, permissions, owner)?;
        let mut offset = 0;
        loop {
            self.buffer.clear();
            // Pipes give little at a time; larger writes make larger extents.
            let mut part = (&mut *source).take(COPY_BYTES as u64);
            let read = part.read_to_end(&mut self.buffer).map_err(&failed)?;
            if read == 0 {
                break;
            }
            file.write_at(offset, &self.buffer)?;
            offset += read as u64;
            self.report.bytes += read as u64;
            (self.progress)(from, read as u64);
        }
        self.report.files += 1;
        self.image.publish_file(&file, to)
    }

    /// Gives a copy the attributes of its original.
    fn preserve(&mut self, number: u64, from: &Path, metadata: &std::fs::Metadata) -> Result<()> {
        for (name, value) in host_xattrs(from).map_err(errno_error(from))? {
            let set =
                self.image.set_xattr(number, OsStr::from_bytes(&name), &value, XattrMode::Set);
            if let Err(mut error) = set {
                // Said once with the name of the file, not of the image.
                error.object = from.as_os_str().to_owned();
                self.report.failures.push(error);
            }
        }
        let time = |seconds: i64, nanoseconds: i64| Timestamp {
            seconds,
            nanoseconds: nanoseconds.clamp(0, 999_999_999) as u32,
        };
        let set = SetAttributes {
            mode: (!metadata.is_symlink()).then_some(metadata.mode() & 0o7777),
            uid: Some(metadata.uid()),
            gid: Some(metadata.gid()),
            accessed: Some(time(metadata.atime(), metadata.atime_nsec())),
            modified: Some(time(metadata.mtime(), metadata.mtime_nsec())),
            ..SetAttributes::default()
        };
        self.image.set_attributes(number, &set)?;
        Ok(())
    }
}

/// The extended attributes of a file of the host; none where it has no such thing.
fn host_xattrs(path: &Path) -> rustix::io::Result<Vec<Xattr>> {
    use rustix::io::Errno;
    let mut list = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::PERM | Errno::ACCESS) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
    let mut attributes = Vec::new();
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]) {
            Ok(length) => attributes.push((name.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(attributes)
}

/// Something of the image that is still to be copied out.
struct Waiting {
    from: PathBuf,
    number: u64,
    to: PathBuf,
    /// Levels below the start.
    depth: usize,
}

struct CopyOut<'a> {
    image: &'a Image,
    options: &'a CopyOptions,
    progress: Progress<'a>,
    report: CopyReport,
    /// Inodes of the image with several names, and where their first copy is.
    copied: HashMap<u64, PathBuf>,
    ancestors: Ancestors,
    buffer: Vec<u8>,
}

impl CopyOut<'_> {
    fn run(&mut self, from: &Path, to: &Path) -> Result<()> {
        let last = if self.options.recursive { LastLink::Keep } else { LastLink::Follow };
        let start = self.image.resolve_with(from, last)?;
        let mut finished = Vec::new();
        let start = Waiting { from: from.to_owned(), number: start, to: to.to_owned(), depth: 0 };
        let mut stack = vec![start];
        let mut first = true;
        while let Some(waiting) = stack.pop() {
            match self.copy_one(&waiting, &mut stack) {
                Ok(Some(inode)) => finished.push((waiting.number, inode, waiting.to)),
                Ok(None) => {}
                Err(error) if first || error.errno() == CoreError::NoSpace.errno() => {
                    return Err(error);
                }
                Err(error) => self.report.failures.push(error),
            }
            first = false;
        }
        for (number, inode, to) in finished.into_iter().rev() {
            if let Err(error) = self.finish(number, &inode, &to) {
                self.report.failures.push(error);
            }
        }
        Ok(())
    }

    /// Copies one thing; a directory's entries go to `stack`. Returns a directory whose attributes
    /// are still to be set.
    fn copy_one(
        &mut self,
        Waiting { from, number, to, depth }: &Waiting,
        stack: &mut Vec<Waiting>,
    ) -> Result<Option<Inode>> {
        let (number, depth) = (*number, *depth);
        let failed = host_error(to);
        let inode = self.image.about(from, self.image.core.inode(number))?;
        let shared = self.options.preserve && inode.links > 1 && !inode.is_directory();
        if let Some(first) = self.copied.get(&number).filter(|_| shared) {
            make_room(to)?;
            std::fs::hard_link(first, to).map_err(&failed)?;
            self.report.others += 1;
            return Ok(None);
        }
        (self.progress)(from, 0);
        let device =
            |inode: &Inode| rustix::fs::makedev((inode.device >> 32) as u32, inode.device as u32);
        let permissions = Mode::from_raw_mode(inode.mode & 0o777);
        match inode.file_type() {
            MODE_DIRECTORY => {
                if !self.options.recursive {
                    return Err(Error::new(self.image.object(from), CoreError::IsDirectory));
                }
                self.image.about(from, self.ancestors.enter(number, depth))?;
                match std::fs::create_dir(to) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && to.is_dir() => {}
                    other => other.map_err(&failed)?,
                }
                let mut entries = Vec::new();
                for entry in self.image.list(number, from) {
                    entries.push(entry?);
                }
                entries.sort_unstable_by(|a, b| b.name.cmp(&a.name));
                stack.extend(entries.iter().map(|entry| Waiting {
                    from: from.join(&entry.name),
                    number: entry.inode,
                    to: to.join(&entry.name),
                    depth: depth + 1,
                }));
                self.report.directories += 1;
                return Ok(Some(inode));
            }
            MODE_FILE => {
                let source = self.image.open_inode(number, from)?;
                let target = std::fs::File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(inode.mode & 0o777)
                    .open(to)
                    .map_err(&failed)?;
                self.copy_bytes(&source, from, &target, to)?;
                self.report.files += 1;
            }
            MODE_SYMLINK => {
                let target = self.image.about(from, self.image.core.read_link(number))?;
                make_room(to)?;
                std::os::unix::fs::symlink(OsStr::from_bytes(&target), to).map_err(&failed)?;
                self.report.others += 1;
            }
            file_type => {
                let (file_type, device) = match file_type {
                    MODE_FIFO => (FileType::Fifo, 0),
                    MODE_SOCKET => (FileType::Socket, 0),
                    MODE_BLOCK => (FileType::BlockDevice, device(&inode)),
                    _ => (FileType::CharacterDevice, device(&inode)),
                };
                make_room(to)?;
                rustix::fs::mknodat(CWD, to, file_type, permissions, device)
                    .map_err(errno_error(to))?;
                self.report.others += 1;
            }
        }
        if shared {
            self.copied.insert(number, to.to_owned());
        }
        if self.options.preserve {
            self.finish(number, &inode, to)?;
        }
        Ok(None)
    }

    fn copy_bytes(
        &mut self,
        source: &File<'_>,
        from: &Path,
        target: &std::fs::File,
        to: &Path,
    ) -> Result<()> {
        let failed = host_error(to);
        let mut offset = 0;
        while let Some((start, end)) = source.next_data(offset)? {
            offset = start;
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                let read = source.read_at(offset, &mut self.buffer[..wanted])?;
                if read == 0 {
                    break;
                }
                target.write_all_at(&self.buffer[..read], offset).map_err(&failed)?;
                offset += read as u64;
                self.report.bytes += read as u64;
                (self.progress)(from, read as u64);
            }
            offset = end;
        }
        target.set_len(source.inode()?.size).map_err(&failed)
    }

    /// Gives a copy the attributes of its original; a directory that need not keep them its
    /// permissions, as far as the process's mask allows.
    fn finish(&mut self, number: u64, inode: &Inode, to: &Path) -> Result<()> {
        if !self.options.preserve {
            return Ok(());
        }
        let failed = errno_error(to);
        let is_link = inode.file_type() == MODE_SYMLINK;
        let no_follow = AtFlags::SYMLINK_NOFOLLOW;
        let owner = (Some(Uid::from_raw(inode.uid)), Some(Gid::from_raw(inode.gid)));
        match rustix::fs::chownat(CWD, to, owner.0, owner.1, no_follow) {
            // As cp(1) does it: who is not root keeps what they copy, without its set-id bits.
            Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => {}
            other => other.map_err(&failed)?,
        }
        if !is_link {
            rustix::fs::chmodat(
                CWD,
                to,
                Mode::from_raw_mode(inode.mode & 0o7777),
                AtFlags::empty(),
            )
            .map_err(&failed)?;
        }
        for (name, value) in self.image.all_xattrs(number).map_err(|e| Error::new(to, e))? {
            let name = OsString::from_vec(name);
            if let Err(errno) =
                rustix::fs::lsetxattr(to, name.as_os_str(), &value, XattrFlags::empty())
            {
                self.report.failures.push(failed(errno));
            }
        }
        let time = |time: Timestamp| Timespec {
            tv_sec: time.seconds,
            tv_nsec: i64::from(time.nanoseconds),
        };
        let times = Timestamps {
            last_access: time(inode.accessed),
            last_modification: time(inode.modified),
        };
        rustix::fs::utimensat(CWD, to, &times, no_follow).map_err(&failed)
    }
}

/// Removes what is at the place of a copy, unless it is a directory.
fn make_room(to: &Path) -> Result<()> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(host_error(to)(error)),
        _ => Ok(()),
    }
}
