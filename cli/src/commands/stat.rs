// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs stat`: all that is known about a file.

use crate::commands::ls::{self, attributes_json, mode_text, type_name, with_fields, with_target};
use crate::escape::escape_name;
use crate::failure::Outcome;
use crate::output::{self, Align, Table, with_path, with_paths};
use crate::place::{Place, for_each_place, one_volume, place_parser, printable};
use crate::time::format_time;
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use vexfs_engine::{FileVectors, LastLink, Volume};

const EXAMPLES: &str = "\
Examples:
  vexfs stat notes.img:/notes/a.txt
  vexfs stat --json notes.img:/notes/a.txt | jq .paths";

/// The vectors of a file in one collection.
struct VectorCount {
    number: u32,
    collection: Vec<u8>,
    vectors: u64,
    fresh: u64,
}

/// Counts the vectors of a file in each collection.
fn count_vectors(volume: &Volume, vectors: &FileVectors) -> Outcome<Vec<VectorCount>> {
    let mut counts: Vec<VectorCount> = Vec::new();
    for vector in &vectors.list {
        let new = |number| VectorCount { number, collection: Vec::new(), vectors: 0, fresh: 0 };
        if counts.last().is_none_or(|last| last.number != vector.collection) {
            counts.push(new(vector.collection));
        }
        if let Some(count) = counts.last_mut() {
            count.vectors += 1;
            count.fresh += u64::from(vector.fresh);
        }
    }
    if !counts.is_empty() {
        let collections = volume.collections()?;
        for count in &mut counts {
            let info = collections.iter().find(|info| info.number == count.number);
            count.collection = info.map_or_else(Vec::new, |info| info.name.clone());
        }
    }
    Ok(counts)
}

/// Tell all about files: attributes, names, extended attributes, vectors
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Tell about what a symbolic link leads to
    #[arg(short = 'L', long)]
    dereference: bool,

    /// Places: IMAGE:/path, or paths on a mounted VexFS
    #[arg(value_name = "PLACE", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let volume = one_volume(&self.places)?.open()?;
        for_each_place(&self.places, |place| self.print(&volume, place))
    }

    fn print(&self, volume: &Volume, place: &Place) -> Outcome {
        let (files, path) = (volume.files(), &place.path);
        let last = if self.dereference { LastLink::Follow } else { LastLink::Keep };
        let found = files.attributes(path, last)?;
        let inode = &found.inode;
        let target = ls::target(files, path, &found)?;
        let paths = volume.paths(path, last)?;
        let mut attributes = files.xattr_names(path, last)?;
        attributes.sort();
        let vectors = ls::if_readable(files, path, &found, |file| file.vectors())?;
        let version = vectors.as_ref().map(|vectors| vectors.version);
        let counts = match &vectors {
            Some(vectors) => count_vectors(volume, vectors)?,
            None => Vec::new(),
        };
        if self.json {
            let fields = json!({
                "vectors": counts
                    .iter()
                    .map(|count| with_path(
                        json!({ "vectors": count.vectors, "fresh": count.fresh }),
                        "collection",
                        &count.collection,
                    ))
                    .collect::<Vec<_>>(),
                "generation": version.map(|version| version.generation),
                "device_major": inode.device >> 32,
                "device_minor": inode.device & 0xffff_ffff,
            });
            let fields = with_path(fields, "path", place.path.as_os_str().as_bytes());
            let fields = with_target(fields, target.as_deref());
            let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
            let fields = with_paths(fields, "paths", &paths);
            let fields = with_paths(fields, "xattrs", &attributes);
            return output::json(&with_fields(fields, attributes_json(&found, version)));
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        row("Place", place.name());
        row("Inode", format!("{}, {}", found.number, type_name(inode)));
        if let Some(target) = target {
            row("Leads to", printable(&target));
        }
        if inode.device != 0 {
            row("Device", format!("{}, {}", inode.device >> 32, inode.device & 0xffff_ffff));
        }
        row("Size", format!("{} bytes in {} blocks", inode.size, inode.blocks));
        row("Mode", format!("{:04o}, {}", inode.mode & 0o7777, mode_text(inode.mode)));
        row("Owner", format!("user {}, group {}", inode.uid, inode.gid));
        row("Links", inode.links.to_string());
        row("Accessed", format_time(inode.accessed));
        row("Modified", format_time(inode.modified));
        row("Changed", format_time(inode.changed));
        row("Born", format_time(inode.born));
        if let Some(version) = version {
            row("Content", format!("version {}", version.content));
        }
        for path in paths {
            row("Path", printable(&path));
        }
        for name in attributes {
            row("Attribute", escape_name(&name));
        }
        for count in counts {
            row(
                "Vectors",
                format!(
                    "{} in {} ({} fresh)",
                    count.vectors,
                    escape_name(&count.collection),
                    count.fresh
                ),
            );
        }
        table.print()
    }
}
