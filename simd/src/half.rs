// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The two 16-bit floating-point formats, converted in plain integer arithmetic.

/// The value of a binary16.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    // Read as binary32 the exponent is 112 too small, for subnormal numbers as well; the product
    // is exact. Infinity and NaN keep their fraction. Both are computed, so that loops over this
    // have no branch.
    let finite = (f32::from_bits(magnitude << 13) * f32::from_bits((127 + 112) << 23)).to_bits();
    let special = 0x7f80_0000 | (magnitude << 13);
    f32::from_bits(sign | if magnitude >= 0x7c00 { special } else { finite })
}

/// The nearest binary16, ties to even; numbers past its range become infinite.
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude > 0x7f80_0000 {
        // A NaN stays one whatever bits of its fraction are cut off.
        0x7e00 | (magnitude >> 13) as u16 & 0x3ff
    } else if magnitude >= 0x4780_0000 {
        // 65536 and above.
        0x7c00
    } else if magnitude >= 0x3880_0000 {
        // Normal, 2^-14 and above: a carry out of the fraction moves the exponent, up to infinity.
        let rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
        ((rounded - (112 << 23)) >> 13) as u16
    } else {
        // Subnormal: adding 0.5 leaves the number in units of 2^-24 in the low bits, rounded by
        // the addition itself.
        let sum = f32::from_bits(magnitude) + 0.5;
        (sum.to_bits() - 0x3f00_0000) as u16
    };
    sign | half
}

/// The value of a bfloat16.
#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The nearest bfloat16, ties to even; numbers past its range become infinite.
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // A NaN stays one whatever bits of its fraction are cut off.
        return (bits >> 16) as u16 | 0x0040;
    }
    // Cannot overflow: the bits of an infinity are below 0xff80_0001.
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}
