//! Which types travel as commands.

use std::any::Any;

use bevy_app::App;
use bevy_ecs::component::Component;
use bevy_ecs::entity::Entity;
use bevy_ecs::resource::Resource;
use bevy_ecs::world::{EntityWorldMut, World};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::MAX_REDUNDANCY;
use super::buffer::{Arrival, CommandBuffer};
use crate::rpc::shape;
use crate::tick::Tick;
use crate::time::NetworkTime;
use crate::types::{RegisterError, TypeTable};

/// Anything that serde can carry in at most [`MAX_COMMAND`](crate::MAX_COMMAND) bytes may be a command.
pub trait Command: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Command for T {}

/// How commands of one type are sent. Only the client's choice counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandOptions {
    redundancy: usize,
}

impl Default for CommandOptions {
    /// Each command is in 4 packets.
    fn default() -> Self {
        Self { redundancy: 4 }
    }
}

impl CommandOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// In how many packets each command is, 1 to 32. It arrives as long as not all of them are lost; copies that differ
    /// little from their neighbours take few bytes.
    #[must_use]
    pub fn redundancy(mut self, packets: usize) -> Self {
        self.redundancy = packets.clamp(1, MAX_REDUNDANCY);
        self
    }
}

#[derive(Clone)]
pub(crate) struct CommandEntry {
    pub(crate) redundancy: usize,
    pub(crate) receive: fn(&mut World, Entity, Tick, Tick, &[u8]) -> Arrival,
    pub(crate) reset: fn(&mut EntityWorldMut<'_>),
    /// Takes a connection's buffer off its entity, and puts it on another one.
    pub(crate) take: fn(&mut EntityWorldMut<'_>) -> Option<MovedBuffer>,
    pub(crate) put: fn(&mut EntityWorldMut<'_>, MovedBuffer),
}

/// A [`CommandBuffer`] on its way from World to World.
pub(crate) type MovedBuffer = Box<dyn Any + Send + Sync>;

/// The command types of this World.
#[derive(Resource)]
pub(crate) struct CommandRegistry(pub(crate) TypeTable<CommandEntry>);

impl Default for CommandRegistry {
    fn default() -> Self {
        Self(TypeTable::new("command "))
    }
}

fn receive<C: Command>(world: &mut World, connection: Entity, tick: Tick, now: Tick, bytes: &[u8]) -> Arrival {
    let Ok(mut entity) = world.get_entity_mut(connection) else { return Arrival::OutOfWindow };
    let decode = || match postcard::take_from_bytes::<C>(bytes) {
        Ok((command, [])) => Some(command),
        _ => None,
    };
    match entity.get_mut::<CommandBuffer<C>>() {
        Some(mut buffer) => buffer.insert(tick, now, decode),
        // The application took it away; nobody wants commands of this client.
        None => Arrival::OutOfWindow,
    }
}

fn reset<C: Command>(entity: &mut EntityWorldMut<'_>)
where
    CommandBuffer<C>: Component,
{
    entity.insert(CommandBuffer::<C>::default());
}

fn take<C: Command>(entity: &mut EntityWorldMut<'_>) -> Option<MovedBuffer> {
    Some(Box::new(entity.take::<CommandBuffer<C>>()?))
}

fn put<C: Command>(entity: &mut EntityWorldMut<'_>, buffer: MovedBuffer) {
    // The other World may have had a type of its own with the same name and shape; it begins anew.
    if let Ok(buffer) = buffer.downcast::<CommandBuffer<C>>() {
        entity.insert(*buffer);
    }
}

/// Registers command types on an [`App`].
pub trait CommandAppExt {
    /// Lets `C` travel from client to server, one per tick. Do this on both sides before the first update; the name of
    /// the type (without its path) and its shape must be the same.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_command<C: Command>(&mut self) -> &mut Self {
        self.register_command_with::<C>(CommandOptions::default())
    }

    /// The same with options.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_command_with<C: Command>(&mut self, options: CommandOptions) -> &mut Self;

    /// The same without the panic.
    fn try_register_command<C: Command>(&mut self, options: CommandOptions) -> Result<(), RegisterError>;
}

impl CommandAppExt for App {
    fn register_command_with<C: Command>(&mut self, options: CommandOptions) -> &mut Self {
        self.try_register_command::<C>(options).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn try_register_command<C: Command>(&mut self, options: CommandOptions) -> Result<(), RegisterError> {
        self.init_resource::<CommandRegistry>().init_resource::<NetworkTime>();
        let entry = CommandEntry {
            redundancy: options.redundancy,
            receive: receive::<C>,
            reset: reset::<C>,
            take: take::<C>,
            put: put::<C>,
        };
        self.world_mut().resource_mut::<CommandRegistry>().0.register::<C>(shape::fingerprint::<C>(&[]), entry)
    }
}
