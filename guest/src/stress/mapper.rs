// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Devices of the device mapper, by its ioctls (linux/dm-ioctl.h): a guest has no dmsetup.

use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 312;
const TARGET_BYTES: usize = 40;
const NAME_AT: usize = 48;

const CREATE: u8 = 3;
const REMOVE: u8 = 4;
const SUSPEND: u8 = 6;
const LOAD: u8 = 9;
const MESSAGE: u8 = 14;

const FLAG_SUSPEND: u32 = 1 << 1;
const FLAG_SKIP_LOCKFS: u32 = 1 << 10;
const FLAG_NOFLUSH: u32 = 1 << 11;

/// A mapped device, which is removed when this is dropped.
pub struct Mapped {
    control: File,
    name: String,
    sectors: u64,
    path: PathBuf,
}

/// The size of a device, in sectors of 512 bytes.
pub fn sectors(device: &Path) -> u64 {
    let file = File::open(device).expect("the device");
    rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).expect("its size") / 512
}

impl Mapped {
    /// Makes a device of one target.
    pub fn create(name: &str, sectors: u64, target: &str, parameters: &str) -> Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/mapper/control")?;
        let mut mapped = Self { control, name: name.into(), sectors, path: PathBuf::new() };
        let answer = mapped.call(CREATE, 0, 0, &[])?;
        let number = u64::from_ne_bytes(answer[40..48].try_into().expect("eight bytes"));
        let minor = (number & 0xff) | ((number >> 12) & 0xf_ff00);
        mapped.path = format!("/dev/dm-{minor}").into();
        mapped.load(target, parameters)?;
        mapped.call(SUSPEND, 0, 0, &[])?;
        Ok(mapped)
    }

    /// The device's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts another target in the place of the present one. Nothing is written or waited for first,
    /// and what is mounted on it does not get to know.
    pub fn switch(&self, target: &str, parameters: &str) -> Result<()> {
        self.load(target, parameters)?;
        self.call(SUSPEND, FLAG_SUSPEND | FLAG_SKIP_LOCKFS | FLAG_NOFLUSH, 0, &[])?;
        self.call(SUSPEND, 0, 0, &[]).map(drop)
    }

    /// Sends the target a message.
    pub fn message(&self, text: &str) -> Result<()> {
        let mut data = vec![0; 8];
        data.extend_from_slice(text.as_bytes());
        data.push(0);
        self.call(MESSAGE, 0, 0, &data).map(drop)
    }

    fn load(&self, target: &str, parameters: &str) -> Result<()> {
        let mut data = vec![0; TARGET_BYTES];
        data[8..16].copy_from_slice(&self.sectors.to_ne_bytes());
        data[24..][..target.len()].copy_from_slice(target.as_bytes());
        data.extend_from_slice(parameters.as_bytes());
        data.resize((data.len() + 8) & !7, 0);
        self.call(LOAD, 0, 1, &data).map(drop)
    }

    fn call(&self, command: u8, flags: u32, targets: u32, data: &[u8]) -> Result<Vec<u8>> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().max(16 << 10), 0);
        let size = bytes.len() as u32;
        for (at, number) in
            [(0, 4), (12, size), (16, HEADER_BYTES as u32), (20, targets), (28, flags)]
        {
            bytes[at..at + 4].copy_from_slice(&u32::to_ne_bytes(number));
        }
        bytes[NAME_AT..][..self.name.len()].copy_from_slice(self.name.as_bytes());
        let number = (3 << 30) | ((HEADER_BYTES as u32) << 16) | (0xfd << 8) | u32::from(command);
        // SAFETY: all commands take a pointer to as many bytes as the third number in them says.
        let result =
            unsafe { libc::ioctl(self.control.as_raw_fd(), number as _, bytes.as_mut_ptr()) };
        if result < 0 { Err(Error::last_os_error()) } else { Ok(bytes) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Err(error) = self.call(REMOVE, 0, 0, &[]) {
            eprintln!("{}: {error}", self.path.display());
        }
    }
}
