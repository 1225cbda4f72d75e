// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Reference counts of blocks that several extents name.
//!
//! As in the reference-count tree of XFS, only blocks with two references or more have an item:
//! [`Kind::Shared`] items are runs of blocks with the same count, which do not overlap. A block in
//! use without such an item has one reference. Neighbouring runs of one count are joined.

use crate::error::{Error, Result, corrupt};
use crate::key::{Key, Kind};
use crate::layout::SharedLayout;
use crate::space::Run;
use crate::tree::Tree;
use zerocopy::{FromBytes, IntoBytes};

/// A run of blocks with a count of two or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub run: Run,
    pub references: u32,
}

impl Counted {
    pub fn decode(tree: &Tree, key: Key, item: &[u8]) -> Result<Self> {
        let bad = |what| corrupt(key.offset(), what);
        let layout = SharedLayout::ref_from_bytes(item)
            .map_err(|_| bad("reference count of a wrong length"))?;
        let run = Run { start: key.offset(), length: layout.length.get() };
        let references = layout.references.get();
        if !tree.state.is_allocatable(run) || references < 2 {
            return Err(bad("impossible reference count"));
        }
        Ok(Self { run, references })
    }

    fn store(&self, tree: &mut Tree) -> Result<()> {
        let layout = SharedLayout {
            length: self.run.length.into(),
            references: self.references.into(),
            reserved: 0.into(),
        };
        tree.put(Key::new(0, Kind::Shared, self.run.start), &[layout.as_bytes()])
    }
}

/// The run that holds `block`, or the first one after it.
fn find(tree: &Tree, block: u64) -> Result<Option<Counted>> {
    let at = Key::new(0, Kind::Shared, block);
    if let Some(counted) = ending_at_or_over(tree, at)?
        && counted.run.end() > block
    {
        return Ok(Some(counted));
    }
    match tree.next(at)? {
        Some(item) if item.key().is(0, Kind::Shared) => {
            Ok(Some(Counted::decode(tree, item.key(), &item)?))
        }
        _ => Ok(None),
    }
}

/// The last run that starts at or before `at`.
fn ending_at_or_over(tree: &Tree, at: Key) -> Result<Option<Counted>> {
    match tree.previous(at)? {
        Some(item) if item.key().is(0, Kind::Shared) => {
            Ok(Some(Counted::decode(tree, item.key(), &item)?))
        }
        _ => Ok(None),
    }
}

/// Whether the first block of `run` has more than one reference, and how many from there on are as it.
pub(crate) fn first_part(tree: &Tree, run: Run) -> Result<(bool, u64)> {
    let Some(counted) = find(tree, run.start)? else { return Ok((false, run.length)) };
    Ok(match counted.run.start.checked_sub(run.start) {
        None | Some(0) => (true, counted.run.end().min(run.end()).saturating_sub(run.start)),
        Some(before) => (false, before.min(run.length)),
    })
}

/// Adds a reference to each block of `run`, all in use.
pub(crate) fn add(tree: &mut Tree, run: Run) -> Result<()> {
    adjust(tree, run, |tree, part, references| {
        let references = references.checked_add(1).ok_or(Error::TooManyLinks)?;
        Counted { run: part, references }.store(tree)
    })
}

/// Takes a reference off each block of `run`, and frees those that had only one. `fresh` as for
/// [`crate::space::Space::free`].
pub(crate) fn release(tree: &mut Tree, run: Run, fresh: bool) -> Result<()> {
    adjust(tree, run, |tree, part, references| match references {
        1 => tree.space.free(part, fresh),
        2 => tree.remove(Key::new(0, Kind::Shared, part.start)),
        more => Counted { run: part, references: more - 1 }.store(tree),
    })
}

/// Calls `change` with each part of `run` that has one count, and that count; a part with a count
/// of two or more has an item of exactly its own by then.
fn adjust(
    tree: &mut Tree,
    run: Run,
    mut change: impl FnMut(&mut Tree, Run, u32) -> Result<()>,
) -> Result<()> {
    split(tree, run.start)?;
    split(tree, run.end())?;
    let mut block = run.start;
    while block < run.end() {
        let (part, references) = match find(tree, block)? {
            Some(counted) if counted.run.start == block => (counted.run, counted.references),
            Some(counted) if counted.run.start < block => {
                return Err(corrupt(block, "reference counts overlap"));
            }
            next => {
                let end = next.map_or(run.end(), |next| next.run.start.min(run.end()));
                (Run { start: block, length: end - block }, 1)
            }
        };
        if part.end() > run.end() {
            return Err(corrupt(block, "reference counts overlap"));
        }
        change(tree, part, references)?;
        block = part.end();
    }
    join(tree, run.start)?;
    join(tree, run.end())
}

/// Makes runs end at `block`.
fn split(tree: &mut Tree, block: u64) -> Result<()> {
    let Some(counted) = find(tree, block)? else { return Ok(()) };
    let Some(before) = block.checked_sub(counted.run.start).filter(|before| *before > 0) else {
        return Ok(());
    };
    let after = counted.run.length - before;
    let left = Run { start: counted.run.start, length: before };
    Counted { run: left, ..counted }.store(tree)?;
    Counted { run: Run { start: block, length: after }, ..counted }.store(tree)
}

/// Joins the runs that meet at `block` if their counts are the same.
fn join(tree: &mut Tree, block: u64) -> Result<()> {
    let Some(at) = block.checked_sub(1) else { return Ok(()) };
    let Some(left) = ending_at_or_over(tree, Key::new(0, Kind::Shared, at))? else {
        return Ok(());
    };
    let Some(right) = find(tree, block)? else { return Ok(()) };
    let meets = left.run.end() == block && right.run.start == block;
    if !meets || left.references != right.references {
        return Ok(());
    }
    tree.remove(Key::new(0, Kind::Shared, block))?;
    let run = Run { start: left.run.start, length: left.run.length + right.run.length };
    Counted { run, ..left }.store(tree)
}
