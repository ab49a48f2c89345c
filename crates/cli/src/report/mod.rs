//! What came of a run: sums, and whether anything happened that must not.

mod audit;
mod tally;

pub(crate) use audit::{Audit, LostInFlight};
pub(crate) use tally::{SideTally, Tally};
