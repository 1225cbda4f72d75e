// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Which file systems are mounted where, as the kernel tells it.

use crate::device::loop_device;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A mounted file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub at: PathBuf,
    /// What is mounted there: a block device, as it was named.
    pub device: PathBuf,
}

/// Where something is mounted: a block device, an image file (by way of a loop device), or what a
/// directory lies on. Nothing if it is not, or the kernel does not tell.
pub fn find_mount(path: impl AsRef<Path>) -> Option<Mounted> {
    let path = path.as_ref();
    let metadata = path.metadata().ok()?;
    let number = |device| format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let number = if metadata.is_dir() {
        number(metadata.dev())
    } else if metadata.file_type().is_block_device() {
        number(metadata.rdev())
    } else {
        std::fs::read_to_string(loop_device(path)?.join("dev")).ok()?.trim_end().to_owned()
    };
    let table = std::fs::read("/proc/self/mountinfo").ok()?;
    table.split(|byte| *byte == b'\n').find_map(|line| parse(line, number.as_bytes()))
}

/// A line of `mountinfo`, if it is about the device of this number.
fn parse(line: &[u8], number: &[u8]) -> Option<Mounted> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    // Behind optional fields come a dash, the type, and the source.
    let source = fields.iter().position(|field| *field == b"-")? + 2;
    if fields.get(2) != Some(&number) {
        return None;
    }
    Some(Mounted { at: unescaped(fields.get(4)?), device: unescaped(fields.get(source)?) })
}

/// A path without the octal escapes for spaces and the like.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[3..] } else { behind };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_where_a_device_is_mounted() {
        let line = b"36 35 98:0 / /mnt/my\\040files rw,noatime shared:1 - vexfs /dev/sdb1 rw";
        let mounted = Mounted { at: "/mnt/my files".into(), device: "/dev/sdb1".into() };
        assert_eq!(parse(line, b"98:0"), Some(mounted));
        assert_eq!(parse(line, b"98:1"), None);
        assert_eq!(parse(b"", b"98:0"), None);
        assert_eq!(parse(b"36 35 98:0 / /mnt - vexfs", b"98:0"), None);
    }

    #[test]
    fn the_root_directory_lies_on_something_mounted() {
        // In a container the kernel may keep it to itself.
        if let Some(mounted) = find_mount("/") {
            assert!(mounted.at.is_absolute());
        }
        assert_eq!(find_mount("/no/such/file"), None);
    }
}
