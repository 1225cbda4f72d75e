// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs export`: the vectors of a collection as a .npy file.

use crate::arrays::{ArrayWriter, Component};
use crate::collection::{collection_failure, find};
use crate::failure::{Failure, Outcome, core_failure};
use crate::output::{self, counted};
use crate::place::open;
use clap::Args;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Vectors that are listed at a time.
const BATCH: usize = 4096;

/// Arguments of `vexfs export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs export data.vexfs digits digits.npy\n\n\
    The rows are in the collection's own order: that in which they were put, but that a row\n\
    removed makes room for a later one. Bits are written packed, eight to a byte.")]
pub struct Arguments {
    /// Image file or block device
    image: PathBuf,
    /// Name of the collection
    collection: String,
    /// The file to write
    #[arg(value_name = "OUT.npy")]
    target: PathBuf,
    /// Overwrite the file if it is there
    #[arg(short, long)]
    force: bool,
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        let image = open(&self.image)?;
        let core = image.core();
        let info = find(core, &self.collection)?;
        if !self.force && self.target.symlink_metadata().is_ok() {
            return Err(Failure::about(
                self.target.as_os_str().as_bytes(),
                "is there already; -f overwrites it",
            ));
        }
        let shape = info.shape;
        let component = Component::of(shape.element);
        let columns = shape.row_bytes() / component.size_bytes();
        let mut writer = ArrayWriter::create(&self.target, component, columns)?;
        let bar = output::progress("vectors", info.rows, false);
        let (mut next, mut listed, mut written) = (Some(0), Vec::new(), 0u64);
        while let Some(from) = next.take() {
            core.rows_of(info.number, from, &mut |vector| {
                listed.push((vector.inode, vector.chunk));
                next = vector.row.checked_add(1);
                listed.len() < BATCH
            })
            .map_err(|error| collection_failure(&self.collection, error))?;
            if listed.len() < BATCH {
                next = None;
            }
            for (inode, chunk) in listed.drain(..) {
                let (_, bytes) = core.get_vector(info.number, inode, chunk).map_err(|error| {
                    core_failure(format!("vector of inode {inode}, chunk {chunk}"), error)
                })?;
                writer.write_row(&bytes)?;
                written += 1;
                bar.inc(1);
            }
        }
        writer.finish()?;
        bar.finish_and_clear();
        output::line(&format!("{} of '{}' written", counted(written, "vector"), self.collection))
    }
}
