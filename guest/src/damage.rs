// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Damaged images, those that checksums show and those that lie under right ones: the kernel mounts them
//! or does not, and whatever is done there ends, in errors or in results; then they are unmounted.
//! `VEXFS_SEED` has other damage, `VEXFS_ROUNDS` more images.

use crate::MountTest;
use crate::commands;
use crate::support::{Mounted, create, run, where_slow};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, SeekFrom, XattrFlags};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirEntryExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use vexfs_simulation::{SeededRandom, damage, lies, spread};
use vexfs_uapi::{
    Collection, CollectionDrop, CollectionList, Command, ELEMENT_BIT, ELEMENT_F32, ELEMENT_U8, Get,
    Info, List, METRIC_COSINE, METRIC_HAMMING, METRIC_L2, SEARCH_EXACT, Search, Vector,
};
use zerocopy::FromZeros;

pub const TESTS: &[MountTest] = &[
    ("whatever_an_image_says_no_harm_is_done", whatever_an_image_says),
    ("whatever_a_field_says_no_harm_is_done", whatever_a_field_says),
];

/// Bytes of an image.
const BYTES: u64 = 6 << 20;
/// Entries of a tree that are looked at; a lie may make it endless.
const ENTRIES_MAX: usize = 600;
/// Vectors of the collection that has a graph.
const VECTORS: u32 = 1200;

/// Many things wrong at once, at random.
fn whatever_an_image_says(mounted: &Mounted) {
    let seed = vexfs_simulation::seed(0x5eed_0005);
    let rounds = vexfs_simulation::rounds(where_slow(4, 20));
    let mut images = Images::new(mounted, seed);
    for round in 0..rounds {
        let random = &mut SeededRandom::new(seed ^ round << 32);
        let mut bytes = images.sound.clone();
        let said = damage(&mut bytes, random);
        images.look_at(&bytes, &said.join("; "), random);
    }
    images.finish();
}

/// One thing wrong, some of all that there are.
fn whatever_a_field_says(mounted: &Mounted) {
    let seed = vexfs_simulation::seed(0x5eed_0007);
    let rounds = vexfs_simulation::rounds(where_slow(4, 20));
    let mut images = Images::new(mounted, seed);
    let lies = lies(&images.sound);
    for at in spread(lies.len(), rounds, seed) {
        let random = &mut SeededRandom::new(seed ^ (at as u64) << 32);
        let mut bytes = images.sound.clone();
        lies[at].tell(&mut bytes);
        images.look_at(&bytes, &lies[at].to_string(), random);
    }
    images.finish();
}

/// Images made of a sound one.
struct Images<'a> {
    mounted: &'a Mounted,
    sound: Vec<u8>,
    looked_at: u64,
    opened: u64,
}

impl<'a> Images<'a> {
    fn new(mounted: &'a Mounted, seed: u64) -> Self {
        run("mkfs.vexfs", &["-q", "-f", mounted.device.to_str().expect("UTF-8"), "6M"]);
        mounted.mount("");
        populate(&mounted.directory, &mut SeededRandom::new(seed));
        mounted.unmount();
        let mut sound = vec![0; BYTES as usize];
        File::open(&mounted.device).expect("open").read_exact(&mut sound).expect("read");
        Self { mounted, sound, looked_at: 0, opened: 0 }
    }

    /// Mounts one and uses it, and has some of them checked.
    fn look_at(&mut self, bytes: &[u8], said: &str, random: &mut SeededRandom) {
        let (mounted, number) = (self.mounted, self.looked_at);
        self.looked_at += 1;
        // In the log, where what is wrong is found afterwards.
        let note = format!("<6>damage of image {number}: {said}\n");
        let _ = fs::write("/dev/kmsg", &note.as_bytes()[..note.len().min(900)]);
        let device = OpenOptions::new().write(true).open(&mounted.device).expect("open");
        device.write_all_at(bytes, 0).expect("write");
        device.sync_all().expect("fsync");
        drop(device);
        let options =
            ["errors=continue", "errors=continue", "errors=continue,index=preload", "", "ro"];
        let options = options[random.below(5) as usize];
        if mounted.try_mount(options).is_ok() {
            self.opened += 1;
            use_it(&mounted.directory, random);
            assert!(mounted.unmount_if_mounted(), "image {number} stays mounted: {said}");
        }
        if number % 8 == 0 {
            let mut check = std::process::Command::new("fsck.vexfs");
            let output = check.args(["-n", "-f"]).arg(&mounted.device).output().expect("fsck");
            // It may find what it likes, but not fail; unless the lie is that a later version made it.
            let (status, told) = (output.status, String::from_utf8_lossy(&output.stderr));
            let judged = status.code().is_some_and(|code| code < 8)
                || status.code() == Some(8)
                    && ["features unknown here", "format version other than"]
                        .iter()
                        .any(|later| told.contains(later));
            assert!(judged, "image {number}: {status} {told} {said}");
        }
    }

    fn finish(self) {
        let Self { mounted, looked_at, opened, .. } = self;
        assert!(opened > looked_at / 2, "{opened} of {looked_at} could be mounted");
        mounted.format();
    }
}

/// Some of everything.
fn populate(root: &Path, random: &mut SeededRandom) {
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).expect("setxattr");
    };
    let directory = File::open(root).expect("open");
    let floats = commands::create_collection(&directory, "floats", (ELEMENT_F32, METRIC_COSINE, 4));
    let bits = commands::create_collection(&directory, "bits", (ELEMENT_BIT, METRIC_HAMMING, 64));
    let graph = commands::create_collection(&directory, "graph", (ELEMENT_U8, METRIC_L2, 8));
    let mut parent = root.to_owned();
    for level in 0..4 {
        for number in 0..25 {
            let path = parent.join(format!("file {number}"));
            let length = [0, 100, 5000, 40_000][random.below(4) as usize];
            fs::write(&path, random.bytes(length)).expect("write");
            if number % 5 == 0 {
                fs::hard_link(&path, root.join(format!("link {level} {number}"))).expect("link");
                set(&path, "user.kind", b"small");
            }
            if number % 4 == 0 {
                let vectors = [0, 1].map(|chunk| Vector { chunk, ..Vector::new_zeroed() });
                let file = create(&path);
                let values: Vec<u8> = [1f32, 2., 3., 4., 5., 6., 7., 8.]
                    .iter()
                    .flat_map(|x| x.to_le_bytes())
                    .collect();
                commands::put(&file, floats, &vectors, &values).expect("put");
                commands::put(&file, bits, &vectors, &random.bytes(16)).expect("put");
            }
        }
        std::os::unix::fs::symlink("file 1", parent.join("short")).expect("symlink");
        std::os::unix::fs::symlink("x/".repeat(1000), parent.join("long")).expect("symlink");
        rustix::fs::mknodat(CWD, parent.join("fifo"), FileType::Fifo, Mode::from(0o600), 0)
            .expect("mkfifo");
        set(&parent, "user.large", &random.bytes(30_000));
        parent.push("below");
        fs::create_dir(&parent).expect("mkdir");
    }
    let large = create(&root.join("large"));
    large.write_all_at(&random.bytes(300_000), 0).expect("write");
    let clone = create(&root.join("clone"));
    rustix::fs::ioctl_ficlone(&clone, &large).expect("clone");
    clone.write_all_at(b"different", 100_000).expect("write");
    let holes = create(&root.join("holes"));
    holes.write_all_at(b"behind a hole", 1 << 20).expect("write");
    rustix::fs::fallocate(&holes, FallocateFlags::KEEP_SIZE, 2 << 20, 200_000).expect("fallocate");
    let file = create(&root.join("embedded"));
    let vectors: Vec<Vector> =
        (0..VECTORS).map(|chunk| Vector { chunk, ..Vector::new_zeroed() }).collect();
    commands::put(&file, graph, &vectors, &random.bytes(VECTORS as usize * 8)).expect("put");
    commands::maintain(&directory, graph);
    rustix::fs::sync();
}

/// Looks at everything, changes what it can, removes what it can.
fn use_it(root: &Path, random: &mut SeededRandom) {
    let mut met = Vec::new();
    let mut numbers = BTreeSet::new();
    walk(root, &mut met, &mut numbers);
    vectors_of(root, &numbers, random);
    change(root, &met, random);
    vectors_of(root, &numbers, random);
    for path in met.iter().rev() {
        let _ = fs::remove_file(path);
        let _ = fs::remove_dir(path);
    }
    let _ = File::open(root).and_then(|root| root.sync_all());
}

fn walk(root: &Path, met: &mut Vec<PathBuf>, numbers: &mut BTreeSet<u64>) {
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        attributes(&directory);
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        // One that cannot be read ends the list: it could be the same again and again.
        for entry in entries.map_while(Result::ok) {
            if met.len() >= ENTRIES_MAX {
                return;
            }
            let path = entry.path();
            numbers.insert(entry.ino());
            met.push(path.clone());
            let Ok(stat) = path.symlink_metadata() else { continue };
            attributes(&path);
            if stat.is_dir() && path.components().count() < 60 {
                waiting.push(path);
            } else if stat.is_symlink() {
                let _ = fs::read_link(&path);
                let _ = path.metadata();
            } else if stat.is_file() {
                let _ = read(&path, stat.len());
            }
        }
    }
}

fn attributes(path: &Path) {
    let mut names = vec![0u8; 65_536];
    let Ok(length) = rustix::fs::llistxattr(path, &mut names) else { return };
    let mut value = vec![0u8; 65_536];
    let acl: [&[u8]; 1] = [b"system.posix_acl_access"];
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).chain(acl)
    {
        let _ = rustix::fs::lgetxattr(path, name, &mut value);
    }
}

fn read(path: &Path, size: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let mut buffer = vec![0; 64 << 10];
    for offset in (0..size.min(2 << 20)).step_by(buffer.len()).chain([size.saturating_sub(100)]) {
        let _ = file.read_at(&mut buffer, offset);
    }
    let mut at = 0;
    for _ in 0..20 {
        let Ok(data) = rustix::fs::seek(&file, SeekFrom::Data(at)) else { break };
        let Ok(hole) = rustix::fs::seek(&file, SeekFrom::Hole(data)) else { break };
        at = hole;
    }
    let mut vectors = vec![Vector::new_zeroed(); 100];
    let mut command = List { vectors: vectors.as_mut_ptr() as u64, count: 100, ..List::new() };
    // SAFETY: the address is that of `count` vectors, borrowed for writing.
    if unsafe { commands::give(&file, &mut command) }.is_ok() {
        for vector in vectors.iter().take(command.count as usize) {
            let mut command = Get {
                collection: vector.collection,
                chunk: vector.chunk,
                data: buffer.as_mut_ptr() as u64,
                data_bytes: buffer.len() as u64,
                ..Get::new()
            };
            // SAFETY: the address is that of `data_bytes` bytes, borrowed for writing.
            let _ = unsafe { commands::give(&file, &mut command) };
        }
    }
    Ok(())
}

fn collections(directory: &File) -> Vec<Collection> {
    let mut room = vec![Collection::new_zeroed(); 16];
    let mut command = CollectionList {
        collections: room.as_mut_ptr() as u64,
        count: 16,
        ..CollectionList::new()
    };
    // SAFETY: the address is that of `count` collections, borrowed for writing.
    match unsafe { commands::give(directory, &mut command) } {
        Ok(()) => room.truncate(command.count as usize),
        Err(_) => room.clear(),
    }
    room
}

fn row_bytes(collection: &Collection) -> usize {
    let dimension = collection.dimension as usize;
    match collection.element {
        1 => dimension * 4,
        2 | 3 => dimension * 2,
        6 => dimension.div_ceil(8),
        _ => dimension,
    }
}

/// Asks for all that is known of vectors, and drops a collection now and then.
fn vectors_of(root: &Path, numbers: &BTreeSet<u64>, random: &mut SeededRandom) {
    let Ok(directory) = File::open(root) else { return };
    let mut info = Info::new();
    // SAFETY: it holds no address.
    let _ = unsafe { commands::give(&directory, &mut info) };
    for collection in collections(&directory) {
        let Collection { number, .. } = collection;
        // Small numbers, half of them, so that they are some of any type.
        let query: Vec<u8> =
            (0..row_bytes(&collection)).map(|at| random.below(60) as u8 * (at % 2) as u8).collect();
        for flags in [SEARCH_EXACT, 0] {
            let wanted = Search { flags, collection: number, k: 20, hits_max: 20, ..Search::new() };
            let _ = commands::search(&directory, wanted, &query, b"", query.len());
            let below =
                File::open(root.join("below")).unwrap_or(directory.try_clone().expect("dup"));
            let _ = commands::search(below, wanted, &query, b"", 0);
        }
        let mut from = 0;
        for _ in 0..20 {
            let Ok((told, _)) = commands::rows(&directory, number, from, 100) else { break };
            from = told.from;
            if told.more == 0 {
                break;
            }
        }
        let mut command = vexfs_uapi::CollectionMaintain {
            number,
            flags: random.below(2) as u32,
            ..vexfs_uapi::CollectionMaintain::new()
        };
        // SAFETY: it holds no address.
        let _ = unsafe { commands::give(&directory, &mut command) };
        if random.percent(20) {
            let mut command = CollectionDrop { number, ..CollectionDrop::new() };
            // SAFETY: it holds no address.
            let _ = unsafe { commands::give(&directory, &mut command) };
        }
    }
    for inode in numbers {
        let _ = commands::some_paths(&directory, *inode, 0, 0, 65_536);
    }
}

fn change(root: &Path, met: &[PathBuf], random: &mut SeededRandom) {
    let regular = |path: &Path| path.symlink_metadata().is_ok_and(|stat| stat.is_file());
    for number in 0..80 {
        let Some(path) = random.pick(met) else { break };
        let other = random.pick(met).expect("there is one");
        let open = |path: &Path| {
            regular(path)
                .then(|| OpenOptions::new().read(true).write(true).open(path).ok())
                .flatten()
        };
        let offset = random.below(1 << 20);
        match random.below(12) {
            0 => drop(fs::write(path.with_file_name(format!("new {number}")), random.bytes(9000))),
            1 => drop(fs::create_dir(path.with_file_name(format!("new {number}")))),
            2 => drop(fs::rename(path, other)),
            3 => drop(fs::hard_link(path, path.with_file_name(format!("new {number}")))),
            4 => drop(fs::remove_file(path)),
            5 => {
                let value = random.bytes(2500);
                let _ = rustix::fs::lsetxattr(path, "user.new", &value, XattrFlags::empty());
            }
            6 => drop(open(path).map(|file| file.set_len(offset))),
            7 => drop(open(path).map(|file| {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(file, flags, offset / 2, 1 << 16)
            })),
            8 => {
                if let (Some(from), Some(to)) = (open(path), open(other)) {
                    let _ = rustix::fs::ioctl_ficlone(&to, &from);
                }
            }
            9 => {
                if let Some(file) = open(path) {
                    let vector = Vector { chunk: 7, ..Vector::new_zeroed() };
                    let _ = commands::put(&file, 1 + random.below(3) as u32, &[vector], &[1; 8]);
                }
            }
            10 => drop(std::os::unix::fs::lchown(path, Some(7), Some(8))),
            _ => {
                if let Some(file) = open(path) {
                    let _ = file.write_all_at(&random.bytes(30_000), offset);
                    let _ = file.sync_all();
                }
            }
        }
    }
    let _ = File::open(root).map(rustix::fs::syncfs);
}
