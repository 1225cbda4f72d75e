// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The checker: reads a device in whatever state it is, says what is wrong, and writes nothing.
//!
//! It walks the tree twice, from the left to the right. The first walk judges nodes and items by
//! themselves and gathers what they say about each other; the second compares. A third, only when
//! links or vectors do not add up, finds out which. What damaged nodes held is not known, so with
//! any of them a comparison that needs everything is left out.
//!
//! Memory, besides one node of each level and the cache of nodes for lookups: 48 bytes for each
//! inode, 2 bits for each block of the groups in use, 16 bytes for each extent that shares blocks
//! and each attribute or collection with a stream, 96 bytes for each collection; and 40 bytes for
//! each vector and each row that do not match.

mod blocks;
mod collections;
mod directories;
mod extents;
mod finding;
mod inodes;
mod names;
mod nodes;
mod objects;
mod streams;
pub(crate) mod superblocks;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod workload_tests;

pub use finding::{Code, Finding, Place, Severity};
pub use names::{Names, ObjectName};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::key::Key;
use crate::superblock::{Superblock, read_copies};
use crate::tree::Tree;
use alloc::boxed::Box;
use alloc::vec::Vec;
pub(crate) use blocks::BlockUse;
use collections::Collections;
use directories::NamesOfBase;
use inodes::InodeRecord;
pub(crate) use nodes::LostNode;
use nodes::Walk;
use objects::Object;
use streams::Streams;
use vexfs_memory::{Shared, Table, try_box};

const MEMORY: Error = Error::OutOfMemory;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Read every block of data, too, and compare its checksum.
    pub data: bool,
    /// Bytes of tree nodes to keep in memory for lookups.
    pub cache_bytes: usize,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { data: true, cache_bytes: 32 << 20 }
    }
}

/// What a check is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the copies of the superblock.
    Superblocks,
    /// Visiting every node and item of the tree.
    Tree,
    /// Comparing what items say about each other, and reading data.
    References,
    /// Looking for the items that do not match, when some do not.
    Mismatches,
}

impl Stage {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superblocks => "superblocks",
            Self::Tree => "tree",
            Self::References => "references and data",
            Self::Mismatches => "mismatches",
        }
    }
}

/// Told how far a check is.
pub trait Progress {
    /// `done` of `total` units of this stage are done. False stops the check with `Interrupted`.
    fn advance(&mut self, stage: Stage, done: u64, total: u64) -> bool;
}

/// Tells nobody.
impl Progress for () {
    fn advance(&mut self, _: Stage, _: u64, _: u64) -> bool {
        true
    }
}

/// What was checked, and how much was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// The state that was checked; 0 when no superblock was whole.
    pub generation: u64,
    /// Whether the whole tree could be read.
    pub complete: bool,
    /// Copies of the superblock that are whole.
    pub superblocks: u64,
    /// Tree nodes.
    pub nodes: u64,
    /// Items of the tree.
    pub items: u64,
    /// Inodes of all types.
    pub inodes: u64,
    /// Of these, regular files.
    pub files: u64,
    /// Of these, directories.
    pub directories: u64,
    /// Of these, symbolic links.
    pub symlinks: u64,
    /// Inodes and streams that wait to be taken apart.
    pub orphans: u64,
    /// Directory entries.
    pub entries: u64,
    /// Extended attributes.
    pub attributes: u64,
    /// Extents of files and streams.
    pub extents: u64,
    /// Blocks that the state names, with those never given out.
    pub blocks_used: u64,
    /// Of these, blocks with several references.
    pub blocks_shared: u64,
    /// Blocks of data whose checksum was compared.
    pub blocks_read: u64,
    /// Collections.
    pub collections: u64,
    /// Rows of all collections.
    pub rows: u64,
    /// Rows whose bytes were compared.
    pub rows_read: u64,
    /// Vectors of all files.
    pub vectors: u64,
    /// Stored graphs that were checked.
    pub graphs: u64,
    /// Findings that make nothing read wrong.
    pub cosmetic: u64,
    /// Findings about what can be computed anew.
    pub derived: u64,
    /// Findings of damage.
    pub damage: u64,
    /// Of all findings, those that a repair cannot put right.
    pub irreparable: u64,
}

impl CheckReport {
    /// All findings.
    pub const fn findings(&self) -> u64 {
        self.cosmetic.saturating_add(self.derived).saturating_add(self.damage)
    }

    /// Whether nothing was found.
    pub const fn is_clean(&self) -> bool {
        self.findings() == 0
    }

    /// Counts a finding.
    pub(crate) fn count(&mut self, finding: &Finding) {
        let count = match finding.severity() {
            Severity::Cosmetic => &mut self.cosmetic,
            Severity::Derived => &mut self.derived,
            Severity::Damage => &mut self.damage,
        };
        *count = count.saturating_add(1);
        if !finding.is_repairable() {
            self.irreparable = self.irreparable.saturating_add(1);
        }
    }
}

/// How much of a state can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Inodes that can be read.
    pub inodes: u64,
    /// Inodes that the state had.
    pub inodes_of: u64,
    /// Vectors that can be read.
    pub vectors: u64,
    /// Vectors that the collections which can be read had.
    pub vectors_of: u64,
    /// Items that nothing else tells: inodes, entries, bytes, extents, attributes, collections,
    /// vectors.
    pub items: u64,
}

/// Where findings go.
pub(crate) struct Sink<'a> {
    each: &'a mut dyn FnMut(&Finding),
    progress: &'a mut dyn Progress,
    pub report: Box<CheckReport>,
}

impl<'a> Sink<'a> {
    pub fn new(each: &'a mut dyn FnMut(&Finding), progress: &'a mut dyn Progress) -> Result<Self> {
        Ok(Self { each, progress, report: try_box(CheckReport::default())? })
    }

    fn tell(&mut self, code: Code, place: Place, error: Option<Error>) {
        let finding = Finding { code, place, error };
        self.report.count(&finding);
        (self.each)(&finding);
    }

    fn find(&mut self, code: Code, place: Place) -> Result<()> {
        self.tell(code, place, None);
        Ok(())
    }

    /// A finding that came as an error of reading; errors of the host are passed on.
    fn find_error(&mut self, code: Code, place: Place, error: Error) -> Result<()> {
        match error {
            Error::OutOfMemory | Error::Interrupted => Err(error),
            error => {
                self.tell(code, place, Some(error));
                Ok(())
            }
        }
    }

    fn progress(&mut self, stage: Stage, done: u64, total: u64) -> Result<()> {
        if self.progress.advance(stage, done, total) { Ok(()) } else { Err(Error::Interrupted) }
    }
}

/// The walk that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    First,
    Second,
    Third,
}

/// The check of one state.
pub(crate) struct Checker<'a> {
    host: Shared<Host>,
    pub state: Box<Superblock>,
    tree: Box<Tree>,
    options: CheckOptions,
    pub sink: Sink<'a>,
    pass: Pass,
    /// Every node could be read.
    pub complete: bool,
    pub lost_nodes: Vec<LostNode>,
    /// What the first pass could read.
    pub kept: Box<Kept>,
    /// The object whose items the first pass is at.
    object: Box<Object>,
    pub blocks: Box<BlockUse>,
    /// In the order of their numbers.
    inodes: Vec<InodeRecord>,
    /// Objects listed to be taken apart, in order.
    orphans: Vec<u64>,
    names: NamesOfBase,
    streams: Box<Streams>,
    collections: Box<Collections>,
    object_highest: u64,
    /// Inodes whose links do not match their entries.
    link_suspects: Table<()>,
    /// Collections whose rows do not match the files' vectors, by number.
    row_suspects: Table<()>,
    /// Key of the hashes by which sets are compared.
    hash_key: [u8; 16],
    buffer: Vec<u8>,
}

impl<'a> Checker<'a> {
    /// On the heap, part by part: a check may run on a small stack.
    #[inline(never)]
    pub fn new(
        host: Shared<Host>,
        state: &Superblock,
        options: CheckOptions,
        sink: Sink<'a>,
    ) -> Result<Box<Self>> {
        let tree = open_tree(&host, state, options.cache_bytes)?;
        let mut hash_key = [0; 16];
        host.random.fill(&mut hash_key);
        Ok(try_box(Self {
            host,
            state: try_box(*state)?,
            tree,
            options,
            sink,
            pass: Pass::First,
            complete: true,
            lost_nodes: Vec::new(),
            kept: try_box(Kept { inodes_of: state.inodes, ..Kept::default() })?,
            object: try_box(Object::default())?,
            blocks: try_box(BlockUse::default())?,
            inodes: Vec::new(),
            orphans: Vec::new(),
            names: NamesOfBase::default(),
            streams: try_box(Streams::default())?,
            collections: try_box(Collections::default())?,
            object_highest: 0,
            link_suspects: Table::new(),
            row_suspects: Table::new(),
            hash_key,
            buffer: Vec::new(),
        })?)
    }

    fn find(&mut self, code: Code, place: Place) -> Result<()> {
        self.sink.find(code, place)
    }

    /// A number by which sets of such triples are compared: sets are equal when their sums are, but
    /// for a chance of one in 2^64 that nobody can steer.
    fn mix(&self, words: [u64; 3]) -> u64 {
        use core::hash::Hasher;
        let mut hasher = siphasher::sip::SipHasher24::new_with_key(&self.hash_key);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    /// Reads all nodes and counts what there is; nothing is compared.
    pub fn run_nodes(&mut self) -> Result<()> {
        self.walk(Pass::First)?;
        self.finish_object()
    }

    pub fn run(&mut self) -> Result<()> {
        self.sink.report.generation = self.state.generation;
        self.mark_reserved()?;
        self.walk(Pass::First)?;
        self.finish_object()?;
        self.finish_first_pass()?;
        self.walk(Pass::Second)?;
        self.finish_blocks()?;
        self.finish_directories()?;
        self.finish_collections()?;
        if !self.link_suspects.is_empty() || !self.row_suspects.is_empty() {
            self.walk(Pass::Third)?;
            self.judge_mismatches()?;
        }
        self.sink.report.complete = self.complete;
        Ok(())
    }

    fn walk(&mut self, pass: Pass) -> Result<()> {
        self.pass = pass;
        let stage = match pass {
            Pass::First => Stage::Tree,
            Pass::Second => Stage::References,
            Pass::Third => Stage::Mismatches,
        };
        let mut walk = Walk::new(self.state.root)?;
        while let Some(leaf) = walk.next_leaf(self)? {
            self.sink.progress(stage, walk.done(), 1000)?;
            for at in 0..leaf.count() {
                self.item(stage, leaf.key(at), leaf.item(at))?;
            }
        }
        self.sink.progress(stage, 1000, 1000)
    }

    fn item(&mut self, stage: Stage, key: Key, item: &[u8]) -> Result<()> {
        match stage {
            Stage::Tree => self.first_item(key, item),
            Stage::References => self.second_item(key, item),
            _ => self.third_item(key, item),
        }
    }
}

#[inline(never)] // its frame must not add to that of `Checker::new`
fn open_tree(host: &Shared<Host>, state: &Superblock, cache_bytes: usize) -> Result<Box<Tree>> {
    Ok(try_box(Tree::open(host.clone(), state, cache_bytes)?)?)
}

/// Checks the file system on the device. Nothing is ever written. `each` is told every finding.
///
/// Errors: `NotVexfs`, `UnknownFeatures` and `NotSupported` when there is none, or one of a later
/// version; `OutOfMemory`; `Interrupted`. Damage is no error but a finding.
pub fn check(
    host: Host,
    options: &CheckOptions,
    progress: &mut dyn Progress,
    each: &mut dyn FnMut(&Finding),
) -> Result<CheckReport> {
    let host = Shared::try_new(host)?;
    let copies = read_copies(&host)?;
    let mut sink = Sink::new(each, progress)?;
    match superblocks::examine(&host, &copies, &mut sink)? {
        None => Ok(*sink.report),
        Some(state) => {
            let mut checker = Checker::new(host, state, *options, sink)?;
            checker.run()?;
            Ok(*checker.sink.report)
        }
    }
}
