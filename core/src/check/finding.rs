// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a check can find: a code for each kind of finding, with its weight and words.

use crate::error::Error;
use crate::key::Key;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing reads wrong because of it.
    Cosmetic,
    /// Something that can be computed from the rest is wrong: a count, an index, a copy.
    Derived,
    /// Something that exists only once is lost or contradicts itself.
    Damage,
}

impl Severity {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosmetic => "cosmetic",
            Self::Derived => "derived",
            Self::Damage => "damage",
        }
    }
}

/// Where a finding was made. Numbers that do not apply are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Block of the device.
    pub block: u64,
    /// Inode, stream or collection object.
    pub object: u64,
    /// Number of the item's kind.
    pub kind: u8,
    /// Offset of the item's key.
    pub offset: u64,
    /// What the number was found to be, where the finding is about one.
    pub found: u64,
    /// What the number ought to be, or the other object that the finding is about.
    pub expected: u64,
}

impl Place {
    pub(crate) const fn block(block: u64) -> Self {
        Self { block, object: 0, kind: 0, offset: 0, found: 0, expected: 0 }
    }

    pub(crate) const fn object(object: u64) -> Self {
        Self { block: 0, object, kind: 0, offset: 0, found: 0, expected: 0 }
    }

    pub(crate) const fn key(key: Key) -> Self {
        Self {
            block: 0,
            object: key.object,
            kind: key.kind_number(),
            offset: key.offset(),
            found: 0,
            expected: 0,
        }
    }

    pub(crate) const fn with(self, found: u64, expected: u64) -> Self {
        Self { found, expected, ..self }
    }

    pub(crate) const fn at_block(self, block: u64) -> Self {
        Self { block, ..self }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of finding it is.
    pub code: Code,
    /// Where it was made.
    pub place: Place,
    /// What reading the place said, when it said something.
    pub error: Option<Error>,
}

impl Finding {
    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        self.code.severity()
    }

    /// Whether it says nothing about anything else: the bytes of a file are damaged, and nothing is
    /// counted or found by them.
    pub const fn is_contained(&self) -> bool {
        matches!(self.code, Code::DataUnreadable | Code::DataChecksum)
    }

    /// What is wrong, in words.
    pub const fn text(&self) -> &'static str {
        self.code.text()
    }

    /// Whether a repair can put it right.
    pub const fn is_repairable(&self) -> bool {
        self.code.is_repairable()
    }
}

macro_rules! codes {
    ($($variant:ident, $name:literal, $severity:ident, $repairable:literal, $text:literal;)*) => {
        /// The kinds of findings. Their names are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $(#[doc = $text] $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name, for machines.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// How bad it is.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity),* }
            }

            /// Whether a repair can put it right.
            pub const fn is_repairable(self) -> bool {
                match self { $(Self::$variant => $repairable),* }
            }

            /// What is wrong, in words.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

codes! {
    SuperblockNone, "superblock-none", Damage, false,
        "none of the four copies of the superblock is whole";
    StateLost, "state-lost", Damage, true,
        "both superblock copies of one state are unreadable: a newer state may be lost";
    SuperblockDamaged, "superblock-damaged", Derived, true, "a copy of the superblock is damaged";
    SuperblockDiffers, "superblock-differs", Derived, true,
        "a copy of the superblock disagrees with the newest about what never changes";
    SuperblockMirror, "superblock-mirror", Derived, true,
        "two copies of the superblock name different states by the same number";
    SuperblockBehind, "superblock-behind", Cosmetic, true,
        "a copy of the superblock is older than a crash can explain";
    DeviceTooSmall, "device-too-small", Damage, false,
        "the image or device is smaller than the file system on it: the rest is missing";

    NodeUnreadable, "node-unreadable", Damage, false, "a tree node cannot be read";
    NodeChecksum, "node-checksum", Damage, false, "a tree node is not what was written";
    NodeMalformed, "node-malformed", Damage, false, "a tree node holds something impossible";
    NodeKeyRange, "node-key-range", Damage, false,
        "a tree node holds keys outside the range that its parent gives it";
    NodeUsedTwice, "node-used-twice", Damage, false, "a tree node is reached twice";
    NodeReserved, "node-reserved", Cosmetic, false, "reserved bytes of a tree node are not zero";

    ItemUnknown, "item-unknown", Damage, true, "an item of no known kind";
    ItemMisplaced, "item-misplaced", Damage, true, "an item under an object that cannot have it";
    ItemMalformed, "item-malformed", Damage, true, "an item whose bytes make no sense";
    ItemStray, "item-stray", Damage, true, "items of an object that does not exist";

    BlockOutside, "block-outside", Damage, true,
        "an extent lies outside the file system or on its superblocks";
    BlockTwice, "block-twice", Damage, true, "a block serves two purposes";
    GroupMissing, "group-missing", Derived, true,
        "blocks in use are in a group that counts none as used";
    GroupMalformed, "group-malformed", Derived, true, "the record of a group's blocks makes no sense";
    GroupMarkedFree, "group-marked-free", Derived, true, "blocks in use are marked as free";
    GroupMarkedUsed, "group-marked-used", Derived, true, "blocks not in use are marked as used";
    GroupCount, "group-count", Derived, true, "the used blocks of a group are counted wrong";
    FreeCount, "free-count", Derived, true, "the superblock counts free blocks wrong";
    SharedCount, "shared-count", Derived, true, "the references to shared blocks are counted wrong";
    SharedFlag, "shared-flag", Damage, true,
        "an extent names blocks of another and does not say that it shares them";

    InodeMalformed, "inode-malformed", Damage, true, "an inode holds something impossible";
    InodeCount, "inode-count", Derived, true, "the superblock counts inodes wrong";
    NextObject, "next-object", Derived, true,
        "the superblock would give out an object number that is in use";
    NextCollection, "next-collection", Derived, true,
        "the superblock would give out a collection number that is in use";
    RootMissing, "root-missing", Damage, true, "there is no root directory";
    BlocksCount, "blocks-count", Derived, true, "an inode counts its blocks wrong";
    InlineSize, "inline-size", Damage, true,
        "a file's size is not that of the bytes kept in the tree";
    InlineFlag, "inline-flag", Derived, true,
        "an inode's flag about bytes in the tree is wrong";
    InlineAndExtents, "inline-and-extents", Damage, true,
        "a file has both bytes in the tree and extents";
    AttributesFlag, "attributes-flag", Derived, true,
        "an inode's flag about extended attributes is wrong";
    VectorsFlag, "vectors-flag", Derived, true, "an inode's flag about vectors is wrong";
    WrongContent, "wrong-content", Damage, true,
        "an inode has items that its type cannot have";
    TargetSize, "target-size", Damage, true, "a symbolic link whose size is not its target's";

    ExtentOverlap, "extent-overlap", Damage, true, "two extents of a file cover the same bytes";
    ExtentBeyondEnd, "extent-beyond-end", Damage, true, "a written extent lies beyond the end";
    DataUnreadable, "data-unreadable", Damage, false, "a data block cannot be read";
    DataChecksum, "data-checksum", Damage, false, "a data block is not what was written";

    LinkCount, "link-count", Derived, true, "an inode counts its links wrong";
    LinkMissing, "link-missing", Derived, true, "an inode does not know one of its entries";
    LinkDangling, "link-dangling", Derived, true, "an inode knows an entry that does not exist";
    EntryDangling, "entry-dangling", Damage, true, "an entry names no inode";
    EntryType, "entry-type", Derived, true, "an entry gives its inode's type wrong";
    EntryCookie, "entry-cookie", Damage, true, "an item's key does not follow from its name";
    EntryName, "entry-name", Damage, true, "an entry's name is not allowed";
    EntryTwice, "entry-twice", Damage, true, "two entries of a directory have the same name";
    EntryExtra, "entry-extra", Damage, true, "a directory has a second entry that names it";
    DirectorySize, "directory-size", Derived, true, "a directory counts its entries wrong";
    DirectoryLoop, "directory-loop", Damage, true, "directories that contain themselves";
    InodeUnreached, "inode-unreached", Damage, true, "an inode that no entry names";
    OrphanMissing, "orphan-missing", Derived, true,
        "an inode without links is not listed to be taken apart";
    OrphanWrong, "orphan-wrong", Derived, true,
        "an object is listed to be taken apart but is in use or does not exist";

    AttributeMalformed, "attribute-malformed", Damage, true, "an extended attribute makes no sense";
    StreamMissing, "stream-missing", Damage, true, "the bytes that an item refers to are not there";
    StreamUnowned, "stream-unowned", Damage, true, "extents that nothing refers to";
    StreamShared, "stream-shared", Damage, true, "two items refer to the same stream of bytes";

    CollectionMalformed, "collection-malformed", Damage, true,
        "a collection's description makes no sense";
    CollectionTwice, "collection-twice", Damage, true, "two collections have the same number";
    CollectionName, "collection-name", Derived, true,
        "a collection and the list of names disagree";
    RowCount, "row-count", Derived, true, "a collection counts its rows wrong";
    RowEnd, "row-end", Derived, true, "a collection's highest row is recorded wrong";
    RowSequence, "row-sequence", Derived, true,
        "a row is numbered as if it were still to be put";
    RowChecksum, "row-checksum", Damage, true, "a vector's bytes are not what was put";
    RowsBlock, "rows-block", Derived, true,
        "a block of a collection's vectors is not what was written";
    RowInvalid, "row-invalid", Damage, true, "a vector's components are not numbers";
    RowOwner, "row-owner", Derived, true,
        "a row names another file than the one that has its vector";
    VectorRow, "vector-row", Derived, true,
        "a file does not know the row of its vector, or knows another";
    RowWithoutVector, "row-without-vector", Damage, true,
        "a collection has a vector that belongs to no file";
    VectorWithoutRow, "vector-without-row", Damage, true,
        "a file has a vector that its collection does not have";
    GraphDamaged, "graph-damaged", Derived, true, "the stored graph of a collection is damaged";
}
