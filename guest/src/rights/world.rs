// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A tree of random owners, modes, lists and links, whose files have vectors.

use super::relative;
use super::user::{GIDS, UIDS};
use crate::support::{create, where_slow};
use crate::{commands, labels};
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use vexfs_simulation::SeededRandom;
use vexfs_uapi::{ELEMENT_U8, METRIC_L2};
use zerocopy::FromZeros;

pub const DIMENSION: usize = 8;
/// More vectors than the small collection ever has.
pub const SMALL_MAX: u32 = 1000;
/// Vectors that some files have in the large collection.
const LARGE_EACH: usize = 40;
const DIRECTORIES: usize = 24;
const FILES: usize = 90;

/// A vector of the small collection.
pub struct Vector {
    pub chunk: u32,
    pub tag: u64,
    pub bytes: Vec<u8>,
}

/// A name of a file, as a path from the root of the file system.
pub struct Name {
    pub path: String,
    pub inode: u64,
}

pub struct World {
    root: PathBuf,
    /// A collection that is compared as a whole.
    pub small: u32,
    /// One that is large enough for a graph.
    pub large: u32,
    vectors: BTreeMap<u64, Vec<Vector>>,
    large_vectors: BTreeMap<u64, usize>,
    /// As they are now:
    pub files: Vec<Name>,
    directories: Vec<String>,
    pub sizes: BTreeMap<u64, u64>,
    pub owners: BTreeMap<u64, u32>,
    named: usize,
    /// Whether files get labels too.
    labelled: bool,
}

impl World {
    pub fn new(root: &Path, random: &mut SeededRandom, labelled: bool) -> Self {
        let directory = File::open(root).expect("the root");
        let shape = (ELEMENT_U8, METRIC_L2, DIMENSION as u32);
        let small = commands::create_collection(&directory, "small", shape);
        let large = commands::create_collection(&directory, "large", shape);
        let mut world = Self {
            root: root.to_owned(),
            small,
            large,
            vectors: BTreeMap::new(),
            large_vectors: BTreeMap::new(),
            files: Vec::new(),
            directories: vec![String::new()],
            sizes: BTreeMap::new(),
            owners: BTreeMap::new(),
            named: 0,
            labelled,
        };
        for at in 0..DIRECTORIES {
            let parent = random.pick(&world.directories).expect("the root").clone();
            let path = joined(&parent, &format!("d{at}"));
            fs::create_dir(world.at(&path)).expect("mkdir");
            world.directories.push(path);
        }
        for _ in 0..FILES {
            world.create_file(random);
        }
        world.look();
        for _ in 0..FILES / 2 {
            world.link(random);
        }
        for path in world.directories.clone() {
            world.set_rights(&path, random, true);
        }
        for at in 0..world.files.len() {
            let path = world.files[at].path.clone();
            world.set_rights(&path, random, true);
        }
        world.look();
        commands::maintain(&directory, world.large);
        world
    }

    /// The files' vectors in the small collection; root may not leave the directory without names.
    pub fn vectors_of(&self, inode: u64) -> impl Iterator<Item = &Vector> {
        self.vectors.get(&inode).into_iter().flatten()
    }

    /// How many vectors a file has in the large collection.
    pub fn large_of(&self, inode: u64) -> usize {
        self.large_vectors.get(&inode).copied().unwrap_or(0)
    }

    /// Directories to ask below, opened below `root`: the root, and others that let root do so.
    pub fn scopes(&self, root: &Path, random: &mut SeededRandom) -> Vec<(String, File)> {
        let mut paths = vec![String::new()];
        let others = where_slow(1, 6);
        paths.extend((0..others).map(|_| random.pick(&self.directories).expect("a path").clone()));
        paths.sort();
        paths.dedup();
        let open = |path: String| File::open(root.join(&path)).ok().map(|file| (path, file));
        let scopes: Vec<_> = paths.into_iter().filter_map(open).collect();
        assert_eq!(scopes[0].0, "", "the root was not opened");
        scopes
    }

    /// Random changes, as root makes them. `lists` is false where there are no lists to be set.
    pub fn change(&mut self, random: &mut SeededRandom, lists: bool) {
        for _ in 0..30 {
            let file = random.pick(&self.files).expect("a file").path.clone();
            let directory = random.pick(&self.directories).expect("the root").clone();
            match random.below(10) {
                0..=2 => self.set_rights(&file, random, lists),
                3..=4 => self.set_rights(&directory, random, lists),
                5 => self.rename(&file, random),
                6 if !directory.is_empty() => self.rename(&directory, random),
                7 => self.link(random),
                8 => fs::remove_file(self.at(&file)).expect("unlink"),
                _ => self.create_file(random),
            }
            self.look();
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn name(&mut self, random: &mut SeededRandom) -> String {
        self.named += 1;
        format!("f{}{}", self.named, [".txt", ".md", ""][random.below(3) as usize])
    }

    fn create_file(&mut self, random: &mut SeededRandom) {
        let parent = random.pick(&self.directories).expect("the root").clone();
        let name = self.name(random);
        let path = self.at(&joined(&parent, &name));
        let file = create(&path);
        let length = random.below(100) as usize;
        fs::write(&path, random.bytes(length)).expect("write");
        let inode = file.metadata().expect("stat").ino();
        let some = (0..random.below(5) as u32).map(|chunk| chunk * 3);
        let vectors: Vec<Vector> = some
            .map(|chunk| Vector { chunk, tag: random.below(100), bytes: random.bytes(DIMENSION) })
            .collect();
        if !vectors.is_empty() {
            let puts: Vec<_> = vectors
                .iter()
                .map(|Vector { chunk, tag, .. }| vexfs_uapi::Vector {
                    chunk: *chunk,
                    tag: *tag,
                    ..vexfs_uapi::Vector::new_zeroed()
                })
                .collect();
            let data: Vec<u8> = vectors.iter().flat_map(|vector| vector.bytes.clone()).collect();
            commands::put(&file, self.small, &puts, &data).expect("put");
        }
        self.vectors.insert(inode, vectors);
        if random.percent(60) {
            let puts: Vec<_> = (0..LARGE_EACH as u32)
                .map(|chunk| vexfs_uapi::Vector { chunk, ..vexfs_uapi::Vector::new_zeroed() })
                .collect();
            let data = random.bytes(LARGE_EACH * DIMENSION);
            commands::put(&file, self.large, &puts, &data).expect("put");
            self.large_vectors.insert(inode, LARGE_EACH);
        }
    }

    fn link(&mut self, random: &mut SeededRandom) {
        let file = random.pick(&self.files).expect("a file").path.clone();
        let parent = random.pick(&self.directories).expect("the root").clone();
        let name = self.name(random);
        let name = joined(&parent, &name);
        fs::hard_link(self.at(&file), self.at(&name)).expect("link");
    }

    fn rename(&mut self, path: &str, random: &mut SeededRandom) {
        let parent = random.pick(&self.directories).expect("the root").clone();
        // Not into itself.
        if parent == path || relative(&parent, path).is_some() {
            return;
        }
        let name = self.name(random);
        let name = joined(&parent, &name);
        fs::rename(self.at(path), self.at(&name)).expect("rename");
    }

    fn set_rights(&mut self, path: &str, random: &mut SeededRandom, lists: bool) {
        let at = self.at(path);
        let pick = |numbers: &[u32], random: &mut SeededRandom| {
            numbers[random.below(numbers.len() as u64) as usize]
        };
        // Most directories are open, or hardly anything could be reached.
        let modes: &[u32] = if at.is_dir() {
            &[0o755, 0o755, 0o755, 0o755, 0o711, 0o750, 0o700, 0o644, 0o070, 0o001, 0o1777]
        } else {
            &[0o644, 0o640, 0o600, 0o444, 0o040, 0o004, 0o000, 0o060, 0o4755]
        };
        std::os::unix::fs::chown(&at, Some(pick(&UIDS, random)), Some(pick(&GIDS, random)))
            .expect("chown");
        if self.labelled && random.percent(60) {
            labels::label_at_random(&at, random);
        }
        if random.percent(60) || !lists {
            fs::set_permissions(&at, Permissions::from_mode(pick(modes, random))).expect("chmod");
        }
        if lists && random.percent(45) {
            let list = list(random);
            rustix::fs::setxattr(&at, "system.posix_acl_access", &list, XattrFlags::empty())
                .expect("an access control list");
        } else if lists && random.percent(30) {
            // There may be none.
            let _ = rustix::fs::removexattr(&at, "system.posix_acl_access");
        }
        if lists && at.is_dir() && random.percent(20) {
            let list = list(random);
            rustix::fs::setxattr(&at, "system.posix_acl_default", &list, XattrFlags::empty())
                .expect("a list to be inherited");
        }
    }

    /// Looks what there is, as root.
    fn look(&mut self) {
        self.files.clear();
        self.directories.clear();
        self.sizes.clear();
        self.owners.clear();
        let mut waiting = vec![String::new()];
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(self.at(&directory)).expect("read a directory") {
                let entry = entry.expect("an entry");
                let path = joined(&directory, entry.file_name().to_str().expect("UTF-8"));
                let stat = entry.metadata().expect("stat");
                if stat.is_dir() {
                    waiting.push(path);
                } else {
                    self.sizes.insert(stat.ino(), stat.len());
                    self.owners.insert(stat.ino(), stat.uid());
                    self.files.push(Name { path, inode: stat.ino() });
                }
            }
            self.directories.push(directory);
        }
        // The order of a directory is another on each disk; what is picked is to be the seed's alone.
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.directories.sort();
    }
}

fn joined(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

/// An access control list as setxattr(2) takes it.
fn list(random: &mut SeededRandom) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, permissions: u64, id: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend((permissions as u16).to_le_bytes());
        bytes.extend(id.to_le_bytes());
    };
    let permissions = |random: &mut SeededRandom| [0, 1, 4, 5, 5, 7][random.below(6) as usize];
    entry(1, permissions(random), u32::MAX);
    // Now and then more entries than fit in a node of the tree.
    let others = [0, 0, 0, 0, 0, 400][random.below(6) as usize];
    for id in (0..others).map(|id| 100_000 + id) {
        entry(2, permissions(random), id);
    }
    for id in UIDS.into_iter().filter(|_| random.percent(40)).collect::<Vec<_>>() {
        entry(2, permissions(random), id);
    }
    entry(4, permissions(random), u32::MAX);
    for id in GIDS.into_iter().filter(|_| random.percent(40)).collect::<Vec<_>>() {
        entry(8, permissions(random), id);
    }
    entry(0x10, permissions(random) | permissions(random), u32::MAX);
    entry(0x20, permissions(random), u32::MAX);
    bytes
}
