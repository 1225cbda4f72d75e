// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What the tests share.

use rustix::fs::{Mode, OFlags};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A device and where it is mounted.
pub struct Mounted {
    /// The block device.
    pub device: PathBuf,
    /// The mount point.
    pub directory: PathBuf,
}

/// Runs a program, which must succeed, and returns what it printed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn c_string(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("a path has no zero byte")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

impl Mounted {
    /// Makes a new file system on the device.
    pub fn format(&self) {
        run("mkfs.vexfs", &["-q", "-f", text(&self.device)]);
    }

    /// Mounts it; `options` as `mount -o` has them.
    pub fn mount(&self, options: &str) {
        self.try_mount(options).expect("mount");
    }

    /// Mounts it, or tells why not.
    pub fn try_mount(&self, options: &str) -> Result<(), std::io::Error> {
        let (device, directory) = (c_string(&self.device), c_string(&self.directory));
        let options = CString::new(options).expect("no zero byte");
        // SAFETY: all are strings that live through the call.
        let result = unsafe {
            libc::mount(
                device.as_ptr(),
                directory.as_ptr(),
                c"vexfs".as_ptr(),
                0,
                options.as_ptr().cast(),
            )
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Mounts it again with these flags and options.
    pub fn remount(&self, flags: libc::c_ulong, options: &str) -> Result<(), std::io::Error> {
        let directory = c_string(&self.directory);
        let options = CString::new(options).expect("no zero byte");
        // SAFETY: as for `try_mount`.
        let result = unsafe {
            libc::mount(
                c"none".as_ptr(),
                directory.as_ptr(),
                c"vexfs".as_ptr(),
                libc::MS_REMOUNT | flags,
                options.as_ptr().cast(),
            )
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }

    /// Unmounts it.
    pub fn unmount(&self) {
        assert!(self.unmount_if_mounted(), "umount: {}", std::io::Error::last_os_error());
    }

    /// Unmounts it; false if that failed.
    pub fn unmount_if_mounted(&self) -> bool {
        // SAFETY: the path lives through the call.
        unsafe { libc::umount2(c_string(&self.directory).as_ptr(), 0) == 0 }
    }

    /// Unmounts it and mounts it again.
    pub fn cycle(&self) {
        self.unmount();
        self.mount("");
    }

    /// The checker finds nothing to say.
    pub fn check(&self) {
        run("fsck.vexfs", &["-n", "-f", text(&self.device)]);
    }
}

/// `slow` where the processor is emulated or the kernel watches every lock, where all takes several times as
/// long, and `usual` elsewhere.
pub fn where_slow(slow: u64, usual: u64) -> u64 {
    let processors = std::fs::read_to_string("/proc/cpuinfo").expect("/proc/cpuinfo");
    let watched = Path::new("/proc/lockdep").exists();
    if watched || processors.contains("QEMU TCG") { slow } else { usual }
}

/// Far more than any test takes that has as many rounds as are usual.
const TEST_TIME_MAX: Duration = Duration::from_secs(400);

/// Runs a test, tells how it went and how long it took, and counts it as passed or failed. A test that
/// does not end ends this program, after telling what everybody is at.
pub fn counted(name: &str, counts: &mut (u32, u32), test: impl FnOnce()) -> bool {
    let start = Instant::now();
    let (_ended, end) = channel::<()>();
    if vexfs_simulation::rounds(0) == 0 {
        let name = name.to_owned();
        std::thread::spawn(move || {
            if end.recv_timeout(TEST_TIME_MAX) == Err(RecvTimeoutError::Timeout) {
                println!("FAILED  {name}: not ended after {} s", TEST_TIME_MAX.as_secs());
                tell_what_is_going_on();
                std::process::exit(1);
            }
        });
    }
    let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
    let (verdict, seconds) =
        (if passed { "ok     " } else { "FAILED " }, start.elapsed().as_secs());
    match seconds {
        0 => println!("{verdict} {name}"),
        _ => println!("{verdict} {name} ({seconds} s)"),
    }
    *(if passed { &mut counts.0 } else { &mut counts.1 }) += 1;
    passed
}

/// Prints what each task waits for, and has the kernel log who is blocked and what the processors do.
fn tell_what_is_going_on() {
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        for task in std::fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let stack = read("stack");
            // Of a kernel thread that waits for work there is nothing to say.
            if !stack.contains("worker_thread") && !stack.contains("smpboot_thread_fn") {
                let stat = read("stat");
                let who: Vec<&str> = stat.split(' ').take(3).collect();
                println!("{}\n{stack}", who.join(" "));
            }
        }
    }
    for key in ["w", "l", "m"] {
        let _ = std::fs::write("/proc/sysrq-trigger", key);
    }
}

/// Whether this is user-mode Linux.
pub fn is_user_mode() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").expect("cpuinfo").contains("User Mode Linux")
}

/// Empties the page cache and the caches of inodes and names.
pub fn drop_caches() {
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("caches can be dropped");
}

/// Whether the kernel's log has a line with all of these.
pub fn is_logged(words: &[&str]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let log = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).expect("/dev/kmsg");
    let mut record = [0; 8192];
    loop {
        match rustix::io::read(&log, &mut record) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&record[..bytes]);
                if words.iter().all(|word| text.contains(word)) {
                    return true;
                }
            }
            // Overwritten meanwhile.
            Err(rustix::io::Errno::PIPE) => {}
            Err(_) => return false,
        }
    }
}

/// Bytes that look random and depend on the seed alone.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Numbers that depend on the seed alone.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next, below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Opens for reading and writing, and makes the file.
pub fn create(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All bytes of a file.
pub fn content(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("readable");
    bytes
}

/// The bytes are these; shown is where they are not.
pub fn assert_same(found: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: length");
    // Whole first, as comparing bytes one by one takes long.
    if found != wanted
        && let Some(at) = (0..found.len()).find(|at| found[*at] != wanted[*at])
    {
        panic!("{what}: byte {at} is {:#x} and not {:#x}", found[at], wanted[at]);
    }
}

/// The errno of a result that must be an error.
pub fn errno<T>(result: Result<T, rustix::io::Errno>) -> i32 {
    result.err().expect("an error").raw_os_error()
}

/// Memory that is a file's bytes.
pub struct Window {
    start: *mut u8,
    length: usize,
}

impl Window {
    /// A new one of a file's first bytes.
    pub fn new(file: &File, length: usize) -> Self {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping, to which there will be no references.
        let start =
            unsafe { rustix::mm::mmap(anywhere, length, protection, MapFlags::SHARED, file, 0) };
        Self { start: start.expect("mmap").cast(), length }
    }

    /// Stores a byte.
    pub fn set(&self, at: usize, value: u8) {
        assert!(at < self.length);
        // SAFETY: within the mapping, to which there are no references.
        unsafe { self.start.add(at).write_volatile(value) };
    }

    /// A program stores a byte; whether it can, or is ended by SIGBUS.
    pub fn store(&self, at: usize, value: u8) -> bool {
        // SAFETY: the child does nothing but store within the mapping and end.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe {
                self.start.add(at).write_volatile(value);
                libc::_exit(0)
            }
        }
        let mut status = 0;
        // SAFETY: the child is this process's own, and not waited for yet.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGBUS;
        assert!(killed || status == 0, "the child ended with {status:#x}");
        !killed
    }

    /// How many of its pages are in memory.
    pub fn resident(&self) -> usize {
        let mut pages = vec![0; self.length.div_ceil(4096)];
        // SAFETY: the mapping is this process's own, and there is a byte for each of its pages.
        let result = unsafe { libc::mincore(self.start.cast(), self.length, pages.as_mut_ptr()) };
        assert_eq!(result, 0, "mincore: {}", std::io::Error::last_os_error());
        pages.iter().filter(|page| *page & 1 == 1).count()
    }

    /// Writes some of its bytes to a file, which may be its own.
    pub fn send(
        &self,
        range: std::ops::Range<usize>,
        to: &File,
        at: u64,
    ) -> std::io::Result<usize> {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: within the mapping, to which there are no references; the kernel reads what it can.
        let written = unsafe {
            let from = self.start.add(range.start).cast();
            libc::pwrite(to.as_raw_fd(), from, range.len(), at as libc::off_t)
        };
        usize::try_from(written).map_err(|_| std::io::Error::last_os_error())
    }

    /// The kernel stores a byte, the first of a file; whether it can.
    pub fn receive(&self, at: usize, from: &File) -> bool {
        // SAFETY: it writes one byte within the mapping, to which there are no references.
        let received = unsafe { libc::pread(from.as_raw_fd(), self.start.add(at).cast(), 1, 0) };
        let error = std::io::Error::last_os_error();
        assert!(received == 1 || error.raw_os_error() == Some(libc::EFAULT), "{error}");
        received == 1
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping of this, to which there are no references.
        unsafe { rustix::mm::munmap(self.start.cast(), self.length) }.expect("munmap");
    }
}

/// Memory behind which there is none.
pub struct MemoryThatEnds {
    start: *mut u8,
    length: usize,
}

impl MemoryThatEnds {
    /// So many bytes, whole pages.
    pub fn new(length: usize) -> Self {
        let anywhere = std::ptr::null_mut();
        let all = length + 4096;
        // SAFETY: a new mapping, to which there will be no references; its last page is taken back.
        let start = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            let start = rustix::mm::mmap_anonymous(anywhere, all, protection, MapFlags::PRIVATE)
                .expect("mmap");
            rustix::mm::mprotect(start.byte_add(length), 4096, MprotectFlags::empty())
                .expect("mprotect");
            start
        };
        Self { start: start.cast(), length }
    }

    /// Stores all of its bytes.
    pub fn fill(&self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.length);
        // SAFETY: within the mapping, to which there are no references.
        unsafe { self.start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// Writes `told` bytes to a file, of which the first `there` are the last that there are.
    pub fn write(
        &self,
        file: &File,
        there: usize,
        told: usize,
        at: usize,
    ) -> std::io::Result<usize> {
        // SAFETY: the kernel reads what it can read.
        let written = unsafe {
            let from = self.start.add(self.length - there);
            libc::pwrite(file.as_raw_fd(), from.cast(), told, at as libc::off_t)
        };
        usize::try_from(written).map_err(|_| std::io::Error::last_os_error())
    }
}

impl Drop for MemoryThatEnds {
    fn drop(&mut self) {
        // SAFETY: the mapping of this, to which there are no references.
        unsafe { rustix::mm::munmap(self.start.cast(), self.length + 4096) }.expect("munmap");
    }
}

/// What extents a file has.
pub const FIEMAP: u32 = 0xc020_660b;

/// A `struct fiemap_extent`.
pub struct Extent {
    /// First byte in the file.
    pub start: u64,
    /// First byte on the device.
    pub place: u64,
    /// Bytes.
    pub length: u64,
    /// `FIEMAP_EXTENT_`.
    pub flags: u32,
}

/// The first extents of a file, at most 16.
pub fn extents(file: &File) -> Vec<Extent> {
    const COUNT: usize = 16;
    let mut map = [0u64; 4 + 7 * COUNT];
    map[1] = u64::MAX;
    map[3] = COUNT as u64;
    // SAFETY: the request says for how many extents there is room.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, map.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let told = (map[2] >> 32) as usize;
    let words = map[4..].chunks(7).take(told);
    words.map(|w| Extent { start: w[0], place: w[1], length: w[2], flags: w[5] as u32 }).collect()
}

/// Where on the device the first byte of a file is.
pub fn place_of(file: &File) -> u64 {
    extents(file).first().expect("an extent").place
}

/// Names and positions from `position` on, at most `most`, as getdents64(2) gives them.
pub fn list(directory: &File, position: i64, most: usize) -> Vec<(String, i64)> {
    let mut entries = Vec::new();
    let mut buffer = vec![0u8; 2048];
    rustix::fs::seek(directory, rustix::fs::SeekFrom::Start(position as u64)).expect("seek");
    while entries.len() < most {
        // SAFETY: the buffer is as long as is said.
        let bytes = unsafe {
            let (start, length) = (buffer.as_mut_ptr(), buffer.len());
            libc::syscall(libc::SYS_getdents64, directory.as_raw_fd(), start, length)
        };
        assert!(bytes >= 0, "{}", std::io::Error::last_os_error());
        let mut rest = &buffer[..bytes as usize];
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let next = i64::from_ne_bytes(rest[8..16].try_into().expect("eight bytes"));
            let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
            let name = rest[19..length].split(|byte| *byte == 0).next().unwrap_or(&[]);
            entries.push((String::from_utf8_lossy(name).into_owned(), next));
            rest = &rest[length..];
        }
    }
    entries.truncate(most);
    entries
}

/// An access control list as setxattr(2) takes it: version 2, and (tag, permissions, id) each.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}
