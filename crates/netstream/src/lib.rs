//! The connection layer for multiplayer games on Bevy's ECS.
//!
//! One server World listens at once over UDP, in-process IPC and whatever else has a driver; each connection is an
//! entity with its state, its queues of RPCs, commands and snapshots, and its events; every end of a connection has one
//! typed reason, seen on both ends.
//!
//! | you want to | you use |
//! |---|---|
//! | make a World a server or a client | [`NetworkStreamPlugin`] |
//! | listen, connect, disconnect, ask | [`NetworkStreamDriver`] |
//! | know what happened | [`ConnectionEvent`], [`DriverEvent`], [`ConnectionState`] |
//! | send and read typed messages | [`RpcAppExt::register_rpc`], [`RpcSender`], [`ReceivedRpc`] |
//! | simulate in ticks, know the time | [`NetworkTick`], [`NetworkTime`] |
//! | send what a player does | [`CommandAppExt::register_command`], [`CommandSender`], [`CommandBuffer`] |
//! | send what a player sees | [`SnapshotAppExt::register_snapshot`], [`SnapshotSender`], [`ReceivedSnapshot`] |
//! | send raw bytes every tick | [`NetworkStreamDriver::send_command`], [`NetworkStreamDriver::send_snapshot`] |
//! | read them | [`IncomingCommandBuffer`], [`IncomingSnapshotBuffer`] |
//! | let game code decide who enters | [`NetworkStreamPlugin::with_approval`], [`ConnectionApproved`] |

#![forbid(unsafe_code)]

mod between;
mod command;
mod connection;
mod errors;
mod event;
mod facade;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod log;
mod plugin;
pub mod queue;
mod reconnect;
mod relocation;
mod request;
mod rpc;
mod session;
mod snapshot;
pub mod state;
mod stream;
mod systems;
mod tick;
mod time;
mod types;

pub use between::{NetworkRunnerPlugin, NetworkUpdate, update_network};
pub use command::{
    Command, CommandAppExt, CommandArrivals, CommandBuffer, CommandError, CommandOptions, CommandSender, MAX_COMMAND,
};
pub use connection::{
    ConnectionApproved, ConnectionCredentials, ConnectionIdentity, IncomingCommandBuffer, IncomingRpcBuffer,
    IncomingSnapshotBuffer, NetworkId, NetworkStreamConnection, NetworkStreamInGame, NetworkStreamIsReconnected,
    NetworkStreamRequestDisconnect, OutgoingRpcBuffer,
};
pub use errors::{
    ConnectionError, NetworkConnectError, NetworkListenError, NetworkSendError, StillConnected, UnknownDriver,
};
pub use event::{ConnectionEvent, DriverEvent};
pub use facade::{ConnectOptions, DriverConstructor, Listening, NetworkStreamDriver, ResetPolicy};
pub use limits::NetworkLimits;
pub use netstream_driver as driver;
pub use netstream_driver::transport;
pub use plugin::{AutoConnect, NetworkStreamPlugin, NetworkStreamSystems};
pub use reconnect::{NetworkStreamReconnect, ReconnectStatus};
pub use relocation::{InsertSessionError, NetworkSession};
pub use request::{NetworkStreamRequestConnect, NetworkStreamRequestListen, RequestFailed};
pub use rpc::{
    CallId, NetworkEntityMap, ReceivedRequest, ReceivedRpc, RequestError, Response, Rpc, RpcAppExt, RpcDirection,
    RpcEntityMap, RpcOptions, RpcOutcome, RpcPayload, RpcReceipt, RpcSender, entity_bits,
};
pub use session::{
    BanTarget, GameProtocol, NETSTREAM_PROTOCOL, ProtocolDiff, SameIdentity, SchemaPolicy, SessionCounters,
};
pub use snapshot::{
    ReceivedSnapshot, Snapshot, SnapshotAcks, SnapshotAppExt, SnapshotArrivals, SnapshotDelivery, SnapshotError,
    SnapshotOptions, SnapshotSender, SnapshotTargetSize, TickSnapshots, delta,
};
pub use state::{ConnectionState, Presence};
pub use tick::{Tick, TickRate};
pub use time::{NetworkTick, NetworkTime};
pub use types::RegisterError;

/// What most games need, in one line.
pub mod prelude {
    pub use crate::{
        CommandAppExt, CommandBuffer, CommandSender, NetworkRunnerPlugin, NetworkTick, NetworkTime, NetworkUpdate,
        ReceivedSnapshot, SnapshotAppExt, SnapshotOptions, SnapshotSender, Tick,
    };
    pub use crate::{
        ConnectOptions, ConnectionApproved, ConnectionCredentials, ConnectionEvent, ConnectionState, DriverEvent,
        GameProtocol, IncomingCommandBuffer, IncomingSnapshotBuffer, NetworkId, NetworkStreamConnection,
        NetworkStreamDriver, NetworkStreamInGame, NetworkStreamPlugin, NetworkStreamRequestDisconnect,
        NetworkStreamSystems, Presence, ReceivedRpc, RpcAppExt, RpcSender,
    };
    pub use netstream_driver::transport::{DisconnectCode, DisconnectReason, Origin, SharedBytes};
    pub use netstream_driver::{Endpoint, IpcHub};
}
