// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! `mkfs.vexfs`, also `vexfs mkfs`: making a file system.

use crate::escape::escape_name;
use crate::failure::{Failure, Outcome};
use crate::output::{self, Align, Table, human_bytes};
use crate::place::{owner, printable};
use crate::signature;
use crate::size::parse_size;
use clap::{Args, Parser};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use vexfs_engine::core::BlockDevice;
use vexfs_engine::core::layout::{BLOCK_LOG2_RANGE, FILESYSTEM_BLOCKS_MAX, FILESYSTEM_BYTES_MIN};
use vexfs_engine::{Access, CoreError, CreateOptions, Device, Image, Reason};

pub(super) const EXAMPLES: &str = "\
Examples:
  mkfs.vexfs notes.img 256M             a file system in a new image file
  mkfs.vexfs -L archive /dev/sdb1       one on a whole partition
  mkfs.vexfs -n notes.img 1G            only say what would be done
  mkfs.vexfs -f notes.img 2G            overwrite notes.img, made larger to 2 GiB

Where something is already (another file system, a partition table, a file that is not empty) it asks, \
unless -f is given, and overwrites it if standard input says y. What is mounted is refused without -f. \
Everything on it is lost.";

/// Makes a VexFS file system in an image file or on a block device
#[derive(Debug, Parser)]
#[command(name = "mkfs.vexfs", version, after_help = EXAMPLES)]
pub struct CommandLine {
    /// Its arguments.
    #[command(flatten)]
    pub arguments: Arguments,
}

/// Arguments of `mkfs.vexfs`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Name of the file system: at most 64 bytes
    #[arg(short = 'L', long, value_name = "LABEL", default_value = "")]
    label: String,

    /// Identity of the file system, or `random`
    #[arg(short = 'U', long, value_name = "UUID", value_parser = parse_uuid, default_value = "random")]
    uuid: Identity,

    /// Bytes of a block: 4K, 8K, 16K, 32K or 64K
    #[arg(short = 'b', long, value_name = "SIZE", value_parser = parse_size, default_value = "4K")]
    block_size: u64,

    /// Overwrite what is there, and a mounted device
    #[arg(short, long)]
    force: bool,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,

    /// Image file or block device
    #[arg(value_name = "IMAGE|DEVICE")]
    image: PathBuf,

    /// Size of an image file, which is made or grown to it (K, M, G, T); the part of a device to
    /// use. Without it, what is there is used whole
    #[arg(value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,
}

/// What `-U` says.
#[derive(Clone, Debug)]
struct Identity(Option<[u8; 16]>);

fn parse_uuid(text: &str) -> Result<Identity, String> {
    if text == "random" {
        return Ok(Identity(None));
    }
    match Uuid::parse_str(text) {
        Ok(uuid) if !uuid.is_nil() => Ok(Identity(Some(*uuid.as_bytes()))),
        Ok(_) => Err("the identity of all zeros is nobody's".to_owned()),
        Err(error) => Err(format!("{error}; write one like those of `uuidgen`, or `random`")),
    }
}

/// The directory that a path leads into.
fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A failure to make a file system, of which nothing is worth keeping.
fn not_made(error: vexfs_engine::Error) -> Failure {
    match error.core() {
        Some(CoreError::Device(_) | CoreError::Poisoned) => {
            Failure::about(error.object.as_bytes(), &error.reason).hint(
                "No file system was made. See to the disk below (is it full?), then run the \
                 command again with -f.",
            )
        }
        _ => error.into(),
    }
}

impl Arguments {
    /// Runs the command.
    pub fn run(&self) -> Outcome {
        let block_bytes = self.check()?;
        let options = CreateOptions {
            uuid: self.uuid.0,
            label: self.label.clone(),
            block_bytes,
            owner: owner(),
            overwrite: true,
            ..CreateOptions::default()
        };
        let exists = self.image.symlink_metadata().is_ok();
        if !exists && self.size.is_none() {
            return Err(Failure::new(format!("{}: not there", printable(&self.image)))
                .hint("Give a SIZE, such as 256M, to make a new image file."));
        }
        let device = if exists { Some(self.open()?) } else { None };
        let device_bytes = device.as_ref().map_or(0, BlockDevice::size_bytes);
        let is_device = device.as_ref().is_some_and(Device::is_block_device);
        let bytes = self.check_size(device_bytes, is_device, block_bytes)?;
        if self.dry_run {
            if !exists {
                self.check_directory()?;
            }
            return self.say_would(device.as_ref(), bytes, block_bytes);
        }
        let image = match device {
            Some(device) => {
                signature::wipe(&device)?;
                Image::create_on(device, self.size, &options).map_err(not_made)?
            }
            None => Image::create(&self.image, self.size, &options).map_err(not_made)?,
        };
        if !self.quiet {
            self.say(&image)?;
        }
        image.close().map_err(not_made)
    }

    /// Checks what the engine would only refuse after something was changed.
    fn check(&self) -> Outcome<u32> {
        let usable = self.block_size.is_power_of_two()
            && BLOCK_LOG2_RANGE.contains(&self.block_size.trailing_zeros());
        if !usable {
            return Err(Failure::usage(format!(
                "a block has 4K, 8K, 16K, 32K or 64K, not {}",
                self.block_size
            )));
        }
        if self.label.len() > 64 || self.label.contains('\0') {
            return Err(Failure::usage("a label has at most 64 bytes"));
        }
        Ok(self.block_size as u32)
    }

    /// The bytes that the file system may use.
    fn check_size(&self, device_bytes: u64, is_device: bool, block_bytes: u32) -> Outcome<u64> {
        let name = printable(&self.image);
        let bytes = self.size.unwrap_or(device_bytes);
        let too_large = is_device && bytes > device_bytes;
        if too_large || (!is_device && bytes < device_bytes) {
            return Err(Failure::new(format!(
                "{name}: has {} and cannot be given {}",
                human_bytes(device_bytes),
                human_bytes(bytes)
            ))
            .hint("Leave SIZE out to use all of it."));
        }
        let least = FILESYSTEM_BYTES_MIN.max(256 * u64::from(block_bytes));
        if bytes < least {
            return Err(Failure::new(format!(
                "{name}: {} is too small for a file system with blocks of {}, which needs {}",
                human_bytes(bytes),
                human_bytes(block_bytes.into()),
                human_bytes(least)
            )));
        }
        // The offsets of Linux have a sign.
        let most = FILESYSTEM_BLOCKS_MAX.saturating_mul(block_bytes.into()).min(i64::MAX as u64);
        if bytes > most {
            return Err(Failure::new(format!(
                "{name}: {bytes} bytes are too many for a file system with blocks of {}, which has at \
                 most {most} ({})",
                human_bytes(block_bytes.into()),
                human_bytes(most)
            )));
        }
        if !is_device && bytes > device_bytes && self.is_too_large_a_file(bytes) {
            return Err(Failure::new(format!(
                "{name}: {} is more than a file can have where it lies",
                human_bytes(bytes)
            )));
        }
        Ok(bytes)
    }

    /// Whether the file system that the image lies on, or is made on, says that it has no files of so
    /// many bytes.
    fn is_too_large_a_file(&self, bytes: u64) -> bool {
        use rustix::fs::{Mode, OFlags, ftruncate, open};
        let place = self.image.canonicalize().unwrap_or_else(|_| self.image.clone());
        // A file without a name goes when it is closed.
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        open(directory_of(&place), flags, Mode::RUSR | Mode::WUSR)
            .is_ok_and(|file| ftruncate(file, bytes) == Err(rustix::io::Errno::FBIG))
    }

    /// Checks what making a new file would, for a dry run.
    fn check_directory(&self) -> Outcome {
        use rustix::fs::{Access, access};
        access(directory_of(&self.image), Access::WRITE_OK | Access::EXEC_OK).map_err(|errno| {
            Failure::about(self.image.as_os_str().as_bytes(), std::io::Error::from(errno))
        })
    }

    /// Opens what is there. Unless it is forced to, it asks before something is overwritten, as
    /// mke2fs(8) does: so `yes |` goes before it in scripts, and without an answer nothing is lost.
    fn open(&self) -> Outcome<Device> {
        let access = match (self.dry_run, self.force) {
            (true, _) => Access::Read,
            (false, true) => Access::WriteClaimed,
            (false, false) => Access::Write,
        };
        let device = Device::open(&self.image, access).map_err(|error| match error.reason {
            Reason::Mounted(_) if !self.force => {
                Failure::from(error).hint("With -f it is overwritten all the same.")
            }
            _ => error.into(),
        })?;
        let Some(found) = signature::find(&device)?.filter(|_| !self.force) else {
            return Ok(device);
        };
        let what = format!("{}: holds {found}", printable(&self.image));
        if !self.dry_run && output::ask(&format!("{what}. Overwrite it?"))? {
            return Ok(device);
        }
        Err(Failure::new(what).hint("Nothing was changed. With -f it is overwritten, and lost."))
    }

    fn say_would(&self, device: Option<&Device>, bytes: u64, block_bytes: u32) -> Outcome {
        if self.quiet {
            return Ok(());
        }
        let what = match device {
            None => "would be made",
            Some(device) if device.size_bytes() < bytes && !device.is_block_device() => {
                "would be grown and overwritten"
            }
            Some(_) => "would be overwritten",
        };
        output::line(&format!(
            "{}: {what} with a VexFS of {} ({} blocks of {}); nothing was done",
            printable(&self.image),
            human_bytes(bytes),
            bytes / u64::from(block_bytes),
            human_bytes(block_bytes.into())
        ))?;
        Ok(())
    }

    fn say(&self, image: &Image) -> Outcome {
        let status = image.status();
        let block_bytes = u64::from(status.block_bytes);
        let mut table = Table::new(&[("", Align::Left), ("", Align::Left)]);
        let mut row = |name: &str, value: String| table.row(vec![format!("  {name}"), value]);
        row("UUID", Uuid::from_bytes(status.uuid).to_string());
        if !self.label.is_empty() {
            row("Label", escape_name(self.label.as_bytes()));
        }
        row(
            "Size",
            format!(
                "{} ({} blocks of {})",
                human_bytes(status.blocks * block_bytes),
                status.blocks,
                human_bytes(block_bytes)
            ),
        );
        row("Free", human_bytes(status.blocks_available * block_bytes));
        output::line(&format!("{}: made a VexFS", printable(&self.image)))?;
        table.print()
    }
}
