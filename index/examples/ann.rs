// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Builds a graph over a folder of vectors and measures recall and time of its searches.
//!
//! ```text
//! cargo run --release -p vexfs-index --example ann -- DATA [--ef 10,20,40] [--threads 2]
//!     [--degree 32] [--effort 64] [--alpha 120] [--lot N] [--count] [--passes 4] [--exact]
//! ```
//! DATA holds `base.npy`, `query.npy` (u1, f2 or f4) and `truth.npy` (i4, the nearest rows of each
//! query). u1 is searched by l2, f2 and f4 by cosine. --lot inserts so many rows in a call, in the
//! order of the file; --count counts the distances of the build; --exact uses no graph.
//!
//! One JSON object a line: the build, then each effort. `best_cpu_us` is the processor time of a
//! query in the fastest block of 250 queries; `mean_us` and `p50_us` are over the queries, each at
//! its fastest pass.

use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use vexfs_index::{
    Builder, Executor, Graph, Parameters, Request, Rows, Scratch, Serial, Space, exact,
};
use vexfs_simd::{Distance, ElementType, InvalidRow, Kernels, Metric, RowTerm, Shape};

/// Threads of the standard library.
struct Threads(usize);

impl Executor for Threads {
    fn workers(&self) -> usize {
        self.0
    }

    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        std::thread::scope(|scope| {
            for task in tasks {
                scope.spawn(task);
            }
        });
    }
}

/// The kernels of this machine, counting the distances they compute.
struct Counting(&'static dyn Kernels, AtomicU64);

impl Kernels for Counting {
    fn check(&self, shape: &Shape, row: &[u8]) -> Result<RowTerm, InvalidRow> {
        self.0.check(shape, row)
    }

    fn distances(
        &self,
        shape: &Shape,
        query: (&[u8], RowTerm),
        rows: &[&[u8]],
        terms: &[RowTerm],
        distances: &mut [Distance],
    ) {
        self.1.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.0.distances(shape, query, rows, terms, distances);
    }
}

/// An array of a `.npy` file.
struct Array {
    descriptor: String,
    rows: usize,
    columns: usize,
    data: Vec<u8>,
}

fn read_array(path: &str) -> Array {
    let file = std::fs::read(path).unwrap_or_else(|error| {
        eprintln!("ann: cannot read {path}: {error}");
        exit(1)
    });
    let parse = || {
        let long = *file.get(6)? > 1;
        let length = if long {
            u32::from_le_bytes(file.get(8..12)?.try_into().ok()?) as usize
        } else {
            usize::from(u16::from_le_bytes(file.get(8..10)?.try_into().ok()?))
        };
        let start = if long { 12 } else { 10 };
        let header = std::str::from_utf8(file.get(start..start + length)?).ok()?;
        let after = |key: &str| header.split(key).nth(1);
        let descriptor = after("'descr':")?.split('\'').nth(1)?.to_string();
        let mut shape = after("'shape':")?.split(['(', ')', ',']).skip(1);
        let rows = shape.next()?.trim().parse().ok()?;
        let columns = shape.next()?.trim().parse().ok()?;
        let data = file.get(start + length..)?.to_vec();
        Some(Array { descriptor, rows, columns, data })
    };
    parse().unwrap_or_else(|| {
        eprintln!("ann: {path} is no two-dimensional .npy array");
        exit(1)
    })
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (mut data, mut efforts, mut threads) = (None, "10,16,24,32,48,64,100,200".to_string(), 2);
    let mut parameters = Parameters::default();
    let mut passes = 4;
    let (mut only_exact, mut count, mut lot) = (false, false, usize::MAX);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            arguments.next().and_then(|value| value.parse::<u16>().ok()).unwrap_or_else(|| {
                eprintln!("ann: {argument} needs a number");
                exit(2)
            })
        };
        match argument.as_str() {
            "--ef" => efforts = arguments.next().unwrap_or(efforts),
            "--threads" => threads = usize::from(number().max(1)),
            "--degree" => parameters.degree = number(),
            "--effort" => parameters.effort = number(),
            "--alpha" => parameters.alpha_percent = number(),
            "--count" => count = true,
            "--lot" => lot = usize::from(number().max(1)),
            "--passes" => passes = number().max(1),
            "--exact" => only_exact = true,
            _ => data = Some(argument),
        }
    }
    let Some(data) = data else {
        eprintln!(
            "usage: ann DATA [--ef LIST] [--threads N] [--degree N] [--effort N] [--alpha N]"
        );
        exit(2)
    };
    let base = read_array(&format!("{data}/base.npy"));
    let query = read_array(&format!("{data}/query.npy"));
    let truth = read_array(&format!("{data}/truth.npy"));
    let (element, metric) = match base.descriptor.as_str() {
        "|u1" => (ElementType::U8, Metric::L2),
        "<f2" => (ElementType::F16, Metric::Cosine),
        "<f4" => (ElementType::F32, Metric::Cosine),
        other => {
            eprintln!("ann: elements of type {other} are not read");
            exit(1)
        }
    };
    let shape = Shape { element, metric, dimension: base.columns as u32 };
    let kernels = kernels();
    let term = |row: &[u8]| {
        kernels.check(&shape, row).unwrap_or_else(|error| {
            eprintln!("ann: a row is refused: {error:?}");
            exit(1)
        })
    };
    let mut rows = Rows::new(shape);
    for (number, row) in base.data.chunks_exact(shape.row_bytes()).enumerate() {
        rows.set(number as u32, row, term(row)).expect("memory for the rows");
    }
    let space = Space { rows: &rows, kernels, executor: &Serial };
    let queries: Vec<(&[u8], RowTerm)> =
        query.data.chunks_exact(shape.row_bytes()).map(|row| (row, term(row))).collect();
    let truth: Vec<Vec<u32>> = truth
        .data
        .chunks_exact(truth.columns * 4)
        .map(|row| {
            let numbers = row.chunks_exact(4).take(10);
            numbers.map(|n| u32::from_le_bytes([n[0], n[1], n[2], n[3]])).collect()
        })
        .collect();

    let mut graph = Graph::new(parameters).expect("parameters in range");
    let mut scratch = Scratch::new();
    if !only_exact {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        graph.reserve(base.rows as u32).expect("memory for the graph");
        let new: Vec<u32> = (0..base.rows as u32).collect();
        let mut builder = Builder::new();
        let several = Threads(threads);
        let executor: &dyn Executor = if threads > 1 { &several } else { &Serial };
        let counting = Counting(kernels, AtomicU64::new(0));
        let counted = Space { kernels: if count { &counting } else { kernels }, ..space };
        for lot in new.chunks(lot) {
            let inserted = graph.insert_batch(counted, lot, executor, &mut builder);
            inserted.expect("memory for the build");
        }
        println!(
            "{{\"build_s\":{:.2},\"build_cpu_s\":{:.2},\"threads\":{threads},\"nodes\":{},\"degree\":{:.1},\"graph_bytes\":{},\"builder_bytes\":{},\"rows_bytes\":{},\"distances_per_row\":{}}}",
            started.elapsed().as_secs_f64(),
            cpu_seconds() - cpu,
            graph.nodes(),
            f64::from(graph.average_degree_percent()) / 100.0,
            graph.memory_bytes(),
            builder.memory_bytes(),
            rows.memory_bytes(),
            counting.1.load(Ordering::Relaxed) / base.rows as u64,
        );
    }
    let efforts = if only_exact { "0".to_string() } else { efforts };
    for effort in efforts.split(',').filter_map(|effort| effort.trim().parse::<u32>().ok()) {
        let request = Request::nearest(10, effort);
        let run = |query: (&[u8], RowTerm), scratch: &mut Scratch| {
            let found = if only_exact {
                let mut all = 0..base.rows as u32;
                exact(space, &mut all, query, &request, &mut |_| true, scratch)
            } else {
                graph.search(space, query, &request, &mut |_| true, scratch)
            };
            found.expect("memory for a search")
        };
        let (mut best_us, mut times) = (f64::MAX, vec![f64::MAX; queries.len()]);
        let (mut right, mut examined, mut hops) = (0, 0, 0);
        for pass in 0..passes {
            for block in (0..queries.len()).step_by(250) {
                let cpu = thread_cpu_us();
                let mut last = Instant::now();
                let end = (block + 250).min(queries.len());
                for number in block..end {
                    let stats = run(queries[number], &mut scratch);
                    let now = Instant::now();
                    times[number] = times[number].min((now - last).as_secs_f64() * 1e6);
                    last = now;
                    if pass == 0 {
                        examined += stats.examined;
                        hops += stats.hops;
                        let hits = scratch.hits().iter();
                        right += hits.filter(|hit| truth[number].contains(&hit.row)).count();
                    }
                }
                best_us = best_us.min((thread_cpu_us() - cpu) / (end - block) as f64);
            }
        }
        times.sort_by(f64::total_cmp);
        let per_query = |sum: u64| sum as f64 / queries.len() as f64;
        println!(
            "{{\"ef\":{effort},\"recall\":{:.4},\"mean_us\":{:.1},\"best_cpu_us\":{best_us:.1},\"p50_us\":{:.1},\"examined\":{:.0},\"hops\":{:.1}}}",
            right as f64 / (queries.len() * 10) as f64,
            times.iter().sum::<f64>() / times.len() as f64,
            times[times.len() / 2],
            per_query(examined),
            per_query(hops),
        );
    }
}

/// Processor time of all threads of this process so far, where the system tells it.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Processor time of this thread so far, where the system tells it.
fn thread_cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = stat.split_whitespace().next().and_then(|spent| spent.parse::<f64>().ok());
    spent.unwrap_or(0.0) / 1000.0
}

/// The fastest kernels of this machine.
fn kernels() -> &'static dyn Kernels {
    vexfs_simd::detect()
}
