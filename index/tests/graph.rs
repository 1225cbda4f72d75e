// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the graph finds: recall, filters, churn, order, and inputs that degenerate.

mod set;

use set::{Random, SERIAL, SHAPE, Set, Threads, clustered};
use vexfs_index::{Error, Parameters, Request, Scratch, Serial, Space, exact_parallel};
use vexfs_simd::{Distance, ElementType, Metric, Shape};

fn all(_: u32) -> bool {
    true
}

#[test]
fn recall_is_high_and_every_node_can_be_reached() {
    let set = Set::clustered(8000, 3, SERIAL);
    assert_eq!((set.graph.nodes(), set.reachable()), (8000, 8000));
    let recall = set.recall(200, 64, all);
    assert!(recall >= 0.98, "recall {recall}");
}

#[test]
fn one_and_two_and_three_threads_build_the_same_graph() {
    let one = Set::clustered(3000, 5, SERIAL);
    for threads in [2, 3] {
        let mut more = Set::clustered(3000, 5, &Threads(threads));
        assert!(one.pages() == more.pages(), "{threads} threads");
        assert_eq!(one.graph.header(), more.graph.header());
        let gone: Vec<u32> = (0..3000).filter(|row| row % 3 == 0).collect();
        more.remove(&gone, &Threads(threads));
        let mut other = Set::clustered(3000, 5, SERIAL);
        other.remove(&gone, SERIAL);
        assert!(other.pages() == more.pages(), "{threads} threads, after a removal");
    }
}

#[test]
fn rows_inserted_one_by_one_and_in_small_lots_are_found() {
    let mut set = Set::new(SHAPE, Parameters::default());
    let mut random = Random(11);
    let mut next = 0;
    for lot in 0..300 {
        let count = if lot % 3 == 0 { 1 } else { random.below(40) };
        let new: Vec<u32> = (next..next + count).collect();
        for row in &new {
            set.set(*row, &clustered(&mut random, 40));
        }
        set.insert(&new, SERIAL);
        next += count;
    }
    assert_eq!(set.reachable(), next as usize);
    let recall = set.recall(200, 64, all);
    assert!(recall >= 0.97, "recall {recall}");
}

#[test]
fn tight_clusters_are_found_in_whatever_order_they_arrive() {
    let every: Vec<u32> = (0..4000).collect();
    for lot in [4000, 100, 7] {
        let mut set = Set::new(SHAPE, Parameters::default());
        for row in 0..4000u32 {
            let centre = clustered(&mut Random(u64::from(row / 100) * 7919 + 13), 40);
            let mut random = Random(u64::from(row) * 31 + 5);
            random.next();
            let near: Vec<u8> =
                centre.iter().map(|c| c.saturating_add(random.below(9) as u8)).collect();
            set.set(row, &near);
        }
        for lot in every.chunks(lot) {
            set.insert(lot, SERIAL);
        }
        assert_eq!(set.reachable(), 4000);
        let (mut right, mut probes) = (0, 0);
        for row in (0..4000).step_by(37) {
            let query = set.rows.get(row).unwrap().0.to_vec();
            let last = set.exact(&query, 10, &mut |_| true)[9].distance;
            right += set.search(&query, 10, 64).iter().filter(|hit| hit.distance <= last).count();
            probes += 10;
        }
        assert!(right * 100 >= probes * 97, "lots of {lot}: {right} of {probes}");
    }
}

#[test]
fn filters_keep_k_results_and_recall() {
    let set = Set::clustered(8000, 3, SERIAL);
    for (name, accept) in [
        ("50 %", (|row| row % 2 == 0) as fn(u32) -> bool),
        ("10 %", |row| row % 10 == 3),
        ("1 %", |row| row % 100 == 7),
    ] {
        let recall = set.recall(100, 64, accept);
        assert!(recall >= 0.95, "{name}: recall {recall}");
        let query = clustered(&mut Random(8), 40);
        let mut scratch = Scratch::new();
        let mut asked = std::collections::HashSet::new();
        let request = Request::nearest(10, 64);
        let mut once = |row| {
            assert!(asked.insert(row), "asked twice of {row}");
            accept(row)
        };
        let term = (&query[..], set.term(&query));
        let stats = set.graph.search(set.space(), term, &request, &mut once, &mut scratch).unwrap();
        assert_eq!(stats.accepted + stats.rejected, asked.len() as u64);
        assert_eq!(scratch.hits().len(), 10);
        assert!(scratch.hits().iter().all(|hit| accept(hit.row)));
        assert!(scratch.hits().windows(2).all(|pair| pair[0] < pair[1]));
    }
}

#[test]
fn a_search_says_when_it_ends_short() {
    let set = Set::clustered(4000, 3, SERIAL);
    let query = clustered(&mut Random(8), 40);
    let query = (&query[..], set.term(&query));
    let mut scratch = Scratch::new();
    let search = |request: &Request, accept: &mut dyn FnMut(u32) -> bool, scratch: &mut Scratch| {
        set.graph.search(set.space(), query, request, accept, scratch).unwrap()
    };
    let limited = Request { examined_max: 100, ..Request::nearest(10, 64) };
    let stats = search(&limited, &mut |_| true, &mut scratch);
    assert!(stats.cut && stats.examined < 100 + 50, "{stats:?}");
    let stats = search(&Request::nearest(10, 16), &mut |_| false, &mut scratch);
    assert!(stats.cut && scratch.hits().is_empty(), "{stats:?}");
    // The whole graph is within the beam: nothing was left out, so nothing was cut.
    let stats = search(&Request::nearest(10, 4000), &mut |row| row == 1234, &mut scratch);
    assert!(!stats.cut && scratch.hits().len() == 1, "{stats:?}");
    let bad =
        [Request::nearest(0, 10), Request::nearest(u32::MAX, 10), Request::nearest(1, 70_000)];
    for request in bad {
        let found = set.graph.search(set.space(), query, &request, &mut |_| true, &mut scratch);
        assert_eq!(found, Err(Error::Parameter));
    }
}

#[test]
fn a_radius_bounds_the_hits() {
    let set = Set::clustered(4000, 3, SERIAL);
    let query = clustered(&mut Random(8), 40);
    let nearest = set.exact(&query, 50, &mut |_| true);
    let radius = nearest[20].distance;
    let inside = nearest.iter().filter(|hit| hit.distance <= radius).count();
    let request = Request { radius: Some(radius), ..Request::nearest(50, 100) };
    let mut scratch = Scratch::new();
    let term = (&query[..], set.term(&query));
    set.graph.search(set.space(), term, &request, &mut |_| true, &mut scratch).unwrap();
    assert_eq!(scratch.hits(), &nearest[..inside]);
}

#[test]
fn twenty_rounds_of_replacing_half_lose_no_recall() {
    let count = 4000;
    let mut set = Set::clustered(count, 1, SERIAL);
    let mut random = Random(17);
    for round in 0..20 {
        let gone: Vec<u32> = (0..count).filter(|_| random.next().is_multiple_of(2)).collect();
        if round % 2 == 0 {
            set.remove(&gone, SERIAL);
        } else {
            // Small lots take the path that looks around each removed row.
            for lot in gone.chunks(50) {
                set.remove(lot, SERIAL);
            }
        }
        for row in &gone {
            assert!(set.rows.clear(*row) && !set.graph.contains(*row));
        }
        for row in &gone {
            set.set(*row, &clustered(&mut random, 40));
        }
        for lot in gone.chunks(if round % 3 == 0 { 64 } else { 100_000 }) {
            set.insert(lot, SERIAL);
        }
        assert_eq!(set.graph.nodes(), count);
    }
    let churned = set.recall(300, 32, all);
    let mut fresh = Set::new(SHAPE, Parameters::default());
    for row in 0..count {
        let bytes = set.rows.get(row).unwrap().0.to_vec();
        fresh.set(row, &bytes);
    }
    fresh.insert(&(0..count).collect::<Vec<_>>(), SERIAL);
    let fresh = fresh.recall(300, 32, all);
    assert!(churned >= fresh - 0.02, "recall {churned}, of a fresh graph {fresh}");
    assert!(set.reachable() as u32 >= count * 999 / 1000, "{} reachable", set.reachable());
}

#[test]
fn removed_rows_need_no_bytes() {
    let mut set = Set::clustered(3000, 1, SERIAL);
    let gone: Vec<u32> = (0..3000).filter(|row| row % 5 == 0).collect();
    for row in &gone {
        assert!(set.rows.clear(*row));
    }
    // Their nodes are still there; searches pass over them.
    let recall = set.recall(100, 64, all);
    assert!(recall >= 0.95, "recall {recall} before the removal");
    set.remove(&gone, SERIAL);
    assert_eq!((set.graph.nodes(), set.reachable()), (2400, 2400));
    let recall = set.recall(100, 64, all);
    assert!(recall >= 0.98, "recall {recall}");
}

#[test]
fn tombstones_are_passed_through_and_never_returned() {
    let set = Set::clustered(4000, 3, SERIAL);
    for row in (0..4000).filter(|row| row % 4 != 0) {
        assert!(set.graph.tombstone(row) && !set.graph.tombstone(row));
    }
    assert_eq!((set.graph.nodes(), set.graph.tombstones()), (1000, 3000));
    let recall = set.recall(100, 64, |row| row % 4 == 0);
    assert!(recall >= 0.97, "recall {recall}");
    let query = clustered(&mut Random(8), 40);
    let hits = set.search(&query, 1000, 64);
    assert_eq!(hits.len(), 1000);
    assert!(hits.iter().all(|hit| hit.row % 4 == 0));
}

#[test]
fn rows_that_are_all_equal_are_all_found() {
    for count in [1u32, 2, 31, 33, 500, 3000] {
        let mut set = Set::new(SHAPE, Parameters::default());
        for row in 0..count {
            set.set(row, &[7; 32]);
        }
        set.insert(&(0..count).collect::<Vec<_>>(), SERIAL);
        assert_eq!(set.reachable(), count as usize);
        for k in [1, 10, count, count + 5] {
            let hits = set.search(&[9; 32], k, 16);
            assert_eq!(hits.len() as u32, k.min(count), "k {k} of {count}");
        }
    }
}

#[test]
fn crowds_of_copies_hide_no_other_row() {
    let mut set = Set::new(SHAPE, Parameters::default());
    let mut random = Random(23);
    // Ten crowds of 300 copies among 2000 single rows, in mixed order.
    let crowds: Vec<Vec<u8>> = (0..10).map(|_| clustered(&mut random, 40)).collect();
    for row in 0..5000u32 {
        let pick = random.below(5) as usize;
        let bytes = if pick < 3 {
            crowds[random.below(10) as usize].clone()
        } else {
            clustered(&mut random, 40)
        };
        set.set(row, &bytes);
    }
    set.insert(&(0..5000).collect::<Vec<_>>(), SERIAL);
    assert_eq!(set.reachable(), 5000);
    let recall = set.recall(200, 64, all);
    assert!(recall >= 0.97, "recall {recall}");
    for crowd in &crowds {
        let hits = set.search(crowd, 100, 100);
        assert!(hits.len() == 100 && hits.iter().all(|hit| hit.distance == hits[0].distance));
        assert_eq!(hits[0].distance, Distance::from_f32_bits(0));
    }
}

#[test]
fn clusters_far_apart_stay_connected() {
    let mut set = Set::new(SHAPE, Parameters { degree: 8, effort: 16, ..Parameters::default() });
    for row in 0..2000u32 {
        let mut bytes = [if row % 2 == 0 { 0 } else { 255 }; 32];
        bytes[0] ^= (row % 13) as u8;
        bytes[1] ^= (row % 7) as u8;
        set.set(row, &bytes);
    }
    set.insert(&(0..2000).collect::<Vec<_>>(), SERIAL);
    assert_eq!(set.reachable(), 2000);
    for (query, side) in [([0; 32], 0), ([255; 32], 1)] {
        assert!(set.search(&query, 10, 16).iter().all(|hit| hit.row % 2 == side));
    }
}

#[test]
fn emptied_and_filled_again() {
    let mut set = Set::clustered(700, 1, SERIAL);
    for _ in 0..3 {
        let every: Vec<u32> = (0..700).collect();
        set.remove(&every[..350], SERIAL);
        set.remove(&every, SERIAL);
        assert_eq!((set.graph.nodes(), set.graph.tombstones()), (0, 0));
        assert_eq!((set.graph.entry_rows().count(), set.graph.next(0)), (0, None));
        assert!(set.search(&[1; 32], 10, 64).is_empty());
        set.insert(&every, SERIAL);
        assert_eq!((set.graph.nodes(), set.reachable()), (700, 700));
        assert_eq!(set.search(&[1; 32], 1000, 64).len(), 700);
    }
}

#[test]
fn rows_given_twice_or_missing_or_out_of_range() {
    let mut set = Set::clustered(100, 1, SERIAL);
    let before = set.pages();
    set.insert(&[5, 5, 7, 99], SERIAL);
    assert!(set.pages() == before && set.graph.nodes() == 100);
    let new = [300, 300, 301];
    set.set(300, &[1; 32]);
    set.insert(&new, SERIAL);
    assert_eq!(set.graph.nodes(), 101);
    let space = Space { rows: &set.rows, kernels: set.kernels, executor: &Serial };
    let beyond = set.graph.capacity();
    let refused = set.graph.insert_batch(space, &[beyond], SERIAL, &mut set.builder);
    assert_eq!(refused, Err(Error::RowRange));
    set.remove(&[beyond, u32::MAX, 300, 300], SERIAL);
    assert_eq!(set.graph.nodes(), 100);
}

#[test]
fn every_element_type_and_metric_finds_near_rows() {
    let mut random = Random(31);
    for (element, metric) in [
        (ElementType::F32, Metric::Cosine),
        (ElementType::F32, Metric::InnerProduct),
        (ElementType::I8, Metric::Manhattan),
        (ElementType::Bit, Metric::Hamming),
    ] {
        let shape = Shape { element, metric, dimension: 64 };
        let mut set = Set::new(shape, Parameters::default());
        let mut row_of = |_| -> Vec<u8> {
            match element {
                ElementType::F32 => (0..64)
                    .flat_map(|_| (random.below(2000) as f32 / 1000.0 - 1.0).to_le_bytes())
                    .collect(),
                _ => (0..shape.row_bytes()).map(|_| random.next() as u8).collect(),
            }
        };
        for row in 0..1500 {
            let bytes = row_of(row);
            set.set(row, &bytes);
        }
        set.insert(&(0..1500).collect::<Vec<_>>(), SERIAL);
        let mut right = 0;
        for query in 0..50 {
            let query = row_of(query);
            let last = set.exact(&query, 10, &mut |_| true)[9].distance;
            right += set.search(&query, 10, 100).iter().filter(|hit| hit.distance <= last).count();
        }
        assert!(right >= 450, "{element:?} {metric:?}: {right} of 500");
    }
}

#[test]
fn exact_search_on_threads_agrees_with_a_sort() {
    let mut set = Set::clustered(20_000, 3, &Threads(2));
    for row in (0..20_000).filter(|row| row % 7 == 2) {
        set.rows.clear(row);
    }
    let query = clustered(&mut Random(8), 40);
    let term = (&query[..], set.term(&query));
    let serial = set.exact(&query, 500, &mut |row| row % 3 != 0);
    let mut sorted = set.exact(&query, 20_000, &mut |_| true);
    sorted.sort();
    sorted.retain(|hit| hit.row % 3 != 0);
    sorted.truncate(500);
    assert_eq!(serial, sorted);
    let mut scratches: Vec<Scratch> = (0..3).map(|_| Scratch::new()).collect();
    let request = Request::nearest(500, 0);
    let accept = |row: u32| !row.is_multiple_of(3);
    let (space, threads) = (set.space(), Threads(3));
    exact_parallel(space, term, &request, &accept, &threads, &mut scratches).unwrap();
    assert_eq!(scratches[0].hits(), serial);
}
