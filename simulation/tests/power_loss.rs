// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Power is cut at every event of a workload; what was synced must be there, and nothing else.

use vexfs_core::Error;
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
