// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Collections as commands meet them: finding one by name, names of types and metrics, distances in
//! numbers, building the graph.

use crate::failure::{Failure, Outcome};
use crate::output;
use clap::ValueEnum;
use vexfs_engine::core::{CollectionInfo, Error, FileSystem, Quantization};
use vexfs_engine::{Image, Threads, describe};
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

/// A failure of the core about the collection `name`.
pub fn collection_failure(name: &str, error: Error) -> Failure {
    match error {
        Error::NotFound => Failure::Failed(format!(
            "no collection is called '{}'; 'vexfs collection list IMAGE' tells which there are",
            crate::escape::escape_name(name.as_bytes())
        )),
        error => Failure::about(format!("collection {name}"), describe(&error)),
    }
}

/// The collection of this name.
pub fn find(core: &FileSystem, name: &str) -> Outcome<CollectionInfo> {
    core.collection(name).map_err(|error| collection_failure(name, error))
}

/// The collection of this name, if there is one.
pub fn find_if_any(core: &FileSystem, name: &str) -> Outcome<Option<CollectionInfo>> {
    match core.collection(name) {
        Ok(info) => Ok(Some(info)),
        Err(Error::NotFound) => Ok(None),
        Err(error) => Err(collection_failure(name, error)),
    }
}

/// Rows that go into the graph between two steps of the progress bar.
const STEP_ROWS: u64 = 2048;

/// Puts every vector of a collection into its graph, showing how far that has come.
pub fn build_graph(image: &Image, info: &CollectionInfo, threads: &Threads) -> Outcome {
    let core = image.core();
    let name = String::from_utf8_lossy(&info.name).into_owned();
    let fail = |error| collection_failure(&name, error);
    let missing = core.collection_info(info.number).map_err(fail)?.unindexed;
    let bar = output::progress("indexing", missing, false);
    loop {
        let done = core.maintain_collection(info.number, STEP_ROWS, threads).map_err(fail)?;
        bar.inc(done.inserted);
        if done.inserted < STEP_ROWS {
            bar.finish_and_clear();
            return Ok(());
        }
    }
}
