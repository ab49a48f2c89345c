//! Packets: the prefix byte, the sequence number, and what is sealed behind them.
//!
//! ```text
//!   byte 0             1 .. 1+n              then                     last 16
//!  +------------------+---------------------+------------------------+-------+
//!  | type 4 | n 4 bits | sequence, n bytes  | body, sealed in place  |  tag  |
//!  +------------------+---------------------+------------------------+-------+
//! ```
//!
//! The nonce is the sequence number behind four zero bytes. Version string, protocol id and prefix byte are
//! authenticated with the body, so no packet can be turned into another type. A connection request (type 0) is not
//! sealed: what is secret in it is sealed already.

use std::ops::Range;

use super::wire::{Reader, Writer};
use super::{HEADROOM, VERSION, datagram_of};
use crate::crypto::{Aead, Cipher, NONCE_BYTES, TAG_BYTES};

/// Size of a connection request.
pub(crate) const REQUEST_BYTES: usize = 1078;

/// Size of a sealed private connect token.
pub(crate) const PRIVATE_BYTES: usize = 1024;

/// Size of a sealed challenge token.
pub(crate) const CHALLENGE_BYTES: usize = 300;

/// Size of the body of a challenge or response: the challenge's number and its sealed token.
pub(crate) const CHALLENGE_BODY: usize = 8 + CHALLENGE_BYTES;

/// Size of the body of a keep-alive.
pub(crate) const KEEP_ALIVE_BODY: usize = 8;

/// The least that a sealed packet has: prefix, one byte of sequence, tag.
const MIN_SEALED: usize = 1 + 1 + TAG_BYTES;

/// The type in the low four bits of the prefix byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum PacketType {
    Request = 0,
    Denied = 1,
    Challenge = 2,
    Response = 3,
    KeepAlive = 4,
    Payload = 5,
    Disconnect = 6,
}

impl PacketType {
    pub(crate) fn from_prefix(prefix: u8) -> Option<Self> {
        Some(match prefix & 0xf {
            0 => Self::Request,
            1 => Self::Denied,
            2 => Self::Challenge,
            3 => Self::Response,
            4 => Self::KeepAlive,
            5 => Self::Payload,
            6 => Self::Disconnect,
            _ => return None,
        })
    }
}

/// Why a datagram is no sealed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Smaller or larger than any packet.
    Size,
    /// A type that this profile does not have.
    Type,
    /// The sequence number has no or more than 8 bytes, or does not fit.
    Sequence,
}

/// The header of a sealed packet, checked for shape and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: PacketType,
    pub(crate) sequence: u64,
    prefix: u8,
}

impl Header {
    /// Steps 1 to 3 of the reading order, for a receiver that takes bodies of up to `max_body` bytes. The type is checked
    /// before the sequence length; a receiver that does not take the type refuses it before looking at the rest.
    #[inline]
    pub(crate) fn parse(datagram: &[u8], max_body: usize) -> Result<Self, Malformed> {
        if !(MIN_SEALED..=datagram_of(max_body)).contains(&datagram.len()) {
            return Err(Malformed::Size);
        }
        let (&prefix, rest) = datagram.split_first().ok_or(Malformed::Size)?;
        let kind = PacketType::from_prefix(prefix).ok_or(Malformed::Type)?;
        let length = usize::from(prefix >> 4);
        if !(1..=8).contains(&length) || rest.len() < length + TAG_BYTES {
            return Err(Malformed::Sequence);
        }
        let mut sequence = [0; 8];
        for (byte, from) in sequence.iter_mut().zip(rest.iter().take(length)) {
            *byte = *from;
        }
        Ok(Self { kind, sequence: u64::from_le_bytes(sequence), prefix })
    }

    /// Opens the body where it lies. `None` unless it was sealed under this key for this protocol id with exactly this
    /// header; the datagram is spoilt then.
    #[inline]
    pub(crate) fn open<'d>(&self, cipher: &Cipher, protocol_id: u64, datagram: &'d mut [u8]) -> Option<&'d mut [u8]> {
        let sealed = datagram.get_mut(1 + usize::from(self.prefix >> 4)..)?;
        cipher.open_in_place(nonce(self.sequence), &associated_data(protocol_id, self.prefix), sealed)
    }
}

/// Seals the body that the caller has written at `buf[HEADROOM..HEADROOM + body]` and writes the header right before
/// it. Returns where the datagram lies in `buf`. `buf` has room for the tag behind the body.
#[inline]
pub(crate) fn seal(
    cipher: &Cipher,
    protocol_id: u64,
    kind: PacketType,
    sequence: u64,
    buf: &mut [u8],
    body: usize,
) -> Range<usize> {
    // High zero bytes are left out; zero itself takes one byte.
    let length = (8 - sequence.leading_zeros() as usize / 8).max(1);
    let prefix = kind as u8 | (length as u8) << 4;
    let start = HEADROOM - 1 - length;
    let end = HEADROOM + body;
    buf[start] = prefix;
    buf[start + 1..HEADROOM].copy_from_slice(&sequence.to_le_bytes()[..length]);
    let tag = cipher.seal_in_place(nonce(sequence), &associated_data(protocol_id, prefix), &mut buf[HEADROOM..end]);
    buf[end..end + TAG_BYTES].copy_from_slice(&tag);
    start..end + TAG_BYTES
}

/// [`seal`] for the small packets that the protocol makes itself: `body` is copied in, and the datagram is moved to the
/// start of `buf`. Returns its length.
pub(crate) fn seal_small(
    cipher: &Cipher,
    protocol_id: u64,
    kind: PacketType,
    sequence: u64,
    buf: &mut [u8],
    body: &[u8],
) -> usize {
    buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
    let range = seal(cipher, protocol_id, kind, sequence, buf, body.len());
    let length = range.len();
    buf.copy_within(range, 0);
    length
}

/// The nonce of sequence number `sequence`: zeros first.
pub(crate) fn nonce(sequence: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&sequence.to_le_bytes());
    nonce
}

fn associated_data(protocol_id: u64, prefix: u8) -> [u8; 22] {
    let mut data = [0; 22];
    data[..13].copy_from_slice(VERSION);
    data[13..21].copy_from_slice(&protocol_id.to_le_bytes());
    data[21] = prefix;
    data
}

/// A connection request as it lies in the datagram.
#[derive(Debug)]
pub(crate) struct Request<'d> {
    pub(crate) protocol_id: u64,
    /// Seconds since the Unix epoch.
    pub(crate) expiry: u64,
    pub(crate) nonce: &'d [u8; 24],
    /// Bytes of the sealed private token.
    pub(crate) sealed: &'d mut [u8; PRIVATE_BYTES],
}

/// Why a datagram with prefix byte 0 is no connection request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRequest {
    Size,
    Version,
}

impl<'d> Request<'d> {
    /// Steps 1 and 2 of the order for requests. The caller has looked at the prefix byte.
    pub(crate) fn parse(datagram: &'d mut [u8]) -> Result<Self, BadRequest> {
        if datagram.len() != REQUEST_BYTES {
            return Err(BadRequest::Size);
        }
        let (clear, sealed) = datagram.split_last_chunk_mut::<PRIVATE_BYTES>().ok_or(BadRequest::Size)?;
        let mut reader = Reader::new(clear);
        let fields = (|| Some((reader.u8()?, reader.array::<13>()?, reader.u64()?, reader.u64()?, reader.array()?)))();
        let (_, version, protocol_id, expiry, nonce) = fields.ok_or(BadRequest::Size)?;
        if version != VERSION {
            return Err(BadRequest::Version);
        }
        Ok(Self { protocol_id, expiry, nonce, sealed })
    }
}

/// Writes a connection request to the start of `buf`, which has [`REQUEST_BYTES`].
pub(crate) fn write_request(
    buf: &mut [u8],
    protocol_id: u64,
    expiry: u64,
    nonce: &[u8; 24],
    sealed: &[u8; PRIVATE_BYTES],
) -> usize {
    let mut writer = Writer::new(buf);
    writer.put(&[PacketType::Request as u8]);
    writer.put(VERSION);
    writer.u64(protocol_id);
    writer.u64(expiry);
    writer.put(nonce);
    writer.put(sealed);
    writer.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::Key;
    use crate::netcode::{LARGEST_BODY, LARGEST_DATAGRAM, MAX_BODY, MAX_BODY_IN, MAX_DATAGRAM_IN, MAX_DATAGRAM_OUT};

    fn cipher() -> Cipher {
        Cipher::new(&Key::from_bytes([7; 32]))
    }

    #[test]
    fn sequence_numbers_take_as_few_bytes_as_they_need() {
        let cases = [
            (0, 1),
            (0xff, 1),
            (0x100, 2),
            (0xffff, 2),
            (0x1_0000, 3),
            (0x100_0000, 4),
            (1 << 32, 5),
            (1 << 40, 6),
            (1 << 48, 7),
            (1 << 56, 8),
            (1 << 63, 8),
            (u64::MAX, 8),
        ];
        for (sequence, bytes) in cases {
            let mut buf = [0; 64];
            let length = seal_small(&cipher(), 1, PacketType::KeepAlive, sequence, &mut buf, &[0; 8]);
            assert_eq!(length, 1 + bytes + 8 + TAG_BYTES);
            assert_eq!(usize::from(buf[0] >> 4), bytes);
            let header = Header::parse(&buf[..length], MAX_BODY_IN).unwrap();
            assert_eq!((header.kind, header.sequence), (PacketType::KeepAlive, sequence));
            assert_eq!(header.open(&cipher(), 1, &mut buf[..length]).unwrap(), &[0; 8]);
        }
    }

    #[test]
    fn the_largest_body_at_the_longest_header_fits_the_datagram() {
        for (body, datagram) in [(MAX_BODY, MAX_DATAGRAM_OUT), (LARGEST_BODY, LARGEST_DATAGRAM)] {
            let mut buf = vec![0; datagram];
            let range = seal(&cipher(), 1, PacketType::Payload, u64::MAX, &mut buf, body);
            assert_eq!(range, 0..datagram);
        }
    }

    #[test]
    fn type_protocol_and_sequence_are_authenticated() {
        let mut sealed = [0; 64];
        let length = seal_small(&cipher(), 1, PacketType::KeepAlive, 300, &mut sealed, &[9; 8]);
        let open = |protocol_id: u64, change: fn(&mut [u8])| {
            let mut copy = sealed;
            let datagram = &mut copy[..length];
            change(datagram);
            Header::parse(datagram, MAX_BODY_IN).unwrap().open(&cipher(), protocol_id, datagram).is_some()
        };
        assert!(open(1, |_| {}));
        assert!(!open(2, |_| {}), "another protocol");
        assert!(!open(1, |datagram| datagram[0] ^= 1), "another type");
        assert!(!open(1, |datagram| datagram[1] ^= 1), "another sequence number");
        assert!(!open(1, |datagram| datagram[5] ^= 1), "another body");
        assert!(!open(1, |datagram| datagram[20] ^= 1), "another tag");
    }

    #[test]
    fn malformed_headers_are_told_apart() {
        let parse = |datagram: &[u8]| Header::parse(datagram, MAX_BODY_IN);
        assert_eq!(parse(&[0x15; 17]), Err(Malformed::Size));
        assert_eq!(parse(&[0x15; MAX_DATAGRAM_IN + 1]), Err(Malformed::Size));
        assert_eq!(parse(&[0x17; 18]), Err(Malformed::Type));
        assert_eq!(parse(&[0x05; 18]), Err(Malformed::Sequence));
        assert_eq!(parse(&[0x95; 30]), Err(Malformed::Sequence));
        assert_eq!(parse(&[0x25; 18]), Err(Malformed::Sequence));
        assert!(parse(&[0x15; 18]).is_ok() && parse(&[0x15; MAX_DATAGRAM_IN]).is_ok());
        assert!(Header::parse(&[0x15; LARGEST_DATAGRAM], LARGEST_BODY).is_ok());
        assert_eq!(Header::parse(&[0x15; LARGEST_DATAGRAM + 1], LARGEST_BODY), Err(Malformed::Size));
    }

    #[test]
    fn requests_of_the_wrong_size_or_version_are_refused() {
        let mut buf = [0; REQUEST_BYTES];
        let length = write_request(&mut buf, 3, 4, &[5; 24], &[6; PRIVATE_BYTES]);
        assert_eq!(length, REQUEST_BYTES);
        let request = Request::parse(&mut buf).unwrap();
        assert_eq!((request.protocol_id, request.expiry, request.nonce), (3, 4, &[5; 24]));
        assert_eq!(*request.sealed, [6; PRIVATE_BYTES]);
        assert_eq!(Request::parse(&mut [0; REQUEST_BYTES - 1]).unwrap_err(), BadRequest::Size);
        buf[12] = b'1';
        assert_eq!(Request::parse(&mut buf).unwrap_err(), BadRequest::Version);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_without_panic(mut datagram in proptest::collection::vec(any::<u8>(), 0..1500)) {
            if let Ok(header) = Header::parse(&datagram, LARGEST_BODY) {
                prop_assert!(header.open(&cipher(), 0, &mut datagram).is_none());
            }
            let _ = Request::parse(&mut datagram);
        }
    }
}
