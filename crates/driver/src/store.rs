//! Any number of drivers under generational ids.

use std::time::Duration;

use netstream_transport::{ChannelId, DisconnectReason, Incoming, Now};

use crate::link::Simulated;
use crate::{ConnectionKey, ConnectionStats, DriverId, NetworkDriver, SendError};

/// Holds the drivers of one World.
///
/// An id names one driver for as long as the store lives: once the driver is removed, its id names nothing, whatever
/// is added later.
#[derive(Default)]
pub struct NetworkDriverStore {
    slots: Vec<Slot>,
    free: Vec<u32>,
    changes: u64,
}

struct Slot {
    generation: u32,
    driver: Option<Box<dyn NetworkDriver>>,
}

impl NetworkDriverStore {
    /// A store without drivers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a driver in.
    pub fn add(&mut self, driver: impl NetworkDriver) -> DriverId {
        self.add_boxed(Box::new(driver))
    }

    /// Takes in a driver whose type is not known here.
    ///
    /// # Panics
    ///
    /// With more than 2^32 drivers at once.
    pub fn add_boxed(&mut self, driver: Box<dyn NetworkDriver>) -> DriverId {
        self.changes += 1;
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.driver = Some(driver);
            return DriverId { index, generation: slot.generation };
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 drivers");
        self.slots.push(Slot { generation: 0, driver: Some(driver) });
        DriverId { index, generation: 0 }
    }

    /// Takes a driver out, with its connections alive. Dropping it says goodbye on all of them.
    pub fn remove(&mut self, id: DriverId) -> Option<Box<dyn NetworkDriver>> {
        let slot = self.slot_mut(id)?;
        let driver = slot.driver.take()?;
        // A slot whose generations are used up is never used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(id.index);
        }
        self.changes += 1;
        Some(driver)
    }

    /// How many drivers were added and removed so far: while it is the same, the drivers are.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Sends one message on the connection `key`.
    pub fn send(&mut self, now: Now, key: ConnectionKey, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        let driver = self.get_mut(key.driver).ok_or(SendError::NotConnected)?;
        driver.send(now, key.connection, channel, message)
    }

    /// Ends the connection `key`; see [`NetworkDriver::disconnect`]. A key that names nothing is ignored.
    pub fn disconnect(&mut self, now: Now, key: ConnectionKey, reason: &DisconnectReason, linger: Duration) {
        if let Some(driver) = self.get_mut(key.driver) {
            driver.disconnect(now, key.connection, reason, linger);
        }
    }

    /// Lets every driver receive, in the order of their ids, and reports what each has to say.
    pub fn receive(&mut self, now: Now, sink: &mut dyn FnMut(DriverId, Incoming<'_>)) {
        for (id, driver) in self.iter_mut() {
            driver.receive(now, &mut |incoming| sink(id, incoming));
        }
    }

    /// Lets every driver send what it has queued.
    pub fn flush(&mut self, now: Now) {
        for (_, driver) in self.iter_mut() {
            driver.flush(now);
        }
    }

    /// The driver `id`, for changes.
    pub fn get_mut(&mut self, id: DriverId) -> Option<&mut dyn NetworkDriver> {
        self.slot_mut(id)?.driver.as_deref_mut()
    }

    /// The driver `id` as the type that it is, bare or wrapped in [`Simulated`].
    pub fn get_mut_as<D: NetworkDriver>(&mut self, id: DriverId) -> Option<&mut D> {
        let any = self.get_mut(id)?.as_any_mut();
        if any.is::<D>() {
            return any.downcast_mut();
        }
        any.downcast_mut::<Simulated<D>>().map(Simulated::inner_mut)
    }

    /// All drivers in the order of their ids, for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (DriverId, &mut dyn NetworkDriver)> {
        self.slots.iter_mut().zip(0..).filter_map(|(slot, index)| {
            let id = DriverId { index, generation: slot.generation };
            slot.driver.as_deref_mut().map(|driver| (id, driver))
        })
    }

    /// The driver `id`.
    pub fn get(&self, id: DriverId) -> Option<&dyn NetworkDriver> {
        let slot = self.slots.get(id.index as usize)?;
        slot.driver.as_deref().filter(|_| slot.generation == id.generation)
    }

    /// The driver `id` as the type that it is, bare or wrapped in [`Simulated`].
    pub fn get_as<D: NetworkDriver>(&self, id: DriverId) -> Option<&D> {
        let any = self.get(id)?.as_any();
        any.downcast_ref().or_else(|| any.downcast_ref::<Simulated<D>>().map(Simulated::inner))
    }

    /// All drivers in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (DriverId, &dyn NetworkDriver)> {
        self.slots.iter().zip(0..).filter_map(|(slot, index)| {
            let id = DriverId { index, generation: slot.generation };
            slot.driver.as_deref().map(|driver| (id, driver))
        })
    }

    /// Figures of the connection `key`; `None` if it names nothing.
    pub fn stats(&self, key: ConnectionKey) -> Option<ConnectionStats> {
        self.get(key.driver)?.stats(key.connection)
    }

    /// Whether `id` names a driver.
    pub fn contains(&self, id: DriverId) -> bool {
        self.get(id).is_some()
    }

    /// How many drivers there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn slot_mut(&mut self, id: DriverId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }
}

impl std::fmt::Debug for NetworkDriverStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter().map(|(id, driver)| (id, driver.scheme()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use netstream_transport::ConnectionId;

    use super::*;
    use crate::link::LinkProfile;
    use crate::{Credentials, IpcDriver, IpcHub};

    #[test]
    fn a_removed_driver_is_never_named_again() {
        let hub = IpcHub::new();
        let mut store = NetworkDriverStore::new();
        let first = store.add(IpcDriver::new(&hub));
        let second = store.add(IpcDriver::new(&hub));
        assert!(store.remove(first).is_some());
        assert!(store.remove(first).is_none());
        let third = store.add(IpcDriver::new(&hub));
        assert_ne!(first, third);
        assert!(!store.contains(first) && store.contains(second) && store.contains(third));
        assert_eq!(store.iter().map(|(id, _)| id).collect::<Vec<_>>(), [third, second]);
        assert_eq!((store.len(), store.is_empty()), (2, false));
    }

    #[test]
    fn drivers_are_reached_as_what_they_are_even_behind_a_bad_link() {
        let hub = IpcHub::new();
        let mut store = NetworkDriverStore::new();
        let bare = store.add(IpcDriver::new(&hub));
        let wrapped = store.add(Simulated::new(IpcDriver::new(&hub), LinkProfile::LAN, 1));
        assert!(store.get_as::<IpcDriver>(bare).is_some());
        assert!(store.get_as::<IpcDriver>(wrapped).is_some());
        assert!(store.get_mut_as::<IpcDriver>(wrapped).is_some());
        assert!(store.get_mut_as::<Simulated<IpcDriver>>(wrapped).is_some());
        assert!(store.get_as::<Simulated<IpcDriver>>(bare).is_none());
    }

    #[test]
    fn the_same_local_id_on_two_drivers_is_two_connections() {
        let hub = IpcHub::new();
        let mut servers = NetworkDriverStore::new();
        let mut clients = NetworkDriverStore::new();
        let now = Now::default();
        let mut keys = Vec::new();
        for name in ["ipc://a", "ipc://b"] {
            let endpoint = name.parse().unwrap();
            let server = servers.add(IpcDriver::new(&hub));
            servers.get_mut(server).unwrap().listen(now, &endpoint).unwrap();
            let client = clients.add(IpcDriver::new(&hub));
            let connection = clients.get_mut(client).unwrap().connect(now, &endpoint, &Credentials::None).unwrap();
            keys.push(ConnectionKey { driver: client, connection });
        }
        assert_eq!(keys[0].connection, keys[1].connection);
        servers.receive(now, &mut |_, _| {});
        clients.receive(now, &mut |_, _| {});
        clients.send(now, keys[1], ChannelId::RELIABLE, b"to b").unwrap();
        clients.flush(now);
        let mut got = Vec::new();
        servers.receive(now, &mut |driver, incoming| {
            if let Incoming::Message { bytes, .. } = incoming {
                got.push((driver, bytes.to_vec()));
            }
        });
        let b = servers.iter().nth(1).unwrap().0;
        assert_eq!(got, [(b, b"to b".to_vec())]);
        assert!(clients.stats(keys[0]).is_some());

        let reason = DisconnectReason::local(netstream_transport::DisconnectCode::ConnectionClose);
        clients.disconnect(now, keys[0], &reason, Duration::ZERO);
        let gone = ConnectionKey { driver: b, connection: ConnectionId { index: 9, generation: 9 } };
        assert_eq!(servers.send(now, gone, ChannelId::RELIABLE, b""), Err(SendError::NotConnected));
        assert_eq!(servers.stats(gone), None);
    }
}
