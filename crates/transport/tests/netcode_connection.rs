//! A connection from its first datagram to its last.

mod netcode_support;

use std::time::Duration;

use netcode_support::*;
use netstream_transport::netcode::client::{self, ClientConfig, Credentials, StartError};
use netstream_transport::netcode::server::Event;
use netstream_transport::netcode::{Client, ConnectToken, Counter, Farewell, IssueRequest, JoinCode};
use netstream_transport::{DisconnectCode, DisconnectReason, Identity, Limits, Mono, Random, SeededRandom};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_client_connects_in_two_round_trips() {
    let mut world = World::with_server(1);
    let token = world.token(7);
    world.connect(client_address(7), &token);
    // Requests and answers take 20 ms each way; the world steps in units of 10 ms.
    world.run(Duration::from_millis(110));
    assert!(world.client(7).client.is_connected());
    let connection = world.connection_at(client_address(7));
    let identity = Identity { client_id: 7, user_data: user_data(7) };
    assert_eq!(world.server().server.identity(connection), Some(&identity));
    let kinds: Vec<_> = world.log.iter().map(Datagram::kind).take(4).collect();
    assert_eq!(kinds, [0, 2, 3, 4]);
    let sizes: Vec<_> = world.log.iter().map(|datagram| datagram.bytes.len()).take(3).collect();
    assert_eq!(sizes, [1078, 333, 331]);
}

#[test]
fn the_server_learns_that_the_client_knows() {
    let mut world = World::with_server(2);
    world.join(1);
    world.run(SECOND);
    let connection = world.connection_at(client_address(1));
    assert!(world.server().events.contains(&Event::Confirmed { connection }));
    assert!(!world.server().server.is_unconfirmed(connection));
}

#[test]
fn payloads_of_every_size_arrive_unharmed() {
    let mut world = World::with_server(3);
    world.exchange_payloads_of_every_size();
}

#[test]
fn an_idle_connection_stays_with_two_packets_a_second() {
    let mut world = World::with_server(4);
    world.join(1);
    world.log.clear();
    world.run(60 * SECOND);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
    // 120 each way if the clock had no steps.
    assert!((200..=240).contains(&world.log.len()), "{}", world.log.len());
    assert!(world.log.iter().all(|datagram| datagram.kind() == 4));
}

#[test]
fn silence_ends_a_connection_on_both_sides() {
    let mut world = World::with_server(5);
    world.join(1);
    world.loses = Box::new(|_| true);
    world.run(Duration::from_millis(9_500));
    assert!(world.client(1).client.is_connected());
    world.run(SECOND);
    let timeout = DisconnectReason::link(DisconnectCode::Timeout);
    assert_eq!(world.client(1).ending(), Some(timeout.clone()));
    let connection = world.connection_at(client_address(1));
    assert_eq!(world.server().closed(), [(connection, timeout)]);
    assert_eq!((world.server().server.connections(), world.server().freed()), (0, 1));
}

#[test]
fn a_token_can_shorten_the_silence_but_not_lengthen_it() {
    for (seconds, ends_within) in [(2, 3), (60, 11)] {
        let mut world = World::with_server(6);
        let key = key();
        let addresses = [server_address()];
        let defaults = IssueRequest::new(PROTOCOL, &key, 1, &addresses);
        let request = IssueRequest { timeout: Duration::from_secs(seconds), ..defaults };
        let now = world.now().wall;
        let token = ConnectToken::issue(&request, now, &mut world.random).unwrap();
        world.connect(client_address(1), &token);
        world.run(SECOND);
        assert!(world.client(1).client.is_connected());
        world.loses = Box::new(|_| true);
        world.run((ends_within - 2) * SECOND);
        assert!(world.client(1).client.is_connected(), "{seconds}");
        world.run(2 * SECOND);
        assert!(world.client(1).ending().is_some(), "{seconds}");
        assert_eq!(world.server().server.connections(), 0, "{seconds}");
    }
}

#[test]
fn a_client_that_leaves_is_gone_at_once() {
    let mut world = World::with_server(7);
    world.join(1);
    let now = world.now();
    world.client(1).client.close(now, Farewell::Goodbye);
    world.run(SECOND);
    let connection = world.connection_at(client_address(1));
    let closed = DisconnectReason::remote(DisconnectCode::ConnectionClose);
    assert_eq!(world.server().closed(), [(connection, closed)]);
    let farewells = world.log.iter().filter(|datagram| datagram.kind() == 6).count();
    assert_eq!(farewells, 5);
    assert_eq!(world.client(1).ending(), None, "whoever closes is not told");
    assert_eq!(world.client(1).events.last(), Some(&client::Event::Freed));
}

#[test]
fn a_server_that_closes_tells_the_client() {
    let mut world = World::with_server(8);
    world.join(1);
    let connection = world.connection_at(client_address(1));
    // Four of five farewells are lost.
    let mut lost = 0;
    world.loses = Box::new(move |datagram| {
        lost += u32::from(datagram.kind() == 6);
        datagram.kind() == 6 && lost < 5
    });
    let now = world.now();
    world.server().server.close(now, connection, Farewell::Goodbye);
    world.run(SECOND);
    let closed = DisconnectReason::remote(DisconnectCode::ConnectionClose);
    assert_eq!(world.client(1).ending(), Some(closed));
    assert_eq!((world.server().closed().len(), world.server().freed()), (0, 1));
    assert_eq!(world.server().server.connections(), 0);
}

#[test]
fn last_words_can_be_said_after_closing_but_not_many() {
    let mut world = World::with_server(9);
    world.join(1);
    let connection = world.connection_at(client_address(1));
    let now = world.now();
    world.server().server.close(now, connection, Farewell::Linger(SECOND));
    for _ in 0..10 {
        world.send_to_client(connection, b"goodbye");
    }
    let mut buf = [0; 1200];
    assert_eq!(world.server().server.seal_payload(now, connection, &mut buf, 5), None);
    world.run(Duration::from_millis(100));
    assert_eq!(world.client(1).payloads.len(), 10);
    // What the client answers is still opened.
    world.send_to_server(1, b"understood");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server().payloads, [(connection, b"understood".to_vec())]);
    world.run(SECOND);
    assert_eq!(world.server().freed(), 1);
    world.send_to_server(1, b"too late");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server().payloads.len(), 1);
}

#[test]
fn all_farewells_can_leave_at_once() {
    let mut world = World::with_server(10);
    world.join(1);
    world.join(2);
    let now = world.now();
    for number in [1, 2] {
        let connection = world.connection_at(client_address(number));
        world.server().server.close(now, connection, Farewell::Goodbye);
    }
    world.server().server.hurry_goodbyes();
    let mut buf = [0; 1200];
    let count = std::iter::from_fn(|| world.server().server.poll_transmit(now, &mut buf)).count();
    assert_eq!(count, 10);
    world.client(1).client.close(now, Farewell::Goodbye);
    world.client(1).client.hurry_goodbyes();
    let count = std::iter::from_fn(|| world.client(1).client.poll_transmit(now, &mut buf)).count();
    assert_eq!(count, 5);
}

#[test]
fn closing_twice_and_closing_the_unknown_do_no_harm() {
    let mut world = World::with_server(11);
    world.join(1);
    let connection = world.connection_at(client_address(1));
    let now = world.now();
    for farewell in [Farewell::Goodbye, Farewell::Goodbye, Farewell::Silent, Farewell::Silent, Farewell::Goodbye] {
        world.server().server.close(now, connection, farewell);
        world.client(1).client.close(now, farewell);
    }
    world.run(SECOND);
    assert_eq!((world.server().freed(), world.server().server.connections()), (1, 0));
    assert_eq!(world.client(1).events.iter().filter(|event| **event == client::Event::Freed).count(), 1);
}

#[test]
fn a_slot_is_used_again_under_another_generation() {
    let mut world = World::with_server(12);
    world.join(1);
    let first = world.connection_at(client_address(1));
    let now = world.now();
    world.server().server.close(now, first, Farewell::Silent);
    world.client(1).client.close(now, Farewell::Silent);
    world.join(2);
    let second = world.connection_at(client_address(2));
    assert_eq!((first.index, first.generation + 1), (second.index, second.generation));
    assert_eq!(world.server().server.address(first), None);
    assert_eq!(world.server().server.address(second), Some(client_address(2)));
}

#[test]
fn a_full_server_denies() {
    let mut world = World::new(13);
    let mut limits = Limits::default();
    limits.connections = 1;
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    world.join(1);
    let token = world.token(2);
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert_eq!(world.client(2).ending(), Some(DisconnectReason::remote(DisconnectCode::ServerFull)));
    assert_eq!(world.counter(Counter::DeniedFull), 1);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn a_server_that_fills_during_the_handshake_refuses_with_a_reason() {
    let mut world = World::new(14);
    let mut limits = Limits::default();
    limits.connections = 1;
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    let (first, second) = (world.token(1), world.token(2));
    world.connect(client_address(1), &first);
    world.connect(client_address(2), &second);
    world.run(Duration::from_millis(90));
    let refused = world.server().refused();
    let [(connection, DisconnectCode::ServerFull)] = refused[..] else { panic!("{refused:?}") };
    world.send_to_client(connection, b"full");
    world.run(2 * SECOND);
    let [winner, loser] = if world.client(1).payloads.is_empty() { [1, 2] } else { [2, 1] };
    assert!(world.client(winner).client.is_connected());
    assert_eq!(world.client(loser).payloads, [b"full"]);
    // A client that does not understand the payload is told by the farewells.
    let closed = DisconnectReason::remote(DisconnectCode::ConnectionClose);
    assert_eq!(world.client(loser).ending(), Some(closed));
    assert_eq!((world.server().accepted(), world.server().server.connections(), world.server().freed()), (1, 1, 1));
}

#[test]
fn a_closed_server_refuses_and_keeps_who_is_there() {
    let mut world = World::with_server(15);
    world.join(1);
    world.server().server.set_accepting(false);
    let token = world.token(2);
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert_eq!(world.server().refused()[0].1, DisconnectCode::Refused);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
}

#[test]
fn nobody_at_home_is_reported_after_five_seconds() {
    let mut world = World::new(16);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.run(Duration::from_millis(4_900));
    assert_eq!(world.client(1).ending(), None);
    world.run(Duration::from_millis(200));
    let reason = DisconnectReason::link(DisconnectCode::MaxConnectionAttempts);
    assert_eq!(world.client(1).ending(), Some(reason));
    // T-E2: what a client sends to an address that does not answer.
    let bytes: usize = world.log.iter().map(|datagram| datagram.bytes.len()).sum();
    assert!(world.log.len() <= 50 && bytes <= 54_000, "{} {bytes}", world.log.len());
}

#[test]
fn a_token_that_runs_out_while_connecting_is_reported() {
    let mut world = World::new(17);
    let addresses: Vec<_> = (1..=20).map(|last| ([203, 0, 113, last], 1).into()).collect();
    let token = world.token_for(1, &addresses);
    world.connect(client_address(1), &token);
    world.run(46 * SECOND);
    assert_eq!(world.client(1).ending(), Some(DisconnectReason::link(DisconnectCode::TokenExpired)));
}

#[test]
fn a_token_that_was_old_from_the_start_is_reported() {
    let mut world = World::with_server(18);
    let token = world.token(1);
    world.run(100 * SECOND);
    world.connect(client_address(1), &token);
    world.run(6 * SECOND);
    assert_eq!(world.client(1).ending(), Some(DisconnectReason::link(DisconnectCode::TokenExpired)));
    assert!(world.counter(Counter::RequestExpired) >= 40);
}

#[test]
fn a_join_code_is_enough_to_connect() {
    let mut world = World::new(19);
    let code = JoinCode::random(&mut world.random);
    world.add_server(server_address(), join_code_config(&code), &Limits::default());
    // At once: there is no back-end whose tokens could be older than the server.
    world.connect_with(client_address(1), join_code_credentials(&code, 5), &[server_address()]);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    let connection = world.connection_at(client_address(1));
    assert_eq!(world.server().server.identity(connection).unwrap().client_id, 5);
}

#[test]
fn a_wrong_join_code_gets_no_answer() {
    let mut world = World::new(20);
    let code = JoinCode::random(&mut world.random);
    let wrong = JoinCode::random(&mut world.random);
    world.add_server(server_address(), join_code_config(&code), &Limits::default());
    world.connect_with(client_address(1), join_code_credentials(&wrong, 5), &[server_address()]);
    world.run(6 * SECOND);
    let reason = DisconnectReason::link(DisconnectCode::MaxConnectionAttempts);
    assert_eq!(world.client(1).ending(), Some(reason));
    assert!(world.counter(Counter::RequestOpenFailed) >= 40);
    assert!(world.log.iter().all(|datagram| datagram.from != server_address()));
}

#[test]
fn a_players_clock_may_be_minutes_off_with_a_join_code() {
    for (offset, connects) in [(-599, true), (-700, false), (590, true), (700, false)] {
        let mut world = World::new(21);
        let code = JoinCode::random(&mut world.random);
        world.add_server(server_address(), join_code_config(&code), &Limits::default());
        world.wall_offset = offset;
        world.connect_with(client_address(1), join_code_credentials(&code, 5), &[server_address()]);
        world.wall_offset = 0;
        world.run(SECOND);
        assert_eq!(world.client(1).client.is_connected(), connects, "{offset}");
    }
}

#[test]
fn clients_that_cannot_start_say_why() {
    let mut world = World::new(22);
    let code = JoinCode::random(&mut world.random);
    let mut start = |credentials, allow_local| {
        let config = ClientConfig { credentials, addresses: Vec::new(), allow_local, cipher: Default::default() };
        let now = world.now();
        Client::new(config, &Limits::default(), &mut world.random, now).map(drop)
    };
    assert_eq!(start(join_code_credentials(&code, 1), false).unwrap_err(), StartError::NoAddress);
    let local = World::new(1).token_for(1, &[address("127.0.0.1:5"), address("[ff02::1]:5")]);
    let local = Credentials::Token(Box::new(local));
    assert_eq!(start(local.clone(), false).unwrap_err(), StartError::NoUsableAddress);
    assert!(start(local, true).is_ok());
}

#[test]
fn lost_datagrams_only_delay_a_connection() {
    for seed in 0..200 {
        let mut world = World::with_server(seed);
        let mut dice = SeededRandom::new(seed);
        world.loses = Box::new(move |_| dice.chance(0.2));
        let token = world.token(1);
        world.connect(client_address(1), &token);
        world.run(5 * SECOND);
        assert!(world.client(1).client.is_connected(), "seed {seed}");
        assert_eq!(world.server().accepted(), 1, "seed {seed}");
    }
}

#[test]
fn timers_are_foretold() {
    let mut world = World::with_server(24);
    world.join(1);
    world.log.clear();
    for _ in 0..400 {
        let timers = [world.server().server.poll_timeout().unwrap(), world.client(1).client.poll_timeout().unwrap()];
        let due = timers.into_iter().chain(world.flying.iter().map(|datagram| datagram.at)).min().unwrap();
        // Nothing leaves before that time.
        let sent = world.log.len();
        world.mono = Mono::from_nanos(due.as_nanos() - 1);
        world.step();
        assert_eq!(world.log.len(), sent);
        world.mono = due;
        world.step();
    }
    // The world went from timer to timer, and missed none.
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
    assert!(world.mono.as_nanos() > 15_000_000_000);
    assert!(world.log.len() > 100);
}
