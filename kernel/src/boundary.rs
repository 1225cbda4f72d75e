// SPDX-License-Identifier: GPL-2.0-only
//! What crosses between C and Rust: results as negative errno, byte ranges, handles.

use alloc::boxed::Box;
use vexfs_core::{Error, Result};
use vexfs_memory::try_box;

/// 0, or the negative errno of the error.
pub fn status(result: Result<()>) -> i32 {
    match result {
        Ok(()) => 0,
        Err(error) => failure(&error),
    }
}

/// The negative errno of the error.
pub fn failure(error: &Error) -> i32 {
    error.errno().wrapping_neg()
}

/// A count that is no error, or the negative errno of the error.
pub fn count(result: Result<usize>) -> i64 {
    match result {
        Ok(count) => i64::try_from(count).unwrap_or(i64::MAX),
        Err(error) => i64::from(failure(&error)),
    }
}

/// Writes the value to where C wants it; 0, or the negative errno of the error.
///
/// # Safety
/// `place` may be written to.
pub unsafe fn deliver<T>(result: Result<T>, place: *mut T) -> i32 {
    match result {
        Ok(value) => {
            // SAFETY: the caller's word.
            unsafe { place.write(value) };
            0
        }
        Err(error) => failure(&error),
    }
}

/// Puts the value on the heap and its handle where C wants it; 0, or a negative errno.
///
/// # Safety
/// `place` may be written to.
pub unsafe fn hand_over<T>(result: Result<T>, place: *mut *mut T) -> i32 {
    let boxed = result.and_then(|value| Ok(try_box(value)?));
    // SAFETY: the caller's word.
    unsafe { deliver(boxed.map(Box::into_raw), place) }
}

/// The `length` bytes at `start`; none for a null pointer.
///
/// # Safety
/// A `start` that is not null points to `length` bytes that nobody changes during `'a`.
pub unsafe fn bytes<'a>(start: *const u8, length: usize) -> &'a [u8] {
    if start.is_null() {
        return &[];
    }
    // SAFETY: the caller's word.
    unsafe { core::slice::from_raw_parts(start, length) }
}

/// The `length` bytes at `start`, to write; none for a null pointer.
///
/// # Safety
/// A `start` that is not null points to `length` initialised bytes that nobody else uses during
/// `'a`.
pub unsafe fn bytes_mut<'a>(start: *mut u8, length: usize) -> &'a mut [u8] {
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the caller's word.
    unsafe { core::slice::from_raw_parts_mut(start, length) }
}

/// Copies `source` to the front of `buffer`; `Range` if it does not fit.
pub fn copy_out(source: &[u8], buffer: &mut [u8]) -> Result<usize> {
    let place = buffer.get_mut(..source.len()).ok_or(Error::Range)?;
    place.copy_from_slice(source);
    Ok(source.len())
}
