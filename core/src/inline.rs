// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Small files, whose bytes live in the tree.
//!
//! A file of at most a quarter of a block that never had extents keeps its bytes in one
//! [`Kind::Inline`] item, which is there exactly when the inode has [`INODE_INLINE`].

use crate::error::{Error, Result, corrupt};
use crate::filesystem::FileSystem;
use crate::inode::Inode;
use crate::key::{Key, Kind};
use crate::layout::INODE_INLINE;
use crate::stream::{Before, StreamWrite, Verify};
use crate::tree::Tree;
use alloc::vec::Vec;
use vexfs_memory::TryVec;

/// Most bytes of a file in the tree.
pub(crate) fn bytes_max(tree: &Tree) -> u64 {
    tree.block_bytes() as u64 / 4
}

/// Whether a file of this inode may be `size` bytes long without extents.
pub(crate) fn fits(tree: &Tree, inode: &Inode, size: u64) -> bool {
    inode.size.max(size) <= bytes_max(tree) && (is_inline(inode) || inode.blocks == 0)
}

pub(crate) fn is_inline(inode: &Inode) -> bool {
    inode.flags & INODE_INLINE != 0
}

/// The bytes of a small file; without an item they are zeros.
pub(crate) fn load(tree: &Tree, number: u64, inode: &Inode) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !is_inline(inode) {
        if inode.size > bytes_max(tree) {
            return Err(corrupt(number, "file too large to be in the tree"));
        }
        bytes.try_resize(inode.size as usize, 0)?;
        return Ok(bytes);
    }
    match tree.get(Key::new(number, Kind::Inline, 0))? {
        Some(item) if item.len() as u64 == inode.size => bytes.try_extend(&item)?,
        _ => return Err(corrupt(number, "bytes of a small file and its size disagree")),
    }
    Ok(bytes)
}

/// Makes `bytes` the bytes of a small file. The caller stores the inode.
pub(crate) fn store(tree: &mut Tree, number: u64, inode: &mut Inode, bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        drop_item(tree, number, inode)?;
    } else {
        tree.put(Key::new(number, Kind::Inline, 0), &[bytes])?;
        inode.flags |= INODE_INLINE;
    }
    inode.size = bytes.len() as u64;
    Ok(())
}

/// Removes the item, if there is one. The caller stores the inode.
pub(crate) fn drop_item(tree: &mut Tree, number: u64, inode: &mut Inode) -> Result<()> {
    if is_inline(inode) {
        tree.remove(Key::new(number, Kind::Inline, 0))?;
        inode.flags &= !INODE_INLINE;
    }
    Ok(())
}

impl FileSystem {
    /// Moves the bytes of a small file into an extent. They stay the same, so nothing else of the
    /// inode changes. Others may change the file meanwhile: what they wrote stays.
    pub(crate) fn outline(&self, number: u64, privileged: bool) -> Result<()> {
        loop {
            let bytes = {
                let tree = self.reader();
                let inode = Inode::load(&tree, number)?;
                if !is_inline(&inode) {
                    return Ok(());
                }
                load(&tree, number, &inode)?
            };
            let write = StreamWrite { object: number, offset: 0, bytes: &bytes };
            let before = Before { size: 0, inline: None, verify: Verify::Blocks };
            let mut changed = false;
            let result = self.write_blocks(&[write], before, 3, privileged, |tree, growth| {
                let mut inode = Inode::load(tree, number)?;
                changed = !is_inline(&inode) || load(tree, number, &inode)? != bytes;
                if changed {
                    return Err(Error::Busy);
                }
                drop_item(tree, number, &mut inode)?;
                crate::file::add_blocks(&mut inode, number, growth)?;
                inode.store(tree, number)
            });
            if !changed {
                return result;
            }
        }
    }
}
