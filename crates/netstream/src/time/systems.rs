//! What makes ticks run.

use bevy_ecs::entity::Entity;
use bevy_ecs::world::World;
use netstream_driver::IpcDriver;

use super::{NetworkTick, NetworkTime};
use crate::NetworkStreamDriver;
use crate::state::Side;

/// Before anything of this update is read: what time is it?
pub(crate) fn begin(world: &mut World) {
    let followed = world.resource::<NetworkTime>().connection;
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    let now = net.now().mono;
    match net.session.core.side {
        Side::Server => world.resource_mut::<NetworkTime>().begin(now),
        Side::Client => {
            if let Some((connection, locked)) = leader(&net, followed) {
                world.resource_mut::<NetworkTime>().attach(connection, locked);
            }
        }
    }
}

/// A client's clock follows the connection that is in the game, in-process tick by tick. It keeps its time while the
/// game is left. `None` where all stays as it is.
fn leader(net: &NetworkStreamDriver, followed: Option<Entity>) -> Option<(Option<Entity>, bool)> {
    let mut all = net.session.core.connections.iter();
    if let Some((_, found)) = all.find(|(_, found)| found.state.is_in_game()) {
        let driver = net.session.store.get(found.key.driver);
        return Some((Some(found.entity), driver.is_some_and(|driver| driver.as_any().is::<IpcDriver>())));
    }
    let over = net.state(followed?).is_none_or(|state| state.is_ending());
    over.then_some((None, false))
}

/// Lets the clocks go on and runs the ticks that are due.
pub(crate) fn run_ticks(world: &mut World) {
    let mut net = world.resource_mut::<NetworkStreamDriver>();
    let now = net.now().mono;
    if net.session.core.side == Side::Client {
        let connection = world.resource::<NetworkTime>().connection;
        let net = world.resource::<NetworkStreamDriver>();
        let in_game = connection.and_then(|entity| net.state(entity)).is_some_and(|state| state.is_in_game());
        let rtt = connection.and_then(|entity| net.stats(entity)).and_then(|stats| stats.rtt).unwrap_or_default();
        let mut time = world.resource_mut::<NetworkTime>();
        let rtt = time.rate.ticks_in(rtt);
        time.follow(now, rtt);
        if !in_game {
            time.due = 0;
        }
    }
    while world.resource_mut::<NetworkTime>().next() {
        // An App without any system in it has no such schedule.
        let _ = world.try_run_schedule(NetworkTick);
    }
}
