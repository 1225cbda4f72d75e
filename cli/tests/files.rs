// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! mkfs.vexfs and the commands on files, as a user runs them.

mod tools;

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use tools::Tools;

const MIB: u64 = 1 << 20;

#[test]
fn an_image_is_made_of_the_size_and_identity_asked_for() {
    let tools = Tools::new();
    let uuid = "0f8fad5b-d9cb-469f-a165-70867728950e";
    let made = tools.ok(&["mkfs.vexfs", "-L", "my files", "-U", uuid, "-b", "8K", "a.img", "32M"]);
    assert!(made.contains("my files") && made.contains(uuid) && made.contains("4096 blocks"));
    assert_eq!(std::fs::metadata(tools.path("a.img")).unwrap().len(), 32 * MIB);
    let info = &tools.json(0, &["vexfs", "info", "--json", "a.img"])[0];
    assert_eq!(info["uuid"], uuid);
    assert_eq!(info["label"], "my files");
    assert_eq!(info["block_bytes"], 8192);
    // The same command by another name, quietly, on a new file.
    assert_eq!(tools.ok(&["vexfs", "mkfs", "-q", "b.img", "2MiB"]), "");
    let other = &tools.json(0, &["vexfs", "info", "--json", "b.img"])[0];
    assert_ne!(other["uuid"], uuid);
}

#[test]
fn what_holds_something_is_refused_without_force_and_left_as_it_is() {
    let tools = Tools::with_image("4M");
    let mut ext4 = vec![0; 4 << 20];
    ext4[0x438..0x43a].copy_from_slice(b"\x53\xef");
    std::fs::write(tools.path("ext4.img"), &ext4).unwrap();
    std::fs::write(tools.path("thesis.txt"), "years of work").unwrap();
    // Zeros for long, as a disk image may have before its first partition.
    let late = [vec![0; 5 << 20], b"years of work".to_vec()].concat();
    std::fs::write(tools.path("late.img"), late).unwrap();
    for (name, what) in [
        ("a.img", "holds VexFS"),
        ("ext4.img", "holds ext2, ext3 or ext4"),
        ("thesis.txt", "holds data"),
        ("late.img", "holds data"),
    ] {
        let before = std::fs::read(tools.path(name)).unwrap();
        let said = tools.fails(1, &["mkfs.vexfs", name, "8M"]);
        assert!(said.contains(name) && said.contains(what) && said.contains("-f"), "{said}");
        assert!(std::fs::read(tools.path(name)).unwrap() == before, "{name} was changed");
    }
    tools.ok(&["mkfs.vexfs", "-f", "-q", "ext4.img", "8M"]);
    assert_eq!(std::fs::metadata(tools.path("ext4.img")).unwrap().len(), 8 * MIB);
    let mut mark = [0; 2];
    let mut file = std::fs::File::open(tools.path("ext4.img")).unwrap();
    file.seek(SeekFrom::Start(0x438)).unwrap();
    file.read_exact(&mut mark).unwrap();
    assert_eq!(mark, [0, 0], "the mark of the old file system is still there");
    // An empty file that is there is no obstacle.
    std::fs::File::create(tools.path("sparse.img")).unwrap().set_len(4 * MIB).unwrap();
    tools.ok(&["mkfs.vexfs", "-q", "sparse.img"]);
}

#[test]
fn what_holds_something_is_overwritten_when_standard_input_says_yes() {
    let tools = Tools::with_image("4M");
    let before = std::fs::read(tools.path("a.img")).unwrap();
    let answered = |answer: &str| {
        let mut command = tools.command(&["mkfs.vexfs", "-q", "a.img"]);
        let pipes = (Stdio::piped(), Stdio::piped());
        let mut child = command.stdin(pipes.0).stderr(pipes.1).spawn().unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("a.img: holds VexFS") && said.contains("[y/N]"), "{said}");
        output.status.code().unwrap()
    };
    for no in ["", "\n", "n\n", "what\ny\n"] {
        assert_eq!(answered(no), 1, "{no:?}");
        assert!(std::fs::read(tools.path("a.img")).unwrap() == before, "{no:?} changed it");
    }
    let uuid =
        |tools: &Tools| tools.json(0, &["vexfs", "info", "--json", "a.img"])[0]["uuid"].clone();
    let mut known = vec![uuid(&tools)];
    for yes in ["y\n", "Y", "y\ny\ny\n"] {
        assert_eq!(answered(yes), 0, "{yes:?}");
        let new = uuid(&tools);
        assert!(!known.contains(&new), "{yes:?} did nothing");
        known.push(new);
    }
}

#[test]
fn a_question_that_nobody_sees_is_not_asked() {
    let tools = Tools::with_image("4M");
    let before = std::fs::read(tools.path("a.img")).unwrap();
    // At a terminal, with standard error somewhere else: without an answer it must end.
    let mut child = Command::new("timeout")
        .args(["60", "script", "-qec", "./mkfs.vexfs -q a.img 2>said", "/dev/null"])
        .current_dir(tools.path("."))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let open = child.stdin.take();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    drop(open);
    let said = std::fs::read_to_string(tools.path("said")).unwrap();
    assert!(said.contains("holds VexFS") && !said.contains("[y/N]"), "{said}");
    assert!(std::fs::read(tools.path("a.img")).unwrap() == before);
}

#[test]
fn a_dry_run_changes_nothing() {
    let tools = Tools::with_image("4M");
    let said = tools.ok(&["mkfs.vexfs", "-n", "new.img", "64M"]);
    assert!(said.contains("would be made") && !tools.path("new.img").exists(), "{said}");
    let before = std::fs::read(tools.path("a.img")).unwrap();
    assert!(tools.fails(1, &["mkfs.vexfs", "-n", "a.img", "64M"]).contains("holds VexFS"));
    let said = tools.fails(1, &["mkfs.vexfs", "-n", "missing/new.img", "64M"]);
    assert!(said.contains("missing/new.img: No such file"), "{said}");
    let said = tools.ok(&["mkfs.vexfs", "-n", "-f", "a.img", "64M"]);
    assert!(said.contains("would be grown and overwritten"), "{said}");
    assert!(std::fs::read(tools.path("a.img")).unwrap() == before);
}

#[test]
fn sizes_that_cannot_be_are_refused_with_the_limit() {
    let tools = Tools::new();
    std::fs::write(tools.path("there.img"), "").unwrap();
    for name in ["new.img", "there.img"] {
        for (block, size, words) in [
            (
                "4K",
                "9000000T",
                "blocks of 4.0 KiB, which has at most 1152921504606846976 (1.0 EiB)",
            ),
            ("4K", "1025P", "(1.0 EiB)"),
            ("64K", "9000000T", "(8.0 EiB)"),
            ("4K", "1024P", "more than a file can have where it lies"),
        ] {
            for dry in [&["-n"][..], &[]] {
                let words_of = [&["mkfs.vexfs", "-b", block], dry, &[name, size]].concat();
                let output = tools.run(&words_of);
                let said = String::from_utf8(output.stderr).unwrap();
                // There are file systems with files of that many bytes.
                if size == "1024P" && output.status.success() {
                    break;
                }
                assert_eq!(output.status.code(), Some(1), "{words_of:?}: {said}");
                assert!(said.contains(words) && said.lines().count() == 1, "{said}");
            }
        }
    }
    assert!(!tools.path("new.img").exists());
    assert_eq!(std::fs::metadata(tools.path("there.img")).unwrap().len(), 0);
}

#[test]
fn mkfs_says_what_it_cannot_do() {
    let tools = Tools::with_image("4M");
    for (words, code, said) in [
        (vec!["new.img"], 1, "Give a SIZE"),
        (vec!["-f", "a.img", "2M"], 1, "cannot be given 2.0 MiB"),
        (vec!["new.img", "100K"], 1, "too small"),
        (vec!["-b", "64K", "new.img", "8M"], 1, "needs 16.0 MiB"),
        (vec!["-b", "5000", "new.img", "8M"], 2, "a block has"),
        (vec!["new.img", "8X"], 2, "is no size"),
        (vec!["new.img", "8M", "more"], 2, "unexpected argument"),
        (vec!["-U", "nonsense", "new.img", "8M"], 2, "uuidgen"),
        (vec!["-L", &"x".repeat(65), "new.img", "8M"], 2, "at most 64 bytes"),
        (vec!["/dev/null", "8M"], 1, "neither a regular file nor a block device"),
        (vec![".", "8M"], 1, "neither a regular file nor a block device"),
        (vec!["missing/new.img", "8M"], 1, "No such file"),
        (vec![], 2, "required"),
    ] {
        let words: Vec<&str> = ["mkfs.vexfs"].into_iter().chain(words).collect();
        let text = tools.fails(code, &words);
        assert!(text.contains(said), "{words:?}: {text}");
        assert!(!tools.path("new.img").exists(), "{words:?} left a file behind");
    }
}

#[test]
fn files_go_in_are_listed_read_and_come_out() {
    let tools = Tools::with_image("64M");
    std::fs::create_dir_all(tools.path("tree/sub")).unwrap();
    std::fs::write(tools.path("tree/a.txt"), "text a").unwrap();
    std::fs::write(tools.path("tree/sub/big"), vec![7; 3 << 20]).unwrap();
    std::os::unix::fs::symlink("a.txt", tools.path("tree/link")).unwrap();
    let odd = OsStr::from_bytes(b"odd\xff\n\\name");
    std::fs::write(tools.path("tree").join(odd), "odd").unwrap();
    assert!(tools.fails(1, &["vexfs", "cp", "tree", "a.img:/"]).contains("with -r"));
    tools.ok(&["vexfs", "cp", "-r", "tree", "a.img:/"]);
    tools.ok(&["vexfs", "cp", "tree/a.txt", "a.img:/renamed.txt"]);
    let listed = tools.ok(&["vexfs", "ls", "a.img:/tree"]);
    assert_eq!(listed, "a.txt\nlink\nodd\\xff\\x0a\\\\name\nsub\n");
    let long = tools.ok(&["vexfs", "ls", "-l", "a.img:/tree"]);
    assert!(long.contains("link -> a.txt") && long.lines().count() == 4, "{long}");
    let entries = tools.json(0, &["vexfs", "ls", "--json", "a.img:/tree"]);
    assert_eq!(entries[2]["name"], "odd\\xff\\x0a\\\\name");
    assert_eq!(
        (&entries[3]["type"], &entries[1]["target"]),
        (&"directory".into(), &"a.txt".into())
    );
    let tree = tools.ok(&["vexfs", "tree", "a.img:/"]);
    let expected = "/\n|-- renamed.txt\n`-- tree\n    |-- a.txt\n    |-- link -> a.txt\n    \
                    |-- odd\\xff\\x0a\\\\name\n    `-- sub\n        `-- big\n\n2 directories, 5 files\n";
    assert_eq!(tree, expected);
    assert_eq!(tools.ok(&["vexfs", "tree", "-L", "1", "a.img:/"]).lines().count(), 5);
    assert_eq!(tools.json(0, &["vexfs", "tree", "--json", "a.img:/tree"]).len(), 6);
    let text = tools.ok(&["vexfs", "cat", "a.img:/tree/link", "a.img:/renamed.txt"]);
    assert_eq!(text, "text atext a");
    tools.ok(&["vexfs", "cp", "-r", "a.img:/tree", "out"]);
    assert_eq!(std::fs::read(tools.path("out/sub/big")).unwrap(), vec![7; 3 << 20]);
    assert_eq!(std::fs::read(tools.path("out").join(odd)).unwrap(), b"odd");
    // Into a directory that is there; and a whole image at once.
    tools.ok(&["vexfs", "cp", "a.img:/tree/a.txt", "a.img:/renamed.txt", "out/sub"]);
    assert_eq!(std::fs::read_to_string(tools.path("out/sub/renamed.txt")).unwrap(), "text a");
    tools.ok(&["vexfs", "cp", "-r", "a.img:/", "whole"]);
    assert!(tools.path("whole/tree/sub/big").exists());
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
}

#[test]
fn attributes_are_kept_when_asked_for() {
    let tools = Tools::with_image("16M");
    let file = tools.path("f");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4711)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_111_111_111, 222_222_222);
    std::fs::File::open(&file).unwrap().set_modified(time).unwrap();
    tools.ok(&["vexfs", "cp", "f", "a.img:/plain"]);
    tools.ok(&["vexfs", "cp", "--preserve", "f", "a.img:/kept"]);
    let plain = &tools.json(0, &["vexfs", "stat", "--json", "a.img:/plain"])[0];
    let kept = &tools.json(0, &["vexfs", "stat", "--json", "a.img:/kept"])[0];
    assert_eq!((&plain["mode"], &kept["mode"]), (&"0711".into(), &"4711".into()));
    assert_eq!(kept["modified"], "2005-03-18T01:58:31.222222222Z");
    assert_ne!(plain["modified"], kept["modified"]);
    tools.ok(&["vexfs", "cp", "--preserve", "a.img:/kept", "back"]);
    let back = std::fs::metadata(tools.path("back")).unwrap();
    assert_eq!((back.mtime(), back.mtime_nsec()), (1_111_111_111, 222_222_222));
}

#[test]
fn names_are_made_moved_linked_and_removed() {
    let tools = Tools::with_image("16M");
    tools.ok(&["vexfs", "mkdir", "-p", "-m", "750", "a.img:/a/b/c", "a.img:/d"]);
    assert!(tools.fails(1, &["vexfs", "mkdir", "a.img:/a"]).contains("a.img:/a: exists already"));
    assert!(tools.fails(1, &["vexfs", "mkdir", "a.img:/x/y"]).contains("a.img:/x/y: not found"));
    std::fs::write(tools.path("f"), "content").unwrap();
    tools.ok(&["vexfs", "cp", "f", "a.img:/a/b/c/"]);
    tools.ok(&["vexfs", "mv", "a.img:/a/b/c/f", "a.img:/d"]);
    tools.ok(&["vexfs", "ln", "a.img:/d/f", "a.img:/second"]);
    tools.ok(&["vexfs", "ln", "-s", "d/f", "a.img:/short"]);
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/short"]), "content");
    let stat = &tools.json(0, &["vexfs", "stat", "--json", "a.img:/second"])[0];
    assert_eq!(stat["links"], 2);
    assert_eq!(stat["paths"], serde_json::json!(["/d/f", "/second"]));
    assert!(tools.ok(&["vexfs", "stat", "a.img:/short"]).contains("Leads to  d/f"));
    assert_eq!(tools.json(0, &["vexfs", "stat", "-L", "--json", "a.img:/short"])[0]["size"], 7);
    let directory = &tools.json(0, &["vexfs", "ls", "-d", "--json", "a.img:/a"])[0];
    assert_eq!((&directory["mode"], &directory["type"]), (&"0750".into(), &"directory".into()));
    assert!(tools.fails(1, &["vexfs", "mv", "a.img:/a", "a.img:/a/b"]).contains("below itself"));
    assert!(
        tools.fails(1, &["vexfs", "mv", "-n", "a.img:/second", "a.img:/short"]).contains("exists")
    );
    tools.ok(&["vexfs", "mv", "--exchange", "a.img:/second", "a.img:/short"]);
    assert_eq!(tools.json(0, &["vexfs", "stat", "--json", "a.img:/second"])[0]["type"], "symlink");
    assert!(tools.fails(1, &["vexfs", "rm", "a.img:/a"]).contains("with -r"));
    assert!(tools.fails(1, &["vexfs", "rm", "a.img:/no"]).contains("a.img:/no: not found"));
    tools.ok(&["vexfs", "rm", "-f", "a.img:/no"]);
    tools.ok(&["vexfs", "rm", "-r", "a.img:/a", "a.img:/d", "a.img:/second", "a.img:/short"]);
    assert_eq!(tools.ok(&["vexfs", "ls", "a.img:/"]), "");
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
}

#[test]
fn a_copy_within_an_image_shares_its_blocks() {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("big"), vec![1; 6 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "big", "a.img:/one"]);
    for copy in ["two", "three", "four"] {
        tools.ok(&["vexfs", "cp", "a.img:/one", &format!("a.img:/{copy}")]);
    }
    tools.ok(&["vexfs", "rm", "a.img:/one"]);
    tools.ok(&["vexfs", "cp", "a.img:/four", "back"]);
    assert_eq!(std::fs::read(tools.path("back")).unwrap(), vec![1; 6 << 20]);
    tools.ok(&["mkfs.vexfs", "-q", "b.img", "16M"]);
    tools.ok(&["vexfs", "cp", "a.img:/two", "b.img:/"]);
    assert_eq!(tools.json(0, &["vexfs", "stat", "--json", "b.img:/two"])[0]["size"], 6 << 20);
    assert!(tools.fails(1, &["vexfs", "cp", "a.img:/two", "a.img:/two"]).contains("into itself"));
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
}

#[test]
fn a_full_image_keeps_what_it_had() {
    let tools = Tools::with_image("4M");
    std::fs::write(tools.path("small"), "small").unwrap();
    std::fs::write(tools.path("big"), vec![1; 8 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "small", "a.img:/"]);
    let said = tools.fails(1, &["vexfs", "cp", "big", "a.img:/"]);
    assert!(said.contains("no space left") && said.contains("Remove something"), "{said}");
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/small"]), "small");
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
    tools.ok(&["vexfs", "rm", "-f", "a.img:/big"]);
    std::fs::write(tools.path("fits"), vec![2; 2 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "fits", "a.img:/"]);
}

#[test]
fn places_that_make_no_sense_are_named() {
    let tools = Tools::with_image("4M");
    std::fs::write(tools.path("notes.txt"), "no image, but quite long a text".repeat(4000))
        .unwrap();
    std::fs::write(tools.path("f"), "f").unwrap();
    let long = format!("a.img:/{}", "n".repeat(256));
    for (words, code, said) in [
        (vec!["ls", "nowhere"], 2, "write IMAGE:/path"),
        (vec!["ls", "missing.img:/"], 1, "missing.img: No such file"),
        (vec!["ls", "notes.txt:/"], 1, "not a VexFS file system"),
        (vec!["ls", "a.img:/no"], 1, "a.img:/no: not found"),
        (vec!["cat", "a.img:/"], 1, "a.img:/: is a directory"),
        (vec!["cp", "f", "other"], 2, "write IMAGE:/path"),
        (vec!["cp", "f", "a.img:/x", "a.img:/y"], 2, "two commands"),
        (vec!["cp", "f", "f", "a.img:/x"], 1, "not a directory"),
        (vec!["cp", "no", "a.img:/x"], 1, "no: No such file"),
        (vec!["cp", "f", "a.img:/no/x"], 1, "a.img:/no/x: not found"),
        (vec!["cp", "f", &long], 1, "name too long"),
        (vec!["mkdir", "a.img:/."], 1, "a.img:/."),
        (vec!["mkdir", "a.img:/.."], 1, "a.img:/.."),
        (vec!["mkdir", "a.img:/"], 1, "root directory"),
        (vec!["rm", "-r", "a.img:/"], 1, "root directory"),
        (vec!["frobnicate"], 2, "frobnicate"),
        (vec![], 2, "Usage"),
    ] {
        let words: Vec<&str> = ["vexfs"].into_iter().chain(words).collect();
        let text = tools.fails(code, &words);
        assert!(text.contains(said), "{words:?}: {text}");
    }
    let longest = format!("a.img:/{}", "n".repeat(255));
    tools.ok(&["vexfs", "cp", "f", &longest]);
}

#[test]
fn a_local_file_with_a_colon_in_its_name_stays_usable() {
    let tools = Tools::with_image("4M");
    std::fs::create_dir(tools.path("a:")).unwrap();
    std::fs::write(tools.path("a:/b"), "local").unwrap();
    tools.ok(&["vexfs", "cp", "a:/b", "a.img:/copied:"]);
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/copied:"]), "local");
    tools.ok(&["vexfs", "cp", "a.img:/copied:", "./out:"]);
    assert_eq!(std::fs::read_to_string(tools.path("out:")).unwrap(), "local");
}

#[test]
fn an_image_that_cannot_be_written_can_be_read() {
    let tools = Tools::with_image("4M");
    let image = tools.path("a.img");
    let before = std::fs::read(&image).unwrap();
    std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o444)).unwrap();
    tools.ok(&["vexfs", "ls", "a.img:/"]);
    tools.ok(&["vexfs", "info", "a.img"]);
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
    assert!(std::fs::read(&image).unwrap() == before);
}

/// A loop device that may not be written to, where the machine lets one be made.
struct ReadOnlyLoop(String);

impl ReadOnlyLoop {
    fn new(image: &std::path::Path) -> Option<Self> {
        let attached = Command::new("losetup").args(["--show", "-r", "-f"]).arg(image).output();
        let attached = attached.ok().filter(|output| output.status.success())?;
        Some(Self(String::from_utf8(attached.stdout).unwrap().trim().to_owned()))
    }
}

impl Drop for ReadOnlyLoop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[test]
fn a_read_only_device_can_be_read_and_is_called_so() {
    let tools = Tools::with_image("4M");
    let Some(device) = ReadOnlyLoop::new(&tools.path("a.img")) else {
        println!("not tested: no loop device could be had");
        return;
    };
    let ReadOnlyLoop(name) = &device;
    tools.ok(&["vexfs", "ls", &format!("{name}:/")]);
    tools.ok(&["fsck.vexfs", "-n", name]);
    let said = tools.fails(1, &["vexfs", "mkdir", &format!("{name}:/x")]);
    assert_eq!(said, format!("vexfs: {name}: read-only: it cannot be changed\n"));
    for (code, words) in [(1, ["mkfs.vexfs", "-f", name]), (8, ["fsck.vexfs", "-y", name])] {
        let said = tools.fails(code, &words);
        assert!(said.contains(&format!("{name}: read-only")), "{said}");
    }
}

#[test]
fn an_image_in_use_is_refused() {
    let tools = Tools::with_image("4M");
    let image = vexfs_engine::Image::open(tools.path("a.img"), &Default::default()).unwrap();
    for words in [
        vec!["vexfs", "ls", "a.img:/"],
        vec!["vexfs", "mkdir", "a.img:/x"],
        vec!["mkfs.vexfs", "-f", "a.img"],
    ] {
        let said = tools.fails(1, &words);
        assert!(said.contains("a.img: in use by another process"), "{words:?}: {said}");
    }
    assert!(tools.fails(8, &["fsck.vexfs", "-y", "a.img"]).contains("in use"));
    image.close().unwrap();
    tools.ok(&["vexfs", "mkdir", "a.img:/x"]);
}

#[test]
fn a_reader_that_leaves_is_no_reason_for_words() {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("big"), vec![b'x'; 4 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "big", "a.img:/"]);
    let mut child = tools
        .command(&["vexfs", "cat", "a.img:/big"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn manual_pages_and_completions_are_made_for_every_command() {
    let tools = Tools::new();
    tools.ok(&["vexfs", "man", "share/man"]);
    let page = |name: &str| std::fs::read_to_string(tools.path("share/man").join(name)).unwrap();
    assert!(page("man8/mkfs.vexfs.8").contains("mkfs.vexfs"));
    assert!(page("man8/fsck.vexfs.8").contains("Exit codes"));
    for (file, about) in [("man8/mkfs.vexfs.8", "Makes a"), ("man8/fsck.vexfs.8", "Checks a")] {
        let text = page(file);
        assert!(text.contains(".SH EXAMPLES") && text.contains(".SH NOTES"), "{file}: {text}");
        assert!(text.contains(&format!(".vexfs \\- {about}")) && !text.contains("EXTRA"), "{text}");
    }
    assert!(page("man1/vexfs-cp.1").contains("vexfs cp"));
    assert!(page("man1/vexfs-collection-create.1").contains("vexfs collection create"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        for program in ["vexfs", "mkfs.vexfs", "fsck.vexfs"] {
            let script = tools.ok(&["vexfs", "completions", "--program", program, shell]);
            assert!(script.contains(program), "{program} for {shell}");
        }
    }
    assert!(tools.ok(&["vexfs", "completions", "bash"]).contains("collection"));
    tools.fails(2, &["vexfs", "completions", "tcsh"]);
}

#[test]
fn every_command_explains_itself() {
    let tools = Tools::new();
    let help = tools.ok(&["vexfs", "--help"]);
    for command in ["mkfs", "fsck", "cp", "ls", "embed", "search", "dump", "completions"] {
        assert!(help.contains(&format!("\n  {command}")), "{command} is missing in\n{help}");
        assert!(tools.ok(&["vexfs", command, "--help"]).contains("Example"), "{command}");
    }
    for tool in ["vexfs", "mkfs.vexfs", "fsck.vexfs"] {
        let version = tools.ok(&[tool, "-V"]);
        assert_eq!(version, format!("{tool} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_benchmark_measures_everything_and_leaves_nothing_behind() {
    let tools = Tools::with_image("64M");
    let words = ["vexfs", "bench", "fs", "--files", "50", "--size", "2M", "--json", "a.img"];
    let figures = tools.json(0, &words);
    let names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    let expected = [
        "create",
        "stat",
        "readdir",
        "unlink",
        "sequential write",
        "sequential read",
        "random read",
        "random write",
        "sync",
    ];
    assert_eq!(names, expected);
    assert!(figures.iter().all(|figure| figure["per_second"].as_f64().unwrap() > 0.0));
    assert_eq!(tools.ok(&["vexfs", "ls", "a.img:/"]), "");
    assert!(
        tools
            .ok(&["vexfs", "bench", "fs", "--files", "5", "--size", "1M", "a.img"])
            .contains("PER SECOND")
    );
    tools.fails(2, &["vexfs", "bench", "fs", "--block", "2M", "--size", "1M", "a.img"]);
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
}

#[test]
fn the_dump_tells_superblocks_nodes_and_items() {
    let tools = Tools::with_image("4M");
    tools.ok(&["vexfs", "mkdir", "a.img:/directory"]);
    let text = tools.ok(&["vexfs", "dump", "a.img"]);
    assert!(text.contains("superblock 3 at byte") && text.contains("inode"), "{text}");
    let words = ["vexfs", "dump", "--items", "--kind", "entry", "--json", "a.img"];
    let records = tools.json(0, &words);
    let entry = records.iter().find(|record| record["record"] == "item").unwrap();
    let name: String = b"directory".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(entry["bytes"].as_str().unwrap().ends_with(&name));
    tools.fails(2, &["vexfs", "dump", "--items", "--kind", "nonsense", "a.img"]);
    let mut file = std::fs::File::options().write(true).open(tools.path("a.img")).unwrap();
    for offset in [64 << 10, 128 << 10, (4 << 20) - (64 << 10), (4 << 20) - (128 << 10)] {
        file.seek(SeekFrom::Start(offset + 40)).unwrap();
        file.write_all(b"damage").unwrap();
    }
    let copies = tools.json(0, &["vexfs", "dump", "--superblocks", "--json", "a.img"]);
    assert_eq!(copies.len(), 4);
    assert!(
        copies.iter().all(|copy| copy["fault"].is_string() && copy["fields"]["blocks"] == 1024)
    );
    assert!(tools.fails(1, &["vexfs", "dump", "a.img"]).contains("fsck.vexfs"));
}

#[test]
fn a_copy_that_does_not_fit_leaves_the_old_file_and_no_new_one() {
    let tools = Tools::with_image("8M");
    std::fs::write(tools.path("old"), vec![1; 2 << 20]).unwrap();
    std::fs::write(tools.path("big"), vec![2; 16 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "old", "a.img:/old"]);
    tools.ok(&["mkfs.vexfs", "-q", "b.img", "64M"]);
    tools.ok(&["vexfs", "cp", "big", "b.img:/"]);
    for source in ["big", "b.img:/big"] {
        for target in ["a.img:/old", "a.img:/new"] {
            let said = tools.fails(1, &["vexfs", "cp", source, target]);
            assert!(said.contains("no space left") && said.contains("is as it was"), "{said}");
        }
        assert_eq!(tools.ok(&["vexfs", "ls", "a.img:/"]), "old\n");
        tools.ok(&["vexfs", "cp", "a.img:/old", "back"]);
        assert!(std::fs::read(tools.path("back")).unwrap() == vec![1; 2 << 20], "{source}");
        tools.ok(&["fsck.vexfs", "-n", "a.img"]);
    }
    // What the failures took is free again.
    std::fs::write(tools.path("fits"), vec![3; 4 << 20]).unwrap();
    tools.ok(&["vexfs", "cp", "fits", "a.img:/"]);
}

#[test]
fn a_file_that_is_copied_over_keeps_its_inode_names_and_permissions() {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("long"), vec![b'l'; 100_001]).unwrap();
    std::fs::write(tools.path("short"), "short").unwrap();
    std::fs::set_permissions(tools.path("long"), std::fs::Permissions::from_mode(0o640)).unwrap();
    tools.ok(&["vexfs", "cp", "long", "a.img:/f"]);
    tools.ok(&["vexfs", "ln", "a.img:/f", "a.img:/second"]);
    let stat = || tools.json(0, &["vexfs", "stat", "--json", "a.img:/f"]).remove(0);
    let before = stat();
    for (source, size) in [("short", 5), ("long", 100_001), ("a.img:/other", 5)] {
        if source.contains(':') {
            tools.ok(&["vexfs", "cp", "short", source]);
        }
        tools.ok(&["vexfs", "cp", source, "a.img:/f"]);
        let after = stat();
        assert_eq!(after["size"], size);
        for field in ["ino", "links", "mode", "uid", "paths"] {
            assert_eq!(after[field], before[field], "{field}");
        }
    }
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/second"]), "short");
    tools.ok(&["fsck.vexfs", "-n", "a.img"]);
}

#[test]
fn one_bad_source_does_not_keep_the_others_from_being_copied() {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("one"), "1").unwrap();
    std::fs::write(tools.path("two"), "2").unwrap();
    std::fs::create_dir(tools.path("d")).unwrap();
    tools.ok(&["vexfs", "mkdir", "a.img:/to", "a.img:/to/two"]);
    let said = tools.fails(1, &["vexfs", "cp", "missing", "d", "two", "one", "a.img:/to"]);
    assert!(said.contains("missing: No such file") && said.contains("with -r"), "{said}");
    assert!(said.contains("a.img:/to/two: is a directory\n  A file cannot take"), "{said}");
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/to/one"]), "1");
    std::fs::create_dir(tools.path("out")).unwrap();
    tools.fails(1, &["vexfs", "cp", "a.img:/no", "a.img:/to/one", "out"]);
    assert_eq!(std::fs::read_to_string(tools.path("out/one")).unwrap(), "1");
    tools.fails(1, &["vexfs", "cp", "a.img:/no", "a.img:/to/one", "a.img:/"]);
    assert_eq!(tools.ok(&["vexfs", "cat", "a.img:/one"]), "1");
}

#[test]
fn one_bad_place_does_not_keep_the_others_from_their_turn() {
    let tools = Tools::with_image("8M");
    std::fs::write(tools.path("a"), "one").unwrap();
    tools.ok(&["vexfs", "cp", "-q", "a", "a.img:/a"]);
    tools.ok(&["vexfs", "cp", "-q", "a", "a.img:/b"]);
    for (words, printed) in [
        (&["vexfs", "cat", "a.img:/a", "a.img:/no", "a.img:/b"][..], "oneone"),
        (&["vexfs", "ls", "a.img:/a", "a.img:/no", "a.img:/b"], "/a\n/b\n"),
        (&["vexfs", "mkdir", "a.img:/d", "a.img:/no/x", "a.img:/e"], ""),
        (&["vexfs", "mv", "a.img:/a", "a.img:/no", "a.img:/b", "a.img:/d"], ""),
        (&["vexfs", "rm", "a.img:/d/a", "a.img:/no", "a.img:/d/b"], ""),
    ] {
        let output = tools.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), printed, "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("a.img:/no") && said.lines().count() == 1, "{words:?}: {said}");
    }
    let told = tools.json(1, &["vexfs", "stat", "--json", "a.img:/d", "a.img:/no", "a.img:/e"]);
    assert_eq!((&told[0]["path"], &told[1]["path"]), (&"/d".into(), &"/e".into()));
}

#[test]
fn a_damaged_directory_does_not_keep_a_tree_from_being_shown() {
    let tools = Tools::with_image("8M");
    let long = "x".repeat(100);
    let others: Vec<String> = (0..9).map(|number| format!("good{number}")).collect();
    let counts = others.iter().map(|name| (name.as_str(), 2)).chain([("bad", 400)]);
    for (directory, count) in counts {
        std::fs::create_dir_all(tools.path("top").join(directory)).unwrap();
        for number in 0..count {
            let name = format!("{directory}-{number:03}-{long}");
            std::fs::write(tools.path("top").join(directory).join(name), "").unwrap();
        }
    }
    tools.ok(&["vexfs", "cp", "-q", "-r", "top", "a.img:/top"]);
    // Every block with names of the directory, and of nothing else, is damaged.
    let mut image = std::fs::read(tools.path("a.img")).unwrap();
    for block in image.chunks_mut(4096) {
        let has = |word: &[u8]| block.windows(word.len()).any(|window| window == word);
        if has(b"bad-2") && !has(b"good") && !has(b"top") {
            block[100] ^= 1;
        }
    }
    std::fs::write(tools.path("a.img"), image).unwrap();
    for extra in [&[][..], &["--json"]] {
        let output = tools.run(&[&["vexfs", "tree", "a.img:/"], extra].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let (shown, said) =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).into();
        for name in &others {
            assert!(shown.contains(&format!("{name}-001")), "{shown}");
        }
        assert!(said.contains("a.img:/top/bad") && said.contains("damaged"), "{said}");
    }
}

#[test]
fn what_a_pipe_gives_is_copied() {
    let tools = Tools::with_image("16M");
    let script = "printf piped | ./vexfs cp - a.img:/one && \
                  printf again | ./vexfs cp /dev/stdin a.img:/two && \
                  mkfifo pipe && { printf named > pipe & } && ./vexfs cp pipe a.img:/three && \
                  ./vexfs cp -r pipe a.img:/pipe";
    let status = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(tools.path("."))
        .status()
        .unwrap();
    assert!(status.success());
    let text = tools.ok(&["vexfs", "cat", "a.img:/one", "a.img:/two", "a.img:/three"]);
    assert_eq!(text, "pipedagainnamed");
    assert_eq!(tools.json(0, &["vexfs", "stat", "--json", "a.img:/pipe"])[0]["type"], "fifo");
    assert!(tools.fails(2, &["vexfs", "cp", "-", "a.img:/"]).contains("no name"));
}

#[test]
fn a_closed_or_full_standard_error_changes_no_exit_code() {
    let tools = Tools::with_image("16M");
    for command in
        ["cp no a.img:/", "rm a.img:/no", "ls a.img:/no", "search a.img:/ c -k 0 --text x"]
    {
        for target in ["2>&-", "2>/dev/full"] {
            let status = std::process::Command::new("sh")
                .args(["-c", &format!("./vexfs {command} {target}")])
                .current_dir(tools.path("."))
                .status()
                .unwrap();
            assert!(matches!(status.code(), Some(1 | 2)), "{command} {target}: {status:?}");
        }
    }
}

#[test]
fn a_slash_behind_a_name_means_a_directory() {
    let tools = Tools::with_image("16M");
    std::fs::write(tools.path("f"), "f").unwrap();
    std::fs::create_dir(tools.path("d")).unwrap();
    tools.ok(&["vexfs", "cp", "f", "a.img:/f"]);
    for words in [
        ["cp", "f", "a.img:/f/"],
        ["cp", "f", "a.img:/new/"],
        ["mv", "a.img:/f", "a.img:/new/"],
        ["ln", "a.img:/f", "a.img:/new/"],
        ["cp", "a.img:/f/", "out"],
    ] {
        let said = tools.fails(1, &["vexfs", words[0], words[1], words[2]]);
        assert!(said.contains("/: not a directory"), "{words:?}: {said}");
    }
    assert!(tools.fails(1, &["vexfs", "cat", "a.img:/f/"]).contains("not a directory"));
    tools.ok(&["vexfs", "cp", "-r", "d/", "a.img:/made/"]);
    tools.ok(&["vexfs", "mkdir", "a.img:/other/"]);
    tools.ok(&["vexfs", "mv", "a.img:/other/", "a.img:/moved/"]);
    assert_eq!(tools.ok(&["vexfs", "ls", "a.img:/"]), "f\nmade\nmoved\n");
}

#[test]
fn paths_in_json_are_what_they_are_and_bytes_where_they_are_no_text() {
    let tools = Tools::with_image("16M");
    let odd = OsStr::from_bytes(b"odd\xff");
    std::fs::write(tools.path("f"), "some words of text").unwrap();
    std::fs::create_dir(tools.path("d")).unwrap();
    std::fs::write(tools.path("d").join(odd), "\0").unwrap();
    tools.ok(&["vexfs", "cp", "f", "a.img:/back\\slash\tand tab"]);
    tools.ok(&["vexfs", "cp", "-r", "d", "a.img:/"]);
    let name = "back\\slash\tand tab";
    let place = format!("a.img:/{name}");
    let listed = tools.json(0, &["vexfs", "ls", "--json", "a.img:/"]);
    assert_eq!(listed[0]["name"], name);
    assert_eq!(listed[0]["path"], format!("/{name}"));
    assert!(listed[0].get("path_bytes").is_none());
    let stat = &tools.json(0, &["vexfs", "stat", "--json", &place])[0];
    assert_eq!(stat["paths"], serde_json::json!([format!("/{name}")]));
    let tree = tools.json(0, &["vexfs", "tree", "--json", "a.img:/d"]);
    assert_eq!(
        (&tree[1]["path"], &tree[1]["path_bytes"]),
        (&"/d/odd\\xff".into(), &"2f642f6f6464ff".into())
    );
    let report = &tools.json(0, &["vexfs", "embed", "--json", "a.img:/", "texts"])[0];
    assert_eq!(report["passed_over"]["binary_bytes"], serde_json::json!(["2f642f6f6464ff"]));
    let words = ["vexfs", "search", "--json", "a.img:/", "texts", "--text", "words"];
    assert_eq!(tools.json(0, &words)[0]["path"], format!("/{name}"));
    assert!(tools.ok(&["vexfs", "tree", "a.img:/d"]).ends_with("\n0 directories, 1 file\n"));
}

#[test]
fn labels_and_times_in_json_are_text() {
    let tools = Tools::new();
    let label = "two\nlines \\ \u{e9}";
    tools.ok(&["mkfs.vexfs", "-q", "-L", label, "a.img", "4M"]);
    tools.ok(&["vexfs", "collection", "create", "a.img", "c", "--dim", "2"]);
    let info = tools.json(0, &["vexfs", "info", "--json", "a.img"]).remove(0);
    let superblock =
        tools.json(0, &["vexfs", "dump", "--superblocks", "--json", "a.img"]).remove(0);
    assert_eq!((&info["label"], &superblock["fields"]["label"]), (&label.into(), &label.into()));
    let collection =
        tools.json(0, &["vexfs", "collection", "show", "--json", "a.img", "c"]).remove(0);
    let root = tools.json(0, &["vexfs", "stat", "--json", "a.img:/"]).remove(0);
    for time in [&info["created"], &info["published"], &collection["created"], &root["born"]] {
        let time = time.as_str().unwrap();
        assert!(time.len() == 30 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}

#[test]
fn links_that_cannot_be_are_refused_with_the_reason() {
    let tools = Tools::with_image("4M");
    tools.ok(&["vexfs", "mkdir", "a.img:/d"]);
    let long = "x".repeat(4096);
    assert!(tools.fails(2, &["vexfs", "ln", "-s", "", "a.img:/l"]).contains("empty target"));
    assert!(tools.fails(1, &["vexfs", "ln", "-s", &long, "a.img:/l"]).contains("at most 4095"));
    let said = tools.fails(1, &["vexfs", "ln", "a.img:/d", "a.img:/l"]);
    assert!(said.contains("hard links to directories are not possible"), "{said}");
}
