// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Many threads in one directory: making, renaming, exchanging, linking and removing the same names,
//! while others put vectors and search. A hit is always a file that is there with that vector, or has
//! just gone.

use crate::support::{Mounted, Numbers};
use crate::vectors;
use rustix::fs::RenameFlags;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const THREADS: u64 = 6;
const NAMES: u64 = 30;

/// One change of a name that other threads change too; what they were faster with is no failure.
fn change(top: &Path, collection: u32, version: u64, numbers: &mut Numbers) -> std::io::Result<()> {
    let mut any = || top.join(format!("d{}/n{}", numbers.below(3), numbers.below(NAMES)));
    let (one, other) = (any(), any());
    let expected = [libc::ENOENT, libc::EEXIST, libc::EINVAL, libc::ESTALE];
    let result = match numbers.below(8) {
        0..3 => {
            File::options().read(true).write(true).create(true).truncate(false).open(&one).and_then(
                |file| {
                    rustix::fs::ftruncate(&file, version % 9000)?;
                    vectors::put(&file, collection, version)
                },
            )
        }
        3 => fs::rename(&one, &other),
        4 => {
            let cwd = rustix::fs::CWD;
            rustix::fs::renameat_with(cwd, &one, cwd, &other, RenameFlags::EXCHANGE)
                .map_err(Into::into)
        }
        5 => fs::hard_link(&one, &other),
        _ => fs::remove_file(&one),
    };
    match result {
        Err(error) if error.raw_os_error().is_some_and(|code| expected.contains(&code)) => Ok(()),
        result => result,
    }
}

/// A search for a vector, and for what the directory says.
fn look(top: &Path, collection: u32, last: u64, numbers: &mut Numbers) -> std::io::Result<u64> {
    let directory = File::open(top.join(format!("d{}", numbers.below(3))))?;
    let version = numbers.below(last.max(1));
    let query = vectors::vector(version, 0);
    let (_, hits) = vectors::search(&directory, collection, &query, 4, 0)?;
    for hit in &hits {
        // The vector of a hit is as far away as is said of it.
        let found = vectors::vector(hit.tag, hit.chunk);
        let components = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        let pairs = components(&found).into_iter().zip(components(&query));
        let distance: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
        let told = f32::from_bits(hit.distance);
        if (distance - told).abs() > 1e-3 * distance.max(1.0) {
            return Err(std::io::Error::other(format!("{hit:?} is {distance} away")));
        }
    }
    Ok(hits.len() as u64)
}

/// Lets the threads go on for so many seconds, then compares searches with what is there.
pub fn run(device: &Path, seed: u64, seconds: u64) -> ExitCode {
    let mounted = Mounted { device: device.into(), directory: "/mnt".into() };
    mounted.format();
    mounted.mount("commit=1");
    let top = &mounted.directory;
    let directory = File::open(top).expect("the mount");
    let collection = vectors::collection(&directory).expect("a collection");
    for number in 0..3 {
        fs::create_dir(top.join(format!("d{number}"))).expect("a directory");
    }
    let (stop, last, hits) = (AtomicBool::new(false), AtomicU64::new(1), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stop, last, hits) = (&stop, &last, &hits);
            scope.spawn(move || {
                let mut numbers = Numbers((seed * 64 + thread).wrapping_mul(0x9e37_79b9) | 1);
                while !stop.load(Ordering::Relaxed) {
                    if thread % 3 == 2 {
                        let found =
                            look(top, collection, last.load(Ordering::Relaxed), &mut numbers);
                        hits.fetch_add(found.expect("a search"), Ordering::Relaxed);
                    } else {
                        let version = last.fetch_add(1, Ordering::Relaxed);
                        change(top, collection, version, &mut numbers).expect("a change");
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_secs(seconds));
        stop.store(true, Ordering::Relaxed);
    });
    let (changes, hits) = (last.into_inner(), hits.into_inner());
    println!("{changes} changes, {hits} hits");
    assert!(changes > 100 && hits > 100, "hardly anything was done");
    drop(directory);
    let mut checked = 0;
    for again in 0..2 {
        let directory = File::open(top).expect("the mount");
        for number in 0..3 {
            for entry in fs::read_dir(top.join(format!("d{number}"))).expect("a directory") {
                let file = File::open(entry.expect("an entry").path()).expect("opened");
                let Some(one) = vectors::list(&file).expect("its vectors").first().copied() else {
                    continue;
                };
                let query = vectors::vector(one.tag, one.chunk);
                let (_, hits) =
                    vectors::search(&directory, collection, &query, 1, 0).expect("a search");
                let inode = file.metadata().expect("its number").ino();
                assert_eq!(hits.first().map(|hit| hit.inode), Some(inode), "{one:?}: {hits:?}");
                checked += 1;
            }
        }
        drop(directory);
        if again == 0 {
            mounted.cycle();
        }
    }
    println!("{checked} files found by their vectors");
    mounted.unmount();
    mounted.check();
    println!("1 passed, 0 failed");
    ExitCode::SUCCESS
}
