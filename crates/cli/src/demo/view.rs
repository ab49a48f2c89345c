//! What the user sees while the demo runs: a table that is drawn over itself, or a line per second.

use std::fmt::Write;
use std::time::{Duration, Instant};

use super::cast::Cast;
use super::table::Table;
use crate::output::Output;
use crate::pace::Every;

/// The live view.
#[derive(Debug)]
pub(super) enum View {
    /// For programs: nothing.
    None,
    /// For a log.
    Lines { every: Every },
    /// For a person.
    Table { every: Every, table: Table, lines: usize },
}

impl View {
    /// The view that fits who reads.
    pub(super) fn new(json: bool, output: &Output) -> Self {
        if json {
            Self::None
        } else if output.is_terminal() {
            Self::Table { every: Every::rate(5.0), table: Table::default(), lines: 0 }
        } else {
            Self::Lines { every: Every::rate(1.0) }
        }
    }

    /// Shows how it stands, if it is time.
    pub(super) fn show(&mut self, output: &mut Output, now: Instant, elapsed: Duration, cast: &Cast) {
        let due = match self {
            Self::None => false,
            Self::Lines { every } | Self::Table { every, .. } => every.due(now),
        };
        match self {
            _ if !due => {}
            Self::None => {}
            Self::Lines { .. } => line(output, elapsed, cast),
            Self::Table { .. } => self.redraw(output, now, elapsed, cast),
        }
    }

    /// Shows how it stood at the end.
    pub(super) fn show_last(&mut self, output: &mut Output, elapsed: Duration, cast: &Cast) {
        match self {
            Self::None => {}
            Self::Lines { .. } => line(output, elapsed, cast),
            Self::Table { .. } => {
                self.redraw(output, Instant::now(), elapsed, cast);
                output.line("");
            }
        }
    }

    fn redraw(&mut self, output: &mut Output, now: Instant, elapsed: Duration, cast: &Cast) {
        let Self::Table { table, lines, .. } = self else { return };
        let mut picture = String::new();
        if *lines > 0 {
            // Back to the first line of the last picture, and away with it.
            let _ = write!(picture, "\x1b[{lines}F\x1b[J");
        }
        // A line that wrapped would take two and spoil the way back.
        picture.push_str("\x1b[?7l");
        picture.push_str(&table.draw(now, elapsed, cast));
        picture.push_str("\x1b[?7h");
        *lines = picture.matches('\n').count();
        output.write(picture.as_bytes());
    }
}

fn line(output: &mut Output, elapsed: Duration, cast: &Cast) {
    let records = || cast.clients.iter().filter_map(|client| client.record());
    let in_game = records().filter(|record| record.state.is_in_game()).count();
    let over = records().filter(|record| record.reason.is_some()).count();
    output.line(&format!(
        "{:.1} s: {in_game} of {} clients in the game, {over} out, {} violations{}",
        elapsed.as_secs_f64(),
        cast.clients.len(),
        cast.violations(),
        cast.chaos_line().map(|line| format!("; chaos: {line}")).unwrap_or_default()
    ));
}
