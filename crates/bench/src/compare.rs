//! Runs everybody in turns, and prints what came of it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde::Serialize;

use crate::game::{RPCS, Workload};
use crate::peers::Peer;
use crate::roles::{CrowdReport, Run, ServerReport};

pub(crate) struct Comparison {
    pub(crate) workload: Workload,
    pub(crate) name: String,
    pub(crate) clients: usize,
    pub(crate) runs: usize,
    pub(crate) seconds: f64,
    pub(crate) peers: Vec<Peer>,
}

/// One run of one peer.
#[derive(Clone, Debug)]
struct Sample {
    value: f64,
    server: ServerReport,
}

/// All runs of one peer.
#[derive(Debug, Serialize)]
struct Row {
    peer: &'static str,
    median: f64,
    least: f64,
    most: f64,
    /// The median of the ratios to the floor of the same round.
    ratio_to_floor: Option<f64>,
    /// How many of the messages that the crowd should have sent have arrived, where there is such a number.
    arrived: Option<f64>,
    allocations_per_unit: f64,
    /// KiB of resident memory for each client, where there are many.
    resident_per_client: Option<f64>,
    wall_seconds: f64,
    failed: Vec<String>,
}

impl Comparison {
    pub(crate) fn run(&self, json: bool) -> Result<(), Box<dyn std::error::Error>> {
        let mut samples: Vec<Vec<Result<Sample, String>>> = vec![Vec::new(); self.peers.len()];
        for round in 0..self.runs {
            for (peer, samples) in self.peers.iter().zip(&mut samples) {
                let run = Run { peer: *peer, workload: self.workload, clients: self.clients, seconds: self.seconds };
                let sample = self.sample(&run);
                let outcome = match &sample {
                    Ok(sample) => format!("{:.3}", sample.value),
                    Err(error) => error.clone(),
                };
                eprintln!("round {} of {}: {} {outcome}", round + 1, self.runs, peer.name());
                samples.push(sample);
            }
        }
        let floor = self.peers.iter().position(|peer| *peer == Peer::Floor).map(|at| samples[at].clone());
        let rows: Vec<Row> =
            self.peers.iter().zip(&samples).map(|(peer, samples)| self.row(*peer, samples, floor.as_deref())).collect();
        if json {
            println!(
                "{}",
                serde_json::json!({
                    "workload": self.name, "clients": self.clients, "unit": self.workload.unit(), "runs": self.runs,
                    "machine": machine(), "commit": commit(), "peers": rows,
                })
            );
            return Ok(());
        }
        self.print(&rows)?;
        Ok(())
    }

    fn sample(&self, run: &Run) -> Result<Sample, String> {
        let (server, crowd) = run_once(run, &self.name)?;
        if let Some(failed) = server.failed {
            return Err(failed);
        }
        let value = match self.workload {
            Workload::PingPong if crowd.round_trips == 0 => return Err("no round trip".to_owned()),
            Workload::PingPong => crowd.p50,
            // Milliseconds where the unit says so.
            Workload::Stream(_) | Workload::Join => server.cpu / 1000.0 / self.units(&server),
            Workload::Idle => server.cpu / 1000.0 / server.wall,
            _ => server.cpu / self.units(&server),
        };
        Ok(Sample { value, server })
    }

    /// How often the thing happened that the value is about.
    fn units(&self, server: &ServerReport) -> f64 {
        let clients = self.clients as f64;
        match self.workload {
            Workload::Tick | Workload::Fragments => clients * server.ticks as f64,
            Workload::Rpc => clients * RPCS as f64,
            Workload::Stream(mebibytes) => mebibytes as f64,
            Workload::Join => clients,
            Workload::PingPong => server.received as f64,
            Workload::Idle => server.wall,
        }
    }

    fn row(&self, peer: Peer, samples: &[Result<Sample, String>], floor: Option<&[Result<Sample, String>]>) -> Row {
        let good: Vec<&Sample> = samples.iter().flatten().collect();
        let of = |value: &dyn Fn(&Sample) -> f64| median(good.iter().map(|sample| value(sample)).collect());
        let values: Vec<f64> = good.iter().map(|sample| sample.value).collect();
        let ratios = floor.map(|floor| {
            let pairs = samples.iter().zip(floor);
            let ratio = |(a, b): (&Result<Sample, String>, &Result<Sample, String>)| {
                Some(a.as_ref().ok()?.value / b.as_ref().ok()?.value)
            };
            median(pairs.filter_map(ratio).collect())
        });
        let expected = matches!(self.workload, Workload::Tick | Workload::Fragments);
        let (clients, rate) = (self.clients as f64, self.workload.rate(self.clients));
        Row {
            peer: peer.name(),
            median: median(values.clone()),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(0.0, f64::max),
            ratio_to_floor: ratios,
            arrived: expected
                .then(|| of(&|sample| sample.server.received as f64 / (clients * rate * sample.server.wall))),
            allocations_per_unit: of(&|sample| sample.server.allocations as f64 / self.units(&sample.server)),
            resident_per_client: (self.clients >= 100)
                .then(|| of(&|s| s.server.resident.saturating_sub(s.server.resident_before) as f64 / clients)),
            wall_seconds: of(&|sample| sample.server.wall),
            failed: samples.iter().filter_map(|sample| sample.as_ref().err().cloned()).collect(),
        }
    }

    fn print(&self, rows: &[Row]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let Self { name, clients, runs, workload, .. } = self;
        writeln!(out, "{name}, {clients} clients, {runs} runs in turns; {}; commit {}", machine(), commit())?;
        writeln!(
            out,
            "| peer | {} | spread | of the floor | allocations | KiB/client | arrived | wall s |",
            workload.unit()
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|---|")?;
        let some = |value: Option<f64>, digits: usize| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        for row in rows {
            let Row { peer, median, least, most, .. } = row;
            if !row.failed.is_empty() {
                writeln!(out, "| {peer} | failed {} of {runs}: {} |", row.failed.len(), row.failed[0])?;
            }
            if row.failed.len() == *runs {
                continue;
            }
            writeln!(
                out,
                "| {peer} | {median:.3} | {least:.3}-{most:.3} | {} | {:.2} | {} | {} | {:.2} |",
                some(row.ratio_to_floor, 2),
                row.allocations_per_unit,
                some(row.resident_per_client, 1),
                some(row.arrived.map(|share| share * 100.0), 0),
                row.wall_seconds,
            )?;
        }
        Ok(())
    }
}

/// Ends the process that it stands for.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(run: &Run, name: &str, role: &[&str]) -> Result<Process, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(own);
    command.args([name, "--clients", &run.clients.to_string(), "--seconds", &run.seconds.to_string()]);
    command.args(["--peers", run.peer.name()]).args(role);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().map(Process).map_err(|error| error.to_string())
}

fn run_once(run: &Run, name: &str) -> Result<(ServerReport, CrowdReport), String> {
    let mut server = start(run, name, &["--server"])?;
    let mut says = BufReader::new(server.0.stdout.take().ok_or("no output")?);
    let mut line = || {
        let mut line = String::new();
        says.read_line(&mut line).map_err(|error| error.to_string())?;
        if line.is_empty() { Err("the server died".to_owned()) } else { Ok(line.trim().to_owned()) }
    };
    let address = line()?;
    let mut crowd = start(run, name, &["--crowd", &address])?;
    let report = line()?;
    // The end of its input ends the crowd.
    drop(crowd.0.stdin.take());
    let mut last = String::new();
    let read = BufReader::new(crowd.0.stdout.take().ok_or("no output")?).read_line(&mut last);
    read.map_err(|error| error.to_string())?;
    let report = serde_json::from_str(&report).map_err(|error| format!("{error}: {report}"))?;
    Ok((report, serde_json::from_str(&last).unwrap_or_default()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// Processor, cores and load.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let of = |key: &str| info.lines().find(|line| line.starts_with(key)).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    format!("{} x{cores}, Linux {}, load {load}", of("model name").unwrap_or("?"), kernel.trim())
}

fn commit() -> String {
    let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
    git.map_or_else(|_| "?".to_owned(), |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
