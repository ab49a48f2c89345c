//! The channel layer: what turns sealed packets into the promises of channels.

mod codec;
mod config;
mod congestion;
mod error;
mod lane;
mod link;
mod number;
mod pacer;
mod partial;
mod queue;
mod ranges;
mod reassembly;
mod received;
mod rtt;
mod send_buffer;
mod sent;
mod stats;
mod stream;
mod table;
mod unordered;
mod wire;

pub use config::LinkConfig;
pub use error::{SendError, Violation};
pub use link::Link;
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
