//! What a reliable channel has still to deliver.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use super::codec::{varint, varint_len};
use super::frame::{Carrier, fragments};
use super::number::{earlier, expand, is_before, later};
use super::ranges::Ranges;
use super::row::Row;
use super::wire::{FRAGMENT_BYTES, INITIAL_WINDOW, MAX_WINDOW, UNORDERED_MESSAGES};
use super::{ChannelConfig, ChannelId, ChannelTable};
use crate::SharedBytes;
use crate::mutants::{audit, mutant};

/// A smaller piece of a stream does not leave while there is more of it: its frame would cost more than it carries.
const SLIVER: u64 = 32;

/// The bytes of a reliable channel from the oldest that is not acknowledged to the newest that is queued. Places are
/// 64-bit offsets in the endless row of all bytes of the channel.
///
/// An ordered channel sends this row as it is, with the messages' lengths in it, cut anywhere. An unordered one has
/// only the messages in it, and cuts them at the borders of messages and fragments.
#[derive(Debug)]
pub(super) struct SendBuffer {
    ordered: bool,
    /// The most that `charged` may be; the caller sees to it.
    cap: usize,
    data: Row,
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

/// Kept small: there may be one per 64 charged bytes.
#[derive(Debug)]
struct Message {
    /// The low 32 bits of the place of its first byte: two messages are never 2^31 bytes apart.
    start: u32,
    length: u32,
    /// What to report when it has arrived.
    receipt: Option<NonZeroU32>,
}

/// A piece that is to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: usize,
    pub(super) carrier: Carrier,
}

/// What stands before a message in the row, and how many bytes of it: the message's length, or a byte where it would
/// otherwise have no place.
fn head(ordered: bool, length: usize) -> ([u8; 4], usize) {
    match ordered {
        true => (varint(length as u32), varint_len(length as u32)),
        false => ([0; 4], usize::from(length == 0)),
    }
}

impl SendBuffer {
    pub(super) fn new(ordered: bool, first: u64, cap: usize) -> Self {
        Self {
            ordered,
            cap,
            data: Row::default(),
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

    /// Queues a message, which is `head` and behind it `body`; the caller has checked that it may.
    pub(super) fn push(&mut self, head: &[u8], body: &[u8], receipt: Option<NonZeroU32>) {
        let (start, length) = (self.end() as u32, head.len() + body.len());
        let (before, size) = self::head(self.ordered, length);
        if head.is_empty() {
            self.data.push(&before[..size], body, self.cap);
        } else {
            self.data.push(&before[..size], head, self.cap);
            self.data.push(&[], body, self.cap);
        }
        self.note(start, length, receipt);
    }

    /// The same without a copy of a long body.
    pub(super) fn push_shared(&mut self, head: &[u8], body: &SharedBytes, receipt: Option<NonZeroU32>) {
        let (start, length) = (self.end() as u32, head.len() + body.len());
        let (before, size) = self::head(self.ordered, length);
        self.data.push(&before[..size], head, self.cap);
        self.data.push_shared(&[], body, self.cap);
        self.note(start, length, receipt);
    }

    fn note(&mut self, start: u32, length: usize, receipt: Option<NonZeroU32>) {
        // Channel limits keep messages at 2^24 bytes at most.
        self.messages.push_back(Message { start, length: length as u32, receipt });
        self.charged += length + ChannelConfig::MESSAGE_COST;
    }

    /// The peer has room up to the place whose low 24 bits these are.
    pub(super) fn raise_limit(&mut self, truncated: u32) {
        self.limit = later(self.limit, expand(u64::from(truncated), 24, self.limit));
    }

    /// Copies out what [`next_piece`](Self::next_piece) named, and notes that it leaves. Returns how many bytes of the
    /// row it covers.
    pub(super) fn take_piece(&mut self, piece: &Piece, into: &mut [u8]) -> u16 {
        self.data.copy_out(piece.offset.wrapping_sub(self.base) as usize, into);
        let span = if self.ordered { piece.length } else { piece.length.max(1) };
        let end = piece.offset.wrapping_add(span as u64);
        if is_before(piece.offset, self.fresh) {
            self.resent += span as u64;
            if mutant(9) && self.messages.len() > 64 {
                into.iter_mut().take(1).for_each(|byte| *byte ^= 1);
            }
        }
        audit(27, || {
            let known = is_before(piece.offset, self.base) || self.arrived.contains(piece.offset, end);
            known.then(|| format!("bytes {} to {end} leave again, which have arrived", piece.offset))
        });
        self.lost.remove(piece.offset, end);
        self.fresh = later(self.fresh, end);
        span as u16
    }

    /// Bytes have arrived. Reports the receipts of the messages that are complete by that.
    pub(super) fn on_arrived(&mut self, offset: u64, length: u16, mut report: impl FnMut(NonZeroU32)) {
        let end = offset.wrapping_add(u64::from(length));
        let start = later(offset, self.base);
        if !is_before(start, end) {
            return;
        }
        if !mutant(7) {
            self.lost.remove(start, end);
        }
        self.arrived.insert(start, end);
        let Some(base) = self.arrived.take_reaching(self.base) else {
            if !self.ordered {
                self.report_out_of_order(start, report);
            }
            return;
        };
        let gone = base.wrapping_sub(self.base) as usize;
        while let Some(message) = self.messages.front() {
            if is_before(base, self.end_of(message)) {
                break;
            }
            self.charged -= message.length as usize + ChannelConfig::MESSAGE_COST;
            message.receipt.into_iter().for_each(&mut report);
            self.messages.pop_front();
            self.first_id = self.first_id.wrapping_add(1);
        }
        self.base = base;
        self.data.drop_front(gone);
    }

    /// A message of an unordered channel may be complete before those that were sent earlier.
    fn report_out_of_order(&mut self, place: u64, report: impl FnMut(NonZeroU32)) {
        let Some(index) = self.message_at(place) else { return };
        let Some(message) = self.messages.get(index) else { return };
        if message.receipt.is_some() && self.arrived.contains(self.start_of(message), self.end_of(message)) {
            let receipt = self.messages.get_mut(index).and_then(|message| message.receipt.take());
            receipt.into_iter().for_each(report);
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

    /// Gives memory back; only where everything has arrived.
    pub(super) fn trim(&mut self) {
        if self.messages.is_empty() {
            self.data.trim();
            self.messages.shrink_to_fit();
            self.arrived.trim();
            self.lost.trim();
        }
    }
}

impl SendBuffer {
    /// What is queued or not acknowledged, each message charged for its length +
    /// [`ChannelConfig::MESSAGE_COST`].
    pub(super) const fn charged(&self) -> usize {
        self.charged
    }

    /// Bytes that have left more than once.
    pub(super) const fn resent(&self) -> u64 {
        self.resent
    }

    /// Whether something could leave if the network allowed it.
    pub(super) fn has_work(&self) -> bool {
        !self.lost.is_empty() || self.fresh_end() != self.fresh
    }

    /// The piece that should leave next, of at most as many bytes as fit in `room` with the head of its frame; `None`
    /// if nothing is there or nothing sensible fits.
    pub(super) fn next_piece(&self, room: usize, channel: ChannelId) -> Option<Piece> {
        let (start, end) = self.lost.first().unwrap_or_else(|| (self.fresh, self.fresh_end()));
        if start == end {
            return None;
        }
        if self.ordered {
            let carrier = Carrier::Stream { offset: start };
            let available = end.wrapping_sub(start);
            let length = (room.checked_sub(carrier.head_len(channel))? as u64).min(available);
            let sliver = length < SLIVER && length < available;
            return (!sliver).then_some(Piece { offset: start, length: length as usize, carrier });
        }
        let piece = self.piece_at(start)?;
        (piece.carrier.head_len(channel) + piece.length <= room).then_some(piece)
    }

    /// The message or fragment of an unordered channel that begins at `place`.
    fn piece_at(&self, place: u64) -> Option<Piece> {
        let index = self.message_at(place)?;
        let message = self.messages.get(index)?;
        let (start, length) = (self.start_of(message), message.length as usize);
        let id = self.first_id.wrapping_add(index as u64) as u16;
        if length <= ChannelTable::MAX_UNFRAGMENTED {
            return Some(Piece { offset: start, length, carrier: Carrier::Message { id: Some(id) } });
        }
        let fragment = place.wrapping_sub(start) as usize / FRAGMENT_BYTES;
        let skipped = fragment * FRAGMENT_BYTES;
        let carrier = Carrier::Fragment { id, index: fragment as u32, count: fragments(length) as u32 };
        let length = (length - skipped).min(FRAGMENT_BYTES);
        Some(Piece { offset: start.wrapping_add(skipped as u64), length, carrier })
    }

    /// Up to where bytes may leave for the first time.
    fn fresh_end(&self) -> u64 {
        let end = self.end();
        if self.ordered {
            let far = earlier(self.limit, self.base.wrapping_add(MAX_WINDOW as u64));
            return later(self.fresh, earlier(end, far));
        }
        // Whole messages within the window, or the oldest whatever its size.
        let Some(oldest) = self.messages.front() else { return self.fresh };
        let window = self.base.wrapping_add(INITIAL_WINDOW as u64);
        let by_count = self.messages.get(UNORDERED_MESSAGES as usize).map_or(end, |message| self.start_of(message));
        let by_size = if is_before(window, end) {
            let beyond = self.messages.partition_point(|message| !is_before(window, self.end_of(message)));
            self.messages.get(beyond).map_or(end, |message| self.start_of(message))
        } else {
            end
        };
        later(self.fresh, later(self.end_of(oldest), earlier(by_count, by_size)))
    }

    /// The place after the last queued byte.
    fn end(&self) -> u64 {
        self.base.wrapping_add(self.data.len() as u64)
    }

    /// The index of the message that has the byte at `place`.
    fn message_at(&self, place: u64) -> Option<usize> {
        self.messages.partition_point(|message| !is_before(place, self.start_of(message))).checked_sub(1)
    }

    fn start_of(&self, message: &Message) -> u64 {
        expand(u64::from(message.start), 32, self.base)
    }

    fn end_of(&self, message: &Message) -> u64 {
        let header = if self.ordered { varint_len(message.length) } else { usize::from(message.length == 0) };
        self.start_of(message).wrapping_add(header as u64 + u64::from(message.length))
    }

    /// The most that [`heap`](Self::heap) can be; the ranges have at most one entry per packet under way.
    pub(super) fn heap_cap(cap: usize) -> usize {
        let messages = (cap / ChannelConfig::MESSAGE_COST).next_power_of_two() * size_of::<Message>();
        Row::heap_cap(cap) + messages + Ranges::heap_cap() * 2
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        let messages = self.messages.capacity() * size_of::<Message>();
        self.data.heap() + messages + self.arrived.heap() + self.lost.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Random, SeededRandom};

    const CHANNEL: ChannelId = ChannelId(1);
    const CAP: usize = 1 << 20;

    /// Everything that leaves with `room` for each piece, as (offset, bytes of the row).
    fn drain(buffer: &mut SendBuffer, room: usize) -> Vec<(u64, u16)> {
        let mut pieces = Vec::new();
        while let Some(piece) = buffer.next_piece(room, CHANNEL) {
            let mut bytes = vec![0; piece.length];
            pieces.push((piece.offset, buffer.take_piece(&piece, &mut bytes)));
        }
        pieces
    }

    #[test]
    fn a_late_ack_takes_a_lost_piece_off_the_list() {
        let mut buffer = SendBuffer::new(true, 0, CAP);
        buffer.push(&[], &[1; 3000], None);
        let pieces = drain(&mut buffer, 1000);
        for (offset, length) in &pieces {
            buffer.on_lost(*offset, *length);
        }
        for (offset, length) in &pieces[1..] {
            buffer.on_arrived(*offset, *length, |_| {});
        }
        let again = drain(&mut buffer, 2000);
        assert_eq!(again, pieces[..1], "only what has not arrived leaves again");
        assert_eq!(buffer.resent(), u64::from(pieces[0].1));
    }

    #[test]
    fn what_has_arrived_is_never_lost() {
        for ordered in [true, false] {
            let mut buffer = SendBuffer::new(ordered, u64::MAX - 100, CAP);
            buffer.push(&[], &[1; 5000], None);
            let pieces = drain(&mut buffer, 1175);
            buffer.on_arrived(pieces[1].0, pieces[1].1, |_| {});
            buffer.on_lost(pieces[1].0, pieces[1].1);
            assert!(!buffer.has_work());
        }
    }

    #[test]
    fn the_peers_window_holds_back_what_is_new() {
        let mut buffer = SendBuffer::new(true, 0, CAP);
        buffer.push(&[], &[1; 200_000], None);
        let sent = |pieces: &[(u64, u16)]| pieces.iter().map(|(_, length)| usize::from(*length)).sum::<usize>();
        assert_eq!(sent(&drain(&mut buffer, 1175)), INITIAL_WINDOW);
        buffer.raise_limit(100_000);
        assert_eq!(sent(&drain(&mut buffer, 1175)), 100_000 - INITIAL_WINDOW);
        buffer.raise_limit(90_000);
        assert!(!buffer.has_work(), "a limit never shrinks");
    }

    #[test]
    fn an_unordered_channel_keeps_no_more_under_way_than_a_receiver_takes() {
        let mut buffer = SendBuffer::new(false, 0, CAP);
        for _ in 0..300 {
            buffer.push(&[], &[1; 10], None);
        }
        assert_eq!(drain(&mut buffer, 1175).len(), UNORDERED_MESSAGES as usize);
        let mut buffer = SendBuffer::new(false, 0, CAP);
        buffer.push(&[], &[1; 200_000], None);
        buffer.push(&[], &[1; 10], None);
        assert_eq!(drain(&mut buffer, 1175).len(), 200_000usize.div_ceil(FRAGMENT_BYTES), "the oldest goes alone");
    }

    #[test]
    fn a_message_leaves_the_same_whether_it_was_copied_or_shared() {
        for ordered in [true, false] {
            for length in [0, 1, 127, 128, 70_000] {
                let message: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let row = |head: Option<usize>| {
                    let mut buffer = SendBuffer::new(ordered, 5, CAP);
                    match head {
                        None => buffer.push(&[], &message, None),
                        Some(head) => buffer.push_shared(&message[..head], &message[head..].to_vec().into(), None),
                    }
                    assert!(buffer.heap() <= SendBuffer::heap_cap(CAP));
                    let mut sent = vec![0; buffer.data.len()];
                    buffer.data.copy_out(0, &mut sent);
                    sent
                };
                assert_eq!(row(Some(0)), row(None));
                assert_eq!(row(Some(length.min(3))), row(None));
            }
        }
    }

    #[test]
    fn every_byte_is_acknowledged_once_whatever_the_order_of_acks_and_losses() {
        for seed in 0..500 {
            let mut random = SeededRandom::new(seed);
            let ordered = seed % 2 == 0;
            let first = [0, u64::MAX - 1000, (1 << 32) - 1000][seed as usize % 3];
            let mut buffer = SendBuffer::new(ordered, first, CAP);
            let mut reported = 0;
            let mut asked = 0;
            let mut under_way = Vec::new();
            for round in 0.. {
                if round < 30 {
                    let most = if random.chance(0.2) { 8000 } else { 50 };
                    let length = random.below(most) as usize;
                    let receipt = random.chance(0.5).then_some(NonZeroU32::MIN);
                    asked += usize::from(receipt.is_some());
                    if random.chance(0.5) {
                        buffer.push(&[], &vec![0; length], receipt);
                    } else {
                        buffer.push_shared(&[], &vec![0; length].into(), receipt);
                    }
                }
                under_way.extend(drain(&mut buffer, 100 + 1075 * usize::from(!ordered)));
                if under_way.is_empty() {
                    break;
                }
                let (offset, length) = under_way.swap_remove(random.below(under_way.len() as u64) as usize);
                if random.chance(0.3) {
                    buffer.on_lost(offset, length);
                } else {
                    buffer.on_arrived(offset, length, |_| reported += 1);
                }
            }
            assert_eq!((buffer.charged(), buffer.data.len(), reported), (0, 0, asked), "seed {seed}");
        }
    }
}
