//! Making a failure smaller: fewer faults, fewer nodes, less time.

use std::time::Duration;

use crate::invariant::{Invariant, Violation};
use crate::run::{Case, Trace};

/// What came of making a case smaller.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest case that still fails in the same way.
    pub case: Case,
    /// How many runs that took.
    pub runs: u32,
}

/// Leaves out whatever `invariant` fails without, with at most `runs` runs: time, clients, then one fault after the
/// other.
///
/// The order is that of what it saves. Each purpose in a plan has dice of its own, so the rest stays as it was.
pub fn shrink(case: &Case, invariant: Invariant, runs: u32) -> Shrunk {
    shrink_while(case, runs, |case| case.run(Trace::Hash).violation.filter(|found| found.invariant == invariant))
}

/// The same, with whatever tells whether a case still fails.
pub(crate) fn shrink_while(case: &Case, runs: u32, fails: impl Fn(&Case) -> Option<Violation>) -> Shrunk {
    let mut best = Shrunk { case: case.clone(), runs: 0 };
    let try_out = |best: &mut Shrunk, candidate: Case| {
        if best.runs >= runs || candidate == best.case {
            return false;
        }
        best.runs += 1;
        let still = fails(&candidate).is_some();
        if still {
            best.case = candidate;
        }
        still
    };
    // It ends with the violation anyway; cutting right behind it lets the faults after it go at once.
    if let Some(violation) = fails(case) {
        let mut candidate = best.case.clone();
        candidate.cut.length = Some(Duration::from_nanos(violation.at.as_nanos()) + Duration::from_millis(1));
        try_out(&mut best, candidate);
    }
    for clients in 1..best.case.plan().clients {
        let mut candidate = best.case.clone();
        candidate.cut.clients = Some(clients);
        if try_out(&mut best, candidate) {
            break;
        }
    }
    // Halves first, then one by one, until nothing more can go.
    let mut kept: Vec<usize> = best.case.cut.faults.clone().unwrap_or_else(|| (0..case.plan().faults.len()).collect());
    let mut chunk = kept.len().div_ceil(2).max(1);
    loop {
        let mut removed = false;
        let mut at = 0;
        while at < kept.len() {
            let mut fewer = kept.clone();
            fewer.drain(at..(at + chunk).min(fewer.len()));
            let mut candidate = best.case.clone();
            candidate.cut.faults = Some(fewer.clone());
            if try_out(&mut best, candidate) {
                kept = fewer;
                removed = true;
            } else {
                at += chunk;
            }
        }
        match (removed, chunk) {
            (false, 1) => break,
            (true, _) if chunk == 1 => {}
            _ => chunk = chunk.div_ceil(2).min(chunk - 1).max(1),
        }
    }
    best
}
