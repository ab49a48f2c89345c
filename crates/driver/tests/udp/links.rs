//! Bad links, busy links, and the figures of a link.

use std::time::Duration;

use netstream_driver::link::LinkProfile;
use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, Random, SeededRandom};
use netstream_driver::udp::MemoryNetwork;
use netstream_driver::{Clock, NetworkDriver};

use crate::game::*;

#[test]
fn the_same_seeds_give_the_same_game_to_the_last_datagram() {
    let play = |seed: u64| {
        let mut game = Game::new(MemoryNetwork::new());
        game.seed = seed;
        let (server, endpoint, credentials) = game.serve(|_| {});
        let clients: Vec<_> = (0..4).map(|_| game.dial(&endpoint, &credentials)).collect();
        for (client, _) in &clients {
            game.peers[*client].driver.packet_simulator().unwrap().set_both(LinkProfile::AWFUL);
        }
        for round in 0..300_u32 {
            let now = game.clock.now();
            for (client, id) in &clients {
                let message = vec![round as u8; 1 + (round as usize * 31) % 3000];
                let _ = game.peers[*client].driver.send(now, *id, ChannelId::RELIABLE, &message);
            }
            for id in game.accepted(server) {
                let _ = game.peers[server].driver.send(now, id, ChannelId::UNRELIABLE, &round.to_le_bytes());
            }
            game.step();
        }
        let metrics: Vec<_> = (0..game.peers.len()).map(|peer| game.metrics(peer)).collect();
        let logs: Vec<_> = game.peers.drain(..).map(|peer| peer.log).collect();
        (metrics, logs)
    };
    let first = play(100);
    assert!(first.1.iter().all(|log| log.len() > 50));
    assert!(first == play(100));
    assert!(first != play(200));
}

#[test]
fn a_driver_measures_its_connections() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let slow = LinkProfile { delay: Duration::from_millis(50), ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(slow);
    for _ in 0..300 {
        let now = game.clock.now();
        game.peers[client].driver.send(now, id, ChannelId::RELIABLE, b"ping").unwrap();
        game.peers[server].driver.send(now, there, ChannelId::RELIABLE, b"pong").unwrap();
        game.step();
    }
    for (peer, id) in [(client, id), (server, there)] {
        let stats = game.peers[peer].driver.stats(id).unwrap();
        let rtt = stats.rtt.expect("many samples");
        // Twice 50 ms, and up to two ticks of waiting at either end.
        assert!((100..170).contains(&rtt.as_millis()), "{stats:?}");
        assert!(stats.packets_sent > 200 && stats.packets_received > 200 && stats.loss < 0.05, "{stats:?}");
        assert!(stats.bytes_sent > 0 && stats.bytes_received > 0);
        assert!(stats.remote.is_some());
    }
}

#[test]
fn an_honest_client_that_uploads_without_pause_is_no_flood() {
    let mut game = Game::new(MemoryNetwork::new());
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let slow = LinkProfile { delay: Duration::from_millis(15), ..LinkProfile::PERFECT };
    game.peers[client].driver.packet_simulator().unwrap().set_both(slow);
    let message = vec![1; 8 * 1024];
    let mut sent = 0;
    for _ in 0..60 * 60 {
        let now = game.clock.now();
        while game.peers[client].driver.send(now, id, ChannelId::RELIABLE, &message).is_ok() {
            sent += message.len();
        }
        let state = b"where I am, sixty times a second";
        let _ = game.peers[client].driver.send(now, id, ChannelId::UNRELIABLE, state);
        game.step();
    }
    assert_eq!(game.end_of(server, there), None);
    let dropped = game.metrics(server)["packets_dropped_rate_total"];
    let received = game.peers[server].driver.stats(there).unwrap().packets_received;
    assert!(dropped * 100 < received, "{dropped} dropped, {received} received");
    // Most of the three quarters of 256 KiB/s that a client may use.
    assert!(sent > 60 * 150 * 1024, "{sent} bytes in a minute");
}

/// A game on a link of which the dice choose how bad it is.
fn play_on_a_bad_link(seed: u64) {
    const MESSAGES: u32 = 40;
    let mut dice = SeededRandom::new(seed);
    let mut share = |most: u64| dice.below(most) as f32 / 100.0;
    let profile = LinkProfile {
        loss: share(25),
        burst: share(600),
        duplicate: share(30),
        reorder: share(30),
        corrupt: share(5),
        delay: Duration::from_millis((share(200) * 100.0) as u64),
        jitter: Duration::from_millis((share(100) * 100.0) as u64),
        ..LinkProfile::PERFECT
    };
    let mut game = Game::new(MemoryNetwork::new());
    game.seed = seed * 10;
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id) = game.dial(&endpoint, &credentials);
    game.peers[client].driver.packet_simulator().unwrap().set_both(profile);
    let message = |number: u32| vec![number as u8; 1 + (number as usize * 997) % 4000];
    let (mut sent, mut sent_back) = (0, 0);
    let mut waited = 0;
    while sent < MESSAGES || sent_back < MESSAGES {
        let now = game.clock.now();
        let there = game.accepted(server).first().copied();
        if sent < MESSAGES && game.peers[client].driver.send(now, id, ChannelId::RELIABLE, &message(sent)).is_ok() {
            sent += 1;
        }
        if let Some(there) = there
            && sent_back < MESSAGES
            && game.peers[server].driver.send(now, there, ChannelId::RELIABLE, &message(sent_back)).is_ok()
        {
            sent_back += 1;
        }
        game.step();
        waited += 1;
        assert!(waited < 6000, "seed {seed} {profile:?}: {:?}", game.peers[client].log);
    }
    let there = game.accepted(server)[0];
    let kicked = local(DisconnectCode::Kicked);
    game.peers[server].driver.disconnect(game.clock.now(), there, &kicked, Duration::from_secs(60));
    while game.end_of(server, there).is_none() || game.end_of(client, id).is_none() {
        game.step();
        waited += 1;
        assert!(waited < 12_000, "seed {seed} {profile:?}: {:?}", game.peers[client].log);
    }
    assert_eq!(game.end_of(client, id), Some(&kicked.seen_by_peer()), "seed {seed} {profile:?}");
    let messages = |peer: usize, id: ConnectionId| {
        let log = game.peers[peer].log.iter();
        log.filter(move |report| matches!(report, Report::Message(on, ..) if *on == id)).cloned().collect::<Vec<_>>()
    };
    let all = |id: ConnectionId| -> Vec<_> {
        (0..MESSAGES).map(|number| Report::Message(id, ChannelId::RELIABLE, message(number))).collect()
    };
    // Everything that the server had queued was delivered first. What the client had queued may have been cut off.
    assert!(messages(client, id) == all(id), "seed {seed} {profile:?}");
    assert!(all(there).starts_with(&messages(server, there)), "seed {seed} {profile:?}");
}

#[test]
fn on_any_link_what_is_reliable_arrives_and_the_reason_crosses() {
    for seed in 0..200 {
        play_on_a_bad_link(seed);
    }
}
