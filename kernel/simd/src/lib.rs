// SPDX-License-Identifier: GPL-2.0-only
//! The distance kernels as an object of their own, the only half of the module that may use
//! floating-point and vector registers.
//!
//! Every entry point is called between `kernel_fpu_begin` and `kernel_fpu_end`,
//! [`vexfs_simd_detect`] first and once, when the module is loaded. No float crosses the boundary in a register. The kernel
//! keeps its stack aligned to 8 bytes, where compiled vector code counts on 16, so the entry points
//! align it before anything else.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../src/request.rs"]
mod request;

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use request::Request;
use vexfs_simd::{Distance, Kernels};

unsafe extern "C" {
    /// No host has it: what refers to it does not load, so a loadable object has no panic.
    fn vexfs_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { vexfs_panic() }
}

/// The kernels that this processor runs best.
struct Chosen(UnsafeCell<Option<&'static dyn Kernels>>);

// SAFETY: it is written by `vexfs_simd_detect` alone, whose caller vouches that nothing else of
// this object runs at the time.
unsafe impl Sync for Chosen {}

static CHOSEN: Chosen = Chosen(UnsafeCell::new(None));

fn chosen() -> Option<&'static dyn Kernels> {
    // SAFETY: nothing writes while any other function of this object runs.
    unsafe { *CHOSEN.0.get() }
}

/// Which instructions the chosen kernels use, as ASCII without a terminator, for the kernel's log.
#[repr(C)]
pub struct Instructions {
    /// The first byte of the name, which stays for as long as the module.
    pub name: *const u8,
    /// Bytes of the name.
    pub name_bytes: usize,
}

/// An entry point that calls a function of one argument on a stack aligned to 64 bytes.
macro_rules! aligned_entry {
    ($(#[$attribute:meta])* $name:ident, $argument:ty, $inner:ident) => {
        $(#[$attribute])*
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(argument: *mut $argument) {
            naked_asm!(
                "endbr64",
                "push rbp",
                "mov rbp, rsp",
                "and rsp, -64",
                "call {inner}",
                "mov rsp, rbp",
                "pop rbp",
                "jmp __x86_return_thunk",
                inner = sym $inner,
            )
        }
    };
}

aligned_entry! {
    /// Chooses the kernels for this processor and tells which.
    ///
    /// # Safety
    /// The argument points to writable memory for an [`Instructions`]; a floating-point section is
    /// open; no other function of this object runs at the same time.
    vexfs_simd_detect, Instructions, detect
}

aligned_entry! {
    /// Does what the request asks and writes the answer there.
    ///
    /// # Safety
    /// The argument points to a valid [`Request`] that nobody else uses; a floating-point section
    /// is open.
    vexfs_simd_run, Request<'_>, run
}

unsafe extern "C" fn detect(instructions: *mut Instructions) {
    let kernels = vexfs_simd::detect();
    let name = kernels.name();
    // SAFETY: the caller vouches for the argument, and that nothing reads what is chosen now.
    unsafe {
        *CHOSEN.0.get() = Some(kernels);
        instructions.write(Instructions { name: name.as_ptr(), name_bytes: name.len() });
    }
}

unsafe extern "C" fn run(request: *mut Request<'_>) {
    // SAFETY: the caller vouches for the pointer.
    let request = unsafe { &mut *request };
    let Some(kernels) = chosen() else {
        // Every other answer says no from the start.
        if let Request::Distances { distances, .. } = request {
            distances.fill(Distance::MAX);
        }
        return;
    };
    match request {
        Request::Check { shape, row, answer } => *answer = kernels.check(shape, row),
        Request::Distances { shape, query, term, rows, terms, distances } => {
            kernels.distances(shape, (query, *term), rows, terms, distances);
        }
        Request::Train { shape, element, sample, answer } => {
            *answer = kernels.train(shape, *element, sample);
        }
        Request::Encode { shape, codec, row, term, code, answer } => {
            *answer = kernels.encode(shape, codec, (row, *term), code);
        }
    }
}
