//! Who may not enter.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netstream_driver::transport::{DisconnectCode, DisconnectReason, Identity, Mono};

/// Whom a ban concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BanTarget {
    /// The client id that connect tokens seal. Of use only where a back-end issues them: a holder of a join code can
    /// claim any id.
    Identity(u64),
    /// All addresses that share the first `bits` bits with this one: 32 (IPv4) or 128 (IPv6) name a single address.
    Address {
        /// Any address of the block.
        address: IpAddr,
        /// How many leading bits count; more than the address has mean all of them.
        bits: u8,
    },
}

impl BanTarget {
    /// One address.
    pub fn address(address: IpAddr) -> Self {
        Self::Address { address, bits: 128 }
    }

    fn concerns(&self, identity: Option<u64>, from: Option<IpAddr>) -> bool {
        match *self {
            Self::Identity(banned) => identity == Some(banned),
            Self::Address { address, bits } => from.is_some_and(|from| same_prefix(address, from, bits)),
        }
    }
}

fn same_prefix(one: IpAddr, other: IpAddr, bits: u8) -> bool {
    let differ = match (one.to_canonical(), other.to_canonical()) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let shift = 32u32.saturating_sub(u32::from(bits));
            (one.to_bits() ^ other.to_bits()).checked_shr(shift)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let shift = 128u32.saturating_sub(u32::from(bits));
            (one.to_bits() ^ other.to_bits()).checked_shr(shift).map(|bits| u32::from(bits != 0))
        }
        _ => return false,
    };
    // A shift by the whole width leaves nothing to differ in.
    differ.unwrap_or(0) == 0
}

#[derive(Debug)]
struct Ban {
    until: Option<Mono>,
    text: String,
}

/// The bans of a World. Only the application makes it grow.
#[derive(Debug, Default)]
pub(crate) struct BanList(BTreeMap<BanTarget, Ban>);

impl BanList {
    pub(crate) fn add(&mut self, target: BanTarget, now: Mono, time: Option<Duration>, text: &str) {
        self.0.insert(target, Ban { until: time.map(|time| now + time), text: text.to_owned() });
    }

    pub(crate) fn remove(&mut self, target: BanTarget) -> bool {
        self.0.remove(&target).is_some()
    }

    /// Why this peer may not enter, if so.
    pub(crate) fn refuse(
        &mut self,
        now: Mono,
        identity: Option<&Identity>,
        from: Option<SocketAddr>,
    ) -> Option<DisconnectReason> {
        self.0.retain(|_, ban| ban.until.is_none_or(|until| now < until));
        let (identity, from) = (identity.map(|identity| identity.client_id), from.map(|from| from.ip()));
        let (_, ban) = self.0.iter().find(|(target, _)| target.concerns(identity, from))?;
        Some(DisconnectReason::local(DisconnectCode::Banned).with_text(&ban.text))
    }

    pub(crate) fn targets(&self) -> impl Iterator<Item = BanTarget> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono::ZERO + Duration::from_secs(seconds)
    }

    fn from(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().unwrap(), 4711))
    }

    fn who(client_id: u64) -> Identity {
        Identity { client_id, user_data: [0; 256] }
    }

    #[test]
    fn a_ban_concerns_its_target_and_ends_in_time() {
        let mut bans = BanList::default();
        bans.add(BanTarget::Identity(7), at(0), Some(Duration::from_secs(60)), "cheating");
        let reason = bans.refuse(at(59), Some(&who(7)), None).unwrap();
        assert_eq!(reason, DisconnectReason::local(DisconnectCode::Banned).with_text("cheating"));
        assert!(bans.refuse(at(59), Some(&who(8)), from("127.0.0.1")).is_none());
        assert!(bans.refuse(at(60), Some(&who(7)), None).is_none());
        assert_eq!(bans.targets().count(), 0, "what is over is forgotten");
    }

    #[test]
    fn blocks_of_addresses_are_told_apart_by_their_prefix() {
        let cases = [
            ("10.1.2.3", 8, "10.9.9.9", true),
            ("10.1.2.3", 8, "11.1.2.3", false),
            ("10.1.2.3", 128, "10.1.2.3", true),
            ("10.1.2.3", 32, "10.1.2.4", false),
            ("10.1.2.3", 32, "::ffff:10.1.2.3", true),
            ("0.0.0.0", 0, "255.1.1.1", true),
            ("2001:db8::1", 32, "2001:db8:ffff::", true),
            ("2001:db8::1", 48, "2001:db8:ffff::", false),
            ("2001:db8::1", 128, "2001:db8::1", true),
            ("10.1.2.3", 8, "2001:db8::1", false),
        ];
        for (address, bits, peer, concerned) in cases {
            let mut bans = BanList::default();
            bans.add(BanTarget::Address { address: address.parse().unwrap(), bits }, at(0), None, "");
            assert_eq!(bans.refuse(at(1), None, from(peer)).is_some(), concerned, "{address}/{bits} {peer}");
        }
    }

    #[test]
    fn a_lifted_ban_is_no_ban() {
        let mut bans = BanList::default();
        let target = BanTarget::address("10.0.0.1".parse().unwrap());
        bans.add(target, at(0), None, "");
        assert!(bans.remove(target));
        assert!(!bans.remove(target));
        assert!(bans.refuse(at(0), None, from("10.0.0.1")).is_none());
    }
}
