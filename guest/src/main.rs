// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Tests of a mounted VexFS, to be run in a guest with `vm/run --disk FILE --add ...`:
//!
//!     vexfs-guest-tests DEVICE DIRECTORY [NAME]...
//!
//! Makes a file system on the device, mounts it on the directory and runs the tests (those whose names
//! hold one of the words), each in a directory of its own. Prints a line for each, and at the end
//! `N passed, N failed`. The device is checked after every mount. Tests of random things print the seed
//! they follow from; `VEXFS_SEED` sets it, and `VEXFS_ROUNDS` how much they try. Those of labels are there
//! where the security module Smack runs. A test that ends the guest is run if its whole name is given.

mod attributes;
mod calls_32;
mod collections;
mod commands;
mod damage;
mod directories;
mod files;
mod footprint;
mod fuzz;
mod interrupts;
mod ioctls;
mod labels;
mod mount;
mod rights;
mod room;
mod space;
mod support;
mod sysfs;
mod traces;
mod unloading;
mod vectors;

use std::path::Path;
use std::process::ExitCode;
use support::{Mounted, counted};

/// A test: its name, and what it does in a directory of its own.
type Test = (&'static str, fn(&Path));
/// A test that mounts the device itself.
type MountTest = (&'static str, fn(&Mounted));

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, directory, words @ ..] = arguments.as_slice() else {
        eprintln!("usage: vexfs-guest-tests DEVICE DIRECTORY [NAME]...");
        return ExitCode::from(2);
    };
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let mounted = Mounted { device: device.into(), directory: directory.into() };
    let mut counts = (0, 0);

    let tests = [files::TESTS, directories::TESTS, attributes::TESTS, space::TESTS, room::TESTS];
    let tests: Vec<&Test> = tests.into_iter().flatten().filter(|test| chosen(test.0)).collect();
    if !tests.is_empty() {
        mounted.format();
        mounted.mount("");
        for (name, test) in tests {
            let own = mounted.directory.join(name);
            counted(name, &mut counts, || {
                std::fs::create_dir(&own).expect("a directory for the test");
                test(&own);
            });
        }
        counted("unmounts_and_is_sound", &mut counts, || {
            mounted.unmount();
            mounted.check();
        });
    }
    let tests = [
        mount::TESTS,
        sysfs::TESTS,
        footprint::TESTS,
        rights::TESTS,
        fuzz::TESTS,
        damage::TESTS,
        collections::TESTS,
        ioctls::TESTS,
        interrupts::TESTS,
        traces::TESTS,
        unloading::TESTS,
        if calls_32::are_possible() { calls_32::TESTS } else { &[] },
        // A kernel without Smack has nothing for them to meet.
        if labels::smack_runs() { rights::LABEL_TESTS } else { &[] },
    ];
    let last = mount::LAST_TESTS.iter().filter(|test| words.iter().any(|word| word == test.0));
    let tests = tests.into_iter().flatten().filter(|test| chosen(test.0)).chain(last);
    for (name, test) in tests {
        let passed = counted(name, &mut counts, || {
            mounted.format();
            test(&mounted);
            mounted.check();
        });
        if !passed {
            mounted.unmount_if_mounted();
        }
    }
    println!("{} passed, {} failed", counts.0, counts.1);
    ExitCode::from(u8::from(counts.1 > 0))
}
