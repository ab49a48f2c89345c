//! How far a long run is, on standard error.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use netstream_sim::Report;

/// Where somebody looks on, the line changes in place.
const ON_TERMINAL: Duration = Duration::from_millis(500);

/// Elsewhere a line is written now and then, to show that it goes on.
const ELSEWHERE: Duration = Duration::from_secs(60);

/// A line that says how many seeds are done, and how long the rest will take.
pub(crate) struct Progress {
    total: u64,
    start: Instant,
    shown: Instant,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let start = Instant::now();
        Self { total, start, shown: start, terminal: stderr().is_terminal() }
    }

    /// Says it again if it is time.
    pub(crate) fn show(&mut self, report: &Report) {
        let interval = if self.terminal { ON_TERMINAL } else { ELSEWHERE };
        if self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let (seconds, done) = (self.start.elapsed().as_secs_f64(), report.seeds);
        let left = seconds / done.max(1) as f64 * self.total.saturating_sub(done) as f64;
        let line = format!(
            "{done} of {} seeds in {seconds:.0} s, about {left:.0} s to go, {} violations",
            self.total,
            report.failures.len()
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    /// Makes room for something else to be said.
    pub(crate) fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
