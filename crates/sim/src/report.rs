//! What came of many seeds.

use std::fmt;
use std::time::Duration;

use crate::invariant::Violation;
use crate::plan::Level;
use crate::run::{Case, Outcome};
use crate::spread::spread;
use crate::tally::Tally;

/// Situations that must be reached in at least one of a hundred seeds, by level. Where one is not, the faults are too tame
/// or the check for it is dead.
const REQUIRED_L1: &[&str] = &[
    "10^3 messages in one update",
    "hundreds ask to be let in at once",
    "the last packet of a handshake is late or lost",
    "client: IdentityInUse Remote",
    "client: Kicked Remote",
    "client: Refused Remote",
    "client: ServerFull Remote",
    "client: TokenExpired Link",
    "counter: denied_full_total",
    "counter: violations_ack_of_unsent_total",
    "a used token is shown again",
    "an address is used by another client",
    "both ends leave at the same time",
    "client: send queue full",
    "client: MaxConnectionAttempts Link",
    "client: ServerShutdown Remote",
    "client: SlowConsumer Local",
    "client: Superseded Remote",
    "client: Timeout Link",
    "counter: address_takeovers_total",
    "counter: identity_takeovers_total",
    "counter: goodbyes_evicted_total",
    "counter: link_mtu_probes_lost_total",
    "counter: packets_dropped_open_failed_total",
    "counter: packets_dropped_rate_total",
    "counter: packets_dropped_replay_total",
    "counter: pending_expired_total",
    "counter: refused_closed_total",
    "counter: refused_full_total",
    "counter: refused_identity_total",
    "counter: requests_dropped_before_start_total",
    "counter: requests_dropped_consumed_total",
    "counter: requests_dropped_expired_total",
    "counter: requests_dropped_future_total",
    "counter: requests_dropped_open_failed_total",
    "counter: responses_dropped_no_pending_total",
    "duplicate packet",
    "reassembly evicted",
    "reassembly expired",
    "refused after the handshake",
    "reliable data sent again",
    "sequenced message too late",
    "server: ProtocolViolation Local",
    "server: send queue full",
    "server: SlowConsumer Local",
    "server: Timeout Link",
    "the address changes during the handshake",
    "the address changes under a connection",
    "this run heals",
    "unreliable queue full",
];

/// The same for whole Apps.
const REQUIRED_L2: &[&str] = &[
    "Client: ApprovalDenied Remote",
    "Client: Banned Remote",
    "Client: DrainDeadline Remote",
    "Client: EntityDespawned Local",
    "Client: EntityDespawned Remote",
    "Client: HandshakeTimeout Local",
    "Client: Kicked Remote",
    "Client: MaxConnectionAttempts Link",
    "Client: ProtocolMismatch Local",
    "Client: Refused Remote",
    "Client: ServerShutdown Remote",
    "Client: Timeout Link",
    "Client is in Approval when all ends",
    "Client is in Disconnecting when all ends",
    "Server: Banned Local",
    "Server: ConnectionClose Remote",
    "Server: DrainDeadline Local",
    "Server: EntityDespawned Local",
    "Server: HandshakeTimeout Local",
    "Server: InvalidRpc Local",
    "Server: Kicked Local",
    "Server: ProtocolMismatch Local",
    "Server: ProtocolViolation Local",
    "Server: ServerShutdown Local",
    "Server: Superseded Local",
    "Server: Timeout Link",
    "a command is applied in its tick",
    "a connection entity is despawned",
    "a snapshot of a tick is read",
    "an address is banned",
    "an address is used by another client",
    "approval is denied",
    "approval is extended",
    "data that crossed the in-game mark",
    "messages for who is over",
    "players who came back",
    "refused for a ban",
    "somebody breaks the protocol",
    "the address changes during the handshake",
    "the address changes under a connection",
    "this run heals",
    "tickets that are worth nothing",
];

/// In how many seeds at least, of how many, a required situation must be reached.
const RARE: (u64, u64) = (1, 100);

/// Fewer seeds than this say nothing about what is rare.
const ENOUGH_SEEDS: u64 = 500;

/// What came of many seeds of one level.
#[derive(Clone, Debug)]
pub struct Report {
    level: Level,
    /// How many seeds were run.
    pub seeds: u64,
    /// Datagrams that were sent.
    pub datagrams: u64,
    /// How much time passed in the runs.
    pub virtual_time: Duration,
    /// Faults by kind.
    pub injected: Tally,
    /// In how many seeds each situation was reached.
    pub sometimes: Tally,
    /// A digest of all runs in order.
    pub hash: u64,
    /// The seeds that failed, with the invariant that did not hold first.
    pub failures: Vec<(u64, Violation)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(level: Level) -> Self {
        Self {
            level,
            seeds: 0,
            datagrams: 0,
            virtual_time: Duration::ZERO,
            injected: Tally::default(),
            sometimes: Tally::default(),
            hash: 0,
            failures: Vec::new(),
        }
    }

    /// Runs one more case and takes in what came of it.
    pub fn run(&mut self, case: &Case) -> Outcome {
        let outcome = case.judge();
        self.add(&outcome);
        outcome
    }

    /// Runs the seeds on so many threads, and takes in what came of them in their order: the report is the same for any
    /// number of threads. `look` sees each case once it is taken in.
    pub fn run_all(
        &mut self,
        cases: impl Iterator<Item = Case> + Send,
        jobs: usize,
        mut look: impl FnMut(&Self, &Case, Outcome),
    ) {
        spread(cases, jobs, Case::judge, |case, outcome| {
            self.add(&outcome);
            look(self, &case, outcome);
        });
    }

    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.datagrams += outcome.datagrams;
        self.virtual_time += outcome.virtual_time;
        self.injected.merge(&outcome.injected);
        self.sometimes.merge_once(&outcome.sometimes);
        self.hash = self.hash.rotate_left(5) ^ outcome.hash;
        if let Some(violation) = &outcome.violation {
            self.failures.push((outcome.seed, violation.clone()));
        }
    }

    /// What should have been reached and was not, or too seldom. Empty where there were too few seeds to tell.
    pub fn never_reached(&self) -> Vec<&'static str> {
        if self.seeds < ENOUGH_SEEDS {
            return Vec::new();
        }
        let required = match self.level {
            Level::L1 => REQUIRED_L1,
            Level::L2 => REQUIRED_L2,
        };
        let rare = |name: &&&str| self.sometimes.of(name) * RARE.1 < self.seeds * RARE.0;
        required.iter().filter(rare).copied().collect()
    }

    /// Whether nothing failed and everything was reached.
    pub fn is_green(&self) -> bool {
        self.failures.is_empty() && self.never_reached().is_empty()
    }

    /// Everything as one JSON object. `elapsed` is how long it took on the machine.
    pub fn to_json(&self, elapsed: Duration) -> serde_json::Value {
        let tally = |tally: &Tally| {
            let entries = tally.iter().map(|(name, count)| (name.to_owned(), count.into()));
            serde_json::Value::Object(entries.collect())
        };
        let failure = |(seed, violation): &(u64, Violation)| {
            serde_json::json!({
                "seed": seed,
                "invariant": violation.invariant.name(),
                "at": violation.at.as_nanos() as f64 / 1e9,
                "what": violation.what,
            })
        };
        let failures: Vec<_> = self.failures.iter().map(failure).collect();
        serde_json::json!({
            "level": self.level.name(),
            "seeds": self.seeds,
            "seconds": elapsed.as_secs_f64(),
            "virtual_seconds": self.virtual_time.as_secs_f64(),
            "datagrams": self.datagrams,
            "hash": format!("{:016x}", self.hash),
            "injected": tally(&self.injected),
            "sometimes": tally(&self.sometimes),
            "never_reached": self.never_reached(),
            "failures": failures,
        })
    }

    /// The figures as text.
    pub fn summary(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        format!(
            "{} {} seeds, {:.0} virtual s in {seconds:.1} s: {:.1} seeds/s, {:.0}x real time, {} datagrams, hash {:016x}",
            self.seeds,
            self.level.name(),
            self.virtual_time.as_secs_f64(),
            self.seeds as f64 / seconds,
            self.virtual_time.as_secs_f64() / seconds,
            self.datagrams,
            self.hash,
        )
    }
}

impl fmt::Display for Report {
    /// The tables, without anything that depends on the machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "injected (packets or nodes)")?;
        for (name, count) in self.injected.iter() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        writeln!(f, "sometimes (seeds)")?;
        for (name, count) in self.sometimes.iter() {
            writeln!(f, "{count:>12}  {name}")?;
        }
        for name in self.never_reached() {
            writeln!(f, "TOO RARE: {name}: {} of {} seeds", self.sometimes.of(name), self.seeds)?;
        }
        Ok(())
    }
}
