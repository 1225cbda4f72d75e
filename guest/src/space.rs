// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Space: holes, preallocation, sharing, and none left.

use crate::Test;
use crate::ioctls::DEDUPE_RANGE;
use crate::support::{
    MemoryThatEnds, Numbers, Window, assert_same, content, create, drop_caches, extents, noise,
    where_slow,
};
use rustix::fs::{FallocateFlags, SeekFrom};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("holes_are_found", holes_are_found),
    ("what_is_being_written_back_is_no_hole", what_is_being_written_back_is_no_hole),
    ("extents_are_told_as_what_they_are", extents_are_told),
    ("space_is_given_zeroed_and_taken", space_is_given_zeroed_and_taken),
    ("giving_space_leaves_the_cache", giving_space_leaves_the_cache),
    ("ranges_are_taken_out_and_put_in", ranges_are_taken_out_and_put_in),
    ("clones_share_until_written", clones_share_until_written),
    ("ranges_are_copied", ranges_are_copied),
    ("the_same_bytes_share_blocks_and_no_time_changes", the_same_bytes_share_blocks),
    ("what_is_overwritten_counts_once", what_is_overwritten_counts_once),
    ("writes_that_fail_take_no_space", writes_that_fail_take_no_space),
    ("stores_behind_which_the_file_ends_keep_no_space", stores_behind_which_the_file_ends),
    ("a_full_disk_says_so_and_recovers", a_full_disk_says_so_and_recovers),
    ("given_space_takes_writes_on_a_full_disk", given_space_takes_writes_on_a_full_disk),
    ("mapped_stores_without_space_are_told_by_a_signal", mapped_stores_without_space),
];

fn holes_are_found(dir: &Path) {
    let file = create(&dir.join("f"));
    file.set_len(1 << 40).expect("truncate");
    file.write_all_at(&noise(1, 8192), 1 << 20).expect("write");
    for settled in [false, true] {
        if settled {
            file.sync_all().expect("fsync");
            drop_caches();
        }
        let seek = |from| rustix::fs::seek(&file, from);
        assert_eq!(seek(SeekFrom::Data(0)).expect("data"), 1 << 20);
        assert_eq!(seek(SeekFrom::Hole(0)).expect("hole"), 0);
        assert_eq!(seek(SeekFrom::Hole(1 << 20)).expect("hole"), (1 << 20) + 8192);
        assert!(seek(SeekFrom::Data((1 << 20) + 8192)).is_err());
        assert_eq!(seek(SeekFrom::Hole((1 << 40) - 1)).expect("hole"), (1 << 40) - 1);
    }
    assert!(file.metadata().expect("stat").blocks() <= 24);
}

fn what_is_being_written_back_is_no_hole(dir: &Path) {
    const LENGTH: u64 = 16 << 20;
    let bytes = noise(21, LENGTH as usize);
    let seek = |file: &File, from| rustix::fs::seek(file, from).expect("seek");
    for round in 0..where_slow(5, 20) {
        let path = dir.join("f");
        let file = create(&path);
        file.write_all_at(&bytes, 0).expect("write");
        let other = File::open(&path).expect("open");
        let looks = std::thread::scope(|scope| {
            let syncing = scope.spawn(|| file.sync_all().expect("fsync"));
            let mut looks = 0;
            while !syncing.is_finished() {
                let found = [SeekFrom::Data(0), SeekFrom::Hole(0)].map(|from| seek(&other, from));
                assert_eq!(found, [0, LENGTH], "round {round}");
                assert!(other.metadata().expect("stat").blocks() * 512 >= LENGTH, "round {round}");
                looks += 1;
            }
            looks
        });
        assert!(looks > 0);
        fs::remove_file(&path).expect("remove");
    }
}

fn extents_are_told(dir: &Path) {
    const LAST: u32 = 1;
    const UNKNOWN: u32 = 2;
    const DELALLOC: u32 = 4;
    const NOT_ALIGNED: u32 = 0x100;
    const INLINE: u32 = 0x200;
    const UNWRITTEN: u32 = 0x800;
    const SHARED: u32 = 0x2000;
    const PART: u64 = 64 << 10;
    let told = |file: &File| -> Vec<(u64, u64, u32)> {
        extents(file).iter().map(|extent| (extent.start, extent.length, extent.flags)).collect()
    };
    let file = create(&dir.join("f"));
    assert!(told(&file).is_empty());
    file.write_all_at(&noise(1, PART as usize), 0).expect("write");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 1 << 20, PART).expect("fallocate");
    file.sync_all().expect("fsync");
    let settled = [(0, PART, 0), (1 << 20, PART, UNWRITTEN)];
    let with = |last: (u64, u64, u32)| [&settled[..], &[last]].concat();
    assert_eq!(told(&file), [settled[0], (1 << 20, PART, UNWRITTEN | LAST)]);
    assert!(extents(&file).iter().all(|extent| extent.place > 0 && extent.place % 4096 == 0));
    // Not on the device yet.
    file.write_all_at(&noise(2, PART as usize), 2 << 20).expect("write");
    assert_eq!(told(&file), with((2 << 20, PART, DELALLOC | UNKNOWN | LAST)));
    file.sync_all().expect("fsync");
    assert_eq!(told(&file), with((2 << 20, PART, LAST)));
    let clone = create(&dir.join("clone"));
    rustix::fs::ioctl_ficlone(&clone, &file).expect("clone");
    let all = told(&file);
    assert_eq!((all[0], all[2]), ((0, PART, SHARED), (2 << 20, PART, SHARED | LAST)));
    assert_eq!(extents(&clone)[0].place, extents(&file)[0].place);
    // What is written to one is its own.
    clone.write_all_at(b"x", 0).expect("write");
    clone.sync_all().expect("fsync");
    assert_eq!(told(&clone)[0], (0, 4096, 0));
    assert_eq!(told(&file)[0].2, 0, "the first block is not shared any more");
    assert_eq!(told(&file)[1], (4096, PART - 4096, SHARED));
    let small = create(&dir.join("small"));
    small.write_all_at(b"in the tree", 0).expect("write");
    small.sync_all().expect("fsync");
    assert_eq!(told(&small), [(0, 11, INLINE | NOT_ALIGNED | LAST)]);
}

fn space_is_given_zeroed_and_taken(dir: &Path) {
    let path = dir.join("f");
    let file = create(&path);
    let length = 300_000;
    let mut model = noise(4, length);
    file.write_all_at(&model, 0).expect("write");
    let change = |flags, at: u64, length: u64| {
        rustix::fs::fallocate(&file, flags, at, length).expect("fallocate");
    };
    let keep = FallocateFlags::KEEP_SIZE;
    change(FallocateFlags::PUNCH_HOLE | keep, 10_001, 50_000);
    model[10_001..60_001].fill(0);
    assert_same(&content(&path), &model, "punched");
    change(FallocateFlags::ZERO_RANGE, 100_000, 12_345);
    model[100_000..112_345].fill(0);
    change(keep, 0, 1 << 20);
    assert_eq!(file.metadata().expect("stat").len(), length as u64);
    assert!(file.metadata().expect("stat").blocks() >= (1 << 20) / 512);
    file.set_len(length as u64 + 1).expect("growing keeps what was given behind the end");
    assert!(file.metadata().expect("stat").blocks() >= (1 << 20) / 512);
    file.set_len(length as u64).expect("cut");
    assert!(file.metadata().expect("stat").blocks() < (1 << 20) / 512);
    change(FallocateFlags::empty(), 290_000, 20_000);
    model.resize(310_000, 0);
    file.write_all_at(&noise(5, 9000), 305_000).expect("write into given space");
    model.resize(314_000, 0);
    model[305_000..].copy_from_slice(&noise(5, 9000));
    assert_same(&content(&path), &model, "cached");
    file.sync_all().expect("fsync");
    drop_caches();
    assert_same(&content(&path), &model, "from the device");
}

fn giving_space_leaves_the_cache(dir: &Path) {
    const PAGES: usize = 64;
    const LENGTH: usize = PAGES * 4096 - 1000;
    let path = dir.join("f");
    let file = create(&path);
    // With a hole, which is given space while its page is in memory; a part of a block at the end.
    let mut model = noise(22, LENGTH);
    model[40_960..81_920].fill(0);
    file.write_all_at(&model[..40_960], 0).expect("write");
    file.write_all_at(&model[81_920..], 81_920).expect("write");
    file.sync_all().expect("fsync");
    assert_same(&content(&path), &model, "before");
    let window = Window::new(&file, PAGES * 4096);
    window.set(81_921, 1);
    model[81_921] = 1;
    window.set(LENGTH + 5, 1); // behind the end
    let mut give = |length: usize| {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length as u64).expect("fallocate");
        assert_eq!(window.resident(), PAGES, "pages are in memory");
        model.resize(model.len().max(length), 0);
        assert_same(&content(&path), &model, "cached");
    };
    give(LENGTH / 2);
    give(LENGTH);
    give(PAGES * 4096);
    // Stored to a page of what was a hole, and to one behind what was the end.
    for at in [50_000, LENGTH + 9] {
        window.set(at, 7);
        model[at] = 7;
    }
    let blocks = file.metadata().expect("stat").blocks();
    file.sync_all().expect("fsync");
    assert_eq!(file.metadata().expect("stat").blocks(), blocks);
    drop_caches();
    assert_same(&content(&path), &model, "from the device");
}

fn ranges_are_taken_out_and_put_in(dir: &Path) {
    const BLOCK: usize = 4096;
    let path = dir.join("f");
    let file = create(&path);
    let mut model = noise(13, 700_001);
    file.write_all_at(&model, 0).expect("write");
    let change =
        |flags, at: u64, length: usize| rustix::fs::fallocate(&file, flags, at, length as u64);
    let (out, into) = (FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE);
    let mut numbers = Numbers(5);
    for step in 0..60 {
        let blocks = model.len() / BLOCK;
        let at = numbers.below(blocks as u64) as usize * BLOCK;
        let length = (1 + numbers.below(20) as usize) * BLOCK;
        if step % 2 == 0 && at + length < model.len() {
            change(out, at as u64, length).expect("FALLOC_FL_COLLAPSE_RANGE");
            model.drain(at..at + length);
        } else {
            change(into, at as u64, length).expect("FALLOC_FL_INSERT_RANGE");
            model.splice(at..at, std::iter::repeat_n(0, length));
        }
        // Dirty when it moves the next time.
        let bytes = noise(step, 5000);
        let at = numbers.below((model.len() - bytes.len()) as u64) as usize;
        file.write_all_at(&bytes, at as u64).expect("write");
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        assert_same(&content(&path), &model, "cached");
    }
    let refused =
        |flags, at, length| change(flags, at, length).expect_err("refused").raw_os_error();
    assert_eq!(refused(out, 1, BLOCK), libc::EINVAL);
    assert_eq!(refused(out, 0, model.len().next_multiple_of(BLOCK)), libc::EINVAL);
    assert_eq!(refused(into, 0, 100), libc::EINVAL);
    assert_eq!(refused(into, model.len().next_multiple_of(BLOCK) as u64, BLOCK), libc::EINVAL);
    let whole = rustix::fs::fallocate(&file, into, 0, 16 << 40).expect_err("refused");
    assert_eq!(whole.raw_os_error(), libc::EFBIG);
    file.sync_all().expect("fsync");
    drop_caches();
    assert_same(&content(&path), &model, "from the device");
}

fn clones_share_until_written(dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    let bytes = noise(6, 1 << 20);
    fs::write(&from, &bytes).expect("write");
    let (source, target) = (File::open(&from).expect("open"), create(&to));
    rustix::fs::ioctl_ficlone(&target, &source).expect("clone");
    assert_same(&content(&to), &bytes, "clone");
    target.write_all_at(b"changed", 500_000).expect("write");
    rustix::fs::sync();
    drop_caches();
    assert_same(&content(&from), &bytes, "source");
    let mut changed = bytes.clone();
    changed[500_000..500_007].copy_from_slice(b"changed");
    assert_same(&content(&to), &changed, "clone, changed");
}

fn ranges_are_copied(dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    let bytes = noise(7, 400_000);
    fs::write(&from, &bytes).expect("write");
    fs::write(&to, noise(8, 100_000)).expect("write");
    let (source, target) = (File::open(&from).expect("open"), create(&to));
    let (mut at, mut to_at) = (4096u64, 8192u64);
    let mut left = 200_000usize;
    while left > 0 {
        let copied =
            rustix::fs::copy_file_range(&source, Some(&mut at), &target, Some(&mut to_at), left)
                .expect("copy_file_range");
        assert!(copied > 0);
        left -= copied;
    }
    let mut model = noise(8, 100_000);
    model.resize(208_192, 0);
    model[8192..].copy_from_slice(&bytes[4096..204_096]);
    assert_same(&content(&to), &model, "copied");
    rustix::fs::sync();
    drop_caches();
    assert_same(&content(&to), &model, "copied, from the device");
}

/// `FIDEDUPERANGE` for one target: how many bytes share blocks now, or none if they differ.
fn dedupe(from: &File, at: u64, length: u64, to: &File, to_at: u64) -> Option<u64> {
    const DIFFERS: u64 = 1;
    // struct file_dedupe_range with one struct file_dedupe_range_info.
    let mut request = [at, length, 1, to.as_raw_fd() as u64, to_at, 0, 0];
    // SAFETY: the request is as long as its count of targets says, and lives through the call.
    let result = unsafe { libc::ioctl(from.as_raw_fd(), DEDUPE_RANGE as _, request.as_mut_ptr()) };
    assert_eq!(result, 0, "FIDEDUPERANGE: {}", std::io::Error::last_os_error());
    let [.., shared, status] = request;
    assert!(status <= DIFFERS, "FIDEDUPERANGE: status {}", status as i32);
    (status == 0).then_some(shared)
}

fn the_same_bytes_share_blocks(dir: &Path) {
    const LENGTH: u64 = 4 << 20;
    let times = |file: &File| {
        let stat = file.metadata().expect("stat");
        (stat.modified().expect("mtime"), stat.ctime(), stat.ctime_nsec())
    };
    let free = |file: &File| {
        file.sync_all().expect("fsync");
        rustix::fs::sync();
        rustix::fs::fstatvfs(file).expect("statvfs").f_bfree * 4096
    };
    // Of whole blocks and in the tree; with a hole, which takes none of the target's blocks.
    for (name, length) in [("large", LENGTH), ("small", 100)] {
        let (from, to) = (dir.join(format!("{name} from")), dir.join(format!("{name} to")));
        let mut bytes = noise(14, length as usize);
        let (source, target) = (create(&from), create(&to));
        source.set_len(length).expect("a hole at the end");
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        source.write_all_at(&bytes[..half], 0).expect("write");
        target.write_all_at(&bytes, 0).expect("write");
        let (free_before, times_before) = (free(&target), times(&target));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(dedupe(&source, 0, length, &target, 0), Some(length), "{name}");
        assert_eq!(times(&target), times_before, "{name}");
        let gained = free(&target).saturating_sub(free_before);
        assert!(length != LENGTH || gained > LENGTH * 3 / 4, "{gained} bytes were gained");
        drop_caches();
        assert_same(&content(&to), &bytes, "deduplicated");
        assert_eq!(times(&target), times_before, "{name}, after writing back");
        target.write_all_at(b"x", length / 3).expect("write");
        assert_eq!(dedupe(&source, 0, length, &target, 0), None, "{name}");
        assert_same(&content(&from)[..half], &bytes[..half], "the source");
    }
}

fn what_is_overwritten_counts_once(dir: &Path) {
    const HALF: usize = 256 << 10;
    let file = create(&dir.join("f"));
    let blocks = || file.metadata().expect("stat").blocks() * 512 / HALF as u64;
    let settled = || {
        file.sync_all().expect("fsync");
        blocks()
    };
    // Written, a hole, space never written.
    file.write_all_at(&noise(16, HALF), 0).expect("write");
    file.set_len(3 * HALF as u64).expect("truncate");
    let (keep, end) = (FallocateFlags::KEEP_SIZE, 2 * HALF as u64);
    rustix::fs::fallocate(&file, keep, end, HALF as u64).expect("fallocate");
    assert_eq!(settled(), 2);
    for (at, wanted) in [(0, 2), (1, 3), (2, 3)] {
        for _ in 0..2 {
            file.write_all_at(&noise(17, HALF), (at * HALF) as u64).expect("write");
            assert_eq!(blocks(), wanted, "part {at}, dirty");
        }
    }
    assert_eq!(settled(), 3);
    file.write_all_at(&noise(18, 3 * HALF), 0).expect("write");
    assert_eq!((blocks(), settled()), (3, 3), "all of it");
    // Cut while dirty, and what was cut off written again.
    file.write_all_at(&noise(19, 3 * HALF), 0).expect("write");
    file.set_len(HALF as u64).expect("truncate");
    assert_eq!(blocks(), 1);
    file.write_all_at(&noise(20, 2 * HALF), HALF as u64).expect("write");
    assert_eq!((blocks(), settled()), (3, 3));
}

fn writes_that_fail_take_no_space(dir: &Path) {
    const MIB: usize = 1 << 20;
    const DIRTY: usize = 40 << 12;
    let memory = MemoryThatEnds::new(MIB);
    let source = noise(22, MIB);
    memory.fill(&source);
    let path = dir.join("f");
    let file = create(&path);
    let free = || rustix::fs::fstatvfs(&file).expect("statvfs").f_bfree;
    let blocks = || file.metadata().expect("stat").blocks() / 8;
    rustix::fs::sync();
    let before = free();
    for place in 0..20 {
        let error = memory.write(&file, 0, MIB, place * MIB).expect_err("there is nothing");
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
        // What is not durable yet may take some itself.
        assert!(before.saturating_sub(free()) < 64, "{before} were free, and {} are", free());
    }
    assert_eq!(blocks(), 0);
    // What is dirty keeps its space, and what was written of a short write has it.
    let mut model = vec![0; MIB + 12_000];
    for part in [0..DIRTY, 2 * DIRTY..3 * DIRTY] {
        file.write_all_at(&source[part.clone()], part.start as u64).expect("write");
        model[part.clone()].copy_from_slice(&source[part]);
    }
    assert_eq!(memory.write(&file, 5000, MIB, DIRTY).expect("a short write"), 5000);
    model[DIRTY..][..5000].copy_from_slice(&source[MIB - 5000..]);
    memory.write(&file, 0, MIB, 0).expect_err("there is nothing");
    assert_eq!(memory.write(&file, 12_000, MIB, MIB).expect("a short write"), 12_000);
    model[MIB..].copy_from_slice(&source[MIB - 12_000..]);
    assert_eq!(blocks(), 2 * 40 + 2 + 3);
    for what in ["cached", "from the device"] {
        assert_same(&content(&path), &model, what);
        file.sync_all().expect("fsync");
        assert_eq!(blocks(), 2 * 40 + 2 + 3, "{what}");
        drop_caches();
    }
}

fn stores_behind_which_the_file_ends(dir: &Path) {
    const PAGE: usize = 4096;
    const LENGTH: usize = 64 * PAGE;
    let path = dir.join("f");
    // Where there are large pages, one write of all makes one; who holds it keeps it whole when it is cut.
    for end in [LENGTH, LENGTH - 5 * PAGE, 100, 31 * PAGE + 1, LENGTH / 2 + 1] {
        let file = create(&path);
        let mut model = noise(23, LENGTH);
        file.write_all_at(&model, 0).expect("write");
        file.sync_all().expect("fsync");
        let (_reader, writer) = std::io::pipe().expect("a pipe");
        let (from, to) = (file.as_raw_fd(), writer.as_raw_fd());
        let none = std::ptr::null_mut();
        // SAFETY: the place in the file is of this function.
        let held = unsafe { libc::splice(from, &mut 0, to, none, 8 * PAGE, 0) };
        assert!(held > 0, "splice: {}", std::io::Error::last_os_error());
        file.set_len(end as u64).expect("truncate");
        model.truncate(end);
        let window = Window::new(&file, LENGTH);
        for at in [0, end / 2, end - 1] {
            assert!(window.store(at, 7), "there is space");
            model[at] = 7;
        }
        if end < LENGTH / 2 {
            // What lies between has become part of the file.
            file.write_all_at(b"behind", (LENGTH / 2) as u64).expect("write");
            model.resize(LENGTH / 2, 0);
            model.extend(b"behind");
        }
        drop(window);
        file.sync_all().expect("fsync");
        let blocks = file.metadata().expect("stat").blocks() / 8;
        let most = model.len().div_ceil(PAGE) as u64;
        assert!((1..=most).contains(&blocks), "{blocks} blocks of {most}");
        drop_caches();
        assert_same(&content(&path), &model, "stored");
        assert!(file.metadata().expect("stat").blocks() / 8 <= most);
        fs::remove_file(&path).expect("remove");
    }
}

fn a_full_disk_says_so_and_recovers(dir: &Path) {
    let mut files = Vec::new();
    let chunk = noise(11, 1 << 20);
    // Most of it is given away, and the rest written.
    let given = create(&dir.join("given"));
    let stat = rustix::fs::fstatvfs(&given).expect("statvfs");
    let most = stat.f_bavail * stat.f_frsize / 4 * 3;
    rustix::fs::fallocate(&given, FallocateFlags::empty(), 0, most).expect("fallocate");
    let full = 'fill: loop {
        let path = dir.join(format!("filler{}", files.len()));
        let mut file = create(&path);
        files.push(path);
        for _ in 0..16 {
            if let Err(error) = file.write_all(&chunk) {
                break 'fill error;
            }
        }
        if let Err(error) = file.sync_all() {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
    // What was written whole is whole.
    for path in files.iter().take(files.len() - 1) {
        let bytes = content(path);
        assert!(bytes.chunks(1 << 20).all(|piece| piece == chunk), "{}", path.display());
    }
    for path in &files {
        fs::remove_file(path).expect("removing needs no space");
    }
    rustix::fs::sync();
    fs::write(dir.join("after"), &chunk).expect("there is space again");
    File::open(dir.join("after")).and_then(|file| file.sync_all()).expect("fsync");
}

fn given_space_takes_writes_on_a_full_disk(dir: &Path) {
    const GIVEN: u64 = 8 << 20;
    rustix::fs::sync();
    let path = dir.join("given");
    let file = create(&path);
    let give =
        |file: &File, length| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, length);
    give(&file, GIVEN).expect("fallocate");
    let blocks = file.metadata().expect("stat").blocks();
    assert_eq!(blocks, GIVEN / 512);
    // All that the file system says it has can be given, and then there is none.
    let rest = create(&dir.join("rest"));
    let stat = rustix::fs::fstatvfs(&rest).expect("statvfs");
    give(&rest, stat.f_bavail * stat.f_frsize).expect("all that is available");
    let error = give(&create(&dir.join("more")), 64 << 20).expect_err("a full disk");
    assert_eq!(error.raw_os_error(), libc::ENOSPC);
    // Through the cache in pieces of blocks, then around it.
    let model = noise(12, GIVEN as usize);
    let half = GIVEN as usize / 2;
    for (at, piece) in model[..half].chunks(1000).enumerate() {
        file.write_all_at(piece, at as u64 * 1000).expect("write into given space");
    }
    assert_eq!(file.metadata().expect("stat").blocks(), blocks, "given space takes no other");
    file.sync_all().expect("fsync");
    file.write_all_at(&model[half..], half as u64).expect("write into given space");
    file.sync_all().expect("fsync");
    assert_eq!(file.metadata().expect("stat").blocks(), blocks);
    drop_caches();
    assert_same(&content(&path), &model, "written into given space");
    fs::remove_file(dir.join("rest")).expect("remove");
    rustix::fs::sync();
    file.write_all_at(b"again", 5000).expect("written space is copied on write");
    file.sync_all().expect("fsync");
}

fn mapped_stores_without_space(dir: &Path) {
    const PAGE: usize = 4096;
    const LENGTH: usize = 64 << 20;
    rustix::fs::sync();
    let byte = File::from(
        rustix::fs::memfd_create("byte", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd_create"),
    );
    byte.write_all_at(&[7], 0).expect("write");
    let path = dir.join("sparse");
    let sparse = create(&path);
    sparse.set_len(LENGTH as u64).expect("truncate");
    let mut model = vec![0; LENGTH];
    let window = Window::new(&sparse, LENGTH);
    assert!(window.store(0, 1), "while there is space");
    let given_path = dir.join("given");
    let given = create(&given_path);
    let give = |file: &File, at, length| {
        rustix::fs::fallocate(file, FallocateFlags::empty(), at, length).is_ok()
    };
    assert!(give(&given, 0, 2 * PAGE as u64));
    let (rest_path, mut length) = (dir.join("rest"), 0);
    let rest = create(&rest_path);
    for piece in [64 << 20, 1 << 20, 64 << 10, 4 << 10] {
        while give(&rest, length, piece) {
            length += piece;
        }
    }
    // What was kept back for something else may still be had, but not for long, and none of it is
    // taken in vain.
    let refused = (1..LENGTH / PAGE).find(|page| {
        let received = window.receive(page * PAGE, &byte);
        model[page * PAGE] = if received { 7 } else { 0 };
        !received
    });
    let hole = refused.expect("a full disk") * PAGE;
    assert!(!window.store(hole, 2) && !window.store(LENGTH - 1, 2), "there is no space");
    model[0] = 1;
    assert!(Window::new(&given, 2 * PAGE).store(PAGE, 4), "given space");
    // What was written back, which the lack of space may have caused, goes elsewhere when it changes; if
    // that is refused, it is said.
    if window.store(1, 3) {
        model[1] = 3;
    }
    sparse.sync_all().and_then(|()| given.sync_all()).expect("fsync");
    if window.store(2, 5) {
        model[2] = 5;
    }
    for from in ["cached", "from the device"] {
        assert_same(&content(&path), &model, from);
        let bytes = content(&given_path);
        assert_eq!((bytes[PAGE], bytes.iter().filter(|byte| **byte != 0).count()), (4, 1));
        sparse.sync_all().expect("fsync");
        drop_caches();
    }
    fs::remove_file(&rest_path).expect("remove");
    drop(rest);
    rustix::fs::sync();
    for (at, value) in [(hole, 8), (LENGTH - 1, 9), (3, 10)] {
        assert!(window.store(at, value), "there is space again");
        model[at] = value;
    }
    sparse.sync_all().expect("fsync");
    drop_caches();
    assert_same(&content(&path), &model, "after there was space again");
}
