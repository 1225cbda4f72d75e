// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Power cuts that lose what was not flushed: a workload on a device whose writes are logged, then
//! cuts at random places in the log, each checked, mounted and compared with what was promised.

use crate::journal::{Journal, Promises};
use crate::mapper::{Mapped, sectors};
use crate::replay::Log;
use crate::support::{Mounted, Numbers};
use crate::verify;
use crate::workload::{self, Workload};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long a logged workload goes on.
const WORK: Duration = Duration::from_secs(3);
/// Cuts of one log.
const CUTS_OF_A_LOG: u64 = 40;

fn writable(device: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(device).expect("a device")
}

/// Copies the bytes of a device to another.
fn copy(from: &File, to: &File, bytes: u64) {
    let mut piece = vec![0; 1 << 20];
    for at in (0..bytes).step_by(piece.len()) {
        let length = piece.len().min((bytes - at) as usize);
        from.read_exact_at(&mut piece[..length], at).expect("read");
        to.write_all_at(&piece[..length], at).expect("write");
    }
}

fn zero(device: &Path, bytes: u64) {
    let file = writable(device);
    for at in (0..bytes).step_by(1 << 20) {
        file.write_all_at(&vec![0; (bytes - at).min(1 << 20) as usize], at).expect("write");
    }
    file.sync_all().expect("sync");
}

/// Runs a workload on `device` and logs its writes. Returns the lines of its journal, each of which
/// is a mark in the log; that of number 0 stands before the first.
fn record(device: &Path, log: &Path, seed: u64) -> Vec<String> {
    let parameters = format!("{} {}", device.display(), log.display());
    let target = Mapped::create("logged", sectors(device), "log-writes", &parameters).expect("dm");
    let target = Arc::new(target);
    let mounted = Mounted { device: target.path().into(), directory: "/mnt".into() };
    mounted.format();
    mounted.mount("discard,commit=1");
    let collection = workload::prepare(&mounted.directory).expect("a collection and directories");
    let mark = {
        let target = target.clone();
        move |number: usize| target.message(&format!("mark {number}")).expect("a mark")
    };
    let journal = Journal::kept(Some(Box::new(mark)));
    journal.announce("begin".into());
    let stop = AtomicBool::new(false);
    let workload = Workload {
        directory: &mounted.directory,
        journal: &journal,
        seed,
        base: 0,
        stop: &stop,
        expected: &[],
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        around: None,
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(WORK);
            stop.store(true, Ordering::Relaxed);
        });
        workload.run(collection, crate::THREADS, u64::MAX);
    });
    mounted.unmount();
    println!("{} operations, {} lines", workload.done.into_inner(), journal.lines().len());
    journal.lines()
}

/// A cut: the device is sound, mounts, and has what was promised; also after it was used again.
fn survives(mounted: &Mounted, lines: &[String]) -> bool {
    let fsck = Command::new("fsck.vexfs").args(["-n", "-f"]).arg(&mounted.device).output();
    let fsck = fsck.expect("fsck.vexfs");
    if !fsck.status.success() {
        eprint!("{}", String::from_utf8_lossy(&fsck.stdout));
        return false;
    }
    mounted.mount("");
    let promises = Promises::of(lines.iter().map(String::as_str));
    let outcome = verify::report(&mounted.directory, &promises, true);
    let used = outcome.as_ref().is_some_and(|outcome| {
        outcome.loose.iter().all(|name| std::fs::remove_file(mounted.directory.join(name)).is_ok())
    });
    mounted.unmount();
    mounted.check();
    used
}

/// Makes `count` cuts. The devices are for the file system, for its log (larger), and, as large as the
/// first, for what is sure at a cut and for what it leaves.
pub fn run(devices: [&Path; 4], seed: u64, count: u64) -> ExitCode {
    let [device, log, sure, target] = devices;
    let bytes = sectors(device) * 512;
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9) | 1);
    let (mut passed, mut failed) = (0, 0);
    let mut round = 0;
    while passed + failed < count {
        // The log begins with a device of zeros.
        zero(device, bytes);
        zero(sure, bytes);
        let lines = record(device, log, seed + round);
        let log = Log::open(writable(log)).expect("the log");
        let begin = log.find(1).expect("the first mark");
        let cuts = CUTS_OF_A_LOG.min(count - passed - failed);
        let span = ((log.len() - begin) as u64 / cuts).max(1);
        let sure_file = writable(sure);
        let (mut from, mut end) = (0, begin);
        for _ in 0..cuts {
            end = (end + 1 + numbers.below(2 * span) as usize).min(log.len());
            from = log.advance(&sure_file, from, end).expect("replay");
            let target_file = writable(target);
            copy(&sure_file, &target_file, bytes);
            log.scatter(&target_file, from, end, &mut numbers).expect("replay");
            target_file.sync_all().expect("sync");
            drop(target_file);
            let mounted = Mounted { device: target.into(), directory: "/mnt".into() };
            let mark = log.mark_before(end);
            if survives(&mounted, &lines[..mark]) {
                passed += 1;
            } else {
                failed += 1;
                println!("FAILED  a cut after {end} of {} entries, line {mark}", log.len());
            }
        }
        round += 1;
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
