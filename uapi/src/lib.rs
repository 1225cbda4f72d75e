// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `uapi/vexfs.h` in Rust: the structures and numbers by which a program asks the kernel about the
//! vectors of a mounted VexFS. The header says what each command does and how it fails; a test
//! holds the two together.
//!
//! Everything is in the machine's byte order. Fields marked "out" are written by the kernel, all
//! others read; what is reserved is zero, and so is what is out when a command is given.
#![no_std]

use core::mem::size_of;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// What `statfs` calls a VexFS.
pub const SUPER_MAGIC: u32 = 0x5658_4653;

/// Most bytes of a collection's name.
pub const COLLECTION_NAME_BYTES: usize = 255;
/// Most bytes of a model's name.
pub const MODEL_BYTES: usize = 255;
/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 16;

/// 32-bit float.
pub const ELEMENT_F32: u8 = 1;
/// 16-bit float.
pub const ELEMENT_F16: u8 = 2;
/// bfloat16.
pub const ELEMENT_BF16: u8 = 3;
/// Signed byte.
pub const ELEMENT_I8: u8 = 4;
/// Unsigned byte.
pub const ELEMENT_U8: u8 = 5;
/// One bit.
pub const ELEMENT_BIT: u8 = 6;

/// Squared Euclidean distance.
pub const METRIC_L2: u8 = 1;
/// One less the cosine.
pub const METRIC_COSINE: u8 = 2;
/// Negated inner product.
pub const METRIC_INNER_PRODUCT: u8 = 3;
/// Sum of absolute differences.
pub const METRIC_MANHATTAN: u8 = 4;
/// Number of components that differ.
pub const METRIC_HAMMING: u8 = 5;

/// The graph holds the vectors themselves.
pub const QUANTIZATION_NONE: u8 = 0;
/// The graph holds a byte for each component.
pub const QUANTIZATION_I8: u8 = 1;
/// The graph holds 16-bit floats.
pub const QUANTIZATION_F16: u8 = 2;
/// The graph holds a bit for each component.
pub const QUANTIZATION_BIT: u8 = 3;

/// Build the graph from nothing, instead of adding what is missing.
pub const MAINTAIN_REBUILD: u32 = 1;

/// Compare every vector.
pub const SEARCH_EXACT: u32 = 1;
/// None farther than `radius`.
pub const SEARCH_RADIUS: u32 = 2;
/// The file's name ends so.
pub const SEARCH_SUFFIX: u32 = 4;
/// The file's size.
pub const SEARCH_SIZE: u32 = 8;
/// When the file's bytes were changed.
pub const SEARCH_MODIFIED: u32 = 16;
/// The file's owner.
pub const SEARCH_UID: u32 = 32;
/// The vector's tag.
pub const SEARCH_TAG: u32 = 64;
/// The file still has the content.
pub const SEARCH_FRESH: u32 = 128;
/// No vector of one file.
pub const SEARCH_EXCLUDE: u32 = 256;

/// Every vector of the scope was compared.
pub const PLAN_EXACT_SCOPE: u32 = 0;
/// The graph was followed.
pub const PLAN_GRAPH: u32 = 1;
/// Every vector of the collection was compared.
pub const PLAN_EXACT: u32 = 2;
/// The graph was followed, then every vector compared.
pub const PLAN_GRAPH_THEN_EXACT: u32 = 3;
/// Every vector was compared, read from the device.
pub const PLAN_EXACT_DEVICE: u32 = 4;

/// The nearest there are.
pub const ANSWER_EXACT: u32 = 0;
/// Near; nearer ones may have been missed.
pub const ANSWER_APPROXIMATE: u32 = 1;
/// Cut by `examined_max`.
pub const ANSWER_CUT_BY_WORK: u32 = 2;
/// Damaged vectors were left out.
pub const ANSWER_CUT_BY_DAMAGE: u32 = 3;
/// Vectors were replaced faster than the search could follow.
pub const ANSWER_CUT_BY_CHANGES: u32 = 4;

/// Features, limits and numbers of the file system.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Info {
    /// Bytes of this structure.
    pub size: u32,
    /// Out: of this interface, 1.
    pub version: u32,
    /// Out: compatible, read-only compatible, incompatible.
    pub features: [u64; 3],
    /// Out.
    pub blocks: u64,
    /// Out.
    pub blocks_free: u64,
    /// Out: of these, without those kept for deleting.
    pub blocks_available: u64,
    /// Out.
    pub inodes: u64,
    /// Out.
    pub inodes_free: u64,
    /// Out: of the last published state.
    pub generation: u64,
    /// Out: how often a writer took the file system over.
    pub writer_generation: u64,
    /// Out: since 1970.
    pub created_seconds: i64,
    /// Out: since 1970.
    pub published_seconds: i64,
    /// Out: of memory for tree nodes.
    pub cache_bytes: u64,
    /// Out: of memory for vectors and graphs.
    pub index_bytes: u64,
    /// Out: answered since mounting, each of one query or many, to who may read every file.
    pub searches: u64,
    /// Out: damage and failures met since mounting.
    pub errors: u64,
    /// Out.
    pub block_bytes: u32,
    /// Out.
    pub tree_levels: u32,
    /// Out.
    pub collections: u32,
    /// Out: a limit, as are the next ones.
    pub collections_max: u32,
    /// Out: components.
    pub dimension_max: u32,
    /// Out: of one search.
    pub queries_max: u32,
    /// Out.
    pub k_max: u32,
    /// Out.
    pub effort_max: u32,
    /// Out: k times queries.
    pub hits_max: u32,
    /// Out: of one put.
    pub put_vectors_max: u32,
    /// Out.
    pub uuid: [u8; 16],
    /// Out: UTF-8, padded with zeros.
    pub label: [u8; 64],
    /// Out: 1 if nothing may be written.
    pub read_only: u32,
    /// Zero.
    pub reserved: u32,
}

/// A collection.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Collection {
    /// Vectors.
    pub rows: u64,
    /// Of these, in the search graph.
    pub indexed: u64,
    /// Of these, compared one by one in every search.
    pub unindexed: u64,
    /// That could not be read.
    pub damaged: u64,
    /// Held for it.
    pub memory_bytes: u64,
    /// On the device.
    pub stored_bytes: u64,
    /// Since 1970.
    pub created_seconds: i64,
    /// What commands on vectors call it by; never used again.
    pub number: u32,
    /// Components of a vector.
    pub dimension: u32,
    /// Width of the beam when a vector goes into the graph.
    pub build_effort: u32,
    /// Neighbours of a graph node at most.
    pub degree: u16,
    /// `ELEMENT_`.
    pub element: u8,
    /// `METRIC_`.
    pub metric: u8,
    /// `QUANTIZATION_`.
    pub quantization: u8,
    /// 1 if vectors and graph are in memory.
    pub loaded: u8,
    /// 1 if the stored graph was damaged and is being built anew.
    pub graph_damaged: u8,
    /// Bytes of the name.
    pub name_bytes: u8,
    /// Bytes of the model.
    pub model_bytes: u8,
    /// 1 if the caller is told how much is in it, and not zeros.
    pub counted: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// UTF-8, ended by a zero.
    pub name: [u8; 256],
    /// What made the vectors, in words; UTF-8.
    pub model: [u8; 256],
}

/// Makes a collection.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CollectionCreate {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// In and out.
    pub collection: Collection,
}

/// Lists collections.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CollectionList {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Pointer to room for `count` [`Collection`]s.
    pub collections: u64,
    /// In: room, of which 4096 are used at most; out: how many there are now.
    pub count: u32,
    /// In: 0 at first; out: the last one's number.
    pub after: u32,
}

/// Tells of one collection, by number, or if that is 0 by name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CollectionShow {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// In and out.
    pub collection: Collection,
}

/// Brings a collection's graph up to all its vectors.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CollectionMaintain {
    /// Bytes of this structure.
    pub size: u32,
    /// `MAINTAIN_`.
    pub flags: u32,
    /// The collection.
    pub number: u32,
    /// Zero.
    pub reserved: u32,
    /// Out: vectors put into the graph.
    pub inserted: u64,
    /// Out: vectors taken out of it.
    pub removed: u64,
    /// Out: vectors not in it yet.
    pub left: u64,
}

/// Drops a collection with all its vectors.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct CollectionDrop {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// The collection.
    pub number: u32,
    /// Zero.
    pub reserved: u32,
}

/// A vector of a file, as it is put, got and listed.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Vector {
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes that it describes; 0 for the whole file.
    pub length: u64,
    /// Of the file, that it was made from; put: 0 for the present one.
    pub content_version: u64,
    /// The user's.
    pub tag: u64,
    /// The user's, of the passage; zeros when there is none.
    pub digest: [u8; DIGEST_BYTES],
    /// Place of its put among the collection's; put: 0.
    pub sequence: u64,
    /// Its number; put: 0.
    pub collection: u32,
    /// A number within file and collection.
    pub chunk: u32,
    /// 1 if the file still has that content; put: 0.
    pub fresh: u32,
    /// Zero.
    pub reserved: u32,
}

/// Stores vectors of a regular file open for writing.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Put {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Its number.
    pub collection: u32,
    /// 1 to [`Info::put_vectors_max`].
    pub count: u32,
    /// Pointer to `count` [`Vector`]s.
    pub vectors: u64,
    /// Pointer to their components, one after another, little endian.
    pub data: u64,
    /// Bytes of the components.
    pub data_bytes: u64,
    /// Out.
    pub stored: u64,
    /// Out: of these, in place of another.
    pub replaced: u64,
    /// Out: of these, made from content that the file no longer has.
    pub stale: u64,
    /// Out: of the file.
    pub content_version: u64,
}

/// Reads the vector of a chunk of a regular file open for reading.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Get {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Its number.
    pub collection: u32,
    /// The chunk.
    pub chunk: u32,
    /// Pointer to room for its components.
    pub data: u64,
    /// In: of that room; out: of the vector.
    pub data_bytes: u64,
    /// Out.
    pub vector: Vector,
}

/// Removes the vectors of chunks `first` to `last` of a regular file open for writing.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Remove {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Its number.
    pub collection: u32,
    /// Zero.
    pub reserved: u32,
    /// The first chunk.
    pub first: u32,
    /// The last chunk.
    pub last: u32,
    /// Out.
    pub removed: u64,
}

/// Lists the vectors of a regular file open for reading, in all collections.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct List {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Pointer to room for `count` [`Vector`]s.
    pub vectors: u64,
    /// In: room, of which 65536 are used at most; out: how many there are now.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
    /// How many are left out.
    pub skip: u64,
    /// Out: of the file.
    pub total: u64,
    /// Out: of the file.
    pub content_version: u64,
    /// Out: of the inode.
    pub generation: u64,
}

/// Lists the vectors of a collection, of files below a directory, from row `from` on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rows {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// Its number.
    pub collection: u32,
    /// In: 0 at first; out: where to go on.
    pub from: u32,
    /// Pointer to room for `count` [`Vector`]s.
    pub vectors: u64,
    /// Pointer to room for `count` numbers of 64 bits: their files.
    pub inodes: u64,
    /// In: room, of which 65536 are used at most; out: how many there are now.
    pub count: u32,
    /// Out: 1 if there is more.
    pub more: u32,
}

/// A vector that was found.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Hit {
    /// Its file.
    pub inode: u64,
    /// Of the inode, as in a file handle.
    pub generation: u64,
    /// First byte of the file that the vector describes.
    pub offset: u64,
    /// Bytes that it describes; 0 for the whole file.
    pub length: u64,
    /// That it was made from.
    pub content_version: u64,
    /// The user's.
    pub tag: u64,
    /// Number of the query.
    pub query: u32,
    /// Bits of a binary32.
    pub distance: u32,
    /// A number within file and collection.
    pub chunk: u32,
    /// 1 if the file still has that content.
    pub fresh: u32,
}

/// A time since 1970.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Time {
    /// Whole seconds.
    pub seconds: i64,
    /// And these, below a thousand million.
    pub nanoseconds: u32,
    /// Zero.
    pub reserved: u32,
}

/// Finds the vectors nearest to one query or several, below a directory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Search {
    /// Bytes of this structure.
    pub size: u32,
    /// `SEARCH_`.
    pub flags: u32,
    /// Its number.
    pub collection: u32,
    /// Hits wanted for each query.
    pub k: u32,
    /// Width of the beam in the graph; 0 for the default.
    pub effort: u32,
    /// Bits of a binary32.
    pub radius: u32,
    /// Pointer to the queries, one after another, as the collection's vectors.
    pub queries: u64,
    /// Bytes of the queries.
    pub queries_bytes: u64,
    /// Pointer to room for `hits_max` [`Hit`]s.
    pub hits: u64,
    /// Pointer to room for the vector of each hit, or 0.
    pub vectors: u64,
    /// At least k times the queries.
    pub hits_max: u32,
    /// At most 255.
    pub suffix_bytes: u32,
    /// Pointer.
    pub suffix: u64,
    /// Distances to compute for a query at most; 0 sets no limit.
    pub examined_max: u64,
    /// Bytes, both included.
    pub size_range: [u64; 2],
    /// Both included.
    pub modified_range: [Time; 2],
    /// Both included.
    pub tag_range: [u64; 2],
    /// The inode that is left out.
    pub exclude: u64,
    /// The owner.
    pub uid: u32,
    /// Out: `PLAN_`.
    pub plan: u32,
    /// Out: `ANSWER_`.
    pub completeness: u32,
    /// Out: query after query, nearest first.
    pub hits_count: u32,
    /// Out: distances computed.
    pub examined: u64,
    /// Out: vectors compared because the graph has them not yet.
    pub unindexed: u64,
    /// Out: spent on it.
    pub nanoseconds: u64,
}

/// Tells the paths of an inode below a directory that the caller may walk.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Paths {
    /// Bytes of this structure.
    pub size: u32,
    /// Zero.
    pub flags: u32,
    /// The inode.
    pub inode: u64,
    /// 0 for any.
    pub generation: u64,
    /// Pointer to room for paths, each ended by a zero byte.
    pub paths: u64,
    /// In: of that room; out: in use.
    pub bytes: u32,
    /// Out: paths told.
    pub count: u32,
    /// Paths to pass over, for going on.
    pub skip: u32,
    /// Out: 1 if there are others.
    pub more: u32,
}

/// What all the ioctls' numbers have in common.
pub const IOC_TYPE: u8 = 0xBC;

/// The number of an ioctl that reads and writes a `T`, as `_IOWR` has it on every machine.
const fn read_write<T>(number: u32) -> u32 {
    3 << 30 | (size_of::<T>() as u32) << 16 | (IOC_TYPE as u32) << 8 | number
}

/// What an ioctl takes: a structure that begins with its size.
pub trait Command: FromBytes + IntoBytes {
    /// The ioctl's number.
    const NUMBER: u32;

    /// One that asks for nothing yet: its size, and zeros.
    fn new() -> Self;
}

macro_rules! commands {
    ($($structure:ident $number:literal)*) => { $(
        impl Command for $structure {
            const NUMBER: u32 = read_write::<Self>($number);

            fn new() -> Self {
                Self { size: size_of::<Self>() as u32, ..Self::new_zeroed() }
            }
        }
    )* };
}

commands! {
    Info 0
    CollectionCreate 1
    CollectionList 2
    CollectionShow 3
    CollectionMaintain 4
    CollectionDrop 5
    Put 6
    Get 7
    Remove 8
    List 9
    Rows 10
    Search 11
    Paths 12
}
