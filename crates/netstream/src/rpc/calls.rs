//! RPCs of which the sender wants to hear: requests that are answered, and receipts.

use std::time::Duration;

use bevy_ecs::change_detection::DetectChangesMut;
use bevy_ecs::entity::Entity;
use bevy_ecs::message::Message;
use bevy_ecs::observer::On;
use bevy_ecs::system::{Commands, Query, ResMut, SystemState};
use bevy_ecs::world::World;
use netstream_driver::transport::Mono;

use super::{Rpc, RpcPayload};
use crate::connection::OutgoingRpcBuffer;
use crate::session::wire::{Reader, write_varint};
use crate::{ConnectionEvent, ConnectionState, NetworkStreamDriver};

/// The most calls of one connection that wait for an answer.
pub(crate) const MAX_CALLS: usize = 1024;

/// Names one call of one connection: a request, or an RPC sent with a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub(crate) u32);

/// A request that arrived. Answer it with [`RpcSender::respond`](crate::RpcSender::respond), in this update or any time
/// later.
#[derive(Message)]
pub struct ReceivedRequest<Q: Rpc> {
    /// From whom.
    pub connection: Entity,
    /// Which request this answers.
    pub call: CallId,
    /// What is asked.
    pub request: RpcPayload<Q>,
}

/// The end of a request that was sent with [`RpcSender::request`](crate::RpcSender::request): exactly one of these comes
/// for each.
#[derive(Message, Clone, Debug, PartialEq)]
pub struct Response<A: Rpc> {
    /// From whom.
    pub connection: Entity,
    /// Which request it was.
    pub call: CallId,
    /// The answer, or why there is none.
    pub answer: Result<A, RequestError>,
}

/// Why a request has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There was none within the time given.
    #[error("no answer came in time")]
    TimedOut,
    /// The connection ended before.
    #[error("the connection ended before an answer came")]
    ConnectionEnded,
}

/// The end of an RPC that was sent [with a receipt](crate::RpcSender::send_with_receipt): exactly one of these comes for
/// each.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcReceipt {
    /// To whom it was sent.
    pub connection: Entity,
    /// Which one.
    pub call: CallId,
    /// What became of it.
    pub outcome: RpcOutcome,
}

/// What became of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RpcOutcome {
    /// The other end has dispatched it.
    Delivered,
    /// No sign of it came within five seconds (only of types that are not reliable), or it was held until Connected and the
    /// peer turned out not to know its type.
    Lost,
    /// The connection ended before the other end could say; it may have been dispatched or not.
    ConnectionEnded,
}

/// How a call ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End<'a> {
    Delivered,
    Answer(&'a [u8]),
    TimedOut,
    ConnectionEnded,
}

/// Tells the World how a call ended; false if the answer is malformed.
pub(crate) type Finish = fn(&mut World, Entity, CallId, End<'_>) -> bool;

#[derive(Debug)]
struct Pending {
    call: CallId,
    timeout: Option<Duration>,
    /// Known from the first update on.
    deadline: Option<Mono>,
    finish: Finish,
}

/// The calls of one connection that wait for an answer.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    next: u32,
    /// In the order of their numbers.
    pending: Vec<Pending>,
}

impl Calls {
    pub(crate) fn any(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= MAX_CALLS
    }

    /// The number that the next call will have.
    pub(crate) fn next(&self) -> CallId {
        CallId(self.next)
    }

    pub(crate) fn add(&mut self, timeout: Option<Duration>, finish: Finish) -> CallId {
        let call = self.next();
        self.next = self.next.wrapping_add(1);
        self.pending.push(Pending { call, timeout, deadline: None, finish });
        call
    }

    /// Whether there ever was this call; numbers wrap around.
    fn was_made(&self, call: CallId) -> bool {
        (call.0.wrapping_sub(self.next) as i32) < 0
    }

    /// A call without a timeout has one from now on.
    pub(super) fn time_out(&mut self, call: CallId, timeout: Duration) {
        if let Some(pending) = self.pending.iter_mut().find(|pending| pending.call == call) {
            pending.timeout.get_or_insert(timeout);
        }
    }

    pub(super) fn take(&mut self, call: CallId) -> Option<Finish> {
        let index = self.pending.iter().position(|pending| pending.call == call)?;
        Some(self.pending.remove(index).finish)
    }
}

pub(crate) fn finish_receipt(world: &mut World, connection: Entity, call: CallId, end: End<'_>) -> bool {
    let outcome = match end {
        End::Delivered => RpcOutcome::Delivered,
        End::TimedOut => RpcOutcome::Lost,
        End::ConnectionEnded => RpcOutcome::ConnectionEnded,
        End::Answer(_) => return false,
    };
    world.write_message(RpcReceipt { connection, call, outcome });
    true
}

pub(crate) fn finish_request<A: Rpc>(world: &mut World, connection: Entity, call: CallId, end: End<'_>) -> bool {
    let answer = match end {
        End::Answer(body) => match postcard::take_from_bytes::<A>(body) {
            Ok((answer, [])) => Ok(answer),
            _ => return false,
        },
        End::TimedOut => Err(RequestError::TimedOut),
        End::ConnectionEnded => Err(RequestError::ConnectionEnded),
        End::Delivered => return false,
    };
    world.write_message(Response { connection, call, answer });
    true
}

const DELIVERED: u8 = 0;
const ANSWER: u8 = 1;

/// Appends, behind the kind: the call's number, and that it was dispatched.
pub(crate) fn write_delivered(out: &mut Vec<u8>, call: CallId) {
    write_varint(out, call.0);
    out.push(DELIVERED);
}

/// Appends, behind the kind: the call's number, and what stands before an answer.
pub(crate) fn write_answer(out: &mut Vec<u8>, call: CallId) {
    write_varint(out, call.0);
    out.push(ANSWER);
}

/// A reply has arrived; false if it is malformed.
pub(crate) fn handle_reply(world: &mut World, connection: Entity, reply: &[u8]) -> bool {
    let mut reader = Reader(reply);
    let (Some(call), Some(what)) = (reader.varint(), reader.u8()) else { return false };
    let end = match what {
        DELIVERED if reader.0.is_empty() => End::Delivered,
        ANSWER => End::Answer(reader.0),
        _ => return false,
    };
    let Some(mut buffer) = world.get_mut::<OutgoingRpcBuffer>(connection) else { return true };
    if !buffer.calls.was_made(CallId(call)) {
        return false;
    }
    // One that has timed out is not known any more.
    let Some(finish) = buffer.calls.take(CallId(call)) else { return true };
    let good = finish(world, connection, CallId(call), end);
    if !good {
        // It ends with its connection then, which knows no more of it.
        finish(world, connection, CallId(call), End::ConnectionEnded);
    }
    good
}

/// What [`expire`] works on.
pub(crate) type Calling<'w, 's> = (ResMut<'w, NetworkStreamDriver>, Query<'w, 's, &'static mut OutgoingRpcBuffer>);

/// Ends calls whose time is over, of the connections that have made some; those that have none any more are let go. Whether
/// there were any.
pub(crate) fn expire(world: &mut World, state: &mut SystemState<Calling<'_, '_>>, calling: &mut Vec<Entity>) -> bool {
    if calling.is_empty() {
        return false;
    }
    let Ok((mut net, mut buffers)) = state.get_mut(world) else { return false };
    let now = net.now().mono;
    let mut over = Vec::new();
    calling.retain(|&connection| {
        let Ok(mut buffer) = buffers.get_mut(connection) else { return false };
        let calls = &mut buffer.bypass_change_detection().calls;
        calls.pending.retain_mut(|pending| {
            let Some(timeout) = pending.timeout else { return true };
            let deadline = *pending.deadline.get_or_insert(now + timeout);
            if now >= deadline {
                over.push((connection, pending.call, pending.finish));
            }
            now < deadline
        });
        !calls.pending.is_empty()
    });
    let any = !over.is_empty();
    for (connection, call, finish) in over {
        finish(world, connection, call, End::TimedOut);
    }
    any
}

/// A connection that ends takes its calls along.
pub(crate) fn ended(
    event: On<'_, '_, ConnectionEvent>,
    mut buffers: Query<'_, '_, &mut OutgoingRpcBuffer>,
    mut commands: Commands<'_, '_>,
) {
    if event.state != ConnectionState::Disconnected {
        return;
    }
    let connection = event.connection;
    let Ok(mut buffer) = buffers.get_mut(connection) else { return };
    for Pending { call, finish, .. } in buffer.calls.pending.drain(..) {
        commands.queue(move |world: &mut World| _ = finish(world, connection, call, End::ConnectionEnded));
    }
}
