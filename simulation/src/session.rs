// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A file system in use beside its model, and the record of what each commit has made durable.

use crate::allocation::exempt;
use crate::device::SimulatedDevice;
use crate::host::host;
use crate::model::{Content, Node, State, Vector};
use crate::observation::{Observation, observe, read_file};
use crate::power::CrashState;
use crate::vector::{self, vectors_of};
use crate::workload::Change;
use std::collections::BTreeMap;
use std::sync::Arc;
use vexfs_core::*;

/// Permissions and owner of the files that workloads make.
const OWNER: (u32, u32) = (1000, 100);

/// A state that was, or may have been, published.
pub struct Point {
    /// Events of the device's record when publishing began.
    pub begun: usize,
    /// Events when it was done; `None` if it failed, in which case it may show at any time.
    pub returned: Option<usize>,
    /// The states that it may have published: one, or two when an operation had to commit
    /// on its way.
    pub states: Vec<State>,
    /// Everything in that state, times and all, when there is just one.
    pub observation: Option<Observation>,
}

/// A file system and its model.
pub struct Session {
    /// The device it is on.
    pub device: SimulatedDevice,
    /// The file system.
    pub fs: FileSystem,
    /// What it must hold.
    pub state: State,
    /// Inodes without names that are held open.
    pub orphans: BTreeMap<u64, Arc<Node>>,
    /// How often inodes are held open.
    pub held: BTreeMap<u64, u32>,
    /// What was published, in order.
    pub points: Vec<Point>,
    claimed: bool,
}

/// Whether an error tells of the host or the device, not of the request.
pub fn is_environment(error: &Error) -> bool {
    matches!(
        error,
        Error::NoSpace
            | Error::OutOfMemory
            | Error::Device(_)
            | Error::Poisoned
            | Error::OtherWriter
            | Error::ReadOnly
    )
}

impl Session {
    /// Opens the device, which must hold `state`, for writing.
    pub fn open(device: &SimulatedDevice, state: State, seed: u64) -> Result<Self> {
        let options = OpenOptions { discard: true, ..OpenOptions::default() };
        Self::open_with(device, state, seed, &options)
    }

    /// The same, with options.
    pub fn open_with(
        device: &SimulatedDevice,
        state: State,
        seed: u64,
        options: &OpenOptions,
    ) -> Result<Self> {
        let fs = FileSystem::open(host(device, seed), options)?;
        let events = device.event_count();
        let point = Point {
            begun: events,
            returned: Some(events),
            states: vec![state.clone()],
            observation: None,
        };
        Ok(Self {
            device: device.clone(),
            fs,
            state,
            orphans: BTreeMap::new(),
            held: BTreeMap::new(),
            points: vec![point],
            claimed: false,
        })
    }

    /// Makes a change. An error is one of the host's or the device's, after which the model is as
    /// it was; a change that must be refused, and is, counts as made.
    pub fn apply(&mut self, change: &Change) -> Result<()> {
        self.apply_by(change, |call| call())
    }

    /// The same, with the call into the core made by `caller`.
    pub fn apply_by(
        &mut self,
        change: &Change,
        caller: impl FnOnce(&dyn Fn() -> Result<u64>) -> Result<u64>,
    ) -> Result<()> {
        let possible = self.is_possible(change);
        let begun = self.device.event_count();
        let before = (self.fs.status().generation, self.state.clone());
        let result = caller(&|| execute(&self.fs, change));
        match result {
            Ok(number) => {
                assert!(possible, "{change:?} must be refused");
                self.perform(change, number);
            }
            Err(error) if is_environment(&error) => {
                if possible {
                    self.follow_steps(change);
                }
            }
            Err(error) => assert!(!possible, "{change:?} is refused with {error:?}"),
        }
        if self.fs.status().generation != before.0 {
            let mut states = vec![before.1];
            // The first change takes the file system over: a state that differs in nothing else.
            let taken_over = !std::mem::replace(&mut self.claimed, true);
            if !taken_over || self.fs.status().generation != before.0 + 1 {
                states.push(self.state.clone());
            }
            let returned = Some(self.device.event_count());
            self.points.push(Point { begun, returned, states, observation: None });
        }
        match result {
            Err(error) if is_environment(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Commits, having checked that the file system holds what the model says.
    pub fn commit(&mut self) -> Result<()> {
        let observation = self.check();
        self.commit_observed(Some(observation))
    }

    /// Commits. `observation` is of the present state, if it is to be compared after a cut.
    pub fn commit_observed(&mut self, observation: Option<Observation>) -> Result<()> {
        let begun = self.device.event_count();
        let generation = self.fs.status().generation;
        let result = self.fs.commit();
        if result.is_ok() && self.fs.status().generation == generation {
            // Nothing was published: nothing has changed since something was.
            let published = self.points.last().and_then(|point| point.states.last());
            assert_eq!(published.and_then(|state| state.difference(&self.state)), None);
            return result;
        }
        let returned = result.is_ok().then(|| self.device.event_count());
        self.points.push(Point { begun, returned, states: vec![self.state.clone()], observation });
        result
    }

    /// Checks that the file system holds what the model says.
    pub fn check(&self) -> Observation {
        let found = observe(&self.fs).unwrap_or_else(|problem| panic!("live: {problem}"));
        if let Some(difference) = self.state.difference(&found.state) {
            panic!("the model and the live file system differ: {difference}");
        }
        for (number, node) in &self.orphans {
            let bytes = read_file(&self.fs, *number);
            assert!(
                bytes.as_ref().ok() == node.bytes(),
                "file {number}, which is held open, has other bytes: {:?}",
                bytes.map(|bytes| bytes.len())
            );
        }
        let held: Vec<_> = self.orphans.keys().copied().collect();
        assert!(
            held.iter().all(|number| found.orphans.contains(number)),
            "files held open are gone: {held:?} of {:?}",
            found.orphans
        );
        found
    }

    /// Checks what was found after a cut against what was published before it, and returns the
    /// state it is.
    pub fn judge(
        &self,
        crash: &CrashState,
        found: &Observation,
    ) -> std::result::Result<State, String> {
        self.judge_from(crash, found, 0)
    }

    /// The same for the state before the newest, which must be there as well.
    pub fn judge_older(
        &self,
        crash: &CrashState,
        found: &Observation,
    ) -> std::result::Result<State, String> {
        self.judge_from(crash, found, 1)
    }

    fn judge_from(
        &self,
        crash: &CrashState,
        found: &Observation,
        back: usize,
    ) -> std::result::Result<State, String> {
        let last = self
            .points
            .iter()
            .rposition(|point| point.returned.is_some_and(|returned| returned <= crash.cut))
            .ok_or("nothing was ever published")?;
        let mut problem = String::new();
        for (at, point) in self.points.iter().enumerate().skip(last.saturating_sub(back)) {
            if at > last && point.begun >= crash.cut {
                break;
            }
            for state in &point.states {
                match state.difference(&found.state) {
                    Some(difference) => {
                        problem.push_str(&format!("\n  not state {at}: {difference}"));
                    }
                    None => match &point.observation {
                        Some(whole) if whole.inodes != found.inodes => {
                            problem.push_str(&format!("\n  inodes are not those of state {at}"));
                        }
                        Some(whole) if whole.vectors != found.vectors => {
                            problem.push_str(&format!("\n  vectors are not those of state {at}"));
                        }
                        _ => return Ok(state.clone()),
                    },
                }
            }
        }
        Err(format!("what is found was never published, or is too old:{problem}"))
    }

    fn is_possible(&self, change: &Change) -> bool {
        let state = &self.state;
        let known = |number: &u64| state.nodes.get(number);
        match change {
            Change::Create { parent, name, .. } | Change::CreateSymlink { parent, name, .. } => {
                state.can_add(*parent, name)
            }
            Change::CreateUnnamed => true,
            Change::Link { number, parent, name } => {
                let linkable = known(number).is_some_and(|node| !node.is_directory())
                    || self.orphans.contains_key(number);
                linkable && state.can_add(*parent, name)
            }
            Change::Unlink { parent, name } => state.can_remove(*parent, name, false),
            Change::RemoveDirectory { parent, name } => state.can_remove(*parent, name, true),
            Change::Rename { from, to, mode } => {
                state.can_rename((from.0, &from.1), (to.0, &to.1), *mode)
            }
            Change::SetMode { number, .. } => {
                known(number).is_some() || self.orphans.contains_key(number)
            }
            Change::SetXattr { number, name, mode, .. } => {
                known(number).is_some_and(|node| match mode {
                    XattrMode::Set => true,
                    XattrMode::Create => !node.attributes.contains_key(name),
                    XattrMode::Replace => node.attributes.contains_key(name),
                })
            }
            Change::RemoveXattr { number, name } => {
                known(number).is_some_and(|node| node.attributes.contains_key(name))
            }
            Change::Open { number } => known(number).is_some() || self.orphans.contains_key(number),
            Change::Close { .. } => true,
            Change::Write { number, .. } | Change::Truncate { number, .. } => {
                self.bytes(*number).is_some()
            }
            Change::Punch { number, length, .. }
            | Change::Preallocate { number, length, .. }
            | Change::ZeroRange { number, length, .. } => {
                self.bytes(*number).is_some() && *length > 0
            }
            Change::Collapse { number, offset, length } => self
                .bytes(*number)
                .is_some_and(|bytes| *length > 0 && offset + length < bytes.len() as u64),
            Change::Insert { number, offset, length } => {
                self.bytes(*number).is_some_and(|bytes| *length > 0 && *offset < bytes.len() as u64)
            }
            Change::CloneRange { from, from_offset, to, to_offset, length } => {
                let (Some(source), Some(target)) = (self.bytes(*from), self.bytes(*to)) else {
                    return false;
                };
                let Some(rest) = (source.len() as u64).checked_sub(*from_offset) else {
                    return false;
                };
                let length = if *length == 0 { rest } else { *length };
                let to_end = to_offset + length;
                let whole = length % 4096 == 0 || length == rest && to_end >= target.len() as u64;
                length <= rest
                    && from_offset % 4096 == 0
                    && to_offset % 4096 == 0
                    && whole
                    && (from != to || from_offset.abs_diff(*to_offset) >= length)
            }
            Change::CreateCollection { name } => self.collection(name).is_none(),
            Change::DropCollection { name } => self.collection(name).is_some(),
            Change::PutVectors { number, name, .. } => {
                self.collection(name).is_some() && self.bytes(*number).is_some()
            }
            Change::RemoveVectors { number, name, .. } => {
                self.collection(name).is_some() && self.node(*number).is_some()
            }
            Change::CloneVectors { from, to } | Change::ReplaceContent { from, to } => {
                self.bytes(*from).is_some() && self.bytes(*to).is_some()
            }
        }
    }

    /// An inode, with a name or held open.
    fn node(&self, number: u64) -> Option<&Node> {
        self.state.nodes.get(&number).or_else(|| self.orphans.get(&number)).map(|node| &**node)
    }

    fn node_mut(&mut self, number: u64) -> Option<&mut Node> {
        let orphan = self.orphans.get_mut(&number).map(Arc::make_mut);
        orphan.or_else(|| self.state.node_mut(number))
    }

    fn bytes(&self, number: u64) -> Option<&Vec<u8>> {
        self.node(number)?.bytes()
    }

    fn bytes_mut(&mut self, number: u64) -> Option<&mut Vec<u8>> {
        self.node_mut(number)?.bytes_mut()
    }

    fn collection(&self, name: &str) -> Option<u32> {
        let found = self.state.collections.iter().find(|(_, known)| *known == name);
        found.map(|(number, _)| *number)
    }

    /// After an error, brings the model to where a call that works in steps has stopped: each byte
    /// is as before the call or as after it.
    fn follow_steps(&mut self, change: &Change) {
        let Some(number) = change.stepwise() else { return };
        if let Change::CloneVectors { .. } = change {
            return self.follow_vectors(change, number);
        }
        let Ok(found) = read_file(&self.fs, number) else { return };
        let Some(before) = self.bytes(number).cloned() else { return };
        self.perform(change, 0);
        let Some(bytes) = self.bytes_mut(number) else { return };
        let sizes = before.len().min(bytes.len())..=before.len().max(bytes.len());
        assert!(sizes.contains(&found.len()), "{change:?} left {} bytes", found.len());
        for (at, byte) in found.iter().enumerate() {
            let was = before.get(at).copied().unwrap_or(0);
            let will_be = bytes.get(at).copied().unwrap_or(0);
            assert!(*byte == was || *byte == will_be, "{change:?} left byte {at} neither way");
        }
        *bytes = found;
    }

    /// The same for a call that changes the vectors of a file in steps.
    fn follow_vectors(&mut self, change: &Change, number: u64) {
        let Ok((found, _)) = vectors_of(&self.fs, number) else { return };
        let Some(before) = self.node(number).map(|node| node.vectors.clone()) else { return };
        self.perform(change, 0);
        let Some(node) = self.node_mut(number) else { return };
        for (key, vector) in &found {
            let known = [before.get(key), node.vectors.get(key)];
            assert!(known.contains(&Some(vector)), "{change:?} left vector {key:?} neither way");
        }
        assert!(before.keys().all(|key| found.contains_key(key)), "{change:?} removed a vector");
        node.vectors = found;
    }

    /// Does to the model what the call has done.
    fn perform(&mut self, change: &Change, number: u64) {
        let state = &mut self.state;
        let mut gone = None;
        match change {
            Change::Create { parent, name, mode, device } => {
                let content = match mode & MODE_TYPE {
                    MODE_DIRECTORY => Content::Directory(BTreeMap::new()),
                    MODE_FILE => Content::File(Vec::new()),
                    _ => Content::Special(*device),
                };
                state.nodes.insert(number, Arc::new(Node::new(*mode, OWNER, content)));
                state.add_name(*parent, name, number);
            }
            Change::CreateSymlink { parent, name, target } => {
                let node = Node::new(MODE_SYMLINK | 0o777, OWNER, Content::Symlink(target.clone()));
                state.nodes.insert(number, Arc::new(node));
                state.add_name(*parent, name, number);
            }
            Change::CreateUnnamed => {
                let node = Node::new(MODE_FILE | 0o600, OWNER, Content::File(Vec::new()));
                self.orphans.insert(number, Arc::new(node));
                *self.held.entry(number).or_default() += 1;
            }
            Change::Link { number, parent, name } => {
                if let Some(node) = self.orphans.remove(number) {
                    state.nodes.insert(*number, node);
                }
                state.add_name(*parent, name, *number);
            }
            Change::Unlink { parent, name } | Change::RemoveDirectory { parent, name } => {
                gone = state.remove_name(*parent, name);
            }
            Change::Rename { from, to, mode } => {
                gone = state.rename((from.0, &from.1), (to.0, &to.1), *mode);
            }
            Change::SetMode { number, mode } => {
                let orphan = self.orphans.get_mut(number).map(Arc::make_mut);
                if let Some(node) = orphan.or_else(|| state.node_mut(*number)) {
                    node.mode = node.mode & MODE_TYPE | mode;
                }
            }
            Change::SetXattr { number, name, value, .. } => {
                if let Some(node) = state.node_mut(*number) {
                    node.attributes.insert(name.clone(), value.bytes());
                }
            }
            Change::RemoveXattr { number, name } => {
                if let Some(node) = state.node_mut(*number) {
                    node.attributes.remove(name);
                }
            }
            Change::Open { number } => *self.held.entry(*number).or_default() += 1,
            Change::Close { number } => {
                if let Some(count) = self.held.get_mut(number) {
                    *count -= 1;
                    if *count == 0 {
                        self.held.remove(number);
                        self.orphans.remove(number);
                    }
                }
            }
            Change::Write { number, offset, bytes: blob } => {
                let (from, new) = (*offset as usize, blob.bytes());
                if let Some(bytes) = self.bytes_mut(*number).filter(|_| !new.is_empty()) {
                    bytes.resize(bytes.len().max(from + new.len()), 0);
                    bytes[from..from + new.len()].copy_from_slice(&new);
                }
            }
            Change::Truncate { number, size } => {
                if let Some(bytes) = self.bytes_mut(*number) {
                    bytes.resize(*size as usize, 0);
                }
            }
            Change::Punch { number, offset, length }
            | Change::ZeroRange { number, offset, length, keep_size: true } => {
                if let Some(bytes) = self.bytes_mut(*number) {
                    zero(bytes, *offset, *length);
                }
            }
            Change::Collapse { number, offset, length } => {
                if let Some(bytes) = self.bytes_mut(*number) {
                    bytes.drain(*offset as usize..(offset + length) as usize);
                }
            }
            Change::Insert { number, offset, length } => {
                if let Some(bytes) = self.bytes_mut(*number) {
                    let hole = std::iter::repeat_n(0, *length as usize);
                    bytes.splice(*offset as usize..*offset as usize, hole);
                }
            }
            Change::ZeroRange { number, offset, length, keep_size: false } => {
                if let Some(bytes) = self.bytes_mut(*number) {
                    zero(bytes, *offset, *length);
                    bytes.resize(bytes.len().max((offset + length) as usize), 0);
                }
            }
            Change::Preallocate { number, offset, length, keep_size } => {
                if let Some(bytes) = self.bytes_mut(*number).filter(|_| !*keep_size) {
                    bytes.resize(bytes.len().max((offset + length) as usize), 0);
                }
            }
            Change::CloneRange { from, from_offset, to, to_offset, length } => {
                let mut new = self.bytes(*from).cloned().unwrap_or_default();
                new.drain(..*from_offset as usize);
                if *length > 0 {
                    new.truncate(*length as usize);
                }
                let at = *to_offset as usize;
                if let Some(bytes) = self.bytes_mut(*to).filter(|_| !new.is_empty()) {
                    bytes.resize(bytes.len().max(at + new.len()), 0);
                    bytes[at..at + new.len()].copy_from_slice(&new);
                }
            }
            Change::ReplaceContent { from, to } => {
                let new = self.bytes(*from).cloned().unwrap_or_default();
                if let Some(bytes) = self.bytes_mut(*to) {
                    *bytes = new;
                }
            }
            Change::CreateCollection { name } => {
                state.collections.insert(number as u32, (*name).into());
            }
            Change::DropCollection { name } => {
                if let Some(number) = self.collection(name) {
                    self.state.collections.remove(&number);
                    let nodes = self.state.nodes.values_mut().chain(self.orphans.values_mut());
                    for node in nodes.map(Arc::make_mut) {
                        node.vectors.retain(|(collection, _), _| *collection != number);
                    }
                }
            }
            Change::PutVectors { number, name, vectors } => {
                let collection = self.collection(name).unwrap_or(0);
                if let Some(node) = self.node_mut(*number) {
                    for put in vectors {
                        node.vectors.insert((collection, put.chunk), put.vector(name));
                    }
                }
            }
            Change::RemoveVectors { number, name, first, last } => {
                let collection = self.collection(name).unwrap_or(0);
                if let Some(node) = self.node_mut(*number) {
                    node.vectors.retain(|(of, chunk), _| {
                        *of != collection || !(first..=last).contains(&chunk)
                    });
                }
            }
            Change::CloneVectors { from, to } => {
                let vectors = self.node(*from).map(|node| node.vectors.clone());
                if let Some(node) = self.node_mut(*to) {
                    node.vectors.extend(vectors.unwrap_or_default());
                }
            }
        }
        if let Some((number, node)) = gone
            && self.held.contains_key(&number)
        {
            self.orphans.insert(number, node);
        }
    }
}

fn zero(bytes: &mut [u8], offset: u64, length: u64) {
    let to = bytes.len().min((offset + length) as usize);
    let from = to.min(offset as usize);
    bytes[from..to].fill(0);
}

fn put(chunk: u32, vector: &Vector) -> VectorPut<'_> {
    VectorPut {
        chunk,
        offset: vector.offset,
        length: vector.length,
        content_version: None,
        tag: vector.tag,
        digest: [chunk as u8; 16],
        bytes: &vector.bytes,
    }
}

/// Makes the call; the number of a new inode, or 0.
fn execute(fs: &FileSystem, change: &Change) -> Result<u64> {
    match change {
        Change::Create { parent, name, mode, device } => {
            fs.create(*parent, name, &NewInode { mode: *mode, owner: OWNER, device: *device })
        }
        Change::CreateSymlink { parent, name, target } => {
            fs.create_symlink(*parent, name, target, OWNER)
        }
        Change::CreateUnnamed => {
            fs.create_unnamed(&NewInode { mode: MODE_FILE | 0o600, owner: OWNER, device: 0 }, &[])
        }
        Change::Link { number, parent, name } => fs.link(*number, *parent, name).map(|()| 0),
        Change::Unlink { parent, name } => fs.unlink(*parent, name).map(|()| 0),
        Change::RemoveDirectory { parent, name } => fs.remove_directory(*parent, name).map(|()| 0),
        Change::Rename { from, to, mode } => {
            fs.rename(from.0, &from.1, to.0, &to.1, *mode).map(|()| 0)
        }
        Change::SetMode { number, mode } => {
            let set = SetAttributes { mode: Some(*mode), ..SetAttributes::default() };
            fs.set_attributes(*number, &set).map(|_| 0)
        }
        Change::SetXattr { number, name, value, mode } => {
            fs.set_xattr(*number, name, &exempt(|| value.bytes()), *mode).map(|()| 0)
        }
        Change::RemoveXattr { number, name } => fs.remove_xattr(*number, name).map(|()| 0),
        Change::Open { number } => fs.open_inode(*number).map(|_| 0),
        Change::Close { number } => fs.close_inode(*number).map(|()| 0),
        Change::Write { number, offset, bytes } => {
            let bytes = exempt(|| bytes.bytes());
            fs.write(*number, *offset, &bytes).map(|()| 0)
        }
        Change::Truncate { number, size } => fs.truncate(*number, *size).map(|()| 0),
        Change::Punch { number, offset, length } => fs.punch(*number, *offset, *length).map(|()| 0),
        Change::Collapse { number, offset, length } => {
            fs.collapse_range(*number, *offset, *length).map(|()| 0)
        }
        Change::Insert { number, offset, length } => {
            fs.insert_range(*number, *offset, *length).map(|()| 0)
        }
        Change::Preallocate { number, offset, length, keep_size } => {
            fs.preallocate(*number, *offset, *length, *keep_size).map(|()| 0)
        }
        Change::ZeroRange { number, offset, length, keep_size } => {
            fs.zero_range(*number, *offset, *length, *keep_size).map(|()| 0)
        }
        Change::CloneRange { from, from_offset, to, to_offset, length } => {
            fs.clone_range(*from, *from_offset, *to, *to_offset, *length).map(|()| 0)
        }
        Change::ReplaceContent { from, to } => fs.replace_content(*from, *to).map(|()| 0),
        Change::CreateCollection { name } => {
            fs.create_collection(&vector::options(name)).map(u64::from)
        }
        Change::DropCollection { name } => {
            fs.drop_collection(fs.collection_number(name)?).map(|()| 0)
        }
        Change::PutVectors { number, name, vectors } => {
            let collection = fs.collection_number(name)?;
            let vectors: Vec<_> =
                exempt(|| vectors.iter().map(|put| (put.chunk, put.vector(name))).collect());
            let puts: Vec<_> =
                exempt(|| vectors.iter().map(|(chunk, vector)| put(*chunk, vector)).collect());
            fs.put_vectors(collection, *number, &puts).map(|_| 0)
        }
        Change::RemoveVectors { number, name, first, last } => {
            let collection = fs.collection_number(name)?;
            fs.remove_vectors(collection, *number, *first..=*last, &Serial).map(|_| 0)
        }
        Change::CloneVectors { from, to } => fs.clone_vectors(*from, *to).map(|_| 0),
    }
}
