//! Datagrams that wait to leave, back to back in one slab.

use std::net::SocketAddr;
use std::ops::Range;

use netstream_transport::netcode::LARGEST_DATAGRAM;

/// Room for one datagram of any size that we send, in whole lines of the processor's caches.
pub(super) const ROOM: usize = LARGEST_DATAGRAM.next_multiple_of(64);

/// The most datagrams that are gathered before the socket is asked to send.
const MAX_DATAGRAMS: usize = 256;

/// Bytes of the slab: small datagrams are sent 256 at a time, full ones as many as stay in the processor's cache.
const SLAB: usize = 160 * 1024;

/// A slab of datagrams with their destinations, filled by a driver and emptied by a socket.
#[derive(Debug)]
pub struct Outbox {
    /// Grows with what is gathered: a client sends a few datagrams at a time, and a process may have thousands.
    slab: Vec<u8>,
    /// How much of the slab is taken.
    used: usize,
    datagrams: Vec<Datagram>,
    /// How many of `datagrams` are done with.
    done: usize,
}

#[derive(Clone, Debug)]
struct Datagram {
    to: SocketAddr,
    at: Range<usize>,
}

impl Outbox {
    /// An empty outbox.
    pub fn new() -> Self {
        Self { slab: Vec::new(), used: 0, datagrams: Vec::new(), done: 0 }
    }

    /// Where the next datagram may be written, at least [`ROOM`] bytes; `None` if the outbox must be sent first.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        let end = self.used + ROOM;
        if self.datagrams.len() >= MAX_DATAGRAMS || end > SLAB {
            return None;
        }
        if self.slab.len() < end {
            self.grow(end);
        }
        self.slab.get_mut(self.used..end)
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        self.slab.resize(end.max(2 * self.slab.len()).min(SLAB), 0);
    }

    /// Appends what lies at `at` within the last [`room`](Self::room).
    pub(super) fn commit(&mut self, to: SocketAddr, at: Range<usize>) {
        debug_assert!(at.end <= ROOM);
        let at = self.used + at.start..self.used + at.end;
        self.used = at.end;
        self.datagrams.push(Datagram { to, at });
    }

    /// Appends a copy of `datagram`; `false` if there is no room.
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(room) = self.room().and_then(|room| room.get_mut(..datagram.len())) else { return false };
        room.copy_from_slice(datagram);
        self.commit(to, 0..datagram.len());
        true
    }

    /// Takes the first `count` datagrams off; returns how many they were and how many bytes they had.
    pub fn take_off(&mut self, count: usize) -> (u64, u64) {
        let end = (self.done + count).min(self.datagrams.len());
        let taken = &self.datagrams[self.done..end];
        let figures = (taken.len() as u64, taken.iter().map(|datagram| datagram.at.len() as u64).sum());
        self.done = end;
        if self.is_empty() {
            self.datagrams.clear();
            self.done = 0;
            self.used = 0;
        }
        figures
    }

    /// The datagrams that wait, the first to leave first.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams[self.done..].iter().map(|datagram| (datagram.to, &self.slab[datagram.at.clone()]))
    }

    /// How many datagrams wait.
    pub fn len(&self) -> usize {
        self.datagrams.len() - self.done
    }

    /// Whether no datagram waits.
    pub fn is_empty(&self) -> bool {
        self.done == self.datagrams.len()
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_leave_in_order_and_make_room() {
        let mut outbox = Outbox::new();
        let to = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut count = 0;
        while outbox.push(to(count), &[count as u8; 1200]) {
            count += 1;
        }
        assert!(count > 100, "only {count} fit");
        assert_eq!(outbox.take_off(1), (1, 1200));
        assert_eq!(outbox.len(), usize::from(count) - 1);
        assert_eq!(outbox.iter().next().unwrap(), (to(1), [1; 1200].as_slice()));
        assert!(!outbox.push(to(0), b"no room before all have left"));
        assert_eq!(outbox.take_off(usize::from(count)), (u64::from(count) - 1, 1200 * (u64::from(count) - 1)));
        assert!(outbox.is_empty() && outbox.push(to(0), b"room"));
    }

    #[test]
    fn the_slab_is_no_larger_than_what_was_gathered() {
        let mut outbox = Outbox::new();
        for _ in 0..3 {
            outbox.push(SocketAddr::from(([127, 0, 0, 1], 1)), &[1; 1200]);
            outbox.take_off(1);
        }
        assert_eq!(outbox.slab.len(), ROOM);
        while outbox.push(SocketAddr::from(([127, 0, 0, 1], 1)), &[1; 1200]) {}
        assert!((SLAB - ROOM..=SLAB).contains(&outbox.slab.len()));
    }

    #[test]
    fn a_datagram_may_start_behind_an_unused_header() {
        let mut outbox = Outbox::new();
        outbox.room().unwrap()[..12].copy_from_slice(b"xxxdatagramy");
        outbox.commit(SocketAddr::from(([127, 0, 0, 1], 1)), 3..11);
        assert_eq!(outbox.iter().next().unwrap().1, b"datagram");
    }
}
