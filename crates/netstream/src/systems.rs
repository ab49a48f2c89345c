//! The systems that join the session to the World.
//!
//! User code runs only between them, or as observers of the events that [`settle`] raises while nothing is borrowed;
//! never while a driver is being drained.

use bevy_ecs::bundle::Bundle;
use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Query, ResMut, SystemState};
use bevy_ecs::world::World;
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
use crate::rpc::{self, Calling, HeldRpcs, RpcRegistry};
use crate::session::Protocol;
use crate::session::core::Change;
use crate::session::incoming::trim;
use crate::snapshot;
use crate::state::{Side, first_state};
use crate::stream::{self, IncomingStream};
use crate::time::systems as time;
use crate::{ConnectionEvent, ConnectionState, DriverEvent, NetworkStreamDriver};

/// Entities that a client keeps ready for its next connect calls.
const RESERVED: usize = 2;

/// The buffers of entities that what arrived is moved to.
type Buffers<'w, 's> = (
    Query<'w, 's, &'static mut IncomingRpcBuffer>,
    Query<'w, 's, &'static mut IncomingCommandBuffer>,
    Query<'w, 's, &'static mut IncomingSnapshotBuffer>,
    Query<'w, 's, &'static mut IncomingStream>,
);

/// NetworkStreamReceiveSystem: drains the drivers, raises what happened, moves what arrived to the entities' buffers,
/// lets leave what is to be answered, also by observers of these events, and hands out RPCs, commands and snapshots.
///
/// One system, as [`send`] is: in most updates most of its parts find nothing, and to find that out in a system for each
/// costs more than to look.
pub(crate) fn receive(
    world: &mut World,
    buffers: &mut SystemState<(ResMut<'_, NetworkStreamDriver>, Buffers<'_, '_>)>,
    calling: &mut SystemState<Calling<'_, '_>>,
) {
    if !has_network(world) {
        return;
    }
    freeze(world);
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    net.events.clear();
    net.session.receive();
    settle(world);
    if let Ok((mut net, buffers)) = buffers.get_mut(world) {
        deliver(&mut net, buffers);
        net.session.flush();
    }
    rpc::receive(world, calling);
    stream::receive(world);
}

/// A World whose session was taken away has no network until it gets another. Whatever runs code of the application may
/// take it.
pub(crate) fn has_network(world: &World) -> bool {
    world.contains_resource::<NetworkStreamDriver>()
}

/// Runs the ticks that are due.
pub(crate) fn tick(world: &mut World) {
    if has_network(world) && stream::is_counting(world) {
        time::run_ticks(world);
    }
}

/// Moves what arrived from the session to the entities' buffers.
fn deliver(net: &mut NetworkStreamDriver, (mut rpcs, mut commands, mut snapshots, mut streams): Buffers<'_, '_>) {
    let core = &mut net.session.core;
    let mut touched = std::mem::take(&mut core.touched);
    for slot in touched.drain(..) {
        let Some(connection) = core.connections.get_mut(slot) else { continue };
        connection.touched = false;
        let entity = connection.entity;
        if !connection.rpcs.is_empty()
            && let Ok(mut buffer) = rpcs.get_mut(entity)
        {
            connection.rpcs.move_into(&mut buffer.0);
            net.with_rpcs.push(entity);
        }
        if !connection.stream.is_empty()
            && let Ok(mut stream) = streams.get_mut(entity)
        {
            connection.stream.move_into(&mut stream.0);
            net.with_streams.push(entity);
        }
        if connection.data.is_empty() {
            continue;
        }
        let mut put = |queue: &mut MessageQueue| {
            connection.data.move_into(queue);
            core.counters.unread_dropped += trim(queue, &core.limits);
        };
        match core.side {
            Side::Server => commands.get_mut(entity).iter_mut().for_each(|buffer| put(&mut buffer.0)),
            Side::Client => snapshots.get_mut(entity).iter_mut().for_each(|buffer| put(&mut buffer.0)),
        }
    }
    core.touched = touched;
}

/// NetworkStreamSendSystem: hands commands or snapshots and RPCs to the drivers, raises what the application's calls
/// changed, lets everything leave, lets the entities of ended connections go, and connects anew who wants that.
pub(crate) fn send(
    world: &mut World,
    commands: &mut SystemState<command::Unsent<'_, '_>>,
    snapshots: &mut SystemState<snapshot::Unsent<'_, '_>>,
    rpcs: &mut SystemState<rpc::Unsent<'_, '_>>,
    keepers: &mut SystemState<Keepers<'_, '_>>,
) {
    if !has_network(world) {
        return;
    }
    stream::send(world, commands, snapshots);
    if let Ok(unsent) = rpcs.get_mut(world) {
        rpc::send(unsent);
    }
    settle(world);
    world.resource_mut::<NetworkStreamDriver>().session.close_and_flush();
    // A driver may answer at once, e.g. that a connection which never was established is closed.
    retire(world);
    reserve(world);
    if let Ok(keepers) = keepers.get_mut(world) {
        reconnect(keepers);
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
        let Some(change) = net.session.core.changes.pop_front() else { break };
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
                    connection.ending.clone(),
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
                    break;
                }
                world.resource_mut::<NetworkStreamDriver>().events.push(event.clone());
                raise(world, event);
            }
        }
    }
    let events = std::mem::take(&mut world.resource_mut::<NetworkStreamDriver>().session.driver_events);
    world.write_message_batch(events);
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
    let gone: Vec<Entity> =
        retired.into_iter().filter_map(|slot| core.connections.remove(slot)).map(|gone| gone.entity).collect();
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
