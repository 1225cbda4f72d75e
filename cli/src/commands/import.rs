// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs import`: stores a file of vectors, and makes each of its rows a vector of the file.

use crate::arrays::{ArrayReader, RowConverter};
use crate::collection::{
    Built, MetricName, build_graph, check_asked, collection_failure, find, find_if_any,
    no_collection, shape_text,
};
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted, human_time, with_path};
use crate::place::{Place, owner, place_parser};
use clap::Args;
use serde_json::json;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use vexfs_engine::core::{
    CollectionInfo, CollectionOptions, GRAPH_ROWS_MIN, PUT_VECTORS_MAX, Quantization, VectorPut,
};
use vexfs_engine::{CoreError, Files, LastLink, OpenFile, Threads, Volume};
use vexfs_simd::Shape;

/// Bytes of the file that are copied, and of vectors that are put, at a time.
const PIECE_BYTES: usize = 4 << 20;

/// Arguments of `vexfs import`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vexfs import data.vexfs:/mnist.npy digits base.npy\n  \
    vexfs import --create --metric cosine data.vexfs:/ docs base.fvecs\n\n\
    Row R of the file becomes chunk R, with the range of its bytes in the file. The file gets its\n\
    name when all its vectors are stored: a failure before leaves neither it nor a collection that\n\
    --create made, an interruption at most the collection. The command returns when everything is\n\
    durable and in the graph, which on a mounted VexFS only who may make collections waits for. With\n\
    room for all but the graph, file and vectors are there and the exit code is 1.")]
pub struct Arguments {
    /// Where to store the file: a new name or a directory, IMAGE:/path or on a mounted VexFS
    #[arg(value_parser = place_parser(), value_name = "PLACE")]
    place: Place,
    /// Name of the collection
    collection: String,
    /// A .npy, .fvecs, .bvecs or .ivecs file
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// Make the collection if it is not there, of the file's type and dimension
    #[arg(long)]
    create: bool,
    /// Metric of a collection that is made; l2 if not given
    #[arg(long, value_name = "M", requires = "create")]
    metric: Option<MetricName>,
    /// Model tag of a collection that is made
    #[arg(long, value_name = "TAG", requires = "create")]
    model: Option<String>,
    /// Most threads to build the graph with
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        let start = Instant::now();
        // Everything that can be wrong with the file or the collection is found before the image
        // is changed.
        let mut rows = ArrayReader::open(&self.source)?;
        if rows.layout().rows == 0 {
            return Err(Failure::Failed(format!("{} has no rows", rows.file())));
        }
        let volume = self.place.volume.open_for_long_work()?;
        let path = self.target(volume.files())?;
        let (info, made) = self.collection(&volume, &rows)?;
        match self.fill(volume.files(), &info, &path, &mut rows) {
            Ok(put) => self.finish(volume, &info, &path, rows.layout().rows, put - start),
            Err(failure) => {
                if made {
                    // It would decide what the next try makes of its own options.
                    volume.drop_collection(&self.collection)?;
                }
                volume.close()?;
                Err(failure)
            }
        }
    }

    /// Stores the file and its vectors; both are there when this succeeds, and neither otherwise.
    /// Returns when that was.
    fn fill(
        &self,
        files: Files<'_>,
        info: &CollectionInfo,
        path: &Path,
        rows: &mut ArrayReader<File>,
    ) -> Outcome<Instant> {
        let layout = rows.layout();
        let Shape { element, dimension, .. } = info.shape;
        let converter = RowConverter::new(layout.component, layout.columns, element, dimension)
            .map_err(|error| Failure::Failed(format!("{}: {error}", rows.file())))?;
        // Without a name until all is there: a file that is only in part in the collection helps
        // nobody.
        let file = files.stage(path, 0o644, owner())?;
        self.store(&file)?;
        self.put_rows(&file, info, rows, &converter)?;
        file.publish(path)?;
        Ok(Instant::now())
    }

    /// Builds the graph, and tells what was done.
    fn finish(
        &self,
        volume: Volume,
        info: &CollectionInfo,
        path: &Path,
        rows: u64,
        put: Duration,
    ) -> Outcome {
        let start = Instant::now();
        let threads = self.threads.map_or_else(Threads::default, Threads::new);
        let built = build_graph(&volume, info, threads)?;
        let now = find(&volume, &self.collection)?;
        // The graph in memory may go with what could not be stored of it.
        let unindexed = (built == Built::Whole).then_some(now.unindexed);
        volume.close()?;
        let all = put + start.elapsed();
        if self.json {
            let fields = json!({
                "vectors": rows,
                "unindexed": unindexed,
                "store_seconds": put.as_secs_f64(),
                "seconds": all.as_secs_f64(),
            });
            output::json(&with_path(fields, "path", path.as_os_str().as_bytes()))?;
            return built.result(&self.place.volume, &self.collection);
        }
        let graph = match unindexed {
            None => "durable (not all indexed)",
            Some(0) => "indexed and durable",
            _ if now.rows >= GRAPH_ROWS_MIN => "durable (and being indexed)",
            _ => "durable (too few for a graph, so that a search compares them all)",
        };
        output::line(&format!(
            "{}: {} in '{}' ({}); stored in {}, {graph} in {}",
            self.place.name_of(path),
            counted(rows, "vector"),
            self.collection,
            shape_text(&info.shape),
            human_time(put),
            human_time(all)
        ))?;
        built.result(&self.place.volume, &self.collection)
    }

    /// The collection, and whether it was made here, as it may be.
    fn collection(
        &self,
        volume: &Volume,
        rows: &ArrayReader<File>,
    ) -> Outcome<(CollectionInfo, bool)> {
        if let Some(info) = find_if_any(volume, &self.collection)? {
            check_asked(&info, None, self.metric, self.model.as_deref())?;
            return Ok((info, false));
        }
        if !self.create {
            return Err(no_collection(&self.collection));
        }
        let layout = rows.layout();
        let element = layout.component.element().ok_or_else(|| {
            Failure::Failed(format!(
                "{}: its numbers have no type of a collection; make one with 'vexfs collection \
                 create'",
                rows.file()
            ))
        })?;
        let dimension = u32::try_from(layout.columns).unwrap_or(u32::MAX);
        let metric = self.metric.unwrap_or(MetricName::L2).metric();
        let shape = Shape { element, metric, dimension };
        let options = CollectionOptions {
            name: &self.collection,
            shape,
            model: self.model.as_deref().unwrap_or_default(),
            quantization: Quantization::None,
            degree: 0,
            build_effort: 0,
        };
        let made = volume.create_collection(&options);
        Ok((made.map_err(|error| collection_failure(&self.collection, error))?, true))
    }

    /// Where the file goes: into a directory under its own name, or to a name that is free.
    fn target(&self, files: Files<'_>) -> Outcome<PathBuf> {
        let path = match files.is_directory(&self.place.path)? {
            true => self.place.path.join(self.source.file_name().unwrap_or(OsStr::new("vectors"))),
            false => self.place.path.clone(),
        };
        match files.find(&path, LastLink::Keep)? {
            None => Ok(path),
            Some(_) => Err(Failure::Failed(format!(
                "{} is there already; remove it first or choose another name",
                self.place.name_of(&path)
            ))),
        }
    }

    /// Copies the file's bytes in.
    fn store(&self, target: &OpenFile<'_>) -> Outcome {
        let fail =
            |error: std::io::Error| Failure::about(self.source.as_os_str().as_bytes(), error);
        let mut source = File::open(&self.source).map_err(fail)?;
        let total = source.metadata().map_err(fail)?.len();
        let bar = output::progress("storing", total, true);
        let mut buffer = vec![0; PIECE_BYTES];
        let mut offset = 0;
        loop {
            let length = source.read(&mut buffer).map_err(fail)?;
            if length == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            target.write_at(offset, &buffer[..length])?;
            offset += length as u64;
            bar.inc(length as u64);
        }
    }

    fn put_rows(
        &self,
        file: &OpenFile<'_>,
        info: &CollectionInfo,
        rows: &mut ArrayReader<File>,
        converter: &RowConverter,
    ) -> Outcome {
        let layout = rows.layout();
        let bar = output::progress("vectors", layout.rows, false);
        let batch = (PIECE_BYTES / converter.row_bytes().max(1)).clamp(1, PUT_VECTORS_MAX);
        let (mut raw, mut converted, mut first) = (Vec::new(), Vec::new(), 0);
        loop {
            raw.clear();
            converted.clear();
            let count = rows.read_rows(batch, &mut raw)?;
            if count == 0 {
                bar.finish_and_clear();
                return Ok(());
            }
            for (at, row) in raw.chunks_exact(converter.source_row_bytes()).enumerate() {
                converter.convert(row, &mut converted).map_err(|error| {
                    Failure::Failed(format!("{}: row {}: {error}", rows.file(), first + at as u64))
                })?;
            }
            let mut puts = Vec::with_capacity(count);
            for (at, bytes) in converted.chunks_exact(converter.row_bytes()).enumerate() {
                let row = first + at as u64;
                let chunk = u32::try_from(row).map_err(|_| {
                    Failure::Failed(format!("{}: more than 2^32 rows", rows.file()))
                })?;
                let range = rows.row_range(row);
                puts.push(VectorPut {
                    chunk,
                    offset: range.start,
                    length: range.end - range.start,
                    content_version: None,
                    tag: 0,
                    digest: [0; 16],
                    bytes,
                });
            }
            file.put_vectors(info, &puts).map_err(|error| match error.core() {
                // It is the row that is at fault, or else the file system.
                Some(CoreError::InvalidChunk { .. }) => Failure::about(rows.file(), &error.reason),
                _ => error.into(),
            })?;
            first += count as u64;
            bar.inc(count as u64);
        }
    }
}
