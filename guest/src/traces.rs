// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The tracepoints, as tracefs tells of them.

use crate::MountTest;
use crate::support::{Mounted, create, drop_caches, noise, place_of};
use crate::vectors::{DIMENSION, command, create_collection, put, search, vectors};
use rustix::fs::FallocateFlags;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use vexfs_uapi as uapi;
use vexfs_uapi::Command;

pub const TESTS: &[MountTest] = &[("tracepoints_tell_what_happens", tracepoints_tell_what_happens)];

/// Where tracefs is, mounted if need be; nothing when the kernel has none.
fn tracing() -> Option<PathBuf> {
    let place = Path::new("/sys/kernel/tracing");
    if !place.join("trace").exists() {
        // SAFETY: all are strings that live through the call.
        unsafe {
            let (name, at) = (c"tracefs".as_ptr(), c"/sys/kernel/tracing".as_ptr());
            libc::mount(name, at, name, 0, std::ptr::null());
        }
    }
    place.join("events/vexfs/enable").exists().then(|| place.to_owned())
}

/// The first event of this name in the trace, and the number behind a word of it.
fn number(trace: &str, event: &str, word: &str) -> u64 {
    let line = trace.lines().find(|line| line.contains(&format!(" {event}: ")));
    let line = line.unwrap_or_else(|| panic!("no {event} in\n{trace}"));
    let mut words = line.split_whitespace().skip_while(|found| *found != word);
    let value = words.nth(1).unwrap_or_else(|| panic!("no {word} in {line}"));
    value.parse().unwrap_or_else(|_| panic!("{word} in {line}"))
}

fn tracepoints_tell_what_happens(mounted: &Mounted) {
    let Some(tracing) = tracing() else {
        println!("        skipped: this kernel has no tracefs");
        return;
    };
    let set = |name: &str, value: &str| fs::write(tracing.join(name), value).expect(name);
    let trace = || fs::read_to_string(tracing.join("trace")).expect("trace");
    set("trace", "");
    set("events/vexfs/enable", "1");

    mounted.mount("errors=continue,commit=3600");
    let path = mounted.directory.join("f");
    let file = create(&path);
    file.write_all_at(&noise(1, 100_000), 0).expect("write");
    file.sync_all().expect("fsync");
    let told = trace();
    assert!(number(&told, "vexfs_commit", "generation") > 1);
    assert!(number(&told, "vexfs_commit", "blocks") > 0);
    assert_eq!(number(&told, "vexfs_allocate", "blocks"), 25);
    assert_eq!(number(&told, "vexfs_allocate", "in_place"), 0);

    rustix::fs::fallocate(&file, FallocateFlags::empty(), 200_000, 50_000).expect("fallocate");
    let told = trace();
    assert_eq!(number(&told, "vexfs_preallocate", "offset"), 200_000);
    assert_eq!(number(&told, "vexfs_preallocate", "length"), 50_000);

    let top = File::open(&mounted.directory).expect("open");
    let collection = create_collection(&top, "some");
    let data = vectors(1, 1000);
    put(&mounted.directory.join("g"), collection, &data);
    let mut maintain = uapi::CollectionMaintain::new();
    maintain.number = collection;
    command(&top, &mut maintain).expect("maintain");
    drop((file, top));
    mounted.unmount();
    mounted.mount("errors=continue,commit=3600");
    let top = File::open(&mounted.directory).expect("open");
    search(&top, collection, &data[..2 * DIMENSION], 0).expect("search");
    let told = trace();
    for event in ["vexfs_index_build", "vexfs_index_load", "vexfs_search"] {
        assert_eq!(number(&told, event, "collection"), u64::from(collection));
    }
    assert_eq!(number(&told, "vexfs_index_load", "vectors"), 1000);
    let search_hits = number(&told, "vexfs_search", "hits");
    assert_eq!((search_hits, number(&told, "vexfs_search", "k")), (2, 1));
    assert!(number(&told, "vexfs_search", "examined") > 2);

    // A block that is not what was written.
    let place = place_of(&File::open(&path).expect("open"));
    drop(top);
    mounted.unmount();
    let device = File::options().write(true).open(&mounted.device).expect("open");
    device.write_all_at(&[0x55; 4096], place).expect("damage");
    device.sync_all().expect("fsync");
    mounted.mount("errors=continue,commit=3600");
    drop_caches();
    assert!(fs::read(&path).is_err(), "a damaged block was read");
    let told = trace();
    let line = told.lines().find(|line| line.contains(" vexfs_error: ")).expect("vexfs_error");
    assert!(line.ends_with("error -74"), "{line}");

    // Off again, they say nothing.
    set("events/vexfs/enable", "0");
    set("trace", "");
    fs::remove_file(&path).expect("remove");
    rustix::fs::sync();
    assert!(!trace().contains("vexfs_"), "{}", trace());
    mounted.unmount();
}
