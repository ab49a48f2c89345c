//! What a client owes itself and others (H11).

use netstream_transport::Limits;
use netstream_transport::netcode::JoinCode;

use crate::SECOND;
use crate::netcode_support::*;

#[test]
fn h11_a_client_counts_on_across_addresses() {
    let mut world = World::with_server(11);
    let dead = address("203.0.113.66:1");
    // The first server answers, so that the client sends responses to it; it is never told that it is in.
    let mut config = server_config();
    config.addresses = vec![dead];
    world.add_server(dead, config, &Limits::default());
    world.run(2 * SECOND);
    let token = world.token_for(1, &[dead, server_address()]);
    world.loses = Box::new(move |datagram| datagram.from == dead && datagram.kind() == 4);
    world.connect(client_address(1), &token);
    world.run(7 * SECOND);
    assert!(world.client(1).client.is_connected());
    let mut numbers: Vec<_> = world
        .log
        .iter()
        .filter(|datagram| datagram.from == client_address(1) && datagram.kind() != 0)
        .map(|datagram| wire::header(&datagram.bytes).1)
        .collect();
    let count = numbers.len();
    assert!(numbers.is_sorted());
    numbers.dedup();
    assert_eq!(numbers.len(), count);
    assert!(count > 50);
}

#[test]
fn h11_with_a_join_code_every_attempt_has_a_token_of_its_own() {
    let mut world = World::new(11);
    let code = JoinCode::random(&mut world.random);
    let servers = [address("203.0.113.66:1"), address("203.0.113.67:1")];
    world.connect_with(client_address(1), join_code_credentials(&code, 1), &servers);
    world.run(11 * SECOND);
    let mut requests: Vec<_> = world.log.iter().map(|datagram| (datagram.to, datagram.bytes.clone())).collect();
    requests.dedup();
    assert_eq!(requests.len(), 2, "one token to each address");
    assert_ne!(requests[0].1[30..54], requests[1].1[30..54], "the nonces differ");
}

#[test]
fn h11_a_client_dials_only_the_permitted_addresses_of_a_token() {
    let mut world = World::new(11);
    let token = world.token_for(1, &[address("127.0.0.1:80"), address("224.0.0.1:80"), server_address()]);
    world.connect(client_address(1), &token);
    world.run(6 * SECOND);
    assert!(world.log.len() > 10);
    assert!(world.log.iter().all(|datagram| datagram.to == server_address()));
}
