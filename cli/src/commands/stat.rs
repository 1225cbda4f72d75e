// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs stat`: all that is known about a file.

use crate::commands::ls::{self, inode_json, mode_text, type_name, with_fields, with_target};
use crate::escape::escape_name;
use crate::failure::{Outcome, core_failure};
use crate::output::{self, Align, Table, with_path, with_paths};
use crate::place::{self, Place, one_image, place_parser, printable};
use crate::time::format_time;
use clap::Args;
use serde_json::json;
use std::os::unix::ffi::OsStrExt;
use vexfs_engine::core::MODE_SYMLINK;
use vexfs_engine::{Image, LastLink};

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
fn count_vectors(image: &Image, number: u64) -> Outcome<Vec<VectorCount>> {
    let failed = |error| core_failure(image.device().path().as_os_str().as_bytes(), error);
    let mut counts: Vec<VectorCount> = Vec::new();
    image
        .core()
        .vectors_of(number, &mut |vector| {
            let new = |number| VectorCount { number, collection: Vec::new(), vectors: 0, fresh: 0 };
            if counts.last().is_none_or(|last| last.number != vector.collection) {
                counts.push(new(vector.collection));
            }
            if let Some(count) = counts.last_mut() {
                count.vectors += 1;
                count.fresh += u64::from(vector.fresh);
            }
            true
        })
        .map_err(failed)?;
    for count in &mut counts {
        let info = image.core().collection_info(count.number).map_err(failed)?;
        count.collection = info.name.to_vec();
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

    /// Places IMAGE:/path
    #[arg(value_name = "IMAGE:/PATH", required = true, value_parser = place_parser())]
    places: Vec<Place>,
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let places = &self.places;
        let image = place::open(one_image(places)?)?;
        for place in places {
            self.print(&image, place)?;
        }
        Ok(())
    }

    fn print(&self, image: &Image, place: &Place) -> Outcome {
        let last = if self.dereference { LastLink::Follow } else { LastLink::Keep };
        let number = image.resolve_with(&place.path, last)?;
        let inode = ls::inode(image, number)?;
        let target = match inode.file_type() {
            MODE_SYMLINK => Some(image.read_link(&place.path)?),
            _ => None,
        };
        let mut paths = image.paths(number)?;
        paths.sort();
        let mut attributes = image.xattrs(number)?;
        attributes.sort();
        let vectors = count_vectors(image, number)?;
        if self.json {
            let fields = json!({
                "vectors": vectors
                    .iter()
                    .map(|count| with_path(
                        json!({ "vectors": count.vectors, "fresh": count.fresh }),
                        "collection",
                        &count.collection,
                    ))
                    .collect::<Vec<_>>(),
                "generation": inode.generation,
                "device_major": inode.device >> 32,
                "device_minor": inode.device & 0xffff_ffff,
            });
            let fields = with_path(fields, "path", place.path.as_os_str().as_bytes());
            let fields = with_target(fields, target.as_deref());
            let paths: Vec<&[u8]> = paths.iter().map(|path| path.as_os_str().as_bytes()).collect();
            let fields = with_paths(fields, "paths", &paths);
            let fields = with_paths(fields, "xattrs", &attributes);
            return output::json(&with_fields(fields, inode_json(number, &inode)));
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        row("Place", place.name_of(&place.path));
        row("Inode", format!("{number}, {}", type_name(&inode)));
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
        row("Content", format!("version {}", inode.content_version));
        for path in paths {
            row("Path", printable(&path));
        }
        for name in attributes {
            row("Attribute", escape_name(&name));
        }
        for count in vectors {
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
