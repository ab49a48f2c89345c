//! Sums over connections.

use std::collections::BTreeMap;
use std::fmt;

use netstream::ConnectionState;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::game::{Counts, Record, STATES};
use crate::lines::origin;
use crate::units;

/// Sums over the connections that one side saw.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct SideTally {
    /// Connections that began.
    pub(crate) attempts: u64,
    /// Connections that became Connected.
    pub(crate) connects: u64,
    /// Those of them that were there before and got their id back.
    pub(crate) reconnects: u64,
    /// Events by state.
    pub(crate) events: Events,
    pub(crate) sent: Counts,
    pub(crate) received: Counts,
    /// Ends by code and then origin.
    pub(crate) disconnects: BTreeMap<String, BTreeMap<&'static str, u64>>,
}

/// How often each state was reported.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events([u64; STATES]);

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(STATES))?;
        for (state, count) in ConnectionState::ALL.iter().zip(&self.0) {
            map.serialize_entry(state.name(), count)?;
        }
        map.end()
    }
}

impl SideTally {
    /// Adds a connection.
    pub(crate) fn add(&mut self, record: &Record) {
        self.attempts += 1;
        self.connects += u64::from(record.connected);
        self.reconnects += u64::from(record.reconnected);
        for (sum, count) in self.events.0.iter_mut().zip(&record.events) {
            *sum += count;
        }
        self.sent.add(&record.sent);
        self.received.add(&record.received());
        if let Some(reason) = &record.reason {
            let origins = self.disconnects.entry(reason.code.to_string()).or_default();
            *origins.entry(origin(reason.origin)).or_default() += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.connects += other.connects;
        self.reconnects += other.reconnects;
        for (sum, count) in self.events.0.iter_mut().zip(&other.events.0) {
            *sum += count;
        }
        self.sent.add(&other.sent);
        self.received.add(&other.received);
        for (code, origins) in &other.disconnects {
            let sums = self.disconnects.entry(code.clone()).or_default();
            for (origin, count) in origins {
                *sums.entry(origin).or_default() += count;
            }
        }
    }

    /// The ends in words, e.g. `2 Kicked (Remote), 1 Timeout (Link)`.
    pub(crate) fn ends(&self) -> String {
        let ends = self.disconnects.iter().flat_map(|(code, origins)| {
            origins.iter().map(move |(origin, count)| format!("{count} {code} ({origin})"))
        });
        ends.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for SideTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, received) = (&self.sent, &self.received);
        write!(f, "{} connected of {} that tried; ", self.connects, self.attempts)?;
        write!(f, "{}/{} RPCs, ", sent.rpcs, received.rpcs)?;
        write!(f, "{}/{} commands, ", sent.commands, received.commands)?;
        write!(f, "{}/{} snapshots, ", sent.snapshots, received.snapshots)?;
        write!(f, "{}/{} ", units::bytes(sent.bytes as f64), units::bytes(received.bytes as f64))?;
        write!(f, "sent/received; ended: {}", if self.disconnects.is_empty() { "none".into() } else { self.ends() })
    }
}

/// Sums over both sides.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Tally {
    pub(crate) server: SideTally,
    pub(crate) client: SideTally,
}

impl Tally {
    /// Adds another tally to this one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.server.merge(&other.server);
        self.client.merge(&other.client);
    }
}
