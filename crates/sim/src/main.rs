//! Runs seeds, replays one, and makes failures smaller.

#![forbid(unsafe_code)]

mod args;
mod progress;

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::{Command as Process, ExitCode};
use std::time::{Duration, Instant};

use netstream::ConnectionState;
use netstream::state::TRANSITIONS;
use netstream_sim::model::handshake::{Handshake, Rule};
use netstream_sim::model::lifecycle::Lifecycle;
use netstream_sim::model::{Explored, explore};
use netstream_sim::{Case, LADDER, Level, Outcome, Plan, Report, Trace, Violation, capture, climb_all, shrink};

use crate::args::{Command, Run};
use crate::progress::Progress;

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
        Ok(Command::Capture { out, seeds }) => match capture(&out, seeds) {
            Ok((datagrams, packets)) => {
                println!("{datagrams} datagrams, {packets} rows of packets");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{}: {error}", out.display());
                ExitCode::FAILURE
            }
        },
        Ok(Command::Model { full }) => check_models(full),
        Ok(Command::Speed { level, length }) => measure_speed(level, length),
        Ok(Command::Ladder { seeds, rungs, jobs }) => climb_ladder(seeds, rungs.as_deref(), jobs),
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
    let mut progress = Progress::new(run.seeds.end.saturating_sub(run.seeds.start));
    let cases = run.seeds.clone().map(|seed| Case::new(seed, run.level, run.length));
    report.run_all(cases, run.jobs, |report, case, outcome| {
        if let Some(violation) = outcome.violation
            && !run.json
        {
            progress.clear();
            if report.failures.len() <= SHOWN {
                explain(case, &violation, run.trace);
            } else {
                println!("seed {}: {}", case.seed, violation.invariant.name());
            }
        }
        progress.show(report);
    });
    progress.clear();
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

fn climb_ladder(seeds: Range<u64>, rungs: Option<&[usize]>, jobs: usize) -> ExitCode {
    if cfg!(not(feature = "mutants")) {
        eprintln!("there are no bugs in here: build with --features mutants");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|_| {}));
    let start = Instant::now();
    let wanted: Vec<_> = LADDER
        .iter()
        .filter(|rung| rungs.is_none_or(|rungs| rungs.contains(&usize::from(rung.number))))
        .copied()
        .collect();
    println!("rung level seeds by   bug");
    let mut found = Vec::new();
    climb_all(&wanted, seeds.clone(), jobs, |climb| {
        println!("{climb}");
        found.extend(climb.caught.map(|(seeds, _)| seeds));
    });
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

/// The most states of one model that are looked at: what fits into a few gigabytes.
const MOST_STATES: usize = 6_000_000;

fn check_models(full: bool) -> ExitCode {
    let mut red = false;
    let mut show = |name: String, explored: &Explored, must_fail: bool, start: Instant| {
        let Explored { states, complete, counterexample } = explored;
        let seconds = start.elapsed().as_secs_f64();
        let extent = if *complete { "all" } else { "first" };
        match counterexample {
            Some((way, what)) => {
                println!("{name:<34} {states:>9} states in {seconds:6.1} s: {what}, after {} steps", way.len());
                way.iter().for_each(|step| println!("    {step}"));
            }
            None => println!("{name:<34} {states:>9} states in {seconds:6.1} s: {extent} are right"),
        }
        red |= counterexample.is_some() != must_fail || !must_fail && !complete && !full;
    };
    for without in [None].into_iter().chain(Rule::ALL.map(Some)) {
        let start = Instant::now();
        let world = if full { Handshake::full(without) } else { Handshake::quick(without) };
        let name = without.map_or("handshake".to_owned(), |rule| format!("handshake without {rule:?}"));
        show(name, &explore(&world, MOST_STATES), without.is_some(), start);
    }
    let mut taken = BTreeSet::new();
    for (approval, fits) in [(false, true), (true, true), (false, false)] {
        let start = Instant::now();
        let world = Lifecycle::new(approval, fits);
        let name = match (approval, fits) {
            (true, _) => "lifecycle with approval",
            (_, true) => "lifecycle",
            _ => "lifecycle, other versions",
        };
        show(name.to_owned(), &explore(&world, MOST_STATES), false, start);
        taken.append(&mut world.taken());
    }
    println!("{} of {} rows of the lifecycle's table were taken", taken.len(), TRANSITIONS.len());
    // Accepted is left in the very step in which it is reached: what else it answers nobody can ask.
    let idle = (0..TRANSITIONS.len()).filter(|row| !taken.contains(row)).map(|row| TRANSITIONS[row]);
    let idle: Vec<_> = idle.filter(|row| row.from != ConnectionState::Accepted).collect();
    idle.iter().for_each(|row| println!("no run takes {row:?}"));
    if red || !idle.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn measure_speed(level: Level, length: Duration) -> ExitCode {
    let plan = Plan::calm(level, length, 8);
    let start = Instant::now();
    let outcome = plan.run();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: 1 server and 8 clients, 60 Hz, {:.0} virtual s in {seconds:.2} s: {:.0}x real time, {} datagrams",
        level.name(),
        outcome.virtual_time.as_secs_f64(),
        outcome.virtual_time.as_secs_f64() / seconds,
        outcome.datagrams
    );
    if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Shows a failure: what, the last of the log, and the smallest case.
fn explain(case: &Case, found: &Violation, trace: bool) {
    let outcome = case.run(if trace { Trace::Print } else { Trace::Last });
    let Some(violation) = &outcome.violation else {
        // One run alone does not show it: it is what differs between two.
        println!("seed {} commit {}: {found}", case.seed, commit());
        return println!("{}", args::replay_line(case));
    };
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
    match violation.clone().or_else(|| case.judge().violation) {
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
