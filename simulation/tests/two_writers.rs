// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Two hosts that have one device open for writing, as a broken lock on shared storage lets them:
//! the one that took it over goes on, the other notices and writes nothing more.

use vexfs_core::{Error, OpenOptions};
use vexfs_simulation::*;

fn changes(session: &mut Session, workload: &mut Workload, count: u32) {
    for _ in 0..count {
        let change = workload.next(session);
        session.apply(&change).unwrap();
    }
}

#[test]
fn a_writer_that_was_taken_over_stops_at_its_next_commit() {
    let seed = seed(0x2_0001);
    let device = format(8 << 20, seed);
    device.record();
    let mut first = Session::open(&device, State::new(), seed).unwrap();
    let mut workload = Workload::new(seed);
    changes(&mut first, &mut workload, 60);
    first.commit().unwrap();
    let published = first.state.clone();

    // The second opens; with its first change the device is its own.
    let mut second = Session::open(&device, published, seed + 1).unwrap();
    let mut others = Workload::new(seed + 1);
    // Only names: bytes of files would go to blocks that the second may have taken.
    (workload.data_percent, workload.vectors_percent, workload.attribute_bytes_max) = (0, 0, 900);
    changes(&mut first, &mut workload, 10);
    changes(&mut second, &mut others, 30);
    second.commit().unwrap();

    let events = device.event_count();
    let made = Change::SetMode { number: vexfs_core::layout::ROOT_INODE, mode: 0o711 };
    first.apply(&made).unwrap();
    assert_eq!(first.fs.commit(), Err(Error::OtherWriter));
    assert!(first.fs.is_read_only());
    for _ in 0..20 {
        assert_eq!(first.apply(&made), Err(Error::Poisoned));
        assert_eq!(first.fs.commit(), Err(Error::Poisoned));
    }
    drop(first);
    assert_eq!(device.event_count(), events, "the writer that had lost the device wrote to it");

    // The second never notices anything.
    changes(&mut second, &mut others, 30);
    second.commit().unwrap();
    let found = observe_device(&device).unwrap();
    assert_eq!(second.state.difference(&found.state), None);
    check_device(&device).unwrap();
}

/// The other writer started from the same state and has come as far: only who wrote the state
/// tells the two apart.
#[test]
fn a_writer_notices_another_ones_state_of_the_same_number() {
    let seed = seed(0x2_3001);
    let base = format(8 << 20, seed).image();
    let devices = [0, 1].map(|_| SimulatedDevice::with_image(base.clone()));
    let mut sessions: Vec<_> = devices
        .iter()
        .zip([seed, seed + 1])
        .map(|(device, seed)| Session::open(device, State::new(), seed).unwrap())
        .collect();
    let root = vexfs_core::layout::ROOT_INODE;
    for (session, mode) in sessions.iter_mut().zip([0o711, 0o722]) {
        session.apply(&Change::SetMode { number: root, mode }).unwrap();
        session.commit().unwrap();
    }
    // Of the copies near the front, which a writer looks at.
    let newest = |device| {
        let front = copies_of(device).into_iter().filter(|copy| copy.number < 2);
        front.max_by_key(|copy| copy.generation).unwrap()
    };
    let (mine, other) = (newest(&devices[0]), newest(&devices[1]));
    assert_eq!((mine.generation, mine.offset), (other.generation, other.offset));
    let mut bytes = [0; PAGE_BYTES];
    devices[1].image().read(other.offset, &mut bytes);
    vexfs_core::BlockDevice::write(&devices[0], other.offset, &bytes).unwrap();
    sessions[0].apply(&Change::SetMode { number: root, mode: 0o733 }).unwrap();
    assert_eq!(sessions[0].fs.commit(), Err(Error::OtherWriter));
    assert!(sessions[0].fs.is_read_only());
}

#[test]
fn a_writer_that_has_changed_nothing_yet_is_refused_after_another_has() {
    let seed = seed(0x2_1001);
    let device = format(8 << 20, seed);
    device.record();
    let mut first = Session::open(&device, State::new(), seed).unwrap();
    let mut second = Session::open(&device, State::new(), seed + 1).unwrap();
    let mut workload = Workload::new(seed);
    changes(&mut second, &mut workload, 20);
    second.commit().unwrap();
    let events = device.event_count();
    let made = Change::SetMode { number: vexfs_core::layout::ROOT_INODE, mode: 0o711 };
    assert_eq!(first.apply(&made), Err(Error::OtherWriter));
    assert_eq!(first.fs.commit(), Ok(()));
    drop(first);
    assert_eq!(device.event_count(), events);
}

/// A reader that opened the live device goes on reading the state it opened while that state's
/// blocks are still there, and every snapshot of the device opens.
#[test]
fn snapshots_of_a_device_in_use_open_for_reading_at_any_time() {
    let seed = seed(0x2_2001);
    let device = format(8 << 20, seed);
    device.record();
    let mut session = Session::open(&device, State::new(), seed).unwrap();
    let mut workload = Workload::new(seed);
    let options = OpenOptions { read_only: true, ..OpenOptions::default() };
    for round in 0..120 {
        let change = workload.next(&session);
        session.apply(&change).unwrap();
        if round % 9 == 8 {
            session.commit().unwrap();
        }
        // What a snapshot of the device holds is everything written, flushed or not.
        let image = device.image();
        let snapshot = SimulatedDevice::with_image(image.clone());
        let found = observe_device(&snapshot).unwrap();
        let crash = CrashState { cut: device.event_count(), fate: "snapshot", image };
        if let Err(problem) = session.judge(&crash, &found) {
            panic!("seed {seed:#x}, round {round}: {problem}");
        }
        let mut reader = Session::open_with(&snapshot, found.state, seed, &options).unwrap();
        let made = Change::SetMode { number: vexfs_core::layout::ROOT_INODE, mode: 0o711 };
        assert_eq!(reader.apply(&made), Err(Error::ReadOnly));
        assert_eq!(snapshot.changing_requests(), 0);
    }
}
