// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Damaged nodes, superblocks and devices, and what a repair makes of them.
#![allow(clippy::type_complexity)]

use super::tests::*;
use super::*;
use crate::check::tests::*;
use crate::check::{Code, Kept};
use crate::inode::MODE_FILE;
use crate::key::{Key, Kind};
use crate::layout::*;
use crate::node::Node;
use crate::testing::Memory;
use crate::tree_tests::Rng;
use std::collections::BTreeSet;
use std::vec::Vec;
use zerocopy::FromBytes;

/// Publishes states until all copies name the same tree.
fn settle(memory: &Memory) {
    let fs = open(memory);
    for label in ["one", "two", "three", "four"] {
        fs.set_label(label).unwrap();
        fs.commit().unwrap();
    }
}

#[test]
fn a_damaged_newest_state_makes_way_for_the_one_before() {
    let memory = populated(12);
    let whole = contents(&memory);
    let fs = open(&memory);
    let data = fs.lookup(ROOT_INODE, b"data").unwrap();
    fs.write(data, 0, b"the latest change").unwrap();
    fs.commit().unwrap();
    drop(fs);
    // The root is new in every state.
    let root = open(&memory).reader().root().block;
    flip(&memory, root);
    assert!(codes_of(&memory).contains(&"node-checksum"));
    let keep = RepairOptions { older_state: false, ..Default::default() };
    let kept = repair(memory.host(), &keep, &mut (), &mut |_| {}).unwrap();
    assert!(!kept.has_changed() && kept.after.irreparable > 0);
    let mut events = Vec::new();
    let report = repair(memory.host(), &RepairOptions::default(), &mut (), &mut |event| {
        if let Event::OlderState { damaged, taken, .. } = event {
            events.push((*damaged, *taken));
        }
    })
    .unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(events, [(report.older_state + 1, report.older_state)]);
    assert_clean(&memory);
    assert!(contents(&memory) == whole, "the state before the change");
    // And it goes on from there.
    let fs = open(&memory);
    fs.write(data, 0, b"another change").unwrap();
    fs.commit().unwrap();
    drop(fs);
    assert_clean(&memory);
}

/// Every node of the newest tree with its level.
fn nodes(memory: &Memory) -> Vec<(u64, u8)> {
    let fs = open(memory);
    let tree = fs.reader();
    let (mut found, mut waiting) = (Vec::new(), std::vec![tree.root()]);
    while let Some(pointer) = waiting.pop() {
        found.push((pointer.block, pointer.level));
        if pointer.level > 0 {
            let node = tree.node(&pointer).unwrap();
            waiting.extend((0..node.count()).map(|at| node.child(at)));
        }
    }
    found
}

/// What a repair said of the states and of what it kept of the one it took.
fn repair_and_tell(memory: &Memory) -> (RepairReport, Vec<(&'static str, Kept)>) {
    let mut events = Vec::new();
    let report =
        repair(memory.host(), &RepairOptions::default(), &mut (), &mut |event| match event {
            Event::OlderState { taken_kept, .. } => events.push(("older", **taken_kept)),
            Event::KeptState { kept, .. } => events.push(("kept", **kept)),
            _ => {}
        })
        .unwrap();
    (report, events)
}

#[test]
fn a_damaged_leaf_of_a_large_commit_costs_what_it_held_and_not_the_commit() {
    let memory = Memory::new(8 << 20);
    FileSystem::format(memory.host(), &Default::default()).unwrap();
    let fs = open(&memory);
    for file in 0..200 {
        let name = std::format!("file {file}");
        let new = crate::NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
        let number = fs.create(ROOT_INODE, name.as_bytes(), &new).unwrap();
        fs.write(number, 0, name.as_bytes()).unwrap();
    }
    fs.commit().unwrap();
    drop(fs);
    let all = nodes(&memory);
    let leaves = all.iter().filter(|(_, level)| *level == 0);
    let most = 201 - 201 / leaves.clone().count() as u64 * 3;
    assert!(leaves.clone().count() > 6 && most > 100, "{all:?}");
    let image = memory.bytes.lock().unwrap().clone();
    for (block, _) in leaves {
        *memory.bytes.lock().unwrap() = image.clone();
        flip(&memory, *block);
        let (report, events) = repair_and_tell(&memory);
        assert!(report.is_clean() && report.older_state == 0 && report.cut_off == 1, "{report:?}");
        let [("kept", kept)] = &*events else { panic!("{events:?}") };
        assert!(kept.inodes_of == 201 && kept.inodes >= most, "block {block}: {kept:?}");
        assert!(assert_clean(&memory).inodes >= kept.inodes, "block {block}");
    }
}

#[test]
fn a_damaged_leaf_of_a_small_commit_costs_the_commit_and_not_what_it_held() {
    let memory = populated(12);
    settle(&memory);
    let whole = contents(&memory);
    let inodes = assert_clean(&memory).inodes;
    damage(&memory, |tree| change_inode(tree, b"data", |inode| inode.mode = MODE_FILE));
    let data = number(&open(&memory).reader(), b"data");
    flip(&memory, leaf_of(&memory, Key::new(data, Kind::Inode, 0)));
    let (report, events) = repair_and_tell(&memory);
    assert!(report.is_clean() && report.cut_off == 0, "{report:?}");
    let [("older", kept)] = &*events else { panic!("{events:?}") };
    assert_eq!(
        (kept.inodes, kept.inodes_of, kept.vectors, kept.vectors_of),
        (inodes, inodes, 10, 10)
    );
    assert!(contents(&memory) == whole);
}

#[test]
fn one_repair_is_enough_whichever_node_is_lost() {
    let memory = populated(12);
    // The rows and the extents of their bytes in leaves apart.
    let fs = open(&memory);
    fs.operation(64, true, |tree| {
        let rows_object = {
            let item = tree.get(collection(tree))?.unwrap();
            CollectionLayout::read_from_prefix(&item).unwrap().0.rows_object.get()
        };
        // Objects in between, so that the leaves part.
        let last = tree.state.next_object + 2000;
        tree.state.next_object = last + 1;
        let (key, item) = first(tree, rows_object, Kind::Extent);
        tree.remove(key)?;
        tree.put(Key::new(last, Kind::Extent, key.offset()), &[&item])?;
        change_item::<CollectionLayout>(tree, collection(tree), |head| {
            head.rows_object = last.into();
        })
    })
    .unwrap();
    for file in 0..60 {
        let name = std::format!("more {file}");
        let new = crate::NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
        fs.create(ROOT_INODE, name.as_bytes(), &new).unwrap();
    }
    fs.commit().unwrap();
    drop(fs);
    settle(&memory);
    assert_clean(&memory);
    let image = memory.bytes.lock().unwrap().clone();
    assert!(nodes(&memory).len() > 10);
    for (block, _) in nodes(&memory) {
        *memory.bytes.lock().unwrap() = image.clone();
        flip(&memory, block);
        let (report, events) = repair_and_tell(&memory);
        assert!(report.is_clean() || report.after.nodes == 0, "block {block}: {report:?}");
        // No more was promised than is left.
        for (_, kept) in events {
            let inodes = report.after.inodes + report.before.orphans;
            let vectors = report.after.vectors;
            assert!(kept.inodes <= inodes && kept.vectors <= vectors, "block {block}: {kept:?}");
        }
        if report.is_clean() {
            assert_clean(&memory);
        }
    }
}

#[test]
fn an_older_state_that_is_damaged_too_is_taken_when_the_root_is_lost() {
    let memory = populated(12);
    settle(&memory);
    let inodes = assert_clean(&memory).inodes;
    let leaf = leaf_of(&memory, Key::new(FIRST_OBJECT + 90, Kind::Inode, 0));
    damage(&memory, |tree| change_inode(tree, b"data", |inode| inode.mode = MODE_FILE));
    flip(&memory, leaf);
    flip(&memory, open(&memory).reader().root().block);
    let (report, events) = repair_and_tell(&memory);
    assert!(report.is_clean() && report.older_state > 0 && report.cut_off == 1, "{report:?}");
    assert_eq!(events.iter().map(|event| event.0).collect::<Vec<_>>(), ["older", "kept"]);
    assert!(assert_clean(&memory).inodes > inodes / 2);
}

#[test]
fn a_damaged_leaf_that_every_state_has_is_cut_off_and_the_rest_is_kept() {
    for name in [&b"data"[..], b"clone", b"holes", b"inline"] {
        let memory = populated(12);
        settle(&memory);
        let whole = contents(&memory);
        let object = number(&open(&memory).reader(), name);
        flip(&memory, leaf_of(&memory, Key::new(object, Kind::Inode, 0)));
        let keep = RepairOptions { cut_damaged: false, ..Default::default() };
        let kept = repair(memory.host(), &keep, &mut (), &mut |_| {}).unwrap();
        assert!(kept.cut_off == 0 && kept.after.irreparable > 0);
        let report = repair_all(&memory);
        assert!(report.is_clean() && report.cut_off == 1, "{report:?}");
        assert_clean(&memory);
        // What is read is what was written: nothing is made up.
        for (after, before) in contents(&memory).into_iter().zip(&whole) {
            let Some(after) = after else { continue };
            let before = before.as_ref().unwrap();
            assert!(after.len() <= before.len().next_multiple_of(4096));
            let same = after.iter().zip(before).all(|(a, b)| a == b || *a == 0);
            assert!(same, "bytes of nowhere");
        }
    }
}

#[test]
fn the_first_leaf_with_the_free_space_may_be_lost() {
    let memory = populated(12);
    settle(&memory);
    let whole = contents(&memory);
    flip(&memory, leaf_of(&memory, Key::new(0, Kind::Group, 0)));
    let report = repair_all(&memory);
    assert!(report.is_clean(), "{report:?}");
    assert_clean(&memory);
    let names: BTreeSet<_> = codes_of(&memory).into_iter().collect();
    assert!(names.is_empty());
    assert_eq!(contents(&memory).len(), whole.len());
}

#[test]
fn nodes_whose_content_lies_are_found() {
    let key = Key::new(FIRST_OBJECT + 40, Kind::Inode, 0);
    let cases: [(&str, u8, fn(&mut Node)); 5] = [
        ("node-reserved", 0, |node| node.edit(40, 1)),
        ("node-malformed", 0, |node| node.edit(0, 1)),
        ("node-malformed", 0, |node| node.edit(16, 0x55)),
        ("node-key-range", 0, |node| node.set_key(0, Key::MIN)),
        ("node-used-twice", 1, |node| {
            let first = node.child(0);
            node.set_child(1, &first);
        }),
    ];
    for (code, level, change) in cases {
        let memory = populated(12);
        edit_node(&memory, key, level, change);
        assert!(codes_of(&memory).contains(&code), "{code}: {:?}", codes_of(&memory));
        let report = repair_all(&memory);
        let cosmetic = code == "node-reserved";
        assert!(report.is_clean() || cosmetic, "{code}: {report:?}");
    }
}

#[test]
fn a_leaf_that_reaches_into_the_next_is_never_merged_with_it() {
    let key = Key::new(FIRST_OBJECT + 40, Kind::Inode, 0);
    for first in [false, true] {
        let memory = populated(12);
        let keys = |fs: &FileSystem| {
            let mut keys = Vec::new();
            let each = |key, _: &[u8]| {
                keys.push(key);
                Ok(keys.len() < 100_000)
            };
            fs.reader().scan(Key::MIN, Key::MAX, each).unwrap();
            keys
        };
        let before = keys(&open(&memory));
        edit_node(&memory, key, 0, |node| match first {
            true => node.set_key(0, Key::MIN),
            false => node.set_key(node.count() - 1, Key::MAX),
        });
        let fs = open(&memory);
        let mut refused = 0;
        for key in before.iter().filter(|key| key.kind_number() != Kind::Group as u8) {
            match fs.operation(8, true, |tree| tree.remove(*key)) {
                Err(Error::Corrupt { .. }) => refused += 1,
                result => assert!(matches!(result, Ok(()) | Err(Error::NotFound)), "{result:?}"),
            }
        }
        let left = keys(&fs).len();
        assert!(refused > 0 && left < before.len(), "{refused} of {}, {left} left", before.len());
    }
}

#[test]
fn copies_of_the_superblock_are_written_anew() {
    let whole = contents(&populated(12));
    let end = 8 << 20;
    let offsets = [64 << 10, 128 << 10, end - (64 << 10), end - (128 << 10)];
    // Any set of damaged copies that leaves one. With the last state's two copies gone the state
    // before it is the newest.
    for damaged in 1..15u32 {
        let memory = populated(12);
        for (copy, offset) in offsets.iter().enumerate() {
            if damaged >> copy & 1 == 1 {
                memory.bytes.lock().unwrap()[offset + 200] ^= 1;
            }
        }
        assert!(codes_of(&memory).contains(&"superblock-damaged"));
        // Which of the two states was the newer one nobody can tell.
        let lost = damaged & 0b0101 == 0b0101 || damaged & 0b1010 == 0b1010;
        assert_eq!(codes_of(&memory).contains(&"state-lost"), lost, "{damaged:b}");
        if lost {
            let before = memory.bytes.lock().unwrap().clone();
            let report = preen(&memory);
            assert!(report.after.damage == 1 && !report.has_changed(), "{damaged:b}: {report:?}");
            assert!(before == *memory.bytes.lock().unwrap(), "{damaged:b}: something was written");
        }
        let report = repair_all(&memory);
        assert!(report.is_clean(), "{damaged:b}: {report:?}");
        assert_eq!(assert_clean(&memory).superblocks, 4);
        if damaged & 0b0101 != 0b0101 && damaged & 0b1010 != 0b1010 {
            assert!(contents(&memory) == whole, "{damaged:b}");
        }
    }
    let cases: [(&str, usize, fn(&mut crate::superblock::Superblock)); 2] = [
        ("superblock-differs", 1, |state| state.created_seconds += 1),
        ("superblock-mirror", 2, |state| state.writer += 1),
    ];
    for (code, copy, change) in cases {
        let memory = populated(12);
        let host = memory.host();
        let copies = read_copies(&host).unwrap();
        let mut state = copies[copy].unwrap();
        change(&mut state);
        // The copy goes where its generation belongs.
        let slot = (state.generation % 2) as usize;
        if copy < 2 && slot == copy {
            state.publish(&host, &mut std::vec![0; SUPERBLOCK_BYTES]).unwrap();
        } else {
            state.mirror(&host, &mut std::vec![0; SUPERBLOCK_BYTES]).unwrap();
        }
        assert!(codes_of(&memory).contains(&code), "{code}: {:?}", codes_of(&memory));
        assert!(repair_all(&memory).is_clean(), "{code}");
        assert!(contents(&memory) == whole, "{code}");
    }
}

#[test]
fn a_new_file_system_without_its_second_state_has_lost_nothing() {
    let memory = Memory::new(8 << 20);
    FileSystem::format(memory.host(), &Default::default()).unwrap();
    for offset in [64 << 10, (8 << 20) - (64 << 10)] {
        memory.bytes.lock().unwrap()[offset..offset + 4096].fill(0);
    }
    assert_eq!(codes_of(&memory), ["superblock-damaged"]);
    assert!(preen(&memory).is_clean());
}

#[test]
fn a_copy_that_was_left_behind_is_noticed() {
    let memory = populated(12);
    let place = (8 << 20) - (128 << 10)..(8 << 20) - (124 << 10);
    let old = memory.bytes.lock().unwrap()[place.clone()].to_vec();
    settle(&memory);
    settle(&memory);
    memory.bytes.lock().unwrap()[place].copy_from_slice(&old);
    assert_eq!(codes_of(&memory), ["superblock-behind"]);
    assert!(repair_all(&memory).is_clean());
    assert_clean(&memory);
}

#[test]
fn what_the_device_cannot_read_is_reported() {
    let memory = populated(12);
    let (data, root) = {
        let fs = open(&memory);
        let tree = fs.reader();
        let item = tree.get(first_extent(&tree, b"data")).unwrap().unwrap();
        let head = ExtentLayout::read_from_prefix(&item).unwrap().0;
        (head.block.get() + 2, tree.root().block)
    };
    for (block, code) in [(data, Code::DataUnreadable), (root, Code::NodeUnreadable)] {
        memory.unreadable.store(block << 12, std::sync::atomic::Ordering::SeqCst);
        let (_, findings) = findings_of(&memory);
        let found = findings.iter().filter(|finding| finding.code == code);
        assert!(found.clone().count() > 0 && found.clone().all(|f| f.place.block == block));
    }
}

#[test]
fn damaged_data_is_reported_and_the_file_kept() {
    let memory = populated(12);
    let whole = contents(&memory);
    let block = {
        let fs = open(&memory);
        let tree = fs.reader();
        let key = first_extent(&tree, b"holes");
        let item = tree.get(key).unwrap().unwrap();
        ExtentLayout::read_from_prefix(&item).unwrap().0.block.get()
    };
    flip(&memory, block);
    assert_eq!(codes_of(&memory), ["data-checksum"]);
    let report = repair_all(&memory);
    assert!(!report.has_changed() && report.after.irreparable == 1);
    let after = contents(&memory);
    assert!(after[0] == whole[0] && after[1] == whole[1] && after[3] == whole[3]);
    assert!(after[2].is_none(), "reading a damaged block must fail");
}

/// The device block with the vectors of the collection.
fn rows_block(memory: &Memory) -> u64 {
    let fs = open(memory);
    let tree = fs.reader();
    let head = tree.get(collection(&tree)).unwrap().unwrap();
    let stream = CollectionLayout::read_from_prefix(&head).unwrap().0.rows_object.get();
    let extent = tree.get(Key::new(stream, Kind::Extent, 0)).unwrap().unwrap();
    ExtentLayout::read_from_prefix(&extent).unwrap().0.block.get()
}

/// The vectors of the two files, by file and chunk; `None` for those that are damaged.
fn vectors(fs: &FileSystem) -> Vec<(bool, u32, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    for name in [b"data".as_slice(), b"inline"] {
        let inode = fs.lookup(ROOT_INODE, name).unwrap();
        for chunk in 0..11 {
            match fs.get_vector(1, inode, chunk) {
                Ok((_, bytes)) => found.push((name == b"data", chunk, Some(bytes))),
                Err(Error::NotFound) => {}
                Err(error) => {
                    assert!(error.is_damage(), "{error:?}");
                    found.push((name == b"data", chunk, None));
                }
            }
        }
    }
    found
}

#[test]
fn damage_in_a_block_costs_the_vectors_that_it_meets() {
    // In row 5, which is chunk 2 of the second file; in row 3, which is free; behind the last row.
    for (at, row) in [(5 * 24 + 7, Some(5)), (3 * 24, None), (3000, None)] {
        for repaired in [false, true] {
            let memory = populated(12);
            let whole = vectors(&open(&memory));
            assert!(whole.len() == 10 && whole.iter().all(|vector| vector.2.is_some()));
            let block = rows_block(&memory);
            memory.bytes.lock().unwrap()[(block as usize) << 12 | at] ^= 8;
            let expected = if row.is_some() {
                BTreeSet::from(["rows-block", "row-checksum"])
            } else {
                BTreeSet::from(["rows-block"])
            };
            assert_eq!(BTreeSet::from_iter(codes_of(&memory)), expected);
            let mut left = whole.clone();
            for vector in left.iter_mut().filter(|v| row.is_some() && (v.0, v.1) == (false, 2)) {
                vector.2 = None;
            }
            assert_eq!(vectors(&open(&memory)), left, "read from the damaged block");
            if repaired {
                let report = repair_all(&memory);
                assert!(report.is_clean(), "{report:?}");
                assert_clean(&memory);
                left.retain(|vector| vector.2.is_some());
                assert_eq!(vectors(&open(&memory)), left);
            }
            // The lowest free rows lie in that block.
            let fs = open(&memory);
            let new = [9; 24];
            for chunk in 20..30 {
                let inode = fs.lookup(ROOT_INODE, b"data").unwrap();
                let put = crate::vector_tests::put(chunk, &new);
                assert_eq!(fs.put_vectors(1, inode, &[put]).unwrap().stored, 1);
                assert_eq!(fs.get_vector(1, inode, chunk).unwrap().1, new);
            }
            fs.commit().unwrap();
            assert_eq!(vectors(&fs), left, "with others put into the block");
            drop(fs);
            let codes = codes_of(&memory);
            let damaged = row.is_some() && !repaired;
            assert_eq!(codes, if damaged { &["row-checksum"][..] } else { &[] });
        }
    }
}

#[test]
fn a_block_without_a_whole_vector_is_given_back() {
    let memory = populated(12);
    let block = rows_block(&memory) as usize;
    memory.bytes.lock().unwrap()[block << 12..][..11 * 24].fill(1);
    let report = repair_all(&memory);
    assert!(report.is_clean(), "{report:?}");
    assert_clean(&memory);
    let fs = open(&memory);
    assert!(vectors(&fs).is_empty());
    let stream = {
        let tree = fs.reader();
        let head = tree.get(collection(&tree)).unwrap().unwrap();
        CollectionLayout::read_from_prefix(&head).unwrap().0.rows_object.get()
    };
    assert!(fs.reader().get(Key::new(stream, Kind::Extent, 0)).unwrap().is_none());
}

#[test]
fn a_repair_that_is_cut_short_does_no_harm() {
    let whole = contents(&populated(12));
    // Cases that change a lot: entries, shared blocks, a stream, collections.
    for case in [3usize, 10, 14, 31, 45, 48, 54, 60] {
        let case = case.min(CASES.len() - 1);
        let mut writes = 0;
        loop {
            let memory = populated(12);
            damage(&memory, CASES[case].2);
            memory.fail_after(Some(writes));
            let result = repair(memory.host(), &RepairOptions::default(), &mut (), &mut |_| {});
            memory.fail_after(None);
            if let Ok(report) = result {
                assert!(report.is_clean());
                break;
            }
            assert!(matches!(result, Err(Error::Device(_) | Error::Poisoned)), "{result:?}");
            let report = repair_all(&memory);
            assert!(report.is_clean(), "case {case} after {writes} writes: {report:?}");
            if CASES[case].1 {
                assert!(contents(&memory) == whole, "case {case} after {writes} writes");
            }
            writes += 3;
        }
        assert!(writes > 0);
    }
}

#[test]
fn random_changes_of_nodes_never_stop_a_check_or_a_repair() {
    let mut rng = Rng(0x00c0_ffee_1234);
    for round in 0..150 {
        let memory = populated(12);
        let key = Key::new(rng.below(600), Kind::Inode, 0);
        let level = if rng.below(8) == 0 { 1 } else { 0 };
        edit_node(&memory, key, level, |node| {
            for _ in 0..rng.below(20) + 1 {
                let at = match rng.below(3) {
                    // Heads of items, or items.
                    0 => rng.below(600),
                    _ => 4096 - 1 - rng.below(2500),
                };
                let value = match rng.below(4) {
                    0 => 0xff,
                    1 => 1 << rng.below(8),
                    _ => rng.next() as u8,
                };
                node.edit(at as usize, value);
            }
        });
        findings_of(&memory);
        let mut failed = Vec::new();
        let report = repair(memory.host(), &RepairOptions::default(), &mut (), &mut |event| {
            if let Event::Failed(finding, error) = event {
                failed.push((**finding, *error));
            }
        })
        .unwrap();
        let after = report.after;
        // Without its root a tree tells nothing, and what it seems to lack is no finding to repair.
        let hopeless = !after.complete && after.nodes == 0;
        let rest = after.findings() - after.irreparable;
        assert!(hopeless || rest == 0, "round {round}: {after:?} {failed:#?}");
    }
}
