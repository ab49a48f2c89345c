//! The receiving end of a reliable ordered channel.

use super::codec::{Reader, varint_len_from};
use super::number::{expand, is_before, later};
use super::wire::INITIAL_WINDOW;
use super::{ChannelId, Violation};

/// Per this many bytes of window, one piece may wait for others before it. One more is not acknowledged.
const WINDOW_PER_PIECE: usize = 256;

/// Byte buffers of up to 16 times this size grow by no more at once: a packet never makes more memory grow than a small
/// multiple of what arrived.
const STEP: usize = 4096;

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
            return Ok(Taken::Yes);
        }
        if is_before(self.next, start) {
            return Ok(self.stash(start, bytes));
        }
        let known = self.next.wrapping_sub(start) as usize;
        self.process(channel, bytes.get(known..).unwrap_or_default(), sink)?;
        self.process_stash(channel, sink)?;
        let limit = self.next.wrapping_add(self.window as u64);
        self.advertise |= limit.wrapping_sub(self.limit) as i64 >= (self.window / 4) as i64;
        Ok(Taken::Yes)
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
        append(&mut self.partial, kept);
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
        let room = self.window.max(INITIAL_WINDOW);
        if self.stashed + bytes.len() > room {
            return None;
        }
        if self.stash.len() > 2 * self.stashed + STEP {
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
                self.pieces.insert(index, Piece { start, length: bytes.len() as u32, at: at as u32 });
                1
            }
        };
        append(&mut self.stash, bytes);
        self.stashed += bytes.len();
        Some(added)
    }

    /// Processes what has waited and need not wait any more.
    fn process_stash(
        &mut self,
        channel: ChannelId,
        sink: &mut dyn FnMut(ChannelId, &[u8]),
    ) -> Result<(), Violation> {
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

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.pieces.capacity() * size_of::<Piece>() + self.stash.capacity() + self.partial.capacity()
    }
}

/// Appends; the buffer's memory grows by what arrived, then by doubling, then by [`STEP`]s, then by halves.
pub(super) fn append(buffer: &mut Vec<u8>, bytes: &[u8]) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        let capacity = buffer.capacity();
        let step = if capacity < 16 * STEP { capacity.min(STEP) } else { capacity / 2 };
        buffer.reserve_exact(step.max(bytes.len()));
    }
    buffer.extend_from_slice(bytes);
}
