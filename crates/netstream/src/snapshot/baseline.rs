//! The last snapshots of one type, to tell or understand the next one by.

use std::collections::VecDeque;

use netstream_driver::transport::copy::append;

use crate::tick::Tick;

/// How many are kept. At 60 Hz half a second: an acknowledgement that takes longer finds its snapshot gone.
const KEPT: usize = 32;
/// How many bytes are kept.
const KEPT_BYTES: usize = 1 << 20;

/// Both ends keep theirs by the same rule. What the receiver has of what follows a snapshot is never more than the sender
/// has: a snapshot that the sender still holds and the receiver has acknowledged, the receiver holds too.
#[derive(Debug, Default)]
pub(crate) struct Baselines {
    /// Oldest first.
    entries: VecDeque<(Tick, Vec<u8>)>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Baselines {
    pub(crate) fn get(&self, tick: Tick) -> Option<&[u8]> {
        self.entries.iter().rev().find(|(kept, _)| *kept == tick).map(|(_, bytes)| bytes.as_slice())
    }

    /// The newest that `wanted` accepts.
    pub(crate) fn newest(&self, mut wanted: impl FnMut(Tick) -> bool) -> Option<(Tick, &[u8])> {
        let found = self.entries.iter().rev().find(|(tick, _)| wanted(*tick));
        found.map(|(tick, bytes)| (*tick, bytes.as_slice()))
    }

    /// Keeps the snapshot of a tick that is after all others.
    pub(crate) fn push(&mut self, tick: Tick, snapshot: &[u8]) {
        while self.entries.len() >= KEPT || (self.bytes + snapshot.len() > KEPT_BYTES && !self.entries.is_empty()) {
            let Some((_, oldest)) = self.entries.pop_front() else { break };
            self.bytes -= oldest.len();
            if self.spare.is_empty() {
                self.spare.push(oldest);
            }
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        append(&mut bytes, snapshot);
        self.bytes += bytes.len();
        self.entries.push_back((tick, bytes));
    }

    /// Takes back the snapshot of this tick, if it is the newest.
    pub(crate) fn pop_if(&mut self, tick: Tick) {
        if let Some((_, bytes)) = self.entries.pop_back_if(|(newest, _)| *newest == tick) {
            self.bytes -= bytes.len();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_by_number_and_by_bytes() {
        let mut baselines = Baselines::default();
        for tick in 0..40 {
            baselines.push(Tick::new(tick), &[tick as u8]);
        }
        assert_eq!(baselines.get(Tick::new(7)), None);
        assert_eq!(baselines.get(Tick::new(8)), Some(&[8][..]));
        assert_eq!(baselines.newest(|tick| tick.number() < 20), Some((Tick::new(19), &[19][..])));
        baselines.push(Tick::new(40), &vec![0; KEPT_BYTES]);
        assert_eq!(baselines.entries.len(), 1);
        assert_eq!(baselines.bytes, KEPT_BYTES);
    }
}
