//! What came of a run: sums, how hard it was, and whether anything happened that must not.

mod audit;
mod figures;
mod histogram;
mod tally;

pub(crate) use audit::{Audit, LostInFlight};
pub(crate) use figures::{Figures, Gauge};
pub(crate) use tally::{SideTally, Tally};
