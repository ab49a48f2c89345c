//! How much is written to the log.
//!
//! A peer can make us write a line whenever it comes, goes or misbehaves, and an application in every update. A log that is
//! full tells nobody anything: of each kind only so many lines are written in a second, and what was left out is counted.

use std::time::Duration;

use netstream_driver::transport::Mono;

/// Lines of one kind in any second.
const LINES: usize = 10;

/// What a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Line {
    /// A connection has ended.
    Ended,
    /// RPCs that waited for Connected are dropped.
    Held,
    /// An observer panicked.
    Panicked,
    /// The peer is in the game and we are not.
    OneSided,
    /// The application asks for what is not possible.
    Misused,
}

const KINDS: usize = Line::Misused as usize + 1;

/// When lines of each kind were written last.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    /// The moments of the last lines, and which of them is the oldest.
    written: [([Option<Mono>; LINES], usize); KINDS],
    left_out: [u64; KINDS],
}

impl LogBudget {
    /// Whether a line may be written at `now`. The first one after others were left out is announced by their number.
    pub(crate) fn take(&mut self, now: Mono, line: Line) -> bool {
        let kind = line as usize;
        let (written, oldest) = &mut self.written[kind];
        let free = written[*oldest].is_none_or(|at| now.since(at) >= Duration::from_secs(1));
        if !free {
            self.left_out[kind] += 1;
            return false;
        }
        written[*oldest] = Some(now);
        *oldest = (*oldest + 1) % LINES;
        let left_out = std::mem::take(&mut self.left_out[kind]);
        if left_out > 0 {
            tracing::warn!("{left_out} lines were left out that were like this one ({line:?}):");
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_lines_of_a_kind_are_written_in_any_second() {
        let mut budget = LogBudget::default();
        let mut written = |millis, line| budget.take(Mono::ZERO + Duration::from_millis(millis), line);
        let first = (0..30).filter(|_| written(500, Line::Ended)).count();
        assert_eq!(first, 10);
        assert!(written(500, Line::Held), "another kind");
        assert!(!written(1499, Line::Ended));
        assert_eq!((0..30).filter(|_| written(1500, Line::Ended)).count(), 10);
    }
}
