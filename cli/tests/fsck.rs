// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! fsck.vexfs on whole and on damaged images: what it says, what it changes, and its exit codes.

mod tools;

use std::os::unix::fs::FileExt;
use tools::Tools;

const SIZE: u64 = 16 << 20;

fn with_files() -> Tools {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("f"), vec![3; 300_000]).unwrap();
    tools.ok(&["vexfs", "mkdir", "a.img:/d"]);
    tools.ok(&["vexfs", "cp", "f", "a.img:/d/one"]);
    tools.ok(&["vexfs", "cp", "f", "a.img:/two"]);
    tools
}

fn damage(tools: &Tools, offset: u64) {
    let file = std::fs::File::options().read(true).write(true).open(tools.path("a.img")).unwrap();
    let mut bytes = [0; 64];
    file.read_exact_at(&mut bytes, offset).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.write_all_at(&bytes, offset).unwrap();
}

/// The block of the last leaf of the tree, which holds the newest inodes.
fn leaf(tools: &Tools) -> u64 {
    let records = tools.json(0, &["vexfs", "dump", "--nodes", "--json", "a.img"]);
    let is_leaf = |record: &&serde_json::Value| record["record"] == "node" && record["level"] == 0;
    records.iter().rfind(is_leaf).unwrap()["block"].as_u64().unwrap()
}

#[test]
fn a_whole_image_is_clean_whatever_is_asked() {
    let tools = with_files();
    let before = std::fs::read(tools.path("a.img")).unwrap();
    for options in [vec!["-n"], vec!["-p"], vec!["-a", "-f"], vec!["-y"], vec!["-fn"], vec![]] {
        let words: Vec<&str> = ["fsck.vexfs"].into_iter().chain(options).chain(["a.img"]).collect();
        assert!(tools.ok(&words).contains("a.img: clean"), "{words:?}");
    }
    assert!(std::fs::read(tools.path("a.img")).unwrap() == before, "a clean image was written to");
    let summary = &tools.json(0, &["fsck.vexfs", "-n", "--json", "a.img"])[0];
    assert_eq!((&summary["clean"], &summary["files"]), (&true.into(), &2.into()));
    assert!(tools.ok(&["fsck.vexfs", "-nv", "a.img"]).contains("tree nodes"));
    let progress = tools.run(&["fsck.vexfs", "-n", "-C", "a.img"]);
    assert!(String::from_utf8(progress.stderr).unwrap().contains("tree: 100%"));
    // As fsck(8) calls it.
    let progress = tools.run(&["fsck.vexfs", "-a", "-C0", "a.img"]);
    assert_eq!(progress.status.code(), Some(0));
    tools.ok(&["vexfs", "fsck", "-n", "a.img"]);
}

#[test]
fn a_damaged_superblock_copy_is_told_by_n_and_made_anew_by_p() {
    let tools = with_files();
    damage(&tools, SIZE - (64 << 10));
    let before = std::fs::read(tools.path("a.img")).unwrap();
    let found = tools.json(4, &["fsck.vexfs", "-n", "--json", "a.img"]);
    assert_eq!(found[0]["code"], "superblock-damaged");
    assert!(std::fs::read(tools.path("a.img")).unwrap() == before, "-n wrote");
    let said = tools.run(&["fsck.vexfs", "-p", "a.img"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(tools.ok(&["fsck.vexfs", "-n", "a.img"]).contains("clean"));
}

#[test]
fn damaged_data_is_named_and_not_hidden() {
    let tools = with_files();
    let bytes = std::fs::read(tools.path("a.img")).unwrap();
    let data = bytes.chunks(4096).position(|block| block == [3; 4096]).unwrap() as u64 * 4096;
    damage(&tools, data);
    let found = tools.json(4, &["fsck.vexfs", "-n", "--json", "a.img"]);
    let record = &found[0];
    let path = record["path"].as_str().unwrap();
    assert!(["/d/one", "/two"].contains(&path), "{record}");
    assert_eq!((&record["code"], &record["kind"]), (&"data-checksum".into(), &"extent".into()));
    let damage = format!("damage: a data block is not what was written, {path}, block ");
    for (options, code) in [("-n", 4), ("-pf", 4), ("-y", 4)] {
        let output = tools.run(&["fsck.vexfs", options, "a.img"]);
        assert_eq!(output.status.code(), Some(code), "{options}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&damage) && said.contains(", extent item"), "{options}: {said}");
        assert!(said.contains("\n  Restore this file from a copy, or remove it"), "{said}");
        assert!(said.contains("a.img: 1 finding (1 of damage, 1 beyond repair)"), "{said}");
        assert_eq!(said.contains("run fsck.vexfs -n"), options == "-pf", "{said}");
    }
    let output =
        [tools.run(&["vexfs", "cat", "a.img:/two"]), tools.run(&["vexfs", "cat", "a.img:/d/one"])];
    let failed = output.iter().find(|output| !output.status.success()).unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("damaged") && said.contains("fsck.vexfs"), "{said}");
}

#[test]
fn a_damaged_tree_is_left_alone_by_p_and_cut_back_by_y_to_what_can_be_read() {
    let tools = with_files();
    std::fs::create_dir(tools.path("many")).unwrap();
    let name = |number: u32| format!("many/file {number}");
    for number in 0..200 {
        std::fs::write(tools.path(name(number)), name(number).repeat(5)).unwrap();
    }
    tools.ok(&["vexfs", "cp", "-r", "many", "a.img:/many"]);
    damage(&tools, leaf(&tools) * 4096 + 200);
    let image = || std::fs::read(tools.path("a.img")).unwrap();
    let before = image();
    let found = tools.json(4, &["fsck.vexfs", "-n", "--json", "a.img"]);
    assert_eq!(
        (&found[0]["code"], &found[0]["severity"]),
        (&"node-checksum".into(), &"damage".into())
    );
    for options in ["-p", "-a"] {
        let output = tools.run(&["fsck.vexfs", options, "a.img"]);
        assert_eq!(output.status.code(), Some(4), "{options}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("fsck.vexfs -y to put right"), "{options}: {said}");
        assert!(image() == before, "{options} wrote to a damaged image");
    }
    let output = tools.run(&["fsck.vexfs", "-y", "a.img"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("is kept without its damaged tree nodes, 1 in number"), "{said}");
    let (kept, _) = said.split_once(" of 205 inodes").unwrap();
    let kept: usize = kept.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((140..205).contains(&kept), "{said}");
    assert!(tools.ok(&["fsck.vexfs", "-n", "a.img"]).contains("clean"));
    // What is left reads as it was written; of one file the inode may be left and not the bytes.
    std::fs::rename(tools.path("many"), tools.path("original")).unwrap();
    tools.ok(&["vexfs", "cp", "-r", "a.img:/many", "many"]);
    let there = (0..200).filter(|number| tools.path(name(*number)).exists());
    let same = |number: &u32| {
        let bytes = std::fs::read(tools.path(name(*number))).unwrap();
        bytes == name(*number).repeat(5).as_bytes()
    };
    assert_eq!(there.clone().count(), kept - 5, "{said}");
    assert!(there.filter(same).count() + 1 >= kept - 5, "{said}");
    tools.ok(&["vexfs", "mkdir", "a.img:/after"]);
}

#[test]
fn a_state_that_is_lost_with_both_its_superblocks_is_damage_and_not_hidden() {
    let tools = with_files();
    let copies = tools.json(0, &["fsck.vexfs", "-n", "--json", "a.img"]);
    let even = copies[0]["state"].as_u64().unwrap().is_multiple_of(2);
    let offset = if even { 64 << 10 } else { 128 << 10 };
    for offset in [offset, SIZE - offset] {
        damage(&tools, offset + 300);
    }
    let before = std::fs::read(tools.path("a.img")).unwrap();
    let found = tools.json(4, &["fsck.vexfs", "-n", "--json", "a.img"]);
    assert!(found.iter().any(|record| record["code"] == "state-lost"), "{found:?}");
    let output = tools.run(&["fsck.vexfs", "-p", "a.img"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(std::fs::read(tools.path("a.img")).unwrap() == before, "-p wrote");
    assert_eq!(tools.run(&["fsck.vexfs", "-y", "a.img"]).status.code(), Some(1));
    assert!(tools.ok(&["fsck.vexfs", "-n", "a.img"]).contains("clean"));
}

#[test]
fn all_superblocks_lost_is_beyond_the_check() {
    let tools = with_files();
    let (first, second) = (64 << 10, 128 << 10);
    for offset in [first, second, SIZE - first, SIZE - second] {
        damage(&tools, offset + 100);
    }
    for options in ["-n", "-p", "-y"] {
        let output = tools.run(&["fsck.vexfs", options, "a.img"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("none of the four copies of the superblock is whole"), "{said}");
        assert!(said.contains("1 finding (1 of damage, 1 beyond repair)"), "{said}");
        assert!(!said.contains("mkfs"), "{said}");
    }
}

#[test]
fn an_image_cut_short_lacks_bytes_and_no_copies() {
    let tools = with_files();
    let file = std::fs::File::options().write(true).open(tools.path("a.img")).unwrap();
    file.set_len(SIZE / 2).unwrap();
    for options in ["-n", "-p", "-y"] {
        let output = tools.run(&["fsck.vexfs", options, "a.img"]);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(said.contains("(8388608 bytes of 16777216, 8388608 are missing)"), "{said}");
        assert!(said.contains("Bring the missing bytes back"), "{said}");
        assert!(said.contains("1 finding (1 of damage, 1 beyond repair)"), "{said}");
        assert!(!said.contains("mkfs"), "{said}");
    }
}

#[test]
fn what_cannot_be_checked_has_exit_code_8_and_nonsense_16() {
    let tools = with_files();
    std::fs::write(tools.path("text"), "no image".repeat(100_000)).unwrap();
    assert!(tools.fails(8, &["fsck.vexfs", "-n", "missing"]).contains("missing: No such file"));
    let said = tools.fails(8, &["fsck.vexfs", "-n", "text"]);
    assert!(said.contains("text: not a VexFS file system") && !said.contains("mkfs"), "{said}");
    tools.fails(16, &["fsck.vexfs"]);
    tools.fails(16, &["fsck.vexfs", "-n", "-y", "a.img"]);
    tools.fails(16, &["fsck.vexfs", "--nonsense", "a.img"]);
}
