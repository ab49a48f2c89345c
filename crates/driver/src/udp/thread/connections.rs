//! What the caller knows of its connections.

use netstream_transport::{ConnectionId, DisconnectReason};

use crate::ConnectionStats;

/// Flat, by [`ConnectionId::index`].
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Option<Connection>>,
    /// Connections whose end the caller has not fetched yet while their index is used again. Nearly always empty.
    displaced: Vec<(u32, Connection)>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) generation: u32,
    pub(super) phase: Phase,
    /// Per channel, what of it is on its way to the driver's own queue.
    pub(super) on_the_way: Vec<usize>,
    pub(super) stats: ConnectionStats,
}

#[derive(Debug)]
pub(super) enum Phase {
    Dialling,
    Open,
    /// The caller has ended it, for this reason.
    Closing(DisconnectReason),
}

impl Connections {
    pub(super) fn insert(&mut self, id: ConnectionId, phase: Phase, channels: usize, stats: ConnectionStats) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            // The driver keeps its indices dense and bounded.
            self.slots.resize_with(index + 1, || None);
        }
        let connection = Connection { generation: id.generation, phase, on_the_way: vec![0; channels], stats };
        if let Some(old) = self.slots[index].replace(connection) {
            self.displaced.push((id.index, old));
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let Self { slots, displaced } = self;
        match slots.get_mut(id.index as usize)? {
            Some(connection) if connection.generation == id.generation => Some(connection),
            _ => displaced
                .iter_mut()
                .find(|(index, old)| (*index, old.generation) == (id.index, id.generation))
                .map(|(_, old)| old),
        }
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.index as usize)?.as_ref();
        slot.filter(|connection| connection.generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.take_if(|connection| connection.generation == id.generation).or_else(|| {
            let place =
                self.displaced.iter().position(|(index, old)| (*index, old.generation) == (id.index, id.generation))?;
            Some(self.displaced.swap_remove(place).1)
        })
    }

    /// Takes all of them out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (ConnectionId, Connection)> + '_ {
        let slots = self.slots.iter_mut().zip(0..).filter_map(|(slot, index)| Some((index, slot.take()?)));
        self.displaced
            .drain(..)
            .chain(slots)
            .map(|(index, connection)| (ConnectionId { index, generation: connection.generation }, connection))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.displaced.is_empty() && self.slots.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_whose_index_is_used_again_is_known_until_its_end_is_told() {
        let id = |generation| ConnectionId { index: 2, generation };
        let mut all = Connections::default();
        for generation in 0..3 {
            all.insert(id(generation), Phase::Dialling, 3, ConnectionStats::default());
        }
        for generation in [1, 0, 2] {
            assert!(all.get_mut(id(generation)).is_some_and(|found| found.generation == generation));
            assert!(all.remove(id(generation)).is_some_and(|found| found.generation == generation));
            assert!(all.get_mut(id(generation)).is_none() && all.remove(id(generation)).is_none());
        }
        assert!(all.is_empty());
        all.insert(id(7), Phase::Open, 3, ConnectionStats::default());
        all.insert(id(8), Phase::Open, 3, ConnectionStats::default());
        assert!(all.drain().map(|(id, _)| id.generation).eq([7, 8]));
        assert!(all.is_empty());
    }
}
