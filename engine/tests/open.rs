// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Opening: locks between processes, images that cannot be written, and damaged ones.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vexfs_engine::core::layout::{SUPERBLOCK_BYTES, SUPERBLOCK_OFFSETS, SuperblockLayout};
use vexfs_engine::{CoreError, CreateOptions, Image, OpenOptions, Reason};

const SIZE: u64 = 4 << 20;

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image.vexfs")
    }

    /// An image with one directory in it.
    fn image(&self) -> PathBuf {
        let options = CreateOptions { label: "test".into(), ..CreateOptions::default() };
        let image = Image::create(self.path(), Some(SIZE), &options).unwrap();
        image.create_dir("/kept", 0o750).unwrap();
        image.close().unwrap();
        self.path()
    }
}

fn read_only(path: &Path) -> Result<Image, vexfs_engine::Error> {
    Image::open(path, &OpenOptions::read_only())
}

fn writable(path: &Path) -> Result<Image, vexfs_engine::Error> {
    Image::open(path, &OpenOptions::default())
}

fn refusal(path: &Path) -> CoreError {
    let error = read_only(path).err().expect("opened");
    *error.core().unwrap_or_else(|| panic!("not a refusal of the core: {error}"))
}

/// Where the four superblock copies are.
fn copy_offsets() -> [u64; 4] {
    let [first, second] = SUPERBLOCK_OFFSETS;
    [first, second, SIZE - first, SIZE - second]
}

/// Overwrites part of an image behind the back of the file system.
fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn read_superblock(path: &Path, copy: usize) -> [u8; SUPERBLOCK_BYTES] {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    let file = std::fs::File::open(path).unwrap();
    file.read_exact_at(&mut bytes, copy_offsets()[copy]).unwrap();
    bytes
}

/// Changes a superblock copy and makes its checksum right again.
fn patch_superblock(path: &Path, copy: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = read_superblock(path, copy);
    change(&mut bytes);
    bytes[8..12].fill(0);
    let sum = crc32c::crc32c(&bytes);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    patch(path, copy_offsets()[copy], &bytes);
}

#[test]
fn what_is_made_is_there_after_reopening() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let image = read_only(&path).unwrap();
    assert_eq!(image.metadata("/kept").unwrap().mode & 0o7777, 0o750);
    let status = image.status();
    assert_eq!(&status.label[..5], b"test\0");
    assert_eq!(u64::from(status.block_bytes) * status.blocks, SIZE);
    assert!(image.create_dir("/new", 0o755).is_err());
}

#[test]
fn every_block_size_makes_a_file_system_that_opens() {
    for block_bytes in [4096, 8192, 16_384, 32_768, 65_536] {
        let scratch = Scratch::new();
        let (path, size) = (scratch.path(), 256 * u64::from(block_bytes));
        let options = CreateOptions { block_bytes, ..CreateOptions::default() };
        let error = Image::create(&path, Some(size - 1), &options).err().unwrap();
        assert!(matches!(error.core(), Some(CoreError::Invalid(_))), "{error}");
        Image::create(&path, Some(size), &options).unwrap().create_dir("/kept", 0o755).unwrap();
        let image = writable(&path).unwrap();
        assert_eq!(image.status().block_bytes, block_bytes);
        assert!(image.metadata("/kept").unwrap().is_directory());
    }
    for block_bytes in [0, 2048, 4095, 131_072] {
        let scratch = Scratch::new();
        let options = CreateOptions { block_bytes, ..CreateOptions::default() };
        let error = Image::create(scratch.path(), Some(SIZE), &options).err().unwrap();
        assert!(matches!(error.core(), Some(CoreError::Invalid(_))), "{error}");
        assert!(!scratch.path().exists(), "a refused image leaves a file behind");
    }
}

#[test]
fn create_overwrites_only_when_told() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let options = CreateOptions::default();
    for size in [None, Some(SIZE)] {
        let error = Image::create(&path, size, &options).err().unwrap();
        assert_eq!(error.core(), Some(&CoreError::Exists));
    }
    let overwrite = CreateOptions { overwrite: true, ..options };
    let error = Image::create(&path, Some(SIZE / 2), &overwrite).err().unwrap();
    assert!(matches!(error.reason, Reason::Size { present: SIZE, .. }), "{error}");
    assert!(read_only(&path).unwrap().metadata("/kept").is_ok(), "a refusal changes nothing");
    let image = Image::create(&path, Some(2 * SIZE), &overwrite).unwrap();
    assert_eq!(image.device_bytes(), 2 * SIZE);
    assert!(image.metadata("/kept").unwrap_err().is_not_found());
}

#[test]
fn labels_out_of_range_are_refused() {
    let scratch = Scratch::new();
    for label in ["x".repeat(65), "with\0nul".into()] {
        let options = CreateOptions { label, ..CreateOptions::default() };
        assert!(Image::create(scratch.path(), Some(SIZE), &options).is_err());
    }
    let options = CreateOptions { label: "x".repeat(64), ..CreateOptions::default() };
    let image = Image::create(scratch.path(), Some(SIZE), &options).unwrap();
    assert_eq!(image.status().label, [b'x'; 64]);
    image.set_label("short").unwrap();
    assert!(image.set_label(&"x".repeat(65)).is_err());
    image.close().unwrap();
    assert_eq!(&read_only(&scratch.path()).unwrap().status().label[..6], b"short\0");
}

#[test]
fn a_second_opener_in_this_process_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let image = writable(&path).unwrap();
    for error in [read_only(&path).err(), writable(&path).err()] {
        let error = error.expect("opened twice");
        assert!(matches!(error.reason, Reason::InUse), "{error}");
        assert_eq!(error.errno(), 16);
    }
    let overwrite = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let error = Image::create(&path, None, &overwrite).err().unwrap();
    assert!(matches!(error.reason, Reason::InUse), "{error}");
    image.close().unwrap();
    let readers = (read_only(&path).unwrap(), read_only(&path).unwrap());
    assert!(matches!(writable(&path).err().unwrap().reason, Reason::InUse));
    drop(readers);
    writable(&path).unwrap();
}

/// The name of the variable that makes this test program the second process.
const SECOND: &str = "VEXFS_TEST_SECOND_PROCESS";

/// Not a test of its own: what the second process runs. Opens the image, says so, and holds it
/// until its input ends.
#[test]
fn second_process() {
    let Some(path) = std::env::var_os(SECOND) else { return };
    let image = writable(Path::new(&path)).unwrap();
    image.create_dir("/second", 0o755).unwrap();
    println!("\nopened");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    image.close().unwrap();
}

#[test]
fn a_second_process_is_refused_until_the_first_is_done() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["second_process", "--exact", "--nocapture"])
        .env(SECOND, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "opened"), "the second process did not open it");
    for error in [read_only(&path).err(), writable(&path).err()] {
        let error = error.expect("opened while in use");
        assert_eq!(error.to_string(), format!("{}: in use by another process", path.display()));
    }
    drop(child.stdin.take());
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    assert!(writable(&path).unwrap().metadata("/second").is_ok());
}

/// A child holds copies of this process's descriptors from its start until it runs its program.
#[test]
fn a_closed_image_is_free_while_other_threads_start_processes() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(Command::new("true").status().unwrap().success());
            }
        });
        let failure = (0..2000).find_map(|_| writable(&path).err());
        done.store(true, Ordering::Relaxed);
        assert!(failure.is_none(), "{}", failure.unwrap());
    });
}

#[test]
fn a_killed_process_leaves_no_lock_behind() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["second_process", "--exact", "--nocapture"])
        .env(SECOND, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "opened"), "the second process did not open it");
    child.kill().unwrap();
    child.wait().unwrap();
    let image = writable(&path).unwrap();
    assert!(image.metadata("/kept").is_ok());
    image.create_dir("/after", 0o755).unwrap();
    image.close().unwrap();
}

#[test]
fn reading_changes_no_byte_and_needs_no_right_to_write() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let before = std::fs::read(&path).unwrap();
    let set_mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set_mode(&path, 0o444);
    set_mode(scratch.directory.path(), 0o555);
    let image = read_only(&path).unwrap();
    assert!(image.metadata("/kept").is_ok());
    let error = image.create_dir("/new", 0o755).unwrap_err();
    assert_eq!(error.core(), Some(&CoreError::ReadOnly));
    assert_eq!(error.errno(), 30);
    image.sync().unwrap();
    image.close().unwrap();
    set_mode(scratch.directory.path(), 0o755);
    assert!(std::fs::read(&path).unwrap() == before, "a read-only open wrote");
}

#[test]
fn opening_for_writing_writes_nothing_before_the_first_change() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let before = std::fs::read(&path).unwrap();
    let image = writable(&path).unwrap();
    assert!(image.metadata("/kept").is_ok());
    image.close().unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "an open without a change wrote");
}

#[test]
fn what_is_no_image_is_refused_with_what_it_is() {
    let scratch = Scratch::new();
    let directory = scratch.directory.path();
    let error = read_only(directory).err().unwrap();
    assert!(matches!(error.reason, Reason::NotImage), "{error}");
    let error = read_only(Path::new("/dev/null")).err().unwrap();
    assert!(matches!(error.reason, Reason::NotImage), "{error}");
    let error = read_only(&directory.join("missing")).err().unwrap();
    assert_eq!(error.errno(), 2);
    let path = directory.join("file");
    for bytes in [0, 1, 4096, 70_000, SIZE as usize] {
        std::fs::write(&path, vec![0x55; bytes]).unwrap();
        assert!(matches!(refusal(&path), CoreError::NotVexfs(_)), "{bytes} bytes");
    }
}

#[test]
fn an_image_smaller_than_it_claims_is_refused() {
    for kept in [SIZE - 1, SIZE - 4096, SIZE / 2, 200 << 10] {
        let scratch = Scratch::new();
        let path = scratch.image();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(kept).unwrap();
        let error = refusal(&path);
        assert!(error.is_damage(), "{kept} bytes: {error:?}");
        assert!(writable(&path).is_err());
    }
}

#[test]
fn an_image_that_is_cut_while_open_gives_errors() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let image = writable(&path).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let result = image.create_dir("/new", 0o755).and_then(|_| image.sync());
    assert!(result.is_err(), "a lost image was written to");
}

#[test]
fn any_damaged_byte_of_one_superblock_copy_is_no_loss() {
    let scratch = Scratch::new();
    let path = scratch.image();
    for copy in 0..4 {
        let good = read_superblock(&path, copy);
        for (byte, value) in good.iter().enumerate() {
            patch(&path, copy_offsets()[copy] + byte as u64, &[!value]);
            let image = match read_only(&path) {
                Ok(image) => image,
                Err(error) => panic!("byte {byte} of copy {copy}: {error}"),
            };
            if let Err(error) = image.metadata("/kept") {
                panic!("byte {byte} of copy {copy}: {error}");
            }
            patch(&path, copy_offsets()[copy] + byte as u64, &[*value]);
        }
    }
}

#[test]
fn four_damaged_superblock_copies_are_damage_and_not_an_empty_device() {
    let scratch = Scratch::new();
    let path = scratch.image();
    for offset in copy_offsets() {
        patch(&path, offset + 100, &[0xff; 16]);
    }
    assert!(matches!(refusal(&path), CoreError::Checksum { .. }));
    for offset in copy_offsets() {
        patch(&path, offset, &[0; SUPERBLOCK_BYTES]);
    }
    assert!(matches!(refusal(&path), CoreError::NotVexfs(_)));
}

#[test]
fn unknown_features_are_refused_as_their_class_says() {
    const READ_ONLY_FEATURES: usize = std::mem::offset_of!(SuperblockLayout, features_read_only);
    const INCOMPATIBLE: usize = std::mem::offset_of!(SuperblockLayout, features_incompatible);
    const COMPATIBLE: usize = std::mem::offset_of!(SuperblockLayout, features_compatible);
    let set = |path: &Path, field: usize, copies: std::ops::Range<usize>| {
        for copy in copies {
            patch_superblock(path, copy, |bytes| bytes[field + 7] |= 0x80);
        }
    };
    let scratch = Scratch::new();
    let path = scratch.image();
    set(&path, COMPATIBLE, 0..4);
    drop(writable(&path).unwrap());

    set(&path, READ_ONLY_FEATURES, 0..4);
    drop(read_only(&path).unwrap());
    assert_eq!(writable(&path).err().unwrap().core(), Some(&CoreError::ReadOnly));

    // One copy of a newer version is enough: the others are out of date.
    set(&path, INCOMPATIBLE, 0..1);
    assert_eq!(refusal(&path), CoreError::UnknownFeatures(1 << 63));
    assert!(read_only(&path).err().unwrap().to_string().contains("newer version"));
}

#[test]
fn another_version_of_the_format_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.image();
    for copy in 0..4 {
        patch_superblock(&path, copy, |bytes| bytes[12] = 2);
    }
    assert!(matches!(refusal(&path), CoreError::NotSupported(_)));
}

#[test]
fn superblocks_with_impossible_fields_and_right_checksums_are_refused() {
    let fields = [
        (std::mem::offset_of!(SuperblockLayout, block_log2), 4, "block size"),
        (std::mem::offset_of!(SuperblockLayout, copy), 4, "copy"),
        (std::mem::offset_of!(SuperblockLayout, blocks), 8, "blocks"),
        (std::mem::offset_of!(SuperblockLayout, generation), 8, "generation"),
        (std::mem::offset_of!(SuperblockLayout, writer_generation), 8, "writer generation"),
        (std::mem::offset_of!(SuperblockLayout, root), 8, "root"),
        (std::mem::offset_of!(SuperblockLayout, blocks_free), 8, "free blocks"),
        (std::mem::offset_of!(SuperblockLayout, next_object), 8, "next object"),
    ];
    for (field, length, name) in fields {
        for value in [0x00, 0xff] {
            let scratch = Scratch::new();
            let path = scratch.image();
            for copy in 0..4 {
                patch_superblock(&path, copy, |bytes| bytes[field..field + length].fill(value));
            }
            // No free block and no writer are possible, and copy 0 does say 0 for its number.
            if value == 0 && ["free blocks", "writer generation", "copy"].contains(&name) {
                assert!(read_only(&path).is_ok(), "{name} of 0");
                continue;
            }
            let error = refusal(&path);
            assert!(error.is_damage(), "{name} of {value:#x}: {error:?}");
        }
    }
}

#[test]
fn the_failure_of_a_background_commit_is_told_to_whoever_changes_something_next() {
    let scratch = Scratch::new();
    let path = scratch.image();
    let interval = Some(Duration::from_millis(20));
    let options = OpenOptions { commit_interval: interval, ..OpenOptions::default() };
    let image = Image::open(&path, &options).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    image.create_dir("/before", 0o755).unwrap();
    image.sync().unwrap();
    // After so long a writer looks whether the device is still its own. What is read behind the end
    // fails as an unreadable disk does.
    std::thread::sleep(Duration::from_millis(200));
    file.set_len(0).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !image.is_read_only() {
        assert!(Instant::now() < deadline, "no commit has failed");
        let _ = image.create_dir("/more", 0o755);
        std::thread::sleep(Duration::from_millis(5));
    }
    let error = image.create_dir("/after", 0o755).unwrap_err();
    assert_eq!(error.core(), Some(&CoreError::Poisoned));
    assert!(matches!(error.reason, Reason::Stopped(_)), "{error}");
    assert!(error.to_string().contains("the device failed at byte"), "{error}");
    let failure = vexfs_engine::core::DeviceError { errno: 28, offset: 4096 };
    assert_eq!(CoreError::Device(failure).errno(), 28);
}
