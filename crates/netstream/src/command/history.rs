//! The client's last commands of one type, serialised, for sending them again.

use std::collections::VecDeque;

use super::{MAX_REDUNDANCY, WINDOW_BEFORE};
use crate::tick::Tick;

#[derive(Debug)]
struct Entry {
    tick: Tick,
    /// In how many packets it was.
    sends: usize,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first. Buffers are used again.
    entries: VecDeque<Entry>,
}

impl History {
    pub(crate) fn newest(&self) -> Option<Tick> {
        self.entries.back().map(|entry| entry.tick)
    }

    /// Whether there is one that was in no packet yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.entries.back().is_some_and(|entry| entry.sends == 0)
    }

    /// How many of the newest belong in the packet of `tick`: those that were in no packet yet, and at most `spare` of
    /// those that were in less than `redundancy`.
    pub(crate) fn due(&self, tick: Tick, redundancy: usize, spare: usize) -> usize {
        let unsent = self.entries.iter().rev().take_while(|entry| entry.sends == 0).count();
        let wanted = |entry: &&Entry| entry.sends < redundancy && tick.since(entry.tick) < WINDOW_BEFORE;
        self.entries.iter().rev().take_while(wanted).count().min(unsent + spare)
    }

    /// The newest `count` were in a packet.
    pub(crate) fn sent(&mut self, count: usize) {
        self.entries.iter_mut().rev().take(count).for_each(|entry| entry.sends += 1);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// A buffer for the next command, with the memory of the oldest.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        let full = self.entries.len() >= MAX_REDUNDANCY;
        let oldest = full.then(|| self.entries.pop_front()).flatten();
        let mut bytes = oldest.map(|entry| entry.bytes).unwrap_or_default();
        bytes.clear();
        bytes
    }

    /// Appends the command of `tick`, which is after [`newest`](Self::newest).
    pub(crate) fn push(&mut self, tick: Tick, bytes: Vec<u8>) {
        debug_assert!(self.newest().is_none_or(|newest| tick.is_after(newest)));
        self.entries.push_back(Entry { tick, sends: 0, bytes });
    }

    /// The newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tick, &[u8])> {
        self.entries.iter().rev().map(|entry| (entry.tick, entry.bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_due_in_as_many_packets_as_was_asked_for() {
        let mut history = History::default();
        let mut seen = std::collections::HashMap::new();
        for now in 0..100 {
            let tick = Tick::new(now);
            if now < 50 && now % 3 != 0 {
                history.push(tick, Vec::new());
            }
            let due = history.due(tick, 4, 3);
            for (tick, _) in history.iter().take(due) {
                *seen.entry(tick).or_insert(0) += 1;
            }
            history.sent(due);
        }
        assert_eq!(seen.len(), 33);
        assert!(seen.values().all(|&packets| packets == 4), "{seen:?}");
    }

    #[test]
    fn what_was_never_sent_is_due_without_any_room_to_spare() {
        let mut history = History::default();
        (0..3).for_each(|tick| history.push(Tick::new(tick), Vec::new()));
        history.sent(3);
        history.push(Tick::new(3), Vec::new());
        assert!(history.has_unsent());
        assert_eq!(history.due(Tick::new(3), 4, 0), 1);
        assert_eq!(history.due(Tick::new(3), 4, 2), 3);
        assert_eq!(history.due(Tick::new(65), 4, 3), 2, "the others are of no use any more");
    }
}
