//! What a reliable channel has still to deliver.

use std::collections::VecDeque;

use super::codec::{varint, varint_len};
use super::number::{earlier, is_before, later};
use super::ranges::Ranges;
use super::wire::{Carrier, FRAGMENT_BYTES, INITIAL_WINDOW, MAX_WINDOW, UNORDERED_MESSAGES, fragments};
use super::{ChannelConfig, Receipt};

/// The bytes of a reliable channel from the oldest that is not acknowledged to the newest that is queued. Places are
/// 64-bit offsets in the endless row of all bytes of the channel.
///
/// An ordered channel sends this row as it is, with the messages' lengths in it, cut anywhere. An unordered one has
/// only the messages in it, and cuts them at the borders of messages and fragments.
#[derive(Debug)]
pub(super) struct SendBuffer {
    ordered: bool,
    data: VecDeque<u8>,
    /// The place of the first byte in `data`: everything before has arrived.
    base: u64,
    /// Everything from here on has never left.
    fresh: u64,
    /// How far the peer lets us go.
    limit: u64,
    /// What has arrived beyond `base`.
    arrived: Ranges,
    /// What has left, is lost, and has not left again.
    lost: Ranges,
    messages: VecDeque<Message>,
    /// The number of the first of `messages`.
    first_id: u64,
    charged: usize,
    /// Bytes that have left more than once.
    resent: u64,
}

#[derive(Debug)]
struct Message {
    start: u64,
    length: u32,
    receipt: Option<Receipt>,
}

/// A piece that is to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) carrier: Carrier,
}

impl SendBuffer {
    pub(super) fn new(ordered: bool, first: u64) -> Self {
        Self {
            ordered,
            data: VecDeque::new(),
            base: first,
            fresh: first,
            limit: first.wrapping_add(INITIAL_WINDOW as u64),
            arrived: Ranges::new(),
            lost: Ranges::new(),
            messages: VecDeque::new(),
            first_id: first,
            charged: 0,
            resent: 0,
        }
    }

    /// What is queued or not acknowledged, each message charged for its length +
    /// [`ChannelConfig::MESSAGE_COST`].
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Bytes that have left more than once.
    pub(super) const fn resent(&self) -> u64 {
        self.resent
    }

    /// Whether everything that was queued has arrived.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn end(&self) -> u64 {
        self.base.wrapping_add(self.data.len() as u64)
    }

    /// Queues a message; the caller has checked that it may.
    pub(super) fn push(&mut self, message: &[u8], receipt: Option<Receipt>) {
        let start = self.end();
        // Channel limits keep messages below 2^24 bytes.
        let length = message.len() as u32;
        if self.ordered {
            self.data.extend(&varint(length)[..varint_len(length)]);
        } else if message.is_empty() {
            // A message without bytes would have no place.
            self.data.push_back(0);
        }
        self.data.extend(message);
        self.messages.push_back(Message { start, length, receipt });
        self.charged += message.len() + ChannelConfig::MESSAGE_COST;
    }

    /// The peer has room up to the place whose low 24 bits these are.
    pub(super) fn raise_limit(&mut self, truncated: u32) {
        let limit = super::number::expand(u64::from(truncated), 24, self.limit);
        self.limit = later(self.limit, limit);
    }

    /// Whether something could leave if the network allowed it.
    pub(super) fn has_work(&self) -> bool {
        !self.lost.is_empty() || self.fresh_end() != self.fresh
    }

    /// Up to where bytes may leave for the first time.
    fn fresh_end(&self) -> u64 {
        if self.ordered {
            let far = earlier(self.limit, self.base.wrapping_add(MAX_WINDOW as u64));
            return later(self.fresh, earlier(self.end(), far));
        }
        // Whole messages within the window, or the oldest whatever its size.
        let Some(oldest) = self.messages.front() else { return self.fresh };
        let window = self.base.wrapping_add(INITIAL_WINDOW as u64);
        let end = self.end();
        let by_count = self.messages.get(UNORDERED_MESSAGES as usize).map_or(end, |message| message.start);
        let by_size = if is_before(window, end) {
            let beyond = self.messages.partition_point(|message| !is_before(window, self.message_end(message)));
            self.messages.get(beyond).map_or(end, |message| message.start)
        } else {
            end
        };
        later(self.fresh, later(self.message_end(oldest), earlier(by_count, by_size)))
    }

    fn message_end(&self, message: &Message) -> u64 {
        let header = if self.ordered { varint_len(message.length) } else { usize::from(message.length == 0) };
        message.start.wrapping_add(header as u64 + u64::from(message.length))
    }

    /// The piece that should leave next, of at most as many bytes as fit in `room` with the head of its frame; `None`
    /// if nothing is there or nothing sensible fits.
    pub(super) fn next_piece(&self, room: usize, channel: super::ChannelId) -> Option<Piece> {
        let (start, end) = match self.lost.first() {
            Some(lost) => lost,
            None => (self.fresh, self.fresh_end()),
        };
        if start == end {
            return None;
        }
        if self.ordered {
            let carrier = Carrier::Stream { offset: start };
            let available = end.wrapping_sub(start);
            let length = (room.checked_sub(carrier.head_len(channel))? as u64).min(available) as usize;
            // Not a sliver of something larger: its frame would cost more than it carries.
            let sliver = length < 32 && (length as u64) < available;
            return (length > 0 && !sliver).then_some(Piece { offset: start, length, carrier });
        }
        let index = self.messages.partition_point(|message| !is_before(start, message.start)).checked_sub(1)?;
        let message = self.messages.get(index)?;
        let id = self.first_id.wrapping_add(index as u64) as u16;
        let count = fragments(message.length as usize);
        let at = start.wrapping_sub(message.start) as usize / FRAGMENT_BYTES;
        let offset = message.start.wrapping_add((at * FRAGMENT_BYTES) as u64);
        let length = (message.length as usize - at * FRAGMENT_BYTES).min(FRAGMENT_BYTES);
        let carrier = if message.length as usize <= super::ChannelTable::MAX_UNFRAGMENTED {
            Carrier::Message { id: Some(id) }
        } else {
            Carrier::Fragment { id, index: at as u32, count: count as u32 }
        };
        let (offset, length) = if matches!(carrier, Carrier::Message { .. }) {
            (message.start, message.length as usize)
        } else {
            (offset, length)
        };
        (carrier.head_len(channel) + length <= room).then_some(Piece { offset, length, carrier })
    }

    /// Copies out what [`next_piece`](Self::next_piece) named, and notes that it leaves. Returns how many bytes of the
    /// row it covers.
    pub(super) fn take_piece(&mut self, piece: &Piece, into: &mut [u8]) -> u16 {
        copy_out(&self.data, piece.offset.wrapping_sub(self.base) as usize, into);
        let span = if self.ordered { piece.length } else { piece.length.max(1) };
        let end = piece.offset.wrapping_add(span as u64);
        if is_before(piece.offset, self.fresh) {
            self.resent += span as u64;
        }
        self.lost.remove(piece.offset, end);
        self.fresh = later(self.fresh, end);
        span as u16
    }

    /// Bytes have arrived. Reports the receipts of the messages that are complete by that.
    pub(super) fn on_arrived(&mut self, offset: u64, length: u16, mut report: impl FnMut(Receipt)) {
        let end = offset.wrapping_add(u64::from(length));
        let start = later(offset, self.base);
        if !is_before(start, end) {
            return;
        }
        self.lost.remove(start, end);
        self.arrived.insert(start, end);
        let Some(base) = self.arrived.take_reaching(self.base) else {
            if !self.ordered {
                self.report_out_of_order(start, report);
            }
            return;
        };
        let gone = base.wrapping_sub(self.base) as usize;
        self.base = base;
        self.data.drain(..gone);
        while let Some(message) = self.messages.front() {
            if is_before(self.base, self.message_end(message)) {
                break;
            }
            self.charged -= message.length as usize + ChannelConfig::MESSAGE_COST;
            message.receipt.into_iter().for_each(&mut report);
            self.messages.pop_front();
            self.first_id = self.first_id.wrapping_add(1);
        }
    }

    fn report_out_of_order(&mut self, start: u64, mut report: impl FnMut(Receipt)) {
        let index = self.messages.partition_point(|message| !is_before(start, message.start)).saturating_sub(1);
        let Some(message) = self.messages.get(index) else { return };
        if message.receipt.is_some() && self.arrived.contains(message.start, self.message_end(message)) {
            let receipt = self.messages.get_mut(index).and_then(|message| message.receipt.take());
            receipt.into_iter().for_each(&mut report);
        }
    }

    /// Bytes are lost, unless they have arrived otherwise.
    pub(super) fn on_lost(&mut self, offset: u64, length: u16) {
        let end = offset.wrapping_add(u64::from(length));
        let start = later(offset, self.base);
        if !is_before(start, end) {
            return;
        }
        self.lost.insert(start, end);
        for (start, end) in self.arrived.iter() {
            self.lost.remove(start, end);
        }
    }
}

impl SendBuffer {
    /// Gives memory back; only where everything has arrived.
    pub(super) fn trim(&mut self) {
        if self.is_empty() {
            self.data.shrink_to_fit();
            self.messages.shrink_to_fit();
            self.arrived.trim();
            self.lost.trim();
        }
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.data.capacity()
            + self.messages.capacity() * size_of::<Message>()
            + self.arrived.heap()
            + self.lost.heap()
    }
}

/// Copies from a ring into a slice.
pub(super) fn copy_out(data: &VecDeque<u8>, start: usize, into: &mut [u8]) {
    let (front, back) = data.as_slices();
    let in_front = front.get(start..).unwrap_or_default();
    let split = in_front.len().min(into.len());
    let (first, second) = into.split_at_mut(split);
    first.copy_from_slice(&in_front[..split]);
    if !second.is_empty() {
        let from = start.saturating_sub(front.len());
        second.copy_from_slice(&back[from..from + second.len()]);
    }
}
