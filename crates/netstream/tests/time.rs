//! Clocks: a client's commands arrive just in time, and no clock ever runs backwards.

mod play;

use std::time::Duration;

use bevy_app::Update;
use bevy_ecs::prelude::*;
use netstream::driver::Scheme;
use netstream::driver::link::LinkProfile;
use netstream::prelude::*;
use play::{Game, Link, millis};

/// What a client's clocks showed, update by update.
#[derive(Resource, Default)]
struct Clocks(Vec<[(Tick, f32); 3]>);

fn watch(time: Res<'_, NetworkTime>, mut clocks: ResMut<'_, Clocks>) {
    if time.is_synced() {
        clocks.0.push([
            (time.tick(), 0.0),
            (time.server_tick(), 0.0),
            (time.interpolation_tick(), time.interpolation_fraction()),
        ]);
    }
}

fn game(link: Link) -> Game {
    let options = SnapshotOptions::new().delta();
    Game::with(link, 64, options, |_| {}, |app| _ = app.init_resource::<Clocks>().add_systems(Update, watch))
}

fn udp(delay: u64, jitter: u64) -> Link {
    let profile = LinkProfile { delay: millis(delay), jitter: millis(jitter), ..LinkProfile::PERFECT };
    Link { scheme: Scheme::Udp, profile }
}

fn assert_no_clock_ran_backwards(game: &Game) {
    let clocks = &game.client.world().resource::<Clocks>().0;
    for (index, pair) in clocks.windows(2).enumerate() {
        for (before, after) in pair[0].iter().zip(&pair[1]) {
            let step = after.0.since(before.0) as f32 + after.1 - before.1;
            assert!(step >= 0.0, "{before:?} then {after:?} in update {index}");
        }
    }
    game.check();
}

/// Ages of the commands of the last seconds, one per update.
fn ages(game: &mut Game, time: Duration) -> Vec<f32> {
    let mut ages = Vec::new();
    for _ in 0..time.as_nanos() / game.step.as_nanos() {
        game.step();
        ages.extend(game.time().command_age());
    }
    ages
}

#[test]
fn commands_arrive_one_to_three_ticks_early_at_any_distance() {
    println!("| RTT | age after 2 s: least | mean | most | late of 600 | clock |");
    println!("|---|---|---|---|---|---|");
    let printed = [(0, 5), (60, 5), (200, 5), (0, 0), (60, 0), (200, 0)];
    let others = [10, 20, 30, 40, 50, 66, 73, 80, 100, 140].map(|rtt| (rtt, 5));
    for (rtt, jitter) in printed.into_iter().chain(others).chain([(7, 0), (16, 0), (33, 0)]) {
        let mut game = game(udp(rtt / 2, jitter));
        game.run(millis(2000));
        let late = game.arrivals().late;
        let ages = ages(&mut game, millis(10_000));
        let (least, most) = ages.iter().fold((f32::MAX, f32::MIN), |(low, high), age| (low.min(*age), high.max(*age)));
        let mean = ages.iter().sum::<f32>() / ages.len() as f32;
        let late = game.arrivals().late - late;
        let server = game.server_time().tick();
        let ahead = game.time().tick().since(server);
        if printed.contains(&(rtt, jitter)) {
            println!("| {rtt} ms ± {jitter} | {least:.2} | {mean:.2} | {most:.2} | {late} | {ahead} ticks ahead |");
        }
        assert!((-3.0..=-1.0).contains(&mean), "{mean}");
        // An age is told at the server's updates, by whole ticks here, less a 256th. Where the turn of a tick falls together
        // with a frame, it varies by one more.
        assert!(least > -4.1 && most < -1.0, "{least} to {most}");
        let early = ages.iter().filter(|age| **age < -3.1).count();
        assert!(early <= ages.len() / 20, "{early} of {}", ages.len());
        assert!(early == 0 || !printed.contains(&(rtt, jitter)), "{early} at {rtt} ms");
        assert_eq!(late, 0);
        assert_no_clock_ran_backwards(&game);
    }
}

#[test]
fn two_seconds_of_standstill_are_made_up_for_within_one() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Stalled {
        Client,
        Server,
        Both,
    }
    for rtt in [0, 60, 200] {
        for stalled in [Stalled::Client, Stalled::Server, Stalled::Both] {
            let mut game = game(udp(rtt / 2, 5));
            game.run(millis(3000));
            for _ in 0..120 {
                if stalled == Stalled::Client {
                    game.server.update();
                }
                if stalled == Stalled::Server {
                    game.client.update();
                }
                game.clock.advance(game.step);
            }
            game.run(millis(1000));
            let (late, applied) = (game.arrivals().late, game.server_log().applied.len());
            let ages = ages(&mut game, millis(1000));
            let late = game.arrivals().late - late;
            let applied = game.server_log().applied.len() - applied;
            println!(
                "{stalled:?} at {rtt} ms: {late} late, {applied} applied, ages {:?}",
                ages.first().zip(ages.last())
            );
            assert_eq!(late, 0, "{stalled:?} at {rtt} ms");
            assert!(applied >= 58, "{applied} {stalled:?} at {rtt} ms");
            // Commands that were late in the standstill make the next ones leave half a tick earlier for a while: some of
            // them arrive a tick earlier than they would.
            assert!(ages.iter().all(|age| (-4.1..0.0).contains(age)), "{stalled:?} at {rtt} ms: {ages:?}");
            let early = ages.iter().filter(|age| **age < -3.1).count();
            assert!(early <= ages.len() / 2, "{early} of {} {stalled:?} at {rtt} ms", ages.len());
            assert_no_clock_ran_backwards(&game);
        }
    }
}

#[test]
fn in_process_a_client_is_one_tick_ahead_and_no_command_is_missing() {
    let mut game = game(Link { scheme: Scheme::Ipc, profile: LinkProfile::PERFECT });
    game.run(millis(100));
    for _ in 0..600 {
        game.step();
        let server = game.server_time().tick();
        assert_eq!(game.time().tick().since(server), 1);
    }
    assert_eq!(game.arrivals().late, 0);
    assert!(game.server_log().applied.len() > 600);
    assert_no_clock_ran_backwards(&game);
}

/// Where frames take longer than ticks an update of the server runs several of these at times, and all need their commands.
#[test]
fn in_process_no_command_is_missing_at_any_frame_rate() {
    for step in [7, 13, 17, 20, 30, 50, 100] {
        let mut game = game(Link { scheme: Scheme::Ipc, profile: LinkProfile::PERFECT });
        game.step = millis(step);
        game.run(millis(1000));
        let (late, before) = (game.arrivals().late, game.server_log().applied.len());
        game.run(millis(6000));
        let applied = game.server_log().applied.len() - before;
        assert!((359..=361).contains(&applied), "{applied} in updates of {step} ms");
        assert_eq!(game.arrivals().late, late, "in updates of {step} ms");
        assert_no_clock_ran_backwards(&game);
    }
}

#[test]
fn clocks_go_forward_on_every_network_also_when_it_changes() {
    for link in Link::all() {
        let mut game = game(link);
        game.run(millis(5000));
        assert_no_clock_ran_backwards(&game);
    }
    let mut game = game(udp(100, 20));
    game.run(millis(3000));
    // The client's updates come irregularly, several ticks long at times.
    for step in 0..600u64 {
        game.server.update();
        if step % 7 != 3 && step % 11 != 5 {
            game.client.update();
        }
        game.clock.advance(millis(5 + step * 7 % 30));
    }
    assert_no_clock_ran_backwards(&game);
}

#[test]
fn the_interpolation_lies_between_two_snapshots_that_are_here() {
    for rtt in [0, 60, 200] {
        let mut game = game(udp(rtt / 2, 5));
        game.run(millis(3000));
        for _ in 0..300 {
            game.step();
            let at = game.time().interpolation_tick();
            let newest = game.snapshots().newest.unwrap();
            assert!(newest.is_after(at), "at {at}, and the newest is {newest} with {rtt} ms");
            assert!(newest.since(at) < 8, "at {at}, and the newest is {newest} with {rtt} ms");
        }
    }
}

#[test]
fn the_server_is_estimated_to_a_tick_and_the_round_trip_to_a_few_milliseconds() {
    for rtt in [0, 60, 200] {
        let mut game = game(udp(rtt / 2, 0));
        game.run(millis(3000));
        let (guess, truth) = (game.time().server_tick(), game.server_time().tick());
        assert!(guess.since(truth).abs() <= 1, "{guess} for {truth} at {rtt} ms");
        // Bytes wait for the next update on either side.
        let measured = game.time().round_trip().unwrap().as_millis();
        assert!((u128::from(rtt)..u128::from(rtt) + 40).contains(&measured), "{measured} for {rtt} ms");
    }
}

#[test]
fn ticks_run_at_their_rate_and_a_stalled_server_skips_what_it_cannot_catch_up_with() {
    let mut game = game(udp(0, 0));
    game.step = millis(7);
    let before = game.server_log().ticks.len();
    game.run(millis(7000));
    let ticks = game.server_log().ticks.len() - before;
    assert!((419..=421).contains(&ticks), "{ticks}");
    assert_eq!(game.server_time().skipped_ticks(), 0);
    game.clock.advance(millis(1000));
    game.step();
    assert!((50..54).contains(&game.server_time().skipped_ticks()));
    game.check();
}

#[test]
fn both_ends_must_count_at_the_same_rate() {
    let hub = IpcHub::new();
    let mut server = bevy_app::App::new();
    server.add_plugins(NetworkStreamPlugin::server().with_ipc(&hub).with_tick_rate(30));
    let mut client = bevy_app::App::new();
    client.add_plugins(NetworkStreamPlugin::client().with_ipc(&hub).with_tick_rate(60));
    server.world_mut().resource_mut::<NetworkStreamDriver>().listen("ipc://rates").unwrap();
    client.world_mut().resource_mut::<NetworkStreamDriver>().connect("ipc://rates").unwrap();
    let mut reasons = Vec::new();
    for _ in 0..20 {
        server.update();
        client.update();
        let net = client.world().resource::<NetworkStreamDriver>();
        reasons.extend(net.events().iter().filter_map(|event| event.mismatch.clone()));
    }
    let diff = reasons[0].to_string();
    assert!(diff.contains("tick rate 60 is only here") && diff.contains("tick rate 30 is only there"), "{diff}");
}
