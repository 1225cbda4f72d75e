// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Whether bytes are a vector of a shape, and the term that belongs to it.

use crate::conversion::try_each_component;
use crate::{Distance, ElementType, InvalidRow, Kernels, MAX_DIMENSION, Metric, RowTerm, Shape};

/// The greatest squared length of a row of floats, 2^125. The squared distance of two such rows is
/// at most four times as much, and half of binary32's range stays free for rounding.
const SQUARE_MAX: f32 = f32::from_bits((127 + 125) << 23);

/// The least squared length of a row under cosine, 2^-100.
const SQUARE_MIN: f32 = f32::from_bits((127 - 100) << 23);

/// [`Kernels::check`], by way of the set's own inner product of the row with itself.
pub(crate) fn check(
    kernels: &impl Kernels,
    shape: &Shape,
    row: &[u8],
) -> Result<RowTerm, InvalidRow> {
    if shape.dimension == 0 || shape.dimension > MAX_DIMENSION || row.len() != shape.row_bytes() {
        return Err(InvalidRow::Length);
    }
    let floats = matches!(shape.element, ElementType::F32 | ElementType::F16 | ElementType::Bf16);
    if shape.element == ElementType::Bit
        && !shape.dimension.is_multiple_of(8)
        && row.last().is_some_and(|last| last >> (shape.dimension % 8) != 0)
    {
        return Err(InvalidRow::Length);
    }
    if !floats && shape.metric != Metric::Cosine {
        return Ok(RowTerm::default());
    }
    let square = square(kernels, shape, row);
    // NaN and infinite components make the sum NaN or infinite, so that it says all there is to
    // say about a good row.
    if floats && (square.is_nan() || square > SQUARE_MAX) {
        bad_component(shape.element, row)?;
    }
    if shape.metric != Metric::Cosine {
        return Ok(RowTerm::default());
    }
    if square < SQUARE_MIN {
        return Err(InvalidRow::Zero);
    }
    Ok(RowTerm((inverse_square_root(f64::from(square)) as f32).to_bits()))
}

/// The squared length of a row.
fn square(kernels: &impl Kernels, shape: &Shape, row: &[u8]) -> f32 {
    let shape = Shape { metric: Metric::InnerProduct, ..*shape };
    let mut distances = [Distance::MAX];
    let term = RowTerm::default();
    kernels.distances(&shape, (row, term), &[row], &[term], &mut distances);
    let [product] = distances;
    -f32::from_bits(product.to_f32_bits())
}

/// The first component that is not finite or takes the sum of squares over its limit. Sums of
/// binary32 round, so that a row right at the limit may yet pass here.
fn bad_component(element: ElementType, row: &[u8]) -> Result<(), InvalidRow> {
    let mut sum = 0.0_f64;
    let mut position = 0;
    try_each_component(element, row, |component| {
        sum += f64::from(component) * f64::from(component);
        if sum.is_nan() || sum > f64::from(SQUARE_MAX) {
            return Err(InvalidRow::NotFinite(position));
        }
        position += 1;
        Ok(())
    })
}

/// One over the square root of a normal positive number, to the last bit or so: Newton's method on
/// `1 / y^2 - x` from the estimate of Lomont, "Fast Inverse Square Root" (2003), for binary64. It
/// is the same on every processor, and `core` has no square root.
pub(crate) fn inverse_square_root(x: f64) -> f64 {
    let mut y = f64::from_bits(0x5fe6_eb50_c7b5_37a9_u64.wrapping_sub(x.to_bits() >> 1));
    for _ in 0..5 {
        y *= 1.5 - 0.5 * x * y * y;
    }
    y
}
