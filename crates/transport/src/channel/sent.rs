//! The packets that have left, and what became of them.

use std::ops::Range;

use super::number::{is_before, later};
use super::rare_queue::RareQueue;
use super::short_queue::ShortQueue;
use super::wire::Ack;
use super::{ChannelId, Violation};
use crate::Mono;
use crate::look::Look;
use crate::mutants::{mutant, work};
use crate::time::Span;

/// How many packets are remembered; `security.md` §4. One that is pushed out counts as lost.
pub(super) const HISTORY: usize = 1024;

/// How many pieces of cargo are remembered before old packets are pushed out for them.
const CARGO: usize = 2 * HISTORY - MAX_CARGO;

/// Pieces that one packet may carry: enough for any sensible packet.
pub(super) const MAX_CARGO: usize = 64;

/// How many later packets have to be acknowledged before one counts as lost; RFC 9002 §6.1.1.
const REORDER: u32 = 3;

/// The reordering that a path may teach us to tolerate, in packets.
const MAX_REORDER: u32 = 64;

/// What a packet carried, as far as somebody must hear of its fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cargo {
    /// Bytes of a reliable channel, by their place in the channel's send buffer.
    Reliable { channel: ChannelId, length: u16, offset: u64 },
    /// The room that we have on a reliable ordered channel.
    Window { channel: ChannelId },
    /// A report of everything that has arrived, up to this number.
    Report { largest: u64 },
    /// Our goodbye.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The number was left out.
    Skipped,
    /// Carries nothing that asks for an ack.
    Unasking,
    InFlight,
    Lost,
    Acked,
}

/// What congestion control wants to remember of the moment at which a packet left.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Snapshot {
    pub(super) delivered: u64,
    pub(super) delivered_at: Mono,
    pub(super) first_sent_at: Mono,
    pub(super) app_limited: bool,
}

/// 64 bytes: a line of the processor's caches.
#[derive(Clone, Debug)]
struct Packet {
    sent_at: Mono,
    /// Of its [`Snapshot`].
    delivered: u64,
    delivered_at: Mono,
    first_sent_at: Mono,
    /// Its first piece; most have no more.
    cargo: Option<Cargo>,
    /// The number of the first of its further pieces, and how many these are.
    more_from: u32,
    more: u16,
    size: u16,
    fate: Fate,
    app_limited: bool,
    /// Whether its loss would hold something up.
    reliable: bool,
    /// Whether its cargo is to be sent again already.
    requeued: bool,
    /// Whether it only tries how large packets may be.
    sizing: bool,
}

const _: () = assert!(size_of::<Option<Packet>>() == 64);

/// A packet whose fate has become known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    pub(super) sent_at: Mono,
    pub(super) size: usize,
    pub(super) snapshot: Snapshot,
    /// Whether it only tried how large packets may be: its loss says nothing of congestion.
    pub(super) sizing: bool,
}

/// Who hears what became of packets and of what they carried.
pub(super) trait Fates {
    /// An ack has arrived for the first time. `was_lost` says that the packet had been given up.
    fn acked(&mut self, packet: &Settled, was_lost: bool);
    /// The packet is given up.
    fn lost(&mut self, packet: &Settled);
    /// The cargo of an acknowledged packet.
    fn delivered(&mut self, cargo: Cargo);
    /// The cargo of a packet that is given up, or to be sent again as a probe.
    fn resend(&mut self, cargo: Cargo);
}

/// The sent packets, oldest first, without gap. In this order in memory; see [`State`](super::link).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Sent {
    packets: ShortQueue<Packet>,
    /// What was loaded first since the last packet left.
    loaded: Option<Cargo>,
    next: u64,
    /// The number after the newest acknowledged one.
    acked: u64,
    /// The number of the first packet in the queue.
    base: u64,
    /// Of the further pieces: the number of the first that is kept, of the first that has not left, and after the newest.
    cargo_base: u32,
    cargo_left: u32,
    cargo_next: u32,
    /// The number after the newest that was left out.
    whole_from: u64,
    /// The first number of all.
    first: u64,
    in_flight: u32,
    bytes_in_flight: u32,
    reliable_in_flight: u32,
    /// Packets that a path has overtaken others by without loss, + 1.
    reorder: u32,
    /// When the oldest packet in flight will count as lost if no ack arrives for it.
    loss_at: Option<Mono>,
    /// What packets carry beside their first piece.
    cargo: RareQueue<Cargo>,
    /// The numbers that were left out and may still be acknowledged by a liar.
    skipped: RareQueue<u64>,
}

impl Sent {
    pub(super) const fn new(first: u64) -> Self {
        Self {
            packets: ShortQueue::new(),
            loaded: None,
            base: first,
            cargo_base: 0,
            cargo_left: 0,
            cargo_next: 0,
            first,
            next: first,
            acked: first,
            whole_from: first,
            cargo: RareQueue::new(),
            skipped: RareQueue::new(),
            in_flight: 0,
            bytes_in_flight: 0,
            reliable_in_flight: 0,
            reorder: REORDER,
            loss_at: None,
        }
    }

    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        if let Some(packet) = self.packets.front() {
            look.at(&packet.delivered);
            look.at(&packet.more_from);
        }
        look.at(&self.next);
        look.at(&self.in_flight);
    }

    /// See [`Link::look_far`](super::Link::look_far).
    #[inline]
    pub(super) fn look_far(&self, look: &mut impl Look) {
        if let Some(packet) = self.packets.back() {
            look.at(&packet.delivered);
        }
    }

    /// The number of the next packet.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The number after the newest acknowledged one.
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    pub(super) const fn bytes_in_flight(&self) -> usize {
        self.bytes_in_flight as usize
    }

    /// Packets in flight whose loss would hold something up.
    pub(super) const fn reliable_in_flight(&self) -> usize {
        self.reliable_in_flight as usize
    }

    /// Packets that ask for an ack and are in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    pub(super) const fn loss_at(&self) -> Option<Mono> {
        self.loss_at
    }

    /// Leaves out the next number.
    pub(super) fn skip(&mut self, fates: &mut impl Fates) {
        if self.skipped.len() == HISTORY / 64 {
            self.skipped.pop_front();
        }
        self.skipped.push_back(self.next);
        self.push(Mono::ZERO, Fate::Skipped, 0, false, Snapshot::default(), fates);
        self.whole_from = self.next;
    }

    /// Notes one more piece of what the next packet carries.
    pub(super) fn load(&mut self, cargo: Cargo) {
        if self.loaded.is_none() {
            self.loaded = Some(cargo);
        } else {
            self.cargo.push_back(cargo);
            self.cargo_next = self.cargo_next.wrapping_add(1);
        }
    }

    /// Notes that a packet has left with everything that was loaded since the one before.
    pub(super) fn depart(
        &mut self,
        now: Mono,
        size: usize,
        asks: bool,
        reliable: bool,
        snapshot: Snapshot,
        fates: &mut impl Fates,
    ) {
        let fate = if asks { Fate::InFlight } else { Fate::Unasking };
        self.push(now, fate, size, reliable, snapshot, fates);
        if asks {
            self.in_flight += 1;
            self.bytes_in_flight += size as u32;
            self.reliable_in_flight += u32::from(reliable);
        }
    }

    /// Notes that the packet that has just left only tries how large packets may be.
    pub(super) fn mark_sizing(&mut self) {
        if let Some(packet) = self.packets.back_mut() {
            packet.sizing = true;
        }
    }

    /// Gives up the packet under way that tries how large packets may be.
    pub(super) fn lose_sizing(&mut self, fates: &mut impl Fates) {
        let under_way = |packet: &Packet| packet.sizing && packet.fate == Fate::InFlight;
        let index = self.packets.iter().position(under_way);
        if let Some(index) = index {
            self.lose(index, fates);
        }
    }

    fn push(
        &mut self,
        sent_at: Mono,
        fate: Fate,
        size: usize,
        reliable: bool,
        snapshot: Snapshot,
        fates: &mut impl Fates,
    ) {
        while self.packets.len() >= HISTORY || self.cargo_next.wrapping_sub(self.cargo_base) as usize > CARGO {
            if self.packets.is_empty() {
                break;
            }
            self.lose(0, fates);
            self.pop();
        }
        let Snapshot { delivered, delivered_at, first_sent_at, app_limited } = snapshot;
        let (more_from, mut cargo, mut more) = (self.cargo_left, None, 0);
        if fate != Fate::Skipped {
            cargo = self.loaded.take();
            // A packet has fewer pieces than bytes.
            more = self.cargo_next.wrapping_sub(more_from) as u16;
            self.cargo_left = self.cargo_next;
        }
        self.packets.push_back(Packet {
            sent_at,
            delivered,
            delivered_at,
            first_sent_at,
            cargo,
            more_from,
            more,
            size: size as u16,
            fate,
            app_limited,
            reliable,
            requeued: false,
            sizing: false,
        });
        self.next = self.next.wrapping_add(1);
    }

    /// Checks an ack against what was sent, without any effect.
    pub(super) fn check(&self, ack: &Ack<'_>) -> Result<(), Violation> {
        if mutant(25) {
            return Ok(());
        }
        if !is_before(ack.largest, self.next) {
            return Err(Violation::AckOfUnsent);
        }
        for (low, high) in ack.ranges() {
            work(if mutant(24) { high.wrapping_sub(low) } else { 1 });
            if is_before(low, self.first) || is_before(high, low) {
                return Err(Violation::AckOfUnsent);
            }
            // Most acks are of nothing so old.
            let suspect = is_before(low, self.whole_from);
            if suspect && self.skipped.iter().any(|number| !is_before(*number, low) && !is_before(high, *number)) {
                return Err(Violation::AckOfSkipped);
            }
        }
        Ok(())
    }

    /// Takes in an ack that has been [checked](Self::check). Returns the departure of the newest packet that it
    /// acknowledges, if that is news and the packet asked for it.
    pub(super) fn acknowledge(&mut self, ack: &Ack<'_>, fates: &mut impl Fates) -> Option<Mono> {
        let mut newest = None;
        for (low, high) in ack.ranges() {
            if is_before(high, self.base) {
                break;
            }
            let from = later(low, self.base);
            let first = from.wrapping_sub(self.base) as usize;
            let last = high.wrapping_sub(self.base) as usize;
            for index in first..=last {
                work(1);
                if self.settle(index, fates) && high == ack.largest && index == last {
                    newest = self.packets.get(index).map(|packet| packet.sent_at);
                }
            }
        }
        self.acked = later(self.acked, ack.largest.wrapping_add(1));
        newest
    }

    /// Notes the ack of one packet; true if it is news and the packet had asked for it.
    fn settle(&mut self, index: usize, fates: &mut impl Fates) -> bool {
        let newest_known = self.acked;
        let number = self.base.wrapping_add(index as u64);
        let Some(packet) = self.packets.get_mut(index) else { return false };
        let (was_lost, asked) = match packet.fate {
            Fate::InFlight => (false, true),
            Fate::Lost => (true, true),
            Fate::Unasking => (false, false),
            Fate::Acked | Fate::Skipped => return false,
        };
        packet.fate = Fate::Acked;
        let (size, reliable, load) = (usize::from(packet.size), packet.reliable, packet.load(self.cargo_base));
        if asked {
            let settled = packet.settled();
            if was_lost {
                // The path reorders more than we thought.
                let overtaken = newest_known.wrapping_sub(number).min(MAX_REORDER.into()) as u32;
                self.reorder = self.reorder.max(overtaken);
            } else {
                self.leave_flight(size, reliable);
            }
            fates.acked(&settled, was_lost);
        }
        load.pieces(&self.cargo).for_each(|cargo| fates.delivered(cargo));
        asked
    }

    /// Gives up what by now counts as lost, and forgets what no ack can change any more. `keep` is for how long the
    /// ack of a lost packet may still turn up.
    pub(super) fn detect(&mut self, now: Mono, loss_delay: Span, keep: Span, fates: &mut impl Fates) {
        self.loss_at = None;
        // Packets up to and including the newest acknowledged one; the rest cannot be judged yet.
        let known = if is_before(self.base, self.acked) { self.acked.wrapping_sub(self.base) } else { 0 };
        for index in 0..known.saturating_sub(1) {
            let Some(packet) = self.packets.get(index as usize).filter(|packet| packet.fate == Fate::InFlight) else {
                continue;
            };
            let deadline = packet.sent_at + loss_delay;
            if known - 1 - index >= self.reorder.into() || deadline <= now {
                self.lose(index as usize, fates);
            } else if self.loss_at.is_none_or(|at| deadline < at) {
                self.loss_at = Some(deadline);
            }
        }
        while let Some(front) = self.packets.front() {
            let over = match front.fate {
                Fate::Skipped | Fate::Acked => true,
                // Remembered while the report in it may be acknowledged.
                Fate::Unasking => is_before(self.base, self.acked),
                Fate::Lost => now.after(front.sent_at) > keep,
                Fate::InFlight => false,
            };
            if !over {
                break;
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(packet) = self.packets.pop_front() {
            for _ in 0..packet.more {
                self.cargo.pop_front();
            }
            self.cargo_base = self.cargo_base.wrapping_add(packet.more.into());
            self.base = self.base.wrapping_add(1);
        }
    }

    fn lose(&mut self, index: usize, fates: &mut impl Fates) {
        let Some(packet) = self.packets.get_mut(index) else { return };
        if packet.fate != Fate::InFlight {
            return;
        }
        packet.fate = Fate::Lost;
        let again = !packet.requeued;
        let settled = packet.settled();
        let (size, reliable, load) = (usize::from(packet.size), packet.reliable, packet.load(self.cargo_base));
        self.leave_flight(size, reliable);
        fates.lost(&settled);
        if again {
            load.pieces(&self.cargo).for_each(|cargo| fates.resend(cargo));
        }
    }

    fn leave_flight(&mut self, size: usize, reliable: bool) {
        self.in_flight -= 1;
        self.bytes_in_flight -= size as u32;
        self.reliable_in_flight -= u32::from(reliable);
    }

    /// Lets the cargo of the oldest `count` reliable packets in flight be sent again, though they are not given up.
    pub(super) fn requeue_oldest(&mut self, count: usize, fates: &mut impl Fates) {
        let oldest = self
            .packets
            .iter_mut()
            .filter(|packet| packet.fate == Fate::InFlight && packet.reliable && !packet.requeued)
            .take(count);
        for packet in oldest {
            packet.requeued = true;
            packet.load(self.cargo_base).pieces(&self.cargo).for_each(|cargo| fates.resend(cargo));
        }
    }

    /// Forgets what is settled and gives the memory back; only where nothing is in flight.
    pub(super) fn trim(&mut self) {
        if self.in_flight == 0 {
            while !self.packets.is_empty() {
                self.pop();
            }
            self.packets.trim();
            self.cargo.trim();
        }
    }

    /// The most that [`heap`](Self::heap) can be.
    pub(super) fn heap_cap() -> usize {
        ShortQueue::<Packet>::heap_cap(HISTORY)
            + RareQueue::<Cargo>::heap_cap(2 * HISTORY)
            + RareQueue::<u64>::heap_cap(HISTORY / 64)
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.packets.heap() + self.cargo.heap() + self.skipped.heap()
    }
}

impl Packet {
    fn settled(&self) -> Settled {
        let Self { sent_at, delivered, delivered_at, first_sent_at, app_limited, sizing, .. } = *self;
        let snapshot = Snapshot { delivered, delivered_at, first_sent_at, app_limited };
        Settled { sent_at, size: usize::from(self.size), snapshot, sizing }
    }

    /// What it carries; `base` is the number of the first of the further pieces that are kept.
    fn load(&self, base: u32) -> Load {
        let start = self.more_from.wrapping_sub(base) as usize;
        Load { first: self.cargo, more: start..start + usize::from(self.more) }
    }
}

/// What a packet carries: its first piece, and where the others are.
struct Load {
    first: Option<Cargo>,
    more: Range<usize>,
}

impl Load {
    #[inline]
    fn pieces(self, cargo: &RareQueue<Cargo>) -> impl Iterator<Item = Cargo> {
        self.first.into_iter().chain(cargo.range(self.more).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Reader;
    use super::super::wire::Head;
    use super::*;

    const DELAY: Span = Span::from_millis(100);
    const KEEP: Span = Span::from_millis(500);

    #[derive(Default)]
    struct Log {
        acked: Vec<bool>,
        lost: usize,
        delivered: Vec<u64>,
        resent: Vec<u64>,
    }

    impl Fates for Log {
        fn acked(&mut self, _: &Settled, was_lost: bool) {
            self.acked.push(was_lost);
        }
        fn lost(&mut self, _: &Settled) {
            self.lost += 1;
        }
        fn delivered(&mut self, cargo: Cargo) {
            self.delivered.push(offset(cargo));
        }
        fn resend(&mut self, cargo: Cargo) {
            self.resent.push(offset(cargo));
        }
    }

    fn offset(cargo: Cargo) -> u64 {
        match cargo {
            Cargo::Reliable { offset, .. } => offset,
            other => panic!("{other:?}"),
        }
    }

    fn at(millis: u64) -> Mono {
        Mono::from_nanos(millis * 1_000_000)
    }

    /// Sends `count` packets, 1 ms apart, each with its index as cargo.
    fn send(sent: &mut Sent, log: &mut Log, count: u64) {
        for index in 0..count {
            sent.load(Cargo::Reliable { channel: ChannelId(1), length: 1, offset: index });
            sent.depart(at(index), 100, true, true, Snapshot::default(), log);
        }
    }

    /// Acknowledges `low..=high`, whose distance is below 128.
    fn ack(sent: &mut Sent, log: &mut Log, now: Mono, low: u64, high: u64) {
        let bytes = [4, 0, high as u8, (high >> 8) as u8, (high >> 16) as u8, 0, 0, (high.wrapping_sub(low)) as u8];
        let head = Head::parse(&mut Reader::new(&bytes), 0, sent.next()).unwrap();
        let ack = head.ack.unwrap();
        sent.check(&ack).unwrap();
        sent.acknowledge(&ack, log);
        sent.detect(now, DELAY, KEEP, log);
    }

    #[test]
    fn a_packet_is_lost_when_three_later_ones_have_arrived_or_enough_time_has_passed() {
        for first in [0, (1 << 24) - 3, (1 << 63) - 3, u64::MAX - 3] {
            let (mut sent, mut log) = (Sent::new(first), Log::default());
            send(&mut sent, &mut log, 6);
            let number = |index: u64| first.wrapping_add(index);
            ack(&mut sent, &mut log, at(50), number(2), number(2));
            assert_eq!((log.lost, sent.loss_at()), (0, Some(at(100))), "two and one before it may only be late");
            ack(&mut sent, &mut log, at(51), number(3), number(3));
            assert_eq!((log.lost, &log.resent[..], sent.loss_at()), (1, &[0][..], Some(at(101))));
            sent.detect(at(101), DELAY, KEEP, &mut log);
            assert_eq!((log.lost, &log.resent[..]), (2, &[0, 1][..]));
            assert_eq!((sent.in_flight(), sent.bytes_in_flight(), sent.reliable_in_flight()), (2, 200, 2));
        }
    }

    #[test]
    fn a_late_ack_of_a_lost_packet_counts_and_teaches_patience() {
        let (mut sent, mut log) = (Sent::new(0), Log::default());
        send(&mut sent, &mut log, 20);
        ack(&mut sent, &mut log, at(30), 6, 6);
        assert_eq!(log.lost, 4);
        ack(&mut sent, &mut log, at(31), 0, 5);
        assert_eq!(log.acked.iter().filter(|was_lost| **was_lost).count(), 4);
        assert_eq!(log.delivered.len(), 7);
        // Now six are needed where three were enough.
        ack(&mut sent, &mut log, at(32), 12, 12);
        assert_eq!(log.lost, 4);
        ack(&mut sent, &mut log, at(33), 14, 14);
        assert_eq!(log.lost, 5);
    }

    #[test]
    fn what_is_requeued_as_a_probe_is_not_resent_again_when_it_is_given_up() {
        let (mut sent, mut log) = (Sent::new(0), Log::default());
        send(&mut sent, &mut log, 8);
        sent.requeue_oldest(2, &mut log);
        assert_eq!((&log.resent[..], log.lost), (&[0, 1][..], 0));
        ack(&mut sent, &mut log, at(20), 7, 7);
        assert_eq!((&log.resent[..], log.lost), (&[0, 1, 2, 3, 4][..], 5));
    }

    #[test]
    fn the_history_is_bounded_and_what_falls_out_counts_as_lost() {
        let (mut sent, mut log) = (Sent::new(0), Log::default());
        send(&mut sent, &mut log, 2 * HISTORY as u64);
        assert_eq!((log.lost, sent.in_flight(), sent.packets.len()), (HISTORY, HISTORY, HISTORY));
        assert!(sent.heap() <= Sent::heap_cap());
        let top = sent.next() - 1;
        ack(&mut sent, &mut log, at(5000), top, top);
        assert_eq!(sent.in_flight(), 0);
    }

    #[test]
    fn everything_settled_is_forgotten() {
        let (mut sent, mut log) = (Sent::new(0), Log::default());
        for _ in 0..50 {
            send(&mut sent, &mut log, 10);
            sent.depart(at(10), 30, false, false, Snapshot::default(), &mut log);
            let top = sent.next() - 2;
            ack(&mut sent, &mut log, at(20), top - 9, top);
        }
        assert!(sent.packets.len() <= 2, "{}", sent.packets.len());
        assert_eq!(log.delivered.len(), 500);
        sent.trim();
        assert_eq!((sent.packets.heap(), sent.cargo.heap()), (0, 0));
    }
}
