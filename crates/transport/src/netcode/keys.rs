//! The keys that a server opens tokens with.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::time::Duration;

use super::JoinCode;
use crate::crypto::{Key, KeyError};

/// How far a player's clock may be off, either way, where players issue their own tokens.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(600);

/// The protocol ids that a server answers to, each with its key (H8).
///
/// The protocol id of a token selects the key; there is no trying of keys. To rotate: add the new pair to all servers,
/// let the back-end issue with it, wait one token lifetime, remove the old pair. Connections that exist stay.
#[derive(Clone, Debug, Default)]
pub struct KeyRing(Vec<Entry>);

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) protocol_id: u64,
    pub(crate) key: Key,
    pub(crate) kind: KeyKind,
}

/// Who issues tokens under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// A back-end whose clock is right.
    Issuer,
    /// The players themselves, whose clocks are what they are. The key is this server's alone.
    JoinCode,
}

impl KeyRing {
    /// A ring without keys: nobody can connect.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Accepts tokens that a back-end seals under `key` for `protocol_id`, instead of what `protocol_id` had before.
    pub fn add_key(&mut self, protocol_id: u64, key: Key) -> Result<(), KeyError> {
        if key.is_zero() {
            return Err(KeyError::Zero);
        }
        self.add(Entry { protocol_id, key, kind: KeyKind::Issuer });
        Ok(())
    }

    /// Accepts tokens that players with `code` make for `protocol_id`, instead of what `protocol_id` had before.
    pub fn add_join_code(&mut self, protocol_id: u64, code: &JoinCode) {
        self.add(Entry { protocol_id, key: code.key(protocol_id), kind: KeyKind::JoinCode });
    }

    /// Accepts no more tokens for `protocol_id`. Returns whether there was a key.
    pub fn remove(&mut self, protocol_id: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|entry| entry.protocol_id != protocol_id);
        self.0.len() < before
    }

    /// The protocol ids that have a key.
    pub fn protocol_ids(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|entry| entry.protocol_id)
    }

    pub(crate) fn find(&self, protocol_id: u64) -> Option<&Entry> {
        // A ring holds one key, or two during a rotation.
        self.0.iter().find(|entry| entry.protocol_id == protocol_id)
    }

    fn add(&mut self, entry: Entry) {
        self.remove(entry.protocol_id);
        self.0.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    #[test]
    fn the_protocol_id_selects_the_key() {
        let mut ring = KeyRing::new();
        ring.add_key(1, Key::from_bytes([1; 32])).unwrap();
        ring.add_key(2, Key::from_bytes([2; 32])).unwrap();
        assert_eq!(ring.find(2).unwrap().key, Key::from_bytes([2; 32]));
        assert!(ring.find(3).is_none());
        ring.add_join_code(2, &JoinCode::random(&mut SeededRandom::new(1)));
        assert_eq!(ring.find(2).unwrap().kind, KeyKind::JoinCode);
        assert_eq!(ring.protocol_ids().count(), 2);
        assert!(ring.remove(1));
        assert!(!ring.remove(1));
        assert!(ring.find(1).is_none());
    }

    #[test]
    fn the_zero_key_is_refused() {
        assert_eq!(KeyRing::new().add_key(1, Key::from_bytes([0; 32])), Err(KeyError::Zero));
    }
}
