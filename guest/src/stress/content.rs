// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files whose content, attribute and vectors follow from a version, and whether they are so.

use crate::support::noise;
use crate::vectors;
use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};

/// Bytes of what is overwritten at once in a file that is changed in place.
pub const BLOCK: usize = 4096;
/// How many of these such a file has.
pub const BLOCKS: usize = 16;
/// The extended attribute that files have.
pub const ATTRIBUTE: &str = "user.stress";

const MAGIC: &[u8; 8] = b"version ";

/// Bytes that begin with a version and follow from it.
fn versioned(version: u64, seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = noise(seed, length.max(16));
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version that bytes begin with.
fn version_of(bytes: &[u8]) -> Option<u64> {
    let version = bytes.strip_prefix(MAGIC)?.first_chunk()?;
    Some(u64::from_le_bytes(*version))
}

/// The content of a whole file of a version: often within an inode, at times of many blocks.
pub fn whole(version: u64) -> Vec<u8> {
    let spread = version.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let length = match spread % 8 {
        0..3 => spread % 200,
        3..6 => spread % 20_000,
        6 => spread % 200_000,
        _ => 4096 * (spread % 16),
    };
    versioned(version, version, length as usize)
}

/// Block `number` of a file of blocks.
pub fn block(version: u64, number: usize) -> Vec<u8> {
    versioned(version, version * 1000 + number as u64, BLOCK)
}

/// The value of the attribute.
pub fn attribute(version: u64) -> Vec<u8> {
    let spread = version.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
    versioned(version, version ^ 0xaaaa, (spread % 3000) as usize)
}

fn wrong(text: String) -> Error {
    Error::new(ErrorKind::InvalidData, text)
}

fn same(found: &[u8], wanted: &[u8], what: &str) -> Result<()> {
    if let Some(at) = (0..found.len().min(wanted.len())).find(|at| found[*at] != wanted[*at]) {
        return Err(wrong(format!("{what}: byte {at} is {:#x}, not {:#x}", found[at], wanted[at])));
    }
    if found.len() != wanted.len() {
        return Err(wrong(format!("{what}: {} bytes, not {}", found.len(), wanted.len())));
    }
    Ok(())
}

fn read(file: &File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    (&mut &*file).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The vectors of a file are those of a version. An error of kind `InvalidData` tells what differs.
fn has_vectors(file: &File, collection: u32, version: u64) -> Result<()> {
    let list = vectors::list(file)?;
    if list.len() != vectors::CHUNKS as usize {
        return Err(wrong(format!("version {version} has {} vectors", list.len())));
    }
    for one in list {
        if one.tag != version {
            return Err(wrong(format!("version {version} has a vector of {}", one.tag)));
        }
        let found = vectors::get(file, collection, one.chunk)?;
        same(&found, &vectors::vector(version, one.chunk), "vector")?;
    }
    Ok(())
}

/// The version of a whole file, which it is of in every respect.
pub fn check_whole(file: &File, collection: u32) -> Result<u64> {
    let bytes = read(file)?;
    let Some(version) = version_of(&bytes) else {
        let head = &bytes[..bytes.len().min(16)];
        return Err(wrong(format!("{} bytes without a version: {head:?}", bytes.len())));
    };
    same(&bytes, &whole(version), &format!("version {version}"))?;
    let mut value = vec![0; 65536];
    let length = rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value)?;
    same(&value[..length], &attribute(version), &format!("attribute of version {version}"))?;
    has_vectors(file, collection, version)?;
    if !vectors::list(file)?.iter().all(|one| one.fresh == 1) {
        return Err(wrong(format!("version {version} has a stale vector")));
    }
    Ok(version)
}

/// The earliest version that a block of a file of blocks has. A vector that counts as fresh must be
/// of the version of all of them, and vectors are of no earlier version than `promised`.
pub fn check_blocks(file: &File, collection: u32, promised: u64) -> Result<u64> {
    let bytes = read(file)?;
    if promised == 0 {
        // Nothing was ever durable of it, so it may not even be whole.
        return Ok(0);
    }
    if bytes.len() != BLOCK * BLOCKS {
        return Err(wrong(format!("{} bytes", bytes.len())));
    }
    let mut versions = Vec::new();
    for (number, found) in bytes.chunks(BLOCK).enumerate() {
        let version =
            version_of(found).ok_or_else(|| wrong(format!("block {number}: no version")))?;
        same(found, &block(version, number), &format!("block {number} of version {version}"))?;
        versions.push(version);
    }
    let list = vectors::list(file)?;
    let tag = list.first().map_or(0, |one| one.tag);
    if tag < promised {
        return Err(wrong(format!("the vectors are of version {tag}, not {promised}")));
    }
    has_vectors(file, collection, tag)?;
    if list[0].fresh == 1 && versions.iter().any(|version| *version != tag) {
        return Err(wrong(format!("vectors of version {tag} count as fresh for {versions:?}")));
    }
    Ok(versions.into_iter().min().unwrap_or(0))
}
