//! Maps whose keys strangers choose.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use crate::Random;

/// A map that no choice of keys can slow down. Its seed is injected, so the same run has the same order always.
pub(crate) type KeyedMap<K, V> = std::collections::HashMap<K, V, KeyedState>;

/// The secret of one machine's maps.
#[derive(Clone)]
pub(crate) struct KeyedState([u64; 2]);

impl KeyedState {
    pub(crate) fn new(random: &mut dyn Random) -> Self {
        Self([random.u64(), random.u64()])
    }
}

impl BuildHasher for KeyedState {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        let [k0, k1] = self.0;
        SipHasher13 {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            words: 0,
        }
    }
}

impl std::fmt::Debug for KeyedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedState(..)")
    }
}

/// SipHash-1-3 (Aumasson, Bernstein 2012) over 64-bit words: keys of maps are whole words, so there is no buffering.
#[derive(Debug)]
pub(crate) struct SipHasher13 {
    v: [u64; 4],
    words: u64,
}

impl SipHasher13 {
    #[inline]
    fn round(&mut self) {
        let [v0, v1, v2, v3] = &mut self.v;
        *v0 = v0.wrapping_add(*v1);
        *v1 = v1.rotate_left(13) ^ *v0;
        *v0 = v0.rotate_left(32);
        *v2 = v2.wrapping_add(*v3);
        *v3 = v3.rotate_left(16) ^ *v2;
        *v0 = v0.wrapping_add(*v3);
        *v3 = v3.rotate_left(21) ^ *v0;
        *v2 = v2.wrapping_add(*v1);
        *v1 = v1.rotate_left(17) ^ *v2;
        *v2 = v2.rotate_left(32);
    }

    #[inline]
    fn compress(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.v[0] ^= word;
    }
}

impl Hasher for SipHasher13 {
    #[inline]
    fn write_u64(&mut self, word: u64) {
        self.compress(word);
        self.words = self.words.wrapping_add(1);
    }

    /// Pads to whole words; the keys of one map all have the same length.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        let mut end = Self { v: self.v, words: 0 };
        end.compress(self.words << 59);
        end.v[2] ^= 0xff;
        end.round();
        end.round();
        end.round();
        end.v.into_iter().fold(0, |all, word| all ^ word)
    }
}

/// A peer's address as maps see it: an IPv4 address is the same whether a socket of IPv4 or of IPv6 received from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressKey {
    /// In two words: a place of the table is half a line of the processor's caches then.
    ip: [u64; 2],
    port: u16,
    scope: u32,
}

impl AddressKey {
    #[inline]
    pub(crate) fn new(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(address) => (address.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(address) => (*address.ip(), address.scope_id()),
        };
        let ip = ip.to_bits();
        Self { ip: [(ip >> 64) as u64, ip as u64], port: address.port(), scope }
    }

    /// Whether address and port are the same; the scope of a link-local address never travels in a token.
    pub(crate) fn same_endpoint(self, other: Self) -> bool {
        (self.ip, self.port) == (other.ip, other.port)
    }
}

impl Hash for AddressKey {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One word for IPv4, three for IPv6: the number of words goes into the hash too.
        let end = u64::from(self.port) << 32;
        let [high, low] = self.ip;
        if high == 0 && low >> 32 == 0xffff {
            return state.write_u64(end | low & 0xffff_ffff);
        }
        state.write_u64(high);
        state.write_u64(low);
        state.write_u64(end | u64::from(self.scope));
    }
}

/// The network that an address belongs to, as far as budgets are concerned: /24 in IPv4, /56 in IPv6.
pub(crate) fn prefix(address: SocketAddr) -> u64 {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits() >> 8),
        // The top byte is free after the shift; it keeps the two families apart.
        IpAddr::V6(ip) => (ip.to_bits() >> 72) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn is_the_hash_of_the_standard_library() {
        // `DefaultHasher::new` is SipHash-1-3 under the zero key.
        for words in 0..20u64 {
            let mut ours = KeyedState([0, 0]).build_hasher();
            let mut theirs = DefaultHasher::new();
            for word in 0..words {
                ours.write_u64(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                theirs.write_u64(word.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
            assert_eq!(ours.finish(), theirs.finish(), "{words} words");
        }
    }

    #[test]
    fn mapped_and_plain_addresses_are_one() {
        let key = |text: &str| AddressKey::new(text.parse().unwrap());
        assert_eq!(key("192.0.2.1:5"), key("[::ffff:192.0.2.1]:5"));
        assert_ne!(key("192.0.2.1:5"), key("192.0.2.1:6"));
        assert_ne!(key("[fe80::1%1]:5"), key("[fe80::1%2]:5"));
        assert!(key("[fe80::1%1]:5").same_endpoint(key("[fe80::1]:5")));
    }

    #[test]
    fn prefixes_are_24_and_56_bits() {
        let prefix = |text: &str| prefix(text.parse().unwrap());
        assert_eq!(prefix("192.0.2.1:5"), prefix("192.0.2.255:6"));
        assert_eq!(prefix("192.0.2.1:5"), prefix("[::ffff:192.0.2.9]:5"));
        assert_ne!(prefix("192.0.2.1:5"), prefix("192.0.3.1:5"));
        assert_eq!(prefix("[2001:db8:0:4200::1]:5"), prefix("[2001:db8:0:42ff::1]:5"));
        assert_ne!(prefix("[2001:db8:0:4200::1]:5"), prefix("[2001:db8:0:4300::1]:5"));
    }
}
