//! How long things took, in room that does not grow.

use std::time::Duration;

/// Buckets per doubling: values are told apart to 3 %.
const STEPS: usize = 32;
/// Buckets from 1 us to more than an hour.
const BUCKETS: usize = STEPS * 32;

/// Counts of durations by size.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one.
    pub(crate) fn add(&mut self, duration: Duration) {
        let micros = duration.as_secs_f64() * 1e6;
        let bucket = (micros.max(1.0).log2() * STEPS as f64) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    /// Adds what `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many there were.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// What this share of them did not exceed, to 3 %; zero if there were none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        // The upper end of the bucket, which no value of it exceeds.
        let end = |bucket: usize| Duration::from_secs_f64(2f64.powf((bucket + 1) as f64 / STEPS as f64) / 1e6);
        bucket.map_or(Duration::ZERO, |bucket| end(bucket).min(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_percent() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|millis| histogram.add(Duration::from_millis(millis)));
        for share in [0.01, 0.5, 0.9, 0.99] {
            let (found, right) = (histogram.quantile(share).as_secs_f64(), share);
            assert!((0.999..1.03).contains(&(found / right)), "{share}: {found}");
        }
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
        assert_eq!((histogram.total(), histogram.longest()), (1000, Duration::from_secs(1)));
    }

    #[test]
    fn nothing_and_extremes_are_no_trouble() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        histogram.add(Duration::ZERO);
        assert_eq!(histogram.quantile(0.99), Duration::ZERO);
        histogram.add(Duration::from_secs(1 << 40));
        assert_eq!(histogram.quantile(1.0), Duration::from_secs_f64(2f64.powi(32) / 1e6));
    }
}
