//! How many whole snapshots a client gets that cannot be told a difference.

use crate::tick::{Tick, TickRate};

/// A client that acknowledges nothing is sent whole snapshots, which are dear. It has as many in hand as there are ticks
/// in a second, more than a newcomer needs until its first acknowledgement has come back, and gets one more each second.
///
/// What is in hand is spent tick by tick only on a client that is heard of, or new; on one that is not, one a second. So
/// an outage costs little, and after it the client is shown the world within one round trip.
#[derive(Debug)]
pub(crate) struct Wholes {
    /// Ticks of one second; the most that is in hand, too.
    second: u32,
    in_hand: u32,
    /// When one was added.
    added: Option<Tick>,
    /// The tick of the last one.
    last: Option<Tick>,
    /// In which tick the client was last heard of.
    heard: Option<Tick>,
    /// Snapshots that were passed over.
    pub(crate) skipped: u64,
}

impl Wholes {
    pub(crate) fn new(rate: TickRate) -> Self {
        let second = u32::from(rate.per_second());
        Self { second, in_hand: second, added: None, last: None, heard: None, skipped: 0 }
    }

    /// A packet of the client is there.
    pub(crate) fn heard(&mut self, now: Tick) {
        self.heard = Some(now);
    }

    /// Whether what is sent in this tick may be whole. Does not spend it.
    pub(crate) fn may(&mut self, now: Tick) -> bool {
        if self.last == Some(now) {
            return true;
        }
        let added = *self.added.get_or_insert(now);
        let seconds = passed(added, now) / self.second;
        if seconds > 0 {
            self.in_hand = self.in_hand.saturating_add(seconds).min(self.second);
            self.added = Some(added + seconds * self.second);
        }
        // A newcomer can say nothing before it was told the time.
        let heard = passed(*self.heard.get_or_insert(now), now) <= self.second / 2;
        let rested = self.last.is_none_or(|last| passed(last, now) >= self.second);
        self.in_hand > 0 && (heard || rested)
    }

    /// What is sent in this tick is whole; all of one tick together counts once.
    pub(crate) fn spend(&mut self, now: Tick) {
        if self.last != Some(now) {
            self.last = Some(now);
            self.in_hand = self.in_hand.saturating_sub(1);
        }
    }
}

/// Ticks only go forward, so this is good for 2^32 of them.
fn passed(from: Tick, to: Tick) -> u32 {
    to.number().wrapping_sub(from.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(wholes: &mut Wholes, ticks: std::ops::Range<u32>, start: u32, hear: bool) -> usize {
        ticks
            .filter(|after| {
                let now = Tick::new(start) + *after;
                if hear {
                    wholes.heard(now);
                }
                let may = wholes.may(now);
                if may {
                    wholes.spend(now);
                }
                may
            })
            .count()
    }

    #[test]
    fn a_second_is_in_hand_and_then_it_is_one_each_second_also_across_the_wrap() {
        for start in [0, u32::MAX - 100] {
            let mut wholes = Wholes::new(TickRate::default());
            assert_eq!(sent(&mut wholes, 0..60, start, true), 60);
            assert_eq!(sent(&mut wholes, 60..660, start, true), 10);
        }
    }

    #[test]
    fn on_a_client_that_is_not_heard_of_nothing_in_hand_is_wasted() {
        let mut wholes = Wholes::new(TickRate::default());
        assert_eq!(sent(&mut wholes, 0..60, 0, false), 31, "for half a second it is new");
        assert_eq!(sent(&mut wholes, 60..660, 0, false), 10);
        assert_eq!(wholes.in_hand, 60 - 31);
        assert_eq!(sent(&mut wholes, 660..690, 0, true), 30);
    }

    #[test]
    fn all_types_of_one_tick_count_once() {
        let mut wholes = Wholes::new(TickRate::default());
        for _ in 0..5 {
            assert!(wholes.may(Tick::new(7)));
            wholes.spend(Tick::new(7));
        }
        assert_eq!(wholes.in_hand, 59);
    }
}
