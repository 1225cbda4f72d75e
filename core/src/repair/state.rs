// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the superblock and the groups of blocks say about the whole, put right.

use crate::check::{BlockUse, CheckReport, Checker, Code, Finding, Kept, LostNode};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::host::Host;
use crate::key::{Key, Kind, OFFSET_MAX};
use crate::layout::{COLLECTION_MAX, GROUP_BLOCKS, SharedLayout};
use crate::superblock::{self, Superblock, read_copies};
use alloc::boxed::Box;
use alloc::vec::Vec;
use vexfs_memory::{TryVec, copied_bytes};
use zerocopy::IntoBytes;

/// Items that one operation changes at most.
const STEP_ITEMS: usize = 64;

/// What a check has gathered that changes go by.
pub(crate) struct Plan {
    pub state: Box<Superblock>,
    pub report: Box<CheckReport>,
    pub lost_nodes: Vec<LostNode>,
    pub kept: Box<Kept>,
    blocks: Box<BlockUse>,
}

impl Plan {
    pub fn new(checker: Checker<'_>) -> Self {
        Self {
            state: checker.state,
            report: checker.sink.report,
            lost_nodes: checker.lost_nodes,
            kept: checker.kept,
            blocks: checker.blocks,
        }
    }

    /// Whether the whole tree could be read.
    pub fn is_whole(&self) -> bool {
        self.lost_nodes.is_empty()
    }
}

pub(crate) fn is_about_superblock(code: Code) -> bool {
    matches!(
        code,
        Code::SuperblockDamaged
            | Code::SuperblockDiffers
            | Code::SuperblockMirror
            | Code::SuperblockBehind
            | Code::StateLost
    )
}

/// Whether the finding is put right with the state as a whole.
pub(crate) fn is_about_state(code: Code) -> bool {
    is_about_superblock(code)
        || matches!(
            code,
            Code::GroupMissing
                | Code::GroupMarkedFree
                | Code::GroupMarkedUsed
                | Code::GroupCount
                | Code::GroupMalformed
                | Code::FreeCount
                | Code::SharedCount
                | Code::InodeCount
                | Code::NextObject
                | Code::NextCollection
        )
}

/// Makes sure that the copy near the front where this state belongs holds it: it may have been
/// found near the end only.
pub(crate) fn publish_front(host: &Host, state: &Superblock) -> Result<()> {
    let copies = read_copies(host)?;
    match copies.get((state.generation % 2) as usize) {
        Some(Ok(front)) if front == state => Ok(()),
        _ => state.publish(host, &mut superblock::buffer()?),
    }
}

/// Publishes an older state as the newest, twice, so that no copy names the damaged one. The older
/// state's own copy near the end is overwritten only when the one near the front is durable.
pub(crate) fn publish_instead(host: &Host, older: &Superblock, damaged: u64) -> Result<()> {
    let mut writer = [0; 8];
    host.random.fill(&mut writer);
    let mut state = *older;
    state.writer = u64::from_le_bytes(writer);
    state.writer_generation = older.writer_generation.saturating_add(1);
    state.published_seconds = host.clock.now().seconds;
    let mut buffer = superblock::buffer()?;
    for step in 1..=2 {
        state.generation = damaged.saturating_add(step);
        state.publish(host, &mut buffer)?;
        state.mirror(host, &mut buffer)?;
        host.device.flush()?;
    }
    Ok(())
}

/// Makes the groups that are wrong, or all of them, what the check found them to be. Nothing may
/// have been allocated through `fs` before.
pub(crate) fn replace_groups(fs: &FileSystem, plan: &Plan, all: bool) -> Result<()> {
    let mut tree = fs.tree.write();
    let groups = plan.state.blocks.div_ceil(GROUP_BLOCKS);
    let mut free = plan.state.blocks;
    let mut wrong = plan.blocks.wrong_groups.iter();
    let mut next = wrong.next();
    for number in 0..groups {
        let used = plan.blocks.used.bitmap(number);
        let count = used.map_or(0, |used| used.count());
        free = free.saturating_sub(count);
        while next.is_some_and(|wrong| *wrong < number) {
            next = wrong.next();
        }
        if !all && next != Some(&number) {
            continue;
        }
        match used {
            Some(used) if count > 0 => {
                tree.space.load(number, Some((count, Some(used.bytes()))))?
            }
            _ => tree.space.load(number, None)?,
        }
        tree.space.unwritten(number);
    }
    tree.state.blocks_free = free;
    Ok(())
}

/// Corrects the counts in the superblock.
pub(crate) fn replace_counts(fs: &FileSystem, plan: &Plan, findings: &[Finding]) -> Result<()> {
    let now = fs.host.clock.now().seconds;
    fs.operation(0, true, |tree| {
        // A change of the state by itself, so that even a count of free blocks alone, which was
        // corrected before, is published.
        tree.state.published_seconds = now.max(plan.state.published_seconds.saturating_add(1));
        for finding in findings {
            let expected = finding.place.expected;
            match finding.code {
                Code::InodeCount => tree.state.inodes = expected,
                Code::NextObject => {
                    tree.state.next_object = expected.min(crate::layout::OBJECT_MAX)
                }
                Code::NextCollection => {
                    tree.state.next_collection = expected.min(u64::from(COLLECTION_MAX) + 1) as u32;
                }
                _ => {}
            }
        }
        Ok(())
    })
}

/// Writes the items of shared blocks anew.
pub(crate) fn replace_shared(fs: &FileSystem, plan: &Plan) -> Result<()> {
    if !plan.blocks.shared_wrong {
        return Ok(());
    }
    loop {
        let mut old: Vec<Key> = Vec::new();
        let (from, to) = (Key::new(0, Kind::Shared, 0), Key::new(0, Kind::Shared, OFFSET_MAX));
        fs.reader().scan(from, to, |key, _| {
            old.try_push(key)?;
            Ok(old.len() < STEP_ITEMS)
        })?;
        if old.is_empty() {
            break;
        }
        fs.operation(STEP_ITEMS as u64, true, |tree| {
            for key in &old {
                tree.remove(*key)?;
            }
            Ok(())
        })?;
    }
    for runs in plan.blocks.counted.chunks(STEP_ITEMS) {
        fs.operation(STEP_ITEMS as u64, true, |tree| {
            for run in runs {
                let layout = SharedLayout {
                    length: run.length.into(),
                    references: run.references.into(),
                    reserved: 0.into(),
                };
                tree.put(Key::new(0, Kind::Shared, run.start), &[layout.as_bytes()])?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// A copy of an item. `NotFound` when there is none.
pub(crate) fn item(fs: &FileSystem, key: Key) -> Result<Box<[u8]>> {
    let tree = fs.reader();
    let item = tree.get(key)?.ok_or(Error::NotFound)?;
    Ok(copied_bytes(&item)?)
}
