//! Which types travel as RPCs, and how each is turned into a message.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::entity::{Entity, MapEntities};
use bevy_ecs::resource::Resource;
use bevy_ecs::world::World;
use netstream_driver::transport::ChannelId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{CallId, Finish, ReceivedRequest, Response, finish_request};
use super::entities::{Mapper, RpcEntityMap};
use super::received::{Readers, ReceivedRpc, RpcPayload};
use super::{Append, RpcOptions, shape};
use crate::NetworkStreamDriver;
use crate::log::Line;
use crate::session::SchemaEntry;
use crate::state::Side;
use crate::types::{RegisterError, TypeTable, short_name};

/// Anything that serde can carry may be an RPC.
pub trait Rpc: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Rpc for T {}

/// Turns a body into a message in the World; false if it is malformed.
type Dispatch = fn(&mut World, &RpcEntry, Entity, Option<CallId>, &[u8]) -> bool;
/// Serialises a value whose entities are mapped; false if that fails.
type Encode = fn(&dyn Any, &mut Mapper<'_>, &mut Vec<u8>) -> bool;

#[derive(Clone)]
pub(crate) struct RpcEntry {
    pub(crate) name: &'static str,
    pub(crate) options: RpcOptions,
    pub(crate) dispatch: Dispatch,
    /// Where entities are to be mapped.
    pub(crate) encode: Option<Encode>,
    /// Of a request: how its answer is read.
    pub(crate) finish: Option<Finish>,
    pub(crate) readers: Arc<Readers>,
}

/// What the session must know of a type to let it pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RpcPolicy {
    pub(crate) channel: ChannelId,
    pub(crate) approval: bool,
    /// Whether this side may receive it.
    pub(crate) welcome: bool,
    pub(crate) request: bool,
    pub(crate) max_size: usize,
}

/// The RPC types of this World.
#[derive(Resource)]
pub(crate) struct RpcRegistry {
    pub(crate) types: TypeTable<RpcEntry>,
    pub(crate) side: Side,
}

impl Default for RpcRegistry {
    fn default() -> Self {
        Self { types: TypeTable::new(crate::session::RPC), side: Side::Client }
    }
}

impl RpcRegistry {
    fn register<T: Rpc>(&mut self, options: RpcOptions, extra: &[u8], entry: RpcEntry) -> Result<(), RegisterError> {
        options.check(entry.name)?;
        let fingerprint = shape::fingerprint::<T>(&[&options.fingerprint(), extra].concat());
        self.types.register::<T>(fingerprint, entry)
    }

    /// Fixes the numbers. `None` if they are fixed already; else what the peers are told and what may travel how.
    pub(crate) fn freeze(&mut self, side: Side) -> Option<(Vec<SchemaEntry>, Vec<RpcPolicy>)> {
        let mut schema = Vec::new();
        if !self.types.freeze(&mut schema) {
            return None;
        }
        self.side = side;
        let sender = match side {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        };
        let policy = |entry: &RpcEntry| RpcPolicy {
            channel: entry.options.channel,
            approval: entry.options.approval,
            welcome: entry.options.direction.allows(sender),
            request: entry.finish.is_some(),
            max_size: entry.options.max_size.unwrap_or(usize::MAX),
        };
        Some((schema, self.types.by_number().iter().map(policy).collect()))
    }
}

fn decode<T: Rpc>(body: &[u8]) -> Option<T> {
    match postcard::take_from_bytes::<T>(body) {
        Ok((rpc, [])) => Some(rpc),
        _ => None,
    }
}

fn hand_out<T: Rpc>(world: &mut World, entry: &RpcEntry, connection: Entity, rpc: T) {
    let mut received = ReceivedRpc { connection, rpc: RpcPayload::new(rpc, &entry.readers) };
    if entry.options.events {
        // Observers run in the middle of dispatch: one that panics must not take along what others are about to read.
        let triggered = catch_unwind(AssertUnwindSafe(|| world.trigger_ref(&mut received)));
        if triggered.is_err()
            && world.get_resource_mut::<NetworkStreamDriver>().is_none_or(|mut net| net.may_log(Line::Panicked))
        {
            tracing::error!("an observer of {} panicked; the other readers get it all the same", entry.name);
        }
    }
    world.write_message(received);
}

fn dispatch<T: Rpc>(world: &mut World, entry: &RpcEntry, connection: Entity, _: Option<CallId>, body: &[u8]) -> bool {
    let Some(rpc) = decode::<T>(body) else { return false };
    hand_out(world, entry, connection, rpc);
    true
}

fn dispatch_mapped<T: Rpc + MapEntities>(
    world: &mut World,
    entry: &RpcEntry,
    connection: Entity,
    _: Option<CallId>,
    body: &[u8],
) -> bool {
    let Some(mut rpc) = decode::<T>(body) else { return false };
    rpc.map_entities(&mut Mapper { map: world.get_resource::<RpcEntityMap>(), connection, outgoing: false });
    hand_out(world, entry, connection, rpc);
    true
}

fn encode_mapped<T: Rpc + MapEntities + Clone>(rpc: &dyn Any, mapper: &mut Mapper<'_>, out: &mut Vec<u8>) -> bool {
    let Some(mut rpc) = rpc.downcast_ref::<T>().cloned() else { return false };
    rpc.map_entities(mapper);
    postcard::serialize_with_flavor(&rpc, Append(out)).is_ok()
}

fn dispatch_request<Q: Rpc>(
    world: &mut World,
    entry: &RpcEntry,
    connection: Entity,
    call: Option<CallId>,
    body: &[u8],
) -> bool {
    let (Some(call), Some(request)) = (call, decode::<Q>(body)) else { return false };
    world.write_message(ReceivedRequest { connection, call, request: RpcPayload::new(request, &entry.readers) });
    true
}

/// Registers RPC types on an [`App`].
///
/// Do it on both sides before the first update, in any order; the names of the types (without their paths), their shapes
/// and their options must be the same.
pub trait RpcAppExt {
    /// Lets `T` travel in both directions while Connected, exactly once and in order.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_rpc<T: Rpc>(&mut self) -> &mut Self {
        self.register_rpc_with::<T>(RpcOptions::new())
    }

    /// The same for a type that may also travel in Approval: the credentials that a server's game code wants to see.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_approval_rpc<T: Rpc>(&mut self) -> &mut Self {
        self.register_rpc_with::<T>(RpcOptions::new().in_approval())
    }

    /// Lets `T` travel as the options say.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_rpc_with<T: Rpc>(&mut self, options: RpcOptions) -> &mut Self;

    /// [`register_rpc_with`](Self::register_rpc_with) without the panic.
    fn try_register_rpc<T: Rpc>(&mut self, options: RpcOptions) -> Result<(), RegisterError>;

    /// The same for a type with entities in it, which are translated by the [`RpcEntityMap`] of each end. In the type
    /// they carry `#[serde(with = "netstream::entity_bits")]`.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_rpc_with_entities<T: Rpc + MapEntities + Clone>(&mut self, options: RpcOptions) -> &mut Self;

    /// Lets requests `Q` travel as the options say, and their answers `A` back. Read them as
    /// [`ReceivedRequest<Q>`] and [`Response<A>`].
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterError`].
    fn register_request<Q: Rpc, A: Rpc>(&mut self, options: RpcOptions) -> &mut Self;

    /// Received RPCs (or requests) `T` that were dropped because nobody looked at them.
    fn unread_rpcs<T: Rpc>(&self) -> u64;
}

fn add<T: Rpc>(app: &mut App, extra: &[u8], entry: RpcEntry) -> Result<(), RegisterError> {
    app.init_resource::<RpcRegistry>();
    app.world_mut().resource_mut::<RpcRegistry>().register::<T>(entry.options, extra, entry)
}

fn entry<T: Rpc>(options: RpcOptions, dispatch: Dispatch) -> RpcEntry {
    RpcEntry { name: short_name::<T>(), options, dispatch, encode: None, finish: None, readers: Arc::default() }
}

impl RpcAppExt for App {
    fn register_rpc_with<T: Rpc>(&mut self, options: RpcOptions) -> &mut Self {
        self.try_register_rpc::<T>(options).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn try_register_rpc<T: Rpc>(&mut self, options: RpcOptions) -> Result<(), RegisterError> {
        add::<T>(self, &[], entry::<T>(options, dispatch::<T>))?;
        self.add_message::<ReceivedRpc<T>>();
        Ok(())
    }

    fn register_rpc_with_entities<T: Rpc + MapEntities + Clone>(&mut self, options: RpcOptions) -> &mut Self {
        let entry = RpcEntry { encode: Some(encode_mapped::<T>), ..entry::<T>(options, dispatch_mapped::<T>) };
        add::<T>(self, &[], entry).unwrap_or_else(|error| panic!("{error}"));
        self.add_message::<ReceivedRpc<T>>()
    }

    fn register_request<Q: Rpc, A: Rpc>(&mut self, options: RpcOptions) -> &mut Self {
        let entry = RpcEntry { finish: Some(finish_request::<A>), ..entry::<Q>(options, dispatch_request::<Q>) };
        let answer = shape::fingerprint::<A>(&[]).to_le_bytes();
        add::<Q>(self, &answer, entry).unwrap_or_else(|error| panic!("{error}"));
        self.add_message::<ReceivedRequest<Q>>().add_message::<Response<A>>()
    }

    fn unread_rpcs<T: Rpc>(&self) -> u64 {
        let registry = self.world().get_resource::<RpcRegistry>();
        registry.and_then(|registry| registry.types.find::<T>()).map_or(0, |(_, entry)| entry.readers.unread())
    }
}
