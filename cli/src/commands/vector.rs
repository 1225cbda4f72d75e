// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs vector`: the vectors of a file, one by one.

use crate::arrays::{ArrayReader, Component, RowConverter, float_row, row_values};
use crate::collection::find;
use crate::escape::escape_name;
use crate::failure::{Failure, Outcome, complain};
use crate::output::{self, Align, Table, with_path};
use crate::place::{Place, place_parser};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;
use vexfs_engine::CoreError;
use vexfs_engine::core::{CollectionInfo, VectorInfo, VectorPut};
use vexfs_simd::Shape;

/// Arguments of `vexfs vector`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stores a vector of a file
    Put(Put),
    /// Prints a vector of a file
    Get(Get),
    /// Removes vectors of a file
    Rm(Remove),
    /// Lists the vectors of a file
    List(List),
}

/// A file and a collection.
#[derive(Debug, Args)]
struct Of {
    /// The file: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_parser = place_parser(), value_name = "PLACE")]
    place: Place,
    /// Name of the collection
    collection: String,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("vector").required(true).args(["npy", "values"]))]
#[command(after_help = "Examples:\n  \
    vexfs vector put data.vexfs:/cat.jpg images --npy embeddings.npy:17\n  \
    vexfs vector put data.vexfs:/a.txt points --values 0.5,1,-2 --chunk 3 --offset 100 --length 50")]
struct Put {
    #[command(flatten)]
    of: Of,
    /// A row of a vector file; row 0 if none is named
    #[arg(long, value_name = "FILE[:ROW]")]
    npy: Option<String>,
    /// The components, separated by commas
    #[arg(long, value_name = "X,Y,...", allow_hyphen_values = true)]
    values: Option<String>,
    /// Chunk of the file; one that has a vector gets the new one
    #[arg(long, default_value_t = 0)]
    chunk: u32,
    /// First byte of the file that the vector describes
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Bytes of the file that it describes; 0 for the whole file
    #[arg(long, default_value_t = 0)]
    length: u64,
    /// A number of your own
    #[arg(long, default_value_t = 0)]
    tag: u64,
    /// The file's content version that it was made from; the present one if not given
    #[arg(long, value_name = "VERSION")]
    content_version: Option<u64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs vector get data.vexfs:/cat.jpg images")]
struct Get {
    #[command(flatten)]
    of: Of,
    /// Chunk of the file
    #[arg(long, default_value_t = 0)]
    chunk: u32,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("removed").required(true).args(["chunk", "all"]))]
#[command(after_help = "Examples:\n  \
    vexfs vector rm data.vexfs:/cat.jpg images --chunk 3\n  \
    vexfs vector rm data.vexfs:/cat.jpg images --all")]
struct Remove {
    #[command(flatten)]
    of: Of,
    /// The chunk whose vector is removed
    #[arg(long)]
    chunk: Option<u32>,
    /// Remove all vectors that the file has in the collection
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs vector list data.vexfs:/a.txt")]
struct List {
    /// The file: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_parser = place_parser(), value_name = "PLACE")]
    place: Place,
    /// Only those in this collection
    collection: Option<String>,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        match &self.action {
            Action::Put(put) => put.run(),
            Action::Get(get) => get.run(),
            Action::Rm(remove) => remove.run(),
            Action::List(list) => list.run(),
        }
    }
}

/// A vector file and maybe a row, from `FILE` or `FILE:ROW`.
pub fn file_and_row(argument: &str) -> (PathBuf, Option<u64>) {
    if let Some((file, row)) = argument.rsplit_once(':')
        && let (Ok(row), false) = (row.parse(), PathBuf::from(argument).exists())
    {
        return (PathBuf::from(file), Some(row));
    }
    (PathBuf::from(argument), None)
}

/// The row of a vector file as a vector of `shape`.
pub fn read_row(argument: &str, shape: &Shape) -> Outcome<Vec<u8>> {
    let (file, row) = file_and_row(argument);
    let mut reader = ArrayReader::open(&file)?;
    let layout = reader.layout();
    let bytes = reader.row(row.unwrap_or(0))?;
    let fail = |error| Failure::Failed(format!("{}: {error}", escape_name(argument.as_bytes())));
    let converter =
        RowConverter::new(layout.component, layout.columns, shape.element, shape.dimension)
            .map_err(fail)?;
    let mut converted = Vec::new();
    converter.convert(&bytes, &mut converted).map_err(fail)?;
    check_row(shape, &converted).map_err(|why| {
        Failure::Failed(format!("{}: row {}: {why}", reader.file(), row.unwrap_or(0)))
    })?;
    Ok(converted)
}

/// Refuses a vector that a collection of this shape cannot hold or compare, with the reason.
pub fn check_row(shape: &Shape, row: &[u8]) -> Result<(), String> {
    match vexfs_simd::detect().check(shape, row) {
        Ok(_) => Ok(()),
        Err(why) => Err(vexfs_engine::describe(&CoreError::InvalidVector(why)).to_string()),
    }
}

/// Components from the command line as a vector of `shape`.
fn parse_values(values: &str, shape: &Shape) -> Outcome<Vec<u8>> {
    let numbers: Result<Vec<f32>, _> =
        values.split(',').map(|value| value.trim().parse::<f32>()).collect();
    let numbers = numbers.map_err(|_| {
        Failure::Usage(format!("--values: '{values}' is not numbers separated by commas"))
    })?;
    let fail = |error| Failure::Failed(format!("--values: {error}"));
    let converter =
        RowConverter::new(Component::F32, numbers.len(), shape.element, shape.dimension)
            .map_err(fail)?;
    let mut converted = Vec::new();
    converter.convert(&float_row(&numbers), &mut converted).map_err(fail)?;
    check_row(shape, &converted).map_err(|why| Failure::Failed(format!("--values: {why}")))?;
    Ok(converted)
}

impl Of {
    fn no_vector(&self, chunk: u32) -> Failure {
        let Self { place, collection } = self;
        Failure::Failed(format!(
            "{} has no vector of chunk {chunk} in '{collection}'",
            place.name()
        ))
    }
}

impl Put {
    fn run(&self) -> Outcome {
        let volume = self.of.place.volume.open_for_change()?;
        let info = find(&volume, &self.of.collection)?;
        let file = volume.files().open_for_change(&self.of.place.path)?;
        let bytes = match (&self.npy, &self.values) {
            (Some(npy), _) => read_row(npy, &info.shape)?,
            (None, Some(values)) => parse_values(values, &info.shape)?,
            (None, None) => return Err(Failure::Usage("--npy or --values is needed".to_owned())),
        };
        let put = VectorPut {
            chunk: self.chunk,
            offset: self.offset,
            length: self.length,
            content_version: self.content_version,
            tag: self.tag,
            digest: [0; 16],
            bytes: &bytes,
        };
        let report = file.put_vectors(&info, &[put])?;
        drop(file);
        volume.close()?;
        if report.stale > 0 {
            complain(&format!(
                "vexfs: the file has moved on to content version {}: the vector is stored as stale",
                report.content_version
            ));
        }
        Ok(())
    }
}

/// A vector's description as JSON.
fn to_json(info: &CollectionInfo, vector: &VectorInfo) -> Value {
    let fields = json!({
        "chunk": vector.chunk,
        "offset": vector.offset,
        "length": vector.length,
        "fresh": vector.fresh,
        "content_version": vector.content_version,
        "tag": vector.tag,
        "sequence": vector.sequence,
    });
    with_path(fields, "collection", &info.name)
}

impl Get {
    fn run(&self) -> Outcome {
        let volume = self.of.place.volume.open()?;
        let info = find(&volume, &self.of.collection)?;
        let file = volume.files().open(&self.of.place.path)?;
        let vector =
            file.vector(&info, self.chunk).map_err(|error| match error.is_not_found() {
                true => self.of.no_vector(self.chunk),
                false => error.into(),
            })?;
        let values = row_values(info.shape.element, info.shape.dimension, &vector.bytes);
        if self.json {
            let mut object = to_json(&info, &vector.info);
            object["values"] = json!(values);
            return output::json(&object);
        }
        let text: Vec<String> = values.iter().map(f32::to_string).collect();
        output::line(&text.join(","))
    }
}

impl Remove {
    fn run(&self) -> Outcome {
        let volume = self.of.place.volume.open_for_change()?;
        let info = find(&volume, &self.of.collection)?;
        let file = volume.files().open_for_change(&self.of.place.path)?;
        let chunks = match self.chunk {
            Some(chunk) => chunk..=chunk,
            None => 0..=u32::MAX,
        };
        let removed = file.remove_vectors(&info, chunks)?;
        drop(file);
        volume.close()?;
        match (removed, self.chunk) {
            (0, Some(chunk)) => Err(self.of.no_vector(chunk)),
            _ => Ok(()),
        }
    }
}

impl List {
    fn run(&self) -> Outcome {
        let volume = self.place.volume.open()?;
        let vectors = volume.files().open(&self.place.path)?.vectors()?.list;
        let collections = match &self.collection {
            Some(name) => vec![find(&volume, name)?],
            None => volume.collections()?,
        };
        let mut table = Table::new(&[
            ("COLLECTION", Align::Left),
            ("CHUNK", Align::Right),
            ("OFFSET", Align::Right),
            ("LENGTH", Align::Right),
            ("STATE", Align::Left),
            ("TAG", Align::Right),
        ]);
        for vector in &vectors {
            let is_of = |info: &&CollectionInfo| info.number == vector.collection;
            let Some(info) = collections.iter().find(is_of) else { continue };
            if self.json {
                output::json(&to_json(info, vector))?;
                continue;
            }
            table.row(vec![
                escape_name(&info.name),
                vector.chunk.to_string(),
                vector.offset.to_string(),
                vector.length.to_string(),
                if vector.fresh { "fresh" } else { "stale" }.to_owned(),
                vector.tag.to_string(),
            ]);
        }
        if self.json || table.is_empty() { Ok(()) } else { table.print() }
    }
}
