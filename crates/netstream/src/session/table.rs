//! The connections of a World, found by key, by entity and by slot.

use std::net::SocketAddr;

use bevy_ecs::entity::{Entity, EntityHashMap};
use netstream_driver::transport::{DisconnectReason, Mono};
use netstream_driver::{ConnectionKey, ConnectionStats, DriverId, Endpoint};

use super::protocol::{Numbers, ProtocolRecord, SharedDiff};
use super::tickets::ResumeTicket;
use crate::connection::Ending;
use crate::queue::MessageQueue;
use crate::{ConnectionState, NetworkId};

/// Where a connection lies in the table; valid until it is removed.
pub(crate) type Slot = usize;

/// What the session knows of one connection. What every message looks at stands first, side by side: with a thousand
/// connections each line of it that is not in the cache counts.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    pub(crate) entity: Entity,
    pub(crate) state: ConnectionState,
    /// Whether it is on the list of those whose queues have something for the entity.
    pub(crate) touched: bool,
    /// The application has put the in-game mark, perhaps before Connected was reached.
    pub(crate) in_game: bool,
    /// The application approved it, perhaps before Approval was reached.
    pub(crate) approved: bool,
    /// The id is the one that the player had before.
    pub(crate) resumed: bool,
    /// Of `out_of_game_since` it was warned.
    pub(crate) warned: bool,
    /// Since when the peer sends as if in the game and this side is not.
    pub(crate) out_of_game_since: Option<Mono>,
    /// Commands (server) or snapshots (client): received and not yet on the entity.
    pub(crate) data: MessageQueue,
    /// Packets of the peer's ticks: received and not yet on the entity.
    pub(crate) stream: MessageQueue,
    /// Received and not yet on the entity.
    pub(crate) rpcs: MessageQueue,
    /// Set where the two ends have different types and may have.
    pub(crate) numbers: Option<Box<Numbers>>,
    /// Client: RPCs that overtook the server's acceptance on another channel; they count from then on.
    pub(crate) held: MessageQueue,
    /// What the entity knows of its end.
    pub(crate) ending: Ending,
    pub(crate) network_id: Option<NetworkId>,
    /// Why we are ending it; what the event will say unless the peer says otherwise first.
    pub(crate) reason: Option<DisconnectReason>,
    pub(crate) deadline: Option<Mono>,
    /// What the peer sent before it was Connected.
    pub(crate) early_messages: u32,
    pub(crate) early_bytes: u32,
    /// Where the peer is and who its token says it is.
    pub(crate) address: Option<SocketAddr>,
    pub(crate) client_id: Option<u64>,
    /// Client: which server this is.
    pub(crate) server: Option<Endpoint>,
    /// Client: sent with the protocol record.
    pub(crate) credentials: Vec<u8>,
    /// Client: sent with the protocol record. Server: what came with it.
    pub(crate) ticket: Option<ResumeTicket>,
    /// The peer's record, if it differs from ours and its list is still awaited.
    pub(crate) differing: Option<ProtocolRecord>,
    pub(crate) mismatch: Option<SharedDiff>,
    /// What its driver said of it at last.
    pub(crate) last_stats: ConnectionStats,
}

/// A slab with two indexes.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTable {
    slots: Vec<Option<Connection>>,
    free: Vec<Slot>,
    /// `[driver index][connection index]` -> slot + 1. The generations are compared in the connection's key.
    by_key: Vec<Vec<u32>>,
    by_entity: EntityHashMap<Slot>,
    /// By driver index: how many slots are taken by connections of whatever driver has or had it.
    per_driver: Vec<u32>,
}

impl ConnectionTable {
    pub(crate) fn len(&self) -> usize {
        self.by_entity.len()
    }

    pub(crate) fn insert(&mut self, connection: Connection) -> Slot {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        let ConnectionKey { driver, connection: id } = connection.key;
        let (driver, id) = (driver.index() as usize, id.index as usize);
        if self.by_key.len() <= driver {
            self.by_key.resize(driver + 1, Vec::new());
            self.per_driver.resize(driver + 1, 0);
        }
        self.per_driver[driver] += 1;
        let ids = &mut self.by_key[driver];
        if ids.len() <= id {
            ids.resize(id + 1, 0);
        }
        // A World cannot hold 2^32 connections.
        ids[id] = slot as u32 + 1;
        self.by_entity.insert(connection.entity, slot);
        if slot == self.slots.len() {
            self.slots.push(Some(connection));
        } else {
            self.slots[slot] = Some(connection);
        }
        slot
    }

    /// The live connection with this key.
    pub(crate) fn find(&self, key: ConnectionKey) -> Option<Slot> {
        let slot = *self.by_key.get(key.driver.index() as usize)?.get(key.connection.index as usize)?;
        let slot = slot.checked_sub(1)? as Slot;
        (self.get(slot)?.key == key).then_some(slot)
    }

    /// The connection of this entity, until [`remove`](Self::remove).
    pub(crate) fn of_entity(&self, entity: Entity) -> Option<Slot> {
        self.by_entity.get(&entity).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Connection> {
        self.slots.get(slot)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Connection> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Nothing that arrives under this key finds the connection any more; entity and slot still do.
    pub(crate) fn forget_key(&mut self, slot: Slot) {
        let Some(key) = self.get(slot).map(|connection| connection.key) else { return };
        if self.find(key) == Some(slot) {
            self.by_key[key.driver.index() as usize][key.connection.index as usize] = 0;
        }
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Connection> {
        self.forget_key(slot);
        let connection = self.slots.get_mut(slot)?.take()?;
        self.by_entity.remove(&connection.entity);
        self.per_driver[connection.key.driver.index() as usize] -= 1;
        self.free.push(slot);
        Some(connection)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Connection)> {
        self.slots.iter().enumerate().filter_map(|(slot, connection)| Some((slot, connection.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().flatten()
    }

    /// The connection has another entity from now on.
    pub(crate) fn rename(&mut self, old: Entity, new: Entity) {
        if let Some(slot) = self.by_entity.remove(&old) {
            self.by_entity.insert(new, slot);
            if let Some(connection) = self.get_mut(slot) {
                connection.entity = new;
            }
        }
    }

    /// Whether this driver has no connections, without a look at each. Connections that are left of an earlier driver
    /// with its index count too, until they are removed.
    pub(crate) fn has_none_of(&self, driver: DriverId) -> bool {
        self.per_driver.get(driver.index() as usize).is_none_or(|&count| count == 0)
    }

    /// The slots of the connections of one driver.
    pub(crate) fn of_driver(&self, driver: DriverId) -> Vec<Slot> {
        self.iter().filter(|(_, connection)| connection.key.driver == driver).map(|(slot, _)| slot).collect()
    }
}
