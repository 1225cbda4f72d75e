// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A mounted VexFS: its collections and vectors, by the kernel's ioctls. Its files are the machine's
//! ([`Files::Host`](crate::Files::Host)).

use crate::behalf::on_behalf_of;
use crate::error::{Error, Reason, Result};
use crate::host_files::{self, HostFile, above, errno, failed};
use crate::ioctl;
use crate::vectors::{FileVectors, FileVersion, Hit, Vector};
use crate::volume::EachVector;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use vexfs_core::{
    CollectionInfo, CollectionOptions, Completeness, Credentials, CutReason, Error as CoreError,
    FileSystemStatus, MODEL_BYTES_MAX, Maintenance, PutReport, QUERIES_MAX, Quantization,
    SEARCH_EFFORT_MAX, SEARCH_HITS_MAX, SEARCH_K_MAX, SearchHit, SearchPlan, SearchReport,
    SearchRequest, Timestamp, VectorInfo, VectorPut,
};
use vexfs_simd::{Distance, ElementType, Metric, Shape};
use vexfs_uapi as uapi;
use vexfs_uapi::Command;
use zerocopy::FromZeros;

/// Collections and vectors that are listed at a time.
const BATCH: usize = 256;
/// Bytes of room for the paths of a file that are told at a time.
const PATHS_BYTES: usize = 16 << 10;
/// Bytes of the longest path that is told.
const PATH_BYTES_MAX: usize = 1 << 20;
/// Bytes of vectors that are put at a time; the kernel takes 64 MiB.
const PUT_BYTES: usize = 16 << 20;
/// Files that are held open while vectors are read in the order of their rows.
const OPEN_FILES: usize = 64;

/// A mounted VexFS.
pub struct Mount {
    /// The directory it was found by.
    named: PathBuf,
    /// The machine's number of it.
    device: u64,
    /// The directory that commands are given on.
    top: OnceLock<(PathBuf, File)>,
    digests: Mutex<Digests>,
}

/// The vectors of a collection by their digests, as far as it has been listed.
#[derive(Default)]
struct Digests {
    collection: u32,
    next: u32,
    /// File and chunk.
    vectors: HashMap<[u8; uapi::DIGEST_BYTES], (u64, u32)>,
}

/// Whether a path, symbolic links followed, leads to something on a mounted VexFS.
pub(crate) fn is_on_vexfs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|status| is_vexfs(&status))
}

fn is_vexfs(status: &rustix::fs::StatFs) -> bool {
    u32::try_from(status.f_type) == Ok(uapi::SUPER_MAGIC)
}

/// Whether what is at a path is on a mounted VexFS, or a link that leads to one; nothing if there is
/// nothing.
fn lies_on_vexfs(path: &Path) -> Option<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()?;
    let here = rustix::fs::fstatfs(place).is_ok_and(|status| is_vexfs(&status));
    Some(here || is_on_vexfs(path))
}

impl Mount {
    /// The mounted VexFS that `path` lies on, or would if it were there.
    pub fn at(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let mut upwards = std::iter::successors(Some(path.as_ref()), |path| above(path));
        let there = upwards.find_map(|path| Some((path, lies_on_vexfs(path)?)));
        let Some((at, true)) = there else { return Ok(None) };
        let named = if at.is_dir() && is_on_vexfs(at) {
            at.to_owned()
        } else if let Some(directory) = above(at).filter(|directory| is_on_vexfs(directory)) {
            directory.to_owned()
        } else {
            let file = at.canonicalize().map_err(failed(at))?;
            above(&file).unwrap_or(&file).to_owned()
        };
        let device = named.metadata().map_err(failed(&named))?.dev();
        Ok(Some(Self { named, device, top: OnceLock::new(), digests: Mutex::default() }))
    }

    /// A directory on it: that of the path it was found by.
    pub fn path(&self) -> &Path {
        &self.named
    }

    /// What the machine calls it: the same for all paths on one mounted file system.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// The directory that commands are given on: where it is mounted, or for whom that is closed,
    /// where it was found.
    fn top(&self) -> Result<&(PathBuf, File)> {
        if let Some(top) = self.top.get() {
            return Ok(top);
        }
        let named = self.named.canonicalize().map_err(failed(&self.named))?;
        let is_top = |path: &&Path| host_files::is_mount_top(path).unwrap_or(false);
        let top = named.ancestors().find(is_top).unwrap_or(&named).to_owned();
        let opened = match File::open(&top) {
            Ok(file) => (top, file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let file = File::open(&named).map_err(failed(&named))?;
                (named, file)
            }
            Err(error) => return Err(failed(&top)(error)),
        };
        Ok(self.top.get_or_init(|| opened))
    }

    /// Gives a command on the file system as a whole.
    fn give<T>(&self, command: impl FnOnce(&File) -> rustix::io::Result<T>) -> Result<T> {
        let (path, file) = self.top()?;
        command(file).map_err(errno(path))
    }

    /// Gives a command on a collection, which errors name.
    fn on_collection<T>(
        &self,
        name: impl AsRef<[u8]>,
        command: impl FnOnce(&File) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let (path, file) = self.top()?;
        command(file).map_err(|errno| {
            let mut object: OsString = path.as_os_str().to_owned();
            object.push(": collection ");
            object.push(OsStr::from_bytes(name.as_ref()));
            Error::new(object, Reason::Host(errno.into()))
        })
    }

    /// Space, counts and identity.
    pub fn status(&self) -> Result<FileSystemStatus> {
        let info = self.give(|top| ioctl::info(top))?;
        Ok(FileSystemStatus {
            block_bytes: info.block_bytes,
            blocks: info.blocks,
            blocks_free: info.blocks_free,
            blocks_available: info.blocks_available,
            inodes: info.inodes,
            inodes_free: info.inodes_free,
            generation: info.generation,
            writer_generation: info.writer_generation,
            uuid: info.uuid,
            label: info.label,
            features: info.features,
            created_seconds: info.created_seconds,
            published_seconds: info.published_seconds,
            read_only: info.read_only != 0,
            cache_bytes: info.cache_bytes,
            tree_levels: info.tree_levels,
            // The kernel's own affair.
            inline_bytes_max: 0,
        })
    }

    /// Makes all changes so far durable.
    pub fn sync(&self) -> Result<()> {
        match self.top() {
            Ok((path, top)) => rustix::fs::syncfs(top).map_err(errno(path)),
            // For whom nothing can be opened, everything is made durable.
            Err(_) => {
                rustix::fs::sync();
                Ok(())
            }
        }
    }

    /// Makes a collection and tells of it.
    pub fn create_collection(&self, options: &CollectionOptions<'_>) -> Result<CollectionInfo> {
        let mut wanted = uapi::Collection {
            dimension: options.shape.dimension,
            build_effort: options.build_effort,
            degree: options.degree,
            element: options.shape.element as u8,
            metric: options.shape.metric as u8,
            quantization: options.quantization as u8,
            ..uapi::Collection::new_zeroed()
        };
        let about = |reason: CoreError| Error::new(format!("collection {}", options.name), reason);
        fill(&mut wanted.name, options.name).map_err(about)?;
        if options.model.len() > MODEL_BYTES_MAX {
            return Err(about(CoreError::TooBig("model tag")));
        }
        fill(&mut wanted.model, options.model).map_err(about)?;
        let made = self.on_collection(options.name, |top| ioctl::create_collection(top, wanted))?;
        self.describe(&made)
    }

    /// All collections, in the order they were made in.
    pub fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let mut room = vec![uapi::Collection::new_zeroed(); BATCH];
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let listed = self.give(|top| ioctl::list_collections(top, after, &mut room))?;
            let listed_now = room.iter().take(listed.count as usize);
            all.extend(listed_now.map(|info| self.describe(info)).collect::<Result<Vec<_>>>()?);
            if (listed.count as usize) < BATCH {
                return Ok(all);
            }
            after = listed.after;
        }
    }

    /// What the collection of this name is and holds.
    pub fn collection(&self, name: &str) -> Result<CollectionInfo> {
        let mut wanted = uapi::Collection::new_zeroed();
        // No collection has such a name.
        if name.is_empty() || fill(&mut wanted.name, name).is_err() {
            return self.on_collection(name, |_| Err(Errno::NOENT));
        }
        let info = self.on_collection(name, |top| ioctl::show_collection(top, wanted))?;
        self.describe(&info)
    }

    /// Bytes that a collection takes on the device; 0 where it is not told.
    pub fn stored_bytes(&self, info: &CollectionInfo) -> Result<u64> {
        let wanted = uapi::Collection { number: info.number, ..uapi::Collection::new_zeroed() };
        let told = self.on_collection(&info.name, |top| ioctl::show_collection(top, wanted))?;
        Ok(told.stored_bytes)
    }

    /// Drops a collection with all its vectors.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        let number = self.collection(name)?.number;
        self.on_collection(name, |top| ioctl::drop_collection(top, number))
    }

    /// Builds a collection's graph anew.
    pub fn rebuild_collection(&self, info: &CollectionInfo) -> Result<Maintenance> {
        self.maintain(info, uapi::MAINTAIN_REBUILD)
    }

    /// Puts every vector of a collection into its graph.
    pub fn maintain_collection(&self, info: &CollectionInfo) -> Result<Maintenance> {
        self.maintain(info, 0)
    }

    fn maintain(&self, info: &CollectionInfo, flags: u32) -> Result<Maintenance> {
        let done = self
            .on_collection(&info.name, |top| ioctl::maintain_collection(top, info.number, flags))?;
        let uapi::CollectionMaintain { inserted, removed, left, .. } = done;
        Ok(Maintenance { inserted, removed, left, stored: false })
    }

    /// The kernel's description of a collection in the core's words.
    fn describe(&self, info: &uapi::Collection) -> Result<CollectionInfo> {
        let shape = (ElementType::from_number(info.element), Metric::from_number(info.metric));
        let (name, model) =
            (part(&info.name, info.name_bytes), part(&info.model, info.model_bytes));
        let ((Some(element), Some(metric)), Some(quantization)) =
            (shape, Quantization::from_number(info.quantization))
        else {
            let unknown = CoreError::NotSupported("a collection of a kind unknown here");
            return Err(Error::new(&self.named, unknown));
        };
        Ok(CollectionInfo {
            number: info.number,
            name: name.to_vec(),
            model: model.to_vec(),
            shape: Shape { element, metric, dimension: info.dimension },
            quantization,
            degree: info.degree,
            build_effort: info.build_effort,
            created: Timestamp { seconds: info.created_seconds, nanoseconds: 0 },
            counted: info.counted != 0,
            rows: info.rows,
            indexed: info.indexed,
            unindexed: info.unindexed,
            memory_bytes: info.memory_bytes,
            loaded: info.loaded != 0,
            damaged: info.damaged,
            graph_damaged: info.graph_damaged != 0,
        })
    }

    /// The paths of an inode below a directory, relative to it; none if it has none there that may be
    /// walked.
    fn paths_below(directory: &File, path: &Path, number: u64) -> Result<Vec<PathBuf>> {
        let (mut room, mut all) = (vec![0; PATHS_BYTES], Vec::new());
        loop {
            let told = match ioctl::paths(directory, number, all.len() as u32, &mut room) {
                Ok(told) => told,
                // There are none, or all went meanwhile.
                Err(Errno::NOENT | Errno::STALE) => return Ok(Vec::new()),
                // A path may be longer than the operating system takes in one piece.
                Err(Errno::RANGE) if room.len() < PATH_BYTES_MAX => {
                    room.resize(PATH_BYTES_MAX, 0);
                    continue;
                }
                Err(error) => return Err(errno(path)(error)),
            };
            let used = &room[..(told.bytes as usize).min(room.len())];
            let paths = used.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            all.extend(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))));
            if told.more == 0 {
                return Ok(all);
            }
        }
    }

    /// All paths of an inode that may be walked.
    pub fn paths(&self, number: u64) -> Result<Vec<PathBuf>> {
        let (path, top) = self.top()?;
        let below = Self::paths_below(top, path, number)?;
        Ok(below.into_iter().map(|below| path.join(below)).collect())
    }

    /// Opens the file of this number for reading, by one of its paths.
    fn open_number(&self, number: u64) -> Result<Option<HostFile>> {
        for path in self.paths(number)? {
            match HostFile::open(&path, false) {
                Ok(file) if file.number()? == number => return Ok(Some(file)),
                // Renamed, or removed, meanwhile.
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Calls `each` with the vectors of a collection and their files, from row `from` on, until it
    /// returns false, and returns where to go on.
    fn each_row(
        &self,
        info: &CollectionInfo,
        from: u32,
        each: &mut dyn FnMut(u64, &uapi::Vector) -> Result<bool>,
    ) -> Result<u32> {
        let (mut vectors, mut inodes) = (vec![uapi::Vector::new_zeroed(); BATCH], vec![0; BATCH]);
        let mut from = from;
        loop {
            let listed = self.on_collection(&info.name, |top| {
                ioctl::rows(top, info.number, from, &mut vectors, &mut inodes)
            })?;
            from = listed.from;
            for (vector, inode) in vectors.iter().zip(&inodes).take(listed.count as usize) {
                if !each(*inode, vector)? {
                    return Ok(from);
                }
            }
            if listed.more == 0 {
                return Ok(from);
            }
        }
    }

    /// Calls `each` with every vector of a collection, in the order of its rows, until it returns
    /// false. Those of files that the caller may not read are left out.
    pub fn each_vector(&self, info: &CollectionInfo, each: &mut EachVector<'_>) -> Result<()> {
        let mut open: HashMap<u64, HostFile> = HashMap::new();
        self.each_row(info, 0, &mut |number, vector| {
            if !open.contains_key(&number) {
                let Some(file) = self.open_number(number)? else { return Ok(true) };
                if open.len() >= OPEN_FILES {
                    open.clear();
                }
                open.insert(number, file);
            }
            match open[&number].vector(info, vector.chunk) {
                Ok(found) => Ok(each(vector.chunk, Ok(&found.bytes))),
                Err(error) if error.is_damage() => Ok(each(vector.chunk, Err(error))),
                // Removed meanwhile.
                Err(error) if error.is_not_found() => Ok(true),
                Err(error) => Err(error),
            }
        })?;
        Ok(())
    }

    /// The bytes of a vector with this digest, if one is known of.
    pub fn find_by_digest(
        &self,
        info: &CollectionInfo,
        digest: &[u8; uapi::DIGEST_BYTES],
    ) -> Result<Option<Vec<u8>>> {
        let mut digests = self.digests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if digests.collection != info.number {
            *digests = Digests { collection: info.number, ..Digests::default() };
        }
        if !digests.vectors.contains_key(digest) {
            let from = digests.next;
            digests.next = self.each_row(info, from, &mut |number, vector| {
                digests.vectors.insert(vector.digest, (number, vector.chunk));
                Ok(true)
            })?;
        }
        let Some((number, chunk)) = digests.vectors.get(digest) else { return Ok(None) };
        let Some(file) = self.open_number(*number)? else { return Ok(None) };
        match file.vector(info, *chunk) {
            Ok(vector) if vector.info.digest == *digest => Ok(Some(vector.bytes)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A directory of a mounted VexFS, open to be searched below.
pub struct MountScope {
    path: PathBuf,
    directory: File,
}

impl MountScope {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let directory = File::open(path).map_err(failed(path))?;
        if !directory.metadata().map_err(failed(path))?.is_dir() {
            return Err(Error::new(path, CoreError::NotDirectory));
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Answers a request; its scope is this directory, and its caller is the process unless it has
    /// credentials.
    pub(crate) fn search(
        &self,
        info: &CollectionInfo,
        request: &SearchRequest<'_>,
    ) -> Result<(Vec<Hit>, SearchReport, Duration)> {
        let queries = request.queries.len().checked_div(info.shape.row_bytes()).unwrap_or(0);
        let about = |error: CoreError| Error::new(&self.path, error);
        check_limits(request, queries).map_err(about)?;
        let mut hits = vec![uapi::Hit::new_zeroed(); request.k as usize * queries];
        let suffix = request.filter.name_suffix.unwrap_or_default();
        let wanted = wanted(request);
        let (directory, asked, room) = (&self.directory, request.queries, &mut hits);
        let search = || ioctl::search(directory, wanted, asked, suffix, room);
        let done = self.on_behalf_of(request.credentials.as_ref(), search)?;
        let done = done.map_err(errno(&self.path))?;
        let hits = hits.iter().take(done.hits_count as usize).map(to_hit).collect();
        Ok((hits, to_report(&done, info), Duration::from_nanos(done.nanoseconds)))
    }

    fn on_behalf_of<T: Send>(
        &self,
        credentials: Option<&Credentials<'_>>,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T> {
        on_behalf_of(credentials, work).map_err(|errno| {
            let user = credentials.map_or(0, |credentials| credentials.uid);
            Error::new(format!("user {user}"), Reason::Host(errno.into()))
        })
    }

    /// The paths of an inode below this directory that the process, or the user of the credentials,
    /// may walk.
    pub(crate) fn paths(
        &self,
        number: u64,
        credentials: Option<&Credentials<'_>>,
    ) -> Result<Vec<PathBuf>> {
        let find = || Mount::paths_below(&self.directory, &self.path, number);
        let below = self.on_behalf_of(credentials, find)??;
        Ok(below.into_iter().map(|below| self.path.join(below)).collect())
    }
}

/// Refuses what is over a limit with its name, which an errno does not tell.
fn check_limits(request: &SearchRequest<'_>, queries: usize) -> Result<(), CoreError> {
    let hits = u64::from(request.k) * queries as u64;
    if queries > QUERIES_MAX {
        Err(CoreError::TooBig("queries of one search"))
    } else if request.k > SEARCH_K_MAX || hits > SEARCH_HITS_MAX {
        Err(CoreError::TooBig("hits of one search"))
    } else if request.effort > SEARCH_EFFORT_MAX {
        Err(CoreError::TooBig("effort"))
    } else {
        Ok(())
    }
}

/// What a request asks of the kernel.
fn wanted(request: &SearchRequest<'_>) -> uapi::Search {
    let filter = &request.filter;
    let mut wanted = uapi::Search {
        collection: request.collection,
        k: request.k,
        effort: request.effort,
        radius: request.radius.map_or(0, Distance::to_f32_bits),
        examined_max: request.examined_max,
        exclude: filter.exclude.unwrap_or(0),
        uid: filter.uid.unwrap_or(0),
        ..uapi::Search::new()
    };
    for (flag, asked) in [
        (uapi::SEARCH_EXACT, request.exact),
        (uapi::SEARCH_RADIUS, request.radius.is_some()),
        // With an empty one ends every name.
        (uapi::SEARCH_SUFFIX, filter.name_suffix.is_some_and(|suffix| !suffix.is_empty())),
        (uapi::SEARCH_SIZE, filter.size.is_some()),
        (uapi::SEARCH_MODIFIED, filter.modified.is_some()),
        (uapi::SEARCH_UID, filter.uid.is_some()),
        (uapi::SEARCH_TAG, filter.tag.is_some()),
        (uapi::SEARCH_FRESH, filter.fresh),
        (uapi::SEARCH_EXCLUDE, filter.exclude.is_some()),
    ] {
        wanted.flags |= if asked { flag } else { 0 };
    }
    let ends = |range: &RangeInclusive<u64>| [*range.start(), *range.end()];
    wanted.size_range = filter.size.as_ref().map_or([0; 2], ends);
    wanted.tag_range = filter.tag.as_ref().map_or([0; 2], ends);
    if let Some(range) = &filter.modified {
        wanted.modified_range = [range.start(), range.end()].map(|time| uapi::Time {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
            reserved: 0,
        });
    }
    wanted
}

fn to_hit(hit: &uapi::Hit) -> Hit {
    Hit {
        query: hit.query as usize,
        distance: f32::from_bits(hit.distance),
        found: SearchHit {
            distance: Distance::from_f32_bits(hit.distance),
            inode: hit.inode,
            generation: hit.generation,
            chunk: hit.chunk,
            offset: hit.offset,
            length: hit.length,
            content_version: hit.content_version,
            fresh: hit.fresh != 0,
            tag: hit.tag,
        },
        vector: None,
    }
}

fn to_report(done: &uapi::Search, info: &CollectionInfo) -> SearchReport {
    SearchReport {
        plan: match done.plan {
            uapi::PLAN_EXACT_SCOPE => SearchPlan::ExactScope,
            uapi::PLAN_GRAPH => SearchPlan::Graph,
            uapi::PLAN_EXACT => SearchPlan::ExactAll,
            uapi::PLAN_GRAPH_THEN_EXACT => SearchPlan::GraphThenExact,
            _ => SearchPlan::ExactStreamed,
        },
        completeness: match done.completeness {
            uapi::ANSWER_EXACT => Completeness::Exact,
            uapi::ANSWER_APPROXIMATE => Completeness::Approximate,
            uapi::ANSWER_CUT_BY_WORK => Completeness::Cut(CutReason::Work),
            uapi::ANSWER_CUT_BY_DAMAGE => Completeness::Cut(CutReason::Damage),
            _ => Completeness::Cut(CutReason::Changes),
        },
        hits: u64::from(done.hits_count),
        examined: done.examined,
        unindexed: done.unindexed,
        graph_damaged: info.graph_damaged,
    }
}

impl HostFile {
    pub(crate) fn version(&self) -> Result<FileVersion> {
        let listed = ioctl::list(&self.file, 0, &mut []).map_err(errno(&self.path))?;
        Ok(to_version(&listed))
    }

    pub(crate) fn vectors(&self) -> Result<FileVectors> {
        let number = self.number()?;
        let mut room = vec![uapi::Vector::new_zeroed(); BATCH];
        let (mut version, mut list) = (None, Vec::new());
        loop {
            let listed = ioctl::list(&self.file, list.len() as u64, &mut room);
            let listed = listed.map_err(errno(&self.path))?;
            // What follows may be of a later one, and is stale by this.
            let version = *version.get_or_insert(to_version(&listed));
            let count = listed.count as usize;
            list.extend(room.iter().take(count).map(|vector| to_info(vector, number)));
            if count == 0 || list.len() as u64 >= listed.total {
                return Ok(FileVectors { version, list });
            }
        }
    }

    pub(crate) fn vector(&self, info: &CollectionInfo, chunk: u32) -> Result<Vector> {
        let mut bytes = vec![0; info.shape.row_bytes()];
        let got = ioctl::get(&self.file, info.number, chunk, &mut bytes);
        let got = got.map_err(errno(&self.path))?;
        Ok(Vector { info: to_info(&got.vector, self.number()?), bytes })
    }

    pub(crate) fn put_vectors(
        &self,
        info: &CollectionInfo,
        vectors: &[VectorPut<'_>],
    ) -> Result<PutReport> {
        let kernels = vexfs_simd::detect();
        for put in vectors {
            // With the chunk at fault, which an errno does not tell.
            kernels.check(&info.shape, put.bytes).map_err(|reason| {
                Error::new(&self.path, CoreError::InvalidChunk { chunk: put.chunk, reason })
            })?;
        }
        let row_bytes = info.shape.row_bytes().max(1);
        let mut report = PutReport::default();
        for part in vectors.chunks((PUT_BYTES / row_bytes).clamp(1, vexfs_core::PUT_VECTORS_MAX)) {
            let described: Vec<uapi::Vector> = part.iter().map(to_put).collect();
            let data: Vec<u8> = part.iter().flat_map(|put| put.bytes).copied().collect();
            let put = ioctl::put(&self.file, info.number, &described, &data);
            let put = put.map_err(errno(&self.path))?;
            report.stored += put.stored;
            report.replaced += put.replaced;
            report.stale += put.stale;
            report.content_version = put.content_version;
        }
        Ok(report)
    }

    pub(crate) fn remove_vectors(
        &self,
        info: &CollectionInfo,
        chunks: RangeInclusive<u32>,
    ) -> Result<u64> {
        let (first, last) = (*chunks.start(), *chunks.end());
        ioctl::remove(&self.file, info.number, first, last).map_err(errno(&self.path))
    }
}

fn to_version(listed: &uapi::List) -> FileVersion {
    FileVersion { content: listed.content_version, generation: listed.generation }
}

fn to_put(put: &VectorPut<'_>) -> uapi::Vector {
    uapi::Vector {
        offset: put.offset,
        length: put.length,
        content_version: put.content_version.unwrap_or(0),
        tag: put.tag,
        digest: put.digest,
        chunk: put.chunk,
        ..uapi::Vector::new_zeroed()
    }
}

fn to_info(vector: &uapi::Vector, inode: u64) -> VectorInfo {
    VectorInfo {
        collection: vector.collection,
        inode,
        chunk: vector.chunk,
        // The kernel does not tell.
        row: u32::MAX,
        offset: vector.offset,
        length: vector.length,
        content_version: vector.content_version,
        fresh: vector.fresh != 0,
        tag: vector.tag,
        digest: vector.digest,
        sequence: vector.sequence,
    }
}

/// Writes a text into its room, which the kernel wants to end with a zero.
fn fill(room: &mut [u8], text: &str) -> Result<(), CoreError> {
    match room.get_mut(..text.len() + 1) {
        Some(start) if !text.as_bytes().contains(&0) => {
            start[..text.len()].copy_from_slice(text.as_bytes());
            Ok(())
        }
        _ => Err(CoreError::NameTooLong),
    }
}

fn part(room: &[u8], bytes: u8) -> &[u8] {
    room.get(..usize::from(bytes)).unwrap_or(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_core::Filter;

    #[test]
    fn every_part_of_a_request_is_asked_of_the_kernel() {
        let queries = [1; 8];
        let plain = wanted(&SearchRequest::nearest(7, &queries, 3));
        assert_eq!((plain.flags, plain.collection, plain.k, plain.effort), (0, 7, 3, 0));
        let time = |seconds| Timestamp { seconds, nanoseconds: 5 };
        let request = SearchRequest {
            effort: 50,
            radius: Some(Distance::from_f32_bits(2.5f32.to_bits())),
            examined_max: 9,
            exact: true,
            filter: Filter {
                name_suffix: Some(b".txt"),
                size: Some(1..=2),
                modified: Some(time(-3)..=time(4)),
                uid: Some(5),
                tag: Some(6..=7),
                fresh: true,
                exclude: Some(8),
            },
            ..SearchRequest::nearest(7, &queries, 3)
        };
        let asked = wanted(&request);
        let all = uapi::SEARCH_EXCLUDE * 2 - 1;
        assert_eq!((asked.flags, asked.effort, asked.examined_max), (all, 50, 9));
        assert_eq!((f32::from_bits(asked.radius), asked.uid, asked.exclude), (2.5, 5, 8));
        assert_eq!((asked.size_range, asked.tag_range), ([1, 2], [6, 7]));
        let times =
            asked.modified_range.map(|time| (time.seconds, time.nanoseconds, time.reserved));
        assert_eq!(times, [(-3, 5, 0), (4, 5, 0)]);
        // With an empty suffix ends every name.
        let filter = Filter { name_suffix: Some(b""), ..Filter::default() };
        let request = SearchRequest { filter, ..SearchRequest::nearest(7, &queries, 3) };
        assert_eq!(wanted(&request).flags, 0);
    }

    #[test]
    fn limits_are_named() {
        let queries = [1; 8];
        let nearest = SearchRequest::nearest(7, &queries, 3);
        assert_eq!(check_limits(&nearest, 2), Ok(()));
        for (request, queries, name) in [
            (SearchRequest { effort: SEARCH_EFFORT_MAX + 1, ..nearest.clone() }, 2, "effort"),
            (SearchRequest { k: SEARCH_K_MAX, ..nearest.clone() }, 33, "hits of one search"),
            (nearest, QUERIES_MAX + 1, "queries of one search"),
        ] {
            assert_eq!(check_limits(&request, queries), Err(CoreError::TooBig(name)));
        }
    }

    #[test]
    fn a_name_has_room_for_its_end() {
        let mut room = [0; 4];
        assert_eq!(fill(&mut room, "abc"), Ok(()));
        assert_eq!(room, *b"abc\0");
        assert_eq!(fill(&mut room, "abcd"), Err(CoreError::NameTooLong));
        assert_eq!(fill(&mut room, "a\0b"), Err(CoreError::NameTooLong));
    }
}
