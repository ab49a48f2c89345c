//! A game of one's own on the simulated network, with a mistake that no quiet network shows.
//!
//! ```text
//! cargo run --release -p netstream-sim --example purses              # finds the mistake
//! cargo run --release -p netstream-sim --example purses -- --seed N  # runs one seed again, event by event
//! cargo run --release -p netstream-sim --example purses -- --fixed   # the mistake is gone
//! ```
//!
//! Every player has a purse of ten coins and spends one now and then; the server keeps the books. What must hold: once all is
//! spent, the books say so, too.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy_app::{App, Plugin, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use netstream::state::Side;
use netstream::transport::ChannelId;
use netstream::{NetworkStreamConnection, RpcOptions};
use netstream_sim::{Case, Game, Level, Trace, find_failure, run_game};
use serde::{Deserialize, Serialize};

/// A player spends a coin.
#[derive(Serialize, Deserialize)]
struct Spend;

/// Coins: in the player's hands, or in the server's books.
#[derive(Component)]
struct Purse(u32);

/// The plugin of the game, as it is in the real program.
struct Coins {
    side: Side,
    options: RpcOptions,
}

impl Plugin for Coins {
    fn build(&self, app: &mut App) {
        app.register_rpc_with::<Spend>(self.options).add_observer(open);
        match self.side {
            Side::Server => app.add_systems(Update, keep_books),
            Side::Client => app.add_systems(Update, spend),
        };
    }
}

/// Whoever is Connected gets a purse, on both sides.
fn open(event: On<ConnectionEvent>, purses: Query<&Purse>, mut commands: Commands) {
    if event.state.is_connected() && !purses.contains(event.connection) {
        commands.entity(event.connection).insert(Purse(10));
    }
}

fn spend(mut purses: Query<(Entity, &mut Purse)>, mut updates: Local<u32>, mut rpcs: RpcSender) {
    *updates += 1;
    for (connection, mut purse) in &mut purses {
        if purse.0 > 0 && updates.is_multiple_of(10) && rpcs.send(connection, &Spend).is_ok() {
            purse.0 -= 1;
        }
    }
}

fn keep_books(mut inbox: MessageReader<ReceivedRpc<Spend>>, mut purses: Query<&mut Purse>) {
    for spend in inbox.read() {
        if let Ok(mut purse) = purses.get_mut(spend.connection) {
            purse.0 = purse.0.saturating_sub(1);
        }
    }
}

/// The game as the simulation sees it: how it gets into a World, and what must hold of it.
struct Simulated {
    fixed: bool,
}

impl Game for Simulated {
    fn build(&self, app: &mut App, side: Side) {
        // The mistake: whoever thought that losing a coin now and then does no harm.
        let hasty = RpcOptions::new().channel(ChannelId::UNRELIABLE);
        let options = if self.fixed { RpcOptions::new() } else { hasty };
        app.add_plugins(Coins { side, options });
    }

    fn check(&self, world: &mut World, side: Side) -> Result<(), String> {
        let mut connections = world.query::<(&NetworkStreamConnection, &ConnectionState, Has<Purse>)>();
        let poor = connections.iter(world).filter(|(_, state, has)| state.is_connected() && !has).count();
        if poor > 0 { Err(format!("{poor} connections on the {side:?} have no purse")) } else { Ok(()) }
    }

    fn check_settled(&self, servers: &mut [&mut World], clients: &mut [&mut World]) -> Result<(), String> {
        let count = |worlds: &mut [&mut World]| -> u32 {
            worlds.iter_mut().map(|world| world.query::<&Purse>().iter(world).map(|purse| purse.0).sum::<u32>()).sum()
        };
        let (books, hands) = (count(servers), count(clients));
        if books == hands { Ok(()) } else { Err(format!("the books say {books} coins, the players have {hands}")) }
    }
}

const LENGTH: Duration = Duration::from_secs(30);
const SEEDS: u64 = 1000;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let game: Arc<dyn Game> = Arc::new(Simulated { fixed: args.iter().any(|arg| arg == "--fixed") });
    if let Some(seed) = args.iter().skip_while(|arg| *arg != "--seed").nth(1) {
        let seed = seed.parse().expect("a number follows --seed");
        let outcome = run_game(&game, &Case::new(seed, Level::L2, LENGTH), Trace::Print);
        println!("{}", outcome.violation.map_or("nothing is wrong".to_owned(), |violation| violation.to_string()));
        return;
    }
    let start = Instant::now();
    match find_failure(&game, 0..SEEDS, LENGTH) {
        None => println!("{SEEDS} seeds, nothing found, {:.1} s", start.elapsed().as_secs_f64()),
        Some(failure) => {
            let violation = failure.outcome.violation.expect("it failed");
            println!("seed {} reproduces it: {violation}", failure.outcome.seed);
            let plan = failure.shrunk.case.plan();
            println!("the smallest case after {} runs: {} clients and", failure.shrunk.runs, plan.clients);
            plan.faults.iter().for_each(|fault| println!("  {:?} on {:?}", fault.effect, fault.node));
            println!("in {:.1} s", start.elapsed().as_secs_f64());
        }
    }
}
