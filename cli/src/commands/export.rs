// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs export`: the vectors of a collection as a .npy file.

use crate::arrays::{ArrayWriter, Component};
use crate::collection::find;
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted};
use crate::place::{VolumeName, volume_parser};
use clap::Args;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Arguments of `vexfs export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs export data.vexfs digits digits.npy\n\n\
    The rows are in the collection's own order: that in which they were put, but that a row\n\
    removed makes room for a later one. Bits are written packed, eight to a byte. Of a mounted\n\
    VexFS those of files that may be read are written.")]
pub struct Arguments {
    /// Image file, block device, or a directory of a mounted VexFS
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
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
        let volume = self.volume.open()?;
        let info = find(&volume, &self.collection)?;
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
        let (mut written, mut failed) = (0u64, None);
        let listed = volume.each_vector(&info, &mut |bytes| {
            match writer.write_row(bytes) {
                Ok(()) => written += 1,
                Err(error) => failed = Some(error),
            }
            bar.inc(1);
            failed.is_none()
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        listed?;
        writer.finish()?;
        bar.finish_and_clear();
        output::line(&format!("{} of '{}' written", counted(written, "vector"), self.collection))
    }
}
