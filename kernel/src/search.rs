// SPDX-License-Identifier: GPL-2.0-only
//! Searching a collection.

use crate::boundary::{bytes, deliver, failure, status};
use crate::executor::InterruptibleExecutor;
use crate::inode::{EachName, Time};
use core::ffi::c_void;
use vexfs_core::{
    Completeness, Credentials, CutReason, Error, FileSystem, Filter, Monitor, Result, SearchHit,
    SearchPlan, SearchReport, SearchRequest, Want,
};
use vexfs_simd::Distance;

unsafe extern "C" {
    /// Whether security modules let the caller pass through the directory, or else read the file, of
    /// this number: 1 or 0, or a negative errno.
    fn vexfs_host_allows(monitor: *mut c_void, number: u64, directory: bool) -> i32;
}

/// Bits of [`Query::fields`], for what is asked of a hit.
pub const QUERY_SUFFIX: u32 = 1;
/// The size of the file.
pub const QUERY_SIZE: u32 = 2;
/// When its bytes were changed.
pub const QUERY_MODIFIED: u32 = 4;
/// Its owner.
pub const QUERY_UID: u32 = 8;
/// The vector's tag.
pub const QUERY_TAG: u32 = 16;
/// That the vector is fresh.
pub const QUERY_FRESH: u32 = 32;
/// No hit farther than the radius.
pub const QUERY_RADIUS: u32 = 64;
/// Compare every vector.
pub const QUERY_EXACT: u32 = 128;
/// Hand out the vectors of the hits too.
pub const QUERY_VECTORS: u32 = 256;
/// On behalf of a caller; without it the search is above permissions.
pub const QUERY_CREDENTIALS: u32 = 512;
/// No vector of one file.
pub const QUERY_EXCLUDE: u32 = 1024;
/// Access control lists count for the caller, and not modes alone.
pub const QUERY_LISTS: u32 = 2048;

/// What to search for, with a layout that C can declare.
#[repr(C)]
pub struct Query {
    /// One query vector or several, one after another.
    pub queries: *const u8,
    /// Bytes of the query vectors.
    pub queries_bytes: usize,
    /// What a name of the file ends with.
    pub suffix: *const u8,
    /// Bytes of the suffix.
    pub suffix_bytes: usize,
    /// Further groups of the caller.
    pub groups: *const u32,
    /// How many.
    pub groups_count: usize,
    /// What `vexfs_host_allows` takes; null when there is nobody to ask.
    pub monitor: *mut c_void,
    /// The directory to search below.
    pub scope: u64,
    /// Most distances to compute for a query; 0 sets no limit.
    pub examined_max: u64,
    /// Least and greatest size.
    pub size: [u64; 2],
    /// Earliest and latest change of the bytes.
    pub modified: [Time; 2],
    /// Least and greatest tag.
    pub tag: [u64; 2],
    /// The file whose vectors are left out.
    pub exclude: u64,
    /// Which of the others count, of the `QUERY_` bits.
    pub fields: u32,
    /// The collection.
    pub collection: u32,
    /// Hits wanted for each query.
    pub k: u32,
    /// Width of the beam in the graph; 0 takes the default.
    pub effort: u32,
    /// The radius, as the bits of a binary32.
    pub radius_bits: u32,
    /// Owner of the file.
    pub owner: u32,
    /// The caller.
    pub uid: u32,
    /// The caller's group.
    pub gid: u32,
    /// Hits that there is room for.
    pub hits_max: u32,
    /// Zero.
    pub reserved: u32,
}

impl Monitor for Query {
    fn allows(&self, number: u64, want: Want) -> Result<bool> {
        // SAFETY: whoever made the query says that the pointer is one that the function takes.
        match unsafe { vexfs_host_allows(self.monitor, number, want == Want::Search) } {
            // Memory is all that it can lack; what else goes wrong keeps the file closed.
            -12 => Err(Error::OutOfMemory),
            allowed => Ok(allowed > 0),
        }
    }
}

impl Query {
    /// # Safety
    /// The pointers lead to as much as is said of them, for as long as the query lives.
    unsafe fn request(&self) -> SearchRequest<'_> {
        let given = |bit: u32| self.fields & bit != 0;
        // SAFETY: the caller's word.
        let (queries, suffix, groups) = unsafe {
            let groups: &[u32] = if self.groups.is_null() {
                &[]
            } else {
                core::slice::from_raw_parts(self.groups, self.groups_count)
            };
            (bytes(self.queries, self.queries_bytes), bytes(self.suffix, self.suffix_bytes), groups)
        };
        let [size_min, size_max] = self.size;
        let [modified_min, modified_max] = self.modified;
        let [tag_min, tag_max] = self.tag;
        SearchRequest {
            collection: self.collection,
            queries,
            k: self.k,
            effort: self.effort,
            hits_max: u64::from(self.hits_max),
            radius: given(QUERY_RADIUS).then_some(Distance::from_f32_bits(self.radius_bits)),
            examined_max: self.examined_max,
            exact: given(QUERY_EXACT),
            vectors: given(QUERY_VECTORS),
            scope: self.scope,
            filter: Filter {
                name_suffix: given(QUERY_SUFFIX).then_some(suffix),
                size: given(QUERY_SIZE).then_some(size_min..=size_max),
                modified: given(QUERY_MODIFIED)
                    .then_some(modified_min.into()..=modified_max.into()),
                uid: given(QUERY_UID).then_some(self.owner),
                tag: given(QUERY_TAG).then_some(tag_min..=tag_max),
                fresh: given(QUERY_FRESH),
                exclude: given(QUERY_EXCLUDE).then_some(self.exclude),
            },
            credentials: given(QUERY_CREDENTIALS).then_some(Credentials {
                uid: self.uid,
                gid: self.gid,
                groups,
                lists: given(QUERY_LISTS),
            }),
            monitor: (!self.monitor.is_null()).then_some(self),
        }
    }
}

/// A hit, with a layout that C can declare.
#[repr(C)]
pub struct Hit {
    /// The file.
    pub inode: u64,
    /// Generation of the file.
    pub generation: u64,
    /// First byte of the file that the vector describes.
    pub offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file.
    pub length: u64,
    /// The content version that it was made from.
    pub content_version: u64,
    /// The user's tag.
    pub tag: u64,
    /// The vector when it was asked for, else null.
    pub vector: *const u8,
    /// Bytes of the vector.
    pub vector_bytes: usize,
    /// Number of the query.
    pub query: u32,
    /// The bits of the distance, a binary32.
    pub distance_bits: u32,
    /// Chunk of the file.
    pub chunk: u32,
    /// 1 if the file still has the vector's content, else 0.
    pub fresh: u32,
}

impl Hit {
    fn new(query: usize, hit: &SearchHit, vector: Option<&[u8]>) -> Self {
        Self {
            inode: hit.inode,
            generation: hit.generation,
            offset: hit.offset,
            length: hit.length,
            content_version: hit.content_version,
            tag: hit.tag,
            vector: vector.map_or(core::ptr::null(), <[u8]>::as_ptr),
            vector_bytes: vector.map_or(0, <[u8]>::len),
            query: query as u32,
            distance_bits: hit.distance.to_f32_bits(),
            chunk: hit.chunk,
            fresh: u32::from(hit.fresh),
        }
    }
}

/// What a search did, with a layout that C can declare.
#[repr(C)]
pub struct Report {
    /// Hits handed out.
    pub hits: u64,
    /// Distances computed.
    pub examined: u64,
    /// Vectors compared because they were not in the graph yet.
    pub unindexed: u64,
    /// 0 exact within the scope, 1 graph, 2 exact, 3 graph and then exact, 4 exact from the device.
    pub plan: u32,
    /// 0 exact, 1 approximate, 2 cut by the limit of work, 3 cut by damage, 4 cut by changes.
    pub completeness: u32,
    /// 1 if the stored graph was damaged, else 0.
    pub graph_damaged: u32,
    /// Zero.
    pub reserved: u32,
}

impl From<SearchReport> for Report {
    fn from(report: SearchReport) -> Self {
        Self {
            hits: report.hits,
            examined: report.examined,
            unindexed: report.unindexed,
            plan: match report.plan {
                SearchPlan::ExactScope => 0,
                SearchPlan::Graph => 1,
                SearchPlan::ExactAll => 2,
                SearchPlan::GraphThenExact => 3,
                SearchPlan::ExactStreamed => 4,
            },
            completeness: match report.completeness {
                Completeness::Exact => 0,
                Completeness::Approximate => 1,
                Completeness::Cut(CutReason::Work) => 2,
                Completeness::Cut(CutReason::Damage) => 3,
                Completeness::Cut(CutReason::Changes) => 4,
            },
            graph_damaged: u32::from(report.graph_damaged),
            reserved: 0,
        }
    }
}

/// Takes a hit from the core; a false answer ends the search.
pub type EachHit = extern "C" fn(context: *mut c_void, hit: &Hit) -> bool;

/// Answers a query: calls `each` with the hits, nearest first, query after query. `-EINTR` when the
/// calling thread has a signal to see to.
///
/// # Safety
/// The pointers of `query` lead to as much as is said of them; `report` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_search(
    file_system: &FileSystem,
    query: &Query,
    each: EachHit,
    context: *mut c_void,
    report: *mut Report,
) -> i32 {
    // SAFETY: the caller's word.
    let request = unsafe { query.request() };
    let executor = InterruptibleExecutor::default();
    let result = file_system.search(&request, &executor, &mut |number, hit, vector| {
        each(context, &Hit::new(number, hit, vector))
    });
    // SAFETY: the caller's word.
    unsafe { deliver(result.map(Report::from), report) }
}

/// Calls `each` with the paths of an inode (and parent 0) for which it may be a hit of `query`: those
/// through its scope that its caller may walk, absolute as seen from there. It must not call the file
/// system.
///
/// # Safety
/// The pointers of `query` lead to as much as is said of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_hit_paths(
    file_system: &FileSystem,
    query: &Query,
    number: u64,
    each: EachName,
    context: *mut c_void,
) -> i32 {
    // SAFETY: the caller's word.
    let request = unsafe { query.request() };
    let executor = InterruptibleExecutor::default();
    status(file_system.paths(number, request.scope, request.caller(), &executor, &mut |path| {
        each(context, 0, path.as_ptr(), path.len())
    }))
}

/// Whether an inode may be a hit of `query`, whatever its vectors: 1 or 0, or a negative errno.
///
/// # Safety
/// The pointers of `query` lead to as much as is said of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_may_read(
    file_system: &FileSystem,
    query: &Query,
    number: u64,
) -> i32 {
    // SAFETY: the caller's word.
    let request = unsafe { query.request() };
    match file_system.may_read(number, request.scope, request.caller()) {
        Ok(may) => i32::from(may),
        Err(error) => failure(&error),
    }
}
