// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A collection from its making to its end, each command's answer compared with what it must be.

use crate::MountTest;
use crate::support::{Mounted, Window, assert_same, create, errno, noise, run, where_slow};
use crate::sysfs::Own;
use crate::vectors::{DIMENSION, command, create_collection, put, search, vectors};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
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
    ("a_copy_carries_vectors_and_what_is_stale", a_copy_carries_vectors),
    ("a_damaged_graph_is_made_anew", a_damaged_graph),
    ("what_is_below_another_mount_is_found", what_is_below_another_mount),
    ("who_lists_and_searches_lets_others_write", who_lists_and_searches),
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
    paths_are_told_in_pieces(&top, &directory, inodes[1]);

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

fn paths_are_told_in_pieces(top: &File, directory: &Path, inode: u64) {
    let mut wanted = vec!["below/b".to_owned()];
    for link in 0..30 {
        let name = format!("{link:0100}");
        fs::hard_link(directory.join("b"), directory.join(&name)).expect("link");
        wanted.push(format!("below/{name}"));
    }
    let told = |skip, bytes| crate::commands::some_paths(top, inode, 0, skip, bytes);
    let mut all = Vec::new();
    loop {
        let (some, more) = told(all.len() as u32, 1000).expect("VEXFS_IOC_PATHS");
        all.extend(some);
        if !more {
            break;
        }
    }
    all.sort();
    wanted.sort();
    assert_eq!(all, wanted);
    assert_eq!(told(0, 65_536).expect("all at once").0.len(), 31);
    assert_eq!(told(31, 1000), Ok((Vec::new(), false)));
    assert_eq!((told(20, 50), told(20, 0)), (Err(Errno::RANGE), Err(Errno::RANGE)));
    for link in 0..30 {
        fs::remove_file(directory.join(format!("{link:0100}"))).expect("remove");
    }
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

/// Whether each vector of a file describes its content of now.
fn freshness(file: &File) -> Vec<bool> {
    let (told, pointer) = room::<uapi::Vector>(16);
    let mut list = uapi::List { vectors: pointer, count: 16, ..uapi::List::new() };
    command(file, &mut list).expect("VEXFS_IOC_LIST");
    told[..list.count as usize].iter().map(|vector| vector.fresh != 0).collect()
}

/// FICLONE, FICLONERANGE of all and copy_file_range of all make copies with vectors, a part does not.
fn a_copy_carries_vectors(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "c");
    let path = mounted.directory.join("file");
    let data = vectors(1, 3);
    fs::write(&path, noise(1, 9000)).expect("write");
    put(&path, number, &data);
    // `put` makes the file anew; its vectors describe what it holds from here on.
    let file = File::options().read(true).write(true).open(&path).expect("open");
    let copied = |name: &str, length: usize| {
        let target = create(&mounted.directory.join(name));
        let made = rustix::fs::copy_file_range(&file, Some(&mut 0), &target, Some(&mut 0), length);
        assert_eq!(made, Ok(length.min(9000)), "{name}");
        target
    };
    let cloned = |name: &str| {
        let target = create(&mounted.directory.join(name));
        rustix::fs::ioctl_ficlone(&target, &file).expect("FICLONE");
        target
    };
    let carries = |copy: &File, fresh: bool, what: &str| {
        for chunk in 0..3 {
            let (bytes, _) = get(copy, number, chunk).expect(what);
            assert_same(&bytes, &data[chunk as usize * DIMENSION..][..DIMENSION], what);
        }
        assert_eq!(freshness(copy), [fresh; 3], "{what}");
    };
    file.write_all_at(&noise(2, 9000), 0).expect("write");
    assert_eq!(freshness(&file), [false; 3]);
    carries(&cloned("stale clone"), false, "a clone of what is stale");
    carries(&copied("stale copy", 9000), false, "a copy of what is stale");

    let described: Vec<uapi::Vector> =
        (0..3).map(|chunk| uapi::Vector { chunk, ..uapi::Vector::new_zeroed() }).collect();
    crate::commands::put(&file, number, &described, &data).expect("put");
    let fresh = [cloned("clone"), copied("copy", 1 << 20)];
    fresh.iter().for_each(|copy| carries(copy, true, "a copy of what is fresh"));
    assert_eq!(freshness(&copied("part", 4096)), []);
    // Each goes its own way from there.
    fresh[0].write_all_at(b"x", 0).expect("write");
    carries(&fresh[0], false, "a clone that was written to");
    carries(&file, true, "what was cloned");
    carries(&fresh[1], true, "the other copy");
    // A copy over a file that has vectors replaces those it has, too.
    rustix::fs::ioctl_ficlone(&fresh[0], &fresh[1]).expect("FICLONE");
    carries(&fresh[0], true, "a clone over another");
    drop((file, fresh, top));
    mounted.cycle();
    for (name, fresh) in [("file", true), ("clone", true), ("copy", true), ("stale clone", false)] {
        let copy = File::open(mounted.directory.join(name)).expect("open");
        carries(&copy, fresh, &format!("{name}, mounted again"));
    }
    mounted.unmount();
}

/// A stored graph that lies is no obstacle: searches compare all, and the background makes it anew.
fn a_damaged_graph(mounted: &Mounted) {
    const COUNT: usize = 1500;
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "c");
    let data = vectors(7, COUNT);
    put(&mounted.directory.join("file"), number, &data);
    let rows_alone = show(&top, number).stored_bytes;
    crate::commands::maintain(&top, number);
    rustix::fs::syncfs(&top).expect("syncfs");
    let shown = show(&top, number);
    assert_eq!((shown.indexed as usize, shown.unindexed), (COUNT, 0));
    assert!(shown.stored_bytes > rows_alone, "a graph is stored");
    drop(top);
    mounted.unmount();
    let device = File::options().read(true).write(true).open(&mounted.device).expect("open");
    let (mut lot, mut graphs) = (vec![0; 1 << 20], 0);
    for start in (0..).step_by(lot.len()) {
        let length = device.read_at(&mut lot, start).expect("read");
        if length == 0 {
            break;
        }
        // A graph begins with a block that says so; one of a file system that was here before is free
        // space by now.
        for at in (0..length).step_by(4096).filter(|at| lot[*at..].starts_with(b"VXGR")) {
            device.write_all_at(&[0x55; 64], start + at as u64 + 512).expect("damage");
            graphs += 1;
        }
    }
    assert!(graphs > 0, "no graph is on the device");
    device.sync_all().expect("fsync");
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    Own::of_mounted().set("index_paused", "1");
    let queries = &data[..20 * DIMENSION];
    let nearest = |when: &str| {
        let (hits, _) = search(&top, number, queries, 0).expect("search");
        let found: Vec<_> = hits.iter().map(|hit| (hit.chunk, hit.distance)).collect();
        assert_eq!(found, (0..20).map(|chunk| (chunk, 0)).collect::<Vec<_>>(), "{when}");
    };
    nearest("without its graph");
    let shown = show(&top, number);
    assert_eq!((shown.graph_damaged, shown.unindexed as usize), (1, COUNT));
    Own::of_mounted().set("index_paused", "0");
    let made = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        let shown = show(&top, number);
        (shown.graph_damaged, shown.unindexed) == (0, 0)
    });
    assert!(made, "the graph was not made anew: {} not in it", show(&top, number).unindexed);
    nearest("with another graph");
    drop(top);
    mounted.cycle();
    let top = File::open(&mounted.directory).expect("open");
    search(&top, number, queries, 0).expect("search");
    let shown = show(&top, number);
    assert_eq!((shown.graph_damaged, shown.unindexed), (0, 0), "the new one is stored");
    drop(top);
    mounted.unmount();
}

/// What another file system that is mounted on a directory covers is there, and found, all the same.
fn what_is_below_another_mount(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "c");
    let below = mounted.directory.join("below");
    fs::create_dir(&below).expect("mkdir");
    let data = vectors(1, 1);
    put(&below.join("file"), number, &data);
    let inode = below.join("file").metadata().expect("stat").ino();
    let found = |top: &File| {
        let (hits, _) = search(top, number, &data, 0).expect("search");
        let paths = crate::commands::paths(top, inode, 0).expect("VEXFS_IOC_PATHS");
        (hits.iter().map(|hit| hit.inode).collect::<Vec<_>>(), paths)
    };
    let wanted = (vec![inode], vec!["below/file".to_owned()]);
    assert_eq!(found(&top), wanted);
    run("mount", &["-t", "tmpfs", "none", below.to_str().expect("UTF-8")]);
    assert!(!below.join("file").exists(), "it is covered");
    assert_eq!(found(&top), wanted, "what is covered");
    // The other file system has no such commands.
    let other = File::open(&below).expect("open");
    let refused = search(&other, number, &data, 0).expect_err("another file system");
    assert_eq!(refused.raw_os_error(), Some(libc::ENOTTY));
    drop(other);
    run("umount", &[below.to_str().expect("UTF-8")]);
    assert_eq!(found(&top), wanted);
    drop(top);
    mounted.unmount();
}

/// Others change the file system while somebody searches and lists again and again: none waits for all of
/// what the other does.
fn who_lists_and_searches(mounted: &Mounted) {
    mounted.mount("");
    let top = File::open(&mounted.directory).expect("open");
    let number = create_collection(&top, "c");
    let count = where_slow(4000, 20_000) as usize;
    put(&mounted.directory.join("file"), number, &vectors(1, count));
    let queries = vectors(2, 200);
    let (searching, changes) = (AtomicBool::new(true), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let before = changes.load(Ordering::Relaxed);
            search(&top, number, &queries, uapi::SEARCH_EXACT).expect("search");
            let searched = changes.load(Ordering::Relaxed);
            let (mut from, mut told) = (0, 0);
            loop {
                let (rows, some) = crate::commands::rows(&top, number, from, count).expect("rows");
                told += some.len();
                from = rows.from;
                if rows.more == 0 {
                    break;
                }
            }
            searching.store(false, Ordering::Relaxed);
            (searched - before, told)
        });
        let path = mounted.directory.join("changed");
        while searching.load(Ordering::Relaxed) {
            drop(create(&path));
            fs::remove_file(&path).expect("remove");
            changes.fetch_add(1, Ordering::Relaxed);
        }
        let (during, told) = asks.join().expect("the thread");
        assert_eq!(told, count);
        assert!(during > 3, "{during} changes while a search compared {count} vectors 200 times");
    });
    drop(top);
    mounted.unmount();
}
