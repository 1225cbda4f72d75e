// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The commands with anything in their numbers, fields and pointers, by ioctl and by io_uring: each
//! fails as uapi/vexfs.h says, and nothing else happens. Likewise the ioctls that all file systems have.
//! `VEXFS_SEED` has other commands, `VEXFS_ROUNDS` more of them.

mod arena;
mod command;
mod general;
mod ring;

use crate::MountTest;
use crate::commands::{self, Question, give_raw};
use crate::support::{Mounted, create};
use arena::{Arena, Part, ROOM};
use command::{About, COMMON, COUNT, Image, VECTOR_BYTES};
use libc::{E2BIG, EBADF, EFAULT, EINVAL, EISDIR, ENOTDIR, ENOTTY};
use ring::Ring;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use vexfs_simulation::SeededRandom;
use vexfs_uapi::{Command, ELEMENT_U8, METRIC_L2, PLAN_EXACT, SEARCH_EXACT, Search, Vector};
use zerocopy::{FromZeros, IntoBytes};

pub const TESTS: &[MountTest] = &[
    ("a_search_by_io_uring_is_that_by_ioctl", by_io_uring_as_by_ioctl),
    ("wrong_commands_fail_as_they_should", wrong_commands_fail),
    ("random_commands_do_no_harm", random_commands_do_no_harm),
    ("random_commands_of_all_file_systems_do_no_harm", general::random_ioctls_do_no_harm),
];

/// Files with vectors, in a collection of vectors of 8 bytes.
const FILES: u8 = 8;

/// Makes the files and the collection, which anybody may use.
fn prepare(root: &Path) -> About {
    fs::set_permissions(root, Permissions::from_mode(0o777)).expect("chmod");
    let directory = File::open(root).expect("open");
    let shape = (ELEMENT_U8, METRIC_L2, VECTOR_BYTES as u32);
    let collection = commands::create_collection(&directory, "c", shape);
    let mut inodes = vec![directory.metadata().expect("stat").ino(), 1 << 30];
    for number in 0..FILES {
        let path = root.join(format!("f{number}.txt"));
        fs::write(&path, vec![number; ROOM]).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod");
        let file = create(&path);
        let vectors = [0, 1, 2, 3].map(|chunk| Vector { chunk, ..Vector::new_zeroed() });
        let data: Vec<u8> = (0..4 * VECTOR_BYTES as u8).map(|at| at ^ (number * 16)).collect();
        commands::put(&file, collection, &vectors, &data).expect("put");
        inodes.push(file.metadata().expect("stat").ino());
    }
    About { collection, inodes }
}

fn by_io_uring_as_by_ioctl(mounted: &Mounted) {
    mounted.mount("");
    let about = prepare(&mounted.directory);
    let directory = File::open(&mounted.directory).expect("open");
    let mut ring = Ring::new();
    let mut random = SeededRandom::new(vexfs_simulation::seed(0x5eed_0002));
    for round in 0..50 {
        let queries = random.bytes(3 * VECTOR_BYTES);
        let wanted = Search {
            flags: if round % 2 == 0 { SEARCH_EXACT } else { 0 },
            collection: about.collection,
            k: 1 + round,
            hits_max: 3 * (1 + round),
            ..Search::new()
        };
        let by_ioctl =
            commands::search(&directory, wanted, &queries, b"", VECTOR_BYTES).expect("search");
        let mut question = Question::new(wanted, &queries, b"", VECTOR_BYTES);
        let pointer = std::ptr::from_mut(&mut question.command) as u64;
        // SAFETY: the question leads to room of its own, and to queries, which are read.
        unsafe { ring.give(&directory, Search::NUMBER, pointer) }.expect("search by io_uring");
        let by_ring = question.answer(VECTOR_BYTES);
        assert_eq!(by_ring.hits.as_bytes(), by_ioctl.hits.as_bytes());
        assert_eq!(by_ring.vectors, by_ioctl.vectors);
        let hits = 3 * usize::try_from(1 + round).expect("few").min(usize::from(FILES) * 4);
        assert_eq!(by_ring.hits.len(), hits);
        assert_eq!((by_ring.told.plan, by_ring.told.examined), (PLAN_EXACT, 96));
    }
    // What fails, fails alike.
    let arena = Arena::new(Part::shared(), &create(&mounted.directory.join("f0.txt")), &mut random);
    for number in 0..COUNT {
        let bad = arena.bad(&mut random);
        let image = command::sane(number, &about, &mut random, &mut command::good_pointer(&arena));
        // SAFETY: a bad address.
        let result = unsafe { ring.give(&directory, image.number, bad) };
        assert_eq!(crate::support::errno(result), EFAULT, "command {number}");
    }
    // SAFETY: an address of the arena.
    let result = unsafe { ring.give(&directory, Search::NUMBER + 50, arena.good(4096)) };
    assert_eq!(crate::support::errno(result), ENOTTY);
    drop((directory, arena));
    mounted.unmount();
}

/// An errno, or 0.
fn outcome(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, Errno::raw_os_error)
}

/// Gives commands on a file with pointers into an arena.
struct Giver<'a> {
    arena: &'a Arena,
    ring: Ring,
}

impl Giver<'_> {
    /// The errno of a command, which must be the same by ioctl and by io_uring.
    fn image(&mut self, file: &File, image: &Image) -> i32 {
        let pointer = || image.place_good(self.arena);
        // SAFETY: the pointer is one of the arena, and those that it leads to are, or of nothing.
        let (ioctl, ring) = unsafe {
            let ioctl = outcome(give_raw(file, image.number, pointer()));
            (ioctl, outcome(self.ring.give(file, image.number, pointer())))
        };
        assert_eq!(ioctl, ring, "command {:#x} by ioctl and by io_uring", image.number);
        ioctl
    }
}

fn wrong_commands_fail(mounted: &Mounted) {
    mounted.mount("");
    let mut about = prepare(&mounted.directory);
    // Only those that are there and have paths.
    about.inodes.drain(..2);
    let random = RefCell::new(SeededRandom::new(vexfs_simulation::seed(0x5eed_0003)));
    let random = || random.borrow_mut();
    let directory = File::open(&mounted.directory).expect("open");
    let path = mounted.directory.join("f1.txt");
    let file = create(&path);
    let arena =
        Arena::new(Part::shared(), &create(&mounted.directory.join("f0.txt")), &mut random());
    let mut giver = Giver { arena: &arena, ring: Ring::new() };
    for number in 0..COUNT {
        // Those of a file's own vectors are given on a file, the others on a directory.
        let on_file = (6..=9).contains(&number);
        let on = if on_file { &file } else { &directory };
        let sane = || {
            let pointer = &mut command::good_pointer(&arena);
            command::sane(number, &about, &mut random(), pointer)
        };
        let image = sane();
        let what = |wrong: &str| format!("command {number}: {wrong}");
        let known = image.bytes.len();
        for size in [0, 1, 4, known as u32 - 1, known as u32 - 8] {
            let wrong = image.with(0, &size.to_le_bytes());
            assert_eq!(giver.image(on, &wrong), EINVAL, "{}", what("too short"));
        }
        for size in [4097, 1 << 31, u32::MAX] {
            let wrong = image.with(0, &size.to_le_bytes());
            assert_eq!(giver.image(on, &wrong), E2BIG, "{}", what("too long"));
        }
        for end in [0, 16] {
            let mut longer = image.with(0, &(known as u32 + 20).to_le_bytes());
            longer.bytes.resize(known + 20, 0);
            longer.bytes[known + end] = 1;
            assert_eq!(giver.image(on, &longer), E2BIG, "{}", what("a tail"));
        }
        for at in image.zeros {
            for value in [1u32, 1 << 31, u32::MAX] {
                // Some flags there are.
                if *at == 4 && number == 4 && value == 1 {
                    continue;
                }
                let wrong = image.with(*at, &value.to_le_bytes());
                assert_eq!(giver.image(on, &wrong), EINVAL, "{}", what(&format!("at {at}")));
            }
        }
        for flags in [512u32, 1 << 30, u32::MAX] {
            if number == 11 {
                let wrong = image.with(4, &flags.to_le_bytes());
                assert_eq!(giver.image(on, &wrong), EINVAL, "{}", what("an unknown flag"));
            }
        }
        // The structure is not there, not there as a whole, or cannot be written.
        let fault = |address| {
            let mut ring = Ring::new();
            // SAFETY: an address of nothing, or in the arena.
            let results = unsafe {
                [give_raw(on, image.number, address), ring.give(on, image.number, address)]
            };
            assert_eq!(results.map(outcome), [EFAULT; 2], "{} {address:#x}", what("pointer"));
        };
        let bad: Vec<u64> = (0..20).map(|_| arena.bad(&mut random())).collect();
        bad.into_iter().for_each(fault);
        for there in [1, 3, 4, known - 1] {
            let address = arena.before_edge(there);
            arena.put(arena::Place { address, writable: true }, &image.bytes);
            fault(address);
        }
        for at in image.addresses {
            // A put, a query and what a search takes are read; the others are written.
            let unused = number == 11 && [48, 64].contains(at);
            for _ in 0..10 {
                let wrong = image.with(*at, &arena.bad(&mut random()).to_le_bytes());
                let wanted = if unused { [0, EFAULT] } else { [EFAULT, EFAULT] };
                let got = giver.image(on, &wrong);
                assert!(wanted.contains(&got), "{}", what(&format!("pointer at {at}: {got}")));
            }
            if number != 6 && number != 11 {
                let wrong = image.with(*at, &arena.fixed().to_le_bytes());
                assert_eq!(giver.image(on, &wrong), EFAULT, "{}", what("memory that is fixed"));
            }
        }
        // Of no such number, not read and written, of another kind.
        for wrong in [
            image.number + COUNT,
            image.number | 0xff,
            image.number & !(1 << 30),
            image.number & !(1 << 31),
            image.number & !(3 << 30),
            image.number ^ 1 << 8,
        ] {
            let unknown = Image { number: wrong, ..image.clone() };
            assert_eq!(giver.image(on, &unknown), ENOTTY, "{}", what("unknown"));
        }
        // Whatever size its number says, and however it lies, it works; and on others it does not.
        let works = |number: u32, offset: u64, file: &File, image: &Image| {
            let address = arena.good(image.bytes.len() + 8) + offset;
            arena.put(arena::Place { address, writable: true }, &image.bytes);
            // SAFETY: an address in the arena, and so are those that it leads to.
            outcome(unsafe { give_raw(file, number, address) })
        };
        if ![1, 5, 7, 8].contains(&number) {
            for offset in [0, 1, 4, 7] {
                let sized = image.number & !(0x3fff << 16) | (offset as u32 * 99) << 16;
                assert_eq!(works(sized, offset, on, &sane()), 0, "{}", what("works"));
                let mut longer = sane().with(0, &(known as u32 + 8).to_le_bytes());
                longer.bytes.resize(known + 8, 0);
                assert_eq!(works(sized, offset, on, &longer), 0, "{}", what("a newer caller"));
            }
        }
        let wanted: &[i32] = match number {
            6..=9 => &[EISDIR],
            10..=12 => &[ENOTDIR],
            _ => continue,
        };
        let other = if on_file { &directory } else { &file };
        assert!(wanted.contains(&works(image.number, 0, other, &sane())), "{}", what("on what"));
        if on_file {
            let blind = match number {
                7 | 9 => OpenOptions::new().write(true).open(&path),
                _ => File::open(&path),
            };
            let got = works(image.number, 0, &blind.expect("open"), &sane());
            assert_eq!(got, EBADF, "{}", what("opened otherwise"));
        }
    }
    drop((directory, file, giver));
    drop(arena);
    mounted.unmount();
}

/// Files of every kind, whether or not commands are for them.
fn targets(root: &Path, numbers: u64) -> Vec<(&'static str, File)> {
    let read = |path: &Path| File::open(path).expect("open");
    let gone = root.join(format!("gone{numbers}"));
    let gone_file = root.join(format!("gone_file{numbers}"));
    fs::create_dir(&gone).expect("mkdir");
    let (directory, file) = (read(&gone), create(&gone_file));
    fs::remove_dir(&gone).expect("rmdir");
    fs::remove_file(&gone_file).expect("unlink");
    let fifo = root.join("fifo");
    let special = OpenOptions::new().read(true).write(true).open(fifo).expect("open a fifo");
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let path = rustix::fs::open(root, path, Mode::empty()).expect("open a path");
    vec![
        ("directory", read(root)),
        ("directory", read(&root.join("below"))),
        ("file", create(&root.join("f0.txt"))),
        ("file", create(&root.join("f2.txt"))),
        ("file", read(&root.join("f3.txt"))),
        ("file", OpenOptions::new().append(true).open(root.join("f4.txt")).expect("open")),
        ("gone directory", directory),
        ("gone file", file),
        ("other", special),
        ("other", read(&root.join("full"))),
        ("other", path.into()),
    ]
}

fn random_commands_do_no_harm(mounted: &Mounted) {
    mounted.mount("");
    let root = &mounted.directory;
    let about = prepare(root);
    fs::create_dir(root.join("below")).expect("mkdir");
    fs::hard_link(root.join("f5.txt"), root.join("below/f5.txt")).expect("link");
    let node = |name, kind, device| {
        rustix::fs::mknodat(CWD, root.join(name), kind, Mode::from(0o666), device).expect("mknod");
        rustix::fs::chmodat(CWD, root.join(name), Mode::from(0o666), AtFlags::empty())
            .expect("chmod");
    };
    node("fifo", FileType::Fifo, 0);
    node("full", FileType::CharacterDevice, rustix::fs::makedev(1, 7));
    let seed = vexfs_simulation::seed(0x5eed_0004);
    let rounds = vexfs_simulation::rounds(1500);
    let shared = Part::shared();
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        scope.spawn(|| shared.scribble(&stop, seed ^ 99));
        let (about, stop) = (&about, &stop);
        let work: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || {
                    let random = &mut SeededRandom::new(seed + worker);
                    let targets = targets(root, worker);
                    if worker % 2 == 1 {
                        become_a_user();
                    }
                    let arena = Arena::new(shared, &targets[2].1, random);
                    Worker { arena, ring: Ring::new(), targets, about }.run(random, rounds)
                })
            })
            .collect();
        let counts: Vec<_> = work.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        counts
    });
    let mut sums = BTreeMap::new();
    for ((number, error), count) in counts.into_iter().flat_map(|counts| counts.expect("a worker"))
    {
        *sums.entry((number, error)).or_insert(0) += count;
    }
    // Not all of it fails, and not for one reason only, once there is enough of it.
    for number in (0..COUNT).filter(|_| rounds >= 1000) {
        let of_it: Vec<_> = sums.keys().filter(|(of, _)| *of == number).collect();
        assert!(sums.contains_key(&(number, 0)) || number == 5, "{number} never works: {of_it:?}");
        assert!(of_it.len() > 2, "{number} fails in few ways: {of_it:?}");
    }
    // It still is what it was.
    let directory = File::open(root).expect("open");
    let wanted = Search { collection: about.collection, k: 64, hits_max: 64, ..Search::new() };
    match commands::search(&directory, wanted, &[0; VECTOR_BYTES], b"", 0) {
        Ok(answer) => assert!(!answer.hits.is_empty()),
        // Among very many commands was one that dropped it.
        Err(error) => assert_eq!((error.kind(), rounds > 5000), (ErrorKind::NotFound, true)),
    }
    drop(directory);
    mounted.cycle();
    let read = fs::read(root.join("f1.txt")).expect("read");
    assert_eq!(read, vec![1; ROOM]);
    mounted.unmount();
}

fn become_a_user() {
    let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(1000));
    rustix::thread::set_thread_groups(&[]).expect("setgroups");
    rustix::thread::set_thread_res_gid(gid, gid, gid).expect("setresgid");
    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("setresuid");
}

/// How often each command ended how.
type Counts = BTreeMap<(u32, i32), u64>;

struct Worker<'a> {
    arena: Arena,
    ring: Ring,
    targets: Vec<(&'static str, File)>,
    about: &'a About,
}

impl Worker<'_> {
    fn run(&mut self, random: &mut SeededRandom, rounds: u64) -> Counts {
        let mut counts = Counts::new();
        for _ in 0..rounds {
            if random.percent(10) {
                self.unknown(random);
                continue;
            }
            let number = random.below(u64::from(COUNT)) as u32;
            let error = self.known(random, number);
            *counts.entry((number, error)).or_insert(0) += 1;
        }
        counts
    }

    fn give(&mut self, random: &mut SeededRandom, at: usize, number: u32, pointer: u64) -> i32 {
        let file = &self.targets[at].1;
        // SAFETY: the pointer is one of the arena, or of nothing, and so are those that it leads to.
        unsafe {
            outcome(match random.percent(40) {
                true => self.ring.give(file, number, pointer),
                false => give_raw(file, number, pointer),
            })
        }
    }

    fn known(&mut self, random: &mut SeededRandom, number: u32) -> i32 {
        let arena = &self.arena;
        let wrong = random.percent(60);
        let mut image = if wrong {
            let mut any = |random: &mut SeededRandom, bytes: usize| {
                let place = arena.place(random, bytes);
                arena.put(place, &command::vectors(bytes.div_ceil(72) as u32)[..bytes]);
                place.address
            };
            command::sane(number, self.about, random, &mut any)
        } else {
            command::sane(number, self.about, random, &mut command::good_pointer(arena))
        };
        if wrong {
            command::spoil(&mut image, random);
        }
        let pointer = if wrong { image.place(arena, random) } else { image.place_good(arena) };
        // Those of a file's own vectors mostly on a file, the others mostly on a directory.
        let at = match random.below(10) {
            0..=5 if (6..=9).contains(&number) => 2 + random.below(2) as usize,
            0..=5 => random.below(2) as usize,
            _ => random.below(self.targets.len() as u64) as usize,
        };
        let error = self.give(random, at, image.number, pointer);
        let (kind, _) = self.targets[at];
        let other = [ENOTTY, EBADF, libc::EOPNOTSUPP];
        let right = error == 0
            || COMMON.contains(&error)
            || image.errors.contains(&error)
            || (kind == "other" && other.contains(&error));
        assert!(right && (kind != "other" || error != 0), "command {number} on a {kind}: {error}");
        error
    }

    /// Commands that there are none of.
    fn unknown(&mut self, random: &mut SeededRandom) {
        let bytes = (random.below(1 << 14) << 16) as u32;
        let number = match random.below(3) {
            // Of ours, but for those that there are.
            0 => 3 << 30 | bytes | 0xbc00 | (13 + random.below(243) as u32),
            1 => (random.below(3) << 30) as u32 | bytes | 0xbc03,
            // Of a kind that nobody has.
            _ => 0xee00 | (random.number() as u32 & 0xffff_00ff),
        };
        let pointer = self.arena.place(random, 4096).address;
        let at = random.below(8) as usize;
        let error = self.give(random, at, number, pointer);
        assert_eq!(error, ENOTTY, "command {number:#x} on a {}", self.targets[at].0);
    }
}
