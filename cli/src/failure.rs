// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! How a command fails: with a message that names the object, and an exit code.

use crate::escape::escape_name;
use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use vexfs_engine::{CoreError, Reason};

/// The result of a command.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// The work failed (exit code 1).
    Failed(String),
    /// The command line asks for what cannot be (exit code 2).
    Usage(String),
    /// Messages have been printed already; the work failed in part (exit code 1).
    Told,
    /// Whoever reads the output has gone (exit code 1, nothing is printed).
    ReaderGone,
}

impl Failure {
    /// A failure of the work, told by a printable message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    /// A command line that makes no sense, told by a printable message.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Adds what to do about it.
    pub fn hint(self, hint: &str) -> Self {
        match self {
            Self::Failed(message) => Self::Failed(format!("{message}\n  {hint}")),
            Self::Usage(message) => Self::Usage(format!("{message}\n  {hint}")),
            other => other,
        }
    }

    /// A failure of the work on `object`.
    pub fn about(object: impl AsRef<[u8]>, why: impl Display) -> Self {
        Self::Failed(format!("{}: {why}", escape_name(object.as_ref())))
    }

    /// Prints what is to be printed, and gives the exit code. `call` is how the command is called:
    /// a program, and maybe words behind it.
    pub fn report(&self, call: &str) -> ExitCode {
        let program = call.split(' ').next().unwrap_or(call);
        match self {
            Self::Failed(message) => {
                complain(&format!("{program}: {message}"));
                ExitCode::from(1)
            }
            Self::Usage(message) => {
                complain(&format!("{program}: {message}\nTry '{call} --help'."));
                ExitCode::from(2)
            }
            Self::Told | Self::ReaderGone => ExitCode::from(1),
        }
    }

    /// Prints what is to be printed while the command goes on; it will end with exit code 1.
    pub fn tell(&self) {
        let _ = self.report("vexfs");
    }
}

/// Whether anything has failed of work that goes on after failures.
#[derive(Debug, Default)]
pub struct Failures {
    told: bool,
}

impl Failures {
    /// Tells of a failure. What ends the command all the same is returned.
    pub fn note(&mut self, outcome: Outcome) -> Outcome {
        match outcome {
            Ok(()) => return Ok(()),
            Err(failure @ Failure::Failed(_)) => failure.tell(),
            Err(Failure::Told) => {}
            Err(failure) => return Err(failure),
        }
        self.told = true;
        Ok(())
    }

    /// A failure if there was any.
    pub fn result(&self) -> Outcome {
        if self.told { Err(Failure::Told) } else { Ok(()) }
    }
}

/// Prints a line on standard error. Where that is closed or full nobody is left to be told, and the
/// work goes on.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether an error is about a place in an image, and not about the image.
fn is_place(object: &OsStr) -> bool {
    object.as_bytes().windows(2).any(|pair| pair == b":/")
}

/// What to do about an error of the engine.
fn hint(error: &vexfs_engine::Error) -> Option<&'static str> {
    match &error.reason {
        Reason::InUse => return Some("Wait for the other program, or end it."),
        Reason::Mounted(_) => {
            return Some("Unmount it first; its files are to be found where it is mounted.");
        }
        Reason::Host(error) => return host_hint(error),
        _ => {}
    }
    Some(match error.core()? {
        // Metadata has a copy or can be derived; the bytes of a file cannot.
        CoreError::Checksum { .. } if is_place(&error.object) => {
            "If it is a block of the file's own, restore the file or remove it; fsck.vexfs -n \
                 names what is damaged."
        }
        CoreError::DamagedVector => {
            "Put it again, from what it describes; nothing else is affected."
        }
        CoreError::Checksum { .. } | CoreError::Corrupt { .. } => {
            "Check the image with fsck.vexfs -n, which names what is damaged and whether \
                 fsck.vexfs -y can repair it."
        }
        CoreError::NotVexfs(_) => {
            "If it was one, it is cut short or has lost every superblock: fsck.vexfs -n looks \
                 closer, and a copy of the image is the way back."
        }
        CoreError::UnknownFeatures(_) => "Use the version of VexFS that made it, or a newer one.",
        CoreError::NoSpace => {
            "Remove something, or copy the files to a larger image; what was there is as it was."
        }
        CoreError::Device(_) | CoreError::Poisoned => {
            "What was stored before is safe. See to the disk below, then run the command again."
        }
        CoreError::OtherWriter => {
            "Two programs wrote to the image at a time; check it with fsck.vexfs -n."
        }
        _ => return None,
    })
}

/// What to do about what the kernel says, of a mounted file system.
fn host_hint(error: &io::Error) -> Option<&'static str> {
    use rustix::io::Errno;
    let errno = Errno::from_io_error(error)?;
    match errno {
        Errno::UCLEAN | Errno::BADMSG => Some(
            "It is damaged: the kernel's log says where. Unmount it, then check its device with \
             fsck.vexfs -n.",
        ),
        Errno::NOTTY => Some("It is on no VexFS, or on one of a kernel module that lacks this."),
        _ => None,
    }
}

impl From<vexfs_engine::Error> for Failure {
    fn from(error: vexfs_engine::Error) -> Self {
        let failure = match &error.reason {
            Reason::Mounted(at) => Self::about(
                error.object.as_bytes(),
                format!("in use: it is mounted at {}", escape_name(at.as_os_str().as_bytes())),
            ),
            reason => Self::about(error.object.as_bytes(), reason),
        };
        match hint(&error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<crate::arrays::ArrayError> for Failure {
    fn from(error: crate::arrays::ArrayError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<crate::embedder::EmbedError> for Failure {
    fn from(error: crate::embedder::EmbedError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// For what is written to standard output: a reader that has gone is not worth a message.
pub fn output_failure(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Failed(format!("standard output: {error}")),
    }
}

/// A failure of the core about `object`.
pub fn core_failure(object: impl AsRef<[u8]>, error: vexfs_engine::CoreError) -> Failure {
    Failure::about(object, vexfs_engine::describe(&error))
}
