//! Everything above the drivers that a peer or a careless application could make grow, and where it ends.

use std::time::Duration;

/// Caps and deadlines of one World's connections. The drivers have theirs in
/// [`transport::limits`](netstream_driver::transport::limits).
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkLimits {
    /// Handshake and ProtocolValidation together may take this long, on both ends. Then: `HandshakeTimeout`.
    pub handshake: Duration,
    /// The server's game code may take this long to decide, on both ends; it can extend. Then: `ApprovalTimeout`.
    pub approval: Duration,
    /// How long queued reliable data and the goodbye may take to be delivered after a local close.
    pub linger: Duration,
    /// A `NetworkId` that was freed rests this long before it is allotted again, unless all others are used.
    pub id_quarantine: Duration,
    /// Connections of this World, all drivers together. One more is refused with `ServerFull`. Each driver has a cap of its
    /// own, 256 unless it is configured otherwise
    /// ([`UdpConfig::limits`](netstream_driver::udp::UdpConfig), [`IpcDriver::with_max_connections`](netstream_driver::IpcDriver::with_max_connections)).
    pub connections: usize,
    /// Connections that wait for approval. One more is refused with `ServerFull`.
    pub awaiting_approval: usize,
    /// Messages that a peer may send before it is Connected. One more is a `ProtocolViolation`.
    pub early_messages: u32,
    /// Bytes that a peer may send before it is Connected. One more is a `ProtocolViolation`.
    pub early_bytes: u32,
    /// Received RPCs of one connection that wait to be dispatched. One more ends it with `Flood`.
    pub incoming_rpcs: usize,
    /// Bytes of received RPCs of one connection that wait to be dispatched. One more ends it with `Flood`.
    pub incoming_rpc_bytes: usize,
    /// Bytes of RPCs of one connection that wait to be handed to its driver. One more is refused with `BufferFull`.
    pub outgoing_rpc_bytes: usize,
    /// RPCs of one connection that are held until it is Connected. One more is refused with `TooManyHeld`. Their bytes
    /// count towards `outgoing_rpc_bytes`.
    pub held_rpcs: usize,
    /// Received commands, or snapshots, of one connection that wait to be read. One more drops the oldest.
    pub incoming_data: usize,
    /// Bytes of received commands, or snapshots, that wait to be read. More drops the oldest.
    pub incoming_data_bytes: usize,
    /// Bytes of credentials in a connect call, at most 4096.
    pub credentials: usize,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            approval: Duration::from_secs(30),
            linger: Duration::from_secs(1),
            id_quarantine: Duration::from_secs(60),
            connections: 16_384,
            awaiting_approval: 64,
            early_messages: 16,
            early_bytes: 8 * 1024,
            incoming_rpcs: 16_384,
            incoming_rpc_bytes: 4 * 1024 * 1024,
            outgoing_rpc_bytes: 1024 * 1024,
            held_rpcs: 256,
            incoming_data: 96,
            incoming_data_bytes: 1024 * 1024,
            credentials: 4096,
        }
    }
}
