//! Whole servers and clients of netstream in virtual time, from one seed.
//!
//! The code under test is the production code; what is simulated is everything that it is given: datagrams, time,
//! randomness. A run is one thread and one list of events, so a seed is all it takes to see a failure again.
//!
//! ```text
//!   seed -> Plan (who, what goes wrong when, what is played) -> Stage (time, machines, faults) -> Outcome
//!                                                                 |
//!                                     Cores (level 1: transport::{Server, Client})
//!                                     Apps  (level 2: Bevy Apps, NetworkStreamPlugin, UDP and IPC drivers)
//!                                                                 |
//!                                     Network (loss, delay, duplicates, damage, partitions, translators, attackers)
//! ```
//!
//! | module | idea |
//! |---|---|
//! | `plan` | what a seed means; what can be left out again |
//! | `stage` | one event after the other: updates, faults, healing, the end |
//! | `network` | every datagram goes through here |
//! | `attacker` | strangers who see everything and can send anything |
//! | `oracle` | messages that can be judged by themselves |
//! | `l1`, `l2` | those who play, and what must hold of them |
//! | `run`, `report`, `shrink` | one seed, many seeds, a smaller failure |
//!
//! ```
//! use std::time::Duration;
//! use netstream_sim::{Case, Level, Trace};
//!
//! let case = Case::new(4711, Level::L1, Duration::from_secs(5));
//! let (once, again) = (case.run(Trace::Hash), case.run(Trace::Hash));
//! assert_eq!(once.violation, None);
//! assert_eq!(once.hash, again.hash);
//! ```

#![forbid(unsafe_code)]

mod attacker;
mod capture;
mod clock;
mod dice;
mod guest;
mod invariant;
mod journal;
mod l1;
mod l2;
mod ladder;
pub mod model;
mod network;
mod oracle;
mod plan;
mod report;
mod run;
mod shrink;
mod spread;
mod stage;
mod tally;
mod traffic;

pub use capture::capture;
pub use guest::{Failure, Game, find_failure, run_game};
pub use invariant::{Invariant, Violation};
pub use ladder::{Climb, LADDER, Rung, climb, climb_all};
pub use plan::{Attack, Cut, Effect, Fault, Level, Mischief, Plan, Toward, Workload};
pub use report::Report;
pub use run::{Case, Outcome, Trace};
pub use shrink::{Shrunk, shrink};
pub use tally::Tally;
