//! Entities inside RPCs.

use bevy_ecs::entity::{Entity, EntityMapper};
use bevy_ecs::resource::Resource;

/// Says which entity of this World is which of the peer's; supplied by whoever knows, a replication layer say.
///
/// The server's map is usually the identity, and the client's knows the server's entities. What has no counterpart
/// arrives as [`Entity::PLACEHOLDER`].
pub trait NetworkEntityMap: Send + Sync + 'static {
    /// What the peer of `connection` calls our `local` entity.
    fn to_network(&self, connection: Entity, local: Entity) -> Option<Entity>;

    /// Which entity of ours the peer of `connection` means by `network`.
    fn to_local(&self, connection: Entity, network: Entity) -> Option<Entity>;
}

/// The map for the entities in RPCs that are registered
/// [with entities](crate::RpcAppExt::register_rpc_with_entities). Without this resource they travel as they are.
#[derive(Resource)]
pub struct RpcEntityMap(pub(crate) Box<dyn NetworkEntityMap>);

impl RpcEntityMap {
    /// Uses `map`.
    pub fn new(map: impl NetworkEntityMap) -> Self {
        Self(Box::new(map))
    }
}

/// Bevy's way of visiting the entities of a value, in one of the two directions.
pub(crate) struct Mapper<'a> {
    pub(super) map: Option<&'a RpcEntityMap>,
    pub(super) connection: Entity,
    pub(super) outgoing: bool,
}

impl EntityMapper for Mapper<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        let Some(RpcEntityMap(map)) = self.map else { return source };
        let mapped = match self.outgoing {
            true => map.to_network(self.connection, source),
            false => map.to_local(self.connection, source),
        };
        mapped.unwrap_or(Entity::PLACEHOLDER)
    }

    fn set_mapped(&mut self, _: Entity, _: Entity) {}
}

/// For entities in messages: `#[serde(with = "netstream::entity_bits")]`.
pub mod entity_bits {
    use bevy_ecs::entity::Entity;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    /// Writes the entity as a number of 64 bits.
    pub fn serialize<S: Serializer>(entity: &Entity, serializer: S) -> Result<S::Ok, S::Error> {
        entity.to_bits().serialize(serializer)
    }

    /// Reads it; a number that is no entity is refused.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entity, D::Error> {
        let bits = u64::deserialize(deserializer)?;
        Entity::try_from_bits(bits).ok_or_else(|| de::Error::custom("not an entity"))
    }
}
