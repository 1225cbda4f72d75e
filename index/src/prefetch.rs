// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Asking the processor to load memory before it is needed.

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Asks for the cache line in which `memory` begins.
#[inline(always)]
pub(crate) fn prefetch<T>(memory: &[T]) {
    hint(memory.as_ptr().cast::<u8>());
}

/// Asks for the first `lines` cache lines of `bytes`, no further than its end.
#[inline(always)]
pub(crate) fn prefetch_bytes(bytes: &[u8], lines: usize) {
    for line in bytes.chunks(LINE_BYTES).take(lines) {
        hint(line.as_ptr());
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn hint(address: *const u8) {
    // SAFETY: a prefetch reads nothing into the program, changes no register or flag and cannot
    // fault at any address; it belongs to no vector unit, so a kernel may issue it anywhere.
    unsafe {
        core::arch::asm!("prefetcht0 [{}]", in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn hint(address: *const u8) {
    // SAFETY: a prefetch reads nothing into the program, changes no register or flag and cannot
    // fault at any address.
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address,
            options(nostack, readonly, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn hint(_address: *const u8) {}
