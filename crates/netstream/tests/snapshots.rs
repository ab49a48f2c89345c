//! Snapshots arrive in the order of their ticks, and are acknowledged if they were handed out.

mod play;

use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use netstream::driver::Scheme;
use netstream::driver::link::LinkProfile;
use netstream::prelude::*;
use netstream::{SnapshotDelivery, SnapshotError, SnapshotTargetSize};
use play::{Game, Link, Scene, millis};

#[test]
fn ticks_only_increase_and_acknowledgements_never_lie() {
    for link in Link::all() {
        for delivery in [SnapshotDelivery::NewestWins, SnapshotDelivery::EveryOne] {
            let mut game = Game::over(link);
            game.deliver(delivery);
            game.run(millis(10_000));
            game.check();
            let arrivals = game.snapshots();
            assert_eq!(arrivals.unknown_baseline, 0, "{link:?} {delivery:?} {arrivals:?}");
            let least = if link.profile.loss > 0.1 { 350 } else { 540 };
            assert!(arrivals.applied > least, "{link:?} {delivery:?} {arrivals:?}");
            if !link.is_lossy() && delivery == SnapshotDelivery::EveryOne {
                assert_eq!(arrivals.applied, arrivals.arrived);
            }
            assert_eq!(game.client_log().scenes.len() as u64, arrivals.applied);
            assert!(game.acks().newest_acked().is_some_and(|tick| arrivals.newest.unwrap().since(tick) < 20));
        }
    }
}

#[test]
fn a_delta_is_much_smaller_than_the_whole() {
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let link = Link { scheme, profile: LinkProfile { delay: millis(30), loss: 0.05, ..LinkProfile::PERFECT } };
        let mut game = Game::with(link, 900, SnapshotOptions::new().delta(), |_| {}, |_| {});
        game.run(millis(5000));
        game.check();
        let sizes = &game.server_log().sizes;
        assert!(sizes[0] > 900, "there is nothing to differ from: {}", sizes[0]);
        let settled = &sizes[60..];
        assert!(settled.iter().all(|size| *size < 100), "{:?}", settled.iter().max());
    }
}

#[test]
fn snapshots_larger_than_a_datagram_travel_in_fragments() {
    for options in [SnapshotOptions::new(), SnapshotOptions::new().delta()] {
        let link = Link { scheme: Scheme::Udp, profile: LinkProfile { delay: millis(10), ..LinkProfile::PERFECT } };
        let mut game = Game::with(link, 5000, options, |_| {}, |_| {});
        game.run(millis(3000));
        game.check();
        assert!(game.snapshots().applied > 100, "{:?}", game.snapshots());
    }
}

#[test]
fn a_client_that_lost_its_baselines_gets_a_whole_snapshot_within_two_seconds() {
    for link in Link::all() {
        let mut game = Game::over(link);
        game.run(millis(2000));
        let client = game.ends.1;
        // On the client only: the server goes on as if nothing had happened.
        game.client.world_mut().entity_mut(client).remove::<NetworkStreamInGame>();
        game.step();
        game.client.world_mut().entity_mut(client).insert(NetworkStreamInGame);
        game.run(millis(2000));
        let before = game.snapshots();
        game.run(millis(1000));
        let after = game.snapshots();
        assert!(after.applied > before.applied + 20, "{link:?} {before:?} {after:?}");
        assert_eq!(after.unknown_baseline, before.unknown_baseline, "{link:?}");
        game.check();
    }
}

#[test]
fn bytes_arrive_with_their_tick() {
    fn send(
        mut snapshots: SnapshotSender<'_, '_>,
        players: Query<'_, '_, Entity, With<NetworkStreamInGame>>,
        time: Res<'_, NetworkTime>,
    ) {
        for player in &players {
            snapshots.send_bytes(player, &time.tick().number().to_le_bytes()).unwrap();
        }
    }
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let link = Link { scheme, profile: LinkProfile::PERFECT };
        let mut game =
            Game::with(link, 16, SnapshotOptions::new(), |app| _ = app.add_systems(NetworkTick, send), |_| {});
        game.run(millis(1000));
        game.check();
        let raw = &game.client_log().raw;
        assert!(raw.len() > 50);
        assert!(raw.iter().all(|(tick, bytes)| *bytes == tick.number().to_le_bytes()));
        assert_eq!(raw.len(), game.client_log().scenes.len(), "both are of one message");
    }
}

#[test]
fn wrong_calls_are_errors_and_send_nothing() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Unknown;
    let link = Link { scheme: Scheme::Udp, profile: LinkProfile::PERFECT };
    let mut game = Game::with(link, 0, SnapshotOptions::new(), |_| {}, |_| {});
    game.run(millis(200));
    let player = game.ends.0;
    game.server.world_mut().entity_mut(player).insert(SnapshotTargetSize(500));
    let (errors, room) = game
        .server
        .world_mut()
        .run_system_once(move |mut snapshots: SnapshotSender<'_, '_>| {
            let scene = |size| Scene { tick: Tick::new(0), cells: vec![0; size] };
            let errors = [
                snapshots.send(player, &Unknown).unwrap_err(),
                snapshots.send(Entity::PLACEHOLDER, &scene(1)).unwrap_err(),
                snapshots.send(player, &scene(300_000)).unwrap_err(),
                snapshots.send(player, &scene(1)).and_then(|_| snapshots.send(player, &scene(1))).unwrap_err(),
            ];
            (errors, snapshots.room(player))
        })
        .unwrap();
    assert_eq!(errors[0], SnapshotError::NotRegistered("Unknown"));
    assert_eq!(errors[1], SnapshotError::Unknown(Entity::PLACEHOLDER));
    assert!(
        matches!(errors[2], SnapshotError::TooLarge { size: 300_004, limit } if limit > 200_000),
        "{:?}",
        errors[2]
    );
    assert!(matches!(errors[3], SnapshotError::AlreadySent(_)));
    assert!((480..500).contains(&room), "{room}");
    game.step();
    game.server.world_mut().entity_mut(player).remove::<NetworkStreamInGame>();
    game.step();
    let error = game.server.world_mut().run_system_once(move |mut snapshots: SnapshotSender<'_, '_>| {
        snapshots.send(player, &Scene { tick: Tick::new(0), cells: Vec::new() })
    });
    assert_eq!(error.unwrap(), Err(SnapshotError::NotInGame));
}

#[test]
fn the_newest_wins_where_several_arrive_in_one_update() {
    let link = Link { scheme: Scheme::Udp, profile: LinkProfile::PERFECT };
    let mut game = Game::over(link);
    game.run(millis(500));
    // The client is slow: four server updates for one of its own.
    for _ in 0..60 {
        for _ in 0..4 {
            game.server.update();
            game.clock.advance(game.step);
        }
        game.client.update();
    }
    game.check();
    let arrivals = game.snapshots();
    assert!(arrivals.superseded > 150 && arrivals.unknown_baseline == 0, "{arrivals:?}");
    game.deliver(SnapshotDelivery::EveryOne);
    let seen = game.client_log().scenes.len();
    for _ in 0..4 {
        game.server.update();
        game.clock.advance(game.step);
    }
    game.client.update();
    assert_eq!(game.client_log().scenes.len(), seen + 4);
    game.check();
}
