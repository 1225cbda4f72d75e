// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The component types that vector files hold, and the conversion of rows among them and the
//! element types of collections. Nothing here reads or writes files.

use std::fmt;

use half::{bf16, f16};
use vexfs_simd::ElementType;

/// The type of one component of a row in a vector file. Rows in memory are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16.
    Bf16,
    /// Signed integer of 8 bits.
    I8,
    /// Unsigned integer of 8 bits.
    U8,
    /// Signed integer of 16 bits.
    I16,
    /// Unsigned integer of 16 bits.
    U16,
    /// Signed integer of 32 bits.
    I32,
    /// Unsigned integer of 32 bits.
    U32,
    /// Signed integer of 64 bits.
    I64,
    /// Unsigned integer of 64 bits.
    U64,
}

impl Component {
    /// Bytes of one component, 1 to 8.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 | Self::U64 => 8,
        }
    }

    /// The element type that holds it without loss, if a collection has one.
    pub const fn element(self) -> Option<ElementType> {
        Some(match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::Bf16,
            Self::I8 => ElementType::I8,
            Self::U8 => ElementType::U8,
            _ => return None,
        })
    }

    /// The component that a file holds rows of this element type in, without loss. Bits are kept
    /// packed, eight to a `U8`, lowest first (`bitorder="little"` in numpy).
    pub const fn of(element: ElementType) -> Self {
        match element {
            ElementType::F32 => Self::F32,
            ElementType::F16 => Self::F16,
            ElementType::Bf16 => Self::Bf16,
            ElementType::I8 => Self::I8,
            ElementType::U8 | ElementType::Bit => Self::U8,
        }
    }

    /// The short name, such as `f32`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::I16 => "i16",
            Self::U16 => "u16",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
            Self::U64 => "u64",
        }
    }

    /// The number in `bytes`, which has [`Self::size_bytes`] bytes; `None` if it has not.
    fn number(self, bytes: &[u8]) -> Option<Number> {
        let real = |value: f64| Some(Number::Real(value));
        let whole = |value: i128| Some(Number::Whole(value));
        match self {
            Self::F64 => real(f64::from_le_bytes(bytes.try_into().ok()?)),
            Self::F32 => real(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::F16 => real(f16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::Bf16 => real(bf16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I8 => whole(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U8 => whole(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I16 => whole(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U16 => whole(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I32 => whole(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U32 => whole(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I64 => whole(i64::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::U64 => whole(u64::from_le_bytes(bytes.try_into().ok()?).into()),
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A component's value, without loss.
#[derive(Clone, Copy)]
enum Number {
    Real(f64),
    Whole(i128),
}

impl Number {
    /// The whole number, unless there is a fraction or no number at all.
    fn whole(self) -> Option<i128> {
        match self {
            Self::Whole(value) => Some(value),
            // Beyond 2^53 every binary64 is whole; the cast saturates, far outside all ranges.
            Self::Real(value) if value.trunc() == value && value.is_finite() => Some(value as i128),
            Self::Real(_) => None,
        }
    }

    /// The nearest number that `round` knows, unless it is infinite or not a number; whole numbers
    /// must be met exactly.
    fn real<T: Into<f64>>(self, round: impl Fn(f64) -> T) -> Option<f64> {
        match self {
            Self::Real(value) => Some(round(value).into()).filter(|rounded| rounded.is_finite()),
            Self::Whole(value) => Some(round(value as f64).into())
                .filter(|rounded| rounded.is_finite() && *rounded as i128 == value),
        }
    }

    /// Appends the number as an `element` that fills whole bytes. `None` if it does not fit.
    fn push_as(self, element: ElementType, output: &mut Vec<u8>) -> Option<()> {
        match element {
            ElementType::F32 => {
                let value = self.real(|value| value as f32)?;
                output.extend_from_slice(&(value as f32).to_le_bytes());
            }
            ElementType::F16 => {
                let value = self.real(f16::from_f64)?;
                output.extend_from_slice(&f16::from_f64(value).to_le_bytes());
            }
            ElementType::Bf16 => {
                let value = self.real(bf16::from_f64)?;
                output.extend_from_slice(&bf16::from_f64(value).to_le_bytes());
            }
            ElementType::I8 => output.push(i8::try_from(self.whole()?).ok()?.cast_unsigned()),
            ElementType::U8 => output.push(u8::try_from(self.whole()?).ok()?),
            ElementType::Bit => return None,
        }
        Some(())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(value) => write!(formatter, "{value}"),
            Self::Whole(value) => write!(formatter, "{value}"),
        }
    }
}

/// Why a row cannot become a vector of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConvertError {
    /// The rows have another number of components than the collection.
    Columns {
        /// Components in each row of the file.
        columns: usize,
        /// What the file holds.
        component: Component,
        /// Components that the collection asks for.
        dimension: u32,
        /// The collection's element type.
        element: ElementType,
    },
    /// A row has another number of bytes than its components need.
    Length {
        /// Bytes found.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// A component has no counterpart in the element type.
    Value {
        /// Number of the component, from 0.
        column: usize,
        /// The component, printed.
        value: String,
        /// The type it does not fit.
        element: ElementType,
    },
    /// A packed row of bits has bits set beyond the dimension.
    UnusedBits,
    /// A component is not a whole number that fits 64 bits with a sign.
    NotInteger {
        /// Number of the component, from 0.
        column: usize,
        /// What the file holds.
        component: Component,
    },
}

/// The name of an element type as the command line spells it, such as `f32`.
pub const fn element_name(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "f32",
        ElementType::F16 => "f16",
        ElementType::Bf16 => "bf16",
        ElementType::I8 => "i8",
        ElementType::U8 => "u8",
        ElementType::Bit => "bit",
    }
}

const fn element_range(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "finite, at most 3.4e38, integers exact",
        ElementType::F16 => "finite, at most 65504, integers exact",
        ElementType::Bf16 => "finite, at most 3.3e38, integers exact",
        ElementType::I8 => "a whole number from -128 to 127",
        ElementType::U8 => "a whole number from 0 to 255",
        ElementType::Bit => "0 or 1",
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Columns { columns, component, dimension, element } => write!(
                formatter,
                "rows have {columns} components of type {component}, the collection has dimension \
                 {dimension} of type {}",
                element_name(*element)
            ),
            Self::Length { found, expected } => {
                write!(formatter, "a row has {found} bytes where {expected} are needed")
            }
            Self::Value { column, value, element } => write!(
                formatter,
                "component {column} is {value}, which does not fit type {} ({})",
                element_name(*element),
                element_range(*element)
            ),
            Self::UnusedBits => {
                formatter.write_str("a packed row has bits set beyond its dimension")
            }
            Self::NotInteger { column, component } => write!(
                formatter,
                "component {column} (type {component}) is not a whole number of 64 bits"
            ),
        }
    }
}

impl std::error::Error for ConvertError {}

/// Turns rows of a vector file into rows of a collection.
///
/// Floating point numbers are rounded to the nearest of the narrower type; anything else must be
/// met exactly, and what does not fit (infinite or not a number, 300 as `u8`, 0.5 as `i8`) is
/// refused. Rows that already have the type are passed on as they are, without a look at them.
#[derive(Clone, Copy, Debug)]
pub struct RowConverter {
    component: Component,
    columns: usize,
    element: ElementType,
    dimension: u32,
}

impl RowConverter {
    /// A converter from rows of `columns` components to a collection's element type and dimension.
    ///
    /// Bits may come packed (`U8` rows of `dimension / 8` bytes rounded up, lowest bit first) or
    /// as one component each, 0 or 1. Any other difference in the number is an error.
    pub fn new(
        component: Component,
        columns: usize,
        element: ElementType,
        dimension: u32,
    ) -> Result<Self, ConvertError> {
        let converter = Self { component, columns, element, dimension };
        if columns == dimension as usize || converter.is_packed() {
            return Ok(converter);
        }
        Err(ConvertError::Columns { columns, component, dimension, element })
    }

    fn is_packed(&self) -> bool {
        self.element == ElementType::Bit
            && self.component == Component::U8
            && self.columns != self.dimension as usize
            && self.columns == ElementType::Bit.row_bytes(self.dimension)
    }

    /// Bytes of a row of the file.
    pub fn source_row_bytes(&self) -> usize {
        self.columns * self.component.size_bytes()
    }

    /// Bytes of a row of the collection.
    pub fn row_bytes(&self) -> usize {
        self.element.row_bytes(self.dimension)
    }

    /// Appends the row to `output`; on an error `output` is as it was.
    pub fn convert(&self, row: &[u8], output: &mut Vec<u8>) -> Result<(), ConvertError> {
        if row.len() != self.source_row_bytes() {
            let expected = self.source_row_bytes();
            return Err(ConvertError::Length { found: row.len(), expected });
        }
        if self.is_packed() {
            let used_bits = self.dimension % 8;
            if used_bits != 0 && row.last().is_some_and(|last| last >> used_bits != 0) {
                return Err(ConvertError::UnusedBits);
            }
            output.extend_from_slice(row);
            return Ok(());
        }
        if self.element != ElementType::Bit && Component::of(self.element) == self.component {
            output.extend_from_slice(row);
            return Ok(());
        }
        let start = output.len();
        for (column, bytes) in row.chunks_exact(self.component.size_bytes()).enumerate() {
            let pushed = match self.element {
                ElementType::Bit => self.push_bit(column, bytes, output),
                element => {
                    self.component.number(bytes).and_then(|number| number.push_as(element, output))
                }
            };
            if pushed.is_none() {
                output.truncate(start);
                let value = self.component.number(bytes).map_or(String::new(), |n| n.to_string());
                return Err(ConvertError::Value { column, value, element: self.element });
            }
        }
        Ok(())
    }

    fn push_bit(&self, column: usize, bytes: &[u8], output: &mut Vec<u8>) -> Option<()> {
        let bit = self.component.number(bytes)?.whole()?;
        if !(0..=1).contains(&bit) {
            return None;
        }
        if column.is_multiple_of(8) {
            output.push(0);
        }
        *output.last_mut()? |= (bit as u8) << (column % 8);
        Some(())
    }
}

/// A row of binary32 numbers as bytes, as [`RowConverter`] takes rows of [`Component::F32`].
pub fn float_row(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The components of a collection's row as numbers, exactly: `dimension` of them, or fewer if the
/// row is too short.
pub fn row_values(element: ElementType, dimension: u32, row: &[u8]) -> Vec<f32> {
    let component = Component::of(element);
    if element == ElementType::Bit {
        let bits = row.iter().flat_map(|byte| (0..8).map(move |bit| f32::from(byte >> bit & 1)));
        return bits.take(dimension as usize).collect();
    }
    let values =
        row.chunks_exact(component.size_bytes()).map(|bytes| match component.number(bytes) {
            Some(Number::Real(value)) => value as f32,
            Some(Number::Whole(value)) => value as f32,
            None => f32::NAN,
        });
    values.take(dimension as usize).collect()
}

/// The components of a row that holds row numbers (a file of true answers); -1 stands where there
/// is no answer.
pub fn row_integers(component: Component, row: &[u8]) -> Result<Vec<i64>, ConvertError> {
    let integer = |bytes| i64::try_from(component.number(bytes)?.whole()?).ok();
    row.chunks_exact(component.size_bytes())
        .enumerate()
        .map(|(column, bytes)| integer(bytes).ok_or(ConvertError::NotInteger { column, component }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn convert(
        component: Component,
        row: &[u8],
        element: ElementType,
    ) -> Result<Vec<u8>, ConvertError> {
        let columns = row.len() / component.size_bytes();
        let mut output = vec![7];
        let result = RowConverter::new(component, columns, element, columns as u32)?
            .convert(row, &mut output);
        if result.is_err() {
            assert_eq!(output, [7], "an error leaves the output as it was");
        }
        result.map(|()| output[1..].to_vec())
    }

    fn refused(component: Component, row: &[u8], element: ElementType) -> String {
        convert(component, row, element).unwrap_err().to_string()
    }

    #[test]
    fn floats_become_bytes_only_when_they_are_whole_and_in_range() {
        let row = float_row(&[0.0, -0.0, 255.0, 17.0]);
        assert_eq!(convert(Component::F32, &row, ElementType::U8).unwrap(), [0, 0, 255, 17]);
        let text = refused(Component::F32, &float_row(&[1.0, 0.5]), ElementType::U8);
        assert_eq!(
            text,
            "component 1 is 0.5, which does not fit type u8 (a whole number from 0 to 255)"
        );
        assert!(refused(Component::F32, &float_row(&[300.0]), ElementType::U8).contains("300"));
        assert!(refused(Component::F32, &float_row(&[-1.0]), ElementType::U8).contains("-1"));
        assert!(refused(Component::F32, &float_row(&[f32::NAN]), ElementType::I8).contains("NaN"));
        assert!(refused(Component::F32, &float_row(&[1e30]), ElementType::I8).contains("i8"));
        let row = float_row(&[-128.0, 127.0]);
        assert_eq!(convert(Component::F32, &row, ElementType::I8).unwrap(), [128, 127]);
    }

    #[test]
    fn floats_round_to_narrower_floats_but_do_not_overflow() {
        let row = float_row(&[1.0, 0.1, 65504.0]);
        let halves = convert(Component::F32, &row, ElementType::F16).unwrap();
        assert_eq!(row_values(ElementType::F16, 3, &halves), [1.0, 0.099975586, 65504.0]);
        assert!(refused(Component::F32, &float_row(&[70000.0]), ElementType::F16).contains("f16"));
        assert!(
            refused(Component::F32, &float_row(&[f32::INFINITY]), ElementType::Bf16)
                .contains("inf")
        );
        let row = float_row(&[1.0, -2.5, 1e38]);
        let brains = convert(Component::F32, &row, ElementType::Bf16).unwrap();
        let values = row_values(ElementType::Bf16, 3, &brains);
        assert_eq!(values[..2], [1.0, -2.5]);
        assert!((values[2] / 1e38 - 1.0).abs() < 0.005);
        let doubles: Vec<u8> = [0.1f64, 1e-300].iter().flat_map(|v| v.to_le_bytes()).collect();
        let singles = convert(Component::F64, &doubles, ElementType::F32).unwrap();
        assert_eq!(row_values(ElementType::F32, 2, &singles), [0.1, 0.0]);
        assert!(refused(Component::F64, &1e39f64.to_le_bytes(), ElementType::F32).contains("f32"));
    }

    #[test]
    fn integers_become_floats_only_exactly() {
        let row: Vec<u8> = (0..=255).collect();
        for element in [ElementType::F32, ElementType::F16, ElementType::Bf16] {
            let floats = convert(Component::U8, &row, element).unwrap();
            let expected: Vec<f32> = (0..=255).map(|value| value as f32).collect();
            assert_eq!(row_values(element, 256, &floats), expected);
        }
        let exact = 16_777_216i32.to_le_bytes();
        assert!(convert(Component::I32, &exact, ElementType::F32).is_ok());
        let inexact = 16_777_217i32.to_le_bytes();
        assert!(refused(Component::I32, &inexact, ElementType::F32).contains("16777217"));
        assert!(refused(Component::U8, &[128], ElementType::I8).contains("128"));
        assert!(refused(Component::I8, &[255], ElementType::U8).contains("-1"));
    }

    #[test]
    fn bits_come_one_each_or_packed() {
        let row = [1, 0, 1, 1, 0, 0, 0, 0, 0, 1];
        let packed = convert(Component::U8, &row, ElementType::Bit).unwrap();
        assert_eq!(packed, [0b0000_1101, 0b10]);
        let floats = float_row(&[1.0, 0.0, 1.0]);
        assert_eq!(convert(Component::F32, &floats, ElementType::Bit).unwrap(), [0b101]);
        assert!(refused(Component::U8, &[0, 2, 0], ElementType::Bit).contains("0 or 1"));

        let converter = RowConverter::new(Component::U8, 2, ElementType::Bit, 10).unwrap();
        let mut output = Vec::new();
        converter.convert(&packed, &mut output).unwrap();
        assert_eq!(output, packed);
        assert_eq!(
            row_values(ElementType::Bit, 10, &output),
            row.map(f32::from),
            "unpacking gives back what was packed"
        );
        assert_eq!(converter.convert(&[0, 0b100], &mut output), Err(ConvertError::UnusedBits));
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let error = RowConverter::new(Component::F32, 3, ElementType::F32, 4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rows have 3 components of type f32, the collection has dimension 4 of type f32"
        );
        let converter = RowConverter::new(Component::F32, 3, ElementType::F32, 3).unwrap();
        assert_eq!(
            converter.convert(&[0; 11], &mut Vec::new()),
            Err(ConvertError::Length { found: 11, expected: 12 })
        );
    }

    #[test]
    fn row_numbers_are_whole_numbers() {
        let row: Vec<u8> = [5i32, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(row_integers(Component::I32, &row).unwrap(), [5, -1]);
        let huge = u64::MAX.to_le_bytes();
        let error = row_integers(Component::U64, &huge).unwrap_err();
        assert_eq!(error, ConvertError::NotInteger { column: 0, component: Component::U64 });
        assert!(row_integers(Component::F32, &float_row(&[0.5])).is_err());
    }

    const COMPONENTS: [Component; 12] = [
        Component::F64,
        Component::F32,
        Component::F16,
        Component::Bf16,
        Component::I8,
        Component::U8,
        Component::I16,
        Component::U16,
        Component::I32,
        Component::U32,
        Component::I64,
        Component::U64,
    ];

    proptest! {
        #![proptest_config(ProptestConfig {
            rng_seed: proptest::test_runner::RngSeed::Fixed(1),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Any bytes of any type convert to any type or are refused; what is accepted has the
        /// right length, and differs from the source by no more than the rounding of the type.
        #[test]
        fn accepted_values_are_near(bytes: [u8; 32], from in 0usize..12, to in 1u8..=6) {
            let component = COMPONENTS[from];
            let element = ElementType::from_number(to).unwrap();
            let columns = 32 / component.size_bytes();
            for (column, source) in bytes.chunks_exact(component.size_bytes()).enumerate() {
                let Ok(row) = convert(component, source, element) else { continue };
                prop_assert_eq!(row.len(), element.row_bytes(1), "column {}", column);
                if Component::of(element) == component {
                    prop_assert_eq!(&row[..], source);
                    continue;
                }
                let value = f64::from(row_values(element, 1, &row)[0]);
                let (relative, absolute) = match (component.number(source).unwrap(), element) {
                    (Number::Whole(whole), _) => {
                        prop_assert_eq!(value as i128, whole);
                        continue;
                    }
                    (Number::Real(_), ElementType::F32) => (f64::from(f32::EPSILON), 1e-44),
                    (Number::Real(_), ElementType::F16) => (1.0 / 1024.0, 1e-7),
                    (Number::Real(_), ElementType::Bf16) => (1.0 / 128.0, 1e-39),
                    (Number::Real(_), _) => (0.0, 0.0),
                };
                let Some(Number::Real(real)) = component.number(source) else { continue };
                prop_assert!((real - value).abs() <= real.abs() * relative + absolute);
            }
            prop_assert!(columns > 0);
        }
    }
}
