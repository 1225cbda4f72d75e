// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What sysfs tells of a mounted file system and takes, and the options that its numbers show at work.

use crate::MountTest;
use crate::support::{Mounted, create, drop_caches, noise, place_of, run, where_slow};
use crate::vectors::{DIMENSION, create_collection, put, search, vectors};
use std::fs::{self, File};
use std::io::Error;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const TESTS: &[MountTest] = &[
    ("sysfs_tells_of_it", sysfs_tells_of_it),
    ("sysfs_counts_searches_and_errors", sysfs_counts),
    ("index_memory_is_a_limit", index_memory_is_a_limit),
    ("collections_are_loaded_when_mounted_if_asked_for", preloaded),
    ("the_index_is_built_in_steps_and_pauses", built_in_steps),
    ("a_full_file_system_is_made_read_only_without_its_graphs", full_and_read_only),
    ("the_index_is_built_when_it_is_writable_again", built_when_writable),
];

/// How long is waited for what happens in the background.
const LONG: Duration = Duration::from_secs(30);
/// What happens in the background begins sooner than that.
const SOON: Duration = Duration::from_millis(1500);

/// The directory of the one file system that is mounted.
pub struct Own(PathBuf);

impl Own {
    fn find() -> Option<Self> {
        let mut all =
            fs::read_dir("/sys/fs/vexfs").expect("sysfs").map(|entry| entry.expect("entry"));
        all.find(|entry| entry.file_name() != "features").map(|entry| Self(entry.path()))
    }

    pub fn of_mounted() -> Self {
        Self::find().expect("a directory of its own")
    }

    fn value(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).expect(name).trim().to_owned()
    }

    fn number(&self, name: &str) -> u64 {
        self.value(name).parse().expect(name)
    }

    fn try_set(&self, name: &str, value: &str) -> Result<(), Error> {
        fs::write(self.0.join(name), value)
    }

    pub fn set(&self, name: &str, value: &str) {
        self.try_set(name, value).expect(name);
    }

    /// Waits until a number is as it should be.
    fn wait(&self, name: &str, wanted: impl Fn(u64) -> bool) {
        let started = Instant::now();
        while !wanted(self.number(name)) {
            assert!(started.elapsed() < LONG, "{name} is {}", self.number(name));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn sysfs_tells_of_it(mounted: &Mounted) {
    mounted.mount("");
    let own = Own::of_mounted();
    let generation = own.number("generation");
    fs::write(mounted.directory.join("f"), b"x").expect("write");
    rustix::fs::sync();
    assert!(own.number("generation") > generation);
    assert!(own.number("blocks_free") <= own.number("blocks") && own.number("inodes") == 2);
    own.set("index_paused", "1");
    assert_eq!(own.value("index_state"), "paused");
    own.set("index_paused", "0");
    // What tells of everybody's vectors and searches is for root.
    let all = [
        (0o444, "generation writer_generation blocks blocks_free blocks_available block_bytes"),
        (0o444, "inodes cache_bytes collections errors"),
        (0o400, "vectors vectors_indexed vectors_unindexed index_bytes index_damage index_state"),
        (0o400, "searches search_latency"),
        (0o644, "index_paused index_step_rows"),
    ];
    let mut names: Vec<(String, u32)> = fs::read_dir(&own.0)
        .expect("sysfs")
        .map(|entry| entry.expect("entry"))
        .map(|entry| {
            let mode = entry.metadata().expect("stat").permissions().mode();
            (entry.file_name().into_string().expect("UTF-8"), mode & 0o7777)
        })
        .collect();
    names.sort();
    let mut wanted: Vec<(String, u32)> = all
        .iter()
        .flat_map(|(mode, names)| names.split(' ').map(|name| (name.to_owned(), *mode)))
        .collect();
    wanted.sort();
    assert_eq!(names, wanted);
    let stat = rustix::fs::statvfs(&mounted.directory).expect("statvfs");
    assert_eq!(own.number("blocks_available"), stat.f_bavail);
    assert_eq!((own.number("block_bytes"), own.number("collections")), (stat.f_frsize, 0));
    assert_eq!(own.number("writer_generation"), 1);
    let mut features: Vec<String> = fs::read_dir("/sys/fs/vexfs/features")
        .expect("features")
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            assert_eq!(fs::read_to_string(&path).expect("a feature"), "supported\n");
            path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned()
        })
        .collect();
    features.sort();
    assert_eq!(features, ["data_checksums", "io_uring", "reflink", "vector_search"]);
    mounted.unmount();
    assert!(Own::find().is_none());
}

/// How many searches are counted by how long they took. Each count is of those below a power of two.
fn latencies(own: &Own) -> u64 {
    let text = own.value("search_latency");
    let mut last = 0;
    text.lines()
        .map(|line| {
            let (below, count) = line.split_once(' ').expect("two numbers");
            let (below, count): (u64, u64) =
                (below.parse().expect("nanoseconds"), count.parse().expect("a count"));
            assert!(below.is_power_of_two() && below > last && count > 0, "{text}");
            last = below;
            count
        })
        .sum()
}

fn sysfs_counts(mounted: &Mounted) {
    const SEARCHES: u64 = 25;
    mounted.mount("");
    let own = Own::of_mounted();
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "c");
    let data = vectors(1, 20);
    put(&mounted.directory.join("described"), collection, &data);
    let counts = || (own.number("searches"), latencies(&own));
    assert_eq!(counts(), (0, 0));
    for round in 1..=SEARCHES {
        search(&top, collection, &data[..2 * DIMENSION], 0).expect("search");
        assert_eq!(counts(), (round, round));
    }
    // One that is refused finds nothing and took no time worth counting.
    search(&top, collection + 1, &data[..DIMENSION], 0).expect_err("there is no such collection");
    assert_eq!(counts(), (SEARCHES, SEARCHES));

    let path = mounted.directory.join("f");
    let file = create(&path);
    file.write_all_at(&noise(1, 100_000), 0).and_then(|()| file.sync_all()).expect("write");
    let place = place_of(&file);
    assert_eq!(own.number("errors"), 0);
    drop((top, file));
    mounted.unmount();
    let device = File::options().write(true).open(&mounted.device).expect("open");
    device.write_all_at(&[0x55; 4096], place).and_then(|()| device.sync_all()).expect("damage");
    mounted.mount("errors=continue");
    drop_caches();
    let own = Own::of_mounted();
    let mut before = 0;
    for _ in 0..3 {
        let error = fs::read(&path).expect_err("a damaged block");
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
        let errors = own.number("errors");
        assert!(errors > before, "{errors} errors, {before} before");
        before = errors;
    }
    fs::remove_file(&path).expect("remove");
    mounted.unmount();
}

/// The nearest of some vectors that are stored is each itself.
fn assert_found(top: &File, collection: u32, data: &[u8]) {
    let (found, _) = search(top, collection, data, 0).expect("search");
    for (at, hit) in found.iter().enumerate() {
        assert_eq!(f32::from_bits(hit.distance), 0.0, "query {at} in collection {collection}");
    }
}

fn index_memory_is_a_limit(mounted: &Mounted) {
    const LIMIT: u64 = 1 << 20;
    mounted.mount("index_memory=1M");
    let top = File::open(&mounted.directory).expect("open");
    // One that is larger; some of which each has room, but not all of them.
    let collections: Vec<(u32, Vec<u8>)> = [3000, 150, 150, 150, 150, 150, 150, 150]
        .into_iter()
        .enumerate()
        .map(|(number, count)| {
            let collection = create_collection(&top, &format!("c{number}"));
            let data = vectors(number as u64 + 1, count);
            put(&mounted.directory.join(format!("f{number}")), collection, &data);
            (collection, data[..4 * DIMENSION].to_vec())
        })
        .collect();
    drop(top);
    let stop = AtomicBool::new(false);
    let most = AtomicU64::new(0);
    for round in 0..where_slow(2, 6) {
        let top = File::open(&mounted.directory).expect("open");
        let own = Own::of_mounted();
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let polls = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(own.number("index_bytes"), Ordering::Relaxed);
                }
            });
            let top = &top;
            let work = move |of: &[(u32, Vec<u8>)]| {
                for _ in 0..where_slow(2, 4) {
                    of.iter().for_each(|(collection, data)| assert_found(top, *collection, data));
                }
            };
            // One after another, or all at once.
            let lots = if round % 2 == 0 { collections.len() } else { 1 };
            let threads: Vec<_> =
                collections.chunks(lots).map(|lot| scope.spawn(move || work(lot))).collect();
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            stop.store(true, Ordering::Relaxed);
            polls.join().expect("what polls");
            ended.into_iter().for_each(|result| result.expect("searches"));
        });
        let (most, left) = (most.load(Ordering::Relaxed), own.number("index_bytes"));
        assert!(left > 0, "what has room is in memory");
        assert!(most <= LIMIT, "{most} bytes in round {round}");
        if round < 2 {
            // What is put is in memory until the next search, but not all of it.
            put(&mounted.directory.join("more"), collections[1].0, &vectors(77, 3000));
            let noted = own.number("index_bytes");
            assert!(noted <= LIMIT, "{noted} bytes after puts in round {round}");
        }
        drop(top);
        mounted.unmount();
        mounted.mount("index_memory=1M");
    }
    mounted.unmount();
}

/// Makes a collection with so many vectors.
fn make_collection(mounted: &Mounted, path: &Path, count: usize) -> u32 {
    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "c");
    put(path, collection, &vectors(1, count));
    collection
}

fn preloaded(mounted: &Mounted) {
    mounted.mount("");
    make_collection(mounted, &mounted.directory.join("f"), 1500);
    mounted.unmount();
    mounted.mount("index=lazy");
    std::thread::sleep(SOON);
    assert!(Own::of_mounted().number("index_bytes") < DIMENSION as u64);
    // It can be asked for later, too.
    mounted.remount(0, "index=preload").expect("mounted again");
    Own::of_mounted().wait("index_bytes", |bytes| bytes > 1500 * DIMENSION as u64);
    for options in ["index=preload", "ro,index=preload"] {
        mounted.unmount();
        mounted.mount(options);
        Own::of_mounted().wait("index_bytes", |bytes| bytes > 1500 * DIMENSION as u64);
        assert_eq!(Own::of_mounted().number("searches"), 0);
    }
    mounted.unmount();
}

/// Without space the graphs are not stored, and nothing else is the matter.
fn full_and_read_only(mounted: &Mounted) {
    run("mkfs.vexfs", &["-q", "-f", mounted.device.to_str().expect("UTF-8"), "6M"]);
    mounted.mount("");
    let own = Own::of_mounted();
    own.set("index_paused", "1");
    make_collection(mounted, &mounted.directory.join("f"), 1500);
    let full = mounted.directory.join("full");
    let file = create(&full);
    for (step, bytes) in [65_536, 4096].into_iter().enumerate() {
        let place = |at: u64| 65_536 * 4096 * step as u64 + at * bytes as u64;
        let written = (0..1000).take_while(|at| {
            file.write_all_at(&noise(*at, bytes), place(*at))
                .and_then(|()| file.sync_data())
                .is_ok()
        });
        assert!(written.count() < 1000, "it is never full");
    }
    drop(file);
    own.set("index_paused", "0");
    own.wait("vectors_indexed", |count| count > 0);
    mounted.remount(libc::MS_RDONLY, "").expect("read-only");
    mounted.remount(0, "").expect("writable again");
    fs::remove_file(&full).expect("remove");
    fs::write(mounted.directory.join("room"), noise(1, 100_000)).expect("write");
    mounted.unmount();
    mounted.check();
    mounted.format();
}

/// What was put before is built as soon as it is written to again.
fn built_when_writable(mounted: &Mounted) {
    mounted.mount("");
    let own = Own::of_mounted();
    own.set("index_paused", "1");
    make_collection(mounted, &mounted.directory.join("f"), 1500);
    mounted.remount(libc::MS_RDONLY, "").expect("read-only");
    own.set("index_paused", "0");
    std::thread::sleep(SOON);
    assert_eq!(own.number("vectors_unindexed"), 1500);
    mounted.remount(0, "").expect("writable again");
    own.wait("vectors_indexed", |count| count > 0);
    mounted.unmount();
}

fn built_in_steps(mounted: &Mounted) {
    const VECTORS: u64 = 1500;
    mounted.mount("");
    let own = Own::of_mounted();
    for wrong in ["0", "2000000", "-1", "x", ""] {
        let error =
            own.try_set("index_step_rows", wrong).err().and_then(|error| error.raw_os_error());
        // Writing nothing is not writing.
        assert_eq!(error, (!wrong.is_empty()).then_some(libc::EINVAL), "{wrong:?}");
        assert_eq!(own.value("index_step_rows"), "512");
    }
    own.set("index_step_rows", "64");
    assert_eq!(own.value("index_step_rows"), "64");

    own.set("index_paused", "1");
    make_collection(mounted, &mounted.directory.join("f"), VECTORS as usize);
    let indexed = || own.number("vectors_indexed");
    std::thread::sleep(SOON);
    assert_eq!((indexed(), own.number("vectors")), (0, VECTORS));
    // So slowly that it can be met halfway.
    own.set("index_step_rows", "1");
    own.set("index_paused", "0");
    own.wait("vectors_indexed", |count| count > 0);
    assert_eq!(own.value("index_state"), "building");
    own.set("index_paused", "1");
    std::thread::sleep(Duration::from_millis(300));
    let halfway = indexed();
    std::thread::sleep(SOON);
    assert_eq!(indexed(), halfway, "it is paused");
    assert!(halfway < VECTORS);
    own.set("index_step_rows", "512");
    own.set("index_paused", "0");
    own.wait("vectors_unindexed", |count| count == 0);
    assert_eq!(indexed(), VECTORS);
    mounted.unmount();
}
