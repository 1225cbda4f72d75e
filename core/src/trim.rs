// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Telling the device of all blocks that nothing names, for `FITRIM`.

use crate::error::{Error, Result};
use crate::filesystem::FileSystem;
use crate::layout::GROUP_BLOCKS;
use crate::space::Run;
use core::sync::atomic::Ordering;
use vexfs_index::Executor;

/// Of the free blocks, one in so many is kept from others at once.
const HELD_SHARE: u64 = 8;

impl FileSystem {
    /// Tells the device of the free blocks among `blocks` blocks from `first` on, as far as they are
    /// runs of `least` blocks or more within a group of 8,192. Returns how many it was told of. Some
    /// of them at a time are kept from others meanwhile. When `executor` is cancelled, it ends with
    /// what was done.
    ///
    /// Errors: `ReadOnly`; `Device`, of a device that cannot discard, say.
    pub fn trim(
        &self,
        first: u64,
        blocks: u64,
        least: u64,
        executor: &dyn Executor,
    ) -> Result<u64> {
        self.claim()?;
        let mut trimmed = 0;
        let mut at = first;
        // What comes behind is the rest of a run that was long enough.
        let mut goes_on = false;
        let end = first.saturating_add(blocks).min(self.reader().state.blocks);
        while at < end && !executor.is_cancelled() {
            let number = at / GROUP_BLOCKS;
            let group_end = end.min((number + 1) * GROUP_BLOCKS);
            let (held, log2) = {
                let mut tree = self.tree.write();
                if self.poisoned.load(Ordering::Acquire) {
                    return Err(Error::Poisoned);
                }
                tree.space.unload(0);
                tree.load_group(number)?;
                let most = (tree.state.blocks_free / HELD_SHARE).max(1);
                let least = if goes_on { 1 } else { least };
                let run = Run { start: at, length: group_end - at };
                (tree.space.hold_available(run, least, most), tree.state.block_log2)
            };
            let Some(run) = held else {
                (at, goes_on) = (group_end, false);
                executor.relax();
                continue;
            };
            let result = self.host.device.discard(run.start << log2, run.length << log2);
            let mut tree = self.tree.write();
            goes_on = tree.space.is_available(run.end());
            tree.space.give_back(run);
            drop(tree);
            result?;
            trimmed += run.length;
            at = run.end();
            executor.relax();
        }
        Ok(trimmed)
    }
}
