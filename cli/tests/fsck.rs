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

/// The block of a leaf of the tree, or of the first data of a file.
fn leaf(tools: &Tools) -> u64 {
    let records = tools.json(0, &["vexfs", "dump", "--nodes", "--json", "a.img"]);
    let is_leaf = |record: &&serde_json::Value| record["record"] == "node" && record["level"] == 0;
    records.iter().find(is_leaf).unwrap()["block"].as_u64().unwrap()
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
    assert!(found.iter().any(|record| record["severity"] == "damage"), "{found:?}");
    let output =
        [tools.run(&["vexfs", "cat", "a.img:/two"]), tools.run(&["vexfs", "cat", "a.img:/d/one"])];
    let failed = output.iter().find(|output| !output.status.success()).unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("damaged") && said.contains("fsck.vexfs"), "{said}");
}

#[test]
fn a_damaged_tree_is_cut_back_by_y_to_what_can_be_read() {
    let tools = with_files();
    damage(&tools, leaf(&tools) * 4096 + 200);
    assert_eq!(tools.run(&["fsck.vexfs", "-n", "a.img"]).status.code(), Some(4));
    let said = tools.run(&["fsck.vexfs", "-y", "a.img"]);
    assert!(matches!(said.status.code(), Some(1 | 4)), "{said:?}");
    let after = tools.run(&["fsck.vexfs", "-n", "a.img"]);
    assert_eq!(after.status.code().map(|code| code == 0), said.status.code().map(|code| code == 1));
    tools.ok(&["vexfs", "mkdir", "a.img:/after"]);
}

#[test]
fn all_superblocks_lost_is_beyond_the_check() {
    let tools = with_files();
    let (first, second) = (64 << 10, 128 << 10);
    for offset in [first, second, SIZE - first, SIZE - second] {
        damage(&tools, offset + 100);
    }
    let output = tools.run(&["fsck.vexfs", "-n", "a.img"]);
    assert!(matches!(output.status.code(), Some(4 | 8)), "{output:?}");
    let text = [output.stdout, output.stderr].concat();
    assert!(String::from_utf8(text).unwrap().contains("superblock"));
    let output = tools.run(&["fsck.vexfs", "-y", "a.img"]);
    assert!(matches!(output.status.code(), Some(4 | 8)), "{output:?}");
}

#[test]
fn what_cannot_be_checked_has_exit_code_8_and_nonsense_16() {
    let tools = with_files();
    std::fs::write(tools.path("text"), "no image".repeat(100_000)).unwrap();
    assert!(tools.fails(8, &["fsck.vexfs", "-n", "missing"]).contains("missing: No such file"));
    assert!(tools.fails(8, &["fsck.vexfs", "-n", "text"]).contains("not a VexFS"));
    tools.fails(16, &["fsck.vexfs"]);
    tools.fails(16, &["fsck.vexfs", "-n", "-y", "a.img"]);
    tools.fails(16, &["fsck.vexfs", "--nonsense", "a.img"]);
    // Cut in the middle: the front copies of the superblock are there, the rest is not.
    std::fs::File::options()
        .write(true)
        .open(tools.path("a.img"))
        .unwrap()
        .set_len(SIZE / 2)
        .unwrap();
    let output = tools.run(&["fsck.vexfs", "-n", "a.img"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}
