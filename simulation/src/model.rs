// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The model: what a file system holds, kept in maps, and what each change of names does to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{MODE_DIRECTORY, MODE_TYPE, RenameMode};

/// What an inode holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Names and the inodes they lead to.
    Directory(BTreeMap<Vec<u8>, u64>),
    /// The target of a symbolic link.
    Symlink(Vec<u8>),
    /// A regular file's bytes.
    File(Vec<u8>),
    /// A device node, fifo or socket, with its device number.
    Special(u64),
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// What it holds.
    pub content: Content,
    /// Extended attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Vectors by collection and chunk.
    pub vectors: BTreeMap<(u32, u32), Vector>,
}

/// A vector of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Its components.
    pub bytes: Vec<u8>,
    /// The user's tag.
    pub tag: u64,
    /// First byte of the file that it describes.
    pub offset: u64,
    /// Bytes of the file that it describes.
    pub length: u64,
}

impl Node {
    /// A new inode without attributes.
    pub fn new(mode: u32, owner: (u32, u32), content: Content) -> Self {
        Self { mode, owner, content, attributes: BTreeMap::new(), vectors: BTreeMap::new() }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & MODE_TYPE == MODE_DIRECTORY
    }

    /// A file's bytes; nothing for anything else.
    pub fn bytes(&self) -> Option<&Vec<u8>> {
        match &self.content {
            Content::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A file's bytes, to change; nothing for anything else.
    pub fn bytes_mut(&mut self) -> Option<&mut Vec<u8>> {
        match &mut self.content {
            Content::File(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A directory's entries; nothing for anything else.
    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, u64>> {
        match &self.content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        }
    }
}

/// Everything that can be reached by a path. Copies share their inodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Inodes by number.
    pub nodes: BTreeMap<u64, Arc<Node>>,
    /// Names of collections by number.
    pub collections: BTreeMap<u32, String>,
}

impl State {
    /// A new file system: an empty root directory.
    pub fn new() -> Self {
        let root = Node::new(MODE_DIRECTORY | 0o755, (0, 0), Content::Directory(BTreeMap::new()));
        let nodes = BTreeMap::from([(ROOT_INODE, Arc::new(root))]);
        Self { nodes, collections: BTreeMap::new() }
    }

    /// The entries of a directory that is there.
    pub fn entries(&self, directory: u64) -> Option<&BTreeMap<Vec<u8>, u64>> {
        self.nodes.get(&directory)?.entries()
    }

    /// What a name leads to.
    pub fn entry(&self, directory: u64, name: &[u8]) -> Option<u64> {
        self.entries(directory)?.get(name).copied()
    }

    /// Whether the number is that of a directory.
    pub fn is_directory(&self, number: u64) -> bool {
        self.entries(number).is_some()
    }

    /// An inode, to change.
    pub fn node_mut(&mut self, number: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&number).map(Arc::make_mut)
    }

    fn entries_mut(&mut self, directory: u64) -> Option<&mut BTreeMap<Vec<u8>, u64>> {
        match &mut self.node_mut(directory)?.content {
            Content::Directory(entries) => Some(entries),
            _ => None,
        }
    }

    /// Whether some name leads to the inode.
    pub fn is_named(&self, number: u64) -> bool {
        self.nodes
            .values()
            .filter_map(|node| node.entries())
            .any(|entries| entries.values().any(|target| *target == number))
    }

    /// Whether directory `number` is `ancestor` or below it.
    pub fn is_below(&self, number: u64, ancestor: u64) -> bool {
        number == ancestor
            || self.entries(ancestor).is_some_and(|entries| {
                entries
                    .values()
                    .filter(|child| self.is_directory(**child))
                    .any(|child| self.is_below(number, *child))
            })
    }

    /// Whether `name` can be made in `directory`.
    pub fn can_add(&self, directory: u64, name: &[u8]) -> bool {
        let legal = !name.is_empty()
            && name.len() <= 255
            && name != b"."
            && name != b".."
            && !name.iter().any(|byte| *byte == 0 || *byte == b'/');
        legal && self.entries(directory).is_some_and(|entries| !entries.contains_key(name))
    }

    /// Adds a name.
    pub fn add_name(&mut self, directory: u64, name: &[u8], number: u64) {
        if let Some(entries) = self.entries_mut(directory) {
            entries.insert(name.to_vec(), number);
        }
    }

    /// Whether `name` can be removed: as an empty directory, or as anything else.
    pub fn can_remove(&self, directory: u64, name: &[u8], as_directory: bool) -> bool {
        match self.entry(directory, name) {
            Some(target) => match self.entries(target) {
                Some(entries) => as_directory && entries.is_empty(),
                None => !as_directory,
            },
            None => false,
        }
    }

    /// Removes a name, and with an inode's last name the inode, which is returned.
    pub fn remove_name(&mut self, directory: u64, name: &[u8]) -> Option<(u64, Arc<Node>)> {
        let number = self.entries_mut(directory)?.remove(name)?;
        if self.is_named(number) {
            return None;
        }
        self.nodes.remove(&number).map(|node| (number, node))
    }

    /// Whether rename(2) allows this.
    pub fn can_rename(&self, from: (u64, &[u8]), to: (u64, &[u8]), mode: RenameMode) -> bool {
        let Some(source) = self.entry(from.0, from.1) else { return false };
        if !self.is_directory(to.0) {
            return false;
        }
        if self.is_directory(source) && self.is_below(to.0, source) {
            return false;
        }
        let Some(present) = self.entry(to.0, to.1) else {
            return mode != RenameMode::Exchange && self.can_add(to.0, to.1);
        };
        match mode {
            RenameMode::NoReplace => false,
            RenameMode::Exchange => !(self.is_directory(present) && self.is_below(from.0, present)),
            RenameMode::Replace => {
                present == source
                    || match (self.is_directory(source), self.entries(present)) {
                        (true, Some(entries)) => entries.is_empty(),
                        (true, None) | (false, Some(_)) => false,
                        (false, None) => true,
                    }
            }
        }
    }

    /// Renames as [`State::can_rename`] allows; the inode that lost its last name is returned.
    pub fn rename(
        &mut self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        mode: RenameMode,
    ) -> Option<(u64, Arc<Node>)> {
        let source = self.entry(from.0, from.1)?;
        let present = self.entry(to.0, to.1);
        if present == Some(source) {
            return None;
        }
        if let (RenameMode::Exchange, Some(present)) = (mode, present) {
            self.add_name(from.0, from.1, present);
            self.add_name(to.0, to.1, source);
            return None;
        }
        let gone = present.and_then(|_| self.remove_name(to.0, to.1));
        self.entries_mut(from.0)?.remove(from.1);
        self.add_name(to.0, to.1, source);
        gone
    }

    /// The numbers of all inodes that `matches` holds for.
    pub fn numbers(&self, matches: impl Fn(&Node) -> bool) -> Vec<u64> {
        self.nodes.iter().filter(|(_, node)| matches(node)).map(|(number, _)| *number).collect()
    }

    /// Where the two differ first, for a message; nothing if they are the same.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.collections != other.collections {
            return Some(format!("{:?} against {:?}", self.collections, other.collections));
        }
        for number in self.nodes.keys().chain(other.nodes.keys()) {
            let (mine, theirs) = (self.nodes.get(number), other.nodes.get(number));
            if mine != theirs {
                return Some(match (mine, theirs) {
                    (Some(mine), Some(theirs)) => {
                        format!("inode {number}: {} against {}", brief(mine), brief(theirs))
                    }
                    (Some(mine), None) => {
                        format!("inode {number}: {} against nothing", brief(mine))
                    }
                    _ => format!("inode {number} is only in the second"),
                });
            }
        }
        None
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

fn brief(node: &Node) -> String {
    let content = match &node.content {
        Content::File(bytes) => {
            format!("file of {} bytes with checksum {:#x}", bytes.len(), crc32c::crc32c(bytes))
        }
        other => format!("{other:?}"),
    };
    let attributes: Vec<_> = node
        .attributes
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name), value.len(), crc32c::crc32c(value)))
        .collect();
    let vectors: Vec<_> = node
        .vectors
        .iter()
        .map(|(key, vector)| (key, vector.tag, crc32c::crc32c(&vector.bytes)))
        .collect();
    format!("{:o} {:?} {content} {attributes:?} {vectors:?}", node.mode, node.owner)
}
