//! Every cap of the transport in one place.

use std::time::Duration;

/// The caps on everything that a peer or a stranger can make grow, with defaults for a server on the open internet.
///
/// All of them can be changed while connections are up ([`Server::set_limits`](crate::Server::set_limits)); what is over
/// a new, smaller cap ends by itself. A default is raised for a reason: each comes with a cost that is proportional to
/// it. Each is counted where it acts ([`Server::metrics`](crate::Server::metrics)); `docs/channels.md` has the table.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    // Server: connections.
    //
    /// Connections at once: 1 to 16 384. Default 256.
    pub connections: usize,
    /// Silence after which a connection ends. The smaller of this and the token's timeout is in force. Default 10 s.
    pub idle_timeout: Duration,
    /// Time without sending after which a keep-alive leaves. Default 500 ms: nineteen in a row may be lost before the
    /// other end gives up.
    pub keep_alive: Duration,
    /// Packets that a connection may send us, per second. Default 240.
    pub inbound_packets: u32,
    /// Packets that may arrive at once after a pause. Default 64.
    pub inbound_packet_burst: u32,
    /// Bytes that a connection may send us, per second. Default 256 KiB.
    pub inbound_bytes: u32,
    /// Bytes that may arrive at once after a pause. Default 80 KiB, the packet burst in full datagrams.
    pub inbound_byte_burst: u32,
    /// How long a connection may be over its rate before it ends with `Flood`. Default 10 s.
    pub flood_after: Duration,
    /// Forgeries per connection and tick that are looked at; what is over is dropped unread. Default 256.
    pub forgeries_per_tick: u32,

    // Server: handshakes.
    //
    /// Handshakes under way at once; 400 bytes each, allocated at the start. Default 1024.
    pub pending_handshakes: usize,
    /// Handshakes of one token that a full table keeps: a token that has more gives up its own oldest for its next. It may
    /// be under way from many addresses if somebody copies its requests. Default 4.
    pub addresses_per_token: usize,
    /// Tokens that may be under way at one address. Default 4.
    pub tokens_per_address: usize,
    /// Used tokens that are remembered until they expire; 40 bytes each, allocated at the start. At the default token
    /// lifetime of 45 s the default of 8192 suffices for 182 joins per second; where players issue their own tokens from
    /// a join code, whose clocks may be off, each is remembered ten minutes longer, and it suffices for 12.
    pub consumed_tokens: usize,
    /// Tokens that are decrypted, per second. Default 20 000, a few hundredths of a core.
    pub token_opens: u32,
    /// Packets of strangers that get as far as decryption, per tick. Default 4096.
    pub unauthenticated_packets: u32,
    /// Replies to unproven addresses, per second. Default 5000.
    pub replies: u32,
    /// Replies to unproven addresses of one network (/24, IPv6 /56), per second. Loopback is exempt: nobody can feign
    /// it from outside. Default 20.
    pub replies_per_network: u32,
    /// Joins of one identity in [`identity_window`](Self::identity_window). Default 5.
    pub identity_joins: u32,
    /// See [`identity_joins`](Self::identity_joins). Default 10 s.
    pub identity_window: Duration,

    // Every connection: channels. `channel::ChannelConfig` has what is different from channel to channel: the largest
    // message, which is part of the protocol, and the budget of the send queue.
    //
    /// Bytes of reliable ordered data per channel that the peer may send ahead of what the application has taken: kept
    /// to 64 KiB (what a peer may assume before it is told) to 4 MiB. Default 64 KiB, of a client 1 MiB. Costs heap: as
    /// much and an eighth per channel, if the peer wishes.
    pub receive_window: usize,
    /// Unreliable messages that may be incomplete at a time, all channels together; over it the oldest of the least
    /// priority gives way. Default 4, of a client 8.
    pub reassembly_messages: usize,
    /// Bytes of incomplete unreliable messages, all channels together; over it as above. Default 64 KiB, of a client
    /// 1 MiB.
    pub reassembly_bytes: usize,
    /// How long an unreliable message may be incomplete. Default 500 ms.
    pub reassembly_timeout: Duration,
    /// How long reliable data may make no progress before the connection ends with `SlowConsumer`. Default 10 s.
    pub slow_consumer: Duration,
    /// Bytes of datagrams that leave on all connections of a server together, per second. Acknowledgements and goodbyes
    /// are counted, but never wait; of the rest game traffic (unreliable channels) of all connections leaves first, then
    /// one packet of each in turn. `None`, the default, sets no cap.
    pub server_bandwidth: Option<u64>,
    /// Bytes of packet bodies that leave on one connection, per second; what is not game traffic waits. `None`, the
    /// default, leaves it to congestion control.
    pub bandwidth: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            idle_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_millis(500),
            inbound_packets: 240,
            inbound_packet_burst: 64,
            inbound_bytes: 256 * 1024,
            inbound_byte_burst: 80 * 1024,
            flood_after: Duration::from_secs(10),
            forgeries_per_tick: 256,

            pending_handshakes: 1024,
            addresses_per_token: 4,
            tokens_per_address: 4,
            consumed_tokens: 8192,
            token_opens: 20_000,
            unauthenticated_packets: 4096,
            replies: 5000,
            replies_per_network: 20,
            identity_joins: 5,
            identity_window: Duration::from_secs(10),

            receive_window: 64 << 10,
            reassembly_messages: 4,
            reassembly_bytes: 64 << 10,
            reassembly_timeout: Duration::from_millis(500),
            slow_consumer: Duration::from_secs(10),
            server_bandwidth: None,
            bandwidth: None,
        }
    }
}

impl Limits {
    /// The defaults of a server, which has many peers and gives each of them little room.
    pub fn server() -> Self {
        Self::default()
    }

    /// The defaults of a client: its only peer sends it snapshots and large messages.
    pub fn client() -> Self {
        Self { receive_window: 1 << 20, reassembly_messages: 8, reassembly_bytes: 1 << 20, ..Self::default() }
    }
}
