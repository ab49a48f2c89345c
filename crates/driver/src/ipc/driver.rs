//! The driver that joins Worlds of one process.

use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netstream_transport::channel::{ChannelTable, Side};
use netstream_transport::mutants::mutant;
use netstream_transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Mono, Now};

use super::IpcHub;
use super::hub::{Arrival, Listener, close};
use super::lane::{Batch, Lane, Pipe, Wake, lock};
use crate::slots::Slots;
use crate::{ConnectError, ConnectionStats, Credentials, Endpoint, ListenError, NetworkDriver, Scheme, SendError};

/// How many clients a listener has unless told otherwise, as on UDP.
const MAX_CONNECTIONS: usize = 256;

/// How long a client waits to be accepted, as on UDP.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The driver for `ipc://name`. It becomes a server by `listen` or a client by `connect`, whichever comes first.
///
/// The name `0` asks for any free one. A server takes 256 clients unless
/// [`with_max_connections`](Self::with_max_connections) says otherwise. The channels are those of a UDP connection unless
/// [`with_channels`](Self::with_channels) says otherwise; all of them keep the order of their messages.
///
/// Metrics: `connections`, `messages_sent_total`, `messages_received_total`, `unreliable_dropped_total` (the receiver did
/// not keep up), `reliable_refused_total` (answered with `QueueFull`), `refused_full_total` (clients turned away).
pub struct IpcDriver {
    hub: IpcHub,
    max_connections: usize,
    channels: ChannelTable,
    listening: Option<Listening>,
    role: Option<Role>,
    connections: Slots<Connection>,
    /// Connections with something to read.
    wake: Arc<Wake>,
    /// Clients whose server has not accepted them yet, with the moment at which they give up.
    waiting: Vec<(Mono, ConnectionId)>,
    /// What this side closed and has not reported yet.
    ended: Vec<(ConnectionId, DisconnectReason)>,
    spare_ids: Vec<ConnectionId>,
    spare_arrivals: Vec<Arrival>,
    spare_batch: Batch,
    counts: Counts,
}

#[derive(Debug)]
struct Listening {
    endpoint: Endpoint,
    name: String,
    listener: Arc<Listener>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

impl Role {
    fn side(self) -> Side {
        match self {
            Self::Server => Side::Server,
            Self::Client => Side::Client,
        }
    }
}

#[derive(Debug)]
struct Connection {
    pipe: Arc<Pipe>,
    /// The other end's list of connections with something to read.
    peer: Arc<Wake>,
    role: Role,
    established: bool,
    /// This side has closed it; only the report is missing.
    closing: bool,
    stats: ConnectionStats,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    received: u64,
    unreliable_dropped: u64,
    reliable_refused: u64,
    refused_full: u64,
}

impl Connection {
    fn inbound(&self) -> &Mutex<Lane> {
        match self.role {
            Role::Server => &self.pipe.to_server,
            Role::Client => &self.pipe.to_client,
        }
    }

    fn outbound(&self) -> &Mutex<Lane> {
        match self.role {
            Role::Server => &self.pipe.to_client,
            Role::Client => &self.pipe.to_server,
        }
    }

    /// Tells the other end why it is over, after everything that is queued.
    fn say_goodbye(&self, reason: &DisconnectReason) {
        if mutant(30) && self.role == Role::Server {
            return;
        }
        lock(self.inbound()).deaf = true;
        close(self.outbound(), &self.peer, reason.seen_by_peer());
    }
}

impl IpcDriver {
    /// A driver that meets others at `hub`.
    pub fn new(hub: &IpcHub) -> Self {
        Self {
            hub: hub.clone(),
            max_connections: MAX_CONNECTIONS,
            channels: ChannelTable::default(),
            listening: None,
            role: None,
            connections: Slots::new(),
            wake: Arc::default(),
            waiting: Vec::new(),
            ended: Vec::new(),
            spare_ids: Vec::new(),
            spare_arrivals: Vec::new(),
            spare_batch: Batch::default(),
            counts: Counts::default(),
        }
    }

    /// The same driver with room for `most` clients when it listens; further ones are refused with `ServerFull`.
    #[must_use]
    pub fn with_max_connections(mut self, most: usize) -> Self {
        self.max_connections = most;
        self
    }

    /// The same driver with these channels. Both ends need the same.
    #[must_use]
    pub fn with_channels(mut self, channels: ChannelTable) -> Self {
        self.channels = channels;
        self
    }

    fn accept_arrivals(&mut self, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Some(listening) = &self.listening else { return };
        let mut arrivals = std::mem::take(&mut self.spare_arrivals);
        listening.listener.take(&mut arrivals);
        for arrival in arrivals.drain(..) {
            self.accept(arrival, sink);
        }
        self.spare_arrivals = arrivals;
    }

    fn accept(&mut self, arrival: Arrival, sink: &mut dyn FnMut(Incoming<'_>)) {
        // Who has left again before being seen never was here.
        if lock(&arrival.pipe.to_server).closed.is_some() {
            return;
        }
        if self.connections.len() >= self.max_connections {
            self.counts.refused_full += 1;
            return arrival.refuse(DisconnectCode::ServerFull);
        }
        let Arrival { pipe, client } = arrival;
        let connection = Connection {
            pipe: pipe.clone(),
            peer: client.clone(),
            role: Role::Server,
            established: true,
            closing: false,
            stats: ConnectionStats::default(),
        };
        let Some(id) = self.connections.insert(connection) else { return };
        {
            let mut lane = lock(&pipe.to_server);
            lane.owner = Some(id);
            // It may have closed a moment ago, when there was no owner to wake.
            if lane.closed.is_some() && lane.signal().is_some() {
                self.wake.push(id);
            }
        }
        let owner = {
            let mut lane = lock(&pipe.to_client);
            lane.accepted = true;
            lane.signal()
        };
        if let Some(owner) = owner {
            client.push(owner);
        }
        sink(Incoming::Accepted { connection: id, address: None, identity: None });
    }

    fn read(&mut self, id: ConnectionId, batch: &mut Batch, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let (accepted, closed) = {
            let mut lane = lock(connection.inbound());
            lane.take(batch);
            (lane.accepted, lane.closed.take())
        };
        if connection.closing {
            batch.clear();
            return;
        }
        if accepted && !connection.established {
            connection.established = true;
            sink(Incoming::Connected { connection: id });
        }
        connection.stats.packets_received += batch.len() as u64;
        connection.stats.bytes_received += batch.byte_len() as u64;
        self.counts.received += batch.len() as u64;
        for (channel, bytes) in batch.messages() {
            sink(Incoming::Message { connection: id, channel, bytes });
        }
        batch.clear();
        if let Some(reason) = closed {
            self.connections.remove(id);
            sink(Incoming::Disconnected { connection: id, reason });
        }
    }

    fn give_up(&mut self, now: Mono, sink: &mut dyn FnMut(Incoming<'_>)) {
        let Self { waiting, connections, .. } = self;
        waiting.retain(|(deadline, id)| {
            let Some(connection) = connections.get(*id) else { return false };
            if connection.established || connection.closing {
                return false;
            }
            if *deadline > now {
                return true;
            }
            connection.say_goodbye(&DisconnectReason::local(DisconnectCode::ConnectionClose));
            connections.remove(*id);
            let reason = DisconnectReason::link(DisconnectCode::MaxConnectionAttempts);
            sink(Incoming::Disconnected { connection: *id, reason });
            false
        });
    }
}

impl NetworkDriver for IpcDriver {
    fn scheme(&self) -> &'static str {
        Scheme::Ipc.as_str()
    }

    fn listen(&mut self, _now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        if let Some(listening) = &self.listening {
            return Err(ListenError::AlreadyListening(listening.endpoint.clone()));
        }
        let (Scheme::Ipc, Some(name)) = (endpoint.scheme(), endpoint.name()) else {
            return Err(ListenError::WrongScheme { endpoint: endpoint.clone(), scheme: self.scheme() });
        };
        if self.role == Some(Role::Client) && self.connections.len() > 0 {
            return Err(ListenError::UsedAsClient);
        }
        let listener = Arc::new(Listener::new(self.wake.clone()));
        let Some(name) = self.hub.enter(name, &listener) else {
            return Err(ListenError::AddressInUse(endpoint.clone()));
        };
        let bound = Endpoint::ipc(&name).expect("the name was parsed, or is a number");
        self.role = Some(Role::Server);
        self.listening = Some(Listening { endpoint: bound.clone(), name, listener });
        Ok(bound)
    }

    fn stop_listening(&mut self, _now: Now) {
        if let Some(listening) = self.listening.take() {
            self.hub.leave(&listening.name);
        }
    }

    fn listening(&self) -> Option<Endpoint> {
        self.listening.as_ref().map(|listening| listening.endpoint.clone())
    }

    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        _credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        let (Scheme::Ipc, Some(name)) = (endpoint.scheme(), endpoint.name()) else {
            return Err(ConnectError::WrongScheme { endpoint: endpoint.clone(), scheme: self.scheme() });
        };
        if self.listening.is_some() || (self.role == Some(Role::Server) && self.connections.len() > 0) {
            return Err(ConnectError::UsedAsServer);
        }
        if self.connections.len() > self.ended.len() {
            return Err(ConnectError::AlreadyConnected);
        }
        let nobody = || ConnectError::NobodyListens(endpoint.clone());
        let listener = self.hub.find(name).ok_or_else(nobody)?;
        let pipe = Arc::new(Pipe { to_client: Mutex::default(), to_server: Mutex::default() });
        let connection = Connection {
            pipe: pipe.clone(),
            peer: listener.wake.clone(),
            role: Role::Client,
            established: false,
            closing: false,
            stats: ConnectionStats::default(),
        };
        let id = self.connections.insert(connection).expect("a client has few connections");
        lock(&pipe.to_client).owner = Some(id);
        if !listener.join(Arrival { pipe, client: self.wake.clone() }) {
            self.connections.remove(id);
            return Err(nobody());
        }
        self.role = Some(Role::Client);
        self.waiting.push((now.mono + CONNECT_TIMEOUT, id));
        Ok(id)
    }

    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.accept_arrivals(sink);
        let mut ids = std::mem::take(&mut self.spare_ids);
        let mut batch = std::mem::take(&mut self.spare_batch);
        self.wake.take(&mut ids);
        for id in ids.drain(..) {
            self.read(id, &mut batch, sink);
        }
        self.spare_ids = ids;
        self.spare_batch = batch;
        for (id, reason) in self.ended.drain(..) {
            self.connections.remove(id);
            sink(Incoming::Disconnected { connection: id, reason });
        }
        if !self.waiting.is_empty() {
            self.give_up(now.mono, sink);
        }
    }

    fn send(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        let size = message.len();
        let declared = self.channels.get(channel);
        let connection = self.connections.get_mut(connection).ok_or(SendError::NotConnected)?;
        if connection.closing {
            return Err(SendError::NotConnected);
        }
        if !connection.established {
            return Err(SendError::NotReady);
        }
        let declared = declared.ok_or(SendError::UnknownChannel(channel))?;
        let limit = declared.max_message(connection.role.side());
        if size > limit {
            return Err(SendError::TooLarge { size, limit });
        }
        let owner = {
            let mut lane = lock(connection.outbound());
            let reliable = declared.kind.is_reliable();
            if !lane.deaf && !lane.batch.push(channel, reliable, message) {
                if reliable {
                    self.counts.reliable_refused += 1;
                    return Err(SendError::QueueFull);
                }
                self.counts.unreliable_dropped += 1;
                return Ok(());
            }
            lane.signal()
        };
        if let Some(owner) = owner {
            connection.peer.push(owner);
        }
        connection.stats.packets_sent += 1;
        connection.stats.bytes_sent += message.len() as u64;
        self.counts.sent += 1;
        Ok(())
    }

    fn flush(&mut self, _now: Now) {
        // A message is where the peer finds it as soon as it is sent.
    }

    fn disconnect(&mut self, _now: Now, connection: ConnectionId, reason: &DisconnectReason, _linger: Duration) {
        let id = connection;
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.closing) else { return };
        // What is queued is out of our hands and in front of the reason: there is nothing to linger for.
        connection.closing = true;
        connection.say_goodbye(reason);
        self.ended.push((id, reason.clone()));
    }

    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        let connection = self.connections.get(connection)?;
        let reliable_queued = lock(connection.outbound()).batch.reliable_bytes();
        Some(ConnectionStats { reliable_queued, ..connection.stats })
    }

    fn channels(&self) -> &ChannelTable {
        &self.channels
    }

    fn max_message(&self, channel: ChannelId) -> usize {
        let side = self.role.unwrap_or(Role::Client).side();
        self.channels.get(channel).map_or(0, |channel| channel.max_message(side))
    }

    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        report("connections", self.connections.len() as u64);
        report("messages_sent_total", self.counts.sent);
        report("messages_received_total", self.counts.received);
        report("unreliable_dropped_total", self.counts.unreliable_dropped);
        report("reliable_refused_total", self.counts.reliable_refused);
        report("refused_full_total", self.counts.refused_full);
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Drop for IpcDriver {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            self.hub.leave(&listening.name);
        }
        for connection in self.connections.drain() {
            if !connection.closing {
                connection.say_goodbye(&farewell(connection.role));
            }
        }
    }
}

/// What the peers of a dropped driver read.
fn farewell(role: Role) -> DisconnectReason {
    DisconnectReason::local(match role {
        Role::Server => DisconnectCode::ServerShutdown,
        Role::Client => DisconnectCode::ConnectionClose,
    })
}
