//! One message of which not all fragments have arrived.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

use super::Violation;
use super::frame::Fragment;
use super::memory::append;
use super::wire::FRAGMENT_BYTES;

/// The fragments of one message that have arrived, in the order in which they did.
#[derive(Debug, Default)]
pub(super) struct Partial {
    count: u32,
    /// Length of the last fragment, once it has arrived.
    last: u32,
    /// Which fragment lies in which slot of `data`. All slots have [`FRAGMENT_BYTES`].
    slots: Vec<u16>,
    data: Vec<u8>,
}

impl Partial {
    /// An empty one that takes over the memory of `self`.
    pub(super) fn reset(&mut self, count: u32) {
        self.count = count;
        self.last = 0;
        self.slots.clear();
        self.data.clear();
    }

    /// Bytes that it holds.
    pub(super) fn size(&self) -> usize {
        self.data.len()
    }

    /// What it would hold more with this fragment.
    pub(super) fn growth(&self, fragment: &Fragment<'_>) -> usize {
        if self.has(fragment.index) {
            return 0;
        }
        (self.slots.len() * FRAGMENT_BYTES).saturating_sub(self.data.len()) + fragment.bytes.len()
    }

    fn has(&self, index: u32) -> bool {
        // Counts are at most MAX_MESSAGE / FRAGMENT_BYTES < 2^16. A search of so few, which are the newest as a rule,
        // costs less than a set would.
        self.slots.iter().rev().any(|slot| u32::from(*slot) == index)
    }

    /// Takes in one fragment. True if the message is complete by that.
    pub(super) fn insert(&mut self, fragment: &Fragment<'_>) -> Result<bool, Violation> {
        if fragment.count != self.count {
            return Err(Violation::FragmentMismatch);
        }
        if self.has(fragment.index) {
            return Ok(false);
        }
        if self.data.len() < self.slots.len() * FRAGMENT_BYTES {
            // The last fragment came early and may be short: fill up its slot, now that another one follows.
            self.data.resize(self.slots.len() * FRAGMENT_BYTES, 0);
        }
        self.slots.push(fragment.index as u16);
        append(&mut self.data, fragment.bytes, self.count as usize * FRAGMENT_BYTES);
        if fragment.index + 1 == self.count {
            self.last = fragment.bytes.len() as u32;
        }
        Ok(self.slots.len() == self.count as usize)
    }

    /// The whole message, of which all fragments are there.
    pub(super) fn message(&mut self) -> &[u8] {
        // Put every fragment into its slot, in place: each swap brings at least one home. Only the last slot may be
        // short, and only if the last fragment, which belongs there, came last.
        for slot in 0..self.slots.len() {
            while let Some(home) = self.slots.get(slot).map(|index| usize::from(*index))
                && home != slot
                && home < self.slots.len()
            {
                self.slots.swap(slot, home);
                let (low, high) = (slot.min(home) * FRAGMENT_BYTES, slot.max(home) * FRAGMENT_BYTES);
                let (front, back) = self.data.split_at_mut(high);
                if let (Some(one), Some(other)) =
                    (front.get_mut(low..low + FRAGMENT_BYTES), back.get_mut(..FRAGMENT_BYTES))
                {
                    one.swap_with_slice(other);
                }
            }
        }
        let length = (self.slots.len().saturating_sub(1)) * FRAGMENT_BYTES + self.last as usize;
        self.data.get(..length).unwrap_or_default()
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.data.capacity() + self.slots.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Random, SeededRandom};

    #[test]
    fn a_message_comes_together_in_any_order_of_its_fragments() {
        for seed in 0..200 {
            let mut random = SeededRandom::new(seed);
            let length = 1 + random.below(200 * FRAGMENT_BYTES as u64) as usize;
            let mut message = vec![0; length];
            random.fill(&mut message);
            let count = length.div_ceil(FRAGMENT_BYTES);
            let mut order: Vec<usize> = (0..count).collect();
            for index in (1..count).rev() {
                order.swap(index, random.below(index as u64 + 1) as usize);
            }
            let mut partial = Partial::default();
            partial.reset(count as u32);
            for (arrived, index) in order.iter().enumerate() {
                let bytes = &message[index * FRAGMENT_BYTES..length.min((index + 1) * FRAGMENT_BYTES)];
                let fragment = Fragment { id: 0, index: *index as u32, count: count as u32, bytes };
                assert_eq!(partial.insert(&fragment), Ok(arrived + 1 == count), "seed {seed}");
                if arrived + 1 < count {
                    assert_eq!(partial.insert(&fragment), Ok(false), "a second copy changes nothing");
                }
            }
            assert_eq!(partial.message(), message, "seed {seed}");
        }
    }

    #[test]
    fn fragments_that_disagree_about_their_number_are_a_violation() {
        let mut partial = Partial::default();
        partial.reset(3);
        let fragment = Fragment { id: 0, index: 0, count: 2, bytes: &[0; FRAGMENT_BYTES] };
        assert_eq!(partial.insert(&fragment), Err(Violation::FragmentMismatch));
    }
}
