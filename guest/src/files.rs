// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The bytes of files: written and read in every way there is.

use crate::Test;
use crate::support::{
    MemoryThatEnds, Numbers, Window, assert_same, content, create, drop_caches, is_user_mode,
    noise, run,
};
use io_uring::{IoUring, opcode, types::Fd};
use rustix::fs::{OFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

pub const TESTS: &[Test] = &[
    ("writes_at_random_are_read_back", writes_at_random_are_read_back),
    ("small_files_survive_the_cache", small_files_survive_the_cache),
    ("mapped_writes_are_the_files", mapped_writes_are_the_files),
    ("writes_from_memory_that_ends_are_short", writes_from_memory_that_ends),
    ("direct_and_cached_io_agree", direct_and_cached_io_agree),
    ("direct_writes_of_what_is_not_in_memory", direct_writes_of_what_is_not_in_memory),
    ("who_cannot_wait_reads_what_is_cached", who_cannot_wait_reads_what_is_cached),
    ("a_queue_of_requests_is_served", a_queue_of_requests_is_served),
    ("bytes_are_written_for_their_control_group", bytes_are_written_for_their_control_group),
    ("cut_and_grown_files_show_zeros", cut_and_grown_files_show_zeros),
    ("a_pipe_is_spliced_in_and_out", a_pipe_is_spliced_in_and_out),
    ("append_goes_to_the_end", append_goes_to_the_end),
    ("a_removed_file_lives_while_open", a_removed_file_lives_while_open),
    ("an_unnamed_file_gets_a_name", an_unnamed_file_gets_a_name),
    ("many_threads_write_one_file", many_threads_write_one_file),
    ("who_holds_a_lease_is_told_of_others", who_holds_a_lease_is_told_of_others),
];

const SIZE: u64 = 3 << 20;

fn writes_at_random_are_read_back(dir: &Path) {
    let path = dir.join("f");
    let mut file = create(&path);
    let mut model = Vec::new();
    let mut numbers = Numbers(7);
    for round in 0..300 {
        let at = numbers.below(SIZE) as usize;
        let bytes = noise(round, numbers.below(70_000) as usize + 1);
        file.seek(std::io::SeekFrom::Start(at as u64)).expect("seek");
        file.write_all(&bytes).expect("write");
        if model.len() < at + bytes.len() {
            model.resize(at + bytes.len(), 0);
        }
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        match round % 60 {
            20 => file.sync_all().expect("fsync"),
            40 => drop_caches(),
            59 => assert_same(&content(&path), &model, "in between"),
            _ => {}
        }
    }
    file.sync_all().expect("fsync");
    drop_caches();
    assert_same(&content(&path), &model, "at the end");
    let blocks = file.metadata().expect("stat").blocks();
    assert!(blocks * 512 <= model.len() as u64 + 4096, "{blocks} sectors");
}

fn small_files_survive_the_cache(dir: &Path) {
    for size in [0, 1, 100, 1023, 1024, 1025, 4095, 4096, 4097, 9000] {
        fs::write(dir.join(size.to_string()), noise(size as u64, size)).expect("write");
    }
    rustix::fs::sync();
    drop_caches();
    for size in [0, 1, 100, 1023, 1024, 1025, 4095, 4096, 4097, 9000] {
        let path = dir.join(size.to_string());
        assert_same(&content(&path), &noise(size as u64, size), "small file");
        // Grown out of the tree, and cut back.
        OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("open")
            .write_all(b"tail")
            .expect("write");
        rustix::fs::sync();
        File::options().write(true).open(&path).expect("open").set_len(size as u64).expect("cut");
        drop_caches();
        assert_same(&content(&path), &noise(size as u64, size), "small file, cut");
    }
}

fn writes_from_memory_that_ends(dir: &Path) {
    const PAGE: usize = 4096;
    const LENGTH: usize = 16 * PAGE;
    let memory = MemoryThatEnds::new(LENGTH);
    let source = noise(31, LENGTH);
    memory.fill(&source);
    let file = create(&dir.join("f"));
    for size in [300, 3 * PAGE + 1000, LENGTH] {
        // Bytes that there are, bytes that are told, and where they go.
        for (there, told, at) in [
            (1000, PAGE, 0),
            (1000, PAGE, PAGE),
            (1000, 8 * PAGE, 0),
            (1000, 3 * PAGE, 100),
            (PAGE + 1000, 2 * PAGE, 0),
            (PAGE + 1000, 2 * PAGE, PAGE),
            (2 * PAGE + 1, 4 * PAGE, 3 * PAGE),
            (PAGE + 4000, 3 * PAGE, PAGE + 96),
            (1000, PAGE, 3 * PAGE),
            (5 * PAGE + 7, 9 * PAGE, 2 * PAGE),
            (1, PAGE, 15 * PAGE),
        ] {
            let what = format!("{there} bytes of {told} at {at}, into {size}");
            let mut model = noise(size as u64, size);
            file.set_len(0).expect("truncate");
            file.write_all_at(&model, 0).expect("write");
            file.sync_all().expect("fsync");
            drop_caches();
            assert_eq!(
                memory.write(&file, there, told, at).expect("a short write"),
                there,
                "{what}"
            );
            model.resize(size.max(at + there), 0);
            model[at..at + there].copy_from_slice(&source[LENGTH - there..]);
            assert_same(&content(&dir.join("f")), &model, &what);
            file.sync_all().expect("fsync");
            drop_caches();
            assert_same(&content(&dir.join("f")), &model, &format!("{what}, from the device"));
        }
    }
    let error = memory.write(&file, 0, PAGE, 0).expect_err("there is nothing");
    assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
}

fn mapped_writes_are_the_files(dir: &Path) {
    let path = dir.join("f");
    let file = create(&path);
    let length = 300_000;
    file.set_len(length as u64).expect("truncate");
    // SAFETY: a new mapping of a file that is not cut while it is mapped.
    let memory = unsafe {
        let start = rustix::mm::mmap(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            &file,
            0,
        )
        .expect("mmap");
        std::slice::from_raw_parts_mut(start.cast::<u8>(), length)
    };
    let wanted = noise(3, length);
    memory.copy_from_slice(&wanted);
    // Seen by read(2) at once, and after a trip to the device.
    assert_same(&content(&path), &wanted, "before msync");
    file.write_all_at(b"written over", 77_777).expect("write");
    assert_eq!(&memory[77_777..77_789], b"written over");
    // SAFETY: the mapping is there until the end of this function.
    unsafe {
        rustix::mm::msync(memory.as_mut_ptr().cast(), length, MsyncFlags::SYNC).expect("msync")
    };
    memory[5] = 0x5a;
    let seen = memory.to_vec();
    // SAFETY: nothing uses the memory from here on.
    unsafe { rustix::mm::munmap(memory.as_mut_ptr().cast(), length).expect("munmap") };
    file.sync_all().expect("fsync");
    drop_caches();
    assert_same(&content(&path), &seen, "after dropping the caches");
}

/// Memory that direct I/O takes: aligned to a page.
fn aligned(length: usize) -> &'static mut [u8] {
    // SAFETY: a new mapping of memory, which nobody else has and which stays until the process ends.
    unsafe {
        let start = rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            length,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
        .expect("memory");
        std::slice::from_raw_parts_mut(start.cast::<u8>(), length)
    }
}

/// A file, read and written around the cache.
fn uncached(path: &Path) -> File {
    let mut how = OpenOptions::new();
    how.read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32);
    how.open(path).expect("O_DIRECT")
}

fn direct_and_cached_io_agree(dir: &Path) {
    let path = dir.join("f");
    let cached = create(&path);
    let direct = uncached(&path);
    let mut model = noise(1, 1 << 20);
    cached.write_all_at(&model, 0).expect("write");
    let buffer = aligned(256 << 10);
    let mut numbers = Numbers(5);
    for round in 0..60u64 {
        let at = numbers.below(240) * 4096;
        let length = (numbers.below(16) as usize + 1) * 4096;
        let bytes = noise(round + 10, length);
        if round % 3 == 0 {
            cached.write_all_at(&bytes, at).expect("write");
        } else {
            buffer[..length].copy_from_slice(&bytes);
            direct.write_all_at(&buffer[..length], at).expect("direct write");
        }
        let end = at as usize + length;
        if model.len() < end {
            model.resize(end, 0);
        }
        model[at as usize..end].copy_from_slice(&bytes);
        let at = numbers.below(240) * 4096;
        let length = (model.len() - at as usize).min(buffer.len());
        let got = direct.read_at(&mut buffer[..length], at).expect("direct read");
        assert_same(&buffer[..got], &model[at as usize..at as usize + length], "direct");
        assert_same(&content(&path), &model, "cached");
    }
    // What is not whole blocks goes through the cache.
    buffer[..1536].copy_from_slice(&noise(99, 1536));
    direct.write_all_at(&buffer[..1536], 512).expect("unaligned");
    model[512..2048].copy_from_slice(&noise(99, 1536));
    drop_caches();
    assert_same(&content(&path), &model, "at the end");
}

/// What a direct write takes its bytes from may have to be read first, from the same file too, and may end.
fn direct_writes_of_what_is_not_in_memory(dir: &Path) {
    const PAGE: usize = 4096;
    const LENGTH: usize = 5 << 19;
    let (path, source) = (dir.join("f"), dir.join("source"));
    let bytes = noise(1, LENGTH);
    fs::write(&source, &bytes).expect("write");
    rustix::fs::sync();
    let from = File::options().read(true).write(true).open(&source).expect("open");
    create(&path).write_all_at(&noise(2, 1000), 0).expect("write");
    let direct = uncached(&path);
    // Another file's, a mapping of which nobody has touched; cached or not.
    for cached in [true, false] {
        drop_caches();
        if cached {
            content(&source);
        }
        let window = Window::new(&from, LENGTH);
        assert_eq!(window.send(0..LENGTH, &direct, 0).expect("write"), LENGTH);
        assert_same(&content(&path), &bytes, "from another file");
        assert_eq!(window.send(0..3 * PAGE, &direct, 7 * PAGE as u64).expect("write"), 3 * PAGE);
    }
    let mut model = bytes;
    model.copy_within(0..3 * PAGE, 7 * PAGE);
    drop_caches();
    assert_same(&content(&path), &model, "from the device");
    // Its own, by pages that the write puts others in place of.
    let own =
        Window::new(&File::options().read(true).write(true).open(&path).expect("open"), LENGTH);
    for (start, length, to) in [(0, LENGTH / 2, LENGTH / 2), (PAGE, 9 * PAGE, 0), (0, PAGE, 0)] {
        drop_caches();
        let sent = own.send(start..start + length, &direct, to as u64).expect("write");
        assert_eq!(sent, length);
        model.copy_within(start..start + length, to);
        assert_same(&content(&path), &model, "from the same file");
    }
    // Whole blocks of what there is, and nothing of the others.
    let memory = MemoryThatEnds::new(600 * PAGE);
    let last = noise(3, 600 * PAGE);
    memory.fill(&last);
    for (there, told) in [
        (PAGE, 2 * PAGE),
        (70 * PAGE, 300 * PAGE),
        (3 * PAGE + 1000, 8 * PAGE),
        (300 * PAGE + 5, 400 * PAGE),
    ] {
        let written = memory.write(&direct, there, told, 0).expect("a short write");
        assert_eq!(written, there / PAGE * PAGE);
        model[..written].copy_from_slice(&last[600 * PAGE - there..][..written]);
        assert_same(&content(&path), &model, &format!("{there} bytes of {told}"));
    }
    for (there, told) in [(1000, PAGE), (0, 3 * PAGE)] {
        let error = memory.write(&direct, there, told, 0).expect_err("not a block is there");
        assert_eq!(error.raw_os_error(), Some(libc::EFAULT));
    }
    drop_caches();
    assert_same(&content(&path), &model, "at the end");
}

fn who_cannot_wait_reads_what_is_cached(dir: &Path) {
    const NO_WAIT: ReadWriteFlags = ReadWriteFlags::NOWAIT;
    let path = dir.join("f");
    let model = noise(1, 1 << 20);
    let (cached, direct) = (create(&path), uncached(&path));
    cached.write_all_at(&model, 0).expect("write");
    let mut bytes = vec![0; model.len()];
    let read = |bytes: &mut [u8], at: usize| {
        rustix::io::preadv2(&cached, &mut [IoSliceMut::new(&mut bytes[at..])], at as u64, NO_WAIT)
    };
    assert_eq!(read(&mut bytes, 0).expect("all of it is there"), model.len());
    assert_same(&bytes, &model, "cached");
    cached.sync_all().expect("fsync");
    drop_caches();
    bytes.fill(0);
    let mut at = 0;
    while at < model.len() {
        match read(&mut bytes, at) {
            Ok(length) => at += length,
            Err(error) => {
                assert_eq!(error, Errno::AGAIN);
                // Whoever can wait has it read.
                cached.read_exact_at(&mut [0], at as u64).expect("read");
            }
        }
    }
    assert_same(&bytes, &model, "from the device");
    let buffer = aligned(4096);
    let slices = &mut [IoSliceMut::new(buffer)];
    assert_eq!(rustix::io::preadv2(&direct, slices, 0, NO_WAIT), Err(Errno::AGAIN));
    let slices = &[IoSlice::new(buffer)];
    assert_eq!(rustix::io::pwritev2(&direct, slices, 0, NO_WAIT), Err(Errno::AGAIN));
    assert_eq!(rustix::io::pwritev2(&cached, slices, 0, NO_WAIT), Err(Errno::OPNOTSUPP));
    assert_same(&content(&path), &model, "nothing was written");
}

fn a_queue_of_requests_is_served(dir: &Path) {
    const PIECES: usize = 16;
    const PIECE: usize = 16 << 10;
    let path = dir.join("f");
    let (cached, direct) = (create(&path), uncached(&path));
    let mut ring = IoUring::new(PIECES as u32).expect("io_uring");
    let buffer = aligned(PIECES * PIECE);
    let mut model = noise(0, PIECES * PIECE);
    cached.write_all_at(&model, 0).expect("write");
    let mut numbers = Numbers(3);
    for round in 1..40 {
        // Some pieces are written and the others are read, all at once.
        let written = numbers.below(1 << PIECES);
        let is_written = |piece: usize| written >> piece & 1 == 1;
        buffer.copy_from_slice(&noise(round, PIECES * PIECE));
        for (piece, bytes) in buffer.chunks_mut(PIECE).enumerate() {
            let file = if numbers.below(2) == 0 { &cached } else { &direct };
            let (file, at) = (Fd(file.as_raw_fd()), (piece * PIECE) as u64);
            let entry = if is_written(piece) {
                model[piece * PIECE..][..PIECE].copy_from_slice(bytes);
                opcode::Write::new(file, bytes.as_ptr(), PIECE as u32).offset(at).build()
            } else {
                bytes.fill(0);
                opcode::Read::new(file, bytes.as_mut_ptr(), PIECE as u32).offset(at).build()
            };
            // SAFETY: file and bytes live until the request has ended, which is waited for below.
            unsafe { ring.submission().push(&entry.user_data(piece as u64)) }.expect("room");
        }
        if round % 8 == 0 {
            drop_caches();
        }
        ring.submit_and_wait(PIECES).expect("submitted");
        let ended: Vec<_> = ring.completion().collect();
        assert_eq!(ended.len(), PIECES);
        assert!(ended.iter().all(|end| end.result() == PIECE as i32), "{ended:?}");
        assert_same(buffer, &model, "what was read beside what was written");
        assert_same(&content(&path), &model, "the file");
    }
}

fn bytes_are_written_for_their_control_group(dir: &Path) {
    const LENGTH: u64 = 4 << 20;
    if !fs::read_to_string("/proc/filesystems").expect("file systems").contains("cgroup2") {
        assert!(is_user_mode(), "there are control groups in every stock kernel");
        return;
    }
    let root = Path::new("/run/groups");
    fs::create_dir_all(root).expect("mkdir");
    run("mount", &["-t", "cgroup2", "none", root.to_str().expect("UTF-8")]);
    let group = root.join("writer");
    let path = dir.join("f");
    fs::write(root.join("cgroup.subtree_control"), "+memory +io").expect("controllers");
    fs::create_dir(&group).expect("mkdir");
    let script = format!(
        "echo $$ >{}/cgroup.procs; dd if=/dev/urandom of={} bs=64k count={} 2>/dev/null",
        group.display(),
        path.display(),
        LENGTH >> 16
    );
    run("sh", &["-c", &script]);
    // By a caller of another group.
    File::open(&path).and_then(|file| file.sync_all()).expect("fsync");
    let told = fs::read_to_string(group.join("io.stat")).expect("io.stat");
    let written: u64 = told
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("wbytes="))
        .map(|bytes| bytes.parse::<u64>().expect("a number"))
        .sum();
    assert!(written >= LENGTH, "{written} of {LENGTH} bytes: {told}");
    fs::remove_file(&path).expect("remove");
    fs::remove_dir(&group).expect("rmdir");
    run("umount", &[root.to_str().expect("UTF-8")]);
}

fn cut_and_grown_files_show_zeros(dir: &Path) {
    let path = dir.join("f");
    let file = create(&path);
    file.write_all_at(&noise(1, 50_000), 0).expect("write");
    for (cut, grown) in [(45_001, 60_000), (20_480, 20_481), (10, 5000), (0, 30_000)] {
        file.set_len(cut).expect("cut");
        file.set_len(grown).expect("grow");
        let mut wanted = noise(1, 50_000);
        wanted.truncate(cut as usize);
        wanted.resize(grown as usize, 0);
        assert_same(&content(&path), &wanted, "cached");
        file.sync_all().expect("fsync");
        drop_caches();
        assert_same(&content(&path), &wanted, "from the device");
    }
    // A write behind the end leaves zeros in between.
    file.set_len(0).expect("cut");
    file.write_all_at(b"x", 3).expect("write");
    file.write_all_at(b"y", 10_000).expect("write");
    let mut wanted = vec![0; 10_001];
    (wanted[3], wanted[10_000]) = (b'x', b'y');
    assert_same(&content(&path), &wanted, "with a hole");
}

fn a_pipe_is_spliced_in_and_out(dir: &Path) {
    let (from, to) = (dir.join("from"), dir.join("to"));
    let bytes = noise(8, 700_000);
    fs::write(&from, &bytes).expect("write");
    let (source, target) = (File::open(&from).expect("open"), create(&to));
    let mut left = bytes.len();
    while left > 0 {
        let sent = rustix::fs::sendfile(&target, &source, None, left).expect("sendfile");
        assert!(sent > 0);
        left -= sent;
    }
    assert_same(&content(&to), &bytes, "sent");
    // By splice(2), half a file to another place in another, and what is in memory by vmsplice(2).
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let target = create(&dir.join("spliced"));
    let half = bytes.len() / 2;
    let (mut read, mut written) = (half as i64, 5000_i64);
    let moved = |result: isize| -> usize {
        assert!(result > 0, "{}", std::io::Error::last_os_error());
        result as usize
    };
    let drain = |written: &mut i64, mut count: usize| {
        while count > 0 {
            // SAFETY: the place is written to while this lasts.
            count -= moved(unsafe {
                let (from, to, none) =
                    (reader.as_raw_fd(), target.as_raw_fd(), std::ptr::null_mut());
                libc::splice(from, none, to, written, count, libc::SPLICE_F_MOVE)
            });
        }
    };
    while (read as usize) < bytes.len() {
        // SAFETY: as above.
        let count = moved(unsafe {
            let (from, to, none) = (source.as_raw_fd(), writer.as_raw_fd(), std::ptr::null_mut());
            libc::splice(from, &mut read, to, none, 50_000, 0)
        });
        drain(&mut written, count);
    }
    assert_eq!(written as usize, 5000 + half);
    let given = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: 30_000 };
    // SAFETY: the bytes are there, and stay as they are, until they are drained.
    let count = moved(unsafe { libc::vmsplice(writer.as_raw_fd(), &given, 1, 0) });
    drain(&mut written, count);
    let wanted = [&[0; 5000], &bytes[half..], &bytes[..count]].concat();
    assert_same(&content(&dir.join("spliced")), &wanted, "spliced");
}

fn append_goes_to_the_end(dir: &Path) {
    let path = dir.join("f");
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let path = &path;
            scope.spawn(move || {
                let mut file =
                    OpenOptions::new().create(true).append(true).open(path).expect("open");
                for _ in 0..200 {
                    file.write_all(&[thread; 61]).expect("append");
                }
            });
        }
    });
    let bytes = content(&path);
    assert_eq!(bytes.len(), 4 * 200 * 61);
    let whole = bytes.chunks(61).all(|record| record.iter().all(|byte| *byte == record[0]));
    assert!(whole, "a record is mixed with another");
}

fn a_removed_file_lives_while_open(dir: &Path) {
    let path = dir.join("f");
    let mut file = create(&path);
    file.write_all(&noise(2, 100_000)).expect("write");
    fs::remove_file(&path).expect("remove");
    file.write_all_at(b"still here", 0).expect("write");
    drop_caches();
    let mut bytes = Vec::new();
    file.rewind().expect("seek");
    file.read_to_end(&mut bytes).expect("read");
    assert_eq!((bytes.len(), &bytes[..10]), (100_000, &b"still here"[..]));
    assert_eq!(file.metadata().expect("stat").nlink(), 0);
}

fn an_unnamed_file_gets_a_name(dir: &Path) {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let open = || rustix::fs::open(dir, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
    let file = File::from(open().expect("O_TMPFILE"));
    file.write_all_at(b"nameless", 0).expect("write");
    assert_eq!(fs::read_dir(dir).expect("list").count(), 0);
    let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, name, rustix::fs::CWD, dir.join("named"), follow)
        .expect("link");
    drop(file);
    drop(open().expect("another, dropped"));
    drop_caches();
    assert_eq!(content(&dir.join("named")), b"nameless");
}

fn many_threads_write_one_file(dir: &Path) {
    let path = dir.join("f");
    let file = create(&path);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let file = &file;
            scope.spawn(move || {
                for piece in 0..64u64 {
                    let bytes = noise(thread * 100 + piece, 8192);
                    file.write_all_at(&bytes, (piece * 4 + thread) * 8192).expect("write");
                    if piece % 16 == 0 {
                        file.sync_data().expect("fdatasync");
                    }
                }
            });
        }
    });
    drop_caches();
    let bytes = content(&path);
    for (number, piece) in bytes.chunks(8192).enumerate() {
        let (piece_number, thread) = (number as u64 / 4, number as u64 % 4);
        assert_same(piece, &noise(thread * 100 + piece_number, 8192), "piece");
    }
    let end = rustix::fs::seek(&file, SeekFrom::End(0)).expect("seek");
    assert_eq!(end, 4 * 64 * 8192);
}

const F_SETSIG: i32 = 10;

/// What `fcntl(2)` says to a command about leases.
fn lease(file: &File, command: i32, argument: i32) -> std::io::Result<i32> {
    // SAFETY: commands of leases and signals take a number and touch no memory of this program.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, argument) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

fn who_holds_a_lease_is_told_of_others(dir: &Path) {
    let path = dir.join("f");
    drop(create(&path));
    let at_once = |writes: bool| {
        let mut options = OpenOptions::new();
        options.read(!writes).write(writes).custom_flags(libc::O_NONBLOCK).open(&path)
    };
    for (kind, others_write) in [(libc::F_WRLCK, false), (libc::F_RDLCK, true)] {
        let holder = at_once(kind == libc::F_WRLCK).expect("opened");
        // A signal that ends no program.
        lease(&holder, F_SETSIG, libc::SIGURG).expect("a signal");
        lease(&holder, libc::F_SETLEASE, kind).expect("a lease");
        assert_eq!(lease(&holder, libc::F_GETLEASE, 0).expect("its kind"), kind);
        let refused = at_once(others_write).expect_err("the lease is to be given back first");
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        assert_ne!(lease(&holder, libc::F_GETLEASE, 0).expect("what is left of it"), kind);
        lease(&holder, libc::F_SETLEASE, libc::F_UNLCK).expect("given back");
        drop(at_once(others_write).expect("opened"));
    }
    // None for reading while somebody writes.
    let writer = at_once(true).expect("opened");
    let reader = at_once(false).expect("opened");
    let refused = lease(&reader, libc::F_SETLEASE, libc::F_RDLCK).expect_err("there is a writer");
    assert_eq!(refused.raw_os_error(), Some(libc::EAGAIN));
    drop(writer);
}
