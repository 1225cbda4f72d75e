// SPDX-License-Identifier: GPL-2.0-only
//! Code that breaks each rule of `kernel/verdict/rules.py` once, under a name that tells which.
//! It is linked as the core is, and `kernel/check` passes only if it reports every one of these
//! functions, each for its own rule, and none of the harmless ones.
#![no_std]

use core::arch::asm;
use core::hint::black_box;

unsafe extern "C" {
    fn vexfs_panic() -> !;
    /// A function that no kernel and no host has.
    fn function_that_no_kernel_has();
    static symbol_of_another_object: u8;
}

unsafe extern "Rust" {
    /// What every allocation that may not fail ends in.
    fn __rust_alloc_error_handler(size: usize, align: usize) -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes no arguments and does not return.
    unsafe { vexfs_panic() }
}

/// A bounds check that may fail.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_panicking_index(values: &[u8; 16], at: usize) -> u8 {
    #[expect(clippy::indexing_slicing, reason = "the panic is the point")]
    values[at]
}

/// A range that may lie outside its slice.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_panicking_range(values: &[u8; 16], end: usize) -> u8 {
    #[expect(clippy::indexing_slicing, reason = "the panic is the point")]
    values[..end].iter().fold(0, |sum, value| sum ^ value)
}

/// A value that may not be there.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_panicking_unwrap(values: &[u8; 16], at: usize) -> u8 {
    #[expect(clippy::unwrap_used, reason = "the panic is the point")]
    *values.get(at).unwrap()
}

/// A division whose divisor may be zero.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_panicking_division(dividend: u64, divisor: u64) -> u64 {
    dividend / divisor
}

/// An allocation that aborts.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_aborting_allocation(size: usize) {
    // SAFETY: it may be called with any layout and does not return.
    unsafe { __rust_alloc_error_handler(size, 8) }
}

/// An addition that becomes a call of a software routine.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_soft_float_addition(sum: &mut f32, value: &f32) {
    *sum += *value;
}

/// A conversion that becomes a call of a software routine.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_soft_float_conversion(value: &f64) -> i64 {
    *value as i64
}

/// A vector register in the half that must not touch one.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_vector_register() {
    // SAFETY: never run; it would change a register that the caller does not own.
    unsafe { asm!("xorps xmm0, xmm0", options(nomem, nostack)) }
}

/// A call of something that is not there.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_undefined_symbol() {
    // SAFETY: never run.
    unsafe { function_that_no_kernel_has() }
}

/// A stack frame of 2 KiB.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_large_frame(value: u8) -> u8 {
    let mut buffer = [value; 2048];
    black_box(&mut buffer);
    buffer.iter().fold(0, |sum, byte| sum ^ byte)
}

/// A frame below the limit, which must not be reported.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_harmless_frame(value: u8) -> u8 {
    let mut buffer = [value; 512];
    black_box(&mut buffer);
    buffer.iter().fold(0, |sum, byte| sum ^ byte)
}

/// A checked access, which must not be reported.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_harmless_access(values: &[u8; 16], at: usize) -> u8 {
    values.get(at).copied().unwrap_or(0)
}

/// A function that calls itself.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_recursion(depth: u64) -> u64 {
    if depth < 2 { 1 } else { vexfs_recursion(depth - 1).wrapping_add(vexfs_recursion(depth - 2)) }
}

/// The first of two functions that call each other.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vexfs_mutual_recursion(depth: u64) -> u64 {
    if depth == 0 { 1 } else { black_box(vexfs_mutual_return(black_box(depth - 1))) }
}

/// The second of two functions that call each other.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn vexfs_mutual_return(depth: u64) -> u64 {
    if depth == 0 { 2 } else { black_box(vexfs_mutual_recursion(black_box(depth - 1))) }
}

/// An address by way of a global offset table, which modules do not have.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_refused_relocation() -> usize {
    let address: usize;
    // SAFETY: it reads a pointer that the linker would have placed; never run.
    unsafe {
        asm!(
            "mov {}, qword ptr [rip + {}@GOTPCREL]",
            out(reg) address,
            sym symbol_of_another_object,
            options(nostack, readonly),
        );
    }
    address
}

/// An indirect call that goes past the kernel's thunk.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_naked_branch(function: extern "C" fn()) {
    // SAFETY: never run.
    unsafe { asm!("call {}", in(reg) function, clobber_abi("C")) }
}
