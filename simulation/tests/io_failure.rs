// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Every request to the device fails in turn: the call that needed it says so, nothing that was
//! published is lost, and nothing is written where what is on the device is no longer known.

use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{Error, FileSystem, OpenOptions};
use vexfs_simulation::*;

/// What a run with a fault came to.
#[derive(Default)]
struct Outcome {
    /// Whether the fault struck.
    struck: bool,
    /// Whether the file system has stopped writing.
    stopped: bool,
    /// Whether the call that failed was a commit.
    in_commit: bool,
}

/// A file system that was in use for a while.
struct Aged {
    image: Image,
    state: State,
}

impl Aged {
    fn new(seed: u64) -> Self {
        let device = format(8 << 20, seed);
        let mut session = Session::open(&device, State::new(), seed).unwrap();
        let mut workload = Workload::new(seed);
        workload.inodes_aim = 100;
        workload.data_percent = 20;
        for _ in 0..600 {
            let change = workload.next(&session);
            session.apply(&change).unwrap();
        }
        for number in session.held.clone().into_keys() {
            session.fs.close_inode(number).unwrap();
        }
        session.commit_observed(None).unwrap();
        Self { image: device.image(), state: session.state }
    }
}

/// Runs a workload in which one request fails, or all from it on.
fn run(seed: u64, aged: &Aged, fault: Fault) -> Outcome {
    let device = SimulatedDevice::with_image(aged.image.clone());
    device.record();
    // Little memory, so that nodes are read again and again.
    let options = OpenOptions { cache_bytes: 1 << 16, discard: true, ..OpenOptions::default() };
    let mut session = Session::open_with(&device, aged.state.clone(), seed, &options).unwrap();
    let mut workload = Workload::new(seed + 1);
    workload.inodes_aim = 100;
    let mut outcome = Outcome::default();
    device.inject(Some(fault));
    for number in 0..40 {
        let change = workload.next(&session);
        let commit = number % 10 == 9;
        let result = match commit {
            true => session.commit_observed(None),
            false => session.apply(&change),
        };
        let Err(error) = result else { continue };
        assert!(device.failed_requests() > 0, "{error:?} without a fault, {change:?}");
        assert!(matches!(error, Error::Device(_)), "{error:?} for a fault of the device");
        outcome.struck = true;
        outcome.in_commit = commit;
        // The device may work again, or not: nothing is written any more if it was on its way to
        // publish, and an operation that failed has left no trace.
        let gone = fault.times > 1;
        if !gone {
            session.check();
            outcome.stopped = session.fs.is_read_only();
        }
        if outcome.stopped {
            let events = device.event_count();
            let change = Change::SetMode { number: ROOT_INODE, mode: 0o700 };
            assert_eq!(session.apply(&change), Err(Error::Poisoned));
            assert_eq!(session.fs.commit(), Err(Error::Poisoned));
            assert_eq!(device.event_count(), events, "written to after it had stopped");
            session.check();
        } else if !gone {
            // As if nothing had happened.
            session.apply(&change).unwrap();
            session.commit().unwrap();
        } else {
            for _ in 0..4 {
                let change = workload.next(&session);
                let _ = session.apply(&change);
                let _ = session.fs.commit();
            }
        }
        break;
    }
    outcome.struck |= device.failed_requests() > 0;
    device.inject(None);
    let mut random = SeededRandom::new(seed);
    let trace = device.trace();
    let last = trace.events.len();
    trace.crash_states_at(last, &mut random, 2, |crash| {
        let device = SimulatedDevice::with_image(crash.image.clone());
        let judged = observe_device(&device).and_then(|found| session.judge(&crash, &found));
        if let Err(problem) = judged.and_then(|_| check_device(&device).map(drop)) {
            panic!("seed {seed:#x}, {fault:?} ({}): {problem}", crash.fate);
        }
    });
    outcome
}

/// Lets every request of the kind fail in turn. Returns how many there were.
fn every(seed: u64, fault: impl Fn(u64) -> Fault, mut each: impl FnMut(&Outcome)) -> u64 {
    let aged = Aged::new(seed);
    for nth in 0..10_000 {
        let outcome = run(seed, &aged, fault(nth));
        if !outcome.struck {
            return nth;
        }
        each(&outcome);
    }
    panic!("the workload never ends");
}

#[test]
fn a_failed_write_stops_the_writer_only_when_it_was_publishing() {
    let seed = seed(0x10_0001);
    let (mut stopped, mut went_on) = (0, 0);
    let count = every(
        seed,
        |nth| Fault::once(Request::Write, nth),
        |outcome| {
            assert!(outcome.stopped || !outcome.in_commit, "a commit failed and writing went on");
            stopped += u32::from(outcome.stopped);
            went_on += u32::from(!outcome.stopped);
        },
    );
    println!("{count} writes");
    assert!(stopped > 10 && went_on > 5, "{stopped} stopped, {went_on} went on");
}

#[test]
fn a_failed_flush_stops_the_writer() {
    let seed = seed(0x10_1001);
    let count = every(
        seed,
        |nth| Fault::once(Request::Flush, nth),
        |outcome| {
            assert!(outcome.stopped, "writing went on after a failed flush");
        },
    );
    assert!(count > 8, "only {count} flushes");
}

#[test]
fn a_failed_read_stops_nothing_but_a_commit() {
    let seed = seed(0x10_2001);
    let count = every(
        seed,
        |nth| Fault::once(Request::Read, nth),
        |outcome| {
            assert!(!outcome.stopped || outcome.in_commit, "a failed read stopped the writer");
        },
    );
    println!("{count} reads");
    assert!(count > 40, "only {count} reads");
}

#[test]
fn a_failed_discard_is_no_failure() {
    let seed = seed(0x10_3001);
    let fault = Fault::onwards(Request::Discard, 0);
    let outcome = run(seed, &Aged::new(seed), fault);
    assert!(outcome.struck && !outcome.stopped && !outcome.in_commit);
}

#[test]
fn a_device_that_is_unplugged_at_any_time_is_clean_afterwards() {
    let seed = seed(0x10_4001);
    let count = every(seed, Fault::unplugged, |_| ());
    println!("{count} requests");
    assert!(count > 150, "only {count} requests");
}

#[test]
fn writes_or_flushes_that_fail_from_some_time_on_leave_what_was_published() {
    let seed = seed(0x10_5001);
    for (request, least) in [(Request::Write, 40), (Request::Flush, 8)] {
        let count = every(seed, |nth| Fault::onwards(request, nth), |_| ());
        assert!(count >= least, "only {count} requests");
    }
}

/// Sectors that hold a copy of the superblock, or the root, cannot be read when it is opened.
#[test]
fn an_unreadable_superblock_is_passed_over_and_an_unreadable_root_is_told() {
    let aged = Aged::new(seed(0x10_3001));
    let whole = SimulatedDevice::with_image(aged.image.clone());
    let copies = copies_of(&whole);
    assert_eq!(copies.len(), 4);
    let newest = copies.iter().map(|copy| copy.generation).max().unwrap();
    let with = |unreadable: &dyn Fn(&WholeCopy) -> bool| {
        let device = SimulatedDevice::with_image(aged.image.clone());
        for copy in copies.iter().filter(|copy| unreadable(copy)) {
            device.make_unreadable(copy.offset, PAGE_BYTES as u64);
        }
        device
    };
    let made = Change::SetMode { number: ROOT_INODE, mode: 0o700 };
    for unreadable in &copies {
        let device = with(&|copy| copy == unreadable);
        assert_eq!(aged.state.difference(&observe_device(&device).unwrap().state), None);
        // A writer has to be able to see who else writes, near the front.
        device.record();
        let mut session = Session::open(&device, aged.state.clone(), 1).unwrap();
        let result = session.apply(&made);
        if unreadable.number < 2 {
            assert!(matches!(result, Err(Error::Device(_))), "{unreadable:?}: {result:?}");
            assert_eq!(device.event_count(), 0, "{unreadable:?}: something was written");
        } else {
            assert_eq!(result.and_then(|()| session.commit()), Ok(()), "{unreadable:?}");
        }
    }
    // Both copies of the newest state: the one before it opens, and a check says what that means.
    let device = with(&|copy| copy.generation == newest);
    let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
    let fs = FileSystem::open(host(&device, 1), &read_only).unwrap();
    assert_eq!(fs.status().generation, newest - 1);
    drop(fs);
    let problem = check_device(&device).unwrap_err();
    assert!(problem.contains("a newer state may be lost"), "{problem}");
    check_older_state(&device).unwrap();
    // None of the copies, and the root.
    let device = with(&|_| true);
    let opened = FileSystem::open(host(&device, 1), &read_only).map(|_| ());
    assert!(matches!(opened, Err(Error::Device(_))), "{opened:?}");
    let device = with(&|_| false);
    let root = copies.iter().find(|copy| copy.generation == newest).unwrap().root_block;
    device.make_unreadable(root * PAGE_BYTES as u64, PAGE_BYTES as u64);
    let opened = FileSystem::open(host(&device, 1), &read_only)
        .and_then(|fs| fs.lookup(ROOT_INODE, b"any name"));
    assert!(matches!(opened, Err(Error::Device(_))), "{opened:?}");
    let problem = check_device(&device).unwrap_err();
    assert!(problem.contains("a tree node cannot be read"), "{problem}");
}
