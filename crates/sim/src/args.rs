//! What the user says.

use std::ffi::OsString;
use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;
use netstream_sim::{Case, Cut, Level};

/// What there is to say.
pub(crate) const HELP: &str = "\
Whole servers and clients in virtual time, from one seed.

  netstream-sim run [--seeds A..B] [--level l1|l2] [--length SECONDS] [--jobs N] [--trace] [--json]
  netstream-sim replay --seed S [--level l1|l2] [--length SECONDS] [--trace] [cuts] [--order N] [--mutant N]
  netstream-sim ladder [--seeds A..B] [--rungs 1,2,3] [--jobs N]
  netstream-sim model [--full]
  netstream-sim speed [--level l1|l2] [--length SECONDS]
  netstream-sim capture --out DIRECTORY [--seeds A..B]

run     runs every seed from A to B - 1, and says what was injected, which rare situations were reached, and which
        invariants did not hold. Ends with 1 if one did not, or if a situation was reached too seldom.
replay  runs one seed again, event by event the same.
ladder  switches well-known bugs on, one after the other, and says how many seeds each takes to be found, and by which
        invariant. Only where built with --features mutants. Ends with 1 if fewer than 26 of 30 are found.
model   looks at every run of small worlds: the handshake with attackers and restarts, and the lifecycle. Each rule of the
        handshake is also left out, which must show why it is there.
capture writes what simulated connections say into the corpora of the fuzz targets.
speed   runs one server and eight clients at 60 Hz on a calm network, and says how much faster than real time that is.

--jobs spreads the work over so many threads, which changes nothing but how long it takes; 1 if not given.
--trace prints every event (run: of failing seeds). --length is how long a run takes in virtual time, 60 if not given.
Cuts leave parts out: --faults 0,3,7 (the ones that stay; \"none\" for none), --clients N, --until SECONDS.
";

/// What the user wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Run(Run),
    Replay { case: Case, trace: bool },
    Ladder { seeds: Range<u64>, rungs: Option<Vec<usize>>, jobs: usize },
    Model { full: bool },
    Capture { out: PathBuf, seeds: Range<u64> },
    Speed { level: Level, length: Duration },
}

/// Many seeds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub(crate) seeds: Range<u64>,
    pub(crate) level: Level,
    pub(crate) length: Duration,
    pub(crate) jobs: usize,
    pub(crate) trace: bool,
    pub(crate) json: bool,
}

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(args);
    let verb = match parser.next()? {
        Some(Value(verb)) => verb.string()?,
        Some(Short('h') | Long("help")) | None => return Ok(Command::Help),
        Some(other) => return Err(other.unexpected()),
    };
    let (mut seeds, mut seed) = (0..1000, None);
    let (mut level, mut length) = (Level::L1, Duration::from_secs(60));
    let (mut trace, mut json, mut cut) = (false, false, Cut::default());
    let (mut order, mut mutant, mut rungs, mut full, mut out) = (0, 0, None, false, None);
    let mut jobs = NonZero::<usize>::MIN;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seeds") => seeds = parser.value()?.parse_with(range)?,
            Long("seed") => seed = Some(parser.value()?.parse()?),
            Long("level") => level = parser.value()?.parse_with(parse_level)?,
            Long("length") => length = parser.value()?.parse_with(seconds)?,
            Long("jobs") => jobs = parser.value()?.parse()?,
            Long("order") => order = parser.value()?.parse()?,
            Long("mutant") => mutant = parser.value()?.parse()?,
            Long("trace") => trace = true,
            Long("json") => json = true,
            Long("out") => out = Some(PathBuf::from(parser.value()?)),
            Long("full") => full = true,
            Long("rungs") => rungs = Some(parser.value()?.parse_with(places)?),
            Long("faults") => cut.faults = Some(parser.value()?.parse_with(places)?),
            Long("clients") => cut.clients = Some(parser.value()?.parse()?),
            Long("until") => cut.length = Some(parser.value()?.parse_with(seconds)?),
            Short('h') | Long("help") => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    match verb.as_str() {
        "model" => Ok(Command::Model { full }),
        "capture" => Ok(Command::Capture { out: out.ok_or("capture needs --out")?, seeds }),
        "speed" => Ok(Command::Speed { level, length }),
        "ladder" => Ok(Command::Ladder { seeds, rungs, jobs: jobs.get() }),
        "run" => Ok(Command::Run(Run { seeds, level, length, jobs: jobs.get(), trace, json })),
        "replay" => {
            let seed = seed.ok_or("replay needs --seed")?;
            Ok(Command::Replay { case: Case { seed, level, length, cut, order, mutant }, trace })
        }
        other => Err(format!("there is no command {other:?}; use run, replay, ladder, model, speed or capture").into()),
    }
}

/// The command that runs `case` again.
pub(crate) fn replay_line(case: &Case) -> String {
    let Case { seed, level, length, cut, order, mutant } = case;
    let mut line =
        format!("netstream-sim replay --seed {seed} --level {} --length {}", level.name(), length.as_secs_f64());
    if let Some(faults) = &cut.faults {
        let places: Vec<_> = faults.iter().map(usize::to_string).collect();
        let places = if places.is_empty() { "none".to_owned() } else { places.join(",") };
        line.push_str(&format!(" --faults {places}"));
    }
    if let Some(clients) = cut.clients {
        line.push_str(&format!(" --clients {clients}"));
    }
    if let Some(until) = cut.length {
        line.push_str(&format!(" --until {}", until.as_secs_f64()));
    }
    if *order > 0 {
        line.push_str(&format!(" --order {order}"));
    }
    if *mutant > 0 {
        line.push_str(&format!(" --mutant {mutant}"));
    }
    line + " --trace"
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    parts.map(|(from, to)| from..to).ok_or_else(|| format!("{text:?} is no range like 0..1000"))
}

fn parse_level(text: &str) -> Result<Level, String> {
    let levels = [Level::L1, Level::L2];
    levels.into_iter().find(|level| level.name() == text).ok_or_else(|| format!("there is no level {text:?}; l1 or l2"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{text:?} is no time in seconds"))
}

fn places(text: &str) -> Result<Vec<usize>, String> {
    if text == "none" {
        return Ok(Vec::new());
    }
    text.split(',').map(|place| place.parse().map_err(|_| format!("{place:?} is no place of a fault"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        parse(line.split_whitespace().map(OsString::from)).unwrap()
    }

    #[test]
    fn the_line_that_is_printed_is_understood() {
        let cut = Cut { faults: Some(vec![1, 4]), clients: Some(2), length: Some(Duration::from_millis(1500)) };
        let mut case = Case { cut, order: 1, mutant: 5, ..Case::new(9, Level::L2, Duration::from_secs(60)) };
        for _ in 0..2 {
            let line = replay_line(&case);
            let line = line.strip_prefix("netstream-sim ").unwrap();
            assert_eq!(parsed(line), Command::Replay { case: case.clone(), trace: true });
            case.cut.faults = Some(Vec::new());
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |line: &str| parse(line.split_whitespace().map(OsString::from)).unwrap_err().to_string();
        assert!(error("fly").contains("fly"));
        assert!(error("replay").contains("--seed"));
        assert!(error("run --seeds 5").contains("0..1000"));
        assert!(error("run --level l3").contains("l3"));
        assert!(error("run --jobs 0").contains("zero"));
    }
}
