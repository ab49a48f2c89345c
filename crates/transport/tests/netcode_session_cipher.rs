//! Connections whose token asks for AES-128-GCM under keys of their own.

mod netcode_support;

use std::time::Duration;

use netcode_support::*;
use netstream_transport::netcode::client::Credentials;
use netstream_transport::netcode::{ConnectToken, Counter, Farewell, JoinCode, MAX_BODY, SessionCipher};
use netstream_transport::{DisconnectCode, DisconnectReason, Limits};

const SECOND: Duration = Duration::from_secs(1);

/// A world with the usual server, whose tokens are for AES.
fn world(seed: u64) -> World {
    let mut world = World::with_server(seed);
    world.cipher = SessionCipher::Aes128Gcm;
    world
}

/// What the token says beside its cipher.
fn fields(token: &ConnectToken) -> wire::PublicToken {
    let mut standard = token.to_bytes().to_vec();
    standard[2048 - 96..][..4].fill(0);
    wire::public_token(&standard)
}

/// What the network sees of the one connection, by a decoder of its own: whether each packet of types 4 to 6 opens under the
/// keys of the session.
fn session_opens(world: &World, token: &ConnectToken, from_server: bool) -> Vec<bool> {
    let token = fields(token);
    let response = world.log.iter().find(|datagram| datagram.kind() == 3).unwrap();
    let challenge = wire::open(&response.bytes, PROTOCOL, &token.client_to_server).expect("a response is as ever");
    let [up, down] = wire::session_keys(&token.client_to_server, &token.server_to_client, &challenge);
    let packets = world.log.iter().filter(|datagram| datagram.kind() >= 4);
    let packets = packets.filter(|datagram| (datagram.from == server_address()) == from_server);
    packets
        .map(|datagram| {
            let ours = if from_server { &down } else { &up };
            let other = if from_server { &up } else { &down };
            assert_eq!(wire::open_aes(&datagram.bytes, PROTOCOL, other), None);
            wire::open_aes(&datagram.bytes, PROTOCOL, ours).is_some()
        })
        .collect()
}

#[test]
fn the_handshake_has_the_same_packets_of_the_same_sizes() {
    let mut world = world(1);
    let token = world.token(7);
    world.connect(client_address(7), &token);
    world.run(Duration::from_millis(110));
    assert!(world.client(7).client.is_connected());
    let shape: Vec<_> = world.log.iter().map(|datagram| (datagram.kind(), datagram.bytes.len())).take(4).collect();
    assert_eq!(shape[..3], [(0, 1078), (2, 333), (3, 331)]);
    assert_eq!(shape[3].0, 4);
}

#[test]
fn payloads_of_every_size_arrive_unharmed_and_under_the_keys_of_the_session() {
    let mut world = world(2);
    let token = world.exchange_payloads_of_every_size();
    for from_server in [true, false] {
        let opens = session_opens(&world, &token, from_server);
        assert!(opens.len() > MAX_BODY && opens.iter().all(|opens| *opens));
    }
}

#[test]
fn a_join_code_works_with_either_cipher_at_one_server() {
    let code = JoinCode::random(&mut netstream_transport::SeededRandom::new(3));
    let mut world = World::new(3);
    world.add_server(server_address(), join_code_config(&code), &Limits::default());
    world.run(2 * SECOND);
    for (number, cipher) in [(1, SessionCipher::Aes128Gcm), (2, SessionCipher::ChaCha20Poly1305)] {
        world.cipher = cipher;
        let shown = join_code_credentials(&code, number.into());
        world.connect_with(client_address(number), shown, &[server_address()]);
    }
    world.run(SECOND);
    for number in [1, 2] {
        world.send_to_server(number, &[number as u8]);
    }
    world.run(SECOND);
    let mut arrived: Vec<_> = world.server().payloads.iter().map(|(_, body)| body.clone()).collect();
    arrived.sort();
    assert_eq!(arrived, [[1], [2]]);
}

#[test]
fn either_end_can_leave() {
    for client_leaves in [true, false] {
        let mut world = world(4);
        world.join(1);
        let connection = world.connection_at(client_address(1));
        let now = world.now();
        if client_leaves {
            world.client(1).client.close(now, Farewell::Goodbye);
        } else {
            world.server().server.close(now, connection, Farewell::Goodbye);
        }
        world.run(SECOND);
        let remote = DisconnectReason::remote(DisconnectCode::ConnectionClose);
        if client_leaves {
            assert_eq!(world.server().closed(), [(connection, remote)]);
        } else {
            assert_eq!(world.client(1).ending(), Some(remote));
        }
    }
}

#[test]
fn a_lost_acceptance_is_repeated_and_late_responses_change_nothing() {
    let mut world = world(5);
    let mut lost = 0;
    world.loses = Box::new(move |datagram| {
        let is_acceptance = datagram.from == server_address() && datagram.kind() == 4;
        lost += u32::from(is_acceptance);
        is_acceptance && lost <= 3
    });
    world.join(1);
    world.run(SECOND);
    assert_eq!(world.server().accepted(), 1);
    let responses: Vec<_> = world.log.iter().filter(|datagram| datagram.kind() == 3).cloned().collect();
    assert!(responses.len() > 1, "the client has asked again");
    for datagram in responses {
        world.inject(datagram.from, datagram.to, &datagram.bytes);
    }
    world.run(SECOND);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.server().accepted(), 1);
}

#[test]
fn a_client_goes_on_to_the_next_address_from_a_server_that_challenges_and_falls_silent() {
    let mut world = world(6);
    let second = address("203.0.113.2:7979");
    let config = {
        let mut config = server_config();
        config.addresses = vec![second];
        config
    };
    world.add_server(second, config, &Limits::default());
    world.run(2 * SECOND);
    world.loses = Box::new(|datagram| datagram.from == server_address() && datagram.kind() == 4);
    let token = world.token_for(1, &[server_address(), second]);
    world.connect(client_address(1), &token);
    world.run(7 * SECOND);
    assert!(world.client(1).client.is_connected());
    assert_eq!(world.client(1).client.server(), second);
    world.send_to_server(1, b"hello");
    world.run(SECOND);
    assert_eq!(world.servers[&second].payloads.len(), 1);
}

#[test]
fn a_full_server_can_say_so() {
    let mut world = World::new(7);
    world.cipher = SessionCipher::Aes128Gcm;
    let mut limits = Limits::default();
    limits.connections = 1;
    world.add_server(server_address(), server_config(), &limits);
    world.run(2 * SECOND);
    world.join(1);
    let token = world.token(2);
    world.connect(client_address(2), &token);
    world.run(SECOND);
    assert_eq!(world.client(2).ending(), Some(DisconnectReason::remote(DisconnectCode::ServerFull)));
}

#[test]
fn replays_and_forgeries_under_the_keys_in_the_token_are_nothing() {
    let mut world = world(8);
    let token = world.join(1);
    world.send_to_server(1, b"once");
    world.run(SECOND);
    let packets: Vec<_> = world.log.iter().filter(|datagram| datagram.to == server_address()).cloned().collect();
    for datagram in packets {
        world.inject(datagram.from, datagram.to, &datagram.bytes);
    }
    let keys = fields(&token);
    let failed = world.counter(Counter::PacketOpenFailed);
    // Ahead of all that the client has used.
    for sequence in (1 << 50)..(1 << 50) + 10 {
        let forged = wire::seal(5, sequence, b"forged", PROTOCOL, &keys.client_to_server);
        world.inject(client_address(1), server_address(), &forged);
        world.run(STEP); // each tick tries few
    }
    assert_eq!(world.counter(Counter::PacketOpenFailed), failed + 10);
    assert_eq!(world.server().payloads.len(), 1);
    assert!(world.client(1).client.is_connected());
}

/// With the keys in a token alone, what one server has sealed opens at a client of another that shows the same token.
#[test]
fn a_token_that_two_servers_take_makes_two_sessions_with_nothing_in_common() {
    let second = address("203.0.113.2:7979");
    let mut world = world(9);
    let config = {
        let mut config = server_config();
        config.addresses = vec![server_address(), second];
        config
    };
    world.add_server(second, config, &Limits::default());
    world.run(2 * SECOND);
    let token = world.token_for(1, &[server_address(), second]);
    world.connect(client_address(1), &token);
    let shown = Credentials::Token(Box::new(token));
    world.connect_with(client_address(2), shown, &[second]);
    world.run(SECOND);
    assert!(world.client(1).client.is_connected() && world.client(2).client.is_connected());
    let connection = world.connection_at(client_address(1));
    world.log.clear();
    world.send_to_client(connection, b"for the first");
    let sealed = world.log[0].bytes.clone();
    world.inject(second, client_address(2), &sealed);
    assert!(world.client(2).payloads.is_empty());
    world.run(SECOND);
    assert_eq!(world.client(1).payloads, [b"for the first"]);
}

#[test]
fn a_token_keeps_its_cipher_as_bytes_and_as_text() {
    let mut world = world(10);
    let token = world.token(1);
    assert_eq!(token.cipher(), SessionCipher::Aes128Gcm);
    assert_eq!(ConnectToken::from_bytes(&token.to_bytes()).unwrap().cipher(), SessionCipher::Aes128Gcm);
    assert_eq!(token.to_text().parse::<ConnectToken>().unwrap().cipher(), SessionCipher::Aes128Gcm);
    world.cipher = SessionCipher::default();
    assert_eq!(world.token(1).cipher(), SessionCipher::ChaCha20Poly1305);
}
