//! `NetworkStreamDriver`: the one thing of this crate that an application talks to.

use std::net::SocketAddr;
use std::time::Duration;

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use netstream_driver::transport::netcode::{ConnectToken, JoinCode};
use netstream_driver::transport::{ChannelId, DisconnectCode, DisconnectReason, Now};
use netstream_driver::udp::UdpDriver;
use netstream_driver::{
    ConnectionKey, ConnectionStats, Credentials, DriverId, Endpoint, NetworkDriver, NetworkDriverStore, Scheme,
    SendError,
};

use crate::errors::{
    ConnectionError, NetworkConnectError, NetworkListenError, NetworkSendError, StillConnected, UnknownDriver,
};
use crate::session::control::MessageKind;
use crate::session::{BanTarget, Session, SessionCounters, Slot};
use crate::state::Side;
use crate::{ConnectionEvent, ConnectionState, DriverEvent, NetworkId, NetworkLimits};

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
    /// The connection events of this update.
    pub(crate) events: Vec<ConnectionEvent>,
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

/// A driver that listens. Also the component that answers a
/// [`NetworkStreamRequestListen`](crate::NetworkStreamRequestListen).
#[derive(Component, Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Which driver.
    pub driver: DriverId,
    /// Where, with the port that was really bound.
    pub endpoint: Endpoint,
}

/// What [`NetworkStreamDriver::reset`] does with connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetPolicy {
    /// Change nothing if there are any.
    RefuseIfConnected,
    /// End them with this reason.
    CloseConnections(DisconnectReason),
}

/// What a client shows when it connects.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    transport: Credentials,
    credentials: Vec<u8>,
    as_new: bool,
}

impl ConnectOptions {
    /// Nothing; enough in-process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The join code that the server printed.
    #[must_use]
    pub fn join_code(mut self, code: JoinCode) -> Self {
        self.transport = Credentials::JoinCode(code);
        self
    }

    /// A connect token that the game's back-end issued for this player.
    #[must_use]
    pub fn token(mut self, token: ConnectToken) -> Self {
        self.transport = Credentials::Token(Box::new(token));
        self
    }

    /// Does not ask for the id that this World had on the same server before.
    #[must_use]
    pub fn as_new_player(mut self) -> Self {
        self.as_new = true;
        self
    }

    pub(crate) fn has_token(&self) -> bool {
        matches!(self.transport, Credentials::Token(_))
    }

    /// Bytes for the server's game code to judge when it requires approval: a password, a ticket. At most
    /// [`NetworkLimits::credentials`]. They travel sealed where the driver is remote.
    #[must_use]
    pub fn credentials(mut self, credentials: impl Into<Vec<u8>>) -> Self {
        self.credentials = credentials.into();
        self
    }
}

impl NetworkStreamDriver {
    pub(crate) fn new(session: Session, constructor: Box<DriverConstructor>) -> Self {
        Self {
            session,
            constructor,
            events: Vec::new(),
            reserved: Vec::new(),
            with_rpcs: Vec::new(),
            with_streams: Vec::new(),
            message: Vec::new(),
        }
    }

    // Drivers.

    /// Takes in a driver that the application made. It neither listens nor connects yet.
    pub fn add_driver(&mut self, driver: impl NetworkDriver) -> DriverId {
        self.session.store.add(driver)
    }

    /// Removes a driver. Its connections, and only they, end with `reason`; the peers are told.
    pub fn remove_driver(&mut self, driver: DriverId, reason: DisconnectReason) -> Result<(), UnknownDriver> {
        self.session.remove_driver(driver, &reason).map(drop).ok_or(UnknownDriver(driver))
    }

    /// The drivers, to look at.
    pub fn drivers(&self) -> &NetworkDriverStore {
        &self.session.store
    }

    /// The drivers, to change what only their kind has, e.g. the link simulator. Do not remove one this way: use
    /// [`remove_driver`](Self::remove_driver).
    pub fn drivers_mut(&mut self) -> &mut NetworkDriverStore {
        &mut self.session.store
    }

    /// Listens at an endpoint with a driver of its own, made for the endpoint's scheme. May be called any number of
    /// times, for several drivers at once. After an error nothing of it is open.
    pub fn listen(&mut self, endpoint: &str) -> Result<Listening, NetworkListenError> {
        let endpoint: Endpoint = endpoint.parse()?;
        if self.session.core.side == Side::Client {
            return Err(NetworkListenError::NotAServer);
        }
        let driver = (self.constructor)(&endpoint).ok_or(NetworkListenError::NoDriver(endpoint.scheme()))?;
        let driver = self.session.store.add_boxed(driver);
        self.listen_on(driver, &endpoint).inspect_err(|_| {
            self.session.store.remove(driver);
        })
    }

    /// Listens at an endpoint with a driver that was added before.
    pub fn listen_on(&mut self, driver: DriverId, endpoint: &Endpoint) -> Result<Listening, NetworkListenError> {
        if self.session.core.side == Side::Client {
            return Err(NetworkListenError::NotAServer);
        }
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(NetworkListenError::UnknownDriver(driver))?;
        match found.listen(now, endpoint) {
            Ok(endpoint) => {
                self.session.driver_events.push(DriverEvent::Listening { driver, endpoint: endpoint.clone() });
                Ok(Listening { driver, endpoint })
            }
            Err(error) => {
                let (endpoint, error_text) = (endpoint.clone(), error.to_string());
                self.session.driver_events.push(DriverEvent::ListenFailed { driver, endpoint, error: error_text });
                Err(error.into())
            }
        }
    }

    /// Accepts nobody new on this driver from now on. Its connections stay.
    pub fn stop_listening(&mut self, driver: DriverId) -> Result<(), UnknownDriver> {
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(UnknownDriver(driver))?;
        if found.listening().is_some() {
            found.stop_listening(now);
            self.session.driver_events.push(DriverEvent::Stopped { driver });
        }
        Ok(())
    }

    /// Listens at several endpoints, all or none: after an error nothing of this call is open, and every endpoint that
    /// failed is named with its reason.
    pub fn listen_all(&mut self, endpoints: &[&str]) -> Result<Vec<Listening>, Vec<(String, NetworkListenError)>> {
        let (mut open, mut failed) = (Vec::new(), Vec::new());
        for &endpoint in endpoints {
            match self.listen(endpoint) {
                Ok(listening) => open.push(listening),
                Err(error) => failed.push((endpoint.to_owned(), error)),
            }
        }
        if failed.is_empty() {
            return Ok(open);
        }
        for listening in open {
            self.session.remove_driver(listening.driver, &DisconnectReason::local(DisconnectCode::DriverRemoved));
        }
        Err(failed)
    }

    /// Accepts nobody new on this driver; tells those who are connected, who may finish within this time. Whoever is
    /// still there then is closed with `DrainDeadline` and this text. [`DriverEvent`]s tell of both ends of it.
    pub fn drain(&mut self, driver: DriverId, within: Duration, text: &str) -> Result<(), UnknownDriver> {
        let reason = DisconnectReason::local(DisconnectCode::DrainDeadline).with_text(text);
        if self.session.drain(driver, within, reason) { Ok(()) } else { Err(UnknownDriver(driver)) }
    }

    /// [`drain`](Self::drain) for every driver.
    pub fn drain_all(&mut self, within: Duration, text: &str) {
        let drivers: Vec<DriverId> = self.session.store.iter().map(|(driver, _)| driver).collect();
        for driver in drivers {
            // Each was there a moment ago.
            let _ = self.drain(driver, within, text);
        }
    }

    /// Exchanges all drivers for others. Ids of the old ones name nothing afterwards, and the ids of the new ones are
    /// returned in their order.
    pub fn reset(
        &mut self,
        drivers: Vec<Box<dyn NetworkDriver>>,
        policy: &ResetPolicy,
    ) -> Result<Vec<DriverId>, StillConnected> {
        let connected = self.connections().count();
        let reason = match policy {
            ResetPolicy::RefuseIfConnected if connected > 0 => return Err(StillConnected(connected)),
            ResetPolicy::RefuseIfConnected => DisconnectReason::local(DisconnectCode::DriverRemoved),
            ResetPolicy::CloseConnections(reason) => reason.clone(),
        };
        let old: Vec<DriverId> = self.session.store.iter().map(|(driver, _)| driver).collect();
        for driver in old {
            self.session.remove_driver(driver, &reason);
        }
        Ok(drivers.into_iter().map(|driver| self.session.store.add_boxed(driver)).collect())
    }

    /// Every driver that listens, and where.
    pub fn endpoints(&self) -> impl Iterator<Item = Listening> {
        let drivers = self.session.store.iter();
        drivers.filter_map(|(driver, found)| found.listening().map(|endpoint| Listening { driver, endpoint }))
    }

    /// The code that clients need to join this UDP driver; `None` for other drivers and for those that take tokens of a
    /// back-end.
    pub fn join_code(&self, driver: DriverId) -> Option<JoinCode> {
        self.session.store.get_as::<UdpDriver>(driver)?.join_code().cloned()
    }

    // Connections.

    /// Starts to connect to a server; the scheme chooses the driver. Enough for in-process endpoints; others want
    /// [`connect_with`](Self::connect_with) a join code or token.
    ///
    /// The returned entity is the connection from now on; its state is Connecting. Components may be inserted on it at
    /// once. The outcome is reported by [`ConnectionEvent`]s.
    pub fn connect(&mut self, endpoint: &str) -> Result<Entity, NetworkConnectError> {
        self.connect_with(endpoint, ConnectOptions::new())
    }

    /// The same with a join code or token for the driver, and credentials for the server's game code.
    pub fn connect_with(&mut self, endpoint: &str, options: ConnectOptions) -> Result<Entity, NetworkConnectError> {
        let (key, endpoint) = self.dial(endpoint, &options)?;
        let reserved = self.reserved.pop();
        let entity = reserved.unwrap_or_else(|| self.session.alloc_entity());
        let reserved = reserved.is_some();
        self.session.core.connect(entity, key, endpoint, options.credentials, options.as_new, reserved);
        Ok(entity)
    }

    /// The same for an entity that exists.
    pub(crate) fn connect_entity(
        &mut self,
        entity: Entity,
        endpoint: &str,
        options: ConnectOptions,
    ) -> Result<(), NetworkConnectError> {
        if self.slot(entity).is_ok() {
            return Err(NetworkConnectError::AlreadyConnected(entity));
        }
        let (key, endpoint) = self.dial(endpoint, &options)?;
        self.session.core.connect(entity, key, endpoint, options.credentials, options.as_new, true);
        Ok(())
    }

    /// Checks everything, finds or makes the driver and lets it reach for the server. After an error nothing is left.
    fn dial(
        &mut self,
        endpoint: &str,
        options: &ConnectOptions,
    ) -> Result<(ConnectionKey, Endpoint), NetworkConnectError> {
        let endpoint: Endpoint = endpoint.parse()?;
        let core = &self.session.core;
        if core.side == Side::Server {
            return Err(NetworkConnectError::NotAClient);
        }
        if let Some((_, live)) = core.connections.iter().find(|(_, connection)| !connection.state.is_ending()) {
            return Err(NetworkConnectError::AlreadyConnected(live.entity));
        }
        let (size, limit) = (options.credentials.len(), core.limits.credentials.min(4096));
        if size > limit {
            return Err(NetworkConnectError::CredentialsTooLong { size, limit });
        }
        let driver = match self.idle_driver(endpoint.scheme()) {
            Some(driver) => driver,
            None => {
                let made = (self.constructor)(&endpoint).ok_or(NetworkConnectError::NoDriver(endpoint.scheme()))?;
                self.session.add_own(made)
            }
        };
        let now = self.session.now();
        let found = self.session.store.get_mut(driver).ok_or(NetworkConnectError::NoDriver(endpoint.scheme()))?;
        match found.connect(now, &endpoint, &options.transport) {
            Ok(connection) => Ok((ConnectionKey { driver, connection }, endpoint)),
            Err(error) => {
                self.session.sweep();
                Err(error.into())
            }
        }
    }

    /// A driver of this scheme that the application added and that carries nothing.
    fn idle_driver(&self, scheme: Scheme) -> Option<DriverId> {
        let fits = |(id, driver): (DriverId, &dyn NetworkDriver)| {
            let idle = driver.listening().is_none()
                && !self.session.is_own(id)
                && self.session.core.connections.of_driver(id).is_empty();
            (driver.scheme() == scheme.as_str() && idle).then_some(id)
        };
        self.session.store.iter().find_map(fits)
    }

    /// Ends a connection. Reliable data that is queued already is delivered first, for at most
    /// [`NetworkLimits::linger`]; the other end sees code and text with origin Remote.
    pub fn disconnect(&mut self, connection: Entity, reason: DisconnectReason) -> Result<(), ConnectionError> {
        let slot = self.slot(connection)?;
        self.session.now();
        if self.session.core.close(slot, reason) {
            return Ok(());
        }
        Err(ConnectionError::Ending(self.state(connection).unwrap_or(ConnectionState::Disconnected)))
    }

    /// Ends a connection with code `Kicked` and this text.
    pub fn kick(&mut self, connection: Entity, text: &str) -> Result<(), ConnectionError> {
        self.disconnect(connection, DisconnectReason::local(DisconnectCode::Kicked).with_text(text))
    }

    /// Keeps this identity or these addresses out for a time (`None`: until [`unban`](Self::unban)), and ends the
    /// connections that it concerns with code `Banned` and this text.
    pub fn ban(&mut self, target: BanTarget, time: Option<Duration>, text: &str) {
        let now = self.session.now();
        self.session.core.bans.add(target, now.mono, time, text);
        self.session.core.enforce_bans();
    }

    /// Lifts a ban; false if there was none.
    pub fn unban(&mut self, target: BanTarget) -> bool {
        self.session.core.bans.remove(target)
    }

    /// The bans that count now, expired ones possibly included until the next player comes.
    pub fn bans(&self) -> impl Iterator<Item = BanTarget> {
        self.session.core.bans.targets()
    }

    /// Ends every connection with this reason.
    pub fn disconnect_all(&mut self, reason: &DisconnectReason) {
        let slots: Vec<Slot> = self.session.core.connections.iter().map(|(slot, _)| slot).collect();
        self.session.now();
        for slot in slots {
            self.session.core.close(slot, reason.clone());
        }
    }

    // Approval.

    /// Whether connections that reach ProtocolValidation from now on need the game's approval. Off by default.
    pub fn require_approval(&mut self, required: bool) {
        self.session.core.approval_required = required;
    }

    /// The same for one driver only, whatever holds for the others; `None` lets it follow them again.
    pub fn require_approval_on(&mut self, driver: DriverId, required: Option<bool>) -> Result<(), UnknownDriver> {
        if !self.session.store.contains(driver) {
            return Err(UnknownDriver(driver));
        }
        match required {
            Some(required) => self.session.core.approval_of_driver.insert(driver, required),
            None => self.session.core.approval_of_driver.remove(&driver),
        };
        Ok(())
    }

    /// Lets a waiting connection enter; the same as inserting [`ConnectionApproved`](crate::ConnectionApproved). Before
    /// Approval it counts as soon as that is reached.
    pub fn approve(&mut self, connection: Entity) -> Result<(), ConnectionError> {
        let slot = self.undecided(connection)?;
        self.session.core.approve(slot);
        Ok(())
    }

    /// Refuses a waiting connection with code `ApprovalDenied` and this text.
    pub fn deny(&mut self, connection: Entity, text: &str) -> Result<(), ConnectionError> {
        self.undecided(connection)?;
        self.disconnect(connection, DisconnectReason::local(DisconnectCode::ApprovalDenied).with_text(text))
    }

    /// Gives the decision `time` from now; the client is told.
    pub fn extend_approval(&mut self, connection: Entity, time: Duration) -> Result<(), ConnectionError> {
        let slot = self.undecided(connection)?;
        if self.session.core.extend_approval(slot, time) {
            return Ok(());
        }
        Err(ConnectionError::NotWaiting(self.state(connection).unwrap_or(ConnectionState::Disconnected)))
    }

    fn undecided(&mut self, connection: Entity) -> Result<Slot, ConnectionError> {
        if self.session.core.side == Side::Client {
            return Err(ConnectionError::NotAServer);
        }
        let slot = self.slot(connection)?;
        self.session.now();
        match self.state(connection) {
            Some(state) if state.is_ending() => Err(ConnectionError::Ending(state)),
            Some(state @ (ConnectionState::Accepted | ConnectionState::Connected(_))) => {
                Err(ConnectionError::NotWaiting(state))
            }
            _ => Ok(slot),
        }
    }

    // Commands and snapshots.

    /// Client: sends a command to the server, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_command(&mut self, connection: Entity, command: &[u8]) -> Result<(), NetworkSendError> {
        if self.session.core.side == Side::Server {
            return Err(NetworkSendError::WrongSide("server"));
        }
        self.send_data(connection, MessageKind::Command, command)
    }

    /// Server: sends a snapshot to a client, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_snapshot(&mut self, connection: Entity, snapshot: &[u8]) -> Result<(), NetworkSendError> {
        if self.session.core.side == Side::Client {
            return Err(NetworkSendError::WrongSide("client"));
        }
        self.send_data(connection, MessageKind::Snapshot, snapshot)
    }

    /// How many bytes, with the kind, fit in one datagram to this connection.
    pub(crate) fn data_limit(&self, entity: Entity) -> usize {
        self.driver_of(entity).map_or(0, |driver| driver.max_message(ChannelId::UNRELIABLE))
    }

    /// Whether this kind of driver carries the connection.
    pub(crate) fn is_driven_by<D: NetworkDriver>(&self, entity: Entity) -> bool {
        self.driver_of(entity).is_some_and(|driver| driver.as_any().is::<D>())
    }

    fn driver_of(&self, entity: Entity) -> Option<&dyn NetworkDriver> {
        let core = &self.session.core;
        let key = core.connections.get(core.connections.of_entity(entity)?)?.key;
        self.session.store.get(key.driver)
    }

    pub(crate) fn send_data(&mut self, entity: Entity, kind: MessageKind, body: &[u8]) -> Result<(), NetworkSendError> {
        let slot = self.slot(entity).map_err(|_| NetworkSendError::Unknown(entity))?;
        let connection = self.session.core.connections.get(slot).ok_or(NetworkSendError::Unknown(entity))?;
        let (state, key) = (connection.state, connection.key);
        if !state.is_connected() {
            return Err(NetworkSendError::NotReady(state));
        }
        if !state.is_in_game() {
            return Err(NetworkSendError::NotInGame);
        }
        self.message.clear();
        self.message.push(kind as u8);
        self.message.extend_from_slice(body);
        let now = self.session.now();
        let driver = self.session.store.get_mut(key.driver).ok_or(SendError::NotConnected)?;
        let fits = self.message.len() <= driver.max_message(ChannelId::UNRELIABLE);
        let channel = if fits { ChannelId::UNRELIABLE } else { ChannelId::UNRELIABLE_FRAGMENTED };
        Ok(driver.send(now, key.connection, channel, &self.message)?)
    }

    // Questions.

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

    /// Round-trip time, loss, bytes and packets of a connection.
    pub fn stats(&self, connection: Entity) -> Option<ConnectionStats> {
        let core = &self.session.core;
        let key = core.connections.get(core.connections.of_entity(connection)?)?.key;
        self.session.store.stats(key)
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

    /// The connection events of the current update, oldest first.
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
        if self.session.core.entity_removed(slot) {
            let state = state.map_or("?", ConnectionState::name);
            tracing::error!(
                "the connection entity {entity} was despawned in state {state}; a connection is ended with \
                 NetworkStreamDriver::disconnect or NetworkStreamRequestDisconnect, never by despawning its entity"
            );
        }
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
