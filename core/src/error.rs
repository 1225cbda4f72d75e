// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What can go wrong, and the errno that says so at a system-call boundary.

use vexfs_memory::OutOfMemory;

/// The result of everything in this crate.
pub type Result<T> = core::result::Result<T, Error>;

/// Why an operation was refused or failed. An operation that returns an error has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `ENOENT`: no such name, object, collection or vector.
    NotFound,
    /// `EEXIST`: the name is taken.
    Exists,
    /// `ENOTDIR`: a directory was needed.
    NotDirectory,
    /// `EISDIR`: a directory was not expected.
    IsDirectory,
    /// `ENOTEMPTY`: the directory holds entries.
    NotEmpty,
    /// `ENAMETOOLONG`: a name of more than 255 bytes, or a target or path over its limit.
    NameTooLong,
    /// `EINVAL`: an argument out of its range; the text says which.
    Invalid(&'static str),
    /// `E2BIG`: a value or request over its named limit; the text says which.
    TooBig(&'static str),
    /// `EFBIG`: beyond the largest file.
    FileTooBig,
    /// `EMLINK`: more links than an inode can count.
    TooManyLinks,
    /// `ENOSPC`: the device is full.
    NoSpace,
    /// `EROFS`: opened for reading, or a feature bit allows reading only.
    ReadOnly,
    /// `EPERM`: nobody may (an immutable file, a reserved name).
    NotPermitted,
    /// `ENODATA`: no such extended attribute.
    NoAttribute,
    /// `ERANGE`: the answer does not fit the space given for it.
    Range,
    /// `ENOTSUP`: the operation has no meaning for this object; the text says why.
    NotSupported(&'static str),
    /// `EBUSY`: in use.
    Busy,
    /// `ENXIO`: no such offset (a seek for data beyond the last).
    NoSuchOffset,
    /// `ESTALE`: an object number of a file that is gone, or a content version that has moved on.
    Stale,
    /// `ENOMEM`: the host had no memory.
    OutOfMemory,
    /// The host's errno: the device failed.
    Device(DeviceError),
    /// `EIO`: an earlier failure left the on-disk state unknown; nothing is written any more.
    /// [`crate::FileSystem::device_failure`] tells which.
    Poisoned,
    /// `ESTALE`: another writer has published since this one opened; nothing is written any more.
    OtherWriter,
    /// `EBADMSG`: a block is not what was written.
    Checksum {
        /// Number of the block on the device.
        block: u64,
    },
    /// `EBADMSG`: a vector is not what was put; nothing else is affected.
    DamagedVector,
    /// `EUCLEAN`: a checked block holds something impossible.
    Corrupt {
        /// Number of the block, object or row it was found in.
        place: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// `EINVAL`: there is no VexFS; the text says what was found in its place.
    NotVexfs(&'static str),
    /// `ENOTSUP`: made by a newer version; the bits are the features not known here.
    UnknownFeatures(u64),
    /// `EINVAL`: a vector that cannot be stored or searched for.
    InvalidVector(vexfs_simd::InvalidRow),
    /// `EINVAL`: a vector of a put that cannot be stored.
    InvalidChunk {
        /// Its chunk number.
        chunk: u32,
        /// What is wrong with it.
        reason: vexfs_simd::InvalidRow,
    },
    /// `EINTR`: the host asked to stop.
    Interrupted,
}

/// A failure of the block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceError {
    /// The host's errno for it, positive.
    pub errno: i32,
    /// Byte offset of the request that failed.
    pub offset: u64,
}

impl Error {
    /// The positive errno of the Linux system-call interface.
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Exists => 17,
            Self::NotDirectory => 20,
            Self::IsDirectory => 21,
            Self::NotEmpty => 39,
            Self::NameTooLong => 36,
            Self::Invalid(_)
            | Self::NotVexfs(_)
            | Self::InvalidVector(_)
            | Self::InvalidChunk { .. } => 22,
            Self::TooBig(_) => 7,
            Self::FileTooBig => 27,
            Self::TooManyLinks => 31,
            Self::NoSpace => 28,
            Self::ReadOnly => 30,
            Self::NotPermitted => 1,
            Self::NoAttribute => 61,
            Self::Range => 34,
            Self::NotSupported(_) | Self::UnknownFeatures(_) => 95,
            Self::Busy => 16,
            Self::NoSuchOffset => 6,
            Self::Stale | Self::OtherWriter => 116,
            Self::OutOfMemory => 12,
            // A host without a number for it gives 0.
            Self::Device(failure) if failure.errno > 0 => failure.errno,
            Self::Device(_) | Self::Poisoned => 5,
            Self::Checksum { .. } | Self::DamagedVector => 74,
            Self::Corrupt { .. } => 117,
            Self::Interrupted => 4,
        }
    }

    /// Whether the image itself is damaged, rather than the request.
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Checksum { .. } | Self::DamagedVector | Self::Corrupt { .. })
    }
}

impl From<OutOfMemory> for Error {
    fn from(_: OutOfMemory) -> Self {
        Self::OutOfMemory
    }
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}

impl From<vexfs_simd::InvalidRow> for Error {
    fn from(row: vexfs_simd::InvalidRow) -> Self {
        Self::InvalidVector(row)
    }
}

/// The error for an impossible value found in checked data.
pub(crate) const fn corrupt(place: u64, what: &'static str) -> Error {
    Error::Corrupt { place, what }
}
