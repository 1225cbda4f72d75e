// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `vexfs bench fs`: how fast files are made, told of, listed, removed, read, written and synced.

use crate::failure::{Failure, Outcome};
use crate::output::{self, Align, Table, human_bytes};
use crate::place::{VolumeName, owner, volume_parser};
use crate::size::parse_size;
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vexfs_engine::core::MODE_DIRECTORY;
use vexfs_engine::{CoreError, Files, LastLink, NewInode, Volume};

const EXAMPLES: &str = "\
Examples:
  vexfs bench fs notes.img
  vexfs bench fs --files 100000 --size 1G --json notes.img

Works in a directory of its own, in the image or the directory given, which is removed afterwards. \
Rates are of one thread, through the library, or through the kernel and its cache for a mounted \
VexFS; a write counts with the sync that makes it durable.";

/// Arguments of `vexfs bench fs`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// How many small files to make
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    files: u32,

    /// Bytes of the large file (K, M, G)
    #[arg(long, default_value = "64M", value_parser = parse_size)]
    size: u64,

    /// Bytes of a random read or write (K, M)
    #[arg(long, default_value = "4K", value_parser = parse_size)]
    block: u64,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,

    /// Image file, block device, or a directory of a mounted VexFS, with room for the files
    #[arg(value_name = "IMAGE|DIR", value_parser = volume_parser())]
    volume: VolumeName,
}

/// Bytes of a sequential read or write.
const SEQUENTIAL_BYTES: usize = 1 << 20;
/// The largest block of a random read or write.
const BLOCK_BYTES_MAX: u64 = 8 << 20;
/// Random reads and writes.
const RANDOM_COUNT: u64 = 4096;
/// Syncs after one small change each.
const SYNC_COUNT: u64 = 32;
/// Where the directory is looked for.
const NAMES_MAX: u32 = 1000;

/// Of the directories that are made.
const DIRECTORY: NewInode = NewInode { mode: MODE_DIRECTORY | 0o755, owner: (0, 0), device: 0 };

/// What was measured.
struct Figure {
    name: &'static str,
    count: u64,
    bytes: u64,
    seconds: f64,
}

/// Measures one thing after another.
#[derive(Default)]
struct Clock {
    figures: Vec<Figure>,
}

impl Clock {
    fn time(
        &mut self,
        name: &'static str,
        count: u64,
        bytes: u64,
        work: impl FnOnce() -> Outcome,
    ) -> Outcome {
        let start = Instant::now();
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        self.figures.push(Figure { name, count, bytes, seconds });
        Ok(())
    }
}

/// Random numbers that are the same in every run (xorshift of 64 bits; Marsaglia, "Xorshift RNGs",
/// 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            self.below(1);
            part.copy_from_slice(&self.0.to_le_bytes()[..part.len()]);
        }
    }
}

impl Arguments {
    /// Does it.
    pub fn run(&self) -> Outcome {
        if !(1..=BLOCK_BYTES_MAX).contains(&self.block) || self.size < self.block {
            return Err(Failure::usage("--block is from 1 to 8M, and at most --size"));
        }
        let volume = self.volume.open_for_change()?;
        let top = make_directory(volume.files(), self.volume.top())?;
        let figures = self.measure(&volume, &top);
        let removed = volume.files().remove_tree(&top);
        let figures = figures?;
        removed?;
        volume.close()?;
        self.print(&figures)
    }

    fn measure(&self, volume: &Volume, top: &Path) -> Outcome<Vec<Figure>> {
        let mut figures = self.measure_small(volume, top)?;
        figures.extend(self.measure_large(volume, top)?);
        Ok(figures)
    }

    /// Many small files.
    fn measure_small(&self, volume: &Volume, top: &Path) -> Outcome<Vec<Figure>> {
        let mut clock = Clock::default();
        let (files, count) = (volume.files(), u64::from(self.files));
        let small = top.join("small");
        files.create(&small, &DIRECTORY)?;
        let path = |number: u64| small.join(format!("file-{number:08}"));
        clock.time("create", count, 0, || {
            for number in 0..count {
                files.create_file(&path(number), 0o644, owner())?.write_at(0, b"a small file")?;
            }
            Ok(volume.sync()?)
        })?;
        clock.time("stat", count, 0, || {
            for number in 0..count {
                files.attributes(&path(number * 7919 % count), LastLink::Follow)?;
            }
            Ok(())
        })?;
        clock.time("readdir", count, 0, || Ok(files.list(&small).map(drop)?))?;
        clock.time("unlink", count, 0, || {
            for number in 0..count {
                files.remove_file(&path(number))?;
            }
            Ok(volume.sync()?)
        })?;
        Ok(clock.figures)
    }

    /// One large file.
    fn measure_large(&self, volume: &Volume, top: &Path) -> Outcome<Vec<Figure>> {
        let mut clock = Clock::default();
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        let mut buffer = vec![0; SEQUENTIAL_BYTES];
        numbers.fill(&mut buffer);
        let file = volume.files().create_file(&top.join("large"), 0o644, owner())?;
        let parts = self.size.div_ceil(SEQUENTIAL_BYTES as u64);
        let part = |at: u64| {
            let offset = at * SEQUENTIAL_BYTES as u64;
            (offset, (self.size - offset).min(SEQUENTIAL_BYTES as u64) as usize)
        };
        clock.time("sequential write", parts, self.size, || {
            for at in 0..parts {
                let (offset, length) = part(at);
                file.write_at(offset, &buffer[..length])?;
            }
            Ok(volume.sync()?)
        })?;
        let mut read = vec![0; SEQUENTIAL_BYTES];
        clock.time("sequential read", parts, self.size, || {
            for at in 0..parts {
                let (offset, length) = part(at);
                file.read_at(offset, &mut read[..length])?;
            }
            Ok(())
        })?;
        let block = self.block as usize;
        let blocks = self.size / self.block;
        let bytes = RANDOM_COUNT * self.block;
        buffer.resize(block, 1);
        read.resize(block, 0);
        clock.time("random read", RANDOM_COUNT, bytes, || {
            for _ in 0..RANDOM_COUNT {
                file.read_at(numbers.below(blocks) * self.block, &mut read[..block])?;
            }
            Ok(())
        })?;
        clock.time("random write", RANDOM_COUNT, bytes, || {
            for _ in 0..RANDOM_COUNT {
                file.write_at(numbers.below(blocks) * self.block, &buffer[..block])?;
            }
            Ok(volume.sync()?)
        })?;
        clock.time("sync", SYNC_COUNT, 0, || {
            for at in 0..SYNC_COUNT {
                file.write_at(at % blocks * self.block, &buffer[..block])?;
                volume.sync()?;
            }
            Ok(())
        })?;
        Ok(clock.figures)
    }

    fn print(&self, figures: &[Figure]) -> Outcome {
        let rate = |figure: &Figure, amount: u64| amount as f64 / figure.seconds.max(1e-9);
        if self.json {
            return figures.iter().try_for_each(|figure| {
                output::json(&json!({
                    "name": figure.name,
                    "count": figure.count,
                    "bytes": figure.bytes,
                    "seconds": figure.seconds,
                    "per_second": rate(figure, figure.count),
                    "bytes_per_second": rate(figure, figure.bytes),
                    "mean_us": figure.seconds * 1e6 / figure.count as f64,
                }))
            });
        }
        let mut table = Table::new(&[
            ("WHAT", Align::Left),
            ("COUNT", Align::Right),
            ("PER SECOND", Align::Right),
            ("MEAN", Align::Right),
            ("RATE", Align::Right),
        ]);
        for figure in figures {
            let throughput = match figure.bytes {
                0 => String::new(),
                bytes => format!("{}/s", human_bytes(rate(figure, bytes) as u64)),
            };
            table.row(vec![
                figure.name.to_owned(),
                figure.count.to_string(),
                format!("{:.0}", rate(figure, figure.count)),
                format!("{:.1} us", figure.seconds * 1e6 / figure.count as f64),
                throughput,
            ]);
        }
        table.print()
    }
}

/// Makes a directory in `top` with a name that is not there.
fn make_directory(files: Files<'_>, top: &Path) -> Outcome<PathBuf> {
    for number in 0..NAMES_MAX {
        let path = top.join(format!(".vexfs-bench-{number}"));
        match files.create(&path, &DIRECTORY) {
            Ok(()) => return Ok(path),
            Err(error) if error.errno() == CoreError::Exists.errno() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("all of .vexfs-bench-0 to .vexfs-bench-{} are there", NAMES_MAX - 1))
        .hint("Earlier runs left them; remove them with vexfs rm -r."))
}
