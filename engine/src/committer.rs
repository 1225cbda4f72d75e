// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The threads that commit now and then, and keep search graphs near to their vectors.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use vexfs_core::{FileSystem, Serial};

/// Vectors that go into the graph of a collection at a time, so that a stop is soon heard, and
/// searches with changes to take in wait no longer than that takes: so many, of so many bytes.
const MAINTAIN_ROWS: u64 = 64;
/// See [`MAINTAIN_ROWS`].
const MAINTAIN_BYTES: u64 = 256 << 10;

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

/// Two threads, of which one commits at an interval and the other works on graphs, until this is
/// dropped. Work on a graph may take long, and must not keep anything from becoming durable.
pub(crate) struct Committer {
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
}

impl Committer {
    pub fn start(core: Arc<FileSystem>, interval: Duration) -> io::Result<Self> {
        let mut started = Self { stop: Arc::new(Stop::default()), threads: Vec::new() };
        for (name, work) in [("vexfs-commit", commit as Work), ("vexfs-index", maintain as Work)] {
            let thread = std::thread::Builder::new().name(name.into()).spawn({
                let (core, stop) = (core.clone(), started.stop.clone());
                move || run(&core, interval, &stop, work)
            })?;
            started.threads.push(thread);
        }
        Ok(started)
    }
}

/// What a thread does at each interval; false when there is no use in doing it again.
type Work = fn(&FileSystem, &Stop) -> bool;

fn run(core: &FileSystem, interval: Duration, stop: &Stop, work: Work) {
    let mut asked = stop.asked.lock();
    while !*asked {
        if stop.changed.wait_for(&mut asked, interval).timed_out() {
            drop(asked);
            if !work(core, stop) {
                return;
            }
            asked = stop.asked.lock();
        }
    }
}

/// Makes everything so far durable. A failed commit leaves the file system refusing changes, so
/// that the error reaches whoever makes the next one.
fn commit(core: &FileSystem, _: &Stop) -> bool {
    core.commit().is_ok() || !core.is_read_only()
}

/// Puts vectors into the graphs of their collections until all are there or a stop is asked for.
fn maintain(core: &FileSystem, stop: &Stop) -> bool {
    let mut collections = Vec::new();
    let listed = core.collections(&mut |info| {
        // One that nobody has searched is left on the device.
        if info.loaded {
            let fitting = MAINTAIN_BYTES / (info.shape.row_bytes() as u64).max(1);
            collections.push((info.number, fitting.clamp(1, MAINTAIN_ROWS)));
        }
        true
    });
    if listed.is_err() {
        return !core.is_read_only();
    }
    for (collection, rows) in collections {
        while !*stop.asked.lock() {
            // Vectors that are not in the graph are found all the same, only slower, and a failure
            // to store it is met again by whoever closes the image.
            match core.maintain_collection(collection, rows, &Serial) {
                Ok(done) if done.left > 0 && done.inserted + done.removed > 0 => {}
                _ => break,
            }
        }
    }
    !core.is_read_only()
}

impl Drop for Committer {
    fn drop(&mut self) {
        *self.stop.asked.lock() = true;
        self.stop.changed.notify_all();
        for thread in self.threads.drain(..) {
            // The threads have no way to panic; if one did, there is nothing to save here.
            let _ = thread.join();
        }
    }
}
