// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! An allocator that fails on demand: the n-th allocation of a call, in the thread that makes it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, but for what [`failing`] asks. A test binary makes it its global one.
pub struct FailingAllocator;

#[derive(Clone, Copy)]
struct Plan {
    /// Allocations are counted, and may fail.
    armed: bool,
    /// How many there have been.
    count: u64,
    /// The first that fails; none does when it is 0.
    fails: u64,
    /// Whether all later ones fail too.
    onwards: bool,
}

const OFF: Plan = Plan { armed: false, count: 0, fails: 0, onwards: false };

thread_local! {
    // Constant and without a destructor, so that using it allocates nothing.
    static PLAN: Cell<Plan> = const { Cell::new(OFF) };
}

/// Counts an allocation; whether it is one to fail.
fn fails() -> bool {
    let mut plan = PLAN.get();
    if !plan.armed {
        return false;
    }
    plan.count += 1;
    PLAN.set(plan);
    plan.fails != 0 && (plan.count == plan.fails || (plan.onwards && plan.count > plan.fails))
}

// SAFETY: every request is answered by the system's allocator or with null, which `GlobalAlloc`
// allows at any time; a failed `realloc` leaves the old block as it was.
unsafe impl GlobalAlloc for FailingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if fails() {
            return core::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `call` with its allocation number `nth` failing (1 is the first; 0 fails none), and all
/// later ones with `onwards`. Returns what it returned and how many allocations it asked for; if
/// that is less than `nth`, none has failed.
pub fn failing<R>(nth: u64, onwards: bool, call: impl FnOnce() -> R) -> (R, u64) {
    PLAN.set(Plan { armed: true, count: 0, fails: nth, onwards });
    let result = call();
    let count = PLAN.get().count;
    PLAN.set(OFF);
    (result, count)
}

/// Runs `call`, a part of the simulation that has no memory limit, without counting or failing.
pub fn exempt<R>(call: impl FnOnce() -> R) -> R {
    let plan = PLAN.get();
    PLAN.set(Plan { armed: false, ..plan });
    let result = call();
    PLAN.set(plan);
    result
}
