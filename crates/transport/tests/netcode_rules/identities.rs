//! Who is connected, and under which key (H7, H8).

use std::time::Duration;

use netstream_transport::crypto::Key;
use netstream_transport::netcode::{ConnectToken, Counter, IdentityPolicy, IssueRequest};
use netstream_transport::{DisconnectCode, DisconnectReason, Limits};

use crate::netcode_support::*;
use crate::{SECOND, sent, world_with};

#[test]
fn h7_the_newer_connection_of_an_identity_stays() {
    let mut world = World::with_server(7);
    world.join(1);
    let old = world.connection_at(client_address(1));
    let again = world.token(1);
    world.connect(client_address(2), &again);
    world.run(SECOND);
    assert!(world.client(2).client.is_connected());
    let superseded = DisconnectReason::local(DisconnectCode::Superseded);
    assert_eq!(world.server().closed(), [(old, superseded)]);
    assert_eq!(world.server().server.connections(), 1);
    assert_eq!(world.counter(Counter::IdentityTakeover), 1);
}

#[test]
fn h7_the_old_connection_can_be_told_why() {
    let mut world = World::with_server(7);
    world.join(1);
    let old = world.connection_at(client_address(1));
    let again = world.token(1);
    world.connect(client_address(2), &again);
    world.run(Duration::from_millis(60));
    world.send_to_client(old, b"superseded");
    world.run(2 * SECOND);
    assert_eq!(world.client(1).payloads, [b"superseded"]);
    assert!(world.client(1).ending().is_some());
    assert_eq!(world.server().freed(), 1);
}

#[test]
fn h7_an_identity_in_use_can_be_protected() {
    let mut world = World::new(7);
    let mut config = server_config();
    config.identities = IdentityPolicy::RejectNew;
    world.add_server(server_address(), config, &Limits::default());
    world.run(2 * SECOND);
    world.join(1);
    let again = world.token(1);
    world.connect(client_address(2), &again);
    world.run(SECOND);
    assert_eq!(world.server().refused()[0].1, DisconnectCode::IdentityInUse);
    assert_eq!(world.server().closed(), []);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.counter(Counter::RefusedIdentity), 1);
}

#[test]
fn h7_an_identity_can_take_its_own_place_on_a_full_server() {
    let mut world = world_with(7, |limits| limits.connections = 1);
    world.join(1);
    let again = world.token(1);
    world.connect(client_address(2), &again);
    world.run(SECOND);
    assert!(world.client(2).client.is_connected());
    assert_eq!(world.server().server.connections(), 1);
}

#[test]
fn a_new_client_at_an_address_ends_who_was_there() {
    let mut world = World::with_server(7);
    world.join(1);
    let old = world.connection_at(client_address(1));
    // Another player behind the same address, as after a change of NAT mappings.
    let other = world.token(2);
    world.connect(client_address(1), &other);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    let superseded = DisconnectReason::local(DisconnectCode::Superseded);
    assert_eq!(world.server().closed(), [(old, superseded)]);
    let new = world.connection_at(client_address(1));
    world.send_to_server(1, b"new");
    world.run(SECOND);
    assert_eq!(world.server().payloads, [(new, b"new".to_vec())]);
    assert_eq!(world.counter(Counter::AddressTakeover), 1);
}

#[test]
fn h8_keys_rotate_without_a_failed_join() {
    let mut world = World::with_server(8);
    world.join(1);
    let (new_protocol, new_key) = (PROTOCOL + 1, Key::from_bytes([0x43; 32]));
    let new_token = |world: &mut World, client_id| {
        let addresses = [server_address()];
        let request = IssueRequest::new(new_protocol, &new_key, client_id, &addresses);
        let now = world.now().wall;
        ConnectToken::issue(&request, now, &mut world.random).unwrap()
    };
    // Before the server knows the new pair.
    let token = new_token(&mut world, 2);
    world.connect(client_address(2), &token);
    world.run(6 * SECOND);
    assert!(world.client(2).ending().is_some());
    assert!(world.counter(Counter::RequestProtocolId) >= 40);
    // During the overlap both are good.
    world.server().server.keys_mut().add_key(new_protocol, new_key.clone()).unwrap();
    world.join(3);
    let token = new_token(&mut world, 4);
    world.connect(client_address(4), &token);
    world.run(SECOND);
    assert!(world.client(4).client.is_connected());
    // Afterwards the old one is not, and those who came with it stay.
    assert!(world.server().server.keys_mut().remove(PROTOCOL));
    let token = world.token(5);
    world.connect(client_address(5), &token);
    world.run(6 * SECOND);
    assert!(world.client(5).ending().is_some());
    assert!(world.client(3).client.is_connected());
}

#[test]
fn h8_the_right_key_under_the_wrong_protocol_id_opens_nothing() {
    let mut world = World::with_server(8);
    let token = world.token(1);
    world.connect(client_address(1), &token);
    world.loses = Box::new(|_| true);
    world.run(STEP);
    let mut request = sent(&world, client_address(1), 0);
    world.server().server.keys_mut().add_key(PROTOCOL + 1, key()).unwrap();
    request[14..22].copy_from_slice(&(PROTOCOL + 1).to_le_bytes());
    world.inject(client_address(1), server_address(), &request);
    assert_eq!(world.counter(Counter::RequestOpenFailed), 1);
}
