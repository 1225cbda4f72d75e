// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `fsck.vexfs`, also `vexfs fsck`: checking a file system, and repairing it. Exit codes are those
//! of fsck(8).

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome, complain, core_failure};
use crate::output;
use crate::place::{printable, refuse_mounted};
use clap::{Args, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;
use vexfs_engine::core::check::{
    CheckOptions, CheckReport, Code, Finding, Kept, Names, ObjectName, Progress, Severity, Stage,
    check,
};
use vexfs_engine::core::kind_name;
use vexfs_engine::core::repair::{Event, RepairOptions, RepairReport, repair};
use vexfs_engine::{Access, CoreError, Device, find_mount, host};

/// Something was wrong and has been put right.
pub const EXIT_CORRECTED: u8 = 1;
/// Something is wrong still.
pub const EXIT_UNCORRECTED: u8 = 4;
/// The check could not be done.
pub const EXIT_OPERATIONAL: u8 = 8;
/// The command line makes no sense.
pub const EXIT_USAGE: u8 = 16;

pub(super) const EXAMPLES: &str = "\
Examples:
  fsck.vexfs -n notes.img       check everything, write nothing
  fsck.vexfs -p /dev/sdb1       put right what can be put right without loss, as at boot
  fsck.vexfs -y notes.img       put right all that can be
  fsck.vexfs -n --json notes.img

A crash leaves nothing to repair. What a check finds is damage by the device, by another program, \
or by a fault in VexFS. Counts, free space, search graphs and copies of the superblock are made \
anew from the rest; -p does only that, and nothing at all where there is damage. What exists only \
once and is damaged is cut off by -y, and named. When parts of the newest state are damaged, -y \
counts what can be read of it and of the state before it, takes the one with more, and says how much \
that is. Files with damaged bytes are named and kept: restore them from a copy.

Without -n, -p, -a and -y it asks before it changes anything, or, without a terminal, only checks.

Exit codes: 0 nothing found, 1 all put right, 4 something is wrong still, 8 the check could not be \
done, 16 wrong usage.";

/// Checks a VexFS file system in an image file or on a block device, and repairs it
#[derive(Debug, Parser)]
#[command(name = "fsck.vexfs", version, after_help = EXAMPLES)]
pub struct CommandLine {
    /// Its arguments.
    #[command(flatten)]
    pub arguments: Arguments,
}

/// Takes the number off `-C0`: fsck(8) names the descriptor for its progress bar so.
pub fn without_descriptors(arguments: Vec<OsString>) -> Vec<OsString> {
    let is_descriptor = |argument: &OsString| {
        let number = argument.as_bytes().strip_prefix(b"-C");
        number.is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
    };
    let plain = |argument| if is_descriptor(&argument) { OsString::from("-C") } else { argument };
    arguments.into_iter().map(plain).collect()
}

/// Arguments of `fsck.vexfs`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Change nothing: only check
    #[arg(short = 'n', conflicts_with_all = ["preen", "automatic", "yes"])]
    no: bool,

    /// Put right, without asking, what loses nothing: copies of the superblock, counts, free space,
    /// search graphs, and other things that follow from the rest. Where there is damage, all is left
    /// as it is, for -y. Data is not read unless -f is given too
    #[arg(short = 'p', conflicts_with_all = ["automatic", "yes"])]
    preen: bool,

    /// The same as -p
    #[arg(short = 'a', conflicts_with = "yes")]
    automatic: bool,

    /// Put right, without asking, all that can be: damaged parts are cut off
    #[arg(short = 'y')]
    yes: bool,

    /// With -p or -a, read and check all data too
    #[arg(short, long)]
    force: bool,

    /// Tell what was checked
    #[arg(short, long)]
    verbose: bool,

    /// Show progress (also if standard error is no terminal)
    #[arg(short = 'C')]
    progress: bool,

    /// Print JSON: an object a line for each finding, then one with what was checked
    #[arg(long)]
    json: bool,

    /// Image file or block device
    #[arg(value_name = "IMAGE|DEVICE")]
    image: PathBuf,
}

impl Arguments {
    /// Runs the check and tells the exit code of fsck(8).
    pub fn exit_code(&self, program: &str) -> ExitCode {
        match self.check() {
            Ok(code) => ExitCode::from(code),
            Err(failure) => {
                let _ = failure.report(program);
                ExitCode::from(match failure {
                    Failure::Usage(_) => EXIT_USAGE,
                    _ => EXIT_OPERATIONAL,
                })
            }
        }
    }

    /// Runs the check as a command of `vexfs` that knows only success and failure.
    pub fn run(&self) -> Outcome {
        match self.check()? {
            0 | EXIT_CORRECTED => Ok(()),
            _ => Err(Failure::Told),
        }
    }

    fn check(&self) -> Outcome<u8> {
        refuse_mounted(&self.image, "Unmount it, then give its device")?;
        let preen = self.preen || self.automatic;
        if preen || self.yes {
            return self.repair(!self.yes);
        }
        let report = self.only_check()?;
        if report.is_clean() {
            return Ok(0);
        }
        let asks = !self.no && !self.json && std::io::stdin().is_terminal();
        if asks && report.irreparable < report.findings() && output::ask("Put right what can be?")?
        {
            return self.repair(false);
        }
        Ok(EXIT_UNCORRECTED)
    }

    fn options(&self) -> CheckOptions {
        let quick = (self.preen || self.automatic) && !self.force;
        CheckOptions { data: !quick, ..CheckOptions::default() }
    }

    fn only_check(&self) -> Outcome<CheckReport> {
        let device = Device::open(&self.image, Access::Read)?;
        if let Some(mounted) = find_mount(&self.image) {
            complain(&format!(
                "{}: it is mounted at {}: what changes meanwhile may look like damage",
                printable(&self.image),
                printable(&mounted.at)
            ));
        }
        let mut bar = Bar::new(self.progress);
        let mut teller = Teller::new(self, device.clone());
        let mut told = Ok(());
        let result = check(host(device), &self.options(), &mut bar, &mut |finding| {
            if told.is_ok() {
                told = teller.tell("found", finding, None);
            }
        });
        bar.end();
        told?;
        let report = result.map_err(|error| self.failed(error))?;
        self.summarize(&report, None)?;
        Ok(report)
    }

    fn repair(&self, careful: bool) -> Outcome<u8> {
        let device = Device::open(&self.image, Access::Write)?;
        let options = RepairOptions {
            check: self.options(),
            severity_max: if careful { Severity::Derived } else { Severity::Damage },
            ..RepairOptions::default()
        };
        let mut bar = Bar::new(self.progress);
        let mut teller = Teller::new(self, device.clone());
        let mut told = Ok(());
        let result = repair(host(device), &options, &mut bar, &mut |event| {
            if told.is_ok() {
                told = teller.tell_event(event);
            }
        });
        bar.end();
        told?;
        let report = result.map_err(|error| self.failed(error))?;
        self.summarize(&report.after, Some(&report))?;
        if careful && report.after.damage > 0 && !self.json {
            output::line(&format!(
                "{}: damage is left as it is: run fsck.vexfs -n to see all of it, and fsck.vexfs \
                 -y to put right what can be",
                printable(&self.image)
            ))?;
        }
        Ok(match (report.is_clean(), report.has_changed()) {
            (true, false) => 0,
            (true, true) => EXIT_CORRECTED,
            (false, _) => EXIT_UNCORRECTED,
        })
    }

    fn failed(&self, error: CoreError) -> Failure {
        let image = self.image.as_os_str().as_bytes();
        match error {
            CoreError::NotVexfs(_) => Failure::about(
                image,
                "not a VexFS file system: none of the four copies of the superblock is there",
            ),
            error => core_failure(image, error),
        }
    }

    fn summarize(&self, report: &CheckReport, repair: Option<&RepairReport>) -> Outcome {
        let name = printable(&self.image);
        if self.json {
            return output::json(&summary_json(&name, report, repair));
        }
        if self.verbose {
            output::line(&format!(
                "state {}: {} tree nodes with {} items, {} inodes ({} files, {} directories), {} \
                 entries, {} extents, {} blocks in use, {} blocks of data read, {} collections \
                 with {} vectors",
                report.generation,
                report.nodes,
                report.items,
                report.inodes,
                report.files,
                report.directories,
                report.entries,
                report.extents,
                report.blocks_used,
                report.blocks_read,
                report.collections,
                report.vectors
            ))?;
        }
        if let Some(repair) = repair.filter(|repair| repair.has_changed()) {
            let were = if repair.repaired == 1 { "was" } else { "were" };
            output::line(&format!("{name}: {} {were} put right", findings(repair.repaired)))?;
        }
        match report.findings() {
            0 => output::line(&format!(
                "{name}: clean, {} files and directories, {} vectors",
                report.inodes, report.vectors
            )),
            found => output::line(&format!(
                "{name}: {} ({} of damage, {} beyond repair)",
                findings(found),
                report.damage,
                report.irreparable
            )),
        }
    }
}

/// So many findings, in words.
fn findings(count: u64) -> String {
    if count == 1 { "1 finding".to_owned() } else { format!("{count} findings") }
}

/// Tells what is found and done as it happens, by the names that the user knows.
struct Teller<'a> {
    arguments: &'a Arguments,
    device: Device,
    /// `None` until something is found; then whether and how the names can be found out.
    names: Option<Option<Names>>,
    /// The object that it was last said of what to do.
    advised: Option<(Code, u64)>,
}

impl<'a> Teller<'a> {
    fn new(arguments: &'a Arguments, device: Device) -> Self {
        Self { arguments, device, names: None, advised: None }
    }

    fn tell_event(&mut self, event: &Event<'_>) -> Outcome {
        let json = self.arguments.json;
        let result = match event {
            Event::Found(finding) => return self.tell("found", finding, None),
            Event::Repaired(finding) => self.tell("repaired", finding, None),
            Event::Failed(finding, error) => {
                let reason = vexfs_engine::describe(error).to_string();
                self.tell("not repaired", finding, Some(reason))
            }
            Event::OlderState { damaged, damaged_kept, taken, taken_kept } if json => {
                output::json(&json!({
                    "event": "older state",
                    "damaged_state": damaged, "damaged_kept": kept_json(damaged_kept),
                    "taken_state": taken, "taken_kept": kept_json(taken_kept),
                }))
            }
            Event::OlderState { damaged, damaged_kept, taken, taken_kept } => {
                output::line(&format!(
                    "state {damaged} is damaged, with {} left; state {taken}, before it, is taken \
                     instead, with {} left: all changes between the two are lost",
                    kept_text(damaged_kept),
                    kept_text(taken_kept)
                ))
            }
            Event::KeptState { state, nodes, kept } if json => output::json(&json!({
                "event": "kept state", "state": state, "damaged_nodes": nodes,
                "kept": kept_json(kept),
            })),
            Event::KeptState { state, nodes, kept } => output::line(&format!(
                "state {state} is kept without its damaged tree nodes, {nodes} in number, with {} \
                 left",
                kept_text(kept)
            )),
            Event::CutOff { block, level } if json => output::json(&json!({
                "event": "cut off", "block": block, "level": level,
            })),
            Event::CutOff { block, level } => output::line(&format!(
                "block {block} (a tree node of level {level}) is damaged and was cut off"
            )),
        };
        // What is found next is found in another tree.
        if !matches!(event, Event::Repaired(_) | Event::Failed(..)) {
            self.names = None;
        }
        result
    }

    fn object_name(&mut self, finding: &Finding) -> ObjectName {
        let names = self.names.get_or_insert_with(|| Names::open(host(self.device.clone())).ok());
        names.as_ref().and_then(|names| names.of(finding).ok()).unwrap_or_default()
    }

    fn tell(&mut self, event: &str, finding: &Finding, reason: Option<String>) -> Outcome {
        let name = self.object_name(finding);
        if self.arguments.json {
            return output::json(&finding_json(event, finding, &name, reason));
        }
        let mut line = format!("{}: {}", finding.severity().name(), finding.text());
        if let Some(path) = &name.path {
            line.push_str(&format!(", {}", escape_name(path)));
        }
        if let Some(collection) = &name.collection {
            line.push_str(&format!(", collection {}", escape_name(collection)));
        }
        let (found, expected) = (finding.place.found, finding.place.expected);
        if finding.code == Code::DeviceTooSmall {
            let missing = expected.saturating_sub(found);
            line.push_str(&format!(" ({found} bytes of {expected}, {missing} are missing)"));
        } else {
            for (field, value) in place(finding) {
                match field {
                    "kind" => line.push_str(&format!(", {} item", kind_name(finding.place.kind))),
                    field => line.push_str(&format!(", {field} {value}")),
                }
            }
        }
        if let Some(error) = &finding.error {
            line.push_str(&format!(": {}", vexfs_engine::describe(error)));
        }
        match (event, reason) {
            ("found", _) => {}
            (event, Some(reason)) => line = format!("{event} ({reason}): {line}"),
            (event, None) => line = format!("{event}: {line}"),
        }
        output::line(&line)?;
        let about = (finding.code, finding.place.object);
        match advice(finding.code, &name) {
            Some(advice) if event == "found" && self.advised != Some(about) => {
                self.advised = Some(about);
                output::line(&format!("  {advice}"))
            }
            _ => Ok(()),
        }
    }
}

/// What a user can do about what no repair puts right.
fn advice(code: Code, name: &ObjectName) -> Option<&'static str> {
    Some(match code {
        Code::DataChecksum | Code::DataUnreadable if name.path.is_some() => {
            "Restore this file from a copy, or remove it; nothing else is affected."
        }
        Code::DeviceTooSmall => {
            "Bring the missing bytes back: make the image or device as long as it was, from a copy if \
             they are gone. Without them nothing can be repaired."
        }
        Code::SuperblockNone => "Without one the tree cannot be found: restore from a copy.",
        Code::StateLost => {
            "What was changed last may be gone; keep a copy of the image before fsck.vexfs -y."
        }
        _ => return None,
    })
}

fn kept_text(kept: &Kept) -> String {
    format!(
        "{} of {} inodes and {} of {} vectors",
        kept.inodes, kept.inodes_of, kept.vectors, kept.vectors_of
    )
}

fn kept_json(kept: &Kept) -> Value {
    json!({
        "inodes": kept.inodes, "inodes_of": kept.inodes_of,
        "vectors": kept.vectors, "vectors_of": kept.vectors_of, "items": kept.items,
    })
}

/// What there is to say of where a finding was made.
fn place(finding: &Finding) -> impl Iterator<Item = (&'static str, u64)> {
    let place = finding.place;
    [
        ("block", place.block),
        ("object", place.object),
        ("kind", place.kind.into()),
        ("offset", place.offset),
        ("found", place.found),
        ("expected", place.expected),
    ]
    .into_iter()
    .filter(|(_, value)| *value != 0)
}

/// A name as JSON: as it is, but for bytes that JSON cannot hold.
fn name_json(name: &[u8]) -> String {
    String::from_utf8(name.to_vec()).unwrap_or_else(|_| escape_name(name))
}

fn finding_json(
    event: &str,
    finding: &Finding,
    name: &ObjectName,
    reason: Option<String>,
) -> Value {
    let mut object = json!({
        "event": event,
        "code": finding.code.name(),
        "severity": finding.severity().name(),
        "repairable": finding.is_repairable(),
        "text": finding.text(),
        "path": name.path.as_deref().map(name_json),
        "collection": name.collection.as_deref().map(name_json),
        "error": finding.error.map(|error| vexfs_engine::describe(&error).to_string()),
        "reason": reason,
    });
    if let Value::Object(fields) = &mut object {
        fields.extend(place(finding).map(|(name, value)| match name {
            "kind" => (name.to_owned(), kind_name(finding.place.kind).into()),
            _ => (name.to_owned(), value.into()),
        }));
    }
    object
}

fn summary_json(name: &str, report: &CheckReport, repair: Option<&RepairReport>) -> Value {
    json!({
        "event": "summary",
        "image": name,
        "clean": report.is_clean(),
        "complete": report.complete,
        "state": report.generation,
        "superblocks": report.superblocks,
        "nodes": report.nodes,
        "items": report.items,
        "inodes": report.inodes,
        "files": report.files,
        "directories": report.directories,
        "symlinks": report.symlinks,
        "orphans": report.orphans,
        "entries": report.entries,
        "attributes": report.attributes,
        "extents": report.extents,
        "blocks_used": report.blocks_used,
        "blocks_shared": report.blocks_shared,
        "blocks_read": report.blocks_read,
        "collections": report.collections,
        "rows": report.rows,
        "vectors": report.vectors,
        "graphs": report.graphs,
        Severity::Cosmetic.name(): report.cosmetic,
        Severity::Derived.name(): report.derived,
        Severity::Damage.name(): report.damage,
        "irreparable": report.irreparable,
        "repaired": repair.map_or(0, |repair| repair.repaired),
        "cut_off": repair.map_or(0, |repair| repair.cut_off),
    })
}

/// Shows how far the check is.
struct Bar {
    bar: ProgressBar,
    stage: Option<Stage>,
    /// Whether progress is told in lines, to something that is no terminal.
    lines: bool,
    percent: u64,
}

impl Bar {
    fn new(shown: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = if shown && terminal { ProgressBar::new(1000) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg:18} {wide_bar} {percent:>3}%") {
            bar.set_style(style);
        }
        Self { bar, stage: None, lines: shown && !terminal, percent: 0 }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Bar {
    fn advance(&mut self, stage: Stage, done: u64, total: u64) -> bool {
        if self.stage != Some(stage) {
            self.stage = Some(stage);
            self.percent = 0;
            self.bar.set_message(stage.name());
        }
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
        let percent = (u128::from(done) * 100 / u128::from(total.max(1))) as u64;
        if self.lines && (percent > self.percent || percent == 0) {
            crate::failure::complain(&format!("{}: {percent}%", stage.name()));
            self.percent = percent;
        }
        true
    }
}
