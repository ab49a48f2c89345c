//! What the demo says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::arena::ArenaReport;
use super::cast::Cast;
use super::chaos::ChaosReport;
use crate::args::DemoArgs;
use crate::report::{LostInFlight, Tally};

/// The summary.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    seconds: f64,
    clients: usize,
    loss: f32,
    seed: u64,
    /// Without the drivers of the chaos.
    total: Tally,
    drivers: BTreeMap<&'static str, Tally>,
    rpcs_lost_in_flight: LostInFlight,
    arena: ArenaReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    chaos: Option<ChaosReport>,
    invariant_violations: u64,
    violations: Vec<String>,
}

impl Report {
    /// Sums up.
    pub(super) fn new(args: &DemoArgs, elapsed: Duration, cast: &Cast) -> Self {
        let audit = cast.audit();
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
            arena: cast.arena_report(),
            chaos: cast.chaos_report(),
            invariant_violations: cast.violations(),
            violations: cast.told().cloned().collect(),
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
        writeln!(f, "{} RPCs were under way when their connection ended", self.rpcs_lost_in_flight.total())?;
        writeln!(f, "arena: {}", self.arena)?;
        if let Some(chaos) = &self.chaos {
            writeln!(f, "chaos server  {}", chaos.connections.server)?;
            writeln!(f, "chaos clients {}", chaos.connections.client)?;
            let lost = chaos.rpcs_lost_in_flight.total();
            writeln!(f, "chaos {}; {lost} RPCs were under way when their connection ended", chaos.deeds)?;
            writeln!(f, "{} losses on the drivers that nobody touched", chaos.untouched_losses)?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        writeln!(f, "{} violations of the invariants in {:.1} s", self.invariant_violations, self.seconds)
    }
}
