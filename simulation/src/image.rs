// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The bytes of a device, in pages that copies of the image share until one of them is changed.

use std::sync::Arc;

/// Bytes of a page: what the core reads and writes multiples of.
pub const PAGE_BYTES: usize = 4096;
/// Bytes that a device writes all or nothing of.
pub const SECTOR_BYTES: usize = 512;

type Page = [u8; PAGE_BYTES];

/// The bytes of a device. Cloning one costs a pointer for each page.
#[derive(Clone)]
pub struct Image {
    /// `None` is a page of zeros.
    pages: Vec<Option<Arc<Page>>>,
}

impl Image {
    /// An image of zeros; `bytes` is a multiple of [`PAGE_BYTES`].
    pub fn new(bytes: u64) -> Self {
        assert_eq!(bytes % PAGE_BYTES as u64, 0, "size of an image in whole pages");
        Self { pages: vec![None; bytes as usize / PAGE_BYTES] }
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES) as u64
    }

    /// Fills `buffer`, whole pages, from `offset`, the start of a page.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        let first = offset as usize / PAGE_BYTES;
        for (at, part) in buffer.chunks_mut(PAGE_BYTES).enumerate() {
            match &self.pages[first + at] {
                Some(page) => part.copy_from_slice(&page[..part.len()]),
                None => part.fill(0),
            }
        }
    }

    /// Writes whole sectors at the start of a sector.
    pub fn write(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(offset as usize % SECTOR_BYTES, 0);
        let (mut offset, mut data) = (offset as usize, data);
        while !data.is_empty() {
            let within = offset % PAGE_BYTES;
            let (part, rest) = data.split_at(data.len().min(PAGE_BYTES - within));
            let page = self.pages[offset / PAGE_BYTES].get_or_insert_with(|| Arc::new([0; _]));
            Arc::make_mut(page)[within..within + part.len()].copy_from_slice(part);
            offset += part.len();
            data = rest;
        }
    }

    /// What discarded pages read as: bytes that are valid nowhere.
    pub fn spoil(&mut self, offset: u64, length: u64) {
        let garbage = Arc::new([0xd5; PAGE_BYTES]);
        let first = offset as usize / PAGE_BYTES;
        for page in &mut self.pages[first..first + length as usize / PAGE_BYTES] {
            *page = Some(garbage.clone());
        }
    }

    /// Whether both hold the same bytes.
    pub fn same(&self, other: &Self) -> bool {
        let zeros = [0; PAGE_BYTES];
        self.pages.len() == other.pages.len()
            && self.pages.iter().zip(&other.pages).all(|pair| match pair {
                (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
                (None, None) => true,
                (Some(page), None) | (None, Some(page)) => **page == zeros,
            })
    }
}
