// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Requests that fail: allocations and block requests, by the kernel's fault injection, and a device
//! that stops reading or writing. A call may fail then, with an errno that says so; nothing else may
//! happen, and what was promised is kept.

use crate::journal::{Journal, Promises};
use crate::mapper::{Mapped, sectors};
use crate::support::{Mounted, Numbers};
use crate::verify;
use crate::workload::{self, Workload};
use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Operations of a thread in a round.
const OPERATIONS: u64 = 40;
/// Rounds on one file system: each looks at all that those before it have left.
const ROUNDS_OF_ONE: u64 = 10;
const PASSING: &[i32] = &[libc::ENOMEM, libc::EFAULT];
const BROKEN: &[i32] = &[libc::EIO, libc::EROFS, libc::ENOMEM, libc::EUCLEAN, libc::EBADMSG];

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One allocation of an operation, or copy from or to its program, counted from its beginning.
    Nth,
    /// Allocations of the module, now and then, whoever makes them.
    Memory,
    /// Block requests, now and then.
    Requests,
    /// The device, from some moment on.
    Device,
}

/// The kernel's fault injection.
const INJECTIONS: [&str; 4] = ["failslab", "fail_page_alloc", "fail_usercopy", "fail_make_request"];

fn set(injection: &str, key: &str, value: &str) {
    let path = format!("/sys/kernel/debug/{injection}/{key}");
    fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
}

/// Sets up what does not change. Allocations and copies fail only where the module is on the stack, so that the
/// programs of the guest have memory.
fn inject() {
    let read = |name: &str| {
        let path = format!("/sys/module/vexfs/{name}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let text = read("sections/.text");
    let start = u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).expect("an address");
    let size: u64 = read("coresize").trim().parse().expect("a size");
    for injection in INJECTIONS {
        for (key, value) in [("probability", "0"), ("verbose", "0"), ("times", "-1")] {
            set(injection, key, value);
        }
    }
    for injection in &INJECTIONS[..3] {
        set(injection, "require-start", &format!("{start:#x}"));
        set(injection, "require-end", &format!("{:#x}", start + size));
    }
    set("failslab", "ignore-gfp-wait", "N");
    set("fail_page_alloc", "ignore-gfp-wait", "N");
    set("fail_page_alloc", "min-order", "0");
    set("fail_page_alloc", "ignore-gfp-highmem", "N");
}

/// Lets each of so many fail, or none.
fn every(injections: &[&str], interval: u64) {
    for injection in injections {
        set(injection, "interval", &interval.max(1).to_string());
        set(injection, "probability", if interval > 0 { "100" } else { "0" });
    }
}

thread_local! {
    /// This thread's countdown to a failure.
    static COUNTDOWN: RefCell<Option<File>> = const { RefCell::new(None) };
}

fn countdown(numbers: &mut Numbers, begins: bool, fired: &AtomicU64) {
    COUNTDOWN.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| {
            let path = "/proc/thread-self/fail-nth";
            OpenOptions::new().read(true).write(true).open(path).expect(path)
        });
        if begins {
            let bound = 1 << numbers.below(9);
            let nth = 1 + numbers.below(bound);
            file.write_all_at(nth.to_string().as_bytes(), 0).expect("fail-nth");
        } else {
            let mut left = [0; 16];
            let length = file.read_at(&mut left, 0).expect("fail-nth");
            if left[..length].trim_ascii() == b"0" {
                fired.fetch_add(1, Ordering::Relaxed);
            }
            file.write_all_at(b"0", 0).expect("fail-nth");
        }
    });
}

/// The rounds' file system and what it promised.
struct Rounds<'a> {
    device: &'a Path,
    numbers: Numbers,
    lines: Vec<String>,
    /// Lines of file systems before this one.
    kept: usize,
    number: u64,
    done: u64,
    failed: u64,
    fired: AtomicU64,
}

impl Rounds<'_> {
    /// What was promised is there; with `fresh`, on a file system that was just mounted, also what goes
    /// with it, and what would get in the way is removed.
    fn verify(&self, mounted: &Mounted, fresh: bool) {
        let promises = Promises::of(self.lines.iter().map(String::as_str));
        let outcome = verify::report(&mounted.directory, &promises, fresh);
        let outcome = outcome.expect("as it was promised");
        if fresh {
            for name in outcome.loose.iter().filter(|name| !promises.names.contains_key(*name)) {
                fs::remove_file(mounted.directory.join(name)).expect("removed");
            }
        }
    }

    /// Breaks the device after a moment, in one of several ways.
    fn break_device(&self, mapped: &Mapped, journal: &Journal, way: u64, wait: Duration) {
        std::thread::sleep(wait);
        let feature = ["", "1 error_writes", "1 drop_writes", "1 error_reads"][way as usize];
        if way == 2 {
            journal.cut();
        }
        let parameters = |feature| format!("{} 0 0 10000 {feature}", self.device.display());
        // Older kernels cannot break reading alone.
        mapped
            .switch("flakey", &parameters(feature))
            .or_else(|_| mapped.switch("flakey", &parameters("")))
            .expect("a broken device");
    }

    fn round(&mut self, kind: Kind) {
        let linear = format!("{} 0", self.device.display());
        let mapped = (kind == Kind::Device)
            .then(|| Mapped::create("flaky", sectors(self.device), "linear", &linear).expect("dm"));
        let device = mapped.as_ref().map_or(self.device, Mapped::path);
        let mounted = Mounted { device: device.into(), directory: "/mnt".into() };
        mounted.mount("commit=1,errors=remount-ro");
        let collection = workload::prepare(&mounted.directory).expect("prepared");
        self.verify(&mounted, true);
        let journal = Journal::kept(None);
        let (stop, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let seed = self.numbers.below(1 << 32);
        let way = self.numbers.below(4);
        let wait = Duration::from_millis(self.numbers.below(1500));
        let interval = [20, 100, 500][self.numbers.below(3) as usize];
        let fired = &self.fired;
        let around = |numbers: &mut Numbers, begins| countdown(numbers, begins, fired);
        let workload = Workload {
            directory: &mounted.directory,
            journal: &journal,
            seed,
            base: self.number * 1_000_000,
            stop: &stop,
            expected: if matches!(kind, Kind::Nth | Kind::Memory) { PASSING } else { BROKEN },
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            around: if kind == Kind::Nth { Some(&around) } else { None },
        };
        match kind {
            Kind::Memory => every(&INJECTIONS[..2], interval),
            Kind::Requests => every(&INJECTIONS[3..], interval),
            _ => {}
        }
        std::thread::scope(|scope| {
            // What is in memory goes, so that it is read again.
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(70));
                    fs::write("/proc/sys/vm/drop_caches", "3").expect("caches can be dropped");
                }
            });
            if let Some(mapped) = &mapped {
                scope.spawn(|| self.break_device(mapped, &journal, way, wait));
            }
            let operations = if mapped.is_some() { 4 * OPERATIONS } else { OPERATIONS };
            workload.run(collection, crate::THREADS, operations);
            over.store(true, Ordering::Relaxed);
        });
        if kind != Kind::Device {
            every(&INJECTIONS, 0);
        }
        self.done += workload.done.into_inner();
        self.failed += workload.failed.into_inner();
        self.lines.extend(journal.lines());
        if matches!(kind, Kind::Nth | Kind::Memory) {
            // Want of memory passes, and leaves nothing behind.
            fs::write(mounted.directory.join("after"), b"after").expect("it can be written to");
            self.verify(&mounted, false);
        }
        mounted.unmount();
        if let Some(mapped) = &mapped {
            mapped.switch("linear", &linear).expect("a working device");
        }
        mounted.check();
        self.number += 1;
    }
}

/// Runs `rounds` rounds of each kind (whose name has `word`) on a device; those that need fault
/// injection only if `injected`.
pub fn run(device: &Path, seed: u64, rounds: u64, injected: bool, word: &str) -> ExitCode {
    let kinds: &[Kind] = if injected {
        inject();
        &[Kind::Nth, Kind::Memory, Kind::Requests, Kind::Device]
    } else {
        &[Kind::Device]
    };
    let (mut passed, mut failed) = (0, 0);
    for kind in kinds.iter().filter(|kind| format!("{kind:?}").contains(word)) {
        if injected {
            let name = fs::canonicalize(device).expect("the device");
            let path = name.file_name().expect("a name").to_string_lossy();
            let fails = if *kind == Kind::Requests { "1" } else { "0" };
            fs::write(format!("/sys/block/{path}/make-it-fail"), fails).expect("make-it-fail");
        }
        let mounted = Mounted { device: device.into(), directory: "/mnt".into() };
        let numbers = Numbers((seed + *kind as u64).wrapping_mul(0x9e37_79b9) | 1);
        let (lines, fired) = (Vec::new(), AtomicU64::new(0));
        let mut all =
            Rounds { device, numbers, lines, kept: 0, number: 0, done: 0, failed: 0, fired };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for round in 0..rounds {
                if round % ROUNDS_OF_ONE == 0 {
                    all.kept += all.lines.len();
                    all.lines.clear();
                    mounted.format();
                }
                all.round(*kind);
                if (round + 1) % ROUNDS_OF_ONE == 0 || round + 1 == rounds {
                    mounted.mount("");
                    all.verify(&mounted, true);
                    mounted.unmount();
                }
            }
            assert!(all.failed > 0, "nothing failed");
        }));
        let verdict = if outcome.is_ok() { "ok     " } else { "FAILED " };
        if outcome.is_ok() {
            passed += 1
        } else {
            failed += 1
        }
        let Rounds { done, failed: errors, number, lines, kept, fired, .. } = all;
        println!(
            "{verdict} {kind:?}: {number} rounds, {done} operations, {errors} failed, {} failures of \
             one allocation, {} lines",
            fired.into_inner(),
            kept + lines.len()
        );
        if outcome.is_err() {
            // It may be in use still, so nothing more can be done with it.
            break;
        }
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}
