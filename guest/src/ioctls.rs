// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Ioctls that many file systems have: attributes of files, trimming, identity.

use crate::MountTest;
use crate::support::{Mounted, assert_same, content, create, drop_caches, noise, where_slow};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

pub const TESTS: &[MountTest] = &[
    ("attributes_by_either_command_are_the_same", attributes_by_either_command),
    ("free_space_is_trimmed", free_space_is_trimmed),
    ("its_identity_is_told", its_identity_is_told),
];

pub const GET_ATTRIBUTES: u32 = 0x801c_581f;
pub const SET_ATTRIBUTES: u32 = 0x401c_5820;
/// The size in these two is that of a `long`, though it is an `int` that is told.
pub const GET_FLAGS: u32 = 0x8000_6601 | (size_of::<libc::c_long>() as u32) << 16;
pub const TRIM: u32 = 0xc018_5879;
pub const GET_VERSION: u32 = 0x8000_7601 | (size_of::<libc::c_long>() as u32) << 16;
pub const GET_UUID: u32 = 0x8011_1500;
const GET_SYSFS_PATH: u32 = 0x8081_1501;
pub const DEDUPE_RANGE: u32 = 0xc018_9436;

const IMMUTABLE: u32 = 0x8;
const APPEND: u32 = 0x10;
const SYNC: u32 = 0x20;
const NOATIME: u32 = 0x40;
const NODUMP: u32 = 0x80;
const PROJECT_INHERITED: u32 = 0x200;
const DIRSYNC_FLAG: u32 = 0x1_0000;

/// Gives a command; the errno if it fails.
fn ioctl<T>(file: &File, command: u32, argument: &mut T) -> Result<(), i32> {
    // SAFETY: each command here is given what it takes, which lives through the call.
    let result = unsafe {
        libc::ioctl(file.as_raw_fd(), command as _, std::ptr::from_mut(argument).cast::<u8>())
    };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error().raw_os_error().unwrap_or(0)) }
}

/// The flags of `struct fsxattr`.
fn attributes(file: &File) -> u32 {
    let mut told = [0u32; 7];
    ioctl(file, GET_ATTRIBUTES, &mut told).expect("FS_IOC_FSGETXATTR");
    told[0]
}

fn set_attributes(file: &File, flags: u32) -> Result<(), i32> {
    ioctl(file, SET_ATTRIBUTES, &mut [flags, 0, 0, 0, 0, 0, 0])
}

fn set_flags(file: &File, flags: u32) {
    let flags = rustix::fs::IFlags::from_bits_retain(flags);
    rustix::fs::ioctl_setflags(file, flags).expect("FS_IOC_SETFLAGS");
}

fn attributes_by_either_command(mounted: &Mounted) {
    mounted.mount("");
    let path = mounted.directory.join("f");
    fs::write(&path, b"first").expect("write");
    let file = File::open(&path).expect("open");
    assert_eq!(attributes(&file), 0);
    for flags in [IMMUTABLE, APPEND, SYNC, NOATIME, NODUMP, SYNC | NOATIME | NODUMP, 0] {
        set_attributes(&file, flags).expect("FS_IOC_FSSETXATTR");
        drop_caches();
        assert_eq!(attributes(&file), flags);
        let writable = OpenOptions::new().write(true).open(&path).is_ok();
        assert_eq!(writable, flags & (IMMUTABLE | APPEND) == 0, "{flags:#x}");
        let mut appended = OpenOptions::new().append(true).open(&path);
        assert_eq!(appended.is_ok(), flags & IMMUTABLE == 0, "{flags:#x}");
        if let Ok(file) = &mut appended {
            file.write_all(b"+").expect("append");
        }
    }
    assert_eq!(fs::read(&path).expect("read"), b"first++++++");
    set_flags(&file, rustix::fs::IFlags::NODUMP.bits());
    assert_eq!(attributes(&file), NODUMP);
    set_attributes(&file, NOATIME).expect("FS_IOC_FSSETXATTR");
    let told = rustix::fs::ioctl_getflags(&file).expect("FS_IOC_GETFLAGS");
    assert_eq!(told, rustix::fs::IFlags::NOATIME);
    // Neither projects nor hints of extents.
    assert_eq!(set_attributes(&file, PROJECT_INHERITED), Err(libc::EOPNOTSUPP));
    for (field, what) in [(1, "extsize"), (3, "projid"), (4, "cowextsize")] {
        let mut asked = [NOATIME, 0, 0, 0, 0, 0, 0];
        asked[field] = 4096;
        assert!(ioctl(&file, SET_ATTRIBUTES, &mut asked).is_err(), "{what}");
    }
    assert_eq!(attributes(&file), NOATIME);

    // What only the other command has is left as it is.
    let directory = mounted.directory.join("d");
    fs::create_dir(&directory).expect("mkdir");
    let directory = File::open(&directory).expect("open");
    set_flags(&directory, DIRSYNC_FLAG);
    set_attributes(&directory, NODUMP).expect("FS_IOC_FSSETXATTR");
    let mut told = 0u64;
    ioctl(&directory, GET_FLAGS, &mut told).expect("FS_IOC_GETFLAGS");
    let nodump = rustix::fs::IFlags::NODUMP.bits();
    assert_eq!(told as u32, DIRSYNC_FLAG | nodump);
    drop((file, directory));
    mounted.cycle();
    assert_eq!(attributes(&File::open(&path).expect("open")), NOATIME);
    mounted.unmount();
}

/// As `struct fstrim_range`. How many bytes were trimmed.
fn trim(top: &File, start: u64, length: u64, least: u64) -> Result<u64, i32> {
    let mut range = [start, length, least];
    ioctl(top, TRIM, &mut range)?;
    Ok(range[1])
}

pub fn can_discard(device: &Path) -> bool {
    let real = fs::canonicalize(device).expect("the device");
    let name = real.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    let limit = fs::read_to_string(format!("/sys/block/{name}/queue/discard_max_bytes"));
    limit.is_ok_and(|bytes| bytes.trim() != "0")
}

fn free_space_is_trimmed(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    if !can_discard(&mounted.device) {
        assert_eq!(trim(&top, 0, u64::MAX, 0), Err(libc::EOPNOTSUPP));
        println!("        skipped: this device cannot discard");
        drop(top);
        mounted.unmount();
        return;
    }
    let bytes = noise(1, 3_000_000);
    for name in ["kept", "gone", "kept too"] {
        create(&mounted.directory.join(name)).write_all(&bytes).expect("write");
    }
    rustix::fs::sync();
    fs::remove_file(mounted.directory.join("gone")).expect("remove");
    // What the state before still names is not trimmed yet.
    let first = trim(&top, 0, u64::MAX, 0).expect("FITRIM");
    for n in 0..3 {
        fs::write(mounted.directory.join("small"), [n]).expect("write");
        rustix::fs::sync();
    }
    let stat = rustix::fs::fstatvfs(&top).expect("statvfs");
    let free = stat.f_bfree * stat.f_frsize;
    let second = trim(&top, 0, u64::MAX, 0).expect("FITRIM");
    assert!(second > first && second <= free && second > free / 10 * 9, "{second} of {free}");
    let size = stat.f_blocks * stat.f_frsize;
    let half = trim(&top, size / 2, u64::MAX, 0).expect("FITRIM");
    assert!(half > 0 && half <= size - size / 2, "{half} of half of {size}");
    let long = trim(&top, 0, u64::MAX, 16 << 20).expect("FITRIM");
    assert!(long <= second);
    assert_eq!(trim(&top, 1 << 60, u64::MAX, 0), Err(libc::EINVAL));
    assert_eq!(trim(&top, 0, 512, 0), Err(libc::EINVAL));
    assert_eq!(trim(&top, 0, u64::MAX, 1 << 40), Err(libc::EINVAL));
    // While others write.
    let rounds = where_slow(10, 40);
    let writer = std::thread::spawn({
        let path = mounted.directory.join("busy");
        move || {
            for seed in 0..rounds {
                fs::write(&path, noise(seed, 500_000)).expect("write");
                File::open(&path).and_then(|file| file.sync_all()).expect("fsync");
            }
        }
    });
    while !writer.is_finished() {
        trim(&top, 0, u64::MAX, 0).expect("FITRIM");
        // A processor that has nothing but this to do would leave the writer little.
        sleep(Duration::from_millis(20));
    }
    writer.join().expect("the writer");
    drop_caches();
    assert_same(&content(&mounted.directory.join("busy")), &noise(rounds - 1, 500_000), "busy");
    for name in ["kept", "kept too"] {
        assert_same(&content(&mounted.directory.join(name)), &bytes, name);
    }
    mounted.remount(libc::MS_RDONLY, "").expect("read-only");
    assert_eq!(trim(&top, 0, u64::MAX, 0), Err(libc::EROFS));
    drop(top);
    mounted.cycle();
    assert_same(&content(&mounted.directory.join("kept")), &bytes, "mounted again");
    mounted.unmount();
}

fn its_identity_is_told(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let mut below = fs::read_dir("/sys/fs/vexfs")
        .expect("sysfs")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let own = below.find(|name| name != "features").expect("a directory of its own");
    let mut uuid = [0u8; 17];
    ioctl(&top, GET_UUID, &mut uuid).expect("FS_IOC_GETFSUUID");
    assert_eq!(uuid[0], 16);
    let hex: String = uuid[1..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, own.replace('-', ""));
    let mut path = [0u8; 129];
    match ioctl(&top, GET_SYSFS_PATH, &mut path) {
        Err(libc::ENOTTY) => {
            println!("        skipped in part: this kernel tells no path in sysfs")
        }
        result => {
            result.expect("FS_IOC_GETFSSYSFSPATH");
            let told = std::str::from_utf8(&path[1..][..path[0] as usize]).expect("UTF-8");
            assert_eq!(told.trim_end_matches('\0'), format!("vexfs/{own}"));
        }
    }
    // A number that is never used again for another file that has this one's.
    let (mut version, mut other) = (0u64, 0u64);
    let path = mounted.directory.join("f");
    ioctl(&create(&path), GET_VERSION, &mut version).expect("FS_IOC_GETVERSION");
    drop(top);
    mounted.cycle();
    ioctl(&create(&path), GET_VERSION, &mut other).expect("FS_IOC_GETVERSION");
    assert!(version != 0 && version == other);
    mounted.unmount();
}
