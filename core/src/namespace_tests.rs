// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Names, links, renames, attributes and orphans, against a model and case by case.

use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::*;
use std::collections::{BTreeMap, BTreeSet};
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

const ROOT: u64 = layout::ROOT_INODE;

fn file(mode: u32) -> NewInode {
    NewInode { mode, owner: (1000, 100), device: 0 }
}

fn list(fs: &FileSystem, directory: u64) -> Vec<(Vec<u8>, u64)> {
    let mut entries = Vec::new();
    fs.read_directory(directory, 0, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.inode));
        true
    })
    .unwrap();
    entries
}

fn paths(fs: &FileSystem, number: u64) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    fs.paths(number, ROOT, Caller::default(), &Serial, &mut |path| {
        paths.insert(String::from_utf8(path.to_vec()).unwrap())
    })
    .unwrap();
    paths
}

/// Directories and what their names lead to; inode kinds.
#[derive(Default)]
struct Model {
    directories: BTreeMap<u64, BTreeMap<Vec<u8>, u64>>,
}

impl Model {
    fn is_directory(&self, inode: u64) -> bool {
        self.directories.contains_key(&inode)
    }
    fn parent(&self, directory: u64) -> Option<u64> {
        self.directories
            .iter()
            .find(|(_, entries)| entries.values().any(|inode| *inode == directory))
            .map(|(number, _)| *number)
    }
    fn is_below(&self, mut directory: u64, ancestor: u64) -> bool {
        loop {
            if directory == ancestor {
                return true;
            }
            match self.parent(directory) {
                Some(parent) => directory = parent,
                None => return false,
            }
        }
    }
    fn check(&self, fs: &FileSystem) {
        let mut names: BTreeMap<u64, u32> = BTreeMap::new();
        for (number, entries) in &self.directories {
            let mut found = list(fs, *number);
            assert_eq!((&found[0].0[..], found[0].1), (&b"."[..], *number));
            assert_eq!(found[1].1, self.parent(*number).unwrap_or(ROOT));
            found.drain(..2);
            found.sort();
            let expected: Vec<_> = entries.iter().map(|(k, v)| (k.clone(), *v)).collect();
            assert_eq!(found, expected);
            let inode = fs.inode(*number).unwrap();
            let below = entries.values().filter(|inode| self.is_directory(**inode)).count();
            assert_eq!((inode.size, inode.links), (entries.len() as u64, 2 + below as u32));
            for inode in entries.values() {
                *names.entry(*inode).or_default() += 1;
            }
        }
        for (number, count) in &names {
            let inode = fs.inode(*number).unwrap();
            if !self.is_directory(*number) {
                assert_eq!(inode.links, *count);
            }
            let mut links = 0;
            fs.parents(*number, &mut |parent, name| {
                assert_eq!(self.directories[&parent][name], *number);
                links += 1;
                true
            })
            .unwrap();
            assert_eq!(links, *count);
        }
        assert_eq!(fs.status().inodes, names.len() as u64 + 1);
        assert!(fs.orphans().unwrap().is_empty());
    }
}

#[test]
fn names_links_and_renames_agree_with_a_model() {
    for seed in 1..=4 {
        let memory = Memory::new(24 << 20);
        let mut fs = format(&memory, 12);
        let free = fs.status().blocks_free;
        let mut rng = Rng(seed * 7919);
        let mut model = Model::default();
        model.directories.insert(ROOT, BTreeMap::new());
        for step in 0..6000 {
            let pick = |rng: &mut Rng, model: &Model| {
                let at = rng.below(model.directories.len() as u64) as usize;
                *model.directories.keys().nth(at).unwrap()
            };
            let (a, b) = (pick(&mut rng, &model), pick(&mut rng, &model));
            let name = |rng: &mut Rng| rng.below(12).to_string().into_bytes();
            let (x, y) = (name(&mut rng), name(&mut rng));
            let at_x = model.directories[&a].get(&x).copied();
            let at_y = model.directories[&b].get(&y).copied();
            match rng.below(8) {
                kind @ 0..=2 => {
                    let is_directory = kind == 0 && model.directories.len() < 12;
                    let result = if kind == 2 {
                        fs.create_symlink(a, &x, b"target", (1, 1))
                    } else {
                        fs.create(a, &x, &file(if is_directory { 0o040755 } else { 0o100644 }))
                    };
                    match at_x {
                        Some(_) => assert_eq!(result, Err(Error::Exists)),
                        None => {
                            let number = result.unwrap();
                            model.directories.get_mut(&a).unwrap().insert(x, number);
                            if is_directory {
                                model.directories.insert(number, BTreeMap::new());
                            }
                        }
                    }
                }
                3 => {
                    let Some(number) = at_x else { continue };
                    let result = fs.link(number, b, &y);
                    if model.is_directory(number) {
                        assert_eq!(result, Err(Error::NotPermitted));
                    } else if at_y.is_some() {
                        assert_eq!(result, Err(Error::Exists));
                    } else {
                        result.unwrap();
                        model.directories.get_mut(&b).unwrap().insert(y, number);
                    }
                }
                4 => {
                    let result = fs.unlink(a, &x);
                    match at_x {
                        None => assert_eq!(result, Err(Error::NotFound)),
                        Some(n) if model.is_directory(n) => {
                            assert_eq!(result, Err(Error::IsDirectory))
                        }
                        Some(_) => {
                            result.unwrap();
                            model.directories.get_mut(&a).unwrap().remove(&x);
                        }
                    }
                }
                5 => {
                    let result = fs.remove_directory(a, &x);
                    match at_x {
                        None => assert_eq!(result, Err(Error::NotFound)),
                        Some(n) if !model.is_directory(n) => {
                            assert_eq!(result, Err(Error::NotDirectory))
                        }
                        Some(n) if !model.directories[&n].is_empty() => {
                            assert_eq!(result, Err(Error::NotEmpty))
                        }
                        Some(n) => {
                            result.unwrap();
                            model.directories.remove(&n);
                            model.directories.get_mut(&a).unwrap().remove(&x);
                        }
                    }
                }
                _ => {
                    let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange]
                        [rng.below(3) as usize];
                    let result = fs.rename(a, &x, b, &y, mode);
                    let below = |n: u64, of: u64| model.is_directory(n) && model.is_below(of, n);
                    let expected = match (at_x, at_y) {
                        (None, _) => Err(Error::NotFound),
                        (_, Some(_)) if mode == RenameMode::NoReplace => Err(Error::Exists),
                        (_, None) if mode == RenameMode::Exchange => Err(Error::NotFound),
                        (Some(n), _) if below(n, b) => Err(Error::Invalid("")),
                        (_, Some(m)) if mode == RenameMode::Exchange && below(m, a) => {
                            Err(Error::Invalid(""))
                        }
                        (Some(n), Some(m)) if n != m && mode == RenameMode::Replace => {
                            match (model.is_directory(n), model.is_directory(m)) {
                                (true, false) => Err(Error::NotDirectory),
                                (false, true) => Err(Error::IsDirectory),
                                (true, true) if !model.directories[&m].is_empty() => {
                                    Err(Error::NotEmpty)
                                }
                                _ => Ok(()),
                            }
                        }
                        _ => Ok(()),
                    };
                    let errno = |result: &Result<()>| result.map_err(|error| error.errno());
                    assert_eq!(errno(&result), errno(&expected), "seed {seed} step {step}");
                    if result.is_ok() && at_x != at_y {
                        let n = at_x.unwrap();
                        model.directories.get_mut(&a).unwrap().remove(&x);
                        if let (RenameMode::Exchange, Some(m)) = (mode, at_y) {
                            model.directories.get_mut(&a).unwrap().insert(x, m);
                        } else if let Some(m) = at_y {
                            model.directories.remove(&m);
                        }
                        model.directories.get_mut(&b).unwrap().insert(y, n);
                    }
                }
            }
            if rng.below(500) == 0 {
                model.check(&fs);
                fs.commit().unwrap();
                drop(fs);
                fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
                model.check(&fs);
            }
        }
        model.check(&fs);
        // Everything removed, leaves first, all space is back.
        while model.directories.values().any(|entries| !entries.is_empty()) {
            for directory in model.directories.keys().copied().collect::<Vec<_>>() {
                let entries = model.directories.get(&directory).cloned().unwrap_or_default();
                for (name, number) in entries {
                    if !model.is_directory(number) {
                        fs.unlink(directory, &name).unwrap();
                    } else if model.directories[&number].is_empty() {
                        fs.remove_directory(directory, &name).unwrap();
                        model.directories.remove(&number);
                    } else {
                        continue;
                    }
                    model.directories.get_mut(&directory).unwrap().remove(&name);
                }
            }
        }
        fs.commit().unwrap();
        assert_eq!(fs.status().blocks_free, free);
    }
}

#[test]
fn listing_goes_on_where_it_stopped_while_entries_come_and_go() {
    let memory = Memory::new(64 << 20);
    let fs = format(&memory, 12);
    let directory = fs.create(ROOT, b"many", &file(0o040755)).unwrap();
    for n in 0..20_000 {
        fs.create(directory, n.to_string().as_bytes(), &file(0o100600)).unwrap();
    }
    let (mut seen, mut position, mut round) = (BTreeSet::new(), 0, 0);
    loop {
        let mut batch = 0;
        let before = position;
        fs.read_directory(directory, position, &mut |entry| {
            if batch == 137 {
                return false;
            }
            assert!(entry.next > position || entry.name == b".");
            assert!(seen.insert(entry.name.to_vec()), "an entry was listed twice");
            position = entry.next;
            batch += 1;
            true
        })
        .unwrap();
        if position == before {
            break;
        }
        // Names above 10,000 stay and must all be seen; the others come and go.
        for n in round * 100..(round + 1) * 100 {
            let _ = fs.unlink(directory, (n % 10_000).to_string().as_bytes());
            let _ = fs.create(directory, std::format!("new{n}").as_bytes(), &file(0o100600));
        }
        round += 1;
    }
    for n in 10_000..20_000 {
        assert!(seen.contains(n.to_string().as_bytes()), "entry {n} was missed");
    }
}

#[test]
fn names_are_checked() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let make = |name: &[u8]| fs.create(ROOT, name, &file(0o100644)).map(|_| ());
    assert_eq!(make(b""), Err(Error::NotFound));
    assert_eq!(make(&[b'x'; 256]), Err(Error::NameTooLong));
    assert_eq!(make(&[b'x'; 255]), Ok(()));
    assert_eq!(fs.lookup(ROOT, &[b'x'; 256]), Err(Error::NameTooLong));
    assert!(fs.lookup(ROOT, &[b'x'; 255]).is_ok());
    for bad in [&b"."[..], b"..", b"a/b", b"a\0b"] {
        assert_eq!(make(bad).map_err(|error| error.errno()), Err(22));
    }
    assert_eq!(make(b"\xff\xfe\n"), Ok(()));
    assert!(fs.lookup(ROOT, b"\xff\xfe\n").is_ok());
    assert_eq!(fs.lookup(ROOT, b"."), Ok(ROOT));
    assert_eq!(fs.lookup(ROOT, b".."), Ok(ROOT));
    let number = fs.lookup(ROOT, &[b'x'; 255]).unwrap();
    assert_eq!(fs.lookup(number, b"y"), Err(Error::NotDirectory));
    assert_eq!(fs.inode(99_999), Err(Error::Stale));
    assert_eq!(
        fs.create(ROOT, b"m", &file(0o170000)).map_err(|error| error.errno()),
        Err(22),
        "a mode of no known type"
    );
}

#[test]
fn nodes_links_paths_and_attributes_of_an_inode() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let a = fs.create(ROOT, b"a", &file(0o040755)).unwrap();
    let b = fs.create(a, b"b", &file(0o040755)).unwrap();
    assert_eq!(fs.lookup(b, b".."), Ok(a));
    let device =
        fs.create(b, b"null", &NewInode { mode: 0o020666, owner: (0, 0), device: (1 << 32) | 3 });
    let device = device.unwrap();
    fs.link(device, ROOT, b"other").unwrap();
    assert_eq!(paths(&fs, device), ["/a/b/null", "/other"].map(String::from).into());
    assert_eq!(paths(&fs, b), ["/a/b".to_string()].into());
    assert_eq!(paths(&fs, ROOT), ["/".to_string()].into());
    assert_eq!(fs.inode(device).unwrap().device, (1 << 32) | 3);
    for length in [1, 60, 1000, 4095] {
        let target = std::vec![b't'; length];
        let name = std::format!("link{length}");
        let link = fs.create_symlink(a, name.as_bytes(), &target, (0, 0)).unwrap();
        assert_eq!(fs.read_link(link).unwrap(), target);
    }
    let long = [b't'; 4096];
    assert_eq!(fs.create_symlink(a, b"long", &long, (0, 0)), Err(Error::NameTooLong));
    assert_eq!(fs.read_link(a).map_err(|error| error.errno()), Err(22));

    let before = fs.inode(b).unwrap();
    let time = Timestamp { seconds: -5, nanoseconds: 999_999_999 };
    let set = SetAttributes {
        mode: Some(0o2711),
        uid: Some(7),
        accessed: Some(time),
        flags: Some(0x10),
        ..Default::default()
    };
    let after = fs.set_attributes(b, &set).unwrap();
    assert_eq!((after.mode, after.uid, after.gid), (0o042711, 7, before.gid));
    assert_eq!((after.accessed, after.modified), (time, before.modified));
    assert!(after.change > before.change && after.flags == 0x10);
    assert_eq!(fs.inode(b), Ok(after));
    let accessed = SetAttributes { accessed: Some(before.accessed), ..Default::default() };
    let read = fs.set_attributes(b, &accessed).unwrap();
    assert_eq!(
        (read.accessed, read.changed, read.change),
        (before.accessed, after.changed, after.change)
    );
    let changed = SetAttributes { changed: Some(time), ..Default::default() };
    assert_eq!(fs.set_attributes(b, &changed).unwrap().changed, time);
    let bad = SetAttributes {
        modified: Some(Timestamp { seconds: 0, nanoseconds: 1_000_000_000 }),
        ..Default::default()
    };
    assert_eq!(fs.set_attributes(b, &bad).map_err(|error| error.errno()), Err(22));
}

#[test]
fn an_unlinked_file_lives_while_it_is_held_and_no_longer_after_a_crash() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let free = fs.status().blocks_free;
    let number = fs.create(ROOT, b"f", &file(0o100644)).unwrap();
    fs.open_inode(number).unwrap();
    fs.open_inode(number).unwrap();
    fs.unlink(ROOT, b"f").unwrap();
    assert_eq!(fs.inode(number).unwrap().links, 0);
    fs.close_inode(number).unwrap();
    assert!(fs.inode(number).is_ok(), "gone although it is still held");
    fs.close_inode(number).unwrap();
    assert_eq!(fs.inode(number), Err(Error::Stale));
    assert_eq!(fs.open_inode(number), Err(Error::Stale));

    // Held at the time of a crash: the note is found and the inode taken apart.
    let number = fs.create(ROOT, b"g", &file(0o100644)).unwrap();
    fs.open_inode(number).unwrap();
    fs.unlink(ROOT, b"g").unwrap();
    let unnamed = fs.create_unnamed(&file(0o100600), &[]).unwrap();
    let named = fs.create_unnamed(&file(0o100600), &[]).unwrap();
    fs.link(named, ROOT, b"named").unwrap();
    fs.close_inode(named).unwrap();
    assert_eq!(fs.orphans().unwrap(), [number, unnamed]);
    fs.commit().unwrap();
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    assert_eq!(fs.reap_orphans(), Ok(2));
    assert_eq!(fs.inode(number), Err(Error::Stale));
    assert_eq!(fs.status().inodes, 2);
    fs.unlink(ROOT, b"named").unwrap();
    fs.commit().unwrap();
    assert_eq!(fs.status().blocks_free, free);
}

#[test]
fn extended_attributes_small_and_large() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let free = fs.status().blocks_free;
    let number = fs.create(ROOT, b"f", &file(0o100644)).unwrap();
    let names = |fs: &FileSystem| {
        let mut names = BTreeSet::new();
        fs.list_xattrs(number, &mut |name| names.insert(name.to_vec())).unwrap();
        names
    };
    assert_eq!(fs.get_xattr(number, b"user.x"), Err(Error::NoAttribute));
    let set = |name: &[u8], length: usize, mode| {
        let value: Vec<u8> = (0..length).map(|i| (i * 7 + name.len()) as u8).collect();
        fs.set_xattr(number, name, &value, mode)?;
        assert_eq!(fs.get_xattr(number, name).unwrap(), value);
        Ok(())
    };
    assert_eq!(set(b"user.x", 3, XattrMode::Replace), Err(Error::NoAttribute));
    set(b"user.x", 3, XattrMode::Create).unwrap();
    assert_eq!(set(b"user.x", 3, XattrMode::Create), Err(Error::Exists));
    for length in [0, 1024, 1025, 65_536, 10, 4096, 4097, 65_535] {
        set(b"user.x", length, XattrMode::Set).unwrap();
        set(&[b'n'; 255], length, XattrMode::Set).unwrap();
        fs.commit().unwrap();
    }
    assert_eq!(set(b"user.x", 65_537, XattrMode::Set), Err(Error::TooBig("value of an attribute")));
    assert_eq!(set(&[b'n'; 256], 1, XattrMode::Set), Err(Error::Range));
    assert_eq!(set(b"", 1, XattrMode::Set).map_err(|error: Error| error.errno()), Err(22));
    assert_eq!(names(&fs).len(), 2);
    fs.remove_xattr(number, b"user.x").unwrap();
    assert_eq!(fs.remove_xattr(number, b"user.x"), Err(Error::NoAttribute));
    assert_eq!(names(&fs), [std::vec![b'n'; 255]].into());
    for n in 0..300 {
        set(std::format!("user.{n}").as_bytes(), n * 13, XattrMode::Set).unwrap();
    }
    assert_eq!(names(&fs).len(), 301);
    fs.unlink(ROOT, b"f").unwrap();
    fs.commit().unwrap();
    assert!(fs.orphans().unwrap().is_empty());
    assert_eq!(fs.status().blocks_free, free);
}

#[test]
fn changes_that_take_no_space_work_on_a_full_file_system_and_leave_room_to_delete() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let number = fs.create(ROOT, b"f", &file(0o100644)).unwrap();
    let (name, value) = (b"user.a", [7; 64]);
    fs.set_xattr(number, name, &value, XattrMode::Set).unwrap();
    fs.preallocate(number, 0, 64 << 10, true).unwrap();
    let filler = fs.create(ROOT, b"filler", &file(0o100644)).unwrap();
    let mut end = 0;
    for length in [1 << 20, 64 << 10, 4096] {
        while fs.write(filler, end, &std::vec![1; length]).is_ok() {
            end += length as u64;
        }
    }
    let mut made = 0;
    while fs.create(ROOT, std::format!("e{made}").as_bytes(), &file(0o100644)).is_ok() {
        made += 1;
    }
    for round in 0..2000_u32 {
        let mode = Some(0o600 + round % 2);
        fs.set_attributes(number, &SetAttributes { mode, ..Default::default() }).unwrap();
        fs.set_xattr(number, name, &[round as u8; 64], XattrMode::Replace).unwrap();
        let (from, to) = if round % 2 == 0 { (b"f", b"g") } else { (b"g", b"f") };
        fs.rename(ROOT, from, ROOT, to, RenameMode::Replace).unwrap();
        fs.touch_data(number, Timestamp::default()).unwrap();
    }
    // What was allocated can be written.
    fs.write(number, 0, &[9; 64 << 10]).unwrap();
    // Longer and longer names end at some time; deleting does not.
    for at in 0..made {
        let long = std::format!("{}{at}", "n".repeat(240));
        let from = std::format!("e{at}");
        if fs.rename(ROOT, from.as_bytes(), ROOT, long.as_bytes(), RenameMode::Replace).is_err() {
            fs.unlink(ROOT, from.as_bytes()).unwrap();
        }
    }
    fs.unlink(ROOT, b"filler").unwrap();
    fs.commit().unwrap();
    fs.write(number, 1 << 20, &[1; 1 << 20]).unwrap();
}

/// Directories of a damaged image may be above each other.
#[test]
fn a_rename_ends_when_directories_are_their_own_ancestors() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let directory = NewInode { mode: MODE_DIRECTORY | 0o755, owner: (0, 0), device: 0 };
    let a = fs.create(ROOT, b"a", &directory).unwrap();
    let b = fs.create(a, b"b", &directory).unwrap();
    fs.create(ROOT, b"moved", &directory).unwrap();
    fs.operation(8, true, |tree| {
        let (parent, cookie) = crate::link::first(tree, a)?.unwrap();
        crate::link::remove(tree, a, parent, cookie)?;
        crate::link::add(tree, a, b, cookie)?;
        tree.state.inodes = u64::MAX;
        Ok(())
    })
    .unwrap();
    let renamed = fs.rename(ROOT, b"moved", b, b"moved", RenameMode::Replace);
    assert!(matches!(renamed, Err(Error::Corrupt { .. })), "{renamed:?}");
}

#[test]
fn a_superblock_that_counts_more_inodes_than_there_can_be_is_refused() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    for more in 1..=2 {
        fs.operation(1, true, |tree| {
            tree.state.inodes = INODES_MAX + more;
            Ok(())
        })
        .unwrap();
        fs.commit().unwrap();
    }
    let opened = FileSystem::open(memory.host(), &OpenOptions::default()).err();
    assert!(matches!(opened, Some(Error::Corrupt { .. })), "{opened:?}");
}

/// Between an unlink and the first step of taking the inode apart, and between any two steps.
#[test]
fn an_inode_that_is_being_taken_apart_gets_no_name_and_no_vector() {
    use vexfs_simd::{ElementType, Metric, Shape};
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let shape = Shape { element: ElementType::F32, metric: Metric::L2, dimension: 2 };
    let options = CollectionOptions {
        name: "c",
        shape,
        model: "",
        quantization: Quantization::None,
        degree: 0,
        build_effort: 0,
    };
    let collection = fs.create_collection(&options).unwrap();
    let vector = crate::vector_tests::put(0, &[0; 8]);
    let free = fs.status().blocks_free;
    let number = fs.create(ROOT, b"f", &file(MODE_FILE | 0o644)).unwrap();
    fs.write(number, 0, &[7; 100_000]).unwrap();
    fs.open_inode(number).unwrap();
    fs.unlink(ROOT, b"f").unwrap();
    // Held, it can have both.
    fs.put_vectors(collection, number, &[vector]).unwrap();
    fs.link(number, ROOT, b"again").unwrap();
    fs.unlink(ROOT, b"again").unwrap();
    assert!(fs.open_files.write().release(number));

    assert_eq!(fs.link(number, ROOT, b"revived"), Err(Error::Stale));
    assert_eq!(fs.put_vectors(collection, number, &[vector]), Err(Error::Stale));
    assert_eq!(fs.reap_orphans(), Ok(1));
    assert_eq!(fs.inode(number), Err(Error::Stale));
    assert_eq!((fs.orphans().unwrap(), list(&fs, ROOT).len()), (Vec::new(), 2));
    fs.commit().unwrap();
    assert!(fs.status().blocks_free + 4 >= free);
}

#[test]
fn an_orphan_that_is_damaged_does_not_keep_the_others_from_being_taken_apart() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let numbers = [(); 3].map(|()| fs.create_unnamed(&file(MODE_FILE | 0o600), &[]).unwrap());
    let [first, damaged, last] = numbers;
    fs.write(damaged, 0, &[7; 10_000]).unwrap();
    fs.operation(4, true, |tree| {
        let item = tree.get_mut(key::Key::new(damaged, key::Kind::Extent, 0))?;
        item[0..8].fill(0xff);
        Ok(())
    })
    .unwrap();
    fs.commit().unwrap();
    drop(fs);
    let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
    assert_eq!(fs.reap_orphans(), Ok(2));
    assert_eq!(fs.orphans().unwrap(), [damaged]);
    assert_eq!((fs.inode(first), fs.inode(last)), (Err(Error::Stale), Err(Error::Stale)));
    // Nor does it keep those to come.
    let next = fs.create(ROOT, b"f", &file(MODE_FILE | 0o600)).unwrap();
    fs.reap_later();
    fs.unlink(ROOT, b"f").unwrap();
    assert_eq!(fs.inode(next), Err(Error::Stale));
}

#[test]
fn a_rename_can_leave_something_behind() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let moved = fs.create(ROOT, b"a", &file(MODE_FILE | 0o644)).unwrap();
    let replaced = fs.create(ROOT, b"b", &file(MODE_FILE | 0o644)).unwrap();
    let whiteout = file(MODE_CHARACTER);
    let label = NewAttribute { name: b"security.label", value: b"inherited" };
    let labelled = (&whiteout, &[label][..]);
    fs.rename_leaving(ROOT, b"a", ROOT, b"b", RenameMode::Replace, labelled).unwrap();
    assert_eq!(fs.lookup(ROOT, b"b"), Ok(moved));
    assert_eq!(fs.inode(replaced).unwrap_err(), Error::Stale);
    let left = fs.inode(fs.lookup(ROOT, b"a").unwrap()).unwrap();
    assert_eq!((left.mode, left.device, left.links), (MODE_CHARACTER, 0, 1));
    let value = fs.get_xattr(fs.lookup(ROOT, b"a").unwrap(), label.name).unwrap();
    assert_eq!(value, label.value);
    let exchange = fs
        .rename_leaving(ROOT, b"a", ROOT, b"b", RenameMode::Exchange, (&whiteout, &[]))
        .unwrap_err();
    assert!(matches!(exchange, Error::Invalid(_)));
    let refused =
        fs.rename_leaving(ROOT, b"b", ROOT, b"a", RenameMode::NoReplace, (&whiteout, &[]));
    assert_eq!(refused, Err(Error::Exists));
    assert_eq!(list(&fs, ROOT).len(), 4, "with . and ..");
}

#[test]
fn no_state_has_a_new_inode_without_its_attributes() {
    let memory = Memory::new(8 << 20);
    let fs = format(&memory, 12);
    let values = [&b"who may"[..], &[7; 1024]];
    let attributes = [
        NewAttribute { name: b"system.posix_acl_access", value: values[0] },
        NewAttribute { name: b"system.posix_acl_default", value: values[1] },
    ];
    let long = NewAttribute { name: b"long", value: &[7; 1025] };
    assert!(matches!(
        fs.create_with_attributes(ROOT, b"f", &file(0o100600), &[long]),
        Err(Error::TooBig(_))
    ));
    // One makes files and the other takes states, neither far ahead.
    const FILES: u64 = 300;
    let (made, states) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut seen = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..FILES {
                while n > 4 * states.load(Ordering::SeqCst) + 8 {
                    std::thread::yield_now();
                }
                let name = std::format!("n{n}");
                let mode = if n % 2 == 0 { 0o040700 } else { 0o100600 };
                fs.create_with_attributes(ROOT, name.as_bytes(), &file(mode), &attributes).unwrap();
                fs.create_unnamed(&file(0o100600), &attributes).unwrap();
                made.store(n + 1, Ordering::SeqCst);
            }
        });
        while made.load(Ordering::SeqCst) < FILES {
            while made.load(Ordering::SeqCst) < 4 * states.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            fs.commit().unwrap();
            states.fetch_add(1, Ordering::SeqCst);
            let state = Memory::new(0);
            state.bytes.lock().unwrap().clone_from(&memory.bytes.lock().unwrap());
            let options = OpenOptions { read_only: true, ..OpenOptions::default() };
            let state = FileSystem::open(state.host(), &options).unwrap();
            let entries = list(&state, ROOT);
            seen += entries.len();
            for (name, number) in entries {
                if name == b"." || name == b".." {
                    continue;
                }
                for NewAttribute { name, value } in attributes {
                    assert_eq!(state.get_xattr(number, name).unwrap(), value);
                }
            }
        }
    });
    assert!(seen > 1000);
    fs.commit().unwrap();
    crate::data_tests::audit(&fs);
}
