// SPDX-License-Identifier: GPL-2.0-only
//! Checking and repairing a file system on a device that is not mounted, and showing its metadata.

use crate::boundary::{deliver, failure, status};
use crate::host::host;
use alloc::vec::Vec;
use core::ffi::c_void;
use vexfs_core::check::{
    CheckOptions, CheckReport, Finding, Names, ObjectName, Progress, Severity, Stage, check,
};
use vexfs_core::repair::{Event, RepairOptions, repair};
use vexfs_core::{DumpRecord, Error, FileSystem, SuperblockCopy, dump_superblocks, kind_name};

/// Words that live for ever, or for the call that they are handed to.
#[repr(C)]
pub struct Words {
    /// The first byte of UTF-8.
    pub start: *const u8,
    /// Bytes.
    pub bytes: usize,
}

impl From<&Option<Vec<u8>>> for Words {
    fn from(words: &Option<Vec<u8>>) -> Self {
        match words {
            Some(words) => Self { start: words.as_ptr(), bytes: words.len() },
            None => Self { start: core::ptr::null(), bytes: 0 },
        }
    }
}

impl From<&'static str> for Words {
    fn from(words: &'static str) -> Self {
        Self { start: words.as_ptr(), bytes: words.len() }
    }
}

/// [`Finding`] with a layout that C can declare.
#[repr(C)]
pub struct Found {
    /// The stable name of its code.
    pub name: Words,
    /// What is wrong.
    pub text: Words,
    /// The word for its severity.
    pub severity_name: Words,
    /// The first path of the file that it is about; null if that is not known.
    pub path: Words,
    /// The collection that it is about; null if there is none.
    pub collection: Words,
    /// Block of the device. Numbers that do not apply are 0.
    pub block: u64,
    /// Object of the item.
    pub object: u64,
    /// Offset of the item's key.
    pub offset: u64,
    /// What a number was found to be.
    pub found: u64,
    /// What it ought to be, or the other object that the finding is about.
    pub expected: u64,
    /// Kind of the item.
    pub kind: u32,
    /// 0 cosmetic, 1 derived, 2 damage.
    pub severity: u32,
    /// 1 if a repair can put it right, else 0.
    pub is_repairable: u32,
    /// The negative errno that reading the place gave, 0 for none.
    pub errno: i32,
    /// 0 found, 1 put right, else the negative errno for which it could not be.
    pub outcome: i32,
    /// Zero.
    pub reserved: u32,
}

impl Found {
    /// It points to the words of `name`.
    fn new(finding: &Finding, name: &ObjectName, outcome: i32) -> Self {
        let Finding { code, place, error } = finding;
        Self {
            name: code.name().into(),
            text: finding.text().into(),
            severity_name: finding.severity().name().into(),
            path: (&name.path).into(),
            collection: (&name.collection).into(),
            block: place.block,
            object: place.object,
            offset: place.offset,
            found: place.found,
            expected: place.expected,
            kind: u32::from(place.kind),
            severity: match finding.severity() {
                Severity::Cosmetic => 0,
                Severity::Derived => 1,
                Severity::Damage => 2,
            },
            is_repairable: u32::from(finding.is_repairable()),
            errno: error.as_ref().map_or(0, failure),
            outcome,
            reserved: 0,
        }
    }
}

/// Takes a finding.
pub type EachFinding = extern "C" fn(context: *mut c_void, found: &Found);

/// Told that `done` of `total` units of a stage are done; a false answer stops with `-EINTR`.
pub type Advance =
    extern "C" fn(context: *mut c_void, stage: &Words, done: u64, total: u64) -> bool;

struct Advancing(Advance, *mut c_void);

impl Progress for Advancing {
    fn advance(&mut self, stage: Stage, done: u64, total: u64) -> bool {
        (self.0)(self.1, &Words::from(stage.name()), done, total)
    }
}

/// The findings of a [`CheckReport`], with a layout that C can declare.
#[repr(C)]
pub struct Counts {
    /// The state that was checked; 0 when no superblock was whole.
    pub generation: u64,
    /// Findings that make nothing read wrong.
    pub cosmetic: u64,
    /// Findings about what can be computed anew.
    pub derived: u64,
    /// Findings of damage.
    pub damage: u64,
    /// Of all findings, those that a repair cannot put right.
    pub irreparable: u64,
    /// 1 if the whole tree could be read, else 0.
    pub is_complete: u32,
    /// 1 if a repair has changed something, else 0.
    pub has_changed: u32,
}

impl Counts {
    fn new(report: &CheckReport, has_changed: bool) -> Self {
        Self {
            generation: report.generation,
            cosmetic: report.cosmetic,
            derived: report.derived,
            damage: report.damage,
            irreparable: report.irreparable,
            is_complete: u32::from(report.complete),
            has_changed: u32::from(has_changed),
        }
    }
}

/// Checks the file system on `device` without writing, with its data if `data`, and writes what was
/// counted. Damage is a finding and no error.
///
/// # Safety
/// `device` is what the `vexfs_host_device_*` functions take; `counts` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_check(
    device: *mut c_void,
    data: bool,
    cache_bytes: usize,
    each: EachFinding,
    advance: Advance,
    context: *mut c_void,
    counts: *mut Counts,
) -> i32 {
    let options = CheckOptions { data, cache_bytes };
    let names = host(device).map_err(Error::from).and_then(Names::open).ok();
    let checked = host(device).map_err(Error::from).and_then(|host| {
        check(host, &options, &mut Advancing(advance, context), &mut |finding| {
            let name = names.as_ref().and_then(|names| names.of(finding).ok());
            each(context, &Found::new(finding, &name.unwrap_or_default(), 0));
        })
    });
    // SAFETY: the caller's word.
    unsafe { deliver(checked.map(|report| Counts::new(&report, false)), counts) }
}

/// Checks the file system on `device`, puts right what can be, and writes what is left. With
/// `only_whole` no state is given up, no damaged node cut off, and no damage touched.
///
/// # Safety
/// As for [`vexfs_core_check`]; nobody else uses the device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_repair(
    device: *mut c_void,
    only_whole: bool,
    cache_bytes: usize,
    each: EachFinding,
    advance: Advance,
    context: *mut c_void,
    counts: *mut Counts,
) -> i32 {
    let options = RepairOptions {
        check: CheckOptions { cache_bytes, ..CheckOptions::default() },
        severity_max: if only_whole { Severity::Derived } else { Severity::Damage },
        older_state: !only_whole,
        cut_damaged: !only_whole,
        ..RepairOptions::default()
    };
    let repaired = host(device).map_err(Error::from).and_then(|host| {
        repair(host, &options, &mut Advancing(advance, context), &mut |event| {
            let (finding, outcome) = match event {
                Event::Found(finding) => (finding, 0),
                Event::Repaired(finding) => (finding, 1),
                Event::Failed(finding, error) => (finding, failure(error)),
                Event::OlderState { .. } | Event::KeptState { .. } | Event::CutOff { .. } => return,
            };
            each(context, &Found::new(finding, &ObjectName::default(), outcome));
        })
    });
    let left = repaired.map(|report| Counts::new(&report.after, report.has_changed()));
    // SAFETY: the caller's word.
    unsafe { deliver(left, counts) }
}

/// Takes a copy of the superblock: its number, where it is, its 4,096 bytes (null if they cannot be
/// read) and the negative errno of what is wrong with it, 0 for nothing.
pub type EachCopy = extern "C" fn(
    context: *mut c_void,
    number: usize,
    offset: u64,
    bytes: *const c_void,
    fault: i32,
);

/// Shows every copy of the superblock on `device`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_dump_superblocks(
    device: *mut c_void,
    each: EachCopy,
    context: *mut c_void,
) -> i32 {
    status(host(device).map_err(Error::from).and_then(|host| {
        dump_superblocks(&host, &mut |copy| {
            let SuperblockCopy { number, offset, layout, fault } = *copy;
            let bytes = layout.map_or(core::ptr::null(), |layout| (&raw const *layout).cast());
            each(context, number, offset, bytes, fault.as_ref().map_or(0, failure));
        })
    }))
}

/// [`DumpRecord`] with a layout that C can declare: a node (`kind` is "node", `number` its block,
/// `offset` its generation), or an item of the node before it.
#[repr(C)]
pub struct Record {
    /// The word for the kind of items, or "node".
    pub kind: Words,
    /// The item's bytes; null for a node.
    pub bytes: *const u8,
    /// Bytes of the item.
    pub length: usize,
    /// Object of the key, or block of the node.
    pub number: u64,
    /// Offset of the key, or generation of the node.
    pub offset: u64,
    /// Level of a node.
    pub level: u32,
    /// The negative errno that reading a node gave, 0 for none.
    pub errno: i32,
}

impl From<&DumpRecord<'_>> for Record {
    fn from(record: &DumpRecord<'_>) -> Self {
        let node = Self {
            kind: "node".into(),
            bytes: core::ptr::null(),
            length: 0,
            number: 0,
            offset: 0,
            level: 0,
            errno: 0,
        };
        match *record {
            DumpRecord::Node { block, generation, level, .. } => {
                Self { number: block, offset: generation, level: u32::from(level), ..node }
            }
            DumpRecord::Damaged { block, level, ref error } => {
                Self { number: block, level: u32::from(level), errno: failure(error), ..node }
            }
            DumpRecord::Item { object, kind, offset, bytes } => Self {
                kind: kind_name(kind).into(),
                bytes: bytes.as_ptr(),
                length: bytes.len(),
                number: object,
                offset,
                ..node
            },
        }
    }
}

/// Takes a node or an item; a false answer ends the dump.
pub type EachRecord = extern "C" fn(context: *mut c_void, record: &Record) -> bool;

/// Shows every node and item of the tree. `each` runs under the tree's lock and must not call the
/// file system.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_dump(
    file_system: &FileSystem,
    each: EachRecord,
    context: *mut c_void,
) -> i32 {
    status(file_system.dump(&mut |record| each(context, &Record::from(record))))
}

/// Takes the number of an inode.
pub type EachNumber = extern "C" fn(context: *mut c_void, number: u64);

/// Shows the inodes that wait to be taken apart.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_core_orphans(
    file_system: &FileSystem,
    each: EachNumber,
    context: *mut c_void,
) -> i32 {
    status(file_system.orphans().map(|numbers| {
        for number in &numbers {
            each(context, *number);
        }
    }))
}
