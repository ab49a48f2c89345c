//! Limits, churn and keys of a server that is up.

use std::time::Duration;

use netstream_transport::netcode::{Counter, Farewell};
use netstream_transport::{DisconnectCode, DisconnectReason, Limits};

use crate::SECOND;
use crate::netcode_support::*;

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut world = World::with_server(17);
        for number in 0..20 {
            let token = world.token(number);
            world.connect(client_address(number as u16), &token);
        }
        world.run(SECOND);
        world.log
    };
    assert_eq!(run(), run());
}

#[test]
fn limits_change_while_connections_are_up() {
    let mut world = World::with_server(18);
    world.join(1);
    world.join(2);
    let mut limits = Limits::default();
    limits.connections = 1;
    limits.pending_handshakes = 1;
    limits.idle_timeout = SECOND;
    world.server().server.set_limits(&limits);
    let token = world.token(3);
    world.connect(client_address(3), &token);
    world.run(SECOND);
    assert_eq!(world.client(3).ending(), Some(DisconnectReason::remote(DisconnectCode::ServerFull)));
    assert_eq!(world.server().server.connections(), 2, "nobody is thrown out for a smaller limit");
    world.loses = Box::new(|_| true);
    world.run(Duration::from_millis(1_600));
    assert_eq!(world.server().server.connections(), 0);
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut world = World::with_server(19);
    for round in 0..300u64 {
        let token = world.token(round % 40);
        world.connect(client_address((round % 7) as u16), &token);
        world.run(Duration::from_millis(300));
        if round % 3 == 0 {
            let now = world.now();
            world.client((round % 7) as u16).client.close(now, Farewell::Goodbye);
        }
    }
    world.clients.clear();
    world.run(60 * SECOND);
    let node = world.server();
    for gauge in ["connections", "goodbyes", "pending_handshakes", "consumed_tokens"] {
        assert_eq!(node.metric(gauge), 0, "{gauge}");
    }
    assert_eq!(node.server.poll_timeout(), None);
    let (accepted, refused, freed) = (node.accepted(), node.refused().len(), node.freed());
    assert_eq!(accepted + refused, freed);
    assert!(accepted > 250);
}

#[test]
fn a_server_without_keys_or_addresses_lets_nobody_in() {
    let mut world = World::new(20);
    let mut config = server_config();
    config.addresses.clear();
    world.add_server(server_address(), config, &Limits::default());
    world.run(2 * SECOND);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert_eq!(world.server().accepted(), 0);
    assert!(world.counter(Counter::RequestWrongServer) >= 9);
    world.server().server.set_addresses(&[server_address()]);
    world.run(SECOND);
    assert_eq!(world.server().accepted(), 1);
    world.server().server.keys_mut().remove(PROTOCOL);
    let token = world.token(2);
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert_eq!(world.server().accepted(), 1);
}
