//! The way up: do the two ends fit, may the player enter, and who is it?

use std::sync::Arc;

use netstream_driver::transport::mutants::mutant;
use netstream_driver::transport::{DisconnectCode, DisconnectReason};

use super::control;
use super::core::{Change, Core, SameIdentity};
use super::protocol::{PeerList, ProtocolRecord, SchemaPolicy};
use super::table::Slot;
use crate::ConnectionState;
use crate::state::{Input, Side};

impl Core {
    /// Compares the peer's record with ours.
    pub(super) fn validate(&mut self, slot: Slot, record: ProtocolRecord) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let (key, protocol) = (connection.key, self.protocols.of(connection.key.driver));
        let ours = protocol.record();
        if record == ours || mutant(13) {
            if self.side == Side::Server {
                self.decide(slot);
            }
            return;
        }
        let speaks_lists = record.netstream == ours.netstream;
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.details.differing = Some(record);
        if speaks_lists {
            self.send_control(key, |out| control::write_list(out, |out| protocol.write_list(out)));
        } else {
            self.mismatch(slot, None);
        }
    }

    /// The peer's list is here. Can the two ends play all the same?
    pub(super) fn compare(&mut self, slot: Slot, list: PeerList) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(record) = &connection.details.differing else { return };
        let protocol = self.protocols.of(connection.key.driver);
        let diff = protocol.diff(record, Some(&list));
        let numbers = match self.schema_policy {
            SchemaPolicy::Strict => None,
            SchemaPolicy::Compatible => protocol.translate(&list, &diff),
        };
        let Some(numbers) = numbers else { return self.mismatch(slot, Some(list)) };
        connection.details.differing = None;
        self.changes.push_back(Change::Lacking { entity: connection.entity, types: numbers.lacking.clone() });
        connection.numbers = Some(Box::new(numbers));
        if self.side == Side::Server {
            self.decide(slot);
        }
    }

    fn mismatch(&mut self, slot: Slot, list: Option<PeerList>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(record) = connection.details.differing.take() else { return };
        let diff = self.protocols.of(connection.key.driver).diff(&record, list.as_ref());
        let reason = DisconnectReason::local(DisconnectCode::ProtocolMismatch).with_text(&diff.to_string());
        connection.details.reason = Some(reason);
        connection.details.mismatch = Some(Arc::new(diff));
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
    pub(super) fn admit(&mut self, slot: Slot) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let ticket = connection.details.ticket.take();
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
            connection.details.network_id = Some(id);
            connection.resumed = resumed.is_some();
        }
        self.establish(slot);
    }

    pub(super) fn establish(&mut self, slot: Slot) {
        self.input(slot, Input::Admitted);
        self.input(slot, Input::Established);
        self.release_held(slot);
        if self.connections.get(slot).is_some_and(|connection| connection.in_game) {
            self.input(slot, Input::EnterGame);
        }
    }
}
