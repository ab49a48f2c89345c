//! Strangers get nothing, cost counters, and cannot make servers answer each other (T-A1, T-A5).

use std::time::Duration;

use netstream_transport::netcode::client::Credentials;
use netstream_transport::netcode::server::Event;
use netstream_transport::netcode::{Counter, Farewell};
use netstream_transport::{Limits, Random, SeededRandom};

use crate::netcode_support::*;
use crate::{SECOND, sent};

#[test]
fn no_input_is_answered_with_more_than_it_had() {
    let mut world = World::with_server(15);
    let token = world.token(1);
    world.loses = Box::new(|datagram| datagram.from == server_address());
    world.connect(client_address(1), &token);
    world.run(4 * SECOND);
    let bytes = |from| -> usize {
        world.log.iter().filter(|datagram| datagram.from == from).map(|datagram| datagram.bytes.len()).sum()
    };
    let (received, sent) = (bytes(client_address(1)), bytes(server_address()));
    assert!(sent > 0 && sent * 100 <= received * 35, "{sent} of {received}");
}

#[test]
fn what_servers_send_makes_no_server_answer() {
    let mut world = World::with_server(15);
    world.join(1);
    let now = world.now();
    let connection = world.connection_at(client_address(1));
    world.server().server.close(now, connection, Farewell::Goodbye);
    world.run(SECOND);
    let second = address("203.0.113.2:7979");
    world.add_server(second, server_config(), &Limits::default());
    let own: Vec<_> = world.log.iter().filter(|datagram| datagram.from == server_address()).cloned().collect();
    world.clients.clear();
    world.log.clear();
    for datagram in own {
        for (from, to) in [(second, server_address()), (server_address(), second), (server_address(), server_address())]
        {
            world.inject(from, to, &datagram.bytes);
        }
    }
    world.run(SECOND);
    assert_eq!(world.log, []);
}

#[test]
fn garbage_changes_nothing_but_counters() {
    let mut world = World::with_server(15);
    world.join(1);
    let mut random = SeededRandom::new(15);
    let before = world.server().events.len();
    let now = world.now();
    for round in 0..20_000u32 {
        let mut bytes = vec![0; random.below(1300) as usize];
        random.fill(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            // Plausible prefixes, too.
            *first = if round % 2 == 0 { (round / 2 % 10) as u8 | ((round / 20 % 10) as u8) << 4 } else { *first };
        }
        if round % 50 == 0 {
            world.server().server.tick(now);
        }
        let from = if round % 3 == 0 { client_address(1) } else { client_address(9) };
        world.server().server.handle_datagram(now, from, &mut bytes.clone());
        world.client(1).client.handle_datagram(now, server_address(), &mut bytes);
    }
    assert_eq!(world.server().events.len(), before);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
}

#[test]
fn every_drop_has_a_counter() {
    let mut world = World::with_server(16);
    let token = world.token(1);
    world.loses = Box::new(|_| true);
    world.connect(client_address(1), &token);
    world.run(STEP);
    let request = sent(&world, client_address(1), 0);
    let server = server_address();
    let changed = |at: usize, value: u8| {
        let mut request = request.clone();
        request[at] = value;
        request
    };
    let cases: [(Vec<u8>, Counter); 12] = [
        (request[..1077].to_vec(), Counter::RequestSize),
        (changed(0, 0x10), Counter::RequestPrefix),
        (changed(3, b'x'), Counter::RequestVersion),
        (changed(14, 0), Counter::RequestProtocolId),
        (changed(29, 0xff), Counter::RequestFuture),
        (changed(25, 0), Counter::RequestExpired),
        (changed(1000, request[1000] ^ 1), Counter::RequestOpenFailed),
        (vec![], Counter::PacketSize),
        (vec![0x15; 1226], Counter::PacketSize),
        (vec![0x1f; 40], Counter::PacketType),
        (vec![0x12; 349], Counter::PacketRole),
        (vec![0x15; 40], Counter::PacketUnknownPeer),
    ];
    for (bytes, counter) in cases {
        let before = world.counter(counter);
        world.inject(client_address(1), server, &bytes);
        assert_eq!(world.counter(counter), before + 1, "{counter:?}");
    }
    // A token for another server.
    let other = world.token_for(2, &[address("203.0.113.9:1")]);
    world.connect_with(client_address(2), Credentials::Token(Box::new(other)), &[server]);
    world.loses = Box::new(|_| false);
    world.run(Duration::from_millis(50));
    assert_eq!(world.counter(Counter::RequestWrongServer), 1);
    assert_eq!(world.server().events, Vec::<Event>::new());
}
