//! A clock that follows another one without ever running backwards.

/// The slowest and the fastest that a following clock runs, as a share of real time.
pub(crate) const SLOWEST: f64 = 0.9;
/// See [`SLOWEST`].
pub(crate) const FASTEST: f64 = 1.1;
/// How much faster it runs for each tick that it is behind: a difference of 2 ticks takes the full tenth.
const GAIN: f64 = 0.05;

/// A position in ticks that is led towards where it should be: a little faster or slower while the difference is small,
/// by a jump forward or by standing still where it is too large for that.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SlewClock {
    position: Option<f64>,
    scale: f64,
    jumps: u32,
}

impl SlewClock {
    /// Where it is; `None` before the first [`advance`](Self::advance).
    pub(crate) fn position(&self) -> Option<f64> {
        self.position
    }

    /// How fast it runs at present; 1 is real time, 0 before it runs.
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// How often it jumped or stood still since it runs.
    pub(crate) fn jumps(&self) -> u32 {
        self.jumps
    }

    /// Lets `elapsed` ticks of real time pass. `desired` is where the clock should be at the end of them; more than
    /// `far` ticks away from it, slewing would take too long.
    pub(crate) fn advance(&mut self, elapsed: f64, desired: f64, far: f64) {
        let Some(position) = self.position else {
            (self.position, self.scale) = (Some(desired), 1.0);
            return;
        };
        let error = desired - (position + elapsed);
        if error > far {
            self.jumps += 1;
            self.scale = 1.0;
            self.position = Some(desired);
        } else if error < -far {
            // It may not run backwards: it waits for the others.
            self.jumps += u32::from(self.scale > 0.0);
            self.scale = 0.0;
        } else {
            self.scale = (1.0 + error * GAIN).clamp(SLOWEST, FASTEST);
            self.position = Some(position + elapsed * self.scale);
        }
    }

    /// Puts it where another clock is, unless that would be backwards.
    pub(crate) fn lock(&mut self, position: f64) {
        self.position = Some(self.position.map_or(position, |old| old.max(position)));
        self.scale = 1.0;
    }

    /// Counts positions from another origin.
    pub(crate) fn rebase(&mut self, by: f64) {
        self.position = self.position.map(|position| position - by);
    }
}

/// How far a sample may lie from the mean to count in full, in ticks; to which comes the same number of deviations.
const USUAL: f64 = 4.0;

/// A mean that follows its samples, and how far they usually lie from it.
///
/// A single sample far off, of a packet that lay about while one of the Worlds stood still, moves it by half a tick; if
/// more of the kind come, it believes them after a few.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Estimate {
    mean: Option<f64>,
    deviation: f64,
}

impl Estimate {
    pub(crate) fn add(&mut self, sample: f64) {
        match &mut self.mean {
            None => self.mean = Some(sample),
            Some(mean) => {
                let usual = USUAL * (1.0 + self.deviation);
                let error = (sample - *mean).clamp(-usual, usual);
                *mean += error / 8.0;
                self.deviation += (error.abs() - self.deviation) / 4.0;
            }
        }
    }

    /// `None` before the first sample.
    pub(crate) fn mean(&self) -> Option<f64> {
        self.mean
    }

    pub(crate) fn deviation(&self) -> f64 {
        self.deviation
    }

    pub(crate) fn rebase(&mut self, by: f64) {
        self.mean = self.mean.map(|mean| mean - by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_difference_is_slewed_away_within_the_limits() {
        let mut clock = SlewClock::default();
        clock.advance(1.0, 100.0, 15.0);
        let mut desired = 104.0;
        for _ in 0..200 {
            let before = clock.position().unwrap();
            desired += 1.0;
            clock.advance(1.0, desired, 15.0);
            let step = clock.position().unwrap() - before;
            assert!((SLOWEST..=FASTEST).contains(&step), "{step}");
        }
        assert!((clock.position().unwrap() - desired).abs() < 0.01);
        assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn one_sample_far_off_is_not_believed_and_ten_are() {
        let mut estimate = Estimate::default();
        (0..20).for_each(|_| estimate.add(5.0));
        estimate.add(125.0);
        assert!(estimate.mean().unwrap() < 6.0);
        (0..20).for_each(|_| estimate.add(5.0));
        assert!((estimate.mean().unwrap() - 5.0).abs() < 0.1 && estimate.deviation() < 0.1);
        (0..30).for_each(|_| estimate.add(125.0));
        assert!((estimate.mean().unwrap() - 125.0).abs() < 6.0, "{estimate:?}");
    }

    #[test]
    fn it_jumps_forward_or_waits_but_never_runs_backwards() {
        let mut clock = SlewClock::default();
        clock.advance(1.0, 100.0, 15.0);
        clock.advance(1.0, 200.0, 15.0);
        assert_eq!(clock.position(), Some(200.0));
        let mut last = 200.0;
        for step in 0..60 {
            clock.advance(1.0, 150.0 + f64::from(step), 15.0);
            let now = clock.position().unwrap();
            assert!(now >= last);
            last = now;
        }
        clock.lock(last - 5.0);
        assert_eq!(clock.position(), Some(last));
        assert_eq!(clock.jumps(), 2);
    }
}
