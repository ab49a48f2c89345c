//! The socket filter that Linux has: under a flood it keeps what clients send, and only that.

use std::time::Duration;

use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectCode, Random, SeededRandom};
use netstream_driver::udp::{BufferSizes, DatagramSocket, Network, OsNetwork, Outbox};
use netstream_driver::{Clock, NetworkDriver};

use crate::game::*;

#[test]
fn under_a_flood_of_garbage_players_stay_and_others_get_in() {
    let mut game = Game::new(OsNetwork);
    let (server, endpoint, credentials) = game.serve(|_| {});
    let (client, id, there) = game.join(server, &endpoint, &credentials);
    let to = endpoint.socket_addr().unwrap();
    let mut stranger = OsNetwork.bind(([127, 0, 0, 9], 0).into(), BufferSizes::SERVER).unwrap();
    let mut outbox = Outbox::new();
    let mut random = SeededRandom::new(1);
    let mut garbage = [0; 600];
    let mut late = None;
    for tick in 0..150 {
        for _ in 0..200 {
            random.fill(&mut garbage);
            outbox.push(to, &garbage[..random.below(600) as usize]);
        }
        stranger.send(&mut outbox);
        // The filter is in force from the first tick on.
        if tick == 20 {
            late = Some(game.dial(&endpoint, &credentials));
        }
        let now = game.clock.now();
        game.peers[client].driver.send(now, id, ChannelId::RELIABLE, &[tick; 3000]).unwrap();
        game.peers[server].driver.send(now, there, ChannelId::RELIABLE, &[tick; 3000]).unwrap();
        game.step();
    }
    let (late, late_id) = late.unwrap();
    assert!(game.is_connected(client, id) && game.is_connected(late, late_id));
    let figures = game.metrics(server);
    assert!(figures["shielded_total"] > 20_000, "{figures:?}");
    assert_eq!(figures["kernel_dropped_total"], 0);
    // The last words of a client pass the filter, too.
    let reason = local(DisconnectCode::ConnectionClose);
    let now = game.clock.now();
    game.peers[client].driver.disconnect(now, id, &reason, Duration::from_secs(1));
    game.run(Duration::from_secs(1));
    let messages = |peer: usize, id: ConnectionId| {
        let log = game.peers[peer].log.iter();
        log.filter(|report| matches!(report, Report::Message(on, ..) if *on == id)).count()
    };
    assert_eq!((messages(server, there), messages(client, id)), (150, 150));
    assert_eq!(game.end_of(server, there), Some(&reason.seen_by_peer()));
}
