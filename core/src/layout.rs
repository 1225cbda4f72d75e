// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Every structure on disk, byte for byte as `docs/format.md` describes it. All integers are little
//! endian, no structure needs alignment, and every reserved byte is zero.

use zerocopy::byteorder::little_endian::{I64, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version of the format.
pub const FORMAT_VERSION: u32 = 1;
/// First bytes of every superblock copy.
pub const SUPERBLOCK_MAGIC: [u8; 8] = *b"\x89VexFS\r\n";
/// Bytes of a superblock copy.
pub const SUPERBLOCK_BYTES: usize = 4096;
/// Copies of the superblock.
pub const SUPERBLOCK_COPIES: usize = 4;
/// Byte offset of the first two copies; the other two lie as far from the end of the file system.
pub const SUPERBLOCK_OFFSETS: [u64; 2] = [64 << 10, 128 << 10];
/// The smallest file system, in bytes.
pub const FILESYSTEM_BYTES_MIN: u64 = 1 << 20;
/// The most blocks of a file system (block numbers are keys of 56 bits; 2^48 keeps sums in range).
pub const FILESYSTEM_BLOCKS_MAX: u64 = 1 << 48;
/// Smallest and largest block: 4 KiB and 64 KiB, as powers of two.
pub const BLOCK_LOG2_RANGE: core::ops::RangeInclusive<u32> = 12..=16;
/// First four bytes of every tree node.
pub const NODE_MAGIC: u32 = u32::from_le_bytes(*b"VxND");
/// Most levels of the tree, leaves included.
pub const TREE_LEVELS_MAX: usize = 8;
/// Longest name of an entry, attribute or collection, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest target of a symbolic link, in bytes.
pub const TARGET_BYTES_MAX: usize = 4095;
/// Largest value of an extended attribute, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 65_536;
/// Largest file, in bytes: 16 TiB.
pub const FILE_BYTES_MAX: u64 = 16 << 40;
/// Most blocks of one written extent.
pub const EXTENT_BLOCKS_MAX: u32 = 128;
/// Most blocks of one unwritten extent.
pub const UNWRITTEN_BLOCKS_MAX: u32 = 1 << 30;
/// Blocks whose use one [`crate::key::Kind::Group`] item tells.
pub const GROUP_BLOCKS: u64 = 8192;
/// Bytes of a group's bitmap.
pub const GROUP_BITMAP_BYTES: usize = (GROUP_BLOCKS / 8) as usize;
/// Inode number of the root directory.
pub const ROOT_INODE: u64 = 1;
/// First object number given out; those below are reserved.
pub const FIRST_OBJECT: u64 = 256;
/// Highest object number.
pub const OBJECT_MAX: u64 = (1 << 56) - 1;
/// Highest number of a collection (24 bits, in keys of vectors).
pub const COLLECTION_MAX: u32 = (1 << 24) - 1;
/// Highest sequence number of a put that is believed. They count up by one at a time: so large a
/// number would only be there to overflow.
pub const SEQUENCE_MAX: u64 = 1 << 62;

/// Points to a tree node: where it is, when it was written, and what its bytes sum to.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct BlockPointerLayout {
    /// Number of the block; 0 points nowhere.
    pub block: U64,
    /// Generation of the transaction that wrote it.
    pub generation: U64,
    /// CRC32C of the whole block.
    pub checksum: U32,
    /// Level of the node: 0 is a leaf.
    pub level: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// A copy of the superblock. The first 96 bytes never move in any version.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SuperblockLayout {
    /// [`SUPERBLOCK_MAGIC`].
    pub magic: [u8; 8],
    /// CRC32C of the 4096 bytes with this field zero.
    pub checksum: U32,
    /// [`FORMAT_VERSION`].
    pub version: U32,
    /// Identity of the file system.
    pub uuid: [u8; 16],
    /// Name given by the user: UTF-8, padded with zeros.
    pub label: [u8; 64],
    /// Features that a host without them may ignore.
    pub features_compatible: U64,
    /// Features that a host without them may read but not write.
    pub features_read_only: U64,
    /// Features that a host without them must refuse.
    pub features_incompatible: U64,
    /// Block size as a power of two.
    pub block_log2: U32,
    /// Which copy this is, 0 to 3.
    pub copy: U32,
    /// Size of the file system in blocks.
    pub blocks: U64,
    /// Number of this published state; each is one more than the last.
    pub generation: U64,
    /// How often a writer has taken the file system over.
    pub writer_generation: U64,
    /// A random number of the writer that published this state.
    pub writer: U64,
    /// The root of the tree.
    pub root: BlockPointerLayout,
    /// Blocks that this state does not name.
    pub blocks_free: U64,
    /// The object number to give out next.
    pub next_object: U64,
    /// The collection number to give out next.
    pub next_collection: U32,
    /// Zero.
    pub reserved_a: U32,
    /// Inodes there are.
    pub inodes: U64,
    /// When it was made: seconds since 1970.
    pub created_seconds: I64,
    /// When this state was published: seconds since 1970.
    pub published_seconds: I64,
    /// Key of the hash that orders names.
    pub hash_key: [u8; 16],
    /// Zero.
    pub reserved: [u8; 3848],
}

/// Head of a tree node. In a leaf, [`ItemLayout`]s follow in order of their keys, and the items'
/// bytes fill the node from its end backwards in the same order without gaps. In an inner node,
/// [`ChildLayout`]s follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NodeLayout {
    /// [`NODE_MAGIC`].
    pub magic: U32,
    /// 0 for a leaf, one more than its children's otherwise.
    pub level: u8,
    /// Zero.
    pub reserved_a: u8,
    /// Items or children.
    pub count: U16,
    /// The block it was written to.
    pub block: U64,
    /// The transaction that wrote it.
    pub generation: U64,
    /// First eight bytes of the file system's UUID.
    pub filesystem: U64,
    /// Zero.
    pub reserved: [u8; 32],
}

/// Bytes of [`NodeLayout`].
pub const NODE_HEADER_BYTES: usize = 64;

/// Where an item of a leaf lies.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ItemLayout {
    /// Object of the key.
    pub object: U64,
    /// Kind (top byte) and offset of the key.
    pub kind_offset: U64,
    /// First byte of the item, from the start of the block.
    pub start: U16,
    /// Bytes of the item, at least 1.
    pub length: U16,
}

/// Bytes of [`ItemLayout`].
pub const ITEM_HEADER_BYTES: usize = 20;

/// A child of an inner node: the lowest key it may hold, and where it is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ChildLayout {
    /// Object of the key.
    pub object: U64,
    /// Kind (top byte) and offset of the key.
    pub kind_offset: U64,
    /// The child.
    pub pointer: BlockPointerLayout,
}

/// Bytes of [`ChildLayout`].
pub const CHILD_BYTES: usize = 40;

/// Head of a [`crate::key::Kind::Group`] item; the bitmap follows, and may be left out when all blocks
/// are in use. A group without an item has no block in use.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct GroupLayout {
    /// Blocks in use, 0 to [`GROUP_BLOCKS`].
    pub used: U32,
    /// Zero.
    pub reserved: U32,
}

/// A [`crate::key::Kind::Shared`] item: blocks from the key's offset that several extents name.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SharedLayout {
    /// Blocks.
    pub length: U64,
    /// Extents that name each of them, at least 2.
    pub references: U32,
    /// Zero.
    pub reserved: U32,
}

/// A point in time.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    KnownLayout,
    Immutable,
    Unaligned,
)]
#[repr(C)]
pub struct TimeLayout {
    /// Seconds since 1970.
    pub seconds: I64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: U32,
}

/// A [`crate::key::Kind::Inode`] item.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InodeLayout {
    /// Type and permissions, as `st_mode`.
    pub mode: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Directory entries that name it; a directory has 2 and one more for each subdirectory.
    pub links: U32,
    /// Bytes of a file or of a link's target; entries of a directory.
    pub size: U64,
    /// Blocks of its extents.
    pub blocks: U64,
    /// Generation of the transaction that made it.
    pub generation: U64,
    /// Moves with every change of the file's bytes.
    pub content_version: U64,
    /// Moves with every change of the inode.
    pub change: U64,
    /// Device number of a device node: major << 32 | minor.
    pub device: U64,
    /// `FS_IOC_GETFLAGS` bits in the lower half, [`INODE_INLINE`] and its kin in the upper.
    pub flags: U64,
    /// Last access.
    pub accessed: TimeLayout,
    /// Last change of the bytes.
    pub modified: TimeLayout,
    /// Last change of the inode.
    pub changed: TimeLayout,
    /// When it was made.
    pub born: TimeLayout,
    /// Zero.
    pub reserved: [u8; 24],
}

/// The bytes of the file are in an [`crate::key::Kind::Inline`] item, and it has no extents.
pub const INODE_INLINE: u64 = 1 << 32;
/// It has at least one extended attribute.
pub const INODE_ATTRIBUTES: u64 = 1 << 33;
/// It has at least one vector.
pub const INODE_VECTORS: u64 = 1 << 34;

/// Head of a [`crate::key::Kind::Entry`] item; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EntryLayout {
    /// Inode it names.
    pub inode: U64,
    /// The inode's type: the upper four bits of its mode (`mode >> 12`).
    pub file_type: u8,
}

/// A [`crate::key::Kind::Link`] item: where one of the inode's entries is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct LinkLayout {
    /// The directory.
    pub parent: U64,
    /// The entry's cookie there.
    pub cookie: U64,
}

/// Head of a [`crate::key::Kind::Attribute`] item; the name follows, then an inline value.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AttributeLayout {
    /// Object whose extents hold the value, or 0 when it is inline.
    pub object: U64,
    /// Bytes of the value.
    pub value_length: U32,
    /// Bytes of the name, 1 to 255.
    pub name_length: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// Head of a [`crate::key::Kind::Extent`] item; a CRC32C for each block follows unless the extent
/// is unwritten.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtentLayout {
    /// First block on the device.
    pub block: U64,
    /// Generation of the transaction that allocated its blocks, or of an earlier one: extents that
    /// are joined keep the older.
    pub generation: U64,
    /// Blocks.
    pub length: U32,
    /// [`EXTENT_UNWRITTEN`], [`EXTENT_SHARED`].
    pub flags: U32,
}

/// Allocated and never written: reads as zeros.
pub const EXTENT_UNWRITTEN: u32 = 1;
/// Other extents may name its blocks too: freeing looks for [`SharedLayout`] items.
pub const EXTENT_SHARED: u32 = 2;

/// A [`crate::key::Kind::CollectionName`] item; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CollectionNameLayout {
    /// The object that holds the [`CollectionLayout`].
    pub object: U64,
}

/// Head of a [`crate::key::Kind::Collection`] item; the name and the model tag follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CollectionLayout {
    /// Number of the collection, in keys of [`crate::key::Kind::Vector`].
    pub number: U32,
    /// Components of a vector, 1 to 16,384.
    pub dimension: U32,
    /// Element type: f32 1, f16 2, bf16 3, i8 4, u8 5, bit 6.
    pub element: u8,
    /// Metric: l2 1, cosine 2, inner product 3, manhattan 4, hamming 5.
    pub metric: u8,
    /// Form of the vectors in memory: as stored 0, i8 1, f16 2, bit 3.
    pub quantization: u8,
    /// Bytes of the name.
    pub name_length: u8,
    /// Bytes of the model tag.
    pub model_length: U16,
    /// Neighbours that a graph node is pruned to.
    pub degree: U16,
    /// Effort of an insertion into the graph.
    pub build_effort: U32,
    /// Zero.
    pub reserved_a: U32,
    /// Object whose extents hold the vectors: row `r` at byte `r * row bytes`.
    pub rows_object: U64,
    /// Object whose extents hold the graph; 0 when there is none.
    pub graph_object: U64,
    /// Rows in use.
    pub rows: U64,
    /// One more than the highest row in use.
    pub row_end: U64,
    /// The sequence number to give to the next put.
    pub next_sequence: U64,
    /// The stored graph covers the rows whose sequence number is below this.
    pub graph_watermark: U64,
    /// Bytes of the stored graph.
    pub graph_bytes: U64,
    /// When it was made.
    pub created: TimeLayout,
    /// Rows that the stored graph lacked when it was stored: it may be half built.
    pub graph_lacks: U64,
    /// Zero.
    pub reserved: [u8; 44],
}

/// A [`crate::key::Kind::Row`] item: what the vector in this row describes.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RowLayout {
    /// The file.
    pub inode: U64,
    /// Chunk of the file.
    pub chunk: U32,
    /// CRC32C of the vector's bytes.
    pub checksum: U32,
    /// Place of this put in the order of the collection's puts.
    pub sequence: U64,
    /// First byte of the file it describes.
    pub offset: U64,
    /// Bytes of the file it describes; 0 for the whole file.
    pub length: U64,
    /// The file's content version it was made from.
    pub content_version: U64,
    /// The user's tag.
    pub tag: U64,
    /// The user's digest of the passage, for reuse; zeros when there is none.
    pub digest: [u8; 16],
}

/// A [`crate::key::Kind::Vector`] item: the row that holds the vector.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VectorLayout {
    /// Row of the collection.
    pub row: U64,
}

/// A [`crate::key::Kind::Orphan`] item: an inode, collection or stream to be taken apart.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OrphanLayout {
    /// Generation of the transaction that listed it. Nothing depends on it.
    pub generation: U64,
}

const _: () = {
    assert!(size_of::<BlockPointerLayout>() == 24);
    assert!(size_of::<SuperblockLayout>() == SUPERBLOCK_BYTES);
    assert!(size_of::<NodeLayout>() == NODE_HEADER_BYTES);
    assert!(size_of::<ItemLayout>() == ITEM_HEADER_BYTES);
    assert!(size_of::<ChildLayout>() == CHILD_BYTES);
    assert!(size_of::<GroupLayout>() == 8);
    assert!(size_of::<SharedLayout>() == 16);
    assert!(size_of::<TimeLayout>() == 12);
    assert!(size_of::<InodeLayout>() == 144);
    assert!(size_of::<EntryLayout>() == 9);
    assert!(size_of::<LinkLayout>() == 16);
    assert!(size_of::<AttributeLayout>() == 16);
    assert!(size_of::<ExtentLayout>() == 24);
    assert!(size_of::<CollectionLayout>() == 144);
    assert!(size_of::<RowLayout>() == 72);
};
