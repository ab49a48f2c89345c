//! From the queues of received RPCs to messages in the World.

use bevy_ecs::entity::Entity;
use bevy_ecs::world::World;

use super::calls::{CallId, handle_reply, write_delivered};
use super::registry::{RpcEntry, RpcRegistry};
use crate::NetworkStreamDriver;
use crate::connection::{IncomingRpcBuffer, OutgoingRpcBuffer};
use crate::session::control::MessageKind;
use crate::session::wire::{Reader, read_id};

/// Turns received RPCs into messages, connection by connection.
pub(crate) fn receive(world: &mut World) {
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    if net.with_rpcs.is_empty() {
        return;
    }
    let mut connections = std::mem::take(&mut net.with_rpcs);
    let types = world.resource::<RpcRegistry>().types.by_number();
    for connection in connections.drain(..) {
        let Some(mut buffer) = world.get_mut::<IncomingRpcBuffer>(connection) else { continue };
        let mut queue = std::mem::take(&mut buffer.0);
        for message in queue.drain() {
            if !dispatch_one(world, connection, message, &types) {
                world.resource_mut::<NetworkStreamDriver>().invalid_rpc(connection, "malformed RPC");
                break;
            }
        }
        if let Some(mut buffer) = world.get_mut::<IncomingRpcBuffer>(connection) {
            queue.clear();
            buffer.0 = queue;
        }
    }
    world.resource_mut::<NetworkStreamDriver>().with_rpcs = connections;
}

/// The session has let only known numbers through, in states that allow them; the shape is checked here.
fn dispatch_one(world: &mut World, connection: Entity, message: &[u8], types: &[RpcEntry]) -> bool {
    let Some((kind, body)) = MessageKind::split(message) else { return false };
    let (call, body) = match kind {
        MessageKind::RpcReply => return handle_reply(world, connection, body),
        MessageKind::RpcCall => {
            let mut reader = Reader(body);
            let Some(call) = reader.varint() else { return false };
            (Some(CallId(call)), reader.0)
        }
        _ => (None, body),
    };
    let Some((entry, body)) = read_id(body).and_then(|(id, body)| Some((types.get(usize::from(id))?, body))) else {
        return false;
    };
    if !(entry.dispatch)(world, entry, connection, call, body) {
        return false;
    }
    if let Some(call) = call
        && entry.finish.is_none()
        && let Some(mut buffer) = world.get_mut::<OutgoingRpcBuffer>(connection)
    {
        return buffer.push_reply(|out| write_delivered(out, call));
    }
    true
}

/// Says once of each type that nobody reads it.
pub(crate) fn warn_unread(world: &World) {
    for entry in &*world.resource::<RpcRegistry>().types.by_number() {
        if entry.readers.warn() {
            tracing::warn!(
                "{} arrives and nobody looks at it: read it with a MessageReader, or do not register it here",
                entry.name
            );
        }
    }
}
