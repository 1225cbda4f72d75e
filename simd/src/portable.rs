// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernels in plain Rust, for processors that no other set serves. Registers are small arrays,
//! which the compiler makes vectors of where the target has any.

use core::marker::PhantomData;

use crate::half::{bf16_to_f32, f16_to_f32};
use crate::scan::{Batch, Load, Measure, scan};
use crate::set::Set;
use crate::{ElementType, Metric, Shape};

/// The set.
pub(crate) struct Portable;

/// Numbers in a register.
const LANES: usize = 8;

/// Words of 64 bits in a register.
const WORDS: usize = 4;

/// Bytes in a register.
const BYTES: usize = 32;

impl Set for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn scan(&self, shape: &Shape, batch: Batch<'_>) {
        match shape.element {
            ElementType::F32 => floats::<F32>(shape.metric, batch),
            ElementType::F16 => floats::<F16>(shape.metric, batch),
            ElementType::Bf16 => floats::<Bf16>(shape.metric, batch),
            ElementType::I8 => bytes::<i8>(shape.metric, batch),
            ElementType::U8 => bytes::<u8>(shape.metric, batch),
            ElementType::Bit => match shape.metric {
                Metric::L2 | Metric::Manhattan | Metric::Hamming => {
                    apart::<Bits, BitCount<false>>(batch);
                }
                Metric::Cosine | Metric::InnerProduct => apart::<Bits, BitCount<true>>(batch),
            },
        }
    }
}

fn floats<L: Load<Register = [f32; LANES]>>(metric: Metric, batch: Batch<'_>) {
    match metric {
        Metric::L2 => apart::<L, Square>(batch),
        Metric::Cosine | Metric::InnerProduct => apart::<L, Product>(batch),
        Metric::Manhattan => apart::<L, Magnitude>(batch),
        Metric::Hamming => apart::<L, Inequality>(batch),
    }
}

fn bytes<T>(metric: Metric, batch: Batch<'_>)
where
    Square<T>: Measure<[u8; BYTES]>,
    Product<T>: Measure<[u8; BYTES]>,
    Magnitude<T>: Measure<[u8; BYTES]>,
    Inequality<T>: Measure<[u8; BYTES]>,
{
    match metric {
        Metric::L2 => apart::<Bytes, Square<T>>(batch),
        Metric::Cosine | Metric::InnerProduct => apart::<Bytes, Product<T>>(batch),
        Metric::Manhattan => apart::<Bytes, Magnitude<T>>(batch),
        Metric::Hamming => apart::<Bytes, Inequality<T>>(batch),
    }
}

/// One scan as a function of its own: where registers are few each needs a frame of some hundred
/// bytes, and inlined into one function their frames add up.
#[inline(never)]
fn apart<L: Load, M: Measure<L::Register>>(batch: Batch<'_>) {
    // SAFETY: plain Rust runs everywhere.
    unsafe { scan::<L, M>(batch) }
}

/// A [`Load`] of [`LANES`] components of `$bytes` bytes.
macro_rules! load {
    ($(#[$doc:meta])* $name:ident, $lanes:expr, $bytes:literal, $component:ty, $widen:expr) => {
        $(#[$doc])*
        struct $name;

        impl Load for $name {
            const STEP: usize = $lanes * $bytes;
            const GROUPS: bool = cfg!(not(feature = "compact"));
            type Register = [$component; $lanes];

            #[inline(always)]
            unsafe fn load(at: *const u8) -> Self::Register {
                // SAFETY: as many readable bytes, by the contract of `Load`; an array of bytes has
                // no alignment.
                let bytes = unsafe { &*at.cast::<[[u8; $bytes]; $lanes]>() };
                let mut register = [<$component>::default(); $lanes];
                for (component, bytes) in register.iter_mut().zip(bytes) {
                    *component = $widen(*bytes);
                }
                register
            }

            #[inline(always)]
            unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> Self::Register {
                let mut copy = [0_u8; $lanes * $bytes];
                // SAFETY: `bytes` readable bytes, fewer than the copy has, by the contract of
                // `Load`.
                unsafe {
                    core::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), bytes);
                    Self::load(copy.as_ptr())
                }
            }
        }
    };
}

load!(/** Binary32. */ F32, LANES, 4, f32, f32::from_le_bytes);
load!(/** Binary16. */ F16, LANES, 2, f32, |bytes| f16_to_f32(u16::from_le_bytes(bytes)));
load!(/** Bfloat16. */ Bf16, LANES, 2, f32, |bytes| bf16_to_f32(u16::from_le_bytes(bytes)));
load!(/** Bytes. */ Bytes, BYTES, 1, u8, |[byte]: [u8; 1]| byte);
load!(/** Sixty-four bits a word. */ Bits, WORDS, 8, u64, u64::from_le_bytes);

/// A [`Measure`] of lanes.
macro_rules! measure {
    ($name:ty, $lanes:expr, $component:ty, $sum:ty, |$one:ident, $other:ident| $difference:expr) => {
        impl Measure<[$component; $lanes]> for $name {
            type Sum = [$sum; $lanes];

            #[inline(always)]
            unsafe fn zero() -> Self::Sum {
                [<$sum>::default(); $lanes]
            }

            #[inline(always)]
            unsafe fn add(
                mut sum: Self::Sum,
                query: [$component; $lanes],
                row: [$component; $lanes],
            ) -> Self::Sum {
                for ((sum, $one), $other) in sum.iter_mut().zip(query).zip(row) {
                    *sum += $difference;
                }
                sum
            }

            #[inline(always)]
            unsafe fn join(mut one: Self::Sum, other: Self::Sum) -> Self::Sum {
                for (one, other) in one.iter_mut().zip(other) {
                    *one += other;
                }
                one
            }

            #[inline(always)]
            unsafe fn total(sum: Self::Sum) -> f32 {
                sum.iter().sum::<$sum>() as f32
            }
        }
    };
}

/// A [`Measure`] of bytes, in one sum: the compiler splits sums of integers by itself.
macro_rules! measure_bytes {
    ($name:ident, $byte:ty, |$one:ident, $other:ident| $difference:expr) => {
        impl Measure<[u8; BYTES]> for $name<$byte> {
            type Sum = i32;

            #[inline(always)]
            unsafe fn zero() -> i32 {
                0
            }

            #[inline(always)]
            unsafe fn add(mut sum: i32, query: [u8; BYTES], row: [u8; BYTES]) -> i32 {
                for (one, other) in query.iter().zip(&row) {
                    let ($one, $other) = (*one as $byte as i16, *other as $byte as i16);
                    sum += $difference;
                }
                sum
            }

            #[inline(always)]
            unsafe fn join(one: i32, other: i32) -> i32 {
                one + other
            }

            #[inline(always)]
            unsafe fn total(sum: i32) -> f32 {
                sum as f32
            }
        }
    };
}

/// Squared differences, of binary32 or of bytes of a type.
struct Square<T = f32>(PhantomData<T>);
measure!(Square, LANES, f32, f32, |one, other| (one - other) * (one - other));
measure_bytes!(Square, i8, |one, other| i32::from(one - other) * i32::from(one - other));
measure_bytes!(Square, u8, |one, other| i32::from(one - other) * i32::from(one - other));

/// Products.
struct Product<T = f32>(PhantomData<T>);
measure!(Product, LANES, f32, f32, |one, other| one * other);
measure_bytes!(Product, i8, |one, other| i32::from(one) * i32::from(other));
measure_bytes!(Product, u8, |one, other| i32::from(one) * i32::from(other));

/// Absolute differences.
struct Magnitude<T = f32>(PhantomData<T>);
measure!(Magnitude, LANES, f32, f32, |one, other| (one - other).abs());
measure_bytes!(Magnitude, i8, |one, other| i32::from((one - other).abs()));
measure_bytes!(Magnitude, u8, |one, other| i32::from((one - other).abs()));

/// The count of unequal components.
struct Inequality<T = f32>(PhantomData<T>);
measure!(Inequality, LANES, f32, i32, |one, other| i32::from(one != other));
measure_bytes!(Inequality, i8, |one, other| i32::from(one != other));
measure_bytes!(Inequality, u8, |one, other| i32::from(one != other));

/// The count of shared or differing bits.
struct BitCount<const SHARED: bool>;
measure!(BitCount<true>, WORDS, u64, u32, |one, other| (one & other).count_ones());
measure!(BitCount<false>, WORDS, u64, u32, |one, other| (one ^ other).count_ones());
