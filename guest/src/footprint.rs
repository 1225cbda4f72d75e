// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the module and an idle file system hold of the kernel's memory.

use crate::MountTest;
use crate::support::{Mounted, drop_caches};
use std::fs;

pub const TESTS: &[MountTest] =
    &[("module_and_idle_mount_hold_less_than_a_mebibyte", module_and_idle_mount)];

const LIMIT: u64 = 1 << 20;

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

/// Bytes of all slabs, of vmalloc areas and of data of each processor.
fn held() -> u64 {
    drop_caches();
    let slabs: u64 = fs::read_to_string("/proc/slabinfo")
        .expect("slabinfo")
        .lines()
        .skip(2)
        .map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            number(fields[2]) * number(fields[3])
        })
        .sum();
    let rest: u64 = fs::read_to_string("/proc/meminfo")
        .expect("meminfo")
        .lines()
        .filter(|line| line.starts_with("VmallocUsed:") || line.starts_with("Percpu:"))
        .map(|line| number(line.split_whitespace().nth(1).expect("a number")) << 10)
        .sum();
    slabs + rest
}

fn module_and_idle_mount(mounted: &Mounted) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    if release.contains("debug") {
        println!("  not measured: the instrumented code of this kernel is several times larger");
        return;
    }
    let module = number(&fs::read_to_string("/sys/module/vexfs/coresize").expect("loaded"));
    // What the first mount brings of the kernel's own is there afterwards.
    mounted.mount("");
    mounted.unmount();
    let before = held();
    mounted.mount("");
    let mount = held().saturating_sub(before);
    mounted.unmount();
    println!("  module {module} bytes, mount {mount} bytes");
    assert!(module + mount < LIMIT, "module {module} and mount {mount} bytes");
}
