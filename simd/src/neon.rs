// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernels in NEON, which every aarch64 processor has that Linux runs on.
//!
//! The end of a row is read as the last whole register of it, whose components that were summed
//! before are then cleared; a row shorter than a register goes by way of the stack.

use core::arch::aarch64::*;

use crate::scan::{Batch, LAST_BYTES, Load, Measure, scan};
use crate::set::Set;
use crate::{ElementType, Metric, Shape};

/// The set.
pub(crate) struct Neon;

/// The loop of `scan`, compiled for the set.
///
/// # Safety
/// This processor has NEON.
#[target_feature(enable = "neon")]
unsafe fn compiled<L: Load, M: Measure<L::Register>>(batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe { scan::<L, M>(batch) }
}

impl Set for Neon {
    fn name(&self) -> &'static str {
        "neon"
    }

    fn scan(&self, shape: &Shape, batch: Batch<'_>) {
        // SAFETY: the set is used only on processors that have the instructions.
        unsafe {
            match shape.element {
                ElementType::F32 => floats::<F32>(shape.metric, batch),
                ElementType::F16 => floats::<F16>(shape.metric, batch),
                ElementType::Bf16 => floats::<Bf16>(shape.metric, batch),
                ElementType::I8 => bytes::<true>(shape.metric, batch),
                ElementType::U8 => bytes::<false>(shape.metric, batch),
                ElementType::Bit => match shape.metric {
                    Metric::L2 | Metric::Manhattan | Metric::Hamming => {
                        compiled::<Bytes, BitCount<false>>(batch);
                    }
                    Metric::Cosine | Metric::InnerProduct => {
                        compiled::<Bytes, BitCount<true>>(batch);
                    }
                },
            }
        }
    }
}

/// # Safety
/// This processor has NEON.
unsafe fn floats<L: Load<Register = Pair>>(metric: Metric, batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe {
        match metric {
            Metric::L2 => compiled::<L, Square>(batch),
            Metric::Cosine | Metric::InnerProduct => compiled::<L, Product>(batch),
            Metric::Manhattan => compiled::<L, Magnitude>(batch),
            Metric::Hamming => compiled::<L, Inequality>(batch),
        }
    }
}

/// # Safety
/// This processor has NEON.
unsafe fn bytes<const SIGNED: bool>(metric: Metric, batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe {
        match metric {
            Metric::L2 => compiled::<Bytes, ByteSquare<SIGNED>>(batch),
            Metric::Cosine | Metric::InnerProduct => {
                compiled::<Bytes, ByteProduct<SIGNED>>(batch);
            }
            Metric::Manhattan => compiled::<Bytes, ByteMagnitude<SIGNED>>(batch),
            Metric::Hamming => compiled::<Bytes, ByteInequality>(batch),
        }
    }
}

/// The `bytes` (below 16) bytes at `at` and zeros before them (or after them unless `whole`).
///
/// # Safety
/// `bytes` bytes at `at` are readable, and 16 bytes before their end if `whole`.
#[inline(always)]
unsafe fn last_16(at: *const u8, bytes: usize, whole: bool) -> uint8x16_t {
    // SAFETY: the caller's word; the mask's 16 bytes lie in the table since `bytes` is below 16.
    unsafe {
        if whole {
            let mask = vld1q_u8(LAST_BYTES.as_ptr().add(16 + bytes));
            vandq_u8(mask, vld1q_u8(at.sub(16 - bytes)))
        } else {
            let mut copy = [0_u8; 16];
            core::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), bytes);
            vld1q_u8(copy.as_ptr())
        }
    }
}

/// Eight binary32 in two registers.
type Pair = (float32x4_t, float32x4_t);

/// Eight binary32.
struct F32;

impl Load for F32 {
    const STEP: usize = 32;
    type Register = Pair;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> Pair {
        // SAFETY: 32 readable bytes, by the contract of `Load`.
        unsafe { (vreinterpretq_f32_u8(vld1q_u8(at)), vreinterpretq_f32_u8(vld1q_u8(at.add(16)))) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, whole: bool) -> Pair {
        // SAFETY: the readable bytes, by the contract of `Load`; the mask's 32 bytes lie in the
        // table since `bytes` is below 32.
        unsafe {
            if whole {
                let (low, high) = Self::load(at.sub(32 - bytes));
                let (low_mask, high_mask) = Self::load(LAST_BYTES.as_ptr().add(bytes));
                let and = |one, other| {
                    let one = vreinterpretq_u32_f32(one);
                    vreinterpretq_f32_u32(vandq_u32(one, vreinterpretq_u32_f32(other)))
                };
                (and(low, low_mask), and(high, high_mask))
            } else {
                let mut copy = [0_u8; 32];
                core::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), bytes);
                Self::load(copy.as_ptr())
            }
        }
    }
}

/// A [`Load`] of sixteen bytes, made into something by `$widen`.
macro_rules! load_16 {
    ($register:ty, $widen:expr) => {
        const STEP: usize = 16;
        type Register = $register;

        #[inline(always)]
        unsafe fn load(at: *const u8) -> $register {
            // SAFETY: 16 readable bytes, by the contract of `Load`.
            unsafe { $widen(vld1q_u8(at)) }
        }

        #[inline(always)]
        unsafe fn load_last(at: *const u8, bytes: usize, whole: bool) -> $register {
            // SAFETY: the readable bytes, by the contract of `Load`.
            unsafe { $widen(last_16(at, bytes, whole)) }
        }
    };
}

/// Eight binary16, widened to binary32.
struct F16;

impl Load for F16 {
    load_16!(Pair, |bytes| {
        let halves = vreinterpretq_f16_u8(bytes);
        (vcvt_f32_f16(vget_low_f16(halves)), vcvt_high_f32_f16(halves))
    });
}

/// Eight bfloat16, widened to binary32.
struct Bf16;

impl Load for Bf16 {
    load_16!(Pair, |bytes| {
        let words = vreinterpretq_u16_u8(bytes);
        (
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(words))),
            vreinterpretq_f32_u32(vshll_high_n_u16::<16>(words)),
        )
    });
}

/// Sixteen bytes as they are.
struct Bytes;

impl Load for Bytes {
    load_16!(uint8x16_t, core::convert::identity);
}

/// The parts of a [`Measure`] that sums of binary32 have in common.
macro_rules! sum_of_binary32 {
    () => {
        type Sum = Pair;

        #[inline(always)]
        unsafe fn zero() -> Pair {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { (vdupq_n_f32(0.0), vdupq_n_f32(0.0)) }
        }

        #[inline(always)]
        unsafe fn join(one: Pair, other: Pair) -> Pair {
            // SAFETY: as above.
            unsafe { (vaddq_f32(one.0, other.0), vaddq_f32(one.1, other.1)) }
        }

        #[inline(always)]
        unsafe fn total(sum: Pair) -> f32 {
            // SAFETY: as above.
            unsafe { vaddvq_f32(vaddq_f32(sum.0, sum.1)) }
        }
    };
}

/// As above, for sums of 32-bit integers. The greatest sum of all measures, 16384 * 255^2, fits.
macro_rules! sum_of_integers {
    () => {
        type Sum = uint32x4_t;

        #[inline(always)]
        unsafe fn zero() -> uint32x4_t {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { vdupq_n_u32(0) }
        }

        #[inline(always)]
        unsafe fn join(one: uint32x4_t, other: uint32x4_t) -> uint32x4_t {
            // SAFETY: as above.
            unsafe { vaddq_u32(one, other) }
        }

        #[inline(always)]
        unsafe fn total(sum: uint32x4_t) -> f32 {
            // SAFETY: as above. Sums of products may be negative.
            unsafe { vaddvq_u32(sum) as i32 as f32 }
        }
    };
}

/// Squared differences of binary32.
struct Square;

impl Measure<Pair> for Square {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: Pair, query: Pair, row: Pair) -> Pair {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let (low, high) = (vsubq_f32(query.0, row.0), vsubq_f32(query.1, row.1));
            (vfmaq_f32(sum.0, low, low), vfmaq_f32(sum.1, high, high))
        }
    }
}

/// Products of binary32.
struct Product;

impl Measure<Pair> for Product {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: Pair, query: Pair, row: Pair) -> Pair {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { (vfmaq_f32(sum.0, query.0, row.0), vfmaq_f32(sum.1, query.1, row.1)) }
    }
}

/// Absolute differences of binary32.
struct Magnitude;

impl Measure<Pair> for Magnitude {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: Pair, query: Pair, row: Pair) -> Pair {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            (
                vaddq_f32(sum.0, vabdq_f32(query.0, row.0)),
                vaddq_f32(sum.1, vabdq_f32(query.1, row.1)),
            )
        }
    }
}

/// The count of unequal binary32.
struct Inequality;

impl Measure<Pair> for Inequality {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: Pair, row: Pair) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`. A set mask is -1.
        unsafe {
            let low = vmvnq_u32(vceqq_f32(query.0, row.0));
            let high = vmvnq_u32(vceqq_f32(query.1, row.1));
            vsubq_u32(vsubq_u32(sum, low), high)
        }
    }
}

/// Absolute differences of bytes, as unsigned bytes, which hold all of them.
///
/// # Safety
/// This processor has NEON.
#[inline(always)]
unsafe fn absolute_difference<const SIGNED: bool>(
    query: uint8x16_t,
    row: uint8x16_t,
) -> uint8x16_t {
    // SAFETY: the instructions are the caller's word.
    unsafe {
        if SIGNED {
            let (query, row) = (vreinterpretq_s8_u8(query), vreinterpretq_s8_u8(row));
            vreinterpretq_u8_s8(vabdq_s8(query, row))
        } else {
            vabdq_u8(query, row)
        }
    }
}

/// Squared differences of bytes.
struct ByteSquare<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<uint8x16_t> for ByteSquare<SIGNED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: uint8x16_t, row: uint8x16_t) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = absolute_difference::<SIGNED>(query, row);
            let low = vget_low_u8(difference);
            let sum = vpadalq_u16(sum, vmull_u8(low, low));
            vpadalq_u16(sum, vmull_high_u8(difference, difference))
        }
    }
}

/// Products of bytes.
struct ByteProduct<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<uint8x16_t> for ByteProduct<SIGNED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: uint8x16_t, row: uint8x16_t) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            if SIGNED {
                let (query, row) = (vreinterpretq_s8_u8(query), vreinterpretq_s8_u8(row));
                let sum = vreinterpretq_s32_u32(sum);
                let sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(query), vget_low_s8(row)));
                vreinterpretq_u32_s32(vpadalq_s16(sum, vmull_high_s8(query, row)))
            } else {
                let sum = vpadalq_u16(sum, vmull_u8(vget_low_u8(query), vget_low_u8(row)));
                vpadalq_u16(sum, vmull_high_u8(query, row))
            }
        }
    }
}

/// Absolute differences of bytes.
struct ByteMagnitude<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<uint8x16_t> for ByteMagnitude<SIGNED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: uint8x16_t, row: uint8x16_t) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { vpadalq_u16(sum, vpaddlq_u8(absolute_difference::<SIGNED>(query, row))) }
    }
}

/// The count of unequal bytes.
struct ByteInequality;

impl Measure<uint8x16_t> for ByteInequality {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: uint8x16_t, row: uint8x16_t) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`. An equal byte is -1, which makes
        // 0 of 1.
        unsafe {
            let unequal = vaddq_u8(vceqq_u8(query, row), vdupq_n_u8(1));
            vpadalq_u16(sum, vpaddlq_u8(unequal))
        }
    }
}

/// The count of shared or differing bits.
struct BitCount<const SHARED: bool>;

impl<const SHARED: bool> Measure<uint8x16_t> for BitCount<SHARED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: uint32x4_t, query: uint8x16_t, row: uint8x16_t) -> uint32x4_t {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let bits = if SHARED { vandq_u8(query, row) } else { veorq_u8(query, row) };
            vpadalq_u16(sum, vpaddlq_u8(vcntq_u8(bits)))
        }
    }
}
