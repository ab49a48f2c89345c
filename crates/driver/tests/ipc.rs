//! What is particular to the in-process driver.

use std::time::Duration;

use netstream_driver::transport::Random;
use netstream_driver::transport::{
    ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Incoming, Mono, Now, Origin, SeededRandom,
};
use netstream_driver::{ConnectError, Credentials, Endpoint, IpcDriver, IpcHub, ListenError, NetworkDriver, SendError};

const NOW: Now = Now { mono: Mono::ZERO, wall: netstream_driver::transport::Wall::from_unix(0) };

fn at(name: &str) -> Endpoint {
    Endpoint::ipc(name).unwrap()
}

fn server(hub: &IpcHub, name: &str) -> IpcDriver {
    let mut server = IpcDriver::new(hub);
    server.listen(NOW, &at(name)).unwrap();
    server
}

fn client(hub: &IpcHub, name: &str) -> (IpcDriver, ConnectionId) {
    let mut client = IpcDriver::new(hub);
    let id = client.connect(NOW, &at(name), &Credentials::None).unwrap();
    (client, id)
}

/// Receives once and returns who was accepted and how connections ended.
fn update(driver: &mut IpcDriver) -> (Vec<ConnectionId>, Vec<DisconnectReason>) {
    update_at(driver, NOW)
}

fn update_at(driver: &mut IpcDriver, now: Now) -> (Vec<ConnectionId>, Vec<DisconnectReason>) {
    let (mut accepted, mut ended) = (Vec::new(), Vec::new());
    driver.receive(now, &mut |incoming| match incoming {
        Incoming::Accepted { connection, .. } => accepted.push(connection),
        Incoming::Disconnected { reason, .. } => ended.push(reason),
        _ => {}
    });
    (accepted, ended)
}

fn metric(driver: &IpcDriver, name: &str) -> u64 {
    let mut found = None;
    driver.metrics(&mut |metric, value| {
        if metric == name {
            found = Some(value);
        }
    });
    found.expect("a documented metric")
}

#[test]
fn hubs_know_nothing_of_each_other() {
    let (one, other) = (IpcHub::new(), IpcHub::new());
    let _server = server(&one, "game");
    assert_eq!(one.names(), ["game"]);
    let error = IpcDriver::new(&other).connect(NOW, &at("game"), &Credentials::None).unwrap_err();
    assert!(matches!(error, ConnectError::NobodyListens(_)), "{error}");
}

#[test]
fn a_name_is_taken_until_its_listener_stops_or_is_dropped() {
    let hub = IpcHub::new();
    let mut first = server(&hub, "game");
    let mut second = IpcDriver::new(&hub);
    assert!(matches!(second.listen(NOW, &at("game")), Err(ListenError::AddressInUse(_))));
    first.stop_listening(NOW);
    second.listen(NOW, &at("game")).unwrap();
    drop(second);
    first.listen(NOW, &at("game")).unwrap();
}

#[test]
fn the_name_zero_asks_for_any_free_one() {
    let hub = IpcHub::new();
    let _taken = server(&hub, "1");
    let mut driver = IpcDriver::new(&hub);
    let bound = driver.listen(NOW, &at("0")).unwrap();
    assert_eq!(bound, at("2"));
    assert_eq!(driver.listening(), Some(bound));
    client(&hub, "2");
}

#[test]
fn a_message_needs_no_more_updates_than_the_link_has_ends() {
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    let (mut client, id) = client(&hub, "game");
    let (accepted, _) = update(&mut server);
    server.send(NOW, accepted[0], ChannelId::RELIABLE, b"welcome").unwrap();
    let mut log = Vec::new();
    client.receive(NOW, &mut |incoming| {
        log.push(match incoming {
            Incoming::Connected { connection } => (connection, b"connected".to_vec()),
            Incoming::Message { connection, bytes, .. } => (connection, bytes.to_vec()),
            other => panic!("{other:?}"),
        });
    });
    assert_eq!(log, [(id, b"connected".to_vec()), (id, b"welcome".to_vec())]);
}

#[test]
fn a_full_server_says_so() {
    let hub = IpcHub::new();
    let mut server = IpcDriver::new(&hub).with_max_connections(1);
    server.listen(NOW, &at("game")).unwrap();
    let (mut first, _) = client(&hub, "game");
    let (mut second, _) = client(&hub, "game");
    assert_eq!(update(&mut server).0.len(), 1);
    assert!(update(&mut first).1.is_empty());
    assert_eq!(update(&mut second).1, [DisconnectReason::remote(DisconnectCode::ServerFull)]);
    assert_eq!(metric(&server, "refused_full_total"), 1);
    // A place that becomes free is given away again.
    drop(first);
    assert_eq!(update(&mut server).1.len(), 1);
    let _third = client(&hub, "game");
    assert_eq!(update(&mut server).0.len(), 1);
}

#[test]
fn who_is_not_accepted_in_time_gives_up() {
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    let (mut client, _) = client(&hub, "game");
    let before = Now { mono: Mono::ZERO + Duration::from_millis(4999), ..NOW };
    assert!(update_at(&mut client, before).1.is_empty());
    let after = Now { mono: Mono::ZERO + Duration::from_secs(5), ..NOW };
    let (_, ended) = update_at(&mut client, after);
    assert_eq!(ended, [DisconnectReason::link(DisconnectCode::MaxConnectionAttempts)]);
    assert!(update(&mut server).0.is_empty());
}

#[test]
fn those_who_wait_learn_that_the_listener_is_gone() {
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    let (mut client, _) = client(&hub, "game");
    server.stop_listening(NOW);
    assert_eq!(update(&mut client).1, [DisconnectReason::remote(DisconnectCode::Refused)]);
}

#[test]
fn queues_are_bounded_like_those_of_udp() {
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    let (mut client, id) = client(&hub, "game");
    update(&mut server);
    update(&mut client);
    let message = [0; 1000];
    let mut sent = 0;
    while client.send(NOW, id, ChannelId::RELIABLE, &message) == Ok(()) {
        sent += 1;
    }
    assert_eq!(sent, 256 * 1024 / 1000);
    assert_eq!(client.send(NOW, id, ChannelId::RELIABLE, &message), Err(SendError::QueueFull));
    assert_eq!(client.stats(id).unwrap().reliable_queued, sent * 1000);
    for _ in 0..5000 {
        client.send(NOW, id, ChannelId::UNRELIABLE, &message).unwrap();
    }
    let mut arrived = [0; 2];
    server.receive(NOW, &mut |incoming| {
        if let Incoming::Message { channel, .. } = incoming {
            arrived[usize::from(channel.0)] += 1;
        }
    });
    assert_eq!(arrived[1], sent);
    assert_eq!(arrived[0] as u64 + metric(&client, "unreliable_dropped_total"), 5000);
    assert!((1..=4096).contains(&arrived[0]));
    // The receiver has taken everything: there is room again.
    client.send(NOW, id, ChannelId::RELIABLE, &message).unwrap();
}

#[test]
fn a_server_waits_for_nobody_who_has_left_before_it_looked() {
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    drop(client(&hub, "game"));
    assert_eq!(update(&mut server), (Vec::new(), Vec::new()));
    assert_eq!(metric(&server, "connections"), 0);
}

#[test]
fn a_driver_may_change_its_role_once_nobody_is_left() {
    let hub = IpcHub::new();
    let mut driver = server(&hub, "game");
    driver.stop_listening(NOW);
    let _other = server(&hub, "other");
    let id = driver.connect(NOW, &at("other"), &Credentials::None).unwrap();
    assert!(matches!(driver.listen(NOW, &at("game")), Err(ListenError::UsedAsClient)));
    driver.disconnect(NOW, id, &DisconnectReason::local(DisconnectCode::ConnectionClose), Duration::ZERO);
    assert_eq!(update(&mut driver).1.len(), 1);
    driver.listen(NOW, &at("game")).unwrap();
}

/// Worlds on several threads: every message arrives, in order, and every end is seen, whatever the interleaving.
#[test]
fn worlds_on_different_threads_meet() {
    const CLIENTS: usize = 4;
    const MESSAGES: u32 = 2000;
    let hub = IpcHub::new();
    let mut server = server(&hub, "game");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let hub = hub.clone();
            std::thread::spawn(move || {
                let mut random = SeededRandom::new(number as u64);
                let (mut driver, id) = client(&hub, "game");
                let (mut sent, mut echoed, mut up) = (0_u32, 0_u32, false);
                while echoed < MESSAGES {
                    driver.receive(NOW, &mut |incoming| match incoming {
                        Incoming::Connected { .. } => up = true,
                        Incoming::Message { bytes, .. } => {
                            assert_eq!(bytes, echoed.to_le_bytes());
                            echoed += 1;
                        }
                        other => panic!("{other:?}"),
                    });
                    for _ in 0..random.below(40) {
                        if up && sent < MESSAGES {
                            match driver.send(NOW, id, ChannelId::RELIABLE, &sent.to_le_bytes()) {
                                Ok(()) => sent += 1,
                                Err(error) => assert_eq!(error, SendError::QueueFull),
                            }
                        }
                    }
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let mut backlog: Vec<(ConnectionId, Vec<u8>)> = Vec::new();
    let mut ended = 0;
    while ended < CLIENTS {
        server.receive(NOW, &mut |incoming| match incoming {
            Incoming::Message { connection, bytes, .. } => backlog.push((connection, bytes.to_vec())),
            Incoming::Disconnected { reason, .. } => {
                assert_eq!((reason.code, reason.origin), (DisconnectCode::ConnectionClose, Origin::Remote));
                ended += 1;
            }
            _ => {}
        });
        // What does not fit now goes first the next time, so the order of each connection is kept.
        let mut full = Vec::new();
        backlog.retain(|(connection, message)| {
            if full.contains(connection) {
                return true;
            }
            match server.send(NOW, *connection, ChannelId::RELIABLE, message) {
                Err(SendError::QueueFull) => {
                    full.push(*connection);
                    true
                }
                _ => false,
            }
        });
        std::thread::yield_now();
    }
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(metric(&server, "messages_received_total"), u64::from(MESSAGES) * CLIENTS as u64);
}
