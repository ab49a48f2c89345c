//! Reading and writing the primitive fields of a packet.

use super::Violation;

/// The largest number that a varint holds.
pub(super) const MAX_VARINT: u32 = (1 << 28) - 1;

/// Bytes that the varint of `value` takes.
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Bytes that a varint takes which begins with this byte; `None` if no varint does.
pub(super) const fn varint_len_from(first: u8) -> Option<usize> {
    match first.leading_ones() {
        ones @ 0..4 => Some(ones as usize + 1),
        _ => None,
    }
}

/// A bounded view of bytes from a peer: every read is checked, none panics.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// What `later`, a copy of this reader that has read on, has read since.
    pub(super) fn before(&self, later: &Self) -> &'a [u8] {
        self.rest.get(..self.rest.len().saturating_sub(later.rest.len())).unwrap_or_default()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Violation> {
        let (first, rest) = self.rest.split_first().ok_or(Violation::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A little-endian number of `count` bytes, at most 7.
    #[inline]
    pub(super) fn uint(&mut self, count: usize) -> Result<u64, Violation> {
        // Without a loop where enough follows: that is read too, and cut off.
        let ahead = self.rest.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let bytes = self.bytes(count)?;
        Ok(match ahead {
            Some(ahead) => ahead & ((1 << (8 * count)) - 1),
            None => bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)),
        })
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, Violation> {
        let first = self.u8()?;
        if first < 0x80 {
            return Ok(u32::from(first));
        }
        let more = varint_len_from(first).ok_or(Violation::ReservedBits)? - 1;
        let low = self.uint(more)? as u32;
        // The first byte holds the low bits that the length marker leaves, as in a single-byte varint.
        Ok(low << (7 - more) | u32::from(first) & (0x7f >> more))
    }
}

/// Fills a packet. The caller knows the room and keeps within it.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
    end: usize,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(buf: &'a mut [u8]) -> Self {
        let end = buf.len();
        Self { buf, at: 0, end }
    }

    /// Bytes written so far.
    pub(super) const fn len(&self) -> usize {
        self.at
    }

    /// Bytes that still fit.
    pub(super) const fn room(&self) -> usize {
        self.end - self.at
    }

    /// Lets nothing follow the next `count` bytes.
    pub(super) const fn end_after(&mut self, count: usize) {
        self.end = self.at + count;
    }

    /// Sets bits of the first byte that has been written.
    pub(super) fn mark_first(&mut self, bits: u8) {
        self.buf[0] |= bits;
    }

    /// Changes a byte that has been written.
    pub(super) fn patch(&mut self, at: usize, byte: u8) {
        self.buf[at] = byte;
    }

    /// The next `count` bytes, to be filled by the caller.
    pub(super) fn take(&mut self, count: usize) -> &mut [u8] {
        let taken = &mut self.buf[self.at..self.at + count];
        self.at += count;
        taken
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.take(bytes.len()).copy_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    /// The low `count` bytes of `value`, little-endian.
    #[inline]
    pub(super) fn uint(&mut self, value: u64, count: usize) {
        let bytes = value.to_le_bytes();
        match self.buf.get_mut(self.at..).and_then(|rest| rest.first_chunk_mut()) {
            // What is too much is written over by what follows, or left out with the rest of the buffer.
            Some(place) if count <= self.end - self.at => {
                *place = bytes;
                self.at += count;
            }
            _ => self.bytes(&bytes[..count]),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self, value: u32) {
        if value < 0x80 {
            return self.u8(value as u8);
        }
        let bytes = u32::from_le_bytes(varint(value));
        self.uint(u64::from(bytes), varint_len(value));
    }
}

/// The bytes of a varint, of which the first [`varint_len`] count.
pub(super) fn varint(value: u32) -> [u8; 4] {
    debug_assert!(value <= MAX_VARINT);
    let more = varint_len(value) - 1;
    let marker = !(0xff_u8 >> more);
    let first = marker | value as u8 & (0x7f >> more);
    let high = (value >> (7 - more)).to_le_bytes();
    [first, high[0], high[1], high[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_documented_bytes_and_come_back() {
        for (value, bytes) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x02]),
            (0x3fff, &[0xbf, 0xff]),
            (0x4000, &[0xc0, 0x00, 0x02]),
            (0x1f_ffff, &[0xdf, 0xff, 0xff]),
            (0x20_0000, &[0xe0, 0x00, 0x00, 0x02]),
            (MAX_VARINT, &[0xef, 0xff, 0xff, 0xff]),
        ] {
            let mut buf = [0; 4];
            let mut writer = Writer::new(&mut buf);
            writer.varint(value);
            assert_eq!(writer.len(), varint_len(value));
            let length = writer.len();
            assert_eq!(&buf[..length], bytes, "{value}");
            assert_eq!(Reader::new(&buf[..length]).varint(), Ok(value));
            assert_eq!(varint_len_from(buf[0]), Some(length));
            assert_eq!(Reader::new(&buf[..length - 1]).varint(), Err(Violation::Truncated));
        }
        for value in (0..MAX_VARINT).step_by(9_973) {
            let bytes = varint(value);
            assert_eq!(Reader::new(&bytes).varint(), Ok(value));
        }
        assert_eq!(Reader::new(&[0xf0, 0, 0, 0, 0]).varint(), Err(Violation::ReservedBits));
    }

    #[test]
    fn numbers_are_little_endian_and_reads_stop_at_the_end() {
        let mut reader = Reader::new(&[1, 2, 3, 4]);
        assert_eq!(reader.uint(3), Ok(0x03_02_01));
        assert_eq!(reader.uint(2), Err(Violation::Truncated));
        assert_eq!(reader.u8(), Ok(4));
        assert_eq!(reader.u8(), Err(Violation::Truncated));
    }
}
