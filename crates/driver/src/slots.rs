//! A dense table under generational ids.

use netstream_transport::ConnectionId;

/// Values under [`ConnectionId`]s. A removed id names nothing ever after; the lowest free index is not preferred, the
/// last freed one is.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    /// The generation that a new slot starts with.
    first_generation: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), first_generation: 0 }
    }

    /// Takes `value` in. `None` only once 2^32 slots are in use.
    pub(crate) fn insert(&mut self, value: T) -> Option<ConnectionId> {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Some(ConnectionId { index, generation: slot.generation });
        }
        let index = u32::try_from(self.slots.len()).ok()?;
        let generation = self.first_generation;
        self.slots.push(Slot { generation, value: Some(value) });
        Some(ConnectionId { index, generation })
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        let value = slot.value.take()?;
        // A slot whose generations are used up is never used again.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(id.index);
        }
        Some(value)
    }

    /// A generation that is above those of all ids given so far.
    pub(crate) fn unused_generation(&self) -> u32 {
        let highest = self.slots.iter().map(|slot| slot.generation).max();
        highest.map_or(self.first_generation, |highest| highest.wrapping_add(1))
    }

    /// Gives ids from `generation` on, because somebody else has given those below.
    pub(crate) fn start_at(&mut self, generation: u32) {
        self.first_generation = self.first_generation.max(generation);
        for &index in &self.free {
            let slot = &mut self.slots[index as usize];
            slot.generation = slot.generation.max(generation);
        }
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.value.as_mut()
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&T> {
        let slot = self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?;
        slot.value.as_ref()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.slots.drain(..).filter_map(|slot| slot.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_id_names_nothing_even_after_the_slot_is_used_again() {
        let mut slots = Slots::new();
        let old = slots.insert('a').unwrap();
        assert_eq!(slots.remove(old), Some('a'));
        let new = slots.insert('b').unwrap();
        assert_eq!(new.index, old.index);
        assert_eq!((slots.get(old), slots.get(new)), (None, Some(&'b')));
        assert_eq!(slots.remove(old), None);
        assert_eq!(slots.len(), 1);
    }
}
