//! The example game `arena`, which everybody in the demo plays besides: typed commands, snapshots and RPCs, prediction
//! and interpolation.

#![allow(unreachable_pub, dead_code, reason = "the game is an example of the library, of which this is another main")]

#[path = "../../../netstream/examples/arena/client.rs"]
pub(super) mod client;
#[path = "../../../netstream/examples/arena/game.rs"]
mod game;
#[path = "../../../netstream/examples/arena/server.rs"]
pub(super) mod server;

use std::fmt;

use bevy_app::App;
use serde::Serialize;

/// What came of the game.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ArenaReport {
    /// Inputs that the server has applied, each for its tick.
    applied: u64,
    /// Shots that hit somebody.
    hits: u64,
    /// Clients that have seen themselves in the arena.
    players: u32,
    /// How far clients had to correct where they thought to be, all together; a step is 0.15.
    corrections: f32,
}

impl ArenaReport {
    /// Looks at the server and the clients.
    pub(super) fn new<'a>(server: &App, clients: impl Iterator<Item = &'a App>) -> Self {
        let chronicle = server.world().get_resource::<server::Chronicle>();
        let mut report = chronicle.map_or_else(Self::default, |chronicle| Self {
            applied: chronicle.applied,
            hits: chronicle.hits,
            ..Self::default()
        });
        for view in clients.filter_map(|client| client.world().get_resource::<client::View>()) {
            let at_home = view.snapshots.iter().any(|(_, arena)| arena.players.iter().any(|one| one.id == view.me));
            report.players += u32::from(at_home);
            report.corrections += view.corrections;
        }
        report
    }
}

impl fmt::Display for ArenaReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { applied, hits, players, corrections } = self;
        write!(
            f,
            "{players} players, {applied} inputs applied for their tick, {hits} hits, corrected by {corrections:.2}"
        )
    }
}
