//! Handshakes under way: challenged, and not proven yet.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use super::SessionCipher;
use super::challenge::Binding;
use super::table::{AddressKey, KeyedState, prefix};
use crate::crypto::{Key, Tag};
use crate::{Mono, Random};

/// How long a client may take from its request to its response.
pub(crate) const HANDSHAKE_LIFE: Duration = Duration::from_secs(5);

/// One handshake: a token that was shown from an address.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    /// Where to answer.
    pub(crate) address: SocketAddr,
    pub(crate) mac: Tag,
    pub(crate) client_id: u64,
    pub(crate) user_data: [u8; 256],
    pub(crate) protocol_id: u64,
    pub(crate) client_to_server: Key,
    pub(crate) server_to_client: Key,
    pub(crate) cipher: SessionCipher,
    /// From the token: seconds, or no wish.
    pub(crate) timeout: i32,
    /// Until when the token is acceptable, in seconds since the Unix epoch.
    pub(crate) until: u64,
    /// When the first request came, by both ways of counting.
    pub(crate) issued_at: Mono,
    pub(crate) issued: u32,
    /// Whether a challenge waits to be sent.
    pub(crate) challenge_queued: bool,
}

impl Handshake {
    pub(crate) fn binding(&self) -> Binding {
        Binding { address: self.address, mac: self.mac, client_id: self.client_id, issued: self.issued }
    }
}

/// Names one handshake for as long as it is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandshakeId {
    index: usize,
    /// Tells handshakes of one place apart.
    stamp: u64,
}

/// What [`Pending::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in; another had to go for it if `evicted`.
    Yes { id: HandshakeId, evicted: bool },
    /// The address has its share already.
    TooMany,
}

/// The table of handshakes. It is allocated at once and never grows by what strangers do; an address or a token is found
/// through chains whose places are secret, so nobody can make one of them long.
#[derive(Debug)]
pub(crate) struct Pending {
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    by_address: Chains,
    by_token: Chains,
    secret: KeyedState,
    high_water: usize,
    next_stamp: u64,
    /// No handshake ends before this; `None` if there are none.
    earliest: Option<Mono>,
}

#[derive(Debug)]
struct Slot {
    stamp: u64,
    key: AddressKey,
    /// Secret hashes of address and token.
    address_hash: u64,
    token_hash: u64,
    handshake: Handshake,
}

/// Which slots may hold what has a given hash.
#[derive(Debug)]
struct Chains {
    /// The first slot of each chain.
    heads: Vec<Option<usize>>,
    /// The slot after each slot.
    next: Vec<Option<usize>>,
}

impl Chains {
    fn new(slots: usize) -> Self {
        Self { heads: vec![None; slots], next: vec![None; slots] }
    }

    fn of(&self, hash: u64) -> impl Iterator<Item = usize> + Clone {
        std::iter::successors(self.heads[self.chain(hash)], |&slot| self.next[slot])
    }

    fn insert(&mut self, hash: u64, slot: usize) {
        let chain = self.chain(hash);
        self.next[slot] = self.heads[chain].replace(slot);
    }

    fn remove(&mut self, hash: u64, slot: usize) {
        let chain = self.chain(hash);
        let after = self.next[slot].take();
        if self.heads[chain] == Some(slot) {
            self.heads[chain] = after;
            return;
        }
        let before = self.of(hash).find(|&other| self.next[other] == Some(slot));
        if let Some(before) = before {
            self.next[before] = after;
        }
    }

    fn chain(&self, hash: u64) -> usize {
        hash as usize % self.heads.len()
    }
}

impl Pending {
    pub(crate) fn new(capacity: usize, random: &mut dyn Random) -> Self {
        let capacity = capacity.max(1);
        let mut slots = Vec::new();
        slots.resize_with(capacity, || None);
        Self {
            slots,
            // Lowest first: a table that is hardly used stays in few pages.
            free: (0..capacity).rev().collect(),
            by_address: Chains::new(capacity),
            by_token: Chains::new(capacity),
            secret: KeyedState::new(random),
            high_water: 0,
            next_stamp: 0,
            earliest: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The most that were under way at once.
    pub(crate) fn high_water(&self) -> usize {
        self.high_water
    }

    /// Changes the size, which is at least one. Handshakes that are under way have to begin again.
    pub(crate) fn set_capacity(&mut self, capacity: usize) {
        let capacity = capacity.max(1);
        if capacity == self.slots.len() {
            return;
        }
        self.slots.clear();
        self.slots.resize_with(capacity, || None);
        self.free = (0..capacity).rev().collect();
        self.by_address = Chains::new(capacity);
        self.by_token = Chains::new(capacity);
        self.earliest = None;
    }

    pub(crate) fn get(&self, id: HandshakeId) -> Option<&Handshake> {
        let slot = self.slots.get(id.index)?.as_ref()?;
        (slot.stamp == id.stamp).then_some(&slot.handshake)
    }

    pub(crate) fn get_mut(&mut self, id: HandshakeId) -> Option<&mut Handshake> {
        let slot = self.slots.get_mut(id.index)?.as_mut()?;
        (slot.stamp == id.stamp).then_some(&mut slot.handshake)
    }

    /// The handshakes with `address`.
    pub(crate) fn of_address(&self, address: SocketAddr) -> impl Iterator<Item = HandshakeId> {
        let key = AddressKey::new(address);
        self.by_address.of(self.secret.hash_one(key)).filter_map(move |index| {
            let slot = self.slots[index].as_ref()?;
            (slot.key == key).then_some(HandshakeId { index, stamp: slot.stamp })
        })
    }

    /// The handshake of this token with this address.
    pub(crate) fn find(&self, address: SocketAddr, mac: &Tag) -> Option<HandshakeId> {
        self.of_address(address).find(|&id| self.get(id).is_some_and(|handshake| handshake.mac == *mac))
    }

    /// Adds a handshake that [`find`](Self::find) has not found. If the table is full, another goes: the oldest of the same
    /// token if that has more than its share, else the oldest of the same network, else the oldest of all.
    ///
    /// So a token may be under way from as many addresses as there is room for (H5): whoever copies its request and is
    /// first, from however many addresses, does not keep its owner out, and takes no room from other tokens either.
    pub(crate) fn insert(&mut self, handshake: Handshake, token_share: usize, tokens_per_address: usize) -> Inserted {
        if self.of_address(handshake.address).count() >= tokens_per_address {
            return Inserted::TooMany;
        }
        let evicted = self.free.is_empty();
        if evicted {
            self.evict_for(&handshake, token_share);
        }
        // Eviction has made room, if there was none.
        let Some(index) = self.free.pop() else { return Inserted::TooMany };
        let key = AddressKey::new(handshake.address);
        let end = handshake.issued_at + HANDSHAKE_LIFE;
        self.earliest = Some(self.earliest.map_or(end, |earliest| earliest.min(end)));
        let (address_hash, token_hash) = (self.secret.hash_one(key), self.secret.hash_one(handshake.mac));
        self.by_address.insert(address_hash, index);
        self.by_token.insert(token_hash, index);
        let stamp = self.next_stamp;
        self.next_stamp = self.next_stamp.wrapping_add(1);
        self.slots[index] = Some(Slot { stamp, key, address_hash, token_hash, handshake });
        self.high_water = self.high_water.max(self.len());
        Inserted::Yes { id: HandshakeId { index, stamp }, evicted }
    }

    /// Ends all handshakes of a token: it has been used.
    pub(crate) fn remove_token(&mut self, mac: &Tag) {
        loop {
            let Some(index) = self.of_token(mac).next() else { return };
            self.clear(index);
        }
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(crate) fn next_expiry(&self) -> Option<Mono> {
        self.earliest
    }

    /// Ends what has taken too long, and returns how many.
    pub(crate) fn expire(&mut self, now: Mono) -> usize {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return 0;
        }
        let mut ended = 0;
        self.earliest = None;
        for index in 0..self.slots.len() {
            let Some(slot) = &self.slots[index] else { continue };
            let end = slot.handshake.issued_at + HANDSHAKE_LIFE;
            if now >= end {
                self.clear(index);
                ended += 1;
            } else {
                self.earliest = Some(self.earliest.map_or(end, |earliest| earliest.min(end)));
            }
        }
        ended
    }

    /// Lets another handshake go.
    fn evict_for(&mut self, newcomer: &Handshake, token_share: usize) {
        let of_token = self.of_token(&newcomer.mac);
        let oldest_of_token = of_token.clone().min_by_key(|&index| self.stamp(index));
        let network = prefix(newcomer.address);
        let oldest = |same_network: bool| {
            let slots = self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.as_ref()?)));
            slots
                .filter(|(_, slot)| !same_network || prefix(slot.handshake.address) == network)
                .min_by_key(|(_, slot)| slot.stamp)
                .map(|(index, _)| index)
        };
        let own = oldest_of_token.filter(|_| of_token.count() >= token_share);
        if let Some(index) = own.or_else(|| oldest(true)).or_else(|| oldest(false)) {
            self.clear(index);
        }
    }

    fn stamp(&self, index: usize) -> Option<u64> {
        self.slots[index].as_ref().map(|slot| slot.stamp)
    }

    fn clear(&mut self, index: usize) {
        if let Some(slot) = self.slots[index].take() {
            self.by_address.remove(slot.address_hash, index);
            self.by_token.remove(slot.token_hash, index);
            self.free.push(index);
        }
    }

    /// The places of the handshakes of a token.
    fn of_token(&self, mac: &Tag) -> impl Iterator<Item = usize> + Clone {
        let is_this = |slot: &Slot| slot.handshake.mac == *mac;
        self.by_token
            .of(self.secret.hash_one(mac))
            .filter(move |&index| self.slots[index].as_ref().is_some_and(is_this))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    fn handshake(address: &str, mac: u8, millis: u64) -> Handshake {
        Handshake {
            address: address.parse().unwrap(),
            mac: [mac; 16],
            client_id: 1,
            user_data: [0; 256],
            protocol_id: 1,
            client_to_server: Key::from_bytes([1; 32]),
            server_to_client: Key::from_bytes([2; 32]),
            cipher: SessionCipher::default(),
            timeout: 10,
            until: 100,
            issued_at: Mono::from_nanos(millis * 1_000_000),
            issued: millis as u32,
            challenge_queued: false,
        }
    }

    fn pending(capacity: usize) -> Pending {
        Pending::new(capacity, &mut SeededRandom::new(1))
    }

    fn id(inserted: Inserted) -> HandshakeId {
        match inserted {
            Inserted::Yes { id, .. } => id,
            Inserted::TooMany => panic!("too many"),
        }
    }

    #[test]
    fn a_token_is_found_at_its_address() {
        let mut pending = pending(8);
        let first = id(pending.insert(handshake("192.0.2.1:1", 1, 0), 4, 4));
        let second = id(pending.insert(handshake("192.0.2.1:1", 2, 0), 4, 4));
        assert_eq!(pending.find("192.0.2.1:1".parse().unwrap(), &[2; 16]), Some(second));
        assert_eq!(pending.find("192.0.2.1:2".parse().unwrap(), &[2; 16]), None);
        assert_eq!(pending.of_address("192.0.2.1:1".parse().unwrap()).collect::<Vec<_>>(), [second, first]);
        pending.remove_token(&[1; 16]);
        assert!(pending.get(first).is_none());
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn an_address_has_its_share() {
        let mut pending = pending(64);
        for mac in 2..=5 {
            id(pending.insert(handshake("192.0.2.9:9", mac, 0), 4, 4));
        }
        assert_eq!(pending.insert(handshake("192.0.2.9:9", 6, 0), 4, 4), Inserted::TooMany);
    }

    #[test]
    fn a_token_takes_what_is_free_and_from_a_full_table_its_own() {
        let mut pending = pending(64);
        let other = id(pending.insert(handshake("203.0.113.1:1", 9, 0), 4, 4));
        // One network each, so that networks have no say.
        let from = |number: usize| format!("10.{number}.0.1:1");
        let ids: Vec<_> = (0..200).map(|number| id(pending.insert(handshake(&from(number), 1, 0), 4, 4))).collect();
        let alive: Vec<_> = (0..200).filter(|&number| pending.get(ids[number]).is_some()).collect();
        assert_eq!(alive, (200 - 63..200).collect::<Vec<_>>(), "the newest of the token");
        assert!(pending.get(other).is_some());
        // Another token gets in, at the expense of the oldest of all; it was there before all of these.
        id(pending.insert(handshake("198.51.100.1:1", 2, 0), 4, 4));
        assert!(pending.get(other).is_none());
        pending.remove_token(&[1; 16]);
        assert_eq!(pending.len(), 1);
    }

    #[test]
    fn a_full_table_lets_the_oldest_of_the_same_network_go() {
        let mut pending = pending(3);
        let first = id(pending.insert(handshake("198.51.100.1:1", 1, 0), 4, 4));
        let second = id(pending.insert(handshake("192.0.2.1:1", 2, 1), 4, 4));
        let third = id(pending.insert(handshake("192.0.2.2:1", 3, 2), 4, 4));
        let Inserted::Yes { evicted: true, id: fourth } = pending.insert(handshake("192.0.2.3:1", 4, 3), 4, 4) else {
            panic!("the table was full")
        };
        assert!(pending.get(second).is_none());
        assert!(pending.get(first).is_some() && pending.get(third).is_some() && pending.get(fourth).is_some());
        // A network of its own has the oldest of all go.
        id(pending.insert(handshake("203.0.113.1:1", 5, 4), 4, 4));
        assert!(pending.get(first).is_none());
        assert_eq!((pending.len(), pending.high_water()), (3, 3));
    }

    #[test]
    fn a_handshake_ends_after_five_seconds() {
        let mut pending = pending(4);
        id(pending.insert(handshake("192.0.2.1:1", 1, 0), 4, 4));
        id(pending.insert(handshake("192.0.2.1:2", 2, 1000), 4, 4));
        let at = |millis: u64| Mono::from_nanos(millis * 1_000_000);
        assert_eq!(pending.next_expiry(), Some(at(5000)));
        assert_eq!(pending.expire(at(4999)), 0);
        assert_eq!(pending.expire(at(5000)), 1);
        assert_eq!(pending.next_expiry(), Some(at(6000)));
        assert_eq!(pending.expire(at(6000)), 1);
        assert_eq!((pending.len(), pending.next_expiry()), (0, None));
    }

    #[test]
    fn any_coming_and_going_keeps_the_table_consistent() {
        let mut random = SeededRandom::new(7);
        let mut pending = pending(16);
        let mut alive: Vec<(String, u8)> = Vec::new();
        for round in 0..5_000 {
            let (address, mac) = (format!("192.0.2.{}:1", random.below(12)), random.below(12) as u8);
            if random.chance(0.3) {
                pending.remove_token(&[mac; 16]);
                alive.retain(|(_, other)| *other != mac);
            } else if pending.len() < 16 && !alive.contains(&(address.clone(), mac)) {
                let inserted = pending.insert(handshake(&address, mac, round), 99, 99);
                assert!(matches!(inserted, Inserted::Yes { evicted: false, .. }));
                alive.push((address, mac));
            }
            assert_eq!(pending.len(), alive.len());
            for (address, mac) in &alive {
                assert!(pending.find(address.parse().unwrap(), &[*mac; 16]).is_some());
            }
            let listed: usize =
                (0..12).map(|last| pending.of_address(format!("192.0.2.{last}:1").parse().unwrap()).count()).sum();
            assert_eq!(listed, alive.len());
        }
    }

    #[test]
    fn a_handshake_is_small() {
        assert!(size_of::<Option<Slot>>() <= 560, "{}", size_of::<Option<Slot>>());
    }

    #[test]
    fn an_id_kept_too_long_names_nothing() {
        let mut pending = pending(1);
        let old = id(pending.insert(handshake("192.0.2.1:1", 1, 0), 4, 4));
        id(pending.insert(handshake("192.0.2.1:2", 2, 0), 4, 4));
        assert!(pending.get(old).is_none());
    }
}
