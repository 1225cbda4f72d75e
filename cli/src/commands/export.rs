// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs export`: the vectors of a collection as a .npy file.

use crate::arrays::{ArrayWriter, Component};
use crate::collection::{DAMAGED_HINT, find};
use crate::failure::{Failure, Outcome};
use crate::output::{self, counted};
use crate::place::{VolumeName, volume_parser};
use clap::Args;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Arguments of `vexfs export`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  vexfs export data.vexfs digits digits.npy\n\n\
    The rows are in the collection's own order: that in which they were put, but that a row\n\
    removed makes room for a later one. Bits are written packed, eight to a byte. Of a mounted\n\
    VexFS those of files that may be read are written.\n\n\
    The file gets its name when all is in it. A damaged vector ends the command without one; with\n\
    --skip-damaged the others are written, how many are left out of each file is said, and the exit\n\
    code is 1.")]
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
    /// Leave out vectors that are damaged
    #[arg(long)]
    skip_damaged: bool,
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
        let mut left_out: BTreeMap<OsString, u64> = BTreeMap::new();
        let listed = volume.each_vector(&info, &mut |chunk, vector| {
            bar.inc(1);
            match vector {
                Ok(bytes) => match writer.write_row(bytes) {
                    Ok(()) => written += 1,
                    Err(error) => failed = Some(error.into()),
                },
                Err(error) if self.skip_damaged => *left_out.entry(error.object).or_default() += 1,
                Err(error) => failed = Some(damaged(chunk, &error)),
            }
            failed.is_none()
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        listed?;
        writer.publish()?;
        bar.finish_and_clear();
        output::line(&format!("{} of '{}' written", counted(written, "vector"), self.collection))?;
        if left_out.is_empty() {
            return Ok(());
        }
        for (file, number) in left_out {
            let what = format!("{} left out", counted(number, "damaged vector"));
            Failure::about(file.as_bytes(), what).tell();
        }
        Err(Failure::Told)
    }
}

/// A damaged vector of the file that the error is about.
fn damaged(chunk: u32, error: &vexfs_engine::Error) -> Failure {
    Failure::about(error.object.as_bytes(), format!("vector of chunk {chunk}: {}", error.reason))
        .hint(&format!("--skip-damaged leaves out what is damaged. {DAMAGED_HINT}"))
}
