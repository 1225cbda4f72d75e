// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Growing a `Vec` and filling a `Box` without the calls that abort when memory is short.

use crate::OutOfMemory;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr;

/// What `Vec` offers only infallibly, in a form that returns [`OutOfMemory`] instead of aborting.
pub trait TryVec<T> {
    /// Appends `value`; amortized constant time.
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory>;
    /// Inserts `value` before `at`; an `at` beyond the end appends.
    fn try_insert(&mut self, at: usize, value: T) -> Result<(), OutOfMemory>;
    /// Appends a copy of `values`.
    fn try_extend(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy;
    /// Sets the length, dropping the tail or appending copies of `value`.
    fn try_resize(&mut self, length: usize, value: T) -> Result<(), OutOfMemory>
    where
        T: Copy;
}

impl<T> TryVec<T> for Vec<T> {
    #[inline]
    fn try_push(&mut self, value: T) -> Result<(), OutOfMemory> {
        if self.len() == self.capacity() {
            self.try_reserve(1).map_err(|_| OutOfMemory)?;
        }
        let length = self.len();
        let Some(slot) = self.spare_capacity_mut().first_mut() else {
            return Err(OutOfMemory);
        };
        slot.write(value);
        // SAFETY: the slot at `length` is within the capacity and was just initialised.
        unsafe { self.set_len(length + 1) };
        Ok(())
    }

    fn try_insert(&mut self, at: usize, value: T) -> Result<(), OutOfMemory> {
        self.try_push(value)?;
        if let Some(tail) = self.get_mut(at..) {
            // `rotate_right` by one of a non-empty slice moves the pushed value to `at`.
            if !tail.is_empty() {
                tail.rotate_right(1);
            }
        }
        Ok(())
    }

    fn try_extend(&mut self, values: &[T]) -> Result<(), OutOfMemory>
    where
        T: Copy,
    {
        self.try_reserve(values.len()).map_err(|_| OutOfMemory)?;
        let length = self.len();
        let spare = self.spare_capacity_mut();
        if spare.len() < values.len() {
            return Err(OutOfMemory);
        }
        // SAFETY: `spare` holds at least `values.len()` slots (checked above), the two ranges are
        // distinct allocations, and `T: Copy` makes a bitwise copy a valid value; the length is
        // raised only over slots that were written.
        unsafe {
            ptr::copy_nonoverlapping(values.as_ptr(), spare.as_mut_ptr().cast::<T>(), values.len());
            self.set_len(length + values.len());
        }
        Ok(())
    }

    fn try_resize(&mut self, length: usize, value: T) -> Result<(), OutOfMemory>
    where
        T: Copy,
    {
        let old = self.len();
        if length <= old {
            self.truncate(length);
            return Ok(());
        }
        let added = length - old;
        self.try_reserve(added).map_err(|_| OutOfMemory)?;
        let mut written = 0;
        for slot in self.spare_capacity_mut().iter_mut().take(added) {
            slot.write(value);
            written += 1;
        }
        // SAFETY: the `written` slots after `old` are within the capacity and initialised.
        unsafe { self.set_len(old + written) };
        if written == added { Ok(()) } else { Err(OutOfMemory) }
    }
}

/// Moves `value` to the heap.
pub fn try_box<T>(value: T) -> Result<Box<T>, OutOfMemory> {
    let layout = Layout::new::<T>();
    if layout.size() == 0 {
        // SAFETY: a zero-sized value needs no memory; a dangling, aligned pointer is its box.
        // The value is forgotten here and dropped by the box.
        return Ok(unsafe {
            core::mem::forget(value);
            Box::from_raw(ptr::NonNull::<T>::dangling().as_ptr())
        });
    }
    // SAFETY: the layout has a size above zero.
    let pointer = unsafe { alloc::alloc::alloc(layout) }.cast::<T>();
    if pointer.is_null() {
        return Err(OutOfMemory);
    }
    // SAFETY: `pointer` is fresh memory of the global allocator with the layout of `T`, which is
    // exactly what `Box` frees; it is written before the box can be used.
    unsafe {
        pointer.write(value);
        Ok(Box::from_raw(pointer))
    }
}

/// A zeroed byte buffer of `length` bytes.
pub fn zeroed_bytes(length: usize) -> Result<Box<[u8]>, OutOfMemory> {
    // SAFETY: the memory is zeroed, or there is none.
    unsafe { filled_bytes(length, |layout| alloc::alloc::alloc_zeroed(layout)) }
}

/// A copy of `bytes`.
pub fn copied_bytes(bytes: &[u8]) -> Result<Box<[u8]>, OutOfMemory> {
    let copy = |layout| {
        // SAFETY: `filled_bytes` asks for memory of a size above zero only. What there is has the
        // length of `bytes`, which lies elsewhere.
        unsafe {
            let pointer = alloc::alloc::alloc(layout);
            if !pointer.is_null() {
                ptr::copy_nonoverlapping(bytes.as_ptr(), pointer, bytes.len());
            }
            pointer
        }
    };
    // SAFETY: all of the memory has been written, or there is none.
    unsafe { filled_bytes(bytes.len(), copy) }
}

/// A byte buffer of `length` bytes, by `allocate` unless it is empty.
///
/// # Safety
/// `allocate` returns memory of the global allocator with the layout that it is given (whose size is
/// above zero), all of it written, or null.
unsafe fn filled_bytes(
    length: usize,
    allocate: impl FnOnce(Layout) -> *mut u8,
) -> Result<Box<[u8]>, OutOfMemory> {
    let layout = Layout::array::<u8>(length).map_err(|_| OutOfMemory)?;
    let pointer = match length {
        0 => ptr::NonNull::<u8>::dangling().as_ptr(),
        _ => allocate(layout),
    };
    if pointer.is_null() {
        return Err(OutOfMemory);
    }
    // SAFETY: `length` bytes of the global allocator with the layout of `[u8]`, written by the caller's
    // word (or a dangling pointer for none), are a valid boxed slice.
    Ok(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(pointer, length)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn push_insert_extend_and_resize_agree_with_vec() {
        let mut v: Vec<u32> = Vec::new();
        for i in 0..100 {
            v.try_push(i).unwrap();
        }
        v.try_insert(0, 7).unwrap();
        v.try_insert(50, 8).unwrap();
        v.try_insert(102, 9).unwrap();
        v.try_extend(&[1, 2, 3]).unwrap();
        let mut w: Vec<u32> = (0..100).collect();
        w.insert(0, 7);
        w.insert(50, 8);
        w.push(9);
        w.extend([1, 2, 3]);
        assert_eq!(v, w);
        v.try_resize(10, 0).unwrap();
        v.try_resize(12, 5).unwrap();
        assert_eq!(&v[8..], &[7, 8, 5, 5]);
    }

    #[test]
    fn boxes_hold_what_was_put_in() {
        assert_eq!(*try_box([3u64; 9]).unwrap(), [3; 9]);
        try_box(()).unwrap();
        assert!(zeroed_bytes(4096).unwrap().iter().all(|b| *b == 0));
        assert_eq!(zeroed_bytes(0).unwrap().len(), 0);
        assert_eq!(zeroed_bytes(usize::MAX), Err(OutOfMemory));
        assert_eq!(*copied_bytes(&[1, 2, 3]).unwrap(), [1, 2, 3]);
        assert_eq!(copied_bytes(&[]).unwrap().len(), 0);
    }
}
