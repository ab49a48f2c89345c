//! A server, a client and the time between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use netstream_driver::transport::{ChannelId, ConnectionId, DisconnectReason, Incoming, Now};
use netstream_driver::{Clock, Credentials, Endpoint, ManualClock, NetworkDriver};

/// One tick of 60 Hz.
pub(crate) const TICK: Duration = Duration::from_micros(16_667);

/// Long enough for everything that a lossy link may have to repeat.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Two drivers of one kind that can reach each other.
pub(crate) struct Setup {
    pub(crate) server: Peer,
    pub(crate) client: Peer,
    pub(crate) clock: ManualClock,
    /// How long a tick really takes, where a driver has a thread of its own and lives by the machine's clock.
    pub(crate) pause: Duration,
    /// What the server is to listen at.
    pub(crate) listen: Endpoint,
    /// What lets a client in.
    pub(crate) credentials: Credentials,
    /// Makes one more client of the same kind.
    pub(crate) make_client: Box<dyn FnMut() -> Box<dyn NetworkDriver>>,
}

/// A driver and everything that it ever reported.
pub(crate) struct Peer {
    pub(crate) driver: Box<dyn NetworkDriver>,
    pub(crate) log: Vec<Report>,
}

/// What a driver reported, owned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Report {
    Accepted(ConnectionId, Option<SocketAddr>, Option<u64>),
    Connected(ConnectionId),
    Message(ConnectionId, ChannelId, Vec<u8>),
    Disconnected(ConnectionId, DisconnectReason),
}

impl Report {
    pub(crate) fn connection(&self) -> ConnectionId {
        match self {
            Self::Accepted(id, ..) | Self::Connected(id) | Self::Message(id, ..) | Self::Disconnected(id, _) => *id,
        }
    }
}

impl Peer {
    pub(crate) fn new(driver: Box<dyn NetworkDriver>) -> Self {
        Self { driver, log: Vec::new() }
    }

    pub(crate) fn update(&mut self, now: Now) {
        let Self { driver, log } = self;
        driver.receive(now, &mut |incoming| {
            log.push(match incoming {
                Incoming::Accepted { connection, address, identity } => {
                    Report::Accepted(connection, address, identity.map(|identity| identity.client_id))
                }
                Incoming::Connected { connection } => Report::Connected(connection),
                Incoming::Message { connection, channel, bytes } => {
                    Report::Message(connection, channel, bytes.to_vec())
                }
                Incoming::Disconnected { connection, reason } => Report::Disconnected(connection, reason),
            });
        });
        driver.flush(now);
        self.check_order();
    }

    /// What every driver promises of every connection, whatever happens: a beginning (or an end without one), then
    /// messages, then one end, then nothing.
    fn check_order(&self) {
        let mut seen: BTreeMap<ConnectionId, &Report> = BTreeMap::new();
        for report in &self.log {
            let before = seen.insert(report.connection(), report);
            match (before, report) {
                (None, Report::Accepted(..) | Report::Connected(_) | Report::Disconnected(..)) => {}
                (Some(Report::Accepted(..) | Report::Connected(_) | Report::Message(..)), Report::Message(..)) => {}
                (Some(Report::Disconnected(..)), _) => panic!("{report:?} after the end"),
                (Some(_), Report::Disconnected(..)) => {}
                _ => panic!("{report:?} follows {before:?}"),
            }
        }
    }

    pub(crate) fn accepted(&self) -> Vec<ConnectionId> {
        let ids = self.log.iter().filter_map(|report| match report {
            Report::Accepted(id, ..) => Some(*id),
            _ => None,
        });
        ids.collect()
    }

    pub(crate) fn messages(&self, id: ConnectionId, channel: ChannelId) -> Vec<&[u8]> {
        let messages = self.log.iter().filter_map(|report| match report {
            Report::Message(on, of, bytes) if (*on, *of) == (id, channel) => Some(bytes.as_slice()),
            _ => None,
        });
        messages.collect()
    }

    pub(crate) fn end_of(&self, id: ConnectionId) -> Option<&DisconnectReason> {
        self.log.iter().find_map(|report| match report {
            Report::Disconnected(on, reason) if *on == id => Some(reason),
            _ => None,
        })
    }
}

impl Setup {
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// One tick: time passes, the server updates, the client updates.
    pub(crate) fn step(&mut self) {
        std::thread::sleep(self.pause);
        let now = self.clock.advance(TICK);
        self.server.update(now);
        self.client.update(now);
    }

    /// Ticks until `done`, at most for [`PATIENCE`].
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let start = self.now().mono;
        while !done(self) {
            let waited = self.now().mono.since(start);
            assert!(
                waited < PATIENCE,
                "not within {PATIENCE:?}: {what}\nserver: {:?}\nclient: {:?}",
                self.server.log,
                self.client.log
            );
            self.step();
        }
    }

    pub(crate) fn listen(&mut self) -> Endpoint {
        let now = self.now();
        self.server.driver.listen(now, &self.listen).expect("nothing else listens there")
    }

    /// Listens and connects; returns the server's and the client's id of the connection.
    pub(crate) fn connect(&mut self) -> (ConnectionId, ConnectionId) {
        let endpoint = self.listen();
        self.connect_to(&endpoint)
    }

    pub(crate) fn connect_to(&mut self, endpoint: &Endpoint) -> (ConnectionId, ConnectionId) {
        let known = self.server.accepted().len();
        let now = self.now();
        let client = self.client.driver.connect(now, endpoint, &self.credentials).expect("a server listens");
        self.client.driver.flush(now);
        self.until("connected", |setup| {
            setup.server.accepted().len() > known && setup.client.log.contains(&Report::Connected(client))
        });
        (self.server.accepted()[known], client)
    }
}
