// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! How much memory an open file system takes, and how much a small change writes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use vexfs_engine::{CreateOptions, Image, OpenOptions};

/// Counts the bytes that are allocated now.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn an_open_empty_file_system_takes_less_than_a_mebibyte_of_heap() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("empty.vexfs");
    Image::create(&path, Some(1 << 30), &CreateOptions::default()).unwrap().close().unwrap();
    for options in [OpenOptions::default(), OpenOptions::read_only()] {
        let before = LIVE_BYTES.load(Ordering::Relaxed);
        let image = Image::open(&path, &options).unwrap();
        assert_eq!(image.read_dir("/").unwrap().count(), 0);
        let opened = LIVE_BYTES.load(Ordering::Relaxed) - before;
        println!("{opened} bytes, read only: {}", options.read_only);
        assert!(opened < 1 << 20, "an open, empty file system takes {opened} bytes");
        image.close().unwrap();
    }
}
