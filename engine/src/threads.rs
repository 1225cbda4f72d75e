// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! The threads that build graphs and share out exact searches.

use std::num::NonZeroUsize;
use std::thread;
use vexfs_core::Executor;

/// Runs the tasks of the core on threads of its own, one for each processor or as many as asked
/// for.
#[derive(Clone, Copy, Debug)]
pub struct Threads {
    count: usize,
}

impl Threads {
    /// This many threads, at least one.
    pub fn new(count: usize) -> Self {
        Self { count: count.max(1) }
    }
}

impl Default for Threads {
    /// A thread for each processor that this process may use.
    fn default() -> Self {
        Self::new(thread::available_parallelism().map_or(1, NonZeroUsize::get))
    }
}

impl Executor for Threads {
    fn workers(&self) -> usize {
        self.count
    }

    fn run(&self, tasks: &mut [&mut (dyn FnMut() + Send)]) {
        let Some((own, others)) = tasks.split_first_mut() else { return };
        thread::scope(|scope| {
            for task in others {
                // A thread that cannot be had is no loss: the other tasks do its work.
                let _ = thread::Builder::new().spawn_scoped(scope, task);
            }
            own();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_task_runs_once() {
        let count = AtomicUsize::new(0);
        let task = || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        let (mut a, mut b, mut c) = (task, task, task);
        Threads::new(3).run(&mut [&mut a, &mut b, &mut c]);
        assert_eq!(count.load(Ordering::SeqCst), 3);
        assert_eq!(Threads::new(0).workers(), 1);
    }
}
