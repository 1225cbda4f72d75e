// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Copying within an image, which shares the bytes of files, and between images.

use crate::copy::{COPY_BYTES, CopyOptions, CopyReport, Progress};
use crate::error::{Error, Reason, Result};
use crate::file::File;
use crate::image::Image;
use crate::listing::{Ancestors, own_ancestor};
use crate::path::LastLink;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_core::{
    DIRECTORY_DEPTH_MAX, Error as CoreError, Inode, MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK,
    NewInode, SetAttributes, XattrMode,
};

impl Image {
    /// Copies a file or tree of `source` to `to` in this image, which may be the same. Within one
    /// image the copies of files share their blocks with the originals until either is written to,
    /// and have the same vectors; between images vectors are not copied.
    pub fn copy_from(
        &self,
        source: &Image,
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: &CopyOptions,
        progress: Progress<'_>,
    ) -> Result<CopyReport> {
        let (from, to) = (from.as_ref(), to.as_ref());
        let mut copy = CopyAcross {
            source,
            target: self,
            same: std::ptr::eq(source, self),
            options,
            progress,
            report: CopyReport::default(),
            copied: HashMap::new(),
            ancestors: Ancestors::default(),
            buffer: Vec::new(),
        };
        copy.run(from, to)?;
        Ok(copy.report)
    }
}

struct CopyAcross<'a> {
    source: &'a Image,
    target: &'a Image,
    same: bool,
    options: &'a CopyOptions,
    progress: Progress<'a>,
    report: CopyReport,
    /// Inodes with several names, and their copies.
    copied: HashMap<u64, u64>,
    ancestors: Ancestors,
    buffer: Vec<u8>,
}

/// A source that is still to be copied, and where to.
struct Pending {
    from: PathBuf,
    number: u64,
    to: PathBuf,
    /// Levels below the start.
    depth: usize,
}

impl CopyAcross<'_> {
    fn run(&mut self, from: &Path, to: &Path) -> Result<()> {
        let last = if self.options.recursive { LastLink::Keep } else { LastLink::Follow };
        let number = self.source.resolve_with(from, last)?;
        if self.same {
            self.refuse_into_itself(number, to)?;
        }
        let mut finished = Vec::new();
        let mut stack =
            vec![Pending { from: from.to_owned(), number, to: to.to_owned(), depth: 0 }];
        let mut first = true;
        while let Some(pending) = stack.pop() {
            match self.copy_one(&pending, &mut stack) {
                Ok(Some((copy, inode))) => finished.push((pending.number, copy, inode)),
                Ok(None) => {}
                Err(error)
                    if first
                        || self.target.is_read_only()
                        || matches!(error.core(), Some(CoreError::NoSpace)) =>
                {
                    return Err(error);
                }
                Err(error) => self.report.failures.push(error),
            }
            first = false;
        }
        for (number, copy, inode) in finished.into_iter().rev() {
            if let Err(error) = self.preserve(number, copy, &inode) {
                self.report.failures.push(error);
            }
        }
        Ok(())
    }

    /// Refuses to copy a directory to a place below it.
    fn refuse_into_itself(&self, number: u64, to: &Path) -> Result<()> {
        let (mut at, _) = self.target.resolve_parent(to)?;
        for _ in 0..=DIRECTORY_DEPTH_MAX {
            if at == number {
                return Err(Error::new(self.target.object(to), Reason::IntoItself));
            }
            let above = self.target.about(to, self.target.core.lookup(at, b".."))?;
            if above == at {
                return Ok(());
            }
            at = above;
        }
        self.target.about(to, Err(own_ancestor(at)))
    }

    fn copy_one(
        &mut self,
        pending: &Pending,
        stack: &mut Vec<Pending>,
    ) -> Result<Option<(u64, Inode)>> {
        let Pending { from, number, to, depth } = pending;
        let inode = self.source.about(from, self.source.core.inode(*number))?;
        let shared = self.options.preserve && inode.links > 1 && !inode.is_directory();
        if let Some(copy) = self.copied.get(number).filter(|_| shared) {
            self.make_room(to)?;
            self.target.link_inode(*copy, to)?;
            self.report.others += 1;
            return Ok(None);
        }
        (self.progress)(from, 0);
        let owner = match self.options.preserve {
            true => (inode.uid, inode.gid),
            false => self.options.owner,
        };
        let mode = inode.file_type() | (inode.mode & 0o777);
        let new = NewInode { mode, owner, device: inode.device };
        let copy = match inode.file_type() {
            MODE_DIRECTORY if !self.options.recursive => {
                return Err(Error::new(self.source.object(from), CoreError::IsDirectory));
            }
            MODE_DIRECTORY => {
                let entered = self.ancestors.enter(*number, *depth);
                self.source.about(from, entered)?;
                let copy = match self.target.find(to, LastLink::Follow)? {
                    Some(copy) => copy,
                    None => self.target.create_node(to, &new)?,
                };
                if !self.target.about(to, self.target.core.inode(copy))?.is_directory() {
                    return Err(Error::new(self.target.object(to), CoreError::NotDirectory));
                }
                let mut entries = Vec::new();
                for entry in self.source.list(*number, from) {
                    entries.push(entry?);
                }
                entries.sort_unstable_by(|a, b| b.name.cmp(&a.name));
                stack.extend(entries.iter().map(|entry| Pending {
                    from: from.join(&entry.name),
                    number: entry.inode,
                    to: to.join(&entry.name),
                    depth: depth + 1,
                }));
                self.report.directories += 1;
                return Ok(self.options.preserve.then_some((copy, inode)));
            }
            MODE_FILE => {
                if self.same && self.target.find(to, LastLink::Follow)? == Some(*number) {
                    return Err(Error::new(self.target.object(to), Reason::IntoItself));
                }
                let source = self.source.open_inode(*number, from)?;
                let file = self.target.stage_file(to, inode.mode & 0o777, owner)?;
                self.copy_bytes(&source, from, &file, to)?;
                self.report.files += 1;
                let copy = self.target.publish_file(&file, to)?;
                if self.same && copy != file.number() {
                    // The file that was there has the bytes now, and needs their vectors.
                    let _changing = self.target.changes.lock([*number, copy]);
                    self.target.about(to, self.target.core.clone_vectors(*number, copy))?;
                }
                copy
            }
            MODE_SYMLINK => {
                let target = self.source.about(from, self.source.core.read_link(*number))?;
                self.make_room(to)?;
                self.report.others += 1;
                self.target.symlink_with(OsStr::from_bytes(&target), to, owner)?
            }
            _ => {
                self.make_room(to)?;
                self.report.others += 1;
                self.target.create_node(to, &new)?
            }
        };
        if shared {
            self.copied.insert(*number, copy);
        }
        if self.options.preserve {
            self.preserve(*number, copy, &inode)?;
        }
        Ok(None)
    }

    fn copy_bytes(
        &mut self,
        source: &File<'_>,
        from: &Path,
        target: &File<'_>,
        to: &Path,
    ) -> Result<()> {
        let (number, copy) = (source.number(), target.number());
        if self.same {
            let _changing = self.target.changes.lock([number, copy]);
            self.target.about(to, self.target.core.clone_range(number, 0, copy, 0, 0))?;
            self.target.about(to, self.target.core.clone_vectors(number, copy))?;
            let size = self.source.about(from, self.source.core.inode(number))?.size;
            self.report.bytes += size;
            (self.progress)(from, size);
            return Ok(());
        }
        self.buffer.resize(COPY_BYTES, 0);
        let mut offset = 0;
        while let Some((start, end)) = source.next_data(offset)? {
            offset = start;
            while offset < end {
                let wanted = usize::try_from(end - offset).unwrap_or(COPY_BYTES).min(COPY_BYTES);
                let read = source.read_at(offset, &mut self.buffer[..wanted])?;
                if read == 0 {
                    break;
                }
                target.write_at(offset, &self.buffer[..read])?;
                offset += read as u64;
                self.report.bytes += read as u64;
                (self.progress)(from, read as u64);
            }
            offset = end;
        }
        let size = source.inode()?.size;
        if size > target.inode()?.size { target.set_len(size) } else { Ok(()) }
    }

    /// Removes what is at the place of a copy, unless it is a directory.
    fn make_room(&self, to: &Path) -> Result<()> {
        match self.target.remove_file(to) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    fn preserve(&self, number: u64, copy: u64, inode: &Inode) -> Result<()> {
        let attributes = self.source.about_image(self.source.all_xattrs(number))?;
        for (name, value) in attributes {
            self.target.set_xattr(copy, OsStr::from_bytes(&name), &value, XattrMode::Set)?;
        }
        let set = SetAttributes {
            mode: Some(inode.mode & 0o7777),
            uid: Some(inode.uid),
            gid: Some(inode.gid),
            accessed: Some(inode.accessed),
            modified: Some(inode.modified),
            ..SetAttributes::default()
        };
        self.target.set_attributes(copy, &set)?;
        Ok(())
    }
}
