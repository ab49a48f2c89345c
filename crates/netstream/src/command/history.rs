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

    /// How many of the newest belong in the packet of `tick`: those that were in less than `copies` packets, of which
    /// the server still takes them. An older one was in no fewer packets than a newer one.
    pub(crate) fn due(&self, tick: Tick, copies: usize) -> usize {
        let wanted = |entry: &&Entry| entry.sends < copies && tick.since(entry.tick) < WINDOW_BEFORE;
        self.entries.iter().rev().take_while(wanted).count()
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
            let due = history.due(tick, 4);
            for (tick, _) in history.iter().take(due) {
                *seen.entry(tick).or_insert(0) += 1;
            }
            history.sent(due);
        }
        assert_eq!(seen.len(), 33);
        assert!(seen.values().all(|&packets| packets == 4), "{seen:?}");
    }

    /// An update that runs several ticks sends them in one packet; that must not push the copies of others out.
    #[test]
    fn commands_of_updates_with_several_ticks_are_due_in_as_many_packets_as_others() {
        let mut history = History::default();
        let mut seen = std::collections::HashMap::new();
        let mut now = 0;
        for ticks in [1, 1, 2, 1, 3, 3, 3, 1, 1, 8, 1, 0, 0, 0] {
            for _ in 0..ticks {
                now += 1;
                history.push(Tick::new(now), Vec::new());
            }
            let due = history.due(Tick::new(now), 4);
            history.iter().take(due).for_each(|(tick, _)| *seen.entry(tick).or_insert(0) += 1);
            history.sent(due);
        }
        assert_eq!(seen.len(), 25);
        assert!(seen.values().all(|&packets| packets == 4), "{seen:?}");
    }

    #[test]
    fn where_there_is_no_room_for_copies_what_was_never_sent_is_due_all_the_same() {
        let mut history = History::default();
        (0..3).for_each(|tick| history.push(Tick::new(tick), Vec::new()));
        history.sent(3);
        history.push(Tick::new(3), Vec::new());
        assert!(history.has_unsent());
        assert_eq!(history.due(Tick::new(3), 1), 1);
        assert_eq!(history.due(Tick::new(3), 2), 4);
        assert_eq!(history.due(Tick::new(65), 4), 2, "the others are of no use any more");
    }
}
