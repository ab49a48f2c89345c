//! Whether the numbered RPCs of one connection and direction arrive exactly once and in order.

use super::messages::KINDS;

/// The receiving end of one direction.
///
/// A World reads the RPCs of each type by themselves, so the order across types is not seen within one update. What is
/// checked instead is as strong: within each type the numbers rise, and after each update the numbers of all types
/// together have no gap.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    /// Every number up to this one has arrived.
    complete: u64,
    /// The last number of each type.
    last: [u64; KINDS],
    /// What came with this update.
    arrived: Vec<u64>,
    /// Numbers that were passed over.
    missing: Vec<u64>,
    received: u64,
}

impl Lane {
    /// Takes in one RPC.
    pub(crate) fn arrive(&mut self, kind: usize, number: u64, mut fault: impl FnMut(String)) {
        self.received += 1;
        let last = &mut self.last[kind];
        if number < *last {
            fault(format!("RPC {number} arrived after RPC {last} of the same type"));
        }
        *last = number.max(*last);
        self.arrived.push(number);
    }

    /// Ends an update: everything that had arrived is here.
    pub(crate) fn settle(&mut self, mut fault: impl FnMut(String)) {
        self.arrived.sort_unstable();
        for number in self.arrived.drain(..) {
            if number > self.complete {
                for lost in self.complete + 1..number {
                    fault(format!("RPC {lost} had not arrived when RPC {number} did"));
                    self.missing.push(lost);
                }
                self.complete = number;
            } else if let Some(at) = self.missing.iter().position(|missing| *missing == number) {
                // Reported when it was passed over.
                self.missing.swap_remove(at);
            } else {
                fault(format!("RPC {number} arrived twice"));
            }
        }
    }

    /// How many RPCs arrived.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// The last number such that it and all before it were heard of.
    pub(crate) fn complete(&self) -> u64 {
        self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found wrong with these updates of (type, number).
    fn faults(updates: &[&[(usize, u64)]]) -> Vec<String> {
        let (mut lane, mut faults) = (Lane::default(), Vec::new());
        for update in updates {
            for (kind, number) in *update {
                lane.arrive(*kind, *number, |fault| faults.push(fault));
            }
            lane.settle(|fault| faults.push(fault));
        }
        faults
    }

    #[test]
    fn order_across_types_within_one_update_is_not_judged() {
        assert!(faults(&[&[(0, 1), (0, 3), (1, 2)], &[], &[(1, 4), (0, 5)]]).is_empty());
    }

    #[test]
    fn a_lost_rpc_is_noticed() {
        assert_eq!(faults(&[&[(0, 1)], &[(0, 3)]]), ["RPC 2 had not arrived when RPC 3 did"]);
        assert_eq!(faults(&[&[(0, 2)]]), ["RPC 1 had not arrived when RPC 2 did"]);
    }

    #[test]
    fn a_doubled_rpc_is_noticed() {
        assert_eq!(faults(&[&[(0, 1), (0, 1)]]), ["RPC 1 arrived twice"]);
        assert_eq!(faults(&[&[(0, 1)], &[(1, 1)]]), ["RPC 1 arrived twice"]);
    }

    #[test]
    fn a_wrong_order_is_noticed_within_an_update_and_between_two() {
        assert_eq!(faults(&[&[(0, 2), (0, 1)]]), ["RPC 1 arrived after RPC 2 of the same type"]);
        assert_eq!(faults(&[&[(0, 2)], &[(1, 1)]]), ["RPC 1 had not arrived when RPC 2 did"]);
    }
}
