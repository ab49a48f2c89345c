//! The extremes of what was seen lately.

use crate::Mono;
use crate::look::Look;
use crate::time::Span;

/// For how many round trips the best delivery rate counts.
const BANDWIDTH_ROUNDS: u64 = 10;

/// The largest value of the last [`BANDWIDTH_ROUNDS`] rounds: the three best, each newer than the one before
/// (Kathleen Nichols' windowed filter, as in Linux' `win_minmax`).
#[derive(Debug)]
pub(super) struct MaxFilter {
    best: [(u64, u64); 3],
}

impl MaxFilter {
    pub(super) const fn new() -> Self {
        Self { best: [(0, 0); 3] }
    }

    /// See [`Link::look_to_receive`](super::Link::look_to_receive).
    #[inline]
    pub(super) fn look(&self, look: &mut impl Look) {
        look.at(&self.best[0].1);
    }

    pub(super) const fn get(&self) -> u64 {
        self.best[0].1
    }

    pub(super) fn update(&mut self, round: u64, value: u64) {
        let new = (round, value);
        if value >= self.best[0].1 || round - self.best[2].0 > BANDWIDTH_ROUNDS {
            self.best = [new; 3];
            return;
        }
        if value >= self.best[1].1 {
            self.best[1] = new;
            self.best[2] = new;
        } else if value >= self.best[2].1 {
            self.best[2] = new;
        }
        let age = round - self.best[0].0;
        if age > BANDWIDTH_ROUNDS {
            self.best = [self.best[1], self.best[2], new];
            if round - self.best[0].0 > BANDWIDTH_ROUNDS {
                self.best = [self.best[1], self.best[2], new];
            }
        } else if self.best[1].0 == self.best[0].0 && age > BANDWIDTH_ROUNDS / 4 {
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].0 == self.best[1].0 && age > BANDWIDTH_ROUNDS / 2 {
            self.best[2] = new;
        }
    }
}

/// The smallest value of about the last while.
#[derive(Debug)]
pub(super) struct MinFilter {
    half: Span,
    since: Mono,
    current: Option<Span>,
    previous: Option<Span>,
}

impl MinFilter {
    pub(super) fn new(span: Span) -> Self {
        Self { half: span / 2, since: Mono::ZERO, current: None, previous: None }
    }

    pub(super) fn get(&self) -> Option<Span> {
        self.current.into_iter().chain(self.previous).min()
    }

    pub(super) fn update(&mut self, now: Mono, value: Span) {
        if now.after(self.since) > self.half {
            self.previous = self.current.take();
            self.since = now;
        }
        self.current = Some(self.current.map_or(value, |current| current.min(value)));
    }
}
