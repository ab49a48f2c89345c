//! What every World of the demo has in common.

use std::time::Duration;

use netstream::driver::{Endpoint, IpcDriver, LinkProfile, NetworkDriver, Scheme, Simulated, UdpDriver};
use netstream::prelude::*;
use netstream::transport::netcode::JoinCode;
use netstream::{ConnectOptions, NetworkLimits};

use super::arena;
use crate::args::DemoArgs;
use crate::drivers::UdpSettings;
use crate::failure::Failure;
use crate::game::{GameWorld, Load, game_protocol};
use crate::secrets;

/// Pings of the server per second and client.
const PINGS: f64 = 10.0;

/// The fewest connections that a server's driver takes.
const MIN_CONNECTIONS: usize = 16;

/// How long a goodbye waits for what was sent before it. The audit wants all of that to arrive, and on the links that the
/// demo allows the default of a second is at times over before the third or fourth repetition of a packet.
const LINGER: Duration = Duration::from_secs(5);

/// Makes Worlds that can meet each other, and drivers for them.
pub(super) struct Network {
    hub: IpcHub,
    code: JoinCode,
    udp: UdpSettings,
    connections: usize,
    /// What the link of every client is like, in each direction.
    profile: LinkProfile,
    seed: u64,
    load: Load,
}

impl Network {
    /// A network in which nobody is yet.
    pub(super) fn new(args: &DemoArgs) -> Self {
        // Who leaves and comes back may be there twice for a moment.
        let connections = (args.clients * 2).max(MIN_CONNECTIONS);
        Self {
            hub: IpcHub::new(),
            code: secrets::new_join_code(),
            udp: UdpSettings { connections: Some(connections), io: args.io, ..UdpSettings::default() },
            connections,
            profile: LinkProfile { loss: args.loss, ..LinkProfile::PERFECT },
            seed: args.seed,
            load: Load { pings: PINGS, ..Load::rate(args.rate) },
        }
    }

    /// A server World. Nothing listens yet.
    pub(super) fn server(&self) -> GameWorld {
        let (hub, code, udp, most) = (self.hub.clone(), self.code.clone(), self.udp.clone(), self.connections);
        let plugin = NetworkStreamPlugin::server().with_driver_constructor(move |endpoint| {
            Some(match endpoint.scheme() {
                Scheme::Udp => Box::new(udp.server(&code)) as Box<dyn NetworkDriver>,
                _ => Box::new(IpcDriver::new(&hub).with_max_connections(most)),
            })
        });
        let mut world = GameWorld::server(with_rules(plugin), self.load);
        arena::server::add(world.app(), false);
        world
    }

    /// A client World behind a bad network; `number` seeds its dice.
    pub(super) fn client(&self, number: usize) -> GameWorld {
        let (hub, udp, profile) = (self.hub.clone(), self.udp.clone(), self.profile);
        let seed = self.seed.wrapping_add(number as u64);
        let plugin = NetworkStreamPlugin::client().with_driver_constructor(move |endpoint| {
            // One end of each connection loses packets, in both directions.
            Some(match endpoint.scheme() {
                Scheme::Udp => Box::new(Simulated::new(udp.client(), profile, seed)) as Box<dyn NetworkDriver>,
                _ => Box::new(Simulated::new(IpcDriver::new(&hub), profile, seed)),
            })
        });
        let mut world = GameWorld::client(with_rules(plugin), self.load);
        arena::client::add(world.app(), &format!("player {number}"), false);
        world
    }

    /// What a client shows a server.
    pub(super) fn options(&self) -> ConnectOptions {
        ConnectOptions::new().join_code(self.code.clone())
    }

    /// A driver for UDP to add to a server, with a link simulator that does nothing yet.
    pub(super) fn udp_driver(&self) -> Simulated<UdpDriver> {
        Simulated::new(self.udp.server(&self.code), LinkProfile::PERFECT, self.seed)
    }

    /// The same for IPC.
    pub(super) fn ipc_driver(&self) -> Simulated<IpcDriver> {
        let driver = IpcDriver::new(&self.hub).with_max_connections(self.connections);
        Simulated::new(driver, LinkProfile::PERFECT, self.seed)
    }
}

fn with_rules(plugin: NetworkStreamPlugin) -> NetworkStreamPlugin {
    plugin.with_protocol(game_protocol()).with_limits(NetworkLimits { linger: LINGER, ..NetworkLimits::default() })
}

/// Any free endpoint of this machine or process.
pub(super) fn free_endpoint(scheme: Scheme) -> Result<Endpoint, Failure> {
    let text = if scheme == Scheme::Udp { "udp://127.0.0.1:0" } else { "ipc://0" };
    text.parse().map_err(Failure::failed)
}
