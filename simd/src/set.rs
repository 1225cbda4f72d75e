// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a kernel set is: a name and the loop over a batch in its instructions. All else of
//! [`Kernels`] is the same for every set.

use crate::scan::Batch;
use crate::{Codec, Distance, ElementType, InvalidRow, Kernels, RowTerm, Shape, codec, row};

/// A kernel set. Values exist only for processors that have its instructions.
pub(crate) trait Set: Send + Sync {
    /// The set's name, as in [`Kernels::name`].
    fn name(&self) -> &'static str;

    /// The distances of a batch of rows of this shape.
    fn scan(&self, shape: &Shape, batch: Batch<'_>);
}

impl<S: Set> Kernels for S {
    fn name(&self) -> &'static str {
        Set::name(self)
    }

    fn check(&self, shape: &Shape, row: &[u8]) -> Result<RowTerm, InvalidRow> {
        row::check(self, shape, row)
    }

    fn distances(
        &self,
        shape: &Shape,
        query: (&[u8], RowTerm),
        rows: &[&[u8]],
        terms: &[RowTerm],
        distances: &mut [Distance],
    ) {
        if let Some(batch) = Batch::new(shape, query, rows, terms, distances) {
            self.scan(shape, batch);
        }
    }

    fn train(&self, shape: &Shape, element: ElementType, sample: &[&[u8]]) -> Option<Codec> {
        codec::train(self, shape, element, sample)
    }

    fn encode(
        &self,
        shape: &Shape,
        codec: &Codec,
        row: (&[u8], RowTerm),
        code: &mut [u8],
    ) -> Option<RowTerm> {
        codec::encode(self, shape, codec, row, code)
    }
}
