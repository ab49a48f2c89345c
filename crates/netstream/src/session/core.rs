//! The lifecycle as a pure machine: what drivers report and what the application asks go in; requests to drivers and
//! changes for the World come out. It touches neither. What drivers report is read in `incoming`, the way up is decided in
//! `admission`; both speak through the machine here.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream_driver::transport::channel::ChannelTable;
use netstream_driver::transport::mutants::mutant;
use netstream_driver::transport::{DisconnectCode, DisconnectReason, Identity, Mono, Now, Origin, Random};
use netstream_driver::{ConnectionKey, DriverId, Endpoint};

use super::arrivals::Arrivals;
use super::bans::BanList;
use super::control;
use super::counters::SessionCounters;
use super::ids::NetworkIdPool;
use super::protocol::{Protocol, Protocols, SchemaPolicy};
use super::table::{Connection, ConnectionTable, Details, Slot};
use super::tickets::{ResumeTicket, TicketBook};
use crate::log::{Line, LogBudget};
use crate::rpc::RpcPolicy;
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
    Born { slot: Slot, identity: Option<Box<Identity>>, reserved: bool },
    /// The client's credentials have arrived.
    Credentials { entity: Entity, bytes: Vec<u8> },
    /// The peer has not all of our RPC types: for each of our numbers, whether it lacks the type.
    Lacking { entity: Entity, types: Arc<[bool]> },
    /// The server of this connection takes nobody new and ends within this time.
    Draining { entity: Entity, within: Duration },
    /// A state changed.
    State(ConnectionEvent),
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
    /// Messages for the entities.
    pub(crate) arrivals: Arrivals,
    /// Connections that are over and whose entities go at the end of the update.
    pub(crate) retired: Vec<Slot>,
    sends: Vec<Send>,
    send_bytes: Vec<u8>,
    pub(super) closes: Vec<Close>,
    pub(super) protocols: Protocols,
    /// For each RPC id on the wire, whether it may travel before Connected.
    pub(super) rpcs: Vec<RpcPolicy>,
    pub(super) ids: NetworkIdPool,
    /// Server: who holds which id.
    pub(super) holders: BTreeMap<NetworkId, Slot>,
    pub(super) tickets: TicketBook,
    pub(super) random: Box<dyn Random>,
    /// Connections with a deadline.
    pub(super) young: Vec<Slot>,
    log: LogBudget,
    pub(super) now: Now,
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
            arrivals: Arrivals::default(),
            retired: Vec::new(),
            sends: Vec::new(),
            send_bytes: Vec::new(),
            closes: Vec::new(),
            protocols: Protocols::default(),
            rpcs: Vec::new(),
            ids: NetworkIdPool::default(),
            holders: BTreeMap::new(),
            tickets: TicketBook::default(),
            random,
            young: Vec::new(),
            log: LogBudget::default(),
            now: Now::default(),
        }
    }

    /// Whether one more line of this kind may be written to the log.
    pub(crate) fn may_log(&mut self, line: Line) -> bool {
        self.log.take(self.now.mono, line)
    }

    /// From now on `now` is the time of everything that happens.
    pub(crate) fn set_now(&mut self, now: Now) {
        self.now = now;
    }

    pub(crate) fn has_protocol(&self) -> bool {
        self.protocols.is_set()
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol, rpcs: Vec<RpcPolicy>) {
        self.protocols.set(protocol);
        self.rpcs = rpcs;
    }

    /// The moment of the last call.
    pub(crate) fn last_now(&self) -> Now {
        self.now
    }

    /// The channels of a driver's connections, which both ends must have alike.
    pub(crate) fn note_channels(&mut self, driver: DriverId, channels: &ChannelTable) {
        self.protocols.note_channels(driver, channels);
    }

    /// Nothing is kept of these drivers.
    pub(crate) fn forget_drivers(&mut self, gone: impl Fn(DriverId) -> bool) {
        self.protocols.forget(&gone);
        self.approval_of_driver.retain(|&driver, _| !gone(driver));
    }

    /// What a client says first, without a ticket and credentials.
    pub(crate) fn greeting(&self, driver: DriverId) -> Vec<u8> {
        let mut greeting = Vec::new();
        control::write_record(&mut greeting, &self.protocols.of(driver).record(), None, &[]);
        greeting
    }

    /// Of how many drivers something is kept.
    #[cfg(test)]
    pub(super) fn drivers_known(&self) -> (usize, usize) {
        (self.protocols.len(), self.approval_of_driver.len())
    }

    /// The RPC numbers that peers were or will be told, for comparing two Worlds.
    pub(crate) fn protocol(&self) -> &Protocol {
        self.protocols.base()
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
        // attempt may fail. Of the many players of a thin World nobody knows whose it is.
        let as_new = as_new || self.thin;
        let ticket = self.ticket.as_ref().filter(|(of, _)| *of == server && !as_new).map(|(_, ticket)| ticket.clone());
        let mut connection = blank(entity, key);
        *connection.details = Details { server: Some(server), credentials, ticket, ..Details::default() };
        self.add(connection, None, reserved);
    }

    /// `Err` says in which state the connection is that cannot be closed any more.
    pub(crate) fn close(&mut self, slot: Slot, reason: DisconnectReason) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        if connection.state.is_ending() {
            return false;
        }
        connection.details.reason = Some(reason);
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
        connection.details.reason.get_or_insert_with(|| DisconnectReason::local(DisconnectCode::EntityDespawned));
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
        connection.details.deadline = Some(self.now.mono + by);
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
            let identity = connection.details.client_id.map(|client_id| Identity { client_id, user_data: [0; 256] });
            if let Some(reason) = self.bans.refuse(self.now.mono, identity.as_ref(), connection.details.address) {
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
            let Some(deadline) = connection.details.deadline else { return false };
            if self.now.mono < deadline {
                return true;
            }
            let code = match connection.state {
                ConnectionState::Approval => DisconnectCode::ApprovalTimeout,
                _ => DisconnectCode::HandshakeTimeout,
            };
            connection.details.reason = Some(DisconnectReason::local(code));
            self.input(slot, Input::DeadlinePassed);
            false
        });
        young.append(&mut self.young);
        self.young = young;
    }

    pub(super) fn add(&mut self, mut connection: Connection, identity: Option<Box<Identity>>, reserved: bool) {
        let (state, effects) = first_state(self.side);
        connection.state = state;
        let slot = self.connections.insert(connection);
        self.changes.push_back(Change::Born { slot, identity, reserved });
        self.enter(slot, effects);
    }

    pub(crate) fn violation(&mut self, slot: Slot, what: &str) {
        self.violate(slot, DisconnectCode::ProtocolViolation, what);
    }

    pub(super) fn violate(&mut self, slot: Slot, code: DisconnectCode, what: &str) {
        self.counters.violations += 1;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.details.reason = Some(DisconnectReason::local(code).with_text(what));
        }
        self.input(slot, Input::Violation);
    }

    // The machine.

    /// Looks the transition up and carries it out; false if there is none.
    pub(super) fn input(&mut self, slot: Slot, input: Input) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let Some(row) = transition(self.side, connection.state, input) else {
            self.counters.refused_inputs += 1;
            return false;
        };
        connection.state = row.to;
        connection.details.ending.note(row.to);
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
            network_id: connection.details.network_id,
            reconnected: connection.resumed,
            reason: connection.details.reason.clone().filter(|_| over),
            mismatch: connection.details.mismatch.clone().filter(|_| over),
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
                let credentials = std::mem::take(&mut connection.details.credentials);
                let ticket = connection.details.ticket.take();
                let record = self.protocols.of(key.driver).record();
                self.send_control(key, |out| control::write_record(out, &record, ticket.as_ref(), &credentials));
            }
            Effect::AwaitRecord => self.set_deadline(slot, Some(self.now.mono + self.limits.handshake)),
            Effect::AskForApproval => {
                let within = self.limits.approval;
                self.send_control(key, |out| control::write_approval_required(out, within));
                self.set_deadline(slot, Some(self.now.mono + within));
            }
            Effect::AwaitApproval => self.set_deadline(slot, Some(self.now.mono + self.limits.approval)),
            Effect::Admit => {
                let resumed = connection.resumed;
                if let Some(id) = connection.details.network_id {
                    let ticket = self.tickets.issue(id, &mut *self.random);
                    self.send_control(key, |out| control::write_admitted(out, resumed, &ticket));
                }
            }
            Effect::StopDeadline => connection.details.deadline = None,
            Effect::CloseLink => self.close_link(slot, self.limits.linger),
            Effect::CloseLinkNow => self.close_link(slot, Duration::ZERO),
            Effect::Retire => {
                if let Some(id) = connection.details.network_id
                    && self.holders.get(&id) == Some(&slot)
                {
                    self.holders.remove(&id);
                    let ours = connection.details.reason.as_ref().is_some_and(|reason| reason.origin == Origin::Local);
                    if !(mutant(11) && ours) {
                        self.ids.release(self.now.mono, id);
                    }
                }
                self.connections.forget_key(slot);
                self.retired.push(slot);
            }
        }
    }

    fn close_link(&mut self, slot: Slot, linger: Duration) {
        if let Some(connection) = self.connections.get(slot) {
            let close = DisconnectReason::local(DisconnectCode::ConnectionClose);
            let reason = connection.details.reason.clone().unwrap_or(close);
            self.closes.push(Close { key: connection.key, reason, linger });
        }
    }

    pub(super) fn send_control(&mut self, key: ConnectionKey, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.send_bytes.len();
        write(&mut self.send_bytes);
        self.sends.push(Send { key, bytes: start..self.send_bytes.len() });
    }

    pub(super) fn set_deadline(&mut self, slot: Slot, deadline: Option<Mono>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            if connection.details.deadline.is_none() {
                self.young.push(slot);
            }
            connection.details.deadline = deadline;
        }
    }

    /// Forgets a connection whose end was raised, and says which entity it had.
    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Entity> {
        self.arrivals.forget(slot);
        self.connections.remove(slot).map(|connection| connection.entity)
    }

    /// The live connection's id on the wire.
    pub(crate) fn network_id(&self, slot: Slot) -> Option<NetworkId> {
        self.connections.get(slot)?.details.network_id
    }
}

pub(super) fn blank(entity: Entity, key: ConnectionKey) -> Connection {
    Connection {
        key,
        entity,
        state: ConnectionState::Connecting,
        in_game: false,
        approved: false,
        resumed: false,
        warned: false,
        out_of_game_since: None,
        waiting_rpcs: 0,
        waiting_rpc_bytes: 0,
        numbers: None,
        details: Box::default(),
    }
}
