// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The `.fvecs`, `.bvecs` and `.ivecs` formats of the TEXMEX corpora
//! (<http://corpus-texmex.irisa.fr/>): each row is its dimension as a little-endian signed integer
//! of 32 bits, then its components, little endian.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::{ArrayFault, COLUMNS_MAX, Component, Layout, Placement, cut_short};

/// Bytes of the dimension before each row.
const PREFIX_BYTES: usize = 4;

/// Takes the dimension from the first row and the number of rows from the file's length, and goes
/// back to the first row.
pub(super) fn read_first<R: Read + Seek>(
    source: &mut BufReader<R>,
    file_bytes: u64,
    component: Component,
) -> Result<Placement, ArrayFault> {
    let mut prefix = [0; PREFIX_BYTES];
    source.read_exact(&mut prefix).map_err(|error| cut_short(error, 0))?;
    source.seek_relative(-(PREFIX_BYTES as i64)).map_err(ArrayFault::Io)?;
    let dimension = i32::from_le_bytes(prefix);
    let columns = usize::try_from(dimension).ok().filter(|c| (1..=COLUMNS_MAX).contains(c));
    let Some(columns) = columns else {
        return Err(ArrayFault::Header(format!(
            "row 0 has dimension {dimension}, possible are 1 to {COLUMNS_MAX}"
        )));
    };
    let layout = Layout { component, columns, rows: 0 };
    let mut placement =
        Placement { layout, big_endian: false, start: 0, prefix_bytes: PREFIX_BYTES };
    let stride = placement.stride_bytes();
    placement.layout.rows = file_bytes / stride;
    if !file_bytes.is_multiple_of(stride) {
        // A row of another dimension is the likelier reason than an end that is missing.
        for row in 1..=placement.layout.rows {
            source.seek(SeekFrom::Start(row * stride)).map_err(ArrayFault::Io)?;
            if source.read_exact(&mut prefix).is_err() {
                break;
            }
            let found = i32::from_le_bytes(prefix);
            if found != dimension {
                return Err(ArrayFault::RowDimension { row, found, expected: columns });
            }
        }
        return Err(ArrayFault::Truncated { row: placement.layout.rows });
    }
    Ok(placement)
}

/// Reads one row into `target`, which has the row's bytes.
pub(super) fn read_row(
    source: &mut impl Read,
    row: u64,
    columns: usize,
    target: &mut [u8],
) -> Result<(), ArrayFault> {
    let mut prefix = [0; PREFIX_BYTES];
    source.read_exact(&mut prefix).map_err(|error| cut_short(error, row))?;
    let found = i32::from_le_bytes(prefix);
    if usize::try_from(found) != Ok(columns) {
        return Err(ArrayFault::RowDimension { row, found, expected: columns });
    }
    source.read_exact(target).map_err(|error| cut_short(error, row))
}
