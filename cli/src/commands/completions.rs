// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs completions`: scripts for shells.

use crate::failure::{Failure, Outcome};
use crate::output;
use crate::program::tools;
use clap::Args;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  vexfs completions bash > /etc/bash_completion.d/vexfs
  vexfs completions --program mkfs.vexfs zsh > ~/.zfunc/_mkfs.vexfs";

/// Print the completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The program to complete: vexfs, mkfs.vexfs or fsck.vexfs
    #[arg(long, default_value = "vexfs")]
    program: String,

    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let found = tools().into_iter().find(|tool| tool.get_name() == self.program);
        let Some(mut tool) = found else {
            return Err(Failure::usage(format!(
                "{}: there are vexfs, mkfs.vexfs and fsck.vexfs",
                self.program.escape_debug()
            )));
        };
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut tool, &self.program, &mut script);
        output::bytes(&script)?;
        Ok(())
    }
}
