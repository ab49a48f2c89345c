//! Who may enter, and who has to go.

use std::time::Duration;

use bevy_ecs::entity::Entity;
use netstream_driver::DriverId;
use netstream_driver::transport::{DisconnectCode, DisconnectReason};

use super::NetworkStreamDriver;
use crate::ConnectionState;
use crate::errors::{ConnectionError, UnknownDriver};
use crate::session::{BanTarget, Slot};
use crate::state::Side;

impl NetworkStreamDriver {
    /// Ends a connection. Reliable data that is queued already is delivered first, for at most
    /// [`NetworkLimits::linger`](crate::NetworkLimits::linger); the other end sees code and text with origin Remote.
    pub fn disconnect(&mut self, connection: Entity, reason: DisconnectReason) -> Result<(), ConnectionError> {
        let slot = self.slot(connection)?;
        self.session.now();
        if self.session.core.close(slot, reason) {
            return Ok(());
        }
        Err(ConnectionError::Ending(self.state(connection).unwrap_or(ConnectionState::Disconnected)))
    }

    /// Ends a connection with code `Kicked` and this text.
    pub fn kick(&mut self, connection: Entity, text: &str) -> Result<(), ConnectionError> {
        self.disconnect(connection, DisconnectReason::local(DisconnectCode::Kicked).with_text(text))
    }

    /// Keeps this identity or these addresses out for a time (`None`: until [`unban`](Self::unban)), and ends the
    /// connections that it concerns with code `Banned` and this text.
    pub fn ban(&mut self, target: BanTarget, time: Option<Duration>, text: &str) {
        let now = self.session.now();
        self.session.core.bans.add(target, now.mono, time, text);
        self.session.core.enforce_bans();
    }

    /// Lifts a ban; false if there was none.
    pub fn unban(&mut self, target: BanTarget) -> bool {
        self.session.core.bans.remove(target)
    }

    /// The bans that count now, expired ones possibly included until the next player comes.
    pub fn bans(&self) -> impl Iterator<Item = BanTarget> {
        self.session.core.bans.targets()
    }

    /// Ends every connection with this reason.
    pub fn disconnect_all(&mut self, reason: &DisconnectReason) {
        let slots: Vec<Slot> = self.session.core.connections.iter().map(|(slot, _)| slot).collect();
        self.session.now();
        for slot in slots {
            self.session.core.close(slot, reason.clone());
        }
    }

    /// Whether connections that reach ProtocolValidation from now on need the game's approval. Off by default.
    pub fn require_approval(&mut self, required: bool) {
        self.session.core.approval_required = required;
    }

    /// The same for one driver only, whatever holds for the others; `None` lets it follow them again.
    pub fn require_approval_on(&mut self, driver: DriverId, required: Option<bool>) -> Result<(), UnknownDriver> {
        if !self.session.store.contains(driver) {
            return Err(UnknownDriver(driver));
        }
        match required {
            Some(required) => self.session.core.approval_of_driver.insert(driver, required),
            None => self.session.core.approval_of_driver.remove(&driver),
        };
        Ok(())
    }

    /// Lets a waiting connection enter; the same as inserting [`ConnectionApproved`](crate::ConnectionApproved). Before
    /// Approval it counts as soon as that is reached.
    pub fn approve(&mut self, connection: Entity) -> Result<(), ConnectionError> {
        let slot = self.undecided(connection)?;
        self.session.core.approve(slot);
        Ok(())
    }

    /// Refuses a waiting connection with code `ApprovalDenied` and this text.
    pub fn deny(&mut self, connection: Entity, text: &str) -> Result<(), ConnectionError> {
        self.undecided(connection)?;
        self.disconnect(connection, DisconnectReason::local(DisconnectCode::ApprovalDenied).with_text(text))
    }

    /// Gives the decision `time` from now; the client is told.
    pub fn extend_approval(&mut self, connection: Entity, time: Duration) -> Result<(), ConnectionError> {
        let slot = self.undecided(connection)?;
        if self.session.core.extend_approval(slot, time) {
            return Ok(());
        }
        Err(ConnectionError::NotWaiting(self.state(connection).unwrap_or(ConnectionState::Disconnected)))
    }

    fn undecided(&mut self, connection: Entity) -> Result<Slot, ConnectionError> {
        if self.session.core.side == Side::Client {
            return Err(ConnectionError::NotAServer);
        }
        let slot = self.slot(connection)?;
        self.session.now();
        match self.state(connection) {
            Some(state) if state.is_ending() => Err(ConnectionError::Ending(state)),
            Some(state @ (ConnectionState::Accepted | ConnectionState::Connected(_))) => {
                Err(ConnectionError::NotWaiting(state))
            }
            _ => Ok(slot),
        }
    }
}
