//! Snapshots arrive in the order of their ticks, and are acknowledged if they were handed out.

mod play;

use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use netstream::driver::Scheme;
use netstream::driver::link::LinkProfile;
use netstream::prelude::*;
use netstream::{SnapshotDelivery, SnapshotError, SnapshotTargetSize};
use play::tap::Packet;
use play::{Game, Link, Log, Scene, millis};

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
fn acknowledgements_come_by_themselves_where_there_are_no_commands() {
    for link in Link::all() {
        let mut game = Game::over(link);
        game.client.world_mut().resource_mut::<Log>().spectator = true;
        game.run(millis(5000));
        game.check();
        let ticks = &game.server_log().ticks;
        let acked = ticks.iter().filter(|tick| game.acks().acked(**tick)).count();
        let applied = game.snapshots().applied as usize;
        assert!(acked * 10 > applied * 9 && acked > 150, "{acked} of {applied} over {link:?}");
        assert_eq!(game.server_log().applied.len(), 0, "nothing else was sent");
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

/// A game that fills the room it is told of, with a scene and with bytes of no type.
#[test]
fn no_message_is_longer_than_the_target_of_its_connection_and_room_is_what_is_taken() {
    fn fill(
        mut snapshots: SnapshotSender<'_, '_>,
        players: Query<'_, '_, Entity, With<NetworkStreamInGame>>,
        time: Res<'_, NetworkTime>,
    ) {
        for player in &players {
            let noise = |size: usize| (0..size as u32).map(|at| ((at * 31) ^ (time.tick().number() * 7)) as u8);
            let room = snapshots.room(player);
            snapshots.send_bytes(player, &noise(room / 3).collect::<Vec<_>>()).unwrap();
            let room = snapshots.room(player);
            // Tick and length take up to five bytes each.
            let scene = Scene { tick: time.tick(), cells: noise(room - 10).collect() };
            snapshots.send(player, &scene).unwrap();
            let rest = snapshots.room(player);
            assert!(rest <= 10, "{rest} of {room}");
        }
    }
    for (scheme, target) in [(Scheme::Ipc, 1), (Scheme::Udp, 100), (Scheme::Udp, 333), (Scheme::Udp, 5000)] {
        for options in [SnapshotOptions::new(), SnapshotOptions::new().delta()] {
            let link = Link { scheme, profile: LinkProfile::PERFECT };
            let insert = move |add: On<'_, '_, Add<NetworkStreamConnection>>, mut commands: Commands<'_, '_>| {
                _ = commands.entity(add.entity).insert(SnapshotTargetSize(target));
            };
            let server = |app: &mut bevy_app::App| _ = app.add_systems(NetworkTick, fill).add_observer(insert);
            let mut game = Game::with(link, 0, options, server, |_| {});
            game.run(millis(1000));
            assert!(game.snapshots().applied > 40, "{:?}", game.snapshots());
            let target = target.max(100);
            let book = game.books[0].lock().unwrap();
            for packet in &book.left {
                let Packet::Snapshots(packet) = packet else { continue };
                assert!((target - 40..=target).contains(&packet.length), "{} for {target}", packet.length);
            }
        }
    }
}

#[test]
fn what_counts_for_the_target_is_the_difference_where_there_is_a_baseline() {
    let link = Link { scheme: Scheme::Udp, profile: LinkProfile { delay: millis(30), ..LinkProfile::PERFECT } };
    let mut game = Game::with(link, 0, SnapshotOptions::new().delta(), |_| {}, |_| {});
    let player = game.ends.0;
    let send = |game: &mut Game, target: Option<usize>| {
        let mut entity = game.server.world_mut().entity_mut(player);
        match target {
            Some(target) => _ = entity.insert(SnapshotTargetSize(target)),
            None => _ = entity.remove::<SnapshotTargetSize>(),
        }
        game.step();
        let tick = game.server_time().tick();
        let system = move |mut snapshots: SnapshotSender<'_, '_>| snapshots.send(player, &Scene::at(tick, 900));
        game.server.world_mut().run_system_once(system).unwrap()
    };
    assert!(matches!(send(&mut game, Some(300)), Err(SnapshotError::TooLarge { size: 900.., limit: 284 })));
    assert!(send(&mut game, None).unwrap() > 900);
    game.run(millis(200));
    assert!(send(&mut game, Some(300)).unwrap() < 50);
    // The client loses what it had, and says so when it is told the next difference.
    let client = game.ends.1;
    game.client.world_mut().entity_mut(client).remove::<NetworkStreamInGame>();
    game.step();
    game.client.world_mut().entity_mut(client).insert(NetworkStreamInGame);
    let refused = (0..60).any(|_| send(&mut game, Some(300)).is_err());
    assert!(refused, "the whole does not fit");
    assert!(send(&mut game, Some(1200)).unwrap() > 900);
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
    assert_eq!(errors[2], SnapshotError::TooLarge { size: 300_009, limit: 500 - 16 });
    assert!(matches!(errors[3], SnapshotError::AlreadySent(_)));
    // Less the header, what the small one took, and what stands before another one.
    assert_eq!(room, 500 - 16 - 6 - 7);
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
