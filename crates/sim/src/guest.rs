//! Your own game on the simulated network.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bevy_app::App;
use bevy_ecs::world::World;
use netstream::state::Side;

use crate::invariant::Invariant;
use crate::l2::Apps;
use crate::plan::Level;
use crate::run::{Case, Outcome, Trace, begin, journal_for, play_apps};
use crate::shrink::{Shrunk, shrink_while};
use crate::stage::Stage;

/// A game that is put into every World of a simulation: your own plugin, and what must hold of it.
///
/// The simulation makes the Worlds, connects clients and lets them leave, crash and come back, and makes the network
/// bad. The game does the rest with its systems, as it would anywhere. Time is virtual; what a game wants of randomness
/// it must take from a seed, or a failure cannot be seen again.
pub trait Game: Send + Sync {
    /// Puts the game into a World that serves or that connects. The network plugin is there already.
    fn build(&self, app: &mut App, side: Side);

    /// What must hold after every update of a World; the error says what does not.
    fn check(&self, _world: &mut World, _side: Side) -> Result<(), String> {
        Ok(())
    }

    /// What must hold when the network has been well for some time: in the Worlds of the servers, and of those clients
    /// that are connected.
    fn check_settled(&self, _servers: &mut [&mut World], _clients: &mut [&mut World]) -> Result<(), String> {
        Ok(())
    }
}

/// A seed that breaks a game.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What happened.
    pub outcome: Outcome,
    /// The smallest case that still shows it.
    pub shrunk: Shrunk,
}

/// Runs one case of a game.
pub fn run_game(game: &Arc<dyn Game>, case: &Case, trace: Trace) -> Outcome {
    let mut plan = case.plan();
    // What the simulation's own game would do is out of place here.
    plan.workload.up = [0.0; 5];
    plan.workload.down = [0.0; 5];
    plan.workload.nonsense = 0.0;
    plan.workload.typed = false;
    plan.workload.approval = false;
    plan.workload.foreign = None;
    plan.workload.last_numbers = None;
    begin(&plan, 0);
    let apps = Apps::new(plan.clone(), journal_for(trace), Some(game.clone()));
    play_apps(Stage::new(plan, apps, case.order))
}

/// Runs seed after seed until one breaks the game, and makes the failure smaller.
pub fn find_failure(game: &Arc<dyn Game>, seeds: Range<u64>, length: Duration) -> Option<Failure> {
    seeds.into_iter().find_map(|seed| {
        let case = Case::new(seed, Level::L2, length);
        let violation = run_game(game, &case, Trace::Hash).violation?;
        let outcome = run_game(game, &case, Trace::Last);
        let fails = |case: &Case| {
            let found = run_game(game, case, Trace::Hash).violation;
            found.filter(|found| found.invariant == violation.invariant)
        };
        let shrunk = shrink_while(&case, 100, fails);
        Some(Failure { outcome, shrunk })
    })
}

/// Looks at a World after its update.
pub(crate) fn check(game: Option<&Arc<dyn Game>>, world: &mut World, side: Side) -> Result<(), (Invariant, String)> {
    game.map_or(Ok(()), |game| game.check(world, side)).map_err(|what| (Invariant::Game, what))
}
