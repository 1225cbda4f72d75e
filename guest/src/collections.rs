// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A collection from its making to its end, each command's answer compared with what it must be.

use crate::MountTest;
use crate::support::{Mounted, Window, assert_same, create, errno, where_slow};
use crate::vectors::{DIMENSION, command, create_collection, put, search, vectors};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use vexfs_uapi as uapi;
use vexfs_uapi::Command;
use zerocopy::FromZeros;

pub const TESTS: &[MountTest] = &[
    ("every_command_answers_as_it_must", every_command),
    ("what_is_dropped_at_once_was_made", what_is_dropped_at_once_was_made),
    ("every_collection_has_its_turn", every_collection_has_its_turn),
    ("a_mapped_page_makes_vectors_stale", a_mapped_page),
    ("what_does_not_fit_is_refused_first", what_does_not_fit),
    ("a_damaged_vector_is_its_readers_matter", a_damaged_vector),
];

/// Vectors of a file.
const CHUNKS: usize = 40;

/// Room for `count` of what a command fills in, and the pointer to it.
fn room<T: FromZeros>(count: usize) -> (Vec<T>, u64) {
    let mut items: Vec<T> = (0..count).map(|_| T::new_zeroed()).collect();
    let pointer = items.as_mut_ptr() as u64;
    (items, pointer)
}

/// The squared distance.
fn distance(one: &[u8], other: &[u8]) -> f32 {
    let squares = one.iter().zip(other).map(|(a, b)| {
        let difference = i32::from(*a as i8) - i32::from(*b as i8);
        (difference * difference) as f32
    });
    squares.sum()
}

fn show(top: &File, number: u32) -> uapi::Collection {
    let mut show = uapi::CollectionShow::new();
    show.collection.number = number;
    command(top, &mut show).expect("VEXFS_IOC_COLLECTION_SHOW");
    show.collection
}

fn get(file: &File, collection: u32, chunk: u32) -> std::io::Result<(Vec<u8>, uapi::Vector)> {
    let (data, pointer) = room::<u8>(DIMENSION + 100);
    let data_bytes = data.len() as u64;
    let mut get = uapi::Get { collection, chunk, data: pointer, data_bytes, ..uapi::Get::new() };
    command(file, &mut get)?;
    Ok((data[..get.data_bytes as usize].to_vec(), get.vector))
}

fn every_command(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "first");
    let second = create_collection(&top, "second");
    let (listed, pointer) = room::<uapi::Collection>(8);
    let mut list =
        uapi::CollectionList { collections: pointer, count: 8, ..uapi::CollectionList::new() };
    command(&top, &mut list).expect("VEXFS_IOC_COLLECTION_LIST");
    assert_eq!((list.count, list.after), (2, second));
    assert_eq!((listed[0].number, &listed[0].name[..6]), (number, &b"first\0"[..]));
    assert_eq!(listed[1].dimension, DIMENSION as u32);

    let directory = mounted.directory.join("below");
    fs::create_dir(&directory).expect("mkdir");
    let paths = ["a", "b"].map(|name| directory.join(name));
    let data = [1, 2].map(|seed| vectors(seed, CHUNKS));
    for (path, data) in paths.iter().zip(&data) {
        put(path, number, data);
    }
    let files = [0, 1].map(|n| create(&paths[n]));
    let inodes = [0, 1].map(|n| files[n].metadata().expect("stat").ino());
    let vector = |file: usize, chunk: usize| &data[file][chunk * DIMENSION..][..DIMENSION];

    for chunk in 0..CHUNKS {
        let (bytes, told) = get(&files[1], number, chunk as u32).expect("VEXFS_IOC_GET");
        assert_eq!(bytes, vector(1, chunk));
        assert_eq!((told.collection, told.chunk, told.fresh), (number, chunk as u32, 1));
        assert!(told.sequence > 0);
    }
    let (told, pointer) = room::<uapi::Vector>(100);
    let mut list = uapi::List { vectors: pointer, count: 100, skip: 3, ..uapi::List::new() };
    command(&files[0], &mut list).expect("VEXFS_IOC_LIST");
    assert_eq!((list.count as usize, list.total as usize), (CHUNKS - 3, CHUNKS));
    assert!((0..CHUNKS - 3).all(|at| told[at].chunk as usize == at + 3));
    let ((told, pointer), (owners, owners_pointer)) = (room::<uapi::Vector>(50), room::<u64>(50));
    let mut rows = uapi::Rows::new();
    (rows.collection, rows.vectors, rows.inodes) = (number, pointer, owners_pointer);
    let mut seen = Vec::new();
    loop {
        (rows.count, rows.more) = (50, 0);
        command(&top, &mut rows).expect("VEXFS_IOC_ROWS");
        let found = rows.count as usize;
        seen.extend(owners[..found].iter().copied().zip(told[..found].iter().map(|v| v.chunk)));
        if rows.more == 0 {
            break;
        }
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 2 * CHUNKS);
    assert!(seen.iter().all(|(inode, _)| inodes.contains(inode)));

    // Of so few there is no graph: every search compares all of them.
    let mut maintain = uapi::CollectionMaintain { number, ..uapi::CollectionMaintain::new() };
    command(&top, &mut maintain).expect("VEXFS_IOC_COLLECTION_MAINTAIN");
    assert_eq!(maintain.left, 0);
    let shown = show(&top, number);
    assert_eq!((shown.rows as usize, shown.loaded), (2 * CHUNKS, 1));
    let queries = vectors(3, 5);
    for flags in [uapi::SEARCH_EXACT, 0, uapi::SEARCH_EXCLUDE] {
        let k = 4;
        let (hits, hits_pointer) = room::<uapi::Hit>(5 * k);
        let (found, found_pointer) = room::<u8>(5 * k * DIMENSION);
        let mut search = uapi::Search::new();
        (search.collection, search.flags, search.k) = (number, flags, k as u32);
        (search.queries, search.queries_bytes) = (queries.as_ptr() as u64, queries.len() as u64);
        (search.hits, search.hits_max) = (hits_pointer, hits.len() as u32);
        search.vectors = found_pointer;
        if flags == uapi::SEARCH_EXCLUDE {
            search.exclude = inodes[0];
        }
        command(&top, &mut search).expect("VEXFS_IOC_SEARCH");
        assert_eq!(search.hits_count as usize, hits.len());
        for (query, bytes) in queries.chunks(DIMENSION).enumerate() {
            let from = if flags == uapi::SEARCH_EXCLUDE { 1 } else { 0 };
            let mut wanted: Vec<(f32, u64, u32)> = (from..2)
                .flat_map(|file| (0..CHUNKS).map(move |chunk| (file, chunk)))
                .map(|(file, chunk)| {
                    (distance(bytes, vector(file, chunk)), inodes[file], chunk as u32)
                })
                .collect();
            wanted.sort_by(|one, other| one.0.total_cmp(&other.0));
            for (at, wanted) in wanted[..k].iter().enumerate() {
                let hit = &hits[query * k + at];
                let told = (f32::from_bits(hit.distance), hit.inode, hit.chunk);
                assert_eq!((told, hit.query as usize), (*wanted, query), "flags {flags}");
                let file = usize::from(hit.inode == inodes[1]);
                let bytes = &found[(query * k + at) * DIMENSION..][..DIMENSION];
                assert_eq!(bytes, vector(file, hit.chunk as usize));
            }
        }
    }
    let (text, pointer) = room::<u8>(100);
    let mut paths_of =
        uapi::Paths { inode: inodes[1], paths: pointer, bytes: 100, ..uapi::Paths::new() };
    command(&top, &mut paths_of).expect("VEXFS_IOC_PATHS");
    assert_eq!((paths_of.count, &text[..paths_of.bytes as usize]), (1, &b"below/b\0"[..]));

    let mut remove = uapi::Remove { collection: number, first: 5, last: 9, ..uapi::Remove::new() };
    command(&files[0], &mut remove).expect("VEXFS_IOC_REMOVE");
    assert_eq!((remove.removed, show(&top, number).rows as usize), (5, 2 * CHUNKS - 5));
    let gone = get(&files[0], number, 7).expect_err("removed");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    let mut info = uapi::Info::new();
    command(&top, &mut info).expect("VEXFS_IOC_INFO");
    let stat = rustix::fs::fstatvfs(&top).expect("statvfs");
    assert_eq!((info.collections, info.searches), (2, 3));
    assert_eq!((info.blocks, u64::from(info.block_bytes)), (stat.f_blocks, stat.f_bsize));
    let mut drop_it = uapi::CollectionDrop { number, ..uapi::CollectionDrop::new() };
    command(&top, &mut drop_it).expect("VEXFS_IOC_COLLECTION_DROP");
    let gone = get(&files[1], number, 0).expect_err("dropped");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    drop((top, files));
    mounted.cycle();
    let top = File::open(&mounted.directory).expect("open");
    assert_eq!(show(&top, second).rows, 0);
    drop(top);
    mounted.unmount();
}

/// Small collections are never in a graph, and there may be many of them.
fn every_collection_has_its_turn(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    for number in 0..70 {
        let number = create_collection(&top, &format!("small{number}"));
        put(&mounted.directory.join("small"), number, &vectors(1, 1));
    }
    let last = create_collection(&top, "last");
    put(&mounted.directory.join("large"), last, &vectors(2, 1500));
    let built = (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        show(&top, last).indexed > 0
    });
    assert!(built, "{} vectors, none in the graph", show(&top, last).rows);
    drop(top);
    mounted.unmount();
}

/// A store to a page that is dirty already is no fault, and a change all the same.
fn a_mapped_page(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "c");
    let file = create(&mounted.directory.join("f"));
    file.set_len(4096).expect("ftruncate");
    let page = Window::new(&file, 4096);
    let version = || {
        let mut list = uapi::List::new();
        command(&file, &mut list).expect("VEXFS_IOC_LIST");
        list.content_version
    };
    let stale = |content_version| {
        let described = [uapi::Vector { content_version, ..uapi::Vector::new_zeroed() }];
        let data = vectors(1, 1);
        crate::commands::put(&file, collection, &described, &data).expect("put").stale
    };
    for round in 0..20u8 {
        page.set(0, round);
        let told = version();
        assert_eq!(stale(told), 0, "nothing was stored since");
        page.set(0, round + 1);
        let told = version();
        page.set(0, round + 2);
        assert_eq!(stale(told), 1, "another byte was stored since");
    }
    drop((page, file, top));
    mounted.unmount();
}

fn what_does_not_fit(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "c");
    put(&mounted.directory.join("f"), number, &vectors(1, 1));
    let queries = vectors(2, 5);
    for (fit, wanted) in [(20, Ok(5)), (19, Err(libc::EINVAL))] {
        let (_hits, hits_pointer) = room::<uapi::Hit>(20);
        let mut search = uapi::Search { k: 4, collection: number, ..uapi::Search::new() };
        (search.queries, search.queries_bytes) = (queries.as_ptr() as u64, queries.len() as u64);
        (search.hits, search.hits_max) = (hits_pointer, fit);
        let result = command(&top, &mut search);
        let told = result.map(|()| search.hits_count).map_err(|e| e.raw_os_error().expect("errno"));
        assert_eq!(told, wanted, "room for {fit} hits");
    }
    let mut show = uapi::CollectionShow::new();
    (show.collection.number, show.collection.reserved[1]) = (number, 1);
    let refused = command(&top, &mut show).expect_err("a reserved field");
    assert_eq!(refused.raw_os_error(), Some(libc::EINVAL));
    drop(top);
    mounted.unmount();
}

/// Making a collection succeeds though another drops it before it is described.
fn what_is_dropped_at_once_was_made(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let (next, done) = (AtomicU32::new(create_collection(&top, "c") + 1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let drop_them = || {
            while !done.load(Ordering::Relaxed) {
                let number = next.load(Ordering::Relaxed);
                let mut drop_it = uapi::CollectionDrop { number, ..uapi::CollectionDrop::new() };
                if command(&top, &mut drop_it).is_ok() {
                    next.store(number + 1, Ordering::Release);
                }
            }
        };
        for _ in 0..4 {
            scope.spawn(drop_them);
        }
        let made = scope.spawn(|| {
            for round in 0..where_slow(150, 500) {
                let number = create_collection(&top, &format!("c{round}"));
                while next.load(Ordering::Acquire) <= number {
                    std::thread::yield_now();
                }
            }
        });
        let made = made.join();
        done.store(true, Ordering::Relaxed);
        made.expect("collections");
    });
    drop(top);
    mounted.unmount();
}

fn a_damaged_vector(mounted: &Mounted) {
    // Of no other test, which may have left them where this one puts nothing.
    let data = vectors(0xda3a6ed, 8);
    let whole = |chunk: usize| &data[chunk * DIMENSION..][..DIMENSION];
    mounted.mount("");
    let number = create_collection(&File::open(&mounted.directory).expect("open"), "c");
    let path = mounted.directory.join("file");
    put(&path, number, &data);
    mounted.unmount();
    let device = File::options().read(true).write(true).open(&mounted.device).expect("open");
    let mut lot = vec![0; 1 << 20];
    // Rows of so many bytes are where blocks begin, or at multiples from there.
    let place = (0..).step_by(lot.len()).find_map(|start| {
        assert!(device.read_at(&mut lot, start).expect("read") > 0, "the vector is on the device");
        let at = lot.chunks(DIMENSION).position(|row| row == whole(5))?;
        Some(start + (at * DIMENSION) as u64)
    });
    device
        .write_all_at(&[data[5 * DIMENSION + 9] ^ 4], place.expect("a place") + 9)
        .expect("damage");
    device.sync_all().expect("fsync");
    mounted.mount("errors=remount-ro");
    let top = File::open(&mounted.directory).expect("open");
    let file = File::open(&path).expect("open");
    for chunk in 0..8 {
        match get(&file, number, chunk) {
            Ok((bytes, _)) => assert_same(&bytes, whole(chunk as usize), "beside a damaged one"),
            Err(error) => assert_eq!((chunk, error.raw_os_error()), (5, Some(libc::EBADMSG))),
        }
    }
    assert_eq!(get(&file, number, 5).expect_err("damaged").raw_os_error(), Some(libc::EBADMSG));
    let (hits, _) = search(&top, number, &data, 0).expect("search");
    assert_eq!((hits.len(), hits[3].chunk, hits[3].distance), (8, 3, 0));
    assert!(hits[5].chunk != 5 && hits[5].distance != 0, "the next is the nearest");
    let error = rustix::fs::ioctl_ficlone(create(&mounted.directory.join("clone")), &file);
    assert_eq!(errno(error), libc::EBADMSG);
    // What would stop all writing does so a moment later.
    std::thread::sleep(Duration::from_millis(200));
    let more = vectors(2, 8);
    put(&mounted.directory.join("another"), number, &more);
    let (hits, _) = search(&top, number, &more, 0).expect("search");
    assert!(hits.iter().all(|hit| hit.distance == 0), "others go on");
    put(&path, number, &data);
    assert_same(&get(&file, number, 5).expect("put again").0, whole(5), "put again");
    drop((top, file));
    mounted.unmount();
}
