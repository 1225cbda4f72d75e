// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A workload that notes what is promised to it: threads that make, replace, change, move and remove
//! files with attributes and vectors in two common directories, and search.
//!
//! Names begin with the number of the thread they belong to. Names with an `a` are files that are
//! replaced whole, by a rename; with a `b` those that are changed in place; with an `s` those made
//! without a rename or an fsync, and made durable with a sync; with an `x` and a `t` nothing is said.

use crate::content::{self, ATTRIBUTE, BLOCK, BLOCKS};
use crate::journal::Journal;
use crate::support::{Numbers, is_user_mode};
use crate::vectors;
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Result, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The directories that it uses.
pub const DIRECTORIES: [&str; 2] = ["d0", "d1"];
/// Names of a kind that a thread has in a directory.
const NAMES: u64 = 12;

/// Something done before an operation (true) and after it.
pub type Around<'a> = dyn Fn(&mut Numbers, bool) + Sync + 'a;

/// What the threads share.
pub struct Workload<'a> {
    /// Where it works.
    pub directory: &'a Path,
    /// Where it notes promises.
    pub journal: &'a Journal,
    /// Random numbers follow from it.
    pub seed: u64,
    /// Versions are above it.
    pub base: u64,
    /// It ends when this is set.
    pub stop: &'a AtomicBool,
    /// Errors that are taken, with all that follows from them.
    pub expected: &'a [i32],
    /// Operations done, well or not.
    pub done: AtomicU64,
    /// Those that failed.
    pub failed: AtomicU64,
    /// Called before each operation and after it.
    pub around: Option<&'a Around<'a>>,
}

/// Makes what a workload needs, and returns the collection's number.
pub fn prepare(directory: &Path) -> Result<u32> {
    for name in DIRECTORIES {
        match fs::create_dir(directory.join(name)) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            result => result?,
        }
    }
    let top = File::open(directory)?;
    let number = vectors::collection(&top)?;
    rustix::fs::syncfs(&top)?;
    Ok(number)
}

impl Workload<'_> {
    /// Runs `threads` threads until they are stopped, or each has done `operations`.
    pub fn run(&self, collection: u32, threads: u64, operations: u64) {
        std::thread::scope(|scope| {
            for number in 0..threads {
                let mut thread = Thread {
                    shared: self,
                    number,
                    collection,
                    numbers: Numbers((self.seed * 64 + number).wrapping_mul(0x9e37_79b9) | 1),
                    version: self.base + number,
                    step: threads,
                    known: BTreeMap::new(),
                    floors: BTreeMap::new(),
                    awaiting_sync: Vec::new(),
                };
                scope.spawn(move || {
                    for _ in 0..operations {
                        if self.stop.load(Ordering::Relaxed) {
                            break;
                        }
                        thread.operation();
                    }
                });
            }
        });
    }
}

struct Thread<'a> {
    shared: &'a Workload<'a>,
    number: u64,
    collection: u32,
    numbers: Numbers,
    version: u64,
    step: u64,
    /// The version of each name, as far as it is known.
    known: BTreeMap<String, u64>,
    /// A name gets no version below this.
    floors: BTreeMap<String, u64>,
    /// Names that the next sync makes durable.
    awaiting_sync: Vec<(String, u64)>,
}

impl Thread<'_> {
    fn operation(&mut self) {
        if let Some(around) = self.shared.around {
            around(&mut self.numbers, true);
        }
        let (what, result) = match self.numbers.below(100) {
            0..24 => ("replace", self.replace()),
            24..40 => ("change", self.change()),
            40..48 => ("rename", self.rename()),
            48..60 => ("remove", self.remove()),
            60..74 => ("make", self.make()),
            74..77 => ("sync", self.sync()),
            77..90 => ("disturb", self.disturb()),
            _ => ("search", self.search()),
        };
        if let Some(around) = self.shared.around {
            around(&mut self.numbers, false);
        }
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result {
            self.shared.failed.fetch_add(1, Ordering::Relaxed);
            let expected =
                error.raw_os_error().is_some_and(|code| self.shared.expected.contains(&code));
            if !expected {
                // Whoever waits for the threads shall see at once which it was.
                println!("FAILED  {what}: {error}");
                std::process::exit(1);
            }
            // What was written may be lost, so nothing is known of what was not promised.
            self.awaiting_sync.clear();
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += self.step;
        self.version
    }

    fn name(&mut self, kind: char) -> String {
        let directory = DIRECTORIES[self.numbers.below(2) as usize];
        format!("{directory}/{}{kind}{}", self.number, self.numbers.below(NAMES))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.join(name)
    }

    /// What of a directory's entries is done so far is durable when this returns.
    fn sync_directory(&self, name: &str) -> Result<()> {
        File::open(self.path(name).parent().expect("a directory"))?.sync_all()
    }

    fn open(&self, name: &str) -> Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.path(name))
    }

    /// Writes a whole file in one of several ways, with attribute and vectors.
    fn write_whole(&mut self, name: &str, version: u64) -> Result<File> {
        let file = self.open(name)?;
        let bytes = content::whole(version);
        match self.numbers.below(4) {
            // User-mode Linux does not tell other processors that a page may not be written to any more,
            // so whatever the file system, a store while it is written back does not reach the device.
            0 => write_mapped(&file, &bytes, self.shared.expected.is_empty() && !is_user_mode())?,
            1 => {
                for (number, piece) in bytes.chunks(7001).enumerate() {
                    file.write_all_at(piece, number as u64 * 7001)?;
                }
            }
            2 => {
                rustix::fs::fallocate(
                    &file,
                    rustix::fs::FallocateFlags::KEEP_SIZE,
                    0,
                    bytes.len() as u64,
                )?;
                (&file).write_all(&bytes)?;
            }
            _ => (&file).write_all(&bytes)?,
        }
        rustix::fs::fsetxattr(&file, ATTRIBUTE, &content::attribute(version), XattrFlags::empty())?;
        vectors::put(&file, self.collection, version)?;
        Ok(file)
    }

    /// Puts a new file in the place of what is there.
    fn replace(&mut self) -> Result<()> {
        let (name, version) = (self.name('a'), self.next_version());
        let directory = &name[..2];
        let new = format!("{directory}/{}t{version}", self.number);
        let written = self.write_whole(&new, version).and_then(|file| file.sync_all());
        let renamed = written.and_then(|()| fs::rename(self.path(&new), self.path(&name)));
        if renamed.is_err() {
            // It may be there or not.
            let _ = fs::remove_file(self.path(&new));
            return renamed;
        }
        self.known.insert(name.clone(), version);
        self.floors.insert(name.clone(), version);
        if self.numbers.below(3) > 0 {
            self.sync_directory(&name)?;
            self.shared.journal.promise(format!("has {name} {version}"));
        }
        Ok(())
    }

    /// Overwrites a file of blocks, and replaces its vectors.
    fn change(&mut self) -> Result<()> {
        let (name, version) = (self.name('b'), self.next_version());
        let file = self.open(&name)?;
        if self.numbers.below(2) == 0 {
            let all: Vec<u8> = (0..BLOCKS).flat_map(|at| content::block(version, at)).collect();
            file.write_all_at(&all, 0)?;
        } else {
            for at in (0..BLOCKS).rev() {
                file.write_all_at(&content::block(version, at), (at * BLOCK) as u64)?;
            }
        }
        vectors::put(&file, self.collection, version)?;
        if self.numbers.below(2) == 0 {
            file.sync_all()?
        } else {
            file.sync_data()?
        }
        self.sync_directory(&name)?;
        self.shared.journal.promise(format!("has {name} {version}"));
        Ok(())
    }

    /// Renames a file over an older one, maybe in the other directory.
    fn rename(&mut self) -> Result<()> {
        let (from, to) = (self.name('a'), self.name('a'));
        let Some(version) = self.known.get(&from).copied() else { return Ok(()) };
        if from == to || self.floors.get(&to).is_some_and(|floor| *floor >= version) {
            return Ok(());
        }
        self.shared.journal.announce(format!("moving {from} {to} {version}"));
        if let Err(error) = fs::rename(self.path(&from), self.path(&to)) {
            // It stays where it was until something else happens to it.
            self.shared.journal.announce(format!("going {from}"));
            return Err(error);
        }
        self.known.remove(&from);
        self.known.insert(to.clone(), version);
        self.floors.insert(to.clone(), version);
        if self.numbers.below(2) == 0 {
            self.sync_directory(&to)?;
            self.sync_directory(&from)?;
            self.shared.journal.promise(format!("has {to} {version}"));
            self.shared.journal.promise(format!("gone {from} {version}"));
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        let kind = if self.numbers.below(4) == 0 { 'b' } else { 'a' };
        let name = self.name(kind);
        let version = self.next_version();
        self.shared.journal.announce(format!("going {name}"));
        self.known.remove(&name);
        self.floors.insert(name.clone(), version);
        match fs::remove_file(self.path(&name)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            result => result?,
        }
        if self.numbers.below(2) == 0 {
            self.sync_directory(&name)?;
            self.shared.journal.promise(format!("gone {name} {version}"));
        }
        Ok(())
    }

    /// Makes a file that a later sync makes durable, or removes such a file.
    fn make(&mut self) -> Result<()> {
        if self.awaiting_sync.len() > 20 {
            return self.sync();
        }
        let version = self.next_version();
        let name = format!("{}/{}s{version}", DIRECTORIES[version as usize % 2], self.number);
        self.write_whole(&name, version)?;
        self.awaiting_sync.push((name, version));
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        rustix::fs::syncfs(File::open(self.shared.directory)?)?;
        let synced = std::mem::take(&mut self.awaiting_sync);
        for (name, version) in &synced {
            self.shared.journal.promise(format!("has {name} {version}"));
        }
        // All but a few of them go again.
        for (name, _) in synced.into_iter().skip(2) {
            self.shared.journal.announce(format!("going {name}"));
            fs::remove_file(self.path(&name))?;
        }
        Ok(())
    }

    /// Changes nothing of which anything is said, by what shares blocks and space with the rest.
    fn disturb(&mut self) -> Result<()> {
        let name = self.name('x');
        let path = self.path(&name);
        match self.numbers.below(6) {
            0 => {
                let from = self.name('b');
                if let Ok(source) = File::open(self.path(&from)) {
                    rustix::fs::ioctl_ficlone(self.open(&name)?, &source)?;
                }
            }
            1 => {
                let at = self.numbers.below(1 << 20);
                self.open(&name)?.write_all_at(&content::block(at, 1), at)?;
            }
            2 => self.open(&name)?.set_len(self.numbers.below(1 << 20))?,
            3 => {
                use rustix::fs::FallocateFlags as Flags;
                let how = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
                rustix::fs::fallocate(
                    self.open(&name)?,
                    how,
                    self.numbers.below(1 << 18),
                    1 << 17,
                )?;
            }
            4 => {
                let link = path.with_extension("link");
                self.open(&name)?;
                fs::hard_link(&path, &link)
                    .and_then(|()| fs::remove_file(&link))
                    .or_else(ignore)?;
            }
            _ => fs::remove_file(&path).or_else(ignore)?,
        }
        Ok(())
    }

    /// Finds the vectors nearest to those of some version.
    fn search(&mut self) -> Result<()> {
        let top = File::open(self.shared.directory)?;
        let query = vectors::vector(self.numbers.below(self.version.max(1)), 0);
        let (_, hits) = vectors::search(&top, self.collection, &query, 5, 0)?;
        let distances = hits.iter().map(|hit| f32::from_bits(hit.distance));
        if !distances.is_sorted() {
            return Err(Error::other(format!("hits out of order: {hits:?}")));
        }
        Ok(())
    }
}

/// What is there already, or is not any more, is no failure.
fn ignore(error: Error) -> Result<()> {
    use std::io::ErrorKind::{AlreadyExists, NotFound};
    if matches!(error.kind(), AlreadyExists | NotFound) { Ok(()) } else { Err(error) }
}

/// Writes a file through a mapping. Unless `direct` is true the kernel does the stores: one that fails
/// would end the process.
fn write_mapped(file: &File, bytes: &[u8], direct: bool) -> Result<()> {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
    file.set_len(bytes.len() as u64)?;
    // Space is taken first: without it, a store into the mapping would end the process.
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes.len() as u64)?;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    // SAFETY: a new mapping, at an address of the kernel's choice, of a file that is as long.
    let at = unsafe { mmap(std::ptr::null_mut(), bytes.len(), protection, flags, file, 0)? };
    let stored = if direct {
        // SAFETY: the mapping is as long as the bytes, and nobody else knows of it.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at.cast::<u8>(), bytes.len()) };
        Ok(())
    } else {
        let memory = OpenOptions::new().write(true).open("/proc/self/mem");
        // That there is no memory for a page is EIO here.
        let stored = memory.and_then(|memory| memory.write_all_at(bytes, at as u64));
        stored.map_err(|_| Error::from_raw_os_error(libc::ENOMEM))
    };
    // SAFETY: the mapping is there, and not used after it is given back.
    let synced = unsafe { msync(at, bytes.len(), MsyncFlags::SYNC) };
    // SAFETY: as above.
    unsafe { munmap(at, bytes.len())? };
    stored.and(Ok(synced?))
}
