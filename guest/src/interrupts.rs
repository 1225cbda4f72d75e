// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Signals end what takes long.

use crate::MountTest;
use crate::commands;
use crate::support::{Mounted, where_slow};
use crate::vectors::{command, create_collection, put, search, vectors};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use vexfs_uapi as uapi;
use vexfs_uapi::Command;
use zerocopy::FromZeros;

pub const TESTS: &[MountTest] = &[
    ("a_signal_ends_a_search", a_signal_ends_a_search),
    ("a_signal_ends_listing", a_signal_ends_listing),
    ("a_signal_ends_loading", a_signal_ends_loading),
    ("a_signal_ends_waiting_for_who_loads", a_signal_ends_waiting_for_who_loads),
    ("a_signal_ends_waiting_for_who_builds", a_signal_ends_waiting_for_who_builds),
];

/// Vectors of a collection that takes long to search and to load.
fn many() -> usize {
    where_slow(6000, 30_000) as usize
}

/// A search that a signal is to end takes so long otherwise, if a request can.
const LONG: Duration = Duration::from_secs(2);

extern "C" fn ignore(_signal: libc::c_int) {}

/// Has SIGUSR1 handled, without restarting calls.
fn handle_signals() {
    // SAFETY: the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
    }
}

/// Runs `work` on a thread that has a signal after some time. What came of it, and how long it took
/// from then on.
fn interrupted<R: Send>(after: Duration, work: impl FnOnce() -> R + Send) -> (R, Duration) {
    handle_signals();
    let worker = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            // SAFETY: it takes nothing.
            worker.store(unsafe { libc::pthread_self() } as usize, Ordering::SeqCst);
            work()
        });
        while worker.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(after);
        let sent = Instant::now();
        let thread = worker.load(Ordering::SeqCst) as libc::pthread_t;
        // SAFETY: the thread is there until it is joined below.
        unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        let result = running.join().expect("the thread");
        (result, sent.elapsed())
    })
}

/// Queries that keep an exact search busy for [`LONG`] or are as many as one request takes, and how long
/// they do.
fn many_queries(top: &File, collection: u32) -> (Vec<u8>, Duration) {
    let few = vectors(3, 16);
    let started = Instant::now();
    search(top, collection, &few, uapi::SEARCH_EXACT).expect("search");
    let each = started.elapsed() / 16;
    let count = (LONG.as_nanos() / each.as_nanos().max(1) + 1).min(1024) as u32;
    (vectors(4, count as usize), each * count)
}

fn a_signal_ends_a_search(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "many");
    put(&mounted.directory.join("f"), collection, &vectors(1, many()));
    let one = vectors(2, 1);
    let (before, _) = search(&top, collection, &one, uapi::SEARCH_EXACT).expect("search");
    let (queries, long) = many_queries(&top, collection);
    // A machine may have no time for a guest just then, but not again and again.
    let soon = |ended: &dyn Fn() -> Duration| {
        let took: Vec<_> = (0..5).map(|_| ended()).take_while(|took| *took >= long / 3).collect();
        assert!(took.len() < 5, "of {long:?} the search went on for {took:?}");
    };

    // A signal that is handled.
    soon(&|| {
        let (result, took) = interrupted(long / 10, || {
            search(&top, collection, &queries, uapi::SEARCH_EXACT).map(|_| ())
        });
        let error = result.expect_err("the search was to be interrupted");
        assert_eq!(error.raw_os_error(), Some(libc::EINTR));
        took
    });

    // One that kills.
    soon(&|| {
        // SAFETY: the child calls nothing but the search and its end, on memory of its own.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _ = search(&top, collection, &queries, uapi::SEARCH_EXACT);
            // SAFETY: the child ends.
            unsafe { libc::_exit(3) };
        }
        std::thread::sleep(long / 10);
        let sent = Instant::now();
        let mut status = 0;
        // SAFETY: the child is this process's own, and not waited for yet.
        let waited = unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &raw mut status, 0)
        };
        assert_eq!(waited, child);
        assert!(libc::WIFSIGNALED(status), "the search was over: {status}");
        sent.elapsed()
    });

    // Nothing is left behind.
    let (after, _) = search(&top, collection, &one, uapi::SEARCH_EXACT).expect("search");
    assert_eq!((before[0].chunk, before[0].distance), (after[0].chunk, after[0].distance));
    drop(top);
    mounted.unmount();
}

/// What lists rows, the vectors of a file, or the paths of one, ends by a signal.
fn a_signal_ends_listing(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "many");
    let path = mounted.directory.join("f");
    put(&path, collection, &vectors(1, many()));
    let names = where_slow(1000, 4000) as usize;
    for name in 1..names {
        std::fs::hard_link(&path, mounted.directory.join(name.to_string())).expect("link");
    }
    let file = File::open(&path).expect("open");
    let inode = file.metadata().expect("stat").ino();
    let mut told = vec![uapi::Vector::new_zeroed(); many()];
    let address = told.as_mut_ptr() as u64;
    let list = || {
        let mut list = uapi::List { vectors: address, count: many() as u32, ..uapi::List::new() };
        command(&file, &mut list).map(|()| list.count as usize)
    };
    let rows = || Ok(commands::rows(&top, collection, 0, many())?.1.len());
    let paths = || Ok(commands::some_paths(&top, inode, 0, 0, 1 << 20)?.0.len());
    type List<'a> = &'a (dyn Fn() -> std::io::Result<usize> + Sync);
    let all: [(&str, List<'_>, usize); 3] = [
        ("VEXFS_IOC_ROWS", &rows, many()),
        ("VEXFS_IOC_LIST", &list, many()),
        ("VEXFS_IOC_PATHS", &paths, names),
    ];
    for (name, list, count) in all {
        let started = Instant::now();
        assert_eq!(list().expect(name), count, "{name}");
        let mut after = started.elapsed() / 3;
        let ended = (0..200).any(|_| match interrupted(after, list).0 {
            Ok(told) => {
                assert_eq!(told, count, "{name}");
                after = (after * 3 / 4).max(Duration::from_micros(20));
                false
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EINTR), "{name}");
                true
            }
        });
        assert!(ended, "no signal met {name}");
        assert_eq!(list().expect(name), count, "{name} afterwards");
    }
    drop((file, top));
    mounted.unmount();
}

/// The first search of a collection reads it into memory: one that is ended then leaves that to the next.
fn a_signal_ends_loading(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "many");
    put(&mounted.directory.join("f"), collection, &vectors(1, many()));
    let one = vectors(2, 1);
    let (wanted, _) = search(&top, collection, &one, uapi::SEARCH_EXACT).expect("search");
    drop(top);
    let (mut ended, mut after) = (0, Duration::from_micros(200));
    for _ in 0..20 {
        if ended == 3 {
            break;
        }
        mounted.cycle();
        let top = File::open(&mounted.directory).expect("open");
        let (first, _) = interrupted(after, || search(&top, collection, &one, 0));
        match first {
            Ok(_) => after = (after / 2).max(Duration::from_micros(50)),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EINTR));
                ended += 1;
                after = after * 3 / 2;
            }
        }
        let (found, _) = search(&top, collection, &one, uapi::SEARCH_EXACT).expect("search");
        let place = |hit: &uapi::Hit| (hit.chunk, hit.distance);
        assert_eq!(place(&found[0]), place(&wanted[0]));
    }
    assert!(ended > 0, "no signal met a search while it loaded");
    mounted.unmount();
}

/// While one search reads a collection into memory, another waits for that, and ends by a signal.
fn a_signal_ends_waiting_for_who_loads(mounted: &Mounted) {
    const ROUNDS: u32 = 60;
    const WANTED: u32 = 3;
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "many");
    put(&mounted.directory.join("f"), collection, &vectors(1, many()));
    drop(top);
    let one = vectors(2, 1);
    mounted.cycle();
    let top = File::open(&mounted.directory).expect("open");
    let started = Instant::now();
    search(&top, collection, &one, 0).expect("search");
    let mut loading = started.elapsed();
    drop(top);
    let mut ended = 0;
    for _ in 0..ROUNDS {
        if ended == WANTED {
            break;
        }
        mounted.cycle();
        let top = File::open(&mounted.directory).expect("open");
        let (started, begun) = (Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let loads = scope.spawn(|| {
                begun.store(true, Ordering::SeqCst);
                search(&top, collection, &one, 0).map(|_| ())
            });
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            std::thread::sleep(loading / 10);
            let (waits, _) = interrupted(loading / 10, || {
                (search(&top, collection, &one, 0).map(|_| ()), started.elapsed())
            });
            let (result, took) = waits;
            if let Err(error) = &result {
                assert_eq!(error.raw_os_error(), Some(libc::EINTR));
            }
            loads.join().expect("the thread").expect("the search that was not interrupted");
            // It did not wait for the other's end: that takes longer, as it did at first and as it
            // does now, whatever else the machine does.
            let whole = loading.min(started.elapsed());
            ended += u32::from(result.is_err() && took < whole / 4 * 3);
            // The first time nothing was in the page cache, and so it took longer.
            loading = whole;
        });
        drop(top);
    }
    assert_eq!(ended, WANTED, "rounds of {ROUNDS} in which a signal ended waiting");
    mounted.unmount();
}

/// While one builds a graph, another who wants it built waits, and ends by a signal.
fn a_signal_ends_waiting_for_who_builds(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "some");
    put(&mounted.directory.join("f"), collection, &vectors(1, 1500));
    let rebuild = || {
        let mut rebuild = uapi::CollectionMaintain::new();
        (rebuild.number, rebuild.flags) = (collection, uapi::MAINTAIN_REBUILD);
        command(&top, &mut rebuild).map(|()| rebuild.left)
    };
    let started = Instant::now();
    rebuild().expect("a graph");
    let long = started.elapsed();
    // On a busy machine the other may have its graph before the signal comes.
    let ended = (0..20).any(|_| {
        std::thread::scope(|scope| {
            let started = Instant::now();
            let builds = scope.spawn(rebuild);
            std::thread::sleep(long / 10);
            let ((result, took), _) = interrupted(long / 10, || (rebuild(), started.elapsed()));
            if let Err(error) = &result {
                assert_eq!(error.raw_os_error(), Some(libc::EINTR));
            }
            assert_eq!(builds.join().expect("the thread").expect("the graph"), 0);
            result.is_err() && took < started.elapsed() / 2
        })
    });
    assert!(ended, "no signal ended waiting for who builds");
    drop(top);
    mounted.unmount();
}
