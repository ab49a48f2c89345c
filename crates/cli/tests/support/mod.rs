//! Processes under test. Every wait has a deadline that only a hung process reaches.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses another part")]

use std::io::{BufRead, BufReader, PipeWriter, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The longest that anything may take, also on a machine that is busy with other things.
const DEADLINE: Duration = Duration::from_secs(90);

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_netstream");

/// A running `netstream`; killed when it is dropped.
pub struct Process {
    child: Child,
    name: String,
    lines: Receiver<String>,
    /// What it has printed so far, as far as it was read.
    seen: Vec<String>,
    complaints: Option<JoinHandle<String>>,
}

/// What a process left behind.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub lines: Vec<String>,
    pub complaints: String,
}

impl Process {
    /// Starts `netstream` with these arguments.
    pub fn start(arguments: &[&str]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self::spawn(arguments, writer, lines)
    }

    /// The same, but nobody reads what it prints.
    pub fn start_unread(arguments: &[&str]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Self::spawn(arguments, writer, channel().1)
    }

    fn spawn(arguments: &[&str], stdout: PipeWriter, lines: Receiver<String>) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut stderr = child.stderr.take().expect("it is piped");
        let complaints = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, name: arguments.join(" "), lines, seen: Vec::new(), complaints: Some(complaints) }
    }

    /// Reads lines until one fits.
    pub fn until_line(&mut self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if fits(&line) {
                        return line;
                    }
                }
                Err(error) => {
                    let why = if error == RecvTimeoutError::Timeout { "too late" } else { "its output ended" };
                    panic!("netstream {}: no {what}, {why}; it said {:#?}", self.name, self.seen);
                }
            }
        }
    }

    /// Reads JSON lines until one fits.
    pub fn until(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let line = self.until_line(what, |line| serde_json::from_str(line).is_ok_and(|value| fits(&value)));
        serde_json::from_str(&line).unwrap()
    }

    /// Reads JSON lines until a connection is in this state.
    pub fn until_state(&mut self, state: &str) -> Value {
        self.until(state, |line| line["event"] == "connection" && line["state"] == state)
    }

    /// Reads JSON lines until a connection is over; says why, as `Code Origin text`.
    pub fn until_disconnected(&mut self) -> String {
        let reason = &self.until_state("Disconnected")["reason"];
        let part = |name: &str| reason[name].as_str().unwrap().to_owned();
        format!("{} {} {}", part("code"), part("origin"), part("text")).trim_end().to_owned()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
    }

    /// Sends it a signal by name.
    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("kill exists").success());
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                break status;
            }
            assert!(Instant::now() < deadline, "netstream {} does not end", self.name);
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut lines = std::mem::take(&mut self.seen);
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            lines.push(line);
        }
        let complaints = self.complaints.take().map(|thread| thread.join().unwrap()).unwrap_or_default();
        assert!(!complaints.contains("panicked"), "netstream {}: {complaints}", self.name);
        Finished { code: status.code(), lines, complaints }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Finished {
    /// The last line as JSON.
    pub fn json(&self) -> Value {
        let last = self.lines.last().unwrap_or_else(|| panic!("it said nothing: {self:?}"));
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last}"))
    }

    /// Its exit code was this, and it complained with one line that says all of these.
    #[track_caller]
    pub fn failed(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.complaints.lines().count(), 1, "{:?}", self.complaints);
        for part in says {
            assert!(self.complaints.contains(part), "{part:?} is not in {:?}", self.complaints);
        }
    }

    /// It ended well and did not complain.
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!((self.code, self.complaints.as_str()), (Some(0), ""), "{self:?}");
    }
}

/// A server at a free port of this machine, and how to join it.
pub struct Server {
    pub process: Process,
    pub endpoint: String,
    pub join_code: String,
}

impl Server {
    /// Starts `netstream serve --json` with more arguments.
    pub fn start(more: &[&str]) -> Self {
        let arguments = [&["serve", "--listen", "udp://127.0.0.1:0", "--json"], more].concat();
        let mut process = Process::start(&arguments);
        let listening = process.until("listening", |line| line["event"] == "listening");
        let part = |name: &str| listening[name].as_str().unwrap().to_owned();
        Self { endpoint: part("endpoint"), join_code: part("join_code"), process }
    }

    /// Starts `netstream join --json` with its join code and more arguments.
    pub fn join(&self, more: &[&str]) -> Process {
        let arguments = ["join", &self.endpoint, "--json", "--join-code", &self.join_code];
        Process::start(&[&arguments, more].concat())
    }
}
