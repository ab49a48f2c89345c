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
//! truncated so that at least twice the distance to the newest acknowledged one remains; the receiver takes the 64-bit
//! number nearest to the one after its newest. A sender leaves out one number at random per 64 to 512: whoever
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
//! **Probe** says nothing and asks for an ack. **Close** has code u32, text length u8 and UTF-8 text: the sender has
//! ended the connection, and why. **Close-ack** answers every close.

use super::codec::{Reader, Writer, varint_len};
use super::number::expand;
use super::{ChannelConfig, ChannelId, ChannelKind, ChannelTable, Violation};
use crate::DisconnectReason;

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

const MESSAGE: u8 = 0;
const STREAM: u8 = 2;
const FRAGMENT: u8 = 4;
const WINDOW: u8 = 6;
const CONTROL: u8 = 7;
const LONG_CHANNEL: u8 = 31;

const PROBE: u8 = 0;
const CLOSE: u8 = 1;
const CLOSE_ACK: u8 = 2;

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
    fn parse(reader: &mut Reader<'a>, next: u64) -> Result<Self, Violation> {
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

/// One frame whose channel exists and fits its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message { channel: ChannelId, id: Option<u16>, bytes: &'a [u8] },
    Stream { channel: ChannelId, offset: u32, bytes: &'a [u8] },
    Fragment { channel: ChannelId, fragment: Fragment<'a> },
    Window { channel: ChannelId, limit: u32 },
    Probe,
    Close(DisconnectReason),
    CloseAck,
}

/// One piece of a message; `index` is below `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) id: u16,
    pub(super) index: u32,
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
}

/// Whether messages of this channel carry an id.
pub(super) fn has_id(channel: &ChannelConfig) -> bool {
    match channel.kind {
        ChannelKind::ReliableUnordered => true,
        ChannelKind::UnreliableSequenced => channel.fragmented,
        ChannelKind::Unreliable | ChannelKind::ReliableOrdered => false,
    }
}

/// Pieces of a message of `length` bytes, at least 1.
pub(super) const fn fragments(length: usize) -> usize {
    if length == 0 { 1 } else { length.div_ceil(FRAGMENT_BYTES) }
}

impl<'a> Frame<'a> {
    /// Reads one frame. `max_message` gives the limit of a channel in this direction.
    pub(super) fn parse(
        reader: &mut Reader<'a>,
        channels: &ChannelTable,
        max_message: impl Fn(&ChannelConfig) -> usize,
    ) -> Result<Self, Violation> {
        let head = reader.u8()?;
        let (kind, low) = (head >> 5, head & LONG_CHANNEL);
        if kind == CONTROL {
            return Self::parse_control(reader, low);
        }
        let channel = ChannelId(if low == LONG_CHANNEL { reader.u8()? } else { low });
        let config = channels.get(channel).ok_or(Violation::UnknownChannel)?;
        let ordered = config.kind == ChannelKind::ReliableOrdered;
        let to_end = kind & 1 != 0;
        match kind & !1 {
            MESSAGE if !ordered => {
                let id = if has_id(config) { Some(reader.uint(2)? as u16) } else { None };
                let bytes = payload(reader, to_end)?;
                if bytes.len() > max_message(config) {
                    return Err(Violation::MessageTooLarge);
                }
                Ok(Self::Message { channel, id, bytes })
            }
            STREAM if ordered => {
                let offset = reader.uint(3)? as u32;
                Ok(Self::Stream { channel, offset, bytes: payload(reader, to_end)? })
            }
            FRAGMENT if !ordered && config.fragmented => {
                let id = reader.uint(2)? as u16;
                let (index, count) = (reader.varint()?, reader.varint()?);
                if count == 0 || count as usize > fragments(max_message(config)) {
                    return Err(Violation::FragmentCount);
                }
                if index >= count {
                    return Err(Violation::FragmentIndex);
                }
                let bytes = payload(reader, to_end)?;
                let fits = if index + 1 < count {
                    bytes.len() == FRAGMENT_BYTES
                } else {
                    (1..=FRAGMENT_BYTES).contains(&bytes.len())
                        && (count as usize - 1) * FRAGMENT_BYTES + bytes.len() <= max_message(config)
                };
                if !fits {
                    return Err(Violation::FragmentSize);
                }
                Ok(Self::Fragment { channel, fragment: Fragment { id, index, count, bytes } })
            }
            WINDOW if ordered && !to_end => Ok(Self::Window { channel, limit: reader.uint(3)? as u32 }),
            _ => Err(Violation::WrongChannelKind),
        }
    }

    fn parse_control(reader: &mut Reader<'a>, what: u8) -> Result<Self, Violation> {
        match what {
            PROBE => Ok(Self::Probe),
            CLOSE => {
                let (reason, rest) = DisconnectReason::decode(reader.rest()).ok_or(Violation::MalformedClose)?;
                *reader = Reader::new(rest);
                Ok(Self::Close(reason))
            }
            CLOSE_ACK => Ok(Self::CloseAck),
            _ => Err(Violation::UnknownFrame),
        }
    }
}

fn payload<'a>(reader: &mut Reader<'a>, to_end: bool) -> Result<&'a [u8], Violation> {
    if to_end {
        return Ok(reader.rest());
    }
    let length = reader.varint()?;
    reader.bytes(length as usize)
}

/// How much of the packet number must travel so that the peer can tell which it is.
pub(super) fn number_len(number: u64, acked: u64) -> usize {
    // Twice the distance, rounded up to whole bytes; RFC 9000, appendix A.2.
    match number.wrapping_sub(acked) {
        0..0x40 => 1,
        0x40..0x4000 => 2,
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

/// What a frame with bytes says before them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carrier {
    Message { id: Option<u16> },
    Stream { offset: u64 },
    Fragment { id: u16, index: u32, count: u32 },
}

impl Carrier {
    /// Bytes of the frame's head, without the length of what it carries.
    pub(super) fn head_len(self, channel: ChannelId) -> usize {
        let body = match self {
            Self::Message { id } => 2 * usize::from(id.is_some()),
            Self::Stream { .. } => 3,
            Self::Fragment { index, count, .. } => 2 + varint_len(index) + varint_len(count),
        };
        channel_head_len(channel) + body
    }

    /// Writes the frame's head and returns where its `length` bytes belong. It must have been checked that they fit
    /// beside the head; the length is left out where the frame fills the packet.
    pub(super) fn write<'w>(self, writer: &'w mut Writer<'_>, channel: ChannelId, length: usize) -> &'w mut [u8] {
        let filled = self.head_len(channel) + varint_len(length as u32) + length > writer.room();
        let (kind, to_end) = match self {
            Self::Message { .. } => (MESSAGE, filled),
            Self::Stream { .. } => (STREAM, filled),
            Self::Fragment { .. } => (FRAGMENT, filled),
        };
        write_channel_head(writer, kind | u8::from(to_end), channel);
        match self {
            Self::Message { id: None } => {}
            Self::Message { id: Some(id) } => writer.uint(u64::from(id), 2),
            Self::Stream { offset } => writer.uint(offset, 3),
            Self::Fragment { id, index, count } => {
                writer.uint(u64::from(id), 2);
                writer.varint(index);
                writer.varint(count);
            }
        }
        if to_end {
            writer.end_after(length);
        } else {
            writer.varint(length as u32);
        }
        writer.take(length)
    }
}

/// Bytes of a window frame.
pub(super) const fn window_len(channel: ChannelId) -> usize {
    channel_head_len(channel) + 3
}

pub(super) fn write_window(writer: &mut Writer<'_>, channel: ChannelId, limit: u64) {
    write_channel_head(writer, WINDOW, channel);
    writer.uint(limit, 3);
}

pub(super) fn write_probe(writer: &mut Writer<'_>) {
    writer.u8(CONTROL << 5 | PROBE);
}

pub(super) fn write_close_ack(writer: &mut Writer<'_>) {
    writer.u8(CONTROL << 5 | CLOSE_ACK);
}

/// `reason` is encoded already.
pub(super) fn write_close(writer: &mut Writer<'_>, reason: &[u8]) {
    writer.u8(CONTROL << 5 | CLOSE);
    writer.bytes(reason);
}

const fn channel_head_len(channel: ChannelId) -> usize {
    if channel.0 < LONG_CHANNEL { 1 } else { 2 }
}

fn write_channel_head(writer: &mut Writer<'_>, kind: u8, channel: ChannelId) {
    writer.u8(kind << 5 | channel.0.min(LONG_CHANNEL));
    if channel.0 >= LONG_CHANNEL {
        writer.u8(channel.0);
    }
}
