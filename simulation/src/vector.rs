// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections of workloads, and whether search agrees with what is stored.

use crate::model::{State, Vector};
use crate::random::{Blob, SeededRandom};
use std::collections::{BTreeMap, BTreeSet};
use vexfs_core::*;
use vexfs_simd::{ElementType, Metric, Shape};

/// Names of the collections that workloads make.
pub const COLLECTION_NAMES: [&str; 3] = ["bytes", "floats", "bits"];

/// The shape of the collection of this name.
pub fn shape(name: &str) -> Shape {
    let (element, metric, dimension) = match name {
        "bytes" => (ElementType::U8, Metric::L2, 16),
        "floats" => (ElementType::F32, Metric::L2, 300),
        _ => (ElementType::Bit, Metric::Hamming, 64),
    };
    Shape { element, metric, dimension }
}

/// The options of the collection of this name.
pub fn options(name: &str) -> CollectionOptions<'_> {
    CollectionOptions {
        name,
        shape: shape(name),
        model: "seeded",
        quantization: Quantization::None,
        degree: 8,
        build_effort: 16,
    }
}

/// A vector to put, told by its seed.
#[derive(Clone, Copy, Debug)]
pub struct SeededVector {
    /// Chunk of the file.
    pub chunk: u32,
    /// What everything else follows from.
    pub seed: u64,
}

impl SeededVector {
    /// What is stored of it in the collection of this name.
    pub fn vector(&self, name: &str) -> Vector {
        let shape = shape(name);
        let mut random = SeededRandom::new(self.seed);
        let bytes = match shape.element {
            ElementType::F32 => (0..shape.dimension)
                .flat_map(|_| (random.below(2001) as f32 / 8.0 - 125.0).to_le_bytes())
                .collect(),
            _ => Blob { seed: self.seed, length: shape.row_bytes() }.bytes(),
        };
        let (tag, offset, length) = (random.number(), random.below(1000), random.below(1000));
        Vector { bytes, tag, offset, length }
    }
}

/// The vectors of a file by collection and chunk, and what the file system says of each.
pub type Listed = (BTreeMap<(u32, u32), Vector>, Vec<VectorInfo>);

/// The vectors of an inode, and what else the core says of each.
pub fn vectors_of(fs: &FileSystem, number: u64) -> Result<Listed> {
    let mut listed = Vec::new();
    fs.vectors_of(number, &Serial, &mut |info| {
        listed.push(*info);
        true
    })?;
    let mut vectors = BTreeMap::new();
    for info in &listed {
        let (found, bytes) = fs.get_vector(info.collection, number, info.chunk)?;
        assert_eq!(found, *info, "a vector listed and got");
        let vector = Vector { bytes, tag: info.tag, offset: info.offset, length: info.length };
        vectors.insert((info.collection, info.chunk), vector);
    }
    Ok((vectors, listed))
}

/// Names of the collections by number.
pub fn collections(fs: &FileSystem) -> Result<BTreeMap<u32, String>> {
    let mut found = BTreeMap::new();
    fs.collections(&mut |info| {
        found.insert(info.number, String::from_utf8_lossy(&info.name).into_owned());
        true
    })?;
    Ok(found)
}

/// Whether searches of every collection find the vectors of all files of `state` and no others, and
/// each by itself at distance 0.
pub fn check_search(fs: &FileSystem, state: &State) -> std::result::Result<(), String> {
    for (collection, name) in &state.collections {
        let failed = |error: Error| format!("collection {name}: {error:?}");
        let mut expected = BTreeMap::new();
        for (number, node) in &state.nodes {
            for ((_, chunk), vector) in node.vectors.range((*collection, 0)..=(*collection, !0)) {
                expected.insert((*number, *chunk), vector);
            }
        }
        let empty = vec![0; shape(name).row_bytes()];
        for (key, query) in std::iter::once((None, &empty))
            .chain(expected.iter().take(3).map(|(key, vector)| (Some(*key), &vector.bytes)))
        {
            let mut request = SearchRequest::nearest(*collection, query, 2000);
            request.exact = key.is_some();
            let mut found = BTreeSet::new();
            let mut nearest = BTreeSet::new();
            let report = fs
                .search(&request, &Serial, &mut |_, hit, _| {
                    found.insert((hit.inode, hit.chunk));
                    if f32::from_bits(hit.distance.to_f32_bits()) == 0.0 {
                        nearest.insert((hit.inode, hit.chunk));
                    }
                    true
                })
                .map_err(failed)?;
            if !found.iter().eq(expected.keys()) || report.hits != found.len() as u64 {
                return Err(format!(
                    "collection {name}: {} vectors stored, {} of {} hits agree",
                    expected.len(),
                    found.iter().filter(|hit| expected.contains_key(hit)).count(),
                    report.hits
                ));
            }
            if key.is_some_and(|key| !nearest.contains(&key)) {
                return Err(format!("collection {name}: {key:?} is not found by its own vector"));
            }
        }
        let info = fs.collection(name).map_err(failed)?;
        if info.number != *collection || info.rows < expected.len() as u64 {
            return Err(format!("collection {name}: {info:?} for {} vectors", expected.len()));
        }
    }
    Ok(())
}
