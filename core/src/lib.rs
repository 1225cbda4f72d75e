// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The VexFS core: the file system and its vector search, for any host.
#![no_std]
#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg_attr(
    test,
    allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod attributes;
mod bytes;
mod cache;
pub mod check;
mod clone;
mod codes;
mod collection;
mod collection_graph;
mod collection_memory;
mod confirm;
#[cfg(test)]
mod data_fault_tests;
#[cfg(test)]
mod data_tests;
mod directory;
mod dump;
mod error;
mod extent;
mod file;
mod filesystem;
mod filter;
#[cfg(test)]
mod format_tests;
mod hole;
mod host;
mod inline;
mod inode;
mod key;
pub mod layout;
mod link;
mod lock;
mod mapped;
mod names;
#[cfg(test)]
mod namespace_tests;
mod node;
mod open_file;
mod orphan;
mod rename;
pub mod repair;
mod rights;
#[cfg(test)]
mod rights_tests;
mod row_set;
mod scope;
mod search;
#[cfg(test)]
mod search_tests;
mod shared;
mod shift;
#[cfg(test)]
mod shift_tests;
mod space;
mod stream;
#[cfg(test)]
mod stream_tests;
mod superblock;
#[cfg(test)]
mod testing;
mod tree;
#[cfg(test)]
mod tree_tests;
mod trim;
#[cfg(test)]
mod trim_tests;
mod vector;
mod vector_list;
#[cfg(test)]
mod vector_tests;
mod xattr;

pub use attributes::SetAttributes;
pub use collection::{
    BUILD_EFFORT_DEFAULT, BUILD_EFFORT_MAX, COLLECTIONS_MAX, CollectionInfo, CollectionOptions,
    DEGREE_DEFAULT, MODEL_BYTES_MAX, Quantization,
};
pub use collection_graph::{GRAPH_ROWS_MIN, Maintenance};
pub use collection_memory::Released;
pub use directory::{DirectoryEntry, NewAttribute, NewInode};
pub use dump::{DumpRecord, SuperblockCopy, dump_superblocks, kind_name};
pub use error::{DeviceError, Error, Result};
pub use filesystem::{FileSystem, FileSystemStatus, FormatOptions, INODES_MAX, OpenOptions};
pub use filter::Filter;
pub use host::{
    BlockDevice, Checksum, Clock, Committed, Host, Loaded, LockClass, Locks, Observer, Random,
    RawLock, Timestamp, Unobserved,
};
pub use inode::{
    Inode, LINKS_MAX, MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE,
    MODE_SOCKET, MODE_SYMLINK, MODE_TYPE,
};
pub use link::{DIRECTORY_DEPTH_MAX, PATH_DEPTH_MAX};
pub use mapped::{Completion, ExtentInfo, InFlight, MappedExtent, MappedState};
pub use rename::RenameMode;
pub use rights::{Caller, Credentials, Monitor, Want};
pub use search::{
    Completeness, CutReason, EFFORT_DEFAULT, EachHit, QUERIES_MAX, SEARCH_EFFORT_MAX,
    SEARCH_HITS_MAX, SEARCH_K_MAX, SEARCH_VECTOR_BYTES_MAX, SearchHit, SearchPlan, SearchReport,
    SearchRequest,
};
pub use stream::WRITE_BYTES_MAX;
pub use vector::{PUT_BATCH_VECTORS_MAX, PUT_VECTORS_MAX, PutReport, VectorInfo, VectorPut};
pub use vexfs_index::{Executor, Serial};
pub use xattr::XattrMode;
