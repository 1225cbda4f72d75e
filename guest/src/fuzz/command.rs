// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The structures of the commands: as they should be, and with anything in any field.

use super::arena::Arena;
use crate::commands::padded;
use libc::{
    E2BIG, EBADF, EEXIST, EFAULT, EINTR, EINVAL, EISDIR, ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR,
    EPERM, ERANGE, ESTALE,
};
use vexfs_simulation::SeededRandom;
use vexfs_uapi::{
    Collection, CollectionCreate, CollectionDrop, CollectionList, CollectionMaintain,
    CollectionShow, Command, Get, Hit, Info, List, Paths, Put, Remove, Rows, Search, Vector,
};
use zerocopy::{FromZeros, IntoBytes};

/// Commands there are: their numbers are those below.
pub const COUNT: u32 = 13;
/// Bytes of a vector of the collection that commands are given on.
pub const VECTOR_BYTES: usize = 8;

/// A command as bytes, and what is known of them.
#[derive(Clone)]
pub struct Image {
    pub number: u32,
    pub bytes: Vec<u8>,
    /// Offsets of addresses, which nothing may be written over that could lead anywhere.
    pub addresses: &'static [usize],
    /// Offsets of 4 bytes each that must be zero.
    pub zeros: &'static [usize],
    /// Errnos that it may fail with, besides those of all commands.
    pub errors: &'static [i32],
}

/// Errnos of all commands.
pub const COMMON: [i32; 5] = [EFAULT, EINVAL, ENOMEM, EINTR, E2BIG];

/// What the commands are about.
pub struct About {
    pub collection: u32,
    pub inodes: Vec<u64>,
}

fn image<C: Command + zerocopy::Immutable>(
    command: C,
    addresses: &'static [usize],
    zeros: &'static [usize],
    errors: &'static [i32],
) -> Image {
    Image { number: C::NUMBER, bytes: command.as_bytes().to_vec(), addresses, zeros, errors }
}

/// Where a pointer leads, for so many bytes.
pub type Pointer<'a> = &'a mut dyn FnMut(&mut SeededRandom, usize) -> u64;

/// Command `number`, with nothing wrong but what `pointer` gives it.
pub fn sane(number: u32, about: &About, random: &mut SeededRandom, pointer: Pointer<'_>) -> Image {
    let collection = about.collection;
    let inode = *random.pick(&about.inodes).expect("an inode");
    let few = 1 + random.below(5) as u32;
    match number {
        0 => image(Info::new(), &[], &[260], &[]),
        1 => {
            let mut command = CollectionCreate::new();
            command.collection.name = padded(&format!("c{}", random.below(20)));
            command.collection.dimension = few * 8;
            command.collection.element = 1 + random.below(6) as u8;
            command.collection.metric = 1 + random.below(5) as u8;
            image(command, &[], &[4, 8, 24, 56, 64, 84], &[EEXIST, ENOSPC, EPERM, ENFILE])
        }
        2 => {
            let collections = pointer(random, few as usize * size_of::<Collection>());
            image(
                CollectionList { collections, count: few, ..CollectionList::new() },
                &[8],
                &[4],
                &[],
            )
        }
        3 => {
            let mut command = CollectionShow::new();
            command.collection.number = collection;
            image(command, &[], &[4], &[ENOENT])
        }
        4 => image(
            CollectionMaintain { number: collection, ..CollectionMaintain::new() },
            &[],
            &[12, 16, 24, 32],
            &[EPERM, ENOENT, ENOSPC],
        ),
        // Of another collection than that of the others, and not by one wrong bit of that either.
        5 => image(
            CollectionDrop { number: collection ^ (3 << few), ..CollectionDrop::new() },
            &[],
            &[4, 12],
            &[EPERM, ENOENT, ENOSPC],
        ),
        6 => {
            let data_bytes = u64::from(few) * VECTOR_BYTES as u64;
            image(
                Put {
                    collection,
                    count: few,
                    vectors: pointer(random, few as usize * size_of::<Vector>()),
                    data: pointer(random, data_bytes as usize),
                    data_bytes,
                    ..Put::new()
                },
                &[16, 24],
                &[4, 40, 48, 56, 64],
                &[EBADF, ENOENT, ENOSPC, EISDIR, ESTALE, EPERM],
            )
        }
        7 => image(
            Get {
                collection,
                chunk: random.below(4) as u32,
                data: pointer(random, VECTOR_BYTES),
                data_bytes: VECTOR_BYTES as u64,
                ..Get::new()
            },
            &[16],
            &[4, 32, 40, 64, 96],
            &[EBADF, ENOENT, ERANGE, EISDIR, ESTALE],
        ),
        8 => image(
            Remove { collection, first: few, last: few + 1, ..Remove::new() },
            &[],
            &[4, 12, 24],
            &[EBADF, ENOENT, EISDIR, ENOSPC, ESTALE, EPERM],
        ),
        9 => image(
            List {
                vectors: pointer(random, few as usize * size_of::<Vector>()),
                count: few,
                ..List::new()
            },
            &[8],
            &[4, 20, 32, 40, 48],
            &[EBADF, EISDIR, ESTALE],
        ),
        10 => image(
            Rows {
                collection,
                from: random.below(3) as u32,
                vectors: pointer(random, few as usize * size_of::<Vector>()),
                inodes: pointer(random, few as usize * 8),
                count: few,
                ..Rows::new()
            },
            &[16, 24],
            &[4, 36],
            &[ENOENT, ENOTDIR],
        ),
        11 => {
            let queries = 1 + random.below(3) as u32;
            let hits_max = few * queries;
            let vectors = random.percent(30);
            image(
                Search {
                    collection,
                    k: few,
                    queries: pointer(random, queries as usize * VECTOR_BYTES),
                    queries_bytes: u64::from(queries) * VECTOR_BYTES as u64,
                    hits: pointer(random, hits_max as usize * size_of::<Hit>()),
                    vectors: match vectors {
                        true => pointer(random, hits_max as usize * VECTOR_BYTES),
                        false => 0,
                    },
                    hits_max,
                    suffix: pointer(random, 4),
                    suffix_bytes: 4,
                    ..Search::new()
                },
                &[24, 40, 48, 64],
                &[108, 124, 156, 160, 164, 168, 176, 184],
                &[ENOENT, ENOTDIR, ESTALE],
            )
        }
        12 => image(
            Paths { inode, paths: pointer(random, 4096), bytes: 4096, ..Paths::new() },
            &[24],
            &[4, 36],
            &[ENOENT, ESTALE, ERANGE, ENOTDIR, libc::ENAMETOOLONG],
        ),
        _ => unreachable!("a command that there is"),
    }
}

/// Any numbers in some fields, and sometimes another size.
pub fn spoil(image: &mut Image, random: &mut SeededRandom) {
    let words = image.bytes.len() / 4;
    for _ in 0..random.below(4) {
        let at = random.below(words as u64) as usize * 4;
        // A piece of an address with a piece of another could lead anywhere.
        if image.addresses.iter().any(|address| (*address..address + 8).contains(&at)) {
            continue;
        }
        let value = match random.below(8) {
            0 => 0,
            1 => 1 << random.below(32),
            2 => u32::MAX,
            3 => i32::MAX as u32,
            4 => 65_537,
            5 => random.below(5000) as u32,
            6 => random.below(16) as u32,
            _ => random.number() as u32,
        };
        image.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    if random.percent(15) {
        let size = match random.below(8) {
            0 => 0,
            1 => random.below(5000) as u32,
            2 => u32::MAX,
            3 => 4096,
            4 => 4097,
            5 => image.bytes.len() as u32 + 8,
            6 => image.bytes.len() as u32 - 4,
            _ => 1 << 31,
        };
        image.bytes[..4].copy_from_slice(&size.to_le_bytes());
        if random.percent(50) {
            image.bytes.resize(image.bytes.len() + 8, random.below(2) as u8);
        }
    }
}

impl Image {
    /// Puts it somewhere in the arena, or somewhere else where something else is.
    pub fn place(&self, arena: &Arena, random: &mut SeededRandom) -> u64 {
        let place = arena.place(random, self.bytes.len());
        arena.put(place, &self.bytes);
        place.address
    }

    /// Puts it where it may be read and written.
    pub fn place_good(&self, arena: &Arena) -> u64 {
        arena.put_good(&self.bytes)
    }

    /// With other bytes at an offset.
    pub fn with(&self, at: usize, bytes: &[u8]) -> Self {
        let mut image = self.clone();
        image.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }
}

/// The vectors that a put of `few` may point to.
pub fn vectors(few: u32) -> Vec<u8> {
    (0..few)
        .flat_map(|chunk| Vector { chunk, ..Vector::new_zeroed() }.as_bytes().to_vec())
        .collect()
}

/// Where nothing is wrong: a good place, with the bytes of vectors.
pub fn good_pointer(arena: &Arena) -> impl FnMut(&mut SeededRandom, usize) -> u64 {
    |_, bytes| arena.put_good(&vectors(bytes.div_ceil(72) as u32)[..bytes])
}
