//! Randomness that a machine carries with it.

use zeroize::Zeroizing;

use super::Key;
use crate::Random;

/// A generator of keys and nonces out of one random seed: block `n` is BLAKE3 keyed by the seed over `n`.
///
/// It lets a machine make fresh keys later without being handed a source of randomness at every call.
#[derive(Debug)]
pub(crate) struct Drbg {
    seed: Key,
    block: u64,
}

impl Drbg {
    /// A generator whose seed comes from `random`.
    pub(crate) fn new(random: &mut dyn Random) -> Self {
        Self { seed: Key::random(random), block: 0 }
    }
}

impl Random for Drbg {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let block = Zeroizing::new(*blake3::keyed_hash(self.seed.as_bytes(), &self.block.to_le_bytes()).as_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
            // 2^64 blocks are more than a machine lives to draw.
            self.block = self.block.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    #[test]
    fn a_seed_gives_one_stream_without_repeats() {
        let mut first = Drbg::new(&mut SeededRandom::new(3));
        let mut second = Drbg::new(&mut SeededRandom::new(3));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            let word = first.u64();
            assert_eq!(word, second.u64());
            assert!(seen.insert(word));
        }
    }
}
