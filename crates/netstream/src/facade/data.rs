//! Commands and snapshots as raw bytes.

use bevy_ecs::entity::Entity;
use netstream_driver::transport::ChannelId;
use netstream_driver::transport::copy::append;
use netstream_driver::{NetworkDriver, SendError};

use super::NetworkStreamDriver;
use crate::errors::NetworkSendError;
use crate::session::control::MessageKind;
use crate::state::Side;

impl NetworkStreamDriver {
    /// Client: sends a command to the server, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_command(&mut self, connection: Entity, command: &[u8]) -> Result<(), NetworkSendError> {
        if self.session.core.side == Side::Server {
            return Err(NetworkSendError::WrongSide("server"));
        }
        self.send_data(connection, MessageKind::Command, command)
    }

    /// Server: sends a snapshot to a client, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_snapshot(&mut self, connection: Entity, snapshot: &[u8]) -> Result<(), NetworkSendError> {
        if self.session.core.side == Side::Client {
            return Err(NetworkSendError::WrongSide("client"));
        }
        self.send_data(connection, MessageKind::Snapshot, snapshot)
    }

    /// How many bytes, with the kind, fit in one datagram to this connection.
    pub(crate) fn data_limit(&self, entity: Entity) -> usize {
        self.driver_of(entity).map_or(0, |driver| driver.max_message(ChannelId::UNRELIABLE))
    }

    /// Whether this kind of driver carries the connection.
    pub(crate) fn is_driven_by<D: NetworkDriver>(&self, entity: Entity) -> bool {
        self.driver_of(entity).is_some_and(|driver| driver.as_any().is::<D>())
    }

    fn driver_of(&self, entity: Entity) -> Option<&dyn NetworkDriver> {
        let core = &self.session.core;
        let key = core.connections.get(core.connections.of_entity(entity)?)?.key;
        self.session.store.get(key.driver)
    }

    pub(crate) fn send_data(&mut self, entity: Entity, kind: MessageKind, body: &[u8]) -> Result<(), NetworkSendError> {
        let slot = self.slot(entity).map_err(|_| NetworkSendError::Unknown(entity))?;
        let connection = self.session.core.connections.get(slot).ok_or(NetworkSendError::Unknown(entity))?;
        let (state, key) = (connection.state, connection.key);
        if !state.is_connected() {
            return Err(NetworkSendError::NotReady(state));
        }
        if !state.is_in_game() {
            return Err(NetworkSendError::NotInGame);
        }
        self.message.clear();
        self.message.push(kind as u8);
        append(&mut self.message, body);
        // The time of this update is right enough: when a packet leaves is told when it does.
        let now = self.session.core.last_now();
        let driver = self.session.store.get_mut(key.driver).ok_or(SendError::NotConnected)?;
        let fits = self.message.len() <= driver.max_message(ChannelId::UNRELIABLE);
        let channel = if fits { ChannelId::UNRELIABLE } else { ChannelId::UNRELIABLE_FRAGMENTED };
        Ok(driver.send(now, key.connection, channel, &self.message)?)
    }
}
