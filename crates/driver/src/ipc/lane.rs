//! One direction of an in-process connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use netstream_transport::{ChannelId, ConnectionId, DisconnectReason, copy};

/// The most reliable messages that wait in one direction, as on UDP.
pub(super) const RELIABLE_MESSAGES: usize = 512;
/// The most bytes of reliable messages that wait in one direction, as on UDP.
pub(super) const RELIABLE_BYTES: usize = 256 * 1024;
/// The most unreliable messages that wait in one direction: what a socket's receive buffer holds for UDP.
pub(super) const UNRELIABLE_MESSAGES: usize = 4096;
/// The most bytes of unreliable messages that wait in one direction.
pub(super) const UNRELIABLE_BYTES: usize = 1024 * 1024;

/// Locks, whatever happened to other holders: every change under these locks is complete before anything can panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both directions of one connection, shared by its two ends.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) to_client: Mutex<Lane>,
    pub(super) to_server: Mutex<Lane>,
}

/// What waits for one receiver.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) batch: Batch,
    /// What the receiver calls the connection; `None` until the server has accepted it.
    pub(super) owner: Option<ConnectionId>,
    /// Only towards the client: the server has accepted it.
    pub(super) accepted: bool,
    /// The sender has closed, and why, as the receiver sees it. Nothing is appended afterwards.
    pub(super) closed: Option<DisconnectReason>,
    /// The receiver has closed: nothing is worth appending.
    pub(super) deaf: bool,
    /// The receiver's list of lanes with something in them has this one.
    signalled: bool,
}

impl Lane {
    /// Marks the lane as one with news. The answer is whom to put on the receiver's list, if it is not there yet.
    pub(super) fn signal(&mut self) -> Option<ConnectionId> {
        if self.signalled {
            return None;
        }
        // A lane without an owner is looked at when it is accepted.
        let owner = self.owner?;
        self.signalled = true;
        Some(owner)
    }

    /// Takes everything out in exchange for the empty `spare`.
    pub(super) fn take(&mut self, spare: &mut Batch) {
        self.signalled = false;
        std::mem::swap(&mut self.batch, spare);
    }
}

/// Messages back to back in one arena.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    reliable: Load,
    unreliable: Load,
}

#[derive(Debug)]
struct Entry {
    channel: ChannelId,
    len: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Batch {
    /// Appends one message; `false` if the bound of its kind does not allow it.
    pub(super) fn push(&mut self, channel: ChannelId, reliable: bool, message: &[u8]) -> bool {
        let (load, messages, bytes) = if reliable {
            (&mut self.reliable, RELIABLE_MESSAGES, RELIABLE_BYTES)
        } else {
            (&mut self.unreliable, UNRELIABLE_MESSAGES, UNRELIABLE_BYTES)
        };
        if load.messages >= messages || load.bytes + message.len() > bytes {
            return false;
        }
        load.messages += 1;
        load.bytes += message.len();
        copy::append(&mut self.bytes, message);
        self.entries.push(Entry { channel, len: message.len() });
        true
    }

    /// Forgets all messages and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.reliable = Load::default();
        self.unreliable = Load::default();
    }

    pub(super) fn messages(&self) -> impl Iterator<Item = (ChannelId, &[u8])> {
        let mut rest = self.bytes.as_slice();
        self.entries.iter().map(move |entry| {
            let (message, after) = rest.split_at(entry.len);
            rest = after;
            (entry.channel, message)
        })
    }

    pub(super) fn reliable_bytes(&self) -> usize {
        self.reliable.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The list of one driver's connections that have something to read.
#[derive(Debug, Default)]
pub(super) struct Wake(Mutex<Vec<ConnectionId>>);

impl Wake {
    pub(super) fn push(&self, connection: ConnectionId) {
        lock(&self.0).push(connection);
    }

    /// Takes the list out in exchange for the empty `spare`.
    pub(super) fn take(&self, spare: &mut Vec<ConnectionId>) {
        std::mem::swap(&mut *lock(&self.0), spare);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut batch = Batch::default();
        let messages: [(ChannelId, &[u8]); 3] =
            [(ChannelId::RELIABLE, b"one"), (ChannelId::UNRELIABLE, b""), (ChannelId::RELIABLE, b"three")];
        for (channel, message) in messages {
            assert!(batch.push(channel, channel == ChannelId::RELIABLE, message));
        }
        assert!(batch.messages().eq(messages));
        assert_eq!(batch.reliable_bytes(), 8);
        batch.clear();
        assert_eq!(batch.messages().count(), 0);
    }

    #[test]
    fn each_kind_has_its_own_bounds() {
        let mut batch = Batch::default();
        for _ in 0..RELIABLE_MESSAGES {
            assert!(batch.push(ChannelId::RELIABLE, true, b"x"));
        }
        assert!(!batch.push(ChannelId::RELIABLE, true, b"x"));
        let large = vec![0; 16 * 1024];
        for _ in 0..UNRELIABLE_BYTES / large.len() {
            assert!(batch.push(ChannelId::UNRELIABLE_FRAGMENTED, false, &large));
        }
        assert!(!batch.push(ChannelId::UNRELIABLE, false, b"x"));
    }

    #[test]
    fn a_lane_is_listed_once_until_it_is_read() {
        let id = ConnectionId { index: 1, generation: 2 };
        let mut lane = Lane { owner: Some(id), ..Lane::default() };
        assert_eq!(lane.signal(), Some(id));
        assert_eq!(lane.signal(), None);
        lane.take(&mut Batch::default());
        assert_eq!(lane.signal(), Some(id));
    }
}
