//! The example game plays: over every driver, in virtual time, over the networks of the tests.

#![allow(unreachable_pub, dead_code, reason = "the game is an example, of which this is another main")]

#[path = "../examples/arena/client.rs"]
mod client;
#[path = "../examples/arena/game.rs"]
mod game;
#[path = "../examples/arena/server.rs"]
mod server;

use std::time::Duration;

use bevy_app::App;
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::udp::{Access, MemoryNetwork, UdpConfig};
use netstream::driver::{ManualClock, NetworkDriver, UdpDriver};
use netstream::prelude::*;
use netstream::transport::SeededRandom;
use netstream::transport::netcode::JoinCode;

use client::View;

/// A server and three players for so many seconds.
fn play(udp: bool, profile: LinkProfile, seconds: u32) -> Vec<App> {
    let (clock, hub, network) = (ManualClock::new(), IpcHub::new(), MemoryNetwork::new());
    let code = JoinCode::random(&mut SeededRandom::new(1));
    let over = |plugin: NetworkStreamPlugin, seed: u64, profile: LinkProfile| {
        let plugin = plugin.with_clock(clock.clone()).with_random(SeededRandom::new(seed)).with_ipc(&hub);
        let (network, code) = (network.clone(), code.clone());
        plugin.with_driver_constructor(move |_| {
            let mut random = SeededRandom::new(seed);
            let mut config = UdpConfig::new(&mut random);
            config.access = Access::JoinCode(code.clone());
            let driver = UdpDriver::on(network.clone(), config, Box::new(random));
            udp.then(|| Box::new(Simulated::new(driver, profile, seed)) as Box<dyn NetworkDriver>)
        })
    };
    let endpoint = if udp { "udp://127.0.0.1:7979" } else { "ipc://arena" };
    let mut apps = vec![server::app(over(NetworkStreamPlugin::server(), 1, LinkProfile::PERFECT))];
    apps[0].world_mut().resource_mut::<NetworkStreamDriver>().listen(endpoint).unwrap();
    for (name, seed) in [("anna", 2), ("bert", 3), ("carl", 4)] {
        let mut client = client::app(over(NetworkStreamPlugin::client(), seed, profile), name, false);
        let options = if udp { ConnectOptions::new().join_code(code.clone()) } else { ConnectOptions::new() };
        client.world_mut().resource_mut::<NetworkStreamDriver>().connect_with(endpoint, options).unwrap();
        apps.push(client);
    }
    for _ in 0..seconds * 120 {
        apps.iter_mut().for_each(App::update);
        clock.advance(Duration::from_secs(1) / 120);
    }
    apps
}

#[test]
fn players_move_shoot_talk_and_see_each_other_where_they_are() {
    let millis = Duration::from_millis;
    for (udp, profile, allowed) in [
        (false, LinkProfile::PERFECT, 0.0),
        (true, LinkProfile::PERFECT, 0.0),
        (true, LinkProfile { delay: millis(30), jitter: millis(5), ..LinkProfile::PERFECT }, 0.0),
        // A few commands miss their tick with all their copies.
        (true, LinkProfile { delay: millis(8), loss: 0.05, ..LinkProfile::PERFECT }, 2.0),
        (true, LinkProfile { delay: millis(30), loss: 0.33, ..LinkProfile::PERFECT }, 40.0),
    ] {
        let apps = play(udp, profile, 20);
        for app in &apps[1..] {
            let view = app.world().resource::<View>();
            let time = app.world().resource::<NetworkTime>();
            let (tick, arena) = view.snapshots.back().expect("snapshots arrive");
            assert_eq!(arena.players.len(), 3);
            assert!(time.tick().since(*tick) < 30, "the newest is of {tick}, it is {}", time.tick());
            println!("{profile:?}: player {} was corrected by {:.2}, {} hits", view.me, view.corrections, view.hits);
            assert!(view.corrections <= allowed, "{}", view.corrections);
            assert!(view.hits > 0 && arena.players.iter().any(|player| player.score > 0));
            assert!(view.shouts.iter().any(|shout| shout.from == view.me), "the server passes on what is said");
            for player in arena.players.iter().filter(|player| player.id != view.me) {
                let at = client::between(view, time, player.id).expect("it is drawn");
                // Not further from where it is now than it can have gone meanwhile.
                let gone = (at[0] - player.at[0]).hypot(at[1] - player.at[1]);
                assert!(gone < 0.25 * 12.0, "{gone}");
            }
        }
    }
}
