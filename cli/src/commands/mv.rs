// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs mv`: renaming within a VexFS.

use crate::failure::{Failure, Outcome};
use crate::place::{Place, for_each_place, one_volume, place_parser};
use clap::Args;
use vexfs_engine::{LastLink, RenameMode};

const EXAMPLES: &str = "\
Examples:
  vexfs mv notes.img:/a.txt notes.img:/b.txt
  vexfs mv notes.img:/a notes.img:/b notes.img:/archive
  vexfs mv --exchange notes.img:/current notes.img:/next

Vectors stay with their file. A source goes into the destination if that is a directory that is \
there, and takes its place otherwise.";

/// Rename files and directories within a VexFS
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Replace nothing that is there
    #[arg(short, long, conflicts_with = "exchange")]
    no_clobber: bool,

    /// Exchange the source and the destination
    #[arg(long)]
    exchange: bool,

    /// What to rename: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "SOURCE", required = true, value_parser = place_parser())]
    sources: Vec<Place>,

    /// The new place, in the same file system
    #[arg(value_parser = place_parser())]
    destination: Place,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let (places, to) = (&self.sources, &self.destination);
        let volume = one_volume(places.iter().chain([to]))?.open_for_change()?;
        let files = volume.files();
        let mode = match (self.no_clobber, self.exchange) {
            (true, _) => RenameMode::NoReplace,
            (_, true) => RenameMode::Exchange,
            _ => RenameMode::Replace,
        };
        let into = !self.exchange && files.is_directory(&to.path)?;
        if places.len() > 1 && !into {
            return Err(Failure::new(format!("{}: not a directory", to.name()))
                .hint("Several sources need a directory that is there as destination."));
        }
        let renamed = for_each_place(places, |place| {
            let target = match place.path.file_name() {
                Some(name) if into => to.path.join(name),
                _ => to.path.clone(),
            };
            let moved = files.attributes(&place.path, LastLink::Keep)?;
            let moves_file = !moved.inode.is_directory();
            if moves_file && to.names_directory() && !into {
                return Err(Failure::new(format!("{}: not a directory", to.name())));
            }
            Ok(files.rename(&place.path, &target, mode)?)
        });
        volume.close()?;
        renamed
    }
}
