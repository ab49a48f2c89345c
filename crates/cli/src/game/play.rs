//! The systems of the game.

use std::time::{Duration, Instant};

use bevy_app::{App, Plugin, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::ReasonText;

use super::journal::{self, Fault, Happened, Journal};
use super::messages::{Chat, Numbered, Ping, Pong};
use super::record::Record;
use crate::pace::{Every, Spread};

/// The most players that one snapshot tells of; a real game would choose the nearest.
const PLAYERS: usize = 64;

/// How often the drivers are asked for figures.
const MEASURE: Duration = Duration::from_millis(100);

/// Of how many connections, the next ones in turn.
const MEASURED: usize = 64;

/// How often things are sent, per second and connection, and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Commands of a client, or snapshots of the server, per second.
    pub(crate) rate: f64,
    /// Bytes of each; `None`: as many as there is to say.
    pub(crate) size: Option<usize>,
    /// Pings of the server, per second.
    pub(crate) pings: f64,
}

impl Load {
    /// At this rate, in the size that it takes.
    pub(crate) fn rate(rate: f64) -> Self {
        Self { rate, size: None, pings: rate.min(1.0) }
    }
}

/// Plays the game on one side.
pub(crate) struct GamePlugin {
    pub(crate) side: Side,
    pub(crate) load: Load,
}

#[derive(Resource)]
struct Rhythm {
    data: Spread,
    size: Option<usize>,
    pings: Spread,
    measure: Every,
}

impl Plugin for GamePlugin {
    fn build(&self, app: &mut App) {
        app.register_rpc::<Ping>()
            .register_rpc::<Pong>()
            .register_rpc::<Chat>()
            .insert_resource(Journal::new(self.side))
            .insert_resource(Rhythm {
                data: Spread::rate(self.load.rate),
                size: self.load.size,
                pings: Spread::rate(self.load.pings),
                measure: Every::new(MEASURE),
            })
            .add_observer(journal::note_event)
            .add_observer(journal::keep_record)
            .add_systems(Update, (journal::note_drivers, hear, listen, enter, measure).chain());
        match self.side {
            Side::Server => app.add_systems(Update, (take_commands, ping, send_snapshots).chain().after(measure)),
            Side::Client => app.add_systems(Update, (take_snapshots, answer, send_command).chain().after(measure)),
        };
    }
}

/// Sends RPCs with their numbers.
#[derive(bevy_ecs::system::SystemParam)]
struct NumberedSender<'w, 's> {
    rpcs: RpcSender<'w, 's>,
    records: Query<'w, 's, &'static mut Record>,
}

impl NumberedSender<'_, '_> {
    /// Sends the RPC that `make` makes of its number. A connection that is ending takes none, and a full buffer is
    /// another time's affair; then the number is not used.
    fn send<T: Numbered>(&mut self, connection: Entity, make: impl FnOnce(u64) -> T) {
        let Ok(mut record) = self.records.get_mut(connection) else { return };
        if self.rpcs.send(connection, &make(record.sent.rpcs + 1)).is_ok() {
            record.sent.rpcs += 1;
        }
    }
}

/// Judges the numbers of everything that arrived.
fn hear(
    mut pings: MessageReader<ReceivedRpc<Ping>>,
    mut pongs: MessageReader<ReceivedRpc<Pong>>,
    mut chats: MessageReader<ReceivedRpc<Chat>>,
    mut records: Query<&mut Record>,
    mut journal: ResMut<Journal>,
    mut touched: Local<Vec<Entity>>,
) {
    let mut hear_one = |connection: Entity, kind: usize, number: u64| {
        let Ok(mut record) = records.get_mut(connection) else {
            let what = format!("RPC {number} arrived on {connection}, which had no event");
            journal.faults.push(Fault { driver: None, what });
            return;
        };
        let mut faults = Vec::new();
        record.lane.arrive(kind, number, |fault| faults.push(fault));
        journal.faults.extend(faults.iter().map(|fault| Fault::of(&record, fault)));
        touched.push(connection);
    };
    fn judge<T: Numbered>(inbox: &mut MessageReader<ReceivedRpc<T>>, hear_one: &mut dyn FnMut(Entity, usize, u64)) {
        for received in inbox.read() {
            hear_one(received.connection, T::KIND, received.rpc.number());
        }
    }
    judge(&mut pings, &mut hear_one);
    judge(&mut pongs, &mut hear_one);
    judge(&mut chats, &mut hear_one);
    for connection in touched.drain(..) {
        let Ok(mut record) = records.get_mut(connection) else { continue };
        let mut faults = Vec::new();
        record.lane.settle(|fault| faults.push(fault));
        journal.faults.extend(faults.iter().map(|fault| Fault::of(&record, fault)));
    }
}

/// Notes what is said.
fn listen(mut chats: MessageReader<ReceivedRpc<Chat>>, mut journal: ResMut<Journal>) {
    for chat in chats.read() {
        // A stranger's text must not steer our terminal.
        let text = ReasonText::new(&chat.rpc.text).as_str().to_owned();
        journal.happened.push(Happened::Chat { connection: chat.connection, text });
    }
}

/// Enters the game and greets, as soon as the connection is there.
fn enter(
    mut events: MessageReader<ConnectionEvent>,
    journal: Res<Journal>,
    mut sender: NumberedSender,
    mut commands: Commands,
) {
    let greeting = match journal.side {
        Side::Server => "welcome",
        Side::Client => "hello from",
    };
    for event in events.read().filter(|event| event.state == ConnectionState::Accepted) {
        if let Ok(mut entity) = commands.get_entity(event.connection) {
            entity.try_insert(NetworkStreamInGame);
        }
        let id = event.network_id.map_or(0, NetworkId::number);
        sender.send(event.connection, |number| Chat::new(number, format!("{greeting} player {id}")));
    }
}

/// Asks the drivers for figures.
fn measure(
    mut rhythm: ResMut<Rhythm>,
    net: Res<NetworkStreamDriver>,
    mut records: Query<(Entity, &mut Record)>,
    mut next: Local<usize>,
) {
    if !rhythm.measure.due(Instant::now()) {
        return;
    }
    let from = *next;
    *next += MEASURED;
    if *next >= records.iter().len() {
        *next = 0;
    }
    for (connection, mut record) in records.iter_mut().skip(from).take(MEASURED) {
        if let Some(stats) = net.stats(connection) {
            record.measure(&stats);
        }
    }
}

/// Server: reads commands. A command is its number, and the last one counts.
fn take_commands(mut connections: Query<(&mut IncomingCommandBuffer, &mut Record)>) {
    for (mut buffer, mut record) in &mut connections {
        if buffer.is_empty() {
            continue;
        }
        for command in buffer.drain() {
            record.received.commands += 1;
            if let Some(number) = command.first_chunk() {
                record.last_command = u64::from_le_bytes(*number);
            }
        }
    }
}

/// Server: pings everybody.
fn ping(mut rhythm: ResMut<Rhythm>, connections: Query<(Entity, &ConnectionState)>, mut sender: NumberedSender) {
    rhythm.pings.advance(Instant::now());
    for (connection, state) in &connections {
        if rhythm.pings.is_due(connection.index_u32()) && state.is_connected() {
            sender.send(connection, Ping::new);
        }
    }
}

/// Server: tells everybody in the game which command of whom was the last.
fn send_snapshots(
    mut rhythm: ResMut<Rhythm>,
    mut net: ResMut<NetworkStreamDriver>,
    mut connections: Query<(Entity, &ConnectionState, &mut Record)>,
) {
    rhythm.data.advance(Instant::now());
    let mut snapshot = Vec::new();
    for (_, _, record) in connections.iter().filter(|(_, state, _)| state.is_in_game()).take(PLAYERS) {
        snapshot.extend_from_slice(&record.network_id.map_or(0, NetworkId::number).to_le_bytes());
        snapshot.extend_from_slice(&record.last_command.to_le_bytes());
    }
    if let Some(size) = rhythm.size {
        snapshot.resize(size, 0);
    }
    let snapshot = SharedBytes::from(snapshot);
    for (connection, state, mut record) in &mut connections {
        let due = rhythm.data.is_due(connection.index_u32());
        if due && state.is_in_game() && net.send_snapshot_shared(connection, &snapshot).is_ok() {
            record.sent.snapshots += 1;
        }
    }
}

/// Client: reads snapshots.
fn take_snapshots(mut connections: Query<(&mut IncomingSnapshotBuffer, &mut Record)>) {
    for (mut buffer, mut record) in &mut connections {
        if !buffer.is_empty() {
            record.received.snapshots += buffer.drain().count() as u64;
        }
    }
}

/// Client: answers pings.
fn answer(mut pings: MessageReader<ReceivedRpc<Ping>>, mut sender: NumberedSender) {
    for ping in pings.read() {
        sender.send(ping.connection, Pong::new);
    }
}

/// Client: sends the next command.
fn send_command(
    mut rhythm: ResMut<Rhythm>,
    mut net: ResMut<NetworkStreamDriver>,
    mut connections: Query<(Entity, &ConnectionState, &mut Record)>,
    mut command: Local<Vec<u8>>,
) {
    rhythm.data.advance(Instant::now());
    for (connection, state, mut record) in &mut connections {
        if !rhythm.data.is_due(connection.index_u32()) || !state.is_in_game() {
            continue;
        }
        let number = record.sent.commands + 1;
        command.clear();
        command.extend_from_slice(&number.to_le_bytes());
        command.resize(rhythm.size.unwrap_or(size_of_val(&number)), 0);
        if net.send_command(connection, &command).is_ok() {
            record.sent.commands = number;
        }
    }
}
