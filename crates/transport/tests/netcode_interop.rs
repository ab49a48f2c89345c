//! Against another implementation of NETCODE 1.02, over real sockets on loopback. It judges bytes on the wire only.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use netstream_transport::crypto::Key;
use netstream_transport::netcode::client::{ClientConfig, Credentials, Event as ClientEvent};
use netstream_transport::netcode::server::{Event as ServerEvent, Received};
use netstream_transport::netcode::{
    Client, ConnectToken, Counter, Farewell, HEADROOM, IssueRequest, KeyRing, MAX_BODY, MAX_DATAGRAM_OUT, Server,
    ServerConfig,
};
use netstream_transport::{ConnectionId, DisconnectCode, Limits, Mono, Now, SeededRandom, Wall};

const PROTOCOL: u64 = 0x1122_3344_5566_7788;
const KEY: [u8; 32] = [0x42; 32];

/// A test that hangs fails after this; nothing else depends on real time.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug)]
enum Issuer {
    Ours,
    Theirs,
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn token(issuer: Issuer, addresses: &[SocketAddr], client_id: u64) -> [u8; 2048] {
    let user_data = [client_id as u8; 256];
    match issuer {
        Issuer::Ours => {
            let key = Key::from_bytes(KEY);
            let request = IssueRequest { user_data, ..IssueRequest::new(PROTOCOL, &key, client_id, addresses) };
            let seed = unix_now() ^ client_id;
            let token = ConnectToken::issue(&request, Wall::from_unix(unix_now()), &mut SeededRandom::new(seed));
            token.unwrap().to_bytes().as_slice().try_into().unwrap()
        }
        Issuer::Theirs => {
            netcode::generate_connect_token(addresses, addresses, 45, 10, client_id, PROTOCOL, &KEY, &user_data)
                .unwrap()
        }
    }
}

fn body(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + size) as u8).collect()
}

/// Calls `step` until it says that it is done.
fn until(what: &str, mut step: impl FnMut() -> bool) {
    let start = Instant::now();
    while !step() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

struct Clock {
    start: Instant,
    /// Time that the test skips.
    skipped: Duration,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), skipped: Duration::ZERO }
    }

    /// One that was started so long ago, and what it showed then.
    fn up_for(time: Duration) -> (Self, Now) {
        let clock = Self { start: Instant::now() - time, skipped: Duration::ZERO };
        (clock, Now { mono: Mono::ZERO, wall: Wall::from_unix(unix_now() - time.as_secs()) })
    }

    fn now(&self) -> Now {
        let elapsed = self.start.elapsed() + self.skipped;
        Now { mono: Mono::ZERO + elapsed, wall: Wall::from_unix(unix_now() + self.skipped.as_secs()) }
    }
}

struct OurServer {
    socket: UdpSocket,
    server: Server,
    clock: Clock,
    events: Vec<ServerEvent>,
    payloads: Vec<Vec<u8>>,
}

impl OurServer {
    fn new(connections: usize) -> Self {
        let socket = socket();
        let mut keys = KeyRing::new();
        keys.add_key(PROTOCOL, Key::from_bytes(KEY)).unwrap();
        let mut config = ServerConfig::new(keys);
        config.addresses = vec![socket.local_addr().unwrap()];
        let mut limits = Limits::default();
        limits.connections = connections;
        (limits.inbound_packets, limits.inbound_packet_burst) = (1_000_000, 1_000_000);
        (limits.inbound_bytes, limits.inbound_byte_burst) = (1_000_000_000, 1_000_000_000);
        // It has been up for a while: tokens of this very second are good.
        let (clock, start) = Clock::up_for(Duration::from_secs(2));
        let server = Server::new(config, &limits, &mut SeededRandom::new(7), start);
        Self { socket, server, clock, events: Vec::new(), payloads: Vec::new() }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn update(&mut self) {
        let now = self.clock.now();
        let mut buf = [0; 2048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buf) {
            if let Received::Payload { body, .. } = self.server.handle_datagram(now, from, &mut buf[..length]) {
                self.payloads.push(body.to_vec());
            }
            self.events.extend(std::iter::from_fn(|| self.server.poll_event()));
        }
        self.server.tick(now);
        self.events.extend(std::iter::from_fn(|| self.server.poll_event()));
        while let Some(transmit) = self.server.poll_transmit(now, &mut buf) {
            self.socket.send_to(&buf[..transmit.len], transmit.to).unwrap();
        }
    }

    fn send(&mut self, connection: ConnectionId, body: &[u8]) {
        let mut buf = [0; MAX_DATAGRAM_OUT];
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
        let (to, range) = self.server.seal_payload(self.clock.now(), connection, &mut buf, body.len()).unwrap();
        self.socket.send_to(&buf[range], to).unwrap();
    }

    fn accepted(&self) -> Option<ConnectionId> {
        self.events.iter().find_map(|event| match event {
            ServerEvent::Accepted { connection, .. } => Some(*connection),
            _ => None,
        })
    }

    fn closed(&self) -> Option<DisconnectCode> {
        self.events.iter().find_map(|event| match event {
            ServerEvent::Closed { reason, .. } => Some(reason.code),
            _ => None,
        })
    }
}

struct OurClient {
    socket: UdpSocket,
    client: Client,
    clock: Clock,
    events: Vec<ClientEvent>,
    payloads: Vec<Vec<u8>>,
}

impl OurClient {
    fn new(token: &[u8; 2048]) -> Self {
        let credentials = Credentials::Token(Box::new(ConnectToken::from_bytes(token).unwrap()));
        let config = ClientConfig { credentials, addresses: Vec::new(), allow_local: true, cipher: Default::default() };
        let clock = Clock::new();
        let client = Client::new(config, &Limits::default(), &mut SeededRandom::new(8), clock.now()).unwrap();
        Self { socket: socket(), client, clock, events: Vec::new(), payloads: Vec::new() }
    }

    fn update(&mut self) {
        let now = self.clock.now();
        let mut buf = [0; 2048];
        while let Ok((length, from)) = self.socket.recv_from(&mut buf) {
            if let Some(body) = self.client.handle_datagram(now, from, &mut buf[..length]) {
                self.payloads.push(body.to_vec());
            }
        }
        self.client.tick(now);
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
        while let Some(transmit) = self.client.poll_transmit(now, &mut buf) {
            // A refused datagram of a dead server is reported here by some systems.
            let _ = self.socket.send_to(&buf[..transmit.len], transmit.to);
        }
    }

    fn send(&mut self, body: &[u8]) {
        let mut buf = [0; MAX_DATAGRAM_OUT];
        buf[HEADROOM..HEADROOM + body.len()].copy_from_slice(body);
        let (to, range) = self.client.seal_payload(self.clock.now(), &mut buf, body.len()).unwrap();
        self.socket.send_to(&buf[range], to).unwrap();
    }

    fn closed(&self) -> Option<DisconnectCode> {
        self.events.iter().find_map(|event| match event {
            ClientEvent::Closed { reason } => Some(reason.code),
            _ => None,
        })
    }
}

/// Their client, with a clock of its own.
struct TheirClient {
    client: netcode::Client,
    start: Instant,
    payloads: Vec<Vec<u8>>,
}

impl TheirClient {
    fn new(token: &[u8; 2048]) -> Self {
        let mut client = netcode::Client::new("127.0.0.1:0".parse().unwrap(), 0.0).unwrap();
        client.connect(token).unwrap();
        Self { client, start: Instant::now(), payloads: Vec::new() }
    }

    fn update(&mut self) {
        self.client.update(self.start.elapsed().as_secs_f64());
        while let Some((payload, _)) = self.client.receive_packet() {
            self.payloads.push(payload);
        }
    }

    fn is_connected(&self) -> bool {
        self.client.state() == netcode::ClientState::Connected
    }
}

struct TheirServer {
    server: netcode::Server,
    start: Instant,
    payloads: Vec<Vec<u8>>,
}

impl TheirServer {
    fn new(slots: usize) -> Self {
        let mut server = netcode::Server::new("127.0.0.1:0".parse().unwrap(), PROTOCOL, &KEY, 0.0).unwrap();
        server.start(slots).unwrap();
        Self { server, start: Instant::now(), payloads: Vec::new() }
    }

    fn update(&mut self) {
        self.server.update(self.start.elapsed().as_secs_f64());
        while let Some((payload, _)) = self.server.receive_packet(0) {
            self.payloads.push(payload);
        }
    }
}

/// Every size so many times, in batches that no socket buffer loses.
fn batches(most: usize, times: usize) -> Vec<Vec<usize>> {
    let sizes: Vec<_> = (0..times).flat_map(|_| 1..=most).collect();
    sizes.chunks(50).map(<[usize]>::to_vec).collect()
}

/// How often each size makes ten thousand payloads and more.
const FULL: usize = 9;

#[test]
fn their_client_connects_to_our_server_and_payloads_of_all_sizes_pass() {
    their_client_and_our_server(1);
}

#[test]
#[ignore = "the long form of the test above"]
fn their_client_and_our_server_exchange_ten_thousand_payloads_each_way() {
    their_client_and_our_server(FULL);
}

fn their_client_and_our_server(times: usize) {
    for issuer in [Issuer::Ours, Issuer::Theirs] {
        let mut server = OurServer::new(4);
        let mut client = TheirClient::new(&token(issuer, &[server.address()], 9));
        until("connecting", || {
            server.update();
            client.update();
            client.is_connected() && server.accepted().is_some()
        });
        let connection = server.accepted().unwrap();
        let identity = server.server.identity(connection).unwrap();
        assert_eq!((identity.client_id, identity.user_data), (9, [9; 256]));
        assert_eq!(client.client.max_clients(), 4);

        let mut expected = 0;
        for batch in batches(1200, times) {
            for &size in &batch {
                client.client.send_packet(&body(size)).unwrap();
            }
            expected += batch.len();
            until("payloads to our server", || {
                server.update();
                server.payloads.len() == expected
            });
        }
        assert!(server.payloads.iter().all(|payload| *payload == body(payload.len())));
        expected = 0;
        for batch in batches(MAX_BODY, times) {
            for &size in &batch {
                server.send(connection, &body(size));
            }
            expected += batch.len();
            until("payloads to their client", || {
                client.update();
                client.payloads.len() == expected
            });
        }
        assert!(client.payloads.iter().all(|payload| *payload == body(payload.len())));
    }
}

#[test]
fn their_client_leaves_our_server() {
    let mut server = OurServer::new(4);
    let mut client = TheirClient::new(&token(Issuer::Theirs, &[server.address()], 9));
    until("connecting", || {
        server.update();
        client.update();
        client.is_connected()
    });
    client.client.disconnect();
    until("the goodbye", || {
        server.update();
        server.closed().is_some()
    });
    assert_eq!(server.closed(), Some(DisconnectCode::ConnectionClose));
    assert_eq!(server.server.connections(), 0);
}

#[test]
fn our_server_lets_their_client_go() {
    let mut server = OurServer::new(4);
    let mut client = TheirClient::new(&token(Issuer::Ours, &[server.address()], 9));
    until("connecting", || {
        server.update();
        client.update();
        client.is_connected()
    });
    let connection = server.accepted().unwrap();
    server.server.close(server.clock.now(), connection, Farewell::Goodbye);
    until("the goodbye", || {
        server.update();
        client.update();
        client.client.state() == netcode::ClientState::Disconnected
    });
}

#[test]
fn our_full_server_denies_their_client() {
    let mut server = OurServer::new(1);
    let mut first = TheirClient::new(&token(Issuer::Theirs, &[server.address()], 1));
    until("the first", || {
        server.update();
        first.update();
        first.is_connected()
    });
    let mut second = TheirClient::new(&token(Issuer::Theirs, &[server.address()], 2));
    until("the denial", || {
        server.update();
        first.update();
        second.update();
        second.client.state() == netcode::ClientState::ConnectionDenied
    });
}

#[test]
fn our_server_ignores_an_expired_token_of_their_issuer() {
    let mut server = OurServer::new(1);
    let mut client = TheirClient::new(&token(Issuer::Theirs, &[server.address()], 1));
    server.clock.skipped = Duration::from_secs(46);
    until("requests", || {
        server.update();
        client.update();
        server.server.counter(Counter::RequestExpired) >= 3
    });
    assert_eq!(server.accepted(), None);
}

#[test]
fn an_idle_connection_with_their_client_stays() {
    let mut server = OurServer::new(1);
    let mut client = TheirClient::new(&token(Issuer::Ours, &[server.address()], 1));
    until("connecting", || {
        server.update();
        client.update();
        client.is_connected()
    });
    // Ten minutes in steps of 50 ms; both clocks are told the time.
    let start = client.start.elapsed().as_secs_f64();
    for step in 1..=12_000u32 {
        server.clock.skipped = Duration::from_millis(50) * step;
        server.update();
        client.client.update(start + f64::from(step) * 0.05);
        assert!(client.is_connected(), "step {step}");
    }
    assert_eq!(server.closed(), None);
    assert_eq!(server.server.connections(), 1);
}

#[test]
fn our_client_connects_to_their_server_and_payloads_of_all_sizes_pass() {
    our_client_and_their_server(1);
}

#[test]
#[ignore = "the long form of the test above"]
fn our_client_and_their_server_exchange_ten_thousand_payloads_each_way() {
    our_client_and_their_server(FULL);
}

fn our_client_and_their_server(times: usize) {
    for issuer in [Issuer::Ours, Issuer::Theirs] {
        let mut server = TheirServer::new(4);
        let mut client = OurClient::new(&token(issuer, &[server.server.address()], 9));
        until("connecting", || {
            server.update();
            client.update();
            client.client.is_connected() && server.server.client_connected(0)
        });
        assert_eq!((server.server.client_id(0), server.server.client_user_data(0)), (9, Some(&[9; 256])));
        assert!(matches!(client.events[0], ClientEvent::Connected { index: 0, most: 4, .. }));

        let mut expected = 0;
        for batch in batches(MAX_BODY, times) {
            for &size in &batch {
                client.send(&body(size));
            }
            expected += batch.len();
            until("payloads to their server", || {
                server.update();
                server.payloads.len() == expected
            });
        }
        assert!(server.payloads.iter().all(|payload| *payload == body(payload.len())));
        expected = 0;
        for batch in batches(1200, times) {
            for &size in &batch {
                server.server.send_packet(0, &body(size)).unwrap();
            }
            expected += batch.len();
            until("payloads to our client", || {
                client.update();
                client.payloads.len() == expected
            });
        }
        assert!(client.payloads.iter().all(|payload| *payload == body(payload.len())));

        // Idle past their timeout, on our keep-alives alone.
        server.start -= Duration::from_secs(9);
        client.update();
        server.update();
        assert!(server.server.client_connected(0));
    }
}

#[test]
fn our_client_leaves_their_server() {
    let mut server = TheirServer::new(4);
    let mut client = OurClient::new(&token(Issuer::Ours, &[server.server.address()], 9));
    until("connecting", || {
        server.update();
        client.update();
        client.client.is_connected()
    });
    client.client.close(client.clock.now(), Farewell::Goodbye);
    until("the goodbye", || {
        client.update();
        server.update();
        !server.server.client_connected(0)
    });
}

#[test]
fn their_server_lets_our_client_go() {
    let mut server = TheirServer::new(4);
    let mut client = OurClient::new(&token(Issuer::Theirs, &[server.server.address()], 9));
    until("connecting", || {
        server.update();
        client.update();
        client.client.is_connected()
    });
    server.server.disconnect_client(0);
    until("the goodbye", || {
        client.update();
        client.closed().is_some()
    });
    assert_eq!(client.closed(), Some(DisconnectCode::ConnectionClose));
}

#[test]
fn their_full_server_denies_our_client() {
    let mut server = TheirServer::new(1);
    let mut first = OurClient::new(&token(Issuer::Ours, &[server.server.address()], 1));
    until("the first", || {
        server.update();
        first.update();
        first.client.is_connected()
    });
    let mut second = OurClient::new(&token(Issuer::Ours, &[server.server.address()], 2));
    until("the denial", || {
        server.update();
        first.update();
        second.update();
        second.closed().is_some()
    });
    assert_eq!(second.closed(), Some(DisconnectCode::ServerFull));
}

#[test]
fn our_client_goes_through_three_addresses_to_their_server() {
    for issuer in [Issuer::Ours, Issuer::Theirs] {
        let mut server = TheirServer::new(4);
        let dead = [socket().local_addr().unwrap(), socket().local_addr().unwrap()];
        let mut client = OurClient::new(&token(issuer, &[dead[0], dead[1], server.server.address()], 9));
        for _ in 0..2 {
            client.update();
            client.clock.skipped += Duration::from_secs(5);
        }
        until("the third address", || {
            server.update();
            client.update();
            client.client.is_connected()
        });
        assert_eq!(client.client.server(), server.server.address());
    }
}

#[test]
fn their_server_ignores_an_expired_token_of_our_issuer() {
    let mut server = TheirServer::new(4);
    let key = Key::from_bytes(KEY);
    let addresses = [server.server.address()];
    let request = IssueRequest::new(PROTOCOL, &key, 1, &addresses);
    let issued = Wall::from_unix(unix_now() - 50);
    let token = ConnectToken::issue(&request, issued, &mut SeededRandom::new(1)).unwrap();
    let mut client = OurClient::new(token.to_bytes().as_slice().try_into().unwrap());
    for _ in 0..60 {
        client.clock.skipped += Duration::from_millis(100);
        client.update();
        server.update();
    }
    assert_eq!(client.closed(), Some(DisconnectCode::TokenExpired));
    assert_eq!(server.server.num_connected_clients(), 0);
}
