//! The round-trip time, as RFC 9002 §5 estimates it.

use crate::Mono;
use crate::look::Look;
use crate::time::Span;

/// What is assumed before the first sample.
const INITIAL: Span = Span::from_millis(100);

/// No sample is taken for more: a clock that jumped must not silence the link (I29).
const MAX: Span = Span::from_secs(10);

/// No peer is believed to have kept an ack for longer: a tick of 10 Hz.
pub(super) const MAX_DELAY: Span = Span::from_millis(100);

/// No path is faster.
const LEAST: Span = Span::from_micros(1);

/// The finest difference that timers act on; RFC 9002 §6.1.2.
pub(super) const GRANULARITY: Span = Span::from_millis(1);

/// For how long the smallest sample stays the smallest.
const MIN_WINDOW: Span = Span::from_secs(10);

#[derive(Clone, Debug)]
pub(super) struct Rtt {
    estimate: Option<Estimate>,
}

#[derive(Clone, Debug)]
struct Estimate {
    /// The last sample, with the peer's delay.
    whole: Span,
    smoothed: Span,
    deviation: Span,
    min: Span,
    min_at: Mono,
}

impl Rtt {
    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.estimate);
    }

    pub(super) const fn new() -> Self {
        Self { estimate: None }
    }

    /// Takes in a sample: the time from the departure of a packet to the arrival of its ack, of which the peer says
    /// that it kept the ack for `delay`.
    ///
    /// Unlike RFC 9002 this believes the peer even below the smallest sample so far: where acks always wait for a tick,
    /// no sample is without delay. A peer that lies only has more sent to itself, within the congestion window.
    pub(super) fn sample(&mut self, now: Mono, whole: Span, delay: Span) {
        let whole = whole.min(MAX);
        let latest = whole.saturating_sub(delay.min(MAX_DELAY)).max(LEAST);
        let Some(estimate) = &mut self.estimate else {
            self.estimate = Some(Estimate { whole, smoothed: latest, deviation: latest / 2, min: latest, min_at: now });
            return;
        };
        estimate.whole = whole;
        if latest <= estimate.min || now.after(estimate.min_at) > MIN_WINDOW {
            estimate.min = latest;
            estimate.min_at = now;
        }
        let difference = estimate.smoothed.max(latest) - estimate.smoothed.min(latest);
        estimate.deviation = (estimate.deviation * 3 + difference) / 4;
        estimate.smoothed = (estimate.smoothed * 7 + latest) / 8;
    }

    pub(super) fn smoothed(&self) -> Option<Span> {
        self.estimate.as_ref().map(|estimate| estimate.smoothed)
    }

    pub(super) fn deviation(&self) -> Option<Span> {
        self.estimate.as_ref().map(|estimate| estimate.deviation)
    }

    /// The smallest sample of the last [`MIN_WINDOW`].
    pub(super) fn min(&self) -> Option<Span> {
        self.estimate.as_ref().map(|estimate| estimate.min)
    }

    /// How much later than a packet another has to be acknowledged before the first counts as lost; RFC 9002 §6.1.2.
    pub(super) fn loss_delay(&self) -> Span {
        let base = self.estimate.as_ref().map_or(INITIAL, |estimate| estimate.smoothed.max(estimate.whole));
        (base * 9 / 8).max(GRANULARITY)
    }

    /// How long to wait for an ack before asking for one; RFC 9002 §6.2.1.
    pub(super) fn probe_timeout(&self, max_ack_delay: Span) -> Span {
        let (smoothed, deviation) =
            self.estimate.as_ref().map_or((INITIAL, INITIAL / 2), |estimate| (estimate.smoothed, estimate.deviation));
        smoothed + (deviation * 4).max(GRANULARITY) + max_ack_delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Span {
        Span::from_millis(millis)
    }

    #[test]
    fn the_peers_delay_is_taken_out() {
        let mut rtt = Rtt::new();
        assert_eq!(rtt.smoothed(), None);
        for _ in 0..100 {
            rtt.sample(Mono::ZERO, ms(75), ms(25));
        }
        assert_eq!(rtt.smoothed(), Some(ms(50)));
        assert_eq!(rtt.min(), Some(ms(50)));
        assert!(rtt.deviation().unwrap() < ms(1));
    }

    #[test]
    fn a_lie_about_the_delay_is_believed_up_to_a_tick() {
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.sample(Mono::ZERO, ms(180), ms(1000));
        }
        assert_eq!(rtt.smoothed(), Some(ms(80)));
    }

    #[test]
    fn the_minimum_forgets_after_its_window() {
        let mut rtt = Rtt::new();
        rtt.sample(Mono::ZERO, ms(10), ms(0));
        rtt.sample(Mono::ZERO + ms(9_000), ms(60), ms(0));
        assert_eq!(rtt.min(), Some(ms(10)));
        rtt.sample(Mono::ZERO + ms(10_001), ms(60), ms(0));
        assert_eq!(rtt.min(), Some(ms(60)));
    }

    #[test]
    fn a_clock_that_jumps_does_not_silence_the_link() {
        let mut rtt = Rtt::new();
        for _ in 0..100 {
            rtt.sample(Mono::ZERO, Span::MAX, Span::MAX);
        }
        assert!(rtt.probe_timeout(ms(25)) < ms(60_000));
    }
}
