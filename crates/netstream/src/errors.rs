//! What can go wrong in a call, and what the caller can do about it.

use bevy_ecs::entity::Entity;
use netstream_driver::{ConnectError, DriverId, EndpointError, ListenError, Scheme, SendError};

use crate::ConnectionState;

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkListenError {
    /// The text is not an endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// This World is a client.
    #[error("a client World does not listen; use NetworkStreamPlugin::server()")]
    NotAServer,
    /// No driver for this scheme.
    #[error("no driver for {}://; {}", .0, driver_hint(*.0))]
    NoDriver(Scheme),
    /// The driver id names nothing.
    #[error("driver {0} does not exist (any more)")]
    UnknownDriver(DriverId),
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] ListenError),
}

/// Why a connect call did not even start. No entity, id or socket is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkConnectError {
    /// The text is not an endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// This World is a server.
    #[error("a server World does not connect; use NetworkStreamPlugin::client()")]
    NotAClient,
    /// This World has its connection.
    #[error("already connected (or connecting) as {0}; disconnect first")]
    AlreadyConnected(Entity),
    /// No driver for this scheme.
    #[error("no driver for {}://; {}", .0, driver_hint(*.0))]
    NoDriver(Scheme),
    /// The credentials are too long for the first message.
    #[error("credentials of {size} bytes are over the limit of {limit}")]
    CredentialsTooLong {
        /// Their size in bytes.
        size: usize,
        /// The most that is allowed, in bytes.
        limit: usize,
    },
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] ConnectError),
}

fn driver_hint(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Ipc => "share an IpcHub between the Worlds with NetworkStreamPlugin::with_ipc(&hub)",
        _ => "add one with NetworkStreamDriver::add_driver, or use udp:// or ipc://",
    }
}

/// Why a call about a connection has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The entity is not a connection of this World (any more).
    #[error("{0} is not a connection of this World (any more)")]
    Unknown(Entity),
    /// The connection is ending or over.
    #[error("the connection is {0} already")]
    Ending(ConnectionState),
    /// The call has a meaning only in Approval.
    #[error("the connection is {0}, not waiting for approval")]
    NotWaiting(ConnectionState),
    /// The call is the server's.
    #[error("only a server World decides about approval")]
    NotAServer,
}

/// Why a command, snapshot or RPC was not taken. Nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkSendError {
    /// The entity is not a connection of this World (any more).
    #[error("{0} is not a connection of this World (any more)")]
    Unknown(Entity),
    /// Too early, or too late: the state does not allow it.
    #[error("the connection is {0}; this may only be sent when it is Connected")]
    NotReady(ConnectionState),
    /// Commands and snapshots need the in-game mark on this side.
    #[error("the connection is not in the game; insert NetworkStreamInGame on this side first")]
    NotInGame,
    /// Commands go from client to server, snapshots from server to client, and RPCs where their registration says.
    #[error("a {0} World does not send this")]
    WrongSide(&'static str),
    /// The RPC type was never registered here.
    #[error("{0} is not registered; call app.register_rpc::<{0}>() on both sides before the first update")]
    NotRegistered(&'static str),
    /// The peer has no such type (it may not have: [`SchemaPolicy::Compatible`](crate::SchemaPolicy::Compatible)).
    #[error("the peer does not know {0}; check what it knows before sending, or update it")]
    UnknownToPeer(&'static str),
    /// The type was registered as a request: it wants an answer.
    #[error("{0} is a request; send it with RpcSender::request")]
    IsARequest(&'static str),
    /// The type was registered as an RPC, which has no answer.
    #[error("{0} is not a request; register it with register_request, or send it with RpcSender::send")]
    NotARequest(&'static str),
    /// Too many requests and receipts of this connection wait already.
    #[error("{0} requests and receipts wait on this connection already; try again when some were answered")]
    TooManyCalls(usize),
    /// The RPC could not be serialised.
    #[error("{0} could not be serialised; its Serialize implementation failed")]
    NotSerialised(&'static str),
    /// The connection's outgoing RPC buffer is full; the others are unaffected.
    #[error("{0} bytes of RPCs wait on this connection already; try again later")]
    BufferFull(usize),
    /// Too many RPCs of this connection wait for it to be Connected; the others are unaffected.
    #[error("{0} RPCs are held until this connection is Connected already; send the rest when it is")]
    TooManyHeld(usize),
    /// The driver refused.
    #[error(transparent)]
    Driver(#[from] SendError),
}

/// Why a driver could not be removed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("driver {0} does not exist (any more)")]
pub struct UnknownDriver(pub DriverId);

/// Why the drivers were not exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} connections are there; end them first, or use ResetPolicy::CloseConnections")]
pub struct StillConnected(pub usize);
