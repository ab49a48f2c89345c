//! The network between two updates of an App: for answers that should not wait for the next frame.

use std::time::{Duration, Instant};

use bevy_app::{App, AppExit, Plugin, PluginsState};
use bevy_ecs::schedule::ScheduleLabel;
use bevy_ecs::world::World;

/// Runs whenever the network has brought something, be it a message, an event, or the end of a call that nobody answered.
/// Put systems here that answer at once: it runs at the end of
/// [`NetworkStreamSystems::Receive`](crate::NetworkStreamSystems::Receive), and in [`update_network`].
///
/// Everything that a system of `Update` finds is here, too: [`ReceivedRpc`](crate::ReceivedRpc) and
/// [`ConnectionEvent`](crate::ConnectionEvent) as messages, which systems of the next update read as well, and the buffers
/// of commands and snapshots.
#[derive(ScheduleLabel, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkUpdate;

/// Lets the network act between two updates of the App, as [`NetworkRunnerPlugin`] does: receives, runs [`NetworkUpdate`],
/// sends. Nothing happens without a network, or where the network is acting already.
///
/// A connection is accepted, an RPC is answered and an ack leaves then, without waiting for a frame. Where nothing has come
/// it takes an eighth of the instructions of an update of an App. It does not replace that: ticks, and whoever reads
/// messages in `Update`, wait for it, and it is what lets go of messages that were read.
///
/// ```
/// # use netstream::prelude::*;
/// # use netstream::update_network;
/// # use bevy_app::App;
/// let mut app = App::new();
/// app.add_plugins(NetworkStreamPlugin::server());
/// app.update();
/// while app.world().resource::<NetworkStreamDriver>().connections().count() > 0 {
///     update_network(app.world_mut());
/// }
/// ```
pub fn update_network(world: &mut World) {
    crate::systems::between(world);
}

/// Runs an App without a window, not in a browser: updates at a steady rate, and [`update_network`] between them. Takes the
/// place of other runners, such as that of `ScheduleRunnerPlugin`, where it is added after them.
///
/// An update that took too long makes the next one start at once; what was missed is not made up for.
///
/// ```no_run
/// # use netstream::prelude::*;
/// # use bevy_app::App;
/// # use bevy_ecs::prelude::*;
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Ping(u32);
///
/// fn answer(mut pings: MessageReader<ReceivedRpc<Ping>>, mut rpcs: RpcSender) {
///     for ping in pings.read() {
///         let _ = rpcs.send(ping.connection, &*ping.rpc);
///     }
/// }
///
/// let mut app = App::new();
/// app.add_plugins((NetworkStreamPlugin::server(), NetworkRunnerPlugin::default()))
///     .register_rpc::<Ping>()
///     .add_systems(NetworkUpdate, answer)
///     .run();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRunnerPlugin {
    /// From one update of the App to the next. Default: a 60th of a second.
    pub frame: Duration,
    /// How long to sleep between two looks at the network. Default: 1 ms. With zero nothing waits, and a processor is
    /// taken whole.
    pub pause: Duration,
}

impl Default for NetworkRunnerPlugin {
    fn default() -> Self {
        Self { frame: Duration::from_secs(1) / 60, pause: Duration::from_millis(1) }
    }
}

impl Plugin for NetworkRunnerPlugin {
    fn build(&self, app: &mut App) {
        let pace = *self;
        app.set_runner(move |app| run(app, pace));
    }
}

/// A year. Some duration is too long to be added to an [`Instant`], and which is the system's affair.
const LONGEST_FRAME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn run(mut app: App, pace: NetworkRunnerPlugin) -> AppExit {
    while app.plugins_state() == PluginsState::Adding {
        std::thread::sleep(Duration::from_millis(1));
    }
    if app.plugins_state() != PluginsState::Cleaned {
        app.finish();
        app.cleanup();
    }
    let mut next = Instant::now();
    loop {
        let left = next.saturating_duration_since(Instant::now());
        if left.is_zero() {
            app.update();
            next = (next + pace.frame.min(LONGEST_FRAME)).max(Instant::now());
        } else {
            update_network(app.world_mut());
            if !pace.pause.is_zero() {
                std::thread::sleep(pace.pause.min(left));
            }
        }
        if let Some(exit) = app.should_exit() {
            return exit;
        }
    }
}
