// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Root of a user namespace, who is above permissions of files whose owner and group the namespace knows.

use crate::commands::rows;
use crate::support::Mounted;
use crate::vectors::{DIMENSION, command, create_collection, put, search, vectors};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write, pipe};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use vexfs_uapi::{CollectionShow, Command};

/// Whom the namespace knows; the first is root there.
const KNOWN_UIDS: &str = "0 1001 1\n1 1002 1\n";
const KNOWN_GIDS: &str = "0 2001 1\n1 2002 1\n";
/// Owners and groups of files that only their owners may read.
const OWNERS: [(u32, u32); 5] = [(1001, 2001), (1002, 2002), (1003, 2001), (1002, 2003), (0, 0)];
/// Of these, whose owner and group are known: the first so many.
const READABLE: usize = 2;

/// What root of a namespace finds is what it can open; how many files that is.
fn found_is_opened(top: &Path, collection: u32) -> usize {
    let directory = File::open(top).expect("the directory");
    let mut found = BTreeSet::new();
    for number in 0..OWNERS.len() {
        let query = vectors(number as u64 + 1, 1);
        let (hits, _) = search(&directory, collection, &query, 0).expect("a search");
        found.extend(hits.iter().map(|hit| hit.inode));
    }
    let opened: BTreeSet<u64> = fs::read_dir(top)
        .expect("a list")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| File::open(path).is_ok())
        .map(|path| path.metadata().expect("stat").ino())
        .collect();
    assert_eq!(found, opened);
    // How many vectors there are of other files is not told, nor hinted at.
    let mut show = CollectionShow::new();
    show.collection.number = collection;
    command(&directory, &mut show).expect("VEXFS_IOC_COLLECTION_SHOW");
    assert_eq!((show.collection.counted, show.collection.rows), (0, 0));
    let (first, listed) = rows(&directory, collection, 0, 1).expect("VEXFS_IOC_ROWS");
    let (last, more) = rows(&directory, collection, first.from, 1).expect("VEXFS_IOC_ROWS");
    assert_eq!((first.more, last.more, listed.len(), more.len()), (1, 0, 1, 1));
    assert!(listed.iter().chain(&more).all(|(vector, _)| vector.sequence == 0));
    assert!(first.from > 9 && last.from > 9, "rows {} and {}", first.from, last.from);
    found.len()
}

pub fn root_elsewhere(mounted: &Mounted) {
    mounted.mount("");
    let collection = create_collection(&File::open(&mounted.directory).expect("open"), "c");
    for (number, (uid, gid)) in OWNERS.into_iter().enumerate() {
        let path = mounted.directory.join(number.to_string());
        put(&path, collection, &vectors(number as u64 + 1, 1)[..DIMENSION]);
        chown(&path, Some(uid), Some(gid)).expect("chown");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
    }
    let ((mut ready, mut say_ready), (mut go, mut say_go)) =
        (pipe().expect("pipe"), pipe().expect("pipe"));
    // SAFETY: no other thread is there; the child goes its way to its exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let outcome = std::panic::catch_unwind(move || {
            // SAFETY: calls without pointers.
            unsafe { assert_eq!(libc::unshare(libc::CLONE_NEWUSER), 0) };
            say_ready.write_all(b"x").expect("write");
            go.read_exact(&mut [0]).expect("read");
            // SAFETY: likewise.
            unsafe { assert_eq!((libc::setresgid(0, 0, 0), libc::setresuid(0, 0, 0)), (0, 0)) };
            found_is_opened(&mounted.directory, collection)
        });
        // SAFETY: what is the parent's is left as it is.
        unsafe { libc::_exit(outcome.map_or(100, |count| count as i32)) };
    }
    assert!(child > 0, "{}", std::io::Error::last_os_error());
    ready.read_exact(&mut [0]).expect("a namespace");
    for (name, known) in [("uid_map", KNOWN_UIDS), ("gid_map", KNOWN_GIDS)] {
        fs::write(format!("/proc/{child}/{name}"), known).expect(name);
    }
    say_go.write_all(b"x").expect("write");
    let mut status = 0;
    // SAFETY: the status is written to.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status), "status {status:#x}");
    assert_eq!(libc::WEXITSTATUS(status) as usize, READABLE, "files found and opened");
    mounted.unmount();
}
