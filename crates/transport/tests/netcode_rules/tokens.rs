//! A token connects once, for whom it was made, and in its time (H1, H2, H4, H6).

use std::time::Duration;

use netstream_transport::netcode::{Counter, Farewell};
use netstream_transport::{Limits, Now};

use crate::netcode_support::*;
use crate::{SECOND, keys_of, sent, world_with};

#[test]
fn h1_a_token_connects_once() {
    let mut world = World::with_server(1);
    let token = world.join(1);
    let now = world.now();
    world.client(1).client.close(now, Farewell::Goodbye);
    world.run(SECOND);
    assert_eq!(world.server().server.connections(), 0);
    for number in [1, 2] {
        world.connect(client_address(number), &token);
        world.run(6 * SECOND);
        assert!(world.client(number).ending().is_some(), "a used token does not connect, from wherever");
    }
    assert!(world.counter(Counter::RequestConsumed) >= 100);
    assert_eq!(world.server().accepted(), 1);
}

#[test]
fn h1_a_repeated_request_of_a_connected_client_is_ignored() {
    let mut world = World::with_server(1);
    world.join(1);
    let request = sent(&world, client_address(1), 0);
    world.log.clear();
    world.inject(client_address(1), server_address(), &request);
    assert_eq!(world.counter(Counter::RequestConsumed), 1);
    assert!(world.log.is_empty());
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn h2_a_challenge_of_another_token_is_refused() {
    let mut world = World::with_server(2);
    let (mine, other) = (world.token(1), world.token(2));
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    world.connect(client_address(1), &mine);
    world.connect(client_address(2), &other);
    world.run(Duration::from_millis(60));
    // Client 1 answers with the challenge of client 2.
    let stolen = sent(&world, client_address(2), 3);
    let body = wire::open(&stolen, PROTOCOL, &keys_of(&other).0).unwrap();
    let forged = wire::seal(3, 9, &body, PROTOCOL, &keys_of(&mine).0);
    world.inject(client_address(1), server_address(), &forged);
    assert_eq!(world.counter(Counter::ResponseTagMismatch), 1);
    assert_eq!(world.server().accepted(), 0);
    // With its own it is in.
    let own = sent(&world, client_address(1), 3);
    world.inject(client_address(1), server_address(), &own);
    assert_eq!(world.server().accepted(), 1);
}

#[test]
fn h2_a_response_from_another_address_is_refused() {
    let mut world = World::with_server(2);
    let token = world.token(1);
    // The same token is under way from two addresses.
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    world.connect(client_address(1), &token);
    world.connect(client_address(2), &token);
    world.run(Duration::from_millis(60));
    let response = sent(&world, client_address(1), 3);
    world.inject(client_address(2), server_address(), &response);
    world.inject(client_address(3), server_address(), &response);
    assert_eq!(world.counter(Counter::ResponseTagMismatch), 1);
    assert_eq!(world.counter(Counter::ResponseNoPending), 1);
    assert_eq!(world.server().accepted(), 0);
    world.inject(client_address(1), server_address(), &response);
    assert_eq!(world.server().accepted(), 1);
}

#[test]
fn h2_a_challenge_is_good_for_five_seconds() {
    for (wait, accepted) in [(4_800, 1), (5_100, 0)] {
        let mut world = World::with_server(2);
        let token = world.token(1);
        world.loses = Box::new(|datagram| datagram.kind() == 3);
        world.connect(client_address(1), &token);
        world.run(Duration::from_millis(60));
        let response = sent(&world, client_address(1), 3);
        world.clients.clear();
        world.run(Duration::from_millis(wait));
        world.inject(client_address(1), server_address(), &response);
        assert_eq!(world.server().accepted(), accepted, "after {wait} ms");
    }
}

#[test]
fn h2_a_stale_challenge_is_refused_even_before_it_is_swept() {
    let mut world = World::with_server(2);
    let token = world.token(1);
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    world.connect(client_address(1), &token);
    world.run(Duration::from_millis(60));
    let mut response = sent(&world, client_address(1), 3);
    // No tick in between.
    let late = Now { mono: world.mono + 6 * SECOND, wall: world.now().wall };
    world.server().server.handle_datagram(late, client_address(1), &mut response);
    assert_eq!(world.counter(Counter::ResponseStaleChallenge), 1);
}

#[test]
fn h4_a_token_from_before_the_start_is_refused() {
    let mut world = World::new(4);
    let early = world.token(1);
    world.add_server(server_address(), server_config(), &Limits::default());
    world.run(2 * SECOND);
    world.connect(client_address(1), &early);
    world.run(6 * SECOND);
    assert!(world.client(1).ending().is_some());
    assert!(world.counter(Counter::RequestBeforeStart) >= 40);
    world.join(2);
}

#[test]
fn h4_a_used_token_does_not_survive_a_restart() {
    let mut world = World::with_server(4);
    let token = world.join(1);
    world.run(SECOND);
    // The new run knows nothing of used tokens.
    world.add_server(server_address(), server_config(), &Limits::default());
    world.run(SECOND);
    world.connect(client_address(1), &token);
    world.run(6 * SECOND);
    assert_eq!(world.server().accepted(), 0);
    assert!(world.counter(Counter::RequestBeforeStart) >= 40);
}

#[test]
fn h4_a_used_token_does_not_survive_a_restart_while_the_clock_is_behind() {
    let mut world = World::with_server(4);
    let token = world.join(1);
    world.run(SECOND);
    world.wall_offset = -3600;
    world.add_server(server_address(), server_config(), &Limits::default());
    world.run(SECOND);
    world.wall_offset = 0;
    world.connect(client_address(1), &token);
    world.run(6 * SECOND);
    assert_eq!(world.server().accepted(), 0);
    assert!(world.counter(Counter::RequestBeforeStart) >= 40);
    // Who has a token from after the start gets in.
    world.join(2);
}

#[test]
fn h6_a_full_table_of_used_tokens_refuses_and_forgets_nothing() {
    let mut world = world_with(6, |limits| limits.consumed_tokens = 2);
    let first = world.join(1);
    world.join(2);
    let third = world.token(3);
    world.connect(client_address(3), &third);
    world.run(SECOND);
    assert!(!world.client(3).client.is_connected());
    assert!(world.counter(Counter::RequestTableFull) >= 9);
    // The first is still known as used.
    world.connect(client_address(4), &first);
    world.run(SECOND);
    assert!(world.counter(Counter::RequestConsumed) >= 9);
    // Room comes with expiry.
    world.run(45 * SECOND);
    world.join(5);
}
