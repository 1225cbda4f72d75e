// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files of vectors: `.npy` ([`npy`]) and `.fvecs`, `.bvecs`, `.ivecs` ([`vecs`]), read and
//! written a batch of rows at a time.
//!
//! A file's header is believed only after it agrees with the file's length; nothing is allocated
//! on its word alone. Every error names the file.

mod component;
mod draft;
mod npy;
mod vecs;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use component::{
    Component, ConvertError, RowConverter, element_name, float_row, row_integers, row_values,
};

use crate::escape::escape_name;
use draft::Draft;

/// The most components that a row of a file may have: four times the highest dimension of a
/// collection, for files of true answers.
pub const COLUMNS_MAX: usize = 65_536;

/// The most bytes that one call of [`ArrayReader::read_rows`] reads, unless one row has more.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

/// The layout of a vector file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// numpy's format, a header and then all rows.
    Npy,
    /// Each row a 32-bit count and as many binary32 numbers.
    Fvecs,
    /// Each row a 32-bit count and as many unsigned bytes.
    Bvecs,
    /// Each row a 32-bit count and as many signed integers of 32 bits.
    Ivecs,
}

impl Format {
    /// The format that a file's name ends in, in either case.
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match extension.as_str() {
            "npy" => Self::Npy,
            "fvecs" => Self::Fvecs,
            "bvecs" => Self::Bvecs,
            "ivecs" => Self::Ivecs,
            _ => return None,
        })
    }
}

/// What a file of vectors holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Type of each component.
    pub component: Component,
    /// Components in each row, 1 to [`COLUMNS_MAX`].
    pub columns: usize,
    /// Number of rows, all of which the file is long enough for.
    pub rows: u64,
}

impl Layout {
    /// Bytes of one row in memory.
    pub fn row_bytes(&self) -> usize {
        self.columns * self.component.size_bytes()
    }
}

/// What is wrong with a file of vectors.
#[derive(Debug)]
pub enum ArrayFault {
    /// The system could not read or write it.
    Io(io::Error),
    /// It is a directory, a pipe, a socket or a device.
    NotRegular,
    /// Its name tells no format, and its first bytes neither.
    UnknownFormat,
    /// It is empty.
    Empty,
    /// It does not begin as a `.npy` file does.
    Magic,
    /// A version of the `.npy` format other than 1, 2 and 3.
    Version(u8, u8),
    /// The header is longer than the file or than any header is.
    HeaderLength {
        /// Bytes that the file says the header has.
        claimed: u64,
        /// The most it can have here.
        limit: u64,
    },
    /// The header is not the dictionary it must be.
    Header(String),
    /// A type of components that is not known.
    Dtype(String),
    /// The array is stored column by column.
    FortranOrder,
    /// The array has another number of dimensions than one or two.
    Dimensions(usize),
    /// Rows have no components, or more than [`COLUMNS_MAX`].
    Columns(u64),
    /// The file has fewer bytes than its header tells of.
    TooShort {
        /// Rows of the header.
        rows: u64,
        /// Columns of the header.
        columns: usize,
        /// Bytes that these need.
        needed_bytes: u128,
        /// Bytes that there are.
        found_bytes: u64,
    },
    /// The file has more bytes than its header tells of.
    TooLong {
        /// Rows of the header.
        rows: u64,
        /// Columns of the header.
        columns: usize,
        /// Bytes that belong to no row.
        excess_bytes: u64,
    },
    /// The file ends within a row.
    Truncated {
        /// Number of the row, from 0.
        row: u64,
    },
    /// A row of a `.fvecs`, `.bvecs` or `.ivecs` file has another dimension than the first row.
    RowDimension {
        /// Number of the row, from 0.
        row: u64,
        /// What the row says.
        found: i32,
        /// What the first row says.
        expected: usize,
    },
    /// There is no such row.
    NoSuchRow {
        /// Number of the row, from 0.
        row: u64,
        /// Rows in the file.
        rows: u64,
    },
    /// The file does not hold numbers of two bytes that could be bfloat16.
    NotBf16(Component),
    /// The format cannot hold this type.
    Unwritable(Format, Component),
    /// A row to be written has another length than the others.
    RowLength {
        /// Bytes given.
        found: usize,
        /// Bytes of a row.
        expected: usize,
    },
}

impl fmt::Display for ArrayFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::UnknownFormat => {
                f.write_str("is no vector file: expected .npy, .fvecs, .bvecs or .ivecs")
            }
            Self::Empty => f.write_str("is empty"),
            Self::Magic => f.write_str("is no .npy file: it does not begin with \\x93NUMPY"),
            Self::Version(major, minor) => {
                write!(f, "has version {major}.{minor} of the .npy format, known are 1, 2 and 3")
            }
            Self::HeaderLength { claimed, limit } => {
                write!(f, "has a header of {claimed} bytes where at most {limit} are possible")
            }
            Self::Header(what) => write!(f, "has a broken header: {what}"),
            Self::Dtype(descr) => write!(
                f,
                "holds components of type {descr}, known are f2, f4, f8, i1 to i8, u1 to u8, b1 \
                 and V2 (bfloat16)"
            ),
            Self::FortranOrder => f.write_str(
                "is stored column by column (Fortran order); save it with \
                 numpy.ascontiguousarray",
            ),
            Self::Dimensions(dimensions) => write!(
                f,
                "has {dimensions} dimensions; a table of vectors has two (or one, a single vector)"
            ),
            Self::Columns(columns) => {
                write!(f, "has rows of {columns} components, possible are 1 to {COLUMNS_MAX}")
            }
            Self::TooShort { rows, columns, needed_bytes, found_bytes } => write!(
                f,
                "is cut short or its header lies: {rows} x {columns} components need \
                 {needed_bytes} bytes, it has {found_bytes}"
            ),
            Self::TooLong { rows, columns, excess_bytes } => write!(
                f,
                "is written halfway or its header lies: {excess_bytes} bytes follow its {rows} x \
                 {columns} components"
            ),
            Self::Truncated { row } => write!(f, "ends within row {row}"),
            Self::RowDimension { row, found, expected } => {
                write!(f, "has dimension {found} in row {row}, but {expected} in row 0")
            }
            Self::NoSuchRow { row, rows } => {
                write!(f, "has no row {row}: it has {rows} rows, counted from 0")
            }
            Self::NotBf16(component) => write!(
                f,
                "holds {component}; only 2-byte components (u2, V2) can be read as bfloat16"
            ),
            Self::Unwritable(format, component) => {
                write!(f, "cannot hold {component} in the format {format:?}; use .npy")
            }
            Self::RowLength { found, expected } => {
                write!(f, "was given a row of {found} bytes where rows have {expected}")
            }
        }
    }
}

/// What is wrong with which file of vectors.
#[derive(Debug)]
pub struct ArrayError {
    /// The file's name, printable.
    pub file: String,
    /// What is wrong with it.
    pub fault: ArrayFault,
}

impl fmt::Display for ArrayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if matches!(self.fault, ArrayFault::Io(_)) { ":" } else { "" };
        write!(f, "{}{separator} {}", self.file, self.fault)
    }
}

impl std::error::Error for ArrayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            ArrayFault::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// The place of rows in a file.
#[derive(Clone, Copy, Debug)]
struct Placement {
    layout: Layout,
    /// Whether components are stored with their highest byte first.
    big_endian: bool,
    /// Byte offset of row 0.
    start: u64,
    /// Bytes before each row that tell its dimension.
    prefix_bytes: usize,
}

impl Placement {
    /// Bytes from one row to the next. Far from overflow: see [`COLUMNS_MAX`].
    fn stride_bytes(&self) -> u64 {
        (self.prefix_bytes + self.layout.row_bytes()) as u64
    }
}

/// Reads a file of vectors, from the first row on or from any row.
#[derive(Debug)]
pub struct ArrayReader<R> {
    file: String,
    source: BufReader<R>,
    placement: Placement,
    next_row: u64,
}

impl ArrayReader<File> {
    /// Opens a file whose format its name or its first bytes tell.
    pub fn open(path: &Path) -> Result<Self, ArrayError> {
        let file = escape_name(path.as_os_str().as_bytes());
        let attempt = || {
            // A pipe would block the open, and none of the others has a length.
            if !std::fs::metadata(path).map_err(ArrayFault::Io)?.is_file() {
                return Err(ArrayFault::NotRegular);
            }
            File::open(path).map_err(ArrayFault::Io)
        };
        match attempt() {
            Ok(source) => Self::new(path, source),
            Err(fault) => Err(ArrayError { file, fault }),
        }
    }
}

impl<R: Read + Seek> ArrayReader<R> {
    /// Reads `source` as the file `path`, which need not exist; its name may tell the format.
    pub fn new(path: &Path, source: R) -> Result<Self, ArrayError> {
        let file = escape_name(path.as_os_str().as_bytes());
        let mut source = BufReader::with_capacity(256 << 10, source);
        match Self::place(path, &mut source) {
            Ok(placement) => Ok(Self { file, source, placement, next_row: 0 }),
            Err(fault) => Err(ArrayError { file, fault }),
        }
    }

    fn place(path: &Path, source: &mut BufReader<R>) -> Result<Placement, ArrayFault> {
        let file_bytes = source.seek(SeekFrom::End(0)).map_err(ArrayFault::Io)?;
        source.seek(SeekFrom::Start(0)).map_err(ArrayFault::Io)?;
        if file_bytes == 0 {
            return Err(ArrayFault::Empty);
        }
        match Format::from_path(path) {
            Some(Format::Npy) => npy::read_header(source, file_bytes),
            Some(Format::Fvecs) => vecs::read_first(source, file_bytes, Component::F32),
            Some(Format::Bvecs) => vecs::read_first(source, file_bytes, Component::U8),
            Some(Format::Ivecs) => vecs::read_first(source, file_bytes, Component::I32),
            None => match npy::read_header(source, file_bytes) {
                Err(ArrayFault::Magic) => Err(ArrayFault::UnknownFormat),
                other => other,
            },
        }
    }

    /// The type and number of components and the number of rows.
    pub fn layout(&self) -> Layout {
        self.placement.layout
    }

    /// The file's name, printable.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Takes the file's components for bfloat16, which numpy has no type for. Files of type `V2`
    /// are taken so without asking; of type `u2` only after this call.
    pub fn read_as_bf16(&mut self) -> Result<(), ArrayError> {
        match self.placement.layout.component {
            Component::Bf16 | Component::U16 => {
                self.placement.layout.component = Component::Bf16;
                Ok(())
            }
            other => Err(self.error(ArrayFault::NotBf16(other))),
        }
    }

    /// Goes to a row, so that the next read starts there. The number of rows is allowed: the end.
    pub fn seek_row(&mut self, row: u64) -> Result<(), ArrayError> {
        let rows = self.placement.layout.rows;
        if row > rows {
            return Err(self.error(ArrayFault::NoSuchRow { row, rows }));
        }
        // The file is at least this long, so the product fits.
        let offset = self.placement.start + row * self.placement.stride_bytes();
        self.source.seek(SeekFrom::Start(offset)).map_err(|e| self.error(ArrayFault::Io(e)))?;
        self.next_row = row;
        Ok(())
    }

    /// Which bytes of the file hold the components of a row.
    pub fn row_range(&self, row: u64) -> std::ops::Range<u64> {
        let placement = &self.placement;
        let start =
            placement.start + row * placement.stride_bytes() + placement.prefix_bytes as u64;
        start..start + placement.layout.row_bytes() as u64
    }

    /// The row of this number, little endian. Reads on from the row after it.
    pub fn row(&mut self, row: u64) -> Result<Vec<u8>, ArrayError> {
        self.seek_row(row)?;
        let mut bytes = Vec::new();
        match self.read_rows(1, &mut bytes)? {
            0 => {
                let rows = self.placement.layout.rows;
                Err(self.error(ArrayFault::NoSuchRow { row, rows }))
            }
            _ => Ok(bytes),
        }
    }

    /// Appends the next rows to `output`, little endian and without gaps, and returns how many:
    /// at most `rows_max` and about [`BATCH_BYTES_MAX`] bytes, and 0 only when asked for 0 or at
    /// the end. On an error `output` is as it was.
    pub fn read_rows(
        &mut self,
        rows_max: usize,
        output: &mut Vec<u8>,
    ) -> Result<usize, ArrayError> {
        let layout = self.placement.layout;
        let rows = rows_max
            .min(usize::try_from(layout.rows - self.next_row).unwrap_or(usize::MAX))
            .min((BATCH_BYTES_MAX / layout.row_bytes()).max(1));
        let start = output.len();
        match self.fill(rows, output) {
            Ok(()) => {
                self.next_row += rows as u64;
                Ok(rows)
            }
            Err(fault) => {
                output.truncate(start);
                Err(self.error(fault))
            }
        }
    }

    fn fill(&mut self, rows: usize, output: &mut Vec<u8>) -> Result<(), ArrayFault> {
        let layout = self.placement.layout;
        let start = output.len();
        let bytes = rows * layout.row_bytes();
        output.try_reserve(bytes).map_err(|_| ArrayFault::Io(io::ErrorKind::OutOfMemory.into()))?;
        output.resize(start + bytes, 0);
        let target = &mut output[start..];
        if self.placement.prefix_bytes == 0 {
            let row = self.next_row;
            self.source.read_exact(target).map_err(|error| cut_short(error, row))?;
        } else {
            for (index, target) in target.chunks_exact_mut(layout.row_bytes()).enumerate() {
                let row = self.next_row + index as u64;
                vecs::read_row(&mut self.source, row, layout.columns, target)?;
            }
        }
        if self.placement.big_endian {
            output[start..]
                .chunks_exact_mut(layout.component.size_bytes())
                .for_each(<[u8]>::reverse);
        }
        Ok(())
    }

    fn error(&self, fault: ArrayFault) -> ArrayError {
        ArrayError { file: self.file.clone(), fault }
    }
}

/// The file was long enough when it was opened: somebody cut it since, or the device failed.
fn cut_short(error: io::Error, row: u64) -> ArrayFault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArrayFault::Truncated { row },
        _ => ArrayFault::Io(error),
    }
}

/// Writes a file of vectors, row by row. The file is whole only after [`ArrayWriter::finish`]; a
/// `.npy` file that was left before is refused by [`ArrayReader`].
#[derive(Debug)]
pub struct ArrayWriter<W: Write + Seek> {
    file: String,
    sink: BufWriter<W>,
    format: Format,
    layout: Layout,
}

impl ArrayWriter<Draft> {
    /// Creates the file `path`, whose name must tell the format, or one that will take its place:
    /// it is there when this is published.
    pub fn create(path: &Path, component: Component, columns: usize) -> Result<Self, ArrayError> {
        let error = |fault| ArrayError { file: escape_name(path.as_os_str().as_bytes()), fault };
        let format = Format::from_path(path).ok_or_else(|| error(ArrayFault::UnknownFormat))?;
        Self::check(format, component, columns).map_err(error)?;
        let sink = Draft::create(path).map_err(|cause| error(ArrayFault::Io(cause)))?;
        Self::new(path, sink, format, component, columns)
    }

    /// Completes the file and gives it its name. Syncing is the caller's.
    pub fn publish(self) -> Result<(), ArrayError> {
        let file = self.file.clone();
        let published = self.finish()?.publish();
        published.map_err(|cause| ArrayError { file, fault: ArrayFault::Io(cause) })
    }
}

impl<W: Write + Seek> ArrayWriter<W> {
    fn check(format: Format, component: Component, columns: usize) -> Result<(), ArrayFault> {
        if !(1..=COLUMNS_MAX).contains(&columns) {
            return Err(ArrayFault::Columns(columns as u64));
        }
        let writable = match format {
            Format::Npy => true,
            Format::Fvecs => component == Component::F32,
            Format::Bvecs => component == Component::U8,
            Format::Ivecs => component == Component::I32,
        };
        if writable { Ok(()) } else { Err(ArrayFault::Unwritable(format, component)) }
    }

    /// Writes to `sink`, which stands at its start; `path` is its name in errors. `.npy` takes
    /// every component (bfloat16 as type `V2`), the other formats only their own.
    pub fn new(
        path: &Path,
        sink: W,
        format: Format,
        component: Component,
        columns: usize,
    ) -> Result<Self, ArrayError> {
        let file = escape_name(path.as_os_str().as_bytes());
        let layout = Layout { component, columns, rows: 0 };
        let mut writer =
            Self { file, sink: BufWriter::with_capacity(256 << 10, sink), format, layout };
        Self::check(format, component, columns).map_err(|fault| writer.error(fault))?;
        if format == Format::Npy {
            // The number of rows is filled in at the end.
            writer.put(&npy::header(&layout))?;
        }
        Ok(writer)
    }

    /// Appends one row, little endian.
    pub fn write_row(&mut self, row: &[u8]) -> Result<(), ArrayError> {
        let expected = self.layout.row_bytes();
        if row.len() != expected {
            return Err(self.error(ArrayFault::RowLength { found: row.len(), expected }));
        }
        if self.format != Format::Npy {
            self.put(&(self.layout.columns as u32).to_le_bytes())?;
        }
        self.put(row)?;
        self.layout.rows += 1;
        Ok(())
    }

    /// Completes the file, hands what is buffered to the system, and returns the sink.
    pub fn finish(mut self) -> Result<W, ArrayError> {
        if self.format == Format::Npy {
            self.sink
                .seek(SeekFrom::Start(0))
                .map_err(|cause| self.error(ArrayFault::Io(cause)))?;
            let header = npy::header(&self.layout);
            self.put(&header)?;
        }
        let file = self.file;
        self.sink
            .into_inner()
            .map_err(|cause| ArrayError { file, fault: ArrayFault::Io(cause.into_error()) })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), ArrayError> {
        self.sink.write_all(bytes).map_err(|cause| self.error(ArrayFault::Io(cause)))
    }

    fn error(&self, fault: ArrayFault) -> ArrayError {
        ArrayError { file: self.file.clone(), fault }
    }
}

#[cfg(test)]
mod tests;
