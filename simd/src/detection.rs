// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Which kernel sets this processor can run. No library and no system call is asked, so that a
//! kernel can do the same.

use crate::Kernels;
use crate::portable::Portable;

/// The fastest kernel set that this processor runs. Callers keep the answer: asking a processor
/// what it has takes microseconds in a virtual machine.
pub fn detect() -> &'static dyn Kernels {
    sets().last().unwrap_or(&Portable)
}

/// The kernel set of this name, if this processor runs it: `portable`, `avx2`, `avx512` and so on.
pub fn set(name: &str) -> Option<&'static dyn Kernels> {
    sets().find(|set| set.name() == name)
}

/// The kernel sets that this processor runs, slowest first. [`Kernels::name`] tells them apart.
pub fn sets() -> impl Iterator<Item = &'static dyn Kernels> {
    let portable: &dyn Kernels = &Portable;
    [Some(portable)].into_iter().chain(native()).flatten()
}

/// The sets made for this processor architecture, as far as this processor runs them.
#[cfg(target_arch = "x86_64")]
fn native() -> [Option<&'static dyn Kernels>; 3] {
    use crate::avx2::Avx2;
    use crate::avx512::Avx512;

    /// AVX-512 without and with each of its three extensions.
    macro_rules! avx512 {
        ($(($vnni:literal, $bf16:literal, $popcount:literal, $name:literal),)*) => {
            [$(Avx512 { name: $name, vnni: $vnni, bf16: $bf16, popcount: $popcount }),*]
        };
    }
    static AVX512: [Avx512; 8] = avx512![
        (false, false, false, "avx512"),
        (false, false, true, "avx512+vpopcntdq"),
        (false, true, false, "avx512+bf16"),
        (false, true, true, "avx512+bf16+vpopcntdq"),
        (true, false, false, "avx512+vnni"),
        (true, false, true, "avx512+vnni+vpopcntdq"),
        (true, true, false, "avx512+vnni+bf16"),
        (true, true, true, "avx512+vnni+bf16+vpopcntdq"),
    ];

    let features = Features::of_this_processor();
    let avx2: Option<&dyn Kernels> = if features.avx2 { Some(&Avx2) } else { None };
    if !features.avx512 {
        return [avx2, None, None];
    }
    let extended = AVX512.iter().find(|set| {
        set.vnni == features.vnni
            && set.bf16 == features.bf16
            && set.popcount == features.popcount
            && (set.vnni || set.bf16 || set.popcount)
    });
    let extended = extended.map(|set| -> &dyn Kernels { set });
    let base = AVX512.first().map(|set| -> &dyn Kernels { set });
    [avx2, base, extended]
}

/// The sets made for this processor architecture, as far as this processor runs them.
#[cfg(target_arch = "aarch64")]
fn native() -> [Option<&'static dyn Kernels>; 1] {
    [Some(&crate::neon::Neon)]
}

/// The sets made for this processor architecture, as far as this processor runs them.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn native() -> [Option<&'static dyn Kernels>; 0] {
    []
}

/// What the processor has and the operating system keeps over a task switch.
#[cfg(target_arch = "x86_64")]
struct Features {
    /// AVX2, FMA and F16C.
    avx2: bool,
    /// AVX-512 F, BW, DQ and VL, and POPCNT.
    avx512: bool,
    vnni: bool,
    bf16: bool,
    popcount: bool,
}

#[cfg(target_arch = "x86_64")]
impl Features {
    /// Asks `cpuid` and `xgetbv` (Intel's manual, volume 1, sections 14.3, 14.7 and 15.2).
    fn of_this_processor() -> Self {
        use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

        let bit = |register: u32, number: u32| register >> number & 1 == 1;
        let mut features =
            Self { avx2: false, avx512: false, vnni: false, bf16: false, popcount: false };
        let leaves = __cpuid(0).eax;
        let leaf1 = __cpuid(1);
        let (fma, popcnt, osxsave, avx, f16c) = (
            bit(leaf1.ecx, 12),
            bit(leaf1.ecx, 23),
            bit(leaf1.ecx, 27),
            bit(leaf1.ecx, 28),
            bit(leaf1.ecx, 29),
        );
        if leaves < 7 || !osxsave || !avx {
            return features;
        }
        // SAFETY: OSXSAVE says that the instruction is there and allowed.
        let states = unsafe {
            #[target_feature(enable = "xsave")]
            unsafe fn states() -> u64 {
                // SAFETY: the caller's word.
                unsafe { _xgetbv(0) }
            }
            states()
        };
        // The states of SSE and AVX; then those of the mask registers and the upper halves.
        if states & 0b110 != 0b110 {
            return features;
        }
        let leaf7 = __cpuid_count(7, 0);
        features.avx2 = fma && f16c && bit(leaf7.ebx, 5);
        if states & 0b1110_0000 == 0b1110_0000 {
            let (foundation, doubleword, byte, length) =
                (bit(leaf7.ebx, 16), bit(leaf7.ebx, 17), bit(leaf7.ebx, 30), bit(leaf7.ebx, 31));
            features.avx512 = features.avx2 && popcnt && foundation && doubleword && byte && length;
            features.vnni = bit(leaf7.ecx, 11);
            features.popcount = bit(leaf7.ecx, 14);
            features.bf16 = leaf7.eax >= 1 && bit(__cpuid_count(7, 1).eax, 5);
        }
        features
    }
}
