// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! A whole file system read back through the core's public interface.

use crate::device::SimulatedDevice;
use crate::host::host;
use crate::model::{Content, Node, State};
use crate::vector::{check_search, collections, vectors_of};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use vexfs_core::check::{CheckOptions, CheckReport, Code, check};
use vexfs_core::layout::ROOT_INODE;
use vexfs_core::*;

/// Everything found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// In the terms of the model.
    pub state: State,
    /// The inodes as they are stored, times and counters among them.
    pub inodes: BTreeMap<u64, Inode>,
    /// Vectors as they are stored, rows and versions among them.
    pub vectors: Vec<VectorInfo>,
    /// Inodes without names.
    pub orphans: Vec<u64>,
}

fn list(fs: &FileSystem, directory: u64) -> Result<Vec<(Vec<u8>, u64, u8)>> {
    let mut entries = Vec::new();
    fs.read_directory(directory, 0, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.inode, entry.file_type));
        true
    })?;
    Ok(entries)
}

fn content(fs: &FileSystem, number: u64, inode: &Inode) -> Result<Content> {
    Ok(match inode.file_type() {
        MODE_DIRECTORY => Content::Directory(BTreeMap::new()),
        MODE_SYMLINK => Content::Symlink(fs.read_link(number)?),
        MODE_FILE => Content::File(read_file(fs, number)?),
        _ => Content::Special(inode.device),
    })
}

/// All bytes of a file.
pub fn read_file(fs: &FileSystem, number: u64) -> Result<Vec<u8>> {
    let size = fs.inode(number)?.size;
    assert!(size <= 64 << 20, "a workload made file {number} of {size} bytes");
    let mut bytes = vec![0xee; size as usize];
    let read = fs.read(number, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

fn attributes(fs: &FileSystem, number: u64) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = Vec::new();
    fs.list_xattrs(number, &mut |name| {
        names.push(name.to_vec());
        true
    })?;
    let mut attributes = BTreeMap::new();
    for name in names {
        let value = fs.get_xattr(number, &name)?;
        attributes.insert(name, value);
    }
    Ok(attributes)
}

/// Reads everything back, and checks on the way that each part of the core says the same: entries
/// and lookups, links and paths, counts and what is counted.
pub fn observe(fs: &FileSystem) -> std::result::Result<Observation, String> {
    let collections = collections(fs).map_err(|error| format!("collections: {error:?}"))?;
    let mut state = State { nodes: BTreeMap::new(), collections };
    let mut vectors = Vec::new();
    let mut inodes = BTreeMap::new();
    let mut names: BTreeMap<u64, BTreeSet<(u64, Vec<u8>)>> = BTreeMap::new();
    let mut waiting = vec![(ROOT_INODE, ROOT_INODE)];
    while let Some((number, parent)) = waiting.pop() {
        let failed = |error: Error| format!("inode {number}: {error:?}");
        let inode = fs.inode(number).map_err(failed)?;
        inodes.insert(number, inode);
        let mut node = Node::new(
            inode.mode,
            (inode.uid, inode.gid),
            content(fs, number, &inode).map_err(failed)?,
        );
        node.attributes = attributes(fs, number).map_err(failed)?;
        let (own, mut listed) = vectors_of(fs, number).map_err(failed)?;
        node.vectors = own;
        vectors.append(&mut listed);
        if let Content::Directory(entries) = &mut node.content {
            for (name, target, file_type) in list(fs, number).map_err(failed)? {
                let found = fs.lookup(number, &name).map_err(failed)?;
                if found != target {
                    return Err(format!(
                        "{number}: {name:?} is {target} listed, {found} looked up"
                    ));
                }
                match &name[..] {
                    b"." if target == number => continue,
                    b".." if target == parent => continue,
                    b"." | b".." => return Err(format!("{number}: {name:?} leads to {target}")),
                    _ => {}
                }
                names.entry(target).or_default().insert((number, name.clone()));
                entries.insert(name, target);
                let kind = fs.inode(target).map_err(failed)?.file_type();
                if kind >> 12 != u32::from(file_type) {
                    return Err(format!("{target}: type {kind:o} listed as {file_type}"));
                }
                if kind == MODE_DIRECTORY || names[&target].len() == 1 {
                    waiting.push((target, number));
                }
            }
        }
        if state.nodes.insert(number, Arc::new(node)).is_some() {
            return Err(format!("inode {number} is met twice"));
        }
    }
    for (number, inode) in &inodes {
        let failed = |error: Error| format!("inode {number}: {error:?}");
        let node = &state.nodes[number];
        let own = names.get(number).cloned().unwrap_or_default();
        let (links, size) = match &node.content {
            Content::Directory(entries) => {
                let below = entries.values().filter(|child| state.is_directory(**child)).count();
                (2 + below, entries.len())
            }
            Content::File(bytes) => (own.len(), bytes.len()),
            Content::Symlink(target) => (own.len(), target.len()),
            Content::Special(_) => (own.len(), 0),
        };
        if (inode.links as usize, inode.size as usize) != (links, size) {
            return Err(format!(
                "inode {number}: {} links and {} bytes stored, {links} and {size} found",
                inode.links, inode.size
            ));
        }
        let mut parents = BTreeSet::new();
        fs.parents(*number, &mut |parent, name| parents.insert((parent, name.to_vec())))
            .map_err(failed)?;
        if parents != own {
            return Err(format!("inode {number}: parents {parents:?}, but names {own:?}"));
        }
        let mut paths = 0;
        fs.paths(*number, ROOT_INODE, Caller::default(), &Serial, &mut |path| {
            paths += usize::from(path.first() == Some(&b'/'));
            true
        })
        .map_err(failed)?;
        if paths != own.len().max(usize::from(*number == ROOT_INODE)) {
            return Err(format!("inode {number}: {paths} paths for {} names", own.len()));
        }
    }
    let orphans = fs.orphans().map_err(|error| format!("orphans: {error:?}"))?;
    if let Some(named) = orphans.iter().find(|number| inodes.contains_key(number)) {
        return Err(format!("inode {named} has a name and is an orphan"));
    }
    let without_name = orphans.iter().filter(|number| fs.inode(**number).is_ok()).count();
    let counted = fs.status().inodes;
    if counted != (inodes.len() + without_name) as u64 {
        return Err(format!(
            "{counted} inodes counted, {} with names and {without_name} without found",
            inodes.len()
        ));
    }
    check_search(fs, &state)?;
    Ok(Observation { state, inodes, vectors, orphans })
}

/// Opens the device for reading and reads everything back, having checked that nothing was written.
pub fn observe_device(device: &SimulatedDevice) -> std::result::Result<Observation, String> {
    let before = device.changing_requests();
    let options = OpenOptions { read_only: true, cache_bytes: 1 << 20, ..OpenOptions::default() };
    let fs = FileSystem::open(host(device, 1), &options)
        .map_err(|error| format!("opening for reading: {error:?}"))?;
    let observation = observe(&fs)?;
    drop(fs);
    if device.changing_requests() != before {
        return Err("a file system opened for reading wrote to the device".into());
    }
    Ok(observation)
}

/// Checks the device as `fsck -n` does, data and all: an error tells the findings.
pub fn check_device(device: &SimulatedDevice) -> std::result::Result<CheckReport, String> {
    check_except(device, &[])
}

/// The same for a device that has lost its newest state: that it has is no error.
pub fn check_older_state(device: &SimulatedDevice) -> std::result::Result<CheckReport, String> {
    check_except(device, &[Code::SuperblockDamaged, Code::StateLost])
}

fn check_except(
    device: &SimulatedDevice,
    expected: &[Code],
) -> std::result::Result<CheckReport, String> {
    let before = device.changing_requests();
    let mut findings = String::new();
    let options = CheckOptions { data: true, cache_bytes: 1 << 20 };
    let report = check(host(device, 1), &options, &mut (), &mut |finding| {
        if !expected.contains(&finding.code) {
            findings.push_str(&format!("\n  {}: {finding:?}", finding.text()));
        }
    })
    .map_err(|error| format!("checking: {error:?}"))?;
    if device.changing_requests() != before {
        return Err("a check wrote to the device".into());
    }
    if !findings.is_empty() || !report.complete {
        return Err(format!("the check of state {} finds:{findings}", report.generation));
    }
    Ok(report)
}

/// A whole copy of the superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeCopy {
    /// Which, from 0; the first two are near the front.
    pub number: usize,
    /// Where it is, in bytes.
    pub offset: u64,
    /// The state that it names.
    pub generation: u64,
    /// The block of that state's root.
    pub root_block: u64,
}

/// The whole copies of the superblock on the device.
pub fn copies_of(device: &SimulatedDevice) -> Vec<WholeCopy> {
    let mut copies = Vec::new();
    dump_superblocks(&host(device, 1), &mut |copy| {
        if let (Some(layout), None) = (copy.layout, copy.fault) {
            copies.push(WholeCopy {
                number: copy.number,
                offset: copy.offset,
                generation: layout.generation.get(),
                root_block: layout.root.block.get(),
            });
        }
    })
    .expect("reading superblocks");
    copies
}
