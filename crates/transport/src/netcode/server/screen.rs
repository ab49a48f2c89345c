//! Looking at strangers: is this request, is this response what it should be?

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::net::SocketAddr;

use super::budgets::Budgets;
use super::{IdentityPolicy, ServerConfig};
use crate::crypto::{Aead, Cipher, Key, TAG_BYTES};
use crate::limits::Limits;
use crate::mutants::mutant;
use crate::netcode::challenge::Challenger;
use crate::netcode::consumed::Consumed;
use crate::netcode::counters::Counter;
use crate::netcode::keys::{CLOCK_TOLERANCE, KeyKind};
use crate::netcode::packet::{self, BadRequest, CHALLENGE_BODY, CHALLENGE_BYTES, Header, PacketType, Request};
use crate::netcode::pending::{HANDSHAKE_LIFE, Handshake, HandshakeId, Pending};
use crate::netcode::table::AddressKey;
use crate::netcode::token::PrivateToken;
use crate::netcode::{KeyRing, Transmit};
use crate::{Identity, Mono, Now, Random};

/// The largest response that has a body of the right size.
const MAX_RESPONSE: usize = 1 + 8 + CHALLENGE_BODY + TAG_BYTES;

/// What a server knows of those who are not connected.
#[derive(Debug)]
pub(super) struct Handshakes {
    keys: KeyRing,
    addresses: Vec<AddressKey>,
    pub(super) policy: IdentityPolicy,
    lifetime: u64,
    start: Now,
    pub(super) accepting: bool,
    pub(super) pending: Pending,
    pub(super) consumed: Consumed,
    challenger: Challenger,
    /// The number of the next challenge or denial: in the upper half, where no connection's numbers are (H3).
    global_sequence: u64,
    pub(super) budgets: Budgets,
    /// Denials in the outbox.
    pub(super) denials: usize,
    /// How far the last token's clock was ahead of ours, in seconds.
    clock_ahead: u64,
}

/// A "denied" (type 1) that waits to be sent.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) to: SocketAddr,
    pub(super) protocol_id: u64,
    pub(super) key: Key,
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
            global_sequence: if mutant(18) { 0 } else { 1 << 63 | if mutant(17) { 0 } else { random.u64() >> 2 } },
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
        self.budgets.tick();
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
        let len = packet::seal_small(&cipher, handshake.protocol_id, PacketType::Challenge, sequence, buf, &body);
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
    fn acceptable_until(&mut self, kind: KeyKind, expiry: u64, at: Now) -> Result<u64, Counter> {
        let tolerance = match kind {
            KeyKind::Issuer => 0,
            KeyKind::JoinCode => CLOCK_TOLERANCE.as_secs(),
        };
        let now = at.wall.as_unix();
        let until = expiry.saturating_add(tolerance);
        let latest = now.saturating_add(self.lifetime);
        if until <= now {
            return Err(Counter::RequestExpired);
        }
        if expiry > latest.saturating_add(tolerance) {
            self.clock_ahead = expiry - latest;
            return Err(Counter::RequestFuture);
        }
        // A clock that was behind at the start and has been set right since shows the start to be later than it was thought
        // to be. It tells whole seconds, so the second of the start belongs to the time before it.
        let shown = now.saturating_sub(at.mono.since(self.start.mono).as_secs());
        let start = self.start.wall.as_unix().max(shown).saturating_add(1);
        if kind == KeyKind::Issuer && !mutant(17) && expiry < start.saturating_add(self.lifetime) {
            return Err(Counter::RequestBeforeStart);
        }
        Ok(until)
    }

    /// Steps 1 to 10 of the order for requests: everything but the question whether there is room.
    pub(super) fn check_request(
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
        let until = self.acceptable_until(kind, request.expiry, now)?;
        let mac = PrivateToken::mac(request.sealed);
        if self.consumed.contains(&mac, until) {
            return Err(Counter::RequestConsumed);
        }
        if !self.budgets.may_reply(now.mono, from) {
            return Err(Counter::RequestReplyBudget);
        }
        if !self.budgets.take_open(now.mono) {
            return Err(Counter::RequestBudget);
        }
        let key = &self.keys.find(request.protocol_id).ok_or(Counter::RequestProtocolId)?.key;
        let text = PrivateToken::open(request.sealed, request.protocol_id, request.expiry, request.nonce, key)
            .ok_or(Counter::RequestOpenFailed)?;
        let token = PrivateToken::parse(text).ok_or(Counter::RequestBadFields)?;
        let named = token.addresses.iter().any(|&address| {
            let address = AddressKey::new(address);
            self.addresses.iter().any(|own| own.same_endpoint(address))
        });
        // The key of a join code is this server's alone, so its tokens can be for no other.
        let alone = kind == KeyKind::JoinCode && self.addresses.is_empty();
        if !named && !alone {
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
            cipher: token.cipher,
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

    /// The handshake that a response belongs to, whom it is for, and the challenge that it answers. Everything is checked but
    /// whether there is room.
    pub(super) fn check_response(
        &mut self,
        now: Now,
        from: SocketAddr,
        header: Header,
        datagram: &[u8],
    ) -> Result<(HandshakeId, Identity, [u8; CHALLENGE_BODY]), Counter> {
        let mut found = Err(Counter::ResponseNoPending);
        // At most `tokens_per_address`; a clear winner ends the search.
        for id in self.pending.of_address(from) {
            let Some(handshake) = self.pending.get(id) else { continue };
            if !self.budgets.take_packet() {
                return Err(Counter::ResponseBudget);
            }
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
            let challenge = *body;
            let (number, sealed) = body.split_first_chunk_mut::<8>().ok_or(Counter::PacketBodySize)?;
            let sealed: &mut [u8; CHALLENGE_BYTES] = sealed.try_into().map_err(|_| Counter::PacketBodySize)?;
            let opened =
                self.challenger.open(u64::from_le_bytes(*number), sealed).ok_or(Counter::ResponseOpenFailed)?;
            if !self.challenger.matches(&opened, &handshake.binding()) && !mutant(26) {
                return Err(Counter::ResponseTagMismatch);
            }
            if now.mono.since(handshake.issued_at) > HANDSHAKE_LIFE {
                return Err(Counter::ResponseStaleChallenge);
            }
            if handshake.until <= now.wall.as_unix() {
                return Err(Counter::ResponseExpired);
            }
            found = Ok((id, opened.identity(), challenge));
            break;
        }
        found
    }
}
