// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A value behind one of the host's locks.

use crate::error::{Error, Result};
use crate::host::{LockClass, Locks, RawLock};
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use vexfs_index::Executor;
use vexfs_memory::try_box;

/// A value that many may read or one may change.
pub(crate) struct Lock<T> {
    raw: Box<dyn RawLock>,
    /// On the heap, so that what holds locks stays small enough for a kernel's stack.
    value: Box<UnsafeCell<T>>,
}

// SAFETY: the raw lock is `Sync`, and gives out `&T` to several threads (needs `T: Sync`) and
// `&mut T` to one at a time (needs `T: Send`).
unsafe impl<T: Send + Sync> Sync for Lock<T> {}
// SAFETY: the raw lock is `Send`, the value may be moved when `T` may.
unsafe impl<T: Send> Send for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) fn try_new(locks: &dyn Locks, class: LockClass, value: T) -> Result<Self> {
        Ok(Self { raw: locks.new_lock(class)?, value: try_box(UnsafeCell::new(value))? })
    }

    pub(crate) fn read(&self) -> ReadGuard<'_, T> {
        self.raw.lock_shared();
        ReadGuard { lock: self }
    }

    /// As [`Lock::read`]. `Interrupted` when whoever asked wants no more.
    pub(crate) fn read_for(&self, executor: &dyn Executor) -> Result<ReadGuard<'_, T>> {
        if self.raw.lock_shared_interruptible() {
            return Ok(ReadGuard { lock: self });
        }
        // The thread was interrupted, which only matters to work that can be ended.
        if executor.is_cancelled() { Err(Error::Interrupted) } else { Ok(self.read()) }
    }

    /// As [`Lock::write`], for a lock that is hardly ever shared. `Interrupted` when whoever asked wants
    /// no more. Hosts can end the wait for a share, so it waits until it could have one.
    pub(crate) fn write_for(&self, executor: &dyn Executor) -> Result<WriteGuard<'_, T>> {
        loop {
            if let Some(guard) = self.try_write() {
                return Ok(guard);
            }
            drop(self.read_for(executor)?);
        }
    }

    pub(crate) fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        self.raw.try_lock_shared().then(|| ReadGuard { lock: self })
    }

    pub(crate) fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.raw.try_lock_exclusive().then(|| WriteGuard { lock: self })
    }

    pub(crate) fn write(&self) -> WriteGuard<'_, T> {
        self.raw.lock_exclusive();
        WriteGuard { lock: self }
    }
}

/// A share of the value, until dropped.
pub(crate) struct ReadGuard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: a share is held until this guard drops, so nobody changes the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_shared();
    }
}

/// The whole value, until dropped.
pub(crate) struct WriteGuard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the lock is held exclusively until this guard drops.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held exclusively until this guard drops, and `&mut self` makes this
        // the only reference taken through it.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock_exclusive();
    }
}
