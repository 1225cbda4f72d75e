// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the module and an idle file system hold of the kernel's memory.

use crate::MountTest;
use crate::support::{Mounted, drop_caches, run};
use std::fs;

pub const TESTS: &[MountTest] =
    &[("module_and_idle_mount_hold_less_than_a_mebibyte", module_and_idle_mount)];

const LIMIT: u64 = 1 << 20;
/// So many file systems are mounted at once: what one takes would hide in room that slabs have.
const MANY: u64 = 8;

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// Bytes of slabs and of larger pieces of the heap, of vmalloc areas, which stacks of threads are too, and of
/// data of each processor.
fn held() -> u64 {
    const PARTS: [&str; 3] = ["Slab:", "VmallocUsed:", "Percpu:"];
    fs::read_to_string("/proc/meminfo")
        .expect("meminfo")
        .lines()
        .filter(|line| PARTS.iter().any(|part| line.starts_with(part)))
        .map(|line| number(line.split_whitespace().nth(1).expect("a number")) << 10)
        .sum()
}

fn module_and_idle_mount(mounted: &Mounted) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    if release.contains("debug") {
        println!("  not measured: the instrumented code of this kernel is several times larger");
        return;
    }
    let code = number(&fs::read_to_string("/sys/module/vexfs/coresize").expect("loaded"));
    run("rmmod", &["vexfs"]);
    drop_caches();
    let before = held();
    run("insmod", &["/lib/vexfs.ko"]);
    drop_caches();
    let module = held().saturating_sub(before).max(code);
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
    drop_caches();
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
