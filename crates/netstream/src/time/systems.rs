//! What makes ticks run.

use bevy_ecs::system::{Res, ResMut};
use bevy_ecs::world::World;
use netstream_driver::IpcDriver;

use super::{NetworkTick, NetworkTime};
use crate::NetworkStreamDriver;
use crate::state::Side;

/// Before anything of this update is read: what time is it?
pub(crate) fn begin(mut net: ResMut<'_, NetworkStreamDriver>, mut time: ResMut<'_, NetworkTime>) {
    let now = net.now().mono;
    match net.session.core.side {
        Side::Server => time.begin(now),
        Side::Client => attach(&net, &mut time),
    }
}

/// A client's clock follows the connection that is in the game. It keeps its time while the game is left.
fn attach(net: &NetworkStreamDriver, time: &mut NetworkTime) {
    let mut all = net.session.core.connections.iter();
    if let Some((_, found)) = all.find(|(_, found)| found.state.is_in_game()) {
        let driver = net.session.store.get(found.key.driver);
        time.attach(Some(found.entity), driver.is_some_and(|driver| driver.as_any().is::<IpcDriver>()));
    } else if let Some(connection) = time.connection
        && net.state(connection).is_none_or(|state| state.is_ending())
    {
        time.attach(None, false);
    }
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

/// Whether this World counts ticks.
pub(crate) fn is_counting(time: Option<Res<'_, NetworkTime>>, net: Option<Res<'_, NetworkStreamDriver>>) -> bool {
    time.is_some() && net.is_some()
}
