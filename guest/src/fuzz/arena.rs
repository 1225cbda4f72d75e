// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Memory that commands may point to, whole and broken, none of which Rust knows anything of: the kernel
//! may write wherever it finds a place in it.

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::cell::Cell;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use vexfs_simulation::SeededRandom;

const PAGE: usize = 4096;
/// Bytes of a part that may be read and written.
pub const ROOM: usize = 64 * PAGE;

/// Bytes of a mapping.
#[derive(Clone, Copy)]
pub struct Part {
    start: usize,
    bytes: usize,
}

/// An address, and whether bytes may be put there before it is used.
#[derive(Clone, Copy)]
pub struct Place {
    pub address: u64,
    pub writable: bool,
}

/// The memory of one thread, and what it shares with others.
pub struct Arena {
    /// Its own.
    own: Part,
    /// Changed by another thread all the time.
    shared: Part,
    /// May only be read.
    fixed: Part,
    /// The bytes of a file that commands are given on.
    file: Part,
    /// Used at its end, behind which nothing is.
    edge: Part,
    /// Where the next good place is.
    next: Cell<usize>,
}

/// Reserved behind each part: no command writes more.
const GUARD: usize = 80 << 20;

fn map(bytes: usize, file: Option<&File>) -> Part {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at a place that was free, and one over its beginning; nothing is said of
    // what they hold.
    let start = unsafe {
        let reserved = bytes + GUARD;
        let start =
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), reserved, ProtFlags::empty(), flags)
                .expect("room for a mapping");
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        match file {
            Some(file) => rustix::mm::mmap(start, bytes, protection, flags, file, 0),
            None => rustix::mm::mmap_anonymous(start, bytes, protection, flags),
        }
    };
    Part { start: start.expect("a mapping") as usize, bytes }
}

fn protect(start: usize, bytes: usize, flags: MprotectFlags) {
    // SAFETY: pages of a mapping of this module, to which there are no references.
    unsafe { rustix::mm::mprotect(start as *mut _, bytes, flags) }.expect("mprotect");
}

/// What may be written anywhere, 8 bytes at a time, without making an address of anything else: places
/// in `part`, small numbers, and addresses that no program has.
fn word(random: &mut SeededRandom, part: Part) -> u64 {
    match random.below(8) {
        0 | 1 => part.start as u64 + random.below(part.bytes as u64 / 2),
        2 => random.below(16),
        3 => random.below(0x1_0000),
        4 => random.number() | 0xffff_ffff << 32,
        5 => random.number() << 32 | 1 << 63 | random.below(300),
        6 => u64::MAX,
        _ => 0,
    }
}

impl Part {
    /// Writes bytes at an offset, which must be within it.
    fn write(self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.bytes);
        // SAFETY: within a mapping that stays, to which there are no references.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                (self.start + at) as *mut u8,
                bytes.len(),
            );
        }
    }

    /// Memory that is changed by [`Part::scribble`].
    pub fn shared() -> Self {
        map(ROOM, None)
    }

    /// Changes it until told to stop.
    pub fn scribble(self, stop: &AtomicBool, seed: u64) {
        let mut random = SeededRandom::new(seed);
        while !stop.load(Ordering::Relaxed) {
            // Mostly where the structures are.
            let words = if random.percent(80) { 64 } else { self.bytes as u64 / 8 };
            let at = self.start + random.below(words) as usize * 8;
            let word = word(&mut random, self);
            // SAFETY: aligned, within a mapping that stays, and whoever else writes there is the
            // kernel or does as this.
            unsafe { AtomicU64::from_ptr(at as *mut u64) }.store(word, Ordering::Relaxed);
        }
    }
}

impl Arena {
    /// `file` has at least [`ROOM`] bytes, and is open for reading and writing.
    pub fn new(shared: Part, file: &File, random: &mut SeededRandom) -> Self {
        let (own, fixed) = (map(ROOM, None), map(2 * PAGE, None));
        for at in (0..fixed.bytes).step_by(8) {
            // Some sizes of structures among them.
            let size = [8, 40, 104, 192][random.below(4) as usize];
            let value = if random.percent(30) { size } else { word(random, own) };
            fixed.write(at, &value.to_le_bytes());
        }
        protect(fixed.start, fixed.bytes, MprotectFlags::READ);
        let file = map(ROOM, Some(file));
        Self { own, shared, fixed, file, edge: map(PAGE, None), next: Cell::new(0) }
    }

    /// A place for `bytes` bytes that is as it should be, and none of the last ones given out.
    pub fn good(&self, bytes: usize) -> u64 {
        let mut at = self.next.get();
        if at + bytes > self.own.bytes {
            at = 0;
        }
        assert!(at + bytes <= self.own.bytes);
        self.next.set((at + bytes).next_multiple_of(8));
        (self.own.start + at) as u64
    }

    /// Puts bytes at a good place.
    pub fn put_good(&self, bytes: &[u8]) -> u64 {
        let address = self.good(bytes.len());
        self.put(Place { address, writable: true }, bytes);
        address
    }

    /// A place for `bytes` bytes of any kind.
    pub fn place(&self, random: &mut SeededRandom, bytes: usize) -> Place {
        let good = self.good(bytes + 8);
        let within = |part: Part, at: usize| (part.start + at) as u64;
        let (address, writable) = match random.below(20) {
            0..=8 => (good, true),
            9 => (good + random.below(8), true),
            10..=12 => (within(self.shared, random.below(48) as usize * 8), false),
            13 => (within(self.fixed, random.below(PAGE as u64) as usize / 8 * 8), false),
            14..=15 => (within(self.file, random.below(16) as usize * 1000), true),
            // The last bytes of it may not be there.
            16 => (within(self.edge, PAGE - random.below(200).min(PAGE as u64) as usize), true),
            _ => (self.bad(random), false),
        };
        Place { address, writable }
    }

    /// An address of nothing.
    pub fn bad(&self, random: &mut SeededRandom) -> u64 {
        match random.below(6) {
            0 => 0,
            1 => random.below(4096),
            2 => u64::MAX - random.below(4096),
            4 => (self.edge.start + PAGE) as u64 + random.below(3000),
            // What is left of the others may be an address of something.
            _ if cfg!(target_pointer_width = "32") => u64::MAX - random.below(8192),
            3 => 0xffff_8880_0000_0000 | random.below(1 << 30),
            _ => 1 << 63 | random.number(),
        }
    }

    /// A place that may be read and not written.
    pub fn fixed(&self) -> u64 {
        self.fixed.start as u64
    }

    /// An address of which so many bytes are there, and no more.
    pub fn before_edge(&self, bytes: usize) -> u64 {
        (self.edge.start + PAGE - bytes) as u64
    }

    /// Puts bytes at a place, as many as fit.
    pub fn put(&self, place: Place, bytes: &[u8]) {
        let at = place.address as usize;
        for part in [self.own, self.file, self.edge] {
            if place.writable && (part.start..part.start + part.bytes).contains(&at) {
                let room = part.start + part.bytes - at;
                part.write(at - part.start, &bytes[..bytes.len().min(room)]);
            }
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        for Part { start, bytes } in [self.own, self.fixed, self.file, self.edge] {
            // SAFETY: a mapping of this arena and what is reserved behind it, to which there are no
            // references.
            unsafe { rustix::mm::munmap(start as *mut _, bytes + GUARD) }.expect("munmap");
        }
    }
}
