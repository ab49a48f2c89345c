//! Which snapshots a client has.

use bevy_ecs::component::Component;

use super::FULL_EVERY;
use super::wholes::Wholes;
use crate::tick::{Tick, TickRate};

/// How many ticks back it is remembered what was sent and acknowledged.
const WINDOW: usize = 4096;

/// Server: which snapshots a client has processed; on its connection's entity.
///
/// A tick counts as acknowledged only if its snapshot was sent and the client has said that it processed it: decoded,
/// and handed to the application.
#[derive(Component, Debug)]
pub struct SnapshotAcks {
    newest_sent: Option<Tick>,
    newest_acked: Option<Tick>,
    sent: Bits,
    acked: Bits,
    /// Snapshots up to this tick are no baseline: the client has lost them.
    forgotten: Option<Tick>,
    full_every: u32,
    pub(super) wholes: Wholes,
}

#[derive(Debug)]
struct Bits(Box<[u64; WINDOW / 64]>);

impl Bits {
    fn new() -> Self {
        Self(Box::new([0; WINDOW / 64]))
    }

    fn get(&self, tick: Tick) -> bool {
        let place = tick.number() as usize % WINDOW;
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn set(&mut self, tick: Tick, value: bool) {
        let place = tick.number() as usize % WINDOW;
        let bit = 1 << (place % 64);
        if value {
            self.0[place / 64] |= bit;
        } else {
            self.0[place / 64] &= !bit;
        }
    }
}

impl SnapshotAcks {
    pub(crate) fn new(rate: TickRate) -> Self {
        Self {
            newest_sent: None,
            newest_acked: None,
            sent: Bits::new(),
            acked: Bits::new(),
            forgotten: None,
            full_every: u32::from(rate.per_second()) * FULL_EVERY.as_secs() as u32,
            wholes: Wholes::new(rate),
        }
    }

    /// Whether the client has processed the snapshot of this tick. Remembered for 4096 ticks after it was sent.
    pub fn acked(&self, tick: Tick) -> bool {
        self.was_sent(tick) && self.acked.get(tick)
    }

    /// The newest tick whose snapshot the client has processed.
    pub fn newest_acked(&self) -> Option<Tick> {
        self.newest_acked
    }

    /// The newest tick whose snapshot was sent.
    pub fn newest_sent(&self) -> Option<Tick> {
        self.newest_sent
    }

    /// Snapshots that were passed over, because they would have been whole and the client acknowledges none; see
    /// [`SnapshotSender::send`](super::SnapshotSender::send).
    pub fn passed_over(&self) -> u64 {
        self.wholes.skipped
    }

    /// A packet of the client is there.
    pub(crate) fn heard(&mut self, now: Tick) {
        self.wholes.heard(now);
    }

    /// Whether the client may be told the difference from this tick's snapshot.
    pub(crate) fn is_baseline(&self, tick: Tick) -> bool {
        self.acked(tick) && self.forgotten.is_none_or(|forgotten| tick.is_after(forgotten))
    }

    /// The snapshot of this tick leaves.
    pub(crate) fn sent(&mut self, tick: Tick) {
        if let Some(newest) = self.newest_sent {
            let gap = tick.since(newest);
            if gap <= 0 {
                return;
            }
            for passed in 1..=(gap as usize).min(WINDOW) {
                let tick = newest + passed as u32;
                self.sent.set(tick, false);
                self.acked.set(tick, false);
            }
            if gap as usize >= WINDOW {
                self.newest_acked = None;
            }
        }
        self.sent.set(tick, true);
        self.newest_sent = Some(tick);
    }

    /// The client says what it has processed; returns how much of that was never sent.
    pub(crate) fn acknowledge(&mut self, newest: Tick, mask: u32) -> u32 {
        let mut unknown = 0;
        for back in (0..=32).filter(|&back| back == 0 || mask >> (back - 1) & 1 == 1) {
            let tick = newest - back;
            if self.was_sent(tick) {
                self.acked.set(tick, true);
                if self.newest_acked.is_none_or(|acked| tick.is_after(acked)) {
                    self.newest_acked = Some(tick);
                }
            } else if !self.is_forgotten(tick) {
                unknown += 1;
            }
        }
        unknown
    }

    /// The client has lost its baselines: none up to `now` is one any more. False if it asked too soon after another time.
    pub(crate) fn forget(&mut self, now: Tick) -> bool {
        if self.forgotten.is_some_and(|last| now.since(last).unsigned_abs() < self.full_every) {
            return false;
        }
        self.forgotten = Some(now);
        true
    }

    fn was_sent(&self, tick: Tick) -> bool {
        let back = self.newest_sent.map(|newest| newest.since(tick));
        back.is_some_and(|back| (0..WINDOW as i32).contains(&back)) && self.sent.get(tick)
    }

    /// Whether it is too long ago to know.
    fn is_forgotten(&self, tick: Tick) -> bool {
        self.newest_sent.is_some_and(|newest| newest.since(tick) >= WINDOW as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acks(sent: impl IntoIterator<Item = u32>) -> SnapshotAcks {
        let mut acks = SnapshotAcks::new(TickRate::default());
        sent.into_iter().for_each(|tick| acks.sent(Tick::new(tick)));
        acks
    }

    #[test]
    fn only_what_was_sent_can_be_acknowledged() {
        let mut acks = acks([10, 12, 14]);
        assert_eq!(acks.acknowledge(Tick::new(14), 0b1111), 2, "13 and 11 were not sent");
        for (tick, acked) in [(10, true), (11, false), (12, true), (13, false), (14, true), (15, false)] {
            assert_eq!(acks.acked(Tick::new(tick)), acked, "{tick}");
        }
        assert_eq!(acks.acknowledge(Tick::new(1000), u32::MAX), 33);
        assert_eq!(acks.newest_acked(), Some(Tick::new(14)));
    }

    #[test]
    fn acknowledgements_are_remembered_for_4096_ticks_also_across_the_wrap() {
        for start in [0, u32::MAX - 100] {
            let mut acks = acks([start]);
            let at = |after: u32| Tick::new(start) + after;
            acks.acknowledge(at(0), 0);
            acks.sent(at(300));
            acks.sent(at(4095));
            assert!(acks.acked(at(0)));
            assert_eq!(acks.newest_acked(), Some(at(0)));
            acks.sent(at(4096));
            assert!(!acks.acked(at(0)));
            assert!(!acks.acked(at(4096)));
            assert_eq!(acks.acknowledge(at(0), 0), 0, "too old to know");
        }
    }

    #[test]
    fn after_a_request_nothing_older_is_a_baseline() {
        let mut acks = acks(0..20);
        acks.acknowledge(Tick::new(19), u32::MAX);
        assert!(acks.is_baseline(Tick::new(19)));
        assert!(acks.forget(Tick::new(19)));
        assert!(!acks.is_baseline(Tick::new(19)) && acks.acked(Tick::new(19)));
        assert!(!acks.forget(Tick::new(50)), "within a second");
        assert!(acks.forget(Tick::new(79)));
    }
}
