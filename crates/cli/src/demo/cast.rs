//! Who plays: one server World, and client Worlds behind a bad network.

use std::time::{Duration, Instant};

use netstream::ConnectOptions;
use netstream::driver::{DriverId, Endpoint, Scheme};
use netstream::prelude::*;
use netstream::state::Side;

use super::arena::ArenaReport;
use super::chaos::{Chaos, ChaosReport};
use super::network::{Network, free_endpoint};
use crate::args::DemoArgs;
use crate::failure::Failure;
use crate::game::{GameWorld, Happened, Record};
use crate::report::Audit;

/// What the kicked client is told.
pub(super) const KICK: &str = "the demo kicks one player; it was your turn";

/// One client World.
pub(super) struct Client {
    world: GameWorld,
    pub(super) scheme: Scheme,
    endpoint: Endpoint,
    options: ConnectOptions,
    /// What the last connection was like, when it is over.
    last: Option<Record>,
    /// When its newest event was.
    pub(super) last_event: Option<Instant>,
    /// Ends that were asked for and have not happened yet.
    asked: u32,
}

impl Client {
    /// What its connection, or the last one, has been through.
    pub(super) fn record(&self) -> Option<&Record> {
        self.world.record().or(self.last.as_ref())
    }

    /// Whether the script has asked for this end of a connection.
    fn was_asked(&mut self, record: &Record) -> bool {
        let codes = [DisconnectCode::ConnectionClose, DisconnectCode::Kicked];
        let asked = self.asked > 0 && record.reason.as_ref().is_some_and(|reason| codes.contains(&reason.code));
        self.asked -= u32::from(asked);
        asked
    }
}

/// All Worlds, and the audit of what they see.
pub(super) struct Cast {
    network: Network,
    server: GameWorld,
    /// The drivers that nobody touches.
    drivers: Vec<DriverId>,
    schemes: Vec<Scheme>,
    pub(super) clients: Vec<Client>,
    audit: Audit,
    chaos: Option<Chaos>,
    closing: bool,
}

impl Cast {
    /// The server listens on every driver; nobody is connected yet.
    pub(super) fn new(args: &DemoArgs) -> Result<Self, Failure> {
        let network = Network::new(args);
        let mut server = network.server();
        let (mut drivers, mut endpoints) = (Vec::new(), Vec::new());
        for scheme in &args.drivers {
            let listening = server.net().listen(free_endpoint(*scheme)?).map_err(Failure::failed)?;
            drivers.push(listening.driver);
            endpoints.push(listening.endpoint);
        }
        let clients = (0..args.clients).zip(args.drivers.iter().copied().zip(endpoints).cycle());
        let clients = clients.map(|(index, (scheme, endpoint))| {
            let (world, options) = (network.client(index), network.options());
            Client { world, scheme, endpoint, options, last: None, last_event: None, asked: 0 }
        });
        let clients = clients.collect();
        let chaos = if args.chaos { Some(Chaos::new(args, &network)?) } else { None };
        let (schemes, audit) = (args.drivers.clone(), Audit::default());
        Ok(Self { network, server, drivers, schemes, clients, audit, chaos, closing: false })
    }

    /// Does to the other drivers what is due, if there are others.
    pub(super) fn play_chaos(&mut self, elapsed: Duration) -> Result<(), Failure> {
        let Self { network, server, schemes, chaos, .. } = self;
        chaos.as_mut().map_or(Ok(()), |chaos| chaos.play(elapsed, server, network, schemes))
    }

    /// Lets every World go on by one update.
    pub(super) fn update(&mut self, now: Instant) {
        self.server.update();
        let (seen, elsewhere) = self.server.take_journal().split(&self.drivers);
        self.audit.server(seen);
        if let Some(chaos) = &mut self.chaos {
            chaos.server(elsewhere);
            chaos.update();
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.world.update();
            let seen = client.world.take_journal();
            if seen.happened.iter().any(|happened| matches!(happened, Happened::Connection { .. })) {
                client.last_event = Some(now);
            }
            for record in &seen.finished {
                // In the chaos nobody may be lost who was not asked to go; without it, a bad network has its victims.
                if self.chaos.is_some() && !self.closing && !client.was_asked(record) {
                    let reason = record.reason.as_ref().map(ToString::to_string).unwrap_or_default();
                    self.audit.violation(format!("{}: ended, which nobody asked for: {reason}", record.name()));
                }
                client.last = Some(record.clone());
            }
            self.audit.client(index, seen);
        }
    }

    /// A client connects, unless its last connection is still there.
    pub(super) fn connect(&mut self, client: usize) -> Result<bool, Failure> {
        let Client { world, endpoint, options, .. } = &mut self.clients[client];
        if !world.is_alone() {
            return Ok(false);
        }
        world.connect(endpoint, options.clone()).map_err(Failure::failed)?;
        Ok(true)
    }

    /// A client leaves, if it is in the game.
    pub(super) fn leave(&mut self, client: usize) -> bool {
        let Client { world, asked, .. } = &mut self.clients[client];
        let in_game = world.is_in_game();
        if in_game {
            world.close(Side::Client);
            *asked += 1;
        }
        in_game
    }

    /// The server kicks a client, if it is in the game.
    pub(super) fn kick(&mut self, client: usize) -> bool {
        let record = self.clients[client].world.record().filter(|record| record.state.is_in_game());
        let Some(id) = record.and_then(|record| record.network_id) else { return false };
        let connection = self.server.connection_of(id);
        let kicked = connection.is_some_and(|connection| self.server.net().kick(connection, KICK).is_ok());
        self.clients[client].asked += u32::from(kicked);
        kicked
    }

    /// The server says goodbye to everybody.
    pub(super) fn close_server(&mut self) {
        self.closing = true;
        self.server.close(Side::Server);
        if let Some(chaos) = &mut self.chaos {
            chaos.close();
        }
    }

    /// Whether every connection is over on both ends. Clients that were still on their way when the server closed give
    /// up.
    pub(super) fn is_alone(&mut self) -> bool {
        if !self.server.is_alone() {
            // Somebody may have come over a slow link after the first goodbye.
            self.server.close(Side::Server);
            return false;
        }
        let mut alone = self.chaos.as_mut().is_none_or(Chaos::is_alone);
        for client in &mut self.clients {
            if client.world.is_alone() {
                continue;
            }
            alone = false;
            if client.world.record().is_some_and(|record| !record.connected) {
                client.world.close(Side::Client);
            }
        }
        alone
    }

    /// Notes what should have ended and did not.
    pub(super) fn note_leftovers(&mut self) {
        for connection in self.server.leftovers() {
            self.audit.violation(format!("the server: {connection} does not end"));
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            for connection in client.world.leftovers() {
                self.audit.violation(format!("client {index}: {connection} does not end"));
            }
        }
        if let Some(chaos) = &mut self.chaos {
            chaos.note_leftovers();
        }
    }

    /// Whether everything has happened that chaos is made of.
    pub(super) fn has_had_chaos(&self) -> bool {
        self.chaos.as_ref().is_none_or(Chaos::has_done_everything)
    }

    /// Notes which part of the chaos hangs, if not everything has happened.
    pub(super) fn note_undone(&mut self) {
        if let Some(chaos) = self.chaos.as_mut().filter(|chaos| !chaos.has_done_everything()) {
            chaos.note_undone();
        }
    }

    /// The chaos so far, in a line.
    pub(super) fn chaos_line(&self) -> Option<String> {
        self.chaos.as_ref().map(Chaos::line)
    }

    /// How many things happened that must not.
    pub(super) fn violations(&self) -> u64 {
        self.audit.violations() + self.chaos.as_ref().map_or(0, Chaos::violations)
    }

    /// What they were, the first of them.
    pub(super) fn told(&self) -> impl Iterator<Item = &String> {
        self.audit.told().iter().chain(self.chaos.iter().flat_map(Chaos::told))
    }

    /// What the audit of the drivers that nobody touches found.
    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What came of the game that everybody plays besides.
    pub(super) fn arena_report(&self) -> ArenaReport {
        ArenaReport::new(self.server.as_app(), self.clients.iter().map(|client| client.world.as_app()))
    }

    /// What came of the chaos.
    pub(super) fn chaos_report(&self) -> Option<ChaosReport> {
        self.chaos.as_ref().map(|chaos| chaos.report(self.audit.violations()))
    }

    /// Ends the play.
    pub(super) fn finish(&mut self) {
        self.audit.finish();
        if let Some(chaos) = &mut self.chaos {
            chaos.finish();
        }
    }
}
