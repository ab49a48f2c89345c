//! Which types travel under which number.
//!
//! The number of a type on the wire is its place in the order of names, so that both ends agree on it whatever the
//! order of registration.

use std::any::{TypeId, type_name};
use std::sync::Arc;

use crate::session::SchemaEntry;

/// Why a type cannot be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Two types would have the same name on the wire.
    #[error("a type named {0} is registered already; give one of the two types another name")]
    NameTaken(&'static str),
    /// The set of types was told to peers already.
    #[error("{0} is registered too late; register types before the first update of the App")]
    TooLate(&'static str),
    /// More types than there are numbers for.
    #[error("{0} would be type number 65 536; use fewer types")]
    TooMany(&'static str),
    /// What travels in Approval must be reliable.
    #[error("{0} may travel in Approval and must be on the reliable channel")]
    NotReliable(&'static str),
    /// The size that was declared does not fit in the channel that was chosen.
    #[error("{name} may have {size} bytes, and its channel takes {limit}; choose a channel that takes more")]
    TooLarge {
        /// The type.
        name: &'static str,
        /// The declared size in bytes.
        size: usize,
        /// The most that the channel takes, in bytes.
        limit: usize,
    },
}

#[derive(Clone)]
struct Entry<V> {
    name: &'static str,
    type_id: TypeId,
    fingerprint: u64,
    value: V,
}

/// Registered types with what is known of each.
pub(crate) struct TypeTable<V> {
    /// What the names start with in the schema: `"rpc "`, say.
    prefix: &'static str,
    entries: Vec<Entry<V>>,
    frozen: Option<Arc<[V]>>,
    /// In the order of the types' ids: it is searched for every value that is sent.
    numbers: Vec<(TypeId, u16)>,
}

impl<V: Clone> TypeTable<V> {
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, entries: Vec::new(), frozen: None, numbers: Vec::new() }
    }

    /// Adds `T` with a fingerprint of its shape and of everything else that both ends must agree on.
    pub(crate) fn register<T: 'static>(&mut self, fingerprint: u64, value: V) -> Result<(), RegisterError> {
        let name = short_name::<T>();
        if self.frozen.is_some() {
            return Err(RegisterError::TooLate(name));
        }
        if self.entries.iter().any(|entry| entry.name == name) {
            return Err(RegisterError::NameTaken(name));
        }
        if self.entries.len() > usize::from(u16::MAX) {
            return Err(RegisterError::TooMany(name));
        }
        self.entries.push(Entry { name, type_id: TypeId::of::<T>(), fingerprint, value });
        Ok(())
    }

    /// Fixes the numbers and appends what the peers are told; false if they are fixed already.
    pub(crate) fn freeze(&mut self, schema: &mut Vec<SchemaEntry>) -> bool {
        if self.frozen.is_some() {
            return false;
        }
        self.entries.sort_by_key(|entry| entry.name);
        self.numbers = self.entries.iter().zip(0u16..).map(|(entry, number)| (entry.type_id, number)).collect();
        self.numbers.sort_unstable();
        self.frozen = Some(self.entries.iter().map(|entry| entry.value.clone()).collect());
        let entry = |entry: &Entry<V>| SchemaEntry {
            name: format!("{}{}", self.prefix, entry.name),
            fingerprint: entry.fingerprint,
        };
        schema.extend(self.entries.iter().map(entry));
        true
    }

    /// What is known of the types, in the order of their numbers; empty before they are fixed.
    pub(crate) fn by_number(&self) -> Arc<[V]> {
        self.frozen.clone().unwrap_or_default()
    }

    /// A type's number and what is known of it, once the numbers are fixed.
    pub(crate) fn find<T: 'static>(&self) -> Option<(u16, &V)> {
        let place = self.numbers.binary_search_by_key(&TypeId::of::<T>(), |&(id, _)| id).ok()?;
        let (_, number) = *self.numbers.get(place)?;
        Some((number, self.frozen.as_ref()?.get(usize::from(number))?))
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

#[cfg(test)]
mod tests {
    use super::*;

    mod one {
        pub(crate) struct Chat;
    }
    mod two {
        pub(crate) struct Chat;
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
        let mut table = TypeTable::new("rpc ");
        table.register::<two::Ping>(1, 'p').unwrap();
        table.register::<one::Chat>(2, 'c').unwrap();
        assert_eq!(table.find::<one::Chat>(), None);
        let mut schema = Vec::new();
        assert!(table.freeze(&mut schema));
        assert_eq!(schema.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), ["rpc Chat", "rpc Ping"]);
        assert_eq!(*table.by_number(), ['c', 'p']);
        assert_eq!(table.find::<one::Chat>(), Some((0, &'c')));
        assert_eq!(table.find::<two::Ping>(), Some((1, &'p')));
        assert!(!table.freeze(&mut schema));
    }

    #[test]
    fn the_same_name_twice_and_a_late_type_are_refused() {
        let mut table = TypeTable::new("rpc ");
        table.register::<one::Chat>(1, ()).unwrap();
        assert_eq!(table.register::<two::Chat>(1, ()), Err(RegisterError::NameTaken("Chat")));
        table.freeze(&mut Vec::new());
        assert_eq!(table.register::<two::Ping>(1, ()), Err(RegisterError::TooLate("Ping")));
    }
}
