//! `NetworkStreamDriver`: the one thing of this crate that an application talks to.

mod connecting;
mod data;
mod drivers;
mod moderation;

use std::net::SocketAddr;

use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use netstream_driver::transport::Now;
use netstream_driver::{ConnectionStats, Endpoint, NetworkDriver};

pub use connecting::ConnectOptions;
pub use drivers::{Listening, ResetPolicy};

use crate::errors::ConnectionError;
use crate::log::Line;
use crate::session::{Session, SessionCounters, Slot};
use crate::{ConnectionEvent, ConnectionState, NetworkId, NetworkLimits};

/// Makes a driver for an endpoint, or `None` if it knows none. Given to the plugin with
/// [`with_driver_constructor`](crate::NetworkStreamPlugin::with_driver_constructor).
pub type DriverConstructor = dyn Fn(&Endpoint) -> Option<Box<dyn NetworkDriver>> + Send + Sync;

/// The connections of this World: configure, listen, connect, disconnect, ask.
///
/// A resource, one per World, put there by [`NetworkStreamPlugin`](crate::NetworkStreamPlugin). Calls take effect at
/// once as far as bytes are concerned, and their events are raised by the next network system of this or the following
/// update. Dropping the World says goodbye on every connection.
///
/// ```
/// # use netstream::prelude::*;
/// # use bevy_app::App;
/// let hub = IpcHub::new();
/// let mut server = App::new();
/// server.add_plugins(NetworkStreamPlugin::server().with_ipc(&hub));
/// let mut net = server.world_mut().resource_mut::<NetworkStreamDriver>();
/// net.listen("ipc://arena")?;
/// let bound = net.listen("udp://127.0.0.1:0")?;
/// println!("{} with join code {}", bound.endpoint, *net.join_code(bound.driver).unwrap().to_text());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Resource)]
pub struct NetworkStreamDriver {
    pub(crate) session: Session,
    pub(crate) constructor: Box<DriverConstructor>,
    /// The connection events since the last update received.
    pub(crate) events: Vec<ConnectionEvent>,
    /// How many of them the systems of an update had before them. Those raised between updates stay for the next.
    pub(crate) seen: usize,
    /// Entities that exist already and wait to become a connection, so that the one that `connect` returns can be used
    /// in commands at once.
    pub(crate) reserved: Vec<Entity>,
    /// Connections with RPCs to dispatch.
    pub(crate) with_rpcs: Vec<Entity>,
    /// Connections with packets of ticks to read.
    pub(crate) with_streams: Vec<Entity>,
    /// A scratch message, reused.
    message: Vec<u8>,
}

impl NetworkStreamDriver {
    pub(crate) fn new(session: Session, constructor: Box<DriverConstructor>) -> Self {
        Self {
            session,
            constructor,
            events: Vec::new(),
            seen: 0,
            reserved: Vec::new(),
            with_rpcs: Vec::new(),
            with_streams: Vec::new(),
            message: Vec::new(),
        }
    }

    /// The state of a connection, right also between a call and its event; `None` if the entity is none (any more).
    pub fn state(&self, connection: Entity) -> Option<ConnectionState> {
        let core = &self.session.core;
        Some(core.connections.get(core.connections.of_entity(connection)?)?.state)
    }

    /// The id of a connection, from Accepted on.
    pub fn network_id(&self, connection: Entity) -> Option<NetworkId> {
        let core = &self.session.core;
        core.network_id(core.connections.of_entity(connection)?)
    }

    /// Round-trip time, loss, bytes and packets of a connection. While its `Disconnected` is being read, they are the last
    /// ones that were taken: where the peer or the link ended it, up to a second before.
    pub fn stats(&self, connection: Entity) -> Option<ConnectionStats> {
        let core = &self.session.core;
        let found = core.connections.get(core.connections.of_entity(connection)?)?;
        Some(self.session.store.stats(found.key).unwrap_or(found.details.last_stats))
    }

    /// Where the peer is; `None` in-process.
    pub fn remote_address(&self, connection: Entity) -> Option<SocketAddr> {
        self.stats(connection)?.remote
    }

    /// The connections of this World that are not over, in no particular order.
    pub fn connections(&self) -> impl Iterator<Item = Entity> {
        let live = self.session.core.connections.iter();
        live.filter(|(_, connection)| connection.state != ConnectionState::Disconnected)
            .map(|(_, connection)| connection.entity)
    }

    /// The connection events of the current update, oldest first, with those that were raised since the last one.
    pub fn events(&self) -> &[ConnectionEvent] {
        &self.events
    }

    /// What was refused or dropped above the drivers.
    pub fn counters(&self) -> SessionCounters {
        self.session.core.counters
    }

    /// `NetworkId`s in use (server).
    pub fn network_ids_in_use(&self) -> usize {
        self.session.core.network_ids()
    }

    /// Caps and deadlines, of which each new value counts at once.
    pub fn limits_mut(&mut self) -> &mut NetworkLimits {
        &mut self.session.core.limits
    }

    pub(crate) fn now(&mut self) -> Now {
        self.session.now()
    }

    pub(crate) fn random_below(&mut self, bound: u64) -> u64 {
        self.session.core.random_below(bound)
    }

    // What the components' hooks report.

    pub(crate) fn set_in_game(&mut self, entity: Entity, in_game: bool) {
        if let Ok(slot) = self.slot(entity) {
            self.session.now();
            self.session.core.set_in_game(slot, in_game);
        }
    }

    pub(crate) fn entity_removed(&mut self, entity: Entity) {
        let Ok(slot) = self.slot(entity) else { return };
        self.session.now();
        let state = self.state(entity);
        if self.session.core.entity_removed(slot) && self.may_log(Line::Misused) {
            let state = state.map_or("?", ConnectionState::name);
            tracing::error!(
                "the connection entity {entity} was despawned in state {state}; a connection is ended with \
                 NetworkStreamDriver::disconnect or NetworkStreamRequestDisconnect, never by despawning its entity"
            );
        }
    }

    pub(crate) fn may_log(&mut self, line: Line) -> bool {
        self.session.core.may_log(line)
    }

    pub(crate) fn violation(&mut self, entity: Entity, what: &str) {
        if let Ok(slot) = self.slot(entity) {
            self.session.now();
            self.session.core.violation(slot, what);
        }
    }

    pub(crate) fn invalid_rpc(&mut self, entity: Entity, what: &str) {
        if let Ok(slot) = self.slot(entity) {
            self.session.now();
            self.session.core.invalid_rpc(slot, what);
        }
    }

    fn slot(&self, connection: Entity) -> Result<Slot, ConnectionError> {
        self.session.core.connections.of_entity(connection).ok_or(ConnectionError::Unknown(connection))
    }
}
