// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The stored form of the graph: what was written comes back, and bytes that lie are refused.

mod set;

use set::{Random, SERIAL, Set, clustered};
use vexfs_index::{Error, Graph, HEADER_BYTES, Header, PAGE_BYTES, Parameters};

fn load(header: &[u8; HEADER_BYTES], pages: &[[u8; PAGE_BYTES]]) -> Result<Graph, Error> {
    let header = Header::from_bytes(header)?;
    if header.capacity > 100_000 {
        // What a caller does that knows how long its stream is.
        return Err(Error::Damaged);
    }
    let mut graph = Graph::from_header(&header)?;
    for (number, page) in pages.iter().enumerate() {
        graph.load_page(number as u32, page)?;
    }
    graph.loaded(&header)?;
    Ok(graph)
}

#[test]
fn a_stored_graph_comes_back_and_can_be_changed() {
    let mut set = Set::clustered(1500, 3, SERIAL);
    set.graph.tombstone(77);
    let (header, pages) = (set.graph.header(), set.pages());
    let query = clustered(&mut Random(4), 40);
    let hits = set.search(&query, 20, 50);
    set.graph = load(&header.to_bytes(), &pages).unwrap();
    assert_eq!((set.graph.header(), set.graph.next_dirty(0)), (header, None));
    assert!(set.pages() == pages);
    assert_eq!(set.search(&query, 20, 50), hits);
    set.remove(&[77, 78], SERIAL);
    set.insert(&[78], SERIAL);
    assert_eq!((set.graph.nodes(), set.graph.tombstones()), (1499, 0));
}

#[test]
fn only_pages_that_changed_are_dirty() {
    let mut set = Set::clustered(1500, 3, SERIAL);
    let mut stored = set.pages();
    let mut from = Some(0);
    while let Some(page) = from.and_then(|from| set.graph.next_dirty(from)) {
        assert!(set.graph.take_dirty(page) && !set.graph.take_dirty(page));
        from = page.checked_add(1);
    }
    assert_eq!(set.graph.next_dirty(0), None);
    set.set(1500, &clustered(&mut Random(9), 40));
    set.insert(&[1500], SERIAL);
    set.remove(&[3], SERIAL);
    let changed = set.pages();
    stored.resize(changed.len(), [0; PAGE_BYTES]);
    let mut written = 0;
    while let Some(page) = set.graph.next_dirty(0) {
        assert!(set.graph.take_dirty(page));
        stored[page as usize] = changed[page as usize];
        written += 1;
    }
    assert!(stored == changed && written > 1 && written < changed.len());
    set.graph.set_dirty(1);
    assert_eq!(set.graph.next_dirty(0), Some(1));
}

#[test]
fn records_that_lie_are_refused() {
    let set = Set::clustered(300, 3, SERIAL);
    let (header, pages) = (set.graph.header().to_bytes(), set.pages());
    assert!(load(&header, &pages).is_ok());
    let capacity = set.graph.capacity();
    let word = |page: &[u8], at: usize| u32::from_le_bytes(page[at..at + 4].try_into().unwrap());
    let head = word(&pages[0], 0);
    let first = word(&pages[0], 4);
    let (count, slots) = (head & 0xffff, Parameters::default().degree as u32 * 3 / 2 - 1);
    assert!(count >= 2);
    for (what, at, value) in [
        ("more neighbours than slots", 0, head & !0xffff | (slots + 1)),
        ("a count past 16 bits", 0, head | 1 << 16),
        ("an unknown state", 0, head & 0xffff | 9 << 24),
        ("an absent row with neighbours", 0, count),
        ("a neighbour out of range", 4, capacity),
        ("the highest number", 4, u32::MAX),
        ("a link to itself", 4, 0),
        ("a link twice", 8, first),
        (
            "bytes after the list",
            4 + 4 * slots as usize - 4,
            1 + u32::from(count == slots) * capacity,
        ),
        ("bytes after the records", PAGE_BYTES - 4, 1),
    ] {
        let mut damaged = pages.clone();
        damaged[0][at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(load(&header, &damaged).err(), Some(Error::Damaged), "{what}");
    }
    // A node that the header does not count.
    let mut damaged = pages.clone();
    damaged[0][..192].fill(0);
    assert_eq!(load(&header, &damaged).err(), Some(Error::Damaged));
}

#[test]
fn every_byte_of_the_header_may_be_anything() {
    let set = Set::clustered(300, 3, SERIAL);
    let (header, pages) = (set.graph.header().to_bytes(), set.pages());
    for at in 0..HEADER_BYTES {
        for value in [0, 1, 0x7f, 0x80, 0xff, header[at] ^ 1] {
            let mut damaged = header;
            damaged[at] = value;
            match load(&damaged, &pages) {
                Ok(graph) => assert!(graph.nodes() == 300),
                Err(error) => assert!(matches!(error, Error::Damaged | Error::RowRange)),
            }
        }
    }
}

#[test]
fn random_pages_never_do_harm() {
    let mut set = Set::clustered(300, 3, SERIAL);
    let (header, pages) = (set.graph.header().to_bytes(), set.pages());
    let mut random = Random(77);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..400 {
        let mut damaged = pages.clone();
        for _ in 0..1 + random.below(3) {
            let page = random.below(damaged.len() as u32) as usize;
            let at = random.below(PAGE_BYTES as u32 / 4) as usize * 4;
            let value = random.next() % if random.below(2) == 0 { 320 } else { u32::MAX };
            damaged[page][at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        match load(&header, &damaged) {
            Err(error) => {
                assert_eq!(error, Error::Damaged);
                refused += 1;
            }
            Ok(graph) => {
                taken += 1;
                set.graph = graph;
                assert!(set.search(&[3; 32], 10, 50).len() <= 10);
                set.remove(&[1, 2, 3], SERIAL);
                set.insert(&[1, 2, 3], SERIAL);
            }
        }
    }
    assert!(taken > 10 && refused > 10, "{taken} taken, {refused} refused");
}
