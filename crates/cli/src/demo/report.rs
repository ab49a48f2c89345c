//! What the demo says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::args::DemoArgs;
use crate::report::{Audit, LostInFlight, Tally};

/// The summary.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    seconds: f64,
    clients: usize,
    loss: f32,
    seed: u64,
    total: Tally,
    drivers: BTreeMap<&'static str, Tally>,
    rpcs_lost_in_flight: LostInFlight,
    invariant_violations: u64,
    violations: Vec<String>,
}

impl Report {
    /// Sums up.
    pub(super) fn new(args: &DemoArgs, elapsed: Duration, audit: Audit) -> Self {
        let mut total = Tally::default();
        let drivers = args.drivers.iter().map(|scheme| {
            let tally = audit.tally(scheme.as_str());
            total.merge(&tally);
            (scheme.as_str(), tally)
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            seconds: elapsed.as_secs_f64(),
            clients: args.clients,
            loss: args.loss,
            seed: args.seed,
            drivers: drivers.collect(),
            total,
            rpcs_lost_in_flight: audit.lost(),
            invariant_violations: audit.violations(),
            violations: audit.told().to_vec(),
        }
    }

    /// Whether nothing happened that must not.
    pub(super) fn is_clean(&self) -> bool {
        self.invariant_violations == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (driver, tally) in &self.drivers {
            writeln!(f, "{driver} server  {}", tally.server)?;
            writeln!(f, "{driver} clients {}", tally.client)?;
        }
        let lost = self.rpcs_lost_in_flight;
        let lost = lost.client_to_server + lost.server_to_client;
        writeln!(f, "{lost} RPCs were under way when their connection ended")?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        writeln!(f, "{} violations of the invariants in {:.1} s", self.invariant_violations, self.seconds)
    }
}
