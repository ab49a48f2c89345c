//! A whole server and its clients: what holds across connections, told one behaviour at a time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::channel::{LinkConfig, Pressure, SendError};
use netstream_transport::crypto::Key;
use netstream_transport::netcode::client::{self, Credentials};
use netstream_transport::netcode::{self, ConnectToken, IssueRequest, KeyRing, LARGEST_BODY, LARGEST_DATAGRAM};
use netstream_transport::{
    ChannelId, Client, ClientConfig, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Limits, Mono, Now,
    Origin, SeededRandom, Server, ServerConfig, Wall,
};

const RELIABLE: ChannelId = ChannelId::RELIABLE;
const UNRELIABLE: ChannelId = ChannelId::UNRELIABLE;
const START: u64 = 1_900_000_000;
const STEP: Duration = Duration::from_millis(5);
const DELAY: u64 = 2;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn server_address() -> SocketAddr {
    ([203, 0, 113, 1], 7979).into()
}

#[derive(Default)]
struct Inbox {
    messages: Vec<(ChannelId, Vec<u8>)>,
    ended: Option<DisconnectReason>,
}

impl Inbox {
    fn take(&mut self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::Message { channel, bytes, .. } => self.messages.push((channel, bytes.to_vec())),
            Incoming::Disconnected { reason, .. } => assert_eq!(self.ended.replace(reason), None, "ended twice"),
            _ => {}
        }
    }

    fn bytes(&self, channel: ChannelId) -> usize {
        self.messages.iter().filter(|(of, _)| *of == channel).map(|(_, message)| message.len()).sum()
    }
}

/// A server and clients on a network without loss, in steps of 5 ms.
struct Town {
    server: Server,
    at_server: BTreeMap<ConnectionId, Inbox>,
    clients: Vec<(Client, Inbox)>,
    steps: u64,
    /// Datagrams under way: the step of arrival, to the server or to a client.
    flying: VecDeque<(u64, Option<usize>, Vec<u8>)>,
    sent_by_server: u64,
    /// The clients act.
    awake: bool,
    /// Larger datagrams are lost.
    mtu: usize,
    /// The largest that has left.
    largest: usize,
}

impl Town {
    fn new(clients: usize, limits: Limits) -> Self {
        Self::with(clients, limits, LinkConfig::server(), LinkConfig::client())
    }

    /// A server and clients of which some look for larger packets, on paths of any size.
    fn searching(clients: usize, server_max: usize, client_max: usize) -> Self {
        let (mut server, mut client) = (LinkConfig::server(), LinkConfig::client());
        (server.max_mtu, client.max_mtu) = (server_max, client_max);
        let mut limits = Limits::server();
        // As fast as they like.
        (limits.inbound_bytes, limits.inbound_byte_burst) = (u32::MAX, u32::MAX);
        (limits.inbound_packets, limits.inbound_packet_burst) = (u32::MAX, u32::MAX);
        Self::with(clients, limits, server, client)
    }

    fn with(clients: usize, limits: Limits, server_link: LinkConfig, client_link: LinkConfig) -> Self {
        let mut random = SeededRandom::new(1);
        let key = Key::from_bytes([9; 32]);
        let mut keys = KeyRing::new();
        keys.add_key(1, key.clone()).unwrap();
        let mut config = netcode::ServerConfig::new(keys);
        config.addresses = vec![server_address()];
        let config = ServerConfig { netcode: config, link: server_link, limits };
        let before = Now { mono: Mono::ZERO, wall: Wall::from_unix(START - 2) };
        let server = Server::new(config, &mut random, before);
        let now = Now { mono: Mono::from_nanos(2_000_000_000), wall: Wall::from_unix(START) };
        let clients = (0..clients as u64).map(|number| {
            let servers = [server_address()];
            let request = IssueRequest::new(1, &key, number, &servers);
            let token = ConnectToken::issue(&request, now.wall, &mut random).unwrap();
            let credentials = Credentials::Token(Box::new(token));
            let netcode = client::ClientConfig {
                credentials,
                addresses: Vec::new(),
                allow_local: false,
                cipher: Default::default(),
            };
            let config = ClientConfig { netcode, link: client_link.clone(), limits: Limits::client() };
            let id = ConnectionId { index: number as u32, generation: 1 };
            (Client::new(id, config, &mut random, now).unwrap(), Inbox::default())
        });
        let clients = clients.collect();
        let flying = VecDeque::new();
        let at_server = BTreeMap::new();
        let (steps, sent_by_server, awake, mtu, largest) = (0, 0, true, usize::MAX, 0);
        let mut town = Self { server, at_server, clients, steps, flying, sent_by_server, awake, mtu, largest };
        town.run_for(ms(500));
        assert!(town.clients.iter().all(|(client, _)| !client.is_connecting()));
        town
    }

    fn now(&self) -> Now {
        let nanos = self.steps * STEP.as_nanos() as u64;
        Now { mono: Mono::from_nanos(2_000_000_000 + nanos), wall: Wall::from_unix(START + nanos / 1_000_000_000) }
    }

    fn address(client: usize) -> SocketAddr {
        ([10, 0, client as u8, 1], 5000).into()
    }

    /// The server's connections.
    fn ids(&self) -> Vec<ConnectionId> {
        self.at_server.keys().copied().collect()
    }

    fn client_of(&self, id: ConnectionId) -> usize {
        let address = self.server.address(id).unwrap();
        (0..self.clients.len()).find(|client| Self::address(*client) == address).unwrap()
    }

    fn metrics(&self) -> BTreeMap<&'static str, u64> {
        let mut metrics = BTreeMap::new();
        self.server.metrics(&mut |name, value| assert_eq!(metrics.insert(name, value), None, "{name} twice"));
        metrics
    }

    fn run_for(&mut self, time: Duration) {
        for _ in 0..time.as_millis() / STEP.as_millis() {
            self.step();
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        let now = self.now();
        let Self { server, at_server, clients, flying, steps, mtu, largest, .. } = self;
        let mut fits = |size: usize| {
            *largest = size.max(*largest);
            size <= *mtu
        };
        let mut sink = |incoming: Incoming<'_>| {
            let (Incoming::Accepted { connection, .. }
            | Incoming::Connected { connection }
            | Incoming::Message { connection, .. }
            | Incoming::Disconnected { connection, .. }) = &incoming;
            at_server.entry(*connection).or_default().take(incoming);
        };
        while flying.front().is_some_and(|(at, ..)| *at <= *steps) {
            let Some((_, to, mut datagram)) = flying.pop_front() else { break };
            match to {
                Some(client) if self.awake => {
                    let (client, inbox) = &mut clients[client];
                    client.handle_datagram(now, server_address(), &mut datagram, &mut |incoming| inbox.take(incoming));
                }
                Some(_) => {}
                None => {
                    let from = SocketAddr::from(([10, 0, datagram.pop().unwrap(), 1], 5000));
                    server.handle_datagram(now, from, &mut datagram, &mut sink);
                }
            }
        }
        server.tick(now, &mut sink);
        let mut buf = [0; LARGEST_DATAGRAM];
        while let Some(transmit) = server.poll_transmit(now, &mut buf) {
            self.sent_by_server += transmit.at.len() as u64;
            let IpLast(client) = transmit.to.into();
            if fits(transmit.at.len()) {
                flying.push_back((*steps + DELAY, Some(client), buf[transmit.at].to_vec()));
            }
        }
        for (number, (client, inbox)) in clients.iter_mut().enumerate().filter(|_| self.awake) {
            client.tick(now, &mut |incoming| inbox.take(incoming));
            while let Some(transmit) = client.poll_transmit(now, &mut buf) {
                let mut datagram = buf[transmit.at].to_vec();
                if fits(datagram.len()) {
                    // Who sent it, for the server.
                    datagram.push(number as u8);
                    flying.push_back((*steps + DELAY, None, datagram));
                }
            }
        }
    }
}

struct IpLast(usize);

impl From<SocketAddr> for IpLast {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self(address.ip().octets()[2].into()),
            SocketAddr::V6(_) => panic!("nobody is there"),
        }
    }
}

#[test]
fn a_cap_on_all_connections_is_kept_and_shared_equally() {
    let mut limits = Limits::server();
    limits.server_bandwidth = Some(400_000);
    let mut town = Town::new(4, limits);
    let before = town.sent_by_server;
    for _ in 0..1000 {
        let now = town.now();
        for id in town.ids() {
            while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
        }
        town.step();
    }
    let rate = (town.sent_by_server - before) as f64 / 5.0;
    assert!((360_000.0..=408_000.0).contains(&rate), "{rate}");
    let shares: Vec<usize> = town.clients.iter().map(|(_, inbox)| inbox.bytes(RELIABLE)).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*least * 100 >= *most * 97, "{shares:?}");
}

#[test]
fn under_the_cap_game_traffic_leaves_first_and_bulk_gets_what_is_left() {
    let mut limits = Limits::server();
    limits.server_bandwidth = Some(200_000);
    let mut town = Town::new(4, limits);
    let ids = town.ids();
    let (loud, quiet) = (town.client_of(ids[0]), town.client_of(ids[1]));
    let mut sent = 0;
    for step in 0..1000 {
        let now = town.now();
        while town.server.send(now, ids[0], RELIABLE, &[7; 1000]).is_ok() {}
        if step % 5 == 0 {
            town.server.send(now, ids[1], UNRELIABLE, &[1; 1000]).unwrap();
            sent += 1;
        }
        town.step();
    }
    let arrived = town.clients[quiet].1.bytes(UNRELIABLE) / 1000;
    assert!(arrived + 2 >= sent, "{arrived} of {sent}");
    let bulk = town.clients[loud].1.bytes(RELIABLE);
    assert!((600_000..=800_000).contains(&bulk), "{bulk}");
}

#[test]
fn more_game_traffic_than_the_cap_is_shared_equally_and_acks_still_leave() {
    let mut limits = Limits::server();
    limits.server_bandwidth = Some(100_000);
    let mut town = Town::new(4, limits);
    let before = town.sent_by_server;
    for _ in 0..1000 {
        let now = town.now();
        for id in town.ids() {
            town.server.send(now, id, UNRELIABLE, &[1; 1000]).unwrap();
        }
        for (client, _) in &mut town.clients {
            let _ = client.send(now, RELIABLE, &[2; 50]);
        }
        town.step();
    }
    let rate = (town.sent_by_server - before) as f64 / 5.0;
    assert!((90_000.0..=125_000.0).contains(&rate), "{rate}");
    let shares: Vec<usize> = town.clients.iter().map(|(_, inbox)| inbox.bytes(UNRELIABLE)).collect();
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(*least * 100 >= *most * 95, "{shares:?}");
    for inbox in town.at_server.values() {
        assert!(inbox.bytes(RELIABLE) >= 45_000, "{}", inbox.bytes(RELIABLE));
    }
    assert!(town.metrics()["link_messages_dropped_queue_full_total"] > 1000);
}

#[test]
fn a_waiting_server_wakes_when_its_cap_opens_and_not_at_once() {
    let mut limits = Limits::server();
    limits.server_bandwidth = Some(50_000);
    let mut town = Town::new(2, limits);
    let now = town.now();
    for id in town.ids() {
        while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
        town.server.send(now, id, UNRELIABLE, &[7; 1000]).unwrap();
    }
    town.run_for(ms(50));
    let due = town.server.poll_timeout().unwrap();
    assert!(due > town.now().mono, "it would spin");
    assert!(due.since(town.now().mono) < ms(200));
}

#[test]
fn an_ack_rides_with_data_and_leaves_alone_when_its_time_has_come() {
    let mut town = Town::new(3, Limits::server());
    let arrived =
        |town: &Town| town.clients.iter().map(|(client, _)| client.stats().packets_received).collect::<Vec<_>>();
    let before = arrived(&town);
    let since = |town: &Town| arrived(town).iter().zip(&before).map(|(now, before)| now - before).collect::<Vec<_>>();
    let sent_at = town.now();
    for (client, _) in &mut town.clients {
        client.send(sent_at, UNRELIABLE, b"input").unwrap();
    }
    town.run_for(ms(20));
    assert!(town.at_server.values().all(|inbox| inbox.messages.last() == Some(&(UNRELIABLE, b"input".to_vec()))));
    let due = town.server.poll_timeout().expect("acks wait");
    assert!(due > town.now().mono && due <= town.now().mono + ms(25), "{due:?} at {:?}", town.now());

    let id = *town.at_server.keys().next().unwrap();
    town.server.send(town.now(), id, UNRELIABLE, b"snapshot").unwrap();
    town.run_for(ms(15));
    let mut expected = vec![0; 3];
    expected[town.client_of(id)] = 1;
    assert_eq!(since(&town), expected, "the snapshot, and nothing for the others yet");
    town.run_for(ms(30));
    assert_eq!(since(&town), [1, 1, 1], "no second one for who had the snapshot");
    assert!(town.clients.iter().all(|(client, _)| client.stats().in_flight == 0), "all acknowledged");
    town.run_for(ms(100));
    assert_eq!(since(&town), [1, 1, 1]);
}

#[test]
fn the_cap_can_be_set_and_lifted_while_connections_are_up() {
    let mut town = Town::new(2, Limits::server());
    let mut rates = Vec::new();
    for cap in [None, Some(50_000), None] {
        let mut limits = Limits::server();
        limits.server_bandwidth = cap;
        town.server.set_limits(limits);
        town.run_for(ms(200));
        let before = town.sent_by_server;
        for _ in 0..200 {
            let now = town.now();
            for id in town.ids() {
                while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
            }
            town.step();
        }
        rates.push(town.sent_by_server - before);
    }
    assert!(rates[1] <= 60_000, "{rates:?}");
    assert!(rates[0] > 500_000 && rates[2] > 500_000, "{rates:?}");
}

#[test]
fn limits_of_connections_that_are_up_can_be_changed() {
    let mut town = Town::new(1, Limits::server());
    let id = town.ids()[0];
    let mut limits = Limits::server();
    limits.bandwidth = Some(20_000);
    limits.slow_consumer = ms(500);
    town.server.set_limits(limits);
    let before = town.sent_by_server;
    for _ in 0..200 {
        let now = town.now();
        while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
        town.step();
    }
    assert!(town.sent_by_server - before <= 30_000, "{}", town.sent_by_server - before);
    // The client falls silent.
    town.awake = false;
    town.run_for(ms(1000));
    let ended = town.at_server[&id].ended.as_ref().unwrap();
    assert_eq!((ended.code, ended.origin), (DisconnectCode::SlowConsumer, Origin::Local));
    assert_eq!(town.metrics()["link_slow_consumers_total"], 1);
}

#[test]
fn a_smaller_reassembly_gives_up_what_is_over_it_and_says_so() {
    let mut town = Town::new(1, Limits::server());
    let mut limits = Limits::server();
    limits.reassembly_messages = 0;
    town.server.set_limits(limits);
    let now = town.now();
    town.clients[0].0.send(now, ChannelId::UNRELIABLE_FRAGMENTED, &[3; 10_000]).unwrap();
    town.run_for(ms(100));
    assert!(town.metrics()["link_reassembly_evicted_total"] >= 9, "{:?}", town.metrics());
    town.server.set_limits(Limits::server());
    let now = town.now();
    town.clients[0].0.send(now, ChannelId::UNRELIABLE_FRAGMENTED, &[3; 10_000]).unwrap();
    town.run_for(ms(100));
    assert_eq!(town.at_server.values().next().unwrap().messages.len(), 1);
}

#[test]
fn who_does_not_read_closes_the_window_and_loses_nothing() {
    let mut town = Town::new(1, Limits::server());
    let id = town.ids()[0];
    town.server.pause(id);
    let mut seen = Vec::new();
    let mut sent = 0u32;
    for _ in 0..600 {
        let now = town.now();
        let client = &mut town.clients[0].0;
        loop {
            let mut message = [5; 1000];
            message[..4].copy_from_slice(&sent.to_le_bytes());
            match client.send(now, RELIABLE, &message) {
                Ok(()) => sent += 1,
                Err(SendError::QueueFull) => break,
                Err(other) => panic!("{other}"),
            }
            let pressure = client.backlog(RELIABLE).unwrap().pressure;
            if seen.last() != Some(&pressure) {
                seen.push(pressure);
            }
        }
        client.send(now, UNRELIABLE, b"still here").unwrap();
        town.step();
    }
    let at_server = &town.at_server[&id];
    assert_eq!(at_server.bytes(RELIABLE), 0);
    assert_eq!(at_server.bytes(UNRELIABLE), 10 * 598, "unreliable messages are reported all the same");
    // The queue of the client and the window of the server, and not more.
    assert!((300..=330).contains(&sent), "{sent}");
    assert_eq!(seen[..3], [Pressure::Ok, Pressure::Pressing, Pressure::Full]);
    assert!(town.metrics()["link_heap_bytes"] <= 640 << 10);

    let now = town.now();
    let Town { server, at_server, .. } = &mut town;
    let inbox = at_server.get_mut(&id).unwrap();
    server.resume(now, id, &mut |incoming| inbox.take(incoming));
    town.run_for(ms(3000));
    let inbox = &town.at_server[&id];
    let got: Vec<u32> = inbox
        .messages
        .iter()
        .filter(|(channel, _)| *channel == RELIABLE)
        .map(|(_, message)| u32::from_le_bytes([message[0], message[1], message[2], message[3]]))
        .collect();
    assert!(got.iter().copied().eq(0..sent), "{} of {sent}", got.len());
    assert_eq!(inbox.ended, None);
}

#[test]
fn a_peer_that_reads_nothing_for_ten_seconds_is_left() {
    let mut town = Town::new(1, Limits::server());
    let id = town.ids()[0];
    town.clients[0].0.pause();
    let now = town.now();
    // More than the window and the queue of a client's default.
    let mut limits = Limits::client();
    limits.receive_window = 64 << 10;
    town.clients[0].0.set_limits(limits);
    while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
    for _ in 0..1900 {
        let now = town.now();
        while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
        town.step();
    }
    assert_eq!(town.at_server[&id].ended, None);
    assert_eq!(town.server.backlog(id, RELIABLE).unwrap().pressure, Pressure::Full);
    town.run_for(ms(1500));
    let ended = town.at_server[&id].ended.clone().unwrap();
    assert_eq!((ended.code, ended.origin), (DisconnectCode::SlowConsumer, Origin::Local));
    let ended = town.clients[0].1.ended.clone().unwrap();
    assert_eq!((ended.code, ended.origin), (DisconnectCode::SlowConsumer, Origin::Remote));
}

#[test]
fn ends_that_leave_at_the_same_time_end_with_their_own_reason() {
    let mut town = Town::new(1, Limits::server());
    let id = town.ids()[0];
    let now = town.now();
    town.server.disconnect(now, id, &DisconnectReason::local(DisconnectCode::Kicked), ms(500));
    town.clients[0].0.disconnect(now, &DisconnectReason::local(DisconnectCode::ConnectionClose), ms(500));
    town.run_for(ms(1000));
    assert_eq!(town.at_server[&id].ended, Some(DisconnectReason::local(DisconnectCode::Kicked)));
    assert_eq!(town.clients[0].1.ended, Some(DisconnectReason::local(DisconnectCode::ConnectionClose)));
}

#[test]
fn counters_outlive_the_connections_that_they_counted() {
    let mut town = Town::new(2, Limits::server());
    let id = town.ids()[0];
    let now = town.now();
    while town.server.send(now, id, RELIABLE, &[7; 1000]).is_ok() {}
    assert_eq!(town.metrics()["link_messages_refused_queue_full_total"], 1);
    assert!(town.metrics()["link_reliable_queued_bytes"] > 200_000);
    let client = town.client_of(id);
    let now = town.now();
    town.clients[client].0.disconnect(now, &DisconnectReason::local(DisconnectCode::ConnectionClose), ms(0));
    town.run_for(ms(3000));
    assert_eq!(town.server.connections(), 1);
    assert_eq!(town.metrics()["link_messages_refused_queue_full_total"], 1);
    assert_eq!(town.metrics()["link_reliable_queued_bytes"], 0);
}

/// Messages of 60 000 bytes in both directions, all of which arrive as they were; what the server sees of it all.
fn exchange(town: &mut Town, count: usize) {
    let before: usize = town.at_server.values().map(|inbox| inbox.messages.len()).sum();
    let clients = town.clients.len();
    town.clients.iter_mut().for_each(|(_, inbox)| inbox.messages.clear());
    let message = |number: usize| vec![number as u8; 60_000];
    let (mut down, mut up) = (vec![0; clients], vec![0; clients]);
    for _ in 0..2000 {
        let now = town.now();
        for (number, id) in town.ids().into_iter().enumerate() {
            while down[number] < count && town.server.send(now, id, RELIABLE, &message(down[number])).is_ok() {
                down[number] += 1;
            }
            let (client, _) = &mut town.clients[number];
            while up[number] < count && client.send(now, RELIABLE, &message(up[number])).is_ok() {
                up[number] += 1;
            }
        }
        town.step();
    }
    for (_, inbox) in &town.clients {
        assert!(inbox.messages.iter().map(|(_, bytes)| bytes).eq(&(0..count).map(message).collect::<Vec<_>>()));
    }
    let arrived: usize = town.at_server.values().map(|inbox| inbox.messages.len()).sum();
    assert_eq!(arrived - before, count * clients);
    assert!(
        town.clients.iter().map(|(_, inbox)| inbox).chain(town.at_server.values()).all(|inbox| inbox.ended.is_none())
    );
}

/// The sizes of datagrams that all ends have found.
fn found(town: &Town) -> Vec<usize> {
    let servers = town.ids().into_iter().map(|id| town.server.stats(id).unwrap());
    let clients = town.clients.iter().map(|(client, _)| client.stats());
    servers.chain(clients).map(|stats| netcode::datagram_of(stats.packet_size)).collect()
}

#[test]
fn sealed_connections_find_out_what_their_path_takes() {
    for (mtu, size) in [(1200, 1200), (1300, 1232), (1372, 1372), (1500, 1452)] {
        let mut town = Town::searching(2, LARGEST_BODY, LARGEST_BODY);
        town.mtu = mtu;
        exchange(&mut town, 2);
        assert_eq!(found(&town), [size; 4], "a path of {mtu}");
        town.largest = 0;
        exchange(&mut town, 4);
        assert!(town.largest <= size && town.largest + 8 > size, "{} on a path of {mtu}", town.largest);
        // Probes are nothing that a stranger sends.
        assert_eq!(town.metrics()["packets_dropped_size_total"], 0);
    }
}

#[test]
fn who_has_not_asked_for_larger_datagrams_drops_them_and_plays_on() {
    for (server_max, client_max) in [(LARGEST_BODY, 1175), (1175, LARGEST_BODY)] {
        let mut town = Town::searching(1, server_max, client_max);
        exchange(&mut town, 4);
        assert_eq!(found(&town), [1200; 2]);
        let id = town.ids()[0];
        let (server, client) = (town.server.stats(id).unwrap(), town.clients[0].0.stats());
        let (asks, other) = if server_max > 1175 { (server, client) } else { (client, server) };
        assert_eq!((asks.mtu_probes, asks.mtu_probes_lost, other.mtu_probes), (3, 3, 0));
        assert_eq!(town.metrics()["link_mtu_probes_lost_total"], server.mtu_probes_lost);
    }
}

#[test]
fn each_end_takes_in_as_much_as_it_asks_for_itself() {
    let mut town = Town::searching(1, LARGEST_BODY, 1350);
    exchange(&mut town, 4);
    assert_eq!(found(&town), [1372, 1375], "the server sends what the client takes, and the client what it may");
}

#[test]
fn without_being_asked_nobody_ever_sends_more_than_the_floor() {
    let mut town = Town::new(1, Limits::server());
    exchange(&mut town, 4);
    assert_eq!(found(&town), [1200; 2]);
    assert!(town.largest <= 1200, "{}", town.largest);
}

#[test]
fn a_sealed_path_that_comes_to_take_less_is_noticed_and_nothing_reliable_is_lost() {
    let mut town = Town::searching(1, LARGEST_BODY, LARGEST_BODY);
    exchange(&mut town, 2);
    assert_eq!(found(&town), [1452; 2]);
    town.mtu = 1200;
    exchange(&mut town, 4);
    assert_eq!(found(&town), [1200; 2]);
    let id = town.ids()[0];
    assert_eq!(town.server.stats(id).unwrap().mtu_black_holes, 1);
    assert_eq!(town.clients[0].0.stats().mtu_black_holes, 1);
    assert_eq!(town.metrics()["link_mtu_black_holes_total"], 1);
}
