//! Moving the whole network state of a World into another one, without any peer noticing.

use bevy_ecs::entity::Entity;
use bevy_ecs::world::World;

use crate::connection::{
    ConnectionApproved, ConnectionCredentials, ConnectionIdentity, Ending, IncomingCommandBuffer, IncomingRpcBuffer,
    IncomingSnapshotBuffer, NetworkId, NetworkStreamConnection, NetworkStreamInGame, NetworkStreamIsReconnected,
    OutgoingRpcBuffer,
};
use crate::rpc::RpcRegistry;
use crate::stream::MovedStream;
use crate::systems::{freeze, reserve, settle_and_retire};
use crate::time::NetworkTime;
use crate::{ConnectionState, NetworkStreamDriver, ProtocolDiff};

/// The drivers and connections of a World with all that travels on them, out of any World.
///
/// Take it from one World and insert it into another of the same role and with the same RPCs, e.g. when a game changes
/// its level by building a new World. Peers notice nothing, as long as it does not take longer than their idle timeout.
/// Queues, ids, deadlines and statistics go along, and so do ticks, clocks, commands, acknowledgements and the snapshots
/// that others are told by; the World that is left behind counts its ticks from the beginning. What the game put on the
/// entities does not: the returned pairs of old and new entities say what to copy. What was handed out as messages and not
/// read yet stays where it is.
///
/// ```
/// # use netstream::prelude::*;
/// # use netstream::NetworkSession;
/// # use bevy_app::App;
/// # let (mut lobby, mut level) = (App::new(), App::new());
/// lobby.add_plugins(NetworkStreamPlugin::server());
/// level.add_plugins(NetworkStreamPlugin::server());
/// # lobby.update();
/// let session = NetworkSession::take_from(lobby.world_mut()).expect("the lobby has a network");
/// for (old, new) in session.insert_into(level.world_mut()).map_err(|(_, error)| error)? {
///     println!("{old} is {new} now");
/// }
/// # Ok::<(), netstream::InsertSessionError>(())
/// ```
pub struct NetworkSession {
    net: Box<NetworkStreamDriver>,
    connections: Vec<Connection>,
    /// Where ticks are counted.
    time: Option<Box<NetworkTime>>,
}

/// What netstream and the application's marks had put on an entity.
struct Connection {
    old: Entity,
    base: (NetworkStreamConnection, Ending, ConnectionState, OutgoingRpcBuffer, IncomingRpcBuffer),
    commands: Option<IncomingCommandBuffer>,
    snapshots: Option<IncomingSnapshotBuffer>,
    id: Option<NetworkId>,
    identity: Option<ConnectionIdentity>,
    credentials: Option<ConnectionCredentials>,
    approved: Option<ConnectionApproved>,
    reconnected: Option<NetworkStreamIsReconnected>,
    in_game: Option<NetworkStreamInGame>,
    stream: MovedStream,
}

/// Why a session was not inserted. It is returned unharmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertSessionError {
    /// The World has no NetworkStreamPlugin.
    #[error("the World has no network; add NetworkStreamPlugin to its App first")]
    NoPlugin,
    /// The World is a client and the session a server's, or the other way round.
    #[error("the World has another role than the session; use the same NetworkStreamPlugin")]
    OtherRole,
    /// The World has connections of its own.
    #[error("the World has connections of its own; end them first")]
    Occupied,
    /// The World has other RPCs or another game version: numbers on the wire would change their meaning.
    #[error("the World speaks another protocol than the session: {0}")]
    OtherProtocol(Box<ProtocolDiff>),
}

impl NetworkSession {
    /// Takes the session out of a World, which has no network afterwards; `None` if it had none. Entities of the
    /// connections leave the World without any event.
    pub fn take_from(world: &mut World) -> Option<Self> {
        world.get_resource::<NetworkStreamDriver>()?;
        freeze(world);
        settle_and_retire(world);
        let mut net = Box::new(world.remove_resource::<NetworkStreamDriver>()?);
        for spare in net.reserved.drain(..) {
            let _ = world.try_despawn(spare);
        }
        let entities: Vec<Entity> = net.session.core.connections.iter().map(|(_, found)| found.entity).collect();
        let mut connections = Vec::with_capacity(entities.len());
        for old in entities {
            let Ok(mut entity) = world.get_entity_mut(old) else { continue };
            let Some(base) = entity.take() else { continue };
            connections.push(Connection {
                old,
                base,
                commands: entity.take(),
                snapshots: entity.take(),
                id: entity.take(),
                identity: entity.take(),
                credentials: entity.take(),
                approved: entity.take(),
                reconnected: entity.take(),
                in_game: entity.take(),
                stream: MovedStream::take_from(&mut entity),
            });
            entity.despawn();
        }
        let time = world.get_resource_mut::<NetworkTime>().map(|mut time| {
            let fresh = NetworkTime::new(time.rate());
            Box::new(std::mem::replace(&mut *time, fresh))
        });
        Some(Self { net, connections, time })
    }

    /// Puts the session into a World and says which entity became which: (old, new).
    pub fn insert_into(self, world: &mut World) -> Result<Vec<(Entity, Entity)>, (Self, InsertSessionError)> {
        let Some(present) = world.get_resource::<NetworkStreamDriver>() else {
            return Err((self, InsertSessionError::NoPlugin));
        };
        if present.session.core.side != self.net.session.core.side {
            return Err((self, InsertSessionError::OtherRole));
        }
        if present.session.core.connections.len() > 0 {
            return Err((self, InsertSessionError::Occupied));
        }
        freeze(world);
        let present = world.resource::<NetworkStreamDriver>();
        if let Some(diff) = present.session.core.protocol().differs(self.net.session.core.protocol()) {
            return Err((self, InsertSessionError::OtherProtocol(Box::new(diff))));
        }
        let Self { mut net, connections, mut time } = self;
        net.session.set_entities(world.entity_allocator().build_remote_allocator());
        let spare = std::mem::take(&mut world.resource_mut::<NetworkStreamDriver>().reserved);
        net.reserved = spare;
        let pairs: Vec<_> = connections.iter().map(|connection| (connection.old, world.spawn_empty().id())).collect();
        net.session.core.connections.rename(&pairs);
        let told = time.as_mut().and_then(|time| time.connection.as_mut());
        for entity in net.with_rpcs.iter_mut().chain(&mut net.with_streams).chain(told) {
            if let Some((_, new)) = pairs.iter().find(|(old, _)| old == entity) {
                *entity = *new;
            }
        }
        world.insert_resource(*net);
        // Both count ticks at the same rate, or none: that is part of the protocol.
        if let Some(time) = time {
            world.insert_resource(*time);
        }
        for (connection, &(_, new)) in connections.into_iter().zip(&pairs) {
            let mut entity = world.entity_mut(new);
            entity.insert(connection.base);
            insert(&mut entity, connection.commands);
            insert(&mut entity, connection.snapshots);
            insert(&mut entity, connection.id);
            insert(&mut entity, connection.identity);
            insert(&mut entity, connection.credentials);
            insert(&mut entity, connection.reconnected);
            insert(&mut entity, connection.in_game);
            // A decision that was made already is not made again.
            if connection.approved.is_some() && !entity.contains::<NetworkId>() {
                entity.insert(ConnectionApproved);
            }
            connection.stream.insert_into(&mut entity);
        }
        reserve(world);
        debug_assert!(world.contains_resource::<RpcRegistry>());
        Ok(pairs)
    }
}

fn insert<C: bevy_ecs::component::Component>(entity: &mut bevy_ecs::world::EntityWorldMut<'_>, component: Option<C>) {
    if let Some(component) = component {
        entity.insert(component);
    }
}
