//! Two links, a network between them, and a clock that only moves when told: the harness of the channel tests.
//!
//! Everything follows from one seed. A test reads like a story: send on one side, `run_for` a while, look at what
//! arrived on the other.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use netstream_transport::channel::{Link, LinkConfig, LinkEvent, Violation};
use netstream_transport::{ChannelId, Limits, Mono, Random, SeededRandom};

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How many cases a property test runs: `default`, or what the environment variable `NETSTREAM_CASES` says.
pub fn cases(default: u64) -> u64 {
    std::env::var("NETSTREAM_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default)
}

/// What the network does to the packets of one direction.
#[derive(Clone, Debug)]
pub struct Path {
    pub delay: Duration,
    pub jitter: Duration,
    pub loss: f64,
    pub duplicate: f64,
    /// Bytes per second of the bottleneck and how many packets fit in front of it.
    pub rate: Option<(u64, usize)>,
    /// Lets nothing through.
    pub cut: bool,
    /// Lets nothing larger through: bytes of sealed datagrams.
    pub mtu: usize,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            delay: ms(10),
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            rate: None,
            cut: false,
            mtu: usize::MAX,
        }
    }
}

/// What sealing adds to a packet at most.
pub const SEALING: usize = 25;

/// One end.
pub struct Peer {
    pub link: Link,
    pub inbox: VecDeque<(ChannelId, Vec<u8>)>,
    pub arrived_at: VecDeque<Mono>,
    pub events: Vec<LinkEvent>,
    pub violation: Option<Violation>,
    pub path: Path,
    /// The end only acts at multiples of this; zero: at once.
    pub tick: Duration,
    pub phase: Duration,
    busy_until: Mono,
    queued: VecDeque<Mono>,
    pub overflowed: u64,
    pub keep_messages: bool,
    pub received_bytes: u64,
    pub received_messages: u64,
}

pub struct Pair {
    pub now: Mono,
    pub ends: [Peer; 2],
    pub random: SeededRandom,
    flying: BTreeMap<(Mono, u64), (usize, Vec<u8>)>,
    /// Packets that have arrived at an end that has not acted yet.
    waiting: [VecDeque<Vec<u8>>; 2],
    spare: Vec<Vec<u8>>,
    order: u64,
    /// Packets that have left, at either end.
    pub packets: u64,
    /// The largest packet that has left, by end.
    pub largest: [usize; 2],
}

pub const SERVER: usize = 0;
pub const CLIENT: usize = 1;

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, LinkConfig::server(), LinkConfig::client())
    }

    pub fn with(seed: u64, server: LinkConfig, client: LinkConfig) -> Self {
        Self::with_limits(seed, (server, Limits::server()), (client, Limits::client()))
    }

    pub fn with_limits(seed: u64, server: (LinkConfig, Limits), client: (LinkConfig, Limits)) -> Self {
        let mut random = SeededRandom::new(seed);
        let now = Mono::from_nanos(5_000_000_000);
        let ends = [server, client].map(|(config, limits)| Peer {
            link: Link::new(&Arc::new(config), &Arc::new(limits), now, &mut random),
            inbox: VecDeque::new(),
            arrived_at: VecDeque::new(),
            events: Vec::new(),
            violation: None,
            path: Path::default(),
            tick: Duration::ZERO,
            phase: Duration::ZERO,
            busy_until: now,
            queued: VecDeque::new(),
            overflowed: 0,
            keep_messages: true,
            received_bytes: 0,
            received_messages: 0,
        });
        Self {
            now,
            ends,
            random,
            flying: BTreeMap::new(),
            waiting: Default::default(),
            spare: Vec::new(),
            order: 0,
            packets: 0,
            largest: [0; 2],
        }
    }

    /// The same path in both directions.
    pub fn path(mut self, path: Path) -> Self {
        self.ends[0].path = path.clone();
        self.ends[1].path = path;
        self
    }

    pub fn send(&mut self, end: usize, channel: ChannelId, message: &[u8]) {
        let now = self.now;
        self.ends[end].link.send(now, channel, message).unwrap();
    }

    pub fn inbox(&mut self, end: usize) -> Vec<Vec<u8>> {
        self.ends[end].inbox.drain(..).map(|(_, message)| message).collect()
    }

    /// Lets every end send what it may.
    pub fn flush(&mut self) {
        for end in 0..2 {
            self.act(end);
        }
    }

    /// Lets one end take in what has arrived, serve its timers and send.
    pub fn act(&mut self, end: usize) {
        let now = self.now;
        let peer = &mut self.ends[end];
        while let Some(packet) = self.waiting[end].pop_front() {
            let (inbox, times) = (&mut peer.inbox, &mut peer.arrived_at);
            let keep = peer.keep_messages;
            let (bytes, count) = (&mut peer.received_bytes, &mut peer.received_messages);
            let result = peer.link.handle_packet(now, &packet, &mut |channel, message| {
                *bytes += message.len() as u64;
                *count += 1;
                if keep {
                    inbox.push_back((channel, message.to_vec()));
                    times.push_back(now);
                }
            });
            if let Err(violation) = result {
                peer.violation = Some(violation);
            }
            self.spare.push(packet);
        }
        if peer.link.poll_timeout().is_some_and(|at| at <= now) {
            peer.link.handle_timeout(now);
        }
        while let Some(event) = peer.link.poll_event() {
            peer.events.push(event);
        }
        self.transmit(end);
    }

    fn transmit(&mut self, end: usize) {
        let mut buf = [0; 1500];
        let mut guard = 0;
        while let Some(length) = self.ends[end].link.poll_packet(self.now, &mut buf) {
            guard += 1;
            assert!(guard < 100_000, "poll_packet never ends");
            self.launch(end, &buf[..length]);
        }
        let peer = &mut self.ends[end];
        while let Some(event) = peer.link.poll_event() {
            peer.events.push(event);
        }
    }

    /// Puts a packet of `end` on its way, whatever wrote it.
    pub fn launch(&mut self, end: usize, packet: &[u8]) {
        self.packets += 1;
        let now = self.now;
        let peer = &mut self.ends[end];
        let path = &peer.path;
        self.largest[end] = self.largest[end].max(packet.len());
        if path.cut || packet.len() + SEALING > path.mtu {
            return;
        }
        if self.random.chance(path.loss) {
            return;
        }
        let mut departs = now;
        if let Some((rate, room)) = path.rate {
            while peer.queued.front().is_some_and(|out| *out <= now) {
                peer.queued.pop_front();
            }
            if peer.queued.len() >= room {
                peer.overflowed += 1;
                return;
            }
            // UDP, IPv4, sealing and a packet number come on top of the body: 28 + 25 bytes.
            let time = Duration::from_nanos((packet.len() as u64 + 53) * 1_000_000_000 / rate);
            peer.busy_until = peer.busy_until.max(now) + time;
            departs = peer.busy_until;
            peer.queued.push_back(departs);
        }
        let copies = if self.random.chance(path.duplicate) { 2 } else { 1 };
        let (delay, jitter) = (path.delay, path.jitter);
        for _ in 0..copies {
            let jitter = Duration::from_nanos(self.random.below(jitter.as_nanos() as u64 + 1));
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(packet);
            self.order += 1;
            self.flying.insert((departs + delay + jitter, self.order), (1 - end, copy));
        }
    }

    /// When `end` acts next, not before now.
    fn wakes(&self, end: usize) -> Option<Mono> {
        let peer = &self.ends[end];
        let due = if self.waiting[end].is_empty() { peer.link.poll_timeout()?.max(self.now) } else { self.now };
        Some(self.tick_after(end, due))
    }

    fn tick_after(&self, end: usize, at: Mono) -> Mono {
        let peer = &self.ends[end];
        let tick = peer.tick.as_nanos() as u64;
        if tick == 0 {
            return at;
        }
        let phase = peer.phase.as_nanos() as u64;
        let ticks = (at.as_nanos() - phase).div_ceil(tick);
        Mono::from_nanos(ticks * tick + phase)
    }

    /// Moves the clock to whatever comes first, at most to `until`, and lets it happen. False when nothing does.
    pub fn step(&mut self, until: Mono) -> bool {
        let arrival = self.flying.keys().next().map(|(at, _)| *at);
        let wakes = [self.wakes(0), self.wakes(1)];
        let Some(next) = [arrival, wakes[0], wakes[1]].into_iter().flatten().min().filter(|at| *at <= until) else {
            self.now = until;
            return false;
        };
        self.now = self.now.max(next);
        while let Some(entry) = self.flying.first_entry().filter(|entry| entry.key().0 <= next) {
            let (end, packet) = entry.remove();
            self.waiting[end].push_back(packet);
        }
        for (end, due) in wakes.into_iter().enumerate() {
            if due.is_some_and(|at| at <= next) || self.wakes(end).is_some_and(|at| at <= next) {
                self.act(end);
            }
        }
        true
    }

    /// Lets time pass. Both ends send first what they have.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        self.flush();
        let mut steps = 0u64;
        while self.step(until) {
            steps += 1;
            assert!(steps < 10_000_000, "the pair never comes to rest");
        }
    }

    /// Lets time pass until `done`, at most `limit`. Returns how long it took.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) -> Option<Duration> {
        let start = self.now;
        let until = start + limit;
        self.flush();
        while !done(self) {
            if !self.step(until) {
                return None;
            }
        }
        Some(self.now.since(start))
    }
}
