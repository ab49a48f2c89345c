//! A server and a client that play: one command and one snapshot per tick, over every driver and link, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part of the harness")]

pub mod tap;

use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::udp::{Access, MemoryNetwork, UdpConfig};
use netstream::driver::{Endpoint, IpcDriver, ManualClock, NetworkDriver, Scheme, UdpDriver};
use netstream::prelude::*;
use netstream::transport::SeededRandom;
use netstream::transport::netcode::JoinCode;
use netstream::{CommandArrivals, SnapshotAcks, SnapshotArrivals, SnapshotDelivery};
use serde::{Deserialize, Serialize};

/// What lies between server and client: which driver, and how bad a network.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    pub scheme: Scheme,
    /// One way.
    pub profile: LinkProfile,
}

pub const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Link {
    /// The four networks of the tests, over this driver.
    pub fn networks(scheme: Scheme) -> [Self; 4] {
        let perfect = LinkProfile::PERFECT;
        [
            perfect,
            LinkProfile { delay: millis(30), ..perfect },
            LinkProfile { loss: 0.33, ..perfect },
            LinkProfile { delay: millis(8), loss: 0.05, ..perfect },
        ]
        .map(|profile| Self { scheme, profile })
    }

    /// The same over every driver.
    pub fn all() -> impl Iterator<Item = Self> {
        [Scheme::Ipc, Scheme::Udp].into_iter().flat_map(Self::networks)
    }

    pub fn is_lossy(&self) -> bool {
        self.profile.loss > 0.0
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub tick: Tick,
    pub x: i8,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    pub tick: Tick,
    pub cells: Vec<u8>,
}

impl Scene {
    /// What the server shows at this tick: mostly what it showed before.
    pub fn at(tick: Tick, size: usize) -> Self {
        let mut cells = vec![7; size];
        if let Some(cell) = cells.get_mut(tick.number() as usize % size.max(1)) {
            *cell = tick.number() as u8;
        }
        Self { tick, cells }
    }
}

/// What a World has seen and done, oldest first.
#[derive(Resource, Default)]
pub struct Log {
    /// Server: commands applied, with the tick that was simulated.
    pub applied: Vec<(Tick, Move)>,
    /// Client: ticks for which a command was taken.
    pub sent: Vec<Tick>,
    /// Server: ticks simulated. Client: ticks predicted.
    pub ticks: Vec<Tick>,
    /// Client: snapshots read.
    pub scenes: Vec<(Tick, Scene)>,
    /// Client: snapshots in bytes.
    pub raw: Vec<(Tick, Vec<u8>)>,
    /// Server: how many bytes each snapshot took.
    pub sizes: Vec<usize>,
    /// Client: it sends no commands.
    pub spectator: bool,
}

/// How large the scenes are.
#[derive(Resource, Clone, Copy)]
pub struct SceneSize(pub usize);

fn control(mut commands: CommandSender<'_, '_>, time: Res<'_, NetworkTime>, mut log: ResMut<'_, Log>) {
    let tick = time.tick();
    log.ticks.push(tick);
    if log.spectator {
        return;
    }
    let x = (tick.number() % 7) as i8;
    commands.send(&Move { tick, x, note: "n".repeat(x as usize) }).expect("in the game, and a new tick");
    log.sent.push(tick);
}

fn simulate(
    time: Res<'_, NetworkTime>,
    mut players: Query<'_, '_, (Entity, &mut CommandBuffer<Move>), With<NetworkStreamInGame>>,
    mut snapshots: SnapshotSender<'_, '_>,
    size: Res<'_, SceneSize>,
    mut log: ResMut<'_, Log>,
) {
    let tick = time.tick();
    log.ticks.push(tick);
    for (player, mut commands) in &mut players {
        log.applied.extend(commands.take(tick).map(|command| (tick, command)));
        if size.0 > 0 {
            let size = snapshots.send(player, &Scene::at(tick, size.0)).expect("in the game, and one per tick");
            log.sizes.push(size);
        }
    }
}

fn see(
    mut log: ResMut<'_, Log>,
    mut scenes: MessageReader<'_, '_, ReceivedSnapshot<Scene>>,
    mut raw: Query<'_, '_, &mut netstream::TickSnapshots>,
) {
    log.scenes.extend(scenes.read().map(|scene| (scene.tick, scene.snapshot.clone())));
    for mut raw in &mut raw {
        log.raw.extend(raw.drain().map(|(tick, bytes)| (tick, bytes.to_vec())));
    }
}

fn app(plugin: NetworkStreamPlugin, scene: usize, options: SnapshotOptions) -> App {
    let mut app = App::new();
    app.add_plugins(plugin)
        .register_command::<Move>()
        .register_snapshot_with::<Scene>(options)
        .insert_resource(SceneSize(scene))
        .init_resource::<Log>();
    app
}

pub fn server_app(plugin: NetworkStreamPlugin, scene: usize, options: SnapshotOptions) -> App {
    let mut app = app(plugin, scene, options);
    app.add_systems(NetworkTick, simulate);
    app
}

pub fn client_app(plugin: NetworkStreamPlugin, scene: usize, options: SnapshotOptions) -> App {
    let mut app = app(plugin, scene, options);
    app.add_systems(NetworkTick, control).add_systems(Update, see);
    app
}

pub struct Game {
    pub server: App,
    pub client: App,
    pub clock: ManualClock,
    pub step: Duration,
    /// The connection on the server and on the client, once there is one.
    pub ends: (Entity, Entity),
    /// What passed through the drivers of the server and of the client.
    pub books: [tap::Book; 2],
}

impl Game {
    /// Both are in the game; an update takes a 60th of a second.
    pub fn over(link: Link) -> Self {
        Self::with(link, 64, SnapshotOptions::new().delta(), |_| {}, |_| {})
    }

    /// The same with a client of this kind.
    pub fn of(client: NetworkStreamPlugin, link: Link) -> Self {
        Self::make(client, link, 64, SnapshotOptions::new().delta(), |_| {}, |_| {})
    }

    pub fn with(
        link: Link,
        scene: usize,
        options: SnapshotOptions,
        server: impl FnOnce(&mut App),
        client: impl FnOnce(&mut App),
    ) -> Self {
        Self::make(NetworkStreamPlugin::client(), link, scene, options, server, client)
    }

    fn make(
        plugin: NetworkStreamPlugin,
        link: Link,
        scene: usize,
        options: SnapshotOptions,
        server: impl FnOnce(&mut App),
        client: impl FnOnce(&mut App),
    ) -> Self {
        let (clock, hub, network) = (ManualClock::new(), IpcHub::new(), MemoryNetwork::new());
        let code = JoinCode::random(&mut SeededRandom::new(1));
        let books = [tap::Book::default(), tap::Book::default()];
        let over = |plugin: NetworkStreamPlugin, seed: u64, profile: LinkProfile, book: &tap::Book| {
            let (hub, network, code, book) = (hub.clone(), network.clone(), code.clone(), book.clone());
            let constructor = move |endpoint: &Endpoint| -> Option<Box<dyn NetworkDriver>> {
                let driver: Box<dyn NetworkDriver> = match endpoint.scheme() {
                    Scheme::Ipc if profile.is_perfect() => Box::new(IpcDriver::new(&hub)),
                    Scheme::Ipc => Box::new(Simulated::new(IpcDriver::new(&hub), profile, seed)),
                    _ => {
                        let mut random = SeededRandom::new(seed);
                        let mut config = UdpConfig::new(&mut random);
                        config.access = Access::JoinCode(code.clone());
                        let driver = UdpDriver::on(network.clone(), config, Box::new(random));
                        Box::new(Simulated::new(driver, profile, seed))
                    }
                };
                Some(Box::new(tap::Tap(driver, book.clone())))
            };
            let plugin = plugin.with_clock(clock.clone()).with_random(SeededRandom::new(seed));
            plugin.with_driver_constructor(constructor)
        };
        // All that happens to packets happens at the client, in both directions.
        let mut server_app =
            server_app(over(NetworkStreamPlugin::server(), 2, LinkProfile::PERFECT, &books[0]), scene, options);
        let mut client_app = client_app(over(plugin, 3, link.profile, &books[1]), scene, options);
        server(&mut server_app);
        client(&mut client_app);
        let endpoint = match link.scheme {
            Scheme::Ipc => "ipc://play".to_owned(),
            _ => "udp://127.0.0.1:7979".to_owned(),
        };
        server_app.world_mut().resource_mut::<NetworkStreamDriver>().listen(&endpoint).expect("it listens");
        let mut net = client_app.world_mut().resource_mut::<NetworkStreamDriver>();
        let connection = net.connect_with(&endpoint, ConnectOptions::new().join_code(code)).expect("the call is right");
        let step = Duration::from_secs(1) / 60;
        let ends = (Entity::PLACEHOLDER, connection);
        let mut game = Self { server: server_app, client: client_app, clock, step, ends, books };
        game.enter();
        game
    }

    fn enter(&mut self) {
        let connected = |app: &App, entity| {
            app.world().get::<ConnectionState>(entity).copied().is_some_and(ConnectionState::is_connected)
        };
        for _ in 0..3000 {
            self.step();
            let found = self.server.world().resource::<NetworkStreamDriver>().connections().next();
            if let Some(server) = found
                && connected(&self.server, server)
                && connected(&self.client, self.ends.1)
            {
                self.ends.0 = server;
                self.server.world_mut().entity_mut(server).insert(NetworkStreamInGame);
                self.client.world_mut().entity_mut(self.ends.1).insert(NetworkStreamInGame);
                return;
            }
        }
        panic!("never connected");
    }

    pub fn step(&mut self) {
        self.server.update();
        self.client.update();
        self.clock.advance(self.step);
    }

    pub fn run(&mut self, time: Duration) {
        for _ in 0..time.as_nanos() / self.step.as_nanos() {
            self.step();
        }
    }

    pub fn server_log(&self) -> &Log {
        self.server.world().resource()
    }

    pub fn client_log(&self) -> &Log {
        self.client.world().resource()
    }

    pub fn time(&self) -> &NetworkTime {
        self.client.world().resource()
    }

    pub fn server_time(&self) -> &NetworkTime {
        self.server.world().resource()
    }

    pub fn arrivals(&self) -> CommandArrivals {
        *self.server.world().get(self.ends.0).expect("a server's connection has it")
    }

    pub fn acks(&self) -> &SnapshotAcks {
        self.server.world().get(self.ends.0).expect("a server's connection has it")
    }

    pub fn snapshots(&self) -> SnapshotArrivals {
        *self.client.world().get(self.ends.1).expect("a client's connection has it")
    }

    pub fn deliver(&mut self, delivery: SnapshotDelivery) {
        self.client.insert_resource(delivery);
    }

    /// What holds at any time, whatever the network did.
    pub fn check(&self) {
        for app in [&self.server, &self.client] {
            assert_eq!(app.world().resource::<NetworkStreamDriver>().counters().violations, 0);
            let ticks = &app.world().resource::<Log>().ticks;
            assert!(ticks.windows(2).all(|pair| pair[1].is_after(pair[0])), "ticks only go forward");
        }
        let applied = &self.server_log().applied;
        for (tick, command) in applied {
            assert_eq!(*tick, command.tick, "a command is applied for its tick");
        }
        assert!(applied.windows(2).all(|pair| pair[1].0.is_after(pair[0].0)), "at most one command per tick");
        let scenes = &self.client_log().scenes;
        assert!(scenes.windows(2).all(|pair| pair[1].0.is_after(pair[0].0)), "snapshot ticks only increase");
        for (tick, scene) in scenes {
            assert_eq!(*scene, Scene::at(*tick, scene.cells.len()), "a snapshot is what was sent");
        }
        let acked = self.server_log().ticks.iter().filter(|tick| self.acks().acked(**tick));
        let read: std::collections::HashSet<_> = scenes.iter().map(|(tick, _)| *tick).collect();
        for tick in acked {
            assert!(read.contains(tick), "{tick} is acknowledged and was not handed out");
        }
        assert_eq!(self.arrivals().false_acks, 0);
    }
}
