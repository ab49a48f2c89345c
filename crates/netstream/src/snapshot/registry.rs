//! Which types travel as snapshots.

use bevy_app::App;
use bevy_ecs::entity::Entity;
use bevy_ecs::message::Message;
use bevy_ecs::resource::Resource;
use bevy_ecs::world::World;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rpc::shape;
use crate::tick::Tick;
use crate::time::NetworkTime;
use crate::types::{RegisterError, TypeTable};

/// Anything that serde can carry may be a snapshot.
pub trait Snapshot: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Snapshot for T {}

/// A snapshot that arrived. Read it with a `MessageReader<ReceivedSnapshot<T>>`. The ticks of what arrives from one
/// server only ever increase.
#[derive(Message, Clone, Debug, PartialEq)]
pub struct ReceivedSnapshot<T: Snapshot> {
    /// From whom.
    pub connection: Entity,
    /// The tick that it shows.
    pub tick: Tick,
    /// What.
    pub snapshot: T,
}

/// How snapshots of one type are sent. Both ends must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    delta: bool,
}

impl SnapshotOptions {
    /// Each is sent whole.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each is sent as its difference from the newest one that the client has acknowledged, where that is shorter. Costs
    /// memory for up to 32 of them (1 MiB at most) per connection, on both ends.
    #[must_use]
    pub fn delta(mut self) -> Self {
        self.delta = true;
        self
    }
}

#[derive(Clone)]
pub(crate) struct SnapshotEntry {
    pub(crate) delta: bool,
    /// Decodes; false if that is impossible.
    pub(crate) decode: fn(&mut World, &[u8]) -> bool,
    /// Hands out what was decoded, or drops it where there is no tick to hand it out for.
    pub(crate) finish: fn(&mut World, Option<(Entity, Tick)>),
}

/// The snapshot types of this World.
#[derive(Resource)]
pub(crate) struct SnapshotRegistry(pub(crate) TypeTable<SnapshotEntry>);

impl Default for SnapshotRegistry {
    fn default() -> Self {
        Self(TypeTable::new("snapshot "))
    }
}

/// What was decoded and may be handed out when the rest of its message is right too.
#[derive(Resource)]
struct Pending<T: Snapshot>(Option<T>);

fn decode<T: Snapshot>(world: &mut World, bytes: &[u8]) -> bool {
    match postcard::take_from_bytes::<T>(bytes) {
        Ok((snapshot, [])) => {
            world.insert_resource(Pending(Some(snapshot)));
            true
        }
        _ => false,
    }
}

fn finish<T: Snapshot>(world: &mut World, whence: Option<(Entity, Tick)>) {
    let pending = world.get_resource_mut::<Pending<T>>().and_then(|mut pending| pending.0.take());
    if let (Some(snapshot), Some((connection, tick))) = (pending, whence) {
        world.write_message(ReceivedSnapshot { connection, tick, snapshot });
    }
}

/// Registers snapshot types on an [`App`].
pub trait SnapshotAppExt {
    /// Lets `T` travel from server to client, one per tick. Do this on both sides before the first update; the name of
    /// the type (without its path) and its shape must be the same.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_snapshot<T: Snapshot>(&mut self) -> &mut Self {
        self.register_snapshot_with::<T>(SnapshotOptions::default())
    }

    /// The same with options.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_snapshot_with<T: Snapshot>(&mut self, options: SnapshotOptions) -> &mut Self;

    /// The same without the panic.
    fn try_register_snapshot<T: Snapshot>(&mut self, options: SnapshotOptions) -> Result<(), RegisterError>;
}

impl SnapshotAppExt for App {
    fn register_snapshot_with<T: Snapshot>(&mut self, options: SnapshotOptions) -> &mut Self {
        self.try_register_snapshot::<T>(options).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn try_register_snapshot<T: Snapshot>(&mut self, options: SnapshotOptions) -> Result<(), RegisterError> {
        self.init_resource::<SnapshotRegistry>().init_resource::<NetworkTime>();
        let entry = SnapshotEntry { delta: options.delta, decode: decode::<T>, finish: finish::<T> };
        let fingerprint = shape::fingerprint::<T>(&[u8::from(options.delta)]);
        self.world_mut().resource_mut::<SnapshotRegistry>().0.register::<T>(fingerprint, entry)?;
        self.add_message::<ReceivedSnapshot<T>>();
        Ok(())
    }
}
