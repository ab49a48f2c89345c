//! Rates: what may happen how often.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use super::table::{KeyedState, prefix};
use crate::{Mono, Random};

/// So many units per second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Nanoseconds per unit, times 2^16.
    cost: u64,
    /// How far a bucket may run ahead: nanoseconds that the burst takes to drain.
    ahead: u64,
}

impl Rate {
    /// Zero counts as one: a rate that lets nothing through at all is a mistake.
    pub(crate) fn new(per_second: u64, burst: u64) -> Self {
        let cost = (1_000_000_000 << 16) / per_second.max(1);
        Self { cost, ahead: Self { cost, ahead: 0 }.nanos(burst.max(1)) }
    }

    /// `count` in every `window`, all of which may come at once.
    pub(crate) fn per_window(count: u64, window: Duration) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX) / count.max(1);
        // 2^47 ns are 39 hours a unit.
        let cost = nanos.min(1 << 47) << 16;
        Self { cost, ahead: Self { cost, ahead: 0 }.nanos(count.max(1)) }
    }

    fn nanos(&self, units: u64) -> u64 {
        u64::try_from((u128::from(self.cost) * u128::from(units)) >> 16).unwrap_or(u64::MAX)
    }
}

/// How far a [`Rate`] is used up (generic cell rate algorithm: the state is one instant).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When everything that was taken will have drained.
    drained: u64,
}

impl Bucket {
    /// Whether `units` may be taken now.
    #[inline]
    pub(crate) fn has(&self, now: Mono, rate: &Rate, units: u64) -> bool {
        let now = now.as_nanos();
        self.drained.max(now).saturating_add(rate.nanos(units)) <= now.saturating_add(rate.ahead)
    }

    /// Takes `units`, there or not.
    #[inline]
    pub(crate) fn charge(&mut self, now: Mono, rate: &Rate, units: u64) {
        self.drained = self.drained.max(now.as_nanos()).saturating_add(rate.nanos(units));
    }

    /// Takes `units` if they are there.
    #[cfg(test)]
    fn take(&mut self, now: Mono, rate: &Rate, units: u64) -> bool {
        let has = self.has(now, rate, units);
        if has {
            self.charge(now, rate, units);
        }
        has
    }
}

/// Buckets for any number of keys in a fixed amount of memory: keys that fall into the same place share one bucket. The
/// places are secret, so nobody can aim at another's.
#[derive(Debug)]
pub(crate) struct SharedBuckets {
    buckets: Box<[Bucket]>,
    places: KeyedState,
}

impl SharedBuckets {
    /// Buckets with `places` places, which is not zero; 8 bytes each.
    pub(crate) fn new(places: usize, random: &mut dyn Random) -> Self {
        Self { buckets: vec![Bucket::default(); places].into_boxed_slice(), places: KeyedState::new(random) }
    }

    /// The bucket of `key`.
    pub(crate) fn of(&mut self, key: u64) -> &mut Bucket {
        let place = self.places.hash_one(key) as usize % self.buckets.len();
        &mut self.buckets[place]
    }

    /// The bucket of the network that `address` is in.
    pub(crate) fn of_network(&mut self, address: SocketAddr) -> &mut Bucket {
        self.of(prefix(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rate = Rate::new(100, 20);
        let mut bucket = Bucket::default();
        let taken = (0..50).filter(|_| bucket.take(at(5000), &rate, 1)).count();
        assert_eq!(taken, 20);
        let taken = (1..=1000).filter(|millis| bucket.take(at(5000 + millis), &rate, 1)).count();
        assert!((99..=101).contains(&taken), "{taken}");
        // A long pause does not add up to more than one burst.
        let taken = (0..50).filter(|_| bucket.take(at(900_000), &rate, 1)).count();
        assert_eq!(taken, 20);
    }

    #[test]
    fn units_are_weighed() {
        let rate = Rate::new(1000, 1500);
        let mut bucket = Bucket::default();
        assert!(bucket.take(at(0), &rate, 1200));
        assert!(!bucket.take(at(0), &rate, 301));
        assert!(bucket.take(at(0), &rate, 300));
        assert!(bucket.take(at(1200), &rate, 1200));
    }

    #[test]
    fn a_window_takes_its_count() {
        let rate = Rate::per_window(5, Duration::from_secs(10));
        let mut bucket = Bucket::default();
        assert_eq!((0..9).filter(|_| bucket.take(at(0), &rate, 1)).count(), 5);
        assert!(!bucket.take(at(1999), &rate, 1));
        assert!(bucket.take(at(2000), &rate, 1));
    }

    #[test]
    fn rates_of_zero_and_of_the_impossible_do_not_panic() {
        for rate in [Rate::new(0, 0), Rate::new(u64::MAX, u64::MAX), Rate::per_window(0, Duration::MAX)] {
            let mut bucket = Bucket::default();
            for now in [0, 1, u64::MAX] {
                bucket.take(Mono::from_nanos(now), &rate, u64::MAX);
            }
        }
    }

    #[test]
    fn networks_have_budgets_of_their_own() {
        let mut buckets = SharedBuckets::new(4096, &mut SeededRandom::new(1));
        let rate = Rate::new(20, 20);
        for _ in 0..20 {
            assert!(buckets.of_network("192.0.2.7:1".parse().unwrap()).take(at(0), &rate, 1));
        }
        assert!(!buckets.of_network("192.0.2.8:1".parse().unwrap()).take(at(0), &rate, 1));
        assert!(buckets.of_network("198.51.100.7:1".parse().unwrap()).take(at(0), &rate, 1));
    }
}
