//! Sets of byte ranges, few at a time.

use super::number::{earlier, is_before, later};

/// Disjoint ranges of serial numbers, in order, none adjacent to another.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest range.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.0.first().copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The first range that ends at or after `at`.
    fn reaching(&self, at: u64) -> usize {
        self.0.partition_point(|(_, end)| is_before(*end, at))
    }

    /// Adds `start..end`.
    pub(super) fn insert(&mut self, start: u64, end: u64) {
        if start == end {
            return;
        }
        let at = self.reaching(start);
        let touching = self.0[at..].iter().take_while(|(other, _)| !is_before(end, *other)).count();
        if touching == 0 {
            self.0.insert(at, (start, end));
            return;
        }
        let last_end = self.0[at + touching - 1].1;
        self.0[at] = (earlier(start, self.0[at].0), later(end, last_end));
        self.0.drain(at + 1..at + touching);
    }

    /// Takes `start..end` out.
    pub(super) fn remove(&mut self, start: u64, end: u64) {
        if start == end {
            return;
        }
        let mut at = self.reaching(start);
        while let Some((low, high)) = self.0.get(at).copied() {
            if !is_before(low, end) {
                break;
            }
            let (left, right) = (is_before(low, start), is_before(end, high));
            match (left, right) {
                (true, true) => {
                    self.0[at].1 = start;
                    self.0.insert(at + 1, (end, high));
                    break;
                }
                (true, false) => {
                    self.0[at].1 = earlier(start, high);
                    at += 1;
                }
                (false, true) => {
                    self.0[at].0 = later(end, low);
                    break;
                }
                (false, false) => {
                    self.0.remove(at);
                }
            }
        }
    }

    /// Whether all of `start..end` is in the set.
    pub(super) fn contains(&self, start: u64, end: u64) -> bool {
        self.0.get(self.reaching(start)).is_some_and(|(low, high)| !is_before(start, *low) && !is_before(*high, end))
    }

    /// Takes the lowest range out if it begins at or before `at`, and returns its end.
    pub(super) fn take_reaching(&mut self, at: u64) -> Option<u64> {
        let (start, end) = self.first()?;
        if is_before(at, start) {
            return None;
        }
        self.0.remove(0);
        Some(end)
    }

    pub(super) fn trim(&mut self) {
        self.0.shrink_to_fit();
    }

    /// The most that [`heap`](Self::heap) can be where each packet under way makes one range at most.
    pub(super) fn heap_cap() -> usize {
        super::sent::HISTORY * size_of::<(u64, u64)>()
    }

    /// Bytes of heap in use.
    pub(super) fn heap(&self) -> usize {
        self.0.capacity() * size_of::<(u64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Random, SeededRandom};

    #[test]
    fn ranges_behave_like_a_set_of_numbers() {
        for seed in 0..400 {
            let mut random = SeededRandom::new(seed);
            let origin = if seed % 2 == 0 { 1000 } else { u64::MAX - 30 };
            let mut ranges = Ranges::new();
            let mut set = [false; 64];
            for _ in 0..40 {
                let low = random.below(60);
                let high = low + random.below(64 - low);
                let (start, end) = (origin.wrapping_add(low), origin.wrapping_add(high));
                let add = random.chance(0.6);
                if add {
                    ranges.insert(start, end);
                } else {
                    ranges.remove(start, end);
                }
                set[low as usize..high as usize].fill(add);
                let mut seen = [false; 64];
                let mut last_end = None;
                for (start, end) in ranges.iter() {
                    let (start, end) = (start.wrapping_sub(origin), end.wrapping_sub(origin));
                    assert!(start < end, "seed {seed}");
                    assert!(last_end.is_none_or(|last| last < start), "seed {seed}: {ranges:?}");
                    last_end = Some(end);
                    seen[start as usize..end as usize].fill(true);
                }
                assert_eq!(seen, set, "seed {seed}");
                if low < high {
                    let all = set[low as usize..high as usize].iter().all(|has| *has);
                    assert_eq!(ranges.contains(start, end), all, "seed {seed}");
                }
            }
        }
    }
}
