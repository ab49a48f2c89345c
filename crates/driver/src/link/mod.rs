//! Bad networks on purpose: loss, delay, jitter, duplicates, reordering and narrow pipes, reproducible by seed.
//!
//! | type | what it does |
//! |---|---|
//! | [`LinkProfile`] | says how bad one direction is |
//! | [`LinkQueue`] | does it to opaque packets of one direction, in virtual time |
//! | [`LinkSimulator`] | both directions of a driver that has packets |
//! | [`Simulated`] | wraps any driver, with packets or without |
//!
//! All of it can change while connections are up.

mod profile;
mod queue;
mod simulated;
mod simulator;

pub use profile::LinkProfile;
pub use queue::{Fate, LinkQueue, LinkStats};
pub use simulated::Simulated;
pub use simulator::{Direction, LinkSimulator};
pub(crate) use simulator::{LinkOrders, Route};
