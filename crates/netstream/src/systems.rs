//! The systems that join the session to the World.
//!
//! User code runs only between them, or as observers of the events that [`settle`] raises while nothing is borrowed;
//! never while a driver is being drained.

use bevy_ecs::bundle::Bundle;
use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use bevy_ecs::system::{Query, ResMut, SystemState};
use bevy_ecs::world::{FromWorld, World};
use netstream_driver::transport::ChannelId;
use netstream_driver::transport::mutants::mutant;

use crate::command;
use crate::connection::{
    ConnectionCredentials, ConnectionIdentity, IncomingCommandBuffer, IncomingRpcBuffer, IncomingSnapshotBuffer,
    NetworkStreamConnection, NetworkStreamIsReconnected, OutgoingRpcBuffer,
};
use crate::log::Line;
use crate::queue::MessageQueue;
use crate::reconnect::{Keepers, reconnect};
use crate::rpc::{self, HeldRpcs, RpcRegistry};
use crate::session::Protocol;
use crate::session::arrivals::Inbox;
use crate::session::core::{Change, Core};
use crate::session::incoming::trim;
use crate::snapshot;
use crate::state::{Side, first_state};
use crate::stream::{self, IncomingStream};
use crate::time::systems as time;
use crate::{ConnectionEvent, ConnectionState, DriverEvent, NetworkStreamDriver, NetworkUpdate};

/// Entities that a client keeps ready for its next connect calls.
const RESERVED: usize = 2;

/// The buffers of entities that what arrived is moved to.
type Buffers<'w, 's> = (
    Query<'w, 's, &'static mut IncomingRpcBuffer>,
    Query<'w, 's, &'static mut IncomingCommandBuffer>,
    Query<'w, 's, &'static mut IncomingSnapshotBuffer>,
    Query<'w, 's, &'static mut IncomingStream>,
);

/// NetworkStreamReceiveSystem. One system, as [`send`] is: in most updates most of its parts find nothing, and to find that
/// out in a system for each costs more than to look.
pub(crate) fn receive(world: &mut World) {
    act(world, |world, lookups| {
        take_in(world, lookups, true);
        if let Some(mut net) = world.get_resource_mut::<NetworkStreamDriver>() {
            net.seen = net.events.len();
        }
        rpc::warn_unread(world);
    });
}

/// Runs the ticks that are due.
pub(crate) fn tick(world: &mut World) {
    if stream::is_counting(world) {
        time::run_ticks(world);
    }
}

/// NetworkStreamSendSystem. Lets the entities of ended connections go, too, and connects anew who wants that.
pub(crate) fn send(world: &mut World) {
    act(world, |world, lookups| {
        let_out(world, lookups);
        retire(world);
        if let Ok(keepers) = lookups.keepers.get_mut(world) {
            reconnect(keepers);
        }
    });
}

/// Receives and sends between two updates. What is raised here is still to come for the systems of the next, which find the
/// entities of ended connections, too.
pub(crate) fn between(world: &mut World) {
    act(world, |world, lookups| {
        take_in(world, lookups, false);
        if has_network(world) {
            let_out(world, lookups);
        }
    });
}

/// Drains the drivers, raises what happened, moves what arrived to the entities' buffers, lets leave what is to be
/// answered, also by observers of these events, unless [`let_out`] follows at once, hands out RPCs, commands and snapshots,
/// and runs [`NetworkUpdate`].
fn take_in(world: &mut World, lookups: &mut Lookups, flush: bool) {
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    let seen = std::mem::take(&mut net.seen);
    net.events.drain(..seen);
    net.session.receive();
    let mut brought = net.session.has_news();
    if brought {
        settle(world);
        if let Ok((mut net, buffers)) = lookups.buffers.get_mut(world) {
            deliver(&mut net, buffers);
            if flush {
                net.session.flush();
            }
            rpc::receive(world);
        }
    } else if flush {
        net.session.flush();
    }
    brought |= rpc::expire(world, &mut lookups.calls, &mut lookups.calling);
    stream::receive(world);
    if brought {
        // An App without any system in it has no such schedule.
        let _ = world.try_run_schedule(NetworkUpdate);
    }
}

/// Moves what arrived from the session to the entities' buffers.
fn deliver(net: &mut NetworkStreamDriver, (mut rpcs, mut commands, mut snapshots, mut streams): Buffers<'_, '_>) {
    let NetworkStreamDriver { session, with_rpcs, with_streams, .. } = net;
    let Core { arrivals, connections, counters, limits, side, .. } = &mut session.core;
    let mut put_data = |queue: &mut MessageQueue, put: &mut dyn FnMut(&mut MessageQueue)| {
        put(queue);
        counters.unread_dropped += trim(queue, limits);
    };
    arrivals.hand_out(|slot, inbox, put| {
        let Some(connection) = connections.get_mut(slot) else { return };
        let entity = connection.entity;
        match (inbox, &*side) {
            (Inbox::Rpcs, _) => {
                (connection.waiting_rpcs, connection.waiting_rpc_bytes) = (0, 0);
                let Ok(mut buffer) = rpcs.get_mut(entity) else { return };
                if buffer.0.is_empty() {
                    with_rpcs.push(entity);
                }
                put(&mut buffer.0);
            }
            (Inbox::Stream, _) => {
                let Ok(mut stream) = streams.get_mut(entity) else { return };
                if stream.0.is_empty() {
                    with_streams.push(entity);
                }
                put_data(&mut stream.0, put);
            }
            (Inbox::Data, Side::Server) => {
                if let Ok(mut buffer) = commands.get_mut(entity) {
                    put_data(&mut buffer.0, put);
                }
            }
            (Inbox::Data, Side::Client) => {
                if let Ok(mut buffer) = snapshots.get_mut(entity) {
                    put_data(&mut buffer.0, put);
                }
            }
        }
    });
}

/// Hands commands or snapshots and RPCs to the drivers, raises what the application's calls changed, and lets everything
/// leave.
fn let_out(world: &mut World, lookups: &mut Lookups) {
    stream::send(world, &mut lookups.commands, &mut lookups.snapshots);
    if let Ok(unsent) = lookups.rpcs.get_mut(world) {
        rpc::send(unsent, &mut lookups.calling);
    }
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    if net.session.has_news() {
        settle(world);
        net = world.resource_mut::<NetworkStreamDriver>();
    }
    net.session.close_and_flush();
    if net.session.core.side == Side::Client {
        reserve(world);
    }
}

/// A World whose session was taken away has no network until it gets another. Whatever runs code of the application may
/// take it.
pub(crate) fn has_network(world: &World) -> bool {
    world.contains_resource::<NetworkStreamDriver>()
}

/// Where in the World the network finds what it works on, kept from one call to the next.
struct Lookups {
    buffers: SystemState<(ResMut<'static, NetworkStreamDriver>, Buffers<'static, 'static>)>,
    calls: SystemState<rpc::Calling<'static, 'static>>,
    /// Connections that have made calls.
    calling: Vec<Entity>,
    commands: SystemState<command::Unsent<'static, 'static>>,
    snapshots: SystemState<snapshot::Unsent<'static, 'static>>,
    rpcs: SystemState<rpc::Unsent<'static, 'static>>,
    keepers: SystemState<Keepers<'static, 'static>>,
}

/// `None` while the network acts.
#[derive(Resource)]
pub(crate) struct Idle(Option<Box<Lookups>>);

impl FromWorld for Idle {
    fn from_world(world: &mut World) -> Self {
        Self(Some(Box::new(Lookups {
            buffers: SystemState::new(world),
            calls: SystemState::new(world),
            calling: Vec::new(),
            commands: SystemState::new(world),
            snapshots: SystemState::new(world),
            rpcs: SystemState::new(world),
            keepers: SystemState::new(world),
        })))
    }
}

/// Lets the network act, if there is one and it is not acting already, which an observer of its events may ask it to.
fn act(world: &mut World, what: impl FnOnce(&mut World, &mut Lookups)) {
    let Some(net) = world.get_resource::<NetworkStreamDriver>() else { return };
    if !net.session.core.has_protocol() {
        freeze(world);
    }
    let Some(mut lookups) = world.get_resource_mut::<Idle>().and_then(|mut idle| idle.0.take()) else { return };
    what(world, &mut lookups);
    if let Some(mut idle) = world.get_resource_mut::<Idle>() {
        idle.0 = Some(lookups);
    }
}

/// Leaves nothing half done: everything that happened is raised, and what is over is gone.
pub(crate) fn settle_and_retire(world: &mut World) {
    settle(world);
    retire(world);
}

/// Applies the session's changes to the World, one by one and in order, with the World free for observers.
fn settle(world: &mut World) {
    loop {
        let mut net = world.resource_mut::<NetworkStreamDriver>();
        let Some(change) = net.session.core.changes.pop_front() else {
            let events = std::mem::take(&mut net.session.driver_events);
            if !events.is_empty() {
                world.write_message_batch(events);
            }
            return;
        };
        match change {
            Change::Born { slot, identity, reserved } => {
                let core = &net.session.core;
                let Some(connection) = core.connections.get(slot) else { continue };
                let (entity, key) = (connection.entity, connection.key);
                let max_message = net.session.store.get(key.driver).map_or(0, |d| d.max_message(ChannelId::RELIABLE));
                let max_bytes = core.limits.outgoing_rpc_bytes;
                let held = HeldRpcs::new(core.limits.held_rpcs);
                let base = (
                    NetworkStreamConnection { key },
                    connection.details.ending.clone(),
                    first_state(core.side).0,
                    OutgoingRpcBuffer { max_message, max_bytes, held, ..Default::default() },
                    IncomingRpcBuffer::default(),
                );
                match (core.side, identity) {
                    (Side::Server, Some(identity)) => {
                        let identity = ConnectionIdentity(*identity);
                        put(world, entity, reserved, (base, IncomingCommandBuffer::default(), identity));
                    }
                    (Side::Server, None) => put(world, entity, reserved, (base, IncomingCommandBuffer::default())),
                    (Side::Client, _) if core.thin => put(world, entity, reserved, base),
                    (Side::Client, _) => put(world, entity, reserved, (base, IncomingSnapshotBuffer::default())),
                }
            }
            Change::Credentials { entity, bytes } => {
                if let Ok(mut entity) = world.get_entity_mut(entity) {
                    entity.insert(ConnectionCredentials(bytes));
                }
            }
            Change::Lacking { entity, types } => {
                if let Some(mut buffer) = world.get_mut::<OutgoingRpcBuffer>(entity) {
                    buffer.lacking = Some(types);
                }
            }
            Change::Draining { entity, within } => {
                net.session.driver_events.push(DriverEvent::ServerDraining { connection: entity, within });
            }
            Change::State(event) => {
                if mutant(3) && show_early(world, &event) {
                    world.resource_mut::<NetworkStreamDriver>().session.core.changes.push_front(Change::State(event));
                    return;
                }
                world.resource_mut::<NetworkStreamDriver>().events.push(event.clone());
                raise(world, event);
            }
        }
    }
}

/// Gives an entity all that makes it a connection in one go: each further insert would move what it has already.
fn put(world: &mut World, entity: Entity, exists: bool, bundle: impl Bundle) {
    if !exists {
        let _ = world.spawn_at(entity, bundle);
    } else if let Ok(mut entity) = world.get_entity_mut(entity) {
        entity.insert(bundle);
    } else {
        // Despawned between the connect call and now.
        world.resource_mut::<NetworkStreamDriver>().entity_removed(entity);
    }
}

/// A known bug, for the simulator: the component tells of the end before the event does.
fn show_early(world: &mut World, event: &ConnectionEvent) -> bool {
    let Some(mut state) = world.get_mut::<ConnectionState>(event.connection) else { return false };
    event.reason.is_some() && std::mem::replace(&mut *state, event.state) != event.state
}

fn raise(world: &mut World, event: ConnectionEvent) {
    log(world, &event);
    if let Ok(mut entity) = world.get_entity_mut(event.connection) {
        match event.network_id {
            Some(id) if event.state == ConnectionState::Accepted && event.reconnected => {
                entity.insert((event.state, id, NetworkStreamIsReconnected));
            }
            Some(id) if event.state == ConnectionState::Accepted => _ = entity.insert((event.state, id)),
            _ => _ = entity.insert(event.state),
        }
    }
    rpc::release(world, event.connection, event.state);
    world.write_message(event.clone());
    world.trigger(event);
    world.flush();
}

fn log(world: &mut World, event: &ConnectionEvent) {
    match &event.reason {
        Some(reason) => {
            if world.resource_mut::<NetworkStreamDriver>().session.core.may_log(Line::Ended) {
                tracing::info!("{} {}: {reason}", event.connection, event.state);
            }
        }
        None => tracing::debug!("{} {}", event.connection, event.state),
    }
}

/// Entities of ended connections go, and what only they used.
fn retire(world: &mut World) {
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    if net.session.core.retired.is_empty() {
        return;
    }
    assert!(!(mutant(14) && net.session.core.retired.len() > 1), "several ends in one update");
    // Those whose Disconnected is still to be raised stay until it is.
    let core = &mut net.session.core;
    let raised = core.changes.is_empty();
    let retired = if raised { std::mem::take(&mut core.retired) } else { Vec::new() };
    let gone: Vec<Entity> = retired.into_iter().filter_map(|slot| core.remove(slot)).collect();
    net.session.sweep();
    for entity in gone {
        let _ = world.try_despawn(entity);
    }
}

/// Keeps entities ready for connect calls, so that the one which such a call returns exists.
pub(crate) fn reserve(world: &mut World) {
    let net = world.resource::<NetworkStreamDriver>();
    if net.session.core.side == Side::Server {
        return;
    }
    for _ in net.reserved.len()..RESERVED {
        let entity = world.spawn_empty().id();
        world.resource_mut::<NetworkStreamDriver>().reserved.push(entity);
    }
}

/// Fixes the protocol at the first update.
pub(crate) fn freeze(world: &mut World) {
    let side = world.resource::<NetworkStreamDriver>().session.core.side;
    let Some((mut schema, rpcs)) = world.resource_mut::<RpcRegistry>().freeze(side) else { return };
    stream::freeze(world, &mut schema);
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    let protocol = Protocol::new(net.session.game.clone(), schema);
    net.session.core.set_protocol(protocol, rpcs);
}
