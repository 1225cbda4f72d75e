// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs cp`: copying into, out of, and within a VexFS.

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::place::{AnyPlace, Place, any_place_parser, one_volume, owner, printable};
use clap::Args;
use indicatif::ProgressBar;
use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use vexfs_engine::{CopyOptions, CopyReport, CoreError, Files, Volume, copy, copy_stream};

const EXAMPLES: &str = "\
Examples:
  vexfs cp report.txt notes.img:/            one file in
  vexfs cp -r ~/notes ~/mail notes.img:/     two trees in
  vexfs cp -r --preserve notes.img:/ /tmp/x  everything out, with times, owners and attributes
  vexfs cp notes.img:/a notes.img:/b         within an image: blocks are shared until changed, and
                                             the copy has the vectors of the original
  vexfs cp -r /mnt/a /mnt/b                  the same within a mounted VexFS
  date | vexfs cp - notes.img:/date          what standard input gives

A source goes into the destination if that is a directory that is there, and becomes it otherwise. \
A directory that is there already is merged with. With -r symbolic links are copied as links; \
without, what a pipe or a device gives is copied.

A file is copied into a VexFS whole or not at all. One that is there keeps its inode, names, owner \
and permissions; its vectors become stale. What cannot be copied is named; the rest is copied, and \
the exit code is 1. What was copied is stored every few seconds, so an interruption loses little. \
On a mounted VexFS copies belong to who makes them, and the umask counts, as with cp(1).";

/// Copy files into, out of, or within a VexFS
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

    /// What to copy: paths of this machine (- for standard input), or IMAGE:/path
    #[arg(value_name = "SOURCE", required = true, value_parser = any_place_parser())]
    sources: Vec<AnyPlace>,

    /// Where to: the same kinds
    #[arg(value_parser = any_place_parser())]
    destination: AnyPlace,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let images: Vec<&Place> = self.sources.iter().filter_map(AnyPlace::in_image).collect();
        if !images.is_empty() && images.len() < self.sources.len() {
            return Err(Failure::usage(
                "some sources are in an image and some are not; copy them in two commands",
            ));
        }
        let mut all = self.sources.iter().chain([&self.destination]);
        if all.all(|place| matches!(place, AnyPlace::Local(_))) {
            return Err(Failure::usage(
                "neither the source nor the destination is in a VexFS; write IMAGE:/path, or a path \
                 on a mounted one",
            ));
        }
        let target = match &self.destination {
            AnyPlace::Volume(to) => Some(to.volume.open_for_long_work()?),
            AnyPlace::Local(_) => None,
        };
        let target_files = target.as_ref().map_or(Files::Host, Volume::files);
        let other;
        let source_files = if images.is_empty() {
            Files::Host
        } else {
            let from = one_volume(images)?;
            match self.destination.in_image() {
                // An image cannot be opened twice.
                Some(to) if to.volume.is_same(from) => target_files,
                _ => {
                    other = from.open()?;
                    other.files()
                }
            }
        };
        let mut copying = Copying {
            command: self,
            source: source_files,
            target: target_files,
            bar: ProgressBar::hidden(),
            failed: false,
        };
        copying.run()?;
        let failed = copying.failed;
        if let Some(target) = target {
            target.close()?;
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    }

    fn options(&self) -> CopyOptions {
        CopyOptions { recursive: self.recursive, preserve: self.preserve, owner: owner() }
    }
}

/// A copy under way.
struct Copying<'a> {
    command: &'a Arguments,
    source: Files<'a>,
    target: Files<'a>,
    bar: ProgressBar,
    failed: bool,
}

impl Copying<'_> {
    fn run(&mut self) -> Outcome {
        let sources = &self.command.sources;
        let to = self.command.destination.path();
        let into = self.is_into()?;
        let (files, target) = (self.source, self.target);
        self.start(|| sources.iter().map(|source| bytes_below(files, source.path())).sum());
        for source in sources {
            let from = source.path();
            let is_input = matches!(source, AnyPlace::Local(path) if path.as_os_str() == "-");
            if is_input && into {
                return Err(Failure::usage("standard input has no name: name the file to make"));
            }
            let copy_to = self.copy_to(from, to, into);
            self.copy(&files.object(from), |options, bar| {
                let mut progress = |path: &Path, bytes| show(bar, path, bytes);
                if is_input {
                    let (mut input, name) = (std::io::stdin().lock(), Path::new("standard input"));
                    return copy_stream(&mut input, name, target, &copy_to, options, &mut progress);
                }
                copy(files, from, target, &copy_to, options, &mut progress)
            })?;
        }
        self.bar.finish_and_clear();
        Ok(())
    }

    /// Whether sources go into the destination, which has to be a directory if there are several.
    /// A destination that ends in `/` is one, or is made one of a directory.
    fn is_into(&self) -> Outcome<bool> {
        let Arguments { sources, destination: to, .. } = self.command;
        let is_directory = self.target.is_directory(to.path())?;
        let becomes_directory = || {
            let is_directory = |place: &AnyPlace| self.source.is_directory(place.path());
            self.command.recursive
                && sources.iter().all(|source| is_directory(source).unwrap_or(false))
        };
        let several = sources.len() > 1;
        if !is_directory && (several || (to.names_directory() && !becomes_directory())) {
            return Err(Failure::new(format!("{}: not a directory", to.name()))
                .hint("Make it with vexfs mkdir -p, or mkdir -p, first."));
        }
        Ok(is_directory)
    }

    /// Where a source is copied to.
    fn copy_to(&self, from: &Path, to: &Path, into: bool) -> PathBuf {
        if !into {
            return to.to_owned();
        }
        let name = from.file_name().map(ToOwned::to_owned).or_else(|| match self.source {
            // `.` and `..` have a name by another path.
            Files::Host => Some(from.canonicalize().ok()?.file_name()?.to_owned()),
            Files::Image(_) => None,
        });
        // The root of an image, or of the machine, is merged with the destination.
        name.map_or_else(|| to.to_owned(), |name| to.join(name))
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
            Err(error) if error.stops_writing() => {
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
}

fn show(bar: &ProgressBar, path: &Path, bytes: u64) {
    bar.inc(bytes);
    if bytes == 0 && !bar.is_hidden() {
        bar.set_message(printable(path));
    }
}

/// Bytes of the files below a path, for progress only: what cannot be read counts nothing.
fn bytes_below(files: Files<'_>, path: &Path) -> u64 {
    let entries = files.walk(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.inode.is_file()).map(|entry| entry.inode.size).sum()
}
