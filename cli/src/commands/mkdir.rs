// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs mkdir`: making directories.

use crate::failure::Outcome;
use crate::place::{Place, for_each_place, one_volume, owner, place_parser};
use clap::Args;
use vexfs_engine::NewInode;
use vexfs_engine::core::MODE_DIRECTORY;

const EXAMPLES: &str = "\
Examples:
  vexfs mkdir notes.img:/notes
  vexfs mkdir -p -m 700 notes.img:/a/b/c";

/// Make directories
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Make the directories above too, and be content if it is there
    #[arg(short, long)]
    parents: bool,

    /// Permissions in octal
    #[arg(short, long, value_parser = parse_mode, default_value = "755")]
    mode: u32,

    /// Places: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "PLACE", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("permissions are an octal number of at most 7777".to_owned()),
    }
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let volume = one_volume(places)?.open_for_change()?;
        // On a mounted file system too the permissions are to be what -m says.
        rustix::process::umask(rustix::fs::Mode::empty());
        let new = NewInode { mode: MODE_DIRECTORY | self.mode, owner: owner(), device: 0 };
        let made = for_each_place(places, |place| {
            match self.parents {
                true => volume.files().create_all(&place.path, &new)?,
                false => volume.files().create(&place.path, &new)?,
            }
            Ok(())
        });
        volume.close()?;
        made
    }
}
