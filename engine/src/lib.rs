// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! VexFS in a process: a file system with vector search on an image file or a block device, and the
//! same through the kernel where it is mounted.
//!
//! [`Image`] is where to begin. An image has one writer or many readers, of all processes; within a
//! process any number of threads share it. [`Volume`] is for programs that work on an image as well
//! as on a [`Mount`].
//!
//! Paths in an image are absolute and may hold any bytes but NUL. Errors name the object they are
//! about and carry the errno that Linux has for it.
#![deny(unsafe_op_in_unsafe_fn)]

mod behalf;
mod committer;
mod copy;
mod device;
mod entry;
mod error;
mod file;
mod files;
mod host;
mod host_files;
mod image;
mod inode_locks;
mod ioctl;
mod listing;
mod mount;
mod mounts;
mod open_file;
mod path;
mod staged;
mod threads;
mod vectors;
mod volume;

pub use copy::{CopyOptions, CopyReport, Progress, copy, copy_stream};
pub use device::{Access, Device};
pub use entry::Removed;
pub use error::{Error, Reason, Result, describe};
pub use file::File;
pub use files::{Attributes, Files, Xattr};
pub use host::{host, now};
pub use host_files::HostFile;
pub use image::{CreateOptions, Image, OpenOptions};
pub use listing::{Entry, ReadDir, Walk, WalkEntry};
pub use mount::{Mount, MountScope};
pub use mounts::{Mounted, find_mount};
pub use open_file::OpenFile;
pub use path::{LastLink, SYMLINKS_MAX};
pub use threads::Threads;
pub use vectors::{FileVectors, FileVersion, Hit, Vector};
/// The file system itself, of which this crate re-exports what its functions speak of.
pub use vexfs_core as core;
pub use vexfs_core::{
    Error as CoreError, FileSystemStatus, Inode, NewInode, RenameMode, SetAttributes, Timestamp,
    XattrMode,
};
/// Shapes of vectors: element types and metrics.
pub use vexfs_simd as simd;
pub use volume::{EachVector, ImageScope, Scope, Volume};
