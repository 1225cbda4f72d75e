// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The repair: puts right what a check finds, as far as the device tells how.
//!
//! A repair is rounds of a check and changes, until a check finds nothing that can be changed. Every
//! change is an ordinary operation and every round ends with a commit, so a crash leaves a state of
//! before or after a change, and the next repair goes on. Changes are small and local: an entry is
//! removed, a link added. What follows from that, such as a count, the next round finds. Blocks
//! that a change lets go of are not freed one by one but found unused by the next round, because
//! the record of free space may be what is wrong.

mod collections;
mod directories;
mod inodes;
mod items;
#[cfg(test)]
mod node_tests;
mod state;
#[cfg(test)]
mod tests;

use crate::check::{
    CheckOptions, CheckReport, Checker, Code, Finding, Kept, Progress, Severity, Sink, superblocks,
};
use crate::error::{Error, Result};
use crate::filesystem::{FileSystem, OpenOptions};
use crate::host::Host;
use crate::superblock::{Superblock, read_copies};
use alloc::boxed::Box;
use alloc::vec::Vec;
use vexfs_memory::{Shared, TryVec, try_box};

/// Findings that one round puts right at most; the next goes on with the others.
const ROUND_FINDINGS_MAX: usize = 1 << 16;

/// How to repair.
#[derive(Clone, Copy, Debug)]
pub struct RepairOptions {
    /// How to check.
    pub check: CheckOptions,
    /// The worst findings that are put right. Below [`Severity::Damage`] nothing is lost: what
    /// exists only once is left as it is, and so is everything that was found beside it, because
    /// counts and free space that follow from damaged items are damaged too.
    pub severity_max: Severity,
    /// Take an older state when more of it can be read than of the newest, which is damaged. What
    /// was committed in between is lost.
    pub older_state: bool,
    /// Cut damaged nodes off the tree. What they held is lost; what can be told from the rest is
    /// kept.
    pub cut_damaged: bool,
    /// Most rounds.
    pub rounds_max: u32,
}

impl Default for RepairOptions {
    fn default() -> Self {
        Self {
            check: CheckOptions::default(),
            severity_max: Severity::Damage,
            older_state: true,
            cut_damaged: true,
            rounds_max: 64,
        }
    }
}

/// What a repair tells of as it happens.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// Something is not as it should be.
    Found(&'a Finding),
    /// It was put right.
    Repaired(&'a Finding),
    /// It could not be put right, for this reason.
    Failed(&'a Finding, Error),
    /// The newest state is damaged; an older one is the present state from now on.
    OlderState {
        /// The state that is given up.
        damaged: u64,
        /// What could be read of it.
        damaged_kept: &'a Kept,
        /// The state that was taken instead.
        taken: u64,
        /// What can be read of that.
        taken_kept: &'a Kept,
    },
    /// The newest state is damaged and kept, because no older one has more; its damaged nodes are
    /// cut off next.
    KeptState {
        /// The state.
        state: u64,
        /// How many nodes are cut off.
        nodes: u64,
        /// What is left.
        kept: &'a Kept,
    },
    /// A damaged node was cut off the tree, with all that it held.
    CutOff {
        /// Its block.
        block: u64,
        /// Its level; 0 is a leaf.
        level: u8,
    },
}

/// What a repair did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// The check before anything was changed.
    pub before: CheckReport,
    /// The check afterwards.
    pub after: CheckReport,
    /// Findings that were put right.
    pub repaired: u64,
    /// Rounds of changes.
    pub rounds: u32,
    /// The older state that was taken; 0 when the newest was kept.
    pub older_state: u64,
    /// Nodes that were cut off.
    pub cut_off: u64,
}

impl RepairReport {
    /// Whether anything was written.
    pub const fn has_changed(&self) -> bool {
        self.repaired > 0 || self.older_state > 0 || self.cut_off > 0
    }

    /// Whether anything is left that should not be.
    pub const fn is_clean(&self) -> bool {
        self.after.is_clean()
    }
}

type Tell<'a> = &'a mut dyn FnMut(&Event<'_>);

/// Checks the file system on the device and puts right what it can. `tell` is told of everything.
/// The caller keeps others off the device.
///
/// Errors: as for [`crate::check::check`]; `Device` when writing fails, `NoSpace` when there is not
/// even room for repairs. Damage that is left is no error but in [`RepairReport::after`].
pub fn repair(
    host: Host,
    options: &RepairOptions,
    progress: &mut dyn Progress,
    tell: &mut dyn FnMut(&Event<'_>),
) -> Result<RepairReport> {
    let mut repair = Repair {
        host: Shared::try_new(host)?,
        options: *options,
        report: try_box(RepairReport::default())?,
        findings: Vec::new(),
        overflow: false,
        too_severe: false,
    };
    repair.run(progress, tell)?;
    Ok(*repair.report)
}

struct Repair {
    host: Shared<Host>,
    options: RepairOptions,
    report: Box<RepairReport>,
    /// Those of the last check.
    findings: Vec<Finding>,
    /// There were more than [`ROUND_FINDINGS_MAX`].
    overflow: bool,
    /// The last check found what may not be put right, and what other findings may follow from.
    too_severe: bool,
}

impl Repair {
    fn run(&mut self, progress: &mut dyn Progress, tell: Tell<'_>) -> Result<()> {
        let first = self.options.check;
        // Later rounds need not read the data again: nothing writes to it. But of another state, or
        // of what is left when nodes are cut off, vectors may lack their bytes.
        let later = CheckOptions { data: false, ..first };
        let mut options = first;
        for round in 0..self.options.rounds_max.max(1) {
            let Some(plan) = self.check(&options, round, progress, tell)? else { return Ok(()) };
            let changed = match plan.is_whole() {
                _ if self.too_severe => false,
                true => self.change(&plan, tell)?,
                false => self.recover(&plan, progress, tell)?,
            };
            options = if plan.is_whole() { later } else { first };
            if !changed {
                break;
            }
            self.report.rounds = self.report.rounds.saturating_add(1);
        }
        if self.report.has_changed() {
            self.finish_orphans();
            // Found again, and not told again.
            let report = self.check_with(&first, progress, &mut |_| {})?;
            self.report.after = report.map_or(self.report.after, |plan| *plan.report);
        }
        Ok(())
    }

    /// One check, whose findings are kept and told. `None` when there is nothing to go on with.
    #[inline(never)]
    fn check(
        &mut self,
        options: &CheckOptions,
        round: u32,
        progress: &mut dyn Progress,
        tell: Tell<'_>,
    ) -> Result<Option<state::Plan>> {
        let mut findings = Vec::new();
        let (mut overflow, mut short, mut too_severe) = (false, false, false);
        let severity_max = self.options.severity_max;
        let plan = self.check_with(options, progress, &mut |finding| {
            tell(&Event::Found(finding));
            too_severe |= finding.severity() > severity_max && !finding.is_contained();
            if findings.len() >= ROUND_FINDINGS_MAX {
                overflow = true;
            } else if findings.try_push(*finding).is_err() {
                short = true;
            }
        })?;
        if short {
            return Err(Error::OutOfMemory);
        }
        (self.findings, self.overflow, self.too_severe) = (findings, overflow, too_severe);
        if let Some(plan) = &plan {
            self.report.after = *plan.report;
            if round == 0 {
                self.report.before = *plan.report;
            }
        } else {
            for finding in &self.findings {
                self.report.before.count(finding);
            }
            self.report.after = self.report.before;
        }
        Ok(plan)
    }

    #[inline(never)]
    fn check_with(
        &self,
        options: &CheckOptions,
        progress: &mut dyn Progress,
        each: &mut dyn FnMut(&Finding),
    ) -> Result<Option<state::Plan>> {
        let copies = read_copies(&self.host)?;
        let mut sink = Sink::new(each, progress)?;
        match superblocks::examine(&self.host, &copies, &mut sink)? {
            None => Ok(None),
            Some(state) => {
                let mut checker = Checker::new(self.host.clone(), state, *options, sink)?;
                checker.run()?;
                Ok(Some(state::Plan::new(*checker)))
            }
        }
    }

    /// A whole state in the place of a damaged one, or the damaged one without its damaged nodes.
    /// Returns whether anything was done.
    #[inline(never)]
    fn recover(
        &mut self,
        plan: &state::Plan,
        progress: &mut dyn Progress,
        tell: Tell<'_>,
    ) -> Result<bool> {
        let root_lost = plan.lost_nodes.iter().any(|lost| lost.level >= plan.state.root.level);
        let can_cut = self.options.cut_damaged && !root_lost;
        if self.options.older_state && self.report.cut_off == 0 {
            // Nothing of a tree without its root can be kept.
            let least = if can_cut { Some(plan.kept.items) } else { None };
            if let Some((older, kept)) = self.better_older_state(&plan.state, least, progress)? {
                state::publish_instead(&self.host, &older, plan.state.generation)?;
                self.report.older_state = older.generation;
                tell(&Event::OlderState {
                    damaged: plan.state.generation,
                    damaged_kept: &plan.kept,
                    taken: older.generation,
                    taken_kept: &kept,
                });
                return Ok(true);
            }
        }
        if !can_cut {
            return Ok(false);
        }
        let (state, nodes) = (plan.state.generation, plan.lost_nodes.len() as u64);
        tell(&Event::KeptState { state, nodes, kept: &plan.kept });
        state::publish_front(&self.host, &plan.state)?;
        let fs = FileSystem::open_shared(self.host.clone(), &OpenOptions::default())?;
        state::replace_groups(&fs, plan, true)?;
        for lost in &plan.lost_nodes {
            fs.operation(4, true, |tree| tree.cut_off(lost.low, lost.level))?;
            self.report.cut_off += 1;
            tell(&Event::CutOff { block: lost.block, level: lost.level });
        }
        fs.commit()?;
        Ok(true)
    }

    /// Of the other states that a superblock copy names, the one of which most can be read, if that
    /// is more than `least` items. Without `cut_damaged` it has to be whole.
    #[inline(never)]
    fn better_older_state(
        &self,
        damaged: &Superblock,
        least: Option<u64>,
        progress: &mut dyn Progress,
    ) -> Result<Option<(Box<Superblock>, Box<Kept>)>> {
        let copies = read_copies(&self.host)?;
        let mut below = damaged.generation;
        let mut best: Option<(Box<Superblock>, Box<Kept>)> = None;
        loop {
            let mut next: Option<&Superblock> = None;
            for copy in copies.iter().flatten() {
                let newer = next.is_none_or(|next| copy.generation > next.generation);
                let same = copy.uuid == damaged.uuid && copy.blocks == damaged.blocks;
                if copy.generation < below && newer && same && copy.root != damaged.root {
                    next = Some(copy);
                }
            }
            let Some(candidate) = next else { return Ok(best) };
            below = candidate.generation;
            let (mut each, options) = (|_: &Finding| {}, self.options.check);
            let sink = Sink::new(&mut each, progress)?;
            let mut checker = Checker::new(self.host.clone(), candidate, options, sink)?;
            checker.run_nodes()?;
            let usable = checker.complete
                || (self.options.cut_damaged
                    && checker.lost_nodes.iter().all(|lost| lost.level < candidate.root.level));
            let so_far = best.as_ref().map(|(_, kept)| kept.items).or(least);
            if usable && so_far.is_none_or(|so_far| checker.kept.items > so_far) {
                best = Some((try_box(*candidate)?, checker.kept));
            }
        }
    }

    /// One round of changes. Returns whether anything was put right.
    #[inline(never)]
    fn change(&mut self, plan: &state::Plan, tell: Tell<'_>) -> Result<bool> {
        let findings = core::mem::take(&mut self.findings);
        let most = self.options.severity_max;
        let wanted = |finding: &Finding| finding.is_repairable() && finding.severity() <= most;
        if !findings.iter().any(wanted) {
            return Ok(false);
        }
        // A front copy of the present state has to be there for a writer to find it.
        state::publish_front(&self.host, &plan.state)?;
        let fs = FileSystem::open_shared(self.host.clone(), &OpenOptions::default())?;
        if findings.iter().any(|finding| state::is_about_state(finding.code)) {
            state::replace_groups(&fs, plan, false)?;
            state::replace_counts(&fs, plan, &findings)?;
            state::replace_shared(&fs, plan)?;
            if findings.iter().any(|finding| state::is_about_superblock(finding.code)) {
                fs.republish()?;
            }
        }
        let mut repaired = 0;
        for finding in findings.iter().filter(|finding| wanted(finding)) {
            let result = match finding.code {
                code if state::is_about_state(code) => Ok(()),
                code => fix(&fs, code, finding),
            };
            match result {
                Ok(()) => {
                    repaired += 1;
                    tell(&Event::Repaired(finding));
                }
                // One finding may be gone with another.
                Err(Error::NotFound) => repaired += 1,
                Err(
                    error @ (Error::Device(_)
                    | Error::OutOfMemory
                    | Error::NoSpace
                    | Error::Poisoned
                    | Error::OtherWriter),
                ) => return Err(error),
                Err(error) => tell(&Event::Failed(finding, error)),
            }
        }
        fs.commit()?;
        self.report.repaired += repaired;
        Ok(repaired > 0)
    }

    /// Takes apart what waits for it, now that everything is known to be sound.
    #[inline(never)]
    fn finish_orphans(&self) {
        if self.report.after.findings() != self.report.after.irreparable {
            return;
        }
        // What cannot be taken apart stays noted, which is as good.
        let _ = FileSystem::open_shared(self.host.clone(), &OpenOptions::default())
            .and_then(|fs| fs.reap_orphans().and_then(|_| fs.commit()));
    }
}

/// Puts one finding right. `NotFound` when it is not there any more.
fn fix(fs: &FileSystem, code: Code, finding: &Finding) -> Result<()> {
    let place = &finding.place;
    items::fix(fs, code, place)
        .or_else(|| inodes::fix(fs, code, place))
        .or_else(|| directories::fix(fs, code, place))
        .or_else(|| collections::fix(fs, code, place))
        .unwrap_or(Err(Error::NotSupported("this finding cannot be put right")))
}
