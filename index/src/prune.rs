// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Choosing a node's neighbours: robust prune (DiskANN, Subramanya et al., NeurIPS 2019,
//! algorithm 2), with rules for rows that are equal.

use crate::queue::Candidate;
use crate::{Error, Space};
use alloc::vec::Vec;
use vexfs_memory::TryVec;
use vexfs_simd::Distance;

/// How much nearer to a candidate than the node a chosen neighbour must be for the candidate to be
/// left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relaxation {
    /// The factor, and one divided by it, in 1/65536.
    factor: u64,
    inverse: u64,
}

impl Relaxation {
    /// `alpha_percent` is 100 to 199.
    pub(crate) fn new(alpha_percent: u16) -> Self {
        let percent = u64::from(alpha_percent.clamp(100, 199));
        let inverse = (100u64 << 16).checked_div(percent).unwrap_or(1 << 16);
        Self { factor: (percent << 16) / 100, inverse }
    }

    /// `distance` moved outwards: times the factor, or for negative distances (inner products)
    /// divided by it. Integer arithmetic on the binary32 form; subnormals are left as they are.
    #[inline]
    pub(crate) fn apply(self, distance: Distance) -> Distance {
        let bits = distance.to_f32_bits();
        let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x7f_ffff);
        if exponent == 0 || exponent == 0xff {
            return distance;
        }
        let mantissa = u64::from(fraction | 0x80_0000);
        let (exponent, mantissa) = if bits >> 31 == 0 {
            let scaled = (mantissa * self.factor) >> 16;
            if scaled >> 24 == 0 { (exponent, scaled) } else { (exponent + 1, scaled >> 1) }
        } else {
            let scaled = (mantissa * self.inverse) >> 16;
            if scaled >> 23 == 0 { (exponent - 1, scaled << 1) } else { (exponent, scaled) }
        };
        if exponent >= 0xff {
            return Distance::MAX;
        }
        Distance::from_f32_bits(bits & 1 << 31 | exponent << 23 | mantissa as u32 & 0x7f_ffff)
    }
}

/// The memory and the rules of a prune.
#[derive(Default)]
pub(crate) struct Prune {
    /// Mixed into the row numbers of all candidates below, so that ties spread out.
    pub(crate) salt: u32,
    /// Candidates, nearest first, without the node itself; used up by a prune.
    pub(crate) pool: Vec<Candidate>,
    /// What was chosen, nearest first.
    pub(crate) chosen: Vec<Candidate>,
    /// Backbone nodes among which a backbone node's links of that kind are chosen, nearest first;
    /// then the chosen ones.
    pub(crate) backbone: Vec<Candidate>,
    spare: Vec<Candidate>,
}

impl Prune {
    /// Reserves for pools of `candidates`, so that [`Prune::choose`] allocates nothing.
    pub(crate) fn reserve(&mut self, candidates: usize) -> Result<(), Error> {
        for part in [&mut self.pool, &mut self.chosen, &mut self.backbone, &mut self.spare] {
            part.clear();
            part.try_reserve(candidates).map_err(|_| Error::OutOfMemory)?;
        }
        Ok(())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let parts = [&self.pool, &self.chosen, &self.backbone, &self.spare];
        parts.iter().map(|part| part.capacity()).sum::<usize>() * size_of::<Candidate>()
    }

    /// Chooses at most `degree` of the pool for the node whose row is `node`.
    ///
    /// A candidate that lies strictly nearer (by the relaxation) to a chosen neighbour than to the
    /// node is left out. Rows equal to the node tie with each other and so are never left out that
    /// way; they get a quarter of the places at most, or a node among many copies would have no
    /// link that leads away from them. Where fewer than `fill` are chosen, the nearest that were
    /// left out fill up.
    pub(crate) fn choose(
        &mut self,
        space: &Space<'_>,
        node: &[u8],
        degree: usize,
        fill: usize,
        relaxation: Relaxation,
    ) {
        let Self { salt, pool, chosen, spare, .. } = self;
        let salt = *salt;
        chosen.clear();
        spare.clear();
        let equals_max = (degree / 4).max(1);
        let mut equals = 0;
        let mut used = 0;
        while chosen.len() < degree {
            // `sift` moves the survivors to the front; only equal rows are stepped over.
            let Some(nearest) = pool.get(used).copied() else { break };
            let Some((bytes, term)) = space.rows.get(nearest.row() ^ salt) else {
                used += 1;
                continue;
            };
            if bytes == node {
                used += 1;
                equals += 1;
                let part = if equals <= equals_max { &mut *chosen } else { &mut *spare };
                let _ = part.try_push(nearest);
                continue;
            }
            let _ = chosen.try_push(nearest);
            if chosen.len() >= degree {
                break;
            }
            space.sift((bytes, term), pool, (used + 1, salt), &mut |candidate, distance| {
                if relaxation.apply(distance) >= candidate.distance() {
                    return Some(candidate);
                }
                let _ = spare.try_push(candidate);
                None
            });
            used = 0;
        }
        if chosen.len() < fill.min(degree) && !spare.is_empty() {
            vexfs_memory::sort_by(spare, |a, b| a < b);
            for candidate in spare.iter().take(fill.min(degree) - chosen.len()) {
                let _ = chosen.try_push(*candidate);
            }
        }
    }
}
