// SPDX-License-Identifier: GPL-2.0-only
//! What the core object asks of the SIMD object. Both compile this file with the same compiler; C
//! passes a pointer to a request on and does not look inside.

use vexfs_simd::{Codec, Distance, ElementType, InvalidRow, RowTerm, Shape};

/// A call of one of the functions of `vexfs_simd::Kernels`, and room for its answer.
#[repr(C, u32)]
pub enum Request<'a> {
    /// `check`.
    Check {
        /// The shape that the row should have.
        shape: Shape,
        /// The row.
        row: &'a [u8],
        /// The answer.
        answer: Result<RowTerm, InvalidRow>,
    },
    /// `distances`; the last three slices have one length (the shortest counts).
    Distances {
        /// The shape of query and rows.
        shape: Shape,
        /// The query.
        query: &'a [u8],
        /// Its term.
        term: RowTerm,
        /// The rows.
        rows: &'a [&'a [u8]],
        /// Their terms.
        terms: &'a [RowTerm],
        /// The answer.
        distances: &'a mut [Distance],
    },
    /// `train`.
    Train {
        /// The shape of the rows.
        shape: Shape,
        /// Type of a code's components.
        element: ElementType,
        /// Some of the rows.
        sample: &'a [&'a [u8]],
        /// The answer.
        answer: Option<Codec>,
    },
    /// `encode`.
    Encode {
        /// The shape of the row.
        shape: Shape,
        /// How to code it.
        codec: Codec,
        /// The row.
        row: &'a [u8],
        /// Its term.
        term: RowTerm,
        /// The answer: the code.
        code: &'a mut [u8],
        /// The answer: the code's term.
        answer: Option<RowTerm>,
    },
}
