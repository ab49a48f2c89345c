//! A wrapper that gives any driver a bad network.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netstream_transport::channel::ChannelTable;
use netstream_transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Identity, Incoming, Mono, Now};

use super::simulator::incoming_seed;
use super::{Direction, Fate, LinkProfile, LinkQueue, LinkStats};
use crate::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, SendError};

/// The most reliable messages of one connection that wait on the way out.
const RELIABLE_MESSAGES: usize = 512;
/// The most bytes of reliable messages of one connection that wait on the way out.
const RELIABLE_BYTES: usize = 256 * 1024;

/// How long a reliable message waits at least before what was lost of it is sent again.
const RETRANSMIT: Duration = Duration::from_millis(50);

/// Any driver, behind a bad network.
///
/// Where the driver has packets of its own ([`NetworkDriver::packet_simulator`]) they are what is lost, delayed and
/// doubled, beneath its protocol. Elsewhere it happens to messages: unreliable ones are lost, doubled and reordered;
/// a lost reliable message is a delayed one, and the order of a connection's reliable messages and of its beginning
/// and end is kept. Messages are never damaged.
///
/// Each wrapper acts on both directions of its own driver. One on each end adds up.
pub struct Simulated<D> {
    inner: D,
    /// The driver simulates by itself; everything below is idle.
    by_packets: bool,
    outgoing: LinkQueue<Outgoing>,
    incoming: LinkQueue<Event>,
    connections: HashMap<ConnectionId, Connection>,
    /// For each index of an id, when the end of the last connection that had it is due: the driver gives it to the next
    /// one, whose beginning is not due before.
    vacant: HashMap<u32, Mono>,
    /// Connections that wait for their last messages to leave before they close. Short.
    closing: Vec<Closing>,
    /// Connections whose messages the driver did not take yet. Short.
    blocked: Vec<ConnectionId>,
}

#[derive(Clone, Copy, Debug)]
struct Outgoing {
    connection: ConnectionId,
    channel: ChannelId,
}

/// What [`Incoming`] says, without what it borrows.
#[derive(Clone, Debug)]
enum Event {
    Accepted { connection: ConnectionId, address: Option<SocketAddr>, identity: Option<Arc<Identity>> },
    Connected { connection: ConnectionId },
    Message { connection: ConnectionId, channel: ChannelId },
    Disconnected { connection: ConnectionId, reason: DisconnectReason },
}

#[derive(Debug, Default)]
struct Connection {
    /// The user knows that it is up.
    open: bool,
    /// A client's arrival is on its way to the user.
    arriving: bool,
    /// It has come too late: nobody is listening any more. The user never hears of it.
    refused_entry: bool,
    /// The user has asked for its end.
    closing: bool,
    /// When the last ordered message of each direction is due; the next one is not due before.
    sent_until: Mono,
    received_until: Mono,
    /// Reliable messages that have not reached the driver.
    waiting_messages: usize,
    waiting_bytes: usize,
    /// Those of them that the driver's full queue refused.
    refused: VecDeque<(ChannelId, Vec<u8>)>,
}

#[derive(Debug)]
struct Closing {
    connection: ConnectionId,
    reason: DisconnectReason,
    due: Mono,
    deadline: Mono,
}

impl<D: NetworkDriver> Simulated<D> {
    /// Puts `driver` behind a link that is bad in both directions; the dice come from `seed`.
    pub fn new(driver: D, profile: LinkProfile, seed: u64) -> Self {
        let mut inner = driver;
        let simulator = inner.packet_simulator();
        let by_packets = simulator.is_some();
        if let Some(simulator) = simulator {
            simulator.reseed(seed);
            simulator.set_both(profile);
        }
        Self {
            inner,
            by_packets,
            outgoing: LinkQueue::new(profile, seed),
            incoming: LinkQueue::new(profile, incoming_seed(seed)),
            connections: HashMap::new(),
            vacant: HashMap::new(),
            closing: Vec::new(),
            blocked: Vec::new(),
        }
    }

    /// Changes one direction for what is to come.
    pub fn set_profile(&mut self, direction: Direction, profile: LinkProfile) {
        if let Some(simulator) = self.inner.packet_simulator() {
            return simulator.set_profile(direction, profile);
        }
        match direction {
            Direction::Outgoing => self.outgoing.set_profile(profile),
            Direction::Incoming => self.incoming.set_profile(profile),
        }
    }

    /// Changes both directions for what is to come.
    pub fn set_both(&mut self, profile: LinkProfile) {
        for direction in Direction::BOTH {
            self.set_profile(direction, profile);
        }
    }

    /// The driver behind the bad network.
    pub fn inner_mut(&mut self) -> &mut D {
        &mut self.inner
    }

    /// The driver, without the bad network. What was under way is lost.
    pub fn into_inner(self) -> D {
        self.inner
    }

    /// The driver behind the bad network.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    /// What happened in one direction so far, in packets or messages. (`&mut` because a driver shows its simulator
    /// only so.)
    pub fn stats(&mut self, direction: Direction) -> LinkStats {
        match (self.inner.packet_simulator(), direction) {
            (Some(simulator), _) => simulator.stats(direction),
            (None, Direction::Outgoing) => self.outgoing.stats(),
            (None, Direction::Incoming) => self.incoming.stats(),
        }
    }

    fn has_nothing_under_way(&self) -> bool {
        self.outgoing.is_empty() && self.closing.is_empty() && self.blocked.is_empty()
    }

    /// Hands to the driver what has travelled far enough.
    fn pump(&mut self, now: Now) {
        if !self.has_nothing_under_way() {
            self.pump_until(now, now.mono);
        }
    }

    /// Hands to the driver what is due up to `horizon`.
    fn pump_until(&mut self, now: Now, horizon: Mono) {
        let Self { inner, outgoing, connections, blocked, .. } = self;
        blocked.retain(|id| {
            let Some(connection) = connections.get_mut(id) else { return false };
            while let Some((channel, message)) = connection.refused.front() {
                if inner.send(now, *id, *channel, message) == Err(SendError::QueueFull) {
                    return true;
                }
                connection.left(message.len());
                connection.refused.pop_front();
            }
            false
        });
        outgoing.poll(horizon, &mut |Outgoing { connection: id, channel }, message| {
            let Some(connection) = connections.get_mut(id) else { return };
            if !is_ordered(*channel) {
                let _ = inner.send(now, *id, *channel, message);
                return;
            }
            if connection.refused.is_empty() {
                if inner.send(now, *id, *channel, message) != Err(SendError::QueueFull) {
                    return connection.left(message.len());
                }
                blocked.push(*id);
            }
            connection.refused.push_back((*channel, message.to_vec()));
        });
        self.closing.retain(|closing| {
            let Some(connection) = connections.get(&closing.connection) else { return false };
            let flushed = connection.waiting_messages == 0 && closing.due <= horizon;
            if !flushed && closing.deadline > horizon {
                return true;
            }
            inner.disconnect(now, closing.connection, &closing.reason, closing.deadline.since(now.mono));
            false
        });
    }
}

impl Connection {
    fn left(&mut self, bytes: usize) {
        self.waiting_messages -= 1;
        self.waiting_bytes -= bytes;
    }
}

/// Puts on its way what the driver has just reported.
fn take_in(
    queue: &mut LinkQueue<Event>,
    connections: &mut HashMap<ConnectionId, Connection>,
    vacant: &mut HashMap<u32, Mono>,
    now: Mono,
    incoming: &Incoming<'_>,
    sink: &mut dyn FnMut(Incoming<'_>),
) {
    let (id, event, bytes, ordered) = match *incoming {
        Incoming::Accepted { connection, address, identity } => {
            let identity = identity.cloned().map(Arc::new);
            (connection, Event::Accepted { connection, address, identity }, [].as_slice(), true)
        }
        Incoming::Connected { connection } => (connection, Event::Connected { connection }, [].as_slice(), true),
        Incoming::Message { connection, channel, bytes } => {
            (connection, Event::Message { connection, channel }, bytes, is_ordered(channel))
        }
        Incoming::Disconnected { connection, ref reason } => {
            let reason = reason.clone();
            (connection, Event::Disconnected { connection, reason }, [].as_slice(), true)
        }
    };
    if queue.is_transparent() {
        return deliver(connections, &event, bytes, sink);
    }
    if !ordered {
        if let Fate::Arrives { due, copy } = queue.fate(now, bytes.len()) {
            queue.push_at(due, event.clone(), bytes);
            if let Some(copy) = copy {
                queue.push_at(copy, event, bytes);
            }
        }
        return;
    }
    let connection = connections.entry(id).or_default();
    connection.arriving |= matches!(event, Event::Accepted { .. });
    let mut due = ordered_due(queue, now, bytes.len()).max(connection.received_until);
    match event {
        Event::Accepted { .. } => due = vacant.get(&id.index).map_or(due, |&vacant| due.max(vacant)),
        Event::Disconnected { .. } => _ = vacant.insert(id.index, due),
        _ => {}
    }
    connection.received_until = due;
    if !queue.push_at(due, event.clone(), bytes) {
        // The queue is full to its bound. A promise of delivery is worth more than the delay.
        deliver(connections, &event, bytes, sink);
    }
}

/// Whether the messages of `channel` keep their order and are all delivered.
fn is_ordered(channel: ChannelId) -> bool {
    !matches!(channel, ChannelId::UNRELIABLE | ChannelId::UNRELIABLE_FRAGMENTED)
}

/// When a message arrives that is sent again whenever it is lost.
fn ordered_due<T: Clone>(queue: &mut LinkQueue<T>, now: Mono, len: usize) -> Mono {
    let profile = queue.profile();
    queue.due_of_reliable(now, len, RETRANSMIT.max(profile.delay * 2 + profile.jitter * 4))
}

/// Reports one event, unless what came before it makes it meaningless.
fn deliver(
    connections: &mut HashMap<ConnectionId, Connection>,
    event: &Event,
    bytes: &[u8],
    sink: &mut dyn FnMut(Incoming<'_>),
) {
    match event {
        Event::Accepted { connection, address, identity } => {
            let held = connections.entry(*connection).or_default();
            if held.refused_entry {
                return;
            }
            held.arriving = false;
            held.open = true;
            sink(Incoming::Accepted { connection: *connection, address: *address, identity: identity.as_deref() });
        }
        Event::Connected { connection } => {
            let held = connections.entry(*connection).or_default();
            held.open = true;
            if !held.closing {
                sink(Incoming::Connected { connection: *connection });
            }
        }
        // An unreliable message may overtake the beginning and be overtaken by the end.
        Event::Message { connection, channel } => {
            if connections.get(connection).is_some_and(|held| held.open && !held.closing) {
                sink(Incoming::Message { connection: *connection, channel: *channel, bytes });
            }
        }
        Event::Disconnected { connection, reason } => {
            if connections.remove(connection).is_some_and(|held| held.refused_entry) {
                return;
            }
            sink(Incoming::Disconnected { connection: *connection, reason: reason.clone() });
        }
    }
}

impl<D: NetworkDriver> NetworkDriver for Simulated<D> {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn listen(&mut self, now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        self.inner.listen(now, endpoint)
    }

    fn stop_listening(&mut self, now: Now) {
        self.inner.stop_listening(now);
        // Whoever is not in yet stays out.
        let reason = DisconnectReason::local(DisconnectCode::Refused);
        let arriving = self.connections.iter_mut().filter(|(_, connection)| connection.arriving);
        let mut late: Vec<ConnectionId> = arriving
            .map(|(&id, connection)| {
                connection.arriving = false;
                connection.refused_entry = true;
                id
            })
            .collect();
        late.sort_unstable();
        for id in late {
            self.inner.disconnect(now, id, &reason, Duration::ZERO);
        }
    }

    fn listening(&self) -> Option<Endpoint> {
        self.inner.listening()
    }

    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        if !self.closing.is_empty() {
            // Who leaves and comes back at once finds the driver free: what is still to leave does so now.
            self.pump_until(now, Mono::from_nanos(u64::MAX));
        }
        let id = self.inner.connect(now, endpoint, credentials)?;
        if !self.by_packets {
            self.connections.insert(id, Connection::default());
        }
        Ok(id)
    }

    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        if self.by_packets {
            return self.inner.receive(now, sink);
        }
        self.pump(now);
        let Self { inner, incoming: queue, connections, vacant, .. } = self;
        queue.poll(now.mono, &mut |event, bytes| deliver(connections, event, bytes, sink));
        inner.receive(now, &mut |incoming| take_in(queue, connections, vacant, now.mono, &incoming, sink));
        queue.poll(now.mono, &mut |event, bytes| deliver(connections, event, bytes, sink));
    }

    fn send(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        if self.by_packets {
            return self.inner.send(now, connection, channel, message);
        }
        let (id, size) = (connection, message.len());
        let connection = self.connections.get_mut(&id).ok_or(SendError::NotConnected)?;
        if connection.closing {
            return Err(SendError::NotConnected);
        }
        if !connection.open {
            return Err(SendError::NotReady);
        }
        if connection.waiting_messages == 0 && self.outgoing.is_transparent() {
            return self.inner.send(now, id, channel, message);
        }
        if self.inner.stats(id).is_none() {
            return Err(SendError::NotConnected);
        }
        match self.inner.max_message(channel) {
            0 => return Err(SendError::UnknownChannel(channel)),
            limit if size > limit => return Err(SendError::TooLarge { size, limit }),
            _ => {}
        }
        let tag = Outgoing { connection: id, channel };
        if !is_ordered(channel) {
            if let Fate::Arrives { due, copy } = self.outgoing.fate(now.mono, size) {
                self.outgoing.push_at(due, tag, message);
                if let Some(copy) = copy {
                    self.outgoing.push_at(copy, tag, message);
                }
            }
            return Ok(());
        }
        if connection.waiting_messages >= RELIABLE_MESSAGES || connection.waiting_bytes + size > RELIABLE_BYTES {
            return Err(SendError::QueueFull);
        }
        let due = ordered_due(&mut self.outgoing, now.mono, size).max(connection.sent_until);
        if !self.outgoing.push_at(due, tag, message) {
            return Err(SendError::QueueFull);
        }
        connection.sent_until = due;
        connection.waiting_messages += 1;
        connection.waiting_bytes += size;
        Ok(())
    }

    fn flush(&mut self, now: Now) {
        self.pump(now);
        self.inner.flush(now);
    }

    fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        let known = self.connections.get_mut(&connection).filter(|held| !held.closing);
        if self.by_packets {
            return self.inner.disconnect(now, connection, reason, linger);
        }
        let Some(held) = known else { return };
        held.closing = true;
        if linger.is_zero() || !held.open || (held.waiting_messages == 0 && self.outgoing.is_transparent()) {
            return self.inner.disconnect(now, connection, reason, linger);
        }
        let due = ordered_due(&mut self.outgoing, now.mono, 0).max(held.sent_until);
        let deadline = now.mono + linger;
        self.closing.push(Closing { connection, reason: reason.clone(), due, deadline });
    }

    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        let mut stats = self.inner.stats(connection)?;
        stats.reliable_queued += self.connections.get(&connection).map_or(0, |held| held.waiting_bytes);
        Some(stats)
    }

    fn is_idle(&self) -> bool {
        self.has_nothing_under_way() && self.inner.is_idle()
    }

    fn works_alone(&self) -> bool {
        self.by_packets && self.inner.works_alone()
    }

    fn channels(&self) -> &ChannelTable {
        self.inner.channels()
    }

    fn max_message(&self, channel: ChannelId) -> usize {
        self.inner.max_message(channel)
    }

    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.inner.metrics(report);
    }

    fn packet_simulator(&mut self) -> Option<&mut super::LinkSimulator> {
        self.inner.packet_simulator()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
