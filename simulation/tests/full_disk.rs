// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Devices that are full, or nearly: what does not fit is refused and changes nothing, and space
//! comes back, all of it, however often it was used.

use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{Error, FileSystem, MODE_FILE, NewInode, OpenOptions, VectorPut};
use vexfs_simulation::vector::{SeededVector, options};
use vexfs_simulation::*;

/// Removes everything below the root, as a user would.
fn remove_all(session: &mut Session) {
    while let Some((directory, name, target)) = session.state.nodes.iter().find_map(|(at, node)| {
        let (name, target) = node.entries()?.iter().find(|(_, target)| {
            session.state.entries(**target).is_none_or(|entries| entries.is_empty())
        })?;
        Some((*at, name.clone(), *target))
    }) {
        let change = match session.state.is_directory(target) {
            true => Change::RemoveDirectory { parent: directory, name },
            false => Change::Unlink { parent: directory, name },
        };
        session.apply(&change).unwrap_or_else(|error| panic!("{change:?} when full: {error:?}"));
    }
    for number in session.held.keys().copied().collect::<Vec<_>>() {
        while session.held.contains_key(&number) {
            session.apply(&Change::Close { number }).unwrap();
        }
    }
    for name in vexfs_simulation::vector::COLLECTION_NAMES {
        session.apply(&Change::DropCollection { name }).unwrap();
    }
    let names: Vec<_> = session.state.nodes[&ROOT_INODE].attributes.keys().cloned().collect();
    for name in names {
        session.apply(&Change::RemoveXattr { number: ROOT_INODE, name }).unwrap();
    }
}

#[test]
fn what_does_not_fit_is_refused_whole_and_everything_can_be_removed_again() {
    let seed = seed(0xf0_0001);
    for round in 0..rounds(3) {
        let seed = seed + round;
        let device = format(3 << 19, seed);
        let mut session = Session::open(&device, State::new(), seed).unwrap();
        session.commit().unwrap();
        let empty = session.fs.status();
        let mut workload = Workload::new(seed);
        // Far more than there is room for.
        workload.inodes_aim = 2000;
        workload.file_bytes_max = 600_000;
        workload.data_percent = 60;
        let mut refused = 0;
        for number in 0..1200 {
            let change = workload.next(&session);
            match session.apply(&change) {
                Ok(()) => {}
                Err(Error::NoSpace) => {
                    refused += 1;
                    if refused % 16 == 0 {
                        session.check();
                    }
                }
                Err(error) => panic!("seed {seed:#x}, change {number} {change:?}: {error:?}"),
            }
            if number % 50 == 49 {
                session.commit_observed(None).unwrap();
            }
        }
        assert!(refused > 50, "only {refused} changes did not fit");
        session.check();
        session.commit().unwrap();
        if let Err(problem) = check_device(&device) {
            panic!("seed {seed:#x}: {problem}");
        }
        remove_all(&mut session);
        session.check();
        // Blocks of the last states are free once no superblock copy names those.
        for mode in [0o700, 0o711, 0o755] {
            session.apply(&Change::SetMode { number: ROOT_INODE, mode }).unwrap();
            session.commit().unwrap();
        }
        let end = session.fs.status();
        assert_eq!(end.inodes, empty.inodes, "seed {seed:#x}");
        assert_eq!(end.blocks_free, empty.blocks_free, "seed {seed:#x}");
        if let Err(problem) = check_device(&device) {
            panic!("seed {seed:#x}: {problem}");
        }
    }
}

/// Files of the churn, each with a vector.
struct Churn {
    fs: FileSystem,
    collection: u32,
    random: SeededRandom,
}

impl Churn {
    fn name(slot: u64) -> Vec<u8> {
        format!("file-{slot}").into_bytes()
    }

    /// How long the files of a slot are: the same each time, so that what they use is too.
    fn bytes(slot: u64) -> usize {
        SeededRandom::new(slot).below(40_000) as usize
    }

    /// Puts a new file with a new vector into the slot's place.
    fn replace(&mut self, slot: u64) -> Result<(), Error> {
        let name = Self::name(slot);
        match self.fs.unlink(ROOT_INODE, &name) {
            Ok(()) | Err(Error::NotFound) => {}
            Err(error) => return Err(error),
        }
        let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
        let number = self.fs.create(ROOT_INODE, &name, &new)?;
        self.fs.write(number, 0, &self.random.bytes(Self::bytes(slot)))?;
        let vector = SeededVector { chunk: 0, seed: self.random.number() }.vector("bytes");
        let put = VectorPut {
            chunk: 0,
            offset: 0,
            length: 0,
            content_version: None,
            tag: slot,
            digest: [0; 16],
            bytes: &vector.bytes,
        };
        self.fs.put_vectors(self.collection, number, &[put]).map(|_| ())
    }
}

/// 100,000 times a file and its vector are replaced in a file system that is nine tenths full. The
/// bound: at no commit is more in use than at first by over 1/64 of the device's blocks; and when the
/// files go, all of it comes back.
#[test]
fn replacing_files_and_vectors_over_and_over_uses_no_more_space() {
    let seed = seed(0xf0_1001);
    let device = format(32 << 20, seed);
    let open = OpenOptions { cache_bytes: 4 << 20, ..OpenOptions::default() };
    let fs = FileSystem::open(host(&device, seed), &open).unwrap();
    fs.commit().unwrap();
    let empty = fs.status();
    let collection = fs.create_collection(&options("bytes")).unwrap();
    let mut churn = Churn { fs, collection, random: SeededRandom::new(seed) };
    let mut slots = 0;
    while churn.fs.status().blocks_free > empty.blocks / 10 {
        churn.replace(slots).unwrap();
        slots += 1;
    }
    churn.fs.commit().unwrap();
    let full = churn.fs.status();
    let bound = empty.blocks / 64;
    let mut most = 0;
    for round in 0..rounds(100_000) {
        let slot = churn.random.below(slots);
        if let Err(error) = churn.replace(slot) {
            panic!("seed {seed:#x}, replacement {round}: {error:?}, {:?}", churn.fs.status());
        }
        if round % 64 == 63 {
            churn.fs.commit().unwrap();
            let used = full.blocks_free.saturating_sub(churn.fs.status().blocks_free);
            most = most.max(used);
            assert!(used <= bound, "seed {seed:#x}, {round} replacements took {used} blocks more");
        }
    }
    println!("{slots} files; at most {most} blocks of {} more in use than at first", empty.blocks);
    churn.fs.commit().unwrap();
    if let Err(problem) = check_device(&device) {
        panic!("seed {seed:#x}: {problem}");
    }
    for slot in 0..slots {
        churn.fs.unlink(ROOT_INODE, &Churn::name(slot)).unwrap();
    }
    churn.fs.drop_collection(churn.fs.collection_number("bytes").unwrap()).unwrap();
    churn.fs.commit().unwrap();
    let end = churn.fs.status();
    assert_eq!((end.inodes, end.blocks_free), (empty.inodes, empty.blocks_free));
    check_device(&device).unwrap();
}
