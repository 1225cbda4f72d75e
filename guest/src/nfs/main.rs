// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Tests of a VexFS that the kernel's NFS server exports, to be run in a guest:
//!
//!     vexfs-guest-nfs DEVICE DIRECTORY [NAME]...
//!
//! Makes a file system on the device, mounts it on the directory and exports that to clients in the
//! same guest, which mount it by NFSv3 and by NFSv4.2. Runs the tests (those whose names hold one of
//! the words) by each of the two, prints a line for each, and at the end `N passed, N failed`.

mod files;
mod handles;
mod promises;
mod server;
#[path = "../support.rs"]
#[allow(dead_code)] // Each of the programs uses a part of it.
mod support;
mod together;

use server::Server;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use support::{Mounted, counted};

/// A test's own directory, as the server has it and as a client sees it.
pub struct Shared {
    /// On the file system itself.
    pub local: PathBuf,
    /// By NFS.
    pub remote: PathBuf,
    /// Of the protocol.
    pub version: u8,
}

/// A test: its name, the versions it is for, and what it does.
type Test = (&'static str, &'static [u8], fn(&Server, &Shared));

const BOTH: &[u8] = &[3, 4];

/// Where clients of a version mount what is exported.
pub fn mount_point(version: u8) -> PathBuf {
    PathBuf::from(format!("/nfs{version}"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, directory, words @ ..] = arguments.as_slice() else {
        eprintln!("usage: vexfs-guest-nfs DEVICE DIRECTORY [NAME]...");
        return ExitCode::from(2);
    };
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    let directory = Path::new(directory);
    let server = Server::new(Mounted { device: device.into(), directory: directory.into() });
    for version in BOTH {
        server::mount_client(*version, directory, &mount_point(*version));
    }
    let mut counts = (0, 0);
    for version in BOTH {
        let tests = [files::TESTS, handles::TESTS, together::TESTS, promises::TESTS];
        for (name, versions, test) in tests.into_iter().flatten() {
            if !chosen(name) || !versions.contains(version) {
                continue;
            }
            let own = format!("{name}_{version}");
            counted(&format!("v{version} {name}"), &mut counts, || {
                let local = directory.join(&own);
                std::fs::create_dir(&local).expect("a directory for the test");
                // What is lost by a test is nothing of what it began with.
                rustix::fs::sync();
                let remote = mount_point(*version).join(&own);
                test(&server, &Shared { local, remote, version: *version });
            });
        }
    }
    counted("unmounts_and_is_sound", &mut counts, || {
        BOTH.iter().for_each(|version| server::unmount_client(&mount_point(*version)));
        server.end();
    });
    println!("{} passed, {} failed", counts.0, counts.1);
    ExitCode::from(u8::from(counts.1 > 0))
}
