//! What the World costs on top of a driver: a server with clients that exist only in a driver without any network.
//!
//! ```text
//! cargo run --release -p netstream --example ecs_cost -- [CLIENTS...]
//! ```
//!
//! Prints nanoseconds of processor time per client and update, for updates in which nothing happens, and for updates in
//! which every client has sent a command of 60 bytes and gets a snapshot of 1000.

use std::any::Any;
use std::time::Duration;

use bevy_app::{App, Update};
use bevy_ecs::prelude::*;
use netstream::driver::transport::channel::ChannelTable;
use netstream::driver::transport::{ChannelId, ConnectionId, Incoming, Now};
use netstream::driver::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, SendError};
use netstream::prelude::*;

/// A command message: its kind, and 60 bytes.
const COMMAND: [u8; 61] = [2; 61];

/// Clients that say what a client says first, and then what they are told to.
#[derive(Default)]
struct Feigned {
    clients: u32,
    /// Taken when they come.
    greeting: Option<Vec<u8>>,
    talking: bool,
    channels: ChannelTable,
}

impl Feigned {
    fn id(index: u32) -> ConnectionId {
        ConnectionId { index, generation: 0 }
    }
}

impl NetworkDriver for Feigned {
    fn scheme(&self) -> &'static str {
        "feigned"
    }

    fn listen(&mut self, _: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        Ok(endpoint.clone())
    }

    fn stop_listening(&mut self, _: Now) {}

    fn listening(&self) -> Option<Endpoint> {
        None
    }

    fn connect(&mut self, _: Now, _: &Endpoint, _: &Credentials) -> Result<ConnectionId, ConnectError> {
        Err(ConnectError::UsedAsServer)
    }

    fn receive(&mut self, _: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        if let Some(greeting) = self.greeting.take() {
            for connection in (0..self.clients).map(Self::id) {
                sink(Incoming::Accepted { connection, address: None, identity: None });
                sink(Incoming::Message { connection, channel: ChannelId::RELIABLE, bytes: &greeting });
            }
        }
        if self.talking {
            for index in 0..self.clients {
                let (connection, channel) = (Self::id(index), ChannelId::UNRELIABLE);
                sink(Incoming::Message { connection, channel, bytes: &COMMAND });
            }
        }
    }

    fn send(&mut self, _: Now, _: ConnectionId, _: ChannelId, message: &[u8]) -> Result<(), SendError> {
        std::hint::black_box(message);
        Ok(())
    }

    fn flush(&mut self, _: Now) {}

    fn disconnect(&mut self, _: Now, _: ConnectionId, _: &DisconnectReason, _: Duration) {}

    fn stats(&self, _: ConnectionId) -> Option<ConnectionStats> {
        None
    }

    fn max_message(&self, _: ChannelId) -> usize {
        1200
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

#[derive(Resource)]
struct Talking(bool);

fn enter(mut events: MessageReader<ConnectionEvent>, mut commands: Commands) {
    for event in events.read().filter(|event| event.state == ConnectionState::Accepted) {
        commands.entity(event.connection).insert(NetworkStreamInGame);
    }
}

fn play(
    talking: Res<Talking>,
    mut net: ResMut<NetworkStreamDriver>,
    mut connections: Query<(Entity, &mut IncomingCommandBuffer), With<NetworkStreamInGame>>,
) {
    if !talking.0 {
        return;
    }
    for (connection, mut commands) in &mut connections {
        let bytes: usize = commands.drain().map(<[u8]>::len).sum();
        std::hint::black_box(bytes);
        let _ = net.send_snapshot(connection, &[0; 1000]);
    }
}

/// Processor time of this process, in hundredths of a second.
fn spent() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this example needs Linux");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_ascii_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Nanoseconds per client of one update.
fn cost(app: &mut App, clients: u32) -> f64 {
    let (start, mut updates) = (spent(), 0);
    while spent() < start + 100 {
        (0..1 + 20_000 / clients).for_each(|_| app.update());
        updates += u64::from(1 + 20_000 / clients);
    }
    (spent() - start) as f64 * 1e7 / updates as f64 / f64::from(clients)
}

fn run(clients: u32) {
    let mut app = App::new();
    app.add_plugins(NetworkStreamPlugin::server()).insert_resource(Talking(false)).add_systems(Update, (enter, play));
    let feigned = Feigned { clients, ..Default::default() };
    let driver = app.world_mut().resource_mut::<NetworkStreamDriver>().add_driver(feigned);
    app.update();
    let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
    let greeting = net.greeting(driver);
    net.drivers_mut().get_mut_as::<Feigned>(driver).expect("it is there").greeting = Some(greeting);
    let before = spent();
    (0..10).for_each(|_| app.update());
    let joined = (spent() - before) as f64 * 1e4 / f64::from(clients);
    let world = app.world_mut();
    let in_game = world.query::<&NetworkStreamInGame>().iter(world).count();
    assert_eq!(in_game, clients as usize, "not all have arrived");
    let idle = cost(&mut app, clients);
    app.insert_resource(Talking(true));
    let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
    net.drivers_mut().get_mut_as::<Feigned>(driver).expect("it is there").talking = true;
    let busy = cost(&mut app, clients);
    println!("{clients:6} clients: {joined:6.1} us per join, {idle:7.1} ns idle, {busy:7.1} ns busy");
}

fn main() {
    let wanted: Vec<u32> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let clients = if wanted.is_empty() { vec![100, 1000, 4000, 10_000] } else { wanted };
    clients.into_iter().for_each(run);
}
