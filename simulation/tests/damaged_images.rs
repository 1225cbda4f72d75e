// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Images whose bytes changed, and images whose structures lie under right checksums: whatever is done
//! with one ends, in errors or in results, and a check of it ends too.

use vexfs_core::check::{CheckOptions, Code, Finding, check};
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::repair::{RepairOptions, repair};
use vexfs_core::{
    Caller, FileSystem, MODE_DIRECTORY, MODE_FILE, NewInode, OpenOptions, Result, SearchRequest,
    Serial, VectorPut, XattrMode,
};
use vexfs_simulation::vector::COLLECTION_NAMES;
use vexfs_simulation::*;

const BYTES: u64 = 6 << 20;

/// An image of everything that workloads make.
fn sound(seed: u64) -> Vec<u8> {
    let device = format(BYTES, seed);
    let mut session = Session::open(&device, State::new(), seed).unwrap();
    let mut workload = Workload::new(seed);
    for _ in 0..700 {
        let change = workload.next(&session);
        session.apply(&change).unwrap();
    }
    session.commit().unwrap();
    session.fs.settle().unwrap();
    let mut bytes = vec![0; BYTES as usize];
    device.image().read(0, &mut bytes);
    bytes
}

fn device_of(bytes: &[u8]) -> SimulatedDevice {
    let mut image = Image::new(bytes.len() as u64);
    image.write(0, bytes);
    SimulatedDevice::with_image(image)
}

/// Reads all that there seems to be, and returns the inodes that were met.
fn walk(fs: &FileSystem, random: &mut SeededRandom) -> Vec<(u64, u64, Vec<u8>)> {
    let mut met = Vec::new();
    let mut waiting = vec![ROOT_INODE];
    while let Some(directory) = waiting.pop() {
        let mut entries = Vec::new();
        let _ = fs.read_directory(directory, 0, &mut |entry| {
            entries.push((entry.inode, entry.name.to_vec()));
            entries.len() < 5000
        });
        for (number, name) in entries {
            let _ = fs.lookup(directory, &name);
            // Directories may lead to each other.
            let known = met.len() > 5000 || met.iter().any(|(_, other, _)| *other == number);
            met.push((directory, number, name));
            if !known {
                waiting.push(number);
                let _ = read(fs, number, random);
            }
        }
    }
    met
}

fn read(fs: &FileSystem, number: u64, random: &mut SeededRandom) -> Result<()> {
    let inode = fs.inode(number)?;
    let mut names = Vec::new();
    let _ = fs.list_xattrs(number, &mut |name| {
        names.push(name.to_vec());
        true
    });
    for name in names {
        let _ = fs.get_xattr(number, &name);
    }
    let _ = fs.read_link(number);
    let _ = fs.paths(number, ROOT_INODE, Caller::default(), &Serial, &mut |_| true);
    let mut vectors = Vec::new();
    let _ = fs.vectors_of(number, &Serial, &mut |info| {
        vectors.push((info.collection, info.chunk));
        true
    });
    for (collection, chunk) in vectors {
        let _ = fs.get_vector(collection, number, chunk);
    }
    let mut buffer = vec![0; 64 << 10];
    // A lie may make it long.
    for offset in (0..inode.size.min(1 << 20)).step_by(buffer.len()) {
        let _ = fs.read(number, offset, &mut buffer);
    }
    let _ = fs.read(number, random.below(inode.size.max(1)), &mut buffer);
    let _ = fs.map(number, 0, 1000);
    Ok(())
}

fn search(fs: &FileSystem, random: &mut SeededRandom) {
    let mut found = Vec::new();
    let _ = fs.collections(&mut |info| {
        found.push((info.number, info.shape));
        true
    });
    for (number, shape) in found {
        let _ = fs.collection_info(number);
        let _ = fs.rows_of(number, 0, &mut |_| true);
        // Whatever its shape is now. Half of the numbers are small, so that they are some of any type.
        let query: Vec<u8> =
            (0..shape.row_bytes()).map(|at| random.below(60) as u8 * (at % 2) as u8).collect();
        for exact in [true, false] {
            let request = SearchRequest { exact, ..SearchRequest::nearest(number, &query, 10) };
            let _ = fs.search(&request, &vexfs_core::Serial, &mut |_, _, _| true);
        }
    }
}

/// Changes all kinds of things, as far as that goes.
fn change(fs: &FileSystem, met: &[(u64, u64, Vec<u8>)], random: &mut SeededRandom) {
    let new = |mode| NewInode { mode, owner: (1, 1), device: 0 };
    for round in 0..60 {
        let Some((directory, number, name)) = random.pick(met).cloned() else { break };
        let other = random.pick(met).expect("there is one").clone();
        let fresh = format!("new {round}");
        let fresh = fresh.as_bytes();
        let offset = random.below(1 << 20);
        let _ = match random.below(14) {
            0 => fs.create(directory, fresh, &new(MODE_FILE | 0o644)).map(drop),
            1 => fs.create(directory, fresh, &new(MODE_DIRECTORY | 0o755)).map(drop),
            2 => fs.write(number, offset, &random.bytes(30_000)),
            3 => fs.write(number, 0, b"short"),
            4 => fs.truncate(number, offset),
            5 => fs.punch(number, offset, 1 << 16),
            6 => fs.preallocate(number, offset, 1 << 16, false),
            7 => fs.link(number, directory, fresh),
            8 => fs.unlink(directory, &name),
            9 => fs.remove_directory(directory, &name),
            10 => {
                let mode = vexfs_core::RenameMode::Replace;
                fs.rename(directory, &name, other.0, &other.2, mode)
            }
            11 => fs.set_xattr(number, b"user.new", &random.bytes(3000), XattrMode::Set),
            12 => fs.clone_range(number, 0, other.1, 0, 1 << 20),
            _ => {
                let put = VectorPut {
                    chunk: round,
                    offset: 0,
                    length: 0,
                    content_version: None,
                    tag: 0,
                    digest: [0; 16],
                    bytes: &random.bytes(16),
                };
                fs.put_vectors(1, number, &[put]).map(drop)
            }
        };
        if round % 20 == 19 {
            let _ = fs.commit();
        }
    }
    // Whatever can be removed.
    for (directory, _, name) in met.iter().rev() {
        let _ = fs.unlink(*directory, name);
        let _ = fs.remove_directory(*directory, name);
    }
    let _ = fs.commit();
}

fn use_it(bytes: &[u8], random: &mut SeededRandom) -> bool {
    let device = device_of(bytes);
    let options = OpenOptions { read_only: random.percent(20), ..OpenOptions::default() };
    let Ok(fs) = FileSystem::open(host(&device, 1), &options) else { return false };
    let _ = fs.status();
    let _ = fs.reap_orphans();
    let met = walk(&fs, random);
    search(&fs, random);
    if !options.read_only {
        change(&fs, &met, random);
        search(&fs, random);
        for name in COLLECTION_NAMES {
            let _ = fs.collection_number(name).and_then(|number| fs.drop_collection(number));
        }
        let _ = fs.settle();
    }
    true
}

/// Checks it, uses it, and repairs another copy of it; whether it could be opened, or a panic.
fn look_at(bytes: &[u8], random: &mut SeededRandom) -> std::thread::Result<bool> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let device = device_of(bytes);
        let _ = check(host(&device, 1), &CheckOptions::default(), &mut (), &mut |_| ());
        mend(bytes);
        use_it(bytes, random)
    }))
}

/// Nothing is left to mend where a repair says so, and of a file system that can be opened afterwards
/// nothing but what no repair can know: bytes of files, and what is of no consequence.
fn mend(bytes: &[u8]) {
    let device = device_of(bytes);
    let repaired = repair(host(&device, 1), &RepairOptions::default(), &mut (), &mut |_| ());
    let Ok(report) = repaired else { return };
    let mut left = Vec::new();
    let found = &mut |finding: &Finding| left.push(finding.code);
    let after = check(host(&device, 1), &CheckOptions::default(), &mut (), found).unwrap();
    assert_eq!(report.is_clean(), after.is_clean(), "{left:?}");
    let lost = |code: &Code| matches!(code, Code::DataChecksum | Code::NodeReserved);
    let open = || FileSystem::open(host(&device, 1), &OpenOptions::default()).is_ok();
    assert!(left.iter().all(lost) || !open(), "{left:?} is left");
}

#[test]
fn whatever_an_image_says_what_is_done_with_it_ends() {
    let seed = seed(0xda_0001);
    let rounds = rounds(400);
    let sound = sound(seed);
    let mut opened = 0;
    for round in 0..rounds {
        let mut random = SeededRandom::new(seed + round * 7919);
        let mut bytes = sound.clone();
        let said = damage(&mut bytes, &mut random);
        let outcome = look_at(&bytes, &mut random);
        opened += u64::from(outcome.unwrap_or_else(|_| panic!("round {round}: {said:#?}")));
    }
    // Most of it is to be seen by more than the mount.
    assert!(opened > rounds / 2, "{opened} of {rounds} could be opened");
}

#[test]
fn whatever_a_field_says_what_is_done_with_it_ends() {
    let seed = seed(0xda_0002);
    let sound = sound(seed);
    let lies = lies(&sound);
    assert!(lies.len() > 4000, "{} lies", lies.len());
    let mut opened = 0;
    let told = spread(lies.len(), rounds(600), seed);
    let rounds = told.len();
    for at in told {
        let mut bytes = sound.clone();
        lies[at].tell(&mut bytes);
        let outcome = look_at(&bytes, &mut SeededRandom::new(seed + at as u64));
        opened += usize::from(outcome.unwrap_or_else(|_| panic!("lie {at}: {}", lies[at])));
    }
    assert!(opened > rounds / 2, "{opened} of {rounds} could be opened");
}
