// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The kernels in AVX-512 (F, BW, DQ, VL), with the dot products of VNNI and BF16 and the bit
//! counts of VPOPCNTDQ where the processor has them.
//!
//! The ends of rows are read under masks, which touch nothing past the end.

use core::arch::x86_64::*;

use crate::scan::{Batch, Load, Measure, scan};
use crate::set::Set;
use crate::{ElementType, Metric, Shape};

/// The set. Values exist only for processors that run what they name (see `detection`).
pub(crate) struct Avx512 {
    pub(crate) name: &'static str,
    pub(crate) vnni: bool,
    pub(crate) bf16: bool,
    pub(crate) popcount: bool,
}

/// The loop of `scan`, compiled for the named instructions.
macro_rules! compiled {
    ($name:ident, $features:literal) => {
        /// # Safety
        /// This processor has the instructions named.
        #[target_feature(enable = $features)]
        unsafe fn $name<L: Load, M: Measure<L::Register>>(batch: Batch<'_>) {
            // SAFETY: the instructions are the caller's word.
            unsafe { scan::<L, M>(batch) }
        }
    };
}

compiled!(base, "avx512f,avx512bw,avx512dq,avx512vl,popcnt");
compiled!(vnni, "avx512f,avx512bw,avx512dq,avx512vl,popcnt,avx512vnni");
compiled!(bf16, "avx512f,avx512bw,avx512dq,avx512vl,popcnt,avx512bf16");
compiled!(popcount, "avx512f,avx512bw,avx512dq,avx512vl,popcnt,avx512vpopcntdq");

impl Set for Avx512 {
    fn name(&self) -> &'static str {
        self.name
    }

    fn scan(&self, shape: &Shape, batch: Batch<'_>) {
        // SAFETY: a set exists only for a processor that has the instructions, and those that
        // its fields name.
        unsafe {
            match shape.element {
                ElementType::F32 => floats::<F32>(shape.metric, batch),
                ElementType::F16 => floats::<F16>(shape.metric, batch),
                ElementType::Bf16 => match shape.metric {
                    Metric::Cosine | Metric::InnerProduct if self.bf16 => {
                        bf16::<Bytes, Bf16Product>(batch);
                    }
                    metric => floats::<Bf16>(metric, batch),
                },
                ElementType::I8 => self.bytes::<true>(shape.metric, batch),
                ElementType::U8 => self.bytes::<false>(shape.metric, batch),
                ElementType::Bit => match shape.metric {
                    Metric::L2 | Metric::Manhattan | Metric::Hamming if self.popcount => {
                        popcount::<Bytes, Popcount<false>>(batch);
                    }
                    Metric::L2 | Metric::Manhattan | Metric::Hamming => {
                        base::<Bytes, NibbleCount<false>>(batch);
                    }
                    Metric::Cosine | Metric::InnerProduct if self.popcount => {
                        popcount::<Bytes, Popcount<true>>(batch);
                    }
                    Metric::Cosine | Metric::InnerProduct => {
                        base::<Bytes, NibbleCount<true>>(batch);
                    }
                },
            }
        }
    }
}

impl Avx512 {
    /// # Safety
    /// This processor has the set's instructions.
    unsafe fn bytes<const SIGNED: bool>(&self, metric: Metric, batch: Batch<'_>) {
        // SAFETY: the instructions are the caller's word.
        unsafe {
            match metric {
                Metric::L2 if self.vnni => vnni::<Widened<SIGNED>, VnniSquare>(batch),
                Metric::L2 => base::<Widened<SIGNED>, WordSquare>(batch),
                Metric::Cosine | Metric::InnerProduct if self.vnni => {
                    vnni::<Bytes, VnniProduct<SIGNED>>(batch);
                }
                Metric::Cosine | Metric::InnerProduct => {
                    base::<Widened<SIGNED>, WordProduct>(batch);
                }
                Metric::Manhattan => base::<Bytes, ByteMagnitude<SIGNED>>(batch),
                Metric::Hamming => base::<Bytes, ByteInequality>(batch),
            }
        }
    }
}

/// # Safety
/// This processor has the instructions of [`base`].
unsafe fn floats<L: Load<Register = __m512>>(metric: Metric, batch: Batch<'_>) {
    // SAFETY: the instructions are the caller's word.
    unsafe {
        match metric {
            Metric::L2 => base::<L, Square>(batch),
            Metric::Cosine | Metric::InnerProduct => base::<L, Product>(batch),
            Metric::Manhattan => base::<L, Magnitude>(batch),
            Metric::Hamming => base::<L, Inequality>(batch),
        }
    }
}

/// The low `count` bits, for `count` below 64.
#[inline(always)]
fn low_bits(count: usize) -> u64 {
    !(u64::MAX << (count & 63))
}

/// Sixteen binary32.
struct F32;

impl Load for F32 {
    const STEP: usize = 64;
    type Register = __m512;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 64 readable bytes, by the contract of `Load`.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> __m512 {
        // SAFETY: `bytes` readable bytes, by the contract of `Load`; the mask names no others.
        unsafe { _mm512_maskz_loadu_ps(low_bits(bytes / 4) as __mmask16, at.cast()) }
    }
}

/// Sixteen binary16, widened to binary32.
struct F16;

impl Load for F16 {
    const STEP: usize = 32;
    type Register = __m512;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 32 readable bytes, by the contract of `Load`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> __m512 {
        // SAFETY: `bytes` readable bytes, by the contract of `Load`; the mask names no others.
        unsafe {
            let mask = low_bits(bytes / 2) as __mmask16;
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, at.cast()))
        }
    }
}

/// Sixteen bfloat16, widened to binary32.
struct Bf16;

impl Bf16 {
    /// # Safety
    /// This processor has AVX512F.
    #[inline(always)]
    unsafe fn widen(words: __m256i) -> __m512 {
        // SAFETY: the instructions are the caller's word.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words))) }
    }
}

impl Load for Bf16 {
    const STEP: usize = 32;
    type Register = __m512;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 32 readable bytes, by the contract of `Load`.
        unsafe { Self::widen(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> __m512 {
        // SAFETY: `bytes` readable bytes, by the contract of `Load`; the mask names no others.
        unsafe {
            let mask = low_bits(bytes / 2) as __mmask16;
            Self::widen(_mm256_maskz_loadu_epi16(mask, at.cast()))
        }
    }
}

/// Thirty-two bytes, widened to 16 bits with their sign or without.
struct Widened<const SIGNED: bool>;

impl<const SIGNED: bool> Widened<SIGNED> {
    /// # Safety
    /// This processor has AVX512BW.
    #[inline(always)]
    unsafe fn widen(bytes: __m256i) -> __m512i {
        // SAFETY: the instructions are the caller's word.
        unsafe { if SIGNED { _mm512_cvtepi8_epi16(bytes) } else { _mm512_cvtepu8_epi16(bytes) } }
    }
}

impl<const SIGNED: bool> Load for Widened<SIGNED> {
    const STEP: usize = 32;
    type Register = __m512i;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        // SAFETY: 32 readable bytes, by the contract of `Load`.
        unsafe { Self::widen(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> __m512i {
        // SAFETY: `bytes` readable bytes, by the contract of `Load`; the mask names no others.
        unsafe { Self::widen(_mm256_maskz_loadu_epi8(low_bits(bytes) as __mmask32, at.cast())) }
    }
}

/// Sixty-four bytes as they are.
struct Bytes;

impl Load for Bytes {
    const STEP: usize = 64;
    type Register = __m512i;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        // SAFETY: 64 readable bytes, by the contract of `Load`.
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load_last(at: *const u8, bytes: usize, _: bool) -> __m512i {
        // SAFETY: `bytes` readable bytes, by the contract of `Load`; the mask names no others.
        unsafe { _mm512_maskz_loadu_epi8(low_bits(bytes), at.cast()) }
    }
}

/// The parts of a [`Measure`] that sums of one kind have in common.
macro_rules! sum_of_binary32 {
    () => {
        type Sum = __m512;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        unsafe fn join(one: __m512, other: __m512) -> __m512 {
            // SAFETY: as above.
            unsafe { _mm512_add_ps(one, other) }
        }

        #[inline(always)]
        unsafe fn total(sum: __m512) -> f32 {
            // SAFETY: as above.
            unsafe { _mm512_reduce_add_ps(sum) }
        }
    };
}

/// As above, for sums of 32-bit integers. The greatest sum of all measures, 16384 * 255^2, fits.
macro_rules! sum_of_integers {
    () => {
        type Sum = __m512i;

        #[inline(always)]
        unsafe fn zero() -> __m512i {
            // SAFETY: the instructions, by the contract of `Measure`.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn join(one: __m512i, other: __m512i) -> __m512i {
            // SAFETY: as above.
            unsafe { _mm512_add_epi32(one, other) }
        }

        #[inline(always)]
        unsafe fn total(sum: __m512i) -> f32 {
            // SAFETY: as above.
            unsafe { _mm512_reduce_add_epi32(sum) as f32 }
        }
    };
}

/// Squared differences of binary32.
struct Square;

impl Measure<__m512> for Square {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m512, query: __m512, row: __m512) -> __m512 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = _mm512_sub_ps(query, row);
            _mm512_fmadd_ps(difference, difference, sum)
        }
    }
}

/// Products of binary32.
struct Product;

impl Measure<__m512> for Product {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m512, query: __m512, row: __m512) -> __m512 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm512_fmadd_ps(query, row, sum) }
    }
}

/// Absolute differences of binary32.
struct Magnitude;

impl Measure<__m512> for Magnitude {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m512, query: __m512, row: __m512) -> __m512 {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm512_add_ps(sum, _mm512_abs_ps(_mm512_sub_ps(query, row))) }
    }
}

/// The count of unequal binary32.
struct Inequality;

impl Measure<__m512> for Inequality {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512, row: __m512) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let unequal = _mm512_cmpneq_ps_mask(query, row);
            _mm512_mask_add_epi32(sum, unequal, sum, _mm512_set1_epi32(1))
        }
    }
}

/// Products of bfloat16, two to a lane.
struct Bf16Product;

impl Measure<__m512i> for Bf16Product {
    sum_of_binary32!();

    #[inline(always)]
    unsafe fn add(sum: __m512, query: __m512i, row: __m512i) -> __m512 {
        // SAFETY: the instructions, by the contract of `Measure`; the types are 512 plain bits.
        unsafe {
            let query: __m512bh = core::mem::transmute(query);
            let row: __m512bh = core::mem::transmute(row);
            _mm512_dpbf16_ps(sum, query, row)
        }
    }
}

/// Squared differences of 16-bit integers of the range of a byte.
struct WordSquare;

impl Measure<__m512i> for WordSquare {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = _mm512_sub_epi16(query, row);
            _mm512_add_epi32(sum, _mm512_madd_epi16(difference, difference))
        }
    }
}

/// Products of 16-bit integers of the range of a byte.
struct WordProduct;

impl Measure<__m512i> for WordProduct {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(query, row)) }
    }
}

/// As [`WordSquare`], by VNNI.
struct VnniSquare;

impl Measure<__m512i> for VnniSquare {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let difference = _mm512_sub_epi16(query, row);
            _mm512_dpwssd_epi32(sum, difference, difference)
        }
    }
}

/// Products of bytes by VNNI, whose `vpdpbusd` multiplies unsigned by signed bytes. The row's bytes
/// change sign by moving 128 down or up, which moves the sum by 128 times the sum of the query; the
/// sums start at minus that. All is exact modulo 2^32, and the result is below 2^31.
struct VnniProduct<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<__m512i> for VnniProduct<SIGNED> {
    sum_of_integers!();
    const STARTS: bool = true;

    #[inline(always)]
    unsafe fn start(sum: __m512i, query: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            // -128 as a signed byte, 128 as an unsigned one.
            let offset = _mm512_set1_epi8(i8::MIN);
            let zero = _mm512_setzero_si512();
            let moved = if SIGNED {
                _mm512_dpbusd_epi32(zero, offset, query)
            } else {
                _mm512_dpbusd_epi32(zero, query, offset)
            };
            _mm512_sub_epi32(sum, moved)
        }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let row = _mm512_xor_si512(row, _mm512_set1_epi8(i8::MIN));
            if SIGNED {
                _mm512_dpbusd_epi32(sum, row, query)
            } else {
                _mm512_dpbusd_epi32(sum, query, row)
            }
        }
    }
}

/// Absolute differences of bytes, in 64-bit lanes of small numbers. Signed bytes move up by 128.
struct ByteMagnitude<const SIGNED: bool>;

impl<const SIGNED: bool> Measure<__m512i> for ByteMagnitude<SIGNED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let offset = if SIGNED { _mm512_set1_epi8(i8::MIN) } else { _mm512_setzero_si512() };
            let query = _mm512_xor_si512(query, offset);
            let row = _mm512_xor_si512(row, offset);
            _mm512_add_epi32(sum, _mm512_sad_epu8(query, row))
        }
    }
}

/// The count of unequal bytes.
struct ByteInequality;

impl Measure<__m512i> for ByteInequality {
    type Sum = u32;

    #[inline(always)]
    unsafe fn zero() -> u32 {
        0
    }

    #[inline(always)]
    unsafe fn add(sum: u32, query: __m512i, row: __m512i) -> u32 {
        // SAFETY: the instructions, by the contract of `Measure`.
        let unequal = unsafe { _mm512_cmpneq_epi8_mask(query, row) };
        sum.wrapping_add(unequal.count_ones())
    }

    #[inline(always)]
    unsafe fn join(one: u32, other: u32) -> u32 {
        one.wrapping_add(other)
    }

    #[inline(always)]
    unsafe fn total(sum: u32) -> f32 {
        sum as f32
    }
}

/// The bits that two rows share, or those in which they differ.
///
/// # Safety
/// This processor has AVX512F.
#[inline(always)]
unsafe fn combine<const SHARED: bool>(query: __m512i, row: __m512i) -> __m512i {
    // SAFETY: the instructions are the caller's word.
    unsafe { if SHARED { _mm512_and_si512(query, row) } else { _mm512_xor_si512(query, row) } }
}

/// The count of shared or differing bits by VPOPCNTDQ.
struct Popcount<const SHARED: bool>;

impl<const SHARED: bool> Measure<__m512i> for Popcount<SHARED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe { _mm512_add_epi32(sum, _mm512_popcnt_epi32(combine::<SHARED>(query, row))) }
    }
}

/// The count of shared or differing bits by a table of half bytes (Mula, Kurz, Lemire, "Faster
/// Population Counts Using AVX2 Instructions", 2018).
struct NibbleCount<const SHARED: bool>;

impl<const SHARED: bool> Measure<__m512i> for NibbleCount<SHARED> {
    sum_of_integers!();

    #[inline(always)]
    unsafe fn add(sum: __m512i, query: __m512i, row: __m512i) -> __m512i {
        // SAFETY: the instructions, by the contract of `Measure`.
        unsafe {
            let bits = combine::<SHARED>(query, row);
            let low = _mm512_set1_epi8(0x0f);
            let counts = _mm512_set4_epi32(0x0403_0302, 0x0302_0201, 0x0302_0201, 0x0201_0100);
            let count = _mm512_add_epi8(
                _mm512_shuffle_epi8(counts, _mm512_and_si512(bits, low)),
                _mm512_shuffle_epi8(counts, _mm512_and_si512(_mm512_srli_epi16::<4>(bits), low)),
            );
            _mm512_add_epi32(sum, _mm512_sad_epu8(count, _mm512_setzero_si512()))
        }
    }
}
