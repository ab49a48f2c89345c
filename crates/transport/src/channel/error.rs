//! What can go wrong: on our side an error for the caller, on the peer's side a violation.

use super::ChannelId;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link is closing or closed.
    #[error("the connection is over")]
    NotConnected,
    /// The table has no such channel.
    #[error("there is no channel {}", .0.0)]
    UnknownChannel(ChannelId),
    /// The message is larger than the channel takes.
    #[error("a message of {size} bytes is over the limit of {limit} for this channel")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The most that the channel takes, in bytes.
        limit: usize,
    },
    /// The queue of this reliable channel is full; nothing was lost. Try again when the peer has taken some.
    #[error("the send queue of this channel is full; try again later")]
    QueueFull,
}

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident, $metric:literal = $says:literal,)*) => {
        /// How a peer broke the protocol. A correct peer never does, whatever the network does to its packets: the
        /// connection ends with `ProtocolViolation`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        pub enum Violation {
            $($(#[$doc])* #[error($says)] $name,)*
        }

        impl Violation {
            /// All of them, for counters by reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name, for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The name of its counter.
            pub const fn metric(self) -> &'static str {
                match self { $(Self::$name => concat!("violations_", $metric, "_total"),)* }
            }
        }
    };
}

violations! {
    /// The packet ends in the middle of a field.
    Truncated, "truncated" = "a packet ends in the middle of a field",
    /// A reserved bit is set.
    ReservedBits, "reserved_bits" = "a reserved bit is set",
    /// A frame of a kind that does not exist.
    UnknownFrame, "unknown_frame" = "a frame of unknown kind",
    /// A channel that the table does not have.
    UnknownChannel, "unknown_channel" = "a channel that does not exist",
    /// A frame that this kind of channel does not use.
    WrongChannelKind, "wrong_channel_kind" = "a frame of the wrong kind for its channel",
    /// More than 32 ranges in one acknowledgement.
    TooManyAckRanges, "too_many_ack_ranges" = "an acknowledgement has too many ranges",
    /// An acknowledgement reaches below the first packet.
    MalformedAck, "malformed_ack" = "a malformed acknowledgement",
    /// An acknowledgement of a packet that was never sent.
    AckOfUnsent, "ack_of_unsent" = "an acknowledgement of a packet that was never sent",
    /// An acknowledgement of a number that was left out to catch this.
    AckOfSkipped, "ack_of_skipped" = "an acknowledgement of a packet number that was left out",
    /// A message over the limit of its channel.
    MessageTooLarge, "message_too_large" = "a message is over the limit of its channel",
    /// A fragment count of 0 or more than the largest message needs.
    FragmentCount, "fragment_count" = "a fragment count of zero or over the limit",
    /// A fragment index that is not below the count.
    FragmentIndex, "fragment_index" = "a fragment index that is not below the count",
    /// A fragment of the wrong length for its place.
    FragmentSize, "fragment_size" = "a fragment of the wrong length",
    /// Two fragments of one message that do not belong together.
    FragmentMismatch, "fragment_mismatch" = "two fragments contradict each other",
    /// Reliable data beyond what the window allows.
    WindowExceeded, "window_exceeded" = "reliable data beyond the window",
    /// Two copies of the same reliable data differ in what they say about it.
    MalformedStream, "malformed_stream" = "a reliable stream contradicts itself",
    /// A closing frame that cannot be read.
    MalformedClose, "malformed_close" = "a malformed goodbye",
}
