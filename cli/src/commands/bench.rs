// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs bench`: what can be measured.

use super::{bench_ann, bench_fs};
use crate::failure::Outcome;
use clap::{Args, Subcommand};

/// Arguments of `vexfs bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Recall and time of searches, against exact answers
    Ann(bench_ann::Arguments),
    /// Files made, told of, listed, removed, read, written and synced
    Fs(bench_fs::Arguments),
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        match &self.what {
            What::Ann(arguments) => arguments.run(),
            What::Fs(arguments) => arguments.run(),
        }
    }
}
