//! The receiving end of a reliable unordered channel.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::frame::Fragment;
use super::memory::append;
use super::number::{expand, is_before};
use super::partial::Partial;
use super::stream::Taken;
use super::wire::{FRAGMENT_BYTES, INITIAL_WINDOW, UNORDERED_MESSAGES};
use super::{ChannelId, Violation};
use crate::mutants::mutant;

const WORDS: usize = UNORDERED_MESSAGES as usize / 64;

/// Incomplete messages. A correct sender has fewer under way: each has more than a packet's worth of the window.
const MAX_PARTIALS: usize = 64;

/// What an incomplete message takes beside its bytes, at most: itself and its lists.
const PARTIAL: usize = 1024;

/// Hands each message up as soon as it is complete, once.
#[derive(Debug)]
pub(super) struct UnorderedReceiver {
    /// All messages before this one have been delivered.
    floor: u64,
    /// Which of the messages from `floor` on have been delivered; message n at bit n mod UNORDERED_MESSAGES.
    delivered: [u64; WORDS],
    partials: Vec<(u64, Partial)>,
    /// Emptied partials, for their memory.
    spare: Vec<Partial>,
    /// The most bytes in `partials`.
    cap: usize,
    held: Held,
}

impl UnorderedReceiver {
    pub(super) fn new(first: u64, max_message: usize) -> Self {
        // What a correct sender keeps under way is the window, or one message of any size. A last fragment that came
        // early takes a whole slot.
        let cap = Self::bytes_cap(max_message);
        Self {
            floor: first,
            delivered: [0; WORDS],
            partials: Vec::new(),
            spare: Vec::new(),
            cap,
            held: Held::new(max_message),
        }
    }

    fn bytes_cap(max_message: usize) -> usize {
        INITIAL_WINDOW.max(max_message) + MAX_PARTIALS * FRAGMENT_BYTES
    }

    /// The message of this truncated id, unless it has been delivered already.
    fn fresh(&self, id: u16) -> Result<Option<u64>, Violation> {
        let id = if mutant(8) { self.floor & !0xffff | u64::from(id) } else { expand(u64::from(id), 16, self.floor) };
        if is_before(id, self.floor) {
            return Ok(None);
        }
        if id.wrapping_sub(self.floor) >= UNORDERED_MESSAGES {
            return Err(Violation::WindowExceeded);
        }
        let (word, bit) = place(id);
        Ok((self.delivered.get(word).is_some_and(|word| word >> bit & 1 == 0)).then_some(id))
    }

    fn deliver(&mut self, id: u64) {
        let (word, bit) = place(id);
        if let Some(word) = self.delivered.get_mut(word) {
            *word |= 1 << bit;
        }
        loop {
            let (word, bit) = place(self.floor);
            let Some(word) = self.delivered.get_mut(word).filter(|word| **word >> bit & 1 != 0) else { break };
            *word &= !(1 << bit);
            self.floor = self.floor.wrapping_add(1);
        }
    }

    /// Takes in a whole message.
    pub(super) fn handle_message(
        &mut self,
        channel: ChannelId,
        id: u16,
        bytes: &[u8],
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<Taken, Violation> {
        if let Some(id) = self.fresh(id)? {
            if self.partials.iter().any(|(other, _)| *other == id) {
                return Err(Violation::FragmentMismatch);
            }
            if !self.held.hand_up(channel, bytes, sink) {
                return Ok(Taken::No);
            }
            self.deliver(id);
        }
        Ok(Taken::Yes)
    }

    /// Takes in a fragment.
    pub(super) fn handle_fragment(
        &mut self,
        channel: ChannelId,
        fragment: &Fragment<'_>,
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<Taken, Violation> {
        let Some(id) = self.fresh(fragment.id)? else { return Ok(Taken::Yes) };
        let known = self.partials.iter().position(|(other, _)| *other == id);
        let growth = match known.and_then(|index| self.partials.get(index)) {
            Some((_, partial)) => partial.growth(fragment),
            None if self.partials.len() >= MAX_PARTIALS => return Ok(Taken::No),
            None => fragment.bytes.len(),
        };
        if self.partials.iter().map(|(_, partial)| partial.size()).sum::<usize>() + growth > self.cap {
            return Ok(Taken::No);
        }
        let index = known.unwrap_or_else(|| {
            let mut partial = self.spare.pop().unwrap_or_default();
            partial.reset(fragment.count);
            if self.partials.len() == self.partials.capacity() {
                // One by one: a doubling would be more than a packet may cost.
                self.partials.reserve_exact(4);
            }
            self.partials.push((id, partial));
            self.partials.len() - 1
        });
        let Some((_, partial)) = self.partials.get_mut(index) else { return Ok(Taken::No) };
        if !self.held.has_room(partial.size() + fragment.bytes.len()) {
            return Ok(Taken::No);
        }
        if partial.insert(fragment)? {
            let (_, mut partial) = self.partials.swap_remove(index);
            self.held.hand_up(channel, partial.message(), sink);
            self.deliver(id);
            if self.spare.is_empty() {
                self.spare.push(partial);
            }
        }
        Ok(Taken::Yes)
    }

    /// Keeps what arrives from now on, as far as there is room.
    pub(super) fn pause(&mut self) {
        self.held.paused = true;
    }

    /// Hands up what was kept, and goes on.
    pub(super) fn resume(&mut self, channel: ChannelId, sink: &mut dyn FnMut(ChannelId, &[u8])) {
        self.held.paused = false;
        let mut at = 0;
        for length in self.held.lengths.drain(..) {
            let end = at + length as usize;
            sink(channel, self.held.bytes.get(at..end).unwrap_or_default());
            at = end;
        }
        self.held.bytes.clear();
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.held.bytes.shrink_to_fit();
        self.held.lengths.shrink_to_fit();
        self.spare = Vec::new();
        self.partials.shrink_to_fit();
    }

    /// The most that [`heap`](Self::heap) can be: a buffer may be half as large again as what it holds, and a spare one
    /// may be kept.
    pub(super) fn heap_cap(max_message: usize) -> usize {
        Self::bytes_cap(max_message) * 3 / 2 + max_message + MAX_PARTIALS * PARTIAL + Held::heap_cap(max_message)
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        let parts = self.partials.iter().map(|(_, partial)| partial).chain(&self.spare);
        parts.map(Partial::heap).sum::<usize>()
            + self.partials.capacity() * size_of::<(u64, Partial)>()
            + self.spare.capacity() * size_of::<Partial>()
            + self.held.bytes.capacity()
            + self.held.lengths.capacity() * size_of::<u32>()
    }
}

/// Whole messages that the application does not take yet. They have been acknowledged.
#[derive(Debug)]
struct Held {
    paused: bool,
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    /// The most bytes.
    cap: usize,
}

impl Held {
    fn new(max_message: usize) -> Self {
        Self { paused: false, bytes: Vec::new(), lengths: Vec::new(), cap: INITIAL_WINDOW.max(max_message) }
    }

    fn has_room(&self, length: usize) -> bool {
        !self.paused || self.bytes.len() + length <= self.cap && self.lengths.len() < UNORDERED_MESSAGES as usize
    }

    /// Hands a message up, or keeps it for later. False if there is no room.
    fn hand_up(&mut self, channel: ChannelId, message: &[u8], sink: &mut dyn FnMut(ChannelId, &[u8])) -> bool {
        if !self.has_room(message.len()) {
            return false;
        }
        if self.paused {
            append(&mut self.bytes, message, self.cap);
            if self.lengths.len() == self.lengths.capacity() {
                self.lengths.reserve_exact(64);
            }
            self.lengths.push(message.len() as u32);
        } else {
            sink(channel, message);
        }
        true
    }

    fn heap_cap(max_message: usize) -> usize {
        INITIAL_WINDOW.max(max_message) + UNORDERED_MESSAGES as usize * size_of::<u32>()
    }
}

fn place(id: u64) -> (usize, u32) {
    ((id / 64) as usize % WORDS, (id % 64) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelId = ChannelId(3);

    #[test]
    fn messages_are_delivered_at_once_and_once() {
        for first in [0, u64::MAX - 100, (1 << 16) - 100] {
            let mut receiver = UnorderedReceiver::new(first, 10_000);
            let mut got = Vec::new();
            for round in 0..20u64 {
                for index in (0..100u64).rev() {
                    let id = first.wrapping_add(round * 100 + index);
                    for _ in 0..2 {
                        let taken = receiver.handle_message(CHANNEL, id as u16, &[], &mut |_, _| got.push(id)).unwrap();
                        assert_eq!(taken, Taken::Yes);
                    }
                }
            }
            assert_eq!(got.len(), 2000);
            assert_eq!(receiver.floor, first.wrapping_add(2000));
        }
    }

    #[test]
    fn a_message_beyond_the_window_is_a_violation() {
        let mut receiver = UnorderedReceiver::new(0, 10_000);
        assert_eq!(receiver.handle_message(CHANNEL, 255, &[], &mut |_, _| {}), Ok(Taken::Yes));
        assert_eq!(receiver.handle_message(CHANNEL, 256, &[], &mut |_, _| {}), Err(Violation::WindowExceeded));
    }

    #[test]
    fn incomplete_messages_are_bounded_in_number_and_bytes() {
        let mut receiver = UnorderedReceiver::new(0, 64 << 10);
        let cap = UnorderedReceiver::heap_cap(64 << 10);
        let mut refused = 0;
        for id in 0..256 {
            for index in 0..3 {
                let fragment = Fragment { id, index, count: 4, bytes: &[0; FRAGMENT_BYTES] };
                let taken = receiver.handle_fragment(CHANNEL, &fragment, &mut |_, _| {}).unwrap();
                refused += usize::from(taken == Taken::No);
                assert!(receiver.heap() <= cap);
            }
        }
        assert!(refused > 500, "{refused}");
        assert_eq!(receiver.partials.len(), 41);
    }
}
