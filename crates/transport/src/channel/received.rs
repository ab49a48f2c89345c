//! Which packets have arrived, and when the peer is to hear of it.

use super::codec::{Writer, varint_len};
use super::number::{earlier, is_before, later};
use super::wire::{DELAY_UNIT, HAS_ACK, MAX_ACK_RANGES, MIN_ACK};
use crate::Mono;
use crate::look::Look;
use crate::mutants::mutant;
use crate::time::Span;

/// How far below the newest packet another may still arrive.
pub(super) const WINDOW: u64 = 1024;
const WORDS: usize = (WINDOW / 64) as usize;

/// Asking packets that may arrive before an ack no longer waits for data to ride with.
const PROMPT: u32 = 2;

/// The least time between two acks that leave on their own: bulk data must not make its receiver send more packets than
/// a server takes from a client (240 a second; `security.md` §4).
pub(super) const SPACING: Span = Span::from_millis(8);

/// How many acks that the peer waits for may leave sooner, after a while with few. On a path of one millisecond each that
/// kept its space would cost several round trips; a short transfer is over after so many, and a long one has a window by
/// then that needs no more.
const URGENT: u64 = 16;

/// What has arrived. In this order in memory: all but one word of what comes last is not looked at.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Received {
    /// The number after the newest one.
    next: u64,
    /// When the newest arrived.
    newest_at: Mono,
    /// What lies below has been reported, and the peer has got the report.
    reported: u64,
    /// When an ack has to leave, with or without data.
    due: Option<Mono>,
    /// Before when it need not.
    not_before: Mono,
    /// The same had every ack kept its space; never further ahead than [`URGENT`] of them.
    spaced: Mono,
    /// Whether the peer waits for an ack of the packet that is being taken in.
    urgent: bool,
    /// Packets that ask for an ack and have arrived since the last one left.
    asking: u32,
    /// What of the last [`WINDOW`] numbers has arrived.
    bits: Bits,
}

impl Received {
    pub(super) const fn new(first: u64) -> Self {
        Self {
            next: first,
            newest_at: Mono::ZERO,
            bits: Bits([Word { seen: 0, taken: 0 }; WORDS]),
            reported: first,
            asking: 0,
            due: None,
            not_before: Mono::ZERO,
            spaced: Mono::ZERO,
            urgent: false,
        }
    }

    /// See [`Link::look_to_send`](super::Link::look_to_send).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.next);
        look.at(&self.asking);
        self.bits.look(self.next, look);
    }

    /// The number after the newest that has arrived.
    pub(super) const fn expected(&self) -> u64 {
        self.next
    }

    /// Whether a packet has arrived before, or is too old to tell.
    pub(super) fn is_duplicate(&self, number: u64) -> bool {
        if !is_before(number, self.next) || mutant(20) {
            return false;
        }
        self.next.wrapping_sub(number) > WINDOW || self.bits.has_seen(number)
    }

    /// The packet that will be noted next holds a probe: its sender waits for the ack.
    pub(super) const fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Notes a packet that is no duplicate. `taken` says that all of it has been processed; `asks` that it wants an
    /// ack.
    pub(super) fn record(&mut self, now: Mono, number: u64, taken: bool, asks: bool, max_ack_delay: Span) {
        let (gap, urgent) = (number != self.next, std::mem::take(&mut self.urgent));
        if !is_before(number, self.next) {
            let skipped = number.wrapping_sub(self.next).saturating_add(1).min(WINDOW);
            for back in 0..skipped {
                self.bits.clear(number.wrapping_sub(back));
            }
            self.next = number.wrapping_add(1);
            self.newest_at = now;
        }
        self.bits.set(number, taken);
        if !taken {
            return;
        }
        self.reported = earlier(self.reported, number);
        if asks {
            self.asking = self.asking.saturating_add(1);
            // A gap may be a loss, which the peer wants to know of at once.
            let delay = if gap || urgent || self.asking >= PROMPT { Span::ZERO } else { max_ack_delay };
            let space = self.spaced.after(now).saturating_sub(SPACING * URGENT);
            let not_before = if urgent { self.not_before.min(now + space) } else { self.not_before };
            let due = (now + delay).max(not_before);
            self.due = Some(self.due.map_or(due, |at| at.min(due)));
        }
    }

    /// Whether there is something to acknowledge that may ride with data.
    pub(super) const fn wants_ack(&self) -> bool {
        self.asking > 0
    }

    /// When an ack has to leave on its own.
    pub(super) const fn due(&self) -> Option<Mono> {
        self.due
    }

    /// The peer has got an ack whose largest number was `largest` and that left nothing out.
    pub(super) fn on_report_arrived(&mut self, largest: u64) {
        self.reported = later(self.reported, largest.wrapping_add(1));
    }

    /// Writes an ack into at most `room` bytes, as many ranges as fit. `None` if nothing fits or nothing is there to
    /// acknowledge. Otherwise what [`on_report_arrived`](Self::on_report_arrived) is to be told, if anything.
    pub(super) fn write_ack(&mut self, now: Mono, writer: &mut Writer<'_>, room: usize) -> Option<Option<u64>> {
        if room < MIN_ACK {
            return None;
        }
        let window_start = self.next.wrapping_sub(WINDOW);
        let bottom = later(self.reported, window_start);
        let mut at = self.next;
        // The newest packets may be among those that were not taken.
        at = at.wrapping_sub(self.bits.run_below(at, false, at.wrapping_sub(bottom)));
        if at == bottom {
            // What asked has fallen out of the window or is known already.
            self.asking = 0;
            self.due = None;
            return None;
        }
        let largest = at.wrapping_sub(1);
        let start = writer.len();
        writer.mark_first(HAS_ACK);
        writer.uint(largest, 3);
        let delay = now.after(self.newest_at).as_nanos() / DELAY_UNIT;
        writer.varint(delay.min(1 << 20) as u32);
        let more_at = writer.len();
        writer.u8(0);
        let mut more = 0;
        let mut complete = true;
        let mut gap = None;
        loop {
            let run = self.bits.run_below(at, true, at.wrapping_sub(bottom));
            let size = gap.map_or(0, |gap: u64| varint_len(gap as u32 - 1)) + varint_len(run as u32 - 1);
            if let Some(gap) = gap {
                if more + 1 == MAX_ACK_RANGES || writer.len() - start + size > room {
                    complete = false;
                    break;
                }
                // At most WINDOW, as is `run`.
                writer.varint(gap as u32 - 1);
                more += 1;
            }
            writer.varint(run as u32 - 1);
            at = at.wrapping_sub(run);
            let missing = self.bits.run_below(at, false, at.wrapping_sub(bottom));
            at = at.wrapping_sub(missing);
            if at == bottom {
                break;
            }
            gap = Some(missing);
        }
        writer.patch(more_at, more as u8);
        self.asking = 0;
        self.due = None;
        self.not_before = now + SPACING;
        self.spaced = self.spaced.clamp(now, now + SPACING * URGENT) + SPACING;
        Some(complete.then_some(largest))
    }
}

/// Of WINDOW numbers: which have arrived, and which of them have been taken in and may be acknowledged; number n at bit
/// n mod 64 of word n / 64 mod WORDS.
#[derive(Debug)]
struct Bits([Word; WORDS]);

#[derive(Clone, Copy, Debug)]
struct Word {
    seen: u64,
    taken: u64,
}

impl Bits {
    const fn place(number: u64) -> (usize, u32) {
        ((number / 64) as usize % WORDS, (number % 64) as u32)
    }

    /// Looks at where this number is.
    #[inline]
    fn look(&self, number: u64, look: &mut impl Look) {
        look.at(&self.0[Self::place(number).0].seen);
    }

    const fn has_seen(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.0[word].seen >> bit & 1 != 0
    }

    const fn set(&mut self, number: u64, taken: bool) {
        let (word, bit) = Self::place(number);
        self.0[word].seen |= 1 << bit;
        self.0[word].taken |= (taken as u64) << bit;
    }

    const fn clear(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        self.0[word].seen &= !(1 << bit);
        self.0[word].taken &= !(1 << bit);
    }

    /// How many numbers directly below `number` have been taken in, or have not, `limit` at most.
    fn run_below(&self, number: u64, taken: bool, limit: u64) -> u64 {
        let mut run = 0;
        while run < limit {
            let (word, bit) = Self::place(number.wrapping_sub(1).wrapping_sub(run));
            let word = if taken { self.0[word].taken } else { !self.0[word].taken };
            // The bits of this word from `bit` downwards.
            let here = u64::from((word << (63 - bit)).leading_ones().min(bit + 1));
            run += here;
            if here < u64::from(bit) + 1 {
                break;
            }
        }
        run.min(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Reader;
    use super::super::wire::{Head, write_head};
    use super::*;
    use crate::{Random, SeededRandom};

    const DELAY: Span = Span::from_millis(25);

    fn acked(received: &mut Received, room: usize, next: u64) -> Option<Vec<(u64, u64)>> {
        let mut buf = [0; 256];
        let mut writer = Writer::new(&mut buf);
        write_head(&mut writer, 0, 0);
        received.write_ack(Mono::ZERO, &mut writer, room)?;
        let length = writer.len();
        let head = Head::parse(&mut Reader::new(&buf[..length]), 0, next).unwrap();
        Some(head.ack.unwrap().ranges().collect())
    }

    #[test]
    fn ranges_tell_exactly_what_arrived_whatever_the_order_and_wherever_the_numbers_start() {
        for seed in 0..300 {
            let mut random = SeededRandom::new(seed);
            let first = [0, (1 << 16) - 40, (1 << 24) - 40, (1 << 63) - 40, u64::MAX - 40][seed as usize % 5];
            let mut received = Received::new(first);
            let mut numbers: Vec<u64> = (0..300).filter(|_| random.chance(0.9)).collect();
            for index in 0..numbers.len() {
                let other = (index + random.below(8) as usize).min(numbers.len() - 1);
                numbers.swap(index, other);
            }
            for number in &numbers {
                let number = first.wrapping_add(*number);
                assert!(!received.is_duplicate(number));
                received.record(Mono::ZERO, number, true, true, DELAY);
                assert!(received.is_duplicate(number));
            }
            let ranges = acked(&mut received, 200, first.wrapping_add(300)).unwrap();
            let mut seen: Vec<u64> = Vec::new();
            for (low, high) in &ranges {
                seen.extend((0..=high.wrapping_sub(*low)).map(|up| low.wrapping_add(up).wrapping_sub(first)));
            }
            seen.sort_unstable();
            numbers.sort_unstable();
            if ranges.len() < MAX_ACK_RANGES {
                assert_eq!(seen, numbers);
            } else {
                assert!(numbers.ends_with(&seen));
            }
        }
    }

    #[test]
    fn what_is_too_old_counts_as_a_duplicate() {
        let mut received = Received::new(0);
        received.record(Mono::ZERO, 5000, true, true, DELAY);
        assert!(received.is_duplicate(5000 - WINDOW));
        assert!(!received.is_duplicate(5001 - WINDOW));
    }

    #[test]
    fn a_packet_that_was_not_taken_is_neither_acked_nor_taken_again() {
        let mut received = Received::new(0);
        received.record(Mono::ZERO, 0, true, true, DELAY);
        received.record(Mono::ZERO, 1, false, true, DELAY);
        received.record(Mono::ZERO, 2, true, true, DELAY);
        received.record(Mono::ZERO, 3, false, true, DELAY);
        assert!(received.is_duplicate(1));
        assert_eq!(acked(&mut received, 100, 4), Some(vec![(2, 2), (0, 0)]));
    }

    #[test]
    fn what_the_peer_knows_is_not_repeated_but_a_late_packet_below_it_is_reported() {
        let mut received = Received::new(0);
        for number in (0..10).filter(|number| *number != 4) {
            received.record(Mono::ZERO, number, true, true, DELAY);
        }
        received.on_report_arrived(8);
        assert_eq!(acked(&mut received, 100, 20), Some(vec![(9, 9)]));
        received.record(Mono::ZERO, 4, true, true, DELAY);
        assert_eq!(acked(&mut received, 100, 20), Some(vec![(0x4, 9)]));
    }

    #[test]
    fn an_ack_waits_for_data_unless_there_is_a_gap_or_a_second_packet() {
        let at = |millis: u64| Mono::from_nanos(millis * 1_000_000);
        let mut received = Received::new(0);
        received.record(at(1), 0, true, false, DELAY);
        assert_eq!(received.due(), None);
        received.record(at(1), 1, true, true, DELAY);
        assert_eq!(received.due(), Some(at(26)));
        received.record(at(2), 2, true, true, DELAY);
        assert_eq!(received.due(), Some(at(2)));
        acked(&mut received, 100, 9).unwrap();
        assert_eq!(received.due(), None);
        received.record(at(3), 4, true, true, DELAY);
        assert_eq!(received.due(), Some(at(8)), "the last one has only just left");
        received.record(at(30), 5, true, true, DELAY);
        acked(&mut received, 100, 9).unwrap();
        received.record(at(40), 7, true, true, DELAY);
        assert_eq!(received.due(), Some(at(40)));
    }

    /// They had counted without bound: where many rode with data, the one that a sender waited for came seconds late.
    #[test]
    fn an_ack_that_is_waited_for_is_not_put_off_because_others_have_ridden_with_data() {
        let mut received = Received::new(0);
        for number in 0..1_000 {
            received.record(Mono::ZERO, number, true, true, DELAY);
            acked(&mut received, 100, 1_001).unwrap();
        }
        received.hurry();
        received.record(Mono::ZERO, 1_000, true, true, DELAY);
        assert!(received.due().is_some_and(|due| due <= Mono::ZERO + SPACING));
    }

    #[test]
    fn acks_that_are_waited_for_are_prompt_and_leave_125_times_a_second_in_the_long_run() {
        let mut received = Received::new(0);
        let mut acks = Vec::new();
        for millis in 0..1_000 {
            let now = Mono::from_nanos(millis * 1_000_000);
            received.hurry();
            received.record(now, millis, true, true, DELAY);
            if received.due().is_some_and(|due| due <= now) {
                let mut buf = [0; 100];
                let complete = received.write_ack(now, &mut Writer::new(&mut buf), 100).unwrap();
                received.on_report_arrived(complete.unwrap());
                acks.push(millis);
            }
        }
        assert_eq!(acks[..URGENT as usize], (0..URGENT).collect::<Vec<_>>());
        let (last, long_ago) = (acks[acks.len() - 1], acks[acks.len() - 101]);
        assert_eq!(last - long_ago, (SPACING * 100).as_nanos() / 1_000_000);
    }

    #[test]
    fn an_ack_keeps_within_its_room() {
        let mut received = Received::new(0);
        for number in (0..200).step_by(2) {
            received.record(Mono::ZERO, number, true, true, DELAY);
        }
        let few = acked(&mut received, MIN_ACK, 300).unwrap();
        assert!(few.len() <= 4, "{few:?}");
        assert_eq!(few[0], (198, 198));
        received.record(Mono::ZERO, 200, true, true, DELAY);
        assert_eq!(acked(&mut received, 100, 300).unwrap().len(), MAX_ACK_RANGES);
    }
}
