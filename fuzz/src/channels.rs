//! Links for the fuzz targets, with every kind of channel.

use std::sync::Arc;

use netstream_transport::channel::{ChannelConfig, ChannelKind, Link, LinkConfig, Side};
use netstream_transport::{ChannelId, Limits, Mono, SeededRandom};

/// The standard channels, and one of each other kind.
pub fn config(side: Side, first: u64) -> Arc<LinkConfig> {
    let mut config = match side {
        Side::Server => LinkConfig::server(),
        Side::Client => LinkConfig::client(),
    };
    config.first_packet_number = first;
    let kinds = [
        ChannelConfig::new(ChannelKind::UnreliableSequenced),
        ChannelConfig::new(ChannelKind::UnreliableSequenced).fragmented(8 << 10),
        ChannelConfig::new(ChannelKind::ReliableUnordered).fragmented(8 << 10),
        ChannelConfig::new(ChannelKind::ReliableOrdered),
    ];
    for channel in kinds {
        config.channels.declare(channel).expect("a table takes 256 channels");
    }
    Arc::new(config)
}

/// Right below every width of which a part may travel.
pub const STARTS: [u64; 6] = [0, (1 << 16) - 3, (1 << 24) - 3, (1 << 32) - 3, (1 << 63) - 3, u64::MAX - 3];

pub struct End {
    pub link: Link,
    pub cap: usize,
}

impl End {
    pub fn new(side: Side, first: u64, now: Mono) -> Self {
        let limits = Arc::new(match side {
            Side::Server => Limits::server(),
            Side::Client => Limits::client(),
        });
        let config = config(side, first);
        let cap = config.heap_cap(&limits);
        Self { link: Link::new(&config, &limits, now, &mut SeededRandom::new(first ^ 7)), cap }
    }

    /// What holds at any time.
    pub fn check(&self) {
        let stats = self.link.stats();
        assert!((0.0..=1.0).contains(&stats.loss), "loss {}", stats.loss);
        assert!(self.link.heap() <= self.cap, "{} of {}", self.link.heap(), self.cap);
    }
}

/// A message of a channel that says where it comes from and is not like any other of its channel.
pub fn message(channel: ChannelId, number: u32, length: usize) -> Vec<u8> {
    let mut message: Vec<u8> = (0..length).map(|at| (at as u32).wrapping_mul(number | 1) as u8).collect();
    for (byte, value) in message.iter_mut().zip([channel.0].into_iter().chain(number.to_le_bytes())) {
        *byte = value;
    }
    message
}
