//! Putting unreliable messages together from their fragments: whole or not at all.

use std::time::Duration;

use super::partial::Partial;
use super::wire::Fragment;
use super::{ChannelId, Violation};
use crate::Mono;

/// The incomplete unreliable messages of one link, all channels together.
#[derive(Debug)]
pub(super) struct Reassembly {
    max_messages: usize,
    max_bytes: usize,
    timeout: Duration,
    /// Oldest first.
    entries: Vec<Entry>,
    bytes: usize,
    /// Emptied partials, for their memory.
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
    pub(super) fn new(max_messages: usize, max_bytes: usize, timeout: Duration) -> Self {
        Self {
            max_messages,
            max_bytes,
            timeout,
            entries: Vec::new(),
            bytes: 0,
            spare: Vec::new(),
            evicted: 0,
            expired: 0,
        }
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
            let victim = (0..self.entries.len())
                .filter(|index| Some(*index) != known)
                .min_by_key(|index| self.entries.get(*index).map(|entry| entry.priority));
            let victim = victim.filter(|index| self.entries.get(*index).is_some_and(|entry| entry.priority <= priority));
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
        if self.spare.len() < 2 {
            self.spare.push(entry.partial);
        }
    }

    /// Gives up the messages of a channel that are older than `id`: a newer one was delivered.
    pub(super) fn give_up_before(&mut self, channel: ChannelId, id: u16) {
        while let Some(index) = self
            .entries
            .iter()
            .position(|entry| entry.channel == channel && super::number::is_before_u16(entry.id, id))
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

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        let parts = self.entries.iter().map(|entry| &entry.partial).chain(&self.spare);
        parts.map(Partial::heap).sum::<usize>()
            + self.entries.capacity() * size_of::<Entry>()
            + self.spare.capacity() * size_of::<Partial>()
    }
}
