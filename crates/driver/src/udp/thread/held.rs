//! Reliable messages that the driver's queues have no room for yet.

use std::collections::{HashMap, VecDeque};

use netstream_transport::{ChannelId, ConnectionId, copy};

/// Per connection and channel, what waits in order. The caller's side bounds it: it takes no more for a channel than the
/// channel's own queue holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    queues: HashMap<(ConnectionId, ChannelId), Queue>,
    messages: usize,
}

#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    /// How much of `bytes` has left.
    start: usize,
    lens: VecDeque<usize>,
}

/// What became of an attempt to hand a message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// It is off our hands.
    Over,
    /// There is no room.
    Full,
}

impl Held {
    pub(super) fn push(&mut self, connection: ConnectionId, channel: ChannelId, message: &[u8]) {
        let queue = self.queues.entry((connection, channel)).or_default();
        if queue.start > queue.bytes.len() / 2 {
            queue.bytes.drain(..queue.start);
            queue.start = 0;
        }
        copy::append(&mut queue.bytes, message);
        queue.lens.push_back(message.len());
        self.messages += 1;
    }

    /// Whether a further message must queue behind others.
    pub(super) fn has(&self, connection: ConnectionId, channel: ChannelId) -> bool {
        self.messages > 0 && self.queues.get(&(connection, channel)).is_some_and(|queue| !queue.lens.is_empty())
    }

    pub(super) fn has_any_of(&self, connection: ConnectionId) -> bool {
        self.messages > 0 && self.queues.iter().any(|((of, _), queue)| *of == connection && !queue.lens.is_empty())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Offers what waits, in order per channel, until there is no room.
    pub(super) fn offer(&mut self, hand: &mut dyn FnMut(ConnectionId, ChannelId, &[u8]) -> Handed) {
        if self.messages == 0 {
            return;
        }
        for ((connection, channel), queue) in &mut self.queues {
            while let Some(len) = queue.lens.front() {
                let end = queue.start + len;
                if hand(*connection, *channel, &queue.bytes[queue.start..end]) == Handed::Full {
                    break;
                }
                queue.start = end;
                queue.lens.pop_front();
                self.messages -= 1;
            }
        }
    }

    /// The connection is over.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        if self.queues.is_empty() {
            return;
        }
        self.queues.retain(|(of, _), queue| {
            if *of == connection {
                self.messages -= queue.lens.len();
            }
            *of != connection
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_leaves_in_order_and_only_as_far_as_there_is_room() {
        let id = |index| ConnectionId { index, generation: 0 };
        let (a, b, channel) = (id(1), id(2), ChannelId::RELIABLE);
        let mut held = Held::default();
        for number in 0..9_u8 {
            held.push(if number % 3 == 0 { b } else { a }, channel, &vec![number; usize::from(number)]);
        }
        let mut left = Vec::new();
        for room in [2, 0, 3, 9] {
            let mut room = room;
            held.offer(&mut |connection, _, message| {
                if connection == b || room == 0 {
                    return Handed::Full;
                }
                room -= 1;
                left.push(message.to_vec());
                Handed::Over
            });
        }
        assert!(left.iter().map(Vec::len).eq([1, 2, 4, 5, 7, 8]));
        assert!(!held.has(a, channel) && held.has(b, channel) && held.has_any_of(b));
        held.forget(b);
        assert!(held.is_empty() && !held.has_any_of(b));
    }
}
