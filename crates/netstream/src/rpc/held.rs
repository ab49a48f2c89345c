//! RPCs that were sent too early and wait until they may travel.

use bevy_ecs::entity::Entity;
use bevy_ecs::world::World;
use netstream_driver::transport::ChannelId;

use super::calls::{CallId, End};
use super::sender::LOST_AFTER;
use crate::connection::OutgoingRpcBuffer;
use crate::log::Line;
use crate::queue::MessageQueue;
use crate::session::control::MessageKind;
use crate::session::wire::Reader;
use crate::{ConnectionState, NetworkStreamDriver};

/// What stands before a message that is held: its channel, whether it may travel in Approval, its type's number.
const LABEL: usize = 4;

/// What one connection holds, in the order of the calls.
#[derive(Debug, Default)]
pub(crate) struct HeldRpcs {
    queue: MessageQueue,
    /// The most that it holds.
    pub(super) most: usize,
}

impl HeldRpcs {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Without the labels.
    pub(crate) fn byte_len(&self) -> usize {
        self.queue.byte_len() - self.len() * LABEL
    }

    fn push(&mut self, label: [u8; LABEL], message: &[u8]) {
        self.queue.push_parts(&[&label, message]);
    }
}

impl OutgoingRpcBuffer {
    /// The newest RPC of this channel waits until it may travel.
    pub(super) fn hold_newest(&mut self, channel: ChannelId, number: u16, in_approval: bool) {
        let [low, high] = number.to_le_bytes();
        let mut held = std::mem::take(&mut self.held);
        let (queue, _) = self.lane(channel);
        if let Some(message) = queue.back() {
            held.push([channel.0, in_approval.into(), low, high], message);
            queue.pop_back();
        }
        self.held = held;
    }

    /// Whether the peer has no such type.
    pub(super) fn lacks(&self, number: u16) -> bool {
        self.lacking.as_ref().is_some_and(|lacking| lacking.get(usize::from(number)) == Some(&true))
    }
}

/// A connection is in this state now: what may travel there is queued, in the order of the calls and before anything that
/// is sent from now on. What the peer turned out not to know, or what the connection's end has overtaken, is dropped.
pub(crate) fn release(world: &mut World, connection: Entity, state: ConnectionState) {
    let Some(mut buffer) = world.get_mut::<OutgoingRpcBuffer>(connection) else { return };
    let count = buffer.held.len();
    if count == 0 {
        return;
    }
    match state {
        ConnectionState::Approval | ConnectionState::Connected(_) => {}
        ConnectionState::Disconnected => {
            buffer.held.queue.clear();
            let core = &mut world.resource_mut::<NetworkStreamDriver>().session.core;
            core.counters.held_dropped += count as u64;
            if core.may_log(Line::Held) {
                tracing::warn!(
                    "{count} RPCs that were held until Connected are dropped: {connection} has ended before"
                );
            }
            return;
        }
        _ => return,
    }
    let mut queue = std::mem::take(&mut buffer.held.queue);
    let mut refused = Vec::new();
    for message in queue.drain() {
        let Some((&label, message)) = message.split_first_chunk::<LABEL>() else { continue };
        let [channel, in_approval, low, high] = label;
        if state == ConnectionState::Approval && in_approval == 0 {
            buffer.held.push(label, message);
            continue;
        }
        let (channel, call) = (ChannelId(channel), call_of(message));
        if buffer.lacks(u16::from_le_bytes([low, high])) {
            refused.push(call);
            continue;
        }
        if let Some(call) = call
            && !buffer.is_reliable(channel)
        {
            buffer.calls.time_out(call, LOST_AFTER);
        }
        buffer.lane(channel).0.push(message);
    }
    if refused.is_empty() {
        return;
    }
    let calls = refused.iter().flatten();
    let ends: Vec<_> = calls.filter_map(|&call| Some((call, buffer.calls.take(call)?))).collect();
    let core = &mut world.resource_mut::<NetworkStreamDriver>().session.core;
    core.counters.held_dropped += refused.len() as u64;
    if core.may_log(Line::Held) {
        let count = refused.len();
        tracing::warn!("{count} RPCs that were held for {connection} are dropped: the peer does not know them");
    }
    for (call, finish) in ends {
        finish(world, connection, call, End::TimedOut);
    }
}

/// The number under which the sender wants to hear of it.
fn call_of(message: &[u8]) -> Option<CallId> {
    match MessageKind::split(message)? {
        (MessageKind::RpcCall, body) => Reader(body).varint().map(CallId),
        _ => None,
    }
}
