// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Power is cut while a search graph is built, changed and stored: vectors and search agree after
//! every cut, whatever became of the graph.

use std::collections::BTreeMap;
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::*;
use vexfs_simulation::vector::{SeededVector, options};
use vexfs_simulation::*;

const FILES: u32 = 4;
const CHUNKS: u32 = 330;

/// Vectors by (file, chunk).
type Stored = BTreeMap<(u64, u32), Vec<u8>>;

fn put(fs: &FileSystem, collection: u32, stored: &mut Stored, number: u64, chunks: &[(u32, u64)]) {
    let vectors: Vec<_> = chunks
        .iter()
        .map(|(chunk, seed)| (*chunk, SeededVector { chunk: *chunk, seed: *seed }.vector("bytes")))
        .collect();
    let puts: Vec<_> = vectors
        .iter()
        .map(|(chunk, vector)| VectorPut {
            chunk: *chunk,
            offset: 0,
            length: 0,
            content_version: None,
            tag: 0,
            digest: [0; 16],
            bytes: &vector.bytes,
        })
        .collect();
    fs.put_vectors(collection, number, &puts).unwrap();
    stored.extend(vectors.into_iter().map(|(chunk, vector)| ((number, chunk), vector.bytes)));
}

/// What an exact search finds, and whether a search of the graph finds `sample` nearest to itself.
fn agree(fs: &FileSystem, stored: &Stored, sample: usize) -> std::result::Result<(), String> {
    let failed = |error: Error| format!("search: {error:?}");
    let collection = fs.collection_number("bytes").map_err(failed)?;
    let query = vec![0; 16];
    let mut request = SearchRequest::nearest(collection, &query, SEARCH_K_MAX);
    request.exact = true;
    request.vectors = true;
    let mut found = Stored::new();
    fs.search(&request, &Serial, &mut |_, hit, bytes| {
        found.insert((hit.inode, hit.chunk), bytes.map(<[u8]>::to_vec).unwrap_or_default());
        true
    })
    .map_err(failed)?;
    if found != *stored {
        return Err(format!("{} vectors stored, {} others found", stored.len(), found.len()));
    }
    let step = (stored.len() / sample).max(1);
    for (key, bytes) in stored.iter().step_by(step) {
        let mut nearest = None;
        let mut request = SearchRequest::nearest(collection, bytes, 1);
        request.effort = 200;
        fs.search(&request, &Serial, &mut |_, hit, _| {
            nearest = Some(((hit.inode, hit.chunk), f32::from_bits(hit.distance.to_f32_bits())));
            true
        })
        .map_err(failed)?;
        if nearest != Some((*key, 0.0)) {
            return Err(format!("{key:?} is not nearest to itself, but {nearest:?}"));
        }
    }
    Ok(())
}

#[test]
fn a_search_graph_agrees_with_the_vectors_after_every_cut() {
    let seed = seed(0x64_0001);
    let device = format(16 << 20, seed);
    let fs = FileSystem::open(host(&device, seed), &OpenOptions::default()).unwrap();
    let collection = fs.create_collection(&options("bytes")).unwrap();
    let mut random = SeededRandom::new(seed);
    let mut stored = Stored::new();
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let files: Vec<_> = (0..FILES)
        .map(|file| fs.create(ROOT_INODE, format!("file-{file}").as_bytes(), &new).unwrap())
        .collect();
    for number in &files {
        let chunks: Vec<_> = (0..CHUNKS).map(|chunk| (chunk, random.number())).collect();
        put(&fs, collection, &mut stored, *number, &chunks);
    }
    fs.commit().unwrap();

    device.record();
    // (events when the commit began, events when it was done, what it published)
    let mut points = vec![(0, 0, stored.clone())];
    let commit = |points: &mut Vec<(usize, usize, Stored)>, stored: &Stored| {
        let begun = device.event_count();
        fs.commit().unwrap();
        points.push((begun, device.event_count(), stored.clone()));
    };
    let done = fs.maintain_collection(collection, u64::MAX, &Serial).unwrap();
    assert!(done.inserted > 1000 && done.left == 0, "{done:?}");
    fs.store_graphs().unwrap();
    commit(&mut points, &stored);
    for round in 0..4 {
        let number = files[round % files.len()];
        let first = random.below(200) as u32;
        fs.remove_vectors(collection, number, first..=first + 20, &Serial).unwrap();
        stored.retain(|(of, chunk), _| *of != number || !(first..=first + 20).contains(chunk));
        let chunks: Vec<_> = (first + 10..first + 60).map(|at| (at, random.number())).collect();
        put(&fs, collection, &mut stored, number, &chunks);
        fs.maintain_collection(collection, u64::MAX, &Serial).unwrap();
        if round % 2 == 0 {
            fs.store_graphs().unwrap();
        }
        commit(&mut points, &stored);
    }

    let mut states = 0;
    device.trace().crash_states(&mut random, 1, |crash| {
        states += 1;
        let last = points.iter().rposition(|point| point.1 <= crash.cut).unwrap();
        let candidates =
            points.iter().skip(last).take_while(|p| p.0 < crash.cut || p.1 <= crash.cut);
        let survivor = SimulatedDevice::with_image(crash.image.clone());
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
        let fs = FileSystem::open(host(&survivor, 1), &read_only).unwrap();
        let problems: Vec<_> =
            candidates.map_while(|point| agree(&fs, &point.2, 10).err()).collect();
        let allowed = points.iter().skip(last).filter(|p| p.0 < crash.cut || p.1 <= crash.cut);
        assert!(
            problems.len() < allowed.count(),
            "seed {seed:#x}, cut at event {} ({}): {problems:?}",
            crash.cut,
            crash.fate
        );
        assert_eq!(survivor.changing_requests(), 0);
        if let Err(problem) = check_device(&survivor) {
            panic!("seed {seed:#x}, cut at event {} ({}): {problem}", crash.cut, crash.fate);
        }
    });
    assert!(states > 100, "only {states} crash states");
    println!("{states} crash states");
}
