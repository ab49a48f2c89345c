//! The receiving end of a reliable ordered channel.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::codec::{Reader, varint_len_from};
use super::memory::append;
use super::number::{expand, is_before, later};
use super::wire::INITIAL_WINDOW;
use super::{ChannelId, Violation};
use crate::mutants::mutant;

/// The most bytes of a message's length.
const MAX_HEADER: usize = 4;

/// Per this many bytes of window, one piece may wait for others before it. One more is not acknowledged.
const WINDOW_PER_PIECE: usize = 256;

/// By how many the list of pieces grows.
const PIECES_STEP: usize = 32;

/// Whether data was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// There was no room: the packet must not be acknowledged.
    No,
}

/// Puts the pieces of a stream in order and cuts it into messages.
#[derive(Debug)]
pub(super) struct StreamReceiver {
    max_message: usize,
    window: usize,
    /// Everything before has been processed.
    next: u64,
    /// What we have told the peer it may send up to.
    limit: u64,
    /// Whether it should hear of a new limit.
    advertise: bool,
    /// The application takes nothing for now.
    paused: bool,
    /// Pieces beyond `next`, in order, not overlapping.
    pieces: Vec<Piece>,
    /// The bytes of `pieces` in order of arrival, and of pieces that are gone.
    stash: Vec<u8>,
    /// The bytes of `pieces`.
    stashed: usize,
    /// The beginning of a message, its length included, of which the rest is missing.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    start: u64,
    length: u32,
    at: u32,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start.wrapping_add(u64::from(self.length))
    }
}

impl StreamReceiver {
    pub(super) fn new(first: u64, window: usize, max_message: usize) -> Self {
        Self {
            max_message,
            window,
            next: first,
            limit: first.wrapping_add(INITIAL_WINDOW as u64),
            advertise: false,
            paused: false,
            pieces: Vec::new(),
            stash: Vec::new(),
            stashed: 0,
            partial: Vec::new(),
        }
    }

    /// Takes in one piece of the stream; `offset` has 24 bits. Messages that are complete by that go to `sink`.
    pub(super) fn handle(
        &mut self,
        channel: ChannelId,
        offset: u32,
        bytes: &[u8],
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<Taken, Violation> {
        let start = expand(u64::from(offset), 24, self.next);
        // At most a packet.
        let end = start.wrapping_add(bytes.len() as u64);
        if is_before(self.limit, end) {
            return Err(Violation::WindowExceeded);
        }
        if !is_before(self.next, end) {
            return Ok(if mutant(5) { Taken::No } else { Taken::Yes });
        }
        if self.paused {
            let known = if is_before(start, self.next) { self.next.wrapping_sub(start) } else { 0 };
            return Ok(self.stash(later(start, self.next), bytes.get(known as usize..).unwrap_or_default()));
        }
        if is_before(self.next, start) {
            return Ok(self.stash(start, bytes));
        }
        let known = self.next.wrapping_sub(start) as usize;
        self.process(channel, bytes.get(known..).unwrap_or_default(), sink)?;
        self.process_stash(channel, sink)?;
        self.consider_window();
        Ok(Taken::Yes)
    }

    /// Keeps what arrives from now on, as far as the window reaches, which does not move.
    pub(super) fn pause(&mut self) {
        self.paused = true;
    }

    /// Hands up what was kept, and goes on.
    pub(super) fn resume(
        &mut self,
        channel: ChannelId,
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<(), Violation> {
        self.paused = false;
        self.process_stash(channel, sink)?;
        self.consider_window();
        Ok(())
    }

    /// The limit that the peer should hear of, if it changed enough since it heard of it last.
    pub(super) fn wants_window(&self) -> bool {
        self.advertise
    }

    /// The limit to tell now.
    pub(super) fn take_window(&mut self) -> u64 {
        self.advertise = false;
        self.limit = later(self.limit, self.next.wrapping_add(self.window as u64));
        self.limit
    }

    /// The room for data from now on. What was promised before stays promised; what does not fit is not acknowledged.
    pub(super) fn set_window(&mut self, window: usize) {
        self.window = window;
        self.consider_window();
    }

    fn consider_window(&mut self) {
        let limit = self.next.wrapping_add(self.window as u64);
        self.advertise |= limit.wrapping_sub(self.limit) as i64 >= (self.window / 4) as i64;
    }

    /// What [`take_window`](Self::take_window) gave has been lost.
    pub(super) fn on_window_lost(&mut self) {
        self.advertise = true;
    }

    /// Cuts bytes that are next in order into messages.
    fn process(
        &mut self,
        channel: ChannelId,
        mut bytes: &[u8],
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<(), Violation> {
        self.next = self.next.wrapping_add(bytes.len() as u64);
        while let Some(first) = self.partial.first().or(bytes.first()) {
            let header = varint_len_from(*first).ok_or(Violation::MalformedStream)?;
            // First the length, whole.
            if self.partial.len() < header && !self.partial.is_empty() {
                let missing = (header - self.partial.len()).min(bytes.len());
                self.keep(&mut bytes, missing);
            }
            let length = match Reader::new(if self.partial.is_empty() { bytes } else { &self.partial }).varint() {
                Ok(length) => length as usize,
                Err(_) => {
                    let rest = bytes.len();
                    self.keep(&mut bytes, rest);
                    return Ok(());
                }
            };
            if length > self.max_message {
                return Err(Violation::MessageTooLarge);
            }
            let missing = header + length - self.partial.len();
            if self.partial.is_empty()
                && let Some((message, rest)) = bytes.split_at_checked(missing)
            {
                // The usual case: the whole message lies in the packet.
                sink(channel, message.get(header..).unwrap_or_default());
                bytes = rest;
                continue;
            }
            let available = missing.min(bytes.len());
            self.keep(&mut bytes, available);
            if available < missing {
                return Ok(());
            }
            sink(channel, self.partial.get(header..).unwrap_or_default());
            self.partial.clear();
        }
        Ok(())
    }

    /// Moves `count` bytes, which are there, to `partial`.
    fn keep(&mut self, bytes: &mut &[u8], count: usize) {
        let Some((kept, rest)) = bytes.split_at_checked(count) else { return };
        append(&mut self.partial, kept, self.max_message + MAX_HEADER);
        *bytes = rest;
    }

    /// Keeps bytes for which others are missing.
    fn stash(&mut self, start: u64, bytes: &[u8]) -> Taken {
        let mut start = start;
        let mut bytes = bytes;
        let mut index = self.pieces.partition_point(|piece| is_before(piece.start, start));
        if let Some(before) = index.checked_sub(1).and_then(|before| self.pieces.get(before))
            && is_before(start, before.end())
        {
            let known = before.end().wrapping_sub(start) as usize;
            bytes = bytes.get(known..).unwrap_or_default();
            start = before.end();
        }
        while !bytes.is_empty() {
            let following = self.pieces.get(index).copied();
            let room = following.map_or(u64::MAX, |piece| piece.start.wrapping_sub(start));
            let fresh = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (new, rest) = bytes.split_at(fresh);
            if !new.is_empty() {
                match self.insert(index, start, new) {
                    Some(added) => index += added,
                    None => return Taken::No,
                }
            }
            let Some(following) = following else { break };
            let known = (following.length as usize).min(rest.len());
            bytes = rest.split_at(known).1;
            start = following.end();
            index += 1;
        }
        Taken::Yes
    }

    /// Keeps bytes that none of `pieces` has, before the piece at `index`. Returns how many pieces that added; `None`
    /// if there is no room.
    fn insert(&mut self, index: usize, start: u64, bytes: &[u8]) -> Option<usize> {
        let room = self.window;
        if self.stashed + bytes.len() > room {
            return None;
        }
        // An eighth of the room may be bytes of pieces that are gone, so that this does not happen too often.
        let most = room + room / 8;
        if self.stash.len() + bytes.len() > most {
            self.compact();
        }
        let at = self.stash.len();
        let full = self.pieces.len() >= room / WINDOW_PER_PIECE;
        let before = index.checked_sub(1).and_then(|before| self.pieces.get_mut(before));
        let added = match before {
            // The usual case: a run of packets after a lost one.
            Some(before) if before.end() == start && before.at as usize + before.length as usize == at => {
                before.length += bytes.len() as u32;
                0
            }
            _ if full => return None,
            _ => {
                if self.pieces.len() == self.pieces.capacity() {
                    self.pieces.reserve_exact(PIECES_STEP);
                }
                self.pieces.insert(index, Piece { start, length: bytes.len() as u32, at: at as u32 });
                1
            }
        };
        append(&mut self.stash, bytes, most);
        self.stashed += bytes.len();
        Some(added)
    }

    /// Processes what has waited and need not wait any more.
    fn process_stash(&mut self, channel: ChannelId, sink: &mut dyn FnMut(ChannelId, &[u8])) -> Result<(), Violation> {
        if self.pieces.is_empty() {
            return Ok(());
        }
        let stash = std::mem::take(&mut self.stash);
        let mut done = 0;
        let mut outcome = Ok(());
        while let Some(piece) = self.pieces.get(done).copied()
            && !is_before(self.next, piece.start)
            && outcome.is_ok()
        {
            done += 1;
            self.stashed -= piece.length as usize;
            let known = self.next.wrapping_sub(piece.start) as usize;
            let from = piece.at as usize + known.min(piece.length as usize);
            let bytes = stash.get(from..piece.at as usize + piece.length as usize).unwrap_or_default();
            outcome = self.process(channel, bytes, sink);
        }
        self.pieces.drain(..done);
        self.stash = stash;
        if self.pieces.is_empty() {
            self.stash.clear();
        }
        outcome
    }

    /// Drops the bytes of pieces that are gone.
    fn compact(&mut self) {
        self.pieces.sort_unstable_by_key(|piece| piece.at);
        let mut end = 0;
        for piece in &mut self.pieces {
            let from = piece.at as usize;
            self.stash.copy_within(from..from + piece.length as usize, end);
            piece.at = end as u32;
            end += piece.length as usize;
        }
        let next = self.next;
        self.pieces.sort_unstable_by_key(|piece| piece.start.wrapping_sub(next));
        self.stash.truncate(end);
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.pieces.shrink_to_fit();
        self.stash.shrink_to_fit();
        self.partial.shrink_to_fit();
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) fn heap_cap(window: usize, max_message: usize) -> usize {
        let pieces = (window / WINDOW_PER_PIECE + PIECES_STEP) * size_of::<Piece>();
        window + window / 8 + pieces + max_message + MAX_HEADER
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>() + self.stash.capacity() + self.partial.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::{varint, varint_len};
    use super::*;
    use crate::{Random, SeededRandom};

    const CHANNEL: ChannelId = ChannelId(1);

    fn handle(stream: &mut StreamReceiver, at: u64, bytes: &[u8], got: &mut Vec<Vec<u8>>) -> Result<Taken, Violation> {
        stream.handle(CHANNEL, at as u32 & 0xff_ffff, bytes, &mut |_, message| got.push(message.to_vec()))
    }

    fn row(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut row = Vec::new();
        for message in messages {
            row.extend_from_slice(&varint(message.len() as u32)[..varint_len(message.len() as u32)]);
            row.extend_from_slice(message);
        }
        row
    }

    #[test]
    fn messages_come_out_in_order_however_the_stream_is_cut_repeated_and_shuffled() {
        for seed in 0..1500 {
            let mut random = SeededRandom::new(seed);
            let first = [0, (1 << 24) - 3000, (1 << 32) - 3000, u64::MAX - 3000][seed as usize % 4];
            let messages: Vec<Vec<u8>> = (0..random.below(40))
                .map(|index| {
                    let most = if random.chance(0.1) { 6000 } else { 200 };
                    let length = random.below(most) as usize;
                    (0..length).map(|at| (at as u64 * 7 + index) as u8).collect()
                })
                .collect();
            let row = row(&messages);
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < row.len() {
                let length = (1 + random.below(1200) as usize).min(row.len() - at);
                // Some overlap what comes before, some come twice.
                let back = (random.below(30) as usize).min(at);
                pieces.push((at - back, length + back));
                if random.chance(0.2) {
                    pieces.push((at, length));
                }
                at += length;
            }
            for index in 0..pieces.len() {
                let other = (index + random.below(12) as usize).min(pieces.len() - 1);
                pieces.swap(index, other);
            }
            let mut stream = StreamReceiver::new(first, 64 << 10, 6000);
            let mut got = Vec::new();
            for (at, length) in pieces {
                let start = first.wrapping_add(at as u64);
                let taken = handle(&mut stream, start, &row[at..at + length], &mut got);
                assert_eq!(taken, Ok(Taken::Yes), "seed {seed}");
                assert!(messages.starts_with(&got), "seed {seed}");
            }
            assert_eq!(got.len(), messages.len(), "seed {seed}");
            assert_eq!((stream.stashed, stream.pieces.len(), stream.stash.len()), (0, 0, 0), "seed {seed}");
        }
    }

    #[test]
    fn data_beyond_the_window_is_a_violation() {
        let mut stream = StreamReceiver::new(0, 64 << 10, 1000);
        let mut got = Vec::new();
        assert_eq!(handle(&mut stream, (64 << 10) - 1, &[1], &mut got), Ok(Taken::Yes));
        assert_eq!(handle(&mut stream, 64 << 10, &[1], &mut got), Err(Violation::WindowExceeded));
    }

    #[test]
    fn the_window_moves_with_what_was_processed_and_is_told_in_steps() {
        let mut stream = StreamReceiver::new(0, 64 << 10, 1000);
        let mut got = Vec::new();
        let zeros = [0; 1024];
        for packet in 0..15 {
            handle(&mut stream, packet * 1024, &zeros, &mut got).unwrap();
            assert!(!stream.wants_window());
        }
        handle(&mut stream, 15 * 1024, &zeros, &mut got).unwrap();
        assert!(stream.wants_window());
        assert_eq!(stream.take_window(), (64 << 10) + (16 << 10));
        assert!(!stream.wants_window());
        stream.on_window_lost();
        assert!(stream.wants_window());
    }

    #[test]
    fn a_message_over_the_limit_is_a_violation_before_any_of_it_is_kept() {
        let mut stream = StreamReceiver::new(0, 64 << 10, 1000);
        let mut got = Vec::new();
        let length = varint(1001);
        assert_eq!(handle(&mut stream, 0, &length[..2], &mut got), Err(Violation::MessageTooLarge));
        assert_eq!(stream.heap(), 0);
        let mut stream = StreamReceiver::new(0, 64 << 10, 1000);
        assert_eq!(handle(&mut stream, 0, &[0xff], &mut got), Err(Violation::MalformedStream));
    }

    #[test]
    fn what_is_over_the_cap_is_refused_and_what_fits_is_kept() {
        let mut stream = StreamReceiver::new(0, 64 << 10, 64 << 10);
        let mut got = Vec::new();
        let mut refused = 0;
        for hole in (1..60_000).step_by(2) {
            refused += usize::from(handle(&mut stream, hole, &[0], &mut got) == Ok(Taken::No));
        }
        assert_eq!(stream.pieces.len(), 256);
        assert_eq!(refused, 30_000 - 256);
        // Filling the holes lets the rest in again.
        for at in 0..60_000 {
            assert_eq!(handle(&mut stream, at, &[0], &mut got), Ok(Taken::Yes));
        }
        assert_eq!(got.len(), 60_000);
    }
}
