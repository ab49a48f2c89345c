//! The whole stack in a Bevy `App`: what a game's server has.
//!
//! Snapshots and commands are raw bytes, RPCs go through the registry. The clients are drivers without an `App` each,
//! which greet the server with the bytes that a real client World says first.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use bytes::Bytes;
use netstream::NetworkLimits;
use netstream::driver::udp::{Network, UdpDriver};
use netstream::driver::{
    ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, Scheme, SendError,
};
use netstream::prelude::*;
use netstream::transport::channel::ChannelTable;
use netstream::transport::{ChannelId, ConnectionId, Incoming, Now};
use serde::{Deserialize, Serialize};

use super::netstream::{DriverCrowd, config};
use crate::end::{End, Lane, Server, Setup};
use crate::game::Game;

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
}

/// The game, while the World has it.
#[derive(Resource, Default)]
struct Stage(Game);

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
        app.init_resource::<Stage>().init_resource::<Players>().add_systems(Update, (enter, play).chain());
        let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
        let driver = net.add_driver(driver);
        let listening = net.listen_on(driver, &"udp://127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let address = format!("127.0.0.1:{} {}", listening.endpoint.port().expect("bound"), *code);
        app.update();
        Self { app, address }
    }

    fn swap(&mut self, game: &mut Game) {
        std::mem::swap(game, &mut self.app.world_mut().resource_mut::<Stage>().0);
    }
}

impl Server for EcsServer {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn update(&mut self, game: &mut Game) {
        self.swap(game);
        self.app.update();
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

#[expect(clippy::too_many_arguments, reason = "a system, whose parameters are what it uses")]
fn play(
    mut stage: ResMut<Stage>,
    players: Res<Players>,
    mut net: ResMut<NetworkStreamDriver>,
    mut commands: Query<(&Number, &mut IncomingCommandBuffer)>,
    numbers: Query<&Number>,
    mut notes: MessageReader<ReceivedRpc<Note>>,
    mut sender: RpcSender,
) {
    stage.0.update(&mut InWorld {
        players: &players.0,
        net: &mut net,
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
            Lane::Unreliable | Lane::Fragmented => self.net.send_snapshot(player, message).is_ok(),
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
    let said = Arc::new(Mutex::new(Vec::new()));
    let channels = config(setup).client_link.channels;
    let tap = Tap { said: said.clone(), channels, connecting: false };
    let mut app = app(NetworkStreamPlugin::client(), setup);
    let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
    net.add_driver(tap);
    net.connect("udp://127.0.0.1:1").expect("the tap takes anything");
    app.update();
    app.update();
    let said = said.lock().expect("nobody panicked");
    assert!(!said.is_empty(), "the client says nothing");
    said.clone()
}

/// A driver that is connected to nobody and keeps what is said first.
struct Tap {
    said: Arc<Mutex<Vec<u8>>>,
    channels: ChannelTable,
    connecting: bool,
}

const THE_ONE: ConnectionId = ConnectionId { index: 0, generation: 0 };

impl NetworkDriver for Tap {
    fn scheme(&self) -> &'static str {
        Scheme::Udp.as_str()
    }

    fn listen(&mut self, _: Now, _: &Endpoint) -> Result<Endpoint, ListenError> {
        Err(ListenError::Unsupported("tap"))
    }

    fn stop_listening(&mut self, _: Now) {}

    fn listening(&self) -> Option<Endpoint> {
        None
    }

    fn connect(&mut self, _: Now, _: &Endpoint, _: &Credentials) -> Result<ConnectionId, ConnectError> {
        self.connecting = true;
        Ok(THE_ONE)
    }

    fn receive(&mut self, _: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        if std::mem::take(&mut self.connecting) {
            sink(Incoming::Connected { connection: THE_ONE });
        }
    }

    fn send(&mut self, _: Now, _: ConnectionId, _: ChannelId, message: &[u8]) -> Result<(), SendError> {
        let mut said = self.said.lock().expect("nobody panicked");
        if said.is_empty() {
            said.extend_from_slice(message);
        }
        Ok(())
    }

    fn flush(&mut self, _: Now) {}

    fn disconnect(&mut self, _: Now, _: ConnectionId, _: &DisconnectReason, _: Duration) {}

    fn stats(&self, _: ConnectionId) -> Option<ConnectionStats> {
        None
    }

    fn max_message(&self, _: ChannelId) -> usize {
        usize::MAX
    }

    fn channels(&self) -> &ChannelTable {
        &self.channels
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
