//! How bad one direction of a link is.

use std::time::Duration;

/// How bad one direction of a link is. All times are one-way; a round trip meets two profiles.
///
/// ```
/// use netstream_driver::LinkProfile;
///
/// let bad = LinkProfile { loss: 0.2, ..LinkProfile::MOBILE_4G };
/// assert!(!bad.is_perfect());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkProfile {
    /// How long a packet travels.
    pub delay: Duration,
    /// The most by which `delay` differs for one packet, up or down, evenly distributed. Packets do not overtake each
    /// other because of it: one that is due before its predecessor waits, so under dense traffic the mean delay is
    /// above `delay`.
    pub jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f32,
    /// Mean number of packets that are lost in a row; up to 1 means that each is lost or not for itself.
    pub burst: f32,
    /// Share of packets that arrive twice, 0 to 1.
    pub duplicate: f32,
    /// Share of packets that are held back so that later ones overtake them, 0 to 1.
    pub reorder: f32,
    /// Share of packets that arrive with one bit turned, 0 to 1. Only packets; whole messages are never damaged.
    pub corrupt: f32,
    /// Bytes per second that fit through; `None` is without limit.
    pub rate: Option<u32>,
    /// The longest that a packet waits for its turn where `rate` is limited; what would wait longer is lost.
    pub queue: Duration,
}

impl LinkProfile {
    /// Nothing happens to anything.
    pub const PERFECT: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: 1.0,
        duplicate: 0.0,
        reorder: 0.0,
        corrupt: 0.0,
        rate: None,
        queue: Duration::from_millis(200),
    };
    /// A wired local network.
    pub const LAN: Self = Self { delay: micros(200), jitter: micros(50), ..Self::PERFECT };
    /// Cable or fibre within one country.
    pub const BROADBAND: Self = Self { delay: millis(10), jitter: millis(1), loss: 0.001, ..Self::PERFECT };
    /// A busy home Wi-Fi.
    pub const WIFI: Self =
        Self { delay: millis(15), jitter: millis(12), loss: 0.02, duplicate: 0.01, reorder: 0.05, ..Self::PERFECT };
    /// A phone that moves through a 4G network.
    pub const MOBILE_4G: Self =
        Self { delay: millis(30), jitter: millis(20), loss: 0.03, burst: 4.0, rate: Some(375_000), ..Self::PERFECT };
    /// Across an ocean.
    pub const INTERCONTINENTAL: Self = Self { delay: millis(75), jitter: millis(5), loss: 0.01, ..Self::PERFECT };
    /// By way of a satellite.
    pub const SATELLITE: Self =
        Self { delay: millis(300), jitter: millis(10), loss: 0.01, rate: Some(125_000), ..Self::PERFECT };
    /// What nobody should have to play on.
    pub const AWFUL: Self =
        Self { delay: millis(50), jitter: millis(30), loss: 0.2, reorder: 0.1, corrupt: 0.005, ..Self::PERFECT };

    /// The presets by name, for command lines and menus.
    pub const PRESETS: &'static [(&'static str, Self)] = &[
        ("perfect", Self::PERFECT),
        ("lan", Self::LAN),
        ("broadband", Self::BROADBAND),
        ("wifi", Self::WIFI),
        ("mobile-4g", Self::MOBILE_4G),
        ("intercontinental", Self::INTERCONTINENTAL),
        ("satellite", Self::SATELLITE),
        ("awful", Self::AWFUL),
    ];

    /// The preset called `name`.
    pub fn preset(name: &str) -> Option<Self> {
        Self::PRESETS.iter().find(|(preset, _)| *preset == name).map(|(_, profile)| *profile)
    }

    /// Whether packets pass unchanged and at once.
    pub fn is_perfect(&self) -> bool {
        let shares = [self.loss, self.duplicate, self.reorder, self.corrupt];
        self.delay.is_zero() && self.jitter.is_zero() && self.rate.is_none() && shares.iter().all(|share| *share <= 0.0)
    }
}

impl Default for LinkProfile {
    fn default() -> Self {
        Self::PERFECT
    }
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_found_by_name_and_only_one_is_perfect() {
        assert_eq!(LinkProfile::preset("mobile-4g"), Some(LinkProfile::MOBILE_4G));
        assert_eq!(LinkProfile::preset("5g"), None);
        let perfect = LinkProfile::PRESETS.iter().filter(|(_, profile)| profile.is_perfect());
        assert_eq!(perfect.map(|(name, _)| *name).collect::<Vec<_>>(), ["perfect"]);
    }
}
