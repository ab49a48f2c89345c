//! Putting unreliable messages together from their fragments: whole or not at all.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use std::time::Duration;

use super::frame::Fragment;
use super::partial::Partial;
use super::{ChannelId, Violation};
use crate::{Limits, Mono};

/// What an incomplete message takes beside its bytes, at most: itself and its lists.
const ENTRY: usize = 1024;

/// The incomplete unreliable messages of one link, all channels together.
#[derive(Debug)]
// What every packet looks at comes first; see `State`.
#[repr(C)]
pub(super) struct Reassembly {
    /// Oldest first.
    entries: Vec<Entry>,
    max_messages: usize,
    max_bytes: usize,
    timeout: Duration,
    bytes: usize,
    /// Emptied partials, for their memory, as long as that is within the cap together with what is in use.
    spare: Vec<Partial>,
    pub(super) evicted: u64,
    pub(super) expired: u64,
}

#[derive(Debug)]
struct Entry {
    channel: ChannelId,
    id: u16,
    priority: u8,
    since: Mono,
    partial: Partial,
}

impl Reassembly {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            max_messages: limits.reassembly_messages,
            max_bytes: limits.reassembly_bytes,
            timeout: limits.reassembly_timeout,
            entries: Vec::new(),
            bytes: 0,
            spare: Vec::new(),
            evicted: 0,
            expired: 0,
        }
    }

    /// Applies other limits; what is over them gives way.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.max_messages = limits.reassembly_messages;
        self.max_bytes = limits.reassembly_bytes;
        self.timeout = limits.reassembly_timeout;
        while self.entries.len() > self.max_messages || self.bytes > self.max_bytes {
            let Some(victim) = self.least(None) else { break };
            self.evicted += 1;
            self.remove(victim);
        }
        self.spare = Vec::new();
    }

    /// The oldest message of the least priority, but for one.
    fn least(&self, but: Option<usize>) -> Option<usize> {
        (0..self.entries.len())
            .filter(|index| Some(*index) != but)
            .min_by_key(|index| self.entries.get(*index).map(|entry| entry.priority))
    }

    /// Takes in a fragment; a message that it completes goes to `deliver`. To make room the oldest message of the
    /// least priority gives way, which may be this one.
    pub(super) fn handle(
        &mut self,
        now: Mono,
        channel: ChannelId,
        priority: u8,
        fragment: &Fragment<'_>,
        deliver: impl FnOnce(&[u8]),
    ) -> Result<(), Violation> {
        self.expire(now);
        let same = |entry: &Entry| entry.channel == channel && entry.id == fragment.id;
        let mut known = self.entries.iter().position(same);
        let growth = known
            .and_then(|index| self.entries.get(index))
            .map_or(fragment.bytes.len(), |entry| entry.partial.growth(fragment));
        while self.bytes + growth > self.max_bytes || known.is_none() && self.entries.len() >= self.max_messages {
            let victim = self
                .least(known)
                .filter(|index| self.entries.get(*index).is_some_and(|entry| entry.priority <= priority));
            self.evicted += 1;
            match (victim, known) {
                (Some(victim), _) => {
                    self.remove(victim);
                    known = self.entries.iter().position(same);
                }
                (None, Some(known)) => {
                    self.remove(known);
                    return Ok(());
                }
                (None, None) => return Ok(()),
            }
        }
        let index = known.unwrap_or_else(|| {
            let mut partial = self.spare.pop().unwrap_or_default();
            partial.reset(fragment.count);
            self.entries.push(Entry { channel, id: fragment.id, priority, since: now, partial });
            self.entries.len() - 1
        });
        self.fit_spare(growth);
        let Some(entry) = self.entries.get_mut(index) else { return Ok(()) };
        let before = entry.partial.size();
        let complete = entry.partial.insert(fragment)?;
        self.bytes += entry.partial.size() - before;
        if complete {
            deliver(entry.partial.message());
            self.remove(index);
        }
        Ok(())
    }

    fn remove(&mut self, index: usize) {
        let entry = self.entries.remove(index);
        self.bytes = self.entries.iter().map(|entry| entry.partial.size()).sum();
        if self.entries.len() + self.spare.len() < self.max_messages {
            self.spare.push(entry.partial);
        }
        self.fit_spare(0);
    }

    /// Gives spare memory up that is over the cap with `growth` more bytes in use.
    fn fit_spare(&mut self, growth: usize) {
        while self.bytes + growth + self.spare.iter().map(Partial::heap).sum::<usize>() > self.max_bytes {
            if self.spare.pop().is_none() {
                return;
            }
        }
    }

    /// Gives up the messages of a channel that are older than `id`: a newer one was delivered.
    pub(super) fn give_up_before(&mut self, channel: ChannelId, id: u16) {
        while let Some(index) =
            self.entries.iter().position(|entry| entry.channel == channel && super::number::is_before_u16(entry.id, id))
        {
            self.evicted += 1;
            self.remove(index);
        }
    }

    /// Gives up what has waited too long.
    pub(super) fn expire(&mut self, now: Mono) {
        while self.entries.first().is_some_and(|oldest| oldest.since + self.timeout <= now) {
            self.expired += 1;
            self.remove(0);
        }
    }

    /// When something will have waited too long.
    pub(super) fn expires_at(&self) -> Option<Mono> {
        self.entries.first().map(|oldest| oldest.since + self.timeout)
    }

    /// Gives memory back that is not in use.
    pub(super) fn trim(&mut self) {
        self.spare = Vec::new();
        self.entries.shrink_to_fit();
    }

    /// The most that [`heap`](Self::heap) can be: a buffer may be half as large again as what it holds.
    pub(super) fn heap_cap(limits: &Limits) -> usize {
        limits.reassembly_bytes * 3 / 2 + (limits.reassembly_messages + 1) * ENTRY
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        let parts = self.entries.iter().map(|entry| &entry.partial).chain(&self.spare);
        parts.map(Partial::heap).sum::<usize>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.spare.capacity() * size_of::<Partial>()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::FRAGMENT_BYTES;
    use super::*;

    const CHANNEL: ChannelId = ChannelId(2);

    fn reassembly() -> Reassembly {
        Reassembly::new(&Limits::default())
    }

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    fn put(reassembly: &mut Reassembly, millis: u64, priority: u8, id: u16, index: u32, count: u32) -> Option<usize> {
        let bytes = &[id as u8; FRAGMENT_BYTES];
        let fragment = Fragment { id, index, count, bytes };
        let mut delivered = None;
        reassembly.handle(at(millis), CHANNEL, priority, &fragment, |message| delivered = Some(message.len())).unwrap();
        delivered
    }

    #[test]
    fn fragments_of_different_messages_never_mix() {
        let mut reassembly = reassembly();
        for id in 0..4 {
            assert_eq!(put(&mut reassembly, 0, 1, id, 0, 2), None);
        }
        let other = Fragment { id: 0, index: 1, count: 2, bytes: &[9; FRAGMENT_BYTES] };
        reassembly.handle(at(0), ChannelId(7), 1, &other, |_| panic!("another channel's")).unwrap();
        assert_eq!(reassembly.evicted, 1, "the oldest had to go for it");
        for id in 1..4 {
            assert_eq!(put(&mut reassembly, 0, 1, id, 1, 2), Some(2 * FRAGMENT_BYTES));
        }
    }

    #[test]
    fn the_oldest_of_the_least_priority_gives_way() {
        let mut reassembly = reassembly();
        put(&mut reassembly, 0, 9, 0, 0, 2);
        put(&mut reassembly, 1, 1, 1, 0, 2);
        put(&mut reassembly, 2, 1, 2, 0, 2);
        put(&mut reassembly, 3, 9, 3, 0, 2);
        put(&mut reassembly, 4, 5, 4, 0, 2);
        let left: Vec<u16> = reassembly.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(left, [0, 2, 3, 4]);
        put(&mut reassembly, 5, 0, 5, 0, 2);
        let left: Vec<u16> = reassembly.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(left, [0, 2, 3, 4], "nothing is of less priority than the new one");
        assert_eq!(reassembly.evicted, 2);
    }

    #[test]
    fn what_is_incomplete_for_too_long_is_forgotten() {
        let mut reassembly = reassembly();
        put(&mut reassembly, 0, 1, 0, 0, 2);
        put(&mut reassembly, 100, 1, 1, 0, 2);
        assert_eq!(reassembly.expires_at(), Some(at(500)));
        assert_eq!(put(&mut reassembly, 499, 1, 0, 1, 2), Some(2 * FRAGMENT_BYTES));
        reassembly.expire(at(600));
        assert_eq!((reassembly.expired, reassembly.bytes, reassembly.expires_at()), (1, 0, None));
    }

    #[test]
    fn the_cap_on_bytes_holds_whatever_arrives() {
        let mut reassembly = reassembly();
        for step in 0..5000u64 {
            put(&mut reassembly, step, 1, (step % 5) as u16, (step * 7 % 50) as u32, 50);
            assert!(reassembly.bytes <= 64 << 10);
            assert!(reassembly.heap() <= Reassembly::heap_cap(&Limits::default()));
        }
        assert!(reassembly.evicted > 100);
    }
}
