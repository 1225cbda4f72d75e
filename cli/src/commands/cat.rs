// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs cat`: the bytes of files.

use crate::failure::Outcome;
use crate::output;
use crate::place::{self, Place, one_image, place_parser};
use clap::Args;

const EXAMPLES: &str = "\
Examples:
  vexfs cat notes.img:/notes/a.txt
  vexfs cat notes.img:/a notes.img:/b > both";

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// Write the bytes of files to standard output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Places IMAGE:/path of files
    #[arg(value_name = "IMAGE:/PATH", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let image = place::open(one_image(places)?)?;
        let mut buffer = vec![0; READ_BYTES];
        for place in places {
            let file = image.open_file(&place.path)?;
            let mut offset = 0;
            loop {
                let read = file.read_at(offset, &mut buffer)?;
                if read == 0 {
                    break;
                }
                output::bytes(&buffer[..read])?;
                offset += read as u64;
            }
        }
        Ok(())
    }
}
