//! Sending RPCs.

use std::any::Any;
use std::time::Duration;

use bevy_ecs::change_detection::{DetectChanges, DetectChangesMut, Mut};
use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Local, Query, Res, ResMut, SystemParam};
use netstream_driver::transport::copy::append;
use netstream_driver::transport::{ChannelId, ConnectionId, Now};
use netstream_driver::{ConnectionKey, NetworkDriver, SendError};
use postcard::ser_flavors::Flavor;

use super::calls::{CallId, finish_receipt, write_answer};
use super::entities::{Mapper, RpcEntityMap};
use super::registry::{RpcEntry, RpcRegistry};
use super::{ReceivedRequest, Rpc};
use crate::connection::{Ending, RpcLane};
use crate::errors::NetworkSendError;
use crate::log::Line;
use crate::queue::MessageQueue;
use crate::session::control::MessageKind;
use crate::session::core::Core;
use crate::session::wire::{write_id, write_varint};
use crate::state::Side;
use crate::types::short_name;
use crate::{ConnectionState, NetworkStreamConnection, NetworkStreamDriver, OutgoingRpcBuffer};

/// After this time an unreliable RPC of which no receipt has come is taken for lost.
pub(super) const LOST_AFTER: Duration = Duration::from_secs(5);

/// From this size in bytes on an RPC leaves with its memory. Smaller ones are copied, so that a steady flow allocates
/// nothing.
const OWNED: usize = 64 << 10;

/// Sends RPCs; a parameter for systems.
///
/// What is sent leaves with the next [`NetworkStreamSystems::Send`](crate::NetworkStreamSystems::Send), on each channel in
/// the order of the calls, across all types.
#[derive(SystemParam)]
pub struct RpcSender<'w, 's> {
    registry: Res<'w, RpcRegistry>,
    map: Option<Res<'w, RpcEntityMap>>,
    connections: Query<'w, 's, Outgoing>,
}

/// What a connection's entity tells of it, and what it is to send.
type Outgoing = (Entity, &'static ConnectionState, &'static Ending, &'static mut OutgoingRpcBuffer);

impl RpcSender<'_, '_> {
    /// Sends to one connection. After an error nothing was queued, and everything queued before is unaffected.
    pub fn send<T: Rpc>(&mut self, connection: Entity, rpc: &T) -> Result<(), NetworkSendError> {
        let (state, buffer) = outgoing(&mut self.connections, connection)?;
        let (number, entry) = plain::<T>(&self.registry)?;
        let when = check(state, entry, entry.options.held)?;
        enqueue(buffer.into_inner(), (number, entry), self.map.as_deref(), connection, None, when, rpc)
    }

    /// Sends to one connection, if need be later: what comes too early waits until the connection is Connected (of a type
    /// that may travel in Approval: until then), and leaves before anything that is sent afterwards, in the order of the
    /// calls. It works from the connection's first event on; what is over or ending is an error as ever.
    ///
    /// At most [`NetworkLimits::held_rpcs`](crate::NetworkLimits::held_rpcs) of a connection wait. If it ends before, they
    /// are dropped, with a warning and a count ([`SessionCounters::held_dropped`](crate::SessionCounters::held_dropped)).
    /// Who wants to hear of each sends it with a receipt, as a type that is
    /// [held](crate::RpcOptions::held_until_connected).
    pub fn send_when_connected<T: Rpc>(&mut self, connection: Entity, rpc: &T) -> Result<(), NetworkSendError> {
        let (state, buffer) = outgoing(&mut self.connections, connection)?;
        let (number, entry) = plain::<T>(&self.registry)?;
        let when = check(state, entry, true)?;
        enqueue(buffer.into_inner(), (number, entry), self.map.as_deref(), connection, None, when, rpc)
    }

    /// Sends to every connection that may take it now, and says how many these are. A connection whose buffer is full
    /// or that does not know the type is passed over; an RPC that is too large, or of a type that is not registered, is
    /// an error.
    pub fn broadcast<T: Rpc>(&mut self, rpc: &T) -> Result<usize, NetworkSendError> {
        self.broadcast_if(rpc, |_| true)
    }

    /// [`broadcast`](Self::broadcast) to all but one.
    pub fn broadcast_except<T: Rpc>(&mut self, except: Entity, rpc: &T) -> Result<usize, NetworkSendError> {
        self.broadcast_if(rpc, |connection| connection != except)
    }

    /// [`broadcast`](Self::broadcast) to these. Those of them that are no connections (any more) are passed over.
    pub fn broadcast_to<T: Rpc>(
        &mut self,
        connections: impl IntoIterator<Item = Entity>,
        rpc: &T,
    ) -> Result<usize, NetworkSendError> {
        let (number, entry) = plain::<T>(&self.registry)?;
        let mut sent = 0;
        for connection in connections {
            let Ok((state, buffer)) = outgoing(&mut self.connections, connection) else { continue };
            let Ok(when) = check(state, entry, false) else { continue };
            let buffer = buffer.into_inner();
            sent += count(enqueue(buffer, (number, entry), self.map.as_deref(), connection, None, when, rpc))?;
        }
        Ok(sent)
    }

    /// [`broadcast`](Self::broadcast) to those that `wanted` accepts.
    pub fn broadcast_if<T: Rpc>(
        &mut self,
        rpc: &T,
        wanted: impl Fn(Entity) -> bool,
    ) -> Result<usize, NetworkSendError> {
        let (number, entry) = plain::<T>(&self.registry)?;
        let mut sent = 0;
        for (connection, &state, ending, buffer) in &mut self.connections {
            if wanted(connection)
                && let Ok(when) = check(ending.judge(state), entry, false)
            {
                let buffer = buffer.into_inner();
                sent += count(enqueue(buffer, (number, entry), self.map.as_deref(), connection, None, when, rpc))?;
            }
        }
        Ok(sent)
    }

    /// Sends to one connection and wants to know what becomes of it: an [`RpcReceipt`](crate::RpcReceipt) with the same
    /// [`CallId`] follows.
    pub fn send_with_receipt<T: Rpc>(&mut self, connection: Entity, rpc: &T) -> Result<CallId, NetworkSendError> {
        let (state, buffer) = outgoing(&mut self.connections, connection)?;
        let (number, entry) = plain::<T>(&self.registry)?;
        let (buffer, when) = (buffer.into_inner(), check(state, entry, entry.options.held)?);
        let call = next_call(buffer)?;
        enqueue(buffer, (number, entry), self.map.as_deref(), connection, Some(call), when, rpc)?;
        // The time of one that is held begins when it leaves.
        let can_be_lost = !buffer.is_reliable(entry.options.channel) && when == When::Now;
        Ok(buffer.calls.add(can_be_lost.then_some(LOST_AFTER), finish_receipt))
    }

    /// Asks something: a [`Response`](crate::Response) with the same [`CallId`] follows, with the answer or, after
    /// `timeout`, with an error.
    pub fn request<Q: Rpc>(
        &mut self,
        connection: Entity,
        request: &Q,
        timeout: Duration,
    ) -> Result<CallId, NetworkSendError> {
        let (state, buffer) = outgoing(&mut self.connections, connection)?;
        let (number, entry) = find::<Q>(&self.registry)?;
        let finish = entry.finish.ok_or(NetworkSendError::NotARequest(entry.name))?;
        let (buffer, when) = (buffer.into_inner(), check(state, entry, entry.options.held)?);
        let call = next_call(buffer)?;
        enqueue(buffer, (number, entry), self.map.as_deref(), connection, Some(call), when, request)?;
        Ok(buffer.calls.add(Some(timeout), finish))
    }

    /// Answers a request. `A` is the type that the request was registered with.
    pub fn respond<Q: Rpc, A: Rpc>(
        &mut self,
        request: &ReceivedRequest<Q>,
        answer: &A,
    ) -> Result<(), NetworkSendError> {
        let connection = request.connection;
        let (state, buffer) = outgoing(&mut self.connections, connection)?;
        if state.is_ending() {
            return Err(NetworkSendError::NotReady(state));
        }
        let buffer = buffer.into_inner();
        let (limit, waiting) = (buffer.max_message, buffer.byte_len());
        let size = buffer.queue.try_push_with(|bytes| {
            bytes.push(MessageKind::RpcReply as u8);
            write_answer(bytes, request.call);
            postcard::serialize_with_flavor(answer, Append(bytes))
                .map_err(|_| NetworkSendError::NotSerialised(short_name::<A>()))
        })?;
        refuse_if_too_much(&mut buffer.queue, size, limit, waiting, buffer.max_bytes)
    }
}

/// The state that counts for sending, and what is to be sent. What is wrong with the connection comes before what is wrong
/// with the type, whose number may not be fixed yet.
fn outgoing<'a>(
    connections: &'a mut Query<'_, '_, Outgoing>,
    connection: Entity,
) -> Result<(ConnectionState, Mut<'a, OutgoingRpcBuffer>), NetworkSendError> {
    let Ok((_, &state, ending, buffer)) = connections.get_mut(connection) else {
        return Err(NetworkSendError::Unknown(connection));
    };
    Ok((ending.judge(state), buffer))
}

fn find<T: Rpc>(registry: &RpcRegistry) -> Result<(u16, &RpcEntry), NetworkSendError> {
    let found = registry.types.find::<T>().ok_or_else(|| NetworkSendError::NotRegistered(short_name::<T>()))?;
    if !found.1.options.direction.allows(registry.side) {
        let side = match registry.side {
            Side::Server => "server",
            Side::Client => "client",
        };
        return Err(NetworkSendError::WrongSide(side));
    }
    Ok(found)
}

fn plain<T: Rpc>(registry: &RpcRegistry) -> Result<(u16, &RpcEntry), NetworkSendError> {
    let found = find::<T>(registry)?;
    if found.1.finish.is_some() {
        return Err(NetworkSendError::IsARequest(found.1.name));
    }
    Ok(found)
}

/// When an RPC leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// At the end of this update.
    Now,
    /// As soon as it may travel.
    Held,
}

fn check(state: ConnectionState, entry: &RpcEntry, hold: bool) -> Result<When, NetworkSendError> {
    match state {
        ConnectionState::Connected(_) => Ok(When::Now),
        ConnectionState::Approval if entry.options.approval => Ok(When::Now),
        _ if hold && !state.is_ending() => Ok(When::Held),
        _ => Err(NetworkSendError::NotReady(state)),
    }
}

fn next_call(buffer: &OutgoingRpcBuffer) -> Result<CallId, NetworkSendError> {
    if buffer.calls.is_full() {
        return Err(NetworkSendError::TooManyCalls(super::calls::MAX_CALLS));
    }
    Ok(buffer.calls.next())
}

/// 1 if it was sent, 0 if this connection is to be passed over.
fn count(sent: Result<(), NetworkSendError>) -> Result<usize, NetworkSendError> {
    match sent {
        Ok(()) => Ok(1),
        Err(NetworkSendError::BufferFull(_) | NetworkSendError::UnknownToPeer(_)) => Ok(0),
        Err(error) => Err(error),
    }
}

fn enqueue<T: Rpc>(
    buffer: &mut OutgoingRpcBuffer,
    (number, entry): (u16, &RpcEntry),
    map: Option<&RpcEntityMap>,
    connection: Entity,
    call: Option<CallId>,
    when: When,
    rpc: &T,
) -> Result<(), NetworkSendError> {
    if buffer.lacks(number) {
        return Err(NetworkSendError::UnknownToPeer(entry.name));
    }
    if when == When::Held && buffer.held.len() >= buffer.held.most {
        return Err(NetworkSendError::TooManyHeld(buffer.held.len()));
    }
    let (waiting, max_bytes) = (buffer.byte_len(), buffer.max_bytes);
    let (queue, limit) = buffer.lane(entry.options.channel);
    if limit == 0 {
        return Err(SendError::UnknownChannel(entry.options.channel).into());
    }
    let mut start = 0;
    let size = queue.try_push_with(|bytes| {
        let before = bytes.len();
        match call {
            None => bytes.push(MessageKind::Rpc as u8),
            Some(CallId(call)) => {
                bytes.push(MessageKind::RpcCall as u8);
                write_varint(bytes, call);
            }
        }
        write_id(bytes, number);
        start = bytes.len() - before;
        let mut mapper = Mapper { map, connection, outgoing: true };
        let done = match entry.encode {
            Some(encode) => encode(rpc as &dyn Any, &mut mapper, bytes),
            None => postcard::serialize_with_flavor(rpc, Append(bytes)).is_ok(),
        };
        done.then_some(()).ok_or(NetworkSendError::NotSerialised(entry.name))
    })?;
    if let Some(limit) = entry.options.max_size
        && size - start > limit
    {
        queue.pop_back();
        return Err(SendError::TooLarge { size: size - start, limit }.into());
    }
    refuse_if_too_much(queue, size, limit, waiting, max_bytes)?;
    if when == When::Held {
        buffer.hold_newest(entry.options.channel, number, entry.options.approval);
    }
    Ok(())
}

fn refuse_if_too_much(
    queue: &mut MessageQueue,
    size: usize,
    limit: usize,
    waiting: usize,
    max_bytes: usize,
) -> Result<(), NetworkSendError> {
    let refused = if size > limit {
        NetworkSendError::Driver(SendError::TooLarge { size, limit })
    } else if waiting + size > max_bytes {
        NetworkSendError::BufferFull(waiting)
    } else {
        return Ok(());
    };
    queue.pop_back();
    Err(refused)
}

/// What [`send`] works on, and of whom something was left the last time.
pub(crate) type Unsent<'w, 's> = (
    ResMut<'w, NetworkStreamDriver>,
    Query<'w, 's, (Entity, &'static NetworkStreamConnection, Mut<'static, OutgoingRpcBuffer>)>,
    Local<'s, Vec<Entity>>,
);

/// Hands queued RPCs to the drivers, as far as these take them; the rest waits for the next time. Looks only at buffers
/// that were changed since the last time, and at those of which something was left. Notes who has made calls.
pub(crate) fn send((mut net, mut buffers, mut left): Unsent<'_, '_>, calling: &mut Vec<Entity>) {
    let session = &mut net.session;
    let mut now = None;
    let mut send = |key: ConnectionKey, mut buffer: Mut<'_, OutgoingRpcBuffer>| {
        let buffer = buffer.bypass_change_detection();
        let now = *now.get_or_insert_with(|| session.now());
        let Some(driver) = session.store.get_mut(key.driver) else { return false };
        hand_over(driver, &mut session.core, now, key.connection, buffer)
    };
    left.retain(|&entity| buffers.get_mut(entity).is_ok_and(|(_, connection, buffer)| send(connection.key(), buffer)));
    for (entity, connection, buffer) in &mut buffers {
        if !buffer.is_changed() {
            continue;
        }
        if buffer.calls.any()
            && let Err(place) = calling.binary_search(&entity)
        {
            calling.insert(place, entity);
        }
        if !buffer.is_empty() && send(connection.key(), buffer) {
            left.push(entity);
        }
    }
    left.sort_unstable();
    left.dedup();
}

/// Whether something is left that the driver does not take now.
fn hand_over(
    driver: &mut dyn NetworkDriver,
    core: &mut Core,
    now: Now,
    id: ConnectionId,
    buffer: &mut OutgoingRpcBuffer,
) -> bool {
    let OutgoingRpcBuffer { queue, lanes, .. } = buffer;
    let lanes = lanes.iter_mut().map(|RpcLane { channel, queue, .. }| (*channel, queue));
    let mut left = false;
    for (channel, queue) in std::iter::once((ChannelId::RELIABLE, queue)).chain(lanes) {
        while !queue.is_empty() {
            match send_front(driver, now, id, channel, queue) {
                Ok(()) => queue.pop_front(),
                Err(SendError::QueueFull) => {
                    left = true;
                    break;
                }
                // The connection is over; its event says so.
                Err(SendError::NotConnected | SendError::NotReady) => queue.clear(),
                Err(error) => {
                    if core.may_log(Line::Misused) {
                        tracing::warn!("an RPC on channel {} was not sent: {error}", channel.0);
                    }
                    queue.pop_front();
                }
            }
        }
    }
    left
}

/// A large message that is alone leaves with its memory.
fn send_front(
    driver: &mut dyn NetworkDriver,
    now: Now,
    id: ConnectionId,
    channel: ChannelId,
    queue: &mut MessageQueue,
) -> Result<(), SendError> {
    match queue.only() {
        Some(message) if message.len() >= OWNED => driver.send_owned(now, id, channel, message),
        _ => driver.send(now, id, channel, queue.front().unwrap_or_default()),
    }
}

/// Lets postcard write to the end of a vector.
pub(crate) struct Append<'a>(pub(crate) &'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        append(self.0, bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
