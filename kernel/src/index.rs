// SPDX-License-Identifier: GPL-2.0-only
//! A run through the search index, which a module may make when it is loaded: over rows given by
//! the caller, graph and exact search must agree about a row that is asked for. As with the
//! containers it also puts each function of `vexfs-index` under the rules of `kernel/check`,
//! whether or not the core calls it.

use crate::boundary::{bytes, status};
use crate::kernels::HostKernels;
use alloc::vec::Vec;
use vexfs_core::{Error, Result};
use vexfs_index::{
    Builder, Graph, Header, PAGE_BYTES, Parameters, Request, Rows, Scratch, Serial, Space, exact,
    exact_parallel,
};
use vexfs_memory::{TryVec, zeroed_bytes};
use vexfs_simd::{Distance, ElementType, Kernels, Metric, Shape};

/// Builds a graph over `count` rows that follow each other at `rows`, searches it for each, stores
/// and loads it, and removes every second row. Returns 0, `-EUCLEAN` if an answer was wrong, or
/// another negative errno.
///
/// # Safety
/// `rows` points to `count` rows of the shape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vexfs_core_index_check(
    element: u8,
    metric: u8,
    dimension: u32,
    rows: *const u8,
    count: u32,
) -> i32 {
    let shape = match (ElementType::from_number(element), Metric::from_number(metric)) {
        (Some(element), Some(metric)) => Shape { element, metric, dimension },
        _ => return status(Err(Error::Invalid("shape"))),
    };
    let Some(length) = shape.row_bytes().checked_mul(count as usize) else {
        return status(Err(Error::Invalid("count of rows")));
    };
    // SAFETY: the caller's word.
    let source = unsafe { bytes(rows, length) };
    status(rows_are_found(shape, source))
}

fn from_index(error: vexfs_index::Error) -> Error {
    match error {
        vexfs_index::Error::OutOfMemory => Error::OutOfMemory,
        vexfs_index::Error::Cancelled => Error::Interrupted,
        vexfs_index::Error::Damaged => wrong("a stored graph does not load"),
        _ => Error::Invalid("an argument of the index"),
    }
}

const fn wrong(what: &'static str) -> Error {
    Error::Corrupt { place: 0, what }
}

fn rows_are_found(shape: Shape, source: &[u8]) -> Result<()> {
    let (kernels, mut rows, mut numbers) = (HostKernels, Rows::new(shape), Vec::new());
    for (number, row) in source.chunks_exact(shape.row_bytes().max(1)).enumerate() {
        let number = number as u32;
        rows.set(number, row, kernels.check(&shape, row)?).map_err(from_index)?;
        numbers.try_push(number)?;
    }
    let space = Space { rows: &rows, kernels: &kernels, executor: &Serial };
    let mut graph = Graph::new(Parameters::default()).map_err(from_index)?;
    let mut builder = Builder::new();
    graph.reserve(rows.bound()).map_err(from_index)?;
    graph.insert_batch(space, &numbers, &Serial, &mut builder).map_err(from_index)?;
    every_row_is_nearest_to_itself(space, &graph)?;
    let mut graph = stored_and_loaded(&graph)?;
    graph.reserve(rows.bound()).map_err(from_index)?;
    let mut gone = Vec::new();
    for number in numbers.iter().step_by(2) {
        gone.try_push(*number)?;
        rows.clear(*number);
    }
    let space = Space { rows: &rows, kernels: &kernels, executor: &Serial };
    graph.remove_batch(space, &gone, &Serial, &mut builder).map_err(from_index)?;
    if gone.iter().any(|row| graph.contains(*row)) || graph.tombstones() > 0 {
        return Err(wrong("a removed row is still in the graph"));
    }
    every_row_is_nearest_to_itself(space, &graph)
}

fn every_row_is_nearest_to_itself(space: Space<'_>, graph: &Graph) -> Result<()> {
    let mut scratch = Scratch::new();
    let request = Request::nearest(1, 64);
    let mut next = space.rows.next(0);
    while let Some(row) = next {
        next = space.rows.next(row + 1);
        let Some(query) = space.rows.get(row) else { continue };
        let nearest = nearest_exactly(space, row, &request)?;
        graph.search(space, query, &request, &mut |_| true, &mut scratch).map_err(from_index)?;
        if scratch.hits().first().map(|hit| hit.distance) != nearest {
            return Err(wrong("graph and exact search disagree about a row of the graph"));
        }
    }
    Ok(())
}

/// The least distance of `row` to any row, found in both ways of exact search.
fn nearest_exactly(space: Space<'_>, row: u32, request: &Request) -> Result<Option<Distance>> {
    let mut scratches = Vec::new();
    scratches.try_push(Scratch::new())?;
    let mut scratch = Scratch::new();
    let Some(query) = space.rows.get(row) else { return Ok(None) };
    let mut all = space.rows.iter();
    exact(space, &mut all, query, request, &mut |_| true, &mut scratch).map_err(from_index)?;
    exact_parallel(space, query, request, &|_| true, &Serial, &mut scratches)
        .map_err(from_index)?;
    let nearest = scratch.hits().first().map(|hit| hit.distance);
    let parallel = scratches.first().and_then(|scratch| scratch.hits().first());
    if parallel.map(|hit| hit.distance) != nearest {
        return Err(wrong("exact searches disagree"));
    }
    Ok(nearest)
}

fn stored_and_loaded(graph: &Graph) -> Result<Graph> {
    let header = Header::from_bytes(&graph.header().to_bytes()).map_err(from_index)?;
    let mut loaded = Graph::from_header(&header).map_err(from_index)?;
    let mut page = zeroed_bytes(PAGE_BYTES)?;
    let Some(bytes) = page.first_chunk_mut::<PAGE_BYTES>() else {
        return Err(wrong("size of a page"));
    };
    for number in 0..graph.page_count() {
        graph.take_dirty(number);
        graph.page(number, bytes);
        loaded.load_page(number, bytes).map_err(from_index)?;
    }
    loaded.loaded(&header).map_err(from_index)?;
    if loaded.nodes() == graph.nodes() { Ok(loaded) } else { Err(wrong("nodes went missing")) }
}
