// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Files, paths and trees: what goes in comes out, from one thread and from many.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vexfs_engine::core::MODE_DIRECTORY;
use vexfs_engine::{
    CopyOptions, CoreError, CreateOptions, Files, Image, LastLink, Mount, NewInode, OpenOptions,
    Reason, RenameMode, SetAttributes, XattrMode, copy,
};

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn image(&self) -> Image {
        Image::create(self.at("image.vexfs"), Some(64 << 20), &CreateOptions::default()).unwrap()
    }

    fn reopen(&self) -> Image {
        Image::open(self.at("image.vexfs"), &OpenOptions::read_only()).unwrap()
    }
}

/// Bytes that differ from place to place.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

const RECURSIVE: CopyOptions = CopyOptions { recursive: true, preserve: false, owner: (0, 0) };
const PRESERVE: CopyOptions = CopyOptions { recursive: true, preserve: true, owner: (0, 0) };

#[test]
fn files_of_many_sizes_come_back_after_reopening() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let sizes = [0, 1, 100, 4095, 4096, 4097, 65_536, 1 << 20, (3 << 20) + 17];
    for size in sizes {
        image.write_file(format!("/{size}"), &pattern(size as u64, size)).unwrap();
    }
    image.close().unwrap();
    let image = scratch.reopen();
    for size in sizes {
        let read = image.read_file(format!("/{size}")).unwrap();
        assert!(read == pattern(size as u64, size), "file of {size} bytes");
    }
}

#[test]
fn a_file_is_read_written_and_sought_as_others_are() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let mut file = image.create_file("/f", 0o600).unwrap();
    file.write_all(b"0123456789").unwrap();
    assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 6);
    file.write_all(b"abcdefgh").unwrap();
    assert_eq!(file.stream_position().unwrap(), 14);
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "012345abcdefgh");
    assert!(file.seek(SeekFrom::Current(-100)).is_err());
    file.seek(SeekFrom::Start(1 << 30)).unwrap();
    assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
    file.set_len(3).unwrap();
    assert_eq!(image.read_file("/f").unwrap(), b"012");
    let error =
        file.seek(SeekFrom::Start(u64::MAX - 1)).and_then(|_| file.write(b"x")).unwrap_err();
    assert!(error.to_string().contains("file too large"), "{error}");
    let again = image.create_file("/f", 0o777).unwrap();
    assert_eq!((again.inode().unwrap().size, again.inode().unwrap().mode & 0o777), (0, 0o600));
}

#[test]
fn an_open_file_outlives_its_last_name() {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.sync().unwrap();
    let free = image.status().blocks_free;
    let file = image.create_file("/gone", 0o644).unwrap();
    file.write_at(0, &pattern(1, 1 << 20)).unwrap();
    image.remove_file("/gone").unwrap();
    let mut bytes = vec![0; 1 << 20];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), 1 << 20);
    assert!(bytes == pattern(1, 1 << 20));
    let number = file.number();
    drop(file);
    assert_eq!(image.core().inode(number), Err(CoreError::Stale));
    assert!(image.open_inode(number, "/gone").is_err());
    image.sync().unwrap();
    assert!(image.status().blocks_free + 4 >= free, "its blocks did not come back");
}

#[test]
fn paths_lead_through_links_and_dots() {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.create_dir_all("/a/b/c", 0o755).unwrap();
    image.write_file("/a/b/c/f", b"text").unwrap();
    image.symlink("b/c", "/a/short").unwrap();
    image.symlink("/a/short/f", "/absolute").unwrap();
    image.symlink("../a/./short", "/a/dots").unwrap();
    image.symlink("nowhere", "/dangling").unwrap();
    for path in ["/a/short/f", "/absolute", "/a/dots/f", "/a//b/../b/c/f", "/../a/b/c/f"] {
        assert_eq!(image.read_file(path).unwrap(), b"text", "{path}");
    }
    let link = image.symlink_metadata("/absolute").unwrap();
    assert_eq!((link.file_type(), link.size), (vexfs_engine::core::MODE_SYMLINK, 10));
    assert_eq!(image.read_link("/absolute").unwrap(), Path::new("/a/short/f"));
    assert!(image.resolve("/dangling").unwrap_err().is_not_found());
    assert!(image.find("/dangling", LastLink::Keep).unwrap().is_some());
    assert_eq!(image.find("/dangling", LastLink::Follow).unwrap(), None);
    // A slash at the end is that of a directory.
    for path in ["/a/b/c/f/g", "/a/b/c/f/", "/absolute/"] {
        assert_eq!(image.resolve(path).unwrap_err().core(), Some(&CoreError::NotDirectory));
    }
    assert_eq!(image.resolve("/a/short/").unwrap(), image.resolve("/a/b/c").unwrap());
    image.symlink("loop", "/loop").unwrap();
    let error = image.resolve("/loop").unwrap_err();
    assert!(matches!(error.reason, Reason::SymlinkLoop) && error.errno() == 40, "{error}");
    for path in ["", "relative", "/with\0nul"] {
        let error = image.resolve(path).unwrap_err();
        assert!(matches!(error.reason, Reason::BadPath), "{path:?}: {error}");
    }
    assert!(image.create_dir("/", 0o755).is_err());
    assert!(image.remove_tree("/").is_err());
}

#[test]
fn names_have_one_to_255_bytes_of_any_kind() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let longest = format!("/{}", "n".repeat(255));
    image.write_file(&longest, b"x").unwrap();
    let error = image.write_file(format!("{longest}n"), b"x").unwrap_err();
    assert_eq!(error.core(), Some(&CoreError::NameTooLong));
    let odd = Path::new("/").join(OsStr::from_bytes(b"caf\xe9\n\x1b[31m"));
    image.write_file(&odd, b"odd").unwrap();
    image.create_dir("/d", 0o755).unwrap();
    for name in ["/d/.", "/d/.."] {
        assert!(image.create_file(name, 0o644).is_err(), "{name}");
        assert!(image.remove_dir(name).is_err(), "{name}");
    }
    image.close().unwrap();
    let image = scratch.reopen();
    assert_eq!(image.read_file(&odd).unwrap(), b"odd");
    let names: Vec<_> = image.read_dir("/").unwrap().map(|entry| entry.unwrap().name).collect();
    assert!(names.contains(&odd.file_name().unwrap().to_owned()), "{names:?}");
}

#[test]
fn many_entries_are_listed_once_each_and_walked_in_order() {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.create_dir("/many", 0o755).unwrap();
    for number in 0..2000 {
        image.write_file(format!("/many/{number:04}"), b"").unwrap();
    }
    let mut names: Vec<_> = image.read_dir("/many").unwrap().map(|e| e.unwrap().name).collect();
    names.sort();
    let expected: Vec<_> = (0..2000).map(|number| format!("{number:04}").into()).collect();
    assert_eq!(names, expected as Vec<std::ffi::OsString>);
    let walked: Vec<_> = image.walk("/").unwrap().map(|entry| entry.unwrap().path).collect();
    assert_eq!((walked.len(), walked[0].as_path()), (2002, Path::new("/")));
    assert!(walked[1..].is_sorted());
    let removed = image.remove_tree("/many").unwrap();
    assert_eq!((removed.directories, removed.files), (1, 2000));
    assert_eq!(image.walk("/").unwrap().count(), 1);
}

#[test]
fn renames_replace_refuse_and_exchange() {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.write_file("/a", b"a").unwrap();
    image.write_file("/b", b"b").unwrap();
    image.create_dir_all("/d/e", 0o755).unwrap();
    let error = image.rename("/a", "/b", RenameMode::NoReplace).unwrap_err();
    assert_eq!(error.core(), Some(&CoreError::Exists));
    image.rename("/a", "/b", RenameMode::Exchange).unwrap();
    assert_eq!(image.read_file("/a").unwrap(), b"b");
    image.rename("/a", "/b", RenameMode::Replace).unwrap();
    assert_eq!(image.read_file("/b").unwrap(), b"b");
    assert!(image.resolve("/a").unwrap_err().is_not_found());
    assert!(image.rename("/d", "/d/e/f", RenameMode::Replace).is_err());
    let error = image.rename("/missing", "/x", RenameMode::Replace).unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains(":/missing: "), "{error}");
    image.hard_link("/b", "/d/second").unwrap();
    let mut paths = image.paths(image.resolve("/b").unwrap()).unwrap();
    paths.sort();
    assert_eq!(paths, [Path::new("/b"), Path::new("/d/second")]);
}

/// Makes a tree on the host and returns what is in it.
fn make_tree(top: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (name, length) in [("one", 10), ("sub/two", 5000), ("sub/deep/three", 2 << 20)] {
        let path = top.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = pattern(length as u64, length);
        std::fs::write(&path, &bytes).unwrap();
        files.insert(PathBuf::from(name), bytes);
    }
    std::fs::set_permissions(top.join("one"), std::fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("sub/two", top.join("link")).unwrap();
    std::fs::hard_link(top.join("one"), top.join("sub/one-too")).unwrap();
    let odd = OsStr::from_bytes(b"odd-\xff-name");
    std::fs::write(top.join(odd), "odd").unwrap();
    files.insert(odd.into(), b"odd".to_vec());
    let time = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    std::fs::File::open(top.join("sub/two")).unwrap().set_modified(time).unwrap();
    std::fs::File::open(top.join("sub")).unwrap().set_modified(time).unwrap();
    files
}

#[test]
fn a_tree_goes_in_and_out_with_all_its_attributes() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let top = scratch.at("tree");
    let files = make_tree(&top);
    let mut told = 0;
    let report = image.copy_in(&top, "/tree", &PRESERVE, &mut |_, bytes| told += bytes).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!((report.files, report.directories, report.others), (4, 3, 2));
    assert_eq!(report.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
    assert_eq!(told, report.bytes);
    assert_eq!(image.resolve("/tree/one").unwrap(), image.resolve("/tree/sub/one-too").unwrap());
    let number = image.resolve("/tree/sub/two").unwrap();
    image.set_xattr(number, "user.mark", b"kept", XattrMode::Create).unwrap();
    image.copy_from(&image, "/tree", "/clone", &PRESERVE, &mut |_, _| ()).unwrap();
    image.write_file("/tree/sub/deep/three", b"changed").unwrap();
    image.close().unwrap();

    let image = scratch.reopen();
    let out = scratch.at("out");
    let report = image.copy_out("/clone", &out, &PRESERVE, &mut |_, _| ()).unwrap();
    for (name, bytes) in &files {
        assert!(&std::fs::read(out.join(name)).unwrap() == bytes, "{}", name.display());
    }
    assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("sub/two"));
    let metadata = |name: &str| std::fs::metadata(out.join(name)).unwrap();
    assert_eq!(metadata("one").mode() & 0o7777, 0o640);
    assert_eq!(metadata("one").ino(), metadata("sub/one-too").ino());
    for name in ["sub", "sub/two"] {
        let times = (metadata(name).mtime(), metadata(name).mtime_nsec());
        assert_eq!(times, (1_000_000_000, 123_456_789), "{name}");
    }
    // The host's file system may have no attributes; then it is said.
    let mut value = [0; 16];
    match rustix::fs::getxattr(out.join("sub/two"), "user.mark", &mut value) {
        Ok(length) => assert_eq!(&value[..length], b"kept"),
        Err(_) => assert_eq!(report.failures.len(), 1),
    }
}

#[test]
fn a_tree_is_copied_on_the_host_as_into_an_image() {
    let scratch = Scratch::new();
    let (top, out) = (scratch.at("tree"), scratch.at("out"));
    let files = make_tree(&top);
    let host = |from: &Path, to: &Path| {
        copy(Files::Host, from, Files::Host, to, &PRESERVE, &mut |_, _| ())
    };
    let report = host(&top, &out).unwrap();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert_eq!((report.files, report.directories, report.others), (4, 3, 2));
    for (name, bytes) in &files {
        assert!(&std::fs::read(out.join(name)).unwrap() == bytes, "{}", name.display());
    }
    let metadata = |name: &str| std::fs::metadata(out.join(name)).unwrap();
    assert_eq!(metadata("one").ino(), metadata("sub/one-too").ino());
    assert_eq!(metadata("sub/two").mtime(), 1_000_000_000);
    // Neither a tree nor a file can become a part of itself, whatever it is called.
    for (from, to) in [
        (&top, top.join("sub/deep/x")),
        (&top, top.join("sub/../x")),
        (&top.join("one"), top.join("sub/one-too")),
        (&top.join("sub/two"), top.join("link")),
    ] {
        let error = host(from, &to).unwrap_err();
        assert!(matches!(error.reason, Reason::IntoItself), "{error}");
    }
    assert_eq!(std::fs::read(top.join("one")).unwrap(), files[Path::new("one")]);
}

/// What is done with files by their paths comes to the same in an image and on the host.
#[test]
fn files_in_an_image_and_on_the_host_are_handled_alike() {
    let scratch = Scratch::new();
    let image = scratch.image();
    std::fs::create_dir(scratch.at("top")).unwrap();
    image.create_dir("/top", 0o755).unwrap();
    let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    for (files, top) in
        [(Files::Image(&image), PathBuf::from("/top")), (Files::Host, scratch.at("top"))]
    {
        let at = |name: &str| top.join(name);
        let directory = NewInode { mode: MODE_DIRECTORY | 0o2750, owner, device: 0 };
        files.create_all(&at("a/b"), &directory).unwrap();
        files.create_all(&at("a/b"), &directory).unwrap();
        assert_eq!(
            files.attributes(&at("a/b"), LastLink::Keep).unwrap().inode.mode & 0o7777,
            0o2750
        );
        assert_eq!(files.create(&at("a"), &directory).unwrap_err().errno(), 17);
        let file = files.create_file(&at("f"), 0o640, owner).unwrap();
        file.write_at(3, b"bytes").unwrap();
        assert_eq!((file.size().unwrap(), file.number().is_ok()), (8, true));
        drop(file);
        assert!(files.create_all(&at("f"), &directory).is_err());
        files.hard_link(&at("f"), &at("second")).unwrap();
        files.symlink("f".as_ref(), &at("link"), owner).unwrap();
        assert_eq!(files.read_link(&at("link")).unwrap(), Path::new("f"));
        let names = |path: &Path| -> Vec<_> {
            files.list(path).unwrap().into_iter().map(|entry| entry.name).collect()
        };
        assert_eq!(names(&top), ["a", "f", "link", "second"]);
        let found = files.attributes(&at("link"), LastLink::Follow).unwrap();
        assert_eq!((found.inode.links, found.inode.size, found.inode.uid), (2, 8, owner.0));
        let set = SetAttributes { mode: Some(0o604), ..SetAttributes::default() };
        files.set_attributes(&at("link"), LastLink::Follow, &set).unwrap();
        assert_eq!(files.attributes(&at("f"), LastLink::Keep).unwrap().inode.mode & 0o7777, 0o604);

        let mut bytes = [0; 16];
        assert_eq!(files.open(&at("link")).unwrap().read_at(3, &mut bytes).unwrap(), 5);
        assert_eq!(&bytes[..5], b"bytes");
        assert_eq!(files.open(&at("a")).err().unwrap().errno(), CoreError::IsDirectory.errno());
        assert!(files.open(&at("no")).err().unwrap().is_not_found());
        assert!(files.find(&at("no"), LastLink::Keep).unwrap().is_none());

        files.rename(&at("f"), &at("a/f"), RenameMode::Replace).unwrap();
        let taken = files.rename(&at("second"), &at("a/f"), RenameMode::NoReplace).unwrap_err();
        assert_eq!((taken.errno(), taken.object), (17, files.object(&at("a/f"))));
        assert!(files.rename(&at("no"), &at("x"), RenameMode::Replace).unwrap_err().is_not_found());
        assert!(files.rename(&at("a"), &at("a/b/x"), RenameMode::Replace).is_err());
        files.rename(&at("link"), &at("a"), RenameMode::Exchange).unwrap();
        let walked: Vec<_> = files.walk(&top).unwrap().map(|entry| entry.unwrap().path).collect();
        let expected = ["", "a", "link", "link/b", "link/f", "second"].map(|name| match name {
            "" => top.clone(),
            name => at(name),
        });
        assert_eq!(walked, expected);

        // A link to a directory is removed and not what it leads to, with a slash behind it too.
        files.symlink("link".as_ref(), &at("to-link"), owner).unwrap();
        files.remove_tree(&at("to-link/")).unwrap();
        for refused in ["link/.", "link/.."] {
            let error = files.remove_tree(&at(refused)).unwrap_err();
            assert_eq!(error.errno(), 22, "{error}");
        }
        assert_eq!(names(&at("link")), ["b", "f"]);
        assert!(files.remove_tree(Path::new("/")).is_err());
        files.remove_tree(&at("link")).unwrap();
        files.remove_file(&at("a")).unwrap();
        assert_eq!(names(&top), ["second"]);
    }
}

#[test]
fn where_no_vexfs_is_mounted_there_is_no_mount() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("/nowhere/at/all", scratch.at("dangling")).unwrap();
    for path in [scratch.at(""), scratch.at("not/there"), scratch.at("dangling"), "x".into()] {
        assert!(Mount::at(&path).unwrap().is_none(), "{}", path.display());
    }
    let file = scratch.at("file");
    std::fs::write(&file, "plain").unwrap();
    let error = Files::Host.open(&file).unwrap().vectors().unwrap_err();
    assert_eq!((error.errno(), error.object.as_os_str()), (25, file.as_os_str()), "{error}");
}

#[test]
fn holes_stay_holes_both_ways() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let file = std::fs::File::create(scratch.at("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", (1 << 30) - 3).unwrap();
    let options = CopyOptions::default();
    image.copy_in(scratch.at("sparse"), "/sparse", &options, &mut |_, _| ()).unwrap();
    let inode = image.metadata("/sparse").unwrap();
    assert_eq!(inode.size, 1 << 30);
    assert!(inode.blocks < 512, "{} blocks", inode.blocks);
    image.copy_out("/sparse", scratch.at("back"), &options, &mut |_, _| ()).unwrap();
    let back = std::fs::metadata(scratch.at("back")).unwrap();
    assert_eq!(back.len(), 1 << 30);
    assert!(back.blocks() < 10_000, "{} sectors", back.blocks());
}

#[test]
fn what_cannot_be_copied_is_named_and_the_rest_is_copied() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let top = scratch.at("tree");
    make_tree(&top);
    image.create_dir_all("/tree/one", 0o755).unwrap();
    let report = image.copy_in(&top, "/tree", &RECURSIVE, &mut |_, _| ()).unwrap();
    assert_eq!(report.failures.len(), 1);
    assert!(report.failures[0].to_string().contains("/tree/one: is a directory"));
    assert!(image.metadata("/tree/sub/deep/three").is_ok());
    let error = image.copy_in(&top, "/x", &CopyOptions::default(), &mut |_, _| ()).unwrap_err();
    assert_eq!(error.core(), Some(&CoreError::IsDirectory));
    let error = image.copy_in(scratch.at("no"), "/x", &RECURSIVE, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.errno(), 2);
    let into = image.copy_from(&image, "/tree", "/tree/sub/x", &RECURSIVE, &mut |_, _| ());
    assert!(matches!(into.unwrap_err().reason, Reason::IntoItself));
}

#[test]
fn a_full_image_refuses_whole_writes_and_goes_on() {
    let scratch = Scratch::new();
    let path = scratch.at("small.vexfs");
    let image = Image::create(&path, Some(4 << 20), &CreateOptions::default()).unwrap();
    image.write_file("/before", &pattern(7, 100_000)).unwrap();
    let file = image.create_file("/big", 0o644).unwrap();
    let block = pattern(8, 256 << 10);
    let mut written = 0;
    let error = loop {
        match file.write_at(written, &block) {
            Ok(()) => written += block.len() as u64,
            Err(error) => break error,
        }
        assert!(written < 8 << 20, "an image of 4 MiB took {written} bytes");
    };
    assert_eq!((error.core(), error.errno()), (Some(&CoreError::NoSpace), 28));
    assert!(written > 1 << 20, "only {written} bytes fitted");
    assert_eq!(file.inode().unwrap().size, written, "a refused write changed the file");
    drop(file);
    image.sync().unwrap();
    assert!(image.read_file("/before").unwrap() == pattern(7, 100_000));
    image.remove_file("/big").unwrap();
    image.write_file("/after", &pattern(9, 1 << 20)).unwrap();
    image.close().unwrap();
    let image = Image::open(&path, &OpenOptions::read_only()).unwrap();
    assert!(image.read_file("/after").unwrap() == pattern(9, 1 << 20));
}

#[test]
fn many_read_while_some_write() {
    let scratch = Scratch::new();
    let image = scratch.image();
    // Each file holds one byte value only, whatever write came last.
    const FILES: u64 = 8;
    const BYTES: usize = 40_000;
    for number in 0..FILES {
        image.write_file(format!("/{number}"), &[b'0'; BYTES]).unwrap();
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let image = &image;
        let done = &done;
        let readers: Vec<_> = (0..4)
            .map(|reader| {
                scope.spawn(move || {
                    let mut reads = 0_u64;
                    while !done.load(Ordering::Acquire) || reads < 50 {
                        let path = format!("/{}", (reads + reader) % FILES);
                        let file = image.open_file(&path).unwrap();
                        let mut bytes = [0; BYTES];
                        assert_eq!(file.read_at(0, &mut bytes).unwrap(), BYTES, "{path}");
                        let counts = image.walk("/").unwrap().filter(|entry| entry.is_ok()).count();
                        assert!(counts as u64 > FILES, "{counts} places");
                        reads += 1;
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..3_u8)
            .map(|writer| {
                scope.spawn(move || {
                    for round in 0..60_u64 {
                        let number = (round * 7 + u64::from(writer)) % FILES;
                        let file = image.open_file(format!("/{number}")).unwrap();
                        file.write_at(0, &[b'a' + writer; BYTES]).unwrap();
                        let own = format!("/own-{writer}");
                        image.write_file(&own, &[writer; 100]).unwrap();
                        let moved = format!("/moved-{writer}");
                        image.rename(&own, &moved, RenameMode::Replace).unwrap();
                        if round % 10 == 0 {
                            image.sync().unwrap();
                        }
                        image.remove_file(&moved).unwrap();
                    }
                })
            })
            .collect();
        let ends: Vec<_> = writers.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Release);
        ends.into_iter().for_each(|end| end.unwrap());
        readers.into_iter().for_each(|thread| thread.join().unwrap());
    });
    image.close().unwrap();
    let image = scratch.reopen();
    for number in 0..FILES {
        let bytes = image.read_file(format!("/{number}")).unwrap();
        assert_eq!(bytes.len(), BYTES);
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "file {number} mixes two writes");
    }
    assert_eq!(image.walk("/").unwrap().count() as u64, FILES + 1);
}

#[test]
fn appends_of_many_threads_to_one_file_lose_nothing() {
    let scratch = Scratch::new();
    let image = scratch.image();
    const PART: usize = 1000;
    let file = image.create_file("/shared", 0o644).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let file = &file;
            scope.spawn(move || {
                for part in 0..50 {
                    let at = (part * 4 + thread) * PART;
                    file.write_at(at as u64, &[thread as u8 + 1; PART]).unwrap();
                }
            });
        }
    });
    let bytes = image.read_file("/shared").unwrap();
    assert_eq!(bytes.len(), 200 * PART);
    for (at, part) in bytes.chunks(PART).enumerate() {
        assert!(part.iter().all(|byte| *byte as usize == at % 4 + 1), "part {at}");
    }
}

#[test]
fn the_commit_thread_makes_changes_durable_without_being_asked() {
    let scratch = Scratch::new();
    scratch.image().close().unwrap();
    let options =
        OpenOptions { commit_interval: Some(Duration::from_millis(5)), ..OpenOptions::default() };
    let image = Image::open(scratch.at("image.vexfs"), &options).unwrap();
    image.write_file("/f", b"durable").unwrap();
    // A copy that is made while a commit goes on is of no one moment: it may have the new superblock
    // and the blocks that were there before. So copies are made until one has the file, which a
    // commit that never comes, or leaves something out, puts off for good.
    let durable = || -> vexfs_engine::Result<Vec<u8>> {
        std::fs::copy(scratch.at("image.vexfs"), scratch.at("snapshot")).unwrap();
        Image::open(scratch.at("snapshot"), &OpenOptions::read_only())?.read_file("/f")
    };
    let start = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        match durable() {
            Ok(bytes) if bytes == b"durable" => break,
            other => assert!(start.elapsed() < Duration::from_secs(60), "{other:?}"),
        }
    }
}

/// Makes the entry `name` of a small image name the inode `number`, as damage or malice would.
fn redirect(path: &Path, name: &[u8], number: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    let field = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let superblock = [64 << 10, 128 << 10].into_iter().max_by_key(|at| field(&bytes, at + 136));
    let superblock = superblock.unwrap();
    // All items fit the root of the tree. An entry is its inode, its type and its name.
    let root = field(&bytes, superblock + 160) as usize * 4096;
    let at = bytes[root..root + 4096].windows(name.len()).position(|found| found == name).unwrap();
    bytes[root + at - 9..][..8].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[root..root + 4096]);
    bytes[superblock + 176..][..4].copy_from_slice(&sum.to_le_bytes());
    bytes[superblock + 8..][..4].fill(0);
    let sum = crc32c::crc32c(&bytes[superblock..superblock + 4096]);
    bytes[superblock + 8..][..4].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn walks_copies_and_removals_end_when_a_directory_is_below_itself() {
    let scratch = Scratch::new();
    let image = scratch.image();
    let top = image.create_dir("/top", 0o755).unwrap();
    image.create_dir_all("/top/middle/below", 0o755).unwrap();
    image.close().unwrap();
    redirect(&scratch.at("image.vexfs"), b"below", top);

    let image = Image::open(scratch.at("image.vexfs"), &OpenOptions::default()).unwrap();
    let damaged = |error: Option<&CoreError>| matches!(error, Some(CoreError::Corrupt { .. }));
    let visited: Vec<_> = image.walk("/").unwrap().take(100).collect();
    assert_eq!(visited.len(), 4);
    assert!(damaged(visited[3].as_ref().unwrap_err().core()));
    let report = image.copy_from(&image, "/top", "/copy", &RECURSIVE, &mut |_, _| {}).unwrap();
    assert_eq!((report.directories, report.failures.len()), (2, 1));
    assert!(damaged(report.failures[0].core()));
    let error = image.remove_tree("/top").unwrap_err();
    assert!(damaged(error.core()), "{error}");
}

#[test]
fn a_tree_whose_path_ends_in_dots_is_not_emptied() {
    let scratch = Scratch::new();
    let image = scratch.image();
    image.create_dir_all("/a/b/c", 0o755).unwrap();
    image.write_file("/a/b/file", b"kept").unwrap();
    image.symlink("a", "/link").unwrap();
    let paths =
        ["/.", "/..", "/a/.", "/a/..", "/a/b/../", "/a/b/c/..//", "/a/./", "/link/.", "/link/b/.."];
    for path in paths {
        let error = image.remove_tree(path).unwrap_err();
        assert!(matches!(error.core(), Some(CoreError::Invalid(_))), "{path}: {error}");
        assert_eq!(image.walk("/").unwrap().count(), 6, "{path}");
    }
    assert!(image.remove_tree("/").is_err());
    assert_eq!(image.walk("/").unwrap().count(), 6);
    image.remove_tree("/a/b/../b/").unwrap();
    assert_eq!(image.walk("/").unwrap().count(), 3);
}
