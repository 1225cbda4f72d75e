// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernels in AVX2 with FMA and F16C.
//!
//! The end of a row is read as the last whole register of it, whose components that were summed
//! before are then cleared; a row shorter than a register goes by way of the stack.

use core::arch::x86_64::*;

use crate::scan::{Batch, LAST_BYTES, Load, Measure, scan};
use crate::set::Set;
use crate::{ElementType, Metric, Shape};

/// The set. Used only on processors that have the instructions (see `detection`).
pub(crate) struct Avx2;

/// The loop of `scan`, compiled for the set.
///
/// # Safety
/// This processor has the instructions named.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn compiled<L: Load, M: Measure<L::Register>>(batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe { scan::<L, M>(batch) }
}

impl Set for Avx2 {
    fn name(&self) -> &'static str {
        "avx2"
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
                        compiled::<Bytes, NibbleCount<false>>(batch);
                    }
                    Metric::Cosine | Metric::InnerProduct => {
                        compiled::<Bytes, NibbleCount<true>>(batch);
                    }
                },
            }
        }
    }
}

/// # Safety
/// This processor has the set's instructions.
unsafe fn floats<L: Load<Register = __m256>>(metric: Metric, batch: Batch<'_>) {
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
/// This processor has the set's instructions.
unsafe fn bytes<const SIGNED: bool>(metric: Metric, batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe {
        match metric {
            Metric::L2 => compiled::<Widened<SIGNED>, WordSquare>(batch),
            Metric::Cosine | Metric::InnerProduct => {
                compiled::<Widened<SIGNED>, WordProduct>(batch);
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
unsafe fn last_16(at: *const u8, bytes: usize, whole: bool) -> __m128i {
    // SAFETY: the caller's word; the mask's 16 bytes lie in the table since `bytes` is below 16.
    unsafe {
        if whole {
            let mask = _mm_loadu_si128(LAST_BYTES.as_ptr().add(16 + bytes).cast());
            _mm_and_si128(mask, _mm_loadu_si128(at.sub(16 - bytes).cast()))
        } else {
            let mut copy = [0_u8; 16];
            core::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), bytes);
            _mm_loadu_si128(copy.as_ptr().cast())
        }
    }
}

/// As [`last_16`], for `bytes` below 32.
///
/// # Safety
/// `bytes` bytes at `at` are readable, and 32 bytes before their end if `whole`.
#[inline(always)]
unsafe fn last_32(at: *const u8, bytes: usize, whole: bool) -> __m256i {
    // SAFETY: the caller's word; the mask's 32 bytes lie in the table since `bytes` is below 32.
    unsafe {
        if whole {
            let mask = _mm256_loadu_si256(LAST_BYTES.as_ptr().add(bytes).cast());
            _mm256_and_si256(mask, _mm256_loadu_si256(at.sub(32 - bytes).cast()))
        } else {
            let mut copy = [0_u8; 32];
            core::ptr::copy_nonoverlapping(at, copy.as_mut_ptr(), bytes);
            _mm256_loadu_si256(copy.as_ptr().cast())
        }
    }
}

/// A [`Load`] of registers of 16 or 32 bytes, of which each is widened.
macro_rules! load {
    ($register:ty, $step:literal, $load:ident, $last:ident, $widen:expr) => {
        const STEP: usize = $step;
        type Register = $register;

        #[inline(always)]
        unsafe fn load(at: *const u8) -> $register {
            // SAFETY: as many readable bytes, by the contract of `Load`.
            unsafe { $widen($load(at.cast())) }
        }

        #[inline(always)]
        unsafe fn load_last(at: *const u8, bytes: usize, whole: bool) -> $register {
            // SAFETY: the readable bytes, by the contract of `Load`.
            unsafe { $widen($last(at, bytes, whole)) }
        }
    };
}

/// Eight binary32.
struct F32;

impl Load for F32 {
    load!(__m256, 32, _mm256_loadu_si256, last_32, _mm256_castsi256_ps);
}

/// Eight binary16, widened to binary32.
struct F16;

impl Load for F16 {
    load!(__m256, 16, _mm_loadu_si128, last_16, _mm256_cvtph_ps);
}

/// Eight bfloat16, widened to binary32.
struct Bf16;

impl Load for Bf16 {
    load!(__m256, 16, _mm_loadu_si128, last_16, |words| _mm256_castsi256_ps(
        _mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(words))
    ));
}

/// Sixteen bytes, widened to 16 bits with their sign or without.
struct Widened<const SIGNED: bool>;

impl<const SIGNED: bool> Load for Widened<SIGNED> {
    load!(__m256i, 16, _mm_loadu_si128, last_16, |bytes| if SIGNED {
        _mm256_cvtepi8_epi16(bytes)
    } else {
        _mm256_cvtepu8_epi16(bytes)
    });
}

/// Thirty-two bytes as they are.
struct Bytes;

impl Load for Bytes {
    load!(__m256i, 32, _mm256_loadu_si256, last_32, core::convert::identity);
}

/// The parts of a [`Measure`] that sums of binary32 have in common.
macro_rules! sum_of_binary32 {
    () => {
        type Sum = __m256;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { _mm256_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn join(one: __m256, other: __m256) -> __m256 {
            // SAFETY: as above.
            unsafe { _mm256_add_ps(one, other) }
        }

        #[inline(always)]
        unsafe fn total(sum: __m256) -> f32 {
            // SAFETY: as above.
            unsafe {
                let sum = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
                let sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
                _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)))
            }
        }
    };
}

/// As above, for sums of 32-bit integers. The greatest sum of all measures, 16384 * 255^2, fits.
macro_rules! sum_of_integers {
    () => {
        type Sum = __m256i;

        #[inline(always)]
        unsafe fn zero() -> __m256i {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { _mm256_setzero_si256() }
        }

        #[inline(always)]
        unsafe fn join(one: __m256i, other: __m256i) -> __m256i {
            // SAFETY: as above.
            unsafe { _mm256_add_epi32(one, other) }
        }

        #[inline(always)]
        unsafe fn total(sum: __m256i) -> f32 {
            // SAFETY: as above.
            unsafe {
                let sum =
                    _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
                let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b01_00_11_10>(sum));
                let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b10_11_00_01>(sum));
                _mm_cvtsi128_si32(sum) as f32
            }
        }
    };
}

/// Squared differences of binary32.
struct Square;

impl Measure<__m256> for Square {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m256, query: __m256, row: __m256) -> __m256 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = _mm256_sub_ps(query, row);
            _mm256_fmadd_ps(difference, difference, sum)
        }
    }
}

/// Products of binary32.
struct Product;

impl Measure<__m256> for Product {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m256, query: __m256, row: __m256) -> __m256 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm256_fmadd_ps(query, row, sum) }
    }
}

/// Absolute differences of binary32.
struct Magnitude;

impl Measure<__m256> for Magnitude {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m256, query: __m256, row: __m256) -> __m256 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            _mm256_add_ps(sum, _mm256_andnot_ps(sign, _mm256_sub_ps(query, row)))
        }
    }
}

/// The count of unequal binary32.
struct Inequality;

impl Measure<__m256> for Inequality {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256, row: __m256) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`. A set mask is -1.
        unsafe {
            let unequal = _mm256_cmp_ps::<_CMP_NEQ_UQ>(query, row);
            _mm256_sub_epi32(sum, _mm256_castps_si256(unequal))
        }
    }
}

/// Squared differences of 16-bit integers of the range of a byte.
struct WordSquare;

impl Measure<__m256i> for WordSquare {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256i, row: __m256i) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = _mm256_sub_epi16(query, row);
            _mm256_add_epi32(sum, _mm256_madd_epi16(difference, difference))
        }
    }
}

/// Products of 16-bit integers of the range of a byte.
struct WordProduct;

impl Measure<__m256i> for WordProduct {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256i, row: __m256i) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(query, row)) }
    }
}

/// Absolute differences of bytes, in 64-bit lanes of small numbers. Signed bytes move up by 128.
struct ByteMagnitude<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<__m256i> for ByteMagnitude<SIGNED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256i, row: __m256i) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let offset = if SIGNED { _mm256_set1_epi8(i8::MIN) } else { _mm256_setzero_si256() };
            let query = _mm256_xor_si256(query, offset);
            let row = _mm256_xor_si256(row, offset);
            _mm256_add_epi32(sum, _mm256_sad_epu8(query, row))
        }
    }
}

/// The count of unequal bytes.
struct ByteInequality;

impl Measure<__m256i> for ByteInequality {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256i, row: __m256i) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`. An equal byte is -1, which makes
        // 0 of 1.
        unsafe {
            let equal = _mm256_cmpeq_epi8(query, row);
            let unequal = _mm256_add_epi8(equal, _mm256_set1_epi8(1));
            _mm256_add_epi32(sum, _mm256_sad_epu8(unequal, _mm256_setzero_si256()))
        }
    }
}

/// The count of shared or differing bits by a table of half bytes (Mula, Kurz, Lemire, "Faster
/// Population Counts Using AVX2 Instructions", 2018).
struct NibbleCount<const SHARED: bool>;

impl<const SHARED: bool> Measure<__m256i> for NibbleCount<SHARED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m256i, query: __m256i, row: __m256i) -> __m256i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let bits =
                if SHARED { _mm256_and_si256(query, row) } else { _mm256_xor_si256(query, row) };
            let low = _mm256_set1_epi8(0x0f);
            let counts = _mm256_broadcastsi128_si256(_mm_set_epi32(
                0x0403_0302,
                0x0302_0201,
                0x0302_0201,
                0x0201_0100,
            ));
            let count = _mm256_add_epi8(
                _mm256_shuffle_epi8(counts, _mm256_and_si256(bits, low)),
                _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(bits), low)),
            );
            _mm256_add_epi32(sum, _mm256_sad_epu8(count, _mm256_setzero_si256()))
        }
    }
}
