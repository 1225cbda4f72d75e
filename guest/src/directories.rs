// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Names: made, listed, moved and removed; file handles.

use crate::Test;
use crate::support::{Numbers, c_string, create, drop_caches, errno, list};
use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags};
use std::collections::BTreeSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("every_kind_of_file_is_made", every_kind_of_file_is_made),
    ("renames_of_every_kind", renames_of_every_kind),
    ("links_are_counted", links_are_counted),
    ("listing_goes_on_where_it_stopped", listing_goes_on_where_it_stopped),
    ("the_c_library_lists_and_goes_back", the_c_library_lists_and_goes_back),
    ("names_are_bytes_up_to_255", names_are_bytes_up_to_255),
    ("handles_find_files_again", handles_find_files_again),
    ("many_threads_make_and_remove", many_threads_make_and_remove),
    ("a_directory_is_durable", a_directory_is_durable),
];

fn every_kind_of_file_is_made(dir: &Path) {
    let mode = Mode::from_raw_mode(0o640);
    let make = |name: &str, kind, device| {
        rustix::fs::mknodat(CWD, dir.join(name), kind, mode, device).expect(name);
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("block", FileType::BlockDevice, rustix::fs::makedev(7, 300));
    make("character", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    fs::create_dir(dir.join("directory")).expect("mkdir");
    symlink("some/where", dir.join("link")).expect("symlink");
    let long = "x/".repeat(2000);
    symlink(&long, dir.join("long_link")).expect("symlink");
    rustix::fs::sync();
    drop_caches();
    let kind = |name: &str| dir.join(name).symlink_metadata().expect(name).file_type();
    assert!(kind("fifo").is_fifo() && kind("socket").is_socket());
    assert!(kind("block").is_block_device() && kind("character").is_char_device());
    assert!(kind("directory").is_dir() && kind("link").is_symlink());
    let device = dir.join("block").symlink_metadata().expect("stat").rdev();
    assert_eq!(device, rustix::fs::makedev(7, 300));
    assert_eq!(fs::read_link(dir.join("link")).expect("readlink"), Path::new("some/where"));
    assert_eq!(fs::read_link(dir.join("long_link")).expect("readlink"), Path::new(&long));
    assert_eq!(dir.metadata().expect("stat").nlink(), 3);
}

fn renames_of_every_kind(dir: &Path) {
    let rename = |from: &str, to: &str, flags| {
        rustix::fs::renameat_with(CWD, dir.join(from), CWD, dir.join(to), flags)
    };
    for name in ["a", "b", "c"] {
        fs::write(dir.join(name), name).expect("write");
    }
    let text = |name: &str| fs::read_to_string(dir.join(name)).expect(name);
    assert_eq!(errno(rename("a", "b", RenameFlags::NOREPLACE)), libc::EEXIST);
    rename("a", "d", RenameFlags::NOREPLACE).expect("noreplace");
    rename("b", "c", RenameFlags::EXCHANGE).expect("exchange");
    assert_eq!((text("b"), text("c"), text("d")), ("c".into(), "b".into(), "a".into()));
    rename("b", "d", RenameFlags::WHITEOUT).expect("whiteout");
    assert_eq!(text("d"), "c");
    let whiteout = dir.join("b").symlink_metadata().expect("stat");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    fs::create_dir(dir.join("x")).expect("mkdir");
    fs::create_dir(dir.join("x/y")).expect("mkdir");
    assert_eq!(errno(rename("x", "x/y/z", RenameFlags::empty())), libc::EINVAL);
    rename("x", "d", RenameFlags::EXCHANGE).expect("exchange of kinds");
    assert!(dir.join("d/y").is_dir() && dir.join("x").is_file());
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    assert_eq!(errno(rename("x", "d", both)), libc::EINVAL);
}

fn links_are_counted(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"linked").expect("write");
    for number in 0..100 {
        fs::hard_link(&path, dir.join(format!("l{number}"))).expect("link");
    }
    drop_caches();
    assert_eq!(path.metadata().expect("stat").nlink(), 101);
    for number in 0..100 {
        fs::remove_file(dir.join(format!("l{number}"))).expect("unlink");
    }
    assert_eq!(path.metadata().expect("stat").nlink(), 1);
    fs::create_dir(dir.join("d")).expect("mkdir");
    assert!(fs::hard_link(dir.join("d"), dir.join("e")).is_err());
    assert!(fs::remove_dir(dir).is_err());
}

fn listing_goes_on_where_it_stopped(dir: &Path) {
    let count = 1000;
    for number in 0..count {
        create(&dir.join(format!("entry{number}")));
    }
    let directory = File::open(dir).expect("open");
    let whole = list(&directory, 0, usize::MAX);
    assert_eq!(whole.len(), count + 2);
    assert_eq!((&*whole[0].0, &*whole[1].0), (".", ".."));
    let positions: BTreeSet<i64> = whole.iter().map(|entry| entry.1).collect();
    assert_eq!(positions.len(), whole.len(), "positions repeat");
    assert!(positions.iter().all(|position| *position > 0));
    let long = |position: &i64| libc::c_long::try_from(*position).is_ok();
    assert!(positions.iter().all(long), "a position is no long");
    // Go on in the middle after names before and behind it have gone, and others come.
    let half = list(&directory, 0, 500);
    for number in (0..count).step_by(3) {
        fs::remove_file(dir.join(format!("entry{number}"))).expect("unlink");
        create(&dir.join(format!("new{number}")));
    }
    drop_caches();
    let rest = list(&directory, half[499].1, usize::MAX);
    let seen: BTreeSet<&String> = half.iter().chain(&rest).map(|entry| &entry.0).collect();
    assert_eq!(seen.len(), half.len() + rest.len(), "a name is listed twice");
    for number in (0..count).filter(|number| number % 3 != 0) {
        assert!(seen.contains(&format!("entry{number}")), "entry{number} is missing");
    }
}

/// Names and positions as readdir(3) and telldir(3) give them, which for a 32-bit program without
/// large-file support have to be as small as a `long`.
fn the_c_library_lists_and_goes_back(dir: &Path) {
    let count = 500;
    for number in 0..count {
        create(&dir.join(format!("entry{number}")));
    }
    let path = c_string(dir);
    // SAFETY: the path ends in a zero; the stream is used by this thread alone until it is closed, and
    // a name is copied before the next call.
    unsafe {
        let stream = libc::opendir(path.as_ptr());
        assert!(!stream.is_null(), "{}", std::io::Error::last_os_error());
        let next = || {
            *libc::__errno_location() = 0;
            let entry = libc::readdir(stream);
            assert_eq!(*libc::__errno_location(), 0, "readdir");
            (!entry.is_null()).then(|| CStr::from_ptr((*entry).d_name.as_ptr()).to_owned())
        };
        let mut listed = Vec::new();
        loop {
            let position = libc::telldir(stream);
            let Some(name) = next() else { break };
            listed.push((position, name));
        }
        assert_eq!(listed.len(), count + 2);
        assert_eq!(listed.iter().map(|(_, name)| name).collect::<BTreeSet<_>>().len(), count + 2);
        for number in [250, 0, 501, 1, 2, 400, 3] {
            let (position, name) = &listed[number];
            libc::seekdir(stream, *position);
            assert_eq!(next().as_ref(), Some(name), "entry {number} at {position}");
        }
        assert_eq!(libc::closedir(stream), 0);
    }
}

fn names_are_bytes_up_to_255(dir: &Path) {
    let long = "n".repeat(255);
    create(&dir.join(&long));
    let longer = rustix::fs::mkdirat(CWD, dir.join("n".repeat(256)), Mode::RWXU);
    assert_eq!(errno(longer), libc::ENAMETOOLONG);
    create(&dir.join("\u{fc}\u{20ac} \n\t'"));
    drop_caches();
    let names: BTreeSet<_> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    assert_eq!(names, BTreeSet::from([long, "\u{fc}\u{20ac} \n\t'".to_owned()]));
}

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; 128],
}

fn handle_of(path: &Path) -> Handle {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount = 0i32;
    // SAFETY: the path ends in a zero, the handle has the room that it says it has.
    let result = unsafe {
        let (path, handle) = (c_string(path), &raw mut handle);
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            path.as_ptr(),
            handle,
            &raw mut mount,
            0,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    handle
}

fn open_handle(mount: &File, handle: &mut Handle) -> Result<File, std::io::Error> {
    // SAFETY: the handle is one that name_to_handle_at() filled in.
    let result = unsafe {
        let handle = std::ptr::from_mut(handle);
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), handle, libc::O_RDONLY)
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the call has just given this descriptor out.
    Ok(unsafe { File::from_raw_fd(result as i32) })
}

fn handles_find_files_again(dir: &Path) {
    fs::create_dir_all(dir.join("a/b")).expect("mkdir");
    let path = dir.join("a/b/f");
    fs::write(&path, b"found").expect("write");
    let mount = File::open(dir).expect("open");
    let (mut file, mut directory) = (handle_of(&path), handle_of(&dir.join("a/b")));
    rustix::fs::sync();
    drop_caches();
    fs::rename(dir.join("a"), dir.join("moved")).expect("rename");
    let opened = open_handle(&mount, &mut file).expect("file by handle");
    let text = std::io::read_to_string(opened).expect("read");
    assert_eq!(text, "found");
    let opened = open_handle(&mount, &mut directory).expect("directory by handle");
    assert!(opened.metadata().expect("stat").is_dir());
    drop(opened);
    let held = open_handle(&mount, &mut file).expect("file by handle");
    fs::remove_file(dir.join("moved/b/f")).expect("unlink");
    let nameless = open_handle(&mount, &mut file).expect("while it is open");
    assert_eq!(std::io::read_to_string(nameless).expect("read"), "found");
    drop(held);
    drop_caches();
    let gone = open_handle(&mount, &mut file).expect_err("it is gone");
    assert_eq!(gone.raw_os_error(), Some(libc::ESTALE));
}

fn many_threads_make_and_remove(dir: &Path) {
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            scope.spawn(move || {
                let mut numbers = Numbers(thread + 1);
                for _ in 0..400 {
                    let name = |number: u64| dir.join(format!("f{number}"));
                    let (a, b) = (name(numbers.below(20)), name(numbers.below(20)));
                    // Others do the same, so any of these may find nothing, or something.
                    match numbers.below(5) {
                        0 => drop(fs::write(&a, b"x")),
                        1 => drop(fs::rename(&a, &b)),
                        2 => drop(fs::remove_file(&a)),
                        3 => drop(fs::hard_link(&a, &b)),
                        _ => drop(fs::read(&a)),
                    }
                }
            });
        }
    });
    for entry in fs::read_dir(dir).expect("list") {
        fs::remove_file(entry.expect("entry").path()).expect("unlink");
    }
    rustix::fs::unlinkat(CWD, dir, AtFlags::REMOVEDIR).expect("it is empty");
    fs::create_dir(dir).expect("mkdir");
}

fn a_directory_is_durable(dir: &Path) {
    fs::write(dir.join("f"), b"x").expect("write");
    File::open(dir).and_then(|directory| directory.sync_all()).expect("fsync of a directory");
}
