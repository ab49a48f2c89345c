//! What joins commands, snapshots and time to the connections: their components, and the way of their packets.

use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::component::Component;
use bevy_ecs::lifecycle::Add;
use bevy_ecs::observer::On;
use bevy_ecs::system::{Commands, Query, Res, SystemState};
use bevy_ecs::world::{EntityWorldMut, World};
use netstream_driver::transport::ChannelId;

use crate::command::{self, CommandArrivals, CommandEntry, CommandRegistry, MovedBuffer, OutgoingCommands};
use crate::queue::MessageQueue;
use crate::session::SchemaEntry;
use crate::snapshot::{
    self, OutgoingSnapshots, SnapshotAcks, SnapshotArrivals, SnapshotInbox, SnapshotRegistry, SnapshotTargetSize,
    TickSnapshots,
};
use crate::state::Side;
use crate::systems::has_network;
use crate::time::{NetworkTime, systems as time};
use crate::{NetworkStreamConnection, NetworkStreamDriver, NetworkStreamInGame};

/// Packets of a peer's ticks that arrived with this update.
#[derive(Component, Debug, Default)]
pub(crate) struct IncomingStream(pub(crate) MessageQueue);

/// Adds what commands and snapshots need besides the systems of the plugin.
pub(crate) fn build(app: &mut App) {
    app.add_observer(born).add_observer(enter);
}

/// Appends what both ends must have alike, and fixes the numbers of types.
pub(crate) fn freeze(world: &mut World, schema: &mut Vec<SchemaEntry>) {
    if let Some(time) = world.get_resource::<NetworkTime>() {
        schema.push(SchemaEntry { name: format!("tick rate {}", time.rate().per_second()), fingerprint: 1 });
    }
    if let Some(mut registry) = world.get_resource_mut::<CommandRegistry>() {
        registry.0.freeze(schema);
    }
    if let Some(mut registry) = world.get_resource_mut::<SnapshotRegistry>() {
        registry.0.freeze(schema);
    }
}

/// A connection gets what it needs.
fn born(
    add: On<'_, '_, Add<NetworkStreamConnection>>,
    mut commands: Commands<'_, '_>,
    net: Res<'_, NetworkStreamDriver>,
    time: Option<Res<'_, NetworkTime>>,
    connections: Query<'_, '_, &NetworkStreamConnection>,
) {
    let (Some(_), Ok(connection)) = (time, connections.get(add.entity)) else { return };
    let mut entity = commands.entity(add.entity);
    entity.insert(IncomingStream::default());
    match net.session.core.side {
        Side::Server => {
            let driver = net.session.store.get(connection.key().driver);
            let limit = driver.map_or(0, |driver| driver.max_message(ChannelId::UNRELIABLE_FRAGMENTED));
            entity.insert(OutgoingSnapshots::with_limit(limit));
            entity.queue(reset_server);
        }
        Side::Client => {
            let thin = net.session.core.thin;
            entity.insert((OutgoingCommands::default(), SnapshotInbox::new(thin), SnapshotArrivals::default()));
            if !thin {
                entity.insert(TickSnapshots::default());
            }
        }
    }
}

/// Whoever enters the game, also again, begins anew.
fn enter(
    add: On<'_, '_, Add<NetworkStreamInGame>>,
    mut commands: Commands<'_, '_>,
    net: Option<Res<'_, NetworkStreamDriver>>,
    connections: Query<'_, '_, (), bevy_ecs::query::With<IncomingStream>>,
) {
    let (Some(net), true) = (net, connections.contains(add.entity)) else { return };
    match net.session.core.side {
        Side::Server => commands.entity(add.entity).queue(reset_server),
        Side::Client => commands.entity(add.entity).queue(reset_client),
    };
}

fn reset_server(mut entity: EntityWorldMut<'_>) {
    let rate = entity.world().get_resource::<NetworkTime>().map(NetworkTime::rate).unwrap_or_default();
    let types = command_types(&entity);
    entity.insert((SnapshotAcks::new(rate), CommandArrivals::default()));
    if let Some(mut outgoing) = entity.get_mut::<OutgoingSnapshots>() {
        outgoing.clear();
    }
    types.iter().for_each(|entry| (entry.reset)(&mut entity));
}

fn reset_client(mut entity: EntityWorldMut<'_>) {
    if let Some(mut outgoing) = entity.get_mut::<OutgoingCommands>() {
        outgoing.clear();
    }
    if let Some(mut inbox) = entity.get_mut::<SnapshotInbox>() {
        inbox.clear();
        let thin = inbox.thin;
        entity.insert(SnapshotArrivals::default());
        if !thin {
            entity.insert(TickSnapshots::default());
        }
    }
}

/// What a connection's commands, snapshots and acknowledgements consist of, on its way from World to World.
#[derive(Default)]
pub(crate) struct MovedStream {
    incoming: Option<IncomingStream>,
    acks: Option<SnapshotAcks>,
    arrivals: Option<CommandArrivals>,
    /// By the number of the command type.
    buffers: Vec<Option<MovedBuffer>>,
    outgoing_snapshots: Option<OutgoingSnapshots>,
    target: Option<SnapshotTargetSize>,
    outgoing_commands: Option<OutgoingCommands>,
    inbox: Option<SnapshotInbox>,
    snapshots: Option<SnapshotArrivals>,
    raw: Option<TickSnapshots>,
}

impl MovedStream {
    pub(crate) fn take_from(entity: &mut EntityWorldMut<'_>) -> Self {
        Self {
            incoming: entity.take(),
            acks: entity.take(),
            arrivals: entity.take(),
            buffers: command_types(entity).iter().map(|entry| (entry.take)(entity)).collect(),
            outgoing_snapshots: entity.take(),
            target: entity.take(),
            outgoing_commands: entity.take(),
            inbox: entity.take(),
            snapshots: entity.take(),
            raw: entity.take(),
        }
    }

    /// Puts everything in the place of what the new entity has got by itself. Both Worlds have the same types.
    pub(crate) fn insert_into(self, entity: &mut EntityWorldMut<'_>) {
        fn put<C: Component>(entity: &mut EntityWorldMut<'_>, component: Option<C>) {
            if let Some(component) = component {
                entity.insert(component);
            }
        }
        put(entity, self.incoming);
        put(entity, self.acks);
        put(entity, self.arrivals);
        for (entry, buffer) in command_types(entity).iter().zip(self.buffers) {
            if let Some(buffer) = buffer {
                (entry.put)(entity, buffer);
            }
        }
        put(entity, self.outgoing_snapshots);
        put(entity, self.target);
        put(entity, self.outgoing_commands);
        put(entity, self.inbox);
        put(entity, self.snapshots);
        put(entity, self.raw);
    }
}

fn command_types(entity: &EntityWorldMut<'_>) -> Arc<[CommandEntry]> {
    let registry = entity.world().get_resource::<CommandRegistry>();
    registry.map(|registry| registry.0.by_number()).unwrap_or_default()
}

/// Whether this World has a network and counts ticks.
pub(crate) fn is_counting(world: &World) -> bool {
    world.contains_resource::<NetworkTime>() && has_network(world)
}

/// What there is to do for commands, snapshots and time once what belongs to them is here.
pub(crate) fn receive(world: &mut World) {
    if is_counting(world) {
        time::begin(world);
        read(world);
    }
}

/// Hands the commands or snapshots of this update to the drivers.
pub(crate) fn send(
    world: &mut World,
    commands: &mut SystemState<command::Unsent<'_, '_>>,
    snapshots: &mut SystemState<snapshot::Unsent<'_, '_>>,
) {
    if !is_counting(world) {
        return;
    }
    match world.resource::<NetworkStreamDriver>().session.core.side {
        Side::Server => snapshots.get_mut(world).map_or((), snapshot::flush),
        Side::Client => commands.get_mut(world).map_or((), command::flush),
    }
}

/// Reads the packets of this update.
fn read(world: &mut World) {
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    if net.with_streams.is_empty() {
        return;
    }
    let side = net.session.core.side;
    let mut entities = std::mem::take(&mut net.with_streams);
    for entity in entities.drain(..) {
        let Some(mut stream) = world.get_mut::<IncomingStream>(entity) else { continue };
        let mut queue = std::mem::take(&mut stream.0);
        let done = match side {
            Side::Server => command::receive::read(world, entity, &mut queue),
            Side::Client => snapshot::receive::read(world, entity, &mut queue),
        };
        if let Err(what) = done {
            world.resource_mut::<NetworkStreamDriver>().violation(entity, what);
        }
        if let Some(mut stream) = world.get_mut::<IncomingStream>(entity) {
            queue.clear();
            stream.0 = queue;
        }
    }
    world.resource_mut::<NetworkStreamDriver>().with_streams = entities;
}
