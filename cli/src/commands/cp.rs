// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs cp`: copying into, out of, and within images.

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{
    self, AnyPlace, Place, any_place_parser, is_same_image, one_image, owner, printable,
};
use clap::Args;
use indicatif::ProgressBar;
use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use vexfs_engine::{CopyOptions, CopyReport, CoreError, Image, LastLink};

const EXAMPLES: &str = "\
Examples:
  vexfs cp report.txt notes.img:/            one file in
  vexfs cp -r ~/notes ~/mail notes.img:/     two trees in
  vexfs cp -r --preserve notes.img:/ /tmp/x  everything out, with times, owners and attributes
  vexfs cp notes.img:/a notes.img:/b         within an image: blocks are shared until changed, and
                                             the copy has the vectors of the original
  date | vexfs cp - notes.img:/date          what standard input gives

A source goes into the destination if that is a directory that is there, and becomes it otherwise. \
A directory that is there already is merged with. With -r symbolic links are copied as links; \
without, what a pipe or a device gives is copied.

A file is copied into an image whole or not at all. One that is there keeps its inode, names, owner \
and permissions; its vectors become stale. What cannot be copied is named; the rest is copied, and \
the exit code is 1. What was copied is stored every few seconds, so an interruption loses little.";

/// Copy files into, out of, or within an image
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Copy directories with all below them
    #[arg(short, long)]
    recursive: bool,

    /// Keep mode, owner, times, extended attributes and hard links
    #[arg(short, long)]
    preserve: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// What to copy: paths of this machine (- for standard input), or places IMAGE:/path
    #[arg(value_name = "SOURCE", required = true, value_parser = any_place_parser())]
    sources: Vec<AnyPlace>,

    /// Where to: the same kinds
    #[arg(value_parser = any_place_parser())]
    destination: AnyPlace,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let (mut images, mut locals) = (Vec::new(), Vec::new());
        for source in &self.sources {
            match source {
                AnyPlace::Image(place) => images.push(place.clone()),
                AnyPlace::Local(path) => locals.push(path.as_path()),
            }
        }
        if !images.is_empty() && !locals.is_empty() {
            return Err(Failure::usage(
                "some sources are in an image and some are not; copy them in two commands",
            ));
        }
        let mut copying = Copying { command: self, bar: ProgressBar::hidden(), failed: false };
        match &self.destination {
            AnyPlace::Image(to) if images.is_empty() => copying.import(&locals, to),
            AnyPlace::Image(to) => copying.duplicate(&images, to),
            AnyPlace::Local(to) if locals.is_empty() => copying.export(&images, to),
            AnyPlace::Local(_) => Err(Failure::usage(
                "neither the source nor the destination is in an image; write IMAGE:/path",
            )),
        }
    }

    fn options(&self) -> CopyOptions {
        CopyOptions { recursive: self.recursive, preserve: self.preserve, owner: owner() }
    }
}

/// A copy under way.
struct Copying<'a> {
    command: &'a Arguments,
    bar: ProgressBar,
    failed: bool,
}

impl Copying<'_> {
    /// Copies files of this machine into an image.
    fn import(&mut self, sources: &[&Path], to: &Place) -> Outcome {
        let image = to.open_for_long_work()?;
        let makes_directory = sources.iter().all(|source| source.is_dir());
        let into = self.image_directory(&image, to, sources.len(), makes_directory)?;
        self.start(|| sources.iter().map(|source| host_bytes(source)).sum());
        for source in sources {
            let is_input = source.as_os_str() == "-";
            if is_input && into {
                return Err(Failure::usage("standard input has no name: name the file to make"));
            }
            let target = self.target(source, &to.path, into)?;
            self.copy(source.as_os_str(), |options, bar| {
                let mut progress = |path: &Path, bytes| show(bar, path, bytes);
                if is_input {
                    let mut input = std::io::stdin().lock();
                    let name = "standard input";
                    return image.copy_stream_in(&mut input, name, &target, options, &mut progress);
                }
                image.copy_in(source, &target, options, &mut progress)
            })?;
        }
        image.close()?;
        self.end()
    }

    /// Copies files of an image to this machine.
    fn export(&mut self, sources: &[Place], to: &Path) -> Outcome {
        let image = place::open(one_image(sources)?)?;
        let into = to.is_dir();
        if sources.len() > 1 && !into {
            return Err(Failure::new(format!("{}: not a directory", printable(to)))
                .hint("Several sources need a directory that is there as destination."));
        }
        self.start(|| sources.iter().map(|source| image_bytes(&image, &source.path)).sum());
        for source in sources {
            let target = match source.path.file_name() {
                Some(name) if into => to.join(name),
                _ => to.to_owned(),
            };
            self.copy(&object(&image, &source.path), |options, bar| {
                let mut progress = |path: &Path, bytes| show(bar, path, bytes);
                image.copy_out(&source.path, &target, options, &mut progress)
            })?;
        }
        self.end()
    }

    /// Copies within an image, or from one to another.
    fn duplicate(&mut self, sources: &[Place], to: &Place) -> Outcome {
        let from = one_image(sources)?;
        let image = to.open_for_long_work()?;
        let other = match is_same_image(from, &to.image) {
            true => None,
            false => Some(place::open(from)?),
        };
        let source_image = other.as_ref().unwrap_or(&image);
        let is_directory = |place: &Place| {
            source_image.metadata(&place.path).is_ok_and(|inode| inode.is_directory())
        };
        let makes_directory = sources.iter().all(is_directory);
        let into = self.image_directory(&image, to, sources.len(), makes_directory)?;
        self.start(|| sources.iter().map(|source| image_bytes(source_image, &source.path)).sum());
        for source in sources {
            let target = self.target(&source.path, &to.path, into)?;
            self.copy(&object(source_image, &source.path), |options, bar| {
                let mut progress = |path: &Path, bytes| show(bar, path, bytes);
                image.copy_from(source_image, &source.path, &target, options, &mut progress)
            })?;
        }
        image.close()?;
        self.end()
    }

    /// Whether sources go into the destination, which has to be a directory if there are several.
    /// A destination that ends in `/` is one, or is made one of a directory.
    fn image_directory(
        &self,
        image: &Image,
        to: &Place,
        sources: usize,
        makes_directory: bool,
    ) -> Outcome<bool> {
        let is_directory = image.find(&to.path, LastLink::Follow)?.is_some()
            && image.metadata(&to.path)?.is_directory();
        let becomes_directory = self.command.recursive && makes_directory;
        if !is_directory && (sources > 1 || (to.names_directory() && !becomes_directory)) {
            return Err(Failure::new(format!("{}: not a directory", to.name_of(&to.path)))
                .hint("Make it with vexfs mkdir -p first."));
        }
        Ok(is_directory)
    }

    fn target(&self, source: &Path, to: &Path, into: bool) -> Outcome<PathBuf> {
        if !into {
            return Ok(to.to_owned());
        }
        let name = source.file_name().map(ToOwned::to_owned).or_else(|| {
            // `.` and `..` have a name by another path.
            Some(source.canonicalize().ok()?.file_name()?.to_owned())
        });
        // The root of an image, or of the machine, is merged with the destination.
        Ok(name.map_or_else(|| to.to_owned(), |name| to.join(name)))
    }

    fn start(&mut self, total_bytes: impl FnOnce() -> u64) {
        if !self.command.quiet && std::io::stderr().is_terminal() {
            self.bar = output::progress("copying", total_bytes(), true);
        }
    }

    /// Copies one source, which errors call `source`, and tells what of it could not be copied. An
    /// error that would meet the other sources too is returned.
    fn copy(
        &mut self,
        source: &OsStr,
        copy: impl FnOnce(&CopyOptions, &ProgressBar) -> vexfs_engine::Result<CopyReport>,
    ) -> Outcome {
        let failures = match copy(&self.command.options(), &self.bar) {
            Ok(report) => report.failures,
            Err(error) if is_fatal(&error) => {
                self.bar.finish_and_clear();
                return Err(error.into());
            }
            Err(error) => vec![error],
        };
        for error in failures {
            self.failed = true;
            let hint = match error.errno() == CoreError::IsDirectory.errno() {
                true if error.object != source => "A file cannot take the place of a directory.",
                true => "Directories are copied with -r.",
                false => "",
            };
            let mut failure = Failure::from(error);
            if !hint.is_empty() {
                failure = failure.hint(hint);
            }
            self.bar.suspend(|| failure.tell());
        }
        Ok(())
    }

    fn end(&mut self) -> Outcome {
        self.bar.finish_and_clear();
        if self.failed { Err(Failure::Told) } else { Ok(()) }
    }
}

/// Whether what stopped the copy of one source would stop every other.
fn is_fatal(error: &vexfs_engine::Error) -> bool {
    use rustix::io::Errno;
    let full = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS].map(Errno::raw_os_error);
    full.contains(&error.errno())
        || matches!(
            error.core(),
            Some(CoreError::Device(_) | CoreError::Poisoned | CoreError::OtherWriter)
        )
}

/// How the engine's errors call a place.
fn object(image: &Image, path: &Path) -> OsString {
    let mut object = image.device().path().as_os_str().to_owned();
    object.push(":");
    object.push(path);
    object
}

fn show(bar: &ProgressBar, path: &Path, bytes: u64) {
    bar.inc(bytes);
    if bytes == 0 && !bar.is_hidden() {
        bar.set_message(printable(path));
    }
}

/// Bytes of the files below a path of this machine, for progress only: what cannot be read counts
/// nothing.
fn host_bytes(path: &Path) -> u64 {
    let mut total = 0;
    let mut stack = vec![path.to_owned()];
    while let Some(path) = stack.pop() {
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if metadata.is_file() {
            total += metadata.len();
        } else if metadata.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten();
            stack.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        }
    }
    total
}

fn image_bytes(image: &Image, path: &Path) -> u64 {
    let entries = image.walk(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.inode.is_file()).map(|entry| entry.inode.size).sum()
}
