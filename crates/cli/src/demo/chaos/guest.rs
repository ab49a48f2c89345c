//! A client World that goes where drivers come and go.

use netstream::driver::Endpoint;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::{ConnectOptions, NetworkConnectError};

use super::super::network::Network;
use crate::game::{GameWorld, Happened, Record};
use crate::report::Audit;

/// How a connection ends whose driver was removed. Nobody is there any more to repeat a goodbye of which all copies are
/// lost, be it only those with the reason or those without it, too.
pub(super) const AFTER_REMOVAL: [DisconnectCode; 3] =
    [DisconnectCode::DriverRemoved, DisconnectCode::ConnectionClose, DisconnectCode::Timeout];

/// One client World.
pub(in crate::demo) struct Guest {
    world: GameWorld,
    options: ConnectOptions,
    /// Its number in the audit.
    number: usize,
    /// Its last connection, from its end until the next one begins.
    last: Option<Record>,
    /// The server has said that it drains.
    warned: bool,
}

impl Guest {
    /// Not connected yet; `number` seeds the dice of its bad network.
    pub(super) fn new(network: &Network, number: usize) -> Self {
        Self { world: network.client(number), options: network.options(), number, last: None, warned: false }
    }

    /// Lets its World go on by one update. An end of a connection that stood is a violation unless its code is one of
    /// `expected`; `None` expects anything.
    pub(super) fn update(&mut self, expected: Option<&[DisconnectCode]>, audit: &mut Audit) {
        self.world.update();
        let seen = self.world.take_journal();
        let draining = |happened: &Happened| matches!(happened, Happened::Driver(DriverEvent::ServerDraining { .. }));
        self.warned |= seen.happened.iter().any(draining);
        for record in seen.finished.iter().filter(|record| record.connected) {
            let Some(reason) = &record.reason else { continue };
            if expected.is_some_and(|codes| !codes.contains(&reason.code)) {
                audit.violation(format!("{}: ended, which nobody asked for: {reason}", record.name()));
            }
        }
        self.last = seen.finished.last().cloned().or(self.last.take());
        audit.client(self.number, seen);
    }

    /// Starts to connect, unless it has a connection.
    pub(super) fn come(&mut self, endpoint: &Endpoint) -> Result<(), NetworkConnectError> {
        if !self.is_alone() {
            return Ok(());
        }
        self.forget();
        self.world.connect(endpoint, self.options.clone())
    }

    /// Forgets its last connection.
    pub(super) fn forget(&mut self) {
        (self.last, self.warned) = (None, false);
    }

    /// Ends its connection, if it has one.
    pub(super) fn leave(&mut self) {
        self.world.close(Side::Client);
    }

    /// Whether it has no connection. One that has no chance any more, because it never stood, it gives up.
    pub(super) fn gives_up(&mut self) -> bool {
        if self.world.record().is_some_and(|record| !record.connected) {
            self.leave();
        }
        self.is_alone()
    }

    /// Whether it has no connection.
    pub(super) fn is_alone(&mut self) -> bool {
        self.world.is_alone()
    }

    /// Whether it plays.
    pub(super) fn is_in_game(&self) -> bool {
        self.world.is_in_game()
    }

    /// Whether its connection stood once.
    pub(super) fn was_connected(&self) -> bool {
        self.world.record().or(self.last.as_ref()).is_some_and(|record| record.connected)
    }

    /// Whether it plays and has received an RPC after the first `before` ones.
    pub(super) fn plays_on_since(&self, before: u64) -> bool {
        self.is_in_game() && self.heard() > before
    }

    /// How many RPCs its connection has received.
    pub(super) fn heard(&self) -> u64 {
        self.world.record().map_or(0, |record| record.lane.received())
    }

    /// Why its last connection ended, until the next one begins.
    pub(super) fn end(&self) -> Option<DisconnectCode> {
        Some(self.last.as_ref()?.reason.as_ref()?.code)
    }

    /// Whether it was told that its server drains.
    pub(super) fn was_warned(&self) -> bool {
        self.warned
    }

    /// How it is called where violations are told.
    pub(super) fn name(&self) -> String {
        format!("client {}", self.number)
    }

    /// Notes a connection that should have ended.
    pub(super) fn note_leftover(&mut self, audit: &mut Audit) {
        for connection in self.world.leftovers() {
            audit.violation(format!("{}: {connection} does not end", self.name()));
        }
    }
}
