// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A client's handle leads to the same file for as long as that is there, and never to another.

use crate::server::{self, Server};
use crate::support::{assert_same, content, create, drop_caches, noise};
use crate::{BOTH, Shared, Test};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub const TESTS: &[Test] = &[
    ("handles_outlive_the_servers_caches", BOTH, handles_outlive_the_servers_caches),
    ("handles_outlive_the_mount", BOTH, handles_outlive_the_mount),
    ("handles_outlive_the_server", BOTH, handles_outlive_the_server),
    ("handles_do_not_depend_on_names", BOTH, handles_do_not_depend_on_names),
    ("a_removed_file_is_never_another", BOTH, a_removed_file_is_never_another),
    ("a_part_is_exported", &[3], a_part_is_exported),
];

/// The path of a name in a directory that is open, wherever that is by now.
fn within(directory: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

fn read_at(file: &File, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).map(|()| bytes)
}

/// Files and directories that a client has open go on being what they are when this has happened.
fn outlive(shared: &Shared, happen: impl Fn()) {
    let first = noise(10, 500_000);
    let deep = shared.local.join("a/b/c/d");
    fs::create_dir_all(&deep).expect("mkdir");
    fs::write(deep.join("f"), &first).expect("write");
    rustix::fs::sync();
    let directory = File::open(shared.remote.join("a/b/c/d")).expect("open");
    let file = create(&within(&directory, "f"));
    let mut begun = [0; 1000];
    (&file).read_exact(&mut begun).expect("read");
    assert_same(&begun, &first[..1000], "before");
    happen();
    drop_caches();
    let mut rest = Vec::new();
    (&file).read_to_end(&mut rest).expect("read on");
    assert_same(&rest, &first[1000..], "afterwards");
    // It is the server that is asked.
    let second = noise(11, 500_000);
    create(&deep.join("f")).write_all_at(&second, 0).expect("overwrite");
    happen();
    drop_caches();
    assert_same(&read_at(&file, 0, second.len()).expect("read"), &second, "overwritten");
    assert_eq!(fs::read_dir(within(&directory, "")).expect("list").count(), 1);
    assert_same(&content(&within(&directory, "f")), &second, "opened again");
    let third = noise(12, 100_000);
    file.write_all_at(&third, 50_000).expect("write");
    file.sync_all().expect("fsync");
    create(&within(&directory, "new"));
    drop(file);
    let mut wanted = second;
    wanted[50_000..150_000].copy_from_slice(&third);
    assert_same(&content(&deep.join("f")), &wanted, "written");
    assert!(deep.join("new").exists());
}

fn handles_outlive_the_servers_caches(_: &Server, shared: &Shared) {
    outlive(shared, drop_caches);
}

fn handles_outlive_the_mount(server: &Server, shared: &Shared) {
    outlive(shared, || server.remount());
}

fn handles_outlive_the_server(server: &Server, shared: &Shared) {
    outlive(shared, || server.restart());
}

/// A file by another of its names, and a directory that was moved.
fn handles_do_not_depend_on_names(server: &Server, shared: &Shared) {
    let bytes = noise(13, 100_000);
    fs::create_dir_all(shared.local.join("a/b/c")).expect("mkdir");
    fs::create_dir_all(shared.local.join("x/y")).expect("mkdir");
    for (name, content) in [("a/b/c/f", &*bytes), ("a/b/g", b"g")] {
        fs::write(shared.local.join(name), content).expect("write");
    }
    let directory = File::open(shared.remote.join("a/b/c")).expect("open");
    let file = File::open(shared.remote.join("a/b/c/f")).expect("open");
    let another = File::open(shared.remote.join("a/b/g")).expect("open");
    fs::rename(shared.local.join("a/b"), shared.local.join("x/y/z")).expect("move");
    fs::rename(shared.local.join("x/y/z/g"), shared.local.join("g")).expect("move");
    let moved = shared.local.join("x/y/z/c");
    fs::hard_link(moved.join("f"), shared.local.join("a/other")).expect("link");
    fs::remove_file(moved.join("f")).expect("unlink");
    fs::write(moved.join("new"), b"new").expect("write");
    for happen in [drop_caches as fn(), || ()] {
        happen();
        drop_caches();
        assert_same(&read_at(&file, 0, bytes.len()).expect("read"), &bytes, "another name");
        assert_eq!(read_at(&another, 0, 1).expect("read"), b"g");
        assert_eq!(content(&within(&directory, "new")), b"new");
        assert!(!within(&directory, "f").exists());
        assert!(within(&directory, "..").join("c/new").exists());
        server.remount();
    }
}

fn a_removed_file_is_never_another(server: &Server, shared: &Shared) {
    const LENGTH: usize = 4096;
    let old = vec![b'o'; LENGTH];
    for name in ["f", "g"] {
        fs::write(shared.local.join(name), &old).expect("write");
    }
    fs::create_dir(shared.local.join("d")).expect("mkdir");
    fs::write(shared.local.join("d/f"), &old).expect("write");
    rustix::fs::sync();
    let read = File::open(shared.remote.join("f")).expect("open");
    let unread = File::open(shared.remote.join("g")).expect("open");
    let directory = File::open(shared.remote.join("d")).expect("open");
    assert_same(&read_at(&read, 0, LENGTH).expect("read"), &old, "before");
    fs::remove_file(shared.local.join("f")).expect("unlink");
    fs::remove_file(shared.local.join("g")).expect("unlink");
    fs::remove_dir_all(shared.local.join("d")).expect("remove");
    // What takes their places has their names and, maybe, their numbers.
    let replace = |round: usize| {
        for number in 0..200 {
            let name = shared.local.join(format!("new{round}-{number}"));
            fs::write(name, vec![b'n'; LENGTH]).expect("write");
            let dir = shared.local.join(format!("dir{round}-{number}"));
            fs::create_dir(&dir).expect("mkdir");
            fs::write(dir.join("f"), b"n").expect("write");
        }
    };
    replace(0);
    for name in ["f", "g"] {
        fs::write(shared.local.join(name), vec![b'n'; LENGTH]).expect("write");
    }
    let stale = |error: &std::io::Error| error.raw_os_error() == Some(libc::ESTALE);
    for round in 1..4 {
        drop_caches();
        for file in [&read, &unread] {
            match read_at(file, 0, LENGTH) {
                // While the server has it open for clients of NFSv4, or a moment longer.
                Ok(bytes) => {
                    assert!(round == 1, "it is back");
                    assert_same(&bytes, &old, "removed");
                }
                Err(error) => assert!(stale(&error) || shared.version == 4, "{error}"),
            }
        }
        let inside = File::open(within(&directory, "f")).expect_err("in a removed directory");
        assert!(stale(&inside) || inside.kind() == std::io::ErrorKind::NotFound, "{inside}");
        server.remount();
        replace(round);
    }
    assert_same(&content(&shared.remote.join("f")), &[b'n'; LENGTH], "by its name");
}

/// Handles in such a part hold the parent, too, as the server looks whether they are in it.
fn a_part_is_exported(server: &Server, shared: &Shared) {
    const NUMBER: u32 = 7;
    const CHECK_SUBTREE: u32 = 0;
    let part = shared.local.join("part");
    fs::create_dir_all(part.join("a/b")).expect("mkdir");
    fs::create_dir(shared.local.join("outside")).expect("mkdir");
    for name in ["a/b/stays", "a/b/leaves", "a/moves"] {
        fs::write(part.join(name), name).expect("write");
    }
    fs::hard_link(part.join("a/b/stays"), shared.local.join("outside/link")).expect("link");
    let again = || server::export(&part, NUMBER, CHECK_SUBTREE);
    again();
    let at = Path::new("/nfspart");
    server::mount_client(3, &part, at);
    let [stays, leaves] = ["stays", "leaves"].map(|name| {
        let file = File::open(at.join("a/b").join(name)).expect("open");
        assert_eq!(read_at(&file, 0, 4).expect("read"), format!("a/b/{name}").as_bytes()[..4]);
        file
    });
    for happen in [&drop_caches as &dyn Fn(), &|| server.remount()] {
        happen();
        again();
        drop_caches();
        assert_eq!(read_at(&stays, 0, 9).expect("read"), b"a/b/stays");
        assert_eq!(content(&at.join("a/moves")), b"a/moves");
        assert_eq!(content(&at.join("a/b/leaves")), b"a/b/leaves");
    }
    fs::rename(part.join("a/b/leaves"), shared.local.join("outside/left")).expect("rename");
    drop_caches();
    let error = read_at(&leaves, 0, 10).expect_err("it is outside of what is exported");
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
    assert_eq!(read_at(&stays, 0, 9).expect("read"), b"a/b/stays");
    drop((stays, leaves));
    server::unmount_client(at);
}
