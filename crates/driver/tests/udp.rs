//! What is particular to the UDP driver. Time is virtual and the network is in memory unless a test says otherwise.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::link::{Direction, LinkProfile};
use netstream_driver::transport::crypto::Key;
use netstream_driver::transport::netcode::client::{ClientConfig, Credentials as Shown};
use netstream_driver::transport::netcode::{self, ConnectToken, IdentityPolicy, IssueRequest, JoinCode, KeyRing};
use netstream_driver::transport::{
    ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Limits, Origin, Random, SeededRandom,
};
use netstream_driver::udp::{
    Access, BufferSizes, DatagramSocket, MemoryNetwork, Network, OsNetwork, Outbox, UdpConfig,
};
use netstream_driver::{
    Clock, ConnectError, Credentials, Endpoint, ListenError, ManualClock, NetworkDriver, SendError, UdpDriver,
};

const TICK: Duration = Duration::from_micros(16_667);

/// Drivers on one network and what they reported.
struct Game<N: Network = MemoryNetwork> {
    network: N,
    clock: ManualClock,
    peers: Vec<Peer<N>>,
    seed: u64,
}

struct Peer<N: Network> {
    driver: UdpDriver<N>,
    log: Vec<Report>,
}

#[derive(Clone, Debug, PartialEq)]
enum Report {
    Accepted(ConnectionId, u64),
    Connected(ConnectionId),
    Message(ConnectionId, ChannelId, Vec<u8>),
    Ended(ConnectionId, DisconnectReason),
}

impl<N: Network> Game<N> {
    fn new(network: N) -> Self {
        Self { network, clock: ManualClock::new(), peers: Vec::new(), seed: 0 }
    }

    fn add(&mut self, change: impl FnOnce(&mut UdpConfig)) -> usize {
        self.seed += 1;
        let mut random = SeededRandom::new(self.seed);
        let mut config = UdpConfig::new(&mut random);
        change(&mut config);
        let driver = UdpDriver::on(self.network.clone(), config, Box::new(random));
        self.peers.push(Peer { driver, log: Vec::new() });
        self.peers.len() - 1
    }

    /// Adds a server at `127.0.0.1:7979`, or at any port of a real network.
    fn serve(&mut self, change: impl FnOnce(&mut UdpConfig)) -> (usize, Endpoint, Credentials) {
        let server = self.add(change);
        let now = self.clock.now();
        let endpoint = if N::REAL_TIME { "udp://127.0.0.1:0" } else { "udp://127.0.0.1:7979" };
        let driver = &mut self.peers[server].driver;
        let endpoint = driver.listen(now, &endpoint.parse().unwrap()).unwrap();
        let credentials = driver.join_code().map_or(Credentials::None, |code| Credentials::JoinCode(code.clone()));
        (server, endpoint, credentials)
    }

    fn dial(&mut self, endpoint: &Endpoint, credentials: &Credentials) -> (usize, ConnectionId) {
        let client = self.add(|_| {});
        let now = self.clock.now();
        (client, self.peers[client].driver.connect(now, endpoint, credentials).unwrap())
    }

    fn step(&mut self) {
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

    fn run(&mut self, time: Duration) {
        for _ in 0..time.as_micros() / TICK.as_micros() + 1 {
            self.step();
        }
    }

    fn end_of(&self, peer: usize, id: ConnectionId) -> Option<&DisconnectReason> {
        self.peers[peer].log.iter().find_map(|report| match report {
            Report::Ended(ended, reason) if *ended == id => Some(reason),
            _ => None,
        })
    }

    fn accepted(&self, peer: usize) -> Vec<ConnectionId> {
        let ids = self.peers[peer].log.iter().filter_map(|report| match report {
            Report::Accepted(id, _) => Some(*id),
            _ => None,
        });
        ids.collect()
    }

    fn is_connected(&self, peer: usize, id: ConnectionId) -> bool {
        self.peers[peer].log.contains(&Report::Connected(id)) && self.end_of(peer, id).is_none()
    }

    fn metrics(&self, peer: usize) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        self.peers[peer].driver.metrics(&mut |name, value| assert!(all.insert(name, value).is_none(), "{name} twice"));
        all
    }

    /// A connected client; returns it, its id there and its id on the server.
    fn join(
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

fn code(seed: u64) -> Credentials {
    Credentials::JoinCode(JoinCode::random(&mut SeededRandom::new(seed)))
}

fn local(code: DisconnectCode) -> DisconnectReason {
    DisconnectReason::local(code)
}

#[test]
fn a_wrong_join_code_ends_like_an_address_where_nobody_is() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, _) = game.serve(|_| {});
    let (client, id) = game.dial(&endpoint, &code(77));
    game.run(Duration::from_millis(4900));
    assert_eq!(game.end_of(client, id), None);
    game.run(Duration::from_millis(300));
    let expected = DisconnectReason::link(DisconnectCode::MaxConnectionAttempts);
    assert_eq!(game.end_of(client, id), Some(&expected));
    assert_eq!(game.peers[server].log, []);
    assert!(game.metrics(server)["requests_dropped_open_failed_total"] > 0);
}

#[test]
fn a_full_server_says_so() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.connections = 1);
    game.join(server, &endpoint, &credentials);
    let (late, id) = game.dial(&endpoint, &credentials);
    game.run(Duration::from_secs(1));
    let end = game.end_of(late, id).expect("turned away");
    assert_eq!((end.code, end.origin), (DisconnectCode::ServerFull, Origin::Remote));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn two_clients_that_race_for_the_last_place_get_it_and_the_reason() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.connections = 1);
    let racers = [game.dial(&endpoint, &credentials), game.dial(&endpoint, &credentials)];
    game.run(Duration::from_secs(1));
    let [first, second] = racers.map(|(client, id)| game.end_of(client, id).map(|end| end.code));
    assert_eq!((first, second), (None, Some(DisconnectCode::ServerFull)));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn an_identity_in_use_is_refused_where_the_old_connection_stays() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.identities = IdentityPolicy::RejectNew);
    let (old, old_id, _) = game.join(server, &endpoint, &credentials);
    let claimed = game.peers[old].driver.config().client_id;
    let new = game.add(|config| config.client_id = claimed);
    let now = game.clock.now();
    let new_id = game.peers[new].driver.connect(now, &endpoint, &credentials).unwrap();
    game.run(Duration::from_secs(1));
    assert_eq!(game.end_of(new, new_id), Some(&DisconnectReason::remote(DisconnectCode::IdentityInUse)));
    assert!(game.is_connected(old, old_id));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn a_newer_connection_of_an_identity_replaces_the_old_one_and_both_ends_know() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (old, old_id, old_there) = game.join(server, &endpoint, &credentials);
    let claimed = game.peers[old].driver.config().client_id;
    let new = game.add(|config| config.client_id = claimed);
    let now = game.clock.now();
    let new_id = game.peers[new].driver.connect(now, &endpoint, &credentials).unwrap();
    game.run(Duration::from_secs(1));
    assert_eq!(game.end_of(server, old_there), Some(&local(DisconnectCode::Superseded)));
    assert_eq!(game.end_of(old, old_id), Some(&DisconnectReason::remote(DisconnectCode::Superseded)));
    assert!(game.is_connected(new, new_id));
}

#[test]
fn who_falls_silent_is_given_up_on_both_ends() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    game.run(Duration::from_secs(60));
    assert!(game.is_connected(client, id), "keep-alives suffice");
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(gone);
    game.run(Duration::from_secs(9));
    assert_eq!((game.end_of(server, there), game.end_of(client, id)), (None, None));
    game.run(Duration::from_secs(2));
    let timeout = DisconnectReason::link(DisconnectCode::Timeout);
    assert_eq!(game.end_of(server, there), Some(&timeout));
    assert_eq!(game.end_of(client, id), Some(&timeout));
}

#[test]
fn a_goodbye_that_nobody_hears_ends_with_its_own_reason_after_the_linger_time() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, _, there) = game.join(server, &endpoint, &credentials);
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(gone);
    let now = game.clock.now();
    let kicked = local(DisconnectCode::Kicked);
    game.peers[server].driver.disconnect(now, there, &kicked, Duration::from_secs(1));
    game.run(Duration::from_millis(900));
    assert_eq!(game.end_of(server, there), None);
    game.run(Duration::from_millis(150));
    assert_eq!(game.end_of(server, there), Some(&kicked));
    // The goodbye is repeated, but not for ever.
    let before = game.metrics(server)["datagrams_sent_total"];
    game.run(Duration::from_secs(2));
    let after = game.metrics(server)["datagrams_sent_total"];
    assert!(after - before <= 10, "{} datagrams after the end", after - before);
    assert_eq!(game.metrics(server)["goodbyes"], 0);
}

#[test]
fn without_linger_the_end_comes_at_once_and_the_reason_still_travels() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    // The first copies are lost.
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_profile(Direction::Incoming, gone);
    let now = game.clock.now();
    let banned = local(DisconnectCode::Banned).with_text("cheating");
    game.peers[server].driver.disconnect(now, there, &banned, Duration::ZERO);
    game.step();
    assert_eq!(game.end_of(server, there), Some(&banned));
    game.run(Duration::from_millis(20));
    game.peers[client].driver.packet_simulator().unwrap().set_both(LinkProfile::PERFECT);
    game.run(Duration::from_millis(200));
    assert_eq!(game.end_of(client, id), Some(&banned.seen_by_peer()));
}

#[test]
fn a_peer_that_breaks_the_protocol_ends_only_its_own_connection() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (honest, honest_id, _) = game.join(server, &endpoint, &credentials);

    // A client that has valid credentials and no manners.
    let Credentials::JoinCode(code) = &credentials else { unreachable!() };
    let at = endpoint.socket_addr().unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut socket = game.network.bind(any, BufferSizes::CLIENT).unwrap();
    let shown = Shown::JoinCode {
        code: code.clone(),
        protocol_id: game.peers[server].driver.config().protocol_id,
        client_id: 666,
        user_data: Box::new([0; 256]),
    };
    let config = ClientConfig { credentials: shown, addresses: vec![at], allow_local: false };
    let mut random = SeededRandom::new(666);
    let mut evil = netcode::Client::new(config, &Limits::default(), &mut random, game.clock.now()).unwrap();
    let mut outbox = Outbox::new();
    let mut bodies = Vec::new();
    for _ in 0..60 {
        let now = game.clock.now();
        socket.receive(&mut |from, datagram| {
            if let Some(body) = evil.handle_datagram(now, from, datagram) {
                bodies.push(body.to_vec());
            }
        });
        evil.tick(now);
        let mut buf = [0; 1200];
        while let Some(netcode::Transmit { to, len }) = evil.poll_transmit(now, &mut buf) {
            outbox.push(to, &buf[..len]);
        }
        if evil.is_connected() {
            buf[netcode::HEADROOM..netcode::HEADROOM + 40].fill(0xff);
            let (to, range) = evil.seal_payload(now, &mut buf, 40).unwrap();
            outbox.push(to, &buf[range]);
        }
        socket.send(&mut outbox);
        game.step();
    }
    let id = game.accepted(server)[1];
    let end = game.end_of(server, id).expect("thrown out");
    assert_eq!((end.code, end.origin), (DisconnectCode::ProtocolViolation, Origin::Local));
    assert!(!end.text.is_empty(), "the text says what was wrong");
    assert!(!bodies.is_empty(), "it is told why");
    assert_eq!(game.metrics(server)["violations_total"], 1);
    assert!(game.is_connected(honest, honest_id));
}

#[test]
fn garbage_from_strangers_and_in_the_name_of_peers_changes_nothing_but_counters() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let at = endpoint.socket_addr().unwrap();
    let peer = game.peers[server].driver.stats(there).unwrap().remote.unwrap();
    let mut random = SeededRandom::new(1);
    let sent = game.metrics(server)["datagrams_sent_total"];
    for round in 0..2000_u32 {
        let mut garbage = vec![0; round as usize % 1300];
        random.fill(&mut garbage);
        // Half of it looks like a packet of some type.
        if let (0, Some(first)) = (round % 2, garbage.first_mut()) {
            *first = (round % 7) as u8 | 0x20;
        }
        game.network.inject(peer, at, &garbage);
        game.network.inject(SocketAddr::from(([1, 2, 3, 4], 5)), at, &garbage);
        game.network.inject(at, peer, &garbage);
        if round % 20 == 0 {
            game.step();
        }
    }
    game.run(Duration::from_secs(1));
    assert!(game.is_connected(client, id));
    assert_eq!(game.accepted(server), [there]);
    assert_eq!(game.end_of(server, there), None);
    // Nobody was answered: what left are the keep-alives of some three seconds.
    assert!(game.metrics(server)["datagrams_sent_total"] - sent < 20);
}

#[test]
fn a_host_name_is_looked_up() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, _, credentials) = game.serve(|_| {});
    game.network.name("play.example.org", [127, 0, 0, 1].into());
    let (client, id) = game.dial(&"udp://play.example.org:7979".parse().unwrap(), &credentials);
    let sent = game.peers[client].driver.send(game.clock.now(), id, ChannelId::RELIABLE, b"early");
    assert_eq!(sent, Err(SendError::NotReady));
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, id));
}

#[test]
fn an_unknown_host_name_is_reported_and_the_driver_is_free_again() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, endpoint, credentials) = game.serve(|_| {});
    let (client, id) = game.dial(&"udp://nowhere.example.org:7979".parse().unwrap(), &credentials);
    game.step();
    assert_eq!(game.end_of(client, id), Some(&DisconnectReason::link(DisconnectCode::HostNotFound)));
    let now = game.clock.now();
    let again = game.peers[client].driver.connect(now, &endpoint, &credentials).unwrap();
    assert_ne!(again, id);
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, again));
}

#[test]
fn a_look_up_can_be_called_off() {
    let mut game = Game::new(MemoryNetwork::new());
    let (client, id) = game.dial(&"udp://nowhere.example.org:7979".parse().unwrap(), &code(1));
    let reason = local(DisconnectCode::ConnectionClose);
    game.peers[client].driver.disconnect(game.clock.now(), id, &reason, Duration::from_secs(1));
    game.run(Duration::from_millis(100));
    assert_eq!(game.peers[client].log, [Report::Ended(id, reason)]);
}

#[test]
fn addresses_are_tried_in_turn() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, _, credentials) = game.serve(|_| {});
    game.network.name("two.example.org", [10, 0, 0, 9].into());
    game.network.name("two.example.org", [127, 0, 0, 1].into());
    let (client, id) = game.dial(&"udp://two.example.org:7979".parse().unwrap(), &credentials);
    game.run(Duration::from_millis(5300));
    assert!(game.is_connected(client, id));
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    let mut game = Game::new(MemoryNetwork::new());
    let client = game.add(|_| {});
    let now = game.clock.now();
    let driver = &mut game.peers[client].driver;
    let mut connect = |endpoint: &str, credentials: &Credentials| {
        driver.connect(now, &endpoint.parse().unwrap(), credentials).unwrap_err()
    };
    assert!(matches!(connect("udp://127.0.0.1:0", &code(1)), ConnectError::NoPort(_)));
    assert!(matches!(connect("udp://127.0.0.1:1", &Credentials::None), ConnectError::CredentialsNeeded(_)));
    assert!(matches!(connect("udp://127.0.0.1:1#ab", &code(1)), ConnectError::FingerprintUnsupported(_)));
    assert!(matches!(connect("ipc://local", &code(1)), ConnectError::WrongScheme { .. }));
    let foreign = "udp://9.9.9.9:1".parse().unwrap();
    assert!(matches!(driver.listen(now, &foreign), Err(ListenError::Io { .. })));
    let unknown = "udp://nowhere.example.org:1".parse().unwrap();
    assert!(matches!(driver.listen(now, &unknown), Err(ListenError::Io { .. })));
    // None of it has left anything half open.
    assert!(driver.listen(now, &"udp://127.0.0.1:1".parse().unwrap()).is_ok());
}

/// A server with the key of a back-end, and the key.
fn token_server(game: &mut Game) -> (usize, Endpoint, Key) {
    let key = Key::random(&mut SeededRandom::new(4));
    let mut keys = KeyRing::new();
    keys.add_key(9, key.clone()).unwrap();
    let (server, endpoint, _) = game.serve(|config| config.access = Access::Tokens(keys));
    // Tokens from before the start are refused, and their times are whole seconds.
    game.clock.advance(Duration::from_secs(2));
    (server, endpoint, key)
}

fn token(game: &Game, key: &Key, client_id: u64, addresses: &[SocketAddr]) -> Credentials {
    let request = IssueRequest::new(9, key, client_id, addresses);
    let issued = ConnectToken::issue(&request, game.clock.now().wall, &mut SeededRandom::new(client_id));
    Credentials::Token(Box::new(issued.unwrap()))
}

#[test]
fn a_token_of_a_back_end_lets_its_player_in_once() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, key) = token_server(&mut game);
    assert!(game.peers[server].driver.join_code().is_none());
    let token = token(&game, &key, 42, &[endpoint.socket_addr().unwrap()]);
    let (client, id, there) = game.join(server, &endpoint, &token);
    assert_eq!(game.peers[server].log[0], Report::Accepted(there, 42));
    let reason = local(DisconnectCode::ConnectionClose);
    game.peers[client].driver.disconnect(game.clock.now(), id, &reason, Duration::from_secs(1));
    game.run(Duration::from_secs(1));
    let (again, id) = game.dial(&endpoint, &token);
    game.run(Duration::from_secs(6));
    assert_eq!(game.end_of(again, id).unwrap().code, DisconnectCode::MaxConnectionAttempts);
}

#[test]
fn a_client_can_leave_it_to_the_token_where_to_go() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, endpoint, key) = token_server(&mut game);
    let token = token(&game, &key, 42, &[endpoint.socket_addr().unwrap()]);
    let anywhere = "udp://0.0.0.0:0".parse().unwrap();
    // Tokens come from elsewhere: they do not lead to this machine unless that is allowed.
    let client = game.add(|_| {});
    let error = game.peers[client].driver.connect(game.clock.now(), &anywhere, &token).unwrap_err();
    assert!(matches!(error, ConnectError::BadToken(_)), "{error}");
    game.peers[client].driver.config_mut().allow_local_tokens = true;
    let id = game.peers[client].driver.connect(game.clock.now(), &anywhere, &token).unwrap();
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, id));
}

#[test]
fn a_token_for_another_server_is_of_no_use() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, key) = token_server(&mut game);
    let token = token(&game, &key, 42, &[SocketAddr::from(([10, 1, 1, 1], 7979))]);
    let (client, id) = game.dial(&endpoint, &token);
    game.run(Duration::from_secs(6));
    assert!(game.end_of(client, id).is_some());
    assert!(game.metrics(server)["requests_dropped_wrong_server_total"] > 0);
}

#[test]
fn a_server_may_stop_and_listen_again_where_it_was() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, _) = game.join(server, &endpoint, &credentials);
    let now = game.clock.now();
    game.peers[server].driver.stop_listening(now);
    let elsewhere = "udp://127.0.0.1:1".parse().unwrap();
    let error = game.peers[server].driver.listen(now, &elsewhere).unwrap_err();
    assert!(matches!(error, ListenError::AlreadyListening(at) if at == endpoint));
    assert_eq!(game.peers[server].driver.listen(now, &endpoint).unwrap(), endpoint);
    game.join(server, &endpoint, &credentials);
    assert!(game.is_connected(client, id));
}

#[test]
fn leaving_and_coming_back_in_a_loop_leaves_nothing_behind() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.identity_joins = 100);
    let client = game.add(|_| {});
    let mut ids = Vec::new();
    for round in 0..20 {
        let now = game.clock.now();
        let driver = &mut game.peers[client].driver;
        let id = driver.connect(now, &endpoint, &credentials).unwrap();
        ids.push(id);
        for _ in 0..round % 7 {
            game.step();
        }
        let now = game.clock.now();
        let reason = local(DisconnectCode::ConnectionClose);
        game.peers[client].driver.disconnect(now, id, &reason, Duration::from_secs(1));
    }
    game.run(Duration::from_secs(12));
    for id in &ids {
        let ends =
            game.peers[client].log.iter().filter(|report| matches!(report, Report::Ended(ended, _) if ended == id));
        assert_eq!(ends.count(), 1, "{id:?}");
    }
    let metrics = game.metrics(server);
    assert_eq!((metrics["connections"], metrics["goodbyes"]), (0, 0));
    for id in game.accepted(server) {
        assert!(game.end_of(server, id).is_some());
    }
    let (_, id) = (client, game.peers[client].driver.connect(game.clock.now(), &endpoint, &credentials).unwrap());
    game.run(Duration::from_millis(300));
    assert!(game.is_connected(client, id));
}

#[test]
fn the_same_seeds_give_the_same_game_to_the_last_datagram() {
    let play = |seed: u64| {
        let mut game = Game::new(MemoryNetwork::new());
        game.seed = seed;
        let (server, endpoint, credentials) = game.serve(|_| {});
        let clients: Vec<_> = (0..4).map(|_| game.dial(&endpoint, &credentials)).collect();
        for (client, _) in &clients {
            game.peers[*client].driver.packet_simulator().unwrap().set_both(LinkProfile::AWFUL);
        }
        for round in 0..300_u32 {
            let now = game.clock.now();
            for (client, id) in &clients {
                let message = vec![round as u8; 1 + (round as usize * 31) % 3000];
                let _ = game.peers[*client].driver.send(now, *id, ChannelId::RELIABLE, &message);
            }
            for id in game.accepted(server) {
                let _ = game.peers[server].driver.send(now, id, ChannelId::UNRELIABLE, &round.to_le_bytes());
            }
            game.step();
        }
        let metrics: Vec<_> = (0..game.peers.len()).map(|peer| game.metrics(peer)).collect();
        let logs: Vec<_> = game.peers.drain(..).map(|peer| peer.log).collect();
        (metrics, logs)
    };
    let first = play(100);
    assert!(first.1.iter().all(|log| log.len() > 50));
    assert!(first == play(100));
    assert!(first != play(200));
}

#[test]
fn a_driver_measures_its_connections() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let slow = LinkProfile { delay: Duration::from_millis(50), ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(slow);
    for _ in 0..300 {
        let now = game.clock.now();
        game.peers[client].driver.send(now, id, ChannelId::RELIABLE, b"ping").unwrap();
        game.peers[server].driver.send(now, there, ChannelId::RELIABLE, b"pong").unwrap();
        game.step();
    }
    for (peer, id) in [(client, id), (server, there)] {
        let stats = game.peers[peer].driver.stats(id).unwrap();
        let rtt = stats.rtt.expect("many samples");
        // Twice 50 ms, and up to two ticks of waiting at either end.
        assert!((100..170).contains(&rtt.as_millis()), "{stats:?}");
        assert!(stats.packets_sent > 200 && stats.packets_received > 200 && stats.loss < 0.05, "{stats:?}");
        assert!(stats.bytes_sent > 0 && stats.bytes_received > 0);
        assert!(stats.remote.is_some());
    }
}

#[test]
fn a_server_of_both_families_takes_clients_of_either() {
    let mut game = Game::new(OsNetwork);
    let server = game.add(|_| {});
    let now = game.clock.now();
    // Without IPv6 on this machine there is nothing to test.
    let Ok(bound) = game.peers[server].driver.listen(now, &"udp://[::]:0".parse().unwrap()) else { return };
    let credentials = Credentials::JoinCode(game.peers[server].driver.join_code().unwrap().clone());
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let endpoint = format!("udp://{host}:{}", bound.port().unwrap()).parse().unwrap();
        let (client, id) = game.dial(&endpoint, &credentials);
        for _ in 0..200 {
            game.step();
            // Looking a name up takes real time.
            if !game.is_connected(client, id) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(game.is_connected(client, id), "{host}: {:?}", game.peers[client].log);
    }
    let addresses = game.accepted(server).into_iter().map(|id| game.peers[server].driver.stats(id).unwrap().remote);
    let v4 = addresses.flatten().filter(SocketAddr::is_ipv4).count();
    assert!(v4 >= 1, "IPv4 is not written as IPv6");
}

#[test]
fn what_a_server_prints_can_be_dialled_on_the_same_machine() {
    let mut game = Game::new(OsNetwork);
    let server = game.add(|_| {});
    let now = game.clock.now();
    let bound = game.peers[server].driver.listen(now, &"udp://0.0.0.0:0".parse().unwrap()).unwrap();
    let credentials = Credentials::JoinCode(game.peers[server].driver.join_code().unwrap().clone());
    let (client, id) = game.dial(&bound, &credentials);
    game.run(Duration::from_millis(300));
    assert!(game.is_connected(client, id));
}

#[test]
fn many_clients_join_at_once_on_real_sockets() {
    const CLIENTS: usize = 200;
    let mut game = Game::new(OsNetwork);
    let (server, endpoint, credentials) = game.serve(|_| {});
    let clients: Vec<_> = (0..CLIENTS).map(|_| game.dial(&endpoint, &credentials)).collect();
    game.run(Duration::from_secs(2));
    assert!(clients.iter().all(|(client, id)| game.is_connected(*client, *id)));
    let now = game.clock.now();
    for id in game.accepted(server) {
        game.peers[server].driver.send(now, id, ChannelId::RELIABLE, &id.index.to_le_bytes()).unwrap();
    }
    game.run(Duration::from_millis(100));
    for (client, id) in clients {
        let message = game.peers[client].log.iter().find_map(|report| match report {
            Report::Message(on, _, bytes) => Some((*on, bytes.len())),
            _ => None,
        });
        assert_eq!(message, Some((id, 4)));
    }
}

#[test]
fn an_honest_client_that_uploads_without_pause_is_no_flood() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let slow = LinkProfile { delay: Duration::from_millis(15), ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(slow);
    let message = vec![1; 8 * 1024];
    let mut sent = 0;
    for _ in 0..60 * 60 {
        let now = game.clock.now();
        while game.peers[client].driver.send(now, id, ChannelId::RELIABLE, &message).is_ok() {
            sent += message.len();
        }
        let state = b"where I am, sixty times a second";
        let _ = game.peers[client].driver.send(now, id, ChannelId::UNRELIABLE, state);
        game.step();
    }
    assert_eq!(game.end_of(server, there), None);
    let dropped = game.metrics(server)["packets_dropped_rate_total"];
    let received = game.peers[server].driver.stats(there).unwrap().packets_received;
    assert!(dropped * 100 < received, "{dropped} dropped, {received} received");
    // Most of the three quarters of 256 KiB/s that a client may use.
    assert!(sent > 60 * 150 * 1024, "{sent} bytes in a minute");
}

/// A game on a link of which the dice choose how bad it is.
fn play_on_a_bad_link(seed: u64) {
    const MESSAGES: u32 = 40;
    let mut dice = SeededRandom::new(seed);
    let mut share = |most: u64| dice.below(most) as f32 / 100.0;
    let profile = LinkProfile {
        loss: share(25),
        burst: share(600),
        duplicate: share(30),
        reorder: share(30),
        corrupt: share(5),
        delay: Duration::from_millis((share(200) * 100.0) as u64),
        jitter: Duration::from_millis((share(100) * 100.0) as u64),
        ..LinkProfile::PERFECT
    };
    let mut game = Game::new(MemoryNetwork::new());
    game.seed = seed * 10;
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id) = game.dial(&endpoint, &credentials);
    game.peers[client].driver.packet_simulator().unwrap().set_both(profile);
    let message = |number: u32| vec![number as u8; 1 + (number as usize * 997) % 4000];
    let (mut sent, mut sent_back) = (0, 0);
    let mut waited = 0;
    while sent < MESSAGES || sent_back < MESSAGES {
        let now = game.clock.now();
        let there = game.accepted(server).first().copied();
        if sent < MESSAGES && game.peers[client].driver.send(now, id, ChannelId::RELIABLE, &message(sent)).is_ok() {
            sent += 1;
        }
        if let Some(there) = there
            && sent_back < MESSAGES
            && game.peers[server].driver.send(now, there, ChannelId::RELIABLE, &message(sent_back)).is_ok()
        {
            sent_back += 1;
        }
        game.step();
        waited += 1;
        assert!(waited < 6000, "seed {seed} {profile:?}: {:?}", game.peers[client].log);
    }
    let there = game.accepted(server)[0];
    let kicked = local(DisconnectCode::Kicked);
    game.peers[server].driver.disconnect(game.clock.now(), there, &kicked, Duration::from_secs(60));
    while game.end_of(server, there).is_none() || game.end_of(client, id).is_none() {
        game.step();
        waited += 1;
        assert!(waited < 12_000, "seed {seed} {profile:?}: {:?}", game.peers[client].log);
    }
    assert_eq!(game.end_of(client, id), Some(&kicked.seen_by_peer()), "seed {seed} {profile:?}");
    let messages = |peer: usize, id: ConnectionId| {
        let log = game.peers[peer].log.iter();
        log.filter(move |report| matches!(report, Report::Message(on, ..) if *on == id)).cloned().collect::<Vec<_>>()
    };
    let all = |id: ConnectionId| -> Vec<_> {
        (0..MESSAGES).map(|number| Report::Message(id, ChannelId::RELIABLE, message(number))).collect()
    };
    // Everything that the server had queued was delivered first. What the client had queued may have been cut off.
    assert!(messages(client, id) == all(id), "seed {seed} {profile:?}");
    assert!(all(there).starts_with(&messages(server, there)), "seed {seed} {profile:?}");
}

#[test]
fn on_any_link_what_is_reliable_arrives_and_the_reason_crosses() {
    for seed in 0..200 {
        play_on_a_bad_link(seed);
    }
}

#[test]
fn an_id_never_comes_back_whatever_the_driver_was_in_between() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    for _ in 0..3 {
        let (client, id) = game.dial(&endpoint, &credentials);
        game.run(Duration::from_millis(200));
        let now = game.clock.now();
        let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
        game.peers[client].driver.disconnect(now, id, &reason, Duration::ZERO);
        game.run(Duration::from_secs(2));
        // With nobody left, listening again is a fresh server.
        let now = game.clock.now();
        game.peers[server].driver.stop_listening(now);
        game.peers[server].driver.listen(now, &endpoint).unwrap();
    }
    // In between it is a client for a while.
    let now = game.clock.now();
    let elsewhere: Endpoint = "udp://127.0.0.1:9".parse().unwrap();
    game.peers[server].driver.stop_listening(now);
    let own = game.peers[server].driver.connect(now, &elsewhere, &credentials).unwrap();
    let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
    game.peers[server].driver.disconnect(now, own, &reason, Duration::ZERO);
    game.run(Duration::from_secs(2));
    let now = game.clock.now();
    game.peers[server].driver.listen(now, &endpoint).unwrap();
    game.dial(&endpoint, &credentials);
    game.run(Duration::from_millis(200));

    let mut ids = game.accepted(server);
    ids.push(own);
    assert_eq!(ids.len(), 5);
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 5, "{ids:?}");
}
