//! How hard a process works for its connections.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::histogram::Histogram;
use super::tally::SideTally;
use crate::game::Counts;
use crate::machine::{self, Processor};
use crate::units;

/// Measures one process from its start to its end.
pub(crate) struct Gauge {
    start: Mark,
    last: Mark,
    /// Resident before the first connection.
    empty: Option<u64>,
    /// Updates since `last`, and all before.
    recent: Histogram,
    earlier: Histogram,
}

/// How it stood at one moment.
#[derive(Clone)]
struct Mark {
    at: Instant,
    processor: Option<Processor>,
    connects: u64,
    sent: Counts,
    received: Counts,
}

/// What a [`Gauge`] has measured between two moments.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    /// Connections that are in the game, now.
    pub(crate) playing: u64,
    /// How long they were measured, in seconds.
    pub(crate) seconds: f64,
    /// Connections that became Connected, per second.
    pub(crate) joins_per_second: f64,
    pub(crate) updates_per_second: f64,
    /// How long an update took on the clock on the wall.
    pub(crate) update_ms: Quantiles,
    /// Processors that were kept busy, 1 for one.
    pub(crate) processors: Option<Busy>,
    /// Bytes of memory that are resident, now.
    pub(crate) resident: Option<u64>,
    /// What came to it with the first connection and later, for each that is in the game.
    pub(crate) resident_per_connection: Option<u64>,
    /// RPCs, commands and snapshots, per second.
    pub(crate) sent_per_second: f64,
    pub(crate) received_per_second: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Busy {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Gauge {
    /// Starts now, with no connections.
    pub(crate) fn new() -> Self {
        let mark = Mark {
            at: Instant::now(),
            processor: Processor::spent(),
            connects: 0,
            sent: Counts::default(),
            received: Counts::default(),
        };
        let (recent, earlier) = (Histogram::default(), Histogram::default());
        Self { start: mark.clone(), last: mark, empty: machine::resident(), recent, earlier }
    }

    /// Notes how long an update took.
    pub(crate) fn update(&mut self, took: Duration) {
        self.recent.add(took);
    }

    /// What happened since the last call. `tally` is of everything so far.
    pub(crate) fn recent(&mut self, playing: u64, tally: &SideTally) -> Figures {
        let now = mark(tally);
        let figures = self.figures(&self.last, &now, &self.recent, playing);
        self.earlier.merge(&self.recent);
        self.recent = Histogram::default();
        self.last = now;
        figures
    }

    /// What happened since the start.
    pub(crate) fn whole(&self, playing: u64, tally: &SideTally) -> Figures {
        let mut updates = self.earlier.clone();
        updates.merge(&self.recent);
        self.figures(&self.start, &mark(tally), &updates, playing)
    }

    fn figures(&self, from: &Mark, to: &Mark, updates: &Histogram, playing: u64) -> Figures {
        let seconds = (to.at - from.at).as_secs_f64().max(1e-9);
        let messages = |counts: &Counts| (counts.rpcs + counts.commands + counts.snapshots) as f64;
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        let busy = from.processor.zip(to.processor).map(|(from, to)| {
            let Processor { user, system } = to.since(from);
            Busy { user: user.as_secs_f64() / seconds, system: system.as_secs_f64() / seconds }
        });
        let resident = machine::resident();
        let grown = resident.zip(self.empty).map(|(now, empty)| now.saturating_sub(empty));
        Figures {
            playing,
            seconds,
            joins_per_second: (to.connects - from.connects) as f64 / seconds,
            updates_per_second: updates.total() as f64 / seconds,
            update_ms: Quantiles {
                p50: millis(updates.quantile(0.5)),
                p99: millis(updates.quantile(0.99)),
                max: millis(updates.longest()),
            },
            processors: busy,
            resident,
            resident_per_connection: grown.and_then(|grown| grown.checked_div(playing)),
            sent_per_second: (messages(&to.sent) - messages(&from.sent)) / seconds,
            received_per_second: (messages(&to.received) - messages(&from.received)) / seconds,
        }
    }
}

fn mark(tally: &SideTally) -> Mark {
    Mark {
        at: Instant::now(),
        processor: Processor::spent(),
        connects: tally.connects,
        sent: tally.sent,
        received: tally.received,
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quantiles { p50, p99, max } = self.update_ms;
        write!(f, "{} in the game, {:.0} joins/s; ", self.playing, self.joins_per_second)?;
        write!(f, "{:.0} updates/s of {p50:.2} ms, p99 {p99:.2}, max {max:.2}; ", self.updates_per_second)?;
        write!(f, "{:.0}/{:.0} messages/s sent/received", self.sent_per_second, self.received_per_second)?;
        if let Some(Busy { user, system }) = self.processors {
            write!(f, "; {:.2} processors, {user:.2} user and {system:.2} system", user + system)?;
        }
        if let Some(resident) = self.resident {
            write!(f, "; {} resident", units::bytes(resident as f64))?;
        }
        match self.resident_per_connection {
            Some(each) => write!(f, ", {} per connection", units::bytes(each as f64)),
            None => Ok(()),
        }
    }
}
