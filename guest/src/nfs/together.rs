// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Clients and the server itself at once on the same few names.

use crate::files::same_trees;
use crate::server::Server;
use crate::support::{Numbers, drop_caches};
use crate::{BOTH, Shared, Test, mount_point};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[("all_at_once", &[4], all_at_once)];

const LENGTH: usize = 5000;
const DIRECTORIES: u64 = 3;
const NAMES: u64 = 8;
const TIME: Duration = Duration::from_secs(2);

/// What may come of operations on names that others take away.
fn is_told<T>(result: std::io::Result<T>) -> Option<T> {
    let allowed = [libc::ENOENT, libc::EEXIST, libc::ENOTEMPTY, libc::ESTALE, libc::EBUSY];
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(error.raw_os_error().is_some_and(|code| allowed.contains(&code)), "{error}");
            None
        }
    }
}

/// One of those who change the tree; returns how many operations came to something.
fn work(dir: &Path, own: usize) -> usize {
    let mut numbers = Numbers(own as u64 + 77);
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < TIME {
        let mut place = || -> PathBuf {
            let directory = format!("d{}", numbers.below(DIRECTORIES));
            dir.join(directory).join(format!("n{}", numbers.below(NAMES)))
        };
        let (one, two) = (place(), place());
        let came = match numbers.below(8) {
            0 | 1 => {
                // Whole under its name, at any time.
                let new = dir.join(format!("own{own}"));
                let bytes = vec![b'a' + numbers.below(26) as u8; LENGTH];
                is_told(fs::write(&new, bytes).and_then(|()| fs::rename(&new, &one)))
            }
            2 => is_told(fs::rename(&one, &two)),
            3 => is_told(fs::hard_link(&one, &two)),
            4 => is_told(fs::remove_file(&one)),
            5 => {
                let parent = one.parent().expect("a parent");
                let other = dir.join(format!("d{}", numbers.below(DIRECTORIES)));
                let aside = dir.join(format!("aside{own}"));
                // Directories change their names, too.
                is_told(fs::rename(parent, &aside)).inspect(|()| {
                    if is_told(fs::rename(&aside, &other)).is_none() {
                        is_told(fs::rename(&aside, parent));
                    }
                })
            }
            6 => is_told(fs::read_dir(one.parent().expect("a parent")))
                .map(|entries| entries.for_each(|entry| drop(is_told(entry)))),
            _ => is_told(fs::read(&one)).map(|bytes| {
                assert_eq!(bytes.len(), LENGTH, "{}", one.display());
                assert!(bytes.iter().all(|byte| *byte == bytes[0]), "{}", one.display());
            }),
        };
        done += usize::from(came.is_some());
        // One that lost its place altogether is made anew.
        is_told(fs::create_dir(dir.join(format!("d{}", numbers.below(DIRECTORIES)))));
    }
    done
}

fn all_at_once(server: &Server, shared: &Shared) {
    let own = shared.local.file_name().expect("a name");
    let mut views = vec![shared.local.clone()];
    views.extend(BOTH.iter().map(|version| mount_point(*version).join(own)));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2 * views.len())
            .map(|number| {
                let dir = &views[number % views.len()];
                scope.spawn(move || work(dir, number))
            })
            .collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            drop_caches();
            std::thread::sleep(Duration::from_millis(50));
        }
        for worker in workers {
            assert!(worker.join().expect("a worker") > 0, "nothing came of it");
        }
    });
    rustix::fs::sync();
    drop_caches();
    assert!(same_trees(&views[1], &shared.local) > 3);
    server.remount();
    assert!(same_trees(&views[2], &shared.local) > 3);
}
