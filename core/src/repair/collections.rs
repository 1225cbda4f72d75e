// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections: counts, names, rows and vectors without each other, and graphs that are dropped, to
//! be built anew from the vectors.

use super::items::{key_of, remove};
use super::state::item;
use crate::check::{Code, Place};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::inode::new_object;
use crate::key::{Key, Kind};
use crate::layout::{CollectionLayout, CollectionNameLayout, RowLayout, VectorLayout};
use crate::names::{self, Place as NamePlace};
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use zerocopy::{FromBytes, IntoBytes};

pub(crate) fn fix(fs: &FileSystem, code: Code, place: &Place) -> Option<Result<()>> {
    let (key, expected) = (key_of(place), place.expected);
    Some(match code {
        Code::RowCount => change(fs, place.object, |head| head.rows = expected.into()),
        Code::RowEnd => change(fs, place.object, |head| head.row_end = expected.into()),
        Code::RowSequence => change(fs, place.object, |head| head.next_sequence = expected.into()),
        Code::RowOwner => set_owner(fs, key, place.found, place.expected),
        Code::VectorRow => set_row(fs, key, place.found, place.expected),
        Code::RowsBlock => {
            crate::vector::write_rows_anew(fs, place.expected, place.object, place.found)
        }
        Code::RowChecksum
        | Code::RowInvalid
        | Code::RowWithoutVector
        | Code::VectorWithoutRow
        | Code::CollectionMalformed
        | Code::CollectionTwice => remove(fs, key),
        Code::CollectionName if place.kind == Kind::CollectionName as u8 => remove(fs, key),
        Code::CollectionName => add_name(fs, place.object),
        Code::GraphDamaged => drop_graph(fs, place.object),
        Code::StreamMissing | Code::StreamShared if place.kind == Kind::Collection as u8 => {
            replace_stream(fs, place.object, place.found)
        }
        Code::StreamMissing | Code::StreamShared => remove(fs, key),
        _ => return None,
    })
}

fn with_head<R>(
    tree: &mut Tree,
    object: u64,
    change: impl FnOnce(&mut CollectionLayout) -> R,
) -> Result<R> {
    let item = tree.get_mut(Key::new(object, Kind::Collection, 0))?;
    let (head, _) = CollectionLayout::mut_from_prefix(item).map_err(|_| Error::NotFound)?;
    Ok(change(head))
}

fn change(fs: &FileSystem, object: u64, change: impl FnOnce(&mut CollectionLayout)) -> Result<()> {
    fs.operation(1, true, |tree| with_head(tree, object, change))
}

/// Makes a row that of the vector under `vector`.
fn set_owner(fs: &FileSystem, vector: Key, row: u64, object: u64) -> Result<()> {
    fs.operation(1, true, |tree| {
        let item = tree.get_mut(Key::new(object, Kind::Row, row))?;
        let (layout, _) = RowLayout::mut_from_prefix(item).map_err(|_| Error::NotFound)?;
        layout.inode = vector.object.into();
        layout.chunk = ((vector.offset() & u64::from(u32::MAX)) as u32).into();
        Ok(())
    })
}

/// Gives a file its vector back whose row is under `row`.
fn set_row(fs: &FileSystem, row: Key, inode: u64, chunk: u64) -> Result<()> {
    fs.operation(2, true, |tree| {
        let number = with_head(tree, row.object, |head| head.number.get())?;
        let vector = Key::new(inode, Kind::Vector, u64::from(number) << 32 | chunk);
        tree.put(vector, &[VectorLayout { row: row.offset().into() }.as_bytes()])
    })
}

/// Lists a collection under its own name, or one like it when that is taken.
fn add_name(fs: &FileSystem, object: u64) -> Result<()> {
    let bytes = item(fs, Key::new(object, Kind::Collection, 0))?;
    let (head, tail) = CollectionLayout::ref_from_prefix(&bytes).map_err(|_| Error::NotFound)?;
    let length = usize::from(head.name_length);
    let (own, model) = tail.split_at_checked(length).ok_or(Error::NotFound)?;
    let mut name: Vec<u8> = Vec::new();
    name.try_extend(own)?;
    for suffix in b"0123456789" {
        let place = {
            let tree = fs.reader();
            let base = names::cookie_base(&tree, &name);
            names::find(&tree, 0, Kind::CollectionName, base, |item| {
                item.get(size_of::<CollectionNameLayout>()..) == Some(&name)
            })?
        };
        let NamePlace::Free(key) = place else {
            // The name is cut at a character, so that it stays UTF-8.
            let mut cut = own.len().min(253);
            while own.get(cut).is_some_and(|byte| byte & 0xc0 == 0x80) {
                cut = cut.saturating_sub(1);
            }
            name.truncate(cut);
            name.try_push(b'~')?;
            name.try_push(*suffix)?;
            continue;
        };
        return fs.operation(3, true, |tree| {
            let link = CollectionNameLayout { object: object.into() };
            tree.put(key, &[link.as_bytes(), &name])?;
            let mut renamed = *head;
            renamed.name_length = name.len() as u8;
            let collection = Key::new(object, Kind::Collection, 0);
            tree.put(collection, &[renamed.as_bytes(), &name, model])
        });
    }
    Err(Error::Exists)
}

/// Lets go of a stored graph. What is in no graph is compared one by one until there is one again.
fn drop_graph(fs: &FileSystem, object: u64) -> Result<()> {
    fs.operation(3, true, |tree| {
        let graph = with_head(tree, object, |head| {
            let graph = head.graph_object.get();
            head.graph_object = 0.into();
            head.graph_watermark = 0.into();
            head.graph_bytes = 0.into();
            head.graph_lacks = 0.into();
            graph
        })?;
        if graph == 0 { Ok(()) } else { crate::orphan::add(tree, graph) }
    })
}

/// Gives a collection a new stream for one that is not its own. Rows whose bytes are lost with that
/// are found by their checksums.
fn replace_stream(fs: &FileSystem, object: u64, stream: u64) -> Result<()> {
    fs.operation(2, true, |tree| {
        let new = new_object(tree)?;
        with_head(tree, object, |head| {
            if head.graph_object.get() == stream {
                head.graph_object = 0.into();
                head.graph_watermark = 0.into();
                head.graph_bytes = 0.into();
                head.graph_lacks = 0.into();
            } else {
                head.rows_object = new.into();
            }
        })
    })
}
