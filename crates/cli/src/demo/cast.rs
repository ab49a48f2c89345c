//! Who plays: one server World, and client Worlds behind a bad network.

use std::time::{Duration, Instant};

use netstream::driver::{Endpoint, IpcDriver, LinkProfile, NetworkDriver, Scheme, Simulated};
use netstream::prelude::*;
use netstream::state::Side;
use netstream::{ConnectOptions, NetworkLimits};

use crate::args::DemoArgs;
use crate::drivers::UdpSettings;
use crate::failure::Failure;
use crate::game::{GameWorld, Happened, Rates, Record, game_protocol};
use crate::report::Audit;
use crate::secrets;

/// Pings of the server per second and client.
const PINGS: f64 = 10.0;

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
}

impl Client {
    /// What its connection, or the last one, has been through.
    pub(super) fn record(&self) -> Option<&Record> {
        self.world.record().or(self.last.as_ref())
    }
}

/// All Worlds, and the audit of what they see.
pub(super) struct Cast {
    server: GameWorld,
    pub(super) clients: Vec<Client>,
    audit: Audit,
}

impl Cast {
    /// The server listens on every driver; nobody is connected yet.
    pub(super) fn new(args: &DemoArgs) -> Result<Self, Failure> {
        let (hub, code) = (IpcHub::new(), secrets::new_join_code());
        let rates = Rates { data: args.rate, pings: PINGS };
        // A goodbye in order waits for what was sent before it, also on a machine that stands still for a while.
        let limits = NetworkLimits { linger: Duration::from_secs(5), ..NetworkLimits::default() };
        let plugin = |plugin: NetworkStreamPlugin| plugin.with_protocol(game_protocol()).with_limits(limits.clone());

        // Who leaves and comes back may be there twice for a moment.
        let most = args.clients * 2;
        let udp = UdpSettings { connections: Some(most), ..UdpSettings::default() };
        let (server_hub, server_code, server_udp) = (hub.clone(), code.clone(), udp.clone());
        let server = plugin(NetworkStreamPlugin::server()).with_driver_constructor(move |endpoint| {
            Some(match endpoint.scheme() {
                Scheme::Udp => Box::new(server_udp.server(&server_code)),
                _ => Box::new(IpcDriver::new(&server_hub).with_max_connections(most)),
            })
        });
        let mut server = GameWorld::server(server, rates);
        let mut endpoints = Vec::new();
        for scheme in &args.drivers {
            let wanted = if *scheme == Scheme::Udp { "udp://127.0.0.1:0" } else { "ipc://demo" };
            endpoints.push(server.net().listen(wanted).map_err(Failure::failed)?.endpoint);
        }

        let profile = LinkProfile { loss: args.loss, ..LinkProfile::PERFECT };
        let clients = (0..args.clients).zip(args.drivers.iter().copied().zip(endpoints).cycle());
        let clients = clients.map(|(index, (scheme, endpoint))| {
            let (hub, udp, seed) = (hub.clone(), udp.clone(), args.seed.wrapping_add(index as u64));
            let plugin = plugin(NetworkStreamPlugin::client()).with_driver_constructor(move |endpoint| {
                // One end of each connection loses packets, in both directions.
                Some(match endpoint.scheme() {
                    Scheme::Udp => Box::new(Simulated::new(udp.client(), profile, seed)) as Box<dyn NetworkDriver>,
                    _ => Box::new(Simulated::new(IpcDriver::new(&hub), profile, seed)),
                })
            });
            let options = ConnectOptions::new().join_code(code.clone());
            let world = GameWorld::client(plugin, rates);
            Client { world, scheme, endpoint, options, last: None, last_event: None }
        });
        Ok(Self { clients: clients.collect(), server, audit: Audit::default() })
    }

    /// Lets every World go on by one update.
    pub(super) fn update(&mut self, now: Instant) {
        self.server.update();
        self.audit.server(self.server.take_journal());
        for (index, client) in self.clients.iter_mut().enumerate() {
            client.world.update();
            let seen = client.world.take_journal();
            if seen.happened.iter().any(|happened| matches!(happened, Happened::Connection { .. })) {
                client.last_event = Some(now);
            }
            if let Some(record) = seen.finished.last() {
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
        let world = &mut self.clients[client].world;
        let in_game = world.is_in_game();
        if in_game {
            world.close(Side::Client);
        }
        in_game
    }

    /// The server kicks a client, if it is in the game.
    pub(super) fn kick(&mut self, client: usize) -> bool {
        let record = self.clients[client].world.record().filter(|record| record.state.is_in_game());
        let Some(id) = record.and_then(|record| record.network_id) else { return false };
        let connection = self.server.connection_of(id);
        connection.is_some_and(|connection| self.server.net().kick(connection, KICK).is_ok())
    }

    /// The server says goodbye to everybody.
    pub(super) fn close_server(&mut self) {
        self.server.close(Side::Server);
    }

    /// Whether every connection is over on both ends. Clients that were still on their way when the server closed give
    /// up.
    pub(super) fn is_alone(&mut self) -> bool {
        if !self.server.is_alone() {
            return false;
        }
        let mut alone = true;
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
        if !self.server.is_alone() {
            self.audit.violation("the server has connections that do not end".to_owned());
        }
        for (index, client) in self.clients.iter_mut().enumerate() {
            if !client.world.is_alone() {
                self.audit.violation(format!("client {index} has a connection that does not end"));
            }
        }
    }

    /// What the audit found.
    pub(super) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Ends the play.
    pub(super) fn into_audit(mut self) -> Audit {
        self.audit.finish();
        self.audit
    }
}
