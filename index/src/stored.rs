// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The graph as bytes: a header of [`HEADER_BYTES`] and pages of records (see `adjacency`), as
//! `docs/format.md` describes them.

use crate::adjacency::{PAGE_BYTES, State};
use crate::graph::{ENTRIES_MAX, Graph, NO_ROW, Parameters};
use crate::{Error, ROWS_MAX};
use core::sync::atomic::Ordering;

/// Bytes of a stored header.
pub const HEADER_BYTES: usize = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"VXGR");

/// What the graph is besides its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the graph is built.
    pub parameters: Parameters,
    /// Rows that have a record.
    pub capacity: u32,
    /// Nodes, tombstones among them.
    pub nodes: u32,
    /// Nodes that wait to be removed.
    pub tombstones: u32,
    /// Where searches start; `u32::MAX` is none.
    pub entries: [u32; ENTRIES_MAX],
    entries_nodes: u32,
    unproven: u32,
}

impl Header {
    /// The stored form.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let parameters = &self.parameters;
        let words = [
            MAGIC,
            u32::from(parameters.degree) | u32::from(parameters.effort) << 16,
            u32::from(parameters.alpha_percent),
            self.entries_nodes,
            self.capacity,
            self.nodes,
            self.tombstones,
            self.unproven,
        ];
        let seed = [parameters.seed as u32, (parameters.seed >> 32) as u32];
        let all = words.iter().chain(&self.entries).chain(&seed);
        for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(all) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// Reads what [`Header::to_bytes`] wrote; [`Error::Damaged`] when a field is out of its range.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Error> {
        let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
        let mut word = || words.next().unwrap_or(0);
        let (magic, degrees, alpha) = (word(), word(), word());
        let (entries_nodes, capacity, nodes, tombstones, unproven) =
            (word(), word(), word(), word(), word());
        let entries = core::array::from_fn(|_| word());
        let seed = u64::from(word()) | u64::from(word()) << 32;
        let parameters = Parameters {
            degree: degrees as u16,
            effort: (degrees >> 16) as u16,
            alpha_percent: alpha as u16,
            seed,
        };
        let sound = magic == MAGIC
            && alpha >> 16 == 0
            && parameters.check().is_ok()
            && words.all(|rest| rest == 0)
            && capacity <= ROWS_MAX
            && nodes <= capacity
            && tombstones <= nodes
            && entries.iter().all(|entry| *entry < capacity || *entry == NO_ROW);
        let header =
            Self { parameters, capacity, nodes, tombstones, entries, entries_nodes, unproven };
        if sound { Ok(header) } else { Err(Error::Damaged) }
    }
}

impl Graph {
    /// What belongs into the stored header now.
    pub fn header(&self) -> Header {
        Header {
            parameters: self.parameters,
            capacity: self.capacity(),
            nodes: self.nodes.load(Ordering::Relaxed),
            tombstones: self.tombstones(),
            entries: core::array::from_fn(|number| {
                self.entries.get(number).map_or(NO_ROW, |entry| entry.load(Ordering::Acquire))
            }),
            entries_nodes: self.entries_nodes.load(Ordering::Relaxed),
            unproven: self.unproven.load(Ordering::Relaxed),
        }
    }

    /// A graph with room for what `header` says, whose pages are then given to
    /// [`Graph::load_page`], and at the end [`Graph::loaded`] is called. The caller has compared
    /// `header.capacity` with what it stores, as memory for that many records is taken here.
    pub fn from_header(header: &Header) -> Result<Self, Error> {
        let mut graph = Self::new(header.parameters)?;
        graph.reserve(header.capacity)?;
        for (entry, row) in graph.entries.iter().zip(header.entries) {
            entry.store(row, Ordering::Relaxed);
        }
        graph.entries_nodes.store(header.entries_nodes, Ordering::Relaxed);
        graph.unproven.store(header.unproven, Ordering::Relaxed);
        Ok(graph)
    }

    /// Pages that the records fill.
    pub fn page_count(&self) -> u32 {
        self.adjacency.page_count()
    }

    /// The lowest page at or above `from` that changed since it was declared stored.
    pub fn next_dirty(&self, from: u32) -> Option<u32> {
        self.adjacency.next_dirty(from)
    }

    /// Declares `page` stored, and says whether it had changed. Called before [`Graph::page`], so
    /// that a change in between is not lost.
    pub fn take_dirty(&self, page: u32) -> bool {
        self.adjacency.take_dirty(page)
    }

    /// Declares `page` changed, as when storing it failed.
    pub fn set_dirty(&self, page: u32) {
        self.adjacency.set_dirty(page);
    }

    /// Writes the stored form of `page`. The caller keeps the writer away meanwhile.
    pub fn page(&self, page: u32, bytes: &mut [u8; PAGE_BYTES]) {
        self.adjacency.store_page(page, bytes);
    }

    /// Takes the records of `page` from stored bytes, which may be anything: counts, states and
    /// neighbours are all checked. On [`Error::Damaged`] the graph is to be dropped.
    pub fn load_page(&mut self, page: u32, bytes: &[u8; PAGE_BYTES]) -> Result<(), Error> {
        self.adjacency.load_page(page, bytes)?;
        self.adjacency.take_dirty(page);
        Ok(())
    }

    /// Ends loading: the nodes must be as many as `header` says, and entries must be nodes.
    /// Afterwards the caller gives the nodes whose rows are gone or changed to
    /// [`Graph::remove_batch`].
    pub fn loaded(&mut self, header: &Header) -> Result<(), Error> {
        let (mut nodes, mut tombstones) = (0u32, 0u32);
        let mut from = self.next(0);
        while let Some(row) = from {
            nodes += 1;
            tombstones += u32::from(self.adjacency.state(row) == State::Tombstone);
            from = self.next(row + 1);
        }
        let entered = self.entry_rows().next().is_some();
        if nodes != header.nodes
            || tombstones != header.tombstones
            || entered != (nodes > 0)
            || self.entry_rows().any(|entry| !self.is_node(entry))
        {
            return Err(Error::Damaged);
        }
        self.nodes.store(nodes, Ordering::Relaxed);
        self.tombstones.store(tombstones, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const DOCUMENT: &str = include_str!("../../docs/format.md");

    /// The cells of the table below a heading of the document, without its head.
    fn table(heading: &str) -> Vec<Vec<&'static str>> {
        let (_, section) = DOCUMENT.split_once(heading).expect("a section of that heading");
        let lines = section.lines().skip_while(|line| !line.starts_with('|'));
        let rows = lines.take_while(|line| line.starts_with('|')).skip(2);
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
    }

    #[test]
    fn the_header_is_stored_as_it_is_documented() {
        let parameters =
            Parameters { degree: 32, effort: 0x123, alpha_percent: 120, seed: 0x1_0203_0405_0607 };
        let header = Header {
            parameters,
            capacity: 1 << 20,
            nodes: 0x7_0809,
            tombstones: 0xa0b,
            entries: core::array::from_fn(
                |number| if number == 3 { NO_ROW } else { 7 + number as u32 },
            ),
            entries_nodes: 0xc0d0e,
            unproven: 0xf101,
        };
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Ok(header));
        let mut at = 0;
        for row in table("### Header of a graph (128 bytes)") {
            let (offset, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
            let expected: Vec<u8> = match row[2] {
                "magic" => b"VXGR".to_vec(),
                "degree" => parameters.degree.to_le_bytes().to_vec(),
                "effort" => parameters.effort.to_le_bytes().to_vec(),
                "alpha_percent" => parameters.alpha_percent.to_le_bytes().to_vec(),
                "entries_nodes" => header.entries_nodes.to_le_bytes().to_vec(),
                "capacity" => header.capacity.to_le_bytes().to_vec(),
                "nodes" => header.nodes.to_le_bytes().to_vec(),
                "tombstones" => header.tombstones.to_le_bytes().to_vec(),
                "unproven" => header.unproven.to_le_bytes().to_vec(),
                "entries" => header.entries.iter().flat_map(|row| row.to_le_bytes()).collect(),
                "seed" => parameters.seed.to_le_bytes().to_vec(),
                "reserved_a" | "reserved" => std::vec![0; size],
                other => panic!("a field {other}"),
            };
            assert_eq!((offset, size), (at, expected.len()), "{}", row[2]);
            assert_eq!(bytes[offset..offset + size], expected, "{}", row[2]);
            at += size;
        }
        assert_eq!(at, HEADER_BYTES);
    }

    #[test]
    fn records_are_stored_as_they_are_documented() {
        for (degree, slots, records) in [(5, 6, 146), (32, 47, 21), (33, 48, 20), (128, 191, 5)] {
            let parameters = Parameters { degree, effort: 128, ..Parameters::default() };
            assert_eq!(parameters.slots(), slots, "degree {degree}");
            let mut graph = Graph::new(parameters).unwrap();
            graph.reserve(1500).unwrap();
            assert_eq!(graph.capacity(), 2048);
            assert_eq!(graph.page_count(), 2048_u32.div_ceil(records));
            let row = records + 2;
            graph.adjacency.set_neighbours(row, [9, 1027].into_iter());
            graph.adjacency.set_state(row, State::Tombstone);
            let mut page = [1; PAGE_BYTES];
            graph.page(1, &mut page);
            let record = 4 + 4 * slots;
            let mut expected = [0; PAGE_BYTES];
            let mut put = |offset: usize, bytes: &[u8]| {
                expected[2 * record + offset..][..bytes.len()].copy_from_slice(bytes);
            };
            let mut at = 0;
            for (row, bytes) in table("### Record of a graph").iter().zip([
                &2_u16.to_le_bytes()[..],
                &[0],
                &[State::Tombstone as u8],
                &[9_u32.to_le_bytes(), 1027_u32.to_le_bytes()].concat(),
            ]) {
                let offset: usize = row[0].parse().unwrap();
                assert_eq!(offset, at, "{}", row[2]);
                put(offset, bytes);
                at += row[1].parse().unwrap_or(4 * slots);
            }
            assert_eq!(at, record);
            assert_eq!(page, expected, "degree {degree}");
        }
        for (rows, capacity) in [(1, 16), (17, 32), (1024, 1024), (1025, 2048)] {
            let mut graph = Graph::new(Parameters::default()).unwrap();
            graph.reserve(rows).unwrap();
            assert_eq!(graph.capacity(), capacity);
        }
    }
}
