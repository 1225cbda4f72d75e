// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Vectors of files and exact search against a model, and every refusal, case by case.

use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::trim_tests::Impatient;
use crate::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::vec::Vec;
use vexfs_simd::{Distance, ElementType, InvalidRow, Kernels, Metric, RowTerm, Shape};

pub(crate) const ROOT: u64 = layout::ROOT_INODE;

pub(crate) fn shape(element: ElementType, metric: Metric, dimension: u32) -> Shape {
    Shape { element, metric, dimension }
}

pub(crate) fn options<'a>(name: &'a str, shape: Shape) -> CollectionOptions<'a> {
    CollectionOptions {
        name,
        shape,
        model: "test-model",
        quantization: Quantization::None,
        degree: 0,
        build_effort: 0,
    }
}

pub(crate) fn file(fs: &FileSystem, parent: u64, name: &str) -> u64 {
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (1000, 100), device: 0 };
    fs.create(parent, name.as_bytes(), &new).unwrap()
}

/// A row of random components.
pub(crate) fn row(rng: &mut Rng, shape: &Shape) -> Vec<u8> {
    match shape.element {
        ElementType::F32 => (0..shape.dimension)
            .flat_map(|_| (rng.below(2001) as f32 / 1000.0 - 1.0).to_le_bytes())
            .collect(),
        ElementType::F16 | ElementType::Bf16 => {
            // Exponents of small numbers in either format.
            (0..shape.dimension)
                .flat_map(|_| (0x3800u16 | rng.below(1024) as u16).to_le_bytes())
                .collect()
        }
        ElementType::Bit => {
            let mut bytes: Vec<u8> = (0..shape.row_bytes()).map(|_| rng.below(256) as u8).collect();
            if !shape.dimension.is_multiple_of(8) {
                *bytes.last_mut().unwrap() &= (1 << (shape.dimension % 8)) - 1;
            }
            bytes[0] |= 1;
            bytes
        }
        ElementType::I8 | ElementType::U8 => {
            (0..shape.dimension).map(|_| rng.below(255) as u8 + 1).collect()
        }
    }
}

pub(crate) fn put(chunk: u32, bytes: &[u8]) -> VectorPut<'_> {
    VectorPut { chunk, offset: 0, length: 0, content_version: None, tag: 0, digest: [0; 16], bytes }
}

/// Moves the content version, as a write does.
pub(crate) fn change_content(fs: &FileSystem, ino: u64) {
    let now = fs.host.clock.now();
    fs.operation(1, false, |tree| {
        let mut inode = Inode::load(tree, ino)?;
        inode.touch_content(now);
        inode.store(tree, ino)
    })
    .unwrap();
}

pub(crate) fn distance(shape: &Shape, a: &[u8], b: &[u8]) -> Distance {
    // Looking for the processor's features takes long in a virtual machine.
    static KERNELS: std::sync::OnceLock<&'static dyn Kernels> = std::sync::OnceLock::new();
    let kernels = KERNELS.get_or_init(vexfs_simd::detect);
    let (x, y) = (kernels.check(shape, a).unwrap(), kernels.check(shape, b).unwrap());
    let mut distances = [Distance::MAX];
    let rows: [&[u8]; 1] = [b];
    let terms: [RowTerm; 1] = [y];
    kernels.distances(shape, (a, x), &rows, &terms, &mut distances);
    distances[0]
}

pub(crate) fn search(
    fs: &FileSystem,
    request: &SearchRequest<'_>,
) -> (SearchReport, Vec<SearchHit>) {
    let mut hits = Vec::new();
    let report = fs
        .search(request, &Serial, &mut |_, hit, _| {
            hits.push(*hit);
            true
        })
        .unwrap();
    assert_eq!(report.hits, hits.len() as u64);
    (report, hits)
}

#[derive(Clone, Debug, PartialEq)]
struct Stored {
    bytes: Vec<u8>,
    tag: u64,
    version: u64,
    digest: [u8; 16],
}

#[derive(Clone, Default)]
struct Model {
    /// Names of each file, all in the root directory.
    files: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Collection, file, chunk.
    vectors: BTreeMap<(usize, u64, u32), Stored>,
}

struct World {
    memory: Memory,
    fs: FileSystem,
    collections: Vec<(u32, Shape)>,
    model: Model,
    committed: Model,
    generation: u64,
    rng: Rng,
    /// Of the hits that followed the graph: how many were right, of how many.
    found: usize,
    wanted: usize,
}

impl World {
    fn new(seed: u64, block_log2: u32) -> Self {
        let memory = Memory::new(64 << 20);
        let fs = format(&memory, block_log2);
        let mut collections = Vec::new();
        for (name, shape) in [
            ("floats", shape(ElementType::F32, Metric::Cosine, 24)),
            ("bytes", shape(ElementType::U8, Metric::L2, 7)),
            ("wide", shape(ElementType::F32, Metric::L2, 1500)),
        ] {
            collections.push((fs.create_collection(&options(name, shape)).unwrap(), shape));
        }
        fs.commit().unwrap();
        let generation = fs.status().generation;
        let model = Model::default();
        Self {
            memory,
            fs,
            collections,
            committed: model.clone(),
            model,
            generation,
            rng: Rng(0x5bd1_e995 + seed),
            found: 0,
            wanted: 0,
        }
    }

    fn any_file(&mut self) -> Option<u64> {
        let count = self.model.files.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.rng.below(count) as usize;
        self.model.files.keys().nth(at).copied()
    }

    fn forget(&mut self, ino: u64) {
        self.model.files.remove(&ino);
        self.model.vectors.retain(|(_, inode, _), _| *inode != ino);
    }

    fn put_some(&mut self) {
        let Some(ino) = self.any_file() else { return };
        let which = self.rng.below(3) as usize;
        let (number, shape) = self.collections[which];
        let count = 1 + self.rng.below(if which == 2 { 4 } else { 30 });
        let first = self.rng.below(40) as u32;
        let step = 1 + self.rng.below(2) as u32;
        let rows: Vec<_> = (0..count).map(|_| row(&mut self.rng, &shape)).collect();
        let version = self.fs.inode(ino).unwrap().content_version;
        let mut puts = Vec::new();
        for (at, bytes) in rows.iter().enumerate() {
            let stale = version > 1 && self.rng.below(4) == 0;
            let digest = self.rng.below(50) as u8;
            puts.push(VectorPut {
                chunk: first + at as u32 * step,
                offset: at as u64 * 100,
                length: 100,
                content_version: stale.then_some(version - 1),
                tag: self.rng.below(10),
                digest: [digest; 16],
                bytes,
            });
        }
        let replaced = puts
            .iter()
            .filter(|put| self.model.vectors.contains_key(&(which, ino, put.chunk)))
            .count() as u64;
        let report = self.fs.put_vectors(number, ino, &puts).unwrap();
        let stale = puts.iter().filter(|put| put.content_version.is_some()).count() as u64;
        let expected = PutReport { stored: count, replaced, stale, content_version: version };
        assert_eq!(report, expected);
        for put in &puts {
            let stored = Stored {
                bytes: put.bytes.to_vec(),
                tag: put.tag,
                version: put.content_version.unwrap_or(version),
                digest: put.digest,
            };
            self.model.vectors.insert((which, ino, put.chunk), stored);
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..15 => {
                let name = std::format!("f{}", self.rng.below(60));
                if self.fs.lookup(ROOT, name.as_bytes()).is_err() {
                    let ino = file(&self.fs, ROOT, &name);
                    self.model.files.insert(ino, [name.into_bytes()].to_vec());
                }
            }
            15..55 => self.put_some(),
            55..65 => {
                let Some(ino) = self.any_file() else { return };
                let which = self.rng.below(3) as usize;
                let from = self.rng.below(50) as u32;
                let to = if self.rng.below(4) == 0 { u32::MAX } else { from + 10 };
                let count =
                    self.fs.remove_vectors(self.collections[which].0, ino, from..=to, &Serial);
                let before = self.model.vectors.len();
                self.model
                    .vectors
                    .retain(|(w, i, c), _| !(*w == which && *i == ino && (from..=to).contains(c)));
                assert_eq!(count.unwrap(), (before - self.model.vectors.len()) as u64);
            }
            65..73 => {
                let Some(ino) = self.any_file() else { return };
                let names = self.model.files.get_mut(&ino).unwrap();
                let name = names.pop().unwrap();
                let last = names.is_empty();
                self.fs.unlink(ROOT, &name).unwrap();
                if last {
                    self.forget(ino);
                }
            }
            73..78 => {
                let Some(ino) = self.any_file() else { return };
                let name = std::format!("l{}", self.rng.below(1000)).into_bytes();
                if self.fs.lookup(ROOT, &name).is_err() {
                    self.fs.link(ino, ROOT, &name).unwrap();
                    self.model.files.get_mut(&ino).unwrap().push(name);
                }
            }
            78..83 => {
                let Some(ino) = self.any_file() else { return };
                change_content(&self.fs, ino);
            }
            83..86 => {
                let (Some(from), Some(to)) = (self.any_file(), self.any_file()) else { return };
                let version = self.fs.inode(from).unwrap().content_version;
                let copies: Vec<_> = self
                    .model
                    .vectors
                    .iter()
                    .filter(|((_, ino, _), _)| *ino == from)
                    .map(|(key, stored)| (*key, stored.clone()))
                    .collect();
                let count = self.fs.clone_vectors(from, to).unwrap();
                assert_eq!(count, if from == to { 0 } else { copies.len() as u64 });
                let now = self.fs.inode(to).unwrap().content_version;
                for ((which, _, chunk), mut stored) in copies {
                    if from != to {
                        stored.version = if stored.version == version { now } else { 0 };
                        self.model.vectors.insert((which, to, chunk), stored);
                    }
                }
            }
            86..92 => self.search(),
            92..94 => {
                let which = self.rng.below(3) as usize;
                self.fs.maintain_collection(self.collections[which].0, 100, &Serial).unwrap();
            }
            94..97 => {
                self.fs.commit().unwrap();
                self.committed = self.model.clone();
                self.generation = self.fs.status().generation;
            }
            97 => {
                let which = self.rng.below(3) as usize;
                self.fs.unload_collection(self.collections[which].0).unwrap();
            }
            98 => self.check(),
            _ => {
                // A crash: what was not committed is gone, unless space made a commit needed.
                if self.fs.status().generation == self.generation {
                    self.model = self.committed.clone();
                } else {
                    self.fs.commit().unwrap();
                }
                self.fs = FileSystem::open(self.memory.host(), &OpenOptions::default()).unwrap();
                self.fs.reap_orphans().unwrap();
                self.fs.commit().unwrap();
                self.committed = self.model.clone();
                self.generation = self.fs.status().generation;
                self.check();
            }
        }
    }

    fn search(&mut self) {
        let which = self.rng.below(3) as usize;
        let (number, shape) = self.collections[which];
        let query = row(&mut self.rng, &shape);
        let mut expected: Vec<_> = self
            .model
            .vectors
            .iter()
            .filter(|((w, _, _), _)| *w == which)
            .map(|((_, ino, chunk), stored)| {
                (distance(&shape, &query, &stored.bytes), *ino, *chunk)
            })
            .collect();
        expected.sort();
        let k = 1 + self.rng.below(40) as u32;
        // Sums of bytes are exact; sums of floats depend on how many rows are measured at once.
        let whole = shape.element == ElementType::U8;
        let radius = (whole && self.rng.below(2) == 0 && !expected.is_empty())
            .then(|| expected[self.rng.below(expected.len() as u64) as usize].0);
        if let Some(radius) = radius {
            expected.retain(|(distance, _, _)| *distance <= radius);
        }
        let mut request = SearchRequest::nearest(number, &query, k);
        request.exact = self.rng.below(2) == 0;
        request.radius = radius;
        request.vectors = true;
        let mut hits = Vec::new();
        let report = self
            .fs
            .search(&request, &Serial, &mut |_, hit, vector| {
                hits.push((*hit, vector.unwrap().to_vec()));
                true
            })
            .unwrap();
        let is_exact = report.completeness == Completeness::Exact;
        assert!(is_exact || (report.plan == SearchPlan::Graph && !request.exact));
        let wanted = expected.len().min(k as usize);
        if is_exact || radius.is_none() {
            assert_eq!(hits.len(), wanted);
        }
        let near = |a: Distance, b: Distance| a.0.abs_diff(b.0) <= if whole { 0 } else { 16 };
        if is_exact {
            let pairs = hits.iter().zip(&expected);
            pairs.for_each(|((hit, _), (distance, _, _))| assert!(near(hit.distance, *distance)));
        } else if wanted > 0 {
            let farthest = Distance(expected[wanted - 1].0.0 + 16);
            self.found += hits.iter().filter(|(hit, _)| hit.distance <= farthest).count();
            self.wanted += wanted;
        }
        for (hit, vector) in &hits {
            let stored = &self.model.vectors[&(which, hit.inode, hit.chunk)];
            assert!(near(hit.distance, distance(&shape, &query, &stored.bytes)));
            assert_eq!(*vector, stored.bytes);
            assert_eq!((hit.tag, hit.content_version), (stored.tag, stored.version));
            let inode = self.fs.inode(hit.inode).unwrap();
            assert_eq!(hit.fresh, inode.content_version == stored.version);
            assert_eq!(hit.generation, inode.generation);
        }
        let mut found: Vec<_> = hits.iter().map(|(hit, _)| (hit.inode, hit.chunk)).collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), hits.len(), "a vector was returned twice");
    }

    fn check(&mut self) {
        for ino in self.model.files.keys() {
            let mut listed = Vec::new();
            self.fs
                .vectors_of(*ino, &Serial, &mut |info| {
                    listed.push(*info);
                    true
                })
                .unwrap();
            let mut expected: Vec<_> =
                self.model.vectors.iter().filter(|((_, i, _), _)| i == ino).collect();
            expected.sort_by_key(|((which, _, chunk), _)| (self.collections[*which].0, *chunk));
            assert_eq!(listed.len(), expected.len());
            for (info, ((which, _, chunk), stored)) in listed.iter().zip(expected) {
                let number = self.collections[*which].0;
                assert_eq!((info.collection, info.chunk), (number, *chunk));
                assert_eq!((info.tag, info.digest), (stored.tag, stored.digest));
                let (again, bytes) = self.fs.get_vector(number, *ino, *chunk).unwrap();
                assert_eq!((&again, &bytes), (info, &stored.bytes));
            }
        }
        for (which, (number, _)) in self.collections.clone().into_iter().enumerate() {
            let expected = self.model.vectors.keys().filter(|(w, _, _)| *w == which).count() as u64;
            assert_eq!(self.fs.collection_info(number).unwrap().rows, expected);
            let mut count = 0;
            let mut last = None;
            self.fs
                .rows_of(number, 0, &mut |info| {
                    assert!(last < Some(info.row));
                    last = Some(info.row);
                    count += 1;
                    self.model.vectors.contains_key(&(which, info.inode, info.chunk))
                })
                .unwrap();
            assert_eq!(count, expected);
            for digest in 0..50 {
                let Ok((info, bytes)) = self.fs.find_by_digest(number, &[digest + 1; 16]) else {
                    continue;
                };
                let stored = &self.model.vectors[&(which, info.inode, info.chunk)];
                assert_eq!((stored.digest, &stored.bytes), ([digest + 1; 16], &bytes));
            }
        }
    }
}

#[test]
fn vectors_agree_with_a_model_over_changes_of_files_commits_and_crashes() {
    for (seed, block_log2) in [(1, 12), (2, 12), (3, 14)] {
        let mut world = World::new(seed, block_log2);
        for step in 0..4000 {
            world.step();
            if step % 500 == 0 {
                world.check();
            }
        }
        world.check();
        assert!(world.model.vectors.len() > 100, "the test puts too little, seed {seed}");
        for (number, shape) in world.collections.clone() {
            world.fs.unload_collection(number).unwrap();
            let info = world.fs.collection_info(number).unwrap();
            assert_eq!((info.loaded, info.shape), (false, shape));
        }
        (0..20).for_each(|_| world.search());
        let (found, wanted) = (world.found, world.wanted);
        assert!(found * 100 >= wanted * 95, "graph recall {found} of {wanted}");
    }
}

/// Asks for no more at its second turn, and puts a vector at each.
struct Second<'a>(core::sync::atomic::AtomicU32, &'a (dyn Fn() + Sync));

impl vexfs_index::Executor for Second<'_> {
    fn workers(&self) -> usize {
        1
    }
    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        Serial.run(tasks);
    }
    fn relax(&self) {
        self.0.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| scope.spawn(self.1).join().unwrap());
    }
    fn is_cancelled(&self) -> bool {
        self.0.load(core::sync::atomic::Ordering::Relaxed) == 2
    }
}

/// Rows of two collections that are put in turns lie in many extents.
#[test]
fn who_asks_for_the_space_of_many_extents_holds_nobody_up() {
    let memory = Memory::new(64 << 20);
    let fs = format(&memory, 12);
    let shape = shape(ElementType::F32, Metric::L2, 1024);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let other = fs.create_collection(&options("d", shape)).unwrap();
    let ino = file(&fs, ROOT, "f");
    let vector = row(&mut Rng(5), &shape);
    for chunk in 0..100 {
        fs.put_vectors(number, ino, &[put(chunk, &vector)]).unwrap();
        fs.put_vectors(other, ino, &[put(chunk, &vector)]).unwrap();
    }
    let stored = fs.stored_bytes(number, &Serial).unwrap();
    assert!(stored >= 100 * 4096, "{stored}");
    let put_another = || {
        fs.put_vectors(other, ino, &[put(1000, &vector)]).unwrap();
    };
    let second = Second(0.into(), &put_another);
    assert_eq!(fs.stored_bytes(number, &second), Err(Error::Interrupted));
    assert_eq!(fs.stored_bytes(9999, &Serial), Err(Error::NotFound));
}

#[test]
fn space_comes_back_when_vectors_files_and_collections_go() {
    let memory = Memory::new(64 << 20);
    let fs = format(&memory, 12);
    fs.commit().unwrap();
    let empty = fs.status().blocks_free;
    let shape = shape(ElementType::F32, Metric::L2, 100);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let files: Vec<u64> = (0..8).map(|n| file(&fs, ROOT, &std::format!("f{n}"))).collect();
    fs.commit().unwrap();
    let before = fs.status().blocks_free;
    let mut rng = Rng(99);
    for round in 0..4 {
        for ino in &files {
            let rows: Vec<_> = (0..400).map(|_| row(&mut rng, &shape)).collect();
            let puts: Vec<_> = rows.iter().zip(0..).map(|(bytes, at)| put(at, bytes)).collect();
            fs.put_vectors(number, *ino, &puts).unwrap();
        }
        fs.maintain_collection(number, u64::MAX, &Serial).unwrap();
        fs.store_graphs().unwrap();
        fs.commit().unwrap();
        let info = fs.collection_info(number).unwrap();
        assert_eq!((info.rows, info.unindexed), (3200, 0));
        let bytes = 3200 * shape.row_bytes() as u64;
        let stored = fs.stored_bytes(number, &Serial).unwrap();
        assert!(stored >= bytes && stored < bytes * 2 + (1 << 20));
        assert!(fs.status().blocks_free < before);
        // Every other file first, so that holes are left.
        for ino in files.iter().step_by(2).chain(files.iter().skip(1).step_by(2)) {
            match round % 2 {
                0 => {
                    assert_eq!(fs.remove_vectors(number, *ino, 0..=u32::MAX, &Serial).unwrap(), 400)
                }
                _ => while !fs.remove_all_vectors_step(*ino).unwrap() {},
            }
            assert_eq!(fs.inode(*ino).unwrap().flags & layout::INODE_VECTORS, 0);
            assert_eq!(fs.remove_vectors(number, *ino, 0..=u32::MAX, &Serial).unwrap(), 0);
        }
        fs.commit().unwrap();
        assert_eq!(fs.status().blocks_free, before, "round {round}");
        assert_eq!(fs.stored_bytes(number, &Serial), Ok(0));
    }
    // With the files and the collection gone, all of it does.
    let vector = row(&mut rng, &shape);
    for (at, ino) in files.iter().enumerate() {
        fs.put_vectors(number, *ino, &[put(7, &vector)]).unwrap();
        fs.unlink(ROOT, std::format!("f{at}").as_bytes()).unwrap();
    }
    assert_eq!(fs.collection_info(number).unwrap().rows, 0);
    fs.drop_collection(number).unwrap();
    assert_eq!(fs.orphans().unwrap(), []);
    fs.commit().unwrap();
    assert_eq!(fs.status().blocks_free, empty);
}

#[test]
fn a_dropped_collection_is_gone_at_once_and_a_crash_in_between_is_finished() {
    for steps in [0, 1, 3] {
        let memory = Memory::new(32 << 20);
        let fs = format(&memory, 12);
        let shape = shape(ElementType::U8, Metric::Hamming, 300);
        let ino = file(&fs, ROOT, "f");
        fs.commit().unwrap();
        let free = fs.status().blocks_free;
        let number = fs.create_collection(&options("c", shape)).unwrap();
        let mut rng = Rng(4);
        let rows: Vec<_> = (0..500).map(|_| row(&mut rng, &shape)).collect();
        let puts: Vec<_> = rows.iter().zip(0..).map(|(bytes, at)| put(at, bytes)).collect();
        fs.put_vectors(number, ino, &puts).unwrap();
        fs.commit().unwrap();
        // The first operations of a drop, and a commit before the rest.
        let object = fs.find_collection(number).unwrap().schema.object;
        fs.break_drop("c", steps).unwrap();
        assert_eq!(fs.collection_info(number), Err(Error::NotFound));
        assert_eq!(fs.put_vectors(number, ino, &puts), Err(Error::NotFound));
        assert_eq!(fs.get_vector(number, ino, 3), Err(Error::NotFound));
        fs.vectors_of(ino, &Serial, &mut |_| panic!("a vector of a dropped collection")).unwrap();
        fs.commit().unwrap();
        drop(fs);
        let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
        assert_eq!(fs.orphans().unwrap(), [object]);
        assert_eq!(fs.collection("c"), Err(Error::NotFound));
        if steps == 3 {
            // The file goes before its collection does.
            while !fs.remove_all_vectors_step(ino).unwrap() {}
        }
        // The name is free for another.
        let other = fs.create_collection(&options("c", shape)).unwrap();
        assert_ne!(other, number);
        fs.put_vectors(other, ino, &puts[..1]).unwrap();
        fs.reap_orphans().unwrap();
        assert_eq!(fs.orphans().unwrap(), []);
        assert_eq!(fs.get_vector(other, ino, 0).unwrap().1, rows[0]);
        assert_ne!(fs.inode(ino).unwrap().flags & layout::INODE_VECTORS, 0);
        fs.drop_collection(other).unwrap();
        assert_eq!(fs.inode(ino).unwrap().flags & layout::INODE_VECTORS, 0);
        fs.commit().unwrap();
        assert_eq!(fs.status().blocks_free, free, "after {steps} steps");
    }
}

#[test]
fn collections_are_listed_described_and_refused() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let good = shape(ElementType::F16, Metric::InnerProduct, 5);
    let first = fs.create_collection(&options("images", good)).unwrap();
    assert_eq!(fs.create_collection(&options("images", good)), Err(Error::Exists));
    let long = "n".repeat(256);
    assert_eq!(fs.create_collection(&options(&long, good)), Err(Error::NameTooLong));
    for name in ["", "a/b", "nul\0"] {
        assert!(matches!(fs.create_collection(&options(name, good)), Err(Error::Invalid(_))));
    }
    for dimension in [0, 16_385] {
        let bad = Shape { dimension, ..good };
        assert!(matches!(fs.create_collection(&options("x", bad)), Err(Error::Invalid(_))));
    }
    for (degree, build_effort) in [(3, 0), (129, 0), (32, 31), (32, 4097)] {
        let bad = CollectionOptions { degree, build_effort, ..options("x", good) };
        assert!(matches!(fs.create_collection(&bad), Err(Error::Invalid(_))));
    }
    let bad = CollectionOptions { model: &long, ..options("x", good) };
    assert_eq!(fs.create_collection(&bad), Err(Error::TooBig("model tag")));
    assert_eq!(fs.collection("x"), Err(Error::NotFound));
    assert_eq!(fs.drop_collection(u32::MAX), Err(Error::NotFound));

    let wide = Shape { dimension: 16_384, ..good };
    let tuned = CollectionOptions { degree: 64, build_effort: 200, ..options("wide", wide) };
    let second = fs.create_collection(&tuned).unwrap();
    fs.commit().unwrap();
    drop(fs);
    let fs =
        FileSystem::open(memory.host(), &OpenOptions { read_only: true, ..Default::default() })
            .unwrap();
    let mut listed = Vec::new();
    fs.collections(&mut |info| {
        listed.push((info.number, info.name.clone(), info.shape, info.degree, info.build_effort));
        true
    })
    .unwrap();
    assert_eq!(
        listed,
        [
            (first, b"images".to_vec(), good, DEGREE_DEFAULT, BUILD_EFFORT_DEFAULT),
            (second, b"wide".to_vec(), wide, 64, 200)
        ]
    );
    let info = fs.collection("images").unwrap();
    assert_eq!((info.model.as_slice(), info.rows, info.loaded), (&b"test-model"[..], 0, false));
    assert_eq!(fs.create_collection(&options("y", good)), Err(Error::ReadOnly));
    assert_eq!(fs.drop_collection(info.number), Err(Error::ReadOnly));
}

#[test]
fn very_many_vectors_of_a_file_are_listed_and_removed_in_steps() {
    let fs = format(&Memory::new(64 << 20), 12);
    let shape = Shape { element: ElementType::I8, metric: Metric::L2, dimension: 4 };
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let ino = fs.create(ROOT, b"f", &new).unwrap();
    let rows: Vec<_> = (0..5000_u32).map(|at| at.to_le_bytes()).collect();
    let puts: Vec<_> = rows.iter().zip(0..).map(|(bytes, at)| put(at, bytes)).collect();
    fs.put_vectors(number, ino, &puts).unwrap();
    let listed = |executor: &dyn Executor| {
        let mut chunks: Vec<u32> = Vec::new();
        let mut each = |vector: &VectorInfo| {
            chunks.push(vector.chunk);
            true
        };
        fs.vectors_of(ino, executor, &mut each).map(|()| chunks)
    };
    assert_eq!(listed(&Serial), Ok((0..5000).collect()));
    let impatient = |questions| Impatient(AtomicU64::new(questions));
    assert_eq!(listed(&impatient(2)), Err(Error::Interrupted));
    assert_eq!(
        fs.remove_vectors(number, ino, 0..=u32::MAX, &impatient(2)),
        Err(Error::Interrupted)
    );
    let left = listed(&Serial).unwrap().len() as u64;
    assert!((1..5000).contains(&left), "{left} are left");
    assert_eq!(fs.remove_vectors(number, ino, 0..=u32::MAX, &Serial), Ok(left));
}

#[test]
fn vectors_that_cannot_be_are_refused_and_nothing_is_stored() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let shape = shape(ElementType::F32, Metric::Cosine, 2);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let ino = file(&fs, ROOT, "f");
    let good = [1f32, 2.0].map(f32::to_le_bytes).concat();
    let bad = |put: VectorPut<'_>, error: Error| {
        let result = fs.put_vectors(number, ino, &[self::put(8, &good), put]);
        assert_eq!(result, Err(error));
        assert_eq!(fs.collection_info(number).unwrap().rows, 0);
    };
    let reason = |reason| Error::InvalidChunk { chunk: 9, reason };
    bad(put(9, &good[..4]), reason(InvalidRow::Length));
    let nan = [1.0, f32::NAN].map(f32::to_le_bytes).concat();
    bad(put(9, &nan), reason(InvalidRow::NotFinite(1)));
    bad(put(9, &[0; 8]), reason(InvalidRow::Zero));
    bad(put(8, &good), Error::Invalid("the same chunk twice in one put"));
    let ahead = VectorPut { content_version: Some(2), ..put(9, &good) };
    bad(ahead, Error::Invalid("content version that the file has not reached"));
    let beyond = VectorPut { offset: u64::MAX, length: 1, ..put(9, &good) };
    bad(beyond, Error::Invalid("range of a vector beyond the largest file"));
    assert_eq!(fs.put_vectors(number, ROOT, &[put(1, &good)]), Err(Error::IsDirectory));
    assert_eq!(fs.put_vectors(number, 12345, &[put(1, &good)]), Err(Error::Stale));
    assert_eq!(fs.put_vectors(77, ino, &[put(1, &good)]), Err(Error::NotFound));
    let fifo = NewInode { mode: MODE_FIFO | 0o644, owner: (0, 0), device: 0 };
    let fifo = fs.create(ROOT, b"fifo", &fifo).unwrap();
    let refused = fs.put_vectors(number, fifo, &[put(1, &good)]);
    assert_eq!(refused, Err(Error::Invalid("not a regular file")));
    let many = std::vec![put(1, &good); PUT_VECTORS_MAX + 1];
    assert_eq!(fs.put_vectors(number, ino, &many), Err(Error::TooBig("vectors of one put")));
    assert_eq!(fs.get_vector(number, ino, 8), Err(Error::NotFound));
    assert_eq!(fs.find_by_digest(number, &[1; 16]).err(), Some(Error::NotFound));

    change_content(&fs, ino);
    let old = VectorPut { content_version: Some(1), ..put(9, &good) };
    let report = fs.put_vectors(number, ino, &[old, put(10, &good)]).unwrap();
    assert_eq!((report.stored, report.stale, report.content_version), (2, 1, 2));
    assert!(!fs.get_vector(number, ino, 9).unwrap().0.fresh);
    assert!(fs.get_vector(number, ino, 10).unwrap().0.fresh);
}

#[test]
fn searches_that_cannot_be_are_refused() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let shape = shape(ElementType::F32, Metric::L2, 2);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let ino = file(&fs, ROOT, "f");
    let query = [1f32, 2.0].map(f32::to_le_bytes).concat();
    let refused = |request: &SearchRequest<'_>| {
        fs.search(request, &Serial, &mut |_, _, _| panic!("a hit")).unwrap_err()
    };
    let nearest = |query, k| SearchRequest::nearest(number, query, k);
    assert_eq!(refused(&SearchRequest::nearest(9, &query, 1)), Error::NotFound);
    assert_eq!(refused(&nearest(&[], 1)), Error::InvalidVector(InvalidRow::Length));
    assert_eq!(refused(&nearest(&query[1..], 1)), Error::InvalidVector(InvalidRow::Length));
    let nan = [f32::NAN, 1.0].map(f32::to_le_bytes).concat();
    assert_eq!(refused(&nearest(&nan, 1)), Error::InvalidVector(InvalidRow::NotFinite(0)));
    assert!(matches!(refused(&nearest(&query, 0)), Error::Invalid(_)));
    assert!(matches!(refused(&nearest(&query, SEARCH_K_MAX + 1)), Error::TooBig(_)));
    let many = query.repeat(QUERIES_MAX + 1);
    assert!(matches!(refused(&nearest(&many, 1)), Error::TooBig(_)));
    let many = query.repeat(QUERIES_MAX);
    assert!(matches!(refused(&nearest(&many, 200)), Error::TooBig(_)));
    let wide = SearchRequest { effort: SEARCH_EFFORT_MAX + 1, ..nearest(&query, 1) };
    assert!(matches!(refused(&wide), Error::TooBig(_)));
    let below = |scope| SearchRequest { scope, ..nearest(&query, 1) };
    assert_eq!(refused(&below(ino)), Error::NotDirectory);
    assert_eq!(refused(&below(4711)), Error::Stale);
    let (report, hits) = search(&fs, &nearest(&query, 5));
    assert_eq!((report.completeness, hits.len()), (Completeness::Exact, 0));
}

#[test]
fn a_collection_whose_sequence_numbers_would_soon_overflow_is_damaged() {
    let memory = Memory::new(16 << 20);
    let fs = format(&memory, 12);
    let shape = shape(ElementType::F32, Metric::L2, 2);
    let number = fs.create_collection(&options("c", shape)).unwrap();
    let inode = file(&fs, ROOT, "f");
    fs.put_vectors(number, inode, &[put(0, &[0; 8])]).unwrap();
    let object = fs.find_collection(number).unwrap().schema.object;
    let set = |sequence| {
        fs.operation(2, true, |tree| {
            crate::collection::Counts::change(tree, object, |counts| {
                counts.next_sequence = sequence;
                Ok(())
            })
        })
        .unwrap();
    };
    set(layout::SEQUENCE_MAX - 1);
    fs.put_vectors(number, inode, &[put(1, &[0; 8])]).unwrap();
    set(u64::MAX - 1);
    let result = fs.put_vectors(number, inode, &[put(2, &[0; 8])]);
    assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
}
