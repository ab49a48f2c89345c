//! A UDP driver on a thread of its own, in real time: what it promises beyond the contract of all drivers.

use std::time::{Duration, Instant};

use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Origin};
use netstream_driver::udp::{IoMode, UdpConfig};
use netstream_driver::{
    Clock, ConnectError, Credentials, Endpoint, ListenError, NetworkDriver, OsRandom, SendError, SystemClock, UdpDriver,
};

/// Long enough for anything on loopback, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

struct Peer {
    driver: UdpDriver,
    clock: SystemClock,
    begun: Vec<ConnectionId>,
    ended: Vec<(ConnectionId, DisconnectReason)>,
    messages: Vec<(ChannelId, Vec<u8>)>,
}

impl Peer {
    fn new(io: IoMode, change: impl FnOnce(&mut UdpConfig)) -> Self {
        let mut config = UdpConfig::new(&mut OsRandom);
        config.io = io;
        change(&mut config);
        let driver = UdpDriver::with_config(config);
        assert_eq!((driver.io(), driver.works_alone()), (io, io == IoMode::Thread));
        let (begun, ended, messages) = (Vec::new(), Vec::new(), Vec::new());
        Self { driver, clock: SystemClock::new(), begun, ended, messages }
    }

    fn update(&mut self) {
        let Self { driver, clock, begun, ended, messages } = self;
        let now = clock.now();
        driver.receive(now, &mut |incoming| match incoming {
            Incoming::Accepted { connection, .. } | Incoming::Connected { connection } => begun.push(connection),
            Incoming::Message { channel, bytes, .. } => messages.push((channel, bytes.to_vec())),
            Incoming::Disconnected { connection, reason } => ended.push((connection, reason)),
        });
        driver.flush(now);
    }

    fn listen(&mut self) -> (Endpoint, Credentials) {
        let at = "udp://127.0.0.1:0".parse().unwrap();
        let endpoint = self.driver.listen(self.clock.now(), &at).unwrap();
        (endpoint, Credentials::JoinCode(self.driver.join_code().unwrap().clone()))
    }

    fn connect(&mut self, (endpoint, credentials): &(Endpoint, Credentials)) -> ConnectionId {
        self.driver.connect(self.clock.now(), endpoint, credentials).unwrap()
    }

    fn send(&mut self, id: ConnectionId, channel: ChannelId, message: &[u8]) -> Result<(), SendError> {
        self.driver.send(self.clock.now(), id, channel, message)
    }

    fn disconnect(&mut self, id: ConnectionId, linger: Duration) {
        let now = self.clock.now();
        self.driver.disconnect(now, id, &DisconnectReason::local(DisconnectCode::Kicked), linger);
    }

    fn metric(&self, name: &str) -> u64 {
        let mut found = None;
        self.driver.metrics(&mut |other, value| {
            if other == name {
                found = Some(value);
            }
        });
        found.unwrap_or_else(|| panic!("{name} is reported"))
    }
}

/// A server and a client, both on threads.
struct Pair {
    server: Peer,
    client: Peer,
}

impl Pair {
    fn new(server: impl FnOnce(&mut UdpConfig), client: impl FnOnce(&mut UdpConfig)) -> Self {
        Self { server: Peer::new(IoMode::Thread, server), client: Peer::new(IoMode::Thread, client) }
    }

    #[track_caller]
    fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !so(self) {
            assert!(start.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(2));
            self.server.update();
            self.client.update();
        }
    }

    fn connected(&mut self) -> (ConnectionId, ConnectionId) {
        let door = self.server.listen();
        self.client.connect(&door);
        self.until("connected", |pair| !pair.server.begun.is_empty() && !pair.client.begun.is_empty());
        (self.server.begun[0], self.client.begun[0])
    }
}

fn default(_: &mut UdpConfig) {}

/// As fast as the machine allows.
fn unlimited(config: &mut UdpConfig) {
    config.limits.inbound_bytes = u32::MAX;
    config.limits.inbound_byte_burst = u32::MAX;
    config.limits.inbound_packets = u32::MAX;
    config.limits.inbound_packet_burst = u32::MAX;
    config.client_limits.bandwidth = None;
}

#[test]
fn a_world_that_stalls_keeps_its_connections() {
    // Three times as long as silence may last, and many keep-alives within that.
    let (idle, stall) = (Duration::from_secs(1), Duration::from_secs(3));
    let quick = |config: &mut UdpConfig| {
        config.limits.idle_timeout = idle;
        config.limits.keep_alive = Duration::from_millis(50);
    };
    let mut pair = Pair::new(quick, quick);
    let (server, client) = pair.connected();
    std::thread::sleep(stall);
    pair.client.send(client, ChannelId::RELIABLE, b"still here?").unwrap();
    pair.server.send(server, ChannelId::RELIABLE, b"still here!").unwrap();
    pair.until("both answer", |pair| !pair.server.messages.is_empty() && !pair.client.messages.is_empty());
    assert_eq!((pair.server.ended.len(), pair.client.ended.len()), (0, 0));
}

#[test]
fn the_round_trip_time_is_not_that_of_the_frame() {
    const FRAME: Duration = Duration::from_millis(400);
    let mut pair = Pair::new(default, default);
    let (_, client) = pair.connected();
    for _ in 0..5 {
        // The server's World sleeps; the client's does not.
        let start = Instant::now();
        while start.elapsed() < FRAME {
            pair.client.send(client, ChannelId::RELIABLE, b"x").unwrap();
            pair.client.update();
            std::thread::sleep(Duration::from_millis(20));
        }
        pair.server.update();
    }
    let rtt = pair.client.driver.stats(client).unwrap().rtt.expect("acks came while the World slept");
    assert!(rtt < FRAME / 4, "{rtt:?}");
}

#[test]
fn messages_arrive_in_order_through_full_queues() {
    // Both the queue between the threads and that of the channel fill, several times over.
    const COUNT: u32 = 2000;
    let mut pair = Pair::new(unlimited, unlimited);
    let (_, client) = pair.connected();
    let (mut sent, mut refused, start) = (0, 0, Instant::now());
    while pair.server.messages.len() < COUNT as usize {
        assert!(start.elapsed() < PATIENCE, "{} arrived", pair.server.messages.len());
        while sent < COUNT {
            let message = sent.to_le_bytes().repeat(500);
            match pair.client.send(client, ChannelId::RELIABLE, &message) {
                Ok(()) => sent += 1,
                Err(error) => {
                    assert_eq!(error, SendError::QueueFull);
                    refused += 1;
                    break;
                }
            }
        }
        if refused == 1 {
            assert!(pair.client.driver.stats(client).unwrap().reliable_queued > 200_000);
        }
        if sent == COUNT && pair.client.ended.is_empty() && refused > 0 {
            // What is queued arrives before the goodbye, in whichever queue it waits.
            pair.client.disconnect(client, PATIENCE);
        }
        pair.client.update();
        pair.server.update();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(refused > 0);
    for (number, (_, message)) in (0..COUNT).zip(&pair.server.messages) {
        assert!(message.chunks(4).all(|chunk| chunk == number.to_le_bytes()));
    }
    pair.until("both ends know", |pair| pair.server.ended.len() == 1 && pair.client.ended.len() == 1);
    let (server, client) = (&pair.server.ended[0].1, &pair.client.ended[0].1);
    assert_eq!((server.code, server.origin), (DisconnectCode::Kicked, Origin::Remote));
    assert_eq!((client.code, client.origin), (DisconnectCode::Kicked, Origin::Local));
}

#[test]
fn a_thread_finds_out_how_large_datagrams_may_be() {
    let asking = |config: &mut UdpConfig| {
        unlimited(config);
        *config = config.clone().with_max_datagram(1452);
    };
    let mut pair = Pair::new(asking, asking);
    let (server, client) = pair.connected();
    for number in 0..16 {
        pair.server.send(server, ChannelId::RELIABLE, &[number; 1 << 16]).unwrap();
        pair.client.send(client, ChannelId::RELIABLE, &[number; 1 << 16]).unwrap();
        pair.until("it arrives", |pair| {
            pair.server.messages.len() > usize::from(number) && pair.client.messages.len() > usize::from(number)
        });
    }
    pair.until("both know", |pair| {
        let ends = [(&pair.server, server), (&pair.client, client)];
        ends.into_iter().all(|(peer, id)| peer.driver.stats(id).is_some_and(|stats| stats.max_datagram == 1452))
    });
}

#[test]
fn a_world_that_fetches_nothing_costs_a_bounded_amount_of_memory() {
    const BOUND: u64 = 18 << 20;
    let mut pair = Pair::new(unlimited, unlimited);
    let (_, client) = pair.connected();
    pair.client.send(client, ChannelId::RELIABLE, b"first").unwrap();
    for _ in 0..400 {
        for _ in 0..64 {
            pair.client.send(client, ChannelId::UNRELIABLE, &[7; 1000]).unwrap();
        }
        pair.client.update();
        std::thread::sleep(Duration::from_millis(1));
    }
    pair.client.send(client, ChannelId::RELIABLE, b"last").unwrap();
    pair.client.update();
    pair.until("what is reliable came through", |pair| {
        pair.server.messages.iter().any(|(_, message)| message == b"last")
    });
    let bytes: usize = pair.server.messages.iter().map(|(_, message)| message.len()).sum();
    assert!(pair.server.messages.iter().any(|(_, message)| message == b"first"));
    assert!(bytes as u64 <= BOUND, "{bytes} bytes waited");
    pair.until("the figures are new", |pair| pair.server.metric("thread_waiting_bytes") == 0);
    assert!(bytes > 1 << 20, "the test sends enough: {bytes}");
    let dropped = pair.server.metric("thread_unreliable_dropped_total");
    assert!(dropped > 0 || bytes < 8 << 20, "{bytes} bytes and {dropped} dropped");
    assert_eq!(pair.server.ended, []);
}

#[test]
fn what_is_reliable_waits_at_the_sender_while_a_world_fetches_nothing() {
    const COUNT: u32 = 10_000;
    let open = |config: &mut UdpConfig| {
        unlimited(config);
        config.client_limits.slow_consumer = PATIENCE;
    };
    let mut pair = Pair::new(open, open);
    let (_, client) = pair.connected();
    let (mut sent, mut refused, start) = (0, 0, Instant::now());
    let send = |pair: &mut Pair, sent: &mut u32| {
        while *sent < COUNT {
            if pair.client.send(client, ChannelId::RELIABLE, &sent.to_le_bytes().repeat(1000)).is_err() {
                return false;
            }
            *sent += 1;
        }
        true
    };
    // 40 MB are more than any bound; half a second without a byte of progress is not a matter of speed.
    while refused < 250 && !send(&mut pair, &mut sent) {
        let before = sent;
        std::thread::sleep(Duration::from_millis(2));
        pair.client.update();
        send(&mut pair, &mut sent);
        refused = if sent == before { refused + 1 } else { 0 };
        assert!(start.elapsed() < PATIENCE);
    }
    assert!((4000..9000).contains(&sent), "{sent} were taken");
    while pair.server.messages.len() < COUNT as usize {
        assert!(start.elapsed() < PATIENCE, "{} arrived", pair.server.messages.len());
        send(&mut pair, &mut sent);
        pair.client.update();
        pair.server.update();
        std::thread::sleep(Duration::from_millis(1));
    }
    for (number, (_, message)) in (0..COUNT).zip(&pair.server.messages) {
        assert!(message.chunks(4).all(|chunk| chunk == number.to_le_bytes()));
    }
    assert_eq!((pair.server.ended.len(), pair.client.ended.len()), (0, 0));
}

#[test]
fn a_driver_can_be_dropped_in_any_state() {
    drop(Peer::new(IoMode::Thread, default));

    let mut listening = Peer::new(IoMode::Thread, default);
    let door = listening.listen();
    drop(listening);

    // Nobody is there any more.
    let mut dialling = Peer::new(IoMode::Thread, default);
    dialling.connect(&door);
    drop(dialling);

    let mut stopped = Peer::new(IoMode::Thread, default);
    stopped.listen();
    stopped.driver.stop_listening(stopped.clock.now());
    assert_eq!(stopped.driver.listening(), None);
    drop(stopped);

    let mut leaving = Pair::new(default, default);
    let (_, client) = leaving.connected();
    leaving.client.send(client, ChannelId::RELIABLE, b"last words").unwrap();
    leaving.client.disconnect(client, PATIENCE);
    drop(leaving.client);
    drop(leaving.server);
}

#[test]
fn who_is_dropped_says_goodbye_and_what_it_sent_before() {
    let mut pair = Pair::new(default, default);
    let (server, client) = pair.connected();
    pair.client.send(client, ChannelId::UNRELIABLE, b"not flushed").unwrap();
    pair.client = Peer::new(IoMode::Thread, default);
    pair.until("the server knows", |pair| pair.server.ended.len() == 1);
    assert_eq!(pair.server.messages, [(ChannelId::UNRELIABLE, b"not flushed".to_vec())]);
    let (id, reason) = &pair.server.ended[0];
    assert_eq!((*id, reason.code, reason.origin), (server, DisconnectCode::ConnectionClose, Origin::Remote));
}

#[test]
fn a_panic_of_the_thread_ends_its_connections_with_a_reason_of_their_own() {
    let mut pair = Pair::new(default, default);
    let (server, _) = pair.connected();
    let changed = pair.server.driver.change_keys(|_| panic!("a key that cannot be"));
    assert!(!changed);
    pair.until("the World knows", |pair| !pair.server.ended.is_empty());
    let reason = DisconnectReason::link(DisconnectCode::DriverFailed).with_text("a key that cannot be");
    assert_eq!(pair.server.ended, [(server, reason)]);
    // Nothing hangs, everything has an answer.
    assert_eq!(pair.server.send(server, ChannelId::RELIABLE, b"x"), Err(SendError::NotConnected));
    assert_eq!(pair.server.driver.listening(), None);
    let now = pair.server.clock.now();
    let at: Endpoint = "udp://127.0.0.1:0".parse().unwrap();
    let error = pair.server.driver.listen(now, &at).unwrap_err();
    assert!(
        matches!(&error, ListenError::Io { source, .. } if source.to_string() == "a key that cannot be"),
        "{error}"
    );
    let to: Endpoint = "udp://127.0.0.1:9".parse().unwrap();
    let code = Credentials::JoinCode(pair.server.driver.join_code().unwrap().clone());
    let error = pair.server.driver.connect(now, &to, &code).unwrap_err();
    assert!(matches!(error, ConnectError::Io { .. }), "{error}");
    pair.server.driver.set_limits(Default::default());
    assert!(pair.server.driver.is_idle());
    // The thread said goodbye while it could.
    pair.until("the client knows", |pair| !pair.client.ended.is_empty());
}

#[test]
fn limits_and_keys_change_while_connections_are_up() {
    let mut pair = Pair::new(default, default);
    pair.connected();
    let mut limits = pair.server.driver.config().limits.clone();
    limits.connections = 1;
    pair.server.driver.set_limits(limits);
    assert_eq!(pair.server.driver.config().limits.connections, 1);
    let door = (pair.server.driver.listening().unwrap(), {
        Credentials::JoinCode(pair.server.driver.join_code().unwrap().clone())
    });
    let mut second = Peer::new(IoMode::Inline, default);
    let id = second.connect(&door);
    let start = Instant::now();
    while second.ended.is_empty() {
        assert!(start.elapsed() < PATIENCE);
        second.update();
        pair.server.update();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!((second.ended[0].0, second.ended[0].1.code), (id, DisconnectCode::ServerFull));
    assert!(pair.server.driver.change_keys(|keys| *keys = Default::default()));
    assert!(!pair.client.driver.change_keys(|_| ()), "a client has none");
}

#[test]
fn figures_arrive_by_themselves() {
    let mut pair = Pair::new(default, default);
    let (server, client) = pair.connected();
    assert!(pair.client.driver.stats(client).unwrap().remote.is_some());
    assert!(pair.server.driver.stats(server).unwrap().remote.is_some());
    pair.client.send(client, ChannelId::RELIABLE, b"x").unwrap();
    pair.until("figures", |pair| {
        pair.server.driver.stats(server).is_some_and(|stats| stats.packets_received > 0)
            && pair.client.driver.stats(client).is_some_and(|stats| stats.rtt.is_some() && stats.reliable_queued == 0)
            && pair.server.metric("datagrams_received_total") > 0
            && pair.server.metric("thread_rounds_total") > 0
            && pair.server.driver.socket_stats().received > 0
    });
}

#[test]
fn a_client_comes_and_goes_without_end() {
    let mut pair = Pair::new(|config| config.limits.identity_joins = 100, default);
    let door = pair.server.listen();
    for round in 1..=20 {
        let id = pair.client.connect(&door);
        pair.until("in", |pair| pair.client.begun.len() == round && pair.server.begun.len() == round);
        pair.client.disconnect(id, PATIENCE);
        if round % 2 == 0 {
            pair.until("out", |pair| pair.client.ended.len() == round);
        }
    }
    pair.until("all are gone", |pair| pair.server.ended.len() == 20 && pair.client.ended.len() == 20);
    pair.until("nothing is left to say", |pair| pair.client.driver.is_idle());
    let ids: Vec<_> = pair.client.ended.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, pair.client.begun);
}
