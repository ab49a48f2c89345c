//! A little world of servers, clients and attackers in virtual time, for the tests of the netcode machines.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::crypto::Key;
use netstream_transport::netcode::{
    Client, ConnectToken, Counter, HEADROOM, IssueRequest, JoinCode, KeyRing, MAX_BODY, MAX_DATAGRAM_OUT, Server,
    ServerConfig, SessionCipher, client, server,
};
use netstream_transport::{ConnectionId, DisconnectCode, DisconnectReason, Limits, Mono, Now, SeededRandom, Wall};

pub(crate) const PROTOCOL: u64 = 0x1122_3344_5566_7788;

/// When worlds begin.
pub(crate) const START: u64 = 1_900_000_000;

/// One step of the world.
pub(crate) const STEP: Duration = Duration::from_millis(10);

pub(crate) fn key() -> Key {
    Key::from_bytes([0x42; 32])
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The usual server.
pub(crate) fn server_address() -> SocketAddr {
    address("203.0.113.1:7979")
}

/// The usual client with this number.
pub(crate) fn client_address(number: u16) -> SocketAddr {
    SocketAddr::from(([10, 7, (number >> 8) as u8, number as u8], 5000 + number))
}

/// A datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) at: Mono,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0] & 0xf
    }
}

pub(crate) struct ServerNode {
    pub(crate) server: Server,
    pub(crate) events: Vec<server::Event>,
    pub(crate) payloads: Vec<(ConnectionId, Vec<u8>)>,
}

pub(crate) struct ClientNode {
    pub(crate) client: Client,
    pub(crate) events: Vec<client::Event>,
    pub(crate) payloads: Vec<Vec<u8>>,
}

pub(crate) struct World {
    pub(crate) mono: Mono,
    /// Seconds that the wall clock is ahead of where the steps would have it.
    pub(crate) wall_offset: i64,
    pub(crate) random: SeededRandom,
    pub(crate) servers: BTreeMap<SocketAddr, ServerNode>,
    pub(crate) clients: BTreeMap<SocketAddr, ClientNode>,
    /// On their way, in order of arrival.
    pub(crate) flying: VecDeque<Datagram>,
    /// Everything that was ever sent by a node.
    pub(crate) log: Vec<Datagram>,
    /// One way.
    pub(crate) delay: Duration,
    /// What tokens are issued for.
    pub(crate) cipher: SessionCipher,
    /// What the network loses.
    pub(crate) loses: Box<dyn FnMut(&Datagram) -> bool>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            mono: Mono::from_nanos(1_000_000_000),
            wall_offset: 0,
            random: SeededRandom::new(seed),
            servers: BTreeMap::new(),
            clients: BTreeMap::new(),
            flying: VecDeque::new(),
            log: Vec::new(),
            delay: Duration::from_millis(20),
            cipher: SessionCipher::default(),
            loses: Box::new(|_| false),
        }
    }

    /// A world with the usual server, old enough to take tokens that are issued now.
    pub(crate) fn with_server(seed: u64) -> Self {
        let mut world = Self::new(seed);
        world.add_server(server_address(), server_config(), &Limits::default());
        world.run(Duration::from_secs(2));
        world
    }

    pub(crate) fn now(&self) -> Now {
        let seconds = self.mono.as_nanos() / 1_000_000_000;
        let wall = START.saturating_add(seconds).saturating_add_signed(self.wall_offset);
        Now { mono: self.mono, wall: Wall::from_unix(wall) }
    }

    pub(crate) fn add_server(&mut self, at: SocketAddr, config: ServerConfig, limits: &Limits) {
        let now = self.now();
        let server = Server::new(config, limits, &mut self.random, now);
        self.servers.insert(at, ServerNode { server, events: Vec::new(), payloads: Vec::new() });
    }

    pub(crate) fn token(&mut self, client_id: u64) -> ConnectToken {
        self.token_for(client_id, &[server_address()])
    }

    pub(crate) fn token_for(&mut self, client_id: u64, addresses: &[SocketAddr]) -> ConnectToken {
        let (key, now) = (key(), self.now().wall);
        let defaults = IssueRequest::new(PROTOCOL, &key, client_id, addresses);
        let request = IssueRequest { user_data: user_data(client_id), cipher: self.cipher, ..defaults };
        ConnectToken::issue(&request, now, &mut self.random).unwrap()
    }

    /// Lets a client with this token start to connect from `at`.
    pub(crate) fn connect(&mut self, at: SocketAddr, token: &ConnectToken) {
        self.connect_with(at, client::Credentials::Token(Box::new(token.clone())), &[]);
    }

    pub(crate) fn connect_with(&mut self, at: SocketAddr, credentials: client::Credentials, addresses: &[SocketAddr]) {
        let config = client::ClientConfig {
            credentials,
            addresses: addresses.to_vec(),
            allow_local: false,
            cipher: self.cipher,
        };
        let now = self.now();
        let client = Client::new(config, &Limits::default(), &mut self.random, now).unwrap();
        self.clients.insert(at, ClientNode { client, events: Vec::new(), payloads: Vec::new() });
    }

    /// Issues a token for `number`, connects with it and waits until both ends are sure.
    pub(crate) fn join(&mut self, number: u16) -> ConnectToken {
        let token = self.token(number.into());
        self.connect(client_address(number), &token);
        self.run(Duration::from_millis(500));
        assert!(self.client(number).client.is_connected(), "client {number} is connected");
        token
    }

    /// Client 1 joins, and all sizes of payloads travel both ways, of which each must arrive unharmed.
    pub(crate) fn exchange_payloads_of_every_size(&mut self) -> ConnectToken {
        self.server().server.set_limits(&{
            let mut limits = Limits::default();
            (limits.inbound_packet_burst, limits.inbound_byte_burst) = (10_000, 10_000_000);
            limits
        });
        let token = self.join(1);
        let connection = self.connection_at(client_address(1));
        let bodies: Vec<Vec<u8>> = (1..=MAX_BODY).map(|size| (0..size).map(|at| (at ^ size) as u8).collect()).collect();
        for body in &bodies {
            self.send_to_server(1, body);
            self.send_to_client(connection, body);
        }
        self.run(Duration::from_secs(1));
        let at_server: Vec<_> = self.server().payloads.iter().map(|(_, body)| body.clone()).collect();
        assert_eq!(at_server, bodies);
        assert_eq!(self.client(1).payloads, bodies);
        token
    }

    pub(crate) fn server(&mut self) -> &mut ServerNode {
        self.servers.get_mut(&server_address()).unwrap()
    }

    pub(crate) fn client(&mut self, number: u16) -> &mut ClientNode {
        self.clients.get_mut(&client_address(number)).unwrap()
    }

    pub(crate) fn counter(&mut self, counter: Counter) -> u64 {
        self.server().server.counter(counter)
    }

    /// The connection of the usual server whose peer is at `at`.
    pub(crate) fn connection_at(&mut self, at: SocketAddr) -> ConnectionId {
        let accepted = self.server().events.iter().rev().find_map(|event| match event {
            server::Event::Accepted { connection, address } if *address == at => Some(*connection),
            _ => None,
        });
        accepted.expect("somebody was accepted there")
    }

    pub(crate) fn send_to_server(&mut self, number: u16, body: &[u8]) {
        let now = self.now();
        let mut buf = [0; MAX_DATAGRAM_OUT];
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
        let from = client_address(number);
        let (to, range) = self.client(number).client.seal_payload(now, &mut buf, body.len()).unwrap();
        self.dispatch(from, to, buf[range].to_vec());
    }

    pub(crate) fn send_to_client(&mut self, connection: ConnectionId, body: &[u8]) {
        let now = self.now();
        let mut buf = [0; MAX_DATAGRAM_OUT];
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
        let (to, range) = self.server().server.seal_payload(now, connection, &mut buf, body.len()).unwrap();
        self.dispatch(server_address(), to, buf[range].to_vec());
    }

    /// What a node sends: logged, perhaps lost, else on its way.
    fn dispatch(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= MAX_DATAGRAM_OUT);
        let datagram = Datagram { at: self.mono + self.delay, from, to, bytes };
        self.log.push(datagram.clone());
        if !(self.loses)(&datagram) {
            self.flying.push_back(datagram);
        }
    }

    /// What an attacker sends; it arrives at once.
    pub(crate) fn inject(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.arrive(Datagram { at: self.mono, from, to, bytes: bytes.to_vec() });
        self.drain();
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.mono + duration;
        while self.mono < end {
            self.mono = self.mono + STEP;
            self.step();
        }
    }

    /// Lets everything act that is due now.
    pub(crate) fn step(&mut self) {
        for _ in 0..self.flying.len() {
            let datagram = self.flying.pop_front().unwrap();
            if datagram.at <= self.mono { self.arrive(datagram) } else { self.flying.push_back(datagram) }
        }
        let now = self.now();
        for node in self.servers.values_mut() {
            node.server.tick(now);
        }
        for node in self.clients.values_mut() {
            node.client.tick(now);
        }
        self.drain();
    }

    fn arrive(&mut self, mut datagram: Datagram) {
        let now = self.now();
        if let Some(node) = self.servers.get_mut(&datagram.to) {
            if let server::Received::Payload { connection, body } =
                node.server.handle_datagram(now, datagram.from, &mut datagram.bytes)
            {
                node.payloads.push((connection, body.to_vec()));
            }
        } else if let Some(node) = self.clients.get_mut(&datagram.to)
            && let Some(body) = node.client.handle_datagram(now, datagram.from, &mut datagram.bytes)
        {
            node.payloads.push(body.to_vec());
        }
    }

    fn drain(&mut self) {
        let now = self.now();
        let mut buf = [0; MAX_DATAGRAM_OUT];
        let mut out = Vec::new();
        for (&from, node) in &mut self.servers {
            node.events.extend(std::iter::from_fn(|| node.server.poll_event()));
            while let Some(transmit) = node.server.poll_transmit(now, &mut buf) {
                out.push((from, transmit.to, buf[..transmit.len].to_vec()));
            }
        }
        for (&from, node) in &mut self.clients {
            node.events.extend(std::iter::from_fn(|| node.client.poll_event()));
            while let Some(transmit) = node.client.poll_transmit(now, &mut buf) {
                out.push((from, transmit.to, buf[..transmit.len].to_vec()));
            }
        }
        for (from, to, bytes) in out {
            self.dispatch(from, to, bytes);
        }
    }
}

impl ServerNode {
    pub(crate) fn accepted(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, server::Event::Accepted { .. })).count()
    }

    pub(crate) fn closed(&self) -> Vec<(ConnectionId, DisconnectReason)> {
        let closed = self.events.iter().filter_map(|event| match event {
            server::Event::Closed { connection, reason } => Some((*connection, reason.clone())),
            _ => None,
        });
        closed.collect()
    }

    pub(crate) fn refused(&self) -> Vec<(ConnectionId, DisconnectCode)> {
        let refused = self.events.iter().filter_map(|event| match event {
            server::Event::Refused { connection, code } => Some((*connection, *code)),
            _ => None,
        });
        refused.collect()
    }

    pub(crate) fn freed(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, server::Event::Freed { .. })).count()
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut found = None;
        self.server.metrics(&mut |metric, value| {
            if metric == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("there is no metric {name}"))
    }
}

impl ClientNode {
    /// Why it is over; `None` if it is not.
    pub(crate) fn ending(&self) -> Option<DisconnectReason> {
        self.events.iter().find_map(|event| match event {
            client::Event::Closed { reason } => Some(reason.clone()),
            _ => None,
        })
    }
}

pub(crate) fn user_data(client_id: u64) -> [u8; 256] {
    let mut data = [0xaa; 256];
    data[..8].copy_from_slice(&client_id.to_le_bytes());
    data
}

pub(crate) fn server_config() -> ServerConfig {
    let mut keys = KeyRing::new();
    keys.add_key(PROTOCOL, key()).unwrap();
    let mut config = ServerConfig::new(keys);
    config.addresses = vec![server_address()];
    config
}

pub(crate) fn join_code_config(code: &JoinCode) -> ServerConfig {
    let mut keys = KeyRing::new();
    keys.add_join_code(PROTOCOL, code);
    ServerConfig::new(keys)
}

pub(crate) fn join_code_credentials(code: &JoinCode, client_id: u64) -> client::Credentials {
    client::Credentials::JoinCode {
        code: code.clone(),
        protocol_id: PROTOCOL,
        client_id,
        user_data: Box::new(user_data(client_id)),
    }
}
