// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Stress of a mounted VexFS, to be run in a guest:
//!
//! ```text
//! vexfs-guest-stress work DIRECTORY SEED BASE          until it is killed; prints its journal
//! vexfs-guest-stress verify DIRECTORY JOURNAL          what the journal says is so
//! vexfs-guest-stress cuts DEVICE LOG SURE TARGET SEED N   power cuts that lose what was not flushed
//! vexfs-guest-stress faults DEVICE SEED ROUNDS [KIND]  allocations and requests that fail
//! vexfs-guest-stress broken DEVICE SEED ROUNDS         the same, without the kernel's fault injection
//! vexfs-guest-stress pressure DEVICE SEED TIMES    files of so many times the memory
//! vexfs-guest-stress crowd DEVICE SEED SECONDS     many threads and few names
//! ```
//!
//! The first two are for `vm/power-cut`, which kills the guest. The others end with a line
//! `N passed, N failed`.

mod content;
mod crowd;
mod cuts;
mod faults;
mod journal;
mod mapper;
mod pressure;
mod replay;
#[path = "../support.rs"]
#[allow(dead_code)] // Each of the programs uses a part of it.
mod support;
mod vectors;
mod verify;
mod workload;

use journal::{Journal, Promises};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64};
use workload::Workload;

/// Threads of a workload.
pub const THREADS: u64 = 4;

fn work(directory: &Path, seed: u64, base: u64) -> ExitCode {
    let collection = workload::prepare(directory).expect("a collection and directories");
    println!("ready");
    let workload = Workload {
        directory,
        journal: &Journal::printed(),
        seed,
        base,
        stop: &AtomicBool::new(false),
        expected: &[],
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        around: None,
    };
    workload.run(collection, THREADS, u64::MAX);
    ExitCode::SUCCESS
}

/// Verifies, and removes what is in the way of going on with the same file system.
fn verify(directory: &Path, journal: &str) -> ExitCode {
    let promises = Promises::of(journal.lines());
    let Some(outcome) = verify::report(directory, &promises, true) else {
        return ExitCode::FAILURE;
    };
    for name in &outcome.loose {
        println!("going {name}");
        std::fs::remove_file(directory.join(name)).expect("removed");
    }
    println!("verified {} {}", outcome.kept, outcome.newest);
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{text}: no number"));
    match arguments[..] {
        ["work", directory, seed, base] => work(directory.as_ref(), number(seed), number(base)),
        ["verify", directory, journal] => {
            let text = std::fs::read_to_string(journal).expect("the journal");
            verify(directory.as_ref(), &text)
        }
        ["cuts", device, log, sure, target, seed, count] => {
            cuts::run([device, log, sure, target].map(Path::new), number(seed), number(count))
        }
        [how @ ("faults" | "broken"), device, seed, rounds, ref word @ ..] => {
            let word = word.first().copied().unwrap_or("");
            faults::run(device.as_ref(), number(seed), number(rounds), how == "faults", word)
        }
        ["pressure", device, seed, times] => {
            pressure::run(device.as_ref(), number(seed), number(times))
        }
        ["crowd", device, seed, seconds] => {
            crowd::run(device.as_ref(), number(seed), number(seconds))
        }
        _ => {
            eprintln!("see the comment at the head of guest/src/stress/main.rs");
            ExitCode::from(2)
        }
    }
}
