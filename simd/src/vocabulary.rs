// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Element types, metrics, ordered distances, and the trait that every kernel set implements.
//! No floating point in this file.

/// The highest dimension of a collection.
pub const MAX_DIMENSION: u32 = 16_384;

/// How one component of a vector is stored. The numbers are those of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ElementType {
    /// IEEE 754 binary32, little endian.
    F32 = 1,
    /// IEEE 754 binary16, little endian.
    F16 = 2,
    /// bfloat16 (the upper half of a binary32), little endian.
    Bf16 = 3,
    /// Signed byte.
    I8 = 4,
    /// Unsigned byte.
    U8 = 5,
    /// One bit, component `i` in bit `i % 8` of byte `i / 8`; unused bits of the last byte are zero.
    Bit = 6,
}

impl ElementType {
    /// The type with this on-disk number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::F32,
            2 => Self::F16,
            3 => Self::Bf16,
            4 => Self::I8,
            5 => Self::U8,
            6 => Self::Bit,
            _ => return None,
        })
    }

    /// Bytes of a row of `dimension` components.
    pub const fn row_bytes(self, dimension: u32) -> usize {
        let dimension = dimension as usize;
        match self {
            Self::F32 => dimension * 4,
            Self::F16 | Self::Bf16 => dimension * 2,
            Self::I8 | Self::U8 => dimension,
            Self::Bit => dimension.div_ceil(8),
        }
    }
}

/// How far two vectors are apart; less is nearer, under every metric. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Metric {
    /// Squared Euclidean distance, the sum of `(a - b)^2`.
    L2 = 1,
    /// One less the cosine of the angle: `1 - a.b / (|a| |b|)`. Zero vectors have no angle.
    Cosine = 2,
    /// The negated inner product, `-a.b`.
    InnerProduct = 3,
    /// The sum of `|a - b|`.
    Manhattan = 4,
    /// The number of components that differ.
    Hamming = 5,
}

impl Metric {
    /// The metric with this on-disk number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::L2,
            2 => Self::Cosine,
            3 => Self::InnerProduct,
            4 => Self::Manhattan,
            5 => Self::Hamming,
            _ => return None,
        })
    }
}

/// What the rows of a collection look like and how they are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Type of a component.
    pub element: ElementType,
    /// How rows are compared.
    pub metric: Metric,
    /// Components in a row, 1 to [`MAX_DIMENSION`].
    pub dimension: u32,
}

impl Shape {
    /// Bytes of one row.
    pub const fn row_bytes(&self) -> usize {
        self.element.row_bytes(self.dimension)
    }
}

/// A distance as an integer in the same order: the bits of an IEEE 754 binary32, mapped so that
/// unsigned comparison of the integers is comparison of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Distance(pub u32);

impl Distance {
    /// Farther than any distance there is.
    pub const MAX: Self = Self(u32::MAX);

    /// The distance whose binary32 bits are `bits`.
    pub const fn from_f32_bits(bits: u32) -> Self {
        // Negative numbers order backwards and below the positive ones.
        Self(if bits >> 31 == 0 { bits | 0x8000_0000 } else { !bits })
    }

    /// The binary32 bits of the distance.
    pub const fn to_f32_bits(self) -> u32 {
        if self.0 >> 31 == 1 { self.0 & 0x7fff_ffff } else { !self.0 }
    }
}

/// A number that belongs to a row and that its distances need (the inverse of its length under
/// cosine; nothing under the other metrics). Opaque outside the kernels, and always the same for
/// the same row, so it may be kept or computed again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct RowTerm(pub u32);

/// How rows are made into codes: smaller rows of another shape, in about the same order. It belongs
/// to the rows it was trained on and may be kept beside the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    /// Type of a code's components: [`ElementType::F16`], [`ElementType::I8`] or
    /// [`ElementType::Bit`].
    pub element: ElementType,
    /// What training found, opaque outside the kernels. No value does harm.
    pub parameters: [u32; 2],
}

impl Codec {
    /// The shape of the codes of rows of shape `rows`, or nothing if there are no such codes.
    ///
    /// Floats have codes of `I8`; binary32 has codes of `F16`; floats and bytes have codes of
    /// `Bit`, which are compared by [`Metric::Hamming`]. Under cosine a row is coded at length one
    /// and its codes are compared by inner product. Distances of codes come in the order of those
    /// of rows, near enough to choose candidates by, in units of their own.
    pub const fn shape(&self, rows: &Shape) -> Option<Shape> {
        let floats =
            matches!(rows.element, ElementType::F32 | ElementType::F16 | ElementType::Bf16);
        let bytes = matches!(rows.element, ElementType::I8 | ElementType::U8);
        let metric = match (self.element, rows.metric) {
            (_, Metric::Hamming) => return None,
            (ElementType::Bit, _) if floats || bytes => Metric::Hamming,
            (ElementType::I8, Metric::Cosine) if floats => Metric::InnerProduct,
            (ElementType::I8, metric) if floats => metric,
            (ElementType::F16, Metric::Cosine) if matches!(rows.element, ElementType::F32) => {
                Metric::InnerProduct
            }
            (ElementType::F16, metric) if matches!(rows.element, ElementType::F32) => metric,
            _ => return None,
        };
        Some(Shape { element: self.element, metric, dimension: rows.dimension })
    }
}

/// Why a row cannot be stored or searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRow {
    /// It has not [`Shape::row_bytes`] bytes, or unused bits of a `Bit` row are set.
    Length,
    /// The component of this number is NaN or infinite, or so large that distances overflow (it
    /// is the first at which the sum of squares passes the limit of [`Kernels::check`]).
    NotFinite(u32),
    /// All components are zero, or too small to tell from zero, which has no direction under
    /// [`Metric::Cosine`].
    Zero,
}

/// The distance kernels of one host. Calls take no lock, allocate nothing and cannot fail; rows of
/// another length than `shape.row_bytes()` are at [`Distance::MAX`].
///
/// A kernel host enters and leaves its floating-point section in each call, so callers hand over
/// rows in batches (16 or so: what one graph node's unseen neighbours are).
pub trait Kernels: Send + Sync {
    /// Which instructions the kernels use, for logs and measurements.
    fn name(&self) -> &'static str {
        "unnamed"
    }

    /// Checks that `row` is a vector of this shape and returns its term.
    ///
    /// Distances stay finite because a row of floats is refused whose squared length is above
    /// 2^125 (a length of about 6.5e18). Under [`Metric::Cosine`] a squared length below 2^-100
    /// counts as zero: its products would fall among the subnormal numbers.
    fn check(&self, shape: &Shape, row: &[u8]) -> Result<RowTerm, InvalidRow>;

    /// The distance from `query` to each of `rows`, into `distances`; `terms` are the rows' terms.
    /// The three slices have one length (the shortest counts).
    ///
    /// Sums over integer elements and bits are exact and rounded once, to the binary32 of the
    /// distance; sums over floats are made in binary32. A row that [`Kernels::check`] would refuse
    /// gets some distance, never one past [`Distance::MAX`].
    fn distances(
        &self,
        shape: &Shape,
        query: (&[u8], RowTerm),
        rows: &[&[u8]],
        terms: &[RowTerm],
        distances: &mut [Distance],
    );

    /// Finds how to code rows of this shape with components of type `element`, from a sample of
    /// them; rows of the sample that [`Self::check`] refuses are passed over. Nothing if there are
    /// no such codes ([`Codec::shape`]) or no valid row in the sample.
    ///
    /// A kernel host cannot be interrupted meanwhile: a few hundred thousand components, a
    /// millisecond or two, are plenty.
    fn train(&self, shape: &Shape, element: ElementType, sample: &[&[u8]]) -> Option<Codec> {
        let _ = (shape, element, sample);
        None
    }

    /// Writes the code of a valid row (or query) and returns the code's term. Nothing, and `code`
    /// is of no use, if there are no such codes or a length is not that of its shape. Components
    /// outside the range of the sample get the nearest code there is.
    fn encode(
        &self,
        shape: &Shape,
        codec: &Codec,
        row: (&[u8], RowTerm),
        code: &mut [u8],
    ) -> Option<RowTerm> {
        let _ = (shape, codec, row, code);
        None
    }
}

/// A host may own a reference to kernels, as `detect` gives it out.
impl Kernels for &dyn Kernels {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn check(&self, shape: &Shape, row: &[u8]) -> Result<RowTerm, InvalidRow> {
        (**self).check(shape, row)
    }

    fn distances(
        &self,
        shape: &Shape,
        query: (&[u8], RowTerm),
        rows: &[&[u8]],
        terms: &[RowTerm],
        distances: &mut [Distance],
    ) {
        (**self).distances(shape, query, rows, terms, distances);
    }

    fn train(&self, shape: &Shape, element: ElementType, sample: &[&[u8]]) -> Option<Codec> {
        (**self).train(shape, element, sample)
    }

    fn encode(
        &self,
        shape: &Shape,
        codec: &Codec,
        row: (&[u8], RowTerm),
        code: &mut [u8],
    ) -> Option<RowTerm> {
        (**self).encode(shape, codec, row, code)
    }
}
