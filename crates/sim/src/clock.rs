//! The clocks of a node: neither fast nor slow, or both.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use netstream::driver::Clock;
use netstream::transport::{Mono, Now, Wall};

/// The second of 2026 in which every run begins.
pub(crate) const EPOCH: u64 = 1_780_000_000;

/// What one node takes for the time. The monotonic clock runs at its own rate and never goes back; the wall clock may.
#[derive(Clone, Debug)]
pub(crate) struct NodeClock {
    /// True and own time when the rate changed last.
    anchor: (Mono, Mono),
    rate: f64,
    wall_ahead: i64,
}

impl NodeClock {
    /// A clock that is right, but that counts from `origin`: no two machines were started at the same time.
    pub(crate) fn new(origin: Duration) -> Self {
        Self { anchor: (Mono::ZERO, Mono::ZERO + origin), rate: 1.0, wall_ahead: 0 }
    }

    /// What the node sees at `now`.
    pub(crate) fn at(&self, now: Mono) -> Now {
        let (truth, own) = self.anchor;
        let mono = own + now.since(truth).mul_f64(self.rate);
        let wall = EPOCH + now.as_nanos() / 1_000_000_000;
        Now { mono, wall: Wall::from_unix(wall.saturating_add_signed(self.wall_ahead)) }
    }

    /// The monotonic clock runs at `rate` from now on.
    pub(crate) fn set_rate(&mut self, now: Mono, rate: f64) {
        self.anchor = (now, self.at(now).mono);
        self.rate = rate;
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, seconds: i64) {
        self.wall_ahead += seconds;
    }

    /// Whether the wall clock shows a time that is yet to come.
    pub(crate) fn is_ahead(&self) -> bool {
        self.wall_ahead > 0
    }

    /// Somebody sets everything right.
    pub(crate) fn repair(&mut self, now: Mono) {
        self.set_rate(now, 1.0);
        self.wall_ahead = 0;
    }
}

/// The time of one node, for drivers and Apps: set before each of its updates, and standing still in between.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedClock(Arc<Mutex<Now>>);

impl SharedClock {
    /// It is `now` from now on.
    pub(crate) fn set(&self, now: Now) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for SharedClock {
    fn now(&self) -> Now {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_rate_does_not_make_time_jump() {
        let mut clock = NodeClock::new(Duration::from_secs(5));
        let at = |seconds| Mono::ZERO + Duration::from_secs(seconds);
        clock.set_rate(at(10), 1.1);
        assert_eq!(clock.at(at(10)).mono, at(15));
        assert_eq!(clock.at(at(20)).mono, at(26));
        clock.repair(at(20));
        assert_eq!(clock.at(at(21)).mono, at(27));
    }

    #[test]
    fn the_wall_clock_jumps_alone() {
        let mut clock = NodeClock::new(Duration::ZERO);
        let before = clock.at(Mono::ZERO);
        clock.jump(-60);
        let after = clock.at(Mono::ZERO);
        assert_eq!((after.mono, after.wall.as_unix()), (before.mono, before.wall.as_unix() - 60));
    }
}
