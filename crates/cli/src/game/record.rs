//! What one connection has been through, as one side saw it.

use std::net::SocketAddr;
use std::time::Duration;

use bevy_ecs::component::Component;
use netstream::driver::{ConnectionKey, ConnectionStats};
use netstream::prelude::*;
use netstream::state::{Side, TRANSITIONS, first_state};
use serde::Serialize;

use super::lane::Lane;

/// How many states there are, the two of Connected each for itself.
pub(crate) const STATES: usize = ConnectionState::ALL.len();

/// What went one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// RPCs of all types.
    pub(crate) rpcs: u64,
    /// Client to server.
    pub(crate) commands: u64,
    /// Server to client.
    pub(crate) snapshots: u64,
    /// Bytes with the driver's headers.
    pub(crate) bytes: u64,
}

impl Counts {
    /// Adds what `other` counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.rpcs += other.rpcs;
        self.commands += other.commands;
        self.snapshots += other.snapshots;
        self.bytes += other.bytes;
    }
}

/// What one connection has been through; a component of its entity.
#[derive(Component, Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key: ConnectionKey,
    /// The scheme of its driver.
    pub(crate) scheme: &'static str,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) network_id: Option<NetworkId>,
    pub(crate) state: ConnectionState,
    /// Events by state, in the order of [`ConnectionState::ALL`].
    pub(crate) events: [u64; STATES],
    /// It was Connected once.
    pub(crate) connected: bool,
    /// The player got its old id back.
    pub(crate) reconnected: bool,
    pub(crate) reason: Option<DisconnectReason>,
    pub(crate) sent: Counts,
    pub(crate) received: Counts,
    pub(crate) rtt: Option<Duration>,
    pub(crate) loss: f32,
    pub(crate) lane: Lane,
    /// The number of the last command that arrived here.
    pub(crate) last_command: u64,
    side: Side,
    last_event: Option<ConnectionState>,
}

impl Record {
    /// A connection without any event yet.
    pub(crate) fn new(key: ConnectionKey, side: Side, scheme: &'static str) -> Self {
        Self {
            key,
            scheme,
            address: None,
            network_id: None,
            state: first_state(side).0,
            events: [0; STATES],
            connected: false,
            reconnected: false,
            reason: None,
            sent: Counts::default(),
            received: Counts::default(),
            rtt: None,
            loss: 0.0,
            lane: Lane::default(),
            last_command: 0,
            side,
            last_event: None,
        }
    }

    /// Notes an event; what is wrong with it is told to `fault`.
    pub(crate) fn note(&mut self, event: &ConnectionEvent, mut fault: impl FnMut(String)) {
        if event.key != self.key {
            fault(format!("{} has another connection key than the events before it", event.state));
        }
        self.enter(event.state, event.reason.clone(), fault);
        self.network_id = self.network_id.or(event.network_id);
        self.reconnected |= event.reconnected;
    }

    fn enter(&mut self, to: ConnectionState, reason: Option<DisconnectReason>, mut fault: impl FnMut(String)) {
        match self.last_event {
            None if to != first_state(self.side).0 => fault(format!("the first event is {to}")),
            Some(from) if !self.follows(from, to) => fault(format!("{to} follows {from}")),
            _ => {}
        }
        if reason.is_some() != (to == ConnectionState::Disconnected) {
            fault(format!("{to} comes {} a reason", if reason.is_some() { "with" } else { "without" }));
        }
        if let Some(index) = ConnectionState::ALL.iter().position(|state| *state == to) {
            self.events[index] += 1;
        }
        self.connected |= to.is_connected();
        self.reason = self.reason.take().or(reason);
        self.state = to;
        self.last_event = Some(to);
    }

    fn follows(&self, from: ConnectionState, to: ConnectionState) -> bool {
        let here = |side: Option<Side>| side.is_none_or(|side| side == self.side);
        TRANSITIONS.iter().any(|row| row.from == from && row.to == to && here(row.side))
    }

    /// Takes over what the driver counted.
    pub(crate) fn measure(&mut self, stats: &ConnectionStats) {
        self.address = self.address.or(stats.remote);
        self.rtt = stats.rtt.or(self.rtt);
        self.loss = stats.loss;
        self.sent.bytes = self.sent.bytes.max(stats.bytes_sent);
        self.received.bytes = self.received.bytes.max(stats.bytes_received);
    }

    /// What arrived, with the RPCs that the lane counted.
    pub(crate) fn received(&self) -> Counts {
        Counts { rpcs: self.lane.received(), ..self.received }
    }

    /// How often `state` was reported.
    pub(crate) fn count(&self, state: ConnectionState) -> u64 {
        let index = ConnectionState::ALL.iter().position(|other| *other == state);
        index.map_or(0, |index| self.events[index])
    }

    /// How the connection is called where faults are told.
    pub(crate) fn name(&self) -> String {
        let id = self.network_id.map_or_else(|| "without id".to_owned(), |id| format!("id {id}"));
        format!("{} {:?} connection {id}", self.scheme, self.side).to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use netstream::driver::{IpcDriver, NetworkDriverStore};
    use netstream::transport::ConnectionId;

    use super::*;

    fn key() -> ConnectionKey {
        let driver = NetworkDriverStore::new().add(IpcDriver::new(&IpcHub::new()));
        ConnectionKey { driver, connection: ConnectionId { index: 0, generation: 0 } }
    }

    fn faults(side: Side, states: &[ConnectionState]) -> Vec<String> {
        let (mut record, mut faults) = (Record::new(key(), side, "ipc"), Vec::new());
        for &state in states {
            let reason = (state == Disconnected).then(|| DisconnectReason::local(DisconnectCode::ConnectionClose));
            record.enter(state, reason, |fault| faults.push(fault));
        }
        faults
    }

    use ConnectionState::{Accepted, Connecting, Disconnected, Handshake, ProtocolValidation};

    #[test]
    fn events_in_the_order_of_the_table_are_right() {
        let connected = ConnectionState::Connected(Presence::NotInGame);
        assert!(faults(Side::Server, &[Handshake, ProtocolValidation, Accepted, connected, Disconnected]).is_empty());
        assert!(faults(Side::Client, &[Connecting, Disconnected]).is_empty());
    }

    #[test]
    fn events_out_of_order_are_faults() {
        assert_eq!(faults(Side::Server, &[Connecting]), ["the first event is Connecting"]);
        assert_eq!(faults(Side::Client, &[Connecting, Accepted]), ["Accepted follows Connecting"]);
        assert_eq!(
            faults(Side::Client, &[Connecting, Disconnected, Disconnected]),
            ["Disconnected follows Disconnected"]
        );
    }
}
