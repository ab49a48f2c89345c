//! The whole stack in a Bevy `App`: what a game's server has.
//!
//! Snapshots and commands are raw bytes, RPCs go through the registry. The clients are drivers without an `App` each,
//! which greet the server with the bytes that a real client World says first.

use std::time::{Duration, Instant};

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use netstream::driver::udp::{Network, UdpDriver};
use netstream::prelude::*;
use netstream::{NetworkLimits, update_network};
use serde::{Deserialize, Serialize};

use super::netstream::{DriverCrowd, Shared, config};
use crate::end::{End, Lane, Server, Setup};
use crate::game::Game;

/// From one update of the `App` to the next where the game only answers.
const FRAME: Duration = Duration::from_micros(16_667);

/// The kind byte of a command.
const COMMAND: u8 = 2;

/// The one RPC type: bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Note(Bytes);

fn app(plugin: NetworkStreamPlugin, setup: &Setup) -> App {
    let mut app = App::new();
    let mut limits = NetworkLimits::default();
    limits.outgoing_rpc_bytes = limits.outgoing_rpc_bytes.max(setup.largest + 1024);
    app.add_plugins(plugin.with_limits(limits)).register_rpc::<Note>();
    app
}

pub(crate) struct EcsServer {
    app: App,
    address: String,
    /// When the last update of the `App` began; `None` where each round is one.
    frame: Option<Instant>,
}

#[derive(Resource, Default)]
struct Stage {
    /// While the World has it.
    game: Game,
    shared: Shared,
}

/// The players in the order in which they came.
#[derive(Resource, Default)]
struct Players(Vec<Entity>);

#[derive(Component)]
struct Number(usize);

impl EcsServer {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self::with(NetworkStreamPlugin::server(), UdpDriver::with_config(config(setup)), setup)
    }

    pub(crate) fn with<N: Network>(plugin: NetworkStreamPlugin, driver: UdpDriver<N>, setup: &Setup) -> Self {
        let code = driver.join_code().expect("the default").to_text();
        let mut app = app(plugin, setup);
        app.init_resource::<Stage>().init_resource::<Players>();
        let systems = (enter, play).chain();
        if setup.only_answers {
            app.add_systems(NetworkUpdate, systems);
        } else {
            app.add_systems(Update, systems);
        }
        let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
        let driver = net.add_driver(driver);
        let listening = net.listen_on(driver, &"udp://127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let address = format!("127.0.0.1:{} {}", listening.endpoint.port().expect("bound"), *code);
        app.update();
        Self { app, address, frame: setup.only_answers.then(Instant::now) }
    }

    fn swap(&mut self, game: &mut Game) {
        std::mem::swap(game, &mut self.app.world_mut().resource_mut::<Stage>().game);
    }
}

impl Server for EcsServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn update(&mut self, game: &mut Game) {
        self.swap(game);
        if self.frame.is_some_and(|frame| frame.elapsed() < FRAME) {
            update_network(self.app.world_mut());
        } else {
            self.frame = self.frame.map(|_| Instant::now());
            self.app.update();
        }
        self.swap(game);
    }
}

fn enter(mut events: MessageReader<ConnectionEvent>, mut players: ResMut<Players>, mut commands: Commands) {
    for event in events.read() {
        if event.state == ConnectionState::Connected(Presence::NotInGame) {
            commands.entity(event.connection).insert((NetworkStreamInGame, Number(players.0.len())));
            players.0.push(event.connection);
        }
        assert!(!event.state.is_ending(), "a client is gone: {:?}", event.reason);
    }
}

fn play(
    mut stage: ResMut<Stage>,
    players: Res<Players>,
    mut net: ResMut<NetworkStreamDriver>,
    mut commands: Query<(&Number, &mut IncomingCommandBuffer)>,
    numbers: Query<&Number>,
    mut notes: MessageReader<ReceivedRpc<Note>>,
    mut sender: RpcSender,
) {
    let Stage { game, shared } = &mut *stage;
    game.update(&mut InWorld {
        players: &players.0,
        net: &mut net,
        shared,
        receive: &mut |sink| {
            for (number, mut buffer) in &mut commands {
                if !buffer.is_empty() {
                    buffer.drain().for_each(|command| sink(number.0, command));
                }
            }
            for note in notes.read() {
                if let Ok(number) = numbers.get(note.connection) {
                    sink(number.0, &note.rpc.0);
                }
            }
        },
        send: &mut |player, message| sender.send(player, &Note(message.clone())).is_ok(),
    });
}

type Sink<'a> = dyn FnMut(usize, &[u8]) + 'a;

struct InWorld<'a> {
    players: &'a [Entity],
    net: &'a mut NetworkStreamDriver,
    shared: &'a mut Shared,
    receive: &'a mut dyn FnMut(&mut Sink<'_>),
    send: &'a mut dyn FnMut(Entity, &Bytes) -> bool,
}

impl End for InWorld<'_> {
    fn connected(&mut self) -> usize {
        self.players.len()
    }

    fn receive(&mut self, sink: &mut Sink<'_>) {
        (self.receive)(sink);
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let player = self.players[client];
        match lane {
            Lane::Reliable => (self.send)(player, message),
            Lane::Unreliable | Lane::Fragmented => match self.shared.of(message) {
                Some(message) => self.net.send_snapshot_shared(player, message).is_ok(),
                None => self.net.send_snapshot(player, message).is_ok(),
            },
        }
    }
}

/// Clients without Worlds.
pub(crate) fn crowd(address: &str, setup: &Setup) -> DriverCrowd {
    with_session(DriverCrowd::new(address, setup), setup)
}

pub(crate) fn with_session<N: Network>(crowd: DriverCrowd<N>, setup: &Setup) -> DriverCrowd<N> {
    crowd.with_session(greeting(setup), COMMAND)
}

/// What a client World of this game says first.
fn greeting(setup: &Setup) -> Vec<u8> {
    let mut app = app(NetworkStreamPlugin::client(), setup);
    let driver =
        app.world_mut().resource_mut::<NetworkStreamDriver>().add_driver(UdpDriver::with_config(config(setup)));
    app.update();
    app.world().resource::<NetworkStreamDriver>().greeting(driver)
}
