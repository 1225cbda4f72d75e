// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs ln`: further names, and symbolic links.

use crate::failure::{Failure, Outcome};
use crate::place::{AnyPlace, Place, one_volume, owner, place_parser};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use vexfs_engine::core::layout::TARGET_BYTES_MAX;
use vexfs_engine::{Files, LastLink};

const EXAMPLES: &str = "\
Examples:
  vexfs ln notes.img:/a.txt notes.img:/b.txt     a further name of the same file
  vexfs ln -s ../shared/a.txt notes.img:/b.txt   a symbolic link; its target is taken as it is

The new name goes into the destination if that is a directory that is there.";

/// Make further names and symbolic links
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Make a symbolic link
    #[arg(short, long)]
    symbolic: bool,

    /// A place that is there; with -s, the text of the link (of IMAGE:/path, the path)
    target: OsString,

    /// The new name: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_name = "PLACE", value_parser = place_parser())]
    link: Place,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        if self.symbolic { self.make_symlink() } else { self.make_hard_link() }
    }

    fn make_symlink(&self) -> Outcome {
        let link = &self.link;
        let target = match AnyPlace::parse(&self.target) {
            place if place.in_image().is_some_and(|place| place.volume.is_same(&link.volume)) => {
                place.path().as_os_str().to_owned()
            }
            _ => self.target.clone(),
        };
        if target.is_empty() {
            return Err(Failure::usage("a symbolic link cannot have an empty target"));
        }
        if target.len() > TARGET_BYTES_MAX {
            return Err(Failure::new(format!(
                "{}: the target has {} bytes, and a symbolic link holds at most {TARGET_BYTES_MAX}",
                link.name(),
                target.len()
            )));
        }
        let volume = link.volume.open_for_change()?;
        let path = name_in(volume.files(), link, Path::new(&target).file_name())?;
        volume.files().symlink(&target, &path, owner())?;
        Ok(volume.close()?)
    }

    fn make_hard_link(&self) -> Outcome {
        let link = &self.link;
        let existing = Place::parse(&self.target).map_err(Failure::Usage)?;
        let volume = one_volume([&existing, link])?.open_for_change()?;
        let files = volume.files();
        let path = name_in(files, link, existing.path.file_name())?;
        if files.attributes(&existing.path, LastLink::Keep)?.inode.is_directory() {
            return Err(Failure::new(format!(
                "{}: hard links to directories are not possible",
                existing.name()
            ))
            .hint("Make a symbolic link with -s."));
        }
        files.hard_link(&existing.path, &path)?;
        Ok(volume.close()?)
    }
}

/// The path of the link: in the directory `link` if it is one.
fn name_in(files: Files<'_>, link: &Place, name: Option<&OsStr>) -> Outcome<PathBuf> {
    let path = &link.path;
    let there = files.find(path, LastLink::Follow)?;
    Ok(match name {
        Some(name) if there.is_some_and(|there| there.inode.is_directory()) => path.join(name),
        _ if there.is_none() && link.names_directory() => {
            return Err(Failure::new(format!("{}: not a directory", link.name())));
        }
        _ => path.clone(),
    })
}
