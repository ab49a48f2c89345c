//! What goes into a server and what comes out of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::netcode::{KeyRing, TOKEN_LIFETIME};
use crate::{ConnectionId, DisconnectCode, DisconnectReason};

/// What a server is made of.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The keys that tokens are opened with.
    pub keys: KeyRing,
    /// The addresses that clients reach this server at, one of which a token must name. Tokens that players make from a
    /// join code are not asked for one while this is empty; tokens of a back-end always are.
    pub addresses: Vec<SocketAddr>,
    /// What happens if an identity that is connected connects again.
    pub identities: IdentityPolicy,
    /// How long a token can be used, in whole seconds; the same figure as the issuer's. Default 45 s, and 60 s is the
    /// most that is recommended: used tokens are remembered for so long.
    pub token_lifetime: Duration,
    /// Where the generations of connection ids start. Not 0 where an earlier server has given ids to the same users, who
    /// keep some of them: then [`Server::unused_generation`](super::Server::unused_generation) of that one.
    pub first_generation: u32,
}

impl ServerConfig {
    /// A server with these keys and default settings.
    pub fn new(keys: KeyRing) -> Self {
        Self {
            keys,
            addresses: Vec::new(),
            identities: IdentityPolicy::default(),
            token_lifetime: TOKEN_LIFETIME,
            first_generation: 0,
        }
    }
}

/// What happens if an identity that is connected connects again (H7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityPolicy {
    /// The new connection stays and the old one ends with `Superseded`: whoever crashed comes back at once.
    #[default]
    ReplaceOld,
    /// The old connection stays and the new one is refused with `IdentityInUse`.
    RejectNew,
}

/// What a datagram was.
#[derive(Debug)]
pub enum Received<'d> {
    /// Nothing for the layer above: a part of a handshake, a goodbye, or dropped and counted.
    Nothing,
    /// An authentic packet without content.
    KeepAlive {
        /// From whom.
        connection: ConnectionId,
    },
    /// An authentic payload. It may belong to a connection that is over but still lingers.
    Payload {
        /// From whom.
        connection: ConnectionId,
        /// 1 to [`max_body`](super::Server::max_body) bytes, where they arrived.
        body: &'d mut [u8],
    },
}

/// What happened to a connection.
///
/// Of one connection: `Accepted` or `Refused`; `Confirmed`, perhaps; `Closed`, unless the layer above closed it; last
/// exactly one `Freed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client has proven address and identity, which [`Server::identity`](super::Server::identity) tells, and has a slot.
    Accepted {
        /// The new connection.
        connection: ConnectionId,
        /// Where the client is.
        address: SocketAddr,
    },
    /// The client knows that it is connected.
    Confirmed {
        /// Which connection.
        connection: ConnectionId,
    },
    /// A client has proven itself and may not stay. It takes no slot of the game's; for about a second payloads can be
    /// sealed for it to tell it why. Then it is freed.
    Refused {
        /// Names it for that second.
        connection: ConnectionId,
        /// What to tell it: `ServerFull`, `IdentityInUse` or `Refused`.
        code: DisconnectCode,
    },
    /// The connection is over. If the peer may still be there (`Superseded`, `Flood`, keys that are used up), payloads can be
    /// sealed for about a second to tell it why.
    Closed {
        /// Which connection.
        connection: ConnectionId,
        /// Why, and who ended it.
        reason: DisconnectReason,
    },
    /// Nothing can be sealed or will arrive any more, and the id names nothing from now on.
    Freed {
        /// Which connection.
        connection: ConnectionId,
    },
}
