// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Searching a collection: the request, the plan, and the report.
//!
//! A search brings the collection up to date with the tree, picks a plan, computes distances with no
//! lock of the tree held, and looks every hit up in the tree before it hands it out: what was
//! removed or replaced meanwhile is never returned.

use crate::codes::encode;
use crate::collection::{Collection, Counts};
use crate::collection_memory::{
    LOAD_BYTES, LOAD_ROWS, Memory, RowInfo, RowItems, go_on, index_error, read_vectors, window_rows,
};
use crate::confirm::{Ahead, Answer, Followed, ROUNDS};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::filter::{Filter, Findings, Judge};
use crate::inode::Inode;
use crate::layout::ROOT_INODE;
use crate::rights::{Caller, Credentials, Monitor};
use crate::scope::{ListedRow, Walk, rows_behind};
use alloc::vec::Vec;
use vexfs_index::{Executor, Hit, ROWS_MAX, Request, Rows, Scratch, Space, exact, exact_parallel};
use vexfs_memory::{TryVec, sort_by};
use vexfs_simd::{Distance, RowTerm};

/// Most queries of one request.
pub const QUERIES_MAX: usize = 1024;
/// Most hits of one query.
pub const SEARCH_K_MAX: u32 = 4096;
/// Most effort of a query.
pub const SEARCH_EFFORT_MAX: u32 = 16_384;
/// Most hits of one request, all queries taken together.
pub const SEARCH_HITS_MAX: u64 = 1 << 17;
/// Most bytes of vectors handed out for one query.
pub const SEARCH_VECTOR_BYTES_MAX: usize = 64 << 20;
/// Effort when the request says 0, unless k is more.
pub const EFFORT_DEFAULT: u32 = 100;

/// Rows whose verdicts tell how much a filter lets through.
const SAMPLE_ROWS: u32 = 64;
/// A filter that lets less than one row in this many through is served by an exact search.
const SELECTIVE_SHARE: u64 = 50;
/// An exact search over this many rows is worth sharing out over threads.
const PARALLEL_ROWS_MIN: u64 = 16_384;
/// How often a query is answered anew because hits turned out to be none.
const PASSES: usize = 16;
/// The rows below a scope are compared one by one when they are so few, or fewer than one in
/// [`LISTED_SHARE`] of all.
const LISTED_ROWS: usize = 2048;
/// See [`LISTED_ROWS`].
const LISTED_SHARE: u64 = 16;
/// Spare memory of searches that is kept for each collection.
const SCRATCHES_MAX: usize = 64;
/// Bytes of hits, of their vectors, and of what a walk found that such memory keeps room for.
const SPARE_BYTES: usize = 1 << 15;

/// What to search for.
#[derive(Clone, Debug)]
pub struct SearchRequest<'a> {
    /// Number of the collection.
    pub collection: u32,
    /// One query or several, one after another, each as long as the collection's shape says.
    pub queries: &'a [u8],
    /// Hits wanted for each query, 1 to [`SEARCH_K_MAX`].
    pub k: u32,
    /// Width of the beam in the graph, to [`SEARCH_EFFORT_MAX`]; 0 takes [`EFFORT_DEFAULT`]. More
    /// finds more of the true neighbours and takes longer.
    pub effort: u32,
    /// Hits that the caller has room for, at most [`SEARCH_HITS_MAX`].
    pub hits_max: u64,
    /// No hit farther than this.
    pub radius: Option<Distance>,
    /// Most distances to compute for a query; 0 sets no limit. Over it the answer is cut. There is no
    /// limit for a caller who may not read everything, as where it cuts tells of what is not read.
    pub examined_max: u64,
    /// Compare every vector.
    pub exact: bool,
    /// Hand out the vectors of the hits too.
    pub vectors: bool,
    /// The directory to search below; [`ROOT_INODE`] is everything.
    pub scope: u64,
    /// What the hits must be.
    pub filter: Filter<'a>,
    /// On whose behalf; `None` is above permissions.
    pub credentials: Option<Credentials<'a>>,
    /// Who has a say in what is returned, besides permissions.
    pub monitor: Option<&'a dyn Monitor>,
}

impl<'a> SearchRequest<'a> {
    /// The `k` nearest of the whole collection.
    pub fn nearest(collection: u32, queries: &'a [u8], k: u32) -> Self {
        Self {
            collection,
            queries,
            k,
            effort: 0,
            hits_max: SEARCH_HITS_MAX,
            radius: None,
            examined_max: 0,
            exact: false,
            vectors: false,
            scope: ROOT_INODE,
            filter: Filter::default(),
            credentials: None,
            monitor: None,
        }
    }

    /// Who asks.
    pub fn caller(&self) -> Caller<'_> {
        Caller { credentials: self.credentials.as_ref(), monitor: self.monitor }
    }
}

/// A vector that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchHit {
    /// How far it is from the query.
    pub distance: Distance,
    /// The file.
    pub inode: u64,
    /// Generation of the file: with the number it never repeats.
    pub generation: u64,
    /// Chunk of the file.
    pub chunk: u32,
    /// First byte of the file that the vector describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The content version that it was made from.
    pub content_version: u64,
    /// Whether the file still has that content.
    pub fresh: bool,
    /// The user's tag.
    pub tag: u64,
}

/// How a request was answered. Later ones cost more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SearchPlan {
    /// The files below the scope were listed and their vectors compared.
    ExactScope,
    /// The graph was followed, and vectors not in it compared.
    Graph,
    /// Every vector was compared.
    ExactAll,
    /// The graph was followed and led to too few hits, so every vector was compared.
    GraphThenExact,
    /// Every vector was read from the device and compared, memory being limited.
    ExactStreamed,
}

/// Why an answer was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CutReason {
    /// [`SearchRequest::examined_max`] was met.
    Work,
    /// Vectors that are damaged on the device were left out.
    Damage,
    /// Vectors were replaced faster than the search could follow.
    Changes,
}

/// How far an answer can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Completeness {
    /// These are the nearest there are.
    Exact,
    /// They are near; the graph may have missed some that are nearer.
    Approximate,
    /// Nearer ones may exist.
    Cut(CutReason),
}

/// What is called with each hit: the number of the query, the hit, and its vector when the request
/// asks for it. False ends the answer.
pub type EachHit<'a> = dyn FnMut(usize, &SearchHit, Option<&[u8]>) -> bool + 'a;

/// What a search did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchReport {
    /// Of all queries the plan that cost the most. For a caller who may not read everything it is the
    /// one that the request asks for, as the one taken follows from how much there is.
    pub plan: SearchPlan,
    /// Of all queries the least complete. For a caller who may not read everything only an answer that
    /// was to be exact is told of as such.
    pub completeness: Completeness,
    /// Hits handed out.
    pub hits: u64,
    /// Distances computed. For a caller who may not read everything it is the number of hits, as
    /// more would tell of vectors that it may not know of; so are the numbers below.
    pub examined: u64,
    /// Vectors that were compared because they were not in the graph yet.
    pub unindexed: u64,
    /// Whether the stored graph was damaged and is not built anew yet.
    pub graph_damaged: bool,
}

/// A hit, and which put it is the vector of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub distance: Distance,
    pub row: u32,
    pub sequence: u64,
    pub inode: u64,
    pub chunk: u32,
}

impl Found {
    pub fn new(distance: Distance, row: u32, info: &RowInfo) -> Self {
        Self { distance, row, sequence: info.sequence, inode: info.inode, chunk: info.chunk }
    }
}

/// Adds hits of the index, found in memory.
fn add_found(best: &mut Vec<Found>, hits: &[Hit], memory: &Memory) -> Result<()> {
    for hit in hits {
        if let Some(info) = memory.info(hit.row) {
            best.try_push(Found::new(hit.distance, hit.row, info))?;
        }
    }
    Ok(())
}

/// The memory of a search, used again by the next.
#[derive(Default)]
pub(crate) struct SearchScratch {
    scratches: Vec<Scratch>,
    findings: Findings,
    walk: Walk,
    /// Hits of a query on their way out.
    best: Vec<Found>,
    ahead: Ahead,
    out: Vec<Answer>,
    vectors: Vec<u8>,
    /// The code of a query.
    code: Vec<u8>,
}

impl SearchScratch {
    /// Gives memory back that only a large request needs.
    fn shrink(&mut self) {
        fn shrink<T>(spare: &mut Vec<T>) {
            if spare.capacity() * size_of::<T>() > SPARE_BYTES {
                *spare = Vec::new();
            }
        }
        self.findings.reset();
        shrink(&mut self.best);
        shrink(&mut self.out);
        shrink(&mut self.vectors);
        if self.walk.memory_bytes() > SPARE_BYTES {
            self.walk = Walk::default();
        }
    }
}

/// What answering one query came to.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub plan: SearchPlan,
    pub completeness: Completeness,
    pub examined: u64,
    pub unindexed: u64,
    pub graph_damaged: bool,
    /// Some hits are newer than others, and a vector may be there as what it was and as what it is.
    pub followed: bool,
    /// The list of hits was as long as was asked for: there may be more behind them.
    pub full: bool,
    /// Some have turned out to be none.
    pub lost: bool,
}

impl Outcome {
    fn exact(plan: SearchPlan) -> Self {
        Self {
            plan,
            completeness: Completeness::Exact,
            examined: 0,
            unindexed: 0,
            graph_damaged: false,
            followed: false,
            full: false,
            lost: false,
        }
    }

    fn add(&mut self, stats: &vexfs_index::Stats) {
        self.examined += stats.examined;
    }

    fn lower(&mut self, completeness: Completeness) {
        self.completeness = self.completeness.max(completeness);
    }

    /// Adds up what passes cost.
    fn merge(&mut self, other: &Self) {
        self.plan = self.plan.max(other.plan);
        self.examined += other.examined;
        self.unindexed += other.unindexed;
        self.graph_damaged |= other.graph_damaged;
    }
}

/// What each query of a request shares.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub request: &'a SearchRequest<'a>,
    pub index: Request,
    pub collection: &'a Collection,
    /// The rows below the scope, when they are few.
    pub listed: Option<&'a [ListedRow]>,
    /// Asked whether to go on.
    pub executor: &'a dyn Executor,
}

impl FileSystem {
    /// Answers the queries of `request`. Calls `each` with the number of the query, a hit, and its
    /// vector when the request asks for it, nearest first, query after query, until it returns
    /// false; no lock is held then.
    ///
    /// A file is returned only when it has a name below the scope and, with credentials or a
    /// monitor, when these let the caller read it and pass through every directory on a path from
    /// the scope down to it.
    /// Ties are in the order of rows.
    ///
    /// Errors: `NotFound` for the collection, `InvalidVector` for a query that is none (a length
    /// that is no multiple of the collection's, say), `Invalid` and `TooBig` for numbers out of
    /// range, `Stale` or `NotDirectory` for the scope, `Device`, `OutOfMemory`, and `Interrupted`
    /// when [`Executor::is_cancelled`] says so, which is asked before much is done each time.
    #[inline(never)] // its frame must not add to its caller's
    pub fn search(
        &self,
        request: &SearchRequest<'_>,
        executor: &dyn Executor,
        each: &mut EachHit<'_>,
    ) -> Result<SearchReport> {
        let collection = self.find_collection(request.collection)?;
        let row_bytes = collection.row_bytes();
        let queries = request.queries.len().checked_div(row_bytes).unwrap_or(0);
        if queries == 0 || queries * row_bytes != request.queries.len() {
            return Err(Error::InvalidVector(vexfs_simd::InvalidRow::Length));
        }
        if queries > QUERIES_MAX {
            return Err(Error::TooBig("queries of one search"));
        }
        if request.k == 0 {
            return Err(Error::Invalid("k must be at least 1"));
        }
        if request.k > SEARCH_K_MAX || u64::from(request.k) * queries as u64 > SEARCH_HITS_MAX {
            return Err(Error::TooBig("hits of one search"));
        }
        if u64::from(request.k) * queries as u64 > request.hits_max {
            return Err(Error::Invalid("there is room for fewer hits than are asked for"));
        }
        if request.effort > SEARCH_EFFORT_MAX {
            return Err(Error::TooBig("effort"));
        }
        if request.vectors && request.k as usize * row_bytes > SEARCH_VECTOR_BYTES_MAX {
            return Err(Error::TooBig("bytes of the vectors of a query's hits"));
        }
        request.filter.check()?;
        let mut terms: Vec<RowTerm> = Vec::new();
        for query in request.queries.chunks_exact(row_bytes) {
            terms.try_push(self.host.kernels.check(&collection.schema.shape, query)?)?;
        }
        if request.scope != ROOT_INODE {
            Inode::load_directory(&self.reader(), request.scope)?;
        }
        let mut scratch = collection.scratches.write().pop().unwrap_or_default();
        let result = self.search_with(request, &collection, &terms, executor, &mut scratch, each);
        scratch.shrink();
        {
            let mut scratches = collection.scratches.write();
            if scratches.len() < SCRATCHES_MAX {
                let _ = scratches.try_push(scratch);
            }
        }
        result
    }

    fn search_with(
        &self,
        request: &SearchRequest<'_>,
        collection: &Collection,
        terms: &[RowTerm],
        executor: &dyn Executor,
        scratch: &mut SearchScratch,
        each: &mut EachHit<'_>,
    ) -> Result<SearchReport> {
        let SearchScratch { scratches, findings, walk, best, ahead, out, vectors, code } = scratch;
        let caller = request.caller();
        let mut judge = Judge::new(self, &request.filter, caller, request.scope, findings);
        let effort = if request.effort == 0 { EFFORT_DEFAULT } else { request.effort };
        let index = Request {
            k: request.k,
            effort,
            radius: request.radius,
            examined_max: if request.examined_max == 0 || caller.is_restricted() {
                u64::MAX
            } else {
                request.examined_max
            },
            filtered: false,
        };
        let mut listing = request.scope != ROOT_INODE
            && !request.exact
            && walk.run(self, &mut judge, request.scope, executor)?;
        let mut listed_at = None;
        let mut total = Outcome::exact(SearchPlan::ExactScope);
        let (mut handed, mut stopped) = (0, false);
        let row_bytes = collection.row_bytes();
        let queries = request.queries.chunks_exact(row_bytes.max(1)).zip(terms);
        for (number, (query, term)) in queries.enumerate() {
            let query = (query, *term);
            let mut settled = false;
            let mut completeness = Completeness::Exact;
            out.clear();
            vectors.clear();
            // More than k hits are asked for once some have turned out to be none.
            let mut spare = 0u32;
            for _ in 0..PASSES {
                // Notes that come in during a long request are taken in as well.
                self.refresh(collection, executor)?;
                if listing {
                    let (version, rows) = {
                        let memory = collection.memory.read_for(executor)?;
                        (memory.version, memory.live.len())
                    };
                    if listed_at != Some(version) {
                        // Read after the refresh, so that no row is older than what is in memory.
                        let most = LISTED_ROWS.max((rows / LISTED_SHARE) as usize);
                        listing = walk.list(self, collection, most, executor)?;
                        listed_at = Some(version);
                    }
                }
                let k = request.k.saturating_add(spare);
                let index = Request { k, effort: index.effort.max(k), ..index };
                let mut asked = Asked {
                    request,
                    index: Request { filtered: !judge.is_open(), ..index },
                    collection,
                    listed: listing.then_some(&*walk.rows),
                    executor,
                };
                let memories = (&mut *scratches, &mut *best, &mut *code);
                let gathered = self.gather(&mut asked, query, &mut judge, executor, memories)?;
                let Some(mut outcome) = gathered else {
                    // It was let go of since the refresh.
                    continue;
                };
                judge.take_error()?;
                outcome.full |= best.len() >= asked.index.k as usize;
                let found = (&mut *best, outcome);
                let memories = (&mut *out, &mut *vectors, &mut *ahead);
                let passed = self.confirm(&asked, query, &mut judge, found, memories)?;
                if passed.damaged {
                    outcome.lower(Completeness::Cut(CutReason::Damage));
                }
                total.merge(&outcome);
                completeness = outcome.completeness;
                settled = passed.settled;
                if settled {
                    break;
                }
                // Hits that are none: removed meanwhile, or files without a name. Others take their
                // places, and from now on every row is looked at first.
                judge.close();
                spare = (spare * 2).max(request.k / 4 + 16).min(SEARCH_K_MAX);
            }
            total.lower(completeness);
            if !settled {
                total.lower(Completeness::Cut(CutReason::Changes));
            }
            for Answer { hit, place, .. } in out.iter() {
                let vector = vectors.get(place * row_bytes..(place + 1) * row_bytes);
                handed += 1;
                if !each(number, hit, vector.filter(|_| request.vectors)) {
                    stopped = true;
                    break;
                }
            }
            if stopped {
                break;
            }
            go_on(executor)?;
        }
        #[cfg(test)]
        crate::rights_tests::PLAN.set(total.plan);
        if caller.is_restricted() {
            // All of these would tell of what the caller may not read.
            (total.examined, total.unindexed) = (handed, 0);
            total.plan = if request.exact { SearchPlan::ExactAll } else { SearchPlan::Graph };
            if !request.exact {
                total.lower(Completeness::Approximate);
            }
        }
        Ok(SearchReport {
            plan: total.plan,
            completeness: total.completeness,
            hits: handed,
            examined: total.examined,
            unindexed: total.unindexed,
            graph_damaged: total.graph_damaged,
        })
    }

    /// The nearest of a query, from memory or from the device, in `best`; nothing when the
    /// collection is not in memory but could be.
    #[inline(never)] // its frame must not add to its caller's
    fn gather(
        &self,
        asked: &mut Asked<'_>,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        executor: &dyn Executor,
        (scratches, best, code): (&mut Vec<Scratch>, &mut Vec<Found>, &mut Vec<u8>),
    ) -> Result<Option<Outcome>> {
        let collection = asked.collection;
        let memory = collection.memory.read_for(executor)?;
        let (codec, graph_damaged) = (memory.codec, memory.graph_damaged);
        if memory.is_too_large() || (asked.request.exact && codec.is_some()) {
            drop(memory);
            let outcome = self.search_device(asked, query, judge, scratches, best)?;
            return Ok(Some(Outcome { graph_damaged, ..outcome }));
        }
        if !memory.is_loaded() {
            return Ok(None);
        }
        let index = asked.index;
        let mut sought = query;
        if let Some(codec) = &codec {
            let (kernels, shape) = (&*self.host.kernels, &collection.schema.shape);
            let term = encode(kernels, shape, codec, query, code)?;
            asked.index = collection.schema.quantization.oversample(&index);
            sought = (code, term);
        }
        let memories = (&mut *scratches, &mut *best);
        let mut outcome = search_memory(self, asked, &memory, sought, judge, executor, memories)?;
        outcome.graph_damaged = graph_damaged;
        // Rows that the tree has and memory does not yet.
        let behind = rows_behind(&memory, asked.listed.unwrap_or_default())?;
        drop(memory);
        if codec.is_some() {
            self.rerank(asked, &index, query, judge, best, &mut outcome)?;
            asked.index = index;
        }
        self.add_followed(asked, &behind, query, judge, best, &mut outcome)?;
        Ok(Some(outcome))
    }

    /// Adds the vectors of `rows`, which memory or a pass over the device may have missed, as they
    /// are now.
    #[inline(never)] // its frame must not add to its caller's
    fn add_followed(
        &self,
        asked: &Asked<'_>,
        rows: &[ListedRow],
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        best: &mut Vec<Found>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        for ListedRow { inode, chunk, .. } in rows {
            go_on(asked.executor)?;
            outcome.examined += 1;
            if let Some(found) = self.current(asked, query, judge, (*inode, *chunk), outcome)? {
                best.try_push(found)?;
            }
        }
        keep_nearest(best, asked.index.k);
        Ok(())
    }

    /// [`FileSystem::follow`], for a hit that is still to be confirmed.
    #[inline(never)] // its frame must not add to its caller's
    fn current(
        &self,
        asked: &Asked<'_>,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        place: (u64, u32),
        outcome: &mut Outcome,
    ) -> Result<Option<Found>> {
        outcome.followed = true;
        match self.follow(asked, query, judge, place)? {
            Followed::Now(current) => return Ok(Some(current.found)),
            Followed::Gone => {}
            Followed::Damaged => outcome.lower(Completeness::Cut(CutReason::Damage)),
            Followed::Changing => outcome.lower(Completeness::Cut(CutReason::Changes)),
        }
        Ok(None)
    }

    /// Orders hits that were found on codes by the vectors themselves, read from the device.
    #[inline(never)] // its frame must not add to its caller's
    fn rerank(
        &self,
        asked: &Asked<'_>,
        wanted: &Request,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        best: &mut Vec<Found>,
        outcome: &mut Outcome,
    ) -> Result<()> {
        // With fewer hits than were asked for, every admitted vector is among them.
        if best.len() >= asked.index.k as usize {
            outcome.full = true;
            outcome.lower(Completeness::Approximate);
        }
        outcome.examined += best.len() as u64;
        for found in best.iter_mut() {
            go_on(asked.executor)?;
            let put = (found.row, found.sequence);
            if let Some(distance) = self.true_distance(asked.collection, query, put)? {
                found.distance = distance;
                continue;
            }
            let place = (found.inode, found.chunk);
            match self.current(asked, query, judge, place, outcome)? {
                Some(current) => *found = current,
                None => {
                    // No put has sequence number 0.
                    found.sequence = 0;
                    outcome.lost = true;
                }
            }
        }
        let radius = wanted.radius.unwrap_or(Distance::MAX);
        best.retain(|found| found.sequence != 0 && found.distance <= radius);
        keep_nearest(best, wanted.k);
        Ok(())
    }

    /// Compares all vectors with the query, reading them from the device.
    #[inline(never)] // its frame must not add to its caller's
    fn search_device(
        &self,
        asked: &Asked<'_>,
        query: (&[u8], RowTerm),
        judge: &mut Judge<'_>,
        scratches: &mut Vec<Scratch>,
        best: &mut Vec<Found>,
    ) -> Result<Outcome> {
        let collection = asked.collection;
        let schema = &collection.schema;
        let mut outcome = Outcome::exact(SearchPlan::ExactStreamed);
        let scratch = first_scratch(scratches)?;
        best.clear();
        let (mut items, mut buffer) = (RowItems::default(), Vec::new());
        let mut window = Rows::new(schema.shape);
        let mut known: Vec<(u32, RowInfo)> = Vec::new();
        let mut doubtful: Vec<RowInfo> = Vec::new();
        let mut from = Some(0);
        let mut seen = Counts::load(&self.reader(), schema.object)?.next_sequence;
        let span = (LOAD_ROWS, window_rows(LOAD_BYTES, collection.row_bytes()));
        while let Some(row) = from {
            go_on(asked.executor)?;
            from = items.read(self, schema.object, row, span)?;
            known.clear();
            read_vectors(self, collection, &items, &mut buffer, &mut |row, layout, vector| {
                match vector {
                    Some((bytes, term)) => {
                        // Numbers within the window are places in `known`.
                        let at = known.len() as u32;
                        window.set(at, bytes, term).map_err(index_error)?;
                        known.try_push((row, RowInfo::new(layout)))?;
                    }
                    // Damaged, or replaced since its item was read.
                    None => doubtful.try_push(RowInfo::new(layout))?,
                }
                Ok(())
            })?;
            let (kernels, executor) = (&*self.host.kernels, asked.executor);
            let space = Space { rows: &window, kernels, executor };
            let mut accept = |at: u32| judge.admits(known.get(at as usize).map(|(_, info)| info));
            let count = known.len() as u32;
            let stats = exact(space, &mut (0..count), query, &asked.index, &mut accept, scratch)
                .map_err(index_error)?;
            outcome.add(&stats);
            for hit in scratch.hits() {
                if let Some((row, info)) = known.get(hit.row as usize) {
                    best.try_push(Found::new(hit.distance, *row, info))?;
                }
            }
            keep_nearest(best, asked.index.k);
            if stats.cut || (outcome.examined >= asked.index.examined_max && from.is_some()) {
                outcome.lower(Completeness::Cut(CutReason::Work));
                return Ok(outcome);
            }
        }
        // A vector that was replaced meanwhile may have gone from rows that were still to be read
        // to others that had been: what was put meanwhile is looked for. When all of it is still
        // there, none of it was replaced again, and nothing was missed.
        for _ in 0..ROUNDS {
            let next = Counts::load(&self.reader(), schema.object)?.next_sequence;
            let (puts, mut found) = (next.saturating_sub(seen), 0);
            from = Some(0).filter(|_| puts > 0);
            while let Some(row) = from {
                go_on(asked.executor)?;
                from = items.read(self, schema.object, row, (LOAD_ROWS, ROWS_MAX))?;
                for (_, layout) in &items.rows {
                    if (seen..next).contains(&layout.sequence.get()) {
                        found += 1;
                        doubtful.try_push(RowInfo::new(layout))?;
                    }
                }
            }
            for info in &doubtful {
                go_on(asked.executor)?;
                let place = (info.inode, info.chunk);
                if let Some(found) = self.current(asked, query, judge, place, &mut outcome)? {
                    best.try_push(found)?;
                }
            }
            outcome.examined += doubtful.len() as u64;
            doubtful.clear();
            keep_nearest(best, asked.index.k);
            if found >= puts {
                return Ok(outcome);
            }
            if outcome.examined >= asked.index.examined_max {
                outcome.lower(Completeness::Cut(CutReason::Work));
                return Ok(outcome);
            }
            seen = next;
        }
        outcome.lower(Completeness::Cut(CutReason::Changes));
        Ok(outcome)
    }
}

/// Sorts hits, drops those that are there twice, and keeps the `k` nearest.
fn keep_nearest(best: &mut Vec<Found>, k: u32) {
    sort_by(best, |a, b| a < b);
    best.dedup();
    best.truncate(k as usize);
}

fn first_scratch(scratches: &mut Vec<Scratch>) -> Result<&mut Scratch> {
    if scratches.is_empty() {
        scratches.try_push(Scratch::new())?;
    }
    scratches.first_mut().ok_or(Error::OutOfMemory)
}

/// Answers a query from memory, leaving the hits in `best`.
#[inline(never)] // its frame must not add to its caller's
fn search_memory(
    fs: &FileSystem,
    asked: &Asked<'_>,
    memory: &Memory,
    query: (&[u8], RowTerm),
    judge: &mut Judge<'_>,
    executor: &dyn Executor,
    (scratches, best): (&mut Vec<Scratch>, &mut Vec<Found>),
) -> Result<Outcome> {
    let space = memory.space_to_search(&*fs.host.kernels, executor);
    best.clear();
    let damage = if memory.damaged() > 0 {
        Completeness::Cut(CutReason::Damage)
    } else {
        Completeness::Exact
    };
    if let Some(rows) = asked.listed {
        let mut outcome = Outcome::exact(SearchPlan::ExactScope);
        outcome.lower(damage);
        let scratch = first_scratch(scratches)?;
        let mut accept = |row: u32| judge.admits(memory.info(row));
        // Ascending. One that two files had while they were listed is there twice.
        let mut last = None;
        let mut rows = rows
            .iter()
            .map(|listed| listed.row)
            .filter(|row| last.replace(*row) != Some(*row) && memory.live.contains(*row));
        let stats = exact(space, &mut rows, query, &asked.index, &mut accept, scratch)
            .map_err(index_error)?;
        outcome.add(&stats);
        if stats.cut {
            outcome.lower(Completeness::Cut(CutReason::Work));
        }
        add_found(best, scratch.hits(), memory)?;
        return Ok(outcome);
    }
    let graph = u64::from(memory.graph.nodes());
    let exact_pays = graph == 0
        || memory.live.len() <= u64::from(asked.index.k).saturating_mul(4)
        || (!judge.is_open() && is_selective(memory, judge));
    let mut outcome = Outcome::exact(SearchPlan::ExactAll);
    outcome.lower(damage);
    if !asked.request.exact && !exact_pays {
        outcome.plan = SearchPlan::Graph;
        outcome.lower(Completeness::Approximate);
        let scratch = first_scratch(scratches)?;
        let mut accept = |row: u32| judge.admits(memory.info(row));
        // First the rows that are not in the graph: one that goes in meanwhile is found by either.
        outcome.unindexed = memory.unindexed();
        if outcome.unindexed > 0 {
            let mut rows = memory.unindexed.iter();
            let stats = exact(space, &mut rows, query, &asked.index, &mut accept, scratch)
                .map_err(index_error)?;
            outcome.add(&stats);
            if stats.cut {
                outcome.lower(Completeness::Cut(CutReason::Work));
            }
            add_found(best, scratch.hits(), memory)?;
        }
        let stats = memory
            .graph
            .search(space, query, &asked.index, &mut accept, scratch)
            .map_err(index_error)?;
        outcome.add(&stats);
        let from_graph = scratch.hits().len() as u64;
        add_found(best, scratch.hits(), memory)?;
        keep_nearest(best, asked.index.k);
        let work = outcome.examined >= asked.index.examined_max;
        if work {
            outcome.lower(Completeness::Cut(CutReason::Work));
        }
        // The graph on its own must have led to as many as it can, and not past nearer ones.
        let wanted = u64::from(asked.index.k).min(graph);
        let enough = !stats.cut && (from_graph >= wanted || asked.index.radius.is_some());
        if work || enough {
            return Ok(outcome);
        }
        outcome.plan = SearchPlan::GraphThenExact;
        outcome.completeness = damage;
        best.clear();
    }
    let stats = exact_all(asked, memory, space, query, judge, executor, scratches)?;
    outcome.add(&stats);
    if stats.cut {
        outcome.lower(Completeness::Cut(CutReason::Work));
    }
    add_found(best, first_scratch(scratches)?.hits(), memory)?;
    Ok(outcome)
}

/// Compares all vectors in memory with the query, on several threads when nothing has to be asked.
fn exact_all(
    asked: &Asked<'_>,
    memory: &Memory,
    space: Space<'_>,
    query: (&[u8], RowTerm),
    judge: &mut Judge<'_>,
    executor: &dyn Executor,
    scratches: &mut Vec<Scratch>,
) -> Result<vexfs_index::Stats> {
    let workers = executor.workers().clamp(1, 64);
    let limited = asked.index.examined_max != u64::MAX;
    if judge.is_open() && workers > 1 && memory.live.len() >= PARALLEL_ROWS_MIN && !limited {
        while scratches.len() < workers {
            scratches.try_push(Scratch::new())?;
        }
        let accept = |row: u32| memory.live.contains(row);
        let scratches = scratches.get_mut(..workers).unwrap_or_default();
        return exact_parallel(space, query, &asked.index, &accept, executor, scratches)
            .map_err(index_error);
    }
    let scratch = first_scratch(scratches)?;
    let mut accept = |row: u32| judge.admits(memory.info(row));
    exact(space, &mut memory.live.iter(), query, &asked.index, &mut accept, scratch)
        .map_err(index_error)
}

/// Whether the judge lets so few rows through that the graph would mostly meet others.
fn is_selective(memory: &Memory, judge: &mut Judge<'_>) -> bool {
    let bound = memory.live.bound();
    let (mut sampled, mut admitted) = (0u64, 0u64);
    for number in 0..SAMPLE_ROWS {
        let from = (u64::from(bound) * u64::from(number) / u64::from(SAMPLE_ROWS)) as u32;
        let Some(row) = memory.live.next(from) else { continue };
        sampled += 1;
        admitted += u64::from(judge.admits(memory.info(row)));
    }
    admitted * SELECTIVE_SHARE < sampled
}
