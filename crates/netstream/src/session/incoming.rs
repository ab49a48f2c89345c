//! What drivers report, and what it means for the connection that it is about.
//!
//! Everything that a peer can say passes through here; whatever does not fit the state is counted, and at most that one
//! connection ends.

use std::net::SocketAddr;
use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream_driver::transport::mutants::mutant;
use netstream_driver::transport::{ChannelId, DisconnectCode, DisconnectReason, Identity, Incoming, Origin};
use netstream_driver::{ConnectionKey, DriverId};

use super::arrivals::Inbox;
use super::control::{Control, MessageKind};
use super::core::{Change, Close, Core, blank};
use super::table::Slot;
use super::wire::{Reader, read_id, write_id};
use crate::log::Line;
use crate::queue::MessageQueue;
use crate::state::{Input, Side};
use crate::{ConnectionState, NetworkLimits};

/// After this long it is no race any more that only one side has put the in-game mark.
const ONE_SIDED: Duration = Duration::from_secs(5);

impl Core {
    pub(crate) fn handle_incoming(&mut self, driver: DriverId, incoming: Incoming<'_>, spawn: impl FnOnce() -> Entity) {
        match incoming {
            Incoming::Accepted { connection, address, identity } => {
                if let Some(reason) = self.refuse(address, identity) {
                    let key = ConnectionKey { driver, connection };
                    self.closes.push(Close { key, reason, linger: self.limits.linger });
                    return;
                }
                let mut connection = blank(spawn(), ConnectionKey { driver, connection });
                connection.details.address = address;
                connection.details.last_stats.remote = address;
                connection.details.client_id = identity.map(|identity| identity.client_id);
                self.add(connection, identity.cloned().map(Box::new), false);
            }
            Incoming::Connected { connection } => {
                // One that was closed while it was reached for is ending already.
                if let Some(slot) = self.connections.find(ConnectionKey { driver, connection })
                    && self.connections.get(slot).is_some_and(|found| !found.state.is_ending())
                {
                    self.input(slot, Input::LinkUp);
                }
            }
            Incoming::Message { connection, channel, bytes } => {
                match self.connections.find(ConnectionKey { driver, connection }) {
                    Some(slot) => self.handle_message(slot, channel, bytes),
                    None => self.counters.late_messages += 1,
                }
            }
            Incoming::Disconnected { connection, reason } => {
                if let Some(slot) = self.connections.find(ConnectionKey { driver, connection }) {
                    self.handle_end(slot, reason);
                }
            }
        }
    }

    /// Why nobody may enter like this, if so.
    fn refuse(&mut self, address: Option<SocketAddr>, identity: Option<&Identity>) -> Option<DisconnectReason> {
        if self.side == Side::Client || self.connections.len() >= self.limits.connections {
            self.counters.refused_full += 1;
            return Some(DisconnectReason::local(DisconnectCode::ServerFull));
        }
        let ban = self.bans.refuse(self.now.mono, identity, address);
        self.counters.refused_banned += u64::from(ban.is_some());
        ban
    }

    pub(super) fn handle_end(&mut self, slot: Slot, reason: DisconnectReason) {
        if let Some(connection) = self.connections.get_mut(slot) {
            // We gave a reason already: it stands, unless the peer's goodbye crossed ours.
            if connection.details.reason.is_none() || reason.origin == Origin::Remote {
                connection.details.reason = Some(reason);
            }
            self.input(slot, Input::Ended);
        }
    }

    fn handle_message(&mut self, slot: Slot, channel: ChannelId, message: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let state = connection.state;
        if state.is_ending() && !(mutant(12) && message.first() == Some(&(MessageKind::Rpc as u8))) {
            self.counters.late_messages += 1;
            return;
        }
        // What comes to a client on another channel may have overtaken the server's acceptance.
        if !state.is_connected() && (channel == ChannelId::RELIABLE || self.side == Side::Server) {
            connection.details.early_messages += 1;
            connection.details.early_bytes = connection.details.early_bytes.saturating_add(message.len() as u32);
            if connection.details.early_messages > self.limits.early_messages
                || connection.details.early_bytes > self.limits.early_bytes
            {
                return self.violation(slot, "too much before Connected");
            }
        }
        let reliable = channel == ChannelId::RELIABLE;
        let data = channel == ChannelId::UNRELIABLE || channel == ChannelId::UNRELIABLE_FRAGMENTED;
        match (MessageKind::split(message), self.side) {
            (Some((MessageKind::Control, body)), _) if reliable => match Control::read(body) {
                Some(control) => self.handle_control(slot, control),
                None => self.violation(slot, "malformed control message"),
            },
            (Some((kind @ (MessageKind::Rpc | MessageKind::RpcCall), _)), _) => {
                self.handle_rpc(slot, kind, channel, message);
            }
            (Some((MessageKind::RpcReply, _)), _) if reliable => self.handle_reply(slot, message),
            (Some((MessageKind::Command, body)), Side::Server) if data => self.handle_data(slot, body, false),
            (Some((MessageKind::Snapshot, body)), Side::Client) if data => self.handle_data(slot, body, false),
            (Some((MessageKind::Input, body)), Side::Server) if data => self.handle_data(slot, body, true),
            (Some((MessageKind::TickSnapshot, body)), Side::Client) if data => self.handle_data(slot, body, true),
            _ => self.violation(slot, "message of unknown kind, or on the wrong channel"),
        }
    }

    fn handle_control(&mut self, slot: Slot, control: Control<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match (control, connection.state, self.side) {
            (Control::Record { record, ticket, credentials }, ConnectionState::Handshake, side) => {
                if side == Side::Server && !credentials.is_empty() {
                    let entity = connection.entity;
                    self.changes.push_back(Change::Credentials { entity, bytes: credentials.to_vec() });
                }
                self.input(slot, Input::RecordArrived);
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.details.ticket = ticket;
                }
                self.validate(slot, record);
            }
            (Control::List(list), ConnectionState::ProtocolValidation, _) if connection.details.differing.is_some() => {
                self.compare(slot, list);
            }
            (Control::ApprovalRequired { within }, ConnectionState::ProtocolValidation, Side::Client) => {
                let until = self.now.mono + within;
                self.input(slot, Input::ApprovalRequired);
                self.set_deadline(slot, Some(until));
            }
            (Control::ApprovalRequired { within }, ConnectionState::Approval, Side::Client) => {
                connection.details.deadline = Some(self.now.mono + within);
            }
            (
                Control::Admitted { id, resumed, ticket },
                ConnectionState::ProtocolValidation | ConnectionState::Approval,
                Side::Client,
            ) if connection.details.differing.is_none() => {
                connection.details.network_id = Some(id);
                connection.resumed = resumed;
                if let Some(server) = connection.details.server.take() {
                    self.ticket = Some((server, ticket));
                }
                self.establish(slot);
            }
            (Control::Draining { within }, ConnectionState::Connected(_), Side::Client) => {
                let entity = connection.entity;
                self.changes.push_back(Change::Draining { entity, within });
            }
            _ => self.violation(slot, "control message in the wrong state"),
        }
    }

    /// The envelope is checked whole here: kind, channel, number, direction, state and size.
    fn handle_rpc(&mut self, slot: Slot, kind: MessageKind, channel: ChannelId, message: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let early = !matches!(connection.state, ConnectionState::Connected(_) | ConnectionState::Approval);
        if early && self.side == Side::Client && channel != ChannelId::RELIABLE {
            // The server is Connected already, and this came on a quicker channel than its acceptance.
            let held = &mut connection.details.held;
            held.push_parts(&[&[channel.0], message]);
            let (rpcs, bytes) = (held.len(), held.byte_len());
            return self.refuse_flood(slot, rpcs, bytes);
        }
        // The number, then ours; `prefix` is what stands before it.
        let found = split_rpc(kind, message).and_then(|(prefix, theirs, body)| {
            let ours = match &connection.numbers {
                None => theirs,
                Some(numbers) => numbers.ours.get(usize::from(theirs)).copied()??,
            };
            Some((prefix, ours, body, *self.rpcs.get(usize::from(ours))?))
        });
        let Some((prefix, number, body, policy)) = found else {
            return self.violate(slot, DisconnectCode::InvalidRpc, "unknown RPC");
        };
        if channel != policy.channel {
            return self.violation(slot, "RPC on the wrong channel");
        }
        let fits = policy.welcome && body.len() <= policy.max_size && (kind == MessageKind::RpcCall || !policy.request);
        if !fits {
            return self.violate(slot, DisconnectCode::InvalidRpc, "RPC of the wrong direction, kind or size");
        }
        let may = mutant(12)
            || connection.state.is_connected()
            || (connection.state == ConnectionState::Approval && policy.approval);
        if !may {
            return self.violate(slot, DisconnectCode::InvalidRpc, "RPC before Connected");
        }
        if connection.numbers.is_some() {
            let mut ours = Vec::with_capacity(3);
            write_id(&mut ours, number);
            self.keep_rpc(slot, &[prefix, &ours, body]);
        } else {
            self.keep_rpc(slot, &[message]);
        }
    }

    /// What became of an RPC of ours.
    fn handle_reply(&mut self, slot: Slot, message: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.state.is_connected() && connection.state != ConnectionState::Approval {
            return self.violate(slot, DisconnectCode::InvalidRpc, "reply before Connected");
        }
        self.keep_rpc(slot, &[message]);
    }

    fn keep_rpc(&mut self, slot: Slot, parts: &[&[u8]]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let bytes = parts.iter().map(|part| part.len() as u32).sum::<u32>();
        connection.waiting_rpcs += 1;
        connection.waiting_rpc_bytes = connection.waiting_rpc_bytes.saturating_add(bytes);
        let (rpcs, bytes) = (connection.waiting_rpcs, connection.waiting_rpc_bytes);
        self.arrivals.push(slot, Inbox::Rpcs, parts);
        self.refuse_flood(slot, rpcs as usize, bytes as usize);
    }

    fn refuse_flood(&mut self, slot: Slot, rpcs: usize, bytes: usize) {
        if rpcs > self.limits.incoming_rpcs || bytes > self.limits.incoming_rpc_bytes {
            self.violate(slot, DisconnectCode::Flood, "too many RPCs in one update");
        }
    }

    /// RPCs that came before the acceptance count now.
    pub(super) fn release_held(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let mut held = std::mem::take(&mut connection.details.held);
        for message in held.drain() {
            if let Some((&channel, message)) = message.split_first()
                && let Some((kind, _)) = MessageKind::split(message)
            {
                self.handle_rpc(slot, kind, ChannelId(channel), message);
            }
        }
    }

    fn handle_data(&mut self, slot: Slot, body: &[u8], of_tick: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.state.is_in_game() {
            // A client that is not Connected sends no commands. A snapshot may overtake the acceptance.
            if self.side == Side::Server && !connection.state.is_connected() {
                return self.violation(slot, "command before Connected");
            }
            self.counters.out_of_game += 1;
            let since = *connection.out_of_game_since.get_or_insert(self.now.mono);
            if self.now.mono.since(since) >= ONE_SIDED && !std::mem::replace(&mut connection.warned, true) {
                let entity = connection.entity;
                if self.may_log(Line::OneSided) {
                    tracing::warn!(
                        "{entity} sends as if in the game, and this side has not inserted NetworkStreamInGame for \
                         {ONE_SIDED:?}"
                    );
                }
            }
            return;
        }
        connection.out_of_game_since = None;
        // What is of a tick tells the time and is acknowledged, also by thin clients.
        if self.thin && !of_tick {
            self.counters.thin_unread += 1;
            return;
        }
        self.arrivals.push(slot, if of_tick { Inbox::Stream } else { Inbox::Data }, &[body]);
    }
}

/// What stands before an RPC's number, the number, and the body.
pub(crate) fn split_rpc(kind: MessageKind, message: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let mut reader = Reader(message.get(1..)?);
    if kind == MessageKind::RpcCall {
        reader.varint()?;
    }
    let prefix = message.get(..message.len() - reader.0.len())?;
    let (number, body) = read_id(reader.0)?;
    Some((prefix, number, body))
}

/// Drops the oldest messages over the caps; says how many.
pub(crate) fn trim(queue: &mut MessageQueue, limits: &NetworkLimits) -> u64 {
    let mut dropped = 0;
    while queue.len() > limits.incoming_data || queue.byte_len() > limits.incoming_data_bytes {
        queue.pop_front();
        dropped += 1;
    }
    dropped
}
