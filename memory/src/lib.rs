// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Containers whose every allocation may fail and none of which panics.
//!
//! The kernel builds `alloc` with `no_global_oom_handling`, where `Vec::push`, `Box::new` and
//! `Arc::new` do not exist. What the other `no_std` crates need in their place lives here, and
//! only here: [`TryVec`] for vectors, [`try_box`], [`zeroed_bytes`], [`copied_bytes`], the reference-counted
//! [`Shared`], the hash table [`Table`] keyed by `u64`, and [`sort_by`], a sort that neither
//! allocates nor panics.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::unwrap_used))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod shared;
mod sort;
mod table;
mod vector;

pub use shared::Shared;
pub use sort::sort_by;
pub use table::Table;
pub use vector::{TryVec, copied_bytes, try_box, zeroed_bytes};

/// The allocator had no memory for a request. Nothing was changed by the call that returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory;
