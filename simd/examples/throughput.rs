// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Nanoseconds a row takes under each kernel set: `cached`, where all rows lie in the second-level
//! cache, and `memory`, where rows are picked at random from far more than the caches hold, as a
//! graph search does. Rows go in batches of 16.
//!
//! `cargo run --release -p vexfs-simd --example throughput [part of a set's name]`

use std::hint::black_box;
use std::time::Instant;

use vexfs_simd::{Distance, ElementType, Kernels, Metric, RowTerm, Shape, sets};

const BATCH: usize = 16;
const CACHED_BYTES: usize = 256 << 10;
const MEMORY_BYTES: usize = 512 << 20;

/// The shapes measured: the embeddings in common use.
const SHAPES: [(ElementType, Metric, u32); 22] = [
    (ElementType::F32, Metric::L2, 128),
    (ElementType::F32, Metric::Cosine, 384),
    (ElementType::F32, Metric::L2, 768),
    (ElementType::F32, Metric::Cosine, 768),
    (ElementType::F32, Metric::Cosine, 1024),
    (ElementType::F32, Metric::InnerProduct, 1536),
    (ElementType::F32, Metric::Manhattan, 768),
    (ElementType::F16, Metric::L2, 128),
    (ElementType::F16, Metric::Cosine, 384),
    (ElementType::F16, Metric::Cosine, 768),
    (ElementType::Bf16, Metric::L2, 768),
    (ElementType::Bf16, Metric::Cosine, 768),
    (ElementType::I8, Metric::L2, 384),
    (ElementType::I8, Metric::InnerProduct, 384),
    (ElementType::I8, Metric::InnerProduct, 768),
    (ElementType::U8, Metric::L2, 128),
    (ElementType::U8, Metric::L2, 784),
    (ElementType::U8, Metric::Cosine, 784),
    (ElementType::U8, Metric::Manhattan, 784),
    (ElementType::U8, Metric::Hamming, 784),
    (ElementType::Bit, Metric::Hamming, 384),
    (ElementType::Bit, Metric::Hamming, 1024),
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let bytes = memory();
    for (element, metric, dimension) in SHAPES {
        let shape = Shape { element, metric, dimension };
        println!("{element:?} {metric:?} {dimension} ({} bytes)", shape.row_bytes());
        for set in sets().filter(|set| set.name().contains(&wanted)) {
            let cached = measure(set, &shape, bytes.get(..CACHED_BYTES).unwrap_or(&bytes));
            let memory = measure(set, &shape, &bytes);
            println!("  {:<28} cached {cached:7.1} ns  memory {memory:7.1} ns", set.name());
        }
    }
}

/// Bytes that make small finite numbers in every element type.
fn memory() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(MEMORY_BYTES);
    while bytes.len() < MEMORY_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = ((state >> 40) as f32 / (1 << 24) as f32).to_bits() & 0xffff_0000;
        // Both halves are a bfloat16 and a binary16 below one.
        bytes.extend((value | value >> 16).to_le_bytes());
    }
    bytes
}

/// The least of several measurements of many batches.
fn measure(set: &dyn Kernels, shape: &Shape, bytes: &[u8]) -> f64 {
    let rows: Vec<&[u8]> = bytes.chunks_exact(shape.row_bytes()).collect();
    let query = rows.first().copied().unwrap_or_default();
    let term = RowTerm(1.0_f32.to_bits());
    let terms = [term; BATCH];
    let mut state = 1_u64;
    let mut least = f64::INFINITY;
    for _ in 0..5 {
        // Rows not met in the round before, so that no cache holds them.
        let mut batches: Vec<[&[u8]; BATCH]> = Vec::new();
        for _ in 0..4000 {
            batches.push([(); BATCH].map(|()| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                rows.get((state >> 33) as usize % rows.len()).copied().unwrap_or_default()
            }));
        }
        let begin = Instant::now();
        for batch in &batches {
            let mut distances = [Distance::MAX; BATCH];
            set.distances(shape, (black_box(query), term), batch, &terms, &mut distances);
            black_box(distances);
        }
        let nanoseconds = begin.elapsed().as_nanos() as f64;
        least = least.min(nanoseconds / (batches.len() * BATCH) as f64);
    }
    least
}
