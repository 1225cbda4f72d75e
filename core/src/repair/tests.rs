// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Images damaged in one way each: the check says what, the repair puts it right, and what was not
//! damaged is still there.

#![allow(clippy::type_complexity)]

use super::*;
use crate::check::tests::*;
use crate::check::{Code, Severity};
use crate::inode::*;
use crate::key::{Key, Kind};
use crate::layout::*;
use crate::names;
use crate::node::Node;
use crate::testing::Memory;
use crate::tree::Tree;
use std::collections::BTreeSet;
use std::vec::Vec;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub(super) fn repair_all(memory: &Memory) -> RepairReport {
    repair(memory.host(), &RepairOptions::default(), &mut (), &mut |_| {}).unwrap()
}

/// The bytes of the two large files and the small one, in order, where they can be reached.
pub(super) fn contents(memory: &Memory) -> Vec<Option<Vec<u8>>> {
    let fs = open(memory);
    let read = |name: &[u8]| {
        let number = fs.lookup(ROOT_INODE, name).ok()?;
        let mut bytes = std::vec![0; fs.inode(number).ok()?.size as usize];
        fs.read(number, 0, &mut bytes).ok()?;
        Some(bytes)
    };
    [&b"data"[..], b"clone", b"holes", b"inline"].into_iter().map(read).collect()
}

pub(super) fn number(tree: &Tree, name: &[u8]) -> u64 {
    crate::directory::find(tree, ROOT_INODE, name).unwrap().expect("no such file").1.inode
}

pub(super) fn change_inode(
    tree: &mut Tree,
    name: &[u8],
    change: impl FnOnce(&mut Inode),
) -> Result<()> {
    let number = if name == b"/" { ROOT_INODE } else { number(tree, name) };
    let mut inode = Inode::load(tree, number)?;
    change(&mut inode);
    inode.store(tree, number)
}

pub(super) fn change_item<
    T: FromBytes + IntoBytes + zerocopy::KnownLayout + zerocopy::Immutable,
>(
    tree: &mut Tree,
    key: Key,
    change: impl FnOnce(&mut T),
) -> Result<()> {
    let item = tree.get_mut(key)?;
    change(T::mut_from_prefix(item).expect("item too short").0);
    Ok(())
}

pub(super) fn entry(tree: &Tree, name: &[u8]) -> Key {
    crate::directory::find(tree, ROOT_INODE, name).unwrap().expect("no such entry").0
}

pub(super) fn first_extent(tree: &Tree, name: &[u8]) -> Key {
    let key = Key::new(number(tree, name), Kind::Extent, 0);
    let key = tree.next(key).unwrap().unwrap().key();
    assert!(key.kind_number() == Kind::Extent as u8);
    key
}

pub(super) fn collection(tree: &Tree) -> Key {
    first(tree, FIRST_OBJECT, Kind::Collection).0
}

pub(super) fn stray(kind: Kind) -> Key {
    Key::new(200_000, kind, 256)
}

type Damage = fn(&mut Tree) -> Result<()>;

/// What is done to a populated image, the code it must give, and whether all files stay as they
/// were.
pub(super) const CASES: &[(Code, bool, Damage)] = &[
    (Code::ItemUnknown, true, |tree| tree.put(Key { object: 300, kind_offset: 99 << 56 }, &[b"?"])),
    (Code::ItemUnknown, true, |tree| tree.put(Key::new(0, Kind::Snapshot, 1), &[b"?"])),
    (Code::ItemMisplaced, true, |tree| tree.put(Key::new(3, Kind::Extent, 0), &[b"?"])),
    (Code::ItemMisplaced, true, |tree| tree.put(Key::new(0, Kind::Inode, 0), &[b"?"])),
    (Code::ItemMisplaced, true, |tree| tree.put(Key::new(0, Kind::Group, 77), &[&[1; 8]])),
    (Code::ItemMalformed, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Link, 256);
        tree.put(key, &[b"?"])
    }),
    (Code::ItemMalformed, true, |tree| tree.put(Key::new(0, Kind::Orphan, 300), &[b"?"])),
    (Code::ItemMalformed, true, |tree| tree.put(Key::new(0, Kind::Shared, 700), &[b"?"])),
    (Code::ItemMalformed, false, |tree| {
        let key = first_extent(tree, b"holes");
        change_item::<ExtentLayout>(tree, key, |head| head.flags = 64.into())
    }),
    (Code::ItemStray, true, |tree| {
        tree.state.next_object = 300_000;
        tree.put(stray(Kind::Link), &[&[1; 16]])
    }),
    (Code::ItemStray, false, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Inode, 0);
        tree.remove(key)?;
        tree.state.inodes -= 1;
        Ok(())
    }),
    (Code::ItemStray, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Row, 5);
        tree.put(key, &[RowLayout::new_zeroed().as_bytes()])
    }),
    (Code::BlockOutside, false, |tree| {
        let (key, blocks) = (first_extent(tree, b"holes"), tree.state.blocks);
        change_item::<ExtentLayout>(tree, key, |head| head.block = blocks.into())
    }),
    (Code::BlockTwice, false, |tree| {
        let (key, root) = (first_extent(tree, b"holes"), tree.state.root.block);
        change_item::<ExtentLayout>(tree, key, |head| head.block = root.into())
    }),
    (Code::SharedCount, true, |tree| {
        let (key, _) = first(tree, 0, Kind::Shared);
        change_item::<SharedLayout>(tree, key, |head| head.references = 9.into())
    }),
    (Code::SharedCount, true, |tree| {
        let (key, _) = first(tree, 0, Kind::Shared);
        tree.remove(key)
    }),
    (Code::SharedFlag, true, |tree| {
        let key = first_extent(tree, b"clone");
        change_item::<ExtentLayout>(tree, key, |head| head.flags = 0.into())
    }),
    (Code::InodeMalformed, false, |tree| {
        let key = Key::new(number(tree, b"inline"), Kind::Inode, 0);
        change_item::<InodeLayout>(tree, key, |inode| inode.mode = 0.into())
    }),
    (Code::InodeMalformed, true, |tree| {
        change_inode(tree, b"data", |inode| inode.generation = 1 << 40)
    }),
    (Code::InodeMalformed, true, |tree| {
        change_inode(tree, b"/", |inode| inode.generation = 1 << 40)
    }),
    (Code::RootMissing, true, |tree| {
        tree.state.inodes -= 1;
        tree.remove(Key::new(ROOT_INODE, Kind::Inode, 0))
    }),
    (Code::RootMissing, true, |tree| {
        change_inode(tree, b"/", |inode| inode.mode = MODE_FIFO | 0o600)
    }),
    (Code::BlocksCount, true, |tree| change_inode(tree, b"data", |inode| inode.blocks += 1)),
    (Code::InlineSize, false, |tree| change_inode(tree, b"inline", |inode| inode.size += 1)),
    (Code::InlineFlag, true, |tree| change_inode(tree, b"inline", |inode| inode.flags = 1 << 34)),
    (Code::InlineAndExtents, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Inline, 0);
        tree.put(key, &[b"some bytes"])
    }),
    (Code::AttributesFlag, true, |tree| {
        change_inode(tree, b"inline", |inode| inode.flags |= INODE_ATTRIBUTES)
    }),
    (Code::VectorsFlag, true, |tree| {
        change_inode(tree, b"data", |inode| inode.flags &= !INODE_VECTORS)
    }),
    (Code::WrongContent, true, |tree| {
        let key = Key::new(number(tree, b"fifo"), Kind::Inline, 0);
        tree.put(key, &[b"some bytes"])
    }),
    (Code::WrongContent, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Entry, 1 << 20);
        let head = EntryLayout { inode: ROOT_INODE.into(), file_type: 4 };
        tree.put(key, &[head.as_bytes(), b"name"])
    }),
    (Code::TargetSize, true, |tree| change_inode(tree, b"long", |inode| inode.size = 5)),
    (Code::TargetSize, true, |tree| {
        let key = Key::new(number(tree, b"short"), Kind::Inline, 0);
        tree.remove(key)
    }),
    (Code::ExtentOverlap, false, |tree| {
        let (key, _) = (first_extent(tree, b"holes"), 0);
        let (head, sums) = {
            let item = tree.get(key)?.unwrap();
            let (head, sums) = ExtentLayout::read_from_prefix(&item).unwrap();
            (head, sums.to_vec())
        };
        let next = Key::new(key.object, Kind::Extent, key.offset() + 1);
        tree.put(next, &[head.as_bytes(), &sums])
    }),
    (Code::ExtentBeyondEnd, false, |tree| {
        change_inode(tree, b"holes", |inode| inode.size = 310_000)
    }),
    (Code::LinkCount, true, |tree| change_inode(tree, b"data", |inode| inode.links = 7)),
    (Code::LinkCount, true, |tree| change_inode(tree, b"/", |inode| inode.links = 7)),
    (Code::LinkMissing, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Link, 0);
        let key = tree.next(key)?.unwrap().key();
        tree.remove(key)
    }),
    (Code::LinkDangling, true, |tree| {
        let link = LinkLayout { parent: ROOT_INODE.into(), cookie: 12345.into() };
        let base = names::cookie_base(tree, link.as_bytes());
        let key = Key::new(number(tree, b"data"), Kind::Link, base);
        tree.put(key, &[link.as_bytes()])
    }),
    (Code::EntryDangling, true, |tree| {
        let head = EntryLayout { inode: 99_999.into(), file_type: 8 };
        let base = names::cookie_base(tree, b"dangling");
        tree.put(Key::new(ROOT_INODE, Kind::Entry, base), &[head.as_bytes(), b"dangling"])
    }),
    (Code::EntryType, true, |tree| {
        let key = entry(tree, b"data");
        change_item::<EntryLayout>(tree, key, |head| head.file_type = 12)
    }),
    (Code::EntryCookie, true, |tree| {
        let key = entry(tree, b"inline");
        let item = tree.get(key)?.unwrap().to_vec();
        tree.remove(key)?;
        tree.put(Key::new(ROOT_INODE, Kind::Entry, 300), &[&item])
    }),
    (Code::EntryCookie, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Attribute).0;
        let item = tree.get(key)?.unwrap().to_vec();
        tree.remove(key)?;
        tree.put(Key::new(key.object, Kind::Attribute, 300), &[&item])
    }),
    (Code::EntryName, true, |tree| {
        let head = EntryLayout { inode: number(tree, b"fifo").into(), file_type: 1 };
        let base = names::cookie_base(tree, b"a/b");
        tree.put(Key::new(ROOT_INODE, Kind::Entry, base), &[head.as_bytes(), b"a/b"])
    }),
    (Code::EntryTwice, true, |tree| {
        let key = entry(tree, b"data");
        let head = EntryLayout { inode: number(tree, b"fifo").into(), file_type: 1 };
        let next = Key::new(ROOT_INODE, Kind::Entry, key.offset() + 3);
        tree.put(next, &[head.as_bytes(), b"data"])
    }),
    (Code::EntryExtra, true, |tree| {
        let target = crate::directory::Target { inode: number(tree, b"below"), file_type: 4 };
        crate::directory::add_entry(tree, ROOT_INODE, b"again", target)
    }),
    (Code::EntryExtra, true, |tree| {
        let target = crate::directory::Target { inode: ROOT_INODE, file_type: 4 };
        crate::directory::add_entry(tree, number(tree, b"below"), b"up", target)
    }),
    (Code::DirectorySize, true, |tree| change_inode(tree, b"/", |inode| inode.size = 3)),
    (Code::DirectoryLoop, true, |tree| {
        let (key, below) = (entry(tree, b"below"), number(tree, b"below"));
        crate::directory::remove_entry(tree, key, below)?;
        let target = crate::directory::Target { inode: below, file_type: 4 };
        crate::directory::add_entry(tree, below, b"myself", target)
    }),
    (Code::InodeUnreached, true, |tree| {
        let (key, number) = (entry(tree, b"fifo"), number(tree, b"fifo"));
        crate::directory::remove_entry(tree, key, number)
    }),
    (Code::InodeUnreached, true, |tree| {
        let (key, number) = (entry(tree, b"below"), number(tree, b"below"));
        crate::directory::remove_entry(tree, key, number)
    }),
    (Code::OrphanMissing, true, |tree| {
        let key = first(tree, 0, Kind::Orphan).0;
        tree.remove(key)
    }),
    (Code::OrphanWrong, true, |tree| {
        let number = number(tree, b"data");
        crate::orphan::add(tree, number)
    }),
    (Code::OrphanWrong, true, |tree| crate::orphan::add(tree, 1 << 50)),
    (Code::AttributeMalformed, true, |tree| {
        let key = Key::new(number(tree, b"data"), Kind::Attribute, 256);
        let mut head = AttributeLayout::new_zeroed();
        head.name_length = 200;
        tree.put(key, &[head.as_bytes(), b"short"])
    }),
    (Code::StreamMissing, true, |tree| {
        let key = first(tree, number(tree, b"data"), Kind::Attribute).0;
        change_item::<AttributeLayout>(tree, key, |head| head.object = 270.into())
    }),
    (Code::StreamUnowned, true, |tree| {
        let key = first(tree, number(tree, b"data"), Kind::Attribute).0;
        tree.remove(key)
    }),
    (Code::StreamShared, true, |tree| {
        let key = first(tree, number(tree, b"data"), Kind::Attribute).0;
        let object = AttributeLayout::read_from_prefix(&tree.get(key)?.unwrap()).unwrap().0.object;
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.graph_object = object)
    }),
    (Code::CollectionMalformed, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.dimension = 0.into())
    }),
    (Code::CollectionTwice, true, |tree| {
        let key = collection(tree);
        let item = tree.get(key)?.unwrap().to_vec();
        let object = crate::inode::new_object(tree)?;
        tree.put(Key::new(object, Kind::Collection, 0), &[&item])
    }),
    (Code::CollectionName, true, |tree| {
        let key = first(tree, 0, Kind::CollectionName).0;
        tree.remove(key)
    }),
    (Code::CollectionName, true, |tree| {
        let link = CollectionNameLayout { object: 99_999.into() };
        let base = names::cookie_base(tree, b"dangling");
        tree.put(Key::new(0, Kind::CollectionName, base), &[link.as_bytes(), b"dangling"])
    }),
    (Code::RowCount, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.rows = 11.into())
    }),
    (Code::RowEnd, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.row_end = 12.into())
    }),
    (Code::RowSequence, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.next_sequence = 3.into())
    }),
    (Code::RowSequence, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| head.next_sequence = u64::MAX.into())
    }),
    (Code::ItemMalformed, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        change_item::<RowLayout>(tree, key, |row| row.sequence = u64::MAX.into())
    }),
    (Code::RowChecksum, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        change_item::<RowLayout>(tree, key, |row| row.checksum = 3.into())
    }),
    // The same bytes as numbers that are too large.
    (Code::RowInvalid, true, |tree| {
        let key = collection(tree);
        change_item::<CollectionLayout>(tree, key, |head| {
            (head.element, head.dimension) = (1, 6.into());
        })
    }),
    (Code::VectorRow, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Vector).0;
        tree.remove(key)
    }),
    // A vector that names the row of another, and one that names none.
    (Code::VectorRow, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Vector).0;
        change_item::<VectorLayout>(tree, key, |vector| vector.row = 4.into())
    }),
    (Code::VectorRow, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Vector).0;
        change_item::<VectorLayout>(tree, key, |vector| vector.row = 1000.into())
    }),
    // A row whose owner does not exist, is no file, or has no such vector.
    (Code::RowOwner, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        change_item::<RowLayout>(tree, key, |row| row.inode = 99_999.into())
    }),
    (Code::RowOwner, true, |tree| {
        let (key, inode) = (first(tree, FIRST_OBJECT, Kind::Row).0, number(tree, b"below"));
        change_item::<RowLayout>(tree, key, |row| row.inode = inode.into())
    }),
    (Code::RowOwner, true, |tree| {
        let (key, inode) = (first(tree, FIRST_OBJECT, Kind::Row).0, number(tree, b"clone"));
        change_item::<RowLayout>(tree, key, |row| row.inode = inode.into())
    }),
    // And one whose owner has a vector there, which has a row.
    (Code::RowOwner, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        change_item::<RowLayout>(tree, key, |row| row.chunk = 2.into())
    }),
    // Neither side knows the other.
    (Code::RowWithoutVector, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Vector).0;
        tree.remove(key)?;
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        change_item::<RowLayout>(tree, key, |row| row.inode = 99_999.into())
    }),
    (Code::VectorWithoutRow, true, |tree| {
        let key = first(tree, FIRST_OBJECT, Kind::Row).0;
        tree.remove(key)
    }),
    (Code::NextObject, true, |tree| {
        tree.state.next_object = FIRST_OBJECT;
        Ok(())
    }),
    (Code::NextCollection, true, |tree| {
        tree.state.next_collection = 1;
        Ok(())
    }),
    (Code::InodeCount, true, |tree| {
        tree.state.inodes += 3;
        Ok(())
    }),
    (Code::FreeCount, true, |tree| {
        tree.state.blocks_free -= 3;
        Ok(())
    }),
];

#[test]
fn every_kind_of_damage_is_found_and_put_right() {
    let whole = contents(&populated(12));
    assert!(whole.iter().all(Option::is_some));
    let mut provoked: BTreeSet<&str> = BTreeSet::new();
    for (at, (code, files_stay, change)) in CASES.iter().enumerate() {
        let name = std::format!("case {at}: {}", code.name());
        let memory = populated(12);
        damage(&memory, change);
        let (before, findings) = findings_of(&memory);
        assert!(findings.iter().any(|f| f.code == *code), "{name}: {findings:#?}");
        // The bytes of a node are not those of the data.
        assert!(before.irreparable == 0 || *code == Code::BlockTwice, "{name}");
        provoked.extend(findings.iter().map(|finding| finding.code.name()));
        let mut events = Vec::new();
        let report = repair(memory.host(), &RepairOptions::default(), &mut (), &mut |event| {
            events.push(std::format!("{event:?}"))
        })
        .unwrap();
        assert_eq!(report.before, before, "{name}");
        assert!(report.is_clean() && report.repaired > 0, "{name}: {report:?} {events:#?}");
        assert_clean(&memory);
        let after = contents(&memory);
        let same = after.iter().zip(&whole).filter(|(a, b)| a == b).count();
        assert!(same >= if *files_stay { 4 } else { 3 }, "{name}: {same} files as they were");
        assert!(!repair_all(&memory).has_changed(), "{name}: a second repair changed something");
    }
    // Those that other tests provoke.
    provoked.extend([
        "superblock-none",
        "state-lost",
        "superblock-damaged",
        "superblock-differs",
        "superblock-mirror",
        "superblock-behind",
        "device-too-small",
        "node-unreadable",
        "node-checksum",
        "node-malformed",
        "node-key-range",
        "node-used-twice",
        "node-reserved",
        "group-missing",
        "group-malformed",
        "group-marked-free",
        "group-marked-used",
        "group-count",
        "data-unreadable",
        "data-checksum",
        "rows-block",
        "graph-damaged",
    ]);
    let missing: Vec<_> =
        Code::ALL.iter().map(|code| code.name()).filter(|name| !provoked.contains(name)).collect();
    assert!(missing.is_empty(), "no test provokes {missing:?}");
}

pub(super) fn preen(memory: &Memory) -> RepairReport {
    let options = RepairOptions { severity_max: Severity::Derived, ..Default::default() };
    repair(memory.host(), &options, &mut (), &mut |_| {}).unwrap()
}

#[test]
fn a_repair_that_may_lose_nothing_leaves_every_damaged_image_as_it_is() {
    let whole = contents(&populated(12));
    let (mut left, mut put_right) = (0, 0);
    for (at, (code, _, change)) in CASES.iter().enumerate() {
        let name = std::format!("case {at}: {}", code.name());
        let memory = populated(12);
        damage(&memory, change);
        let (found, _) = findings_of(&memory);
        let before = memory.bytes.lock().unwrap().clone();
        let report = preen(&memory);
        if found.damage > 0 {
            assert!(before == *memory.bytes.lock().unwrap(), "{name}: something was written");
            assert!(!report.has_changed() && report.after == found, "{name}: {report:?}");
            left += 1;
        } else {
            assert!(report.is_clean() && report.has_changed(), "{name}: {report:?}");
            assert_clean(&memory);
            assert!(contents(&memory) == whole, "{name}: files changed");
            put_right += 1;
        }
        assert!(code.severity() < Severity::Damage || found.damage > 0, "{name}");
    }
    assert!(left > 30 && put_right > 20, "{left} cases of damage, {put_right} others");
    // A damaged node, which may have held anything.
    let memory = populated(12);
    flip(&memory, leaf_of(&memory, Key::new(FIRST_OBJECT, Kind::Inode, 0)));
    let before = memory.bytes.lock().unwrap().clone();
    assert!(!preen(&memory).has_changed() && before == *memory.bytes.lock().unwrap());
}

/// The bytes of every vector that can be read, by inode and chunk.
pub(super) fn vectors(memory: &Memory) -> Vec<(u64, u32, Vec<u8>)> {
    let fs = open(memory);
    let mut infos = Vec::new();
    for name in [&b"data"[..], b"inline", b"clone"] {
        let inode = number(&fs.reader(), name);
        fs.vectors_of(inode, &crate::Serial, &mut |info| {
            infos.push(*info);
            true
        })
        .unwrap();
    }
    let read = |info: &crate::VectorInfo| {
        let (_, bytes) = fs.get_vector(info.collection, info.inode, info.chunk).unwrap();
        (info.inode, info.chunk, bytes)
    };
    infos.iter().map(read).collect()
}

#[test]
fn no_vector_is_lost_while_its_file_or_its_row_knows_the_other() {
    let whole = vectors(&populated(12));
    assert_eq!(whole.len(), 10);
    let cases = CASES.iter().filter(|case| matches!(case.0, Code::VectorRow | Code::RowOwner));
    assert!(cases.clone().count() > 5);
    for (at, (code, _, change)) in cases.enumerate() {
        for all in [false, true] {
            let memory = populated(12);
            damage(&memory, change);
            let (found, _) = findings_of(&memory);
            assert_eq!(found.damage, 0, "case {at}: {}", code.name());
            let report = if all { repair_all(&memory) } else { preen(&memory) };
            assert!(report.is_clean(), "case {at}: {report:?}");
            assert!(vectors(&memory) == whole, "case {at}: {}", code.name());
        }
    }
}

#[test]
fn damaged_bytes_of_a_file_keep_no_count_from_being_put_right() {
    let memory = populated(12);
    damage(&memory, |tree| change_inode(tree, b"data", |inode| inode.links = 7));
    let block = {
        let fs = open(&memory);
        let tree = fs.reader();
        let item = tree.get(first_extent(&tree, b"holes")).unwrap().unwrap();
        ExtentLayout::read_from_prefix(&item).unwrap().0.block.get()
    };
    flip(&memory, block);
    let report = preen(&memory);
    assert_eq!((report.repaired, report.after.derived, report.after.damage), (1, 0, 1));
    assert_eq!(codes_of(&memory), ["data-checksum"]);
}

/// Changes the node of `level` that is in charge of `key` where it is, and the checksums above it
/// and in the superblocks, so that only the content is wrong.
pub(super) fn edit_node(
    memory: &Memory,
    key: Key,
    level: u8,
    change: impl FnOnce(&mut Node),
) -> u64 {
    let host = memory.host();
    let state = *crate::superblock::newest(&read_copies(&host).unwrap()).unwrap();
    let read = |block: u64| {
        let mut bytes = std::vec![0; state.block_bytes()].into_boxed_slice();
        host.device.read(block << state.block_log2, &mut bytes).unwrap();
        Node::unchecked(bytes)
    };
    let (mut path, mut pointer) = (Vec::new(), state.root);
    while pointer.level > level {
        let node = read(pointer.block);
        let at = node.child_for(key);
        path.push((pointer.block, at));
        pointer = node.child(at);
    }
    let mut node = read(pointer.block);
    change(&mut node);
    host.device.write(pointer.block << state.block_log2, node.bytes()).unwrap();
    let mut sum = host.checksum.crc32c(0, node.bytes());
    for (block, at) in path.iter().rev() {
        let mut node = read(*block);
        let mut child = node.child(*at);
        child.checksum = sum;
        node.set_child(*at, &child);
        host.device.write(block << state.block_log2, node.bytes()).unwrap();
        sum = host.checksum.crc32c(0, node.bytes());
    }
    for copy in 0..2 {
        let mut copied = state;
        copied.generation += copy;
        copied.root.checksum = sum;
        copied.publish(&host, &mut std::vec![0; SUPERBLOCK_BYTES]).unwrap();
        copied.mirror(&host, &mut std::vec![0; SUPERBLOCK_BYTES]).unwrap();
    }
    pointer.block
}

/// Writes a group's item as it comes to be when everything else has been written.
pub(super) fn damage_group(memory: &Memory, change: impl Fn(&mut Vec<u8>)) {
    let key = Key::new(0, Kind::Group, 0);
    edit_node(memory, key, 0, |node| {
        let at = node.search(key).unwrap();
        let mut item = node.item(at).to_vec();
        change(&mut item);
        if item.len() != node.item(at).len() {
            node.remove_items(at..at + 1);
            if !item.is_empty() {
                node.insert_item(at, key, item.len());
            }
            node.wipe_free();
        }
        if item.is_empty() {
            return;
        }
        node.item_mut(at).copy_from_slice(&item);
    });
}

#[test]
fn free_space_that_is_recorded_wrong_is_put_right() {
    let whole = contents(&populated(12));
    let cases: [(&str, fn(&mut Vec<u8>)); 5] = [
        ("group-missing", |item| item.clear()),
        ("group-marked-free", |item| item[8..60].fill(0)),
        ("group-marked-used", |item| item[60..].fill(0xff)),
        ("group-count", |item| item[0] ^= 1),
        ("group-malformed", |item| item.truncate(500)),
    ];
    for (code, change) in cases {
        let memory = populated(12);
        damage_group(&memory, change);
        assert!(codes_of(&memory).contains(&code), "{code}: {:?}", codes_of(&memory));
        let report = repair_all(&memory);
        assert!(report.is_clean(), "{code}: {report:?}");
        assert_clean(&memory);
        assert!(contents(&memory) == whole, "{code}");
    }
}

/// Flips a bit of a block.
pub(super) fn flip(memory: &Memory, block: u64) {
    memory.bytes.lock().unwrap()[(block as usize) << 12 | 777] ^= 8;
}

/// The leaf that holds `key`.
pub(super) fn leaf_of(memory: &Memory, key: Key) -> u64 {
    let fs = open(memory);
    let tree = fs.reader();
    let mut pointer = tree.root();
    while pointer.level > 0 {
        let node = tree.node(&pointer).unwrap();
        pointer = node.child(node.child_for(key));
    }
    pointer.block
}
