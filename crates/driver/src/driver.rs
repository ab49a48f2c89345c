//! The contract between a driver and everything above it.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::channel::ChannelTable;
use netstream_transport::{ChannelId, ConnectionId, DisconnectReason, Incoming, Now, SharedBytes};

use crate::Endpoint;
use crate::link::LinkSimulator;

/// Names one driver of a [`NetworkDriverStore`](crate::NetworkDriverStore). Generational: an id kept after the removal
/// of its driver names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DriverId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl DriverId {
    /// The slot, dense from 0: small tables may be indexed by it. Two drivers may have the same one, one after the
    /// other.
    pub fn index(self) -> u32 {
        self.index
    }
}

impl std::fmt::Display for DriverId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}v{}", self.index, self.generation)
    }
}

/// Names one connection of a World for all time: no two connections, of whatever drivers, ever share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey {
    /// The driver that carries it.
    pub driver: DriverId,
    /// Its id there.
    pub connection: ConnectionId,
}

/// A way for messages to travel: sockets, a queue between threads, a relay.
///
/// The calling order of one update is
///
/// 1. [`receive`](Self::receive): takes in everything that has arrived, lets every due timer act, and reports to the
///    sink;
/// 2. any number of [`send`](Self::send), [`connect`](Self::connect), [`disconnect`](Self::disconnect), ...;
/// 3. [`flush`](Self::flush): what was queued leaves, in as few system calls as the driver can.
///
/// `receive` and `flush` may be called any number of times an update. A driver that is never received from makes no
/// progress, and its peers will see a timeout, unless it [works alone](Self::works_alone).
///
/// A driver reports of each connection what [`Incoming`] promises, and nothing after `Disconnected`. Dropping a driver
/// says goodbye on all its connections as far as one non-blocking attempt can.
///
/// Every driver offers the channels [`ChannelId::UNRELIABLE`], [`ChannelId::RELIABLE`] and
/// [`ChannelId::UNRELIABLE_FRAGMENTED`]. Everything that a peer can make grow is bounded.
pub trait NetworkDriver: Send + Sync + 'static {
    /// The scheme of the endpoints that this driver understands, e.g. `"udp"`.
    fn scheme(&self) -> &'static str;

    /// Starts to accept connections at `endpoint` and returns the endpoint that was really bound (port 0 asks for any
    /// free one). After an error nothing is open.
    fn listen(&mut self, now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError>;

    /// Accepts nobody new from now on; those who are connected stay.
    fn stop_listening(&mut self, now: Now);

    /// Where this driver listens; `None` while it does not.
    fn listening(&self) -> Option<Endpoint>;

    /// Starts to reach for a server. The outcome is reported as `Connected` or `Disconnected`.
    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError>;

    /// Takes in what has arrived and lets timers act.
    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>));

    /// Queues one whole message. Copies it; the slice is free afterwards.
    fn send(&mut self, now: Now, connection: ConnectionId, channel: ChannelId, message: &[u8])
    -> Result<(), SendError>;

    /// The same with a message that the caller does not need any more: a driver may take its memory over instead of
    /// copying it. It is empty afterwards, and untouched after an error.
    fn send_owned(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        self.send(now, connection, channel, message)?;
        message.clear();
        Ok(())
    }

    /// The same with a message that is `head` and behind it `body`, which others may get, too: a driver may keep `body` until
    /// all of it has left, instead of copying it.
    fn send_shared(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        self.send(now, connection, channel, &[head, body].concat())
    }

    /// Lets everything leave that is queued and may leave.
    fn flush(&mut self, now: Now);

    /// Ends a connection: reliable data that is queued already is delivered first, for at most `linger`; then the
    /// reason travels and `Disconnected` is reported with it (origin Local). Unknown or ended connections are ignored.
    fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration);

    /// Whether nothing is left to do for connections that are over. Until then it may still have to repeat a goodbye, or
    /// to acknowledge the peer's: whoever drops it earlier leaves the peer lingering.
    fn is_idle(&self) -> bool {
        true
    }

    /// Whether its connections stay up while nobody calls `receive` and `flush`.
    fn works_alone(&self) -> bool {
        false
    }

    /// Figures of one connection; `None` if it is unknown.
    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats>;

    /// The largest message that `channel` takes now, in bytes; 0 for a channel that does not exist.
    fn max_message(&self, channel: ChannelId) -> usize;

    /// The channels of its connections. Both ends must have the same: the layer above compares them.
    fn channels(&self) -> &ChannelTable;

    /// The driver's own figures as (name, value): counters ending in `_total`, gauges otherwise. The names are
    /// documented with the driver; the set does not change while it lives.
    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        let _ = report;
    }

    /// Where a driver that has packets of its own lets them be lost, delayed and doubled, beneath its protocol.
    /// [`Simulated`](crate::link::Simulated) uses it where it exists and acts on messages elsewhere.
    fn packet_simulator(&mut self) -> Option<&mut LinkSimulator> {
        None
    }

    /// For reaching what only this kind of driver has, e.g. a UDP driver's join code.
    fn as_any(&self) -> &dyn Any;

    /// For changing what only this kind of driver has.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// What a client shows the driver's server. Drivers without tokens (in-process) ignore it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nothing; enough in-process.
    #[default]
    None,
    /// A join code: whoever has it may enter.
    JoinCode(netstream_transport::netcode::JoinCode),
    /// A connect token that a back-end issued for this player.
    Token(Box<netstream_transport::netcode::ConnectToken>),
}

/// Figures of one connection, since it exists.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// Where the peer is; `None` in-process.
    pub remote: Option<SocketAddr>,
    /// Smoothed round-trip time, without the peer's tick; `None` before the first sample, and in-process, where nothing is
    /// acknowledged.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time; `None` where that is.
    pub jitter: Option<Duration>,
    /// Share of our packets that were lost lately, 0 to 1.
    pub loss: f32,
    /// Packets that left.
    pub packets_sent: u64,
    /// Packets that arrived and were accepted.
    pub packets_received: u64,
    /// Bytes that left: messages and the headers of the channels, without what sealing adds (UDP: about 25 bytes a
    /// packet).
    pub bytes_sent: u64,
    /// Bytes that arrived and were accepted, counted in the same way.
    pub bytes_received: u64,
    /// Bytes of reliable messages that wait for their first departure or their acknowledgement.
    pub reliable_queued: usize,
    /// The largest datagram that leaves at present, in bytes of UDP payload: 1200, or what was found out to fit the path
    /// where that was asked for (`UdpConfig::with_max_datagram`). 0 in-process.
    pub max_datagram: usize,
}

/// Why a driver does not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// It listens already.
    #[error("this driver listens at {0} already; stop_listening first, or add a second driver")]
    AlreadyListening(Endpoint),
    /// The driver has connections that it made as a client.
    #[error("this driver is used as a client; add another driver to listen with")]
    UsedAsClient,
    /// Someone else has the port or name.
    #[error("{0} is taken; choose another port or name, or stop the program that has it")]
    AddressInUse(Endpoint),
    /// The endpoint is for another driver.
    #[error("{endpoint} does not fit the driver for {scheme}://; use an endpoint of that scheme")]
    WrongScheme {
        /// The offending endpoint.
        endpoint: Endpoint,
        /// What the driver understands.
        scheme: &'static str,
    },
    /// The endpoint's host is not an address of this machine, or cannot be resolved.
    #[error("cannot listen at {endpoint}: {source}; use an address of this machine, 0.0.0.0 or [::]")]
    Io {
        /// The offending endpoint.
        endpoint: Endpoint,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// This driver cannot be a server.
    #[error("the driver for {0}:// cannot listen")]
    Unsupported(&'static str),
}

/// Why a driver does not even try to connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The driver listens.
    #[error("this driver listens; add another driver to connect with")]
    UsedAsServer,
    /// The driver has a connection already.
    #[error("already connected; disconnect first")]
    AlreadyConnected,
    /// The endpoint is for another driver.
    #[error("{endpoint} does not fit the driver for {scheme}://; use an endpoint of that scheme")]
    WrongScheme {
        /// The offending endpoint.
        endpoint: Endpoint,
        /// What the driver understands.
        scheme: &'static str,
    },
    /// The endpoint cannot be dialled.
    #[error("cannot connect to {0}: a port from 1 to 65535 is needed")]
    NoPort(Endpoint),
    /// The endpoint pins a server key, which this driver cannot check.
    #[error("{0} names a fingerprint, which this driver cannot check; remove what follows the '#'")]
    FingerprintUnsupported(Endpoint),
    /// The endpoint needs credentials of another kind.
    #[error("{0} needs a join code or a connect token; pass the one that the server printed or the back-end issued")]
    CredentialsNeeded(Endpoint),
    /// The token has expired, names no usable address, or is otherwise of no use.
    #[error("the connect token cannot be used: {0}")]
    BadToken(String),
    /// Nobody listens in-process under this name.
    #[error("nobody listens at {0} in this process; start the server World first and share its IpcHub")]
    NobodyListens(Endpoint),
    /// The operating system refused.
    #[error("cannot open a socket for {endpoint}: {source}")]
    Io {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the operating system said.
        source: std::io::Error,
    },
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection is unknown or over.
    #[error("the connection is over")]
    NotConnected,
    /// The link is not up yet.
    #[error("the connection is not established yet")]
    NotReady,
    /// The driver has no such channel.
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
    /// The reliable queue of this connection is full; nothing was lost. Try again when the peer has taken some.
    #[error("the send queue of this connection is full; try again later")]
    QueueFull,
}
