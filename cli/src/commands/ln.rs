// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs ln`: further names, and symbolic links.

use crate::failure::{Failure, Outcome};
use crate::place::{self, AnyPlace, Place, is_same_image, one_image, owner, place_parser};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use vexfs_engine::core::layout::TARGET_BYTES_MAX;
use vexfs_engine::{Image, LastLink};

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

    /// An IMAGE:/path that is there; with -s, the text of the link (of IMAGE:/path, the path)
    target: OsString,

    /// The new name: IMAGE:/path
    #[arg(value_name = "IMAGE:/PATH", value_parser = place_parser())]
    link: Place,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let link = &self.link;
        if self.symbolic {
            let target = match AnyPlace::parse(&self.target) {
                AnyPlace::Image(place) if is_same_image(&place.image, &link.image) => {
                    place.path.into_os_string()
                }
                _ => self.target.clone(),
            };
            if target.is_empty() {
                return Err(Failure::usage("a symbolic link cannot have an empty target"));
            }
            if target.len() > TARGET_BYTES_MAX {
                return Err(Failure::new(format!(
                    "{}: the target has {} bytes, and a symbolic link holds at most \
                     {TARGET_BYTES_MAX}",
                    link.name_of(&link.path),
                    target.len()
                )));
            }
            let image = link.open_for_change()?;
            let path = name_in(&image, link, Path::new(&target).file_name())?;
            image.symlink_with(&target, &path, owner())?;
            return Ok(image.close()?);
        }
        let existing = Place::parse(&self.target).map_err(Failure::Usage)?;
        let image = place::open_for_change(one_image(&[existing.clone(), link.clone()])?)?;
        let path = name_in(&image, link, existing.path.file_name())?;
        if image.symlink_metadata(&existing.path)?.is_directory() {
            return Err(Failure::new(format!(
                "{}: hard links to directories are not possible",
                existing.name_of(&existing.path)
            ))
            .hint("Make a symbolic link with -s."));
        }
        image.hard_link(&existing.path, &path)?;
        Ok(image.close()?)
    }
}

/// The path of the link: in the directory `link` if it is one.
fn name_in(image: &Image, link: &Place, name: Option<&OsStr>) -> Outcome<PathBuf> {
    let path = &link.path;
    let is_there = image.find(path, LastLink::Follow)?.is_some();
    Ok(match name {
        Some(name) if is_there && image.metadata(path)?.is_directory() => path.join(name),
        _ if !is_there && link.names_directory() => {
            return Err(Failure::new(format!("{}: not a directory", link.name_of(path))));
        }
        _ => path.clone(),
    })
}
