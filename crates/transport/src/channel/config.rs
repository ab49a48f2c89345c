//! What every link of one server or client has in common.

use std::time::Duration;

use super::congestion::Congestion;
use super::lane::Lane;
use super::pacer::Pacer;
use super::path::PathMtu;
use super::reassembly::Reassembly;
use super::sent::Sent;
use super::wire::{INITIAL_WINDOW, MAX_WINDOW};
use super::{ChannelTable, Side};
use crate::Limits;

/// What the [`Link`](super::Link)s of a server are, but for their caps: those are [`Limits`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// The channels.
    pub channels: ChannelTable,
    /// Which end this is: it chooses between the limits of the two directions.
    pub side: Side,
    /// The largest packet that is written, in bytes. 1175 to 1400; 1175 fits every path of 1200-byte datagrams.
    pub mtu: usize,
    /// The largest packet that the link may find out to fit the path, in bytes, by probing upward from `mtu` (RFC 8899);
    /// up to 1427 ([`LARGEST_BODY`](crate::netcode::LARGEST_BODY)), which fits datagrams of 1452 bytes. Default 1175: no
    /// probe ever leaves. A link takes in what it gets; the UDP protocol takes packets of up to 1200 bytes in, and larger
    /// ones up to its own `max_mtu`. Where a peer drops them, the size stays.
    pub max_mtu: usize,
    /// How long an acknowledgement waits for data to ride with. Default 25 ms.
    pub max_ack_delay: Duration,
    /// **For tests only.** Where packet numbers, stream offsets and message numbers start; both ends need the same.
    pub first_packet_number: u64,
}

impl LinkConfig {
    /// The standard channels of a server.
    pub fn server() -> Self {
        Self {
            channels: ChannelTable::default(),
            side: Side::Server,
            mtu: 1175,
            max_mtu: 1175,
            max_ack_delay: Duration::from_millis(25),
            first_packet_number: 0,
        }
    }

    /// The standard channels of a client.
    pub fn client() -> Self {
        Self { side: Side::Client, ..Self::server() }
    }

    /// The most heap that one link ever has under these limits, in bytes ([`Link::heap`](super::Link::heap)): what the
    /// peer and the application can make it grow to together. Raising a limit raises it.
    pub fn heap_cap(&self, limits: &Limits) -> usize {
        let lane = |(_, channel)| size_of::<Lane>() + Lane::heap_cap(self, limits, channel);
        let channels = self.channels.iter().map(lane).sum::<usize>();
        let parts = size_of::<Pacer>() + size_of::<Reassembly>() + Congestion::heap_cap() + PathMtu::heap_cap();
        channels + Reassembly::heap_cap(limits) + Sent::heap_cap() + parts
    }

    /// The largest packet that is written: `mtu`, kept to its range.
    pub(super) fn packet_size(&self) -> usize {
        self.mtu.clamp(1175, 1400)
    }
}

/// The receive window of a reliable ordered channel, kept to its range.
pub(super) fn stream_window(limits: &Limits) -> usize {
    limits.receive_window.clamp(INITIAL_WINDOW, MAX_WINDOW)
}
