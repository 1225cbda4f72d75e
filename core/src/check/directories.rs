// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Directory entries, the links that lead back from inodes, and what is reached from the root.

use super::Checker;
use super::finding::{Code, Place};
use crate::error::Result;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::{EntryLayout, LinkLayout, NAME_BYTES_MAX, ROOT_INODE};
use crate::names;
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use zerocopy::FromBytes;

/// Whether a directory hangs below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Unknown,
    /// On the path that is being followed.
    OnPath,
    /// It does, or hangs below a directory that a finding was made for.
    Settled,
}

/// The names of the entries seen last whose hash is the same.
#[derive(Default)]
pub(crate) struct NamesOfBase {
    object: u64,
    base: u64,
    /// Each with its length in front.
    names: Vec<u8>,
}

impl NamesOfBase {
    /// Adds a name. Returns whether it was there.
    fn add(&mut self, key: Key, name: &[u8]) -> Result<bool> {
        let base = key.offset() & !0xff;
        if (self.object, self.base) != (key.object, base) {
            (self.object, self.base) = (key.object, base);
            self.names.clear();
        }
        let mut rest = &*self.names;
        while let Some((length, tail)) = rest.split_first() {
            let Some((known, others)) = tail.split_at_checked(usize::from(*length)) else { break };
            if known == name {
                return Ok(true);
            }
            rest = others;
        }
        self.names.try_push(name.len() as u8)?;
        self.names.try_extend(name)?;
        Ok(false)
    }
}

/// Takes an entry's item apart. `None` when its bytes make no sense.
pub(crate) fn decode(item: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (head, name) = EntryLayout::ref_from_prefix(item).ok()?;
    let sensible = !name.is_empty() && name.len() <= NAME_BYTES_MAX && head.inode.get() != 0;
    sensible.then(|| (head.inode.get(), head.file_type, name))
}

impl Checker<'_> {
    /// Whether an item that is found by its name has one of the keys of that name.
    pub(crate) fn check_cookie(&mut self, key: Key, name: &[u8]) -> Result<()> {
        let base = names::cookie_base(&self.tree, name);
        if key.offset() & !0xff == base {
            return Ok(());
        }
        self.find(Code::EntryCookie, Place::key(key).with(key.offset(), base))
    }

    /// An entry in the first pass.
    pub(crate) fn entry_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        self.sink.report.entries += 1;
        self.object.entries += 1;
        let Some((_, _, name)) = decode(item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        if names::check_entry_name(name).is_err() {
            self.find(Code::EntryName, Place::key(key))?;
        }
        if self.names.add(key, name)? {
            self.find(Code::EntryTwice, Place::key(key))?;
        }
        self.check_cookie(key, name)
    }

    /// A link in the first pass.
    pub(crate) fn link_item(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Ok(link) = LinkLayout::ref_from_bytes(item) else {
            return self.find(Code::ItemMalformed, Place::key(key));
        };
        let hash = self.mix([key.object, link.parent.get(), link.cookie.get()]);
        self.object.link_sum = self.object.link_sum.wrapping_add(hash);
        self.object.links = self.object.links.saturating_add(1);
        self.check_cookie(key, item)
    }

    /// An entry in the second pass: matches it with the inode it names.
    pub(crate) fn entry_reference(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Some((target, file_type, _)) = decode(item) else { return Ok(()) };
        let place = Place::key(key).with(target, 0);
        let hash = self.mix([target, key.object, key.offset()]);
        let Some(record) = self.inode_record_mut(target) else {
            return self.find(Code::EntryDangling, place);
        };
        record.entries = record.entries.saturating_add(1);
        record.link_balance = record.link_balance.wrapping_sub(hash);
        let (found, actual) = (u64::from(file_type), record.file_type);
        let is_directory = record.is_directory();
        let mut extra = false;
        if is_directory {
            extra = target == ROOT_INODE || record.parent != 0;
            if !extra {
                record.parent = key.object;
            }
        }
        if actual != file_type && actual != 0 {
            let place = Place::key(key).with(found, u64::from(actual));
            self.find(Code::EntryType, place)?;
        }
        if extra {
            return self.find(Code::EntryExtra, place);
        }
        if is_directory && let Some(parent) = self.inode_record_mut(key.object) {
            parent.subdirectories = parent.subdirectories.saturating_add(1);
        }
        Ok(())
    }

    /// After the second pass: counts of links, and whether everything is reached.
    pub(crate) fn finish_directories(&mut self) -> Result<()> {
        let mut at = 0;
        while let Some(record) = self.inodes.get(at).copied() {
            at += 1;
            let place = Place::object(record.number);
            let orphan = self.is_orphan(record.number);
            if record.entries != record.link_items || record.link_balance != 0 {
                self.link_suspects.try_insert(record.number, ())?;
            }
            if orphan {
                if record.entries > 0 || record.links > 0 {
                    let entries = u64::from(record.entries);
                    self.find(Code::OrphanWrong, place.with(u64::from(record.links), entries))?;
                }
                continue;
            }
            let root = record.number == ROOT_INODE;
            if record.entries == 0 && !root {
                let bad = record.file_type == 0;
                let unlinked = record.links == 0 && record.link_items == 0;
                let code =
                    if unlinked && !bad { Code::OrphanMissing } else { Code::InodeUnreached };
                self.find(code, place.with(u64::from(record.links), 0))?;
                continue;
            }
            let expected = match record.is_directory() {
                true => u64::from(record.subdirectories) + 2,
                false => u64::from(record.entries),
            };
            if record.file_type != 0 && u64::from(record.links) != expected {
                let place = place.with(u64::from(record.links), expected);
                self.find(Code::LinkCount, place)?;
            }
        }
        self.find_loops()
    }

    /// Follows every directory to the root, or to one whose end is known.
    fn find_loops(&mut self) -> Result<()> {
        if let Some(root) = self.inode_record_mut(ROOT_INODE) {
            root.reach = Reach::Settled;
        }
        let mut at = 0;
        while let Some(start) = self.inodes.get(at).copied() {
            at += 1;
            if !start.is_directory() || start.reach != Reach::Unknown {
                continue;
            }
            // There and back: first the path is marked, then it is settled.
            let mut number = start.number;
            loop {
                match self.inode_record_mut(number) {
                    Some(record) if record.reach == Reach::Unknown && record.is_directory() => {
                        record.reach = Reach::OnPath;
                        number = record.parent;
                    }
                    Some(record) if record.reach == Reach::OnPath => {
                        let place = Place::object(number).with(record.parent, 0);
                        self.find(Code::DirectoryLoop, place)?;
                        break;
                    }
                    // The root, a settled one, or one without an entry, for which there is a
                    // finding already.
                    _ => break,
                }
            }
            let mut number = start.number;
            while let Some(record) = self.inode_record_mut(number) {
                if record.reach != Reach::OnPath {
                    break;
                }
                record.reach = Reach::Settled;
                number = record.parent;
            }
        }
        Ok(())
    }

    /// In the third pass: an entry whose inode's links do not match its entries.
    pub(crate) fn suspect_entry(&mut self, key: Key, item: &[u8]) -> Result<()> {
        let Some((target, _, _)) = decode(item) else { return Ok(()) };
        if !self.link_suspects.contains(target) {
            return Ok(());
        }
        let link = LinkLayout { parent: key.object.into(), cookie: key.offset().into() };
        let (from, to) =
            (Key::new(target, Kind::Link, 0), Key::new(target, Kind::Link, OFFSET_MAX));
        let (mut found, mut looked) = (false, 0u64);
        // An inode has few links, but for ones with links beyond number, whose cookie must do.
        let base = names::cookie_base(&self.tree, zerocopy::IntoBytes::as_bytes(&link));
        let near = (Key::new(target, Kind::Link, base), Key::new(target, Kind::Link, base | 0xff));
        for (from, to) in [near, (from, to)] {
            let result = self.tree.scan(from, to, |_, item| {
                found |= LinkLayout::ref_from_bytes(item).is_ok_and(|other| *other == link);
                looked += 1;
                Ok(!found && looked < 1024)
            });
            if result.is_err() {
                // Damaged nodes, which have findings of their own.
                return Ok(());
            }
        }
        if found { Ok(()) } else { self.find(Code::LinkMissing, Place::key(key).with(target, 0)) }
    }

    /// In the third pass: a link of an inode whose links do not match its entries.
    pub(crate) fn suspect_link(&mut self, key: Key, item: &[u8]) -> Result<()> {
        if !self.link_suspects.contains(key.object) {
            return Ok(());
        }
        let Ok(link) = LinkLayout::ref_from_bytes(item) else { return Ok(()) };
        let entry = Key::new(link.parent.get(), Kind::Entry, link.cookie.get());
        let named = match self.tree.get(entry) {
            Ok(Some(item)) => decode(&item).is_some_and(|(target, _, _)| target == key.object),
            Ok(None) => false,
            Err(_) => return Ok(()),
        };
        if named {
            return Ok(());
        }
        let place = Place::key(key).with(link.parent.get(), link.cookie.get());
        self.find(Code::LinkDangling, place)
    }
}
