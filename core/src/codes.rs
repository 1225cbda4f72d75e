// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Codes: a quantized collection keeps smaller rows of another shape in memory, builds its graph over
//! them, and orders what they find anew by the vectors themselves, which are read from the device.
//!
//! How rows are coded is found from a sample when a collection is loaded, or when it has grown to the
//! size from which it has a graph; below that it is kept as it is stored.

use crate::collection::{Collection, Quantization, Schema};
use crate::collection_graph::GRAPH_ROWS_MIN;
use crate::collection_memory::{Memory, RowItems, decode_row, index_error, read_vectors};
use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use alloc::vec::Vec;
use vexfs_index::{Request, Rows};
use vexfs_memory::TryVec;
use vexfs_simd::{Codec, Distance, ElementType, Kernels, RowTerm, Shape};

/// Rows of a sample.
const SAMPLE_ROWS: u32 = 256;
/// Components of a sample, all rows together: a kernel host looks at them in one go.
const SAMPLE_COMPONENTS: u32 = 1 << 18;
/// Places of the collection that a sample is read from.
const SAMPLE_PLACES: u32 = 16;

impl Quantization {
    /// The quantization with this on-disk number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::I8,
            2 => Self::F16,
            3 => Self::Bit,
            _ => return None,
        })
    }

    /// The type of a code's components.
    fn element(self) -> Option<ElementType> {
        match self {
            Self::None => None,
            Self::I8 => Some(ElementType::I8),
            Self::F16 => Some(ElementType::F16),
            Self::Bit => Some(ElementType::Bit),
        }
    }

    /// Whether rows of this shape have such codes.
    pub fn suits(self, shape: &Shape) -> bool {
        self.code_shape(shape).is_some()
    }

    /// The shape of the rows in memory; nothing when there are no such codes.
    fn code_shape(self, shape: &Shape) -> Option<Shape> {
        match self.element() {
            None => Some(*shape),
            Some(element) => Codec { element, parameters: [0; 2] }.shape(shape),
        }
    }

    /// What to ask of the codes for `wanted` to be among the answers: more hits, so that their true
    /// order can be found, and none left out for its distance, which is in other units.
    pub(crate) fn oversample(self, wanted: &Request) -> Request {
        let (share, more) = match self {
            Self::None => return *wanted,
            Self::F16 => (2, 8),
            Self::I8 => (4, 16),
            Self::Bit => (16, 64),
        };
        let k = wanted.k.saturating_mul(share).saturating_add(more).min(vexfs_index::K_MAX);
        Request { k, effort: wanted.effort.max(k), radius: None, ..*wanted }
    }
}

/// How many rows a sample has.
fn sample_rows(shape: &Shape) -> u32 {
    SAMPLE_COMPONENTS.checked_div(shape.dimension).unwrap_or(1).clamp(1, SAMPLE_ROWS)
}

/// Finds how to code rows from a sample of them, one after another in `sample`.
fn train(kernels: &dyn Kernels, schema: &Schema, sample: &[u8]) -> Result<Option<Codec>> {
    let Some(element) = schema.quantization.element() else { return Ok(None) };
    let mut rows: Vec<&[u8]> = Vec::new();
    for row in sample.chunks_exact(schema.shape.row_bytes().max(1)) {
        rows.try_push(row)?;
    }
    Ok(kernels.train(&schema.shape, element, &rows))
}

/// Writes the code of `row` into `code` and returns its term.
pub(crate) fn encode(
    kernels: &dyn Kernels,
    shape: &Shape,
    codec: &Codec,
    row: (&[u8], RowTerm),
    code: &mut Vec<u8>,
) -> Result<RowTerm> {
    let unknown = Error::NotSupported("the host cannot code vectors of this shape");
    let code_bytes = codec.shape(shape).ok_or(unknown)?.row_bytes();
    code.try_resize(code_bytes, 0)?;
    kernels.encode(shape, codec, row, code).ok_or(unknown)
}

impl Memory {
    /// Codes the rows in memory if the collection is to be quantized and has grown large enough.
    /// It has no graph then.
    pub fn code_rows(&mut self, kernels: &dyn Kernels, schema: &Schema) -> Result<()> {
        let due = schema.quantization != Quantization::None
            && self.codec.is_none()
            && self.is_loaded()
            && self.live.len() >= GRAPH_ROWS_MIN
            && !self.uncoded;
        if !due {
            return Ok(());
        }
        let mut sample: Vec<u8> = Vec::new();
        let count = sample_rows(&schema.shape);
        for at in 0..count {
            let from = u64::from(self.rows.bound()) * u64::from(at);
            let from = from.checked_div(u64::from(count)).unwrap_or(0) as u32;
            if let Some((bytes, _)) = self.rows.next(from).and_then(|row| self.rows.get(row)) {
                sample.try_extend(bytes)?;
            }
        }
        let Some(codec) = train(kernels, schema, &sample)? else {
            // A host without codes keeps the rows as they are.
            self.uncoded = true;
            return Ok(());
        };
        let Some(shape) = codec.shape(&schema.shape) else { return Ok(()) };
        let (mut coded, mut code) = (Rows::new(shape), Vec::new());
        for row in self.live.iter() {
            if let Some(vector) = self.rows.get(row) {
                let term = encode(kernels, &schema.shape, &codec, vector, &mut code)?;
                coded.set(row, &code, term).map_err(index_error)?;
            }
        }
        self.drop_graph(schema)?;
        (self.rows, self.codec) = (coded, Some(codec));
        Ok(())
    }
}

impl FileSystem {
    /// How to code the rows of a collection that is being loaded, when that is wanted.
    pub(crate) fn train_codec(
        &self,
        collection: &Collection,
        rows: u64,
        row_end: u32,
    ) -> Result<Option<Codec>> {
        let schema = &collection.schema;
        if schema.quantization == Quantization::None || rows < GRAPH_ROWS_MIN {
            return Ok(None);
        }
        let (mut items, mut buffer) = (RowItems::default(), Vec::new());
        let mut sample: Vec<u8> = Vec::new();
        let each = sample_rows(&schema.shape).div_ceil(SAMPLE_PLACES);
        for place in 0..SAMPLE_PLACES {
            let from = (u64::from(row_end) * u64::from(place) / u64::from(SAMPLE_PLACES)) as u32;
            items.read(self, schema.object, from, (each as usize, each))?;
            read_vectors(self, collection, &items, &mut buffer, &mut |_, _, vector| {
                if let Some((bytes, _)) = vector {
                    sample.try_extend(bytes)?;
                }
                Ok(())
            })?;
        }
        train(&*self.host.kernels, schema, &sample)
    }

    /// The true distance from the query of what the put `sequence` left in a row; nothing when that
    /// is damaged, or not there any more.
    pub(crate) fn true_distance(
        &self,
        collection: &Collection,
        query: (&[u8], RowTerm),
        (row, sequence): (u32, u64),
    ) -> Result<Option<Distance>> {
        let layout = match self.reader().get(collection.row_key(row))? {
            Some(item) => decode_row(collection.schema.object, &item)?,
            None => return Ok(None),
        };
        if layout.sequence.get() != sequence {
            return Ok(None);
        }
        match self.read_row(collection, row, layout.checksum.get()) {
            Ok(bytes) => Ok(bytes.and_then(|bytes| self.distance(collection, query, &bytes))),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The distance of a vector from the query; nothing when it is none.
    pub(crate) fn distance(
        &self,
        collection: &Collection,
        query: (&[u8], RowTerm),
        vector: &[u8],
    ) -> Option<Distance> {
        let shape = &collection.schema.shape;
        let term = self.host.kernels.check(shape, vector).ok()?;
        let mut distance = [Distance::MAX];
        self.host.kernels.distances(shape, query, &[vector], &[term], &mut distance);
        let [distance] = distance;
        Some(distance)
    }
}

/// Bytes of a row in memory, as estimated before it is loaded.
pub(crate) fn memory_row_bytes(schema: &Schema, rows: u64) -> usize {
    let coded =
        if rows < GRAPH_ROWS_MIN { None } else { schema.quantization.code_shape(&schema.shape) };
    coded.unwrap_or(schema.shape).row_bytes()
}
