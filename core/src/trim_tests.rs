// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Trimming, on a device that destroys what it is told of.

use crate::data_tests::{audit, create};
use crate::testing::Memory;
use crate::tree_tests::format;
use crate::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

/// Cancels after so many questions.
pub(crate) struct Impatient(pub AtomicU64);

impl Executor for Impatient {
    fn workers(&self) -> usize {
        1
    }
    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        Serial.run(tasks);
    }
    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

fn filled(memory: &Memory) -> (FileSystem, Vec<u64>) {
    let fs = format(memory, 12);
    let files: Vec<u64> = (0..64).map(|n| create(&fs, &std::format!("{n}"))).collect();
    for (n, file) in files.iter().enumerate() {
        fs.write(*file, 0, &std::vec![n as u8 + 1; 100_000]).unwrap();
    }
    for file in files.iter().step_by(3) {
        fs.truncate(*file, 0).unwrap();
    }
    (fs, files)
}

fn check(fs: &FileSystem, files: &[u64]) {
    for (n, file) in files.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        let mut bytes = std::vec![0; 100_000];
        assert_eq!(fs.read(*file, 0, &mut bytes).unwrap(), bytes.len());
        assert!(bytes.iter().all(|byte| *byte == n as u8 + 1), "file {n}");
    }
    audit(fs);
}

#[test]
fn what_is_trimmed_is_nobodys() {
    let memory = Memory::new(96 << 20);
    let (fs, files) = filled(&memory);
    // Neither what is not committed yet nor what the state before still names is touched.
    for _ in 0..4 {
        fs.trim(0, u64::MAX, 1, &Serial).unwrap();
        check(&fs, &files);
        fs.commit().unwrap();
    }
    let free = fs.status().blocks_free;
    let trimmed = fs.trim(0, u64::MAX, 1, &Serial).unwrap();
    assert!(trimmed <= free && trimmed > free - 256, "{trimmed} of {free}");
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    check(&fs, &files);
}

#[test]
fn ranges_and_shortest_runs_are_kept_to() {
    let memory = Memory::new(96 << 20);
    let (fs, files) = filled(&memory);
    fs.commit().unwrap();
    let all = fs.trim(0, u64::MAX, 1, &Serial).unwrap();
    let halves = [(0, 10_000), (10_000, u64::MAX)];
    let sum: u64 = halves.map(|(at, n)| fs.trim(at, n, 1, &Serial).unwrap()).iter().sum();
    assert_eq!(sum, all);
    let long = fs.trim(0, u64::MAX, 1000, &Serial).unwrap();
    assert!(long > 0 && long < all, "{long} of {all}");
    assert_eq!(fs.trim(0, u64::MAX, 8193, &Serial).unwrap(), 0);
    assert_eq!(fs.trim(1 << 40, 1, 1, &Serial).unwrap(), 0);
    let some = fs.trim(0, u64::MAX, 1, &Impatient(AtomicU64::new(2))).unwrap();
    assert!(some > 0 && some < all, "{some} of {all}");
    check(&fs, &files);
}

#[test]
fn a_device_that_fails_leaves_nothing_in_flight() {
    let memory = Memory::new(96 << 20);
    let (fs, files) = filled(&memory);
    fs.commit().unwrap();
    memory.broken.store(true, Ordering::SeqCst);
    assert!(matches!(fs.trim(0, u64::MAX, 1, &Serial), Err(Error::Device(_))));
    memory.broken.store(false, Ordering::SeqCst);
    check(&fs, &files);
}
