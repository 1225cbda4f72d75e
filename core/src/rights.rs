// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Who may read what: the permissions of an inode, and whether a path leads to it.

use crate::error::{Error, Result, corrupt};
use crate::inode::Inode;
use crate::layout::{INODE_ATTRIBUTES, ROOT_INODE};
use crate::link::{self, DIRECTORY_DEPTH_MAX};
use crate::names::Place;
use crate::tree::Tree;
use crate::xattr;
use alloc::vec::Vec;
use core::fmt;
use vexfs_memory::{Table, TryVec};

/// Directories that are remembered at once.
const REMEMBERED_MAX: usize = 1 << 20;

/// On whose behalf a request is made.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The user. None is above permissions, not even 0: for whom that holds, the host asks without
    /// credentials.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// Further groups.
    pub groups: &'a [u32],
    /// Whether access control lists count, or modes alone.
    pub lists: bool,
}

/// The attribute that holds an access control list, as `setfacl` stores it: a version, then for each
/// entry a tag, permissions (two bytes each) and the number of a user or group (four bytes), all
/// little endian.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const ACCESS_LIST_VERSION: u32 = 2;
const TAG_OWNER: u16 = 0x01;
const TAG_USER: u16 = 0x02;
const TAG_GROUP_OWNER: u16 = 0x04;
const TAG_GROUP: u16 = 0x08;
const TAG_MASK: u16 = 0x10;
const TAG_OTHERS: u16 = 0x20;

/// What is to be done with an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Read a file.
    Read,
    /// Pass through a directory.
    Search,
}

impl Want {
    /// Its bit among those of a class of users.
    fn bit(self) -> u32 {
        match self {
            Self::Read => 0o4,
            Self::Search => 0o1,
        }
    }
}

/// A reference monitor of the host: it may refuse what permissions allow, as the security modules of
/// a kernel do. Asked once in a request for each directory and file that matters, with no lock of the
/// tree held; locks of a collection may be, so it must not wait for what changes one.
pub trait Monitor {
    /// Whether the caller may do that with the inode. False for one that is gone.
    fn allows(&self, number: u64, want: Want) -> Result<bool>;
}

impl fmt::Debug for dyn Monitor + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Monitor")
    }
}

/// Who asks, and what stands in the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Whose permissions count; `None` is above them.
    pub credentials: Option<&'a Credentials<'a>>,
    /// Who has a say besides.
    pub monitor: Option<&'a dyn Monitor>,
}

impl<'a> From<Option<&'a Credentials<'a>>> for Caller<'a> {
    fn from(credentials: Option<&'a Credentials<'a>>) -> Self {
        Self { credentials, monitor: None }
    }
}

impl Caller<'_> {
    /// Whether something may be closed to the caller.
    pub fn is_restricted(&self) -> bool {
        self.credentials.is_some() || self.monitor.is_some()
    }

    /// Whether permissions allow it; the monitor is still to be asked.
    pub(crate) fn may(&self, tree: &Tree, number: u64, inode: &Inode, want: Want) -> Result<bool> {
        self.credentials.map_or(Ok(true), |credentials| credentials.may(tree, number, inode, want))
    }

    /// Whether the monitor allows it. Not to be called with the tree locked.
    pub(crate) fn is_let(&self, number: u64, want: Want) -> Result<bool> {
        self.monitor.map_or(Ok(true), |monitor| monitor.allows(number, want))
    }
}

impl Credentials<'_> {
    fn is_in(&self, group: u32) -> bool {
        self.gid == group || self.groups.contains(&group)
    }

    /// Whether the permissions of inode `number` allow it: those of the owner for the owner, else
    /// those of its access control list if it has one, else those of the group for its members and
    /// those of others for all others, as path_resolution(7) and acl(5) say. The one place where
    /// permissions are judged.
    pub(crate) fn may(&self, tree: &Tree, number: u64, inode: &Inode, want: Want) -> Result<bool> {
        let bit = want.bit();
        if self.uid == inode.uid {
            return Ok(inode.mode >> 6 & bit != 0);
        }
        // Where the group's permissions are none, so is the mask of a list, and no entry counts.
        if self.lists
            && inode.flags & INODE_ATTRIBUTES != 0
            && inode.mode & 0o070 != 0
            && let Some(allowed) = self.listed(tree, number, inode, bit)?
        {
            return Ok(allowed);
        }
        let shift = if self.is_in(inode.gid) { 3 } else { 0 };
        Ok(inode.mode >> shift & bit != 0)
    }

    /// What the inode's access control list says; nothing when it has none.
    // Out of line, so that its frame is not that of each judgement.
    #[inline(never)]
    fn listed(&self, tree: &Tree, number: u64, inode: &Inode, bit: u32) -> Result<Option<bool>> {
        let Place::Found(key) = xattr::place(tree, number, ACCESS_LIST)? else { return Ok(None) };
        let Some(item) = tree.get(key)? else { return Ok(None) };
        // One that is damaged opens nothing.
        let closed = Ok(Some(false));
        let value = match xattr::decode(number, &item)?.value(tree) {
            Err(Error::Checksum { .. }) => return closed,
            value => value?,
        };
        let Some((head, entries)) = value.split_first_chunk::<4>() else { return closed };
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*head) != ACCESS_LIST_VERSION || !rest.is_empty() {
            return closed;
        }
        let decode = |entry: &[u8; 8]| {
            let [t0, t1, p0, p1, i0, i1, i2, i3] = *entry;
            let permissions = u32::from(u16::from_le_bytes([p0, p1]));
            let id = u32::from_le_bytes([i0, i1, i2, i3]);
            (u16::from_le_bytes([t0, t1]), permissions & bit != 0, id)
        };
        let all = || entries.iter().map(decode);
        let known = [TAG_OWNER, TAG_USER, TAG_GROUP_OWNER, TAG_GROUP, TAG_MASK, TAG_OTHERS];
        if !all().all(|(tag, _, _)| known.contains(&tag)) {
            return closed;
        }
        let mask = all().find(|(tag, _, _)| *tag == TAG_MASK).is_none_or(|(_, open, _)| open);
        if let Some((_, open, _)) = all().find(|(tag, _, id)| *tag == TAG_USER && *id == self.uid) {
            return Ok(Some(open && mask));
        }
        let mut member = false;
        for (tag, open, id) in all() {
            let group = match tag {
                TAG_GROUP_OWNER => inode.gid,
                TAG_GROUP => id,
                _ => continue,
            };
            if self.is_in(group) {
                if open {
                    return Ok(Some(mask));
                }
                member = true;
            }
        }
        let others = all().find(|(tag, _, _)| *tag == TAG_OTHERS);
        Ok(Some(!member && others.is_some_and(|(_, open, _)| open)))
    }
}

/// Which directories can be reached from the directory of a search, every directory on the way
/// (both ends included) being open to the caller. Remembers what it found.
///
/// A monitor is asked by [`Reach::ask`], when the tree is not locked.
#[derive(Default)]
pub(crate) struct Reach {
    known: Table<bool>,
    /// What the monitor said of directories.
    answers: Table<bool>,
    /// Directories that the monitor is to be asked of, upwards.
    questions: Vec<u64>,
    chain: Vec<u64>,
}

fn forget(table: &mut Table<bool>) {
    if table.len() > 4096 {
        *table = Table::new();
    } else {
        table.clear();
    }
}

fn remember(table: &mut Table<bool>, directory: u64, answer: bool) -> Result<()> {
    if table.len() >= REMEMBERED_MAX {
        table.clear();
    }
    table.try_insert(directory, answer)?;
    Ok(())
}

impl Reach {
    /// Forgets everything, for another search. Keeps its memory while that is small.
    pub fn reset(&mut self) {
        forget(&mut self.known);
        forget(&mut self.answers);
        self.questions.clear();
    }

    /// Notes what is known of a directory.
    pub fn note(&mut self, directory: u64, reached: bool) -> Result<()> {
        remember(&mut self.known, directory, reached)
    }

    /// Asks the monitor what it was found to be needed for, and takes the answers in. Called when the
    /// tree is not locked.
    pub fn ask(&mut self, caller: Caller<'_>) -> Result<()> {
        // From above: what lies below a closed directory needs no asking.
        while let Some(directory) = self.questions.pop() {
            // Several names may lie below one directory.
            if self.answers.contains(directory) {
                continue;
            }
            let open = caller.is_let(directory, Want::Search)?;
            remember(&mut self.answers, directory, open)?;
            if !open {
                self.questions.clear();
            }
        }
        Ok(())
    }

    /// Whether there is something to ask of the monitor.
    pub fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Drops what was to be asked of the monitor, as it is not needed any more.
    pub fn drop_questions(&mut self) {
        self.questions.clear();
    }

    /// Whether `directory` can be reached from `scope`. One too deep for it cannot
    /// ([`DIRECTORY_DEPTH_MAX`]). Nothing when that depends on the monitor, which [`Reach::ask`] asks.
    pub fn reaches(
        &mut self,
        tree: &Tree,
        caller: Caller<'_>,
        scope: u64,
        directory: u64,
    ) -> Result<Option<bool>> {
        self.chain.clear();
        let asked = self.questions.len();
        let mut at = directory;
        let reached = loop {
            if let Some(known) = self.known.get(at) {
                break *known;
            }
            if self.chain.len() >= DIRECTORY_DEPTH_MAX {
                if self.chain.contains(&at) {
                    return Err(corrupt(at, "directory that is its own ancestor"));
                }
                // Those halfway are deep enough not to be walked from again for each file in them.
                self.chain.truncate(DIRECTORY_DEPTH_MAX / 2);
                break false;
            }
            self.chain.try_push(at)?;
            if caller.credentials.is_some() {
                let inode = Inode::load(tree, at).map_err(|error| match error {
                    Error::Stale => corrupt(at, "link to a directory that is gone"),
                    error => error,
                })?;
                if !inode.is_directory() || !caller.may(tree, at, &inode, Want::Search)? {
                    break false;
                }
            }
            if caller.monitor.is_some() {
                match self.answers.get(at) {
                    Some(true) => {}
                    Some(false) => break false,
                    None => self.questions.try_push(at)?,
                }
            }
            if at == scope {
                break true;
            }
            if at == ROOT_INODE {
                break false;
            }
            match link::first(tree, at)? {
                Some((parent, _)) => at = parent,
                // It was removed while somebody works in it.
                None => break false,
            }
        };
        if reached && self.questions.len() > asked {
            return Ok(None);
        }
        self.questions.truncate(asked);
        while let Some(passed) = self.chain.pop() {
            self.note(passed, reached)?;
        }
        Ok(Some(reached))
    }
}
