//! What the fuzz targets share.

pub mod channels;

use std::net::SocketAddr;

use netstream_transport::crypto::Key;
use netstream_transport::netcode::{ConnectToken, IssueRequest};
use netstream_transport::{Now, SeededRandom, Wall};

pub const PROTOCOL: u64 = 0x1122_3344_5566_7788;

/// When every script begins: two seconds after its server has started.
pub const START: u64 = 1_900_000_000;

pub fn key() -> Key {
    Key::from_bytes([0x42; 32])
}

pub fn server_address() -> SocketAddr {
    ([203, 0, 113, 1], 7979).into()
}

/// Four strangers: three of one network, one from elsewhere.
pub fn address(number: u8) -> SocketAddr {
    match number % 4 {
        3 => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 5003).into(),
        number => ([198, 51, 100, number], 5000 + u16::from(number)).into(),
    }
}

/// A token for [`server_address`] and one more server, issued at [`START`].
pub fn token(client_id: u64) -> ConnectToken {
    issue(client_id, client_id, &[server_address(), ([203, 0, 113, 2], 7979).into()])
}

/// A token for these servers, issued at [`START`]. Its keys and nonce depend on `seed` alone.
pub fn issue(seed: u64, client_id: u64, addresses: &[SocketAddr]) -> ConnectToken {
    let key = key();
    let request = IssueRequest::new(PROTOCOL, &key, client_id, addresses);
    ConnectToken::issue(&request, Wall::from_unix(START), &mut SeededRandom::new(seed)).expect("a good request")
}

/// Lets `data` play on a world: its first byte says what the world is like, the rest is what happens in it.
pub fn play<W>(data: &[u8], new: impl FnOnce(u8) -> W, mut step: impl FnMut(&mut W, &mut Script<'_>)) -> W {
    let mut script = Script(data);
    let mut world = new(script.u8());
    // Long scripts say nothing that short ones do not.
    for _ in 0..200 {
        if script.is_over() {
            break;
        }
        step(&mut world, &mut script);
    }
    world
}

/// `nanos` after [`START`].
pub fn now(nanos: u64) -> Now {
    let since = UP + nanos;
    Now { mono: netstream_transport::Mono::from_nanos(since), wall: Wall::from_unix(START - 2 + since / 1_000_000_000) }
}

/// How long servers have been up at [`START`], in nanoseconds: tokens from before a server's start are refused.
const UP: u64 = 2_000_000_000;

/// When servers started.
pub fn started() -> Now {
    Now { mono: netstream_transport::Mono::ZERO, wall: Wall::from_unix(START - 2) }
}

/// Bytes read as a script. Whatever is missing at its end is zero, so that every input means something.
pub struct Script<'a>(pub &'a [u8]);

impl<'a> Script<'a> {
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// A number of 0 to 8 bytes; the first byte says how many.
    pub fn number(&mut self) -> u64 {
        let length = self.u8() % 9;
        (0..length).fold(0, |number, at| number | u64::from(self.u8()) << (8 * at))
    }

    /// As many bytes as the next two say, and are there.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }
}
