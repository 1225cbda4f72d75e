// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs tree`: everything below a directory.

use crate::commands::ls::{self, attributes_json, with_fields, with_target};
use crate::escape::escape_name;
use crate::failure::{Failures, Outcome};
use crate::output::{self, counted, with_path};
use crate::place::{Place, place_parser, printable};
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_engine::{Attributes, Entry, Files, LastLink};

const EXAMPLES: &str = "\
Examples:
  vexfs tree notes.img:/
  vexfs tree -L 2 notes.img:/notes
  vexfs tree --json notes.img:/ | jq -r 'select(.type == \"file\") | .path'";

/// Show everything below a directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Go down at most so many directories
    #[arg(short = 'L', long, value_name = "LEVELS")]
    level: Option<usize>,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Place: IMAGE:/path, or a path on a mounted VexFS
    #[arg(value_name = "PLACE", value_parser = place_parser())]
    place: Place,
}

/// A directory that is being printed.
struct Level {
    path: PathBuf,
    /// What is left of it, last first.
    entries: Vec<Entry>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let place = &self.place;
        let volume = place.volume.open()?;
        let files = volume.files();
        let top = files.attributes(&place.path, LastLink::Follow)?;
        self.print(files, &place.path, &printable(&place.path), "", &top)?;
        let (mut stack, mut failures) = (Vec::new(), Failures::default());
        if top.inode.is_directory() {
            stack.push(self.level(files, &place.path, 0)?);
        }
        let (mut directories, mut others) = (0_u64, 0_u64);
        while let Some(level) = stack.last_mut() {
            let Some(entry) = level.entries.pop() else {
                stack.pop();
                continue;
            };
            let path = level.path.join(&entry.name);
            // What is damaged, or may not be read, does not keep the rest from being shown.
            let found = match files.find(&path, LastLink::Keep) {
                Ok(Some(found)) => found,
                // On a mounted file system it may have gone meanwhile.
                Ok(None) => continue,
                Err(error) => {
                    failures.note(Err(error.into()))?;
                    continue;
                }
            };
            let lines: String = stack
                .iter()
                .enumerate()
                .map(|(at, level)| match (at + 1 == stack.len(), level.entries.is_empty()) {
                    (true, true) => "`-- ",
                    (true, false) => "|-- ",
                    (false, true) => "    ",
                    (false, false) => "|   ",
                })
                .collect();
            let name = escape_name(entry.name.as_bytes());
            failures.note(self.print(files, &path, &name, &lines, &found))?;
            if found.inode.is_directory() {
                directories += 1;
                match self.level(files, &path, stack.len()) {
                    Ok(level) => stack.push(level),
                    Err(failure) => failures.note(Err(failure))?,
                }
            } else {
                others += 1;
            }
        }
        if !self.json {
            output::line(&format!(
                "\n{}, {}",
                counted(directories, "directory"),
                counted(others, "file")
            ))?;
        }
        failures.result()
    }

    fn level(&self, files: Files<'_>, path: &Path, depth: usize) -> Outcome<Level> {
        let mut entries = Vec::new();
        if self.level.is_none_or(|most| depth < most) {
            entries = files.list(path)?;
            entries.reverse();
        }
        Ok(Level { path: path.to_owned(), entries })
    }

    fn print(
        &self,
        files: Files<'_>,
        path: &Path,
        name: &str,
        lines: &str,
        found: &Attributes,
    ) -> Outcome {
        let target = ls::target(files, path, found)?;
        if self.json {
            let fields = with_path(json!({}), "path", path.as_os_str().as_bytes());
            let fields = with_target(fields, target.as_deref());
            let version = ls::version(files, path, found)?;
            return output::json(&with_fields(fields, attributes_json(found, version)));
        }
        match target {
            Some(target) => output::line(&format!("{lines}{name} -> {}", printable(&target))),
            None => output::line(&format!("{lines}{name}")),
        }
    }
}
