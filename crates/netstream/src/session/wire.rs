//! Reading and writing of the few messages that the session itself exchanges. Writing trusts, reading does not: every
//! read returns `None` rather than look beyond the end.

use std::time::Duration;

/// Takes values off the front of a message.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn millis(&mut self) -> Option<Duration> {
        self.u32().map(|millis| Duration::from_millis(u64::from(millis)))
    }

    /// What [`write_varint`] wrote; only the shortest form is accepted.
    pub(crate) fn varint(&mut self) -> Option<u32> {
        let mut number = 0u64;
        for place in 0..5 {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return if place > 0 && byte == 0 { None } else { u32::try_from(number).ok() };
            }
        }
        None
    }

    /// Up to 255 bytes of UTF-8 behind a length byte; anything else is refused, and control characters too: names end up
    /// in logs.
    pub(crate) fn name(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        let name = std::str::from_utf8(self.bytes(usize::from(length))?).ok()?;
        (!name.contains(char::is_control)).then_some(name)
    }

    /// `value` if nothing is left.
    pub(crate) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

/// Appends a time as milliseconds u32; 49 days are the most.
pub(crate) fn write_millis(out: &mut Vec<u8>, time: Duration) {
    out.extend_from_slice(&u32::try_from(time.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
}

/// Appends a name behind a length byte, cut to 255 bytes at a character boundary.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &str) {
    let name = &name[..name.floor_char_boundary(255)];
    // The line above leaves at most 255 bytes.
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

/// Appends a number in 7-bit groups, lowest first: one byte below 128, five at most.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a number in 7-bit groups, lowest first: one byte below 128, three at most.
pub(crate) fn write_id(out: &mut Vec<u8>, mut id: u16) {
    while id >= 0x80 {
        out.push(id as u8 | 0x80);
        id >>= 7;
    }
    out.push(id as u8);
}

/// Reads what [`write_id`] wrote, and the rest. Only the shortest form is accepted.
pub(crate) fn read_id(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let mut id = 0u32;
    for (place, &byte) in bytes.iter().enumerate().take(3) {
        id |= u32::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            if place > 0 && byte == 0 {
                return None;
            }
            return Some((u16::try_from(id).ok()?, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_in_their_shortest_form_and_no_other() {
        for number in [0, 1, 127, 128, 300, 0x3fff, 0x4000, 1 << 28, u32::MAX] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, number);
            let mut reader = Reader(&bytes);
            assert_eq!((reader.varint(), reader.0), (Some(number), &[][..]));
        }
        for bad in [&[][..], &[0x80], &[0x80, 0], &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x10]] {
            assert_eq!(Reader(bad).varint(), None, "{bad:?}");
        }
    }

    #[test]
    fn every_id_survives_and_has_one_form() {
        for id in 0..=u16::MAX {
            let mut bytes = Vec::new();
            write_id(&mut bytes, id);
            assert!(bytes.len() <= 3);
            assert_eq!(read_id(&bytes), Some((id, &[][..])));
        }
        assert_eq!(read_id(&[0x80, 0x00]), None);
        assert_eq!(read_id(&[0xff, 0xff, 0xff]), None);
        assert_eq!(read_id(&[0x80]), None);
        assert_eq!(read_id(&[]), None);
    }
}
