//! A game of one's own on the simulated network, with a mistake that no quiet network shows.
//!
//! ```text
//! cargo run --release -p netstream-sim --example purses             # finds the mistake
//! cargo run --release -p netstream-sim --example purses -- --fixed  # does not, any more
//! cargo run --release -p netstream-sim --example purses -- --seed N # runs one seed again, event by event
//! ```
//!
//! The server gives every player a purse of ten coins, and takes it back when the player leaves. Players ask for a coin
//! to be spent now and then. What must hold: whoever is connected has a purse, and who has none is not connected.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bevy_app::{App, Plugin, Update};
use bevy_ecs::prelude::*;
use netstream::prelude::*;
use netstream::state::Side;
use netstream_sim::{Case, Game, Level, Trace, find_failure, run_game};
use serde::{Deserialize, Serialize};

/// A player wants to spend a coin.
#[derive(Serialize, Deserialize)]
struct Spend;

/// So much is left.
#[derive(Serialize, Deserialize)]
struct Left(u32);

/// Who owns a purse: the mistake is in the choice.
trait Owner: Copy + Eq + Hash + Send + Sync + 'static {
    fn of(connection: Entity, id: Option<NetworkId>) -> Option<Self>;
}

/// By the player's number: a player who comes back before the old connection is over has the same one.
impl Owner for NetworkId {
    fn of(_: Entity, id: Option<NetworkId>) -> Option<Self> {
        id
    }
}

/// By connection: right.
impl Owner for Entity {
    fn of(connection: Entity, _: Option<NetworkId>) -> Option<Self> {
        Some(connection)
    }
}

#[derive(Resource)]
struct Purses<O>(HashMap<O, u32>);

/// The plugin of the game, as it would be in the real program.
struct Bank<O> {
    side: Side,
    owner: PhantomData<O>,
}

impl<O: Owner> Plugin for Bank<O> {
    fn build(&self, app: &mut App) {
        app.register_rpc::<Spend>().register_rpc::<Left>();
        match self.side {
            Side::Server => {
                app.insert_resource(Purses::<O>(HashMap::new()));
                app.add_observer(open_and_close::<O>).add_systems(Update, pay::<O>);
            }
            Side::Client => _ = app.add_systems(Update, spend),
        }
    }
}

fn open_and_close<O: Owner>(event: On<ConnectionEvent>, mut purses: ResMut<Purses<O>>) {
    let Some(owner) = O::of(event.connection, event.network_id) else { return };
    match event.state {
        ConnectionState::Connected(_) => _ = purses.0.entry(owner).or_insert(10),
        ConnectionState::Disconnected => _ = purses.0.remove(&owner),
        _ => {}
    }
}

fn pay<O: Owner>(
    mut inbox: MessageReader<ReceivedRpc<Spend>>,
    ids: Query<&NetworkId>,
    mut purses: ResMut<Purses<O>>,
    mut rpcs: RpcSender,
) {
    for spend in inbox.read() {
        let owner = O::of(spend.connection, ids.get(spend.connection).ok().copied());
        if let Some(coins) = owner.and_then(|owner| purses.0.get_mut(&owner)) {
            *coins = coins.saturating_sub(1);
            let _ = rpcs.send(spend.connection, &Left(*coins));
        }
    }
}

fn spend(connections: Query<(Entity, &ConnectionState)>, mut count: Local<u32>, mut rpcs: RpcSender) {
    *count += 1;
    for (connection, state) in &connections {
        if state.is_connected() && count.is_multiple_of(60) {
            let _ = rpcs.send(connection, &Spend);
        }
    }
}

/// The game, and what must hold of it.
struct Coins<O>(PhantomData<O>);

impl<O: Owner> Game for Coins<O> {
    fn build(&self, app: &mut App, side: Side) {
        app.add_plugins(Bank::<O> { side, owner: PhantomData });
    }

    fn check(&self, world: &mut World, side: Side) -> Result<(), String> {
        if side == Side::Client {
            return Ok(());
        }
        let mut connections = world.query::<(Entity, &ConnectionState)>();
        let connected: Vec<_> =
            connections.iter(world).filter(|(_, state)| state.is_connected()).map(|(entity, _)| entity).collect();
        for connection in connected {
            let owner = O::of(connection, world.get::<NetworkId>(connection).copied());
            if !owner.is_some_and(|owner| world.resource::<Purses<O>>().0.contains_key(&owner)) {
                return Err(format!("{connection} is connected and has no purse"));
            }
        }
        Ok(())
    }
}

const LENGTH: Duration = Duration::from_secs(30);
const SEEDS: u64 = 1000;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let fixed = args.iter().any(|arg| arg == "--fixed");
    let game: Arc<dyn Game> =
        if fixed { Arc::new(Coins::<Entity>(PhantomData)) } else { Arc::new(Coins::<NetworkId>(PhantomData)) };
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
            let seed = failure.outcome.seed;
            let violation = failure.outcome.violation.expect("it failed");
            println!("seed {seed} reproduces it: {violation}");
            println!("the last of the log:");
            failure.outcome.trace.iter().rev().take(12).rev().for_each(|line| println!("{line}"));
            let plan = failure.shrunk.case.plan();
            println!("the smallest case: {} clients, {} faults", plan.clients, plan.faults.len());
            plan.faults
                .iter()
                .for_each(|fault| println!("  {:?} at {:?} on {:?}", fault.effect, fault.start, fault.node));
            println!("found, shrunk and replayed in {:.1} s", start.elapsed().as_secs_f64());
        }
    }
}
