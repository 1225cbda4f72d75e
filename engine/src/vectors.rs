// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections, their vectors, and search.

use crate::error::{Error, Result};
use crate::file::File;
use crate::image::Image;
use crate::threads::Threads;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use vexfs_core::{
    CollectionInfo, CollectionOptions, Error as CoreError, Executor, Maintenance, PutReport,
    SEARCH_K_MAX, SearchHit, SearchReport, SearchRequest, Serial, VectorInfo, VectorPut,
};

/// A hit of [`Image::search`].
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Which query of the request found it.
    pub query: usize,
    /// How far it is from the query; less is nearer.
    pub distance: f32,
    /// The vector's file, and the part of it that the vector describes.
    pub found: SearchHit,
    /// The vector, if the request asks for vectors.
    pub vector: Option<Vec<u8>>,
}

/// A vector and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// What is known of it.
    pub info: VectorInfo,
    /// Its components, as the collection stores them, little endian.
    pub bytes: Vec<u8>,
}

/// Which of its contents a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Content version; a vector that was made from it is fresh.
    pub content: u64,
    /// Generation of the inode; with the number it never repeats.
    pub generation: u64,
}

/// What is known of a file's vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVectors {
    /// The file's version.
    pub version: FileVersion,
    /// Its vectors, in order of collections and chunks.
    pub list: Vec<VectorInfo>,
}

/// A vector search is three steps: a collection, vectors of files in it, and a request.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("i.vexfs");
/// # use vexfs_engine::{CreateOptions, Image};
/// use vexfs_engine::core::{CollectionOptions, Quantization, SearchRequest, VectorPut};
/// use vexfs_engine::simd::{ElementType, Metric, Shape};
///
/// # let image = Image::create(&path, Some(16 << 20), &CreateOptions::default())?;
/// let colours = image.create_collection(&CollectionOptions {
///     name: "colours",
///     shape: Shape { element: ElementType::U8, metric: Metric::L2, dimension: 3 },
///     model: "red, green, blue",
///     quantization: Quantization::None,
///     degree: 0,
///     build_effort: 0,
/// })?;
/// for (name, colour) in [("/rose", [250, 10, 40]), ("/grass", [30, 200, 20])] {
///     image.write_file(name, b"a picture")?;
///     let put = VectorPut {
///         chunk: 0,
///         offset: 0,
///         length: 0,
///         content_version: None,
///         tag: 0,
///         digest: [0; 16],
///         bytes: &colour,
///     };
///     image.put_vectors(colours, image.resolve(name)?, &[put])?;
/// }
///
/// let (hits, _) = image.search(&SearchRequest::nearest(colours, &[255, 0, 0], 1))?;
/// assert_eq!(image.paths(hits[0].found.inode)?, [std::path::Path::new("/rose")]);
///
/// // The vectors of a file go with it.
/// image.remove_file("/rose")?;
/// let (hits, report) = image.search(&SearchRequest::nearest(colours, &[255, 0, 0], 9))?;
/// assert_eq!(hits.len(), 1);
/// assert_eq!(image.paths(hits[0].found.inode)?, [std::path::Path::new("/grass")]);
/// assert_eq!(report.completeness, vexfs_engine::core::Completeness::Exact);
/// # Ok(())
/// # }
/// ```
impl Image {
    /// Makes a collection and returns its number.
    pub fn create_collection(&self, options: &CollectionOptions<'_>) -> Result<u32> {
        self.about_collection(options.name.as_ref(), self.core.create_collection(options))
    }

    /// What the collection of this name is and holds.
    pub fn collection(&self, name: &str) -> Result<CollectionInfo> {
        self.about_collection(name.as_ref(), self.core.collection(name))
    }

    /// Bytes that a collection's vectors and its graph take on the device.
    pub fn stored_bytes(&self, info: &CollectionInfo) -> Result<u64> {
        let name = OsStr::from_bytes(&info.name);
        self.about_collection(name, self.core.stored_bytes(info.number, &Serial))
    }

    /// All collections, in the order they were made in.
    pub fn collections(&self) -> Result<Vec<CollectionInfo>> {
        let mut names = Vec::new();
        self.about_image(self.core.collections(&mut |info| {
            names.push(info.number);
            true
        }))?;
        let described = names.into_iter().filter_map(|number| {
            match self.core.collection_info(number) {
                // Dropped meanwhile.
                Err(CoreError::NotFound) => None,
                result => Some(self.about_image(result)),
            }
        });
        described.collect()
    }

    /// Drops a collection with all its vectors.
    pub fn drop_collection(&self, name: &str) -> Result<()> {
        let dropped =
            self.core.collection_number(name).and_then(|number| self.core.drop_collection(number));
        self.about_collection(name.as_ref(), dropped)
    }

    /// Builds the search graph of a collection anew from its vectors, on these threads.
    pub fn rebuild_collection(&self, name: &str, threads: Threads) -> Result<Maintenance> {
        let rebuild = || {
            let number = self.core.collection_number(name)?;
            let done = self.core.rebuild_collection(number, &threads)?;
            self.core.store_graph(number, &threads)?;
            Ok(Maintenance { stored: true, ..done })
        };
        self.about_collection(name.as_ref(), rebuild())
    }

    /// Puts all vectors of a collection into its search graph, on these threads. Without, an image
    /// opened with a commit interval does so in the background, and until then a search compares
    /// the vectors that are not in the graph one by one.
    pub fn index_collection(&self, name: &str, threads: Threads) -> Result<Maintenance> {
        let result = self
            .core
            .collection_number(name)
            .and_then(|number| self.core.maintain_collection(number, u64::MAX, &threads));
        self.about_collection(name.as_ref(), result)
    }

    /// Stores vectors of a regular file. They are durable after [`Image::sync`], and found at once.
    pub fn put_vectors(
        &self,
        collection: u32,
        inode: u64,
        vectors: &[VectorPut<'_>],
    ) -> Result<PutReport> {
        let _changing = self.changes.lock([inode]);
        self.about_image(self.core.put_vectors(collection, inode, vectors))
    }

    /// The vector of a chunk of a file.
    pub fn vector(&self, collection: u32, inode: u64, chunk: u32) -> Result<Vector> {
        let (info, bytes) = self.about_image(self.core.get_vector(collection, inode, chunk))?;
        Ok(Vector { info, bytes })
    }

    /// What is known of a file's vectors, in all collections.
    pub fn vectors(&self, inode: u64) -> Result<Vec<VectorInfo>> {
        let mut vectors = Vec::new();
        self.about_image(self.core.vectors_of(inode, &Serial, &mut |vector| {
            vectors.push(*vector);
            true
        }))?;
        Ok(vectors)
    }

    /// Removes a file's vectors of these chunks and returns how many there were.
    pub fn remove_vectors(
        &self,
        collection: u32,
        inode: u64,
        chunks: RangeInclusive<u32>,
    ) -> Result<u64> {
        let _changing = self.changes.lock([inode]);
        self.about_image(self.core.remove_vectors(collection, inode, chunks, &Serial))
    }

    /// Answers the queries of a request: the hits, query after query and nearest first, and how
    /// they were found.
    pub fn search(&self, request: &SearchRequest<'_>) -> Result<(Vec<Hit>, SearchReport)> {
        self.about_image(self.search_on(request, &Threads::default()))
    }

    pub(crate) fn search_on(
        &self,
        request: &SearchRequest<'_>,
        executor: &dyn Executor,
    ) -> Result<(Vec<Hit>, SearchReport), CoreError> {
        let mut hits = Vec::with_capacity(request.k.min(SEARCH_K_MAX) as usize);
        let report = self.core.search(request, executor, &mut |query, found, vector| {
            hits.push(Hit {
                query,
                distance: f32::from_bits(found.distance.to_f32_bits()),
                found: *found,
                vector: vector.map(<[u8]>::to_vec),
            });
            true
        });
        Ok((hits, report?))
    }

    /// Names a collection in an error.
    pub(crate) fn about_collection<T>(
        &self,
        name: &OsStr,
        result: Result<T, CoreError>,
    ) -> Result<T> {
        result.map_err(|error| {
            let mut object: OsString = self.device().path().as_os_str().to_owned();
            object.push(": collection ");
            object.push(name);
            Error::new(object, self.reason(error))
        })
    }
}

impl File<'_> {
    /// Which of its contents it has.
    pub fn version(&self) -> Result<FileVersion> {
        let inode = self.inode()?;
        Ok(FileVersion { content: inode.content_version, generation: inode.generation })
    }

    /// What is known of its vectors, in all collections, and its version.
    pub fn vectors(&self) -> Result<FileVectors> {
        // A change after this makes all of them stale.
        let version = self.version()?;
        let mut list = Vec::new();
        self.about(self.image().core.vectors_of(self.number(), &Serial, &mut |vector| {
            list.push(*vector);
            true
        }))?;
        Ok(FileVectors { version, list })
    }

    /// The vector of a chunk.
    pub fn vector(&self, collection: &CollectionInfo, chunk: u32) -> Result<Vector> {
        let found = self.image().core.get_vector(collection.number, self.number(), chunk);
        let (info, bytes) = self.about(found)?;
        Ok(Vector { info, bytes })
    }

    /// Stores vectors; see [`Image::put_vectors`].
    pub fn put_vectors(
        &self,
        collection: &CollectionInfo,
        vectors: &[VectorPut<'_>],
    ) -> Result<PutReport> {
        let _changing = self.image().changes.lock([self.number()]);
        let core = &self.image().core;
        self.about(core.put_vectors(collection.number, self.number(), vectors))
    }

    /// Removes the vectors of these chunks and returns how many there were.
    pub fn remove_vectors(
        &self,
        collection: &CollectionInfo,
        chunks: RangeInclusive<u32>,
    ) -> Result<u64> {
        let _changing = self.image().changes.lock([self.number()]);
        let core = &self.image().core;
        self.about(core.remove_vectors(collection.number, self.number(), chunks, &Serial))
    }
}
