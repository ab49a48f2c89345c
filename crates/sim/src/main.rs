//! Runs seeds, replays one, and makes failures smaller.

#![forbid(unsafe_code)]

mod args;

use std::ops::Range;
use std::process::{Command as Process, ExitCode};
use std::time::Instant;

use netstream_sim::{Case, LADDER, Outcome, Report, Trace, climb, shrink};

use crate::args::{Command, Run};

/// How many runs a failure is made smaller with, at most.
const SHRINK_RUNS: u32 = 200;

/// Failures that are shown in full; further ones only by seed and invariant.
const SHOWN: usize = 3;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Ok(Command::Run(run)) => run_seeds(&run),
        Ok(Command::Replay { case, trace }) => replay(&case, trace),
        Ok(Command::Ladder { seeds, rungs }) => climb_ladder(seeds, rungs.as_deref()),
        Err(error) => {
            eprintln!("{error}\n\n{}", args::HELP);
            ExitCode::from(2)
        }
    }
}

fn run_seeds(run: &Run) -> ExitCode {
    // A panic is a finding (I37) and is reported as one, with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let mut report = Report::new(run.level);
    for seed in run.seeds.clone() {
        let case = Case::new(seed, run.level, run.length);
        let outcome = report.run(&case);
        if outcome.violation.is_some() && !run.json {
            if report.failures.len() <= SHOWN {
                explain(&case, run.trace);
            } else {
                println!("seed {seed}: {}", report.failures.last().map_or("", |(_, v)| v.invariant.name()));
            }
        }
    }
    let elapsed = start.elapsed();
    if run.json {
        println!("{:#}", report.to_json(elapsed));
    } else {
        print!("{report}");
        println!("commit {}", commit());
        println!("{}", report.summary(elapsed));
        println!("{} violations", report.failures.len());
    }
    if report.is_green() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The least that must be found of all rungs.
const GRADE: usize = 26;

fn climb_ladder(seeds: Range<u64>, rungs: Option<&[usize]>) -> ExitCode {
    if cfg!(not(feature = "mutants")) {
        eprintln!("there are no bugs in here: build with --features mutants");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let wanted: Vec<_> =
        LADDER.iter().filter(|rung| rungs.is_none_or(|rungs| rungs.contains(&usize::from(rung.number)))).collect();
    println!("rung level seeds by   bug");
    let mut found = Vec::new();
    for rung in &wanted {
        let climb = climb(**rung, seeds.clone());
        println!("{climb}");
        found.extend(climb.caught.map(|(seeds, _)| seeds));
    }
    found.sort_unstable();
    let median = found.get(found.len() / 2).copied().unwrap_or(0);
    println!(
        "{} of {} found within {} seeds each, median {median}, in {:.1} s",
        found.len(),
        wanted.len(),
        seeds.end - seeds.start,
        start.elapsed().as_secs_f64()
    );
    // Of a part of the ladder everything that can be there must be found.
    let least = if rungs.is_none() { GRADE } else { wanted.iter().filter(|rung| rung.level.is_some()).count() };
    if found.len() >= least { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows a failure: what, the last of the log, and the smallest case.
fn explain(case: &Case, trace: bool) {
    let outcome = case.run(if trace { Trace::Print } else { Trace::Last });
    let Some(violation) = &outcome.violation else { return };
    println!("seed {} commit {}: {violation}", case.seed, commit());
    if !trace {
        println!("the last of the log:");
        outcome.trace.iter().for_each(|line| println!("{line}"));
    }
    let shrunk = shrink(case, violation.invariant, SHRINK_RUNS);
    let plan = shrunk.case.plan();
    println!("smallest after {} runs: {} clients, faults: {:#?}", shrunk.runs, plan.clients, plan.faults);
    println!("{}", args::replay_line(&shrunk.case));
}

fn replay(case: &Case, trace: bool) -> ExitCode {
    let outcome = case.run(if trace { Trace::Print } else { Trace::Hash });
    let Outcome { seed, hash, entries, violation, .. } = &outcome;
    println!("seed {seed} commit {}: hash {hash:016x} after {entries} entries", commit());
    match violation {
        Some(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// Which sources this was built from, as far as they can be found.
fn commit() -> String {
    let git =
        Process::new("git").args(["describe", "--always", "--dirty"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}
