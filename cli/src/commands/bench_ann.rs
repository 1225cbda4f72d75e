// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs bench ann`: recall and time of searches, against exact answers.

use crate::arrays::{ArrayReader, row_integers};
use crate::collection::find;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Align, Table};
use crate::place::{VolumeName, volume_parser};
use clap::Args;
use serde_json::json;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;
use vexfs_engine::core::{CollectionInfo, SearchRequest, Serial};
use vexfs_engine::{CoreError, Error, Reason, Scope};

/// Passes over the queries; of each query the best time counts for the mean and percentiles.
const PASSES: usize = 4;

/// Arguments of `vexfs bench ann`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    vexfs import --create data.vexfs:/base.npy digits base.npy\n  \
    vexfs bench ann data.vexfs digits --query query.npy --truth truth.npy --ef 10,20,40,80\n\n\
    The collection must have been made by one 'vexfs import', so that chunk numbers are the row\n\
    numbers of the truth file: row Q of it lists the rows nearest to query Q, nearest first. A\n\
    query is one call of the library, its results handed out, or of the kernel for the directory\n\
    of a mounted VexFS; INSIDE is what that says of its own time, without the system call. Times\n\
    are for each query, the best of four passes; searches a second are those of all threads\n\
    together, in one pass.")]
pub struct Arguments {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
    /// Name of the collection
    collection: String,
    /// The queries
    #[arg(long, value_name = "Q.npy")]
    query: PathBuf,
    /// The rows that are nearest to each query
    #[arg(long, value_name = "T.npy")]
    truth: PathBuf,
    /// How many to find
    #[arg(short, value_name = "N", default_value_t = 10)]
    k: u32,
    /// Efforts to measure
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "10,16,24,32,48,64,96,128,200,400"
    )]
    ef: Vec<u32>,
    /// Queries of each search, whose time is divided by them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Threads that search at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        let volume = self.volume.open()?;
        let scope = volume.scope(self.volume.top())?;
        let info = find(&volume, &self.collection)?;
        let queries = super::search::all_query_rows(&self.query, &info.shape)?;
        let row_bytes = info.shape.row_bytes();
        let count = queries.len() / row_bytes;
        let truth = self.truth(count)?;
        let lots: Vec<&[u8]> = queries.chunks(row_bytes * self.batch as usize).collect();
        let mut table = Table::new(&[
            ("EF", Align::Right),
            ("RECALL", Align::Right),
            ("MEAN us", Align::Right),
            ("INSIDE us", Align::Right),
            ("P50 us", Align::Right),
            ("P99 us", Align::Right),
            ("SEARCHES/s", Align::Right),
        ]);
        for &ef in &self.ef {
            let mut found = 0;
            let mut best = vec![f64::MAX; lots.len()];
            let mut inside = best.clone();
            for pass in 0..PASSES {
                for (at, lot) in lots.iter().enumerate() {
                    let start = Instant::now();
                    let request = SearchRequest {
                        effort: ef,
                        ..SearchRequest::nearest(info.number, lot, self.k)
                    };
                    let (hits, _, answered) = scope.search(&info, &request, &Serial)?;
                    let (time, asked) = (start.elapsed(), (lot.len() / row_bytes) as f64);
                    best[at] = best[at].min(time.as_nanos() as f64 / asked);
                    inside[at] = inside[at].min(answered.as_nanos() as f64 / asked);
                    if pass == 0 {
                        let first = at * self.batch as usize;
                        found += hits
                            .iter()
                            .filter(|hit| {
                                let query = first + hit.query;
                                truth[query].contains(&i64::from(hit.found.chunk))
                            })
                            .count();
                    }
                }
            }
            let recall = found as f64 / (count as f64 * f64::from(self.k)).max(1.0);
            let rate = self.rate(&scope, &info, &lots, ef)?;
            let mean = |times: &[f64]| {
                let all = times.iter().zip(&lots).map(|(time, lot)| time * lot.len() as f64);
                all.sum::<f64>() / queries.len() as f64 / 1e3
            };
            let (mean, inside) = (mean(&best), mean(&inside));
            best.sort_unstable_by(f64::total_cmp);
            let at = |share: f64| best[((lots.len() - 1) as f64 * share) as usize] / 1e3;
            if self.json {
                output::json(&json!({
                    "ef": ef, "recall": recall, "mean_us": mean, "inside_us": inside, "p50_us": at(0.5),
                    "p99_us": at(0.99), "qps": rate, "threads": self.threads,
                }))?;
                continue;
            }
            table.row(vec![
                ef.to_string(),
                format!("{recall:.4}"),
                format!("{mean:.1}"),
                format!("{inside:.1}"),
                format!("{:.1}", at(0.5)),
                format!("{:.1}", at(0.99)),
                format!("{rate:.0}"),
            ]);
        }
        if self.json { Ok(()) } else { table.print() }
    }

    /// The `k` nearest rows of each query.
    fn truth(&self, queries: usize) -> Outcome<Vec<HashSet<i64>>> {
        let mut reader = ArrayReader::open(&self.truth)?;
        let layout = reader.layout();
        if layout.rows != queries as u64 || layout.columns < self.k as usize || queries == 0 {
            return Err(Failure::Failed(format!(
                "{}: {} rows of {} numbers do not answer {queries} queries for {} each",
                reader.file(),
                layout.rows,
                layout.columns,
                self.k
            )));
        }
        let mut bytes = Vec::new();
        while reader.read_rows(4096, &mut bytes)? > 0 {}
        bytes
            .chunks_exact(layout.row_bytes())
            .map(|row| {
                let numbers = row_integers(layout.component, row)
                    .map_err(|error| Failure::Failed(format!("{}: {error}", reader.file())))?;
                Ok(numbers.into_iter().take(self.k as usize).collect())
            })
            .collect()
    }

    /// Searches a second, of all threads together.
    fn rate(
        &self,
        scope: &Scope<'_>,
        info: &CollectionInfo,
        lots: &[&[u8]],
        ef: u32,
    ) -> Outcome<f64> {
        let next = AtomicUsize::new(0);
        let start = Instant::now();
        let results: Vec<vexfs_engine::Result<()>> = thread::scope(|threads| {
            let work = || {
                while let Some(lot) = lots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let nearest = SearchRequest::nearest(info.number, lot, self.k);
                    scope.search(info, &SearchRequest { effort: ef, ..nearest }, &Serial)?;
                }
                Ok(())
            };
            let start = |_| thread::Builder::new().spawn_scoped(threads, work);
            let handles: Vec<_> = match (0..self.threads).map(start).collect() {
                Ok(handles) => handles,
                Err(error) => {
                    // Those that were started have nothing more to do.
                    next.store(lots.len(), Ordering::Relaxed);
                    let asked = format!("--threads {}", self.threads);
                    return vec![Err(Error::new(asked, Reason::Host(error)))];
                }
            };
            let ended = |_| Err(Error::new(&self.collection, CoreError::Interrupted));
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(ended)).collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        results.into_iter().collect::<vexfs_engine::Result<()>>()?;
        let asked = lots.iter().map(|lot| lot.len()).sum::<usize>() / info.shape.row_bytes();
        Ok(asked as f64 / seconds.max(1e-9))
    }
}
