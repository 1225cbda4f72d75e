// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! VexFS in a process: a file system with vector search on an image file or a block device.
//!
//! [`Image`] is where to begin. An image has one writer or many readers, of all processes; within a
//! process any number of threads share it.
//!
//! Paths in an image are absolute and may hold any bytes but NUL. Errors name the object they are
//! about and carry the errno that Linux has for it.
#![deny(unsafe_op_in_unsafe_fn)]

mod clone;
mod committer;
mod copy;
mod device;
mod entry;
mod error;
mod file;
mod host;
mod image;
mod inode_locks;
mod listing;
mod path;
mod threads;
mod vectors;

pub use copy::{CopyOptions, CopyReport, Progress};
pub use device::{Access, Device};
pub use entry::Removed;
pub use error::{Error, Reason, Result, describe};
pub use file::File;
pub use host::{host, now};
pub use image::{CreateOptions, Image, OpenOptions};
pub use listing::{Entry, ReadDir, Walk, WalkEntry};
pub use path::{LastLink, SYMLINKS_MAX};
pub use threads::Threads;
pub use vectors::{Hit, Vector};
/// The file system itself, of which this crate re-exports what its functions speak of.
pub use vexfs_core as core;
pub use vexfs_core::{
    Error as CoreError, FileSystemStatus, Inode, NewInode, RenameMode, SetAttributes, Timestamp,
    XattrMode,
};
/// Shapes of vectors: element types and metrics.
pub use vexfs_simd as simd;
