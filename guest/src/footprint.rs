// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the module and an idle file system hold of the kernel's memory.

use crate::MountTest;
use crate::support::{Mounted, drop_caches, run};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

pub const TESTS: &[MountTest] =
    &[("module_and_idle_mount_hold_less_than_a_mebibyte", module_and_idle_mount)];

const LIMIT: u64 = 1 << 20;
/// So many file systems are mounted at once: what one takes would hide in room that slabs have.
const MANY: u64 = 8;

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// The least of some looks: what was freed a moment ago, stacks of programs that ended above all, counts until
/// every processor has seen that it was.
fn held() -> u64 {
    let (mut least, mut since) = (u64::MAX, 0);
    while since < 3 {
        let now = counted();
        since = if now < least { 0 } else { since + 1 };
        least = least.min(now);
        sleep(Duration::from_millis(50));
    }
    least
}

/// Bytes of objects in slabs, of larger pieces of the heap, of vmalloc areas, which stacks of threads are too,
/// and of data of each processor.
fn counted() -> u64 {
    drop_caches();
    // Processors give back the slabs that they keep for themselves, so that objects can be counted.
    for cache in fs::read_dir("/sys/kernel/slab").expect("caches") {
        let _ = fs::write(cache.expect("a cache").path().join("shrink"), "1");
    }
    let (mut objects, mut slabs) = (0, 0);
    for line in fs::read_to_string("/proc/slabinfo").expect("slabinfo").lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        objects += number(fields[1]) * number(fields[3]);
        slabs += number(fields[14]) * number(fields[5]) * 4096;
    }
    let memory = fs::read_to_string("/proc/meminfo").expect("meminfo");
    let part = |name: &str| {
        let line = memory.lines().find(|line| line.starts_with(name)).expect(name);
        number(line.split_whitespace().nth(1).expect("a number")) << 10
    };
    let larger = part("Slab:").saturating_sub(slabs);
    objects + larger + part("VmallocUsed:") + part("Percpu:")
}

fn module_and_idle_mount(mounted: &Mounted) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    if release.contains("debug") {
        println!("  not measured: the instrumented code of this kernel is several times larger");
        return;
    }
    let code = number(&fs::read_to_string("/sys/module/vexfs/coresize").expect("loaded"));
    // Something of other file systems comes or goes meanwhile; the middle of some tries is near the truth.
    let mut loaded: Vec<u64> = (0..3)
        .map(|_| {
            run("rmmod", &["vexfs"]);
            let before = held();
            run("insmod", &["/lib/vexfs.ko"]);
            held().saturating_sub(before)
        })
        .collect();
    loaded.sort_unstable();
    let module = loaded[1].max(code);
    let _ = std::process::Command::new("modprobe").arg("loop").status();
    let places: Vec<_> = (0..MANY)
        .map(|number| {
            let directory = mounted.directory.with_extension(format!("idle{number}"));
            let image = format!("/tmp/idle{number}");
            fs::create_dir_all(&directory).expect("mkdir");
            run("mkfs.vexfs", &["-q", &image, "1G"]);
            let device = run("losetup", &["-f"]).trim().to_owned();
            run("losetup", &[&device, &image]);
            (image, device, directory.to_str().expect("UTF-8").to_owned())
        })
        .collect();
    // What the first mount brings of the kernel's own is there afterwards.
    mounted.mount("");
    mounted.unmount();
    let before = held();
    for (_, device, directory) in &places {
        run("mount", &["-t", "vexfs", device, directory]);
    }
    let mount = held().saturating_sub(before) / MANY;
    for (image, device, directory) in &places {
        run("umount", &[directory]);
        run("losetup", &["-d", device]);
        fs::remove_file(image).expect("remove");
    }
    println!("  module {module} bytes ({code} of code and data), mount {mount} bytes");
    assert!(module + mount < LIMIT, "module {module} and mount {mount} bytes");
}
