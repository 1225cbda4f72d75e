// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a device or file holds already, by the marks that file systems, partition tables and the
//! like leave at known places.

use std::fs::File;
use vexfs_engine::Device;
use vexfs_engine::core::BlockDevice;
use vexfs_engine::core::layout::{SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSETS};

/// A mark at a place.
struct Mark {
    name: &'static str,
    offset: u64,
    bytes: &'static [u8],
}

const fn mark(name: &'static str, offset: u64, bytes: &'static [u8]) -> Mark {
    Mark { name, offset, bytes }
}

/// The most telling first: many file systems have room for a boot record before them.
const MARKS: &[Mark] = &[
    mark("VexFS", SUPERBLOCK_OFFSETS[0], &SUPERBLOCK_MAGIC),
    mark("VexFS", SUPERBLOCK_OFFSETS[1], &SUPERBLOCK_MAGIC),
    mark("LUKS encryption", 0, b"LUKS\xba\xbe"),
    mark("LUKS encryption", 0x4000, b"SKUL\xba\xbe"),
    mark("LVM", 0x018, b"LVM2 001"),
    mark("LVM", 0x000, b"LABELONE"),
    mark("LVM", 0x200, b"LABELONE"),
    mark("LVM", 0x400, b"LABELONE"),
    mark("LVM", 0x600, b"LABELONE"),
    mark("RAID", 0x0000, b"\xfc\x4e\x2b\xa9"),
    mark("RAID", 0x1000, b"\xfc\x4e\x2b\xa9"),
    mark("ext2, ext3 or ext4", 0x438, b"\x53\xef"),
    mark("XFS", 0, b"XFSB"),
    mark("Btrfs", 0x1_0040, b"_BHRfS_M"),
    mark("bcachefs", 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    mark("bcachefs", 0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    mark("F2FS", 0x400, b"\x10\x20\xf5\xf2"),
    mark("EROFS", 0x400, b"\xe2\xe1\xf5\xe0"),
    mark("SquashFS", 0, b"hsqs"),
    mark("ReiserFS", 0x1_0034, b"ReIsEr"),
    mark("JFS", 0x8000, b"JFS1"),
    mark("NILFS", 0x406, b"\x34\x34"),
    mark("Minix", 0x410, b"\x7f\x13"),
    mark("Minix", 0x410, b"\x8f\x13"),
    mark("Minix", 0x410, b"\x68\x24"),
    mark("Minix", 0x410, b"\x78\x24"),
    mark("Minix", 0x418, b"\x5a\x4d"),
    mark("BFS", 0, b"\xce\xfa\xad\x1b"),
    mark("ISO 9660", 0x8001, b"CD001"),
    mark("UDF", 0x8001, b"BEA01"),
    mark("HFS+", 0x400, b"H+\0\x04"),
    mark("HFS+", 0x400, b"HX\0\x05"),
    mark("APFS", 0x20, b"NXSB"),
    mark("OCFS2", 0x2000, b"OCFSV2"),
    mark("GFS2", 0x1_0000, b"\x01\x16\x19\x70\x00\x00\x00\x01"),
    mark("cramfs", 0, b"\x45\x3d\xcd\x28"),
    mark("romfs", 0, b"-rom1fs-"),
    mark("NTFS", 3, b"NTFS    "),
    mark("exFAT", 3, b"EXFAT   "),
    mark("BitLocker", 3, b"-FVE-FS-"),
    mark("FAT", 0x52, b"FAT32   "),
    mark("FAT", 0x36, b"FAT16   "),
    mark("FAT", 0x36, b"FAT12   "),
    mark("FAT", 0x36, b"FAT     "),
    mark("swap space", 0x0ff6, b"SWAPSPACE2"),
    mark("swap space", 0x1ff6, b"SWAPSPACE2"),
    mark("swap space", 0x3ff6, b"SWAPSPACE2"),
    mark("swap space", 0x7ff6, b"SWAPSPACE2"),
    mark("swap space", 0xfff6, b"SWAPSPACE2"),
    mark("a hibernated system", 0x0ff6, b"S1SUSPEND"),
    mark("a virtual disk of QEMU", 0, b"QFI\xfb"),
    mark("a GPT partition table", 0x0200, b"EFI PART"),
    mark("a GPT partition table", 0x1000, b"EFI PART"),
    mark("a partition table or boot record", 0x1fe, b"\x55\xaa"),
];

/// A mark whose place is told from the end of the device: `before_end` bytes before the last multiple
/// of `unit`.
struct EndMark {
    name: &'static str,
    unit: u64,
    before_end: u64,
    bytes: &'static [u8],
}

const fn end_mark(name: &'static str, unit: u64, before_end: u64, bytes: &'static [u8]) -> EndMark {
    EndMark { name, unit, before_end, bytes }
}

const END_MARKS: &[EndMark] = &[
    // Format 0.90 of Linux's RAID, then format 1.0.
    end_mark("RAID", 0x1_0000, 0x1_0000, b"\xfc\x4e\x2b\xa9"),
    end_mark("RAID", 0x1000, 0x2000, b"\xfc\x4e\x2b\xa9"),
    end_mark("RAID of Intel's firmware", 0x200, 0x400, b"Intel Raid ISM Cfg Sig. "),
    end_mark("RAID of a firmware", 0x200, 0x200, b"\xde\x11\xde\x11"),
    end_mark("a GPT partition table", 0x200, 0x200, b"EFI PART"),
    end_mark("a GPT partition table", 0x1000, 0x1000, b"EFI PART"),
];

impl EndMark {
    /// Where it is on a device of this size, if it is large enough.
    fn offset(&self, size_bytes: u64) -> Option<u64> {
        (size_bytes / self.unit * self.unit).checked_sub(self.before_end)
    }
}

/// Where the uberblocks of ZFS's first label lie, and the number each begins with.
const ZFS_UBERBLOCKS: (u64, u64) = (128 << 10, 256 << 10);
const ZFS_UBERBLOCK_BYTES: u64 = 1 << 10;
const ZFS_MAGIC: u64 = 0x00ba_b10c;

/// Bytes of a file that are read at a time in search of anything but zeros.
const READ_BYTES: u64 = 1 << 20;
/// Bytes of a file that are read at most. Holes cost nothing; who has more than this in zeros has to
/// insist.
const READ_BYTES_MAX: u64 = 64 << 30;

/// What the device holds already; `None` if it looks empty. Regular files count as in use too if
/// they hold anything but zeros.
///
/// # Errors
/// Those of reading the device.
pub fn find(device: &Device) -> Result<Option<&'static str>, vexfs_engine::Error> {
    for mark in MARKS {
        if read_at(device, mark.offset, mark.bytes.len())? == mark.bytes {
            return Ok(Some(mark.name));
        }
    }
    for mark in END_MARKS {
        if let Some(offset) = mark.offset(device.size_bytes())
            && read_at(device, offset, mark.bytes.len())? == mark.bytes
        {
            return Ok(Some(mark.name));
        }
    }
    let (start, end) = ZFS_UBERBLOCKS;
    let labels = read_at(device, start, (end - start) as usize)?;
    let is_uberblock = |block: &[u8]| {
        block.first_chunk().is_some_and(|bytes| {
            u64::from_le_bytes(*bytes) == ZFS_MAGIC || u64::from_be_bytes(*bytes) == ZFS_MAGIC
        })
    };
    if labels.chunks(ZFS_UBERBLOCK_BYTES as usize).any(is_uberblock) {
        return Ok(Some("ZFS"));
    }
    if device.is_block_device() {
        return Ok(None);
    }
    find_data(device)
}

/// What a file holds that has no mark, if anything.
fn find_data(device: &Device) -> Result<Option<&'static str>, vexfs_engine::Error> {
    // Opened once more for its holes alone; without that they are read as the zeros they are.
    let file = File::open(device.path()).ok();
    let (mut at, mut read) = (0, 0);
    loop {
        if let Some(file) = &file {
            match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(data) => at = data,
                Err(rustix::io::Errno::NXIO) => return Ok(None),
                Err(_) => {}
            }
        }
        let bytes = read_at(device, at, READ_BYTES as usize)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(Some("data of a kind unknown here"));
        }
        at += bytes.len() as u64;
        read += bytes.len() as u64;
        if bytes.is_empty() {
            return Ok(None);
        }
        if read > READ_BYTES_MAX {
            return Ok(Some("more than is looked through for data"));
        }
    }
}

/// Zeros the marks of what was there, so that nobody finds it beside the new file system. What lies
/// before the first superblock is not used by VexFS at all.
pub fn wipe(device: &Device) -> Result<(), vexfs_engine::Error> {
    let [first, _] = SUPERBLOCK_OFFSETS;
    let (start, end) = ZFS_UBERBLOCKS;
    for (offset, length) in [(0, first), (start, end - start)] {
        let length = length.min(device.size_bytes().saturating_sub(offset));
        let present = read_at(device, offset, length as usize)?;
        // A new file stays without blocks where it is zero.
        if present.iter().any(|byte| *byte != 0) {
            device.write_zeros(offset, length)?;
        }
    }
    for mark in END_MARKS {
        if let Some(offset) = mark.offset(device.size_bytes())
            && read_at(device, offset, mark.bytes.len())? == mark.bytes
        {
            device.write_zeros(offset, mark.bytes.len() as u64)?;
        }
    }
    Ok(())
}

/// Up to `length` bytes from `offset`; less at the end of the device.
fn read_at(device: &Device, offset: u64, length: usize) -> Result<Vec<u8>, vexfs_engine::Error> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match device.read_some(offset + filled as u64, &mut bytes[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_engine::Access;

    fn found(bytes: &[u8]) -> Option<&'static str> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let device = Device::open(file.path(), Access::Write).unwrap();
        let found = find(&device).unwrap();
        wipe(&device).unwrap();
        found
    }

    #[test]
    fn every_mark_is_found_and_nothing_in_zeros() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[0; 4 << 20]), None);
        for mark in MARKS {
            let mut bytes = vec![0; 2 << 20];
            bytes[mark.offset as usize..][..mark.bytes.len()].copy_from_slice(mark.bytes);
            assert_eq!(found(&bytes), Some(mark.name), "at {:#x}", mark.offset);
        }
    }

    #[test]
    fn zfs_is_found_in_either_byte_order() {
        for magic in [ZFS_MAGIC.to_le_bytes(), ZFS_MAGIC.to_be_bytes()] {
            let mut bytes = vec![0; 1 << 20];
            bytes[(128 << 10) + 5 * 1024..][..8].copy_from_slice(&magic);
            assert_eq!(found(&bytes), Some("ZFS"));
        }
    }

    #[test]
    fn a_file_with_data_anywhere_is_in_use() {
        assert_eq!(found(b"my thesis"), Some("data of a kind unknown here"));
        for at in [0, 2 << 20, (3 << 20) - 1] {
            let mut bytes = vec![0; 3 << 20];
            bytes[at] = 1;
            assert_eq!(found(&bytes), Some("data of a kind unknown here"), "at {at}");
        }
    }

    #[test]
    fn holes_are_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 40).unwrap();
        let device = Device::open(file.path(), Access::Write).unwrap();
        assert_eq!(find(&device).unwrap(), None);
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), b"x", 1 << 39).unwrap();
        assert_eq!(find(&device).unwrap(), Some("data of a kind unknown here"));
    }

    #[test]
    fn marks_at_the_end_are_found_and_wiped() {
        // Also of sizes that are no multiple of any unit.
        for size in [4 << 20, (4 << 20) + 0x1_2345] {
            for mark in END_MARKS {
                let file = tempfile::NamedTempFile::new().unwrap();
                let mut bytes = vec![0; size];
                let offset = mark.offset(size as u64).unwrap() as usize;
                bytes[offset..][..mark.bytes.len()].copy_from_slice(mark.bytes);
                std::fs::write(file.path(), &bytes).unwrap();
                let device = Device::open(file.path(), Access::Write).unwrap();
                assert_eq!(find(&device).unwrap(), Some(mark.name), "at {offset:#x}");
                wipe(&device).unwrap();
                assert_eq!(find(&device).unwrap(), None);
            }
        }
    }

    #[test]
    fn wiping_removes_the_marks_before_the_first_superblock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut bytes = vec![0; 1 << 20];
        bytes[0x438..0x43a].copy_from_slice(b"\x53\xef");
        bytes[0x1fe..0x200].copy_from_slice(b"\x55\xaa");
        std::fs::write(file.path(), &bytes).unwrap();
        let device = Device::open(file.path(), Access::Write).unwrap();
        wipe(&device).unwrap();
        assert_eq!(find(&device).unwrap(), None);
        assert_eq!(device.size_bytes(), 1 << 20);
    }
}
