//! Where a client goes: names, addresses, and what cannot work.

use std::time::Duration;

use netstream_driver::transport::{ChannelId, DisconnectCode, DisconnectReason};
use netstream_driver::udp::MemoryNetwork;
use netstream_driver::{Clock, ConnectError, Credentials, ListenError, NetworkDriver, SendError};

use crate::game::*;

#[test]
fn a_host_name_is_looked_up() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, _, credentials) = game.serve(|_| {});
    game.network.name("play.example.org", [127, 0, 0, 1].into());
    let (client, id) = game.dial(&"udp://play.example.org:7979".parse().unwrap(), &credentials);
    let sent = game.peers[client].driver.send(game.clock.now(), id, ChannelId::RELIABLE, b"early");
    assert_eq!(sent, Err(SendError::NotReady));
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, id));
}

#[test]
fn an_unknown_host_name_is_reported_and_the_driver_is_free_again() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, endpoint, credentials) = game.serve(|_| {});
    let (client, id) = game.dial(&"udp://nowhere.example.org:7979".parse().unwrap(), &credentials);
    game.step();
    assert_eq!(game.end_of(client, id), Some(&DisconnectReason::link(DisconnectCode::HostNotFound)));
    let now = game.clock.now();
    let again = game.peers[client].driver.connect(now, &endpoint, &credentials).unwrap();
    assert_ne!(again, id);
    game.run(Duration::from_millis(200));
    assert!(game.is_connected(client, again));
}

#[test]
fn a_look_up_can_be_called_off() {
    let mut game = Game::new(MemoryNetwork::new());
    let (client, id) = game.dial(&"udp://nowhere.example.org:7979".parse().unwrap(), &code(1));
    let reason = local(DisconnectCode::ConnectionClose);
    game.peers[client].driver.disconnect(game.clock.now(), id, &reason, Duration::from_secs(1));
    game.run(Duration::from_millis(100));
    assert_eq!(game.peers[client].log, [Report::Ended(id, reason)]);
}

#[test]
fn addresses_are_tried_in_turn() {
    let mut game = Game::new(MemoryNetwork::new());
    let (_, _, credentials) = game.serve(|_| {});
    game.network.name("two.example.org", [10, 0, 0, 9].into());
    game.network.name("two.example.org", [127, 0, 0, 1].into());
    let (client, id) = game.dial(&"udp://two.example.org:7979".parse().unwrap(), &credentials);
    game.run(Duration::from_millis(5300));
    assert!(game.is_connected(client, id));
}

#[test]
fn what_cannot_work_is_refused_at_once() {
    let mut game = Game::new(MemoryNetwork::new());
    let client = game.add(|_| {});
    let now = game.clock.now();
    let driver = &mut game.peers[client].driver;
    let mut connect = |endpoint: &str, credentials: &Credentials| {
        driver.connect(now, &endpoint.parse().unwrap(), credentials).unwrap_err()
    };
    assert!(matches!(connect("udp://127.0.0.1:0", &code(1)), ConnectError::NoPort(_)));
    assert!(matches!(connect("udp://127.0.0.1:1", &Credentials::None), ConnectError::CredentialsNeeded(_)));
    assert!(matches!(connect("udp://127.0.0.1:1#ab", &code(1)), ConnectError::FingerprintUnsupported(_)));
    assert!(matches!(connect("ipc://local", &code(1)), ConnectError::WrongScheme { .. }));
    let foreign = "udp://9.9.9.9:1".parse().unwrap();
    assert!(matches!(driver.listen(now, &foreign), Err(ListenError::Io { .. })));
    let unknown = "udp://nowhere.example.org:1".parse().unwrap();
    assert!(matches!(driver.listen(now, &unknown), Err(ListenError::Io { .. })));
    // None of it has left anything half open.
    assert!(driver.listen(now, &"udp://127.0.0.1:1".parse().unwrap()).is_ok());
}
