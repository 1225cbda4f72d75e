// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs man`: manual pages, made from the definitions of the commands.

use crate::failure::{Failure, Outcome};
use crate::program::tools;
use clap::Args;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Example:
  vexfs man /usr/local/share/man    writes man1/vexfs.1, man1/vexfs-cp.1, ..., man8/mkfs.vexfs.8";

/// Write the manual pages
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The directory to write man1 and man8 in; it is made
    directory: PathBuf,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        for tool in tools() {
            let (section, folder) = match tool.get_name() {
                "vexfs" => ("1", "man1"),
                _ => ("8", "man8"),
            };
            let folder = self.directory.join(folder);
            std::fs::create_dir_all(&folder)
                .map_err(|error| Failure::about(folder.as_os_str().as_encoded_bytes(), error))?;
            let name = tool.get_name().to_owned();
            let mut tool = tool.disable_help_subcommand(true);
            tool.build();
            write_pages(tool, &name, section, &folder)?;
        }
        Ok(())
    }
}

/// Writes the page of a command and those of the commands below it.
fn write_pages(command: clap::Command, name: &str, section: &str, folder: &Path) -> Outcome {
    for child in command.get_subcommands().filter(|child| !child.is_hide_set()) {
        let name = format!("{name}-{}", child.get_name());
        write_pages(child.clone(), &name, section, folder)?;
    }
    let path = folder.join(format!("{name}.{section}"));
    // The page is found by this name; how the command is called stays in the synopsis.
    let call = command.get_bin_name().unwrap_or(name).to_owned();
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = command.name(name.to_owned()).bin_name(call).after_help(None::<&str>);
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .section(section)
        .manual("VexFS")
        .render(&mut page)
        .and_then(|()| {
            page.extend_from_slice(sections(&more).as_bytes());
            std::fs::write(&path, page)
        })
        .map_err(|error| Failure::about(path.as_os_str().as_encoded_bytes(), error))
}

/// What stands behind the options of a help text, in the language of manual pages: its examples,
/// line for line, and its other paragraphs.
fn sections(help: &str) -> String {
    let (mut examples, mut notes) = (String::new(), String::new());
    for paragraph in help.split("\n\n") {
        match paragraph.split_once('\n') {
            Some((head, lines)) if head.starts_with("Example") => {
                examples.push_str(".SH EXAMPLES\n.nf\n");
                examples.extend(lines.lines().map(|line| escape_roff(unindented(line)) + "\n"));
                examples.push_str(".fi\n");
            }
            _ if paragraph.trim().is_empty() => {}
            _ => {
                notes.push_str(if notes.is_empty() { ".SH NOTES\n" } else { ".PP\n" });
                notes.extend(paragraph.lines().map(|line| escape_roff(line.trim()) + "\n"));
            }
        }
    }
    examples + &notes
}

/// A line without the two spaces that help texts indent examples by.
fn unindented(line: &str) -> &str {
    line.strip_prefix("  ").unwrap_or(line)
}

/// A line that roff takes for text whatever it begins with.
fn escape_roff(line: &str) -> String {
    let escaped = line.replace('\\', "\\e").replace('-', "\\-");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_keep_their_lines_and_text_is_no_command() {
        let page = sections(
            "Examples:\n  vexfs ls -l a:/\n    more\n  .vexfs\n\nOne\n'note'.\n\nAnother.",
        );
        let expected = ".SH EXAMPLES\n.nf\nvexfs ls \\-l a:/\n  more\n\\&.vexfs\n.fi\n.SH NOTES\n\
                        One\n\
                        \\&'note'.\n.PP\nAnother.\n";
        assert_eq!(page, expected);
    }
}
