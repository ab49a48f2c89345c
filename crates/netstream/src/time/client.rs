//! What a client knows of the server's time, and where its own clocks should therefore be.
//!
//! All positions are ticks from one origin; an *offset* is a position minus the local time at which it was observed, so
//! that offsets of different moments can be compared.
//!
//! - *down*: the server's position as a header told it, minus the local time of its arrival. It is behind the truth by
//!   the way down.
//! - *up*: the server's position when a packet of ours arrived there, minus the local time at which it left. It is ahead
//!   of the truth by the way up, which is just how far ahead the client must be for its commands to be in time. Because
//!   it does not depend on where the client's clock was, corrections that are under way are not made twice.

use netstream_driver::transport::Mono;

use super::MAX_TICKS;
use super::slew::{Estimate, SlewClock};
use crate::tick::{Tick, TickRate};

/// How many ticks before its turn a command should reach the server, besides how much this varies. Measured: the ages of
/// all commands lie between -3 and -1 ticks at 19 distances with 0 and 5 ms of jitter (`tests/time.rs`); with 0.1 less
/// some come in their last moment, with 0.1 more some a tick earlier than they need to.
const SLACK: f64 = 1.85;
/// How many ticks earlier commands leave for each that missed its tick: the network loses packets, or the World runs
/// several ticks in one update, and it is the copies that must be in time.
const LATE_STEP: f64 = 0.25;
/// So many are counted at a time.
const LATE_COUNTED: u8 = 4;
/// How much of that is given back with each tick.
const LATE_DECAY: f64 = 0.004;
/// The most that is added because of commands that were late, in ticks.
const LATE_MAX: f64 = 8.0;
/// Packets of which it is remembered when they left; at 120 Hz more than a second.
const SENT: usize = 256;
/// Updates of which it is remembered how long they were.
const UPDATES: usize = 8;
/// Beyond this many ticks from the origin, everything is counted from another one.
const REBASE: i32 = 1 << 24;

/// What a header of the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// The server's tick when the header left.
    pub(crate) tick: Tick,
    /// How much of the tick was over, in 256ths.
    pub(crate) fraction: u8,
    /// The newest packet of ours that has arrived: its tick, and how many 256ths of a tick after that tick's turn.
    pub(crate) newest: Option<(Tick, i32)>,
    /// How many of our commands have missed their tick so far, modulo 256.
    pub(crate) late: u8,
}

#[derive(Debug)]
pub(crate) struct ClientClock {
    rate: TickRate,
    origin: Option<Tick>,
    /// Local time of the last update, in ticks.
    local: f64,
    /// Local time at which the last header arrived.
    reported: f64,
    up: Estimate,
    down: Estimate,
    /// Ticks from one snapshot to the next.
    interval: Estimate,
    /// How many commands were late when last heard, and how much earlier they leave because of that.
    late: Option<u8>,
    early: f64,
    /// From the turn of the oldest tick of an update to the departure of its packet, in ticks.
    held: Estimate,
    last_report: Option<Tick>,
    last_snapshot: Option<Tick>,
    last_age: Option<(Tick, f64)>,
    /// For each tick modulo [`SENT`]: which tick's packet left when.
    sent: Box<[(Tick, f64); SENT]>,
    /// Where commands are made for.
    pub(crate) predicted: SlewClock,
    /// Where the server is thought to be.
    pub(crate) server: SlewClock,
    /// What is shown of others.
    pub(crate) interpolation: SlewClock,
    /// In-process: ahead of the last report by just what the server's next update will run.
    pub(crate) locked: bool,
    /// How long the last updates of this World were, in ticks; in-process the server's are as long.
    updates: [f64; UPDATES],
    /// How much of the last report's tick was over.
    fraction: f64,
}

impl ClientClock {
    pub(crate) fn new(rate: TickRate) -> Self {
        Self {
            rate,
            origin: None,
            local: 0.0,
            reported: 0.0,
            up: Estimate::default(),
            down: Estimate::default(),
            interval: Estimate::default(),
            late: None,
            early: 0.0,
            held: Estimate::default(),
            last_report: None,
            last_snapshot: None,
            last_age: None,
            // No packet left before time began.
            sent: Box::new([(Tick::new(0), f64::NAN); SENT]),
            predicted: SlewClock::default(),
            server: SlewClock::default(),
            interpolation: SlewClock::default(),
            locked: false,
            updates: [0.0; UPDATES],
            fraction: 0.0,
        }
    }

    /// Whether the server's time is known.
    pub(crate) fn is_synced(&self) -> bool {
        self.origin.is_some()
    }

    /// Whether the clock runs at about real time, because it is about where it should be.
    fn settled(&self) -> bool {
        (self.predicted.scale() - 1.0).abs() < 0.05
    }

    fn place(&self, tick: Tick) -> f64 {
        self.origin.map_or(0.0, |origin| f64::from(tick.since(origin)))
    }

    /// The tick and the fraction of a position.
    pub(crate) fn tick_at(&self, position: f64) -> (Tick, f32) {
        let whole = position.floor();
        (self.origin.unwrap_or_default().offset(whole as i32), (position - whole) as f32)
    }

    /// A packet for `tick`, and for `ran` - 1 ticks before it, leaves now.
    pub(crate) fn sent(&mut self, tick: Tick, ran: u32) {
        if let Some(position) = self.predicted.position()
            && ran > 0
            && !self.locked
        {
            self.held.add((position - self.place(tick) + f64::from(ran - 1)).clamp(0.0, 8.0));
        }
        self.sent[tick.number() as usize % SENT] = (tick, self.local);
    }

    /// The newest header of this update.
    pub(crate) fn report(&mut self, now: Mono, report: Report) {
        self.rebase(report.tick);
        if self.last_report.is_some_and(|last| !report.tick.is_after(last)) {
            return;
        }
        self.last_report = Some(report.tick);
        self.fraction = (f64::from(report.fraction) + 0.5) / 256.0;
        self.reported = self.local_at(now);
        self.down.add(self.place(report.tick) + f64::from(report.fraction) / 256.0 - self.reported);
        let Some((tick, age)) = report.newest else { return };
        let (known, left) = self.sent[tick.number() as usize % SENT];
        let fresh = self.last_age.is_none_or(|(last, _)| tick.is_after(last));
        if known == tick && left.is_finite() && fresh {
            let age = f64::from(age) / 256.0;
            self.last_age = Some((tick, age));
            let late = self.late.replace(report.late).map_or(0, |before| report.late.wrapping_sub(before));
            // Those that were late before the clock was right tell nothing.
            if self.settled() {
                self.early = (self.early + f64::from(late.min(LATE_COUNTED)) * LATE_STEP).min(LATE_MAX);
            }
            self.up.add(self.place(tick) + age - left);
        }
    }

    /// A snapshot of this tick was applied.
    pub(crate) fn snapshot(&mut self, tick: Tick) {
        if let Some(last) = self.last_snapshot.replace(tick) {
            self.interval.add(f64::from(tick.since(last).clamp(1, 64)));
        }
    }

    /// Lets the clocks go on to `now`. `rtt` is the driver's, in ticks; it serves until a packet of ours was answered.
    pub(crate) fn advance(&mut self, now: Mono, rtt: f64) {
        let local = self.local_at(now);
        let elapsed = (local - std::mem::replace(&mut self.local, local)).max(0.0);
        let (Some(down), Some(last)) = (self.down.mean(), self.last_report) else { return };
        let far = self.rate.ticks_in(std::time::Duration::from_millis(250)).max(4.0);
        if self.locked {
            // The fraction is for what is drawn; the next tick waits for the server's.
            let position = self.place(last) + (local - self.reported).clamp(0.0, 0.999);
            self.updates.rotate_right(1);
            self.updates[0] = elapsed;
            let next = (self.fraction + local - self.reported + self.usual_update()).floor();
            self.predicted.lock(position + next.clamp(1.0, f64::from(MAX_TICKS)));
            self.server.lock(position);
            self.interpolation.lock(position - 1.0);
            return;
        }
        let up = self.up.mean();
        let ahead = up.map_or(down + rtt, |up| up + self.up.deviation());
        let ahead = ahead + self.held.mean().unwrap_or(0.5) + self.held.deviation() + SLACK + self.early;
        let server = up.map_or(down + rtt / 2.0, |up| (up + down) / 2.0);
        let behind = 2.0 * self.interval.mean().unwrap_or(1.0) + 2.0 * self.down.deviation();
        self.early = (self.early - elapsed * LATE_DECAY).max(0.0);
        self.predicted.advance(elapsed, local + ahead, far);
        self.server.advance(elapsed, local + server, far);
        self.interpolation.advance(elapsed, local + down - behind, far);
    }

    /// How long an update takes: the longest of the last ones but one, which may have been a standstill.
    fn usual_update(&self) -> f64 {
        let mut updates = self.updates;
        updates.sort_unstable_by(f64::total_cmp);
        updates[UPDATES - 2]
    }

    /// How many ticks after its turn the newest packet reached the server; negative if it was in time.
    pub(crate) fn command_age(&self) -> Option<f64> {
        self.last_age.map(|(_, age)| age)
    }

    /// The round trip between the two simulations, in ticks; `None` before the first answer.
    pub(crate) fn round_trip(&self) -> Option<f64> {
        Some((self.up.mean()? - self.down.mean()?).max(0.0))
    }

    fn local_at(&self, now: Mono) -> f64 {
        now.as_nanos() as f64 * f64::from(self.rate.per_second()) / 1e9
    }

    fn rebase(&mut self, tick: Tick) {
        let Some(origin) = self.origin else {
            self.origin = Some(tick);
            return;
        };
        let by = tick.since(origin);
        if by < REBASE {
            return;
        }
        self.origin = Some(tick);
        let by = f64::from(by);
        self.up.rebase(by);
        self.down.rebase(by);
        self.predicted.rebase(by);
        self.server.rebase(by);
        self.interpolation.rebase(by);
    }
}
