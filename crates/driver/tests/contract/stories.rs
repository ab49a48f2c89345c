//! The stories. Each must hold for every driver, on a clean link and on a bad one.

use std::time::Duration;

use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, DisconnectReason, Origin, SharedBytes};
use netstream_driver::{ConnectError, Endpoint, ListenError, SendError};

use crate::harness::{Peer, Report, Setup};

const LINGER: Duration = Duration::from_secs(30);

fn kicked() -> DisconnectReason {
    DisconnectReason::local(DisconnectCode::Kicked).with_text("for testing")
}

pub(crate) fn a_client_connects_and_both_ends_know(setup: &mut Setup) {
    let (server, client) = setup.connect();
    assert_eq!(setup.client.log, [Report::Connected(client)]);
    assert!(matches!(setup.server.log[..], [Report::Accepted(id, ..)] if id == server));
    assert!(setup.server.driver.stats(server).is_some());
    assert!(setup.client.driver.stats(client).is_some());
}

pub(crate) fn the_client_may_connect_again_after_it_has_left(setup: &mut Setup) {
    let endpoint = setup.listen();
    let (first, mine) = setup.connect_to(&endpoint);
    let now = setup.now();
    setup.client.driver.disconnect(now, mine, &kicked(), LINGER);
    let (second, _) = setup.connect_to(&endpoint);
    assert_ne!(first, second);
    setup.until("the first is gone", |setup| setup.server.end_of(first).is_some());
    assert_eq!(setup.server.end_of(second), None);
}

pub(crate) fn reliable_messages_arrive_once_and_in_order(setup: &mut Setup) {
    const COUNT: u32 = 300;
    let (server, client) = setup.connect();
    let (mut from_server, mut from_client) = (0_u32, 0_u32);
    setup.until("everything arrived", |_| true);
    let start = setup.now().mono;
    loop {
        let now = setup.now();
        for (peer, id, sent) in
            [(&mut setup.server, server, &mut from_server), (&mut setup.client, client, &mut from_client)]
        {
            // A few a tick, of very different sizes; a full queue is tried again.
            for _ in 0..7 {
                let size = (*sent as usize * 37) % 5000 + 4;
                let message: Vec<u8> = sent.to_le_bytes().into_iter().cycle().take(size).collect();
                if *sent < COUNT {
                    match peer.driver.send(now, id, ChannelId::RELIABLE, &message) {
                        Ok(()) => *sent += 1,
                        Err(error) => assert_eq!(error, SendError::QueueFull),
                    }
                }
            }
        }
        setup.step();
        let arrived = setup.server.messages(server, ChannelId::RELIABLE).len()
            + setup.client.messages(client, ChannelId::RELIABLE).len();
        if arrived == 2 * COUNT as usize {
            break;
        }
        assert!(setup.now().mono.since(start) < 4 * crate::harness::PATIENCE, "{arrived} arrived");
    }
    for (peer, id) in [(&setup.server, server), (&setup.client, client)] {
        for (number, message) in (0u32..).zip(peer.messages(id, ChannelId::RELIABLE)) {
            let size = (number as usize * 37) % 5000 + 4;
            assert!(message.iter().copied().eq(number.to_le_bytes().into_iter().cycle().take(size)));
        }
    }
}

pub(crate) fn a_message_arrives_the_same_whether_it_is_copied_given_away_or_shared(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let message = |size: usize| -> Vec<u8> { (0..size).map(|at| (at * 7) as u8).collect() };
    let sizes = [1, 100, 3000, 50_000];
    for size in sizes {
        let (now, driver) = (setup.now(), &mut setup.server.driver);
        let (mut owned, shared) = (message(size), SharedBytes::from(message(size)[1..].to_vec()));
        driver.send(now, server, ChannelId::RELIABLE, &message(size)).unwrap();
        driver.send_owned(now, server, ChannelId::RELIABLE, &mut owned).unwrap();
        driver.send_shared(now, server, ChannelId::RELIABLE, &[0], &shared).unwrap();
        assert!(owned.is_empty());
    }
    setup
        .until("all have arrived", |setup| setup.client.messages(client, ChannelId::RELIABLE).len() == 3 * sizes.len());
    for (arrived, size) in setup.client.messages(client, ChannelId::RELIABLE).chunks(3).zip(sizes) {
        assert!(arrived.iter().all(|bytes| *bytes == message(size)), "{size} B");
    }
    // What was not taken is as it was.
    let mut owned = message(3000);
    let now = setup.now();
    assert_eq!(
        setup.server.driver.send_owned(now, server, ChannelId(200), &mut owned),
        Err(SendError::UnknownChannel(ChannelId(200)))
    );
    assert_eq!(owned, message(3000));
}

pub(crate) fn unreliable_messages_arrive_at_most_once(setup: &mut Setup) {
    const COUNT: u32 = 500;
    let (server, client) = setup.connect();
    for number in 0..COUNT {
        let now = setup.now();
        let message = [number.to_le_bytes().as_slice(), &[7; 56]].concat();
        setup.client.driver.send(now, client, ChannelId::UNRELIABLE, &message).unwrap();
        setup.server.driver.send(now, server, ChannelId::UNRELIABLE, &message).unwrap();
        setup.step();
    }
    for _ in 0..60 {
        setup.step();
    }
    for (peer, id) in [(&setup.server, server), (&setup.client, client)] {
        let messages = peer.messages(id, ChannelId::UNRELIABLE);
        assert!(messages.iter().all(|message| message.len() == 60 && message[4..] == [7; 56]));
        // Half of it is far below what any of the links loses.
        assert!(messages.len() > COUNT as usize / 2, "{} of {COUNT} arrived", messages.len());
        if peer.driver.scheme() == "udp" {
            let mut numbers: Vec<_> = messages.iter().map(|message| &message[..4]).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), messages.len(), "some arrived twice");
        }
    }
}

pub(crate) fn fragmented_messages_arrive_whole(setup: &mut Setup) {
    const COUNT: usize = 100;
    let (server, client) = setup.connect();
    let message = |number: usize| vec![number as u8; 4000 + number];
    for number in 0..COUNT {
        let now = setup.now();
        let channel = ChannelId::UNRELIABLE_FRAGMENTED;
        setup.client.driver.send(now, client, channel, &message(number)).unwrap();
        setup.server.driver.send(now, server, channel, &message(number)).unwrap();
        setup.step();
    }
    for _ in 0..60 {
        setup.step();
    }
    for (peer, id) in [(&setup.server, server), (&setup.client, client)] {
        let arrived = peer.messages(id, ChannelId::UNRELIABLE_FRAGMENTED);
        for bytes in &arrived {
            assert_eq!(*bytes, message(usize::from(bytes[0])));
        }
        // Four datagrams each: with a fifth of them lost, 41 % arrive whole.
        assert!(arrived.len() > COUNT / 5, "{} of {COUNT} arrived", arrived.len());
    }
}

pub(crate) fn the_servers_reason_reaches_the_client(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let now = setup.now();
    setup.server.driver.disconnect(now, server, &kicked(), LINGER);
    ended_with(setup, (server, &kicked()), (client, &kicked().seen_by_peer()));
}

pub(crate) fn the_clients_reason_reaches_the_server(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let reason = DisconnectReason::local(DisconnectCode::Application(77)).with_text("gone fishing");
    let now = setup.now();
    setup.client.driver.disconnect(now, client, &reason, LINGER);
    ended_with(setup, (server, &reason.seen_by_peer()), (client, &reason));
}

#[track_caller]
fn ended_with(
    setup: &mut Setup,
    (server, on_server): (ConnectionId, &DisconnectReason),
    (client, on_client): (ConnectionId, &DisconnectReason),
) {
    setup.until("both ends know", |setup| {
        setup.server.end_of(server).is_some() && setup.client.end_of(client).is_some()
    });
    assert_eq!(setup.server.end_of(server), Some(on_server));
    assert_eq!(setup.client.end_of(client), Some(on_client));
    // The harness fails if anything follows.
    for _ in 0..120 {
        setup.step();
    }
    let now = setup.now();
    assert_eq!(setup.server.driver.stats(server), None);
    assert_eq!(setup.client.driver.send(now, client, ChannelId::RELIABLE, b"late"), Err(SendError::NotConnected));
}

pub(crate) fn what_was_queued_arrives_before_the_goodbye(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let now = setup.now();
    for number in 0..100_u8 {
        setup.server.driver.send(now, server, ChannelId::RELIABLE, &[number; 600]).unwrap();
    }
    setup.server.driver.disconnect(now, server, &kicked(), LINGER);
    ended_with(setup, (server, &kicked()), (client, &kicked().seen_by_peer()));
    let arrived = setup.client.messages(client, ChannelId::RELIABLE);
    let numbers: Vec<_> = arrived.iter().map(|message| message[0]).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    assert!(arrived.iter().all(|message| message.len() == 600));
}

pub(crate) fn nothing_can_be_sent_after_disconnect(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let now = setup.now();
    setup.client.driver.disconnect(now, client, &kicked(), LINGER);
    let sent = setup.client.driver.send(now, client, ChannelId::RELIABLE, b"too late");
    assert_eq!(sent, Err(SendError::NotConnected));
    setup.until("the server knows", |setup| setup.server.end_of(server).is_some());
    assert!(setup.server.messages(server, ChannelId::RELIABLE).is_empty());
}

pub(crate) fn stop_listening_keeps_those_who_are_connected(setup: &mut Setup) {
    let endpoint = setup.listen();
    assert_eq!(setup.server.driver.listening(), Some(endpoint.clone()));
    let (server, client) = setup.connect_to(&endpoint);
    let now = setup.now();
    setup.server.driver.stop_listening(now);
    assert_eq!(setup.server.driver.listening(), None);
    setup.client.driver.send(now, client, ChannelId::RELIABLE, b"still here?").unwrap();
    setup.until("asked", |setup| setup.server.messages(server, ChannelId::RELIABLE) == [b"still here?"]);
    let now = setup.now();
    setup.server.driver.send(now, server, ChannelId::RELIABLE, b"yes").unwrap();
    setup.until("answered", |setup| setup.client.messages(client, ChannelId::RELIABLE) == [b"yes"]);
    // Somebody new finds nobody.
    let mut late = Peer::new((setup.make_client)());
    let now = setup.now();
    match late.driver.connect(now, &endpoint, &setup.credentials) {
        Err(error) => assert!(matches!(error, ConnectError::NobodyListens(_)), "{error}"),
        Ok(id) => {
            setup.until("turned away", |setup| {
                late.update(setup.now());
                late.end_of(id).is_some()
            });
            assert_eq!(late.end_of(id), Some(&DisconnectReason::remote(DisconnectCode::Refused)));
        }
    }
    assert_eq!(setup.server.accepted(), [server]);
    assert_eq!(setup.server.end_of(server), None);
}

pub(crate) fn a_dropped_client_says_goodbye(setup: &mut Setup) {
    let (server, _) = setup.connect();
    // Drop has one attempt and no time to repeat it: the link must not lose it.
    perfect(setup);
    setup.client = Peer::new((setup.make_client)());
    setup.until("the server knows", |setup| setup.server.end_of(server).is_some());
    let reason = setup.server.end_of(server).unwrap();
    assert_eq!((reason.code, reason.origin), (DisconnectCode::ConnectionClose, Origin::Remote));
}

pub(crate) fn a_dropped_server_says_goodbye_to_all(setup: &mut Setup) {
    let endpoint = setup.listen();
    let (_, client) = setup.connect_to(&endpoint);
    let mut second = Peer::new((setup.make_client)());
    std::mem::swap(&mut setup.client, &mut second);
    let (_, other) = setup.connect_to(&endpoint);
    perfect(setup);
    setup.server = Peer::new((setup.make_client)());
    setup.until("both clients know", |setup| {
        second.update(setup.now());
        setup.client.end_of(other).is_some() && second.end_of(client).is_some()
    });
    for reason in [setup.client.end_of(other).unwrap(), second.end_of(client).unwrap()] {
        assert_eq!((reason.code, reason.origin), (DisconnectCode::ServerShutdown, Origin::Remote));
    }
}

/// Lets what is under way arrive and takes the bad link away, where there is one.
fn perfect(setup: &mut Setup) {
    use netstream_driver::link::{LinkProfile, Simulated};
    use netstream_driver::{IpcDriver, NetworkDriver};
    for peer in [&mut setup.server, &mut setup.client] {
        let driver: &mut dyn NetworkDriver = &mut *peer.driver;
        if let Some(simulator) = driver.packet_simulator() {
            simulator.set_both(LinkProfile::PERFECT);
        } else if let Some(simulated) = driver.as_any_mut().downcast_mut::<Simulated<IpcDriver>>() {
            simulated.set_both(LinkProfile::PERFECT);
        }
    }
    for _ in 0..60 {
        setup.step();
    }
}

pub(crate) fn a_client_can_give_up_at_once(setup: &mut Setup) {
    let endpoint = setup.listen();
    let now = setup.now();
    let client = setup.client.driver.connect(now, &endpoint, &setup.credentials).unwrap();
    let sent = setup.client.driver.send(now, client, ChannelId::RELIABLE, b"too early");
    assert_eq!(sent, Err(SendError::NotReady));
    setup.client.driver.disconnect(now, client, &kicked(), LINGER);
    setup.until("it is over", |setup| setup.client.end_of(client).is_some());
    assert_eq!(setup.client.log, [Report::Disconnected(client, kicked())]);
    for _ in 0..120 {
        setup.step();
    }
    match setup.server.log[..] {
        [] => {}
        // Who works while nobody calls may have got in before it was told to leave.
        [Report::Accepted(id, ..), Report::Disconnected(end, _)] if id == end && !setup.pause.is_zero() => {}
        _ => panic!("{:?}", setup.server.log),
    }
}

pub(crate) fn two_clients_are_never_confused(setup: &mut Setup) {
    let endpoint = setup.listen();
    let (server_a, client_a) = setup.connect_to(&endpoint);
    let mut second = Peer::new((setup.make_client)());
    std::mem::swap(&mut setup.client, &mut second);
    let (server_b, client_b) = setup.connect_to(&endpoint);
    assert_ne!(server_a, server_b);
    let now = setup.now();
    setup.client.driver.send(now, client_b, ChannelId::RELIABLE, b"from b").unwrap();
    second.driver.send(now, client_a, ChannelId::RELIABLE, b"from a").unwrap();
    setup.server.driver.send(now, server_a, ChannelId::RELIABLE, b"to a").unwrap();
    setup.server.driver.send(now, server_b, ChannelId::RELIABLE, b"to b").unwrap();
    setup.until("all arrived", |setup| {
        second.update(setup.now());
        setup.server.messages(server_a, ChannelId::RELIABLE) == [b"from a"]
            && setup.server.messages(server_b, ChannelId::RELIABLE) == [b"from b"]
            && second.messages(client_a, ChannelId::RELIABLE) == [b"to a"]
            && setup.client.messages(client_b, ChannelId::RELIABLE) == [b"to b"]
    });
    // The end of one is not the end of the other.
    let now = setup.now();
    setup.server.driver.disconnect(now, server_a, &kicked(), LINGER);
    setup.until("a knows", |setup| {
        second.update(setup.now());
        second.end_of(client_a).is_some()
    });
    assert_eq!(setup.client.end_of(client_b), None);
    assert_eq!(setup.server.end_of(server_b), None);
}

pub(crate) fn ids_are_not_used_again(setup: &mut Setup) {
    let endpoint = setup.listen();
    let mut ids = Vec::new();
    for _ in 0..4 {
        let (server, client) = setup.connect_to(&endpoint);
        ids.push((server, client));
        let now = setup.now();
        setup.server.driver.disconnect(now, server, &kicked(), LINGER);
        setup.until("both ends know", |setup| {
            setup.server.end_of(server).is_some() && setup.client.end_of(client).is_some()
        });
    }
    for (a, b) in ids.iter().zip(&ids[1..]) {
        assert!(a.0 != b.0 && a.1 != b.1);
    }
    let now = setup.now();
    for (server, _) in ids {
        let sent = setup.server.driver.send(now, server, ChannelId::RELIABLE, b"who?");
        assert_eq!(sent, Err(SendError::NotConnected));
    }
}

pub(crate) fn wrong_calls_have_their_own_errors(setup: &mut Setup) {
    let now = setup.now();
    let other: Endpoint = "wt://127.0.0.1:1".parse().unwrap();
    let error = setup.server.driver.listen(now, &other).unwrap_err();
    assert!(matches!(error, ListenError::WrongScheme { .. }), "{error}");
    let error = setup.client.driver.connect(now, &other, &setup.credentials).unwrap_err();
    assert!(matches!(error, ConnectError::WrongScheme { .. }), "{error}");
    let (server, client) = setup.connect();
    let endpoint = setup.server.driver.listening().unwrap();

    let error = setup.server.driver.listen(now, &endpoint).unwrap_err();
    assert!(matches!(error, ListenError::AlreadyListening(at) if at == endpoint));
    let error = setup.server.driver.connect(now, &endpoint, &setup.credentials).unwrap_err();
    assert!(matches!(error, ConnectError::UsedAsServer), "{error}");
    let error = setup.client.driver.connect(now, &endpoint, &setup.credentials).unwrap_err();
    assert!(matches!(error, ConnectError::AlreadyConnected), "{error}");
    let error = setup.client.driver.listen(now, &setup.listen).unwrap_err();
    assert!(matches!(error, ListenError::UsedAsClient), "{error}");
    let error = (setup.make_client)().listen(now, &endpoint).unwrap_err();
    assert!(matches!(error, ListenError::AddressInUse(_)), "{error}");

    for (peer, id) in [(&mut setup.server, server), (&mut setup.client, client)] {
        for channel in [ChannelId::UNRELIABLE, ChannelId::RELIABLE, ChannelId::UNRELIABLE_FRAGMENTED] {
            let limit = peer.driver.max_message(channel);
            assert!(limit >= 1000, "{channel:?} takes {limit} bytes");
            let error = peer.driver.send(now, id, channel, &vec![0; limit + 1]).unwrap_err();
            assert_eq!(error, SendError::TooLarge { size: limit + 1, limit });
        }
        let stranger = ChannelId(200);
        assert_eq!(peer.driver.max_message(stranger), 0);
        assert_eq!(peer.driver.send(now, id, stranger, b"x"), Err(SendError::UnknownChannel(stranger)));
        let nobody = ConnectionId { index: 999, generation: 0 };
        assert_eq!(peer.driver.send(now, nobody, ChannelId::RELIABLE, b"x"), Err(SendError::NotConnected));
    }
    // None of it has harmed the connection.
    setup.client.driver.send(now, client, ChannelId::RELIABLE, b"fine").unwrap();
    setup.until("it works", |setup| setup.server.messages(server, ChannelId::RELIABLE) == [b"fine"]);
}

pub(crate) fn disconnecting_twice_or_a_stranger_changes_nothing(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let now = setup.now();
    let nobody = ConnectionId { index: 7, generation: 7 };
    setup.server.driver.disconnect(now, nobody, &kicked(), LINGER);
    setup.server.driver.disconnect(now, server, &kicked(), LINGER);
    let other = DisconnectReason::local(DisconnectCode::Banned);
    setup.server.driver.disconnect(now, server, &other, LINGER);
    ended_with(setup, (server, &kicked()), (client, &kicked().seen_by_peer()));
}

pub(crate) fn both_ends_may_leave_at_the_same_time(setup: &mut Setup) {
    let (server, client) = setup.connect();
    let now = setup.now();
    setup.server.driver.disconnect(now, server, &kicked(), LINGER);
    setup.client.driver.disconnect(now, client, &kicked(), LINGER);
    setup.until("both ends know", |setup| {
        setup.server.end_of(server).is_some() && setup.client.end_of(client).is_some()
    });
    assert_eq!(setup.server.end_of(server).unwrap().code, DisconnectCode::Kicked);
    assert_eq!(setup.client.end_of(client).unwrap().code, DisconnectCode::Kicked);
    for _ in 0..120 {
        setup.step();
    }
}
