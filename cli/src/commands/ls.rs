// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs ls`: listing directories.

use crate::escape::escape_name;
use crate::failure::{Failures, Outcome};
use crate::output::{self, Align, Table, with_path};
use crate::place::{Place, one_volume, place_parser, printable};
use crate::time::{format_time, format_time_exact};
use clap::Args;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_engine::core::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK,
};
use vexfs_engine::{Attributes, FileVersion, Files, Inode, LastLink, OpenFile};

const EXAMPLES: &str = "\
Examples:
  vexfs ls notes.img:/              names
  vexfs ls -l notes.img:/notes      with mode, links, owner, size and time
  vexfs ls --json notes.img:/notes  one JSON object a line
  vexfs ls -l /mnt                  of a mounted VexFS";

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

    /// Places: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "PLACE", required = true, value_parser = place_parser())]
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

/// What machines are told about what is at a path.
pub(super) fn attributes_json(found: &Attributes, version: Option<FileVersion>) -> Value {
    let inode = &found.inode;
    json!({
        "ino": found.number,
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
        "content_version": version.map(|version| version.content),
    })
}

/// Adds fields to an object.
pub(super) fn with_fields(mut object: Value, fields: Value) -> Value {
    if let (Value::Object(object), Value::Object(fields)) = (&mut object, fields) {
        object.extend(fields);
    }
    object
}

/// Which of its contents a regular file has.
pub(super) fn version(
    files: Files<'_>,
    path: &Path,
    found: &Attributes,
) -> Outcome<Option<FileVersion>> {
    if_readable(files, path, found, |file| file.version())
}

/// What an open regular file tells; nothing of anything else, nor of what may not be read or has gone.
pub(super) fn if_readable<T>(
    files: Files<'_>,
    path: &Path,
    found: &Attributes,
    tell: impl FnOnce(&OpenFile<'_>) -> vexfs_engine::Result<T>,
) -> Outcome<Option<T>> {
    if !found.inode.is_file() {
        return Ok(None);
    }
    match files.open(path).and_then(|file| tell(&file)) {
        Ok(told) => Ok(Some(told)),
        Err(error) if error.is_denied() || error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where a symbolic link leads; nothing of anything else.
pub(super) fn target(
    files: Files<'_>,
    path: &Path,
    found: &Attributes,
) -> Outcome<Option<PathBuf>> {
    match found.inode.file_type() {
        MODE_SYMLINK => Ok(Some(files.read_link(path)?)),
        _ => Ok(None),
    }
}

/// One line of a listing.
struct Line {
    /// The name as it is printed.
    name: String,
    path: PathBuf,
    found: Attributes,
    target: Option<PathBuf>,
}

impl Line {
    fn read(files: Files<'_>, name: String, path: PathBuf) -> Outcome<Option<Self>> {
        let Some(found) = files.find(&path, LastLink::Keep)? else { return Ok(None) };
        let target = target(files, &path, &found)?;
        Ok(Some(Self { name, path, found, target }))
    }
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let volume = one_volume(places)?.open()?;
        let mut failures = Failures::default();
        for (at, place) in places.iter().enumerate() {
            failures.note(self.list(volume.files(), place, at, places.len()))?;
        }
        failures.result()
    }

    fn list(&self, files: Files<'_>, place: &Place, at: usize, places: usize) -> Outcome {
        let path = &place.path;
        let mut found = files.attributes(path, LastLink::Keep)?;
        // Like `ls`: a link to a directory is listed as the directory, but not in detail.
        if found.inode.file_type() == MODE_SYMLINK && !self.long && !self.directory {
            found = files.find(path, LastLink::Follow)?.unwrap_or(found);
        }
        let (mut lines, mut failures) = (Vec::new(), Failures::default());
        if found.inode.is_directory() && !self.directory {
            for entry in files.list(path)? {
                let (name, path) = (escape_name(entry.name.as_bytes()), path.join(&entry.name));
                // One that is damaged does not keep the others from being listed.
                match Line::read(files, name, path) {
                    // On a mounted file system it may have gone meanwhile.
                    Ok(line) => lines.extend(line),
                    Err(failure) => failures.note(Err(failure))?,
                }
            }
            if places > 1 && !self.json {
                let gap = if at > 0 { "\n" } else { "" };
                output::line(&format!("{gap}{}:", place.name()))?;
            }
        } else {
            let target = target(files, path, &found)?;
            lines.push(Line { name: printable(path), path: path.clone(), found, target });
        }
        self.print(files, &lines)?;
        failures.result()
    }

    fn print(&self, files: Files<'_>, lines: &[Line]) -> Outcome {
        if self.json {
            for Line { path, found, target, .. } in lines {
                let name = path.file_name().map_or(&b"/"[..], OsStrExt::as_bytes);
                let mut fields = with_path(json!({}), "name", name);
                fields = with_path(fields, "path", path.as_os_str().as_bytes());
                fields = with_target(fields, target.as_deref());
                let version = version(files, path, found)?;
                output::json(&with_fields(fields, attributes_json(found, version)))?;
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
        for Line { name, found, target, .. } in lines {
            let inode = &found.inode;
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
