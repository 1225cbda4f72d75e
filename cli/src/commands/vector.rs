// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs vector`: the vectors of a file, one by one.

use crate::arrays::{ArrayReader, Component, RowConverter, float_row, row_values};
use crate::collection::{collection_failure, find};
use crate::escape::escape_name;
use crate::failure::{Failure, Outcome, complain, core_failure};
use crate::output::{self, Align, Table, with_path};
use crate::place::{Place, place_parser};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
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
    /// The file
    #[arg(value_parser = place_parser(), value_name = "IMAGE:/path")]
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
    /// The file
    #[arg(value_parser = place_parser(), value_name = "IMAGE:/path")]
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

impl Put {
    fn run(&self) -> Outcome {
        let image = self.of.place.open_for_change()?;
        let info = find(image.core(), &self.of.collection)?;
        let inode = image.resolve(&self.of.place.path)?;
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
        let report = image
            .core()
            .put_vectors(info.number, inode, &[put])
            .map_err(|error| core_failure(self.of.place.name_of(&self.of.place.path), error))?;
        image.close()?;
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
        "row": vector.row,
    });
    with_path(fields, "collection", &info.name)
}

impl Get {
    fn run(&self) -> Outcome {
        let image = self.of.place.open()?;
        let info = find(image.core(), &self.of.collection)?;
        let inode = image.resolve(&self.of.place.path)?;
        let (vector, bytes) = image.core().get_vector(info.number, inode, self.chunk).map_err(
            |error| match error {
                CoreError::NotFound => Failure::about(
                    self.of.place.image.as_os_str().as_bytes(),
                    format!(
                        "{} has no vector of chunk {} in '{}'",
                        escape_name(self.of.place.path.as_os_str().as_bytes()),
                        self.chunk,
                        self.of.collection
                    ),
                ),
                error => core_failure(self.of.place.name_of(&self.of.place.path), error),
            },
        )?;
        let values = row_values(info.shape.element, info.shape.dimension, &bytes);
        if self.json {
            let mut object = to_json(&info, &vector);
            object["values"] = json!(values);
            return output::json(&object);
        }
        let text: Vec<String> = values.iter().map(f32::to_string).collect();
        output::line(&text.join(","))
    }
}

impl Remove {
    fn run(&self) -> Outcome {
        let image = self.of.place.open_for_change()?;
        let info = find(image.core(), &self.of.collection)?;
        let inode = image.resolve(&self.of.place.path)?;
        let chunks = match self.chunk {
            Some(chunk) => chunk..=chunk,
            None => 0..=u32::MAX,
        };
        let removed = image
            .core()
            .remove_vectors(info.number, inode, chunks)
            .map_err(|error| core_failure(self.of.place.name_of(&self.of.place.path), error))?;
        image.close()?;
        match (removed, self.chunk) {
            (0, Some(chunk)) => Err(Failure::Failed(format!(
                "{} has no vector of chunk {chunk} in '{}'",
                self.of.place.name_of(&self.of.place.path),
                self.of.collection
            ))),
            _ => Ok(()),
        }
    }
}

impl List {
    fn run(&self) -> Outcome {
        let image = self.place.open()?;
        let core = image.core();
        let inode = image.resolve(&self.place.path)?;
        let only = match &self.collection {
            Some(name) => Some(find(core, name)?.number),
            None => None,
        };
        let mut vectors = Vec::new();
        core.vectors_of(inode, &mut |vector| {
            if only.is_none_or(|number| number == vector.collection) {
                vectors.push(*vector);
            }
            true
        })
        .map_err(|error| core_failure(self.place.name_of(&self.place.path), error))?;
        let mut table = Table::new(&[
            ("COLLECTION", Align::Left),
            ("CHUNK", Align::Right),
            ("OFFSET", Align::Right),
            ("LENGTH", Align::Right),
            ("STATE", Align::Left),
            ("TAG", Align::Right),
        ]);
        let mut info: Option<CollectionInfo> = None;
        for vector in &vectors {
            if info.as_ref().is_none_or(|info| info.number != vector.collection) {
                let found = core.collection_info(vector.collection);
                info = Some(found.map_err(|error| collection_failure("of the vector", error))?);
            }
            let Some(info) = &info else { continue };
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
