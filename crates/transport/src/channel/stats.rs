//! What a link tells about itself.

use std::time::Duration;

use crate::DisconnectReason;

/// Names one message whose delivery is to be reported; unique within its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Receipt(pub u64);

/// One thing that happened on a link, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The peer has taken the whole message, and so has its application.
    Delivered(Receipt),
    /// Reliable data has made no progress for [`Limits::slow_consumer`](crate::Limits::slow_consumer).
    /// Reported once; the link goes on until it is closed.
    SlowConsumer,
    /// The peer closed the connection. Nothing is delivered any more. Last event of this link.
    RemoteClosed(DisconnectReason),
    /// Our own close has been acknowledged, or the linger time is over. Last event of this link.
    Closed,
}

/// How full the send queue of a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// Room for more.
    Ok,
    /// More than half full: a sender that can wait should.
    Pressing,
    /// The next message of the largest size would be refused, or push another out.
    Full,
}

/// The send queue of one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// How full it is.
    pub pressure: Pressure,
    /// Bytes queued or not acknowledged yet, each message charged for its length + 64.
    pub bytes: usize,
    /// How long a message that is queued now waits for its departure at the present rate; `None` before the rate of
    /// the path is known.
    pub delay: Option<Duration>,
}

/// Figures of one link, since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Smoothed round-trip time, without the delay that the peer reports for its acknowledgements.
    pub rtt: Option<Duration>,
    /// Smallest round-trip time of the last 10 seconds.
    pub min_rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub jitter: Option<Duration>,
    /// Share of our packets that were lost lately, 0 to 1.
    pub loss: f32,
    /// Packets that left.
    pub packets_sent: u64,
    /// Packets that arrived, once each.
    pub packets_received: u64,
    /// Packets that arrived again, or too late to tell.
    pub packets_duplicate: u64,
    /// Packets that were given up as lost and have not turned up since.
    pub packets_lost: u64,
    /// Bytes of packets that left.
    pub bytes_sent: u64,
    /// Bytes of packets that arrived, once each.
    pub bytes_received: u64,
    /// Bytes of reliable messages that left again.
    pub bytes_resent: u64,
    /// Bytes of reliable messages that wait for departure or acknowledgement, each message charged for its
    /// length + 64.
    pub reliable_queued: usize,
    /// Bytes that are on their way and not acknowledged.
    pub in_flight: usize,
    /// How much reliable data may be on its way, in bytes.
    pub congestion_window: usize,
    /// At how many bytes per second reliable data leaves at most; 0 while unknown.
    pub pacing_rate: u64,
    /// Unreliable messages that were dropped because their queue was full.
    pub dropped_full: u64,
    /// Sequenced messages that arrived after a newer one.
    pub dropped_stale: u64,
    /// Incomplete unreliable messages that were given up to make room.
    pub reassembly_evicted: u64,
    /// Incomplete unreliable messages that were given up because the rest did not come in time.
    pub reassembly_expired: u64,
    /// Reliable messages that were refused because their queue was full.
    pub refused_queue: u64,
    /// Whether [`LinkEvent::SlowConsumer`] was reported: 0 or 1.
    pub slow_consumers: u64,
    /// Packets that were not acknowledged because there was no room for their reliable data.
    pub refused_full: u64,
    /// The largest packet that is written at present, in bytes.
    pub packet_size: usize,
    /// Probes for larger packets that left.
    pub mtu_probes: u64,
    /// Those of them that were lost; they are not among [`packets_lost`](Self::packets_lost).
    pub mtu_probes_lost: u64,
    /// How often packets of the size that was found came to arrive no more, so that the size is the least again.
    pub mtu_black_holes: u64,
}
