//! Leaving and coming back, listening again, and ids.

use std::time::Duration;

use netstream_driver::transport::{DisconnectCode, DisconnectReason};
use netstream_driver::udp::MemoryNetwork;
use netstream_driver::{Clock, Endpoint, ListenError, NetworkDriver};

use crate::game::*;

#[test]
fn a_server_may_stop_and_listen_again_where_it_was() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, _) = game.join(server, &endpoint, &credentials);
    let now = game.clock.now();
    game.peers[server].driver.stop_listening(now);
    let elsewhere = "udp://127.0.0.1:1".parse().unwrap();
    let error = game.peers[server].driver.listen(now, &elsewhere).unwrap_err();
    assert!(matches!(error, ListenError::AlreadyListening(at) if at == endpoint));
    assert_eq!(game.peers[server].driver.listen(now, &endpoint).unwrap(), endpoint);
    game.join(server, &endpoint, &credentials);
    assert!(game.is_connected(client, id));
}

#[test]
fn leaving_and_coming_back_in_a_loop_leaves_nothing_behind() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|config| config.limits.identity_joins = 100);
    let client = game.add(|_| {});
    let mut ids = Vec::new();
    for round in 0..20 {
        let now = game.clock.now();
        let driver = &mut game.peers[client].driver;
        let id = driver.connect(now, &endpoint, &credentials).unwrap();
        ids.push(id);
        for _ in 0..round % 7 {
            game.step();
        }
        let now = game.clock.now();
        let reason = local(DisconnectCode::ConnectionClose);
        game.peers[client].driver.disconnect(now, id, &reason, Duration::from_secs(1));
    }
    game.run(Duration::from_secs(12));
    for id in &ids {
        let ends =
            game.peers[client].log.iter().filter(|report| matches!(report, Report::Ended(ended, _) if ended == id));
        assert_eq!(ends.count(), 1, "{id:?}");
    }
    let metrics = game.metrics(server);
    assert_eq!((metrics["connections"], metrics["goodbyes"]), (0, 0));
    for id in game.accepted(server) {
        assert!(game.end_of(server, id).is_some());
    }
    let (_, id) = (client, game.peers[client].driver.connect(game.clock.now(), &endpoint, &credentials).unwrap());
    game.run(Duration::from_millis(300));
    assert!(game.is_connected(client, id));
}

#[test]
fn an_id_never_comes_back_whatever_the_driver_was_in_between() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    for _ in 0..3 {
        let (client, id) = game.dial(&endpoint, &credentials);
        game.run(Duration::from_millis(200));
        let now = game.clock.now();
        let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
        game.peers[client].driver.disconnect(now, id, &reason, Duration::ZERO);
        game.run(Duration::from_secs(2));
        // With nobody left, listening again is a fresh server.
        let now = game.clock.now();
        game.peers[server].driver.stop_listening(now);
        game.peers[server].driver.listen(now, &endpoint).unwrap();
    }
    // In between it is a client for a while.
    let now = game.clock.now();
    let elsewhere: Endpoint = "udp://127.0.0.1:9".parse().unwrap();
    game.peers[server].driver.stop_listening(now);
    let own = game.peers[server].driver.connect(now, &elsewhere, &credentials).unwrap();
    let reason = DisconnectReason::local(DisconnectCode::ConnectionClose);
    game.peers[server].driver.disconnect(now, own, &reason, Duration::ZERO);
    game.run(Duration::from_secs(2));
    let now = game.clock.now();
    game.peers[server].driver.listen(now, &endpoint).unwrap();
    game.dial(&endpoint, &credentials);
    game.run(Duration::from_millis(200));

    let mut ids = game.accepted(server);
    ids.push(own);
    assert_eq!(ids.len(), 5);
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 5, "{ids:?}");
}
