// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A file that is written under another name until it is complete.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A file that takes its name, and the place of what had it, with [`Draft::publish`]; without, it is
/// removed. What is there and no regular file, such as a pipe, is written to as it is.
#[derive(Debug)]
pub struct Draft {
    file: File,
    /// Where it is, and where it goes.
    move_to: Option<(PathBuf, PathBuf)>,
}

impl Draft {
    /// Makes it beside its place.
    pub fn create(path: &Path) -> io::Result<Self> {
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(Self { file: File::create(path)?, move_to: None });
        }
        // A link keeps leading to it.
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = OsString::from(".");
        name.push(place.file_name().unwrap_or_default());
        name.push(format!(".{}", std::process::id()));
        let draft = place.with_file_name(name);
        Ok(Self { file: File::create_new(&draft)?, move_to: Some((draft, place)) })
    }

    /// Gives it its name.
    pub fn publish(mut self) -> io::Result<()> {
        if let Some((draft, place)) = &self.move_to {
            std::fs::rename(draft, place)?;
            self.move_to = None;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some((draft, _)) = &self.move_to {
            // That it stays would be the lesser evil.
            let _ = std::fs::remove_file(draft);
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Draft {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
