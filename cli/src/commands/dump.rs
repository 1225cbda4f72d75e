// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs dump`: the metadata as it is, for developers.

use crate::commands::info::{label_bytes, uuid_text};
use crate::failure::{Failure, Outcome, complain, core_failure};
use crate::output::{self, Align, Table, with_path};
use crate::place::{VolumeName, printable};
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use vexfs_engine::core::{DumpRecord, SuperblockCopy, dump_superblocks, kind_name};
use vexfs_engine::{Access, CoreError, Device, Image, OpenOptions, find_mount, host};

const EXAMPLES: &str = "\
Examples:
  vexfs dump notes.img                          superblock copies, nodes and items in numbers
  vexfs dump --nodes notes.img                  every node of the tree
  vexfs dump --items --object 1 notes.img       the items of the root directory, in hexadecimal
  vexfs dump --items --kind entry --json notes.img

Nothing is written. Damaged nodes are named and passed over. docs/format.md describes the bytes.";

/// Arguments of `vexfs dump`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only the copies of the superblock, which works when none is whole
    #[arg(long, conflicts_with_all = ["nodes", "items"])]
    superblocks: bool,

    /// Print every node
    #[arg(long)]
    nodes: bool,

    /// Print every item
    #[arg(long)]
    items: bool,

    /// Of the items, only those of this object (an inode number, say)
    #[arg(long, value_name = "NUMBER", requires = "items")]
    object: Option<u64>,

    /// Of the items, only those of this kind, such as inode, entry or extent
    #[arg(long, requires = "items")]
    kind: Option<String>,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Image file, block device, or a directory of a mounted VexFS, whose device is read
    #[arg(value_name = "IMAGE|DIR")]
    image: PathBuf,
}

/// What there is of one level of the tree, or of one kind of items.
#[derive(Default)]
struct Sum {
    count: u64,
    bytes: u64,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        let known = |kind: &String| (0..=u8::MAX).any(|number| kind_name(number) == kind);
        if let Some(kind) = self.kind.as_ref().filter(|kind| !known(kind)) {
            return Err(Failure::usage(format!("no items are called '{}'", kind.escape_debug())));
        }
        let device = self.device()?;
        let failed = |error| core_failure(device.as_os_str().as_bytes(), error);
        self.print_superblocks(&device)?;
        if self.superblocks {
            return Ok(());
        }
        let image = Image::open(&device, &OpenOptions::read_only())?;
        let (mut levels, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        let mut damaged = 0_u64;
        let mut printed = Ok(());
        let dumped = image.core().dump(&mut |record| {
            match *record {
                DumpRecord::Node { level, used_bytes, .. } => add(&mut levels, level, used_bytes),
                DumpRecord::Item { kind, bytes, .. } => add(&mut kinds, kind, bytes.len()),
                DumpRecord::Damaged { .. } => damaged += 1,
            }
            printed = self.print(record);
            printed.is_ok()
        });
        printed?;
        dumped.map_err(failed)?;
        self.print_sums(&levels, &kinds)?;
        match damaged {
            0 => Ok(()),
            _ => Err(failed(CoreError::Corrupt {
                place: 0,
                what: "some nodes of the tree cannot be read",
            })),
        }
    }

    /// What is read: for a directory of a mounted VexFS the device that it is on.
    fn device(&self) -> Outcome<PathBuf> {
        if let VolumeName::Image(path) = VolumeName::parse(self.image.as_os_str()) {
            return Ok(path);
        }
        let path = printable(&self.image);
        let Some(mounted) = find_mount(&self.image) else {
            return Err(Failure::new(format!(
                "{path}: the kernel does not tell what is mounted there"
            ))
            .hint("Give its device."));
        };
        complain(&format!(
            "vexfs: {path}: this is {}, as last published; where it changes meanwhile it looks damaged",
            printable(&mounted.device)
        ));
        Ok(mounted.device)
    }

    fn print_superblocks(&self, path: &Path) -> Outcome {
        let device = Device::open(path, Access::Read)?;
        let mut printed = Ok(());
        dump_superblocks(&host(device), &mut |copy| {
            if printed.is_ok() {
                printed = self.print_superblock(copy);
            }
        })
        .map_err(|error| core_failure(path.as_os_str().as_bytes(), error))?;
        printed
    }

    fn print_superblock(&self, copy: &SuperblockCopy<'_>) -> Outcome {
        let SuperblockCopy { number, offset, layout, fault } = *copy;
        let fault = fault.map(|error| vexfs_engine::describe(&error).to_string());
        if self.json {
            let fields = layout.map(|layout| {
                let fields = json!({
                    "version": layout.version.get(),
                    "uuid": uuid_text(&layout.uuid),
                    "features_compatible": layout.features_compatible.get(),
                    "features_read_only": layout.features_read_only.get(),
                    "features_incompatible": layout.features_incompatible.get(),
                    "block_log2": layout.block_log2.get(),
                    "copy": layout.copy.get(),
                    "blocks": layout.blocks.get(),
                    "generation": layout.generation.get(),
                    "writer_generation": layout.writer_generation.get(),
                    "root_block": layout.root.block.get(),
                    "root_generation": layout.root.generation.get(),
                    "root_level": layout.root.level,
                    "blocks_free": layout.blocks_free.get(),
                    "next_object": layout.next_object.get(),
                    "next_collection": layout.next_collection.get(),
                    "inodes": layout.inodes.get(),
                });
                with_path(fields, "label", label_bytes(&layout.label))
            });
            return output::json(&json!({
                "record": "superblock",
                "copy": number,
                "offset": offset,
                "fault": fault,
                "fields": fields,
            }));
        }
        let state = match (&fault, layout) {
            (Some(fault), _) => fault.clone(),
            (None, Some(layout)) => format!(
                "state {}, root at block {} (level {}, state {}), {} of {} blocks free, {} inodes, \
                 next object {}, writer {}",
                layout.generation.get(),
                layout.root.block.get(),
                layout.root.level,
                layout.root.generation.get(),
                layout.blocks_free.get(),
                layout.blocks.get(),
                layout.inodes.get(),
                layout.next_object.get(),
                layout.writer_generation.get()
            ),
            (None, None) => "cannot be read".to_owned(),
        };
        output::line(&format!("superblock {number} at byte {offset}: {state}"))
    }

    fn print(&self, record: &DumpRecord<'_>) -> Outcome {
        match *record {
            DumpRecord::Node { block, generation, checksum, level, count, used_bytes }
                if self.nodes =>
            {
                if self.json {
                    return output::json(&json!({
                        "record": "node", "block": block, "generation": generation,
                        "checksum": checksum, "level": level, "count": count,
                        "used_bytes": used_bytes,
                    }));
                }
                output::line(&format!(
                    "node at block {block}: level {level}, {count} entries in {used_bytes} bytes, \
                     state {generation}, checksum {checksum:08x}"
                ))
            }
            DumpRecord::Damaged { block, level, error } => {
                let error = vexfs_engine::describe(&error).to_string();
                if self.json {
                    return output::json(&json!({
                        "record": "damaged", "block": block, "level": level, "error": error,
                    }));
                }
                output::line(&format!("node at block {block}: level {level}, {error}"))
            }
            DumpRecord::Item { object, kind, offset, bytes } if self.shows(object, kind) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let name = kind_name(kind);
                if self.json {
                    return output::json(&json!({
                        "record": "item", "object": object, "kind": name, "offset": offset,
                        "bytes": hex,
                    }));
                }
                output::line(&format!("  {object} {name} {offset:#x}: {hex}"))
            }
            _ => Ok(()),
        }
    }

    fn shows(&self, object: u64, kind: u8) -> bool {
        self.items
            && self.object.is_none_or(|wanted| wanted == object)
            && self.kind.as_ref().is_none_or(|wanted| kind_name(kind) == wanted)
    }

    fn print_sums(&self, levels: &BTreeMap<u8, Sum>, kinds: &BTreeMap<u8, Sum>) -> Outcome {
        if self.json {
            for (level, sum) in levels.iter().rev() {
                output::json(&json!({
                    "record": "level", "level": level, "nodes": sum.count, "bytes": sum.bytes,
                }))?;
            }
            return kinds.iter().try_for_each(|(kind, sum)| {
                output::json(&json!({
                    "record": "kind", "kind": kind_name(*kind), "items": sum.count,
                    "bytes": sum.bytes,
                }))
            });
        }
        let table = |heads: [&'static str; 3], rows: Vec<(String, &Sum)>| {
            let columns =
                [(heads[0], Align::Left), (heads[1], Align::Right), (heads[2], Align::Right)];
            let mut table = Table::new(&columns);
            for (name, sum) in rows {
                table.row(vec![name, sum.count.to_string(), sum.bytes.to_string()]);
            }
            table
        };
        output::line("")?;
        let rows = levels.iter().rev().map(|(level, sum)| (level.to_string(), sum)).collect();
        table(["LEVEL", "NODES", "BYTES USED"], rows).print()?;
        output::line("")?;
        let rows = kinds.iter().map(|(kind, sum)| (kind_name(*kind).to_owned(), sum)).collect();
        table(["KIND", "ITEMS", "BYTES"], rows).print()
    }
}

fn add(sums: &mut BTreeMap<u8, Sum>, key: u8, bytes: usize) {
    let sum = sums.entry(key).or_default();
    sum.count += 1;
    sum.bytes += bytes as u64;
}
