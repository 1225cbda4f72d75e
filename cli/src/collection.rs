// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections as commands meet them: finding one by name, names of types and metrics, distances in
//! numbers, building the graph.

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::VolumeName;
use clap::ValueEnum;
use indicatif::ProgressBar;
use vexfs_engine::core::{CollectionInfo, Quantization};
use vexfs_engine::{Error, Threads, Volume};
use vexfs_simd::{Distance, ElementType, Metric, Shape};

/// `--type`: how a component of a vector is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TypeName {
    /// 32-bit float
    F32,
    /// 16-bit float
    F16,
    /// bfloat16
    Bf16,
    /// Signed byte
    I8,
    /// Unsigned byte
    U8,
    /// One bit
    Bit,
}

/// `--metric`: how vectors are compared; less is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MetricName {
    /// Squared Euclidean distance
    L2,
    /// One less the cosine of the angle
    Cosine,
    /// Negated inner product
    #[value(alias = "ip", alias = "dot")]
    InnerProduct,
    /// Sum of absolute differences
    #[value(alias = "l1")]
    Manhattan,
    /// Number of components that differ
    Hamming,
}

impl TypeName {
    /// The element type of this name.
    pub fn element(self) -> ElementType {
        match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::Bf16,
            Self::I8 => ElementType::I8,
            Self::U8 => ElementType::U8,
            Self::Bit => ElementType::Bit,
        }
    }

    /// The name of this element type.
    pub fn of(element: ElementType) -> &'static str {
        match element {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::Bf16 => "bf16",
            ElementType::I8 => "i8",
            ElementType::U8 => "u8",
            ElementType::Bit => "bit",
        }
    }
}

impl MetricName {
    /// The metric of this name.
    pub fn metric(self) -> Metric {
        match self {
            Self::L2 => Metric::L2,
            Self::Cosine => Metric::Cosine,
            Self::InnerProduct => Metric::InnerProduct,
            Self::Manhattan => Metric::Manhattan,
            Self::Hamming => Metric::Hamming,
        }
    }

    /// The name of this metric.
    pub fn of(metric: Metric) -> &'static str {
        match metric {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "inner-product",
            Metric::Manhattan => "manhattan",
            Metric::Hamming => "hamming",
        }
    }
}

/// The name of a quantization.
pub fn quantization_name(quantization: Quantization) -> &'static str {
    match quantization {
        Quantization::None => "none",
        Quantization::I8 => "i8",
        Quantization::F16 => "f16",
        Quantization::Bit => "bit",
    }
}

/// A shape for people: `784 x u8, l2`.
pub fn shape_text(shape: &Shape) -> String {
    format!(
        "{} x {}, {}",
        shape.dimension,
        TypeName::of(shape.element),
        MetricName::of(shape.metric)
    )
}

/// A distance as a number.
pub fn distance_value(distance: Distance) -> f32 {
    f32::from_bits(distance.to_f32_bits())
}

/// A failure about the collection `name`.
pub fn collection_failure(name: &str, error: Error) -> Failure {
    if error.is_not_found() {
        return no_collection(name);
    }
    let not_permitted = error.is_not_permitted();
    let failure = Failure::from(error);
    match not_permitted {
        true => failure.hint(
            "Collections are made and dropped by the owner of the file system's root directory, or \
             by root.",
        ),
        false => failure,
    }
}

/// The failure to find a collection.
pub fn no_collection(name: &str) -> Failure {
    Failure::Failed(format!(
        "no collection is called '{}'; 'vexfs collection list' tells which there are",
        escape_name(name.as_bytes())
    ))
}

/// The collection of this name.
pub fn find(volume: &Volume, name: &str) -> Outcome<CollectionInfo> {
    volume.collection(name).map_err(|error| collection_failure(name, error))
}

/// The collection of this name, if there is one.
pub fn find_if_any(volume: &Volume, name: &str) -> Outcome<Option<CollectionInfo>> {
    match volume.collection(name) {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Refuses a collection that is there already and another one than options ask for.
pub fn check_asked(
    info: &CollectionInfo,
    element: Option<TypeName>,
    metric: Option<MetricName>,
    model: Option<&str>,
) -> Outcome {
    let element = element.map(TypeName::element).filter(|asked| *asked != info.shape.element);
    let metric = metric.map(MetricName::metric).filter(|asked| *asked != info.shape.metric);
    let model = model.filter(|asked| asked.as_bytes() != info.model);
    let other = if let Some(asked) = element {
        let present = TypeName::of(info.shape.element);
        format!("holds vectors of type {present}, not of {}", TypeName::of(asked))
    } else if let Some(asked) = metric {
        let present = MetricName::of(info.shape.metric);
        format!("compares by {present}, not by {}", MetricName::of(asked))
    } else if let Some(asked) = model {
        let (present, asked) = (escape_name(&info.model), escape_name(asked.as_bytes()));
        format!("holds vectors of model '{present}', not of '{asked}'")
    } else {
        return Ok(());
    };
    Err(Failure::Failed(format!(
        "collection '{}' is there already and {other}; choose another name, or leave the option out",
        escape_name(&info.name)
    )))
}

/// What to do about damaged vectors.
pub const DAMAGED_HINT: &str = "fsck.vexfs -n names their files: put the vectors of these again.";

/// Vectors of a collection that cannot be read, as far as somebody has tried: none is known of while
/// it is not in memory, whole, and a kernel tells only who may read every file.
pub fn known_damaged(info: &CollectionInfo) -> Option<u64> {
    (info.counted && (info.loaded || info.damaged > 0)).then_some(info.damaged)
}

/// Rows that go into the graph between two steps of the progress bar.
const STEP_ROWS: u64 = 2048;

/// How a graph was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Built {
    /// It is stored; on a mounted file system the kernel sees to that.
    Whole,
    /// There is no room to store it. The vectors are all there.
    NoRoom,
}

impl Built {
    /// The failure to store the graph of the collection `name`.
    pub fn result(self, volume: &VolumeName, name: &str) -> Outcome {
        match self {
            Self::Whole => Ok(()),
            Self::NoRoom => Err(Failure::about(
                volume.name(),
                format!(
                    "collection {name}: no space left for its graph: all vectors are stored, and \
                     searches compare those that are not in it one by one"
                ),
            )
            .hint("Make room, then run 'vexfs collection rebuild'.")),
        }
    }
}

/// Puts every vector of a collection into its graph and stores that, showing how far it has come.
pub fn build_graph(volume: &Volume, info: &CollectionInfo, threads: Threads) -> Outcome<Built> {
    let name = String::from_utf8_lossy(&info.name);
    let missing = find(volume, &name)?.unindexed;
    let bar = output::progress("indexing", missing, false);
    let built = put_in_graph(volume, info, threads, &bar);
    bar.finish_and_clear();
    match built {
        Ok(()) => Ok(Built::Whole),
        Err(error) if error.is_no_space() => Ok(Built::NoRoom),
        Err(error) => Err(collection_failure(&name, error)),
    }
}

fn put_in_graph(
    volume: &Volume,
    info: &CollectionInfo,
    threads: Threads,
    bar: &ProgressBar,
) -> Result<(), Error> {
    let mut changed = false;
    loop {
        let done = match volume.maintain_collection(info, STEP_ROWS, threads) {
            Ok(done) => done,
            // Where it is mounted the kernel does it in its own time, whoever put the vectors.
            Err(error) if error.is_not_permitted() => return Ok(()),
            Err(error) => return Err(error),
        };
        changed = !done.stored && (changed || done.inserted > 0 || done.removed > 0);
        bar.inc(done.inserted);
        if done.inserted < STEP_ROWS {
            break;
        }
    }
    if changed { volume.store_graph(info, threads) } else { Ok(()) }
}
