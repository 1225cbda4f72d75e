// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
//! Random numbers from a seed, and where the seed comes from.

/// A generator whose whole sequence follows from its seed (SplitMix64: Steele, Lea, Flood, "Fast
/// splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct SeededRandom(u64);

impl SeededRandom {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// True so many times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, if there are any.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.below(items.len() as u64) as usize) }
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Brings `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// Bytes to write, told by what they follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The seed of the bytes.
    pub seed: u64,
    /// How many there are.
    pub length: usize,
}

impl Blob {
    /// The bytes.
    pub fn bytes(&self) -> Vec<u8> {
        SeededRandom::new(self.seed).bytes(self.length)
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// The seed of a run: `VEXFS_SEED`, or `default`. Printed, so that a failure can be replayed.
pub fn seed(default: u64) -> u64 {
    let seed = variable("VEXFS_SEED").unwrap_or(default);
    println!("VEXFS_SEED={seed:#x}");
    seed
}

/// How many rounds to run: `VEXFS_ROUNDS`, or `default`.
pub fn rounds(default: u64) -> u64 {
    variable("VEXFS_ROUNDS").unwrap_or(default)
}

/// So many places, evenly spread over `length`, or all of them; others with another seed.
pub fn spread(length: usize, rounds: u64, seed: u64) -> Vec<usize> {
    let (length, rounds) = (length as u64, rounds.min(length as u64));
    (0..rounds).map(|round| ((seed % length + round * length / rounds) % length) as usize).collect()
}
