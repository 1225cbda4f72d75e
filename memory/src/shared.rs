// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A reference-counted value, as `Arc` without weak references and with a fallible constructor.

use crate::{OutOfMemory, try_box};
use alloc::boxed::Box;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering, fence};

/// A count from here on is saturated, as in the `refcount_t` of Linux: it counts no more, and the value
/// is never dropped. Handles may be forgotten without end, and a count that wrapped around would drop
/// a value still in use.
const SATURATED_FROM: usize = isize::MAX as usize;
/// What a saturated count is set to: so far from both ends that threads which count at the same time
/// reach neither.
const SATURATED: usize = SATURATED_FROM + SATURATED_FROM / 2;

struct Counted<T> {
    references: AtomicUsize,
    value: T,
}

/// A shared, immutable value on the heap; cloning it shares it.
pub struct Shared<T> {
    pointer: NonNull<Counted<T>>,
}

// SAFETY: a `Shared` gives out `&T` in every thread that holds a clone and drops the `T` in
// whichever thread lets the last clone go, which is sound when `T` is both `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as above; `&Shared<T>` allows cloning, so it needs the same bounds.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Moves `value` to the heap with a count of one.
    pub fn try_new(value: T) -> Result<Self, OutOfMemory> {
        Self::with_references(value, 1)
    }

    fn with_references(value: T, references: usize) -> Result<Self, OutOfMemory> {
        let counted = try_box(Counted { references: AtomicUsize::new(references), value })?;
        Ok(Self { pointer: NonNull::from(Box::leak(counted)) })
    }

    /// The value to change, when this is the only handle.
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if this.counted().references.load(Ordering::Acquire) != 1 {
            return None;
        }
        // SAFETY: the only handle is borrowed exclusively, so no other reference to the value
        // exists, and `Acquire` orders the uses by handles that are gone before this one.
        Some(unsafe { &mut this.pointer.as_mut().value })
    }

    /// Whether two handles share one value.
    pub fn same(a: &Self, b: &Self) -> bool {
        a.pointer == b.pointer
    }

    /// How many handles there are; another thread may change it at any time.
    pub fn references(this: &Self) -> usize {
        this.counted().references.load(Ordering::Acquire)
    }

    fn counted(&self) -> &Counted<T> {
        // SAFETY: the allocation lives as long as any handle, and `self` is one.
        unsafe { self.pointer.as_ref() }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        let references = &self.counted().references;
        // A new handle is made from an existing one, so no ordering is needed.
        if references.fetch_add(1, Ordering::Relaxed) >= SATURATED_FROM {
            references.store(SATURATED, Ordering::Relaxed);
        }
        Self { pointer: self.pointer }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.counted().value
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let references = &self.counted().references;
        let before = references.fetch_sub(1, Ordering::Release);
        if before >= SATURATED_FROM {
            references.store(SATURATED, Ordering::Relaxed);
        }
        if before == 1 {
            // All uses by other handles happen before the value is dropped.
            fence(Ordering::Acquire);
            // SAFETY: this was the last handle; the pointer came from `Box::leak`.
            drop(unsafe { Box::from_raw(self.pointer.as_ptr()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::vec::Vec;

    /// Counts how often it is dropped.
    struct Counter<'a>(&'a AtomicUsize);

    impl Drop for Counter<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_last_handle_drops_the_value_once() {
        let drops = AtomicUsize::new(0);
        let shared = Shared::try_new(Counter(&drops)).unwrap();
        thread::scope(|scope| {
            let handles: Vec<_> = (0..4)
                .map(|_| {
                    let mine = shared.clone();
                    scope.spawn(move || drop((0..1000).map(|_| mine.clone()).collect::<Vec<_>>()))
                })
                .collect();
            for handle in handles {
                handle.join().unwrap();
            }
        });
        assert_eq!((drops.load(Ordering::SeqCst), Shared::references(&shared)), (0, 1));
        drop(shared);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_count_of_forgotten_handles_saturates_before_it_overflows() {
        let drops = AtomicUsize::new(0);
        // As after so many times of `core::mem::forget(shared.clone())`.
        for references in [SATURATED_FROM - 1, SATURATED_FROM, usize::MAX - 1, usize::MAX] {
            let mut shared = Shared::with_references(Counter(&drops), references).unwrap();
            for _ in 0..8 {
                core::mem::forget(shared.clone());
                drop(shared.clone());
                assert!(Shared::references(&shared) >= SATURATED_FROM - 1);
            }
            assert!(Shared::get_mut(&mut shared).is_none());
            drop(shared);
        }
        assert_eq!(drops.load(Ordering::SeqCst), 0);
    }
}
