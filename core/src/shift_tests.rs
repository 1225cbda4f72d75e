// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Ranges taken out of files and put into them, against a model.

use crate::data_tests::{audit, create};
use crate::testing::Memory;
use crate::tree_tests::{Rng, format};
use crate::*;
use std::vec::Vec;

const BLOCK: u64 = 4096;

fn content(fs: &FileSystem, number: u64) -> Vec<u8> {
    let mut bytes = std::vec![0xee; fs.inode(number).unwrap().size as usize];
    assert_eq!(fs.read(number, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

#[test]
fn what_lies_behind_moves() {
    for seed in 0..6 {
        let memory = Memory::new(48 << 20);
        let fs = format(&memory, 12);
        let (number, clone) = (create(&fs, "shifted"), create(&fs, "clone"));
        let mut rng = Rng(seed + 1);
        let mut model: Vec<u8> = Vec::new();
        let (mut collapsed, mut inserted) = (0, 0);
        for step in 0..400 {
            let size = model.len() as u64;
            let at = rng.below(size / BLOCK + 1) * BLOCK;
            let length = (1 + rng.below(40)) * BLOCK;
            let version = fs.inode(number).unwrap().content_version;
            match rng.below(8) {
                0..=2 => {
                    let bytes = std::vec![(step % 255) as u8 + 1; rng.below(50_000) as usize + 1];
                    fs.write(number, at, &bytes).unwrap();
                    model.resize(model.len().max(at as usize + bytes.len()), 0);
                    model[at as usize..][..bytes.len()].copy_from_slice(&bytes);
                }
                3 => fs.preallocate(number, at, length, true).unwrap(),
                4 => fs.replace_content(number, clone).unwrap(),
                5 if at + length < size => {
                    fs.collapse_range(number, at, length).unwrap();
                    model.drain(at as usize..(at + length) as usize);
                    collapsed += 1;
                    assert_ne!(fs.inode(number).unwrap().content_version, version);
                }
                6 if at < size && size < 2_000_000 => {
                    fs.insert_range(number, at, length).unwrap();
                    model.splice(at as usize..at as usize, std::iter::repeat_n(0, length as usize));
                    inserted += 1;
                    assert_ne!(fs.inode(number).unwrap().content_version, version);
                }
                _ if rng.below(5) == 0 => fs.commit().unwrap(),
                _ => {}
            }
            assert!(content(&fs, number) == model, "seed {seed}, step {step}");
        }
        assert!(collapsed > 10 && inserted > 10, "{collapsed} and {inserted}");
        audit(&fs);
        fs.commit().unwrap();
        drop(fs);
        let fs = FileSystem::open(memory.host(), &OpenOptions::default()).unwrap();
        assert!(content(&fs, number) == model);
    }
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let memory = Memory::new(48 << 20);
    let fs = format(&memory, 12);
    let (number, small) = (create(&fs, "f"), create(&fs, "small"));
    let bytes = std::vec![3; 100_000];
    fs.write(number, 0, &bytes).unwrap();
    for (offset, length) in
        [(1, BLOCK), (0, BLOCK + 1), (0, 0), (96 << 10, BLOCK), (1 << 20, BLOCK)]
    {
        let refused = fs.collapse_range(number, offset, length);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{offset} {length}");
    }
    for (offset, length) in [(1, BLOCK), (0, BLOCK + 1), (0, 0), (100 << 10, BLOCK)] {
        let refused = fs.insert_range(number, offset, length);
        assert!(matches!(refused, Err(Error::Invalid(_))), "{offset} {length}");
    }
    assert_eq!(fs.insert_range(number, 0, layout::FILE_BYTES_MAX), Err(Error::FileTooBig));
    fs.preallocate(number, layout::FILE_BYTES_MAX - BLOCK, BLOCK, true).unwrap();
    assert_eq!(fs.insert_range(number, 0, BLOCK), Err(Error::FileTooBig));
    assert!(content(&fs, number) == bytes);
    // A file in the tree, too.
    fs.write(small, 0, b"small").unwrap();
    assert!(fs.collapse_range(small, 0, BLOCK).is_err());
    fs.insert_range(small, 0, BLOCK).unwrap();
    assert_eq!(&content(&fs, small)[4090..], b"\0\0\0\0\0\0small");
    audit(&fs);
}

#[test]
fn more_than_moves_at_once_is_refused_whole() {
    let memory = Memory::new(512 << 20);
    let fs = format(&memory, 12);
    let number = create(&fs, "f");
    // Every other block, so that each is an extent.
    for block in 0..45_000 {
        fs.write(number, block * 2 * BLOCK, &[block as u8 | 1; 8]).unwrap();
    }
    let size = fs.inode(number).unwrap().size;
    assert!(matches!(fs.collapse_range(number, 0, BLOCK), Err(Error::NotSupported(_))));
    assert!(matches!(fs.insert_range(number, 0, BLOCK), Err(Error::NotSupported(_))));
    assert_eq!(fs.inode(number).unwrap().size, size);
    // Nearer to the end it goes, even when much is taken out.
    fs.collapse_range(number, 0, 88_000 * BLOCK).unwrap();
    let mut byte = [0];
    fs.read(number, 0, &mut byte).unwrap();
    assert_eq!(byte[0], 44_000u64 as u8 | 1);
    assert_eq!(fs.inode(number).unwrap().size, size - 88_000 * BLOCK);
    audit(&fs);
}
