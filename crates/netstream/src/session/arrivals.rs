//! What arrived and is not on the entities yet.

use super::table::Slot;
use crate::queue::MessageQueue;

/// Which of an entity's buffers a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inbox {
    /// Calls and replies.
    Rpcs,
    /// Packets of the peer's ticks.
    Stream,
    /// Commands (server) or snapshots (client) as raw bytes.
    Data,
}

/// The messages of all connections in the order in which they came: one place that is written from front to back and
/// stays in the cache, where a queue of each connection would have to be fetched from memory. It holds what the drivers
/// hand out in one update.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    messages: MessageQueue,
    /// Of each of them.
    places: Vec<(Slot, Inbox)>,
}

impl Arrivals {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Appends the concatenation of `parts` as one message.
    pub(super) fn push(&mut self, slot: Slot, inbox: Inbox, parts: &[&[u8]]) {
        self.messages.push_parts(parts);
        self.places.push((slot, inbox));
    }

    /// This connection is over, and its slot may be another's: what came for it is dropped.
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.places.iter().all(|&(of, _)| of != slot) {
            return;
        }
        let Self { mut messages, places } = std::mem::take(self);
        for (message, (of, inbox)) in messages.drain().zip(places).filter(|(_, (of, _))| *of != slot) {
            self.push(of, inbox, &[message]);
        }
    }

    /// Hands all messages out: `deliver` gives its argument the queue that one or more of them belong in.
    pub(crate) fn hand_out(&mut self, mut deliver: impl FnMut(Slot, Inbox, &mut dyn FnMut(&mut MessageQueue))) {
        let Self { messages, places } = self;
        match places[..] {
            // Memory is exchanged, and what is large is not copied.
            [first, ref others @ ..] if others.iter().all(|other| *other == first) => {
                deliver(first.0, first.1, &mut |queue| messages.move_into(queue));
            }
            _ => {
                for (message, &(slot, inbox)) in messages.drain().zip(&*places) {
                    deliver(slot, inbox, &mut |queue| queue.push(message));
                }
            }
        }
        messages.clear();
        places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is handed out, in order.
    fn all(arrivals: &mut Arrivals) -> Vec<(Slot, Inbox, Vec<Vec<u8>>)> {
        let mut out = Vec::new();
        arrivals.hand_out(|slot, inbox, put| {
            let mut queue = MessageQueue::default();
            put(&mut queue);
            out.push((slot, inbox, queue.iter().map(<[u8]>::to_vec).collect()));
        });
        assert!(arrivals.is_empty());
        out
    }

    #[test]
    fn each_message_goes_where_it_belongs_in_the_order_in_which_they_came() {
        let mut arrivals = Arrivals::default();
        arrivals.push(1, Inbox::Rpcs, &[b"a", b"b"]);
        arrivals.push(2, Inbox::Data, &[b"c"]);
        arrivals.push(1, Inbox::Rpcs, &[b"d"]);
        let expected = [(1, Inbox::Rpcs, "ab"), (2, Inbox::Data, "c"), (1, Inbox::Rpcs, "d")];
        let expected = expected.map(|(slot, inbox, text)| (slot, inbox, vec![text.as_bytes().to_vec()]));
        assert_eq!(all(&mut arrivals), expected);
        arrivals.push(3, Inbox::Stream, &[b"e"]);
        arrivals.push(3, Inbox::Stream, &[b"f"]);
        assert_eq!(all(&mut arrivals), [(3, Inbox::Stream, vec![b"e".to_vec(), b"f".to_vec()])]);
    }

    #[test]
    fn whoever_gets_a_slot_gets_nothing_of_its_last_holder() {
        let mut arrivals = Arrivals::default();
        for (slot, text) in [(1, "a"), (2, "b"), (1, "c"), (3, "d")] {
            arrivals.push(slot, Inbox::Data, &[text.as_bytes()]);
        }
        arrivals.forget(1);
        assert_eq!(all(&mut arrivals), [2, 3].map(|slot| (slot, Inbox::Data, vec![[b"b", b"d"][slot - 2].to_vec()])));
    }
}
