// SPDX-License-Identifier: GPL-2.0-only
//! The heap: the kernel's allocator by way of the C half, which allocates without entering a file
//! system while one of our transactions is open.

use core::alloc::{GlobalAlloc, Layout};

unsafe extern "C" {
    /// `size` bytes (not zero) aligned to `align`, a power of two; zeroed if `zeroed`. Null when
    /// there is no memory.
    fn vexfs_host_allocate(size: usize, align: usize, zeroed: bool) -> *mut u8;
    /// Gives back what `vexfs_host_allocate` returned for this size.
    fn vexfs_host_free(pointer: *mut u8, size: usize);
}

struct KernelHeap;

// SAFETY: the C half returns null or fresh memory of the size and alignment asked for, which stays
// valid until `vexfs_host_free` is called with it, and neither function unwinds.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller of `alloc` vouches for a size above zero, a `Layout` for its
        // alignment.
        unsafe { vexfs_host_allocate(layout.size(), layout.align(), false) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        unsafe { vexfs_host_allocate(layout.size(), layout.align(), true) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller of `dealloc` vouches that `pointer` came from this allocator with
        // this layout and is not used again.
        unsafe { vexfs_host_free(pointer, layout.size()) }
    }
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;
