// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Copying files and trees: into an image, out of one, within one, from one to another, and between
//! a mounted VexFS and the rest of the machine.

use crate::error::{Error, Reason, Result};
use crate::files::{Attributes, Files};
use crate::image::Image;
use crate::listing::Ancestors;
use crate::open_file::OpenFile;
use crate::path::LastLink;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use vexfs_core::{
    Error as CoreError, MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE,
    MODE_SOCKET, MODE_SYMLINK, NewInode, SetAttributes,
};

/// Bytes moved at a time.
const COPY_BYTES: usize = 1 << 20;

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

/// Told now and then while copying: the source that is being copied, and the bytes moved since the
/// last call.
pub type Progress<'a> = &'a mut dyn FnMut(&Path, u64);

/// Copies a file or tree of `source` to `to`, which names the copy itself in `target`. A directory
/// that is there already is merged with, a file that is there gets the new bytes, and keeps its
/// inode, names, owner and permissions. What cannot be copied is reported, and the rest copied.
///
/// In an image or on a mounted VexFS each file is copied whole or not at all: until all its bytes are
/// there, `to` is what it was. (Unless power fails at the very end, when the old file or the new one
/// has more than 1024 extents, some 500 MiB in one piece with blocks of 4 KiB, or a file was there
/// and the VexFS is mounted. `to` may then be cut short; so it may, whatever fails, on a mounted VexFS
/// where the process may write to the file that is there and make none beside it.)
///
/// Within one VexFS the copies of files share their blocks with the originals until either is
/// written to, and have the same vectors; from one to another vectors are not copied.
///
/// Without [`CopyOptions::recursive`] what a fifo or a device of the machine gives is copied until
/// it ends, as cp(1) does it.
pub fn copy(
    source: Files<'_>,
    from: &Path,
    target: Files<'_>,
    to: &Path,
    options: &CopyOptions,
    progress: Progress<'_>,
) -> Result<CopyReport> {
    let mut copying = Copying::new(source, target, options, progress);
    copying.run(from, to)?;
    Ok(copying.report)
}

/// Copies what `source` gives until it ends to the file `to`, as [`copy`] does with a file; `name` is
/// what errors and progress call it.
pub fn copy_stream(
    source: &mut dyn Read,
    name: &Path,
    target: Files<'_>,
    to: &Path,
    options: &CopyOptions,
    progress: Progress<'_>,
) -> Result<CopyReport> {
    let mut copying = Copying::new(target, target, options, progress);
    copying.copy_stream(source, name, to, 0o644, options.owner)?;
    Ok(copying.report)
}

impl Image {
    /// Copies a file or tree of the host to `to`, as [`copy`] does.
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
        copy(Files::Host, from.as_ref(), Files::Image(self), to.as_ref(), options, progress)
    }

    /// Copies a file or tree of the image to `to` on the host, as [`copy`] does.
    pub fn copy_out(
        &self,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        copy(Files::Image(self), from.as_ref(), Files::Host, to.as_ref(), options, progress)
    }

    /// Copies a file or tree of `source`, which may be this same image, to `to`, as [`copy`] does.
    pub fn copy_from(
        &self,
        source: &Image,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        let (from, to) = (from.as_ref(), to.as_ref());
        copy(Files::Image(source), from, Files::Image(self), to, options, progress)
    }
}

struct Copying<'a> {
    source: Files<'a>,
    target: Files<'a>,
    options: &'a CopyOptions,
    progress: Progress<'a>,
    report: CopyReport,
    /// Sources with several names, and where the first copy of each is.
    copied: HashMap<(u64, u64), PathBuf>,
    ancestors: Ancestors,
    buffer: Vec<u8>,
}

/// A source that is still to be copied, and where to.
struct Waiting {
    from: PathBuf,
    to: PathBuf,
    /// Levels below the start.
    depth: usize,
}

impl<'a> Copying<'a> {
    fn new(
        source: Files<'a>,
        target: Files<'a>,
        options: &'a CopyOptions,
        progress: Progress<'a>,
    ) -> Self {
        Self {
            source,
            target,
            options,
            progress,
            report: CopyReport::default(),
            copied: HashMap::new(),
            ancestors: Ancestors::default(),
            buffer: Vec::new(),
        }
    }

    /// Whether a link is copied as such.
    fn last(&self) -> LastLink {
        if self.options.recursive { LastLink::Keep } else { LastLink::Follow }
    }

    fn run(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.refuse_into_itself(from, to)?;
        // Directories get their attributes after what is in them, last first.
        let mut finished = Vec::new();
        let mut stack = vec![Waiting { from: from.to_owned(), to: to.to_owned(), depth: 0 }];
        let mut first = true;
        while let Some(waiting) = stack.pop() {
            match self.copy_one(&waiting, &mut stack) {
                Ok(Some(directory)) => finished.push((waiting, directory)),
                Ok(None) => {}
                // No place for one is no place for the others.
                Err(error) if first || self.target.is_read_only() || error.stops_writing() => {
                    return Err(error);
                }
                Err(error) => self.report.failures.push(error),
            }
            first = false;
        }
        for (Waiting { from, to, .. }, directory) in finished.into_iter().rev() {
            if let Err(error) = self.preserve(&from, &to, &directory) {
                self.report.failures.push(error);
            }
        }
        Ok(())
    }

    /// Refuses to copy a directory to a place below it.
    fn refuse_into_itself(&self, from: &Path, to: &Path) -> Result<()> {
        let found = self.source.attributes(from, self.last())?;
        let endless = found.inode.is_directory()
            && self.options.recursive
            && self.source.is_same(&self.target)
            && self.target.is_below(to, &found)?;
        if endless { Err(self.target.error(to, Reason::IntoItself)) } else { Ok(()) }
    }

    /// Copies one thing; a directory's entries go to `stack`. Returns a directory whose attributes
    /// are still to be set.
    fn copy_one(
        &mut self,
        waiting: &Waiting,
        stack: &mut Vec<Waiting>,
    ) -> Result<Option<Attributes>> {
        let Waiting { from, to, .. } = waiting;
        let found = self.source.attributes(from, self.last())?;
        let inode = &found.inode;
        let shared = self.options.preserve && inode.links > 1 && !inode.is_directory();
        if let Some(copy) = self.copied.get(&found.identity()).filter(|_| shared) {
            self.make_room(to)?;
            self.target.hard_link(copy, to)?;
            self.report.others += 1;
            return Ok(None);
        }
        (self.progress)(from, 0);
        let owner = match self.options.preserve {
            true => (inode.uid, inode.gid),
            false => self.options.owner,
        };
        let permissions = inode.mode & 0o777;
        let new = NewInode { mode: inode.file_type() | permissions, owner, device: inode.device };
        match inode.file_type() {
            MODE_DIRECTORY => {
                self.copy_directory(waiting, &found, &new, stack)?;
                return Ok(self.options.preserve.then_some(found));
            }
            MODE_FILE => self.copy_file(from, to, &found, &new)?,
            MODE_FIFO | MODE_BLOCK | MODE_CHARACTER
                if !self.options.recursive && matches!(self.source, Files::Host) =>
            {
                let failed = |error| self.source.error(from, Reason::Host(error));
                let mut source = std::fs::File::open(from).map_err(failed)?;
                self.copy_stream(&mut source, from, to, permissions, owner)?;
            }
            MODE_SYMLINK => {
                let target = self.source.read_link(from)?;
                self.make_room(to)?;
                self.report.others += 1;
                self.target.symlink(target.as_os_str(), to, owner)?;
            }
            MODE_FIFO | MODE_SOCKET | MODE_BLOCK | MODE_CHARACTER => {
                self.make_room(to)?;
                self.report.others += 1;
                self.target.create(to, &new)?;
            }
            _ => {
                let unknown = CoreError::NotSupported("a file of unknown type");
                return Err(self.source.error(from, unknown));
            }
        }
        if shared {
            self.copied.insert(found.identity(), to.clone());
        }
        if self.options.preserve {
            self.preserve(from, to, &found)?;
        }
        Ok(None)
    }

    /// Makes a directory, unless it is there, and lists what is to be copied into it.
    fn copy_directory(
        &mut self,
        Waiting { from, to, depth }: &Waiting,
        found: &Attributes,
        new: &NewInode,
        stack: &mut Vec<Waiting>,
    ) -> Result<()> {
        if !self.options.recursive {
            return Err(self.source.error(from, CoreError::IsDirectory));
        }
        let entered = self.ancestors.enter(found.identity(), *depth);
        entered.map_err(|error| self.source.error(from, error))?;
        match self.target.find(to, LastLink::Follow)? {
            Some(there) if there.inode.is_directory() => {}
            Some(_) => return Err(self.target.error(to, CoreError::NotDirectory)),
            None => self.target.create(to, new)?,
        }
        let entries = self.source.list(from)?.into_iter().rev();
        stack.extend(entries.map(|entry| Waiting {
            from: from.join(&entry.name),
            to: to.join(&entry.name),
            depth: depth + 1,
        }));
        self.report.directories += 1;
        Ok(())
    }

    fn copy_file(
        &mut self,
        from: &Path,
        to: &Path,
        found: &Attributes,
        new: &NewInode,
    ) -> Result<()> {
        if self.source.is_same(&self.target) {
            let there = self.target.find(to, LastLink::Follow)?;
            if there.is_some_and(|there| there.identity() == found.identity()) {
                return Err(self.target.error(to, Reason::IntoItself));
            }
        }
        let source = self.source.open(from)?;
        let copy = self.target.stage(to, new.mode & 0o777, new.owner)?;
        self.copy_bytes(&source, from, &copy)?;
        copy.publish(to)?;
        self.report.files += 1;
        Ok(())
    }

    /// Copies what the source has written; holes stay holes.
    fn copy_bytes(
        &mut self,
        source: &OpenFile<'_>,
        from: &Path,
        copy: &OpenFile<'_>,
    ) -> Result<()> {
        if copy.clone_from(source)? {
            let size = source.size()?;
            self.report.bytes += size;
            (self.progress)(from, size);
            return Ok(());
        }
        self.buffer.resize(COPY_BYTES, 0);
        let mut offset = 0;
        'ranges: while let Some((start, end)) = source.next_data(offset)? {
            offset = start;
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                let read = source.read_at(offset, &mut self.buffer[..wanted])?;
                if read == 0 {
                    break 'ranges;
                }
                copy.write_at(offset, &self.buffer[..read])?;
                offset += read as u64;
                self.report.bytes += read as u64;
                (self.progress)(from, read as u64);
            }
        }
        let size = source.size()?;
        if size > copy.size()? { copy.set_len(size) } else { Ok(()) }
    }

    /// Copies what a source gives until it ends.
    fn copy_stream(
        &mut self,
        source: &mut dyn Read,
        from: &Path,
        to: &Path,
        permissions: u32,
        owner: (u32, u32),
    ) -> Result<()> {
        let failed = |error: io::Error| Error::new(from, Reason::Host(error));
        let copy = self.target.stage(to, permissions, owner)?;
        let mut offset = 0;
        loop {
            self.buffer.clear();
            // Pipes give little at a time; larger writes make larger extents.
            let mut part = (&mut *source).take(COPY_BYTES as u64);
            let read = part.read_to_end(&mut self.buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            copy.write_at(offset, &self.buffer)?;
            offset += read as u64;
            self.report.bytes += read as u64;
            (self.progress)(from, read as u64);
        }
        self.report.files += 1;
        copy.publish(to)
    }

    /// Removes what is at the place of a copy, unless it is a directory.
    fn make_room(&self, to: &Path) -> Result<()> {
        match self.target.remove_file(to) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives a copy the attributes of its original.
    fn preserve(&mut self, from: &Path, to: &Path, found: &Attributes) -> Result<()> {
        let inode = &found.inode;
        let is_link = inode.file_type() == MODE_SYMLINK;
        // Bytes go through a link at the place of the copy.
        let last = if is_link { LastLink::Keep } else { LastLink::Follow };
        // The owner first: giving a file away takes capabilities and set-id bits off it.
        let owner = SetAttributes {
            uid: Some(inode.uid),
            gid: Some(inode.gid),
            ..SetAttributes::default()
        };
        let mode = match self.target.set_attributes(to, last, &owner) {
            // As cp(1) does it: who is not root keeps what they copy, without its set-id bits.
            Err(error) if error.is_not_permitted() && !rustix::process::geteuid().is_root() => {
                0o777
            }
            result => {
                result?;
                0o7777
            }
        };
        for (name, value) in self.source.xattrs(from, self.last())? {
            if let Err(error) = self.target.set_xattr(to, last, &name, &value) {
                self.report.failures.push(error);
            }
        }
        let set = SetAttributes {
            mode: (!is_link).then_some(inode.mode & mode),
            accessed: Some(inode.accessed),
            modified: Some(inode.modified),
            ..SetAttributes::default()
        };
        self.target.set_attributes(to, last, &set)
    }
}
