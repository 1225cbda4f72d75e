// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Which vectors a search may return: by what the user asks for, where the file is, and what the
//! caller may read.

use crate::collection_memory::RowInfo;
use crate::directory::decode_entry;
use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::host::Timestamp;
use crate::inode::Inode;
use crate::key::{Key, Kind};
use crate::layout::{NAME_BYTES_MAX, ROOT_INODE};
use crate::link;
use crate::rights::{Caller, Reach, Want};
use crate::tree::Tree;
use core::ops::RangeInclusive;
use vexfs_memory::Table;

/// Files whose verdict is remembered at once.
const REMEMBERED_MAX: usize = 1 << 20;

/// What the user asks of a file and its vector; `None` asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Filter<'a> {
    /// A name of the file (below the scope) ends with these bytes, at most 255.
    pub name_suffix: Option<&'a [u8]>,
    /// The file has this many bytes.
    pub size: Option<RangeInclusive<u64>>,
    /// Its bytes were last changed within this time.
    pub modified: Option<RangeInclusive<Timestamp>>,
    /// It belongs to this user.
    pub uid: Option<u32>,
    /// The vector's tag is within this range.
    pub tag: Option<RangeInclusive<u64>>,
    /// The vector was made from the file's present content.
    pub fresh: bool,
    /// It is not a vector of this file.
    pub exclude: Option<u64>,
}

impl Filter<'_> {
    pub(crate) fn check(&self) -> Result<()> {
        if self.name_suffix.is_some_and(|suffix| suffix.len() > NAME_BYTES_MAX) {
            return Err(Error::NameTooLong);
        }
        Ok(())
    }

    /// Whether the user asks anything.
    fn is_empty(&self) -> bool {
        let Self { name_suffix, size, modified, uid, tag, fresh, exclude } = self;
        name_suffix.is_none()
            && size.is_none()
            && modified.is_none()
            && uid.is_none()
            && tag.is_none()
            && !fresh
            && exclude.is_none()
    }

    /// Whether the inode is what the user asks for.
    fn takes(&self, inode: &Inode) -> bool {
        self.size.as_ref().is_none_or(|range| range.contains(&inode.size))
            && self.modified.as_ref().is_none_or(|range| range.contains(&inode.modified))
            && self.uid.is_none_or(|uid| uid == inode.uid)
    }
}

/// What was found out about a file.
#[derive(Clone, Copy)]
struct Verdict {
    admitted: bool,
    content_version: u64,
}

/// What a judge remembers during a request; its memory is used again.
#[derive(Default)]
pub(crate) struct Findings {
    files: Table<Verdict>,
    pub reach: Reach,
}

impl Findings {
    pub fn reset(&mut self) {
        if self.files.len() > 4096 {
            self.files = Table::new();
        } else {
            self.files.clear();
        }
        self.reach.reset();
    }
}

/// Says which rows a request may return.
pub(crate) struct Judge<'a> {
    fs: &'a FileSystem,
    filter: &'a Filter<'a>,
    caller: Caller<'a>,
    scope: u64,
    pub findings: &'a mut Findings,
    /// The first error; every row is turned down after it.
    error: Option<Error>,
    /// Everything is admitted unlooked at; hits are looked at when they are found.
    open: bool,
}

impl<'a> Judge<'a> {
    /// Of a request for which nothing was found out: `findings` were just made, or reset after another.
    pub fn new(
        fs: &'a FileSystem,
        filter: &'a Filter<'a>,
        caller: Caller<'a>,
        scope: u64,
        findings: &'a mut Findings,
    ) -> Self {
        let open = filter.is_empty() && !caller.is_restricted() && scope == ROOT_INODE;
        Self { fs, filter, caller, scope, findings, error: None, open }
    }

    /// Whether all rows are admitted without a look.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Looks at every row from now on.
    pub fn close(&mut self) {
        self.open = false;
    }

    pub fn caller(&self) -> Caller<'a> {
        self.caller
    }

    /// The error that was met, if any.
    pub fn take_error(&mut self) -> Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Whether the row may be returned.
    pub fn admits(&mut self, info: Option<&RowInfo>) -> bool {
        let Some(info) = info else { return false };
        if self.open {
            return true;
        }
        if self.error.is_some()
            || self.filter.exclude == Some(info.inode)
            || self.filter.tag.as_ref().is_some_and(|tag| !tag.contains(&info.tag))
        {
            return false;
        }
        match self.judge(info.inode) {
            Ok(verdict) => {
                verdict.admitted
                    && (!self.filter.fresh || verdict.content_version == info.content_version)
            }
            Err(error) => {
                self.error = Some(error);
                false
            }
        }
    }

    fn judge(&mut self, number: u64) -> Result<Verdict> {
        if let Some(verdict) = self.findings.files.get(number) {
            return Ok(*verdict);
        }
        let mut verdict = loop {
            if let Some(verdict) = self.look_at(number)? {
                break verdict;
            }
            self.findings.reach.ask(self.caller)?;
        };
        verdict.admitted = verdict.admitted && self.caller.is_let(number, Want::Read)?;
        if self.findings.files.len() >= REMEMBERED_MAX {
            self.findings.files.clear();
        }
        self.findings.files.try_insert(number, verdict)?;
        Ok(verdict)
    }

    /// What the tree says of the file, without what the monitor says of itself; nothing when the
    /// monitor has to be asked of directories first.
    #[inline(never)] // a monitor must not be asked on top of its frame
    fn look_at(&mut self, number: u64) -> Result<Option<Verdict>> {
        let tree = self.fs.reader();
        let inode = match Inode::load(&tree, number) {
            Ok(inode) => inode,
            // Removed since the row was taken in.
            Err(Error::Stale) => {
                return Ok(Some(Verdict { admitted: false, content_version: 0 }));
            }
            Err(error) => return Err(error),
        };
        let content_version = inode.content_version;
        let admitted = self.admits_file(&tree, number, &inode)?;
        Ok(admitted.map(|admitted| Verdict { admitted, content_version }))
    }

    fn admits_file(&mut self, tree: &Tree, number: u64, inode: &Inode) -> Result<Option<bool>> {
        if inode.links == 0 || !self.filter.takes(inode) {
            return Ok(Some(false));
        }
        if !self.caller.may(tree, number, inode, Want::Read)? {
            return Ok(Some(false));
        }
        if self.filter.name_suffix.is_none()
            && !self.caller.is_restricted()
            && self.scope == ROOT_INODE
        {
            return Ok(Some(true));
        }
        // Some name of it ends right, and lies where the caller can get to.
        let mut found = false;
        let reach = &mut self.findings.reach;
        link::each(tree, number, |parent, cookie| {
            if let Some(suffix) = self.filter.name_suffix {
                let key = Key::new(parent, Kind::Entry, cookie);
                let bad = corrupt(number, "link to an entry that is not there");
                let item = tree.get(key)?.ok_or(bad)?;
                let (target, name) = decode_entry(key, &item)?;
                if target.inode != number {
                    return Err(bad);
                }
                if !name.ends_with(suffix) {
                    return Ok(true);
                }
            }
            found = reach.reaches(tree, self.caller, self.scope, parent)? == Some(true);
            Ok(!found)
        })?;
        if found {
            reach.drop_questions();
        }
        Ok((!reach.has_questions()).then_some(found))
    }
}

impl FileSystem {
    /// Whether a search below directory `scope` on behalf of this caller may return the file: it has
    /// a path from there that the caller may walk, and the caller may read it.
    pub fn may_read(&self, number: u64, scope: u64, caller: Caller<'_>) -> Result<bool> {
        let (filter, mut findings) = (Filter::default(), Findings::default());
        let mut judge = Judge::new(self, &filter, caller, scope, &mut findings);
        judge.close();
        Ok(judge.judge(number)?.admitted)
    }
}
