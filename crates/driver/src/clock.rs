//! Where `now` comes from: the machine's clocks, or a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use netstream_transport::{Mono, Now, Wall};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Both clocks at this moment. The monotonic one never goes backwards.
    fn now(&self) -> Now;
}

/// The machine's clocks; the monotonic one starts at zero when this is made.
///
/// The wall clock is looked at 15 times a second at most, so that its seconds begin up to 67 ms late: a loop that polls
/// spends a tenth of its time on reading clocks.
#[derive(Clone, Debug)]
pub struct SystemClock {
    origin: Instant,
    /// What the wall clock showed last, and when that was: a second below, a moment of the monotonic clock in units of
    /// [`WALL_SHIFT`] above.
    wall: Arc<AtomicU64>,
}

/// For how long a look at the wall clock is good, as a power of two of nanoseconds.
const WALL_SHIFT: u32 = 26;

/// Bits of a wall-clock second: until the year 2514.
const WALL_BITS: u32 = 34;

impl SystemClock {
    /// A clock whose monotonic zero is now.
    pub fn new() -> Self {
        Self { origin: Instant::now(), wall: Arc::new(AtomicU64::new(0)) }
    }

    fn wall(&self, mono: Mono) -> u64 {
        // Never zero, as the first look is still to come then.
        let moment = ((mono.as_nanos() >> WALL_SHIFT) + 1) << WALL_BITS;
        let (seen, second) = (self.wall.load(Ordering::Relaxed), (1 << WALL_BITS) - 1);
        if seen & !second == moment {
            return seen & second;
        }
        // A clock before 1970 has nothing useful to say about the expiry of tokens: all of them have.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.wall.store(moment | now & second, Ordering::Relaxed);
        now
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let mono = Mono::ZERO + self.origin.elapsed();
        Now { mono, wall: Wall::from_unix(self.wall(mono)) }
    }
}

/// A clock that stands still until it is told to go on. Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    nanos: Arc<AtomicU64>,
    /// Wall-clock second at monotonic zero.
    epoch: u64,
}

impl ManualClock {
    /// A clock at monotonic zero, whose wall clock shows some second of 2026.
    pub fn new() -> Self {
        Self::at(Wall::from_unix(1_780_000_000))
    }

    /// A clock at monotonic zero, whose wall clock shows `wall`.
    pub fn at(wall: Wall) -> Self {
        Self { nanos: Arc::new(AtomicU64::new(0)), epoch: wall.as_unix() }
    }

    /// Lets `step` pass, for all clones, and returns the new time.
    pub fn advance(&self, step: Duration) -> Now {
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        let add = |nanos: u64| Some(nanos.saturating_add(step));
        // The closure never returns `None`, so the update cannot fail.
        let _ = self.nanos.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        self.now()
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        let nanos = self.nanos.load(Ordering::Relaxed);
        let wall = Wall::from_unix(self.epoch.saturating_add(nanos / 1_000_000_000));
        Now { mono: Mono::from_nanos(nanos), wall }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_wall_clock_is_never_more_than_67_ms_behind() {
        let clock = SystemClock::new();
        let machine = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        for _ in 0..1000 {
            let before = machine() - Duration::from_millis(68);
            let wall = clock.now().wall.as_unix();
            assert!((before.as_secs()..=machine().as_secs()).contains(&wall));
            std::thread::sleep(Duration::from_micros(100));
        }
        // What was seen is forgotten with the moment it was seen at.
        clock.wall.store(clock.wall.load(Ordering::Relaxed) - 10, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(70));
        assert!(clock.now().wall.as_unix() >= (machine() - Duration::from_secs(1)).as_secs());
    }

    #[test]
    fn clones_of_a_manual_clock_go_together() {
        let clock = ManualClock::at(Wall::from_unix(100));
        let other = clock.clone();
        assert_eq!(clock.now(), Now { mono: Mono::ZERO, wall: Wall::from_unix(100) });
        clock.advance(Duration::from_millis(1500));
        assert_eq!(other.now(), Now { mono: Mono::from_nanos(1_500_000_000), wall: Wall::from_unix(101) });
    }

    #[test]
    fn a_manual_clock_stops_at_the_end_of_time() {
        let clock = ManualClock::new();
        clock.advance(Duration::MAX);
        assert_eq!(clock.advance(Duration::MAX).mono, Mono::from_nanos(u64::MAX));
    }

    #[test]
    fn the_system_clock_does_not_go_backwards() {
        let clock = SystemClock::new();
        let first = clock.now();
        assert!(clock.now().mono >= first.mono);
        assert!(first.wall > Wall::from_unix(1_700_000_000));
    }
}
