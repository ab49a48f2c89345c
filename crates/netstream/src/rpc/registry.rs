//! Which types travel as RPCs, and how each is turned into a message.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::Arc;

use bevy_app::App;
use bevy_ecs::entity::Entity;
use bevy_ecs::message::Message;
use bevy_ecs::resource::Resource;
use bevy_ecs::world::World;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shape;
use crate::session::SchemaEntry;

/// Anything that serde can carry may be an RPC.
pub trait Rpc: Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Rpc for T {}

/// An RPC that arrived. Read it with a `MessageReader<ReceivedRpc<T>>`; like every message it is there for this update
/// and the next.
#[derive(Message, Clone, Debug, PartialEq)]
pub struct ReceivedRpc<T: Rpc> {
    /// From whom. The entity exists at least until the end of the update in which the RPC arrived.
    pub connection: Entity,
    /// What.
    pub rpc: T,
}

/// Why a type cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterRpcError {
    /// Two types would have the same name on the wire.
    #[error("an RPC named {0} is registered already; give one of the two types another name")]
    NameTaken(&'static str),
    /// The set of types was told to peers already.
    #[error("{0} is registered too late; register RPCs before the first update of the App")]
    TooLate(&'static str),
    /// More types than there are numbers for.
    #[error("{0} would be RPC number 65 536; use fewer types")]
    TooMany(&'static str),
}

/// Turns a body into a message in the World; false if it is malformed.
type Dispatch = fn(&mut World, Entity, &[u8]) -> bool;

#[derive(Clone)]
pub(crate) struct RpcEntry {
    name: &'static str,
    type_id: TypeId,
    fingerprint: u64,
    approval: bool,
    pub(crate) dispatch: Dispatch,
}

/// The types of this World. The number of a type on the wire is its place in the order of names, so that both ends
/// agree on it whatever the order of registration.
#[derive(Resource, Default)]
pub(crate) struct RpcRegistry {
    entries: Vec<RpcEntry>,
    frozen: Option<Frozen>,
}

struct Frozen {
    by_number: Arc<[RpcEntry]>,
    numbers: HashMap<TypeId, (u16, bool)>,
}

impl RpcRegistry {
    fn register<T: Rpc>(&mut self, approval: bool) -> Result<(), RegisterRpcError> {
        let name = short_name::<T>();
        if self.frozen.is_some() {
            return Err(RegisterRpcError::TooLate(name));
        }
        if self.entries.iter().any(|entry| entry.name == name) {
            return Err(RegisterRpcError::NameTaken(name));
        }
        if self.entries.len() > usize::from(u16::MAX) {
            return Err(RegisterRpcError::TooMany(name));
        }
        let fingerprint = shape::fingerprint::<T>();
        self.entries.push(RpcEntry {
            name,
            type_id: TypeId::of::<T>(),
            fingerprint,
            approval,
            dispatch: dispatch::<T>,
        });
        Ok(())
    }

    /// Fixes the numbers. `None` if they are fixed already; else what the peers are told and which numbers may travel
    /// before Connected.
    pub(crate) fn freeze(&mut self) -> Option<(Vec<SchemaEntry>, Vec<bool>)> {
        if self.frozen.is_some() {
            return None;
        }
        self.entries.sort_by_key(|entry| entry.name);
        let numbers = self.entries.iter().zip(0u16..).map(|(entry, number)| (entry.type_id, (number, entry.approval)));
        self.frozen = Some(Frozen { by_number: self.entries.clone().into(), numbers: numbers.collect() });
        let schema = self
            .entries
            .iter()
            .map(|entry| SchemaEntry { name: format!("rpc {}", entry.name), fingerprint: entry.fingerprint })
            .collect();
        Some((schema, self.entries.iter().map(|entry| entry.approval).collect()))
    }

    /// The types in the order of their numbers; empty before they are fixed.
    pub(crate) fn by_number(&self) -> Arc<[RpcEntry]> {
        self.frozen.as_ref().map(|frozen| frozen.by_number.clone()).unwrap_or_default()
    }

    /// A type's number, and whether it may travel before Connected.
    pub(crate) fn number<T: Rpc>(&self) -> Option<(u16, bool)> {
        self.frozen.as_ref()?.numbers.get(&TypeId::of::<T>()).copied()
    }
}

fn dispatch<T: Rpc>(world: &mut World, connection: Entity, body: &[u8]) -> bool {
    match postcard::take_from_bytes::<T>(body) {
        Ok((rpc, [])) => {
            world.write_message(ReceivedRpc { connection, rpc });
            true
        }
        _ => false,
    }
}

/// The type's name without its path, so that a client and a server crate may each have their own definition.
pub(crate) fn short_name<T>() -> &'static str {
    let full = type_name::<T>();
    // Of `game::net::Envelope<game::Chat>` the whole `Envelope<game::Chat>` is kept.
    let head = full.find('<').unwrap_or(full.len());
    let start = full[..head].rfind("::").map_or(0, |colons| colons + 2);
    &full[start..]
}

/// Registers RPC types on an [`App`].
pub trait RpcAppExt {
    /// Lets `T` travel in both directions while Connected. Do this on both sides before the first update, in any order;
    /// the name of the type (without its path) and its shape must be the same.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterRpcError`].
    fn register_rpc<T: Rpc>(&mut self) -> &mut Self;

    /// The same for a type that may also travel in Approval: the credentials that a server's game code wants to see.
    ///
    /// # Panics
    ///
    /// With the text of a [`RegisterRpcError`].
    fn register_approval_rpc<T: Rpc>(&mut self) -> &mut Self;

    /// [`register_rpc`](Self::register_rpc) or [`register_approval_rpc`](Self::register_approval_rpc) without the
    /// panic.
    fn try_register_rpc<T: Rpc>(&mut self, approval: bool) -> Result<(), RegisterRpcError>;
}

impl RpcAppExt for App {
    fn register_rpc<T: Rpc>(&mut self) -> &mut Self {
        self.try_register_rpc::<T>(false).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn register_approval_rpc<T: Rpc>(&mut self) -> &mut Self {
        self.try_register_rpc::<T>(true).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn try_register_rpc<T: Rpc>(&mut self, approval: bool) -> Result<(), RegisterRpcError> {
        self.init_resource::<RpcRegistry>();
        self.world_mut().resource_mut::<RpcRegistry>().register::<T>(approval)?;
        self.add_message::<ReceivedRpc<T>>();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod one {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Chat(pub(crate) u8);
    }
    mod two {
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Chat;
        #[derive(serde::Serialize, serde::Deserialize)]
        pub(crate) struct Ping;
    }

    #[test]
    fn names_lose_their_path_and_keep_their_parameters() {
        assert_eq!(short_name::<one::Chat>(), "Chat");
        assert_eq!(short_name::<Option<u8>>(), "Option<u8>");
        assert_eq!(short_name::<u8>(), "u8");
    }

    #[test]
    fn numbers_follow_names_and_not_the_order_of_registration() {
        let mut registry = RpcRegistry::default();
        registry.register::<two::Ping>(true).unwrap();
        registry.register::<one::Chat>(false).unwrap();
        assert_eq!(registry.number::<one::Chat>(), None);
        let (schema, approval) = registry.freeze().unwrap();
        assert_eq!(schema.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["rpc Chat", "rpc Ping"]);
        assert_eq!(approval, [false, true]);
        assert_eq!(registry.number::<one::Chat>(), Some((0, false)));
        assert_eq!(registry.number::<two::Ping>(), Some((1, true)));
        assert!(registry.freeze().is_none());
    }

    #[test]
    fn the_same_name_twice_and_a_late_type_are_refused() {
        let mut registry = RpcRegistry::default();
        registry.register::<one::Chat>(false).unwrap();
        assert_eq!(registry.register::<two::Chat>(false), Err(RegisterRpcError::NameTaken("Chat")));
        registry.freeze();
        assert_eq!(registry.register::<two::Ping>(false), Err(RegisterRpcError::TooLate("Ping")));
    }
}
