// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Places on the command line: `IMAGE:/path` in an image, a path on a mounted VexFS, or any other
//! path of this machine.

use crate::escape::escape_name;
use crate::failure::{Failure, Failures, Outcome};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use vexfs_engine::{Image, Mount, OpenOptions, Reason, Volume, find_mount};

/// What names a VexFS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeName {
    /// An image file or block device.
    Image(PathBuf),
    /// A directory of one that is mounted.
    Mount(PathBuf),
}

/// A place in a VexFS: `IMAGE:/path`, or a path on one that is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file system.
    pub volume: VolumeName,
    /// The path of its [`Volume::files`]: absolute in an image, as it was written on a mounted one.
    pub path: PathBuf,
}

/// A place in a VexFS or elsewhere on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyPlace {
    /// In a VexFS.
    Volume(Place),
    /// A path of this machine that lies on no VexFS.
    Local(PathBuf),
}

impl AnyPlace {
    /// Reads an argument. What holds `:/` is a place in an image, unless a file of this machine has
    /// that very name, or a directory the name up to the colon and with it; `./NAME` is always a path
    /// of this machine. An image that is there comes before such names. A path of this machine is a
    /// place if it lies on a mounted VexFS, or would if it were there.
    pub fn parse(argument: &OsStr) -> Self {
        Self::parse_with(argument, &mounted)
    }

    /// Reads an argument; `mounted` gives a directory of the mounted VexFS that a path lies on.
    fn parse_with(argument: &OsStr, mounted: &dyn Fn(&Path) -> Option<PathBuf>) -> Self {
        let bytes = argument.as_bytes();
        let colon = bytes.windows(2).position(|pair| pair == b":/").filter(|at| *at > 0);
        let local = bytes.starts_with(b"./")
            || bytes.starts_with(b"../")
            || Path::new(argument).symlink_metadata().is_ok()
            || colon.is_some_and(|at| Path::new(OsStr::from_bytes(&bytes[..=at])).is_dir());
        let path = PathBuf::from(argument);
        match colon {
            Some(at) if !local || image_is_there(&bytes[..at]) => Self::Volume(Place {
                volume: VolumeName::Image(OsString::from_vec(bytes[..at].to_vec()).into()),
                path: PathBuf::from(OsString::from_vec(bytes[at + 1..].to_vec())),
            }),
            _ => match mounted(&path) {
                Some(directory) => {
                    Self::Volume(Place { volume: VolumeName::Mount(directory), path })
                }
                None => Self::Local(path),
            },
        }
    }

    /// The path, wherever it leads.
    pub fn path(&self) -> &Path {
        match self {
            Self::Volume(place) => &place.path,
            Self::Local(path) => path,
        }
    }

    /// The place, if it is in an image.
    pub fn in_image(&self) -> Option<&Place> {
        match self {
            Self::Volume(place) if matches!(place.volume, VolumeName::Image(_)) => Some(place),
            _ => None,
        }
    }

    /// Whether only a directory can be meant: the path ends in `/`.
    pub fn names_directory(&self) -> bool {
        names_directory(self.path())
    }

    /// It, as it is printed.
    pub fn name(&self) -> String {
        match self {
            Self::Volume(place) => place.name(),
            Self::Local(path) => printable(path),
        }
    }
}

/// A directory of the mounted VexFS that a path lies on, or would if it were there.
fn mounted(path: &Path) -> Option<PathBuf> {
    Mount::at(path).ok().flatten().map(|mount| mount.path().to_owned())
}

fn image_is_there(name: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(name)).is_file()
}

fn names_directory(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

impl Place {
    /// Reads an argument that must be a place in a VexFS.
    pub fn parse(argument: &OsStr) -> Result<Self, String> {
        match AnyPlace::parse(argument) {
            AnyPlace::Volume(place) => Ok(place),
            AnyPlace::Local(path) => Err(format!(
                "{} is not a place in a VexFS: write IMAGE:/path, or a path on a mounted one",
                escape_name(path.as_os_str().as_bytes())
            )),
        }
    }

    /// Whether only a directory can be meant: the path ends in `/`.
    pub fn names_directory(&self) -> bool {
        names_directory(&self.path)
    }

    /// It, as it is printed.
    pub fn name(&self) -> String {
        self.name_of(&self.path)
    }

    /// The place of `path` in the same file system, as it is printed.
    pub fn name_of(&self, path: &Path) -> String {
        match &self.volume {
            VolumeName::Mount(_) => printable(path),
            VolumeName::Image(image) => {
                let mut name = image.as_os_str().as_bytes().to_vec();
                name.push(b':');
                name.extend_from_slice(path.as_os_str().as_bytes());
                escape_name(&name)
            }
        }
    }
}

/// How much of long work on an image is lost at most when it is interrupted.
const COMMIT_INTERVAL: Duration = Duration::from_secs(3);

impl VolumeName {
    /// Reads an argument that names a VexFS as a whole: a directory of a mounted one, or else an
    /// image file or block device.
    pub fn parse(argument: &OsStr) -> Self {
        let path = PathBuf::from(argument);
        match mounted(&path).filter(|_| path.is_dir()) {
            Some(directory) => Self::Mount(directory),
            None => Self::Image(path),
        }
    }

    /// Opens it for reading.
    pub fn open(&self) -> Outcome<Volume> {
        self.open_with(&OpenOptions::read_only())
    }

    /// Opens it for changing it. Changes become durable when the volume is closed, and those of an
    /// image when there are many: a command is cut short with what it had done so far, or without.
    pub fn open_for_change(&self) -> Outcome<Volume> {
        self.open_with(&OpenOptions { commit_interval: None, ..OpenOptions::default() })
    }

    /// Opens it for work that may be long.
    pub fn open_for_long_work(&self) -> Outcome<Volume> {
        let commit_interval = Some(COMMIT_INTERVAL);
        self.open_with(&OpenOptions { commit_interval, ..OpenOptions::default() })
    }

    fn open_with(&self, options: &OpenOptions) -> Outcome<Volume> {
        match self {
            Self::Image(image) => open_image(image, options).map(Volume::Image),
            Self::Mount(path) => match Mount::at(path)? {
                Some(mount) => Ok(Volume::Mount(mount)),
                None => Err(Failure::about(path.as_os_str().as_bytes(), "no VexFS is mounted")),
            },
        }
    }

    /// The directory below which all of it lies that is meant: the root directory of an image, the
    /// named one of a mounted file system.
    pub fn top(&self) -> &Path {
        match self {
            Self::Image(_) => Path::new("/"),
            Self::Mount(directory) => directory,
        }
    }

    /// Whether two names are of one file system.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Image(a), Self::Image(b)) => {
                a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
            }
            (Self::Mount(a), Self::Mount(b)) => {
                let device = |path| Mount::at(path).ok().flatten().map(|mount| mount.device());
                a == b || device(a).is_some_and(|a| device(b) == Some(a))
            }
            _ => false,
        }
    }

    /// It, as it is printed.
    pub fn name(&self) -> String {
        match self {
            Self::Image(path) | Self::Mount(path) => printable(path),
        }
    }
}

/// A path for printing.
pub fn printable(path: &Path) -> String {
    escape_name(path.as_os_str().as_bytes())
}

/// The file system that all these places are in. `Usage` when there are several.
pub fn one_volume<'a>(places: impl IntoIterator<Item = &'a Place>) -> Outcome<&'a VolumeName> {
    let mut places = places.into_iter();
    let Some(first) = places.next() else { return Err(Failure::usage("no place was given")) };
    match places.find(|place| !place.volume.is_same(&first.volume)) {
        Some(other) => Err(Failure::usage(format!(
            "{} and {} are two file systems; one command works on one",
            first.volume.name(),
            other.volume.name()
        ))),
        None => Ok(&first.volume),
    }
}

/// Does something with each place. What fails is told, and the others follow.
pub fn for_each_place<'a>(
    places: impl IntoIterator<Item = &'a Place>,
    mut work: impl FnMut(&'a Place) -> Outcome,
) -> Outcome {
    let mut failures = Failures::default();
    for place in places {
        failures.note(work(place))?;
    }
    failures.result()
}

/// The user and group that files made by this process belong to.
pub fn owner() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Refuses a directory of a mounted VexFS where a device or image file is wanted, with what to do.
pub fn refuse_mounted(path: &Path, advice: &str) -> Outcome {
    match VolumeName::parse(path.as_os_str()) {
        VolumeName::Image(_) => Ok(()),
        VolumeName::Mount(_) => {
            let (at, device) = match find_mount(path) {
                Some(mounted) => (mounted.at, format!(": {}", printable(&mounted.device))),
                None => (path.to_owned(), String::new()),
            };
            let (path, at) = (printable(path), printable(&at));
            Err(Failure::new(format!("{path}: on a VexFS that is mounted at {at}"))
                .hint(&format!("{advice}{device}.")))
        }
    }
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

/// For `clap`: reads a [`VolumeName`].
pub fn volume_parser() -> impl clap::builder::TypedValueParser<Value = VolumeName> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().map(|argument| VolumeName::parse(&argument))
}

fn open_image(image: &Path, options: &OpenOptions) -> Outcome<Image> {
    if image.is_dir() {
        return Err(Failure::about(
            image.as_os_str().as_bytes(),
            "is a directory, and on no mounted VexFS",
        ));
    }
    Image::open(image, options).map_err(|error| {
        // What can be read and not written is so named; who may not read it is told of that.
        let denied =
            matches!(&error.reason, Reason::Host(why) if why.kind() == ErrorKind::PermissionDenied);
        if !options.read_only && (error.is_read_only() || (denied && File::open(image).is_ok())) {
            return Failure::about(image.as_os_str().as_bytes(), "read-only: it cannot be changed");
        }
        error.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(image: &str, path: &str) -> AnyPlace {
        let volume = VolumeName::Image(image.into());
        AnyPlace::Volume(Place { volume, path: path.into() })
    }

    #[test]
    fn places_are_told_from_paths() {
        let parse = |argument: &str| AnyPlace::parse_with(argument.as_ref(), &|_| None);
        assert_eq!(parse("a.vexfs:/b/c"), image("a.vexfs", "/b/c"));
        assert_eq!(parse("/dev/sdx1:/"), image("/dev/sdx1", "/"));
        assert_eq!(parse("a:/b:/c"), image("a", "/b:/c"));
        assert_eq!(parse("./a:/b"), AnyPlace::Local("./a:/b".into()));
        assert_eq!(parse("a:b"), AnyPlace::Local("a:b".into()));
        assert_eq!(parse(":/b"), AnyPlace::Local(":/b".into()));
        assert_eq!(parse("plain"), AnyPlace::Local("plain".into()));
    }

    #[test]
    fn a_path_on_a_mounted_file_system_is_a_place_there() {
        // One is mounted at /mnt/v.
        let mounted = |path: &Path| path.starts_with("/mnt/v").then(|| PathBuf::from("/mnt/v"));
        let parse = |argument: &str| AnyPlace::parse_with(argument.as_ref(), &mounted);
        let mount = |path: &str| {
            let volume = VolumeName::Mount("/mnt/v".into());
            AnyPlace::Volume(Place { volume, path: path.into() })
        };
        for path in ["/mnt/v", "/mnt/v/", "/mnt/v/a/b", "/mnt/v/a:b"] {
            assert_eq!(parse(path), mount(path));
            assert_eq!(parse(path).name(), path);
        }
        assert_eq!(parse("/mnt/w/a"), AnyPlace::Local("/mnt/w/a".into()));
        // An image that lies there is one nonetheless.
        assert_eq!(parse("/mnt/v/i.vexfs:/a"), image("/mnt/v/i.vexfs", "/a"));
        assert!(parse("/mnt/v/i.vexfs:/a").in_image().is_some());
        assert!(parse("/mnt/v/a").in_image().is_none());
    }

    #[test]
    fn a_new_name_below_a_directory_that_ends_in_a_colon_is_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let top = directory.path().to_owned();
        let parse = |name: &str| {
            AnyPlace::parse_with(path(name).as_os_str(), &|path| {
                path.starts_with(&top).then(|| top.clone())
            })
        };
        let on_mount = |name: &str| {
            AnyPlace::Volume(Place { volume: VolumeName::Mount(top.clone()), path: path(name) })
        };
        let in_image = |name: &str, below: &str| image(path(name).to_str().unwrap(), below);
        assert_eq!(parse("a:/new"), in_image("a", "/new"));
        std::fs::create_dir(path("a:")).unwrap();
        assert_eq!(parse("a:/new"), on_mount("a:/new"));
        assert_eq!(parse("a:/new/b:/c"), on_mount("a:/new/b:/c"));
        // What is there and no directory gives no path to anything below it.
        std::fs::write(path("f:"), "").unwrap();
        assert_eq!(parse("f:/new"), in_image("f", "/new"));
        // An image is one whatever is beside it.
        std::fs::write(path("a"), "").unwrap();
        assert_eq!(parse("a:/new"), in_image("a", "/new"));
    }

    #[test]
    fn what_lies_on_no_vexfs_is_no_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain");
        let refused = Place::parse(path.as_os_str()).unwrap_err();
        assert!(refused.contains("plain is not a place"), "{refused}");
        assert_eq!(
            VolumeName::parse(directory.path().as_os_str()),
            VolumeName::Image(directory.path().into())
        );
    }

    #[test]
    fn names_of_one_file_system_are_seen_as_such() {
        let name = |path: &str| VolumeName::Image(path.into());
        assert!(name("Cargo.toml").is_same(&name("./Cargo.toml")));
        assert!(name("gone").is_same(&name("gone")));
        assert!(!name("Cargo.toml").is_same(&name("gone")));
        assert!(!name("gone").is_same(&VolumeName::Mount("gone".into())));
    }
}
