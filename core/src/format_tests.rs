// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `docs/format.md` against the declarations.

use crate::key::{Kind, OFFSET_MAX};
use crate::layout::*;
use crate::{BUILD_EFFORT_MAX, COLLECTIONS_MAX, INODES_MAX, LINKS_MAX, MODEL_BYTES_MAX};
use core::mem::offset_of;
use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::vec::Vec;
use vexfs_index::{DEGREE_MAX, ROWS_MAX};
use vexfs_simd::MAX_DIMENSION;

const DOCUMENT: &str = include_str!("../../docs/format.md");

fn field_bytes<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// A structure: its name, size, and fields with offset and size.
type Structure = (&'static str, usize, Vec<(&'static str, usize, usize)>);

macro_rules! structures {
    ($($name:ident { $($field:ident),* })*) => {
        std::vec![$((
            stringify!($name),
            size_of::<$name>(),
            std::vec![$((
                stringify!($field),
                offset_of!($name, $field),
                field_bytes(|value: &$name| &value.$field),
            )),*],
        )),*]
    };
}

fn structures() -> Vec<Structure> {
    structures! {
        BlockPointerLayout { block, generation, checksum, level, reserved }
        SuperblockLayout {
            magic, checksum, version, uuid, label, features_compatible, features_read_only,
            features_incompatible, block_log2, copy, blocks, generation, writer_generation, writer,
            root, blocks_free, next_object, next_collection, reserved_a, inodes, created_seconds,
            published_seconds, hash_key, reserved
        }
        NodeLayout { magic, level, reserved_a, count, block, generation, filesystem, reserved }
        ItemLayout { object, kind_offset, start, length }
        ChildLayout { object, kind_offset, pointer }
        GroupLayout { used, reserved }
        SharedLayout { length, references, reserved }
        TimeLayout { seconds, nanoseconds }
        InodeLayout {
            mode, uid, gid, links, size, blocks, generation, content_version, change, device, flags,
            accessed, modified, changed, born, reserved
        }
        EntryLayout { inode, file_type }
        LinkLayout { parent, cookie }
        AttributeLayout { object, value_length, name_length, reserved }
        ExtentLayout { block, generation, length, flags }
        CollectionNameLayout { object }
        CollectionLayout {
            number, dimension, element, metric, quantization, name_length, model_length, degree,
            build_effort, reserved_a, rows_object, graph_object, rows, row_end, next_sequence,
            graph_watermark, graph_bytes, created, graph_lacks, reserved
        }
        RowLayout {
            inode, chunk, checksum, sequence, offset, length, content_version, tag, digest
        }
        VectorLayout { row }
        OrphanLayout { generation }
    }
}

fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_string()).collect()
}

/// The tables of the document by the heading above them.
fn tables() -> BTreeMap<String, Vec<Vec<String>>> {
    let (mut tables, mut heading) = (BTreeMap::new(), String::new());
    for line in DOCUMENT.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_string();
        } else if line.starts_with('|') && !line.starts_with("| ---") {
            tables.entry(heading.clone()).or_insert_with(Vec::new).push(cells(line));
        }
    }
    tables
}

#[test]
fn every_structure_is_documented_as_it_is_declared() {
    let tables = tables();
    let documented = tables.keys().filter(|heading| heading.contains("Layout")).count();
    assert_eq!(documented, structures().len());
    for (name, bytes, fields) in structures() {
        let heading = std::format!("{name} ({bytes} bytes)");
        let rows = tables.get(&heading).unwrap_or_else(|| panic!("no section `{heading}`"));
        assert_eq!(rows.len(), fields.len() + 1, "{name}");
        let mut end = 0;
        for (row, (field, offset, size)) in rows[1..].iter().zip(fields) {
            // Nothing is left out of the list here, either.
            assert_eq!(offset, end, "{name}.{field}");
            end = offset + size;
            assert_eq!(row[..3], [offset.to_string(), size.to_string(), field.to_string()]);
        }
        assert_eq!(end, bytes, "{name}");
    }
}

#[test]
fn limits_and_kinds_are_documented_as_they_are_declared() {
    let tables = tables();
    macro_rules! limits {
        ($($name:ident),*) => { std::vec![$((stringify!($name), $name as u64)),*] };
    }
    let limits = limits![
        FORMAT_VERSION,
        SUPERBLOCK_BYTES,
        SUPERBLOCK_COPIES,
        FILESYSTEM_BYTES_MIN,
        FILESYSTEM_BLOCKS_MAX,
        TREE_LEVELS_MAX,
        NAME_BYTES_MAX,
        TARGET_BYTES_MAX,
        ATTRIBUTE_BYTES_MAX,
        FILE_BYTES_MAX,
        EXTENT_BLOCKS_MAX,
        UNWRITTEN_BLOCKS_MAX,
        GROUP_BLOCKS,
        GROUP_BITMAP_BYTES,
        ROOT_INODE,
        FIRST_OBJECT,
        OBJECT_MAX,
        INODES_MAX,
        LINKS_MAX,
        COLLECTION_MAX,
        COLLECTIONS_MAX,
        MODEL_BYTES_MAX,
        MAX_DIMENSION,
        ROWS_MAX,
        DEGREE_MAX,
        BUILD_EFFORT_MAX,
        NODE_HEADER_BYTES,
        ITEM_HEADER_BYTES,
        CHILD_BYTES
    ];
    let rows: Vec<_> =
        tables["Limits"][1..].iter().map(|row| (&*row[0], row[1].parse().unwrap())).collect();
    assert_eq!(rows, limits);
    let kinds: BTreeMap<u8, String> =
        tables["Keys"][1..].iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect();
    for number in 0..=255 {
        let name = Kind::from_number(number).map(|kind| std::format!("{kind:?}"));
        assert_eq!(kinds.get(&number), name.as_ref(), "kind {number}");
    }
    assert_eq!(SUPERBLOCK_MAGIC, [0x89, 0x56, 0x65, 0x78, 0x46, 0x53, 0x0d, 0x0a]);
    assert_eq!(SUPERBLOCK_OFFSETS, [65_536, 131_072]);
    assert_eq!(BLOCK_LOG2_RANGE, 12..=16);
    assert_eq!(OFFSET_MAX, (1 << 56) - 1);
}
