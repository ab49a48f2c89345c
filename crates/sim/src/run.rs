//! One seed: run it, run it again, make it smaller.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::invariant::{Invariant, Violation};
use crate::journal::Journal;
use crate::l1::Cores;
use crate::l2::{Apps, check_drivers};
use crate::network::Network;
use crate::plan::{Cut, Level, Plan};
use crate::stage::{Cast, Stage};
use crate::tally::Tally;

/// Every how many seeds one is run twice, to see whether it is the same.
const TWICE: u64 = 50;

/// Every how many seeds of level 2 one is also played over each driver alone.
const DRIVERS: u64 = 20;

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Of this seed.
    pub seed: u64,
    /// A digest of everything that happened.
    pub hash: u64,
    /// How many things happened.
    pub entries: u64,
    /// How much time passed in there.
    pub virtual_time: Duration,
    /// Datagrams that nodes sent.
    pub datagrams: u64,
    /// Faults by kind: packets that were hit, nodes that were.
    pub injected: Tally,
    /// Rare situations that were reached.
    pub sometimes: Tally,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// The last entries of the log, where they were kept.
    pub trace: Vec<String>,
    /// Datagrams, where they were kept.
    pub captured: Vec<Vec<u8>>,
    /// Packets as links took them in, where they were kept; only with the feature `mutants`.
    pub captured_packets: Vec<Vec<u8>>,
}

/// How much of a run is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Only the hash.
    Hash,
    /// The last entries, to be shown beside a failure.
    Last,
    /// Everything goes to standard output.
    Print,
    /// Only the hash, and the datagrams of level 1: one of each type and length.
    Capture,
}

impl Plan {
    /// Runs it, and writes nothing down.
    pub fn run(self) -> Outcome {
        begin(&self, 0);
        match self.level {
            Level::L1 => play(Stage::new(self.clone(), Cores::new(self, Journal::silent()), 0)),
            Level::L2 => play_apps(Stage::new(self.clone(), Apps::new(self, Journal::silent(), None), 0)),
        }
    }
}

/// What is run: a seed and how it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Everything comes from it.
    pub seed: u64,
    /// Cores or Apps.
    pub level: Level,
    /// How long runs are unless they need longer to heal.
    pub length: Duration,
    /// What is left out.
    pub cut: Cut,
    /// Who comes first of those who are due at the same moment: another number, another order.
    pub order: usize,
    /// The known bug that is switched on; 0 for none. Without the feature `mutants` there are none.
    pub mutant: u8,
}

impl Case {
    /// The whole run of a seed.
    pub fn new(seed: u64, level: Level, length: Duration) -> Self {
        Self { seed, level, length, cut: Cut::default(), order: 0, mutant: 0 }
    }

    /// What the seed means.
    pub fn plan(&self) -> Plan {
        Plan::new(self.seed, self.level, self.length).cut(&self.cut)
    }

    /// Runs it.
    pub fn run(&self, trace: Trace) -> Outcome {
        let (journal, plan) = (journal_for(trace), self.plan());
        begin(&plan, self.mutant);
        #[cfg(feature = "mutants")]
        if trace == Trace::Capture {
            netstream::transport::mutants::start_tapping();
        }
        #[cfg_attr(not(feature = "mutants"), expect(unused_mut, reason = "only those with mutants look inside"))]
        let mut outcome = match self.level {
            Level::L1 => {
                let mut cores = Cores::new(plan.clone(), journal);
                if trace == Trace::Capture {
                    cores.with_network(Network::tap);
                }
                play(Stage::new(plan, cores, self.order))
            }
            Level::L2 => play_apps(Stage::new(plan.clone(), Apps::new(plan, journal, None), self.order)),
        };
        #[cfg(feature = "mutants")]
        {
            outcome.captured_packets = netstream::transport::mutants::take_tapped();
            netstream::transport::mutants::begin(0, None);
        }
        outcome
    }

    /// Runs it, and every so many seeds once more in another way that must make no difference.
    pub fn judge(&self) -> Outcome {
        let mut outcome = if self.seed.is_multiple_of(TWICE) { self.run_twice() } else { self.run(Trace::Hash) };
        if self.seed % TWICE == TWICE / 2 && outcome.violation.is_none() {
            outcome.violation = self.run_permuted().violation;
        }
        if self.level == Level::L2 && self.seed % DRIVERS == DRIVERS / 2 && outcome.violation.is_none() {
            outcome.violation = self.run_over_drivers();
        }
        outcome
    }

    /// Plays what the seed says to play over each driver, and says what differs (I45).
    pub fn run_over_drivers(&self) -> Option<Violation> {
        let plan = Plan::calm(Level::L2, self.length, 1);
        begin(&plan, self.mutant);
        let violation = check_drivers(self.seed);
        begin(&plan, 0);
        violation
    }

    /// Runs it in another order of those who are due at once. What is right must be right then, too.
    pub fn run_permuted(&self) -> Outcome {
        let mut outcome = Self { order: self.order + 1, ..self.clone() }.run(Trace::Hash);
        if let Some(violation) = &mut outcome.violation {
            violation.what = format!("in order {}: {}: {}", self.order + 1, violation.invariant, violation.what);
            violation.invariant = Invariant::I43;
        }
        outcome
    }

    /// Runs it twice and says what differs, as an outcome that violates I42.
    pub fn run_twice(&self) -> Outcome {
        let (mut first, second) = (self.run(Trace::Hash), self.run(Trace::Hash));
        if (first.hash, first.entries) != (second.hash, second.entries) && first.violation.is_none() {
            let what = format!("{:016x} ({}) and {:016x} ({})", first.hash, first.entries, second.hash, second.entries);
            let at = netstream::transport::Mono::ZERO + first.virtual_time;
            first.violation = Some(Violation { invariant: Invariant::I42, at, what });
        }
        first
    }
}

/// Nothing is known of earlier runs, and one known bug is on, or none.
#[cfg(feature = "mutants")]
pub(crate) fn begin(plan: &Plan, mutant: u8) {
    netstream::transport::mutants::begin(mutant, plan.workload.last_numbers);
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn begin(_: &Plan, _: u8) {}

/// The log that a trace asks for.
pub(crate) fn journal_for(trace: Trace) -> Journal {
    match trace {
        Trace::Hash | Trace::Capture => Journal::silent(),
        Trace::Last => Journal::tracing(false),
        Trace::Print => Journal::tracing(true),
    }
}

/// The same, and what the Worlds write to the log is read.
pub(crate) fn play_apps(stage: Stage<Apps>) -> Outcome {
    tracing::subscriber::with_default(stage.cast.log(), || play(stage))
}

pub(crate) fn play<C: Cast>(mut stage: Stage<C>) -> Outcome {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| stage.run())) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without text");
        stage.condemn(Invariant::I37, text.to_owned());
    }
    stage.outcome()
}
