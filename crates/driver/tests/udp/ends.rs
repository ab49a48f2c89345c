//! How connections end, and who learns why.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::link::{Direction, LinkProfile};
use netstream_driver::transport::netcode::IdentityPolicy;
use netstream_driver::transport::netcode::client::ClientConfig;
use netstream_driver::transport::netcode::client::Credentials as Shown;
use netstream_driver::transport::{DisconnectCode, DisconnectReason, Limits, Origin, SeededRandom, netcode};
use netstream_driver::udp::{BufferSizes, DatagramSocket, MemoryNetwork, Network, Outbox};
use netstream_driver::{Clock, Credentials, NetworkDriver};

use crate::game::*;

#[test]
fn a_wrong_join_code_ends_like_an_address_where_nobody_is() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, _) = game.serve(|_| {});
    let (client, id) = game.dial(&endpoint, &code(77));
    game.run(Duration::from_millis(4900));
    assert_eq!(game.end_of(client, id), None);
    game.run(Duration::from_millis(300));
    let expected = DisconnectReason::link(DisconnectCode::MaxConnectionAttempts);
    assert_eq!(game.end_of(client, id), Some(&expected));
    assert_eq!(game.peers[server].log, []);
    assert!(game.metrics(server)["requests_dropped_open_failed_total"] > 0);
}

#[test]
fn a_full_server_says_so() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.connections = 1);
    game.join(server, &endpoint, &credentials);
    let (late, id) = game.dial(&endpoint, &credentials);
    game.run(Duration::from_secs(1));
    let end = game.end_of(late, id).expect("turned away");
    assert_eq!((end.code, end.origin), (DisconnectCode::ServerFull, Origin::Remote));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn two_clients_that_race_for_the_last_place_get_it_and_the_reason() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.connections = 1);
    let racers = [game.dial(&endpoint, &credentials), game.dial(&endpoint, &credentials)];
    game.run(Duration::from_secs(1));
    let [first, second] = racers.map(|(client, id)| game.end_of(client, id).map(|end| end.code));
    assert_eq!((first, second), (None, Some(DisconnectCode::ServerFull)));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn an_identity_in_use_is_refused_where_the_old_connection_stays() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.identities = IdentityPolicy::RejectNew);
    let (old, old_id, _) = game.join(server, &endpoint, &credentials);
    let claimed = game.peers[old].driver.config().client_id;
    let new = game.add(|config| config.client_id = claimed);
    let now = game.clock.now();
    let new_id = game.peers[new].driver.connect(now, &endpoint, &credentials).unwrap();
    game.run(Duration::from_secs(1));
    assert_eq!(game.end_of(new, new_id), Some(&DisconnectReason::remote(DisconnectCode::IdentityInUse)));
    assert!(game.is_connected(old, old_id));
    assert_eq!(game.accepted(server).len(), 1);
}

#[test]
fn a_newer_connection_of_an_identity_replaces_the_old_one_and_both_ends_know() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (old, old_id, old_there) = game.join(server, &endpoint, &credentials);
    let claimed = game.peers[old].driver.config().client_id;
    let new = game.add(|config| config.client_id = claimed);
    let now = game.clock.now();
    let new_id = game.peers[new].driver.connect(now, &endpoint, &credentials).unwrap();
    game.run(Duration::from_secs(1));
    assert_eq!(game.end_of(server, old_there), Some(&local(DisconnectCode::Superseded)));
    assert_eq!(game.end_of(old, old_id), Some(&DisconnectReason::remote(DisconnectCode::Superseded)));
    assert!(game.is_connected(new, new_id));
}

#[test]
fn who_falls_silent_is_given_up_on_both_ends() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    game.run(Duration::from_secs(60));
    assert!(game.is_connected(client, id), "keep-alives suffice");
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(gone);
    game.run(Duration::from_secs(9));
    assert_eq!((game.end_of(server, there), game.end_of(client, id)), (None, None));
    game.run(Duration::from_secs(2));
    let timeout = DisconnectReason::link(DisconnectCode::Timeout);
    assert_eq!(game.end_of(server, there), Some(&timeout));
    assert_eq!(game.end_of(client, id), Some(&timeout));
}

#[test]
fn a_goodbye_that_nobody_hears_ends_with_its_own_reason_after_the_linger_time() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, _, there) = game.join(server, &endpoint, &credentials);
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(gone);
    let now = game.clock.now();
    let kicked = local(DisconnectCode::Kicked);
    game.peers[server].driver.disconnect(now, there, &kicked, Duration::from_secs(1));
    game.run(Duration::from_millis(900));
    assert_eq!(game.end_of(server, there), None);
    game.run(Duration::from_millis(150));
    assert_eq!(game.end_of(server, there), Some(&kicked));
    // The goodbye is repeated, but not for ever.
    let before = game.metrics(server)["datagrams_sent_total"];
    game.run(Duration::from_secs(2));
    let after = game.metrics(server)["datagrams_sent_total"];
    assert!(after - before <= 10, "{} datagrams after the end", after - before);
    assert_eq!(game.metrics(server)["goodbyes"], 0);
}

#[test]
fn without_linger_the_end_comes_at_once_and_the_reason_still_travels() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    // The first copies are lost.
    let gone = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_profile(Direction::Incoming, gone);
    let now = game.clock.now();
    let banned = local(DisconnectCode::Banned).with_text("cheating");
    game.peers[server].driver.disconnect(now, there, &banned, Duration::ZERO);
    game.step();
    assert_eq!(game.end_of(server, there), Some(&banned));
    game.run(Duration::from_millis(20));
    game.peers[client].driver.packet_simulator().unwrap().set_both(LinkProfile::PERFECT);
    game.run(Duration::from_millis(200));
    assert_eq!(game.end_of(client, id), Some(&banned.seen_by_peer()));
}

#[test]
fn a_peer_that_breaks_the_protocol_ends_only_its_own_connection() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (honest, honest_id, _) = game.join(server, &endpoint, &credentials);

    // A client that has valid credentials and no manners.
    let Credentials::JoinCode(code) = &credentials else { unreachable!() };
    let at = endpoint.socket_addr().unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut socket = game.network.bind(any, BufferSizes::CLIENT).unwrap();
    let shown = Shown::JoinCode {
        code: code.clone(),
        protocol_id: game.peers[server].driver.config().protocol_id,
        client_id: 666,
        user_data: Box::new([0; 256]),
    };
    let config =
        ClientConfig { credentials: shown, addresses: vec![at], allow_local: false, cipher: Default::default() };
    let mut random = SeededRandom::new(666);
    let mut evil = netcode::Client::new(config, &Limits::default(), &mut random, game.clock.now()).unwrap();
    let mut outbox = Outbox::new();
    let mut bodies = Vec::new();
    for _ in 0..60 {
        let now = game.clock.now();
        socket.receive(&mut |arrival| {
            if let Some((from, datagram)) = arrival.datagram()
                && let Some(body) = evil.handle_datagram(now, from, datagram)
            {
                bodies.push(body.to_vec());
            }
        });
        evil.tick(now);
        let mut buf = [0; 1200];
        while let Some(netcode::Transmit { to, len }) = evil.poll_transmit(now, &mut buf) {
            outbox.push(to, &buf[..len]);
        }
        if evil.is_connected() {
            buf[netcode::HEADROOM..netcode::HEADROOM + 40].fill(0xff);
            let (to, range) = evil.seal_payload(now, &mut buf, 40).unwrap();
            outbox.push(to, &buf[range]);
        }
        socket.send(&mut outbox);
        game.step();
    }
    let id = game.accepted(server)[1];
    let end = game.end_of(server, id).expect("thrown out");
    assert_eq!((end.code, end.origin), (DisconnectCode::ProtocolViolation, Origin::Local));
    assert!(!end.text.is_empty(), "the text says what was wrong");
    assert!(!bodies.is_empty(), "it is told why");
    assert_eq!(game.metrics(server)["violations_total"], 1);
    assert!(game.is_connected(honest, honest_id));
}
