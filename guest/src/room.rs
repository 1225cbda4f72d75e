// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Space that is only reserved, for what is still to be written back, is had when it is wanted.

use crate::Test;
use crate::support::{
    MemoryThatEnds, Window, assert_same, content, create, drop_caches, noise, where_slow,
};
use crate::vectors::{create_collection, put, vectors};
use rustix::fs::{CWD, FallocateFlags, XattrFlags};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("small_files_take_the_space_of_what_is_in_them", small_files_take_little),
    ("whatever_finds_no_space_has_what_is_reserved_written", whatever_finds_no_space),
    ("a_file_is_overwritten_on_a_full_disk", a_file_is_overwritten),
];

const BLOCK: u64 = 4096;

/// Blocks that there are for whoever wants some.
fn available(dir: &Path) -> u64 {
    let stat = rustix::fs::statvfs(dir).expect("statvfs");
    assert_eq!(stat.f_frsize, BLOCK);
    stat.f_bavail
}

fn give(file: &File, at: u64, length: u64) -> rustix::io::Result<()> {
    rustix::fs::fallocate(file, FallocateFlags::empty(), at, length)
}

/// A file without a name that takes all space but for so many bytes while it is open.
fn leave(dir: &Path, bytes: u64) -> File {
    rustix::fs::sync();
    let rest = create(&dir.join("rest"));
    fs::remove_file(dir.join("rest")).expect("remove");
    give(&rest, 0, available(dir) * BLOCK - bytes).expect("fallocate");
    rest.sync_all().expect("fsync");
    rest
}

/// Leaves the space to other tests.
fn remove(dir: &Path) {
    fs::remove_dir_all(dir).expect("remove");
    rustix::fs::sync();
}

fn small_files_take_little(dir: &Path) {
    const LEFT: u64 = 12 << 20;
    let _rest = leave(dir, LEFT);
    // A block for each would be far more than there is.
    let files = where_slow(LEFT / BLOCK * 3 / 2, LEFT / BLOCK * 3);
    for number in 0..files {
        let path = dir.join(format!("{number}"));
        fs::write(&path, format!("file {number:07}")).expect("a small file");
    }
    drop_caches();
    for number in (0..files).step_by(97) {
        let path = dir.join(format!("{number}"));
        assert_same(&content(&path), format!("file {number:07}").as_bytes(), "a small file");
    }
    remove(dir);
}

fn a_file_is_overwritten(dir: &Path) {
    let path = dir.join("file");
    fs::write(&path, noise(1, 6 << 20)).expect("write");
    let _rest = leave(dir, 2 << 20);
    let file = File::options().write(true).open(&path).expect("open");
    for round in 2..where_slow(4, 8) {
        let bytes = noise(round, 6 << 20);
        for (at, piece) in bytes.chunks(3 << 18).enumerate() {
            // Never a short one.
            let written = rustix::io::pwrite(&file, piece, (at * (3 << 18)) as u64);
            assert_eq!(written.expect("write"), piece.len(), "round {round}");
        }
        assert_same(&content(&path), &bytes, "what was written");
    }
    let bytes = content(&path);
    drop_caches();
    assert_same(&content(&path), &bytes, "what was written last");
    remove(dir);
}

fn whatever_finds_no_space(dir: &Path) {
    let collection = create_collection(&File::open(dir).expect("open"), "c");
    let file = create(&dir.join("described"));
    let data = vectors(1, 8);
    put(&dir.join("described"), collection, &data);
    let stored = create(&dir.join("stored"));
    stored.set_len(64 * BLOCK).expect("truncate");
    let window = Window::new(&stored, 64 * BLOCK as usize);
    let direct = {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::DIRECT;
        File::from(rustix::fs::open(dir.join("direct"), flags, Mode::RUSR).expect("open"))
    };
    let memory = MemoryThatEnds::new(64 * BLOCK as usize);
    memory.fill(&noise(5, 64 * BLOCK as usize));
    let source = create(&dir.join("source"));
    source.write_all_at(&noise(6, 64 * BLOCK as usize), 0).expect("write");
    // What is overwritten needs space of its own until it is written back.
    let over = create(&dir.join("over"));
    over.write_all_at(&noise(7, 8 << 20), 0).expect("write");
    let _rest = leave(dir, 3 << 20);
    let mut next = 0;
    let mut overwrite = || {
        over.write_all_at(&[next as u8; 512], next % 2048 * BLOCK).expect("write");
        next += 1;
        available(dir)
    };
    // What is left when nothing can be reserved without writing back: there is more after that.
    let mut least = u64::MAX;
    loop {
        let left = overwrite();
        if left > least {
            break;
        }
        least = left;
    }
    let at = |name: &str| dir.join(name);
    let operations: [(&str, &dyn Fn()); 13] = [
        ("create", &|| drop(create(&at("created")))),
        ("mkdir", &|| fs::create_dir(at("directory")).expect("mkdir")),
        ("symlink", &|| symlink("target", at("symlink")).expect("symlink")),
        ("link", &|| fs::hard_link(at("described"), at("link")).expect("link")),
        ("rename", &|| fs::rename(at("link"), at("renamed")).expect("rename")),
        ("open an unnamed file", &|| {
            use rustix::fs::{Mode, OFlags};
            rustix::fs::openat(CWD, dir, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR)
                .map(drop)
                .expect("O_TMPFILE");
        }),
        ("set an attribute", &|| {
            let value = noise(2, 3000);
            rustix::fs::fsetxattr(&file, "user.a", &value, XattrFlags::empty()).expect("setxattr");
        }),
        ("put vectors", &|| put(&at("described"), collection, &data)),
        ("fallocate", &|| give(&file, 0, 32 * BLOCK).expect("fallocate")),
        ("clone", &|| rustix::fs::ioctl_ficlone(create(&at("clone")), &source).expect("clone")),
        ("store", &|| assert!((0..64).all(|page| window.store(page * BLOCK as usize, 3)))),
        ("write around the cache", &|| {
            let bytes = 64 * BLOCK as usize;
            assert_eq!(memory.write(&direct, bytes, bytes, 0).expect("write"), bytes);
        }),
        ("make a collection", &|| {
            create_collection(&File::open(dir).expect("open"), "another");
        }),
    ];
    for (what, operation) in operations {
        let mut left = available(dir);
        while left > least {
            left = overwrite();
        }
        println!("        {what}, with {left} blocks available");
        operation();
    }
    rustix::fs::sync();
    drop_caches();
    assert_same(&content(&at("direct")), &noise(5, 64 * BLOCK as usize), "direct");
    assert_same(&content(&at("clone")), &noise(6, 64 * BLOCK as usize), "clone");
    assert!((0..64).all(|page| content(&at("stored"))[page * BLOCK as usize] == 3));
    remove(dir);
}
