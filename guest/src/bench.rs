// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Times operations on names, in a guest and on any file system:
//!
//! ```text
//! vexfs-guest-bench DIRECTORY COUNT
//! ```
//!
//! Makes that many empty files in a new directory, tells of each, and removes each. Prints a line
//! `NAME PER-SECOND` for each.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

fn timed(
    name: &str,
    files: &[PathBuf],
    operation: impl Fn(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let start = Instant::now();
    for file in files {
        operation(file)?;
    }
    println!("{name} {:.0}", files.len() as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn run(directory: &Path, count: usize) -> std::io::Result<()> {
    let directory = directory.join("names");
    fs::create_dir(&directory)?;
    let files: Vec<PathBuf> = (0..count).map(|n| directory.join(format!("file-{n}"))).collect();
    timed("create", &files, |file| File::create(file).map(drop))?;
    timed("stat", &files, |file| fs::metadata(file).map(drop))?;
    timed("unlink", &files, |file| fs::remove_file(file))?;
    fs::remove_dir(&directory)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, count] = arguments.as_slice() else {
        eprintln!("usage: vexfs-guest-bench DIRECTORY COUNT");
        return ExitCode::from(2);
    };
    let Ok(count) = count.parse() else {
        eprintln!("vexfs-guest-bench: {count} is no number");
        return ExitCode::from(2);
    };
    match run(Path::new(directory), count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vexfs-guest-bench: {directory}: {error}");
            ExitCode::FAILURE
        }
    }
}
