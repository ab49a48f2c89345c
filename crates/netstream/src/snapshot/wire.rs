//! What a server's packet of a tick looks like.
//!
//! ```text
//! flags    u8            bit 0: a report on the client's packets follows; the others are 0
//! tick     u32           the server's tick, which the snapshot shows
//! fraction u8            how much of the tick was over when the packet left, in 256ths
//! newest   u32           if bit 0: the tick of the newest packet that has arrived from the client
//! age      i32           if bit 0: how long after that tick's turn it did, in 256ths of a tick
//! late     u8            if bit 0: how many commands have missed their tick so far, modulo 256
//! sections, of which each type has at most one, in the order of their numbers:
//!   type     7-bit groups  0: bytes without a type; else the type's number + 1
//!   back     7-bit groups  0: what follows is whole; else how many ticks before lies the snapshot it is the delta from
//!   length   7-bit groups  of the snapshot
//!   size     7-bit groups  of the delta; only if there is one
//!   bytes
//! ```
//!
//! All numbers are little-endian. A packet without sections only tells the time.

use std::ops::Range;

use netstream_driver::transport::copy::append;

use crate::session::wire::{Reader, write_varint};
use crate::tick::Tick;
use crate::time::Report;

/// The largest snapshot of one type, in bytes, whatever the channel would take: a small delta must not make the client
/// reserve any amount of memory.
pub(crate) const MAX_SNAPSHOT: usize = 1 << 20;
const REPORT: u8 = 1;

pub(crate) fn write_header(out: &mut Vec<u8>, report: &Report) {
    out.push(if report.newest.is_some() { REPORT } else { 0 });
    out.extend_from_slice(&report.tick.number().to_le_bytes());
    out.push(report.fraction);
    if let Some((tick, age)) = report.newest {
        out.extend_from_slice(&tick.number().to_le_bytes());
        out.extend_from_slice(&age.to_le_bytes());
        out.push(report.late);
    }
}

/// The most bytes of a header.
pub(crate) const MAX_HEADER: usize = 15;

pub(crate) fn read_header(reader: &mut Reader<'_>) -> Option<Report> {
    let flags = reader.u8()?;
    if flags & !REPORT != 0 {
        return None;
    }
    let (tick, fraction) = (Tick::new(reader.u32()?), reader.u8()?);
    let (newest, late) = match flags {
        0 => (None, 0),
        _ => (Some((Tick::new(reader.u32()?), reader.u32()? as i32)), reader.u8()?),
    };
    Some(Report { tick, fraction, newest, late })
}

/// Appends a snapshot as a whole.
pub(crate) fn write_whole(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    write_varint(out, kind);
    write_varint(out, 0);
    write_varint(out, bytes.len() as u32);
    append(out, bytes);
}

/// Appends a snapshot of `length` bytes as its delta from the one that lies `back` ticks before.
pub(crate) fn write_delta(out: &mut Vec<u8>, kind: u32, back: u32, length: usize, delta: &[u8]) {
    write_varint(out, kind);
    write_varint(out, back);
    write_varint(out, length as u32);
    write_varint(out, delta.len() as u32);
    append(out, delta);
}

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    /// 0, or the type's number + 1.
    pub(crate) kind: u32,
    /// The delta is from the snapshot that lies so many ticks before.
    pub(crate) back: Option<u32>,
    /// Of the snapshot, in bytes.
    pub(crate) length: usize,
    /// Where its bytes, or its delta, lie in what was read.
    pub(crate) bytes: Range<usize>,
}

/// Reads the sections of a packet; `types` is how many types there are.
pub(crate) fn read_sections(bytes: &[u8], types: usize, sections: &mut Vec<Section>) -> Option<()> {
    sections.clear();
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        let kind = reader.varint()?;
        if kind as usize > types || sections.last().is_some_and(|last| kind <= last.kind) {
            return None;
        }
        let back = reader.varint()?;
        let length = reader.varint()? as usize;
        // Bytes without a type have no baselines.
        if length > MAX_SNAPSHOT || (kind == 0 && back > 0) {
            return None;
        }
        let size = if back > 0 { reader.varint()? as usize } else { length };
        let start = bytes.len() - reader.0.len();
        reader.bytes(size)?;
        sections.push(Section { kind, back: (back > 0).then_some(back), length, bytes: start..start + size });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Vec<u8> {
        let mut packet = Vec::new();
        let newest = Some((Tick::new(0x0102_0306), -512));
        write_header(&mut packet, &Report { tick: Tick::new(0x0102_0304), fraction: 128, newest, late: 9 });
        write_whole(&mut packet, 0, b"raw");
        write_delta(&mut packet, 1, 3, 200, &[1, 1, 7]);
        write_whole(&mut packet, 2, b"");
        packet
    }

    #[test]
    fn the_bytes_of_a_packet_are_what_the_page_says() {
        let golden = [
            &[1, 4, 3, 2, 1, 128, 6, 3, 2, 1, 0, 0xfe, 0xff, 0xff, 9][..],
            &[0, 0, 3, b'r', b'a', b'w'],
            &[1, 3, 0xc8, 1, 3, 1, 1, 7],
            &[2, 0, 0],
        ]
        .concat();
        assert_eq!(packet(), golden);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds_or_refused(
            bytes in proptest::collection::vec(0u8..12, 0..60),
        ) {
            let mut sections = Vec::new();
            if read_sections(&bytes, 3, &mut sections).is_some() {
                for section in &sections {
                    proptest::prop_assert!(section.kind <= 3 && section.length <= MAX_SNAPSHOT);
                    proptest::prop_assert!(bytes.get(section.bytes.clone()).is_some());
                }
            }
        }
    }

    #[test]
    fn a_packet_is_read_as_it_was_written_and_only_whole() {
        let packet = packet();
        let mut reader = Reader(&packet);
        let report = read_header(&mut reader).unwrap();
        assert_eq!(report.newest, Some((Tick::new(0x0102_0306), -512)));
        let mut sections = Vec::new();
        read_sections(reader.0, 2, &mut sections).unwrap();
        let section = |kind, back, length, bytes| Section { kind, back, length, bytes };
        assert_eq!(
            sections,
            [section(0, None, 3, 3..6), section(1, Some(3), 200, 11..14), section(2, None, 0, 17..17)]
        );
        let body = reader.0;
        for length in (0..body.len()).filter(|length| ![0, 6, 14].contains(length)) {
            assert_eq!(read_sections(&body[..length], 2, &mut sections), None, "cut to {length}");
        }
        assert_eq!(read_sections(body, 1, &mut sections), None, "a type that does not exist");
        assert_eq!(read_sections(&[body, &[2, 0, 0]].concat(), 2, &mut sections), None, "one type twice");
        assert_eq!(read_sections(&[0, 1, 3, 0], 2, &mut sections), None, "bytes without a type have no baseline");
        for length in 0..15 {
            assert_eq!(read_header(&mut Reader(&packet[..length])), None);
        }
    }
}
