// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs cat`: the bytes of files.

use crate::failure::Outcome;
use crate::output;
use crate::place::{Place, for_each_place, one_volume, place_parser};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  vexfs cat notes.img:/notes/a.txt
  vexfs cat notes.img:/a notes.img:/b > both
  vexfs cat /mnt/a                             of a mounted VexFS";

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// Write the bytes of files to standard output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Files: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "PLACE", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let volume = one_volume(places)?.open()?;
        let mut buffer = vec![0; READ_BYTES];
        for_each_place(places, |place| {
            let file = volume.files().open(&place.path)?;
            let mut offset = 0;
            loop {
                let read = file.read_at(offset, &mut buffer)?;
                if read == 0 {
                    return Ok(());
                }
                output::bytes(&buffer[..read])?;
                offset += read as u64;
            }
        })
    }
}
