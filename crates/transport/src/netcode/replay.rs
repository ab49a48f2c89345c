//! The replay window: which sequence numbers of a peer have arrived.

use super::REPLAY_WINDOW;
use crate::look::Look;
use crate::mutants::mutant;

const WORDS: usize = REPLAY_WINDOW as usize / 64;

/// Remembers the newest sequence number and which of the [`REPLAY_WINDOW`] numbers that end with it have arrived.
///
/// All arithmetic is on the side of subtraction from the newest number, so the window works up to 2^64 - 1 (H10).
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct ReplayWindow {
    /// `None` until the first packet.
    newest: Option<u64>,
    /// Bit `s % REPLAY_WINDOW` belongs to sequence number `s`.
    arrived: [u64; WORDS],
}

impl ReplayWindow {
    /// Whether `sequence` may still arrive: it is new, not so old that the window has passed it, and not there yet.
    pub(crate) fn accepts(&self, sequence: u64) -> bool {
        match self.newest {
            None => true,
            Some(newest) if mutant(19) => {
                sequence + REPLAY_WINDOW > newest && (sequence > newest || !self.has(sequence))
            }
            Some(newest) if sequence > newest => true,
            Some(newest) => newest - sequence < REPLAY_WINDOW && (!self.has(sequence) || mutant(20)),
        }
    }

    /// Notes the arrival of `sequence`, which [`accepts`](Self::accepts) has let through. Only after its packet has
    /// been opened: an unauthenticated number must not move the window.
    pub(crate) fn advance(&mut self, sequence: u64) {
        let newest = self.newest.unwrap_or(sequence);
        if sequence > newest {
            // Numbers that were skipped are not there; their bits still tell of numbers one window ago.
            let skipped = sequence - newest - 1;
            if skipped >= REPLAY_WINDOW - 1 {
                self.arrived = [0; WORDS];
            } else {
                for number in newest + 1..sequence {
                    self.arrived[word(number)] &= !bit(number);
                }
            }
            self.newest = Some(sequence);
        } else {
            self.newest = Some(newest);
        }
        self.arrived[word(sequence)] |= bit(sequence);
    }

    /// Looks at what the next packet will probably need.
    #[inline]
    pub(crate) fn look(&self, look: &mut impl Look) {
        look.at(&self.newest);
        // A peer may have sent the last number that there is.
        look.at(&self.arrived[word(self.newest.unwrap_or(0).wrapping_add(1))]);
    }

    fn has(&self, sequence: u64) -> bool {
        self.arrived[word(sequence)] & bit(sequence) != 0
    }
}

fn word(sequence: u64) -> usize {
    (sequence % REPLAY_WINDOW / 64) as usize
}

fn bit(sequence: u64) -> u64 {
    1 << (sequence % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::look::Glance;

    /// It had added to the number, and whoever is connected can choose that.
    #[test]
    fn a_peer_that_sends_the_last_number_of_all_does_no_harm() {
        let mut window = ReplayWindow::default();
        for sequence in [u64::MAX - 1, u64::MAX] {
            assert!(window.accepts(sequence));
            window.advance(sequence);
            window.look(&mut Glance::default());
        }
        assert!(!window.accepts(u64::MAX));
    }

    /// What the window stands for, without any cleverness.
    #[derive(Default)]
    struct Naive(HashSet<u64>);

    impl Naive {
        fn accepts(&self, sequence: u64) -> bool {
            let newest = self.0.iter().copied().max();
            let old =
                newest.is_some_and(|newest| u128::from(sequence) + u128::from(REPLAY_WINDOW) <= u128::from(newest));
            !old && !self.0.contains(&sequence)
        }
    }

    fn take(window: &mut ReplayWindow, sequence: u64) -> bool {
        let accepted = window.accepts(sequence);
        if accepted {
            window.advance(sequence);
        }
        accepted
    }

    #[test]
    fn each_number_arrives_once() {
        for start in [0, (1 << 16) - 500, (1 << 32) - 500, (1 << 63) - 500, u64::MAX - 2000] {
            let mut window = ReplayWindow::default();
            for sequence in start..=start + 2000 {
                assert!(take(&mut window, sequence), "{sequence} is new");
                assert!(!take(&mut window, sequence), "{sequence} is a replay");
            }
            assert!(!take(&mut window, start), "{start} is older than the window");
        }
    }

    #[test]
    fn the_last_number_of_all_is_accepted_once() {
        let mut window = ReplayWindow::default();
        assert!(take(&mut window, u64::MAX));
        assert!(!take(&mut window, u64::MAX));
        assert!(take(&mut window, u64::MAX - 1023));
        assert!(!take(&mut window, u64::MAX - 1024));
        assert!(!take(&mut window, 0));
    }

    #[test]
    fn a_late_number_inside_the_window_is_accepted() {
        let mut window = ReplayWindow::default();
        assert!(take(&mut window, 5000));
        assert!(take(&mut window, 5000 - 1023));
        assert!(!take(&mut window, 5000 - 1024));
        // A jump of exactly one window empties it.
        assert!(take(&mut window, 6024));
        assert!(take(&mut window, 5001));
        assert!(!take(&mut window, 5000));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_all_numbers(
            start in prop_oneof![Just(0), Just(u64::MAX - 6000), any::<u64>().prop_map(|start| start >> 1)],
            steps in proptest::collection::vec(0u64..3000, 1..200),
        ) {
            let mut window = ReplayWindow::default();
            let mut naive = Naive::default();
            let mut base = start;
            for (index, step) in steps.into_iter().enumerate() {
                // Mostly around the newest number, now and then a jump ahead.
                let sequence = if index % 7 == 0 { base.saturating_add(step) } else { base.saturating_sub(step % 1100) };
                base = base.max(sequence);
                prop_assert_eq!(window.accepts(sequence), naive.accepts(sequence));
                if window.accepts(sequence) {
                    window.advance(sequence);
                    naive.0.insert(sequence);
                }
            }
        }
    }
}
