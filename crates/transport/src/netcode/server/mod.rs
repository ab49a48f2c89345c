//! The server's machine.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

mod admission;
mod ahead;
mod budgets;
mod connection;
mod event;
mod screen;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use self::ahead::Ahead;
use self::connection::{Connection, InboundRates, Leaving, Phase};
pub use self::event::{Event, IdentityPolicy, Received, ServerConfig};
use self::screen::Handshakes;
use super::counters::{Counter, Counters};
use super::packet::{self, Header, Malformed, PacketType};
use super::pending::HandshakeId;
use super::table::{AddressKey, KeyedMap, KeyedState};
use super::{Farewell, GOODBYE_LIFE, KeyRing, LARGEST_BODY, MAX_BODY_IN, Transmit};
use crate::crypto::Drbg;
use crate::limits::Limits;
use crate::look::Look;
use crate::mutants::mutant;
use crate::{ConnectionId, DisconnectCode, DisconnectReason, Identity, Mono, Now, Random};

/// How long the layer above has to tell a peer why its connection ended, before the farewells begin.
const PARTING: Duration = Duration::from_secs(1);

/// A server of NETCODE 1.02: knows who is connected and keeps everybody else cheap.
///
/// Calling order: see the [module](super). Datagrams that have arrived must be handled before `tick` at the same time:
/// a server that was asleep would otherwise see silence where there was none.
///
/// Nobody costs memory before the response to a challenge was authentic, and no datagram to an unproven address is
/// larger than what came from there.
#[derive(Debug)]
pub struct Server {
    handshakes: Handshakes,
    limits: Limits,
    inbound: InboundRates,
    slots: Vec<Slot>,
    /// The generation that a new slot starts with.
    first_generation: u32,
    /// Free slots, lowest first: indices stay dense.
    free: BinaryHeap<Reverse<u32>>,
    /// Connections that are not leaving.
    live: usize,
    live_high_water: usize,
    by_address: KeyedMap<AddressKey, u32>,
    ahead: Ahead,
    by_identity: KeyedMap<u64, u32>,
    /// Due times, soonest first. An entry that is not its connection's `scheduled` is a leftover.
    timers: BinaryHeap<Reverse<(Mono, ConnectionId)>>,
    outbox: VecDeque<Outgoing>,
    events: VecDeque<Event>,
    counters: Counters,
    random: Drbg,
    ticks: u64,
    /// Datagrams that were not an authentic packet of a connection.
    strangers: u64,
    /// The largest payload that is taken.
    max_body: usize,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// A datagram that will be made when it can leave.
#[derive(Debug)]
enum Outgoing {
    Challenge(HandshakeId),
    Denied(Box<screen::Denial>),
    KeepAlive(ConnectionId),
    Farewell(ConnectionId),
}

impl Server {
    /// A server that starts `now`; tokens issued before are refused. `random` seeds its secrets and must be fit for that
    /// in production.
    pub fn new(config: ServerConfig, limits: &Limits, random: &mut dyn Random, now: Now) -> Self {
        Self {
            by_address: KeyedMap::with_hasher(KeyedState::new(random)),
            ahead: Ahead::default(),
            by_identity: KeyedMap::with_hasher(KeyedState::new(random)),
            first_generation: config.first_generation,
            handshakes: Handshakes::new(config, limits, random, now),
            limits: limits.clone(),
            inbound: InboundRates::new(limits),
            slots: Vec::new(),
            free: BinaryHeap::new(),
            live: 0,
            live_high_water: 0,
            timers: BinaryHeap::new(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::new(),
            random: Drbg::new(random),
            ticks: 0,
            strangers: 0,
            max_body: MAX_BODY_IN,
        }
    }

    /// Takes payloads of up to `bytes` from now on, 1200 to [`LARGEST_BODY`]; peers of the standard send no more than 1200,
    /// and more is dropped by default.
    pub fn set_max_body(&mut self, bytes: usize) {
        self.max_body = bytes.clamp(MAX_BODY_IN, LARGEST_BODY);
    }

    /// The largest payload that is taken, in bytes.
    pub const fn max_body(&self) -> usize {
        self.max_body
    }

    /// A datagram from `from` is about to be handled, behind others of which the same was said before the first of them
    /// was. Saves time where there are many connections, and changes nothing else.
    pub fn expect(&mut self, from: SocketAddr) {
        let Self { ahead, by_address, .. } = self;
        ahead.note(|| by_address.get(&AddressKey::new(from)).copied());
    }

    /// The indices of the connections that are [expected](Self::expect) to have sent.
    pub(crate) fn expected(&self) -> impl Iterator<Item = u32> + Clone + '_ {
        self.ahead.coming()
    }

    /// Takes a datagram that arrived from `from`, and opens it where it lies.
    #[inline]
    pub fn handle_datagram<'d>(&mut self, now: Now, from: SocketAddr, datagram: &'d mut [u8]) -> Received<'d> {
        match self.receive(now, from, datagram) {
            Ok(Received::Nothing) => self.strangers += 1,
            Ok(received) => return received,
            Err(counter) => {
                self.strangers += 1;
                self.counters.add(counter);
            }
        }
        Received::Nothing
    }

    /// How many datagrams so far were anything but an authentic packet of a connection: what strangers have us do.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Strangers have had their share of time: until the next [`tick`](Self::tick) none of their tokens is opened. For
    /// whoever has a clock; the machine itself limits their number only.
    pub fn spend_on_strangers(&mut self) {
        self.handshakes.budgets.spend();
    }

    #[inline]
    fn receive<'d>(&mut self, now: Now, from: SocketAddr, datagram: &'d mut [u8]) -> Result<Received<'d>, Counter> {
        if datagram.first() == Some(&(PacketType::Request as u8)) {
            self.handle_request(now, from, datagram)?;
            return Ok(Received::Nothing);
        }
        let header = Header::parse(datagram, self.max_body).map_err(|malformed| match malformed {
            Malformed::Size => Counter::PacketSize,
            Malformed::Type => Counter::PacketType,
            Malformed::Sequence => Counter::PacketSequence,
        })?;
        match header.kind {
            PacketType::KeepAlive | PacketType::Payload | PacketType::Disconnect => {
                self.handle_packet(now, from, header, datagram)
            }
            PacketType::Response => {
                self.handle_response(now, from, header, datagram)?;
                Ok(Received::Nothing)
            }
            PacketType::Request => Err(Counter::RequestPrefix),
            // What servers send is never an input: two servers cannot be set to answer each other.
            PacketType::Denied | PacketType::Challenge => Err(Counter::PacketRole),
        }
    }

    /// The connection with this address, of which there is one at most.
    #[inline]
    fn index_of(&mut self, key: AddressKey) -> Option<u32> {
        let Self { ahead, slots, by_address, .. } = self;
        let is = |index| at(slots, index).is_some_and(|connection| connection.key() == key);
        ahead.find(is).or_else(|| by_address.get(&key).copied())
    }

    /// A packet of a connection: the reading order from step 4 on.
    fn handle_packet<'d>(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: Header,
        datagram: &'d mut [u8],
    ) -> Result<Received<'d>, Counter> {
        if mutant(28) {
            self.by_address.entry(AddressKey::new(from)).or_insert(u32::MAX);
        }
        let index = self.index_of(AddressKey::new(from)).ok_or(Counter::PacketUnknownPeer)?;
        let slot = self.slots.get_mut(index as usize).ok_or(Counter::PacketUnknownPeer)?;
        let id = ConnectionId { index, generation: slot.generation };
        let connection = slot.connection.as_deref_mut().ok_or(Counter::PacketUnknownPeer)?;
        let size = datagram.len();
        if !connection.may_receive(now.mono, &self.inbound, size) {
            let over = connection.note_over_rate(now.mono);
            if over >= self.limits.flood_after && !connection.is_leaving() {
                self.counters.add(Counter::Flooded);
                self.end(now.mono, id, DisconnectReason::local(DisconnectCode::Flood), true);
            }
            return Err(Counter::PacketRate);
        }
        if !connection.may_try_forgery(self.ticks, self.limits.forgeries_per_tick) {
            return Err(Counter::PacketForgeryBudget);
        }
        let body = match connection.session.open(now.mono, header, datagram, self.max_body) {
            Ok(body) => body,
            Err(counter) => {
                if counter == Counter::PacketOpenFailed {
                    connection.note_forgery(self.ticks);
                    if connection.session.is_worn_out() && !connection.is_leaving() {
                        self.end(now.mono, id, DisconnectReason::link(DisconnectCode::LinkError), false);
                    }
                }
                return Err(counter);
            }
        };
        connection.charge(now.mono, &self.inbound, size);
        if header.kind == PacketType::Disconnect {
            if connection.is_leaving() {
                self.free(id);
            } else {
                self.counters.add(Counter::RemoteClosed);
                self.end(now.mono, id, DisconnectReason::remote(DisconnectCode::ConnectionClose), false);
            }
            return Ok(Received::Nothing);
        }
        if connection.phase == Phase::Unconfirmed {
            connection.phase = Phase::Established;
            self.events.push_back(Event::Confirmed { connection: id });
        }
        Ok(match header.kind {
            PacketType::Payload => Received::Payload { connection: id, body },
            _ => Received::KeepAlive { connection: id },
        })
    }

    /// Whether the client may not know yet that it is connected: a keep-alive goes before every payload then, which
    /// [`announce`](Self::announce) makes.
    pub fn is_unconfirmed(&self, connection: ConnectionId) -> bool {
        self.connection(connection).is_some_and(|connection| connection.phase == Phase::Unconfirmed)
    }

    /// Looks at what opening a packet of this connection needs.
    #[inline]
    pub(crate) fn look_to_open(&self, index: u32, look: &mut impl Look) {
        if let Some(connection) = at(&self.slots, index) {
            connection.look_to_open(look);
        }
    }

    /// The same for sealing one.
    #[inline]
    pub(crate) fn look_to_seal(&self, index: u32, look: &mut impl Look) {
        if let Some(connection) = at(&self.slots, index) {
            connection.look_to_seal(look);
        }
    }

    /// A keep-alive that tells the client that it is connected, at the start of `buf`, which has at least 64 bytes.
    /// `None` for unknown connections.
    pub fn announce(&mut self, now: Now, connection: ConnectionId, buf: &mut [u8]) -> Option<Transmit> {
        let body = self.keep_alive_body(connection);
        let connection = self.connection_mut(connection)?;
        let len = connection.session.seal_small(now.mono, PacketType::KeepAlive, buf, &body)?;
        Some(Transmit { to: connection.address, len })
    }

    /// Seals a payload whose body the caller has written at `buf[HEADROOM..HEADROOM + body_len]`, and writes the header
    /// right before it. Returns where the datagram lies in `buf` and where it goes.
    ///
    /// `body_len` is 1 to [`LARGEST_BODY`], and `buf` has [`TAILROOM`](super::TAILROOM) bytes behind the body. `None` if the connection is unknown, or over and out of words.
    #[inline]
    pub fn seal_payload(
        &mut self,
        now: Now,
        connection: ConnectionId,
        buf: &mut [u8],
        body_len: usize,
    ) -> Option<(SocketAddr, Range<usize>)> {
        debug_assert!((1..=LARGEST_BODY).contains(&body_len));
        let connection = self.connection_mut(connection)?;
        if let Phase::Leaving(leaving) = &mut connection.phase
            && !leaving.take()
        {
            return None;
        }
        let range = connection.session.seal(now.mono, PacketType::Payload, buf, body_len)?;
        Some((connection.address, range))
    }

    /// The next datagram of the protocol's own, at the start of `buf`, which has at least
    /// [`MAX_DATAGRAM_OUT`](super::MAX_DATAGRAM_OUT) bytes.
    pub fn poll_transmit(&mut self, now: Now, buf: &mut [u8]) -> Option<Transmit> {
        while let Some(outgoing) = self.outbox.pop_front() {
            let transmit = match outgoing {
                Outgoing::Challenge(id) => self.handshakes.write_challenge(id, buf),
                Outgoing::Denied(denial) => self.handshakes.write_denial(&denial, buf),
                Outgoing::KeepAlive(id) => {
                    if let Some(connection) = self.connection_mut(id) {
                        connection.keep_alive_queued = false;
                    }
                    self.announce(now, id, buf)
                }
                Outgoing::Farewell(id) => self.write_farewell(now, id, buf),
            };
            if transmit.is_some() {
                return transmit;
            }
        }
        None
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Lets everything act that is due: keep-alives, silence, unfinished handshakes, farewells.
    pub fn tick(&mut self, now: Now) {
        self.ticks = self.ticks.wrapping_add(1);
        for _ in 0..self.handshakes.tick(now) {
            self.counters.add(Counter::PendingExpired);
        }
        while let Some(&Reverse((due, id))) = self.timers.peek()
            && due <= now.mono
        {
            self.timers.pop();
            match self.connection_mut(id) {
                Some(connection) if connection.scheduled == Some(due) => connection.scheduled = None,
                _ => continue,
            }
            self.act(now.mono, id);
            self.schedule(id);
        }
    }

    /// When [`tick`](Self::tick) or [`poll_transmit`](Self::poll_transmit) has something to do at the latest; the origin
    /// of time if at once.
    pub fn poll_timeout(&self) -> Option<Mono> {
        if !self.outbox.is_empty() {
            return Some(Mono::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((due, _))| *due);
        [timer, self.handshakes.next_expiry()].into_iter().flatten().min()
    }

    /// Leaves a connection: nothing of it is reported any more but `Freed`, and payloads can be sealed and arrive only
    /// until then. Closing what is over already only changes how long it lingers.
    pub fn close(&mut self, now: Now, connection: ConnectionId, farewell: Farewell) {
        let until = now.mono + GOODBYE_LIFE;
        let leaving = match farewell {
            Farewell::Goodbye => Leaving::with_farewells(now.mono, until),
            Farewell::Linger(duration) => Leaving::silent(now.mono + duration),
            Farewell::Silent => {
                self.retire(connection);
                self.free(connection);
                return;
            }
        };
        self.leave(connection, leaving);
    }

    /// Lets all farewells of connections that are over leave at once: the process is about to end.
    pub fn hurry_goodbyes(&mut self) {
        for index in 0..self.slots.len() {
            if let Some(id) = self.id(index as u32) {
                self.hurry_goodbye(id);
            }
        }
    }

    /// The same of one connection.
    pub fn hurry_goodbye(&mut self, connection: ConnectionId) {
        let phase = self.connection_mut(connection).map(|connection| &mut connection.phase);
        let Some(Phase::Leaving(leaving)) = phase else { return };
        for _ in 0..std::mem::take(&mut leaving.farewells) {
            self.outbox.push_back(Outgoing::Farewell(connection));
        }
    }

    /// Whether new clients are let in. Those who knock at a closed server learn that it refused them; those who are
    /// connected stay.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.handshakes.set_accepting(accepting);
    }

    /// The keys in force, for rotation; see [`KeyRing`].
    pub fn keys_mut(&mut self) -> &mut KeyRing {
        self.handshakes.keys_mut()
    }

    /// The addresses that tokens must name one of; see [`ServerConfig::addresses`].
    pub fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        self.handshakes.set_addresses(addresses);
    }

    /// Changes the limits in force.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.limits = limits.clone();
        self.inbound = InboundRates::new(limits);
        self.handshakes.set_limits(limits);
    }

    /// Who a connection belongs to; `None` if it is unknown.
    pub fn identity(&self, connection: ConnectionId) -> Option<&Identity> {
        self.connection(connection).map(|connection| &connection.identity)
    }

    /// Where the peer of a connection is; `None` if it is unknown.
    pub fn address(&self, connection: ConnectionId) -> Option<SocketAddr> {
        self.connection(connection).map(|connection| connection.address)
    }

    /// When the peer last proved to be there; `None` if it is unknown.
    pub fn last_received(&self, connection: ConnectionId) -> Option<Mono> {
        self.connection(connection).map(|connection| connection.session.last_received)
    }

    /// Connections that are not over.
    pub fn connections(&self) -> usize {
        self.live
    }

    /// One counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.of(counter)
    }

    /// All counters, and the fill of all tables with the highest so far.
    pub fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.counters.report(report);
        report("connections", self.live as u64);
        report("connections_high", self.live_high_water as u64);
        let taken = self.slots.len() - self.free.len();
        report("goodbyes", (taken - self.live) as u64);
        report("addresses", self.by_address.len() as u64);
        self.handshakes.report(report);
    }

    /// A generation that is above those of all ids that this server has given.
    pub fn unused_generation(&self) -> u32 {
        let highest = self.slots.iter().map(|slot| slot.generation).max();
        highest.map_or(self.first_generation, |highest| highest.wrapping_add(1))
    }

    fn id(&self, index: u32) -> Option<ConnectionId> {
        let slot = self.slots.get(index as usize)?;
        slot.connection.as_ref()?;
        Some(ConnectionId { index, generation: slot.generation })
    }

    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.index as usize)?;
        if slot.generation == id.generation { slot.connection.as_deref() } else { None }
    }

    #[inline]
    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.connection.as_deref_mut() } else { None }
    }

    /// What a timer of a connection asks for.
    fn act(&mut self, now: Mono, id: ConnectionId) {
        let Some(Slot { connection: Some(connection), .. }) = self.slots.get_mut(id.index as usize) else { return };
        match &mut connection.phase {
            Phase::Leaving(leaving) if now >= leaving.until => self.free(id),
            Phase::Leaving(leaving) => {
                if leaving.take_farewell(now) {
                    self.outbox.push_back(Outgoing::Farewell(id));
                }
            }
            _ => {
                if now >= connection.session.last_received + connection.idle_timeout(&self.limits) {
                    self.counters.add(Counter::TimedOut);
                    self.end(now, id, DisconnectReason::link(DisconnectCode::Timeout), false);
                } else if let Some(reason) = connection.session.used_up() {
                    self.end(now, id, reason, true);
                } else if now >= connection.session.last_sent + connection.keep_alive_interval(&self.limits) {
                    self.queue_keep_alive(now, id);
                }
            }
        }
    }

    fn queue_keep_alive(&mut self, now: Mono, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        // Counts as sent from now on, or its timer would be due again at once.
        connection.session.last_sent = now;
        if !std::mem::replace(&mut connection.keep_alive_queued, true) {
            self.outbox.push_back(Outgoing::KeepAlive(id));
        }
    }

    fn write_farewell(&mut self, now: Now, id: ConnectionId, buf: &mut [u8]) -> Option<Transmit> {
        let connection = self.connection_mut(id)?;
        let Phase::Leaving(leaving) = &mut connection.phase else { return None };
        if !leaving.take() {
            return None;
        }
        let len = connection.session.seal_small(now.mono, PacketType::Disconnect, buf, &[])?;
        Some(Transmit { to: connection.address, len })
    }

    fn keep_alive_body(&self, id: ConnectionId) -> [u8; packet::KEEP_ALIVE_BODY] {
        let mut body = [0; packet::KEEP_ALIVE_BODY];
        let (index, most) = body.split_at_mut(4);
        index.copy_from_slice(&id.index.to_le_bytes());
        most.copy_from_slice(&(self.limits.connections as u32).to_le_bytes());
        body
    }

    /// Puts the connection's next due time into the timer queue, if none that is as early is there.
    fn schedule(&mut self, id: ConnectionId) {
        let Some(slot) = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation) else {
            return;
        };
        let Some(connection) = &mut slot.connection else { return };
        let due = connection.next_due(&self.limits);
        if connection.scheduled.is_none_or(|scheduled| due < scheduled) {
            connection.scheduled = Some(due);
            self.timers.push(Reverse((due, id)));
        }
    }

    /// Ends a connection that the layer above has not closed. If the peer may be `listening`, the keys stay for a while,
    /// so that it can be told why.
    fn end(&mut self, now: Mono, id: ConnectionId, reason: DisconnectReason, listening: bool) {
        self.events.push_back(Event::Closed { connection: id, reason });
        if listening {
            self.leave(id, Leaving::with_farewells(now + PARTING, now + PARTING + GOODBYE_LIFE));
        } else {
            self.retire(id);
            self.free(id);
        }
    }

    fn leave(&mut self, id: ConnectionId, leaving: Leaving) {
        self.retire(id);
        let Some(connection) = self.connection_mut(id) else { return };
        let datagrams = match connection.phase {
            Phase::Leaving(before) => before.datagrams,
            _ => leaving.datagrams,
        };
        connection.phase = Phase::Leaving(Leaving { datagrams, ..leaving });
        connection.scheduled = None;
        self.schedule(id);
    }

    /// Takes a connection out of the tables of the living. Does nothing if it is leaving already.
    fn retire(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id).filter(|connection| !connection.is_leaving()) else { return };
        let client_id = connection.identity.client_id;
        self.live -= 1;
        if self.by_identity.get(&client_id) == Some(&id.index) {
            self.by_identity.remove(&client_id);
        }
    }

    /// Makes the slot of a retired connection free.
    fn free(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let key = connection.key();
        if self.by_address.get(&key) == Some(&id.index) {
            self.by_address.remove(&key);
        }
        if let Some(slot) = self.slots.get_mut(id.index as usize) {
            slot.connection = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(Reverse(id.index));
            self.events.push_back(Event::Freed { connection: id });
        }
    }
}

/// Whoever has the slot of this index.
fn at(slots: &[Slot], index: u32) -> Option<&Connection> {
    slots.get(index as usize)?.connection.as_deref()
}
