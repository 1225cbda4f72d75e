// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The module taken out and put back, while others use it and while nobody does.

use crate::MountTest;
use crate::support::{Mounted, assert_same, c_string, noise};
use crate::vectors::{DIMENSION, create_collection, put, search, vectors};
use std::fs::{self, File};
use std::io::Error;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: &[MountTest] = &[("the_module_goes_only_when_it_is_not_used", module_goes)];

/// Where a guest has the module.
const MODULE: &str = "/lib/vexfs.ko";
/// How often it is mounted and taken out; where that takes long, twice each must do.
const MOUNTS: u64 = 10;
const UNLOADS: u32 = 15;
const FEW: u32 = 2;
const LONG: Duration = Duration::from_secs(15);

fn outcome(result: libc::c_long) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

/// Takes the module out, without waiting for who uses it.
fn unload() -> Result<(), i32> {
    // SAFETY: it takes a string, which lives through the call, and a number.
    outcome(unsafe { libc::syscall(libc::SYS_delete_module, c"vexfs".as_ptr(), libc::O_NONBLOCK) })
}

fn load() {
    let module = File::open(MODULE).expect(MODULE);
    // SAFETY: it takes an open file, a string, which lives through the call, and a number.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, module.as_raw_fd(), c"".as_ptr(), 0) };
    outcome(result).expect("finit_module");
}

/// The module is loaded when this ends, whatever happened: other tests follow.
struct Loaded;

impl Drop for Loaded {
    fn drop(&mut self) {
        if !Path::new("/sys/module/vexfs").exists() {
            load();
        }
    }
}

/// Whoever works until told to stop is told when this ends, whatever happened.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Mounts, uses and unmounts until told to stop, and counts how often it mounted.
fn use_it(mounted: &Mounted, collection: u32, mounts: &AtomicU64, stop: &AtomicBool) {
    let name = mounted.directory.file_name().expect("a name").to_owned();
    let (own, described) = (mounted.directory.join(&name), mounted.directory.join("described"));
    let mut count: u64 = 0;
    let mut before: Option<u64> = None;
    while !stop.load(Ordering::Relaxed) {
        let started = Instant::now();
        match mounted.try_mount("commit=1") {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "mount");
                std::thread::yield_now();
                continue;
            }
        }
        mounts.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = before {
            assert_same(&fs::read(&own).expect("read"), &noise(before, 20_000), "mounted again");
        }
        fs::write(&own, noise(count, 20_000)).expect("write");
        before = Some(count);
        let data = vectors(count + 1, 8);
        put(&described.with_extension(&name), collection, &data);
        let top = File::open(&mounted.directory).expect("open");
        let (found, _) = search(&top, collection, &data[..DIMENSION], 0).expect("search");
        assert_eq!(f32::from_bits(found[0].distance), 0.0);
        drop(top);
        mounted.unmount();
        count += 1;
        // Now and then nobody has it mounted.
        std::thread::sleep(started.elapsed() / 2 * (count % 4) as u32);
    }
}

/// Reads what sysfs has of the module and of what is mounted, which comes and goes.
fn read_sysfs(directory: &Path) {
    for path in fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            read_sysfs(&path);
        } else {
            let _ = fs::read(path);
        }
    }
}

fn module_goes(mounted: &Mounted) {
    let _loaded = Loaded;
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "c");
    assert_eq!(unload(), Err(libc::EWOULDBLOCK), "it is mounted");
    // Not mounted any more, but in use.
    let directory = c_string(&mounted.directory);
    // SAFETY: the string lives through the call.
    assert_eq!(unsafe { libc::umount2(directory.as_ptr(), libc::MNT_DETACH) }, 0);
    assert_eq!(unload(), Err(libc::EWOULDBLOCK), "a directory is open");
    drop(top);
    assert_eq!(unload(), Ok(()), "nobody uses it");
    assert_eq!(unload(), Err(libc::ENOENT), "it is gone");
    let error = mounted.try_mount("").expect_err("it is gone");
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    load();

    let places: Vec<Mounted> = (0..2)
        .map(|number| {
            let directory = PathBuf::from(format!("/tmp/user{number}"));
            fs::create_dir_all(&directory).expect("mkdir");
            Mounted { device: mounted.device.clone(), directory }
        })
        .collect();
    let stop = AtomicBool::new(false);
    let (mut unloads, mut refusals) = (0, 0);
    let mounts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let at_the_end = Stop(&stop);
        let users: Vec<_> = places
            .iter()
            .map(|place| scope.spawn(|| use_it(place, collection, &mounts, &stop)))
            .collect();
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                read_sysfs(Path::new("/sys/fs/vexfs"));
            }
        });
        let started = Instant::now();
        let so_far = || mounts.load(Ordering::Relaxed);
        let ended = || users.iter().any(|user| user.is_finished());
        let enough = |unloads, refusals| {
            let few = started.elapsed() >= LONG;
            unloads >= if few { FEW } else { UNLOADS }
                && so_far() >= if few { u64::from(FEW) } else { MOUNTS }
                && refusals > 0
        };
        while !enough(unloads, refusals) && !ended() {
            match unload() {
                Ok(()) => {
                    unloads += 1;
                    std::thread::sleep(Duration::from_millis(2));
                    let before = so_far();
                    load();
                    // Every other time somebody comes to mount it, however slow that is.
                    while unloads % 2 == 1 && so_far() == before && !ended() {
                        std::thread::sleep(Duration::from_micros(300));
                    }
                }
                // It is mounted, or being mounted.
                Err(error) => {
                    assert_eq!(error, libc::EWOULDBLOCK, "delete_module");
                    refusals += 1;
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        }
        drop(at_the_end);
        users.into_iter().for_each(|user| user.join().expect("a user"));
    });
    let mounts = mounts.into_inner();
    println!("        mounted {mounts} times, unloaded {unloads} times, refused {refusals} times");
    // What was mounted last is whole, and the module there is works.
    mounted.mount("");
    for place in &places {
        let name = place.directory.file_name().expect("a name");
        assert_eq!(fs::read(mounted.directory.join(name)).expect("read").len(), 20_000);
    }
    mounted.unmount();
}
