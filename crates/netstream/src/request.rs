//! Listening and connecting by component, for code that has no hold of the resource.

use bevy_ecs::component::Component;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::world::DeferredWorld;

use crate::{ConnectOptions, Listening, NetworkStreamDriver};

/// Spawned on an entity of its own, it makes the server listen. At once the entity gets the result: the component
/// [`Listening`], or [`RequestFailed`]. Several requests each get their own.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
#[component(immutable, on_insert = listen)]
pub struct NetworkStreamRequestListen {
    /// Where, e.g. `udp://0.0.0.0:7979`.
    pub endpoint: String,
}

/// Inserted on an entity, it makes the client connect, and the entity becomes the connection. If the call is wrong, the
/// entity gets [`RequestFailed`] instead.
#[derive(Component, Clone, Debug)]
#[component(immutable, on_insert = connect)]
pub struct NetworkStreamRequestConnect {
    /// Where, e.g. `udp://127.0.0.1:7979`.
    pub endpoint: String,
    /// What to show there.
    pub options: ConnectOptions,
}

/// Why a request came to nothing, and what to do.
#[derive(Component, Clone, Debug, PartialEq, Eq)]
#[component(immutable)]
pub struct RequestFailed(pub String);

const NO_PLUGIN: &str = "this World has no network; add NetworkStreamPlugin first";

fn listen(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(request) = world.get::<NetworkStreamRequestListen>(context.entity) else { return };
    let endpoint = request.endpoint.clone();
    let result: Result<Listening, String> = match world.get_resource_mut::<NetworkStreamDriver>() {
        Some(mut net) => net.listen(&endpoint).map_err(|error| error.to_string()),
        None => Err(NO_PLUGIN.to_owned()),
    };
    let mut commands = world.commands();
    let mut entity = commands.entity(context.entity);
    match result {
        Ok(listening) => entity.insert(listening),
        Err(error) => entity.insert(RequestFailed(error)),
    };
}

fn connect(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(request) = world.get::<NetworkStreamRequestConnect>(context.entity) else { return };
    let request = request.clone();
    let result = match world.get_resource_mut::<NetworkStreamDriver>() {
        Some(mut net) => {
            net.connect_entity(context.entity, &request.endpoint, request.options).map_err(|error| error.to_string())
        }
        None => Err(NO_PLUGIN.to_owned()),
    };
    if let Err(error) = result {
        world.commands().entity(context.entity).insert(RequestFailed(error));
    }
}
