// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The tool `vexfs`, which is `mkfs.vexfs` and `fsck.vexfs` when it is called so: a crate cannot
//! have these names, so that they are links to this one.

use std::process::ExitCode;

fn main() -> ExitCode {
    vexfs_cli::program::run(std::env::args_os())
}
