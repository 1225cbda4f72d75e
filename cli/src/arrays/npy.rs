// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The header of numpy's `.npy` format, versions 1, 2 and 3
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! The parser is our own because the crates at hand allocate what a header's length field says and
//! multiply its shape without a check. It takes exactly the dictionary that numpy asks for: the
//! three keys, each once, in any order.

use std::io::Read;

use super::{ArrayFault, COLUMNS_MAX, Component, Layout, Placement};
use crate::escape::first_words;

const MAGIC: &[u8; 6] = b"\x93NUMPY";

/// The longest header that is read. numpy itself takes no more than 10,000 bytes unless told to.
const HEADER_BYTES_MAX: u64 = 65_536;

/// Bytes of the headers written here: enough for the longest shape, and a multiple of 64 so that
/// the rows are aligned.
const HEADER_BYTES: usize = 128;

/// Reads the header of a file of `file_bytes` bytes and leaves `source` at the first row.
pub(super) fn read_header(
    source: &mut impl Read,
    file_bytes: u64,
) -> Result<Placement, ArrayFault> {
    let mut take = |bytes: &mut [u8]| {
        source.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => ArrayFault::Magic,
            _ => ArrayFault::Io(error),
        })
    };
    let mut magic = [0; 6];
    take(&mut magic)?;
    if &magic != MAGIC {
        return Err(ArrayFault::Magic);
    }
    let mut version = [0; 2];
    take(&mut version)?;
    let (length, start) = match version {
        [1, 0] => {
            let mut length = [0; 2];
            take(&mut length)?;
            (u64::from(u16::from_le_bytes(length)), 10)
        }
        [2 | 3, 0] => {
            let mut length = [0; 4];
            take(&mut length)?;
            (u64::from(u32::from_le_bytes(length)), 12)
        }
        [major, minor] => return Err(ArrayFault::Version(major, minor)),
    };
    let limit = file_bytes.saturating_sub(start).min(HEADER_BYTES_MAX);
    if length > limit {
        return Err(ArrayFault::HeaderLength { claimed: length, limit });
    }
    let mut text = vec![0; length as usize];
    take(&mut text)?;
    let dictionary = Dictionary::parse(&text)?;
    dictionary.place(start + length, file_bytes)
}

/// The three values of a header, each as it stands.
struct Dictionary<'a> {
    descr: &'a [u8],
    fortran_order: bool,
    shape: Vec<u64>,
}

impl<'a> Dictionary<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, ArrayFault> {
        let mut scanner = Scanner { rest: text };
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        scanner.expect(b'{')?;
        while !scanner.accept(b'}') {
            let key = scanner.string()?;
            scanner.expect(b':')?;
            let fresh = match key {
                b"descr" => descr.replace(scanner.descr()?).is_none(),
                b"fortran_order" => fortran_order.replace(scanner.boolean()?).is_none(),
                b"shape" => shape.replace(scanner.shape()?).is_none(),
                other => return broken(format!("unknown key '{}'", first_words(other, 40))),
            };
            if !fresh {
                return broken(format!("key '{}' appears twice", first_words(key, 40)));
            }
            if !scanner.accept(b',') {
                scanner.expect(b'}')?;
                break;
            }
        }
        scanner.skip_space();
        if !scanner.rest.is_empty() {
            return broken("something follows the dictionary");
        }
        match (descr, fortran_order, shape) {
            (Some(descr), Some(fortran_order), Some(shape)) => {
                Ok(Self { descr, fortran_order, shape })
            }
            (None, _, _) => broken("key 'descr' is missing"),
            (_, None, _) => broken("key 'fortran_order' is missing"),
            (_, _, None) => broken("key 'shape' is missing"),
        }
    }

    /// Checks the header against the length of the file, whose rows begin at `start`.
    fn place(&self, start: u64, file_bytes: u64) -> Result<Placement, ArrayFault> {
        let Some((big_endian, component)) = component(self.descr) else {
            return Err(ArrayFault::Dtype(format!("'{}'", first_words(self.descr, 60))));
        };
        let (rows, columns) = match self.shape[..] {
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            _ => return Err(ArrayFault::Dimensions(self.shape.len())),
        };
        if self.fortran_order && self.shape.len() > 1 {
            return Err(ArrayFault::FortranOrder);
        }
        let columns = usize::try_from(columns)
            .ok()
            .filter(|columns| (1..=COLUMNS_MAX).contains(columns))
            .ok_or(ArrayFault::Columns(columns))?;
        let layout = Layout { component, columns, rows };
        // 64 bits of rows, 17 of columns, 4 of size.
        let needed_bytes = u128::from(rows) * layout.row_bytes() as u128;
        let found_bytes = file_bytes.saturating_sub(start);
        if needed_bytes > u128::from(found_bytes) {
            return Err(ArrayFault::TooShort { rows, columns, needed_bytes, found_bytes });
        }
        let excess_bytes = found_bytes - needed_bytes as u64;
        if excess_bytes > 0 {
            return Err(ArrayFault::TooLong { rows, columns, excess_bytes });
        }
        Ok(Placement { layout, big_endian, start, prefix_bytes: 0 })
    }
}

/// The component type of a `descr`, and whether it is big endian.
fn component(descr: &[u8]) -> Option<(bool, Component)> {
    let (&order, kind) = descr.split_first()?;
    let component = match kind {
        b"f2" => Component::F16,
        b"f4" => Component::F32,
        b"f8" => Component::F64,
        b"i1" => Component::I8,
        b"i2" => Component::I16,
        b"i4" => Component::I32,
        b"i8" => Component::I64,
        b"u1" | b"b1" => Component::U8,
        b"u2" => Component::U16,
        b"u4" => Component::U32,
        b"u8" => Component::U64,
        // What ml_dtypes.bfloat16 is saved as; numpy never swaps the bytes of a void type.
        b"V2" => return matches!(order, b'|' | b'<').then_some((false, Component::Bf16)),
        _ => return None,
    };
    match order {
        b'<' => Some((false, component)),
        b'>' => Some((true, component)),
        b'|' if component.size_bytes() == 1 => Some((false, component)),
        _ => None,
    }
}

fn descr(component: Component) -> &'static str {
    match component {
        Component::F16 => "<f2",
        Component::Bf16 => "|V2",
        Component::F32 => "<f4",
        Component::F64 => "<f8",
        Component::I8 => "|i1",
        Component::I16 => "<i2",
        Component::I32 => "<i4",
        Component::I64 => "<i8",
        Component::U8 => "|u1",
        Component::U16 => "<u2",
        Component::U32 => "<u4",
        Component::U64 => "<u8",
    }
}

/// The header of a file of this layout, always of the same length.
pub(super) fn header(layout: &Layout) -> [u8; HEADER_BYTES] {
    let dictionary = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}, {}), }}",
        descr(layout.component),
        layout.rows,
        layout.columns
    );
    let mut header = [b' '; HEADER_BYTES];
    let fields: [&[u8]; 4] =
        [MAGIC, &[1, 0], &(HEADER_BYTES as u16 - 10).to_le_bytes(), dictionary.as_bytes()];
    for (target, byte) in header.iter_mut().zip(fields.into_iter().flatten()) {
        *target = *byte;
    }
    header[HEADER_BYTES - 1] = b'\n';
    header
}

fn broken<T>(what: impl Into<String>) -> Result<T, ArrayFault> {
    Err(ArrayFault::Header(what.into()))
}

/// Reads the few Python literals that a header is made of. Every step takes at least one byte or
/// ends, and none calls itself.
struct Scanner<'a> {
    rest: &'a [u8],
}

impl<'a> Scanner<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn accept(&mut self, byte: u8) -> bool {
        self.skip_space();
        match self.rest.split_first() {
            Some((&first, rest)) if first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), ArrayFault> {
        if self.accept(byte) {
            return Ok(());
        }
        broken(match self.rest.is_empty() {
            true => format!("it ends where '{}' is expected", char::from(byte)),
            false => format!(
                "'{}' is expected before '{}'",
                char::from(byte),
                first_words(self.rest, 40)
            ),
        })
    }

    /// The bytes before the first that is not `wanted`.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a [u8] {
        let length = self.rest.iter().position(|&byte| !wanted(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    /// A string in single or double quotes. None of the strings of a header needs an escape, so
    /// a backslash is an error rather than a second way to spell one.
    fn string(&mut self) -> Result<&'a [u8], ArrayFault> {
        let quote = if self.accept(b'\'') {
            b'\''
        } else if self.accept(b'"') {
            b'"'
        } else {
            return broken(format!("a string is expected at '{}'", first_words(self.rest, 40)));
        };
        let string = self.take_while(|byte| byte != quote && byte != b'\\' && byte != b'\n');
        match self.rest.split_first() {
            Some((&first, rest)) if first == quote => {
                self.rest = rest;
                Ok(string)
            }
            _ => broken(format!("the string '{}' does not end", first_words(string, 40))),
        }
    }

    /// A type: a string, or the list of a structured type, which is refused by its look.
    fn descr(&mut self) -> Result<&'a [u8], ArrayFault> {
        self.skip_space();
        if matches!(self.rest.first(), Some(b'[' | b'(')) {
            return Err(ArrayFault::Dtype("a structure".into()));
        }
        self.string()
    }

    fn boolean(&mut self) -> Result<bool, ArrayFault> {
        self.skip_space();
        match self.take_while(|byte| byte.is_ascii_alphanumeric()) {
            b"True" => Ok(true),
            b"False" => Ok(false),
            _ => broken("'fortran_order' is neither True nor False"),
        }
    }

    fn shape(&mut self) -> Result<Vec<u64>, ArrayFault> {
        let mut shape = Vec::new();
        self.expect(b'(')?;
        while !self.accept(b')') {
            self.skip_space();
            if self.rest.first() == Some(&b'-') {
                return broken("the shape has a negative number");
            }
            let digits = self.take_while(|byte| byte.is_ascii_digit());
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            let Some(number) = number else {
                return broken(match digits.is_empty() {
                    true => "the shape has something that is no number".to_owned(),
                    false => format!("the shape has the number {}", first_words(digits, 40)),
                });
            };
            shape.push(number);
            // Python 2 wrote long integers so.
            let _ = self.rest.first() == Some(&b'L') && self.accept(b'L');
            if !self.accept(b',') {
                self.expect(b')')?;
                break;
            }
        }
        Ok(shape)
    }
}
