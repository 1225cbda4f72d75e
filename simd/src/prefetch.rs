// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Asking the processor to load memory before it is needed. It never waits and touches no
//! floating-point state, so a kernel may do it anywhere.

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Asks for the first `lines` cache lines of `bytes`, no further than its end.
#[inline(always)]
pub fn prefetch(bytes: &[u8], lines: usize) {
    for line in bytes.chunks(LINE_BYTES).take(lines) {
        prefetch_line(line.as_ptr());
    }
}

/// Asks for the cache line of `address`, which may be any address at all.
#[inline(always)]
pub fn prefetch_line<T>(address: *const T) {
    // SAFETY: a prefetch reads nothing into the program, changes no memory, register or flag, and
    // an address that is not mapped makes it do nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!(
            "prefetcht0 [{}]",
            in(reg) address,
            options(nostack, readonly, preserves_flags)
        );
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!(
            "prfm pldl1keep, [{}]",
            in(reg) address,
            options(nostack, readonly, preserves_flags)
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
