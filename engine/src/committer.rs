// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The thread that commits now and then, and keeps search graphs near to their vectors.

use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use vexfs_core::{FileSystem, Serial};

/// Vectors that go into the graph of a collection at a time, so that a stop is soon heard.
const MAINTAIN_ROWS: u64 = 256;

#[derive(Default)]
struct Stop {
    asked: Mutex<bool>,
    changed: Condvar,
}

/// A thread that commits at an interval until this is dropped.
pub(crate) struct Committer {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub fn start(core: Arc<FileSystem>, interval: Duration) -> io::Result<Self> {
        let stop = Arc::new(Stop::default());
        let thread = std::thread::Builder::new().name("vexfs-commit".into()).spawn({
            let stop = stop.clone();
            move || run(&core, interval, &stop)
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

fn run(core: &FileSystem, interval: Duration, stop: &Stop) {
    let mut asked = stop.asked.lock();
    while !*asked {
        if stop.changed.wait_for(&mut asked, interval).timed_out() {
            drop(asked);
            maintain(core, stop);
            // A failed commit leaves the file system refusing changes, so that the error reaches
            // whoever makes the next one.
            if core.commit().is_err() && core.is_read_only() {
                return;
            }
            asked = stop.asked.lock();
        }
    }
}

/// Puts vectors into the graphs of their collections until all are there or a stop is asked for.
fn maintain(core: &FileSystem, stop: &Stop) {
    let mut collections = Vec::new();
    let listed = core.collections(&mut |info| {
        // One that nobody has searched is left on the device.
        if info.loaded {
            collections.push(info.number);
        }
        true
    });
    if listed.is_err() {
        return;
    }
    for collection in collections {
        while !*stop.asked.lock() {
            // Vectors that are not in the graph are found all the same, only slower, and a failure
            // to store it is met again by whoever closes the image.
            match core.maintain_collection(collection, MAINTAIN_ROWS, &Serial) {
                Ok(done) if done.left > 0 && done.inserted + done.removed > 0 => {}
                _ => break,
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        *self.stop.asked.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The thread has no way to panic; if it did, there is nothing to save here.
            let _ = thread.join();
        }
    }
}
