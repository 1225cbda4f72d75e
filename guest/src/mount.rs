// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Mounting: options, again with others, freezing, shutting down, what is not a VexFS.

use crate::MountTest;
use crate::support::{Mounted, assert_same, content, create, drop_caches, noise, place_of, run};
use rustix::fs::{FallocateFlags, IFlags, Mode, OFlags};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

/// A buffer for reading around the cache.
#[repr(align(4096))]
struct Aligned([u8; 4096]);

pub const TESTS: &[MountTest] = &[
    ("options_are_taken_shown_and_refused", options_are_taken_shown_and_refused),
    ("mounted_again_with_other_options", mounted_again_with_other_options),
    ("a_frozen_file_system_waits", a_frozen_file_system_waits),
    ("shut_down_it_fails_and_keeps_what_was_synced", shut_down),
    ("changes_of_sync_files_are_durable", changes_of_sync_files_are_durable),
    ("damaged_bytes_are_their_readers_matter", damaged_bytes),
    ("other_devices_are_refused", other_devices_are_refused),
    ("the_tools_and_the_kernel_agree", the_tools_and_the_kernel_agree),
    ("labels_are_set_and_kept", labels_are_set_and_kept),
    ("sysfs_tells_of_it", sysfs_tells_of_it),
];

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
    for wrong in ["errors=maybe", "commit=0", "commit=x", "index_memory=1", "nonsense", "index=x"] {
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

const GET_LABEL: libc::c_ulong = 0x8100_9431;
const SET_LABEL: libc::c_ulong = 0x4100_9432;

fn labels_are_set_and_kept(mounted: &Mounted) {
    mounted.mount("");
    let mut label = [0u8; 256];
    label[..7].copy_from_slice(b"my disk");
    let call = |command: libc::c_ulong, label: &mut [u8; 256]| {
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

fn sysfs_tells_of_it(mounted: &Mounted) {
    mounted.mount("");
    let below = || {
        let mut all =
            fs::read_dir("/sys/fs/vexfs").expect("sysfs").map(|entry| entry.expect("entry"));
        all.find(|entry| entry.file_name() != "features").map(|entry| entry.path())
    };
    let own = below().expect("a directory of its own");
    let value = |name: &str| fs::read_to_string(own.join(name)).expect(name).trim().to_owned();
    let number = |name: &str| value(name).parse::<u64>().expect(name);
    let generation = number("generation");
    fs::write(mounted.directory.join("f"), b"x").expect("write");
    rustix::fs::sync();
    assert!(number("generation") > generation);
    assert!(number("blocks_free") <= number("blocks") && number("inodes") == 2);
    fs::write(own.join("index_paused"), "1").expect("pause");
    assert_eq!(value("index_state"), "paused");
    fs::write(own.join("index_paused"), "0").expect("go on");
    mounted.unmount();
    assert!(below().is_none());
}
