//! What happened, in order: a hash over everything, and the last of it to read.

use std::collections::VecDeque;
use std::fmt;

use netstream::transport::Mono;

/// How many entries are kept to be shown beside a failure.
pub(crate) const KEPT: usize = 200;

/// The log of one run. Two runs of one seed must have the same [`hash`](Self::hash).
///
/// Text is made only where somebody will read it: of every entry while `tracing`, else never. A failure is run once
/// more with tracing on.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    hash: u64,
    entries: u64,
    tracing: Option<VecDeque<String>>,
    /// Every entry goes to standard output as it happens.
    loud: bool,
}

impl Journal {
    /// An empty log that keeps only the hash.
    pub(crate) fn silent() -> Self {
        Self::default()
    }

    /// An empty log that keeps the last [`KEPT`] entries, and prints all of them where `loud`.
    pub(crate) fn tracing(loud: bool) -> Self {
        Self { tracing: Some(VecDeque::with_capacity(KEPT)), loud, ..Self::default() }
    }

    /// Notes that `what` happened at `node`; `detail` is whatever else must be the same in every run.
    pub(crate) fn note(&mut self, at: Mono, node: u32, what: &'static str, detail: u64, text: impl FnOnce() -> String) {
        self.entries += 1;
        for word in [at.as_nanos(), u64::from(node), what.len() as u64 ^ u64::from(what.as_bytes()[0]) << 32, detail] {
            // A multiply-and-fold step; only accidents have to change it, nobody attacks it.
            let product = u128::from(self.hash ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xf39c_c060_5ced_c835;
            self.hash = product as u64 ^ (product >> 64) as u64;
        }
        let Some(kept) = &mut self.tracing else { return };
        let line = format!("{:>12.6}  {:<4} {what:<12} {}", at.as_nanos() as f64 / 1e9, NodeName(node), text());
        if self.loud {
            println!("{line}");
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(line);
    }

    /// A digest of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many entries there were.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// The last entries, if they were kept.
    pub(crate) fn last(&self) -> Vec<String> {
        self.tracing.iter().flatten().cloned().collect()
    }
}

/// Servers count from [`SERVERS`], clients from 0, the network itself is [`NETWORK`].
pub(crate) const SERVERS: u32 = 1 << 16;
/// The node number of what happens between the nodes.
pub(crate) const NETWORK: u32 = u32::MAX;

struct NodeName(u32);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            NETWORK => f.pad("net"),
            server @ SERVERS.. => f.pad(&format!("s{}", server - SERVERS)),
            client => f.pad(&format!("c{client}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(entries: &[(u64, u64)]) -> u64 {
        let mut journal = Journal::silent();
        for &(at, detail) in entries {
            journal.note(Mono::from_nanos(at), 1, "test", detail, String::new);
        }
        journal.hash()
    }

    #[test]
    fn the_hash_tells_order_and_content_apart() {
        assert_eq!(noted(&[(1, 2), (3, 4)]), noted(&[(1, 2), (3, 4)]));
        assert_ne!(noted(&[(1, 2), (3, 4)]), noted(&[(3, 4), (1, 2)]));
        assert_ne!(noted(&[(1, 2)]), noted(&[(1, 3)]));
    }

    #[test]
    fn only_the_last_entries_are_kept() {
        let mut journal = Journal::tracing(false);
        for index in 0..KEPT as u64 + 5 {
            journal.note(Mono::from_nanos(index), SERVERS, "test", index, || index.to_string());
        }
        assert_eq!(journal.last().len(), KEPT);
        assert!(journal.last()[0].ends_with(" 5"));
    }
}
