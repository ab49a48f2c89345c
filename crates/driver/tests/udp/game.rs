//! Drivers on one network, in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use netstream_driver::transport::netcode::JoinCode;
use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, SeededRandom};
use netstream_driver::udp::{MemoryNetwork, Network, UdpConfig};
use netstream_driver::{Clock, Credentials, Endpoint, ManualClock, NetworkDriver, UdpDriver};

const TICK: Duration = Duration::from_micros(16_667);

/// Drivers on one network and what they reported.
pub(crate) struct Game<N: Network = MemoryNetwork> {
    pub(crate) network: N,
    pub(crate) clock: ManualClock,
    pub(crate) peers: Vec<Peer<N>>,
    pub(crate) seed: u64,
}

pub(crate) struct Peer<N: Network> {
    pub(crate) driver: UdpDriver<N>,
    pub(crate) log: Vec<Report>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    Accepted(ConnectionId, u64),
    Connected(ConnectionId),
    Message(ConnectionId, ChannelId, Vec<u8>),
    Ended(ConnectionId, DisconnectReason),
}

impl<N: Network> Game<N> {
    pub(crate) fn new(network: N) -> Self {
        Self { network, clock: ManualClock::new(), peers: Vec::new(), seed: 0 }
    }

    pub(crate) fn add(&mut self, change: impl FnOnce(&mut UdpConfig)) -> usize {
        self.seed += 1;
        let mut random = SeededRandom::new(self.seed);
        let mut config = UdpConfig::new(&mut random);
        change(&mut config);
        let driver = UdpDriver::on(self.network.clone(), config, Box::new(random));
        self.peers.push(Peer { driver, log: Vec::new() });
        self.peers.len() - 1
    }

    /// Adds a server at `127.0.0.1:7979`, or at any port of a real network.
    pub(crate) fn serve(&mut self, change: impl FnOnce(&mut UdpConfig)) -> (usize, Endpoint, Credentials) {
        let server = self.add(change);
        let now = self.clock.now();
        let endpoint = if N::REAL_TIME { "udp://127.0.0.1:0" } else { "udp://127.0.0.1:7979" };
        let driver = &mut self.peers[server].driver;
        let endpoint = driver.listen(now, &endpoint.parse().unwrap()).unwrap();
        let credentials = driver.join_code().map_or(Credentials::None, |code| Credentials::JoinCode(code.clone()));
        (server, endpoint, credentials)
    }

    pub(crate) fn dial(&mut self, endpoint: &Endpoint, credentials: &Credentials) -> (usize, ConnectionId) {
        self.dial_with(endpoint, credentials, |_| {})
    }

    pub(crate) fn dial_with(
        &mut self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        change: impl FnOnce(&mut UdpConfig),
    ) -> (usize, ConnectionId) {
        let client = self.add(change);
        let now = self.clock.now();
        (client, self.peers[client].driver.connect(now, endpoint, credentials).unwrap())
    }

    pub(crate) fn step(&mut self) {
        let now = self.clock.advance(TICK);
        for Peer { driver, log } in &mut self.peers {
            driver.receive(now, &mut |incoming| {
                log.push(match incoming {
                    Incoming::Accepted { connection, identity, .. } => {
                        Report::Accepted(connection, identity.unwrap().client_id)
                    }
                    Incoming::Connected { connection } => Report::Connected(connection),
                    Incoming::Message { connection, channel, bytes } => {
                        Report::Message(connection, channel, bytes.to_vec())
                    }
                    Incoming::Disconnected { connection, reason } => Report::Ended(connection, reason),
                });
            });
            driver.flush(now);
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        for _ in 0..time.as_micros() / TICK.as_micros() + 1 {
            self.step();
        }
    }

    pub(crate) fn end_of(&self, peer: usize, id: ConnectionId) -> Option<&DisconnectReason> {
        self.peers[peer].log.iter().find_map(|report| match report {
            Report::Ended(ended, reason) if *ended == id => Some(reason),
            _ => None,
        })
    }

    pub(crate) fn accepted(&self, peer: usize) -> Vec<ConnectionId> {
        let ids = self.peers[peer].log.iter().filter_map(|report| match report {
            Report::Accepted(id, _) => Some(*id),
            _ => None,
        });
        ids.collect()
    }

    pub(crate) fn is_connected(&self, peer: usize, id: ConnectionId) -> bool {
        self.peers[peer].log.contains(&Report::Connected(id)) && self.end_of(peer, id).is_none()
    }

    pub(crate) fn metrics(&self, peer: usize) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        self.peers[peer].driver.metrics(&mut |name, value| assert!(all.insert(name, value).is_none(), "{name} twice"));
        all
    }

    /// A connected client; returns it, its id there and its id on the server.
    pub(crate) fn join(
        &mut self,
        server: usize,
        endpoint: &Endpoint,
        credentials: &Credentials,
    ) -> (usize, ConnectionId, ConnectionId) {
        let before = self.accepted(server).len();
        let (client, id) = self.dial(endpoint, credentials);
        self.run(Duration::from_millis(200));
        assert!(self.is_connected(client, id), "{:?}", self.peers[client].log);
        (client, id, self.accepted(server)[before])
    }
}

pub(crate) fn code(seed: u64) -> Credentials {
    Credentials::JoinCode(JoinCode::random(&mut SeededRandom::new(seed)))
}

pub(crate) fn local(code: DisconnectCode) -> DisconnectReason {
    DisconnectReason::local(code)
}
