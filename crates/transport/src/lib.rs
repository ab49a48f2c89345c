//! The sans-IO core of netstream.
//!
//! Everything here is a pure machine: bytes and times go in through `handle_*` and plain verbs, bytes and events come
//! out through `poll_*` and a sink. There is no socket, clock, thread, World or randomness of the operating system in
//! this crate: `now` is an argument ([`Now`]) and randomness is injected ([`Random`]). The same bytes, times and seed
//! give the same result, always; the simulator, the fuzzers and the benchmarks rest on that.

#![forbid(unsafe_code)]

pub mod channel;
pub mod client;
#[doc(hidden)]
pub mod copy;
pub mod crypto;
pub mod incoming;
pub mod limits;
mod look;
#[doc(hidden)]
pub mod mutants;
pub mod netcode;
pub mod random;
pub mod reason;
pub mod server;
mod shared;
pub mod time;
mod totals;
mod turns;

pub use channel::ChannelId;
pub use client::{Client, ClientConfig};
pub use incoming::{ConnectionId, Identity, Incoming};
pub use limits::Limits;
pub use random::{Random, SeededRandom};
pub use reason::{DisconnectCode, DisconnectReason, Origin, ReasonText};
pub use server::{Server, ServerConfig, Transmit};
pub use shared::SharedBytes;
pub use time::{Mono, Now, Wall};
pub use totals::LinkTotals;
