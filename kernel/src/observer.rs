// SPDX-License-Identifier: GPL-2.0-only
//! What the core tells of goes to the C half, which has tracepoints for it.

use core::ffi::c_void;
use vexfs_core::{Committed, Loaded, Observer};

unsafe extern "C" {
    /// A transaction of the file system on `device` is durable: its generation, nodes written, and how
    /// long it took.
    fn vexfs_host_committed(device: *mut c_void, generation: u64, nodes: u64, nanoseconds: u64);
    /// A collection of the file system on `device` is in memory: its number, vectors, those in the
    /// graph, and how long it took.
    fn vexfs_host_loaded(
        device: *mut c_void,
        collection: u32,
        rows: u64,
        nodes: u64,
        nanoseconds: u64,
    );
}

/// The tracepoints, with the device to name in them.
pub struct Tracepoints(pub *mut c_void);

// SAFETY: the C half keeps the device for as long as the file system and reads it only.
unsafe impl Send for Tracepoints {}
// SAFETY: as above.
unsafe impl Sync for Tracepoints {}

impl Observer for Tracepoints {
    fn committed(&self, committed: &Committed) {
        let Committed { generation, nodes, nanoseconds } = *committed;
        // SAFETY: the device is the one that the C half handed over.
        unsafe { vexfs_host_committed(self.0, generation, nodes, nanoseconds) }
    }

    fn loaded(&self, loaded: &Loaded) {
        let Loaded { collection, rows, nodes, nanoseconds } = *loaded;
        // SAFETY: as above.
        unsafe { vexfs_host_loaded(self.0, collection, rows, nodes, nanoseconds) }
    }
}
