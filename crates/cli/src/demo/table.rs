//! The table of connections, as text.

use std::fmt::Write;
use std::time::{Duration, Instant};

use netstream::prelude::*;

use super::cast::{Cast, Client};
use crate::lines::origin;
use crate::units;

/// The most clients that get a row; a terminal is only so high.
const ROWS: usize = 20;

/// Measures bytes per second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter {
    sent: u64,
    received: u64,
    connection: Option<netstream::driver::ConnectionKey>,
}

/// The table, with what it needs to remember from one picture to the next.
#[derive(Debug, Default)]
pub(super) struct Table {
    meters: Vec<Meter>,
    drawn: Option<Instant>,
}

impl Table {
    /// The table at this moment, a line per row.
    pub(super) fn draw(&mut self, now: Instant, elapsed: Duration, cast: &Cast) -> String {
        let seconds = self.drawn.map_or(0.0, |drawn| (now - drawn).as_secs_f64());
        self.drawn = Some(now);
        self.meters.resize(cast.clients.len(), Meter::default());

        let violations = cast.violations();
        let mut text = format!(
            "netstream demo   {:.1} s   {} clients   {violations} violations   Ctrl-C ends it\n\n",
            elapsed.as_secs_f64(),
            cast.clients.len()
        );
        let _ = writeln!(
            text,
            "{:>5}  {:<6} {:<18} {:>4} {:>9} {:>6} {:>10} {:>10}  last event",
            "#", "driver", "state", "id", "RTT", "loss", "in/s", "out/s"
        );
        for (index, (client, meter)) in cast.clients.iter().zip(&mut self.meters).enumerate() {
            let [received, sent] = meter.rates(client, seconds);
            if index < ROWS {
                row(&mut text, index, client, received, sent, now);
            }
        }
        if cast.clients.len() > ROWS {
            let _ = writeln!(text, "       ... and {} more", cast.clients.len() - ROWS);
        }
        if let Some(line) = cast.chaos_line() {
            let _ = writeln!(text, "\nchaos: {line}");
        }
        text
    }
}

impl Meter {
    /// Bytes per second in and out since the last picture.
    fn rates(&mut self, client: &Client, seconds: f64) -> [f64; 2] {
        let Some(record) = client.record() else { return [0.0; 2] };
        if self.connection != Some(record.key) {
            *self = Self { connection: Some(record.key), ..Self::default() };
        }
        let passed = [record.received.bytes - self.received, record.sent.bytes - self.sent];
        (self.received, self.sent) = (record.received.bytes, record.sent.bytes);
        passed.map(|bytes| if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 })
    }
}

fn row(text: &mut String, index: usize, client: &Client, received: f64, sent: f64, now: Instant) {
    let driver = client.scheme.as_str();
    let Some(record) = client.record() else {
        let _ = writeln!(text, "{:>5}  {driver:<6} -", index + 1);
        return;
    };
    let id = record.network_id.map(|id| id.to_string()).unwrap_or_default();
    let rtt = record.rtt.map_or("-".to_owned(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1e3));
    let loss = format!("{:.1} %", record.loss * 100.0);
    let (received, sent) = (units::bytes(received), units::bytes(sent));
    let age = client.last_event.map_or(0.0, |at| (now - at).as_secs_f64());
    let _ = writeln!(
        text,
        "{:>5}  {driver:<6} {:<18} {id:>4} {rtt:>9} {loss:>6} {received:>10} {sent:>10}  {} {age:.1} s ago",
        index + 1,
        record.state.name(),
        last_event(record.state, record.reason.as_ref()),
    );
}

fn last_event(state: ConnectionState, reason: Option<&DisconnectReason>) -> String {
    match reason {
        Some(reason) => format!("{state}: {} ({})", reason.code, origin(reason.origin)),
        None => state.to_string(),
    }
}
