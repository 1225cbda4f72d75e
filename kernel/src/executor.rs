// SPDX-License-Identifier: GPL-2.0-only
//! Threads: the core's tasks run on a work queue of the C half.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use vexfs_core::Executor;

/// A task of a batch, by its number.
type RunTask = extern "C" fn(tasks: *mut c_void, number: usize);

unsafe extern "C" {
    /// How many tasks can run at once, at least 1.
    fn vexfs_host_workers() -> usize;
    /// Calls `run(tasks, number)` once for each number below `count`, on any threads at once, and
    /// returns when all calls have.
    fn vexfs_host_run_tasks(run: RunTask, tasks: *mut c_void, count: usize);
    /// Lets other threads run for a while if they wait.
    fn vexfs_host_relax();
    /// Whether the calling thread has a signal to see to.
    fn vexfs_host_interrupted() -> bool;
}

/// The work queue, for work that is done to its end.
struct KernelExecutor;

/// The work queue, for work that a signal to the thread that began it ends.
#[derive(Default)]
pub struct InterruptibleExecutor {
    /// Threads of the queue have no signals: they learn of it here.
    interrupted: AtomicBool,
}

type Task<'a> = &'a mut (dyn FnMut() + Send);

extern "C" fn run_task(tasks: *mut c_void, number: usize) {
    // SAFETY: `run` below passes the start of its slice, which outlives the call, and its length as
    // the count. Each number below that comes once, so no two threads use one task.
    unsafe { (*tasks.cast::<Task<'_>>().add(number))() }
}

impl Executor for KernelExecutor {
    fn workers(&self) -> usize {
        // SAFETY: it takes nothing.
        unsafe { vexfs_host_workers() }.max(1)
    }

    fn run(&self, tasks: &mut [Task<'_>]) {
        // SAFETY: the tasks may run on other threads (`Send`), and the call returns only when all
        // are done.
        unsafe { vexfs_host_run_tasks(run_task, tasks.as_mut_ptr().cast(), tasks.len()) }
    }

    fn relax(&self) {
        // SAFETY: it takes nothing.
        unsafe { vexfs_host_relax() }
    }
}

impl Executor for InterruptibleExecutor {
    fn workers(&self) -> usize {
        KernelExecutor.workers()
    }

    fn run(&self, tasks: &mut [Task<'_>]) {
        KernelExecutor.run(tasks);
    }

    fn relax(&self) {
        KernelExecutor.relax();
    }

    fn is_cancelled(&self) -> bool {
        // SAFETY: it takes nothing.
        if !self.interrupted.load(Ordering::Relaxed) && unsafe { vexfs_host_interrupted() } {
            self.interrupted.store(true, Ordering::Relaxed);
        }
        self.interrupted.load(Ordering::Relaxed)
    }
}
