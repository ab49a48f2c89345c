//! The bytes of a packet.
//!
//! A packet is what is sealed into one datagram. Numbers are little-endian. A *varint* holds 0 to 2^28 − 1 in 1 to 4
//! bytes: the leading one bits of the first byte (0 to 3 of them, then a zero) say how many bytes follow, its remaining
//! bits are the low bits of the value, and the bytes that follow are the high bits, little-endian. So `7f` is 127,
//! `80 02` is 128, `c0 00 02` is 16 384.
//!
//! ```text
//! packet  = flags u8, number (1 to 4 bytes), [ack], frame*
//! flags   = bits 0-1: bytes of the packet number - 1
//!           bit 2:    an ack follows
//!           bits 3-7: zero
//! number  = the low bytes of the 64-bit packet number
//! ack     = largest u24, delay varint, more u8 (0 to 31), count varint, (gap varint, count varint) * more
//! frame   = head u8, [channel u8], body
//! head    = bits 5-7: kind, bits 0-4: channel 0 to 30, or 31: the channel follows as a byte of its own
//! ```
//!
//! **Numbers.** Each end numbers its packets from 0 (a packet is never sent again; what it carried may be). A number is
//! truncated to 2 bytes or more, so that at least twice the distance to the newest acknowledged one remains; the
//! receiver takes the 64-bit number nearest to the one after its newest. A sender leaves out one number at random per 64 to 512: whoever
//! acknowledges a number that was left out, or is still to come, is lying.
//!
//! **Ack.** `largest` is the low 24 bits of the newest number received, `delay` the time since then in units of 8 µs.
//! The first count is the number of packets received without gap up to and including `largest`, minus 1. Each pair
//! goes further down: `gap` is the number of packets that are missing, minus 1; `count` how many were received below
//! them, minus 1. Packets that hold only an ack are not acknowledged for their own sake.
//!
//! | kind | frame | body |
//! |---|---|---|
//! | 0, 1 | message | [id u16], [length varint], bytes |
//! | 2, 3 | stream | offset u24, [length varint], bytes |
//! | 4, 5 | fragment | id u16, index varint, count varint, [length varint], bytes |
//! | 6 | window | limit u24 |
//! | 7 | control | instead of the channel: 0 probe, 1 close, 2 close-ack |
//!
//! The odd kinds 1, 3, 5 have no length: their bytes reach to the end of the packet.
//!
//! **Message**: one whole message of a channel that is not reliable-ordered. It has an id where the receiver needs one:
//! on reliable unordered and on fragmented sequenced channels.
//!
//! **Stream**: a piece of a reliable ordered channel. The channel is one stream of bytes: per message its length as a
//! varint, then its bytes. `offset` is the low 24 bits of where in that stream the piece starts; pieces may be cut
//! anywhere, overlap, and come again.
//!
//! **Fragment**: piece `index` of the `count` pieces of message `id`, on any fragmented channel that is not
//! reliable-ordered. Every piece but the last has [`FRAGMENT_BYTES`] bytes, the last 1 to that. Ids count the messages
//! of a channel from 0; only messages that carry an id on the wire take one.
//!
//! **Window**: the low 24 bits of the stream offset up to which (excluding) the sender of a reliable ordered channel
//! may send. Before the first one of a channel it is [`INITIAL_WINDOW`]. It never shrinks.
//!
//! **Probe** says nothing and asks for an ack, at once. **Close** has code u32, text length u8 and UTF-8 text: the sender has
//! ended the connection, and why. **Close-ack** answers every close.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::Violation;
use super::codec::{Reader, Writer};
use super::number::expand;

/// Bytes of every fragment but the last: with its head, a packet's head and a short ack it fills a packet.
pub(super) const FRAGMENT_BYTES: usize = 1120;

/// Stream bytes that a sender may assume room for before it was told, and reliable unordered bytes that it may have
/// under way. Every receiver has at least this much.
pub(super) const INITIAL_WINDOW: usize = 64 << 10;

/// Reliable unordered messages that may be under way.
pub(super) const UNORDERED_MESSAGES: u64 = 256;

/// The most bytes between the oldest unacknowledged byte of a stream and the newest: half of what 24 bits can tell
/// apart.
pub(super) const MAX_WINDOW: usize = 4 << 20;

/// Ranges of one ack, the first included.
pub(super) const MAX_ACK_RANGES: usize = 32;

/// Bytes of an ack with one range.
pub(super) const MIN_ACK: usize = 3 + 4 + 1 + 4;

/// The unit of the ack delay, in nanoseconds.
pub(super) const DELAY_UNIT: u64 = 8_000;

const NUMBER_LENGTH: u8 = 0b11;
pub(super) const HAS_ACK: u8 = 0b100;

/// What stands before the frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    pub(super) number: u64,
    pub(super) ack: Option<Ack<'a>>,
}

/// An ack whose form has been checked. Its numbers have not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack<'a> {
    /// The newest number that it acknowledges.
    pub(super) largest: u64,
    /// In units of [`DELAY_UNIT`].
    pub(super) delay: u32,
    ranges: Reader<'a>,
}

impl<'a> Head<'a> {
    /// Reads the head of a packet. `expected` is the number after the newest received, `next` the number that we will
    /// give our next packet.
    pub(super) fn parse(reader: &mut Reader<'a>, expected: u64, next: u64) -> Result<Self, Violation> {
        let flags = reader.u8()?;
        if flags & !(NUMBER_LENGTH | HAS_ACK) != 0 {
            return Err(Violation::ReservedBits);
        }
        let length = usize::from(flags & NUMBER_LENGTH) + 1;
        let number = expand(reader.uint(length)?, 8 * length as u32, expected);
        let ack = if flags & HAS_ACK != 0 { Some(Ack::parse(reader, next)?) } else { None };
        Ok(Self { number, ack })
    }
}

impl<'a> Ack<'a> {
    pub(super) fn parse(reader: &mut Reader<'a>, next: u64) -> Result<Self, Violation> {
        let largest = expand(reader.uint(3)?, 24, next);
        let delay = reader.varint()?;
        let more = usize::from(reader.u8()?);
        if more >= MAX_ACK_RANGES {
            return Err(Violation::TooManyAckRanges);
        }
        let start = *reader;
        for _ in 0..2 * more + 1 {
            reader.varint()?;
        }
        let ranges = Reader::new(start.before(reader));
        Ok(Self { largest, delay, ranges })
    }

    /// The acknowledged numbers as (lowest, highest), newest first.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let mut reader = self.ranges;
        let mut highest = self.largest;
        std::iter::from_fn(move || {
            let lowest = highest.wrapping_sub(u64::from(reader.varint().ok()?));
            let range = (lowest, highest);
            // Where no further pair follows, the next call finds nothing to read.
            let gap = reader.varint().unwrap_or(0);
            highest = lowest.wrapping_sub(u64::from(gap) + 2);
            Some(range)
        })
    }
}

/// How much of the packet number must travel so that the peer can tell which it is.
pub(super) fn number_len(number: u64, acked: u64) -> usize {
    // Twice the distance, rounded up to whole bytes; RFC 9000, appendix A.2. One byte would not do even for small
    // distances: a packet may come a whole replay window of 1024 late, and must not be taken for another one then.
    match number.wrapping_sub(acked) {
        0..0x4000 => 2,
        0x4000..0x40_0000 => 3,
        _ => 4,
    }
}

/// Writes flags and packet number, without the mark that an ack follows.
pub(super) fn write_head(writer: &mut Writer<'_>, number: u64, acked: u64) {
    let length = number_len(number, acked);
    writer.u8(length as u8 - 1);
    writer.uint(number, length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_number_is_found_again_as_long_as_the_peer_is_not_too_far_behind() {
        for number in [0, 5, 1 << 16, (1 << 24) + 3, 1 << 40, u64::MAX] {
            for behind in [0u64, 1, 63, 64, 8_000, 16_383, 16_384, 1 << 20, 1 << 22] {
                let mut buf = [0; 5];
                let mut writer = Writer::new(&mut buf);
                write_head(&mut writer, number, number.wrapping_sub(behind));
                let length = writer.len();
                // The peer may have seen anything from what it acknowledged to the number before.
                for expected in [number.wrapping_sub(behind), number.wrapping_sub(behind / 2), number] {
                    let head = Head::parse(&mut Reader::new(&buf[..length]), expected, 0).unwrap();
                    assert_eq!(head.number, number, "{behind} behind, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn an_ack_tells_its_ranges_and_nothing_else() {
        // flags, number, largest 1000, delay 2, two more ranges: 4 received; 2 missing; 1 received; 1 missing; 3 received.
        let bytes = [0x04, 9, 0xe8, 3, 0, 2, 2, 3, 1, 0, 0, 2, 0xe0];
        let mut reader = Reader::new(&bytes);
        let head = Head::parse(&mut reader, 9, 1001).unwrap();
        let ack = head.ack.unwrap();
        assert_eq!((head.number, ack.largest, ack.delay), (9, 1000, 2));
        assert_eq!(ack.ranges().collect::<Vec<_>>(), [(997, 1000), (994, 994), (990, 992)]);
        assert_eq!(reader.rest(), [0xe0]);
        for length in 0..bytes.len() - 1 {
            assert_eq!(Head::parse(&mut Reader::new(&bytes[..length]), 9, 1001).map(|_| ()), Err(Violation::Truncated));
        }
        let mut many = bytes;
        many[6] = 32;
        assert_eq!(Head::parse(&mut Reader::new(&many), 9, 1001).map(|_| ()), Err(Violation::TooManyAckRanges));
        many[0] = 0x0c;
        assert_eq!(Head::parse(&mut Reader::new(&many), 9, 1001).map(|_| ()), Err(Violation::ReservedBits));
    }
}
