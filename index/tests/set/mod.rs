// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Generated vectors, threads and exact answers for the tests.
#![allow(dead_code, reason = "each test program uses its part")]

use vexfs_index::{
    Builder, Executor, Graph, Hit, Parameters, Request, Rows, Scratch, Serial, Space, exact,
};
use vexfs_simd::{ElementType, Kernels, Metric, RowTerm, Shape};

/// The Lehmer generator of Knuth's MMIX, upper bits.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 31) as u32
    }
}

/// Threads of the standard library.
pub struct Threads(pub usize);

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

pub const SHAPE: Shape = Shape { element: ElementType::U8, metric: Metric::L2, dimension: 32 };

/// A vector of one of `clusters` clouds.
pub fn clustered(random: &mut Random, clusters: u32) -> Vec<u8> {
    let cluster = random.below(clusters);
    let mut centre = Random(u64::from(cluster) * 77 + 1);
    (0..SHAPE.dimension)
        .map(|_| {
            let spread = (random.below(24) + random.below(24) + random.below(24)) as i32 - 36;
            (centre.below(200) as i32 + 28 + spread).clamp(0, 255) as u8
        })
        .collect()
}

pub struct Set {
    pub rows: Rows,
    pub graph: Graph,
    pub builder: Builder,
    pub kernels: &'static dyn Kernels,
}

impl Set {
    pub fn new(shape: Shape, parameters: Parameters) -> Self {
        Self {
            rows: Rows::new(shape),
            graph: Graph::new(parameters).unwrap(),
            builder: Builder::new(),
            kernels: vexfs_simd::detect(),
        }
    }

    pub fn term(&self, bytes: &[u8]) -> RowTerm {
        self.kernels.check(self.rows.shape(), bytes).unwrap()
    }

    pub fn space(&self) -> Space<'_> {
        Space { rows: &self.rows, kernels: self.kernels, executor: &Serial }
    }

    pub fn set(&mut self, row: u32, bytes: &[u8]) {
        let term = self.term(bytes);
        self.rows.set(row, bytes, term).unwrap();
        self.graph.reserve(row + 1).unwrap();
    }

    pub fn insert(&mut self, new: &[u32], executor: &dyn Executor) {
        let space = Space { rows: &self.rows, kernels: self.kernels, executor: &Serial };
        self.graph.insert_batch(space, new, executor, &mut self.builder).unwrap();
    }

    pub fn remove(&mut self, rows: &[u32], executor: &dyn Executor) {
        let space = Space { rows: &self.rows, kernels: self.kernels, executor: &Serial };
        self.graph.remove_batch(space, rows, executor, &mut self.builder).unwrap();
    }

    /// `count` clustered rows from 0 on, all of them inserted in one call.
    pub fn clustered(count: u32, seed: u64, executor: &dyn Executor) -> Self {
        let mut set = Self::new(SHAPE, Parameters::default());
        let mut random = Random(seed);
        for row in 0..count {
            set.set(row, &clustered(&mut random, 40));
        }
        set.insert(&(0..count).collect::<Vec<_>>(), executor);
        set
    }

    pub fn search(&self, query: &[u8], k: u32, effort: u32) -> Vec<Hit> {
        let mut scratch = Scratch::new();
        let query = (query, self.term(query));
        let request = Request::nearest(k, effort);
        self.graph.search(self.space(), query, &request, &mut |_| true, &mut scratch).unwrap();
        scratch.hits().to_vec()
    }

    pub fn exact(&self, query: &[u8], k: u32, accept: &mut dyn FnMut(u32) -> bool) -> Vec<Hit> {
        let mut scratch = Scratch::new();
        let query = (query, self.term(query));
        let request = Request::nearest(k, 0);
        exact(self.space(), &mut self.rows.iter(), query, &request, accept, &mut scratch).unwrap();
        scratch.hits().to_vec()
    }

    /// Recall@10 over `queries` clustered queries among the rows that `accept` takes. Hits count
    /// that are no farther than the tenth exact one.
    pub fn recall(&self, queries: u32, effort: u32, accept: fn(u32) -> bool) -> f64 {
        let mut random = Random(991);
        let mut scratch = Scratch::new();
        let (mut right, mut all) = (0, 0);
        for _ in 0..queries {
            let query = clustered(&mut random, 40);
            let nearest = self.exact(&query, 10, &mut |row| accept(row));
            let request = Request::nearest(10, effort);
            let query = (&query[..], self.term(&query));
            let mut accept = |row| accept(row);
            self.graph.search(self.space(), query, &request, &mut accept, &mut scratch).unwrap();
            let last = nearest.last().unwrap().distance;
            right += scratch.hits().iter().filter(|hit| hit.distance <= last).count();
            all += nearest.len();
        }
        right as f64 / all as f64
    }

    /// All records of the graph in stored form.
    pub fn pages(&self) -> Vec<[u8; vexfs_index::PAGE_BYTES]> {
        let mut pages = vec![[0; vexfs_index::PAGE_BYTES]; self.graph.page_count() as usize];
        for (number, page) in pages.iter_mut().enumerate() {
            self.graph.page(number as u32, page);
        }
        pages
    }

    /// How many nodes a walk of all links from the entries meets.
    pub fn reachable(&self) -> usize {
        let mut met: std::collections::HashSet<u32> = self.graph.entry_rows().collect();
        let mut open: Vec<u32> = met.iter().copied().collect();
        while let Some(row) = open.pop() {
            for neighbour in self.graph.neighbours(row) {
                if self.graph.contains(neighbour) && met.insert(neighbour) {
                    open.push(neighbour);
                }
            }
        }
        met.len()
    }
}

/// The caller's thread.
pub const SERIAL: &Serial = &Serial;
