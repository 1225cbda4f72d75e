// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Power is cut at every event of a workload; what was synced must be there, and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{Error, FileSystem, MODE_FILE, NewInode, OpenOptions};
use vexfs_simulation::*;

/// Runs `changes` random changes with commits among them, then checks every crash state.
fn cut_everywhere(seed: u64, device_bytes: u64, changes: u32, variants: usize) -> u64 {
    let device = format(device_bytes, seed);
    device.record();
    let mut session = Session::open(&device, State::new(), seed).unwrap();
    let mut workload = Workload::new(seed);
    let mut random = SeededRandom::new(seed);
    for _ in 0..changes {
        let change = workload.next(&session);
        // A small device may be full at times.
        let result = session.apply(&change);
        assert!(matches!(result, Ok(()) | Err(Error::NoSpace)), "{change:?}: {result:?}");
        if random.percent(12) {
            session.commit().unwrap();
        }
    }
    let mut states = 0;
    device.trace().crash_states(&mut random, variants, |crash| {
        states += 1;
        if let Err(problem) = survive(&session, &crash, seed) {
            panic!("seed {seed:#x}, cut at event {} ({}): {problem}", crash.cut, crash.fate);
        }
    });
    states
}

/// Opens what a crash left: to read, then to write, then after more changes again.
fn survive(session: &Session, crash: &CrashState, seed: u64) -> Result<(), String> {
    let device = SimulatedDevice::with_image(crash.image.clone());
    let found = observe_device(&device)?;
    let state = session.judge(crash, &found)?;
    check_device(&device)?;
    older_state_is_whole(session, crash)?;

    let seed = seed ^ crash.cut as u64;
    let mut after = Session::open(&device, state, seed)
        .map_err(|error| format!("opening for writing: {error:?}"))?;
    let reaped = after.fs.reap_orphans().map_err(|error| format!("reaping: {error:?}"))?;
    if reaped as usize != found.orphans.len() || !after.fs.orphans().unwrap().is_empty() {
        return Err(format!("{reaped} orphans reaped of {}", found.orphans.len()));
    }
    after.check();
    let mut workload = Workload::new(seed);
    for _ in 0..6 {
        let change = workload.next(&after);
        after.apply(&change).map_err(|error| format!("{change:?} after the cut: {error:?}"))?;
    }
    after.commit().map_err(|error| format!("committing after the cut: {error:?}"))?;
    let again = observe_device(&device)?;
    check_device(&device)?;
    match after.state.difference(&again.state) {
        Some(difference) => Err(format!("changes after the cut: {difference}")),
        None => Ok(()),
    }
}

/// Without the copies of the newest state the one before it opens, with all its data: nothing that
/// it names may have been written to, or discarded, while a copy near the front names it.
fn older_state_is_whole(session: &Session, crash: &CrashState) -> Result<(), String> {
    let device = SimulatedDevice::with_image(crash.image.clone());
    let copies = copies_of(&device);
    let newest = copies.iter().map(|copy| copy.generation).max().ok_or("no superblock")?;
    // Torn by this cut, or never written by a format.
    if !copies.iter().any(|copy| copy.number < 2 && copy.generation + 1 == newest) {
        return Ok(());
    }
    let mut image = crash.image.clone();
    for copy in copies.iter().filter(|copy| copy.generation == newest) {
        image.write(copy.offset, &[0; PAGE_BYTES]);
    }
    let device = SimulatedDevice::with_image(image);
    let older = |problem| format!("without state {newest}: {problem}");
    let report = check_older_state(&device).map_err(older)?;
    if report.generation + 1 != newest {
        return Err(older(format!("state {} instead", report.generation)));
    }
    let found = observe_device(&device).map_err(older)?;
    session.judge_older(crash, &found).map_err(older)?;
    Ok(())
}

#[test]
fn every_cut_of_a_workload_leaves_the_last_commit_whole() {
    let first = seed(0x5eed_0001);
    let mut states = 0;
    for round in 0..rounds(4) {
        states += cut_everywhere(first + round, 8 << 20, 150, 3);
    }
    println!("{states} crash states");
}

/// Every start of a writer is cut off in turn, before anything but its first change was durable.
#[test]
fn a_machine_that_crashes_again_and_again_stays_clean() {
    let seed = seed(0x5eed_2001);
    let mut random = SeededRandom::new(seed);
    let mut device = format(4 << 20, seed);
    let mut state = State::new();
    for life in 0..rounds(40) {
        device.record();
        let mut session = Session::open(&device, state.clone(), seed ^ life).unwrap();
        let mut workload = Workload::new(seed ^ life);
        for _ in 0..random.below(12) {
            let change = workload.next(&session);
            session.apply(&change).unwrap();
        }
        if random.percent(50) {
            session.commit().unwrap();
        }
        // What was not flushed is lost, mostly.
        let trace = device.trace();
        let image = if random.percent(80) { trace.durable() } else { device.image() };
        let (cut, fate) = (trace.events.len(), "machine stopped");
        device = SimulatedDevice::with_image(image.clone());
        let found = observe_device(&device).unwrap();
        state = match session.judge(&CrashState { cut, fate, image }, &found) {
            Ok(state) => state,
            Err(problem) => panic!("seed {seed:#x}, life {life}: {problem}"),
        };
        if let Err(problem) = check_device(&device) {
            panic!("seed {seed:#x}, life {life}: {problem}");
        }
    }
}

#[test]
fn a_device_that_just_fits_survives_every_cut() {
    let seed = seed(0x5eed_1001);
    let states = cut_everywhere(seed, 2 << 20, 150, 2);
    println!("{states} crash states");
}

type Files = BTreeMap<Vec<u8>, Vec<u8>>;

/// Makes a file of more bytes than the tree would hold.
fn make(fs: &FileSystem, name: &str, files: &mut Files) {
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let number = fs.create(ROOT_INODE, name.as_bytes(), &new).unwrap();
    let bytes = name.repeat(1500).into_bytes();
    fs.write(number, 0, &bytes).unwrap();
    files.insert(name.as_bytes().to_vec(), bytes);
}

fn files_of(device: &SimulatedDevice) -> Files {
    let found = observe_device(device).unwrap();
    let root = &found.state.nodes[&ROOT_INODE];
    let entries = root.entries().unwrap().iter();
    entries
        .map(|(name, number)| {
            (name.clone(), found.state.nodes[number].bytes().unwrap().as_slice().to_vec())
        })
        .collect()
}

/// While a commit waits for the device, after the transaction was closed and before it is
/// published, another thread makes a file: it belongs to the next state, whole, and to no other.
#[test]
fn what_is_done_while_a_commit_is_under_way_belongs_to_the_next() {
    let seed = seed(0x5eed_3001);
    let device = format(8 << 20, seed);
    let options = OpenOptions { discard: true, ..OpenOptions::default() };
    let fs = Arc::new(FileSystem::open(host(&device, seed), &options).unwrap());
    let files = Arc::new(Mutex::new(Files::new()));
    make(&fs, "first", &mut files.lock().unwrap());
    fs.commit().unwrap();
    device.record();
    let mut points = vec![(0, 0, files.lock().unwrap().clone())];
    let (meanwhile, made) = (fs.clone(), files.clone());
    device.on_flush(Some(Arc::new(move |flush| {
        // Flushes of one commit come in twos: before its superblock is written and after.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                make(&meanwhile, &format!("meanwhile {flush}"), &mut made.lock().unwrap());
            });
        });
    })));
    for round in 0..6 {
        make(&fs, &format!("round {round}"), &mut files.lock().unwrap());
        if round > 2 {
            fs.unlink(ROOT_INODE, format!("round {}", round - 3).as_bytes()).unwrap();
            files.lock().unwrap().remove(format!("round {}", round - 3).as_bytes());
        }
        let (begun, published) = (device.event_count(), files.lock().unwrap().clone());
        fs.commit().unwrap();
        assert!(files.lock().unwrap().len() > published.len(), "nothing was done meanwhile");
        points.push((begun, device.event_count(), published));
    }
    device.on_flush(None);
    let (mut states, mut random) = (0, SeededRandom::new(seed));
    device.trace().crash_states(&mut random, 2, |crash| {
        states += 1;
        let survivor = SimulatedDevice::with_image(crash.image.clone());
        let found = files_of(&survivor);
        let last = points.iter().rposition(|point| point.1 <= crash.cut).unwrap();
        let mut allowed = points[last..].iter().take_while(|p| p.0 < crash.cut || p.1 <= crash.cut);
        let names = || found.keys().map(|name| name.escape_ascii().to_string()).collect::<Vec<_>>();
        assert!(
            allowed.any(|point| point.2 == found),
            "seed {seed:#x}, cut at event {} ({}): {:?}",
            crash.cut,
            crash.fate,
            names()
        );
        if let Err(problem) = check_device(&survivor) {
            panic!("seed {seed:#x}, cut at event {} ({}): {problem}", crash.cut, crash.fate);
        }
    });
    assert!(states > 100, "only {states} crash states");
}
