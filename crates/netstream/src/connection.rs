//! What a connection entity carries.
//!
//! | component | server | client | put by |
//! |---|---|---|---|
//! | [`NetworkStreamConnection`] | yes | yes | netstream |
//! | [`ConnectionState`](crate::ConnectionState) | yes | yes | netstream |
//! | [`OutgoingRpcBuffer`], [`IncomingRpcBuffer`] | yes | yes | netstream |
//! | [`IncomingCommandBuffer`] | yes | | netstream |
//! | [`IncomingSnapshotBuffer`] | | yes | netstream |
//! | [`ConnectionIdentity`] | where the driver has tokens | | netstream |
//! | [`ConnectionCredentials`] | where the client sent some | | netstream |
//! | [`NetworkId`] | from Accepted on | from Accepted on | netstream |
//! | [`NetworkStreamIsReconnected`] | from Accepted on, for a player who came back | likewise | netstream |
//! | [`ConnectionApproved`] | in Approval | | the application |
//! | [`CommandBuffer`](crate::CommandBuffer) of each type, [`CommandArrivals`](crate::CommandArrivals), [`SnapshotAcks`](crate::SnapshotAcks) | where ticks are counted | | netstream |
//! | [`TickSnapshots`](crate::TickSnapshots), [`SnapshotArrivals`](crate::SnapshotArrivals) | | where ticks are counted | netstream |
//! | [`SnapshotTargetSize`](crate::SnapshotTargetSize) | any time | | the application |
//! | [`NetworkStreamInGame`] | in Connected | in Connected | the application |
//! | [`NetworkStreamRequestDisconnect`] | any time | any time | the application |

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bevy_ecs::component::Component;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::world::DeferredWorld;
use netstream_driver::ConnectionKey;
use netstream_driver::transport::{ChannelId, DisconnectCode, DisconnectReason, Identity};

use crate::log::Line;
use crate::queue::MessageQueue;
use crate::rpc::{Calls, HeldRpcs};
use crate::session::control::MessageKind;
use crate::{ConnectionState, NetworkStreamDriver};

/// Marks a connection entity and names the connection for all time.
///
/// Never despawn such an entity or remove this component: end the connection with
/// [`NetworkStreamDriver::disconnect`](crate::NetworkStreamDriver::disconnect) or
/// [`NetworkStreamRequestDisconnect`]. Doing it all the same is a runtime error: one diagnostic, and the connection
/// ends with `EntityDespawned`.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
#[component(immutable, on_remove = connection_removed)]
pub struct NetworkStreamConnection {
    pub(crate) key: ConnectionKey,
}

impl NetworkStreamConnection {
    /// The connection's name, never used for another one.
    pub fn key(&self) -> ConnectionKey {
        self.key
    }
}

fn connection_removed(mut world: DeferredWorld<'_>, context: HookContext) {
    if let Some(mut driver) = world.get_resource_mut::<NetworkStreamDriver>() {
        driver.entity_removed(context.entity);
    }
}

/// Whether the connection is ending: known here as soon as the call that ends it returns, while the state on the entity
/// follows with its event. Shared with the session.
#[derive(Component, Clone, Debug, Default)]
#[component(immutable)]
pub(crate) struct Ending(Arc<AtomicU8>);

impl Ending {
    /// The session's state is this one from now on.
    pub(crate) fn note(&self, state: ConnectionState) {
        let mark = match state {
            ConnectionState::Disconnecting => 1,
            ConnectionState::Disconnected => 2,
            _ => return,
        };
        self.0.store(mark, Ordering::Relaxed);
    }

    /// What may be sent is for this state to say, where the entity says `told`.
    pub(crate) fn judge(&self, told: ConnectionState) -> ConnectionState {
        match self.0.load(Ordering::Relaxed) {
            0 => told,
            1 => ConnectionState::Disconnecting,
            _ => ConnectionState::Disconnected,
        }
    }
}

/// The server's small number for a player: at least 1, unique among live connections. A freed one rests for a while
/// ([`NetworkLimits::id_quarantine`](crate::NetworkLimits::id_quarantine)) before it is allotted again; do not key
/// anything by it that outlives the connection.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[component(immutable)]
pub struct NetworkId(NonZeroU32);

impl NetworkId {
    /// `None` for 0.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, 1 or more.
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl std::fmt::Display for NetworkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Put by netstream with Accepted, on both sides: this player was here before and has the same [`NetworkId`] again.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStreamIsReconnected;

/// Puts the connection into the game: this side sends and takes commands and snapshots. The application inserts it on
/// each side by itself, in any order, and may remove it again. Put earlier than Connected, it counts from then on.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(on_add = enter_game, on_remove = leave_game)]
pub struct NetworkStreamInGame;

fn enter_game(mut world: DeferredWorld<'_>, context: HookContext) {
    if let Some(mut driver) = world.get_resource_mut::<NetworkStreamDriver>() {
        driver.set_in_game(context.entity, true);
    }
}

fn leave_game(mut world: DeferredWorld<'_>, context: HookContext) {
    if let Some(mut driver) = world.get_resource_mut::<NetworkStreamDriver>() {
        driver.set_in_game(context.entity, false);
    }
}

/// Ends the connection; the same as [`NetworkStreamDriver::disconnect`](crate::NetworkStreamDriver::disconnect).
#[derive(Component, Clone, Debug, PartialEq, Eq)]
#[component(immutable, on_insert = request_disconnect)]
pub struct NetworkStreamRequestDisconnect {
    /// What the other end will see, with origin Remote.
    pub reason: DisconnectReason,
}

impl Default for NetworkStreamRequestDisconnect {
    /// An ordinary goodbye.
    fn default() -> Self {
        Self { reason: DisconnectReason::local(DisconnectCode::ConnectionClose) }
    }
}

fn request_disconnect(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(request) = world.get::<NetworkStreamRequestDisconnect>(context.entity) else { return };
    let reason = request.reason.clone();
    if let Some(mut driver) = world.get_resource_mut::<NetworkStreamDriver>()
        && let Err(error) = driver.disconnect(context.entity, reason)
        && driver.may_log(Line::Misused)
    {
        tracing::warn!("NetworkStreamRequestDisconnect on {}: {error}", context.entity);
    }
}

/// Inserted by the server's game code: this connection may enter. Counts in Approval, or as soon as Approval is reached.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[component(on_add = approved)]
pub struct ConnectionApproved;

fn approved(mut world: DeferredWorld<'_>, context: HookContext) {
    if let Some(mut driver) = world.get_resource_mut::<NetworkStreamDriver>()
        && let Err(error) = driver.approve(context.entity)
        && driver.may_log(Line::Misused)
    {
        tracing::warn!("ConnectionApproved on {}: {error}", context.entity);
    }
}

/// Who the client is, as its connect token says.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct ConnectionIdentity(pub Identity);

/// What the client sent along with its connect call, for the server's game code to judge. Untrusted bytes.
#[derive(Component, Clone, PartialEq, Eq)]
#[component(immutable)]
pub struct ConnectionCredentials(pub Vec<u8>);

impl std::fmt::Debug for ConnectionCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Very likely a password or a ticket: it stays out of logs.
        write!(f, "ConnectionCredentials({} bytes)", self.0.len())
    }
}

/// RPCs that leave with the next [`NetworkStreamSystems::Send`](crate::NetworkStreamSystems::Send). Filled by
/// [`RpcSender`](crate::RpcSender).
#[derive(Component, Debug, Default)]
pub struct OutgoingRpcBuffer {
    /// For the reliable channel.
    pub(crate) queue: MessageQueue,
    /// For the other channels that RPC types have chosen.
    pub(crate) lanes: Vec<RpcLane>,
    /// Sent too early, and to be queued as soon as they may travel.
    pub(crate) held: HeldRpcs,
    /// What waits for an answer or a receipt.
    pub(crate) calls: Calls,
    /// The largest message that the driver takes.
    pub(crate) max_message: usize,
    /// The most bytes that may wait.
    pub(crate) max_bytes: usize,
    /// For each RPC number, whether the peer has no such type; `None` where it has all.
    pub(crate) lacking: Option<Arc<[bool]>>,
}

/// RPCs for one channel.
#[derive(Debug)]
pub(crate) struct RpcLane {
    pub(crate) channel: ChannelId,
    /// The largest message that the driver takes on it.
    pub(crate) max_message: usize,
    /// Whether what is sent on it arrives for certain.
    pub(crate) reliable: bool,
    pub(crate) queue: MessageQueue,
}

impl OutgoingRpcBuffer {
    /// The queue of a channel, and the largest message that it takes.
    pub(crate) fn lane(&mut self, channel: ChannelId) -> (&mut MessageQueue, usize) {
        if channel == ChannelId::RELIABLE {
            return (&mut self.queue, self.max_message);
        }
        let index = self.lanes.iter().position(|lane| lane.channel == channel).unwrap_or_else(|| {
            self.lanes.push(RpcLane { channel, max_message: 0, reliable: false, queue: MessageQueue::default() });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[index];
        (&mut lane.queue, lane.max_message)
    }

    /// How large a message may be on a channel, and whether it arrives for certain.
    pub(crate) fn set_channel(&mut self, channel: ChannelId, limit: usize, reliable: bool) {
        if channel != ChannelId::RELIABLE {
            self.lane(channel);
            for lane in self.lanes.iter_mut().filter(|lane| lane.channel == channel) {
                (lane.max_message, lane.reliable) = (limit, reliable);
            }
        }
    }

    /// Whether what is sent on a channel arrives for certain, unless the connection ends.
    pub(crate) fn is_reliable(&self, channel: ChannelId) -> bool {
        channel == ChannelId::RELIABLE || self.lanes.iter().any(|lane| lane.channel == channel && lane.reliable)
    }

    /// Queues a reply; false if the peer asks for more of them than it takes.
    pub(crate) fn push_reply(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let _ = self.queue.try_push_with(|bytes| {
            bytes.push(MessageKind::RpcReply as u8);
            write(bytes);
            Ok::<(), ()>(())
        });
        self.byte_len() <= self.max_bytes
    }

    /// RPCs that wait, those included that are held until Connected.
    pub fn len(&self) -> usize {
        self.queue.len() + self.held.len() + self.lanes.iter().map(|lane| lane.queue.len()).sum::<usize>()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that wait.
    pub fn byte_len(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| lane.queue.byte_len()).sum::<usize>();
        self.queue.byte_len() + self.held.byte_len() + lanes
    }
}

/// RPCs that arrived with this update. Emptied by [`NetworkStreamSystems::Receive`](crate::NetworkStreamSystems::Receive),
/// which turns them into messages.
#[derive(Component, Debug, Default)]
pub struct IncomingRpcBuffer(pub(crate) MessageQueue);

impl IncomingRpcBuffer {
    /// RPCs that wait to be dispatched.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

macro_rules! data_buffer {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Component, Debug, Default)]
        pub struct $name(pub(crate) MessageQueue);

        impl $name {
            /// Takes what arrived, oldest first.
            pub fn drain(&mut self) -> crate::queue::Drain<'_> {
                self.0.drain()
            }

            /// Looks at what arrived, oldest first.
            pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
                self.0.iter()
            }

            /// How many wait.
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether none waits.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }
    };
}

data_buffer! {
    /// Server: commands that arrived from this client and were not read yet. What nobody reads is dropped, oldest
    /// first, at the caps of [`NetworkLimits`](crate::NetworkLimits).
    IncomingCommandBuffer
}

data_buffer! {
    /// Client: snapshots that arrived and were not read yet. What nobody reads is dropped, oldest first, at the caps of
    /// [`NetworkLimits`](crate::NetworkLimits).
    IncomingSnapshotBuffer
}
