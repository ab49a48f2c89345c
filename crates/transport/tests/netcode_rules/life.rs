//! What counts as life, and how much of it is too much (H12).

use std::time::Duration;

use netstream_transport::netcode::Counter;
use netstream_transport::{DisconnectCode, DisconnectReason};

use crate::netcode_support::*;
use crate::{SECOND, sent};

#[test]
fn h12_forgeries_keep_no_connection_alive() {
    let mut world = World::with_server(12);
    world.join(1);
    world.loses = Box::new(|_| true);
    for number in 0..110u64 {
        let forged = wire::seal(4, 1 << 52 | number, &[0; 8], PROTOCOL, &[9; 32]);
        world.inject(client_address(1), server_address(), &forged);
        let forged = wire::seal(4, 1 << 61 | number, &[0; 8], PROTOCOL, &[9; 32]);
        world.inject(server_address(), client_address(1), &forged);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.server().server.connections(), 0);
    assert_eq!(world.client(1).ending(), Some(DisconnectReason::link(DisconnectCode::Timeout)));
    assert!(world.counter(Counter::PacketOpenFailed) > 90);
}

#[test]
fn h12_replays_keep_no_connection_alive() {
    let mut world = World::with_server(12);
    world.join(1);
    world.run(SECOND);
    let keep_alive = sent(&world, client_address(1), 4);
    world.loses = Box::new(|_| true);
    for _ in 0..110 {
        world.inject(client_address(1), server_address(), &keep_alive);
        world.run(Duration::from_millis(100));
    }
    assert_eq!(world.server().server.connections(), 0);
}

#[test]
fn h12_one_authentic_packet_does() {
    let mut world = World::with_server(12);
    world.join(1);
    world.loses = Box::new(|datagram| datagram.from == client_address(1) && datagram.kind() == 4);
    for _ in 0..4 {
        world.run(9 * SECOND);
        world.send_to_server(1, b"here");
    }
    assert_eq!(world.server().server.connections(), 1);
}

#[test]
fn a_client_that_sends_too_much_for_too_long_is_thrown_out() {
    let mut world = World::with_server(14);
    world.join(1);
    world.join(2);
    for _ in 0..1200 {
        for _ in 0..10 {
            if world.client(1).client.is_connected() {
                world.send_to_server(1, b"x");
            }
        }
        world.run(STEP);
    }
    let flooder = world.connection_at(client_address(1));
    assert_eq!(world.server().closed(), [(flooder, DisconnectReason::local(DisconnectCode::Flood))]);
    assert!(world.counter(Counter::PacketRate) > 5000);
    assert!(world.client(2).client.is_connected());
}

#[test]
fn forgeries_under_a_clients_address_neither_starve_nor_end_it() {
    let mut world = World::with_server(14);
    world.join(1);
    for round in 0..1200u64 {
        for number in 0..10 {
            let forged = wire::seal(5, (1 << 52) + round * 10 + number, b"forged", PROTOCOL, &[9; 32]);
            world.inject(client_address(1), server_address(), &forged);
        }
        if round % 2 == 0 {
            world.send_to_server(1, b"genuine");
        }
        world.run(STEP);
    }
    assert!(world.client(1).client.is_connected());
    assert!(world.server().payloads.len() >= 595);
    assert_eq!(world.server().closed(), []);
}

#[test]
fn a_flood_of_forgeries_in_one_tick_is_not_all_looked_at() {
    let mut world = World::with_server(14);
    world.join(1);
    let now = world.now();
    let forged = wire::seal(5, 1 << 52, b"forged", PROTOCOL, &[9; 32]);
    for _ in 0..1000 {
        world.server().server.handle_datagram(now, client_address(1), &mut forged.clone());
    }
    assert_eq!(world.counter(Counter::PacketOpenFailed), 256);
    assert_eq!(world.counter(Counter::PacketForgeryBudget), 744);
    world.send_to_server(1, b"genuine");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server().payloads.len(), 1);
}
