//! The lifecycle as a pure machine: what drivers report and what the application asks go in; requests to drivers and
//! changes for the World come out. It touches neither.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream_driver::transport::{
    ChannelId, DisconnectCode, DisconnectReason, Identity, Incoming, Mono, Now, Origin,
};
use netstream_driver::{ConnectionKey, DriverId};

use super::control::{self, Control, MessageKind};
use super::ids::NetworkIdPool;
use super::protocol::{PeerList, Protocol, ProtocolRecord};
use super::table::{Connection, ConnectionTable, Slot};
use super::wire::read_id;
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
}

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) side: Side,
    pub(crate) limits: NetworkLimits,
    pub(crate) approval_required: bool,
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
    /// Connections with a deadline.
    young: Vec<Slot>,
    now: Now,
}

impl Core {
    pub(crate) fn new(side: Side) -> Self {
        Self {
            side,
            limits: NetworkLimits::default(),
            approval_required: false,
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
            Incoming::Accepted { connection, identity, .. } => {
                let key = ConnectionKey { driver, connection };
                if self.side == Side::Client || self.connections.len() >= self.limits.connections {
                    self.counters.refused_full += 1;
                    let reason = DisconnectReason::local(DisconnectCode::ServerFull);
                    self.closes.push(Close { key, reason, linger: self.limits.linger });
                    return;
                }
                self.add(spawn(), key, identity.cloned().map(Box::new), false, Vec::new());
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
            (Control::Record { record, credentials }, ConnectionState::Handshake, side) => {
                if side == Side::Server && !credentials.is_empty() {
                    let entity = connection.entity;
                    self.changes.push_back(Change::Credentials { entity, bytes: credentials.to_vec() });
                }
                self.input(slot, Input::RecordArrived);
                self.validate(slot, record);
            }
            (Control::List(list), ConnectionState::ProtocolValidation, _) if connection.differing.is_some() => {
                self.mismatch(slot, Some(list));
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
                Control::Admitted { id },
                ConnectionState::ProtocolValidation | ConnectionState::Approval,
                Side::Client,
            ) if connection.differing.is_none() => {
                connection.network_id = Some(id);
                self.establish(slot);
            }
            _ => self.violation(slot, "control message in the wrong state"),
        }
    }

    fn handle_rpc(&mut self, slot: Slot, body: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let approval = read_id(body).and_then(|(id, _)| self.approval_rpcs.get(usize::from(id)).copied());
        let refused = match (approval, connection.state) {
            (None, _) => Some("unknown RPC"),
            (Some(_), ConnectionState::Connected(_)) | (Some(true), ConnectionState::Approval) => None,
            (Some(_), _) => Some("RPC before Connected"),
        };
        if let Some(what) = refused {
            return self.violate(slot, DisconnectCode::InvalidRpc, what);
        }
        connection.rpcs.push(body);
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
            return;
        }
        connection.data.push(body);
        self.counters.unread_dropped += trim(&mut connection.data, &self.limits);
        self.touch(slot);
    }

    // What the application asks.

    /// A client's attempt to reach a server begins.
    pub(crate) fn connect(&mut self, entity: Entity, key: ConnectionKey, credentials: Vec<u8>, reserved: bool) {
        self.add(entity, key, None, reserved, credentials);
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

    fn add(
        &mut self,
        entity: Entity,
        key: ConnectionKey,
        identity: Option<Box<Identity>>,
        reserved: bool,
        credentials: Vec<u8>,
    ) {
        let (state, effects) = first_state(self.side);
        let slot = self.connections.insert(Connection {
            entity,
            key,
            state,
            network_id: None,
            reason: None,
            deadline: None,
            approved: false,
            in_game: false,
            early_messages: 0,
            early_bytes: 0,
            credentials,
            differing: None,
            mismatch: None,
            rpcs: Default::default(),
            data: Default::default(),
            touched: false,
        });
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
        if !self.approval_required {
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

    fn admit(&mut self, slot: Slot) {
        let cap = u32::try_from(self.limits.connections).unwrap_or(u32::MAX);
        match self.ids.allot(self.now.mono, self.limits.id_quarantine, cap) {
            Some(id) => {
                if let Some(connection) = self.connections.get_mut(slot) {
                    connection.network_id = Some(id);
                }
                self.establish(slot);
            }
            None => {
                self.counters.refused_full += 1;
                self.close(slot, DisconnectReason::local(DisconnectCode::ServerFull));
            }
        }
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
                let record = self.protocol.record();
                self.send_control(key, |out| control::write_record(out, &record, &credentials));
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
                if let Some(id) = connection.network_id {
                    self.send_control(key, |out| control::write_admitted(out, id));
                }
            }
            Effect::StopDeadline => connection.deadline = None,
            Effect::CloseLink => self.close_link(slot, self.limits.linger),
            Effect::CloseLinkNow => self.close_link(slot, Duration::ZERO),
            Effect::Retire => {
                if let Some(id) = connection.network_id
                    && self.side == Side::Server
                {
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

/// Drops the oldest messages over the caps; says how many.
pub(crate) fn trim(queue: &mut crate::queue::MessageQueue, limits: &NetworkLimits) -> u64 {
    let mut dropped = 0;
    while queue.len() > limits.incoming_data || queue.byte_len() > limits.incoming_data_bytes {
        queue.pop_front();
        dropped += 1;
    }
    dropped
}
