//! The server's ring of one client's commands of one type.

use bevy_ecs::component::Component;

use super::{Command, WINDOW_AFTER, WINDOW_BEFORE};
use crate::tick::Tick;

/// How many ticks the ring has.
const SLOTS: usize = 64;

/// Server: the commands of one type that a client sent, by tick; on its connection's entity.
///
/// Holds 64 ticks around the present one. At most one command per tick is ever handed out, whatever arrives.
#[derive(Component, Debug)]
pub struct CommandBuffer<C: Command> {
    slots: Box<[Slot<C>]>,
    newest: Option<Tick>,
}

#[derive(Debug)]
struct Slot<C> {
    /// Which tick's command was here, also if it was taken.
    tick: Option<Tick>,
    command: Option<C>,
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Kept, and its tick is still to come.
    InTime,
    /// Its tick has run without it.
    Late,
    /// It was here before, or a command of a newer tick has its place.
    Duplicate,
    /// Too far from the present tick.
    OutOfWindow,
    /// It cannot be decoded.
    Malformed,
}

impl<C: Command> Default for CommandBuffer<C> {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| Slot { tick: None, command: None }).collect(), newest: None }
    }
}

impl<C: Command> CommandBuffer<C> {
    /// Takes the command for this tick; `None` if it has not arrived, or was taken before.
    pub fn take(&mut self, tick: Tick) -> Option<C> {
        let slot = self.slots.get_mut(place(tick))?;
        if slot.tick == Some(tick) { slot.command.take() } else { None }
    }

    /// Looks at the command for this tick; `None` if it has not arrived, or was taken.
    pub fn get(&self, tick: Tick) -> Option<&C> {
        let slot = self.slots.get(place(tick))?;
        if slot.tick == Some(tick) { slot.command.as_ref() } else { None }
    }

    /// The newest tick for which a command has arrived.
    pub fn newest(&self) -> Option<Tick> {
        self.newest
    }

    /// How many commands are here and were not taken.
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.command.is_some()).count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a command in, unless it has no place; `now` is the newest tick that has run.
    pub(crate) fn insert(&mut self, tick: Tick, now: Tick, decode: impl FnOnce() -> Option<C>) -> Arrival {
        let distance = tick.since(now);
        if !(-WINDOW_BEFORE..=WINDOW_AFTER).contains(&distance) {
            return Arrival::OutOfWindow;
        }
        let Some(slot) = self.slots.get_mut(place(tick)) else { return Arrival::OutOfWindow };
        if slot.tick.is_some_and(|held| !tick.is_after(held)) {
            return Arrival::Duplicate;
        }
        let Some(command) = decode() else { return Arrival::Malformed };
        *slot = Slot { tick: Some(tick), command: Some(command) };
        if self.newest.is_none_or(|newest| tick.is_after(newest)) {
            self.newest = Some(tick);
        }
        if distance > 0 { Arrival::InTime } else { Arrival::Late }
    }
}

fn place(tick: Tick) -> usize {
    tick.number() as usize % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(buffer: &mut CommandBuffer<u32>, tick: u32, now: u32) -> Arrival {
        buffer.insert(Tick::new(tick), Tick::new(now), || Some(tick))
    }

    #[test]
    fn a_command_is_handed_out_once_and_its_copies_are_not() {
        let mut buffer = CommandBuffer::default();
        assert_eq!(insert(&mut buffer, 12, 10), Arrival::InTime);
        assert_eq!(insert(&mut buffer, 12, 10), Arrival::Duplicate);
        assert_eq!(buffer.get(Tick::new(12)), Some(&12));
        assert_eq!(buffer.take(Tick::new(12)), Some(12));
        assert_eq!(insert(&mut buffer, 12, 12), Arrival::Duplicate);
        assert_eq!(buffer.take(Tick::new(12)), None);
        assert!(buffer.is_empty());
    }

    #[test]
    fn the_window_is_64_back_and_32_ahead_also_across_the_wrap() {
        for now in [1000, u32::MAX - 10, 3] {
            let mut buffer = CommandBuffer::default();
            let mut at = |distance: i32| insert(&mut buffer, now.wrapping_add_signed(distance), now);
            assert_eq!(at(33), Arrival::OutOfWindow);
            assert_eq!(at(-65), Arrival::OutOfWindow);
            assert_eq!(at(-64), Arrival::Late);
            assert_eq!(at(0), Arrival::Late);
            assert_eq!(at(32), Arrival::InTime);
            // Its place is taken by a newer one.
            assert_eq!(at(-32), Arrival::Duplicate);
        }
    }

    #[test]
    fn what_cannot_be_decoded_leaves_its_place_free() {
        let mut buffer = CommandBuffer::<u32>::default();
        assert_eq!(buffer.insert(Tick::new(5), Tick::new(4), || None), Arrival::Malformed);
        assert_eq!(insert(&mut buffer, 5, 4), Arrival::InTime);
    }
}
