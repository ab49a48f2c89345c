//! Everything random in a simulation comes from its seed.

use std::ops::RangeInclusive;
use std::time::Duration;

use netstream::transport::{Random, SeededRandom};

/// Dice that fall the same way for the same seed and purpose.
///
/// Each purpose has dice of its own, so that leaving one fault out does not change how all others fall: that is what
/// lets a failure be made smaller.
#[derive(Clone, Debug)]
pub(crate) struct Dice(SeededRandom);

impl Dice {
    /// The dice of `seed` for `purpose`; `index` tells several of a kind apart.
    pub(crate) fn new(seed: u64, purpose: &str, index: usize) -> Self {
        // FNV-1a tells the purposes apart; SplitMix64 does the mixing.
        let label = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut mixer = SeededRandom::new(seed ^ label.rotate_left(17));
        let base = mixer.u64();
        let mut mixer = SeededRandom::new(base.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Self(SeededRandom::new(mixer.u64()))
    }

    /// A number of the range, all alike.
    pub(crate) fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.0.below(range.end() - range.start() + 1)
    }

    /// A number of the range, all orders of magnitude alike.
    pub(crate) fn magnitude(&mut self, range: RangeInclusive<f64>) -> f64 {
        let (low, high) = (range.start().ln(), range.end().ln());
        (low + (high - low) * self.share()).exp()
    }

    /// A time of the range, all orders of magnitude alike.
    pub(crate) fn time(&mut self, range: RangeInclusive<Duration>) -> Duration {
        let (low, high) = (range.start().as_secs_f64().max(1e-6), range.end().as_secs_f64());
        Duration::from_secs_f64(self.magnitude(low..=high))
    }

    /// A time of up to `most`, all alike.
    pub(crate) fn up_to(&mut self, most: Duration) -> Duration {
        most.mul_f64(self.share())
    }

    /// 0 to 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.0.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True this often.
    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.share() < chance
    }

    /// One of several.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize]
    }

    /// The source itself, for cores that want one.
    pub(crate) fn random(&mut self) -> &mut SeededRandom {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_indices_have_dice_of_their_own() {
        let first = |purpose, index| Dice::new(7, purpose, index).number(0..=u64::MAX - 1);
        assert_eq!(first("loss", 0), first("loss", 0));
        assert_ne!(first("loss", 0), first("loss", 1));
        assert_ne!(first("loss", 0), first("delay", 0));
    }

    #[test]
    fn what_falls_lies_in_the_range() {
        let mut dice = Dice::new(1, "test", 0);
        let short = Duration::from_millis(1)..=Duration::from_secs(1);
        for _ in 0..1000 {
            assert!((3..=5).contains(&dice.number(3..=5)));
            assert!((0.099..=2.001).contains(&dice.magnitude(0.1..=2.0)));
            let time = dice.time(short.clone());
            assert!(time >= Duration::from_micros(999) && time <= Duration::from_millis(1001));
        }
    }
}
