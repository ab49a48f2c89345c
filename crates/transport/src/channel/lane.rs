//! One channel of one link: its queues and its place among the others.

use super::config::stream_window;
use super::queue::Queue;
use super::send_buffer::SendBuffer;
use super::stream::StreamReceiver;
use super::unordered::UnorderedReceiver;
use super::{ChannelConfig, ChannelId, ChannelKind, LinkConfig, Pressure};
use crate::Limits;
use crate::look::Look;

/// One channel of one link.
#[derive(Debug)]
// What is small lies side by side with what of `kind` is looked at most; see `State`.
#[repr(C)]
pub(super) struct Lane {
    pub(super) id: ChannelId,
    pub(super) priority: u8,
    /// Unreliable messages may need several packets.
    fragmented: bool,
    /// It is noted that the peer should hear how much it may send.
    tells_window: bool,
    weight: u32,
    /// Bytes that have left, divided by the weight: among equals the one that has had least is next.
    served: u64,
    max_message: usize,
    queue_cap: usize,
    pub(super) kind: LaneKind,
}

/// Bytes of the boxes of a reliable lane.
const ORDERED: usize = size_of::<SendBuffer>() + size_of::<StreamReceiver>();
const UNORDERED: usize = size_of::<SendBuffer>() + size_of::<UnorderedReceiver>();

#[derive(Debug)]
pub(super) enum LaneKind {
    Unreliable { queue: Queue, newest: Newest },
    // The lanes of a link lie side by side, and those of unreliable channels are the ones that every packet touches.
    Ordered { send: Box<SendBuffer>, receive: Box<StreamReceiver> },
    Unordered { send: Box<SendBuffer>, receive: Box<UnorderedReceiver> },
}

/// What a sequenced channel has delivered last; everything before it is stale.
#[derive(Clone, Copy, Debug)]
pub(super) enum Newest {
    /// The channel is not sequenced.
    Any,
    /// By the number of the packet: messages of one packet are in order.
    Packet(Option<u64>),
    /// By the id of the message.
    Id(Option<u16>),
}

impl Lane {
    pub(super) fn new(config: &LinkConfig, limits: &Limits, id: ChannelId, channel: &ChannelConfig) -> Self {
        let first = config.first_packet_number;
        let incoming = channel.max_message(config.side.peer());
        let cap = channel.queue_cap(config.side);
        let kind = match channel.kind {
            ChannelKind::Unreliable => {
                LaneKind::Unreliable { queue: Queue::new(channel, config.side, first), newest: Newest::Any }
            }
            ChannelKind::UnreliableSequenced => LaneKind::Unreliable {
                queue: Queue::new(channel, config.side, first),
                newest: if channel.fragmented { Newest::Id(None) } else { Newest::Packet(None) },
            },
            ChannelKind::ReliableOrdered => LaneKind::Ordered {
                send: Box::new(SendBuffer::new(true, first, cap)),
                receive: Box::new(StreamReceiver::new(first, stream_window(limits), incoming)),
            },
            ChannelKind::ReliableUnordered => LaneKind::Unordered {
                send: Box::new(SendBuffer::new(false, first, cap)),
                receive: Box::new(UnorderedReceiver::new(first, incoming)),
            },
        };
        Self {
            id,
            priority: channel.priority,
            fragmented: channel.fragmented && !channel.kind.is_reliable(),
            tells_window: false,
            weight: channel.weight.max(1).into(),
            served: 0,
            max_message: channel.max_message(config.side),
            queue_cap: cap,
            kind,
        }
    }

    /// The largest message that may be sent.
    pub(super) const fn max_message(&self) -> usize {
        self.max_message
    }

    /// What is queued or not acknowledged, in charged bytes.
    pub(super) fn charged(&self) -> usize {
        match &self.kind {
            LaneKind::Unreliable { queue, .. } => queue.charged(),
            LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => send.charged(),
        }
    }

    /// See [`Link::look_far`](super::Link::look_far).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.max_message);
        if let LaneKind::Unreliable { queue, .. } = &self.kind {
            queue.look(look);
        }
    }

    /// Whether a reliable message of this length still fits.
    pub(super) fn has_room(&self, length: usize) -> bool {
        self.charged() + length + ChannelConfig::MESSAGE_COST <= self.queue_cap
    }

    pub(super) fn pressure(&self) -> Pressure {
        if !self.has_room(self.max_message) {
            Pressure::Full
        } else if self.charged() > self.queue_cap / 2 {
            Pressure::Pressing
        } else {
            Pressure::Ok
        }
    }

    /// Whether something could leave if the network allowed it.
    pub(super) fn has_work(&self) -> bool {
        match &self.kind {
            LaneKind::Unreliable { queue, .. } => !queue.is_empty(),
            LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => send.has_work(),
        }
    }

    pub(super) const fn is_reliable(&self) -> bool {
        !matches!(self.kind, LaneKind::Unreliable { .. })
    }

    /// Whether unreliable messages may need several packets.
    pub(super) const fn is_fragmented(&self) -> bool {
        self.fragmented
    }

    /// Notes whether the peer should hear how much it may send: 1 if that is new, -1 if no longer.
    pub(super) fn note_window(&mut self) -> i16 {
        let LaneKind::Ordered { receive, .. } = &self.kind else { return 0 };
        let (now, before) = (receive.wants_window(), self.tells_window);
        self.tells_window = now;
        i16::from(now) - i16::from(before)
    }

    /// Whether [`note_window`](Self::note_window) has noted that.
    pub(super) const fn tells_window(&self) -> bool {
        self.tells_window
    }

    pub(super) fn send_buffer(&mut self) -> Option<&mut SendBuffer> {
        match &mut self.kind {
            LaneKind::Unreliable { .. } => None,
            LaneKind::Ordered { send, .. } | LaneKind::Unordered { send, .. } => Some(send),
        }
    }

    pub(super) const fn served(&self) -> u64 {
        self.served
    }

    /// Notes that this many bytes have left.
    pub(super) fn serve(&mut self, bytes: usize) {
        self.served += bytes as u64 * 256 / u64::from(self.weight);
    }

    /// Something is queued again: the time without work gives no claim.
    pub(super) fn join(&mut self, clock: u64) {
        self.served = self.served.max(clock);
    }

    /// Applies limits to what they concern. A window that has been told to the peer never shrinks.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        if let LaneKind::Ordered { receive, .. } = &mut self.kind {
            receive.set_window(stream_window(limits));
        }
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        match &mut self.kind {
            LaneKind::Unreliable { queue, .. } => queue.trim(),
            LaneKind::Ordered { send, receive } => {
                send.trim();
                receive.trim();
            }
            LaneKind::Unordered { send, receive } => {
                send.trim();
                receive.trim();
            }
        }
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) fn heap_cap(config: &LinkConfig, limits: &Limits, channel: &ChannelConfig) -> usize {
        let cap = channel.queue_cap(config.side);
        let incoming = channel.max_message(config.side.peer());
        match channel.kind {
            ChannelKind::Unreliable | ChannelKind::UnreliableSequenced => Queue::heap_cap(cap),
            ChannelKind::ReliableOrdered => {
                ORDERED + SendBuffer::heap_cap(cap) + StreamReceiver::heap_cap(stream_window(limits), incoming)
            }
            ChannelKind::ReliableUnordered => {
                UNORDERED + SendBuffer::heap_cap(cap) + UnorderedReceiver::heap_cap(incoming)
            }
        }
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        match &self.kind {
            LaneKind::Unreliable { queue, .. } => queue.heap(),
            LaneKind::Ordered { send, receive } => ORDERED + send.heap() + receive.heap(),
            LaneKind::Unordered { send, receive } => UNORDERED + send.heap() + receive.heap(),
        }
    }
}

impl Newest {
    /// Whether a message of this packet and id is not older than what was delivered; if so it is the newest now.
    pub(super) fn admit(&mut self, packet: u64, id: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Packet(newest) => {
                let fresh = newest.is_none_or(|newest| !super::number::is_before(packet, newest));
                if fresh {
                    *newest = Some(packet);
                }
                fresh
            }
            Self::Id(newest) => {
                let fresh = Self::is_fresh(*newest, id);
                if fresh {
                    *newest = id;
                }
                fresh
            }
        }
    }

    /// Whether [`admit`](Self::admit) would say yes to a message with an id.
    pub(super) fn would_admit(&self, id: u16) -> bool {
        match self {
            Self::Id(newest) => Self::is_fresh(*newest, Some(id)),
            Self::Any | Self::Packet(_) => true,
        }
    }

    fn is_fresh(newest: Option<u16>, id: Option<u16>) -> bool {
        match (newest, id) {
            (Some(newest), Some(id)) => super::number::is_before_u16(newest, id),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::look::tests::Places;

    #[test]
    fn no_line_of_an_unreliable_lane_is_left_out_when_looking_ahead() {
        let config = LinkConfig::server();
        let channel = config.channels.get(ChannelId::UNRELIABLE).expect("a standard channel");
        let lane = Lane::new(&config, &Limits::default(), ChannelId::UNRELIABLE, channel);
        let mut places = Places::default();
        lane.look(&mut places);
        assert_eq!(places.gaps(&lane), []);
    }
}
