// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a client does is what the server has, and the other way round.

use crate::server::Server;
use crate::support::{acl, assert_same, content, create, drop_caches, errno, list, noise};
use crate::{BOTH, Shared, Test};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, XattrFlags};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{
    DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink,
};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

pub const TESTS: &[Test] = &[
    ("a_clients_changes_are_the_servers", BOTH, a_clients_changes_are_the_servers),
    ("the_servers_changes_are_a_clients", BOTH, the_servers_changes_are_a_clients),
    ("what_cannot_be_done_fails_as_it_should", BOTH, what_cannot_be_done_fails_as_it_should),
    ("rights_are_the_servers", BOTH, rights_are_the_servers),
    ("a_removed_file_goes_when_it_is_closed", BOTH, a_removed_file_goes_when_it_is_closed),
    ("many_names_are_listed_once_each", BOTH, many_names_are_listed_once_each),
    ("listing_goes_on_after_removals", BOTH, listing_goes_on_after_removals),
    ("each_change_is_seen", BOTH, each_change_is_seen),
    ("changes_at_once_are_seen", &[4], changes_at_once_are_seen),
    ("access_control_lists", &[3], access_control_lists),
    ("attributes_with_names", &[4], attributes_with_names),
    ("holes_and_clones", &[4], holes_and_clones),
    ("locks_are_the_servers", &[4], locks_are_the_servers),
];

/// All that two views of a tree show is the same; returns how much there is.
pub fn same_trees(left: &Path, right: &Path) -> usize {
    let names = |path: &Path| -> BTreeSet<_> {
        let entries: Vec<_> =
            fs::read_dir(path).expect("list").map(|entry| entry.expect("entry")).collect();
        let names: BTreeSet<_> = entries
            .iter()
            .map(|entry| (entry.file_name(), entry.file_type().expect("type").is_dir()))
            .collect();
        assert_eq!(names.len(), entries.len(), "{}: a name is listed twice", path.display());
        names
    };
    let found = names(left);
    assert_eq!(found, names(right), "names in {}", left.display());
    let mut count = found.len();
    for (name, _) in found {
        let (left, right) = (left.join(&name), right.join(&name));
        let shown = |path: &Path| {
            let stat = path.symlink_metadata().expect("stat");
            // Of directories each has its own size, and links to them the server alone knows.
            (
                (stat.ino(), stat.mode(), stat.nlink(), stat.uid(), stat.gid(), stat.size()),
                (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec(), stat.rdev()),
            )
        };
        assert_eq!(shown(&left), shown(&right), "{}", left.display());
        let kind = left.symlink_metadata().expect("stat").file_type();
        if kind.is_dir() {
            count += same_trees(&left, &right);
        } else if kind.is_symlink() {
            let target = |path: &Path| fs::read_link(path).expect("readlink");
            assert_eq!(target(&left), target(&right), "{}", left.display());
        } else if kind.is_file() {
            assert_same(&content(&left), &content(&right), &left.display().to_string());
        }
    }
    count
}

/// Changes of every kind in a directory, with what must then be there.
fn change(dir: &Path) {
    let bytes = noise(1, 400_000);
    fs::create_dir_all(dir.join("a/b/c")).expect("mkdir");
    fs::write(dir.join("a/whole"), &bytes).expect("write");
    let file = create(&dir.join("a/b/parts"));
    file.write_all_at(&bytes[..100_000], 0).expect("write");
    file.write_all_at(&bytes[..5000], 50_001).expect("overwrite");
    file.set_len(90_000).expect("shorten");
    file.set_len(200_000).expect("lengthen");
    file.write_all_at(b"far", 5 << 30).expect("write behind a hole");
    file.set_len(150_000).expect("shorten");
    drop(file);
    let mut end = File::options().append(true).open(dir.join("a/b/parts")).expect("open");
    end.write_all(b"end").expect("append");
    drop(end);
    let mut wanted = bytes[..90_000].to_vec();
    wanted[50_001..55_001].copy_from_slice(&bytes[..5000]);
    wanted.resize(150_000, 0);
    wanted.extend(b"end");
    assert_same(&content(&dir.join("a/b/parts")), &wanted, "parts");
    for name in ["first", "second", "third", "gone"] {
        fs::write(dir.join(name), name).expect("write");
    }
    fs::rename(dir.join("first"), dir.join("a/b/c/moved")).expect("rename");
    fs::rename(dir.join("second"), dir.join("third")).expect("rename over a file");
    assert_eq!(content(&dir.join("third")), b"second");
    fs::create_dir(dir.join("empty")).expect("mkdir");
    fs::rename(dir.join("a/b/c"), dir.join("empty")).expect("rename over a directory");
    fs::rename(dir.join("empty"), dir.join("a/d")).expect("move a directory");
    fs::hard_link(dir.join("third"), dir.join("a/d/link")).expect("link");
    symlink("a/d/../d/moved", dir.join("symlink")).expect("symlink");
    assert_eq!(content(&dir.join("symlink")), b"first");
    symlink("x".repeat(1000), dir.join("long")).expect("symlink");
    for (name, kind) in
        [("fifo", rustix::fs::FileType::Fifo), ("null", rustix::fs::FileType::CharacterDevice)]
    {
        let mode = Mode::from_raw_mode(0o640);
        rustix::fs::mknodat(rustix::fs::CWD, dir.join(name), kind, mode, rustix::fs::makedev(1, 3))
            .expect("mknod");
    }
    fs::set_permissions(dir.join("third"), Permissions::from_mode(0o4751)).expect("chmod");
    chown(dir.join("a/whole"), Some(1000), Some(65534)).expect("chown");
    let time = SystemTime::UNIX_EPOCH + Duration::new(4_000_000_000, 123_456_789);
    File::open(dir.join("a/d/moved")).and_then(|file| file.set_modified(time)).expect("utimes");
    fs::remove_file(dir.join("gone")).expect("unlink");
    fs::create_dir(dir.join("gone")).expect("mkdir");
    fs::remove_dir(dir.join("gone")).expect("rmdir");
    fs::write(dir.join("\u{e4}\n %"), b"odd").expect("a name of any bytes");
}

fn a_clients_changes_are_the_servers(_: &Server, shared: &Shared) {
    change(&shared.remote);
    assert_eq!(same_trees(&shared.local, &shared.remote), 13);
    drop_caches();
    same_trees(&shared.local, &shared.remote);
    fs::remove_dir_all(shared.remote.join("a")).expect("all of it removed");
    assert!(!shared.local.join("a").exists());
    let (ours, theirs) = (statvfs(&shared.local), statvfs(&shared.remote));
    assert_eq!((ours.f_blocks * ours.f_frsize), (theirs.f_blocks * theirs.f_frsize));
}

fn statvfs(path: &Path) -> rustix::fs::StatVfs {
    rustix::fs::statvfs(path).expect("statvfs")
}

fn the_servers_changes_are_a_clients(_: &Server, shared: &Shared) {
    // The client knows the directory as it was, and that a name is not there.
    assert_eq!(fs::read_dir(&shared.remote).expect("list").count(), 0);
    assert!(!shared.remote.join("third").exists());
    change(&shared.local);
    assert_eq!(same_trees(&shared.remote, &shared.local), 13);
    drop_caches();
    same_trees(&shared.remote, &shared.local);
    // A name that is another file now, one that is gone, and one that is a directory.
    let pause = || std::thread::sleep(Duration::from_millis(20));
    pause();
    fs::write(shared.local.join("new"), b"replaced").expect("write");
    fs::rename(shared.local.join("new"), shared.local.join("third")).expect("rename");
    fs::remove_file(shared.local.join("long")).expect("unlink");
    fs::remove_file(shared.local.join("fifo")).expect("unlink");
    fs::create_dir(shared.local.join("fifo")).expect("mkdir");
    assert_eq!(content(&shared.remote.join("third")), b"replaced");
    assert!(shared.remote.join("long").symlink_metadata().is_err());
    assert!(shared.remote.join("fifo").is_dir());
    same_trees(&shared.remote, &shared.local);
}

fn what_cannot_be_done_fails_as_it_should(_: &Server, shared: &Shared) {
    let dir = &shared.remote;
    fs::create_dir_all(dir.join("d/e")).expect("mkdir");
    fs::write(dir.join("f"), b"f").expect("write");
    let kind = |result: std::io::Result<()>| result.expect_err("an error").raw_os_error();
    assert_eq!(kind(fs::remove_dir(dir.join("d"))), Some(libc::ENOTEMPTY));
    assert_eq!(kind(fs::rename(dir.join("d"), dir.join("d/e/d"))), Some(libc::EINVAL));
    assert_eq!(kind(fs::rename(dir.join("f"), dir.join("d"))), Some(libc::EISDIR));
    assert_eq!(kind(fs::rename(dir.join("d/e"), dir.join("f"))), Some(libc::ENOTDIR));
    assert_eq!(kind(fs::create_dir(dir.join("f"))), Some(libc::EEXIST));
    assert_eq!(kind(fs::hard_link(dir.join("f"), dir.join("d"))), Some(libc::EEXIST));
    assert_eq!(kind(fs::remove_file(dir.join("none"))), Some(libc::ENOENT));
    assert_eq!(kind(fs::create_dir(dir.join("f/g"))), Some(libc::ENOTDIR));
    assert_eq!(kind(fs::create_dir(dir.join("n".repeat(256)))), Some(libc::ENAMETOOLONG));
    fs::create_dir(dir.join("n".repeat(255))).expect("the longest name");
    let exclusive = |name: &str| {
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o604).open(dir.join(name))
    };
    drop(exclusive("once").expect("made"));
    assert_eq!(exclusive("once").expect_err("there").kind(), ErrorKind::AlreadyExists);
    // The server keeps in the times what tells it a repeated request from another's.
    let stat = shared.local.join("once").metadata().expect("stat");
    assert_eq!(stat.mode() & 0o7777, 0o604);
    let age = SystemTime::now().duration_since(stat.modified().expect("mtime"));
    assert!(age.expect("past") < Duration::from_secs(100), "{stat:?}");
    assert_eq!(same_trees(&shared.local, dir), 5);
}

fn rights_are_the_servers(_: &Server, shared: &Shared) {
    fs::write(shared.local.join("ours"), b"ours").expect("write");
    fs::write(shared.local.join("theirs"), b"theirs").expect("write");
    fs::set_permissions(shared.local.join("ours"), Permissions::from_mode(0o600)).expect("chmod");
    fs::set_permissions(shared.local.join("theirs"), Permissions::from_mode(0o400)).expect("chmod");
    chown(shared.local.join("theirs"), Some(1000), Some(1000)).expect("chown");
    let as_user = |arguments: &[&str]| {
        let mut command = Command::new("busybox");
        command.args(arguments).current_dir(&shared.remote).uid(1000).gid(1000);
        command.output().expect("busybox").status.success()
    };
    assert!(as_user(&["cat", "theirs"]));
    assert!(!as_user(&["cat", "ours"]));
    assert!(!as_user(&["touch", "new"]));
    assert!(!as_user(&["rm", "-f", "ours"]));
    fs::set_permissions(&shared.local, Permissions::from_mode(0o1777)).expect("chmod");
    assert!(as_user(&["touch", "new"]));
    assert!(!as_user(&["rm", "-f", "ours"]), "in a sticky directory");
    let stat = shared.local.join("new").metadata().expect("made");
    assert_eq!((stat.uid(), stat.gid()), (1000, 1000));
}

fn a_removed_file_goes_when_it_is_closed(_: &Server, shared: &Shared) {
    let bytes = noise(3, 200_000);
    let file = create(&shared.remote.join("f"));
    file.write_all_at(&bytes, 0).expect("write");
    file.sync_all().expect("fsync");
    fs::remove_file(shared.remote.join("f")).expect("unlink");
    assert!(!shared.remote.join("f").exists());
    drop_caches();
    let mut found = vec![0; bytes.len()];
    file.read_exact_at(&mut found, 0).expect("read");
    assert_same(&found, &bytes, "a removed file");
    drop(file);
    // The client has closed it for good a moment later.
    for _ in 0..100 {
        if fs::read_dir(&shared.local).expect("list").count() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it is still there");
}

const MANY: usize = 2000;

/// Many names, some of them long.
fn many(dir: &Path) -> BTreeSet<String> {
    let tail = "long".repeat(50);
    let names = (0..MANY).map(|number| {
        let tail = if number % 10 == 0 { &*tail } else { "" };
        format!("entry{number}{tail}")
    });
    names.inspect(|name| drop(create(&dir.join(name)))).collect()
}

/// The names that a client lists from a position on, without the directory itself and its parent;
/// a client that knows nothing yet asks with the positions it is given.
fn listed(directory: &File, position: i64, most: usize) -> Vec<(String, i64)> {
    drop_caches();
    list(directory, position, most)
        .into_iter()
        .filter(|(name, _)| name != "." && name != "..")
        .collect()
}

fn only_names(entries: &[(String, i64)]) -> BTreeSet<String> {
    let names: BTreeSet<String> = entries.iter().map(|entry| entry.0.clone()).collect();
    assert_eq!(names.len(), entries.len(), "a name is listed twice");
    names
}

fn many_names_are_listed_once_each(_: &Server, shared: &Shared) {
    let names = many(&shared.local);
    let directory = File::open(&shared.remote).expect("open");
    let whole = listed(&directory, 0, usize::MAX);
    assert!(only_names(&whole) == names, "{} names of {}", whole.len(), names.len());
    // From any position it goes on behind that.
    for at in [0, 1, 500, MANY / 2, MANY - 2, MANY - 1] {
        let rest = listed(&directory, whole[at].1, usize::MAX);
        let (rest, wanted): (Vec<_>, Vec<_>) = (
            rest.iter().map(|entry| &entry.0).collect(),
            whole[at + 1..].iter().map(|entry| &entry.0).collect(),
        );
        assert!(rest == wanted, "{} names of {} behind {at}", rest.len(), wanted.len());
    }
    // What comes with the names is of the right file.
    drop_caches();
    let inodes = |dir: &Path| -> BTreeSet<_> {
        let entries = fs::read_dir(dir).expect("list").map(|entry| entry.expect("entry"));
        entries.map(|entry| (entry.file_name(), entry.ino())).collect()
    };
    assert!(inodes(&shared.remote) == inodes(&shared.local));
    for name in names.iter().step_by(50) {
        let inode = |dir: &Path| dir.join(name).metadata().expect("stat").ino();
        assert_eq!(inode(&shared.remote), inode(&shared.local), "{name}");
    }
}

fn listing_goes_on_after_removals(_: &Server, shared: &Shared) {
    let mut names = many(&shared.local);
    let directory = File::open(&shared.remote).expect("open");
    let first = listed(&directory, 0, MANY / 2);
    let last = first.last().expect("some").clone();
    let seen = only_names(&first);
    // The client, or the server, removes some that it has seen, the last too, and some to come.
    let removed: BTreeSet<String> = names
        .iter()
        .enumerate()
        .filter(|(number, name)| number % 3 == 0 || **name == last.0)
        .map(|(_, name)| name.clone())
        .collect();
    for (number, name) in removed.iter().enumerate() {
        let dir = if number % 16 == 0 { &shared.remote } else { &shared.local };
        fs::remove_file(dir.join(name)).expect("unlink");
    }
    for number in 0..200 {
        create(&shared.local.join(format!("new{number}")));
    }
    let rest = listed(&directory, last.1, usize::MAX);
    let rest: Vec<_> = rest.into_iter().filter(|(name, _)| !name.starts_with("new")).collect();
    let rest = only_names(&rest);
    names.retain(|name| !removed.contains(name));
    assert!(seen.is_disjoint(&rest), "a name is listed again");
    assert!(rest.is_disjoint(&removed), "a removed name is listed");
    let all: BTreeSet<String> = seen.union(&rest).cloned().collect();
    assert!(names.is_subset(&all), "{} names are not listed", names.difference(&all).count());
    fs::remove_dir_all(&shared.local).expect("all of it removed");
    assert!(!shared.remote.exists());
}

/// Of a file that keeps its length, and of a directory that keeps how many names it has. Times are
/// taken from a clock that stands still for some milliseconds, and NFSv3 has nothing else to tell.
fn each_change_is_seen(_: &Server, shared: &Shared) {
    let (local, remote) = (shared.local.join("f"), shared.remote.join("f"));
    let file = create(&local);
    for number in 0..30 {
        std::thread::sleep(Duration::from_millis(20));
        let text = format!("{number:08}");
        file.write_all_at(text.as_bytes(), 0).expect("write");
        assert_eq!(content(&remote), text.as_bytes());
        fs::rename(shared.local.join(format!("{number}")), shared.local.join("x")).ok();
        let next = shared.local.join(format!("{}", number + 1));
        fs::write(&next, b"").expect("create");
        assert!(shared.remote.join(format!("{}", number + 1)).exists());
        assert!(!shared.remote.join(format!("{number}")).exists());
    }
}

/// The file system counts changes for it, whatever the clock says.
fn changes_at_once_are_seen(_: &Server, shared: &Shared) {
    let (local, remote) = (shared.local.join("f"), shared.remote.join("f"));
    let file = create(&local);
    for number in 0..60 {
        for part in ["first", "other"] {
            let text = format!("{number:08} {part}");
            file.write_all_at(text.as_bytes(), 0).expect("write");
            assert_eq!(content(&remote), text.as_bytes());
        }
    }
}

fn access_control_lists(_: &Server, shared: &Shared) {
    const NOBODY: u32 = u32::MAX;
    let lists = [5, 6].map(|rights| {
        acl(&[(1, 6, NOBODY), (2, rights, 1000), (4, 4, NOBODY), (16, 7, NOBODY), (32, 0, NOBODY)])
    });
    let get = |path: &Path, name: &str| {
        let mut buffer = vec![0u8; 256];
        let length = rustix::fs::getxattr(path, name, &mut buffer).expect("a list");
        buffer.truncate(length);
        buffer
    };
    let set = |path: &Path, name: &str, list: &[u8]| {
        rustix::fs::setxattr(path, name, list, XattrFlags::empty()).expect("setxattr");
    };
    let (access, default) = ("system.posix_acl_access", "system.posix_acl_default");
    create(&shared.local.join("f"));
    set(&shared.remote.join("f"), access, &lists[0]);
    set(&shared.remote, default, &lists[1]);
    assert_eq!(get(&shared.local.join("f"), access), lists[0]);
    assert_eq!(get(&shared.local, default), lists[1]);
    create(&shared.remote.join("heir"));
    let ours = get(&shared.local.join("heir"), access);
    assert_eq!(get(&shared.remote.join("heir"), access), ours);
    assert!(ours.windows(4).any(|word| word == 1000u32.to_le_bytes()), "not inherited");
    std::thread::sleep(Duration::from_millis(20));
    set(&shared.local.join("f"), access, &lists[1]);
    assert_eq!(get(&shared.remote.join("f"), access), lists[1]);
}

fn attributes_with_names(_: &Server, shared: &Shared) {
    let (local, remote) = (shared.local.join("f"), shared.remote.join("f"));
    create(&remote);
    let large = noise(4, 30_000);
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("setxattr");
    };
    let get = |path: &Path, name: &str| {
        let mut buffer = vec![0u8; 65536];
        let length = rustix::fs::getxattr(path, name, &mut buffer)?;
        buffer.truncate(length);
        Ok::<_, rustix::io::Errno>(buffer)
    };
    set(&remote, "user.small", b"s");
    set(&remote, "user.large", &large);
    assert_eq!(get(&local, "user.small").expect("there"), b"s");
    assert_same(&get(&local, "user.large").expect("there"), &large, "user.large");
    std::thread::sleep(Duration::from_millis(20));
    set(&local, "user.small", b"of the server");
    assert_eq!(get(&remote, "user.small").expect("there"), b"of the server");
    rustix::fs::removexattr(&remote, "user.large").expect("remove");
    assert_eq!(errno(get(&local, "user.large")), libc::ENODATA);
    assert_eq!(errno(get(&remote, "user.large")), libc::ENODATA);
    let mut buffer = vec![0u8; 1000];
    let length = rustix::fs::listxattr(&remote, &mut buffer).expect("list");
    let names: Vec<&[u8]> = buffer[..length].split(|byte| *byte == 0).collect();
    assert!(names.contains(&&b"user.small"[..]) && !names.contains(&&b"user.large"[..]));
}

fn holes_and_clones(_: &Server, shared: &Shared) {
    const MIB: u64 = 1 << 20;
    let bytes = noise(5, 4 << 20);
    let remote = create(&shared.remote.join("f"));
    remote.write_all_at(&bytes, 0).expect("write");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&remote, punch, MIB, MIB).expect("a hole");
    rustix::fs::fallocate(&remote, FallocateFlags::empty(), 8 * MIB, MIB).expect("room");
    let mut wanted = bytes.clone();
    wanted[MIB as usize..2 * MIB as usize].fill(0);
    wanted.resize(9 << 20, 0);
    assert_same(&content(&shared.local.join("f")), &wanted, "with a hole");
    drop_caches();
    assert_same(&content(&shared.remote.join("f")), &wanted, "with a hole, to the client");
    let local = File::open(shared.local.join("f")).expect("open");
    for at in [0, MIB + 5, 3 * MIB, 5 * MIB] {
        let places = |file: &File| {
            [SeekFrom::Hole(at), SeekFrom::Data(at)].map(|from| rustix::fs::seek(file, from))
        };
        assert_eq!(places(&remote), places(&local), "at {at}");
    }
    assert_eq!(rustix::fs::seek(&remote, SeekFrom::Hole(0)), Ok(MIB));
    // The server clones and copies without the bytes going to the client.
    let clone = create(&shared.remote.join("clone"));
    rustix::fs::ioctl_ficlone(&clone, &remote).expect("clone");
    drop(clone);
    assert_same(&content(&shared.local.join("clone")), &wanted, "clone");
    let copy = create(&shared.remote.join("copy"));
    let (mut from, mut to) = (100, 50);
    while from < MIB {
        let rest = (MIB - from) as usize;
        let count =
            rustix::fs::copy_file_range(&remote, Some(&mut from), &copy, Some(&mut to), rest);
        assert!(count.expect("copied") > 0);
    }
    drop(copy);
    let mut part = vec![0; 50];
    part.extend(&bytes[100..MIB as usize]);
    assert_same(&content(&shared.local.join("copy")), &part, "copy");
    // Around the client's cache.
    let direct = rustix::fs::open(
        shared.remote.join("clone"),
        OFlags::RDONLY | OFlags::DIRECT,
        Mode::empty(),
    );
    let mut buffer = vec![0; 10_000];
    rustix::io::pread(direct.expect("open"), &mut buffer, 3 * MIB).expect("read");
    assert_same(&buffer, &wanted[3 << 20..][..10_000], "read around the cache");
}

fn locks_are_the_servers(_: &Server, shared: &Shared) {
    let remote = create(&shared.remote.join("f"));
    let local = create(&shared.local.join("f"));
    let lock = |file: &File, command: i32, kind: i32| {
        // SAFETY: a lock is integers.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_start, lock.l_len) = (kind as i16, 10, 10);
        // SAFETY: the lock lives through the call.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        (result, i32::from(lock.l_type))
    };
    assert_eq!(lock(&remote, libc::F_OFD_SETLK, libc::F_WRLCK).0, 0);
    assert_eq!(lock(&local, libc::F_OFD_GETLK, libc::F_WRLCK), (0, libc::F_WRLCK));
    assert_eq!(lock(&local, libc::F_OFD_SETLK, libc::F_RDLCK).0, -1);
    assert_eq!(lock(&remote, libc::F_OFD_SETLK, libc::F_UNLCK).0, 0);
    assert_eq!(lock(&local, libc::F_OFD_SETLK, libc::F_WRLCK).0, 0);
    assert_eq!(lock(&remote, libc::F_OFD_SETLK, libc::F_RDLCK).0, -1);
}
