// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A VexFS in use, in an image or mounted: what can be done with either is written once, for
//! [`Volume`].

use crate::error::{Error, Result};
use crate::files::Files;
use crate::image::Image;
use crate::mount::{Mount, MountScope};
use crate::path::LastLink;
use crate::threads::Threads;
use crate::vectors::Hit;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vexfs_core::{
    CollectionInfo, CollectionOptions, Credentials, Error as CoreError, Executor, FileSystemStatus,
    Maintenance, SearchHit, SearchReport, SearchRequest, Serial,
};

/// Vectors that are listed at a time.
const BATCH: usize = 4096;

/// What is called with each vector of a collection: its chunk, and its bytes, or when these are
/// damaged an error about its file. False ends the listing.
pub type EachVector<'a> = dyn FnMut(u32, Result<&[u8]>) -> bool + 'a;

/// A VexFS in use. Its files are found through [`Volume::files`], and their vectors through open
/// files; here are the collections, and the search.
pub enum Volume {
    /// In an image file or on a block device.
    Image(Image),
    /// Mounted.
    Mount(Mount),
}

impl Volume {
    /// Its files.
    pub fn files(&self) -> Files<'_> {
        match self {
            Self::Image(image) => Files::Image(image),
            Self::Mount(_) => Files::Host,
        }
    }

    /// Space, counts and identity.
    pub fn status(&self) -> Result<FileSystemStatus> {
        match self {
            Self::Image(image) => Ok(image.status()),
            Self::Mount(mount) => mount.status(),
        }
    }

    /// Makes all changes so far durable.
    pub fn sync(&self) -> Result<()> {
        match self {
            Self::Image(image) => image.sync(),
            Self::Mount(mount) => mount.sync(),
        }
    }

    /// Makes all changes durable and lets go of it; see [`Image::close`].
    pub fn close(self) -> Result<()> {
        match self {
            Self::Image(image) => image.close(),
            Self::Mount(mount) => mount.sync(),
        }
    }

    /// Makes a collection and tells of it.
    pub fn create_collection(&self, options: &CollectionOptions<'_>) -> Result<CollectionInfo> {
        match self {
            Self::Image(image) => {
                image.create_collection(options)?;
                image.collection(options.name)
            }
            Self::Mount(mount) => mount.create_collection(options),
        }
    }

    /// All collections, in the order they were made in.
    pub fn collections(&self) -> Result<Vec<CollectionInfo>> {
        match self {
            Self::Image(image) => image.collections(),
            Self::Mount(mount) => mount.collections(),
        }
    }

    /// What the collection of this name is and holds.
    pub fn collection(&self, name: &str) -> Result<CollectionInfo> {
        match self {
            Self::Image(image) => image.collection(name),
            Self::Mount(mount) => mount.collection(name),
        }
    }

    /// Bytes that a collection's vectors and its graph take on the device; 0 where a mounted file system
    /// does not tell.
    pub fn stored_bytes(&self, info: &CollectionInfo) -> Result<u64> {
        match self {
            Self::Image(image) => image.stored_bytes(info),
            Self::Mount(mount) => mount.stored_bytes(info),
        }
    }

    /// Drops a collection with all its vectors.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        match self {
            Self::Image(image) => image.drop_collection(name),
            Self::Mount(mount) => mount.drop_collection(name),
        }
    }

    /// Builds the search graph of a collection anew from its vectors.
    pub fn rebuild_collection(
        &self,
        info: &CollectionInfo,
        threads: Threads,
    ) -> Result<Maintenance> {
        match self {
            Self::Image(image) => {
                image.rebuild_collection(&String::from_utf8_lossy(&info.name), threads)
            }
            Self::Mount(mount) => mount.rebuild_collection(info),
        }
    }

    /// Puts at most `rows_max` vectors of a collection into its search graph; a mounted file system
    /// puts all of them.
    pub fn maintain_collection(
        &self,
        info: &CollectionInfo,
        rows_max: u64,
        threads: Threads,
    ) -> Result<Maintenance> {
        match self {
            Self::Image(image) => image.about_collection(
                OsStr::from_bytes(&info.name),
                image.core.maintain_collection(info.number, rows_max, &threads),
            ),
            Self::Mount(mount) => mount.maintain_collection(info),
        }
    }

    /// Stores the search graph of a collection as it is in memory; a mounted file system does it in
    /// its own time.
    pub fn store_graph(&self, info: &CollectionInfo, threads: Threads) -> Result<()> {
        match self {
            Self::Image(image) => image.about_collection(
                OsStr::from_bytes(&info.name),
                image.core.store_graph(info.number, &threads),
            ),
            Self::Mount(_) => Ok(()),
        }
    }

    /// Calls `each` with every vector of a collection, in the order of its rows, until it returns
    /// false. On a mounted file system those of files that the caller may not read are left out.
    pub fn each_vector(&self, info: &CollectionInfo, each: &mut EachVector<'_>) -> Result<()> {
        match self {
            Self::Image(image) => each_vector(image, info, each),
            Self::Mount(mount) => mount.each_vector(info, each),
        }
    }

    /// The bytes of a vector with this digest, if there is one.
    pub fn find_by_digest(
        &self,
        info: &CollectionInfo,
        digest: &[u8; 16],
    ) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Image(image) => match image.core.find_by_digest(info.number, digest) {
                Ok((_, bytes)) => Ok(Some(bytes)),
                Err(CoreError::NotFound) => Ok(None),
                Err(error) => image.about_collection(OsStr::from_bytes(&info.name), Err(error)),
            },
            Self::Mount(mount) => mount.find_by_digest(info, digest),
        }
    }

    /// All paths of what is at `path`, a symbolic link itself; on a mounted file system those that
    /// the caller may walk.
    pub fn paths(&self, path: &Path, last: LastLink) -> Result<Vec<PathBuf>> {
        let found = self.files().attributes(path, last)?;
        let mut paths = match self {
            Self::Image(image) => image.paths(found.number)?,
            Self::Mount(mount) => match mount.paths(found.number)? {
                // Of what may not be read none is told.
                paths if paths.is_empty() => vec![path.to_owned()],
                paths => paths,
            },
        };
        paths.sort();
        Ok(paths)
    }

    /// The directory at `path`, to be searched below.
    pub fn scope(&self, path: &Path) -> Result<Scope<'_>> {
        match self {
            Self::Image(image) => ImageScope::open(image, path).map(Scope::Image),
            Self::Mount(_) => MountScope::open(path).map(Scope::Mount),
        }
    }
}

fn each_vector(image: &Image, info: &CollectionInfo, each: &mut EachVector<'_>) -> Result<()> {
    let core = &image.core;
    let (mut next, mut listed) = (Some(0), Vec::new());
    while let Some(from) = next.take() {
        let rows = core.rows_of(info.number, from, &mut |vector| {
            listed.push((vector.inode, vector.chunk));
            next = vector.row.checked_add(1);
            listed.len() < BATCH
        });
        image.about_collection(OsStr::from_bytes(&info.name), rows)?;
        if listed.len() < BATCH {
            next = None;
        }
        for (inode, chunk) in listed.drain(..) {
            let found = core.get_vector(info.number, inode, chunk).map_err(|error| {
                // The name costs more than the vector, and is only wanted here.
                let paths = image.paths(inode).unwrap_or_default();
                let name = paths.first().map_or_else(
                    || format!("{}: inode {inode}", image.device().path().display()).into(),
                    |path| image.object(path),
                );
                Error::new(name, image.reason(error))
            });
            let go_on = match found {
                Ok((_, bytes)) => each(chunk, Ok(&bytes)),
                Err(error) if error.is_damage() => each(chunk, Err(error)),
                Err(error) => return Err(error),
            };
            if !go_on {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A directory of an image, to be searched below.
pub struct ImageScope<'a> {
    image: &'a Image,
    path: PathBuf,
    number: u64,
}

impl<'a> ImageScope<'a> {
    fn open(image: &'a Image, path: &Path) -> Result<Self> {
        Ok(Self { image, path: path.to_owned(), number: image.resolve(path)? })
    }

    fn search(
        &self,
        request: &SearchRequest<'_>,
        executor: &dyn Executor,
    ) -> Result<(Vec<Hit>, SearchReport, Duration)> {
        let start = Instant::now();
        let request = SearchRequest { scope: self.number, vectors: false, ..request.clone() };
        let (hits, report) =
            self.image.about(&self.path, self.image.search_on(&request, executor))?;
        Ok((hits, report, start.elapsed()))
    }

    fn path_of(
        &self,
        hit: &SearchHit,
        ends_so: impl Fn(&[u8]) -> bool,
        credentials: Option<&Credentials<'_>>,
    ) -> Result<Option<PathBuf>> {
        let mut found = None;
        let mut each = |path: &[u8]| {
            if ends_so(path) {
                found = path.strip_prefix(b"/").map(|below| OsStr::from_bytes(below).to_owned());
            }
            found.is_none()
        };
        let core = &self.image.core;
        let told = core.paths(hit.inode, self.number, credentials.into(), &Serial, &mut each);
        self.image.about(&self.path, told)?;
        let Some(below) = found else { return Ok(None) };
        Ok(self.image.paths(self.number)?.first().map(|top| top.join(below)))
    }
}

/// A directory to search below.
pub enum Scope<'a> {
    /// In an image.
    Image(ImageScope<'a>),
    /// On a mounted file system.
    Mount(MountScope),
}

impl Scope<'_> {
    /// Answers the queries of a request below this directory, whatever scope it names: the hits,
    /// query after query and nearest first, without their vectors, how they were found, and how long
    /// that took.
    ///
    /// On a mounted file system the kernel does it, with its own threads, and on behalf of the
    /// process, or of the user of the credentials for a process that may become that one: others get
    /// `EPERM`. No user is above permissions there but root.
    pub fn search(
        &self,
        info: &CollectionInfo,
        request: &SearchRequest<'_>,
        executor: &dyn Executor,
    ) -> Result<(Vec<Hit>, SearchReport, Duration)> {
        match self {
            Self::Image(scope) => scope.search(request, executor),
            Self::Mount(scope) => scope.search(info, request),
        }
    }

    /// A path for which a file is a hit of a request below this directory, as [`Volume::files`] knows
    /// it; none when it has moved away since.
    pub fn path_of(
        &self,
        hit: &SearchHit,
        suffix: &[u8],
        credentials: Option<&Credentials<'_>>,
    ) -> Result<Option<PathBuf>> {
        let ends_so = |path: &[u8]| path.ends_with(suffix);
        match self {
            Self::Image(scope) => scope.path_of(hit, ends_so, credentials),
            Self::Mount(scope) => {
                let mut paths = scope.paths(hit.inode, credentials)?.into_iter();
                Ok(paths.find(|path| ends_so(path.as_os_str().as_bytes())))
            }
        }
    }
}
