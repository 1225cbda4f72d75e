// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Calls as 32-bit programs make them, by the gate that the processor has for these. A whole such program
//! is a suite of its own, `compat`.

use crate::MountTest;
use crate::commands;
use crate::ioctls::{GET_ATTRIBUTES, GET_FLAGS, GET_UUID, GET_VERSION};
use crate::support::{Mounted, create};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use vexfs_uapi::{
    Collection, CollectionList, CollectionMaintain, CollectionShow, Command, ELEMENT_U8, Get, Hit,
    Info, METRIC_L2, Paths, Put, Rows, Search, Vector,
};
use zerocopy::{FromZeros, Immutable, IntoBytes};

pub const TESTS: &[MountTest] =
    &[("calls_of_32_bits_are_answered_alike", calls_are_answered_alike)];

const IOCTL: u32 = 54;
const LLSEEK: u32 = 140;
const GETDENTS: u32 = 141;
const GETDENTS64: u32 = 220;

/// As `linux/fs.h` has them for those whose `long` has 32 bits.
const GET_FLAGS_32: u32 = 0x8004_6601;
const SET_FLAGS_32: u32 = 0x4004_6602;
const GET_VERSION_32: u32 = 0x8004_7601;
const NODUMP: u32 = 0x40;

const DIMENSION: usize = 8;
const FILES: usize = 300;

/// Whether the kernel has that gate: user-mode Linux has none.
pub fn are_possible() -> bool {
    let processor = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
    cfg!(target_arch = "x86_64") && !processor.contains("User Mode Linux")
}

/// A call by the gate: the errno if it fails.
#[cfg(target_arch = "x86_64")]
fn call(number: u32, arguments: [u32; 5]) -> Result<u32, i32> {
    let [first, second, third, fourth, fifth] = arguments.map(u64::from);
    let mut result = u64::from(number);
    // SAFETY: the caller's memory that the kernel writes to is that of a `Low`, which is read and written by
    // pointers only. The first argument's register is the compiler's own, and has its value again after.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) first => _,
            inout("rax") result,
            in("rcx") second,
            in("rdx") third,
            in("rsi") fourth,
            in("rdi") fifth,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match result as u32 as i32 {
        error @ -4095..0 => Err(-error),
        result => Ok(result as u32),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn call(_: u32, _: [u32; 5]) -> Result<u32, i32> {
    Err(libc::ENOSYS)
}

/// Memory that an address of 32 bits leads to.
struct Low(*mut u8);

impl Low {
    const BYTES: usize = 1 << 16;

    fn new() -> Self {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own, at an address that the kernel chooses.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::BYTES,
                protection,
                flags | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        assert_ne!(place, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self(place.cast())
    }

    fn address(&self) -> u32 {
        u32::try_from(self.0 as usize).expect("an address of 32 bits")
    }

    fn read(&self, bytes: usize) -> Vec<u8> {
        assert!(bytes <= Self::BYTES);
        // SAFETY: so many bytes are mapped, and nothing writes to them now.
        unsafe { std::slice::from_raw_parts(self.0, bytes) }.to_vec()
    }

    /// Gives a command with what it takes, which is then what the kernel makes of it.
    fn ioctl(&self, file: &File, command: u32, argument: &mut [u8]) -> Result<(), i32> {
        assert!(argument.len() <= Self::BYTES);
        // SAFETY: there is room for it, elsewhere.
        unsafe { self.0.copy_from_nonoverlapping(argument.as_ptr(), argument.len()) };
        let file = file.as_raw_fd() as u32;
        let result = call(IOCTL, [file, command, self.address(), 0, 0]);
        argument.copy_from_slice(&self.read(argument.len()));
        result.map(|result| assert_eq!(result, 0))
    }

    fn number(&self, file: &File, command: u32, number: u32) -> Result<u32, i32> {
        let mut bytes = number.to_ne_bytes();
        self.ioctl(file, command, &mut bytes).map(|()| u32::from_ne_bytes(bytes))
    }
}

/// Gives a command that reads, which may fill `room`, by both gates.
fn alike<C>(low: &Low, file: &File, command: C, room: &mut [u8], blank: fn(&mut C))
where
    C: Command + Copy + Immutable,
{
    let (mut one, mut other) = (command, command);
    // SAFETY: the caller's word: its addresses are those of `room` and of what is only read.
    unsafe { commands::give(file, &mut one) }.expect("by 64 bits");
    let filled = room.to_vec();
    room.fill(0);
    low.ioctl(file, C::NUMBER, other.as_mut_bytes()).expect("by 32 bits");
    blank(&mut one);
    blank(&mut other);
    assert_eq!(one.as_bytes(), other.as_bytes(), "command {:#x}", C::NUMBER);
    assert_eq!(filled, room, "what command {:#x} tells", C::NUMBER);
}

fn calls_are_answered_alike(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let low = Low::new();
    let shape = (ELEMENT_U8, METRIC_L2, DIMENSION as u32);
    let collection = commands::create_collection(&top, "c", shape);
    let mut names = BTreeSet::new();
    for number in 0..FILES {
        let name = format!("file-{number}");
        let file = create(&mounted.directory.join(&name));
        let (vector, data) = (Vector::new_zeroed(), [number as u8; DIMENSION]);
        let mut put = Put {
            collection,
            count: 1,
            vectors: std::ptr::from_ref(&vector) as u64,
            data: data.as_ptr() as u64,
            data_bytes: data.len() as u64,
            ..Put::new()
        };
        low.ioctl(&file, Put::NUMBER, put.as_mut_bytes()).expect("a vector is put");
        assert_eq!(put.stored, 1);
        names.insert(name);
    }
    let file = File::open(mounted.directory.join("file-7")).expect("open");
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().expect("stat"));

    let mut maintain = CollectionMaintain { number: collection, ..CollectionMaintain::new() };
    low.ioctl(&top, CollectionMaintain::NUMBER, maintain.as_mut_bytes()).expect("maintenance");
    assert_eq!(maintain.left, 0);
    alike(&low, &top, Info::new(), &mut [], |_| ());
    let mut room = [0; 2 * size_of::<Collection>()];
    let collections = room.as_mut_ptr() as u64;
    let list = CollectionList { collections, count: 2, ..CollectionList::new() };
    alike(&low, &top, list, &mut room, |_| ());
    let mut show = CollectionShow::new();
    show.collection.number = collection;
    alike(&low, &top, show, &mut [], |_| ());
    let mut data = [0; DIMENSION];
    let (place, data_bytes) = (data.as_mut_ptr() as u64, DIMENSION as u64);
    let get = Get { collection, data: place, data_bytes, ..Get::new() };
    alike(&low, &file, get, &mut data, |_| ());
    assert_eq!(data, [7; DIMENSION]);
    let mut room = vec![0; FILES * size_of::<Vector>()];
    let vectors = room.as_mut_ptr() as u64;
    let mut inodes = vec![0u64; FILES];
    let count = FILES as u32;
    let inodes = inodes.as_mut_ptr() as u64;
    let rows = Rows { collection, vectors, inodes, count, ..Rows::new() };
    alike(&low, &top, rows, &mut room, |_| ());
    let mut room = [0; 64];
    let paths = Paths { inode, paths: room.as_mut_ptr() as u64, bytes: 64, ..Paths::new() };
    alike(&low, &top, paths, &mut room, |_| ());
    assert!(room.starts_with(b"file-7\0"));
    let mut room = vec![0; 9 * size_of::<Hit>()];
    let query = [7u8; DIMENSION];
    let search = Search {
        collection,
        k: 9,
        queries: query.as_ptr() as u64,
        queries_bytes: query.len() as u64,
        hits: room.as_mut_ptr() as u64,
        hits_max: 9,
        ..Search::new()
    };
    alike(&low, &top, search, &mut room, |told| {
        assert_eq!(told.hits_count, 9);
        told.nanoseconds = 0;
    });
    let wrong = Search { flags: 1 << 31, ..search };
    assert_eq!(low.ioctl(&top, Search::NUMBER, &mut wrong.as_bytes().to_vec()), Err(libc::EINVAL));
    let unknown = Search::NUMBER + 99;
    assert_eq!(low.ioctl(&top, unknown, &mut [0; 256]), Err(libc::ENOTTY));

    // Commands of all file systems, some of which have another number for such callers.
    low.number(&file, SET_FLAGS_32, NODUMP).expect("flags");
    for (number_32, number) in [(GET_FLAGS_32, GET_FLAGS), (GET_VERSION_32, GET_VERSION)] {
        let mut told = 0u64;
        // SAFETY: both write a number of 32 bits.
        unsafe { commands::give_raw(&file, number, std::ptr::from_mut(&mut told) as u64) }
            .expect("by 64 bits");
        assert_eq!(low.number(&file, number_32, 0), Ok(told as u32));
    }
    assert_eq!(low.number(&file, GET_FLAGS_32, 0), Ok(NODUMP));
    for (number, bytes) in [(GET_ATTRIBUTES, 28), (GET_UUID, 17)] {
        let (mut one, mut other) = (vec![0; bytes], vec![0; bytes]);
        // SAFETY: there is room for what both write.
        unsafe { commands::give_raw(&file, number, one.as_mut_ptr() as u64) }.expect("by 64 bits");
        low.ioctl(&file, number, &mut other).expect("by 32 bits");
        assert_eq!(one, other);
    }

    names.extend([".".into(), "..".into()]);
    for (number, name_at) in [(GETDENTS, 10), (GETDENTS64, 19)] {
        assert_eq!(listed(&low, &top, number, name_at), names);
    }
    drop((top, file));
    mounted.unmount();
}

/// The names in a directory by one of the calls, a few at a time, going on from where each ended.
fn listed(low: &Low, directory: &File, number: u32, name_at: usize) -> BTreeSet<String> {
    let file = directory.as_raw_fd() as u32;
    let seek = |position: u64| {
        let result = low.address() + Low::BYTES as u32 - 8;
        call(LLSEEK, [file, (position >> 32) as u32, position as u32, result, 0]).expect("_llseek");
    };
    let mut names = BTreeSet::new();
    seek(0);
    loop {
        let bytes = call(number, [file, low.address(), 1000, 0, 0]).expect("a part of the listing");
        if bytes == 0 {
            return names;
        }
        let (told, mut at, mut last) = (low.read(bytes as usize), 0, 0);
        while at < told.len() {
            let field = |from: usize, bytes: usize| {
                let bytes = &told[at + from..at + from + bytes];
                bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
            };
            // The position of the next, and the length.
            let length;
            (last, length) = match number {
                GETDENTS => (field(4, 4), field(8, 2)),
                _ => (field(8, 8), field(16, 2)),
            };
            let name = told[at + name_at..].split(|byte| *byte == 0).next().expect("a name");
            assert!(names.insert(String::from_utf8(name.to_vec()).expect("text")), "listed twice");
            at += length as usize;
        }
        seek(last);
    }
}
