// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs collection`: making, listing, showing, dropping and rebuilding collections.

use crate::collection::{
    DAMAGED_HINT, MetricName, TypeName, build_graph, collection_failure, find, known_damaged,
    quantization_name, shape_text,
};
use crate::escape::escape_name;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Align, Table, counted, human_bytes, human_time, with_path};
use crate::place::{VolumeName, volume_parser};
use crate::time::format_time_exact;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::time::Instant;
use vexfs_engine::Threads;
use vexfs_engine::core::{
    BUILD_EFFORT_DEFAULT, CollectionInfo, CollectionOptions, DEGREE_DEFAULT, Quantization,
};
use vexfs_simd::Shape;

/// Arguments of `vexfs collection`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a collection: a named set of vectors of one dimension, type and metric
    Create(Create),
    /// Lists the collections
    List(List),
    /// Tells everything about a collection
    Show(Named),
    /// Drops a collection and its vectors; the files stay
    Drop(Named),
    /// Builds a collection's graph anew from its vectors
    Rebuild(Named),
}

/// `--quant`: in which form the graph keeps vectors in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum QuantizationName {
    /// As they are stored
    None,
    /// A byte for each component
    I8,
    /// Half the bytes of f32
    F16,
    /// A bit for each component
    Bit,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vexfs collection create notes.vexfs texts --dim 384 --metric cosine --model all-MiniLM-L6-v2\n  \
    vexfs collection create notes.vexfs images --dim 784 --type u8 --metric l2")]
struct Create {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
    /// Name of the collection: 1 to 255 bytes without '/'
    name: String,
    /// Components of a vector, 1 to 16384
    #[arg(long, value_name = "N")]
    dim: u32,
    /// How a component is stored
    #[arg(long = "type", value_name = "T", default_value = "f32")]
    element: TypeName,
    /// How vectors are compared
    #[arg(long, value_name = "M", default_value = "l2")]
    metric: MetricName,
    /// Free text that names the model the vectors are from
    #[arg(long, value_name = "TAG", default_value = "")]
    model: String,
    /// In which form the graph keeps vectors in memory
    #[arg(long, value_name = "Q", default_value = "none")]
    quant: QuantizationName,
    /// Most neighbours of a graph node
    #[arg(long, value_name = "R", default_value_t = DEGREE_DEFAULT)]
    degree: u16,
    /// Effort of an insertion into the graph: more makes a better graph, and takes longer
    #[arg(long, value_name = "L", default_value_t = BUILD_EFFORT_DEFAULT)]
    build_effort: u32,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs collection list notes.vexfs")]
struct List {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    vexfs collection show notes.vexfs texts\n  \
    vexfs collection rebuild notes.vexfs texts\n  \
    vexfs collection drop /mnt texts\n\n\
    Whether vectors are damaged is known once they are read, as a search, a rebuild and fsck.vexfs\n\
    do: until then \"damaged\" is null in JSON. A rebuild leaves damaged ones out, says how many, and\n\
    ends with exit code 1.")]
struct Named {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
    /// Name of the collection
    name: String,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        match &self.action {
            Action::Create(create) => create.run(),
            Action::List(list) => list.run(),
            Action::Show(named) => named.show(),
            Action::Drop(named) => named.drop_it(),
            Action::Rebuild(named) => named.rebuild(),
        }
    }
}

impl Create {
    fn run(&self) -> Outcome {
        let quantization = match self.quant {
            QuantizationName::None => Quantization::None,
            QuantizationName::I8 => Quantization::I8,
            QuantizationName::F16 => Quantization::F16,
            QuantizationName::Bit => Quantization::Bit,
        };
        let options = CollectionOptions {
            name: &self.name,
            shape: Shape {
                element: self.element.element(),
                metric: self.metric.metric(),
                dimension: self.dim,
            },
            model: &self.model,
            quantization,
            degree: self.degree,
            build_effort: self.build_effort,
        };
        if !quantization.suits(&options.shape) {
            return Err(self.no_such_quantization(&options.shape));
        }
        let volume = self.volume.open_for_change()?;
        let made = volume.create_collection(&options);
        made.map_err(|error| collection_failure(&self.name, error))?;
        Ok(volume.close()?)
    }
}

impl Create {
    /// Says which values of `--quant` are possible.
    fn no_such_quantization(&self, shape: &Shape) -> Failure {
        let all = [Quantization::None, Quantization::I8, Quantization::F16, Quantization::Bit];
        let possible: Vec<&str> = all
            .into_iter()
            .filter(|quantization| quantization.suits(shape))
            .map(quantization_name)
            .collect();
        Failure::usage(format!(
            "--quant {} is not possible for --type {} and --metric {}; possible: {}",
            self.quant.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned()),
            TypeName::of(shape.element),
            MetricName::of(shape.metric),
            possible.join(", ")
        ))
    }
}

/// How much is in a collection, which a kernel tells only to who may read every file.
fn told(info: &CollectionInfo, count: String) -> String {
    if info.counted { count } else { "-".to_owned() }
}

/// A collection as JSON.
fn to_json(info: &CollectionInfo, stored_bytes: u64) -> Value {
    // What is not told is null.
    let count = |count: u64| info.counted.then_some(count);
    let fields = json!({
        "number": info.number,
        "dimension": info.shape.dimension,
        "type": TypeName::of(info.shape.element),
        "metric": MetricName::of(info.shape.metric),
        "quantization": quantization_name(info.quantization),
        "degree": info.degree,
        "build_effort": info.build_effort,
        "created": format_time_exact(info.created),
        "vectors": count(info.rows),
        "indexed": count(info.indexed),
        "unindexed": count(info.unindexed),
        "memory_bytes": count(info.memory_bytes),
        "stored_bytes": count(stored_bytes),
        "damaged": known_damaged(info),
        "graph_damaged": info.graph_damaged,
    });
    with_path(with_path(fields, "name", &info.name), "model", &info.model)
}

impl List {
    fn run(&self) -> Outcome {
        let mut table = Table::new(&[
            ("NAME", Align::Left),
            ("VECTORS", Align::Right),
            ("UNINDEXED", Align::Right),
            ("SHAPE", Align::Left),
            ("STORED", Align::Right),
            ("MODEL", Align::Left),
        ]);
        let mut lines = Vec::new();
        let volume = self.volume.open()?;
        for info in volume.collections()? {
            let stored_bytes = match volume.stored_bytes(&info) {
                // Dropped meanwhile.
                Err(error) if error.is_not_found() => continue,
                told => told?,
            };
            lines.push(to_json(&info, stored_bytes));
            table.row(vec![
                escape_name(&info.name),
                told(&info, info.rows.to_string()),
                told(&info, info.unindexed.to_string()),
                shape_text(&info.shape),
                told(&info, human_bytes(stored_bytes)),
                escape_name(&info.model),
            ]);
        }
        if self.json {
            return lines.iter().try_for_each(output::json);
        }
        if table.is_empty() { output::line("There are no collections.") } else { table.print() }
    }
}

impl Named {
    fn show(&self) -> Outcome {
        let volume = self.volume.open()?;
        let info = find(&volume, &self.name)?;
        let stored_bytes = volume.stored_bytes(&info)?;
        if self.json {
            return output::json(&to_json(&info, stored_bytes));
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        row("name", escape_name(&info.name));
        row("shape", shape_text(&info.shape));
        row("model", escape_name(&info.model));
        row("vectors", told(&info, info.rows.to_string()));
        row("in the graph", told(&info, info.indexed.to_string()));
        row("not in the graph", told(&info, info.unindexed.to_string()));
        row("quantization", quantization_name(info.quantization).to_owned());
        row("graph degree", info.degree.to_string());
        row("build effort", info.build_effort.to_string());
        row("stored", told(&info, human_bytes(stored_bytes)));
        if info.damaged > 0 {
            row("damaged vectors", info.damaged.to_string());
        }
        if info.graph_damaged {
            row("graph", "damaged; 'vexfs collection rebuild' makes it anew".to_owned());
        }
        table.print()
    }

    fn drop_it(&self) -> Outcome {
        let volume = self.volume.open_for_change()?;
        let info = find(&volume, &self.name)?;
        let dropped = volume.drop_collection(&self.name);
        dropped.map_err(|error| collection_failure(&self.name, error))?;
        volume.close()?;
        if self.json {
            let fields = json!({
                "number": info.number,
                "vectors": info.counted.then_some(info.rows),
            });
            return output::json(&with_path(fields, "name", &info.name));
        }
        Ok(())
    }

    fn rebuild(&self) -> Outcome {
        let volume = self.volume.open_for_change()?;
        let info = find(&volume, &self.name)?;
        let start = Instant::now();
        let threads = Threads::default();
        let rebuilt = volume.rebuild_collection(&info, threads);
        let done = rebuilt.map_err(|error| collection_failure(&self.name, error))?;
        let built = build_graph(&volume, &info, threads)?;
        let now = find(&volume, &self.name)?;
        volume.close()?;
        if self.json {
            output::json(&json!({
                "indexed": done.inserted,
                "damaged": known_damaged(&now),
                "seconds": start.elapsed().as_secs_f64(),
            }))?;
        } else {
            output::line(&format!(
                "{}: {} in the graph, {}",
                escape_name(self.name.as_bytes()),
                counted(done.inserted, "vector"),
                human_time(start.elapsed())
            ))?;
        }
        match now.damaged {
            0 => built.result(&self.volume, &self.name),
            damaged => Err(self.left_out(damaged)),
        }
    }

    /// The failure to put every vector into the graph.
    fn left_out(&self, damaged: u64) -> Failure {
        Failure::about(
            self.volume.name(),
            format!(
                "collection {}: {} cannot be read, and no search finds them",
                self.name,
                counted(damaged, "damaged vector")
            ),
        )
        .hint(DAMAGED_HINT)
    }
}
