// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs info`: what a file system is and how full.

use crate::escape::escape_name;
use crate::failure::Outcome;
use crate::output::{self, Align, Table, human_bytes, with_path};
use crate::place::{VolumeName, volume_parser};
use crate::time::format_time_exact;
use clap::Args;
use serde_json::json;
use vexfs_engine::Timestamp;

/// Arguments of `vexfs info`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  vexfs info notes.vexfs\n  vexfs info --json /mnt")]
pub struct Arguments {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A UUID in its usual form.
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// A label without its padding.
pub fn label_bytes(label: &[u8; 64]) -> &[u8] {
    label.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A time of which only seconds are known, for machines.
fn seconds_text(seconds: i64) -> String {
    format_time_exact(Timestamp { seconds, nanoseconds: 0 })
}

impl Arguments {
    /// Prints it.
    pub fn run(&self) -> Outcome {
        let status = self.volume.open()?.status()?;
        let block = u64::from(status.block_bytes);
        if self.json {
            let fields = json!({
                "uuid": uuid_text(&status.uuid),
                "block_bytes": status.block_bytes,
                "blocks": status.blocks,
                "blocks_free": status.blocks_free,
                "blocks_available": status.blocks_available,
                "inodes": status.inodes,
                "generation": status.generation,
                "writer_generation": status.writer_generation,
                "created": seconds_text(status.created_seconds),
                "published": seconds_text(status.published_seconds),
                "tree_levels": status.tree_levels,
                "features_compatible": status.features[0],
                "features_read_only": status.features[1],
                "features_incompatible": status.features[2],
            });
            return output::json(&with_path(fields, "label", label_bytes(&status.label)));
        }
        let used = status.blocks.saturating_sub(status.blocks_free);
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        row("label", escape_name(label_bytes(&status.label)));
        row("uuid", uuid_text(&status.uuid));
        row("size", human_bytes(status.blocks * block));
        row("used", human_bytes(used * block));
        row("available", human_bytes(status.blocks_available * block));
        row("block size", human_bytes(block));
        row("inodes", status.inodes.to_string());
        row("generation", status.generation.to_string());
        row("writers so far", status.writer_generation.to_string());
        row("tree levels", status.tree_levels.to_string());
        table.print()
    }
}
