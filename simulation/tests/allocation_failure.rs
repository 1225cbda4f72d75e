// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Every allocation of every call into the core fails in turn: the call says `OutOfMemory` and has
//! changed nothing, or does without.

use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{Caller, Error, FileSystem, OpenOptions, Result, Serial};
use vexfs_simulation::allocation::{FailingAllocator, failing};
use vexfs_simulation::*;

#[global_allocator]
static ALLOCATOR: FailingAllocator = FailingAllocator;

/// Most allocations of one call.
const ALLOCATIONS_MAX: u64 = 20_000;

/// Little memory, so that nodes are read again and again.
const COLD: OpenOptions = OpenOptions { read_only: false, discard: true, cache_bytes: 1 << 16 };

/// Makes `call` with its first allocation failing, then its second, and so on until it succeeds.
/// After each failure `unchanged` has to hold. Returns how often it failed.
fn exhaust<R>(
    what: &str,
    onwards: bool,
    mut call: impl FnMut() -> Result<R>,
    mut unchanged: impl FnMut(),
) -> (R, u64) {
    for nth in 1..ALLOCATIONS_MAX {
        match failing(nth, onwards, &mut call) {
            (Ok(value), _) => return (value, nth - 1),
            (Err(Error::OutOfMemory), count) => {
                assert!(
                    count >= nth,
                    "{what}: no memory, but allocation {nth} was never asked for"
                );
                unchanged();
            }
            (Err(error), count) => {
                panic!("{what}: {error:?} with allocation {nth} of {count} failing")
            }
        }
    }
    panic!("{what} allocates without end");
}

fn changes_survive(seed: u64, onwards: bool, changes: u32) -> u64 {
    let device = format(4 << 20, seed);
    device.record();
    let mut session = Session::open_with(&device, State::new(), seed, &COLD).unwrap();
    let mut workload = Workload::new(seed);
    workload.inodes_aim = 24;
    workload.file_bytes_max = 60_000;
    let mut failures = 0;
    for number in 0..changes {
        let change = workload.next(&session);
        for nth in 1.. {
            assert!(nth < ALLOCATIONS_MAX, "{change:?} allocates without end");
            let result = session.apply_by(&change, |call| failing(nth, onwards, call).0);
            match result {
                Ok(()) => break,
                Err(Error::OutOfMemory) => failures += 1,
                Err(error) => panic!("{change:?}: {error:?} with allocation {nth} failing"),
            }
            session.check();
        }
        if number % 8 == 7 {
            let observation = session.check();
            let (_, failed) = exhaust(
                "commit",
                onwards,
                || session.fs.commit(),
                || {
                    session.check();
                },
            );
            failures += failed;
            let on_disk = SimulatedDevice::with_image(device.image());
            let found = observe_device(&on_disk).unwrap();
            assert_eq!(session.state.difference(&found.state), None);
            assert_eq!(observation.inodes, found.inodes);
            assert_eq!(observation.vectors, found.vectors);
            if let Err(problem) = check_device(&on_disk) {
                panic!("after change {number}: {problem}");
            }
        }
    }
    failures
}

#[test]
fn a_change_without_memory_changes_nothing() {
    let seed = seed(0xa110_0001);
    for round in 0..rounds(2) {
        let failures = changes_survive(seed + round, false, 300);
        assert!(failures > 1000, "only {failures} failures");
        println!("{failures} failed allocations");
    }
}

#[test]
fn a_change_when_memory_runs_out_for_good_changes_nothing() {
    let seed = seed(0xa110_1001);
    for round in 0..rounds(2) {
        let failures = changes_survive(seed + round, true, 300);
        assert!(failures > 1000, "only {failures} failures");
        println!("{failures} failed allocations");
    }
}

/// Every call that reads, as a number that follows from what it read.
fn read_calls(fs: &FileSystem, state: &State, number: u64) -> [Result<u64>; 6] {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let node = &state.nodes[&number];
    let mut listed = 0;
    let entries = match node.is_directory() {
        true => fs.read_directory(number, 0, &mut |entry| {
            listed += sum(entry.name);
            true
        }),
        false => Ok(()),
    };
    let (mut parents, mut paths, mut names) = (0, 0, 0);
    let target = match &node.content {
        Content::Symlink(_) => fs.read_link(number).map(|target| sum(&target)),
        _ => Ok(0),
    };
    let counted = |total: &mut u64, bytes: &[u8]| {
        *total += sum(bytes);
        true
    };
    [
        entries.map(|()| listed),
        fs.inode(number).map(|inode| inode.size),
        target,
        fs.parents(number, &mut |_, name| counted(&mut parents, name)).map(|()| parents),
        fs.paths(number, ROOT_INODE, Caller::default(), &Serial, &mut |path| {
            counted(&mut paths, path)
        })
        .map(|()| paths),
        fs.list_xattrs(number, &mut |name| counted(&mut names, name)).map(|()| names),
    ]
}

#[test]
fn opening_reading_and_checking_without_memory_fail_and_do_no_harm() {
    let seed = seed(0xa110_2001);
    let device = format(4 << 20, seed);
    let mut session = Session::open(&device, State::new(), seed).unwrap();
    let mut workload = Workload::new(seed);
    for _ in 0..200 {
        let change = workload.next(&session);
        session.apply(&change).unwrap();
    }
    session.commit().unwrap();
    let state = session.state.clone();

    let mut hosts: Vec<_> = (0..200).map(|_| host(&device, 1)).collect();
    let ((), failed) =
        exhaust("open", false, || FileSystem::open(hosts.pop().unwrap(), &COLD).map(drop), || ());
    assert!(failed > 5, "only {failed} failures of opening");

    let mut hosts: Vec<_> = (0..10_000).map(|_| host(&device, 1)).collect();
    let options = vexfs_core::check::CheckOptions { data: true, cache_bytes: 1 << 16 };
    let (report, failed) = exhaust(
        "check",
        false,
        || vexfs_core::check::check(hosts.pop().unwrap(), &options, &mut (), &mut |_| ()),
        || (),
    );
    assert!(failed > 5 && report.is_clean(), "{failed} failures of checking, {report:?}");

    let mut failures = 0;
    for number in state.nodes.keys() {
        let fs = FileSystem::open(host(&device, 1), &COLD).unwrap();
        let expected = read_calls(&fs, &state, *number);
        for nth in 1..ALLOCATIONS_MAX {
            // Opened anew, so that the nodes have to be read again.
            let fs = FileSystem::open(host(&device, 1), &COLD).unwrap();
            let (found, count) = failing(nth, false, || read_calls(&fs, &state, *number));
            for (found, expected) in found.iter().zip(&expected) {
                assert!(found == expected || *found == Err(Error::OutOfMemory), "{found:?}");
            }
            failures += found.iter().filter(|result| result.is_err()).count();
            assert_eq!(read_calls(&fs, &state, *number), expected, "after a failure");
            if count < nth {
                break;
            }
        }
    }
    assert!(failures > 200, "only {failures} failures");
}
