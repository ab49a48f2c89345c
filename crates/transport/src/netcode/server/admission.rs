//! Letting strangers in: from what was found to be in order to a connection.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::cmp::Reverse;
use std::net::SocketAddr;

use super::connection::{Connection, Leaving, Phase};
use super::screen::{Denial, Handshakes};
use super::{Event, IdentityPolicy, Outgoing, PARTING, Server, Slot, at};
use crate::mutants::mutant;
use crate::netcode::counters::Counter;
use crate::netcode::packet::{CHALLENGE_BODY, Header};
use crate::netcode::pending::{Handshake, Inserted};
use crate::netcode::session::{Session, ciphers, first_number};
use crate::netcode::table::AddressKey;
use crate::netcode::{GOODBYE_LIFE, token_timeout};
use crate::{ConnectionId, DisconnectCode, DisconnectReason, Identity, Mono, Now};

/// Denials that wait to be sent. More are not worth it: the client asks again in 100 ms.
const MAX_DENIALS: usize = 64;

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
        let addresses_per_token = if mutant(27) { 1 } else { budgets.addresses_per_token };
        let id = match under_way {
            Some(id) => id,
            None => match pending.insert(handshake, addresses_per_token, budgets.tokens_per_address) {
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
        let (id, identity, challenge) = self.handshakes.check_response(now, from, header, datagram)?;
        let Some(handshake) = self.handshakes.pending.get(id).cloned() else {
            return Err(Counter::ResponseNoPending);
        };
        if !self.handshakes.budgets.may_join(now.mono, identity.client_id) {
            return Err(Counter::ResponseIdentityRate);
        }
        // From here on the token is used, whatever the outcome: its keys must serve one connection only.
        if !self.handshakes.consumed.insert(handshake.mac, handshake.until) {
            return Err(Counter::ResponseTableFull);
        }
        self.handshakes.budgets.charge_join(now.mono, identity.client_id);
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
        let Some(connection) = self.open_slot(now, &handshake, &challenge, identity) else { return Ok(()) };
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
                    return None;
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
        let replaces =
            self.handshakes.policy == IdentityPolicy::ReplaceOld && self.by_identity.contains_key(&client_id);
        let moves_in = self
            .by_address
            .get(&AddressKey::new(from))
            .and_then(|&index| at(&self.slots, index))
            .is_some_and(|connection| !connection.is_leaving());
        replaces || moves_in
    }

    /// Puts a validated client into a slot, where it is nothing yet. `None` if not even a goodbye has room.
    fn open_slot(
        &mut self,
        now: Now,
        handshake: &Handshake,
        challenge: &[u8; CHALLENGE_BODY],
        identity: Identity,
    ) -> Option<ConnectionId> {
        let index = self.take_slot()?;
        let Handshake { protocol_id, cipher, client_to_server, server_to_client, .. } = handshake;
        let (open, seal) = ciphers(*cipher, client_to_server, server_to_client, challenge);
        let session = Session::of(*cipher, *protocol_id, (seal, open), first_number(&mut self.random), now.mono);
        let connection = Connection::new(handshake.address, session, token_timeout(handshake.timeout), identity);
        self.by_address.insert(connection.key(), index);
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
                self.slots.push(Slot { generation: self.first_generation, connection: None });
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
