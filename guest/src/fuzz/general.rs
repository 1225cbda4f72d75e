// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Ioctls that file systems have in common, with anything in their arguments, on files that clone and
//! share each other's blocks. Freezing and shutting down are not among them, which would stop the others.

use super::arena::{Arena, Part, ROOM};
use super::{become_a_user, outcome};
use crate::commands::give_raw;
use crate::ioctls::{self, can_discard};
use crate::mount;
use crate::support::{FIEMAP, Mounted, create, drop_caches, is_user_mode, noise};
use libc::{
    EACCES, EBADF, EFAULT, EFBIG, EINTR, EINVAL, EISDIR, ENOMEM, ENOSPC, ENOTTY, EOPNOTSUPP,
    EOVERFLOW, EPERM, EXDEV,
};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use vexfs_simulation::SeededRandom;

const CLONE: u32 = 0x4004_9409;
const CLONE_RANGE: u32 = 0x4020_940d;

/// Enough for each ioctl to work and to fail.
const USUAL_ROUNDS: u64 = 100;
/// Files whose blocks are shared; the first is never written.
const FILES: usize = 5;
/// Files are cut to [`ROOM`] when they are longer, before comparing them takes long.
const LONG: u64 = 16 * ROOM as u64;
/// Extents that there is room for.
const EXTENTS: u64 = 40;
const EXTENT_BYTES: usize = 56;
/// Flags of files, of which the two commands for them have different bits.
const FLAGS: [u64; 8] = [0x8, 0x10, 0x20, 0x40, 0x80, 0x200, 0x4000, 0x1_0000];

/// The ioctls, by what this module calls them.
const NAMES: [&str; 13] = [
    "FITRIM",
    "FS_IOC_GETFSLABEL",
    "FS_IOC_SETFSLABEL",
    "FS_IOC_GETFLAGS",
    "FS_IOC_SETFLAGS",
    "FS_IOC_FSGETXATTR",
    "FS_IOC_FSSETXATTR",
    "FS_IOC_FIEMAP",
    "FICLONE",
    "FICLONERANGE",
    "FIDEDUPERANGE",
    "FS_IOC_GETFSUUID",
    "FS_IOC_GETVERSION",
];

enum Argument {
    Bytes(Vec<u8>),
    Number(u64),
}

/// An ioctl: its number, its argument, and what it may fail with on files and directories, besides
/// what all may.
struct Ioctl {
    number: u32,
    argument: Argument,
    errors: &'static [i32],
}

/// Errnos of all of them.
const COMMON: [i32; 4] = [EFAULT, EINVAL, ENOMEM, EINTR];
/// Of fifos, of devices and of what is opened as a path only.
const OTHER: [i32; 3] = [ENOTTY, EBADF, EOPNOTSUPP];
/// More than one file is involved.
const SHARING: &[i32] =
    &[EBADF, EXDEV, EISDIR, EPERM, EACCES, EOPNOTSUPP, EFBIG, EOVERFLOW, ENOSPC];
/// Too many flags asked of FIEMAP.
const EBADR: i32 = libc::EBADR;

/// A place or a length in a file: whole blocks mostly, and what is at the edge of anything.
fn edge(random: &mut SeededRandom) -> u64 {
    const END: u64 = 16 << 40;
    match random.below(16) {
        0..=4 => random.below(ROOM as u64 / 4096 + 2) * 4096,
        5..=7 => 0,
        8 => random.below(ROOM as u64),
        9 => ROOM as u64 + random.below(3) - 1,
        10 => END - random.below(3) * 4096,
        11 => 1 << 63 | random.below(2),
        12 => i64::MAX as u64 - random.below(2) * 4095,
        13 => 0u64.wrapping_sub(random.below(3) * 4096),
        14 => u64::MAX >> random.below(64),
        _ => random.number(),
    }
}

fn words(words: &[u64]) -> Argument {
    Argument::Bytes(words.iter().flat_map(|word| word.to_ne_bytes()).collect())
}

fn flags(random: &mut SeededRandom) -> u64 {
    let mut flags = (0..random.below(3)).fold(0, |all, _| all | random.pick(&FLAGS).expect("one"));
    if random.percent(15) {
        flags |= 1 << random.below(32);
    }
    flags
}

/// One of the files open here, mostly of those that others are clones of, or a number that is none.
fn descriptor(random: &mut SeededRandom, files: &[i32]) -> u64 {
    match random.below(20) {
        0 => u64::MAX,
        1 => 1 << random.below(64),
        2..=5 => *random.pick(files).expect("a file") as u64,
        _ => *random.pick(&files[..FILES - 1]).expect("a file") as u64,
    }
}

/// A place or a length in a file: nine of ten times of blocks that every one has.
fn block(random: &mut SeededRandom) -> u64 {
    if random.percent(90) { random.below(ROOM as u64 / 2 / 4096) * 4096 } else { edge(random) }
}

/// Ioctl `which`, which may name one of `files`.
fn any(which: usize, random: &mut SeededRandom, files: &[i32]) -> Ioctl {
    // The size is told as that of a `long`.
    let long = |number: u32| number | (size_of::<libc::c_long>() as u32) << 16;
    let (number, errors, argument): (u32, &[i32], Argument) = match which {
        0 => {
            let range = [edge(random), edge(random) | u64::MAX << random.below(64), edge(random)];
            (ioctls::TRIM, &[EPERM, EOPNOTSUPP], words(&range))
        }
        1 => (mount::GET_LABEL, &[], Argument::Bytes(vec![0; 256])),
        2 => {
            let mut label = match random.below(3) {
                0 => random.bytes(256),
                _ => vec![b'a' + random.below(26) as u8; random.below(257) as usize],
            };
            label.resize(256, 0);
            (mount::SET_LABEL, &[EPERM], Argument::Bytes(label))
        }
        3 => (ioctls::GET_FLAGS, &[], words(&[0])),
        4 => (long(0x4000_6602), &[EPERM, EOPNOTSUPP], words(&[flags(random)])),
        5 => (ioctls::GET_ATTRIBUTES, &[], words(&[0; 4])),
        6 => {
            let mut attributes = [flags(random), 0, 0, 0];
            if random.percent(20) {
                attributes[random.below(4) as usize] |= random.number() >> random.below(64);
            }
            (ioctls::SET_ATTRIBUTES, &[EPERM, EOPNOTSUPP], words(&attributes))
        }
        7 => {
            let flags = if random.percent(20) { 1 << random.below(32) } else { random.below(2) };
            let count = match random.below(10) {
                0 => random.number() & 0xffff_ffff,
                _ => random.below(EXTENTS),
            };
            let map = [edge(random), edge(random), flags, count];
            let Argument::Bytes(mut bytes) = words(&map) else { unreachable!("bytes") };
            bytes.resize(32 + EXTENTS as usize * EXTENT_BYTES, 0);
            (FIEMAP, &[EBADR, EFBIG, EOPNOTSUPP], Argument::Bytes(bytes))
        }
        8 => (CLONE, SHARING, Argument::Number(descriptor(random, files))),
        9 => {
            let [from, length, to] = [(); 3].map(|()| block(random));
            let range = [descriptor(random, files), from, length, to];
            (CLONE_RANGE, SHARING, words(&range))
        }
        10 => {
            let count = random.below(4);
            let mut range = vec![block(random), block(random), count];
            if random.percent(10) {
                range[2] = random.number() & 0xffff;
            }
            if random.percent(5) {
                range[2] |= random.number() << 16;
            }
            for _ in 0..4 {
                range.extend([descriptor(random, files), block(random), 0, 0]);
            }
            (ioctls::DEDUPE_RANGE, SHARING, words(&range))
        }
        11 => (ioctls::GET_UUID, &[], Argument::Bytes(vec![0; 24])),
        12 => (ioctls::GET_VERSION, &[], words(&[0])),
        _ => unreachable!("an ioctl that there is"),
    };
    Ioctl { number, argument, errors }
}

/// What ioctls are given on.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Files and directories.
    Usual,
    /// Of these only flags are set, as they would bind the others.
    Flagged,
    Other,
}

fn targets(root: &Path, worker: u64) -> Vec<(Kind, File)> {
    let read = |name: &str| File::open(root.join(name)).expect(name);
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let path = rustix::fs::open(root.join("g1"), path, Mode::empty()).expect("open a path");
    let fifo = OpenOptions::new().read(true).write(true).open(root.join("fifo"));
    let append = OpenOptions::new().append(true).open(root.join("g3"));
    let mut all: Vec<(Kind, File)> =
        (1..FILES).map(|n| (Kind::Usual, create(&root.join(format!("g{n}"))))).collect();
    all.extend([
        (Kind::Usual, read("g0")),
        (Kind::Usual, read("g2")),
        (Kind::Usual, append.expect("open")),
        (Kind::Usual, read("")),
        (Kind::Other, fifo.expect("open a fifo")),
        (Kind::Other, read("full")),
        (Kind::Other, path.into()),
        (Kind::Flagged, read(&format!("flagged{worker}"))),
        (Kind::Flagged, read(&format!("flagged directory{worker}"))),
    ]);
    all
}

/// How often each ioctl ended how.
type Counts = BTreeMap<(usize, i32), u64>;

fn work(arena: &Arena, targets: &[(Kind, File)], random: &mut SeededRandom, rounds: u64) -> Counts {
    let files: Vec<i32> = targets.iter().map(|(_, file)| file.as_raw_fd()).collect();
    let mut counts = Counts::new();
    for _ in 0..rounds {
        let which = random.below(NAMES.len() as u64) as usize;
        let sets_flags = which == 4 || which == 6;
        let (kind, file) = loop {
            // Half of them are those that can be cloned to.
            let among = if random.percent(50) { &targets[..FILES - 1] } else { targets };
            let target = random.pick(among).expect("a target");
            if !sets_flags || target.0 != Kind::Usual {
                break target;
            }
        };
        let ioctl = any(which, random, &files);
        let argument = match ioctl.argument {
            Argument::Number(number) => number,
            Argument::Bytes(bytes) if random.percent(60) => arena.put_good(&bytes),
            Argument::Bytes(bytes) => {
                let place = arena.place(random, bytes.len());
                arena.put(place, &bytes);
                place.address
            }
        };
        // SAFETY: a number, or an address in the arena or of nothing; nothing there is an address.
        let error = outcome(unsafe { give_raw(file, ioctl.number, argument) });
        let right = error == 0
            || COMMON.contains(&error)
            || ioctl.errors.contains(&error)
            || (*kind == Kind::Other && OTHER.contains(&error));
        assert!(right, "{}: {}", NAMES[which], std::io::Error::from_raw_os_error(error));
        *counts.entry((which, error)).or_insert(0) += 1;
        // Mappings reach as far as this.
        if *kind == Kind::Usual && file.metadata().expect("stat").len() > LONG {
            for (_, file) in &targets[..FILES - 1] {
                file.set_len(ROOM as u64).expect("cut");
            }
        }
    }
    counts
}

pub fn random_ioctls_do_no_harm(mounted: &Mounted) {
    mounted.mount("");
    let root = &mounted.directory;
    let seed = vexfs_simulation::seed(0x5eed_0006);
    let rounds = vexfs_simulation::rounds(USUAL_ROUNDS);
    let anybody = |path: &Path| {
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("chmod");
    };
    for number in 0..FILES {
        let path = root.join(format!("g{number}"));
        // Some blocks of each are those of another.
        let mut bytes = noise(number as u64, ROOM);
        bytes[ROOM / 2..].copy_from_slice(&noise(1, ROOM / 2));
        fs::write(&path, bytes).expect("write");
        anybody(&path);
    }
    let untouched = fs::read(root.join("g0")).expect("read");
    let flagged: Vec<_> = (0..4)
        .flat_map(|worker| {
            let (file, directory) =
                (format!("flagged{worker}"), format!("flagged directory{worker}"));
            let paths = [file, directory].map(|name| root.join(name));
            fs::write(&paths[0], b"x").expect("write");
            fs::create_dir(&paths[1]).expect("mkdir");
            if worker % 2 == 1 {
                for path in &paths {
                    std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("chown");
                }
            }
            paths
        })
        .collect();
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("full", FileType::CharacterDevice, rustix::fs::makedev(1, 7)),
    ] {
        let path = root.join(name);
        rustix::fs::mknodat(CWD, &path, kind, Mode::from(0o666), device).expect("mknod");
        rustix::fs::chmodat(CWD, &path, Mode::from(0o666), AtFlags::empty()).expect("chmod");
    }
    let shared = Part::shared();
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        scope.spawn(|| shared.scribble(&stop, seed ^ 99));
        let work: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || {
                    let random = &mut SeededRandom::new(seed + worker);
                    let targets = targets(root, worker);
                    // Arguments may lie in a file whose blocks the ioctls exchange; but user-mode Linux
                    // walks a program's mappings without their lock then, and says so.
                    let name = if is_user_mode() { "mapped" } else { "g" };
                    let mapped = create(&root.join(format!("{name}{}", worker + 1)));
                    mapped.set_len(ROOM as u64).expect("ftruncate");
                    let arena = Arena::new(shared, &mapped, random);
                    if worker % 2 == 1 {
                        become_a_user();
                    }
                    work(&arena, &targets, random, rounds)
                })
            })
            .collect();
        let counts: Vec<_> = work.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        counts
    });
    let mut sums = Counts::new();
    for ((which, error), count) in counts.into_iter().flat_map(|counts| counts.expect("a worker")) {
        *sums.entry((which, error)).or_insert(0) += count;
    }
    for which in (0..NAMES.len()).filter(|_| rounds >= USUAL_ROUNDS) {
        let of_it: Vec<_> = sums.iter().filter(|((of, _), _)| *of == which).collect();
        let works = sums.contains_key(&(which, 0));
        let cannot = which == 0 && !can_discard(&mounted.device);
        assert!(works || cannot, "{} never works: {of_it:?}", NAMES[which]);
        assert!(of_it.len() > 1, "{} fails in no way: {of_it:?}", NAMES[which]);
    }
    for path in &flagged {
        let file = File::open(path).expect("open");
        rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::empty()).expect("clear flags");
    }
    rustix::fs::sync();
    drop_caches();
    assert!(fs::read(root.join("g0")).expect("read") == untouched, "a file that was only read");
    for number in 1..FILES {
        fs::read(root.join(format!("g{number}"))).expect("all of it is there");
    }
    mounted.cycle();
    assert!(fs::read(root.join("g0")).expect("read") == untouched, "mounted again");
    mounted.unmount();
}
