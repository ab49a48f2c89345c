//! Two peers (or more) in one process and in virtual time: real Apps, real drivers, real sockets where the driver has
//! any. A test that uses it reads like a story.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part of the harness")]

pub mod stage;

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::udp::UdpDriver;
use netstream::driver::{IpcDriver, ManualClock, NetworkDriver, Scheme};
use netstream::prelude::*;
use serde::{Deserialize, Serialize};

/// How long one update takes in virtual time.
pub const STEP: Duration = Duration::from_millis(10);

/// What lies between the two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ipc,
    Udp,
    LossyIpc,
    LossyUdp,
}

impl Link {
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Ipc | Self::LossyIpc => Scheme::Ipc,
            Self::Udp | Self::LossyUdp => Scheme::Udp,
        }
    }

    pub fn is_lossy(self) -> bool {
        matches!(self, Self::LossyIpc | Self::LossyUdp)
    }

    fn endpoint(self) -> &'static str {
        match self.scheme() {
            Scheme::Ipc => "ipc://arena",
            _ => "udp://127.0.0.1:0",
        }
    }

    fn driver(self, hub: &IpcHub, seed: u64) -> Box<dyn NetworkDriver> {
        // 20 % of all packets are lost in each direction, the others arrive out of order now and then.
        let (delay, jitter) = (Duration::from_millis(5), Duration::from_millis(5));
        let profile = LinkProfile { delay, jitter, loss: 0.2, ..LinkProfile::PERFECT };
        match self {
            Self::Ipc => Box::new(IpcDriver::new(hub)),
            Self::Udp => Box::new(UdpDriver::default()),
            Self::LossyIpc => Box::new(Simulated::new(IpcDriver::new(hub), profile, seed)),
            Self::LossyUdp => Box::new(Simulated::new(UdpDriver::default(), profile, seed)),
        }
    }
}

/// Runs each test body over every link.
#[macro_export]
macro_rules! over_every_link {
    ($($(#[$meta:meta])* $name:ident)*) => {
        mod ipc { $($(#[$meta])* #[test] fn $name() { super::$name($crate::harness::Link::Ipc); })* }
        mod udp { $($(#[$meta])* #[test] fn $name() { super::$name($crate::harness::Link::Udp); })* }
        mod lossy_ipc { $($(#[$meta])* #[test] fn $name() { super::$name($crate::harness::Link::LossyIpc); })* }
        mod lossy_udp { $($(#[$meta])* #[test] fn $name() { super::$name($crate::harness::Link::LossyUdp); })* }
    };
}

/// An RPC of the tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Say(pub u32, pub String);

/// An RPC that may travel before Connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login(pub String);

/// What a World has seen.
#[derive(Resource, Default)]
pub struct Seen {
    /// Events by observer, at once.
    pub observed: Vec<ConnectionEvent>,
    /// Events by message, in `Update`.
    pub read: Vec<ConnectionEvent>,
    pub says: Vec<(Entity, Say)>,
    pub logins: Vec<(Entity, Login)>,
    pub data: Vec<(Entity, Vec<u8>)>,
    /// Whether the entity of an observed Disconnected was there.
    pub entity_was_there: Vec<bool>,
}

/// One World under test.
pub struct Peer {
    pub app: App,
}

impl Peer {
    pub fn new(plugin: NetworkStreamPlugin) -> Self {
        let mut app = App::new();
        app.add_plugins(plugin)
            .register_rpc::<Say>()
            .register_approval_rpc::<Login>()
            .init_resource::<Seen>()
            .add_observer(
                |event: On<'_, '_, ConnectionEvent>, mut seen: ResMut<'_, Seen>, all: Query<'_, '_, Entity>| {
                    seen.observed.push(event.event().clone());
                    if event.state == ConnectionState::Disconnected {
                        seen.entity_was_there.push(all.contains(event.connection));
                    }
                },
            )
            .add_systems(Update, record);
        Self { app }
    }

    pub fn net(&mut self) -> Mut<'_, NetworkStreamDriver> {
        self.app.world_mut().resource_mut::<NetworkStreamDriver>()
    }

    pub fn seen(&self) -> &Seen {
        self.app.world().resource::<Seen>()
    }

    /// The states that this World's events showed for a connection, in order.
    pub fn states_of(&self, connection: Entity) -> Vec<ConnectionState> {
        self.events_of(connection).iter().map(|event| event.state).collect()
    }

    pub fn events_of(&self, connection: Entity) -> Vec<ConnectionEvent> {
        self.seen().observed.iter().filter(|event| event.connection == connection).cloned().collect()
    }

    /// Why a connection ended; panics if it has not.
    pub fn reason_of(&self, connection: Entity) -> DisconnectReason {
        let events = self.events_of(connection);
        let last = events.last().expect("the connection has events");
        assert_eq!(last.state, ConnectionState::Disconnected);
        last.reason.clone().expect("a Disconnected has a reason")
    }

    /// The connections that ever had an event here, in order of their first.
    pub fn connections(&self) -> Vec<Entity> {
        let mut found = Vec::new();
        for event in &self.seen().observed {
            if !found.contains(&event.connection) {
                found.push(event.connection);
            }
        }
        found
    }

    /// The last of them.
    pub fn connection(&self) -> Entity {
        *self.connections().last().expect("there is a connection")
    }

    pub fn state(&self, connection: Entity) -> Option<ConnectionState> {
        self.app.world().get::<ConnectionState>(connection).copied()
    }

    pub fn enter_game(&mut self, connection: Entity) {
        self.app.world_mut().entity_mut(connection).insert(NetworkStreamInGame);
    }

    pub fn say(&mut self, connection: Entity, number: u32, text: &str) -> Result<(), netstream::NetworkSendError> {
        let say = Say(number, text.to_owned());
        let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(connection, &say);
        self.app.world_mut().run_system_once(send).expect("RpcSender is available")
    }

    pub fn login(&mut self, connection: Entity, text: &str) -> Result<(), netstream::NetworkSendError> {
        let login = Login(text.to_owned());
        let send = move |mut rpcs: RpcSender<'_, '_>| rpcs.send(connection, &login);
        self.app.world_mut().run_system_once(send).expect("RpcSender is available")
    }

    /// What must hold of every World at any time, whatever the story: events come in the order of the table, each is
    /// seen alike by observers and readers, the state component equals the last event, nothing follows Disconnected.
    pub fn check(&mut self, server: bool) {
        use netstream::state::{Side, TRANSITIONS, first_state};
        let side = if server { Side::Server } else { Side::Client };
        for connection in self.connections() {
            let events = self.events_of(connection);
            assert_eq!(events[0].state, first_state(side).0, "first event of {connection}");
            for pair in events.windows(2) {
                let follows = TRANSITIONS.iter().any(|row| {
                    row.from == pair[0].state && row.to == pair[1].state && row.side.is_none_or(|only| only == side)
                });
                assert!(follows, "{} after {}", pair[1].state, pair[0].state);
                assert_eq!(pair[0].key, pair[1].key);
            }
            for event in &events {
                assert_eq!(event.reason.is_some(), event.state == ConnectionState::Disconnected);
            }
            let last = events.last().unwrap().state;
            if last != ConnectionState::Disconnected {
                assert_eq!(self.state(connection), Some(last), "state component of {connection}");
            }
        }
        let seen = self.seen();
        // Messages raised by the last Send are read in the next update.
        assert_eq!(seen.read, seen.observed[..seen.read.len()], "readers and observers see the same");
        assert_eq!(self.net().counters().refused_inputs, 0);
    }
}

use bevy_ecs::system::RunSystemOnce;

fn record(
    mut seen: ResMut<'_, Seen>,
    mut events: MessageReader<'_, '_, ConnectionEvent>,
    mut says: MessageReader<'_, '_, ReceivedRpc<Say>>,
    mut logins: MessageReader<'_, '_, ReceivedRpc<Login>>,
    mut commands: Query<'_, '_, (Entity, &mut IncomingCommandBuffer)>,
    mut snapshots: Query<'_, '_, (Entity, &mut IncomingSnapshotBuffer)>,
) {
    let seen = &mut *seen;
    seen.read.extend(events.read().cloned());
    seen.says.extend(says.read().map(|say| (say.connection, say.rpc.clone())));
    seen.logins.extend(logins.read().map(|login| (login.connection, login.rpc.clone())));
    for (entity, mut buffer) in &mut commands {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
    for (entity, mut buffer) in &mut snapshots {
        seen.data.extend(buffer.drain().map(|bytes| (entity, bytes.to_vec())));
    }
}

/// A server, a client, and a link between them.
pub struct Pair {
    pub server: Peer,
    pub client: Peer,
    pub clock: ManualClock,
    pub hub: IpcHub,
    pub link: Link,
    /// Where the server listens; empty before it does.
    pub endpoint: String,
    pub driver: Option<netstream::driver::DriverId>,
}

impl Pair {
    /// Both peers with default settings; the server listens.
    pub fn over(link: Link) -> Self {
        Self::with(link, |plugin| plugin, |plugin| plugin)
    }

    /// The same with other settings.
    pub fn with(
        link: Link,
        server: impl FnOnce(NetworkStreamPlugin) -> NetworkStreamPlugin,
        client: impl FnOnce(NetworkStreamPlugin) -> NetworkStreamPlugin,
    ) -> Self {
        let mut pair = Self::silent(link, server, client);
        pair.listen();
        pair
    }

    /// The same, but the server does not listen yet.
    pub fn silent(
        link: Link,
        server: impl FnOnce(NetworkStreamPlugin) -> NetworkStreamPlugin,
        client: impl FnOnce(NetworkStreamPlugin) -> NetworkStreamPlugin,
    ) -> Self {
        let (clock, hub) = (ManualClock::new(), IpcHub::new());
        let plugin = |plugin: NetworkStreamPlugin, seed| {
            let hub = hub.clone();
            plugin.with_clock(clock.clone()).with_driver_constructor(move |endpoint| {
                (endpoint.scheme() == link.scheme()).then(|| link.driver(&hub, seed))
            })
        };
        let server = Peer::new(server(plugin(NetworkStreamPlugin::server(), 1)));
        let client = Peer::new(client(plugin(NetworkStreamPlugin::client(), 2)));
        Self { server, client, clock, hub, link, endpoint: String::new(), driver: None }
    }

    pub fn listen(&mut self) {
        let listening = self.server.net().listen(self.link.endpoint()).expect("the server listens");
        self.endpoint = listening.endpoint.to_string();
        self.driver = Some(listening.driver);
    }

    /// What the client must show to get past the driver.
    pub fn options(&mut self) -> ConnectOptions {
        let driver = self.driver.expect("the server listens");
        match self.server.net().join_code(driver) {
            Some(code) => ConnectOptions::new().join_code(code),
            None => ConnectOptions::new(),
        }
    }

    /// A second client World on the same link.
    pub fn another_client(&self, seed: u64) -> Peer {
        let (link, hub) = (self.link, self.hub.clone());
        let plugin = NetworkStreamPlugin::client().with_clock(self.clock.clone());
        Peer::new(plugin.with_driver_constructor(move |_| Some(link.driver(&hub, seed))))
    }

    pub fn try_connect(&mut self, options: ConnectOptions) -> Result<Entity, netstream::NetworkConnectError> {
        let endpoint = self.endpoint.clone();
        self.client.net().connect_with(&endpoint, options)
    }

    /// The client starts to connect.
    pub fn connect(&mut self) -> Entity {
        let options = self.options();
        self.try_connect(options).expect("the call is right")
    }

    /// One update of the server, then one of the client; time goes on.
    pub fn step(&mut self) {
        self.server.app.update();
        self.client.app.update();
        self.clock.advance(STEP);
    }

    pub fn run(&mut self, time: Duration) {
        for _ in 0..time.as_nanos() / STEP.as_nanos() {
            self.step();
        }
    }

    /// Steps until it is so; panics after 30 virtual seconds.
    pub fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..3000 {
            if so(self) {
                return;
            }
            self.step();
        }
        let (server, client) = (&self.server.seen().observed, &self.client.seen().observed);
        panic!("not within 30 s over {:?}: {what}\nserver saw {server:#?}\nclient saw {client:#?}", self.link);
    }

    /// Both ends are Connected; (server's entity, client's entity).
    pub fn connected(&mut self) -> (Entity, Entity) {
        let client = self.connect();
        self.until("both are connected", |pair| {
            pair.client.state(client).is_some_and(ConnectionState::is_connected)
                && pair
                    .server
                    .app
                    .world()
                    .get_entity(pair.server.connections().last().copied().unwrap_or(client))
                    .is_ok()
                && pair
                    .server
                    .connections()
                    .last()
                    .is_some_and(|&connection| pair.server.state(connection).is_some_and(ConnectionState::is_connected))
        });
        (self.server.connection(), client)
    }

    /// Both ends are Connected and in the game.
    pub fn in_game(&mut self) -> (Entity, Entity) {
        let (server, client) = self.connected();
        self.server.enter_game(server);
        self.client.enter_game(client);
        self.step();
        (server, client)
    }

    /// Steps until both ends have seen the end of these connections.
    pub fn ended(&mut self, server: Entity, client: Entity) {
        self.until("both ends have seen the end", |pair| {
            let over =
                |peer: &Peer, connection| peer.states_of(connection).last() == Some(&ConnectionState::Disconnected);
            over(&pair.server, server) && over(&pair.client, client)
        });
        // Whatever might wrongly follow has time to do so.
        self.run(Duration::from_millis(500));
    }

    /// What must hold at the end of every story.
    pub fn check(&mut self) {
        self.step();
        self.server.check(true);
        self.client.check(false);
    }
}
