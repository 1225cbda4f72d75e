// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Changes of a file system, and a seeded generator of them.

use crate::model::Node;
use crate::random::{Blob, SeededRandom};
use crate::session::Session;
use crate::vector::{COLLECTION_NAMES, SeededVector};
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, RenameMode,
    XattrMode,
};

/// One call that changes the file system.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // the fields are the arguments of the calls
pub enum Change {
    Create { parent: u64, name: Vec<u8>, mode: u32, device: u64 },
    CreateSymlink { parent: u64, name: Vec<u8>, target: Vec<u8> },
    CreateUnnamed,
    Link { number: u64, parent: u64, name: Vec<u8> },
    Unlink { parent: u64, name: Vec<u8> },
    RemoveDirectory { parent: u64, name: Vec<u8> },
    Rename { from: (u64, Vec<u8>), to: (u64, Vec<u8>), mode: RenameMode },
    SetMode { number: u64, mode: u32 },
    SetXattr { number: u64, name: Vec<u8>, value: Blob, mode: XattrMode },
    RemoveXattr { number: u64, name: Vec<u8> },
    Open { number: u64 },
    Close { number: u64 },
    Write { number: u64, offset: u64, bytes: Blob },
    Truncate { number: u64, size: u64 },
    Punch { number: u64, offset: u64, length: u64 },
    Preallocate { number: u64, offset: u64, length: u64, keep_size: bool },
    ZeroRange { number: u64, offset: u64, length: u64, keep_size: bool },
    Collapse { number: u64, offset: u64, length: u64 },
    Insert { number: u64, offset: u64, length: u64 },
    CloneRange { from: u64, from_offset: u64, to: u64, to_offset: u64, length: u64 },
    ReplaceContent { from: u64, to: u64 },
    CreateCollection { name: &'static str },
    DropCollection { name: &'static str },
    PutVectors { number: u64, name: &'static str, vectors: Vec<SeededVector> },
    RemoveVectors { number: u64, name: &'static str, first: u32, last: u32 },
    CloneVectors { from: u64, to: u64 },
}

impl Change {
    /// The file whose bytes it changes, if the call may be carried out in part before an error.
    pub fn stepwise(&self) -> Option<u64> {
        match self {
            Self::Truncate { number, .. }
            | Self::Punch { number, .. }
            | Self::Collapse { number, .. }
            | Self::Preallocate { number, .. }
            | Self::ZeroRange { number, .. } => Some(*number),
            Self::CloneRange { to, .. } | Self::CloneVectors { to, .. } => Some(*to),
            _ => None,
        }
    }
}

/// Draws changes that are mostly possible in the present state of a session.
pub struct Workload {
    random: SeededRandom,
    /// At about so many inodes, removing becomes likelier than making.
    pub inodes_aim: usize,
    /// Longest value of an attribute.
    pub attribute_bytes_max: usize,
    /// Longest file.
    pub file_bytes_max: u64,
    /// How many of a hundred changes are of files' bytes.
    pub data_percent: u64,
    /// How many of a hundred of the others are of vectors.
    pub vectors_percent: u64,
}

impl Workload {
    /// The workload of this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: SeededRandom::new(seed ^ 0x770b_10ad),
            inodes_aim: 40,
            attribute_bytes_max: 20_000,
            file_bytes_max: 150_000,
            data_percent: 35,
            vectors_percent: 30,
        }
    }

    fn name(&mut self) -> Vec<u8> {
        let number = self.random.below(30);
        match self.random.below(20) {
            // Legal, if not in good taste.
            0 => vec![0xff, 0xfe, b'a' + number as u8 % 26],
            1 => vec![b'n'; 200 + number as usize * 2],
            _ => format!("name-{number}").into_bytes(),
        }
    }

    fn present(&mut self, session: &Session) -> Option<(u64, Vec<u8>)> {
        let holders = session.state.numbers(|node| node.entries().is_some_and(|e| !e.is_empty()));
        let holder = *self.random.pick(&holders)?;
        let names: Vec<_> = session.state.entries(holder)?.keys().cloned().collect();
        Some((holder, self.random.pick(&names)?.clone()))
    }

    fn directory(&mut self, session: &Session) -> u64 {
        let all = session.state.numbers(Node::is_directory);
        self.random.pick(&all).copied().unwrap_or(ROOT_INODE)
    }

    fn any(&mut self, session: &Session) -> u64 {
        let all = session.state.numbers(|_| true);
        self.random.pick(&all).copied().unwrap_or(ROOT_INODE)
    }

    fn attribute(&mut self) -> Vec<u8> {
        format!("user.attribute-{}", self.random.below(5)).into_bytes()
    }

    /// An offset within files: near the start, at a block, or anywhere.
    fn offset(&mut self) -> u64 {
        match self.random.below(4) {
            0 => self.random.below(600),
            1 => self.random.below(3 * 4096),
            2 => self.random.below(self.file_bytes_max) / 4096 * 4096,
            _ => self.random.below(self.file_bytes_max),
        }
    }

    fn length(&mut self, offset: u64) -> u64 {
        let length = match self.random.below(4) {
            0 => self.random.below(400),
            1 => self.random.below(3 * 4096),
            2 => (1 + self.random.below(12)) * 4096,
            _ => self.random.below(60_000),
        };
        length.min(self.file_bytes_max.saturating_sub(offset))
    }

    /// The next change of some file's bytes.
    fn next_data(&mut self, session: &Session) -> Option<Change> {
        let mut files = session.state.numbers(|node| node.bytes().is_some());
        files.extend(session.orphans.keys());
        let number = *self.random.pick(&files)?;
        let offset = self.offset();
        let length = self.length(offset);
        let keep_size = self.random.percent(50);
        let block = |offset| offset / 4096 * 4096;
        Some(match self.random.below(22) {
            20 => Change::Collapse { number, offset: block(offset), length: block(length) },
            21 => Change::Insert { number, offset: block(offset), length: block(length) },
            0..9 => {
                let bytes = Blob { seed: self.random.number(), length: length as usize };
                Change::Write { number, offset, bytes }
            }
            9..12 => Change::Truncate { number, size: offset },
            12..14 => Change::Punch { number, offset, length },
            14 => Change::Preallocate { number, offset, length, keep_size },
            15 => Change::ZeroRange { number, offset, length, keep_size },
            16 => Change::ReplaceContent { from: *self.random.pick(&files)?, to: number },
            _ => {
                let from = *self.random.pick(&files)?;
                let from_offset = if self.random.percent(50) { 0 } else { block(self.offset()) };
                let to_offset = if self.random.percent(50) { 0 } else { block(offset) };
                let length = if self.random.percent(50) { 0 } else { block(length) };
                Change::CloneRange { from, from_offset, to: number, to_offset, length }
            }
        })
    }

    /// The next change of vectors.
    fn next_vectors(&mut self, session: &Session) -> Option<Change> {
        let name = *self.random.pick(&COLLECTION_NAMES)?;
        let known = session.state.collections.values().any(|known| known == name);
        let files = session.state.numbers(|node| node.bytes().is_some());
        let number = *self.random.pick(&files)?;
        Some(match self.random.below(20) {
            _ if !known && self.random.percent(70) => Change::CreateCollection { name },
            0 if self.random.percent(30) => Change::DropCollection { name },
            0..12 => {
                let first = self.random.below(12) as u32;
                let count = 1 + self.random.below(6) as u32;
                let vectors = (first..first + count)
                    .map(|chunk| SeededVector { chunk, seed: self.random.number() })
                    .collect();
                Change::PutVectors { number, name, vectors }
            }
            12..16 => {
                let first = self.random.below(12) as u32;
                let last = first + self.random.below(8) as u32;
                Change::RemoveVectors { number, name, first, last }
            }
            _ => Change::CloneVectors { from: *self.random.pick(&files)?, to: number },
        })
    }

    /// The next change.
    pub fn next(&mut self, session: &Session) -> Change {
        if self.random.percent(self.data_percent)
            && let Some(change) = self.next_data(session)
        {
            return change;
        }
        if self.random.percent(self.vectors_percent)
            && let Some(change) = self.next_vectors(session)
        {
            return change;
        }
        let crowded = session.state.nodes.len() > self.inodes_aim;
        let parent = self.directory(session);
        let name = self.name();
        let present = self.present(session);
        let (holder, old) = present.unwrap_or((ROOT_INODE, b"absent".to_vec()));
        match self.random.below(100) {
            0..30 if crowded => match session.state.entry(holder, &old) {
                Some(number) if session.state.is_directory(number) => {
                    Change::RemoveDirectory { parent: holder, name: old }
                }
                _ => Change::Unlink { parent: holder, name: old },
            },
            0..20 => Change::Create { parent, name, mode: MODE_FILE | 0o644, device: 0 },
            20..28 => Change::Create { parent, name, mode: MODE_DIRECTORY | 0o755, device: 0 },
            28..30 => {
                let number = self.random.below(1 << 20);
                let (mode, device) = match number % 4 {
                    0 => (MODE_FIFO | 0o600, 0),
                    1 => (MODE_SOCKET | 0o600, 0),
                    2 => (MODE_BLOCK | 0o660, number),
                    _ => (MODE_CHARACTER | 0o660, number),
                };
                Change::Create { parent, name, mode, device }
            }
            30..35 => {
                let length = 1 + self.random.below(3000) as usize;
                let target = vec![b'a' + length as u8 % 26; length];
                Change::CreateSymlink { parent, name, target }
            }
            35..43 => Change::Link { number: self.any(session), parent, name },
            43..51 => Change::Unlink { parent: holder, name: old },
            51..54 => Change::RemoveDirectory { parent: holder, name: old },
            54..68 => {
                let mode = match self.random.below(4) {
                    0 => RenameMode::Exchange,
                    1 => RenameMode::NoReplace,
                    _ => RenameMode::Replace,
                };
                let to = match self.present(session) {
                    Some(to) if mode == RenameMode::Exchange || self.random.percent(40) => to,
                    _ => (parent, name),
                };
                Change::Rename { from: (holder, old), to, mode }
            }
            68..74 => {
                let mode = self.random.below(0o10000) as u32;
                Change::SetMode { number: self.any(session), mode }
            }
            74..86 => {
                // Values of more than a quarter of a block have blocks of their own.
                let most = if self.random.percent(25) { self.attribute_bytes_max } else { 900 };
                let length = self.random.below(most as u64 + 1) as usize;
                let mode = match self.random.below(5) {
                    0 => XattrMode::Create,
                    1 => XattrMode::Replace,
                    _ => XattrMode::Set,
                };
                let value = Blob { seed: self.random.number(), length };
                Change::SetXattr { number: self.any(session), name: self.attribute(), value, mode }
            }
            86..90 => {
                let with = session.state.numbers(|node| !node.attributes.is_empty());
                let number = self.random.pick(&with).copied().unwrap_or(ROOT_INODE);
                Change::RemoveXattr { number, name: self.attribute() }
            }
            90..92 => Change::CreateUnnamed,
            92..95 => {
                let files = session.state.numbers(|node| node.bytes().is_some());
                match self.random.pick(&files) {
                    Some(number) => Change::Open { number: *number },
                    None => Change::CreateUnnamed,
                }
            }
            _ => {
                let held: Vec<_> = session.held.keys().copied().collect();
                match self.random.pick(&held) {
                    // An unnamed file that is given a name after all.
                    Some(number) if self.random.percent(40) => {
                        Change::Link { number: *number, parent, name }
                    }
                    Some(number) => Change::Close { number: *number },
                    None => Change::CreateUnnamed,
                }
            }
        }
    }
}
