// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Mounting: options, again with others, freezing, shutting down, what is not a VexFS.

use crate::MountTest;
use crate::attributes::NOBODY;
use crate::commands;
use crate::support::{
    Mounted, Window, acl, assert_same, content, create, drop_caches, is_logged, noise, place_of,
    run,
};
use rustix::fs::{CWD, FallocateFlags, FileType, IFlags, Mode, OFlags, XattrFlags};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::Duration;
use vexfs_uapi::{ELEMENT_U8, METRIC_L2, Vector};
use zerocopy::FromZeros;

/// A buffer for reading around the cache.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

pub const TESTS: &[MountTest] = &[
    ("options_are_taken_shown_and_refused", options_are_taken_shown_and_refused),
    ("mounted_again_with_other_options", mounted_again_with_other_options),
    ("a_frozen_file_system_waits", a_frozen_file_system_waits),
    ("frozen_it_keeps_what_was_unlinked", frozen_it_keeps_what_was_unlinked),
    ("shut_down_it_fails_and_keeps_what_was_synced", shut_down),
    ("changes_of_sync_files_are_durable", changes_of_sync_files_are_durable),
    ("every_change_of_a_sync_file_is_durable", every_change_of_a_sync_file),
    ("damaged_bytes_are_their_readers_matter", damaged_bytes),
    ("a_damaged_tree_ends_all_writing", damaged_tree),
    ("with_damage_writing_goes_on_if_that_is_asked_for", writing_goes_on),
    ("changes_are_durable_after_the_seconds_of_commit", durable_after_seconds),
    ("damage_that_is_met_while_frozen_ends_all_writing", damaged_while_frozen),
    ("a_copy_is_mounted_beside_its_original", a_copy_is_mounted),
    ("without_access_control_lists_none_are_listed", no_lists_are_listed),
    ("other_devices_are_refused", other_devices_are_refused),
    ("the_tools_and_the_kernel_agree", the_tools_and_the_kernel_agree),
    ("labels_are_set_and_kept", labels_are_set_and_kept),
];

/// Tests after which no other can run.
pub const LAST_TESTS: &[MountTest] = &[("damage_panics_if_that_is_asked_for", damage_panics)];

fn shown(mounted: &Mounted) -> String {
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let directory = mounted.directory.to_str().expect("UTF-8");
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(directory));
    line.expect("mounted").split(' ').nth(3).expect("options").to_owned()
}

fn options_are_taken_shown_and_refused(mounted: &Mounted) {
    mounted.mount("errors=continue,noacl,commit=17,index_memory=64M,index=preload");
    let options = shown(mounted);
    for option in
        ["errors=continue", "noacl", "commit=17", "index_memory=67108864", "index=preload"]
    {
        assert!(options.split(',').any(|shown| shown == option), "{option} in {options}");
    }
    mounted.unmount();
    mounted.mount("norecovery");
    mounted.unmount();
    for wrong in [
        "errors=maybe",
        "commit=0",
        "commit=x",
        "index_memory=1",
        "index_memory=",
        "index_memory=M",
        "index_memory=64Mx",
        "index_memory=99999999999999999999",
        "index_memory=17592186044417M",
        "nonsense",
        "index=x",
    ] {
        let error = mounted.try_mount(wrong).expect_err(wrong);
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{wrong}");
    }
}

fn mounted_again_with_other_options(mounted: &Mounted) {
    mounted.mount("");
    let path = mounted.directory.join("f");
    fs::write(&path, b"before").expect("write");
    let open = File::options().append(true).open(&path).expect("open");
    assert!(mounted.remount(libc::MS_RDONLY, "").is_err(), "a file is open for writing");
    drop(open);
    mounted.remount(libc::MS_RDONLY, "").expect("read-only");
    assert!(fs::write(&path, b"refused").is_err());
    assert_eq!(fs::read(&path).expect("read"), b"before");
    mounted.remount(0, "commit=9").expect("writable again");
    assert!(shown(mounted).contains("commit=9"));
    fs::write(&path, b"after").expect("write");
    mounted.cycle();
    assert_eq!(fs::read(&path).expect("read"), b"after");
    mounted.unmount();
    mounted.remount(0, "").expect_err("it is not mounted");
}

const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;
const SHUTDOWN: libc::c_ulong = 0x8004_587d;

fn ioctl(file: &File, command: libc::c_ulong, argument: u32) -> i32 {
    let mut argument = argument;
    // SAFETY: these commands take a pointer to four bytes at most.
    unsafe { libc::ioctl(file.as_raw_fd(), command as _, &raw mut argument) }
}

fn a_frozen_file_system_waits(mounted: &Mounted) {
    mounted.mount("");
    let directory = File::open(&mounted.directory).expect("open");
    let path = mounted.directory.join("f");
    assert_eq!(ioctl(&directory, FIFREEZE, 0), 0, "{}", std::io::Error::last_os_error());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, b"thawed").expect("write")
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writer.is_finished(), "a write went through");
    assert_eq!(ioctl(&directory, FITHAW, 0), 0);
    writer.join().expect("the writer");
    assert_eq!(fs::read(&path).expect("read"), b"thawed");
    drop(directory);
    mounted.unmount();
}

/// What an unlinked file took is freed when it is closed, which is a change.
fn frozen_it_keeps_what_was_unlinked(mounted: &Mounted) {
    mounted.mount("");
    let directory = File::open(&mounted.directory).expect("open");
    let path = mounted.directory.join("f");
    let file = create(&path);
    fs::remove_file(&path).expect("unlink");
    assert_eq!(ioctl(&directory, FIFREEZE, 0), 0, "{}", std::io::Error::last_os_error());
    let closer = std::thread::spawn(move || drop(file));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!closer.is_finished(), "it was freed");
    assert_eq!(ioctl(&directory, FITHAW, 0), 0);
    closer.join().expect("who closes it");
    drop(directory);
    mounted.unmount();
}

fn shut_down(mounted: &Mounted) {
    for how in 0..3 {
        mounted.format();
        mounted.mount("");
        let directory = File::open(&mounted.directory).expect("open");
        let bytes = noise(how, 100_000);
        let mut file = File::create(mounted.directory.join("synced")).expect("create");
        file.write_all(&bytes).expect("write");
        file.sync_all().expect("fsync");
        fs::write(mounted.directory.join("unsynced"), b"x").expect("write");
        assert_eq!(ioctl(&directory, SHUTDOWN, how as u32), 0);
        assert!(fs::write(mounted.directory.join("late"), b"x").is_err());
        assert!(file.write_all(b"x").is_err() && file.sync_all().is_err());
        drop((file, directory));
        mounted.cycle();
        assert_same(&content(&mounted.directory.join("synced")), &bytes, "synced");
        assert!(!mounted.directory.join("late").exists());
        assert_eq!(mounted.directory.join("unsynced").exists(), how != 2, "way {how}");
        mounted.unmount();
        mounted.check();
    }
}

fn changes_of_sync_files_are_durable(mounted: &Mounted) {
    const NOT_EVEN_COMMIT: u32 = 2;
    let bytes = noise(22, 100_000);
    let [source, target, lost] =
        ["source", "target", "lost"].map(|name| mounted.directory.join(name));
    let clone = |file: &File| {
        rustix::fs::ioctl_ficlone(file, File::open(&source).expect("open")).expect("clone");
    };
    let give = |file: &File| {
        let length = bytes.len() as u64;
        rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length).expect("fallocate");
    };
    // By how the file is opened, and by its flag.
    for (flagged, cloned) in [(false, false), (false, true), (true, false), (true, true)] {
        mounted.format();
        mounted.mount("commit=3600");
        fs::write(&source, &bytes).expect("write");
        let sync = if flagged { 0 } else { libc::O_SYNC };
        let mut options = File::options();
        let file = options.write(true).create(true).custom_flags(sync).open(&target).expect("open");
        if flagged {
            rustix::fs::ioctl_setflags(&file, IFlags::SYNC).expect("FS_IOC_SETFLAGS");
        }
        rustix::fs::sync();
        if cloned {
            clone(&file)
        } else {
            give(&file)
        }
        fs::write(&lost, b"x").expect("write");
        let directory = File::open(&mounted.directory).expect("open");
        assert_eq!(ioctl(&directory, SHUTDOWN, NOT_EVEN_COMMIT), 0);
        drop((file, directory));
        mounted.cycle();
        assert!(!lost.exists());
        let wanted = if cloned { bytes.clone() } else { vec![0; bytes.len()] };
        assert_same(&content(&target), &wanted, &format!("flagged {flagged}, cloned {cloned}"));
        mounted.unmount();
    }
}

fn every_change_of_a_sync_file(mounted: &Mounted) {
    let path = mounted.directory.join("f");
    type Change = (&'static str, fn(&File));
    let changes: [Change; 4] = [
        ("its size", |file| file.set_len(1000).expect("ftruncate")),
        ("its mode", |file| {
            rustix::fs::fchmod(file, Mode::from(0o604)).expect("fchmod");
        }),
        ("its attributes", |file| {
            rustix::fs::fsetxattr(file, "user.a", b"x", XattrFlags::empty()).expect("fsetxattr");
        }),
        ("its flags", |file| {
            rustix::fs::ioctl_setflags(file, IFlags::SYNC | IFlags::NODUMP).expect("set flags");
        }),
    ];
    let state = |file: &File| {
        let stat = rustix::fs::fstat(file).expect("fstat");
        let attribute = rustix::fs::fgetxattr(file, "user.a", &mut [0u8; 9]).is_ok();
        (stat.st_size, stat.st_mode, attribute, rustix::fs::ioctl_getflags(file).expect("flags"))
    };
    for (what, change) in changes {
        mounted.format();
        mounted.mount("commit=3600");
        let file = create(&path);
        rustix::fs::ioctl_setflags(&file, IFlags::SYNC).expect("FS_IOC_SETFLAGS");
        rustix::fs::sync();
        let before = state(&file);
        change(&file);
        let after = state(&file);
        assert_ne!(before, after);
        assert_eq!(ioctl(&file, SHUTDOWN, 2), 0);
        drop(file);
        mounted.cycle();
        assert_eq!(state(&File::open(&path).expect("open")), after, "{what}");
        mounted.unmount();
    }
}

/// A file system with damage: the nodes of the tree that have the names in the directory `damaged`.
struct Damage {
    device: File,
    /// What was there before, by place.
    sound: Vec<(u64, Vec<u8>)>,
}

impl Damage {
    /// Makes files, the one named `behind/witness` among them, and does the damage.
    fn new(mounted: &Mounted) -> Self {
        mounted.mount("commit=3600");
        // Their names fill nodes of the tree, those in the middle nodes of their own.
        for (directory, name) in [("before", "whole"), ("damaged", "victim"), ("behind", "whole")] {
            let directory = mounted.directory.join(directory);
            fs::create_dir(&directory).expect("mkdir");
            for number in 0..400 {
                create(&directory.join(format!("{name}{number}{}", "-".repeat(200))));
            }
        }
        fs::write(mounted.directory.join("behind/witness"), b"written").expect("write");
        rustix::fs::sync();
        mounted.unmount();
        let device = File::options().read(true).write(true).open(&mounted.device).expect("open");
        let mut bytes = vec![0; 32 << 20];
        device.read_exact_at(&mut bytes, 0).expect("read");
        let has_names = |block: &[u8]| block.windows(7).any(|bytes| bytes == b"victim1");
        let blocks = bytes.chunks(4096).enumerate().filter(|(_, block)| has_names(block));
        let sound: Vec<_> =
            blocks.map(|(number, block)| (number as u64 * 4096, block.to_vec())).collect();
        assert!(sound.len() > 3, "{} nodes", sound.len());
        for (place, _) in &sound {
            device.write_all_at(&[0x55; 4096], *place).expect("write");
        }
        device.sync_all().expect("fsync");
        Self { device, sound }
    }

    /// Somebody lists the directory.
    fn list(mounted: &Mounted) {
        let listed = fs::read_dir(mounted.directory.join("damaged"));
        assert!(listed.is_err() || listed.is_ok_and(|mut all| all.any(|entry| entry.is_err())));
    }

    /// Somebody meets it, and writing ends.
    fn meet(mounted: &Mounted) {
        Self::list(mounted);
        let ended = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            shown(mounted).split(',').any(|option| option == "emergency_ro")
        });
        assert!(ended, "{}", shown(mounted));
        // A moment for what is done once writing was ended.
        std::thread::sleep(Duration::from_millis(500));
    }

    fn heal(self) {
        for (place, bytes) in &self.sound {
            self.device.write_all_at(bytes, *place).expect("write");
        }
        self.device.sync_all().expect("fsync");
    }
}

fn writing_goes_on(mounted: &Mounted) {
    let damage = Damage::new(mounted);
    mounted.mount("errors=continue,commit=3600");
    for round in 0..3 {
        Damage::list(mounted);
        // What would stop all writing does so a moment later.
        std::thread::sleep(Duration::from_millis(200));
        let path = mounted.directory.join(format!("behind/more{round}"));
        let mut file = create(&path);
        file.write_all(b"more").and_then(|()| file.sync_all()).expect("writing goes on");
    }
    assert!(!shown(mounted).contains("emergency_ro"));
    mounted.unmount();
    damage.heal();
    mounted.mount("");
    for name in ["more0", "more2"] {
        assert_eq!(fs::read(mounted.directory.join("behind").join(name)).expect("read"), b"more");
    }
    mounted.unmount();
}

fn durable_after_seconds(mounted: &Mounted) {
    for (options, there) in [("commit=1", true), ("commit=3600", false)] {
        mounted.format();
        mounted.mount(options);
        let top = File::open(&mounted.directory).expect("open");
        rustix::fs::sync();
        fs::create_dir(mounted.directory.join("made")).expect("mkdir");
        std::thread::sleep(Duration::from_millis(3500));
        // What was not committed is lost.
        assert_eq!(ioctl(&top, SHUTDOWN, 2), 0);
        drop(top);
        mounted.cycle();
        assert_eq!(mounted.directory.join("made").exists(), there, "{options}");
        mounted.unmount();
    }
}

/// Ends the guest.
fn damage_panics(mounted: &Mounted) {
    let _damage = Damage::new(mounted);
    mounted.mount("errors=panic");
    Damage::list(mounted);
    std::thread::sleep(Duration::from_secs(10));
    panic!("the kernel goes on");
}

fn refused<T: std::fmt::Debug>(result: std::io::Result<T>, what: &str) {
    assert_eq!(result.expect_err(what).raw_os_error(), Some(libc::EROFS), "{what}");
}

/// Nothing is changed any more, by who has a file open either; and what was done before is kept.
fn damaged_tree(mounted: &Mounted) {
    let damage = Damage::new(mounted);
    let witness = mounted.directory.join("behind/witness");
    mounted.mount("commit=3600");
    let open = File::options().read(true).write(true).open(&witness).expect("open");
    let window = Window::new(&open, 4096);
    let top = File::open(&mounted.directory).expect("open");
    let collection = commands::create_collection(&top, "c", (ELEMENT_U8, METRIC_L2, 4));
    fs::create_dir(mounted.directory.join("made")).expect("mkdir");
    Damage::meet(mounted);
    refused(open.write_all_at(b"refused", 0), "write");
    refused(open.set_len(1), "ftruncate");
    refused(open.sync_all(), "fsync");
    assert!(!window.store(0, b'x'), "stored");
    // Everybody is told that changes may be lost, who opens it now too.
    for file in [&witness, &mounted.directory, &witness, &mounted.directory] {
        let synced = rustix::fs::syncfs(File::open(file).expect("open"));
        assert_eq!(synced, Err(rustix::io::Errno::IO), "{}", file.display());
    }
    refused_too(mounted, &open, collection);
    assert_eq!(fs::read(&witness).expect("read"), b"written");
    // For who mounts it so, too.
    drop((open, window));
    mounted.remount(libc::MS_RDONLY, "").expect("read-only");
    refused(fs::create_dir(mounted.directory.join("late")), "mkdir");
    drop(top);
    // And whoever has it writable again has it so.
    mounted.remount(0, "").expect("writable");
    assert!(!shown(mounted).contains("emergency_ro"));
    fs::create_dir(mounted.directory.join("again")).expect("mkdir");
    mounted.unmount();
    damage.heal();
    mounted.mount("");
    assert!(mounted.directory.join("made").exists(), "what was done before is lost");
    assert!(!mounted.directory.join("late").exists());
    assert!(mounted.directory.join("again").exists(), "what was done after is lost");
    assert_eq!(fs::read(&witness).expect("read"), b"written");
    mounted.unmount();
}

/// Whatever else would change something.
fn refused_too(mounted: &Mounted, open: &File, collection: u32) {
    let [made, late, witness] =
        ["made", "late", "behind/witness"].map(|name| mounted.directory.join(name));
    let top = File::open(&mounted.directory).expect("open");
    let none = XattrFlags::empty();
    refused(fs::create_dir(&late), "mkdir");
    refused(File::create(&late), "creat");
    refused(File::options().write(true).open(&witness), "open for writing");
    refused(std::os::unix::fs::symlink("x", &late), "symlink");
    refused(fs::hard_link(&witness, &late), "link");
    refused(fs::rename(&witness, &late), "rename");
    refused(fs::remove_file(&witness), "unlink");
    refused(fs::remove_dir(&made), "rmdir");
    refused(open.set_permissions(fs::Permissions::from_mode(0o600)), "fchmod");
    refused(open.set_modified(std::time::SystemTime::now()), "futimens");
    let label = [b'x'; 256];
    // For the owner, a user, the group, the mask, others.
    let list =
        acl(&[(1, 7, NOBODY), (2, 5, 1000), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY)]);
    let fifo = (FileType::Fifo, Mode::RUSR);
    let unnamed = OFlags::TMPFILE | OFlags::WRONLY;
    let results = [
        ("mknod", rustix::fs::mknodat(CWD, &late, fifo.0, fifo.1, 0)),
        ("O_TMPFILE", rustix::fs::open(&mounted.directory, unnamed, fifo.1).map(drop)),
        ("fsetxattr", rustix::fs::fsetxattr(open, "user.a", b"x", none)),
        (
            "setxattr of a list",
            rustix::fs::setxattr(&witness, "system.posix_acl_access", &list, none),
        ),
        ("removexattr of a list", rustix::fs::removexattr(&witness, "system.posix_acl_access")),
        ("FS_IOC_SETFLAGS", rustix::fs::ioctl_setflags(open, IFlags::NODUMP)),
        ("fallocate", rustix::fs::fallocate(open, FallocateFlags::empty(), 0, 100_000)),
        ("FICLONE", rustix::fs::ioctl_ficlone(open, File::open(&witness).expect("open"))),
    ];
    for (what, result) in results {
        assert_eq!(result, Err(rustix::io::Errno::ROFS), "{what}");
    }
    // SAFETY: the command takes a pointer to 256 bytes.
    let result = unsafe { libc::ioctl(top.as_raw_fd(), SET_LABEL as _, label.as_ptr()) };
    let error = std::io::Error::last_os_error().raw_os_error();
    assert!(result == -1 && error != Some(libc::ENOTTY), "a label: {error:?}");
    let vectors = [Vector::new_zeroed()];
    let put = commands::put(open, collection, &vectors, &[1, 2, 3, 4]);
    assert_eq!(put.err(), Some(rustix::io::Errno::ROFS), "put");
}

/// Who waits to write is refused once it thaws, and it can be unmounted.
fn damaged_while_frozen(mounted: &Mounted) {
    let damage = Damage::new(mounted);
    let witness = mounted.directory.join("behind/witness");
    mounted.mount("commit=3600");
    let open = File::options().write(true).open(&witness).expect("open");
    fs::create_dir(mounted.directory.join("made")).expect("mkdir");
    let directory = File::open(&mounted.directory).expect("open");
    assert_eq!(ioctl(&directory, FIFREEZE, 0), 0, "{}", std::io::Error::last_os_error());
    Damage::meet(mounted);
    let late = mounted.directory.join("late");
    let writers = [
        std::thread::spawn(move || open.write_all_at(b"refused", 0)),
        std::thread::spawn(move || fs::create_dir(late)),
    ];
    std::thread::sleep(Duration::from_millis(300));
    assert!(!writers.iter().any(|writer| writer.is_finished()), "it is frozen");
    assert_eq!(ioctl(&directory, FITHAW, 0), 0);
    let ended = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        writers.iter().all(|writer| writer.is_finished())
    });
    assert!(ended, "they wait for ever");
    for writer in writers {
        refused(writer.join().expect("a writer"), "of who waited");
    }
    drop(directory);
    mounted.unmount();
    damage.heal();
    mounted.mount("");
    assert!(mounted.directory.join("made").exists(), "what was done before is lost");
    assert_eq!(fs::read(&witness).expect("read"), b"written");
    mounted.unmount();
}

/// They have one UUID, which both go by in sysfs.
fn a_copy_is_mounted(mounted: &Mounted) {
    let device = mounted.device.to_str().expect("UTF-8");
    run("mkfs.vexfs", &["-q", "-f", device, "6M"]);
    run("dd", &[&format!("if={device}"), "of=/tmp/copy", "bs=1M", "count=6"]);
    let count = || fs::read_dir("/sys/fs/vexfs").expect("sysfs").count() - 1;
    mounted.mount("");
    let second = mounted.directory.with_extension("copy");
    fs::create_dir_all(&second).expect("mkdir");
    let second = second.to_str().expect("UTF-8");
    let _ = std::process::Command::new("modprobe").arg("loop").status();
    for _ in 0..2 {
        run("mount", &["-t", "vexfs", "-o", "loop", "/tmp/copy", second]);
        assert_eq!(count(), 2);
        fs::write(format!("{second}/f"), b"x").expect("write");
        run("umount", &["-d", second]);
        assert_eq!(count(), 1);
    }
    assert!(!mounted.directory.join("f").exists());
    mounted.unmount();
    assert_eq!(count(), 0);
    fs::remove_file("/tmp/copy").expect("remove");
    mounted.format();
}

fn no_lists_are_listed(mounted: &Mounted) {
    // For the owner, a user, the group, the mask, others.
    let list = [(1, 7, NOBODY), (2, 5, 1000), (4, 5, NOBODY), (16, 5, NOBODY), (32, 0, NOBODY)];
    let bytes = acl(&list);
    let path = mounted.directory.join("f");
    for (options, wanted) in [("", true), ("noacl", false)] {
        mounted.mount(options);
        create(&path);
        if wanted {
            let none = XattrFlags::empty();
            rustix::fs::setxattr(&path, "system.posix_acl_access", &bytes, none).expect("list");
        }
        let mut names = [0u8; 256];
        let length = rustix::fs::listxattr(&path, &mut names).expect("listxattr");
        assert_eq!(length > 0, wanted, "{options}");
        mounted.unmount();
    }
}

fn damaged_bytes(mounted: &Mounted) {
    let bytes = noise(15, 100_000);
    let damaged = ["first", "second"].map(|name| mounted.directory.join(name));
    mounted.mount("");
    for path in &damaged {
        fs::write(path, &bytes).expect("write");
    }
    rustix::fs::sync();
    let places = damaged.each_ref().map(|path| place_of(&File::open(path).expect("open")));
    mounted.unmount();
    let device = File::options().write(true).open(&mounted.device).expect("open");
    for place in places {
        device.write_all_at(&[0x55; 4096], place).expect("damage");
    }
    device.sync_all().expect("fsync");
    mounted.mount("errors=remount-ro");
    drop_caches();
    assert!(fs::read(&damaged[0]).is_err(), "a damaged block was read");
    let number = fs::metadata(&damaged[0]).expect("stat").ino();
    let told = format!("data of inode {number}: damaged (-74)");
    let own = fs::canonicalize(&mounted.device).expect("a device");
    let own = own.file_name().expect("a name").to_string_lossy();
    assert!(is_logged(&[&format!("VexFS ({own}): "), &told, "run fsck.vexfs"]));
    let file = rustix::fs::open(&damaged[1], OFlags::RDONLY | OFlags::DIRECT, Mode::empty());
    let mut buffer = Aligned([0; 4096]);
    rustix::io::read(file.expect("open"), &mut buffer.0).expect_err("a damaged block was read");
    // What would stop all writing does so a moment later.
    std::thread::sleep(Duration::from_millis(200));
    let mut file = create(&mounted.directory.join("another"));
    file.write_all(&bytes).and_then(|()| file.sync_all()).expect("others go on");
    let mut healed = create(&damaged[0]);
    healed.write_all(&bytes).and_then(|()| healed.sync_all()).expect("written anew");
    drop_caches();
    assert_same(&content(&damaged[0]), &bytes, "written anew");
    fs::remove_file(&damaged[1]).expect("remove");
    drop((file, healed));
    mounted.unmount();
}

fn other_devices_are_refused(mounted: &Mounted) {
    let device = File::options().write(true).open(&mounted.device).expect("open");
    let wipe = |places: [u64; 2]| {
        for place in places {
            device.write_all_at(&[0; 4096], place).expect("wipe");
        }
        device.sync_all().expect("fsync");
    };
    // The superblocks at the front; the copies at the end are still there, and serve.
    wipe([64 << 10, 128 << 10]);
    mounted.mount("ro");
    mounted.unmount();
    let end = rustix::fs::seek(&device, rustix::fs::SeekFrom::End(0)).expect("seek") & !0xffff;
    wipe([end - (64 << 10), end - (128 << 10)]);
    let error = mounted.try_mount("").expect_err("nothing is left");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    assert!(is_logged(&["vexfs: ", ": not mounted: no VexFS found"]));
    mounted.format();
}

fn the_tools_and_the_kernel_agree(mounted: &Mounted) {
    let device = mounted.device.to_str().expect("UTF-8");
    let bytes = noise(21, 500_000);
    fs::write("/tmp/by_the_tools", &bytes).expect("write");
    run("vexfs", &["mkdir", &format!("{device}:/dir")]);
    run("vexfs", &["cp", "/tmp/by_the_tools", &format!("{device}:/dir/a")]);
    mounted.mount("");
    assert_same(&content(&mounted.directory.join("dir/a")), &bytes, "made by the tools");
    fs::write(mounted.directory.join("dir/b"), &bytes[..1000]).expect("write");
    fs::rename(mounted.directory.join("dir/a"), mounted.directory.join("c")).expect("rename");
    mounted.unmount();
    run("vexfs", &["cp", &format!("{device}:/c"), "/tmp/from_the_kernel"]);
    assert_same(&content("/tmp/from_the_kernel".as_ref()), &bytes, "made by the kernel");
    assert_eq!(run("vexfs", &["ls", &format!("{device}:/dir")]).trim(), "b");
}

pub const GET_LABEL: u32 = 0x8100_9431;
pub const SET_LABEL: u32 = 0x4100_9432;

fn labels_are_set_and_kept(mounted: &Mounted) {
    mounted.mount("");
    let mut label = [0u8; 256];
    label[..7].copy_from_slice(b"my disk");
    let call = |command: u32, label: &mut [u8; 256]| {
        let directory = File::open(&mounted.directory).expect("open");
        // SAFETY: these commands take a pointer to 256 bytes.
        unsafe { libc::ioctl(directory.as_raw_fd(), command as _, label.as_mut_ptr()) }
    };
    assert_eq!(call(SET_LABEL, &mut label), 0);
    let mut long = [b'x'; 256];
    long[200] = 0;
    assert_eq!(call(SET_LABEL, &mut long), -1);
    mounted.cycle();
    let mut told = [1u8; 256];
    assert_eq!(call(GET_LABEL, &mut told), 0);
    assert_eq!(told, label);
    mounted.unmount();
}
