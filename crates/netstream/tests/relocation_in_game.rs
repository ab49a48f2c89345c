//! A World hands its session to another one in the middle of the game, and no packet is different because of it.

mod play;

use bevy_app::App;
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use netstream::{NetworkSession, SnapshotTargetSize};
use play::{Game, Link, Log, client_app, millis, server_app};

/// Moves the session, and what the game remembers, from one App to another.
fn move_to(mut level: App, from: &mut App) -> (App, Entity) {
    let session = NetworkSession::take_from(from.world_mut()).expect("it has a network");
    let pairs = session.insert_into(level.world_mut()).map_err(|(_, error)| error).expect("it fits");
    level.insert_resource(std::mem::take(&mut *from.world_mut().resource_mut::<Log>()));
    // What is left behind may go on without a network.
    from.update();
    assert_eq!(from.world().resource::<NetworkTime>().tick(), Tick::new(0));
    (level, pairs[0].1)
}

#[test]
fn the_peers_of_a_world_that_moves_see_the_same_packets_as_if_it_had_not() {
    let options = SnapshotOptions::new().delta();
    for link in Link::all() {
        for moves in [(true, false), (false, true), (true, true)] {
            let (mut moved, mut other) = (Game::over(link), Game::over(link));
            for game in [&mut moved, &mut other] {
                let player = game.ends.0;
                game.server.world_mut().entity_mut(player).insert(SnapshotTargetSize(5000));
            }
            for round in 0..4 {
                // Not always at the same place of a tick.
                moved.run(millis(1000 + 7 * round));
                other.run(millis(1000 + 7 * round));
                if moves.0 {
                    let level = server_app(NetworkStreamPlugin::server(), 64, options);
                    (moved.server, moved.ends.0) = move_to(level, &mut moved.server);
                    let target = moved.server.world().get::<SnapshotTargetSize>(moved.ends.0);
                    assert_eq!(target, Some(&SnapshotTargetSize(5000)));
                }
                if moves.1 {
                    let level = client_app(NetworkStreamPlugin::client(), 64, options);
                    (moved.client, moved.ends.1) = move_to(level, &mut moved.client);
                }
            }
            moved.run(millis(1000));
            other.run(millis(1000));
            for end in [0, 1] {
                let (moved, other) = (moved.books[end].lock().unwrap(), other.books[end].lock().unwrap());
                let first = moved.left.iter().zip(&other.left).position(|(one, other)| one != other);
                assert_eq!(
                    first,
                    None,
                    "packet that left end {end} over {link:?}: {:?}",
                    moved.left[first.unwrap_or(0)]
                );
                assert!(*moved == *other, "over {link:?}, end {end}, moves {moves:?}");
            }
            assert_eq!(moved.arrivals(), other.arrivals());
            assert_eq!(moved.snapshots(), other.snapshots());
            assert_eq!(moved.server_log().applied, other.server_log().applied);
            assert_eq!(moved.client_log().scenes, other.client_log().scenes);
            assert_eq!(moved.time().tick(), other.time().tick());
            assert_eq!(moved.server_log().ticks, other.server_log().ticks);
            moved.check();
        }
    }
}
