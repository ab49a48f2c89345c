//! The channel layer: what turns sealed packets into the promises of channels.
//!
//! A [`Link`] is one end of a connection. Messages go in with [`Link::send`] and come out of the other end's
//! [`Link::handle_packet`]; in between, packets leave by [`Link::poll_packet`] and travel as the caller can make them.
//! Which channels there are, and what each promises, says the [`ChannelTable`].
//!
//! ```text
//! send ──> queue or send_buffer ──┐                        ┌──> reassembly ──────┐
//!          (one lane per channel) │                        │    (unreliable)     │
//!                                 ├─> packet ~~~> packet ──┼──> stream ──────────┼──> sink
//!          received ── ack ───────┤                 │      │    (ordered)        │
//!                                 │                 │      └──> unordered ───────┘
//!          pacer, congestion ─────┘                 └─ ack ──> sent ──> delivered, lost, rtt
//! ```
//!
//! The bytes of a packet are documented in the `wire` module, completely enough to write a peer from.
//!
//! **What is held back.** Unreliable messages leave as soon as somebody polls. Reliable ones leave at the rate that the
//! path is seen to bear and as far as the receiver has room; they never queue in front of unreliable ones.
//!
//! **What is bounded.** Everything: a link never has more heap than [`LinkConfig::heap_cap`], whatever the peer does and
//! the application sends. Buffers are kept and reused; a link that has been quiet for five seconds gives them back.

mod codec;
mod config;
mod congestion;
mod error;
mod filter;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod lane;
mod link;
mod memory;
mod number;
mod pacer;
mod partial;
mod path;
mod queue;
mod ranges;
mod rare_queue;
mod reassembly;
mod received;
mod row;
mod rtt;
mod send_buffer;
mod sent;
mod short_queue;
mod stats;
mod stream;
mod table;
mod unordered;
mod wire;

pub use config::LinkConfig;
pub use error::{SendError, Violation};
pub use link::Link;
pub(crate) use link::{Allowance, sooner};
pub(crate) use pacer::Pacer;
pub use stats::{Backlog, LinkEvent, LinkStats, Pressure, Receipt};
pub use table::{ChannelConfig, ChannelKind, ChannelTable, DropPolicy, Side, TableFull};

/// Names one channel of a connection. The three standard channels exist on every driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u8);

impl ChannelId {
    /// At most once, any order, one datagram at most.
    pub const UNRELIABLE: Self = Self(0);
    /// Exactly once and in order, of any allowed size.
    pub const RELIABLE: Self = Self(1);
    /// At most once, whole or nothing, larger than a datagram.
    pub const UNRELIABLE_FRAGMENTED: Self = Self(2);
}
