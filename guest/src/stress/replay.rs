// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What dm-log-writes has logged, and the states that a power cut could have left of it: all that was
//! flushed, some of what was written after that, and a last write of which only a part arrived.

use crate::support::{Numbers, noise};
use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt;

const SECTOR: u64 = 512;
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

struct Entry {
    at: u64,
    length: u64,
    flags: u64,
    /// Where its data is in the log.
    data: u64,
    /// The number that a mark has.
    mark: usize,
}

/// A log, and the device whose writes it holds.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

impl Log {
    /// Reads where everything is.
    pub fn open(file: File) -> Result<Self> {
        let mut sector = [0; SECTOR as usize];
        file.read_exact_at(&mut sector, 0)?;
        if number(&sector, 0) != MAGIC || number(&sector, 24) & 0xffff_ffff != SECTOR {
            return Err(Error::other("no log of dm-log-writes with sectors of 512 bytes"));
        }
        let count = number(&sector, 16);
        let (mut place, mut entries) = (SECTOR, Vec::new());
        for _ in 0..count {
            file.read_exact_at(&mut sector, place)?;
            let [at, sectors, flags, bytes] = [0, 8, 16, 24].map(|field| number(&sector, field));
            let text = &sector[32..][..bytes.min(SECTOR - 32) as usize];
            let text = String::from_utf8_lossy(text);
            entries.push(Entry {
                at: at * SECTOR,
                length: sectors * SECTOR,
                flags,
                data: place + SECTOR,
                mark: text.trim_end_matches('\0').parse().unwrap_or(0),
            });
            place += SECTOR;
            if flags & DISCARD == 0 {
                place += sectors * SECTOR;
            }
        }
        Ok(Self { file, entries })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that has a mark.
    pub fn find(&self, mark: usize) -> Option<usize> {
        self.entries.iter().position(|entry| entry.flags & MARK != 0 && entry.mark == mark)
    }

    /// The highest mark among the first entries.
    pub fn mark_before(&self, end: usize) -> usize {
        self.entries[..end].iter().map(|entry| entry.mark).max().unwrap_or(0)
    }

    /// Writes to `target` a state that a cut after the first `end` entries could have left. `from` is
    /// the end of the entries that it has already; returns the end of those that it is sure to have.
    pub fn advance(&self, target: &File, from: usize, end: usize) -> Result<usize> {
        let flush = self.entries[..end].iter().rposition(|entry| entry.flags & FLUSH != 0);
        // What comes with a flush is written after it, so it is not flushed itself.
        let sure = flush.unwrap_or(0).max(from);
        for entry in &self.entries[from..sure] {
            self.apply(target, entry, entry.length)?;
        }
        Ok(sure)
    }

    /// Adds some of the entries from `sure` to `end`, which were not flushed.
    pub fn scatter(
        &self,
        target: &File,
        sure: usize,
        end: usize,
        numbers: &mut Numbers,
    ) -> Result<()> {
        // At times all of them arrive, or none.
        let percent = [0, 30, 50, 90, 100][numbers.below(5) as usize];
        for entry in &self.entries[sure..end] {
            if entry.flags & FUA != 0 || numbers.below(100) < percent {
                self.apply(target, entry, entry.length)?;
            } else if numbers.below(8) == 0 {
                // Torn: sectors are whole.
                let sectors = numbers.below(entry.length / SECTOR + 1);
                self.apply(target, entry, sectors * SECTOR)?;
            }
        }
        // The next was under way.
        if let Some(next) = self.entries.get(end).filter(|_| numbers.below(2) == 0) {
            let sectors = numbers.below(next.length / SECTOR + 1);
            // A flush that comes with it is done before its first byte is.
            if next.flags & FLUSH == 0 {
                self.apply(target, next, sectors * SECTOR)?;
            }
        }
        Ok(())
    }

    fn apply(&self, target: &File, entry: &Entry, length: u64) -> Result<()> {
        if entry.flags & MARK != 0 || length == 0 {
            return Ok(());
        }
        if entry.flags & DISCARD != 0 {
            // What is read after a discard is anybody's guess.
            for at in (0..length).step_by(1 << 20) {
                let piece = (length - at).min(1 << 20) as usize;
                target.write_all_at(&noise(entry.at + at, piece), entry.at + at)?;
            }
            return Ok(());
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact_at(&mut bytes, entry.data)?;
        target.write_all_at(&bytes, entry.at)
    }
}
