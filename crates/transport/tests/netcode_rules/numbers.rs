//! No number is used twice or accepted twice (H3, H10, P6).

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::Limits;
use netstream_transport::netcode::Counter;
use netstream_transport::netcode::client::Credentials;

use crate::netcode_support::*;
use crate::{SECOND, keys_of, sent};

#[test]
fn h3_challenges_and_connections_count_in_ranges_of_their_own() {
    let mut world = World::with_server(3);
    world.join(1);
    let mut kinds = Vec::new();
    for datagram in world.log.iter().filter(|datagram| datagram.kind() != 0) {
        let (kind, sequence, _) = wire::header(&datagram.bytes);
        match kind {
            1 | 2 => assert!(sequence >= 1 << 63, "{sequence}"),
            _ => assert!(sequence < 1 << 49, "{sequence}"),
        }
        kinds.push(kind);
    }
    assert!([2, 3, 4].iter().all(|kind| kinds.contains(kind)));
}

/// The numbers of the sealed packets from `from` to `to` that are in the log.
fn numbers(world: &World, from: SocketAddr, to: SocketAddr) -> Vec<u64> {
    let log = world.log.iter().filter(|datagram| datagram.kind() != 0 && (datagram.from, datagram.to) == (from, to));
    log.map(|datagram| wire::header(&datagram.bytes).1).collect()
}

#[test]
fn p6_a_token_that_was_never_accepted_repeats_no_number_in_a_second_attempt() {
    let mut world = World::with_server(3);
    let token = world.token(1);
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    let mut first = Vec::new();
    for attempt in 0..4 {
        world.log.clear();
        world.connect(client_address(1), &token);
        world.run(SECOND);
        let now = numbers(&world, client_address(1), server_address());
        assert!(now.len() > 5, "attempt {attempt} has sealed responses");
        assert!(now.iter().all(|number| !first.contains(number)), "attempt {attempt}: {now:?} after {first:?}");
        first.extend(now);
    }
    // It is still good for a connection.
    world.loses = Box::new(|_| false);
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn p6_two_servers_that_take_a_token_in_the_same_second_share_no_number() {
    let mut world = World::with_server(3);
    let second = address("203.0.113.2:7979");
    let mut config = server_config();
    config.addresses = vec![second];
    world.add_server(second, config, &Limits::default());
    world.run(2 * SECOND);
    let token = world.token_for(1, &[server_address(), second]);
    // A player who changes their mind at once.
    for to in [server_address(), second] {
        let credentials = Credentials::Token(Box::new(token.clone()));
        world.connect_with(client_address(1), credentials, &[to]);
        world.run(Duration::from_millis(300));
        assert!(world.client(1).client.is_connected());
    }
    for (one, other) in [
        (numbers(&world, server_address(), client_address(1)), numbers(&world, second, client_address(1))),
        (numbers(&world, client_address(1), server_address()), numbers(&world, client_address(1), second)),
    ] {
        assert!(!one.is_empty() && !other.is_empty());
        assert!(one.iter().all(|number| !other.contains(number)), "{one:?} {other:?}");
    }
}

#[test]
fn h3_servers_that_share_a_token_share_no_number() {
    // The first server's keep-alives are lost, so the client goes on to the second with the same keys.
    let mut world = World::new(3);
    let second = address("203.0.113.2:7979");
    for at in [server_address(), second] {
        let mut config = server_config();
        config.addresses = vec![at];
        world.add_server(at, config, &Limits::default());
    }
    world.run(2 * SECOND);
    let token = world.token_for(1, &[server_address(), second]);
    world.loses = Box::new(|datagram| datagram.from == server_address() && datagram.kind() >= 4);
    world.connect(client_address(1), &token);
    world.run(12 * SECOND);
    assert_eq!(world.servers.get_mut(&second).unwrap().accepted(), 1);
    assert_eq!(world.server().accepted(), 1);
    let numbers = |from| -> Vec<u64> {
        let log = world.log.iter().filter(|datagram| datagram.from == from);
        log.map(|datagram| wire::header(&datagram.bytes).1).collect()
    };
    let (first, second) = (numbers(server_address()), numbers(second));
    assert!(first.len() > 10 && second.len() > 10);
    assert!(first.iter().all(|number| !second.contains(number)));
}

#[test]
fn h10_a_packet_is_accepted_once_and_never_when_too_old() {
    let mut world = World::with_server(10);
    world.server().server.set_limits(&{
        let mut limits = Limits::default();
        limits.inbound_packet_burst = 10_000;
        limits
    });
    world.join(1);
    world.log.clear();
    for number in 0..1100u32 {
        world.send_to_server(1, &number.to_le_bytes());
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.server().payloads.len(), 1100);
    let packets: Vec<_> = world.log.iter().filter(|datagram| datagram.kind() == 5).cloned().collect();
    let before = world.counter(Counter::PacketReplay);
    for datagram in &packets {
        world.inject(datagram.from, datagram.to, &datagram.bytes);
    }
    assert_eq!(world.server().payloads.len(), 1100);
    assert_eq!(world.counter(Counter::PacketReplay) - before, 1100);
}

#[test]
fn h10_packets_out_of_order_are_accepted() {
    let mut world = World::with_server(10);
    world.join(1);
    for number in 0..50u8 {
        world.send_to_server(1, &[number]);
    }
    let mut flying: Vec<_> = world.flying.drain(..).collect();
    flying.reverse();
    world.flying.extend(flying);
    world.run(Duration::from_millis(100));
    assert_eq!(world.server().payloads.len(), 50);
}

#[test]
fn h10_a_client_takes_challenge_and_denial_only_when_it_asks() {
    let mut world = World::with_server(10);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    let (_, server_to_client) = keys_of(&token);
    // Authentic, as a server could have sent it before; too late.
    let denied = wire::seal(1, u64::MAX - 1, &[], PROTOCOL, &server_to_client);
    world.inject(server_address(), client_address(1), &denied);
    let challenge = sent(&world, server_address(), 2);
    world.inject(server_address(), client_address(1), &challenge);
    assert_eq!(world.client(1).client.counter(Counter::PacketState), 2);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.client(1).ending(), None);
}

#[test]
fn h10_a_denial_older_than_the_challenge_is_ignored() {
    for (sequence, ends) in [((1 << 63) - 1, false), (u64::MAX - 1, true)] {
        let mut world = World::with_server(10);
        let token = world.token(1);
        world.loses = Box::new(|datagram| datagram.kind() == 3);
        world.connect(client_address(1), &token);
        world.run(Duration::from_millis(100));
        let denied = wire::seal(1, sequence, &[], PROTOCOL, &keys_of(&token).1);
        world.inject(server_address(), client_address(1), &denied);
        assert_eq!(world.client(1).ending().is_some(), ends, "{sequence}");
    }
}
