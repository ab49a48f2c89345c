//! One line for everything that happens, for people or as JSON.

use std::collections::BTreeMap;

use netstream::prelude::*;
use serde::Serialize;

use crate::game::{GameWorld, Happened};
use crate::output::Output;
use crate::report::{Figures, SideTally};

/// Prints what happens in one World.
pub(crate) struct Lines<'a> {
    output: &'a mut Output,
    json: bool,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Listening {
        driver: String,
        endpoint: String,
        join_code: Option<String>,
    },
    ListenFailed {
        driver: String,
        endpoint: String,
        error: &'a str,
    },
    Stopped {
        driver: String,
    },
    Draining {
        driver: String,
        seconds: f64,
    },
    Drained {
        driver: String,
    },
    ServerDraining {
        connection: String,
        seconds: f64,
    },
    Removed {
        driver: String,
    },
    Connection(Connection<'a>),
    Chat {
        connection: String,
        text: &'a str,
    },
    Figures {
        #[serde(flatten)]
        figures: &'a Figures,
        /// Of all drivers together.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        metrics: BTreeMap<&'static str, u64>,
    },
    Summary {
        seconds: f64,
        #[serde(flatten)]
        tally: &'a SideTally,
        #[serde(skip_serializing_if = "Option::is_none")]
        figures: Option<&'a Figures>,
    },
}

#[derive(Serialize)]
struct Connection<'a> {
    connection: String,
    driver: String,
    scheme: &'a str,
    address: Option<String>,
    state: &'a str,
    network_id: Option<u32>,
    reconnected: bool,
    reason: Option<Reason<'a>>,
    mismatch: Option<String>,
}

#[derive(Serialize)]
struct Reason<'a> {
    code: String,
    origin: &'a str,
    text: &'a str,
    /// The whole in one sentence, for people.
    #[serde(skip)]
    says: String,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(output: &'a mut Output, json: bool) -> Self {
        Self { output, json }
    }

    /// Whether nobody reads any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.output.is_closed()
    }

    /// Prints a line about what happened in `world`.
    pub(crate) fn happened(&mut self, world: &mut GameWorld, happened: &Happened) {
        let line = match happened {
            Happened::Connection { event, scheme, address } => Line::Connection(Connection {
                connection: event.connection.to_string(),
                driver: event.driver().to_string(),
                scheme,
                address: address.map(|address| address.to_string()),
                state: event.state.name(),
                network_id: event.network_id.map(NetworkId::number),
                reconnected: event.reconnected,
                reason: event.reason.as_ref().map(reason),
                mismatch: event.mismatch.as_ref().map(ToString::to_string),
            }),
            Happened::Chat { connection, text } => Line::Chat { connection: connection.to_string(), text },
            Happened::Driver(DriverEvent::Listening { driver, endpoint }) => Line::Listening {
                driver: driver.to_string(),
                endpoint: endpoint.to_string(),
                join_code: world.net().join_code(*driver).map(|code| code.to_text().to_string()),
            },
            Happened::Driver(DriverEvent::ListenFailed { driver, endpoint, error }) => {
                Line::ListenFailed { driver: driver.to_string(), endpoint: endpoint.to_string(), error }
            }
            Happened::Driver(DriverEvent::Stopped { driver }) => Line::Stopped { driver: driver.to_string() },
            Happened::Driver(DriverEvent::Draining { driver, within }) => {
                Line::Draining { driver: driver.to_string(), seconds: within.as_secs_f64() }
            }
            Happened::Driver(DriverEvent::Drained { driver }) => Line::Drained { driver: driver.to_string() },
            Happened::Driver(DriverEvent::ServerDraining { connection, within }) => {
                Line::ServerDraining { connection: connection.to_string(), seconds: within.as_secs_f64() }
            }
            Happened::Driver(DriverEvent::Removed { driver }) => Line::Removed { driver: driver.to_string() },
            // An event that is newer than this tool.
            Happened::Driver(_) => return,
        };
        self.print(&line);
    }

    /// Prints how hard the last while was, with the drivers' metrics where programs read.
    pub(crate) fn figures(&mut self, figures: &Figures, metrics: BTreeMap<&'static str, u64>) {
        self.print(&Line::Figures { figures, metrics });
    }

    /// Prints the last line.
    pub(crate) fn summary(&mut self, seconds: f64, tally: &SideTally, figures: Option<&Figures>) {
        self.print(&Line::Summary { seconds, tally, figures });
    }

    fn print(&mut self, line: &Line<'_>) {
        if self.json {
            return self.output.json(line);
        }
        let text = match line {
            Line::Listening { endpoint, join_code: Some(code), .. } => format!(
                "listening at {endpoint}\njoin code    {code}\nclients      netstream join {endpoint} --join-code {code}"
            ),
            Line::Listening { endpoint, .. } => format!("listening at {endpoint}"),
            Line::ListenFailed { endpoint, error, .. } => format!("not listening at {endpoint}: {error}"),
            Line::Stopped { driver } => format!("driver {driver} accepts nobody new"),
            Line::Draining { driver, seconds } => {
                format!("driver {driver} accepts nobody new and closes its connections in {seconds:.0} s")
            }
            Line::Drained { driver } => format!("driver {driver} has no connections any more"),
            Line::ServerDraining { connection, seconds } => {
                format!("{connection} will be closed by the server in {seconds:.0} s")
            }
            Line::Removed { driver } => format!("driver {driver} is gone"),
            Line::Connection(Connection {
                connection, scheme, address, state, network_id, reason, mismatch, ..
            }) => {
                let address = address.as_deref().map(|address| format!(" {address}")).unwrap_or_default();
                let id = network_id.map(|id| format!(" id {id}")).unwrap_or_default();
                let reason = reason.as_ref().map(|reason| format!(": {}", reason.says)).unwrap_or_default();
                let mismatch = mismatch.as_deref().map(|diff| format!("; {diff}")).unwrap_or_default();
                format!("{connection} {scheme}{address}{id} {state}{reason}{mismatch}")
            }
            Line::Chat { connection, text } => format!("{connection} says {text:?}"),
            Line::Figures { figures, .. } => figures.to_string(),
            Line::Summary { seconds, tally, figures: None } => format!("{seconds:.1} s: {tally}"),
            Line::Summary { seconds, tally, figures: Some(figures) } => {
                format!("{seconds:.1} s: {tally}\nin all {figures}")
            }
        };
        self.output.line(&text);
    }
}

fn reason(reason: &DisconnectReason) -> Reason<'_> {
    Reason {
        code: reason.code.to_string(),
        origin: origin(reason.origin),
        text: reason.text.as_str(),
        says: reason.to_string(),
    }
}

/// An origin's name.
pub(crate) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Local => "Local",
        Origin::Remote => "Remote",
        Origin::Link => "Link",
    }
}
