// SPDX-License-Identifier: GPL-2.0-only
//! The file system as one object that a kernel module links: entry points that C calls, and the
//! host that the core asks for, made of functions that C gives.
//!
//! The boundary speaks integers, byte ranges and opaque handles. Results are negative errno, as
//! everywhere in the kernel; functions of this object are named `vexfs_*`, those it asks for
//! `vexfs_host_*`. `kernel/check` shows that nothing that these entry points reach can panic,
//! abort for want of memory, use a floating-point register or a large stack frame.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

extern crate alloc;

mod allocator;
mod attribute;
mod boundary;
mod check;
mod collection;
mod containers;
mod directory;
mod executor;
mod file;
mod host;
mod index;
mod inode;
mod kernels;
mod layout;
mod mapping;
mod mount;
mod observer;
mod request;
mod search;
mod vector;

unsafe extern "C" {
    /// No host has it: what refers to it does not load. A panic would end here, so an object
    /// without a reference to it has no panic.
    fn vexfs_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: it takes nothing and does not return.
    unsafe { vexfs_panic() }
}
