//! Rules H1 to H12: each is seen to hold, and seen to matter.

mod netcode_support;

use std::net::SocketAddr;
use std::time::Duration;

use netcode_support::*;
use netstream_transport::crypto::Key;
use netstream_transport::netcode::client::Credentials;
use netstream_transport::netcode::server::Event;
use netstream_transport::netcode::{ConnectToken, Counter, Farewell, IdentityPolicy, IssueRequest, JoinCode};
use netstream_transport::{DisconnectCode, DisconnectReason, Limits, Now, Random, SeededRandom};

const SECOND: Duration = Duration::from_secs(1);

/// The bytes of the first datagram of this type that `from` sent.
fn sent(world: &World, from: SocketAddr, kind: u8) -> Vec<u8> {
    let mut log = world.log.iter();
    log.find(|datagram| datagram.from == from && datagram.kind() == kind).expect("it was sent").bytes.clone()
}

fn world_with(seed: u64, change: impl FnOnce(&mut Limits)) -> World {
    let mut world = World::new(seed);
    let mut limits = Limits::default();
    change(&mut limits);
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    world
}

/// The packet keys of a token: client to server, server to client.
fn keys_of(token: &ConnectToken) -> ([u8; 32], [u8; 32]) {
    let token = wire::public_token(&token.to_bytes());
    (token.client_to_server, token.server_to_client)
}

// H1

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

// H2

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

// H3

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
        assert!(one.len() > 1 && other.len() > 1);
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
    world.run(8 * SECOND);
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

// H4

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

// H5

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

// H6

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

// H7

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

// H8

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

// H9

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

// H10

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

// H11

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

// H12

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

// The clock (N-10).

#[test]
fn tokens_from_the_future_wait_and_expired_ones_are_refused() {
    for (offset, counter) in [(3600, Counter::RequestExpired), (-3600, Counter::RequestFuture)] {
        let mut world = World::with_server(13);
        world.join(1);
        let token = world.token(2);
        // The server's clock jumps.
        world.wall_offset = offset;
        world.connect(client_address(2), &token);
        world.run(2 * SECOND);
        assert!(!world.client(2).client.is_connected());
        assert!(world.counter(counter) >= 15, "{offset}");
        assert!(world.client(1).client.is_connected(), "connections do not mind the clock");
    }
}

#[test]
fn a_token_that_expires_during_the_handshake_is_not_accepted() {
    let mut world = World::with_server(13);
    let token = world.token(1);
    world.run(Duration::from_millis(44_500));
    world.loses = Box::new(|datagram| datagram.kind() == 3);
    world.connect(client_address(1), &token);
    world.run(Duration::from_millis(200));
    let response = sent(&world, client_address(1), 3);
    world.run(SECOND);
    world.inject(client_address(1), server_address(), &response);
    assert_eq!(world.counter(Counter::ResponseExpired), 1);
    assert_eq!(world.server().accepted(), 0);
}

#[test]
fn a_clock_set_back_does_not_make_a_used_token_good_again() {
    let mut world = World::with_server(13);
    let token = world.join(1);
    world.run(60 * SECOND);
    assert_eq!(world.server().metric("consumed_tokens"), 0);
    world.wall_offset = -60;
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert!(!world.client(2).client.is_connected());
    assert!(world.counter(Counter::RequestConsumed) >= 9);
}

#[test]
fn a_backend_clock_that_is_slightly_ahead_only_delays_a_join() {
    let mut world = World::with_server(13);
    world.wall_offset = 3;
    let token = world.token(1);
    world.wall_offset = 0;
    world.connect(client_address(1), &token);
    world.run(SECOND);
    assert!(!world.client(1).client.is_connected());
    assert!(world.server().metric("token_clock_ahead_seconds") >= 1);
    world.run(3 * SECOND);
    assert!(world.client(1).client.is_connected());
}

// Flood.

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

// Reflection (T-A1, T-A5).

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
