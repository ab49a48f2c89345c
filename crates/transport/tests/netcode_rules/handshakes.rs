//! What strangers may take, and what not (H5, H9).

use std::net::SocketAddr;
use std::time::Duration;

use netstream_transport::netcode::Counter;

use crate::netcode_support::*;
use crate::{SECOND, sent, world_with};

#[test]
fn h5_a_copied_request_does_not_keep_its_owner_out() {
    let mut world = World::with_server(5);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    let mut loses_first = true;
    world.loses = Box::new(move |datagram| datagram.kind() == 0 && std::mem::take(&mut loses_first));
    world.run(STEP);
    let request = sent(&world, client_address(1), 0);
    for number in 100..103 {
        world.inject(client_address(number), server_address(), &request);
    }
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn h5_copies_from_any_number_of_addresses_that_are_all_first_do_not_keep_the_owner_out() {
    for copies in [4, 5, 100, 2000] {
        let mut world = world_with(5, |limits| limits.replies = 100_000);
        let token = world.token(1);
        world.connect(client_address(1), &token);
        let mut loses_first = true;
        world.loses = Box::new(move |datagram| datagram.kind() == 0 && std::mem::take(&mut loses_first));
        world.run(STEP);
        let request = sent(&world, client_address(1), 0);
        for copy in 0..copies {
            // Each from a network of its own.
            let from = SocketAddr::from(([11, (copy >> 8) as u8, copy as u8, 1], 5000));
            world.inject(from, server_address(), &request);
        }
        assert_eq!(world.server().metric("pending_handshakes"), copies.min(1024));
        world.run(SECOND);
        assert!(world.client(1).client.is_connected(), "{copies} copies");
        assert_eq!(world.server().metric("pending_handshakes"), 0);
    }
}

#[test]
fn h5_copies_of_one_token_take_no_room_from_other_players() {
    let mut world = world_with(5, |limits| (limits.replies, limits.pending_handshakes) = (100_000, 64));
    // Player 1's responses are late, as on a bad link.
    world.loses = Box::new(|datagram| datagram.kind() == 3 && datagram.at.as_nanos() < 3_500_000_000);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.run(Duration::from_millis(100));
    let token = world.token(2);
    world.connect(client_address(2), &token);
    world.run(STEP);
    let request = sent(&world, client_address(2), 0);
    for copy in 0..1000_u16 {
        let from = SocketAddr::from(([11, (copy >> 8) as u8, copy as u8, 1], 5000));
        world.inject(from, server_address(), &request);
    }
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    assert!(world.counter(Counter::PendingEvicted) > 900);
}

#[test]
fn h5_the_first_valid_response_ends_all_other_handshakes_of_the_token() {
    let mut world = World::with_server(5);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.run(STEP);
    let request = sent(&world, client_address(1), 0);
    world.inject(client_address(100), server_address(), &request);
    world.run(SECOND);
    assert_eq!(world.server().accepted(), 1);
    assert_eq!(world.server().metric("pending_handshakes"), 0);
}

#[test]
fn h9_strangers_of_one_network_get_twenty_replies_a_second() {
    let mut world = World::with_server(9);
    let mut replies = |network: u8, count: u16| {
        let before = world.counter(Counter::Challenged);
        for host in 0..count {
            let token = world.token(u64::from(host));
            let at = SocketAddr::from(([10, 9, network, 1], 6000 + host));
            world.connect(at, &token);
            world.run(Duration::ZERO);
        }
        world.step();
        let requests: Vec<_> = world.flying.drain(..).filter(|datagram| datagram.kind() == 0).collect();
        world.clients.clear();
        for datagram in requests {
            world.inject(datagram.from, datagram.to, &datagram.bytes);
        }
        world.counter(Counter::Challenged) - before
    };
    assert_eq!(replies(1, 30), 20);
    assert_eq!(replies(2, 10), 10);
    assert_eq!(replies(1, 1), 0);
    assert_eq!(world.counter(Counter::RequestReplyBudget), 11);
}

#[test]
fn h9_loopback_needs_no_such_budget() {
    let mut world = World::with_server(9);
    for port in 0..100 {
        let token = world.token(port);
        world.connect(address(&format!("127.0.0.1:{}", 6000 + port)), &token);
    }
    world.run(SECOND);
    assert_eq!(world.server().server.connections(), 100);
}

#[test]
fn h9_forged_requests_are_bounded_per_tick_and_second() {
    let mut world = world_with(9, |limits| {
        limits.unauthenticated_packets = 50;
        limits.token_opens = 1000;
    });
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.loses = Box::new(|_| true);
    world.run(STEP);
    let mut forged = sent(&world, client_address(1), 0);
    forged[500] ^= 1;
    world.clients.clear();
    let now = world.now();
    for _ in 0..200 {
        world.server().server.handle_datagram(now, client_address(1), &mut forged.clone());
    }
    assert_eq!(world.counter(Counter::RequestOpenFailed), 50);
    assert_eq!(world.counter(Counter::RequestBudget), 150);
    // A hundred ticks at one moment do not open more than a tenth of a second's worth.
    for _ in 0..100 {
        world.server().server.tick(now);
        for _ in 0..10 {
            world.server().server.handle_datagram(now, client_address(1), &mut forged.clone());
        }
    }
    assert_eq!(world.counter(Counter::RequestOpenFailed), 100);
    // Forgeries cost the network that they claim to come from no replies.
    let token = world.token(2);
    world.run(SECOND);
    world.loses = Box::new(|_| false);
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
}

#[test]
fn h9_an_identity_joins_five_times_in_ten_seconds() {
    let mut world = World::with_server(9);
    for number in 0..6 {
        let token = world.token(77);
        world.connect(client_address(number), &token);
        world.run(Duration::from_millis(150));
    }
    assert_eq!(world.server().accepted(), 5);
    assert!(world.counter(Counter::ResponseIdentityRate) >= 1);
    // The sixth is only late.
    world.run(2 * SECOND);
    assert_eq!(world.server().accepted(), 6);
}
