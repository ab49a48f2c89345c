//! How much reliable data the path bears.
//!
//! A controller after BBR (Cardwell, Cheng, Gunn, Yeganeh, Jacobson: "BBR: Congestion-Based Congestion Control", ACM
//! Queue 14(5), 2016; delivery rate and aggregation as in draft-cardwell-iccrg-bbr-congestion-control-00 and -02): it
//! sends at the rate at which data has been seen to arrive, and keeps little more on its way than the path holds
//! without queueing. Two reasons against a controller that waits for losses, like CUBIC: at 1 % of random loss it
//! leaves most of the link idle, and without random loss it fills the queue in front of the game's own traffic.
//!
//! Departures: start-up also ends when the round-trip time rises (as HyStart++, RFC 9406, ends slow start), the pace
//! stays 1 % below the estimate, and the probe for the smallest round-trip time keeps half the path filled (BBRv2).

use super::filter::{MaxFilter, MinFilter};
use super::received::SPACING;
use super::rtt::Rtt;
use super::sent::{Settled, Snapshot};
use crate::Mono;
use crate::look::Look;
use crate::time::Span;

/// The window before anything is known of the path; RFC 9002 §7.2.
const INITIAL_WINDOW: u64 = 12_000;

/// The least window, in packets.
const MIN_PACKETS: u64 = 4;

/// Gains are in percent. Start-up grows by two thirds per round trip rather than doubling (2 / ln 2 = 289): it overshoots
/// by what it grows, and game traffic waits behind that.
const STARTUP_GAIN: u64 = 220;
const DRAIN_GAIN: u64 = 45;
const CRUISE_WINDOW_GAIN: u64 = 200;

/// One round of probing for more, one of draining what that queued, six at the estimate.
const CYCLE: [u64; 8] = [125, 75, 100, 100, 100, 100, 100, 100];

/// The same where a tick's worth leaves at once: what a tick has too much waits for a tick.
const TICK_CYCLE: [u64; 8] = [115, 85, 100, 100, 100, 100, 100, 100];

/// A little less than the estimate, so that a queue which is there goes away; and the same where the link is only looked
/// after once per tick: the estimate is coarser then, and a queue shorter than a tick cannot be seen.
const MARGIN: u64 = 99;
const TICK_MARGIN: u64 = 95;

/// While a queue stands in front of everything that leaves.
const STANDING_GAIN: u64 = 85;

/// On how many visits a link with ticks looks back: on longer paths a tick matters less.
const VISITS: usize = 4;

/// The least queue in front of a link with ticks that counts as one; for how long what ticks find is of interest, which
/// is longer than acks and ticks need to come into all phases; and how long a queue can stand that is being drained.
const TICK_QUEUE: Span = Span::from_millis(3);
const LAG_FOR: Span = Span::from_millis(200);
const PATH_FOR: Span = PROBE_RTT_EVERY;
const STANDING_AT_MOST: Span = Span::from_secs(1);

/// Rounds without growth, and packets in a row that tell of a queue, that end start-up.
const FULL_ROUNDS: u32 = 3;
const QUEUED_PACKETS: u64 = 8;

/// The loss that probing for more makes up for, in percent.
const MAX_LOSS: u64 = 25;

/// The least round trip that the window bridges. Shorter ones are those of ends that both have a processor; whoever waits
/// for one waits for about so long, and a window for less would let the path idle, the rate be seen to fall, and the next
/// window be smaller still. What paces keeps the queue short, and one of this length is none ([`Congestion::queue_sign`]).
const LEAST_ROUND_TRIP: Span = Span::from_millis(4);

/// How often the smallest round-trip time is looked for again, and for how long.
const PROBE_RTT_EVERY: Span = Span::from_secs(10);
const PROBE_RTT_FOR: Span = Span::from_millis(200);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Startup,
    Drain,
    Cruise,
    ProbeRtt { until: Mono },
}

/// What an ack tells of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The round-trip time, if the ack left at once.
    pub(super) latest: Option<Span>,
    /// How much round trips differ.
    pub(super) jitter: Span,
    /// How late the link is looked after, where that happens once per tick.
    pub(super) tick: Option<Span>,
    /// The share of packets that were lost lately.
    pub(super) loss_percent: u64,
    /// Bytes still on their way.
    pub(super) in_flight: usize,
}

/// The state of the controller. In this order in memory: what every packet and ack touches comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Congestion {
    /// Bytes that have arrived, and when that was noticed last.
    delivered: u64,
    delivered_at: Mono,
    /// Departure of the newest packet that has been acknowledged.
    first_sent_at: Mono,
    /// Until so many bytes have arrived, a low rate tells nothing: the application had nothing to send.
    app_limited_below: u64,
    tick: Span,
    mode: Mode,
    /// What the acks that are being processed have told.
    newest: Option<(Mono, Snapshot)>,
    acked: u64,
    /// Round trips: a round is over when a packet that was sent after its beginning is acknowledged.
    round: u64,
    round_ends: u64,
    /// The smallest round-trip time of this round and of the one before, and samples in this round.
    round_rtt: Span,
    last_round_rtt: Span,
    round_samples: u32,
    full_rounds: u32,
    /// Bytes acknowledged in a row after round trips so long that a queue must be there.
    queued_bytes: u64,
    noise: Span,
    min_rtt: Option<Span>,
    min_rtt_at: Mono,
    bandwidth: MaxFilter,
    /// Acks arrive in lumps where an end works in ticks; the window has to bridge them.
    aggregation: MaxFilter,
    epoch_at: Mono,
    epoch_acked: u64,
    loss_percent: u64,
    packet: u64,
    full_bandwidth: u64,
    cycle: usize,
    cycle_at: Mono,
    /// How long the part of the cycle before this one took.
    filled_for: Span,
    /// There once the link has been looked after once per tick.
    ticks: Option<Box<Ticks>>,
}

/// What is known where the link is only looked after once per tick.
#[derive(Debug)]
struct Ticks {
    /// The last visits at which something left, newest first.
    visits: [Visit; VISITS],
    /// How long packets lately took at least until a visit saw their ack, and how long they do without a queue.
    lag: MinFilter,
    path: MinFilter,
    /// Since when the two differ by a queue.
    stands_since: Option<Mono>,
}

impl Default for Ticks {
    fn default() -> Self {
        Self {
            visits: Default::default(),
            lag: MinFilter::new(LAG_FOR),
            path: MinFilter::new(PATH_FOR),
            stands_since: None,
        }
    }
}

/// What was in flight before and after one visit.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    at: Mono,
    before: u64,
    after: u64,
}

impl Congestion {
    pub(super) fn new(now: Mono, packet: usize) -> Self {
        Self {
            packet: packet as u64,
            mode: Mode::Startup,
            delivered: 0,
            delivered_at: now,
            first_sent_at: now,
            app_limited_below: 0,
            bandwidth: MaxFilter::new(),
            round: 0,
            round_ends: 0,
            round_rtt: Span::MAX,
            last_round_rtt: Span::MAX,
            round_samples: 0,
            queued_bytes: 0,
            loss_percent: 0,
            noise: Span::ZERO,
            tick: Span::ZERO,
            full_bandwidth: 0,
            full_rounds: 0,
            cycle: 2,
            cycle_at: now,
            filled_for: Span::ZERO,
            min_rtt: None,
            min_rtt_at: now,
            aggregation: MaxFilter::new(),
            epoch_at: now,
            epoch_acked: 0,
            newest: None,
            acked: 0,
            ticks: None,
        }
    }

    /// See [`Link::look_to_receive`](super::Link::look_to_receive).
    #[inline]
    pub(super) fn look_to_receive(&self, look: &mut impl Look) {
        self.look_to_send(look);
        look.at(&self.newest);
        look.at(&self.round_ends);
        look.at(&self.min_rtt_at);
        self.aggregation.look(look);
        look.at(&self.epoch_acked);
    }

    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look_to_send(&self, look: &mut impl Look) {
        look.at(&self.delivered);
    }

    /// A packet leaves while `in_flight` bytes are on their way.
    pub(super) fn on_sent(&mut self, now: Mono, in_flight: usize) -> Snapshot {
        self.note_visit(now, in_flight as u64);
        if in_flight == 0 {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.is_app_limited(),
        }
    }

    /// The application has nothing more to send for now, though more could.
    pub(super) fn on_app_limited(&mut self, in_flight: usize) {
        self.app_limited_below = self.delivered + in_flight as u64 + 1;
    }

    /// One packet of an ack whose newest packet arrived at the peer, in our time and but for the way back, at `at`.
    pub(super) fn on_acked(&mut self, at: Mono, packet: &Settled) {
        self.delivered += packet.size as u64;
        self.acked += packet.size as u64;
        self.delivered_at = self.delivered_at.max(at);
        if self.newest.is_none_or(|(_, newest)| packet.snapshot.delivered >= newest.delivered) {
            self.newest = Some((packet.sent_at, packet.snapshot));
        }
    }

    /// All packets of an ack have been told of.
    pub(super) fn on_ack_end(&mut self, now: Mono, seen: &Seen) {
        let acked = std::mem::take(&mut self.acked);
        let Some((sent_at, snapshot)) = self.newest.take() else { return };
        self.first_sent_at = sent_at;
        let new_round = snapshot.delivered >= self.round_ends;
        if new_round {
            self.round += 1;
            self.round_ends = self.delivered;
            self.last_round_rtt = if self.round_samples > 0 { self.round_rtt } else { Span::MAX };
            self.round_rtt = Span::MAX;
            self.round_samples = 0;
        }
        if let Some(latest) = seen.latest {
            self.round_rtt = self.round_rtt.min(latest);
            self.round_samples += 1;
            self.note_rtt(now, latest);
            self.noise = seen.jitter.max(seen.tick.map_or(Span::ZERO, |tick| tick + SPACING));
            let queued = latest > self.min_rtt.unwrap_or(latest) + self.queue_sign();
            self.queued_bytes = if queued { self.queued_bytes + acked } else { 0 };
        }
        // Whether the last ack made it into this tick changes the time between two by what lies between acks.
        let grain = if seen.tick.is_some() { SPACING / 2 } else { Span::ZERO };
        let interval =
            sent_at.after(snapshot.first_sent_at).max(self.delivered_at.after(snapshot.delivered_at) + grain);
        if interval >= self.min_rtt.unwrap_or(Span::MAX).min(Span::from_millis(1)) && !interval.is_zero() {
            let rate = per_second(self.delivered - snapshot.delivered, interval);
            if !snapshot.app_limited || rate >= self.bandwidth.get() {
                self.bandwidth.update(self.round, rate);
            }
        }
        self.note_aggregation(now, acked);
        if self.mode == Mode::Startup {
            self.check_full(new_round && !snapshot.app_limited);
        }
        self.loss_percent = seen.loss_percent;
        if self.tick.is_zero() && seen.tick.is_some() {
            // Those of an earlier time with ticks.
            self.ticks.get_or_insert_default().visits = Default::default();
        }
        self.tick = seen.tick.unwrap_or_default();
        self.step(now, seen.in_flight as u64);
    }

    fn note_rtt(&mut self, now: Mono, latest: Span) {
        let expired = now.after(self.min_rtt_at) > PROBE_RTT_EVERY;
        if self.min_rtt.is_none_or(|min| latest <= min) || expired {
            // A minimum that has become too old is looked for again before it is believed to have risen.
            if expired && self.min_rtt.is_some_and(|min| latest > min) && self.mode == Mode::Cruise {
                self.mode = Mode::ProbeRtt { until: now + PROBE_RTT_FOR };
            }
            self.min_rtt = Some(latest);
            self.min_rtt_at = now;
        }
    }

    /// How much more than expected has been acknowledged at once.
    fn note_aggregation(&mut self, now: Mono, acked: u64) {
        let expected = bytes_in(self.bandwidth.get(), now.after(self.epoch_at));
        if self.epoch_acked <= expected {
            self.epoch_at = now;
            self.epoch_acked = 0;
            self.epoch_acked += acked;
            self.aggregation.update(self.round, acked.min(self.bdp(100)));
            return;
        }
        self.epoch_acked += acked;
        let extra = (self.epoch_acked - expected).min(bytes_in(self.bandwidth.get(), Span::from_millis(100)));
        self.aggregation.update(self.round, extra);
    }

    /// Start-up is over when the rate no longer grows, or a queue does.
    fn check_full(&mut self, round_counts: bool) {
        if round_counts && self.bandwidth.get() * 4 >= self.full_bandwidth * 5 {
            self.full_bandwidth = self.bandwidth.get();
            self.full_rounds = 0;
        } else if round_counts {
            self.full_rounds += 1;
        }
        if self.full_rounds >= FULL_ROUNDS || self.queued_bytes >= QUEUED_PACKETS * self.packet {
            self.mode = Mode::Drain;
        }
    }

    /// How much longer than the smallest a round trip must be to tell of a queue; RFC 9406 §4.2, and more where round
    /// trips differ anyway.
    fn queue_sign(&self) -> Span {
        (self.min_rtt.unwrap_or_default() / 8).clamp(Span::from_millis(4), Span::from_millis(16)).max(self.noise)
    }

    /// Whether even the shortest round trip of the last rounds tells of a queue: one that does not go away by itself.
    fn queue_stands(&self) -> bool {
        if !self.tick.is_zero() {
            return self.ticks.as_ref().is_some_and(|ticks| ticks.stands_since.is_some());
        }
        let shortest = self.round_rtt.min(self.last_round_rtt);
        shortest != Span::MAX && shortest > self.min_rtt.unwrap_or(shortest) + self.queue_sign()
    }

    /// Where acks are only looked at once per tick, round trips cannot tell of a queue shorter than a tick. What a tick
    /// finds unacknowledged can: it takes a round trip and the queue to go away.
    fn note_visit(&mut self, now: Mono, in_flight: u64) {
        if self.tick.is_zero() {
            return;
        }
        let judges = self.mode == Mode::Cruise && !self.is_app_limited();
        let (packet, rate) = (self.packet, self.bandwidth.get().max(1));
        let Some(ticks) = &mut self.ticks else { return };
        let [last, ..] = &mut ticks.visits;
        if last.at == now {
            last.after = last.after.max(in_flight + packet); // acks may have come in between
            return;
        }
        if judges {
            ticks.note_lag(now, in_flight, rate);
        }
        ticks.visits.rotate_right(1);
        ticks.visits[0] = Visit { at: now, before: in_flight, after: in_flight + packet };
    }

    fn is_app_limited(&self) -> bool {
        self.delivered < self.app_limited_below
    }

    fn step(&mut self, now: Mono, in_flight: u64) {
        let min_rtt = self.min_rtt.unwrap_or(Span::ZERO);
        match self.mode {
            Mode::Startup => {}
            Mode::Drain => {
                if in_flight <= self.bdp(100) && self.queued_bytes == 0 {
                    self.enter_cruise(now);
                }
            }
            Mode::Cruise => {
                let past = now.after(self.cycle_at);
                let over = match self.cycle_gain() {
                    100 => past >= min_rtt,
                    // Filling takes longer where much is lost.
                    gain @ 101.. => past >= min_rtt && (in_flight >= self.bdp(gain) || past >= min_rtt * 2),
                    // Bytes in flight do not tell when the queue is gone where acks are only looked at once per tick:
                    // draining takes as long as filling did.
                    _ => past >= self.filled_for,
                };
                if over {
                    self.filled_for = past;
                    self.cycle = (self.cycle + 1) % CYCLE.len();
                    self.cycle_at = now;
                }
            }
            Mode::ProbeRtt { until } => {
                if now >= until {
                    self.min_rtt_at = now;
                    self.enter_cruise(now);
                }
            }
        }
    }

    /// The gain of this part of the cycle. Where packets are lost without any queue, more must leave for more to arrive.
    fn cycle_gain(&self) -> u64 {
        let cycle = if self.tick.is_zero() { CYCLE } else { TICK_CYCLE };
        match cycle[self.cycle] {
            gain @ 101.. if !self.queue_stands() => gain * 100 / (100 - self.loss_percent.min(MAX_LOSS)),
            gain => gain,
        }
    }

    fn enter_cruise(&mut self, now: Mono) {
        self.mode = Mode::Cruise;
        self.cycle = 2;
        self.cycle_at = now;
    }

    /// What the path holds without queueing, times `gain` percent.
    fn bdp(&self, gain: u64) -> u64 {
        let min_rtt = self.min_rtt.unwrap_or(Span::ZERO);
        bytes_in(self.bandwidth.get() * gain / 100, min_rtt)
    }

    /// How many bytes may be on their way.
    pub(super) fn window(&self) -> usize {
        if self.bandwidth.get() == 0 {
            return INITIAL_WINDOW as usize;
        }
        let bdp = match self.mode {
            Mode::Startup | Mode::Drain => self.bdp(STARTUP_GAIN).max(INITIAL_WINDOW),
            Mode::Cruise => {
                let rtt = self.min_rtt.unwrap_or_default().max(LEAST_ROUND_TRIP);
                bytes_in(self.bandwidth.get() * CRUISE_WINDOW_GAIN / 100, rtt)
            }
            Mode::ProbeRtt { .. } => self.bdp(50),
        };
        // Acks that wait for our next tick leave the path idle unless that much more is on its way.
        let unseen = bytes_in(self.bandwidth.get(), self.tick);
        // A lost ack must not stop everything until the probe timeout: room until the second one after it.
        let acks = if self.loss_percent > 0 { bytes_in(self.bandwidth.get(), SPACING * 2) } else { 0 };
        let window = bdp + unseen.max(self.aggregation.get()) + acks + 2 * self.packet;
        // The history of sent packets bounds what can be on its way.
        window.clamp(MIN_PACKETS * self.packet, super::sent::HISTORY as u64 * 7 / 8 * self.packet) as usize
    }

    /// At how many bytes per second to send; `None` before anything is known. `in_ticks` says that the link is only
    /// looked after now and then.
    pub(super) fn rate(&self, rtt: &Rtt, in_ticks: bool) -> Option<u64> {
        let smoothed = rtt.smoothed()?.max(Span::from_millis(1));
        let gain = match self.mode {
            Mode::Startup => STARTUP_GAIN,
            Mode::Drain => DRAIN_GAIN,
            Mode::Cruise => match self.cycle_gain() {
                100 if self.queue_stands() => STANDING_GAIN,
                101.. if in_ticks && self.queue_stands() => STANDING_GAIN,
                gain => gain * if in_ticks { TICK_MARGIN } else { MARGIN } / 100,
            },
            Mode::ProbeRtt { .. } => 100,
        };
        // The windows that may always be used, so that one bad sample does not silence the link.
        let least = if self.mode == Mode::Startup { INITIAL_WINDOW * 2 } else { MIN_PACKETS * self.packet };
        Some((self.bandwidth.get() * gain / 100).max(per_second(least, smoothed)))
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) const fn heap_cap() -> usize {
        size_of::<Ticks>()
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.ticks.as_ref().map_or(0, |ticks| size_of_val(&**ticks))
    }

    /// The delivery rate of the path in bytes per second; 0 before anything is known.
    pub(super) fn bandwidth(&self) -> u64 {
        self.bandwidth.get()
    }
}

impl Ticks {
    fn note_lag(&mut self, now: Mono, in_flight: u64, rate: u64) {
        // How long ago, at the present rate, left what is unacknowledged. Where everything of a visit is acknowledged and
        // nothing of the next, that is only known to lie between the two.
        let (mut least, mut sent) = (None, 0);
        for visit in &self.visits {
            sent += visit.after - visit.before;
            let ago = now
                .after(visit.at)
                .saturating_sub(Span::from_nanos(sent.saturating_sub(in_flight) * 1_000_000_000 / rate));
            if sent >= in_flight {
                least = least.or(Some(ago));
            }
            if sent > in_flight {
                self.path.update(now, ago);
                break;
            }
        }
        if let Some(least) = least {
            self.lag.update(now, least);
        }
        let (Some(lag), Some(path)) = (self.lag.get(), self.path.get()) else { return };
        if lag <= path + TICK_QUEUE {
            self.stands_since = None;
            return;
        }
        let since = *self.stands_since.get_or_insert(now);
        if now.after(since) > STANDING_AT_MOST {
            // No queue lasts so long: the path has become longer.
            self.path = MinFilter::new(PATH_FOR);
            self.path.update(now, lag);
            self.stands_since = None;
        }
    }
}

/// At most 10 GB/s, so that the products below fit in 64 bits: divisions of 128 bits would be most of the cost of an ack.
const MAX_RATE: u64 = 10_000_000_000;

fn per_second(bytes: u64, time: Span) -> u64 {
    // 16 GiB are never on their way.
    let rate = bytes.min(1 << 34) * 1_000_000_000 / time.as_nanos().max(1);
    rate.min(MAX_RATE)
}

fn bytes_in(rate: u64, time: Span) -> u64 {
    // Whole microseconds, at most 100 s.
    rate.min(MAX_RATE) * (time.as_nanos() / 1000).min(100_000_000) / 1_000_000
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const PACKET: usize = 1200;

    fn at(micros: u64) -> Mono {
        Mono::from_nanos(micros * 1000)
    }

    /// Sends through a link of `rate` bytes per second and `delay` each way for `seconds`, losing every `lose`th
    /// packet. Returns the controller and the longest queue in packets after the first three seconds.
    fn run(rate: u64, delay: Span, seconds: u64, lose: u64) -> (Congestion, u64) {
        let mut congestion = Congestion::new(at(0), PACKET);
        let mut rtt = Rtt::new();
        let (mut in_flight, mut sent, mut worst) = (0usize, 0u64, 0);
        let mut flying: VecDeque<(Mono, Settled, bool)> = VecDeque::new();
        let (mut free_at, mut next_send) = (at(0), at(0));
        for step in 0..seconds * 10_000 {
            let now = at(step * 100);
            while flying.front().is_some_and(|(arrives, ..)| *arrives <= now) {
                let Some((_, packet, lost)) = flying.pop_front() else { break };
                in_flight -= PACKET;
                if lost {
                    continue;
                }
                congestion.on_acked(now, &packet);
                let latest = now.after(packet.sent_at);
                rtt.sample(now, latest, Span::ZERO);
                let loss_percent = 100u64.checked_div(lose).unwrap_or(0);
                let seen = Seen { latest: Some(latest), jitter: Span::ZERO, tick: None, loss_percent, in_flight };
                congestion.on_ack_end(now, &seen);
            }
            while next_send <= now && in_flight + PACKET <= congestion.window() {
                let snapshot = congestion.on_sent(now, in_flight);
                sent += 1;
                let lost = lose > 0 && sent % lose == 0;
                free_at = free_at.max(now) + Span::from_nanos(PACKET as u64 * 1_000_000_000 / rate);
                if step > 30_000 {
                    worst = worst.max(bytes_in(rate, free_at.after(now)) / PACKET as u64);
                }
                flying.push_back((
                    free_at + delay * 2,
                    Settled { sent_at: now, size: PACKET, snapshot, sizing: false },
                    lost,
                ));
                in_flight += PACKET;
                let pace = congestion.rate(&rtt, false).unwrap_or(MAX_RATE);
                next_send = next_send.max(now) + Span::from_nanos(PACKET as u64 * 1_000_000_000 / pace);
            }
        }
        (congestion, worst)
    }

    #[test]
    fn the_rate_of_the_path_is_found_and_its_queue_kept_short() {
        for (rate, delay) in [(1_250_000, 25), (125_000, 50), (12_500_000, 10), (1_250_000, 100)] {
            let (congestion, worst) = run(rate, Span::from_millis(delay), 10, 0);
            let found = congestion.bandwidth();
            assert!((rate * 9 / 10..rate * 11 / 10).contains(&found), "{rate}: {found}");
            let bdp = rate * 2 * delay / 1000 / PACKET as u64;
            assert!(worst <= bdp / 3 + 6, "{rate}: {worst} packets queued, the path holds {bdp}");
        }
    }

    #[test]
    fn random_loss_does_not_make_it_give_way() {
        for lose in [100, 20, 5] {
            let (congestion, _) = run(1_250_000, Span::from_millis(25), 10, lose);
            let found = congestion.bandwidth();
            assert!(found >= 1_250_000 * 8 / 10, "every {lose}th lost: {found}");
        }
    }

    #[test]
    fn an_application_with_little_to_send_does_not_look_like_a_slow_path() {
        let (mut congestion, _) = run(1_250_000, Span::from_millis(25), 5, 0);
        let before = congestion.bandwidth();
        let mut now = at(6_000_000);
        for _ in 0..500 {
            now = now + Span::from_millis(33);
            congestion.on_app_limited(0);
            let snapshot = congestion.on_sent(now, 0);
            now = now + Span::from_millis(50);
            congestion.on_acked(
                now,
                &Settled { sent_at: at(now.as_nanos() / 1000 - 50_000), size: 500, snapshot, sizing: false },
            );
            let latest = Some(Span::from_millis(50));
            let seen = Seen { latest, jitter: Span::ZERO, tick: None, loss_percent: 0, in_flight: 0 };
            congestion.on_ack_end(now, &seen);
        }
        assert_eq!(congestion.bandwidth(), before);
    }

    #[test]
    fn the_window_never_closes() {
        let congestion = Congestion::new(at(0), PACKET);
        assert_eq!(congestion.window(), INITIAL_WINDOW as usize);
        let (congestion, _) = run(3_000, Span::from_millis(1), 20, 0);
        assert!(congestion.window() >= MIN_PACKETS as usize * PACKET);
        assert!(congestion.rate(&Rtt::new(), false).is_none());
    }
}
