// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What is known of files: times, owners, flags, extended attributes, access control lists.

use crate::Test;
use crate::rights::User;
use crate::support::{Window, acl, create, drop_caches, errno, noise, where_slow};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, StatxFlags, Timespec, Timestamps,
    XattrFlags,
};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

pub const TESTS: &[Test] = &[
    ("times_are_kept_and_move", times_are_kept_and_move),
    ("times_told_are_times_stored", times_told_are_times_stored),
    ("owners_and_modes_are_kept", owners_and_modes_are_kept),
    ("what_direct_io_needs_is_told", what_direct_io_needs_is_told),
    ("flags_bind", flags_bind),
    ("immutable_files_stay_as_they_are", immutable_files_stay_as_they_are),
    ("a_pipe_keeps_its_times", a_pipe_keeps_its_times),
    ("extended_attributes_in_every_namespace", extended_attributes_in_every_namespace),
    ("access_control_lists_are_inherited", access_control_lists_are_inherited),
];

fn times_are_kept_and_move(dir: &Path) {
    let path = dir.join("f");
    let file = create(&path);
    let started = SystemTime::now() - Duration::from_secs(5);
    let born = rustix::fs::statx(CWD, &path, AtFlags::empty(), StatxFlags::BTIME).expect("statx");
    assert!(born.stx_mask & StatxFlags::BTIME.bits() != 0);
    let since = started.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(born.stx_btime.tv_sec >= since as i64, "birth {}", born.stx_btime.tv_sec);
    // Far in both directions, to the nanosecond.
    for seconds in [-1_000_000_000i64, 0, 1, 5_000_000_000] {
        let time = |nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time(123_456_789), last_modification: time(7) };
        rustix::fs::futimens(&file, &times).expect("utimens");
        rustix::fs::sync();
        drop_caches();
        let stat = path.metadata().expect("stat");
        assert_eq!((stat.atime(), stat.atime_nsec()), (seconds, 123_456_789));
        assert_eq!((stat.mtime(), stat.mtime_nsec()), (seconds, 7));
    }
    let before = path.metadata().expect("stat");
    (&file).write_all(b"x").expect("write");
    let after = path.metadata().expect("stat");
    assert!(after.mtime() < before.mtime(), "writing sets the time");
    let entries = dir.metadata().expect("stat");
    std::thread::sleep(Duration::from_millis(30));
    create(&dir.join("another"));
    let later = dir.metadata().expect("stat");
    let moment = |stat: &fs::Metadata| (stat.mtime(), stat.mtime_nsec());
    assert!(moment(&later) > moment(&entries), "a new entry moves the directory's time");
    file.sync_all().expect("fsync");
}

/// The VFS and the core both look at the clock, which ticks between the two now and then.
fn times_told_are_times_stored(dir: &Path) {
    let files = where_slow(1500, 4000) as usize;
    let path = |at: usize| dir.join(at.to_string());
    for at in 0..files {
        let file = create(&path(at));
        match at % 4 {
            0 => (&file).write_all(b"some bytes").expect("write"),
            1 => file.set_len(5000).expect("truncate"),
            2 => rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 9000).expect("fallocate"),
            _ => fs::set_permissions(path(at), Permissions::from_mode(0o640)).expect("chmod"),
        }
    }
    let told = || {
        let times = |at: usize| {
            let stat = path(at).metadata().expect("stat");
            (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec())
        };
        (0..files).map(times).collect::<Vec<_>>()
    };
    let before = told();
    rustix::fs::sync();
    drop_caches();
    let after = told();
    for at in 0..files {
        assert_eq!(before[at], after[at], "file {at}");
    }
}

fn owners_and_modes_are_kept(dir: &Path) {
    let path = dir.join("f");
    create(&path);
    std::os::unix::fs::chown(&path, Some(12345), Some(4_000_000_000)).expect("chown");
    fs::set_permissions(&path, Permissions::from_mode(0o6751)).expect("chmod");
    fs::set_permissions(dir, Permissions::from_mode(0o2755)).expect("chmod");
    std::os::unix::fs::chown(dir, None, Some(77)).expect("chown");
    fs::create_dir(dir.join("below")).expect("mkdir");
    drop_caches();
    let stat = path.metadata().expect("stat");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12345, 4_000_000_000, 0o6751));
    let below = dir.join("below").metadata().expect("stat");
    assert_eq!((below.gid(), below.mode() & 0o2000), (77, 0o2000), "setgid is inherited");
}

fn what_direct_io_needs_is_told(dir: &Path) {
    create(&dir.join("f"));
    for (path, wanted) in [(&*dir.join("f"), Some((1, 4096))), (dir, None)] {
        let told = rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::DIOALIGN);
        let told = told.expect("statx");
        let is_told = told.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
        let needs = (told.stx_dio_mem_align, told.stx_dio_offset_align);
        assert_eq!(is_told.then_some(needs), wanted, "{}", path.display());
    }
}

fn flags_bind(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"first").expect("write");
    let file = File::open(&path).expect("open");
    let set = |flags| rustix::fs::ioctl_setflags(&file, flags).expect("set flags");
    set(IFlags::IMMUTABLE | IFlags::NOATIME);
    drop_caches();
    let told = rustix::fs::ioctl_getflags(&file).expect("get flags");
    assert_eq!(told & (IFlags::IMMUTABLE | IFlags::NOATIME), IFlags::IMMUTABLE | IFlags::NOATIME);
    assert!(OpenOptions::new().write(true).open(&path).is_err());
    assert!(fs::remove_file(&path).is_err());
    set(IFlags::APPEND);
    assert!(OpenOptions::new().write(true).open(&path).is_err());
    let mut append = OpenOptions::new().append(true).open(&path).expect("append");
    append.write_all(b" and more").expect("append");
    set(IFlags::empty());
    assert_eq!(fs::read(&path).expect("read"), b"first and more");
    fs::remove_file(&path).expect("unlink");
}

/// Of who has opened it before, too.
fn immutable_files_stay_as_they_are(dir: &Path) {
    let path = dir.join("f");
    fs::write(&path, b"first").expect("write");
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("open");
    let page = Window::new(&file, 4096);
    rustix::fs::ioctl_setflags(&file, IFlags::IMMUTABLE).expect("set flags");
    assert_eq!((&file).write(b"x").expect_err("write").raw_os_error(), Some(libc::EPERM));
    assert_eq!(file.set_len(1).expect_err("ftruncate").raw_os_error(), Some(libc::EPERM));
    // A file is read into the mapping, so a page that cannot be written to is an error and no signal.
    let zeros = File::open("/dev/zero").expect("open");
    assert!(!page.receive(0, &zeros));
    rustix::fs::ioctl_setflags(&file, IFlags::empty()).expect("set flags");
    (&file).write_all(b"again").expect("write");
    assert_eq!(fs::read(&path).expect("read"), b"again");
}

/// Whoever writes to one changes its times, and nothing else of the file system.
fn a_pipe_keeps_its_times(dir: &Path) {
    let path = dir.join("pipe");
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).expect("pipe");
    let before = path.metadata().expect("stat").mtime_nsec();
    std::thread::sleep(std::time::Duration::from_millis(30));
    create(&path).write_all(b"x").expect("write");
    let written = path.metadata().expect("stat").mtime_nsec();
    assert_ne!(before, written);
    rustix::fs::sync();
    drop_caches();
    assert_eq!(path.metadata().expect("stat").mtime_nsec(), written);
}

fn extended_attributes_in_every_namespace(dir: &Path) {
    let path = dir.join("f");
    create(&path);
    let set = |name: &str, value: &[u8], flags| rustix::fs::setxattr(&path, name, value, flags);
    let none = XattrFlags::empty();
    set("user.small", b"value", XattrFlags::CREATE).expect("create");
    assert_eq!(errno(set("user.small", b"x", XattrFlags::CREATE)), libc::EEXIST);
    assert_eq!(errno(set("user.absent", b"x", XattrFlags::REPLACE)), libc::ENODATA);
    set("user.empty", b"", none).expect("empty");
    set("trusted.t", b"for root", none).expect("trusted");
    set("security.s", b"label", none).expect("security");
    let large = noise(9, 60_000);
    set("user.large", &large, none).expect("large");
    assert_eq!(errno(set("system.unknown", b"x", none)), libc::EOPNOTSUPP);
    rustix::fs::sync();
    drop_caches();
    let get = |name: &str| {
        let mut buffer = vec![0u8; 65_536];
        let length = rustix::fs::getxattr(&path, name, &mut buffer)?;
        buffer.truncate(length);
        Ok::<_, rustix::io::Errno>(buffer)
    };
    assert_eq!(get("user.small").expect("get"), b"value");
    assert_eq!(get("user.empty").expect("get"), b"");
    assert_eq!(get("trusted.t").expect("get"), b"for root");
    assert_eq!(get("security.s").expect("get"), b"label");
    assert!(get("user.large").expect("get") == large);
    let mut short = [0u8; 3];
    assert_eq!(errno(rustix::fs::getxattr(&path, "user.small", &mut short)), libc::ERANGE);
    let mut buffer = vec![0u8; 4096];
    let length = rustix::fs::listxattr(&path, &mut buffer).expect("list");
    let mut names: Vec<&[u8]> = buffer[..length].split(|byte| *byte == 0).collect();
    names.sort();
    let wanted = ["", "security.s", "trusted.t", "user.empty", "user.large", "user.small"]
        .map(str::as_bytes);
    assert_eq!(names, wanted);
    // Nobody but root is told of what is for root.
    std::os::unix::fs::chown(&path, Some(1001), Some(1001)).expect("chown");
    std::thread::scope(|scope| {
        let as_owner = || {
            User::ordinary(1001).become_it();
            assert_eq!(get("user.small").expect("an owner's"), b"value");
            assert_eq!(errno(get("trusted.t")), libc::ENODATA);
            assert_eq!(errno(set("trusted.t", b"x", none)), libc::EPERM);
            assert_eq!(errno(rustix::fs::removexattr(&path, "trusted.t")), libc::EPERM);
            let mut buffer = vec![0u8; 4096];
            let length = rustix::fs::listxattr(&path, &mut buffer).expect("list");
            let told = String::from_utf8_lossy(&buffer[..length]);
            assert!(told.contains("user.small") && !told.contains("trusted."), "{told}");
        };
        scope.spawn(as_owner).join().expect("the owner");
    });
    rustix::fs::removexattr(&path, "user.large").expect("remove");
    assert_eq!(errno(get("user.large")), libc::ENODATA);
    assert_eq!(errno(rustix::fs::removexattr(&path, "user.large")), libc::ENODATA);
}

pub const NOBODY: u32 = u32::MAX;

fn access_control_lists_are_inherited(dir: &Path) {
    let list = acl(&[
        (0x01, 7, NOBODY),
        (0x02, 5, 1000),
        (0x04, 5, NOBODY),
        (0x10, 5, NOBODY),
        (0x20, 0, NOBODY),
    ]);
    let none = XattrFlags::empty();
    rustix::fs::setxattr(dir, "system.posix_acl_default", &list, none).expect("default list");
    let path = dir.join("f");
    create(&path);
    fs::create_dir(dir.join("d")).expect("mkdir");
    rustix::fs::sync();
    drop_caches();
    let get = |path: &Path, name: &str| {
        let mut buffer = vec![0u8; 256];
        let length = rustix::fs::getxattr(path, name, &mut buffer)?;
        buffer.truncate(length);
        Ok::<_, rustix::io::Errno>(buffer)
    };
    assert_eq!(get(&dir.join("d"), "system.posix_acl_default").expect("inherited"), list);
    let access = get(&path, "system.posix_acl_access").expect("inherited");
    assert_eq!(access.len(), list.len());
    assert_eq!(path.metadata().expect("stat").mode() & 0o007, 0);
    // chmod changes the mask, and the list shows it.
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("chmod");
    let access = get(&path, "system.posix_acl_access").expect("still there");
    let mask = access[4..].chunks(8).find(|entry| entry[0] == 0x10).expect("a mask");
    assert_eq!(mask[2], 0);
    // A list too long to lie in the tree with the inode.
    let mut entries = vec![(0x01, 7, NOBODY)];
    entries.extend((0..200).map(|user| (0x02, 5, 2000 + user)));
    entries.extend([(0x04, 5, NOBODY), (0x10, 5, NOBODY), (0x20, 0, NOBODY)]);
    let long = acl(&entries);
    fs::create_dir(dir.join("l")).expect("mkdir");
    rustix::fs::setxattr(dir.join("l"), "system.posix_acl_default", &long, none).expect("long");
    create(&dir.join("l/f"));
    fs::create_dir(dir.join("l/d")).expect("mkdir");
    rustix::fs::sync();
    drop_caches();
    for (name, kind) in [("l/f", "access"), ("l/d", "default"), ("l/d", "access")] {
        let mut buffer = vec![0u8; 4096];
        let kind = format!("system.posix_acl_{kind}");
        let length = rustix::fs::getxattr(dir.join(name), kind.as_str(), &mut buffer);
        assert_eq!(length.expect("inherited"), long.len(), "{kind} of {name}");
    }
    rustix::fs::removexattr(&path, "system.posix_acl_access").expect("remove");
    assert_eq!(errno(get(&path, "system.posix_acl_access")), libc::ENODATA);
}
