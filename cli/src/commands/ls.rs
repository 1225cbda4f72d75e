// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs ls`: listing directories.

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome, core_failure};
use crate::output::{self, Align, Table, with_path};
use crate::place::{self, Place, one_image, place_parser, printable};
use crate::time::{format_time, format_time_exact};
use clap::Args;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_engine::core::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK,
};
use vexfs_engine::{Image, Inode, LastLink};

const EXAMPLES: &str = "\
Examples:
  vexfs ls notes.img:/              names
  vexfs ls -l notes.img:/notes      with mode, links, owner, size and time
  vexfs ls --json notes.img:/notes  one JSON object a line";

/// List directories
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Mode, links, user, group, size, time and name
    #[arg(short, long)]
    long: bool,

    /// List a directory itself, not what is in it
    #[arg(short, long)]
    directory: bool,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Places IMAGE:/path
    #[arg(value_name = "IMAGE:/PATH", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

/// A file type as `stat` calls it, for machines.
pub(super) fn type_name(inode: &Inode) -> &'static str {
    match inode.file_type() {
        MODE_FILE => "file",
        MODE_DIRECTORY => "directory",
        MODE_SYMLINK => "symlink",
        MODE_FIFO => "fifo",
        MODE_SOCKET => "socket",
        MODE_BLOCK => "block",
        MODE_CHARACTER => "character",
        _ => "unknown",
    }
}

/// A mode as `ls -l` writes it: `drwxr-xr-x`.
pub(super) fn mode_text(mode: u32) -> String {
    let kind = match mode & vexfs_engine::core::MODE_TYPE {
        MODE_DIRECTORY => 'd',
        MODE_SYMLINK => 'l',
        MODE_FIFO => 'p',
        MODE_SOCKET => 's',
        MODE_BLOCK => 'b',
        MODE_CHARACTER => 'c',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, marks) in [(6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        let (executable, plain) = marks.split_at(1);
        text.push_str(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => executable,
            (false, true) => plain,
            (true, false) => "x",
            (false, false) => "-",
        });
    }
    text
}

/// What machines are told about an inode.
pub(super) fn inode_json(number: u64, inode: &Inode) -> Value {
    json!({
        "ino": number,
        "type": type_name(inode),
        "mode": format!("{:04o}", inode.mode & 0o7777),
        "links": inode.links,
        "uid": inode.uid,
        "gid": inode.gid,
        "size": inode.size,
        "blocks": inode.blocks,
        "accessed": format_time_exact(inode.accessed),
        "modified": format_time_exact(inode.modified),
        "changed": format_time_exact(inode.changed),
        "born": format_time_exact(inode.born),
        "content_version": inode.content_version,
    })
}

/// Adds fields to an object.
pub(super) fn with_fields(mut object: Value, fields: Value) -> Value {
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// The attributes of an inode.
pub(super) fn inode(image: &Image, number: u64) -> Outcome<Inode> {
    let object = image.device().path().as_os_str().as_bytes();
    image.core().inode(number).map_err(|error| core_failure(object, error))
}

/// One line of a listing.
struct Line {
    /// The name as it is printed.
    name: String,
    path: PathBuf,
    number: u64,
    inode: Inode,
    target: Option<PathBuf>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let image = place::open(one_image(places)?)?;
        let mut failed = false;
        for (at, place) in places.iter().enumerate() {
            if let Err(failure) = self.list(&image, place, at, places.len()) {
                let Failure::Failed(_) = failure else { return Err(failure) };
                failure.tell();
                failed = true;
            }
        }
        if failed { Err(Failure::Told) } else { Ok(()) }
    }

    fn list(&self, image: &Image, place: &Place, at: usize, places: usize) -> Outcome {
        let number = match image.symlink_metadata(&place.path)?.file_type() {
            // Like `ls`: a link to a directory is listed as the directory, but not in detail.
            MODE_SYMLINK if self.long || self.directory => {
                image.resolve_with(&place.path, LastLink::Keep)?
            }
            _ => image
                .find(&place.path, LastLink::Follow)?
                .map_or_else(|| image.resolve_with(&place.path, LastLink::Keep), Ok)?,
        };
        let inode = inode(image, number)?;
        let mut lines = Vec::new();
        if inode.is_directory() && !self.directory {
            let mut entries = image.read_dir(&place.path)?.collect::<Result<Vec<_>, _>>()?;
            entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            for entry in entries {
                let name = escape_name(entry.name.as_bytes());
                lines.push(self.line(image, name, place.path.join(&entry.name), entry.inode)?);
            }
            if places > 1 && !self.json {
                let gap = if at > 0 { "\n" } else { "" };
                output::line(&format!("{gap}{}:", place.name_of(&place.path)))?;
            }
        } else {
            lines.push(self.line(image, printable(&place.path), place.path.clone(), number)?);
        }
        self.print(&lines)
    }

    fn line(&self, image: &Image, name: String, path: PathBuf, number: u64) -> Outcome<Line> {
        let inode = inode(image, number)?;
        let target = match inode.file_type() {
            MODE_SYMLINK => Some(image.read_link(&path)?),
            _ => None,
        };
        Ok(Line { name, path, number, inode, target })
    }

    fn print(&self, lines: &[Line]) -> Outcome {
        if self.json {
            for Line { path, number, inode, target, .. } in lines {
                let name = path.file_name().map_or(&b"/"[..], OsStrExt::as_bytes);
                let mut fields = with_path(json!({}), "name", name);
                fields = with_path(fields, "path", path.as_os_str().as_bytes());
                fields = with_target(fields, target.as_deref());
                output::json(&with_fields(fields, inode_json(*number, inode)))?;
            }
            return Ok(());
        }
        if !self.long {
            return lines.iter().try_for_each(|line| output::line(&line.name));
        }
        let mut table = Table::new(&[
            ("", Align::Left),
            ("", Align::Right),
            ("", Align::Right),
            ("", Align::Right),
            ("", Align::Right),
            ("", Align::Left),
            ("", Align::Left),
        ]);
        for Line { name, inode, target, .. } in lines {
            let size = match inode.file_type() {
                MODE_BLOCK | MODE_CHARACTER => {
                    format!("{}, {}", inode.device >> 32, inode.device & 0xffff_ffff)
                }
                _ => inode.size.to_string(),
            };
            let name = match target {
                Some(target) => format!("{name} -> {}", printable(target)),
                None => name.clone(),
            };
            table.row(vec![
                mode_text(inode.mode),
                inode.links.to_string(),
                inode.uid.to_string(),
                inode.gid.to_string(),
                size,
                format_time(inode.modified),
                name,
            ]);
        }
        table.print()
    }
}

/// Adds where a symbolic link leads to a JSON object; null for anything else.
pub(super) fn with_target(fields: Value, target: Option<&Path>) -> Value {
    match target {
        Some(target) => with_path(fields, "target", target.as_os_str().as_bytes()),
        None => with_fields(fields, json!({ "target": null })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        for (mode, text) in [
            (MODE_DIRECTORY | 0o755, "drwxr-xr-x"),
            (MODE_FILE | 0o4755, "-rwsr-xr-x"),
            (MODE_FILE | 0o6644, "-rwSr-Sr--"),
            (MODE_DIRECTORY | 0o1777, "drwxrwxrwt"),
            (MODE_SYMLINK | 0o1776, "lrwxrwxrwT"),
            (MODE_CHARACTER, "c---------"),
        ] {
            assert_eq!(mode_text(mode), text);
        }
    }
}
