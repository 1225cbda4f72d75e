// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Rows as binary32 numbers and back, for tools that read and write vectors, and for the codes.

use core::convert::Infallible;

use crate::ElementType;
use crate::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

/// The components of `row` as binary32, all exactly. The shorter of row and `out` counts; unused
/// bits of a `Bit` row count as components.
pub fn to_f32(element: ElementType, row: &[u8], out: &mut [f32]) {
    let mut out = out.iter_mut();
    let each = |component| {
        if let Some(out) = out.next() {
            *out = component;
        }
        Ok::<(), Infallible>(())
    };
    let Ok(()) = try_each_component(element, row, each);
}

/// Writes `components` as a row of `element` type, each rounded to the nearest value that the type
/// has, ties to even. The shorter of components and `out` counts.
///
/// Floats past the range of the type become infinite and NaN stays NaN, both of which
/// [`crate::Kernels::check`] refuses; bytes stop at the ends of their range and take NaN for zero.
/// A bit is set for a component above zero; unused bits of the last byte are clear.
pub fn from_f32(element: ElementType, components: &[f32], out: &mut [u8]) {
    match element {
        ElementType::F32 => {
            for (component, out) in components.iter().zip(out.as_chunks_mut().0) {
                *out = component.to_le_bytes();
            }
        }
        ElementType::F16 => {
            for (component, out) in components.iter().zip(out.as_chunks_mut().0) {
                *out = f32_to_f16(*component).to_le_bytes();
            }
        }
        ElementType::Bf16 => {
            for (component, out) in components.iter().zip(out.as_chunks_mut().0) {
                *out = f32_to_bf16(*component).to_le_bytes();
            }
        }
        ElementType::I8 => {
            for (component, out) in components.iter().zip(out) {
                *out = nearest_integer(component.clamp(-128.0, 127.0)) as u8;
            }
        }
        ElementType::U8 => {
            for (component, out) in components.iter().zip(out) {
                *out = nearest_integer(component.clamp(0.0, 255.0)) as u8;
            }
        }
        ElementType::Bit => {
            for (components, out) in components.chunks(8).zip(out) {
                *out = components
                    .iter()
                    .enumerate()
                    .fold(0, |byte, (bit, component)| byte | u8::from(*component > 0.0) << bit);
            }
        }
    }
}

/// The nearest integer, ties to even, of a number between -2^22 and 2^22; zero for NaN.
#[inline(always)]
pub(crate) fn nearest_integer(value: f32) -> i32 {
    // At this size the last bit of a binary32 is worth one, and the addition rounds to it.
    const SHIFT: f32 = (3 << 22) as f32;
    if value.is_nan() {
        return 0;
    }
    ((value + SHIFT).to_bits() as i32).wrapping_sub(SHIFT.to_bits() as i32)
}

/// Hands the components of `row` to `each`, in order, until it fails.
#[inline(always)]
pub(crate) fn try_each_component<E>(
    element: ElementType,
    row: &[u8],
    mut each: impl FnMut(f32) -> Result<(), E>,
) -> Result<(), E> {
    match element {
        ElementType::F32 => {
            row.as_chunks().0.iter().try_for_each(|bytes| each(f32::from_le_bytes(*bytes)))
        }
        ElementType::F16 => row
            .as_chunks()
            .0
            .iter()
            .try_for_each(|bytes| each(f16_to_f32(u16::from_le_bytes(*bytes)))),
        ElementType::Bf16 => row
            .as_chunks()
            .0
            .iter()
            .try_for_each(|bytes| each(bf16_to_f32(u16::from_le_bytes(*bytes)))),
        ElementType::I8 => row.iter().try_for_each(|byte| each(f32::from(*byte as i8))),
        ElementType::U8 => row.iter().try_for_each(|byte| each(f32::from(*byte))),
        ElementType::Bit => row
            .iter()
            .try_for_each(|byte| (0..8).try_for_each(|bit| each(f32::from(byte >> bit & 1)))),
    }
}
