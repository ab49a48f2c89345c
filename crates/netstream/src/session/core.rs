//! The lifecycle as a pure machine: what drivers report and what the application asks go in; requests to drivers and
//! changes for the World come out. It touches neither.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream_driver::transport::{
    ChannelId, DisconnectCode, DisconnectReason, Identity, Incoming, Mono, Now, Origin, Random,
};
use netstream_driver::{ConnectionKey, DriverId, Endpoint};

use super::bans::BanList;
use super::control::{self, Control, MessageKind};
use super::ids::NetworkIdPool;
use super::protocol::{PeerList, Protocol, ProtocolRecord, SchemaPolicy};
use super::table::{Connection, ConnectionTable, Slot};
use super::tickets::{ResumeTicket, TicketBook};
use super::wire::{read_id, write_id};
use crate::state::{Effect, Input, Side, first_state, transition};
use crate::{ConnectionEvent, ConnectionState, NetworkId, NetworkLimits};

/// A driver shall send these bytes of the request buffer on the reliable channel.
#[derive(Debug)]
struct Send {
    key: ConnectionKey,
    bytes: Range<usize>,
}

/// A driver shall end this connection.
#[derive(Debug)]
pub(crate) struct Close {
    pub(crate) key: ConnectionKey,
    pub(crate) reason: DisconnectReason,
    pub(crate) linger: Duration,
}

/// What shall happen in the World, in order.
#[derive(Debug)]
pub(crate) enum Change {
    /// A connection exists: its entity gets the components of a connection. `reserved` entities exist already.
    Born { entity: Entity, key: ConnectionKey, identity: Option<Box<Identity>>, reserved: bool },
    /// The client's credentials have arrived.
    Credentials { entity: Entity, bytes: Vec<u8> },
    /// The peer has not all of our RPC types: for each of our numbers, whether it lacks the type.
    Lacking { entity: Entity, types: Arc<[bool]> },
    /// The server of this connection takes nobody new and ends within this time.
    Draining { entity: Entity, within: Duration },
    /// A state changed.
    State(ConnectionEvent),
}

/// Counts of what was refused or dropped above the drivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionCounters {
    /// Inputs that the state machine has no row for.
    pub refused_inputs: u64,
    /// Messages that ended their connection because they may not be sent.
    pub violations: u64,
    /// Commands and snapshots that crossed a change of the in-game mark; dropped.
    pub out_of_game: u64,
    /// Commands and snapshots that nobody read in time; dropped, oldest first.
    pub unread_dropped: u64,
    /// Messages for connections that are ending or over; dropped.
    pub late_messages: u64,
    /// Connections refused because the World, or the list of those that wait for approval, was full.
    pub refused_full: u64,
    /// Connections refused because of a ban.
    pub refused_banned: u64,
    /// Players who got their id back with a resume ticket.
    pub resumed: u64,
    /// Resume tickets that were forged or stale; their holders entered as new players.
    pub stale_tickets: u64,
}

/// What happens when a player proves to be one who is still connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameIdentity {
    /// The new connection takes the place; the old one ends with `Superseded`.
    #[default]
    ReplaceOld,
    /// The old connection stays; the new one ends with `IdentityInUse`.
    RejectNew,
}

pub(crate) struct Core {
    pub(crate) side: Side,
    pub(crate) limits: NetworkLimits,
    pub(crate) approval_required: bool,
    /// Drivers that differ from that.
    pub(crate) approval_of_driver: BTreeMap<DriverId, bool>,
    pub(crate) same_identity: SameIdentity,
    pub(crate) schema_policy: SchemaPolicy,
    pub(crate) bans: BanList,
    /// Client: snapshots are not read here.
    pub(crate) thin: bool,
    /// Client: good for getting the last id back, and on which server.
    pub(crate) ticket: Option<(Endpoint, ResumeTicket)>,
    pub(crate) connections: ConnectionTable,
    pub(crate) counters: SessionCounters,
    pub(crate) changes: VecDeque<Change>,
    /// Connections whose queues have something for their entity.
    pub(crate) touched: Vec<Slot>,
    /// Connections that are over and whose entities go at the end of the update.
    pub(crate) retired: Vec<Slot>,
    sends: Vec<Send>,
    send_bytes: Vec<u8>,
    closes: Vec<Close>,
    protocol: Arc<Protocol>,
    /// For each RPC id on the wire, whether it may travel before Connected.
    approval_rpcs: Vec<bool>,
    ids: NetworkIdPool,
    /// Server: who holds which id.
    holders: BTreeMap<NetworkId, Slot>,
    tickets: TicketBook,
    random: Box<dyn Random>,
    /// Connections with a deadline.
    young: Vec<Slot>,
    now: Now,
}

impl Core {
    pub(crate) fn new(side: Side, random: Box<dyn Random>) -> Self {
        Self {
            side,
            limits: NetworkLimits::default(),
            approval_required: false,
            approval_of_driver: BTreeMap::new(),
            same_identity: SameIdentity::default(),
            schema_policy: SchemaPolicy::default(),
            bans: BanList::default(),
            thin: false,
            ticket: None,
            connections: ConnectionTable::default(),
            counters: SessionCounters::default(),
            changes: VecDeque::new(),
            touched: Vec::new(),
            retired: Vec::new(),
            sends: Vec::new(),
            send_bytes: Vec::new(),
            closes: Vec::new(),
            protocol: Arc::default(),
            approval_rpcs: Vec::new(),
            ids: NetworkIdPool::default(),
            holders: BTreeMap::new(),
            tickets: TicketBook::default(),
            random,
            young: Vec::new(),
            now: Now::default(),
        }
    }

    /// From now on `now` is the time of everything that happens.
    pub(crate) fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol, approval_rpcs: Vec<bool>) {
        self.protocol = Arc::new(protocol);
        self.approval_rpcs = approval_rpcs;
    }

    /// The moment of the last call.
    pub(crate) fn last_now(&self) -> Now {
        self.now
    }

    /// The RPC numbers that peers were or will be told, for comparing two Worlds.
    pub(crate) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    pub(crate) fn random_below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    pub(crate) fn network_ids(&self) -> usize {
        self.ids.used()
    }

    /// Hands out the control messages that the drivers shall send.
    pub(crate) fn take_sends(&mut self, mut send: impl FnMut(ConnectionKey, &[u8])) {
        for Send { key, bytes } in self.sends.drain(..) {
            send(key, &self.send_bytes[bytes]);
        }
        self.send_bytes.clear();
    }

    /// Hands out the connections that the drivers shall end.
    pub(crate) fn take_closes(&mut self) -> impl Iterator<Item = Close> {
        self.closes.drain(..)
    }

    // What drivers report.

    pub(crate) fn handle_incoming(&mut self, driver: DriverId, incoming: Incoming<'_>, spawn: impl FnOnce() -> Entity) {
        match incoming {
            Incoming::Accepted { connection, address, identity } => {
                if let Some(reason) = self.refuse(address, identity) {
                    let key = ConnectionKey { driver, connection };
                    self.closes.push(Close { key, reason, linger: self.limits.linger });
                    return;
                }
                let mut connection = blank(spawn(), ConnectionKey { driver, connection });
                connection.address = address;
                connection.client_id = identity.map(|identity| identity.client_id);
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

    fn handle_end(&mut self, slot: Slot, reason: DisconnectReason) {
        if let Some(connection) = self.connections.get_mut(slot) {
            // We gave a reason already: it stands, unless the peer's goodbye crossed ours.
            if connection.reason.is_none() || reason.origin == Origin::Remote {
                connection.reason = Some(reason);
            }
            self.input(slot, Input::Ended);
        }
    }

    fn handle_message(&mut self, slot: Slot, channel: ChannelId, message: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let state = connection.state;
        if state.is_ending() {
            self.counters.late_messages += 1;
            return;
        }
        if !state.is_connected() {
            connection.early_messages += 1;
            connection.early_bytes = connection.early_bytes.saturating_add(message.len() as u32);
            if connection.early_messages > self.limits.early_messages
                || connection.early_bytes > self.limits.early_bytes
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
            (Some((MessageKind::Rpc, body)), _) if reliable => self.handle_rpc(slot, body),
            (Some((MessageKind::Command, body)), Side::Server) if data => self.handle_data(slot, body),
            (Some((MessageKind::Snapshot, body)), Side::Client) if data => self.handle_data(slot, body),
            _ => self.violation(slot, "message of unknown kind, or on the wrong channel"),
        }
    }

    fn handle_control(&mut self, slot: Slot, control: Control<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match (control, connection.state, self.side) {
            (Control::Record { record, ticket, credentials }, ConnectionState::Handshake, side) => {
                connection.ticket = ticket;
                if side == Side::Server && !credentials.is_empty() {
                    let entity = connection.entity;
                    self.changes.push_back(Change::Credentials { entity, bytes: credentials.to_vec() });
                }
                self.input(slot, Input::RecordArrived);
                self.validate(slot, record);
            }
            (Control::List(list), ConnectionState::ProtocolValidation, _) if connection.differing.is_some() => {
                self.compare(slot, list);
            }
            (Control::ApprovalRequired { within }, ConnectionState::ProtocolValidation, Side::Client) => {
                let until = self.now.mono + within;
                self.input(slot, Input::ApprovalRequired);
                self.set_deadline(slot, Some(until));
            }
            (Control::ApprovalRequired { within }, ConnectionState::Approval, Side::Client) => {
                connection.deadline = Some(self.now.mono + within);
            }
            (
                Control::Admitted { id, resumed, ticket },
                ConnectionState::ProtocolValidation | ConnectionState::Approval,
                Side::Client,
            ) if connection.differing.is_none() => {
                connection.network_id = Some(id);
                connection.resumed = resumed;
                if let Some(server) = connection.server.take() {
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

    fn handle_rpc(&mut self, slot: Slot, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        // The peer's number, then ours.
        let number = read_id(body).and_then(|(theirs, rest)| {
            let ours = match &connection.numbers {
                None => theirs,
                Some(numbers) => numbers.ours.get(usize::from(theirs)).copied()??,
            };
            Some((ours, rest, *self.approval_rpcs.get(usize::from(ours))?))
        });
        let (number, rest) = match (number, connection.state) {
            (Some((number, rest, _)), ConnectionState::Connected(_)) => (number, rest),
            (Some((number, rest, true)), ConnectionState::Approval) => (number, rest),
            (Some(_), _) => return self.violate(slot, DisconnectCode::InvalidRpc, "RPC before Connected"),
            (None, _) => return self.violate(slot, DisconnectCode::InvalidRpc, "unknown RPC"),
        };
        if connection.numbers.is_some() {
            let mut ours = Vec::with_capacity(3);
            write_id(&mut ours, number);
            connection.rpcs.push_parts(&[&ours, rest]);
        } else {
            connection.rpcs.push(body);
        }
        let full = connection.rpcs.len() > self.limits.incoming_rpcs
            || connection.rpcs.byte_len() > self.limits.incoming_rpc_bytes;
        self.touch(slot);
        if full {
            self.violate(slot, DisconnectCode::Flood, "too many RPCs in one update");
        }
    }

    fn handle_data(&mut self, slot: Slot, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.state.is_in_game() {
            // A client that is not Connected sends no commands. A snapshot may overtake the acceptance.
            if self.side == Side::Server && !connection.state.is_connected() {
                return self.violation(slot, "command before Connected");
            }
            self.counters.out_of_game += 1;
            let since = *connection.out_of_game_since.get_or_insert(self.now.mono);
            if self.now.mono.since(since) >= ONE_SIDED && !std::mem::replace(&mut connection.warned, true) {
                tracing::warn!(
                    "{} sends as if in the game, and this side has not inserted NetworkStreamInGame for {ONE_SIDED:?}",
                    connection.entity
                );
            }
            return;
        }
        connection.out_of_game_since = None;
        if self.thin {
            return;
        }
        connection.data.push(body);
        self.counters.unread_dropped += trim(&mut connection.data, &self.limits);
        self.touch(slot);
    }

    // What the application asks.

    /// A client's attempt to reach a server begins.
    pub(crate) fn connect(
        &mut self,
        entity: Entity,
        key: ConnectionKey,
        server: Endpoint,
        credentials: Vec<u8>,
        as_new: bool,
        reserved: bool,
    ) {
        // A ticket is a secret, and no other server's business. It is kept until the server hands out another: this
        // attempt may fail.
        let ticket = self.ticket.as_ref().filter(|(of, _)| *of == server && !as_new).map(|(_, ticket)| ticket.clone());
        let connection = Connection { server: Some(server), credentials, ticket, ..blank(entity, key) };
        self.add(connection, None, reserved);
    }

    /// `Err` says in which state the connection is that cannot be closed any more.
    pub(crate) fn close(&mut self, slot: Slot, reason: DisconnectReason) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.state.is_ending() {
            return false;
        }
        connection.reason = Some(reason);
        self.input(slot, Input::CloseRequested)
    }

    /// The driver of this connection is gone: whatever it had to say was said.
    pub(crate) fn driver_gone(&mut self, slot: Slot, reason: DisconnectReason) {
        self.handle_end(slot, reason);
    }

    pub(crate) fn entity_removed(&mut self, slot: Slot) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.state == ConnectionState::Disconnected {
            return false;
        }
        connection.reason.get_or_insert_with(|| DisconnectReason::local(DisconnectCode::EntityDespawned));
        self.input(slot, Input::EntityDespawned)
    }

    pub(crate) fn set_in_game(&mut self, slot: Slot, in_game: bool) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.in_game = in_game;
        if connection.state.is_connected() && connection.state.is_in_game() != in_game {
            self.input(slot, if in_game { Input::EnterGame } else { Input::LeaveGame });
        }
    }

    pub(crate) fn approve(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.approved = true;
        if connection.state == ConnectionState::Approval {
            self.admit(slot);
        }
    }

    /// False if the connection is not in Approval.
    pub(crate) fn extend_approval(&mut self, slot: Slot, by: Duration) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.state != ConnectionState::Approval {
            return false;
        }
        connection.deadline = Some(self.now.mono + by);
        let key = connection.key;
        self.send_control(key, |out| control::write_approval_required(out, by));
        true
    }

    /// Tells a client that its server takes nobody new and ends within this time.
    pub(crate) fn announce_drain(&mut self, slot: Slot, within: Duration) {
        if let Some(connection) = self.connections.get(slot)
            && connection.state.is_connected()
        {
            self.send_control(connection.key, |out| control::write_draining(out, within));
        }
    }

    /// Ends every present connection that a ban concerns.
    pub(crate) fn enforce_bans(&mut self) {
        let slots: Vec<Slot> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(connection) = self.connections.get(slot) else { continue };
            let identity = connection.client_id.map(|client_id| Identity { client_id, user_data: [0; 256] });
            if let Some(reason) = self.bans.refuse(self.now.mono, identity.as_ref(), connection.address) {
                self.close(slot, reason);
            }
        }
    }

    /// An RPC of this connection turned out to be malformed.
    pub(crate) fn invalid_rpc(&mut self, slot: Slot, what: &str) {
        self.violate(slot, DisconnectCode::InvalidRpc, what);
    }

    /// Lets deadlines act.
    pub(crate) fn tick(&mut self) {
        let mut young = std::mem::take(&mut self.young);
        young.retain(|&slot| {
            let Some(connection) = self.connections.get_mut(slot) else { return false };
            let Some(deadline) = connection.deadline else { return false };
            if self.now.mono < deadline {
                return true;
            }
            let code = match connection.state {
                ConnectionState::Approval => DisconnectCode::ApprovalTimeout,
                _ => DisconnectCode::HandshakeTimeout,
            };
            connection.reason = Some(DisconnectReason::local(code));
            self.input(slot, Input::DeadlinePassed);
            false
        });
        young.append(&mut self.young);
        self.young = young;
    }

    // The way up.

    fn add(&mut self, mut connection: Connection, identity: Option<Box<Identity>>, reserved: bool) {
        let (state, effects) = first_state(self.side);
        connection.state = state;
        let Connection { entity, key, .. } = connection;
        let slot = self.connections.insert(connection);
        self.changes.push_back(Change::Born { entity, key, identity, reserved });
        self.enter(slot, effects);
    }

    /// Compares the peer's record with ours.
    fn validate(&mut self, slot: Slot, record: ProtocolRecord) {
        let ours = self.protocol.record();
        if record == ours {
            if self.side == Side::Server {
                self.decide(slot);
            }
            return;
        }
        let speaks_lists = record.netstream == ours.netstream;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.differing = Some(record);
        if speaks_lists {
            let (key, protocol) = (connection.key, self.protocol.clone());
            self.send_control(key, |out| control::write_list(out, |out| protocol.write_list(out)));
        } else {
            self.mismatch(slot, None);
        }
    }

    /// The peer's list is here. Can the two ends play all the same?
    fn compare(&mut self, slot: Slot, list: PeerList) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(record) = &connection.differing else { return };
        let diff = self.protocol.diff(record, Some(&list));
        let numbers = match self.schema_policy {
            SchemaPolicy::Strict => None,
            SchemaPolicy::Compatible => self.protocol.translate(&list, &diff),
        };
        let Some(numbers) = numbers else { return self.mismatch(slot, Some(list)) };
        connection.differing = None;
        self.changes.push_back(Change::Lacking { entity: connection.entity, types: numbers.lacking.clone() });
        connection.numbers = Some(Box::new(numbers));
        if self.side == Side::Server {
            self.decide(slot);
        }
    }

    fn mismatch(&mut self, slot: Slot, list: Option<PeerList>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(record) = connection.differing.take() else { return };
        let diff = self.protocol.diff(&record, list.as_ref());
        let reason = DisconnectReason::local(DisconnectCode::ProtocolMismatch).with_text(&diff.to_string());
        connection.reason = Some(reason);
        connection.mismatch = Some(Arc::new(diff));
        self.input(slot, Input::RecordDiffers);
    }

    /// Server: the versions agree. Does the game code want a say?
    fn decide(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get(slot) else { return };
        let of_driver = self.approval_of_driver.get(&connection.key.driver);
        if !of_driver.copied().unwrap_or(self.approval_required) {
            return self.admit(slot);
        }
        let waiting = self.connections.iter().filter(|(_, other)| other.state == ConnectionState::Approval).count();
        if waiting >= self.limits.awaiting_approval {
            self.counters.refused_full += 1;
            let reason = DisconnectReason::local(DisconnectCode::ServerFull);
            self.close(slot, reason.with_text("too many players wait for approval; try again later"));
            return;
        }
        self.input(slot, Input::ApprovalRequired);
        if self.connections.get(slot).is_some_and(|connection| connection.approved) {
            self.admit(slot);
        }
    }

    /// Server: nothing stands in the way. Is it somebody who was here before?
    fn admit(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let ticket = connection.ticket.take();
        let claimed = ticket.as_ref().and_then(|ticket| self.tickets.redeem(ticket));
        self.counters.stale_tickets += u64::from(ticket.is_some() && claimed.is_none());
        let resumed = match claimed.map(|id| (id, self.holders.get(&id).copied())) {
            None => None,
            Some((_, Some(_))) if self.same_identity == SameIdentity::RejectNew => {
                self.close(slot, DisconnectReason::local(DisconnectCode::IdentityInUse));
                return;
            }
            Some((id, Some(holder))) => {
                // The id changes hands at once, so that the old connection does not take it into quarantine.
                self.holders.remove(&id);
                self.close(holder, DisconnectReason::local(DisconnectCode::Superseded));
                Some(id)
            }
            Some((id, None)) => self.ids.take(id).then_some(id),
        };
        let cap = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        let allotted = resumed.or_else(|| self.ids.allot(self.now.mono, self.limits.id_quarantine, cap));
        let Some(id) = allotted else {
            self.counters.refused_full += 1;
            self.close(slot, DisconnectReason::local(DisconnectCode::ServerFull));
            return;
        };
        self.counters.resumed += u64::from(resumed.is_some());
        self.holders.insert(id, slot);
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.network_id = Some(id);
            connection.resumed = resumed.is_some();
        }
        self.establish(slot);
    }

    fn establish(&mut self, slot: Slot) {
        self.input(slot, Input::Admitted);
        self.input(slot, Input::Established);
        if self.connections.get(slot).is_some_and(|connection| connection.in_game) {
            self.input(slot, Input::EnterGame);
        }
    }

    fn violation(&mut self, slot: Slot, what: &str) {
        self.violate(slot, DisconnectCode::ProtocolViolation, what);
    }

    fn violate(&mut self, slot: Slot, code: DisconnectCode, what: &str) {
        self.counters.violations += 1;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.reason = Some(DisconnectReason::local(code).with_text(what));
        }
        self.input(slot, Input::Violation);
    }

    // The machine.

    /// Looks the transition up and carries it out; false if there is none.
    fn input(&mut self, slot: Slot, input: Input) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let Some(row) = transition(self.side, connection.state, input) else {
            self.counters.refused_inputs += 1;
            return false;
        };
        connection.state = row.to;
        self.enter(slot, row.effects);
        true
    }

    /// Carries out the effects that lead into the present state and raises its event.
    fn enter(&mut self, slot: Slot, effects: &[Effect]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let over = connection.state == ConnectionState::Disconnected;
        let event = ConnectionEvent {
            connection: connection.entity,
            key: connection.key,
            state: connection.state,
            network_id: connection.network_id,
            reconnected: connection.resumed,
            reason: connection.reason.clone().filter(|_| over),
            mismatch: connection.mismatch.clone().filter(|_| over),
        };
        for &effect in effects {
            self.perform(slot, effect);
        }
        self.changes.push_back(Change::State(event));
    }

    fn perform(&mut self, slot: Slot, effect: Effect) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let key = connection.key;
        match effect {
            Effect::SendRecord => {
                let credentials = std::mem::take(&mut connection.credentials);
                let ticket = connection.ticket.take();
                let record = self.protocol.record();
                self.send_control(key, |out| control::write_record(out, &record, ticket.as_ref(), &credentials));
                let until = self.now.mono + self.limits.handshake;
                self.set_deadline(slot, Some(until));
            }
            Effect::AskForApproval => {
                let within = self.limits.approval;
                self.send_control(key, |out| control::write_approval_required(out, within));
                self.set_deadline(slot, Some(self.now.mono + within));
            }
            Effect::AwaitApproval => self.set_deadline(slot, Some(self.now.mono + self.limits.approval)),
            Effect::Admit => {
                let resumed = connection.resumed;
                if let Some(id) = connection.network_id {
                    let ticket = self.tickets.issue(id, &mut *self.random);
                    self.send_control(key, |out| control::write_admitted(out, resumed, &ticket));
                }
            }
            Effect::StopDeadline => connection.deadline = None,
            Effect::CloseLink => self.close_link(slot, self.limits.linger),
            Effect::CloseLinkNow => self.close_link(slot, Duration::ZERO),
            Effect::Retire => {
                if let Some(id) = connection.network_id
                    && self.holders.get(&id) == Some(&slot)
                {
                    self.holders.remove(&id);
                    self.ids.release(self.now.mono, id);
                }
                self.connections.forget_key(slot);
                self.retired.push(slot);
            }
        }
    }

    fn close_link(&mut self, slot: Slot, linger: Duration) {
        if let Some(connection) = self.connections.get(slot) {
            let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
            let reason = connection.reason.clone().unwrap_or(close);
            self.closes.push(Close { key: connection.key, reason, linger });
        }
    }

    fn send_control(&mut self, key: ConnectionKey, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.send_bytes.len();
        write(&mut self.send_bytes);
        self.sends.push(Send { key, bytes: start..self.send_bytes.len() });
    }

    fn set_deadline(&mut self, slot: Slot, deadline: Option<Mono>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            if connection.deadline.is_none() {
                self.young.push(slot);
            }
            connection.deadline = deadline;
        }
    }

    fn touch(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.touched, true)
        {
            self.touched.push(slot);
        }
    }

    /// The live connection's id on the wire.
    pub(crate) fn network_id(&self, slot: Slot) -> Option<NetworkId> {
        self.connections.get(slot)?.network_id
    }
}

/// After this long it is no race any more that only one side has put the in-game mark.
const ONE_SIDED: Duration = Duration::from_secs(5);

fn blank(entity: Entity, key: ConnectionKey) -> Connection {
    Connection {
        entity,
        key,
        state: ConnectionState::Connecting,
        network_id: None,
        reason: None,
        deadline: None,
        approved: false,
        in_game: false,
        early_messages: 0,
        early_bytes: 0,
        address: None,
        client_id: None,
        server: None,
        credentials: Vec::new(),
        ticket: None,
        resumed: false,
        numbers: None,
        differing: None,
        mismatch: None,
        rpcs: Default::default(),
        data: Default::default(),
        touched: false,
        out_of_game_since: None,
        warned: false,
    }
}

/// Drops the oldest messages over the caps; says how many.
pub(crate) fn trim(queue: &mut crate::queue::MessageQueue, limits: &NetworkLimits) -> u64 {
    let mut dropped = 0;
    while queue.len() > limits.incoming_data || queue.byte_len() > limits.incoming_data_bytes {
        queue.pop_front();
        dropped += 1;
    }
    dropped
}
