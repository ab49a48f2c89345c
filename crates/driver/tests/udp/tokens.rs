//! Tokens of a back-end.

use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::transport::crypto::Key;
use netstream_driver::transport::netcode::{ConnectToken, IssueRequest, KeyRing};
use netstream_driver::transport::{DisconnectCode, SeededRandom};
use netstream_driver::udp::{Access, MemoryNetwork};
use netstream_driver::{Clock, ConnectError, Credentials, Endpoint, NetworkDriver};

use crate::game::*;

/// A server with the key of a back-end, and the key.
fn token_server(game: &mut Game) -> (usize, Endpoint, Key) {
    let key = Key::random(&mut SeededRandom::new(4));
    let mut keys = KeyRing::new();
    keys.add_key(9, key.clone()).unwrap();
    let (server, endpoint, _) = game.serve(|config| config.access = Access::Tokens(keys));
    // Tokens from before the start are refused, and their times are whole seconds.
    game.clock.advance(Duration::from_secs(2));
    (server, endpoint, key)
}

fn token(game: &Game, key: &Key, client_id: u64, addresses: &[SocketAddr]) -> Credentials {
    let request = IssueRequest::new(9, key, client_id, addresses);
    let issued = ConnectToken::issue(&request, game.clock.now().wall, &mut SeededRandom::new(client_id));
    Credentials::Token(Box::new(issued.unwrap()))
}

#[test]
fn a_token_of_a_back_end_lets_its_player_in_once() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, key) = token_server(&mut game);
    assert!(game.peers[server].driver.join_code().is_none());
    let token = token(&game, &key, 42, &[endpoint.socket_addr().unwrap()]);
    let (client, id, there) = game.join(server, &endpoint, &token);
    assert_eq!(game.peers[server].log[0], Report::Accepted(there, 42));
    let reason = local(DisconnectCode::ConnectionClose);
    game.peers[client].driver.disconnect(game.clock.now(), id, &reason, Duration::from_secs(1));
    game.run(Duration::from_secs(1));
    let (again, id) = game.dial(&endpoint, &token);
    game.run(Duration::from_secs(6));
    assert_eq!(game.end_of(again, id).unwrap().code, DisconnectCode::MaxConnectionAttempts);
}

#[test]
fn a_client_can_leave_it_to_the_token_where_to_go() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, endpoint, key) = token_server(&mut game);
    let token = token(&game, &key, 42, &[endpoint.socket_addr().unwrap()]);
    let anywhere = "udp://0.0.0.0:0".parse().unwrap();
    // Tokens come from elsewhere: they do not lead to this machine unless that is allowed.
    let client = game.add(|_| {});
    let error = game.peers[client].driver.connect(game.clock.now(), &anywhere, &token).unwrap_err();
    assert!(matches!(error, ConnectError::BadToken(_)), "{error}");
    game.peers[client].driver.config_mut().allow_local_tokens = true;
    let id = game.peers[client].driver.connect(game.clock.now(), &anywhere, &token).unwrap();
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, id));
}

#[test]
fn a_token_for_another_server_is_of_no_use() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, key) = token_server(&mut game);
    let token = token(&game, &key, 42, &[SocketAddr::from(([10, 1, 1, 1], 7979))]);
    let (client, id) = game.dial(&endpoint, &token);
    game.run(Duration::from_secs(6));
    assert!(game.end_of(client, id).is_some());
    assert!(game.metrics(server)["requests_dropped_wrong_server_total"] > 0);
}
