//! What the nodes do when nothing goes wrong.

use std::time::Duration;

use netstream::transport::netcode::LARGEST_BODY;

use super::Level;
use crate::dice::Dice;

/// What clients and servers do, and how their world is set up. Rates are per second and node.
#[derive(Clone, Debug)]
pub struct Workload {
    /// How long a datagram travels when all is well.
    pub latency: Duration,
    /// Updates per second of each server.
    pub server_rate: u64,
    /// Updates per second of each client.
    pub client_rate: u64,
    /// Connections that a server takes.
    pub capacity: usize,
    /// How many identities the clients share; as many as clients where each has its own.
    pub identities: usize,
    /// Whether the newer of two connections of one identity is refused; else the older one ends.
    pub reject_new: bool,
    /// Whether a back-end issues tokens; else clients have a join code.
    pub tokens: bool,
    /// How long a token can be used.
    pub token_lifetime: Duration,
    /// Silence that ends a connection.
    pub idle_timeout: Duration,
    /// How many joins of one identity a server takes in ten seconds.
    pub identity_joins: u32,
    /// Where packet and message numbers start.
    pub first_number: u64,
    /// All clients start in the same moment; else over this time.
    pub join_within: Duration,
    /// How long a client stays, on average.
    pub stay: Duration,
    /// How long a client waits before it comes again, on average.
    pub away: Duration,
    /// How long queued data may take to leave before a connection closes.
    pub linger: Duration,
    /// Messages that clients send, by channel.
    pub up: [f64; CHANNELS],
    /// Messages that servers send to each client, by channel.
    pub down: [f64; CHANNELS],
    /// The largest of them, in bytes; channels that cannot carry so much have their own limit.
    pub largest: usize,
    /// How many reliable messages a client sends right before it leaves.
    pub last_words: u64,
    /// How often the server throws somebody out.
    pub kicks: f64,
    /// How likely a server is to throw somebody out who is about to leave, per update.
    pub spite: f64,
    /// Whether the server's game decides who enters (Apps only).
    pub approval: bool,
    /// Whether some of the clients are in the server's process (Apps only).
    pub in_process: bool,
    /// How often somebody calls what makes no sense at that moment.
    pub nonsense: f64,
    /// Whether games send typed commands and snapshots in every tick (Apps only).
    pub typed: bool,
    /// The client that plays another version of the game, and never gets in (Apps only).
    pub foreign: Option<usize>,
    /// How often the server bans an address for some seconds (Apps only).
    pub bans: f64,
    /// The first packet number of every session, where it is so high that the last one is near. Only with the feature
    /// `mutants`: no honest connection lives that long.
    pub last_numbers: Option<u64>,
    /// The largest packets that servers and clients look for and take in, in bytes (cores only).
    pub max_mtu: [usize; 2],
}

/// Channels of a simulated game: the three standard ones, a sequenced and a reliable unordered one.
pub(crate) const CHANNELS: usize = 5;

impl Workload {
    pub(super) fn draw(seed: u64, level: Level, clients: usize) -> Self {
        let mut dice = Dice::new(seed, "workload", 0);
        let secs = Duration::from_secs;
        let fast = match level {
            Level::L1 => 60.0,
            Level::L2 => 20.0,
        };
        // Mostly what games do; now and then more than any link takes, so that queues fill.
        let rate = |dice: &mut Dice| match dice.number(0..=99) {
            0..50 => 0.0,
            50..92 => dice.magnitude(0.1..=fast),
            _ => dice.magnitude(fast..=fast * 40.0),
        };
        let rates = |dice: &mut Dice| std::array::from_fn(|_| rate(dice));
        Self {
            latency: dice.time(Duration::from_micros(100)..=Duration::from_millis(150)),
            server_rate: dice.pick(&[20, 30, 60, 60, 60, 128]),
            client_rate: dice.pick(&[20, 30, 60, 60, 60, 144]),
            capacity: if dice.chance(0.2) { dice.number(1..=clients as u64) as usize } else { clients + 8 },
            identities: if dice.chance(0.2) { clients.div_ceil(2) } else { clients },
            reject_new: dice.chance(0.4),
            tokens: dice.chance(0.5),
            token_lifetime: secs(dice.pick(&[5, 45, 45, 45])),
            idle_timeout: secs(dice.pick(&[2, 5, 10, 10])),
            identity_joins: if dice.chance(0.3) { 5 } else { 1000 },
            first_number: match dice.chance(0.2) {
                true => {
                    dice.pick(&[1 << 16, 1 << 16, 1 << 24, 1 << 32, 1 << 48, 1 << 60])
                        - dice.magnitude(1.0..=2000.0) as u64
                }
                false => 0,
            },
            join_within: if dice.chance(0.3) {
                Duration::ZERO
            } else {
                dice.time(Duration::from_millis(10)..=secs(20))
            },
            stay: dice.time(Duration::from_millis(200)..=secs(600)),
            away: dice.time(Duration::from_millis(1)..=secs(10)),
            linger: if dice.chance(0.3) { Duration::ZERO } else { dice.time(Duration::from_millis(50)..=secs(5)) },
            up: rates(&mut dice),
            down: rates(&mut dice),
            largest: dice.magnitude(16.0..=60_000.0) as usize,
            last_words: if dice.chance(0.5) { dice.number(1..=40) } else { 0 },
            kicks: if dice.chance(0.2) { dice.magnitude(0.01..=1.0) } else { 0.0 },
            approval: dice.chance(0.3),
            in_process: dice.chance(0.3),
            nonsense: if dice.chance(0.3) { dice.magnitude(0.01..=5.0) } else { 0.0 },
            spite: if dice.chance(0.2) { 0.3 } else { 0.0 },
            typed: dice.chance(0.5),
            foreign: (clients > 1 && dice.chance(0.15)).then(|| dice.number(0..=clients as u64 - 1) as usize),
            bans: if dice.chance(0.15) { dice.magnitude(0.01..=0.5) } else { 0.0 },
            last_numbers: dice.chance(0.1).then(|| u64::MAX - dice.magnitude(100.0..=20_000.0) as u64),
            max_mtu: std::array::from_fn(|_| dice.pick(&[1175, 1175, 1300, LARGEST_BODY, LARGEST_BODY])),
        }
    }
}
