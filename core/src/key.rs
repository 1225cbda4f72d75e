// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Keys of the tree: (object, kind, offset), compared in that order.

/// The kind of an item. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Object 0, offset = group number: which blocks of the group are in use.
    Group = 1,
    /// Object 0, offset = first block: a run of blocks that several extents name.
    Shared = 2,
    /// Object 0, offset = object number: an inode without links, a dropped collection or a stream
    /// without an owner that still has to be taken apart.
    Orphan = 3,
    /// Object 0, offset = cookie of the name: a collection's name.
    CollectionName = 4,
    /// Object 0, offset = snapshot number: the root of a kept state. Reserved, never written yet.
    Snapshot = 5,
    /// Object 0, offset = first block: blocks that only kept states name. Reserved likewise.
    Dead = 6,
    /// Offset 0: the inode.
    Inode = 16,
    /// Offset = cookie of (parent, entry): one of the directory entries that name the inode.
    Link = 17,
    /// Offset = cookie of the name: an extended attribute.
    Attribute = 18,
    /// Offset = cookie of the name: an entry of this directory.
    Entry = 19,
    /// Offset 0: the bytes of a small file. Offset = piece: a part of a symbolic link's target.
    Inline = 20,
    /// Offset = first logical block: where a run of the object's blocks is.
    Extent = 21,
    /// Offset = collection number << 32 | chunk number: a vector of this file.
    Vector = 22,
    /// Offset 0: a collection.
    Collection = 32,
    /// Offset = row number: what a row of this collection describes.
    Row = 33,
}

impl Kind {
    /// The kind with this on-disk number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Group,
            2 => Self::Shared,
            3 => Self::Orphan,
            4 => Self::CollectionName,
            5 => Self::Snapshot,
            6 => Self::Dead,
            16 => Self::Inode,
            17 => Self::Link,
            18 => Self::Attribute,
            19 => Self::Entry,
            20 => Self::Inline,
            21 => Self::Extent,
            22 => Self::Vector,
            32 => Self::Collection,
            33 => Self::Row,
            _ => return None,
        })
    }
}

/// Highest offset of a key: 56 bits.
pub const OFFSET_MAX: u64 = (1 << 56) - 1;

/// A key. Its order is that of (object, kind, offset).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Inode, stream or collection; 0 for the file system itself.
    pub object: u64,
    /// Kind in the top byte, offset in the 56 bits below.
    pub kind_offset: u64,
}

impl Key {
    /// Ordered as the keys are, in one comparison.
    #[inline(always)]
    pub(crate) fn as_number(self) -> u128 {
        u128::from(self.object) << 64 | u128::from(self.kind_offset)
    }

    /// The lowest key.
    pub const MIN: Self = Self { object: 0, kind_offset: 0 };
    /// The highest key.
    pub const MAX: Self = Self { object: u64::MAX, kind_offset: u64::MAX };

    /// A key; bits of `offset` over [`OFFSET_MAX`] are cut, callers check ranges before.
    pub const fn new(object: u64, kind: Kind, offset: u64) -> Self {
        Self { object, kind_offset: ((kind as u64) << 56) | (offset & OFFSET_MAX) }
    }

    /// The number of the kind.
    pub const fn kind_number(&self) -> u8 {
        (self.kind_offset >> 56) as u8
    }

    /// Whether it is of this object and kind.
    pub const fn is(&self, object: u64, kind: Kind) -> bool {
        self.object == object && self.kind_number() == kind as u8
    }

    /// The 56 bits of offset.
    pub const fn offset(&self) -> u64 {
        self.kind_offset & OFFSET_MAX
    }

    /// The next key in order; the highest has none.
    pub const fn successor(&self) -> Option<Self> {
        if self.kind_offset < u64::MAX {
            Some(Self { object: self.object, kind_offset: self.kind_offset + 1 })
        } else if self.object < u64::MAX {
            Some(Self { object: self.object + 1, kind_offset: 0 })
        } else {
            None
        }
    }

    /// The key before in order; the lowest has none.
    pub const fn predecessor(&self) -> Option<Self> {
        if self.kind_offset > 0 {
            Some(Self { object: self.object, kind_offset: self.kind_offset - 1 })
        } else if self.object > 0 {
            Some(Self { object: self.object - 1, kind_offset: u64::MAX })
        } else {
            None
        }
    }
}
