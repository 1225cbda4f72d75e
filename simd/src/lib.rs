// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Distances between vectors.
//!
//! The crate has two halves. The vocabulary ([`ElementType`], [`Metric`], [`Shape`],
//! [`Distance`], [`Kernels`]) holds no floating point: the file-system core, which a kernel builds
//! without a floating-point unit, sees distances only as ordered integers. The kernels (feature
//! `float`) are the one place where floating point lives.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod prefetch;
mod vocabulary;

#[cfg(all(feature = "float", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "float", target_arch = "x86_64"))]
mod avx512;
#[cfg(feature = "float")]
mod codec;
#[cfg(feature = "float")]
mod conversion;
#[cfg(feature = "float")]
mod detection;
#[cfg(feature = "float")]
mod half;
#[cfg(all(feature = "float", target_arch = "aarch64"))]
mod neon;
#[cfg(feature = "float")]
mod portable;
#[cfg(feature = "float")]
mod row;
#[cfg(feature = "float")]
mod scan;
#[cfg(feature = "float")]
mod set;

#[cfg(feature = "float")]
pub use conversion::{from_f32, to_f32};
#[cfg(feature = "float")]
pub use detection::{detect, set, sets};
pub use prefetch::{prefetch, prefetch_line};
pub use vocabulary::{
    Codec, Distance, ElementType, InvalidRow, Kernels, MAX_DIMENSION, Metric, RowTerm, Shape,
};
