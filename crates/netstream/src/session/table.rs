//! The connections of a World, found by key, by entity and by slot.

use std::net::SocketAddr;

use bevy_ecs::entity::Entity;
use netstream_driver::transport::{DisconnectReason, Mono};
use netstream_driver::{ConnectionKey, ConnectionStats, DriverId, Endpoint};

use super::protocol::{Numbers, ProtocolRecord, SharedDiff};
use super::tickets::ResumeTicket;
use crate::connection::Ending;
use crate::queue::MessageQueue;
use crate::{ConnectionState, NetworkId};

/// Where a connection lies in the table; valid until it is removed.
pub(crate) type Slot = usize;

/// What the session knows of one connection, as far as messages ask for it: 64 bytes, a line of the processor's caches.
/// These lie side by side in the order of the slots, and a thousand connections are soon looked through.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) key: ConnectionKey,
    pub(crate) entity: Entity,
    pub(crate) state: ConnectionState,
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
    /// RPCs and replies that arrived and are not on the entity yet, and their bytes.
    pub(crate) waiting_rpcs: u32,
    pub(crate) waiting_rpc_bytes: u32,
    /// Set where the two ends have different types and may have.
    pub(crate) numbers: Option<Box<Numbers>>,
    pub(crate) details: Box<Details>,
}

const _: () = assert!(size_of::<Option<Connection>>() == 64);

/// What is asked for when a connection begins or ends.
#[derive(Debug, Default)]
pub(crate) struct Details {
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
    /// `[entity index]` -> slot + 1. The generations are compared in the connection's entity. A few bytes for each entity
    /// of the World, which keeps more of each itself.
    by_entity: Vec<u32>,
    len: usize,
    /// By driver index: how many slots are taken by connections of whatever driver has or had it.
    per_driver: Vec<u32>,
}

impl ConnectionTable {
    pub(crate) fn len(&self) -> usize {
        self.len
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
        self.note_entity(connection.entity, slot);
        self.len += 1;
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
        let slot = self.by_entity.get(entity.index_u32() as usize)?.checked_sub(1)? as Slot;
        (self.get(slot)?.entity == entity).then_some(slot)
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
        self.forget_entity(connection.entity, slot);
        self.len -= 1;
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

    /// These connections, each named by the entity that it had, have others from now on. They are of another World, where
    /// the entity of one may be called as that of another was: all are found before the first is renamed.
    pub(crate) fn rename(&mut self, pairs: &[(Entity, Entity)]) {
        let found = pairs.iter().filter_map(|&(old, new)| Some((self.of_entity(old)?, old, new)));
        let found: Vec<_> = found.collect();
        for &(slot, old, _) in &found {
            self.forget_entity(old, slot);
        }
        for (slot, _, new) in found {
            self.note_entity(new, slot);
            if let Some(connection) = self.get_mut(slot) {
                connection.entity = new;
            }
        }
    }

    fn note_entity(&mut self, entity: Entity, slot: Slot) {
        let index = entity.index_u32() as usize;
        if self.by_entity.len() <= index {
            self.by_entity.resize(index + 1, 0);
        }
        self.by_entity[index] = slot as u32 + 1;
    }

    /// The index may be another's already: that of an entity that came after this one was despawned.
    fn forget_entity(&mut self, entity: Entity, slot: Slot) {
        if let Some(found) = self.by_entity.get_mut(entity.index_u32() as usize)
            && *found == slot as u32 + 1
        {
            *found = 0;
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

#[cfg(test)]
mod tests {
    use netstream_driver::transport::ConnectionId;
    use netstream_driver::{IpcDriver, IpcHub, NetworkDriverStore};

    use super::*;
    use crate::session::core::blank;

    /// Renamed one by one, the second would have been taken for the first.
    #[test]
    fn connections_whose_entities_are_called_as_others_were_keep_apart_when_they_move() {
        let driver = NetworkDriverStore::new().add(IpcDriver::new(&IpcHub::new()));
        let [first, second, third] = [1, 2, 3].map(|index| Entity::from_raw_u32(index).expect("an index"));
        let mut table = ConnectionTable::default();
        let slots = [(0, first), (1, second)].map(|(index, entity)| {
            table.insert(blank(entity, ConnectionKey { driver, connection: ConnectionId { index, generation: 1 } }))
        });
        table.rename(&[(first, second), (second, third)]);
        assert_eq!(
            [first, second, third].map(|entity| table.of_entity(entity)),
            [None, Some(slots[0]), Some(slots[1])]
        );
        table.rename(&[(second, third), (third, second)]);
        assert_eq!([second, third].map(|entity| table.of_entity(entity)), [Some(slots[1]), Some(slots[0])]);
    }
}
