//! Do the two ends speak the same protocol, and if not, what differs?

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use netstream_driver::DriverId;
use netstream_driver::transport::channel::ChannelTable;

use super::wire::{Reader, write_name};

/// The version of netstream's own messages. Two ends with different numbers do not connect.
pub const NETSTREAM_PROTOCOL: u16 = 1;

/// The most bytes of entries in the list that is sent when the records differ; the rest is only counted.
const MAX_LIST: usize = 6 * 1024;

/// Which game this is, and which version of it. Two ends connect only if both are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GameProtocol {
    /// The game's name, at most 255 bytes; more is cut.
    pub name: String,
    /// Raised by the game whenever old clients may not play any more.
    pub version: u64,
}

impl GameProtocol {
    /// Version `version` of the game `name`.
    pub fn new(name: &str, version: u64) -> Self {
        Self { name: name[..name.floor_char_boundary(255)].to_owned(), version }
    }
}

impl Default for GameProtocol {
    /// A game without a name, version 0.
    fn default() -> Self {
        Self::new("", 0)
    }
}

impl fmt::Display for GameProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} version {}", self.name, self.version)
    }
}

/// What the names of RPC types start with in the schema.
pub(crate) const RPC: &str = "rpc ";

/// One registered message type, as the other end must have it too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SchemaEntry {
    /// `rpc Chat`, say: the set and the type's name.
    pub(crate) name: String,
    /// Changes when the type's shape does.
    pub(crate) fingerprint: u64,
}

/// Everything that must be equal on both ends, in canonical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) game: GameProtocol,
    entries: Vec<SchemaEntry>,
    /// Of `entries`, hashed once: every connection asks for it.
    fingerprint: [u8; 16],
}

impl Default for Protocol {
    /// That of a game without message types.
    fn default() -> Self {
        Self::new(GameProtocol::default(), Vec::new())
    }
}

impl Protocol {
    /// The order of `entries` does not matter.
    pub(crate) fn new(game: GameProtocol, mut entries: Vec<SchemaEntry>) -> Self {
        entries.sort();
        let fingerprint = fingerprint(&entries);
        Self { game, entries, fingerprint }
    }

    /// The record that is sent to the peer.
    pub(crate) fn record(&self) -> ProtocolRecord {
        ProtocolRecord { netstream: NETSTREAM_PROTOCOL, game: self.game.clone(), schema: self.fingerprint }
    }

    /// How another protocol of this process differs; `None` if it does not.
    pub(crate) fn differs(&self, other: &Self) -> Option<ProtocolDiff> {
        let list = PeerList { entries: other.entries.clone(), complete: true };
        (self != other).then(|| self.diff(&other.record(), Some(&list)))
    }

    /// Appends the list that is sent when the records differ: total u16, then name and fingerprint of each entry that
    /// fits.
    pub(crate) fn write_list(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&u16::try_from(self.entries.len()).unwrap_or(u16::MAX).to_le_bytes());
        for entry in &self.entries {
            if out.len() - start + entry.name.len() + 9 > MAX_LIST {
                break;
            }
            write_name(out, &entry.name);
            out.extend_from_slice(&entry.fingerprint.to_le_bytes());
        }
    }

    /// The numbers on both ends, if these differ only in types that one of them has not.
    pub(crate) fn translate(&self, list: &PeerList, diff: &ProtocolDiff) -> Option<Numbers> {
        if diff.netstream.is_some() || diff.game.is_some() || diff.unlisted > 0 || !list.complete {
            return None;
        }
        if !diff.different_shape.is_empty() {
            return None;
        }
        let is_rpc = |entry: &&SchemaEntry| entry.name.starts_with(RPC);
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (self.entries.iter().filter(is_rpc).collect(), list.entries.iter().filter(is_rpc).collect());
        // Anything else that only one end has, a channel say, cannot be left out.
        if [&diff.only_here, &diff.only_there].into_iter().flatten().any(|name| !name.starts_with(RPC)) {
            return None;
        }
        let place = |name: &str| ours.iter().position(|entry| entry.name == name).and_then(|n| u16::try_from(n).ok());
        Some(Numbers {
            ours: theirs.iter().map(|entry| place(&entry.name)).collect(),
            lacking: ours.iter().map(|entry| !theirs.iter().any(|other| other.name == entry.name)).collect(),
        })
    }

    /// What differs between us and a peer with this record and this list.
    pub(crate) fn diff(&self, record: &ProtocolRecord, list: Option<&PeerList>) -> ProtocolDiff {
        let mut diff = ProtocolDiff {
            netstream: (record.netstream != NETSTREAM_PROTOCOL).then_some((NETSTREAM_PROTOCOL, record.netstream)),
            game: (record.game != self.game).then(|| (self.game.clone(), record.game.clone())),
            ..Default::default()
        };
        let Some(list) = list else { return diff };
        let theirs = |name: &str| list.entries.iter().find(|entry| entry.name == name);
        for ours in &self.entries {
            match theirs(&ours.name) {
                Some(entry) if entry.fingerprint != ours.fingerprint => diff.different_shape.push(ours.name.clone()),
                Some(_) => {}
                None if list.complete => diff.only_here.push(ours.name.clone()),
                None => diff.unlisted += 1,
            }
        }
        for entry in &list.entries {
            if !self.entries.iter().any(|ours| ours.name == entry.name) {
                diff.only_there.push(entry.name.clone());
            }
        }
        diff
    }
}

fn fingerprint(entries: &[SchemaEntry]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new_derive_key("netstream schema v1");
    for entry in entries {
        hasher.update(&(entry.name.len() as u64).to_le_bytes());
        hasher.update(entry.name.as_bytes());
        hasher.update(&entry.fingerprint.to_le_bytes());
    }
    let mut fingerprint = [0; 16];
    hasher.finalize_xof().fill(&mut fingerprint);
    fingerprint
}

/// The protocol of each driver: what all of them share, and the channels of this one.
#[derive(Debug, Default)]
pub(crate) struct Protocols {
    base: Arc<Protocol>,
    is_set: bool,
    of_driver: BTreeMap<DriverId, (u64, Arc<Protocol>)>,
}

impl Protocols {
    pub(crate) fn base(&self) -> &Protocol {
        &self.base
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    pub(crate) fn set(&mut self, base: Protocol) {
        self.is_set = true;
        self.base = Arc::new(base);
        for (channels, protocol) in self.of_driver.values_mut() {
            *protocol = with_channels(&self.base, *channels);
        }
    }

    /// Told of every driver before its first connection; a second time does nothing.
    pub(crate) fn note_channels(&mut self, driver: DriverId, channels: &ChannelTable) {
        let base = &self.base;
        self.of_driver.entry(driver).or_insert_with(|| {
            let mut bytes = Vec::new();
            channels.encode(&mut bytes);
            let fingerprint = first_word(blake3::hash(&bytes));
            (fingerprint, with_channels(base, fingerprint))
        });
    }

    pub(crate) fn forget(&mut self, gone: impl Fn(DriverId) -> bool) {
        self.of_driver.retain(|&driver, _| !gone(driver));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.of_driver.len()
    }

    pub(crate) fn of(&self, driver: DriverId) -> Arc<Protocol> {
        self.of_driver.get(&driver).map_or_else(|| self.base.clone(), |(_, protocol)| protocol.clone())
    }
}

fn with_channels(base: &Protocol, fingerprint: u64) -> Arc<Protocol> {
    let channels = SchemaEntry { name: "channels".to_owned(), fingerprint };
    let entries = base.entries.iter().cloned().chain([channels]).collect();
    Arc::new(Protocol::new(base.game.clone(), entries))
}

/// The first 64 bits of a hash.
pub(crate) fn first_word(hash: blake3::Hash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// What each end tells the other first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProtocolRecord {
    pub(crate) netstream: u16,
    pub(crate) game: GameProtocol,
    pub(crate) schema: [u8; 16],
}

impl ProtocolRecord {
    /// Appends: netstream u16, game name, game version u64, schema fingerprint 16.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.netstream.to_le_bytes());
        write_name(out, &self.game.name);
        out.extend_from_slice(&self.game.version.to_le_bytes());
        out.extend_from_slice(&self.schema);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let netstream = reader.u16()?;
        let name = reader.name()?;
        let version = reader.u64()?;
        Some(Self { netstream, game: GameProtocol::new(name, version), schema: reader.array()? })
    }
}

/// How much two ends may differ and still play together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemaPolicy {
    /// Not at all: both ends have the same types in the same shapes.
    #[default]
    Strict,
    /// Either end may have types that the other has not; sending one of these is an error on the spot. Types that both
    /// have must have the same shape. Counts only if both ends say so.
    Compatible,
}

/// How the RPC numbers of two ends that differ are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// Our number for each of theirs.
    pub(crate) ours: Vec<Option<u16>>,
    /// For each of our numbers, whether they lack the type.
    pub(crate) lacking: Arc<[bool]>,
}

/// The peer's list of message types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerList {
    entries: Vec<SchemaEntry>,
    /// Whether the list names everything that the peer has.
    complete: bool,
}

impl PeerList {
    pub(crate) fn read(mut reader: Reader<'_>) -> Option<Self> {
        let total = usize::from(reader.u16()?);
        let mut entries = Vec::new();
        // Ends with the bytes that arrived, not with the number that they start with.
        while !reader.0.is_empty() {
            let name = reader.name()?.to_owned();
            entries.push(SchemaEntry { name, fingerprint: reader.u64()? });
        }
        Some(Self { complete: entries.len() == total, entries })
    }
}

/// How the protocols of two ends differ. Both ends get one, each from its own point of view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProtocolDiff {
    /// The versions of netstream's own messages (ours, theirs), if they differ.
    pub netstream: Option<(u16, u16)>,
    /// The games or their versions (ours, theirs), if they differ.
    pub game: Option<(GameProtocol, GameProtocol)>,
    /// Types that only this end has.
    pub only_here: Vec<String>,
    /// Types that only the other end has.
    pub only_there: Vec<String>,
    /// Types that both have, in different shapes.
    pub different_shape: Vec<String>,
    /// Types of ours that the peer's list had no room to confirm or deny.
    pub unlisted: usize,
}

impl fmt::Display for ProtocolDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            write!(f, "{separator}{text}")?;
            separator = "; ";
            Ok(())
        };
        if let Some((ours, theirs)) = &self.netstream {
            part(f, format_args!("netstream protocol {ours} here, {theirs} there"))?;
        }
        if let Some((ours, theirs)) = &self.game {
            part(f, format_args!("game {ours} here, {theirs} there"))?;
        }
        for (names, what) in [
            (&self.different_shape, "differs in shape"),
            (&self.only_here, "is only here"),
            (&self.only_there, "is only there"),
        ] {
            for name in names {
                part(f, format_args!("{name} {what}"))?;
            }
        }
        if self.unlisted > 0 {
            part(f, format_args!("{} more not compared", self.unlisted))?;
        }
        Ok(())
    }
}

/// What is left of a handshake that differed, until the reason is known.
pub(crate) type SharedDiff = Arc<ProtocolDiff>;

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(version: u64, entries: &[(&str, u64)]) -> Protocol {
        let entry = |&(name, fingerprint): &(&str, u64)| SchemaEntry { name: name.into(), fingerprint };
        Protocol::new(GameProtocol::new("arena", version), entries.iter().map(entry).collect())
    }

    fn list_of(protocol: &Protocol) -> PeerList {
        let mut bytes = Vec::new();
        protocol.write_list(&mut bytes);
        PeerList::read(Reader(&bytes)).unwrap()
    }

    #[test]
    fn the_order_of_registration_does_not_matter() {
        let one = protocol(1, &[("rpc A", 1), ("rpc B", 2)]);
        let other = protocol(1, &[("rpc B", 2), ("rpc A", 1)]);
        assert_eq!(one.record(), other.record());
    }

    #[test]
    fn the_difference_is_named_from_both_points_of_view() {
        let here = protocol(1, &[("rpc Chat", 1), ("rpc Old", 1), ("rpc Same", 1)]);
        let there = protocol(2, &[("rpc Chat", 2), ("rpc New", 1), ("rpc Same", 1)]);
        assert_ne!(here.record(), there.record());
        let diff = here.diff(&there.record(), Some(&list_of(&there)));
        assert_eq!(
            diff.to_string(),
            "game \"arena\" version 1 here, \"arena\" version 2 there; rpc Chat differs in shape; \
             rpc Old is only here; rpc New is only there"
        );
        let back = there.diff(&here.record(), Some(&list_of(&here)));
        assert_eq!((back.only_here, back.only_there), (diff.only_there, diff.only_here));
    }

    #[test]
    fn extra_types_are_translated_and_other_differences_are_not() {
        let here = protocol(1, &[("rpc A", 1), ("rpc B", 1), ("rpc D", 1)]);
        let there = protocol(1, &[("rpc B", 1), ("rpc C", 1), ("rpc D", 1)]);
        let list = list_of(&there);
        let diff = here.diff(&there.record(), Some(&list));
        let numbers = here.translate(&list, &diff).unwrap();
        assert_eq!(numbers.ours, [Some(1), None, Some(2)]);
        assert_eq!(*numbers.lacking, [true, false, false]);
        for other in [
            protocol(2, &[("rpc B", 1)]),
            protocol(1, &[("rpc A", 2), ("rpc B", 1)]),
            protocol(1, &[("channel 3", 1), ("rpc A", 1)]),
        ] {
            let list = list_of(&other);
            let diff = here.diff(&other.record(), Some(&list));
            assert_eq!(here.translate(&list, &diff), None, "{diff}");
        }
    }

    #[test]
    fn a_list_that_is_too_long_is_cut_and_said_to_be() {
        let names: Vec<_> = (0..1000).map(|n| format!("rpc LongishTypeName{n:04}")).collect();
        let entries: Vec<_> = names.iter().map(|name| (name.as_str(), 7)).collect();
        let many = protocol(1, &entries);
        let list = list_of(&many);
        assert!(!list.complete);
        let diff = many.diff(&many.record(), Some(&list));
        assert!(diff.only_here.is_empty());
        assert_eq!(diff.unlisted, 1000 - list.entries.len());
    }

    #[test]
    fn a_record_survives_the_wire_and_none_of_its_prefixes_does() {
        let record = protocol(3, &[]).record();
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        assert_eq!(ProtocolRecord::read(&mut Reader(&bytes)), Some(record));
        for length in 0..bytes.len() {
            assert_eq!(ProtocolRecord::read(&mut Reader(&bytes[..length])), None);
        }
    }
}
