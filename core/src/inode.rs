// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Inodes: reading and writing their items.

use crate::error::{Error, Result, corrupt};
use crate::host::Timestamp;
use crate::key::{Key, Kind};
use crate::layout::{FILE_BYTES_MAX, InodeLayout, OBJECT_MAX, ROOT_INODE, TimeLayout};
use crate::tree::{Lookup, Tree};
use zerocopy::{FromBytes, IntoBytes};

/// The file type bits of a mode.
pub const MODE_TYPE: u32 = 0o170000;
/// A socket.
pub const MODE_SOCKET: u32 = 0o140000;
/// A symbolic link.
pub const MODE_SYMLINK: u32 = 0o120000;
/// A regular file.
pub const MODE_FILE: u32 = 0o100000;
/// A block device.
pub const MODE_BLOCK: u32 = 0o060000;
/// A directory.
pub const MODE_DIRECTORY: u32 = 0o040000;
/// A character device.
pub const MODE_CHARACTER: u32 = 0o020000;
/// A named pipe.
pub const MODE_FIFO: u32 = 0o010000;

/// Most links of an inode.
pub const LINKS_MAX: u32 = u32::MAX - 1;

/// An inode in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Type and permissions, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Directory entries that name it; a directory has 2 and one more for each subdirectory.
    pub links: u32,
    /// Bytes of a file or of a link's target; entries of a directory.
    pub size: u64,
    /// File-system blocks of its extents.
    pub blocks: u64,
    /// Generation of the transaction that made it; with the number it never repeats.
    pub generation: u64,
    /// Moves with every change of the file's bytes.
    pub content_version: u64,
    /// Moves with every change of the inode.
    pub change: u64,
    /// Device number of a device node: major << 32 | minor.
    pub device: u64,
    /// `FS_IOC_GETFLAGS` bits in the lower half, those of the format in the upper.
    pub flags: u64,
    /// Last access.
    pub accessed: Timestamp,
    /// Last change of the bytes.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// When it was made.
    pub born: Timestamp,
}

impl Inode {
    /// A new inode of this mode, made now.
    pub(crate) fn new(mode: u32, owner: (u32, u32), generation: u64, now: Timestamp) -> Self {
        Self {
            mode,
            uid: owner.0,
            gid: owner.1,
            links: if mode & MODE_TYPE == MODE_DIRECTORY { 2 } else { 1 },
            size: 0,
            blocks: 0,
            generation,
            content_version: 1,
            change: 1,
            device: 0,
            flags: 0,
            accessed: now,
            modified: now,
            changed: now,
            born: now,
        }
    }

    /// The file type bits of the mode.
    pub fn file_type(&self) -> u32 {
        self.mode & MODE_TYPE
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type() == MODE_DIRECTORY
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type() == MODE_FILE
    }

    /// Notes a change of the inode.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        self.changed = now;
        self.change = self.change.wrapping_add(1);
    }

    /// Notes a change of the bytes (or of a directory's entries).
    pub(crate) fn touch_content(&mut self, now: Timestamp) {
        self.modified = now;
        self.content_version = self.content_version.wrapping_add(1);
        self.touch(now);
    }

    /// Reads inode `number`. `Stale` when there is none.
    pub(crate) fn load(tree: &Tree, number: u64) -> Result<Self> {
        match tree.get(Key::new(number, Kind::Inode, 0))? {
            Some(item) if number != 0 && number <= OBJECT_MAX => Self::decode(number, &item),
            _ => Err(Error::Stale),
        }
    }

    /// Reads inode `number`, if it is in memory.
    pub(crate) fn look(files: &Lookup<'_>, number: u64) -> Result<Option<Self>> {
        let key = Key::new(number, Kind::Inode, 0);
        files.get(key, |item| Self::decode(number, item))?.transpose()
    }

    /// Reads inode `number`, which must be a directory.
    pub(crate) fn load_directory(tree: &Tree, number: u64) -> Result<Self> {
        let inode = Self::load(tree, number)?;
        if inode.is_directory() { Ok(inode) } else { Err(Error::NotDirectory) }
    }

    /// Reads an inode's item and checks it.
    pub(crate) fn decode(number: u64, item: &[u8]) -> Result<Self> {
        let layout = InodeLayout::ref_from_bytes(item)
            .map_err(|_| corrupt(number, "inode item of a wrong length"))?;
        let inode = Self {
            mode: layout.mode.get(),
            uid: layout.uid.get(),
            gid: layout.gid.get(),
            links: layout.links.get(),
            size: layout.size.get(),
            blocks: layout.blocks.get(),
            generation: layout.generation.get(),
            content_version: layout.content_version.get(),
            change: layout.change.get(),
            device: layout.device.get(),
            flags: layout.flags.get(),
            accessed: layout.accessed.decode(number)?,
            modified: layout.modified.decode(number)?,
            changed: layout.changed.decode(number)?,
            born: layout.born.decode(number)?,
        };
        let known = matches!(
            inode.file_type(),
            MODE_SOCKET
                | MODE_SYMLINK
                | MODE_FILE
                | MODE_BLOCK
                | MODE_DIRECTORY
                | MODE_CHARACTER
                | MODE_FIFO
        );
        if !known || inode.mode > 0o177777 {
            return Err(corrupt(number, "inode of an unknown type"));
        }
        if inode.is_file() && inode.size > FILE_BYTES_MAX {
            return Err(corrupt(number, "file larger than files can be"));
        }
        Ok(inode)
    }

    /// The item's bytes.
    pub(crate) fn encode(&self) -> InodeLayout {
        InodeLayout {
            mode: self.mode.into(),
            uid: self.uid.into(),
            gid: self.gid.into(),
            links: self.links.into(),
            size: self.size.into(),
            blocks: self.blocks.into(),
            generation: self.generation.into(),
            content_version: self.content_version.into(),
            change: self.change.into(),
            device: self.device.into(),
            flags: self.flags.into(),
            accessed: TimeLayout::encode(self.accessed),
            modified: TimeLayout::encode(self.modified),
            changed: TimeLayout::encode(self.changed),
            born: TimeLayout::encode(self.born),
            reserved: [0; 24],
        }
    }

    /// Writes inode `number`, new or known.
    pub(crate) fn store(&self, tree: &mut Tree, number: u64) -> Result<()> {
        tree.put(Key::new(number, Kind::Inode, 0), &[self.encode().as_bytes()])
    }
}

impl TimeLayout {
    pub(crate) fn encode(time: Timestamp) -> Self {
        Self { seconds: time.seconds.into(), nanoseconds: time.nanoseconds.into() }
    }

    pub(crate) fn decode(&self, object: u64) -> Result<Timestamp> {
        let nanoseconds = self.nanoseconds.get();
        if nanoseconds >= 1_000_000_000 {
            return Err(corrupt(object, "time with too many nanoseconds"));
        }
        Ok(Timestamp { seconds: self.seconds.get(), nanoseconds })
    }
}

/// Gives out an object number that was never given out before. `Corrupt` when the image says so of
/// one that is in use: what is made under it would take the place of what is there.
pub(crate) fn new_object(tree: &mut Tree) -> Result<u64> {
    let number = tree.state.next_object;
    if number >= OBJECT_MAX {
        return Err(Error::NoSpace);
    }
    let first = Key { object: number, kind_offset: 0 };
    if tree.next(first)?.is_some_and(|item| item.key().object == number) {
        return Err(corrupt(number, "next object number is in use"));
    }
    tree.state.next_object += 1;
    Ok(number)
}

/// Makes the root directory of a new file system.
pub(crate) fn make_root(
    tree: &mut Tree,
    owner: (u32, u32),
    mode: u32,
    now: Timestamp,
) -> Result<()> {
    let inode = Inode::new(MODE_DIRECTORY | (mode & 0o7777), owner, tree.generation(), now);
    inode.store(tree, ROOT_INODE)?;
    tree.state.inodes += 1;
    Ok(())
}
