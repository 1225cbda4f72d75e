// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Vectors live and go with their files, for one thread and for many.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vexfs_engine::core::{CollectionOptions, Quantization, SearchPlan, SearchRequest, VectorPut};
use vexfs_engine::simd::{ElementType, Metric, Shape};
use vexfs_engine::{
    CopyOptions, CoreError, CreateOptions, Image, OpenOptions, RenameMode, Threads,
};

const DIMENSION: usize = 8;

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image.vexfs")
    }

    fn image(&self) -> Image {
        Image::create(self.path(), Some(64 << 20), &CreateOptions::default()).unwrap()
    }
}

fn collection(image: &Image, name: &str) -> u32 {
    quantized(image, name, Quantization::None)
}

fn quantized(image: &Image, name: &str, quantization: Quantization) -> u32 {
    let shape =
        Shape { element: ElementType::F32, metric: Metric::L2, dimension: DIMENSION as u32 };
    let options =
        CollectionOptions { name, shape, model: "test", quantization, degree: 0, build_effort: 0 };
    image.create_collection(&options).unwrap()
}

fn row(value: f32) -> Vec<u8> {
    [value; DIMENSION].iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn put(bytes: &[u8]) -> VectorPut<'_> {
    VectorPut {
        chunk: 0,
        offset: 0,
        length: 0,
        content_version: None,
        tag: 0,
        digest: [0; 16],
        bytes,
    }
}

fn add(image: &Image, collection: u32, path: &str, value: f32) {
    image.write_file(path, path.as_bytes()).unwrap();
    let inode = image.resolve(path).unwrap();
    image.put_vectors(collection, inode, &[put(&row(value))]).unwrap();
}

/// The paths of the `k` nearest to `value`.
fn near(image: &Image, collection: u32, value: f32, k: u32) -> Vec<PathBuf> {
    let query = row(value);
    let (hits, _) = image.search(&SearchRequest::nearest(collection, &query, k)).unwrap();
    hits.iter().map(|hit| image.paths(hit.found.inode).unwrap().remove(0)).collect()
}

#[test]
fn vectors_follow_their_file_through_renames_links_writes_and_removal() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let numbers = collection(&image, "numbers");
    for (path, value) in [("/one", 1.0), ("/two", 2.0), ("/three", 3.0)] {
        add(&image, numbers, path, value);
    }
    assert_eq!(near(&image, numbers, 1.1, 2), [Path::new("/one"), Path::new("/two")]);
    image.rename("/one", "/uno", RenameMode::Replace).unwrap();
    image.hard_link("/two", "/deux").unwrap();
    image.remove_file("/two").unwrap();
    assert_eq!(near(&image, numbers, 1.1, 2), [Path::new("/uno"), Path::new("/deux")]);
    let inode = image.resolve("/uno").unwrap();
    assert!(image.vectors(inode).unwrap()[0].fresh);
    image.write_file("/uno", b"other words").unwrap();
    assert!(!image.vectors(inode).unwrap()[0].fresh);
    assert_eq!(image.vector(numbers, inode, 0).unwrap().bytes, row(1.0));
    image.copy_from(&image, "/deux", "/copy", &CopyOptions::default(), &mut |_, _| ()).unwrap();
    assert_eq!(image.vectors(image.resolve("/copy").unwrap()).unwrap().len(), 1);
    image.remove_file("/uno").unwrap();
    image.close().unwrap();

    let image = Image::open(scratch.path(), &OpenOptions::read_only()).unwrap();
    let all = near(&image, numbers, 0.0, 9);
    assert_eq!(all.len(), 3);
    assert_eq!(all[2], Path::new("/three"));
}

#[test]
fn errors_name_the_collection_or_say_what_is_wrong_with_the_vector() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let numbers = collection(&image, "numbers");
    image.write_file("/f", b"f").unwrap();
    let inode = image.resolve("/f").unwrap();
    let said = image.collection("none").unwrap_err().to_string();
    assert!(said.ends_with("collection none: not found"), "{said}");
    let nan = row(f32::NAN);
    for (bytes, what) in [(&nan[..], "not a finite number"), (&nan[1..], "another dimension")] {
        let error = image.put_vectors(numbers, inode, &[put(bytes)]).unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
    }
    for k in [0, u32::MAX] {
        let query = row(0.0);
        let error = image.search(&SearchRequest::nearest(numbers, &query, k)).unwrap_err();
        assert!(
            matches!(error.core(), Some(CoreError::Invalid(_) | CoreError::TooBig(_))),
            "{error}"
        );
    }
    assert!(image.vectors(inode).unwrap().is_empty(), "a refused vector was stored");
    image.drop_collection("numbers").unwrap();
    assert!(image.collections().unwrap().is_empty());
    assert!(image.search(&SearchRequest::nearest(numbers, &row(0.0), 1)).is_err());
}

#[test]
fn a_graph_is_built_stored_and_used_after_reopening() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let numbers = collection(&image, "numbers");
    for number in 0..3000 {
        add(&image, numbers, &format!("/{number}"), number as f32);
    }
    image.index_collection("numbers", Threads::new(2)).unwrap();
    assert_eq!(image.collection("numbers").unwrap().unindexed, 0);
    image.close().unwrap();
    let image = Image::open(scratch.path(), &OpenOptions::read_only()).unwrap();
    for number in [0, 1234, 2999] {
        let expected = PathBuf::from(format!("/{number}"));
        assert_eq!(near(&image, numbers, number as f32, 1), [expected]);
    }
    assert_eq!(image.collection("numbers").unwrap().indexed, 3000);
}

#[test]
fn a_search_sees_every_put_that_has_returned_and_no_file_that_is_gone() {
    let scratch = Scratch::new();
    scratch.image().close().unwrap();
    let options =
        OpenOptions { commit_interval: Some(Duration::from_millis(2)), ..OpenOptions::default() };
    let image = Image::open(scratch.path(), &options).unwrap();
    let numbers = collection(&image, "numbers");
    for number in 0..1500 {
        add(&image, numbers, &format!("/fixed-{number}"), number as f32);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (image, done) = (&image, &done);
        let readers: Vec<_> = (0..2_u64)
            .map(|reader| {
                scope.spawn(move || {
                    let mut searches = 0;
                    while !done.load(Ordering::Acquire) || searches < 20 {
                        let number = (searches * 97 + reader) % 1500;
                        let found = near(image, numbers, number as f32, 1);
                        assert_eq!(found, [PathBuf::from(format!("/fixed-{number}"))]);
                        searches += 1;
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..2_u32)
            .map(|writer| {
                scope.spawn(move || {
                    for round in 0..100_u32 {
                        let value = 10_000.0 + f64::from(writer * 1000 + round);
                        let path = format!("/moving-{writer}-{round}");
                        add(image, numbers, &path, value as f32);
                        assert_eq!(near(image, numbers, value as f32, 1), [PathBuf::from(&path)]);
                        let inode = image.resolve(&path).unwrap();
                        image.remove_file(&path).unwrap();
                        let query = row(value as f32);
                        let request = SearchRequest::nearest(numbers, &query, 1);
                        let (hits, _) = image.search(&request).unwrap();
                        assert_ne!(hits[0].found.inode, inode, "{path} was found after its end");
                    }
                })
            })
            .collect();
        let end = Done(done);
        writers.into_iter().for_each(|thread| thread.join().unwrap());
        drop(end);
        readers.into_iter().for_each(|thread| thread.join().unwrap());
    });
    image.close().unwrap();
}

/// Ends the threads that wait for it, however a test ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Searches beside a thread that replaces one vector after the other.
fn searches_beside_a_writer(
    files: usize,
    quantization: Quantization,
    index_memory: u64,
    plans: &[SearchPlan],
) {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.core().set_index_memory(index_memory).unwrap();
    let numbers = quantized(&image, "numbers", quantization);
    image.create_dir("/d", 0o755).unwrap();
    for number in 0..files {
        add(&image, numbers, &format!("/d/{number}"), number as f32);
    }
    image.index_collection("numbers", Threads::new(2)).unwrap();
    let scope = image.resolve("/d").unwrap();
    let inodes: Vec<u64> =
        (0..files).map(|number| image.resolve(format!("/d/{number}")).unwrap()).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut round = 0_usize;
            while !done.load(Ordering::Acquire) {
                let value = (round * 31 % files) as f32;
                image.put_vectors(numbers, inodes[round % files], &[put(&row(value))]).unwrap();
                round += 1;
            }
        });
        let end = Done(&done);
        let short = (0..60_000 / files).find_map(|round| {
            let value = (round % files) as f32;
            let query = row(value);
            let scope = if round % 2 == 0 { scope } else { vexfs_engine::core::layout::ROOT_INODE };
            let nearest = SearchRequest::nearest(numbers, &query, files as u32);
            let request = SearchRequest { scope, vectors: true, ..nearest };
            let (hits, report) = image.search(&request).unwrap();
            for hit in &hits {
                let vector = hit.vector.as_ref().unwrap();
                let found = f32::from_le_bytes(*vector.first_chunk().unwrap());
                assert_eq!(hit.distance, (value - found).powi(2) * DIMENSION as f32, "{hit:?}");
            }
            let mut found: Vec<u64> = hits.iter().map(|hit| hit.found.inode).collect();
            assert!(hits.is_sorted_by_key(|hit| hit.found.distance));
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), hits.len(), "a file was found twice");
            let expected = plans.contains(&report.plan) && found.len() == files;
            (!expected).then(|| format!("{} files, {report:?}", found.len()))
        });
        drop(end);
        assert_eq!(short, None);
    });
    image.close().unwrap();
}

#[test]
fn searches_beside_a_writer_find_every_file_that_always_has_a_vector() {
    let plans = [SearchPlan::ExactAll, SearchPlan::ExactScope];
    searches_beside_a_writer(100, Quantization::None, u64::MAX, &plans);
}

#[test]
fn searches_on_the_device_beside_a_writer_find_every_file_that_always_has_a_vector() {
    searches_beside_a_writer(100, Quantization::None, 0, &[SearchPlan::ExactStreamed]);
}

#[test]
fn searches_of_codes_beside_a_writer_find_every_file_that_always_has_a_vector() {
    let plans = [SearchPlan::ExactAll, SearchPlan::ExactScope];
    searches_beside_a_writer(1200, Quantization::I8, u64::MAX, &plans);
}

#[test]
fn what_is_put_becomes_durable_at_the_interval_while_a_graph_is_built() {
    let scratch = Scratch::new();
    scratch.image().close().unwrap();
    let interval = Duration::from_millis(20);
    let options = OpenOptions { commit_interval: Some(interval), ..OpenOptions::default() };
    let image = Image::open(scratch.path(), &options).unwrap();
    let numbers = collection(&image, "numbers");
    image.write_file("/f", b"f").unwrap();
    let inode = image.resolve("/f").unwrap();
    let generation = image.status().generation;
    let bytes: Vec<Vec<u8>> = (0..200).map(|value| row(value as f32)).collect();
    // Vectors come in faster than they go into the graph.
    for round in 0_u32.. {
        let puts: Vec<VectorPut<'_>> = (0..200_u32)
            .map(|at| VectorPut { chunk: round * 200 + at, ..put(&bytes[at as usize]) })
            .collect();
        image.put_vectors(numbers, inode, &puts).unwrap();
        near(&image, numbers, 1.0, 1);
        if image.status().generation >= generation + 4 {
            break;
        }
        assert!(round < 1000, "nothing was committed");
    }
    image.close().unwrap();
}

#[test]
fn an_image_without_space_for_its_graphs_is_closed_with_everything_else_in_it() {
    let scratch = Scratch::new();
    let image = Image::create(scratch.path(), Some(4 << 20), &CreateOptions::default()).unwrap();
    let numbers = collection(&image, "numbers");
    image.write_file("/file", b"text").unwrap();
    let inode = image.resolve("/file").unwrap();
    let rows: Vec<Vec<u8>> = (0..1500).map(|value| row(value as f32)).collect();
    let puts: Vec<VectorPut<'_>> =
        (0..).zip(&rows).map(|(chunk, row)| VectorPut { chunk, ..put(row) }).collect();
    image.put_vectors(numbers, inode, &puts).unwrap();
    // A graph that has changed and is not stored yet.
    let done = image.core().maintain_collection(numbers, 256, &vexfs_engine::core::Serial).unwrap();
    assert!(done.inserted > 0 && !done.stored && done.left > 0);
    image.sync().unwrap();
    for number in 0.. {
        if image.write_file(format!("/fill{number}"), &[7; 4096]).is_err() {
            break;
        }
    }
    image.remove_file("/fill0").unwrap();
    image.write_file("/fill0", b"kept").unwrap();
    assert!(matches!(image.core().store_graphs(), Err(CoreError::NoSpace)));
    image.close().unwrap();

    let image = Image::open(scratch.path(), &OpenOptions::read_only()).unwrap();
    assert_eq!(image.read_file("/fill0").unwrap(), b"kept");
    assert_eq!(image.collection("numbers").unwrap().rows, 1500);
}
