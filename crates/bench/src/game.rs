//! What the processes do with the libraries: one game for each workload.

use bytes::Bytes;

use crate::end::{Crowd, End, Lane, Setup};

/// What is measured; see the README of this crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Workload {
    /// W1: each tick 1000 bytes to and 60 bytes from every client, unreliable.
    #[default]
    Tick,
    /// W2: 1000 reliable messages of 100 bytes to every client.
    Rpc,
    /// W3: one reliable message of many MiB.
    Stream(usize),
    /// W3f: each tick 8 KiB to every client, unreliable.
    Fragments,
    /// W4: everybody connects at once.
    Join,
    /// W5: 60 bytes back and forth.
    PingPong,
    /// W6: everybody is silent.
    Idle,
}

/// Messages of W2 for each client.
pub(crate) const RPCS: usize = 1000;

impl Workload {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "tick" => Self::Tick,
            "rpc" => Self::Rpc,
            "stream" => Self::Stream(16),
            "stream1" => Self::Stream(1),
            "fragments" => Self::Fragments,
            "join" => Self::Join,
            "pingpong" => Self::PingPong,
            "idle" => Self::Idle,
            _ => return None,
        })
    }

    /// How many clients it has unless something else is said.
    pub(crate) fn clients(self) -> usize {
        match self {
            Self::Tick | Self::Rpc | Self::Fragments => 100,
            Self::Stream(_) | Self::PingPong => 1,
            Self::Join | Self::Idle => 1000,
        }
    }

    /// Bytes of the one message of a stream.
    pub(crate) fn stream_bytes(self) -> usize {
        match self {
            // A little less, for the kinds and lengths that libraries put in front.
            Self::Stream(mebibytes) => (mebibytes << 20) - 1024,
            _ => 0,
        }
    }

    /// Rounds per second, of both processes; 0 means without waiting.
    pub(crate) fn rate(self, clients: usize) -> f64 {
        match self {
            // More than a core can do at 60 per second, so that the cost of one client and tick is told at fewer.
            Self::Tick | Self::Fragments if clients > 2000 => 10.0,
            Self::Tick | Self::Fragments | Self::Idle => 60.0,
            Self::Rpc | Self::Stream(_) | Self::Join => 1000.0,
            Self::PingPong => 0.0,
        }
    }

    /// What both processes are made for.
    pub(crate) fn setup(self, clients: usize) -> Setup {
        Setup { clients, largest: self.stream_bytes(), only_answers: self == Self::PingPong }
    }

    /// Whether it is measured for some time, rather than until all is done.
    pub(crate) fn is_endless(self) -> bool {
        matches!(self, Self::Tick | Self::Fragments | Self::PingPong | Self::Idle)
    }

    /// What the server's figures are divided by.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Tick | Self::Fragments => "us per client and tick",
            Self::Rpc => "us per message",
            Self::Stream(_) => "ms per MiB",
            Self::Join => "ms per connection",
            Self::PingPong => "us of round trip, p50",
            Self::Idle => "ms per second",
        }
    }
}

/// The server's part.
#[derive(Default)]
pub(crate) struct Game {
    pub(crate) workload: Workload,
    pub(crate) clients: usize,
    /// Everybody is there and has settled.
    pub(crate) running: bool,
    pub(crate) connected: usize,
    pub(crate) ticks: u64,
    /// Messages that arrived.
    pub(crate) received: u64,
    /// Messages that clients still are to get, by client.
    left: Vec<usize>,
    echoes: Vec<(usize, Bytes)>,
    message: Bytes,
}

impl Game {
    pub(crate) fn new(workload: Workload, clients: usize) -> Self {
        Self { workload, clients, ..Self::default() }
    }

    /// From now on it counts.
    pub(crate) fn start(&mut self) {
        (self.running, self.ticks, self.received) = (true, 0, 0);
        let (count, size) = match self.workload {
            Workload::Tick => (0, 1000),
            Workload::Fragments => (0, 8192),
            Workload::Rpc => (RPCS, 100),
            Workload::Stream(_) => (1, self.workload.stream_bytes()),
            _ => (0, 0),
        };
        self.left = vec![count; self.clients];
        self.message = (0..size).map(|at| at as u8).collect();
    }

    /// Whether all clients have said that they have everything.
    pub(crate) fn is_done(&self) -> bool {
        match self.workload {
            Workload::Join => self.connected >= self.clients,
            Workload::Rpc | Workload::Stream(_) => self.running && self.received >= self.clients as u64,
            _ => false,
        }
    }

    /// One round of the server.
    pub(crate) fn update(&mut self, end: &mut dyn End) {
        let Self { received, echoes, workload, .. } = self;
        end.receive(&mut |client, message| {
            *received += 1;
            if *workload == Workload::PingPong {
                echoes.push((client, Bytes::copy_from_slice(message)));
            }
        });
        self.connected = end.connected();
        for (client, message) in self.echoes.drain(..) {
            end.send(client, Lane::Unreliable, &message);
        }
        if !self.running {
            return;
        }
        self.ticks += 1;
        match self.workload {
            Workload::Tick | Workload::Fragments => {
                let lane = if self.workload == Workload::Tick { Lane::Unreliable } else { Lane::Fragmented };
                for client in 0..self.clients {
                    end.send(client, lane, &self.message);
                }
            }
            Workload::Rpc | Workload::Stream(_) => {
                for (client, left) in self.left.iter_mut().enumerate() {
                    while *left > 0 && end.send(client, Lane::Reliable, &self.message) {
                        *left -= 1;
                    }
                }
            }
            _ => {}
        }
    }
}

/// The clients' part.
pub(crate) struct CrowdGame {
    workload: Workload,
    clients: usize,
    started: usize,
    /// Messages that arrived.
    pub(crate) received: u64,
    /// Messages and bytes that arrived, by client.
    got: Vec<(usize, usize)>,
    done: Vec<bool>,
    /// Round trips of the ping-pong, in nanoseconds.
    pub(crate) round_trips: Vec<u64>,
    sent_at: Option<std::time::Instant>,
}

impl CrowdGame {
    pub(crate) fn new(workload: Workload, clients: usize) -> Self {
        Self {
            workload,
            clients,
            started: 0,
            received: 0,
            got: vec![(0, 0); clients],
            done: vec![false; clients],
            round_trips: Vec::with_capacity(1 << 20),
            sent_at: None,
        }
    }

    /// One round of all clients.
    pub(crate) fn update(&mut self, crowd: &mut dyn Crowd) {
        // At the join storm all at once, otherwise so that nobody's limits are met.
        let some = self.clients.div_ceil(16).max(64);
        let most = if self.workload == Workload::Join { self.clients } else { self.started + some };
        while self.started < self.clients.min(most) {
            crowd.connect();
            self.started += 1;
        }
        let Self { received, got, round_trips, sent_at, workload, .. } = self;
        crowd.receive(&mut |client, message| {
            *received += 1;
            got[client].0 += 1;
            got[client].1 += message.len();
            if *workload == Workload::PingPong
                && let Some(sent_at) = sent_at.take()
            {
                round_trips.push(sent_at.elapsed().as_nanos() as u64);
            }
        });
        match self.workload {
            Workload::Tick | Workload::Fragments if crowd.connected() == self.clients => {
                for client in 0..self.clients {
                    crowd.send(client, Lane::Unreliable, &Bytes::from_static(&[7; 60]));
                }
            }
            Workload::Rpc | Workload::Stream(_) => {
                let bytes = self.workload.stream_bytes();
                for (client, (got, done)) in self.got.iter().zip(&mut self.done).enumerate() {
                    let all = if bytes == 0 { got.0 >= RPCS } else { got.1 >= bytes };
                    if all && !*done {
                        *done = crowd.send(client, Lane::Reliable, &Bytes::from_static(&[1]));
                    }
                }
            }
            Workload::PingPong => {
                // What was lost is sent again after a while.
                let waits = self.sent_at.is_some_and(|at| at.elapsed().as_millis() < 100);
                if !waits && crowd.connected() == 1 {
                    self.sent_at = Some(std::time::Instant::now());
                    crowd.send(0, Lane::Unreliable, &Bytes::from_static(&[7; 60]));
                }
            }
            _ => {}
        }
        crowd.flush();
    }
}
