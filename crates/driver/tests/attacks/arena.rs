//! Servers and clients on loopback, with virtual time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::transport::crypto::Key;
use netstream_driver::transport::netcode::{ConnectToken, IssueRequest, KeyRing};
use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Wall};
use netstream_driver::udp::{Access, UdpConfig};
use netstream_driver::{Clock, Credentials, Endpoint, ManualClock, NetworkDriver, OsRandom, UdpDriver};

use crate::tap::{Tap, TapNetwork};

pub(crate) const PROTOCOL: u64 = 0x5eed;

/// One step of the arena.
pub(crate) const TICK: Duration = Duration::from_millis(10);

pub(crate) struct Arena {
    pub(crate) network: TapNetwork,
    pub(crate) clock: ManualClock,
    pub(crate) key: Key,
    pub(crate) servers: Vec<Node>,
    pub(crate) clients: Vec<Node>,
}

/// A driver and what it reported.
pub(crate) struct Node {
    pub(crate) driver: UdpDriver<TapNetwork>,
    pub(crate) tap: Tap,
    /// A client's own connection.
    pub(crate) id: Option<ConnectionId>,
    pub(crate) accepted: Vec<(ConnectionId, SocketAddr)>,
    pub(crate) connected: usize,
    pub(crate) messages: usize,
    pub(crate) ended: Vec<(ConnectionId, DisconnectReason)>,
}

impl Node {
    /// One update, as a game does it.
    pub(crate) fn update(&mut self, clock: &ManualClock) {
        let now = clock.now();
        let Self { driver, accepted, connected, messages, ended, .. } = self;
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, address, .. } => {
                accepted.push((connection, address.expect("UDP has addresses")));
            }
            Incoming::Connected { .. } => *connected += 1,
            Incoming::Message { .. } => *messages += 1,
            Incoming::Disconnected { connection, reason } => ended.push((connection, reason)),
        });
        driver.flush(now);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected == 1 && self.ended.is_empty()
    }

    pub(crate) fn send(&mut self, clock: &ManualClock, id: ConnectionId, message: &[u8]) {
        self.driver.send(clock.now(), id, ChannelId::UNRELIABLE, message).unwrap();
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut all = HashMap::new();
        self.driver.metrics(&mut |name, value| {
            all.insert(name, value);
        });
        *all.get(name).unwrap_or_else(|| panic!("there is no metric {name}"))
    }
}

impl Arena {
    pub(crate) fn new() -> Self {
        Self {
            network: TapNetwork::default(),
            clock: ManualClock::new(),
            key: Key::random(&mut OsRandom),
            servers: Vec::new(),
            clients: Vec::new(),
        }
    }

    /// An arena with one server, old enough to take tokens that are issued now.
    pub(crate) fn with_server(change: impl FnOnce(&mut UdpConfig)) -> Self {
        let mut arena = Self::new();
        arena.serve("udp://127.0.0.1:0", change);
        arena.clock.advance(Duration::from_secs(2));
        arena
    }

    pub(crate) fn serve(&mut self, endpoint: &str, change: impl FnOnce(&mut UdpConfig)) -> Endpoint {
        let mut keys = KeyRing::new();
        keys.add_key(PROTOCOL, self.key.clone()).unwrap();
        let mut config = UdpConfig::new(&mut OsRandom);
        config.access = Access::Tokens(keys);
        // What arrives is taken in whole, whatever the machine's clock says.
        config.receive_budget = Duration::from_secs(60);
        config.stranger_budget = Duration::from_secs(60);
        change(&mut config);
        let mut driver = UdpDriver::on(self.network.clone(), config, Box::new(OsRandom));
        let endpoint = driver.listen(self.clock.now(), &endpoint.parse().unwrap()).unwrap();
        let tap = self.network.newest();
        self.servers.push(Node::new(driver, tap, None));
        endpoint
    }

    pub(crate) fn server(&mut self) -> &mut Node {
        &mut self.servers[0]
    }

    pub(crate) fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].tap.local()
    }

    pub(crate) fn wall(&self) -> Wall {
        self.clock.now().wall
    }

    /// A token for all servers of the arena.
    pub(crate) fn token(&self, client_id: u64) -> ConnectToken {
        let addresses: Vec<_> = self.servers.iter().map(|server| server.tap.local()).collect();
        let request = IssueRequest::new(PROTOCOL, &self.key, client_id, &addresses);
        ConnectToken::issue(&request, self.wall(), &mut OsRandom).unwrap()
    }

    /// Lets a client with this token start to connect; returns its place.
    pub(crate) fn dial(&mut self, token: &ConnectToken) -> usize {
        let mut config = UdpConfig::new(&mut OsRandom);
        config.allow_local_tokens = true;
        let mut driver = UdpDriver::on(self.network.clone(), config, Box::new(OsRandom));
        let endpoint = "udp://0.0.0.0:0".parse().unwrap();
        let credentials = Credentials::Token(Box::new(token.clone()));
        let id = driver.connect(self.clock.now(), &endpoint, &credentials).unwrap();
        let tap = self.network.newest();
        self.clients.push(Node::new(driver, tap, Some(id)));
        self.clients.len() - 1
    }

    /// Connects a client and waits until it is.
    pub(crate) fn join(&mut self, client_id: u64) -> usize {
        let client = self.dial(&self.token(client_id));
        for _ in 0..20 {
            self.step();
        }
        assert!(self.clients[client].is_connected());
        client
    }

    pub(crate) fn step(&mut self) {
        self.clock.advance(TICK);
        for node in self.clients.iter_mut().chain(&mut self.servers) {
            node.update(&self.clock);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.step();
        }
    }

    /// A client leaves, and everybody knows.
    pub(crate) fn leave(&mut self, client: usize) {
        let now = self.clock.now();
        let node = &mut self.clients[client];
        let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
        node.driver.disconnect(now, node.id.unwrap(), &reason, Duration::ZERO);
        self.run(Duration::from_millis(1500));
    }
}

impl Node {
    fn new(driver: UdpDriver<TapNetwork>, tap: Tap, id: Option<ConnectionId>) -> Self {
        Self { driver, tap, id, accepted: Vec::new(), connected: 0, messages: 0, ended: Vec::new() }
    }
}

/// The request that a client makes of a token: public parts of the token in another order.
pub(crate) fn request(token: &ConnectToken) -> Vec<u8> {
    let token = token.to_bytes();
    let mut request = vec![0];
    request.extend_from_slice(&token[..21]); // version and protocol id
    request.extend_from_slice(&token[29..37]); // expiry
    request.extend_from_slice(&token[37..61]); // nonce
    request.extend_from_slice(&token[61..61 + 1024]); // the sealed private token
    assert_eq!(request.len(), 1078);
    request
}

/// The number in the header of a sealed packet.
pub(crate) fn sequence(datagram: &[u8]) -> u64 {
    let length = usize::from(datagram[0] >> 4);
    datagram[1..=length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
