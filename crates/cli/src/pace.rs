//! Doing things at a rate, in real time.

use std::time::{Duration, Instant};

/// Updates per second of a World.
pub(crate) const UPDATES: f64 = 60.0;

/// Paces a loop. A round that took too long makes the next one start at once; rounds that were missed are not made up
/// for.
#[derive(Debug)]
pub(crate) struct Ticker {
    interval: Duration,
    next: Instant,
}

impl Ticker {
    /// `rate` rounds per second.
    pub(crate) fn new(rate: f64) -> Self {
        Self { interval: Duration::from_secs_f64(1.0 / rate), next: Instant::now() }
    }

    /// Waits for the next round and returns when it started.
    pub(crate) fn wait(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(left) = self.next.checked_duration_since(now) {
            std::thread::sleep(left);
        }
        let start = Instant::now();
        self.next = (self.next + self.interval).max(start);
        start
    }
}

/// Something that is to be done so often.
#[derive(Debug)]
pub(crate) struct Every {
    interval: Duration,
    next: Option<Instant>,
}

impl Every {
    /// Once in `interval`, for the first time at once.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: None }
    }

    /// `rate` times per second.
    pub(crate) fn rate(rate: f64) -> Self {
        Self::new(Duration::from_secs_f64(1.0 / rate))
    }

    /// Whether it is time, at most once per call. Keeps the rate on average, but never makes up for more than one miss.
    pub(crate) fn due(&mut self, now: Instant) -> bool {
        let next = self.next.unwrap_or(now);
        if now < next {
            return false;
        }
        let following = next + self.interval;
        self.next = Some(if following + self.interval < now { now + self.interval } else { following });
        true
    }
}

/// Something that is to be done so often to each of many, but not to all at once.
#[derive(Debug)]
pub(crate) struct Spread {
    /// Times per second.
    rate: f64,
    last: Option<Instant>,
    /// How often it was due to somebody at offset 0 before this round and with it.
    before: f64,
    now: f64,
}

impl Spread {
    /// `rate` times per second, and never more than once in a round.
    pub(crate) fn rate(rate: f64) -> Self {
        Self { rate, last: None, before: 0.0, now: 0.0 }
    }

    /// Begins the next round.
    pub(crate) fn advance(&mut self, now: Instant) {
        let passed = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        self.last = Some(now);
        self.before = self.now;
        self.now += (passed.as_secs_f64() * self.rate).min(1.0);
    }

    /// Whether it is due to `who` in this round. Close numbers have their turns far apart.
    pub(crate) fn is_due(&self, who: u32) -> bool {
        // Multiples of the golden ratio leave no part of the circle thin, however many there are.
        let offset = (f64::from(who) * 0.618_033_988_749_894_9).fract();
        (self.now + offset).floor() > (self.before + offset).floor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_at_the_rate_and_no_round_is_crowded() {
        let start = Instant::now();
        let mut spread = Spread::rate(10.0);
        let (mut turns, mut most) = ([0; 1000], 0);
        for round in 0..=300u32 {
            spread.advance(start + Duration::from_secs(1) * round / 30);
            let due: Vec<u32> = (0..1000).filter(|who| spread.is_due(*who)).collect();
            most = most.max(due.len());
            due.into_iter().for_each(|who| turns[who as usize] += 1);
        }
        assert!(turns.iter().all(|turns| (99..=101).contains(turns)), "{turns:?}");
        assert!((333..=340).contains(&most), "{most}");
    }

    #[test]
    fn a_rate_is_kept_on_average_whatever_the_rate_of_asking() {
        let start = Instant::now();
        let mut thirty = Every::rate(30.0);
        // 60 questions a second, with the unevenness of a real loop.
        let asked = (0..600u64).map(|n| start + Duration::from_micros(n * 16_667 + n % 3 * 700));
        let done = asked.filter(|now| thirty.due(*now)).count();
        assert!((299..=301).contains(&done), "{done}");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let start = Instant::now();
        let mut every = Every::new(Duration::from_millis(10));
        assert!(every.due(start));
        let later = start + Duration::from_secs(5);
        assert!(every.due(later));
        assert!(!every.due(later));
    }
}
