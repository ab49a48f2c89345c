//! Profile N: NETCODE 1.02, byte for byte, with stricter tables (rules H1 to H12 of the design).
//!
//! Two pure machines, [`Server`] and [`Client`], turn datagrams into authenticated packet bodies and back. They own
//! the handshake, the keys, the replay windows, keep-alives and the last goodbye; they know nothing of messages,
//! channels or acknowledgements.
//!
//! ```text
//!             client                                        server
//!   Requesting   | request (type 0, the sealed token)  ------>  |  opens the token, remembers it for 5 s
//!                |  <------- challenge (2), smaller than the request
//!   Responding   | response (3), the challenge echoed  ------>  |  the address is proven, the token is used up: Accepted
//!                |  <------- keep-alive (4)                     |  Unconfirmed
//!   Established  | payload (5), keep-alive (4)  <----------->   |  Established
//!                | disconnect (6)               <----------->   |
//! ```
//!
//! What the profile does not give, by design: forward secrecy, migration to another address, hidden packet types.
//!
//! In both machines the calling order is the same: every datagram goes to `handle_datagram`, after which `poll_event` is
//! drained; `tick` lets due timers act, after which `poll_event` is drained; `poll_transmit` is drained whenever
//! datagrams can leave. `poll_timeout` says when to call again if nothing arrives.

mod budget;
mod challenge;
pub mod client;
mod consumed;
pub mod counters;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod join_code;
mod keys;
mod packet;
mod pending;
mod replay;
pub mod server;
mod session;
mod table;
mod token;
#[cfg(test)]
mod used_up;
#[cfg(test)]
mod vectors;
mod wire;

use std::net::SocketAddr;
use std::time::Duration;

pub use client::Client;
pub use counters::Counter;
pub use join_code::{JoinCode, JoinCodeError};
pub use keys::KeyRing;
pub use server::{IdentityPolicy, Server, ServerConfig};
pub use token::{CONNECT_TOKEN_BYTES, ConnectToken, IssueError, IssueRequest, SessionCipher, TokenError};

/// The version string that every token and packet is bound to.
pub(crate) const VERSION: &[u8; 13] = b"NETCODE 1.02\0";

/// The most server addresses that a token names.
pub const MAX_ADDRESSES: usize = 32;

/// Bytes that `seal_payload` needs in front of a body: prefix and sequence number at their longest.
pub const HEADROOM: usize = 9;

/// Bytes that `seal_payload` needs behind a body.
pub const TAILROOM: usize = crate::crypto::TAG_BYTES;

/// The largest UDP payload that we send where nothing is known of the path, in bytes. Every path of today's internet
/// carries it whole.
pub const MAX_DATAGRAM_OUT: usize = 1200;

/// The largest body of a payload packet that fits [`MAX_DATAGRAM_OUT`] at the longest header.
pub const MAX_BODY: usize = MAX_DATAGRAM_OUT - HEADROOM - TAILROOM;

/// The largest body that a peer of the standard sends, and the least that we take.
pub(crate) const MAX_BODY_IN: usize = 1200;

/// The largest datagram that we take unless more is asked for: a payload of 1200 bytes, which other implementations send,
/// at the longest header.
pub const MAX_DATAGRAM_IN: usize = datagram_of(MAX_BODY_IN);

/// Bytes of the headers of IPv6 and UDP.
pub(crate) const IP_HEADERS: usize = 40 + 8;

/// The largest UDP payload that can be asked for, in bytes: what the 1500 of Ethernet leave behind the headers of IPv6 and
/// UDP. Behind that of IPv4 there would be 20 more, for which a second size is not worth it.
pub const LARGEST_DATAGRAM: usize = 1500 - IP_HEADERS;

/// The largest body that can be asked for: what [`LARGEST_DATAGRAM`] leaves at the longest header.
pub const LARGEST_BODY: usize = LARGEST_DATAGRAM - HEADROOM - TAILROOM;

/// The size of the largest datagram with a body of so many bytes.
pub const fn datagram_of(body: usize) -> usize {
    HEADROOM + body + TAILROOM
}

/// How long a connect token can be used, unless issuer and server agree on something else.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(45);

/// Datagrams that may leave on a connection that is over.
pub const GOODBYE_DATAGRAMS: u8 = 10;

/// Sequence numbers that a receiver looks back on.
pub(crate) const REPLAY_WINDOW: u64 = 1024;

/// How often a server sends to a client that has not confirmed.
pub(crate) const CONFIRM_INTERVAL: Duration = Duration::from_millis(100);

/// Disconnect packets (type 6) at the end of a connection. They are not acknowledged, so one would not do.
pub(crate) const FAREWELL_COPIES: u8 = 5;

/// The time between two of them, at least: losses come in bursts.
pub(crate) const FAREWELL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a slot stays for its farewells: five ticks at 20 Hz and a margin.
pub(crate) const GOODBYE_LIFE: Duration = Duration::from_millis(300);

/// A datagram that is ready to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub to: SocketAddr,
    /// Its length; it starts where the buffer does.
    pub len: usize,
}

/// How a connection is left; see [`Server::close`] and [`Client::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// The peer is told by disconnect packets (type 6) over the next ticks, beside what the layer above seals.
    Goodbye,
    /// The peer knows. The keys are kept for so long, that what it repeats can be answered.
    Linger(Duration),
    /// Nothing more is said.
    Silent,
}

/// A timeout out of a token: 1 to 60 s, or none where the issuer has no wish.
pub(crate) fn token_timeout(seconds: i32) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds.unsigned_abs().clamp(1, 60).into()))
}
