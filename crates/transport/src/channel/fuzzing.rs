//! What the fuzz targets need beyond the public face: the parts that keep state, each by itself. Not part of the API,
//! and compiled under the feature `fuzzing` only.

#![allow(missing_docs, reason = "hidden")]

use std::time::Duration;

use super::codec::Reader;
use super::frame::Fragment;
use super::reassembly::Reassembly;
use super::sent::{Cargo, Fates, Sent, Settled, Snapshot};
use super::wire::{Ack, FRAGMENT_BYTES};
use super::{ChannelId, Violation};
use crate::{Limits, Mono};

/// Bytes of every fragment but the last.
pub const FRAGMENT: usize = FRAGMENT_BYTES;

/// The incomplete messages of one link.
#[derive(Debug)]
pub struct Fragments(Reassembly);

impl Fragments {
    pub fn new(limits: &Limits) -> Self {
        Self(Reassembly::new(limits))
    }

    pub fn set_limits(&mut self, limits: &Limits) {
        self.0.set_limits(limits);
    }

    /// Takes in a fragment as the reader of frames lets it through; a message that it completes.
    pub fn handle(
        &mut self,
        now: Mono,
        channel: u8,
        priority: u8,
        (id, index, count): (u16, u32, u32),
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>, Violation> {
        let mut whole = None;
        let fragment = Fragment { id, index, count, bytes };
        self.0.handle(now, ChannelId(channel), priority, &fragment, |message| whole = Some(message.to_vec()))?;
        Ok(whole)
    }

    pub fn expire(&mut self, now: Mono) {
        self.0.expire(now);
    }

    pub fn trim(&mut self) {
        self.0.trim();
    }

    pub fn expires_at(&self) -> Option<Mono> {
        self.0.expires_at()
    }

    /// Bytes of heap, and the most that they may be.
    pub fn heap(&self, limits: &Limits) -> (usize, usize) {
        (self.0.heap(), Reassembly::heap_cap(limits))
    }

    /// Messages that were given up.
    pub fn given_up(&self) -> u64 {
        self.0.evicted + self.0.expired
    }
}

/// The sent packets of one link, each with one piece of reliable data, named by its offset.
#[derive(Debug)]
pub struct History {
    sent: Sent,
    pub fates: Log,
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Log {
    pub acked: Vec<usize>,
    pub lost: u64,
    pub delivered: Vec<u64>,
    pub resent: Vec<u64>,
}

impl Fates for Log {
    fn acked(&mut self, packet: &Settled, _was_lost: bool) {
        self.acked.push(packet.size);
    }

    fn lost(&mut self, _packet: &Settled) {
        self.lost += 1;
    }

    fn delivered(&mut self, cargo: Cargo) {
        if let Cargo::Reliable { offset, .. } = cargo {
            self.delivered.push(offset);
        }
    }

    fn resend(&mut self, cargo: Cargo) {
        if let Cargo::Reliable { offset, .. } = cargo {
            self.resent.push(offset);
        }
    }
}

impl History {
    pub fn new(first: u64) -> Self {
        Self { sent: Sent::new(first), fates: Log::default() }
    }

    pub fn next(&self) -> u64 {
        self.sent.next()
    }

    pub fn skip(&mut self) {
        self.sent.skip(&mut self.fates);
    }

    pub fn send(&mut self, now: Mono, size: usize, asks: bool, offset: u64) {
        self.sent.load(Cargo::Reliable { channel: ChannelId(1), length: 1, offset });
        self.sent.depart(now, size, asks, asks, Snapshot::default(), &mut self.fates);
    }

    /// Takes in the bytes of an ack as they stand in a packet.
    pub fn acknowledge(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let ack = Ack::parse(&mut Reader::new(bytes), self.sent.next())?;
        self.sent.check(&ack)?;
        self.sent.acknowledge(&ack, &mut self.fates);
        Ok(())
    }

    pub fn detect(&mut self, now: Mono, loss_delay: Duration, keep: Duration) {
        self.sent.detect(now, loss_delay.into(), keep.into(), &mut self.fates);
    }

    pub fn requeue(&mut self, count: usize) {
        self.sent.requeue_oldest(count, &mut self.fates);
    }

    pub fn trim(&mut self) {
        self.sent.trim();
    }

    /// Packets and bytes in flight.
    pub fn in_flight(&self) -> (usize, usize) {
        (self.sent.in_flight(), self.sent.bytes_in_flight())
    }

    /// Bytes of heap, and the most that they may be.
    pub fn heap(&self) -> (usize, usize) {
        (self.sent.heap(), Sent::heap_cap())
    }
}
