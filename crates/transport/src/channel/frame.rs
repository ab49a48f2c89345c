//! Reading and writing frames; the [`wire`](super::wire) module says what they are.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::codec::{Reader, Writer, varint_len};
use super::wire::FRAGMENT_BYTES;
use super::{ChannelConfig, ChannelId, ChannelKind, ChannelTable, Violation};
use crate::DisconnectReason;
use crate::mutants;

const MESSAGE: u8 = 0;
const STREAM: u8 = 2;
const FRAGMENT: u8 = 4;
const WINDOW: u8 = 6;
const CONTROL: u8 = 7;
const LONG_CHANNEL: u8 = 31;

const PROBE: u8 = 0;
const CLOSE: u8 = 1;
const CLOSE_ACK: u8 = 2;

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
                mutants::reserve(23, count as usize * FRAGMENT_BYTES);
                if count == 0 || count as usize > fragments(max_message(config)) {
                    return Err(Violation::FragmentCount);
                }
                mutants::touch(21, index, count);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DisconnectCode, Random, SeededRandom};

    fn table() -> ChannelTable {
        let mut table = ChannelTable::default();
        let declare = |table: &mut ChannelTable, channel| {
            table.declare(channel).unwrap();
        };
        declare(&mut table, ChannelConfig::new(ChannelKind::ReliableUnordered).fragmented(5000));
        declare(&mut table, ChannelConfig::new(ChannelKind::UnreliableSequenced).fragmented(5000));
        while table.len() < 40 {
            declare(&mut table, ChannelConfig::new(ChannelKind::UnreliableSequenced));
        }
        table
    }

    fn parse<'p>(table: &ChannelTable, bytes: &'p [u8]) -> Result<(Frame<'p>, usize), Violation> {
        let mut reader = Reader::new(bytes);
        let frame = Frame::parse(&mut reader, table, |channel| channel.max_to_client)?;
        Ok((frame, reader.rest().len()))
    }

    #[test]
    fn every_frame_has_the_documented_bytes() {
        let table = table();
        let fragment = |index, count, bytes| Fragment { id: 0x0201, index, count, bytes };
        let channel = ChannelId;
        let full = [7; FRAGMENT_BYTES];
        let mut long = vec![0x82, 1, 2, 0x80, 0x02, 0x81, 0x02, 0xa0, 0x11];
        long.extend_from_slice(&full);
        let big = Frame::Fragment { channel: channel(2), fragment: fragment(128, 129, &full) };
        let mut expected: Vec<(Vec<u8>, Frame<'_>)> = vec![
            (vec![0x00, 2, b'h', b'i'], Frame::Message { channel: channel(0), id: None, bytes: b"hi" }),
            (vec![0x20, b'h', b'i'], Frame::Message { channel: channel(0), id: None, bytes: b"hi" }),
            (vec![0x03, 1, 2, 0], Frame::Message { channel: channel(3), id: Some(0x0201), bytes: b"" }),
            (vec![0x1f, 33, 1, 9], Frame::Message { channel: channel(33), id: None, bytes: &[9] }),
            (vec![0x41, 3, 2, 1, 1, 9], Frame::Stream { channel: channel(1), offset: 0x01_0203, bytes: &[9] }),
            (vec![0x61, 3, 2, 1, 9], Frame::Stream { channel: channel(1), offset: 0x01_0203, bytes: &[9] }),
            (vec![0xa4, 1, 2, 0, 1, 5], Frame::Fragment { channel: channel(4), fragment: fragment(0, 1, &[5]) }),
            (vec![0xc1, 3, 2, 1], Frame::Window { channel: channel(1), limit: 0x01_0203 }),
            (vec![0xe0], Frame::Probe),
            (vec![0xe1, 3, 0, 0, 0, 1, b'x'], {
                Frame::Close(DisconnectReason::remote(DisconnectCode::Kicked).with_text("x"))
            }),
            (vec![0xe2], Frame::CloseAck),
        ];
        expected.push((long, big));
        for (bytes, frame) in expected {
            assert_eq!(parse(&table, &bytes), Ok((frame, 0)), "{bytes:02x?}");
            for length in 0..bytes.len() {
                // A frame that reaches to the end is whatever is there; all others notice.
                if bytes[0] >> 5 & 1 == 0 {
                    assert!(parse(&table, &bytes[..length]).is_err(), "{bytes:02x?} cut at {length}");
                }
            }
        }
    }

    #[test]
    fn what_no_correct_peer_writes_is_a_violation() {
        let table = table();
        let long = |head: &[u8], length: usize| [head, &vec![0; length]].concat();
        for (bytes, violation) in [
            (vec![], Violation::Truncated),
            (vec![0x1f, 40, 0], Violation::UnknownChannel),
            (vec![0x01, 0], Violation::WrongChannelKind),
            (vec![0x40, 0, 0, 0, 0], Violation::WrongChannelKind),
            (vec![0x80, 0, 0, 0, 1, 1, 1], Violation::WrongChannelKind),
            (vec![0xc0, 0, 0, 0], Violation::WrongChannelKind),
            (vec![0xe3], Violation::UnknownFrame),
            (vec![0xe1, 0, 0, 0], Violation::MalformedClose),
            (vec![0x00, 0xff], Violation::ReservedBits),
            (long(&[0x20], 1151), Violation::MessageTooLarge),
            (vec![0xa2, 0, 0, 0, 0, 1], Violation::FragmentCount),
            (vec![0xa4, 0, 0, 0, 6, 1], Violation::FragmentCount),
            (vec![0xa2, 0, 0, 1, 1, 1], Violation::FragmentIndex),
            (vec![0xa2, 0, 0, 5, 2, 1], Violation::FragmentIndex),
            (long(&[0xa2, 0, 0, 0, 2], FRAGMENT_BYTES - 1), Violation::FragmentSize),
            (long(&[0xa2, 0, 0, 1, 2], FRAGMENT_BYTES + 1), Violation::FragmentSize),
            (long(&[0xa2, 0, 0, 1, 2], 0), Violation::FragmentSize),
            (long(&[0xa4, 0, 0, 4, 5], 521), Violation::FragmentSize),
        ] {
            assert_eq!(parse(&table, &bytes).map(|_| ()), Err(violation), "{:02x?}", &bytes[..bytes.len().min(8)]);
        }
    }

    #[test]
    fn frames_come_back_as_they_were_written_and_fill_the_packet_to_the_last_byte() {
        let table = table();
        for seed in 0..2000 {
            let mut random = SeededRandom::new(seed);
            let length = random.below(1121) as usize;
            let slack = random.below(6) as usize;
            let payload = vec![seed as u8; length];
            let (channel, carrier) = match seed % 4 {
                0 => (ChannelId(35), Carrier::Message { id: None }),
                1 => (ChannelId(3), Carrier::Message { id: Some(random.u64() as u16) }),
                2 => (ChannelId(1), Carrier::Stream { offset: random.u64() }),
                _ => (ChannelId(2), Carrier::Fragment { id: 1, index: 200, count: 201 }),
            };
            let mut buf = [0; 1175];
            let room = (carrier.head_len(channel) + length + slack).min(1175);
            let mut writer = Writer::new(&mut buf[..room]);
            carrier.write(&mut writer, channel, length).copy_from_slice(&payload);
            if slack >= 2 && length >= 128 || slack >= 1 && length < 128 {
                assert_eq!(writer.room(), slack - varint_len(length as u32), "a length was written");
            } else {
                assert_eq!(writer.room(), 0, "nothing may follow");
            }
            let written = writer.len();
            let parsed = parse(&table, &buf[..written]);
            match (carrier, parsed) {
                (Carrier::Message { id }, Ok((Frame::Message { channel: c, id: seen, bytes }, 0))) => {
                    assert_eq!((c, seen, bytes), (channel, id, &payload[..]));
                }
                (Carrier::Stream { offset }, Ok((Frame::Stream { channel: c, offset: seen, bytes }, 0))) => {
                    assert_eq!((c, u64::from(seen), bytes), (channel, offset & 0xff_ffff, &payload[..]));
                }
                (Carrier::Fragment { .. }, Ok((Frame::Fragment { fragment, .. }, 0))) => {
                    assert_eq!((fragment.index, fragment.bytes), (200, &payload[..]));
                }
                (Carrier::Fragment { .. }, Err(Violation::FragmentSize)) => assert_eq!(length, 0),
                (carrier, parsed) => panic!("{carrier:?} came back as {parsed:?}"),
            }
        }
    }
}
