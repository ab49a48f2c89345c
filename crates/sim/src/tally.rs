//! Counting: which faults were injected, and which rare situations were reached.

use std::collections::BTreeMap;

/// How often each named thing happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Adds `count` to `name`.
    pub fn add(&mut self, name: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.0.get_mut(name) {
            Some(sum) => *sum += count,
            None => _ = self.0.insert(name.to_owned(), count),
        }
    }

    /// Counts `name` once more.
    pub fn count(&mut self, name: &str) {
        self.add(name, 1);
    }

    /// How often `name` happened.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Adds everything of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    /// Adds 1 for everything that happened in another tally at all.
    pub fn merge_once(&mut self, other: &Self) {
        for name in other.0.keys() {
            self.count(name);
        }
    }

    /// All names with their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }
}
