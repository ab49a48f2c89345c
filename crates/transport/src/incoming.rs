//! What a driver reports upwards, as borrowed values, one at a time.

use std::net::SocketAddr;

use crate::{ChannelId, DisconnectReason};

/// Names one connection of one driver. Generational: a slot that is used again gets another generation, so an id that
/// was kept too long names nothing rather than a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The slot, dense from 0: small tables may be indexed by it.
    pub index: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

/// Who a peer is, as sealed in its connect token.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// The issuer's 64-bit number of this client. Only as trustworthy as the issuer: whoever holds a join code may
    /// claim any number.
    pub client_id: u64,
    /// Data that the issuer sealed for the server; all zero where it had none.
    pub user_data: [u8; 256],
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The data may hold what the back-end knows of a player: it stays out of logs.
        f.debug_struct("Identity").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// One thing that happened on a driver, in the order in which it happened.
///
/// Of one connection a driver reports: first `Accepted` (it is the server) or `Connected` (it is the client; nothing
/// at all before that but `Disconnected`), then any number of `Message`s, last exactly one `Disconnected`. Nothing
/// follows it.
#[derive(Debug)]
pub enum Incoming<'a> {
    /// A peer has reached this listening driver and proven its address (and, where the driver has tokens, its
    /// identity).
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Where the peer is; `None` where the driver has no network addresses.
        address: Option<SocketAddr>,
        /// Who the peer is; `None` where the driver has no tokens.
        identity: Option<&'a Identity>,
    },
    /// The link of a connection that this side asked for is up.
    Connected {
        /// The connection that `connect` named.
        connection: ConnectionId,
    },
    /// One whole message.
    Message {
        /// From whom.
        connection: ConnectionId,
        /// On which channel.
        channel: ChannelId,
        /// The message, valid during the call.
        bytes: &'a [u8],
    },
    /// The connection is over: closed by either side, lost, or never established. Also the answer to a local
    /// `disconnect`, once the goodbye has been delivered or has lingered long enough.
    Disconnected {
        /// Which connection. Its id never names another one.
        connection: ConnectionId,
        /// Why, and who ended it.
        reason: DisconnectReason,
    },
}
