//! The UDP driver, without the question which thread it works on.

mod client;
mod due;

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::channel::ChannelTable;
use netstream_transport::channel::{self, LinkStats, Side};
use netstream_transport::netcode::{self, Counter};
use netstream_transport::{
    ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Limits, LinkTotals, Mono, Now, Random, Server,
    ServerConfig, SharedBytes,
};

use self::client::{Dialled, RESOLVE_TIMEOUT, Stage, bury, part};
use super::config::{Access, UdpConfig};
use super::dial::{self, StartFailure, Target};
use super::port::{Budget, Port};
use super::socket::{Arrival, DatagramSocket as _, Network, SocketStats};
use crate::link::LinkSimulator;
use crate::slots::Slots;
use crate::{
    ConnectError, ConnectionStats, Credentials, Endpoint, Host, ListenError, NetworkDriver, Scheme, SendError,
};

/// Sockets and the protocol on them, worked by whoever calls. Its user is [`UdpDriver`](super::UdpDriver), which says what
/// it does.
pub(super) struct Engine<N: Network> {
    network: N,
    config: UdpConfig,
    random: Box<dyn Random>,
    server: Option<Listening<N::Socket>>,
    clients: Vec<Dialled<N::Socket>>,
    /// Allots the ids of `clients`, and knows which generations earlier servers of this driver have used.
    ids: Slots<()>,
    /// Ends that could not be reported when they came.
    ended: VecDeque<(ConnectionId, DisconnectReason)>,
    simulator: Option<Box<LinkSimulator>>,
    /// The figures of sockets that are gone.
    past: SocketStats,
    /// The number of the next socket.
    next_number: u64,
    /// What arrives stays in the kernel for now.
    deaf: bool,
    /// The latest time that we were told; what is said when the driver is dropped is said then.
    now: Now,
}

#[derive(Debug)]
struct Listening<S> {
    port: Port<S>,
    server: Server,
    endpoint: Endpoint,
    accepting: bool,
}

impl<N: Network> Engine<N> {
    /// A driver on any network, whose secrets come from `random`: for simulations. Outside of them `random` must be fit
    /// for keys.
    pub(super) fn new(network: N, config: UdpConfig, random: Box<dyn Random>) -> Self {
        Self {
            network,
            config,
            random,
            server: None,
            clients: Vec::new(),
            ids: Slots::new(),
            ended: VecDeque::new(),
            simulator: None,
            past: SocketStats::default(),
            next_number: 0,
            deaf: false,
            now: Now::default(),
        }
    }

    /// The settings. Those that concern how connections begin apply to the next one.
    pub(super) fn config(&self) -> &UdpConfig {
        &self.config
    }

    /// For changing the settings. They apply to the next `listen` or `connect`; [`set_limits`](Self::set_limits) and
    /// [`keys_mut`](Self::keys_mut) change what is up already.
    pub(super) fn config_mut(&mut self) -> &mut UdpConfig {
        &mut self.config
    }

    /// Changes the limits in force while this driver listens, for new and old connections.
    pub(super) fn set_limits(&mut self, limits: Limits) {
        if let Some(listening) = &mut self.server {
            listening.server.set_limits(limits.clone());
        }
        self.config.limits = limits;
    }

    /// The same for the connections that this driver made as a client.
    pub(super) fn set_client_limits(&mut self, limits: Limits) {
        for dialled in &mut self.clients {
            if let Stage::Up { client, .. } = &mut dialled.stage {
                client.set_limits(limits.clone());
            }
        }
        self.config.client_limits = limits;
    }

    /// The keys of the server that is up, for rotation. The key ring in [`UdpConfig`] is where the next server starts
    /// from.
    pub(super) fn keys_mut(&mut self) -> Option<&mut netcode::KeyRing> {
        self.server.as_mut().map(|listening| listening.server.keys_mut())
    }

    /// What the sockets of this driver did and met, all together, since the driver was made.
    pub(super) fn socket_stats(&self) -> SocketStats {
        let mut all = self.past;
        let server = self.server.iter().map(|listening| &listening.port);
        let clients = self.clients.iter().filter_map(|dialled| match &dialled.stage {
            Stage::Up { port, .. } => Some(port),
            Stage::Resolving { .. } => None,
        });
        for port in server.chain(clients) {
            all.add(&port.stats());
        }
        all
    }

    pub(super) fn draw_seed(&mut self) -> u64 {
        self.random.u64()
    }

    /// The simulated link, if there ever was one.
    pub(super) fn simulator(&self) -> Option<&LinkSimulator> {
        self.simulator.as_deref()
    }

    /// The protocol machine of the server that is up, for figures that only it has.
    pub(super) fn server(&self) -> Option<&Server> {
        self.server.as_ref().map(|listening| &listening.server)
    }

    fn budget(&self) -> Budget {
        let UdpConfig { receive_budget, stranger_budget, .. } = self.config;
        Budget { time: N::REAL_TIME.then_some(receive_budget), strangers: stranger_budget }
    }

    fn side(&self) -> Side {
        if self.server.is_some() { Side::Server } else { Side::Client }
    }

    /// Whether anybody would notice if this driver stopped being a server.
    fn serves(&self) -> bool {
        self.server.as_ref().is_some_and(|listening| listening.accepting || listening.server.connections() > 0)
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn bind_server(&mut self, endpoint: &Endpoint) -> io::Result<N::Socket> {
        let port = endpoint.port().unwrap_or(0);
        let ips = match endpoint.host() {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self.network.resolve(name)?,
        };
        let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for ip in ips {
            match self.network.bind(SocketAddr::new(ip, port), self.config.server_buffers) {
                Ok(socket) => return Ok(socket),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn receive_as_server(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        let budget = self.budget();
        let Self { server: Some(Listening { port, server, .. }), simulator, deaf, .. } = self else { return };
        let mut handle = |arrival: Arrival<'_>, spent: bool| {
            if spent {
                server.spend_on_strangers();
            }
            let strangers = server.strangers();
            match arrival {
                Arrival::Coming(from) => server.expect(from),
                Arrival::Datagram(from, datagram) => server.handle_datagram(now, from, datagram, sink),
            }
            server.strangers() == strangers
        };
        if !*deaf {
            port.receive(now.mono, simulator.as_deref_mut(), budget, &mut handle);
        }
        if let Some(simulator) = simulator {
            simulator.incoming.poll(now.mono, &mut |route, datagram| {
                if route.socket == port.number() {
                    handle(Arrival::Datagram(route.peer, datagram), false);
                }
            });
        }
        server.tick(now, sink);
    }

    /// Gives the socket of a server without connections up.
    fn close_server(&mut self) {
        if let Some(Listening { port, server, .. }) = self.server.take() {
            self.ids.start_at(server.unused_generation());
            bury(&mut self.past, &port);
        }
    }
}

/// Sends through a socket that will be gone afterwards. A simulated link loses what it loses, but delays nothing.
fn send_last<S: super::DatagramSocket>(
    port: &mut Port<S>,
    now: Now,
    mut simulator: Option<&mut LinkSimulator>,
    poll: &mut dyn FnMut(&mut [u8]) -> Option<netstream_transport::Transmit>,
) {
    port.send(now.mono, simulator.as_deref_mut(), poll);
    if let Some(simulator) = simulator {
        let number = port.number();
        simulator.outgoing.poll(Mono::from_nanos(u64::MAX), &mut |route, datagram| {
            if route.socket == number {
                port.forward(route.peer, datagram);
            }
        });
    }
    port.flush();
}

impl<N: Network> NetworkDriver for Engine<N> {
    fn scheme(&self) -> &'static str {
        Scheme::Udp.as_str()
    }

    fn listen(&mut self, now: Now, endpoint: &Endpoint) -> Result<Endpoint, ListenError> {
        self.now = now;
        if let Some(listening) = &self.server
            && listening.accepting
        {
            return Err(ListenError::AlreadyListening(listening.endpoint.clone()));
        }
        if endpoint.scheme() != Scheme::Udp {
            return Err(ListenError::WrongScheme { endpoint: endpoint.clone(), scheme: self.scheme() });
        }
        if !self.clients.is_empty() {
            return Err(ListenError::UsedAsClient);
        }
        if let Some(listening) = &mut self.server
            && listening.server.connections() > 0
        {
            // One socket per driver: with connections on it, it cannot move.
            if *endpoint != listening.endpoint {
                return Err(ListenError::AlreadyListening(listening.endpoint.clone()));
            }
            listening.accepting = true;
            listening.server.set_accepting(true);
            return Ok(listening.endpoint.clone());
        }
        self.close_server();
        let socket = self.bind_server(endpoint).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::AddressInUse(endpoint.clone()),
            _ => ListenError::Io { endpoint: endpoint.clone(), source },
        })?;
        let number = self.number();
        let local = socket.local_addr();
        let endpoint = match endpoint.host() {
            Host::Name(_) => endpoint.clone().with_port(local.port()),
            Host::Ip(_) => Endpoint::udp(local),
        };
        let config = &self.config;
        let mut addresses = config.addresses.clone();
        if addresses.is_empty() && matches!(config.access, Access::Tokens(_)) && !local.ip().is_unspecified() {
            addresses.push(local);
        }
        let netcode = netcode::ServerConfig {
            addresses,
            identities: config.identities,
            token_lifetime: config.token_lifetime,
            first_generation: self.ids.unused_generation(),
            ..netcode::ServerConfig::new(config.key_ring())
        };
        let link = config.link_through(&socket, Side::Server);
        let config = ServerConfig { netcode, link, limits: config.limits.clone() };
        let server = Server::new(config, &mut self.random, now);
        let port = Port::new(socket, number, server.max_body());
        self.server = Some(Listening { port, server, endpoint: endpoint.clone(), accepting: true });
        Ok(endpoint)
    }

    fn stop_listening(&mut self, now: Now) {
        self.now = now;
        if let Some(listening) = &mut self.server {
            listening.accepting = false;
            listening.server.set_accepting(false);
        }
    }

    fn listening(&self) -> Option<Endpoint> {
        self.server.as_ref().filter(|listening| listening.accepting).map(|listening| listening.endpoint.clone())
    }

    fn connect(
        &mut self,
        now: Now,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> Result<ConnectionId, ConnectError> {
        self.now = now;
        if endpoint.scheme() != Scheme::Udp {
            return Err(ConnectError::WrongScheme { endpoint: endpoint.clone(), scheme: self.scheme() });
        }
        if endpoint.fragment().is_some() {
            return Err(ConnectError::FingerprintUnsupported(endpoint.clone()));
        }
        if self.serves() {
            return Err(ConnectError::UsedAsServer);
        }
        let ending = |dialled: &Dialled<_>| matches!(&dialled.stage, Stage::Up { client, .. } if client.is_ending());
        if !self.clients.iter().all(ending) {
            return Err(ConnectError::AlreadyConnected);
        }
        let shown = dial::shown(&self.config, endpoint, credentials)?;
        let target = dial::target(endpoint, matches!(credentials, Credentials::Token(_)))?;
        self.close_server();
        self.make_room(now);
        let id = self.ids.insert(()).expect("a client has few connections");
        match target {
            Target::Addresses(addresses) => {
                if let Err(failure) = self.start(now, id, shown, addresses) {
                    self.ids.remove(id);
                    return Err(match failure {
                        StartFailure::Socket(source) => ConnectError::Io { endpoint: endpoint.clone(), source },
                        StartFailure::Credentials(error) => ConnectError::BadToken(error.to_string()),
                    });
                }
            }
            Target::Name(name, port) => {
                let answer = dial::look_up(&self.network, name);
                let deadline = now.mono + RESOLVE_TIMEOUT;
                let stage = Stage::Resolving { answer, port, shown: Box::new(shown), deadline };
                self.clients.push(Dialled { id, stage });
            }
        }
        Ok(id)
    }

    fn receive(&mut self, now: Now, sink: &mut dyn FnMut(Incoming<'_>)) {
        self.now = now;
        self.receive_as_server(now, sink);
        if !self.clients.is_empty() {
            self.receive_as_client(now, sink);
        }
        while let Some((connection, reason)) = self.ended.pop_front() {
            sink(Incoming::Disconnected { connection, reason });
        }
    }

    #[inline]
    fn send(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &[u8],
    ) -> Result<(), SendError> {
        if let Some(listening) = &mut self.server {
            return Ok(listening.server.send(now, connection, channel, message)?);
        }
        Ok(self.reached(connection)?.send(now, channel, message)?)
    }

    fn send_owned(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        message: &mut Vec<u8>,
    ) -> Result<(), SendError> {
        if let Some(listening) = &mut self.server {
            return Ok(listening.server.send_owned(now, connection, channel, message)?);
        }
        Ok(self.reached(connection)?.send_owned(now, channel, message)?)
    }

    fn send_shared(
        &mut self,
        now: Now,
        connection: ConnectionId,
        channel: ChannelId,
        head: &[u8],
        body: &SharedBytes,
    ) -> Result<(), SendError> {
        if let Some(listening) = &mut self.server {
            return Ok(listening.server.send_shared(now, connection, channel, head, body)?);
        }
        Ok(self.reached(connection)?.send_shared(now, channel, head, body)?)
    }

    fn flush(&mut self, now: Now) {
        self.now = now;
        let Self { server, clients, simulator, .. } = self;
        if let Some(Listening { port, server, .. }) = server {
            port.send(now.mono, simulator.as_deref_mut(), &mut |room| server.poll_transmit(now, room));
        }
        for dialled in clients.iter_mut() {
            if let Stage::Up { port, client } = &mut dialled.stage {
                port.send(now.mono, simulator.as_deref_mut(), &mut |room| client.poll_transmit(now, room));
            }
        }
        let Some(simulator) = simulator else { return };
        simulator.outgoing.poll(now.mono, &mut |route, datagram| {
            let server = server.iter_mut().map(|listening| &mut listening.port);
            let clients = clients.iter_mut().filter_map(|dialled| match &mut dialled.stage {
                Stage::Up { port, .. } => Some(port),
                Stage::Resolving { .. } => None,
            });
            if let Some(port) = server.chain(clients).find(|port| port.number() == route.socket) {
                port.forward(route.peer, datagram);
            }
        });
        if let Some(Listening { port, .. }) = server {
            port.flush();
        }
        for dialled in clients {
            if let Stage::Up { port, .. } = &mut dialled.stage {
                port.flush();
            }
        }
    }

    fn disconnect(&mut self, now: Now, connection: ConnectionId, reason: &DisconnectReason, linger: Duration) {
        self.now = now;
        if let Some(listening) = &mut self.server {
            return listening.server.disconnect(now, connection, reason, linger);
        }
        match self.client_mut(connection) {
            Some(Dialled { stage: Stage::Up { client, .. }, .. }) => client.disconnect(now, reason, linger),
            Some(Dialled { stage: Stage::Resolving { .. }, .. }) => {
                self.clients.retain(|dialled| dialled.id != connection);
                self.end(connection, reason.clone());
            }
            None => {}
        }
    }

    fn stats(&self, connection: ConnectionId) -> Option<ConnectionStats> {
        if let Some(Listening { server, .. }) = &self.server {
            return Some(stats(server.address(connection), &server.stats(connection)?));
        }
        self.ids.get(connection)?;
        match &self.clients.iter().find(|dialled| dialled.id == connection)?.stage {
            Stage::Resolving { .. } => Some(ConnectionStats::default()),
            Stage::Up { client, .. } => Some(stats(Some(client.server()), &client.stats())),
        }
    }

    fn is_idle(&self) -> bool {
        self.clients.is_empty() && self.ended.is_empty()
    }

    fn channels(&self) -> &ChannelTable {
        // `UdpConfig::with_channels` sets both ends alike.
        &self.config.server_link.channels
    }

    fn max_message(&self, channel: ChannelId) -> usize {
        let side = self.side();
        self.config.link(side).channels.get(channel).map_or(0, |channel| channel.max_message(side))
    }

    fn metrics(&self, report: &mut dyn FnMut(&'static str, u64)) {
        self.socket_stats().report(report);
        match (&self.server, self.clients.first()) {
            (Some(listening), _) => listening.server.metrics(report),
            (None, Some(Dialled { stage: Stage::Up { client, .. }, .. })) => client.metrics(report),
            _ => {
                for counter in Counter::ALL {
                    report(counter.name(), 0);
                }
                LinkTotals::default().report(report);
            }
        }
    }

    fn packet_simulator(&mut self) -> Option<&mut LinkSimulator> {
        let random = &mut self.random;
        Some(self.simulator.get_or_insert_with(|| Box::new(LinkSimulator::new(random.u64()))))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl<N: Network> Drop for Engine<N> {
    fn drop(&mut self) {
        let now = self.now;
        let simulator = &mut self.simulator;
        if let Some(Listening { port, server, .. }) = &mut self.server {
            send_last(port, now, simulator.as_deref_mut(), &mut |room| server.poll_transmit(now, room));
            server.say_goodbye(now, &DisconnectReason::local(DisconnectCode::ServerShutdown));
            send_last(port, now, simulator.as_deref_mut(), &mut |room| server.poll_transmit(now, room));
        }
        for dialled in self.clients.drain(..) {
            if let Stage::Up { mut port, mut client } = dialled.stage {
                part(&mut port, &mut client, now, simulator.as_deref_mut());
            }
        }
    }
}

impl<N: Network> std::fmt::Debug for Engine<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("listening", &self.listening()).finish_non_exhaustive()
    }
}

impl From<channel::SendError> for SendError {
    fn from(error: channel::SendError) -> Self {
        match error {
            channel::SendError::UnknownChannel(channel) => Self::UnknownChannel(channel),
            channel::SendError::TooLarge { size, limit } => Self::TooLarge { size, limit },
            channel::SendError::QueueFull => Self::QueueFull,
            _ => Self::NotConnected,
        }
    }
}

fn stats(remote: Option<SocketAddr>, link: &LinkStats) -> ConnectionStats {
    ConnectionStats {
        remote,
        rtt: link.rtt,
        jitter: link.jitter,
        loss: link.loss,
        packets_sent: link.packets_sent,
        packets_received: link.packets_received,
        bytes_sent: link.bytes_sent,
        bytes_received: link.bytes_received,
        reliable_queued: link.reliable_queued,
        max_datagram: netcode::datagram_of(link.packet_size),
    }
}
