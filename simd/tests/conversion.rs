// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Rows as binary32 and back, against the definitions of the formats.

use vexfs_simd::{ElementType, from_f32, to_f32};

/// A 16-bit float with this many bits of fraction, by the definition in IEEE 754; `None` for NaN
/// and infinities.
fn defined(bits: u16, fraction_bits: u32) -> Option<f64> {
    let exponent_bits = 15 - fraction_bits;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from(bits & 0x7fff) >> fraction_bits;
    let fraction = f64::from(bits & ((1 << fraction_bits) - 1)) / f64::from(1 << fraction_bits);
    if exponent == (1 << exponent_bits) - 1 {
        None
    } else if exponent == 0 {
        Some(sign * fraction * 2.0_f64.powi(1 - bias))
    } else {
        Some(sign * (1.0 + fraction) * 2.0_f64.powi(exponent - bias))
    }
}

fn widened(element: ElementType, bits: u16) -> f32 {
    let mut out = [0.0];
    to_f32(element, &bits.to_le_bytes(), &mut out);
    out[0]
}

fn narrowed(element: ElementType, value: f32) -> u16 {
    let mut out = [0; 2];
    from_f32(element, &[value], &mut out);
    u16::from_le_bytes(out)
}

const HALVES: [(ElementType, u32); 2] = [(ElementType::F16, 10), (ElementType::Bf16, 7)];

#[test]
fn every_half_is_its_defined_value_and_comes_back() {
    for (element, fraction_bits) in HALVES {
        for bits in 0..=u16::MAX {
            let value = widened(element, bits);
            match defined(bits, fraction_bits) {
                Some(expected) => {
                    assert_eq!(f64::from(value), expected, "{element:?} {bits:#x}");
                    assert_eq!(narrowed(element, value), bits, "{element:?} {value}");
                }
                None if bits & ((1 << fraction_bits) - 1) == 0 => {
                    assert!(value.is_infinite() && value.is_sign_negative() == (bits >> 15 == 1));
                    assert_eq!(narrowed(element, value), bits);
                }
                None => {
                    assert!(value.is_nan());
                    assert!(widened(element, narrowed(element, value)).is_nan());
                }
            }
        }
    }
}

#[test]
fn numbers_between_two_halves_go_to_the_nearer_and_ties_to_even() {
    for (element, fraction_bits) in HALVES {
        let infinity = 0x7fff & !((1 << fraction_bits) - 1);
        for bits in 0..infinity {
            let below = f64::from(widened(element, bits));
            // Above the greatest comes what would be the next if there were no infinity.
            let above = defined(bits + 1, fraction_bits)
                .unwrap_or_else(|| 2.0 * below - f64::from(widened(element, bits - 1)));
            let middle = ((below + above) / 2.0) as f32;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(f64::from(middle), (below + above) / 2.0);
            assert_eq!(narrowed(element, middle), even, "{element:?} {bits:#x}");
            assert_eq!(narrowed(element, -middle), even | 0x8000);
            assert_eq!(narrowed(element, middle.next_down()), bits);
            assert_eq!(narrowed(element, middle.next_up()), bits + 1);
        }
        assert_eq!(narrowed(element, f32::INFINITY), infinity);
        // Infinity lies past the greatest bfloat16 by less than binary32 can hold.
        let greatest = if element == ElementType::F16 { 1e30 } else { f32::MAX };
        assert_eq!(narrowed(element, greatest), infinity);
        assert!(widened(element, narrowed(element, f32::from_bits(0x7f80_0001))).is_nan());
    }
}

#[test]
fn bytes_round_to_even_and_stop_at_the_ends() {
    let values = [-1e30, -128.5, -127.5, -2.5, -1.5, -0.5, 0.4, 0.5, 1.5, 2.5, 254.5, 255.4, 1e30];
    let mut out = [0; 13];
    from_f32(ElementType::I8, &values, &mut out);
    assert_eq!(
        out.map(|byte| byte as i8),
        [-128, -128, -128, -2, -2, 0, 0, 0, 2, 2, 127, 127, 127]
    );
    from_f32(ElementType::U8, &values, &mut out);
    assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 254, 255, 255]);
    from_f32(ElementType::U8, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut out);
    assert_eq!(out[..3], [0, 255, 0]);
    from_f32(ElementType::I8, &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &mut out);
    assert_eq!(out[..3], [0, 127, 0x80]);

    let all: Vec<u8> = (0..=255).collect();
    let mut components = [0.0; 256];
    to_f32(ElementType::U8, &all, &mut components);
    assert!(components.iter().zip(0_u16..).all(|(found, byte)| *found == f32::from(byte)));
    to_f32(ElementType::I8, &all, &mut components);
    assert!(components.iter().zip(&all).all(|(found, byte)| *found == f32::from(*byte as i8)));
}

#[test]
fn bits_are_set_for_components_above_zero() {
    let components = [0.1, 0.0, -1.0, f32::NAN, 7.0, -0.0, 1e-45, 1.0, 1.0, -1.0];
    let mut row = [0xff; 2];
    from_f32(ElementType::Bit, &components, &mut row);
    assert_eq!(row, [0b1101_0001, 0b01]);
    let mut back = [9.0; 10];
    to_f32(ElementType::Bit, &row, &mut back);
    assert_eq!(back, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
}

#[test]
fn the_shorter_side_counts() {
    for element in [ElementType::F32, ElementType::F16, ElementType::Bf16, ElementType::I8] {
        let size = element.row_bytes(1);
        let mut row = [0xee; 64];
        from_f32(element, &[1.0; 3], &mut row);
        assert!(row[3 * size..].iter().all(|byte| *byte == 0xee));
        let mut short = [0xee; 5];
        from_f32(element, &[1.0; 9], &mut short);
        assert!(short[5 / size * size..].iter().all(|byte| *byte == 0xee));
        let mut components = [5.0; 4];
        to_f32(element, &row[..2 * size], &mut components);
        assert_eq!(components, [1.0, 1.0, 5.0, 5.0]);
    }
}
