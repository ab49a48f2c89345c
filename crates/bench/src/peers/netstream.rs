//! Our UDP driver, without anything above it.

use bytes::Bytes;
use netstream::driver::udp::{Access, Network, OsNetwork, UdpConfig};
use netstream::driver::{Clock, Credentials, NetworkDriver, OsRandom, SystemClock, UdpDriver};
use netstream::transport::netcode::{JoinCode, SessionCipher};
use netstream::transport::{ChannelId, ConnectionId, Incoming, Now, SharedBytes};

use crate::end::{Crowd, End, Lane, Server, Setup};
use crate::game::Game;

pub(super) fn channel(lane: Lane) -> ChannelId {
    match lane {
        Lane::Unreliable => ChannelId::UNRELIABLE,
        Lane::Reliable => ChannelId::RELIABLE,
        Lane::Fragmented => ChannelId::UNRELIABLE_FRAGMENTED,
    }
}

/// The long message that was sent last, as a game holds it that sends it to many.
#[derive(Default)]
pub(crate) struct Shared(Bytes, Option<SharedBytes>);

impl Shared {
    /// `None` for a short one.
    pub(crate) fn of(&mut self, message: &Bytes) -> Option<&SharedBytes> {
        if message.len() < 512 {
            return None;
        }
        if (self.0.as_ptr(), self.0.len()) != (message.as_ptr(), message.len()) {
            *self = Self(message.clone(), None);
        }
        Some(self.1.get_or_insert_with(|| SharedBytes::new(message.clone())))
    }
}

/// The defaults, with room for so many clients that join all at once from one address, and for the largest message.
pub(crate) fn config(setup: &Setup) -> UdpConfig {
    let mut config = UdpConfig::new(&mut OsRandom);
    let limits = &mut config.limits;
    limits.connections = setup.clients.max(limits.connections);
    limits.consumed_tokens = (setup.clients * 2).max(limits.consumed_tokens);
    limits.pending_handshakes = setup.clients.max(limits.pending_handshakes);
    limits.replies = 1_000_000;
    limits.unauthenticated_packets = 1_000_000;
    let mut channels = config.server_link.channels.clone();
    if let Some(reliable) = channels.get_mut(ChannelId::RELIABLE) {
        reliable.max_to_client = reliable.max_to_client.max(setup.largest + 16);
    }
    config.with_channels(&channels)
}

/// A driver that listens on loopback, and its address with the join code.
pub(super) fn split(address: &str) -> (&str, JoinCode) {
    let (address, code) = address.split_once(' ').expect("an address and a code");
    (address, code.parse().expect("a code"))
}

pub(crate) struct DriverServer<N: Network = OsNetwork> {
    driver: UdpDriver<N>,
    clock: Box<dyn Clock>,
    now: Now,
    address: String,
    /// By index.
    clients: Vec<ConnectionId>,
    shared: Shared,
}

impl DriverServer {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self::with(UdpDriver::with_config(config(setup)), Box::new(SystemClock::new()))
    }
}

impl<N: Network> DriverServer<N> {
    pub(crate) fn with(mut driver: UdpDriver<N>, clock: Box<dyn Clock>) -> Self {
        let now = clock.now();
        let endpoint = driver.listen(now, &"udp://127.0.0.1:0".parse().expect("valid")).expect("loopback");
        let code = driver.join_code().expect("the default").to_text();
        let address = format!("127.0.0.1:{} {}", endpoint.port().expect("bound"), *code);
        Self { driver, clock, now, address, clients: Vec::new(), shared: Shared::default() }
    }
}

impl<N: Network> Server for DriverServer<N> {
    fn address(&self) -> String {
        self.address.clone()
    }

    fn update(&mut self, game: &mut Game) {
        self.begin();
        game.update(self);
        self.flush();
    }
}

impl<N: Network> DriverServer<N> {
    pub(crate) fn begin(&mut self) {
        self.now = self.clock.now();
    }

    pub(crate) fn flush(&mut self) {
        self.driver.flush(self.now);
    }
}

impl<N: Network> End for DriverServer<N> {
    fn connected(&mut self) -> usize {
        self.clients.len()
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        let Self { driver, clients, now, .. } = self;
        driver.receive(*now, &mut |incoming| match incoming {
            Incoming::Message { connection, bytes, .. } => sink(connection.index as usize, bytes),
            Incoming::Accepted { connection, .. } => {
                // Indices are dense, and nobody leaves.
                assert_eq!(connection.index as usize, clients.len());
                clients.push(connection);
            }
            Incoming::Disconnected { reason, .. } => panic!("a client is gone: {reason}"),
            Incoming::Connected { .. } => {}
        });
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let (now, id, channel) = (self.now, self.clients[client], channel(lane));
        let sent = match self.shared.of(message) {
            Some(message) => self.driver.send_shared(now, id, channel, &[], message),
            None => self.driver.send(now, id, channel, message),
        };
        sent.is_ok()
    }
}

/// Drivers that connect, one for each client.
pub(crate) struct DriverCrowd<N: Network = OsNetwork> {
    network: N,
    server: String,
    code: JoinCode,
    config: UdpConfig,
    clock: Box<dyn Clock>,
    now: Now,
    clients: Vec<Client<N>>,
    connected: usize,
    /// Said by each client as soon as it is connected.
    greeting: Vec<u8>,
    /// What stands before each unreliable message, and how much stands before each received one.
    kind: Option<u8>,
}

struct Client<N: Network> {
    driver: UdpDriver<N>,
    id: ConnectionId,
    connected: bool,
}

impl DriverCrowd {
    pub(crate) fn new(address: &str, setup: &Setup) -> Self {
        Self::on(OsNetwork, Box::new(SystemClock::new()), address, setup)
    }
}

impl<N: Network> DriverCrowd<N> {
    pub(crate) fn on(network: N, clock: Box<dyn Clock>, address: &str, setup: &Setup) -> Self {
        let (server, code) = split(address);
        let mut config = config(setup);
        config.access = Access::JoinCode(code.clone());
        Self {
            server: format!("udp://{server}"),
            code,
            config,
            now: clock.now(),
            network,
            clock,
            clients: Vec::new(),
            connected: 0,
            greeting: Vec::new(),
            kind: None,
        }
    }

    /// Its clients ask for the cipher of the standard.
    pub(super) fn with_chacha20(mut self) -> Self {
        self.config.cipher = SessionCipher::ChaCha20Poly1305;
        self
    }

    /// For servers that expect to be greeted, and kinds before messages.
    pub(super) fn with_session(mut self, greeting: Vec<u8>, kind: u8) -> Self {
        (self.greeting, self.kind) = (greeting, Some(kind));
        self
    }
}

impl<N: Network> Crowd for DriverCrowd<N> {
    fn connect(&mut self) {
        let mut config = self.config.clone();
        config.client_id = self.clients.len() as u64 + 1;
        let mut driver = UdpDriver::on(self.network.clone(), config, Box::new(OsRandom));
        let endpoint = self.server.parse().expect("valid");
        let code = Credentials::JoinCode(self.code.clone());
        let id = driver.connect(self.clock.now(), &endpoint, &code).expect("loopback");
        self.clients.push(Client { driver, id, connected: false });
    }

    fn flush(&mut self) {
        self.now = self.clock.now();
        for client in &mut self.clients {
            client.driver.flush(self.now);
        }
    }
}

impl<N: Network> End for DriverCrowd<N> {
    fn connected(&mut self) -> usize {
        self.connected
    }

    fn receive(&mut self, sink: &mut dyn FnMut(usize, &[u8])) {
        let Self { clients, now, clock, connected, greeting, kind, .. } = self;
        *now = clock.now();
        for (number, Client { driver, id, connected: up }) in clients.iter_mut().enumerate() {
            let mut reached = false;
            driver.receive(*now, &mut |incoming| match incoming {
                Incoming::Message { bytes, .. } => match kind {
                    None => sink(number, bytes),
                    // Control messages are the session's; number 4 is the acceptance.
                    Some(_) if bytes.first() == Some(&0) => {
                        if bytes.get(1) == Some(&4) {
                            *up = true;
                            *connected += 1;
                        }
                    }
                    Some(_) => sink(number, &bytes[1..]),
                },
                Incoming::Connected { .. } => reached = true,
                // The server is done.
                Incoming::Disconnected { .. } => *up = false,
                Incoming::Accepted { .. } => {}
            });
            if reached && kind.is_none() {
                *up = true;
                *connected += 1;
            } else if reached {
                driver.send(*now, *id, ChannelId::RELIABLE, greeting).expect("the first message");
            }
        }
    }

    fn send(&mut self, client: usize, lane: Lane, message: &Bytes) -> bool {
        let Client { driver, id, connected } = &mut self.clients[client];
        if !*connected {
            return false;
        }
        match self.kind {
            None => driver.send(self.now, *id, channel(lane), message).is_ok(),
            Some(kind) => {
                // RPCs are of the only type that there is, number 0; a length stands before its bytes.
                let rpc = [1, 0, message.len() as u8];
                let before: &[u8] = if lane == Lane::Reliable { &rpc } else { &[kind] };
                driver.send(self.now, *id, channel(lane), &[before, &**message].concat()).is_ok()
            }
        }
    }
}
