//! Snapshots: what a client shall see of the world, one per tick, from server to client.
//!
//! Each may be lost; the next one makes up for it. The client acknowledges what it has processed, and a type that is
//! registered with [`SnapshotOptions::delta`] is sent as its difference from the newest acknowledged one.
//!
//! ```
//! # use netstream::prelude::*;
//! # use bevy_app::{App, Update};
//! # use bevy_ecs::prelude::*;
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Scene { balls: Vec<[f32; 2]> }
//!
//! // Server.
//! fn show(mut snapshots: SnapshotSender, players: Query<Entity, With<NetworkStreamInGame>>) {
//!     let scene = Scene { balls: vec![[0.0, 1.0]] };
//!     for player in &players {
//!         let _ = snapshots.send(player, &scene);
//!     }
//! }
//!
//! // Client.
//! fn see(mut inbox: MessageReader<ReceivedSnapshot<Scene>>) {
//!     for received in inbox.read() {
//!         println!("at {}: {} balls", received.tick, received.snapshot.balls.len());
//!     }
//! }
//!
//! # let (mut client, mut server) = (App::new(), App::new());
//! let options = SnapshotOptions::new().delta();
//! client.add_plugins(NetworkStreamPlugin::client()).register_snapshot_with::<Scene>(options).add_systems(Update, see);
//! server.add_plugins(NetworkStreamPlugin::server()).register_snapshot_with::<Scene>(options);
//! server.add_systems(NetworkTick, show);
//! ```

mod acks;
mod baseline;
pub mod delta;
pub(crate) mod receive;
mod registry;
mod sender;
mod wholes;
pub(crate) mod wire;

pub use acks::SnapshotAcks;
pub(crate) use receive::SnapshotInbox;
pub use receive::{SnapshotArrivals, SnapshotDelivery, TickSnapshots};
pub(crate) use registry::SnapshotRegistry;
pub use registry::{ReceivedSnapshot, Snapshot, SnapshotAppExt, SnapshotOptions};
pub(crate) use sender::{OutgoingSnapshots, Unsent, flush};
pub use sender::{SnapshotError, SnapshotSender, SnapshotTargetSize};

use std::time::Duration;

/// A client may ask for a full snapshot this often, and a server answers this often.
pub(crate) const FULL_EVERY: Duration = Duration::from_secs(1);
