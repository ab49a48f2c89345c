//! The client's last commands of one type, serialised, for sending them again.

use std::collections::VecDeque;

use super::MAX_REDUNDANCY;
use crate::tick::Tick;

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Oldest first. Buffers are used again.
    entries: VecDeque<(Tick, Vec<u8>)>,
    /// How many of the newest were never sent.
    unsent: usize,
}

impl History {
    pub(crate) fn newest(&self) -> Option<Tick> {
        self.entries.back().map(|(tick, _)| *tick)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.unsent
    }

    pub(crate) fn all_sent(&mut self) {
        self.unsent = 0;
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.unsent = 0;
    }

    /// A buffer for the next command, with the memory of the oldest.
    pub(crate) fn spare(&mut self) -> Vec<u8> {
        let full = self.entries.len() >= MAX_REDUNDANCY;
        let mut bytes = full.then(|| self.entries.pop_front()).flatten().map(|(_, bytes)| bytes).unwrap_or_default();
        bytes.clear();
        bytes
    }

    /// Appends the command of `tick`, which is after [`newest`](Self::newest).
    pub(crate) fn push(&mut self, tick: Tick, bytes: Vec<u8>) {
        debug_assert!(self.newest().is_none_or(|newest| tick.is_after(newest)));
        self.entries.push_back((tick, bytes));
        self.unsent = (self.unsent + 1).min(MAX_REDUNDANCY);
    }

    /// The newest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Tick, &[u8])> {
        self.entries.iter().rev().map(|(tick, bytes)| (*tick, bytes.as_slice()))
    }
}
