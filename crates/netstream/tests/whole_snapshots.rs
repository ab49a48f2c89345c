//! What a client is sent of whole snapshots while there is nothing acknowledged to tell the difference from: enough for
//! newcomers and after outages. (Hostile clients are in `hostile_data.rs`.)

mod play;

use bevy_app::App;
use netstream::driver::link::{LinkProfile, Simulated};
use netstream::driver::{IpcDriver, Scheme};
use netstream::prelude::*;
use play::{Game, Link, millis};

const LOST: LinkProfile = LinkProfile { loss: 1.0, ..LinkProfile::PERFECT };

/// How many of the snapshots that the server made since then were whole, and how many it has passed over.
fn whole(game: &Game, since: usize) -> (usize, usize) {
    let sizes = &game.server_log().sizes[since..];
    (sizes.iter().filter(|size| **size > 64).count(), sizes.iter().filter(|size| **size == 0).count())
}

/// From now on this lies between the two; it must not have been a perfect link.
fn set_link(app: &mut App, profile: LinkProfile) {
    let mut net = app.world_mut().resource_mut::<NetworkStreamDriver>();
    let (_, driver) = net.drivers_mut().iter_mut().next().expect("a client has one");
    match driver.as_any_mut().downcast_mut::<Simulated<IpcDriver>>() {
        Some(simulated) => simulated.set_both(profile),
        None => driver.packet_simulator().expect("UDP has packets").set_both(profile),
    }
}

#[test]
fn a_newcomer_far_away_on_a_bad_network_has_whole_snapshots_enough() {
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let profile = LinkProfile { delay: millis(100), loss: 0.33, ..LinkProfile::PERFECT };
        let mut game = Game::over(Link { scheme, profile });
        let mut updates = 0;
        while game.acks().newest_acked().is_none() {
            game.step();
            updates += 1;
        }
        println!("{scheme:?}: {updates} updates until the first acknowledgement");
        assert!(updates < 40, "{updates} updates until the first acknowledgement over {scheme:?}");
        game.run(millis(5000));
        game.check();
        let (whole, passed) = whole(&game, 0);
        assert!(whole < 60, "{whole} over {scheme:?}");
        assert!(passed < 20, "{passed} passed over over {scheme:?}");
        assert!(game.snapshots().applied > 150, "{:?}", game.snapshots());
    }
}

#[test]
fn after_an_outage_of_two_seconds_the_world_is_shown_within_a_round_trip() {
    let profile = LinkProfile { delay: millis(50), ..LinkProfile::PERFECT };
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let mut game = Game::over(Link { scheme, profile });
        game.run(millis(3000));
        // Again and again: what is in hand is not used up by outages.
        for outage in 0..5 {
            let before = game.server_log().sizes.len();
            set_link(&mut game.client, LOST);
            game.run(millis(2000));
            let (wholes, passed) = whole(&game, before);
            assert!(
                wholes <= 32 && passed > 50,
                "{wholes} whole, {passed} passed over in outage {outage} over {scheme:?}"
            );
            set_link(&mut game.client, profile);
            let seen = game.snapshots().applied;
            // What the client says needs 3 updates, and so does what it is shown; each end waits for its next one.
            let mut updates = 0;
            while game.snapshots().applied == seen {
                game.step();
                updates += 1;
            }
            println!("{scheme:?}: {updates} updates after outage {outage}");
            assert!(updates <= 11, "{updates} updates over {scheme:?}");
            let now = game.snapshots().applied;
            game.run(millis(1850));
            assert!(game.snapshots().applied > now + 100, "outage {outage} over {scheme:?}");
        }
        game.check();
    }
}

/// Of a connection so long that every acknowledgement comes too late for what is kept at 60 Hz.
#[test]
fn a_client_behind_a_satellite_is_shown_the_world_all_the_same() {
    for scheme in [Scheme::Ipc, Scheme::Udp] {
        let profile = LinkProfile { delay: millis(300), ..LinkProfile::PERFECT };
        let mut game = Game::over(Link { scheme, profile });
        game.run(millis(5000));
        let (seen, since) = (game.snapshots().applied, game.server_log().sizes.len());
        game.run(millis(20_000));
        game.check();
        let (seen, (wholes, passed)) = (game.snapshots().applied - seen, whole(&game, since));
        println!("{scheme:?}: {seen} of 1200 shown, {wholes} whole, {passed} passed over");
        assert!(seen > 900 && wholes < 100, "{seen} shown, {wholes} whole, {passed} passed over, over {scheme:?}");
    }
}
