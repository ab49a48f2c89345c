//! Simulation ticks: the clock that commands and snapshots are counted by.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU16;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The number of one simulation step of the server.
///
/// Ticks wrap around after 2^32. Two of them are compared the shorter way round (serial number arithmetic, RFC 1982):
/// right as long as they are less than 2^31 apart, which at 60 Hz is more than a year. Because that order is not total,
/// there is no `Ord`: sort with [`since`](Self::since) some known tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tick(u32);

impl Tick {
    /// Tick number `number`.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// How many ticks after `earlier` this one is; negative if it is before.
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    /// Whether this tick comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        self.since(other) > 0
    }

    /// The tick that lies `ticks` after this one, or before it where that is negative.
    #[must_use]
    pub const fn offset(self, ticks: i32) -> Self {
        Self(self.0.wrapping_add_signed(ticks))
    }
}

impl PartialOrd for Tick {
    /// The shorter way round; `None` for two ticks that are exactly 2^31 apart.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.since(*other) {
            i32::MIN => None,
            distance => Some(distance.cmp(&0)),
        }
    }
}

impl Add<u32> for Tick {
    type Output = Self;

    fn add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }
}

impl AddAssign<u32> for Tick {
    fn add_assign(&mut self, ticks: u32) {
        *self = *self + ticks;
    }
}

impl Sub<u32> for Tick {
    type Output = Self;

    fn sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }
}

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many ticks a second has; the same on both ends, which is checked when they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TickRate(NonZeroU16);

impl TickRate {
    /// `hz` ticks a second; `None` for 0.
    pub const fn hz(hz: u16) -> Option<Self> {
        match NonZeroU16::new(hz) {
            Some(hz) => Some(Self(hz)),
            None => None,
        }
    }

    /// Ticks a second.
    pub const fn per_second(self) -> u16 {
        self.0.get()
    }

    /// How long one tick takes, to the nanosecond.
    pub fn duration(self) -> Duration {
        Duration::from_secs(1) / u32::from(self.0.get())
    }

    /// How many ticks fit in `time`, with their fraction.
    pub(crate) fn ticks_in(self, time: Duration) -> f64 {
        time.as_secs_f64() * f64::from(self.0.get())
    }
}

impl Default for TickRate {
    /// 60 Hz.
    fn default() -> Self {
        Self(NonZeroU16::MIN.saturating_add(59))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_ordered_the_shorter_way_round() {
        let (last, first) = (Tick::new(u32::MAX), Tick::new(0));
        assert!(first > last && first.is_after(last));
        assert!(!last.is_after(first) && !first.is_after(first));
        assert_eq!(first.since(last), 1);
        assert_eq!(last.since(first), -1);
        assert_eq!(last + 1, first);
        assert_eq!(first - 1, last);
        assert_eq!(first.offset(-3), Tick::new(u32::MAX - 2));
        assert_eq!(Tick::new(7).partial_cmp(&Tick::new(7 + (1 << 31))), None);
        assert_eq!(Tick::new(7).partial_cmp(&Tick::new(7)), Some(Ordering::Equal));
    }

    #[test]
    fn a_rate_has_a_duration_and_zero_is_none() {
        assert_eq!(TickRate::hz(0), None);
        assert_eq!(TickRate::default().per_second(), 60);
        assert_eq!(TickRate::hz(20).unwrap().duration(), Duration::from_millis(50));
    }
}
