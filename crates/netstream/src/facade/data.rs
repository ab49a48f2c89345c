//! Commands and snapshots as raw bytes.

use bevy_ecs::entity::Entity;
use netstream_driver::transport::copy::append;
use netstream_driver::transport::{ChannelId, ConnectionId, Now, SharedBytes};
use netstream_driver::{NetworkDriver, SendError};

use super::NetworkStreamDriver;
use crate::errors::NetworkSendError;
use crate::session::control::MessageKind;
use crate::state::Side;

impl NetworkStreamDriver {
    /// Client: sends a command to the server, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_command(&mut self, connection: Entity, command: &[u8]) -> Result<(), NetworkSendError> {
        self.refuse_on(Side::Server)?;
        self.send_data(connection, MessageKind::Command, command)
    }

    /// Server: sends a snapshot to a client, unreliable; in fragments if it is larger than a datagram takes.
    pub fn send_snapshot(&mut self, connection: Entity, snapshot: &[u8]) -> Result<(), NetworkSendError> {
        self.refuse_on(Side::Client)?;
        self.send_data(connection, MessageKind::Snapshot, snapshot)
    }

    /// The same with bytes that many clients get: none of them has a copy made where the driver can do without (UDP can,
    /// from 512 bytes on).
    ///
    /// ```no_run
    /// # use netstream::prelude::*;
    /// # fn world() -> Vec<u8> { vec![] }
    /// # fn system(mut net: bevy_ecs::system::ResMut<NetworkStreamDriver>, players: Vec<bevy_ecs::entity::Entity>) {
    /// let snapshot = SharedBytes::from(world());
    /// for player in players {
    ///     let _ = net.send_snapshot_shared(player, &snapshot); // whoever is not in the game gets none
    /// }
    /// # }
    /// ```
    pub fn send_snapshot_shared(&mut self, connection: Entity, snapshot: &SharedBytes) -> Result<(), NetworkSendError> {
        self.refuse_on(Side::Client)?;
        let Way { driver, now, connection, channel } = self.data_way(connection, snapshot.len() + 1)?;
        Ok(driver.send_shared(now, connection, channel, &[MessageKind::Snapshot as u8], snapshot)?)
    }

    fn refuse_on(&self, side: Side) -> Result<(), NetworkSendError> {
        match (self.session.core.side == side, side) {
            (false, _) => Ok(()),
            (true, Side::Server) => Err(NetworkSendError::WrongSide("server")),
            (true, Side::Client) => Err(NetworkSendError::WrongSide("client")),
        }
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
        self.message.clear();
        self.message.push(kind as u8);
        append(&mut self.message, body);
        let message = std::mem::take(&mut self.message);
        let sent = self.data_way(entity, message.len()).and_then(|way| {
            let Way { driver, now, connection, channel } = way;
            Ok(driver.send(now, connection, channel, &message)?)
        });
        self.message = message;
        sent
    }

    /// How data of so many bytes, with their kind, reaches a connection.
    fn data_way(&mut self, entity: Entity, length: usize) -> Result<Way<'_>, NetworkSendError> {
        let slot = self.slot(entity).map_err(|_| NetworkSendError::Unknown(entity))?;
        let connection = self.session.core.connections.get(slot).ok_or(NetworkSendError::Unknown(entity))?;
        let (state, key) = (connection.state, connection.key);
        if !state.is_connected() {
            return Err(NetworkSendError::NotReady(state));
        }
        if !state.is_in_game() {
            return Err(NetworkSendError::NotInGame);
        }
        // The time of this update is right enough: when a packet leaves is told when it does.
        let now = self.session.core.last_now();
        let driver = self.session.store.get_mut(key.driver).ok_or(SendError::NotConnected)?;
        let fits = length <= driver.max_message(ChannelId::UNRELIABLE);
        let channel = if fits { ChannelId::UNRELIABLE } else { ChannelId::UNRELIABLE_FRAGMENTED };
        Ok(Way { driver, now, connection: key.connection, channel })
    }
}

/// How data reaches a connection.
struct Way<'a> {
    driver: &'a mut dyn NetworkDriver,
    now: Now,
    connection: ConnectionId,
    channel: ChannelId,
}
