//! Tokens that have been used (H1, H6).

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::table::{KeyedMap, KeyedState};
use crate::crypto::Tag;
use crate::{Random, Wall};

/// The tags of all used tokens that are not expired. Of fixed size: what is full refuses, and never forgets.
#[derive(Debug)]
pub(crate) struct Consumed {
    tags: KeyedMap<Tag, ()>,
    /// When each may be forgotten, soonest first: seconds since the Unix epoch.
    expiries: BinaryHeap<Reverse<(u64, Tag)>>,
    /// The latest expiry that was forgotten. Should the clock be set back, tokens up to it stay used.
    forgotten: u64,
    capacity: usize,
    high_water: usize,
}

impl Consumed {
    pub(crate) fn new(capacity: usize, random: &mut dyn Random) -> Self {
        Self {
            tags: KeyedMap::with_capacity_and_hasher(capacity, KeyedState::new(random)),
            expiries: BinaryHeap::with_capacity(capacity),
            forgotten: 0,
            capacity,
            high_water: 0,
        }
    }

    /// Whether the token with this tag, acceptable until `until`, has been used or may have been.
    pub(crate) fn contains(&self, tag: &Tag, until: u64) -> bool {
        until <= self.forgotten || self.tags.contains_key(tag)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.tags.len() >= self.capacity
    }

    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// The most that were in at once.
    pub(crate) fn high_water(&self) -> usize {
        self.high_water
    }

    /// Notes a token as used until it expires. `false`, and nothing noted, if there is no room or it was used.
    pub(crate) fn insert(&mut self, tag: Tag, until: u64) -> bool {
        if self.is_full() || self.contains(&tag, until) {
            return false;
        }
        self.tags.insert(tag, ());
        self.expiries.push(Reverse((until, tag)));
        self.high_water = self.high_water.max(self.tags.len());
        true
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: Wall) {
        while let Some(&Reverse((until, tag))) = self.expiries.peek()
            && until <= now.as_unix()
        {
            self.expiries.pop();
            self.tags.remove(&tag);
            self.forgotten = self.forgotten.max(until);
        }
    }

    /// Changes the size. What is in stays in.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        self.capacity = capacity;
        let more = capacity.saturating_sub(self.tags.len());
        self.tags.reserve(more);
        self.expiries.reserve(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    fn tag(number: u8) -> Tag {
        [number; 16]
    }

    #[test]
    fn a_used_token_stays_used_until_it_expires() {
        let mut consumed = Consumed::new(4, &mut SeededRandom::new(1));
        assert!(consumed.insert(tag(1), 100));
        assert!(!consumed.insert(tag(1), 100));
        consumed.expire(Wall::from_unix(99));
        assert!(consumed.contains(&tag(1), 100));
        consumed.expire(Wall::from_unix(100));
        assert_eq!(consumed.len(), 0);
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing() {
        let mut consumed = Consumed::new(2, &mut SeededRandom::new(1));
        assert!(consumed.insert(tag(1), 100));
        assert!(consumed.insert(tag(2), 50));
        assert!(consumed.is_full());
        assert!(!consumed.insert(tag(3), 100));
        assert!(consumed.contains(&tag(1), 100) && consumed.contains(&tag(2), 50));
        consumed.expire(Wall::from_unix(60));
        assert!(consumed.insert(tag(3), 100));
        consumed.set_capacity(3);
        assert!(consumed.insert(tag(4), 100));
        assert_eq!(consumed.high_water(), 3);
    }

    #[test]
    fn a_clock_set_back_does_not_revive_a_token() {
        let mut consumed = Consumed::new(4, &mut SeededRandom::new(1));
        assert!(consumed.insert(tag(1), 100));
        consumed.expire(Wall::from_unix(3600));
        assert!(consumed.contains(&tag(1), 100));
        assert!(!consumed.contains(&tag(2), 101));
    }
}
