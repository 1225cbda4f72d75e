// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the server has answered is kept, although it is cut off at once: clients hold nothing to do
//! it again with. Each in a commit of its own, as one is a promise kept for all before it.

use crate::server::Server;
use crate::support::{assert_same, content, create, drop_caches, noise};
use crate::{BOTH, Shared, Test};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

// Only what the server does in another way for NFSv4 is tried again there.
pub const TESTS: &[Test] = &[
    ("kept_create", BOTH, create_is_kept),
    ("kept_fsync", BOTH, fsync_is_kept),
    ("kept_close", &[3], close_is_kept),
    ("kept_write_of_sync_file", &[3], write_of_sync_file_is_kept),
    ("kept_mkdir", BOTH, mkdir_is_kept),
    ("kept_symlink", &[3], symlink_is_kept),
    ("kept_link", &[3], link_is_kept),
    ("kept_rename", BOTH, rename_is_kept),
    ("kept_replacement", &[3], replacement_is_kept),
    ("kept_unlink", &[3], unlink_is_kept),
    ("kept_rmdir", &[3], rmdir_is_kept),
    ("kept_attributes", BOTH, attributes_are_kept),
    ("kept_length", &[3], length_is_kept),
];

/// A client does something where `before` prepared it, and `after` is shown the directory after a
/// power cut, as the server has it and as a client sees it.
fn kept<T>(
    server: &Server,
    shared: &Shared,
    before: impl Fn(&Path),
    act: impl Fn(&Path) -> T,
    after: impl Fn(&Path),
) {
    before(&shared.remote);
    rustix::fs::sync();
    let open = act(&shared.remote);
    fs::write(shared.local.join("lost"), b"").expect("write");
    server.cut_power();
    drop(open);
    assert!(!shared.local.join("lost").exists(), "the power cut lost nothing");
    after(&shared.local);
    drop_caches();
    after(&shared.remote);
}

fn nothing(_: &Path) {}

fn bytes() -> Vec<u8> {
    noise(20, 300_000)
}

fn create_is_kept(server: &Server, shared: &Shared) {
    let act = |dir: &Path| create(&dir.join("f")).sync_all().expect("fsync");
    kept(server, shared, nothing, act, |dir| assert_eq!(content(&dir.join("f")), b""));
}

fn fsync_is_kept(server: &Server, shared: &Shared) {
    let act = |dir: &Path| {
        let mut file = create(&dir.join("f"));
        file.write_all(&bytes()).expect("write");
        file.sync_all().expect("fsync");
    };
    kept(server, shared, nothing, act, |dir| {
        assert_same(&content(&dir.join("f")), &bytes(), "synced");
    });
}

fn close_is_kept(server: &Server, shared: &Shared) {
    let act = |dir: &Path| fs::write(dir.join("f"), bytes()).expect("write");
    let before = |dir: &Path| drop(create(&dir.join("f")));
    kept(server, shared, before, act, |dir| {
        assert_same(&content(&dir.join("f")), &bytes(), "closed");
    });
}

fn write_of_sync_file_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| drop(create(&dir.join("f")));
    let act = |dir: &Path| {
        let mut options = File::options();
        let file = options.write(true).custom_flags(libc::O_SYNC).open(dir.join("f"));
        let mut file = file.expect("open");
        file.write_all(&bytes()).expect("write");
        // It stays open, as closing it would sync it.
        file
    };
    kept(server, shared, before, act, |dir| {
        assert_same(&content(&dir.join("f")), &bytes(), "written");
    });
}

fn mkdir_is_kept(server: &Server, shared: &Shared) {
    let act = |dir: &Path| fs::create_dir(dir.join("d")).expect("mkdir");
    kept(server, shared, nothing, act, |dir| assert!(dir.join("d").is_dir()));
}

fn symlink_is_kept(server: &Server, shared: &Shared) {
    let act = |dir: &Path| symlink("target", dir.join("s")).expect("symlink");
    kept(server, shared, nothing, act, |dir| {
        assert_eq!(fs::read_link(dir.join("s")).expect("readlink"), Path::new("target"));
    });
}

fn link_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| fs::write(dir.join("f"), b"f").expect("write");
    let act = |dir: &Path| fs::hard_link(dir.join("f"), dir.join("g")).expect("link");
    kept(server, shared, before, act, |dir| {
        assert_eq!(content(&dir.join("g")), b"f");
        assert_eq!(dir.join("f").metadata().expect("stat").nlink(), 2);
    });
}

fn rename_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| {
        fs::create_dir(dir.join("d")).expect("mkdir");
        fs::write(dir.join("f"), b"f").expect("write");
    };
    let act = |dir: &Path| fs::rename(dir.join("f"), dir.join("d/g")).expect("rename");
    kept(server, shared, before, act, |dir| {
        assert_eq!(content(&dir.join("d/g")), b"f");
        assert!(!dir.join("f").exists());
    });
}

fn replacement_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| {
        for name in ["f", "g"] {
            fs::write(dir.join(name), name).expect("write");
        }
    };
    let act = |dir: &Path| fs::rename(dir.join("f"), dir.join("g")).expect("rename");
    kept(server, shared, before, act, |dir| {
        assert_eq!(content(&dir.join("g")), b"f");
        assert!(!dir.join("f").exists());
    });
}

fn unlink_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| fs::write(dir.join("f"), b"f").expect("write");
    let act = |dir: &Path| fs::remove_file(dir.join("f")).expect("unlink");
    kept(server, shared, before, act, |dir| assert!(!dir.join("f").exists()));
}

fn rmdir_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| fs::create_dir(dir.join("d")).expect("mkdir");
    let act = |dir: &Path| fs::remove_dir(dir.join("d")).expect("rmdir");
    kept(server, shared, before, act, |dir| assert!(!dir.join("d").exists()));
}

fn attributes_are_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| fs::write(dir.join("f"), b"f").expect("write");
    let act = |dir: &Path| {
        fs::set_permissions(dir.join("f"), Permissions::from_mode(0o604)).expect("chmod");
    };
    kept(server, shared, before, act, |dir| {
        assert_eq!(dir.join("f").metadata().expect("stat").mode() & 0o7777, 0o604);
    });
}

fn length_is_kept(server: &Server, shared: &Shared) {
    let before = |dir: &Path| fs::write(dir.join("f"), bytes()).expect("write");
    let act = |dir: &Path| create(&dir.join("f")).set_len(100_001).expect("truncate");
    kept(server, shared, before, act, |dir| {
        assert_same(&content(&dir.join("f")), &bytes()[..100_001], "shortened");
    });
}
