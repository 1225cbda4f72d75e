// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Threads, which the host brings, and how work is shared out over them.

use crate::Error;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use vexfs_memory::TryVec;

/// Runs tasks on the host's threads.
pub trait Executor: Sync {
    /// How many tasks can make progress at once, at least 1.
    fn workers(&self) -> usize;

    /// Runs every task once, in any order, on any threads, and returns when all are done. A host
    /// that is short of threads may run them one after another: each task takes work from a common
    /// counter, so the first then does it all.
    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]);

    /// Called now and then by long loops, so that a host can reschedule.
    fn relax(&self) {}

    /// Whether whoever asked wants it no more. Searches ask now and then, and end with an error then;
    /// what changes a graph does not ask once it has begun.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// The executor that has only the caller's thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Serial;

impl Executor for Serial {
    fn workers(&self) -> usize {
        1
    }

    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        for task in tasks {
            task();
        }
    }
}

/// Calls `work(state, index)` once for each index below `count`, with one of `states` for each
/// task at work. Fails only before any call.
pub(crate) fn share_out<S: Send>(
    executor: &dyn Executor,
    states: &mut [S],
    count: usize,
    work: &(dyn Fn(&mut S, usize) + Sync),
) -> Result<(), Error> {
    if let ([state, ..], true) = (&mut *states, count < 2 || executor.workers() < 2) {
        for index in 0..count {
            work(state, index);
        }
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    let next = &next;
    let mut loops = Vec::new();
    for state in states.iter_mut().take(count) {
        loops.try_push(move || {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                work(state, index);
            }
        })?;
    }
    let mut tasks: Vec<&mut (dyn FnMut() + Send)> = Vec::new();
    for task in &mut loops {
        tasks.try_push(task)?;
    }
    executor.run(&mut tasks);
    Ok(())
}
