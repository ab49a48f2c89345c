//! What every link of one server or client has in common.

use std::time::Duration;

use super::lane::Lane;
use super::reassembly::Reassembly;
use super::sent::Sent;
use super::wire::{INITIAL_WINDOW, MAX_WINDOW};
use super::{ChannelTable, Side};

/// The settings of [`Link`](super::Link)s: shared by all connections of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// The channels.
    pub channels: ChannelTable,
    /// Which end this is: it chooses between the limits of the two directions.
    pub side: Side,
    /// The largest packet that is written, in bytes. 1175 to 1400; 1175 fits every path of 1200-byte datagrams.
    pub mtu: usize,
    /// How much reliable ordered data per channel the peer may send ahead of what is missing, in bytes.
    /// 64 KiB (what a peer may assume before it is told) to 4 MiB.
    pub receive_window: usize,
    /// How many unreliable messages may be incomplete at a time, all channels together.
    pub reassembly_messages: usize,
    /// How many bytes of incomplete unreliable messages are kept, all channels together.
    pub reassembly_bytes: usize,
    /// How long an unreliable message may be incomplete.
    pub reassembly_timeout: Duration,
    /// How long an acknowledgement waits for data to ride with.
    pub max_ack_delay: Duration,
    /// How long reliable data may make no progress before [`LinkEvent::SlowConsumer`](super::LinkEvent::SlowConsumer).
    pub slow_consumer: Duration,
    /// The most that leaves, in bytes per second of packet bodies; `None` leaves it to congestion control.
    pub bandwidth: Option<u64>,
    /// **For tests only.** Where packet numbers, stream offsets and message numbers start; both ends need the same.
    pub first_packet_number: u64,
}

impl LinkConfig {
    /// The defaults of a server: it has many peers, each of which gets little room.
    pub fn server() -> Self {
        Self {
            channels: ChannelTable::default(),
            side: Side::Server,
            mtu: 1175,
            receive_window: 64 << 10,
            reassembly_messages: 4,
            reassembly_bytes: 64 << 10,
            reassembly_timeout: Duration::from_millis(500),
            max_ack_delay: Duration::from_millis(25),
            slow_consumer: Duration::from_secs(10),
            bandwidth: None,
            first_packet_number: 0,
        }
    }

    /// The defaults of a client: it has one peer, which sends snapshots and large messages.
    pub fn client() -> Self {
        Self {
            side: Side::Client,
            receive_window: 1 << 20,
            reassembly_messages: 8,
            reassembly_bytes: 1 << 20,
            ..Self::server()
        }
    }

    /// The most heap that one link of this configuration ever has, in bytes ([`Link::heap`](super::Link::heap)): what the
    /// peer and the application can make it grow to together. Raising a limit raises it.
    pub fn heap_cap(&self) -> usize {
        let channels = self.channels.iter().map(|(_, channel)| size_of::<Lane>() + Lane::heap_cap(self, channel));
        let reassembly = Reassembly::heap_cap(self.reassembly_messages, self.reassembly_bytes);
        channels.sum::<usize>() + reassembly + Sent::heap_cap()
    }

    /// The largest packet that is written: `mtu`, kept to its range.
    pub(super) fn packet_size(&self) -> usize {
        self.mtu.clamp(1175, 1400)
    }

    /// The receive window, kept to its range.
    pub(super) fn stream_window(&self) -> usize {
        self.receive_window.clamp(INITIAL_WINDOW, MAX_WINDOW)
    }
}
