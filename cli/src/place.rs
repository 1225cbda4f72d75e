// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Places on the command line: `IMAGE:/path` in an image, or a path of this machine.

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vexfs_engine::{Image, OpenOptions, Reason};

/// A place in an image: `IMAGE:/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The image file or block device.
    pub image: PathBuf,
    /// The absolute path in it.
    pub path: PathBuf,
}

/// A place in an image or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyPlace {
    /// In an image.
    Image(Place),
    /// A path of this machine.
    Local(PathBuf),
}

impl AnyPlace {
    /// Reads an argument. What holds `:/` is a place in an image, unless a file of this machine has
    /// that very name; `./NAME` is always a path of this machine.
    pub fn parse(argument: &OsStr) -> Self {
        let bytes = argument.as_bytes();
        let local = bytes.starts_with(b"./")
            || bytes.starts_with(b"../")
            || Path::new(argument).symlink_metadata().is_ok();
        let colon = bytes.windows(2).position(|pair| pair == b":/").filter(|at| *at > 0);
        match colon {
            Some(at) if !local || image_is_there(&bytes[..at]) => Self::Image(Place {
                image: PathBuf::from(OsString::from_vec(bytes[..at].to_vec())),
                path: PathBuf::from(OsString::from_vec(bytes[at + 1..].to_vec())),
            }),
            _ => Self::Local(PathBuf::from(argument)),
        }
    }
}

fn image_is_there(name: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(name)).is_file()
}

impl Place {
    /// Reads an argument that must be a place in an image.
    pub fn parse(argument: &OsStr) -> Result<Self, String> {
        match AnyPlace::parse(argument) {
            AnyPlace::Image(place) => Ok(place),
            AnyPlace::Local(path) => Err(format!(
                "{} is not a place in an image: write IMAGE:/path",
                escape_name(path.as_os_str().as_bytes())
            )),
        }
    }

    /// Opens the image for reading.
    pub fn open(&self) -> Outcome<Image> {
        open(&self.image)
    }

    /// Opens the image for changing it.
    pub fn open_for_change(&self) -> Outcome<Image> {
        open_for_change(&self.image)
    }

    /// Opens the image for work that may be long.
    pub fn open_for_long_work(&self) -> Outcome<Image> {
        open_with(&self.image, Some(COMMIT_INTERVAL))
    }

    /// Whether only a directory can be meant: the path ends in `/`.
    pub fn names_directory(&self) -> bool {
        self.path.as_os_str().as_bytes().ends_with(b"/")
    }

    /// The place of `path` in the same image, as it is printed.
    pub fn name_of(&self, path: &Path) -> String {
        let mut name = self.image.as_os_str().as_bytes().to_vec();
        name.push(b':');
        name.extend_from_slice(path.as_os_str().as_bytes());
        escape_name(&name)
    }
}

/// A path for printing.
pub fn printable(path: &Path) -> String {
    escape_name(path.as_os_str().as_bytes())
}

/// The image that all these places are in. `Usage` when there are several.
pub fn one_image(places: &[Place]) -> Outcome<&Path> {
    let [first, rest @ ..] = places else { return Err(Failure::usage("no place was given")) };
    match rest.iter().find(|place| !is_same_image(&place.image, &first.image)) {
        Some(other) => Err(Failure::usage(format!(
            "{} and {} are two images; one command works on one",
            printable(&first.image),
            printable(&other.image)
        ))),
        None => Ok(&first.image),
    }
}

/// Whether two names are of one image.
pub fn is_same_image(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// The user and group that files made by this process belong to.
pub fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// For `clap`: reads a [`Place`].
pub fn place_parser() -> impl clap::builder::TypedValueParser<Value = Place> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().try_map(|argument| Place::parse(&argument))
}

/// For `clap`: reads an [`AnyPlace`].
pub fn any_place_parser() -> impl clap::builder::TypedValueParser<Value = AnyPlace> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().map(|argument| AnyPlace::parse(&argument))
}

/// Opens an image for reading.
pub fn open(image: &Path) -> Outcome<Image> {
    Ok(Image::open(image, &OpenOptions::read_only())?)
}

/// How much of long work is lost at most when it is interrupted.
const COMMIT_INTERVAL: Duration = Duration::from_secs(3);

/// Opens an image for changing it. Changes become durable when the image is closed, or when there
/// are many: a command is cut short with what it had done so far, or without.
pub fn open_for_change(image: &Path) -> Outcome<Image> {
    open_with(image, None)
}

fn open_with(image: &Path, commit_interval: Option<Duration>) -> Outcome<Image> {
    let options = OpenOptions { commit_interval, ..OpenOptions::default() };
    Image::open(image, &options).map_err(|error| match &error.reason {
        // What can be read and not written is so named; who may not read it is told of that.
        Reason::Host(why)
            if why.kind() == ErrorKind::PermissionDenied && File::open(image).is_ok() =>
        {
            Failure::about(image.as_os_str().as_bytes(), "read-only: it cannot be changed")
        }
        _ => error.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_from_paths() {
        let image = |image: &str, path: &str| {
            AnyPlace::Image(Place { image: image.into(), path: path.into() })
        };
        let parse = |argument: &str| AnyPlace::parse(OsStr::new(argument));
        assert_eq!(parse("a.vexfs:/b/c"), image("a.vexfs", "/b/c"));
        assert_eq!(parse("/dev/sdx1:/"), image("/dev/sdx1", "/"));
        assert_eq!(parse("a:/b:/c"), image("a", "/b:/c"));
        assert_eq!(parse("./a:/b"), AnyPlace::Local("./a:/b".into()));
        assert_eq!(parse("a:b"), AnyPlace::Local("a:b".into()));
        assert_eq!(parse(":/b"), AnyPlace::Local(":/b".into()));
        assert!(Place::parse(OsStr::new("plain")).is_err());
    }
}
