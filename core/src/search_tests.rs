// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Search through the graph: what it finds, how it is stored, and what damage and limits do to it.

use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::trim_tests::Impatient;
use crate::vector_tests::{ROOT, distance, file, options, put, search, shape};
use crate::*;
use std::vec::Vec;
use vexfs_simd::{ElementType, Metric, Shape};

/// Vectors around random centres, as real ones are.
struct Clusters {
    centres: Vec<Vec<f32>>,
    scale: f32,
    rng: Rng,
}

impl Clusters {
    fn new(seed: u64, count: usize, dimension: u32) -> Self {
        let mut rng = Rng(seed);
        let mut centre =
            || (0..dimension).map(|_| rng.below(2001) as f32 / 1000.0 - 1.0).collect::<Vec<_>>();
        let centres = (0..count).map(|_| centre()).collect();
        Self { centres, scale: 1.0, rng }
    }

    fn draw(&mut self) -> Vec<u8> {
        let at = self.rng.below(self.centres.len() as u64) as usize;
        let centre = self.centres[at].clone();
        let mut noise = || (self.rng.below(2001) as f32 / 1000.0 - 1.0) * 0.2;
        let mut component = |centre: &f32| (centre + noise()) * self.scale + 0.0;
        centre.iter().flat_map(|centre| component(centre).to_le_bytes()).collect()
    }
}

struct World {
    memory: Memory,
    fs: FileSystem,
    number: u32,
    shape: Shape,
    clusters: Clusters,
    /// File, chunk, vector.
    vectors: Vec<(u64, u32, Vec<u8>)>,
    files: Vec<u64>,
}

const CHUNKS: u32 = 100;

impl World {
    fn new(seed: u64, files: usize, metric: Metric) -> Self {
        Self::quantized(seed, files, metric, 16, Quantization::None)
    }

    fn quantized(
        seed: u64,
        files: usize,
        metric: Metric,
        dimension: u32,
        quantization: Quantization,
    ) -> Self {
        let memory = Memory::new(64 << 20);
        let fs = format(&memory, 12);
        let shape = shape(ElementType::F32, metric, dimension);
        let options = CollectionOptions { quantization, ..options("c", shape) };
        let number = fs.create_collection(&options).unwrap();
        let clusters = Clusters::new(seed, 40, dimension);
        let mut world =
            Self { memory, fs, number, shape, clusters, vectors: Vec::new(), files: Vec::new() };
        (0..files).for_each(|_| world.add_file());
        world
    }

    fn add_file(&mut self) {
        let ino = file(&self.fs, ROOT, &std::format!("f{}", self.files.len()));
        self.files.push(ino);
        let rows: Vec<_> = (0..CHUNKS).map(|_| self.clusters.draw()).collect();
        let puts: Vec<_> = rows.iter().zip(0..).map(|(bytes, at)| put(at, bytes)).collect();
        self.fs.put_vectors(self.number, ino, &puts).unwrap();
        self.vectors.extend(rows.into_iter().zip(0..).map(|(bytes, chunk)| (ino, chunk, bytes)));
    }

    fn remove_file(&mut self, at: usize) {
        let ino = self.files[at];
        self.fs.unlink(ROOT, std::format!("f{at}").as_bytes()).unwrap();
        self.vectors.retain(|(file, _, _)| *file != ino);
    }

    fn maintain(&self) -> Maintenance {
        self.fs.maintain_collection(self.number, u64::MAX, &Serial).unwrap()
    }

    fn reopen(&mut self) {
        self.fs = FileSystem::open(self.memory.host(), &OpenOptions::default()).unwrap();
    }

    /// Of the true `k` nearest of some queries, the share that was found, in percent.
    fn recall(&mut self, k: usize, plan: SearchPlan) -> usize {
        let (mut found, mut wanted) = (0, 0);
        for _ in 0..30 {
            let query = self.clusters.draw();
            let mut expected: Vec<_> = self
                .vectors
                .iter()
                .map(|(ino, chunk, bytes)| (distance(&self.shape, &query, bytes), *ino, *chunk))
                .collect();
            expected.sort();
            expected.truncate(k);
            let request = SearchRequest::nearest(self.number, &query, k as u32);
            let (report, hits) = search(&self.fs, &request);
            assert_eq!(report.plan, plan);
            assert_eq!(hits.len(), expected.len());
            let hits: Vec<_> = hits.iter().map(|hit| (hit.inode, hit.chunk)).collect();
            found +=
                expected.iter().filter(|(_, ino, chunk)| hits.contains(&(*ino, *chunk))).count();
            wanted += expected.len();
        }
        found * 100 / wanted
    }
}

#[test]
fn counts_tell_of_changes_at_once() {
    let mut world = World::new(12, 1, Metric::L2);
    assert_eq!(world.recall(10, SearchPlan::ExactAll), 100);
    let counts = |world: &World| {
        let info = world.fs.collection_info(world.number).unwrap();
        assert!(info.loaded);
        (info.rows, info.indexed, info.unindexed)
    };
    assert_eq!(counts(&world), (100, 0, 100));
    let file = world.files[0];
    assert_eq!(world.fs.remove_vectors(world.number, file, 7..=7, &Serial), Ok(1));
    assert_eq!(counts(&world), (99, 0, 99));
    world.fs.put_vectors(world.number, file, &[put(200, &world.clusters.draw())]).unwrap();
    assert_eq!(counts(&world), (100, 0, 100));
}

#[test]
fn the_graph_finds_the_neighbours_and_survives_removals_and_reopening() {
    for metric in [Metric::L2, Metric::Cosine] {
        let mut world = World::new(11, 60, metric);
        assert_eq!(world.recall(10, SearchPlan::ExactAll), 100);
        let done = world.maintain();
        assert_eq!((done.inserted, done.left, done.stored), (6000, 0, true));
        assert_eq!(world.maintain(), Maintenance::default());
        let info = world.fs.collection_info(world.number).unwrap();
        assert_eq!((info.indexed, info.unindexed), (6000, 0));
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 95, "recall {recall}");

        // New vectors are found at once, removed ones never again.
        world.add_file();
        (0..20).for_each(|at| world.remove_file(at));
        let info = world.fs.collection_info(world.number).unwrap();
        assert_eq!((info.rows, info.unindexed), (4100, 100), "{info:?}");
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 90, "recall {recall} before the graph is mended");
        assert_eq!(world.fs.collection_info(world.number).unwrap().unindexed, 100);
        let done = world.maintain();
        assert_eq!((done.inserted, done.removed, done.left), (100, 2000, 0));
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 95, "recall {recall} after it was");

        // Changes after the graph was stored, and a crash before it is stored again.
        world.fs.store_graphs().unwrap();
        world.add_file();
        (20..25).for_each(|at| world.remove_file(at));
        world.fs.commit().unwrap();
        world.reopen();
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 95, "recall {recall} after reopening");
        let info = world.fs.collection_info(world.number).unwrap();
        assert_eq!((info.rows, info.graph_damaged, info.damaged), (3700, false, 0));
        assert_eq!(info.unindexed, 100);
        let done = world.maintain();
        // The nodes of vectors that are gone went when the graph was loaded.
        assert_eq!((done.inserted, done.removed), (100, 0));
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 95, "recall {recall} with all in the graph");
    }
}

#[test]
fn rebuilding_and_dropping_vectors_keep_the_graph_and_its_space_in_order() {
    let mut world = World::new(12, 20, Metric::L2);
    world.maintain();
    world.fs.commit().unwrap();
    let free = world.fs.status().blocks_free;
    let done = world.fs.rebuild_collection(world.number, &Serial).unwrap();
    assert_eq!((done.inserted, done.left), (2000, 0));
    world.fs.store_graph(world.number, &Serial).unwrap();
    world.fs.commit().unwrap();
    // The old graph's space came back, save for how items happen to fill the nodes of the tree.
    assert!(world.fs.status().blocks_free.abs_diff(free) <= 4);
    assert!(world.recall(10, SearchPlan::Graph) >= 95);
    // Down to a few vectors: the graph shrinks with them, and a search is exact.
    (0..19).for_each(|at| world.remove_file(at));
    world.maintain();
    assert_eq!(world.recall(200, SearchPlan::ExactAll), 100);
    world.remove_file(19);
    assert_eq!(world.fs.stored_bytes(world.number, &Serial), Ok(0));
    world.reopen();
    assert_eq!(world.fs.rebuild_collection(world.number + 1, &Serial), Err(Error::NotFound));
}

/// Flips bits in every block of the device that holds part of the stream of `object`.
fn damage(world: &World, object: u64, from: usize, to: usize) {
    let mut blocks = Vec::new();
    let tree = world.fs.reader();
    let (first, last) = (
        key::Key::new(object, key::Kind::Extent, 0),
        key::Key::new(object, key::Kind::Extent, key::OFFSET_MAX),
    );
    tree.scan(first, last, |_, item| {
        let start = u64::from_le_bytes(item[..8].try_into().unwrap());
        let length = u32::from_le_bytes(item[16..20].try_into().unwrap());
        blocks.extend(start..start + u64::from(length));
        Ok(true)
    })
    .unwrap();
    assert!(blocks.len() >= to, "{} blocks", blocks.len());
    let mut bytes = world.memory.bytes.lock().unwrap();
    for block in &blocks[from..to] {
        // In each of 64 vectors.
        for at in (13..4096).step_by(64) {
            bytes[(block << 12) as usize + at] ^= 0x10;
        }
    }
}

#[test]
fn a_damaged_graph_is_said_so_and_built_anew() {
    let mut world = World::new(13, 20, Metric::L2);
    world.maintain();
    world.fs.commit().unwrap();
    let object = {
        let collection = world.fs.find_collection(world.number).unwrap();
        collection::Counts::load(&world.fs.reader(), collection.schema.object).unwrap().graph_object
    };
    damage(&world, object, 7, 8);
    world.reopen();
    let query = world.clusters.draw();
    let (report, _) = search(&world.fs, &SearchRequest::nearest(world.number, &query, 10));
    assert!(report.graph_damaged);
    assert_eq!((report.plan, report.completeness), (SearchPlan::ExactAll, Completeness::Exact));
    assert_eq!(world.recall(10, SearchPlan::ExactAll), 100);
    let done = world.maintain();
    assert_eq!((done.inserted, done.left, done.stored), (2000, 0, true));
    assert!(!world.fs.collection_info(world.number).unwrap().graph_damaged);
    world.fs.commit().unwrap();
    world.reopen();
    assert!(world.recall(10, SearchPlan::Graph) >= 95);
    assert!(!world.fs.collection_info(world.number).unwrap().graph_damaged);
}

#[test]
fn a_graph_that_is_stored_half_built_tells_what_it_lacks() {
    let mut world = World::new(13, 20, Metric::L2);
    let number = world.number;
    let done = world.fs.maintain_collection(number, 500, &Serial).unwrap();
    assert!(done.inserted >= 500 && done.left > 500, "{done:?}");
    world.fs.store_graph(number, &Serial).unwrap();
    world.add_file();
    world.fs.commit().unwrap();
    world.reopen();
    let unloaded = world.fs.collection_info(number).unwrap();
    assert!(!unloaded.loaded);
    assert_eq!((unloaded.rows, unloaded.unindexed), (2100, done.left + 100));
    search(&world.fs, &SearchRequest::nearest(number, &world.clusters.draw(), 1));
    let loaded = world.fs.collection_info(number).unwrap();
    assert!(loaded.loaded);
    assert_eq!((loaded.unindexed, loaded.indexed), (unloaded.unindexed, unloaded.indexed));
}

#[test]
fn damaged_vectors_are_left_out_and_the_answer_says_so() {
    let mut world = World::new(14, 20, Metric::L2);
    world.fs.commit().unwrap();
    let stream = world.fs.find_collection(world.number).unwrap().schema.rows_object;
    // One block of 64 vectors of 64 bytes.
    damage(&world, stream, 3, 4);
    world.reopen();
    let (query, number) = (world.clusters.draw(), world.number);
    let all = SearchRequest::nearest(number, &query, 2000);
    for streamed in [false, true] {
        world.fs.unload_collection(number).unwrap();
        world.fs.set_index_memory(if streamed { 1 } else { u64::MAX }).unwrap();
        let (report, hits) = search(&world.fs, &all);
        assert_eq!(report.completeness, Completeness::Cut(CutReason::Damage));
        let plan = if streamed { SearchPlan::ExactStreamed } else { SearchPlan::ExactAll };
        assert_eq!((report.plan, hits.len()), (plan, 2000 - 64));
        for hit in hits {
            assert_ne!(hit.inode, 0);
            world.fs.get_vector(number, hit.inode, hit.chunk).unwrap();
        }
    }
    world.fs.set_index_memory(u64::MAX).unwrap();
    world.maintain();
    let info = world.fs.collection_info(number).unwrap();
    assert_eq!((info.damaged, info.unindexed, info.indexed), (64, 0, 2000));
    // The damaged block holds rows 192 to 255, which are chunks 92 and on of the second file.
    let ino = world.files[1];
    assert_eq!(world.fs.get_vector(number, ino, 95).unwrap_err(), Error::DamagedVector);
    // They can be put again and removed.
    let vector = world.clusters.draw();
    world.fs.put_vectors(number, ino, &[put(95, &vector)]).unwrap();
    assert_eq!(world.fs.get_vector(number, ino, 95).unwrap().1, vector);
    assert_eq!(world.fs.remove_vectors(number, ino, 0..=u32::MAX, &Serial).unwrap(), 100);
    assert_eq!(search(&world.fs, &all).1.len(), 1900 - 56);
}

#[test]
fn over_the_memory_limit_searches_read_the_device_and_agree() {
    let mut world = World::new(15, 30, Metric::Cosine);
    world.maintain();
    let number = world.number;
    let queries: Vec<_> = (0..20).map(|_| world.clusters.draw()).collect();
    let ask = |fs: &FileSystem, plan| {
        let mut answers = Vec::new();
        for query in &queries {
            let request =
                SearchRequest { exact: true, ..SearchRequest::nearest(number, query, 25) };
            let (report, hits) = search(fs, &request);
            assert_eq!((report.plan, report.completeness), (plan, Completeness::Exact));
            answers.push(hits);
        }
        answers
    };
    let expected = ask(&world.fs, SearchPlan::ExactAll);
    world.fs.unload_collection(number).unwrap();
    world.fs.set_index_memory(100_000).unwrap();
    let near = |a: &[SearchHit], b: &[SearchHit]| {
        let same = |(a, b): (&SearchHit, &SearchHit)| a.distance.0.abs_diff(b.distance.0) <= 16;
        a.len() == b.len() && a.iter().zip(b).all(same)
    };
    for (a, b) in ask(&world.fs, SearchPlan::ExactStreamed).iter().zip(&expected) {
        assert!(near(a, b));
    }
    let info = world.fs.collection_info(number).unwrap();
    assert!(!info.loaded && info.memory_bytes < 10_000, "{} bytes", info.memory_bytes);
    assert_eq!(world.maintain(), Maintenance::default());
    // Puts and removals are seen there too.
    world.add_file();
    world.remove_file(3);
    assert_eq!(world.recall(10, SearchPlan::ExactStreamed), 100);
    world.fs.set_index_memory(u64::MAX).unwrap();
    assert!(world.recall(10, SearchPlan::Graph) >= 90);
}

#[test]
fn several_queries_limits_of_work_and_stopping_early() {
    let mut world = World::new(16, 30, Metric::L2);
    let queries: Vec<u8> = (0..5).flat_map(|_| world.clusters.draw()).collect();
    let request = SearchRequest::nearest(world.number, &queries, 7);
    let mut seen = Vec::new();
    let report = world
        .fs
        .search(&request, &Serial, &mut |query, hit, vector| {
            assert!(vector.is_none());
            seen.push((query, hit.distance));
            true
        })
        .unwrap();
    assert_eq!((report.hits, report.examined), (35, 15_000));
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().map(|(query, _)| *query).max(), Some(4));
    let mut count = 0;
    let stop = &mut |_: usize, _: &SearchHit, _: Option<&[u8]>| {
        count += 1;
        false
    };
    world.fs.search(&request, &Serial, stop).unwrap();
    assert_eq!(count, 1, "handed out more after being told to stop");
    let few = SearchRequest { examined_max: 100, ..request.clone() };
    let (report, hits) = search(&world.fs, &few);
    assert_eq!(report.completeness, Completeness::Cut(CutReason::Work));
    assert!(report.examined < 5 * 200 && hits.len() == 35);
}

#[test]
fn files_without_names_are_never_found_and_others_take_their_places() {
    for quantization in [Quantization::None, Quantization::F16, Quantization::I8] {
        files_without_names_are_not_found(quantization);
    }
}

fn files_without_names_are_not_found(quantization: Quantization) {
    let world = World::quantized(17, 20, Metric::L2, 16, quantization);
    world.maintain();
    let query = world.vectors[5].2.clone();
    // The file of the nearest vectors is removed while it is held open.
    world.fs.open_inode(world.files[0]).unwrap();
    world.fs.unlink(ROOT, b"f0").unwrap();
    assert_eq!(world.fs.get_vector(world.number, world.files[0], 5).unwrap().1, query);
    for exact in [false, true] {
        let request = SearchRequest { exact, ..SearchRequest::nearest(world.number, &query, 50) };
        let (report, hits) = search(&world.fs, &request);
        assert_eq!(hits.len(), 50, "{quantization:?} {report:?}");
        assert!(hits.iter().all(|hit| hit.inode != world.files[0]));
    }
    // An unnamed file is found once it has a name.
    let new = NewInode { mode: MODE_FILE | 0o600, owner: (0, 0), device: 0 };
    let ino = world.fs.create_unnamed(&new, &[]).unwrap();
    world.fs.put_vectors(world.number, ino, &[put(0, &query)]).unwrap();
    let request = SearchRequest::nearest(world.number, &query, 1);
    assert_ne!(search(&world.fs, &request).1[0].inode, ino);
    world.fs.link(ino, ROOT, b"named").unwrap();
    assert_eq!(search(&world.fs, &request).1[0].inode, ino);
    world.fs.close_inode(world.files[0]).unwrap();
    assert_eq!(world.fs.collection_info(world.number).unwrap().rows, 1901);
}

#[test]
fn searches_run_beside_puts_removals_and_the_builder() {
    let world = World::new(18, 15, Metric::L2);
    let number = world.number;
    // The vectors of these files never change while the others come and go.
    let stable: Vec<_> = world.vectors.iter().filter(|(_, chunk, _)| *chunk < 5).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let running = || !stop.load(std::sync::atomic::Ordering::Relaxed);
    let fs = &world.fs;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut clusters = Clusters::new(99, 40, 16);
            for round in 0..60 {
                let ino = file(fs, ROOT, &std::format!("t{round}"));
                let rows: Vec<_> = (0..40).map(|_| clusters.draw()).collect();
                let puts: Vec<_> = rows.iter().zip(0..).map(|(b, at)| put(at, b)).collect();
                fs.put_vectors(number, ino, &puts).unwrap();
                let query = &rows[7];
                let (_, hits) = search(fs, &SearchRequest::nearest(number, query, 1));
                assert_eq!((hits[0].inode, hits[0].chunk), (ino, 7), "a put is found at once");
                if round >= 5 {
                    let old = std::format!("t{}", round - 5);
                    let ino = fs.lookup(ROOT, old.as_bytes()).unwrap();
                    fs.unlink(ROOT, old.as_bytes()).unwrap();
                    let (_, hits) = search(fs, &SearchRequest::nearest(number, query, 500));
                    assert!(hits.iter().all(|hit| hit.inode != ino), "found after its removal");
                }
            }
        });
        scope.spawn(|| {
            while running() {
                fs.maintain_collection(number, 200, &Serial).unwrap();
            }
        });
        scope.spawn(|| {
            let mut at = 0;
            while running() {
                let (ino, chunk, bytes) = stable[at % stable.len()];
                at += 1;
                let request = SearchRequest::nearest(number, bytes, 1);
                let hit = search(fs, &request).1[0];
                assert_eq!((hit.inode, hit.chunk), (*ino, *chunk));
            }
            assert!(at > 10);
        });
        let result = writer.join();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn quantized_collections_take_less_memory_and_find_nearly_the_same() {
    for (quantization, metric, share, least) in [
        (Quantization::F16, Metric::L2, 2, 97),
        (Quantization::F16, Metric::Cosine, 2, 97),
        (Quantization::I8, Metric::L2, 4, 90),
        (Quantization::I8, Metric::Cosine, 4, 90),
        (Quantization::Bit, Metric::Cosine, 32, 70),
    ] {
        let mut world = World::quantized(21, 5, metric, 128, quantization);
        let what = std::format!("{quantization:?} {metric:?}");
        // Nothing is coded before there is a graph.
        assert_eq!(world.recall(10, SearchPlan::ExactAll), 100, "{what}");
        (5..20).for_each(|_| world.add_file());
        world.maintain();
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= least, "{what}: recall {recall}");
        world.remove_file(2);
        world.add_file();
        world.fs.commit().unwrap();
        for reopened in [false, true] {
            if reopened {
                world.reopen();
            }
            let recall = world.recall(10, SearchPlan::Graph);
            assert!(recall >= least, "{what}, reopened {reopened}: recall {recall}");
            let info = world.fs.collection_info(world.number).unwrap();
            assert_eq!((info.rows, info.unindexed, info.quantization), (2000, 100, quantization));
            // Room for 2048 rows: their codes, what they describe, their links, and some more.
            let most = 2048 * (512 / share + 60 + 200) + 150_000;
            assert!(info.memory_bytes < most, "{what}: {info:?}, over {most}");
            // Exact means exact, whatever is in memory; a radius is one of true distances.
            let query = world.clusters.draw();
            let mut expected: Vec<_> = world
                .vectors
                .iter()
                .map(|(_, _, bytes)| distance(&world.shape, &query, bytes))
                .collect();
            expected.sort();
            let nearest = SearchRequest::nearest(world.number, &query, 20);
            let (report, hits) =
                search(&world.fs, &SearchRequest { exact: true, ..nearest.clone() });
            assert_eq!(report.completeness, Completeness::Exact);
            for (hit, distance) in hits.iter().zip(&expected) {
                assert!(hit.distance.0.abs_diff(distance.0) <= 64, "{what}");
            }
            let radius = Some(expected[5]);
            let (report, hits) = search(&world.fs, &SearchRequest { radius, ..nearest });
            assert_eq!(report.completeness, Completeness::Approximate);
            assert!(hits.len() <= 7 && hits.iter().all(|hit| Some(hit.distance) <= radius));
        }
    }
    let fs = format(&Memory::new(16 << 20), 12);
    let bits = shape(ElementType::Bit, Metric::Hamming, 64);
    for quantization in [Quantization::I8, Quantization::F16, Quantization::Bit] {
        let bad = CollectionOptions { quantization, ..options("c", bits) };
        assert!(matches!(fs.create_collection(&bad), Err(Error::Invalid(_))));
    }
}

/// A filter that turns down all that is near the query leads a beam nowhere; what it meets on the
/// way in is admitted, but not near.
#[test]
fn rows_that_a_filter_leaves_are_found_however_far_from_the_query_they_are() {
    let mut world = World::new(61, 80, Metric::L2);
    let query = world.clusters.draw();
    let mut order: Vec<usize> = (0..world.vectors.len()).collect();
    order.sort_by_key(|at| {
        let (ino, chunk, bytes) = &world.vectors[*at];
        (distance(&world.shape, &query, bytes), *ino, *chunk)
    });
    for (rank, at) in order.iter().enumerate() {
        let (ino, chunk, bytes) = &world.vectors[*at];
        let ranked = VectorPut { tag: rank as u64, ..put(*chunk, bytes) };
        world.fs.put_vectors(world.number, *ino, &[ranked]).unwrap();
    }
    world.maintain();
    let count = order.len() as u64;
    for share in [100, 20, 10, 5, 2] {
        for from in [count / 10, count / 2, count - count / share] {
            let tag = Some(from..=from + count / share - 1);
            let filter = Filter { tag, ..Default::default() };
            let request =
                SearchRequest { filter, ..SearchRequest::nearest(world.number, &query, 10) };
            let all: Vec<u64> = (from..(from + count / share).min(count)).collect();
            let (report, hits) = search(&world.fs, &request);
            let right = hits.iter().filter(|hit| all[..10].contains(&hit.tag)).count();
            assert!(right >= 9, "1 in {share} from {from}: {right} of 10, {report:?}");
            let radius = Some(hits[4].distance);
            let (report, near) = search(&world.fs, &SearchRequest { radius, ..request });
            assert!(near.len() >= 5, "1 in {share} from {from}: {}, {report:?}", near.len());
        }
    }
}

#[test]
fn vectors_of_an_excluded_file_make_room_for_others() {
    let mut world = World::new(62, 20, Metric::L2);
    world.maintain();
    let query = world.clusters.draw();
    let whole = SearchRequest::nearest(world.number, &query, 50);
    let (_, before) = search(&world.fs, &whole);
    let exclude = Some(before[0].inode);
    let filter = Filter { exclude, ..Default::default() };
    let (_, hits) = search(&world.fs, &SearchRequest { filter, ..whole });
    assert_eq!(hits.len(), 50);
    assert!(hits.iter().all(|hit| Some(hit.inode) != exclude));
}

#[test]
fn a_rebuild_finds_anew_how_to_code_vectors_that_have_outgrown_their_codes() {
    let mut world = World::quantized(63, 12, Metric::L2, 64, Quantization::I8);
    world.maintain();
    // So many to a cluster that codes without its inside cannot tell them apart.
    world.clusters = Clusters::new(65, 3, 64);
    world.clusters.scale = 1000.0;
    (0..12).for_each(|_| world.add_file());
    world.maintain();
    let before = world.recall(10, SearchPlan::Graph);
    world.fs.rebuild_collection(world.number, &Serial).unwrap();
    let after = world.recall(10, SearchPlan::Graph);
    assert!(after >= 90 && after > before, "recall {before}, then {after}");
}

#[test]
fn a_crowd_of_copies_in_the_middle_hides_no_cluster_around_it() {
    for crowd_first in [false, true] {
        let mut world = World::new(64, 0, Metric::L2);
        world.clusters.scale = 0.0;
        (0..30).for_each(|_| world.add_file());
        if crowd_first {
            world.maintain();
        }
        world.clusters.scale = 1.0;
        (0..12).for_each(|_| world.add_file());
        world.maintain();
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 95, "crowd first {crowd_first}: recall {recall}");
        // Whoever asks for the crowd gets as many of it as there are.
        world.clusters.scale = 0.0;
        let query = world.clusters.draw();
        let (report, hits) = search(&world.fs, &SearchRequest::nearest(world.number, &query, 500));
        assert_eq!((hits.len(), hits[499].distance), (500, hits[0].distance), "{report:?}");
    }
}

/// A search ends wherever the host asks it to, and the next one is as if it had not been.
#[test]
fn a_search_that_is_ended_leaves_nothing() {
    for (quantization, exact, memory) in [
        (Quantization::None, false, u64::MAX),
        (Quantization::None, true, u64::MAX),
        (Quantization::None, false, 1 << 10),
        (Quantization::I8, false, u64::MAX),
    ] {
        let mut world = World::quantized(17, 40, Metric::L2, 16, quantization);
        world.fs.maintain_collection(world.number, u64::MAX, &Serial).unwrap();
        world.fs.set_index_memory(memory).unwrap();
        let queries: Vec<u8> = (0..3).flat_map(|_| world.clusters.draw()).collect();
        let request = SearchRequest { exact, ..SearchRequest::nearest(world.number, &queries, 10) };
        let ask = |executor: &dyn Executor| {
            let mut hits = Vec::new();
            let result = world.fs.search(&request, executor, &mut |query, hit, _| {
                hits.push((query, hit.distance, hit.inode, hit.chunk));
                true
            });
            result.map(|_| hits)
        };
        let wanted = ask(&Serial).unwrap();
        assert_eq!(wanted.len(), 30);
        let mut ended = 0;
        for questions in 0.. {
            // It is in memory for some, and read for others.
            if questions % 3 == 0 {
                world.fs.unload_collection(world.number).unwrap();
            }
            match ask(&Impatient(questions.into())) {
                Err(error) => assert_eq!(error, Error::Interrupted),
                Ok(hits) => {
                    assert_eq!(hits, wanted);
                    break;
                }
            }
            ended += 1;
            if questions % 8 == 0 {
                assert_eq!(ask(&Serial).unwrap(), wanted);
            }
        }
        assert!(ended >= 10, "asked only {ended} times");
        assert_eq!(ask(&Serial).unwrap(), wanted);
    }
}

/// Does something whenever a search gives others their turn, as another thread.
struct Between<'a>(std::sync::Mutex<&'a mut (dyn FnMut() + Send)>);

impl Executor for Between<'_> {
    fn workers(&self) -> usize {
        1
    }
    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        Serial.run(tasks);
    }
    fn relax(&self) {
        let turn = &mut **self.0.lock().unwrap();
        std::thread::scope(|scope| scope.spawn(turn).join().unwrap());
    }
}

/// Vectors come and go while a collection is read into memory, more than an operation keeps notes of.
#[test]
fn who_loads_a_collection_holds_nobody_up() {
    for quantization in [Quantization::None, Quantization::I8] {
        let mut world = World::quantized(23, 60, Metric::L2, 16, quantization);
        world.maintain();
        world.fs.unload_collection(world.number).unwrap();
        let World { fs, number, clusters, vectors, files, .. } = &mut world;
        let (mut turns, mut loaded) = (0, false);
        let query = clusters.draw();
        let mut change = || {
            loaded |= fs.collection_info(*number).unwrap().loaded;
            if loaded {
                return;
            }
            // One file at either end, so that rows change that were read and others that were not.
            for at in [turns, files.len() - 1 - turns] {
                let new: Vec<_> = (0..CHUNKS).map(|_| clusters.draw()).collect();
                let puts: Vec<_> = new.iter().zip(0..).map(|(bytes, at)| put(at, bytes)).collect();
                fs.put_vectors(*number, files[at], &puts).unwrap();
                let changed = vectors.iter_mut().filter(|(file, _, _)| *file == files[at]);
                for (_, chunk, bytes) in changed {
                    bytes.clone_from(&new[*chunk as usize]);
                }
            }
            let gone = files[files.len() / 2 + turns];
            fs.unlink(ROOT, std::format!("f{}", files.len() / 2 + turns).as_bytes()).unwrap();
            vectors.retain(|(file, _, _)| *file != gone);
            turns += 1;
        };
        let executor = Between(std::sync::Mutex::new(&mut change));
        let request = SearchRequest::nearest(*number, &query, 10);
        fs.search(&request, &executor, &mut |_, _, _| true).unwrap();
        assert!(loaded && turns >= 5, "{turns} turns");
        let info = world.fs.collection_info(world.number).unwrap();
        assert_eq!((info.rows, info.damaged), (world.vectors.len() as u64, 0));
        for (ino, chunk, bytes) in &world.vectors {
            let request = SearchRequest::nearest(world.number, bytes, 1);
            let (_, hits) = search(&world.fs, &SearchRequest { exact: true, ..request });
            assert_eq!((hits[0].inode, hits[0].chunk), (*ino, *chunk));
        }
        world.maintain();
        let recall = world.recall(10, SearchPlan::Graph);
        assert!(recall >= 90, "recall {recall}");
        // One that is dropped meanwhile is not read to its end, and nothing stays in memory.
        world.fs.unload_collection(world.number).unwrap();
        let (fs, mut turns) = (&world.fs, 0);
        let mut drop_it = || {
            turns += 1;
            if turns == 2 {
                fs.drop_collection(world.number).unwrap();
            }
        };
        let request = SearchRequest::nearest(world.number, &query, 10);
        let executor = Between(std::sync::Mutex::new(&mut drop_it));
        let result = fs.search(&request, &executor, &mut |_, _, _| true);
        assert_eq!(result.unwrap_err(), Error::NotFound);
        assert_eq!((turns, fs.index_memory_bytes()), (2, 0));
    }
}

#[test]
fn memory_of_the_index_is_released_unless_it_is_in_use() {
    let mut world = World::new(21, 30, Metric::L2);
    world.maintain();
    assert!(world.recall(10, SearchPlan::Graph) >= 90);
    let collection = world.fs.find_collection(world.number).unwrap();
    let bytes = world.fs.index_memory_bytes();
    assert!(bytes > 3000 * 16);
    // Who holds a lock is another thread than who is short of memory.
    let release_some = |fs: &FileSystem, most, pressing| {
        std::thread::scope(|s| s.spawn(|| fs.release_index_memory(most, pressing)).join().unwrap())
    };
    let release = |fs: &FileSystem| release_some(fs, u64::MAX, false);
    {
        let _searching = collection.memory.read();
        assert_eq!(release(&world.fs), Released::Nothing);
    }
    {
        let _building = collection.build.write();
        assert_eq!(release(&world.fs), Released::Nothing);
    }
    {
        let _putting = collection.pending.read();
        assert_eq!(release(&world.fs), Released::Nothing);
    }
    assert_eq!(world.fs.index_memory_bytes(), bytes);
    assert_eq!(release_some(&world.fs, bytes - 1, true), Released::Nothing);
    assert_eq!(release_some(&world.fs, bytes, false), Released::Bytes(bytes));
    assert_eq!((world.fs.index_memory_bytes(), release(&world.fs)), (0, Released::Nothing));
    assert!(!world.fs.collection_info(world.number).unwrap().loaded);
    // The next search reads it again, with what was put meanwhile.
    world.add_file();
    assert!(world.recall(10, SearchPlan::Graph) >= 90);
    let bytes = world.fs.index_memory_bytes();
    assert_eq!((bytes > 0, release(&world.fs)), (true, Released::Bytes(bytes)));
}

/// For a while, which the clock of these tests makes few looks at it.
#[test]
fn who_is_at_work_gives_way_to_who_lacks_memory() {
    let mut world = World::new(22, 30, Metric::L2);
    assert!(world.recall(10, SearchPlan::ExactAll) == 100);
    let (number, fs) = (world.number, &world.fs);
    let collection = fs.find_collection(number).unwrap();
    let press =
        || std::thread::scope(|s| s.spawn(|| fs.release_index_memory(u64::MAX, true)).join());
    {
        let _at_work = collection.build.write();
        assert_eq!(press().unwrap(), Released::Soon);
        assert_eq!(press().unwrap(), Released::Nothing, "it has taken long to give up");
    }
    assert_eq!(fs.maintain_collection(number, u64::MAX, &Serial).unwrap().inserted, 0);
    assert!(matches!(press().unwrap(), Released::Bytes(bytes) if bytes > 0));
    // It is not loaded again at once.
    let query = world.vectors[0].2.clone();
    let (report, _) = search(fs, &SearchRequest::nearest(number, &query, 1));
    assert_eq!((report.plan, fs.index_memory_bytes()), (SearchPlan::ExactStreamed, 0));
    (0..12).for_each(|_| assert!(fs.host.clock.monotonic_ns() > 0));
    assert!(world.recall(10, SearchPlan::ExactAll) == 100);
    assert_eq!(world.maintain().left, 0);
    // Whoever loads it gives up in between.
    world.fs.unload_collection(world.number).unwrap();
    let (fs, number) = (&world.fs, world.number);
    let mut turns = 0;
    let mut want = || {
        turns += 1;
        if turns == 2 {
            assert_eq!(fs.release_index_memory(u64::MAX, true), Released::Soon);
        }
    };
    let executor = Between(std::sync::Mutex::new(&mut want));
    let request = SearchRequest::nearest(number, &query, 1);
    let report = fs.search(&request, &executor, &mut |_, _, _| true).unwrap();
    assert_eq!((report.plan, fs.index_memory_bytes()), (SearchPlan::ExactStreamed, 0));
}

#[test]
fn notes_are_memory_too() {
    let mut world = World::new(31, 3, Metric::L2);
    assert_eq!(world.recall(1, SearchPlan::ExactAll), 100);
    let loaded = world.fs.index_memory_bytes();
    let limit = loaded + 4000;
    world.fs.set_index_memory(limit).unwrap();
    // Nobody searches, who would take the notes in.
    let mut most = loaded;
    let mut files = 0;
    while world.fs.index_memory_bytes() > 0 && files < 2000 {
        let ino = file(&world.fs, ROOT, &std::format!("one {files}"));
        files += 1;
        let vector = world.clusters.draw();
        world.fs.put_vectors(world.number, ino, &[put(0, &vector)]).unwrap();
        world.vectors.push((ino, 0, vector));
        most = most.max(world.fs.index_memory_bytes());
    }
    assert!(loaded < most && most <= limit, "{most} of {limit} bytes, {loaded} at first");
    assert_eq!(world.fs.index_memory_bytes(), 0);
    assert_eq!(world.recall(1, SearchPlan::ExactStreamed), 100);
}

#[test]
fn what_others_let_go_of_is_used() {
    let mut world = World::new(32, 3, Metric::L2);
    assert_eq!(world.recall(1, SearchPlan::ExactAll), 100);
    world.fs.set_index_memory(world.fs.index_memory_bytes() * 3 / 2).unwrap();
    let number = world.fs.create_collection(&options("more", world.shape)).unwrap();
    for (ino, chunk, vector) in &world.vectors {
        world.fs.put_vectors(number, *ino, &[put(*chunk, vector)]).unwrap();
    }
    let first = core::mem::replace(&mut world.number, number);
    assert_eq!(world.recall(1, SearchPlan::ExactStreamed), 100);
    world.fs.unload_collection(first).unwrap();
    assert_eq!(world.recall(1, SearchPlan::ExactAll), 100);
}
