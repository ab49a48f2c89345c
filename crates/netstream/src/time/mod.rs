//! Ticks and clocks: when the simulation runs, and where a client is relative to its server.

mod client;
mod slew;
pub(crate) mod systems;

use std::time::Duration;

use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use bevy_ecs::schedule::ScheduleLabel;
use netstream_driver::transport::Mono;

pub(crate) use client::Report;

use self::client::ClientClock;
use crate::tick::{Tick, TickRate};

/// The most ticks that one update runs; what a stalled World cannot catch up with never runs.
const MAX_TICKS: u32 = 8;

/// Runs once for every tick: put the simulation here.
///
/// It runs between `PreUpdate` and `Update`, as often as ticks are due: usually once, not at all in an update that comes
/// early, several times in one that comes late. On a server the tick of [`NetworkTime::tick`] is simulated: take its
/// commands, move the world, send its snapshot. On a client it runs while the connection is in the game, with the tick
/// that the server will be at when what is sent now arrives: send its command, predict.
#[derive(ScheduleLabel, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkTick;

/// What time it is in the simulation.
///
/// Exists where the plugin was given a rate ([`with_tick_rate`](crate::NetworkStreamPlugin::with_tick_rate)) or a
/// command or snapshot type is registered, then with 60 Hz. The rate is part of the protocol: both ends need the same.
///
/// Everything in here only ever goes forward while a connection lasts. A client's clock runs at 0.9 to 1.1 of real time
/// to come to where it should be; only if it is off by more than a quarter of a second does it jump forward, or stand
/// still until the server has caught up. In-process it is one tick ahead of the server, or as many as the server's next
/// update will run.
#[derive(Resource, Debug)]
pub struct NetworkTime {
    rate: TickRate,
    tick: Option<Tick>,
    first: Tick,
    /// Server: when the first tick was due.
    started: Option<Mono>,
    /// Server: how far the next tick is, in ticks since the last that was due.
    fraction: f32,
    /// Server: ticks that are due in this update.
    due: u32,
    skipped: u64,
    /// Client: whose time the clock follows.
    pub(crate) connection: Option<Entity>,
    pub(crate) client: ClientClock,
    /// Ticks that ran in this update.
    pub(crate) ran: u32,
    /// Server: this update made up for a standstill, and what it found waiting says nothing about the network.
    pub(crate) stalled: bool,
}

impl Default for NetworkTime {
    fn default() -> Self {
        Self::new(TickRate::default())
    }
}

impl NetworkTime {
    /// A clock that has not started. The server's first tick is 0.
    pub fn new(rate: TickRate) -> Self {
        Self {
            rate,
            tick: None,
            first: Tick::default(),
            started: None,
            fraction: 0.0,
            due: 0,
            skipped: 0,
            connection: None,
            client: ClientClock::new(rate),
            ran: 0,
            stalled: false,
        }
    }

    /// The same with another first tick; for a server that goes on where another stopped.
    #[must_use]
    pub fn starting_at(mut self, first: Tick) -> Self {
        self.first = first;
        self
    }

    /// How many ticks a second has.
    pub fn rate(&self) -> TickRate {
        self.rate
    }

    /// The tick that is being simulated, or was last: the server's, or on a client the one that commands are made for.
    pub fn tick(&self) -> Tick {
        self.tick.unwrap_or(self.first)
    }

    /// How much of the time to the next tick is over, 0 to 1; for drawing what is simulated in ticks.
    pub fn fraction(&self) -> f32 {
        self.client.predicted.position().map_or(self.fraction, |position| self.client.tick_at(position).1)
    }

    /// Client: whether the server's time is known. Before, no ticks run. Always true on a server that has started.
    pub fn is_synced(&self) -> bool {
        self.started.is_some() || self.client.is_synced()
    }

    /// The tick that the server is thought to be at now.
    pub fn server_tick(&self) -> Tick {
        self.client.server.position().map_or(self.tick(), |position| self.client.tick_at(position).0)
    }

    /// The tick at which others are to be drawn: behind the server's by as much as snapshots need to be there, so that
    /// there is one on each side of it. Draw between those, by [`interpolation_fraction`](Self::interpolation_fraction).
    pub fn interpolation_tick(&self) -> Tick {
        self.client.interpolation.position().map_or(self.tick(), |position| self.client.tick_at(position).0)
    }

    /// How far the interpolation is from [`interpolation_tick`](Self::interpolation_tick) to the next, 0 to 1.
    pub fn interpolation_fraction(&self) -> f32 {
        self.client.interpolation.position().map_or(0.0, |position| self.client.tick_at(position).1)
    }

    /// How fast the client's clock runs: 0.9 to 1.1, or 0 while it waits for the server. 1 on a server.
    pub fn scale(&self) -> f32 {
        if self.started.is_some() { 1.0 } else { self.client.predicted.scale() as f32 }
    }

    /// Client: how often its clock had to jump or to stand still.
    pub fn jumps(&self) -> u32 {
        self.client.predicted.jumps()
    }

    /// Client: how many ticks after its turn the newest command reached the server; about -2 when all is well, negative
    /// as long as it is in time. `None` before the first answer.
    pub fn command_age(&self) -> Option<f32> {
        self.client.command_age().map(|age| age as f32)
    }

    /// Client: from the departure of a command to the arrival of a snapshot that knows it, without the simulation
    /// between. `None` before the first answer. What the link alone takes is in
    /// [`NetworkStreamDriver::stats`](crate::NetworkStreamDriver::stats).
    pub fn round_trip(&self) -> Option<Duration> {
        let ticks = self.client.round_trip()?;
        Duration::try_from_secs_f64(ticks / f64::from(self.rate.per_second())).ok()
    }

    /// Ticks that never ran because the World was stalled for too long.
    pub fn skipped_ticks(&self) -> u64 {
        self.skipped
    }

    /// Server: takes note of the time. Ticks that cannot be caught up with are over now.
    fn begin(&mut self, now: Mono) {
        (self.ran, self.stalled) = (0, false);
        let started = *self.started.get_or_insert(now);
        let nanos = u128::from(now.since(started).as_nanos() as u64) * u128::from(self.rate.per_second());
        let (whole, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        self.fraction = rest as f32 / 1e9;
        // Wraps around as ticks do.
        let due = self.first + whole as u32;
        self.due = match self.tick {
            None => 1,
            Some(tick) => due.since(tick).max(0) as u32,
        };
        if self.due > MAX_TICKS {
            self.skipped += u64::from(self.due - MAX_TICKS);
            self.tick = Some(due - MAX_TICKS);
            self.due = MAX_TICKS;
            self.stalled = true;
        }
    }

    /// Client: the same, after the headers of this update were read.
    fn follow(&mut self, now: Mono, rtt: f64) {
        self.ran = 0;
        self.client.advance(now, rtt);
        let Some(position) = self.client.predicted.position() else {
            self.due = 0;
            return;
        };
        let target = self.client.tick_at(position).0;
        self.due = match self.tick {
            None => 1,
            Some(tick) => target.since(tick).max(0) as u32,
        };
        if self.due > MAX_TICKS || self.tick.is_none() {
            let run = self.due.min(MAX_TICKS);
            self.skipped += u64::from(self.due - run);
            self.tick = Some(target - run);
            self.due = run;
        }
    }

    /// Goes on to the next tick that is due; false if none is.
    fn next(&mut self) -> bool {
        let Some(rest) = self.due.checked_sub(1) else { return false };
        self.due = rest;
        self.ran += 1;
        self.tick = Some(self.tick.map_or(self.first, |tick| tick + 1));
        true
    }

    /// Server: where the simulation is, in 256ths of a tick after `tick`'s turn. Ticks that did not run yet are still to
    /// come, however late.
    pub(crate) fn age_of(&self, tick: Tick) -> i32 {
        let fraction = if self.due > 0 { 255 } else { self.fraction_256().into() };
        self.tick().since(tick).clamp(-(1 << 20), 1 << 20) * 256 + fraction
    }

    pub(crate) fn fraction_256(&self) -> u8 {
        // Saturates; the fraction is below 1.
        (self.fraction * 256.0) as u8
    }

    /// Client: the clock follows another connection, or none.
    fn attach(&mut self, connection: Option<Entity>, locked: bool) {
        if self.connection != connection {
            self.connection = connection;
            self.client = ClientClock::new(self.rate);
            self.tick = None;
        }
        self.client.locked = locked;
    }
}
