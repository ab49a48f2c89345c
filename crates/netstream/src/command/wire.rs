//! What a client's packet of a tick looks like.
//!
//! ```text
//! flags    u8           bit 0: acknowledgements follow; bit 1: a full snapshot is wanted; the others are 0
//! tick     u32          which tick the client is at
//! newest   u32          if bit 0: the newest snapshot that was processed
//! mask     u32          if bit 0: bit i: so was the one of tick newest - 1 - i
//! blocks, of which each type has at most one, in the order of their numbers:
//!   type   7-bit groups
//!   count  u8           commands in the block, 1 to 32
//!   back   7-bit groups ticks from that of its first command to the packet's
//!   length 7-bit groups of the first (newest) command
//!   bytes
//!   and for each older one:
//!     step 7-bit groups twice the ticks from this one to the one before it in the block; plus 1 if the bytes are equal
//!     length, size      7-bit groups each, only if not equal: of the command, and of the delta from the one before it
//!     delta
//! ```
//!
//! All numbers are little-endian.

use std::ops::Range;

use super::history::History;
use super::{MAX_COMMAND, MAX_REDUNDANCY};
use crate::session::wire::{Reader, read_id, write_id, write_varint};
use crate::snapshot::delta;
use crate::tick::Tick;

/// The fixed part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) tick: Tick,
    pub(crate) acks: Option<(Tick, u32)>,
    pub(crate) wants_full: bool,
}

const ACKS: u8 = 1;
const WANTS_FULL: u8 = 2;

impl Header {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let flags = if self.acks.is_some() { ACKS } else { 0 } | if self.wants_full { WANTS_FULL } else { 0 };
        out.push(flags);
        out.extend_from_slice(&self.tick.number().to_le_bytes());
        if let Some((newest, mask)) = self.acks {
            out.extend_from_slice(&newest.number().to_le_bytes());
            out.extend_from_slice(&mask.to_le_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let flags = reader.u8()?;
        if flags & !(ACKS | WANTS_FULL) != 0 {
            return None;
        }
        let tick = Tick::new(reader.u32()?);
        let acks = match flags & ACKS {
            0 => None,
            _ => Some((Tick::new(reader.u32()?), reader.u32()?)),
        };
        Some(Self { tick, acks, wants_full: flags & WANTS_FULL != 0 })
    }
}

/// Appends the newest `count` commands of a type. `tick` is the packet's, not before any of them.
pub(crate) fn write_block(out: &mut Vec<u8>, number: u16, tick: Tick, history: &History, count: usize) {
    let mut newer: Option<(Tick, &[u8])> = None;
    let count = count.min(history.iter().count());
    for (at, bytes) in history.iter().take(count) {
        match newer {
            None => {
                write_id(out, number);
                // At most MAX_REDUNDANCY are kept.
                out.push(count as u8);
                write_varint(out, tick.since(at).unsigned_abs());
                write_varint(out, bytes.len() as u32);
                out.extend_from_slice(bytes);
            }
            Some((tick, base)) => {
                let same = bytes == base;
                write_varint(out, tick.since(at).unsigned_abs() << 1 | u32::from(same));
                if !same {
                    write_varint(out, bytes.len() as u32);
                    write_sized(out, |out| delta::encode(base, bytes, out));
                }
            }
        }
        newer = Some((at, bytes));
    }
}

/// Appends what `write` writes, behind its length.
fn write_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    write(out);
    let length = out.len() - start;
    write_varint(out, length as u32);
    out[start..].rotate_left(length);
}

/// The commands of one packet, decoded as far as bytes. Used again and again.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    /// Type, tick, and where its bytes are.
    commands: Vec<(u16, Tick, Range<usize>)>,
    scratch: Vec<u8>,
}

impl Arena {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, Tick, &[u8])> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.commands.iter().map(move |(number, tick, range)| (*number, *tick, bytes(range)))
    }

    /// Reads the blocks of a packet of `tick`; `types` is how many types there are. After `None` the content is of no
    /// use.
    pub(crate) fn read(&mut self, mut reader: Reader<'_>, tick: Tick, types: usize) -> Option<()> {
        self.bytes.clear();
        self.commands.clear();
        let mut last = None;
        while !reader.0.is_empty() {
            let (number, rest) = read_id(reader.0)?;
            reader.0 = rest;
            // In their order, so that none comes twice.
            if usize::from(number) >= types || last.is_some_and(|last| number <= last) {
                return None;
            }
            last = Some(number);
            self.read_block(&mut reader, number, tick)?;
        }
        Some(())
    }

    fn read_block(&mut self, reader: &mut Reader<'_>, number: u16, tick: Tick) -> Option<()> {
        let count = usize::from(reader.u8()?);
        if !(1..=MAX_REDUNDANCY).contains(&count) {
            return None;
        }
        let mut at = tick - reader.varint()?;
        let length = size(reader)?;
        let first = reader.bytes(length)?;
        self.push(number, at, |bytes| bytes.extend_from_slice(first));
        for _ in 1..count {
            let step = reader.varint()?;
            // Two commands of one tick there are not.
            let back = Some(step >> 1).filter(|&back| back > 0)?;
            at = at - back;
            let (.., base) = self.commands.last()?;
            let base = base.clone();
            if step & 1 == 1 {
                self.push(number, at, |bytes| bytes.extend_from_within(base));
                continue;
            }
            let length = size(reader)?;
            let encoded = reader.varint()?;
            let encoded = reader.bytes(encoded as usize)?;
            delta::decode(self.bytes.get(base)?, encoded, length, &mut self.scratch).ok()?;
            let scratch = std::mem::take(&mut self.scratch);
            self.push(number, at, |bytes| bytes.extend_from_slice(&scratch));
            self.scratch = scratch;
        }
        Some(())
    }

    fn push(&mut self, number: u16, tick: Tick, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.commands.push((number, tick, start..self.bytes.len()));
    }
}

fn size(reader: &mut Reader<'_>) -> Option<usize> {
    let size = reader.varint()? as usize;
    (size <= MAX_COMMAND).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(commands: &[(u32, &[u8])]) -> History {
        let mut history = History::default();
        for &(tick, bytes) in commands {
            history.push(Tick::new(tick), bytes.to_vec());
        }
        history
    }

    fn commands(packet: &[u8], types: usize) -> Option<Vec<(u16, u32, Vec<u8>)>> {
        let mut reader = Reader(packet);
        let header = Header::read(&mut reader)?;
        let mut arena = Arena::default();
        arena.read(reader, header.tick, types)?;
        Some(arena.iter().map(|(number, tick, bytes)| (number, tick.number(), bytes.to_vec())).collect())
    }

    fn packet() -> Vec<u8> {
        let mut packet = Vec::new();
        let tick = Tick::new(0x0102_0304);
        Header { tick, acks: Some((Tick::new(7), 0x8000_0001)), wants_full: true }.write(&mut packet);
        let at = tick.number();
        let moves = history(&[(at - 5, b"left+"), (at - 2, b"left"), (at - 1, b"left"), (at, b"lift")]);
        write_block(&mut packet, 0, tick, &moves, 4);
        write_block(&mut packet, 3, tick, &history(&[(at - 1, b"")]), 4);
        packet
    }

    #[test]
    fn the_bytes_of_a_packet_are_what_the_page_says() {
        let golden = [
            &[3, 4, 3, 2, 1, 7, 0, 0, 0, 1, 0, 0, 0x80][..],
            &[0, 4, 0, 4, b'l', b'i', b'f', b't'],
            &[2, 4, 3, 1, 1, b'i' ^ b'e'],
            &[3],
            &[6, 5, 3, 4, 1, b'+'],
            &[3, 1, 1, 0],
        ]
        .concat();
        assert_eq!(packet(), golden);
    }

    #[test]
    fn commands_survive_the_wire_newest_first() {
        let at = 0x0102_0304;
        let found = commands(&packet(), 4).unwrap();
        let expected: [(u16, u32, &[u8]); 5] =
            [(0, at, b"lift"), (0, at - 1, b"left"), (0, at - 2, b"left"), (0, at - 5, b"left+"), (3, at - 1, b"")];
        assert_eq!(found, expected.map(|(number, tick, bytes)| (number, tick, bytes.to_vec())));
    }

    #[test]
    fn a_packet_is_taken_whole_or_not_at_all() {
        let packet = packet();
        assert_eq!(commands(&packet, 3), None, "a type that does not exist");
        // Where a block ends, a shorter packet is complete too.
        for length in (0..packet.len()).filter(|&length| length != 13 && length != packet.len() - 4) {
            assert_eq!(commands(&packet[..length], 4), None, "cut to {length}");
        }
        for (place, byte) in [(0, 4), (14, 0), (14, 33)] {
            let mut bad = packet.clone();
            bad[place] = byte;
            assert_eq!(commands(&bad, 4), None, "{byte} at {place}");
        }
        let block = &packet[packet.len() - 4..];
        assert_eq!(commands(&[&packet, block].concat(), 4), None, "one type twice");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds_or_refused(
            mut packet in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            splice in 0usize..60,
            whole in proptest::prelude::any::<bool>(),
        ) {
            if whole {
                // Mostly right, and something else in the middle.
                let mut right = self::packet();
                let at = splice.min(right.len());
                right.splice(at..at, packet.drain(..packet.len().min(3)));
                packet = right;
            }
            for (number, _, bytes) in commands(&packet, 4).unwrap_or_default() {
                proptest::prop_assert!(number < 4 && bytes.len() <= MAX_COMMAND);
            }
        }
    }

    #[test]
    fn a_command_over_the_limit_is_refused() {
        let mut packet = Vec::new();
        let tick = Tick::new(9);
        Header { tick, acks: None, wants_full: false }.write(&mut packet);
        let fits = packet.len();
        write_block(&mut packet, 0, tick, &history(&[(9, &[1; MAX_COMMAND])]), 1);
        assert!(commands(&packet, 1).is_some());
        packet.truncate(fits);
        write_block(&mut packet, 0, tick, &history(&[(9, &[1; MAX_COMMAND + 1])]), 1);
        assert_eq!(commands(&packet, 1), None);
    }
}
