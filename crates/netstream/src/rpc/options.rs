//! How an RPC type travels.

use netstream_driver::transport::ChannelId;
use netstream_driver::transport::channel::{ChannelTable, Side as TransportSide};

use crate::state::Side;
use crate::types::RegisterError;

/// Who may send an RPC of this type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RpcDirection {
    /// Both ends.
    #[default]
    Both,
    /// Only clients.
    ToServer,
    /// Only the server.
    ToClient,
}

impl RpcDirection {
    /// Whether this side may send it.
    pub(crate) fn allows(self, sender: Side) -> bool {
        match self {
            Self::Both => true,
            Self::ToServer => sender == Side::Client,
            Self::ToClient => sender == Side::Server,
        }
    }
}

/// How an RPC type travels. Both ends must choose alike; it is compared when they connect.
///
/// ```
/// # use netstream::{RpcDirection, RpcOptions};
/// let hint = RpcOptions::new().unreliable().direction(RpcDirection::ToClient).max_size(200);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RpcOptions {
    pub(crate) channel: ChannelId,
    pub(crate) direction: RpcDirection,
    pub(crate) approval: bool,
    pub(crate) max_size: Option<usize>,
    pub(crate) events: bool,
    pub(crate) held: bool,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RpcOptions {
    /// Reliable and in order, in both directions, while Connected.
    pub const fn new() -> Self {
        Self {
            channel: ChannelId::RELIABLE,
            direction: RpcDirection::Both,
            approval: false,
            max_size: None,
            events: false,
            held: false,
        }
    }

    /// On this channel: one of the standard ones, or one that the application declared
    /// ([`NetworkStreamPlugin::with_channels`](crate::NetworkStreamPlugin::with_channels)), with its own promise and
    /// priority.
    ///
    /// Priority is the channel's and not the type's, because order is: what overtakes is not in order any more. Types that
    /// are to keep their order share a channel, and thereby its priority. Those that may overtake the rest, or be
    /// overtaken, get a channel of their own on both ends. The standard ones have priority 64 (reliable), 128 (unreliable)
    /// and 96 (fragmented); the higher one always leaves first.
    ///
    /// ```
    /// # use netstream::prelude::*;
    /// # use netstream::RpcOptions;
    /// # use netstream::transport::ChannelId;
    /// # use netstream::transport::channel::{ChannelConfig, ChannelKind, ChannelTable};
    /// # use bevy_app::App;
    /// # #[derive(serde::Serialize, serde::Deserialize)]
    /// # struct Alarm;
    /// // Declared channels are numbered from 3 on.
    /// const URGENT: ChannelId = ChannelId(3);
    /// let mut channels = ChannelTable::default();
    /// let urgent = ChannelConfig::new(ChannelKind::ReliableOrdered).with_priority(200);
    /// assert_eq!(channels.declare(urgent), Ok(URGENT));
    ///
    /// let mut app = App::new();
    /// app.add_plugins(NetworkStreamPlugin::server().with_channels(&channels)) // and on the client
    ///     .register_rpc_with::<Alarm>(RpcOptions::new().channel(URGENT));
    /// ```
    #[must_use]
    pub const fn channel(mut self, channel: ChannelId) -> Self {
        self.channel = channel;
        self
    }

    /// At most once, in any order, in one datagram.
    #[must_use]
    pub const fn unreliable(self) -> Self {
        self.channel(ChannelId::UNRELIABLE)
    }

    /// Only in this direction: elsewhere sending is an error, and receiving a violation.
    #[must_use]
    pub const fn direction(mut self, direction: RpcDirection) -> Self {
        self.direction = direction;
        self
    }

    /// Also in Approval: the credentials that a server's game code wants to see. Always reliable.
    #[must_use]
    pub const fn in_approval(mut self) -> Self {
        self.approval = true;
        self
    }

    /// At most so many bytes when serialised: more is an error where it is sent, and a violation where it arrives.
    #[must_use]
    pub const fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Sent too early they wait until the connection is Connected, instead of being refused; see
    /// [`RpcSender::send_when_connected`](crate::RpcSender::send_when_connected), which does the same for one call. Each
    /// end may choose for itself.
    #[must_use]
    pub const fn held_until_connected(mut self) -> Self {
        self.held = true;
        self
    }

    /// Received ones are also triggered as entity events on their connection, at the moment of dispatch: observe
    /// `On<ReceivedRpc<T>>`. An observer that panics is reported, and harms no other reader. Not of requests.
    #[must_use]
    pub const fn with_events(mut self) -> Self {
        self.events = true;
        self
    }

    /// What both ends must choose alike.
    pub(super) fn fingerprint(&self) -> [u8; 11] {
        let mut bytes = [0; 11];
        bytes[0] = self.channel.0;
        bytes[1] = self.direction as u8;
        bytes[2] = self.approval.into();
        bytes[3..].copy_from_slice(&self.max_size.map_or(u64::MAX, |size| size as u64).to_le_bytes());
        bytes
    }

    pub(super) fn check(&self, name: &'static str) -> Result<(), RegisterError> {
        // What a declared channel takes, only its driver knows.
        let standard = ChannelTable::default();
        let limit = standard.get(self.channel).map(|channel| channel.max_message(TransportSide::Client));
        match (self.max_size, limit) {
            (Some(size), Some(limit)) if size + ENVELOPE > limit => {
                Err(RegisterError::TooLarge { name, size, limit: limit - ENVELOPE })
            }
            _ if self.approval && self.channel != ChannelId::RELIABLE => Err(RegisterError::NotReliable(name)),
            _ => Ok(()),
        }
    }
}

/// The most bytes before an RPC's own: kind, number, call.
pub(crate) const ENVELOPE: usize = 1 + 3 + 5;
