//! Spreads packets over time, so that a burst does not overflow a small queue on the way.

use crate::Mono;
use crate::look::Look;
use crate::time::Span;

/// A token bucket of bytes. It holds what the rate gives while nobody looked, so that a caller that comes once per tick
/// still gets the whole rate, and one that comes at every deadline sends evenly.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// In [`UNIT`]s of a byte, so that nothing is rounded. May be negative: what is never held back counts all the same.
    tokens: i64,
    /// How far it may be negative.
    floor: i64,
    updated_at: Mono,
    rate: u64,
    /// Whether something has waited since the last visit.
    waited: bool,
    /// How late visits were lately that something waited for.
    late: Span,
}

/// Tokens per byte: bytes per second times nanoseconds are tokens.
const UNIT: i64 = 1_000_000_000;

/// A visit that is later gives no more tokens than this: about the longest frame of a game.
const MAX_LATE: Span = Span::from_millis(50);

/// Visits this late come in ticks.
const TICK: Span = Span::from_millis(4);

/// For how long being late counts.
const MEMORY: Span = Span::from_millis(200);

/// How far traffic that is not held back may put the rest into debt, as time at the present rate.
const MAX_DEBT: Span = Span::from_millis(250);

impl Pacer {
    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.updated_at);
    }

    pub(crate) const fn new(now: Mono) -> Self {
        Self { tokens: 0, floor: 0, updated_at: now, rate: 0, waited: false, late: Span::ZERO }
    }

    /// One of which `burst` bytes may leave at once from the start.
    pub(crate) const fn filled(now: Mono, burst: u32) -> Self {
        Self { tokens: burst as i64 * UNIT, ..Self::new(now) }
    }

    /// Forgets everything: there is no rate yet.
    pub(crate) fn restart(&mut self, now: Mono) {
        *self = Self::new(now);
    }

    /// Lets time pass at `rate` bytes per second. `burst` bytes may leave at once after any pause.
    pub(crate) fn update(&mut self, now: Mono, rate: u64, burst: u32) {
        let pause = now.after(self.updated_at);
        if pause.is_zero() {
            return;
        }
        let late = if self.waited { now.after(self.opens_at(self.rate)) } else { Span::ZERO };
        self.waited = false;
        self.updated_at = now;
        self.rate = rate;
        if !self.late.is_zero() {
            // A lateness is below 2^26 ns and the memory below 2^28.
            let forgotten = self.late.as_nanos() * pause.min(MEMORY).as_nanos() / MEMORY.as_nanos();
            self.late = self.late - Span::from_nanos(forgotten);
        }
        self.late = self.late.max(late.min(MAX_LATE));
        let burst = i64::from(burst) * UNIT;
        let most = tokens_in(rate, self.late) + burst;
        self.tokens = self.tokens.saturating_add(tokens_in(rate, pause)).min(most);
        self.floor = -tokens_in(rate, MAX_DEBT).max(burst);
    }

    /// How late visits were lately, if so late that what leaves at one is a burst.
    pub(crate) fn tick(&self) -> Option<Span> {
        (self.late >= TICK).then_some(self.late)
    }

    /// Something has to wait for the next visit.
    pub(crate) const fn wait(&mut self) {
        self.waited = !self.is_open();
    }

    /// Whether something may leave now.
    pub(crate) const fn is_open(&self) -> bool {
        self.tokens > 0
    }

    pub(crate) fn spend(&mut self, bytes: usize) {
        self.tokens = self.tokens.saturating_sub_unsigned(bytes as u64 * UNIT as u64).max(self.floor);
    }

    /// When the next packet may leave at `rate`.
    pub(crate) fn opens_at(&self, rate: u64) -> Mono {
        let missing = u64::try_from(self.tokens.saturating_neg().saturating_add(1)).unwrap_or(0);
        self.updated_at + Span::from_nanos(missing.div_ceil(rate.max(1)))
    }
}

fn tokens_in(rate: u64, time: Span) -> i64 {
    i64::try_from(u128::from(rate) * u128::from(time.as_nanos())).unwrap_or(i64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that leave in one second where the pacer is visited every `step`.
    fn sent_per_second(rate: u64, step: Span) -> u64 {
        let mut pacer = Pacer::new(Mono::ZERO);
        let mut now = Mono::ZERO;
        let mut sent = 0;
        while now < Mono::ZERO + Span::from_secs(1) {
            now = now + step;
            pacer.update(now, rate, 2400);
            while pacer.is_open() {
                pacer.spend(1200);
                sent += 1200;
            }
            pacer.wait();
        }
        sent
    }

    #[test]
    fn the_rate_is_kept_whether_visits_are_rare_or_frequent() {
        for step in [Span::from_nanos(300), Span::from_micros(100), Span::from_millis(4), Span::from_millis(33)] {
            let sent = sent_per_second(1_250_000, step);
            assert!((1_200_000..=1_300_000).contains(&sent), "{step:?}: {sent}");
        }
    }

    #[test]
    fn a_long_pause_does_not_become_a_long_burst() {
        let mut pacer = Pacer::new(Mono::ZERO);
        pacer.update(Mono::ZERO + Span::from_secs(60), 1_000_000, 2400);
        assert!(pacer.tokens <= 53_000 * UNIT);
    }

    #[test]
    fn a_slow_rate_opens_when_it_was_announced_too() {
        let mut pacer = Pacer::new(Mono::ZERO);
        let mut now = Mono::from_nanos(1);
        let mut sent = 0;
        while now < Mono::ZERO + Span::from_secs(100) {
            now = pacer.opens_at(3_000).max(now);
            pacer.update(now, 3_000, 4_800);
            assert!(pacer.is_open());
            pacer.spend(1200);
            sent += 1200;
        }
        assert!((290_000..=400_000).contains(&sent), "{sent}");
    }

    #[test]
    fn the_next_opening_is_where_it_was_announced() {
        let mut pacer = Pacer::new(Mono::ZERO);
        let start = Mono::from_nanos(1);
        pacer.update(start, 1_000_000, 100);
        pacer.spend(1200);
        let at = pacer.opens_at(1_000_000);
        pacer.update(at, 1_000_000, 100);
        assert!(pacer.is_open());
        assert!(at.after(start) > Span::from_micros(1_000), "{at:?}");
        assert!(at.after(start) < Span::from_micros(1_300), "{at:?}");
    }
}
