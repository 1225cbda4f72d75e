// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Which tool is run, by the name it is called by, and how it ends.

use crate::commands::{Command, CommandLine, fsck, mkfs};
use crate::failure::Outcome;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The exit code for a command line that makes no sense; fsck(8) has another.
const EXIT_USAGE: u8 = 2;

/// The definitions of the three tools, for manual pages and completions.
pub fn tools() -> [clap::Command; 3] {
    [
        CommandLine::command(),
        tool::<mkfs::CommandLine>("mkfs.vexfs"),
        tool::<fsck::CommandLine>("fsck.vexfs"),
    ]
}

fn tool<P: CommandFactory>(name: &'static str) -> clap::Command {
    P::command().name(name).bin_name(name)
}

/// Runs the tool that the first argument names.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
    match name.to_str() {
        Some("mkfs.vexfs") => {
            parse(&arguments, "mkfs.vexfs", EXIT_USAGE, |line: mkfs::CommandLine, call| {
                exit_code(call, line.arguments.run())
            })
        }
        Some("fsck.vexfs") => {
            let arguments = fsck::without_descriptors(arguments);
            parse(&arguments, "fsck.vexfs", fsck::EXIT_USAGE, |line: fsck::CommandLine, call| {
                line.arguments.exit_code(call)
            })
        }
        _ => parse(&arguments, "vexfs", EXIT_USAGE, |line: CommandLine, call| match line.command {
            Command::Fsck(arguments) => arguments.exit_code("vexfs"),
            command => exit_code(call, command.run()),
        }),
    }
}

fn parse<P: Parser>(
    arguments: &[OsString],
    name: &'static str,
    usage_code: u8,
    run: impl FnOnce(P, &str) -> ExitCode,
) -> ExitCode {
    // How the command is called, down to the last subcommand, for whoever asks for its help.
    let mut call = name.to_owned();
    let parsed = tool::<P>(name).try_get_matches_from(arguments).and_then(|mut matches| {
        let mut below = matches.subcommand();
        while let Some((word, matches)) = below {
            call.extend([" ", word]);
            below = matches.subcommand();
        }
        P::from_arg_matches_mut(&mut matches)
    });
    match parsed {
        Ok(parsed) => run(parsed, &call),
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(usage_code),
            }
        }
    }
}

fn exit_code(call: &str, outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(call),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_hold_together() {
        tools().into_iter().for_each(clap::Command::debug_assert);
    }

    /// Every command that does something, with the words that lead to it.
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        if !command.has_subcommands() {
            found.push((path.to_owned(), command.clone()));
        }
        for child in command.get_subcommands() {
            leaves(child, &format!("{path} {}", child.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_examples_in_its_help() {
        for tool in tools() {
            let mut all = Vec::new();
            leaves(&tool, tool.get_name(), &mut all);
            for (path, mut command) in all {
                let help = command.render_long_help().to_string();
                assert!(
                    help.contains("Examples:\n") || help.contains("Example:\n"),
                    "{path}:\n{help}"
                );
            }
        }
    }
}
