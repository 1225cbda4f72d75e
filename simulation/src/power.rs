// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! What a device may hold after its power was cut.
//!
//! Of the writes since the last flush before the cut, any may have become durable and any may have
//! been lost, in any order, and the sectors of each likewise. Discards count as writes of garbage.

use crate::device::Event;
use crate::image::{Image, SECTOR_BYTES};
use crate::random::SeededRandom;

/// A record of everything a device was asked to change.
#[derive(Clone)]
pub struct Trace {
    /// What was durable when the record began.
    pub initial: Image,
    /// What was asked then, in order.
    pub events: Vec<Event>,
}

/// What a device holds after a cut.
pub struct CrashState {
    /// How many events of the trace had been asked for.
    pub cut: usize,
    /// What became of the writes that were not flushed.
    pub fate: &'static str,
    /// What is on the device.
    pub image: Image,
}

/// Fates that are drawn anew for each cut, apart from the two that are always tried.
const FATES: [Fate; 4] = [Fate::Subset, Fate::LastAlone, Fate::LastTorn, Fate::Scattered];

#[derive(Clone, Copy)]
enum Fate {
    /// A random half, in random order.
    Subset,
    /// The last, none of the others.
    LastAlone,
    /// The last in part, from its start, and a random half of the others.
    LastTorn,
    /// A random half of the sectors of each.
    Scattered,
}

impl Trace {
    /// Calls `each` with the states that cuts after each event may leave: all writes lost, all
    /// durable, and `variants` of the fates in between, drawn from `random`.
    pub fn crash_states(
        &self,
        random: &mut SeededRandom,
        variants: usize,
        mut each: impl FnMut(CrashState),
    ) {
        let mut durable = self.initial.clone();
        let mut flushed = 0;
        for cut in 0..=self.events.len() {
            if cut > 0 && matches!(self.events[cut - 1], Event::Flush) {
                for event in &self.events[flushed..cut] {
                    apply(&mut durable, event);
                }
                flushed = cut;
            }
            outcomes(&durable, &self.events[flushed..cut], cut, random, variants, &mut each);
        }
    }

    /// The same for one cut, after `cut` events.
    pub fn crash_states_at(
        &self,
        cut: usize,
        random: &mut SeededRandom,
        variants: usize,
        mut each: impl FnMut(CrashState),
    ) {
        let events = &self.events[..cut];
        let flushed = events.iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        let mut durable = self.initial.clone();
        for event in &events[..flushed] {
            apply(&mut durable, event);
        }
        outcomes(&durable, &events[flushed..], cut, random, variants, &mut each);
    }

    /// The state that a cut after all events leaves when everything was lost that was not flushed.
    pub fn durable(&self) -> Image {
        let mut image = self.initial.clone();
        let flushed = self.events.iter().rposition(|event| matches!(event, Event::Flush));
        for event in self.events.iter().take(flushed.unwrap_or(0)) {
            apply(&mut image, event);
        }
        image
    }
}

/// What a cut after `cut` events may leave, of which `pending` are not durable yet.
fn outcomes(
    durable: &Image,
    pending: &[Event],
    cut: usize,
    random: &mut SeededRandom,
    variants: usize,
    each: &mut impl FnMut(CrashState),
) {
    each(CrashState { cut, fate: "all lost", image: durable.clone() });
    if pending.iter().all(|event| matches!(event, Event::Flush)) {
        return;
    }
    let mut image = durable.clone();
    for event in pending {
        apply(&mut image, event);
    }
    each(CrashState { cut, fate: "all durable", image });
    let mut fates = FATES;
    random.shuffle(&mut fates);
    for fate in fates.into_iter().take(variants) {
        let mut image = durable.clone();
        let fate = suffer(&mut image, pending, fate, random);
        each(CrashState { cut, fate, image });
    }
}

fn apply(image: &mut Image, event: &Event) {
    match event {
        Event::Write { offset, data } => image.write(*offset, data),
        Event::Flush => {}
        Event::Discard { offset, length } => image.spoil(*offset, *length),
    }
}

fn suffer(
    image: &mut Image,
    pending: &[Event],
    fate: Fate,
    random: &mut SeededRandom,
) -> &'static str {
    let Some((last, others)) = pending.split_last() else { return "nothing pending" };
    match fate {
        Fate::Subset => {
            let mut order: Vec<_> = pending.iter().filter(|_| random.percent(50)).collect();
            random.shuffle(&mut order);
            order.into_iter().for_each(|event| apply(image, event));
            "a random half durable, in random order"
        }
        Fate::LastAlone => {
            apply(image, last);
            "only the last write durable"
        }
        Fate::LastTorn => {
            for event in others {
                if random.percent(50) {
                    apply(image, event);
                }
            }
            if let Event::Write { offset, data } = last {
                let sectors = random.below((data.len() / SECTOR_BYTES) as u64) as usize;
                image.write(*offset, &data[..sectors * SECTOR_BYTES]);
            }
            "the last write torn"
        }
        Fate::Scattered => {
            for event in pending {
                let Event::Write { offset, data } = event else {
                    apply(image, event);
                    continue;
                };
                for (at, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                    if random.percent(50) {
                        image.write(offset + (at * SECTOR_BYTES) as u64, sector);
                    }
                }
            }
            "random sectors of every write durable"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::SimulatedDevice;
    use vexfs_core::BlockDevice;

    #[test]
    fn a_flushed_write_survives_every_cut_and_an_unflushed_one_only_some() {
        let device = SimulatedDevice::new(16 * 4096);
        device.record();
        device.write(4096, &[1; 4096]).unwrap();
        device.flush().unwrap();
        device.write(8192, &[2; 4096]).unwrap();
        device.discard(4096, 4096).unwrap();
        let (mut lost, mut kept, mut torn, mut spoiled) = (0, 0, 0, 0);
        let mut random = SeededRandom::new(7);
        device.trace().crash_states(&mut random, 4, |state| {
            let (mut first, mut second) = ([0; 4096], [0; 4096]);
            state.image.read(4096, &mut first);
            state.image.read(8192, &mut second);
            if state.cut >= 2 {
                let all = |byte| first.iter().all(|found| *found == byte);
                assert!(all(1) || (state.cut == 4 && all(0xd5)), "cut {}", state.cut);
                spoiled += u32::from(all(0xd5));
            }
            if state.cut >= 3 {
                match second.iter().filter(|byte| **byte == 2).count() {
                    0 => lost += 1,
                    4096 => kept += 1,
                    _ => torn += 1,
                }
            }
        });
        assert!(lost > 0 && kept > 0 && torn > 0 && spoiled > 0);
        let mut first = [0; 4096];
        device.trace().durable().read(4096, &mut first);
        assert_eq!(first, [1; 4096]);
    }
}
