// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Whether a mounted file system holds what was promised of it.

use crate::content;
use crate::journal::Promises;
use crate::vectors;
use crate::workload::DIRECTORIES;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files of which it is tried whether a search finds them.
const SEARCHED: usize = 100;

/// What was found.
#[derive(Default)]
pub struct Outcome {
    /// What is not as it must be.
    pub faults: Vec<String>,
    /// Names that must be there, and are.
    pub kept: usize,
    /// The latest version that was met.
    pub newest: u64,
    /// Names of which nothing is promised that would be missed.
    pub loose: Vec<String>,
}

/// Compares what is in a directory with what was promised. `settled` says that nothing failed since it
/// was mounted: otherwise a removed file may wait to be taken apart, with its vectors.
fn verify(directory: &Path, promises: &Promises, settled: bool) -> std::io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let top = File::open(directory)?;
    let collection = vectors::collection(&top)?;
    // Versions of files that are replaced whole, by name.
    let mut versions: BTreeMap<String, u64> = BTreeMap::new();
    let mut inodes = Vec::new();
    let mut present: Vec<String> = Vec::new();
    let (mut rows, mut met) = (0, BTreeSet::new());
    for part in DIRECTORIES {
        for entry in fs::read_dir(directory.join(part))? {
            let entry = entry?;
            let name = format!("{part}/{}", entry.file_name().to_string_lossy());
            let file = File::open(entry.path())?;
            // One that has several names has its vectors once.
            if met.insert(file.metadata()?.ino()) {
                rows += vectors::list(&file)?.len() as u64;
            }
            let known = promises.names.get(&name).copied().unwrap_or_default();
            // After the directory and the thread's number.
            let kind = name[part.len() + 1..].chars().find(char::is_ascii_lowercase);
            let checked = match kind {
                Some('a') => content::check_whole(&file, collection),
                Some('b') => content::check_blocks(&file, collection, known.promised),
                Some('s') if known.promised > 0 => content::check_whole(&file, collection),
                _ => {
                    outcome.loose.push(name);
                    continue;
                }
            };
            match checked {
                Err(error) => outcome.faults.push(format!("{name}: {error} ({known:?})")),
                // Of blocks without a promise no version is told.
                Ok(version)
                    if version < known.least && (known.promised > 0 || kind == Some('a')) =>
                {
                    outcome.faults.push(format!("{name}: version {version} ({known:?})"));
                }
                Ok(version) => {
                    outcome.newest = outcome.newest.max(version);
                    outcome.kept += usize::from(known.there);
                    if kind == Some('a') {
                        inodes.push((file.metadata()?.ino(), version));
                        if let Some((other, _)) = versions.iter().find(|(_, had)| **had == version)
                        {
                            outcome.faults.push(format!("{name} and {other} are one file"));
                        }
                        versions.insert(name.clone(), version);
                    }
                    if kind == Some('s') {
                        outcome.loose.push(name.clone());
                    }
                }
            }
            present.push(name);
        }
    }
    for (name, known) in &promises.names {
        if known.there && !present.contains(name) {
            outcome.faults.push(format!("{name} is gone ({known:?})"));
        }
    }
    for (from, to, version) in &promises.moves {
        let moved = versions.get(to).is_some_and(|at| at >= version);
        if !moved && versions.get(from) != Some(version) {
            outcome.faults.push(format!("version {version} is at neither {from} nor {to}"));
        }
    }
    let told = vectors::show(&top, collection)?;
    if told.rows < rows || (settled && told.rows > rows) {
        outcome.faults.push(format!("{} rows in the collection, {rows} at files", told.rows));
    }
    for (inode, version) in inodes.into_iter().take(SEARCHED) {
        let query = vectors::vector(version, 0);
        for flags in [0, vexfs_uapi::SEARCH_EXACT] {
            let (_, hits) = vectors::search(&top, collection, &query, 1, flags)?;
            if !hits.first().is_some_and(|hit| hit.inode == inode && hit.tag == version) {
                outcome.faults.push(format!("version {version} is not found: {hits:?}"));
            }
        }
    }
    Ok(outcome)
}

/// Checks a mounted file system and reports on standard error; whether all is well.
pub fn report(directory: &Path, promises: &Promises, settled: bool) -> Option<Outcome> {
    match verify(directory, promises, settled) {
        Err(error) => eprintln!("cannot be verified: {error}"),
        Ok(outcome) if outcome.faults.is_empty() => return Some(outcome),
        Ok(outcome) => {
            for fault in outcome.faults {
                eprintln!("{fault}");
            }
        }
    }
    None
}
