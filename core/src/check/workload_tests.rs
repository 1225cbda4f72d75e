// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Random work through the public methods leaves nothing to find, whatever it was.

use super::tests::{assert_clean, open};
use crate::inode::*;
use crate::layout::ROOT_INODE;
use crate::testing::Memory;
use crate::tree_tests::Rng;
use crate::*;
use std::vec::Vec;
use vexfs_index::Serial;
use vexfs_simd::{ElementType, Metric, Shape};

const DIMENSION: u32 = 16;

struct Work {
    rng: Rng,
    fs: FileSystem,
    /// Files and directories there may be.
    inodes: Vec<u64>,
    directories: Vec<u64>,
    collections: Vec<u32>,
    held: Vec<u64>,
}

fn expected(error: Error) {
    assert!(
        !matches!(error, Error::Corrupt { .. } | Error::Checksum { .. } | Error::Poisoned),
        "{error:?}"
    );
}

impl Work {
    fn pick(&mut self, directory: bool) -> u64 {
        let list = if directory { &self.directories } else { &self.inodes };
        list[self.rng.below(list.len() as u64) as usize]
    }

    fn name(&mut self) -> Vec<u8> {
        std::format!("name {}", self.rng.below(60)).into_bytes()
    }

    fn step(&mut self) -> Result<()> {
        let (parent, other) = (self.pick(true), self.pick(true));
        let (name, second) = (self.name(), self.name());
        let (file, another) = (self.pick(false), self.pick(false));
        let offset = self.rng.below(60) * 4096 + self.rng.below(3) * 100;
        let length = self.rng.below(40_000) + 1;
        let bytes: Vec<u8> = (0..length).map(|at| (at ^ offset) as u8).collect();
        let new = |mode| NewInode { mode, owner: (1, 2), device: 0 };
        match self.rng.below(32) {
            0..=4 => {
                let number = self.fs.create(parent, &name, &new(MODE_FILE | 0o644))?;
                self.inodes.push(number);
            }
            5 => {
                let number = self.fs.create(parent, &name, &new(MODE_DIRECTORY | 0o755))?;
                self.directories.push(number);
            }
            6 => {
                let target = std::vec![b'x'; self.rng.below(4000) as usize + 1];
                self.fs.create_symlink(parent, &name, &target, (0, 0))?;
            }
            7 => self.fs.link(file, parent, &name)?,
            8..=9 => self.fs.unlink(parent, &name)?,
            10 => self.fs.remove_directory(parent, &name)?,
            11 => self.fs.rename(parent, &name, other, &second, RenameMode::Replace)?,
            12 => self.fs.rename(parent, &name, other, &second, RenameMode::Exchange)?,
            13..=16 => self.fs.write(file, offset, &bytes)?,
            17 => self.fs.write(file, 0, &bytes[..bytes.len().min(500)])?,
            18 => self.fs.truncate(file, self.rng.below(200_000))?,
            19 => self.fs.punch(file, offset, length)?,
            20 => self.fs.preallocate(file, offset, length, self.rng.below(2) == 0)?,
            21 => {
                let size = self.fs.inode(file)?.size;
                self.fs.clone_range(file, 0, another, 0, size)?;
            }
            22 => {
                let value = &bytes[..bytes.len().min(self.rng.below(30_000) as usize)];
                self.fs.set_xattr(file, &name, value, XattrMode::Set)?;
            }
            23 => self.fs.remove_xattr(file, &name)?,
            24..=25 => {
                let Some(collection) = self.collections.first().copied() else { return Ok(()) };
                let rows: Vec<Vec<u8>> = (0..self.rng.below(20) + 1)
                    .map(|_| (0..DIMENSION).map(|_| self.rng.next() as u8).collect())
                    .collect();
                let first = self.rng.below(30) as u32;
                let puts: Vec<VectorPut<'_>> = rows
                    .iter()
                    .enumerate()
                    .map(|(at, bytes)| VectorPut {
                        chunk: first + at as u32,
                        offset: 0,
                        length: 0,
                        content_version: None,
                        tag: 0,
                        digest: [0; 16],
                        bytes,
                    })
                    .collect();
                self.fs.put_vectors(collection, file, &puts)?;
            }
            26 => {
                let Some(collection) = self.collections.last().copied() else { return Ok(()) };
                self.fs.remove_vectors(collection, file, 5..=20, &Serial)?;
            }
            30..=31 => {
                let size = self.fs.inode(file)?.size;
                let (offset, length) = (offset / 4096 * 4096, length.div_ceil(4096) * 4096);
                match self.rng.below(2) == 0 && offset + length < size {
                    true => self.fs.collapse_range(file, offset, length)?,
                    false => {
                        self.fs.insert_range(file, offset % size.max(1) / 4096 * 4096, length)?
                    }
                }
            }
            27 if self.rng.below(8) == 0 => {
                let name = std::format!("collection {}", self.rng.below(3));
                if self.rng.below(3) == 0 {
                    let number = self.fs.collection_number(&name)?;
                    self.fs.drop_collection(number)?;
                    self.collections.retain(|other| *other != number);
                    return Ok(());
                }
                let shape =
                    Shape { element: ElementType::U8, metric: Metric::L2, dimension: DIMENSION };
                self.collections.push(self.fs.create_collection(&CollectionOptions {
                    name: &name,
                    shape,
                    model: "test",
                    quantization: Quantization::None,
                    degree: 0,
                    build_effort: 0,
                })?);
            }
            28 => {
                self.fs.open_inode(file)?;
                self.held.push(file);
            }
            29 if !self.held.is_empty() => {
                let at = self.rng.below(self.held.len() as u64) as usize;
                self.fs.close_inode(self.held.swap_remove(at))?;
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn random_work_leaves_nothing_to_find() {
    for (seed, block_log2) in [(1, 12), (2, 12), (3, 13), (4, 14)] {
        let memory = Memory::new(48 << 20);
        FileSystem::format(memory.host(), &FormatOptions { block_log2, ..Default::default() })
            .unwrap();
        let mut work = Work {
            rng: Rng(0x5eed_0000 + seed),
            fs: open(&memory),
            inodes: std::vec![ROOT_INODE],
            directories: std::vec![ROOT_INODE],
            collections: Vec::new(),
            held: Vec::new(),
        };
        let mut done = 0;
        for step in 0..2400 {
            match work.step() {
                Ok(()) => done += 1,
                Err(error) => expected(error),
            }
            if step % 200 == 199 {
                work.fs.commit().unwrap();
                assert_clean(&memory);
            }
            if step % 800 == 799 {
                // As after a crash: what was held open waits as an orphan.
                work.held.clear();
                work.fs = open(&memory);
                work.fs.reap_orphans().unwrap();
            }
        }
        assert!(done > 600, "only {done} steps did something");
        let report = assert_clean(&memory);
        assert!(report.blocks_shared > 0 && report.rows > 0 && report.attributes > 0, "{report:?}");
    }
}

/// A collection of 1,500 vectors with a stored graph.
fn with_graph() -> Memory {
    let memory = Memory::new(16 << 20);
    FileSystem::format(memory.host(), &FormatOptions::default()).unwrap();
    let fs = open(&memory);
    let shape = Shape { element: ElementType::U8, metric: Metric::L2, dimension: DIMENSION };
    let collection = fs
        .create_collection(&CollectionOptions {
            name: "pictures",
            shape,
            model: "test",
            quantization: Quantization::None,
            degree: 8,
            build_effort: 16,
        })
        .unwrap();
    let new = NewInode { mode: MODE_FILE | 0o644, owner: (0, 0), device: 0 };
    let file = fs.create(ROOT_INODE, b"file", &new).unwrap();
    let mut rng = Rng(77);
    let rows: Vec<Vec<u8>> =
        (0..1500).map(|_| (0..DIMENSION).map(|_| rng.next() as u8).collect()).collect();
    let puts: Vec<VectorPut<'_>> = (0u32..)
        .zip(&rows)
        .map(|(chunk, bytes)| VectorPut {
            chunk,
            offset: 0,
            length: 0,
            content_version: None,
            tag: 0,
            digest: [0; 16],
            bytes,
        })
        .collect();
    fs.put_vectors(collection, file, &puts).unwrap();
    let number = fs.collection_number("pictures").unwrap();
    fs.rebuild_collection(number, &Serial).unwrap();
    fs.store_graph(number, &Serial).unwrap();
    fs.store_graphs().unwrap();
    fs.commit().unwrap();
    memory
}

#[test]
fn a_damaged_graph_is_found_and_dropped_and_the_vectors_stay() {
    use crate::check::{Code, Finding};
    use crate::key::Kind;
    use crate::layout::{CollectionLayout, FIRST_OBJECT};
    use zerocopy::FromBytes;
    let memory = with_graph();
    let report = assert_clean(&memory);
    assert_eq!((report.graphs, report.rows_read), (1, 1500));
    let (key, item) = super::tests::first(&open(&memory).reader(), FIRST_OBJECT, Kind::Collection);
    let head = CollectionLayout::read_from_prefix(&item).unwrap().0;
    let damages: [fn(&mut CollectionLayout); 3] = [
        |head| head.graph_bytes = 4096.into(),
        |head| head.graph_watermark = 99_999.into(),
        |head| head.graph_bytes = (1 << 40).into(),
    ];
    assert!(head.graph_object.get() != 0);
    for change in damages {
        let memory = with_graph();
        super::tests::damage(&memory, |tree| {
            change(CollectionLayout::mut_from_prefix(tree.get_mut(key)?).unwrap().0);
            Ok(())
        });
        let (_, findings) = super::tests::findings_of(&memory);
        assert!(findings.iter().all(|Finding { code, .. }| *code == Code::GraphDamaged));
        let options = crate::repair::RepairOptions::default();
        let report = crate::repair::repair(memory.host(), &options, &mut (), &mut |_| {}).unwrap();
        assert!(report.is_clean() && report.repaired > 0, "{report:?}");
        let report = assert_clean(&memory);
        assert_eq!((report.graphs, report.rows_read), (0, 1500));
        // It is built anew from the vectors.
        let fs = open(&memory);
        let number = fs.collection_number("pictures").unwrap();
        fs.rebuild_collection(number, &Serial).unwrap();
        fs.store_graph(number, &Serial).unwrap();
        fs.store_graphs().unwrap();
        fs.commit().unwrap();
        assert_eq!(assert_clean(&memory).graphs, 1);
    }
}
