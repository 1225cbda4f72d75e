// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Errors: which object, what was wrong with it, and the errno for it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use vexfs_core::layout::ATTRIBUTE_BYTES_MAX;
use vexfs_core::{
    COLLECTIONS_MAX, DeviceError, Error as CoreError, MODEL_BYTES_MAX, PUT_VECTORS_MAX,
    QUERIES_MAX, SEARCH_EFFORT_MAX, SEARCH_HITS_MAX, SEARCH_K_MAX,
};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was refused or failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", object.display())]
pub struct Error {
    /// The image, or the place in it as `IMAGE:/path`. It may hold any bytes but NUL; whoever
    /// prints it to a terminal escapes it.
    pub object: OsString,
    /// Why.
    #[source]
    pub reason: Reason,
}

/// Why something was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// The file system refused or failed; [`describe`] has it in words.
    #[error("{}", describe(.0))]
    Core(CoreError),
    /// The file system writes nothing any more since the device failed like this, perhaps for
    /// another thread ([`CoreError::Poisoned`]).
    #[error(
        "nothing more is written since the device failed at byte {}: {}",
        .0.offset,
        io::Error::from_raw_os_error(.0.errno)
    )]
    Stopped(DeviceError),
    /// A call of the operating system failed.
    #[error("{0}")]
    Host(#[source] io::Error),
    /// Another process, or this one, has the image open and one of the two wants to write.
    #[error("in use by another process")]
    InUse,
    /// It is mounted here.
    #[error("in use: it is mounted at {}", .0.display())]
    Mounted(PathBuf),
    /// Neither a regular file nor a block device.
    #[error("neither a regular file nor a block device")]
    NotImage,
    /// An image cannot be made smaller, nor a device have another size than it has.
    #[error("has {present} bytes and cannot be given {asked}")]
    Size {
        /// Its size in bytes.
        present: u64,
        /// The size asked for, in bytes.
        asked: u64,
    },
    /// More symbolic links on the way than [`crate::SYMLINKS_MAX`].
    #[error("too many levels of symbolic links")]
    SymlinkLoop,
    /// A path that has to be absolute (to begin with `/`) is not, or holds a NUL byte.
    #[error("a path in an image begins with / and holds no NUL byte")]
    BadPath,
    /// A tree cannot be moved or copied into itself.
    #[error("cannot be moved or copied into itself")]
    IntoItself,
}

impl Error {
    /// An error about `object`.
    pub fn new(object: impl AsRef<OsStr>, reason: impl Into<Reason>) -> Self {
        Self { object: object.as_ref().to_owned(), reason: reason.into() }
    }

    /// The positive errno of the Linux system-call interface.
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match &self.reason {
            Reason::Core(error) => error.errno(),
            Reason::Stopped(failure) => CoreError::Device(*failure).errno(),
            Reason::Host(error) => error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            Reason::InUse | Reason::Mounted(_) => Errno::BUSY.raw_os_error(),
            Reason::SymlinkLoop => Errno::LOOP.raw_os_error(),
            Reason::NotImage | Reason::Size { .. } | Reason::BadPath | Reason::IntoItself => {
                Errno::INVAL.raw_os_error()
            }
        }
    }

    /// The core's error, when it is one.
    pub fn core(&self) -> Option<&CoreError> {
        match &self.reason {
            Reason::Core(error) => Some(error),
            Reason::Stopped(_) => Some(&CoreError::Poisoned),
            _ => None,
        }
    }

    /// Whether what was to be changed is read-only.
    pub fn is_read_only(&self) -> bool {
        self.errno() == CoreError::ReadOnly.errno()
    }

    /// Whether there was no space left for it.
    pub fn is_no_space(&self) -> bool {
        self.errno() == CoreError::NoSpace.errno()
    }

    /// Whether what was to be read is damaged.
    pub fn is_damage(&self) -> bool {
        use rustix::io::Errno;
        match &self.reason {
            Reason::Core(error) => error.is_damage(),
            Reason::Host(error) => {
                matches!(Errno::from_io_error(error), Some(Errno::BADMSG | Errno::UCLEAN))
            }
            _ => false,
        }
    }

    /// Whether something that was looked for is not there.
    pub fn is_not_found(&self) -> bool {
        match &self.reason {
            Reason::Core(error) => *error == CoreError::NotFound,
            Reason::Host(error) => error.kind() == io::ErrorKind::NotFound,
            _ => false,
        }
    }

    /// Whether the permissions of a file on the machine deny it.
    pub fn is_denied(&self) -> bool {
        self.errno() == rustix::io::Errno::ACCESS.raw_os_error()
    }

    /// Whether it is the kernel, or the file system, that does not permit it.
    pub fn is_not_permitted(&self) -> bool {
        self.errno() == rustix::io::Errno::PERM.raw_os_error()
    }

    /// Whether other changes would fail too: there is no space, or nothing can be written.
    pub fn stops_writing(&self) -> bool {
        use rustix::io::Errno;
        let full = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS].map(Errno::raw_os_error);
        full.contains(&self.errno())
            || matches!(
                self.core(),
                Some(CoreError::Device(_) | CoreError::Poisoned | CoreError::OtherWriter)
            )
    }
}

impl From<CoreError> for Reason {
    fn from(error: CoreError) -> Self {
        Self::Core(error)
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = io::Error::from_raw_os_error(error.errno()).kind();
        io::Error::new(kind, error)
    }
}

/// A core error in words, without the object that it is about.
pub fn describe(error: &CoreError) -> impl fmt::Display {
    Description(*error)
}

/// The limit that a [`CoreError::TooBig`] of this name is about, where users meet it.
fn limit(what: &str) -> Option<String> {
    Some(match what {
        "effort" => SEARCH_EFFORT_MAX.to_string(),
        "queries of one search" => QUERIES_MAX.to_string(),
        "hits of one search" => {
            format!("{SEARCH_K_MAX} for a query, {SEARCH_HITS_MAX} for all of them")
        }
        "model tag" => format!("{MODEL_BYTES_MAX} bytes"),
        "number of collections" => COLLECTIONS_MAX.to_string(),
        "value of an attribute" => format!("{ATTRIBUTE_BYTES_MAX} bytes"),
        "vectors of one put" => PUT_VECTORS_MAX.to_string(),
        _ => return None,
    })
}

struct Description(CoreError);

impl fmt::Display for Description {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        use vexfs_simd::InvalidRow;
        let text = match self.0 {
            CoreError::NotFound => "not found",
            CoreError::Exists => "exists already",
            CoreError::NotDirectory => "not a directory",
            CoreError::IsDirectory => "is a directory",
            CoreError::NotEmpty => "directory not empty",
            CoreError::NameTooLong => "name too long (a name has at most 255 bytes)",
            CoreError::Invalid(what) => what,
            CoreError::TooBig(what) => {
                write!(formatter, "over the limit: {what}")?;
                return match limit(what) {
                    Some(most) => write!(formatter, " (at most {most})"),
                    None => Ok(()),
                };
            }
            CoreError::FileTooBig => "file too large (at most 16 TiB)",
            CoreError::TooManyLinks => "too many links",
            CoreError::NoSpace => "no space left in the file system",
            CoreError::ReadOnly => "read-only",
            CoreError::NotPermitted => "operation not permitted",
            CoreError::NoAttribute => "no such extended attribute",
            CoreError::Range => "the value is larger than the space given for it",
            CoreError::NotSupported(what) => what,
            CoreError::Busy => "busy",
            CoreError::NoSuchOffset => "no such offset",
            CoreError::Stale => "gone, or changed since",
            CoreError::OutOfMemory => "out of memory",
            CoreError::Device(failure) => {
                let error = io::Error::from_raw_os_error(failure.errno);
                return write!(formatter, "the device failed at byte {}: {error}", failure.offset);
            }
            CoreError::Poisoned => "an earlier write failed; nothing more is written",
            CoreError::OtherWriter => {
                "another writer has taken the file system over; nothing more is written"
            }
            CoreError::Checksum { block } => {
                return write!(formatter, "block {block} is damaged (wrong checksum)");
            }
            CoreError::DamagedVector => "the vector is damaged: it is not what was put",
            CoreError::Corrupt { place, what } => {
                return write!(formatter, "damaged: {what} (at {place})");
            }
            CoreError::NotVexfs(what) => {
                return write!(formatter, "not a VexFS file system: {what}");
            }
            CoreError::UnknownFeatures(bits) => {
                return write!(
                    formatter,
                    "made by a newer version of VexFS: it uses features unknown here ({bits:#x})"
                );
            }
            CoreError::InvalidVector(InvalidRow::Length) => "the vector has another dimension",
            CoreError::InvalidVector(InvalidRow::NotFinite(at)) => {
                return write!(
                    formatter,
                    "component {at} of the vector is not a finite number, or too large"
                );
            }
            CoreError::InvalidVector(InvalidRow::Zero) => {
                "a zero vector has no direction, which the cosine metric needs"
            }
            CoreError::InvalidChunk { chunk, reason } => {
                write!(formatter, "vector of chunk {chunk}: ")?;
                return write!(formatter, "{}", Self(CoreError::InvalidVector(reason)));
            }
            CoreError::Interrupted => "interrupted",
        };
        formatter.write_str(text)
    }
}
