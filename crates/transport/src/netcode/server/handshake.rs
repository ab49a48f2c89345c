//! From a stranger's request to a connection.

use std::cmp::Reverse;
use std::net::SocketAddr;

use super::connection::{Connection, Leaving, Phase};
use super::{Event, IdentityPolicy, Outgoing, PARTING, Server, ServerConfig, Slot};
use crate::crypto::{Aead, Cipher, Key};
use crate::limits::Limits;
use crate::netcode::budget::{Bucket, Rate, SharedBuckets};
use crate::netcode::challenge::Challenger;
use crate::netcode::consumed::Consumed;
use crate::netcode::counters::Counter;
use crate::netcode::keys::{CLOCK_TOLERANCE, KeyKind};
use crate::netcode::packet::{self, BadRequest, CHALLENGE_BODY, CHALLENGE_BYTES, Header, PacketType, Request};
use crate::netcode::pending::{HANDSHAKE_LIFE, Handshake, HandshakeId, Inserted, Pending};
use crate::netcode::session::Session;
use crate::netcode::table::AddressKey;
use crate::netcode::token::PrivateToken;
use crate::netcode::{GOODBYE_LIFE, KeyRing, Transmit, token_timeout};
use crate::{ConnectionId, DisconnectCode, DisconnectReason, Identity, Mono, Now, Random, Wall};

/// The largest response that has a body of the right size.
const MAX_RESPONSE: usize = 1 + 8 + CHALLENGE_BODY + crate::crypto::TAG_BYTES;

/// Denials that wait to be sent. More are not worth it: the client asks again in 100 ms.
const MAX_DENIALS: usize = 64;

/// Places for the networks of strangers, and for the identities that have joined lately.
const NETWORK_PLACES: usize = 4096;
const IDENTITY_PLACES: usize = 16_384;

/// 2025-01-01, in seconds since the Unix epoch: what sequence numbers of connections count from (H3).
const EPOCH: u64 = 1_735_689_600;

/// What a server knows of those who are not connected.
#[derive(Debug)]
pub(super) struct Handshakes {
    keys: KeyRing,
    addresses: Vec<AddressKey>,
    policy: IdentityPolicy,
    lifetime: u64,
    start: Now,
    accepting: bool,
    pending: Pending,
    consumed: Consumed,
    challenger: Challenger,
    /// The number of the next challenge or denial: in the upper half, where no connection's numbers are (H3).
    global_sequence: u64,
    budgets: Budgets,
    /// Denials in the outbox.
    denials: usize,
    /// How far the last token's clock was ahead of ours, in seconds.
    clock_ahead: u64,
}

/// What strangers may make us do.
#[derive(Debug)]
struct Budgets {
    addresses_per_token: usize,
    tokens_per_address: usize,
    packets_per_tick: u32,
    packets_left: u32,
    opens: (Bucket, Rate),
    replies: (Bucket, Rate),
    network_replies: (SharedBuckets, Rate),
    identity_joins: (SharedBuckets, Rate),
}

impl Budgets {
    fn new(limits: &Limits, random: &mut dyn Random) -> Self {
        let none = Rate::new(1, 1);
        let mut budgets = Self {
            addresses_per_token: 0,
            tokens_per_address: 0,
            packets_per_tick: 0,
            packets_left: limits.unauthenticated_packets,
            opens: (Bucket::default(), none),
            replies: (Bucket::default(), none),
            network_replies: (SharedBuckets::new(NETWORK_PLACES, random), none),
            identity_joins: (SharedBuckets::new(IDENTITY_PLACES, random), none),
        };
        budgets.set_limits(limits);
        budgets
    }

    fn set_limits(&mut self, limits: &Limits) {
        self.addresses_per_token = limits.addresses_per_token.max(1);
        self.tokens_per_address = limits.tokens_per_address.max(1);
        self.packets_per_tick = limits.unauthenticated_packets;
        // Bursts of a tenth of a second: a long frame must not throw away honest requests.
        let per_second = |rate: u32| Rate::new(rate.into(), (rate / 10).into());
        self.opens.1 = per_second(limits.token_opens);
        self.replies.1 = per_second(limits.replies);
        self.network_replies.1 = Rate::new(limits.replies_per_network.into(), limits.replies_per_network.into());
        self.identity_joins.1 = Rate::per_window(limits.identity_joins.into(), limits.identity_window);
    }

    fn take_packet(&mut self) -> bool {
        let left = self.packets_left.checked_sub(1);
        self.packets_left = left.unwrap_or(0);
        left.is_some()
    }

    fn may_reply(&mut self, now: Mono, to: SocketAddr) -> bool {
        let (replies, rate) = &self.replies;
        let (networks, network_rate) = &mut self.network_replies;
        replies.has(now, rate, 1) && (is_loopback(to) || networks.of_network(to).has(now, network_rate, 1))
    }

    fn charge_reply(&mut self, now: Mono, to: SocketAddr) {
        let (replies, rate) = &mut self.replies;
        let (networks, network_rate) = &mut self.network_replies;
        replies.charge(now, rate, 1);
        networks.of_network(to).charge(now, network_rate, 1);
    }
}

/// Loopback cannot be feigned from outside: kernels drop such packets at the door.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A "denied" (type 1) that waits to be sent.
#[derive(Debug)]
pub(super) struct Denial {
    to: SocketAddr,
    protocol_id: u64,
    key: Key,
}

impl Handshakes {
    pub(super) fn new(config: ServerConfig, limits: &Limits, random: &mut dyn Random, now: Now) -> Self {
        let (seal, tag) = (Key::random(random), Key::random(random));
        let mut handshakes = Self {
            keys: config.keys,
            addresses: Vec::new(),
            policy: config.identities,
            lifetime: config.token_lifetime.as_secs().max(1),
            start: now,
            accepting: true,
            pending: Pending::new(limits.pending_handshakes, random),
            consumed: Consumed::new(limits.consumed_tokens, random),
            challenger: Challenger::new(&seal, tag),
            global_sequence: 1 << 63 | random.u64() >> 2,
            budgets: Budgets::new(limits, random),
            denials: 0,
            clock_ahead: 0,
        };
        handshakes.set_addresses(&config.addresses);
        handshakes
    }

    pub(super) fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }

    pub(super) fn keys_mut(&mut self) -> &mut KeyRing {
        &mut self.keys
    }

    pub(super) fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        self.addresses = addresses.iter().copied().map(AddressKey::new).collect();
    }

    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.pending.set_capacity(limits.pending_handshakes);
        self.consumed.set_capacity(limits.consumed_tokens);
        self.budgets.set_limits(limits);
    }

    /// Returns how many handshakes took too long.
    pub(super) fn tick(&mut self, now: Now) -> usize {
        self.budgets.packets_left = self.budgets.packets_per_tick;
        self.consumed.expire(now.wall);
        self.pending.expire(now.mono)
    }

    pub(super) fn next_expiry(&self) -> Option<Mono> {
        self.pending.next_expiry()
    }

    pub(super) fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("pending_handshakes", self.pending.len() as u64);
        report("pending_handshakes_high", self.pending.high_water() as u64);
        report("consumed_tokens", self.consumed.len() as u64);
        report("consumed_tokens_high", self.consumed.high_water() as u64);
        report("token_clock_ahead_seconds", self.clock_ahead);
    }

    pub(super) fn write_challenge(&mut self, id: HandshakeId, buf: &mut [u8]) -> Option<Transmit> {
        let handshake = self.pending.get_mut(id)?;
        handshake.challenge_queued = false;
        let mut sealed = [0; CHALLENGE_BYTES];
        let number = self.challenger.make(&handshake.binding(), &handshake.user_data, &mut sealed);
        let mut body = [0; CHALLENGE_BODY];
        body[..8].copy_from_slice(&number.to_le_bytes());
        body[8..].copy_from_slice(&sealed);
        let cipher = Cipher::new(&handshake.server_to_client);
        let sequence = self.global_sequence;
        self.global_sequence += 1;
        let len =
            packet::seal_small(&cipher, handshake.protocol_id, PacketType::Challenge, sequence, buf, &body);
        Some(Transmit { to: handshake.address, len })
    }

    pub(super) fn write_denial(&mut self, denial: &Denial, buf: &mut [u8]) -> Option<Transmit> {
        self.denials = self.denials.saturating_sub(1);
        let sequence = self.global_sequence;
        self.global_sequence += 1;
        let cipher = Cipher::new(&denial.key);
        let len = packet::seal_small(&cipher, denial.protocol_id, PacketType::Denied, sequence, buf, &[]);
        Some(Transmit { to: denial.to, len })
    }

    /// Until when a token with this expiry may be shown, if it may now (step 4, H4).
    fn acceptable_until(&mut self, kind: KeyKind, expiry: u64, now: Wall) -> Result<u64, Counter> {
        let tolerance = match kind {
            KeyKind::Issuer => 0,
            KeyKind::JoinCode => CLOCK_TOLERANCE.as_secs(),
        };
        let now = now.as_unix();
        let until = expiry.saturating_add(tolerance);
        let latest = now.saturating_add(self.lifetime);
        if until <= now {
            return Err(Counter::RequestExpired);
        }
        if expiry > latest.saturating_add(tolerance) {
            self.clock_ahead = expiry - latest;
            return Err(Counter::RequestFuture);
        }
        // The clock tells whole seconds, so the second of the start belongs to the time before it.
        let start = self.start.wall.as_unix().saturating_add(1);
        if kind == KeyKind::Issuer && expiry < start.saturating_add(self.lifetime) {
            return Err(Counter::RequestBeforeStart);
        }
        Ok(until)
    }

    /// Steps 1 to 10 of the order for requests: everything but the question whether there is room.
    fn check_request(
        &mut self,
        now: Now,
        from: SocketAddr,
        datagram: &mut [u8],
    ) -> Result<(Handshake, Option<HandshakeId>), Counter> {
        let request = Request::parse(datagram).map_err(|bad| match bad {
            BadRequest::Size => Counter::RequestSize,
            BadRequest::Version => Counter::RequestVersion,
        })?;
        let kind = self.keys.find(request.protocol_id).ok_or(Counter::RequestProtocolId)?.kind;
        let until = self.acceptable_until(kind, request.expiry, now.wall)?;
        let mac = PrivateToken::mac(request.sealed);
        if self.consumed.contains(&mac, until) {
            return Err(Counter::RequestConsumed);
        }
        if !self.budgets.may_reply(now.mono, from) {
            return Err(Counter::RequestReplyBudget);
        }
        let (opens, rate) = &mut self.budgets.opens;
        if !opens.has(now.mono, rate, 1) || !self.budgets.take_packet() {
            return Err(Counter::RequestBudget);
        }
        let (opens, rate) = &mut self.budgets.opens;
        opens.charge(now.mono, rate, 1);
        let key = &self.keys.find(request.protocol_id).ok_or(Counter::RequestProtocolId)?.key;
        let text = PrivateToken::open(request.sealed, request.protocol_id, request.expiry, request.nonce, key)
            .ok_or(Counter::RequestOpenFailed)?;
        let token = PrivateToken::parse(text).ok_or(Counter::RequestBadFields)?;
        let named = token.addresses.iter().any(|&address| {
            let address = AddressKey::new(address);
            self.addresses.iter().any(|own| own.same_endpoint(address))
        });
        // The key of a join code is this server's alone, so its tokens can be for no other.
        if !named && !(kind == KeyKind::JoinCode && self.addresses.is_empty()) {
            return Err(Counter::RequestWrongServer);
        }
        if self.consumed.is_full() {
            return Err(Counter::RequestTableFull);
        }
        let handshake = Handshake {
            address: from,
            mac,
            client_id: token.identity.client_id,
            user_data: token.identity.user_data,
            protocol_id: request.protocol_id,
            client_to_server: token.client_to_server,
            server_to_client: token.server_to_client,
            timeout: token.timeout,
            until,
            issued_at: now.mono,
            // Wraps after 49 days; it only has to differ from the last one of the same token.
            issued: now.mono.since(self.start.mono).as_millis() as u32,
            challenge_queued: false,
        };
        let under_way = self.pending.find(from, &handshake.mac);
        Ok((handshake, under_way))
    }

    /// The handshake that a response belongs to, and whom it is for. Everything is checked but whether there is room.
    fn check_response(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: Header,
        datagram: &[u8],
    ) -> Result<(HandshakeId, Identity), Counter> {
        let mut found = Err(Counter::ResponseNoPending);
        // At most `tokens_per_address`; a clear winner ends the search.
        for id in self.pending.of_address(from) {
            let Some(handshake) = self.pending.get(id) else { continue };
            let left = self.budgets.packets_left.checked_sub(1).ok_or(Counter::ResponseBudget)?;
            self.budgets.packets_left = left;
            // Opening spoils the bytes, and another key may have to be tried on them.
            let mut copy = [0; MAX_RESPONSE];
            let copy = copy.get_mut(..datagram.len()).ok_or(Counter::PacketBodySize)?;
            copy.copy_from_slice(datagram);
            let cipher = Cipher::new(&handshake.client_to_server);
            let Some(body) = header.open(&cipher, handshake.protocol_id, copy) else {
                found = Err(Counter::ResponseOpenFailed);
                continue;
            };
            let body: &mut [u8; CHALLENGE_BODY] = body.try_into().map_err(|_| Counter::PacketBodySize)?;
            let (number, sealed) = body.split_first_chunk_mut::<8>().ok_or(Counter::PacketBodySize)?;
            let sealed: &mut [u8; CHALLENGE_BYTES] = sealed.try_into().map_err(|_| Counter::PacketBodySize)?;
            let opened = self
                .challenger
                .open(u64::from_le_bytes(*number), sealed)
                .ok_or(Counter::ResponseOpenFailed)?;
            if !self.challenger.matches(&opened, &handshake.binding()) {
                return Err(Counter::ResponseTagMismatch);
            }
            if now.mono.since(handshake.issued_at) > HANDSHAKE_LIFE {
                return Err(Counter::ResponseStaleChallenge);
            }
            if handshake.until <= now.wall.as_unix() {
                return Err(Counter::ResponseExpired);
            }
            found = Ok((id, opened.identity()));
            break;
        }
        found
    }
}

impl Server {
    /// A connection request, in the order of the design; a failure is one counter and nothing else.
    pub(super) fn handle_request(&mut self, now: Now, from: SocketAddr, datagram: &mut [u8]) -> Result<(), Counter> {
        let (handshake, under_way) = self.handshakes.check_request(now, from, datagram)?;
        if !self.has_room_for(from, handshake.client_id) && self.handshakes.accepting {
            if self.handshakes.denials < MAX_DENIALS {
                self.handshakes.denials += 1;
                self.handshakes.budgets.charge_reply(now.mono, from);
                self.outbox.push_back(Outgoing::Denied(Box::new(Denial {
                    to: from,
                    protocol_id: handshake.protocol_id,
                    key: handshake.server_to_client,
                })));
            }
            return Err(Counter::DeniedFull);
        }
        let Handshakes { pending, budgets, .. } = &mut self.handshakes;
        let id = match under_way {
            Some(id) => id,
            None => match pending.insert(handshake, budgets.addresses_per_token, budgets.tokens_per_address) {
                Inserted::Yes { id, evicted } => {
                    if evicted {
                        self.counters.add(Counter::PendingEvicted);
                    }
                    id
                }
                Inserted::TooMany => return Err(Counter::RequestTooMany),
            },
        };
        if let Some(handshake) = pending.get_mut(id)
            && !std::mem::replace(&mut handshake.challenge_queued, true)
        {
            budgets.charge_reply(now.mono, from);
            self.outbox.push_back(Outgoing::Challenge(id));
            self.counters.add(Counter::Challenged);
        }
        Ok(())
    }

    /// A challenge response: the moment at which a stranger becomes a client.
    pub(super) fn handle_response(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: Header,
        datagram: &[u8],
    ) -> Result<(), Counter> {
        let (id, identity) = self.handshakes.check_response(now, from, header, datagram)?;
        let Some(handshake) = self.handshakes.pending.get(id).cloned() else {
            return Err(Counter::ResponseNoPending);
        };
        let (joins, rate) = &mut self.handshakes.budgets.identity_joins;
        if !joins.of(identity.client_id).has(now.mono, rate, 1) {
            return Err(Counter::ResponseIdentityRate);
        }
        // From here on the token is used, whatever the outcome: its keys must serve one connection only.
        if !self.handshakes.consumed.insert(handshake.mac, handshake.until) {
            return Err(Counter::ResponseTableFull);
        }
        joins.of(identity.client_id).charge(now.mono, rate, 1);
        self.handshakes.pending.remove_token(&handshake.mac);

        // Whoever was at this address is not there any more.
        if let Some(old) = self.by_address.get(&AddressKey::new(from)).and_then(|&index| self.id(index)) {
            if self.connection(old).is_some_and(|old| !old.is_leaving()) {
                self.counters.add(Counter::AddressTakeover);
                self.end(now.mono, old, DisconnectReason::local(DisconnectCode::Superseded), false);
            } else {
                self.free(old);
            }
        }
        let refusal = self.admit(now.mono, identity.client_id);
        let Some(connection) = self.open_slot(now, &handshake, identity) else { return Ok(()) };
        match refusal {
            None => self.welcome(connection, from),
            Some(code) => {
                self.counters.add(match code {
                    DisconnectCode::ServerFull => Counter::RefusedFull,
                    DisconnectCode::IdentityInUse => Counter::RefusedIdentity,
                    _ => Counter::RefusedClosed,
                });
                let until = now.mono + PARTING;
                if let Some(connection) = self.connection_mut(connection) {
                    connection.phase = Phase::Leaving(Leaving::with_farewells(until, until + GOODBYE_LIFE));
                }
                self.events.push_back(Event::Refused { connection, code });
            }
        }
        self.queue_keep_alive(now.mono, connection);
        self.schedule(connection);
        Ok(())
    }

    /// Makes room for a validated identity if the policy allows it; else why it may not stay.
    fn admit(&mut self, now: Mono, client_id: u64) -> Option<DisconnectCode> {
        if !self.handshakes.accepting {
            return Some(DisconnectCode::Refused);
        }
        if let Some(old) = self.by_identity.get(&client_id).and_then(|&index| self.id(index)) {
            match self.handshakes.policy {
                IdentityPolicy::RejectNew => return Some(DisconnectCode::IdentityInUse),
                IdentityPolicy::ReplaceOld => {
                    self.counters.add(Counter::IdentityTakeover);
                    self.end(now, old, DisconnectReason::local(DisconnectCode::Superseded), true);
                }
            }
        }
        (self.live >= self.limits.connections).then_some(DisconnectCode::ServerFull)
    }

    /// Whether a client with this address and identity could have a slot (step 11).
    fn has_room_for(&self, from: SocketAddr, client_id: u64) -> bool {
        if self.live < self.limits.connections {
            return true;
        }
        let replaces = self.handshakes.policy == IdentityPolicy::ReplaceOld && self.by_identity.contains_key(&client_id);
        let moves_in = self
            .by_address
            .get(&AddressKey::new(from))
            .and_then(|&index| self.slots.get(index as usize)?.connection.as_ref())
            .is_some_and(|connection| !connection.is_leaving());
        replaces || moves_in
    }

    /// Puts a validated client into a slot, where it is nothing yet. `None` if not even a goodbye has room.
    fn open_slot(&mut self, now: Now, handshake: &Handshake, identity: Identity) -> Option<ConnectionId> {
        let index = self.take_slot()?;
        let session = Session::new(
            handshake.protocol_id,
            &handshake.server_to_client,
            &handshake.client_to_server,
            first_sequence(now.wall),
            now.mono,
        );
        let connection = Connection::new(handshake.address, session, token_timeout(handshake.timeout), identity);
        self.by_address.insert(connection.key, index);
        let slot = self.slots.get_mut(index as usize)?;
        slot.connection = Some(Box::new(connection));
        Some(ConnectionId { index, generation: slot.generation })
    }

    /// The lowest free slot. Twice as many as there may be connections exist: each may have one predecessor that still
    /// says goodbye. If all are taken, the goodbye that would end soonest ends now.
    fn take_slot(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            let most = self.limits.connections.saturating_mul(2).max(2);
            if self.slots.len() < most {
                self.free.push(Reverse(self.slots.len() as u32));
                self.slots.push(Slot { generation: 0, connection: None });
            } else {
                let leaving = self.slots.iter().enumerate().filter_map(|(index, slot)| {
                    let Phase::Leaving(leaving) = slot.connection.as_ref()?.phase else { return None };
                    Some((leaving.until, index as u32))
                });
                let (_, index) = leaving.min()?;
                self.counters.add(Counter::GoodbyeEvicted);
                self.free(self.id(index)?);
            }
        }
        self.free.pop().map(|Reverse(index)| index)
    }

    fn welcome(&mut self, id: ConnectionId, address: SocketAddr) {
        let Some(client_id) = self.connection(id).map(|connection| connection.identity.client_id) else { return };
        self.by_identity.insert(client_id, id.index);
        self.live += 1;
        self.live_high_water = self.live_high_water.max(self.live);
        self.counters.add(Counter::Accepted);
        self.events.push_back(Event::Accepted { connection: id, address });
    }
}

/// Where the numbers of a connection start: later connections start above everything that earlier ones can have used
/// at a million packets per second, even under the same keys on another server (H3).
fn first_sequence(now: Wall) -> u64 {
    // Below 2^62 for the next 139 000 years.
    now.as_unix().saturating_sub(EPOCH).min((1 << 42) - 1) << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_floors_grow_with_the_clock_and_stay_below_those_of_challenges() {
        assert_eq!(first_sequence(Wall::from_unix(0)), 0);
        assert_eq!(first_sequence(Wall::from_unix(EPOCH + 1)), 1 << 20);
        assert!(first_sequence(Wall::from_unix(u64::MAX)) < 1 << 62);
    }
}
