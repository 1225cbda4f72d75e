// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Closing a transaction: the items of the free space, the checksums, and what is to be written.

use super::*;

impl Tree {
    /// Writes the changed groups' items, which may change further groups, until none is left.
    ///
    /// It ends, because an item that was written once does not become shorter in the same
    /// transaction: each group can split and merge nodes only a few times. Were a group's item to
    /// shrink whenever the group is full, that could merge nodes and free a block of this very
    /// group, whose item then grows and takes the block again, and so for ever.
    fn write_groups(&mut self) -> Result<()> {
        while self.space.changed_groups() > 0 {
            let changed = self.space.changed_list()?;
            for number in changed {
                self.begin();
                let result = self.write_group(number);
                match result {
                    Ok(()) => {
                        // Before `finish`, which may change this very group again.
                        self.space.written(number, self.state.generation);
                        if let Err(error) = self.finish() {
                            self.space.unwritten(number);
                            return Err(error);
                        }
                    }
                    Err(error) => {
                        self.abort();
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn write_group(&mut self, number: u64) -> Result<()> {
        let key = Key::new(0, Kind::Group, number);
        let present = self.get(key)?.map(|item| item.len());
        let Some((used, _, written)) = self.space.group(number) else { return Ok(()) };
        let shortest = if written == self.state.generation { present.unwrap_or(0) } else { 0 };
        if used == 0 && shortest == 0 {
            return if present.is_some() { self.remove(key) } else { Ok(()) };
        }
        let full = used == self.space.group_blocks(number);
        let length = size_of::<GroupLayout>() + if full { 0 } else { GROUP_BITMAP_BYTES };
        let length = length.max(shortest);
        match present {
            Some(old) if old == length => {
                self.get_mut(key)?;
            }
            Some(_) => {
                self.remove(key)?;
                self.insert(key, length)?;
            }
            None => {
                self.insert(key, length)?;
            }
        }
        // The blocks that this very change took or gave are in the bitmap only after `finish`,
        // which then marks the group as changed again.
        let mut bitmap = None;
        let Some((used, bytes, _)) = self.space.group(number) else { return Ok(()) };
        if length > size_of::<GroupLayout>() {
            bitmap = Some(copied_bytes(bytes)?);
        }
        let head = GroupLayout { used: (used as u32).into(), reserved: 0.into() };
        let item = self.get_mut(key)?;
        crate::bytes::copy(item, head.as_bytes());
        if let (Some(bitmap), Some(tail)) = (bitmap, item.get_mut(size_of::<GroupLayout>()..)) {
            crate::bytes::copy(tail, &bitmap);
        }
        Ok(())
    }

    /// Closes the open transaction and opens the next. `None` when nothing was changed.
    #[inline(never)] // its frame must not add to the commit's
    pub fn freeze(&mut self) -> Result<Option<Frozen>> {
        if self.dirty.is_empty() && self.space.changed_groups() == 0 && !self.state_changed {
            return Ok(None);
        }
        self.space.writing_items(true);
        let written = self.write_groups();
        self.space.writing_items(false);
        written?;
        let mut nodes = Vec::new();
        nodes.try_reserve(self.dirty.len()).map_err(|_| Error::OutOfMemory)?;
        self.space.prepare_freeze()?;
        self.cache.write().try_reserve(self.dirty.len())?;

        // Checksums from the leaves up: a node's sum is over its children's.
        let mut order: Vec<(u8, u64)> = Vec::new();
        order.try_reserve(self.dirty.len()).map_err(|_| Error::OutOfMemory)?;
        for (block, dirty) in self.dirty.iter() {
            order.try_push((dirty.node.level(), block))?;
        }
        vexfs_memory::sort_by(&mut order, |a, b| a < b);
        let mut sums: Table<u32> = Table::new();
        sums.try_reserve(order.len())?;
        let generation = self.state.generation;
        for &(level, block) in &order {
            let host = self.host.clone();
            let node = self.dirty_mut(block)?;
            if level > 0 {
                for at in 0..node.count() {
                    let mut child = node.child(at);
                    if child.generation == generation {
                        child.checksum = sums
                            .get(child.block)
                            .copied()
                            .ok_or(corrupt(child.block, "dirty child is missing"))?;
                        node.set_child(at, &child);
                    }
                }
            }
            node.wipe_free();
            sums.try_insert(block, host.checksum.crc32c(0, node.bytes()))?;
        }
        if let Some(sum) = sums.get(self.state.root.block)
            && self.state.root.generation == generation
        {
            self.state.root.checksum = *sum;
        }
        let superblock = try_box(*self.state)?;

        // From here on nothing fails.
        for &(_, block) in &order {
            if let Some(dirty) = self.dirty.remove(block) {
                nodes.try_push((block, dirty.node))?;
            }
        }
        {
            let mut cache = self.cache.write();
            for (block, node) in &nodes {
                cache.insert(*block, node.clone())?;
            }
        }
        self.space.freeze(generation);
        self.state.generation += 1;
        self.state_changed = false;
        // The next transaction's nodes rise with their blocks, which makes writes sequential.
        vexfs_memory::sort_by(&mut nodes, |a, b| a.0 < b.0);
        Ok(Some(Frozen { superblock, nodes }))
    }
}
