//! Randomness of the operating system.

use netstream_transport::Random;

/// The operating system's random numbers: what keys, tokens and nonces of a real server come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    /// # Panics
    ///
    /// If the operating system has no randomness to give. There is nothing safe to go on with: every key that follows
    /// would be guessable.
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        let (mut first, mut second) = ([0; 16], [0; 16]);
        OsRandom.fill(&mut first);
        OsRandom.fill(&mut second);
        // Equal by chance once in 2^128.
        assert_ne!(first, second);
    }
}
