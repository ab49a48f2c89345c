//! Unreliable messages that wait for their departure.

use super::frame::{Carrier, fragments, has_id};
use super::row::Row;
use super::short_queue::ShortQueue;
use super::wire::FRAGMENT_BYTES;
use super::{ChannelConfig, ChannelId, ChannelTable, DropPolicy, Side};
use crate::SharedBytes;
use crate::look::Look;
use crate::mutants::{audit, mutant};

/// The queue of one unreliable channel.
#[derive(Debug)]
pub(super) struct Queue {
    has_id: bool,
    drop: DropPolicy,
    cap: usize,
    data: Row,
    lengths: ShortQueue<u32>,
    /// The id of the next message that carries one.
    next_id: u16,
    /// Fragments of the first message that have left.
    gone: usize,
    /// Messages that were dropped because the queue was full.
    dropped: u64,
}

fn message_cost() -> usize {
    if mutant(22) { 0 } else { ChannelConfig::MESSAGE_COST }
}

/// What is to leave next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    start: usize,
    pub(super) length: usize,
    pub(super) carrier: Carrier,
    last: bool,
}

impl Queue {
    pub(super) fn new(config: &ChannelConfig, side: Side, first: u64) -> Self {
        Self {
            has_id: has_id(config),
            drop: config.drop,
            cap: config.queue_cap(side),
            data: Row::default(),
            lengths: ShortQueue::default(),
            next_id: first as u16,
            gone: 0,
            dropped: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes queued, each message charged for its length + [`ChannelConfig::MESSAGE_COST`].
    pub(super) fn charged(&self) -> usize {
        self.data.len() + self.lengths.len() * message_cost()
    }

    /// See [`Link::look_far`](super::Link::look_far).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        self.data.look(look);
        look.at(&self.cap);
        look.at(&self.next_id);
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Queues a message, at the cost of another or of itself where there is no room.
    /// It is `head` and behind it `body`.
    pub(super) fn push(&mut self, head: &[u8], body: &[u8]) {
        let length = head.len() + body.len();
        if self.make_room(length) {
            self.data.push(head, body, self.cap);
            self.note(length);
        }
    }

    /// The same without a copy of a long body.
    pub(super) fn push_shared(&mut self, head: &[u8], body: &SharedBytes) {
        let length = head.len() + body.len();
        if self.make_room(length) {
            self.data.push_shared(head, body, self.cap);
            self.note(length);
        }
    }

    /// Whether there is room for a message now.
    fn make_room(&mut self, length: usize) -> bool {
        while self.charged() + length + message_cost() > self.cap {
            self.dropped += 1;
            if self.drop == DropPolicy::Newest {
                return false;
            }
            self.pop();
        }
        true
    }

    fn note(&mut self, length: usize) {
        self.lengths.push_back(length as u32);
        audit(33, || {
            let (count, cost) = (self.lengths.len(), ChannelConfig::MESSAGE_COST);
            (count * cost > self.cap).then(|| format!("{count} messages of {cost} B at least in {} B", self.cap))
        });
    }

    fn pop(&mut self) {
        if let Some(length) = self.lengths.pop_front() {
            self.data.drop_front(length as usize);
            if self.gone > 0 {
                self.next_id = self.next_id.wrapping_add(1);
            }
            self.gone = 0;
        }
    }

    /// What should leave next, if it fits in `room` with the head of its frame.
    pub(super) fn next_piece(&self, room: usize, channel: ChannelId) -> Option<Piece> {
        let length = *self.lengths.front()? as usize;
        let piece = if length <= ChannelTable::MAX_UNFRAGMENTED {
            let carrier = Carrier::Message { id: self.has_id.then_some(self.next_id) };
            Piece { start: 0, length, carrier, last: true }
        } else {
            let count = fragments(length);
            let start = self.gone * FRAGMENT_BYTES;
            let carrier = Carrier::Fragment { id: self.next_id, index: self.gone as u32, count: count as u32 };
            Piece { start, length: (length - start).min(FRAGMENT_BYTES), carrier, last: self.gone + 1 == count }
        };
        (piece.carrier.head_len(channel) + piece.length <= room).then_some(piece)
    }

    /// Whether what should leave next is a fragment with others of the same message behind it.
    pub(super) fn is_amid(&self) -> bool {
        self.lengths.front().is_some_and(|&length| {
            let length = length as usize;
            length > ChannelTable::MAX_UNFRAGMENTED && self.gone + 1 < fragments(length)
        })
    }

    /// Copies out what [`next_piece`](Self::next_piece) named, and notes that it has left.
    pub(super) fn take_piece(&mut self, piece: &Piece, into: &mut [u8]) {
        self.data.copy_out(piece.start, into);
        if !matches!(piece.carrier, Carrier::Message { id: None }) {
            self.gone += 1;
        }
        if piece.last {
            self.pop();
        }
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.data.trim();
        self.lengths.trim();
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) fn heap_cap(cap: usize) -> usize {
        Row::heap_cap(cap) + ShortQueue::<u32>::heap_cap(cap / ChannelConfig::MESSAGE_COST)
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.data.heap() + self.lengths.heap()
    }
}
