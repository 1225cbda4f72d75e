// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A file system in use: opening and making one, the commit, and the frame of every operation.

use crate::collection::Collections;
use crate::error::{DeviceError, Error, Result};
use crate::host::{Committed, Host, LockClass, Timestamp};
use crate::layout::*;
use crate::lock::{Lock, ReadGuard};
use crate::node::{BlockPointer, Node};
use crate::open_file::OpenFiles;
use crate::space::Run;
use crate::superblock::{self, KNOWN_READ_ONLY, Superblock};
use crate::tree::{Frozen, Tree};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use vexfs_memory::{Shared, try_box, zeroed_bytes};

/// How to open a file system.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Never write to the device.
    pub read_only: bool,
    /// Tell the device of blocks that are free again.
    pub discard: bool,
    /// Bytes of clean tree nodes to keep in memory.
    pub cache_bytes: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { read_only: false, discard: false, cache_bytes: 64 << 20 }
    }
}

/// How to make a file system.
#[derive(Clone, Copy, Debug)]
pub struct FormatOptions {
    /// Identity; zeros draw a random one (version 4).
    pub uuid: [u8; 16],
    /// Name: UTF-8, padded with zeros.
    pub label: [u8; 64],
    /// Block size as a power of two, 12 to 16.
    pub block_log2: u32,
    /// Bytes to use of the device; 0 uses all.
    pub bytes: u64,
    /// Owner of the root directory: user and group.
    pub owner: (u32, u32),
    /// Permissions of the root directory.
    pub mode: u32,
}

impl Default for FormatOptions {
    fn default() -> Self {
        Self { uuid: [0; 16], label: [0; 64], block_log2: 12, bytes: 0, owner: (0, 0), mode: 0o755 }
    }
}

/// What `statfs` tells, and more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSystemStatus {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// Blocks of the file system.
    pub blocks: u64,
    /// Blocks not in use, counting what the open transaction has freed.
    pub blocks_free: u64,
    /// Of these, blocks that ordinary operations may use.
    pub blocks_available: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Inodes that may still be made.
    pub inodes_free: u64,
    /// Number of the last published state.
    pub generation: u64,
    /// How often a writer has taken the file system over.
    pub writer_generation: u64,
    /// Identity.
    pub uuid: [u8; 16],
    /// Name, padded with zeros.
    pub label: [u8; 64],
    /// Feature bits: compatible, read-only compatible, incompatible.
    pub features: [u64; 3],
    /// When it was made, seconds since 1970.
    pub created_seconds: i64,
    /// When the last state was published, seconds since 1970.
    pub published_seconds: i64,
    /// Whether it may be written to.
    pub read_only: bool,
    /// Bytes that tree nodes take in memory.
    pub cache_bytes: u64,
    /// Levels of the tree.
    pub tree_levels: u32,
    /// Most bytes of a file that lies in the tree.
    pub inline_bytes_max: u32,
}

/// Most inodes of a file system.
pub const INODES_MAX: u64 = 1 << 32;

/// A transaction with this many changed nodes is committed without being asked, or with half as many as
/// memory may have of those that are not changed.
const DIRTY_NODES_MAX: usize = 4096;
/// With fewer than these it is not.
const DIRTY_NODES_MIN: usize = 256;

/// How long a writer that has seen the device to be its own takes it to be: a hundred commits in that
/// time need not each read the superblocks.
const OWNED_NS: u64 = 100_000_000;

/// The last published state, as the commit knows it.
struct Published {
    superblock: Superblock,
    /// Whether this writer has taken the file system over.
    claimed: bool,
    /// When the device was last seen to be this writer's, by the monotonic clock.
    owned_ns: u64,
    /// The state's mirror was written and no flush has followed yet.
    mirror_in_flight: bool,
    /// Nodes of a commit that failed. Their blocks hold something else: held here, they stay in the
    /// cache, and everything can still be read.
    unwritten: Option<Vec<(u64, Shared<Node>)>>,
}

/// A file system in use. All methods take `&self` and may be called from many threads.
pub struct FileSystem {
    pub(crate) host: Shared<Host>,
    read_only: AtomicBool,
    discard: bool,
    /// Changed nodes of a transaction that is committed without being asked.
    dirty_nodes_max: usize,
    /// The on-disk state is unknown, or another's: nothing is written any more.
    pub(crate) poisoned: AtomicBool,
    /// When memory for collections was wanted back urgently; 0 for never.
    pub(crate) memory_short_ns: AtomicU64,
    /// The failure of the device that poisoned it: errno, 0 for none, and byte offset. Stored before
    /// `poisoned`, once.
    failure: (AtomicI32, AtomicU64),
    claimed: AtomicBool,
    /// Orphans could not be taken apart when they became such.
    pub(crate) unreaped: AtomicBool,
    published: Lock<Published>,
    pub(crate) tree: Lock<Tree>,
    pub(crate) open_files: Lock<OpenFiles>,
    pub(crate) collections: Lock<Collections>,
}

impl FileSystem {
    /// Makes a new, empty file system on the device; what was there is lost.
    ///
    /// Errors: `Invalid` for options out of range, `NoSpace` when the device is too small.
    pub fn format(host: Host, options: &FormatOptions) -> Result<()> {
        if !BLOCK_LOG2_RANGE.contains(&options.block_log2) {
            return Err(Error::Invalid("block size must be a power of two from 4096 to 65536"));
        }
        let device_bytes = host.device.size_bytes();
        let bytes = if options.bytes == 0 { device_bytes } else { options.bytes };
        if bytes > device_bytes {
            return Err(Error::Invalid("size is larger than the device"));
        }
        let blocks = bytes >> options.block_log2;
        if blocks << options.block_log2 < FILESYSTEM_BYTES_MIN.max(256 << options.block_log2) {
            return Err(Error::Invalid("a file system needs at least 256 blocks"));
        }
        if blocks > FILESYSTEM_BLOCKS_MAX {
            return Err(Error::Invalid("a file system has at most 2^48 blocks"));
        }
        let mut uuid = options.uuid;
        if uuid == [0; 16] {
            host.random.fill(&mut uuid);
            if let Some(byte) = uuid.get_mut(6) {
                *byte = (*byte & 0x0f) | 0x40;
            }
            if let Some(byte) = uuid.get_mut(8) {
                *byte = (*byte & 0x3f) | 0x80;
            }
        }
        let (mut hash_key, mut writer) = ([0; 16], [0; 8]);
        host.random.fill(&mut hash_key);
        host.random.fill(&mut writer);
        let now = host.clock.now();
        let host = Shared::try_new(host)?;
        let superblock = try_box(Superblock {
            uuid,
            label: options.label,
            features_compatible: 0,
            features_read_only: 0,
            features_incompatible: 0,
            block_log2: options.block_log2,
            blocks,
            generation: 0,
            writer_generation: 0,
            writer: u64::from_le_bytes(writer),
            root: BlockPointer::default(),
            blocks_free: blocks,
            next_object: FIRST_OBJECT,
            next_collection: 1,
            inodes: 0,
            created_seconds: now.seconds,
            published_seconds: now.seconds,
            hash_key,
        })?;
        let frozen = plant(&host, &superblock, options, now)?;

        // Old copies must not outlive what they named.
        let zeros = zeroed_bytes(SUPERBLOCK_BYTES)?;
        for copy in 0..SUPERBLOCK_COPIES {
            host.device.write(superblock.offset(copy), &zeros)?;
        }
        host.device.flush()?;
        let Some(frozen) = frozen else { return Ok(()) };
        for (block, node) in &frozen.nodes {
            host.device.write(block << superblock.block_log2, node.bytes())?;
        }
        host.device.flush()?;
        // Published twice, so that all four copies are there from the first.
        let mut state = frozen.superblock;
        let mut buffer = superblock::buffer()?;
        for _ in 0..2 {
            state.publish(&host, &mut buffer)?;
            state.mirror(&host, &mut buffer)?;
            state.generation += 1;
        }
        host.device.flush()?;
        Ok(())
    }

    /// Opens the file system on the device. Reading only, nothing is ever written; otherwise nothing
    /// is before the first change.
    ///
    /// Errors: `NotVexfs`, `UnknownFeatures`, damage of all superblock copies or of the tree's
    /// root, a device smaller than the file system, and `ReadOnly` when a feature that is not
    /// known here forbids writing.
    pub fn open(host: Host, options: &OpenOptions) -> Result<Self> {
        Self::open_shared(Shared::try_new(host)?, options)
    }

    /// As [`FileSystem::open`], for who goes on using the host.
    pub(crate) fn open_shared(host: Shared<Host>, options: &OpenOptions) -> Result<Self> {
        let copies = superblock::read_copies(&host)?;
        let superblock = superblock::newest(&copies)?;
        if superblock.blocks << superblock.block_log2 > host.device.size_bytes() {
            return Err(crate::error::corrupt(
                0,
                "the device is smaller than the file system on it",
            ));
        }
        if !options.read_only && superblock.features_read_only & !KNOWN_READ_ONLY != 0 {
            return Err(Error::ReadOnly);
        }
        let tree = open_tree(&host, superblock, options.cache_bytes)?;
        let cached_nodes = options.cache_bytes >> superblock.block_log2;
        let locks = &*host.locks;
        Ok(Self {
            read_only: AtomicBool::new(options.read_only),
            discard: options.discard,
            dirty_nodes_max: (cached_nodes / 2).clamp(DIRTY_NODES_MIN, DIRTY_NODES_MAX),
            poisoned: AtomicBool::new(false),
            memory_short_ns: AtomicU64::new(0),
            failure: (AtomicI32::new(0), AtomicU64::new(0)),
            claimed: AtomicBool::new(false),
            unreaped: AtomicBool::new(false),
            published: Lock::try_new(
                locks,
                LockClass::Commit,
                Published {
                    superblock: *superblock,
                    claimed: false,
                    owned_ns: 0,
                    mirror_in_flight: false,
                    unwritten: None,
                },
            )?,
            open_files: Lock::try_new(locks, LockClass::OpenFiles, OpenFiles::default())?,
            collections: Lock::try_new(locks, LockClass::Collections, Collections::default())?,
            tree,
            host,
        })
    }

    /// Whether nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire) || self.poisoned.load(Ordering::Acquire)
    }

    /// Forbids or allows writing, for a host that mounts again with other options. What was done
    /// before is to be committed first, and no operation may be under way.
    ///
    /// Errors: `ReadOnly` when a feature that is not known here forbids writing.
    pub fn set_read_only(&self, read_only: bool) -> Result<()> {
        let features = self.reader().state.features_read_only;
        if !read_only && features & !KNOWN_READ_ONLY != 0 {
            return Err(Error::ReadOnly);
        }
        self.read_only.store(read_only, Ordering::Release);
        Ok(())
    }

    /// Writes nothing any more: every operation from now on fails, and what was not committed is
    /// lost, as if the power had gone.
    pub fn stop(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// The failure of the device since which nothing is written any more (`Poisoned`). Whoever was
    /// told of it then may have been a host's own thread.
    pub fn device_failure(&self) -> Option<DeviceError> {
        if !self.poisoned.load(Ordering::Acquire) {
            return None;
        }
        let (errno, offset) = &self.failure;
        let errno = errno.load(Ordering::Relaxed);
        (errno != 0).then(|| DeviceError { errno, offset: offset.load(Ordering::Relaxed) })
    }

    /// Writes nothing any more, because of `error`. Under the lock of `published`.
    fn poison(&self, error: Error) -> Error {
        if let Error::Device(failure) = error {
            self.failure.1.store(failure.offset, Ordering::Relaxed);
            self.failure.0.store(error.errno(), Ordering::Relaxed);
        }
        self.poisoned.store(true, Ordering::Release);
        error
    }

    /// Space, counts and identity.
    pub fn status(&self) -> FileSystemStatus {
        let tree = self.tree.read();
        let (state, published) = (&tree.state, &tree.published);
        let available = (state.blocks_free)
            .saturating_sub(tree.reserve_blocks())
            .saturating_sub(tree.space.in_flight())
            .saturating_sub(tree.space.promised());
        FileSystemStatus {
            block_bytes: state.block_bytes() as u32,
            blocks: state.blocks,
            blocks_free: state.blocks_free,
            blocks_available: crate::hole::most_to_preallocate(&tree, available),
            inodes: state.inodes,
            inodes_free: INODES_MAX.saturating_sub(state.inodes),
            generation: published.generation,
            writer_generation: published.writer_generation,
            uuid: state.uuid,
            label: state.label,
            features: [
                state.features_compatible,
                state.features_read_only,
                state.features_incompatible,
            ],
            created_seconds: state.created_seconds,
            published_seconds: published.published_seconds,
            read_only: self.is_read_only(),
            cache_bytes: tree.memory_bytes() as u64,
            tree_levels: u32::from(state.root.level) + 1,
            inline_bytes_max: crate::inline::bytes_max(&tree) as u32,
        }
    }

    /// How many clean tree nodes are in memory. Like [`FileSystem::drop_cached_nodes`] it waits for no
    /// lock, as whoever is short of memory must not; 0 then.
    pub fn cached_nodes(&self) -> u64 {
        self.tree.try_read().map_or(0, |tree| tree.cached_nodes())
    }

    /// Drops up to `count` clean tree nodes from memory and returns how many.
    pub fn drop_cached_nodes(&self, count: u64) -> u64 {
        self.tree.try_read().map_or(0, |tree| tree.drop_cached_nodes(count))
    }

    /// Sets the label: at most 64 bytes of UTF-8 without zeros.
    pub fn set_label(&self, label: &str) -> Result<()> {
        let mut bytes = [0; 64];
        if label.len() > bytes.len() || label.bytes().any(|byte| byte == 0) {
            return Err(Error::Invalid("label must be at most 64 bytes of UTF-8 without zeros"));
        }
        crate::bytes::copy(&mut bytes, label.as_bytes());
        self.operation(0, true, |tree| {
            tree.state.label = bytes;
            Ok(())
        })
    }

    /// The tree, to read.
    pub(crate) fn reader(&self) -> ReadGuard<'_, Tree> {
        self.tree.read()
    }

    /// Runs `change` as one operation: all of it happens, or none. `items` is how many items of
    /// the tree it may change; blocks of data come on top through `blocks`. A `privileged`
    /// operation frees space and may dip into the reserve.
    pub(crate) fn operation<R>(
        &self,
        items: u64,
        privileged: bool,
        change: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        self.operation_with_blocks(items, 0, privileged, change)
    }

    /// As [`FileSystem::operation`], for a change that takes the place of something of about the
    /// same size: it has to work on a full file system, but leaves a quarter of the reserve, so
    /// that deleting works even after many that were a little larger.
    pub(crate) fn operation_in_place<R>(
        &self,
        items: u64,
        change: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        let kept = self.reader().reserve_blocks() / 4;
        self.operation_with_blocks(items, kept, true, change)
    }

    pub(crate) fn operation_with_blocks<R>(
        &self,
        items: u64,
        blocks: u64,
        privileged: bool,
        change: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        self.operation_as_promised(items, blocks, 0, privileged, change)
    }

    /// As [`FileSystem::operation_with_blocks`], with `promised` blocks of those that were promised, which
    /// nobody else gets in between. They stay promised on error.
    pub(crate) fn operation_as_promised<R>(
        &self,
        items: u64,
        blocks: u64,
        promised: u64,
        privileged: bool,
        change: impl FnOnce(&mut Tree) -> Result<R>,
    ) -> Result<R> {
        self.claim()?;
        let mut commits = 0;

        loop {
            let mut tree = self.tree.write();
            if self.poisoned.load(Ordering::Acquire) {
                return Err(Error::Poisoned);
            }
            let wanted = blocks.saturating_add(tree.blocks_for_items(items));
            let full = tree.dirty_nodes() >= self.dirty_nodes_max;
            tree.space.unpromise(promised);
            let ready = match full && commits == 0 {
                true => Ok(false),
                false => tree.ensure(wanted, privileged),
            };
            if ready == Ok(true) {
                tree.begin();
                let result = match change(&mut tree) {
                    Ok(value) => tree.finish().map(|()| value),
                    Err(error) => {
                        tree.abort();
                        Err(error)
                    }
                };
                if result.is_err() {
                    tree.space.promise(promised);
                }
                break result;
            }
            tree.space.promise(promised);
            ready?;
            drop(tree);
            // What a transaction frees may be used once no superblock copy names a state that
            // used it, two states later.
            if commits == 3 {
                return Err(Error::NoSpace);
            }
            commits += 1;
            self.commit_state(true)?;
        }
    }

    /// Takes the file system over, before the first change: a new state, the same but for its
    /// writer. Another writer of before notices at its next commit.
    pub(crate) fn claim(&self) -> Result<()> {
        if self.claimed.load(Ordering::Acquire) && !self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.read_only.load(Ordering::Acquire) {
            return Err(Error::ReadOnly);
        }
        let mut published = self.published.write();
        if published.claimed {
            return Ok(());
        }
        // A takeover that failed halfway is not tried again.
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        let mut buffer = superblock::buffer()?;
        published.owned_ns = self.host.clock.monotonic_ns();
        superblock::check_writer(&self.host, &published.superblock, &mut buffer)?;
        let mut writer = [0; 8];
        self.host.random.fill(&mut writer);
        let mut state = published.superblock;
        state.generation += 1;
        state.writer_generation += 1;
        state.writer = u64::from_le_bytes(writer);
        state.published_seconds = self.host.clock.now().seconds;
        // The mirror of the state before may have been lost with the power. Without it, machines
        // that stop soon after each start would leave the mirrors further and further behind.
        let written = (published.superblock.mirror(&self.host, &mut buffer))
            .and_then(|()| state.publish(&self.host, &mut buffer))
            .and_then(|()| state.mirror(&self.host, &mut buffer));
        if let Err(error) = written {
            return Err(self.poison(error));
        }
        published.superblock = state;
        published.claimed = true;
        published.mirror_in_flight = true;
        let mut tree = self.tree.write();
        *tree.published = state;
        tree.state.generation = state.generation + 1;
        tree.state.writer = state.writer;
        tree.state.writer_generation = state.writer_generation;
        self.claimed.store(true, Ordering::Release);
        Ok(())
    }

    /// Makes everything that operations have done so far durable.
    ///
    /// Errors: `Device`, after which nothing is written any more (`Poisoned`); `OtherWriter` when
    /// another has taken the device over.
    pub fn commit(&self) -> Result<()> {
        if self.read_only.load(Ordering::Acquire) {
            return Ok(());
        }
        self.commit_state(false)
    }

    /// Publishes until every superblock copy names the present state.
    pub(crate) fn republish(&self) -> Result<()> {
        self.claim()?;
        self.commit_state(true)?;
        self.commit_state(true)?;
        self.settle()
    }

    /// Makes the last superblock copy durable that the last commit wrote, which the next commit
    /// would otherwise do: for who closes the file system. A commit does not wait for it, because
    /// its state is found without.
    ///
    /// Errors: as [`FileSystem::commit`].
    pub fn settle(&self) -> Result<()> {
        let mut published = self.published.write();
        if !published.mirror_in_flight {
            return Ok(());
        }
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        if let Err(error) = self.host.device.flush() {
            // Whatever else was on its way is lost as well, and a later flush would not say so.
            return Err(self.poison(error.into()));
        }
        published.mirror_in_flight = false;
        Ok(())
    }

    /// Publishes the open transaction. `always` publishes even when nothing was changed, which
    /// lets go of what the state before the last one used.
    fn commit_state(&self, always: bool) -> Result<()> {
        let mut published = self.published.write();
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        // Memory is asked for before the transaction is closed: from then on a failure poisons.
        let mut buffer = superblock::buffer()?;
        let start_ns = self.host.clock.monotonic_ns();
        let (mut state, nodes) = {
            let mut tree = self.tree.write();
            match tree.freeze()? {
                Some(frozen) => (frozen.superblock, Some(frozen.nodes)),
                None if always && published.claimed => {
                    let state = try_box(*tree.state)?;
                    tree.state.generation += 1;
                    (state, None)
                }
                None => return Ok(()),
            }
        };
        state.published_seconds = self.host.clock.now().seconds;
        let result = (|| {
            if start_ns.saturating_sub(published.owned_ns) >= OWNED_NS {
                superblock::check_writer(&self.host, &published.superblock, &mut buffer)?;
                published.owned_ns = start_ns;
            }
            if let Some(nodes) = &nodes {
                write_nodes(&self.host, state.block_log2, nodes)?;
            }
            state.publish(&self.host, &mut buffer)?;
            state.mirror(&self.host, &mut buffer)
        })();
        if let Err(error) = result {
            // Part of the state may be on the device: what is in memory and what is there can no
            // longer be told to agree.
            published.unwritten = nodes;
            return Err(self.poison(error));
        }
        published.superblock = *state;
        published.mirror_in_flight = true;
        self.host.observer.committed(&Committed {
            generation: state.generation,
            nodes: nodes.as_ref().map_or(0, |nodes| nodes.len() as u64),
            nanoseconds: self.host.clock.monotonic_ns().saturating_sub(start_ns),
        });
        drop(nodes);
        *self.tree.write().published = *state;
        loop {
            let runs = self.tree.write().space.take_retired(state.generation - 1);
            let Some(runs) = runs else { return Ok(()) };
            // It takes a device long, and nobody else has to wait for it.
            if self.discard {
                self.discard_runs(state.block_log2, &runs);
            }
            self.tree.write().space.release(runs);
        }
    }

    /// Tells the device of blocks that nothing names. One that cannot discard loses nothing but the
    /// hint, and is not asked about the rest.
    fn discard_runs(&self, block_log2: u32, runs: &[Run]) {
        for run in runs {
            let (offset, length) = (run.start << block_log2, run.length << block_log2);
            if self.host.device.discard(offset, length).is_err() {
                return;
            }
        }
    }
}

/// Nodes that the device is given at once.
const NODES_AT_ONCE: usize = 24;

/// Writes the nodes of a closed transaction, which is no time to ask for memory.
#[inline(never)] // its frame must not add to that of the commit
fn write_nodes(host: &Host, block_log2: u32, nodes: &[(u64, Shared<Node>)]) -> Result<()> {
    for some in nodes.chunks(NODES_AT_ONCE) {
        let mut writes: [(u64, &[u8]); NODES_AT_ONCE] = [(0, &[]); NODES_AT_ONCE];
        for (write, (block, node)) in writes.iter_mut().zip(some) {
            *write = (block << block_log2, node.bytes());
        }
        host.device.write_batch(writes.get(..some.len()).unwrap_or(&writes))?;
    }
    Ok(())
}

/// The tree of a new file system, to be written.
#[inline(never)] // its frame must not add to that of `format`
fn plant(
    host: &Shared<Host>,
    superblock: &Superblock,
    options: &FormatOptions,
    now: Timestamp,
) -> Result<Option<Frozen>> {
    let mut tree = Tree::open(host.clone(), superblock, 1 << 20)?;
    for number in 0..tree.space.group_count() {
        // Only groups with reserved blocks need to be in memory, and those to allocate from.
        let reserved =
            (0..SUPERBLOCK_COPIES).any(|copy| superblock.copy_block(copy) / GROUP_BLOCKS == number);
        if number == 0 || number == tree.space.first_node_group() || reserved {
            tree.space.load(number, None)?;
        }
    }
    for run in superblock.reserved_runs() {
        tree.space.reserve(run)?;
        tree.state.blocks_free = tree.state.blocks_free.saturating_sub(run.length);
    }
    tree.begin();
    tree.plant()?;
    crate::inode::make_root(&mut tree, options.owner, options.mode, now)?;
    tree.finish()?;
    tree.freeze()
}

/// The tree of a published state, behind its lock.
#[inline(never)] // its frame must not add to that of `open`
fn open_tree(
    host: &Shared<Host>,
    superblock: &Superblock,
    cache_bytes: usize,
) -> Result<Lock<Tree>> {
    let tree = Tree::open(host.clone(), superblock, cache_bytes)?;
    tree.node(&superblock.root)?;
    Lock::try_new(&*host.locks, LockClass::Tree, tree)
}
