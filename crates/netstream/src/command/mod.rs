//! Commands: what a player wants done, one of each type per tick, from client to server.
//!
//! A command is sent for one tick and again with the next few packets, so that the loss of some costs nothing. The
//! server keeps each until its tick is simulated and applies it exactly once.
//!
//! ```
//! # use netstream::prelude::*;
//! # use bevy_app::App;
//! # use bevy_ecs::prelude::*;
//! #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! struct Move { x: i8, jump: bool }
//!
//! // Client.
//! fn control(mut commands: CommandSender) {
//!     let _ = commands.send(&Move { x: 1, jump: false });
//! }
//!
//! // Server.
//! fn simulate(time: Res<NetworkTime>, mut players: Query<(Entity, &mut CommandBuffer<Move>)>) {
//!     for (player, mut commands) in &mut players {
//!         if let Some(command) = commands.take(time.tick()) {
//!             println!("{player} goes {}", command.x);
//!         }
//!     }
//! }
//!
//! # let (mut client, mut server) = (App::new(), App::new());
//! client.add_plugins(NetworkStreamPlugin::client()).register_command::<Move>().add_systems(NetworkTick, control);
//! server.add_plugins(NetworkStreamPlugin::server()).register_command::<Move>().add_systems(NetworkTick, simulate);
//! ```

mod buffer;
mod history;
pub(crate) mod receive;
mod registry;
mod sender;
pub(crate) mod wire;

pub use buffer::CommandBuffer;
#[cfg(feature = "fuzzing")]
pub(crate) use history::History;
pub use receive::CommandArrivals;
pub use registry::{Command, CommandAppExt, CommandOptions};
pub(crate) use registry::{CommandEntry, CommandRegistry, MovedBuffer};
pub use sender::{CommandError, CommandSender};
pub(crate) use sender::{OutgoingCommands, Unsent, flush};

/// The most bytes of one command.
pub const MAX_COMMAND: usize = 1024;
/// The most commands of one type in one packet.
pub(crate) const MAX_REDUNDANCY: usize = 32;
/// How far before the server's tick a command may lie and still be looked at.
pub(crate) const WINDOW_BEFORE: i32 = 64;
/// How far after the server's tick a command may lie.
pub(crate) const WINDOW_AFTER: i32 = 32;
/// A command that arrives more than this many ticks before its turn is early: its client is further ahead than it
/// needs to be.
pub(crate) const EARLY: i32 = 8;
