// SPDX-License-Identifier: GPL-2.0-only
//! Distances and codes: the core's calls handed to the C half, which enters the SIMD object between
//! `kernel_fpu_begin` and `kernel_fpu_end`.

use crate::request::Request;
use core::ffi::c_void;
use vexfs_simd::{Codec, Distance, ElementType, InvalidRow, Kernels, RowTerm, Shape};

unsafe extern "C" {
    /// Calls `vexfs_simd_run` of the SIMD object with this argument, in a floating-point section.
    fn vexfs_host_simd_run(request: *mut c_void);
}

/// The kernels of the SIMD object.
pub struct HostKernels;

fn run(request: &mut Request<'_>) {
    // SAFETY: it is a request that lives through the call, whose answer is written there.
    unsafe { vexfs_host_simd_run((&raw mut *request).cast()) }
}

impl Kernels for HostKernels {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn check(&self, shape: &Shape, row: &[u8]) -> Result<RowTerm, InvalidRow> {
        let answer = Err(InvalidRow::Length);
        let mut request = Request::Check { shape: *shape, row, answer };
        run(&mut request);
        match request {
            Request::Check { answer, .. } => answer,
            _ => Err(InvalidRow::Length),
        }
    }

    fn distances(
        &self,
        shape: &Shape,
        (query, term): (&[u8], RowTerm),
        rows: &[&[u8]],
        terms: &[RowTerm],
        distances: &mut [Distance],
    ) {
        run(&mut Request::Distances { shape: *shape, query, term, rows, terms, distances });
    }

    fn train(&self, shape: &Shape, element: ElementType, sample: &[&[u8]]) -> Option<Codec> {
        let mut request = Request::Train { shape: *shape, element, sample, answer: None };
        run(&mut request);
        match request {
            Request::Train { answer, .. } => answer,
            _ => None,
        }
    }

    fn encode(
        &self,
        shape: &Shape,
        codec: &Codec,
        (row, term): (&[u8], RowTerm),
        code: &mut [u8],
    ) -> Option<RowTerm> {
        let mut request =
            Request::Encode { shape: *shape, codec: *codec, row, term, code, answer: None };
        run(&mut request);
        match request {
            Request::Encode { answer, .. } => answer,
            _ => None,
        }
    }
}
