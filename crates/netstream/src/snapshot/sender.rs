//! The server's side: one message per connection and tick.

use std::ops::Range;
use std::time::Duration;

use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::system::{Local, Query, Res, ResMut, SystemParam};
use netstream_driver::transport::Mono;
use netstream_driver::transport::copy::append;
use netstream_driver::{IpcDriver, SendError};

use super::baseline::Baselines;
use super::registry::{Snapshot, SnapshotRegistry};
use super::wire::{MAX_HEADER, MAX_SNAPSHOT, write_delta, write_header, write_whole};
use super::{SnapshotAcks, delta};
use crate::command::CommandArrivals;
use crate::connection::Ending;
use crate::queue::MessageQueue;
use crate::rpc::Append;
use crate::session::control::MessageKind;
use crate::tick::Tick;
use crate::time::{NetworkTime, Report};
use crate::types::short_name;
use crate::{ConnectionState, NetworkStreamDriver};

/// How often a client is told the time where it gets no snapshots.
const TIME_EVERY: Duration = Duration::from_millis(100);
/// The smallest target size that makes sense, in bytes.
const MIN_TARGET: usize = 100;
/// The most bytes that stand before those of a whole snapshot: its type, 0, and its length of at most 1 MiB.
const MAX_SECTION_HEAD: usize = 3 + 1 + 3;

/// Why a snapshot was not taken. Nothing of it will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The type was never registered here.
    #[error("{0} is not registered; call app.register_snapshot::<{0}>() on both sides before the first update")]
    NotRegistered(&'static str),
    /// The entity is not a server's connection (any more).
    #[error("{0} is not a connection of this server World (any more)")]
    Unknown(Entity),
    /// The connection is not in the game.
    #[error("the connection is not in the game; insert NetworkStreamInGame on this side first")]
    NotInGame,
    /// A snapshot of this type was taken for this tick already.
    #[error("tick {0} has a snapshot of this type already; send one per tick")]
    AlreadySent(Tick),
    /// The snapshot, or all of this tick together, is too large for the connection: for its [`SnapshotTargetSize`], or for
    /// what its channel takes.
    #[error(
        "a snapshot of {size} bytes is over the limit of {limit} that is left in this tick; show less of the world"
    )]
    TooLarge {
        /// Its size in bytes, as it would have been sent.
        size: usize,
        /// The most that would have been taken, in bytes.
        limit: usize,
    },
    /// The snapshot could not be serialised.
    #[error("{0} could not be serialised; its Serialize implementation failed")]
    NotSerialised(&'static str),
}

/// Server: the most bytes that the snapshots of one tick may take on their way to this connection, all together and with
/// what netstream puts before them; insert it on the entity, and change it at any time. Without it, the limit is the
/// channel's. At least 100.
///
/// What would go beyond is refused with [`SnapshotError::TooLarge`]; before, [`SnapshotSender::room`] tells whoever decides
/// what to show. What counts is what is sent: of a type [with deltas](super::SnapshotOptions::delta) the difference, but
/// until the client has acknowledged a first snapshot, and after it has lost its baselines, the whole.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTargetSize(pub usize);

/// Server: what is about to be sent to a client, and what it was sent.
#[derive(Component, Debug, Default)]
pub(crate) struct OutgoingSnapshots {
    /// Which tick `sections` are of.
    tick: Option<Tick>,
    bytes: Vec<u8>,
    sections: Vec<(u32, Range<usize>)>,
    /// Finished messages without their headers, and their ticks.
    ready: MessageQueue,
    ready_ticks: Vec<Tick>,
    /// By type number.
    baselines: Vec<Baselines>,
    /// The most bytes of one message.
    limit: usize,
    told_time: Option<Mono>,
}

/// The most finished messages that wait for the end of an update: one for each tick that an update may run.
const MAX_READY: usize = 8;

impl OutgoingSnapshots {
    /// For messages of at most `limit` bytes.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(crate) fn clear(&mut self) {
        self.abandon();
        self.ready.clear();
        self.ready_ticks.clear();
        self.baselines.iter_mut().for_each(Baselines::clear);
    }

    fn abandon(&mut self) {
        self.tick = None;
        self.bytes.clear();
        self.sections.clear();
    }

    /// Finishes the message of the tick before `tick`, if there is one.
    fn begin(&mut self, tick: Tick) {
        if self.tick == Some(tick) {
            return;
        }
        if let Some(old) = self.tick.filter(|_| !self.sections.is_empty()) {
            self.sections.sort_unstable_by_key(|(kind, _)| *kind);
            let Self { bytes, sections, ready, .. } = self;
            if ready.len() >= MAX_READY {
                ready.pop_front();
                self.ready_ticks.remove(0);
            }
            let _ = ready.try_push_with(|out| {
                sections.iter().for_each(|(_, range)| append(out, &bytes[range.clone()]));
                Ok::<(), ()>(())
            });
            self.ready_ticks.push(old);
        }
        self.abandon();
        self.tick = Some(tick);
    }

    /// How many bytes of sections still fit in the message of this tick.
    fn left(&self, tick: Tick, target: Option<&SnapshotTargetSize>) -> usize {
        let used = if self.tick == Some(tick) { self.bytes.len() } else { 0 };
        let limit = target.map_or(self.limit, |target| target.0.max(MIN_TARGET).min(self.limit));
        // The kind byte is netstream's, too.
        limit.saturating_sub(used + MAX_HEADER + 1)
    }
}

/// What a connection's entity tells of it, and what it is to be sent.
type Player = (
    (&'static ConnectionState, &'static Ending),
    &'static mut OutgoingSnapshots,
    &'static mut SnapshotAcks,
    Option<&'static SnapshotTargetSize>,
);

/// Server: sends snapshots; a parameter for systems.
///
/// All that is sent to a connection for one tick travels as one message, which arrives whole or not at all, and leaves at
/// the end of the update.
#[derive(SystemParam)]
pub struct SnapshotSender<'w, 's> {
    registry: Option<Res<'w, SnapshotRegistry>>,
    time: Option<Res<'w, NetworkTime>>,
    connections: Query<'w, 's, Player>,
    scratch: Local<'s, (Vec<u8>, Vec<u8>)>,
}

impl SnapshotSender<'_, '_> {
    /// Sends a snapshot of the present tick to one connection, and says how many bytes it takes. After an error nothing
    /// was taken.
    ///
    /// 0 bytes means that it was passed over, as only a type with [deltas](super::SnapshotOptions::delta) can be: the
    /// client has acknowledged nothing that it could be the difference from, and was sent whole ones for long enough.
    /// Those of one second's ticks are in hand for each client, spent while it is heard of, and one more comes with each
    /// second. [`SnapshotAcks::passed_over`] counts.
    pub fn send<T: Snapshot>(&mut self, connection: Entity, snapshot: &T) -> Result<usize, SnapshotError> {
        let found = self.registry.as_ref().and_then(|registry| registry.0.find::<T>());
        let (number, entry) = found.ok_or_else(|| SnapshotError::NotRegistered(short_name::<T>()))?;
        let with_baselines = entry.delta.then_some(usize::from(number));
        self.scratch.0.clear();
        postcard::serialize_with_flavor(snapshot, Append(&mut self.scratch.0))
            .map_err(|_| SnapshotError::NotSerialised(short_name::<T>()))?;
        self.put(connection, u32::from(number) + 1, with_baselines)
    }

    /// The same for bytes, of which netstream knows no more. The client finds them in
    /// [`TickSnapshots`](crate::TickSnapshots).
    pub fn send_bytes(&mut self, connection: Entity, snapshot: &[u8]) -> Result<usize, SnapshotError> {
        self.scratch.0.clear();
        append(&mut self.scratch.0, snapshot);
        self.put(connection, 0, None)
    }

    /// How large a snapshot may be, in bytes, that is sent to this connection in the present tick, whole: it is taken for
    /// certain, unless it is [passed over](Self::send). One that is sent as a delta may be larger. 0 where nothing can be
    /// sent.
    pub fn room(&self, connection: Entity) -> usize {
        let tick = self.time.as_ref().map(|time| time.tick()).unwrap_or_default();
        let Ok(((&state, ending), outgoing, _, target)) = self.connections.get(connection) else { return 0 };
        if !ending.judge(state).is_in_game() {
            return 0;
        }
        outgoing.left(tick, target).saturating_sub(MAX_SECTION_HEAD).min(MAX_SNAPSHOT)
    }

    /// The newest tick whose snapshot this client has processed. More is in [`SnapshotAcks`].
    pub fn newest_acked(&self, connection: Entity) -> Option<Tick> {
        self.connections.get(connection).ok()?.2.newest_acked()
    }

    fn put(&mut self, connection: Entity, kind: u32, baselines: Option<usize>) -> Result<usize, SnapshotError> {
        let tick = self.time.as_ref().map(|time| time.tick()).unwrap_or_default();
        let Ok(((&state, ending), mut outgoing, mut acks, target)) = self.connections.get_mut(connection) else {
            return Err(SnapshotError::Unknown(connection));
        };
        if !ending.judge(state).is_in_game() {
            return Err(SnapshotError::NotInGame);
        }
        let (snapshot, encoded) = &mut *self.scratch;
        outgoing.begin(tick);
        if outgoing.sections.iter().any(|(taken, _)| *taken == kind) || acks.newest_sent() == Some(tick) {
            return Err(SnapshotError::AlreadySent(tick));
        }
        if snapshot.len() > MAX_SNAPSHOT {
            return Err(SnapshotError::TooLarge { size: snapshot.len(), limit: MAX_SNAPSHOT });
        }
        let left = outgoing.left(tick, target);
        let OutgoingSnapshots { bytes, sections, baselines: kept, .. } = &mut *outgoing;
        let start = bytes.len();
        let with_baselines = baselines.is_some();
        let mut kept = baselines.map(|number| {
            if kept.len() <= number {
                kept.resize_with(number + 1, Baselines::default);
            }
            &mut kept[number]
        });
        let base = kept.as_ref().and_then(|kept| kept.newest(|tick| acks.is_baseline(tick)));
        encoded.clear();
        let delta = base.map(|(baseline, base)| {
            delta::encode(base, snapshot, encoded);
            tick.since(baseline).unsigned_abs()
        });
        if let Some(back) = delta {
            write_delta(bytes, kind, back, snapshot.len(), encoded);
        }
        // A whole one takes three bytes more than its own, at least.
        if delta.is_none() || bytes.len() - start >= snapshot.len() + 3 {
            bytes.truncate(start);
            write_whole(bytes, kind, snapshot);
        }
        let size = bytes.len() - start;
        if size > left {
            bytes.truncate(start);
            return Err(SnapshotError::TooLarge { size, limit: left });
        }
        if with_baselines && delta.is_none() {
            if !acks.wholes.may(tick) {
                bytes.truncate(start);
                acks.wholes.skipped += 1;
                return Ok(0);
            }
            acks.wholes.spend(tick);
        }
        if let Some(kept) = &mut kept {
            kept.push(tick, snapshot);
        }
        sections.push((kind, start..start + size));
        Ok(size)
    }
}

/// What [`flush`] works on.
pub(crate) type Unsent<'w, 's> = (
    ResMut<'w, NetworkStreamDriver>,
    Res<'w, NetworkTime>,
    Query<
        'w,
        's,
        (
            Entity,
            &'static ConnectionState,
            &'static mut OutgoingSnapshots,
            &'static mut SnapshotAcks,
            &'static CommandArrivals,
        ),
    >,
    Local<'s, Vec<u8>>,
);

/// Server: sends what is there for each client, and the time to those for whom nothing is.
pub(crate) fn flush((mut net, time, mut connections, mut packet): Unsent<'_, '_>) {
    let now = net.now().mono;
    for (entity, state, mut outgoing, mut acks, arrivals) in &mut connections {
        if !state.is_in_game() {
            continue;
        }
        let outgoing = &mut *outgoing;
        if outgoing.tick.is_some() {
            let none = time.tick() + 1;
            outgoing.begin(none);
            outgoing.abandon();
        }
        let late = arrivals.late_to_tell;
        let mut report = Report { tick: time.tick(), fraction: time.fraction_256(), newest: arrivals.newest, late };
        let OutgoingSnapshots { ready, ready_ticks, told_time, .. } = outgoing;
        for (&tick, sections) in ready_ticks.iter().zip(ready.drain()) {
            // Of a tick that is past, all is over.
            let fraction = if tick == time.tick() { time.fraction_256() } else { u8::MAX };
            report = Report { tick, fraction, ..report };
            packet.clear();
            write_header(&mut packet, &report);
            append(&mut packet, sections);
            match net.send_data(entity, MessageKind::TickSnapshot, &packet) {
                Ok(()) => {
                    acks.sent(tick);
                    *told_time = Some(now);
                }
                Err(error) => tracing::debug!("snapshot for {entity} not sent: {error}"),
            }
        }
        ready.clear();
        ready_ticks.clear();
        if time.ran == 0 || *told_time == Some(now) {
            continue;
        }
        // In-process the client's tick is the server's next: it must know of each.
        let due = told_time.is_none_or(|told| now.since(told) >= TIME_EVERY);
        if due || net.is_driven_by::<IpcDriver>(entity) {
            packet.clear();
            write_header(&mut packet, &Report { tick: time.tick(), fraction: time.fraction_256(), ..report });
            match net.send_data(entity, MessageKind::TickSnapshot, &packet) {
                Ok(()) => *told_time = Some(now),
                Err(crate::NetworkSendError::Driver(SendError::NotConnected)) => {}
                Err(error) => tracing::debug!("time for {entity} not sent: {error}"),
            }
        }
    }
}
