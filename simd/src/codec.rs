// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Codes: rows made smaller for the search graph, in shapes that the kernels compare as they are.
//!
//! Eight bits are a uniform scalar quantization, one scale for all components, so that distances
//! among codes are those among rows, rounded and scaled. The range is the one with the least
//! squared error over a sample (Max, "Quantizing for Minimum Distortion", 1960, by search), which
//! a few far components do not stretch. One bit is the side of the sample's mean.

use core::convert::Infallible;

use crate::conversion::{nearest_integer, try_each_component};
use crate::half::f32_to_f16;
use crate::{Codec, ElementType, Kernels, Metric, RowTerm, Shape};

/// The greatest magnitude of an eight-bit code: the range is symmetric.
const CODE_MAX: f32 = 127.0;

/// The greatest binary16.
const F16_MAX: f32 = 65_504.0;

/// The parts of the sample's range that are tried.
const PARTS: [f32; 9] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];

/// [`Kernels::train`].
pub(crate) fn train(
    kernels: &dyn Kernels,
    shape: &Shape,
    element: ElementType,
    sample: &[&[u8]],
) -> Option<Codec> {
    let codec = Codec { element, parameters: [0; 2] };
    codec.shape(shape)?;
    let (mut least, mut greatest, mut sum, mut count) =
        (f32::INFINITY, f32::NEG_INFINITY, 0.0_f64, 0_u32);
    each_component(kernels, shape, sample, |component| {
        least = least.min(component);
        greatest = greatest.max(component);
        sum += f64::from(component);
        count = count.saturating_add(1);
    });
    if count == 0 {
        return None;
    }
    let mean = (sum / f64::from(count)) as f32;
    let (center, scale) = match element {
        // Powers of two keep every bit of the components.
        ElementType::F16 => {
            let mut scale = 1.0;
            while greatest.max(-least) * scale > F16_MAX / 4.0 {
                scale *= 0.5;
            }
            (0.0, scale)
        }
        ElementType::I8 => {
            let reach = greatest.max(-least);
            let ranges = PARTS.map(|part| match shape.metric {
                // Products would not survive that zero moves, and the greatest of them, which are
                // wanted, come from the farthest components.
                Metric::InnerProduct => (0.0, reach),
                Metric::Cosine => (0.0, reach * part),
                Metric::L2 | Metric::Manhattan | Metric::Hamming => {
                    let (below, above) = ((mean - least) * part, (greatest - mean) * part);
                    (mean + (above - below) * 0.5, (above + below) * 0.5)
                }
            });
            let quantizers = ranges.map(|(center, reach)| (center, scale_of(reach)));
            let mut errors = [0.0_f64; PARTS.len()];
            each_component(kernels, shape, sample, |component| {
                for ((center, scale), error) in quantizers.iter().zip(&mut errors) {
                    let code = code(component, *center, *scale) as f32;
                    let difference = component - (center + code / scale);
                    *error += f64::from(difference) * f64::from(difference);
                }
            });
            let best = quantizers.iter().zip(&errors).min_by(|one, other| one.1.total_cmp(other.1));
            *best?.0
        }
        ElementType::Bit => (mean, 1.0),
        ElementType::F32 | ElementType::Bf16 | ElementType::U8 => return None,
    };
    Some(Codec { parameters: [center.to_bits(), scale.to_bits()], ..codec })
}

/// [`Kernels::encode`].
pub(crate) fn encode(
    kernels: &dyn Kernels,
    shape: &Shape,
    codec: &Codec,
    (row, term): (&[u8], RowTerm),
    code_out: &mut [u8],
) -> Option<RowTerm> {
    let code_shape = codec.shape(shape)?;
    if row.len() != shape.row_bytes() || code_out.len() != code_shape.row_bytes() {
        return None;
    }
    let factor = factor(shape, term);
    let [center, scale] = codec.parameters.map(f32::from_bits);
    match codec.element {
        ElementType::F16 => {
            let mut codes = code_out.as_chunks_mut().0.iter_mut();
            each(shape.element, row, |component| {
                if let Some(out) = codes.next() {
                    let component = (component * factor * scale).clamp(-F16_MAX, F16_MAX);
                    *out = f32_to_f16(component).to_le_bytes();
                }
            });
        }
        ElementType::I8 => {
            let mut codes = code_out.iter_mut();
            each(shape.element, row, |component| {
                if let Some(out) = codes.next() {
                    *out = code(component * factor, center, scale) as u8;
                }
            });
        }
        ElementType::Bit => {
            code_out.fill(0);
            let mut codes = code_out.iter_mut();
            let (mut byte, mut bit) = (codes.next(), 0);
            each(shape.element, row, |component| {
                if let Some(byte) = &mut byte {
                    **byte |= u8::from(component * factor > center) << bit;
                }
                bit += 1;
                if bit == 8 {
                    (byte, bit) = (codes.next(), 0);
                }
            });
        }
        ElementType::F32 | ElementType::Bf16 | ElementType::U8 => return None,
    }
    kernels.check(&code_shape, code_out).ok()
}

/// The eight-bit code of a component.
#[inline(always)]
fn code(component: f32, center: f32, scale: f32) -> i32 {
    nearest_integer(((component - center) * scale).clamp(-CODE_MAX, CODE_MAX))
}

/// Codes in a unit, for components that reach so far from the center.
fn scale_of(reach: f32) -> f32 {
    let scale = CODE_MAX / reach;
    // Components that are all the same, or nearly, have one code.
    if scale.is_finite() && scale > 0.0 { scale } else { 1.0 }
}

/// What components are multiplied by first: cosine compares rows of length one.
fn factor(shape: &Shape, term: RowTerm) -> f32 {
    match shape.metric {
        Metric::Cosine => f32::from_bits(term.0),
        Metric::L2 | Metric::InnerProduct | Metric::Manhattan | Metric::Hamming => 1.0,
    }
}

/// The components of the valid rows of a sample, as they are coded.
fn each_component(
    kernels: &dyn Kernels,
    shape: &Shape,
    sample: &[&[u8]],
    mut use_component: impl FnMut(f32),
) {
    for row in sample {
        if let Ok(term) = kernels.check(shape, row) {
            let factor = factor(shape, term);
            each(shape.element, row, |component| use_component(component * factor));
        }
    }
}

/// The components of a row.
#[inline(always)]
fn each(element: ElementType, row: &[u8], mut use_component: impl FnMut(f32)) {
    let Ok(()) = try_each_component(element, row, |component| {
        use_component(component);
        Ok::<(), Infallible>(())
    });
}
