// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Every allocation fails in turn: each call then says so, and what was there stays usable.

mod set;

use set::{Random, SERIAL, SHAPE, Set, Threads, clustered};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vexfs_index::{Builder, Error, Executor, Parameters, Request, Scratch};

/// The system's allocator, which fails one allocation of the thread that asks for that.
struct Failing;

thread_local! {
    /// Allocations until the one that fails; none is counted at zero.
    static COUNTDOWN: Cell<u64> = const { Cell::new(0) };
}

fn fails() -> bool {
    COUNTDOWN.with(|countdown| {
        let left = countdown.get();
        countdown.set(left.saturating_sub(1));
        left == 1
    })
}

// SAFETY: every call is passed on to the system's allocator or answered with null, as the contract
// of the trait allows.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, as the trait demands it.
        if fails() { std::ptr::null_mut() } else { unsafe { System.alloc(layout) } }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's pointer and layout, as the trait demands them.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout, as the trait demands it.
        if fails() { std::ptr::null_mut() } else { unsafe { System.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's pointer, layout and size, as the trait demands them.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Failing = Failing;

/// Runs `call` with the `n`-th of its allocations failing; whether that many were made.
fn with_failure<T>(n: u64, call: impl FnOnce() -> T) -> (T, bool) {
    COUNTDOWN.set(n);
    let result = call();
    let made = COUNTDOWN.replace(0) == 0;
    (result, made)
}

/// Says it has two workers and runs them on the caller's thread, where allocations are counted.
struct InTurn;

impl Executor for InTurn {
    fn workers(&self) -> usize {
        2
    }

    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        for task in tasks {
            task();
        }
    }
}

#[test]
fn an_insert_that_fails_can_be_made_again() {
    let executors: [&dyn Executor; 2] = [SERIAL, &InTurn];
    for executor in executors {
        let mut failures = 0;
        for n in 1.. {
            let mut set = Set::clustered(300, 3, SERIAL);
            let mut random = Random(n);
            for row in 300..400 {
                set.set(row, &clustered(&mut random, 40));
            }
            let new: Vec<u32> = (300..400).collect();
            let space = vexfs_index::Space {
                rows: &set.rows,
                kernels: set.kernels,
                executor: &vexfs_index::Serial,
            };
            let mut builder = Builder::new();
            let graph = &set.graph;
            let (result, made) =
                with_failure(n, || graph.insert_batch(space, &new, executor, &mut builder));
            if made {
                failures += u32::from(result == Err(Error::OutOfMemory));
            } else {
                assert_eq!(result, Ok(()));
            }
            if result.is_ok() {
                assert_eq!(set.graph.nodes(), 400);
            }
            assert_eq!(set.search(&[90; 32], 1000, 50).len() as u32, set.graph.nodes());
            set.graph.insert_batch(space, &new, executor, &mut builder).unwrap();
            assert_eq!((set.graph.nodes(), set.reachable()), (400, 400));
            if !made {
                break;
            }
        }
        assert!(failures > 5, "{failures} allocations failed");
    }
}

#[test]
fn a_removal_that_fails_can_be_made_again() {
    let mut failures = 0;
    for n in 1.. {
        let set = Set::clustered(300, 3, SERIAL);
        let gone: Vec<u32> = if n % 2 == 0 { (0..100).collect() } else { vec![5, 6] };
        let space = vexfs_index::Space {
            rows: &set.rows,
            kernels: set.kernels,
            executor: &vexfs_index::Serial,
        };
        let mut builder = Builder::new();
        let graph = &set.graph;
        let (result, made) =
            with_failure(n, || graph.remove_batch(space, &gone, &InTurn, &mut builder));
        failures += u32::from(result == Err(Error::OutOfMemory));
        assert!(gone.iter().all(|row| !set.graph.contains(*row)));
        let left = 300 - gone.len();
        assert_eq!(set.search(&[90; 32], 1000, 50).len(), left);
        set.graph.remove_batch(space, &gone, &InTurn, &mut builder).unwrap();
        assert_eq!((set.graph.nodes() as usize, set.graph.tombstones()), (left, 0));
        assert_eq!(set.reachable(), left);
        if !made && n > 2 {
            assert_eq!(result, Ok(()));
            break;
        }
    }
    assert!(failures > 3, "{failures} allocations failed");
}

#[test]
fn growth_and_stores_that_fail_lose_nothing() {
    for n in 1.. {
        let mut set = Set::new(SHAPE, Parameters::default());
        let mut random = Random(3);
        let mut all_made = false;
        // Past a full first segment of rows and a full first chunk of records.
        for row in [0, 10, 40_000] {
            let bytes = clustered(&mut random, 40);
            let term = set.term(&bytes);
            let (rows, graph) = (&mut set.rows, &mut set.graph);
            let (result, made) = with_failure(n, || {
                rows.set(row, &bytes, term)?;
                graph.reserve(row + 1)
            });
            all_made |= made;
            assert!(result.is_ok() || made);
            rows.set(row, &bytes, term).unwrap();
            graph.reserve(row + 1).unwrap();
            set.insert(&[row], SERIAL);
        }
        assert_eq!((set.rows.len(), set.graph.nodes()), (3, 3));
        assert_eq!(set.search(&[1; 32], 10, 10).len(), 3);
        if !all_made {
            break;
        }
    }
}

#[test]
fn a_search_allocates_only_the_first_time() {
    let set = Set::clustered(2000, 3, &Threads(2));
    let query = clustered(&mut Random(5), 40);
    let query = (&query[..], set.term(&query));
    let request = Request::nearest(10, 64);
    let mut scratch = Scratch::new();
    for n in 1.. {
        let mut fresh = Scratch::new();
        let (result, made) = with_failure(n, || {
            set.graph.search(set.space(), query, &request, &mut |row| row % 3 == 0, &mut fresh)
        });
        assert_eq!(result.is_err(), made);
        if !made {
            break;
        }
        set.graph.search(set.space(), query, &request, &mut |_| true, &mut fresh).unwrap();
    }
    set.graph.search(set.space(), query, &request, &mut |_| true, &mut scratch).unwrap();
    for round in 0..600 {
        let (result, made) = with_failure(1, || {
            let accept = &mut |row: u32| !row.is_multiple_of(round % 5 + 2);
            set.graph.search(set.space(), query, &request, accept, &mut scratch)
        });
        assert!(result.is_ok() && !made);
    }
}
