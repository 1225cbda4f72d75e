// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The last step of a search: hits, found with no lock held, are looked up in the tree. One that was
//! replaced meanwhile is followed to the vector in its place, and so nothing is lost to a writer.

use crate::collection::Collection;
use crate::collection_memory::{RowInfo, decode_row, go_on};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::filter::Judge;
use crate::inode::Inode;
use crate::layout::RowLayout;
use crate::search::{Asked, Found, Outcome, SearchHit};
use alloc::vec::Vec;
use vexfs_memory::{TryVec, sort_by};
use vexfs_simd::{Distance, RowTerm};

/// How often a vector that is replaced before it can be read is followed to the next.
pub(crate) const ROUNDS: usize = 16;
/// How often, taken over the hits of a query, one gives way to nearer ones after it was replaced.
const MOVES: usize = 4;

/// Hits that are looked up at once.
const AHEAD: usize = 64;

/// A hit on its way out.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub hit: SearchHit,
    pub row: u32,
    /// Which of the vectors read is its own.
    pub place: usize,
}

/// What confirming the hits of a query came to.
#[derive(Clone, Copy)]
pub(crate) struct Passed {
    /// The answer is as good as the list of hits was.
    pub settled: bool,
    /// A vector that was wanted could not be read.
    pub damaged: bool,
}

/// A vector as the tree has it.
pub(crate) struct Current {
    pub found: Found,
    pub hit: SearchHit,
    /// Its components, when it was followed or they are wanted.
    pub bytes: Vec<u8>,
}

/// What following a chunk of a file to its vector came to.
pub(crate) enum Followed {
    Now(Current),
    /// There is none any more, or none that the request takes.
    Gone,
    Damaged,
    /// It was replaced each time before it could be read.
    Changing,
}

fn hit_of(distance: Distance, row: &RowInfo, inode: &Inode) -> SearchHit {
    SearchHit {
        distance,
        inode: row.inode,
        generation: inode.generation,
        chunk: row.chunk,
        offset: row.offset,
        length: row.length,
        content_version: row.content_version,
        fresh: row.content_version == inode.content_version,
        tag: row.tag,
    }
}

/// Hits looked up before their turn comes.
#[derive(Default)]
pub(crate) struct Ahead {
    /// Which of the list the first of `hits` is.
    from: usize,
    /// `None` for one that is none any more.
    hits: Vec<Option<SearchHit>>,
    /// Looking ahead has led to nothing.
    ended: bool,
}

impl Ahead {
    fn get(&self, at: usize) -> Option<Option<SearchHit>> {
        self.hits.get(at.checked_sub(self.from)?).copied()
    }

    fn clear(&mut self) {
        self.hits.clear();
    }
}

impl FileSystem {
    /// Looks the hits in `best` up in the tree and puts those that are true into `out`, at most k of
    /// them, with their vectors if wanted. A hit that was replaced meanwhile is followed to the
    /// vector in its place. Each is in the tree as it is returned at some time during the search.
    #[inline(never)] // its frame must not add to its caller's
    pub(crate) fn confirm(
        &self,
        asked: &Asked<'_>,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        (best, outcome): (&mut Vec<Found>, Outcome),
        (out, vectors, ahead): (&mut Vec<Answer>, &mut Vec<u8>, &mut Ahead),
    ) -> Result<Passed> {
        let k = asked.request.k as usize;
        // What lies behind the last of a full list was not seen.
        let horizon = best.last().copied();
        let mut passed = Passed { settled: true, damaged: false };
        let Outcome { mut lost, followed: mut moved, .. } = outcome;
        let mut moves = best.len() * MOVES;
        out.clear();
        vectors.clear();
        ahead.clear();
        ahead.ended = asked.request.vectors;
        let (mut at, mut read) = (0, 0);
        while let Some(hit) = best.get(at).copied() {
            if ahead.get(at).is_none() {
                go_on(asked.executor)?;
                self.look_ahead(asked, best, at, ahead)?;
            }
            let current = match ahead.get(at) {
                Some(found) => {
                    found.map(|found| Current { found: hit, hit: found, bytes: Vec::new() })
                }
                None => self.look_up(asked, &hit)?,
            };
            let current = match current {
                Some(current) => Followed::Now(current),
                None => {
                    lost = true;
                    self.follow(asked, query, judge, (hit.inode, hit.chunk))?
                }
            };
            let current = match current {
                Followed::Now(current) if current.found != hit => {
                    moved = true;
                    if moves == 0 {
                        // It stays out of order, and may keep a nearer one out.
                        passed.settled = false;
                    } else if put_in_order(best.get_mut(at..).unwrap_or_default(), current.found) {
                        // Nearer ones come first. It is looked up again when its turn comes.
                        ahead.clear();
                        moves -= 1;
                        continue;
                    }
                    Some(current)
                }
                Followed::Now(current) => Some(current),
                Followed::Gone => None,
                Followed::Damaged => {
                    passed.damaged = true;
                    None
                }
                Followed::Changing => {
                    passed.settled = false;
                    None
                }
            };
            at += 1;
            // The file may have been written to since it was judged.
            let stale = |current: &Current| asked.request.filter.fresh && !current.hit.fresh;
            lost |= current.as_ref().is_some_and(stale);
            if let Some(Current { found, hit, bytes }) = current.filter(|current| !stale(current)) {
                if asked.request.vectors {
                    vectors.try_extend(&bytes)?;
                }
                out.try_push(Answer { hit, row: found.row, place: read })?;
                read += 1;
            }
            if out.len() >= k {
                lost |= moved && drop_repeated(out);
                if out.len() >= k {
                    break;
                }
            }
        }
        if moved {
            lost |= drop_repeated(out);
            sort_by(out, |a, b| (a.hit.distance, a.row) < (b.hit.distance, b.row));
        }
        let last = out.last().filter(|_| out.len() >= k).map(|answer| answer.hit.distance);
        let seen = |last: Distance| horizon.is_some_and(|horizon| last <= horizon.distance);
        passed.settled &= !lost || !outcome.full || last.is_some_and(seen);
        Ok(passed)
    }

    /// Looks up the next of the hits, as far as memory has them as the tree does: then only the files
    /// are still to be looked at.
    #[inline(never)] // its frame must not add to its caller's
    fn look_ahead(
        &self,
        asked: &Asked<'_>,
        best: &[Found],
        from: usize,
        ahead: &mut Ahead,
    ) -> Result<()> {
        if ahead.ended {
            return Ok(());
        }
        ahead.clear();
        ahead.from = from;
        let memory = asked.collection.memory.read();
        if memory.is_loaded()
            && let Some(tree) = asked.collection.tree_as_in_memory(self)
        {
            let files = tree.lookup();
            for found in best.iter().skip(from).take(AHEAD) {
                let info = memory.info(found.row).filter(|info| info.sequence == found.sequence);
                let Some(info) = info else { break };
                let Some(inode) = Inode::look(&files, info.inode)? else { break };
                let hit = (inode.links > 0).then(|| hit_of(found.distance, info, &inode));
                ahead.hits.try_push(hit)?;
            }
        }
        ahead.ended = ahead.hits.is_empty();
        Ok(())
    }

    /// The hit as the tree has it, with its vector if wanted; nothing when it is not as it was, or
    /// its vector cannot be read.
    #[inline(never)] // its frame must not add to its caller's
    fn look_up(&self, asked: &Asked<'_>, hit: &Found) -> Result<Option<Current>> {
        let collection = asked.collection;
        let (layout, inode) = {
            let tree = self.reader();
            let Some(item) = tree.get(collection.row_key(hit.row))? else { return Ok(None) };
            let layout = decode_row(collection.schema.object, &item)?;
            if layout.sequence.get() != hit.sequence {
                return Ok(None);
            }
            match Inode::load(&tree, layout.inode.get()) {
                Ok(inode) if inode.links > 0 => (layout, inode),
                Ok(_) | Err(Error::Stale) => return Ok(None),
                Err(error) => return Err(error),
            }
        };
        let bytes = if asked.request.vectors {
            match self.stored_vector(collection, hit.row, &layout)? {
                Some(bytes) => bytes,
                None => return Ok(None),
            }
        } else {
            Vec::new()
        };
        Ok(Some(Current {
            found: *hit,
            hit: hit_of(hit.distance, &RowInfo::new(&layout), &inode),
            bytes,
        }))
    }

    /// The vector that a chunk of a file has now, compared with the query.
    #[inline(never)] // its frame must not add to its caller's
    pub(crate) fn follow(
        &self,
        asked: &Asked<'_>,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        (number, chunk): (u64, u32),
    ) -> Result<Followed> {
        let collection = asked.collection;
        let key = collection.vector_key(number, chunk);
        let mut unreadable = None;
        for _ in 0..ROUNDS {
            let (row, layout, inode) = {
                let tree = self.reader();
                let Some(row) = crate::vector::row_of(&tree, key)? else {
                    return Ok(Followed::Gone);
                };
                let inode = match Inode::load(&tree, number) {
                    Ok(inode) if inode.links > 0 => inode,
                    Ok(_) | Err(Error::Stale) => return Ok(Followed::Gone),
                    Err(error) => return Err(error),
                };
                match crate::vector::row_layout(&tree, collection, row) {
                    Ok(layout) if layout.inode == number && layout.chunk == chunk => {
                        (row, layout, inode)
                    }
                    Err(error) if !error.is_damage() => return Err(error),
                    _ => return Ok(Followed::Damaged),
                }
            };
            let info = RowInfo::new(&layout);
            if !judge.admits(Some(&info)) {
                judge.take_error()?;
                return Ok(Followed::Gone);
            }
            let Some(bytes) = self.stored_vector(collection, row, &layout)? else {
                // It was replaced between the two, or, when it is still there, is damaged.
                if unreadable.replace(info.sequence) == Some(info.sequence) {
                    return Ok(Followed::Damaged);
                }
                continue;
            };
            let Some(distance) = self.distance(collection, query, &bytes) else {
                return Ok(Followed::Damaged);
            };
            if distance > asked.request.radius.unwrap_or(Distance::MAX) {
                return Ok(Followed::Gone);
            }
            let found = Found::new(distance, row, &info);
            let hit = hit_of(distance, &info, &inode);
            return Ok(Followed::Now(Current { found, hit, bytes }));
        }
        Ok(Followed::Changing)
    }

    /// The vector that `layout` describes, unless it was replaced or is damaged.
    fn stored_vector(
        &self,
        collection: &Collection,
        row: u32,
        layout: &RowLayout,
    ) -> Result<Option<Vec<u8>>> {
        match self.read_row(collection, row, layout.checksum.get()) {
            Err(error) if error.is_damage() => Ok(None),
            result => result,
        }
    }
}

/// Of hits of the same chunk, which may have been in a list as what they were and as what they are,
/// leaves one. Whether there were any.
fn drop_repeated(out: &mut Vec<Answer>) -> bool {
    let before = out.len();
    sort_by(out, |a, b| (a.hit.inode, a.hit.chunk) < (b.hit.inode, b.hit.chunk));
    out.dedup_by_key(|answer| (answer.hit.inode, answer.hit.chunk));
    out.len() < before
}

/// Puts `found` in the place of the first of `best`, which are in order, and then behind those that
/// are nearer. Whether there are any.
fn put_in_order(best: &mut [Found], found: Found) -> bool {
    let nearer = best.iter().skip(1).take_while(|other| **other < found).count();
    let Some(places) = best.get_mut(..=nearer) else { return false };
    // The nearer ones step forward.
    let mut last = found;
    for place in places.iter_mut().rev() {
        core::mem::swap(place, &mut last);
    }
    nearer > 0
}
