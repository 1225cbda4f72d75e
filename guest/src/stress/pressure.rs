// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! More files, bytes and vectors than there is memory, in a guest with little of it: everything is
//! found again, and the caches of the file system give memory back.

use crate::support::{Mounted, Numbers, assert_same, noise};
use crate::vectors;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of a file's content.
const BYTES: usize = 12_000;
const FILES_OF_A_DIRECTORY: u64 = 250;

fn memory(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let line = text.lines().find(|line| line.starts_with(name)).expect(name);
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

fn path(top: &Path, number: u64) -> PathBuf {
    top.join(format!("p{}/file{number}", number / FILES_OF_A_DIRECTORY))
}

/// Everything is there: names, attributes, bytes of one file in eight, and neighbours by search.
fn verify(top: &Path, collection: u32, count: u64, numbers: &mut Numbers) {
    let mut names = 0;
    for directory in 0..count.div_ceil(FILES_OF_A_DIRECTORY) {
        for entry in fs::read_dir(top.join(format!("p{directory}"))).expect("a directory") {
            let entry = entry.expect("an entry");
            assert_eq!(entry.metadata().expect("its attributes").len(), BYTES as u64);
            names += 1;
        }
    }
    assert_eq!(names, count);
    let directory = File::open(top).expect("the directory");
    for _ in 0..count / 8 {
        let number = numbers.below(count);
        let bytes = fs::read(path(top, number)).expect("readable");
        assert_same(&bytes, &noise(number + 1, BYTES), "a file");
    }
    for _ in 0..40 {
        let number = numbers.below(count);
        let query = vectors::vector(number, 1);
        let (_, hits) = vectors::search(&directory, collection, &query, 3, 0).expect("a search");
        assert_eq!(hits.first().map(|hit| (hit.tag, hit.distance)), Some((number, 0)), "{hits:?}");
    }
}

/// Works on `count` files with `options` of a mount.
fn work(mounted: &Mounted, options: &str, count: u64, numbers: &mut Numbers) {
    mounted.format();
    mounted.mount(options);
    let top = mounted.directory.join("files");
    fs::create_dir(&top).expect("a directory");
    let directory = File::open(&mounted.directory).expect("the mount");
    let collection = vectors::collection(&directory).expect("a collection");
    for number in 0..count {
        let path = path(&top, number);
        if number % FILES_OF_A_DIRECTORY == 0 {
            fs::create_dir(path.parent().expect("its directory")).expect("a directory");
        }
        fs::write(&path, noise(number + 1, BYTES)).expect("written");
        let file = File::options().read(true).write(true).open(&path).expect("opened");
        vectors::put(&file, collection, number).expect("vectors");
    }
    rustix::fs::sync();
    println!("{count} files written");
    verify(&top, collection, count, numbers);
    println!("found without a graph");
    vectors::maintain(&directory, collection).expect("a graph");
    verify(&top, collection, count, numbers);
    println!("found with a graph");
    drop(directory);
    mounted.cycle();
    verify(&top, collection, count, numbers);

    // What can be made again goes when it is asked for.
    let sysfs =
        fs::read_dir("/sys/fs/vexfs").expect("sysfs").map(|entry| entry.expect("entry").path());
    let own = sysfs.into_iter().find(|path| !path.ends_with("features")).expect("its directory");
    let text = |name: &str| fs::read_to_string(own.join(name)).expect(name).trim().to_owned();
    let value = |name: &str| text(name).parse::<u64>().expect("a number");
    // Not while somebody is at work on it.
    for _ in 0..600 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        if text("index_state") == "idle" {
            break;
        }
    }
    let before = (memory("MemAvailable"), memory("Slab"), value("cache_bytes"));
    for _ in 0..20 {
        fs::write("/proc/sys/vm/drop_caches", "3").expect("caches can be dropped");
        if value("index_bytes") < 64 << 10 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let after = (memory("MemAvailable"), memory("Slab"), value("cache_bytes"));
    println!("available, slab (KiB), nodes (bytes): {before:?}, without caches {after:?}");
    assert!(value("index_bytes") < 64 << 10, "graphs and vectors stay");
    assert!(after.2 < 1 << 20, "nodes stay");
    verify(&top, collection, count, numbers);
    mounted.unmount();
    mounted.check();
}

/// Works on files that have several times as many bytes as there is memory.
pub fn run(device: &Path, seed: u64, times: u64) -> ExitCode {
    let total = memory("MemTotal") * 1024;
    let count = total * times / BYTES as u64;
    let mounted = Mounted { device: device.into(), directory: "/mnt".into() };
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9) | 1);
    let mut passed = 0;
    // With more memory allowed for vectors than there is, and with less than they need.
    let much = format!("index_memory={}", total * 4);
    for options in [much.as_str(), "index_memory=1M"] {
        work(&mounted, options, count, &mut numbers);
        println!("ok      {count} files, {} MiB of memory, {options}", total >> 20);
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
    ExitCode::SUCCESS
}
