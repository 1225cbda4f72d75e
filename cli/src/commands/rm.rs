// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs rm`: removing files, and their vectors with them.

use crate::failure::{Failure, Outcome};
use crate::place::{Place, for_each_place, one_volume, place_parser};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  vexfs rm notes.img:/notes/a.txt
  vexfs rm -r notes.img:/old notes.img:/older

The vectors of a file go with its last name: it is not found by a search any more.";

/// Remove files, and their vectors with them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Remove directories with all below them
    #[arg(short, long)]
    recursive: bool,

    /// Say nothing about what is not there
    #[arg(short, long)]
    force: bool,

    /// Places: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "PLACE", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let volume = one_volume(places)?.open_for_change()?;
        let files = volume.files();
        let removed = for_each_place(places, |place| {
            let removed = match self.recursive {
                true => files.remove_tree(&place.path),
                false => files.remove_file(&place.path),
            };
            match removed {
                Err(error) if error.is_not_found() && self.force => Ok(()),
                Err(error) => {
                    let is_directory =
                        error.errno() == vexfs_engine::CoreError::IsDirectory.errno();
                    let failure = Failure::from(error);
                    match is_directory {
                        true => Err(failure.hint("Directories are removed with -r.")),
                        false => Err(failure),
                    }
                }
                Ok(()) => Ok(()),
            }
        });
        volume.close()?;
        removed
    }
}
