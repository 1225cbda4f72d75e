// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Times operations in a guest:
//!
//! ```text
//! vexfs-guest-bench names DIRECTORY COUNT    on any file system
//! vexfs-guest-bench ioctl DIRECTORY COUNT    on VexFS
//! vexfs-guest-bench searches DIRECTORY COUNT likewise
//! ```
//!
//! The first makes that many empty files in a new directory, tells of each, and removes each; it
//! prints a line `NAME PER-SECOND` for each. The second searches an empty collection as often, and
//! gives a trivial command on the same file; it prints a line `NAME NANOSECONDS` for each, and one
//! for the part of the search that the kernel counts, which is all between its way in and out. The
//! third stores that many random vectors of 1,024 bytes, and searches them by their graph, many queries
//! at a time, with one thread and with one for each processor; it prints a line `searches by THREADS
//! PER-SECOND` for both.

#[allow(dead_code)] // Each of the programs uses a part of it.
mod support;
#[allow(dead_code)] // Likewise.
mod vectors;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use vexfs_uapi as uapi;
use vexfs_uapi::Command as _;

fn timed(
    name: &str,
    files: &[PathBuf],
    operation: impl Fn(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let start = Instant::now();
    for file in files {
        operation(file)?;
    }
    println!("{name} {:.0}", files.len() as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn names(directory: &Path, count: usize) -> std::io::Result<()> {
    let directory = directory.join("names");
    fs::create_dir(&directory)?;
    let files: Vec<PathBuf> = (0..count).map(|n| directory.join(format!("file-{n}"))).collect();
    timed("create", &files, |file| File::create(file).map(drop))?;
    timed("stat", &files, |file| fs::metadata(file).map(drop))?;
    timed("unlink", &files, |file| fs::remove_file(file))?;
    fs::remove_dir(&directory)
}

/// Rounds, of which the fastest counts: others do not have the processor to themselves.
const ROUNDS: usize = 20;

fn ioctl(directory: &Path, count: usize) -> std::io::Result<()> {
    let top = File::open(directory)?;
    let collection = vectors::create_collection(&top, "empty");
    let query = vectors::vectors(1, 1);
    let (mut trivial, mut search, mut inside) = (f64::MAX, f64::MAX, f64::MAX);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..count {
            let mut version = 0_i64;
            // SAFETY: FS_IOC_GETVERSION writes to the number, which lives through the call.
            let result =
                unsafe { libc::ioctl(top.as_raw_fd(), 0x8008_7601_u32 as _, &mut version) };
            if result < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        trivial = trivial.min(start.elapsed().as_nanos() as f64 / count as f64);
        let start = Instant::now();
        let mut nanoseconds = 0;
        for _ in 0..count {
            nanoseconds += vectors::search(&top, collection, &query, 0)?.1.nanoseconds;
        }
        search = search.min(start.elapsed().as_nanos() as f64 / count as f64);
        inside = inside.min(nanoseconds as f64 / count as f64);
    }
    println!("trivial command {trivial:.0}");
    println!("search of an empty collection {search:.0}");
    println!("inside the kernel {inside:.0}");
    Ok(())
}

/// Queries of one command.
const BATCH: usize = 256;
const TIMED: Duration = Duration::from_secs(1);
/// Of the searches, by each number of threads in turns. The best counts.
const TURNS: usize = 5;

fn searches(directory: &Path, count: usize) -> std::io::Result<()> {
    let top = File::open(directory)?;
    let collection = vectors::create_collection(&top, "searched");
    vectors::put(&directory.join("vectors"), collection, &vectors::vectors(1, count));
    let mut maintain =
        uapi::CollectionMaintain { number: collection, ..uapi::CollectionMaintain::new() };
    vectors::command(&top, &mut maintain)?;
    let queries = vectors::vectors(2, BATCH);
    let (_, told) = vectors::search(&top, collection, &queries, 0)?;
    if told.plan != uapi::PLAN_GRAPH {
        return Err(std::io::Error::other("so few vectors are searched without a graph"));
    }
    let threads = [1, std::thread::available_parallelism()?.get()];
    let mut best = [0.0_f64; 2];
    for _ in 0..TURNS {
        for (threads, best) in threads.iter().zip(&mut best) {
            let start = Instant::now();
            let work = || {
                let mut done = 0;
                while start.elapsed() < TIMED {
                    vectors::search(&top, collection, &queries, 0)?;
                    done += BATCH;
                }
                Ok(done as f64 / start.elapsed().as_secs_f64())
            };
            let rates = std::thread::scope(|scope| {
                let work: Vec<_> = (0..*threads).map(|_| scope.spawn(work)).collect();
                let rates = work.into_iter().map(|one| one.join().expect("a thread"));
                rates.sum::<std::io::Result<f64>>()
            });
            *best = best.max(rates?);
        }
    }
    for (threads, best) in threads.iter().zip(best) {
        println!("searches by {threads} {best:.0}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (job, directory, count) = match arguments.iter().map(|s| &**s).collect::<Vec<_>>()[..] {
        ["names", directory, count] => (names as fn(&Path, usize) -> _, directory, count),
        ["ioctl", directory, count] => (ioctl as fn(&Path, usize) -> _, directory, count),
        ["searches", directory, count] => (searches as fn(&Path, usize) -> _, directory, count),
        _ => {
            eprintln!("usage: vexfs-guest-bench names|ioctl|searches DIRECTORY COUNT");
            return ExitCode::from(2);
        }
    };
    let Ok(count) = count.parse() else {
        eprintln!("vexfs-guest-bench: {count} is no number");
        return ExitCode::from(2);
    };
    match job(Path::new(directory), count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vexfs-guest-bench: {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}
