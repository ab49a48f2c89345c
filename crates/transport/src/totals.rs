//! What all links of one server or client dropped and met, together.

use crate::channel::{LinkStats, Violation};

/// Counters of links, by cause, over links that are up and links that are gone.
#[derive(Clone, Debug, Default)]
pub struct LinkTotals {
    /// Of links that are gone.
    counts: [u64; COUNTERS.len()],
    violations: [u64; Violation::ALL.len()],
    heap: usize,
    queued: usize,
}

type Counter = (&'static str, fn(&LinkStats) -> u64);

/// The names are closed: none ever comes from the network.
const COUNTERS: [Counter; 12] = [
    // Ours, that the network or the peer did not take.
    ("link_packets_lost_total", |stats| stats.packets_lost),
    ("link_bytes_resent_total", |stats| stats.bytes_resent),
    ("link_mtu_probes_lost_total", |stats| stats.mtu_probes_lost),
    ("link_mtu_black_holes_total", |stats| stats.mtu_black_holes),
    ("link_messages_refused_queue_full_total", |stats| stats.refused_queue),
    ("link_messages_dropped_queue_full_total", |stats| stats.dropped_full),
    ("link_slow_consumers_total", |stats| stats.slow_consumers),
    // The peer's.
    ("link_packets_duplicate_total", |stats| stats.packets_duplicate),
    ("link_packets_refused_window_full_total", |stats| stats.refused_full),
    ("link_messages_dropped_stale_total", |stats| stats.dropped_stale),
    ("link_reassembly_evicted_total", |stats| stats.reassembly_evicted),
    ("link_reassembly_expired_total", |stats| stats.reassembly_expired),
];

impl LinkTotals {
    /// Counts what a link has met, which is up or will count no further.
    pub(crate) fn add(&mut self, stats: &LinkStats) {
        for (count, (_, read)) in self.counts.iter_mut().zip(COUNTERS) {
            *count += read(stats);
        }
        self.queued += stats.reliable_queued;
    }

    /// Counts the memory of a link that is up.
    pub(crate) fn add_heap(&mut self, bytes: usize) {
        self.heap += bytes;
    }

    /// Forgets what says how things are now.
    pub(crate) fn forget_gauges(&mut self) {
        (self.heap, self.queued) = (0, 0);
    }

    pub(crate) fn add_violation(&mut self, violation: Violation) {
        if let Some(count) = self.violations.get_mut(violation as usize) {
            *count += 1;
        }
    }

    /// How often peers broke the protocol, by kind, as far as it happened.
    pub fn violations(&self) -> impl Iterator<Item = (Violation, u64)> + '_ {
        Violation::ALL.iter().copied().zip(self.violations).filter(|(_, count)| *count > 0)
    }

    /// All of them, always, by name: `link_*_total` by cause, `violations_*_total` by kind and `violations_total`, and
    /// two gauges of links that are up: bytes of heap and bytes of reliable messages that wait.
    pub fn report(&self, report: &mut dyn FnMut(&'static str, u64)) {
        for (count, (name, _)) in self.counts.iter().zip(COUNTERS) {
            report(name, *count);
        }
        report("link_heap_bytes", self.heap as u64);
        report("link_reliable_queued_bytes", self.queued as u64);
        report("violations_total", self.violations.iter().sum());
        for (violation, count) in Violation::ALL.iter().zip(self.violations) {
            report(violation.metric(), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_are_unique_and_every_kind_of_violation_counts_for_itself() {
        let mut totals = LinkTotals::default();
        for violation in Violation::ALL {
            totals.add_violation(*violation);
        }
        assert_eq!(totals.violations().count(), Violation::ALL.len());
        let mut names = BTreeMap::new();
        totals.report(&mut |name, value| assert_eq!(names.insert(name, value), None, "{name} twice"));
        assert_eq!(names["violations_total"], Violation::ALL.len() as u64);
        assert_eq!(names["violations_ack_of_skipped_total"], 1);
        assert!(names.keys().all(|name| name.ends_with("_total") || name.ends_with("_bytes")));
    }
}
